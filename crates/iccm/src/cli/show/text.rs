//! A conversation for the terminal.

use std::collections::HashMap;
use std::io::{self, Write};

use jiff::tz::TimeZone;
use winni::model::{ToolCall, Turn};

use super::blocks::{Block, blocks, preview};
use super::calls;
use super::paragraphs::{Input, lay_out, shorten, spaced_json};
use super::transcript::{SubAgent, Transcript};
use crate::render::quantity;
use crate::render::safe::{neutralise, one_line};
use crate::render::screen::Screen;
use crate::render::wrap::wrap;

/// Lines that are shown of a tool's result, of one value of a tool's input, and of a message that is not part of what was said.
const RESULT_LINES: usize = 12;
const VALUE_LINES: usize = 6;
const ASIDE_LINES: usize = 6;
/// Messages that are shown of those that one tool call has stored.
const STORED_MESSAGES: usize = 5;

/// Writes the whole conversation.
pub(super) fn write(
    transcript: &Transcript,
    screen: Screen,
    full: bool,
    zone: &TimeZone,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut page = Page { screen, full, zone, out, tools: transcript.tool_names(), transcript };
    page.header()?;
    for turn in &transcript.turns {
        page.turn(turn)?;
    }
    page.footer()
}

struct Page<'a> {
    screen: Screen,
    full: bool,
    zone: &'a TimeZone,
    out: &'a mut dyn Write,
    /// Tool names by the ids of their calls.
    tools: HashMap<&'a str, &'a str>,
    transcript: &'a Transcript,
}

impl Page<'_> {
    fn header(&mut self) -> io::Result<()> {
        let c = &self.transcript.conversation;
        let title = one_line(c.title.as_deref().unwrap_or("(untitled)"));
        writeln!(self.out, "{}", self.screen.bold(&title))?;
        self.fact("conversation", &c.id.to_string())?;
        self.fact("session", &c.session_id)?;
        if let Some(parent) = c.parent_conversation_id {
            self.fact("started by", &parent.to_string())?;
        }
        if let Some(fork) = &c.forked_from {
            self.fact("forked from", &format!("{} after #{}", fork.conversation_id, fork.turn))?;
        }
        if c.source != "captured" {
            self.fact("source", &c.source)?;
        }
        self.fact("models", &c.models.join(", "))?;
        let (from, until) = (c.created_at, c.updated_at);
        let took = quantity::duration(from, until);
        let (from, until) = (quantity::date_time(from, self.zone), quantity::date_time(until, self.zone));
        self.fact("time", &format!("{from} – {until} ({took})"))?;
        let cost = quantity::cost(c.cost_usd);
        self.fact("tokens", &format!("{}, {cost}", tokens(self.transcript)))
    }

    fn fact(&mut self, name: &str, value: &str) -> io::Result<()> {
        if value.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "{} {}", self.screen.dim(&format!("{name:<13}")), one_line(value))
    }

    fn turn(&mut self, turn: &Turn) -> io::Result<()> {
        let time = quantity::time_of_day(turn.created_at, self.zone);
        let head = format!("#{} {}", turn.turn, one_line(&turn.role));
        let cut_off = if turn.complete { "" } else { " (incomplete: the answer broke off)" };
        let (head, cut_off) = (self.screen.bold(&head), self.screen.red(cut_off));
        writeln!(self.out, "\n{head} {}{cut_off}", self.screen.dim(&time))?;
        for block in blocks(&turn.content) {
            self.block(&block, &turn.role)?;
        }
        Ok(())
    }

    fn block(&mut self, block: &Block<'_>, role: &str) -> io::Result<()> {
        match block {
            Block::Text(text) if is_aside(text, role) => self.dim_text("", text),
            Block::Text(text) => self.lines("", text, |_, line| line.to_owned()),
            Block::Thinking("") => self.dim_text("∴ ", "(thinking that only the API can read)"),
            Block::Thinking(text) => self.lines("∴ ", text, Screen::dim),
            Block::HiddenThinking(bytes) => {
                let size = quantity::bytes(*bytes as u64);
                self.dim_text("∴ ", &format!("(thinking that only the API can read, {size})"))
            }
            Block::ToolUse { id, name, input } => self.tool_use(id, name, &lay_out(input)),
            Block::ToolResult { tool_use_id, is_error, content } => self.tool_result(tool_use_id, *is_error, content),
            Block::Media { what, media_type, bytes } => self.media(what, media_type, *bytes),
            Block::Other(value) => self.dim_text("? ", &spaced_json(value)),
        }
    }

    fn tool_use(&mut self, id: &str, name: &str, input: &Input) -> io::Result<()> {
        let name = one_line(name);
        match input {
            Input::Compact(input) => {
                let line = format!("{name} {input}");
                self.lines("→ ", &line, |screen, line| screen.cyan(line))?;
            }
            Input::Fields(fields) => {
                self.lines("→ ", &name, |screen, line| screen.cyan(line))?;
                for (name, value) in fields {
                    let separator = if value.trim_end().contains('\n') { "\n" } else { " " };
                    self.shortened("    ", &format!("{name}:{separator}{value}"), VALUE_LINES, |_, l| l.to_owned())?;
                }
            }
        }
        let agents: Vec<&SubAgent> = self.transcript.started_by(id).collect();
        agents.into_iter().try_for_each(|agent| self.sub_agent("    ", agent))?;
        let calls: Vec<&ToolCall> = self.transcript.served(id).collect();
        calls.into_iter().try_for_each(|call| self.served(call))
    }

    /// Who served a tool call, what the answer was, and how long it took.
    fn served(&mut self, call: &ToolCall) -> io::Result<()> {
        let paint = if call.is_error { Screen::red } else { Screen::dim };
        self.lines("    ⇄ ", &calls::headline(call), paint)?;
        let answer = calls::answer(call);
        if !answer.is_empty() {
            self.shortened("      ", &answer, VALUE_LINES, Screen::dim)?;
        }
        let stored = self.transcript.stored_by(call);
        let shown = if self.full { stored.len() } else { stored.len().min(STORED_MESSAGES) };
        stored[..shown].iter().try_for_each(|turn| self.stored(turn))?;
        match stored.len() - shown {
            0 => Ok(()),
            more => self.lines("      ", &format!("… and {more} more (--full)"), Screen::dim),
        }
    }

    /// A message that a tool call has stored, and where it is read in its place.
    fn stored(&mut self, turn: &Turn) -> io::Result<()> {
        let place = format!("stored: #{} {} in iccm show {}", turn.turn, turn.role, turn.conversation_id);
        self.lines("      ", &place, |screen, line| screen.yellow(line))?;
        self.shortened("        ", &preview(&turn.content), VALUE_LINES, Screen::dim)
    }

    fn tool_result(&mut self, id: &str, is_error: bool, content: &[Block<'_>]) -> io::Result<()> {
        let tool = self.tools.get(id).copied().unwrap_or("(unknown tool)");
        let error = if is_error { self.screen.red(" error") } else { String::new() };
        let nothing = if content.is_empty() { self.screen.dim(" (nothing)") } else { String::new() };
        writeln!(self.out, "{}{error}{nothing}", self.screen.cyan(&format!("← {}", one_line(tool))))?;
        for block in content {
            match block {
                Block::Text(text) => self.shortened("    ", text, RESULT_LINES, |_, line| line.to_owned())?,
                Block::Media { what, media_type, bytes } => self.media(what, media_type, *bytes)?,
                Block::Other(value) => self.shortened("    ", &spaced_json(value), RESULT_LINES, Screen::dim)?,
                // Nothing else has been seen within a result; should it come, its presence is told.
                _ => self.dim_text("    ", "(a part that is not shown here)")?,
            }
        }
        Ok(())
    }

    fn media(&mut self, what: &str, media_type: &str, bytes: usize) -> io::Result<()> {
        let size = if bytes == 0 { String::new() } else { format!(", {}", quantity::bytes(bytes as u64)) };
        self.dim_text("    ", &format!("[{what} {media_type}{size}]"))
    }

    fn sub_agent(&mut self, indent: &str, agent: &SubAgent) -> io::Result<()> {
        let c = &agent.conversation;
        let (turns, cost) = (quantity::counted(c.message_count, "turn"), quantity::cost(c.cost_usd));
        let text = format!("↳ sub-agent: iccm show {} ({turns}, {cost})", c.id);
        self.lines(indent, &text, |screen, line| screen.yellow(line))
    }

    fn footer(&mut self) -> io::Result<()> {
        let c = &self.transcript.conversation;
        let agents: Vec<&SubAgent> = self.transcript.unattached().collect();
        if !agents.is_empty() {
            writeln!(self.out)?;
        }
        agents.into_iter().try_for_each(|agent| self.sub_agent("", agent))?;
        let counts = format!(
            "{}, {}, tokens: {}, {}",
            quantity::counted(c.message_count, "turn"),
            quantity::counted(c.exchange_count, "exchange"),
            tokens(self.transcript),
            quantity::cost(c.cost_usd)
        );
        writeln!(self.out, "\n{}", self.screen.dim(&counts))?;
        match self.transcript.totals.incomplete_exchanges {
            0 => Ok(()),
            some => {
                let some = quantity::counted(some, "exchange");
                let text = format!("{some} did not end well: iccm exchanges --conversation {}", c.id);
                writeln!(self.out, "{}", self.screen.yellow(&text))
            }
        }
    }

    fn dim_text(&mut self, prefix: &str, text: &str) -> io::Result<()> {
        self.shortened(prefix, text, ASIDE_LINES, Screen::dim)
    }

    /// A text cut to so many lines unless everything is wanted.
    fn shortened(
        &mut self,
        prefix: &str,
        text: &str,
        lines: usize,
        paint: fn(Screen, &str) -> String,
    ) -> io::Result<()> {
        if self.full {
            return self.lines(prefix, text, paint);
        }
        let short = shorten(text, lines);
        self.lines(prefix, short.text, paint)?;
        match short.remark() {
            Some(remark) => {
                writeln!(self.out, "{}{}", " ".repeat(prefix.chars().count()), self.screen.dim(&remark))
            }
            None => Ok(()),
        }
    }

    /// A text of the record: neutralised, wrapped, the first line after `prefix` and the others below it.
    fn lines(&mut self, prefix: &str, text: &str, paint: fn(Screen, &str) -> String) -> io::Result<()> {
        let indent = " ".repeat(prefix.chars().count());
        let width = self.screen.width.map(|width| width - indent.len());
        for (i, line) in wrap(neutralise(text).trim_matches('\n'), width).iter().enumerate() {
            let before = if i == 0 { prefix } else { &indent };
            let line = format!("{before}{line}");
            writeln!(self.out, "{}", paint(self.screen, line.trim_end()))?;
        }
        Ok(())
    }
}

/// Whether a text is the client's own addition rather than something that was said.
fn is_aside(text: &str, role: &str) -> bool {
    role == "system" || text.trim_start().starts_with("<system-reminder>")
}

fn tokens(transcript: &Transcript) -> String {
    let t = &transcript.totals;
    let mut parts =
        vec![format!("{} in", quantity::count(t.input_tokens)), format!("{} out", quantity::count(t.output_tokens))];
    for (count, name) in [(t.cache_read_tokens, "from cache"), (t.cache_write_tokens, "to cache")] {
        if count > 0 {
            parts.push(format!("{} {name}", quantity::count(count)));
        }
    }
    parts.join(", ")
}
