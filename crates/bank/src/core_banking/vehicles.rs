//! The vehicles that the simulated Samsats know: the partner document's, the test numbers, the population.
//!
//! A vehicle is derived from its numbers and the business day each time it is asked for; nothing is kept.

use super::{
    population,
    rules::{months_after, rules},
    scenarios, tax,
};
use domain::{
    Bill, BusinessDate, ChassisNumber, Nik, PaymentCode, ProductCode, Reason, Refusal, Rupiah, Secret, Taxes,
    Timestamp,
};
use serde::Deserialize;
use std::time::Duration;

/// The partner document's KTP number, in both of its spellings.
const DOCUMENTED_NIKS: [&str; 2] = ["320111111111111", "3201111111111111"];

/// The partner document's chassis number.
const DOCUMENTED_CHASSIS: &str = "MH328D204AK4010000";

/// The partner document's payment code.
const DOCUMENTED_PAYMENT_CODE: &str = "322020060719000";

/// What a Samsat knows of one vehicle, without the numbers by which it is asked for.
#[derive(Clone, Debug)]
pub struct Vehicle {
    /// The product that sells the bills of the vehicle's province.
    pub product: ProductCode,
    /// The bank's code for the bill that is due.
    pub payment_code: PaymentCode,
    /// Invented.
    pub owner_name: Secret,
    /// Invented.
    pub owner_address: Secret,
    /// `F 0001 Z`.
    pub license_plate: String,
    /// `YAMAHA`.
    pub brand: &'static str,
    /// `28D (AL115S/MIO)`.
    pub model: &'static str,
    /// `MERAH MARUN`.
    pub color: &'static str,
    /// `2010`.
    pub year_built: u16,
    /// When the tax is due.
    pub due: BusinessDate,
    /// Who owns it.
    pub owner: Owner,
    /// The colour of its plate.
    pub plate_colour: PlateColour,
    /// Whether the bill that is due is that of a five-yearly renewal.
    pub five_yearly: bool,
    /// Sold, stolen, under credit, fined.
    pub blocked: bool,
    /// What it owes.
    pub assessment: Assessment,
}

/// A person or a business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A person.
    Person,
    /// A business.
    Company,
}

/// The colour of a plate tells what a vehicle is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlateColour {
    /// Private.
    White,
    /// Public transport.
    Yellow,
    /// Government.
    Red,
}

/// The kinds of vehicle that tariffs tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VehicleKind {
    /// Over 50 to 250 cc.
    Motorcycle,
    /// Over 250 cc.
    MotorcycleOver250cc,
    /// Sedan, jeep, passenger car.
    PassengerCar,
    /// Pickup to 2 400 cc.
    Pickup,
}

/// How a vehicle's bill comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assessment {
    /// By the province's rules.
    ByRules {
        /// What the tariffs call it.
        kind: VehicleKind,
        /// Its taxable value (NJKB).
        njkb: Rupiah,
    },
    /// As the partner document prints it.
    Fixed(Taxes),
}

/// What a Samsat presents.
#[derive(Debug)]
pub(crate) struct Presented {
    /// The bill.
    pub(crate) bill: Bill,
    /// When its payment code dies, where the province says so.
    pub(crate) payable_until: Option<Timestamp>,
}

/// The bill of a vehicle at this moment, whether or not it is paid; or why there is none.
pub(super) fn present(
    product: &ProductCode,
    nik: &Nik,
    chassis: &ChassisNumber,
    now: Timestamp,
    population_size: u32,
) -> Result<Presented, Refusal> {
    let today = now.date_in_jakarta();
    let vehicle = find(product, nik, chassis, today, population_size)?;
    let province = rules().province(product.as_str()).ok_or(Reason::OtherProvince)?;
    if let Some(reason) = province.refusal(&vehicle, now) {
        return Err(reason.into());
    }
    let taxes = match vehicle.assessment {
        Assessment::ByRules { kind, njkb } => {
            tax::taxes(province, kind, njkb, vehicle.due.date(), today.date())
        }
        Assessment::Fixed(taxes) => taxes,
    };
    let bill = Bill {
        payment_code: vehicle.payment_code,
        nik: nik.clone(),
        chassis: chassis.clone(),
        owner_name: vehicle.owner_name,
        owner_address: vehicle.owner_address,
        license_plate: vehicle.license_plate,
        vehicle_brand: vehicle.brand.to_owned(),
        vehicle_model: vehicle.model.to_owned(),
        vehicle_color: vehicle.color.to_owned(),
        year_built: vehicle.year_built,
        taxes,
        upstream_reference: None,
    };
    let life = province.payment_code_life_minutes.map(|minutes| Duration::from_secs(minutes * 60));
    Ok(Presented { bill, payable_until: life.map(|life| now.plus(life)) })
}

/// A vehicle by its numbers: known, the owner's KTP number, the province's product, in this order.
fn find(
    product: &ProductCode,
    nik: &Nik,
    chassis: &ChassisNumber,
    today: BusinessDate,
    population_size: u32,
) -> Result<Vehicle, Refusal> {
    let (owned, vehicle) = if let Some(scenario) = scenarios::of(chassis) {
        (nik.as_str() == scenarios::NIK, scenario.vehicle(product, chassis, today))
    } else if chassis.as_str() == DOCUMENTED_CHASSIS {
        (DOCUMENTED_NIKS.contains(&nik.as_str()), documented(today))
    } else {
        let number = population::number_of_chassis(chassis)
            .filter(|number| *number < population_size)
            .ok_or(Reason::VehicleNotFound)?;
        (population::number_of_nik(nik) == Some(number), population::vehicle(number, today))
    };
    if !owned {
        return Err(Reason::NikMismatch.into());
    }
    if vehicle.product != *product {
        return Err(Reason::OtherProvince.into());
    }
    Ok(vehicle)
}

/// Whether a chassis number is the partner document's, whose payments never meet a random fault.
pub(crate) fn is_documented(chassis: &ChassisNumber) -> bool {
    chassis.as_str() == DOCUMENTED_CHASSIS
}

/// Whether a bill is the partner document's.
pub(crate) fn is_documented_bill(payment_code: &PaymentCode) -> bool {
    payment_code.as_str() == DOCUMENTED_PAYMENT_CODE
}

/// The partner document's vehicle, always due in a month.
pub(super) fn documented(today: BusinessDate) -> Vehicle {
    Vehicle {
        product: ProductCode::parse("SAMSAT_JABAR").expect("the document's product is valid"),
        payment_code: PaymentCode::parse(DOCUMENTED_PAYMENT_CODE)
            .expect("the document's payment code is valid"),
        owner_name: Secret::new("JORDAN"),
        owner_address: Secret::new("KP CITAMIANG DUA RT1 RW4 PAMIJAHAN KAB BOGOR"),
        license_plate: "F 0001 Z".to_owned(),
        brand: "YAMAHA",
        model: "28D (AL115S/MIO)",
        color: "MERAH MARUN",
        year_built: 2010,
        due: BusinessDate::new(months_after(today.date(), 1)),
        owner: Owner::Person,
        plate_colour: PlateColour::White,
        five_yearly: false,
        blocked: false,
        assessment: Assessment::Fixed(Taxes {
            pkb: Rupiah::new(143_500),
            swdkllj: Rupiah::new(35_000),
            ..Taxes::default()
        }),
    }
}
