//! One batch, one transaction: two round trips, however many commands.
//!
//! ```text
//!  1  BEGIN · batch id · lock balances, counters, leases in order of key · load the rest   → decide
//!  2  add rows · update balances · events · COMMIT
//! ```
//!
//! | kept true | by |
//! | --- | --- |
//! | nobody decides on a balance that another one is changing | its row's lock, taken in order of account, once |
//! | an invoice is begun once, settled once, posts once a step | primary keys |
//! | a bill and a vehicle have one owner | primary keys; a begin takes them for free without a look, and who finds one taken decides again with one |
//! | what operators keep is not overwritten unseen | compare and set; who finds it changed decides again |
//! | a credit limit holds | it is read after the deposit is locked, and changed under the same lock |
//! | no two batches wait for each other | locks in one order, then keys in order, then releases; else the server ends one, and it is decided again |
//!
//! COMMIT is sent together with the last writes. Whatever is not known for certain afterwards is
//! ambiguous.

use crate::{
    Inner,
    connect::{Lent, Session, within},
    failure::{Failure, Remedy, commit_was_refused, explain, is_conflict},
    load::{self, Claims, Loaded},
    pipeline::{Answer, Pipeline, parameters},
    statements::Statements,
    write,
};
use domain::{Command, Decision};
use std::time::Duration;
use store::{Batch, BatchId, Error};
use tokio::time::timeout;
use tokio_postgres::error::DbError;
use uuid::Uuid;

/// How long each of the round trips may take, and all those together that only operators' commands make.
pub(crate) const ROUND_TRIP_WITHIN: Duration = Duration::from_secs(5);

/// How long the second one may take where it releases the claims of a whole sandbox.
const RELEASE_WITHIN: Duration = Duration::from_mins(30);

/// How often a batch is decided again after a deadlock or a taken key.
const TRIES_MAX: u32 = 5;

/// How a try ended.
enum Tried {
    Committed(Vec<Decision>),
    /// Nothing was written.
    Failed(Failure),
    /// COMMIT was sent, and what became of it is not known.
    Unknown {
        reason: String,
        decisions: Vec<Decision>,
    },
    /// See [`Judged::Broken`].
    Broken(String),
}

impl From<Failure> for Tried {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

pub(crate) async fn apply(inner: &Inner, batch: &Batch) -> Result<Vec<Decision>, Error> {
    let mut tries = 1;
    loop {
        let mut lent = inner.writers.lend().await?;
        let failure = match apply_once(inner, &mut lent, batch).await {
            Tried::Committed(decisions) => {
                lent.give_back();
                return Ok(decisions);
            }
            Tried::Unknown { reason, decisions } => return Err(Error::Ambiguous { reason, decisions }),
            Tried::Broken(reason) => return Err(Error::Fatal(reason)),
            Tried::Failed(failure) => failure,
        };
        if let Failure::Conflict(_) = &failure {
            inner.forget_accounts();
        }
        let remedy = failure.remedy();
        if remedy != Remedy::Reconnect {
            lent.give_back();
        }
        let taken = match &failure {
            Failure::Postgres(error) => error.as_db_error().and_then(DbError::constraint),
            _ => None,
        };
        if matches!(taken, Some("claim_pkey" | "vehicle_claim_pkey")) {
            inner.contest();
        }
        // A batch's own name that is taken stays taken.
        let is_repeated = taken == Some("batch_pkey");
        if remedy != Remedy::Retry || is_repeated || tries >= TRIES_MAX {
            return Err(failure.into());
        }
        // A row that is there for good is not worth many tries.
        let may_pass = match &failure {
            Failure::Postgres(error) => error.as_db_error().is_some_and(is_conflict),
            _ => true,
        };
        tries += if may_pass { 1 } else { 2 };
    }
}

async fn apply_once(inner: &Inner, lent: &mut Lent<'_>, batch: &Batch) -> Tried {
    let statements = match lent.session.statements().await {
        Ok(statements) => statements,
        Err(failure) => return failure.into(),
    };
    let client = &lent.session.client;
    let keys = store::keys(batch);
    let created = inner.unknown_accounts(&keys);
    // What one command takes and another gives up is not there in the end to be refused by its key.
    let is_contested = inner.is_contested() || keys.claims_are_shared;
    let claims = if is_contested { Claims::LookedUp } else { Claims::TakenForFree };
    let loading = load::load(client, &statements, batch.id, &keys, &created, claims);
    let loaded = match within(ROUND_TRIP_WITHIN, loading).await {
        Ok(loaded) => loaded,
        Err(failure) => return roll_back(&lent.session, &statements, failure).await.into(),
    };
    let (rows, before) = Loaded::split(loaded);
    let (decisions, changes) = store::decide_batch(rows, batch);
    if claims == Claims::TakenForFree && refuses_a_begin(batch, &decisions) {
        inner.contest();
        let failure = Failure::Conflict("whether a bill is free is to be looked up".to_owned());
        return roll_back(&lent.session, &statements, failure).await.into();
    }
    let plan = match write::Plan::of(&changes, &before) {
        Ok(plan) => plan,
        Err(failure) => return roll_back(&lent.session, &statements, failure).await.into(),
    };
    if let Err(failure) = within(ROUND_TRIP_WITHIN, write::rare(client, &changes, &before)).await {
        return roll_back(&lent.session, &statements, failure).await.into();
    }
    let mut pipeline = Pipeline::new(client);
    plan.push(&mut pipeline, &statements);
    pipeline.push(&statements.commit, parameters![]);
    let releases = !changes.release_settled_sandbox_claims.is_empty();
    let limit = if releases { RELEASE_WITHIN } else { ROUND_TRIP_WITHIN };
    match timeout(limit, pipeline.run()).await {
        Err(_) => Tried::Unknown { reason: "COMMIT was not answered in time".to_owned(), decisions },
        Ok(answers) => match judge(answers, &lent.session) {
            Ok(()) => {
                inner.know_accounts(created);
                Tried::Committed(decisions)
            }
            Err(Judged::NotWritten(error)) => Failure::Postgres(error).into(),
            Err(Judged::Unknown(reason)) => Tried::Unknown { reason, decisions },
            Err(Judged::Broken(reason)) => Tried::Broken(reason),
        },
    }
}

/// Whether a begin was refused. It may have been for another reason than it is to be told, since whether its bill
/// is free comes before its balance.
fn refuses_a_begin(batch: &Batch, decisions: &[Decision]) -> bool {
    let mut decided = batch.commands.iter().zip(decisions);
    decided.any(|(command, decision)| matches!(command, Command::BeginPayment(_)) && decision.is_err())
}

enum Judged {
    NotWritten(tokio_postgres::Error),
    Unknown(String),
    /// Some of it was written, and some was not sent: a bug that must not be built upon.
    Broken(String),
}

/// What the answers to the last writes and to COMMIT, the last of them, say together.
fn judge(answers: Vec<Answer>, session: &Session) -> Result<(), Judged> {
    let last = answers.len() - 1;
    let is_committed = answers[last].is_ok();
    for (place, answer) in answers.into_iter().enumerate() {
        let Err(error) = answer else { continue };
        if is_committed && error.as_db_error().is_none() && !error.is_closed() {
            return Err(Judged::Broken(format!("a part of a batch was committed: {}", explain(&error))));
        }
        // A refused statement ends the transaction, and the COMMIT behind it rolls back.
        let is_certain = error.as_db_error().is_some_and(|told| place < last || commit_was_refused(told));
        return Err(if is_certain { Judged::NotWritten(error) } else { Judged::Unknown(explain(&error)) });
    }
    if session.is_unheard() {
        return Err(Judged::Unknown("the wait for the standby's word was cancelled".to_owned()));
    }
    Ok(())
}

/// Ends a transaction whose COMMIT was not sent. Whatever failed, the first failure is the one to tell.
async fn roll_back(session: &Session, statements: &Statements, failure: Failure) -> Failure {
    if failure.remedy() == Remedy::Reconnect {
        return failure;
    }
    let rolling_back = async { Ok(session.client.query(&statements.rollback, &[]).await?) };
    match within(ROUND_TRIP_WITHIN, rolling_back).await {
        Ok(_) => failure,
        // The connection is of no use any more, and its end rolls back.
        Err(Failure::Postgres(error)) => Failure::Away(explain(&error)),
        Err(other) => other,
    }
}

/// Whether a batch was committed; if not, it never will be.
pub(crate) async fn committed(inner: &Inner, id: BatchId) -> Result<bool, Error> {
    let mut lent = inner.writers.lend().await?;
    let asked = async {
        let statements = lent.session.statements().await?;
        let row = lent.session.client.query_one(&statements.fence_batch, &[&Uuid::from_u128(id.0)]).await?;
        Ok::<bool, Failure>(row.try_get(0)?)
    };
    let found = within(ROUND_TRIP_WITHIN, asked).await;
    if lent.session.is_unheard() {
        return Err(Error::Unavailable("the wait for the standby's word was cancelled".to_owned()));
    }
    if found.as_ref().map_or_else(Failure::remedy, |_| Remedy::Report) != Remedy::Reconnect {
        lent.give_back();
    }
    Ok(found?)
}
