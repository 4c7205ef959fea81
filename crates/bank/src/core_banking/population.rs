//! A population of vehicles of any size, of which nothing is stored: each follows from its number.
//!
//! KTP number and chassis number are scramblings of the vehicle's number that can be undone, so that a
//! mistyped one is almost never another vehicle's. All of it is invented: no regency has the code 99 that
//! the KTP numbers carry. Every vehicle can be paid on every day, about half of them late; the cases that
//! cannot are the test numbers' (`scenarios`).

use super::{
    dice::Dice,
    rules::{Province, rules},
    vehicles::{Assessment, Owner, PlateColour, Vehicle, VehicleKind},
};
use domain::{BusinessDate, ChassisNumber, Nik, PaymentCode, ProductCode, Rupiah, Secret};

/// As many vehicles as there are at most: about as many as the country has registered.
pub const VEHICLES_MAX: u32 = 170_000_000;

/// KTP numbers: province, 99, twelve digits.
const NIK_SCRAMBLE: Scramble = Scramble::new(1_000_000_000_000, 387_420_489_007, 271_828_182_845);
/// Chassis numbers: three letters of the maker, four of the model, one of the year, nine digits.
const CHASSIS_SCRAMBLE: Scramble = Scramble::new(1_000_000_000, 618_033_989, 141_421_356);

/// KTP number, chassis number and product of a vehicle. The number is below [`VEHICLES_MAX`].
pub fn numbers(number: u32) -> (Nik, ChassisNumber, ProductCode) {
    let nik = Nik::parse(&nik_text(number)).expect("sixteen digits are a KTP number");
    let chassis =
        ChassisNumber::parse(&chassis_text(number)).expect("17 letters and digits are a chassis number");
    (nik, chassis, product(province(number)))
}

/// A vehicle as its Samsat knows it on a day. The number is below [`VEHICLES_MAX`].
pub fn vehicle(number: u32, business_date: BusinessDate) -> Vehicle {
    let province = province(number);
    let Build { model, year_built, mut dice } = build(number);
    let plate = dice.pick(&province.plates);
    let (month, day) = (small(dice.below(12)) + 1, small(dice.below(28)) + 1);
    let due = province.payable_due(month, day, business_date.date());

    // Four per cent of the new value are lost each year, down to three tenths.
    let age_years = i64::from(due.year()) - i64::from(year_built);
    let kept_percent = (100 - 4 * age_years).clamp(30, 100);
    let njkb = model.njkb_new_rupiah * kept_percent / 100 / 100_000 * 100_000;

    let (plate_number_first, plate_number_count) = match model.kind {
        VehicleKind::PassengerCar => (1, 1_999),
        VehicleKind::Motorcycle | VehicleKind::MotorcycleOver250cc => (2_000, 5_000),
        VehicleKind::Pickup => (8_000, 2_000),
    };
    Vehicle {
        product: product(province),
        payment_code: payment_code(number, province, due.year()),
        owner_name: Secret::new(format!("{} {}", dice.pick(GIVEN_NAMES), dice.pick(FAMILY_NAMES))),
        owner_address: Secret::new(format!(
            "JL {} NO {} RT{} RW{} {}",
            dice.pick(STREETS),
            dice.below(200) + 1,
            dice.below(12) + 1,
            dice.below(9) + 1,
            plate.region
        )),
        license_plate: format!(
            "{} {} {}{}{}",
            plate.letters,
            plate_number_first + dice.below(plate_number_count),
            dice.pick(PLATE_LETTERS),
            dice.pick(PLATE_LETTERS),
            dice.pick(PLATE_LETTERS)
        ),
        brand: model.brand,
        model: model.name,
        color: dice.pick::<&'static str>(COLORS),
        year_built,
        due: BusinessDate::new(due),
        owner: Owner::Person,
        plate_colour: PlateColour::White,
        five_yearly: false,
        blocked: false,
        assessment: Assessment::ByRules { kind: model.kind, njkb: Rupiah::new(njkb) },
    }
}

/// Which vehicle has this KTP number.
pub(super) fn number_of_nik(nik: &Nik) -> Option<u32> {
    let digits = nik.as_str().get(4..)?.parse().ok()?;
    number_of(NIK_SCRAMBLE.undo(digits)).filter(|number| nik_text(*number) == nik.as_str())
}

/// Which vehicle has this chassis number.
pub(super) fn number_of_chassis(chassis: &ChassisNumber) -> Option<u32> {
    let digits = chassis.as_str().get(8..).filter(|digits| digits.len() == 9)?.parse().ok()?;
    number_of(CHASSIS_SCRAMBLE.undo(digits)).filter(|number| chassis_text(*number) == chassis.as_str())
}

fn number_of(unscrambled: u64) -> Option<u32> {
    u32::try_from(unscrambled).ok().filter(|number| *number < VEHICLES_MAX)
}

fn nik_text(number: u32) -> String {
    format!("{}99{:012}", province(number).code, NIK_SCRAMBLE.apply(u64::from(number)))
}

fn chassis_text(number: u32) -> String {
    let Build { model, year_built, .. } = build(number);
    let year_letter = YEAR_LETTERS[usize::from(year_built - YEAR_BUILT_FIRST)];
    let serial = CHASSIS_SCRAMBLE.apply(u64::from(number));
    format!("{}{}{year_letter}{serial:09}", model.maker_code, model.type_code)
}

/// Unique for ever: one bill a year and vehicle. The number comes first, so that vehicles in ascending
/// order have ascending codes, whatever their provinces and years.
fn payment_code(number: u32, province: &Province, due_year: i16) -> PaymentCode {
    let code = format!("{}{}{due_year:04}", 1_000_000_000 + number, province.code);
    PaymentCode::parse(&code).expect("sixteen digits are a payment code")
}

fn province(number: u32) -> &'static Province {
    assert!(number < VEHICLES_MAX, "the population has no such vehicle");
    rules().province_at(number as usize % 4)
}

fn product(province: &Province) -> ProductCode {
    ProductCode::parse(&province.product).expect("products in the embedded rules are valid")
}

fn small(number: u64) -> i8 {
    i8::try_from(number).expect("months and days are small")
}

/// What a vehicle's chassis number depends on, and the dice for the rest.
struct Build {
    model: &'static Model,
    year_built: u16,
    dice: Dice,
}

fn build(number: u32) -> Build {
    let mut dice = Dice::from(u64::from(number));
    let model = dice.pick(MODELS);
    let year = dice.below(YEAR_LETTERS.len() as u64);
    Build { model, year_built: YEAR_BUILT_FIRST + u16::try_from(year).expect("years are few"), dice }
}

/// A one-to-one map of the numbers below a power of ten onto themselves.
struct Scramble {
    modulus: u64,
    factor: u64,
    inverse: u64,
    shift: u64,
}

impl Scramble {
    /// The modulus is a power of ten, the factor prime to it.
    const fn new(modulus: u64, factor: u64, shift: u64) -> Self {
        assert!(!factor.is_multiple_of(2) && !factor.is_multiple_of(5) && shift < modulus);
        // Euler: of the residues of a power of ten, four tenths are prime to it.
        let inverse = power(factor, modulus / 10 * 4 - 1, modulus);
        Self { modulus, factor, inverse, shift }
    }

    const fn apply(&self, number: u64) -> u64 {
        (product_modulo(number, self.factor, self.modulus) + self.shift) % self.modulus
    }

    const fn undo(&self, scrambled: u64) -> u64 {
        let unshifted = (scrambled % self.modulus + self.modulus - self.shift) % self.modulus;
        product_modulo(unshifted, self.inverse, self.modulus)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a remainder is below its modulus, which is a u64")]
const fn product_modulo(left: u64, right: u64, modulus: u64) -> u64 {
    (left as u128 * right as u128 % modulus as u128) as u64
}

const fn power(mut base: u64, mut exponent: u64, modulus: u64) -> u64 {
    let mut result = 1;
    while exponent > 0 {
        if exponent % 2 == 1 {
            result = product_modulo(result, base, modulus);
        }
        base = product_modulo(base, base, modulus);
        exponent /= 2;
    }
    result
}

struct Model {
    brand: &'static str,
    name: &'static str,
    maker_code: &'static str,
    type_code: &'static str,
    kind: VehicleKind,
    njkb_new_rupiah: i64,
}

const fn model(
    brand: &'static str,
    name: &'static str,
    [maker_code, type_code]: [&'static str; 2],
    kind: VehicleKind,
    njkb_new_rupiah: i64,
) -> Model {
    Model { brand, name, maker_code, type_code, kind, njkb_new_rupiah }
}

// About four of five vehicles in the country are motorcycles. Values are plausible, not the tables'.
const MODELS: &[Model] = &[
    model("HONDA", "BEAT CBS", ["MH1", "JM81"], VehicleKind::Motorcycle, 13_500_000),
    model("HONDA", "BEAT STREET", ["MH1", "JM82"], VehicleKind::Motorcycle, 14_000_000),
    model("HONDA", "VARIO 125", ["MH1", "JM41"], VehicleKind::Motorcycle, 17_500_000),
    model("HONDA", "SCOOPY", ["MH1", "JM31"], VehicleKind::Motorcycle, 16_500_000),
    model("HONDA", "SUPRA X 125", ["MH1", "JBP1"], VehicleKind::Motorcycle, 14_500_000),
    model("HONDA", "PCX 160", ["MH1", "KF71"], VehicleKind::Motorcycle, 26_000_000),
    model("YAMAHA", "MIO M3", ["MH3", "SE88"], VehicleKind::Motorcycle, 13_000_000),
    model("YAMAHA", "JUPITER Z1", ["MH3", "UE11"], VehicleKind::Motorcycle, 14_200_000),
    model("YAMAHA", "NMAX 155", ["MH3", "SG31"], VehicleKind::Motorcycle, 25_500_000),
    model("YAMAHA", "VIXION", ["MH3", "RG46"], VehicleKind::Motorcycle, 22_000_000),
    model("SUZUKI", "SATRIA F150", ["MH8", "DL11"], VehicleKind::Motorcycle, 20_500_000),
    model("KAWASAKI", "KLX 150", ["MH4", "LX15"], VehicleKind::Motorcycle, 28_000_000),
    model("KAWASAKI", "VERSYS 650", ["MH4", "LE65"], VehicleKind::MotorcycleOver250cc, 140_000_000),
    model("TOYOTA", "AVANZA 1.3 G", ["MHK", "M1BA"], VehicleKind::PassengerCar, 165_000_000),
    model("DAIHATSU", "XENIA 1.3 R", ["MHK", "V1BA"], VehicleKind::PassengerCar, 155_000_000),
    model("SUZUKI", "CARRY PICK UP", ["MHY", "ESL4"], VehicleKind::Pickup, 110_000_000),
];

const YEAR_BUILT_FIRST: u16 = 2004;
/// The tenth character of a vehicle identification number, 2004 to 2023.
const YEAR_LETTERS: [char; 20] =
    ['4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'L', 'M', 'N', 'P'];

const PLATE_LETTERS: &[char] = &[
    'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'L', 'M', 'N', 'P', 'R', 'S', 'T', 'U', 'V', 'W', 'X',
    'Y', 'Z',
];

const COLORS: &[&str] =
    &["HITAM", "PUTIH", "MERAH", "BIRU", "ABU ABU", "SILVER METALIK", "MERAH MARUN", "HIJAU", "COKLAT"];

const GIVEN_NAMES: &[&str] = &[
    "ADI", "AGUS", "ANI", "BAGAS", "BUDI", "CITRA", "DEDI", "DEWI", "EKA", "ENDAH", "FAJAR", "GITA",
    "HENDRA", "INDAH", "JOKO", "KARTIKA", "LESTARI", "MAYA", "NANDA", "PUTRI", "RAHMAT", "RINA", "SARI",
    "TEGUH", "UMAR", "WATI", "YANTO", "YULI",
];

const FAMILY_NAMES: &[&str] = &[
    "ANGGARA",
    "CONTOHWATI",
    "FIRDAUSI",
    "GUNADARMA",
    "HANDAYANI",
    "HIDAYAT",
    "KURNIAWAN",
    "LAKSANA",
    "MAHARANI",
    "NUGRAHA",
    "PERMANA",
    "PRATAMA",
    "PURNAMA",
    "RAHAYU",
    "SANTIKA",
    "SAPUTRA",
    "SETIADI",
    "SIMULASI",
    "UTAMI",
    "WIBAWA",
    "WIJAYA",
    "YULIANA",
];

const STREETS: &[&str] = &[
    "ANGGREK",
    "CEMARA",
    "CENDANA",
    "DAHLIA",
    "FLAMBOYAN",
    "KENANGA",
    "MAWAR",
    "MELATI",
    "MERPATI",
    "NUSA INDAH",
    "PAHLAWAN",
    "SUKAMAJU",
    "TERATAI",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core_banking::{scenarios, tax};
    use std::collections::BTreeSet;

    fn sample() -> impl Iterator<Item = u32> {
        (0..2_000).chain((0..VEHICLES_MAX).step_by(170_003)).chain([VEHICLES_MAX - 1])
    }

    fn day(number: i32) -> BusinessDate {
        BusinessDate::from_number(number).unwrap()
    }

    #[test]
    fn numbers_lead_back_to_their_vehicle() {
        for number in sample() {
            let (nik, chassis, product) = numbers(number);
            assert_eq!((nik.as_str().len(), chassis.as_str().len()), (16, 17), "{number}");
            assert_eq!(number_of_nik(&nik), Some(number));
            assert_eq!(number_of_chassis(&chassis), Some(number));
            let expected = ["SAMSAT_JABAR", "SAMSAT_JATENG", "SAMSAT_JAKARTA", "SAMSAT_JATIM"];
            assert_eq!(product.as_str(), expected[number as usize % 4]);
        }
    }

    #[test]
    fn other_numbers_lead_nowhere() {
        for text in [scenarios::NIK, "3201111111111111", "320111111111111", "3299000000000000"] {
            assert_eq!(number_of_nik(&Nik::parse(text).unwrap()), None, "{text}");
        }
        for text in ["MH328D204AK4010000", "MHIJBK11EK04000", "UJI1000001", "ABCDE"] {
            assert_eq!(number_of_chassis(&ChassisNumber::parse(text).unwrap()), None, "{text}");
        }
        // A digit mistyped is another vehicle's once in several thousand times; here never.
        let (nik, _, _) = numbers(7);
        for position in 4..16 {
            let mut digits: Vec<u8> = nik.as_str().into();
            digits[position] = b'0' + (digits[position] - b'0' + 1) % 10;
            let mistyped = Nik::parse(std::str::from_utf8(&digits).unwrap()).unwrap();
            assert_eq!(number_of_nik(&mistyped), None);
        }
    }

    #[test]
    fn every_vehicle_is_payable_on_every_day_and_about_half_are_late() {
        for today in [20_190_707, 20_240_229, 20_240_831, 20_261_123, 20_261_231, 20_270_101] {
            let today = day(today);
            let (mut late, mut all) = (0, 0);
            for number in sample() {
                let vehicle = vehicle(number, today);
                let province = province(number);
                assert_eq!(province.refusal(&vehicle, today.begins_at()), None, "{number} {today}");
                let Assessment::ByRules { kind, njkb } = vehicle.assessment else { panic!("{number}") };
                let taxes = tax::taxes(province, kind, njkb, vehicle.due.date(), today.date());
                assert!(taxes.total() > Rupiah::new(35_000));
                assert_eq!(taxes.pkb_penalty > Rupiah::ZERO, vehicle.due < today);
                late += usize::from(vehicle.due < today);
                all += 1;
            }
            assert!((45..=55).contains(&(late * 100 / all)), "{late} of {all} on {today}");
        }
    }

    #[test]
    fn payment_codes_are_unique_and_ascend() {
        let mut codes = BTreeSet::new();
        for today in [20_250_601, 20_261_123] {
            let mut last = String::new();
            for number in 0..5_000 {
                let code = String::from(vehicle(number, day(today)).payment_code);
                assert!(last < code, "{number}");
                assert!(codes.insert(code.clone()), "{code}");
                last = code;
            }
        }
    }

    #[test]
    fn plates_fit_the_province_and_the_kind() {
        for number in sample() {
            let vehicle = vehicle(number, day(20_261_123));
            let mut parts = vehicle.license_plate.split(' ');
            let letters = parts.next().unwrap();
            assert!(province(number).plates.iter().any(|plate| plate.letters == letters));
            let plate_number: u32 = parts.next().unwrap().parse().unwrap();
            let range = match vehicle.assessment {
                Assessment::ByRules { kind: VehicleKind::PassengerCar, .. } => 1..=1_999,
                Assessment::ByRules { kind: VehicleKind::Pickup, .. } => 8_000..=9_999,
                _ => 2_000..=6_999,
            };
            assert!(range.contains(&plate_number), "{}", vehicle.license_plate);
        }
    }
}
