//! Partners, products, upstreams, number blocks, leases, and the sandbox.

use super::{Decided, amount_in_limits, next, operator_text, under_lease};
use crate::{
    command::{Accepted, AddPartner, ChangeLease, PartnerChange, Rejection, ReserveTraceNumbers},
    invoice::InvoiceNumber,
    lease::Lease,
    ledger::Account,
    limits,
    partner::{Partner, PartnerId, PartnerStatus},
    product::Product,
    rows::{Changes, Claim, Counter, Rows},
    value::UpstreamId,
};

pub(super) fn reserve_invoice_numbers(rows: &Rows, count: u32) -> Decided {
    if count == 0 || count > limits::invoice_block_max {
        return Err(Rejection::OutOfLimits("the count of numbers"));
    }
    let last_given = rows.counter(Counter::Invoice).max(limits::invoice_number_first - 1);
    let last = last_given + i64::from(count);
    if last > limits::invoice_number_last {
        return Err(Rejection::NumbersExhausted);
    }
    let mut changes = Changes::default();
    changes.counters.insert(Counter::Invoice, last);
    Ok((Accepted::Numbers { first: InvoiceNumber::new(last_given + 1) }, changes))
}

pub(super) fn reserve_trace_numbers(rows: &Rows, reserve: &ReserveTraceNumbers) -> Decided {
    under_lease(rows, reserve.fence.as_ref())?;
    if reserve.count == 0 || reserve.count > limits::trace_block_max {
        return Err(Rejection::OutOfLimits("the count of numbers"));
    }
    let counter = reserve.counter();
    let last_given = rows.counter(counter);
    let mut changes = Changes::default();
    changes.counters.insert(counter, last_given + i64::from(reserve.count));
    Ok((Accepted::TraceNumbers { first: last_given + 1 }, changes))
}

pub(super) fn add_partner(rows: &Rows, add: &AddPartner) -> Decided {
    operator_text("the name", &add.name)?;
    amount_in_limits("the credit limit", add.credit_limit, 0)?;
    let claim = Claim::Username(add.username.clone());
    if rows.claim(&claim).is_some() {
        return Err(Rejection::UsernameTaken);
    }
    let mut changes = Changes::default();
    let number = next(rows, &mut changes, Counter::Partner);
    let id = PartnerId(u32::try_from(number).map_err(|_| Rejection::NumbersExhausted)?);
    next(rows, &mut changes, Counter::Catalogue);
    changes.claims.insert(claim, Some(number));
    changes.partners.insert(
        id,
        Partner {
            id,
            environment: add.environment,
            username: add.username.clone(),
            name: add.name.clone(),
            agent_code: add.agent_code.clone(),
            status: PartnerStatus::Active,
            credit_limit: add.credit_limit,
            password_hash: add.password_hash.clone(),
            allowed_networks: add.allowed_networks.clone(),
        },
    );
    Ok((Accepted::Partner(id), changes))
}

pub(super) fn change_partner(rows: &Rows, id: PartnerId, change: &PartnerChange) -> Decided {
    let mut partner = rows.partner(id).ok_or(Rejection::PartnerUnknown)?.clone();
    match change {
        PartnerChange::Status(status) => partner.status = *status,
        PartnerChange::PasswordHash(hash) => partner.password_hash = hash.clone(),
        PartnerChange::AllowedNetworks(networks) => partner.allowed_networks.clone_from(networks),
        PartnerChange::CreditLimit(limit) => {
            amount_in_limits("the credit limit", *limit, 0)?;
            if *limit < rows.balance(Account::deposit(partner.environment, id)) {
                return Err(Rejection::OutOfLimits("the credit limit, below what is used of it,"));
            }
            partner.credit_limit = *limit;
        }
    }
    let mut changes = Changes::default();
    next(rows, &mut changes, Counter::Catalogue);
    changes.partners.insert(id, partner);
    Ok((Accepted::Done, changes))
}

pub(super) fn save_product(rows: &Rows, product: &Product) -> Decided {
    operator_text("the name", &product.name)?;
    amount_in_limits("the fee", product.fee, 0)?;
    amount_in_limits("the cashback", product.cashback, 0)?;
    let mut changes = Changes::default();
    next(rows, &mut changes, Counter::Catalogue);
    changes.products.insert((product.environment, product.code.clone()), product.clone());
    Ok((Accepted::Done, changes))
}

pub(super) fn register_upstream(rows: &Rows, name: &str) -> Decided {
    operator_text("the upstream's name", name)?;
    let claim = Claim::Upstream(name.to_owned());
    let id = |number: i64| u32::try_from(number).map(UpstreamId).map_err(|_| Rejection::NumbersExhausted);
    if let Some(owner) = rows.claim(&claim) {
        return Ok((Accepted::Upstream(id(owner)?), Changes::default()));
    }
    let mut changes = Changes::default();
    let number = next(rows, &mut changes, Counter::Upstream);
    changes.claims.insert(claim, Some(number));
    Ok((Accepted::Upstream(id(number)?), changes))
}

/// A simulated bank forgets what was paid; the gateway gives up its claims on that bank's bills. Invoices,
/// postings and balances stay.
pub(super) fn reset_sandbox(rows: &Rows, upstream: UpstreamId) -> (Accepted, Changes) {
    let mut changes = Changes::default();
    changes.release_settled_sandbox_claims.insert(upstream);
    next(rows, &mut changes, Counter::SandboxReset);
    (Accepted::Done, changes)
}

/// Compare and set. Its holder's renewals count up; with every other holder, and with none, the token does.
pub(super) fn change_lease(rows: &Rows, change: &ChangeLease) -> Decided {
    let stands = rows.lease(&change.name);
    if stands != change.seen.as_ref() {
        return Err(Rejection::LeaseLost);
    }
    let holder = change.holder.clone();
    let lease = match stands {
        Some(lease) if lease.holder == holder => {
            Lease { holder, token: lease.token, renewals: lease.renewals + 1 }
        }
        _ => Lease { holder, token: stands.map_or(0, |lease| lease.token) + 1, renewals: 0 },
    };
    let mut changes = Changes::default();
    changes.leases.insert(change.name.clone(), lease.clone());
    Ok((Accepted::Lease(lease), changes))
}
