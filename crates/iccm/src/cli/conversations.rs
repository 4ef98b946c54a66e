//! `iccm conversations`: what was talked about.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use jiff::tz::TimeZone;
use winni::model::{Conversation, ConversationFilter};

use super::reading;
use crate::config::{Config, Environment};
use crate::render::safe::one_line;
use crate::render::screen::{self, Screen};
use crate::render::table::{Align, Table};
use crate::render::{json_line, quantity};

#[derive(Args)]
pub(crate) struct ConversationsArgs {
    /// Only this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// JSON Lines
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: ConversationsArgs, config: &Config, env: &Environment) -> anyhow::Result<ExitCode> {
    let store = reading::open(config).await?;
    let filter = ConversationFilter { session_id: args.session, limit: args.limit, ..ConversationFilter::default() };
    let conversations = store.conversations(filter).await?;
    let mut out = screen::stdout();
    if args.json {
        conversations.iter().try_for_each(|conversation| json_line(&mut out, conversation))?;
    } else {
        table(&conversations, &TimeZone::system()).write(Screen::of_stdout(env), &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn table(conversations: &[Conversation], zone: &TimeZone) -> Table {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("UPDATED", Align::Left),
        ("TURNS", Align::Right),
        ("TOKENS IN", Align::Right),
        ("OUT", Align::Right),
        ("COST", Align::Right),
        ("MODEL", Align::Left),
        ("TITLE", Align::Left),
    ]);
    for c in conversations {
        let title = one_line(c.title.as_deref().unwrap_or(""));
        // What hangs on another conversation is told from what stands alone at a glance.
        let mark = match (&c.parent_conversation_id, &c.forked_from) {
            (Some(_), _) => "↳ ",
            (None, Some(_)) => "⑂ ",
            (None, None) => "",
        };
        table.row(vec![
            c.id.to_string(),
            quantity::date_time(c.updated_at, zone),
            quantity::count(c.message_count),
            quantity::count(c.input_tokens),
            quantity::count(c.output_tokens),
            cost(c),
            one_line(&c.models.join(",")),
            format!("{mark}{title}"),
        ]);
    }
    table
}

/// What a conversation cost; nothing is to be known of one that no exchange belongs to.
fn cost(conversation: &Conversation) -> String {
    match conversation.cost_usd {
        Some(usd) => quantity::cost(Some(usd)),
        None if conversation.exchange_count == 0 => String::new(),
        None => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use winni::model::Timestamp;

    use super::*;

    #[test]
    fn a_conversation_is_a_row_whose_title_cannot_touch_the_terminal() {
        let conversation = Conversation {
            id: Uuid::from_u128(7),
            session_id: "s".into(),
            parent_conversation_id: Some(Uuid::from_u128(1)),
            forked_from: None,
            title: Some("Find\nthe \u{1b}[31mbug".into()),
            source: "captured".into(),
            created_at: Timestamp(0),
            updated_at: Timestamp(1_795_350_483_000_000),
            message_count: 12,
            exchange_count: 6,
            models: vec!["claude-x".into()],
            input_tokens: 12_345,
            output_tokens: 678,
            cost_usd: None,
            metadata: serde_json::json!({}),
        };
        let mut out = Vec::new();
        table(&[conversation], &TimeZone::UTC).write(Screen::default(), &mut out).unwrap();
        let expected = "\
ID                                    UPDATED              TURNS  TOKENS IN  OUT  COST  MODEL     TITLE
00000000-0000-0000-0000-000000000007  2026-11-22 12:28:03     12     12,345  678     ?  claude-x  ↳ Find the ␛[31mbug
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
