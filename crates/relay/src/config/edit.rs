//! Adding and removing an entry in the text of an `mcpServers` file, the rest of which stays as it is.

use serde_json::value::RawValue;
use wire::json_rpc::{Edits, Member, members, text};

/// The text with one more entry (JSON). An empty text becomes a file.
pub(crate) fn added(file: &str, name: &str, entry: &str) -> Option<String> {
    if file.trim().is_empty() {
        return added("{\n  \"mcpServers\": {}\n}\n", name, entry);
    }
    let root: &RawValue = serde_json::from_str(file).ok()?;
    let mut edits = Edits::of_text(file);
    match members(root)?.iter().find(|member| member.name == "mcpServers") {
        Some(servers) => {
            let existing = members(servers.value)?;
            let (comma, end) = (if existing.is_empty() { "" } else { "," }, servers.value.get().len() - 1);
            // The space before the closing brace goes behind the new entry, so that the brace keeps its place.
            let inside = &servers.value.get()[1..end];
            let space = inside.len() - inside.trim_end().len();
            let place = edits.range(servers.value)?.end - 1;
            edits.cut(place - space..place);
            edits.append(servers.value, &format!("{comma}\n    {}: {entry}\n  ", text(name)));
        }
        None => {
            let comma = if members(root)?.is_empty() { "" } else { "," };
            edits.append(root, &format!("{comma}\n  \"mcpServers\": {{\n    {}: {entry}\n  }}\n", text(name)));
        }
    }
    String::from_utf8(edits.finish()).ok()
}

/// The text without an entry; `None` if there is no such entry.
pub(crate) fn removed(file: &str, name: &str) -> Option<String> {
    let root: &RawValue = serde_json::from_str(file).ok()?;
    let servers = members(root)?.into_iter().find(|member| member.name == "mcpServers")?.value;
    let entries: Vec<Member<'_>> = members(servers)?;
    let index = entries.iter().position(|member| member.name == name)?;
    let mut edits = Edits::of_text(file);
    let end = |member: &Member<'_>| edits.range(member.value).map(|range| range.end);
    let start_of_object = edits.range(servers)?.start + 1;
    let from = match index.checked_sub(1) {
        Some(before) => end(&entries[before])?,
        None => start_of_object,
    };
    let mut to = end(&entries[index])?;
    if index == 0 && entries.len() > 1 {
        to += file.get(to..)?.find(',')? + 1;
    }
    edits.cut(from..to);
    String::from_utf8(edits.finish()).ok()
}
