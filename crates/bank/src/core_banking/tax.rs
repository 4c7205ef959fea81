//! What a vehicle owes, from its value, its kind and its lateness. Pure arithmetic on whole numbers.
//!
//! Fractions exist only inside one multiplication: every amount is rounded once, by its province's rule.

use super::{
    rules::{Direction, Province, Rounding, rules},
    vehicles::VehicleKind,
};
use domain::{Rupiah, Taxes};
use jiff::civil::Date;

/// The yearly bill of a vehicle due on one day and paid on another.
pub(super) fn taxes(province: &Province, kind: VehicleKind, njkb: Rupiah, due: Date, today: Date) -> Taxes {
    let law = province.law_on(due);
    let round = |factors: &[i64], divisor: i128| rounded(province.rounding, factors, divisor);

    let pkb = round(&[njkb.get(), law.rate_basis_points, rules().weight_hundredths.of(kind)], 10_000 * 100);
    let opsen_pkb = round(&[pkb.get(), law.opsen_percent], 100);
    let months = months_late(due, today).min(law.late_months_max);
    let late = |tax: Rupiah| round(&[tax.get(), law.late_percent_per_year, months], 100 * 12);

    Taxes {
        pkb,
        opsen_pkb,
        swdkllj: Rupiah::new(rules().swdkllj.rupiah.of(kind)),
        bbn: Rupiah::ZERO,
        pkb_penalty: late(pkb),
        opsen_pkb_penalty: late(opsen_pkb),
        swdkllj_penalty: swdkllj_penalty(kind, due, today),
        bbn_penalty: Rupiah::ZERO,
    }
}

fn swdkllj_penalty(kind: VehicleKind, due: Date, today: Date) -> Rupiah {
    let days = (today - due).get_days();
    if days <= 0 {
        return Rupiah::ZERO;
    }
    let tariff = &rules().swdkllj;
    let percent =
        tariff.late_tiers.iter().find(|tier| days <= tier.days_max).map_or(100, |tier| tier.percent);
    let fine = (tariff.rupiah.of(kind) - tariff.card_rupiah) * percent / 100;
    Rupiah::new(fine.min(tariff.late_rupiah_max))
}

/// Months late, a month counting once it has begun.
fn months_late(due: Date, today: Date) -> i64 {
    if today <= due {
        return 0;
    }
    let months = i64::from(today.year() - due.year()) * 12 + i64::from(today.month() - due.month());
    // The day of the month alone tells, so that the 31st and the 28th are both a month's end.
    months + i64::from(today.day() > due.day())
}

/// The product of the factors over the divisor, rounded.
fn rounded(rounding: Rounding, factors: &[i64], divisor: i128) -> Rupiah {
    let value: i128 = factors.iter().map(|factor| i128::from(*factor)).product();
    let unit = i128::from(rounding.unit_rupiah);
    let step = divisor * unit;
    let units = match rounding.direction {
        Direction::Up => (value + step - 1).div_euclid(step),
        Direction::HalfUp => (2 * value + step).div_euclid(2 * step),
    };
    Rupiah::new(i64::try_from(units * unit).expect("a tax is far below what an i64 holds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use VehicleKind::{Motorcycle, MotorcycleOver250cc, PassengerCar};

    fn province(product: &str) -> &'static Province {
        rules().province(product).unwrap()
    }

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn the_known_bills() {
        // product, kind, NJKB, due, paid → PKB, opsen, SWDKLLJ, fine on PKB, on opsen, on SWDKLLJ
        for (product, kind, njkb, due, today, expected) in [
            // Yamaha Mio 2010: the partner document's.
            (
                "SAMSAT_JABAR",
                Motorcycle,
                8_200_000,
                "2019-08-01",
                "2019-07-07",
                [143_500, 0, 35_000, 0, 0, 0],
            ),
            // Daihatsu Xenia 1.3.
            (
                "SAMSAT_JABAR",
                PassengerCar,
                116_000_000,
                "2019-08-01",
                "2019-07-07",
                [2_131_500, 0, 143_000, 0, 0, 0],
            ),
            // A motorcycle, six months late under the older law.
            (
                "SAMSAT_JAKARTA",
                Motorcycle,
                11_600_000,
                "2024-01-10",
                "2024-07-10",
                [232_000, 0, 35_000, 29_000, 0, 24_000],
            ),
            // A motorcycle of 150 cc and a car, 2025.
            (
                "SAMSAT_JATIM",
                Motorcycle,
                25_000_000,
                "2025-06-01",
                "2025-05-01",
                [300_000, 198_000, 35_000, 0, 0, 0],
            ),
            (
                "SAMSAT_JATIM",
                PassengerCar,
                119_047_600,
                "2025-06-01",
                "2025-05-01",
                [1_500_000, 990_000, 143_000, 0, 0, 0],
            ),
            // Jakarta has no surcharge; the newer law takes 1 % a month begun.
            (
                "SAMSAT_JAKARTA",
                Motorcycle,
                10_000_000,
                "2025-06-01",
                "2025-08-02",
                [200_000, 0, 35_000, 6_000, 0, 8_000],
            ),
            // The surcharge is fined as PKB is.
            (
                "SAMSAT_JATIM",
                Motorcycle,
                25_000_000,
                "2025-06-01",
                "2025-06-02",
                [300_000, 198_000, 35_000, 3_000, 2_000, 8_000],
            ),
            // The road accident fund's fine ends at 100 000.
            (
                "SAMSAT_JAKARTA",
                PassengerCar,
                100_000_000,
                "2025-01-05",
                "2025-12-31",
                [2_100_000, 0, 143_000, 252_000, 0, 100_000],
            ),
            (
                "SAMSAT_JAKARTA",
                MotorcycleOver250cc,
                100_000_000,
                "2025-01-05",
                "2025-12-31",
                [2_000_000, 0, 83_000, 240_000, 0, 80_000],
            ),
        ] {
            let taxes = taxes(province(product), kind, Rupiah::new(njkb), date(due), date(today));
            let parts = [
                taxes.pkb,
                taxes.opsen_pkb,
                taxes.swdkllj,
                taxes.pkb_penalty,
                taxes.opsen_pkb_penalty,
                taxes.swdkllj_penalty,
            ];
            assert_eq!(parts.map(Rupiah::get), expected, "{product} {kind:?} {njkb} {due}");
        }
    }

    #[test]
    fn a_rate_of_nine_tenths_gives_the_known_bill_of_a_honda_beat() {
        let mut province = province("SAMSAT_JATENG").clone();
        province.set_rate_from(date("2025-01-05"), 90);
        let taxes =
            taxes(&province, Motorcycle, Rupiah::new(10_000_000), date("2025-06-01"), date("2025-05-01"));
        assert_eq!(taxes.total(), Rupiah::new(184_400));
        assert_eq!((taxes.pkb, taxes.opsen_pkb), (Rupiah::new(90_000), Rupiah::new(59_400)));
    }

    #[test]
    fn the_law_changes_with_the_due_date() {
        let jabar = province("SAMSAT_JABAR");
        assert_eq!(jabar.law_on(date("2025-01-04")).opsen_percent, 0);
        assert_eq!(jabar.law_on(date("2025-01-05")).opsen_percent, 66);
        assert_eq!(jabar.law_on(date("1999-01-01")).rate_basis_points, 175);
    }

    #[test]
    fn months_late_count_once_begun() {
        for (due, today, expected) in [
            ("2026-01-31", "2026-01-31", 0),
            ("2026-01-31", "2026-02-01", 1),
            ("2026-01-31", "2026-03-01", 2),
            ("2026-01-10", "2026-02-10", 1),
            ("2026-01-10", "2026-02-11", 2),
            ("2025-12-10", "2026-12-10", 12),
            ("2026-12-10", "2026-01-10", 0),
        ] {
            assert_eq!(months_late(date(due), date(today)), expected, "{due} {today}");
        }
    }

    #[test]
    fn the_road_accident_fund_tiers() {
        let due = date("2026-01-01");
        for (days, expected) in
            [(0, 0), (1, 8_000), (90, 8_000), (91, 16_000), (180, 16_000), (181, 24_000), (271, 32_000)]
        {
            let today = due.saturating_add(jiff::Span::new().days(days));
            assert_eq!(swdkllj_penalty(Motorcycle, due, today), Rupiah::new(expected), "{days}");
        }
    }

    #[test]
    fn rounding_goes_as_the_province_says() {
        let up = Rounding { unit_rupiah: 100, direction: Direction::Up };
        let half_up = Rounding { unit_rupiah: 1, direction: Direction::HalfUp };
        for (rounding, factors, divisor, expected) in [
            (up, [12_300, 1], 1, 12_300),
            (up, [12_301, 1], 1, 12_400),
            (half_up, [1, 1], 2, 1),
            (half_up, [49, 1], 100, 0),
            (half_up, [3, 1], 2, 2),
        ] {
            assert_eq!(rounded(rounding, &factors, divisor), Rupiah::new(expected));
        }
    }
}
