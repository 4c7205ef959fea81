//! Before the load: every partner logs in once, and one vehicle is inquired (and paid), so that what cannot work
//! fails at once and says why.
//!
//! The log-ins also keep password hashing out of the measurement: the gateway remembers a verified password for
//! some minutes. Where it limits log-ins by address, this waits as long as it is told to.

use super::{
    Mode,
    answer::{Failed, Paid},
    caller::Caller,
    load::Vehicles,
    progress::Progress,
    target::Target,
};
use crate::output::Fault;
use anyhow::bail;
use domain::Reason;
use std::{rc::Rc, time::Duration};
use tokio::time::{Instant, sleep};

/// The pause after a log-in that was one too many.
const LOG_IN_PAUSE: Duration = Duration::from_millis(1_050);

/// So often in a row.
const LOG_IN_ATTEMPTS_MAX: usize = 60;

/// Stretches of paid vehicles that are leapt over.
const LEAPS_MAX: usize = 100;

/// The gateway cannot be talked to.
pub(super) fn unreachable(target: &Target, failed: &Failed) -> anyhow::Error {
    Fault::Unavailable(format!("failed to reach {}: {failed}; {}", target.url, failed.advice())).into()
}

/// The gateway does not do what is needed.
pub(super) fn refused(what: &str, failed: &Failed) -> anyhow::Error {
    Fault::Refused(format!("{what}: {failed}; {}", failed.advice())).into()
}

/// Logs every partner in.
pub(super) async fn log_in(target: &Rc<Target>, progress: &Progress) -> anyhow::Result<()> {
    let mut caller = Caller::connect(target).await?;
    let begin = Instant::now();
    progress.begin(&format!("logging {} partners in", target.partners.len()));
    for (index, partner) in target.partners.iter().enumerate() {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match caller.balance(index).await {
                Ok(_) => break,
                Err(Failed::Status(429, _)) if attempts < LOG_IN_ATTEMPTS_MAX => sleep(LOG_IN_PAUSE).await,
                Err(failed @ (Failed::Connection(_) | Failed::Unreadable(_))) => {
                    return Err(unreachable(target, &failed));
                }
                Err(failed) => {
                    return Err(refused(&format!("failed to log {} in", partner.username), &failed));
                }
            }
            progress.show(begin.elapsed(), index as u64, 0);
        }
        progress.show(begin.elapsed(), index as u64 + 1, 0);
    }
    progress.end();
    Ok(())
}

/// Inquires one vehicle that is not paid yet, and pays it unless only inquiries are wanted.
pub(super) async fn probe(target: &Rc<Target>, mode: Mode, vehicles: &Vehicles) -> anyhow::Result<()> {
    let mut caller = Caller::new(target);
    for _ in 0..LEAPS_MAX {
        let index = vehicles.take();
        let invoice = match caller.inquire(0, index).await {
            Ok(invoice) => invoice,
            Err(failed) if failed.is(Reason::BillAlreadyPaid) => {
                vehicles.leap(index);
                continue;
            }
            Err(failed) => return Err(refused(&format!("vehicle {index} cannot be inquired"), &failed)),
        };
        if mode == Mode::Inquiry {
            return Ok(());
        }
        return match caller.pay(invoice).await {
            Ok(Paid::Confirmed | Paid::Pending) => Ok(()),
            Err(failed) => Err(refused(&format!("vehicle {index} cannot be paid"), &failed)),
        };
    }
    bail!(Fault::Refused(format!(
        "{LEAPS_MAX} stretches of vehicles are paid already; choose another --from"
    )))
}
