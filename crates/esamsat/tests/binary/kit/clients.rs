//! Partners as they are: clients that ask, pay, ask again and storm, and write down each answer.
//!
//! They come in by doors: a gateway's, or a balancer's before several. Whatever door, a final word that one of
//! them has read must be what every later answer says.

use super::{
    PATIENCE, Site, TESTER,
    dice::Dice,
    http::{Answer, Partner},
    text,
};
use serde_json::Value;
use std::{
    collections::HashMap,
    mem,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

/// How many partners the clients belong to.
pub(crate) const PARTNERS: usize = 4;
/// What each partner has at first.
pub(crate) const OPENING: i64 = 900_000_000_000;
/// The password of all of them.
pub(crate) const PASSWORD: &str = "sandi-uji-bunuh";
const CLIENTS: usize = 24;
/// How soon a client comes again that was told to, or had no answer by a door that outlives what is behind it.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Short times, so that payments that a silent bank leaves open are settled while one waits; and a bank that
/// fails half of the payments in every way.
pub(crate) const CONFIGURATION: &str = r#"
answer_within_ms = 1000
send_within_ms = 400
lease_after_ms = 2000
log = "warn,esamsat=info,engine::leases=info,engine::pay=info,engine::settle=info"
log_format = "json"

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

pub(crate) const BEING_PAID: &str =
    "Tagihan kendaraan ini sedang diproses pada invoice lain. Silakan tunggu hingga selesai.";
/// Our catalogue's word for everything that is no partner's business.
pub(crate) const UNREACHABLE: &str =
    "Bank sedang tidak dapat dihubungi sehingga transaksi tidak diproses. Silakan coba beberapa saat lagi.";
pub(crate) const ALREADY_PAID: &str = "Transaksi tidak dapat diproses. Tagihan sudah dibayar (Kode: 0054)";

/// Scenarios of test numbers that end by themselves.
const SCENARIOS: [u16; 15] = [100, 301, 302, 303, 304, 305, 401, 402, 403, 404, 405, 406, 409, 410, 414];

/// One answer, as a client wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) invoice: String,
    pub(crate) partner: usize,
    pub(crate) said: Said,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
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
pub(crate) struct Hall {
    vehicles: Vec<(String, String)>,
    next_vehicle: AtomicUsize,
    doors: Mutex<Vec<Door>>,
    changed: Condvar,
    notes: Mutex<Vec<Note>>,
    /// Final words that somebody has read.
    final_words: Mutex<HashMap<String, String>>,
    is_closing: AtomicBool,
}

/// One way in.
#[derive(Clone, Copy, Default)]
struct Door {
    /// Counted up whenever it is opened.
    run: usize,
    address: Option<SocketAddr>,
    answers: usize,
    /// Requests that no answer came to.
    lost: usize,
    /// It outlives what is behind it.
    is_balancer: bool,
}

impl Hall {
    /// A hall with so many doors, all shut, at a site with [`PARTNERS`] partners.
    pub(crate) fn with_doors(site: &Site, doors: usize) -> Self {
        for partner in 0..PARTNERS {
            // Known addresses are spared the limit on log-ins; after each start all clients log in anew.
            site.done(&["partner", "allow", &username(partner), "127.0.0.1"]);
        }
        let vehicles = site.json(&["sandbox", "vehicles", "--count", "20000", "--product", "SAMSAT_JABAR"]);
        let vehicles = vehicles.as_array().expect("a list of vehicles");
        let numbers = |v: &Value| (text(v, "customer_number"), text(v, "structure_number"));
        Self {
            vehicles: vehicles.iter().map(numbers).collect(),
            next_vehicle: AtomicUsize::new(0),
            doors: Mutex::new(vec![Door::default(); doors]),
            changed: Condvar::new(),
            notes: Mutex::default(),
            final_words: Mutex::default(),
            is_closing: AtomicBool::new(false),
        }
    }

    /// Lets the clients work while something happens to the gateways; they go home when it has happened.
    pub(crate) fn work_while<T>(&self, seed: u64, happens: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            for number in 0..CLIENTS {
                let dice = Dice::new(seed.wrapping_add(1 + number as u64));
                let mut client =
                    Client { hall: self, partner: number % PARTNERS, dice, invoices: Vec::new() };
                scope.spawn(move || client.work());
            }
            let happened = catch_unwind(AssertUnwindSafe(happens));
            self.is_closing.store(true, SeqCst);
            self.changed.notify_all();
            happened.unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Opens a gateway's door; if it is to be warm, after one of each partner has logged in.
    pub(crate) fn open(&self, door: usize, address: SocketAddr, is_warm: bool) {
        if is_warm {
            for partner in 0..PARTNERS {
                Partner { address, login: (&username(partner), PASSWORD) }.call("ceksaldo", &[]);
            }
        }
        self.change(door, |door| *door = Door { run: door.run + 1, address: Some(address), ..*door });
    }

    /// Opens the door of something that outlives the gateways behind it.
    pub(crate) fn open_balancer(&self, door: usize, address: SocketAddr) {
        self.change(door, |door| *door = Door { address: Some(address), is_balancer: true, ..*door });
    }

    /// Nobody comes in there any more.
    pub(crate) fn shut(&self, door: usize) {
        self.change(door, |door| door.address = None);
    }

    /// Lets the clients have so many more answers, at most this long.
    pub(crate) fn run_for_answers(&self, count: usize, limit: Duration) {
        let answers = |doors: &[Door]| doors.iter().map(|door| door.answers).sum::<usize>();
        let enough = self.answers() + count;
        self.wait(limit, |doors| answers(doors) >= enough);
    }

    /// Lets them work for so long.
    pub(crate) fn run_for(&self, time: Duration) {
        self.wait(time, |_| false);
    }

    /// How many answers the clients had.
    pub(crate) fn answers(&self) -> usize {
        self.doors().iter().map(|door| door.answers).sum()
    }

    /// How many requests that came in by a door were never answered.
    pub(crate) fn lost_at(&self, door: usize) -> usize {
        self.doors()[door].lost
    }

    /// How many requests were never answered.
    pub(crate) fn lost_answers(&self) -> usize {
        self.doors().iter().map(|door| door.lost).sum()
    }

    /// A vehicle that no client has had yet.
    pub(crate) fn next_vehicle(&self) -> (String, String) {
        let next = self.next_vehicle.fetch_add(1, SeqCst);
        self.vehicles[next % self.vehicles.len()].clone()
    }

    /// What all clients wrote down.
    pub(crate) fn take_notes(&self) -> Vec<Note> {
        mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn doors(&self) -> MutexGuard<'_, Vec<Door>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, door: usize, change: impl FnOnce(&mut Door)) {
        change(&mut self.doors()[door]);
        self.changed.notify_all();
    }

    /// Waits until the doors are fit, or time is up, or the hall closes.
    fn wait(&self, limit: Duration, is_fit: impl Fn(&[Door]) -> bool) -> Vec<Door> {
        let waits = |doors: &mut Vec<Door>| !is_fit(doors) && !self.is_closing.load(SeqCst);
        let waited = self.changed.wait_timeout_while(self.doors(), limit, waits);
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn note(&self, note: Note) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    fn final_word(&self, invoice: &str) -> Option<String> {
        self.final_words.lock().unwrap_or_else(PoisonError::into_inner).get(invoice).cloned()
    }

    /// A final word that was known before the question left is what the answer says.
    fn must_stand(&self, invoice: &str, known: Option<&str>, said: &Said) {
        match (known, said) {
            (Some(known), Said::State { word, .. }) => {
                assert_eq!(word, known, "{invoice}: a final word was taken back");
            }
            (Some("CONFIRM"), Said::Refused { reason }) => assert_eq!(reason, ALREADY_PAID, "{invoice}"),
            _ => {}
        }
        if let Said::State { word, .. } = said
            && matches!(&**word, "CONFIRM" | "REFUND")
        {
            let mut words = self.final_words.lock().unwrap_or_else(PoisonError::into_inner);
            words.insert(invoice.to_owned(), word.clone());
        }
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
                let dice = self.dice.below(u64::MAX);
                scope.spawn(move || {
                    let dice = Dice::new(dice);
                    Client { hall, partner, dice, invoices: Vec::new() }.ask_about("pay_esamsat", invoice);
                });
            }
        });
    }

    /// Pays or asks for the status, and writes the answer down; false if there was none.
    fn ask_about(&mut self, endpoint: &str, invoice: &str) -> bool {
        let known = self.hall.final_word(invoice);
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
        self.hall.must_stand(invoice, known.as_deref(), &said);
        self.hall.note(Note { invoice: invoice.to_owned(), partner: self.partner, said });
        true
    }

    /// The application's answer. None if there was no answer, or none but "try again".
    fn call(&mut self, endpoint: &str, parameters: &[(&str, &str)]) -> Option<Value> {
        let hall = self.hall;
        let (at, door) = self.pick_door()?;
        let address = door.address.expect("it is open");
        let username = username(self.partner);
        let answer = Partner { address, login: (&username, PASSWORD) }.try_call(endpoint, parameters);
        let answer = answer.ok().filter(|answer| !door.is_balancer || !matches!(answer.status, 502 | 504));
        let Some(Answer { status, body }) = answer else {
            hall.change(at, |door| door.lost += 1);
            let pause = if door.is_balancer { RETRY_AFTER } else { PATIENCE };
            hall.wait(pause, |doors| doors[at].run != door.run);
            return None;
        };
        hall.change(at, |door| door.answers += 1);
        assert!(matches!(status, 200 | 429 | 503), "{endpoint}: HTTP {status}: {body}");
        if status != 200 {
            hall.wait(RETRY_AFTER, |_| false);
        }
        (status == 200).then(|| serde_json::from_str(&body).expect("answers are JSON"))
    }

    /// An open door, once there is one; the balancer's as often as all others together.
    fn pick_door(&mut self) -> Option<(usize, Door)> {
        let doors = self.hall.wait(PATIENCE, |doors| doors.iter().any(|door| door.address.is_some()));
        let open = doors.into_iter().enumerate().filter(|(_, door)| door.address.is_some());
        let (balancers, direct): (Vec<_>, Vec<_>) = open.partition(|(_, door)| door.is_balancer);
        let is_balanced = !balancers.is_empty() && (direct.is_empty() || self.dice.percent(50));
        let doors = if is_balanced { balancers } else { direct };
        let picked = usize::try_from(self.dice.below(doors.len().max(1) as u64)).expect("an index");
        doors.get(picked).copied()
    }
}

/// A partner's log-in name.
pub(crate) fn username(partner: usize) -> String {
    format!("mitra{:04}", partner + 1)
}

fn rupiah(answer: &Value) -> i64 {
    text(answer, "total").parse().expect("a total is whole Rupiah")
}
