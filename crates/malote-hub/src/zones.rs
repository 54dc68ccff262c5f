//! Time zones: which there are, and when an hour of a store's own clock is.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use malote_domain::Timestamp;

/// Whether a name is a time zone's.
pub(crate) fn exists(zone: &str) -> bool {
    TimeZone::get(zone).is_ok()
}

/// Reads a local hour such as `2026-11-25T06:00`, giving its full form.
pub(crate) fn parse_local(text: &str) -> Option<String> {
    text.parse::<DateTime>().ok().map(|at| at.to_string())
}

/// The instant at which a store's clock shows this hour. An hour that a clock change skips comes right after the
/// gap; one that it repeats is taken the first time.
pub(crate) fn instant(local: &str, zone: &str) -> Option<Timestamp> {
    let at: DateTime = local.parse().ok()?;
    let zone = TimeZone::get(zone).ok()?;
    let instant = zone.to_ambiguous_zoned(at).compatible().ok()?.timestamp();
    Some(Timestamp::from_micros(instant.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_in_the_morning_is_not_everywhere_at_once() {
        let local = parse_local("2026-11-25T06:00").unwrap();
        let in_zone = |zone| instant(&local, zone).unwrap().to_string();
        assert_eq!(in_zone("America/Sao_Paulo"), "2026-11-25T09:00:00Z");
        assert_eq!(in_zone("America/Manaus"), "2026-11-25T10:00:00Z");
        assert_eq!(in_zone("America/Rio_Branco"), "2026-11-25T11:00:00Z");
    }

    #[test]
    fn zones_and_hours_are_checked() {
        assert!(exists("America/Sao_Paulo"));
        assert!(!exists("Brasil/Lua"));
        assert!(parse_local("tomorrow").is_none());
        assert!(parse_local("2026-02-30T06:00").is_none());
    }
}
