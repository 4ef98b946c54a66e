//! One message of a request, whichever API it was written for, as a role and content blocks in Anthropic's form.

use serde_json::{Value, json};

use super::identity::Role;

/// A message as reading, threading and search see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) role: Role,
    /// A string, or an array of content blocks.
    pub(crate) content: Value,
}

impl Message {
    /// Reads an element of `messages` (Anthropic, OpenAI chat, Ollama), `input` (OpenAI responses) or `contents` (Gemini). An
    /// element that is none of these counts as a user's, whole: nothing that was sent is left out of the conversation.
    pub(crate) fn of(element: Value) -> Self {
        if element.get("parts").is_some_and(Value::is_array) {
            return Self::of_gemini(element);
        }
        let kind = element.get("type").and_then(Value::as_str).unwrap_or("message");
        match kind {
            "function_call" => Self::assistant(vec![tool_use(&element["call_id"], &element)]),
            "function_call_output" => Self::tool_result(&element["call_id"], element["output"].clone()),
            "reasoning" => Self::assistant(vec![json!({"type": "thinking", "thinking": element["summary"]})]),
            _ => match element.get("role").and_then(Value::as_str).and_then(Role::of) {
                Some(role) => Self::with_role(role, element),
                None => Self { role: Role::User, content: Value::Array(vec![element]) },
            },
        }
    }

    fn with_role(role: Role, mut element: Value) -> Self {
        if role == Role::Tool {
            // Ollama has the tool's name in place of the call's id.
            let call = element.get("tool_call_id").or_else(|| element.get("tool_name")).unwrap_or(&Value::Null);
            return Self::tool_result(call, element["content"].clone());
        }
        let content = element.get_mut("content").map(Value::take).unwrap_or_default();
        let Some(calls) = element.get("tool_calls").and_then(Value::as_array).filter(|c| !c.is_empty()) else {
            return Self { role, content };
        };
        let mut blocks = into_blocks(content);
        blocks.extend(calls.iter().map(|call| {
            let id = call.get("id").unwrap_or(&call["function"]["name"]);
            tool_use(id, &call["function"])
        }));
        Self { role, content: Value::Array(blocks) }
    }

    fn of_gemini(mut element: Value) -> Self {
        let role = match element.get("role").and_then(Value::as_str) {
            Some("model") => Role::Assistant,
            Some("function" | "tool") => Role::Tool,
            _ => Role::User,
        };
        let parts = match element.get_mut("parts").map(Value::take) {
            Some(Value::Array(parts)) => parts,
            _ => Vec::new(),
        };
        Self { role, content: Value::Array(wire::gemini::blocks(parts)) }
    }

    fn assistant(blocks: Vec<Value>) -> Self {
        Self { role: Role::Assistant, content: Value::Array(blocks) }
    }

    fn tool_result(id: &Value, content: Value) -> Self {
        let block = json!({"type": "tool_result", "tool_use_id": id, "content": content});
        Self { role: Role::Tool, content: Value::Array(vec![block]) }
    }

    /// Adds what the same speaker said next. OpenAI's responses API splits one answer into several elements.
    pub(crate) fn join(&mut self, next: Message) {
        let mut blocks = into_blocks(self.content.take());
        blocks.extend(into_blocks(next.content));
        self.content = Value::Array(blocks);
    }
}

fn into_blocks(content: Value) -> Vec<Value> {
    match content {
        Value::Array(blocks) => blocks,
        Value::String(text) if !text.is_empty() => vec![json!({"type": "text", "text": text})],
        _ => Vec::new(),
    }
}

fn tool_use(id: &Value, function: &Value) -> Value {
    let arguments = &function["arguments"];
    let input = arguments.as_str().and_then(|a| serde_json::from_str(a).ok()).unwrap_or_else(|| arguments.clone());
    json!({"type": "tool_use", "id": id, "name": function["name"], "input": input})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_completion_s_tool_loop_reads_like_any_other() {
        let call = Message::of(
            json!({"role":"assistant","content":"hm","tool_calls":[{"id":"c1","function":{"name":"ls","arguments":"{\"p\":1}"}}]}),
        );
        assert_eq!(call.role, Role::Assistant);
        assert_eq!(
            call.content,
            json!([{"type":"text","text":"hm"},{"type":"tool_use","id":"c1","name":"ls","input":{"p":1}}])
        );
        let result = Message::of(json!({"role":"tool","tool_call_id":"c1","content":"ok"}));
        assert_eq!(result.role, Role::Tool);
        assert_eq!(result.content, json!([{"type":"tool_result","tool_use_id":"c1","content":"ok"}]));
    }

    #[test]
    fn a_responses_answer_in_several_elements_joins_into_one_message() {
        let mut first = Message::of(json!({"type":"reasoning","summary":[]}));
        first.join(Message::of(json!({"type":"function_call","call_id":"c","name":"f","arguments":"not json"})));
        assert_eq!(first.role, Role::Assistant);
        assert_eq!(first.content[1]["input"], "not json");
    }

    #[test]
    fn a_gemini_tool_loop_reads_like_any_other() {
        let call = Message::of(
            json!({"role":"model","parts":[{"text":"h"},{"text":"m"},{"functionCall":{"name":"ls","args":{"p":1}}}]}),
        );
        assert_eq!(call.role, Role::Assistant);
        assert_eq!(
            call.content,
            json!([{"type":"text","text":"hm"},{"type":"tool_use","id":"ls","name":"ls","input":{"p":1}}])
        );
        let result =
            Message::of(json!({"role":"function","parts":[{"functionResponse":{"name":"ls","response":{"a":1}}}]}));
        assert_eq!(result.role, Role::Tool);
        assert_eq!(result.content, json!([{"type":"tool_result","tool_use_id":"ls","content":[{"a":1}]}]));
        assert_eq!(Message::of(json!({"parts":[{"text":"q"}]})).role, Role::User);
    }

    #[test]
    fn ollamas_calls_without_ids_are_known_by_their_functions() {
        let call = Message::of(
            json!({"role":"assistant","content":"","tool_calls":[{"function":{"name":"ls","arguments":{"p":1}}}]}),
        );
        assert_eq!(call.content, json!([{"type":"tool_use","id":"ls","name":"ls","input":{"p":1}}]));
        let result = Message::of(json!({"role":"tool","tool_name":"ls","content":"ok"}));
        assert_eq!(result.content, json!([{"type":"tool_result","tool_use_id":"ls","content":"ok"}]));
    }

    #[test]
    fn an_anthropic_message_is_taken_as_it_is() {
        let content = json!([{"type":"text","text":"x"},{"type":"tool_result","tool_use_id":"t","content":"r"}]);
        let message = Message::of(json!({"role":"user","content":content}));
        assert_eq!(message, Message { role: Role::User, content });
    }
}
