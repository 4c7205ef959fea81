//! The real machine: three gateways on one PostgreSQL server and a bank host, all of them processes, with a proxy of
//! ours on every connection: partners to gateways, gateways to the database, gateways to the bank.
//!
//! In each cycle a deck of faults is dealt from: what a network does on any of these connections, SIGKILL and SIGSTOP
//! to any process, a wall clock that is set. Then the faults stop: all becomes final in bounded time, `esamsat verify`
//! holds, and three books agree one to one and to the rupiah: the gateways', the bank's and the clients'.
//!
//! The seed decides what is dealt; at which byte it strikes, processes and threads do. Deliberately elsewhere: a file
//! system that fills up (`full_disk`), a primary that fails over to a standby (`failover`), a machine that loses power.

use crate::kit::{
    Bank, Gateway, PATIENCE, Server, Site,
    books::{Books, times_said},
    clients::{Hall, Note, OPENING, PARTNERS, PASSWORD, Said, UNREACHABLE},
    dice::Dice,
    proxy::{Fault, Proxy, Way},
    told, within,
};
use domain::Clock;
use engine::SystemClock;
use std::{
    collections::BTreeMap,
    env, fs, mem,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;

const GATEWAYS: usize = 3;
const TERMINALS: [&str; GATEWAYS] = ["ESAM0001", "ESAM0002", "ESAM0003"];

/// How long after it was sent the bank may carry a payment out. Half of it is what gateways allow a message to be under
/// way; the next three constants together are less.
const HORIZON_MS: u64 = 4_000;
/// What is held on a line for longer is not forwarded any more.
const HELD_MAX: Duration = Duration::from_millis(400);
const DELAY_MAX_MS: u64 = 50;
const BANK_PAUSE_MAX_MS: u64 = 500;

/// What the bank does wrong by itself. It refuses nobody by chance: of a request that the line doubles, it could refuse
/// one copy and carry out the other.
const BANK_FAULTS: &str = r#"{"lost":0.03,"silent":0.03,"late":0.02,"unknown_code":0.01,"delay_ms":[0,15]}"#;

/// Where the wall clock is set to, in seconds from the true one. What is begun under a clock that is ahead is final
/// only when the others have caught up with it, so it is not ahead by much: more than a horizon, and than a lease.
const CLOCKS_S: [i64; 3] = [7, -7, -3_600];

/// What a process ends with that cannot reach what it needs.
const UNAVAILABLE: i32 = 5;

/// What a gateway says that cannot know whether a batch was written.
const LOST_COMMIT: &str = "a commit's answer was lost; asking for the batch";

/// A run in the suite ends with the first cycle after so long in which each kind of fault has had an effect; without that
/// after three times as long, and fails.
const SUITE_RUN: Duration = Duration::from_secs(20);
/// For how many cycles a fault waits for something to befall.
const CYCLES_MAX: u64 = 4;

/// Which connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum On {
    Doors,
    Database,
    Lines,
}

/// What is dealt.
#[derive(Clone, Copy, Debug)]
enum Card {
    Network(On, Fault),
    KillGateway,
    PauseGateway,
    KillBank,
    PauseBank,
    KillDatabase,
    SetClock(i64),
}

impl Card {
    fn name(self) -> &'static str {
        match self {
            Self::Network(..) => "network",
            Self::KillGateway => "gateway killed",
            Self::PauseGateway => "gateway paused",
            Self::KillBank => "bank killed",
            Self::PauseBank => "bank paused",
            Self::KillDatabase => "database killed",
            Self::SetClock(_) => "clock set",
        }
    }
}

/// What is to be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undo {
    Lift { on: On, at: usize, fault: Fault, befallen: usize },
    StartGateway(usize),
    ResumeGateway(usize),
    StartBank,
    StartDatabase,
    SetClockRight(usize),
}

/// A gateway's place, with its connections.
struct Place {
    configuration: PathBuf,
    /// Where its wall clock is read to be wrong by.
    clock: PathBuf,
    door: Proxy,
    database: Proxy,
    line: Proxy,
    gateway: Option<Gateway>,
    is_open: bool,
    is_paused: bool,
}

impl Place {
    fn proxy(&self, on: On) -> &Proxy {
        match on {
            On::Doors => &self.door,
            On::Database => &self.database,
            On::Lines => &self.line,
        }
    }
}

struct Ordeal<'a> {
    site: &'a Site,
    hall: &'a Hall,
    seed: u64,
    dice: Dice,
    deck: Vec<Card>,
    server: Server,
    /// Where commands reach the server, with no faults.
    office: &'a Proxy,
    bank: Bank,
    places: Vec<Place>,
    laid: Vec<(u64, Undo)>,
    cycle: u64,
    played: BTreeMap<&'static str, usize>,
    failed_starts: usize,
    /// What gateways printed that are no more.
    logs: Vec<String>,
}

impl Ordeal<'_> {
    /// Deals, lets partners work, and undoes what is due.
    fn go_on(&mut self) {
        self.cycle += 1;
        for _ in 0..=self.dice.below(2) {
            if self.deck.is_empty() {
                self.deck = deck(&mut self.dice);
            }
            let card = self.deck.pop().expect("it was shuffled");
            if !self.play(card) {
                self.deck.insert(0, card);
            }
        }
        self.hall.run_for(Duration::from_millis(200 + self.dice.below(400)));
        let laid = mem::take(&mut self.laid);
        let (due, left) = laid.into_iter().partition(|(until, undo)| self.is_due(*until, undo));
        self.laid = left;
        self.undo(due);
        self.tend();
    }

    fn is_due(&self, until: u64, undo: &Undo) -> bool {
        self.cycle >= until && (!self.is_idle(undo) || self.cycle >= until + CYCLES_MAX)
    }

    /// Whether it is of a fault that has befallen nothing yet.
    fn is_idle(&self, undo: &Undo) -> bool {
        let Undo::Lift { on, at, fault, befallen } = undo else { return false };
        self.places[*at].proxy(*on).count(fault.name()) == *befallen
    }

    /// Does what a card says, if that can be done now.
    fn play(&mut self, card: Card) -> bool {
        match card {
            Card::Network(on, fault) => {
                let spared = self.spared().filter(|_| on == On::Database);
                let standing = self.pick(spared, |place| place.proxy(on).standing() > 0);
                let Some(at) = standing else { return false };
                self.undo_if(|undo| matches!(undo, Undo::Lift { on: o, at: a, .. } if (*o, *a) == (on, at)));
                let proxy = self.places[at].proxy(on);
                let befallen = proxy.count(fault.name());
                proxy.lay(fault);
                self.lay(0..2, Undo::Lift { on, at, fault, befallen });
            }
            Card::KillGateway => {
                let runs = self.pick(self.spared(), |place| place.gateway.is_some());
                let Some(at) = runs else { return false };
                self.laid.retain(|(_, undo)| *undo != Undo::ResumeGateway(at));
                self.hall.shut(at);
                let place = &mut self.places[at];
                self.logs.push(place.gateway.take().expect("it runs").kill());
                (place.is_open, place.is_paused) = (false, false);
                self.lay(0..2, Undo::StartGateway(at));
            }
            Card::PauseGateway => {
                let serves = self.pick(self.spared(), |place| place.is_open && !place.is_paused);
                let Some(at) = serves else { return false };
                let place = &mut self.places[at];
                place.gateway.as_ref().expect("it is open").signal("STOP");
                place.is_paused = true;
                // Those who are inside wait.
                self.hall.shut(at);
                self.lay(1..9, Undo::ResumeGateway(at));
            }
            Card::KillBank | Card::PauseBank if self.is_laid(Undo::StartBank) => return false,
            Card::KillDatabase if self.is_laid(Undo::StartDatabase) => return false,
            Card::KillBank => {
                self.bank.kill();
                self.lay(0..2, Undo::StartBank);
            }
            Card::PauseBank => {
                self.bank.signal("STOP");
                self.hall.run_for(Duration::from_millis(self.dice.below(BANK_PAUSE_MAX_MS)));
                self.bank.signal("CONT");
            }
            Card::KillDatabase => {
                self.server.kill();
                self.lay(0..2, Undo::StartDatabase);
            }
            Card::SetClock(seconds) => {
                let serves = self.pick(None, |place| place.is_open && !place.is_paused);
                let Some(at) = serves else { return false };
                let now = SystemClock.now();
                let back = now.minus(Duration::from_hours(1));
                // An invoice is good on its day only: another day is another test's.
                let is_same_day = now.date_in_jakarta() == back.date_in_jakarta();
                set(&self.places[at].clock, if is_same_day { seconds } else { seconds.max(-7) });
                self.undo_if(|undo| *undo == Undo::SetClockRight(at));
                self.lay(5..12, Undo::SetClockRight(at));
            }
        }
        eprintln!("cycle {}: {card:?}", self.cycle);
        *self.played.entry(card.name()).or_default() += 1;
        true
    }

    fn undo(&mut self, due: Vec<(u64, Undo)>) {
        for (_, undo) in due {
            match undo {
                Undo::Lift { on, at, fault, .. } => {
                    if self.is_idle(&undo) {
                        // Soon again.
                        self.deck.insert(self.deck.len().saturating_sub(3), Card::Network(on, fault));
                    }
                    let proxy = self.places[at].proxy(on);
                    proxy.lift();
                    if on == On::Doors && matches!(fault, Fault::Swallow(_) | Fault::Vanish) {
                        // Partners would wait for their time-out.
                        proxy.end_all();
                    }
                }
                Undo::StartGateway(at) => self.begin(at),
                Undo::ResumeGateway(at) => {
                    let place = &mut self.places[at];
                    place.gateway.as_ref().expect("it is paused").signal("CONT");
                    place.is_paused = false;
                    if place.is_open {
                        self.hall.open_balancer(at, place.door.address());
                    }
                }
                Undo::StartBank => {
                    self.bank.start_elsewhere(self.seed + self.cycle);
                    self.bank.faults(BANK_FAULTS);
                    self.places.iter().for_each(|place| place.line.lead_to(self.bank.address));
                }
                Undo::StartDatabase => {
                    self.server.start_again();
                    let proxies = self.places.iter().map(|place| &place.database);
                    proxies.chain([self.office]).for_each(|proxy| proxy.lead_to(self.server.address()));
                }
                Undo::SetClockRight(at) => set(&self.places[at].clock, 0),
            }
        }
    }

    fn undo_if(&mut self, is_it: impl Fn(&Undo) -> bool) {
        let (due, left) = mem::take(&mut self.laid).into_iter().partition(|(_, undo)| is_it(undo));
        self.laid = left;
        self.undo(due);
    }

    /// Begins a gateway's start; who comes in by its door waits for [`Self::tend`].
    fn begin(&mut self, at: usize) {
        let place = &mut self.places[at];
        let mut command = self.site.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.arg("--config").arg(&place.configuration);
        command.env("ESAMSAT_DATABASE", Server::url_at(place.database.address()));
        command.env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", &place.clock);
        for (name, value) in [
            ("FAKETIME_CACHE_DURATION", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ] {
            command.env(name, value);
        }
        place.gateway = Some(Gateway::begin(&mut command));
    }

    /// Lets partners in where a gateway has become ready, and starts again whose start failed for want of a database.
    fn tend(&mut self) {
        for at in 0..GATEWAYS {
            let place = &mut self.places[at];
            let Some(gateway) = &place.gateway else { continue };
            if gateway.ends_within(Duration::ZERO) {
                let (status, printed) = place.gateway.take().expect("it is there").wait(PATIENCE);
                let is_away = status.code() == Some(UNAVAILABLE);
                assert!(!place.is_open && is_away, "gateway {at} ended by itself: {status}: {printed}");
                self.logs.push(printed);
                self.failed_starts += 1;
                self.begin(at);
            } else if let Some(address) = gateway.is_ready().filter(|_| !place.is_open) {
                place.door.lead_to(address);
                place.is_open = true;
                if !place.is_paused {
                    self.hall.open_balancer(at, place.door.address());
                }
            }
        }
    }

    /// All faults stop, and everybody works again.
    fn calm(&mut self) {
        self.undo_if(|_| true);
        self.bank.faults("{}");
        within(PATIENCE, "every gateway is ready", || {
            self.tend();
            self.hall.run_for(Duration::from_millis(50));
            self.places.iter().all(|place| place.is_open)
        });
    }

    fn is_laid(&self, undo: Undo) -> bool {
        self.laid.iter().any(|(_, laid)| *laid == undo)
    }

    fn lay(&mut self, cycles: Range<u64>, undo: Undo) {
        let until = self.cycle + cycles.start + self.dice.below(cycles.end - cycles.start);
        self.laid.push((until, undo));
    }

    /// One gateway at a time is spared what takes long to recover from, so that partners pay meanwhile.
    fn spared(&self) -> Option<usize> {
        usize::try_from(self.cycle / 12).ok().map(|turn| turn % GATEWAYS)
    }

    /// Any place that is fit.
    fn pick(&mut self, spared: Option<usize>, is_fit: impl Fn(&Place) -> bool) -> Option<usize> {
        let places = (0..GATEWAYS).filter(|at| Some(*at) != spared);
        let fit: Vec<usize> = places.filter(|at| is_fit(&self.places[*at])).collect();
        let sides = u64::try_from(fit.len()).ok().filter(|sides| *sides > 0)?;
        Some(fit[usize::try_from(self.dice.below(sides)).expect("an index")])
    }

    /// Kinds of cards of which none was played, or befell anything.
    fn missing(&self) -> Vec<Card> {
        let befallen = self.befallen();
        let is_missing = |card: &Card| match card {
            Card::Network(on, fault) => !befallen.contains_key(&(*on, fault.name())),
            card => !self.played.contains_key(card.name()),
        };
        deck(&mut Dice::new(self.seed)).into_iter().filter(is_missing).collect()
    }

    /// What befell which connections.
    fn befallen(&self) -> BTreeMap<(On, &'static str), usize> {
        let mut sums = BTreeMap::new();
        for on in [On::Doors, On::Database, On::Lines] {
            for (name, count) in self.places.iter().flat_map(|place| place.proxy(on).counts()) {
                *sums.entry((on, name)).or_default() += count;
            }
        }
        sums
    }
}

impl Drop for Ordeal<'_> {
    /// Leaves the gateways' logs where they are asked for, however the run ends.
    fn drop(&mut self) {
        let Some(folder) = env::var_os("ORDEAL_LOGS").map(PathBuf::from) else { return };
        let running = self.places.iter().filter_map(|place| place.gateway.as_ref());
        let logs = mem::take(&mut self.logs).into_iter().chain(running.map(Gateway::printed));
        for (number, log) in logs.enumerate() {
            if let Err(error) = fs::write(folder.join(format!("gateway{number}.log")), log) {
                eprintln!("failed to write a log into {}: {error}", folder.display());
            }
        }
    }
}

/// Each fault, and what happens more often more often, shuffled.
fn deck(dice: &mut Dice) -> Vec<Card> {
    let mut deck = vec![Card::KillGateway; 4];
    deck.extend([Card::PauseGateway; 3]);
    deck.extend([Card::KillBank, Card::PauseBank, Card::KillDatabase]);
    deck.extend(CLOCKS_S.map(Card::SetClock));
    // About as many as a request, a log-in to the database, or some messages have.
    for (on, bytes) in [(On::Doors, 300), (On::Database, 3_000), (On::Lines, 600)] {
        deck.extend(faults(bytes, dice).map(|fault| Card::Network(on, fault)));
    }
    deck.extend([Way::Up, Way::Down].map(|way| Card::Network(On::Lines, Fault::Double(way))));
    for last in (1..deck.len()).rev() {
        deck.swap(last, usize::try_from(dice.below(last as u64 + 1)).expect("an index"));
    }
    deck
}

fn faults(bytes: u64, dice: &mut Dice) -> [Fault; 8] {
    let mut byte = || usize::try_from(dice.below(bytes)).expect("a small number");
    let cuts = [Fault::Cut(Way::Up, byte()), Fault::Cut(Way::Down, byte())];
    let delay = Fault::Delay(Duration::from_millis(1 + dice.below(DELAY_MAX_MS)));
    let swallows = [Fault::Swallow(Way::Up), Fault::Swallow(Way::Down), Fault::Vanish];
    [cuts[0], cuts[1], delay, swallows[0], swallows[1], swallows[2], Fault::Stall, Fault::Refuse]
}

/// Sets a clock wrong by so much. It is read at any moment.
fn set(clock: &Path, seconds: i64) {
    let next = clock.with_extension("next");
    fs::write(&next, format!("{seconds:+}\n")).expect("written");
    fs::rename(next, clock).expect("renamed");
}

/// Debian's library that tells programs another time.
fn faketime() -> PathBuf {
    let architectures = fs::read_dir("/usr/lib").expect("a folder");
    let library = |entry: fs::DirEntry| entry.path().join("faketime/libfaketimeMT.so.1");
    let mut libraries = architectures.filter_map(|entry| entry.ok().map(library));
    libraries.find(|path| path.exists()).expect("Debian's package libfaketime is installed")
}

/// How often the clock of a log in JSON was set back.
fn set_back(log: &str) -> usize {
    let time_s = |line: &str| -> Option<i64> {
        let time = line.strip_prefix("{\"timestamp\":\"")?.get(11..19)?;
        time.split(':').try_fold(0, |sum, part| Some(sum * 60 + part.parse::<i64>().ok()?))
    };
    let times: Vec<i64> = log.lines().filter_map(time_s).collect();
    // Not by midnight.
    times.windows(2).filter(|pair| (3..43_200).contains(&(pair[0] - pair[1]))).count()
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn whatever_befalls_processes_and_connections_three_books_agree() {
    let seed = number("ORDEAL_SEED").unwrap_or(20_261_201);
    let cycles = number("ORDEAL_CYCLES");
    eprintln!(
        "seed {seed} (ORDEAL_SEED sets another, ORDEAL_CYCLES a number of cycles, ORDEAL_LOGS a folder for logs)"
    );
    let server = Server::start();
    let office = Proxy::of_bytes(server.address());
    let site = Site::on(&Server::url_at(office.address())).furnished(PARTNERS, PASSWORD, OPENING);
    let bank = Bank::with_horizon("contoh-37-80", HORIZON_MS, seed);
    let places = (0..GATEWAYS).map(|at| {
        let line = Proxy::of_frames(bank.address, HELD_MAX);
        let lines = TERMINALS.map(|terminal| (terminal, line.address()));
        let configuration = site.path(&format!("gateway{at}.toml"));
        let text = format!("lease_after_ms = 2000\n{}", bank.with_lines(&lines));
        let text = text.replace("esamsat=info", "esamsat=info,engine::pay=info,engine::settle=info");
        fs::write(&configuration, text).expect("the configuration is written");
        let clock = site.path(&format!("clock{at}"));
        set(&clock, 0);
        // It leads somewhere once there is a gateway.
        let door = Proxy::of_bytes(bank.address);
        let database = Proxy::of_bytes(server.address());
        let (gateway, is_open, is_paused) = (None, false, false);
        Place { configuration, clock, door, database, line, gateway, is_open, is_paused }
    });
    let places: Vec<Place> = places.collect();
    site.sell(&fs::read_to_string(&places[0].configuration).expect("it was written"), "bank");
    let hall = Hall::with_doors(&site, GATEWAYS);
    let mut ordeal = Ordeal {
        site: &site,
        hall: &hall,
        seed,
        dice: Dice::new(seed),
        deck: Vec::new(),
        server,
        office: &office,
        bank,
        places,
        laid: Vec::new(),
        cycle: 0,
        played: BTreeMap::new(),
        failed_starts: 0,
        logs: Vec::new(),
    };
    let began_at = Instant::now();
    let mut calm_at = began_at;
    hall.work_while(seed, || {
        (0..GATEWAYS).for_each(|at| ordeal.begin(at));
        ordeal.calm();
        ordeal.bank.faults(BANK_FAULTS);
        let is_over = |ordeal: &Ordeal<'_>| {
            let run = if ordeal.missing().is_empty() { SUITE_RUN } else { 3 * SUITE_RUN };
            cycles.map_or_else(|| began_at.elapsed() >= run, |cycles| ordeal.cycle >= cycles)
        };
        while !is_over(&ordeal) {
            ordeal.go_on();
            if ordeal.cycle.is_multiple_of(10) {
                let (cycle, elapsed, answers) = (ordeal.cycle, began_at.elapsed().as_secs(), hall.answers());
                eprintln!("{cycle} cycles, {elapsed} s, {answers} answers, {} lost", hall.lost_answers());
            }
        }
        ordeal.calm();
        calm_at = Instant::now();
        let answers = hall.answers();
        hall.run_for_answers(300, PATIENCE);
        assert!(hall.answers() >= answers + 300, "nobody pays any more");
    });
    site.settled();
    let settled_s = calm_at.elapsed().as_secs_f64();
    site.verify();
    let lost = hall.lost_answers();
    let mut notes = hall.take_notes();
    let invoices = Books::read(&site).invoices;
    notes.retain(|note| !is_of_its_moment(note, || invoices[&note.invoice]["state"] == "INQUIRY"));
    let books = Books::read_all_with(&site, &notes, &ordeal.bank.payments());
    for place in &mut ordeal.places {
        ordeal.logs.push(place.gateway.take().expect("it runs").stop());
    }
    site.verify();
    for log in &ordeal.logs {
        for word in ["panicked", "can no longer be trusted", "contradicts a final state"] {
            assert_eq!(log.lines().find(|line| line.contains(word)), None);
        }
    }

    // A run that reached none of what it is about would be as green.
    let befallen = ordeal.befallen();
    let set_back: usize = ordeal.logs.iter().map(|log| set_back(log)).sum();
    let said = ["CONFIRM", "PENDING", "REFUND"].map(|word| times_said(&notes, word));
    let reached = [books.count("CONFIRM"), books.count("REFUND"), lost, said[0], said[1], said[2]];
    eprintln!(
        "{} cycles; all final {settled_s:.1} s after the faults; {} answers",
        ordeal.cycle,
        notes.len()
    );
    eprintln!("{:?}; starts that failed: {}", ordeal.played, ordeal.failed_starts);
    let lost_commits: usize = ordeal.logs.iter().map(|log| told(log, LOST_COMMIT).len()).sum();
    eprintln!("clocks seen to go back: {set_back}; commits whose answers were lost: {lost_commits}");
    for on in [On::Doors, On::Database, On::Lines] {
        let own = befallen.iter().filter(|((own, _), _)| *own == on);
        let own: Vec<String> = own.map(|((_, name), count)| format!("{name} {count}")).collect();
        eprintln!("{on:?}, chunks and connections befallen: {}", own.join(", "));
    }
    eprintln!("invoices CONFIRM, REFUND; lost answers; answers CONFIRM, PENDING, REFUND: {reached:?}");
    assert!(reached.iter().all(|count| *count >= 5), "the run reached too little: {reached:?}");
    assert!(set_back > 0, "no clock was seen to go back");
    let missing = ordeal.missing();
    assert!(missing.is_empty(), "never, or of no effect: {missing:?}");
}

/// "No line" is said before anything is reserved, and PENDING is the only true answer while nobody knows whether the
/// reservation was written: where it was not, nothing ever was.
fn is_of_its_moment(note: &Note, is_not_begun: impl Fn() -> bool) -> bool {
    match &note.said {
        Said::Refused { reason } => reason == UNREACHABLE,
        Said::State { word, .. } => word == "PENDING" && is_not_begun(),
        _ => false,
    }
}
