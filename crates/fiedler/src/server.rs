//! Fiedler as an MCP server.

use std::sync::Arc;

use async_trait::async_trait;
use mcp::{About, Arguments, Call, Service, Tool, ToolError, ToolOutput};

use crate::{Fiedler, tools};

const ABOUT: About = About {
    name: "fiedler",
    title: "Fiedler, the conductor",
    version: env!("CARGO_PKG_VERSION"),
    instructions: "Asks many language models one question at once. fiedler_send sends a prompt, with files, to the models that \
                   it names, or to those that fiedler_set_models chose, and writes each answer to a file that its result \
                   names; fiedler_list_models shows which models there are. Every run is on record and can be searched.",
};

/// Fiedler behind a listener.
pub struct Server(pub Arc<Fiedler>);

#[async_trait]
impl Service for Server {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn tools(&self) -> &[Tool] {
        &self.0.tools
    }

    async fn call(&self, tool: &str, arguments: Arguments, call: &Call) -> Result<ToolOutput, ToolError> {
        tools::call(&self.0, tool, &arguments, call).await
    }
}
