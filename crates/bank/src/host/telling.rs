//! How the bank says what it says, and what becomes of it on the way: late, twice, damaged, in another order.

use super::{
    Host,
    connection::{Connection, Outgoing, Place},
    course::{Course, Tell},
    damage,
    desk::{Asked, Said},
};
use crate::{
    core_banking::{Dice, UNKNOWN_CODE},
    locked,
    profile::Value,
};
use domain::Rupiah;
use iso8583::Message;
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// How long an answer waits for another one to change places with.
const SWAP_WAIT: Duration = Duration::from_millis(500);

/// How long after an answer it comes again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// A trace number that nobody sends.
const WRONG_TRACE: &str = "999999";

/// A reference that nobody sends.
const WRONG_REFERENCE: &str = "000000000000";

/// Beyond the length of every answer, so that the connection may be closed at any byte of one.
const CUT_BYTES_MAX: u64 = 4_096;

/// An answer that waits to change places with the next one.
pub(super) struct Held {
    connection: Arc<Connection>,
    answer: Message,
    place: Place,
    is_crossed: bool,
}

impl Host {
    /// Says it, or what the course makes of it.
    pub(super) async fn tell(&self, asked: &Asked, course: &Course, said: Option<Said>, dice: &mut Dice) {
        let Asked { connection, place, .. } = asked;
        let timeout = self.profile.answer_timeout;
        match course.tell {
            Tell::Never => return,
            Tell::Echoed => {
                return connection.send(Outgoing::Message(asked.message.clone()), Some(place));
            }
            Tell::Slow => sleep(timeout * 4 / 5).await,
            Tell::Late => sleep(timeout * 5 / 4).await,
            Tell::BehindCutOver => self.cut_over(self.now().date_in_jakarta().next()),
            _ => {}
        }
        let said = match (said, course.tell) {
            (_, Tell::UnknownCode) => Said::code(course.code.as_deref().unwrap_or(UNKNOWN_CODE)),
            (Some(said), Tell::WrongAmount) => said.with_more(Rupiah::new(1)),
            (Some(said), _) => said,
            // Nothing was done and there is nothing to say, but for the hang-up.
            (None, Tell::Cut) => return connection.close(),
            (None, _) => return,
        };
        let Some(mut answer) = self.answer(asked, &said) else { return };
        match course.tell {
            Tell::WrongTrace => answer.set(11, WRONG_TRACE),
            Tell::WrongReference => answer.set(37, WRONG_REFERENCE),
            _ => {}
        }
        match course.tell {
            Tell::Garbled | Tell::Corrupted => {
                let mut bytes = Vec::new();
                if self.profile.spec.encode(&answer, &mut bytes).is_ok() {
                    let damage =
                        if course.tell == Tell::Garbled { damage::unreadable } else { damage::anywhere };
                    connection.send(Outgoing::Bytes(damage(&self.profile, &bytes, dice)), Some(place));
                }
            }
            Tell::Cut => {
                let at = usize::try_from(dice.below(CUT_BYTES_MAX)).expect("below the greatest");
                connection.send(Outgoing::Cut(answer, at), Some(place));
            }
            Tell::Twice => {
                connection.send(Outgoing::Message(answer.clone()), Some(place));
                sleep(AGAIN_AFTER.min(timeout)).await;
                connection.send(Outgoing::Message(answer), Some(place));
            }
            Tell::Swapped | Tell::Crossed => {
                let held = Held {
                    connection: Arc::clone(connection),
                    answer,
                    place: Arc::clone(place),
                    is_crossed: course.tell == Tell::Crossed,
                };
                release(locked(&self.held).replace(held));
                self.changed.notify_waiters();
                sleep(SWAP_WAIT).await;
                release(locked(&self.held).take());
            }
            _ => self.send(asked, answer),
        }
    }

    /// Sends an answer; one that waited to change places with it comes behind.
    fn send(&self, Asked { connection, place, .. }: &Asked, mut answer: Message) {
        let held = locked(&self.held).take();
        let held = held.map(|mut held| {
            if held.is_crossed {
                let traces = (held.answer.get(11).map(str::to_owned), answer.get(11).map(str::to_owned));
                if let (Some(one), Some(other)) = traces {
                    held.answer.set(11, &other);
                    answer.set(11, &one);
                }
            }
            held
        });
        connection.send(Outgoing::Message(answer), Some(place));
        release(held);
    }

    /// Says it as it is.
    pub(super) fn say(&self, asked: &Asked, said: &Said) {
        if let Some(answer) = self.answer(asked, said) {
            asked.connection.send(Outgoing::Message(answer), Some(&asked.place));
        }
    }

    fn answer(&self, asked: &Asked, said: &Said) -> Option<Message> {
        match self.profile.answer(asked.operation, &asked.message, &said.code, &said.values) {
            Ok(answer) => {
                self.count(|counts| &counts.answered);
                Some(answer)
            }
            Err(error) => {
                tracing::error!(%error, operation = asked.operation.name(), "an answer does not fit the profile");
                None
            }
        }
    }
}

fn release(held: Option<Held>) {
    if let Some(Held { connection, answer, place, .. }) = held {
        connection.send(Outgoing::Message(answer), Some(&place));
    }
}

impl Said {
    fn with_more(mut self, more: Rupiah) -> Self {
        if let Ok(amount) = self.values.rupiah(Value::Amount) {
            self.values.set(Value::Amount, (amount + more).get().to_string());
        }
        self
    }
}
