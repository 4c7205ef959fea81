//! A disk for `SQLite` that loses what was not synced, and a machine whose processes die.
//!
//! [`Disk::mount`] takes over a directory: `SQLite` files that this process opens there live in memory, through the
//! VFS in `vfs.rs`, which becomes the process's default one. Code under test opens its database as ever. Files
//! elsewhere go to the operating system's VFS.
//!
//! | what | is durable once |
//! | --- | --- |
//! | a write, a truncation | that file was synced |
//! | a name that was made or removed | the directory was synced |
//!
//! The directory is synced with the first sync of a new journal or log, and with a deletion that asks for it, as by
//! `SQLite`'s own VFS for Unix.
//!
//! [`Disk::lose_power`] decides by a seed what becomes of the rest, for every file and for the directory by itself: all
//! lost, all kept, the first so many kept, any of them kept, or any sectors of them. Bytes inside a file that were not
//! written to are never damaged (`SQLite` assumes as much of disks: *power-safe overwrite*).
//!
//! Deliberately absent: disks that damage what was durable, memory-mapped reads, and more than one process.

mod disk;
mod image;
mod random;
#[expect(unsafe_code, reason = "SQLite calls a file system through C")]
mod vfs;

pub use disk::{Disk, Fate, Loss, Operation};
