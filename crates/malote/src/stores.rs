//! `malote store`: who there is.

mod file;

use std::io;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use malote_client::{Client, ClientError, StoreId, StoreView};
use serde_json::json;
use tokio::task::JoinSet;

pub use file::{StoreRow, StoresError, read_stores};

use crate::cli::Global;
use crate::error::{Exit, Failure};
use crate::output::Shell;
use crate::table::{Table, clean, counted};

/// Stores that are being registered at once: enough to hide the way to the hub, few enough not to fill it.
const AT_ONCE: usize = 16;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register the stores of a CSV file, all of its lines or, when one is wrong, none
    ///
    /// Columns: store, and if known name, cnpj, zone, groups (separated by ';' or space), pdvs (how many, called 01,
    /// 02 …, or their names). What is registered already is said anew; groups that are new are made.
    Import {
        /// The file
        file: PathBuf,
    },
    /// Register one store, or say anew what is known of it
    Add(AddArgs),
    /// List the stores
    Ls,
    /// Show one store
    Show {
        /// Its code
        store: StoreId,
    },
}

#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// Its code
    store: StoreId,
    /// Its name [default: Loja <store>]
    #[arg(long)]
    name: Option<String>,
    /// Its company number
    #[arg(long)]
    cnpj: Option<String>,
    /// Its time zone
    #[arg(long, value_name = "ZONE", default_value = file::ZONE)]
    zone: String,
    /// A group that it is in; may be repeated
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Its tills: how many, called 01, 02 …, or their names separated by spaces
    #[arg(long, default_value = "")]
    pdvs: String,
}

pub(crate) async fn run(command: Command, global: &Global, shell: &mut Shell) -> Result<Exit, Failure> {
    let client = global.client()?;
    match command {
        Command::Import { file } => import(&client, file, global.json, shell).await,
        Command::Add(args) => add(&client, &args, global.json, shell).await,
        Command::Ls => list(&client, global.json, shell).await,
        Command::Show { store } => {
            let view = client.store(&store).await?;
            if global.json {
                shell.json(&view)?;
            } else {
                show(&view, shell)?;
            }
            Ok(Exit::Fine)
        }
    }
}

async fn add(client: &Client, args: &AddArgs, json: bool, shell: &mut Shell) -> Result<Exit, Failure> {
    let name = args.name.clone().unwrap_or_else(|| format!("Loja {}", args.store));
    let (cnpj, groups) = (args.cnpj.as_deref(), args.groups.join(" "));
    let details =
        file::details(&name, cnpj, Some(&args.zone), &groups, &args.pdvs).map_err(Failure::usage)?;
    client.put_store(&args.store, &details).await?;
    if json {
        shell.json(&json!({ "store": args.store.as_str(), "taken": true }))?;
    } else {
        let tills = counted(details.pdvs.len() as u64, "till");
        shell.tell(format!("store {} is registered: {}, {tills}", args.store, clean(&details.name)))?;
    }
    Ok(Exit::Fine)
}

/// What became of a line of the file.
enum Outcome {
    Taken,
    Refused(ClientError),
}

async fn import(client: &Client, path: PathBuf, json: bool, shell: &mut Shell) -> Result<Exit, Failure> {
    let (rows, notes) = read_stores(&path)?;
    for note in notes {
        shell.tell(format!("{}: {note}", path.display()))?;
    }
    let all = rows.len();
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    let mut rows = rows.into_iter();
    let mut under_way = JoinSet::new();
    let mut unreachable = None;
    loop {
        while unreachable.is_none() && !shell.stop().is_cancelled() && under_way.len() < AT_ONCE {
            let Some(row) = rows.next() else { break };
            let client = client.clone();
            under_way.spawn(async move {
                let outcome = match client.put_store(&row.store, &row.details).await {
                    Ok(()) => Outcome::Taken,
                    Err(error) => Outcome::Refused(error),
                };
                (row, outcome)
            });
        }
        // A task that died of a mistake of ours is a line that was not taken.
        let Some(Ok((row, outcome))) = under_way.join_next().await else { break };
        if json {
            let reason = match &outcome {
                Outcome::Taken => None,
                Outcome::Refused(error) => Some(error.to_string()),
            };
            let taken = reason.is_none();
            shell.json(
                &json!({ "step": "store", "line": row.line, "store": row.store.as_str(), "taken": taken,
                                "reason": reason }),
            )?;
        }
        match outcome {
            Outcome::Taken => taken.push(row.line),
            Outcome::Refused(error) if error.is_passing() => unreachable = Some(error),
            Outcome::Refused(error) => refused.push((row, error)),
        }
    }
    refused.sort_by_key(|(row, _)| row.line);
    say_imported(&path, all, &mut taken, &refused, shell)?;
    match unreachable {
        Some(error) => Err(Failure::from(error)),
        None if taken.len() == all => Ok(Exit::Fine),
        None if shell.stop().is_cancelled() => Ok(Exit::Interrupted),
        None => Ok(Exit::Failed),
    }
}

fn say_imported(
    path: &std::path::Path,
    all: usize,
    taken: &mut [u64],
    refused: &[(StoreRow, ClientError)],
    shell: &mut Shell,
) -> io::Result<()> {
    for (row, error) in refused {
        shell.tell(format!("{}:{}: store {}: {error}", path.display(), row.line, row.store))?;
    }
    taken.sort_unstable();
    if taken.len() == all {
        return shell.tell(format!("{} registered", counted(all as u64, "store")));
    }
    shell.tell(format!(
        "{} of {} registered, {} refused",
        taken.len(),
        counted(all as u64, "store"),
        refused.len()
    ))?;
    if !taken.is_empty() {
        shell.tell(format!("registered are lines {}", ranges(taken)))?;
    }
    shell.tell("the same file can be imported again: what is registered already stays as it is")
}

/// Numbers in ascending order, as `2-5, 7`.
fn ranges(numbers: &[u64]) -> String {
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    let run = |run: &[u64]| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    };
    runs.map(run).collect::<Vec<_>>().join(", ")
}

async fn list(client: &Client, json: bool, shell: &mut Shell) -> Result<Exit, Failure> {
    let mut table = Table::new(["STORE", "NAME", "ZONE", "TILLS", "GROUPS"]);
    let mut after = None;
    loop {
        let page = client.stores(after.as_deref()).await?;
        for view in &page.rows {
            if json {
                shell.json(view)?;
            } else {
                table.row([
                    view.store.clone(),
                    clean(&view.name),
                    view.zone.clone(),
                    view.pdvs.len().to_string(),
                    view.groups.join(" "),
                ]);
            }
        }
        after = page.after;
        if after.is_none() || shell.is_closed() {
            break;
        }
    }
    if !json && table.is_empty() {
        shell.tell("no store is registered; `malote store import STORES.csv` does it")?;
    } else if !json {
        for line in table.lines() {
            shell.data(line)?;
        }
    }
    Ok(Exit::Fine)
}

fn show(view: &StoreView, shell: &mut Shell) -> io::Result<()> {
    shell.data(format!("store    {}", view.store))?;
    shell.data(format!("name     {}", clean(&view.name)))?;
    if let Some(cnpj) = &view.cnpj {
        shell.data(format!("cnpj     {cnpj}"))?;
    }
    shell.data(format!("zone     {}", view.zone))?;
    if !view.groups.is_empty() {
        shell.data(format!("groups   {}", view.groups.join(" ")))?;
    }
    shell.data(format!("changed  {}", view.changed_at))?;
    let mut table = Table::new(["TILL", "LAST NOTICE", "LAST REPORT"]);
    for pdv in &view.pdvs {
        let notice = pdv.notice.map_or_else(|| "-".to_owned(), |notice| notice.to_string());
        table.row([pdv.pdv.clone(), notice, pdv.seen_at.clone().unwrap_or_else(|| "never".to_owned())]);
    }
    for line in table.lines() {
        shell.data(line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_said_as_ranges() {
        assert_eq!(ranges(&[2, 3, 4, 7, 9, 10]), "2-4, 7, 9-10");
        assert_eq!(ranges(&[2]), "2");
        assert_eq!(ranges(&[]), "");
    }
}
