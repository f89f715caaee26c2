//! The playbooks and templates that are inside the binary.

/// Every shipped file by its path from the top of the repository.
pub const SHIPPED: &[(&str, &str)] = &[
    ("playbooks/apply.yml", include_str!("../../playbooks/apply.yml")),
    ("playbooks/clone.yml", include_str!("../../playbooks/clone.yml")),
    ("playbooks/configure.yml", include_str!("../../playbooks/configure.yml")),
    ("playbooks/failover.yml", include_str!("../../playbooks/failover.yml")),
    ("playbooks/initdb.yml", include_str!("../../playbooks/initdb.yml")),
    ("playbooks/install.yml", include_str!("../../playbooks/install.yml")),
    ("playbooks/pgbouncer.yml", include_str!("../../playbooks/pgbouncer.yml")),
    ("playbooks/register.yml", include_str!("../../playbooks/register.yml")),
    ("playbooks/restart.yml", include_str!("../../playbooks/restart.yml")),
    ("playbooks/switchover.yml", include_str!("../../playbooks/switchover.yml")),
    ("playbooks/tasks/standby.yml", include_str!("../../playbooks/tasks/standby.yml")),
    ("playbooks/unregister.yml", include_str!("../../playbooks/unregister.yml")),
    ("templates/boot-check.sh.j2", include_str!("../../templates/boot-check.sh.j2")),
    ("templates/postgresql.service.j2", include_str!("../../templates/postgresql.service.j2")),
    ("templates/sudoers.j2", include_str!("../../templates/sudoers.j2")),
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
