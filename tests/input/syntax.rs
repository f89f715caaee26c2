use pgorch::model::Value;
use pgorch::syntax::{Diagnostic, Node, NodeKind, Source, render, yaml};
use serde_json::json;

fn tree(text: &str) -> Node {
    yaml::parse(&Source::new("file.yml", text)).unwrap_or_else(|e| panic!("{}", render(&e)))
}

fn value(text: &str) -> Value {
    tree(text).to_value()
}

fn complaints(text: &str) -> String {
    render(&yaml::parse(&Source::new("file.yml", text)).expect_err("should be refused"))
}

/// The source text that each node's span covers, in document order.
fn pieces(node: &Node, out: &mut Vec<String>) {
    let text = |s: &pgorch::syntax::Span| s.source.text[s.start..s.end].to_owned();
    match &node.kind {
        NodeKind::Seq(items) => items.iter().for_each(|i| pieces(i, out)),
        NodeKind::Map(entries) => {
            for e in entries {
                out.push(text(&e.key_span));
                pieces(&e.value, out);
            }
        }
        _ => out.push(text(&node.span)),
    }
}

#[test]
fn what_looks_like_a_number_or_boolean_but_is_not_stays_text() {
    let text = "
a: 0644
b: 08
c: 1_000
d: yes
e: no
f: on
g: off
h: 0x1f
i: 0o17
j: .inf
k: 1:30
l: -007
m: 123456789012345678901234567890
n: 1e999
o: y
p: 15.10.2
q: 2024-01-31
r: +
";
    let mut expected = serde_json::Map::new();
    for line in text.trim().lines() {
        let (k, v) = line.split_once(": ").unwrap();
        expected.insert(k.into(), json!(v));
    }
    assert_eq!(value(text), Value::Object(expected));
}

#[test]
fn numbers_booleans_and_nothing() {
    assert_eq!(
        value(
            "{a: 15, b: -3, c: 1.5, d: 0, e: 0.9, f: true, g: False, h: ~, i: null, j: , k: 1e3, l: -0.5, m: 9223372036854775807, n: +4}"
        ),
        json!({"a": 15, "b": -3, "c": 1.5, "d": 0, "e": 0.9, "f": true, "g": false, "h": null,
               "i": null, "j": null, "k": 1000.0, "l": -0.5, "m": 9223372036854775807i64, "n": 4})
    );
    assert_eq!(
        value("a: '15'\nb: \"true\"\nc: !!str 15\nd: !!int \"7\"\ne: &x 12\nf: *x\n"),
        json!({"a": "15", "b": "true", "c": "15", "d": 7, "e": 12, "f": 12})
    );
}

#[test]
fn keys_are_text() {
    assert_eq!(
        value("1: a\ntrue: b\n0644: c\n1.5: d\n"),
        json!({"1": "a", "true": "b", "0644": "c", "1.5": "d"})
    );
}

#[test]
fn empty_documents_are_empty_mappings() {
    for text in ["", "\n", "# only a comment\n", "---\n", "--- \n...\n", "\u{feff}", "~"] {
        assert_eq!(value(text), json!({}), "{text:?}");
    }
}

#[test]
fn merge_keys_and_anchors() {
    let text = "base: &base {a: 1, b: 2}\nx:\n  <<: *base\n  b: 3\ny: *base\n";
    assert_eq!(value(text)["x"], json!({"a": 1, "b": 3}));
    assert_eq!(value(text)["y"], json!({"a": 1, "b": 2}));
}

#[test]
fn vault_values_and_block_text() {
    let node = tree("a: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\nb: |\n  line\n");
    assert_eq!(
        node.get("a").unwrap().kind,
        NodeKind::Vault("$ANSIBLE_VAULT;1.1;AES256\n6162\n".into())
    );
    assert_eq!(node.get("b").unwrap().as_str(), Some("line\n"));
}

#[test]
fn spans_are_exact_bytes_also_beyond_ascii_and_carriage_returns() {
    let check = |text: &str, expected: &[&str]| {
        let mut out = Vec::new();
        pieces(&tree(text), &mut out);
        assert_eq!(out, expected, "{text:?}");
    };
    check(
        "größe: 'ä ö' # ü\nzwei: [drei, \"vier\", 5]\n",
        &["größe", "'ä ö'", "zwei", "drei", "\"vier\"", "5"],
    );
    check("a: 1\r\nbé: 0644\r\nc: x\r\n", &["a", "1", "bé", "0644", "c", "x"]);
    check("\u{feff}a: 0644\nb: x\n", &["a", "0644", "b", "x"]);
    check("😀: 08\nb: &q 09\nc: *q\n", &["😀", "08", "b", "09", "c", "09"]);
    check(
        "b: &b {x: 1}\nc: {<<: *b, y: é}\nd: *b\n",
        &["b", "x", "1", "c", "y", "é", "x", "1", "d", "x", "1"],
    );
    check("a: two words\nb: !!str 5\n", &["a", "two words", "b", "5"]);
}

#[test]
fn syntax_errors_show_the_place() {
    insta::assert_snapshot!(complaints("a: 1\nb: 2\na: 3\n"), @r#"
    error: the key "a" is given twice in this mapping
     --> file.yml:3:1
      |
    3 | a: 3
      | ^
      |
      = hint: keep one of the two
    "#);
    insta::assert_snapshot!(complaints("a: [1, 2\nb: 3\n"), @r"
    error: not valid YAML: illegal placement of ':' indicator
     --> file.yml:2:2
      |
    2 | b: 3
      |  ^
    ");
    insta::assert_snapshot!(complaints("a: 1\n  b: 2\n"), @r"
    error: not valid YAML: mapping values are not allowed in this context
     --> file.yml:2:4
      |
    2 |   b: 2
      |    ^
    ");
    insta::assert_snapshot!(complaints("a:\n\tb: 2\n"), @r"
    error: not valid YAML: tabs disallowed within this context (block indentation)
     --> file.yml:2:2
      |
    2 |     b: 2
      |     ^^
      |
      = hint: indent with spaces; YAML does not allow tabs
    ");
    insta::assert_snapshot!(complaints("a: {{ name }}\n"), @r#"
    error: a value that starts with "{{" needs quotes
     --> file.yml:1:4
      |
    1 | a: {{ name }}
      |    ^^^^^^^^^^
      |
      = hint: write key: "{{ value }}"; without quotes YAML reads a mapping here
    "#);
    insta::assert_snapshot!(complaints("a: 'open\n"), @r"
    error: not valid YAML: invalid indentation in multiline quoted scalar
     --> file.yml:2:1
      |
    2 |
      | ^
    ");
    insta::assert_snapshot!(complaints("a: *nowhere\n"), @r"
    error: this alias has no anchor
     --> file.yml:1:4
      |
    1 | a: *nowhere
      |    ^^^^^^^^
      |
      = hint: an anchor (&name) must come before its alias
    ");
    insta::assert_snapshot!(complaints("a: 1\n---\nb: 2\n"), @r"
    error: a second document starts here
     --> file.yml:2:1
      |
    2 | ---
      | ^^^
    ");
    insta::assert_snapshot!(complaints("a: !secret x\nb: !vault [1]\n"), @r#"
    error: unknown tag "!secret"
     --> file.yml:1:12
      |
    1 | a: !secret x
      |            ^
      |
      = hint: the only tag that means something here is !vault

    error: !vault must be followed by text, not a list
     --> file.yml:2:11
      |
    2 | b: !vault [1]
      |           ^
    "#);
    insta::assert_snapshot!(complaints("? [a, b]\n: 2\n"), @r"
    error: not valid YAML: expected string scalar
     --> file.yml:1:3
      |
    1 | ? [a, b]
      |   ^
    ");
    insta::assert_snapshot!(complaints("~: 2\n"), @r"
    error: a key must not be empty
     --> file.yml:1:1
      |
    1 | ~: 2
      | ^
    ");
    insta::assert_snapshot!(complaints("msg: error: it broke\n"), @r#"
    error: not valid YAML: mapping values are not allowed in this context
     --> file.yml:1:11
      |
    1 | msg: error: it broke
      |           ^
      |
      = hint: text that contains ": " needs quotes
    "#);
    insta::assert_snapshot!(complaints("a: &a [*a]\n"), @r"
    error: this alias refers to something that contains it
     --> file.yml:1:8
      |
    1 | a: &a [*a]
      |        ^^
    ");
    insta::assert_snapshot!(complaints("a:\n  <<: 5\n"), @r#"
    error: "<<" takes a mapping or a list of mappings
     --> file.yml:2:7
      |
    2 |   <<: 5
      |       ^
    "#);
}

#[test]
fn attacks_are_stopped_by_a_budget() {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for i in 1..12 {
        let refs = vec![format!("*a{}", i - 1); 9].join(", ");
        laughs.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
    }
    let first = |text: &str| complaints(text).lines().next().unwrap().to_owned();
    insta::assert_snapshot!(first(&laughs), @"error: the aliases of this file expand to too much");
    insta::assert_snapshot!(first(&"[".repeat(100_000)), @"error: not valid YAML: recursion limit exceeded");
    let mut deep = String::new();
    for i in 0..2_000 {
        deep.push_str(&format!("{}a:\n", " ".repeat(i)));
    }
    insta::assert_snapshot!(first(&deep), @"error: this file is nested too deeply");
}

#[test]
fn diagnostics_as_text_and_json() {
    let source = Source::new("inv.yml", "a: 1\nnäme: wrong\n");
    let node = yaml::parse(&source).unwrap();
    let name = &node.as_map().unwrap()[1];
    let both = vec![
        Diagnostic::error(&name.value.span, "this is wrong").hint("write something else"),
        Diagnostic::warning(&name.key_span, "an odd key"),
        Diagnostic { span: None, ..Diagnostic::error(&node.span, "no place at all") },
        Diagnostic::error(&node.span, "all of it"),
    ];
    insta::assert_snapshot!(render(&both), @r"
    error: this is wrong
     --> inv.yml:2:7
      |
    2 | näme: wrong
      |       ^^^^^
      |
      = hint: write something else

    warning: an odd key
     --> inv.yml:2:1
      |
    2 | näme: wrong
      | ^^^^

    error: no place at all

    error: all of it
     --> inv.yml:1:1
      |
    1 | a: 1
      | ^
    ");
    insta::assert_snapshot!(serde_json::to_string(&both[0]).unwrap(), @r#"{"severity":"error","message":"this is wrong","file":"inv.yml","line":2,"column":7,"end_line":2,"end_column":12,"hint":"write something else"}"#);
    insta::assert_snapshot!(both[0], @"inv.yml:2:7: error: this is wrong (write something else)");
    assert!(pgorch::syntax::render_with(&both, true).contains("\u{1b}["));
}

#[test]
fn a_complaint_never_shows_a_password_of_the_same_line() {
    let shown = |line: &str| {
        let source = Source::new("f", line);
        let span = pgorch::syntax::Span { source, start: 0, end: 1 };
        let text = render(&[Diagnostic::error(&span, "x")]);
        text.lines().nth(3).unwrap().split_once("| ").unwrap().1.to_owned()
    };
    assert_eq!(shown("{password: hunter22, b: 1}"), "{password: ********, b: 1}");
    assert_eq!(shown("become_password:   'hunter 22' # c"), "become_password:   *********** # c");
    assert_eq!(shown("  \"token\": \"open"), "  \"token\": *****");
    assert_eq!(shown("password: {secret: {env: X}}"), "password: {secret: {env: X}}");
    assert_eq!(shown("password: !vault |"), "password: !vault |");
    assert_eq!(shown("DB_PASSWORD=hünter a"), "DB_PASSWORD=*********");
}

/// A debug build is some thirty times slower than a release build; this only catches what is not
/// linear.
#[test]
fn a_large_inventory_is_read_in_linear_time() {
    let nodes = |count: usize| {
        let mut text = String::from("cluster: c\nnodes:\n");
        for i in 0..count {
            let (a, b) = (i / 250, i % 250);
            text.push_str(&format!(
                "  n{i}: {{ host: 10.1.{a}.{b}, priority: 5, vars: {{x: 0644, y: [1, 2]}} }}\n"
            ));
        }
        Source::new("f", text)
    };
    let time = |count| {
        let source = nodes(count);
        let start = std::time::Instant::now();
        assert!(pgorch::inventory::parse(&source).is_ok());
        start.elapsed()
    };
    let (small, large) = (time(500), time(4_000));
    assert!(large < small * 8 * 4, "{small:?} for 500 nodes, {large:?} for 4000");
}
