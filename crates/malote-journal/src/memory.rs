//! A journal in memory with the same rules: for tests and simulations.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::journal::{
    AppendError, Appended, Entry, Expected, HISTORY_EVENTS_MAX, Journal, LoadError, Place, Stored, check,
};

/// Streams in memory.
#[derive(Debug, Default)]
pub struct Memory {
    streams: Mutex<BTreeMap<String, Vec<Stored>>>,
}

impl Memory {
    /// Everything in a stream, oldest first.
    pub fn messages(&self, stream: &str) -> Vec<Stored> {
        self.lock().get(stream).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Stored>>> {
        // A panic elsewhere cannot leave a half-made append: all of it happens under one lock.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a subject is covered by a filter of the wildcards `*` and `>`.
pub(crate) fn matches(filter: &str, subject: &str) -> bool {
    let mut wanted = filter.split('.');
    let mut tokens = subject.split('.');
    loop {
        match (wanted.next(), tokens.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(want), Some(token)) if want == "*" || want == token => {}
            _ => return false,
        }
    }
}

impl Journal for Memory {
    async fn load(&self, stream: &str, filter: &str) -> Result<Vec<Stored>, LoadError> {
        let streams = self.lock();
        let all = streams.get(stream).map(Vec::as_slice).unwrap_or_default();
        let history: Vec<_> = all.iter().filter(|stored| matches(filter, &stored.subject)).cloned().collect();
        if history.len() > HISTORY_EVENTS_MAX {
            return Err(LoadError::TooLong { filter: filter.to_owned() });
        }
        Ok(history)
    }

    async fn append(
        &self,
        place: &Place,
        expected: Expected,
        entries: &[Entry],
    ) -> Result<Appended, AppendError> {
        check(place, entries)?;
        let mut streams = self.lock();
        let stream = streams.entry(place.stream.to_owned()).or_default();
        let existing = entries.last().and_then(|entry| {
            stream.iter().find(|stored| stored.id.as_deref() == Some(entry.id.to_string().as_str()))
        });
        if let Some(existing) = existing {
            return Ok(Appended::Existed { last: existing.sequence });
        }
        let last = stream
            .iter()
            .rev()
            .find(|stored| matches(&place.filter, &stored.subject))
            .map_or(0, |stored| stored.sequence);
        if last != expected.sequence() {
            return Err(AppendError::Conflict { subject: place.subject.clone() });
        }
        let mut sequence = stream.len() as u64;
        for entry in entries {
            sequence += 1;
            stream.push(Stored {
                sequence,
                subject: place.subject.clone(),
                id: Some(entry.id.to_string()),
                payload: entry.payload.clone(),
            });
        }
        Ok(Appended::Created { last: sequence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_cover_what_the_brokers_would() {
        for (filter, subject, covered) in [
            ("lots.*.1", "lots.all.1", true),
            ("lots.*.1", "lots.all.2", false),
            ("lots.>", "lots.all.1", true),
            ("lots.>", "lots", false),
            ("lots.*", "lots.all.1", false),
            ("lots.all.1", "lots.all.1", true),
        ] {
            assert_eq!(matches(filter, subject), covered, "{filter} {subject}");
        }
    }
}
