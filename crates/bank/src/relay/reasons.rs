//! A provider's reasons, in our words.
//!
//! Our own catalogue's sentences are recognised, since a provider may well run this gateway. What is about the
//! bill goes on to partners. What is about our account there, or the provider itself, does not: operators are told,
//! and partners that the bank cannot be reached.

use crate::refusals::{is_of_bill, may_be_told};
use domain::{Reason, Refusal};
use std::collections::{BTreeMap, HashMap};

/// Characters of a reason that operators are shown.
const SHOWN_CHARS_MAX: usize = 100;

/// Digits in a word from which on it may be somebody's number.
const PERSONAL_DIGITS: usize = 5;

/// Before a bank's code in the table of refusals.
const CODE_PREFIX: &str = "kode:";

/// Whose affair a reason is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concern {
    /// The bill, the vehicle, its owner, the Samsat.
    Bill,
    /// The provider or its bank, at this moment.
    Provider,
    /// Our account there: nothing that a partner could do anything about.
    Account,
}

const fn concern(reason: Reason) -> Concern {
    match reason {
        _ if is_of_bill(reason) => Concern::Bill,
        Reason::BankUnreachable
        | Reason::BankSilent
        | Reason::PaymentNotExecuted
        | Reason::Busy
        | Reason::Unavailable
        | Reason::Internal => Concern::Provider,
        _ => Concern::Account,
    }
}

/// A reason in two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said<'a> {
    sentence: &'a str,
    code: Option<&'a str>,
}

impl<'a> Said<'a> {
    /// `… (Kode: 0054)`.
    pub(super) fn parse(reason: &'a str) -> Self {
        let reason = reason.trim();
        let parted = reason.strip_suffix(')').and_then(|rest| rest.rsplit_once("(Kode:"));
        match parted.map(|(sentence, code)| (sentence.trim_end(), code.trim())) {
            Some((sentence, code)) if is_code(code) => Self { sentence, code: Some(code) },
            _ => Self { sentence: reason, code: None },
        }
    }

    fn refusal(&self, reason: Reason) -> Refusal {
        match self.code {
            Some(code) => Refusal::with_code(reason, code.to_owned()),
            None => Refusal::new(reason),
        }
    }

    /// Our reason for a refused inquiry; and whether operators must look.
    pub(super) fn of_inquiry(&self) -> (Refusal, bool) {
        let known =
            Reason::ALL.iter().copied().find(|known| normal(known.sentence()) == normal(self.sentence));
        match known.map(|reason| (reason, concern(reason))) {
            Some((reason, Concern::Bill)) => (self.refusal(reason), false),
            Some((Reason::BankSilent, _)) => (self.refusal(Reason::BankSilent), false),
            Some((_, Concern::Provider)) => (Reason::BankUnreachable.into(), false),
            Some((_, Concern::Account)) => (Reason::BankUnreachable.into(), true),
            None if self.is_about_balance() => (Reason::BankUnreachable.into(), true),
            None => (self.refusal(Reason::BankRefused), false),
        }
    }

    /// Whether it speaks of a balance, which can only be ours.
    pub(super) fn is_about_balance(&self) -> bool {
        let words = self.sentence.to_lowercase();
        ["saldo", "deposit", "balance"].iter().any(|word| words.contains(word))
            && ["tidak", "kurang", "habis", "insufficient", "not enough", "short"]
                .iter()
                .any(|word| words.contains(word))
    }

    /// For operators: short, and without what may be somebody's number.
    pub(super) fn shown(&self) -> String {
        let masked = self.sentence.split_whitespace().map(|word| {
            let digits = word.chars().filter(char::is_ascii_digit).count();
            if digits >= PERSONAL_DIGITS { "…".to_owned() } else { word.replace(char::is_control, "") }
        });
        let shown: String = masked.collect::<Vec<_>>().join(" ").chars().take(SHOWN_CHARS_MAX).collect();
        match self.code {
            Some(code) => format!("{shown} (Kode: {code})"),
            None => shown,
        }
    }
}

fn is_code(code: &str) -> bool {
    (1..=8).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Case, spaces and the full stop make no other sentence.
fn normal(sentence: &str) -> String {
    let words: Vec<_> = sentence.split_whitespace().collect();
    words.join(" ").trim_end_matches('.').to_lowercase()
}

/// Which of a provider's refusals of a payment are certain.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    by_code: HashMap<String, Reason>,
    by_sentence: HashMap<String, Reason>,
}

impl Refusals {
    /// Reads the configured table; the error says what is wrong with it.
    pub(super) fn parse(table: &BTreeMap<String, Reason>) -> Result<Self, String> {
        let mut refusals = Self::default();
        for (key, reason) in table {
            may_be_told(*reason).map_err(|why| format!("refusals: {key:?} = {:?} {why}", reason.code()))?;
            let known = match key.strip_prefix(CODE_PREFIX).map(str::trim) {
                Some(code) if is_code(code) => refusals.by_code.insert(code.to_owned(), *reason),
                Some(_) => return Err(format!("refusals: {key:?} names no code such as \"kode:0054\"")),
                None if Said::parse(key).code.is_some() => {
                    return Err(format!("refusals: {key:?} is a reason with its code; leave the code out"));
                }
                None if normal(key).is_empty() => return Err("refusals: a reason is empty".to_owned()),
                None => refusals.by_sentence.insert(normal(key), *reason),
            };
            if known.is_some() {
                return Err(format!("refusals: {key:?} stands there twice"));
            }
        }
        Ok(refusals)
    }

    /// Our reason, if the refusal is certain.
    pub(super) fn find(&self, said: &Said<'_>) -> Option<Refusal> {
        let by_code = said.code.and_then(|code| self.by_code.get(code));
        by_code.or_else(|| self.by_sentence.get(&normal(said.sentence))).map(|reason| said.refusal(*reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_and_its_code() {
        for (reason, sentence, code) in [
            ("Tagihan sudah dibayar (Kode: 0054)", "Tagihan sudah dibayar", Some("0054")),
            ("Tagihan sudah dibayar (Kode:0054)", "Tagihan sudah dibayar", Some("0054")),
            ("Tagihan sudah dibayar", "Tagihan sudah dibayar", None),
            ("Ditolak (Kode: <b>1)", "Ditolak (Kode: <b>1)", None),
            ("Ditolak (Kode: )", "Ditolak (Kode: )", None),
            ("(Kode: 68)", "", Some("68")),
            ("", "", None),
        ] {
            assert_eq!(Said::parse(reason), Said { sentence, code }, "{reason}");
        }
    }

    #[test]
    fn what_partners_are_told_of_a_refused_inquiry() {
        let told = |reason: &str| {
            let (refusal, is_for_operators) = Said::parse(reason).of_inquiry();
            (refusal.sentence(), is_for_operators)
        };
        for reason in Reason::ALL {
            let (sentence, is_for_operators) =
                told(&Refusal::with_code(*reason, "0076".to_owned()).sentence());
            let expected = match concern(*reason) {
                Concern::Bill => (Refusal::with_code(*reason, "0076".to_owned()).sentence(), false),
                Concern::Provider if *reason == Reason::BankSilent => {
                    (Refusal::with_code(*reason, "0076".to_owned()).sentence(), false)
                }
                Concern::Provider => (Reason::BankUnreachable.sentence().to_owned(), false),
                Concern::Account => (Reason::BankUnreachable.sentence().to_owned(), true),
            };
            assert_eq!((sentence, is_for_operators), expected, "{reason:?}");
        }
        assert_eq!(
            told(
                "Maaf, Datamu Tidak Ketemu.  Silakan periksa kembali nomor rangka\ndan nomor KTP yang telah dimasukkan"
            ),
            (Reason::VehicleNotFound.sentence().to_owned(), false)
        );
        assert_eq!(
            told("Nomor mesin belum ada (Kode: 0076)").0,
            Refusal::with_code(Reason::BankRefused, "0076".to_owned()).sentence()
        );
        for short in ["Saldo tidak cukup", "Maaf, saldo Anda kurang (Kode: 51)", "DEPOSIT HABIS"] {
            assert_eq!(told(short), (Reason::BankUnreachable.sentence().to_owned(), true), "{short}");
        }
    }

    #[test]
    fn nothing_personal_is_shown() {
        let shown = |reason: &str| Said::parse(reason).shown();
        assert_eq!(
            shown("NIK 3201111111111111 atau rangka MH328D204AK4010000, telp 0812-3456-7890 (Kode: 0054)"),
            "NIK … atau rangka … telp … (Kode: 0054)"
        );
        assert_eq!(shown("baris\u{7}satu\nbaris dua"), "barissatu baris dua");
        assert_eq!(shown(&"kata ".repeat(60)).chars().count(), SHOWN_CHARS_MAX);
    }

    #[test]
    fn the_table_of_refusals() {
        let parse = |pairs: &[(&str, Reason)]| {
            Refusals::parse(&pairs.iter().map(|(key, reason)| ((*key).to_owned(), *reason)).collect())
        };
        let refusals =
            parse(&[("kode:0054", Reason::BillAlreadyPaid), ("Saldo tidak cukup.", Reason::BankUnreachable)])
                .unwrap();
        let find = |reason: &str| refusals.find(&Said::parse(reason));
        assert_eq!(find("Apa pun (Kode: 0054)"), Some(Refusal::already_paid()));
        assert_eq!(find("SALDO  tidak cukup"), Some(Reason::BankUnreachable.into()));
        assert_eq!(find("Saldo tidak cukup sekali"), None);
        assert_eq!(find("Apa pun (Kode: 0055)"), None);
        assert_eq!(find(""), None);
        for (pairs, expected) in [
            (vec![("kode:0051", Reason::BalanceShort)], "is nothing to tell a partner"),
            (vec![("kode:", Reason::BankRefused)], "names no code"),
            (vec![(" . ", Reason::BankRefused)], "is empty"),
            (vec![("Ditolak (Kode: 12)", Reason::BankRefused)], "leave the code out"),
            (vec![("Ditolak", Reason::BankRefused), ("ditolak.", Reason::CutOff)], "twice"),
        ] {
            let error = parse(&pairs).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
