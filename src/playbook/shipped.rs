//! The playbooks and templates that are inside the binary.

/// Every shipped file by its path from the top of the repository.
pub const SHIPPED: &[(&str, &str)] = &[
    ("playbooks/apply.yml", include_str!("../../playbooks/apply.yml")),
    ("playbooks/clone-node.yml", include_str!("../../playbooks/clone-node.yml")),
    ("playbooks/clone.yml", include_str!("../../playbooks/clone.yml")),
    ("playbooks/configure.yml", include_str!("../../playbooks/configure.yml")),
    ("playbooks/failover.yml", include_str!("../../playbooks/failover.yml")),
    ("playbooks/follow.yml", include_str!("../../playbooks/follow.yml")),
    ("playbooks/guard.yml", include_str!("../../playbooks/guard.yml")),
    ("playbooks/initdb.yml", include_str!("../../playbooks/initdb.yml")),
    ("playbooks/install.yml", include_str!("../../playbooks/install.yml")),
    ("playbooks/members.yml", include_str!("../../playbooks/members.yml")),
    ("playbooks/pgbouncer.yml", include_str!("../../playbooks/pgbouncer.yml")),
    ("playbooks/register.yml", include_str!("../../playbooks/register.yml")),
    ("playbooks/rejoin.yml", include_str!("../../playbooks/rejoin.yml")),
    ("playbooks/reload.yml", include_str!("../../playbooks/reload.yml")),
    ("playbooks/restart-switchover.yml", include_str!("../../playbooks/restart-switchover.yml")),
    ("playbooks/restart.yml", include_str!("../../playbooks/restart.yml")),
    ("playbooks/start-all.yml", include_str!("../../playbooks/start-all.yml")),
    ("playbooks/start.yml", include_str!("../../playbooks/start.yml")),
    ("playbooks/stop.yml", include_str!("../../playbooks/stop.yml")),
    ("playbooks/switchover.yml", include_str!("../../playbooks/switchover.yml")),
    ("playbooks/tasks/reclone.yml", include_str!("../../playbooks/tasks/reclone.yml")),
    ("playbooks/tasks/rejoined.yml", include_str!("../../playbooks/tasks/rejoined.yml")),
    ("playbooks/tasks/standby.yml", include_str!("../../playbooks/tasks/standby.yml")),
    ("playbooks/tasks/upgrade.yml", include_str!("../../playbooks/tasks/upgrade.yml")),
    ("playbooks/unregister.yml", include_str!("../../playbooks/unregister.yml")),
    ("playbooks/upgrade-minor.yml", include_str!("../../playbooks/upgrade-minor.yml")),
    ("templates/boot-check.sh.j2", include_str!("../../templates/boot-check.sh.j2")),
    ("templates/guard.service.j2", include_str!("../../templates/guard.service.j2")),
    ("templates/guard.sh.j2", include_str!("../../templates/guard.sh.j2")),
    ("templates/guard.timer.j2", include_str!("../../templates/guard.timer.j2")),
    ("templates/postgresql.service.j2", include_str!("../../templates/postgresql.service.j2")),
    ("templates/sudoers.j2", include_str!("../../templates/sudoers.j2")),
    ("templates/vip.sh.j2", include_str!("../../templates/vip.sh.j2")),
    ("templates/watch.service.j2", include_str!("../../templates/watch.service.j2")),
];

/// The text of a shipped file: `playbooks/apply.yml`, or just `apply.yml` or `unit.service.j2`.
#[must_use]
pub fn shipped(name: &str) -> Option<&'static str> {
    let name = name.trim_start_matches("./");
    let hit = |path: &str| {
        path == name
            || path.strip_prefix("playbooks/") == Some(name)
            || path.strip_prefix("templates/") == Some(name)
    };
    SHIPPED.iter().find(|(path, _)| hit(path)).map(|(_, text)| *text)
}
