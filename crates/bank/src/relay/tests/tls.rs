//! Encrypted: whom it believes, and the clock that is looked at after the connection came up.

use super::{
    BILL, Fixture, answered, bill, impatient,
    provider::{Provider, Reply},
};
use crate::{Bank, PaymentOutcome};
use std::{sync::Arc, time::Duration};
use test_certificates::Certificates;
use tokio::{
    sync::Semaphore,
    time::{self, Instant},
};

fn certificates() -> Certificates {
    Certificates::default().signed("provider", "right", "IP:127.0.0.1")
}

/// What a connection waits at before it comes up.
struct Gate {
    /// One more for each that waits, or did.
    came: Semaphore,
    /// How many may pass.
    open: Semaphore,
}

impl Gate {
    fn new(open: usize) -> Arc<Self> {
        Arc::new(Self { came: Semaphore::new(0), open: Semaphore::new(open) })
    }

    async fn pass(&self) {
        self.came.add_permits(1);
        self.open.acquire().await.expect("nobody closes it").forget();
    }

    /// Waits until one waits at it.
    async fn waited_at(&self) {
        self.came.acquire().await.expect("nobody closes it").forget();
    }
}

async fn provider(certificates: &Certificates, gate: Arc<Gate>) -> Provider {
    let acceptor = certificates.acceptor("provider", None);
    let provider = Provider::start_with(move |stream| {
        let (acceptor, gate) = (acceptor.clone(), Arc::clone(&gate));
        async move {
            gate.pass().await;
            acceptor.accept(stream).await.ok()
        }
    })
    .await;
    provider.on("inquiry_esamsat", [Reply::json(BILL)]);
    provider.on("pay_esamsat", [Reply::json(answered("CONFIRM"))]);
    provider
}

#[tokio::test]
async fn it_believes_whom_the_file_names() {
    let certificates = certificates();
    let open = Gate::new(Semaphore::MAX_PERMITS);
    let trusting = |provider, authority: &str| {
        let ca_file = certificates.path(authority);
        Fixture::with(provider, "https", move |settings| {
            settings.ca_file = Some(ca_file);
        })
    };
    let fixture = trusting(provider(&certificates, Arc::clone(&open)).await, "right.pem");
    fixture.open().await;
    bill(fixture.inquire().await);
    assert!(matches!(fixture.pay().await, PaymentOutcome::Paid(_)));

    let fixture = trusting(provider(&certificates, open).await, "wrong.pem");
    assert_eq!(fixture.pay().await, PaymentOutcome::NeverSent);
    let error = fixture.relay.lines().remove(0).last_error.unwrap_or_default();
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(fixture.provider.asked("pay_esamsat"), []);
}

#[tokio::test]
async fn the_clocks_are_looked_at_when_the_connection_is_up() {
    let certificates = certificates();
    let gate = Gate::new(0);
    let fixture = Fixture::with(provider(&certificates, Arc::clone(&gate)).await, "https", |settings| {
        settings.answer_timeout_ms = 15_000;
        settings.connect_timeout_ms = 15_000;
        settings.horizon_ms = 15_000;
        settings.ca_file = Some(certificates.path("right.pem"));
    });
    let soon = Duration::from_millis(100);
    for by_clock in [true, false] {
        let mut request = fixture.request();
        if by_clock {
            request.send_before.wall = fixture.clock.now().plus(soon);
        } else {
            request.send_before.monotonic = Instant::now() + soon;
        }
        let late = async {
            gate.waited_at().await;
            time::pause();
            time::advance(soon).await;
            time::resume();
            gate.open.add_permits(1);
        };
        let (outcome, ()) = tokio::join!(fixture.relay.pay(fixture.place().unwrap(), request), late);
        assert_eq!(outcome, PaymentOutcome::NeverSent);
    }
    assert_eq!(fixture.provider.asked("pay_esamsat"), []);
    gate.open.add_permits(1);
    assert!(matches!(fixture.pay().await, PaymentOutcome::Paid(_)));
}

#[tokio::test]
async fn a_connection_that_does_not_come_up_was_never_sent() {
    let certificates = certificates();
    let fixture = Fixture::with(provider(&certificates, Gate::new(0)).await, "https", |settings| {
        impatient(settings);
        settings.ca_file = Some(certificates.path("right.pem"));
    });
    assert_eq!(fixture.pay().await, PaymentOutcome::NeverSent);
    let error = fixture.relay.lines().remove(0).last_error.unwrap_or_default();
    assert!(error.contains("did not come up in time"), "{error}");
}
