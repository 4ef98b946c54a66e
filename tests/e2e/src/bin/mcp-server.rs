//! A scripted MCP server: `mcp-server (stdio | ws PORT | http PORT) (legacy | modern | silent) NAME`.
//!
//! Prints the port on stdout (ws, http) once it listens; port 0 takes a free one. `silent` is a legacy server that does not
//! answer what it does not know.

use e2e::mcp_server::{Era, Server, transports};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let era = |word: &str| match word {
        "legacy" => Era::Legacy,
        "modern" => Era::Modern,
        "silent" => Era::Silent,
        other => panic!("unknown era {other}"),
    };
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["stdio", speaks, name] => transports::stdio(Server::new(era(speaks), name)).await,
        ["ws", port, speaks, name] => {
            transports::ws(transports::listen(port.parse().expect("a port")).await, Server::new(era(speaks), name))
                .await
        }
        ["http", port, speaks, name] => {
            transports::http(transports::listen(port.parse().expect("a port")).await, Server::new(era(speaks), name))
                .await;
        }
        other => panic!("unknown words {other:?}"),
    }
}
