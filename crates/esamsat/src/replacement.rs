//! A file that takes another one's place when it is complete: whoever reads there sees the old one or the new one,
//! whoever is killed meanwhile.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// Written beside the file that it replaces, and removed unless it comes to that.
#[derive(Debug)]
pub struct Replacement {
    file: BufWriter<File>,
    at: PathBuf,
    of: PathBuf,
    is_in_place: bool,
}

impl Replacement {
    /// Begins an empty one.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut at = path.as_os_str().to_owned();
        at.push(".partial");
        let at = PathBuf::from(at);
        let file = BufWriter::new(File::create(&at)?);
        Ok(Self { file, at, of: path.to_owned(), is_in_place: false })
    }

    /// It is complete.
    pub fn take_place(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.at, &self.of)?;
        self.is_in_place = true;
        Ok(())
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_in_place {
            let _perhaps_gone = fs::remove_file(&self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn the_old_file_stays_until_the_new_one_is_complete() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("books");
        fs::write(&path, "old").unwrap();
        for (is_completed, expected) in [(false, "old"), (true, "new")] {
            let mut replacement = Replacement::of(&path).unwrap();
            replacement.write_all(b"new").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "old");
            if is_completed {
                replacement.take_place().unwrap();
            } else {
                drop(replacement);
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        }
    }
}
