//! The reference: the same web stack with nothing behind it, as a child process of the same executable.
//!
//! It measures the machine in the very run that measures the gateway. A process of its own, since the gateway
//! is one too. It ends when its stdin does, so that it never outlives whoever started it.

use super::target::{Credentials, Target};
use crate::output;
use anyhow::Context;
use std::{io, net::SocketAddr, process::Stdio, rc::Rc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const START_WITHIN: Duration = Duration::from_secs(10);
const END_WITHIN: Duration = Duration::from_secs(2);

/// Serves the reference on a free port, writes its address to stdout, and ends with stdin.
pub(crate) async fn run() -> anyhow::Result<()> {
    let listener = web::listen(SocketAddr::from(([127, 0, 0, 1], 0))).context("failed to listen")?;
    let address = listener.local_addr().context("failed to learn the own address")?;
    // The gateway counts its requests, so the reference does as well.
    let _recorder = crate::serve::record_metrics()?;
    let stopping = CancellationToken::new();
    let serving = tokio::spawn(web::serve(
        listener,
        web::reference_router(),
        web::Settings::default(),
        stopping.clone(),
    ));
    output::line(format!("http://{address}"));
    let until_closed = || io::copy(&mut io::stdin().lock(), &mut io::sink());
    tokio::task::spawn_blocking(until_closed).await?.context("failed to wait for the end of stdin")?;
    stopping.cancel();
    serving.await.context("the reference's server panicked")
}

/// The reference at work. Dropping it kills it.
pub(super) struct Child {
    /// Where it listens.
    pub(super) target: Rc<Target>,
    process: tokio::process::Child,
}

impl Child {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let executable = std::env::current_exe().context("failed to find the own executable")?;
        let mut process = Command::new(executable)
            .arg("bench-reference")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("failed to start the reference")?;
        let stdout = process.stdout.take().expect("stdout is piped");
        let mut address = String::new();
        let read = timeout(START_WITHIN, BufReader::new(stdout).read_line(&mut address)).await;
        read.context("the reference did not start in time")?
            .context("failed to read the reference's address")?;
        let url =
            address.trim().parse().map_err(anyhow::Error::msg).context("the reference did not start")?;
        let target = Rc::new(Target::resolve(url, vec![Credentials::new("dummy", "dummy123")]).await?);
        Ok(Self { target, process })
    }

    /// Ends it, in peace if possible.
    pub(super) async fn end(mut self) {
        drop(self.process.stdin.take());
        if timeout(END_WITHIN, self.process.wait()).await.is_err() {
            // It ends with its handle at the latest.
            let _gone = self.process.kill().await;
        }
    }
}
