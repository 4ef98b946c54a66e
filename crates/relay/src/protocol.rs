//! What the relay must know of MCP: names, versions, and where things stand in a request's parameters.
//!
//! Two eras are told apart. In the *legacy* one (2024-11-05 to 2025-11-25) a connection begins with `initialize`; in the
//! *modern* one (2026-07-28) every request says for itself which version it speaks and what its sender can do.

use std::borrow::Cow;

use serde_json::value::RawValue;
use wire::json_rpc::{Member, members, string};

/// The version of the modern era.
pub(crate) const MODERN_VERSION: &str = "2026-07-28";
/// The versions that begin with `initialize`, newest first.
pub(crate) const LEGACY_VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// How the relay describes itself.
pub(crate) const OWN_INFO: &str =
    concat!(r#"{"name":"iccm-relay","title":"ICCM MCP Relay","version":""#, env!("CARGO_PKG_VERSION"), "\"}");

pub(crate) const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub(crate) const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";
pub(crate) const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";
pub(crate) const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
pub(crate) const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
pub(crate) const META_PROGRESS: &str = "progressToken";

pub(crate) const CANCELLED: &str = "notifications/cancelled";
pub(crate) const PROGRESS: &str = "notifications/progress";
pub(crate) const LOG_MESSAGE: &str = "notifications/message";
pub(crate) const RESOURCE_UPDATED: &str = "notifications/resources/updated";
pub(crate) const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
pub(crate) const ROOTS_CHANGED: &str = "notifications/roots/list_changed";
pub(crate) const LISTEN: &str = "subscriptions/listen";
pub(crate) const DISCOVER: &str = "server/discover";
pub(crate) const TOOLS_CALL: &str = "tools/call";
pub(crate) const RESOURCES_READ: &str = "resources/read";

/// What the modern era has no longer.
pub(crate) const REMOVED: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// Severities of log messages, the least first (RFC 5424).
pub(crate) const LOG_LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// How a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    /// `initialize` first.
    Legacy,
    /// Every request for itself.
    Modern,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ListKind {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl ListKind {
    pub(crate) const ALL: [ListKind; 4] =
        [ListKind::Tools, ListKind::Prompts, ListKind::Resources, ListKind::Templates];

    pub(crate) fn method(self) -> &'static str {
        match self {
            ListKind::Tools => "tools/list",
            ListKind::Prompts => "prompts/list",
            ListKind::Resources => "resources/list",
            ListKind::Templates => "resources/templates/list",
        }
    }

    /// The member of the result that holds the list.
    pub(crate) fn member(self) -> &'static str {
        match self {
            ListKind::Tools => "tools",
            ListKind::Prompts => "prompts",
            ListKind::Resources => "resources",
            ListKind::Templates => "resourceTemplates",
        }
    }

    /// The member of an item by which it is asked for.
    pub(crate) fn key(self) -> &'static str {
        match self {
            ListKind::Tools | ListKind::Prompts => "name",
            ListKind::Resources => "uri",
            ListKind::Templates => "uriTemplate",
        }
    }

    /// The notification that tells of a change.
    pub(crate) fn changed(self) -> &'static str {
        match self {
            ListKind::Tools => "notifications/tools/list_changed",
            ListKind::Prompts => "notifications/prompts/list_changed",
            ListKind::Resources | ListKind::Templates => "notifications/resources/list_changed",
        }
    }

    pub(crate) fn of_method(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.method() == method)
    }
}

/// The parameters of a request or notification.
#[derive(Debug, Default)]
pub(crate) struct Params<'a> {
    pub(crate) object: Option<&'a RawValue>,
    members: Vec<Member<'a>>,
}

impl<'a> Params<'a> {
    pub(crate) fn of(params: Option<&'a RawValue>) -> Self {
        Self { object: params, members: params.and_then(members).unwrap_or_default() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members.iter().find(|member| member.name == name).map(|member| member.value)
    }

    pub(crate) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).and_then(string)
    }

    pub(crate) fn inner(&self, name: &str) -> Params<'a> {
        Params::of(self.get(name))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.get() != "null")
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.get() == "true")
    }
}

/// What a backend said it can do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Capabilities {
    pub(crate) tools: bool,
    pub(crate) prompts: bool,
    pub(crate) resources: bool,
    pub(crate) subscribe: bool,
    pub(crate) logging: bool,
}

impl Capabilities {
    /// From the value of `capabilities`.
    pub(crate) fn of(value: Option<&RawValue>) -> Self {
        let all = Params::of(value);
        Self {
            tools: all.has("tools"),
            prompts: all.has("prompts"),
            resources: all.has("resources"),
            subscribe: all.inner("resources").is_true("subscribe"),
            logging: all.has("logging"),
        }
    }

    pub(crate) fn lists(self, kind: ListKind) -> bool {
        match kind {
            ListKind::Tools => self.tools,
            ListKind::Prompts => self.prompts,
            ListKind::Resources | ListKind::Templates => self.resources,
        }
    }
}

/// How severe a log level is; `None` for what is none.
pub(crate) fn severity(level: &str) -> Option<usize> {
    LOG_LEVELS.iter().position(|known| *known == level)
}
