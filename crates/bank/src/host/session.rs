//! Sessions: signing on and off, and the business day. Before a connection has signed on, nothing else is done for it.

use super::{
    Host,
    connection::{Connection, Outgoing},
    desk::{Asked, Said},
};
use crate::{
    locked,
    profile::{Meaning, Operation, Value, Values},
};
use domain::BusinessDate;
use std::sync::atomic::Ordering::Relaxed;

/// The terminal of the bank itself, on a connection whose own is not known.
const OWN_TERMINAL: &str = "BANK";

impl Host {
    /// Answers a message about the session.
    pub(super) fn session(&self, asked: &Asked) {
        let Asked { connection, operation, message, .. } = asked;
        let Ok(values) = self.profile.read_request(*operation, message) else {
            return self.say(asked, &Said::code(self.code_of_nothing(*operation)));
        };
        match operation {
            Operation::SignOn => {
                let terminal = values.get(Value::Terminal).map(str::to_owned);
                tracing::info!(terminal, "a line signed on");
                *locked(&connection.terminal) = terminal;
                connection.set_signed_on(true);
                self.changed.notify_waiters();
            }
            _ if !connection.is_signed_on() => return self.say(asked, &self.sign_on_first(*operation)),
            Operation::SignOff => {
                connection.set_signed_on(false);
                self.changed.notify_waiters();
            }
            _ => {}
        }
        let mut values = Values::new();
        values.set_settlement_date(self.business_date());
        let code = self.profile.code_for(*operation, &Meaning::Done).unwrap_or("00").to_owned();
        self.say(asked, &Said { code, values });
    }

    /// What is said to whoever has not signed on.
    pub(super) fn sign_on_first(&self, operation: Operation) -> Said {
        Said::code(
            self.profile.sign_on_first_code(operation).unwrap_or_else(|| self.code_of_nothing(operation)),
        )
    }

    /// A code that means nothing in answer to this, for what cannot be read.
    pub(super) fn code_of_nothing(&self, operation: Operation) -> &'static str {
        let means_nothing = |code: &&&str| !self.profile.meaning(operation, code).is_known();
        ["96", "30", "05", "12", "7F"].iter().find(means_nothing).copied().unwrap_or("ZZ")
    }

    /// Tells a line that has signed on of a new business day, if the dialect can.
    pub(super) fn announce(&self, connection: &Connection, date: BusinessDate) {
        let mut values = Values::new();
        values.set_moment(self.now());
        values.set_settlement_date(date);
        values.set(Value::Trace, format!("{:06}", self.next_trace.fetch_add(1, Relaxed) % 1_000_000));
        values.set(Value::Terminal, locked(&connection.terminal).as_deref().unwrap_or(OWN_TERMINAL));
        if let Ok(message) = self.profile.compose(Operation::CutOver, &values, false) {
            connection.send(Outgoing::Message(message), None);
        }
    }
}
