//! What can be asked on the command line.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use malote_client::{Client, ClientError};

use crate::{bench, demo, lots, pdvs, stores, trace, up};

/// Where the hub is by custom.
const HUB: &str = "http://127.0.0.1:8480";
/// Names the hub for all commands of a shell.
const HUB_VARIABLE: &str = "MALOTE_HUB";

/// Carries lots of records from a retailer's back office to its tills.
///
/// Data goes to stdout, all else to stderr. Exit codes: 0 all of it is so; 1 refused or done in part (records refused,
/// tills that failed or did not report in time); 2 what was asked makes no sense (arguments, files, unknown names);
/// 3 the hub does not answer; 130 interrupted.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// The hub [default: $MALOTE_HUB, or http://127.0.0.1:8480]
    #[arg(long, global = true, value_name = "URL")]
    hub: Option<String>,
    /// How long to ask a hub that does not answer
    #[arg(long, global = true, value_name = "TIME", value_parser = duration, default_value = "10s")]
    patience: Duration,
    /// Write JSON to stdout, one line each
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more: -v what is done, -vv how
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Write the log as JSON lines
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
}

impl Global {
    pub(crate) fn client(&self) -> Result<Client, ClientError> {
        let named = || std::env::var(HUB_VARIABLE).ok().filter(|url| !url.is_empty());
        let url = self.hub.clone().or_else(named).unwrap_or_else(|| HUB.to_owned());
        Ok(Client::new(&url)?.with_patience(self.patience))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run broker, hub and database as one, until told to stop
    Up(up::UpArgs),
    /// Run the hub alone, against a broker of your own
    Hub(up::HubArgs),
    /// Send lots of records and follow them
    #[command(subcommand)]
    Lot(lots::Command),
    /// Register stores
    #[command(subcommand)]
    Store(stores::Command),
    /// Register, run and look at tills
    #[command(subcommand)]
    Pdv(pdvs::Command),
    /// Where one record is, and why not where it is not
    Trace(trace::TraceArgs),
    /// Show all of it in one process: stores, tills, lots that go right, late and wrong
    Demo(demo::Args),
    /// Measure how fast and how small it is on this machine
    Bench(bench::Args),
}

/// Reads arguments, the program's name first.
///
/// # Errors
/// What clap has to say: a mistake, or the help or version that was asked for.
pub fn parse<A: Into<OsString> + Clone>(args: impl IntoIterator<Item = A>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(args)
}

/// A span of time: `90`, `90s`, `15m`, `2h`, `1d` or `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no span of time; write it as 500ms, 90s, 15m, 2h or 1d");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn spans_of_time_have_units() {
        for (text, span) in [
            ("90", Duration::from_secs(90)),
            ("90s", Duration::from_secs(90)),
            ("15m", Duration::from_secs(900)),
            ("2h", Duration::from_secs(7_200)),
            ("1d", Duration::from_secs(86_400)),
            ("500ms", Duration::from_millis(500)),
        ] {
            assert_eq!(duration(text), Ok(span), "{text}");
        }
        for text in ["", "s", "-1s", "1.5h", "1w", "1 s", "99999999999999999999s", "999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    fn refused(args: &[&str]) -> String {
        let args = ["malote"].iter().chain(args).map(|arg| (*arg).to_owned());
        parse(args).expect_err("refused").to_string()
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_does() {
        assert!(refused(&["lot", "send", "a.csv"]).contains("--kind"));
        assert!(refused(&["lot", "send", "a.csv", "--kind", "price", "--mode", "all"]).contains("full"));
        assert!(refused(&["lot", "send", "a.csv", "--kind", "a b"]).contains("'a b'"));
        assert!(
            refused(&["lot", "send", "a.csv", "--kind", "price", "--scope", "everyone"]).contains("group-")
        );
        assert!(
            refused(&["lot", "send", "a.csv", "--kind", "price", "--delimiter", ";;"])
                .contains("one character")
        );
        assert!(refused(&["lot", "status", "17"]).contains("UUID"));
        assert!(refused(&["pdv", "add", "loja 1", "2"]).contains("loja 1"));
        let full = ["lot", "send", "a.csv", "--kind", "price", "--mode", "full", "--changed-only"];
        assert!(
            parse(["malote"].iter().chain(&full)).is_ok(),
            "refused by the command, for clap cannot say why"
        );
    }

    #[test]
    fn flags_of_all_commands_may_come_last() {
        let cli = parse(["malote", "lot", "ls", "--hub", "http://h:1", "--json"]).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.client().unwrap().url(), "http://h:1");
    }
}
