//! `esamsat demo`: a ready sandbox on the embedded database, kept between runs.

use crate::{
    config::{Config, LogFormat, Place, Upstream},
    gateway,
    output::{Fault, line, rupiah},
    serve,
};
use anyhow::ensure;
use bank::{
    iso8583_line::{LineSettings, OneLine},
    simulator::SimulatorSettings,
};
use clap::Args;
use domain::{Account, AgentCode, Environment, Rupiah, Secret, Username, command::AddPartner};
use engine::{Ids, operate::Operations};
use std::{net::SocketAddr, sync::Arc};

/// The name of the demo's simulated bank.
pub const UPSTREAM: &str = "simulator";

/// The documented example's credentials.
const USERNAME: &str = "dummy";
const PASSWORD: &str = "dummy123";
const OPENING_BALANCE: Rupiah = Rupiah::new(10_000_000_000);

/// The flags of `demo`.
#[derive(Args)]
pub struct Arguments {
    /// Where to listen
    #[arg(long, env = "ESAMSAT_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Ask a bank behind an ISO 8583 line, such as `esamsat bank-host --profile demo`, and not the simulator
    #[arg(long, value_name = "ADDRESS")]
    bank: Option<SocketAddr>,
}

/// Prepares the sandbox, says how to use it, and serves.
pub async fn run(place: &Place, arguments: Arguments) -> anyhow::Result<()> {
    let mut config = Config::load(place)?;
    config.listen = arguments.listen;
    ensure!(
        arguments.bank.is_none() || config.upstream.is_empty(),
        Fault::Usage(
            "--bank does not go with upstreams in the configuration; leave out one of them".to_owned()
        )
    );
    if arguments.bank.is_some() && config.data == Config::default().data {
        // The other demo's products are the simulator's.
        config.data = "esamsat-demo-line".into();
    }
    if config.upstream.is_empty() {
        match arguments.bank {
            None => config.upstream.insert(UPSTREAM.to_owned(), Upstream::Simulator(demo_bank())),
            Some(address) => config.upstream.insert(LINE.to_owned(), Upstream::Iso8583(demo_line(address))),
        };
        // Short enough to see a silent bank's payment PENDING, and to watch it settle.
        config.answer_within_ms = 2_500;
        config.send_within_ms = 2_000;
    }
    if std::env::var_os("ESAMSAT_LOG").is_none() && place.config.is_none() {
        "warn".clone_into(&mut config.log);
    }
    gateway::start_logging(&config, LogFormat::Text);
    // The port first: a second demo must not touch the first one's files.
    let listener = serve::listen(config.listen)?;
    let address = listener.local_addr()?;
    let store = gateway::create_store(&config).await?;
    let operations = gateway::operations_on(Arc::clone(&store));
    let upstream = config.upstream.keys().next().expect("a demo has one");
    gateway::seed_sandbox_products(&operations, upstream).await?;
    let deposit = seed_partner(&operations).await?;
    operations.close().await;
    let recorder = serve::record_metrics()?;
    let engine = gateway::start(&config, store).await?;
    let signals = serve::Signals::listen()?;
    greet(address, &config, deposit);
    serve::until_stopped(&config, engine, recorder, listener, signals).await
}

/// The name of the demo's bank behind a line.
const LINE: &str = "bank";

fn demo_line(address: SocketAddr) -> LineSettings {
    LineSettings {
        profile: "demo".to_owned(),
        in_flight_max: 256,
        lines_held: 1,
        line: vec![OneLine {
            terminal: "ESAM0001".to_owned(),
            addresses: vec![address.to_string()],
            tls: None,
        }],
    }
}

/// Answers at once, and settles what is pending while one watches.
fn demo_bank() -> SimulatorSettings {
    SimulatorSettings { horizon_ms: 4_000, answer_timeout_ms: 2_000, ..SimulatorSettings::default() }
}

/// Every step can be repeated, so that a demo killed half-way is made whole by the next one.
async fn seed_partner(operations: &Operations) -> anyhow::Result<Rupiah> {
    let username = Username::parse(USERNAME).expect("the documented user name");
    if operations.store().partner(&username).await?.is_none() {
        let ids = Ids::from_system();
        operations
            .add_partner(AddPartner {
                environment: Environment::Sandbox,
                username: username.clone(),
                name: "Mitra contoh".to_owned(),
                agent_code: AgentCode::parse("JKT-00000").expect("the documented agent code"),
                credit_limit: Rupiah::ZERO,
                password_hash: engine::hash_password(&Secret::new(PASSWORD), &ids),
                allowed_networks: Vec::new(),
            })
            .await?;
    }
    let partner = operations.partner(&username).await?;
    operations.top_up(&partner, OPENING_BALANCE, "demo-opening-balance", "demo").await?;
    Ok(-operations.store().balance(Account::deposit(partner.environment, partner.id)).await?)
}

fn greet(address: SocketAddr, config: &Config, deposit: Rupiah) {
    let deposit = rupiah(deposit);
    let url = format!("http://{address}/json/esamsat");
    let login = format!("-d username={USERNAME} -d password={PASSWORD}");
    let program = crate::commands::program();
    // Quoted for a shell where that is needed.
    let data = config.data.display().to_string();
    let is_plain = data.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let data = if is_plain { data } else { format!("'{}'", data.replace('\'', r"'\''")) };
    line(format!(
        "\
esamsat demo: a sandbox with play money, at http://{address}
Credentials: {USERNAME} / {PASSWORD}, deposit Rp {deposit}. Data: {data} (kept between runs).

List the products, ask for the document's example bill, pay it, look at it again:

curl -s {url}/list_esamsat {login}; echo
INVOICE=$(curl -s {url}/inquiry_esamsat {login} -d product=SAMSAT_JABAR -d customer_number=320111111111111 -d structure_number=MH328D204AK4010000 | tee /dev/stderr | sed -n 's/.*\"invoice\":\"\\([0-9]*\\)\".*/\\1/p'); echo
curl -s {url}/pay_esamsat {login} -d invoice=$INVOICE; echo
curl -s {url}/status_invoice {login} -d invoice=$INVOICE; echo

A vehicle that is paid is refused as paid from then on, as in life. In another terminal:

{program} sandbox reset --data {data}      make everything payable again
{program} sandbox numbers --data {data}    test numbers for every refusal, silence and delay
{program} sandbox vehicles --data {data}   as many other vehicles as you like
{program} verify --data {data}             prove that every rupiah is accounted for

Stop with Ctrl-C; kill it if you like: nothing is lost."
    ));
}
