//! The status as people and scripts see it.

use super::super::{human, nagios, psql_uri};
use super::{LSN, Spoilt as _, World};
use crate::model::{HostName, Lsn};

#[test]
fn a_cluster_that_is_well() {
    let mut world = World::new();
    world.connect("node3", "node2");
    world.inventory.nodes[2].follow = Some(HostName::from("node2"));
    let status = world.status();
    insta::assert_snapshot!(human(&status), @r"
    cluster accounts: OK, primary node1, 3 nodes, PostgreSQL 15.20

    NODE           HOST              ROLE     STATE      TL  LSN        LAG  SYNC   FLAGS
    ◆ node1        198.18.0.11:5432  primary  running    1   1/3048F28  -    -
    └─ ● node2     198.18.0.12:5432  standby  streaming  1   1/3048F28  0 B  async
       └─ ● node3  198.18.0.13:5432  standby  streaming  1   1/3048F28  0 B  -
    ");
    insta::assert_json_snapshot!(status, @r#"
    {
      "schema": 1,
      "cluster": "accounts",
      "primary": "node1",
      "health": "ok",
      "nodes": [
        {
          "name": "node1",
          "host": "198.18.0.11",
          "port": 5432,
          "role": "primary",
          "state": "running",
          "upstream": null,
          "timeline": 1,
          "lsn": "1/3048F28",
          "lag_bytes": null,
          "replay_lag_seconds": null,
          "sync": null,
          "pending_restart": false,
          "reload_owed": false,
          "version": "15.20",
          "findings": []
        },
        {
          "name": "node2",
          "host": "198.18.0.12",
          "port": 5432,
          "role": "standby",
          "state": "streaming",
          "upstream": "node1",
          "timeline": 1,
          "lsn": "1/3048F28",
          "lag_bytes": 0,
          "replay_lag_seconds": null,
          "sync": "async",
          "pending_restart": false,
          "reload_owed": false,
          "version": "15.20",
          "findings": []
        },
        {
          "name": "node3",
          "host": "198.18.0.13",
          "port": 5432,
          "role": "standby",
          "state": "streaming",
          "upstream": "node2",
          "timeline": 1,
          "lsn": "1/3048F28",
          "lag_bytes": 0,
          "replay_lag_seconds": null,
          "sync": null,
          "pending_restart": false,
          "reload_owed": false,
          "version": "15.20",
          "findings": []
        }
      ],
      "findings": []
    }
    "#);
    insta::assert_snapshot!(nagios(&status).1, @"PGORCH OK - accounts: primary node1, 2 streaming | lag=0B streaming=2");
    assert_eq!(nagios(&status).0, 0);
}

#[test]
fn a_cluster_with_troubles() {
    let mut world = World::new();
    world.connect("node2", "node3");
    world.server("node3").pending_restart = vec!["shared_buffers".to_owned()];
    world.server("node3").lsn = Some(Lsn(LSN.0 - 12_345_678));
    world.server("node3").replay_lag_seconds = Some(4.25);
    world.instance("node1").disk_free_bytes = 3 << 30;
    world.unreachable("node2");
    let status = world.status();
    insta::assert_snapshot!(human(&status), @r"
    cluster accounts: DEGRADED, primary node1, 3 nodes, PostgreSQL 15.20

    NODE        HOST              ROLE     STATE        TL  LSN        LAG           SYNC   FLAGS
    ◆ node1     198.18.0.11:5432  primary  running      1   1/3048F28  -             -      disk nearly full
    └─ ● node3  198.18.0.13:5432  standby  streaming    1   1/2482DDA  12 MB, 4.2 s  async  restart owed
    ? node2     198.18.0.12:5432  unknown  unreachable  -   -          -             -

    ! warning   disk_nearly_full  node1: 3 % (3.0 GB) left for data_dir
    ! warning   node_unreachable  node2: connection timed out
    i info      pending_restart  node3: shared_buffers waits for a restart
                → pgorch apply --restart
    ");
    insta::assert_snapshot!(nagios(&status).1, @"PGORCH WARNING - accounts: primary node1, 1 streaming; node1: disk_nearly_full; node2: node_unreachable | lag=12345678B streaming=1");
    assert_eq!(nagios(&status).0, 1);
}

#[test]
fn two_primaries_and_a_circle() {
    let mut world = World::new();
    world.server("node2").in_recovery = false;
    let status = world.status();
    insta::assert_snapshot!(human(&status), @r"
    cluster accounts: SPLIT, more than one primary, 3 nodes, PostgreSQL 15.20

    NODE        HOST              ROLE     STATE      TL  LSN        LAG  SYNC  FLAGS
    ◆ node1     198.18.0.11:5432  primary  running    1   1/3048F28  -    -
    └─ ● node3  198.18.0.13:5432  standby  streaming  1   1/3048F28  -    -
    ◆ node2     198.18.0.12:5432  primary  running    1   1/3048F28  -    -

    ✗ critical  split_brain  node1 (timeline 1, 1/3048F28) and node2 (timeline 1, 1/3048F28) are out of recovery and accept writes
                → pgorch explain split_brain; keep clients away, stop the stale one, rejoin it
    ");
    assert_eq!(nagios(&status).0, 2);

    let mut world = World::new();
    world.connect("node2", "node3");
    world.connect("node3", "node2");
    assert!(human(&world.status()).contains("node3"));
}

#[test]
fn where_psql_connects() {
    let mut world = World::new();
    let uri = |world: &World| psql_uri(&world.inventory, &world.status()).expect("a primary");
    let hosts = "198.18.0.11:5432,198.18.0.12:5432,198.18.0.13:5432";
    let all = format!("postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write");
    assert_eq!(uri(&world), all);
    let node1 = world.inventory.nodes.get_mut(&HostName::from("node1")).expect("a node");
    node1.host.address = Some("fd00::1".to_owned());
    assert!(uri(&world).contains("@[fd00::1]:5432,198.18.0.12:5432"), "{}", uri(&world));
}
