//! Every state that can be reached from every other one, with a run that dies after each write, voters
//! and standbys that come and go, wishes that change, and a command that arrives late.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use super::*;

fn host(n: usize) -> HostName {
    HostName(format!("n{n}"))
}

/// `ANY k` of the nodes of these numbers.
fn any(k: u32, nodes: &[usize]) -> SyncNames {
    if k == 0 {
        SyncNames::none()
    } else {
        SyncNames::any(k, nodes.iter().map(|n| format!("n{n}")))
    }
}

/// Who has a commit on disk, besides the primary.
type Holders = BTreeSet<String>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    /// What each voter has stored; n1 is the primary.
    records: Vec<Option<(u64, Vec<SyncNames>)>>,
    running: SyncNames,
    /// What WAL senders may go by.
    effective: BTreeSet<SyncNames>,
    /// Of every commit that can have been confirmed, who has it; supersets left out.
    commits: BTreeSet<Holders>,
    /// A command that its sender has given up.
    late: Option<Move>,
}

fn subsets(names: &BTreeSet<String>, size: usize) -> Vec<Holders> {
    let names: Vec<&String> = names.iter().collect();
    let picks = (0_u32..1 << names.len()).filter(|m| m.count_ones() as usize == size);
    let pick = |m: u32| {
        let of = names.iter().enumerate().filter(move |(i, _)| m & (1 << i) != 0);
        of.map(|(_, n)| (*n).clone()).collect()
    };
    picks.map(pick).collect()
}

impl World {
    fn new(voters: usize) -> Self {
        let mut world = World {
            records: vec![None; voters],
            running: SyncNames::none(),
            effective: [SyncNames::none()].into(),
            commits: BTreeSet::new(),
            late: None,
        };
        world.commit();
        world
    }

    fn voters(&self) -> Vec<HostName> {
        (1..=self.records.len()).map(host).collect()
    }

    fn record(&self, at: usize) -> Option<SyncRecord> {
        let (number, values) = self.records[at].clone()?;
        let value = |names| SyncValue { primary: host(1), names };
        let values = values.into_iter().map(value).collect();
        Some(SyncRecord { epoch: 1, number, voters: self.voters(), values })
    }

    fn seen(&self, present: &[usize], wanted: &SyncNames, streaming: &[usize]) -> Situation {
        let records = present.iter().filter_map(|v| Some((host(*v), self.record(v - 1)?)));
        Situation {
            primary: host(1),
            voters: self.voters(),
            present: present.iter().map(|v| host(*v)).collect(),
            records: records.collect(),
            epoch: 1,
            running: self.running.clone(),
            wanted: wanted.clone(),
            streaming: streaming.iter().map(|n| format!("n{n}")).collect(),
        }
    }

    /// Clients commit under whatever is in effect, and each quorum that can confirm has done so alone.
    fn commit(&mut self) {
        for names in self.effective.clone() {
            let k = usize::try_from(names.k).expect("small");
            self.commits.extend(subsets(&names.members, k));
        }
        self.thin();
    }

    /// Who asks a subset and finds a commit finds it in a superset too.
    fn thin(&mut self) {
        let all = self.commits.clone();
        self.commits.retain(|c| !all.iter().any(|o| o != c && o.is_subset(c)));
    }

    fn store(&mut self, at: usize, text: &SyncRecordText) -> bool {
        let stored = self.record(at);
        let newer = stored.as_ref().is_none_or(|r| r.rank() < text.rank);
        let same = stored.is_some_and(|r| r.text() == text.text);
        if newer {
            let record = SyncRecord::read(&text.text);
            let values = record.values.into_iter().map(|v| v.names).collect();
            self.records[at] = Some((record.number, values));
        }
        newer || same
    }

    /// As the scripts do it.
    fn perform(&mut self, one: &Move) {
        match one {
            Move::Record { on, record } => {
                let at = self.voters().iter().position(|v| v == on).expect("a voter");
                self.store(at, record);
            }
            Move::Set { names, record } => {
                if self.record(0).is_some_and(|r| r.text() == record.text) {
                    self.running = names.clone();
                    self.effective.insert(names.clone());
                }
            }
            Move::Settle { names, record, .. } => {
                if self.running == *names && self.store(0, record) {
                    self.effective = [names.clone()].into();
                    let k = usize::try_from(names.k).expect("small");
                    let before = std::mem::take(&mut self.commits);
                    for reached in subsets(&names.members, k) {
                        let with = |c: &Holders| c.union(&reached).cloned().collect();
                        self.commits.extend(before.iter().map(with));
                    }
                }
            }
        }
        self.commit();
        self.renumber();
    }

    /// Numbers are compared and counted up only: the same state again is the same value.
    fn renumber(&mut self) {
        let late = |m: &Move| match m {
            Move::Record { record, .. }
            | Move::Set { record, .. }
            | Move::Settle { record, .. } => record.rank.1,
        };
        let mut numbers: Vec<u64> = self.records.iter().flatten().map(|(n, _)| *n).collect();
        numbers.extend(self.late.iter().map(late));
        numbers.sort_unstable();
        numbers.dedup();
        // What follows directly upon another goes on doing so.
        let mut to = BTreeMap::new();
        let mut next = 1;
        for (i, number) in numbers.iter().enumerate() {
            next += if i > 0 && numbers[i - 1] + 1 < *number { 1 } else { 0 };
            to.insert(*number, next);
            next += 1;
        }
        for (number, _) in self.records.iter_mut().flatten() {
            *number = to[number];
        }
        if let Some(
            Move::Record { record, .. } | Move::Set { record, .. } | Move::Settle { record, .. },
        ) = &mut self.late
        {
            let mut full = SyncRecord::read(&record.text);
            full.number = to[&full.number];
            *record = SyncRecordText::from(&full);
        }
    }

    /// Whoever takes over, from whichever majority, has every confirmed commit.
    fn check(&self, of: &str) {
        let voters = self.records.len();
        for m in (0_u32..1 << voters).filter(|m| m.count_ones() as usize > voters / 2) {
            let asked = (0..voters).filter(|v| m & (1 << v) != 0);
            let records: Vec<SyncRecord> = asked.filter_map(|v| self.record(v)).collect();
            let values = Recorded::of(&records).values_of(&host(1));
            if values.is_empty() {
                // Nothing is known, so nothing is done.
                continue;
            }
            for names in &self.effective {
                assert!(values.contains(names), "{of}: {names} is not recorded\n{self:?}");
            }
            let nodes: BTreeSet<String> = (2..=voters).map(|n| format!("n{n}")).collect();
            for size in 0..=nodes.len() {
                for asked in subsets(&nodes, size) {
                    let enough = |v: &SyncNames| {
                        v.to_ask().is_some_and(|n| v.members.intersection(&asked).count() >= n)
                    };
                    if values.iter().all(enough) {
                        let lost = self.commits.iter().find(|c| c.is_disjoint(&asked));
                        assert!(lost.is_none(), "{of}: {asked:?} lacks {lost:?}\n{self:?}");
                    }
                }
            }
        }
    }

    /// One run with everybody there ends in what is wanted, and the next has nothing to do. What is met on
    /// the way is remembered, because it ends there too.
    fn ends(&self, wanted: &SyncNames, known: &mut HashSet<World>) {
        let mut world = World { late: None, ..self.clone() };
        let all: Vec<usize> = (1..=self.records.len()).collect();
        let mut way = Vec::new();
        while known.insert(world.clone()) {
            way.push(world.clone());
            match next(&world.seen(&all, wanted, &all[1..])) {
                Next::Move(one) => world.perform(&one),
                Next::Wait(why) => panic!("{why}: {world:?}"),
                Next::Done => {
                    assert_eq!(world.running, *wanted, "{world:?}");
                    for voter in 0..world.records.len() {
                        let values = world.record(voter).map(|r| r.values).unwrap_or_default();
                        let names: Vec<SyncNames> = values.into_iter().map(|v| v.names).collect();
                        let nothing = names.is_empty() && wanted.is_none();
                        assert!(names == [wanted.clone()] || nothing, "{world:?}");
                    }
                    return;
                }
            }
            world.check("to its end");
            assert!(!way.contains(&world), "no end: {self:?}");
        }
    }
}

/// Walks all states; how many there are.
fn walk(
    voters: usize,
    wishes: &[SyncNames],
    streams: &[&[usize]],
    presents: &[&[usize]],
    late: bool,
) -> usize {
    let mut known = HashSet::from([World::new(voters)]);
    let mut ended = vec![HashSet::new(); wishes.len()];
    let mut queue: VecDeque<World> = known.iter().cloned().collect();
    while let Some(world) = queue.pop_front() {
        world.check("there");
        for (wanted, ended) in wishes.iter().zip(&mut ended) {
            world.ends(wanted, ended);
        }
        let mut then = Vec::new();
        if let Some(one) = &world.late {
            let mut arrived = World { late: None, ..world.clone() };
            arrived.perform(one);
            then.push(arrived);
        }
        for wanted in wishes {
            for (streaming, present) in
                streams.iter().flat_map(|s| presents.iter().map(move |p| (s, p)))
            {
                let Next::Move(one) = next(&world.seen(present, wanted, streaming)) else {
                    continue;
                };
                if late && world.late.is_none() {
                    let mut held = World { late: Some(one.clone()), ..world.clone() };
                    held.renumber();
                    then.push(held);
                }
                let mut done = world.clone();
                done.perform(&one);
                then.push(done);
            }
        }
        for world in then {
            if known.insert(world.clone()) {
                queue.push_back(world);
            }
        }
    }
    known.len()
}

#[test]
fn three_nodes() {
    let wishes = [any(0, &[]), any(1, &[2, 3]), any(2, &[2, 3])];
    let presents: [&[usize]; 2] = [&[1, 2, 3], &[1, 3]];
    let states = walk(3, &wishes, &[&[2, 3], &[2]], &presents, false);
    assert!(states > 200, "{states}");
}

#[test]
fn three_nodes_with_a_late_command() {
    let wishes = [any(1, &[2, 3]), any(2, &[2, 3])];
    let states = walk(3, &wishes, &[&[2, 3]], &[&[1, 2, 3]], true);
    assert!(states > 200, "{states}");
}

#[test]
fn four_nodes() {
    let wishes = [any(1, &[2, 3]), any(2, &[2, 3, 4])];
    let presents: [&[usize]; 2] = [&[1, 2, 3, 4], &[1, 2, 3]];
    let states = walk(4, &wishes, &[&[2, 3, 4]], &presents, false);
    assert!(states > 100, "{states}");
}

/// The moves of one run as text.
fn told(situation: &Situation) -> Vec<String> {
    let (moves, wait) = moves(situation);
    let mut lines: Vec<String> = moves
        .iter()
        .map(|m| match m {
            Move::Record { on, record } => {
                let values = SyncRecord::read(&record.text).values;
                let values: Vec<String> = values.iter().map(|v| v.names.to_string()).collect();
                format!("{on} stores {}: {}", record.rank.1, values.join(" | "))
            }
            Move::Set { names, .. } => format!("set {names}"),
            Move::Settle { names, .. } => format!("settle {names}"),
        })
        .collect();
    lines.extend(wait.map(|why| format!("wait: {why}")));
    lines
}

#[test]
fn a_node_that_comes_and_one_that_goes_are_two_changes() {
    let mut world = World::new(4);
    let old = any(1, &[2, 3]);
    world.running = old.clone();
    world.records = vec![Some((7, vec![old])); 4];
    let all = [1, 2, 3, 4];
    let seen = world.seen(&all, &any(1, &[2, 4]), &[2, 3, 4]);
    assert_eq!(
        told(&seen).into_iter().filter(|l| l.starts_with("se")).collect::<Vec<_>>(),
        [
            r#"set ANY 1 ("n2", "n3", "n4")"#,
            r#"settle ANY 1 ("n2", "n3", "n4")"#,
            r#"set ANY 1 ("n2", "n4")"#,
            r#"settle ANY 1 ("n2", "n4")"#,
        ]
    );
    assert_eq!(told(&seen).len(), 4 + 4 * 4 - 2);
}

#[test]
fn nobody_is_counted_on_who_does_not_stream_and_nothing_is_changed_without_a_majority() {
    let mut world = World::new(3);
    let wanted = any(1, &[2, 3]);
    let seen = world.seen(&[1, 2, 3], &wanted, &[]);
    assert_eq!(
        told(&seen),
        ["wait: not in force yet: commits would wait for 1 standbys, 0 of them stream"]
    );
    let seen = world.seen(&[1], &wanted, &[2, 3]);
    assert!(told(&seen)[0].starts_with("wait: 1 of 3 voters"), "{:?}", told(&seen));
    world.running = wanted.clone();
    world.records = vec![Some((3, vec![wanted.clone()])); 3];
    // Standbys that are gone relax nothing.
    assert!(told(&world.seen(&[1], &wanted, &[])).is_empty());
    let fewer = told(&world.seen(&[1, 2, 3], &any(1, &[2]), &[3]));
    assert_eq!(
        fewer,
        ["wait: commits go on waiting for n3 too: without it fewer than 1 would stream"]
    );
}
