//! A command under a terminal of its own, as `script` of util-linux makes it, with someone who types and reads.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{ChildStdin, Command};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::process::{Finished, Running};
use crate::recorder::contains;
use crate::wait;

/// A terminal and what runs in it.
#[derive(Debug)]
pub struct Terminal {
    running: Running,
    keyboard: ChildStdin,
    /// Everything that was written to the screen; only the reading thread adds to it.
    screen: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl Terminal {
    /// Runs a command (program, arguments, variables, folder) in a terminal of 120 columns and 40 rows.
    pub fn run(command: &Command) -> Self {
        let quote = |word: &OsStr| format!("'{}'", word.to_str().expect("UTF-8").replace('\'', r"'\''"));
        let line: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(quote).collect();
        // exec: a shell left in between would get the terminal's signals, too, and answer for itself.
        let line = format!("stty rows 40 cols 120; exec {}", line.join(" "));
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        script.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.env("SHELL", "/bin/sh").env("TERM", "xterm-256color");
        script.current_dir(command.get_current_dir().expect("the command has a folder"));

        let (running, keyboard, mut stdout) = Running::start_talking(script);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&screen);
        let reading = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                written.lock().expect("no panic under this lock").extend_from_slice(&buffer[..n]);
            }
        });
        Self { running, keyboard, screen, reading }
    }

    /// Types.
    pub fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until the screen has shown `text` after the first `from` bytes; gives how many bytes there are then.
    pub fn shows(&mut self, from: usize, text: &str) -> usize {
        wait::until(&format!("{text:?} on the screen"), || {
            let screen = self.screen.lock().expect("no panic under this lock");
            let found = contains(&screen[from.min(screen.len())..], text.as_bytes()).then_some(screen.len());
            assert!(found.is_some() || !self.reading.is_finished(), "ended: {}", String::from_utf8_lossy(&screen));
            found
        })
    }

    /// Waits for the end of the command; its stdout is the whole screen.
    pub fn finish(mut self, patience: Duration) -> Finished {
        let finished = self.running.end(patience);
        drop(self.running);
        self.reading.join().expect("reading does not panic");
        Finished { stdout: std::mem::take(&mut *self.screen.lock().expect("no panic under this lock")), ..finished }
    }
}
