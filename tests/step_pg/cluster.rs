//! A cluster of three nodes as facts, to be judged.

use pgorch::facts::{
    ClusterDir, ControlData, DataDir, HostFacts, InstanceFacts, NodeFacts, Observation,
    ServerFacts, UnitFacts,
};
use pgorch::model::{Answer, HostName, SystemIdentifier, Timeline};
use pgorch::step::Verdict;
use serde_json::Value;

use super::harness::World;

pub(crate) const THREE: &str = "cluster: c\nnodes:\n  node1: { host: 198.18.0.1, primary: true }\n  \
                     node2: { host: 198.18.0.2 }\n  node3: { host: db3.example.org, follow: node2 }\n";

/// Three nodes that run: node1 the primary, node2 its standby, node3 that one's.
pub(crate) fn running() -> World {
    let mut world = World::new(THREE);
    put(&mut world, "node1", server(false));
    put(&mut world, "node2", server(true));
    put(&mut world, "node3", server(true));
    world
}

/// Three nodes without anything.
pub(crate) fn bare() -> World {
    let mut world = World::new(THREE);
    for name in ["node1", "node2", "node3"] {
        put(
            &mut world,
            name,
            InstanceFacts { binary_version: Some("15.18".into()), ..Default::default() },
        );
    }
    world
}

pub(crate) fn put(world: &mut World, name: &str, instance: InstanceFacts) {
    let facts = NodeFacts { host: HostFacts::default(), instance: Some(instance) };
    let facts = Box::new(facts);
    let running = facts.instance.as_ref().is_some_and(|i| i.server.is_some());
    let seen = if running { Observation::Seen(facts) } else { Observation::HostOnly(facts) };
    world.snapshot.nodes.insert(HostName::from(name), seen);
}

pub(crate) fn directory(id: u64) -> ClusterDir {
    ClusterDir {
        major: 15,
        made_by_pgorch: true,
        control: Some(ControlData {
            system_identifier: SystemIdentifier(id),
            timeline: Timeline(1),
            ..ControlData::default()
        }),
        ..ClusterDir::default()
    }
}

pub(crate) fn server(in_recovery: bool) -> InstanceFacts {
    let dir = ClusterDir { standby_signal: in_recovery, ..directory(77) };
    InstanceFacts {
        binary_version: Some("15.18".into()),
        data_dir: DataDir::Cluster(dir),
        postmaster_pid: Some(4242),
        unit: UnitFacts {
            load_state: "loaded".into(),
            active_state: "active".into(),
            file_state: "enabled".into(),
            ..UnitFacts::default()
        },
        server: Some(ServerFacts {
            in_recovery,
            version: "15.18".into(),
            version_num: 150_018,
            system_identifier: Some(SystemIdentifier(77)),
            conf_loaded_at: 1000.0,
            ..ServerFacts::default()
        }),
        ..InstanceFacts::default()
    }
}

pub(crate) fn stopped(dir: ClusterDir) -> InstanceFacts {
    let mut instance = server(dir.standby_signal);
    instance.data_dir = DataDir::Cluster(dir);
    instance.server = None;
    instance.postmaster_pid = None;
    instance.unit.active_state = "inactive".into();
    instance
}

pub(crate) fn of(
    world: &World,
    host: &str,
    kind: &str,
) -> Result<Verdict, pgorch::step::StepError> {
    world.judge(host, kind, Value::Null, &[])
}

pub(crate) fn answer(rc: i32, stdout: &str) -> Answer {
    Answer { rc, stdout: stdout.into(), stderr: String::new() }
}

/// A file in a probe's answer.
pub(crate) fn file(key: &str, changed: &str, text: &str) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(text);
    format!("{key} 600 postgres:postgres {changed} {text}\n")
}
