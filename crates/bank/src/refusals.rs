//! Which reasons an upstream's refusal may have when it comes to a partner.

use domain::Reason;

/// Whether a reason is about the bill, the vehicle, its owner or the Samsat.
pub(crate) const fn is_of_bill(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::VehicleNotFound
            | Reason::NikMismatch
            | Reason::VehicleBlocked
            | Reason::FiveYearlyRenewal
            | Reason::TooEarly
            | Reason::TooLate
            | Reason::CompanyOwner
            | Reason::PlateColour
            | Reason::OtherProvince
            | Reason::BillAlreadyPaid
            | Reason::BillBeingPaid
            | Reason::CutOff
            | Reason::BankRefused
    )
}

const fn is_told(reason: Reason) -> bool {
    is_of_bill(reason)
        || matches!(reason, Reason::BankUnreachable | Reason::BankSilent | Reason::PaymentNotExecuted)
}

/// Whether an operator's table may have it; the error says what else to take.
pub(crate) fn may_be_told(reason: Reason) -> Result<(), String> {
    if is_told(reason) {
        return Ok(());
    }
    let told: Vec<_> =
        Reason::ALL.iter().filter(|reason| is_told(**reason)).map(|reason| reason.code()).collect();
    Err(format!("is nothing to tell a partner of what was refused there; take one of {}", told.join(", ")))
}
