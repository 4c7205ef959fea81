//! Why something was refused: the one catalogue of sentences that partners read.
//!
//! Two sentences are the partner document's own, to the letter. Every other one says in Indonesian what
//! happened and what to do. Where the bank gave a code, it is put behind: ` (Kode: 0054)`.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A request parameter of the partner contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parameter {
    /// `username`.
    Username,
    /// `password`.
    Password,
    /// `product`.
    Product,
    /// `customer_number`: KTP number.
    CustomerNumber,
    /// `structure_number`: chassis number.
    StructureNumber,
    /// `invoice`.
    Invoice,
}

impl Parameter {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Username => "username",
            Self::Password => "password",
            Self::Product => "product",
            Self::CustomerNumber => "customer_number",
            Self::StructureNumber => "structure_number",
            Self::Invoice => "invoice",
        }
    }

    /// What is accepted, for the sentence about an invalid value.
    const fn rule(self) -> &'static str {
        match self {
            Self::Username => "1 sampai 64 karakter",
            Self::Password => "1 sampai 128 karakter",
            Self::Product => "kode produk dari daftar produk, misalnya SAMSAT_JABAR",
            Self::CustomerNumber => "nomor KTP pemilik kendaraan, 15 atau 16 angka",
            Self::StructureNumber => "nomor rangka kendaraan, 5 sampai 25 huruf dan angka",
            Self::Invoice => "nomor invoice dari hasil cek tagihan, hanya angka",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $code:literal => $text:literal,)*) => {
        /// Every reason that does not name a parameter.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
        }

        impl Reason {
            /// All reasons, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable name: in the database, in `--json`, in metrics.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The sentence for partners, in Indonesian.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    // What the Samsat answers to an inquiry.
    /// No such vehicle, or the KTP number is not its owner's. Documented sentence.
    VehicleNotFound "vehicle_not_found" => "Maaf, Datamu Tidak Ketemu. Silakan periksa kembali nomor rangka dan nomor KTP yang telah dimasukkan.",
    /// The vehicle exists, the KTP number is another person's.
    NikMismatch "nik_mismatch" => "Nomor KTP tidak sesuai dengan pemilik kendaraan yang terdaftar. Silakan periksa kembali nomor KTP, atau selesaikan balik nama di kantor Samsat.",
    /// Sold, stolen, under credit, fined or otherwise blocked.
    VehicleBlocked "vehicle_blocked" => "Kendaraan diblokir dan tidak dapat dibayar secara online. Silakan hubungi kantor Samsat setempat.",
    /// The five-yearly renewal needs a physical check.
    FiveYearlyRenewal "five_yearly_renewal" => "Kendaraan masuk masa daftar ulang 5 tahunan yang memerlukan cek fisik. Silakan bayar di kantor Samsat.",
    /// More than the province's window remains to the due date.
    TooEarly "too_early" => "Pajak belum dapat dibayar karena jatuh tempo masih 6 bulan atau lebih. Silakan bayar setelah kurang dari 6 bulan sebelum jatuh tempo.",
    /// Later than the province takes online.
    TooLate "too_late" => "Tunggakan pajak melewati batas pembayaran online. Silakan bayar di kantor Samsat.",
    /// Owned by a company.
    CompanyOwner "company_owner" => "Kendaraan milik badan usaha tidak dapat dibayar secara online. Silakan bayar di kantor Samsat.",
    /// The plate's colour is not served online.
    PlateColour "plate_colour" => "Warna pelat kendaraan ini tidak dilayani secara online. Silakan bayar di kantor Samsat.",
    /// Registered in another province.
    OtherProvince "other_province" => "Kendaraan terdaftar di provinsi lain. Silakan pilih produk sesuai provinsi kendaraan.",
    /// This period has been paid. Documented sentence (without its code).
    BillAlreadyPaid "bill_already_paid" => "Transaksi tidak dapat diproses. Tagihan sudah dibayar",
    /// The province's daily hours are over.
    CutOff "cut_off" => "Layanan Samsat sedang tutup harian. Silakan coba lagi saat layanan buka kembali.",
    /// A refusal for which the catalogue has no sentence of its own.
    BankRefused "bank_refused" => "Bank menolak transaksi ini. Silakan periksa data dan ulangi cek tagihan, atau hubungi layanan mitra.",

    // What the bank line answers, or does not.
    /// Nothing was sent: no connection, or no place on the line.
    BankUnreachable "bank_unreachable" => "Bank sedang tidak dapat dihubungi sehingga transaksi tidak diproses. Silakan coba beberapa saat lagi.",
    /// An inquiry got no usable answer in time.
    BankSilent "bank_silent" => "Bank tidak menjawab cek tagihan. Silakan coba beberapa saat lagi.",
    /// A payment was not carried out, as the bank's status answer or the operators established.
    PaymentNotExecuted "payment_not_executed" => "Pembayaran tidak terlaksana di bank dan saldo telah dikembalikan. Silakan cek tagihan lagi untuk mengulang.",

    // What the gateway itself refuses.
    /// Unknown user name or wrong password: alike on purpose.
    BadCredentials "bad_credentials" => "Username atau password salah.",
    /// The partner is suspended.
    PartnerSuspended "partner_suspended" => "Akun mitra dinonaktifkan. Silakan hubungi layanan mitra.",
    /// The call comes from an address outside the partner's allow-list.
    AddressNotAllowed "address_not_allowed" => "Alamat IP Anda tidak terdaftar untuk akun ini. Silakan daftarkan alamat IP server Anda ke layanan mitra.",
    /// No such product.
    ProductUnknown "product_unknown" => "Produk tidak dikenal. Silakan periksa kode produk pada daftar produk.",
    /// The product is switched off.
    ProductOff "product_off" => "Produk sedang tidak aktif. Silakan lihat status produk pada daftar produk.",
    /// No such invoice, or another partner's: alike on purpose.
    InvoiceUnknown "invoice_unknown" => "Invoice tidak ditemukan. Silakan periksa nomor invoice atau ulangi cek tagihan.",
    /// The invoice is from an earlier day, or its bill is no longer valid.
    InvoiceExpired "invoice_expired" => "Invoice sudah kedaluwarsa. Silakan cek tagihan lagi lalu bayar invoice yang baru.",
    /// The invoice was refunded.
    InvoiceRefunded "invoice_refunded" => "Pembayaran invoice ini gagal dan saldo telah dikembalikan. Silakan cek tagihan lagi lalu bayar invoice yang baru.",
    /// The invoice's inquiry failed, so there is nothing to pay.
    InquiryFailed "inquiry_failed" => "Cek tagihan invoice ini gagal sehingga tidak dapat dibayar. Silakan cek tagihan lagi.",
    /// The same bill is being paid on another invoice.
    BillBeingPaid "bill_being_paid" => "Tagihan kendaraan ini sedang diproses pada invoice lain. Silakan tunggu hingga selesai.",
    /// The partner's own deposit does not cover the total.
    BalanceShort "balance_short" => "Saldo deposit Anda tidak cukup untuk transaksi ini. Silakan tambah saldo terlebih dahulu.",
    /// The queue is full.
    Busy "busy" => "Sistem sedang sibuk. Silakan coba beberapa saat lagi dengan permintaan yang sama.",
    /// Too many log-ins that need checking.
    TooManyAttempts "too_many_attempts" => "Terlalu banyak percobaan login dari alamat Anda. Silakan tunggu sebentar lalu coba lagi.",
    /// The store cannot be read or written now. It says nothing about money: an invoice's own payment may be
    /// under way.
    Unavailable "unavailable" => "Sistem sedang tidak dapat melayani permintaan. Silakan coba beberapa saat lagi dengan permintaan yang sama; untuk pembayaran, cek status invoice terlebih dahulu.",
    /// A bug of ours.
    Internal "internal" => "Terjadi kesalahan sistem. Silakan cek status invoice sebelum mengulang pembayaran.",

    // What the transport refuses.
    /// Unknown path.
    PathUnknown "path_unknown" => "Alamat tidak dikenal. Silakan periksa URL pada dokumentasi API.",
    /// Wrong HTTP method.
    MethodNotAllowed "method_not_allowed" => "Metode HTTP tidak didukung. Silakan gunakan POST.",
    /// More than the body limit.
    BodyTooLarge "body_too_large" => "Isi permintaan terlalu besar. Batasnya 64 KiB.",
    /// The body did not arrive in time.
    BodyTooSlow "body_too_slow" => "Isi permintaan tidak diterima lengkap dalam batas waktu. Silakan kirim ulang.",
    /// A content type that is not read.
    MediaTypeUnsupported "media_type_unsupported" => "Content-Type tidak didukung. Gunakan application/x-www-form-urlencoded, multipart/form-data, atau application/json.",
    /// A body that its content type cannot be read from.
    BodyMalformed "body_malformed" => "Isi permintaan tidak dapat dibaca sesuai Content-Type. Silakan periksa format parameter.",
}

impl Reason {
    /// The reverse of [`Self::code`].
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}

/// The sentence for a parameter that is not there or is empty.
pub fn parameter_missing(parameter: Parameter) -> String {
    format!("Parameter {} wajib diisi: {}.", parameter.name(), parameter.rule())
}

/// The sentence for a parameter whose value is not accepted.
pub fn parameter_invalid(parameter: Parameter) -> String {
    format!("Parameter {} tidak valid: harus {}.", parameter.name(), parameter.rule())
}

/// The sentence for a parameter that came more than once with different values.
pub fn parameter_repeated(parameter: Parameter) -> String {
    format!(
        "Parameter {} dikirim lebih dari sekali dengan nilai berbeda. Kirim satu nilai saja.",
        parameter.name()
    )
}

/// A reason, with the bank's code where it gave one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// The bank's code, `0054`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bank_code: Option<Cow<'static, str>>,
}

impl Refusal {
    /// A reason without a bank code.
    pub const fn new(reason: Reason) -> Self {
        Self { reason, bank_code: None }
    }

    /// A reason with the bank's code.
    pub fn with_code(reason: Reason, code: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, bank_code: Some(code.into()) }
    }

    /// The documented refusal of a bill that has been paid.
    pub const fn already_paid() -> Self {
        Self { reason: Reason::BillAlreadyPaid, bank_code: Some(Cow::Borrowed("0054")) }
    }

    /// The sentence that the partner reads.
    pub fn sentence(&self) -> String {
        match &self.bank_code {
            Some(code) => format!("{} (Kode: {code})", self.reason.sentence().trim_end_matches('.')),
            None => self.reason.sentence().to_owned(),
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_sentences_stand_to_the_letter() {
        assert_eq!(
            Refusal::new(Reason::VehicleNotFound).sentence(),
            "Maaf, Datamu Tidak Ketemu. Silakan periksa kembali nomor rangka dan nomor KTP yang telah dimasukkan."
        );
        assert_eq!(
            Refusal::already_paid().sentence(),
            "Transaksi tidak dapat diproses. Tagihan sudah dibayar (Kode: 0054)"
        );
    }

    #[test]
    fn codes_are_distinct_and_read_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
        }
    }

    #[test]
    fn every_sentence_ends_like_one() {
        for reason in Reason::ALL.iter().filter(|r| **r != Reason::BillAlreadyPaid) {
            assert!(reason.sentence().ends_with('.'), "{reason:?}");
        }
    }

    #[test]
    fn the_catalogue_for_partners_has_every_reason() {
        let catalogue = include_str!("../../../docs/errors.md");
        for reason in Reason::ALL {
            assert!(
                catalogue.contains(&format!("`{}`", reason.code())),
                "{reason:?} is not in docs/errors.md"
            );
            assert!(
                catalogue.contains(reason.sentence()),
                "{reason:?} has another sentence in docs/errors.md"
            );
        }
    }
}
