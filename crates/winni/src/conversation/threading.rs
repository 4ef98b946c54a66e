//! Where a request's history belongs: which known line of messages it continues, or where it leaves one.
//!
//! Histories are compared by [`Chain`]: the identity of everything up to a message. The longest known beginning of a
//! history decides. Nothing here asks a database; the caller answers [`place`]'s questions from whatever it has.

use super::identity::{self, Chain, MessageDigest, Role};

/// A place in a known conversation at which the history so far is the one asked about.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) conversation: i64,
    /// The turn that ends the history asked about.
    pub(crate) turn: u64,
    /// The conversation's last turn.
    pub(crate) tip: u64,
    /// Whether the last turn is whole; false for an answer that broke off.
    pub(crate) tip_complete: bool,
    /// Whether it belongs to the session (and, within it, the agent) that is asking.
    pub(crate) local: bool,
}

/// Where a history belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It continues this conversation: its first `known` messages are the conversation's turns 1 to `known`. Turns
    /// beyond that (an answer that broke off, which the client dropped) give way to the history's.
    Continue { conversation: i64, known: u64 },
    /// It shares the first `turn` turns with this conversation and then says something else.
    Fork { conversation: i64, turn: u64 },
    /// Nothing of it is known.
    New,
}

/// One message of a history.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) role: Role,
    pub(crate) chain: Chain,
}

/// The chains of a history.
pub(crate) fn steps(messages: impl IntoIterator<Item = (Role, MessageDigest)>) -> Vec<Step> {
    let mut before = identity::EMPTY;
    messages
        .into_iter()
        .map(|(role, digest)| {
            before = identity::continued(&before, &digest);
            Step { role, chain: before }
        })
        .collect()
}

/// Finds the place of a history. `find` gives the known places of its first so many messages, whose chain that is. With `named_session` the client says
/// which session it is in; without, only what it says can tell, and a prompt alone is too little to go by.
pub(crate) fn place<E>(
    history: &[Step],
    named_session: bool,
    mut find: impl FnMut(u64, &Chain) -> Result<Vec<Known>, E>,
) -> Result<Place, E> {
    let first_answer = history.iter().position(|s| s.role == Role::Assistant).unwrap_or(usize::MAX);
    for (index, step) in history.iter().enumerate().rev() {
        let length = index as u64 + 1;
        let answered = index >= first_answer;
        let known = find(length, &step.chain)?;
        let local = known.iter().filter(|k| k.local && (named_session || answered || is_open(k)));
        if let Some(best) = local.max_by_key(|k| (is_open(k), k.conversation)) {
            let resent = index + 1 == history.len();
            return Ok(if resent || is_open(best) {
                Place::Continue { conversation: best.conversation, known: length }
            } else {
                Place::Fork { conversation: best.conversation, turn: length }
            });
        }
        // Another session's history: the same first prompt is a coincidence, the same answer is not.
        if let Some(other) = known.iter().filter(|k| !k.local && answered).max_by_key(|k| k.conversation) {
            return Ok(Place::Fork { conversation: other.conversation, turn: length });
        }
    }
    Ok(Place::New)
}

/// Whether a history may go on from here without contradicting the conversation.
fn is_open(known: &Known) -> bool {
    known.tip == known.turn || (known.tip == known.turn + 1 && !known.tip_complete)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use serde_json::json;

    use super::*;

    fn history(messages: &[(Role, &str)]) -> Vec<Step> {
        steps(messages.iter().map(|(role, text)| (*role, identity::digest(*role, &json!(text)))))
    }

    const PROMPT: (Role, &str) = (Role::User, "prompt");
    const ANSWER: (Role, &str) = (Role::Assistant, "answer");

    /// Places `asked` where one conversation with the messages of `line` is known.
    fn place_beside(
        asked: &[(Role, &str)],
        line: &[(Role, &str)],
        local: bool,
        named: bool,
        tip_complete: bool,
    ) -> Place {
        let line = history(line);
        place(&history(asked), named, |_, chain| {
            Ok::<_, Infallible>(
                line.iter()
                    .position(|s| s.chain == *chain)
                    .map(|at| Known {
                        conversation: 7,
                        turn: at as u64 + 1,
                        tip: line.len() as u64,
                        tip_complete,
                        local,
                    })
                    .into_iter()
                    .collect(),
            )
        })
        .unwrap()
    }

    #[test]
    fn the_next_turn_continues_the_line() {
        let next = [PROMPT, ANSWER, (Role::User, "more")];
        assert_eq!(
            place_beside(&next, &[PROMPT, ANSWER], true, true, true),
            Place::Continue { conversation: 7, known: 2 }
        );
        assert_eq!(
            place_beside(&next, &[PROMPT, ANSWER], true, false, true),
            Place::Continue { conversation: 7, known: 2 }
        );
    }

    #[test]
    fn the_same_request_again_is_no_new_turn() {
        assert_eq!(place_beside(&[PROMPT], &[PROMPT], true, true, true), Place::Continue { conversation: 7, known: 1 });
        assert_eq!(
            place_beside(&[PROMPT], &[PROMPT, ANSWER], true, true, true),
            Place::Continue { conversation: 7, known: 1 }
        );
    }

    #[test]
    fn a_rewind_forks_where_the_lines_part() {
        let line = [PROMPT, ANSWER, (Role::User, "this way"), (Role::Assistant, "ok")];
        let rewound = [PROMPT, ANSWER, (Role::User, "no, that way")];
        assert_eq!(place_beside(&rewound, &line, true, true, true), Place::Fork { conversation: 7, turn: 2 });
    }

    #[test]
    fn an_answer_that_broke_off_gives_way() {
        let after_interrupt = [PROMPT, (Role::User, "stop, do this")];
        assert_eq!(
            place_beside(&after_interrupt, &[PROMPT, ANSWER], true, true, false),
            Place::Continue { conversation: 7, known: 1 }
        );
    }

    #[test]
    fn a_forked_session_names_the_session_it_came_from() {
        let asked = [PROMPT, ANSWER, (Role::User, "elsewhere")];
        assert_eq!(
            place_beside(&asked, &[PROMPT, ANSWER], false, true, true),
            Place::Fork { conversation: 7, turn: 2 }
        );
    }

    #[test]
    fn the_same_prompt_in_another_session_is_a_coincidence() {
        assert_eq!(place_beside(&[PROMPT], &[PROMPT, ANSWER], false, true, true), Place::New);
        assert_eq!(place_beside(&[PROMPT], &[PROMPT, ANSWER], true, false, true), Place::New, "no session is named");
    }

    #[test]
    fn a_retry_without_a_session_finds_its_unanswered_prompt() {
        assert_eq!(
            place_beside(&[PROMPT], &[PROMPT], true, false, true),
            Place::Continue { conversation: 7, known: 1 }
        );
    }
}
