//! Writing a folder so that it is complete or absent.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::error::ModelError;

/// Has `fill` write into a folder beside `out`, waits for the disk, and gives it its name.
///
/// # Errors
/// [`ModelError::Occupied`] where `out` already holds something; what `fill` says; or what the disk says. Nothing
/// is left behind then.
pub(super) fn write(
    out: &Path,
    fill: impl FnOnce(&Path) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    let occupied = || ModelError::Occupied { path: out.into() };
    let full = std::path::absolute(out).map_err(ModelError::write(out))?;
    let (Some(name), Some(parent)) = (full.file_name(), full.parent()) else {
        return Err(occupied());
    };
    let empty = match fs::read_dir(&full) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if !empty {
        return Err(occupied());
    }
    let partial = parent.join(format!(".{}.partial", name.to_string_lossy()));
    // Left by a process that was killed.
    let _ = fs::remove_dir_all(&partial);
    let written = fs::create_dir_all(&partial)
        .map_err(ModelError::write(&partial))
        .and_then(|()| fill(&partial))
        .and_then(|()| {
            let place = || {
                sync(&partial)?;
                // Renaming onto an empty folder is not possible everywhere.
                if full.exists() {
                    fs::remove_dir(&full)?;
                }
                fs::rename(&partial, &full)?;
                sync_directory(parent)
            };
            place().map_err(ModelError::write(out))
        });
    if written.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

/// Waits until the disk has everything in a folder, and the folder.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => sync(&path)?,
            // Opened for writing: Windows does not sync what is opened for reading.
            false => File::options().write(true).open(&path)?.sync_all()?,
        }
    }
    sync_directory(folder)
}

/// A name lasts once the directory that holds it is on disk.
fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
