//! What a person, or a program, sees of a lot being sent.

use std::io;

use indicatif::{ProgressBar, ProgressStyle};
use malote_client::{Refusal, Taken};

use super::send::{Progress, Step, by_code};
use crate::output::Shell;
use crate::table::{bytes, clean, counted};

/// Refusals shown one by one.
const REFUSALS_SHOWN: usize = 20;

/// Tells steps as lines on stderr, with bars on a terminal, or as JSON lines on stdout.
pub(crate) struct Console<'a> {
    shell: &'a mut Shell,
    json: bool,
    /// The file's name, before the line of a refused record.
    file: String,
    bar: Option<ProgressBar>,
}

impl<'a> Console<'a> {
    pub(crate) fn new(shell: &'a mut Shell, json: bool, file: String) -> Self {
        Self { shell, json, file, bar: None }
    }

    pub(crate) fn shell(&mut self) -> &mut Shell {
        self.end_bar();
        self.shell
    }

    /// The bar that is on the screen, or a new one.
    fn bar(&mut self, total: u64, template: &'static str) -> Option<&ProgressBar> {
        if !self.shell.is_terminal() {
            return None;
        }
        let bar = self.bar.get_or_insert_with(|| {
            // The templates are constants of this file; one that did not parse would leave the bar as it comes.
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style)
        });
        bar.set_length(total);
        Some(bar)
    }

    fn end_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Names refused records by file and line.
    pub(crate) fn refusals(&mut self, refusals: &[Refusal]) -> io::Result<()> {
        for refusal in refusals.iter().take(REFUSALS_SHOWN) {
            let kind = refusal.kind.as_deref().unwrap_or("record");
            let key = refusal.key.as_deref().map_or_else(String::new, |key| format!(" '{}'", clean(key)));
            let reason = clean(&refusal.reason);
            self.shell.tell(format!("{}:{}: {kind}{key} refused: {reason}", self.file, refusal.line))?;
        }
        Ok(())
    }

    /// Says that more were refused than are shown.
    fn more_refusals(&mut self, taken: &Taken) -> io::Result<()> {
        let shown = taken.refusals.len().min(REFUSALS_SHOWN) as u64;
        if taken.refused == shown {
            return Ok(());
        }
        let codes: Vec<String> =
            by_code(&taken.refusals).into_iter().map(|(code, count)| format!("{count} {code}")).collect();
        self.shell.tell(format!(
            "and {} more refused; of those named: {}",
            taken.refused - shown,
            codes.join(", ")
        ))?;
        self.shell.tell("hint: --refused FILE.csv writes all that are named")
    }
}

impl Progress for Console<'_> {
    fn step(&mut self, step: &Step<'_>) -> io::Result<()> {
        if let (Step::Arrival { view, .. }, true) = (step, self.shell.is_terminal()) {
            let totals = view.totals;
            if let Some(bar) = self.bar(totals.pdvs, "{bar:40} {pos} of {len} tills have it, {elapsed}") {
                bar.set_position(totals.settled());
            }
        } else {
            self.end_bar();
        }
        if self.json {
            return self.shell.json(step);
        }
        match step {
            Step::Checked { records, lines, notes, .. } => {
                let (records, lines) = (counted(*records, "record"), counted(*lines, "line"));
                self.shell.tell(format!("{}: {records} in {lines}", self.file))?;
                notes.iter().try_for_each(|note| self.shell.tell(format!("{}: {note}", self.file)))
            }
            Step::Opened { lot, scope, kinds } => {
                self.shell.tell(format!("lot {lot} is open for {scope}: {}", kinds.join(", ")))
            }
            Step::Sent { took_ms, taken, .. } => {
                self.refusals(&taken.refusals)?;
                self.more_refusals(taken)?;
                let records = counted(taken.accepted, "record");
                let size = bytes(taken.stored_bytes);
                let mut text = format!(
                    "{records} sent in {took_ms} ms: {} of {size}",
                    counted(taken.chunks.into(), "chunk")
                );
                for (count, what) in [
                    (taken.refused, "refused"),
                    (taken.repeated, "with a key that came before (the last one counts)"),
                    (taken.unchanged, "left out as unchanged"),
                ] {
                    if count > 0 {
                        text.push_str(&format!("; {count} {what}"));
                    }
                }
                self.shell.tell(text)
            }
            Step::NothingChanged { .. } => {
                self.shell.tell("nothing has changed since it was last sent: no lot is needed")
            }
            Step::Closed(closed) => self.shell.tell(format!("lot {} is closed", closed.lot)),
            // Bars tell it while it happens, and what came of it is told at the end.
            Step::Arrival { .. } | Step::Done { .. } => Ok(()),
        }
    }

    fn sending(&mut self, sent: u64, total: u64, _records: u64) {
        if let Some(bar) = self.bar(total, "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}") {
            bar.set_position(sent);
        }
    }
}

impl Drop for Console<'_> {
    fn drop(&mut self) {
        self.end_bar();
    }
}
