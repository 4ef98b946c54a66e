//! What a server is: its tools and its resources, and what their calls give.

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Arguments, Call};

/// A server's tools and resources, whatever carries them.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Who it is.
    fn about(&self) -> &About;

    /// Its tools, always the same ones in the same order.
    fn tools(&self) -> &[Tool];

    /// Calls one of [`Service::tools`]. The arguments are an object of its parameters, none unknown and none missing; their
    /// values are the tool's to check. Is dropped where it waits when the call is cancelled.
    async fn call(&self, tool: &str, arguments: Arguments, call: &Call) -> Result<ToolOutput, ToolError>;

    /// What kinds of resources can be read; none if empty.
    fn resource_templates(&self) -> &[ResourceTemplate] {
        &[]
    }

    /// A page of the resources, from the beginning or from a former page's cursor on.
    async fn resources(&self, _cursor: Option<&str>) -> Result<ResourcePage, ResourceError> {
        Ok(ResourcePage::default())
    }

    /// Reads a resource.
    async fn read_resource(&self, uri: &str) -> Result<ResourceText, ResourceError> {
        Err(ResourceError::NotFound(uri.to_owned()))
    }
}

/// Who a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The name that programs know.
    pub name: &'static str,
    /// The name that people know.
    pub title: &'static str,
    /// The program's version.
    pub version: &'static str,
    /// How a model should use it.
    pub instructions: &'static str,
}

/// A tool as clients see it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// The name that it is called by.
    pub name: &'static str,
    /// The name that people see.
    pub title: &'static str,
    /// What it does, for models.
    pub description: &'static str,
    /// JSON Schema of the arguments: an object with `properties`, and `required` ones.
    pub input_schema: Value,
    /// JSON Schema of the result.
    pub output_schema: Value,
    /// What it may do to the world.
    pub annotations: Annotations,
}

impl Tool {
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        let properties = self.input_schema.get("properties").and_then(Value::as_object);
        properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str))
    }

    pub(crate) fn required(&self) -> impl Iterator<Item = &str> {
        let required = self.input_schema.get("required").and_then(Value::as_array);
        required.into_iter().flatten().filter_map(Value::as_str)
    }
}

/// Hints about what a tool may do. All our tools keep to a world of their own unless they say otherwise.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Annotations {
    /// It changes nothing.
    #[serde(rename = "readOnlyHint")]
    pub is_read_only: bool,
    /// It may remove or replace what is there.
    #[serde(rename = "destructiveHint")]
    pub is_destructive: bool,
    /// Calling it again with the same arguments changes nothing more.
    #[serde(rename = "idempotentHint")]
    pub is_idempotent: bool,
    /// It reaches out to others.
    #[serde(rename = "openWorldHint")]
    pub is_open_world: bool,
}

impl Annotations {
    /// Only reads.
    pub const READS: Self =
        Self { is_read_only: true, is_destructive: false, is_idempotent: true, is_open_world: false };
    /// Adds something with each call.
    pub const ADDS: Self =
        Self { is_read_only: false, is_destructive: false, is_idempotent: false, is_open_world: false };
    /// Replaces what is there under the same name.
    pub const REPLACES: Self =
        Self { is_read_only: false, is_destructive: true, is_idempotent: true, is_open_world: false };
    /// Removes.
    pub const REMOVES: Self = Self::REPLACES;
}

/// What a tool gives: a JSON value, as text and as structured content.
#[derive(Debug)]
pub struct ToolOutput {
    /// The text content.
    pub(crate) text: String,
    /// The structured content, where it is not the text.
    pub(crate) structured: Option<Box<RawValue>>,
}

impl ToolOutput {
    /// The result, which must serialise as a JSON object.
    ///
    /// # Errors
    /// If it does not serialise, which is a defect.
    pub fn of<T: Serialize + ?Sized>(result: &T) -> Result<Self, ToolError> {
        let text = serde_json::to_string(result).map_err(|error| ToolError::new(format!("internal error: {error}")))?;
        Ok(Self { text, structured: None })
    }

    /// There is no result: `null` for whoever reads the text. Structured content must be an object up to 2025-11-25, so
    /// it is the object whose fields are all null.
    ///
    /// # Errors
    /// As [`ToolOutput::of`].
    pub fn none<T: Serialize + ?Sized>(all_null: &T) -> Result<Self, ToolError> {
        let structured = serde_json::value::to_raw_value(all_null)
            .map_err(|error| ToolError::new(format!("internal error: {error}")))?;
        Ok(Self { text: "null".to_owned(), structured: Some(structured) })
    }
}

/// Why a tool did nothing, in words that a model can act on: which parameter, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ToolError(pub(crate) String);

impl ToolError {
    /// An error with these words.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// A parameter that is not what it must be.
    pub fn parameter(name: &str, problem: impl std::fmt::Display) -> Self {
        Self(format!("`{name}` {problem}"))
    }
}

/// A kind of resources.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceTemplate {
    /// RFC 6570.
    pub uri_template: &'static str,
    /// The name that programs know.
    pub name: &'static str,
    /// The name that people see.
    pub title: &'static str,
    /// What it is.
    pub description: &'static str,
    /// Its content's type.
    pub mime_type: &'static str,
}

/// A resource as it is listed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// What it is read by.
    pub uri: String,
    /// A name.
    pub name: String,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its content's type.
    pub mime_type: &'static str,
}

/// Some of the resources.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourcePage {
    /// In a stable order.
    pub resources: Vec<Resource>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A resource's content.
#[derive(Clone, Debug)]
pub struct ResourceText {
    /// Its type.
    pub mime_type: &'static str,
    /// All of it.
    pub text: String,
}

/// Why a resource was not read, or the resources not listed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResourceError {
    /// Nothing has this URI.
    #[error("there is no resource {0}")]
    NotFound(String),
    /// The client asked for something that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It could not be read now.
    #[error("{0}")]
    Failed(String),
}
