//! The chain of stores that the demo plays in: broker, hub and ten tills, in this process.

use std::path::{Path, PathBuf};

use malote_client::{Client, NewStore};
use malote_domain::{PdvId, StoreId};

use super::till::Till;
use super::{Args, DemoError};
use crate::catalogue;
use crate::output::Shell;
use crate::up::{Up, UpOptions};

/// The group that the first three stores are in.
pub(super) const GROUP: &str = "sudeste";
const STORES: usize = 5;
const STORES_IN_GROUP: usize = 3;
const TILLS_OF_STORE: usize = 2;

/// All that runs.
pub(super) struct Chain {
    pub(super) client: Client,
    pub(super) stores: Vec<StoreId>,
    pub(super) tills: Vec<Till>,
    /// The products' file.
    pub(super) products: PathBuf,
    pub(super) dir: PathBuf,
    up: Up,
}

struct Store {
    id: StoreId,
    details: NewStore,
}

impl Chain {
    /// Starts it in a directory, the tills not yet.
    pub(super) async fn start(args: &Args, dir: &Path, shell: &mut Shell) -> Result<Self, DemoError> {
        let (products, stores) = match &args.data {
            Some(data) => (data.join("products.csv"), stores_of(&data.join("stores.csv"))?),
            None => {
                let path = dir.join("products.csv");
                catalogue::write_csv(&path, usize::try_from(args.products).unwrap_or(usize::MAX))?;
                (path, made_up_stores()?)
            }
        };
        shell.tell("starting broker and hub (the very first time, nats-server is fetched: some seconds)")?;
        let options = UpOptions {
            dir: dir.to_owned(),
            listen: ([127, 0, 0, 1], 0).into(),
            nats_port: None,
            heal: false,
        };
        let up = Up::start(&options).await?;
        let client = Client::new(&up.hub_url())?;
        let broker = up.broker().url().to_owned();
        let http = reqwest::Client::builder().no_proxy().build();
        let http = http.map_err(|source| DemoError::Till { till: "a till".to_owned(), source })?;
        let mut tills = Vec::new();
        let mut ids = Vec::new();
        for Store { id, details } in stores {
            client.put_store(&id, &details).await?;
            for pdv in &details.pdvs {
                let mut scopes = vec!["all".to_owned()];
                scopes.extend(details.groups.iter().map(|group| format!("group-{group}")));
                scopes.push(format!("store-{id}"));
                let dir = dir.join(format!("till-{id}-{pdv}"));
                tills.push(Till::new(
                    id.clone(),
                    PdvId::parse(pdv)?,
                    scopes,
                    dir,
                    broker.clone(),
                    http.clone(),
                ));
            }
            ids.push(id);
        }
        Ok(Self { client, stores: ids, tills, products, dir: dir.to_owned(), up })
    }

    /// The hub's address.
    pub(super) fn hub(&self) -> String {
        self.up.hub_url()
    }

    /// The broker's address.
    pub(super) fn broker(&self) -> &str {
        self.up.broker().url()
    }

    /// The tills of a store.
    pub(super) fn tills_of(&self, store: &StoreId) -> impl Iterator<Item = &Till> {
        self.tills.iter().filter(move |till| till.store == *store)
    }

    /// The store that is offline for a while.
    pub(super) fn offline_store(&self) -> StoreId {
        self.stores[3].clone()
    }

    /// The store that has prices of its own; it is in the group.
    pub(super) fn own_prices_store(&self) -> StoreId {
        self.stores[1].clone()
    }

    /// Stops everything.
    pub(super) async fn stop(mut self) {
        for till in &mut self.tills {
            till.stop().await;
        }
        self.up.stop().await;
    }
}

fn store(
    number: usize,
    id: &str,
    name: &str,
    cnpj: Option<&str>,
    zone: &str,
    tills: usize,
) -> Result<Store, DemoError> {
    let groups = if number < STORES_IN_GROUP { vec![GROUP.to_owned()] } else { vec![] };
    let details = NewStore {
        name: name.to_owned(),
        cnpj: cnpj.map(ToOwned::to_owned),
        zone: zone.to_owned(),
        groups,
        pdvs: (1..=tills).map(|pdv| pdv.to_string()).collect(),
    };
    Ok(Store { id: StoreId::parse(id)?, details })
}

fn made_up_stores() -> Result<Vec<Store>, DemoError> {
    let stores = catalogue::stores().into_iter().enumerate();
    stores
        .map(|(number, (id, name, cnpj, zone))| store(number, id, name, Some(cnpj), zone, TILLS_OF_STORE))
        .collect()
}

/// The first stores of a file `store,pdvs`.
fn stores_of(path: &Path) -> Result<Vec<Store>, DemoError> {
    let wrong = |reason: String| DemoError::Stores { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let mut stores = Vec::new();
    for (number, line) in text.lines().skip(1).take(STORES).enumerate() {
        let (id, tills) = line.split_once(',').ok_or_else(|| wrong(format!("'{line}' has no comma")))?;
        let tills: usize = tills.trim().parse().map_err(|_| wrong(format!("'{tills}' is no number")))?;
        let tills = tills.clamp(1, TILLS_OF_STORE);
        stores.push(store(number, id, &format!("Store {id}"), None, "America/Sao_Paulo", tills)?);
    }
    if stores.len() < STORES {
        return Err(wrong(format!("it has {} stores, and {STORES} are needed", stores.len())));
    }
    Ok(stores)
}
