//! What can be done to a record.

use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(super) enum Action {
    /// An agent goes on from the first `keep` messages of an earlier history; handed in twice, as after a crash.
    Capture {
        session: String,
        agent: bool,
        line: usize,
        keep: usize,
        say: String,
        answer: Answer,
        twice: bool,
    },
    Frame {
        connection: u8,
        to_server: bool,
        tool_use: usize,
    },
    Gap(u64),
    Begin {
        session: String,
        title: Option<String>,
    },
    Store {
        conversation: usize,
        texts: Vec<String>,
        wish: Option<u64>,
    },
    Index,
    Erase {
        conversation: usize,
        force: bool,
    },
    SetContext {
        name: String,
        content: String,
        active: bool,
    },
    DeleteContext {
        name: String,
        force: bool,
    },
    /// All matches, or how many stand on a page.
    Search {
        query: String,
        page: Option<(u64, u64)>,
    },
    List {
        session: Option<String>,
        created: bool,
        page: (u64, u64),
    },
    Turns {
        conversation: usize,
        page: (u64, u64),
    },
    Follow(u64),
    ReadAll,
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Said(String),
    BrokeOff(String),
    Failed,
    Tool(String),
}

/// The first is no name: the client named none.
pub(super) const SESSIONS: [&str; 3] = ["", "s1", "s2"];

/// Few, so that they meet.
pub(super) const WORDS: [&str; 8] = ["owl", "owls", "Crème", "brown fox", "fox", "数据库", "a\u{0}b", "'; --"];

fn session() -> impl Strategy<Value = String> {
    proptest::sample::select(SESSIONS.to_vec()).prop_map(str::to_owned)
}

fn said() -> impl Strategy<Value = String> {
    let word = proptest::sample::select(WORDS.to_vec());
    proptest::collection::vec(word, 1..4).prop_map(|words| words.join(" "))
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => said().prop_map(Answer::Said),
        2 => said().prop_map(Answer::BrokeOff),
        1 => Just(Answer::Failed),
        2 => proptest::sample::select(vec!["Bash", "Task"]).prop_map(|name| Answer::Tool(name.into())),
    ]
}

fn query() -> impl Strategy<Value = String> {
    let term = prop_oneof![
        4 => proptest::sample::select(WORDS.to_vec()).prop_map(str::to_owned),
        1 => said().prop_map(|words| format!("\"{words}\"")),
        1 => Just("ow*".to_owned()),
        1 => proptest::sample::select(WORDS.to_vec()).prop_map(|word| format!("-\"{word}\"")),
        1 => proptest::sample::select(vec!["role:user", "role:assistant", "-role:tool", "session:s1", "model:sonnet",
            "tool:Bash", "has:error", "since:2026-11-22", "until:2026-11-22", "role:nobody", "since:never"])
            .prop_map(str::to_owned),
    ];
    proptest::collection::vec(term, 1..4).prop_map(|terms| terms.join(" "))
}

fn page() -> impl Strategy<Value = (u64, u64)> {
    (0..6_u64, prop_oneof![4 => 0..6_u64, 1 => Just(u64::MAX)])
}

fn name() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["a", "b", "Ä", " "]).prop_map(str::to_owned)
}

pub(super) fn action() -> impl Strategy<Value = Action> {
    let number = any::<usize>();
    let capture = (session(), proptest::bool::weighted(0.2), number, number, said(), answer(), any::<bool>()).prop_map(
        |(session, agent, line, keep, say, answer, twice)| Action::Capture {
            session,
            agent,
            line,
            keep,
            say,
            answer,
            twice,
        },
    );
    let store = (number, proptest::collection::vec(said(), 0..4), proptest::option::weighted(0.3, 0..6_u64));
    prop_oneof![
        8 => capture,
        3 => (0..3_u8, any::<bool>(), 1..5_usize)
            .prop_map(|(connection, to_server, tool_use)| Action::Frame { connection, to_server, tool_use }),
        1 => (1..4_u64).prop_map(Action::Gap),
        2 => (session(), proptest::option::of(said())).prop_map(|(session, title)| Action::Begin { session, title }),
        4 => store.prop_map(|(conversation, texts, wish)| Action::Store { conversation, texts, wish }),
        2 => Just(Action::Index),
        2 => (number, proptest::bool::weighted(0.8))
            .prop_map(|(conversation, force)| Action::Erase { conversation, force }),
        2 => (name(), said(), any::<bool>())
            .prop_map(|(name, content, active)| Action::SetContext { name, content, active }),
        1 => (name(), any::<bool>()).prop_map(|(name, force)| Action::DeleteContext { name, force }),
        3 => (query(), proptest::option::of(page())).prop_map(|(query, page)| Action::Search { query, page }),
        2 => (proptest::option::of(session()), any::<bool>(), page())
            .prop_map(|(session, created, page)| Action::List { session, created, page }),
        2 => (number, page()).prop_map(|(conversation, page)| Action::Turns { conversation, page }),
        1 => (0..9_u64).prop_map(Action::Follow),
        1 => Just(Action::ReadAll),
    ]
}
