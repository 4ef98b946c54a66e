//! What search knows of a message.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::names::{ERROR_MARK, tool_mark};
use super::tokens::tokens;
use crate::conversation::identity::Role;
use crate::conversation::text::{self, Block};

/// Words beyond this many are not found. PostgreSQL knows the places of 16,383, and both backends shall find the same;
/// it is about 100 KB of prose, and what people said comes before what tools dumped.
const MAX_TOKENS: usize = 16_000;

/// The fields of a document, most telling first. PostgreSQL's weights are as many.
pub(crate) const FIELDS: usize = 4;

/// A message's tokens. A phrase does not reach from one field into the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Document {
    /// Tokens with a space between them: of the conversation's title (in its first message), of what the user wrote, of
    /// what the model answered, and of all else (thinking, what tools were given and gave, instructions).
    pub(crate) fields: [String; FIELDS],
    /// What can be filtered by, sorted: see [`super::names`].
    pub(crate) marks: Vec<String>,
}

/// What a document is made from.
pub(crate) struct Source<'m> {
    pub(crate) role: Role,
    pub(crate) content: &'m Value,
    /// What the model said before: results of tools name only the call.
    pub(crate) before: Option<&'m Value>,
    /// The conversation's, if this is its first message.
    pub(crate) title: Option<&'m str>,
    /// Whether the exchange that brought it failed.
    pub(crate) failed: bool,
}

/// Whether the message holds results of tools, whose names only the message before knows.
pub(crate) fn answers_a_tool(content: &Value) -> bool {
    text::blocks(content).iter().any(|block| matches!(block, Block::ToolResult { .. }))
}

impl Document {
    pub(crate) fn of(source: &Source<'_>) -> Self {
        let (said, rest) = texts(source.content);
        let (user, assistant, rest) = match source.role {
            Role::User => (said, String::new(), rest),
            Role::Assistant => (String::new(), said, rest),
            Role::System | Role::Tool => (String::new(), String::new(), said + "\n" + &rest),
        };
        let mut left = MAX_TOKENS;
        let mut field = |text: &str| {
            let mut out = String::new();
            for (_, token) in tokens(text).take(left) {
                if !out.is_empty() {
                    out.push(' ');
                }
                out.push_str(&token);
                left -= 1;
            }
            out
        };
        let fields = [field(source.title.unwrap_or_default()), field(&user), field(&assistant), field(&rest)];
        Self { fields, marks: marks(source) }
    }
}

/// What was said, and all else.
fn texts(content: &Value) -> (String, String) {
    let (mut said, mut rest) = (String::new(), String::new());
    for block in text::blocks(content) {
        match block {
            Block::Text(text) => {
                said.push_str(&text::without_reminders(text));
                said.push('\n');
            }
            other => {
                rest.push_str(&text::block_words(&other));
                rest.push('\n');
            }
        }
    }
    (said, rest)
}

fn marks(source: &Source<'_>) -> Vec<String> {
    let calls: HashMap<&str, &str> = source
        .before
        .into_iter()
        .flat_map(text::blocks)
        .filter_map(|block| match block {
            Block::ToolUse { id, name, .. } => Some((id, name)),
            _ => None,
        })
        .collect();
    let mut marks = BTreeSet::new();
    for block in text::blocks(source.content) {
        match block {
            Block::ToolUse { name, .. } => {
                marks.insert(tool_mark(name));
            }
            Block::ToolResult { id, is_error, .. } => {
                marks.extend(calls.get(id).map(|name| tool_mark(name)));
                marks.extend(is_error.then(|| ERROR_MARK.to_owned()));
            }
            _ => {}
        }
    }
    marks.extend(source.failed.then(|| ERROR_MARK.to_owned()));
    marks.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(role: Role, content: &Value, before: Option<&Value>) -> Document {
        Document::of(&Source { role, content, before, title: None, failed: false })
    }

    #[test]
    fn what_people_said_is_kept_apart_from_what_tools_dumped() {
        let content = json!([{"type":"text","text":"<system-reminder>x</system-reminder>Look here"},
            {"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"Total 8"}],"is_error":true}]);
        let call = json!([{"type":"tool_use","id":"t","name":"Bash","input":{"command":"ls"}}]);
        let asked = document(Role::User, &content, Some(&call));
        assert_eq!(asked.fields, ["", "look here", "", "total 8"]);
        assert_eq!(asked.marks, ["error", &tool_mark("bash")]);
        let called = document(Role::Assistant, &call, None);
        assert_eq!((called.fields[3].as_str(), called.marks.len()), ("bash ls", 1));
        assert_eq!(document(Role::System, &json!("be good"), None).fields[3], "be good");
    }

    #[test]
    fn a_dump_is_cut_and_what_was_said_beside_it_is_not() {
        let dump = "0 ".repeat(MAX_TOKENS * 2);
        let content = json!([{"type":"tool_result","tool_use_id":"t","content":dump},{"type":"text","text":"the end"}]);
        let document = document(Role::User, &content, None);
        assert_eq!(document.fields[1], "the end");
        assert_eq!(document.fields[3].split(' ').count(), MAX_TOKENS - 2);
    }
}
