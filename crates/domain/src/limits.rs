//! Every bound of the domain, in one place. Units are in the names.
#![expect(non_upper_case_globals, reason = "bounds are named like the quantities that they bound")]

use std::time::Duration;

/// The largest single amount accepted anywhere: one hundred trillion Rupiah.
pub const amount_rupiah_max: i64 = 100_000_000_000_000;

/// Characters of a partner's user name.
pub const username_chars_max: usize = 64;

/// Characters of a partner's password.
pub const password_chars_max: usize = 128;

/// Characters of a free text that an operator writes (reference, reason, name).
pub const operator_text_chars_max: usize = 200;

/// For so long after it was proposed how a payment ends, no question is sent that could make that untrue.
pub const proposal_holds_back: Duration = Duration::from_hours(24);

/// The clocks of operators and gateways differ by less.
pub const clocks_apart_max: Duration = Duration::from_mins(5);

/// Digits of a payment code.
pub const payment_code_digits_max: usize = 20;

/// Characters of a bank's payment reference.
pub const reference_number_chars_max: usize = 40;

/// Invoice numbers that one block may reserve.
pub const invoice_block_max: u32 = 100_000;

/// Trace numbers that one block may reserve.
pub const trace_block_max: u32 = 100_000;

/// The first invoice number: new ones have twelve digits, and everything below names ledger entries
/// that do not belong to an invoice.
pub const invoice_number_first: i64 = 100_000_000_000;

/// The last invoice number of twelve digits.
pub const invoice_number_last: i64 = 999_999_999_999;
