//! Every bound of the faces, in one place. Units are in the names or in the type.
#![expect(non_upper_case_globals, reason = "bounds are named like the quantities that they bound")]

use std::time::Duration;

/// The body of a request.
pub const body_bytes_max: usize = 64 * 1024;

/// What is still read and thrown away of a larger body, so that its sender gets to read the refusal.
pub const discarded_bytes_max: usize = 1024 * 1024;

/// Request line and headers together.
pub const head_bytes_max: usize = 64 * 1024;

/// Connections waiting in the kernel to be accepted.
pub const accept_backlog_max: u32 = 4_096;

/// The pause after the system refused another connection (no descriptors left).
pub const accept_retry_pause: Duration = Duration::from_millis(50);

/// The answer of a partner's call leaves before this, whatever is stuck behind it. The engine's own
/// deadline is earlier; this is the contract's 60 s with room for the way back.
pub const answer_within_max: Duration = Duration::from_secs(57);

/// How long the readiness check may take before it counts as "not ready".
pub const readiness_within_max: Duration = Duration::from_secs(5);

/// Default of [`crate::Settings::connections_max`].
pub const connections_max: usize = 10_000;

/// Default of [`crate::Settings::connections_per_address_max`].
pub const connections_per_address_max: usize = 5_000;

/// Default of [`crate::Settings::header_read_timeout`].
pub const header_read_max: Duration = Duration::from_secs(10);

/// Default of [`crate::Settings::body_read_timeout`].
pub const body_read_max: Duration = Duration::from_secs(10);

/// Default of [`crate::Settings::idle_timeout`]. Longer than what clients usually keep a connection for,
/// so that it is they who close it, and no pay is sent into a closing one.
pub const idle_max: Duration = Duration::from_secs(75);

/// Default of [`crate::Settings::write_timeout`].
pub const write_stall_max: Duration = Duration::from_secs(10);

/// When stopping, how long a connection that was just made is waited on for its request.
pub const last_request_wait: Duration = Duration::from_millis(500);

/// Default of [`crate::Settings::shutdown_grace`]: every request under way is answered within it.
pub const shutdown_grace_max: Duration = Duration::from_mins(1);
