//! Edits of files: `line`, `replace`, `blockinfile`, `authorized_key`.

use std::fs;

use pgorch::step::{Diff, Verdict};
use serde_json::{Value, json};

use super::harness::{World, satisfied};

struct File {
    _dir: tempfile::TempDir,
    path: String,
    world: World,
}

impl File {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = format!("{}/f.conf", dir.path().display());
        fs::write(&path, text).expect("written");
        File { _dir: dir, path, world: World::new() }
    }

    fn args(&self, mut args: Value) -> Value {
        args["path"] = json!(self.path);
        args
    }

    /// Converges, and gives the file's text.
    fn after(&self, kind: &str, args: Value) -> String {
        self.world.converge(kind, self.args(args));
        fs::read_to_string(&self.path).expect("there")
    }

    fn unchanged(&self, kind: &str, args: Value) {
        satisfied(self.world.look(kind, self.args(args)));
    }
}

#[test]
fn line_replaces_the_last_match_or_appends() {
    let file = File::new("a = 1\n#b = 2\na = 3");
    let edit = json!({"regexp": "^a *=", "line": "a = 9"});
    assert_eq!(file.after("lineinfile", edit), "a = 1\n#b = 2\na = 9\n");
    assert_eq!(file.after("line", json!({"line": "c = 4"})), "a = 1\n#b = 2\na = 9\nc = 4\n");
    file.unchanged("line", json!({"line": "c = 4"}));
    let edit = json!({"line": "x", "insertafter": "^#b"});
    assert_eq!(file.after("line", edit), "a = 1\n#b = 2\nx\na = 9\nc = 4\n");
    let edit = json!({"line": "y", "insertbefore": "BOF"});
    assert_eq!(file.after("line", edit), "y\na = 1\n#b = 2\nx\na = 9\nc = 4\n");
    let edit = json!({"regexp": "^[axy]", "state": "absent"});
    assert_eq!(file.after("line", edit), "#b = 2\nc = 4\n");
    let edit = json!({"search_string": "b = 2", "line": "b = 2"});
    assert_eq!(file.after("line", edit), "b = 2\nc = 4\n");
}

#[test]
fn line_with_backrefs_and_errors() {
    let file = File::new("port = 1\nhost = h\n");
    let edit = json!({"regexp": r"^(port)\s*=.*$", "line": r"\1 = $5", "backrefs": true});
    assert_eq!(file.after("line", edit), "port = $5\nhost = h\n");
    file.unchanged("line", json!({"regexp": "^nope", "line": r"\0", "backrefs": true}));
    let look = |args| file.world.look("line", file.args(args));
    assert_eq!(look(json!({"regexp": "(", "line": "x"})).expect_err("bad").arg, Some("regexp"));
    let error = look(json!({"regexp": "(?!x)", "line": "x"})).expect_err("bad");
    assert!(error.hint.expect("hint").contains("look-around"));
    let absent = json!({"path": "/nonexistent/f", "line": "x"});
    assert!(matches!(file.world.look("line", absent), Ok(Verdict::NotYet(_))));
    let absent = json!({"path": "/nonexistent/f", "line": "x", "state": "absent"});
    satisfied(file.world.look("line", absent));
}

#[test]
fn line_creates_a_file_and_validates() {
    let file = File::new("");
    fs::remove_file(&file.path).expect("removed");
    assert_eq!(file.after("line", json!({"line": "x", "create": true, "mode": "0600"})), "x\n");
    let bad = file.args(json!({"line": "bad", "validate": "sh -c 'exit 1' %s"}));
    assert!(file.world.fails("line", bad).contains("validation failed"));
    assert_eq!(fs::read_to_string(&file.path).expect("there"), "x\n");
}

#[test]
fn replace_works_on_all_matches_between_borders() {
    let file = File::new("a 1\n[s]\na 2\na 3\n[t]\na 4\n");
    let edit =
        json!({"regexp": r"^a (\d)$", "replace": r"b \1", "after": r"\[s\]", "before": r"\[t\]"});
    assert_eq!(file.after("replace", edit), "a 1\n[s]\nb 2\nb 3\n[t]\na 4\n");
    assert_eq!(file.after("replace", json!({"regexp": r"^a .\n"})), "[s]\nb 2\nb 3\n[t]\n");
    file.unchanged("replace", json!({"regexp": "b", "replace": "c", "after": "nowhere"}));
}

#[test]
fn a_block_is_inserted_changed_and_removed() {
    let file = File::new("one\ntwo");
    let edit = json!({"block": "x\ny\n", "insertafter": "^one"});
    let marked = "one\n# BEGIN PGORCH MANAGED BLOCK\nx\ny\n# END PGORCH MANAGED BLOCK\ntwo";
    assert_eq!(file.after("blockinfile", edit), marked);
    assert_eq!(file.after("blockinfile", json!({"block": "z"})), marked.replace("x\ny", "z"));
    let change = file.world.change("blockinfile", file.args(json!({"state": "absent"})));
    assert!(matches!(&change.diffs[0], Diff::Text { .. }));
    assert_eq!(fs::read_to_string(&file.path).expect("there"), "one\ntwo");
    let edit = json!({"block": "q", "marker": "; {mark} mine"});
    assert_eq!(file.after("blockinfile", edit), "one\ntwo\n; BEGIN mine\nq\n; END mine\n");
    let bad = file.args(json!({"block": "q", "marker": "; mine"}));
    assert!(file.world.look("blockinfile", bad).expect_err("bad").message.contains("{mark}"));
}

#[test]
fn a_key_is_added_once_and_others_stay() {
    let file = File::new("# mine\nssh-rsa AAAAold me\n");
    fs::remove_file(&file.path).expect("removed");
    fs::write(&file.path, "# mine\nssh-rsa AAAAold me\n").expect("written");
    let args = |key: &str, state: &str| json!({"user": "root", "path": file.path, "key": key, "state": state});
    let change = file.world.converge("authorized_key", args("ssh-ed25519 AAAAnew a@b", "present"));
    assert_eq!(change.commands[0].user.as_deref(), Some("root"));
    let text = "# mine\nssh-rsa AAAAold me\nssh-ed25519 AAAAnew a@b\n";
    assert_eq!(fs::read_to_string(&file.path).expect("there"), text);
    // Another comment is the same key; other options are not.
    satisfied(file.world.look("authorized_key", args("ssh-ed25519 AAAAnew z", "present")));
    file.world.converge("authorized_key", args("no-pty ssh-ed25519 AAAAnew z", "present"));
    file.world.converge("authorized_key", args("ssh-ed25519 AAAAnew", "absent"));
    assert_eq!(fs::read_to_string(&file.path).expect("there"), "# mine\nssh-rsa AAAAold me\n");
    let error = file.world.look("authorized_key", args("id.pub", "present")).expect_err("bad");
    assert_eq!(error.arg, Some("key"));
    let nobody = json!({"user": "no-such-user", "key": "ssh-rsa AAAA"});
    assert!(matches!(file.world.look("authorized_key", nobody), Ok(Verdict::NotYet(_))));
}
