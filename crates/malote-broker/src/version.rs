//! nats-server's version: what `--version` prints and what `/varz` and INFO carry.

use std::{fmt, str::FromStr};

/// A nats-server version that can be compared; a pre-release comes before its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerVersion {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number.
    pub patch: u16,
    /// False for a release candidate, preview or beta. Last, so that the derived order puts it before its release.
    pub release: bool,
}

impl ServerVersion {
    /// The oldest version malote runs on: up to 2.14.5 block compaction ignored `sync_interval: always`, so a power cut
    /// could take acknowledged messages.
    pub const MIN: Self = Self { major: 2, minor: 15, patch: 0, release: true };

    /// Reads the answer of `nats-server --version`, as in `nats-server: v2.15.1`.
    pub(crate) fn from_output(output: &str) -> Result<Self, BadVersion> {
        let bad = || BadVersion(output.trim().chars().take(80).collect());
        let (program, version) = output.trim().split_once(':').ok_or_else(bad)?;
        if program != "nats-server" {
            return Err(bad());
        }
        version.trim().parse()
    }
}

/// What was given is not a nats-server version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a nats-server version such as 2.15.1")]
pub struct BadVersion(String);

impl FromStr for ServerVersion {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadVersion(text.to_owned());
        let numbered = text.strip_prefix('v').unwrap_or(text);
        // Build metadata (after `+`) says nothing about order.
        let numbered = numbered.split_once('+').map_or(numbered, |(version, _)| version);
        let (numbers, pre) =
            numbered.split_once('-').map_or((numbered, None), |(numbers, pre)| (numbers, Some(pre)));
        let mut parts = numbers.split('.').map(|part| part.parse::<u16>().map_err(|_| bad()));
        let mut next = || parts.next().ok_or_else(bad)?;
        let (major, minor, patch) = (next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Self { major, minor, patch, release: pre.is_none() })
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if self.release { Ok(()) } else { out.write_str("-pre") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ServerVersion {
        text.parse().unwrap()
    }

    #[test]
    fn order_is_by_number_and_a_pre_release_comes_first() {
        let sorted =
            ["2.9.25", "2.10.0", "v2.14.5", "2.15.0-RC.1", "2.15.0", "2.15.1", "2.15.10+build.7", "3.0.0"];
        assert!(sorted.is_sorted_by(|a, b| version(a) < version(b)));
        assert!(version("2.15.0-RC.1") < ServerVersion::MIN);
        assert!(version("2.15.0") >= ServerVersion::MIN);
    }

    #[test]
    fn the_programs_answer_is_read_and_other_programs_are_not() {
        assert_eq!(ServerVersion::from_output("nats-server: v2.15.1\n"), Ok(version("2.15.1")));
        for odd in [
            "",
            "nats-server",
            "nginx: v2.15.1",
            "nats-server: latest",
            "nats-server: 2.15",
            "nats-server: 2.15.1.2",
        ] {
            assert!(ServerVersion::from_output(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn printing_and_reading_agree() {
        for text in ["2.15.1", "2.16.0-pre"] {
            assert_eq!(version(text).to_string(), text);
        }
    }
}
