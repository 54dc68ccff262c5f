//! What became of lots, in tables.

use std::io;

use clap::Args;
use malote_client::{Arrival, ArrivalQuery, ArrivalState, Client, LotId, LotState, LotView, Scope, StoreId};
use serde_json::json;

use crate::cli::Global;
use crate::error::{Exit, Failure};
use crate::output::Shell;
use crate::table::{Table, bytes, clean};

/// What `malote lot status` takes.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// The lot
    lot: LotId,
    /// Only the tills of this store
    #[arg(long)]
    store: Option<StoreId>,
    /// Only the tills where it is pending, released, applied, applied_with_errors, failed or superseded
    #[arg(long, value_parser = arrival_state)]
    state: Option<ArrivalState>,
    /// At most so many tills, and so many of the records that they set aside
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: usize,
}

fn arrival_state(text: &str) -> Result<ArrivalState, String> {
    ArrivalState::parse(text).ok_or_else(|| {
        let words: Vec<&str> = ArrivalState::ALL.iter().map(|state| state.as_str()).collect();
        format!("at a till a lot is {}", words.join(", "))
    })
}

pub(super) async fn list(
    state: Option<LotState>,
    scope: Option<&Scope>,
    limit: u32,
    global: &Global,
    shell: &mut Shell,
) -> Result<Exit, Failure> {
    let scope = scope.map(ToString::to_string);
    let lots = global.client()?.lots(state, scope.as_deref(), None, limit).await?;
    let mut table =
        Table::new(["LOT", "STATE", "SCOPE", "KINDS", "RECORDS", "TILLS", "HAVE IT", "TROUBLE", "OPENED"]);
    for view in &lots {
        if global.json {
            shell.json(view)?;
            continue;
        }
        let kinds: Vec<&str> = view.kinds.keys().map(String::as_str).collect();
        table.row([
            view.lot.clone(),
            view.state.as_str().to_owned(),
            view.scope.clone(),
            kinds.join(" "),
            view.records.to_string(),
            view.totals.pdvs.to_string(),
            view.totals.settled().to_string(),
            (view.totals.failed + view.totals.applied_with_errors).to_string(),
            view.opened_at.clone(),
        ]);
    }
    if table.is_empty() && !global.json {
        shell.tell("no such lot; `malote lot send FILE --kind KIND` sends one")?;
    } else if !global.json {
        for line in table.lines() {
            shell.data(line)?;
        }
    }
    Ok(Exit::Fine)
}

pub(super) async fn status(args: &StatusArgs, global: &Global, shell: &mut Shell) -> Result<Exit, Failure> {
    let client = global.client()?;
    let view = client.lot(args.lot).await?;
    if global.json {
        shell.json(&json!({ "lot": view }))?;
    } else {
        say_lot(&view, shell)?;
    }
    arrivals(&client, args, global.json, shell).await?;
    if view.totals.applied_with_errors > 0 {
        problems(&client, args, global.json, shell).await?;
    }
    Ok(Exit::Fine)
}

fn say_lot(view: &LotView, shell: &mut Shell) -> io::Result<()> {
    let kinds: Vec<String> = view.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    shell.data(format!("lot      {}", view.lot))?;
    shell.data(format!("state    {}", view.state.as_str()))?;
    if let Some(reason) = &view.reason {
        shell.data(format!("why      {}", clean(reason)))?;
    }
    let mode = match view.mode {
        malote_client::Mode::Delta => "changes",
        malote_client::Mode::Full => "all there is",
    };
    shell.data(format!("for      {}, {mode}", view.scope))?;
    shell.data(format!("holds    {}, {} chunks of {}", kinds.join(", "), view.chunks, bytes(view.bytes)))?;
    shell.data(format!("opened   {} by {}", view.opened_at, clean(&view.opened_by)))?;
    for (label, at) in
        [("closed", &view.closed_at), ("active", &view.activate_at), ("sent out", &view.released_at)]
    {
        if let Some(at) = at {
            shell.data(format!("{label:8} {at}"))?;
        }
    }
    let totals = &view.totals;
    shell.data(format!(
        "tills    {}: {} applied, {} with errors, {} failed, {} superseded, {} pending",
        totals.pdvs,
        totals.applied,
        totals.applied_with_errors,
        totals.failed,
        totals.superseded,
        totals.pending
    ))
}

async fn arrivals(client: &Client, args: &StatusArgs, json: bool, shell: &mut Shell) -> Result<(), Failure> {
    let store = args.store.as_ref().map(ToString::to_string);
    let mut query = ArrivalQuery { store, state: args.state, ..ArrivalQuery::default() };
    let mut table = Table::new(["TILL", "STATE", "ONLINE", "RECORDS", "SET ASIDE", "TOOK", "WHY"]);
    let mut left = args.limit;
    let mut more = false;
    while !shell.is_closed() {
        let page = client.arrival(args.lot, &query).await?;
        more |= page.rows.len() > left;
        for arrival in page.rows.iter().take(left) {
            if json {
                shell.json(&json!({ "arrival": arrival }))?;
            } else {
                table.row(row(arrival));
            }
        }
        left = left.saturating_sub(page.rows.len());
        query.after = page.after;
        if query.after.is_none() || more {
            break;
        }
    }
    if !table.is_empty() {
        for line in table.lines() {
            shell.data(line)?;
        }
    }
    if more {
        shell.tell(format!(
            "more than {} tills: --limit N shows more, --state failed only the failed",
            args.limit
        ))?;
    }
    Ok(())
}

fn row(arrival: &Arrival) -> [String; 7] {
    let state = match arrival.downloading {
        Some(now) => format!("downloading {} of {}", now.chunks_done, now.chunks),
        None => arrival.state.as_str().to_owned(),
    };
    let mut why = arrival.reason.as_deref().map(clean).unwrap_or_default();
    if let Some(at) = &arrival.next_try_at {
        why.push_str(&format!(" (try {}, the next at {at})", arrival.attempt));
    }
    [
        format!("{}.{}", arrival.store, arrival.pdv),
        state,
        if arrival.online { "yes" } else { "no" }.to_owned(),
        (arrival.upserted + arrival.deleted).to_string(),
        arrival.quarantined.to_string(),
        arrival.took_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
        why,
    ]
}

async fn problems(client: &Client, args: &StatusArgs, json: bool, shell: &mut Shell) -> Result<(), Failure> {
    let mut table = Table::new(["TILL", "KIND", "KEY", "SET ASIDE BECAUSE"]);
    let mut after: Option<String> = None;
    let mut left = args.limit;
    while left > 0 && !shell.is_closed() {
        let page = client.problems(args.lot, after.as_deref()).await?;
        let wanted = page
            .rows
            .iter()
            .filter(|row| args.store.as_ref().is_none_or(|store| row.store == store.as_str()));
        for problem in wanted.take(left) {
            left -= 1;
            if json {
                shell.json(&json!({ "problem": problem }))?;
            } else {
                table.row([
                    format!("{}.{}", problem.store, problem.pdv),
                    problem.kind.clone(),
                    clean(&problem.key),
                    clean(&problem.reason),
                ]);
            }
        }
        after = page.after;
        if after.is_none() {
            break;
        }
    }
    if !table.is_empty() {
        for line in table.lines() {
            shell.data(line)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use malote_client::Downloading;

    fn arrival(state: ArrivalState) -> Arrival {
        Arrival {
            store: "001".into(),
            pdv: "02".into(),
            state,
            released_at: None,
            at: None,
            upserted: 3,
            deleted: 1,
            quarantined: 2,
            reason: None,
            attempt: 0,
            next_try_at: None,
            took_ms: Some(12),
            notice: None,
            online: true,
            downloading: None,
        }
    }

    #[test]
    fn a_till_that_downloads_says_how_far_it_is() {
        let mut till = arrival(ArrivalState::Released);
        till.downloading = Some(Downloading { chunks_done: 3, chunks: 12 });
        assert_eq!(row(&till)[..3], ["001.02", "downloading 3 of 12", "yes"]);
    }

    #[test]
    fn a_till_that_failed_says_why_and_when_it_tries_again() {
        let mut till = arrival(ArrivalState::Failed);
        till.reason = Some("disk\u{7} full".into());
        till.next_try_at = Some("2026-01-01T00:00:00Z".into());
        till.attempt = 4;
        assert_eq!(row(&till)[6], "disk  full (try 4, the next at 2026-01-01T00:00:00Z)");
        assert_eq!(row(&till)[3..6], ["4", "2", "12 ms"]);
    }
}
