//! One owner at a time, by advisory lock on a file.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
    time::Duration,
};
use tokio::time::{Instant, sleep};

const POLL: Duration = Duration::from_millis(50);

/// Takes the lock of the file at `path`, made if missing; `None` when somebody else still has it after `patience`.
///
/// The lock goes away with the last open copy of the file, so it never outlives a killed process.
pub(crate) async fn lock_within(path: &Path, patience: Duration) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(None),
            Err(TryLockError::WouldBlock) => sleep(POLL).await,
        }
    }
}
