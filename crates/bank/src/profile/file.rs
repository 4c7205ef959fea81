//! Profiles as TOML, and everything that can be wrong with one: each error says in which line and what to do.

use super::{Dialog, LineProfile, Meaning, Operation, ReferenceRule, Template, Unanswered, Value};
use crate::{frame::Frame, refusals::may_be_told};
use domain::{ProductCode, Reason};
use iso8583::{Kind, Mti, Path, Spec, SpecFile};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
    time::Duration,
};
use toml::Spanned;

/// A profile that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ProfileError {
    /// The line in its text, from one.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    name: String,
    /// A shipped spec; or …
    dialect: Option<Spanned<String>>,
    /// … one of its own.
    spec: Option<Spanned<SpecFile>>,
    frame: Spanned<Frame>,
    times: Spanned<TimesFile>,
    unanswered: Spanned<UnansweredFile>,
    identity: Spanned<IdentityFile>,
    codes: CodesFile,
    #[serde(default)]
    product: BTreeMap<Spanned<String>, String>,
    message: BTreeMap<Spanned<String>, Spanned<MessageFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TimesFile {
    answer_timeout_ms: u64,
    horizon_ms: u64,
    echo_after_ms: u64,
    cut_over_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnansweredFile {
    ask: Unanswered,
    #[serde(default)]
    advice_executes: bool,
    definitive: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    institution: String,
    #[serde(rename = "match")]
    matched: Vec<u8>,
    reference: ReferenceRule,
    #[serde(default)]
    amount_decimals: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageFile {
    mti: String,
    fields: BTreeMap<Spanned<String>, String>,
    echo: Vec<u8>,
    #[serde(default)]
    answer: BTreeMap<Spanned<String>, String>,
}

/// Named one by one, since a table of any names would lose the lines in which they stand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CodesFile {
    shown_as: Option<Spanned<String>>,
    sign_on: Option<CodeTable>,
    sign_off: Option<CodeTable>,
    echo: Option<CodeTable>,
    cut_over: Option<CodeTable>,
    inquiry: Option<CodeTable>,
    payment: Option<CodeTable>,
    advice: Option<CodeTable>,
    status: Option<CodeTable>,
    reversal: Option<CodeTable>,
}

type CodeTable = Spanned<BTreeMap<Spanned<String>, MeaningFile>>;

impl CodesFile {
    const fn table(&self, operation: Operation) -> Option<&CodeTable> {
        match operation {
            Operation::SignOn => self.sign_on.as_ref(),
            Operation::SignOff => self.sign_off.as_ref(),
            Operation::Echo => self.echo.as_ref(),
            Operation::CutOver => self.cut_over.as_ref(),
            Operation::Inquiry => self.inquiry.as_ref(),
            Operation::Payment => self.payment.as_ref(),
            Operation::Advice => self.advice.as_ref(),
            Operation::Status => self.status.as_ref(),
            Operation::Reversal => self.reversal.as_ref(),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a meaning is a word such as \"done\", or { refused = \"reason\" }")]
enum MeaningFile {
    Word(String),
    Refused { refused: String },
}

/// What is wrong where, before the line is known.
struct Flaw {
    span: Range<usize>,
    message: String,
}

type Checked<T> = Result<T, Flaw>;

fn flaw<T>(span: Range<usize>, message: impl Into<String>) -> Checked<T> {
    Err(Flaw { span, message: message.into() })
}

impl LineProfile {
    /// Reads and checks a profile.
    pub fn from_toml(text: &str) -> Result<Self, ProfileError> {
        let read: Result<ProfileFile, _> = toml::from_str(text);
        let checked = read
            .map_err(|error| Flaw {
                span: error.span().unwrap_or_default(),
                message: error.message().replace('\n', " "),
            })
            .and_then(check);
        checked.map_err(|Flaw { span, message }| {
            let line = 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count();
            ProfileError { line, message }
        })
    }
}

fn check(file: ProfileFile) -> Checked<LineProfile> {
    let spec = spec(file.dialect, file.spec)?;
    if let Some(what) = file.frame.get_ref().flaw() {
        return flaw(file.frame.span(), format!("[frame]: {what}"));
    }
    let times_span = file.times.span();
    let times = file.times.into_inner();
    if times.answer_timeout_ms == 0 || times.horizon_ms < times.answer_timeout_ms {
        return flaw(
            times_span,
            "[times]: horizon_ms must not be below answer_timeout_ms, and neither may be 0: an answered payment was \
             carried out before",
        );
    }
    if times.echo_after_ms == 0 {
        return flaw(times_span, "[times]: echo_after_ms must be more than 0");
    }
    let cut_over_minute = match times.cut_over_at.as_deref().map(minute_of_day) {
        Some(None) => return flaw(times_span, "[times]: cut_over_at is a time of day such as \"22:30\""),
        Some(minute) => minute,
        None => None,
    };
    let mut products = BTreeMap::new();
    for (ours, theirs) in file.product {
        let Some(known) = ProductCode::parse(ours.get_ref()) else {
            return flaw(ours.span(), format!("[product]: {:?} is no product code", ours.get_ref()));
        };
        products.insert(known, theirs);
    }
    let mut dialogs = BTreeMap::new();
    let mut spans = BTreeMap::new();
    for (name, message) in &file.message {
        let Some(operation) = Operation::parse(name.get_ref()) else {
            let names: Vec<_> = Operation::ALL.map(Operation::name).into();
            return flaw(
                name.span(),
                format!("[message.{}]: there are the messages {}", name.get_ref(), names.join(", ")),
            );
        };
        let dialog = dialog(&spec, operation, message, &file.identity.get_ref().matched)?;
        dialogs.insert(operation, dialog);
        spans.insert(operation, message.span());
    }
    let ask = file.unanswered.get_ref().ask;
    for needed in
        [Operation::SignOn, Operation::Echo, Operation::Inquiry, Operation::Payment, ask.operation()]
    {
        if !dialogs.contains_key(&needed) {
            return flaw(
                file.unanswered.span(),
                format!("the messages lack {0}; add [message.{0}]", needed.name()),
            );
        }
    }
    if file.unanswered.get_ref().advice_executes && ask != Unanswered::Advice {
        return flaw(
            file.unanswered.span(),
            "[unanswered]: advice_executes is about ask = \"advice\"; take it away",
        );
    }
    let meanings = meanings(&file.codes, &dialogs, &spans)?;
    let identity_span = file.identity.span();
    let identity = file.identity.into_inner();
    if ![0, 2].contains(&identity.amount_decimals) {
        return flaw(identity_span, "[identity]: amount_decimals is 0 or 2");
    }
    if !identity.matched.contains(&11) {
        return flaw(identity_span, "[identity]: match must have the trace number, field 11");
    }
    let unanswered = file.unanswered.into_inner();
    let profile = LineProfile {
        name: file.name,
        spec: Arc::new(spec),
        frame: *file.frame.get_ref(),
        horizon: Duration::from_millis(times.horizon_ms),
        answer_timeout: Duration::from_millis(times.answer_timeout_ms),
        echo_after: Duration::from_millis(times.echo_after_ms),
        cut_over_minute,
        unanswered: unanswered.ask,
        advice_executes: unanswered.advice_executes,
        definitive: unanswered.definitive,
        reference: identity.reference,
        institution: identity.institution,
        amount_decimals: identity.amount_decimals,
        matched: identity.matched,
        shown_as: file.codes.shown_as.map(Spanned::into_inner),
        products,
        dialogs,
        meanings,
    };
    let samples = profile.samples();
    for (operation, span) in spans {
        profile
            .try_out(operation, &samples)
            .map_err(|what| Flaw { span, message: format!("[message.{}]: {what}", operation.name()) })?;
    }
    Ok(profile)
}

fn spec(dialect: Option<Spanned<String>>, spec: Option<Spanned<SpecFile>>) -> Checked<Spec> {
    match (dialect, spec) {
        (Some(name), None) => Spec::builtin(name.get_ref()).cloned().ok_or_else(|| {
            let names: Vec<_> = Spec::builtin_names().collect();
            let message = format!("there is no dialect {:?}; there are {}", name.get_ref(), names.join(", "));
            Flaw { span: name.span(), message }
        }),
        (None, Some(spec)) => {
            let span = spec.span();
            Spec::build(spec.into_inner()).map_err(|error| Flaw {
                span: error.span.unwrap_or(span),
                message: format!("[spec]: {}", error.message),
            })
        }
        _ => flaw(0..0, "give either dialect = \"…\", one that is shipped, or a [spec] of its own"),
    }
}

/// `22:30` in minutes.
fn minute_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

fn dialog(
    spec: &Spec,
    operation: Operation,
    message: &Spanned<MessageFile>,
    matched: &[u8],
) -> Checked<Dialog> {
    let table = format!("[message.{}]", operation.name());
    let file = message.get_ref();
    let Some(mti) = Mti::parse(&file.mti).filter(|mti| mti.is_request()) else {
        return flaw(message.span(), format!("{table}: mti {:?} is no request such as \"0200\"", file.mti));
    };
    let places = |places: &BTreeMap<Spanned<String>, String>| -> Checked<Vec<(Path, Template)>> {
        places.iter().map(|(path, text)| place(spec, &table, path, text)).collect()
    };
    let dialog =
        Dialog { mti, fields: places(&file.fields)?, echo: file.echo.clone(), answer: places(&file.answer)? };
    let has =
        |fields: &[(Path, Template)], value| fields.iter().any(|(_, known)| *known == Template::Value(value));
    let (asks, answers): (&[Value], &[Value]) = match operation {
        Operation::Inquiry => (
            &[Value::Nik, Value::Chassis],
            &[
                Value::PaymentCode,
                Value::OwnerName,
                Value::LicensePlate,
                Value::Brand,
                Value::Model,
                Value::YearBuilt,
                Value::Pkb,
                Value::Swdkllj,
            ],
        ),
        Operation::Payment | Operation::Advice => {
            (&[Value::Amount, Value::PaymentCode], &[Value::Amount, Value::BankReference])
        }
        Operation::Status => {
            (&[Value::PaymentCode, Value::OriginalTrace], &[Value::Amount, Value::BankReference])
        }
        Operation::Reversal => (&[Value::Amount, Value::PaymentCode], &[]),
        Operation::SignOn | Operation::SignOff | Operation::Echo | Operation::CutOver => (&[], &[]),
    };
    let session = [Value::Transmission, Value::Trace];
    let missing = session.iter().chain(asks).find(|value| !has(&dialog.fields, **value));
    if let Some(value) = missing {
        return flaw(
            message.span(),
            format!("{table}: no field has {{{0}}}; add one to fields", value.name()),
        );
    }
    if let Some(value) = [Value::Code].iter().chain(answers).find(|value| !has(&dialog.answer, **value)) {
        return flaw(
            message.span(),
            format!("{table}: no field has {{{0}}}; add one to answer", value.name()),
        );
    }
    let is_sent = |field: &u8| dialog.fields.iter().any(|(path, _)| path.field == *field);
    if let Some(field) = dialog.echo.iter().find(|field| !is_sent(field)) {
        return flaw(message.span(), format!("{table}: field {field} is in echo, and not in fields"));
    }
    let is_kept = |field: &&u8| is_sent(field) && dialog.echo.contains(field);
    if let Some(field) = matched.iter().find(|field| !is_kept(field)) {
        return flaw(
            message.span(),
            format!("{table}: field {field} is in [identity] match, and must be in fields and in echo"),
        );
    }
    let unechoed = dialog.fields.iter().find_map(|(path, template)| match template {
        Template::Value(value) if tells_which(operation, *value) && !dialog.echo.contains(&path.field) => {
            Some((path.field, value))
        }
        _ => None,
    });
    if let Some((field, value)) = unechoed {
        return flaw(
            message.span(),
            format!(
                "{table}: field {field} has {{{}}}, which an answer must repeat to be believed; add {field} to echo",
                value.name()
            ),
        );
    }
    Ok(dialog)
}

/// Whether a value tells which payment, or which vehicle's bill, a message is about.
fn tells_which(operation: Operation, value: Value) -> bool {
    let of_payment =
        matches!(value, Value::Transmission | Value::Trace | Value::Terminal | Value::PaymentCode);
    match operation {
        Operation::Payment | Operation::Advice | Operation::Reversal => of_payment,
        Operation::Status => of_payment || value == Value::OriginalTrace,
        _ => false,
    }
}

fn place(spec: &Spec, table: &str, path: &Spanned<String>, text: &str) -> Checked<(Path, Template)> {
    let wrong = |what: String| flaw(path.span(), format!("{table}: field {}: {what}", path.get_ref()));
    let Some(place) = Path::parse(path.get_ref()) else {
        return wrong("write a number from 2 to 128, or number.part".to_owned());
    };
    let Some(facts) = spec.facts(&place) else {
        return wrong(format!("the spec {} has no such place, or it has parts", spec.name()));
    };
    let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let template = match inner {
        Some(name) => {
            let Some(value) = Value::parse(name) else {
                let names: Vec<_> = Value::ALL.iter().map(|value| value.name()).collect();
                return wrong(format!("there is no value {{{name}}}; there are {}", names.join(", ")));
            };
            Template::Value(value)
        }
        None if text.contains(['{', '}']) => {
            return wrong("a placeholder is a whole value, such as \"{amount}\"".to_owned());
        }
        None => {
            let length = text.len();
            if length > facts.length_max || (facts.is_exact && length != facts.length_max) {
                return wrong(format!("{text:?} has {length} characters, the field {}", facts.length_max));
            }
            if facts.kind == Kind::Digits && !text.bytes().all(|byte| byte.is_ascii_digit()) {
                return wrong(format!("{text:?} must be digits"));
            }
            Template::Constant(text.to_owned())
        }
    };
    Ok((place, template))
}

type Meanings = BTreeMap<Operation, HashMap<String, Meaning>>;

fn meanings(
    codes: &CodesFile,
    dialogs: &BTreeMap<Operation, Dialog>,
    messages: &BTreeMap<Operation, Range<usize>>,
) -> Checked<Meanings> {
    if let Some(form) = codes.shown_as.as_ref().filter(|form| !form.get_ref().contains("{code}")) {
        return flaw(form.span(), "[codes]: shown_as must contain {code}, as in \"00{code}\"");
    }
    let mut meanings = Meanings::new();
    for operation in Operation::ALL {
        let Some(table) = codes.table(operation) else { continue };
        let mut known = HashMap::new();
        for (code, meaning) in table.get_ref() {
            let wrong = |what| flaw(code.span(), format!("[codes.{}]: {what}", operation.name()));
            let text = code.get_ref();
            if text.len() != 2 || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return wrong(format!("a code has two letters or digits, {text:?} has not"));
            }
            match meaning_of(operation, text, meaning) {
                Ok(meaning) => known.insert(text.clone(), meaning),
                Err(what) => return wrong(what),
            };
        }
        meanings.insert(operation, known);
    }
    for operation in dialogs.keys().filter(|operation| **operation != Operation::SignOff) {
        let name = operation.name();
        let (wanted, word) = match operation {
            Operation::Reversal => (Meaning::NotPaid, "not_paid"),
            _ => (Meaning::Done, "done"),
        };
        if !meanings.get(operation).is_some_and(|known| known.values().any(|meaning| *meaning == wanted)) {
            let table = codes.table(*operation).map(Spanned::span);
            return flaw(
                table.unwrap_or_else(|| messages[operation].clone()),
                format!("no code means {word:?} for {name}; add it to [codes.{name}]"),
            );
        }
    }
    Ok(meanings)
}

fn meaning_of(operation: Operation, code: &str, meaning: &MeaningFile) -> Result<Meaning, String> {
    let word = match meaning {
        MeaningFile::Refused { refused } => {
            let Some(reason) = Reason::from_code(refused) else {
                return Err(format!("code {code}: there is no reason {refused:?}; docs/errors.md has them"));
            };
            may_be_told(reason).map_err(|why| format!("code {code}: {refused:?} {why}"))?;
            return Ok(Meaning::Refused(reason));
        }
        MeaningFile::Word(word) => word.as_str(),
    };
    let of_question = match word {
        "not_paid" => Meaning::NotPaid,
        "paid_by_another" => Meaning::PaidByAnother,
        "payer_unknown" => Meaning::PayerUnknown,
        "under_way" => Meaning::UnderWay,
        "done" => return Ok(Meaning::Done),
        "unknown" => return Ok(Meaning::Unknown),
        _ => {
            return Err(format!(
                "code {code}: {word:?} is no meaning; write done, unknown, {{ refused = \"reason\" }}, and of questions \
                 not_paid, paid_by_another, payer_unknown, under_way"
            ));
        }
    };
    if operation.is_question() {
        Ok(of_question)
    } else {
        Err(format!(
            "code {code}: {word:?} is for questions about a payment; write done, unknown or {{ refused = \"…\" }}"
        ))
    }
}
