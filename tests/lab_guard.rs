//! Guarded primaries on real hosts, with no controller but the test: what keeps one up, and what ends it
//! in time. The bounds are those of `model::Timing`; the rest is order, not milliseconds.

mod frozen;
mod held;
mod host;
mod roles;

use crate::lab::available;
use host::Guarded;

type Part = fn(&Guarded);

#[track_caller]
fn tell(lab: &Guarded, parts: &[(&str, Part)]) {
    for (name, part) in parts {
        let start = std::time::Instant::now();
        part(lab);
        eprintln!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    }
}

/// systemd 252.
#[test]
fn a_guarded_primary_ends_in_time() {
    if !available() {
        return;
    }
    let lab = Guarded::new("bookworm", 15);
    tell(
        &lab,
        &[
            ("nothing to do", roles::nothing_to_do),
            ("kept up by standbys", held::by_standbys),
            ("held by PID 1 alone", held::by_pid_1),
            ("frozen", frozen::all_processes),
            ("cut off", frozen::cut_off),
            ("no guard", held::without_its_script),
            ("rebooted", roles::rebooted),
            ("revoked while replay is paused", roles::revoked_while_paused),
            ("promoted by hand", roles::promoted_by_hand),
            ("switchover", roles::switched_over),
            ("paused", roles::paused),
            ("manual again", roles::manual_again),
        ],
    );
}

/// systemd 257: what rests on it.
#[test]
fn a_newer_systemd_holds_leases_too() {
    if !available() {
        return;
    }
    let lab = Guarded::new("trixie", 17);
    tell(
        &lab,
        &[
            ("kept up by standbys", held::by_standbys),
            ("held by PID 1 alone", held::by_pid_1),
            ("frozen", frozen::all_processes),
        ],
    );
}
