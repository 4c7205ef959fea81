//! Authenticate: user name and password on every call, without the hash being the throughput.
//!
//! An Argon2id verification takes some 17 ms of a core. A verified password is remembered for a few
//! minutes as a keyed MAC over name, password and stored hash (so that a changed hash forgets it), with a
//! key that lives in this process only. What is not remembered is checked in a small pool, limited by
//! address. Unknown users cost a hash as well, and read the same words.

use crate::{Engine, Ids, Refused, Turned, admission::Admission, limits};
use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use domain::{Partner, PartnerId, PartnerStatus, Reason, Secret, Username, limits::password_chars_max};
use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, state::keyed::DashMapStateStore,
};
use hmac::{Hmac, KeyInit, Mac};
use ipnet::IpNet;
use sha2::Sha256;
use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

/// The hash that unknown users are checked against. It is nobody's secret, so its salt need not be random.
static NOBODY: LazyLock<Secret> = LazyLock::new(|| hash_salted(&Secret::new("nobody"), [0; 16]));

/// The monotonic clock, as the limiter reads it.
#[derive(Clone, Debug)]
struct SinceStart(Instant);

impl Clock for SinceStart {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Remembered and running password checks.
pub(crate) struct Passwords {
    mac_key: [u8; 32],
    remembered: Mutex<HashMap<[u8; 32], Instant>>,
    by_network: RateLimiter<IpAddr, DashMapStateStore<IpAddr>, SinceStart, NoOpMiddleware<Duration>>,
    /// For callers at addresses on the partner's own list: nobody else's storm delays them.
    known_pool: Arc<Semaphore>,
    known_waiting: Admission<PartnerId>,
    open_pool: Arc<Semaphore>,
    open_waiting: Admission<IpAddr>,
}

impl Passwords {
    pub(crate) fn new(ids: &Ids) -> Self {
        let burst = NonZeroU32::new(limits::password_checks_burst_max).expect("the burst is not zero");
        // Now, so that the first unknown user takes no longer than the next.
        LazyLock::force(&NOBODY);
        Self {
            mac_key: ids.bytes(),
            remembered: Mutex::default(),
            by_network: RateLimiter::dashmap_with_clock(
                Quota::per_second(NonZeroU32::MIN).allow_burst(burst),
                SinceStart(Instant::now()),
            ),
            known_pool: Arc::new(Semaphore::new(limits::password_checks_parallel_max)),
            known_waiting: Admission::new(limits::password_checks_waiting_max),
            open_pool: Arc::new(Semaphore::new(limits::password_checks_parallel_max)),
            open_waiting: Admission::new(limits::password_checks_waiting_max),
        }
    }

    fn mac(&self, username: &str, password: &Secret, hash: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.mac_key).expect("HMAC takes keys of any length");
        for part in [username, password.expose(), hash] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }

    fn is_remembered(&self, mac: &[u8; 32]) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(mac).is_some_and(|until| *until > Instant::now())
    }

    /// Whoever keeps calling is not asked anew: a changed password has another MAC.
    fn renew(&self, mac: [u8; 32]) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = remembered.get_mut(&mac) {
            *until = Instant::now() + limits::password_memory_max;
        }
    }

    fn remember(&self, mac: [u8; 32]) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if remembered.len() >= limits::passwords_remembered_max {
            remembered.retain(|_, until| *until > now);
            if remembered.len() >= limits::passwords_remembered_max {
                remembered.clear();
            }
        }
        remembered.insert(mac, now + limits::password_memory_max);
    }

    /// Checks the password of somebody at an address on the partner's own list: limited by partner, so that
    /// one partner's storm leaves the others their turns.
    async fn check_known(&self, password: &Secret, partner: &Partner) -> Result<bool, Refused> {
        let waiting = self.known_waiting.admit(partner.id);
        let _waiting = waiting.ok_or_else(|| too_many(Duration::from_secs(1)))?;
        Self::check(&self.known_pool, password, partner.password_hash.expose()).await
    }

    /// Checks the password of somebody at any address: limited by network.
    async fn check_open(&self, password: &Secret, hash: &str, address: IpAddr) -> Result<bool, Refused> {
        let network = network_of(address);
        if self.by_network.check_key(&network).is_err() {
            metrics::counter!("esamsat_logins_limited_total").increment(1);
            return Err(too_many(Duration::from_secs(2)));
        }
        if self.by_network.len() > limits::passwords_remembered_max {
            self.by_network.retain_recent();
        }
        let waiting = self.open_waiting.admit(network);
        let _waiting = waiting.ok_or_else(|| too_many(Duration::from_secs(1)))?;
        Self::check(&self.open_pool, password, hash).await
    }

    async fn check(pool: &Arc<Semaphore>, password: &Secret, hash: &str) -> Result<bool, Refused> {
        let permit = timeout(limits::password_check_wait_max, Arc::clone(pool).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(too_many(Duration::from_secs(1))) };
        let (password, hash) = (password.clone(), hash.to_owned());
        let checked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            PasswordHash::new(&hash).is_ok_and(|parsed| {
                Argon2::default().verify_password(password.expose().as_bytes(), &parsed).is_ok()
            })
        });
        Ok(checked.await.unwrap_or(false))
    }
}

/// Whom an address stands for: itself, or with IPv6 the /64 that one subscriber has.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

fn too_many(retry_after: Duration) -> Refused {
    Refused { turned: Turned::TooMany { retry_after }, ..Refused::answer(Reason::TooManyAttempts) }
}

impl Engine {
    /// Who calls. Unknown user and wrong password are alike in words and in time.
    pub async fn authenticate(
        &self,
        username: &str,
        password: &Secret,
        address: IpAddr,
    ) -> Result<Arc<Partner>, Refused> {
        let bad = || Refused::answer(Reason::BadCredentials);
        let too_long = password.expose().chars().count() > password_chars_max;
        let partner = match Username::parse(username) {
            Some(username) if !too_long => self.catalogue.partner(&username).await?,
            _ => None,
        };
        let Some(partner) = partner else {
            self.passwords.check_open(password, NOBODY.expose(), address).await?;
            metrics::counter!("esamsat_logins_failed_total").increment(1);
            return Err(bad());
        };
        let hash = partner.password_hash.expose();
        let listed = is_listed(&partner.allowed_networks, address);
        let mac = self.passwords.mac(username, password, hash);
        if self.passwords.is_remembered(&mac) {
            self.passwords.renew(mac);
        } else {
            let is_right = if listed {
                self.passwords.check_known(password, &partner).await?
            } else {
                self.passwords.check_open(password, hash, address).await?
            };
            if !is_right {
                metrics::counter!("esamsat_logins_failed_total").increment(1);
                return Err(bad());
            }
            self.passwords.remember(mac);
        }
        if partner.status == PartnerStatus::Suspended {
            return Err(Refused::answer(Reason::PartnerSuspended));
        }
        if !partner.allowed_networks.is_empty() && !listed {
            return Err(Refused::answer(Reason::AddressNotAllowed));
        }
        Ok(partner)
    }
}

fn is_listed(networks: &[String], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().filter_map(|text| text.parse::<IpNet>().ok()).any(|network| network.contains(&address))
}

/// Hashes a password with Argon2id, for storing.
pub fn hash_password(password: &Secret, ids: &Ids) -> Secret {
    hash_salted(password, ids.bytes())
}

fn hash_salted(password: &Secret, salt: [u8; 16]) -> Secret {
    let hash = Argon2::default()
        .hash_password_with_salt(password.expose().as_bytes(), &salt)
        .expect("the default parameters hash any password of bounded length");
    Secret::new(hash.to_string())
}

/// Reads an allow-list: networks in CIDR form, or single addresses. The error is the entry that is not one.
pub fn parse_networks<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, String> {
    texts
        .into_iter()
        .map(|text| {
            let text = text.trim();
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map(|network| network.trunc().to_string()).map_err(|_| text.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let networks = parse_networks(["10.1.2.3/8", " 192.0.2.7 ", "2001:db8::/32"]).unwrap();
        assert_eq!(networks, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
        assert_eq!(parse_networks(["10.0.0.0/33"]), Err("10.0.0.0/33".to_owned()));
        for (address, listed) in [
            ("10.200.0.1", true),
            ("::ffff:10.200.0.1", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8::1", true),
        ] {
            assert_eq!(is_listed(&networks, address.parse().unwrap()), listed, "{address}");
        }
    }
}
