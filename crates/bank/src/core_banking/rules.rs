//! The rules of the provinces: what `rules.toml` says, read once, and whether a vehicle may be paid online.
//!
//! Every province's limits are data here and nowhere else. Deliberately absent: arrears of several years
//! and progressive rates, since no bill of the kind can be paid online anyway.

use super::vehicles::{Owner, PlateColour, Vehicle, VehicleKind};
use domain::{Reason, Timestamp};
use jiff::{
    ToSpan,
    civil::{Date, Time},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{str::FromStr, sync::LazyLock};

static RULES: LazyLock<Rules> =
    LazyLock::new(|| toml::from_str(include_str!("rules.toml")).expect("the embedded rules are tested"));

/// The embedded rules.
pub(super) fn rules() -> &'static Rules {
    &RULES
}

/// Everything that `rules.toml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    /// How much a kind of vehicle wears the road, in hundredths.
    pub(super) weight_hundredths: PerKind,
    /// The road accident fund's tariff.
    pub(super) swdkllj: Swdkllj,
    province: Vec<Province>,
}

impl Rules {
    /// The rules of a product's province.
    pub(super) fn province(&self, product: &str) -> Option<&Province> {
        self.province.iter().find(|province| province.product == product)
    }

    /// The province at an index, round and round: the population's.
    pub(super) fn province_at(&self, index: usize) -> &Province {
        &self.province[index % self.province.len()]
    }
}

/// One number per kind of vehicle.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PerKind {
    motorcycle: i64,
    motorcycle_over_250cc: i64,
    passenger_car: i64,
    pickup: i64,
}

impl PerKind {
    /// The number of a kind.
    pub(super) const fn of(&self, kind: VehicleKind) -> i64 {
        match kind {
            VehicleKind::Motorcycle => self.motorcycle,
            VehicleKind::MotorcycleOver250cc => self.motorcycle_over_250cc,
            VehicleKind::PassengerCar => self.passenger_car,
            VehicleKind::Pickup => self.pickup,
        }
    }
}

/// The road accident fund's tariff, the same in all provinces.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Swdkllj {
    /// The part of the contribution that is the card fee, on which no fine is due.
    pub(super) card_rupiah: i64,
    /// The highest fine.
    pub(super) late_rupiah_max: i64,
    /// The fines by days late, ascending.
    pub(super) late_tiers: Vec<LateTier>,
    /// The contribution, card fee included.
    pub(super) rupiah: PerKind,
}

/// The fine up to a number of days late.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LateTier {
    /// The last day of the tier.
    pub(super) days_max: i32,
    /// The fine.
    pub(super) percent: i64,
}

/// One province.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Province {
    /// The product that sells its bills.
    pub(super) product: String,
    /// Two digits, as in KTP numbers.
    pub(super) code: String,
    window_before_months: i32,
    late_months_max: i32,
    /// How long a payment code lives; without it, the business day alone is the limit.
    pub(super) payment_code_life_minutes: Option<u64>,
    closed: Option<Closed>,
    companies: bool,
    plate_colours: Vec<PlateColour>,
    /// How amounts are rounded.
    pub(super) rounding: Rounding,
    /// Plate letters, with a place that has them.
    pub(super) plates: Vec<Plate>,
    law: Vec<Law>,
}

impl Province {
    /// The law that a bill due on a day is assessed by.
    pub(super) fn law_on(&self, due: Date) -> &Law {
        self.law.iter().rev().find(|law| law.from <= due).unwrap_or(&self.law[0])
    }

    /// Why a vehicle cannot be paid online at this moment; the first reason in this order.
    pub(super) fn refusal(&self, vehicle: &Vehicle, now: Timestamp) -> Option<Reason> {
        let now = now.in_jakarta();
        let today = now.date();
        let due = vehicle.due.date();
        if self.closed.as_ref().is_some_and(|closed| closed.at(now.time())) {
            return Some(Reason::CutOff);
        }
        if vehicle.blocked {
            return Some(Reason::VehicleBlocked);
        }
        if vehicle.owner == Owner::Company && !self.companies {
            return Some(Reason::CompanyOwner);
        }
        if !self.plate_colours.contains(&vehicle.plate_colour) {
            return Some(Reason::PlateColour);
        }
        if vehicle.five_yearly {
            return Some(Reason::FiveYearlyRenewal);
        }
        if due >= months_after(today, self.window_before_months) {
            return Some(Reason::TooEarly);
        }
        if months_after(due, self.late_months_max) < today {
            return Some(Reason::TooLate);
        }
        None
    }

    /// The latest anniversary that can be paid on a day: the province's window decides.
    pub(super) fn payable_due(&self, month: i8, day: i8, today: Date) -> Date {
        let end = months_after(today, self.window_before_months);
        let in_year =
            |year| Date::new(year, month, day).expect("the population's anniversaries exist in every year");
        let due = in_year(end.year());
        if due < end { due } else { in_year(end.year() - 1) }
    }
}

/// The same day of the month, some months on; the month's last day where there is none.
pub(super) fn months_after(date: Date, months: i32) -> Date {
    date.saturating_add(months.months())
}

/// The hours in which a province takes no payments.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closed {
    #[serde(deserialize_with = "parsed")]
    from: Time,
    #[serde(deserialize_with = "parsed")]
    until: Time,
}

impl Closed {
    fn at(&self, time: Time) -> bool {
        if self.from <= self.until {
            self.from <= time && time < self.until
        } else {
            self.from <= time || time < self.until
        }
    }
}

/// A plate's letters, with a place that has them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plate {
    /// `F`.
    pub(super) letters: String,
    /// `KAB BOGOR`.
    pub(super) region: String,
}

/// Rates that apply to bills due from a day on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Law {
    #[serde(deserialize_with = "parsed")]
    from: Date,
    /// PKB of the first vehicle; 175 is 1.75 %.
    pub(super) rate_basis_points: i64,
    /// The regency's surcharge, on PKB.
    pub(super) opsen_percent: i64,
    /// The late fine of twelve months; months count once begun.
    pub(super) late_percent_per_year: i64,
    /// Months beyond this cost nothing more.
    pub(super) late_months_max: i64,
}

/// To which unit amounts are rounded, and which way.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rounding {
    /// The unit, in Rupiah.
    pub(super) unit_rupiah: i64,
    /// Which way.
    pub(super) direction: Direction,
}

/// Which way an amount is rounded.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Direction {
    /// Always up.
    Up,
    /// To the nearer; half goes up.
    HalfUp,
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Province {
        /// Another rate for the law of a day.
        pub(in crate::core_banking) fn set_rate_from(&mut self, from: Date, rate_basis_points: i64) {
            let law = self.law.iter_mut().find(|law| law.from == from).unwrap();
            law.rate_basis_points = rate_basis_points;
        }
    }

    #[test]
    fn every_product_of_the_document_has_rules() {
        for product in ["SAMSAT_JABAR", "SAMSAT_JATENG", "SAMSAT_JAKARTA", "SAMSAT_JATIM"] {
            let province = rules().province(product).unwrap();
            assert!(province.law.is_sorted_by_key(|law| law.from), "{product}");
            assert!(!province.plates.is_empty() && province.code.len() == 2, "{product}");
        }
        assert!(rules().province("SAMSAT_BALI").is_none());
    }

    #[test]
    fn closing_hours_may_span_midnight() {
        let closed =
            |from: &str, until: &str| Closed { from: from.parse().unwrap(), until: until.parse().unwrap() };
        for (from, until, time, expected) in [
            ("23:00", "00:30", "22:59", false),
            ("23:00", "00:30", "23:00", true),
            ("23:00", "00:30", "00:29", true),
            ("23:00", "00:30", "00:30", false),
            ("12:00", "13:00", "12:00", true),
            ("12:00", "13:00", "13:00", false),
        ] {
            assert_eq!(closed(from, until).at(time.parse().unwrap()), expected, "{from}-{until} {time}");
        }
    }

    #[test]
    fn a_closed_province_refuses_at_its_hours_alone() {
        let mut province = rules().province("SAMSAT_JABAR").unwrap().clone();
        province.closed =
            Some(Closed { from: Time::constant(23, 0, 0, 0), until: Time::constant(6, 0, 0, 0) });
        let day = domain::BusinessDate::from_number(20_261_123).unwrap();
        let vehicle = super::super::vehicles::documented(day);
        let hour = |hour: u64| day.begins_at().plus(std::time::Duration::from_secs(hour * 3_600));
        assert_eq!(province.refusal(&vehicle, hour(5)), Some(Reason::CutOff));
        assert_eq!(province.refusal(&vehicle, hour(6)), None);
        assert_eq!(province.refusal(&vehicle, hour(23)), Some(Reason::CutOff));
    }

    #[test]
    fn the_window_before_the_due_date_is_less_than_six_months() {
        let province = rules().province("SAMSAT_JABAR").unwrap();
        let day = domain::BusinessDate::from_number(20_261_123).unwrap();
        let mut vehicle = super::super::vehicles::documented(day);
        for (due, expected) in [
            (20_270_523, Some(Reason::TooEarly)),
            (20_270_522, None),
            (20_251_123, None),
            (20_251_122, Some(Reason::TooLate)),
        ] {
            vehicle.due = domain::BusinessDate::from_number(due).unwrap();
            assert_eq!(province.refusal(&vehicle, day.begins_at()), expected, "{due}");
        }
    }
}
