use super::*;

fn with(further: &str) -> Result<Catalog, String> {
    parse::catalog(&format!("{SHIPPED}\n{further}"))
}

const MODEL: &str = "[[models]]\nid = \"x\"\nprovider = \"openai\"\ncontext_window = 10\nmax_output = 10\n";

#[test]
fn the_shipped_file_has_ten_models_of_four_providers() {
    let catalog = parse::catalog(SHIPPED).unwrap();
    let providers: std::collections::BTreeSet<_> = catalog.models.iter().map(|m| m.provider.name.as_str()).collect();
    assert_eq!(catalog.models.len(), 10);
    assert_eq!(providers.into_iter().collect::<Vec<_>>(), ["google", "openai", "together", "xai"]);
    assert_eq!(catalog.model("GROK").unwrap().id, "grok-4-0709");
    assert!(catalog.model("gpt-6").unwrap_err().contains("did you mean `gpt-5`?"));
    assert_eq!(catalog.provider("Gemini").unwrap().name, "google");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (further, problem) in [
        ("[[models]]\nid = \"x\"\n", "model `x`: missing field `provider`"),
        (&MODEL.replace("openai", "opnai"), "model `x`: unknown provider `opnai`; did you mean `openai`?"),
        (
            &format!("{MODEL}timeout_secs = 5\n"),
            "model `x`: unknown key `timeout_secs`; did you mean `timeout_seconds`?",
        ),
        (&MODEL.replace("\"x\"", "\"GPT-5\""), "the name `gpt-5` is taken already"),
        (&format!("{MODEL}aliases = [\"grok\"]\n"), "the name `grok` is taken already"),
        (&MODEL.replace("max_output = 10", "max_output = 11"), "`max_output`"),
        (&format!("{MODEL}timeout_seconds = 0\n"), "`timeout_seconds` must be from 1"),
        (&format!("{MODEL}retries = 11\n"), "`retries` must be at most 10"),
        (&format!("{MODEL}price = {{ input = -1.0, output = 1.0 }}\n"), "`price`"),
        ("[providers.mine]\napi = \"openai-chat\"\n", "provider `mine`: `base_url` is missing"),
        ("[providers.mine]\nbase_url = \"http://a\"\n", "provider `mine`: `api` is missing"),
        ("[providers.mine]\napi = \"openai-chat\"\nbase_url = \"ftp://a\"\n", "http:// or https://"),
        ("[providers.mine]\napi = \"openai-chat\"\nbase_url = \"http://me:secret@a\"\n", "must not hold a user name"),
        ("[providers.mine]\nurl = \"x\"\n", "did you mean"),
        ("[[models]]\nid = ", "line "),
    ] {
        let said = with(further).unwrap_err();
        assert!(said.contains(problem), "{further}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
    assert!(parse::catalog("").unwrap_err().contains("no model"));
}

#[test]
fn a_base_url_has_a_prefix_of_its_own() {
    let catalog = with("[providers.openai]\nbase_url = \"http://127.0.0.1:1/v1\"\n").unwrap();
    assert_eq!(catalog.provider("openai").unwrap().prefix, "fiedler-openai");
    assert_eq!(catalog.provider("openai").unwrap().key_variables, ["OPENAI_API_KEY"]);
    assert_eq!(catalog.provider("xai").unwrap().prefix, "xai");
}

#[test]
fn a_file_is_read_again_when_it_has_changed_and_a_wrong_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("models.toml");
    let file = ModelsFile::open(path.clone()).unwrap();
    assert_eq!(file.current().0.models.len(), 10);
    std::fs::write(&path, format!("{SHIPPED}\n{MODEL}")).unwrap();
    assert_eq!((file.current().0.models.len(), file.current().1), (11, None));
    std::fs::write(&path, "nonsense").unwrap();
    let (catalog, problem) = file.current();
    assert_eq!(catalog.models.len(), 11);
    assert!(problem.unwrap().contains("models.toml"));
    std::fs::remove_file(&path).unwrap();
    assert!(file.current().1.unwrap().contains("cannot read"));
    std::fs::write(&path, SHIPPED).unwrap();
    assert_eq!((file.current().0.models.len(), file.current().1), (10, None));
}
