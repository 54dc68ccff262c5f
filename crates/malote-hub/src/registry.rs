//! Stores, groups and tills, as the back office registers them.

use std::collections::BTreeSet;

use malote_domain::registry::{
    Group, GroupCommand, Name, Pdv, PdvAddress, PdvCommand, Refused, Store, StoreCommand, StoreDetails,
};
use malote_domain::{CommandId, GroupId};
use malote_journal::journal::AppendError;
use malote_journal::{ExecuteError, execute, subjects};
use malote_projections::{DbError, Projection};

use crate::app::{App, WaitError};
use crate::zones;

/// Why a registration came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No such time zone.
    #[error("'{0}' is not a time zone; write an IANA name such as America/Sao_Paulo")]
    Zone(String),
    /// No such store.
    #[error("store '{0}' is not registered")]
    UnknownStore(malote_domain::StoreId),
    /// The journal refuses the command, and will again: its id was used for another one.
    #[error("{0}")]
    NotTaken(String),
    /// Something behind the hub does not answer.
    #[error("{0}")]
    Unavailable(String),
}

impl From<ExecuteError<Refused>> for RegistryError {
    fn from(error: ExecuteError<Refused>) -> Self {
        match error {
            ExecuteError::Rejected(refused) => Self::Refused(refused),
            ExecuteError::Append(AppendError::Refused { reason, .. }) => Self::NotTaken(reason),
            ExecuteError::Contended
            | ExecuteError::Load(_)
            | ExecuteError::Append(_)
            | ExecuteError::Unreadable { .. } => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<DbError> for RegistryError {
    fn from(error: DbError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<WaitError> for RegistryError {
    fn from(error: WaitError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// A store as it is registered, parsed.
#[derive(Clone, Debug)]
pub(crate) struct NewStore {
    pub(crate) store: malote_domain::StoreId,
    pub(crate) details: StoreDetails,
    pub(crate) pdvs: BTreeSet<malote_domain::PdvId>,
}

impl App {
    /// Registers a store with its groups and tills, or says anew what is known of it. Returns the position to wait
    /// for before reading it back.
    pub(crate) async fn register_store(
        &self,
        command: CommandId,
        new: NewStore,
    ) -> Result<u64, RegistryError> {
        if !zones::exists(&new.details.zone) {
            return Err(RegistryError::Zone(new.details.zone));
        }
        for group in &new.details.groups {
            self.register_group(command.follow_up(group.as_str()), group, None).await?;
        }
        let register = StoreCommand::Register(new.details);
        let mut last =
            execute::<Store, _>(&self.journal, &new.store, register, &self.ctx(command)).await?.last;
        for pdv in new.pdvs {
            let address = PdvAddress { store: new.store.clone(), pdv };
            last = last.max(self.append_pdv(command, &address).await?);
        }
        Ok(last)
    }

    /// Names a group; one that is there keeps its name unless another is given.
    pub(crate) async fn register_group(
        &self,
        command: CommandId,
        group: &GroupId,
        name: Option<Name>,
    ) -> Result<u64, RegistryError> {
        let name = match name {
            Some(name) => name,
            None if self.db.scope_exists(&malote_domain::Scope::Group(group.clone())).await? => return Ok(0),
            None => Name::parse(group.as_str())?,
        };
        let register = GroupCommand::Register { name };
        Ok(execute::<Group, _>(&self.journal, group, register, &self.ctx(command)).await?.last)
    }

    /// Registers a till of a registered store.
    pub(crate) async fn register_pdv(
        &self,
        command: CommandId,
        address: &PdvAddress,
    ) -> Result<u64, RegistryError> {
        if !self.db.scope_exists(&malote_domain::Scope::Store(address.store.clone())).await? {
            return Err(RegistryError::UnknownStore(address.store.clone()));
        }
        self.append_pdv(command, address).await
    }

    async fn append_pdv(&self, command: CommandId, address: &PdvAddress) -> Result<u64, RegistryError> {
        let ctx = self.ctx(command.follow_up(address.pdv.as_str()));
        Ok(execute::<Pdv, _>(&self.journal, address, PdvCommand::Register, &ctx).await?.last)
    }

    /// Waits until what was registered can be read back.
    pub(crate) async fn registry_at(&self, sequence: u64) -> Result<(), RegistryError> {
        Ok(self.wait_for(Projection::Registry, subjects::REGISTRY, sequence).await?)
    }
}
