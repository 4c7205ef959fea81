//! Line runs: the real ISO 8583 line and the real bank host, with a simulated network between them.
//!
//! ```text
//! partners ─► engine, journal, resolver ─► Iso8583Bank ─► network.rs ─► wire.rs ─► Host ─► its ledger file
//!                                                      └─ tap.rs: what leaves, what comes ─► auditor
//! ```
//!
//! The world, its store, its partners and the auditor are those of the other runs. What the bank took, the auditor
//! reads in the host's own ledger file.

mod house;
mod nature;
mod network;
pub mod probes;
mod tap;
mod wire;

use crate::{
    FINAL_WITHIN, Run,
    auditor::BankBooks,
    bank::Books,
    bugs::Bug,
    gate::Gate,
    operator, partner,
    random::Random,
    record::Record,
    world::{self, Gateway, OtherBank, World},
};
use bank::{
    iso8583_line::{Iso8583Bank, LineSettings, OneLine},
    profile::LineProfile,
    simulator::population,
};
use domain::{ChassisNumber, Clock, Nik, State, record::IncidentKind};
use engine::{bank, domain, verify::verify};
use house::{House, LedgerBooks};
use network::{Dialler, Network};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tap::Tap;
use tokio::time::sleep;

/// What is drawn for a run before it begins.
pub(crate) struct Terms {
    pub(crate) world: world::Terms,
    profile: LineProfile,
    harshness: u64,
    /// From which the rest is drawn.
    random: Random,
}

impl Terms {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = Random::of(seed, "line terms");
        let mut world = world::Terms::draw(seed);
        world.gateways = random.between(1, 2);
        world.settings.lease_after = (world.gateways > 1).then_some(Duration::from_secs(8));
        let names: Vec<_> = LineProfile::builtin_names().collect();
        let profile = LineProfile::builtin(random.one_of::<&str>(&names)).expect("it is shipped").with_times(
            Duration::from_millis(random.between(1_500, 9_000)),
            Duration::from_millis(random.between(6_000, 40_000)),
            Duration::from_millis(random.between(2_000, 20_000)),
        );
        world.profile.horizon = profile.horizon;
        world.profile.answer_timeout = profile.answer_timeout;
        world.partners = random.between(4, 8);
        world.vehicles = random.between(20, 300);
        let harshness = random.between(0, 3);
        Self { world, profile, harshness, random }
    }
}

/// The bank's side of one run.
pub(crate) struct Bank {
    house: Arc<House>,
    network: Arc<Network>,
    profile: LineProfile,
    terminals: u64,
    in_flight_max: usize,
    first_vehicle: u32,
    harshness: u64,
}

impl OtherBank for Bank {
    fn connector(&self, gateway: &Gateway, _life: &str, gate: &Arc<Gate>) -> Arc<dyn bank::Bank> {
        let line = (1..=self.terminals).map(|number| OneLine {
            terminal: format!("ESAM{number:04}"),
            addresses: vec!["bank:7000".to_owned()],
            tls: None,
        });
        let settings = LineSettings {
            profile: String::new(),
            in_flight_max: self.in_flight_max,
            lines_held: 1,
            line: line.collect(),
        };
        let dialler = Dialler {
            network: Arc::clone(&self.network),
            gate: Arc::clone(gate),
            gateway: gateway.name.clone(),
        };
        let clock = Arc::clone(&gateway.clock) as Arc<dyn Clock>;
        let lines = Iso8583Bank::with_dial("bank", self.profile.clone(), settings, clock, Arc::new(dialler));
        let lines = lines.expect("good settings");
        // What a dead process leaves behind does nothing any more; it need not try to.
        let (gate, left_behind) = (Arc::clone(gate), Arc::clone(&lines));
        tokio::spawn(async move {
            gate.died().await;
            bank::Bank::close(left_behind.as_ref()).await;
        });
        lines
    }

    fn vehicle(&self, number: u64) -> (Nik, ChassisNumber) {
        let number = u32::try_from(number % 100_000).expect("a small number");
        // Every fourth one is the product's.
        let (nik, chassis, _) = population::numbers(self.first_vehicle + 4 * number);
        (nik, chassis)
    }
}

pub(crate) fn furnish(run: &Run) -> (Arc<World>, Arc<Bank>, Arc<LedgerBooks>) {
    let &Run { seed, bug, .. } = run;
    let Terms { profile, harshness, mut random, .. } = Terms::draw(seed);
    let terms = run.terms();
    let record = Arc::new(Record::begin(terms.epoch));
    let of_host = match bug {
        Some(Bug::LateBank) => {
            let (answer_timeout, echo_after) = (profile.answer_timeout, profile.echo_after);
            profile.clone().with_times(answer_timeout, profile.horizon * 4, echo_after)
        }
        _ => profile.clone(),
    };
    let house = House::open(seed, of_host, &record, bug);
    house.set_faults(nature::host_faults(&mut random, harshness));
    let tap = Tap::new(profile.clone(), Arc::clone(&record));
    let bank = Arc::new(Bank {
        network: Network::new(seed, &house, &tap, 50 + harshness * 100),
        house,
        terminals: if terms.gateways > 1 { random.weighted(&[(1, 1), (3, 2)]) } else { 1 },
        in_flight_max: usize::try_from(random.between(3, 40)).expect("a small number"),
        first_vehicle: vehicle_of_the_product(u32::try_from(random.below(100_000)).expect("a small number")),
        harshness,
        profile,
    });
    record.note(None, format!("{}, {} terminals", bank.profile.name, bank.terminals));
    let books = bank.house.books();
    let made_up = Books::new(seed, Arc::clone(&record));
    let audited = Arc::clone(&books) as Arc<dyn BankBooks>;
    let world = World::with(run, (terms, record), &made_up, (audited, Some(Arc::clone(&bank) as _)));
    tap.tell(Arc::clone(&world.auditor), world.lens.clone());
    (world, bank, books)
}

/// The first vehicle from this one on whose bills the product sells.
fn vehicle_of_the_product(from: u32) -> u32 {
    let sells = |number: &u32| population::numbers(*number).2.as_str() == world::PRODUCT;
    (from..from + 4).find(sells).expect("every fourth one is")
}

pub(crate) async fn live(world: &Arc<World>, bank: &Arc<Bank>, books: &LedgerBooks) {
    let upstream = world.furnish().await;
    for index in 0..world.gateways.len() {
        tokio::spawn(Arc::clone(world).supervise(index));
    }
    let mut people = tokio::task::JoinSet::new();
    for index in 0..world.terms.partners {
        people.spawn(partner::partner(Arc::clone(world), usize::try_from(index).expect("few partners")));
    }
    people.spawn(operator::operators(Arc::clone(world), upstream));
    let nature = tokio::spawn(nature::nature(Arc::clone(world), Arc::clone(bank)));

    sleep(world.terms.stormy_for).await;
    nature.abort();
    world.calm_down();
    bank.calm_down();
    world.is_over.store(true, Ordering::Relaxed);
    while people.join_next().await.is_some() {}

    let calm_since = world.record.elapsed();
    while !world.auditor.open().is_empty() && world.record.elapsed().saturating_sub(calm_since) < FINAL_WITHIN
    {
        sleep(Duration::from_secs(1)).await;
    }
    if world.auditor.open().is_empty() {
        world.record.probe("faults ended, all final");
    }
    sleep(bank.profile.horizon * 2 + bank.profile.answer_timeout * 2 + Duration::from_secs(30)).await;
    world.auditor.over();
    agrees(world, books).await;
}

impl Bank {
    fn calm_down(&self) {
        self.network.calm_down();
        self.house.set_faults(bank::host::HostFaults { delay_ms: (1, 20), ..Default::default() });
        if self.house.running().is_none() {
            self.house.start();
        }
    }
}

/// Both ledgers, one to one; the gateway's own proof; and no incident that says money was lost.
async fn agrees(world: &World, books: &LedgerBooks) {
    let mut confirmed = BTreeMap::new();
    for invoice in world.lens.invoices() {
        if let State::Confirm { attempt, .. } = &invoice.state {
            confirmed.insert(attempt.identity.clone(), invoice);
        }
    }
    for row in books.rows().into_iter().filter(|row| row.standing.is_taken) {
        let Some(invoice) = confirmed.remove(&row.identity) else {
            world.record.wrong(None, format!("the bank took {}, which is not CONFIRM", row.identity));
            continue;
        };
        let code = invoice.payment_code.as_ref().map(domain::PaymentCode::as_str);
        let amount = invoice.total.get() - invoice.fee.get();
        if (code, amount) != (Some(row.payment_code.as_str()), row.standing.amount) {
            let what = format!("the bank took {} of bill {}", row.standing.amount, row.payment_code);
            world.record.wrong(Some(invoice.number.get()), what);
        }
    }
    for invoice in confirmed.into_values() {
        world.record.wrong(Some(invoice.number.get()), "CONFIRM, and it is not in the bank's ledger");
    }
    match verify(&world.model).await {
        Ok(report) if report.is_clean() => {}
        Ok(report) => world.record.wrong(None, format!("verify: {:?}", report.problems)),
        Err(error) => world.record.wrong(None, format!("verify: {error}")),
    }
    for incident in world.lens.incidents() {
        world.record.probe(&format!("incident: {}", incident.kind.name()));
        if matches!(incident.kind, IncidentKind::PaidAfterRefund | IncidentKind::NotPaidAfterConfirm) {
            let number = incident.invoice.map(domain::InvoiceNumber::get);
            world.record.wrong(number, format!("incident {}: {}", incident.kind.name(), incident.detail));
        }
    }
}
