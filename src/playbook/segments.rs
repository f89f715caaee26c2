//! A playbook cut into what is judged host by host and what is planned as a whole.

use super::{Play, walk};
use crate::syntax::{Diagnostic, Node};

/// A stretch of a playbook's plays.
#[derive(Debug)]
pub enum Segment<'p> {
    /// Tasks, judged one after the other on each host.
    Plays(&'p [Play]),
    /// A change of roles: all of it is known and verified before its first step.
    Operation(&'p [Play]),
}

/// The stretches of a playbook in their order. An operation begins with the play that claims an epoch
/// and ends with the one that releases it.
///
/// # Errors
/// An epoch that is claimed and never released, at its place.
pub fn segments(plays: &[Play]) -> Result<Vec<Segment<'_>>, Box<Diagnostic>> {
    let mut out = Vec::new();
    let mut rest = plays;
    while let Some(begin) = rest.iter().position(|play| has_epoch(play, false)) {
        let length = rest[begin..].iter().position(|play| has_epoch(play, true));
        let Some(length) = length else {
            let text = "the operation that begins here never releases its epoch";
            let complaint = Diagnostic::error(&rest[begin].span, text);
            return Err(Box::new(
                complaint.hint("end it with a play on nodes: \"epoch: released\""),
            ));
        };
        let (before, operation) = rest.split_at(begin);
        if !before.is_empty() {
            out.push(Segment::Plays(before));
        }
        let (operation, after) = operation.split_at(length + 1);
        out.push(Segment::Operation(operation));
        rest = after;
    }
    if !rest.is_empty() {
        out.push(Segment::Plays(rest));
    }
    Ok(out)
}

/// Whether a play claims an epoch, or releases one.
fn has_epoch(play: &Play, released: bool) -> bool {
    walk(&play.tasks, &[]).iter().any(|(_, task)| {
        let state = task.args.iter().find(|(name, _)| *name == "state");
        let says = state.and_then(|(_, node): &(_, Node)| node.as_str()) == Some("released");
        task.kind.name == "epoch" && says == released
    })
}

#[cfg(test)]
mod tests {
    use super::{Segment, segments};
    use crate::playbook::{Playbook, parse};
    use crate::syntax::Source;

    fn playbook(text: &str) -> Playbook {
        let shipped = |path: &str, _: &str| {
            let text = crate::playbook::shipped(path).ok_or("no such file")?;
            Ok(Source::new(path, text.to_owned()))
        };
        parse(&Source::new("test.yml", text.to_owned()), &shipped).expect("a playbook")
    }

    #[test]
    fn an_import_of_the_switchover_is_an_operation() {
        let text = "- hosts: standbys\n  tasks: [{ debug: { msg: a } }]\n\
                    - import_playbook: switchover.yml\n\
                    - hosts: standbys\n  tasks: [{ debug: { msg: b } }]\n";
        let playbook = playbook(text);
        let found = segments(&playbook.plays).expect("whole");
        let shape = found.iter().map(|s| match s {
            Segment::Plays(plays) => format!("plays {}", plays.len()),
            Segment::Operation(plays) => {
                format!("operation from {} to {}", plays[0].name, plays[plays.len() - 1].name)
            }
        });
        let wanted = ["plays 1", "operation from May it be done to Over", "plays 1"];
        assert_eq!(shape.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn one_that_never_ends_is_none() {
        let playbook = playbook("- hosts: nodes\n  tasks: [{ epoch: claimed }]\n");
        let error = segments(&playbook.plays).expect_err("not whole");
        assert!(error.message.contains("never releases"), "{}", error.message);
    }
}
