//! Changes made for real: look, change, look again.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use pgorch::model::Resource;
use pgorch::step::{Diff, Verdict};
use serde_json::json;

use super::harness::{World, expect_change, satisfied};

fn temp() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().to_str().expect("UTF-8").to_owned();
    (dir, path)
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).expect("exists").permissions().mode() & 0o7777
}

fn names(dir: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("readable")
        .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn copy_creates_changes_and_leaves_alone() {
    let (_guard, dir) = temp();
    let world = World::new();
    let dest = format!("{dir}/it's a file");
    let args = |text: &str| json!({"dest": dest, "content": text, "mode": "0640"});
    let change = world.converge("copy", args("one\n"));
    assert_eq!(fs::read_to_string(&dest).expect("written"), "one\n");
    assert_eq!(mode(&dest), 0o640);
    assert!(
        matches!(&change.diffs[0], Diff::Text { before: None, after: Some(a), .. } if a == "one\n")
    );
    let change = world.converge("copy", args("two\n"));
    assert!(matches!(&change.diffs[0], Diff::Text { before: Some(b), .. } if b == "one\n"));
    fs::set_permissions(&dest, fs::Permissions::from_mode(0o600)).expect("chmod");
    let change = world.converge("copy", args("two\n"));
    assert_eq!(change.summary, "mode 0600 -> 0640");
    assert_eq!(names(&dir), ["it's a file"]);
}

#[test]
fn copy_handles_binary_large_and_secret_content() {
    let (_guard, dir) = temp();
    let mut world = World::new();
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    world.files.insert("blob".into(), bytes.clone());
    let change = world.converge("copy", json!({"dest": format!("{dir}/"), "src": "blob"}));
    assert_eq!(fs::read(format!("{dir}/blob")).expect("written"), bytes);
    assert!(
        matches!(&change.diffs[0], Diff::Value { note: Some(n), .. } if n.contains("not text"))
    );
    let args = json!({"dest": format!("{dir}/s"), "content": "pass", "secret": true});
    let change = world.converge("copy", args);
    assert_eq!(mode(format!("{dir}/s")), 0o600);
    assert!(!format!("{:?}", change.diffs).contains("pass"));
    assert!(!change.commands[0].script.as_str().contains("pass"));
}

#[test]
fn a_failed_validation_leaves_the_old_file() {
    let (_guard, dir) = temp();
    let world = World::new();
    let dest = format!("{dir}/f");
    let args = |text: &str| json!({"dest": dest, "content": text, "validate": "grep -q good %s"});
    world.converge("copy", args("good one\n"));
    let error = world.fails("copy", args("bad\n"));
    assert!(error.contains("validation failed: grep -q good %s"), "{error}");
    assert_eq!(fs::read_to_string(&dest).expect("kept"), "good one\n");
    assert_eq!(names(&dir), ["f"]);
    let no_file = json!({"dest": dest, "content": "x", "validate": "true"});
    assert!(world.look("copy", no_file).expect_err("refused").message.contains("%s"));
}

#[test]
fn copy_on_the_host_links_and_backups() {
    let (_guard, dir) = temp();
    let world = World::new();
    fs::write(format!("{dir}/from"), "x\n").expect("written");
    symlink("from", format!("{dir}/link")).expect("link");
    let args =
        json!({"dest": format!("{dir}/to"), "src": format!("{dir}/from"), "remote_src": true});
    world.converge("copy", args);
    let args = json!({"dest": format!("{dir}/link"), "content": "new\n", "follow": true});
    world.converge("copy", args);
    assert_eq!(fs::read_to_string(format!("{dir}/from")).expect("there"), "new\n");
    let args = json!({"dest": format!("{dir}/link"), "content": "new\n"});
    world.converge("copy", args);
    assert!(!fs::symlink_metadata(format!("{dir}/link")).expect("there").is_symlink());
    world.converge("copy", json!({"dest": format!("{dir}/to"), "content": "y", "backup": true}));
    assert_eq!(names(&dir).iter().filter(|n| n.starts_with("to.")).count(), 1);
    satisfied(
        world.look("copy", json!({"dest": format!("{dir}/to"), "content": "z", "force": false})),
    );
}

#[test]
fn a_large_file_of_the_host_is_copied_there() {
    let (_guard, dir) = temp();
    let world = World::new();
    fs::write(format!("{dir}/from"), vec![b'a'; 100_000]).expect("written");
    let args = json!({"dest": format!("{dir}/to"), "src": format!("{dir}/from"), "remote_src": true,
        "mode": "0600"});
    let change = world.converge("copy", args);
    assert!(change.commands[0].script.as_str().len() < 2000);
    assert_eq!(mode(format!("{dir}/to")), 0o600);
}

#[test]
fn a_missing_directory_is_known_later_and_a_number_is_no_mode() {
    let (_guard, dir) = temp();
    let world = World::new();
    let args = json!({"dest": format!("{dir}/a/b"), "content": ""});
    assert!(matches!(world.look("copy", args), Ok(Verdict::NotYet(_))));
    let args = json!({"dest": format!("{dir}/f"), "content": "", "mode": 644});
    let error = world.look("copy", args).expect_err("refused");
    assert_eq!(error.arg, Some("mode"));
    let args = json!({"dest": dir, "content": ""});
    assert!(world.look("copy", args).expect_err("refused").message.contains("is a directory"));
    let args = json!({"dest": "relative", "content": ""});
    assert!(world.look("copy", args).expect_err("refused").message.contains("absolute"));
}

#[test]
fn template_renders_strictly() {
    let (_guard, dir) = temp();
    let mut world = World::new();
    world.vars.insert("port".into(), json!(5432));
    world
        .files
        .insert("x.conf.j2".into(), b"{% if port %}\nport = {{ port }}\n{% endif %}\n".into());
    world.converge("template", json!({"dest": format!("{dir}/"), "src": "x.conf.j2"}));
    assert_eq!(fs::read_to_string(format!("{dir}/x.conf")).expect("written"), "port = 5432\n");
    let args = json!({"dest": format!("{dir}/y"), "content": "{{ nope }}"});
    let error = world.look("template", args).expect_err("undefined");
    assert!(error.message.contains("undefined"), "{error}");
}

#[test]
fn directories_with_their_parents_and_trees() {
    let (_guard, dir) = temp();
    let world = World::new();
    let deep = format!("{dir}/a/b c");
    let change = world.converge("directory", json!({"path": deep, "mode": "0750"}));
    // A probe of dir/a/other must be asked again, too.
    assert_eq!(change.writes, [Resource::Path(format!("{dir}/a"))]);
    assert_eq!((mode(format!("{dir}/a")), mode(&deep)), (0o750, 0o750));
    fs::write(format!("{deep}/f"), "").expect("written");
    fs::set_permissions(format!("{deep}/f"), fs::Permissions::from_mode(0o666)).expect("chmod");
    let args = json!({"path": dir, "state": "directory", "mode": "u=rwX,go=", "recurse": true});
    world.converge("file", args);
    assert_eq!((mode(format!("{deep}/f")), mode(&deep)), (0o600, 0o700));
    let args = json!({"path": format!("{deep}/f"), "state": "directory"});
    assert!(world.look("file", args).expect_err("refused").message.contains("not a directory"));
}

#[test]
fn links_touches_and_absence() {
    let (_guard, dir) = temp();
    let world = World::new();
    let link = format!("{dir}/l");
    let args = |to: &str| json!({"path": link, "src": to, "state": "link"});
    world.converge("file", args("/etc/hosts"));
    let change = world.converge("file", args("gone"));
    assert_eq!(change.summary, "link /etc/hosts -> gone");
    assert_eq!(fs::read_link(&link).expect("link").to_str(), Some("gone"));
    world.converge("file", json!({"path": format!("{dir}/t"), "state": "touch", "mode": "0600"}));
    let args = json!({"path": format!("{dir}/t"), "state": "link", "src": "x"});
    assert!(world.look("file", args).expect_err("refused").hint.is_some());
    world.converge("file", json!({"path": format!("{dir}/t"), "mode": "u+x"}));
    world.converge("file", json!({"path": link, "state": "absent"}));
    fs::create_dir_all(format!("{dir}/d/e")).expect("made");
    world.converge("file", json!({"path": format!("{dir}/d"), "state": "absent"}));
    assert_eq!(names(&dir), ["t"]);
    let verdict = world.look("file", json!({"path": format!("{dir}/no"), "state": "file"}));
    assert!(matches!(verdict, Ok(Verdict::NotYet(_))));
}

#[test]
fn a_database_cluster_is_removed_only_by_name() {
    let (_guard, dir) = temp();
    let mut world = World::new();
    fs::create_dir_all(format!("{dir}/15/data/global")).expect("made");
    fs::write(format!("{dir}/15/data/PG_VERSION"), "15\n").expect("written");
    let args = json!({"path": format!("{dir}/15"), "state": "absent"});
    let error = world.look("file", args.clone()).expect_err("refused");
    assert!(error.refused && error.message.contains("/15/data"), "{error}");
    world.options.destroy = vec![format!("node1:{dir}/15/data")];
    assert!(world.converge("file", args).impact.destroys.is_some());
    let error = world.look("file", json!({"path": "/etc", "state": "absent"}));
    assert!(error.expect_err("refused").refused);
}

#[test]
fn commands_and_scripts_run_as_written() {
    let (_guard, dir) = temp();
    let world = World::new();
    world.change("command", json!(format!("touch '{dir}/a b' {dir}/$HOME")));
    assert_eq!(names(&dir), ["$HOME", "a b"]);
    let args = json!({"argv": ["cp", "a b", "c"], "chdir": dir, "creates": "c"});
    world.converge("command", args);
    let args = json!({"cmd": "cat > d; echo ${0##*/} $(( 1 + 1 )) >> d\n", "stdin": "hello",
        "chdir": dir, "creates": format!("{dir}/d*")});
    world.converge("shell", args);
    assert_eq!(fs::read_to_string(format!("{dir}/d")).expect("made"), "hello\n3 2\n");
    let args = json!({"cmd": "a=(1 2); echo ${a[1]} > e", "executable": "/bin/bash", "chdir": dir});
    world.change("shell", args);
    assert_eq!(fs::read_to_string(format!("{dir}/e")).expect("made"), "2\n");
    world.converge("shell", json!({"cmd": "rm [e]", "chdir": dir, "removes": "e*"}));
    let error = world.fails("shell", json!("echo sorry >&2; exit 3"));
    assert_eq!(error, "sorry\n");
    world.fails("shell", json!("if true; then"));
    assert!(world.look("command", json!("a 'b")).is_err());
    let change = expect_change(world.look("command", json!("id -u")));
    assert_eq!(change.commands[0].label, "id -u");
}
