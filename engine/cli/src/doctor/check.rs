//! What is checked, and what a check says of one thing.

use quorate_protocol::ids::NodeId;
use serde_json::{Value, json};

/// Everything that `doctor` looks at, in the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Kernel,
    IoUring,
    Memlock,
    Nofile,
    Clock,
    Cores,
    DataDir,
    DirectIo,
    Disk,
    Version,
}

impl Check {
    pub const ALL: [Self; 10] = [
        Self::Kernel,
        Self::IoUring,
        Self::Memlock,
        Self::Nofile,
        Self::Clock,
        Self::Cores,
        Self::DataDir,
        Self::DirectIo,
        Self::Disk,
        Self::Version,
    ];

    /// The name in documents and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::IoUring => "io_uring",
            Self::Memlock => "memlock",
            Self::Nofile => "nofile",
            Self::Clock => "clock",
            Self::Cores => "cores",
            Self::DataDir => "data_dir",
            Self::DirectIo => "direct_io",
            Self::Disk => "disk",
            Self::Version => "version",
        }
    }
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// Nodes run; something is worse than it could be, or is not known.
    Warning,
    /// A node does not start, takes no work, or keeps nothing.
    Fault,
}

impl Verdict {
    /// The name in documents and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// What one check says of the host, or of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub check: Check,
    /// `None`: the host as a whole.
    pub node: Option<NodeId>,
    pub verdict: Verdict,
    pub found: String,
    pub needed: String,
    /// What to do; `None` exactly if there is nothing to do.
    pub hint: Option<String>,
}

impl Finding {
    /// Nothing is to be done.
    #[must_use]
    pub fn ok(
        check: Check,
        node: Option<NodeId>,
        found: impl Into<String>,
        needed: impl Into<String>,
    ) -> Self {
        Self {
            check,
            node,
            verdict: Verdict::Ok,
            found: found.into(),
            needed: needed.into(),
            hint: None,
        }
    }

    /// The same thing found, which is not as it should be.
    #[must_use]
    pub fn but(self, verdict: Verdict, hint: impl Into<String>) -> Self {
        assert!(verdict != Verdict::Ok, "there is nothing to do then");
        Self {
            verdict,
            hint: Some(hint.into()),
            ..self
        }
    }

    /// `memlock of node 1`.
    #[must_use]
    pub fn subject(&self) -> String {
        match self.node {
            Some(node) => format!("{} of node {node}", self.check.name()),
            None => self.check.name().to_owned(),
        }
    }

    /// One sentence with both values, and what to do.
    #[must_use]
    pub fn sentence(&self) -> String {
        let (verdict, subject) = (self.verdict.name(), self.subject());
        let (found, needed) = (&self.found, &self.needed);
        let hint = self.hint.as_deref();
        let hint = hint.map_or(String::new(), |hint| format!(": {hint}"));
        format!("{verdict}: {subject}: found {found}, needed {needed}{hint}")
    }

    /// The document of the contract.
    #[must_use]
    pub fn document(&self) -> Value {
        json!({
            "check": self.check.name(),
            "node": self.node.map(|node| node.0),
            "verdict": self.verdict.name(),
            "found": self.found,
            "needed": self.needed,
            "hint": self.hint,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_check_is_listed_once_and_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Check::ALL.iter().map(|check| check.name()).collect();
        assert_eq!(names.len(), Check::ALL.len());
        // The last variant, by its number: none is left out of the list.
        assert_eq!(Check::ALL.len(), Check::Version as usize + 1);
    }

    #[test]
    fn a_sentence_names_both_values_and_what_to_do() {
        let fine = Finding::ok(Check::Memlock, Some(NodeId(2)), "64 KiB", "868 KiB");
        assert_eq!(
            fine.clone().but(Verdict::Fault, "raise it").sentence(),
            "fault: memlock of node 2: found 64 KiB, needed 868 KiB: raise it"
        );
        assert_eq!(
            fine.document(),
            json!({
                "check": "memlock",
                "node": 2,
                "verdict": "ok",
                "found": "64 KiB",
                "needed": "868 KiB",
                "hint": null,
            })
        );
        assert_eq!(
            Finding::ok(Check::Kernel, None, "6.1", "5.8").subject(),
            "kernel"
        );
    }
}
