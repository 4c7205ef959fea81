//! The state machine as tables: one line an event with its result.
//!
//! Every event is tried on an invoice in every state. What it does to the books is told as the words of the
//! postings, so that a line shows the whole effect.

use domain::{
    Accepted, AgentCode, Attempt, BankReceipt, ChassisNumber, Command, Environment, Fence, Invoice,
    InvoiceNumber, Lease, NotPaidProof, Partner, PartnerId, PartnerStatus, PaymentCode, ProductCode, Reason,
    Rejection, Rupiah, Secret, Slot, State, Terminal, Timestamp, UpstreamId, UpstreamTerms, Username,
    command::{
        ApproveResolution, BeginPayment, ChangeLease, CorrectIncident, Outcome, PartnerChange, PaymentFacts,
        ProposeResolution, ReserveTraceNumbers, SettlePayment, TopUp,
    },
    decide,
    ledger::Account,
    limits,
    record::{Incident, IncidentKind, Proposal, Resolution},
    rows::{Changes, Claim, Counter, Keys, Rows},
};
use std::time::Duration;

const LIVE: Environment = Environment::Live;
const PARTNER: PartnerId = PartnerId(7);
const NUMBER: InvoiceNumber = InvoiceNumber::new(100_000_000_001);
const OTHER: i64 = 100_000_000_002;
const OPERATOR: &str = "sari";

/// So many seconds after 2026-11-23 16:00 WIB.
fn second(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_795_424_400_000 + seconds * 1_000)
}

fn receipt() -> BankReceipt {
    BankReceipt { reference_number: "AB12".to_owned(), trace_number: "000123".to_owned() }
}

fn attempt() -> Attempt {
    Attempt {
        begun_at: second(0),
        send_before: second(30),
        resolve_after: second(120),
        identity: "1123090000-000123".to_owned(),
        is_reversing: false,
        rest: Duration::ZERO,
    }
}

fn state(word: &str) -> State {
    let attempt = attempt();
    match word {
        "FAILURE" => State::Failure { refusal: Reason::VehicleNotFound.into() },
        "INQUIRY" => State::Inquiry,
        "PENDING" => State::Pending { attempt },
        "CONFIRM" => State::Confirm { attempt, receipt: receipt(), settled_at: second(5) },
        "REFUND" => State::Refund { attempt, proof: NotPaidProof::NeverSent, settled_at: second(5) },
        _ => panic!("{word} is no state"),
    }
}

fn invoice(word: &str) -> Invoice {
    Invoice {
        number: NUMBER,
        environment: LIVE,
        partner: PARTNER,
        product: ProductCode::parse("SAMSAT_JABAR").expect("a product code"),
        upstream: UpstreamId(1),
        inquired_at: second(-60),
        business_date: second(0).date_in_jakarta(),
        payable_until: Some(second(3600)),
        payment_code: PaymentCode::parse("3200000000000001"),
        chassis: ChassisNumber::parse("MH328D204AK401000").expect("a chassis number"),
        total: Rupiah::new(183_500),
        fee: Rupiah::new(5_000),
        cashback: Rupiah::new(2_000),
        upstream_terms: UpstreamTerms::default(),
        state: state(word),
        sequence: match word {
            "PENDING" => 1,
            "CONFIRM" | "REFUND" => 2,
            _ => 0,
        },
    }
}

fn facts() -> PaymentFacts {
    PaymentFacts::of(&invoice("INQUIRY")).expect("an invoice with a bill")
}

fn partner() -> Partner {
    Partner {
        id: PARTNER,
        environment: LIVE,
        username: Username::parse("mitra").expect("a user name"),
        name: "CV Mitra".to_owned(),
        agent_code: AgentCode::parse("JKT-00000").expect("an agent code"),
        status: PartnerStatus::Active,
        credit_limit: Rupiah::ZERO,
        password_hash: Secret::default(),
        allowed_networks: Vec::new(),
    }
}

/// What surrounds the event.
#[derive(Clone)]
struct World {
    invoice: Option<Invoice>,
    partner: Option<Partner>,
    claims: Vec<(Claim, i64)>,
    deposit: i64,
    proposal: Option<Resolution>,
    incident: Option<(IncidentKind, Option<i64>)>,
    lease: Option<Lease>,
}

impl World {
    /// An invoice in this state, claims that belong to it, and enough money.
    fn at(word: &str) -> Self {
        let claims = match word {
            "PENDING" => vec![(facts().bill_claim(), NUMBER.get()), (facts().vehicle_claim(), NUMBER.get())],
            "CONFIRM" => vec![(facts().bill_claim(), NUMBER.get())],
            _ => Vec::new(),
        };
        Self {
            invoice: Some(invoice(word)),
            partner: Some(partner()),
            claims,
            deposit: 183_500,
            proposal: None,
            incident: None,
            lease: None,
        }
    }

    /// The rows that the command names, and no others.
    fn rows(&self, command: &Command) -> Rows {
        let mut keys = Keys::default();
        command.add_keys(Slot(0), &mut keys);
        let owner =
            |claim: &Claim| self.claims.iter().find(|(held, _)| held == claim).map(|(_, owner)| *owner);
        let proposal = |resolution: Resolution| Proposal {
            invoice: NUMBER,
            resolution,
            operator: OPERATOR.to_owned(),
            reference: "letter 12".to_owned(),
            reason: "the bank wrote".to_owned(),
            at: second(600),
            resolve_after: None,
            approved: None,
        };
        let incident = |(kind, corrected_by)| Incident {
            invoice: Some(NUMBER),
            kind,
            detail: String::new(),
            first_at: second(300),
            last_at: second(300),
            count: 1,
            corrected_by,
        };
        Rows {
            partners: keys.partners.iter().map(|id| (*id, self.partner.clone())).collect(),
            products: keys.products.iter().map(|key| (key.clone(), None)).collect(),
            claims: keys.claims.iter().map(|claim| (claim.clone(), owner(claim))).collect(),
            invoices: keys.invoices.iter().map(|number| (*number, self.invoice.clone())).collect(),
            proposals: keys.proposals.iter().map(|n| (*n, self.proposal.clone().map(proposal))).collect(),
            incidents: keys
                .incidents
                .iter()
                .map(|key| (*key, self.incident.filter(|(kind, _)| *kind == key.1).map(incident)))
                .collect(),
            balances: keys
                .balances
                .iter()
                .map(|account| {
                    let is_deposit = *account == Account::deposit(LIVE, PARTNER);
                    (*account, if is_deposit { Rupiah::new(-self.deposit) } else { Rupiah::ZERO })
                })
                .collect(),
            counters: keys.counters.iter().map(|counter| (*counter, 0)).collect(),
            leases: keys.leases.union(&keys.fences).map(|name| (name.clone(), self.lease.clone())).collect(),
        }
    }

    fn decide(&self, command: &Command) -> Result<(Accepted, Changes), Rejection> {
        decide(&self.rows(command), command, Slot(0))
    }
}

fn begin() -> BeginPayment {
    BeginPayment {
        facts: facts(),
        at: second(0),
        business_date: second(0).date_in_jakarta(),
        send_before: second(30),
        resolve_after: second(120),
        identity: "1123090000-000123".to_owned(),
        fence: None,
    }
}

fn event(name: &str) -> Command {
    let settle = |outcome| {
        Command::SettlePayment(Box::new(SettlePayment {
            facts: facts(),
            outcome,
            fence: None,
            put_off_until: None,
            at: second(5),
        }))
    };
    let not_found = |seconds| settle(Outcome::NotPaid(NotPaidProof::NotFound { asked_at: second(seconds) }));
    let paid = |amount| settle(Outcome::Paid { receipt: receipt(), amount: Rupiah::new(amount) });
    match name {
        "begin" => Command::BeginPayment(Box::new(begin())),
        "paid" => paid(178_500),
        "paid, fee and all" => paid(183_500),
        "never sent" => settle(Outcome::NotPaid(NotPaidProof::NeverSent)),
        "refused" => settle(Outcome::NotPaid(NotPaidProof::Refused { refusal: Reason::BankRefused.into() })),
        "not found, too early" => not_found(119),
        "not found" => not_found(120),
        "propose" => propose(OPERATOR, Resolution::NotPaid),
        "approve" => approve("budi", Resolution::NotPaid),
        _ => panic!("{name} is no event"),
    }
}

fn propose(operator: &str, resolution: Resolution) -> Command {
    Command::ProposeResolution(Box::new(ProposeResolution {
        invoice: NUMBER,
        resolution,
        operator: operator.to_owned(),
        reference: "letter 12".to_owned(),
        reason: "the bank wrote".to_owned(),
        at: second(600),
    }))
}

fn approve(operator: &str, resolution: Resolution) -> Command {
    Command::ApproveResolution(Box::new(ApproveResolution {
        facts: facts(),
        resolution,
        operator: operator.to_owned(),
        at: second(700),
    }))
}

/// `CONFIRM`, `Contradiction`, `AmountDiffers`.
fn result(decided: &Result<(Accepted, Changes), Rejection>) -> String {
    match decided {
        Ok((Accepted::Invoice(invoice), _)) => invoice.state.word().to_owned(),
        Ok((accepted, _)) => format!("{accepted:?}").split('(').next().unwrap_or_default().to_owned(),
        Err(rejection) => format!("{rejection:?}"),
    }
}

/// `deposit +183500, reserved -183500`.
fn booked(changes: &Changes) -> String {
    let line =
        |posting: &domain::Posting| format!("{} {:+}", posting.account.kind.name(), posting.amount.get());
    changes.postings.iter().map(line).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_event_in_every_state() {
    let states = ["FAILURE", "INQUIRY", "PENDING", "CONFIRM", "REFUND"];
    #[rustfmt::skip]
    let table = [
        // event                   FAILURE          INQUIRY      PENDING            CONFIRM            REFUND
        ("begin",                ["InquiryFailed",  "PENDING",   "InvoicePending",  "InvoicePaid",     "InvoiceRefunded"]),
        ("paid",                 ["NotBegun",       "NotBegun",  "CONFIRM",         "AlreadySettled",  "Contradiction"]),
        ("paid, fee and all",    ["NotBegun",       "NotBegun",  "AmountDiffers",   "AlreadySettled",  "Contradiction"]),
        ("never sent",           ["NotBegun",       "NotBegun",  "REFUND",          "Contradiction",   "AlreadySettled"]),
        ("refused",              ["NotBegun",       "NotBegun",  "REFUND",          "Contradiction",   "AlreadySettled"]),
        ("not found, too early", ["NotBegun",       "NotBegun",  "AskedTooEarly",   "Contradiction",   "AlreadySettled"]),
        ("not found",            ["NotBegun",       "NotBegun",  "REFUND",          "Contradiction",   "AlreadySettled"]),
        ("propose",              ["NotBegun",       "NotBegun",  "Done",            "InvoicePaid",     "InvoiceRefunded"]),
        ("approve",              ["NotBegun",       "NotBegun",  "NothingProposed", "InvoicePaid",     "InvoiceRefunded"]),
    ];
    for (name, results) in table {
        for (word, expected) in states.iter().zip(results) {
            let decided = World::at(word).decide(&event(name));
            assert_eq!(result(&decided), expected, "{name} on {word}");
            let Ok((accepted, changes)) = decided else { continue };
            // Whatever does not move the state moves no money and tells nobody.
            let moves = matches!(accepted, Accepted::Invoice(_));
            assert_eq!(changes.postings.is_empty(), !moves, "{name} on {word}");
            assert_eq!(changes.events.len(), usize::from(moves), "{name} on {word}");
            assert_eq!(changes.invoices.len(), usize::from(moves), "{name} on {word}");
            assert_eq!(changes.incidents.len(), usize::from(expected == "Contradiction"), "{name} on {word}");
        }
    }
}

#[test]
fn what_is_booked() {
    let refund = "reserved +183500, deposit -183500";
    for (name, word, expected) in [
        ("begin", "INQUIRY", "deposit +183500, reserved -183500"),
        (
            "paid",
            "PENDING",
            "reserved +183500, bank_payable -178500, fee_income -5000, cashback_expense +2000, deposit -2000",
        ),
        ("never sent", "PENDING", refund),
        ("refused", "PENDING", refund),
        ("not found", "PENDING", refund),
    ] {
        let (_, changes) = World::at(word).decide(&event(name)).expect("the event is accepted");
        assert_eq!(booked(&changes), expected, "{name} on {word}");
        let sum: Rupiah = changes.postings.iter().map(|posting| posting.amount).sum();
        assert_eq!(sum, Rupiah::ZERO, "{name} on {word}");
    }
}

#[test]
fn what_is_claimed() {
    for (name, word, bill, vehicle) in [
        ("begin", "INQUIRY", Some(Some(NUMBER.get())), Some(Some(NUMBER.get()))),
        ("paid", "PENDING", None, Some(None)),
        ("never sent", "PENDING", Some(None), Some(None)),
    ] {
        let (_, changes) = World::at(word).decide(&event(name)).expect("the event is accepted");
        assert_eq!(changes.claims.get(&facts().bill_claim()).copied(), bill, "{name}: the bill");
        assert_eq!(changes.claims.get(&facts().vehicle_claim()).copied(), vehicle, "{name}: the vehicle");
    }
}

#[test]
fn the_ladder_of_a_beginning_in_its_order() {
    let good = World::at("INQUIRY");
    let change = |change: fn(&mut World)| {
        let mut world = good.clone();
        change(&mut world);
        world
    };
    let worlds = [
        ("as it should be", good.clone(), "PENDING"),
        ("no such invoice", change(|w| w.invoice = None), "InvoiceUnknown"),
        (
            "another partner's",
            change(|w| w.invoice = w.invoice.take().map(|i| Invoice { partner: PartnerId(8), ..i })),
            "InvoiceUnknown",
        ),
        (
            "another bill",
            change(|w| {
                w.invoice = w.invoice.take().map(|i| Invoice { payment_code: PaymentCode::parse("1"), ..i });
            }),
            "InvoiceUnknown",
        ),
        (
            "its bill has lapsed this moment",
            change(|w| w.invoice = w.invoice.take().map(|i| Invoice { payable_until: Some(second(0)), ..i })),
            "InvoiceExpired",
        ),
        (
            "its bill lapses the next moment",
            change(|w| {
                let until = Some(Timestamp::from_millis(second(0).as_millis() + 1));
                w.invoice = w.invoice.take().map(|i| Invoice { payable_until: until, ..i });
            }),
            "PENDING",
        ),
        ("no such partner", change(|w| w.partner = None), "PartnerUnknown"),
        (
            "the partner is suspended",
            change(|w| {
                w.partner = w.partner.take().map(|p| Partner { status: PartnerStatus::Suspended, ..p });
            }),
            "PartnerSuspended",
        ),
        (
            "the vehicle is being paid",
            change(|w| w.claims.push((facts().vehicle_claim(), OTHER))),
            "BillBeingPaid",
        ),
        ("the bill is paid", change(|w| w.claims.push((facts().bill_claim(), OTHER))), "BillPaid"),
        ("one Rupiah short", change(|w| w.deposit -= 1), "BalanceShort"),
        (
            "one Rupiah of credit",
            change(|w| {
                w.deposit -= 1;
                w.partner = w.partner.take().map(|p| Partner { credit_limit: Rupiah::new(1), ..p });
            }),
            "PENDING",
        ),
        (
            "everything at once: the first rule is told",
            change(|w| {
                w.partner = None;
                w.deposit = 0;
                w.claims.push((facts().vehicle_claim(), OTHER));
            }),
            "PartnerUnknown",
        ),
    ];
    for (name, world, expected) in worlds {
        assert_eq!(result(&world.decide(&event("begin"))), expected, "{name}");
    }
    let mut leased = begin();
    leased.fence = Some(Fence { name: "line/1/ESAM0001".to_owned(), token: 3 });
    let under = Command::BeginPayment(Box::new(leased));
    assert_eq!(result(&good.decide(&under)), "LeaseLost");
    let mut holding = good.clone();
    holding.lease = Some(Lease { holder: "a".to_owned(), token: 3, renewals: 9 });
    assert_eq!(result(&holding.decide(&under)), "PENDING");
    let mut late = begin();
    late.business_date = second(86_400).date_in_jakarta();
    assert_eq!(result(&good.decide(&Command::BeginPayment(Box::new(late)))), "InvoiceExpired");
}

#[test]
fn two_operators() {
    let paid = || Resolution::Paid { receipt: receipt() };
    let empty = || Resolution::Paid {
        receipt: BankReceipt { reference_number: String::new(), trace_number: "12345".to_owned() },
    };
    let other = |reference: &str, trace: &str| Resolution::Paid {
        receipt: BankReceipt { reference_number: reference.to_owned(), trace_number: trace.to_owned() },
    };
    for (name, standing, command, expected) in [
        ("the first proposes", None, propose("sari", Resolution::NotPaid), "Done"),
        ("the first thinks again", Some(paid()), propose("sari", Resolution::NotPaid), "Done"),
        ("the second proposes too", Some(paid()), propose("budi", Resolution::NotPaid), "AlreadyProposed"),
        ("without a name", None, propose(" ", Resolution::NotPaid), r#"OutOfLimits("the operator's name")"#),
        ("without a receipt", None, propose("sari", empty()), r#"OutOfLimits("the reference number")"#),
        ("the second approves a payment", Some(paid()), approve("budi", paid()), "CONFIRM"),
        (
            "the second approves a refund",
            Some(Resolution::NotPaid),
            approve("budi", Resolution::NotPaid),
            "REFUND",
        ),
        ("a payment for a refund", Some(paid()), approve("budi", Resolution::NotPaid), "ProposalDiffers"),
        ("a refund for a payment", Some(Resolution::NotPaid), approve("budi", paid()), "ProposalDiffers"),
        ("another reference", Some(paid()), approve("budi", other("AB13", "000123")), "ProposalDiffers"),
        ("another trace", Some(paid()), approve("budi", other("AB12", "000124")), "ProposalDiffers"),
        ("the first approves", Some(paid()), approve("Sari ", paid()), "SameOperator"),
        ("nobody approves", Some(paid()), approve("", paid()), r#"OutOfLimits("the operator's name")"#),
    ] {
        let mut world = World::at("PENDING");
        world.proposal = standing;
        assert_eq!(result(&world.decide(&command)), expected, "{name}");
    }
}

#[test]
fn two_operators_may_not_refund_what_may_still_arrive() {
    for (at, resolution, expected) in [
        (119, Resolution::NotPaid, "AskedTooEarly"),
        (120, Resolution::NotPaid, "REFUND"),
        (119, Resolution::Paid { receipt: receipt() }, "CONFIRM"),
    ] {
        let mut world = World::at("PENDING");
        world.proposal = Some(resolution.clone());
        let approve =
            ApproveResolution { facts: facts(), resolution, operator: "budi".to_owned(), at: second(at) };
        assert_eq!(result(&world.decide(&Command::ApproveResolution(Box::new(approve)))), expected, "{at}");
    }
}

#[test]
fn corrections() {
    let correct = |kind| {
        Command::CorrectIncident(Box::new(CorrectIncident {
            facts: facts(),
            kind,
            operator: OPERATOR.to_owned(),
            reference: "statement line 7".to_owned(),
            at: second(900),
        }))
    };
    let (paid, not_paid) = (IncidentKind::PaidAfterRefund, IncidentKind::NotPaidAfterConfirm);
    for (word, seen, kind, expected, books) in [
        ("REFUND", Some((paid, None)), paid, "Entry", "dispute_loss +178500, bank_payable -178500"),
        ("CONFIRM", Some((not_paid, None)), not_paid, "Entry", "dispute_loss -178500, bank_payable +178500"),
        ("REFUND", Some((paid, Some(3))), paid, "AlreadyCorrected", ""),
        ("REFUND", None, paid, "NothingToCorrect", ""),
        (
            "PENDING",
            Some((IncidentKind::AmountDiffers, None)),
            IncidentKind::AmountDiffers,
            "NothingToCorrect",
            "",
        ),
    ] {
        let mut world = World::at(word);
        world.incident = seen;
        let decided = world.decide(&correct(kind));
        assert_eq!(result(&decided), expected, "{kind:?} on {word}");
        let changes = decided.map(|(_, changes)| changes).unwrap_or_default();
        assert_eq!(booked(&changes), books, "{kind:?} on {word}");
        assert!(changes.invoices.is_empty(), "the state stays");
    }
}

#[test]
fn what_an_upstream_charges_and_gives_back_is_booked_apart() {
    type Case<'a> = (&'a str, UpstreamTerms, &'a str, &'a dyn Fn(PaymentFacts) -> Command, &'a str, String);
    let terms = |fee, cashback| UpstreamTerms { fee: Rupiah::new(fee), cashback: Rupiah::new(cashback) };
    let decided = |terms, word, command: &dyn Fn(PaymentFacts) -> Command| {
        let relayed = Invoice { upstream_terms: terms, ..invoice(word) };
        let command = command(PaymentFacts::of(&relayed).expect("an invoice with a bill"));
        let mut world = World { invoice: Some(relayed), ..World::at(word) };
        world.incident = match &command {
            Command::CorrectIncident(correct) => Some((correct.kind, None)),
            _ => None,
        };
        world.decide(&command)
    };
    let settle = |outcome: Outcome| {
        move |facts| {
            let outcome = outcome.clone();
            let settle = SettlePayment { facts, outcome, fence: None, put_off_until: None, at: second(5) };
            Command::SettlePayment(Box::new(settle))
        }
    };
    let paid = |amount| settle(Outcome::Paid { receipt: receipt(), amount: Rupiah::new(amount) });
    let not_paid = settle(Outcome::NotPaid(NotPaidProof::NeverSent));
    let correct = |kind| {
        move |facts| {
            let (operator, reference) = (OPERATOR.to_owned(), "statement line 7".to_owned());
            let correct = CorrectIncident { facts, kind, operator, reference, at: second(900) };
            Command::CorrectIncident(Box::new(correct))
        }
    };
    let begin = |facts| Command::BeginPayment(Box::new(BeginPayment { facts, ..begin() }));
    let ours = "fee_income -5000, cashback_expense +2000, deposit -2000";
    let (paid_after_refund, not_paid_after_confirm) =
        (correct(IncidentKind::PaidAfterRefund), correct(IncidentKind::NotPaidAfterConfirm));
    let (taken, all_in) = (paid(178_500), paid(180_000));
    let cases: [Case<'_>; 8] = [
        (
            "confirmed",
            terms(1_500, 1_000),
            "PENDING",
            &taken,
            "CONFIRM",
            format!(
                "reserved +183500, bank_payable -179000, {ours}, upstream_fee_expense +1500, upstream_cashback_income -1000"
            ),
        ),
        (
            "a fee alone",
            terms(1_500, 0),
            "PENDING",
            &taken,
            "CONFIRM",
            format!("reserved +183500, bank_payable -180000, {ours}, upstream_fee_expense +1500"),
        ),
        (
            "a cashback alone",
            terms(0, 1_000),
            "PENDING",
            &taken,
            "CONFIRM",
            format!("reserved +183500, bank_payable -177500, {ours}, upstream_cashback_income -1000"),
        ),
        (
            "its fee is not the Samsat's",
            terms(1_500, 1_000),
            "PENDING",
            &all_in,
            "AmountDiffers",
            String::new(),
        ),
        (
            "begun",
            terms(1_500, 1_000),
            "INQUIRY",
            &begin,
            "PENDING",
            "deposit +183500, reserved -183500".to_owned(),
        ),
        (
            "refunded",
            terms(1_500, 1_000),
            "PENDING",
            &not_paid,
            "REFUND",
            "reserved +183500, deposit -183500".to_owned(),
        ),
        (
            "paid after all",
            terms(1_500, 1_000),
            "REFUND",
            &paid_after_refund,
            "Entry",
            "dispute_loss +179000, bank_payable -179000".to_owned(),
        ),
        (
            "not paid after all",
            terms(1_500, 1_000),
            "CONFIRM",
            &not_paid_after_confirm,
            "Entry",
            "dispute_loss -179000, bank_payable +179000".to_owned(),
        ),
    ];
    for (name, terms, word, command, expected, books) in cases {
        let decided = decided(terms, word, command);
        assert_eq!(result(&decided), expected, "{name}");
        let changes = decided.map(|(_, changes)| changes).unwrap_or_default();
        assert_eq!(booked(&changes), books, "{name}");
        let sum: Rupiah = changes.postings.iter().map(|posting| posting.amount).sum();
        assert_eq!(sum, Rupiah::ZERO, "{name}");
    }
    // What names the invoice without its terms names another one.
    let plain = |_| event("paid");
    assert_eq!(result(&decided(terms(1_500, 1_000), "PENDING", &plain)), "InvoiceUnknown");
}

#[test]
fn top_ups() {
    let top_up = |amount, reference: &str| TopUp {
        environment: LIVE,
        partner: PARTNER,
        amount: Rupiah::new(amount),
        reference: reference.to_owned(),
        operator: OPERATOR.to_owned(),
        at: second(0),
    };
    let max = limits::amount_rupiah_max;
    for (name, command, deposit, expected) in [
        ("a million", top_up(1_000_000, "a"), 0, "Entry"),
        ("nothing", top_up(0, "a"), 0, r#"OutOfLimits("the amount")"#),
        ("less than nothing", top_up(-1, "a"), 0, r#"OutOfLimits("the amount")"#),
        ("the most", top_up(max, "a"), 0, "Entry"),
        ("more than that", top_up(max + 1, "a"), 0, r#"OutOfLimits("the amount")"#),
        (
            "more than a deposit may hold",
            top_up(max, "a"),
            1,
            r#"OutOfLimits("the deposit with this amount")"#,
        ),
        ("without a reference", top_up(5, ""), 0, r#"OutOfLimits("the reference")"#),
        ("with a line break", top_up(5, "a\nb"), 0, r#"OutOfLimits("the reference")"#),
        ("without a reference but for space", top_up(5, " "), 0, r#"OutOfLimits("the reference")"#),
        ("a reference that is booked", top_up(5, "booked"), 0, "ReferenceUsed"),
        ("the same in capitals, with space", top_up(5, " Booked "), 0, "ReferenceUsed"),
        ("one that begins alike", top_up(5, "booked 2"), 0, "Entry"),
        (
            "of the other environment",
            TopUp { environment: Environment::Sandbox, ..top_up(5, "a") },
            0,
            "PartnerUnknown",
        ),
    ] {
        let mut world = World::at("INQUIRY");
        world.deposit = deposit;
        world.claims.push((top_up(1, "booked").claim(), 1));
        assert_eq!(result(&world.decide(&Command::TopUp(Box::new(command)))), expected, "{name}");
    }
}

#[test]
fn a_top_up_keeps_its_reference_as_written() {
    let top_up = TopUp {
        environment: LIVE,
        partner: PARTNER,
        amount: Rupiah::new(5),
        reference: " Trf-1 ".to_owned(),
        operator: OPERATOR.to_owned(),
        at: second(0),
    };
    let claim = top_up.claim();
    assert_eq!(claim, Claim::deposit_reference(LIVE, "TRF-1"));
    let (_, changes) =
        World::at("INQUIRY").decide(&Command::TopUp(Box::new(top_up))).expect("the deposit is credited");
    assert_eq!(changes.entries[0].reference, "Trf-1");
    assert_eq!(changes.claims.get(&claim), Some(&Some(changes.entries[0].number)));
}

#[test]
fn a_sandbox_reset_names_its_upstream() {
    let resets = [3, 1, 3].map(|id| Command::ResetSandbox { upstream: UpstreamId(id) });
    let mut written = Changes::default();
    for reset in &resets {
        let (_, changes) = World::at("INQUIRY").decide(reset).expect("the sandbox is reset");
        written.absorb(changes);
    }
    assert!(written.release_settled_sandbox_claims.iter().eq(&[UpstreamId(1), UpstreamId(3)]));
    assert!(written.claims.is_empty() && written.postings.is_empty() && written.invoices.is_empty());
    let bill = PaymentFacts { environment: Environment::Sandbox, ..facts() }.bill_claim().key();
    assert!(bill.starts_with(&Claim::sandbox_bills(UpstreamId(1))));
    assert!(!facts().bill_claim().key().starts_with(&Claim::sandbox_bills(UpstreamId(1))));
}

fn lease(holder: &str, token: i64, renewals: i64) -> Lease {
    Lease { holder: holder.to_owned(), token, renewals }
}

#[test]
fn a_lease_is_compared_and_set() {
    let (mine, free) = (|| Some(lease("a", 3, 7)), || Some(lease("", 4, 0)));
    #[rustfmt::skip]
    let table = [
        // event                              stands  seen                     holder  becomes
        ("the first one takes it",            None,   None,                    "a",    Ok(lease("a", 1, 0))),
        ("its holder renews it",              mine(), mine(),                  "a",    Ok(lease("a", 3, 8))),
        ("its holder gives it up",            mine(), mine(),                  "",     Ok(lease("", 4, 0))),
        ("another takes it away",             mine(), mine(),                  "b",    Ok(lease("b", 4, 0))),
        ("another frees it",                  mine(), mine(),                  "",     Ok(lease("", 4, 0))),
        ("somebody takes a free one",         free(), free(),                  "b",    Ok(lease("b", 5, 0))),
        ("it was taken first by another",     mine(), None,                    "b",    Err(Rejection::LeaseLost)),
        ("it was renewed meanwhile",          mine(), Some(lease("a", 3, 6)),  "b",    Err(Rejection::LeaseLost)),
        ("it changed hands and back",         mine(), Some(lease("a", 1, 7)),  "a",    Err(Rejection::LeaseLost)),
        ("its old holder wakes up",           free(), mine(),                  "a",    Err(Rejection::LeaseLost)),
        ("there never was one",               None,   mine(),                  "a",    Err(Rejection::LeaseLost)),
    ];
    for (name, stands, seen, holder, expected) in table {
        let mut world = World::at("PENDING");
        world.lease = stands;
        let change = ChangeLease { name: "resolver/1".to_owned(), seen, holder: holder.to_owned() };
        let decided = world.decide(&Command::ChangeLease(Box::new(change)));
        let written = decided.as_ref().map(|(_, changes)| changes.leases.clone()).unwrap_or_default();
        assert_eq!(written.into_values().collect::<Vec<_>>(), expected.iter().cloned().collect::<Vec<_>>());
        assert_eq!(decided.map(|(accepted, _)| accepted), expected.map(Accepted::Lease), "{name}");
    }
}

#[test]
fn a_settlement_under_a_lost_lease_books_nothing() {
    let fenced = |token| {
        let Command::SettlePayment(mut settle) = event("never sent") else { panic!("it settles") };
        settle.fence = Some(Fence { name: "resolver/1".to_owned(), token });
        Command::SettlePayment(settle)
    };
    #[rustfmt::skip]
    let table = [
        // event                                      on         stands                    expected
        ("the lease is still the same",               "PENDING", Some(lease("a", 3, 7)),   "REFUND"),
        ("it was renewed meanwhile",                  "PENDING", Some(lease("a", 3, 8)),   "REFUND"),
        ("it was given up",                           "PENDING", Some(lease("", 4, 0)),    "LeaseLost"),
        ("it is another's",                           "PENDING", Some(lease("b", 5, 0)),   "LeaseLost"),
        ("it was lost, and taken again",              "PENDING", Some(lease("a", 6, 0)),   "LeaseLost"),
        ("there never was one",                       "PENDING", None,                     "LeaseLost"),
        ("it is lost, and so is a contradiction",     "CONFIRM", Some(lease("b", 4, 0)),   "LeaseLost"),
        ("it is held, and contradicts a final state", "CONFIRM", Some(lease("a", 3, 7)),   "Contradiction"),
    ];
    for (name, word, stands, expected) in table {
        let mut world = World::at(word);
        world.lease = stands;
        assert_eq!(result(&world.decide(&fenced(3))), expected, "{name}");
        assert_ne!(result(&world.decide(&event("never sent"))), "LeaseLost", "without a fence: {name}");
    }
    let mut world = World::at("PENDING");
    world.invoice = None;
    assert_eq!(result(&world.decide(&fenced(3))), "InvoiceUnknown", "the first rule is told");
}

/// Of each bound, what is just within it and what is just beyond.
#[test]
fn bounds() {
    let world = World::at("PENDING");
    let numbers = |count| Command::ReserveInvoiceNumbers { count };
    let traces = |count| {
        let terminal = Terminal::parse("ESAM0001").expect("a terminal id");
        Command::ReserveTraceNumbers(Box::new(ReserveTraceNumbers {
            upstream: UpstreamId(1),
            terminal,
            count,
            fence: None,
        }))
    };
    let beyond = r#"OutOfLimits("the count of numbers")"#;
    for (command, expected) in [
        (numbers(0), beyond),
        (numbers(1), "Numbers { first: invoice 100000000000 }"),
        (numbers(limits::invoice_block_max), "Numbers { first: invoice 100000000000 }"),
        (numbers(limits::invoice_block_max + 1), beyond),
        (traces(0), beyond),
        (traces(1), "TraceNumbers { first: 1 }"),
        (traces(limits::trace_block_max), "TraceNumbers { first: 1 }"),
        (traces(limits::trace_block_max + 1), beyond),
    ] {
        let decided = world.decide(&command);
        let told = decided
            .map_or_else(|rejection| format!("{rejection:?}"), |(accepted, _)| format!("{accepted:?}"));
        assert_eq!(told, expected);
    }
    for (given, expected) in [(2, "Numbers { first: invoice 999999999998 }"), (1, "NumbersExhausted")] {
        let mut rows = world.rows(&numbers(2));
        rows.counters.insert(Counter::Invoice, limits::invoice_number_last - given);
        let decided = decide(&rows, &numbers(2), Slot(0));
        let told = decided
            .map_or_else(|rejection| format!("{rejection:?}"), |(accepted, _)| format!("{accepted:?}"));
        assert_eq!(told, expected);
    }

    let mut in_debt = world.clone();
    in_debt.deposit = -1_000;
    let limit = |rupiah| Command::ChangePartner {
        id: PARTNER,
        change: PartnerChange::CreditLimit(Rupiah::new(rupiah)),
    };
    assert_eq!(result(&in_debt.decide(&limit(1_000))), "Done");
    assert!(result(&in_debt.decide(&limit(999))).contains("below what is used of it"));

    let (longest, longer) = ("A".repeat(40), "A".repeat(41));
    for (reference, trace, is_within) in [
        (longest.as_str(), "000123", true),
        (&longer, "000123", false),
        ("AB12", "00012", false),
        ("AB12", "0001234", false),
        ("AB12", "00012a", false),
    ] {
        let receipt = BankReceipt { reference_number: reference.to_owned(), trace_number: trace.to_owned() };
        let proposed = result(&world.decide(&propose("sari", Resolution::Paid { receipt })));
        assert_eq!(proposed == "Done", is_within, "{reference}, {trace}: {proposed}");
    }
}

/// What only the question that was sent last knows counts from when it was asked; whatever else says so waits.
#[test]
fn another_payers_word_counts_at_once_only_from_the_last_question() {
    for (put_off_until, at, expected) in [
        (Some(second(300)), second(200), "REFUND"),
        (None, second(200), "AskedTooEarly"),
        (None, second(300), "REFUND"),
        (Some(second(250)), second(400), "AskedTooEarly"),
    ] {
        let mut world = World::at("PENDING");
        let attempt = Attempt { resolve_after: second(300), ..attempt() };
        world.invoice = Some(Invoice { state: State::Pending { attempt }, ..invoice("PENDING") });
        let settle = SettlePayment {
            facts: facts(),
            outcome: Outcome::NotPaid(NotPaidProof::PaidByAnother),
            fence: None,
            put_off_until,
            at,
        };
        let settled = world.decide(&Command::SettlePayment(Box::new(settle)));
        assert_eq!(result(&settled), expected, "{put_off_until:?} at {at:?}");
    }
}
