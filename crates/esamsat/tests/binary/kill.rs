//! `kill -9`: whatever the moment, nothing is lost, nothing is made, and nothing that was answered is taken back.
//!
//! Clients pay under a bank that fails half of the payments in every way, and write down each answer. The
//! gateway is killed at moments that the dice choose, in its start as well, and started again on the same
//! data. In the end three books must agree to the rupiah: the gateway's, the bank's and the clients'.

use crate::kit::{
    Gateway, PATIENCE, Site, TESTER,
    dice::Dice,
    http::{Answer, Partner},
    text, whole,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

const KILLS: usize = 60;
const CLIENTS: usize = 24;
const PARTNERS: usize = 4;
const OPENING: i64 = 900_000_000_000;
const PASSWORD: &str = "sandi-uji-bunuh";
const BEING_PAID: &str =
    "Tagihan kendaraan ini sedang diproses pada invoice lain. Silakan tunggu hingga selesai.";
const ALREADY_PAID: &str = "Transaksi tidak dapat diproses. Tagihan sudah dibayar (Kode: 0054)";

/// Short times, so that payments that a silent bank leaves open are settled while one waits.
const CONFIGURATION: &str = r#"
answer_within_ms = 1000
send_within_ms = 400
log = "warn,esamsat=info"

[upstream.simulator]
kind = "simulator"
delay_ms = [0, 15]
horizon_ms = 2000
answer_timeout_ms = 300

[upstream.simulator.faults]
unreachable = 0.03
refused = 0.05
silent_then_paid = 0.06
silent_then_not_paid = 0.06
arrives_late = 0.05
late = 0.06
cut_then_paid = 0.06
cut_then_not_paid = 0.06
garbled = 0.04
unknown_code = 0.04
inquiry_cut = 0.02
inquiry_refused = 0.02
"#;

/// Scenarios of test numbers that end by themselves.
const SCENARIOS: [u16; 15] = [100, 301, 302, 303, 304, 305, 401, 402, 403, 404, 405, 406, 409, 410, 414];

/// One answer, as a client wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    invoice: String,
    partner: usize,
    said: Said,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// An inquiry brought a bill.
    Bill { total: i64, payment_code: String },
    /// An inquiry failed.
    NoBill,
    /// A payment or a status question brought a state: the word, the total, both bank numbers.
    State { word: String, total: i64, numbers: (String, String) },
    /// A payment was refused.
    Refused { reason: String },
}

/// What the clients share.
struct Hall {
    vehicles: Vec<(String, String)>,
    next_vehicle: AtomicUsize,
    place: Mutex<Place>,
    changed: Condvar,
    notes: Mutex<Vec<Note>>,
    lost_answers: AtomicUsize,
    is_closing: AtomicBool,
}

/// Where the gateway is now.
#[derive(Clone, Copy)]
struct Place {
    run: usize,
    address: Option<SocketAddr>,
    answers: usize,
}

impl Hall {
    fn change(&self, change: impl FnOnce(&mut Place)) {
        change(&mut self.place.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until the place is fit, or time is up, or the hall closes.
    fn wait(&self, limit: Duration, is_fit: impl Fn(&Place) -> bool) -> Place {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |place: &mut Place| !is_fit(place) && !self.is_closing.load(SeqCst);
        let waited = self.changed.wait_timeout_while(place, limit, waits);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn note(&self, note: Note) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    fn close(&self) {
        self.is_closing.store(true, SeqCst);
        self.changed.notify_all();
    }
}

struct Client<'a> {
    hall: &'a Hall,
    partner: usize,
    dice: Dice,
    invoices: Vec<String>,
}

impl Client<'_> {
    fn work(&mut self) {
        while !self.hall.is_closing.load(SeqCst) {
            self.serve_one_owner();
            if self.dice.percent(40) && !self.invoices.is_empty() {
                let earlier = self.dice.below(self.invoices.len() as u64);
                let invoice = self.invoices[usize::try_from(earlier).expect("an index")].clone();
                self.ask_about("status_invoice", &invoice);
            }
        }
    }

    /// Asks for a bill and pays it, as stubbornly as partners do.
    fn serve_one_owner(&mut self) {
        let (nik, chassis) = self.pick_vehicle();
        let vehicle =
            [("product", "SAMSAT_JABAR"), ("customer_number", &*nik), ("structure_number", &*chassis)];
        let Some(bill) = self.call("inquiry_esamsat", &vehicle) else { return };
        let Some(invoice) = bill["invoice"].as_str().map(str::to_owned) else { return };
        let is_bill = bill["result"] == "ok";
        let said = if is_bill {
            let payment_code = text(&bill, "paymentcode");
            Said::Bill { total: rupiah(&bill), payment_code }
        } else {
            Said::NoBill
        };
        self.hall.note(Note { invoice: invoice.clone(), partner: self.partner, said });
        if !is_bill {
            return;
        }
        self.invoices.push(invoice.clone());
        if self.dice.percent(5) {
            self.storm(&invoice);
        }
        for _ in 0..4 {
            if self.ask_about("pay_esamsat", &invoice) {
                break;
            }
        }
        if self.dice.percent(20) {
            self.ask_about("pay_esamsat", &invoice);
        }
    }

    fn pick_vehicle(&mut self) -> (String, String) {
        if self.dice.percent(15) {
            let scenario = SCENARIOS[usize::try_from(self.dice.below(15)).expect("an index")];
            return (TESTER.to_owned(), format!("UJI{scenario}{:07}", self.dice.below(10_000_000)));
        }
        let count = self.hall.vehicles.len();
        let mut next = self.hall.next_vehicle.fetch_add(1, SeqCst);
        if self.dice.percent(15) {
            // Somebody else is at this one, or has just been.
            next = next.saturating_sub(usize::try_from(self.dice.below(30)).expect("a small number"));
        }
        self.hall.vehicles[next % count].clone()
    }

    /// The same payment, several times at once.
    fn storm(&mut self, invoice: &str) {
        let (hall, partner) = (self.hall, self.partner);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    let dice = Dice::new(0);
                    Client { hall, partner, dice, invoices: Vec::new() }.ask_about("pay_esamsat", invoice);
                });
            }
        });
    }

    /// Pays or asks for the status, and writes the answer down; false if there was none.
    fn ask_about(&mut self, endpoint: &str, invoice: &str) -> bool {
        let Some(answer) = self.call(endpoint, &[("invoice", invoice)]) else { return false };
        let said = if answer["result"] == "ok" {
            Said::State {
                word: text(&answer, "status"),
                total: rupiah(&answer),
                numbers: (text(&answer, "reference_number"), text(&answer, "trace_number")),
            }
        } else {
            Said::Refused { reason: text(&answer, "reason") }
        };
        self.hall.note(Note { invoice: invoice.to_owned(), partner: self.partner, said });
        true
    }

    /// The application's answer. None if there was no answer, or none but "try again".
    fn call(&mut self, endpoint: &str, parameters: &[(&str, &str)]) -> Option<Value> {
        let hall = self.hall;
        let Place { run, address: Some(address), .. } = hall.wait(PATIENCE, |place| place.address.is_some())
        else {
            return None;
        };
        let username = username(self.partner);
        let answer = Partner { address, login: (&username, PASSWORD) }.try_call(endpoint, parameters);
        let Ok(Answer { status, body }) = answer else {
            hall.lost_answers.fetch_add(1, SeqCst);
            hall.wait(PATIENCE, |place| place.run != run);
            return None;
        };
        hall.change(|place| place.answers += 1);
        assert!(matches!(status, 200 | 429 | 503), "{endpoint}: HTTP {status}: {body}");
        (status == 200).then(|| serde_json::from_str(&body).expect("answers are JSON"))
    }
}

fn username(partner: usize) -> String {
    format!("mitra{:04}", partner + 1)
}

/// What counts from zero here counts from one there.
fn number_of(index: usize) -> i64 {
    i64::try_from(index).expect("there are few") + 1
}

fn rupiah(answer: &Value) -> i64 {
    text(answer, "total").parse().expect("a total is whole Rupiah")
}

#[test]
fn killed_at_any_moment_the_books_agree_to_the_rupiah() {
    let seed =
        std::env::var("KILL_SEED").map_or(20_261_123, |seed| seed.parse().expect("KILL_SEED is a number"));
    eprintln!("seed {seed} (KILL_SEED sets another)");
    let mut dice = Dice::new(seed);
    let site = Site::with_partners(PARTNERS, PASSWORD, OPENING);
    for partner in 0..PARTNERS {
        // Known addresses are spared the limit on log-ins; after each start all clients log in anew.
        site.done(&["partner", "allow", &username(partner), "127.0.0.1"]);
    }
    let vehicles = site.json(&["sandbox", "vehicles", "--count", "20000", "--product", "SAMSAT_JABAR"]);
    let vehicles = vehicles.as_array().expect("a list of vehicles");
    let hall = Hall {
        vehicles: vehicles
            .iter()
            .map(|v| (text(v, "customer_number"), text(v, "structure_number")))
            .collect(),
        next_vehicle: AtomicUsize::new(0),
        place: Mutex::new(Place { run: 0, address: None, answers: 0 }),
        changed: Condvar::new(),
        notes: Mutex::default(),
        lost_answers: AtomicUsize::new(0),
        is_closing: AtomicBool::new(false),
    };

    let gateway = thread::scope(|scope| {
        for number in 0..CLIENTS {
            let dice = Dice::new(seed.wrapping_add(1 + number as u64));
            let mut client = Client { hall: &hall, partner: number % PARTNERS, dice, invoices: Vec::new() };
            scope.spawn(move || client.work());
        }
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for kill in 0..KILLS {
                let gateway = Gateway::begin(&mut site.serving(CONFIGURATION));
                if kill % 8 == 7 {
                    // In its start, when it may be recovering what the last kill left.
                    gateway.ends_within(Duration::from_millis(dice.below(250)));
                } else {
                    open(&hall, &gateway, dice.percent(80));
                    let before = hall.wait(Duration::ZERO, |_| false).answers;
                    let enough = before + usize::try_from(dice.below(70)).expect("a small number");
                    hall.wait(Duration::from_secs(3), |place| place.answers >= enough);
                    gateway.ends_within(Duration::from_micros(dice.below(20_000)));
                }
                let printed = gateway.kill();
                assert!(!printed.contains("panicked") && !printed.contains("ERROR"), "{printed}");
                hall.change(|place| place.address = None);
            }
            // The last run is longer than the horizon, so that payments arrive at the bank after the first
            // status questions about them; whoever believes "not found" too early refunds what is then taken.
            let gateway = site.serve(CONFIGURATION);
            open(&hall, &gateway, true);
            hall.wait(Duration::from_secs(4), |_| false);
            gateway
        }));
        hall.close();
        opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });

    site.settled();
    site.verify();
    let notes = hall.notes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let books = Books::read(&site);
    books.agree_with_the_bank(&site);
    books.agree_with_the_clients(&notes);
    books.agree_with_the_deposits(&site);
    let partner = username(0);
    let partner = gateway.partner((&partner, PASSWORD));
    for invoice in books.invoices.values().filter(|invoice| whole(invoice, "partner") == 1).take(40) {
        let (number, state) = (text(invoice, "number"), text(invoice, "state"));
        assert_eq!(partner.status(&number), state, "{number}");
    }
    gateway.stop();
    site.verify();

    // A test that reached none of what it is about would be as green.
    let count = |word: &str| books.invoices.values().filter(|invoice| invoice["state"] == word).count();
    let said = |word: &str| {
        let is_it = |note: &&Note| matches!(&note.said, Said::State { word: said, .. } if said == word);
        notes.iter().filter(is_it).count()
    };
    let lost = hall.lost_answers.load(SeqCst);
    let reached = [count("CONFIRM"), count("REFUND"), said("CONFIRM"), said("PENDING"), said("REFUND"), lost];
    eprintln!(
        "{KILLS} kills, {} answers; invoices CONFIRM, REFUND; answers CONFIRM, PENDING, REFUND; lost: {reached:?}",
        notes.len()
    );
    assert!(reached.iter().all(|count| *count >= 20), "the test reached too little: {reached:?}");
}

/// Lets the clients in; mostly after one of each partner has logged in, so that they find a warm gateway.
fn open(hall: &Hall, gateway: &Gateway, is_warm: bool) {
    let address = gateway.address();
    if is_warm {
        for partner in 0..PARTNERS {
            Partner { address, login: (&username(partner), PASSWORD) }.call("ceksaldo", &[]);
        }
    }
    hall.change(|place| *place = Place { run: place.run + 1, address: Some(address), ..*place });
}

/// The gateway's invoices by number, after everything.
struct Books {
    invoices: BTreeMap<String, Value>,
}

impl Books {
    fn read(site: &Site) -> Self {
        let listed = site.json(&["invoice", "list", "--limit", "1000000"]);
        let listed = listed.as_array().expect("a list of invoices");
        let invoices: BTreeMap<_, _> = listed.iter().map(|i| (text(i, "number"), i.clone())).collect();
        assert_eq!(invoices.len(), listed.len(), "no number is given twice");
        Self { invoices }
    }

    fn confirmed(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.invoices.iter().filter(|(_, invoice)| invoice["state"] == "CONFIRM")
    }

    /// The bank took it, if and only if it is CONFIRM; with equal amounts and numbers, and once.
    fn agree_with_the_bank(&self, site: &Site) {
        let payments = site.json(&["sandbox", "payments"]);
        let mut taken = BTreeMap::new();
        for payment in payments.as_array().expect("a list of payments") {
            let number = text(payment, "invoice");
            assert!(taken.insert(number.clone(), payment).is_none(), "the bank took {number} twice");
        }
        let bank: BTreeSet<_> = taken.keys().collect();
        let gateway: BTreeSet<_> = self.confirmed().map(|(number, _)| number).collect();
        assert_eq!(bank, gateway, "the bank's payments are the gateway's CONFIRMs");
        let mut bills = BTreeSet::new();
        for (number, invoice) in self.confirmed() {
            let payment = taken[number];
            let due = whole(invoice, "total_rupiah") - whole(invoice, "fee_rupiah");
            assert_eq!(whole(payment, "amount_rupiah"), due, "{number}");
            for key in ["identity", "payment_code", "reference_number", "trace_number"] {
                assert_eq!(payment[key], invoice[key], "{number}: {key}");
            }
            assert!(bills.insert(text(invoice, "payment_code")), "{number}: its bill was paid twice");
        }
    }

    /// What was said is there, and stands.
    fn agree_with_the_clients(&self, notes: &[Note]) {
        let mut given: HashMap<&str, usize> = HashMap::new();
        for Note { invoice: number, partner, said } in notes {
            let invoice =
                self.invoices.get(number).unwrap_or_else(|| panic!("{number} was answered and is lost"));
            let state = text(invoice, "state");
            assert_eq!(whole(invoice, "partner"), number_of(*partner), "{number} is its partner's");
            match said {
                Said::Bill { total, payment_code } => {
                    *given.entry(number).or_default() += 1;
                    assert_eq!(whole(invoice, "total_rupiah"), *total, "{number}");
                    assert_eq!(text(invoice, "payment_code"), *payment_code, "{number}");
                    assert_ne!(state, "FAILURE", "{number}");
                }
                Said::NoBill => {
                    *given.entry(number).or_default() += 1;
                    assert_eq!(state, "FAILURE", "{number}");
                }
                Said::State { word, total, numbers } => {
                    assert_eq!(whole(invoice, "total_rupiah"), *total, "{number}");
                    match &**word {
                        "CONFIRM" => {
                            let settled = (text(invoice, "reference_number"), text(invoice, "trace_number"));
                            assert_eq!(
                                (&*state, numbers),
                                ("CONFIRM", &settled),
                                "{number}: a CONFIRM was taken back"
                            );
                        }
                        "REFUND" => assert_eq!(state, "REFUND", "{number}: a REFUND was taken back"),
                        // What was once pending never was not begun.
                        "PENDING" => assert!(matches!(&*state, "CONFIRM" | "REFUND"), "{number}: {state}"),
                        word => assert_eq!(word, "INQUIRY", "{number}"),
                    }
                }
                Said::Refused { reason } if reason == ALREADY_PAID => {
                    // By this invoice, by another one for the same bill, or by somebody else (test number 302).
                    let code = text(invoice, "payment_code");
                    let is_paid = self.confirmed().any(|(_, paid)| paid["payment_code"] == *code);
                    assert!(
                        is_paid || text(invoice, "structure_number").starts_with("UJI302"),
                        "{number}: {invoice}"
                    );
                }
                // Of that moment alone: once the other invoice is refunded, this one can be paid.
                Said::Refused { reason } if reason == BEING_PAID => {}
                Said::Refused { reason } => {
                    assert_ne!(state, "CONFIRM", "{number} was refused ({reason}) and taken");
                }
            }
        }
        assert!(given.values().all(|count| *count == 1), "an invoice number was given to two inquiries");
    }

    /// The partners' money is what it was, less what was confirmed.
    fn agree_with_the_deposits(&self, site: &Site) {
        let of = |key: &str| -> i64 { self.confirmed().map(|(_, invoice)| whole(invoice, key)).sum() };
        for partner in 0..PARTNERS {
            let shown = site.json(&["partner", "show", &username(partner)]);
            let own = self.confirmed().filter(|(_, i)| whole(i, "partner") == number_of(partner));
            let spent: i64 = own.map(|(_, i)| whole(i, "total_rupiah") - whole(i, "cashback_rupiah")).sum();
            assert_eq!(whole(&shown, "deposit_rupiah"), OPENING - spent, "{shown}");
            assert_eq!(whole(&shown, "reserved_rupiah"), 0, "{shown}");
        }
        let ledger = site.json(&["ledger", "balances"]);
        assert_eq!(whole(&ledger, "sum_rupiah"), 0);
        let balance = |account: &str| -> i64 {
            let accounts = ledger["balances"].as_array().expect("a list of balances");
            let alike = accounts.iter().filter(|balance| balance["account"] == account);
            alike.map(|balance| whole(balance, "balance_rupiah")).sum()
        };
        assert_eq!(balance("bank_payable"), of("fee_rupiah") - of("total_rupiah"));
        assert_eq!(balance("fee_income"), -of("fee_rupiah"));
        assert_eq!(balance("cashback_expense"), of("cashback_rupiah"));
        assert_eq!(balance("reserved"), 0);
    }
}

#[test]
fn an_operator_killed_while_booking_repeats_and_it_is_booked_once() {
    const DEPOSITS: usize = 40;
    let mut dice = Dice::new(20_261_124);
    let site = Site::with_partners(1, PASSWORD, 1_000);
    let gateway = site.serve(CONFIGURATION);
    let began = tokio::time::Instant::now();
    site.json(&["deposit", "add", "mitra0001", "7", "--reference", "TRF", "--operator", "kasir"]);
    let usual_us = u64::try_from(began.elapsed().as_micros()).expect("a short time");
    let mut interrupted = 0;
    for deposit in 0..DEPOSITS {
        let reference = format!("TRF-{deposit:03}");
        let add = ["deposit", "add", "mitra0001", "50000", "--reference", &reference, "--operator", "kasir"];
        for _ in 0..3 {
            let operator = Gateway::begin(&mut site.command(&add));
            let ended = operator.ends_within(Duration::from_micros(dice.below(usual_us)));
            interrupted += usize::from(!ended);
            operator.kill();
        }
        let last = site.json(&add);
        assert_eq!(whole(&last, "amount_rupiah"), 50_000);
        assert_eq!(
            whole(&last, "deposit_rupiah"),
            1_007 + 50_000 * number_of(deposit),
            "{reference}: {last}"
        );
    }
    assert!(interrupted >= DEPOSITS / 4, "only {interrupted} commands were killed before their end");
    let entries = site.json(&["ledger", "entries"]);
    let entries = entries.as_array().expect("a list of entries");
    let references: BTreeSet<_> = entries.iter().map(|entry| text(entry, "reference")).collect();
    assert_eq!((references.len(), entries.len()), (DEPOSITS + 2, DEPOSITS + 2));
    gateway.stop();
    site.verify();
}
