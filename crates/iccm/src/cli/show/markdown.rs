//! A conversation as Markdown: nothing is cut, and no text of the record can break out of the block it stands in.

use std::collections::HashMap;
use std::io::{self, Write};

use jiff::tz::TimeZone;
use winni::model::ToolCall;

use super::blocks::{Block, blocks, preview};
use super::calls;
use super::transcript::Transcript;
use crate::render::quantity;
use crate::render::safe::{neutralise, one_line};

/// Writes the whole conversation.
pub(super) fn write(transcript: &Transcript, zone: &TimeZone, out: &mut dyn Write) -> io::Result<()> {
    let c = &transcript.conversation;
    writeln!(out, "# {}\n", one_line(c.title.as_deref().unwrap_or("(untitled)")))?;
    writeln!(out, "- conversation: `{}`", c.id)?;
    writeln!(out, "- session: `{}`", one_line(&c.session_id))?;
    if let Some(parent) = c.parent_conversation_id {
        writeln!(out, "- started by: `{parent}`")?;
    }
    if let Some(fork) = &c.forked_from {
        writeln!(out, "- forked from: `{}` after {}", fork.conversation_id, fork.turn)?;
    }
    writeln!(out, "- models: {}", one_line(&c.models.join(", ")))?;
    let (from, until) = (quantity::date_time(c.created_at, zone), quantity::date_time(c.updated_at, zone));
    writeln!(out, "- time: {from} – {until}")?;
    let (input, output) = (quantity::count(c.input_tokens), quantity::count(c.output_tokens));
    writeln!(out, "- tokens: {input} in, {output} out; {}", quantity::cost(c.cost_usd))?;
    for agent in &transcript.sub_agents {
        writeln!(out, "- sub-agent: `{}`", agent.conversation.id)?;
    }
    let tools = transcript.tool_names();
    for turn in &transcript.turns {
        let cut_off = if turn.complete { "" } else { " (incomplete)" };
        let time = quantity::date_time(turn.created_at, zone);
        writeln!(out, "\n## {}. {} · {time}{cut_off}", turn.turn, one_line(&turn.role))?;
        for block in blocks(&turn.content) {
            write_block(&block, &tools, out)?;
            if let Block::ToolUse { id, .. } = block {
                transcript.served(id).try_for_each(|call| write_call(call, transcript, out))?;
            }
        }
    }
    Ok(())
}

/// Who served a tool call, what the answer was, and what it has stored.
fn write_call(call: &ToolCall, transcript: &Transcript, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n*⇄ {}*\n", one_line(&calls::headline(call)))?;
    let answer = calls::answer(call);
    if !answer.is_empty() {
        fenced("", &answer, out)?;
    }
    for turn in transcript.stored_by(call) {
        writeln!(out, "\n*stored: #{} {} in {}*\n", turn.turn, one_line(&turn.role), turn.conversation_id)?;
        fenced("", &preview(&turn.content), out)?;
    }
    Ok(())
}

fn write_block(block: &Block<'_>, tools: &HashMap<&str, &str>, out: &mut dyn Write) -> io::Result<()> {
    match block {
        Block::Text(text) => writeln!(out, "\n{}", neutralise(text).trim_end()),
        Block::Thinking(text) => {
            writeln!(out, "\n> *thinking*")?;
            neutralise(text).lines().try_for_each(|line| writeln!(out, "> {line}"))
        }
        Block::HiddenThinking(bytes) => writeln!(out, "\n> *thinking that only the API can read, {bytes} bytes*"),
        Block::ToolUse { name, input, .. } => {
            writeln!(out, "\n**→ {}**\n", one_line(name))?;
            fenced("json", &serde_json::to_string_pretty(input).unwrap_or_default(), out)
        }
        Block::ToolResult { tool_use_id, is_error, content } => {
            let tool = one_line(tools.get(tool_use_id).copied().unwrap_or("(unknown tool)"));
            writeln!(out, "\n**← {tool}{}**", if *is_error { " (error)" } else { "" })?;
            content.iter().try_for_each(|block| write_result(block, tools, out))
        }
        Block::Media { what, media_type, bytes } => writeln!(out, "\n*[{what} {media_type}, {bytes} bytes]*"),
        Block::Other(value) => {
            writeln!(out)?;
            fenced("json", &serde_json::to_string_pretty(value).unwrap_or_default(), out)
        }
    }
}

fn write_result(block: &Block<'_>, tools: &HashMap<&str, &str>, out: &mut dyn Write) -> io::Result<()> {
    let Block::Text(text) = block else {
        return write_block(block, tools, out);
    };
    writeln!(out)?;
    fenced("", text, out)
}

/// A code block whose fence is longer than any run of backticks within.
fn fenced(language: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    writeln!(out, "{fence}{language}\n{}\n{fence}", neutralise(text).trim_end())
}
