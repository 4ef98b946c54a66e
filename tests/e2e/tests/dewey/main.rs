//! Dewey as its clients see it: the official SDKs, the real Claude Code, and whoever means no good.
//!
//! Whatever touches the record runs on both databases; those in PostgreSQL share one server of their own.

mod clients;
mod files;
mod hostile;
mod server;
mod together;

use std::net::{TcpListener, TcpStream};

use e2e::process::Running;
use e2e::recorder::Place;
use serde_json::json;
use server::{Backend, Dewey};

/// Runs every case on both databases.
macro_rules! on_both {
    ($($module:ident { $($case:ident),* $(,)? })*) => {
        mod sqlite { on_both! { @on Sqlite $($module { $($case)* })* } }
        mod postgres { on_both! { @on Postgres $($module { $($case)* })* } }
    };
    (@on $backend:ident $($module:ident { $($case:ident)* })*) => {
        $(mod $module { $(
            #[test]
            fn $case() {
                crate::$module::$case(crate::server::Backend::$backend);
            }
        )* })*
    };
}

on_both! {
    clients {
        the_typescript_sdk_calls_all_tools_over_both_transports,
        the_python_sdk_calls_all_tools_over_both_transports_and_in_both_eras,
        the_real_claude_code_uses_dewey_over_ws_and_http,
        a_transcript_of_claude_code_becomes_a_conversation,
        a_captured_conversation_is_read_like_a_stored_one_and_cannot_be_added_to,
    }
    hostile {
        hostile_arguments_are_refused_by_name_and_nothing_is_stored,
        every_parameter_of_every_tool_refuses_what_it_cannot_be,
        fifty_megabytes_where_they_do_not_belong_are_refused,
        hostile_texts_come_back_as_they_were_given,
        fifty_megabytes_come_back_whole_and_too_much_is_refused,
    }
    together {
        many_writers_of_one_conversation_get_turns_without_gap_or_double,
        one_startup_context_is_active_however_many_are_set_at_once,
    }
    files {
        files_come_from_import_folders_alone,
    }
}

#[test]
fn what_dewey_is_given_stands_in_the_database_that_it_was_told() {
    let cluster = e2e::postgres::shared();
    let database = cluster.database();
    let dewey = Dewey::at(Place::new().with_arguments(&["--database", database.url()]));
    let message = json!({"conversation_id": dewey.begin(), "role": "user", "content": "an albatross in a cluster"});
    dewey.mcp.call("dewey_store_message", &message).json();
    let found =
        e2e::wait::until("what was stored to be found", || dewey.place.json_lines(&["search", "albatross"]).pop());
    assert_eq!(found["conversation_id"], message["conversation_id"]);
    assert_eq!(cluster.sql(database.name(), "SELECT count(*) FROM iccm.message"), "1");
    assert!(!dewey.place.data_dir().join("iccm.db").exists());
    dewey.stop();
}

#[test]
fn a_web_page_cannot_reach_dewey_by_dns_rebinding() {
    let dewey = Dewey::start(Backend::Sqlite);
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for (name, value) in
        [("host", "evil.example"), ("host", "127.0.0.1.evil.example:9020"), ("origin", "http://evil.example")]
    {
        assert_eq!(dewey.mcp.post(ping, &[(name, value)]).0, 403, "{name}: {value}");
    }
    assert_eq!(dewey.mcp.post(ping, &[("host", "localhost"), ("origin", "http://localhost:3000")]).0, 200);
    dewey.stop();
}

/// Who comes as soon as there is a gateway may ask for the servers' tools only once.
#[test]
fn dewey_and_fiedler_serve_before_the_database_has_been_waited_for() {
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://iccm@{}/iccm", silent.local_addr().unwrap());
    let place = Place::new().with_arguments(&["--database", &url]);
    let is_early = || {
        // On an address of their own, where nobody else takes the ports meanwhile.
        let free = || TcpListener::bind("127.0.77.1:0").unwrap();
        let servers = [free(), free()].map(|listener| listener.local_addr().unwrap());
        let mut command = place.command(["up", "--json", "--upstream", "http://127.0.0.1:1"]);
        command.args(["--gateway-listen", "127.0.0.1:0", "--spy-listen", "127.0.0.1:0"]);
        for (part, address) in ["dewey", "fiedler"].into_iter().zip(servers) {
            command.args([format!("--{part}-listen"), address.to_string()]);
        }
        let running = Running::start(command);
        e2e::wait::until("both servers", || servers.iter().all(|at| TcpStream::connect(at).is_ok()).then_some(()));
        !running.stderr().contains("the database is not open")
    };
    // The database is waited for a second; a machine that is busy enough may take that from us.
    assert!((0..5).any(|_| is_early()), "the servers came after the wait for the database");
}
