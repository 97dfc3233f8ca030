//! The store's file: found, or made under another name until it is whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;

use crate::engine::opening;
use crate::error::Error;

/// A file under its final name, or one that gets it later.
pub(crate) enum Place {
    /// The store's own name.
    There(FileBackend),
    /// `<name>.new`, so that a file under the store's name is whole from the first moment.
    New(FileBackend, PathBuf),
}

/// The file, or a new one beside it.
pub(crate) fn place(file: &Path, create: bool) -> Result<Place, Error> {
    let path = file.to_path_buf();
    match OpenOptions::new().read(true).write(true).open(file) {
        Ok(there) => {
            let known = there.metadata();
            let known = known.map_err(|error| Error::io(file, "open the file", error))?;
            if known.len() == 0 && known.is_file() {
                // A store is given its name when it is whole.
                let what = "it is empty".to_owned();
                return Err(Error::Damaged { file: path, what });
            }
            Ok(Place::There(backend(there, file)?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !create {
                return Err(Error::NoFile { file: path });
            }
            if !directory(file).is_dir() {
                return Err(Error::NoDirectory { file: path });
            }
            let (backend, new) = create_new(file)?;
            Ok(Place::New(backend, new))
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(Error::NoDirectory { file: path })
        }
        Err(error) => Err(Error::io(file, "open the file", error)),
    }
}

/// The file that has the store's name.
#[derive(Debug)]
pub(crate) struct Named {
    file: PathBuf,
    /// Device and inode, where there are such.
    is: Option<(u64, u64)>,
    /// The file once more, so that each write to it is on disk when it returns. Without it, an fsync follows each.
    synced: Option<File>,
}

impl Named {
    /// The file at this place, which has the name or gets it.
    pub(crate) fn new(place: &Path, name: &Path) -> Self {
        Self {
            file: name.to_path_buf(),
            is: identity(place).ok().flatten(),
            synced: synced(place),
        }
    }

    /// Whether it has its name still: what is written to a file without one is gone when it is closed. Costs a system call.
    pub(crate) fn is_there(&self) -> bool {
        match identity(&self.file) {
            Ok(is) => self.is.is_none() || is == self.is,
            // What can't be known now is no reason to take nothing more.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    pub(crate) const fn synced(&self) -> Option<&File> {
        self.synced.as_ref()
    }
}

fn identity(file: &Path) -> io::Result<Option<(u64, u64)>> {
    let found = std::fs::metadata(file)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Ok(Some((found.dev(), found.ino())))
    }
    #[cfg(not(unix))]
    {
        let _ = found;
        Ok(None)
    }
}

fn synced(file: &Path) -> Option<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flag = i32::try_from(rustix::fs::OFlags::DSYNC.bits()).ok()?;
        OpenOptions::new()
            .write(true)
            .custom_flags(flag)
            .open(file)
            .ok()
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        None
    }
}

/// Opens `<name>.new`, which one process at a time may do.
pub(crate) fn create_new(file: &Path) -> Result<(FileBackend, PathBuf), Error> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // What is kept is for the owner to read, also where the folder was made by somebody else.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.open(&new);
    let made = made.map_err(|error| Error::io(file, "make the file", error))?;
    match made.try_lock() {
        Ok(()) => Ok((backend(made, file)?, new)),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Locked {
            file: file.to_path_buf(),
        }),
        Err(std::fs::TryLockError::Error(error)) => Err(Error::io(file, "lock the file", error)),
    }
}

/// Gives a whole file its name, for good. Another file of this name was made meanwhile by a process that has it open.
pub(crate) fn publish(new: &Path, file: &Path) -> Result<(), Error> {
    let named = || {
        if file.try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        std::fs::rename(new, file)?;
        // Without this, the name may be lost with the power.
        #[cfg(unix)]
        File::open(directory(file))?.sync_all()?;
        Ok(())
    };
    named().map_err(|error: io::Error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            let file = file.to_path_buf();
            return Error::Locked { file };
        }
        Error::io(file, "name the file", error)
    })
}

/// Where the file is.
pub(crate) fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn backend(file: File, path: &Path) -> Result<FileBackend, Error> {
    FileBackend::new(file).map_err(|error| opening(error, path))
}
