//! The values that gateway and bank exchange, by name, as texts; what a dialect makes of them is its own affair.

use domain::{BusinessDate, ChassisNumber, Nik, PaymentCode, ProductCode, Rupiah, Taxes, Timestamp};
use jiff::{civil::DateTime, tz::TimeZone};

macro_rules! values {
    ($($(#[$doc:meta])* $name:ident $text:literal,)*) => {
        /// The values there are.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Value { $($(#[$doc])* $name,)* }

        impl Value {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            /// As profiles write it, between braces.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

values! {
    /// What the bank is to take, in whole Rupiah.
    Amount "amount",
    /// The bank's code for the bill.
    PaymentCode "payment_code",
    /// KTP number.
    Nik "nik",
    /// Chassis number.
    Chassis "chassis",
    /// Our product code; the bank's own stands in the profile.
    Product "product",
    /// When the message was first made: `MMDDhhmmss`, GMT.
    Transmission "transmission",
    /// Trace number (STAN), six digits.
    Trace "trace",
    /// Retrieval reference (RRN), twelve characters.
    Reference "reference",
    /// Terminal id of the line.
    Terminal "terminal",
    /// `hhmmss`, WIB.
    LocalTime "local_time",
    /// `MMDD`, WIB.
    LocalDate "local_date",
    /// The bank's business day, `MMDD`.
    SettlementDate "settlement_date",
    /// Who we are to the bank.
    Institution "institution",
    /// Message type of the original.
    OriginalMti "original_mti",
    /// [`Value::Trace`] of the original, where the question has its own.
    OriginalTrace "original_trace",
    /// [`Value::Transmission`] of the original, likewise.
    OriginalTransmission "original_transmission",
    /// [`Value::Reference`] of the original, likewise.
    OriginalReference "original_reference",
    /// Response code.
    Code "code",
    /// The bank's reference of a payment.
    BankReference "bank_reference",
    /// The owner's name.
    OwnerName "owner_name",
    /// The owner's address.
    OwnerAddress "owner_address",
    /// Licence plate.
    LicensePlate "license_plate",
    /// Make.
    Brand "brand",
    /// Model.
    Model "model",
    /// Colour.
    Color "color",
    /// Four digits.
    YearBuilt "year_built",
    /// Yearly vehicle tax.
    Pkb "pkb",
    /// Regional surcharge on it.
    OpsenPkb "opsen_pkb",
    /// Road accident fund.
    Swdkllj "swdkllj",
    /// Title transfer duty.
    Bbn "bbn",
    /// Late fine on PKB.
    PkbPenalty "pkb_penalty",
    /// Late fine on the surcharge.
    OpsenPkbPenalty "opsen_pkb_penalty",
    /// Late fine on SWDKLLJ.
    SwdklljPenalty "swdkllj_penalty",
    /// Late fine on BBN.
    BbnPenalty "bbn_penalty",
    /// When the payment code dies, `YYYYMMDDhhmmss`, WIB.
    ValidUntil "valid_until",
}

impl Value {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.name() == text)
    }

    /// The value of the message itself that a value of the original takes the place of.
    pub(crate) const fn own(self) -> Option<Self> {
        match self {
            Self::OriginalTrace => Some(Self::Trace),
            Self::OriginalTransmission => Some(Self::Transmission),
            Self::OriginalReference => Some(Self::Reference),
            _ => None,
        }
    }
}

/// Some values and their texts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Values {
    texts: Vec<(Value, String)>,
}

/// Which values there are; the texts may be personal.
impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.texts.iter().map(|(value, _)| value)).finish()
    }
}

impl FromIterator<(Value, String)> for Values {
    fn from_iter<I: IntoIterator<Item = (Value, String)>>(texts: I) -> Self {
        Self { texts: texts.into_iter().collect() }
    }
}

/// What a value should have been.
pub type Malformed = Value;

const TAXES: [Value; 8] = [
    Value::Pkb,
    Value::OpsenPkb,
    Value::Swdkllj,
    Value::Bbn,
    Value::PkbPenalty,
    Value::OpsenPkbPenalty,
    Value::SwdklljPenalty,
    Value::BbnPenalty,
];

impl Values {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a value.
    pub fn set(&mut self, value: Value, text: impl Into<String>) {
        let text = text.into();
        match self.texts.iter_mut().find(|(known, _)| *known == value) {
            Some((_, known)) => *known = text,
            None => self.texts.push((value, text)),
        }
    }

    /// The same with a value.
    #[must_use]
    pub fn with(mut self, value: Value, text: impl Into<String>) -> Self {
        self.set(value, text);
        self
    }

    /// A value's text.
    pub fn get(&self, value: Value) -> Option<&str> {
        self.texts.iter().find(|(known, _)| *known == value).map(|(_, text)| text.as_str())
    }

    /// A value's text, or what is missing.
    pub fn need(&self, value: Value) -> Result<&str, Malformed> {
        self.get(value).ok_or(value)
    }

    /// An amount in whole Rupiah.
    pub fn rupiah(&self, value: Value) -> Result<Rupiah, Malformed> {
        let text = self.need(value)?;
        let is_plain = (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_plain).map(Rupiah::new).ok_or(value)
    }

    /// The eight parts of a bill; a dialect without a part has none of it.
    pub fn taxes(&self) -> Result<Taxes, Malformed> {
        let part = |value| match self.get(value) {
            Some(_) => self.rupiah(value),
            None => Ok(Rupiah::ZERO),
        };
        Ok(Taxes {
            pkb: part(Value::Pkb)?,
            opsen_pkb: part(Value::OpsenPkb)?,
            swdkllj: part(Value::Swdkllj)?,
            bbn: part(Value::Bbn)?,
            pkb_penalty: part(Value::PkbPenalty)?,
            opsen_pkb_penalty: part(Value::OpsenPkbPenalty)?,
            swdkllj_penalty: part(Value::SwdklljPenalty)?,
            bbn_penalty: part(Value::BbnPenalty)?,
        })
    }

    /// Sets the eight parts of a bill.
    pub fn set_taxes(&mut self, taxes: &Taxes) {
        let amounts = [
            taxes.pkb,
            taxes.opsen_pkb,
            taxes.swdkllj,
            taxes.bbn,
            taxes.pkb_penalty,
            taxes.opsen_pkb_penalty,
            taxes.swdkllj_penalty,
            taxes.bbn_penalty,
        ];
        for (value, amount) in TAXES.into_iter().zip(amounts) {
            self.set(value, amount.get().to_string());
        }
    }

    /// The KTP number.
    pub fn nik(&self) -> Result<Nik, Malformed> {
        Nik::parse(self.need(Value::Nik)?).ok_or(Value::Nik)
    }

    /// The chassis number.
    pub fn chassis(&self) -> Result<ChassisNumber, Malformed> {
        ChassisNumber::parse(self.need(Value::Chassis)?).ok_or(Value::Chassis)
    }

    /// The payment code.
    pub fn payment_code(&self) -> Result<PaymentCode, Malformed> {
        PaymentCode::parse(self.need(Value::PaymentCode)?).ok_or(Value::PaymentCode)
    }

    /// The product.
    pub fn product(&self) -> Result<ProductCode, Malformed> {
        ProductCode::parse(self.need(Value::Product)?).ok_or(Value::Product)
    }

    /// When the payment code dies, if the bank says so.
    pub fn valid_until(&self) -> Result<Option<Timestamp>, Malformed> {
        let Some(text) = self.get(Value::ValidUntil).filter(|text| !text.is_empty()) else { return Ok(None) };
        let moment = jiff::fmt::strtime::parse("%Y%m%d%H%M%S", text).and_then(|parsed| parsed.to_datetime());
        let moment = moment.and_then(|local| local.to_zoned(jakarta()));
        moment
            .map(|zoned| Some(Timestamp::from_millis(zoned.timestamp().as_millisecond())))
            .map_err(|_| Value::ValidUntil)
    }

    /// Sets when the payment code dies.
    pub fn set_valid_until(&mut self, until: Timestamp) {
        self.set(Value::ValidUntil, until.in_jakarta().strftime("%Y%m%d%H%M%S").to_string());
    }

    /// Sets when a message is made: transmission time, local time and date.
    pub fn set_moment(&mut self, now: Timestamp) {
        let local = now.in_jakarta();
        self.set(Value::LocalTime, local.strftime("%H%M%S").to_string());
        self.set(Value::LocalDate, local.strftime("%m%d").to_string());
        self.set(Value::Transmission, gmt(local).strftime("%m%d%H%M%S").to_string());
    }

    /// Sets the local time and date that belong to the transmission time, of whichever year it is.
    pub fn set_local_of_transmission(&mut self, now: Timestamp) -> Result<(), Malformed> {
        let moment = self.transmitted(now).ok_or(Value::Transmission)?;
        let local =
            moment.checked_add(jiff::Span::new().hours(JAKARTA_HOURS)).map_err(|_| Value::Transmission)?;
        self.set(Value::LocalTime, local.strftime("%H%M%S").to_string());
        self.set(Value::LocalDate, local.strftime("%m%d").to_string());
        Ok(())
    }

    /// When the message was first made.
    pub fn transmitted_at(&self, now: Timestamp) -> Option<Timestamp> {
        let zoned = self.transmitted(now)?.to_zoned(TimeZone::UTC).ok()?;
        Some(Timestamp::from_millis(zoned.timestamp().as_millisecond()))
    }

    /// The transmission time, GMT, of whichever year it is.
    fn transmitted(&self, now: Timestamp) -> Option<DateTime> {
        let text = self.get(Value::Transmission)?;
        let year = now.in_jakarta().year();
        // One of the last days of December may be asked about in January.
        let of = |year: i16| {
            let parsed = jiff::fmt::strtime::parse("%Y%m%d%H%M%S", format!("{year:04}{text}"));
            parsed.and_then(|parsed| parsed.to_datetime()).ok()
        };
        let is_near = |moment: &DateTime| (*moment - jiff::Span::new().days(2)) <= gmt(now.in_jakarta());
        of(year).filter(is_near).or_else(|| of(year - 1))
    }

    /// Sets the bank's business day.
    pub fn set_settlement_date(&mut self, date: BusinessDate) {
        self.set(Value::SettlementDate, date.date().strftime("%m%d").to_string());
    }

    /// The bank's business day, of the year in which it is nearest.
    pub fn settlement_date(&self, now: Timestamp) -> Option<BusinessDate> {
        let text = self.get(Value::SettlementDate)?;
        let today = now.in_jakarta().date();
        let of = |year: i16| {
            jiff::fmt::strtime::parse("%Y%m%d", format!("{year:04}{text}"))
                .and_then(|parsed| parsed.to_date())
                .ok()
        };
        let days = |date: &jiff::civil::Date| (*date - today).get_days().abs();
        let dates = [today.year() - 1, today.year(), today.year() + 1].into_iter().filter_map(of);
        dates.min_by_key(days).filter(|date| days(date) <= 7).map(BusinessDate::new)
    }
}

const JAKARTA_HOURS: i64 = 7;

fn gmt(local: DateTime) -> DateTime {
    local - jiff::Span::new().hours(JAKARTA_HOURS)
}

fn jakarta() -> TimeZone {
    TimeZone::fixed(jiff::tz::offset(7))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        // 2026-11-25 05:22:29 GMT.
        let now = Timestamp::from_millis(1_795_584_149_000);
        let mut values = Values::new();
        values.set_moment(now);
        assert_eq!(values.get(Value::Transmission), Some("1125052229"));
        assert_eq!(
            (values.get(Value::LocalDate), values.get(Value::LocalTime)),
            (Some("1125"), Some("122229"))
        );
        let mut again = Values::new().with(Value::Transmission, "1231200000");
        // Asked about on 1 January, 03:00 GMT.
        again.set_local_of_transmission(Timestamp::from_millis(1_798_772_400_000)).unwrap();
        assert_eq!(
            (again.get(Value::LocalDate), again.get(Value::LocalTime)),
            (Some("0101"), Some("030000"))
        );
        values.set_settlement_date(BusinessDate::from_number(20_270_101).unwrap());
        let new_years_eve = BusinessDate::from_number(20_261_231).unwrap().begins_at();
        assert_eq!(values.settlement_date(new_years_eve), BusinessDate::from_number(20_270_101));
        assert_eq!(values.settlement_date(now), None, "a month away");
        values.set_valid_until(now);
        assert_eq!(values.valid_until(), Ok(Some(now)));
        values.set(Value::ValidUntil, "20261399000000");
        assert_eq!(values.valid_until(), Err(Value::ValidUntil));
    }
}
