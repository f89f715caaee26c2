//! Configuration of a running server: checked before, loaded after, put back when refused.

use pgorch::step::{Diff, Verdict};
use serde_json::{Value, json};

use super::harness::{World, change, refused, run, satisfied};
use super::servers::Servers;

fn values(diffs: &[Diff]) -> Vec<String> {
    let show = |v: &Option<String>| v.clone().unwrap_or_else(|| "-".into());
    diffs
        .iter()
        .map(|d| match d {
            Diff::Value { name, before, after, note } => {
                format!("{name} {} -> {} {}", show(before), show(after), show(note))
            }
            Diff::Text { path, .. } => {
                format!("text of {}", path.rsplit('/').next().unwrap_or(path))
            }
        })
        .collect()
}

fn set(world: &mut World, name: &str, value: &str) {
    for node in world.nodes.values_mut() {
        node.parameters.insert(name.into(), value.into());
    }
}

#[test]
fn configuration_is_checked_loaded_and_put_back() {
    let Some(mut servers) = Servers::new([56433, 56434]) else { return };
    servers.primary();
    parameters_are_loaded(&mut servers);
    wrong_parameters_are_refused_before_writing(&mut servers);
    restarts_are_owed(&mut servers);
    edits_by_hand_are_repaired(&mut servers);
    alter_system_is_reported(&mut servers);
    a_bad_rule_puts_the_old_file_back(&mut servers);
    standbys_have_no_less_than_the_primary(&mut servers);
}

fn parameters_are_loaded(servers: &mut Servers) {
    set(&mut servers.world, "work_mem", "5MB");
    let change = servers.converge("node1", "parameters");
    assert_eq!(values(&change.diffs), ["work_mem 4MB -> 5MB reload"]);
    assert!(change.impact.reload && !change.impact.restart);
    assert_eq!(servers.sql("node1", "SHOW work_mem"), "5MB");
}

fn wrong_parameters_are_refused_before_writing(servers: &mut Servers) {
    let file = format!("{}/pgorch.conf", servers.node("node1").data_dir);
    let before = std::fs::read(&file).expect("a file");
    let table = [
        (
            "shared_bufers",
            "1GB",
            "unrecognized configuration parameter \"shared_bufers\"",
            "did you mean \"shared_buffers\"?",
        ),
        (
            "shared_buffers",
            "1XB",
            "invalid value for parameter \"shared_buffers\": \"1XB\"",
            "Valid units",
        ),
        ("max_connections", "-3", "-3 is outside the valid range", ""),
        (
            "wal_level",
            "full",
            "invalid value for parameter \"wal_level\": \"full\"",
            "Available values",
        ),
        ("archive_mode", "maybe", "invalid value for parameter \"archive_mode\"", ""),
        ("wal_keep_segments", "4", "unrecognized configuration parameter", "use wal_keep_size"),
    ];
    for (name, value, message, hint) in table {
        let kept = servers.world.nodes[0].parameters.clone();
        set(&mut servers.world, name, value);
        let error = servers.world.look("node1", "parameters", Value::Null).expect_err(name);
        assert!(error.message.contains(message), "{error}");
        assert!(!error.message.contains("/tmp"), "{error}");
        assert!(error.hint.clone().unwrap_or_default().contains(hint), "{error:?}");
        for node in servers.world.nodes.values_mut() {
            node.parameters = kept.clone();
        }
    }
    assert_eq!(std::fs::read(&file).expect("a file"), before);
}

fn restarts_are_owed(servers: &mut Servers) {
    set(&mut servers.world, "max_connections", "120");
    let change = servers.converge("node1", "parameters");
    assert_eq!(values(&change.diffs), ["max_connections 100 -> 120 restart"]);
    let report = satisfied(servers.world.look("node1", "parameters", Value::Null));
    assert_eq!(report.notices, ["pending_restart: max_connections"]);
    let report = satisfied(servers.world.look("node1", "restart", Value::Null));
    assert_eq!(report.notices, ["pending_restart: max_connections"]);
    servers.world.options.restart = true;
    let change = super::harness::change(servers.world.look("node1", "restart", Value::Null));
    assert!(change.impact.restart && change.impact.needs_consent());
    servers.world.options.restart = false;
    servers.pg_ctl("node1", "restart -m fast");
    let report = satisfied(servers.world.look("node1", "restart", Value::Null));
    assert_eq!(report.notices, Vec::<String>::new());
}

fn edits_by_hand_are_repaired(servers: &mut Servers) {
    let dir = servers.node("node1").data_dir;
    let file = format!("{dir}/pgorch.conf");
    let good = std::fs::read_to_string(&file).expect("a file");
    std::fs::write(&file, good.replace("work_mem = 5MB", "work_mem = 6MB\nlog_hostname = on"))
        .expect("edited");
    let change = servers.converge("node1", "parameters");
    assert_eq!(values(&change.diffs), ["work_mem 6MB -> 5MB reload", "log_hostname on -> - -"]);
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), good);
    std::fs::write(&file, format!("{good}# a remark\n")).expect("edited");
    let change = servers.converge("node1", "parameters");
    assert_eq!(values(&change.diffs), ["text of pgorch.conf"]);
    // Written and not loaded, as a run that died in between leaves it.
    std::fs::write(&file, &good).expect("touched");
    let change = servers.converge("node1", "parameters");
    assert!(change.summary.contains("newer than the running configuration"), "{}", change.summary);
    // The include lines are gone.
    let main = format!("{dir}/postgresql.conf");
    let text = std::fs::read_to_string(&main).expect("a file");
    std::fs::write(&main, text.replace("include 'pgorch.conf'", "")).expect("edited");
    let change = servers.converge("node1", "parameters");
    assert!(change.summary.contains("does not include"), "{}", change.summary);
    assert_eq!(servers.sql("node1", "SHOW work_mem"), "5MB");
}

fn alter_system_is_reported(servers: &mut Servers) {
    servers.sql("node1", "ALTER SYSTEM SET work_mem = '7MB'");
    let report = satisfied(servers.world.look("node1", "parameters", Value::Null));
    assert!(report.notices[0].contains("ALTER SYSTEM RESET \"work_mem\""), "{report:?}");
    servers.sql("node1", "ALTER SYSTEM RESET work_mem");
}

fn a_bad_rule_puts_the_old_file_back(servers: &mut Servers) {
    let file = format!("{}/pg_hba.conf", servers.node("node1").data_dir);
    let before = std::fs::read_to_string(&file).expect("a file");
    let rule = |method: &str| pgorch::inventory::HbaRule {
        r#type: "host".into(),
        database: "all".into(),
        user: "all".into(),
        address: Some("10.0.0.0/8".into()),
        method: method.into(),
        options: None,
    };
    servers.world.inventory.postgres.hba = vec![rule("no-such-method")];
    let bad = change(servers.world.look("node1", "hba", Value::Null));
    let error = run(&bad).expect_err("refused by the server");
    assert!(error.contains("invalid authentication method"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), before);
    servers.world.inventory.postgres.hba = vec![rule("scram-sha-256")];
    let good = servers.converge("node1", "hba");
    assert_eq!(
        values(&good.diffs),
        ["pg_hba.conf rule 5 - -> host all all 10.0.0.0/8 scram-sha-256 reload"]
    );
    // Order counts, and so does a rule that somebody put in front.
    let text = std::fs::read_to_string(&file).expect("a file");
    std::fs::write(&file, format!("host all all 0.0.0.0/0 trust\n{text}")).expect("edited");
    let repair = servers.converge("node1", "hba");
    assert_eq!(
        values(&repair.diffs),
        ["pg_hba.conf rule 1 host all all 0.0.0.0/0 trust -> - reload"]
    );
}

fn standbys_have_no_less_than_the_primary(servers: &mut Servers) {
    servers.standby();
    // The primary goes on with 120 until it is restarted, whatever the inventory says.
    set(&mut servers.world, "max_connections", "90");
    servers.converge("node1", "parameters");
    let report = satisfied(servers.world.look("node2", "parameters", Value::Null));
    assert!(
        report.notices[0].contains("max_connections stays at 120 on node2 instead of 90"),
        "{report:?}"
    );
    servers.pg_ctl("node1", "restart -m fast");
    let verdict = servers.world.look("node2", "wait_streaming", Value::Null);
    if let Ok(Verdict::Wait(wait)) = verdict {
        run(&wait).expect("streams again");
    }
    let change = servers.converge("node2", "parameters");
    assert_eq!(values(&change.diffs), ["max_connections 120 -> 90 restart"]);
    assert!(refused(servers.world.look("node2", "role", json!({"name": "x"}))).contains("standby"));
}
