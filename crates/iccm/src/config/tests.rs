use super::*;

fn env(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

/// Loads a configuration file with the given text, and environment.
fn load(text: &str, pairs: &[(&str, &str)], flags: Flags) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("iccm.toml");
    std::fs::write(&path, text).unwrap();
    let mut all = vec![("HOME", "/home/someone")];
    all.extend_from_slice(pairs);
    Config::load(Flags { config: Some(path), ..flags }, &env(&all))
        .map_err(|e| e.to_string().replace(&folder.path().display().to_string(), "DIR"))
}

#[test]
fn without_anything_the_defaults_hold() {
    let config = load("", &[], Flags::default()).unwrap();
    assert_eq!(config.data_dir.value, Path::new("/home/someone/.local/share/iccm"));
    assert_eq!(config.database_file().unwrap(), Path::new("/home/someone/.local/share/iccm/iccm.db"));
    assert_eq!(config.upstream.value.as_str(), "https://api.anthropic.com/");
    assert_eq!(config.gateway_listen.value.0.to_string(), "127.0.0.1:8089");
    assert_eq!(config.durability.value, Durability::Process);
    assert_eq!(config.when_spool_full.value, WhenSpoolFull::PassUnrecorded);
    let names: Vec<&str> = config.providers.keys().map(String::as_str).collect();
    assert_eq!(names, ["anthropic", "gemini", "ollama", "openai", "together", "xai"]);
    assert_eq!(config.providers["ollama"].value.as_str(), "http://127.0.0.1:11434/");
}

#[test]
fn environment_goes_above_the_file_and_flags_above_both() {
    let file = "upstream = 'https://file.example'\ndurability = 'power'\ngateway_listen = '127.0.0.1:1'";
    let environment = [("ICCM_UPSTREAM", "https://env.example"), ("ICCM_GATEWAY_LISTEN", "127.0.0.1:2")];
    let flags = Flags { gateway_listen: parse_listen("127.0.0.1:3").ok(), ..Flags::default() };
    let config = load(file, &environment, flags).unwrap();
    assert_eq!(config.durability.value, Durability::Power);
    assert!(matches!(config.durability.origin, Origin::File(_)));
    assert_eq!(config.upstream.value.as_str(), "https://env.example/");
    assert_eq!(config.upstream.origin, Origin::Environment("ICCM_UPSTREAM".into()));
    assert_eq!(config.gateway_listen, Setting { value: parse_listen("127.0.0.1:3").unwrap(), origin: Origin::Flag });
}

#[test]
fn certificate_files_come_from_file_and_environment() {
    let config = load(
        "upstream_ca_file = '/etc/company.pem'\nupstream_client_cert = '/etc/us.pem'",
        &[("ICCM_UPSTREAM_CLIENT_KEY", "/etc/us.key")],
        Flags::default(),
    )
    .unwrap();
    assert_eq!(config.upstream_ca_file.value.as_deref(), Some(Path::new("/etc/company.pem")));
    assert_eq!(config.upstream_client_cert.value.as_deref(), Some(Path::new("/etc/us.pem")));
    assert_eq!(config.upstream_client_key.value.as_deref(), Some(Path::new("/etc/us.key")));
}

#[test]
fn proxies_come_from_the_variables_that_all_programs_share() {
    let config = load("", &[("https_proxy", "http://a:1"), ("NO_PROXY", "b"), ("HTTP_PROXY", "")], Flags::default());
    let proxies = config.unwrap().proxies;
    assert_eq!((proxies.https.as_deref(), proxies.no.as_deref(), proxies.http), (Some("http://a:1"), Some("b"), None));
}

#[test]
fn providers_come_from_file_and_environment() {
    let file =
        "[providers.my-llm]\nupstream = 'http://10.0.0.1:8000'\n[providers.openai]\nupstream = 'https://eu.example'";
    let environment = [
        ("ICCM_PROVIDERS_MY_LLM_UPSTREAM", "http://10.0.0.2:8000"),
        ("ICCM_PROVIDERS_LOCAL_UPSTREAM", "http://127.0.0.1:9999/base"),
    ];
    let config = load(file, &environment, Flags::default()).unwrap();
    assert_eq!(config.providers["openai"].value.as_str(), "https://eu.example/");
    assert_eq!(config.providers["my-llm"].value.as_str(), "http://10.0.0.2:8000/");
    assert_eq!(config.providers["local"].value.as_str(), "http://127.0.0.1:9999/base");
    assert!(config.providers.contains_key("xai"));
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    assert_eq!(
        load("gateway_listn = '127.0.0.1:1'", &[], Flags::default()).unwrap_err(),
        "DIR/iccm.toml: unknown key `gateway_listn`; did you mean `gateway_listen`?"
    );
    assert_eq!(
        load("[provider.openai]\nupstream = 'https://a.example'", &[], Flags::default()).unwrap_err(),
        "DIR/iccm.toml: unknown key `provider`; did you mean `providers`?"
    );
    assert_eq!(
        load("[providers.openai]\nurl = 'https://a.example'", &[], Flags::default()).unwrap_err(),
        "DIR/iccm.toml: unknown key `providers.openai.url`; did you mean `providers.openai.upstream`?"
    );
}

#[test]
fn a_wrong_value_says_where_it_stands_and_what_it_must_be() {
    assert_eq!(
        load("durability = 'disk'", &[], Flags::default()).unwrap_err(),
        "DIR/iccm.toml: `durability` must be `process` or `power`, not `disk`"
    );
    assert_eq!(
        load("", &[("ICCM_WHEN_SPOOL_FULL", "drop")], Flags::default()).unwrap_err(),
        "environment variable ICCM_WHEN_SPOOL_FULL: `when_spool_full` must be `pass-unrecorded` or `refuse`, not `drop`"
    );
    assert_eq!(
        load("data_dir = ['a']", &[], Flags::default()).unwrap_err(),
        "DIR/iccm.toml: `data_dir` must be a single value"
    );
    assert!(load("upstream = ", &[], Flags::default()).unwrap_err().starts_with("DIR/iccm.toml is not valid TOML: "));
}

#[test]
fn no_error_repeats_a_database_s_password() {
    let secret = "s3cret-7b1e";
    let urls = [
        format!("postgres://u:{secret}@db/x?sslmode=maybe"),
        format!("postgres://u:{secret}?@db/x"),
        format!("mysql://u:{secret}@db/x"),
    ];
    for url in &urls {
        let flags = Flags { database: Some(url.clone()), ..Flags::default() };
        let file = format!("database_url = '{url}'");
        let unquoted = format!("a = 1\ndatabase_url = {url}");
        let errors = [
            load("", &[], flags).unwrap_err(),
            load("", &[("ICCM_DATABASE_URL", url)], Flags::default()).unwrap_err(),
            load(&file, &[], Flags::default()).unwrap_err(),
            load(&unquoted, &[], Flags::default()).unwrap_err(),
        ];
        assert!(errors.iter().all(|e| !e.contains(secret) && !e.contains('\n')), "{errors:?}");
        assert!(errors[3].contains("line 2"), "{errors:?}");
    }
    let good = format!("postgres://u:{secret}@db/x?sslmode=verify-full");
    let flags = Flags { database: Some(good.clone()), ..Flags::default() };
    assert_eq!(load("", &[], flags).unwrap().database_url.value, good);
}

#[test]
fn a_configuration_file_that_was_asked_for_must_exist() {
    let flags = Flags { config: Some("/nowhere/iccm.toml".into()), ..Flags::default() };
    let error = Config::load(flags, &env(&[("HOME", "/h")])).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the configuration /nowhere/iccm.toml: "), "{error}");
}

#[test]
fn without_a_home_a_data_folder_must_be_named() {
    let error = Config::load(Flags::default(), &env(&[])).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot tell where to keep the record: neither HOME nor XDG_DATA_HOME is set; give --data-dir DIR"
    );
    let flags = Flags { data_dir: Some("/data".into()), ..Flags::default() };
    assert_eq!(Config::load(flags, &env(&[])).unwrap().data_dir.value, Path::new("/data"));
    let config = Config::load(Flags::default(), &env(&[("XDG_DATA_HOME", "/xdg"), ("HOME", "/h")])).unwrap();
    assert_eq!(config.data_dir.value, Path::new("/xdg/iccm"));
    let relative = Config::load(Flags::default(), &env(&[("XDG_DATA_HOME", "xdg"), ("HOME", "/h")])).unwrap();
    assert_eq!(relative.data_dir.value, Path::new("/h/.local/share/iccm"));
}

#[test]
fn anything_but_loopback_needs_to_be_allowed() {
    let listening = |text: &str, allow_remote| {
        let flags = Flags { gateway_listen: parse_listen(text).ok(), allow_remote, ..Flags::default() };
        load("", &[], flags).unwrap().checked_listen()
    };
    assert!(listening("127.0.0.1:0", false).is_ok());
    assert!(listening("[::1]:0", false).is_ok());
    assert!(listening("0.0.0.0:8089", false).unwrap_err().contains("--allow-remote"));
    assert!(listening("0.0.0.0:8089", true).is_ok());
}

#[test]
fn a_file_that_was_changed_is_read_again_below_the_same_flags() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("iccm.toml");
    std::fs::write(&path, "upstream = 'https://a.example'").unwrap();
    let flags = Flags { config: Some(path.clone()), durability: Some(Durability::Power), ..Flags::default() };
    let config = Config::load(flags, &env(&[("HOME", "/h"), ("SECRET", "s3cret")])).unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
    std::fs::write(&path, "upstream = 'https://b.example'\ngateway_listen = '127.0.0.1:1'\ndurability = 'process'")
        .unwrap();
    let (new, needs_restart) = config.reload().unwrap();
    assert_eq!(new.upstream.value.as_str(), "https://b.example/");
    assert_eq!(new.durability.value, Durability::Power, "the flag still goes above the file");
    assert_eq!(needs_restart, ["gateway_listen"]);
    std::fs::write(&path, "upstraem = 'https://c.example'").unwrap();
    assert!(config.reload().is_err());
}

#[test]
fn bounds_come_from_file_and_environment_and_have_the_parts_own_defaults() {
    let bounds = |text, pairs: &[_]| load(text, pairs, Flags::default()).map(|config| config.bounds);
    let shipped = bounds("", &[]).unwrap();
    assert_eq!((shipped.spool_max_bytes.value, shipped.spool_segment_bytes.value), (8 << 30, 64 << 20));
    assert_eq!((shipped.max_connections.value, shipped.idle_timeout.value.as_secs()), (4096, 900));
    let set = bounds(
        "spool_segment_bytes = 16777216\nmax_connections = 100",
        &[("ICCM_SPOOL_MAX_BYTES", "2GiB"), ("ICCM_MAX_CONNECTIONS", "7"), ("ICCM_CONNECT_TIMEOUT_SECONDS", "3")],
    );
    let set = set.unwrap();
    assert_eq!((set.spool_max_bytes.value, set.spool_segment_bytes.value), (2 << 30, 16 << 20));
    assert_eq!((set.max_connections.value, set.connect_timeout.value.as_secs()), (7, 3));
    assert_eq!(shipped.changed(&set).count(), 4);
    assert_eq!(
        bounds("idle_timeout = 5", &[]).unwrap_err(),
        "DIR/iccm.toml: unknown key `idle_timeout`; did you mean `idle_timeout_seconds`?"
    );
    assert_eq!(
        bounds("header_timeout_seconds = 0", &[]).unwrap_err(),
        "DIR/iccm.toml: `header_timeout_seconds` must be a number of seconds from 1 to 86400, not `0`"
    );
}

#[test]
fn unknown_variables_are_reported_with_the_nearest_known_one() {
    let environment = env(&[("ICCM_UPSTRAEM", "x"), ("ICCM_LOG", "debug"), ("ICCM_PROVIDERS_A_UPSTREAM", "x")]);
    assert_eq!(keys::unknown_variables(&environment), [("ICCM_UPSTRAEM".to_owned(), "ICCM_UPSTREAM".to_owned())]);
}
