//! The disk: its directory, its files with the locks and the shared memory on them, and the processes that have them
//! open.

use crate::{
    image::{Image, Keep},
    random::Random,
    vfs,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// A directory whose `SQLite` files lose what was not synced. Dropping it forgets the files.
pub struct Disk {
    inner: Arc<Inner>,
}

/// What a process asks of the disk, as far as it changes something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// A new file.
    Create,
    /// Bytes of a file.
    Write,
    /// A file is cut off.
    Truncate,
    /// A file's changes become durable, and the directory's if the file is new.
    Sync,
    /// A file's name goes.
    Delete,
}

/// What becomes of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is done.
    Done,
    /// An I/O error. What a failed sync should have made durable is read on by everybody, and written by no later sync;
    /// whoever else has the file open hears of it once, with a sync of their own, as on Linux.
    Fails,
    /// It is said to be done, and is not: a sync that does nothing.
    Lies,
    /// The power is cut before it. Nothing works any more until [`Disk::lose_power`].
    PowerCut,
}

/// What a power cut cost.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Loss {
    /// Changes that were not synced, of files and of the directory.
    pub unsynced: usize,
    /// Of these, those that are not left, or not whole.
    pub lost: usize,
}

type Decide = Arc<dyn Fn(Operation) -> Fate + Send + Sync>;

static DISKS: Mutex<Vec<Arc<Inner>>> = Mutex::new(Vec::new());

pub(crate) struct Inner {
    directory: PathBuf,
    next_id: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts the ends of all processes; what was opened before the last one is dead.
    epoch: u64,
    is_off: bool,
    decide: Option<Decide>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// In order: a name that was made, or removed.
    unsynced_names: Vec<(PathBuf, Option<u64>)>,
    files: BTreeMap<u64, File>,
}

#[derive(Default)]
struct File {
    image: Image,
    /// Handles that have it open.
    open_count: usize,
    /// How many of its syncs failed.
    failed_syncs: u64,
    locks: BTreeMap<u64, Level>,
    memory: Memory,
}

/// `SQLite`'s levels of locks on a database file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    None,
    Shared,
    Reserved,
    Pending,
    Exclusive,
}

/// How many locks the shared memory of a log has.
const MEMORY_LOCKS: usize = 8;

/// A part of the shared memory; `SQLite` writes to it through a pointer.
pub(crate) type Region = Arc<[AtomicU64]>;

/// The shared memory of a log, and the locks on it.
#[derive(Default)]
struct Memory {
    regions: Vec<Region>,
    /// Who has it mapped.
    users: BTreeMap<u64, MemoryLocks>,
}

#[derive(Clone, Copy, Default)]
struct MemoryLocks {
    shared: [bool; MEMORY_LOCKS],
    exclusive: [bool; MEMORY_LOCKS],
}

impl MemoryLocks {
    fn of_kind(&mut self, is_exclusive: bool) -> &mut [bool; MEMORY_LOCKS] {
        if is_exclusive { &mut self.exclusive } else { &mut self.shared }
    }
}

/// Why an operation on a file was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// The process is dead, the power is off, or the operation failed.
    Io,
    /// Somebody else has a lock.
    Busy,
}

/// An open file.
pub(crate) struct Handle {
    disk: Arc<Inner>,
    epoch: u64,
    id: u64,
    file: u64,
    /// The directory is synced with the first sync of the file.
    syncs_directory: bool,
    /// How many failed syncs of the file it knows of.
    failed_syncs: u64,
    /// Kept for as long as `SQLite` has pointers to them.
    regions: Vec<Region>,
}

impl Disk {
    /// Takes over a directory. A `SQLite` file that is there already has been durable for long, but an empty one was
    /// made just now.
    pub fn mount(directory: &Path) -> Self {
        vfs::register();
        let directory = directory.canonicalize().expect("the directory is there");
        let inner = Arc::new(Inner { directory, next_id: AtomicU64::new(1), state: Mutex::default() });
        disks().push(Arc::clone(&inner));
        Self { inner }
    }

    /// Decides over every operation from now on.
    pub fn decide(&self, decide: impl Fn(Operation) -> Fate + Send + Sync + 'static) {
        self.inner.state().decide = Some(Arc::new(decide));
    }

    /// All goes well from now on.
    pub fn heal(&self) {
        self.inner.state().decide = None;
    }

    /// Every process that has a file open is dead. The operating system has what they wrote, synced or not.
    pub fn kill(&self) {
        self.inner.state().end_processes();
    }

    /// The power goes, and comes back. What was synced is there; what else is, is the seed's choice.
    pub fn lose_power(&self, seed: u64) -> Loss {
        let mut random = Random::of(seed);
        let mut state = self.inner.state();
        state.end_processes();
        state.is_off = false;
        let mut loss = state.lose_names(&mut random);
        for file in state.files.values_mut() {
            let lost_with_file = file.image.lose(&mut random);
            loss.unsynced += lost_with_file.unsynced;
            loss.lost += lost_with_file.lost;
        }
        loss
    }

    /// Whether the power was cut and has not come back.
    pub fn is_off(&self) -> bool {
        self.inner.state().is_off
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        disks().retain(|disk| !Arc::ptr_eq(disk, &self.inner));
    }
}

fn disks() -> MutexGuard<'static, Vec<Arc<Inner>>> {
    DISKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The disk that a file is on, unless that is the operating system's.
pub(crate) fn disk_of(path: &Path) -> Option<Arc<Inner>> {
    let directory = path.parent()?;
    disks().iter().find(|disk| disk.directory == directory).cloned()
}

impl State {
    fn end_processes(&mut self) {
        self.epoch += 1;
        for file in self.files.values_mut() {
            file.open_count = 0;
            file.locks.clear();
            file.memory = Memory::default();
        }
        self.forget_unnamed();
    }

    fn forget_unnamed(&mut self) {
        let named = |id: &u64| {
            let unsynced = self.unsynced_names.iter().filter_map(|(_, id)| id.as_ref());
            self.names.values().chain(self.durable_names.values()).chain(unsynced).any(|found| found == id)
        };
        let kept: Vec<u64> = self.files.keys().copied().filter(named).collect();
        self.files.retain(|id, file| file.open_count > 0 || kept.contains(id));
    }

    fn rename(&mut self, path: &Path, file: Option<u64>) {
        set(&mut self.names, path, file);
        self.unsynced_names.push((path.to_owned(), file));
    }

    fn sync_names(&mut self) {
        for (path, file) in std::mem::take(&mut self.unsynced_names) {
            set(&mut self.durable_names, &path, file);
        }
        self.forget_unnamed();
    }

    fn lose_names(&mut self, random: &mut Random) -> Loss {
        let changes = std::mem::take(&mut self.unsynced_names);
        let keep = Keep::draw(random, changes.len());
        let mut loss = Loss { unsynced: changes.len(), lost: 0 };
        for (index, (path, file)) in changes.into_iter().enumerate() {
            if keep.is_kept(index, random) {
                set(&mut self.durable_names, &path, file);
            } else {
                loss.lost += 1;
            }
        }
        for gone in self.names.keys().filter(|path| !self.durable_names.contains_key(*path)) {
            remove_from_host(gone);
        }
        self.names.clone_from(&self.durable_names);
        self.forget_unnamed();
        loss
    }

    /// The file of a name, which is taken from the operating system where that has one of it.
    fn find(&mut self, path: &Path, disk: &Inner) -> Option<u64> {
        if let Some(found) = self.names.get(path) {
            return Some(*found);
        }
        let bytes = fs::read(path).ok()?;
        let id = disk.id();
        if bytes.is_empty() {
            self.rename(path, Some(id));
        } else {
            self.names.insert(path.to_owned(), id);
            self.durable_names.insert(path.to_owned(), id);
        }
        self.files.insert(id, File { image: Image::durable(bytes), ..File::default() });
        Some(id)
    }
}

fn set(names: &mut BTreeMap<PathBuf, u64>, path: &Path, file: Option<u64>) {
    match file {
        Some(file) => names.insert(path.to_owned(), file),
        None => names.remove(path),
    };
}

/// Programs look there whether a database exists, so that its name stands there too.
fn remove_from_host(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", path.display()),
        _ => {}
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The state, if what was opened in this epoch can still do something; and what becomes of an operation.
    fn begin(&self, epoch: u64, operation: Operation) -> Result<(MutexGuard<'_, State>, Fate), Refusal> {
        let decide = self.alive(epoch)?.decide.clone();
        // Outside of the lock: whoever decides may have locks of its own.
        let fate = decide.map_or(Fate::Done, |decide| decide(operation));
        let mut state = self.alive(epoch)?;
        if fate == Fate::PowerCut {
            state.is_off = true;
            return Err(Refusal::Io);
        }
        if fate == Fate::Fails && operation != Operation::Sync {
            return Err(Refusal::Io);
        }
        Ok((state, fate))
    }

    fn alive(&self, epoch: u64) -> Result<MutexGuard<'_, State>, Refusal> {
        let state = self.state();
        if state.is_off || state.epoch != epoch { Err(Refusal::Io) } else { Ok(state) }
    }

    fn epoch(&self) -> u64 {
        self.state().epoch
    }

    /// Opens a file; none where there is none and none may be made.
    pub(crate) fn open(
        self: &Arc<Self>,
        path: &Path,
        may_create: bool,
        syncs_directory: bool,
    ) -> Result<Option<Handle>, Refusal> {
        let epoch = self.epoch();
        let found = self.alive(epoch)?.find(path, self);
        let file = match found {
            Some(file) => file,
            None if may_create => {
                let (mut state, _) = self.begin(epoch, Operation::Create)?;
                let file = self.id();
                state.files.insert(file, File::default());
                state.rename(path, Some(file));
                file
            }
            None => return Ok(None),
        };
        let mut state = self.alive(epoch)?;
        state.file(file).open_count += 1;
        let failed_syncs = state.file(file).failed_syncs;
        let (disk, id) = (Arc::clone(self), self.id());
        Ok(Some(Handle { disk, epoch, id, file, syncs_directory, failed_syncs, regions: Vec::new() }))
    }

    pub(crate) fn exists(&self, path: &Path) -> Result<bool, Refusal> {
        let epoch = self.epoch();
        let mut state = self.alive(epoch)?;
        // As on Unix, a file without bytes counts as none.
        Ok(state.find(path, self).is_some_and(|file| state.file(file).image.len() > 0))
    }

    /// Removes a name. Whether it was there.
    pub(crate) fn delete(&self, path: &Path, syncs_directory: bool) -> Result<bool, Refusal> {
        let epoch = self.epoch();
        if self.alive(epoch)?.find(path, self).is_none() {
            return Ok(false);
        }
        let (mut state, _) = self.begin(epoch, Operation::Delete)?;
        remove_from_host(path);
        state.rename(path, None);
        drop(state);
        if syncs_directory {
            let (mut state, fate) = self.begin(epoch, Operation::Sync)?;
            match fate {
                Fate::Done => state.sync_names(),
                Fate::Fails => return Err(Refusal::Io),
                Fate::Lies | Fate::PowerCut => {}
            }
        }
        Ok(true)
    }
}

impl State {
    fn file(&mut self, id: u64) -> &mut File {
        self.files.get_mut(&id).expect("an open file is kept")
    }
}

impl Handle {
    /// Fills the buffer; how much of it the file had.
    pub(crate) fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<usize, Refusal> {
        Ok(self.disk.alive(self.epoch)?.file(self.file).image.read(offset, buffer))
    }

    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Refusal> {
        let (mut state, _) = self.disk.begin(self.epoch, Operation::Write)?;
        state.file(self.file).image.write(offset, bytes);
        Ok(())
    }

    pub(crate) fn truncate(&self, size: usize) -> Result<(), Refusal> {
        let (mut state, _) = self.disk.begin(self.epoch, Operation::Truncate)?;
        state.file(self.file).image.truncate(size);
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<(), Refusal> {
        let (mut state, fate) = self.disk.begin(self.epoch, Operation::Sync)?;
        let file = state.file(self.file);
        if fate == Fate::Fails {
            file.image.fail_to_sync();
            file.failed_syncs += 1;
        }
        if std::mem::replace(&mut self.failed_syncs, file.failed_syncs) < file.failed_syncs {
            return Err(Refusal::Io);
        }
        match fate {
            Fate::Done | Fate::Fails => file.image.sync(),
            Fate::Lies | Fate::PowerCut => return Ok(()),
        }
        if std::mem::take(&mut self.syncs_directory) {
            state.sync_names();
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> Result<usize, Refusal> {
        Ok(self.disk.alive(self.epoch)?.file(self.file).image.len())
    }

    /// Takes a lock, or a higher one than before.
    pub(crate) fn lock(&self, level: Level) -> Result<(), Refusal> {
        let mut state = self.disk.alive(self.epoch)?;
        let locks = &mut state.file(self.file).locks;
        let own = locks.get(&self.id).copied().unwrap_or(Level::None);
        let others = locks
            .iter()
            .filter(|(id, _)| **id != self.id)
            .map(|(_, level)| *level)
            .max()
            .unwrap_or(Level::None);
        if own >= level {
            return Ok(());
        }
        let (taken, is_enough) = match level {
            Level::Shared if others < Level::Pending => (level, true),
            Level::Reserved if others < Level::Reserved => (level, true),
            // Nobody new comes in meanwhile.
            Level::Exclusive if others == Level::Shared => (Level::Pending, false),
            Level::Exclusive if others == Level::None => (level, true),
            _ => (own, false),
        };
        locks.insert(self.id, taken);
        if is_enough { Ok(()) } else { Err(Refusal::Busy) }
    }

    pub(crate) fn unlock(&self, level: Level) {
        if let Ok(mut state) = self.disk.alive(self.epoch) {
            state.file(self.file).locks.insert(self.id, level);
        }
    }

    /// Whether anybody is about to write.
    pub(crate) fn is_reserved(&self) -> Result<bool, Refusal> {
        let mut state = self.disk.alive(self.epoch)?;
        Ok(state.file(self.file).locks.values().any(|level| *level >= Level::Reserved))
    }

    /// A part of the shared memory; none where there is none yet and none is to be made.
    pub(crate) fn map(
        &mut self,
        index: usize,
        bytes: usize,
        extend: bool,
    ) -> Result<Option<&Region>, Refusal> {
        let mut state = self.disk.alive(self.epoch)?;
        let memory = &mut state.file(self.file).memory;
        memory.users.entry(self.id).or_default();
        if memory.regions.len() <= index && !extend {
            return Ok(None);
        }
        while memory.regions.len() <= index {
            memory.regions.push((0..bytes.div_ceil(8)).map(|_| AtomicU64::new(0)).collect());
        }
        self.regions.clone_from(&memory.regions);
        Ok(self.regions.get(index))
    }

    pub(crate) fn lock_memory(
        &self,
        locks: std::ops::Range<usize>,
        is_exclusive: bool,
    ) -> Result<(), Refusal> {
        let mut state = self.disk.alive(self.epoch)?;
        let users = &mut state.file(self.file).memory.users;
        let mut others = users.iter().filter(|(id, _)| **id != self.id).map(|(_, held)| held);
        if others
            .any(|held| locks.clone().any(|lock| held.exclusive[lock] || (is_exclusive && held.shared[lock])))
        {
            return Err(Refusal::Busy);
        }
        let own = users.entry(self.id).or_default();
        own.of_kind(is_exclusive)[locks].fill(true);
        Ok(())
    }

    pub(crate) fn unlock_memory(&self, locks: std::ops::Range<usize>, is_exclusive: bool) {
        if let Ok(mut state) = self.disk.alive(self.epoch) {
            let own = state.file(self.file).memory.users.entry(self.id).or_default();
            own.of_kind(is_exclusive)[locks].fill(false);
        }
    }

    /// The last one to go takes the memory along.
    pub(crate) fn unmap(&mut self) {
        self.regions.clear();
        if let Ok(mut state) = self.disk.alive(self.epoch) {
            let memory = &mut state.file(self.file).memory;
            memory.users.remove(&self.id);
            if memory.users.is_empty() {
                memory.regions.clear();
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.unmap();
        let mut state = self.disk.state();
        if state.epoch == self.epoch {
            let file = state.file(self.file);
            file.open_count -= 1;
            file.locks.remove(&self.id);
        }
    }
}
