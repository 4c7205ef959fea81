//! What the bank makes of each message.

use super::{
    Host,
    bills::Vehicle,
    connection::{Connection, Incoming, Place},
    course::Course,
};
use crate::{
    core_banking::{
        Executed, Request, Sent, Shown, Standing, Taken,
        scenarios::{Arrival, AtBank, Status},
    },
    profile::{LineProfile, Meaning, Operation, Part, ReferenceRule, Value, Values},
};
use domain::{Bill, InvoiceNumber, PaymentCode, Reason, Refusal};
use iso8583::Message;
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// The bank's code for a payment without an inquiry.
const NO_INQUIRY_CODE: &str = "0091";

/// How much later than its transmission time says a payment was made, which counts whole seconds.
const TRANSMISSION_PRECISION: Duration = Duration::from_secs(1);

/// A message that wants an answer, and where that goes.
pub(super) struct Asked {
    pub(super) connection: Arc<Connection>,
    pub(super) place: Place,
    pub(super) operation: Operation,
    pub(super) message: Message,
}

/// What the bank says, before anything happens to it.
pub(super) struct Said {
    pub(super) code: String,
    pub(super) values: Values,
}

impl Said {
    /// A code and nothing else.
    pub(super) fn code(code: &str) -> Self {
        Self { code: code.to_owned(), values: Values::new() }
    }
}

impl Host {
    /// Takes a message in.
    pub(super) fn receive(self: &Arc<Self>, connection: &Arc<Connection>, incoming: Incoming) {
        self.count(|counts| &counts.received);
        let Incoming { bytes, place, sent, mut dice } = incoming;
        let message = match self.profile.spec.decode(&bytes) {
            Ok(message) => message,
            Err(error) => {
                self.count(|counts| &counts.unreadable);
                tracing::warn!(%error, "a message cannot be read");
                return;
            }
        };
        let Some((operation, part)) = self.profile.operation_of(&message) else {
            self.count(|counts| &counts.unreadable);
            tracing::warn!(mti = %message.mti(), "a message is of no known kind");
            return;
        };
        if part == Part::Answer {
            // To a cut-over.
            return;
        }
        let asked = Asked { connection: Arc::clone(connection), place, operation, message };
        if operation.is_network() {
            return self.session(&asked);
        }
        if !connection.is_signed_on() {
            return self.say(&asked, &self.sign_on_first(operation));
        }
        let Ok(values) = self.profile.read_request(operation, &asked.message) else {
            let said = if operation.is_question() {
                // What cannot be read is no proof of anything.
                Said::code(self.code_of_nothing(operation))
            } else {
                self.refuse(operation, &Reason::BankRefused.into())
            };
            return self.say(&asked, &said);
        };
        let course = self.course(operation, &values, &mut dice);
        let host = Arc::clone(self);
        self.tasks.spawn(async move {
            let said = host.carry_out(operation, &values, &course, sent).await;
            host.tell(&asked, &course, said, &mut dice).await;
        });
    }

    /// Does what is asked for, when and as the course has it. `None`: silence.
    async fn carry_out(
        &self,
        operation: Operation,
        values: &Values,
        course: &Course,
        sent: Sent,
    ) -> Option<Said> {
        if !course.delay.is_zero() {
            sleep(course.delay).await;
        }
        if course.arrival == Arrival::NearHorizon {
            sleep(self.profile.horizon * 9 / 10).await;
        }
        match course.at_bank {
            AtBank::Loses => None,
            _ if operation.is_question() => self.asked(operation, values, course, sent).await,
            AtBank::Refuses(reason, code) => {
                let refusal = Refusal { reason, bank_code: code.map(Into::into) };
                let mut said = self.refuse(operation, &refusal);
                if let Some(code) = &course.code {
                    said.code.clone_from(code);
                }
                self.refused(operation, values, said).await
            }
            AtBank::Executes if operation == Operation::Inquiry => self.inquire(values),
            AtBank::Executes => self.pay(values, sent).await,
        }
    }

    fn inquire(&self, values: &Values) -> Option<Said> {
        let (Ok(product), Ok(nik), Ok(chassis)) = (values.product(), values.nik(), values.chassis()) else {
            return Some(self.refuse(Operation::Inquiry, &Reason::VehicleNotFound.into()));
        };
        let presented = match self.bank.show(&product, &nik, &chassis) {
            Shown::Bill(presented) => presented,
            Shown::Refused(refusal) => return Some(self.refuse(Operation::Inquiry, &refusal)),
            Shown::Broken => return None,
        };
        let mut told = self.of_bill(&presented.bill);
        // A column that is there says that no end was set.
        told.set(Value::ValidUntil, "");
        if let Some(until) = presented.payable_until {
            told.set_valid_until(until);
        }
        if let Some(bills) = &self.bills {
            bills.remember(presented.bill.payment_code, Vehicle { product, nik, chassis });
        }
        let code = self.profile.code_for(Operation::Inquiry, &Meaning::Done)?.to_owned();
        Some(Said { code, values: told })
    }

    /// What is told of a bill, as much of it as the dialect has room for.
    fn of_bill(&self, bill: &Bill) -> Values {
        let mut told = Values::new()
            .with(Value::Amount, bill.taxes.total().get().to_string())
            .with(Value::PaymentCode, bill.payment_code.as_str())
            .with(Value::YearBuilt, format!("{:04}", bill.year_built));
        told.set_taxes(&bill.taxes);
        let texts = [
            (Value::OwnerName, bill.owner_name.expose()),
            (Value::OwnerAddress, bill.owner_address.expose()),
            (Value::LicensePlate, bill.license_plate.as_str()),
            (Value::Brand, bill.vehicle_brand.as_str()),
            (Value::Model, bill.vehicle_model.as_str()),
            (Value::Color, bill.vehicle_color.as_str()),
        ];
        for (value, text) in texts {
            match self.rooms.iter().find(|(known, _)| *known == value) {
                Some((_, room)) if text.len() > *room => told.set(value, shortened(value, text, *room)),
                _ => told.set(value, text),
            }
        }
        told
    }

    async fn pay(&self, values: &Values, sent: Sent) -> Option<Said> {
        let Some(request) = self.request(values) else {
            let refusal = Refusal { reason: Reason::BankRefused, bank_code: Some(NO_INQUIRY_CODE.into()) };
            return self.refused(Operation::Payment, values, self.refuse(Operation::Payment, &refusal)).await;
        };
        // What was longer on its way than a message should be is as old as it says.
        let made = values.transmitted_at(sent.at).map(|made| made.plus(TRANSMISSION_PRECISION));
        let sent = Sent { at: made.map_or(sent.at, |made| made.min(sent.at)), ..sent };
        match self.bank.execute(&request, sent).await {
            Executed::Taken(taken) => Some(self.done(Operation::Payment, &request.payment_code, &taken)),
            Executed::Refused(refusal) => {
                let said = self.refuse(Operation::Payment, &refusal);
                self.refused(Operation::Payment, values, said).await
            }
            Executed::Dead => {
                tracing::warn!("a payment came after its horizon, before a reset, or after its reversal");
                None
            }
            Executed::Broken => None,
        }
    }

    /// A refusal that holds: where an advice could carry the payment out later, it must not.
    async fn refused(&self, operation: Operation, values: &Values, said: Said) -> Option<Said> {
        if operation != Operation::Payment || !self.profile.advice_executes {
            return Some(said);
        }
        match (self.bank.refuse(&identity(values)).await?, values.payment_code()) {
            (Some(taken), Ok(payment_code)) => Some(self.done(operation, &payment_code, &taken)),
            _ => Some(said),
        }
    }

    /// What became of a payment; an advice that executes carries it out, a reversal undoes it.
    async fn asked(
        &self,
        operation: Operation,
        values: &Values,
        course: &Course,
        sent: Sent,
    ) -> Option<Said> {
        let original = original(operation, values);
        let identity = identity(&original);
        let Ok(payment_code) = values.payment_code() else {
            return Some(Said::code(self.code_of_nothing(operation)));
        };
        if operation == Operation::Reversal {
            self.bank.reverse(&identity).await?;
            return Some(self.meaning(operation, &Meaning::NotPaid));
        }
        let executes = operation == Operation::Advice
            && self.profile.advice_executes
            && course.at_bank == AtBank::Executes
            && course.status == Status::Truth;
        if executes && let Some(request) = self.request(values) {
            let meaning = match self.bank.execute(&request, sent).await {
                Executed::Taken(taken) => return Some(self.done(operation, &payment_code, &taken)),
                Executed::Refused(refusal) if refusal.reason == Reason::BillAlreadyPaid => {
                    Meaning::PaidByAnother
                }
                Executed::Refused(_) | Executed::Dead => Meaning::NotPaid,
                Executed::Broken => return None,
            };
            return Some(self.meaning(operation, &meaning));
        }
        let standing = self.bank.standing(&identity, &payment_code).await?;
        // However late it was sent, by then it is done or dead.
        let may_be_under_way = || {
            let transmitted = original.transmitted_at(sent.at).unwrap_or(sent.at);
            sent.at <= transmitted.plus(self.profile.horizon * 5 / 4)
        };
        let meaning = match (standing, course.status) {
            (Standing::Taken(taken), _) => return Some(self.done(operation, &payment_code, &taken)),
            (_, Status::PaidByAnother) | (Standing::PaidByAnother, _) => Meaning::PaidByAnother,
            (_, Status::PayerUnknown) => Meaning::PayerUnknown,
            (Standing::NotFound, Status::UnderWayThenTruth) if may_be_under_way() => Meaning::UnderWay,
            (Standing::NotFound, _) => Meaning::NotPaid,
        };
        Some(self.meaning(operation, &meaning))
    }

    fn done(&self, operation: Operation, payment_code: &PaymentCode, taken: &Taken) -> Said {
        let code = self.profile.code_for(operation, &Meaning::Done).unwrap_or("00").to_owned();
        let values = Values::new()
            .with(Value::Amount, taken.amount.get().to_string())
            .with(Value::BankReference, taken.receipt.reference_number.as_str())
            .with(Value::PaymentCode, payment_code.as_str());
        Said { code, values }
    }

    /// In the dialect's code for it; one that means nothing if it has none.
    fn meaning(&self, operation: Operation, meaning: &Meaning) -> Said {
        let code = self.profile.code_for(operation, meaning);
        Said::code(code.unwrap_or_else(|| self.code_of_nothing(operation)))
    }

    /// In the bank's own code if that is known; else the one for the reason, or any refusal.
    fn refuse(&self, operation: Operation, refusal: &Refusal) -> Said {
        let means = |reason| self.profile.code_for(operation, &Meaning::Refused(reason));
        let own = refusal.bank_code.as_deref().and_then(|shown| self.profile.code_of_shown(shown));
        let own = own.filter(|code| self.profile.meaning(operation, code).is_known());
        let other = || means(refusal.reason).or_else(|| means(Reason::BankRefused));
        match own {
            Some(code) => Said::code(&code),
            None => Said::code(other().unwrap_or_else(|| self.code_of_nothing(operation))),
        }
    }

    fn request(&self, values: &Values) -> Option<Request> {
        let payment_code = values.payment_code().ok()?;
        let vehicle = match (values.product(), values.nik(), values.chassis()) {
            (Ok(product), Ok(nik), Ok(chassis)) => Vehicle { product, nik, chassis },
            _ => self.bills.as_ref()?.vehicle(&payment_code)?,
        };
        let invoice = match self.profile.reference {
            ReferenceRule::Invoice => values.get(Value::Reference).and_then(|text| text.parse().ok()),
            ReferenceRule::Julian => None,
        };
        Some(Request {
            identity: identity(values),
            invoice: InvoiceNumber::new(invoice.unwrap_or_default()),
            product: vehicle.product,
            nik: vehicle.nik,
            chassis: vehicle.chassis,
            payment_code,
            amount: values.rupiah(Value::Amount).ok()?,
        })
    }
}

/// The identity's values of the payment that a message is, or asks about.
fn original(operation: Operation, values: &Values) -> Values {
    let mut original = values.clone();
    if operation == Operation::Status {
        for value in [Value::OriginalTrace, Value::OriginalTransmission, Value::OriginalReference] {
            if let (Some(own), Some(text)) = (value.own(), values.get(value)) {
                original.set(own, text);
            }
        }
    }
    original
}

/// The profile's identity; what a dialect does not send is blank in it.
fn identity(values: &Values) -> String {
    let mut whole = values.clone();
    for value in [Value::Transmission, Value::Trace, Value::Reference, Value::Terminal, Value::SettlementDate]
    {
        if values.get(value).is_none() {
            whole.set(value, "");
        }
    }
    LineProfile::identity(&whole).expect("all of it is there")
}

/// A plate loses its spaces first, which leaves it the same plate.
fn shortened(value: Value, text: &str, room: usize) -> String {
    let whole = if value == Value::LicensePlate { text.replace(' ', "") } else { text.to_owned() };
    let end = whole.floor_char_boundary(room);
    whole[..end].trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_shortened_and_a_plate_stays_a_plate() {
        assert_eq!(shortened(Value::LicensePlate, "AA 1234 XYZ", 10), "AA1234XYZ");
        assert_eq!(shortened(Value::OwnerAddress, "JL MAWAR NO 1", 9), "JL MAWAR");
        assert_eq!(shortened(Value::Model, "BEAT", 0), "");
    }

    #[test]
    fn what_a_dialect_does_not_send_is_blank_in_the_identity() {
        let values = Values::new().with(Value::Transmission, "1125052229").with(Value::Trace, "000123");
        assert_eq!(identity(&values), "1125052229-000123---");
    }
}
