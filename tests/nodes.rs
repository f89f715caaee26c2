//! Facts of made-up nodes that are well, and ways to spoil them. For these tests and, by a path, for the
//! library's own.

use pgorch::facts::{
    ClusterDir, ControlData, DataDir, HostFacts, InstanceFacts, NodeFacts, Observation,
    ServerFacts, Setting, Snapshot, UnitFacts,
};
use pgorch::model::{HostName, Lsn, SystemIdentifier, Timeline};

/// The cluster that all of them are of.
pub(crate) const SYSTEM: SystemIdentifier = SystemIdentifier(7_710_499_155_369_246_763);
/// Bytes between the last checkpoint and the end of the WAL.
const SINCE_CHECKPOINT: u64 = 0x100;

/// A node that runs, on timeline 1, with its WAL ending at `lsn`.
pub(crate) fn running(hostname: &str, standby: bool, lsn: Lsn) -> NodeFacts {
    let control = ControlData {
        system_identifier: SYSTEM,
        state: if standby { "in archive recovery" } else { "in production" }.to_owned(),
        timeline: Timeline(1),
        checkpoint_lsn: Lsn(lsn.0.saturating_sub(SINCE_CHECKPOINT)),
        data_checksums: true,
        ..ControlData::default()
    };
    let dir = ClusterDir {
        major: 15,
        made_by_pgorch: true,
        standby_signal: standby,
        control: Some(control),
        ..ClusterDir::default()
    };
    let unit = UnitFacts {
        heeds_fence: true,
        load_state: "loaded".to_owned(),
        active_state: "active".to_owned(),
        sub_state: "running".to_owned(),
        file_state: "enabled".to_owned(),
        main_pid: 4242,
        need_daemon_reload: false,
    };
    let server = ServerFacts {
        version_num: 150_020,
        version: "15.20".to_owned(),
        in_recovery: standby,
        system_identifier: Some(SYSTEM),
        timeline: Some(Timeline(1)),
        lsn: Some(lsn),
        replay_lsn: standby.then_some(lsn),
        data_directory: Some("/var/lib/pgorch/accounts/15/data".to_owned()),
        ..ServerFacts::default()
    };
    let instance = InstanceFacts {
        binary_version: Some("15.20".to_owned()),
        data_dir: DataDir::Cluster(dir),
        unit,
        postmaster_pid: Some(4242),
        server: Some(server),
        disk_free_bytes: 50 << 30,
        disk_total_bytes: 100 << 30,
        ..InstanceFacts::default()
    };
    let host = HostFacts { hostname: hostname.to_owned(), ..HostFacts::default() };
    NodeFacts { host, instance: Some(instance) }
}

/// The server of these facts is down.
pub(crate) fn stop(instance: &mut InstanceFacts, unit: &str) {
    (instance.server, instance.postmaster_pid) = (None, None);
    (instance.unit.active_state, instance.unit.main_pid) = (unit.to_owned(), 0);
}

/// The data directory of these facts, which must be there.
pub(crate) fn dir(instance: &mut InstanceFacts) -> &mut ClusterDir {
    match &mut instance.data_dir {
        DataDir::Cluster(dir) => dir,
        other => panic!("{other:?}"),
    }
}

/// What a look has shown, to be spoiled by the names of nodes.
pub(crate) trait Spoilt {
    fn snapshot(&mut self) -> &mut Snapshot;

    fn instance(&mut self, name: &str) -> &mut InstanceFacts {
        match self.snapshot().nodes.get_mut(&HostName::from(name)) {
            Some(Observation::Seen(facts) | Observation::HostOnly(facts)) => {
                facts.instance.as_mut().expect("an instance")
            }
            _ => panic!("{name} is not seen"),
        }
    }

    fn server(&mut self, name: &str) -> &mut ServerFacts {
        self.instance(name).server.as_mut().expect("a server")
    }

    fn dir(&mut self, name: &str) -> &mut ClusterDir {
        dir(self.instance(name))
    }

    fn unreachable(&mut self, name: &str) {
        let cause = "connection timed out".to_owned();
        self.snapshot().nodes.insert(HostName::from(name), Observation::Unknown { cause });
    }

    /// A parameter's value, and the file that it comes from.
    fn set(&mut self, name: &str, parameter: &str, value: &str, file: &str) {
        let setting = Setting {
            value: value.to_owned(),
            raw: value.to_owned(),
            vartype: "integer".to_owned(),
            source_file: Some(format!("/var/lib/pgorch/accounts/15/data/{file}")),
            ..Setting::default()
        };
        self.server(name).settings.insert(parameter.to_owned(), setting);
    }
}
