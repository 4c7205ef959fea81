//! What an operator can set about the engine.

use std::time::Duration;

/// See each field; [`Settings::default`] is what a gateway should run with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Inquiry and pay answer within this time of the request's arrival. Under 60 s by contract.
    pub answer_within: Duration,
    /// A payment that could not be sent within this time of its reservation never is.
    pub send_within: Duration,
    /// The first status question about an open payment comes after this pause; later ones double it.
    pub status_question_pause: Duration,
    /// A payment open for longer raises an incident.
    pub pending_long_after: Duration,
    /// Requests that change something, under way at the same time.
    pub work_max: usize,
    /// Commands waiting to be written.
    pub queue_max: usize,
    /// Batches written at the same time.
    pub lanes: usize,
    /// What a gateway that shares its store looked after is taken over by another one after so long without a
    /// sign of life; none for a gateway that is alone with its store.
    pub lease_after: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            answer_within: Duration::from_secs(45),
            send_within: Duration::from_secs(5),
            status_question_pause: Duration::from_secs(1),
            pending_long_after: Duration::from_hours(1),
            work_max: 2_048,
            queue_max: 8_192,
            lanes: 1,
            lease_after: None,
        }
    }
}
