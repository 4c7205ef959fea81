//! PostgreSQL keeps the suite, tells random histories as the model does, and settles what a lost connection
//! leaves open. The server is the one that `TEST_DATABASE_URL` names; `cargo xtask test` starts one.

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod history;
#[cfg(test)]
mod import;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod lost;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod versions;
