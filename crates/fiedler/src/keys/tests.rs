use super::*;

fn keys(folder: &std::path::Path, opener: Option<&str>) -> Keys {
    let opened_by = opener.map(|text| {
        let path = folder.join("opener");
        std::fs::write(&path, text).unwrap();
        path
    });
    let variables: Variables = Box::new(|name| (name == "TEST_KEY").then(|| "sk-test-from-environment".to_owned()));
    Keys::new(folder.join("keys.sealed"), opened_by, variables)
}

fn provider(variable: &str) -> Provider {
    Provider {
        name: "openai".into(),
        api: crate::models::Api::OpenaiChat,
        prefix: "openai".into(),
        base_url: None,
        key_variables: vec![variable.into()],
        needs_key: true,
    }
}

#[tokio::test]
async fn a_kept_key_goes_before_the_environments_and_is_not_readable_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path(), Some("sixteen bytes or more"));
    let provider = provider("TEST_KEY");
    assert_eq!(keys.get(&provider).await.unwrap().unwrap().1, Source::Environment("TEST_KEY".into()));
    let key = Secret::parse(" sk-test-secret-000\n").unwrap();
    assert_eq!(keys.set("openai", &key).await.unwrap(), Source::SealedFile);
    let text = std::fs::read_to_string(folder.path().join("keys.sealed")).unwrap();
    assert!(!text.contains("sk-test"), "{text}");
    assert_eq!(keys.get(&provider).await.unwrap(), Some((key, Source::SealedFile)));
    assert!(keys.delete("openai").await.unwrap());
    assert!(!keys.delete("openai").await.unwrap());
    assert_eq!(keys.get(&provider).await.unwrap().unwrap().1, Source::Environment("TEST_KEY".into()));
}

#[tokio::test]
async fn without_what_opens_it_nothing_is_written_and_nothing_opens() {
    let folder = tempfile::tempdir().unwrap();
    let key = Secret::parse("sk-test-secret-000").unwrap();
    let refused = keys(folder.path(), None).set("openai", &key).await.unwrap_err();
    assert!(refused.contains("fiedler_key_file") && !refused.contains("secret-000"), "{refused}");
    assert!(!folder.path().join("keys.sealed").exists());
    assert!(keys(folder.path(), Some("short")).set("openai", &key).await.unwrap_err().contains("16 bytes"));
    keys(folder.path(), Some("sixteen bytes or more")).set("openai", &key).await.unwrap();
    let other = keys(folder.path(), Some("sixteen bytes of another"));
    assert!(other.get(&provider("NONE")).await.unwrap_err().contains("does not open"));
    assert!(other.set("xai", &key).await.is_err());
}

#[test]
fn a_secret_prints_as_nothing() {
    let key = Secret::parse("sk-test-secret-000").unwrap();
    assert_eq!(format!("{key:?}"), "Secret");
    assert!(!format!("{:?}", key.header("Bearer ").unwrap()).contains("secret-000"));
    assert_eq!(key.removed_from("bad key sk-test-secret-000!"), "bad key [key]!");
    for wrong in ["", " ", "a b", "ä", "a\nb"] {
        assert!(Secret::parse(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_panic_over_a_key_does_not_show_it() {
    let said = std::thread::spawn(|| {
        let key = Secret::parse("sk-test-secret-000").unwrap();
        let header = key.header("Bearer ").unwrap();
        panic!("{:?}", (key, Some(Source::Keyring), header));
    });
    let said = *said.join().unwrap_err().downcast::<String>().unwrap();
    assert!(said.contains("Secret") && said.contains("Keyring") && !said.contains("sk-test"), "{said}");
}
