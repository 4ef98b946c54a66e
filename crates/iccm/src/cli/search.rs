//! `iccm search`: find messages.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use jiff::tz::TimeZone;
use winni::model::{SearchHit, SearchQuery, Timestamp};
use winni::search::{MAX_COUNTED, moment};

use super::reading;
use crate::config::{Config, Environment};
use crate::render::safe::{neutralise, one_line};
use crate::render::screen::{self, Screen};
use crate::render::wrap::wrap;
use crate::render::{json_line, quantity};

const INDENT: &str = "    ";

#[derive(Args)]
pub(crate) struct SearchArgs {
    /// Words and "phrases"; -word excludes, word* is a prefix. The options below can also stand among the words, as
    /// role:user, model:sonnet, tool:Bash, session:ID, project:/home/ada/app, since:2026-11-22, until:2h, has:error
    #[arg(required = true, allow_hyphen_values = true)]
    query: String,
    /// Only this role
    #[arg(long, value_name = "ROLE", value_parser = ["user", "assistant", "system", "tool"])]
    role: Option<String>,
    /// Only conversations that a model answered in whose name has this part
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Only messages that call this tool, or carry its result
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// Only this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Only sessions in this project folder or below it, or with this part in its path
    #[arg(long, value_name = "FOLDER")]
    project: Option<String>,
    /// Only messages that carry a tool's error, or that a failed exchange brought
    #[arg(long)]
    errors: bool,
    /// Only messages recorded at or after this moment (2026-11-22T12:00:00Z, 2026-11-22, 2h ago: 2h)
    #[arg(long, value_name = "MOMENT", value_parser = moment::since)]
    since: Option<Timestamp>,
    /// Only messages recorded before this moment; a date is meant with its whole day
    #[arg(long, value_name = "MOMENT", value_parser = moment::until)]
    until: Option<Timestamp>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u64,
    /// JSON Lines
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: SearchArgs, config: &Config, env: &Environment) -> anyhow::Result<ExitCode> {
    let store = reading::open(config).await?;
    let query = SearchQuery {
        text: args.query,
        role: args.role,
        model: args.model,
        tool: args.tool,
        session_id: args.session,
        project: args.project,
        has_error: args.errors,
        since: args.since,
        until: args.until,
        limit: args.limit,
        offset: 0,
    };
    let (hits, total) = store.search(query).await?;
    let mut out = screen::stdout();
    if args.json {
        hits.iter().try_for_each(|hit| json_line(&mut out, hit))?;
    } else {
        let screen = Screen::of_stdout(env);
        hits.iter().try_for_each(|hit| write_hit(hit, screen, &TimeZone::system(), &mut out))?;
        writeln!(out, "{}", screen.dim(&summary(hits.len() as u64, total)))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn summary(shown: u64, total: u64) -> String {
    match (shown, total) {
        (_, 0) => "nothing found".into(),
        (shown, MAX_COUNTED) => {
            format!("{} of more than {} messages", quantity::count(shown), quantity::count(MAX_COUNTED))
        }
        (shown, total) if shown < total => {
            format!("{} of {}; --limit shows more", quantity::count(shown), quantity::counted(total, "message"))
        }
        (_, total) => quantity::counted(total, "message"),
    }
}

fn write_hit(hit: &SearchHit, screen: Screen, zone: &TimeZone, out: &mut dyn Write) -> io::Result<()> {
    let place = format!("{} #{}", hit.conversation_id, hit.turn);
    let when = quantity::date_time(hit.created_at, zone);
    writeln!(out, "{} {} {}", screen.bold(&place), one_line(&hit.role), screen.dim(&when))?;
    let snippet = neutralise(&hit.snippet);
    let mut marked = false;
    for line in wrap(snippet.trim(), screen.width.map(|w| w - INDENT.len())) {
        writeln!(out, "{INDENT}{}", highlight(&line, &mut marked, screen))?;
    }
    writeln!(out)
}

/// Colours what stands between `[` and `]`; the brackets stay, so that nothing is lost where the text has some of its own.
/// `marked` carries a match over the end of a line.
fn highlight(line: &str, marked: &mut bool, screen: Screen) -> String {
    let mut painted = String::new();
    for piece in line.split_inclusive(['[', ']']) {
        let (text, bracket) = match piece.strip_suffix(['[', ']']) {
            Some(text) => (text, &piece[text.len()..]),
            None => (piece, ""),
        };
        painted.push_str(&if *marked { screen.yellow(text) } else { text.to_owned() });
        painted.push_str(&screen.dim(bracket));
        match bracket {
            "[" => *marked = true,
            "]" => *marked = false,
            _ => {}
        }
    }
    painted
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn hit(snippet: &str) -> SearchHit {
        SearchHit {
            conversation_id: Uuid::from_u128(1),
            session_id: "s".into(),
            message_id: Uuid::from_u128(2),
            turn: 3,
            role: "assistant".into(),
            content: snippet.into(),
            snippet: snippet.into(),
            rank: 1.0,
            created_at: Timestamp(1_795_350_483_000_000),
            conversation_metadata: serde_json::json!({}),
        }
    }

    fn shown(snippet: &str, screen: Screen) -> String {
        let mut out = Vec::new();
        write_hit(&hit(snippet), screen, &TimeZone::UTC, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_hit_says_where_who_when_and_what() {
        assert_eq!(
            shown("…the [parser] broke\u{7}", Screen::default()),
            "00000000-0000-0000-0000-000000000001 #3 assistant 2026-11-22 12:28:03\n    …the [parser] broke␇\n\n"
        );
    }

    #[test]
    fn matches_are_coloured_even_over_the_end_of_a_line() {
        let text = shown("[a\nb] c", Screen { width: Some(80), colour: true });
        assert!(text.contains("\u{1b}[33ma\u{1b}[0m\n    \u{1b}[33mb\u{1b}[0m\u{1b}[2m]\u{1b}[0m c"), "{text:?}");
    }

    #[test]
    fn the_summary_tells_what_is_left_out() {
        assert_eq!(summary(20, 1234), "20 of 1,234 messages; --limit shows more");
        assert_eq!(summary(1, 1), "1 message");
        assert_eq!(summary(0, 0), "nothing found");
    }
}
