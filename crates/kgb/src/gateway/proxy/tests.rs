use super::*;

fn rules(pairs: &[(&str, &'static str)]) -> ProxyRules {
    ProxyRules::new(&Proxies::from_variables(|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1)))
}

/// Where a request goes: the proxy's authority, `direct`, or the variable that cannot be used.
fn way(rules: &ProxyRules, destination: &str) -> String {
    match rules.rule(&destination.parse().unwrap()) {
        Rule::Direct => "direct".into(),
        Rule::Through(proxy) => proxy.uri().authority().unwrap().to_string(),
        Rule::Unusable(variable) => (*variable).into(),
    }
}

#[test]
fn each_scheme_has_its_variable_in_either_case() {
    let rules = rules(&[("HTTPS_PROXY", "http://s:1"), ("http_proxy", "h:2"), ("all_proxy", "http://a:3")]);
    assert_eq!(way(&rules, "https://api.example"), "s:1");
    assert_eq!(way(&rules, "http://api.example:8000"), "h:2");
    let rules = super::tests::rules(&[("all_proxy", "http://a:3"), ("HTTP_PROXY", "http://h:2")]);
    assert_eq!(way(&rules, "https://api.example"), "a:3");
    assert_eq!(way(&super::tests::rules(&[]), "https://api.example"), "direct");
}

#[test]
fn exceptions_and_this_machine_are_reached_directly() {
    let rules = rules(&[("ALL_PROXY", "http://a:3"), ("no_proxy", "internal.example, 10.0.0.0/8")]);
    for direct in [
        "https://internal.example",
        "https://llm.internal.example",
        "http://10.1.2.3:8000",
        "http://127.0.0.1:11434",
        "http://[::1]:11434",
        "http://localhost:11434",
        "http://LocalHost:11434",
    ] {
        assert_eq!(way(&rules, direct), "direct", "{direct}");
    }
    assert_eq!(way(&rules, "https://notinternal.example"), "a:3");
    assert_eq!(way(&super::tests::rules(&[("ALL_PROXY", "http://a:3"), ("NO_PROXY", "*")]), "https://b"), "direct");
}

#[test]
fn a_proxy_that_cannot_be_used_is_not_gone_past() {
    for url in ["socks5://a:1080", "socks://a:1080", "ftp://a", "http://"] {
        let url: &'static str = url;
        assert_eq!(way(&rules(&[("ALL_PROXY", url)]), "https://api.example"), "ALL_PROXY", "{url}");
        // It does not matter where another variable says something.
        let both = rules(&[("ALL_PROXY", url), ("HTTPS_PROXY", "http://s:1")]);
        assert_eq!(way(&both, "https://api.example"), "s:1");
    }
}

#[test]
fn passwords_are_not_printed() {
    let proxies = Proxies { all: Some("http://user:secret@proxy.example:1".into()), ..Proxies::default() };
    assert!(!format!("{proxies:?}").contains("secret"));
    let rules = ProxyRules::new(&proxies);
    assert_eq!(way(&rules, "https://api.example"), "proxy.example:1");
    assert_eq!(rules.authorization(&"http://api.example".parse().unwrap()).unwrap(), "Basic dXNlcjpzZWNyZXQ=");
    assert!(rules.authorization(&"https://api.example".parse().unwrap()).is_none(), "the tunnel's, not the request's");
    assert!(rules.authorization(&"http://127.0.0.1:1".parse().unwrap()).is_none());
}
