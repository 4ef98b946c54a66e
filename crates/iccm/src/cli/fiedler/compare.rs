//! `iccm fiedler compare`: a run's answers beside each other.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use fiedler::{RecordedAnswer, RecordedRun, recorded_run};

use crate::cli::reading;
use crate::config::Config;
use crate::render::json_line;
use crate::render::safe::{neutralise, one_line};
use crate::render::screen::{self, Screen};
use crate::render::wrap::{cut, text_width, wrap};

/// Narrower columns cannot be read.
const LEAST_COLUMN: usize = 30;
const GAP: &str = " | ";
/// Where there is no terminal to be measured.
const USUAL_WIDTH: usize = 160;

#[derive(Args)]
pub(super) struct CompareArgs {
    /// The run: its correlation id or its conversation's, or the beginning of either, or its output folder
    run: String,
    /// Columns need a wide terminal; as many stand beside each other as fit [default: columns on a terminal, else markdown]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// One JSON line
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Columns,
    Markdown,
}

pub(super) async fn run(args: CompareArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = reading::open(config).await?;
    let run = recorded_run(store.as_ref(), &args.run).await?;
    let screen = Screen::of_stdout(config.environment());
    let format = args.format.unwrap_or(if screen.width.is_some() { Format::Columns } else { Format::Markdown });
    let mut out = screen::stdout();
    match format {
        _ if args.json => json_line(&mut out, &run)?,
        Format::Columns => out.write_all(columns(&run, screen).as_bytes())?,
        Format::Markdown => out.write_all(markdown(&run).as_bytes())?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn name(answer: &RecordedAnswer) -> String {
    one_line(answer.result["model"].as_str().unwrap_or("?"))
}

/// Time, tokens and cost in a line.
fn figures(answer: &RecordedAnswer) -> String {
    let result = &answer.result;
    let mut parts = vec![one_line(result["status"].as_str().unwrap_or("?"))];
    parts.extend(result["duration_seconds"].as_f64().map(|seconds| format!("{seconds:.1} s")));
    parts.extend(result["tokens"]["completion"].as_u64().map(|tokens| format!("{tokens} tokens")));
    parts.extend(result["cost_usd"].as_f64().map(|cost| format!("${cost:.4}")));
    parts.join(", ")
}

fn markdown(run: &RecordedRun) -> String {
    let mut text = format!("# {}\n", one_line(&run.prompt).chars().take(200).collect::<String>());
    for answer in &run.answers {
        text.push_str(&format!("\n## {}\n\n*{}*\n\n{}\n", name(answer), figures(answer), neutralise(&answer.text)));
    }
    text
}

fn columns(run: &RecordedRun, screen: Screen) -> String {
    let width = screen.width.unwrap_or(USUAL_WIDTH);
    let fitting = ((width + GAP.len()) / (LEAST_COLUMN + GAP.len())).max(1);
    let mut text = format!("{}\n", screen.bold(&cut(&one_line(&run.prompt), width)));
    for group in run.answers.chunks(fitting) {
        let column = (width + GAP.len()) / group.len() - GAP.len();
        let cells: Vec<Vec<String>> = group.iter().map(|answer| cell(answer, column)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or_default();
        text.push('\n');
        for row in 0..height {
            let padded = |lines: &Vec<String>| {
                let line = lines.get(row).map(String::as_str).unwrap_or_default();
                format!("{line}{}", " ".repeat(column.saturating_sub(text_width(line))))
            };
            let line = cells.iter().map(padded).collect::<Vec<_>>().join(GAP);
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

fn cell(answer: &RecordedAnswer, width: usize) -> Vec<String> {
    let mut lines = vec![cut(&name(answer), width), cut(&figures(answer), width), "-".repeat(width)];
    lines.extend(wrap(&neutralise(&answer.text), Some(width)));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run() -> RecordedRun {
        let answer = |model: &str, text: &str| RecordedAnswer {
            result: json!({"model": model, "status": "success", "duration_seconds": 1.25, "tokens": {"completion": 7}}),
            text: text.to_owned(),
        };
        let answers = vec![answer("one", "The first\nanswer"), answer("two", "Another \u{1b}[31manswer")];
        RecordedRun { conversation_id: uuid::Uuid::nil(), prompt: "What?".to_owned(), answers }
    }

    #[test]
    fn answers_stand_beside_each_other_as_far_as_there_is_room() {
        let wide = columns(&run(), Screen { width: Some(63), colour: false });
        let first = wide.lines().find(|line| line.starts_with("one")).unwrap();
        assert_eq!(first.split(" | ").map(str::trim).collect::<Vec<_>>(), ["one", "two"]);
        assert!(wide.contains("The first                      | Another "), "{wide}");
        assert!(!wide.contains('\u{1b}'), "an answer must not speak to the terminal");
        let narrow = columns(&run(), Screen { width: Some(40), colour: false });
        assert!(!narrow.contains(" | "), "{narrow}");
    }

    #[test]
    fn markdown_has_a_section_for_each() {
        assert!(markdown(&run()).contains("\n## one\n\n*success, 1.2 s, 7 tokens*\n\nThe first\nanswer\n"));
    }
}
