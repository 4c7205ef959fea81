//! Every bound of the engine, in one place. Units are in the names.
#![expect(non_upper_case_globals, reason = "bounds are named like the quantities that they bound")]

use std::time::Duration;

/// Commands decided and written in one transaction.
pub const batch_commands_max: usize = 512;

/// Attempts to learn whether a batch was committed come at least this far apart, at first.
pub const ambiguous_ask_interval: Duration = Duration::from_millis(100);

/// A store that refused a batch and then answers within this time is not away.
pub const store_answer_max: Duration = Duration::from_secs(1);

/// A store that is away is asked this often whether it is back, at first and at most.
pub const store_away_pause: Duration = Duration::from_millis(100);
/// See [`store_away_pause`].
pub const store_away_pause_max: Duration = Duration::from_secs(1);

/// Shares of the house accounts: as many lanes, of all gateways together, write without waiting for each other.
pub const slots_max: u16 = 256;

/// Invoice numbers reserved at a time.
pub const invoice_block: u32 = 1_000;

/// How long after a change cached partners and products may be what they were before.
pub const catalogue_age_max: Duration = Duration::from_secs(1);

/// How long cached partners and products are kept though nothing was changed.
pub const catalogue_kept_max: Duration = Duration::from_mins(1);

/// Cached partners.
pub const catalogue_partners_max: usize = 20_000;

/// How long a verified password is remembered.
pub const password_memory_max: Duration = Duration::from_mins(5);

/// Verified passwords remembered.
pub const passwords_remembered_max: usize = 20_000;

/// Passwords hashed at the same time.
pub const password_checks_parallel_max: usize = 2;

/// Callers waiting for a password to be hashed.
pub const password_checks_waiting_max: usize = 64;

/// How long a caller waits for its password to be hashed.
pub const password_check_wait_max: Duration = Duration::from_secs(10);

/// Password checks that one network may cause in a burst.
pub const password_checks_burst_max: u32 = 20;

/// Recently inquired invoices kept in memory, twice.
pub const recent_invoices_max: usize = 4_096;

/// A caller who waits for another process's outcome looks into the store this often, at first and at most.
pub const settlement_poll_pause: Duration = Duration::from_millis(50);
/// See [`settlement_poll_pause`].
pub const settlement_poll_pause_max: Duration = Duration::from_secs(1);

/// Callers waiting for the outcomes of payments; who finds no place is answered at once.
pub const waiting_pays_max: usize = 6_000;

/// How long callers are still kept waiting once the gateway has begun to stop.
pub const stopping_wait_max: Duration = Duration::from_secs(5);

/// How long the last batches may take when the gateway stops.
pub const last_write_max: Duration = Duration::from_secs(10);

/// How long a read that somebody waits for may take.
pub const read_max: Duration = Duration::from_secs(10);

/// How long an answer about readiness serves all who ask.
pub const readiness_age_max: Duration = Duration::from_secs(1);

/// How long the store may take, once the time for an answer is up, to say what the answer is.
pub const last_look_max: Duration = Duration::from_secs(2);

/// A store that cannot say what a late answer is for is asked this often.
pub const late_answer_pause: Duration = Duration::from_secs(1);

/// A gateway without any line to a bank for so long leaves its orphaned payments to others.
pub const lineless_max: Duration = Duration::from_secs(30);

/// Status questions under way at the same time.
pub const status_questions_parallel_max: usize = 32;

/// Questions about one payment that may carry it out, before each waits for the horizon of the one before.
pub const quick_executing_questions: u32 = 3;

/// How long an upstream may take to sign off.
pub const sign_off_max: Duration = Duration::from_secs(3);

/// How often the resolver looks for open payments that it does not know of.
pub const pending_scan_interval: Duration = Duration::from_secs(5);

/// Open payments read at a time.
pub const pending_page: u32 = 1_000;

/// The longest pause between two status questions about one payment.
pub const status_question_pause_max: Duration = Duration::from_mins(5);

/// The longest pause between two tries to book an outcome that is known.
pub const known_outcome_pause_max: Duration = Duration::from_secs(5);

/// A payment that is open for so much longer than its own gateway can wait for an answer is an orphan.
pub const orphan_age_margin: Duration = Duration::from_secs(2);

/// How long the ids of committed batches are kept.
pub const batch_ids_kept: Duration = Duration::from_hours(24);

/// How often older ones are forgotten.
pub const prune_interval: Duration = Duration::from_hours(1);
