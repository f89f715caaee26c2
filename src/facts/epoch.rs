//! `<home>/epoch`: the highest epoch that a voter has stored, and the operation that it belongs to.

use crate::model::{Answer, Fragment, HostName, Resource, Script};

/// What a voter has stored. Epoch 0 is "none yet".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EpochFacts {
    pub epoch: u64,
    pub operation: Option<OperationRecord>,
}

/// An operation as it is written down on the voters before it changes anything.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OperationRecord {
    pub id: String,
    /// `switchover`, `failover`, ...
    pub kind: String,
    /// Who carries it out: `user@host`.
    pub controller: String,
    pub primary: HostName,
    /// Who is, or may have been, promoted by it.
    pub candidate: HostName,
    /// Primaries before that, of operations that this one took the place of when all but their poolers
    /// was done: a pooler may lead to them yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<HostName>,
    /// Who else may be a primary: candidates of operations that this one took the place of without knowing
    /// what had become of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub possible: Vec<Possible>,
    pub state: OperationState,
    #[serde(default)]
    pub proof: Proof,
    /// The candidate was chosen by the positions, and is another than the first one.
    #[serde(default)]
    pub elected: bool,
    /// It was resumed, and had ended elsewhere: only what was left of it is done.
    #[serde(default)]
    pub over: bool,
    /// Milliseconds: leases that were given under it end no later than this after this record was stored,
    /// on the clock of the node that has them. Of an operation that is not over only a start in its place
    /// says so. None: not known, the node has to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Controller's wall clock, RFC 3339.
    pub started: String,
}

/// A node that may be a primary besides the old one, and how it is made certain that it confirms nothing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Possible {
    pub name: HostName,
    pub proof: Proof,
}

/// How it is made certain that the old primary confirms nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// A switchover: stopped cleanly, proved from its processes and its control file.
    #[default]
    CleanStop,
    /// Its host answers: every process is killed, and the fence marker keeps it down.
    Fenced,
    /// Its host is switched off, by the inventory's command.
    Stonith,
    /// Its lease is over, and so is all that the revoked standbys have acknowledged; they and the
    /// witnesses are a majority of the voters.
    LeaseOver,
    /// Its host cannot be reached: so many standbys receive nothing any more that no commit can be confirmed,
    /// and what was confirmed is on one of them.
    Quorum,
    /// None; the operator has accepted that.
    RiskAccepted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Under way, or interrupted.
    Open,
    Done,
    Undone,
}

impl OperationRecord {
    /// Whose leases it gives, where it gives any: the node that is the primary by it, or still.
    #[must_use]
    pub fn leased(&self) -> &HostName {
        if self.state == OperationState::Undone { &self.primary } else { &self.candidate }
    }

    /// The primary is started, or restarted, and stays who it is.
    #[must_use]
    pub fn in_place(&self) -> bool {
        matches!(self.kind.as_str(), "start" | "restart")
    }

    /// Everybody who may have been a primary when it began.
    pub fn suspects(&self) -> impl Iterator<Item = &HostName> {
        std::iter::once(&self.primary).chain(self.possible.iter().map(|p| &p.name))
    }
}

impl Proof {
    /// Whether the node was given up as it is: nobody has stopped it.
    #[must_use]
    pub fn gives_up(self) -> bool {
        !matches!(self, Proof::CleanStop | Proof::Fenced)
    }

    /// Whether it lies in the standbys' receiving nothing any more.
    #[must_use]
    pub fn needs_revocation(self) -> bool {
        matches!(self, Proof::RiskAccepted | Proof::LeaseOver | Proof::Quorum)
    }
}

impl EpochFacts {
    /// The operation that is not over, if there is one.
    #[must_use]
    pub fn open(&self) -> Option<&OperationRecord> {
        self.operation.as_ref().filter(|o| o.state == OperationState::Open)
    }
}

/// What a witness is asked: it has no PostgreSQL whose facts would tell.
#[must_use]
pub fn witness_fragment(home: &str) -> Fragment {
    let script = Script::new()
        .set("home", home)
        // A whole file takes the place of the old one, so both lines are of one.
        .line("{ { read -r v; read -r h || :; } <\"$home/epoch\"; } 2>/dev/null || v= h=")
        .line("printf '%s\\n%s\\n' \"$v\" \"$h\"");
    Fragment::sh(script, vec![Resource::Path(home.to_owned())])
}

/// The answer to [`witness_fragment`].
#[must_use]
pub fn witness_epoch(answer: &Answer) -> EpochFacts {
    let mut lines = answer.stdout.lines();
    read(lines.next(), lines.next())
}

/// The two lines of the file. A record that is not understood is of a newer program: it counts as
/// none, the epoch still counts.
#[must_use]
pub fn read(epoch: Option<&str>, operation: Option<&str>) -> EpochFacts {
    EpochFacts {
        epoch: epoch.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
        operation: operation.and_then(|text| serde_json::from_str(text).ok()),
    }
}
