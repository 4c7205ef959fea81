//! The vocabulary and the rules of the gateway.
//!
//! Everything here is pure: no I/O, no async, no clock, no randomness. Time, ids and random values
//! come in as values. What moves money is decided in [`decide()`], once, for every backend, for the
//! in-memory model and for simulation alike.
//!
//! Deliberately absent: how rows are stored (`store`), how a bank is asked (`bank`), who asks and
//! when (`engine`), and what the wire looks like (`web`).

pub mod bill;
pub mod command;
pub mod decide;
pub mod invoice;
pub mod lease;
pub mod ledger;
pub mod limits;
pub mod money;
pub mod partner;
pub mod product;
pub mod reason;
pub mod record;
pub mod rows;
pub mod time;
pub mod value;

pub use bill::{Bill, Taxes};
pub use command::{Accepted, Command, Decision, Rejection};
pub use decide::decide;
pub use invoice::{Attempt, BankReceipt, Invoice, InvoiceNumber, NotPaidProof, State, UpstreamTerms};
pub use lease::{Fence, Lease};
pub use ledger::{Account, Posting, Slot};
pub use money::Rupiah;
pub use partner::{Partner, PartnerId, PartnerStatus};
pub use product::Product;
pub use reason::{Parameter, Reason, Refusal};
pub use time::{BusinessDate, Clock, Timestamp};
pub use value::{
    AgentCode, ChassisNumber, Environment, Nik, PaymentCode, ProductCode, Secret, Terminal, UpstreamId,
    Username,
};
