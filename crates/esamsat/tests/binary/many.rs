//! Many gateways on one database behave as one: whoever answers, whoever dies, whoever is stopped and wakes up.
//!
//! The first test is the kill test's with three gateways and a balancer before them: gateways are killed, paused
//! and upgraded under load, and in the end three books must agree to the rupiah. The others hold several
//! gateways against what one would do.

use crate::kit::{
    Balancer, Gateway, PATIENCE, Site, TESTER,
    books::{Books, times_said},
    clients::{ALREADY_PAID, BEING_PAID, CONFIGURATION, Hall, OPENING, PARTNERS, PASSWORD, username},
    dice::Dice,
    http::{Partner, get},
    text, told, whole, within,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    io::Write,
    net::SocketAddr,
    process::Stdio,
    sync::Barrier,
    thread,
    time::Duration,
};

const GATEWAYS: usize = 3;
const ROUNDS: usize = 2;
/// The balancer's door; the gateways' come after it.
const BALANCER: usize = 0;

/// Three gateways, their balancer, and what those printed that are no more.
struct Fleet<'a> {
    site: &'a Site,
    hall: &'a Hall,
    balancer: Balancer,
    gateways: Vec<Option<Gateway>>,
    logs: Vec<(usize, String)>,
}

impl<'a> Fleet<'a> {
    /// All start at once, on an empty database.
    fn start(site: &'a Site, hall: &'a Hall) -> Self {
        let balancer = Balancer::start(GATEWAYS);
        let gateways = (0..GATEWAYS).map(|_| Some(Gateway::begin(&mut site.serving(CONFIGURATION))));
        let fleet = Self { site, hall, balancer, gateways: gateways.collect(), logs: Vec::new() };
        for place in 0..GATEWAYS {
            fleet.let_in(place, true);
        }
        hall.open_balancer(BALANCER, fleet.balancer.address());
        fleet
    }

    fn at(&self, place: usize) -> &Gateway {
        self.gateways[place].as_ref().expect("it runs")
    }

    fn let_in(&self, place: usize, is_warm: bool) {
        let address = self.at(place).address();
        self.balancer.send_to(place, address);
        self.hall.open(1 + place, address, is_warm);
    }

    fn start_again(&mut self, place: usize, is_warm: bool) {
        self.gateways[place] = Some(Gateway::begin(&mut self.site.serving(CONFIGURATION)));
        self.let_in(place, is_warm);
    }

    fn kill(&mut self, place: usize) {
        let gateway = self.gateways[place].take().expect("it runs");
        self.logs.push((place, gateway.kill()));
        self.hall.shut(1 + place);
    }

    /// Stops a gateway in good order; partners at its own door are told before, those at the balancer's are not.
    fn stop(&mut self, place: usize) {
        self.hall.shut(1 + place);
        let gateway = self.gateways[place].take().expect("it runs");
        self.logs.push((place, gateway.stop()));
    }

    /// Who looks after orphans under a later token than this one, once somebody does.
    fn resolver(&self, after: i64) -> (usize, i64) {
        let mut found = None;
        within(PATIENCE, "a gateway takes over", || {
            let running = (0..GATEWAYS).filter(|place| self.gateways[*place].is_some());
            let latest = running.filter_map(|place| Some((token(&self.at(place).printed())?, place))).max();
            found = latest.filter(|(token, _)| *token > after);
            if found.is_none() {
                self.hall.run_for_answers(10, Duration::from_millis(250));
            }
            found.is_some()
        });
        let (token, place) = found.expect("it was found");
        (place, token)
    }
}

/// The last token under which a gateway took the resolver's lease.
fn token(log: &str) -> Option<i64> {
    let taken = told(log, "took the lease").into_iter();
    taken.filter(|line| text(line, "lease").starts_with("resolver/")).map(|line| whole(&line, "token")).max()
}

/// The invoices that a log's lines with this message are about.
fn invoices_of(log: &str, message: &str) -> HashSet<String> {
    told(log, message).iter().map(|line| text(line, "invoice")).collect()
}

#[test]
fn killed_paused_and_upgraded_under_load_they_keep_one_set_of_books() {
    let seed =
        std::env::var("MANY_SEED").map_or(20_261_125, |seed| seed.parse().expect("MANY_SEED is a number"));
    eprintln!("seed {seed} (MANY_SEED sets another)");
    let mut dice = Dice::new(seed);
    let mut few = |max: u64| usize::try_from(dice.below(max)).expect("a small number");
    let site = Site::shared().furnished(PARTNERS, PASSWORD, OPENING);
    let hall = Hall::with_doors(&site, 1 + GATEWAYS);
    let (mut kills, mut pauses, mut held) = (0, 0, 0);
    let mut fleet = hall.work_while(seed, || {
        let mut fleet = Fleet::start(&site, &hall);
        let work = |count: usize| hall.run_for_answers(count, Duration::from_secs(5));
        for round in 0..ROUNDS {
            // Any one, at any moment; the others go on.
            work(100 + few(100));
            let place = few(3);
            fleet.kill(place);
            work(few(60));
            fleet.start_again(place, few(10) < 8);

            // The one that looks after orphans is stopped until another one does, and wakes up.
            work(100 + few(100));
            let (place, token) = fleet.resolver(held);
            fleet.at(place).signal("STOP");
            held = fleet.resolver(token).1 - 1;
            fleet.at(place).signal("CONT");

            // And killed.
            work(100 + few(100));
            let (place, token) = fleet.resolver(held);
            fleet.kill(place);
            held = fleet.resolver(token).1 - 1;
            fleet.start_again(place, few(10) < 8);
            (kills, pauses) = (kills + 2, pauses + 1);

            work(100 + few(100));
            upgrade(&mut fleet, round);
        }
        // Longer than the horizon.
        hall.run_for(Duration::from_secs(4));
        fleet
    });

    site.settled();
    site.verify();
    let lost = hall.lost_answers();
    let notes = hall.take_notes();
    let books = Books::read_all(&site, &notes);
    let partner = username(0);
    let mut addresses: Vec<SocketAddr> = (0..GATEWAYS).map(|place| fleet.at(place).address()).collect();
    addresses.push(fleet.balancer.address());
    for invoice in books.invoices.values().filter(|invoice| whole(invoice, "partner") == 1).take(20) {
        let (number, state) = (text(invoice, "number"), text(invoice, "state"));
        for address in &addresses {
            let partner = Partner { address: *address, login: (&partner, PASSWORD) };
            assert_eq!(partner.status(&number), state, "{number} at {address}");
        }
    }
    let incidents = site.json(&["incident", "list"]).to_string();
    assert!(!incidents.contains("after_refund") && !incidents.contains("after_confirm"), "{incidents}");
    for place in 0..GATEWAYS {
        let gateway = fleet.gateways[place].take().expect("it runs");
        fleet.logs.push((place, gateway.stop()));
    }
    site.verify();

    // A test that reached none of what it is about would be as green.
    for (place, log) in &fleet.logs {
        for word in ["panicked", "can no longer be trusted", "contradicts a final state"] {
            let line = log.lines().find(|line| line.contains(word));
            assert_eq!(line, None, "gateway {place}");
        }
    }
    let left_open = |place: usize| {
        let own = fleet.logs.iter().filter(move |(at, _)| *at == place);
        own.flat_map(|(_, log)| invoices_of(log, "payment pending")).collect::<HashSet<_>>()
    };
    let mut settled_by_another = 0;
    for (place, log) in &fleet.logs {
        let settled = invoices_of(log, "payment settled");
        let of_others = (0..GATEWAYS).filter(|other| other != place).flat_map(left_open);
        settled_by_another += of_others.filter(|invoice| settled.contains(invoice)).count();
    }
    let takeovers = fleet.logs.iter().filter_map(|(_, log)| token(log)).max().unwrap_or_default();
    let said = |word: &str| times_said(&notes, word);
    let reached = [
        books.count("CONFIRM"),
        books.count("REFUND"),
        said("CONFIRM"),
        said("PENDING"),
        said("REFUND"),
        4 * lost,
    ];
    eprintln!(
        "{kills} kills, {pauses} pauses, {ROUNDS} upgrades, lease token {takeovers}, {settled_by_another} settled \
         by another gateway, {} answers; invoices CONFIRM, REFUND; answers CONFIRM, PENDING, REFUND; \
         four times lost: {reached:?}",
        notes.len()
    );
    assert!(reached.iter().all(|count| *count >= 20), "the test reached too little: {reached:?}");
    assert!(usize::try_from(takeovers).expect("a token") > 2 * ROUNDS, "the lease changed hands too seldom");
    assert!(settled_by_another >= 1, "nobody settled what another one left open");
}

/// One gateway after another is stopped, the schema gets a newer migration that older programs can work with,
/// and each is started again. Whoever comes in by the balancer notices nothing.
fn upgrade(fleet: &mut Fleet<'_>, round: usize) {
    let lost_before = fleet.hall.lost_at(BALANCER);
    fleet.stop(round % GATEWAYS);
    fleet.hall.run_for_answers(50, Duration::from_secs(5));
    let column =
        |table: &str| format!("ALTER TABLE {table} ADD COLUMN new_{round} integer NOT NULL DEFAULT 7");
    let mut changes =
        ["invoice", "payment", "settlement", "posting", "balance", "partner", "product", "lease"]
            .map(column)
            .to_vec();
    changes.push(
        "INSERT INTO schema_version (version, works_from) SELECT max(version) + 1, 1 FROM schema_version"
            .to_owned(),
    );
    fleet.site.schema().execute(&changes.iter().map(String::as_str).collect::<Vec<_>>());
    fleet.hall.run_for_answers(50, Duration::from_secs(5));
    fleet.start_again(round % GATEWAYS, true);
    fleet.hall.run_for_answers(50, Duration::from_secs(5));
    assert_eq!(fleet.hall.lost_at(BALANCER), lost_before, "answers were lost in the upgrade");
}

/// Whatever can be settled is settled within the time for an answer, with room for a busy machine: an answer
/// must not hang on who was a moment faster.
const PROMPT: &str = r#"
answer_within_ms = 15000
send_within_ms = 3000
lease_after_ms = 2000
log = "warn,esamsat=info"

[upstream.simulator]
kind = "simulator"
horizon_ms = 6000
answer_timeout_ms = 1000
"#;

const VEHICLE: (&str, &str) = ("320111111111111", "MH328D204AK4010000");

/// Gateways that share a site, and whose turn it is.
struct Turns {
    addresses: Vec<SocketAddr>,
    next: usize,
    /// Invoice numbers in the order of their appearance.
    invoices: Vec<String>,
}

impl Turns {
    fn new(gateways: &[Gateway]) -> Self {
        Self { addresses: gateways.iter().map(Gateway::address).collect(), next: 0, invoices: Vec::new() }
    }

    /// Calls the next gateway; the answer, but for what differs from run to run.
    fn call(&mut self, login: (&str, &str), endpoint: &str, parameters: &[(&str, &str)]) -> (u16, Value) {
        let address = self.addresses[self.next % self.addresses.len()];
        self.next += 1;
        let answer = Partner { address, login }.try_call(endpoint, parameters).expect("an answer");
        let mut body = answer.json();
        let invoice = body["invoice"].as_str().filter(|invoice| !invoice.is_empty());
        if let Some(invoice) = invoice.filter(|invoice| !self.invoices.iter().any(|known| known == invoice)) {
            self.invoices.push(invoice.to_owned());
        }
        for changing in ["tanggal", "reference_number", "trace_number"] {
            if let Some(value) = body.get_mut(changing)
                && value.as_str().is_some_and(|text| !text.is_empty())
            {
                *value = "…".into();
            }
        }
        let mut body = body.to_string();
        for (place, invoice) in self.invoices.iter().enumerate() {
            body = body.replace(invoice, &format!("#{place}"));
        }
        (answer.status, serde_json::from_str(&body).expect("still JSON"))
    }

    fn last_invoice(&self) -> String {
        self.invoices.last().cloned().unwrap_or_default()
    }
}

/// What one partner does, and another one tries; every answer in order.
fn sequence(turns: &mut Turns) -> Vec<(u16, Value)> {
    let login = ("mitra0001", PASSWORD);
    let other = ("mitra0002", PASSWORD);
    let (nik, chassis) = VEHICLE;
    let of = |product: &'static str, nik: &'static str, chassis: &'static str| {
        [("product", product), ("customer_number", nik), ("structure_number", chassis)]
    };
    let documented = of("SAMSAT_JABAR", nik, chassis);
    let mut answers = vec![
        turns.call(login, "list_esamsat", &[]),
        turns.call(login, "ceksaldo", &[]),
        turns.call(("mitra0001", "salah"), "ceksaldo", &[]),
        turns.call(login, "inquiry_esamsat", &documented),
    ];
    let first = turns.last_invoice();
    answers.extend([
        turns.call(other, "pay_esamsat", &[("invoice", &first)]),
        turns.call(other, "inquiry_esamsat", &documented),
    ]);
    let second = turns.last_invoice();
    let pay = [("invoice", &*first)];
    answers.extend([
        turns.call(login, "status_invoice", &pay),
        turns.call(login, "pay_esamsat", &pay),
        turns.call(login, "pay_esamsat", &pay),
        turns.call(login, "status_invoice", &pay),
        turns.call(login, "ceksaldo", &[]),
        turns.call(other, "pay_esamsat", &[("invoice", &second)]),
        turns.call(other, "status_invoice", &[("invoice", &second)]),
        turns.call(other, "ceksaldo", &[]),
        turns.call(login, "inquiry_esamsat", &documented),
        turns.call(login, "inquiry_esamsat", &of("SAMSAT_JATENG", nik, chassis)),
        turns.call(login, "inquiry_esamsat", &of("SAMSAT_BALI", nik, chassis)),
        turns.call(login, "inquiry_esamsat", &of("SAMSAT_JABAR", "1", chassis)),
        turns.call(login, "pay_esamsat", &[("invoice", "999")]),
        turns.call(login, "status_invoice", &[("invoice", "199999999999")]),
        turns.call(login, "pay_esamsat", &[]),
        turns.call(("nobody", PASSWORD), "ceksaldo", &[]),
    ]);
    answers
}

/// A test number's life: asked for, paid, paid again, asked about, at a gateway after another.
fn scenario(turns: &mut Turns, number: &Value) -> Vec<(u16, Value)> {
    let login = ("mitra0003", PASSWORD);
    let (nik, chassis) = (text(number, "customer_number"), text(number, "structure_number"));
    let product = text(number, "product");
    let vehicle = [("product", &*product), ("customer_number", &nik), ("structure_number", &chassis)];
    let mut answers = vec![turns.call(login, "inquiry_esamsat", &vehicle)];
    let invoice = turns.last_invoice();
    let calls = match text(number, "finally").as_str() {
        // Each payment takes as long as an answer may take.
        "PENDING" => &["pay_esamsat", "status_invoice"][..],
        _ => &["pay_esamsat", "pay_esamsat", "status_invoice", "pay_esamsat"],
    };
    for endpoint in calls {
        answers.push(turns.call(login, endpoint, &[("invoice", &invoice)]));
    }
    answers.push(turns.call(login, "inquiry_esamsat", &vehicle));
    answers
}

/// Everything that so many gateways answer, by what was done.
fn answers_of(gateways: usize) -> BTreeMap<String, Vec<(u16, Value)>> {
    let site = Site::shared().furnished(3, PASSWORD, 10_000_000);
    let gateways: Vec<_> = (0..gateways).map(|_| site.serve(PROMPT)).collect();
    let mut answers = BTreeMap::from([("sequence".to_owned(), sequence(&mut Turns::new(&gateways)))]);
    for gateway in &gateways {
        // Remembered from here on.
        gateway.partner(("mitra0003", PASSWORD)).call("ceksaldo", &[]);
    }
    let numbers = site.json(&["sandbox", "numbers"]);
    thread::scope(|scope| {
        let mut lives = Vec::new();
        for number in numbers.as_array().expect("a list of numbers") {
            let mut turns = Turns::new(&gateways);
            lives.push(scope.spawn(move || (text(number, "structure_number"), scenario(&mut turns, number))));
        }
        answers.extend(lives.into_iter().map(|life| life.join().expect("no panic")));
    });
    let saldo = Turns::new(&gateways[gateways.len() - 1..]).call(("mitra0003", PASSWORD), "ceksaldo", &[]);
    answers.insert("saldo".to_owned(), vec![saldo]);
    stopped(&site, gateways);
    answers
}

#[test]
fn four_gateways_answer_call_by_call_what_one_answers() {
    let (one, four) = thread::scope(|scope| {
        let one = scope.spawn(|| answers_of(1));
        let four = answers_of(4);
        (one.join().expect("no panic"), four)
    });
    let words = |answers: &BTreeMap<String, Vec<(u16, Value)>>, key: &str| {
        answers
            .values()
            .flatten()
            .filter_map(|(_, body)| body[key].as_str().map(str::to_owned))
            .collect::<HashSet<_>>()
    };
    for word in ["INQUIRY", "PENDING", "CONFIRM"] {
        assert!(words(&one, "status").contains(word), "no answer is {word}");
    }
    assert!(words(&one, "reason").len() > 20, "few refusals: {:?}", words(&one, "reason"));
    for (what, answers) in &one {
        for (place, answer) in answers.iter().enumerate() {
            assert_eq!(*answer, four[what][place], "{what}, answer {place}: of one gateway, and of four");
        }
    }
}

/// A bank that takes its time, so that what comes at once meets what is under way.
const SLOW: &str = r#"
lease_after_ms = 2000
log = "warn,esamsat=info"

[upstream.simulator]
kind = "simulator"
delay_ms = [20, 60]
"#;

/// Gateways that share a new site with this many partners, each logged in everywhere.
fn shared_by(gateways: usize, partners: usize, deposit: i64, configuration: &str) -> (Site, Vec<Gateway>) {
    let site = Site::shared().furnished(partners, PASSWORD, deposit);
    let gateways: Vec<_> = (0..gateways).map(|_| site.serve(configuration)).collect();
    for partner in 0..partners {
        site.done(&["partner", "allow", &username(partner), "127.0.0.1"]);
        for gateway in &gateways {
            gateway.partner((&username(partner), PASSWORD)).call("ceksaldo", &[]);
        }
    }
    (site, gateways)
}

/// What all answer who do this at the same moment.
fn at_once<T: Send>(count: usize, act: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(count);
    thread::scope(|scope| {
        let (act, barrier) = (&act, &barrier);
        let start = |index| {
            scope.spawn(move || {
                barrier.wait();
                act(index)
            })
        };
        let acting: Vec<_> = (0..count).map(start).collect();
        acting.into_iter().map(|acting| acting.join().expect("no panic")).collect()
    })
}

/// A vehicle of the same bill, whatever the index.
fn vehicle(index: usize) -> String {
    format!("UJI100{index:07}")
}

/// How many payment requests the gateways sent, by their metrics.
fn sent(gateways: &[Gateway]) -> usize {
    let of = |gateway: &Gateway| -> usize {
        let metrics = get(gateway.address(), "/metrics").expect("metrics").body;
        let count = metrics.lines().find_map(|line| line.strip_prefix("esamsat_payment_bank_seconds_count "));
        count.map_or(0, |count| count.parse().expect("a count"))
    };
    gateways.iter().map(of).sum()
}

fn stopped(site: &Site, gateways: Vec<Gateway>) {
    for gateway in gateways {
        gateway.stop();
    }
    site.verify();
}

#[test]
fn one_invoice_paid_at_two_gateways_at_once_is_one_request_with_one_outcome() {
    const INVOICES: usize = 50;
    let (site, gateways) = shared_by(2, 1, 1_000_000_000, SLOW);
    let login = ("mitra0001", PASSWORD);
    let mut met = 0;
    for index in 0..INVOICES {
        let invoice = gateways[index % 2].partner(login).invoice((TESTER, &vehicle(index)));
        let answers = at_once(2, |gateway| gateways[gateway].partner(login).pay(&invoice));
        let paid: Vec<_> = answers.iter().filter(|answer| answer["result"] == "ok").collect();
        for answer in &paid {
            assert_eq!(answer["status"], "CONFIRM", "{answer}");
            assert_eq!(answer["reference_number"], paid[0]["reference_number"]);
        }
        // One that comes when it is over reads the state's answer.
        let late = answers.iter().filter(|answer| answer["reason"] == ALREADY_PAID).count();
        assert!(!paid.is_empty() && paid.len() + late == 2, "{answers:?}");
        met += usize::from(paid.len() == 2);
    }
    assert!(met >= INVOICES / 2, "only {met} of {INVOICES} met one under way");
    assert_eq!(sent(&gateways), INVOICES);
    let mut taken = site.taken();
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), INVOICES);
    stopped(&site, gateways);
}

#[test]
fn of_two_partners_who_pay_one_bill_at_two_gateways_one_pays() {
    const BILLS: usize = 25;
    const OPENING: i64 = 1_000_000_000;
    const COST: i64 = BILL + FEE - CASHBACK;
    let (site, gateways) = shared_by(2, 2, OPENING, SLOW);
    let logins = [("mitra0001", PASSWORD), ("mitra0002", PASSWORD)];
    let mut paid = [0, 0];
    for index in 0..BILLS {
        let vehicle = vehicle(index);
        let partner = |place: usize| gateways[(place + index) % 2].partner(logins[place]);
        let invoices = at_once(2, |place| partner(place).invoice((TESTER, &vehicle)));
        let answers = at_once(2, |place| partner(place).pay(&invoices[place]));
        let winner = usize::from(answers[1]["status"] == "CONFIRM");
        assert_eq!(answers[winner]["status"], "CONFIRM", "{answers:?}");
        let reason = text(&answers[1 - winner], "reason");
        assert!(reason == BEING_PAID || reason == ALREADY_PAID, "{reason}");
        assert_eq!(site.state(&invoices[1 - winner]), "INQUIRY");
        paid[winner] += 1;
    }
    for place in 0..2 {
        let shown = site.json(&["partner", "show", logins[place].0]);
        assert_eq!(whole(&shown, "deposit_rupiah"), OPENING - paid[place] * COST, "{shown}");
        assert_eq!(whole(&shown, "reserved_rupiah"), 0, "{shown}");
    }
    assert_eq!((sent(&gateways), site.taken().len()), (BILLS, BILLS));
    stopped(&site, gateways);
}

/// What every vehicle of [`vehicle`] owes, and what the sandbox's products add and give back.
const BILL: i64 = 221_000;
const FEE: i64 = 5_000;
const CASHBACK: i64 = 2_000;

#[test]
fn a_deposit_for_some_of_many_pays_spread_over_gateways_pays_exactly_those() {
    const PAYS: usize = 24;
    const ENOUGH_FOR: usize = 7;
    let total = BILL + FEE;
    let deposit = i64::try_from(ENOUGH_FOR).expect("few") * total + 1;
    let (site, gateways) = shared_by(4, 1, deposit, SLOW);
    let partner = |index: usize| gateways[index % 4].partner(("mitra0001", PASSWORD));
    let invoices = at_once(PAYS, |index| partner(index).invoice((TESTER, &vehicle(index))));
    let answers = at_once(PAYS, |index| partner(index).pay(&invoices[index]));
    let paid = answers.iter().filter(|answer| answer["status"] == "CONFIRM").count();
    let short: HashSet<_> = answers.iter().filter_map(|answer| answer["reason"].as_str()).collect();
    assert_eq!((paid, short.len()), (ENOUGH_FOR, 1), "{short:?}");
    assert_eq!((sent(&gateways), site.taken().len()), (ENOUGH_FOR, ENOUGH_FOR));
    let shown = site.json(&["partner", "show", "mitra0001"]);
    let returned = i64::try_from(ENOUGH_FOR).expect("few") * CASHBACK;
    assert_eq!(whole(&shown, "deposit_rupiah"), 1 + returned, "{shown}");
    stopped(&site, gateways);
}

#[test]
fn what_an_operator_changes_every_gateway_obeys_within_seconds() {
    const WITHIN: Duration = Duration::from_secs(3);
    const NEW_PASSWORD: &str = "sandi-yang-baru";
    let (site, gateways) = shared_by(2, 1, 1_000_000, PROMPT);
    let reason = |gateway: &Gateway, password: &str| {
        let answer = gateway.partner(("mitra0001", password)).inquire((TESTER, &vehicle(0)));
        answer["reason"].as_str().unwrap_or_default().to_owned()
    };
    // From one answer of all gateways to another one, and never back.
    let all_turn = |what: &str, is_turned: &dyn Fn(&Gateway) -> bool| {
        within(WITHIN, what, || gateways.iter().all(is_turned));
        for _ in 0..10 {
            assert!(gateways.iter().all(is_turned), "{what}, and back");
        }
    };
    let works = |gateway: &Gateway| reason(gateway, PASSWORD).is_empty();
    all_turn("it works", &works);
    for (off, on) in [
        (["product", "off", "SAMSAT_JABAR"], ["product", "on", "SAMSAT_JABAR"]),
        (["partner", "suspend", "mitra0001"], ["partner", "resume", "mitra0001"]),
    ] {
        site.done(&off);
        all_turn(&off.join(" "), &|gateway| !works(gateway));
        site.done(&on);
        all_turn(&on.join(" "), &works);
    }

    let mut command = site.command(&["partner", "password", "mitra0001", "--password-stdin"]);
    let mut changing = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    let mut stdin = changing.stdin.take().expect("a pipe");
    stdin.write_all(NEW_PASSWORD.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(changing.wait().expect("it ends").success());
    all_turn("the old password is refused", &|gateway| !works(gateway));
    all_turn("the new password opens", &|gateway| reason(gateway, NEW_PASSWORD).is_empty());
    assert!(gateways.iter().all(|gateway| !works(gateway)), "the old password opens again");
    stopped(&site, gateways);
}
