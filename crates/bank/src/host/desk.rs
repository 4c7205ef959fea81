//! What the bank makes of each message.

use super::{
    Host,
    connection::{Connection, Outgoing},
    damage::damaged,
    faults::Fault,
    locked,
};
use crate::{
    core_banking::{
        Executed, Request, Sent, Shown, Standing, Taken, UNKNOWN_CODE, befalls, fraction,
        scenarios::{self, Answer, Arrival, AtBank, Inquiry, Payment, Status},
        vehicles,
    },
    profile::{LineProfile, Meaning, Operation, Part, Value, Values},
};
use domain::{BusinessDate, InvoiceNumber, Reason, Refusal, Rupiah};
use iso8583::Message;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How long an answer waits for another one to change places with.
const SWAP_WAIT: Duration = Duration::from_millis(500);

/// An answer that waits to change places with the next one.
pub(super) struct Held {
    connection: Arc<Connection>,
    answer: Message,
    is_crossed: bool,
}

/// How a message goes: its fault, or its test number's course.
struct Course {
    arrival: Arrival,
    at_bank: AtBank,
    tell: Tell,
    status: Status,
}

/// What comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tell {
    Prompt,
    Slow,
    Late,
    Never,
    Twice,
    Swapped,
    Crossed,
    Garbled,
    WrongAmount,
    WrongTrace,
    WrongReference,
    Echoed,
    Cut,
    UnknownCode,
    BehindCutOver,
}

impl From<Answer> for Tell {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Prompt => Self::Prompt,
            Answer::Slow => Self::Slow,
            Answer::Late => Self::Late,
            Answer::Twice => Self::Twice,
            Answer::Never => Self::Never,
            Answer::Cut => Self::Cut,
            Answer::Garbled => Self::Garbled,
            Answer::UnknownCode => Self::UnknownCode,
            Answer::WrongAmount => Self::WrongAmount,
            Answer::WrongIdentity => Self::WrongReference,
        }
    }
}

/// What the bank says, before anything happens to it.
struct Said {
    code: String,
    values: Values,
}

impl Host {
    /// Takes a message in.
    pub(super) fn receive(self: &Arc<Self>, connection: &Arc<Connection>, bytes: &[u8]) {
        self.counts.received.fetch_add(1, Relaxed);
        let message = match self.profile.spec.decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                self.counts.unreadable.fetch_add(1, Relaxed);
                tracing::warn!(%error, "a message cannot be read");
                return;
            }
        };
        let Some((operation, part)) = self.profile.operation_of(&message) else {
            self.counts.unreadable.fetch_add(1, Relaxed);
            tracing::warn!(mti = %message.mti(), "a message is of no known kind");
            return;
        };
        if part == Part::Answer {
            // To a cut-over, or an echo of ours.
            return;
        }
        if operation.is_network() {
            return self.session(connection, operation, &message);
        }
        let (host, connection) = (Arc::clone(self), Arc::clone(connection));
        self.tasks.spawn(async move { host.serve_business(connection, operation, message).await });
    }

    fn session(&self, connection: &Arc<Connection>, operation: Operation, message: &Message) {
        match operation {
            Operation::SignOn => {
                let values = self.profile.read_request(operation, message).unwrap_or_default();
                let terminal = values.get(Value::Terminal).map(str::to_owned);
                tracing::info!(terminal, "a line signed on");
                *locked(&connection.terminal) = terminal;
                connection.set_signed_on(true);
            }
            Operation::SignOff => connection.set_signed_on(false),
            _ => {}
        }
        let mut values = Values::new();
        values.set_settlement_date(self.business_date());
        let code = self.profile.code_for(operation, &Meaning::Done).unwrap_or("00").to_owned();
        self.say(connection, operation, message, &Said { code, values });
    }

    /// The request by which a new business day is told.
    pub(super) fn cut_over_message(&self, date: BusinessDate) -> Option<Message> {
        let mut values = Values::new();
        values.set_moment(self.now());
        values.set_settlement_date(date);
        values.set(Value::Trace, format!("{:06}", self.next_trace.fetch_add(1, Relaxed) % 1_000_000));
        values.set(Value::Terminal, "BANK");
        self.profile.request(Operation::CutOver, &values, false).ok()
    }

    async fn serve_business(
        self: Arc<Self>,
        connection: Arc<Connection>,
        operation: Operation,
        message: Message,
    ) {
        let sent = Sent { at: self.now(), instant: Instant::now() };
        if !connection.is_signed_on() {
            let said = Said { code: self.profile.sign_on_first_code().to_owned(), values: Values::new() };
            return self.say(&connection, operation, &message, &said);
        }
        let Ok(values) = self.profile.read_request(operation, &message) else {
            let said = self.refuse(operation, &Reason::BankRefused.into());
            return self.say(&connection, operation, &message, &said);
        };
        let course = self.course(operation, &values);
        let delay = self.delay();
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if course.arrival == Arrival::NearHorizon {
            sleep(self.profile.horizon * 9 / 10).await;
        }
        let said = match course.at_bank {
            AtBank::Executes => self.carry_out(operation, &values, course.status, sent).await,
            AtBank::Refuses(reason, code) => {
                Some(self.refuse(operation, &Refusal { reason, bank_code: code.map(Into::into) }))
            }
            AtBank::Loses => None,
        };
        self.tell(&connection, operation, &message, said, course.tell).await;
    }

    /// By its test number; else by the dice.
    fn course(&self, operation: Operation, values: &Values) -> Course {
        let ordinary = Course {
            arrival: Arrival::Promptly,
            at_bank: AtBank::Executes,
            tell: Tell::Prompt,
            status: Status::Truth,
        };
        let (Ok(nik), Ok(chassis)) = (values.nik(), values.chassis()) else {
            return if operation == Operation::Status { self.by_dice(operation, ordinary) } else { ordinary };
        };
        if operation == Operation::Inquiry && scenarios::of(&chassis).is_some() {
            return of_inquiry(self.bank.inquiry_course(&nik, &chassis), ordinary);
        }
        if scenarios::of(&chassis).is_some() {
            let Payment { arrival, at_bank, answer, status } = self.bank.payment_course(&chassis, "");
            if operation.is_question() {
                let tell = if status == Status::Silent { Tell::Never } else { Tell::Prompt };
                return Course { tell, status, ..ordinary };
            }
            // On a line that stands, there is no "never sent": the nearest is a refusal.
            let at_bank = match arrival {
                Arrival::NeverSent => {
                    AtBank::Refuses(Reason::BankRefused, Some(crate::core_banking::PROVIDER_DOWN_CODE))
                }
                _ => at_bank,
            };
            return Course { arrival, at_bank, tell: answer.into(), status };
        }
        if vehicles::is_documented(&chassis) {
            return ordinary;
        }
        self.by_dice(operation, ordinary)
    }

    fn by_dice(&self, operation: Operation, ordinary: Course) -> Course {
        let throw = fraction(locked(&self.dice).throw());
        let Some(fault) = befalls(&self.faults.borrow().rates(), throw) else { return ordinary };
        self.counts.faults.fetch_add(1, Relaxed);
        let tell = |tell| Course { tell, ..ordinary };
        let not_done =
            |tell| Course { at_bank: AtBank::Loses, tell, status: Status::Truth, arrival: Arrival::Promptly };
        match fault {
            Fault::Lost => not_done(Tell::Never),
            Fault::Late => tell(Tell::Late),
            // A question does not wait so long.
            Fault::NearHorizon if operation == Operation::Payment => {
                Course { arrival: Arrival::NearHorizon, tell: Tell::Never, ..ordinary }
            }
            Fault::NearHorizon | Fault::Silent => tell(Tell::Never),
            Fault::Twice => tell(Tell::Twice),
            Fault::Swapped => tell(Tell::Swapped),
            Fault::Crossed => tell(Tell::Crossed),
            Fault::Garbled => tell(Tell::Garbled),
            Fault::WrongAmount => tell(Tell::WrongAmount),
            Fault::WrongTrace => tell(Tell::WrongTrace),
            Fault::Echoed => tell(Tell::Echoed),
            Fault::Cut => tell(Tell::Cut),
            Fault::CutBefore => not_done(Tell::Cut),
            Fault::UnknownCode => not_done(Tell::UnknownCode),
            Fault::Refused if !operation.is_question() => Course {
                at_bank: AtBank::Refuses(Reason::BankRefused, Some(crate::core_banking::PROVIDER_DOWN_CODE)),
                ..ordinary
            },
            Fault::Refused => tell(Tell::Prompt),
            Fault::CutOver => tell(Tell::BehindCutOver),
        }
    }

    fn delay(&self) -> Duration {
        let faults = self.faults.borrow();
        let (from, to) = faults.delay_ms;
        if to == 0 && faults.slow == 0.0 {
            return Duration::ZERO;
        }
        let mut dice = locked(&self.dice);
        if fraction(dice.throw()) < faults.slow {
            return Duration::from_millis(faults.slow_ms);
        }
        Duration::from_millis(from + dice.below((to - from).saturating_add(1)))
    }

    /// What is true. `None`: silence.
    async fn carry_out(
        &self,
        operation: Operation,
        values: &Values,
        status: Status,
        sent: Sent,
    ) -> Option<Said> {
        match operation {
            Operation::Inquiry => self.inquire(values),
            Operation::Payment => {
                let request = request(values)?;
                match self.bank.execute(&request, sent).await {
                    Executed::Taken(taken) => Some(self.done(operation, &request, &taken)),
                    Executed::Refused(refusal) => Some(self.refuse(operation, &refusal)),
                    Executed::Dead | Executed::Broken => None,
                }
            }
            _ => self.asked(operation, values, status, sent).await,
        }
    }

    fn inquire(&self, values: &Values) -> Option<Said> {
        let (product, nik, chassis) = (values.product().ok()?, values.nik().ok()?, values.chassis().ok()?);
        let presented = match self.bank.show(&product, &nik, &chassis) {
            Shown::Bill(presented) => presented,
            Shown::Refused(refusal) => return Some(self.refuse(Operation::Inquiry, &refusal)),
            Shown::Broken => return None,
        };
        let bill = presented.bill;
        let mut told = Values::new()
            .with(Value::Amount, bill.taxes.total().get().to_string())
            .with(Value::PaymentCode, bill.payment_code.as_str())
            .with(Value::OwnerName, bill.owner_name.expose())
            .with(Value::OwnerAddress, bill.owner_address.expose())
            .with(Value::LicensePlate, bill.license_plate)
            .with(Value::Brand, bill.vehicle_brand)
            .with(Value::Model, bill.vehicle_model)
            .with(Value::Color, bill.vehicle_color)
            .with(Value::YearBuilt, format!("{:04}", bill.year_built));
        told.set_taxes(&bill.taxes);
        // A column that is there says that no end was set.
        told.set(Value::ValidUntil, "");
        if let Some(until) = presented.payable_until {
            told.set_valid_until(until);
        }
        let code = self.profile.code_for(Operation::Inquiry, &Meaning::Done)?.to_owned();
        Some(Said { code, values: told })
    }

    /// What became of a payment; an advice that executes carries it out, a reversal undoes it.
    async fn asked(&self, operation: Operation, values: &Values, status: Status, sent: Sent) -> Option<Said> {
        let original = original(operation, values);
        let identity = LineProfile::identity(&original)?;
        let payment_code = values.payment_code().ok()?;
        if operation == Operation::Reversal {
            self.bank.reverse(&identity).await?;
            return self.meaning(operation, &Meaning::NotPaid);
        }
        if operation == Operation::Advice && self.profile.advice_executes && status == Status::Truth {
            let request = request(values)?;
            return match self.bank.execute(&request, sent).await {
                Executed::Taken(taken) => Some(self.done(operation, &request, &taken)),
                Executed::Refused(refusal) if refusal.reason == Reason::BillAlreadyPaid => {
                    self.meaning(operation, &Meaning::PaidByAnother)
                }
                Executed::Refused(_) | Executed::Dead => self.meaning(operation, &Meaning::NotPaid),
                Executed::Broken => None,
            };
        }
        let standing = self.bank.standing(&identity, &payment_code).await?;
        // However late it was sent, by then it is done or dead.
        let may_be_under_way = || {
            let transmitted = original.transmitted_at(sent.at).unwrap_or(sent.at);
            sent.at <= transmitted.plus(self.profile.horizon * 5 / 4)
        };
        match (standing, status) {
            (Standing::Taken(taken), _) => {
                let code = self.profile.code_for(operation, &Meaning::Done)?.to_owned();
                let mut told = taken_values(&taken);
                told.set(Value::PaymentCode, payment_code.as_str());
                Some(Said { code, values: told })
            }
            (_, Status::PaidByAnother) | (Standing::PaidByAnother, _) => {
                self.meaning(operation, &Meaning::PaidByAnother)
            }
            (_, Status::PayerUnknown) => self.meaning(operation, &Meaning::PayerUnknown),
            (Standing::NotFound, Status::UnderWayThenTruth) if may_be_under_way() => {
                self.meaning(operation, &Meaning::UnderWay)
            }
            (Standing::NotFound, _) => self.meaning(operation, &Meaning::NotPaid),
        }
    }

    fn done(&self, operation: Operation, request: &Request, taken: &Taken) -> Said {
        let code = self.profile.code_for(operation, &Meaning::Done).unwrap_or("00").to_owned();
        let mut values = taken_values(taken);
        values.set(Value::PaymentCode, request.payment_code.as_str());
        Said { code, values }
    }

    fn meaning(&self, operation: Operation, meaning: &Meaning) -> Option<Said> {
        let code = self.profile.code_for(operation, meaning)?.to_owned();
        Some(Said { code, values: Values::new() })
    }

    /// In the bank's own code if that is known; else the one for the reason, or any refusal.
    fn refuse(&self, operation: Operation, refusal: &Refusal) -> Said {
        let own = refusal.bank_code.as_deref().and_then(|shown| self.profile.code_of_shown(shown));
        let own = own.filter(|code| self.profile.meaning(operation, code) != Meaning::Unknown);
        let by_reason =
            || self.profile.code_for(operation, &Meaning::Refused(refusal.reason)).map(str::to_owned);
        let any =
            || self.profile.code_for(operation, &Meaning::Refused(Reason::BankRefused)).map(str::to_owned);
        let not_paid = || self.profile.code_for(operation, &Meaning::NotPaid).map(str::to_owned);
        let code = own.or_else(by_reason).or_else(any).or_else(not_paid).unwrap_or_else(|| "96".to_owned());
        Said { code, values: Values::new() }
    }

    /// Says it, or what the course makes of it.
    async fn tell(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        operation: Operation,
        request: &Message,
        said: Option<Said>,
        tell: Tell,
    ) {
        let timeout = self.profile.answer_timeout;
        match tell {
            Tell::Never => return,
            Tell::Echoed => return connection.send(Outgoing::Message(request.clone())),
            Tell::Slow => sleep(timeout * 4 / 5).await,
            Tell::Late => sleep(timeout * 5 / 4).await,
            Tell::BehindCutOver => self.cut_over(self.now().date_in_jakarta().next()),
            _ => {}
        }
        let said = match (said, tell) {
            (_, Tell::UnknownCode) => Said { code: UNKNOWN_CODE.to_owned(), values: Values::new() },
            (Some(said), Tell::WrongAmount) => said.with_more(Rupiah::new(1)),
            (Some(said), _) => said,
            // Nothing was done and there is nothing to say, but for the hang-up.
            (None, Tell::Cut) => return connection.close(),
            (None, _) => return,
        };
        let Ok(mut answer) = self.profile.answer(operation, request, &said.code, &said.values) else {
            return tracing::error!(operation = operation.name(), "an answer does not fit the profile");
        };
        match tell {
            Tell::WrongTrace => answer.set(11, "999999"),
            Tell::WrongReference => answer.set(37, "000000000000"),
            _ => {}
        }
        self.counts.answered.fetch_add(1, Relaxed);
        match tell {
            Tell::Garbled => {
                let mut bytes = Vec::new();
                if self.profile.spec.encode(&answer, &mut bytes).is_ok() {
                    let damaged = damaged(&self.profile.frame, &bytes, &mut locked(&self.dice));
                    connection.send(Outgoing::Bytes(damaged));
                }
            }
            Tell::Cut => {
                let at = usize::try_from(locked(&self.dice).below(4_096)).expect("below 4096");
                connection.send(Outgoing::Cut(answer, at));
            }
            Tell::Twice => {
                connection.send(Outgoing::Message(answer.clone()));
                sleep(Duration::from_millis(200).min(timeout)).await;
                connection.send(Outgoing::Message(answer));
            }
            Tell::Swapped | Tell::Crossed => {
                let held =
                    Held { connection: Arc::clone(connection), answer, is_crossed: tell == Tell::Crossed };
                release(locked(&self.held).replace(held));
                sleep(SWAP_WAIT).await;
                release(locked(&self.held).take());
            }
            _ => self.send(connection, answer),
        }
    }

    /// Sends an answer; one that waited to change places with it comes behind.
    fn send(&self, connection: &Arc<Connection>, mut answer: Message) {
        let held = locked(&self.held).take();
        let Some(mut held) = held else { return connection.send(Outgoing::Message(answer)) };
        if held.is_crossed {
            let traces = (held.answer.get(11).map(str::to_owned), answer.get(11).map(str::to_owned));
            if let (Some(one), Some(other)) = traces {
                held.answer.set(11, &other);
                answer.set(11, &one);
            }
        }
        connection.send(Outgoing::Message(answer));
        release(Some(held));
    }

    fn say(&self, connection: &Arc<Connection>, operation: Operation, request: &Message, said: &Said) {
        match self.profile.answer(operation, request, &said.code, &said.values) {
            Ok(answer) => {
                self.counts.answered.fetch_add(1, Relaxed);
                connection.send(Outgoing::Message(answer));
            }
            Err(error) => tracing::error!(%error, "an answer does not fit the profile"),
        }
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

fn release(held: Option<Held>) {
    if let Some(held) = held {
        held.connection.send(Outgoing::Message(held.answer));
    }
}

fn of_inquiry(inquiry: Inquiry, ordinary: Course) -> Course {
    let tell = |tell| Course {
        tell,
        ..Course {
            arrival: Arrival::Promptly,
            at_bank: AtBank::Executes,
            tell: Tell::Prompt,
            status: Status::Truth,
        }
    };
    match inquiry {
        Inquiry::Ordinary => ordinary,
        Inquiry::Slow => tell(Tell::Slow),
        Inquiry::Refused(reason, code) => Course { at_bank: AtBank::Refuses(reason, code), ..ordinary },
        Inquiry::NeverSent => Course {
            at_bank: AtBank::Refuses(Reason::BankRefused, Some(crate::core_banking::PROVIDER_DOWN_CODE)),
            ..ordinary
        },
        Inquiry::Silent => tell(Tell::Never),
        Inquiry::Cut => tell(Tell::Cut),
        Inquiry::Garbled => tell(Tell::Garbled),
        Inquiry::UnknownCode => tell(Tell::UnknownCode),
    }
}

/// The identity's values of the payment that a message is, or asks about.
fn original(operation: Operation, values: &Values) -> Values {
    let mut original = values.clone();
    if operation == Operation::Status {
        for (own, of_original) in [
            (Value::Trace, Value::OriginalTrace),
            (Value::Transmission, Value::OriginalTransmission),
            (Value::Reference, Value::OriginalReference),
        ] {
            if let Some(text) = values.get(of_original) {
                original.set(own, text);
            }
        }
    }
    original
}

fn request(values: &Values) -> Option<Request> {
    Some(Request {
        identity: LineProfile::identity(values)?,
        invoice: InvoiceNumber::new(values.get(Value::Reference)?.parse().unwrap_or_default()),
        product: values.product().ok()?,
        nik: values.nik().ok()?,
        chassis: values.chassis().ok()?,
        payment_code: values.payment_code().ok()?,
        amount: values.rupiah(Value::Amount).ok()?,
    })
}

fn taken_values(taken: &Taken) -> Values {
    Values::new()
        .with(Value::Amount, taken.amount.get().to_string())
        .with(Value::BankReference, taken.receipt.reference_number.as_str())
}
