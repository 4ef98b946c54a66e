//! Dewey as an MCP server.

use async_trait::async_trait;
use mcp::{
    About, Arguments, Call, ResourceError, ResourcePage, ResourceTemplate, ResourceText, Service, Tool, ToolError,
    ToolOutput,
};

use crate::{Dewey, resources, tools};

const ABOUT: About = About {
    name: "dewey",
    title: "Dewey, the librarian",
    version: env!("CARGO_PKG_VERSION"),
    instructions: "Conversations of AI agents, captured and stored. dewey_search finds what was said, \
                   dewey_get_conversation reads a conversation, dewey_store_message adds to one that dewey_begin_conversation \
                   began; captured ones can be read and not changed. Call dewey_get_startup_context at the beginning of a \
                   session: it gives the text that its owner wants every session to begin with, if there is one.",
};

#[async_trait]
impl Service for Dewey {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn tools(&self) -> &[Tool] {
        &self.tools
    }

    async fn call(&self, tool: &str, arguments: Arguments, call: &Call) -> Result<ToolOutput, ToolError> {
        tools::call(self, tool, &arguments, call).await
    }

    fn resource_templates(&self) -> &[ResourceTemplate] {
        &resources::TEMPLATES
    }

    async fn resources(&self, cursor: Option<&str>) -> Result<ResourcePage, ResourceError> {
        resources::list(self.store.as_ref(), cursor).await
    }

    async fn read_resource(&self, uri: &str) -> Result<ResourceText, ResourceError> {
        resources::read(self.store.as_ref(), uri).await
    }
}
