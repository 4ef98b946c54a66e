//! What is found in the shortened body is what reading the whole body finds.

use proptest::prelude::*;

use super::super::manifest::BlockHash;
use super::super::split::split;
use super::*;

fn hash(bytes: &[u8]) -> BlockHash {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    short
}

fn taken_apart(body: &str) -> Arc<Earlier> {
    let spans = wire::spans::find(body.as_bytes()).unwrap();
    let manifest = split(body.as_bytes(), &spans, None, hash).unwrap().manifest;
    Arc::new(Earlier::new(Arc::new(body.as_bytes().to_vec()), Arc::new(spans), manifest))
}

/// Reads `body` with the help of `earlier`, compares with reading it alone, and says how many elements were resent.
fn read(earlier: &Arc<Earlier>, body: &str) -> Option<usize> {
    let shortened = Shortened::of(body.as_bytes(), earlier.clone())?;
    let whole = wire::spans::find(body.as_bytes());
    let (request, resent) = shortened.parse()?;
    assert_eq!(Some(&request.spans), whole.as_ref(), "{body}");
    let alone = split(body.as_bytes(), &request.spans, None, hash);
    let helped = split(body.as_bytes(), &request.spans, Some(&resent), hash);
    assert_eq!(helped.as_ref().map(|s| &s.manifest), alone.as_ref().map(|s| &s.manifest));
    if let (Some(helped), Some(alone)) = (helped, alone) {
        let kept: std::collections::HashMap<_, _> = alone.blocks.into_iter().collect();
        let block = |hash: &BlockHash| Ok(Arc::from(&kept[hash][..]));
        assert!(helped.gives(body.as_bytes(), block).unwrap());
    }
    Some(resent.runs.iter().map(|run| run.elements.len()).sum())
}

fn words(n: usize) -> String {
    format!("{n} {}", "a word and ".repeat(60))
}

fn message(n: usize, newest: bool) -> String {
    let cache = if newest { r#","cache_control":{"type":"ephemeral"}"# } else { "" };
    format!(r#"{{"role":"user","content":[{{"type":"text","text":"{}"{cache}}}]}}"#, words(n))
}

fn request(messages: usize, tools: usize) -> String {
    let messages: Vec<_> = (0..messages).map(|n| message(n, n + 1 == messages)).collect();
    let tools: Vec<_> = (0..tools).map(|n| format!(r#"{{"name":"t{n}","description":"{}"}}"#, words(n))).collect();
    format!(
        r#"{{"model":"m","messages":[{}],"system":["{}"],"tools":[{}],"stream":true}}"#,
        messages.join(","),
        words(0),
        tools.join(",")
    )
}

#[test]
fn the_next_turn_is_only_what_is_new() {
    let earlier = taken_apart(&request(6, 4));
    assert_eq!(read(&earlier, &request(8, 4)), Some(5 + 1 + 4), "all but the message that lost its mark");
    assert_eq!(read(&earlier, &request(6, 4)), Some(11), "the same again");
    assert_eq!(read(&earlier, &request(3, 4)), Some(2 + 1 + 4), "a rewind");
    assert_eq!(read(&earlier, &request(8, 5)), Some(5), "a tool was added at the end of the last array");
}

#[test]
fn what_only_looks_like_a_resent_element_is_read_again() {
    let earlier = taken_apart(&request(6, 4));
    let body = request(8, 4);
    // The end of the body is the same, but it stands within a string.
    let quoted = body.replacen(r#""system":["#, r#""system":"["#, 1).replace(r#"],"tools""#, r#"],\"tools\""#);
    assert_eq!(read(&earlier, &quoted), None);
    let other_array = body.replacen(r#""system":["#, r#""contents":["#, 1);
    assert_eq!(read(&earlier, &other_array), None);
    assert_eq!(read(&earlier, &body[..body.len() - 1]), None, "no JSON");
}

#[test]
fn a_number_is_not_resent_with_fewer_digits() {
    let padding = words(1).repeat(10);
    let with = |end: &str| format!(r#"{{"system":["{padding}"],"messages":[1,22{end}"#);
    let earlier = taken_apart(&with("]}"));
    assert_eq!(read(&earlier, &with("3]}")), Some(2));
    assert_eq!(read(&earlier, &with(",3]}")), Some(2));
}

proptest! {
    #[test]
    fn any_change_is_read_as_without_help(
        (messages, tools, next) in (1usize..6, 0usize..4, 1usize..8),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..12, prop::sample::select(vec![
            "", "0", "[", "]", "{", "}", ",", "\"", "\\", " ", ",0", "],\"input\":[", "x", "é", ",\"messages\":[]",
        ])), 0..4),
    ) {
        let earlier = taken_apart(&request(messages, tools));
        let mut body = request(next, tools);
        for (at, length, text) in edits {
            let from = at.index(body.len());
            let range = from..(from + length).min(body.len());
            if body.is_char_boundary(range.start) && body.is_char_boundary(range.end) {
                body.replace_range(range, text);
            }
        }
        let _compared_within = read(&earlier, &body);
    }
}
