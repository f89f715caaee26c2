//! `get_url`, `unarchive`, `stat`, `slurp`, `wait_for`, and the kinds that ask no host.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

use pgorch::step::Verdict;
use serde_json::{Value, json};

use super::harness::{World, expect_change, satisfied};

fn temp() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().to_str().expect("UTF-8").to_owned();
    (dir, path)
}

/// Serves `hello` under any path but `/missing`, on a loopback port, until the test ends.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let n = stream.read(&mut request).unwrap_or(0);
            let missing = request[..n].starts_with(b"GET /missing");
            let answer = if missing {
                "HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n"
            } else {
                "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

const HELLO: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

#[test]
fn get_url_checks_before_it_places() {
    let (_guard, dir) = temp();
    let world = World::new();
    let base = format!("http://127.0.0.1:{}", server());
    let args = |path: &str, sum: &str| {
        json!({"url": format!("{base}/{path}?token=pw"), "dest": format!("{dir}/"), "checksum": sum,
            "mode": "0600"})
    };
    let change = world.converge("get_url", args("a.txt", &format!("sha256:{HELLO}")));
    assert_eq!(fs::read_to_string(format!("{dir}/a.txt")).expect("there"), "hello\n");
    assert!(!change.commands[0].script.as_str().contains("token"), "a URL may hold a secret");
    world.converge("get_url", args("b.txt", "md5:b1946ac92492d2347c6235b4d2611184"));
    world.converge("get_url", args("c.txt", "none"));
    let wrong = format!("sha256:{}", "0".repeat(64));
    assert!(world.fails("get_url", args("d.txt", &wrong)).contains("the checksum is sha256:5891"));
    assert!(!fs::exists(format!("{dir}/d.txt")).expect("looked"));
    assert!(world.fails("get_url", args("missing", "none")).contains("404"));
    assert_eq!(fs::read_dir(&dir).expect("read").count(), 3, "temporary files are gone");
    let error = world.look("get_url", json!({"url": "http://x/y", "dest": "/tmp/y"}));
    assert_eq!(error.expect_err("refused").arg, Some("checksum"));
    let error = world.look("get_url", args("a", "sha256:abc")).expect_err("refused");
    assert_eq!(error.arg, Some("checksum"));
}

#[test]
fn archives_of_the_controller_and_of_the_host() {
    let (_guard, dir) = temp();
    let mut world = World::new();
    fs::create_dir_all(format!("{dir}/in/pkg/bin")).expect("made");
    fs::write(format!("{dir}/in/pkg/bin/tool"), "x").expect("written");
    fs::write(format!("{dir}/in/.hidden"), "x").expect("written");
    for (option, name) in [("-z", "a.tgz"), ("-J", "a.txz"), ("", "a.tar")] {
        let mut tar = Command::new("tar");
        tar.args(["-c", "-f", &format!("{dir}/{name}"), "-C", &format!("{dir}/in")]);
        let done = tar.args((!option.is_empty()).then_some(option)).arg(".").status();
        assert!(done.expect("tar").success());
        let out = format!("{dir}/out-{name}");
        fs::create_dir_all(format!("{out}/pkg")).expect("made");
        world.files.insert(name.into(), fs::read(format!("{dir}/{name}")).expect("read"));
        world.converge("unarchive", json!({"src": name, "dest": out, "creates": "pkg/bin/tool"}));
        assert!(fs::exists(format!("{out}/.hidden")).expect("looked"));
        assert_eq!(fs::read_dir(&out).expect("read").count(), 2);
    }
    let out = format!("{dir}/out");
    fs::create_dir(&out).expect("made");
    let args = json!({"src": format!("{dir}/a.tgz"), "remote_src": true, "dest": out,
        "creates": format!("{out}/bin/tool"), "extra_opts": ["--strip-components=2"]});
    world.converge("unarchive", args);
    world.files.insert("cut.tgz".into(), world.files["a.tgz"][..60].to_vec());
    let dest = format!("{dir}/out2");
    fs::create_dir(&dest).expect("made");
    world.fails("unarchive", json!({"src": "cut.tgz", "dest": dest}));
    assert_eq!(fs::read_dir(&dest).expect("read").count(), 0, "nothing half-unpacked is left");
    world.files.insert("x".into(), b"no archive".to_vec());
    assert!(world.look("unarchive", json!({"src": "x", "dest": dest})).is_err());
    let verdict = world.look("unarchive", json!({"src": "x", "dest": "/nonexistent"}));
    assert!(matches!(verdict, Ok(Verdict::NotYet(_))));
}

#[test]
fn stat_and_slurp_register_ansibles_names() {
    let (_guard, dir) = temp();
    let world = World::new();
    let path = format!("{dir}/f");
    fs::write(&path, "hello\n").expect("written");
    std::os::unix::fs::symlink("f", format!("{dir}/l")).expect("link");
    let stat = |args: Value| satisfied(world.look("stat", args))["stat"].clone();
    let found = stat(json!({"path": path}));
    assert_eq!(
        (&found["exists"], &found["isreg"], &found["size"]),
        (&json!(true), &json!(true), &json!(6))
    );
    assert_eq!(found["checksum"], json!("f572d396fae9206628714fb2ce00f72e94f2258f"));
    assert_eq!(found["pw_name"], json!("root"));
    let link = stat(json!({"path": format!("{dir}/l")}));
    assert_eq!((&link["islnk"], &link["lnk_target"]), (&json!(true), &json!("f")));
    let args = json!({"path": format!("{dir}/l"), "follow": true, "checksum_algorithm": "sha256"});
    assert_eq!(stat(args)["checksum"], json!(HELLO));
    assert_eq!(stat(json!({"path": dir}))["isdir"], json!(true));
    assert_eq!(stat(json!({"path": "/nonexistent"})), json!({"exists": false}));
    let slurped = satisfied(world.look("slurp", json!({"src": path})));
    assert_eq!(slurped["content"], json!("aGVsbG8K"));
    let none = world.look("slurp", json!({"src": "/nonexistent"}));
    assert!(matches!(none, Ok(Verdict::NotYet(_))));
}

#[test]
fn waits_see_ports_and_paths() {
    let (_guard, dir) = temp();
    let world = World::new();
    let port = server();
    satisfied(world.look("wait_for", json!({"port": port})));
    satisfied(world.look("wait_for", json!({"path": dir})));
    fs::write(format!("{dir}/log"), "now ready\n").expect("written");
    satisfied(
        world.look("wait_for", json!({"path": format!("{dir}/log"), "search_regex": "rea.y"})),
    );
    satisfied(world.look("wait_for", json!({"path": format!("{dir}/no"), "state": "absent"})));
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("port").port();
    let verdict = world.look("wait_for", json!({"port": free, "timeout": 1}));
    assert!(matches!(&verdict, Ok(Verdict::Wait(_))));
    let error = world.run(&expect_change(verdict)).expect_err("timed out");
    assert_eq!(error, format!("timed out after 1 s waiting for 127.0.0.1:{free} to accept\n"));
    let later = format!("{dir}/later");
    let wait = expect_change(world.look("wait_for", json!({"path": later, "timeout": 10})));
    let maker = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        fs::write(later, "").expect("written");
    });
    world.run(&wait).expect("it came");
    maker.join().expect("made");
    assert!(world.look("wait_for", json!({})).is_err());
    assert!(matches!(world.look("pause", json!({"seconds": 0})), Ok(Verdict::Wait(_))));
    assert!(world.look("pause", json!({})).is_err());
}

#[test]
fn local_kinds_judge_and_set() {
    let mut world = World::new();
    world.vars.insert("n".into(), json!(3));
    satisfied(world.look("assert", json!({"that": ["n == 3", "n is defined", true]})));
    let error = world.look("assert", json!({"that": "n > 5", "fail_msg": "too small"}));
    assert_eq!(error.expect_err("fails").message, "too small (n > 5 is false)");
    assert!(world.look("assert", json!({"that": "nope"})).is_err());
    let error = world.look("fail", json!({"msg": "stop here"})).expect_err("fails");
    assert_eq!(error.message, "stop here");
    let shown = |args| match world.look("debug", args) {
        Ok(Verdict::Satisfied(report)) => report.message.expect("message"),
        other => panic!("{other:?}"),
    };
    assert_eq!(shown(json!({"msg": "hi"})), "hi");
    assert_eq!(shown(json!({"var": "n * 2"})), "n * 2: 6");
    assert!(world.look("debug", json!({"var": "nope"})).is_err());
    match world.look("set_fact", json!({"a": 1, "b": [2], "cacheable": true})) {
        Ok(Verdict::Satisfied(report)) => {
            assert_eq!(Value::Object(report.set_vars), json!({"a": 1, "b": [2]}));
        }
        other => panic!("{other:?}"),
    }
    assert!(world.look("set_fact", json!({"a-b": 1})).is_err());
    satisfied(world.look("meta", json!("flush_handlers")));
}
