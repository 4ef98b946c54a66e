//! Model providers without models: Gemini, OpenAI, Together, xAI, Anthropic and Ollama on one loopback address, so that Fiedler
//! can be tried without a key.
//!
//! `fake-providers [ADDRESS:PORT]`

use std::process::ExitCode;

use e2e::providers::Providers;

fn main() -> ExitCode {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8087".to_owned());
    let Ok(listen) = listen.parse() else {
        eprintln!("fake-providers: `{listen}` is no address; usage: fake-providers [127.0.0.1:PORT]");
        return ExitCode::from(2);
    };
    let providers = Providers::start(listen);
    println!("The fake providers listen on {}; send them here with:\n", providers.url());
    for (name, value) in providers.variables() {
        println!("  export {name}={value}");
    }
    loop {
        std::thread::park();
    }
}
