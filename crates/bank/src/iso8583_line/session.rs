//! A line's life: connected again and again, signed on, tested when it is silent, signed off.
//!
//! ```text
//! wait for the lease → connect → sign on → up ──silent──► echo test
//!        ▲                                 │ broken, no echo, lease lost, told to stop: signed off if told to
//!        └──────── back-off ◄──────────────┘ what was written is unknown, what was not is never sent
//! ```

use super::{
    connect::{Connected, connect},
    line::{Asking, Line, NoAnswer, Outgoing},
    traces::BLOCK,
};
use crate::{
    Holds,
    core_banking::{fraction, hash},
    locked,
    profile::{Answer, Meaning, Operation, Value, Values},
    report::Count,
    sending::unsent_max,
};
use iso8583::Message;
use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// The pause before a connection is tried again, at first and at most.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How often a line that has signed on looks whether its first trace numbers are there.
const NUMBERS_PAUSE: Duration = Duration::from_millis(5);

/// A connection that lasted so long was a good one; after others the pause grows.
const GOOD: Duration = Duration::from_secs(1);

/// How long the answer to a sign-off is waited for.
const SIGN_OFF_MAX: Duration = Duration::from_secs(1);

/// How often a line looks whether it has its lease, and whether anything was heard.
const LOOK: Duration = Duration::from_millis(100);

impl Line {
    /// Keeps the line up until it is told to stop.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut failures = 0_u32;
        while !stop.is_cancelled() {
            if self.holds() == Holds::No {
                self.report.stands("another gateway's");
                if stop.run_until_cancelled(sleep(LOOK)).await.is_none() {
                    break;
                }
                continue;
            }
            self.fetch_traces();
            let addresses = &self.settings.addresses;
            let address = &addresses[failures as usize % addresses.len()];
            self.report.stands("connecting");
            let connecting = connect(
                self.shared.dial.as_ref(),
                address,
                self.settings.tls.as_ref(),
                unsent_max(self.shared.profile.horizon),
            );
            match stop.run_until_cancelled(connecting).await {
                None => break,
                Some(Ok(connected)) => {
                    self.report.count(Count::Connected);
                    let began = Instant::now();
                    let ended = self.session(connected, &stop).await;
                    self.mux.cut();
                    failures = if began.elapsed() >= GOOD { 0 } else { failures.saturating_add(1) };
                    self.report.stands("disconnected");
                    if let Err(error) = ended {
                        self.report.failed(&error);
                    }
                }
                Some(Err(error)) => {
                    failures = failures.saturating_add(1);
                    self.report.stands("cannot connect");
                    self.report.failed(&format!("failed to connect to {address}: {error}"));
                }
            }
            if stop.run_until_cancelled(sleep(self.pause(failures))).await.is_none() {
                break;
            }
        }
        self.report.stands("closed");
    }

    /// Doubles with every failure, and differs from line to line.
    fn pause(&self, failures: u32) -> Duration {
        let doubled = PAUSE.saturating_mul(1 << failures.min(10)).min(PAUSE_MAX);
        let jitter = hash(
            u64::from(failures) ^ self.shared.clock.now().as_millis().unsigned_abs(),
            self.terminal.as_str(),
        );
        doubled.mul_f64(0.5 + fraction(jitter) / 2.0)
    }

    /// One connection, from sign-on to its end. The error says why it ended, if it was not told to.
    async fn session(
        self: &Arc<Self>,
        Connected { reading, writing, end_in_order }: Connected,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let ended = CancellationToken::new();
        let (sender, outgoing) = mpsc::unbounded_channel();
        *locked(&self.link) = Some(sender);
        *locked(&self.heard_at) = Instant::now();
        self.must_sign_on.store(false, Relaxed);
        let writer = tokio::spawn(Arc::clone(self).write(writing, outgoing, ended.clone()));
        let reader = tokio::spawn(Arc::clone(self).read(reading, ended.clone()));
        let conversed = ended.run_until_cancelled(self.converse(end_in_order, stop)).await.unwrap_or(Ok(()));
        self.is_up.store(false, Relaxed);
        locked(&self.link).take();
        ended.cancel();
        let panicked = |_| Err("the connection's task panicked".to_owned());
        let (read, written) = (reader.await.unwrap_or_else(panicked), writer.await.unwrap_or_else(panicked));
        conversed.and(read).and(written)
    }

    /// From sign-on until something else than the connection's end ends it.
    async fn converse(
        self: &Arc<Self>,
        end_in_order: Box<dyn FnOnce() + Send>,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        tokio::select! {
            biased;
            talked = self.talk() => talked.map(|never| match never {}),
            () = self.until_lease_is_lost() => Err("the lease on the line is lost".to_owned()),
            () = stop.cancelled() => {
                self.is_up.store(false, Relaxed);
                if self.signs_off().await {
                    // The bank has read all that was written before: there is nothing left to hold back.
                    end_in_order();
                }
                Ok(())
            }
        }
    }

    /// Looks after what a line needs besides its session.
    async fn until_lease_is_lost(self: &Arc<Self>) {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                biased;
                _ = looks.tick() => {}
                () = self.traces.until_low() => {}
            }
            if self.holds() == Holds::No {
                return;
            }
            self.fetch_traces();
        }
    }

    /// Signs on, and tests the line whenever it is silent.
    async fn talk(self: &Arc<Self>) -> Result<Infallible, String> {
        self.report.stands("signing on");
        self.sign_on().await?;
        // Without trace numbers nothing can be asked; for want of them the session goes on all the same.
        let numbers = async {
            while !self.traces.is_stocked() {
                self.fetch_traces();
                sleep(NUMBERS_PAUSE).await;
            }
        };
        drop(timeout(self.shared.profile.answer_timeout, numbers).await);
        self.is_up.store(true, Relaxed);
        self.report.stands("up");
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            if self.must_sign_on.swap(false, Relaxed) {
                self.sign_on().await?;
            }
            let silent_for = locked(&self.heard_at).elapsed();
            let profile = &self.shared.profile;
            // Where nothing is answered, it is soon found whether anybody is there at all.
            let is_suspicious = self.breaker.is_open() && silent_for >= profile.answer_timeout;
            if silent_for >= profile.echo_after || is_suspicious {
                self.ask_session(Operation::Echo)
                    .await
                    .map_err(|why| format!("the echo test failed: {why}"))?;
            }
        }
    }

    async fn sign_on(self: &Arc<Self>) -> Result<(), String> {
        let answer =
            self.ask_session(Operation::SignOn).await.map_err(|why| format!("the sign-on failed: {why}"))?;
        if let Some(date) = answer.settlement_date(self.shared.clock.now()) {
            self.shared.cut_over(date);
        }
        Ok(())
    }

    /// Whether the bank has answered, whatever it said. If it does not, it is left all the same.
    async fn signs_off(self: &Arc<Self>) -> bool {
        let signing_off = timeout(SIGN_OFF_MAX, self.exchange_session(Operation::SignOff));
        self.shared.profile.has(Operation::SignOff)
            && signing_off.await.is_ok_and(|answered| answered.is_ok())
    }

    /// A message about the session, and its answer if that says "done".
    async fn ask_session(self: &Arc<Self>, operation: Operation) -> Result<Values, String> {
        match self.exchange_session(operation).await {
            Ok(answer) if self.shared.profile.meaning(operation, &answer.code) == Meaning::Done => {
                Ok(answer.values)
            }
            Ok(answer) => Err(format!("the bank answers with code {}", answer.code)),
            Err(NoAnswer::Unfit(what)) => Err(what),
            Err(NoAnswer::NeverSent) => Err("it was not sent".to_owned()),
            Err(NoAnswer::Unknown(unknown)) => Err(unknown.to_string()),
        }
    }

    /// A message about the session, and its answer.
    async fn exchange_session(self: &Arc<Self>, operation: Operation) -> Result<Answer, NoAnswer> {
        let mut values = Values::new();
        values.set_moment(self.shared.clock.now());
        // A session needs no number that lasts: the moment tells its messages apart.
        let moment = self.shared.clock.now().as_millis().unsigned_abs() / 10;
        values.set(Value::Trace, format!("{:06}", moment % 1_000_000));
        values.set(Value::Terminal, self.terminal.as_str());
        values.set_settlement_date(self.shared.business_date(self.shared.clock.now()));
        let profile = &self.shared.profile;
        let asking = Asking {
            operation,
            values: &values,
            is_repeat: false,
            payment: None,
            send_before: None,
            deadline: Instant::now() + profile.answer_timeout,
        };
        self.exchange(asking).await
    }

    fn fetch_traces(self: &Arc<Self>) {
        if !self.traces.needs_block() {
            return;
        }
        let Some(desk) = self.shared.desk.get().cloned() else { return self.traces.add(None) };
        let line = Arc::clone(self);
        tokio::spawn(async move {
            let block = desk.reserve_trace_numbers(line.terminal, BLOCK).await;
            line.traces.add(block);
        });
    }

    /// What the bank asks for itself.
    pub(super) fn obey(&self, operation: Operation, message: &Message) {
        let profile = &self.shared.profile;
        let now = self.shared.clock.now();
        match operation {
            Operation::CutOver => {
                let date = profile
                    .read_request(operation, message)
                    .ok()
                    .and_then(|values| values.settlement_date(now));
                if let Some(date) = date {
                    tracing::info!(upstream = self.shared.name, %date, "the bank begins a new business day");
                    self.shared.cut_over(date);
                }
            }
            Operation::SignOff => self.must_sign_on.store(true, Relaxed),
            _ => {}
        }
        let code = profile.code_for(operation, &Meaning::Done).unwrap_or("00");
        let mut values = Values::new();
        values.set_settlement_date(self.shared.business_date(now));
        let mut bytes = Vec::new();
        let answer = profile.answer(operation, message, code, &values);
        if answer.is_ok_and(|answer| profile.spec.encode(&answer, &mut bytes).is_ok()) {
            let sender = locked(&self.link).clone();
            drop(sender.map(|sender| sender.send(Outgoing::Answer(bytes))));
        }
    }
}
