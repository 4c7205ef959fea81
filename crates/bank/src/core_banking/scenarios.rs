//! The test numbers: one scenario for every outcome that a Samsat and a bank can have, at will.
//!
//! A test vehicle has the KTP number [`NIK`] and a chassis number of `UJI`, the scenario's three digits, and a
//! serial of 4 to 19 letters and digits of the tester's choice, so that there are fresh vehicles without end.
//! It belongs to whichever province it is asked for under. Each has its own bill, which stays paid once paid.
//!
//! Each scenario is one line of a table that says what happens and what an integrator reads about it; the
//! conversation (`simulator`, `host`) knows courses, not scenarios.

use super::{
    dice,
    rules::{months_after, rules},
    vehicles::{Assessment, Owner, PlateColour, Vehicle, VehicleKind},
};
use domain::{BusinessDate, ChassisNumber, PaymentCode, ProductCode, Reason, Rupiah, Secret};
use serde::Serialize;

/// The KTP number of all test vehicles' owner. No regency has the code 99.
pub const NIK: &str = "3299000000000001";

/// What a test number does, for people and for scripts.
#[derive(Clone, Debug, Serialize)]
pub struct TestNumber {
    /// Three digits.
    pub scenario: u16,
    /// Any of the four works; this is the one that is ON.
    pub product: &'static str,
    /// KTP number.
    pub customer_number: &'static str,
    /// The first chassis number of the scenario; other serials do as well.
    pub structure_number: String,
    /// What an inquiry brings.
    pub at_inquiry: Text,
    /// What a payment answers; none where there is no bill to pay.
    pub at_payment: Option<Text>,
    /// How it ends.
    pub finally: Finally,
}

/// One sentence in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Text {
    /// For partners.
    pub indonesian: &'static str,
    /// For developers.
    pub english: &'static str,
}

/// Where an invoice of a scenario ends, in the partner contract's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Finally {
    /// The inquiry failed.
    Failure,
    /// Paid.
    Confirm,
    /// Not paid, money returned.
    Refund,
    /// Open until operators decide.
    Pending,
}

/// All test numbers, by scenario.
pub fn test_numbers() -> Vec<TestNumber> {
    let test_number = |scenario: &Scenario| TestNumber {
        scenario: scenario.number,
        product: "SAMSAT_JABAR",
        customer_number: NIK,
        structure_number: format!("UJI{:03}0001", scenario.number),
        at_inquiry: scenario.at_inquiry,
        at_payment: scenario.at_payment,
        finally: scenario.finally,
    };
    SCENARIOS.iter().map(test_number).collect()
}

/// The scenario of a chassis number, if it is a test vehicle's.
pub(crate) fn of(chassis: &ChassisNumber) -> Option<&'static Scenario> {
    let rest = chassis.as_str().strip_prefix("UJI")?;
    let (number, serial) = rest.split_at_checked(3)?;
    if !(4..=19).contains(&serial.len()) || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u16 = number.parse().ok()?;
    SCENARIOS.iter().find(|scenario| scenario.number == number)
}

/// The scenario of a bill, if it is a test vehicle's.
pub(crate) fn of_payment_code(payment_code: &PaymentCode) -> Option<&'static Scenario> {
    let code = payment_code.as_str();
    let number = code.strip_prefix(CODE_PREFIX)?.get(..3)?;
    let number: u16 = number.parse().ok().filter(|_| code.len() == CODE_DIGITS)?;
    SCENARIOS.iter().find(|scenario| scenario.number == number)
}

/// How the payment codes of test vehicles begin; the scenario's three digits follow. No other vehicle's do.
const CODE_PREFIX: &str = "9";

/// Digits of a test vehicle's payment code.
const CODE_DIGITS: usize = 20;

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Scenario {
    number: u16,
    /// How the inquiry goes.
    pub(crate) inquiry: Inquiry,
    /// How the payment goes.
    pub(crate) payment: Payment,
    flaw: Flaw,
    at_inquiry: Text,
    at_payment: Option<Text>,
    finally: Finally,
}

/// How an inquiry goes on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inquiry {
    /// By the rules.
    Ordinary,
    /// By the rules, but only shortly before the answer is given up.
    Slow,
    /// The bank refuses whatever the rules say.
    Refused(Reason, Option<&'static str>),
    /// No connection.
    NeverSent,
    /// No answer.
    Silent,
    /// The connection breaks.
    Cut,
    /// An answer that cannot be read.
    Garbled,
    /// An answer with a code that nobody knows.
    UnknownCode,
}

/// How a payment goes, in its four independent parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payment {
    /// When the bank gets it.
    pub(crate) arrival: Arrival,
    /// What the bank does with it.
    pub(crate) at_bank: AtBank,
    /// What comes back.
    pub(crate) answer: Answer,
    /// What a status question brings.
    pub(crate) status: Status,
}

/// When the bank gets a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Never, and the sender knows: no connection.
    NeverSent,
    /// At once.
    Promptly,
    /// Shortly before the horizon.
    NearHorizon,
}

/// What the bank does with a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtBank {
    /// Carries it out, if its rules allow.
    Executes,
    /// Refuses it.
    Refuses(Reason, Option<&'static str>),
    /// Loses it.
    Loses,
}

/// What comes back from a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The truth, at once.
    Prompt,
    /// The truth, shortly before it is given up.
    Slow,
    /// The truth, after it was given up.
    Late,
    /// The truth, and the same again later.
    Twice,
    /// Nothing.
    Never,
    /// The connection breaks.
    Cut,
    /// What cannot be read.
    Garbled,
    /// A code that nobody knows.
    UnknownCode,
    /// The truth about another amount.
    WrongAmount,
    /// The truth under another identity.
    WrongIdentity,
}

/// What a status question brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The truth.
    Truth,
    /// That the bank is at it, as long as it may be; then the truth.
    UnderWayThenTruth,
    /// That somebody else paid.
    PaidByAnother,
    /// That somebody paid.
    PayerUnknown,
    /// Nothing, ever.
    Silent,
}

/// What is wrong with a test vehicle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    Late,
    Blocked,
    FiveYearly,
    TooEarly,
    TooLate,
    Company,
    Yellow,
}

/// A payment without incident.
pub(crate) const ORDINARY: Payment = Payment {
    arrival: Arrival::Promptly,
    at_bank: AtBank::Executes,
    answer: Answer::Prompt,
    status: Status::Truth,
};

impl Scenario {
    /// The test vehicle of a chassis number.
    pub(crate) fn vehicle(
        &self,
        product: &ProductCode,
        chassis: &ChassisNumber,
        today: BusinessDate,
    ) -> Vehicle {
        let plates = rules().province(product.as_str()).map(|province| &province.plates[0]);
        let (letters, region) =
            plates.map_or(("B", "KOTA UJI"), |plate| (plate.letters.as_str(), plate.region.as_str()));
        let months_to_due = match self.flaw {
            Flaw::Late => -4,
            Flaw::TooEarly => 8,
            Flaw::TooLate => -60,
            _ => 1,
        };
        let code = dice::hash(0, chassis.as_str()) % 10_000_000_000_000_000;
        Vehicle {
            product: product.clone(),
            payment_code: PaymentCode::parse(&format!("{CODE_PREFIX}{:03}{code:016}", self.number))
                .expect("twenty digits are a payment code"),
            owner_name: Secret::new(format!("PEMILIK UJI {:03}", self.number)),
            owner_address: Secret::new(format!("JL UJI COBA NO {} {region}", self.number)),
            license_plate: format!("{letters} 2{:03} UJI", self.number),
            brand: "HONDA",
            model: "BEAT CBS",
            color: "HITAM",
            year_built: 2020,
            due: BusinessDate::new(months_after(today.date(), months_to_due)),
            owner: if self.flaw == Flaw::Company { Owner::Company } else { Owner::Person },
            plate_colour: if self.flaw == Flaw::Yellow { PlateColour::Yellow } else { PlateColour::White },
            five_yearly: self.flaw == Flaw::FiveYearly,
            blocked: self.flaw == Flaw::Blocked,
            assessment: Assessment::ByRules { kind: VehicleKind::Motorcycle, njkb: Rupiah::new(10_000_000) },
        }
    }
}

const BILL: Text = text("tagihan tampil", "a bill");

const fn text(indonesian: &'static str, english: &'static str) -> Text {
    Text { indonesian, english }
}

/// A vehicle without a bill, because of what is wrong with it.
const fn flawed(number: u16, flaw: Flaw, at_inquiry: Text) -> Scenario {
    Scenario { flaw, ..refused(number, Inquiry::Ordinary, at_inquiry) }
}

/// A vehicle without a bill, because of how the inquiry goes.
const fn refused(number: u16, inquiry: Inquiry, at_inquiry: Text) -> Scenario {
    Scenario {
        number,
        inquiry,
        payment: ORDINARY,
        flaw: Flaw::None,
        at_inquiry,
        at_payment: None,
        finally: Finally::Failure,
    }
}

/// A vehicle with a bill.
const fn payable(number: u16, payment: Payment, finally: Finally, at_payment: Text) -> Scenario {
    Scenario {
        number,
        inquiry: Inquiry::Ordinary,
        payment,
        flaw: Flaw::None,
        at_inquiry: BILL,
        at_payment: Some(at_payment),
        finally,
    }
}

const fn executed(answer: Answer) -> Payment {
    Payment { answer, ..ORDINARY }
}

const fn lost(answer: Answer, status: Status) -> Payment {
    Payment { at_bank: AtBank::Loses, answer, status, ..ORDINARY }
}

const fn refusing(reason: Reason, code: Option<&'static str>, answer: Answer) -> Payment {
    Payment { at_bank: AtBank::Refuses(reason, code), answer, ..ORDINARY }
}

const PAID: Text = text("lunas", "paid");

static SCENARIOS: &[Scenario] = &[
    // 1xx: what the Samsat knows.
    payable(100, ORDINARY, Finally::Confirm, PAID),
    Scenario {
        flaw: Flaw::Late,
        at_inquiry: text("tagihan tampil dengan denda", "a bill with late fines"),
        ..payable(101, ORDINARY, Finally::Confirm, PAID)
    },
    refused(
        110,
        Inquiry::Refused(Reason::VehicleNotFound, None),
        text("data kendaraan tidak ketemu", "vehicle not found"),
    ),
    refused(
        111,
        Inquiry::Refused(Reason::NikMismatch, None),
        text("nomor KTP tidak sesuai dengan pemilik", "the KTP number is not the owner's"),
    ),
    flawed(112, Flaw::Blocked, text("kendaraan diblokir", "vehicle blocked")),
    flawed(113, Flaw::FiveYearly, text("masa daftar ulang 5 tahunan", "five-yearly renewal due")),
    flawed(
        114,
        Flaw::TooEarly,
        text("jatuh tempo masih 6 bulan atau lebih", "six months or more to the due date"),
    ),
    flawed(115, Flaw::TooLate, text("tunggakan melewati batas online", "too late to be paid online")),
    flawed(116, Flaw::Company, text("milik badan usaha", "owned by a company")),
    flawed(117, Flaw::Yellow, text("warna pelat tidak dilayani", "plate colour not served")),
    refused(
        118,
        Inquiry::Refused(Reason::OtherProvince, None),
        text("terdaftar di provinsi lain", "registered in another province"),
    ),
    refused(
        119,
        Inquiry::Refused(Reason::BillAlreadyPaid, Some("0054")),
        text("tagihan sudah dibayar (Kode: 0054)", "bill already paid, code 0054"),
    ),
    refused(
        120,
        Inquiry::Refused(Reason::CutOff, Some("0081")),
        text("layanan tutup harian (Kode: 0081)", "outside the daily hours, code 0081"),
    ),
    // 2xx: how the line treats the inquiry.
    refused(201, Inquiry::Silent, text("bank tidak menjawab", "the bank is silent")),
    Scenario {
        inquiry: Inquiry::Slow,
        at_inquiry: text("tagihan tampil, lambat", "a bill, slowly"),
        ..payable(202, ORDINARY, Finally::Confirm, PAID)
    },
    refused(
        203,
        Inquiry::Refused(Reason::BankRefused, Some("0089")),
        text("bank menolak (Kode: 0089)", "the bank refuses, code 0089"),
    ),
    refused(204, Inquiry::Cut, text("koneksi ke bank terputus", "the connection breaks")),
    refused(205, Inquiry::Garbled, text("jawaban bank tidak terbaca", "the answer cannot be read")),
    refused(206, Inquiry::UnknownCode, text("kode jawaban bank tidak dikenal", "an unknown response code")),
    refused(
        207,
        Inquiry::NeverSent,
        text("bank tidak dapat dihubungi (tanpa invoice)", "the bank cannot be reached (no invoice)"),
    ),
    // 3xx: payments whose answer is definitive.
    payable(
        301,
        refusing(Reason::BankRefused, Some("0089"), Answer::Prompt),
        Finally::Refund,
        text("ditolak bank (Kode: 0089)", "refused by the bank, code 0089"),
    ),
    payable(
        302,
        refusing(Reason::BillAlreadyPaid, Some("0054"), Answer::Prompt),
        Finally::Refund,
        text("tagihan sudah dibayar (Kode: 0054)", "bill already paid, code 0054"),
    ),
    payable(
        303,
        Payment { arrival: Arrival::NeverSent, ..ORDINARY },
        Finally::Refund,
        text("bank tidak dapat dihubungi", "the bank cannot be reached; nothing was sent"),
    ),
    payable(304, executed(Answer::Slow), Finally::Confirm, text("lunas, lambat", "paid, slowly but in time")),
    payable(
        305,
        executed(Answer::Twice),
        Finally::Confirm,
        text("lunas, jawaban datang dua kali", "paid; the answer comes a second time"),
    ),
    // 4xx: payments whose outcome is open at first.
    payable(
        401,
        executed(Answer::Never),
        Finally::Confirm,
        text("bank diam, ternyata lunas", "the bank is silent but took it"),
    ),
    payable(
        402,
        lost(Answer::Never, Status::Truth),
        Finally::Refund,
        text("bank diam, ternyata tidak terbayar", "the bank is silent and did not take it"),
    ),
    payable(
        403,
        executed(Answer::Late),
        Finally::Confirm,
        text("jawaban terlambat: lunas", "the answer comes late: paid"),
    ),
    payable(
        404,
        refusing(Reason::BankRefused, Some("0089"), Answer::Late),
        Finally::Refund,
        text("jawaban terlambat: ditolak (Kode: 0089)", "the answer comes late: refused, code 0089"),
    ),
    payable(
        405,
        executed(Answer::Cut),
        Finally::Confirm,
        text("koneksi terputus, ternyata lunas", "the connection breaks; the bank took it"),
    ),
    payable(
        406,
        lost(Answer::Cut, Status::Truth),
        Finally::Refund,
        text("koneksi terputus, ternyata tidak terbayar", "the connection breaks; the bank did not take it"),
    ),
    payable(
        407,
        executed(Answer::Garbled),
        Finally::Confirm,
        text("jawaban tidak terbaca, ternyata lunas", "the answer cannot be read; the bank took it"),
    ),
    payable(
        408,
        lost(Answer::UnknownCode, Status::Truth),
        Finally::Refund,
        text(
            "kode tidak dikenal, ternyata tidak terbayar",
            "an unknown response code; the bank did not take it",
        ),
    ),
    payable(
        409,
        executed(Answer::WrongAmount),
        Finally::Confirm,
        text(
            "jawaban dengan jumlah lain, ternyata lunas",
            "the answer has another amount; the bank took the right one",
        ),
    ),
    payable(
        410,
        executed(Answer::WrongIdentity),
        Finally::Confirm,
        text(
            "jawaban untuk transaksi lain, ternyata lunas",
            "the answer is another payment's; the bank took it",
        ),
    ),
    payable(
        411,
        lost(Answer::Never, Status::PaidByAnother),
        Finally::Refund,
        text("bank diam, ternyata dibayar pihak lain", "the bank is silent; somebody else paid"),
    ),
    payable(
        412,
        lost(Answer::Never, Status::PayerUnknown),
        Finally::Pending,
        text("bank diam, pembayar tidak diketahui", "the bank is silent; who paid cannot be told"),
    ),
    payable(
        413,
        lost(Answer::Never, Status::Silent),
        Finally::Pending,
        text("bank diam, status tidak pernah dijawab", "the bank is silent, to status questions as well"),
    ),
    payable(
        414,
        Payment { arrival: Arrival::NearHorizon, ..executed(Answer::Never) },
        Finally::Confirm,
        text(
            "sampai di bank sangat terlambat, lalu lunas",
            "reaches the bank very late, after status questions found nothing; paid",
        ),
    ),
    payable(
        415,
        Payment {
            status: Status::UnderWayThenTruth,
            arrival: Arrival::NearHorizon,
            ..executed(Answer::Never)
        },
        Finally::Confirm,
        text("lama diproses di bank, lalu lunas", "long under way at the bank, then paid"),
    ),
];
