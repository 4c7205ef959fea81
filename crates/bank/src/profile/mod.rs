//! A bank's dialect as data: which messages there are, where each value stands, what each code means, and what
//! may be believed of the line. One TOML file, read here and by nobody else, serves both ends: the gateway writes
//! requests and reads answers by it, the bank host reads requests and writes answers.
//!
//! A placeholder is always a whole value (`"{amount}"`), so that one table serves to write and to read. A code
//! that the profile does not know means *unknown*, never refused.

mod dialog;
mod file;
#[cfg(test)]
mod tests;
mod trial;
mod value;

pub use dialog::{Answer, MatchKey, Mismatch, Part, Unfit};
pub use file::ProfileError;
pub use value::{Malformed, Value, Values};

use crate::frame::Frame;
use domain::{ProductCode, Reason, Refusal, Terminal};
use iso8583::{Mti, Path, Spec};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

/// A dialect, checked.
#[derive(Clone, Debug)]
pub struct LineProfile {
    /// What people call it.
    pub name: String,
    /// What messages look like.
    pub spec: Arc<Spec>,
    /// Where they begin and end.
    pub frame: Frame,
    /// How long after it was sent a payment can still be carried out.
    pub horizon: Duration,
    /// How long an answer is waited for.
    pub answer_timeout: Duration,
    /// A line that was silent for so long is tested.
    pub echo_after: Duration,
    /// When the bank's business day ends, in minutes after midnight in Jakarta, where it says so by no message.
    pub cut_over_minute: Option<u16>,
    /// What is sent about a payment whose outcome is unknown.
    pub unanswered: Unanswered,
    /// Whether that may itself carry the payment out.
    pub advice_executes: bool,
    /// Whether the bank's "not paid" is definitive once the horizon has passed.
    pub definitive: bool,
    /// How the retrieval reference is made.
    pub reference: ReferenceRule,
    institution: String,
    amount_decimals: usize,
    matched: Vec<u8>,
    shown_as: Option<String>,
    products: BTreeMap<ProductCode, String>,
    dialogs: BTreeMap<Operation, Dialog>,
    meanings: BTreeMap<Operation, HashMap<String, Meaning>>,
}

/// What gateway and bank can have to say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Begin of a session.
    SignOn,
    /// End of a session.
    SignOff,
    /// Whether anybody is there.
    Echo,
    /// A new business day.
    CutOver,
    /// A bill.
    Inquiry,
    /// A payment, for the first time.
    Payment,
    /// What became of it: complete it, or tell.
    Advice,
    /// What became of it: only tell.
    Status,
    /// Undo it.
    Reversal,
}

impl Operation {
    pub(crate) const ALL: [Self; 9] = [
        Self::SignOn,
        Self::SignOff,
        Self::Echo,
        Self::CutOver,
        Self::Inquiry,
        Self::Payment,
        Self::Advice,
        Self::Status,
        Self::Reversal,
    ];

    /// As profiles write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SignOn => "sign_on",
            Self::SignOff => "sign_off",
            Self::Echo => "echo",
            Self::CutOver => "cut_over",
            Self::Inquiry => "inquiry",
            Self::Payment => "payment",
            Self::Advice => "advice",
            Self::Status => "status",
            Self::Reversal => "reversal",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == text)
    }

    /// Whether it is about the session, and not about a bill.
    pub const fn is_network(self) -> bool {
        matches!(self, Self::SignOn | Self::SignOff | Self::Echo | Self::CutOver)
    }

    /// Whether it asks about a payment.
    pub const fn is_question(self) -> bool {
        matches!(self, Self::Advice | Self::Status | Self::Reversal)
    }
}

/// What is sent about a payment whose outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unanswered {
    /// An advice, and its repeats.
    Advice,
    /// A status inquiry.
    Status,
    /// A reversal, and its repeats.
    Reversal,
}

impl Unanswered {
    /// The operation that asks.
    pub const fn operation(self) -> Operation {
        match self {
            Self::Advice => Operation::Advice,
            Self::Status => Operation::Status,
            Self::Reversal => Operation::Reversal,
        }
    }
}

/// How the retrieval reference number is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceRule {
    /// The gateway's invoice number, unique for ever.
    Invoice,
    /// Last digit of the year, day of the year, hour, trace number.
    Julian,
}

/// What a response code means in answer to one kind of message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It was done; to a question, that the payment was.
    Done,
    /// It was refused, and will not be done later either.
    Refused(Reason),
    /// To a question: the payment was not made, as far as the bank knows; to a reversal, that it is undone.
    NotPaid,
    /// To a question: somebody else paid.
    PaidByAnother,
    /// To a question: it is paid, and the bank cannot tell by whom.
    PayerUnknown,
    /// To a question: the bank is at it.
    UnderWay,
    /// As the table has it, nothing can be told from it.
    Unknown,
    /// The table does not have it.
    Unlisted,
}

impl Meaning {
    /// Whether anything can be told from it.
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown | Self::Unlisted)
    }
}

/// How a message of one operation is written and read.
#[derive(Clone, Debug)]
struct Dialog {
    mti: Mti,
    fields: Vec<(Path, Template)>,
    echo: Vec<u8>,
    answer: Vec<(Path, Template)>,
}

impl Dialog {
    fn places(&self) -> impl Iterator<Item = &(Path, Template)> {
        self.fields.iter().chain(&self.answer)
    }
}

/// What stands in a place: always the same, or a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Template {
    Constant(String),
    Value(Value),
}

const BUILTIN: [(&str, &str); 3] = [
    ("contoh-37-80", include_str!("../../profiles/contoh-37-80.toml")),
    ("contoh-38-18", include_str!("../../profiles/contoh-38-18.toml")),
    ("contoh-38-50", include_str!("../../profiles/contoh-38-50.toml")),
];

impl LineProfile {
    /// A profile that is shipped, by its name: an example to start from. `demo` is the first of them with times
    /// that one can watch.
    pub fn builtin(name: &str) -> Option<Self> {
        if name == "demo" {
            let example = Self::builtin(BUILTIN[0].0)?;
            let echo_after = example.echo_after;
            let watched = example.with_times(Duration::from_secs(2), Duration::from_secs(4), echo_after);
            return Some(Self { name: name.to_owned(), ..watched });
        }
        let (_, text) = BUILTIN.iter().find(|(known, _)| *known == name)?;
        Some(Self::from_toml(text).expect("the shipped profiles are tested"))
    }

    /// The same with other times, for those who cannot wait.
    #[must_use]
    pub fn with_times(self, answer_timeout: Duration, horizon: Duration, echo_after: Duration) -> Self {
        Self { horizon, answer_timeout, echo_after, ..self }
    }

    /// The names of the profiles that are shipped.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    /// The text of a profile that is shipped.
    pub fn builtin_text(name: &str) -> Option<&'static str> {
        BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// What a code means in answer to an operation.
    pub fn meaning(&self, operation: Operation, code: &str) -> Meaning {
        let meanings = self.meanings.get(&operation);
        meanings.and_then(|meanings| meanings.get(code)).cloned().unwrap_or(Meaning::Unlisted)
    }

    /// The first code that means this in answer to an operation, for the bank's side.
    pub fn code_for(&self, operation: Operation, meaning: &Meaning) -> Option<&str> {
        let meanings = self.meanings.get(&operation)?;
        meanings.iter().filter(|(_, known)| *known == meaning).map(|(code, _)| code.as_str()).min()
    }

    /// The codes that are known in answer to an operation, in order.
    pub fn codes(&self, operation: Operation) -> impl Iterator<Item = &str> {
        let mut codes: Vec<&str> =
            self.meanings.get(&operation).into_iter().flatten().map(|(code, _)| code.as_str()).collect();
        codes.sort_unstable();
        codes.into_iter()
    }

    /// The code that means that a session has to be begun first, for the bank's side: where an operation has none,
    /// that of inquiries, as long as it means nothing else there.
    pub fn sign_on_first_code(&self, operation: Operation) -> Option<&str> {
        let of = |operation| self.code_for(operation, &Meaning::Refused(Reason::BankUnreachable));
        let is_free = |code: &&str| !self.meaning(operation, code).is_known();
        of(operation).or_else(|| of(Operation::Inquiry).filter(is_free))
    }

    /// Whether answers are told apart by terminal as well, as a question that goes on another line than its payment needs.
    pub fn matches_terminal(&self) -> bool {
        let is_terminal = |(path, template): &(Path, Template)| {
            *template == Template::Value(Value::Terminal) && self.matched.contains(&path.field)
        };
        self.dialogs.get(&Operation::Payment).is_some_and(|dialog| dialog.fields.iter().any(is_terminal))
    }

    /// Whether a code says that a session has to be begun first.
    pub fn wants_sign_on(&self, operation: Operation, code: &str) -> bool {
        self.sign_on_first_code(operation) == Some(code)
    }

    /// A refusal with the bank's code as partners read it.
    pub fn refusal(&self, reason: Reason, code: &str) -> Refusal {
        let shown = match &self.shown_as {
            Some(form) => form.replace("{code}", code),
            None => code.to_owned(),
        };
        Refusal::with_code(reason, shown)
    }

    /// The bank's own form of a code that partners read.
    pub fn code_of_shown(&self, shown: &str) -> Option<String> {
        let Some(form) = &self.shown_as else { return Some(shown.to_owned()) };
        let (before, after) = form.split_once("{code}")?;
        shown.strip_prefix(before)?.strip_suffix(after).map(str::to_owned)
    }

    /// Whether the dialect has such messages.
    pub fn has(&self, operation: Operation) -> bool {
        self.dialogs.contains_key(&operation)
    }

    /// Whether the requests of an operation carry a value.
    pub(crate) fn carries(&self, operation: Operation, value: Value) -> bool {
        let fields = self.dialogs.get(&operation).map(|dialog| dialog.fields.as_slice());
        fields.unwrap_or_default().iter().any(|(_, template)| *template == Template::Value(value))
    }

    /// How long a value's text may be wherever it stands; `None` if it stands nowhere.
    pub(crate) fn room(&self, value: Value) -> Option<usize> {
        let places = self.dialogs.values().flat_map(Dialog::places);
        let of_value = places.filter(|(_, template)| *template == Template::Value(value));
        of_value.filter_map(|(path, _)| self.spec.facts(path)).map(|facts| facts.length_max).min()
    }

    /// Whether it knows the bank's name of a product.
    pub fn has_product(&self, product: &ProductCode) -> bool {
        self.products.is_empty() || self.products.contains_key(product)
    }

    /// What identifies a payment at the bank, in at most 64 characters: its transmission time, trace number,
    /// reference, terminal, and business day.
    pub fn identity(values: &Values) -> Option<String> {
        let of = |value| values.get(value);
        Some(format!(
            "{}-{}-{}-{}-{}",
            of(Value::Transmission)?,
            of(Value::Trace)?,
            of(Value::Reference)?,
            of(Value::Terminal)?,
            of(Value::SettlementDate)?
        ))
    }

    /// The reverse of [`Self::identity`].
    pub fn values_of_identity(identity: &str) -> Option<Values> {
        let parts: Vec<&str> = identity.split('-').collect();
        let [transmission, trace, reference, terminal, settlement] = parts[..] else { return None };
        Some(
            Values::new()
                .with(Value::Transmission, transmission)
                .with(Value::Trace, trace)
                .with(Value::Reference, reference)
                .with(Value::Terminal, terminal)
                .with(Value::SettlementDate, settlement),
        )
    }

    /// The trace number in an identity.
    pub fn trace_of_identity(identity: &str) -> Option<&str> {
        identity.split('-').nth(1)
    }

    /// The terminal in an identity.
    pub fn terminal_of_identity(identity: &str) -> Option<Terminal> {
        Terminal::parse(identity.split('-').nth(3)?)
    }
}
