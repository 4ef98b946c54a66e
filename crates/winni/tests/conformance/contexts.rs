//! Startup contexts: versions are kept, and at most one is active.

use winni::model::*;
use winni::store::Error;

use crate::lake::Lake;

async fn set(lake: &Lake, name: &str, content: &str, active: bool) -> StartupContext {
    lake.store.set_startup_context(name.into(), content.into(), active).await.unwrap()
}

async fn active(lake: &Lake) -> Vec<String> {
    let all = lake.store.startup_contexts(false).await.unwrap();
    all.into_iter().filter(|c| c.is_active).map(|c| c.name).collect()
}

pub(crate) async fn a_context_has_versions_and_one_is_active(lake: Lake) {
    assert_eq!(lake.store.startup_context(None).await.unwrap(), None);
    let first = set(&lake, "a", "one", true).await;
    assert_eq!((first.version, first.is_active, first.content.as_deref()), (1, true, Some("one")));
    let other = set(&lake, "b", "'); DROP TABLE x; --\u{0}\u{1F600}", false).await;
    assert!(!other.is_active);
    let second = set(&lake, "a", "two", true).await;
    assert_eq!((second.id, second.version), (first.id, 2));
    assert_eq!(second.created_at, first.created_at);
    assert_eq!(lake.store.startup_context(None).await.unwrap(), Some(second));
    assert_eq!(lake.store.startup_context(Some("b".into())).await.unwrap(), Some(other));
    assert_eq!(lake.store.startup_context(Some("c".into())).await.unwrap(), None);
    let versions = lake.store.startup_context_versions("a".into()).await.unwrap();
    let versions: Vec<_> = versions.iter().map(|v| (v.version, v.content.as_deref().unwrap())).collect();
    assert_eq!(versions, [(2, "two"), (1, "one")]);
    let all = lake.store.startup_contexts(false).await.unwrap();
    assert_eq!(
        all.iter().map(|c| (c.name.as_str(), c.content.is_some())).collect::<Vec<_>>(),
        [("a", false), ("b", false)]
    );
    assert!(lake.store.startup_contexts(true).await.unwrap().iter().all(|c| c.content.is_some()));
    set(&lake, "b", "three", true).await;
    assert_eq!(active(&lake).await, ["b"]);
    set(&lake, "b", "four", false).await;
    assert_eq!(active(&lake).await, [""; 0]);
    assert!(matches!(lake.store.set_startup_context(" ".into(), "x".into(), true).await, Err(Error::Invalid(_))));
}

pub(crate) async fn two_that_are_made_active_at_once_leave_one(lake: Lake) {
    let second = lake.again().await;
    for round in 0..20 {
        let names = [format!("a{round}"), format!("b{round}")];
        let (one, two) = tokio::join!(
            lake.store.set_startup_context(names[0].clone(), "x".into(), true),
            second.set_startup_context(names[1].clone(), "x".into(), true)
        );
        assert!(one.unwrap().is_active && two.unwrap().is_active, "each was the active one when it was answered");
        let active = active(&lake).await;
        assert!(active.len() == 1 && names.contains(&active[0]), "{active:?}");
    }
}

pub(crate) async fn the_active_context_is_deleted_only_by_force(lake: Lake) {
    set(&lake, "a", "one", true).await;
    set(&lake, "b", "two", false).await;
    let delete = async |name: &str, force| lake.store.delete_startup_context(name.into(), force).await.unwrap();
    assert_eq!(delete("c", true).await, ContextDeletion::Unknown);
    assert_eq!(delete("b", false).await, ContextDeletion::Deleted);
    assert_eq!(delete("a", false).await, ContextDeletion::Kept);
    assert_eq!(active(&lake).await, ["a"]);
    assert_eq!(delete("a", true).await, ContextDeletion::Deleted);
    assert!(lake.store.startup_contexts(true).await.unwrap().is_empty());
    assert_eq!(set(&lake, "a", "anew", true).await.version, 1);
}
