//! What came out, for programs and for people.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::{Args, Floor as Floors, Lot, Phase, Price};
use crate::bench::input::Input;
use crate::bench::machine::Machine;

/// The whole result. Units are in the names; `one_pdv` and `all_pdvs` are the two phases.
#[derive(Debug, Serialize)]
pub(in crate::bench) struct Results {
    bench: &'static str,
    machine: Machine,
    input: What,
    ours: Ours,
    floor: Floor,
    ratio: Ratio,
    /// The parts of the two phases' times, and who used the processor.
    detail: Detail,
}

#[derive(Debug, Serialize)]
struct What {
    file: String,
    kinds: Vec<String>,
    records: u64,
    pdvs: u16,
    rounds: u16,
    repeat: u16,
    /// Processes that wanted a core in the minute before: more than a few tenths means that they were measured too.
    load_before: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Ours {
    one_pdv_closed_s: f64,
    one_pdv_applied_s: f64,
    one_pdv_applied_runs_s: Vec<f64>,
    one_pdv_records_per_s: f64,
    all_pdvs_closed_s: f64,
    all_pdvs_first_applied_s: f64,
    all_pdvs_last_applied_s: f64,
    all_pdvs_last_applied_runs_s: Vec<f64>,
    http_bytes_per_record: f64,
    stream_bytes_per_record: f64,
    /// Of one price, from asking for the close to the one till's report of having committed it.
    close_to_till_p50_ms: f64,
    close_to_till_p99_ms: f64,
    close_to_till_max_ms: f64,
    /// Parts of that time: until the close was acknowledged, and from the till's notice seen to all written.
    price_close_p50_ms: f64,
    price_till_p50_ms: f64,
    /// The same with all tills, to the last one's report.
    close_to_all_pdvs_p50_ms: f64,
    close_to_all_pdvs_p99_ms: f64,
    close_to_all_pdvs_max_ms: f64,
    /// The most resident at any time of any phase, in millions of bytes; of the tills that with most.
    pdv_rss_mb: f64,
    hub_rss_mb: f64,
    sender_rss_mb: f64,
    broker_rss_mb: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied_s_tenfold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pdv_rss_mb_tenfold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hub_rss_mb_tenfold: Option<f64>,
}

/// The rows into a bare table: the median run of the faster order counts.
#[derive(Debug, Serialize)]
struct Floor {
    bare_sqlite_s: f64,
    as_sent_runs_s: Vec<f64>,
    by_key_runs_s: Vec<f64>,
    bare_sqlite_records_per_s: f64,
}

#[derive(Debug, Serialize)]
struct Ratio {
    one_pdv: f64,
    all_pdvs: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pdv_rss_tenfold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hub_rss_tenfold: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Detail {
    one_pdv: Parts,
    all_pdvs: Parts,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenfold: Option<Parts>,
}

/// One lot's time, part by part, and the processor time until the last till had it.
#[derive(Clone, Copy, Debug, Serialize)]
struct Parts {
    /// File read, records sent, checked, packed and stored.
    fill_s: f64,
    close_s: f64,
    /// The slowest till, from its notice seen to all written: download and apply.
    till_s: f64,
    /// What is left from the close acknowledged to the last till's report: the notice on its way out, then the
    /// commit, which folds the log back into the database, and the report on its way here.
    notice_commit_report_s: f64,
    /// From the last till's report to the hub's own catalogue having the lot; below zero when the hub was first.
    tables_after_s: f64,
    sender_cpu_s: f64,
    hub_cpu_s: f64,
    broker_cpu_s: f64,
    pdvs_cpu_s: f64,
}

impl Parts {
    fn of(lot: &Lot) -> Self {
        let s = |duration: Duration| duration.as_secs_f64();
        let used = lot.used;
        Self {
            fill_s: round(s(lot.sent)),
            close_s: round(s(lot.closed) - s(lot.sent)),
            till_s: round(s(lot.till_took)),
            notice_commit_report_s: round(s(lot.last_applied) - s(lot.closed) - s(lot.till_took)),
            tables_after_s: round(s(lot.tables) - s(lot.last_applied)),
            sender_cpu_s: round(used.sender.cpu_s),
            hub_cpu_s: round(used.hub.cpu_s),
            broker_cpu_s: round(used.broker.cpu_s),
            pdvs_cpu_s: round(used.tills.cpu_s),
        }
    }
}

impl Results {
    pub(super) fn new(
        args: &Args,
        input: &Input,
        load_before: Option<f64>,
        floors: &[Floors],
        one: &[Phase],
        all: &[Phase],
        tenfold: Option<&Phase>,
    ) -> Self {
        let runs = |phases: &[Phase]| phases.iter().map(|phase| seconds(phase.lot.last_applied)).collect();
        let (a, b) = (median_phase(one), median_phase(all));
        let as_sent: Vec<_> = floors.iter().map(|floor| floor.as_sent).collect();
        let by_key: Vec<_> = floors.iter().map(|floor| floor.by_key).collect();
        let floor = median(&as_sent).min(median(&by_key)).as_secs_f64();
        let floor_runs = |runs: &[Duration]| runs.iter().copied().map(seconds).collect();
        let records = number(a.lot.records);
        let most = |of: fn(&Phase) -> f64| round(one.iter().chain(all).map(of).fold(0.0, f64::max));
        let (pdv_rss_mb, hub_rss_mb) = (most(|p| p.used.tills.rss_mb), most(|p| p.used.hub.rss_mb));
        let one_applied = a.lot.last_applied.as_secs_f64();
        let ours = Ours {
            one_pdv_closed_s: seconds(a.lot.closed),
            one_pdv_applied_s: seconds(a.lot.last_applied),
            one_pdv_applied_runs_s: runs(one),
            one_pdv_records_per_s: (records / one_applied).round(),
            all_pdvs_closed_s: seconds(b.lot.closed),
            all_pdvs_first_applied_s: seconds(b.lot.first_applied),
            all_pdvs_last_applied_s: seconds(b.lot.last_applied),
            all_pdvs_last_applied_runs_s: runs(all),
            http_bytes_per_record: round(number(a.lot.body_bytes) / records),
            stream_bytes_per_record: round(number(a.lot.stored_bytes) / records),
            close_to_till_p50_ms: percentile(one, 50, |p| p.applied),
            close_to_till_p99_ms: percentile(one, 99, |p| p.applied),
            close_to_till_max_ms: percentile(one, 100, |p| p.applied),
            price_close_p50_ms: percentile(one, 50, |p| p.closed),
            price_till_p50_ms: percentile(one, 50, |p| p.till_took),
            close_to_all_pdvs_p50_ms: percentile(all, 50, |p| p.applied),
            close_to_all_pdvs_p99_ms: percentile(all, 99, |p| p.applied),
            close_to_all_pdvs_max_ms: percentile(all, 100, |p| p.applied),
            pdv_rss_mb,
            hub_rss_mb,
            sender_rss_mb: most(|p| p.used.sender.rss_mb),
            broker_rss_mb: most(|p| p.used.broker.rss_mb),
            applied_s_tenfold: tenfold.map(|phase| seconds(phase.lot.last_applied)),
            pdv_rss_mb_tenfold: tenfold.map(|phase| round(phase.used.tills.rss_mb)),
            hub_rss_mb_tenfold: tenfold.map(|phase| round(phase.used.hub.rss_mb)),
        };
        let one_rss = |of: fn(&Phase) -> f64| one.iter().map(of).fold(0.0, f64::max);
        Self {
            bench: "lots",
            machine: a.machine.clone(),
            input: What {
                file: if args.data.is_some() {
                    input.path.display().to_string()
                } else {
                    "made up".to_owned()
                },
                kinds: input.kinds.clone(),
                records: a.lot.records,
                pdvs: args.pdvs,
                rounds: args.rounds,
                repeat: args.repeat,
                load_before,
            },
            floor: Floor {
                bare_sqlite_s: round(floor),
                as_sent_runs_s: floor_runs(&as_sent),
                by_key_runs_s: floor_runs(&by_key),
                bare_sqlite_records_per_s: (records / floor).round(),
            },
            ratio: Ratio {
                one_pdv: round(one_applied / floor),
                all_pdvs: round(b.lot.last_applied.as_secs_f64() / floor),
                pdv_rss_tenfold: tenfold
                    .map(|phase| round(phase.used.tills.rss_mb / one_rss(|p| p.used.tills.rss_mb))),
                hub_rss_tenfold: tenfold
                    .map(|phase| round(phase.used.hub.rss_mb / one_rss(|p| p.used.hub.rss_mb))),
            },
            detail: Detail {
                one_pdv: Parts::of(&a.lot),
                all_pdvs: Parts::of(&b.lot),
                tenfold: tenfold.map(|phase| Parts::of(&phase.lot)),
            },
            ours,
        }
    }
}

impl Results {
    /// A page for people.
    pub(in crate::bench) fn text(&self) -> String {
        let mut page = String::new();
        self.write(&mut page);
        page
    }

    fn write(&self, out: &mut String) {
        let Self { input, ours, floor, ratio, detail, .. } = self;
        let machine = self.machine.line();
        let load = input.load_before.map_or_else(String::new, |load| format!("; load before {load}"));
        let tills = input.pdvs;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{machine}{load}");
        let _ = writeln!(out, "{} records ({}) of {}\n", input.records, input.kinds.join(", "), input.file);
        let mut row = |what: String, value: String, note: String| {
            let _ = writeln!(out, "{what:<44}{value:>14}  {note}");
        };
        let s = |value: f64| format!("{value:.3} s");
        let mb = |value: f64| format!("{value:.1} MB");
        let ms = |p50: f64, p99: f64, max: f64| {
            (
                format!("{p50:.1} ms"),
                format!("half of them; 99 of 100 within {p99:.1} ms, all within {max:.1} ms"),
            )
        };
        row(
            "floor: the rows into a bare table".into(),
            s(floor.bare_sqlite_s),
            format!("as sent{}, by key{}", runs(&floor.as_sent_runs_s), runs(&floor.by_key_runs_s)),
        );
        let note = format!("{:.2} × floor{}", ratio.one_pdv, runs(&ours.one_pdv_applied_runs_s));
        row("one till: from start to applied".into(), s(ours.one_pdv_applied_s), note);
        row(format!("{tills} tills: to the first applied"), s(ours.all_pdvs_first_applied_s), String::new());
        let note = format!("{:.2} × floor{}", ratio.all_pdvs, runs(&ours.all_pdvs_last_applied_runs_s));
        row(format!("{tills} tills: to the last applied"), s(ours.all_pdvs_last_applied_s), note);
        let (value, note) =
            ms(ours.close_to_till_p50_ms, ours.close_to_till_p99_ms, ours.close_to_till_max_ms);
        row("one price: close asked to one till".into(), value, note);
        let close = format!("close acknowledged after {:.1} ms", ours.price_close_p50_ms);
        let till = format!("{:.1} ms", ours.price_till_p50_ms);
        row("  of it at the till, notice to written".into(), till, close);
        let (value, note) =
            ms(ours.close_to_all_pdvs_p50_ms, ours.close_to_all_pdvs_p99_ms, ours.close_to_all_pdvs_max_ms);
        row(format!("one price: close asked to all {tills} tills"), value, note);
        row(
            "a record as sent (HTTP body)".into(),
            format!("{:.0} bytes", ours.http_bytes_per_record),
            String::new(),
        );
        row(
            "a record in the stream".into(),
            format!("{:.0} bytes", ours.stream_bytes_per_record),
            String::new(),
        );
        let tenfold = |value: Option<f64>| {
            value.map_or_else(String::new, |v| format!("{v:.1} MB with ten times the records"))
        };
        row("most memory of a till".into(), mb(ours.pdv_rss_mb), tenfold(ours.pdv_rss_mb_tenfold));
        row("most memory of the hub".into(), mb(ours.hub_rss_mb), tenfold(ours.hub_rss_mb_tenfold));
        row(
            "most memory of the sender".into(),
            mb(ours.sender_rss_mb),
            "this process, rows of the floor included".into(),
        );
        row("most memory of the broker".into(), mb(ours.broker_rss_mb), String::new());
        let _ = writeln!(out, "\nwhere the time of a lot goes, in seconds");
        let _ = writeln!(
            out,
            "{:<12}{:>8}{:>8}{:>8}{:>8}{:>13}   processor: {:>7}{:>7}{:>8}{:>8}",
            "", "fill", "close", "till", "rest", "hub's tables", "sender", "hub", "broker", "tills"
        );
        let all = format!("{tills} tills");
        let parts =
            [("one till", Some(detail.one_pdv)), (&all, Some(detail.all_pdvs)), ("tenfold", detail.tenfold)];
        for (name, parts) in parts {
            let Some(p) = parts else { continue };
            let _ = writeln!(
                out,
                "{name:<12}{:>8.3}{:>8.3}{:>8.3}{:>8.3}{:>+13.3}              {:>7.2}{:>7.2}{:>8.2}{:>8.2}",
                p.fill_s,
                p.close_s,
                p.till_s,
                p.notice_commit_report_s,
                p.tables_after_s,
                p.sender_cpu_s,
                p.hub_cpu_s,
                p.broker_cpu_s,
                p.pdvs_cpu_s
            );
        }
        let _ = writeln!(
            out,
            "fill: read, send, check, pack and store; till: the slowest one, from its notice seen to all written; rest: \
             the notice on\nits way, then the till's commit and report; hub's tables: after the last till, below 0 \
             when before"
        );
    }
}

/// The single runs, when there was more than one.
fn runs(runs: &[f64]) -> String {
    if runs.len() < 2 {
        return String::new();
    }
    let runs: Vec<_> = runs.iter().map(|run| format!("{run:.3}")).collect();
    format!(" ({})", runs.join(" "))
}

fn median(runs: &[Duration]) -> Duration {
    let mut order = runs.to_vec();
    order.sort_unstable();
    order[order.len() / 2]
}

/// The phase whose lot took the median time.
fn median_phase(phases: &[Phase]) -> &Phase {
    let mut order: Vec<_> = phases.iter().collect();
    order.sort_by_key(|phase| phase.lot.last_applied);
    order[order.len() / 2]
}

/// Of the prices of all runs together, in milliseconds.
fn percentile(phases: &[Phase], percent: usize, of: fn(&Price) -> Duration) -> f64 {
    let all: Vec<_> = phases.iter().flat_map(|phase| &phase.prices).map(of).collect();
    at_percent(&all, percent)
}

fn at_percent(took: &[Duration], percent: usize) -> f64 {
    let mut took = took.to_vec();
    took.sort_unstable();
    let at = (took.len() * percent / 100).min(took.len().saturating_sub(1));
    took.get(at).map_or(0.0, |took| round(took.as_secs_f64() * 1_000.0))
}

fn seconds(duration: Duration) -> f64 {
    round(duration.as_secs_f64())
}

/// To the thousandth: what is below is noise.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Exact up to 2^32, which no lot reaches.
fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_run_counts_however_they_come() {
        let runs = [30, 10, 20].map(Duration::from_millis);
        assert_eq!(median(&runs), Duration::from_millis(20));
        assert_eq!(median(&runs[..1]), Duration::from_millis(30));
    }

    #[test]
    fn percentiles_are_of_all_that_were_measured() {
        let hundred: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!([50, 99, 100].map(|percent| at_percent(&hundred, percent)), [51.0, 100.0, 100.0]);
        assert_eq!(at_percent(&hundred[..1], 50), 100.0);
        assert_eq!(at_percent(&[], 50), 0.0);
    }
}
