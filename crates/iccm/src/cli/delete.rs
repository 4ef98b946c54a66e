//! `iccm delete`: erase a conversation's content.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use winni::model::{Conversation, Deletion};

use super::reading;
use crate::config::Config;
use crate::render::safe::one_line;
use crate::render::{json_line, quantity, screen};

#[derive(Args)]
pub(crate) struct DeleteArgs {
    /// The conversation's id, or the beginning of it
    conversation: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: DeleteArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = reading::open(config).await?;
    let conversation = reading::conversation(store.as_ref(), &args.conversation).await?;
    if !args.yes && !confirmed(&conversation)? {
        bail!("nothing was erased");
    }
    let erased = match store.delete_conversation(conversation.id, true).await? {
        Deletion::Deleted { messages } => messages,
        Deletion::Unknown | Deletion::Kept { .. } => bail!("conversation {} is gone already", conversation.id),
    };
    let mut out = screen::stdout();
    if args.json {
        let result =
            serde_json::json!({"conversation_id": conversation.id, "deleted": true, "messages_deleted": erased});
        json_line(&mut out, &result)?;
    } else {
        writeln!(out, "erased conversation {}: {}", conversation.id, quantity::counted(erased, "message"))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn confirmed(conversation: &Conversation) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        bail!("erasing cannot be undone and there is no terminal to ask on; add --yes");
    }
    let title = conversation.title.as_deref().map(|title| format!(" “{}”", one_line(title))).unwrap_or_default();
    let turns = quantity::counted(conversation.message_count, "turn");
    let question = format!("Erase conversation {}{title} ({turns}) for good?", conversation.id);
    screen::confirm(&question).context("cannot ask on the terminal")
}
