//! A model API without a model: answers scripts on loopback until it is stopped, so that a recording can be tried
//! without a key.
//!
//! `fake-api [--listen ADDRESS:PORT] [--seed N] [--log FILE]`

use std::fs::File;
use std::process::ExitCode;

use e2e::fake_api::{FakeApi, Options};

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("fake-api: {problem}; usage: fake-api [--listen 127.0.0.1:PORT] [--seed N] [--log FILE]");
            return ExitCode::from(2);
        }
    };
    let api = FakeApi::with(options);
    println!("The fake model API listens on {}", api.url());
    api.serve_forever();
    ExitCode::SUCCESS
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { listen: ([127, 0, 0, 1], 8088).into(), ..Options::default() };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--listen" => options.listen = value.parse().map_err(|e| format!("--listen {value}: {e}"))?,
            "--seed" => options.seed = value.parse().map_err(|e| format!("--seed {value}: {e}"))?,
            "--log" => options.log_file = Some(File::create(&value).map_err(|e| format!("--log {value}: {e}"))?),
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(options)
}
