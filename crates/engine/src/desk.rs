//! What the engine does for an upstream: trace numbers from the store, leases on lines, and incidents.
//!
//! An upstream outlives no engine, and holds none: when the engine is gone, nothing is given out any more.

use crate::{Engine, leases, resolver::each_open};
use bank::{Desk, Holds, TraceBlock};
use domain::{
    Accepted, Command, InvoiceNumber, Terminal, UpstreamId, command::ReserveTraceNumbers,
    record::IncidentKind,
};
use futures::future::BoxFuture;
use std::sync::{Arc, Weak};

struct OfUpstream {
    engine: Weak<Engine>,
    upstream: UpstreamId,
}

/// The desk of one upstream.
pub(crate) fn desk(engine: &Arc<Engine>, upstream: UpstreamId) -> Arc<dyn Desk> {
    Arc::new(OfUpstream { engine: Arc::downgrade(engine), upstream })
}

impl Desk for OfUpstream {
    fn reserve_trace_numbers(&self, terminal: Terminal, count: u32) -> BoxFuture<'_, Option<TraceBlock>> {
        Box::pin(
            async move { self.engine.upgrade()?.reserve_trace_numbers(self.upstream, terminal, count).await },
        )
    }

    fn holds(&self, terminal: Terminal) -> Holds {
        let Some(engine) = self.engine.upgrade() else { return Holds::No };
        if engine.leases.is_alone() {
            return Holds::Alone;
        }
        engine.leases.holding(&leases::line(self.upstream, terminal))
    }

    fn raise(&self, invoice: Option<InvoiceNumber>, kind: IncidentKind, detail: String) {
        if let Some(engine) = self.engine.upgrade() {
            engine.raise_incident(invoice, kind, detail);
        }
    }
}

impl Engine {
    async fn reserve_trace_numbers(
        &self,
        upstream: UpstreamId,
        terminal: Terminal,
        count: u32,
    ) -> Option<TraceBlock> {
        let fence = self.leases.holding(&leases::line(upstream, terminal)).fence().ok()?;
        let reserve = ReserveTraceNumbers { upstream, terminal, count, fence };
        let first = match self.journal.submit(Command::ReserveTraceNumbers(Box::new(reserve))).await {
            Ok(Accepted::TraceNumbers { first }) => first,
            Ok(other) => unreachable!("trace numbers are never answered with {other:?}"),
            Err(failure) => {
                tracing::warn!(%terminal, %failure, "failed to reserve trace numbers");
                return None;
            }
        };
        // What is begun from here on has a number of this block or of the one before.
        let mut open = Vec::new();
        let read = each_open(self.store.as_ref(), |invoice| {
            if invoice.upstream == upstream {
                open.extend(invoice.state.attempt().map(|attempt| attempt.identity.clone()));
            }
        });
        if let Err(error) = read.await {
            tracing::warn!(%terminal, %error, "failed to look for open payments");
            return None;
        }
        Some(TraceBlock { first, count, open })
    }
}
