//! `iccm exchange`: the exact bytes of a part of an exchange.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use winni::model::Part;

use super::reading;
use crate::config::Config;

#[derive(Args)]
pub(crate) struct ExchangeArgs {
    /// The exchange's id, or the beginning of it
    id: String,
    /// Which bytes; heads are sanitised, one `Name: value` a line
    #[arg(long, value_name = "PART")]
    part: PartName,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PartName {
    RequestHead,
    RequestBody,
    ResponseHead,
    ResponseBody,
}

impl From<PartName> for Part {
    fn from(name: PartName) -> Self {
        match name {
            PartName::RequestHead => Part::RequestHead,
            PartName::RequestBody => Part::RequestBody,
            PartName::ResponseHead => Part::ResponseHead,
            PartName::ResponseBody => Part::ResponseBody,
        }
    }
}

pub(super) async fn run(args: ExchangeArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = reading::open(config).await?;
    let exchange = reading::exchange(store.as_ref(), &args.id).await?;
    let mut sink = Sink::new(io::BufWriter::new(io::stdout()));
    let written = store.part(exchange.id, args.part.into(), &mut sink).await;
    sink.end().context("cannot write to standard output")?;
    match written? {
        Some(true) => Ok(ExitCode::SUCCESS),
        Some(false) => bail!(
            "exchange {} has no such part: no response came, or its content was erased (outcome: {})",
            exchange.id,
            exchange.outcome.name()
        ),
        None => bail!("there is no exchange {}; iccm exchanges lists them", exchange.id),
    }
}

/// Standard output, remembering the error that ended the writing.
pub(super) struct Sink<W> {
    out: W,
    failed: Option<io::Error>,
}

impl<W: Write> Sink<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, failed: None }
    }

    /// The store wraps the sink's error into one of its own; the sink's says more (and whether the reader just left).
    pub(super) fn end(mut self) -> io::Result<()> {
        match self.failed {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failed = Some(error);
            }
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
