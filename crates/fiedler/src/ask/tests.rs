use super::*;

fn wait(name: &'static str, value: &str) -> Option<Duration> {
    retry_after(&HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())]))
}

#[test]
fn a_wish_to_wait_is_understood_in_all_its_forms() {
    assert_eq!(wait("retry-after", "7"), Some(Duration::from_secs(7)));
    assert_eq!(wait("retry-after", "0.5"), Some(Duration::from_millis(500)));
    assert_eq!(wait("retry-after-ms", "250"), Some(Duration::from_millis(250)));
    assert_eq!(wait("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO), "it is over");
    assert!(wait("retry-after", "Wed, 21 Oct 2195 07:28:00 GMT").unwrap() > Duration::from_secs(1_000_000_000));
    for nonsense in ["", "soon", "-1", "1e999"] {
        assert_eq!(wait("retry-after", nonsense), None, "{nonsense}");
    }
}

#[test]
fn pauses_grow_by_chance_and_stay_bounded() {
    for (attempts, longest) in [(1, 500), (2, 1_000), (3, 2_000), (40, 30_000)] {
        let longest = Duration::from_millis(longest);
        for _ in 0..50 {
            let pause = backoff(attempts);
            assert!(pause >= longest / 2 && pause <= longest, "{attempts}: {pause:?}");
        }
    }
    let pauses: std::collections::BTreeSet<_> = (0..20).map(|_| backoff(5)).collect();
    assert!(pauses.len() > 1, "those who failed together must not come back together");
}

#[test]
fn an_error_becomes_one_short_line() {
    assert_eq!(sentence(br#"{"error":{"message":"bad\n  key"}}"#), "bad key");
    assert_eq!(sentence(br#"[{"error":{"message":"a list, as Gemini has it"}}]"#), "a list, as Gemini has it");
    assert_eq!(sentence(br#"{"error":"text"}"#), "text");
    assert_eq!(sentence(b"<html>oh</html>"), "<html>oh</html>");
    assert_eq!(sentence(b"  "), "it gave no reason");
    assert!(sentence("ä".repeat(10_000).as_bytes()).chars().count() <= 501);
}
