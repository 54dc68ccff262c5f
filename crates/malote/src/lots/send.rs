//! The steps of sending a file as a lot: check it, open, send, close.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use malote_client::source::{Block, Source, SourceError, SourceOptions};
use malote_client::{Client, ClientError, Closed, LotSender, LotView, NewLot, Refusal, Taken};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Lines come from the file in blocks of so many bytes.
const BLOCK_BYTES: usize = 256 * 1024;
/// So many blocks are read ahead while the hub works: as much as one request takes.
const BLOCKS_AHEAD: usize = 32;

/// A file to be sent as one lot.
#[derive(Clone, Debug)]
pub struct FileToSend {
    /// The file.
    pub path: PathBuf,
    /// How to read it.
    pub source: SourceOptions,
    /// The lot to open for it.
    pub lot: NewLot,
    /// Leave out records that are what was sent last time. Not for a full lot.
    pub changed_only: bool,
}

/// What became of a file.
#[derive(Clone, Debug)]
pub struct SentFile {
    /// The lot; none is closed when nothing of the file had changed.
    pub closed: Option<Closed>,
    /// The lot's id.
    pub lot: malote_client::LotId,
    /// What became of the records.
    pub taken: Taken,
}

/// Something that has been done, as `--json` writes it.
#[derive(Debug, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step<'a> {
    /// The whole file can be read.
    Checked {
        /// The file.
        file: &'a Path,
        /// Its records.
        records: u64,
        /// Its lines.
        lines: u64,
        /// What is worth knowing about it.
        notes: Vec<String>,
    },
    /// The lot is open.
    Opened {
        /// Its id.
        lot: &'a str,
        /// Whom it is for.
        scope: &'a str,
        /// What it may hold.
        kinds: &'a [String],
    },
    /// All records have been answered for.
    Sent {
        /// The lot.
        lot: &'a str,
        /// Milliseconds since it was opened.
        took_ms: u64,
        /// What became of them.
        #[serde(flatten)]
        taken: &'a Taken,
    },
    /// The lot was given up, for nothing of the file had changed.
    NothingChanged {
        /// The lot.
        lot: &'a str,
    },
    /// The lot is complete and will not change.
    Closed(&'a Closed),
    /// More tills have it, or fewer.
    Arrival {
        /// The lot.
        lot: &'a str,
        /// The lot as it is now.
        #[serde(flatten)]
        view: Shown<'a>,
    },
    /// Nothing more is waited for.
    Done {
        /// The lot.
        lot: &'a str,
        /// Tills that have it or do not need it.
        settled: u64,
        /// Tills that it is for.
        pdvs: u64,
        /// Tills that could not apply it, or not all of it.
        troubled: u64,
        /// Tills that are online and have not reported.
        waiting_online: u64,
        /// Tills that get it when they are back.
        waiting_offline: u64,
    },
}

/// The part of a lot that changes while it arrives.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    /// Where the lot is in its life.
    pub state: malote_client::LotState,
    /// What became of it.
    pub totals: &'a malote_client::Totals,
}

impl<'a> Step<'a> {
    pub(crate) fn arrival(view: &'a LotView) -> Self {
        Self::Arrival { lot: &view.lot, view: Shown { state: view.state, totals: &view.totals } }
    }
}

/// Who watches a file being sent.
pub trait Progress: Send {
    /// A step is done.
    ///
    /// # Errors
    /// When that cannot be told to whom it is for; nothing more is done then.
    fn step(&mut self, step: &Step<'_>) -> io::Result<()>;

    /// So much of the file has been sent, out of so much.
    fn sending(&mut self, bytes: u64, bytes_total: u64, records: u64);
}

/// Why a file was not sent. No lot is left open.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The file.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The hub.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Who watches.
    #[error("what is being done cannot be told")]
    Progress(#[from] io::Error),
    /// Not one record was taken.
    #[error("none of the {refused} records was taken, so lot {lot} holds nothing")]
    Nothing {
        /// The lot.
        lot: String,
        /// How many were refused.
        refused: u64,
        /// The first of them.
        refusals: Vec<Refusal>,
    },
    /// It was told to stop.
    #[error("interrupted: lot {lot} was given up, and no till sees anything of it")]
    Interrupted {
        /// The lot.
        lot: String,
    },
    /// A mistake of ours.
    #[error("reading the file ended unexpectedly; report this")]
    Reader,
}

/// Sends a file as a lot and closes it.
///
/// # Errors
/// When the file cannot be read, the hub refuses or does not answer, or `stop` fires: the lot is given up then.
pub async fn send_file(
    client: &Client,
    file: &FileToSend,
    progress: &mut dyn Progress,
    stop: &CancellationToken,
) -> Result<SentFile, SendError> {
    let source = check(file, progress).await?;
    let mut sender = client.send_lot(file.lot.clone()).await?;
    if file.changed_only {
        sender.changed_only();
    }
    let lot = sender.lot().to_string();
    let sent = tokio::select! {
        sent = send(&mut sender, &lot, file, source, progress) => sent,
        () = stop.cancelled() => Err(SendError::Interrupted { lot: lot.clone() }),
    };
    match sent {
        Ok(Some(closed)) => {
            Ok(SentFile { closed: Some(closed), lot: sender.lot(), taken: sender.taken().clone() })
        }
        Ok(None) => {
            let (id, taken) = (sender.lot(), sender.taken().clone());
            sender.abort("nothing has changed").await?;
            Ok(SentFile { closed: None, lot: id, taken })
        }
        Err(error) => {
            // A strict lot has ended already, and a hub that is away ends it when the lease is over.
            if let Err(failed) = sender.abort(reason(&error)).await {
                tracing::debug!(%failed, %lot, "the lot could not be given up");
            }
            Err(error)
        }
    }
}

const fn reason(error: &SendError) -> &'static str {
    match error {
        SendError::Source(_) | SendError::Reader => "its file could not be read to the end",
        SendError::Client(_) => "sending it failed",
        SendError::Progress(_) | SendError::Interrupted { .. } => "its sender was interrupted",
        SendError::Nothing { .. } => "not one of its records was taken",
    }
}

/// Reads the whole file once before anything is opened for it.
async fn check(file: &FileToSend, progress: &mut dyn Progress) -> Result<Source, SendError> {
    let (path, options) = (file.path.clone(), file.source.clone());
    let checked = tokio::task::spawn_blocking(move || {
        let source = Source::open(path, options)?;
        let totals = source.check()?;
        Ok::<_, SourceError>((source, totals))
    });
    let (source, totals) = checked.await.map_err(|_| SendError::Reader)??;
    let notes = source.notes().iter().map(ToString::to_string).collect();
    progress.step(&Step::Checked {
        file: &file.path,
        records: totals.records,
        lines: totals.lines,
        notes,
    })?;
    Ok(source)
}

/// Sends and closes; nothing when nothing has changed.
async fn send(
    sender: &mut LotSender,
    lot: &str,
    file: &FileToSend,
    source: Source,
    progress: &mut dyn Progress,
) -> Result<Option<Closed>, SendError> {
    progress.step(&Step::Opened { lot, scope: &file.lot.scope, kinds: &file.lot.kinds })?;
    let begun = Instant::now();
    let (blocks, mut read) = mpsc::channel(BLOCKS_AHEAD);
    let reader = tokio::task::spawn_blocking(move || read_blocks(source, &blocks));
    while let Some(block) = read.recv().await {
        sender.send(&block.bytes).await?;
        progress.sending(block.bytes_read, block.bytes_total, block.records);
    }
    reader.await.map_err(|_| SendError::Reader)??;
    sender.flush().await?;
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let taken = sender.taken();
    progress.step(&Step::Sent { lot, took_ms, taken })?;
    if taken.accepted == 0 && taken.refused > 0 {
        let (lot, refused, refusals) = (lot.to_owned(), taken.refused, taken.refusals.clone());
        return Err(SendError::Nothing { lot, refused, refusals });
    }
    if taken.accepted == 0 && taken.unchanged > 0 {
        progress.step(&Step::NothingChanged { lot })?;
        return Ok(None);
    }
    let closed = sender.finish().await?;
    progress.step(&Step::Closed(&closed))?;
    Ok(Some(closed))
}

/// Reads the file until its end, or until nobody takes the blocks any more.
fn read_blocks(mut source: Source, blocks: &mpsc::Sender<Block>) -> Result<(), SourceError> {
    while let Some(block) = source.next_block(BLOCK_BYTES)? {
        if blocks.blocking_send(block).is_err() {
            break;
        }
    }
    Ok(())
}

/// Writes the records that were refused as CSV, to be mended and sent again.
pub(crate) fn write_refused(path: &Path, refusals: &[Refusal]) -> Result<(), csv::Error> {
    let mut out = csv::Writer::from_path(path)?;
    out.write_record(["line", "kind", "key", "code", "reason"])?;
    for refusal in refusals {
        let line = refusal.line.to_string();
        let (kind, key) = (refusal.kind.as_deref().unwrap_or(""), refusal.key.as_deref().unwrap_or(""));
        out.write_record([line.as_str(), kind, key, &refusal.code, &refusal.reason])?;
    }
    Ok(out.flush()?)
}

/// How many of the refusals have each code.
pub(crate) fn by_code(refusals: &[Refusal]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for refusal in refusals {
        *counts.entry(refusal.code.as_str()).or_default() += 1;
    }
    counts
}
