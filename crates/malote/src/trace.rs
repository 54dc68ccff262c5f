//! `malote trace`: one record, everywhere.

use clap::Args;
use malote_client::{Kind, Place, StoreId};

use crate::cli::Global;
use crate::error::{Exit, Failure};
use crate::output::Shell;
use crate::table::{Table, clean};

/// What `malote trace` takes.
#[derive(Args, Debug)]
pub(crate) struct TraceArgs {
    /// The record's kind
    #[arg(long)]
    kind: Kind,
    /// The record's key
    #[arg(long)]
    key: String,
    /// Only the tills of this store
    #[arg(long)]
    store: Option<StoreId>,
}

pub(crate) async fn run(args: &TraceArgs, global: &Global, shell: &mut Shell) -> Result<Exit, Failure> {
    let client = global.client()?;
    let mut after: Option<String> = None;
    let mut table = Table::new(["TILL", "STATE", "SCOPE", "LOT", "WHY"]);
    loop {
        let page = client.trace(args.kind.as_str(), &args.key, args.store.as_ref(), after.as_deref()).await?;
        let first = after.is_none();
        if global.json {
            if first || !page.places.is_empty() {
                shell.json(&page)?;
            }
        } else if first {
            for sent in &page.sent {
                let body = sent.body.as_deref().map_or_else(|| "deleted".to_owned(), clean);
                let released = sent.released_at.as_deref().unwrap_or("not released");
                shell.data(format!("to {} in lot {}, {released}: {body}", sent.scope, sent.lot))?;
            }
            if page.sent.is_empty() {
                shell.tell(format!("no {} with key '{}' was ever sent", args.kind, clean(&args.key)))?;
            }
        }
        page.places.iter().for_each(|place| table.row(row(place)));
        after = page.after;
        if after.is_none() || shell.is_closed() {
            break;
        }
    }
    if !global.json && !table.is_empty() {
        for line in table.lines() {
            shell.data(line)?;
        }
    }
    Ok(Exit::Fine)
}

fn row(place: &Place) -> [String; 5] {
    let mut why = place.reason.as_deref().map(clean).unwrap_or_default();
    if !place.covered.is_empty() {
        let also = format!("covers {}", place.covered.join(", "));
        why = if why.is_empty() { also } else { format!("{why}; {also}") };
    }
    [
        format!("{}.{}", place.store, place.pdv),
        place.state.as_str().to_owned(),
        place.scope.clone().unwrap_or_else(|| "-".to_owned()),
        place.lot.clone().unwrap_or_else(|| "-".to_owned()),
        why,
    ]
}
