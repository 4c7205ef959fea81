//! The ledger: accounts and postings, double entry.
//!
//! The postings of one step sum to zero. Postings are never updated or deleted. A balance is the sum of
//! its account's postings, kept beside them and re-proved by `verify`.
//!
//! Liabilities and income are negative: a deposit of one million that the gateway owes a partner is a
//! balance of −1 000 000.

use crate::{
    money::Rupiah,
    partner::PartnerId,
    time::Timestamp,
    value::{Environment, UpstreamId},
};
use serde::Serialize;
use std::fmt;

/// What an account is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum AccountKind {
    /// What the gateway owes a partner.
    Deposit = 1,
    /// What a partner has committed to payments whose outcome is open.
    Reserved = 2,
    /// What an upstream is owed for confirmed payments.
    BankPayable = 3,
    /// The gateway's fees.
    FeeIncome = 4,
    /// What partners got back.
    CashbackExpense = 5,
    /// What an upstream provider charges (relay).
    UpstreamFeeExpense = 6,
    /// What an upstream provider gives back (relay).
    UpstreamCashbackIncome = 7,
    /// Where top-ups arrive.
    BankCash = 8,
    /// What contradictions cost.
    DisputeLoss = 9,
}

impl AccountKind {
    const ALL: [Self; 9] = [
        Self::Deposit,
        Self::Reserved,
        Self::BankPayable,
        Self::FeeIncome,
        Self::CashbackExpense,
        Self::UpstreamFeeExpense,
        Self::UpstreamCashbackIncome,
        Self::BankCash,
        Self::DisputeLoss,
    ];

    /// `bank_payable`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Reserved => "reserved",
            Self::BankPayable => "bank_payable",
            Self::FeeIncome => "fee_income",
            Self::CashbackExpense => "cashback_expense",
            Self::UpstreamFeeExpense => "upstream_fee_expense",
            Self::UpstreamCashbackIncome => "upstream_cashback_income",
            Self::BankCash => "bank_cash",
            Self::DisputeLoss => "dispute_loss",
        }
    }
}

/// Which writer's share of a house account. Each journal has its own, so that house accounts are never
/// the rows that everybody waits for; reports add the shares up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Slot(pub u16);

/// One account of the ledger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Account {
    /// What it is for. First, so that partners' accounts are locked before house accounts.
    pub kind: AccountKind,
    /// Live or sandbox.
    pub environment: Environment,
    /// The partner or the upstream; 0 where there is neither.
    pub owner: u32,
    /// The writer's share; 0 for partners' accounts.
    pub slot: Slot,
}

impl Account {
    /// A partner's deposit.
    pub const fn deposit(environment: Environment, partner: PartnerId) -> Self {
        Self { kind: AccountKind::Deposit, environment, owner: partner.0, slot: Slot(0) }
    }

    /// A partner's reserved money.
    pub const fn reserved(environment: Environment, partner: PartnerId) -> Self {
        Self { kind: AccountKind::Reserved, environment, owner: partner.0, slot: Slot(0) }
    }

    /// What an upstream is owed.
    pub const fn bank_payable(environment: Environment, upstream: UpstreamId, slot: Slot) -> Self {
        Self { kind: AccountKind::BankPayable, environment, owner: upstream.0, slot }
    }

    /// A house account that belongs to nobody else.
    pub const fn house(kind: AccountKind, environment: Environment, slot: Slot) -> Self {
        Self { kind, environment, owner: 0, slot }
    }

    /// The account as one number, for keys: kind, environment, owner and slot from the top down.
    pub fn code(self) -> i64 {
        let environment = match self.environment {
            Environment::Live => 0_i64,
            Environment::Sandbox => 1,
        };
        (i64::from(self.kind as u8) << 52)
            | (environment << 48)
            | (i64::from(self.owner) << 16)
            | i64::from(self.slot.0)
    }

    /// The reverse of [`Self::code`]; `None` if no account has that number.
    pub fn from_code(code: i64) -> Option<Self> {
        let kind = AccountKind::ALL.into_iter().find(|kind| i64::from(*kind as u8) == code >> 52)?;
        let environment = match (code >> 48) & 0xF {
            0 => Environment::Live,
            1 => Environment::Sandbox,
            _ => return None,
        };
        let owner = u32::try_from((code >> 16) & 0xFFFF_FFFF).ok()?;
        let slot = Slot(u16::try_from(code & 0xFFFF).ok()?);
        Some(Self { kind, environment, owner, slot })
    }
}

/// `sandbox/deposit/7`, `live/fee_income/0#2`.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.environment.name(), self.kind.name(), self.owner)?;
        if self.slot.0 > 0 {
            write!(f, "#{}", self.slot.0)?;
        }
        Ok(())
    }
}

/// Which step of its subject's life a group of postings books. At most one group per subject and step can
/// exist, for ever: the store's primary key holds that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Step {
    /// A reservation.
    Begin = 1,
    /// A confirmation or a refund: one or the other, never both.
    Settle = 2,
    /// An entry that belongs to no payment: a top-up, a correction.
    Manual = 3,
}

impl Step {
    /// From its number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Begin, Self::Settle, Self::Manual].into_iter().find(|step| *step as u8 == number)
    }
}

/// One line of the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Posting {
    /// The invoice number, or the number of a manual entry.
    pub subject: i64,
    /// Which step of the subject.
    pub step: Step,
    /// The account.
    pub account: Account,
    /// The amount added to the account's balance.
    pub amount: Rupiah,
    /// When it was booked.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_codes_read_back() {
        let accounts = [
            Account::deposit(Environment::Live, PartnerId(1)),
            Account::deposit(Environment::Sandbox, PartnerId(u32::MAX)),
            Account::bank_payable(Environment::Sandbox, UpstreamId(3), Slot(u16::MAX)),
            Account::house(AccountKind::DisputeLoss, Environment::Live, Slot(2)),
        ];
        for account in accounts {
            assert_eq!(Account::from_code(account.code()), Some(account), "{account}");
        }
        assert_eq!(Account::from_code(0), None);
        assert_eq!(Account::from_code(-1), None);
        assert_eq!(accounts[1].to_string(), "sandbox/deposit/4294967295");
        assert_eq!(accounts[3].to_string(), "live/dispute_loss/0#2");
    }
}
