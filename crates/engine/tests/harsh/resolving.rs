//! The resolver: unknown is asked about until it is known, and nothing but proof ends a payment.

use crate::kit::{
    Gateway, TOTAL_RUPIAH, Terms, World, answer,
    bank::{Pay, Status},
    watched::settle,
};
use ::engine::bank::{LateAnswer, Paid, PaymentOutcome, Profile, Question, StatusOutcome, Unknown};
use domain::{
    Clock, InvoiceNumber, NotPaidProof, Partner, Reason, Refusal, Rejection, Rupiah, State, Timestamp,
    invoice::BankReceipt,
    record::{IncidentKind, Resolution},
};
use engine::{Failure, Settings, domain, operate};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{Instant, advance, sleep, sleep_until},
};

const DEPOSIT: i64 = 1_000_000;
const HORIZON: Duration = Duration::from_mins(1);
const SEND_WITHIN: Duration = Duration::from_secs(5);

const fn silent(takes_after: Option<Duration>) -> Pay {
    Pay::Silent { takes_after }
}

/// A payment that the partner was answered PENDING about, and when it was begun.
async fn open_payment(
    world: &World,
    gateway: &Gateway,
    partner: &Arc<Partner>,
    pay: Pay,
) -> (InvoiceNumber, Instant) {
    let number = gateway.invoice(partner, 1).await;
    world.bank.next_pay(pay);
    let begun = Instant::now();
    drop(gateway.spawn_pay(partner, number));
    sleep(Duration::from_millis(10)).await;
    assert_eq!(world.word(number).await, "PENDING");
    (number, begun)
}

async fn must_stay_pending(world: &World, number: InvoiceNumber, time: Duration) {
    sleep(time).await;
    assert_eq!(world.word(number).await, "PENDING");
    assert_eq!(world.reserved(world.invoice(number).await.partner).await, TOTAL_RUPIAH);
    world.must_prove().await;
}

#[tokio::test(start_paused = true)]
async fn silence_and_then_paid_is_confirmed() {
    for takes_after in [0, 10, 40, 59] {
        let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
        let pay = silent(Some(Duration::from_secs(takes_after)));
        let (number, _) = open_payment(&world, &gateway, &partner, pay).await;
        world.until(number, "CONFIRM", Duration::from_mins(2)).await;
        world.must_be_over(DEPOSIT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn not_found_refunds_only_after_the_horizon() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let (number, begun) = open_payment(&world, &gateway, &partner, silent(None)).await;
    sleep_until(begun + SEND_WITHIN + HORIZON - Duration::from_millis(1)).await;
    assert_eq!(world.word(number).await, "PENDING");
    assert!(
        world.bank.questions(number).len() > 3,
        "it was asked before, and the answers counted for nothing"
    );
    world.until(number, "REFUND", Duration::from_secs(1)).await;
    let invoice = world.invoice(number).await;
    let State::Refund { attempt, proof: NotPaidProof::NotFound { asked_at }, .. } = &invoice.state else {
        panic!("{invoice:?}")
    };
    assert!(*asked_at >= attempt.resolve_after);
    assert_eq!(answer(&gateway.pay(&partner, number).await), Err(Reason::InvoiceRefunded));
    world.must_be_over(DEPOSIT).await;
}

/// An answer that may be one to an earlier question proves nothing, and asking for it would put off when one does.
#[tokio::test(start_paused = true)]
async fn the_question_that_counts_waits_until_its_answer_can_be_told_from_earlier_ones() {
    for question in [Question::Asks, Question::Executes] {
        let profile = Profile { question, ..Terms::default().profile };
        let (world, gateway, partner) =
            World::with_terms(Terms { profile, ..Terms::default() }, DEPOSIT).await;
        let (number, begun) = open_payment(&world, &gateway, &partner, silent(None)).await;
        let counts_from = begun + Duration::from_hours(1);
        world.bank.set_not_paid_counts_from(counts_from);
        sleep_until(begun + Duration::from_mins(20)).await;
        let asked = world.bank.questions(number).len();
        sleep_until(counts_from - Duration::from_secs(1)).await;
        assert_eq!(world.bank.questions(number).len(), asked);
        must_stay_pending(&world, number, Duration::ZERO).await;
        world.until(number, "REFUND", Duration::from_secs(2)).await;
        assert_eq!(world.bank.questions(number).len(), asked + 1);
        world.must_be_over(DEPOSIT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_begins_the_horizon_anew() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let (number, begun) = open_payment(&world, &gateway, &partner, silent(None)).await;
    sleep_until(begun + SEND_WITHIN + HORIZON - Duration::from_secs(1)).await;
    gateway.engine.shut_down(Instant::now()).await;
    let restarted = Instant::now();
    let _second = world.start().await;
    sleep_until(restarted + SEND_WITHIN + HORIZON - Duration::from_millis(1)).await;
    assert_eq!(world.word(number).await, "PENDING");
    world.until(number, "REFUND", Duration::from_secs(1)).await;
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn every_unknown_stays_open_until_the_truth_and_strange_ones_are_incidents() {
    let garbled = || Unknown::Garbled("DE4 at 37".to_owned());
    let code = || Unknown::UnknownCode("77".to_owned());
    for taken in [true, false] {
        for (unknown, incident) in [
            (Unknown::TimedOut, None),
            (Unknown::ConnectionCut, None),
            (garbled(), Some(IncidentKind::Garbled)),
            (code(), Some(IncidentKind::UnknownCode)),
        ] {
            let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
            world.bank.on_status(Status::Says(StatusOutcome::UnderWay));
            let pay = Pay::Lost { unknown, taken };
            let (number, _) = open_payment(&world, &gateway, &partner, pay).await;
            must_stay_pending(&world, number, Duration::from_hours(2)).await;
            if let Some(kind) = incident {
                assert_eq!(world.incidents(kind).await, 1);
            }
            world.bank.on_status(Status::Truth);
            let ends_as = if taken { "CONFIRM" } else { "REFUND" };
            world.until(number, ends_as, Duration::from_mins(7)).await;
            world.must_be_over(DEPOSIT).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_right_is_not_applied() {
    for (pay, kind) in [
        (Pay::WrongAmount, IncidentKind::AmountDiffers),
        (Pay::WrongIdentity, IncidentKind::IdentityDiffers),
        (Pay::WrongReceipt, IncidentKind::Garbled),
    ] {
        let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
        world.bank.next_status(Status::WrongAmount);
        let number = gateway.invoice(&partner, 1).await;
        world.bank.next_pay(pay);
        // Wrong, wrong again to the first question, right to the second: the partner still gets the truth.
        assert_eq!(answer(&gateway.pay(&partner, number).await), Ok("CONFIRM"), "{kind:?}");
        assert!(world.incidents(kind).await >= 1, "{kind:?}");
        assert!(world.incidents(IncidentKind::AmountDiffers).await >= 1);
        assert_eq!(world.bank.questions(number).len(), 2);
        world.must_be_over(DEPOSIT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn paid_by_another_is_refunded_once_it_cannot_be_this_payment_on_its_way() {
    for question in [Question::Asks, Question::Executes] {
        let profile = Profile { question, ..Terms::default().profile };
        let (world, gateway, partner) =
            World::with_terms(Terms { profile, ..Terms::default() }, DEPOSIT).await;
        world.bank.on_status(Status::Says(StatusOutcome::PaidByAnother));
        let (number, begun) = open_payment(&world, &gateway, &partner, silent(None)).await;
        sleep_until(begun + SEND_WITHIN + HORIZON - Duration::from_secs(1)).await;
        must_stay_pending(&world, number, Duration::ZERO).await;
        world.until(number, "REFUND", Duration::from_mins(5)).await;
        world.must_be_over(DEPOSIT).await;
    }
}

/// What the bank refuses in answer to a question may still be on its way, whatever the clock on the wall says.
#[tokio::test(start_paused = true)]
async fn a_question_that_is_refused_ends_nothing_before_the_payment_can_have_left() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let refused = Refusal::new(Reason::BillAlreadyPaid);
    world.bank.on_status(Status::Says(StatusOutcome::Refused(refused)));
    let pay = Pay::Lost { unknown: Unknown::ConnectionCut, taken: false };
    let (number, begun) = open_payment(&world, &gateway, &partner, pay).await;
    world.clock.jump(3_600_000);
    sleep_until(begun + SEND_WITHIN - Duration::from_millis(1)).await;
    must_stay_pending(&world, number, Duration::ZERO).await;
    world.until(number, "REFUND", Duration::from_secs(10)).await;
    world.must_be_over(DEPOSIT).await;
}

/// Nothing can be on its way any more only when both clocks say so.
#[tokio::test(start_paused = true)]
async fn a_clock_put_forward_brings_no_refund_forward_where_a_question_may_pay() {
    let profile = Profile { question: Question::Executes, ..Terms::default().profile };
    let (world, gateway, partner) = World::with_terms(Terms { profile, ..Terms::default() }, DEPOSIT).await;
    let pay = Pay::Lost { unknown: Unknown::ConnectionCut, taken: false };
    let (number, begun) = open_payment(&world, &gateway, &partner, pay).await;
    world.clock.jump(3_600_000);
    world.bank.question_after(number, Timestamp::from_millis(0)).await;
    assert!(begun.elapsed() >= Settings::default().status_question_pause, "{:?}", begun.elapsed());
    sleep_until(begun + SEND_WITHIN + HORIZON - Duration::from_millis(1)).await;
    must_stay_pending(&world, number, Duration::ZERO).await;
    world.until(number, "REFUND", Duration::from_mins(5)).await;
    world.must_be_over(DEPOSIT).await;
}

/// A proposal stops the questions that could pay, so that the moment comes at which "not paid" can be approved.
#[tokio::test(start_paused = true)]
async fn operators_can_refund_where_a_question_may_pay() {
    for question in [Question::Executes, Question::Reverses] {
        let profile = Profile { question, definitive_status: false, ..Terms::default().profile };
        let (world, gateway, partner) =
            World::with_terms(Terms { profile, ..Terms::default() }, DEPOSIT).await;
        world.bank.on_status(Status::Says(StatusOutcome::Unknown(Unknown::TimedOut)));
        let (number, _) = open_payment(&world, &gateway, &partner, silent(None)).await;
        must_stay_pending(&world, number, Duration::from_hours(1)).await;
        let operations = world.operations();
        operations.propose(number, Resolution::NotPaid, ("ani", "letter", "absent")).await.expect("proposed");
        let proposed = world.clock.now();
        // If nobody approves, it is asked again a day later, and no earlier.
        let again = world.bank.question_after(number, proposed).await;
        assert!(again.since(proposed) >= domain::limits::proposal_holds_back, "{again:?}");
        operations.propose(number, Resolution::NotPaid, ("ani", "letter", "absent")).await.expect("proposed");
        must_stay_pending(&world, number, SEND_WITHIN + HORIZON).await;
        operations.approve(number, Resolution::NotPaid, "budi").await.expect("approved");
        assert_eq!(world.word(number).await, "REFUND");
        world.must_be_over(DEPOSIT).await;
    }
}

/// What cannot leave is not written down as if it had: the horizon stays, and the payment's own answer counts.
#[tokio::test(start_paused = true)]
async fn nothing_is_put_off_for_a_question_that_cannot_leave() {
    for question in [Question::Executes, Question::Reverses] {
        let profile = Profile { question, ..Terms::default().profile };
        let (world, gateway, partner) =
            World::with_terms(Terms { profile, ..Terms::default() }, DEPOSIT).await;
        let (number, _) = open_payment(&world, &gateway, &partner, silent(None)).await;
        world.bank.set_down(true);
        let begun = world.invoice(number).await;
        must_stay_pending(&world, number, Duration::from_hours(1)).await;
        assert_eq!(world.invoice(number).await, begun);
        world.bank.take(number);
        let outcome = PaymentOutcome::Paid(world.bank.paid(number));
        world.bank.send_late(LateAnswer { invoice: number, outcome, contradicts: false });
        world.until(number, "CONFIRM", Duration::from_secs(1)).await;
        world.must_be_over(DEPOSIT).await;
    }
}

fn rejection(error: &operate::Error) -> Option<&Rejection> {
    match error {
        operate::Error::Failure(Failure::Rejected(rejection)) => Some(rejection),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_payer_that_cannot_be_told_waits_for_two_operators() {
    for paid in [true, false] {
        let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
        world.bank.on_status(Status::Says(StatusOutcome::PayerUnknown));
        let takes_after = paid.then_some(Duration::ZERO);
        let (number, _) = open_payment(&world, &gateway, &partner, silent(takes_after)).await;
        must_stay_pending(&world, number, Duration::from_hours(1)).await;
        assert!(world.incidents(IncidentKind::PayerUnknown).await >= 1);

        let operations = world.operations();
        let receipt = BankReceipt { reference_number: "A1".to_owned(), trace_number: "000001".to_owned() };
        let resolution = if paid { Resolution::Paid { receipt } } else { Resolution::NotPaid };
        let nothing =
            operations.approve(number, resolution.clone(), "budi").await.expect_err("nothing is proposed");
        assert_eq!(rejection(&nothing), Some(&Rejection::NothingProposed));
        let because = ("ani", "letter 7", "the bank's statement");
        operations.propose(number, resolution.clone(), because).await.expect("proposed");
        for same in ["ani", "ANI", " ani "] {
            let refused =
                operations.approve(number, resolution.clone(), same).await.expect_err("the same operator");
            assert_eq!(rejection(&refused), Some(&Rejection::SameOperator), "{same:?}");
        }
        // The second operator saw something else.
        let receipt = BankReceipt { reference_number: "A1".to_owned(), trace_number: "000002".to_owned() };
        let other = if paid { Resolution::NotPaid } else { Resolution::Paid { receipt: receipt.clone() } };
        for other in [other, Resolution::Paid { receipt }] {
            let refused = operations.approve(number, other, "budi").await.expect_err("it is another");
            assert_eq!(rejection(&refused), Some(&Rejection::ProposalDiffers));
        }
        must_stay_pending(&world, number, Duration::from_mins(1)).await;
        operations.approve(number, resolution.clone(), "budi").await.expect("approved");
        assert_eq!(world.word(number).await, if paid { "CONFIRM" } else { "REFUND" });
        let again = operations.approve(number, resolution, "budi").await.expect_err("it is final");
        assert!(matches!(rejection(&again), Some(Rejection::InvoicePaid | Rejection::InvoiceRefunded)));
        world.must_be_over(DEPOSIT).await;
        // Nobody asks any more.
        let asked = world.bank.questions(number).len();
        sleep(Duration::from_hours(1)).await;
        assert!(world.bank.questions(number).len() <= asked + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn age_alone_settles_nothing() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    world.bank.on_status(Status::Says(StatusOutcome::Unknown(Unknown::TimedOut)));
    let (number, _) = open_payment(&world, &gateway, &partner, silent(Some(Duration::ZERO))).await;
    for _ in 0..4 {
        must_stay_pending(&world, number, Duration::from_hours(12)).await;
    }
    assert_eq!(world.incidents(IncidentKind::PendingLong).await, 1);
    // Asked with back-off: often at first, then about every five minutes.
    let asked = world.bank.questions(number).len();
    assert!((400..1_000).contains(&asked), "{asked}");
    world.bank.on_status(Status::Truth);
    world.until(number, "CONFIRM", Duration::from_mins(8)).await;
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_bank_without_a_definitive_status_leaves_refunds_to_operators() {
    let profile = Profile { definitive_status: false, ..Terms::default().profile };
    let terms = Terms { profile, ..Terms::default() };
    let (world, gateway, partner) = World::with_terms(terms, DEPOSIT).await;
    let (number, _) = open_payment(&world, &gateway, &partner, silent(None)).await;
    must_stay_pending(&world, number, Duration::from_hours(24)).await;
    let operations = world.operations();
    operations.propose(number, Resolution::NotPaid, ("ani", "statement", "absent")).await.expect("proposed");
    operations.approve(number, Resolution::NotPaid, "budi").await.expect("approved");
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_settles_its_own_payment_once() {
    for (outcome, ends_as) in [(Pay::Paid, "CONFIRM"), (Pay::Refused(Reason::CutOff), "REFUND")] {
        let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
        world.bank.on_status(Status::Says(StatusOutcome::UnderWay));
        let answers_after = Duration::from_secs(40);
        let pay = Pay::Late { outcome: Box::new(outcome), answers_after, copies: 3 };
        let other = gateway.invoice(&partner, 2).await;
        let (number, begun) = open_payment(&world, &gateway, &partner, pay).await;
        sleep_until(begun + answers_after - Duration::from_millis(1)).await;
        assert_eq!(world.word(number).await, "PENDING");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.word(number).await, ends_as);
        assert_eq!(world.word(other).await, "INQUIRY");
        assert_eq!(gateway.store.count(settle), 3, "each copy is decided, and one of them settles");
        assert_eq!(world.incidents(IncidentKind::Unmatched).await, 0);
        world.must_be_over(DEPOSIT).await;
    }
}

/// Nobody asks about a payment that is over, so a store that does not answer must not cost what came late about it.
#[tokio::test(start_paused = true)]
async fn a_late_word_that_a_refunded_payment_was_paid_outlives_a_store_that_does_not_answer() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let (number, _) = open_payment(&world, &gateway, &partner, silent(None)).await;
    world.until(number, "REFUND", Duration::from_mins(2)).await;
    world.bank.take(number);
    gateway.store.set_readable(false);
    let outcome = PaymentOutcome::Paid(world.bank.paid(number));
    world.bank.send_late(LateAnswer { invoice: number, outcome, contradicts: false });
    // It is asked for as long as it takes.
    for _ in 0..30 {
        advance(Duration::from_secs(11)).await;
    }
    gateway.store.set_readable(true);
    world.until_incident(IncidentKind::PaidAfterRefund, Duration::from_secs(15)).await;
    assert_eq!(world.word(number).await, "REFUND");
    assert_eq!(world.incidents(IncidentKind::PaidAfterRefund).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_refusal_is_not_believed_once_a_question_may_have_paid() {
    let profile = Profile { question: Question::Executes, ..Terms::default().profile };
    let terms = Terms { profile, ..Terms::default() };
    for (is_taken, ends_as) in [(true, "CONFIRM"), (false, "REFUND")] {
        let (world, gateway, partner) = World::with_terms(terms.clone(), DEPOSIT).await;
        let (number, _) = open_payment(&world, &gateway, &partner, silent(None)).await;
        let released = Arc::new(Notify::new());
        world.bank.next_status(Status::Held(Arc::clone(&released), StatusOutcome::UnderWay));
        sleep(Duration::from_secs(32)).await;
        assert_eq!(world.bank.questions(number).len(), 1, "the question is on its way");
        if is_taken {
            world.bank.take(number);
        }
        let refused = PaymentOutcome::Refused(Refusal::new(Reason::BillAlreadyPaid));
        world.bank.send_late(LateAnswer { invoice: number, outcome: refused, contradicts: false });
        must_stay_pending(&world, number, Duration::from_millis(100)).await;
        released.notify_one();
        world.until(number, ends_as, Duration::from_mins(5)).await;
        world.must_be_over(DEPOSIT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_three_questions_that_may_pay_each_waits_until_the_one_before_cannot_any_more() {
    let profile = Profile { question: Question::Executes, ..Terms::default().profile };
    let (world, gateway, partner) = World::with_terms(Terms { profile, ..Terms::default() }, DEPOSIT).await;
    let (number, _) = open_payment(&world, &gateway, &partner, silent(None)).await;
    world.until(number, "REFUND", Duration::from_mins(5)).await;
    let asked = world.bank.questions(number);
    let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert_eq!(pauses.len(), 3, "{pauses:?}");
    assert!(pauses[..2].iter().all(|pause| *pause < Duration::from_secs(10)), "{pauses:?}");
    assert!(pauses[2] >= SEND_WITHIN + HORIZON, "{pauses:?}");
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn late_answers_that_are_nobodys_are_incidents() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    let paid = |identity: &str| {
        PaymentOutcome::Paid(Paid {
            identity: identity.to_owned(),
            amount: Rupiah::new(TOTAL_RUPIAH),
            receipt: BankReceipt { reference_number: "A".to_owned(), trace_number: "000001".to_owned() },
        })
    };
    for invoice in [InvoiceNumber::new(999_999_999_999), number] {
        world.bank.send_late(LateAnswer { invoice, outcome: paid("x"), contradicts: false });
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.incidents(IncidentKind::Unmatched).await, 2);
    assert_eq!(world.word(number).await, "INQUIRY");
    // And one for another trace number than the payment under way.
    let (number, _) = open_payment(&world, &gateway, &partner, silent(None)).await;
    world.bank.send_late(LateAnswer { invoice: number, outcome: paid("another"), contradicts: false });
    for outcome in [PaymentOutcome::NeverSent, PaymentOutcome::Unknown(Unknown::TimedOut)] {
        world.bank.send_late(LateAnswer { invoice: number, outcome, contradicts: false });
    }
    let refused = PaymentOutcome::Refused(Refusal::new(Reason::CutOff));
    world.bank.send_late(LateAnswer { invoice: number, outcome: refused, contradicts: true });
    must_stay_pending(&world, number, Duration::from_secs(1)).await;
    assert_eq!(world.incidents(IncidentKind::IdentityDiffers).await, 1);
    assert_eq!(
        world.incidents(IncidentKind::Garbled).await,
        1,
        "who said something else before is not believed"
    );
    world.until(number, "REFUND", Duration::from_mins(2)).await;
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_contradiction_moves_no_money_and_is_corrected_against_dispute_loss() {
    // Paid after REFUND: the bank broke its horizon.
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let (number, _) = open_payment(&world, &gateway, &partner, silent(None)).await;
    world.until(number, "REFUND", Duration::from_mins(2)).await;
    let refunded = world.invoice(number).await;
    world.bank.send_late(LateAnswer {
        invoice: number,
        outcome: PaymentOutcome::Paid(world.bank.paid(number)),
        contradicts: false,
    });
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.invoice(number).await, refunded);
    assert_eq!(world.deposit(partner.id).await, DEPOSIT);
    assert_eq!(world.incidents(IncidentKind::PaidAfterRefund).await, 1);
    correct(&world, number, IncidentKind::PaidAfterRefund).await;
    assert_eq!(world.invoice(number).await, refunded);

    // Not paid after CONFIRM: the bank takes its word back.
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    assert_eq!(answer(&gateway.pay(&partner, number).await), Ok("CONFIRM"));
    let confirmed = world.invoice(number).await;
    let refused = PaymentOutcome::Refused(Refusal::new(Reason::CutOff));
    world.bank.send_late(LateAnswer { invoice: number, outcome: refused, contradicts: false });
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.invoice(number).await, confirmed);
    assert_eq!(world.incidents(IncidentKind::NotPaidAfterConfirm).await, 1);
    correct(&world, number, IncidentKind::NotPaidAfterConfirm).await;
    world.must_be_over(DEPOSIT).await;
}

async fn correct(world: &World, number: InvoiceNumber, kind: IncidentKind) {
    let operations = world.operations();
    let other = if kind == IncidentKind::PaidAfterRefund {
        IncidentKind::NotPaidAfterConfirm
    } else {
        IncidentKind::PaidAfterRefund
    };
    let nothing = operations.correct_incident(number, other, "ani", "letter 8").await.expect_err("none");
    assert_eq!(rejection(&nothing), Some(&Rejection::NothingToCorrect));
    operations.correct_incident(number, kind, "ani", "letter 8").await.expect("corrected");
    let again = operations.correct_incident(number, kind, "ani", "letter 8").await.expect_err("once");
    assert_eq!(rejection(&again), Some(&Rejection::AlreadyCorrected));
    world.must_prove().await;
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_never_returns_or_panics_loses_no_payment() {
    for pay in [Pay::Hangs, Pay::Panics] {
        let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
        world.bank.next_status(Status::Hangs);
        world.bank.next_status(Status::Panics);
        let (number, _) = open_payment(&world, &gateway, &partner, pay).await;
        world.until(number, "CONFIRM", Duration::from_mins(3)).await;
        world.must_be_over(DEPOSIT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_question_that_panics_for_ever_delays_nobody_elses_refund() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let poison = gateway.invoice(&partner, 2).await;
    world.bank.next_pay(silent(None));
    drop(gateway.spawn_pay(&partner, poison));
    let (number, begun) = open_payment(&world, &gateway, &partner, silent(None)).await;
    world.bank.poison(poison);
    sleep_until(begun + SEND_WITHIN + HORIZON + Duration::from_secs(2)).await;
    assert_eq!(world.word(number).await, "REFUND");
    assert_eq!(world.word(poison).await, "PENDING");
    world.bank.poison(number);
    world.until(poison, "REFUND", Duration::from_mins(7)).await;
    world.must_be_over(DEPOSIT).await;
}
