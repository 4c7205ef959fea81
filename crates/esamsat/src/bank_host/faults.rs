//! `esamsat bank-host faults`: what goes wrong at a bank host that runs, looked at and set.

use super::read_faults;
use crate::{
    ask::ask,
    output::{self, Fault, line},
};
use anyhow::{Context, bail};
use bank::host::HostFaults;
use clap::{Args, Subcommand};
use hyper::{Method, StatusCode, body::Bytes};
use std::{net::SocketAddr, path::PathBuf};

/// Which host, and what about it.
#[derive(Args)]
pub struct Arguments {
    /// Where its control API listens
    #[arg(long, default_value = "127.0.0.1:9101", value_name = "ADDRESS", global = true)]
    control: SocketAddr,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Print what goes wrong, as a file for `set`.
    Show,
    /// Let go wrong what a file says (TOML), and nothing else.
    Set {
        /// The file
        file: PathBuf,
    },
    /// Let nothing go wrong any more.
    Clear,
}

/// Runs one.
pub async fn run(arguments: Arguments, as_json: bool) -> anyhow::Result<()> {
    let wanted = match &arguments.what {
        What::Show => None,
        What::Set { file } => Some(read_faults(file)?),
        What::Clear => Some(HostFaults::default()),
    };
    let faults = exchange(arguments.control, wanted.as_ref()).await?;
    if as_json {
        output::json(&faults);
        return Ok(());
    }
    match arguments.what {
        What::Show => line(toml::to_string(&faults).context("failed to write the faults")?.trim_end()),
        What::Set { file } => line(format!("From now on goes wrong what {} says.", file.display())),
        What::Clear => line("From now on nothing goes wrong."),
    }
    Ok(())
}

/// What goes wrong there, after it was set if it was to be.
async fn exchange(control: SocketAddr, wanted: Option<&HostFaults>) -> anyhow::Result<HostFaults> {
    let (method, body) = match wanted {
        None => (Method::GET, Bytes::new()),
        Some(faults) => {
            (Method::PUT, serde_json::to_vec(faults).context("failed to write the faults")?.into())
        }
    };
    let (status, body) = ask(control, method, "/faults", body).await.map_err(|error| {
        Fault::Unavailable(format!("failed to ask the bank host at {control}: {error:#}; is it running?"))
    })?;
    if status != StatusCode::OK {
        bail!("the bank host at {control} answers {status}: {}", String::from_utf8_lossy(&body).trim_end());
    }
    serde_json::from_slice(&body).context("the bank host's answer cannot be read")
}
