//! Whether the standbys that were asked have every commit that the old primary can have confirmed.

use std::collections::{BTreeMap, BTreeSet};

use crate::facts::{Recorded, SyncRecord};
use crate::inventory::{Inventory, slot_name};
use crate::model::HostName;

/// In quorum replication: if N-k+1 members of every value of `synchronous_standby_names` that may be in
/// effect on `primary` are `asked` and receive nothing any more, it can confirm nothing any more, and
/// what it has confirmed is on one of them (failover review, amendment 5). `records` is what the `voters`
/// that answered have stored; some of them may have stored nothing.
///
/// # Errors
/// Why that is not known, or not so.
pub fn covered(
    inventory: &Inventory,
    records: &BTreeMap<HostName, SyncRecord>,
    voters: &[&HostName],
    primary: &HostName,
    asked: &BTreeSet<HostName>,
) -> Result<String, String> {
    let recorded = Recorded::of(records.values());
    if recorded.is_unreadable() {
        return Err("a newer pgorch has recorded whom commits wait for".to_owned());
    }
    let declared: Vec<HostName> =
        inventory.nodes.keys().chain(inventory.witnesses.keys()).cloned().collect();
    if !recorded.is_majority(&declared, voters) {
        return Err(format!(
            "{} of {} voters answer: whom commits wait for may be another thing by now",
            voters.len(),
            declared.len()
        ));
    }
    let values = recorded.values_of(primary);
    if values.is_empty() {
        return Err(format!("whom commits on {primary} wait for is not recorded"));
    }
    let slots: BTreeSet<String> = asked.iter().map(slot_name).collect();
    let mut told = Vec::new();
    for names in &values {
        let Some(needed) = names.to_ask() else {
            return Err(format!("commits on {primary} may have waited for nobody"));
        };
        let have = names.members.intersection(&slots).count();
        if have < needed {
            let missing: Vec<&str> = names.members.difference(&slots).map(String::as_str).collect();
            return Err(format!(
                "commits on {primary} waited for {names}: {needed} of these must answer, {have} do; not {}",
                missing.join(", ")
            ));
        }
        told.push(format!("{have} of {names} answer, {needed} are needed"));
    }
    Ok(told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::SyncValue;
    use crate::postgres::SyncNames;
    use crate::syntax::Source;

    const INVENTORY: &str = "cluster: q\nreplication: { mode: quorum }\nnodes:\n  n1: { host: 198.18.0.1, primary: true }\n  \
        n2: { host: 198.18.0.2 }\n  n3: { host: 198.18.0.3 }\n  n4: { host: 198.18.0.4 }\n";

    fn host(name: &str) -> HostName {
        HostName(name.to_owned())
    }

    /// The answer where these values are recorded on `voters` and `asked` receive nothing any more.
    fn answer(values: &[SyncNames], voters: &[&str], asked: &[&str]) -> Result<String, String> {
        let source = Source::new("inventory.yml", INVENTORY);
        let (inventory, _) = crate::inventory::parse(&source).unwrap_or_else(|e| panic!("{e:?}"));
        let value = |names: &SyncNames| SyncValue { primary: host("n1"), names: names.clone() };
        let record = SyncRecord {
            epoch: 2,
            number: 1,
            voters: ["n1", "n2", "n3", "n4"].map(host).to_vec(),
            values: values.iter().map(value).collect(),
        };
        let there: Vec<HostName> = voters.iter().map(|v| host(v)).collect();
        let records = there.iter().map(|v| (v.clone(), record.clone())).collect();
        let asked = asked.iter().map(|a| host(a)).collect();
        covered(&inventory, &records, &there.iter().collect::<Vec<_>>(), &host("n1"), &asked)
    }

    #[test]
    fn enough_of_every_recorded_value_must_answer() {
        let all = ["n2", "n3", "n4"];
        let two = SyncNames::any(2, all);
        assert!(answer(std::slice::from_ref(&two), &all, &["n2", "n3"]).is_ok());
        let why = answer(std::slice::from_ref(&two), &all, &["n4"]).expect_err("one");
        assert!(why.contains("2 of these must answer, 1 do; not n2, n3"), "{why}");
        // While k is raised the smaller one counts too.
        let one = SyncNames::any(1, all);
        let why = answer(&[two.clone(), one.clone()], &all, &["n2", "n3"]).expect_err("both");
        assert!(why.contains("3 of these"), "{why}");
        assert!(answer(&[two.clone(), one], &all, &all).is_ok());
        let why = answer(&[SyncNames::none(), two.clone()], &all, &all).expect_err("nobody");
        assert!(why.contains("waited for nobody"), "{why}");
        let why = answer(&[], &all, &all).expect_err("nothing");
        assert!(why.contains("not recorded"), "{why}");
        let why = answer(&[two], &["n2", "n3"], &all).expect_err("no majority");
        assert!(why.contains("2 of 4 voters"), "{why}");
    }
}
