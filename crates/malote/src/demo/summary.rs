//! What happened, for people and for programs.

use std::fmt;
use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::chain::Chain;
use super::expected::Difference;
use crate::output::Shell;
use crate::table::{Table, clean};

/// One step of the demo.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    what: String,
    /// Records in its lots.
    pub(super) records: u64,
    /// Records that the hub refused.
    pub(super) refused: u64,
    seconds: f64,
    /// Records of tills compared with what they must be.
    pub(super) checked: u64,
    check_seconds: f64,
    notes: Vec<String>,
    #[serde(skip)]
    begun: Option<Instant>,
}

impl Step {
    pub(super) fn new(what: impl Into<String>, begun: Instant) -> Self {
        let what = what.into();
        let (seconds, check_seconds) = (0.0, 0.0);
        let (records, refused, checked, notes) = (0, 0, 0, vec![]);
        Self { what, records, refused, seconds, checked, check_seconds, notes, begun: Some(begun) }
    }

    /// It has ended, unless it had already.
    pub(super) fn took(&mut self) {
        if let Some(begun) = self.begun.take() {
            self.seconds = seconds(begun.elapsed());
        }
    }

    pub(super) fn check_took(&mut self, took: Duration) {
        self.check_seconds = seconds(took);
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(clean(&note));
    }

    /// What is said when it is done.
    pub(super) fn lines(&self, number: usize) -> impl Iterator<Item = String> {
        let Self { what, seconds, checked, .. } = self;
        let checked =
            if *checked == 0 { String::new() } else { format!("; {checked} records at tills compared") };
        let first = format!("{number}. {what}: {seconds:.2} s{checked}");
        std::iter::once(first).chain(self.notes.iter().map(|note| format!("   {note}")))
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Always true: a demo with a difference ends with an error instead.
    ok: bool,
    stores: usize,
    tills: usize,
    seconds: f64,
    pub(super) steps: Vec<Step>,
}

impl Summary {
    pub(super) const fn new(stores: usize, tills: usize) -> Self {
        Self { ok: false, stores, tills, seconds: 0.0, steps: vec![] }
    }

    /// Every check held.
    pub(super) fn end(&mut self, took: Duration) {
        (self.ok, self.seconds) = (true, seconds(took));
    }

    /// A page for people.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let mut table = Table::new(["STEP", "RECORDS", "REFUSED", "SECONDS", "CHECKED", "SECONDS"]);
        for step in &self.steps {
            let count = |count: u64| if count == 0 { String::new() } else { count.to_string() };
            let (records, refused, checked) = (count(step.records), count(step.refused), count(step.checked));
            let seconds = |seconds: f64| format!("{seconds:.2}");
            let check = if step.checked == 0 { String::new() } else { seconds(step.check_seconds) };
            table.row([step.what.clone(), records, refused, seconds(step.seconds), checked, check]);
        }
        let last = format!(
            "every check held: {} tills of {} stores, {:.1} s in all",
            self.tills, self.stores, self.seconds
        );
        table.lines().chain([String::new(), last]).collect::<Vec<_>>().into_iter()
    }
}

/// What to look at while it is up.
pub(super) fn try_next(chain: &Chain, shell: &mut Shell) -> io::Result<()> {
    let hub = chain.hub();
    shell.tell("\neverything is up; Ctrl-C stops it")?;
    shell.tell(format!("  hub     {hub}"))?;
    shell.tell(format!("  broker  {}", chain.broker()))?;
    shell.tell(format!("  data    {}", chain.dir.display()))?;
    for till in &chain.tills {
        shell.tell(format!(
            "  till    {} of store {}: {}",
            till.pdv,
            till.store,
            till.url().unwrap_or_default()
        ))?;
    }
    let till = chain.tills.first().and_then(super::till::Till::url).unwrap_or_default();
    shell.tell("try, in another terminal:")?;
    shell.tell(format!("  curl '{till}/records/price?limit=3'"))?;
    shell.tell(format!("  curl {till}/status"))?;
    shell.tell(format!("  curl {hub}/v1/pdvs"))?;
    shell.tell(format!("  malote lot ls --hub {hub}"))?;
    let products = chain.products.display();
    shell.tell(format!("  malote lot send {products} --kind price --hub {hub}"))
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key, found, expected } = self;
        write!(f, "{kind} '{key}'")?;
        match (found, expected) {
            (Some(found), Some(expected)) => write!(f, " is {found} and should be {expected}"),
            (Some(found), None) => write!(f, " is {found} and should not be there"),
            (None, Some(expected)) => write!(f, " is missing and should be {expected}"),
            (None, None) => f.write_str(" differs"),
        }
    }
}

fn seconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000.0).round() / 1_000.0
}
