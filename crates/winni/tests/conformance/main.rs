//! What every backend of the data lake must do, asked through [`winni::store::Store`] alone.
//!
//! Each behaviour is a function over a [`lake::Lake`]; `behaviours!` runs each of them on every backend. A backend plugs in
//! with a function that makes an empty database and a line below.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in tests a panic is how a failure is told")]

mod agent;
mod apis;
mod captured;
mod contexts;
mod differential;
mod erasing;
mod events;
mod frames;
mod indexing;
mod lake;
mod moving;
mod postgres_role;
mod postgres_size;
mod postgres_tls;
mod search;
mod sqlite_file;
mod stored;
mod turns;

/// Runs every behaviour on a backend, in a database of its own.
macro_rules! backend {
    ($backend:ident, $database:expr, $($module:ident { $($behaviour:ident),* $(,)? })*) => {
        mod $backend {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    crate::$module::$behaviour(crate::lake::Lake::open($database).await).await;
                })*
            })*
        }
    };
}

/// The list of behaviours; one that is missing here is dead code, and so fails the build.
macro_rules! behaviours {
    ($backend:ident, $database:expr) => {
        backend! { $backend, $database,
            captured {
                a_growing_session_is_one_conversation_and_every_body_comes_back,
                a_batch_handed_in_again_adds_nothing,
                a_batch_of_many_exchanges_says_what_many_batches_say,
                a_retry_adds_no_turn_and_a_broken_answer_gives_way_to_the_whole_one,
                an_interrupted_answer_is_replaced_by_what_the_client_kept_of_it,
                a_rewind_is_a_fork_that_shares_its_beginning,
                a_forked_session_and_an_answer_given_twice_are_forks,
                sub_agents_name_their_parents,
                side_calls_belong_to_the_session_and_not_to_a_line,
                clients_without_a_session_are_told_apart_by_their_history,
                what_is_no_json_or_too_large_comes_back_as_well,
            }
            apis {
                gemini_and_ollama_read_like_any_other_api_and_every_body_comes_back,
                a_gemini_answer_that_breaks_off_is_kept_as_far_as_it_came,
            }
            stored {
                a_stored_conversation_reads_like_a_captured_one,
                all_messages_are_stored_or_none,
                a_captured_conversation_is_not_added_to,
                stored_messages_leave_captured_lines_alone,
                lists_have_an_order_a_page_and_a_total,
                hostile_texts_come_back_as_they_are,
                a_large_conversation_comes_back_whole,
                a_call_that_fails_leaves_those_beside_it_alone,
            }
            turns {
                many_writers_give_out_turns_without_gap_or_double,
                a_wish_for_a_turn_is_kept_by_one_writer_only,
            }
            contexts {
                a_context_has_versions_and_one_is_active,
                two_that_are_made_active_at_once_leave_one,
                the_active_context_is_deleted_only_by_force,
            }
            search {
                words_are_found_once_however_often_they_were_resent,
                stored_and_captured_messages_are_found_alike,
                words_phrases_prefixes_and_exclusions_find_what_they_say,
                a_query_that_cannot_be_meant_is_refused,
                a_message_of_very_long_words_is_indexed_like_any_other,
                filters_narrow_among_the_words_and_as_fields,
                titles_and_what_people_said_come_before_dumps,
                a_title_is_found_whenever_it_was_given,
                results_have_pages_and_a_total,
                more_matches_than_anyone_reads_have_an_order_too,
                a_fork_s_inheritance_is_found_in_its_own_session,
            }
            indexing {
                what_goes_while_it_is_indexed_is_not_found,
                a_title_that_comes_while_its_message_is_indexed_is_found,
            }
            erasing {
                a_conversation_with_messages_goes_only_by_force,
                what_others_share_stays,
                equal_contents_stay_while_one_message_has_them,
            }
            frames {
                messages_come_back_exactly_and_once,
                a_call_belongs_to_the_conversation_whose_model_asked,
                a_call_that_relay_and_spy_have_both_seen_is_one,
                a_session_that_the_client_names_goes_first,
                failures_and_silence_are_told,
                messages_within_http_exchanges_are_found,
                an_erased_conversation_takes_its_tool_calls_with_it,
                the_session_whose_model_made_a_call_is_known,
            }
            moving {
                a_record_moves_whole_and_goes_on,
                a_record_without_months_comes_to_stand_in_its_newest_one,
                a_conversation_goes_on_where_it_was_moved_to,
                a_second_move_finds_everything_there,
                what_holds_something_else_is_no_destination,
                an_interrupted_move_keeps_others_out_and_is_taken_up,
                what_the_source_gets_at_the_last_moment_is_not_left_behind,
            }
            events {
                exchanges_and_messages_of_both_kinds_are_told_once,
            }
        }
    };
}

behaviours!(sqlite, crate::lake::sqlite());
behaviours!(postgres, crate::lake::postgres());
