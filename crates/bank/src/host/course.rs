//! How a message goes: by its test number, else by the dice, else without incident.

use super::{Host, HostFaults, faults::Fault};
use crate::{
    core_banking::{
        Dice, PROVIDER_DOWN_CODE, befalls, fraction,
        scenarios::{self, Answer, Arrival, AtBank, Inquiry, Payment, Scenario, Status},
        vehicles,
    },
    profile::{Operation, Values},
};
use domain::Reason;
use std::time::Duration;

/// How a message goes.
#[derive(Clone, Debug)]
pub(super) struct Course {
    pub(super) delay: Duration,
    pub(super) arrival: Arrival,
    pub(super) at_bank: AtBank,
    pub(super) tell: Tell,
    pub(super) status: Status,
    /// In which code, of a random refusal or one that nobody knows.
    pub(super) code: Option<String>,
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    Prompt,
    Slow,
    Late,
    Never,
    Twice,
    Swapped,
    Crossed,
    Garbled,
    Corrupted,
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

impl Course {
    fn ordinary(delay: Duration) -> Self {
        Self {
            delay,
            arrival: Arrival::Promptly,
            at_bank: AtBank::Executes,
            tell: Tell::Prompt,
            status: Status::Truth,
            code: None,
        }
    }

    fn told(self, tell: Tell) -> Self {
        Self { tell, ..self }
    }

    fn lost(self, tell: Tell) -> Self {
        Self { at_bank: AtBank::Loses, tell, ..self }
    }

    fn refused(self, reason: Reason, code: Option<&'static str>) -> Self {
        Self { at_bank: AtBank::Refuses(reason, code), ..self }
    }

    /// On a line that stands there is no "never sent": the nearest is a refusal.
    fn unreachable(self) -> Self {
        self.refused(Reason::BankRefused, Some(PROVIDER_DOWN_CODE))
    }

    fn of_inquiry(self, inquiry: Inquiry) -> Self {
        match inquiry {
            Inquiry::Ordinary => self,
            Inquiry::Slow => self.told(Tell::Slow),
            Inquiry::Refused(reason, code) => self.refused(reason, code),
            Inquiry::NeverSent => self.unreachable(),
            Inquiry::Silent => self.told(Tell::Never),
            Inquiry::Cut => self.told(Tell::Cut),
            Inquiry::Garbled => self.told(Tell::Garbled),
            Inquiry::UnknownCode => self.told(Tell::UnknownCode),
        }
    }

    fn of_payment(self, Payment { arrival, at_bank, answer, status }: Payment) -> Self {
        let course = Self { arrival, at_bank, status, ..self }.told(answer.into());
        if arrival == Arrival::NeverSent { course.unreachable() } else { course }
    }

    /// Of a question about a payment with this course. Who refused it does not carry it out when asked.
    fn of_question(self, payment: Payment) -> Self {
        let tell = if payment.status == Status::Silent { Tell::Never } else { Tell::Prompt };
        let refuses = matches!(payment.at_bank, AtBank::Refuses(..)) || payment.arrival == Arrival::NeverSent;
        let at_bank = if refuses { payment.at_bank } else { AtBank::Executes };
        Self { tell, at_bank, status: payment.status, ..self }
    }

    fn of_fault(self, fault: Fault, operation: Operation) -> Self {
        match fault {
            Fault::Lost => self.lost(Tell::Never),
            Fault::Late => self.told(Tell::Late),
            // A question does not wait so long.
            Fault::NearHorizon if operation == Operation::Payment => {
                Self { arrival: Arrival::NearHorizon, ..self }.told(Tell::Never)
            }
            Fault::Silent | Fault::NearHorizon => self.told(Tell::Never),
            Fault::Twice => self.told(Tell::Twice),
            Fault::Swapped => self.told(Tell::Swapped),
            Fault::Crossed => self.told(Tell::Crossed),
            Fault::Garbled => self.told(Tell::Garbled),
            Fault::Corrupted => self.told(Tell::Corrupted),
            Fault::WrongAmount => self.told(Tell::WrongAmount),
            Fault::WrongTrace => self.told(Tell::WrongTrace),
            Fault::Echoed => self.told(Tell::Echoed),
            Fault::Cut => self.told(Tell::Cut),
            Fault::CutBefore => self.lost(Tell::Cut),
            Fault::UnknownCode => self.lost(Tell::UnknownCode),
            // To refuse a question says nothing that an unknown code does not.
            Fault::Refused if operation.is_question() => self,
            Fault::Refused => self.unreachable(),
            Fault::CutOver => self.told(Tell::BehindCutOver),
        }
    }
}

impl Host {
    /// How a message goes.
    pub(super) fn course(&self, operation: Operation, values: &Values, dice: &mut Dice) -> Course {
        let faults = self.faults.borrow();
        // Thrown whether or not they are needed, so that one fault more changes no other.
        let (fault, code) = (fraction(dice.throw()), dice.throw());
        let ordinary = Course::ordinary(delay(&faults, dice));
        if let Some(scenario) = scenario(values) {
            return match (operation, values.nik(), values.chassis()) {
                (Operation::Inquiry, Ok(nik), Ok(chassis)) => {
                    ordinary.of_inquiry(self.bank.inquiry_course(&nik, &chassis))
                }
                _ if operation.is_question() => ordinary.of_question(scenario.payment),
                _ => ordinary.of_payment(scenario.payment),
            };
        }
        if is_documented(values) {
            return ordinary;
        }
        let Some(fault) = befalls(&faults.rates(), fault) else { return ordinary };
        self.count(|counts| &counts.faults);
        let codes = match fault {
            Fault::Refused => faults.refusal_codes.as_slice(),
            Fault::UnknownCode => faults.unknown_codes.as_slice(),
            _ => &[],
        };
        let code = pick(codes, code).cloned();
        Course { code, ..ordinary.of_fault(fault, operation) }
    }
}

fn pick(codes: &[String], throw: u64) -> Option<&String> {
    let index = throw.checked_rem(codes.len() as u64)?;
    codes.get(usize::try_from(index).ok()?)
}

fn scenario(values: &Values) -> Option<&'static Scenario> {
    match values.chassis() {
        Ok(chassis) => scenarios::of(&chassis),
        Err(_) => scenarios::of_payment_code(&values.payment_code().ok()?),
    }
}

fn is_documented(values: &Values) -> bool {
    match (values.chassis(), values.payment_code()) {
        (Ok(chassis), _) => vehicles::is_documented(&chassis),
        (_, Ok(payment_code)) => vehicles::is_documented_bill(&payment_code),
        _ => false,
    }
}

fn delay(faults: &HostFaults, dice: &mut Dice) -> Duration {
    let (slow, throw) = (fraction(dice.throw()), dice.throw());
    let (from, to) = faults.delay_ms;
    if slow < faults.slow {
        return Duration::from_millis(faults.slow_ms);
    }
    Duration::from_millis(from + throw % (to - from).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_own_course() {
        let ordinary = Course::ordinary(Duration::ZERO);
        let faults = HostFaults::default();
        let courses: Vec<String> = faults
            .rates()
            .iter()
            .map(|(_, fault)| format!("{:?}", ordinary.clone().of_fault(*fault, Operation::Payment)))
            .collect();
        for (index, course) in courses.iter().enumerate() {
            assert_ne!(*course, format!("{ordinary:?}"), "{index}");
            assert!(!courses[..index].contains(course), "{course}");
        }
    }

    #[test]
    fn a_test_number_is_known_by_its_vehicle_and_by_its_bill() {
        use crate::profile::Value;
        let by_vehicle = Values::new().with(Value::Chassis, "UJI4120001");
        let by_bill = Values::new().with(Value::PaymentCode, "94121234567890123456");
        for values in [by_vehicle, by_bill] {
            assert_eq!(scenario(&values).unwrap().payment.status, Status::PayerUnknown);
        }
        for other in ["9412123456789012345", "32412123456789012345", "99991234567890123456"] {
            assert!(scenario(&Values::new().with(Value::PaymentCode, other)).is_none(), "{other}");
        }
        assert!(is_documented(&Values::new().with(Value::PaymentCode, "322020060719000")));
    }
}
