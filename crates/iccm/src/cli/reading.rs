//! What the reading commands share: opening the record, and finding what an id means.

use std::sync::Arc;

use anyhow::{Context, bail};
use uuid::Uuid;
use winni::model::{Conversation, ConversationFilter, Exchange, ExchangeFilter};
use winni::store::Store;

use crate::config::Config;
use crate::wiring::pending;

/// How many candidates an ambiguous id lists.
const CANDIDATES_SHOWN: usize = 4;

/// Opens the record, which must exist: to read where nothing was recorded would create an empty record and say nothing.
pub(crate) async fn open(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let data_dir = &config.data_dir.value;
    if config.database_file().is_some_and(|file| !file.exists()) {
        if pending::has_recorders(data_dir) {
            bail!("what was recorded in {} is not stored yet; iccm up stores what is in the spool", data_dir.display());
        }
        bail!("nothing recorded yet in {}; run: iccm run -- claude", data_dir.display());
    }
    winni::open_for_reading(&config.database_url.value, data_dir).await.context("cannot open the record")
}

/// The conversation with this id, or with the only id that begins so.
pub(crate) async fn conversation(store: &dyn Store, id: &str) -> anyhow::Result<Conversation> {
    if let Ok(id) = id.parse::<Uuid>() {
        let found = store.conversation(id).await?;
        return found.with_context(|| format!("there is no conversation {id}; iccm conversations lists them"));
    }
    let all = store.conversations(ConversationFilter::default()).await?;
    only_one(all, |c| c.id, id, "conversation")
}

/// The exchange with this id, or with the only id that begins so.
pub(crate) async fn exchange(store: &dyn Store, id: &str) -> anyhow::Result<Exchange> {
    if let Ok(id) = id.parse::<Uuid>() {
        let found = store.exchange(id).await?;
        return found.with_context(|| format!("there is no exchange {id}; iccm exchanges lists them"));
    }
    let all = store.exchanges(ExchangeFilter::default()).await?;
    only_one(all, |e| e.id, id, "exchange")
}

fn only_one<T>(all: Vec<T>, id_of: impl Fn(&T) -> Uuid, prefix: &str, noun: &str) -> anyhow::Result<T> {
    let wanted = prefix.to_ascii_lowercase();
    let plausible = !wanted.is_empty() && wanted.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if !plausible {
        bail!("`{prefix}` is no {noun}'s id, nor the beginning of one; iccm {noun}s lists them");
    }
    let begins_so = |item: &T| id_of(item).to_string().starts_with(&wanted);
    let mut found: Vec<T> = all.into_iter().filter(begins_so).collect();
    match found.len() {
        0 => bail!("no {noun}'s id begins with {prefix}; iccm {noun}s lists them"),
        1 => Ok(found.swap_remove(0)),
        several => {
            let ids: Vec<String> = found.iter().take(CANDIDATES_SHOWN).map(|item| id_of(item).to_string()).collect();
            let more = if several > CANDIDATES_SHOWN { " …" } else { "" };
            bail!("{several} {noun}s begin with {prefix} ({}{more}); give more of the id", ids.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [u128; 3] = [
        0x019a_0000_0000_7000_8000_0000_0000_0001,
        0x019a_0000_0000_7000_8000_0000_0000_0002,
        0x019b_0000_0000_7000_8000_0000_0000_0003,
    ];

    fn find(prefix: &str) -> Result<u128, String> {
        only_one(IDS.to_vec(), |id| Uuid::from_u128(*id), prefix, "exchange").map_err(|e| e.to_string())
    }

    #[test]
    fn a_unique_beginning_is_enough() {
        assert_eq!(find("019b"), Ok(IDS[2]));
        assert_eq!(find("019B0000-0000"), Ok(IDS[2]));
    }

    #[test]
    fn anything_else_is_explained() {
        assert_eq!(find("ff").unwrap_err(), "no exchange's id begins with ff; iccm exchanges lists them");
        assert!(
            find("019a")
                .unwrap_err()
                .starts_with("2 exchanges begin with 019a (019a0000-0000-7000-8000-000000000001, ")
        );
        assert!(find("../x").unwrap_err().contains("is no exchange's id"));
    }
}
