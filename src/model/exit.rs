//! The exit codes, a contract with users' scripts (DESIGN.md section 2).

/// How a command ended; the discriminant is the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// Everything asked for is done.
    Done = 0,
    /// A step failed on a host that could be reached.
    Failed = 1,
    /// Bad usage or a bad input file; no host was touched.
    Usage = 2,
    /// `plan` or `apply --check` found changes to make.
    ChangesPending = 3,
    /// A host could not be reached.
    Unreachable = 4,
    /// A precondition does not hold; nothing was touched.
    Refused = 5,
    /// The user interrupted the run.
    Interrupted = 130,
}

impl Exit {
    /// The table that `explain` and the manual print: code, name, sentence.
    pub const TABLE: &[(Exit, &str, &str)] = &[
        (Exit::Done, "done", "everything asked for is done"),
        (Exit::Failed, "failed", "a step failed on a host that could be reached"),
        (Exit::Usage, "usage", "bad usage or a bad input file; no host was touched"),
        (Exit::ChangesPending, "changes-pending", "plan or apply --check found changes to make"),
        (Exit::Unreachable, "unreachable", "a host could not be reached"),
        (Exit::Refused, "refused", "a precondition does not hold; nothing was touched"),
        (Exit::Interrupted, "interrupted", "the run was interrupted and says how to continue"),
    ];

    /// The number that the process exits with.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Which of two outcomes a run reports: 130, 2, 1, 4, 5, 3, 0 in this order.
    #[must_use]
    pub fn worst(self, other: Exit) -> Exit {
        const ORDER: [Exit; 7] = [
            Exit::Interrupted,
            Exit::Usage,
            Exit::Failed,
            Exit::Unreachable,
            Exit::Refused,
            Exit::ChangesPending,
            Exit::Done,
        ];
        let rank = |e: Exit| ORDER.iter().position(|o| *o == e);
        if rank(self) <= rank(other) { self } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn worst_follows_the_contract() {
        assert_eq!(Exit::Done.worst(Exit::ChangesPending), Exit::ChangesPending);
        assert_eq!(Exit::Refused.worst(Exit::Unreachable), Exit::Unreachable);
        assert_eq!(Exit::Failed.worst(Exit::Unreachable), Exit::Failed);
        assert_eq!(Exit::Usage.worst(Exit::Failed), Exit::Usage);
        assert_eq!(Exit::Interrupted.worst(Exit::Usage), Exit::Interrupted);
    }
}
