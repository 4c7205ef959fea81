//! The three books of a run under faults: the gateway's, the bank's and the clients'. In the end they must agree
//! to the rupiah.

use super::{
    Site,
    clients::{ALREADY_PAID, BEING_PAID, Note, OPENING, PARTNERS, Said, username},
    text, whole,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The gateway's invoices by number, after everything.
pub(crate) struct Books {
    pub(crate) invoices: BTreeMap<String, Value>,
}

impl Books {
    /// The gateway's.
    pub(crate) fn read(site: &Site) -> Self {
        let listed = site.json(&["invoice", "list", "--limit", "1000000"]);
        let listed = listed.as_array().expect("a list of invoices");
        let invoices: BTreeMap<_, _> = listed.iter().map(|i| (text(i, "number"), i.clone())).collect();
        assert_eq!(invoices.len(), listed.len(), "no number is given twice");
        Self { invoices }
    }

    /// All three books, which must agree.
    pub(crate) fn read_all(site: &Site, notes: &[Note]) -> Self {
        Self::read_all_with(site, notes, &site.json(&["sandbox", "payments"]))
    }

    /// All three books, of which the bank's were read elsewhere.
    pub(crate) fn read_all_with(site: &Site, notes: &[Note], payments: &Value) -> Self {
        let books = Self::read(site);
        books.agree_with_the_bank(payments);
        books.agree_with_the_clients(notes);
        books.agree_with_the_deposits(site);
        books
    }

    /// How many invoices are in this state.
    pub(crate) fn count(&self, word: &str) -> usize {
        self.invoices.values().filter(|invoice| invoice["state"] == word).count()
    }

    fn confirmed(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.invoices.iter().filter(|(_, invoice)| invoice["state"] == "CONFIRM")
    }

    /// The bank took it, if and only if it is CONFIRM; with equal amounts and numbers, and once.
    pub(crate) fn agree_with_the_bank(&self, payments: &Value) {
        let mut taken = BTreeMap::new();
        for payment in payments.as_array().expect("a list of payments") {
            let identity = text(payment, "identity");
            assert!(taken.insert(identity.clone(), payment).is_none(), "the bank took {identity} twice");
        }
        let bank: BTreeSet<String> = taken.keys().cloned().collect();
        let gateway: BTreeSet<String> =
            self.confirmed().map(|(_, invoice)| text(invoice, "identity")).collect();
        assert_eq!(bank, gateway, "the bank's payments are the gateway's CONFIRMs");
        // Some dialects have no room for a number of ours.
        let knows_invoices = taken.values().any(|payment| payment["invoice"] != "0");
        let mut bills = BTreeSet::new();
        for (number, invoice) in self.confirmed() {
            let payment = taken[&text(invoice, "identity")];
            let due = whole(invoice, "total_rupiah") - whole(invoice, "fee_rupiah");
            assert_eq!(whole(payment, "amount_rupiah"), due, "{number}");
            for key in ["identity", "payment_code", "reference_number", "trace_number"] {
                assert_eq!(payment[key], invoice[key], "{number}: {key}");
            }
            if knows_invoices {
                assert_eq!(text(payment, "invoice"), *number);
            }
            assert!(bills.insert(text(invoice, "payment_code")), "{number}: its bill was paid twice");
        }
    }

    /// What was said is there, and stands.
    fn agree_with_the_clients(&self, notes: &[Note]) {
        let mut given: HashMap<&str, usize> = HashMap::new();
        for Note { invoice: number, partner, said } in notes {
            let invoice =
                self.invoices.get(number).unwrap_or_else(|| panic!("{number} was answered and is lost"));
            let state = text(invoice, "state");
            assert_eq!(whole(invoice, "partner"), number_of(*partner), "{number} is its partner's");
            match said {
                Said::Bill { total, payment_code } => {
                    *given.entry(number).or_default() += 1;
                    assert_eq!(whole(invoice, "total_rupiah"), *total, "{number}");
                    assert_eq!(text(invoice, "payment_code"), *payment_code, "{number}");
                    assert_ne!(state, "FAILURE", "{number}");
                }
                Said::NoBill => {
                    *given.entry(number).or_default() += 1;
                    assert_eq!(state, "FAILURE", "{number}");
                }
                Said::State { word, total, numbers } => {
                    assert_eq!(whole(invoice, "total_rupiah"), *total, "{number}");
                    match &**word {
                        "CONFIRM" => {
                            let settled = (text(invoice, "reference_number"), text(invoice, "trace_number"));
                            assert_eq!(
                                (&*state, numbers),
                                ("CONFIRM", &settled),
                                "{number}: a CONFIRM was taken back"
                            );
                        }
                        "REFUND" => assert_eq!(state, "REFUND", "{number}: a REFUND was taken back"),
                        // What was once pending never was not begun.
                        "PENDING" => assert!(matches!(&*state, "CONFIRM" | "REFUND"), "{number}: {state}"),
                        word => assert_eq!(word, "INQUIRY", "{number}"),
                    }
                }
                Said::Refused { reason } if reason == ALREADY_PAID => {
                    // By this invoice, by another one for the same bill, or by somebody else (test number 302).
                    let code = text(invoice, "payment_code");
                    let is_paid = self.confirmed().any(|(_, paid)| paid["payment_code"] == *code);
                    assert!(
                        is_paid || text(invoice, "structure_number").starts_with("UJI302"),
                        "{number}: {invoice}"
                    );
                }
                // Of that moment alone: once the other invoice is refunded, this one can be paid.
                Said::Refused { reason } if reason == BEING_PAID => {}
                Said::Refused { reason } => {
                    assert_ne!(state, "CONFIRM", "{number} was refused ({reason}) and taken");
                }
            }
        }
        assert!(given.values().all(|count| *count == 1), "an invoice number was given to two inquiries");
    }

    /// The partners' money is what it was, less what was confirmed.
    fn agree_with_the_deposits(&self, site: &Site) {
        let of = |key: &str| -> i64 { self.confirmed().map(|(_, invoice)| whole(invoice, key)).sum() };
        for partner in 0..PARTNERS {
            let shown = site.json(&["partner", "show", &username(partner)]);
            let own = self.confirmed().filter(|(_, i)| whole(i, "partner") == number_of(partner));
            let spent: i64 = own.map(|(_, i)| whole(i, "total_rupiah") - whole(i, "cashback_rupiah")).sum();
            assert_eq!(whole(&shown, "deposit_rupiah"), OPENING - spent, "{shown}");
            assert_eq!(whole(&shown, "reserved_rupiah"), 0, "{shown}");
        }
        let ledger = site.json(&["ledger", "balances"]);
        assert_eq!(whole(&ledger, "sum_rupiah"), 0);
        let balance = |account: &str| -> i64 {
            let accounts = ledger["balances"].as_array().expect("a list of balances");
            let alike = accounts.iter().filter(|balance| balance["account"] == account);
            alike.map(|balance| whole(balance, "balance_rupiah")).sum()
        };
        assert_eq!(balance("bank_payable"), of("fee_rupiah") - of("total_rupiah"));
        assert_eq!(balance("fee_income"), -of("fee_rupiah"));
        assert_eq!(balance("cashback_expense"), of("cashback_rupiah"));
        assert_eq!(balance("reserved"), 0);
    }
}

/// How often the clients read this state's word.
pub(crate) fn times_said(notes: &[Note], word: &str) -> usize {
    let is_it = |note: &&Note| matches!(&note.said, Said::State { word: said, .. } if said == word);
    notes.iter().filter(is_it).count()
}

/// What counts from zero here counts from one there.
fn number_of(index: usize) -> i64 {
    i64::try_from(index).expect("there are few") + 1
}
