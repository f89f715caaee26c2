//! The watch's table as lines of text: a function of what a round showed.

use crate::watch::{Board, Held, NodeRow};

/// The table for a terminal of this width, with what has happened last below it. Lines are cut, never
/// wrapped.
#[must_use]
pub fn board_lines(board: &Board, events: &[String], width: usize) -> Vec<String> {
    let mut lines = vec![headline(board)];
    lines.extend(board.pause.iter().map(|pause| format!("  {pause}")));
    lines.push(String::new());
    lines.extend(table(&board.nodes));
    if !events.is_empty() {
        lines.push(String::new());
        lines.extend(events.iter().cloned());
    }
    lines.iter().map(|line| cut(line.trim_end(), width)).collect()
}

fn headline(board: &Board) -> String {
    let mut text = format!("{}  {}  {}", board.cluster, board.phase, board.finding);
    if let Some((looks, needed)) = board.suspicion {
        text += &format!("  look {looks} of {needed}");
    }
    if board.decision != "nothing" {
        text += &format!("  -> {}", board.decision);
    }
    text
}

fn table(nodes: &[NodeRow]) -> Vec<String> {
    const HEAD: [&str; 7] = ["node", "role", "state", "timeline", "lag", "lease", ""];
    let rows: Vec<[String; 7]> = nodes.iter().map(cells).collect();
    let head = HEAD.map(str::to_owned);
    let all: Vec<&[String; 7]> = [&head].into_iter().chain(&rows).collect();
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &&[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}", cells.collect::<Vec<_>>().join("  "))
    };
    all.iter().map(line).collect()
}

fn cells(row: &NodeRow) -> [String; 7] {
    let dash = || "-".to_owned();
    let lease = match row.lease {
        None => dash(),
        Some(Held::Milliseconds(0)) => "over".to_owned(),
        Some(Held::Milliseconds(left)) => {
            format!("{}.{} s", left / 1_000, left % 1_000 / 100)
        }
        Some(Held::WithoutEnd) => "paused".to_owned(),
        Some(Held::NotRead) => "not read".to_owned(),
    };
    [
        row.name.0.clone(),
        row.role.to_owned(),
        row.state.to_owned(),
        row.timeline.map_or_else(dash, |t| t.to_string()),
        row.lag_bytes.map_or_else(dash, size),
        lease,
        row.findings.join(", "),
    ]
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut scaled = bytes / 1_024;
    while scaled >= 10_240 && unit + 1 < UNITS.len() {
        scaled /= 1_024;
        unit += 1;
    }
    format!("{scaled} {}", UNITS[unit])
}

fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HostName;

    fn row(name: &str, role: &'static str, state: &'static str) -> NodeRow {
        NodeRow {
            name: HostName(name.to_owned()),
            role,
            state,
            timeline: Some(3),
            lsn: Some("0/5000148".to_owned()),
            lag_bytes: None,
            lease: None,
            findings: Vec::new(),
        }
    }

    fn board() -> Board {
        Board {
            cluster: "accounts".to_owned(),
            round: 7,
            phase: "watching",
            finding: "primary_healthy",
            decision: "nothing".to_owned(),
            primary: Some(HostName("node1".to_owned())),
            suspicion: None,
            pause: None,
            nodes: vec![
                NodeRow {
                    lease: Some(Held::Milliseconds(3_980)),
                    ..row("node1", "primary", "running")
                },
                NodeRow { lag_bytes: Some(0), ..row("node2", "standby", "streaming") },
                NodeRow {
                    timeline: None,
                    findings: vec!["standby_unreachable"],
                    ..row("node3", "unknown", "unreachable")
                },
            ],
        }
    }

    fn shown(board: &Board, events: &[&str], width: usize) -> String {
        let events: Vec<String> = events.iter().map(|e| (*e).to_owned()).collect();
        board_lines(board, &events, width).join("\n")
    }

    #[test]
    fn a_quiet_cluster() {
        insta::assert_snapshot!(shown(&board(), &[], 100), @"
        accounts  watching  primary_healthy

          node   role     state        timeline  lag  lease
          node1  primary  running      3         -    3.9 s
          node2  standby  streaming    3         0 B  -
          node3  unknown  unreachable  -         -    -      standby_unreachable
        ");
    }

    #[test]
    fn a_suspected_primary_under_a_pause() {
        let mut board = board();
        board.phase = "paused";
        board.finding = "primary_unreachable";
        board.suspicion = Some((2, 3));
        board.pause = Some("paused by ann@ops since 2026-01-02T03:04:05Z: new switch".to_owned());
        board.nodes[0].state = "unreachable";
        board.nodes[0].lease = Some(Held::WithoutEnd);
        board.nodes[1].lag_bytes = Some(20 << 20);
        board.nodes[2].findings.push("revoked");
        let events = ["03:04:05  paused: primary_healthy -> nothing", "          node1: x"];
        insta::assert_snapshot!(shown(&board, &events, 60), @"
        accounts  paused  primary_unreachable  look 2 of 3
          paused by ann@ops since 2026-01-02T03:04:05Z: new switch

          node   role     state        timeline  lag    lease
          node1  primary  unreachable  3         -      paused
          node2  standby  streaming    3         20 MB  -
          node3  unknown  unreachable  -         -      -       sta…

        03:04:05  paused: primary_healthy -> nothing
                  node1: x
        ");
    }

    #[test]
    fn what_is_done_stands_in_the_first_line() {
        let mut board = board();
        board.decision = "replace node1 (primary_hung)".to_owned();
        board.nodes[0].lease = Some(Held::Milliseconds(0));
        board.nodes[1].lease = Some(Held::NotRead);
        insta::assert_snapshot!(shown(&board, &[], 70), @"
        accounts  watching  primary_healthy  -> replace node1 (primary_hung)

          node   role     state        timeline  lag  lease
          node1  primary  running      3         -    over
          node2  standby  streaming    3         0 B  not read
          node3  unknown  unreachable  -         -    -         standby_unrea…
        ");
    }

    #[test]
    fn sizes_are_short() {
        let all = [0, 1_023, 1_024, 10 << 20, 10 << 30, 4 << 40].map(size);
        assert_eq!(all, ["0 B", "1023 B", "1 kB", "10 MB", "10 GB", "4096 GB"]);
    }
}
