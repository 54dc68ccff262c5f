//! malote's contract: the protobuf messages of every stream, and the JSON Schemas of known record kinds.
//!
//! Nothing here knows the domain: the contract outlives the model. Messages are documented in their `.proto`
//! files under `proto/malote`; bytes published once decode forever (see `golden`).

pub mod records;

/// What every message shares.
pub mod common {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/malote.common.v1.rs"));
    }
}

/// Lots, their chunks, and the notices of stores.
pub mod lots {
    /// Version 1.
    #[expect(missing_docs, reason = "generated from the documented .proto file")]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/malote.lots.v1.rs"));
    }
}

/// What tills report.
pub mod pdvs {
    /// Version 1.
    #[expect(missing_docs, reason = "generated from the documented .proto file")]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/malote.pdvs.v1.rs"));
    }
}

/// Stores, groups and tills.
pub mod registry {
    /// Version 1.
    #[expect(missing_docs, reason = "generated from the documented .proto file")]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/malote.registry.v1.rs"));
    }
}
