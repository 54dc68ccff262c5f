//! The words for where a lot is, as the tables and the doors write them.

/// Where a lot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LotState {
    /// It takes records.
    Open,
    /// It is complete; no store has it yet.
    Closed,
    /// Some waves have gone out, more follow.
    Releasing,
    /// The last wave has gone out.
    Released,
    /// It was given up before it was closed.
    Aborted,
    /// It was taken back before its last wave.
    Recalled,
}

impl LotState {
    const ALL: [Self; 6] =
        [Self::Open, Self::Closed, Self::Releasing, Self::Released, Self::Aborted, Self::Recalled];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Releasing => "releasing",
            Self::Released => "released",
            Self::Aborted => "aborted",
            Self::Recalled => "recalled",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Where a lot is at one till.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrivalState {
    /// It is for the till's store, and has not been released there yet.
    Pending,
    /// It has been released to the store, and the till has not reported.
    Released,
    /// The till has all of it.
    Applied,
    /// The till has it but for the records that it set aside.
    AppliedWithErrors,
    /// The till could not apply it yet and goes on trying.
    Failed,
    /// The till did not need it: a later lot replaces it.
    Superseded,
}

impl ArrivalState {
    const ALL: [Self; 6] = [
        Self::Pending,
        Self::Released,
        Self::Applied,
        Self::AppliedWithErrors,
        Self::Failed,
        Self::Superseded,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Released => "released",
            Self::Applied => "applied",
            Self::AppliedWithErrors => "applied_with_errors",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}
