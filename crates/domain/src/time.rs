//! Time as values: moments, the business day of Jakarta, and the clock that others implement.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// Western Indonesian Time (WIB) is UTC+7 all year.
const WIB: jiff::tz::Offset = jiff::tz::offset(7);

/// Where the time comes from. The only real implementation is `engine::SystemClock`.
pub trait Clock: Send + Sync + 'static {
    /// The present moment by the wall clock.
    fn now(&self) -> Timestamp;
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A moment: milliseconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since 1970-01-01 00:00 UTC.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01 00:00 UTC.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The moment `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// The moment `duration` earlier.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The civil date and time in Jakarta.
    pub fn in_jakarta(self) -> jiff::civil::DateTime {
        WIB.to_datetime(jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX))
    }

    /// The calendar day in Jakarta.
    pub fn date_in_jakarta(self) -> BusinessDate {
        BusinessDate(self.in_jakarta().date())
    }

    /// `2019-07-07 13:14:15`, 24-hour, WIB: the partner contract's `tanggal`.
    pub fn tanggal(self) -> String {
        let t = self.in_jakarta();
        format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            t.year(),
            t.month(),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}+07:00", self.tanggal().replace(' ', "T"), self.0.rem_euclid(1000))
    }
}

/// A bank's business day: the calendar day in Jakarta, or what the bank's cut-over says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BusinessDate(Date);

impl BusinessDate {
    /// From a civil date.
    pub const fn new(date: Date) -> Self {
        Self(date)
    }

    /// The civil date.
    pub const fn date(self) -> Date {
        self.0
    }

    /// As a number that reads like a date: `20190707`.
    pub fn as_number(self) -> i32 {
        i32::from(self.0.year()) * 10_000 + i32::from(self.0.month()) * 100 + i32::from(self.0.day())
    }

    /// From [`Self::as_number`]; `None` if it is no date.
    pub fn from_number(number: i32) -> Option<Self> {
        let year = i16::try_from(number / 10_000).ok()?;
        let month = i8::try_from(number / 100 % 100).ok()?;
        let day = i8::try_from(number % 100).ok()?;
        Date::new(year, month, day).ok().map(Self)
    }

    /// The day after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.tomorrow().unwrap_or(self.0))
    }

    /// Midnight in Jakarta at which the day begins.
    pub fn begins_at(self) -> Timestamp {
        let midnight = self.0.to_datetime(jiff::civil::Time::midnight());
        WIB.to_timestamp(midnight).map_or(Timestamp(i64::MAX), |t| Timestamp(t.as_millisecond()))
    }
}

/// `2019-07-07`.
impl fmt::Display for BusinessDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for BusinessDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tanggal_is_jakarta_time() {
        // 2019-07-07 06:14:15 UTC is 13:14:15 in Jakarta.
        assert_eq!(Timestamp::from_millis(1_562_480_055_000).tanggal(), "2019-07-07 13:14:15");
    }

    #[test]
    fn the_day_changes_at_midnight_in_jakarta() {
        let midnight = BusinessDate::from_number(20_190_708).unwrap().begins_at();
        assert_eq!(midnight.date_in_jakarta().to_string(), "2019-07-08");
        let before = Timestamp::from_millis(midnight.as_millis() - 1);
        assert_eq!(before.date_in_jakarta().to_string(), "2019-07-07");
        assert_eq!(before.tanggal(), "2019-07-07 23:59:59");
    }

    #[test]
    fn business_dates_as_numbers() {
        let date = BusinessDate::from_number(20_240_229).unwrap();
        assert_eq!(date.as_number(), 20_240_229);
        assert_eq!(BusinessDate::from_number(20_230_229), None);
        assert_eq!(BusinessDate::from_number(-1), None);
    }
}
