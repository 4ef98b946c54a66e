//! How far each model is, on standard error: a bar per model on a terminal, a line per event elsewhere.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use fiedler::{Event, Stage, Watcher};

use crate::render::safe::one_line;

const BAR: usize = 20;
/// Bytes of an answer that move the bar by one place.
const BYTES_PER_PLACE: u64 = 2_000;

pub(super) struct Display {
    is_terminal: bool,
    lines: Mutex<Vec<(String, String)>>,
}

impl Display {
    pub(super) fn new(is_terminal: bool) -> Self {
        Self { is_terminal, lines: Mutex::default() }
    }

    fn draw(&self, event: &Event<'_>) -> String {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = line(event);
        // Back to the first line, which was drawn before.
        let up = if lines.is_empty() { String::new() } else { format!("\u{1b}[{}A", lines.len()) };
        match lines.iter_mut().find(|(model, _)| model == event.model) {
            Some((_, known)) => *known = line,
            None => lines.push((event.model.to_owned(), line)),
        }
        let all: String = lines.iter().map(|(_, line)| format!("\r\u{1b}[2K{line}\n")).collect();
        format!("{up}{all}")
    }
}

fn line(event: &Event<'_>) -> String {
    let filled = match &event.stage {
        Stage::Started | Stage::Retrying => 0,
        // How long an answer will be is not known: the bar never quite fills while it comes.
        Stage::Streaming { bytes } => usize::try_from(bytes / BYTES_PER_PLACE).unwrap_or(BAR).clamp(1, BAR - 1),
        Stage::Ended { .. } => BAR,
    };
    let sign = if matches!(event.stage, Stage::Ended { is_success: false, .. }) { 'x' } else { '#' };
    let bar: String = (0..BAR).map(|place| if place < filled { sign } else { '.' }).collect();
    // A wrapped line would be two, and the next drawing would begin at the wrong one.
    let text: String = one_line(&event.message).chars().take(50).collect();
    format!("[{bar}] {text}")
}

impl Watcher for Display {
    fn event(&self, event: &Event<'_>) {
        let text = match self.is_terminal {
            true => self.draw(event),
            false => format!("{}\n", one_line(&event.message)),
        };
        // Nobody may be looking any more; the answers matter.
        let _unseen = io::stderr().write_all(text.as_bytes());
    }
}
