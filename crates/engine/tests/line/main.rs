//! The engine with a bank behind a real TCP line, and each fault of that bank by itself: whatever is said, lost or
//! damaged on the way, the ledger ends as the bank's own books.

mod kit;
mod rows;
