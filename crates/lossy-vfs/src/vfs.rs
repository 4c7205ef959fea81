//! `SQLite`'s interface to file systems, in C: it hands over pointers, and this hands on to `disk.rs`.
//!
//! The VFS is a copy of the operating system's but for opening, deleting and looking for files: of files on no
//! [`Disk`](crate::Disk), these are the operating system's too. What it says of itself is what `SQLite`'s VFS for Unix
//! says: power-safe overwrites, sectors of 4096 bytes.

use crate::disk::{self, Handle, Level, Refusal};
use rusqlite::ffi;
use std::{
    ffi::{CStr, OsStr, c_char, c_int, c_void},
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr,
    sync::{
        OnceLock,
        atomic::{Ordering, fence},
    },
};

/// What `SQLite` reserves memory for and hands back with every call on a file.
#[repr(C)]
struct OpenFile {
    base: ffi::sqlite3_file,
    /// From a box; owned until the file is closed.
    handle: *mut Handle,
}

/// The operating system's VFS, which `SQLite` keeps for ever.
struct Host(*mut ffi::sqlite3_vfs);

// SAFETY: SQLite itself calls a VFS from any thread, and nothing here changes it.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

static HOST: OnceLock<Host> = OnceLock::new();

/// Makes this the process's default VFS, once.
pub(crate) fn register() {
    HOST.get_or_init(|| {
        // SAFETY: no name asks for the default one, which is there from the beginning and for ever.
        let host = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        assert!(!host.is_null(), "SQLite has a VFS");
        // SAFETY: it was just found.
        let like_host = unsafe { *host };
        let own_bytes = c_int::try_from(size_of::<OpenFile>()).expect("it is small");
        let own = Box::leak(Box::new(ffi::sqlite3_vfs {
            szOsFile: like_host.szOsFile.max(own_bytes),
            pNext: ptr::null_mut(),
            zName: c"lossy".as_ptr(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            ..like_host
        }));
        // SAFETY: it is never freed.
        let registered = unsafe { ffi::sqlite3_vfs_register(own, 1) };
        assert_eq!(registered, ffi::SQLITE_OK);
        Host(host)
    });
}

fn host() -> *mut ffi::sqlite3_vfs {
    HOST.get().expect("it was found before it was copied").0
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    // Without memory-mapped reads, which the third version has.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// # Safety
/// The name is a C string that outlives the call.
unsafe fn path<'a>(name: *const c_char) -> &'a Path {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    Path::new(OsStr::from_bytes(name.to_bytes()))
}

/// # Safety
/// The file was opened here and is not closed. `SQLite` makes one call on it at a time.
unsafe fn handle<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Handle {
    // SAFETY: `open` wrote an `OpenFile` there, and its handle lives until `close`.
    unsafe { &mut *(*file.cast::<OpenFile>()).handle }
}

fn code(done: Result<(), Refusal>, io_error: c_int) -> c_int {
    match done {
        Ok(()) => ffi::SQLITE_OK,
        Err(Refusal::Busy) => ffi::SQLITE_BUSY,
        Err(Refusal::Io) => io_error,
    }
}

/// Offsets and lengths are never negative.
fn count(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or_else(|_| panic!("SQLite counts from zero"))
}

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: a name that is there is a C string; a file without one is temporary.
    let found = (!name.is_null()).then(|| unsafe { path(name) });
    let Some((name_on_disk, disk)) = found.and_then(|path| Some((path, disk::disk_of(path)?))) else {
        // SAFETY: all arguments are SQLite's own, but for the VFS, which is the host's as it expects.
        return unsafe { (*host()).xOpen.expect("every VFS opens")(host(), name, file, flags, out_flags) };
    };
    // SAFETY: SQLite gives `szOsFile` bytes. Without methods it does not close a file that was not opened.
    unsafe { (*file).pMethods = ptr::null() };
    let may_create = flags & ffi::SQLITE_OPEN_CREATE != 0;
    let is_journal = flags & (ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_WAL) != 0;
    let handle = match disk.open(name_on_disk, may_create, may_create && is_journal) {
        Ok(Some(handle)) => Box::into_raw(Box::new(handle)),
        Ok(None) => return ffi::SQLITE_CANTOPEN,
        Err(_) => return ffi::SQLITE_IOERR,
    };
    let opened = OpenFile { base: ffi::sqlite3_file { pMethods: &raw const METHODS }, handle };
    // SAFETY: as above; `OpenFile` fits into `szOsFile` bytes.
    unsafe { file.cast::<OpenFile>().write(opened) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    sync_directory: c_int,
) -> c_int {
    // SAFETY: the name is a C string.
    let found = unsafe { path(name) };
    match disk::disk_of(found).map(|disk| disk.delete(found, sync_directory & 1 != 0)) {
        Some(Ok(true)) => ffi::SQLITE_OK,
        Some(Ok(false)) => ffi::SQLITE_IOERR_DELETE_NOENT,
        Some(Err(_)) => ffi::SQLITE_IOERR_DELETE,
        // SAFETY: all arguments are SQLite's own, but for the VFS, which is the host's as it expects.
        None => unsafe { (*host()).xDelete.expect("every VFS deletes")(host(), name, sync_directory) },
    }
}

unsafe extern "C" fn access(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: the name is a C string.
    let found = unsafe { path(name) };
    let Some(disk) = disk::disk_of(found) else {
        // SAFETY: all arguments are SQLite's own, but for the VFS, which is the host's as it expects.
        return unsafe { (*host()).xAccess.expect("every VFS looks for files")(host(), name, flags, out) };
    };
    let Ok(exists) = disk.exists(found) else { return ffi::SQLITE_IOERR_ACCESS };
    // SAFETY: it points to an integer of the caller's.
    unsafe { *out = c_int::from(exists) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: `open` boxed it, and SQLite closes a file once.
    drop(unsafe { Box::from_raw((*file.cast::<OpenFile>()).handle) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the buffer has so many bytes, which SQLite has initialised or does not read before they are.
    let buffer = unsafe {
        buffer.cast::<u8>().write_bytes(0, count(amount));
        std::slice::from_raw_parts_mut(buffer.cast::<u8>(), count(amount))
    };
    // SAFETY: an open file.
    match unsafe { handle(file) }.read(count(offset), buffer) {
        Ok(found) if found < buffer.len() => ffi::SQLITE_IOERR_SHORT_READ,
        done => code(done.map(drop), ffi::SQLITE_IOERR_READ),
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: so many bytes are there.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), count(amount)) };
    // SAFETY: an open file.
    code(unsafe { handle(file) }.write(count(offset), bytes), ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: an open file.
    code(unsafe { handle(file) }.truncate(count(size)), ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: an open file.
    code(unsafe { handle(file) }.sync(), ffi::SQLITE_IOERR_FSYNC)
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, out: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: an open file.
    let Ok(size) = unsafe { handle(file) }.len() else { return ffi::SQLITE_IOERR_FSTAT };
    // SAFETY: it points to an integer of the caller's.
    unsafe { *out = size.try_into().expect("files are small") };
    ffi::SQLITE_OK
}

fn level(lock: c_int) -> Level {
    match lock {
        ffi::SQLITE_LOCK_NONE => Level::None,
        ffi::SQLITE_LOCK_SHARED => Level::Shared,
        ffi::SQLITE_LOCK_RESERVED => Level::Reserved,
        ffi::SQLITE_LOCK_EXCLUSIVE => Level::Exclusive,
        _ => panic!("SQLite asks for no lock {lock}"),
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, lock: c_int) -> c_int {
    // SAFETY: an open file.
    code(unsafe { handle(file) }.lock(level(lock)), ffi::SQLITE_IOERR_LOCK)
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, lock: c_int) -> c_int {
    // SAFETY: an open file.
    unsafe { handle(file) }.unlock(level(lock));
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: an open file.
    let Ok(is_reserved) = unsafe { handle(file) }.is_reserved() else {
        return ffi::SQLITE_IOERR_CHECKRESERVEDLOCK;
    };
    // SAFETY: it points to an integer of the caller's.
    unsafe { *out = c_int::from(is_reserved) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_file: *mut ffi::sqlite3_file, _operation: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn device_characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE | ffi::SQLITE_IOCAP_SUBPAGE_READ
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    index: c_int,
    bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: an open file.
    let mapped = unsafe { handle(file) }.map(count(index), count(bytes), extend != 0);
    let region = match mapped {
        // The atomics may be written to through a pointer to them, and the handle keeps them until it is unmapped.
        Ok(region) => region.map_or(ptr::null_mut(), |region| region.as_ptr().cast_mut().cast()),
        Err(_) => return ffi::SQLITE_IOERR_SHMMAP,
    };
    // SAFETY: it points to a pointer of the caller's.
    unsafe { *out = region };
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    locks: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: an open file.
    let handle = unsafe { handle(file) };
    let locks = count(first)..count(first + locks);
    let is_exclusive = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        handle.unlock_memory(locks, is_exclusive);
        return ffi::SQLITE_OK;
    }
    code(handle.lock_memory(locks, is_exclusive), ffi::SQLITE_IOERR_SHMLOCK)
}

unsafe extern "C" fn shm_barrier(_file: *mut ffi::sqlite3_file) {
    fence(Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _delete: c_int) -> c_int {
    // SAFETY: an open file.
    unsafe { handle(file) }.unmap();
    ffi::SQLITE_OK
}
