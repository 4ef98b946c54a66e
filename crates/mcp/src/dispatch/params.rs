//! A request's `params`, taken apart no further than the protocol needs.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::message::{Request, RpcError};
use crate::version::Version;

/// What the methods that we know look at; the rest is passed over.
#[derive(Default, Deserialize)]
pub(super) struct Params<'a> {
    #[serde(borrow, default, rename = "_meta")]
    meta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) arguments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) uri: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) cursor: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) notifications: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "protocolVersion")]
    pub(super) protocol_version: Option<&'a RawValue>,
}

/// What a request says about itself in `_meta`.
#[derive(Debug, Default)]
pub(super) struct Meta {
    /// The version that it speaks, known or not.
    pub(super) version: Option<String>,
    /// Whether it says what the client can do.
    pub(super) has_capabilities: bool,
    progress_token: Option<Box<RawValue>>,
    /// The model's tool call that it serves.
    pub(super) tool_use_id: Option<String>,
}

#[derive(Default, Deserialize)]
struct RawMeta<'a> {
    #[serde(borrow, default, rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "progressToken")]
    progress_token: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "claudecode/toolUseId")]
    tool_use_id: Option<&'a RawValue>,
}

impl<'a> Params<'a> {
    pub(super) fn read(request: &'a Request) -> Result<Self, RpcError> {
        match request.params.as_deref().map(RawValue::get) {
            None | Some("null") => Ok(Self::default()),
            // An array would be read field by field.
            Some(text) if text.starts_with('{') => serde_json::from_str(text)
                .map_err(|error| RpcError::invalid_params(format!("`params` must be an object: {error}"))),
            Some(_) => Err(RpcError::invalid_params("`params` must be an object")),
        }
    }

    pub(super) fn meta(&self) -> Result<Meta, RpcError> {
        let Some(raw) = self.meta else {
            return Ok(Meta::default());
        };
        if !raw.get().starts_with('{') {
            return Err(RpcError::invalid_params("`params._meta` must be an object"));
        }
        let meta: RawMeta<'_> = serde_json::from_str(raw.get())
            .map_err(|error| RpcError::invalid_params(format!("`params._meta` must be an object: {error}")))?;
        let version = meta.version.map(|raw| serde_json::from_str(raw.get())).transpose();
        let is_token =
            |raw: &&RawValue| matches!(serde_json::from_str(raw.get()), Ok(Value::String(_) | Value::Number(_)));
        Ok(Meta {
            version: version
                .map_err(|_| RpcError::malformed_meta("the protocol version in `params._meta` must be a string"))?,
            has_capabilities: meta.capabilities.is_some_and(|raw| raw.get().starts_with('{')),
            progress_token: meta.progress_token.filter(is_token).map(ToOwned::to_owned),
            tool_use_id: meta.tool_use_id.and_then(|raw| serde_json::from_str(raw.get()).ok()),
        })
    }

    /// A parameter of the protocol that must be a string.
    pub(super) fn text(&self, name: &str, value: Option<&RawValue>) -> Result<String, RpcError> {
        let text = value.and_then(|raw| serde_json::from_str(raw.get()).ok());
        text.ok_or_else(|| RpcError::invalid_params(format!("`params.{name}` must be a string")))
    }
}

impl Meta {
    pub(super) fn is_stateless(&self) -> bool {
        self.version.as_deref().and_then(Version::parse).is_some_and(Version::is_stateless)
    }

    pub(super) fn progress_token(&self) -> Option<&RawValue> {
        self.progress_token.as_deref()
    }
}
