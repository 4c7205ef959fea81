//! The simulator as an upstream: every test number, the ledger across deaths and resets, the horizon.

use super::{scenarios::Finally, *};
use crate::SendBefore;
use domain::{
    Bill, BusinessDate, ChassisNumber, Nik, PaymentCode, ProductCode, Reason, Refusal, Timestamp,
    invoice::BankReceipt,
};
use std::{collections::BTreeSet, path::Path};

/// Follows tokio's clock, which tests advance.
#[derive(Debug)]
struct TestClock {
    origin: Instant,
    begins_at: Timestamp,
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.begins_at.plus(self.origin.elapsed())
    }
}

/// 2026-11-23 10:00 in Jakarta.
fn clock() -> Arc<dyn Clock> {
    let day = BusinessDate::from_number(20_261_123).unwrap();
    Arc::new(TestClock { origin: Instant::now(), begins_at: day.begins_at().plus(Duration::from_hours(10)) })
}

struct Fixture {
    bank: Arc<Simulator>,
    clock: Arc<dyn Clock>,
    directory: tempfile::TempDir,
    next_invoice: std::cell::Cell<i64>,
}

fn fixture() -> Fixture {
    fixture_with(SimulatorSettings::default())
}

fn fixture_with(settings: SimulatorSettings) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let bank = open(directory.path(), settings, &clock);
    Fixture { bank, clock, directory, next_invoice: std::cell::Cell::new(100_000_000_000) }
}

fn open(directory: &Path, settings: SimulatorSettings, clock: &Arc<dyn Clock>) -> Arc<Simulator> {
    let settings = SimulatorSettings { ledger_path: directory.join("bank.db"), ..settings };
    Simulator::open(settings, Arc::clone(clock)).unwrap()
}

/// The simulator has no use for the numbers of inquiries.
const INVOICE: InvoiceNumber = InvoiceNumber::new(100_000_000_000);

fn placing(invoice: InvoiceNumber) -> Placing<'static> {
    Placing { invoice, upstream_reference: None }
}

fn asked(product: &str, nik: &str, chassis: &str) -> InquiryRequest {
    InquiryRequest {
        invoice: INVOICE,
        product: ProductCode::parse(product).unwrap(),
        nik: Nik::parse(nik).unwrap(),
        chassis: ChassisNumber::parse(chassis).unwrap(),
    }
}

fn documented() -> InquiryRequest {
    asked("SAMSAT_JABAR", "320111111111111", "MH328D204AK4010000")
}

fn resident(number: u32) -> InquiryRequest {
    let (nik, chassis, product) = population::numbers(number);
    InquiryRequest { invoice: INVOICE, product, nik, chassis }
}

impl Fixture {
    async fn bill(&self, asked: &InquiryRequest) -> Bill {
        match self.bank.inquire(asked.clone()).await {
            InquiryOutcome::Presented { bill, .. } => bill,
            other => panic!("no bill: {other:?}"),
        }
    }

    async fn refusal(&self, asked: InquiryRequest) -> Refusal {
        match self.bank.inquire(asked).await {
            InquiryOutcome::Refused(refusal) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// A payment as the engine prepares it: a place, an identity, ten seconds to be sent in.
    fn begin(&self, product: &ProductCode, bill: &Bill) -> (Place, PaymentRequest) {
        let invoice = InvoiceNumber::new(self.next_invoice.replace(self.next_invoice.get() + 1));
        let place = self.bank.place(placing(invoice)).unwrap();
        let request = PaymentRequest {
            invoice,
            identity: place.identity.clone(),
            product: product.clone(),
            nik: bill.nik.clone(),
            chassis: bill.chassis.clone(),
            payment_code: bill.payment_code.clone(),
            amount: bill.taxes.total(),
            terms: UpstreamTerms::default(),
            send_before: SendBefore {
                wall: self.clock.now().plus(Duration::from_secs(10)),
                monotonic: Instant::now() + Duration::from_secs(10),
            },
        };
        (place, request)
    }

    async fn begin_for(&self, asked: &InquiryRequest) -> (Place, PaymentRequest) {
        let bill = self.bill(asked).await;
        self.begin(&asked.product, &bill)
    }

    async fn pay_for(&self, asked: &InquiryRequest) -> (PaymentRequest, PaymentOutcome) {
        let (place, request) = self.begin_for(asked).await;
        let outcome = self.bank.pay(place, request.clone()).await;
        (request, outcome)
    }

    /// Sleeps, on the paused clock, until no payment of this request can be carried out any more.
    async fn pass_horizon(&self, request: &PaymentRequest) {
        let end = request.send_before.wall.plus(self.bank.profile().horizon);
        sleep(end.since(self.clock.now()) + Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_documented_example_works_to_the_letter() {
    let f = fixture();
    for nik in ["3201111111111111", "320111111111111"] {
        let bill = f.bill(&asked("SAMSAT_JABAR", nik, "MH328D204AK4010000")).await;
        assert_eq!(bill.owner_name.expose(), "JORDAN");
        assert_eq!(bill.owner_address.expose(), "KP CITAMIANG DUA RT1 RW4 PAMIJAHAN KAB BOGOR");
        assert_eq!((bill.license_plate.as_str(), bill.year_built), ("F 0001 Z", 2010));
        assert_eq!(
            (bill.vehicle_brand.as_str(), bill.vehicle_model.as_str()),
            ("YAMAHA", "28D (AL115S/MIO)")
        );
        assert_eq!(bill.vehicle_color, "MERAH MARUN");
        assert_eq!(bill.payment_code.as_str(), "322020060719000");
        assert_eq!((bill.taxes.pkb, bill.taxes.swdkllj), (Rupiah::new(143_500), Rupiah::new(35_000)));
        assert_eq!(bill.taxes.total(), Rupiah::new(178_500));
        assert_eq!(bill.nik.as_str(), nik);
    }

    let unknown = asked("SAMSAT_JABAR", "647104120000000", "MHIJBK11EK04000");
    assert_eq!(f.refusal(unknown).await, Refusal::new(Reason::VehicleNotFound));
    let stranger = asked("SAMSAT_JABAR", "3201111111111112", "MH328D204AK4010000");
    assert_eq!(f.refusal(stranger).await, Refusal::new(Reason::NikMismatch));
    let elsewhere = asked("SAMSAT_JATIM", "320111111111111", "MH328D204AK4010000");
    assert_eq!(f.refusal(elsewhere).await, Refusal::new(Reason::OtherProvince));

    let (request, outcome) = f.pay_for(&documented()).await;
    let PaymentOutcome::Paid(paid) = outcome else { panic!("{outcome:?}") };
    assert_eq!((&paid.identity, paid.amount), (&request.identity, Rupiah::new(178_500)));
    let BankReceipt { reference_number, trace_number } = &paid.receipt;
    assert!(
        reference_number.len() == 32 && reference_number.bytes().all(|b| b"0123456789ABCDEF".contains(&b))
    );
    assert!(trace_number.len() == 6 && trace_number.bytes().all(|b| b.is_ascii_digit()));
    assert_eq!(f.refusal(documented()).await, Refusal::already_paid());
    assert_eq!(f.bank.status(request).await, StatusOutcome::Paid(paid));
}

/// What a scenario's inquiry, payment and status bring, in short.
fn expected(scenario: u16) -> (&'static str, &'static str, &'static str) {
    match scenario {
        100 | 101 | 202 | 304 => ("bill", "paid", "paid"),
        305 => ("bill", "paid, late paid", "paid"),
        110 => ("vehicle_not_found", "", ""),
        111 => ("nik_mismatch", "", ""),
        112 => ("vehicle_blocked", "", ""),
        113 => ("five_yearly_renewal", "", ""),
        114 => ("too_early", "", ""),
        115 => ("too_late", "", ""),
        116 => ("company_owner", "", ""),
        117 => ("plate_colour", "", ""),
        118 => ("other_province", "", ""),
        119 => ("bill_already_paid 0054", "", ""),
        120 => ("cut_off 0081", "", ""),
        201 => ("no answer in time", "", ""),
        203 => ("bank_refused 0089", "", ""),
        204 => ("the connection broke", "", ""),
        205 => ("the answer could not be read: field 39 at offset 21: not a digit", "", ""),
        206 => ("unknown response code 7F", "", ""),
        207 => ("never sent", "", ""),
        301 => ("bill", "bank_refused 0089", "not paid"),
        302 => ("bill", "bill_already_paid 0054", "not paid"),
        303 => ("bill", "never sent", "not paid"),
        401 | 414 => ("bill", "no answer in time", "paid"),
        402 => ("bill", "no answer in time", "not paid"),
        403 => ("bill", "no answer in time, late paid", "paid"),
        404 => ("bill", "no answer in time, late bank_refused 0089", "not paid"),
        405 => ("bill", "the connection broke", "paid"),
        406 => ("bill", "the connection broke", "not paid"),
        407 => ("bill", "the answer could not be read: field 39 at offset 21: not a digit", "paid"),
        408 => ("bill", "unknown response code 7F", "not paid"),
        409 => ("bill", "paid another amount", "paid"),
        410 => ("bill", "paid by another identity", "paid"),
        411 => ("bill", "no answer in time", "paid by another"),
        412 => ("bill", "no answer in time", "payer unknown"),
        413 => ("bill", "no answer in time", "no answer in time"),
        415 => ("bill", "no answer in time", "under way, then paid"),
        _ => panic!("scenario {scenario} has no expectation"),
    }
}

fn named(refusal: &Refusal) -> String {
    let code = refusal.bank_code.as_deref().unwrap_or_default();
    format!("{} {code}", refusal.reason.code()).trim_end().to_owned()
}

fn told(outcome: &PaymentOutcome, request: &PaymentRequest) -> String {
    match outcome {
        PaymentOutcome::Paid(paid) if paid.amount != request.amount => "paid another amount".to_owned(),
        PaymentOutcome::Paid(paid) if paid.identity != request.identity => {
            "paid by another identity".to_owned()
        }
        PaymentOutcome::Paid(_) => "paid".to_owned(),
        PaymentOutcome::Refused(refusal) => named(refusal),
        PaymentOutcome::NeverSent => "never sent".to_owned(),
        PaymentOutcome::Unknown(unknown) => unknown.to_string(),
    }
}

fn status_told(outcome: &StatusOutcome) -> String {
    match outcome {
        StatusOutcome::Paid(_) => "paid".to_owned(),
        StatusOutcome::NotPaid => "not paid".to_owned(),
        StatusOutcome::Refused(refusal) => format!("refused {}", refusal.reason.code()),
        StatusOutcome::PaidByAnother => "paid by another".to_owned(),
        StatusOutcome::PayerUnknown => "payer unknown".to_owned(),
        StatusOutcome::UnderWay => "under way".to_owned(),
        StatusOutcome::Unknown(unknown) => unknown.to_string(),
    }
}

#[tokio::test(start_paused = true)]
async fn every_test_number_does_what_it_says() {
    let f = fixture();
    let answer_timeout = f.bank.profile().answer_timeout;
    let mut late_answers = f.bank.late_answers().unwrap();
    assert!(f.bank.late_answers().is_none(), "there is one stream");

    for test_number in test_numbers() {
        let scenario = test_number.scenario;
        let (inquiry, payment, status) = expected(scenario);
        let asked = asked(test_number.product, test_number.customer_number, &test_number.structure_number);

        let begun = Instant::now();
        let outcome = f.bank.inquire(asked.clone()).await;
        assert!(begun.elapsed() <= answer_timeout, "{scenario}");
        let inquired = match &outcome {
            InquiryOutcome::Presented { .. } => "bill".to_owned(),
            InquiryOutcome::Refused(refusal) => named(refusal),
            InquiryOutcome::NeverSent => "never sent".to_owned(),
            InquiryOutcome::Unknown(unknown) => unknown.to_string(),
        };
        assert_eq!(inquired, inquiry, "{scenario}");
        let InquiryOutcome::Presented { bill, .. } = outcome else {
            assert_eq!((test_number.finally, test_number.at_payment), (Finally::Failure, None), "{scenario}");
            continue;
        };
        assert_eq!(bill.taxes.pkb_penalty > Rupiah::ZERO, scenario == 101);

        let (place, request) = f.begin(&asked.product, &bill);
        let begun = Instant::now();
        let outcome = f.bank.pay(place, request.clone()).await;
        assert!(begun.elapsed() <= answer_timeout, "{scenario}");
        let soon = status_told(&f.bank.status(request.clone()).await);
        if scenario == 414 {
            assert_eq!(soon, "not paid", "too early a question proves nothing");
        }
        f.pass_horizon(&request).await;
        let mut paid = told(&outcome, &request);
        if let Ok(late) = late_answers.try_recv() {
            assert_eq!(late.invoice, request.invoice);
            paid = format!("{paid}, late {}", told(&late.outcome, &request));
        }
        assert_eq!(paid, payment, "{scenario}");

        let asked_for = f.bank.status(request.clone()).await;
        let mut found = status_told(&asked_for);
        if soon == "under way" {
            found = format!("{soon}, then {found}");
        }
        assert_eq!(found, status, "{scenario}");
        if let StatusOutcome::Paid(paid) = asked_for {
            assert_eq!((&paid.identity, paid.amount), (&request.identity, request.amount), "{scenario}");
        }

        let taken =
            f.bank.payments().await.unwrap().iter().any(|payment| payment.identity == request.identity);
        let confirmed = test_number.finally == Finally::Confirm;
        assert_eq!(taken, confirmed, "{scenario}");
        let again = f.bank.inquire(asked).await;
        let paid_up = matches!(again, InquiryOutcome::Refused(refusal) if refusal == Refusal::already_paid());
        assert_eq!(paid_up, confirmed, "{scenario}");
    }
    assert!(late_answers.try_recv().is_err(), "every late answer had its scenario");
}

#[test]
fn test_numbers_have_scenarios_of_their_own() {
    let numbers = test_numbers();
    let scenarios: BTreeSet<u16> = numbers.iter().map(|number| number.scenario).collect();
    assert_eq!(scenarios.len(), numbers.len());
    assert_eq!(numbers[0].structure_number, "UJI1000001");
    assert!(numbers.iter().all(|number| number.at_payment.is_none() == (number.finally == Finally::Failure)));
}

#[tokio::test(start_paused = true)]
async fn test_vehicles_are_fresh_without_end_and_belong_to_every_province() {
    let f = fixture();
    let mut codes = BTreeSet::new();
    for product in ["SAMSAT_JABAR", "SAMSAT_JATENG", "SAMSAT_JAKARTA", "SAMSAT_JATIM"] {
        for serial in ["0001", "0002", "ZZZZ", "1234567890123456789"] {
            let asked = asked(product, scenarios::NIK, &format!("UJI100{serial}"));
            codes.insert(f.bill(&asked).await.payment_code);
        }
    }
    assert_eq!(codes.len(), 4, "the chassis number alone makes the bill");
    for chassis in ["UJI100001", "UJI10012345678901234567890", "UJI9990001", "UJIA000001"] {
        if let Some(chassis) = ChassisNumber::parse(chassis) {
            let asked = asked("SAMSAT_JABAR", scenarios::NIK, chassis.as_str());
            assert_eq!(f.refusal(asked).await, Refusal::new(Reason::VehicleNotFound), "{chassis}");
        }
    }
    let stranger = asked("SAMSAT_JABAR", "3299000000000002", "UJI2010001");
    assert_eq!(f.refusal(stranger).await, Refusal::new(Reason::NikMismatch));
    assert_eq!(
        f.refusal(asked("SAMSAT_BALI", scenarios::NIK, "UJI1000001")).await,
        Refusal::new(Reason::OtherProvince)
    );
}

#[tokio::test(start_paused = true)]
async fn the_population_is_known_by_both_numbers_and_its_province() {
    let f = fixture_with(SimulatorSettings { population: 1_000, ..SimulatorSettings::default() });
    let jabar = resident(0);
    let bill = f.bill(&jabar).await;
    assert_eq!(bill.payment_code.as_str().len(), 16);

    let wrong_nik = InquiryRequest { nik: resident(4).nik, ..jabar.clone() };
    assert_eq!(f.refusal(wrong_nik).await, Refusal::new(Reason::NikMismatch));
    let wrong_product = InquiryRequest { product: ProductCode::parse("SAMSAT_JATENG").unwrap(), ..jabar };
    assert_eq!(f.refusal(wrong_product).await, Refusal::new(Reason::OtherProvince));
    assert_eq!(f.refusal(resident(1_000)).await, Refusal::new(Reason::VehicleNotFound));

    let InquiryOutcome::Presented { payable_until, .. } = f.bank.inquire(resident(1)).await else { panic!() };
    assert_eq!(
        payable_until,
        Some(f.clock.now().plus(Duration::from_hours(2))),
        "Central Java's codes live 2 h"
    );
    let InquiryOutcome::Presented { payable_until, .. } = f.bank.inquire(resident(0)).await else { panic!() };
    assert_eq!(payable_until, None);
}

#[tokio::test(start_paused = true)]
async fn one_identity_is_carried_out_once_and_answered_alike() {
    let f = fixture();
    let (request, first) = f.pay_for(&documented()).await;
    assert!(matches!(first, PaymentOutcome::Paid(_)));
    let repeat =
        Place { identity: request.identity.clone(), ..f.bank.place(placing(request.invoice)).unwrap() };
    assert_eq!(f.bank.pay(repeat, request).await, first);
    assert_eq!(f.bank.payments().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_bill_is_paid_by_one_identity() {
    let f = fixture();
    let bill = f.bill(&documented()).await;
    let product = documented().product;
    let begun: Vec<_> = (0..50).map(|_| f.begin(&product, &bill)).collect();
    let requests: Vec<_> = begun.iter().map(|(_, request)| request.clone()).collect();
    let outcomes =
        futures::future::join_all(begun.into_iter().map(|(place, request)| f.bank.pay(place, request))).await;

    let paid: Vec<_> = (0..50).filter(|i| matches!(outcomes[*i], PaymentOutcome::Paid(_))).collect();
    assert_eq!(paid.len(), 1);
    assert_eq!(f.bank.payments().await.unwrap().len(), 1);
    for (index, outcome) in outcomes.iter().enumerate().filter(|(index, _)| *index != paid[0]) {
        assert_eq!(*outcome, PaymentOutcome::Refused(Refusal::already_paid()));
        assert_eq!(f.bank.status(requests[index].clone()).await, StatusOutcome::PaidByAnother);
    }
}

#[tokio::test(start_paused = true)]
async fn two_processes_on_one_ledger_take_a_bill_once() {
    let f = fixture();
    let other = open(f.directory.path(), SimulatorSettings::default(), &f.clock);
    let bill = f.bill(&documented()).await;
    let (here, first) = f.begin(&documented().product, &bill);
    let (_, second) = f.begin(&documented().product, &bill);
    let there = other.place(placing(second.invoice)).unwrap();
    let outcomes = [f.bank.pay(here, first).await, other.pay(there, second).await];
    assert!(matches!(outcomes[0], PaymentOutcome::Paid(_)));
    assert_eq!(outcomes[1], PaymentOutcome::Refused(Refusal::already_paid()));
    assert_eq!(other.reset().await.unwrap(), 2);
    f.bill(&documented()).await;
}

#[tokio::test(start_paused = true)]
async fn the_ledger_survives_its_process() {
    let f = fixture();
    let (request, outcome) = f.pay_for(&documented()).await;
    let Fixture { bank, clock, directory, .. } = f;
    drop(bank);

    let bank = open(directory.path(), SimulatorSettings::default(), &clock);
    let PaymentOutcome::Paid(paid) = outcome else { panic!("{outcome:?}") };
    assert_eq!(bank.status(request.clone()).await, StatusOutcome::Paid(paid.clone()));
    let payments = bank.payments().await.unwrap();
    assert_eq!(payments.len(), 1);
    assert_eq!(payments[0].identity, request.identity);
    assert_eq!((payments[0].invoice, payments[0].amount), (request.invoice, request.amount));
    assert_eq!(payments[0].receipt, paid.receipt);
    assert_eq!(payments[0].business_date().as_number(), 20_261_123);
}

#[tokio::test(start_paused = true)]
async fn a_reset_makes_bills_payable_and_forgets_no_payment() {
    let f = fixture();
    let (before, outcome) = f.pay_for(&documented()).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(f.bank.reset().await.unwrap(), 2);
    let (after, _) = f.pay_for(&documented()).await;
    assert_eq!(f.bank.payments().await.unwrap().iter().map(|p| p.generation).collect::<Vec<_>>(), [1, 2]);
    let PaymentOutcome::Paid(paid) = outcome else { panic!("{outcome:?}") };
    assert_eq!(f.bank.status(before).await, StatusOutcome::Paid(paid));
    assert!(matches!(f.bank.status(after).await, StatusOutcome::Paid(_)));
}

#[tokio::test(start_paused = true)]
async fn a_payment_under_way_dies_with_a_reset() {
    let f = fixture();
    let asked = asked("SAMSAT_JABAR", scenarios::NIK, "UJI4140001");
    let (request, outcome) = f.pay_for(&asked).await;
    assert_eq!(outcome, PaymentOutcome::Unknown(Unknown::TimedOut));
    f.bank.reset().await.unwrap();
    f.pass_horizon(&request).await;
    assert_eq!(f.bank.status(request).await, StatusOutcome::NotPaid);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_takes_nothing_back_and_its_answer_comes_late() {
    let f = fixture_with(SimulatorSettings { delay_ms: (500, 500), ..SimulatorSettings::default() });
    let mut late_answers = f.bank.late_answers().unwrap();
    let (place, request) = f.begin_for(&documented()).await;
    let paying = f.bank.pay(place, request.clone());
    assert!(tokio::time::timeout(Duration::from_millis(100), paying).await.is_err());
    let late = late_answers.recv().await.unwrap();
    assert_eq!(late.invoice, request.invoice);
    assert!(matches!(late.outcome, PaymentOutcome::Paid(_)));
    assert!(matches!(f.bank.status(request).await, StatusOutcome::Paid(_)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_past_its_time() {
    let f = fixture();
    let (place, request) = f.begin_for(&documented()).await;
    let paying = f.bank.pay(place, request.clone());
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(paying.await, PaymentOutcome::NeverSent);
    assert!(f.bank.payments().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_carried_out_past_the_horizon() {
    // The way to the bank takes longer than the horizon.
    let settings = SimulatorSettings { delay_ms: (60_001, 60_001), ..SimulatorSettings::default() };
    let f = fixture();
    let bill = f.bill(&documented()).await;
    let slow = open(f.directory.path(), settings, &f.clock);
    let (_, request) = f.begin(&documented().product, &bill);
    let outcome = slow.pay(slow.place(placing(request.invoice)).unwrap(), request.clone()).await;
    assert_eq!(outcome, PaymentOutcome::Unknown(Unknown::TimedOut));
    f.pass_horizon(&request).await;
    assert!(f.bank.payments().await.unwrap().is_empty());
    assert_eq!(f.bank.status(request).await, StatusOutcome::NotPaid);
}

#[tokio::test(start_paused = true)]
async fn the_bank_refuses_what_is_not_its_bill() {
    let f = fixture();
    let bill = f.bill(&documented()).await;
    let product = documented().product;
    let (place, request) = f.begin(&product, &bill);
    let request = PaymentRequest { amount: request.amount + Rupiah::new(1), ..request };
    let expected = |code| PaymentOutcome::Refused(Refusal::with_code(Reason::BankRefused, code));
    assert_eq!(f.bank.pay(place, request).await, expected("0013"));
    let (place, request) = f.begin(&product, &bill);
    let request = PaymentRequest { payment_code: PaymentCode::parse("1").unwrap(), ..request };
    assert_eq!(f.bank.pay(place, request).await, expected("0092"));
    assert!(f.bank.payments().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_place_is_held_until_the_answer_or_its_time_out() {
    let f = fixture_with(SimulatorSettings { capacity: 1, ..SimulatorSettings::default() });
    let number = InvoiceNumber::new(1);
    let held = f.bank.place(placing(number)).unwrap();
    assert_eq!(f.bank.place(placing(number)).unwrap_err(), NoPlace::Full);
    drop(held);

    let asked = asked("SAMSAT_JABAR", scenarios::NIK, "UJI4140001");
    let (place, request) = f.begin_for(&asked).await;
    let paying = tokio::time::timeout(Duration::from_secs(1), f.bank.pay(place, request.clone()));
    assert!(paying.await.is_err());
    assert_eq!(
        f.bank.place(placing(number)).unwrap_err(),
        NoPlace::Full,
        "its caller is gone, the payment is not"
    );
    sleep(f.bank.profile().answer_timeout).await;
    drop(f.bank.place(placing(number)).unwrap());
}

#[tokio::test(start_paused = true)]
async fn random_faults_come_as_often_as_asked_and_the_same_for_one_seed() {
    let faults =
        FaultRates { refused: 0.3, cut_then_paid: 0.2, inquiry_refused: 0.0, ..FaultRates::default() };
    let settings = SimulatorSettings { faults, seed: 7, ..SimulatorSettings::default() };
    let mut runs = Vec::new();
    for _ in 0..2 {
        let f = fixture_with(settings.clone());
        let mut run = Vec::new();
        for number in 0..400 {
            let (request, outcome) = f.pay_for(&resident(number)).await;
            run.push(told(&outcome, &request));
        }
        runs.push(run);
        assert!(matches!(f.pay_for(&documented()).await.1, PaymentOutcome::Paid(_)), "the example is spared");
    }
    let count = |what: &str| runs[0].iter().filter(|told| *told == what).count();
    assert!((90..=150).contains(&count("bank_refused 0089")), "{}", count("bank_refused 0089"));
    assert!((50..=110).contains(&count("the connection broke")), "{}", count("the connection broke"));
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test(start_paused = true)]
async fn many_payments_at_once_are_all_taken() {
    let f = fixture_with(SimulatorSettings { capacity: 10_000, ..SimulatorSettings::default() });
    let mut begun = Vec::new();
    for number in 0..5_000 {
        begun.push(f.begin_for(&resident(number)).await);
    }
    let paying = begun.into_iter().map(|(place, request)| f.bank.pay(place, request));
    let outcomes = futures::future::join_all(paying).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, PaymentOutcome::Paid(_))));
    let payments = f.bank.payments().await.unwrap();
    let references: BTreeSet<_> = payments.iter().map(|p| p.receipt.reference_number.clone()).collect();
    let traces: BTreeSet<_> = payments.iter().map(|p| p.receipt.trace_number.clone()).collect();
    assert_eq!((payments.len(), references.len(), traces.len()), (5_000, 5_000, 5_000));
}

#[test]
fn settings_are_read_and_checked() {
    let settings: SimulatorSettings = toml::from_str(
        "delay_ms = [20, 80]\ncapacity = 10\nhorizon_ms = 40000\nanswer_timeout_ms = 20000\nseed = 3\n\
         [faults]\nlate = 0.25\ninquiry_silent = 0.1\n",
    )
    .unwrap();
    assert_eq!((settings.delay_ms, settings.capacity, settings.faults.late), ((20, 80), 10, 0.25));
    assert!(check(&settings).is_ok() && check(&SimulatorSettings::default()).is_ok());
    assert!(toml::from_str::<SimulatorSettings>("delay = 1").is_err());
    assert!(toml::from_str::<SimulatorSettings>("[faults]\nfoo = 0.1").is_err());

    let good = SimulatorSettings::default();
    for bad in [
        SimulatorSettings { delay_ms: (2, 1), ..good.clone() },
        SimulatorSettings { capacity: 0, ..good.clone() },
        SimulatorSettings { horizon_ms: 1, ..good.clone() },
        SimulatorSettings { population: population::VEHICLES_MAX + 1, ..good.clone() },
        SimulatorSettings {
            faults: FaultRates { late: 0.6, refused: 0.5, ..FaultRates::default() },
            ..good.clone()
        },
        SimulatorSettings { faults: FaultRates { late: -0.1, ..FaultRates::default() }, ..good.clone() },
        SimulatorSettings {
            faults: FaultRates { inquiry_cut: f64::NAN, ..FaultRates::default() },
            ..good.clone()
        },
    ] {
        assert!(check(&bad).is_err(), "{bad:?}");
    }
}
