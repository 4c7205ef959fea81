//! One file's bytes: as everybody reads them, as the disk has them, and the changes between the two.

use crate::{disk::Loss, random::Random};

/// What a disk writes whole or not at all, in bytes: an old one's and a new one's.
const SECTORS: [usize; 2] = [512, 4096];

#[derive(Default)]
pub(crate) struct Image {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// In order.
    unsynced: Vec<Change>,
}

enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { size: usize },
}

/// What becomes of a list of unsynced changes when the power goes.
pub(crate) enum Keep {
    Nothing,
    All,
    /// The first so many are kept.
    First(usize),
    /// Each is kept or lost.
    Any,
    /// Each of their sectors is kept or lost.
    Torn {
        sector: usize,
        garbage: bool,
    },
}

impl Keep {
    pub(crate) fn draw(random: &mut Random, changes: usize) -> Self {
        match random.below(6) {
            0 => Self::Nothing,
            1 => Self::All,
            2 => Self::First(random.below(changes + 1)),
            3 => Self::Any,
            _ => Self::Torn { sector: SECTORS[random.below(SECTORS.len())], garbage: random.flip() },
        }
    }

    /// Whether the change of this index is kept as a whole.
    pub(crate) fn is_kept(&self, index: usize, random: &mut Random) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::First(count) => index < *count,
            Self::Any | Self::Torn { .. } => random.flip(),
        }
    }
}

fn write(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

fn apply(file: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => write(file, *offset, bytes),
        Change::Truncate { size } => file.truncate(*size),
    }
}

impl Image {
    /// A file that has been on the disk for long.
    pub(crate) fn durable(bytes: Vec<u8>) -> Self {
        Self { seen: bytes.clone(), durable: bytes, unsynced: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Fills the buffer as far as the file goes, and with zeros behind; how far the file went.
    pub(crate) fn read(&self, offset: usize, buffer: &mut [u8]) -> usize {
        let found = self.seen.get(offset..).unwrap_or_default();
        let count = found.len().min(buffer.len());
        buffer[..count].copy_from_slice(&found[..count]);
        buffer[count..].fill(0);
        count
    }

    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.change(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub(crate) fn truncate(&mut self, size: usize) {
        if size < self.seen.len() {
            self.change(Change::Truncate { size });
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.seen, &change);
        self.unsynced.push(change);
    }

    pub(crate) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    /// A sync that failed: everybody reads on what was written, and no later sync writes it.
    pub(crate) fn fail_to_sync(&mut self) {
        self.unsynced.clear();
    }

    /// What is left when the power goes.
    pub(crate) fn lose(&mut self, random: &mut Random) -> Loss {
        let changes = std::mem::take(&mut self.unsynced);
        let keep = Keep::draw(random, changes.len());
        let mut loss = Loss { unsynced: changes.len(), lost: 0 };
        for (index, change) in changes.iter().enumerate() {
            let is_whole = match (&keep, change) {
                (Keep::Torn { sector, garbage }, Change::Write { offset, bytes }) => {
                    self.tear(*offset, bytes, *sector, *garbage, random)
                }
                _ if keep.is_kept(index, random) => {
                    apply(&mut self.durable, change);
                    true
                }
                _ => false,
            };
            loss.lost += usize::from(!is_whole);
        }
        self.seen.clone_from(&self.durable);
        loss
    }

    /// Whether all of a write is left. Where the file has grown and the bytes were not written, there may be anything.
    fn tear(
        &mut self,
        offset: usize,
        bytes: &[u8],
        sector: usize,
        garbage: bool,
        random: &mut Random,
    ) -> bool {
        let mut is_whole = true;
        let mut at = offset;
        while at < offset + bytes.len() {
            let end = (at / sector + 1).saturating_mul(sector).min(offset + bytes.len());
            if random.flip() {
                write(&mut self.durable, at, &bytes[at - offset..end - offset]);
            } else {
                is_whole = false;
                if garbage && at >= self.durable.len() {
                    let mut anything = vec![0; end - at];
                    random.fill(&mut anything);
                    write(&mut self.durable, at, &anything);
                }
            }
            at = end;
        }
        is_whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn read(image: &Image) -> Vec<u8> {
        let mut bytes = vec![0; image.len()];
        image.read(0, &mut bytes);
        bytes
    }

    #[test]
    fn what_was_synced_is_left_and_the_rest_in_every_mixture() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let mut image = Image::durable(vec![1; 1024]);
            image.write(512, &[2; 512]);
            image.sync();
            image.write(0, &[3; 1024]);
            image.write(1024, &[4; 512]);
            image.truncate(1500);
            image.lose(&mut Random::of(seed));
            let left = read(&image);
            assert!(left[..512] == [1; 512] || left[..512] == [3; 512]);
            assert!(left[512..1024] == [2; 512] || left[512..1024] == [3; 512]);
            seen.insert((left[0], left[512], left.len()));
            assert_eq!(image.lose(&mut Random::of(seed)), Loss::default());
            assert_eq!(read(&image), left, "nothing more is lost");
        }
        for mixture in [(1, 2, 1024), (3, 2, 1024), (1, 3, 1024), (3, 3, 1500), (1, 2, 1536), (1, 2, 1500)] {
            assert!(seen.contains(&mixture), "{mixture:?} in {seen:?}");
        }
    }

    #[test]
    fn what_a_failed_sync_left_behind_is_read_and_lost() {
        let mut image = Image::durable(vec![1; 8]);
        image.write(0, &[2; 4]);
        image.fail_to_sync();
        image.write(4, &[3; 4]);
        image.sync();
        assert_eq!(read(&image), [2, 2, 2, 2, 3, 3, 3, 3]);
        image.lose(&mut Random::of(1));
        assert_eq!(read(&image), [1, 1, 1, 1, 3, 3, 3, 3]);
    }
}
