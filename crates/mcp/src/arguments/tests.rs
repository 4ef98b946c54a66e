use serde_json::json;

use super::*;
use crate::Annotations;

fn tool() -> Tool {
    let schema = json!({
        "type": "object",
        "properties": {"name": {}, "limit": {}, "force": {}, "id": {}, "metadata": {}, "role": {}},
        "required": ["name"],
    });
    Tool {
        name: "fixture",
        title: "Fixture",
        description: "",
        input_schema: schema.clone(),
        output_schema: schema,
        annotations: Annotations::READS,
    }
}

fn parse(text: &str) -> Result<Arguments, String> {
    let raw: &RawValue = serde_json::from_str(text).unwrap();
    Arguments::parse(Some(raw), &tool()).map_err(|error| error.to_string())
}

fn arguments(further: &str) -> Arguments {
    parse(&format!(r#"{{"name":"x"{further}}}"#)).unwrap()
}

#[test]
fn what_is_no_object_of_the_tools_parameters_is_refused() {
    assert!(parse("[]").unwrap_err().contains("must be a JSON object"));
    assert!(parse(r#""x""#).unwrap_err().contains("must be a JSON object"));
    assert_eq!(parse("null").unwrap_err(), "`name` is missing; it is required");
    assert_eq!(parse(r#"{"name":null}"#).unwrap_err(), "`name` is missing; it is required");
    assert!(
        parse(r#"{"name":"x","nmae":1}"#).unwrap_err().starts_with("`nmae` is no parameter of fixture; it has: name")
    );
    assert!(parse(r#"{"name":"x","name":"y"}"#).unwrap_err().contains("`name` is given twice"));
    assert!(parse(r#"{"\ud800":1}"#).unwrap_err().contains("must be a JSON object"));
}

#[test]
fn an_argument_is_what_it_must_be_and_nothing_is_converted() {
    let text = |value: &str| parse(&format!(r#"{{"name":{value}}}"#)).unwrap().required_text("name", 10);
    let refusal = |value: &str| text(value).unwrap_err().to_string();
    assert_eq!(text(r#""a😀é""#).unwrap(), "a😀é");
    assert_eq!(refusal("5"), "`name` must be a string, not 5");
    assert_eq!(refusal(r#"["a"]"#), "`name` must be a string, not an array");
    assert_eq!(refusal(r#""""#), "`name` must be a string that is not empty");
    assert_eq!(refusal(r#""a\u0000b""#), "`name` must not contain U+0000 (NUL)");
    assert!(refusal(r#""\ud83d""#).starts_with("`name` must be a string of Unicode text"));
    assert_eq!(refusal(r#""12345678901""#), "`name` must have at most 10 bytes, not 11");
}

#[test]
fn integers_have_bounds_that_the_error_names() {
    let limit = |value: &str| arguments(&format!(r#","limit":{value}"#)).integer("limit", 1..=100);
    assert_eq!(arguments("").integer("limit", 1..=100), Ok(None));
    assert_eq!(limit("20"), Ok(Some(20)));
    assert_eq!(limit("20.0"), Ok(Some(20)));
    for wrong in ["0", "101", "-1", "1.5", r#""20""#, "true", "1e400", "99999999999999999999"] {
        let refusal = limit(wrong).unwrap_err().to_string();
        assert_eq!(refusal, format!("`limit` must be an integer from 1 to 100, not {wrong}"));
    }
}

#[test]
fn booleans_ids_words_and_objects_are_checked_too() {
    assert_eq!(arguments("").boolean("force", true), Ok(true));
    assert!(arguments(r#","force":"yes""#).boolean("force", true).is_err());
    assert!(
        arguments(r#","id":"'; DROP TABLE turns;--""#).uuid("id").unwrap_err().to_string().contains("must be an id")
    );
    assert!(arguments(r#","id":"019a0000-0000-7000-8000-000000000001""#).uuid("id").unwrap().is_some());
    let role = |value: &str| arguments(&format!(r#","role":{value}"#)).one_of("role", &[("user", 1), ("tool", 2)]);
    assert_eq!(role(r#""tool""#), Ok(Some(2)));
    assert_eq!(role(r#""root""#).unwrap_err().to_string(), r#"`role` must be one of user, tool, not "root""#);
    let metadata = |value: &str| arguments(&format!(r#","metadata":{value}"#)).object("metadata", 30);
    assert_eq!(metadata(r#"{"a":1}"#), Ok(Some(json!({"a": 1}))));
    assert!(metadata(r#"{"a\u0000":1}"#).unwrap_err().to_string().contains("NUL"));
    assert!(metadata(r#"{"a":["\udfff"]}"#).unwrap_err().to_string().contains("must be valid JSON"));
    assert!(metadata(r#"{"a":"0123456789012345678901234567890"}"#).unwrap_err().to_string().contains("at most 30"));
    assert!(metadata("[]").is_err());
}
