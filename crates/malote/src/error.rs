//! The one place where errors become messages, hints and exit codes.

use std::error::Error;
use std::io;

use malote_client::ClientError;
use malote_client::source::{SourceError, SourceFault};

use crate::bench::BenchError;
use crate::demo::DemoError;
use crate::lots::send::SendError;
use crate::stores::StoresError;
use crate::up::UpError;

/// How a command ended, as its exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All of what was asked is so.
    Fine,
    /// It was done in part, or refused: records refused, tills that failed, a lot that is closed already.
    Failed,
    /// What was asked makes no sense: arguments, files, names that are not known.
    Usage,
    /// The hub, or what it stands on, does not answer.
    Unreachable,
    /// It was told to stop before it was done.
    Interrupted,
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            // As shells say of who died of an interrupt.
            Self::Interrupted => 130,
        }
    }
}

/// Why a command came to nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
}

impl Failure {
    fn new(exit: Exit, error: impl Error + Send + Sync + 'static) -> Self {
        Self { exit, error: Box::new(error), hint: None }
    }

    /// A mistake in what was asked.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, error: message.into().into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The message, its causes and what to do next, for stderr.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}", self.error);
        let mut said = self.error.to_string();
        let mut cause = self.error.source();
        let mut label = "\n  Caused by: ";
        while let Some(error) = cause {
            let message = error.to_string();
            // Transparent errors say the same as what they wrap.
            if message != said {
                text.push_str(label);
                text.push_str(&message);
                label = "\n             ";
            }
            said = message;
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            text.push_str("\nhint: ");
            text.push_str(hint);
        }
        text
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({ "step": "error", "error": self.error.to_string(), "hint": self.hint,
                            "exit": self.exit.code() })
    }
}

impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        #[derive(Debug, thiserror::Error)]
        #[error("what there is to say cannot be written")]
        struct Output(#[source] io::Error);
        Self::new(Exit::Failed, Output(source))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (exit, hint) = match &error {
            ClientError::Address { .. } => (Exit::Usage, Some("give it with --hub, or in MALOTE_HUB")),
            ClientError::Unreachable { .. } => (
                Exit::Unreachable,
                Some("start one with `malote up --dir DIR`, or say where it is with --hub URL or MALOTE_HUB"),
            ),
            ClientError::Unavailable { .. } => (
                Exit::Unreachable,
                Some("look at the hub's log and at its /readyz; nothing that it confirmed is lost"),
            ),
            ClientError::Broken { .. } => (Exit::Unreachable, Some("check --hub or MALOTE_HUB")),
            ClientError::Refused { code, .. } if code == "lots.strict" => (
                Exit::Failed,
                Some("mend the record and send the file again, or leave --strict out to send the others"),
            ),
            ClientError::Refused { status: 400 | 404 | 413 | 422, .. } => (Exit::Usage, None),
            ClientError::Refused { .. } | ClientError::Record { .. } => (Exit::Failed, None),
        };
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let about_key = matches!(error.fault, SourceFault::MissingColumn { .. });
        let failure = Self::new(Exit::Usage, error);
        if about_key { failure.hint("when another column is the key, say --key COLUMN") } else { failure }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Source(error) => error.into(),
            SendError::Client(error) => error.into(),
            SendError::Progress(error) => error.into(),
            SendError::Nothing { .. } => {
                Self::new(Exit::Failed, error).hint("the lot was given up, and no till sees anything of it")
            }
            SendError::Interrupted { .. } => Self::new(Exit::Interrupted, error),
            SendError::Reader => Self::new(Exit::Failed, error),
        }
    }
}

impl From<StoresError> for Failure {
    fn from(error: StoresError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        match error {
            DemoError::Up(error) => error.into(),
            DemoError::Client(error) => error.into(),
            DemoError::Source(error) => error.into(),
            DemoError::Write(error) => error.into(),
            DemoError::Interrupted => Self::new(Exit::Interrupted, error),
            DemoError::Dir { .. }
            | DemoError::Catalogue(_)
            | DemoError::Stores { .. }
            | DemoError::TooFew { .. } => Self::new(Exit::Usage, error),
            DemoError::Start(_)
            | DemoError::Id(_)
            | DemoError::Line(_)
            | DemoError::Till { .. }
            | DemoError::TillStopped { .. }
            | DemoError::Late { .. }
            | DemoError::LotFailed { .. }
            | DemoError::Quarantined { .. }
            | DemoError::Differs { .. }
            | DemoError::Wrong { .. } => Self::new(Exit::Failed, error),
        }
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        let exit = match &error {
            BenchError::Dir { .. } | BenchError::Input(_) => Exit::Usage,
            BenchError::Interrupted => Exit::Interrupted,
            BenchError::Broker(_)
            | BenchError::Control(_)
            | BenchError::Facts(_)
            | BenchError::Client(_)
            | BenchError::Process(_)
            | BenchError::Reports(_)
            | BenchError::Id(_)
            | BenchError::Floor(_)
            | BenchError::Records { .. }
            | BenchError::Tables { .. }
            | BenchError::Write(_)
            | BenchError::Broke(_) => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<UpError> for Failure {
    fn from(error: UpError) -> Self {
        let exit = match &error {
            UpError::Broker(_) => Exit::Unreachable,
            UpError::Dir { .. } => Exit::Usage,
            UpError::Hub(error) => match error {
                malote_hub::StartError::NotLoopback(_) | malote_hub::StartError::Listen { .. } => Exit::Usage,
                malote_hub::StartError::Connect(_) => Exit::Unreachable,
                malote_hub::StartError::Preflight(_)
                | malote_hub::StartError::Streams(_)
                | malote_hub::StartError::Open(_)
                | malote_hub::StartError::Db(_)
                | malote_hub::StartError::Read(_)
                | malote_hub::StartError::Behind { .. }
                | malote_hub::StartError::Heal(_)
                | malote_hub::StartError::Schema(_) => Exit::Failed,
            },
        };
        Self::new(exit, error)
    }
}

impl From<malote_pdv::cli::RunError> for Failure {
    fn from(error: malote_pdv::cli::RunError) -> Self {
        Self::new(Exit::Failed, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the lot is not closed")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("the counts differ")]
    struct Inner(#[source] io::Error);

    #[test]
    fn a_failure_says_what_why_and_what_next() {
        let error = Outer(Inner(io::Error::other("five of six")));
        let failure = Failure::new(Exit::Failed, error).hint("send it again");
        let text = "error: the lot is not closed\n  Caused by: the counts differ\n             five of six\n\
                    hint: send it again";
        assert_eq!(failure.text(), text);
        assert_eq!(failure.json()["exit"], 1);
    }

    #[test]
    fn what_says_the_same_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error(transparent)]
        struct Same(Inner);
        let failure = Failure::new(Exit::Failed, Same(Inner(io::Error::other("disk"))));
        assert_eq!(failure.text(), "error: the counts differ\n  Caused by: disk");
    }

    #[test]
    fn refusals_are_the_callers_or_the_states() {
        let refused = |status, code: &str| ClientError::Refused {
            status,
            code: code.to_owned(),
            detail: "no".to_owned(),
            refusal: None,
        };
        for (error, exit) in [
            (refused(400, "name"), Exit::Usage),
            (refused(404, "lots.unknown"), Exit::Usage),
            (refused(422, "lots.unknown_scope"), Exit::Usage),
            (refused(422, "lots.strict"), Exit::Failed),
            (refused(409, "lots.closed"), Exit::Failed),
            (refused(500, "bug"), Exit::Failed),
        ] {
            let text = format!("{error:?}");
            assert_eq!(Failure::from(error).exit, exit, "{text}");
        }
    }
}
