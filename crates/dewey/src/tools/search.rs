//! `dewey_search`.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use mcp::{Annotations, Arguments, Tool, ToolError, ToolOutput};
use serde_json::json;
use winni::model::{Role, SearchQuery, Timestamp};

use super::{MAX_NAME_BYTES, ROLES, page, refused};
use crate::{Dewey, schema};

pub(super) const NAME: &str = "dewey_search";

const MAX_QUERY_BYTES: usize = 10_000;
const MAX_TIME_BYTES: usize = 100;
/// Before it searches, a search indexes what was just stored, in so many steps at most: what is stored is found at once,
/// and a long backlog does not hold the answer up.
const INDEX_STEPS: usize = 4;

pub(super) fn tool() -> Tool {
    let result = schema::output(json!({
        "conversation_id": schema::id("The conversation"),
        "session_id": schema::text("Its session"),
        "message_id": schema::id("The message"),
        "turn": schema::count("Its place, from 1"),
        "role": schema::role(),
        "content": schema::content(),
        "snippet": schema::text("The passage around the match, matches between [ and ]"),
        "rank": {"type": "number", "description": "Higher is better"},
        "created_at": schema::time("When it was said"),
        "conversation_metadata": schema::metadata("What describes the conversation"),
    }));
    Tool {
        name: NAME,
        title: "Search messages",
        description: "Searches all messages, captured and stored, best first, each distinct message once. All words must \
                      occur; \"a phrase\", prefix*, -excluded. Filters may stand among them: role:user, model:sonnet, \
                      tool:Bash, session:ID, project:/home/ada/app, since:2026-11-01, until:2h, has:error.",
        input_schema: schema::input(
            json!({
                "query": schema::text("What to search for"),
                "session_id": schema::text("Only this session's"),
                "role": schema::role(),
                "start_date": schema::text("Not before this: RFC 3339, or a date like 2026-11-22"),
                "end_date": schema::text("Not after this: RFC 3339, or a date like 2026-11-22, the whole day"),
                "limit": schema::page_limit(),
                "offset": schema::offset(),
            }),
            &["query"],
        ),
        output_schema: schema::page_of("results", result),
        annotations: Annotations::READS,
    }
}

pub(super) async fn call(dewey: &Dewey, arguments: &Arguments) -> Result<ToolOutput, ToolError> {
    let (limit, offset) = page(arguments)?;
    let query = SearchQuery {
        text: arguments.required_text("query", MAX_QUERY_BYTES)?,
        role: arguments.one_of("role", &ROLES)?.map(|role: Role| role.name().to_owned()),
        session_id: arguments.text("session_id", MAX_NAME_BYTES)?,
        since: moment(arguments, "start_date", Edge::Start)?,
        until: moment(arguments, "end_date", Edge::End)?,
        limit,
        offset,
        ..SearchQuery::default()
    };
    dewey.index(INDEX_STEPS).await;
    let (results, total) = dewey.store.search(query).await.map_err(refused)?;
    ToolOutput::of(&json!({"results": results, "total": total, "limit": limit, "offset": offset}))
}

/// Which end of a range a moment is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    /// It belongs to the range.
    Start,
    /// It belongs to the range too; a query's end does not, so it is the moment after.
    End,
}

fn moment(arguments: &Arguments, name: &str, edge: Edge) -> Result<Option<Timestamp>, ToolError> {
    let Some(text) = arguments.text(name, MAX_TIME_BYTES)? else {
        return Ok(None);
    };
    let found = parse_moment(text.trim(), edge);
    let problem = || ToolError::parameter(name, "must be a time like 2026-11-22T10:00:00Z, or a date like 2026-11-22");
    found.map(Some).ok_or_else(problem)
}

fn parse_moment(text: &str, edge: Edge) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp(time.as_microsecond() + i64::from(edge == Edge::End)));
    }
    let date: Date = text.parse().ok().filter(|_| text.len() == 10)?;
    let first = if edge == Edge::End { date.tomorrow().ok()? } else { date };
    Some(Timestamp(first.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, edge: Edge) -> Option<String> {
        parse_moment(text, edge).map(|moment| moment.to_string())
    }

    #[test]
    fn both_ends_belong_to_the_range() {
        assert_eq!(shown("2026-11-22", Edge::Start).as_deref(), Some("2026-11-22T00:00:00.000000Z"));
        assert_eq!(shown("2026-11-22", Edge::End).as_deref(), Some("2026-11-23T00:00:00.000000Z"));
        assert_eq!(shown("2026-11-22T10:00:00+02:00", Edge::Start).as_deref(), Some("2026-11-22T08:00:00.000000Z"));
        assert_eq!(shown("2026-11-22T10:00:00Z", Edge::End).as_deref(), Some("2026-11-22T10:00:00.000001Z"));
        for wrong in ["yesterday", "2026-13-01", "2026-11-22T10:00:00", "'; DROP TABLE x", "-999999-01-01"] {
            assert_eq!(shown(wrong, Edge::Start), None, "{wrong}");
        }
    }
}
