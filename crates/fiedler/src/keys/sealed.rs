//! The encrypted file, for machines without a keyring.
//!
//! What opens it is a file that the operator provides (`fiedler_key_file`), or the credential `iccm-fiedler-key` of the
//! service manager: at least 16 bytes, from which BLAKE3 derives the key for AES-256-GCM. Without it nothing is written, and
//! what is there stays closed: a key beside its lock would not be kept, only hidden.
//!
//! Format: one JSON object, `{"version":1,"nonce":BASE64,"sealed":BASE64}`; sealed is a JSON object from provider to key. The file
//! is replaced whole, under a lock that all processes of this data folder share.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Secret;
use crate::output::write_atomically;

const CONTEXT: &str = "iccm fiedler keys.sealed 2026-11 file key";
const ABOUT: &[u8] = b"iccm fiedler keys, version 1";
const SHORTEST_OPENER: usize = 16;

pub(crate) struct SealedFile {
    path: PathBuf,
    opened_by: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    version: u32,
    nonce: String,
    sealed: String,
}

type All = BTreeMap<String, String>;

impl SealedFile {
    pub(crate) fn new(path: PathBuf, opened_by: Option<PathBuf>) -> Self {
        Self { path, opened_by }
    }

    pub(super) fn get(&self, provider: &str) -> Result<Option<Secret>, String> {
        if !self.path.exists() {
            return Ok(None);
        }
        let key = self.read(&self.opener()?)?.remove(provider);
        key.map(|key| Secret::parse(&key)).transpose()
    }

    pub(super) fn set(&self, provider: &str, key: &Secret) -> Result<(), String> {
        let opener = self.opener()?;
        let _alone = self.lock()?;
        let mut all = self.read(&opener)?;
        all.insert(provider.to_owned(), key.expose().to_owned());
        self.write(&opener, &all)
    }

    pub(super) fn delete(&self, provider: &str) -> Result<bool, String> {
        if !self.path.exists() {
            return Ok(false);
        }
        let opener = self.opener()?;
        let _alone = self.lock()?;
        let mut all = self.read(&opener)?;
        let had = all.remove(provider).is_some();
        if had {
            self.write(&opener, &all)?;
        }
        Ok(had)
    }

    fn opener(&self) -> Result<RandomizedNonceKey, String> {
        let Some(path) = &self.opened_by else {
            return Err("there is no keyring here, and no file that opens the encrypted file of keys: set fiedler_key_file \
                        (ICCM_FIEDLER_KEY_FILE) to a file of random bytes that only you can read, or put the key into the \
                        provider's environment variable"
                .to_owned());
        };
        let bytes =
            std::fs::read(path).map_err(|error| format!("cannot read fiedler_key_file {}: {error}", path.display()))?;
        if bytes.len() < SHORTEST_OPENER {
            let shown = path.display();
            return Err(format!(
                "fiedler_key_file {shown} must have at least {SHORTEST_OPENER} bytes; make it with: head -c 32 /dev/urandom > {shown}"
            ));
        }
        let key = blake3::derive_key(CONTEXT, &bytes);
        RandomizedNonceKey::new(&AES_256_GCM, &key)
            .map_err(|_| "cannot set up the cipher for the file of keys".to_owned())
    }

    fn lock(&self) -> Result<File, String> {
        let path = self.path.with_extension("lock");
        let cannot = |error: std::io::Error| format!("cannot lock {}: {error}", path.display());
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(cannot)?;
        file.lock().map_err(cannot)?;
        Ok(file)
    }

    fn read(&self, opener: &RandomizedNonceKey) -> Result<All, String> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(All::new()),
            Err(error) => return Err(format!("cannot read {}: {error}", self.path.display())),
        };
        let damaged = || format!("{} is damaged; delete it and set the keys again", self.path.display());
        let on_disk: OnDisk = serde_json::from_slice(&text).map_err(|_| damaged())?;
        let nonce: [u8; 12] =
            STANDARD.decode(&on_disk.nonce).ok().and_then(|nonce| nonce.try_into().ok()).ok_or_else(damaged)?;
        let mut sealed = STANDARD.decode(&on_disk.sealed).map_err(|_| damaged())?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let open = opener.open_in_place(nonce, Aad::from(ABOUT), &mut sealed).map_err(|_| {
            format!("fiedler_key_file does not open {}: it is not the one that closed it", self.path.display())
        })?;
        serde_json::from_slice(open).map_err(|_| damaged())
    }

    fn write(&self, opener: &RandomizedNonceKey, all: &All) -> Result<(), String> {
        let cannot = |why: String| format!("cannot write {}: {why}", self.path.display());
        let mut sealed = serde_json::to_vec(all).map_err(|error| cannot(error.to_string()))?;
        let nonce = opener
            .seal_in_place_append_tag(Aad::from(ABOUT), &mut sealed)
            .map_err(|_| cannot("the cipher failed".to_owned()))?;
        let on_disk = OnDisk { version: 1, nonce: STANDARD.encode(nonce.as_ref()), sealed: STANDARD.encode(&sealed) };
        let text = serde_json::to_vec(&on_disk).map_err(|error| cannot(error.to_string()))?;
        write_atomically(&self.path, &text).map_err(|error| cannot(error.to_string()))
    }
}
