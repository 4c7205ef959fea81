//! The workers: each has one connection and does one thing after the other, as the schedule says.
//!
//! Payments alone need invoices to pay. They are inquired before, as many as the payments seen so far say that
//! the time will take, and a quarter more. Should they run out, the measurement is interrupted, more are inquired,
//! and it goes on for the time that is left; only the time in which there was something to pay is measured.
//!
//! All of it runs on one thread, in a `LocalSet`: cells, and no locks.

use super::{
    SETTLE, VEHICLES_PAYABLE,
    answer::{Failed, Paid},
    caller::{Caller, Invoice},
    prepare,
    progress::Progress,
    schedule::{Plan, Schedule},
    tally::{Step, Tally, float},
    target::Target,
};
use anyhow::{Context, bail};
use domain::Reason;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, interval, sleep},
};

/// So far ahead lies the next vehicle after one that was already paid: behind whatever another run paid.
const LEAP: u32 = 10_000;

/// Without it, workers of a gateway that went away would do nothing but try to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// How many invoices are paid to learn how fast payments are, for each connection and in all.
const PILOT_PER_CONNECTION: usize = 10;
const PILOT_MIN: usize = 500;

/// Invoices kept at most: they must fit into memory.
const STOCK_MAX: usize = 5_000_000;

/// Interruptions to inquire more invoices, at most: with more, what is measured is not payments.
const SEGMENTS_MAX: usize = 100;

/// The invoice that the reference's fixed answer is about.
const REFERENCE_INVOICE: u64 = 111_111_111_111;

/// What the workers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Inquire and pay.
    Pairs,
    /// Inquire.
    Inquiry,
    /// Inquire, and keep the invoice to be paid later.
    Stock,
    /// Pay what was kept.
    Pay,
    /// A request like a payment, to the reference.
    Reference,
}

impl Work {
    /// What one piece of it is.
    pub(super) fn unit(self) -> Step {
        match self {
            Self::Pairs => Step::Pair,
            Self::Inquiry | Self::Stock => Step::Inquiry,
            Self::Pay | Self::Reference => Step::Pay,
        }
    }
}

/// Fresh vehicles, by their index among the payable ones.
pub(super) struct Vehicles(Cell<u32>);

impl Vehicles {
    pub(super) fn take(&self) -> u32 {
        let index = self.0.get() % VEHICLES_PAYABLE;
        self.0.set(index + 1);
        index
    }

    /// After a vehicle that was already paid.
    pub(super) fn leap(&self, paid: u32) {
        // Others of the same stretch are answered later and must not each leap.
        if self.0.get().saturating_sub(paid) < LEAP / 2 {
            self.0.set(paid + LEAP);
        }
    }
}

/// What lasts from one measurement to the next.
pub(super) struct Bench {
    /// Fresh vehicles.
    pub(super) vehicles: Rc<Vehicles>,
    connections: usize,
    rate: Option<f64>,
    stock: Rc<RefCell<VecDeque<Invoice>>>,
    payments_per_second: Cell<Option<f64>>,
    /// What goes on.
    pub(super) progress: Rc<Progress>,
}

impl Bench {
    pub(super) fn new(
        connections: usize,
        rate: Option<f64>,
        first_vehicle: u32,
        progress: Rc<Progress>,
    ) -> Self {
        Self {
            vehicles: Rc::new(Vehicles(Cell::new(first_vehicle))),
            connections,
            rate,
            stock: Rc::default(),
            payments_per_second: Cell::new(rate),
            progress,
        }
    }

    /// Everything but payments alone.
    pub(super) async fn run(
        &self,
        target: &Rc<Target>,
        work: Work,
        name: &str,
        warm_up: Duration,
        measured: Duration,
    ) -> anyhow::Result<Tally> {
        let plan = Plan { warm_up, measured, rate: self.rate, starts_max: u64::MAX };
        Ok(self.drive(target, work, name, plan).await?.1)
    }

    /// Payments alone.
    pub(super) async fn run_payments(
        &self,
        target: &Rc<Target>,
        name: &str,
        warm_up: Duration,
        measured: Duration,
    ) -> anyhow::Result<Tally> {
        let mut all = Tally::default();
        if self.payments_per_second.get().is_none() {
            self.stock_up(target, PILOT_MIN.max(self.connections * PILOT_PER_CONNECTION)).await?;
            self.pay(target, name, Duration::from_hours(1), Duration::ZERO).await?;
        }
        let mut warm_up = warm_up;
        for _ in 0..SEGMENTS_MAX {
            let left = measured.saturating_sub(all.measured);
            if left < Duration::from_millis(1) {
                return Ok(all);
            }
            let expected =
                self.payments_per_second.get().unwrap_or_default() * (warm_up + left).as_secs_f64();
            self.stock_up(target, rounded(expected * 1.25) + self.connections).await?;
            all.absorb(&self.pay(target, name, warm_up, left).await?);
            warm_up = warm_up.min(SETTLE);
        }
        bail!("invoices ran out {SEGMENTS_MAX} times; choose a shorter --seconds or fewer --connections")
    }

    async fn pay(
        &self,
        target: &Rc<Target>,
        name: &str,
        warm_up: Duration,
        measured: Duration,
    ) -> anyhow::Result<Tally> {
        let plan = Plan { warm_up, measured, rate: self.rate, starts_max: u64::MAX };
        let (load, tally) = self.drive(target, Work::Pay, name, plan).await?;
        if load.answered.get() == 0 {
            let failed = load.last_failure.take().unwrap_or(Failed::Other);
            return Err(prepare::refused("not one payment succeeded", &failed));
        }
        if self.rate.is_none() {
            let seconds = load.schedule.lasted().as_secs_f64().max(0.001);
            self.payments_per_second.set(Some(float(load.schedule.started()) / seconds));
        }
        Ok(tally)
    }

    /// Inquires until there are so many invoices to pay.
    async fn stock_up(&self, target: &Rc<Target>, wanted: usize) -> anyhow::Result<()> {
        let missing = wanted.min(STOCK_MAX).saturating_sub(self.stock.borrow().len());
        if missing == 0 {
            return Ok(());
        }
        let plan = Plan {
            warm_up: Duration::ZERO,
            measured: Duration::from_hours(1),
            rate: None,
            starts_max: missing as u64,
        };
        let name = format!("inquiring {missing} invoices to pay");
        let (_, tally) = self.drive(target, Work::Stock, &name, plan).await?;
        if let Some(failed) = tally.main_failure() {
            if self.stock.borrow().is_empty() {
                return Err(prepare::refused("there is nothing to pay", failed));
            }
            self.progress
                .say(&format!("{} of {missing} inquiries failed, mostly: {failed}", tally.failed_count()));
        }
        Ok(())
    }

    /// Connects, then works as planned.
    async fn drive(
        &self,
        target: &Rc<Target>,
        work: Work,
        name: &str,
        plan: Plan,
    ) -> anyhow::Result<(Rc<Load>, Tally)> {
        let mut callers = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            callers.push(Caller::connect(target).await?);
        }
        let runtime = Handle::current().metrics();
        let busy_before = runtime.worker_total_busy_duration(0);
        let begin = Instant::now();
        let load = Rc::new(Load {
            work,
            partners: target.partners.len(),
            schedule: Schedule::new(plan, begin),
            vehicles: Rc::clone(&self.vehicles),
            stock: Rc::clone(&self.stock),
            partner: Cell::new(0),
            answered: Cell::new(0),
            last_failure: RefCell::default(),
            tally: RefCell::default(),
        });
        let mut workers = JoinSet::new();
        for caller in callers {
            workers.spawn_local(Worker { load: Rc::clone(&load), caller }.run());
        }
        self.progress.begin(name);
        let mut ticks = interval(self.progress.interval());
        loop {
            tokio::select! {
                biased;
                joined = workers.join_next() => match joined {
                    Some(ended) => ended.context("a worker panicked")?,
                    None => break,
                },
                _ = ticks.tick() => {
                    let elapsed = load.schedule.elapsed(Instant::now());
                    self.progress.show(elapsed, load.answered.get(), load.tally.borrow().failed_count());
                }
            }
        }
        self.progress.end();
        let mut tally = load.tally.take();
        for waited in load.schedule.unsent() {
            tally.never_sent(work.unit(), waited);
        }
        tally.measured = load.schedule.measured();
        tally.lasted = begin.elapsed();
        tally.generator_busy = runtime.worker_total_busy_duration(0).saturating_sub(busy_before);
        Ok((load, tally))
    }
}

/// What the workers of one measurement share.
struct Load {
    work: Work,
    partners: usize,
    schedule: Schedule,
    vehicles: Rc<Vehicles>,
    stock: Rc<RefCell<VecDeque<Invoice>>>,
    /// Whose turn it is.
    partner: Cell<usize>,
    /// Successful answers, the warm-up's included.
    answered: Cell<u64>,
    last_failure: RefCell<Option<Failed>>,
    tally: RefCell<Tally>,
}

impl Load {
    fn next_partner(&self) -> usize {
        let partner = self.partner.get() % self.partners;
        self.partner.set(partner + 1);
        partner
    }

    /// The next invoice that was kept; without one, the measurement ends here.
    fn next_invoice(&self) -> Option<Invoice> {
        let invoice = self.stock.borrow_mut().pop_front();
        if invoice.is_none() {
            self.schedule.stop(Instant::now());
        }
        invoice
    }

    /// A step was answered as it should be.
    fn answered(&self, step: Step, timing: Timing) {
        let mut tally = self.tally.borrow_mut();
        if self.schedule.counts(timing.due) {
            tally.took(step, timing.done - timing.from);
            tally.succeeded += u64::from(step == self.work.unit());
        }
        tally.step_mut(step).completed += u64::from(self.schedule.is_measured(timing.done));
        self.answered.set(self.answered.get() + u64::from(step != Step::Pair));
    }

    /// A payment is under way: no success yet.
    fn pending(&self, timing: Timing) {
        if self.schedule.counts(timing.due) {
            let mut tally = self.tally.borrow_mut();
            tally.took(Step::Pay, timing.done - timing.from);
            tally.pending += 1;
        }
        self.answered.set(self.answered.get() + 1);
    }

    fn failed(&self, due: Instant, failed: Failed) {
        if self.schedule.counts(due) {
            self.tally.borrow_mut().failed(&failed);
        }
        self.last_failure.replace(Some(failed));
    }

    fn started(&self, due: Instant, sent: Instant) {
        if self.schedule.counts(due) {
            self.tally.borrow_mut().started_late(sent.saturating_duration_since(due));
        }
    }
}

/// The moments of one step.
#[derive(Clone, Copy)]
struct Timing {
    /// When its piece of work was due: decides whether it counts.
    due: Instant,
    /// From when its latency counts.
    from: Instant,
    /// When it was answered.
    done: Instant,
}

/// One connection at work.
struct Worker {
    load: Rc<Load>,
    caller: Caller,
}

impl Worker {
    async fn run(mut self) {
        while let Some(due) = self.load.schedule.next().await {
            self.load.started(due, Instant::now());
            let worked = match self.load.work {
                Work::Pairs => self.inquire_and_pay(due).await,
                Work::Inquiry => self.inquire(due).await.map(drop),
                Work::Stock => {
                    self.inquire(due).await.map(|invoice| self.load.stock.borrow_mut().push_back(invoice))
                }
                Work::Pay => match self.load.next_invoice() {
                    Some(invoice) => self.pay(due, due, invoice).await.map(drop),
                    None => break,
                },
                Work::Reference => {
                    let invoice = Invoice { partner: 0, number: REFERENCE_INVOICE };
                    self.pay(due, due, invoice).await.map(drop)
                }
            };
            if let Err(failed) = worked {
                let is_cut = matches!(failed, Failed::Connection(_));
                self.load.failed(due, failed);
                if is_cut {
                    sleep(RECONNECT_PAUSE).await;
                }
            }
        }
    }

    async fn inquire_and_pay(&mut self, due: Instant) -> Result<(), Failed> {
        let invoice = self.inquire(due).await?;
        let done = self.pay(due, Instant::now(), invoice).await?;
        if let Some(done) = done {
            self.load.answered(Step::Pair, Timing { due, from: due, done });
        }
        Ok(())
    }

    async fn inquire(&mut self, due: Instant) -> Result<Invoice, Failed> {
        let Self { load, caller } = self;
        let index = load.vehicles.take();
        match caller.inquire(load.next_partner(), index).await {
            Ok(invoice) => {
                load.answered(Step::Inquiry, Timing { due, from: due, done: Instant::now() });
                Ok(invoice)
            }
            Err(failed) => {
                if failed.is(Reason::BillAlreadyPaid) {
                    load.vehicles.leap(index);
                }
                Err(failed)
            }
        }
    }

    /// When it was confirmed; none if it is pending.
    async fn pay(
        &mut self,
        due: Instant,
        from: Instant,
        invoice: Invoice,
    ) -> Result<Option<Instant>, Failed> {
        let Self { load, caller } = self;
        let paid = caller.pay(invoice).await?;
        let done = Instant::now();
        let timing = Timing { due, from, done };
        match paid {
            Paid::Confirmed => {
                load.answered(Step::Pay, timing);
                Ok(Some(done))
            }
            Paid::Pending => {
                load.pending(timing);
                Ok(None)
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a saturating cast of a positive count"
)]
fn rounded(count: f64) -> usize {
    count.ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::target::Credentials;
    use std::collections::BTreeMap;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        task::{LocalSet, spawn_local},
    };

    const WINDOW: Duration = Duration::from_millis(60);

    /// A gateway of few words: numbers inquiries, confirms each of its invoices once, for its partner only.
    #[derive(Default)]
    struct Gateway {
        unpaid: RefCell<BTreeMap<u64, String>>,
        numbered: Cell<u64>,
        paid: Cell<u64>,
        /// After so many payments, every further one finds the balance short.
        payments_max: Option<u64>,
    }

    impl Gateway {
        fn answer(&self, form: &BTreeMap<&str, &str>) -> String {
            let partner = form["username"].to_owned();
            if let Some(chassis) = form.get("structure_number") {
                let invoice = 100_000_000_000 + self.numbered.get();
                self.numbered.set(self.numbered.get() + 1);
                self.unpaid.borrow_mut().insert(invoice, partner);
                return format!(
                    r#"{{"result":"ok","invoice":"{invoice}","structure_number":"{chassis}","status":"INQUIRY"}}"#
                );
            }
            let invoice: u64 = form["invoice"].parse().unwrap();
            if self.payments_max.is_some_and(|max| self.paid.get() >= max) {
                return format!(r#"{{"result":"no","reason":"{}"}}"#, Reason::BalanceShort.sentence());
            }
            if self.unpaid.borrow_mut().remove(&invoice) != Some(partner) {
                return format!(r#"{{"result":"no","reason":"{}"}}"#, Reason::InvoiceUnknown.sentence());
            }
            self.paid.set(self.paid.get() + 1);
            format!(r#"{{"result":"ok","invoice":"{invoice}","status":"CONFIRM"}}"#)
        }

        async fn serve(self: Rc<Self>, mut stream: TcpStream) {
            let mut received = Vec::new();
            while stream.read_buf(&mut received).await.unwrap_or(0) > 0 {
                let text = std::str::from_utf8(&received).unwrap();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
                if body.len() < length.parse().unwrap() {
                    continue;
                }
                let form = body.split('&').map(|parameter| parameter.split_once('=').unwrap()).collect();
                let body = self.answer(&form);
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
                received.clear();
            }
        }

        async fn listen(self: &Rc<Self>) -> Rc<Target> {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
            let gateway = Rc::clone(self);
            spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    spawn_local(Rc::clone(&gateway).serve(stream));
                }
            });
            let partners =
                ["beban0001", "beban0002", "beban0003"].map(|name| Credentials::new(name, "rahasia"));
            Rc::new(Target::resolve(url, partners.into()).await.unwrap())
        }
    }

    fn bench(rate: Option<f64>) -> Bench {
        Bench::new(4, rate, 0, Rc::new(Progress::default()))
    }

    #[tokio::test]
    async fn pairs_pay_what_they_inquired_as_the_same_partner() {
        LocalSet::new()
            .run_until(async {
                let gateway = Rc::new(Gateway::default());
                let target = gateway.listen().await;
                let tally = bench(None).run(&target, Work::Pairs, "", Duration::ZERO, WINDOW).await.unwrap();
                assert_eq!(tally.main_failure(), None);
                assert_eq!((tally.succeeded, gateway.unpaid.borrow().len()), (gateway.paid.get(), 0));
                assert!(tally.succeeded > 0);
                assert_eq!(tally.step(Step::Pair).latency.len(), tally.succeeded);
                assert_eq!(tally.measured, WINDOW);
            })
            .await;
    }

    #[tokio::test]
    async fn an_open_loop_starts_as_many_as_are_due() {
        LocalSet::new()
            .run_until(async {
                let gateway = Rc::new(Gateway::default());
                let target = gateway.listen().await;
                let bench = bench(Some(500.0));
                let tally = bench.run(&target, Work::Inquiry, "", Duration::ZERO, WINDOW).await.unwrap();
                assert_eq!(tally.succeeded + tally.unsent, 30, "500 a second for 60 ms");
                assert_eq!(tally.step(Step::Inquiry).latency.len(), 30);
            })
            .await;
    }

    #[tokio::test]
    async fn payments_alone_are_topped_up_until_the_time_is_used() {
        LocalSet::new()
            .run_until(async {
                let gateway = Rc::new(Gateway::default());
                let target = gateway.listen().await;
                let bench = bench(None);
                // As if payments had been seen to be slow: too few invoices are inquired at first.
                bench.payments_per_second.set(Some(100.0));
                let tally = bench.run_payments(&target, "", Duration::ZERO, WINDOW).await.unwrap();
                assert_eq!((tally.main_failure(), tally.step(Step::Inquiry).completed), (None, 0));
                assert!(tally.succeeded > 0 && tally.succeeded == gateway.paid.get());
                let is_used = tally.measured <= WINDOW
                    && tally.measured > WINDOW.saturating_sub(Duration::from_millis(1));
                assert!(is_used, "{:?}", tally.measured);
            })
            .await;
    }

    #[tokio::test]
    async fn a_short_balance_is_counted_and_ends_payments_that_get_nowhere() {
        LocalSet::new()
            .run_until(async {
                let gateway = Rc::new(Gateway { payments_max: Some(3), ..Gateway::default() });
                let target = gateway.listen().await;
                let bench = bench(None);
                let tally = bench.run(&target, Work::Pairs, "", Duration::ZERO, WINDOW).await.unwrap();
                assert_eq!(tally.succeeded, 3);
                assert!(tally.failed_count() > 0 && tally.main_failure().unwrap().is(Reason::BalanceShort));
                let refused = bench.run_payments(&target, "", Duration::ZERO, WINDOW).await.err().unwrap();
                assert!(refused.to_string().contains("Saldo deposit Anda tidak cukup"), "{refused}");
            })
            .await;
    }

    #[test]
    fn a_paid_stretch_is_leapt_over_once() {
        let vehicles = Vehicles(Cell::new(VEHICLES_PAYABLE - 1));
        assert_eq!((vehicles.take(), vehicles.take(), vehicles.take()), (VEHICLES_PAYABLE - 1, 0, 1));
        vehicles.leap(0);
        vehicles.leap(1);
        assert_eq!(vehicles.take(), LEAP);
    }
}
