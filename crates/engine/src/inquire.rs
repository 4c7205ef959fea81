//! Inquire: ask the Samsat for a bill and record the answer as an invoice.
//!
//! What is refused here gets no invoice; what the bank was asked does, refusals and silence included.

use crate::{About, Engine, Refused, View, limits, settle};
use bank::{InquiryOutcome, InquiryRequest};
use domain::{
    ChassisNumber, Command, Invoice, Nik, Partner, Product, ProductCode, Reason, Refusal, Rupiah, State,
    UpstreamTerms, command::RecordInquiry, invoice::Presentment,
};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// Which vehicle's bill a partner asks for.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// The product.
    pub product: ProductCode,
    /// KTP number of the owner.
    pub nik: Nik,
    /// Chassis number.
    pub chassis: ChassisNumber,
}

impl Engine {
    /// Asks for a bill. Answers within `answer_within` of `arrived_at`.
    pub async fn inquire(
        &self,
        partner: &Partner,
        inquiry: Inquiry,
        arrived_at: Instant,
    ) -> Result<View, Refused> {
        let about = About {
            product: Some(inquiry.product.clone()),
            invoice: None,
            nik: Some(inquiry.nik.clone()),
            chassis: Some(inquiry.chassis.clone()),
        };
        // The bank is bounded in there, and has its time; what is left is for a store that hangs.
        let by = arrived_at + self.settings.answer_within + limits::last_look_max;
        let answered = timeout_at(by, self.ask_for_bill(partner, inquiry, arrived_at)).await;
        answered.unwrap_or_else(|_| Err(Refused::unavailable())).map_err(|refused| {
            let invoice = refused.about.invoice;
            refused.about(About { invoice, ..about })
        })
    }

    async fn ask_for_bill(
        &self,
        partner: &Partner,
        inquiry: Inquiry,
        arrived_at: Instant,
    ) -> Result<View, Refused> {
        let product = self.product(partner.environment, &inquiry.product).await?;
        if !product.on {
            return Err(Refused::answer(Reason::ProductOff));
        }
        let bank = self.banks.get(&product.upstream).ok_or(Refused::answer(Reason::BankUnreachable))?;
        let admission = &self.admissions[&product.upstream];
        let _admitted = admission.admit(partner.id).ok_or(Refused::busy())?;
        let number = self.numbers.next(&self.journal).await?;

        let request = InquiryRequest {
            invoice: number,
            product: inquiry.product.clone(),
            nik: inquiry.nik.clone(),
            chassis: inquiry.chassis.clone(),
        };
        let outcome = tokio::select! {
            biased;
            outcome = bank.inquire(request) => outcome,
            () = self.waited_enough(arrived_at + self.settings.answer_within) => {
                InquiryOutcome::Unknown(bank::Unknown::TimedOut)
            }
        };
        if matches!(outcome, InquiryOutcome::NeverSent) {
            return Err(Refused::answer(Reason::BankUnreachable));
        }

        let now = self.clock.now();
        let mut invoice = Invoice {
            number,
            environment: partner.environment,
            partner: partner.id,
            product: inquiry.product.clone(),
            upstream: product.upstream,
            inquired_at: now,
            business_date: bank.business_date(now),
            payable_until: None,
            payment_code: None,
            chassis: inquiry.chassis.clone(),
            total: Rupiah::ZERO,
            fee: Rupiah::ZERO,
            cashback: Rupiah::ZERO,
            upstream_terms: UpstreamTerms::default(),
            state: State::Inquiry,
            sequence: 0,
        };
        let nothing = || Presentment::Refused { nik: inquiry.nik.clone(), chassis: inquiry.chassis.clone() };
        let presentment = match outcome {
            InquiryOutcome::Presented { bill, payable_until, terms } => {
                if let Some(total) = payable_total(&bill, &inquiry, &product, terms) {
                    invoice.total = total;
                    invoice.fee = product.fee;
                    invoice.cashback = product.cashback;
                    invoice.upstream_terms = terms;
                    invoice.payable_until = payable_until;
                    invoice.payment_code = Some(bill.payment_code.clone());
                    Presentment::Bill(bill)
                } else {
                    let garbled = bank::Unknown::Garbled("the bill is for another vehicle or amount".into());
                    self.raise_inquiry_incident(&garbled);
                    invoice.state = State::Failure { refusal: Reason::BankSilent.into() };
                    nothing()
                }
            }
            InquiryOutcome::Refused(refusal) => {
                invoice.state = State::Failure { refusal };
                nothing()
            }
            InquiryOutcome::NeverSent => unreachable!("handled above"),
            InquiryOutcome::Unknown(unknown) => {
                self.raise_inquiry_incident(&unknown);
                invoice.state = State::Failure { refusal: Reason::BankSilent.into() };
                nothing()
            }
        };
        let record = RecordInquiry { invoice, presentment };
        self.record(record).await
    }

    /// Makes the invoice durable before anybody hears of it.
    async fn record(&self, record: RecordInquiry) -> Result<View, Refused> {
        let view =
            View { invoice: record.invoice.clone(), presentment: Arc::new(record.presentment.clone()) };
        self.journal.submit(Command::RecordInquiry(Box::new(record))).await?;
        let number = view.invoice.number;
        tracing::info!(invoice = %number, partner = view.invoice.partner.0, state = view.invoice.state.word(), "inquiry");
        if let State::Failure { refusal } = &view.invoice.state {
            metrics::counter!("esamsat_inquiries_total", "result" => refusal.reason.code()).increment(1);
            let about = About { invoice: Some(number), ..About::default() };
            return Err(Refused::answer(refusal.clone()).about(about));
        }
        metrics::counter!("esamsat_inquiries_total", "result" => "ok").increment(1);
        self.invoices.remember(&view);
        Ok(view)
    }

    pub(crate) async fn product(
        &self,
        environment: domain::Environment,
        code: &ProductCode,
    ) -> Result<Product, Refused> {
        let products = self.catalogue.products().await?;
        let product = products.iter().find(|p| p.environment == environment && p.code == *code);
        product.cloned().ok_or(Refused::answer(Refusal::new(Reason::ProductUnknown)))
    }

    fn raise_inquiry_incident(&self, unknown: &bank::Unknown) {
        if let Some((kind, detail)) = settle::incident_of(unknown) {
            self.raise_incident(None, kind, format!("at inquiry: {detail}"));
        }
    }
}

/// What the partner is debited for a bill; `None` if the bill cannot be right.
fn payable_total(
    bill: &domain::Bill,
    inquiry: &Inquiry,
    product: &Product,
    terms: UpstreamTerms,
) -> Option<Rupiah> {
    let due = bill.taxes.total();
    let in_limits = (1..=domain::limits::amount_rupiah_max).contains(&due.get());
    let terms_in_limits =
        [terms.fee, terms.cashback].iter().all(|amount| (0..=due.get()).contains(&amount.get()));
    let same_vehicle = bill.chassis == inquiry.chassis && bill.nik == inquiry.nik;
    (in_limits && terms_in_limits && same_vehicle).then(|| due + product.fee)
}
