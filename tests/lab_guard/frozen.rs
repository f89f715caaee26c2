//! Servers that stand still, and one that is cut off, with clients that stay with them.

use super::host::{Guarded, UNIT};

/// A client on the primary's own host, which nothing cuts off: it notes when each row was confirmed,
/// in hundredths of a second of /proc/uptime.
fn pinned(lab: &Guarded) {
    lab.cluster.sql("node1", "DROP TABLE IF EXISTS pinned");
    lab.cluster.sql("node1", "CREATE TABLE pinned (id bigint)");
    let client = "id=0\n\
        while :; do\n\
          id=$((id + 1))\n\
          echo \"INSERT INTO pinned VALUES ($id);\"\n\
          echo '\\! cut -d\" \" -f1 /proc/uptime >>/root/confirmed'\n\
          sleep 0.02\n\
        done | (cd / && runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1)";
    let client = pgorch::model::quote(client);
    lab.sh("node1", ": >/root/confirmed; chmod 777 /root /root/confirmed");
    lab.sh("node1", &format!("printf '%s\\n' {client} >/root/client.sh"));
    lab.sh("node1", "systemd-run -q --unit pinned --collect /bin/sh /root/client.sh");
    std::thread::sleep(std::time::Duration::from_secs(1));
}

/// When the pinned client's last row was confirmed, and how many were.
fn last_confirmed(lab: &Guarded) -> (i64, usize) {
    lab.sh(
        "node1",
        "systemctl stop pinned 2>/dev/null; systemctl reset-failed pinned 2>/dev/null; :",
    );
    let text = lab.sh("node1", "cat /root/confirmed");
    let last = text.lines().last().unwrap_or_default();
    let seconds: f64 = last.parse().expect("a moment");
    ((seconds * 1000.0).round() as i64, text.lines().count())
}

/// Every process of the server is stopped and nobody continues it: it is killed as it is, and confirms
/// nothing any more.
pub(super) fn all_processes(lab: &Guarded) {
    lab.only_standbys("node1");
    pinned(lab);
    let begin = Guarded::now();
    lab.sh("node1", &format!("systemctl kill -s STOP --kill-who=all {UNIT}"));
    let stopped = Guarded::now();
    let gone = lab.sh("node1", Guarded::gone_line());
    let reply = i64::try_from(Guarded::timing().reply_timeout.as_millis()).expect("small");
    Guarded::in_time("frozen", stopped + reply, &gone);
    let (last, rows) = last_confirmed(lab);
    // The moment is noted by a process of its own.
    assert!(last > begin - 1_000 && last < stopped + 500, "{last}, stopped at {begin}..{stopped}");
    lab.back("node1");
    let there: usize =
        lab.cluster.sql("node1", "SELECT count(*) FROM pinned").parse().expect("rows");
    assert!(there >= rows, "{rows} were confirmed, {there} are there");
}

/// Cut off from everybody, with a client that goes on writing: it ends before a controller that waits
/// as the constants say would promote another.
pub(super) fn cut_off(lab: &Guarded) {
    lab.only_standbys("node1");
    pinned(lab);
    let cut = Guarded::now();
    for words in ["cut node1 node2", "cut node1 node3", "cut controller node1"] {
        lab.cluster.fault(words);
    }
    let all_cut = Guarded::now();
    std::thread::sleep(std::time::Duration::from_secs(6));
    for words in ["heal node1 node2", "heal node1 node3", "heal controller node1"] {
        lab.cluster.fault(words);
    }
    assert!(lab.down("node1"), "it lives on");
    let (last, rows) = last_confirmed(lab);
    let timing = Guarded::timing();
    let ms = |time: std::time::Duration| i64::try_from(time.as_millis()).expect("small");
    let bound = ms(timing.reply_timeout + timing.reaction());
    eprintln!(
        "  cut off: last row {} ms after the cut, bound {bound} ms, a controller waits {} ms",
        last - all_cut,
        ms(timing.wait_acknowledged())
    );
    assert!(last > cut, "it wrote for a while");
    assert!(last - all_cut <= bound, "{} ms", last - all_cut);
    assert!(last - all_cut < ms(timing.wait_acknowledged()));
    lab.back("node1");
    let there: usize =
        lab.cluster.sql("node1", "SELECT count(*) FROM pinned").parse().expect("rows");
    assert!(there >= rows, "{rows} were confirmed, {there} are there");
}
