//! The smallest client: one streamed message to `ANTHROPIC_BASE_URL`, as a command or its children would send it.
//!
//! `send-message CASE [GATE]` prints what it is told. With a gate the answer comes event by event as the fake API's gate
//! is opened; the word `streaming` and the process id are printed as soon as the first event is there.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use e2e::http::Ending;
use e2e::raw_client::Connection;
use e2e::stage::scripted;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let case = words.first().map_or("message", String::as_str);
    let base = std::env::var("ANTHROPIC_BASE_URL").expect("ANTHROPIC_BASE_URL is set");
    let address: SocketAddr = base.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    let mut request = scripted(case, "hello", true);
    if let Some(gate) = words.get(1) {
        request = request.field("x-fake-fault", "lockstep").field("x-fake-gate", gate);
    }
    let mut connection = Connection::open(address).expect("a connection");
    connection.request(&request).expect("a request");
    let mut told = words.len() < 2;
    let seen = connection.response_seen("POST", &mut |_| {
        if !std::mem::replace(&mut told, true) {
            println!("streaming {}", std::process::id());
            std::io::stdout().flush().expect("stdout");
        }
    });
    println!("{}", String::from_utf8_lossy(&seen.body));
    if seen.ending == Ending::Complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
