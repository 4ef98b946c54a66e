//! What standard output is: how wide, and whether it takes colours.

use std::io::{self, IsTerminal, Write};

use crate::config::Environment;

/// Narrower than this, wrapping makes text unreadable rather than readable.
const LEAST_WIDTH: usize = 40;

/// The place that output goes to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Screen {
    /// Columns of the terminal; `None` if it is none, and then nothing is wrapped or cut to width.
    pub(crate) width: Option<usize>,
    /// Whether escape sequences for colours may be written.
    pub(crate) colour: bool,
}

impl Screen {
    /// Standard output as it is now. `NO_COLOR` (no-color.org) and `TERM=dumb` are respected.
    pub(crate) fn of_stdout(env: &Environment) -> Self {
        if !io::stdout().is_terminal() {
            return Self::default();
        }
        let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        let columns = if columns == 0 { 80 } else { columns };
        Self {
            width: Some(columns.max(LEAST_WIDTH)),
            colour: env.text("NO_COLOR").is_none() && env.text("TERM") != Some("dumb"),
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Standard output, buffered; the buffer is written out by [`Write::flush`], whose error counts.
pub(crate) fn stdout() -> io::BufWriter<io::StdoutLock<'static>> {
    io::BufWriter::new(io::stdout().lock())
}

/// Asks a question on the terminal; anything but a clear yes is a no.
pub(crate) fn confirm(question: &str) -> io::Result<bool> {
    let mut err = io::stderr();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
