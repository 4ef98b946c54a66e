//! What all backends offer, as one list, and where each name leads.
//!
//! Guaranteed: the order does not depend on which backend answered first (the relay's own tools, then by server and name).
//! A tool or prompt keeps its own name; where several servers have the same one, or the configuration asks for it, all of
//! them are called `SERVER_NAME`. Whether names collide is judged over everything ever listed by the configured servers, so
//! that a name does not change because another server is away.
//! Refused: a tool whose name is too long for the client. It is not listed, and [`Catalog::problems`] says so.

pub(crate) mod param_headers;
mod template;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::value::RawValue;
use wire::json_rpc::{Edits, text};

use self::param_headers::{ParamHeader, annotations};
use self::template::Template;
use crate::protocol::{ListKind, Params};

/// An entry of a backend's list, as the backend wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) key: String,
    pub(crate) json: Arc<str>,
}

/// What a backend listed last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lists(pub(crate) BTreeMap<ListKind, Vec<Item>>);

impl Lists {
    pub(crate) fn of(&self, kind: ListKind) -> &[Item] {
        self.0.get(&kind).map(Vec::as_slice).unwrap_or_default()
    }
}

/// A backend, seen from here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) server: &'a str,
    pub(crate) lists: &'a Lists,
    /// It is there now, so what it offers is listed.
    pub(crate) listed: bool,
    /// Its tools and prompts always carry its name.
    pub(crate) prefix: bool,
    /// Its tools may ask for headers (Streamable HTTP).
    pub(crate) is_http: bool,
}

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// `None`: one of the relay's own tools.
    pub(crate) server: Option<String>,
    /// The name at the backend.
    pub(crate) name: String,
    pub(crate) headers: Arc<[ParamHeader]>,
}

/// The merged lists and the ways.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    lists: HashMap<ListKind, Arc<str>>,
    tools: HashMap<String, Route>,
    prompts: HashMap<String, Route>,
    /// Names that stand for several tools, and what those are called.
    ambiguous: HashMap<(ListKind, String), Vec<String>>,
    resources: HashMap<String, String>,
    templates: Vec<(String, Template, String)>,
    /// What is not listed, and why; each names its server.
    pub(crate) problems: Vec<(String, String)>,
}

impl Catalog {
    /// Merges. `own` are the relay's own tools; `limit` is how many characters a tool's name may have.
    pub(crate) fn merge(own: &[Item], sources: &[Source<'_>], limit: usize) -> Self {
        let mut catalog = Self::default();
        for kind in [ListKind::Tools, ListKind::Prompts] {
            catalog.merge_named(kind, own, sources, limit);
        }
        catalog.merge_resources(sources);
        catalog.merge_templates(sources);
        catalog
    }

    /// The array of a list, as JSON.
    pub(crate) fn list(&self, kind: ListKind) -> Arc<str> {
        self.lists.get(&kind).cloned().unwrap_or_else(|| "[]".into())
    }

    /// Where a tool or prompt is, or what to say to whoever asks for it.
    pub(crate) fn route(&self, kind: ListKind, name: &str) -> Result<&Route, String> {
        let routes = if kind == ListKind::Tools { &self.tools } else { &self.prompts };
        let what = if kind == ListKind::Tools { "tool" } else { "prompt" };
        routes.get(name).ok_or_else(|| match self.ambiguous.get(&(kind, name.to_owned())) {
            Some(names) => format!("several servers have a {what} {name}; call one of {}", names.join(", ")),
            None => format!("Unknown {what}: {name}"),
        })
    }

    /// The backend that has a resource, by the lists, else by the templates, else because only one has resources.
    pub(crate) fn resource(&self, uri: &str, with_resources: &[&str]) -> Option<String> {
        if let Some(server) = self.resources.get(uri) {
            return Some(server.clone());
        }
        let matching = self.templates.iter().filter_map(|(_, t, server)| Some((t.matches(uri)?, server)));
        // Of equally exact ones the first: `max_by_key` would take the last.
        if let Some((_, server)) = matching.reduce(|best, next| if next.0 > best.0 { next } else { best }) {
            return Some(server.clone());
        }
        let scheme = uri.split(':').next().unwrap_or_default();
        let mut same: Vec<&String> = self
            .resources
            .iter()
            .filter(|(known, _)| known.split(':').next() == Some(scheme))
            .map(|(_, s)| s)
            .collect();
        same.sort();
        same.dedup();
        match (same.as_slice(), with_resources) {
            ([only], _) => Some((*only).clone()),
            (_, [only]) => Some((*only).to_owned()),
            _ => None,
        }
    }

    /// The backend that has a template (for completions).
    pub(crate) fn template(&self, text: &str) -> Option<String> {
        self.templates.iter().find(|(known, _, _)| known == text).map(|(_, _, server)| server.clone())
    }

    fn merge_named(&mut self, kind: ListKind, own: &[Item], sources: &[Source<'_>], limit: usize) {
        let own = if kind == ListKind::Tools { own } else { &[] };
        let mut listed: Vec<Arc<str>> = own.iter().map(|item| item.json.clone()).collect();
        let names = exposed_names(kind, own, sources);
        let mut routes: HashMap<String, Route> = own.iter().map(|item| (item.key.clone(), own_route(item))).collect();
        let mut ambiguous: HashMap<(ListKind, String), Vec<String>> = HashMap::new();
        for (source, item, exposed) in names {
            if exposed != item.key {
                ambiguous.entry((kind, item.key.clone())).or_default().push(exposed.clone());
            }
            let headers = if source.is_http { headers_of(kind, item) } else { Ok(Vec::new()) };
            let problem = too_long(kind, &exposed, limit).or_else(|| headers.as_ref().err().cloned());
            if let Some(problem) = problem {
                self.problems.push((source.server.to_owned(), problem));
                continue;
            }
            if source.listed {
                listed.push(renamed(kind, item, &exposed));
            }
            let (server, name) = (Some(source.server.to_owned()), item.key.clone());
            routes.insert(exposed, Route { server, name, headers: headers.unwrap_or_default().into() });
        }
        self.lists.insert(kind, array(&listed));
        ambiguous.retain(|(_, name), _| !routes.contains_key(name));
        self.ambiguous.extend(ambiguous);
        *(if kind == ListKind::Tools { &mut self.tools } else { &mut self.prompts }) = routes;
    }

    /// URIs are not renamed: they stand in results, too. Of two servers with the same one the first by name has it.
    fn merge_resources(&mut self, sources: &[Source<'_>]) {
        let mut listed = Vec::new();
        for source in sources.iter().filter(|source| source.listed) {
            for item in sorted(source, ListKind::Resources) {
                match self.resources.get(&item.key) {
                    Some(other) if other != source.server => {
                        let problem = format!("resource {} is not listed: {other} has the same URI", item.key);
                        self.problems.push((source.server.to_owned(), problem));
                    }
                    Some(_) => {}
                    None => {
                        self.resources.insert(item.key.clone(), source.server.to_owned());
                        listed.push(item.json.clone());
                    }
                }
            }
        }
        self.lists.insert(ListKind::Resources, array(&listed));
    }

    fn merge_templates(&mut self, sources: &[Source<'_>]) {
        let mut listed = Vec::new();
        for source in sources.iter().filter(|source| source.listed) {
            for item in sorted(source, ListKind::Templates) {
                self.templates.push((item.key.clone(), Template::new(&item.key), source.server.to_owned()));
                listed.push(item.json.clone());
            }
        }
        self.lists.insert(ListKind::Templates, array(&listed));
    }
}

fn own_route(item: &Item) -> Route {
    Route { server: None, name: item.key.clone(), headers: Arc::new([]) }
}

/// Every named item with the name that the client sees, in the order of the list.
fn exposed_names<'a>(
    kind: ListKind,
    own: &[Item],
    sources: &'a [Source<'a>],
) -> Vec<(&'a Source<'a>, &'a Item, String)> {
    let all = || sources.iter().flat_map(|source| sorted(source, kind).into_iter().map(move |item| (source, item)));
    let mut servers_of: HashMap<&str, usize> = HashMap::new();
    for item in own {
        *servers_of.entry(&item.key).or_default() += 1;
    }
    for (_, item) in all() {
        *servers_of.entry(&item.key).or_default() += 1;
    }
    // What keeps its name has it before anything that is renamed can take it.
    let keeps = |source: &Source<'_>, item: &Item| !source.prefix && servers_of[item.key.as_str()] == 1;
    let mut taken: HashMap<String, ()> =
        all().filter(|(source, item)| keeps(source, item)).map(|(_, item)| (item.key.clone(), ())).collect();
    taken.extend(own.iter().map(|item| (item.key.clone(), ())));
    let mut named = Vec::new();
    for (source, item) in all() {
        if keeps(source, item) {
            named.push((source, item, item.key.clone()));
            continue;
        }
        let wanted = format!("{}_{}", source.server, item.key);
        let mut exposed = wanted.clone();
        let mut number = 2;
        while taken.insert(exposed.clone(), ()).is_some() {
            exposed = format!("{wanted}_{number}");
            number += 1;
        }
        named.push((source, item, exposed));
    }
    named
}

/// A backend's items by name, each name once.
fn sorted<'a>(source: &Source<'a>, kind: ListKind) -> Vec<&'a Item> {
    let mut items: Vec<&Item> = source.lists.of(kind).iter().collect();
    items.sort_by(|a, b| a.key.cmp(&b.key));
    items.dedup_by(|a, b| a.key == b.key);
    items
}

fn too_long(kind: ListKind, exposed: &str, limit: usize) -> Option<String> {
    let length = exposed.chars().count();
    (kind == ListKind::Tools && length > limit).then(|| {
        format!(
            "tool {exposed} is not listed: its name has {length} characters and the client takes {limit}; give the server a \
             shorter name, or the relay (\"relay\": {{\"name\": …}})"
        )
    })
}

fn headers_of(kind: ListKind, item: &Item) -> Result<Vec<ParamHeader>, String> {
    match serde_json::from_str::<&RawValue>(&item.json) {
        Ok(tool) if kind == ListKind::Tools => {
            annotations(tool).map_err(|problem| format!("tool {} is not listed: {problem}", item.key))
        }
        _ => Ok(Vec::new()),
    }
}

fn renamed(kind: ListKind, item: &Item, exposed: &str) -> Arc<str> {
    if exposed == item.key {
        return item.json.clone();
    }
    let parsed = serde_json::from_str::<&RawValue>(&item.json).ok();
    let Some(name) = parsed.and_then(|object| Params::of(Some(object)).get(kind.key())) else {
        return item.json.clone();
    };
    let mut edits = Edits::of_text(&item.json);
    edits.replace(name, text(exposed));
    String::from_utf8_lossy(&edits.finish()).as_ref().into()
}

fn array(items: &[Arc<str>]) -> Arc<str> {
    format!("[{}]", items.join(",")).into()
}

#[cfg(test)]
mod tests;
