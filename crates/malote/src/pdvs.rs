//! `malote pdv`: tills, and how far each is from its store's stream.

use clap::Subcommand;
use malote_client::{PdvDistance, PdvId, StoreId};
use malote_pdv::cli::RunArgs;
use serde_json::json;

use crate::cli::Global;
use crate::error::{Exit, Failure};
use crate::output::Shell;
use crate::table::{Table, clean};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register a till of a registered store
    Add {
        /// The store
        store: StoreId,
        /// The till, a name of its own within the store
        pdv: PdvId,
    },
    /// List the tills and how far behind each is
    Ls {
        /// Only those of this store
        #[arg(long)]
        store: Option<StoreId>,
    },
    /// Run a till's agent: keeps its catalogue, until told to stop
    Run(RunArgs),
}

pub(crate) async fn run(command: Command, global: &Global, shell: &mut Shell) -> Result<Exit, Failure> {
    match command {
        Command::Add { store, pdv } => {
            global.client()?.put_pdv(&store, &pdv).await?;
            if global.json {
                shell.json(&json!({ "store": store.as_str(), "pdv": pdv.as_str(), "taken": true }))?;
            } else {
                shell.tell(format!("till {store}.{pdv} is registered"))?;
            }
            Ok(Exit::Fine)
        }
        Command::Ls { store } => list(store.as_ref(), global, shell).await,
        Command::Run(args) => {
            malote_pdv::cli::run(args).await?;
            Ok(Exit::Fine)
        }
    }
}

async fn list(store: Option<&StoreId>, global: &Global, shell: &mut Shell) -> Result<Exit, Failure> {
    let client = global.client()?;
    let mut table = Table::new(["TILL", "ONLINE", "NOTICES BEHIND", "FOR", "SILENT", "LAST SEEN", "VERSION"]);
    let mut after = None;
    loop {
        let page = client.pdvs(after.as_deref()).await?;
        for pdv in page.rows.iter().filter(|pdv| store.is_none_or(|store| pdv.store == store.as_str())) {
            if global.json {
                shell.json(pdv)?;
            } else {
                table.row(row(pdv));
            }
        }
        after = page.after;
        if after.is_none() || shell.is_closed() {
            break;
        }
    }
    if !global.json && table.is_empty() {
        shell.tell("no such till is registered; `malote pdv add STORE PDV` registers one")?;
    } else if !global.json {
        for line in table.lines() {
            shell.data(line)?;
        }
    }
    Ok(Exit::Fine)
}

fn row(pdv: &PdvDistance) -> [String; 7] {
    let unknown = || "-".to_owned();
    [
        format!("{}.{}", pdv.store, pdv.pdv),
        if pdv.online { "yes" } else { "no" }.to_owned(),
        pdv.notices_behind.map_or_else(unknown, |notices| notices.to_string()),
        pdv.notices_behind
            .filter(|notices| *notices > 0)
            .map_or_else(unknown, |_| format!("{} s", pdv.seconds_behind)),
        pdv.seconds_silent.map_or_else(unknown, |seconds| format!("{seconds} s")),
        pdv.seen_at.clone().unwrap_or_else(|| "never".to_owned()),
        pdv.version.as_deref().map_or_else(unknown, clean),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_till_that_was_never_heard_of_is_told_from_one_at_its_end() {
        let mut pdv = PdvDistance {
            store: "001".into(),
            pdv: "02".into(),
            online: false,
            notice: None,
            notices_behind: None,
            seconds_behind: 0,
            seconds_silent: None,
            seen_at: None,
            version: None,
        };
        assert_eq!(row(&pdv), ["001.02", "no", "-", "-", "-", "never", "-"]);
        pdv.online = true;
        pdv.notices_behind = Some(0);
        pdv.seconds_silent = Some(3);
        assert_eq!(row(&pdv)[1..5], ["yes", "0", "-", "3 s"]);
        pdv.notices_behind = Some(2);
        pdv.seconds_behind = 71;
        assert_eq!(row(&pdv)[2..4], ["2", "71 s"]);
    }
}
