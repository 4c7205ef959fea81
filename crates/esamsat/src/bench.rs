//! stub
#[derive(clap::Args)]
pub struct Arguments {}
pub async fn run(_: Arguments, _: bool) -> anyhow::Result<()> { Ok(()) }
pub mod reference { 
pub async fn run() -> anyhow::Result<()> { Ok(()) } }
