//! esamsat
fn main() {}
