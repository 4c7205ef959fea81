//! What is listened in on: whole frames, as they leave a gateway and as they reach it.
//!
//! It tells the auditor of each payment request at the moment at which it leaves, and counts which answers came.

use crate::{auditor::Auditor, record::Record, store::Lens};
use bank::{
    frame::Frame,
    profile::{LineProfile, MatchKey, Meaning, Operation, Part, Value},
};
use bytes::{Bytes, BytesMut};
use engine::{bank, domain};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio_util::codec::Decoder;

/// The frames of a stream of bytes.
pub(super) struct Frames {
    frame: Frame,
    buffer: BytesMut,
}

impl Frames {
    pub(super) fn of(profile: &LineProfile) -> Self {
        Self { frame: profile.frame, buffer: BytesMut::new() }
    }

    /// Those that are complete with these bytes. What cannot be read ends it.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Bytes> {
        self.buffer.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Ok(Some(frame)) = self.frame.decode(&mut self.buffer) {
            frames.push(frame);
        }
        frames
    }

    /// Whether it stands in the middle of one.
    pub(super) fn is_within(&self) -> bool {
        !self.buffer.is_empty()
    }
}

/// What all connections' taps share.
pub(crate) struct Tap {
    pub(super) profile: LineProfile,
    pub(super) record: Arc<Record>,
    /// Both are known once there is a world.
    audit: OnceLock<(Arc<Auditor>, Lens)>,
    /// Which gateway last signed on with a terminal.
    signed_on: Mutex<BTreeMap<String, String>>,
}

impl Tap {
    pub(super) fn new(profile: LineProfile, record: Arc<Record>) -> Arc<Self> {
        Arc::new(Self { profile, record, audit: OnceLock::new(), signed_on: Mutex::default() })
    }

    pub(super) fn tell(&self, auditor: Arc<Auditor>, lens: Lens) {
        assert!(self.audit.set((auditor, lens)).is_ok(), "a run has one world");
    }

    fn payment_leaves(&self, identity: &str) {
        let Some((auditor, lens)) = self.audit.get() else { return };
        let of_identity = |invoice: &domain::Invoice| {
            invoice.state.attempt().is_some_and(|attempt| attempt.identity == identity)
        };
        // One that a question has settled meanwhile is open no more.
        let settled = || lens.invoices().into_iter().find(of_identity);
        match lens.pending().into_iter().find(of_identity).or_else(settled) {
            Some(invoice) => {
                self.record.note(Some(invoice.number.get()), format!("{identity} leaves"));
                auditor.sent(invoice.number.get(), identity, true);
            }
            None => self.record.wrong(None, format!("{identity} leaves, and no payment is recorded as it")),
        }
    }

    fn signs_on(&self, terminal: &str, gateway: &str) {
        let mut signed_on = self.signed_on.lock().unwrap_or_else(PoisonError::into_inner);
        match signed_on.insert(terminal.to_owned(), gateway.to_owned()) {
            Some(before) if before == gateway => self.record.probe("line: signed on again"),
            Some(_) => self.record.probe("line: a terminal moved to another gateway"),
            None => {}
        }
    }
}

/// The tap of one connection.
pub(super) struct Listening {
    tap: Arc<Tap>,
    gateway: String,
    going: Frames,
    coming: Frames,
    /// When each request left, and how often it was answered.
    asked: HashMap<MatchKey, (Duration, u32)>,
}

impl Listening {
    pub(super) fn new(tap: &Arc<Tap>, gateway: &str) -> Self {
        Self {
            tap: Arc::clone(tap),
            gateway: gateway.to_owned(),
            going: Frames::of(&tap.profile),
            coming: Frames::of(&tap.profile),
            asked: HashMap::new(),
        }
    }

    /// A gateway has written this.
    pub(super) fn goes(&mut self, bytes: &[u8]) {
        for frame in self.going.feed(bytes) {
            let profile = &self.tap.profile;
            let message = profile.spec.decode(&frame).expect("a gateway writes what can be read");
            let Some((operation, Part::Request { is_repeat })) = profile.operation_of(&message) else {
                continue;
            };
            let values = profile.read_request(operation, &message).expect("a gateway's own request");
            let trace = values.get(Value::Trace).unwrap_or_default();
            let what = format!("{} writes: {} {trace}", self.gateway, operation.name());
            self.tap.record.note(None, what);
            if let Some(key) = profile.match_key(&message) {
                self.asked.insert(key, (self.tap.record.elapsed(), 0));
            }
            match operation {
                Operation::Payment if is_repeat => {
                    self.tap.record.wrong(None, "a payment request was repeated");
                }
                Operation::Payment => {
                    let identity = LineProfile::identity(&values).expect("a payment has an identity");
                    self.tap.payment_leaves(&identity);
                }
                Operation::SignOn => {
                    self.tap.signs_on(values.get(Value::Terminal).unwrap_or_default(), &self.gateway);
                }
                _ => {}
            }
        }
    }

    /// A gateway has read this.
    pub(super) fn comes(&mut self, bytes: &[u8]) {
        let record = Arc::clone(&self.tap.record);
        for frame in self.coming.feed(bytes) {
            let profile = &self.tap.profile;
            let Ok(message) = profile.spec.decode(&frame) else {
                record.probe("line: a message that cannot be read");
                continue;
            };
            let Some((operation, part)) = profile.operation_of(&message) else {
                record.probe("line: a message of no kind");
                continue;
            };
            let Part::Answer = part else {
                record.probe(&format!("line: the bank asks, {}", operation.name()));
                continue;
            };
            let code = message.get(39).unwrap_or_default();
            let meaning = match profile.meaning(operation, code) {
                Meaning::Refused(_) => "refused".to_owned(),
                other => format!("{other:?}"),
            };
            record.probe(&format!("line: {} answered {meaning}", operation.name()));
            let trace = message.get(11).unwrap_or_default();
            record.note(None, format!("{} reads: {} {trace}, {meaning}", self.gateway, operation.name()));
            let key = profile.match_key(&message);
            let Some((at, answers)) = key.and_then(|key| self.asked.get_mut(&key)) else {
                record.probe("line: an answer to nothing on this connection");
                continue;
            };
            *answers += 1;
            if *answers > 1 {
                record.probe("line: a second answer");
            } else if record.elapsed().saturating_sub(*at) > profile.answer_timeout {
                record.probe("line: an answer after its deadline");
            }
        }
    }
}
