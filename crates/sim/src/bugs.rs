//! Deliberate bugs: what a connector, a store or a bank gets wrong in life, put in to show that the auditor notices.

/// One deliberate bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// The connector reports a time-out as the bank's refusal.
    TimeoutIsRefusal,
    /// The connector reports "not found" as a refusal for good, horizon or not.
    NotFoundIsRefusal,
    /// The connector sends a payment again when no answer comes.
    SendsTwice,
    /// The connector does not look at the clocks before it writes.
    SendsLate,
    /// The connector asks for the total, the gateway's fee included.
    WrongAmount,
    /// The connector applies a late answer to another open payment.
    AnswerForAnother,
    /// The bank answers status questions from a replica that lags behind its own horizon.
    StatusLags,
    /// The store says that a commit failed whose answer was lost.
    CommitAssumedFailed,
    /// The store says that a commit was written whose answer was lost.
    CommitAssumedWritten,
    /// The store answers before anything is durable.
    FsyncLies,
    /// The auditor does not see the debit of some reservations, as if the store had lost them.
    DebitMissing,
    /// Reads come from a replica that lags.
    StaleReplica,
    /// What is open for long is refunded, whatever the bank says.
    RefundOnAge,
    /// A reservation is written a moment after it is answered.
    DebitAfterSend,
    /// Whether a payment was begun is looked up in a memory of each gateway's own.
    IdempotencyByCache,
    /// The bank carries payments out long after its horizon; of a run with lines.
    LateBank,
    /// Bits of answers flip, on a line without anything that would show it; of a run with lines.
    CorruptedAnswers,
}
