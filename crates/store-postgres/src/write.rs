//! What a batch writes: the rows that a payment adds, in one statement a table, and the few that operators
//! change, each compared with what was decided on.

use crate::{
    columns::{balance_row, environment_code, json},
    failure::Failure,
    load::{Before, Stage, put_off},
    pipeline::{Pipeline, parameters},
    statements::Statements,
};
use domain::{
    Invoice, PaymentCode, State, Timestamp,
    ledger::AccountKind,
    record::{Entry, Event},
    rows::{Changes, Claim, Counter},
};
use std::collections::BTreeMap;
use tokio_postgres::{Client, types::ToSql};

/// The columns of the rows that are added, each table's side by side.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    invoices: Vec<(&'a Invoice, String)>,
    payments: Vec<&'a Invoice>,
    put_off: Vec<&'a Invoice>,
    settlements: Vec<&'a Invoice>,
    claims: OfClaims,
    vehicle_claims: OfClaims,
    changes: Option<&'a Changes>,
}

/// What becomes of the claims of one table.
#[derive(Default)]
struct OfClaims {
    taken: (Vec<String>, Vec<i64>),
    handed_on: (Vec<String>, Vec<i64>),
    released: Vec<String>,
}

impl<'a> Plan<'a> {
    /// Sorts the changes by what stood there before. An invoice only ever goes forward.
    pub(crate) fn of(changes: &'a Changes, before: &Before) -> Result<Self, Failure> {
        let mut plan = Self { changes: Some(changes), ..Self::default() };
        for (number, invoice) in &changes.invoices {
            let (stage, stood) = match changes.presentments.get(number) {
                Some(presentment) => {
                    plan.invoices.push((invoice, json(presentment)));
                    (Stage::New, None)
                }
                None => *before
                    .stages
                    .get(number)
                    .ok_or_else(|| Failure::Row(format!("{number:?} does not exist")))?,
            };
            let next = Stage::of(invoice);
            if stage == Stage::Begun && put_off(invoice) != stood {
                plan.put_off.push(invoice);
            }
            if next == stage && next == Stage::Begun {
                continue;
            }
            if next <= stage {
                return Err(Failure::Row(format!("{number:?} cannot go back, or stay, to be {next:?}")));
            }
            if stage < Stage::Begun && next >= Stage::Begun {
                plan.payments.push(invoice);
                // Only a copy begins with what has been asked since.
                if invoice.state.attempt().is_some_and(|attempt| !attempt.rest.is_zero()) {
                    plan.put_off.push(invoice);
                }
            }
            if next == Stage::Settled {
                plan.settlements.push(invoice);
            }
        }
        for (claim, owner) in &changes.claims {
            let key = claim.key();
            let stood = before.stood(claim, &key);
            let of =
                if matches!(claim, Claim::Chassis(..)) { &mut plan.vehicle_claims } else { &mut plan.claims };
            match (owner, stood) {
                (Some(owner), None | Some(false)) => {
                    of.taken.0.push(key);
                    of.taken.1.push(*owner);
                }
                (Some(owner), Some(true)) => {
                    of.handed_on.0.push(key);
                    of.handed_on.1.push(*owner);
                }
                (None, None | Some(true)) => of.released.push(key),
                (None, Some(false)) => {}
            }
        }
        // Keys are taken in order, so that two batches never wait for each other's.
        sort(&mut plan.claims.taken);
        sort(&mut plan.vehicle_claims.taken);
        Ok(plan)
    }

    /// Adds the statements: rows first, then claims taken, then claims given up, balances, and events last.
    pub(crate) fn push<'p>(self, pipeline: &mut Pipeline<'p>, statements: &'p Statements)
    where
        'a: 'p,
    {
        push_invoices(pipeline, statements, &self.invoices);
        if !self.payments.is_empty() {
            let attempts = || self.payments.iter().filter_map(|invoice| invoice.state.attempt());
            pipeline.push(
                &statements.insert_payments,
                parameters![
                    column(&self.payments, |invoice| invoice.number.get()),
                    attempts().map(|attempt| attempt.begun_at.as_millis()).collect::<Vec<_>>(),
                    attempts().map(|attempt| attempt.send_before.as_millis()).collect::<Vec<_>>(),
                    attempts().map(|attempt| attempt.resolve_after.as_millis()).collect::<Vec<_>>(),
                    attempts().map(|attempt| attempt.identity.as_str()).collect::<Vec<_>>(),
                ],
            );
        }
        if !self.put_off.is_empty() {
            let attempts = || self.put_off.iter().filter_map(|invoice| invoice.state.attempt());
            pipeline.push(
                &statements.update_payments,
                parameters![
                    column(&self.put_off, |invoice| invoice.number.get()),
                    attempts().map(|attempt| attempt.resolve_after.as_millis()).collect::<Vec<_>>(),
                    attempts().map(|attempt| attempt.is_reversing).collect::<Vec<_>>(),
                    attempts().map(|attempt| domain::time::millis(attempt.rest)).collect::<Vec<_>>(),
                ],
            );
        }
        push_settlements(pipeline, statements, &self.settlements);
        let changes = self.changes.expect("a plan is made of changes");
        push_postings(pipeline, statements, changes);
        let (claims, vehicles) = (self.claims, self.vehicle_claims);
        for (statement, (keys, owners)) in [
            (&statements.insert_claims, claims.taken),
            (&statements.insert_vehicle_claims, vehicles.taken),
            (&statements.update_claims, claims.handed_on),
            (&statements.update_vehicle_claims, vehicles.handed_on),
        ] {
            if !keys.is_empty() {
                pipeline.push(statement, parameters![keys, owners]);
            }
        }
        for (statement, keys) in [
            (&statements.delete_claims, claims.released),
            (&statements.delete_vehicle_claims, vehicles.released),
        ] {
            if !keys.is_empty() {
                pipeline.push(statement, parameters![keys]);
            }
        }
        for upstream in &changes.release_settled_sandbox_claims {
            pipeline.push(&statements.take_time, parameters![]);
            pipeline.push(&statements.release_settled, parameters![Claim::sandbox_bills(*upstream)]);
        }
        if !changes.balances.is_empty() {
            let mut rows: BTreeMap<i64, (Option<i64>, Option<i64>)> = BTreeMap::new();
            for (account, amount) in &changes.balances {
                let row = rows.entry(balance_row(*account)).or_default();
                match account.kind {
                    AccountKind::Reserved => row.1 = Some(amount.get()),
                    _ => row.0 = Some(amount.get()),
                }
            }
            let amounts: Vec<_> = rows.values().map(|(amount, _)| *amount).collect();
            let reserved: Vec<_> = rows.values().map(|(_, reserved)| *reserved).collect();
            let accounts: Vec<_> = rows.into_keys().collect();
            pipeline.push(&statements.update_balances, parameters![accounts, amounts, reserved]);
        }
        let (names, values): (Vec<_>, Vec<_>) = changes
            .counters
            .iter()
            .filter(|(counter, _)| !is_made_when_needed(counter))
            .map(|(counter, value)| (counter.name().into_owned(), *value))
            .unzip();
        if !names.is_empty() {
            pipeline.push(&statements.update_counters, parameters![names, values]);
        }
        push_events(pipeline, statements, &changes.events);
    }
}

/// Whether a counter's row comes with its first number: there may be nothing to lock.
fn is_made_when_needed(counter: &Counter) -> bool {
    matches!(counter, Counter::Trace(..))
}

fn column<T, V>(rows: &[T], value: impl Fn(&T) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}

fn sort((keys, owners): &mut (Vec<String>, Vec<i64>)) {
    let mut pairs: Vec<_> = keys.drain(..).zip(owners.drain(..)).collect();
    pairs.sort_unstable();
    (*keys, *owners) = pairs.into_iter().unzip();
}

fn push_invoices<'p>(
    pipeline: &mut Pipeline<'p>,
    statements: &'p Statements,
    rows: &[(&'p Invoice, String)],
) {
    if rows.is_empty() {
        return;
    }
    let refusal = |invoice: &Invoice| match &invoice.state {
        State::Failure { refusal } => Some(json(refusal)),
        _ => None,
    };
    pipeline.push(
        &statements.insert_invoices,
        parameters![
            column(rows, |(invoice, _)| invoice.number.get()),
            column(rows, |(invoice, _)| invoice.inquired_at.as_millis()),
            column(rows, |(invoice, _)| invoice.payable_until.map(Timestamp::as_millis)),
            column(rows, |(invoice, _)| invoice.total.get()),
            column(rows, |(invoice, _)| invoice.fee.get()),
            column(rows, |(invoice, _)| invoice.cashback.get()),
            column(rows, |(invoice, _)| i64::from(invoice.partner.0)),
            column(rows, |(invoice, _)| i64::from(invoice.upstream.0)),
            column(rows, |(invoice, _)| invoice.business_date.as_number()),
            column(rows, |(invoice, _)| environment_code(invoice.environment)),
            column(rows, |(invoice, _)| invoice.product.as_str()),
            column(rows, |(invoice, _)| invoice.chassis.as_str()),
            column(rows, |(invoice, _)| invoice.payment_code.as_ref().map(PaymentCode::as_str)),
            column(rows, |(invoice, _)| refusal(invoice)),
            column(rows, |(_, body)| body.clone()),
            column(rows, |(invoice, _)| invoice.upstream_terms.fee.get()),
            column(rows, |(invoice, _)| invoice.upstream_terms.cashback.get()),
        ],
    );
}

fn push_settlements<'p>(pipeline: &mut Pipeline<'p>, statements: &'p Statements, rows: &[&'p Invoice]) {
    if rows.is_empty() {
        return;
    }
    let (mut at, mut references, mut traces, mut proofs) = (vec![], vec![], vec![], vec![]);
    for invoice in rows {
        match &invoice.state {
            State::Confirm { receipt, settled_at, .. } => {
                at.push(settled_at.as_millis());
                references.push(Some(receipt.reference_number.as_str()));
                traces.push(Some(receipt.trace_number.as_str()));
                proofs.push(None);
            }
            State::Refund { proof, settled_at, .. } => {
                at.push(settled_at.as_millis());
                references.push(None);
                traces.push(None);
                proofs.push(Some(json(proof)));
            }
            State::Failure { .. } | State::Inquiry | State::Pending { .. } => {
                unreachable!("only what is settled has a settlement")
            }
        }
    }
    let numbers = column(rows, |invoice| invoice.number.get());
    pipeline.push(&statements.insert_settlements, parameters![numbers, at, references, traces, proofs]);
}

/// The lines of one step come one after another.
fn push_postings<'p>(pipeline: &mut Pipeline<'p>, statements: &'p Statements, changes: &Changes) {
    if changes.postings.is_empty() {
        return;
    }
    let (mut subjects, mut at, mut steps) = (vec![], vec![], vec![]);
    let (mut first, mut last, mut accounts, mut amounts) = (vec![], vec![], vec![], vec![]);
    let mut place = 0_i32;
    for lines in changes.postings.chunk_by(|one, next| (one.subject, one.step) == (next.subject, next.step)) {
        subjects.push(lines[0].subject);
        at.push(lines[0].at.as_millis());
        steps.push(i16::from(lines[0].step as u8));
        first.push(place + 1);
        for line in lines {
            accounts.push(line.account.code());
            amounts.push(line.amount.get());
            place += 1;
        }
        last.push(place);
    }
    pipeline
        .push(&statements.insert_postings, parameters![subjects, at, steps, first, last, accounts, amounts]);
}

fn push_events<'p>(pipeline: &mut Pipeline<'p>, statements: &'p Statements, events: &'p [Event]) {
    if events.is_empty() {
        return;
    }
    pipeline.push(
        &statements.insert_events,
        parameters![
            column(events, |event| event.subject),
            column(events, |event| event.at.as_millis()),
            column(events, |event| i64::from(event.partner.0)),
            column(events, |event| i32::try_from(event.sequence).unwrap_or(i32::MAX)),
            column(events, |event| environment_code(event.environment)),
            column(events, |event| event.kind.name()),
        ],
    );
}

/// What operators write, a few rows a day, one statement each.
pub(crate) async fn rare(client: &Client, changes: &Changes, before: &Before) -> Result<(), Failure> {
    for entry in &changes.entries {
        insert_entry(client, entry).await?;
    }
    for (id, partner) in &changes.partners {
        let (id, username, body) = (i64::from(id.0), partner.username.as_str(), json(partner));
        let known = before.partner_bodies.get(&partner.id);
        let done = if let Some(known) = known {
            let sql = "UPDATE partner SET username = $2, body = $3 WHERE id = $1 AND body = $4";
            client.execute(sql, &[&id, &username, &body, known]).await?
        } else {
            let sql = "INSERT INTO partner (id, username, body) VALUES ($1, $2, $3)";
            client.execute(sql, &[&id, &username, &body]).await?
        };
        changed("partner", done)?;
    }
    for ((environment, code), product) in &changes.products {
        client
            .execute(
                "INSERT INTO product (environment, code, body) VALUES ($1, $2, $3)
                 ON CONFLICT (environment, code) DO UPDATE SET body = excluded.body",
                &[&environment_code(*environment), &code.as_str(), &json(product)],
            )
            .await?;
    }
    for (number, proposal) in &changes.proposals {
        let (number, body) = (number.get(), proposal.as_ref().map(json));
        let known = before.proposal_bodies.get(&domain::InvoiceNumber::new(number));
        let (sql, values): (_, Vec<&(dyn ToSql + Sync)>) = match (&body, known) {
            (Some(body), Some(known)) => {
                ("UPDATE proposal SET body = $2 WHERE invoice = $1 AND body = $3", vec![&number, body, known])
            }
            (Some(body), None) => {
                ("INSERT INTO proposal (invoice, body) VALUES ($1, $2)", vec![&number, body])
            }
            (None, Some(known)) => {
                ("DELETE FROM proposal WHERE invoice = $1 AND body = $2", vec![&number, known])
            }
            (None, None) => continue,
        };
        changed("proposal", client.execute(sql, &values).await?)?;
    }
    write_incidents(client, changes, before).await?;
    for (counter, value) in changes.counters.iter().filter(|(counter, _)| is_made_when_needed(counter)) {
        let known = before.counters.get(counter).copied().unwrap_or_default();
        let sql = "INSERT INTO counter (name, value) VALUES ($1, $2)
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE counter.value = $3";
        changed("counter", client.execute(sql, &[&counter.name().as_ref(), value, &known]).await?)?;
    }
    for (name, lease) in &changes.leases {
        let known = before.leases.get(name).and_then(Option::as_ref);
        let done = if let Some(known) = known {
            let sql = "UPDATE lease SET holder = $2, token = $3, renewals = $4
                           WHERE name = $1 AND token = $5 AND renewals = $6";
            let values: [&(dyn ToSql + Sync); 6] =
                [name, &lease.holder, &lease.token, &lease.renewals, &known.token, &known.renewals];
            client.execute(sql, &values).await?
        } else {
            let sql = "INSERT INTO lease (name, holder, token, renewals) VALUES ($1, $2, $3, $4)";
            client.execute(sql, &[name, &lease.holder, &lease.token, &lease.renewals]).await?
        };
        changed("lease", done)?;
    }
    Ok(())
}

async fn write_incidents(client: &Client, changes: &Changes, before: &Before) -> Result<(), Failure> {
    for (key, incident) in &changes.incidents {
        let known = before.incidents.get(key).and_then(Option::as_ref);
        let (kind, count) = (key.1.name(), i64::from(incident.count));
        let (first_at, last_at) = (incident.first_at.as_millis(), incident.last_at.as_millis());
        let mut values: Vec<&(dyn ToSql + Sync)> =
            vec![&key.0, &kind, &incident.detail, &first_at, &last_at, &count, &incident.corrected_by];
        let known_count = known.map(|known| i64::from(known.count));
        let done = if let Some(known) = known {
            values.push(&known_count);
            values.push(&known.corrected_by);
            let sql = "UPDATE incident SET detail = $3, first_at = $4, last_at = $5, count = $6,
                               corrected_by = $7
                           WHERE invoice = $1 AND kind = $2 AND count = $8
                               AND corrected_by IS NOT DISTINCT FROM $9";
            client.execute(sql, &values).await?
        } else {
            let sql = "INSERT INTO incident (invoice, kind, detail, first_at, last_at, count, corrected_by)
                           VALUES ($1, $2, $3, $4, $5, $6, $7)";
            client.execute(sql, &values).await?
        };
        changed("incident", done)?;
    }
    Ok(())
}

async fn insert_entry(client: &Client, entry: &Entry) -> Result<(), Failure> {
    client
        .execute(
            "INSERT INTO entry (number, kind, environment, partner, amount, operator, reference, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                &entry.number,
                &entry.kind.name(),
                &environment_code(entry.environment),
                &i64::from(entry.partner.0),
                &entry.amount.get(),
                &entry.operator,
                &entry.reference,
                &entry.at.as_millis(),
            ],
        )
        .await?;
    Ok(())
}

/// A row that was compared and is another by now: somebody else was faster.
fn changed(table: &str, rows: u64) -> Result<(), Failure> {
    if rows == 1 {
        Ok(())
    } else {
        Err(Failure::Conflict(format!("table {table}: a row was changed meanwhile")))
    }
}
