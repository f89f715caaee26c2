//! Each filter and test that templates have beyond the engine's own.

use super::template::{eval, fails};
use pgorch::model::Value;
use serde_json::json;

#[test]
fn filters_on_collections() {
    assert_eq!(
        eval("{'a': {'x': 1}, 'l': [1]} | combine({'a': {'y': 2}, 'l': [2]})"),
        json!({"a": {"y": 2}, "l": [2]})
    );
    assert_eq!(
        eval(
            "{'a': {'x': 1}, 'l': [1]} | combine({'a': {'y': 2}, 'l': [2]}, recursive=true, list_merge='append')"
        ),
        json!({"a": {"x": 1, "y": 2}, "l": [1, 2]})
    );
    assert_eq!(
        eval("{'l': [1]} | combine({'l': [2]}, {'z': 1}, list_merge='prepend')"),
        json!({"l": [2, 1], "z": 1})
    );
    assert_eq!(
        eval("{'b': 1, 'a': 2} | dict2items"),
        json!([{"key": "b", "value": 1}, {"key": "a", "value": 2}])
    );
    assert_eq!(
        eval("{'b': 1} | dict2items(key_name='k', value_name='v')"),
        json!([{"k": "b", "v": 1}])
    );
    assert_eq!(eval("items | items2dict"), json!({"x": 1, "y": 2}));
    assert_eq!(eval("[1, 2, 2] | union([2, 3])"), json!([1, 2, 3]));
    assert_eq!(eval("[1, 2] | intersect([2, 3])"), json!([2]));
    assert_eq!(eval("[1, 2] | difference([2, 3])"), json!([1]));
    assert_eq!(eval("[1, 2] | symmetric_difference([2, 3])"), json!([1, 3]));
    assert_eq!(eval("[1, [2, [3]]] | flatten"), json!([1, 2, 3]));
    assert_eq!(eval("[1, [2, [3]]] | flatten(levels=1)"), json!([1, 2, [3]]));
    assert_eq!(eval("['b'] | map('extract', map) | list"), json!([1]));
    assert_eq!(eval("'a' | extract(map, 'c')"), "deep");
    assert_eq!(
        eval("items | selectattr('value', 'gt', 1) | map(attribute='key') | list"),
        json!(["y"])
    );
    assert_eq!(eval("['a', 'b'] | zip([1, 2]) | list"), json!([["a", 1], ["b", 2]]));
    assert!(fails("[1] | combine({})").contains("mapping"));
    assert!(fails("{} | combine({}, list_merge='x')").contains("list_merge"));
}

#[test]
fn filters_on_single_values() {
    assert_eq!(eval("yes | ternary('a', 'b')"), "a");
    assert_eq!(eval("none | ternary('a', 'b', 'c')"), "c");
    assert_eq!(eval("\"it's\" | quote"), r"'it'\''s'");
    assert_eq!(eval("'hé' | b64encode | b64decode"), "hé");
    assert_eq!(
        eval("'abc' | hash('sha256')"),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert!(fails("'abc' | hash('md5')").contains("md5"));
    assert_eq!(eval("map | to_json"), r#"{"b":1,"a":{"c":"deep"}}"#);
    assert_eq!(eval("{'a': 1} | to_nice_json"), "{\n    \"a\": 1\n}");
    assert_eq!(eval("'{\"a\": [1]}' | from_json"), json!({"a": [1]}));
    assert_eq!(eval("'a: [yes, 2]' | from_yaml"), json!({"a": ["yes", 2]}));
    assert_eq!(
        (eval("'/a/b.c' | basename"), eval("'/a/b.c' | dirname"), eval("'/a' | dirname")),
        ("b.c".into(), "/a".into(), "/".into())
    );
    assert_eq!(eval("missing2 | default(3) | mandatory"), 3);
    assert_eq!(fails("missing | mandatory('give me one')"), "give me one");
    assert_eq!(fails("missing | mandatory"), "a mandatory variable is not defined");
    insta::assert_snapshot!(eval("{'a': [1, 'yes', {'b': 'x: y', 'c': []}], 'd': {'e': true, 'f': none}, '5': '05'} | to_nice_yaml").as_str().unwrap(), @r#"
    a:
      - 1
      - "yes"
      - b: "x: y"
        c: []
    d:
      e: true
      f: null
    "5": "05"
    "#);
    for round in ["map", "items", "[[1, [2]], [], {}]", "'no'", "3", "{'a': 'multi\nline'}"] {
        assert_eq!(
            eval(&format!(
                "({round}) | to_yaml | from_yaml == ({round}) or ({round}) is string or ({round}) is number"
            )),
            true,
            "{round}"
        );
    }
}

#[test]
fn filters_with_patterns() {
    assert_eq!(eval("'pg15-main' | regex_search('[0-9]+')"), "15");
    assert_eq!(eval("'pg15' | regex_search('x')"), Value::Null);
    assert_eq!(
        eval(r"'pg15-main' | regex_search('pg(\\d+)-(?P<n>.*)', '\\1', '\\g<n>')"),
        json!(["15", "main"])
    );
    assert_eq!(eval(r"'a1b22' | regex_findall('\\d+')"), json!(["1", "22"]));
    assert_eq!(eval(r"'v=1,w=2' | regex_replace('(\\w)=(\\d)', '\\2\\1$')"), "1v$,2w$");
    assert_eq!(eval("'AbA' | regex_replace('a', 'x', ignorecase=true, count=1)"), "xbA");
    assert_eq!(eval("'a.b' | regex_escape"), r"a\.b");
    assert_eq!(
        (
            eval("'node1' is match('node')"),
            eval("'xnode' is match('node')"),
            eval("'xnode' is search('node')")
        ),
        (true.into(), false.into(), true.into())
    );
    assert!(fails("'a' is match('(')").starts_with("bad pattern"));
}

#[test]
fn filters_for_postgresql() {
    assert_eq!(eval(r#"'we"ird' | pg_ident"#), r#""we""ird""#);
    assert_eq!(
        (eval("\"it's\" | pg_literal"), eval(r"'a\\b' | pg_literal")),
        ("'it''s'".into(), r"E'a\\b'".into())
    );
    assert_eq!(
        (eval("none | pg_literal"), eval("true | pg_literal"), eval("1.5 | pg_literal")),
        ("NULL".into(), "true".into(), "1.5".into())
    );
    let conf = |e: &str| eval(&format!("{e} | conf_value")).as_str().unwrap().to_owned();
    assert_eq!(
        [conf("true"), conf("5"), conf("'256MB'"), conf("'-1'"), conf("'replica'"), conf("''")],
        ["on", "5", "256MB", "-1", "replica", "''"]
    );
    assert_eq!(
        [conf(r#"'a b'"#), conf("\"it's\""), conf(r"'x\\y'"), conf("['a', 'b']")],
        ["'a b'", "'it''s'", r"'x\\y'", "'a, b'"]
    );
    assert!(fails("'a\\nb' | conf_value").contains("one line"));
    assert_eq!(eval("('16GB' | pg_bytes // 4) | pg_size"), "4GB".to_owned());
    assert_eq!(
        (
            eval("'1GB' | pg_bytes"),
            eval("8192 | pg_bytes"),
            eval("1610612736 | pg_size"),
            eval("3000 | pg_size")
        ),
        (json!(1 << 30), json!(8192), "1536MB".into(), "2kB".into())
    );
    assert!(fails("'many' | pg_bytes").contains("no size"));
}

#[test]
fn tests_of_ansible() {
    assert_eq!(eval("'15.10' is version('15.9', '>=')"), true);
    assert_eq!(eval("'9.6' is version('15', '<')"), true);
    assert_eq!(eval("15 is version('15')"), true);
    assert_eq!(eval("'1.0' is version('1.0.1', 'lt')"), true);
    assert_eq!(
        eval("[1] is subset([1, 2]) and [1, 2] is superset([2]) and [1] is contains(1)"),
        true
    );
    assert_eq!(
        eval(
            "result is changed and result is not failed and result is succeeded and result is not skipped"
        ),
        true
    );
    assert!(fails("1 is failed").contains("registered result"));
    assert!(fails("1 is version('2', '~')").contains("operator"));
}

#[test]
fn python_methods_work() {
    assert_eq!(eval("'a,b'.split(',')"), json!(["a", "b"]));
    assert_eq!(eval("'Ab'.lower() ~ map.get('zz', 'd') ~ ' x '.strip()"), "abdx");
    assert_eq!(eval("map.items() | list"), json!([["b", 1], ["a", {"c": "deep"}]]));
}

#[test]
fn patterns_with_one_backslash_or_two() {
    assert_eq!(eval(r"'pg15' | regex_search('\d+')"), "15");
    assert_eq!(eval(r"'pg15' | regex_search('\\d+')"), "15");
    assert_eq!(eval(r"'a-b' | regex_replace('(\w)-(\w)', '\2-\1')"), "b-a");
    assert_eq!(eval(r"'x foo' | regex_findall('\bfoo\b')"), json!(["foo"]));
    assert_eq!(eval(r#"'a\nb\t\'\"'"#), "a\nb\t'\"");
    assert_eq!(eval("map['a'].c | default('\\d') ~ '\\d'"), r"deep\d");
    let templates = pgorch::template::Templates::new();
    let roots = templates.roots(r"{{ stdout | regex_search('\d') }}");
    assert_eq!(roots.into_iter().collect::<Vec<_>>(), ["stdout"]);
    let vars = json!({});
    let error = templates.render("t", r"{{ '\d\d' }} {{ missing }}", &vars).expect_err("missing");
    assert_eq!(error.range, Some(16..23));
}

#[test]
fn product_and_flatten_as_ansible_has_them() {
    assert_eq!(
        eval("['a', 'b'] | product([1, 2]) | list"),
        json!([["a", 1], ["a", 2], ["b", 1], ["b", 2]])
    );
    assert_eq!(eval("[1, none, [2]] | flatten"), json!([1, 2]));
    assert_eq!(eval("[1, none, [2]] | flatten(skip_nulls=false)"), json!([1, null, 2]));
    assert_eq!((eval("'/a/b/' | dirname"), eval("'//' | dirname")), ("/a/b".into(), "//".into()));
}
