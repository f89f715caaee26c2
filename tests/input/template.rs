use std::collections::BTreeSet;

use pgorch::model::Value;
use pgorch::syntax::{Source, render, yaml};
use pgorch::template::{TemplateErrorKind, Templates, Vars, is_template};
use serde_json::json;

pub(crate) fn vars() -> Value {
    json!({
        "name": "pg1", "n": 3, "yes": true, "no": false, "nothing": null, "empty": "", "word": "no",
        "list": [1, 2], "map": {"b": 1, "a": {"c": "deep"}}, "html": "<a & b>", "tpl": "{{ name }}",
        "result": {"failed": false, "changed": true, "stdout": "x"}, "secret": "hunter22",
        "items": [{"key": "x", "value": 1}, {"key": "y", "value": 2}],
    })
}

pub(crate) fn text(template: &str) -> String {
    Templates::new().render("t", template, &vars()).unwrap_or_else(|e| panic!("{template}: {e}"))
}

pub(crate) fn eval(expression: &str) -> Value {
    Templates::new().eval(expression, &vars()).unwrap_or_else(|e| panic!("{expression}: {e}"))
}

pub(crate) fn fails(expression: &str) -> String {
    Templates::new().eval(expression, &vars()).expect_err(expression).message.clone()
}

fn value(yaml_text: &str) -> Value {
    let node = yaml::parse(&Source::new("p.yml", yaml_text)).expect("valid YAML");
    Templates::new().render_value(&node, &vars()).unwrap_or_else(|e| panic!("{e}"))
}

fn located(yaml_text: &str) -> String {
    let node = yaml::parse(&Source::new("p.yml", yaml_text)).expect("valid YAML");
    let error = Templates::new().render_value(&node, &vars()).expect_err("should fail");
    render(&[error.diagnostic()])
}

#[test]
fn a_lone_expression_keeps_its_type_and_text_stays_text() {
    assert_eq!(
        value(
            "a: '{{ n }}'\nb: '{{ list }}'\nc: 'n={{ n }}'\nd: '{{ yes }}'\ne: '{{ n }}{{ n }}'\nf: '{{ \"}}\" }}'\ng: '{{- map.a -}}'\nh: 5\ni: '{{ nothing }}'\nj: '{{ \"5\" }}'\nk: '{{ {\"x\": {\"y\": 1}} }}'\n'{{ name }}': z\n"
        ),
        json!({"a": 3, "b": [1, 2], "c": "n=3", "d": true, "e": "33", "f": "}}", "g": {"c": "deep"},
               "h": 5, "i": null, "j": "5", "k": {"x": {"y": 1}}, "pg1": "z"})
    );
}

#[test]
fn omit_drops_the_entry() {
    assert_eq!(
        value("a: '{{ missing | default(omit) }}'\nb: ['{{ omit }}', 1]\n"),
        json!({"b": [1]})
    );
}

#[test]
fn values_are_never_rendered_again() {
    assert_eq!(text("{{ tpl }}"), "{{ name }}");
    assert_eq!(value("a: '{{ tpl }}'"), json!({"a": "{{ name }}"}));
}

#[test]
fn booleans_nothing_and_collections_inside_text() {
    assert_eq!(
        text("{{ true }} {{ no }} [{{ nothing }}] {{ 1.0 }} {{ 2.5 }}"),
        "true false [] 1.0 2.5"
    );
    assert_eq!(
        text("x {{ list }} {{ map }} {{ [true, none, 'a'] }}"),
        r#"x [1,2] {"b":1,"a":{"c":"deep"}} [true,null,"a"]"#
    );
}

#[test]
fn nothing_is_escaped_for_html_whatever_the_name() {
    let templates = Templates::new();
    for name in ["x.html", "x.xml", "x.conf", "x.html.j2", "x.json"] {
        assert_eq!(templates.render(name, "{{ html }}", &vars()).unwrap(), "<a & b>");
    }
    assert_eq!(text("{{ {'a': html} | to_json }}"), r#"{"a":"<a & b>"}"#);
    assert_eq!(text("{{ html | tojson }}"), "\"<a & b>\"");
}

#[test]
fn blocks_leave_no_empty_lines_and_the_last_newline_stays() {
    assert_eq!(text("a\n  {% if yes %}\nb\n  {% endif %}\nc\n"), "a\nb\nc\n");
    assert_eq!(text("{{ name }}\n"), "pg1\n");
    assert_eq!(text("{% for i in list %}\n{{ i }}\n{% endfor %}\n"), "1\n2\n");
}

#[test]
fn undefined_is_an_error_that_names_it() {
    let error =
        Templates::new().render("f.j2", "a\n{{ name }} {{ map.x.y }}\n", &vars()).unwrap_err();
    assert_eq!(error.kind, TemplateErrorKind::Undefined { name: "map.x.y".into() });
    assert_eq!((error.line, error.range.clone()), (Some(2), Some(16..23)));
    insta::assert_snapshot!(render(&[error.diagnostic()]), @r#"
    error: "map.x.y" is undefined
     --> f.j2:2:15
      |
    2 | {{ name }} {{ map.x.y }}
      |               ^^^^^^^
      |
      = hint: set it in vars, or give it a value with "| default(...)"
    "#);
    insta::assert_snapshot!(fails("missing"), @r#""missing" is undefined"#);
    insta::assert_snapshot!(fails("missing.x"), @r#""missing.x" is undefined"#);
    insta::assert_snapshot!(fails("map.nope | upper"), @r#""map.nope" is undefined"#);
    insta::assert_snapshot!(fails("[1, missing]"), @r#""missing" is undefined"#);
    insta::assert_snapshot!(fails("missing == 1"), @r#""missing" is undefined"#);
    insta::assert_snapshot!(fails("1 if missing else 2"), @r#""missing" is undefined"#);
    insta::assert_snapshot!(fails("{'a': missing}"), @r#""missing" is undefined"#);
    insta::assert_snapshot!(fails("missing | bool"), @r#""missing" is undefined"#);
    insta::assert_snapshot!(fails("missing | combine({})"), @r#""missing" is undefined"#);
    insta::assert_snapshot!(fails("nosuch(1)"), @r#"unknown function "nosuch""#);
    insta::assert_snapshot!(fails("1 | nosuch"), @r#"unknown filter "nosuch""#);
    insta::assert_snapshot!(fails("1 + "), @"bad template: unexpected end of input, expected expression");
    insta::assert_snapshot!(fails("'a' + 1"), @"tried to use + operator on unsupported types string and number");
}

#[test]
fn default_and_defined_work_on_missing_parents() {
    assert_eq!(eval("a.b.c | default('x')"), "x");
    assert_eq!(eval("map.nope.deeper | d(7)"), 7);
    assert_eq!(eval("map.a.c | default('x')"), "deep");
    assert_eq!(eval("map['a']['c'] |default('x')"), "deep");
    assert_eq!(eval("list[0] | default(9)"), 1);
    assert_eq!(eval("list[5] | default(9)"), 9);
    assert_eq!(eval("a.b.c is defined"), false);
    assert_eq!(eval("a.b.c is not defined and map.a.c is defined"), true);
    assert_eq!(eval("map.q.z is undefined"), true);
    assert_eq!(
        text("é {{ a.b.c | default('x') }} 'a.b | default' {{ map.a.c }}"),
        "é x 'a.b | default' deep"
    );
    assert_eq!(value("a: \"{{ q.r.s | default('z') }}\""), json!({"a": "z"}));
    let error = Templates::new()
        .render("t", "{{ a.b.c | default('x') }} {{ oops.b }}", &vars())
        .unwrap_err();
    assert_eq!(error.range, Some(30..36));
}

#[test]
fn errors_point_into_the_yaml_scalar() {
    insta::assert_snapshot!(located("a: x\nb: \"hello {{ missing }}\"\n"), @r#"
    error: "missing" is undefined
     --> p.yml:2:14
      |
    2 | b: "hello {{ missing }}"
      |              ^^^^^^^
      |
      = hint: set it in vars, or give it a value with "| default(...)"
    "#);
    insta::assert_snapshot!(located("b: 'it''s {{ missing.x }}'\n"), @r#"
    error: "missing.x" is undefined
     --> p.yml:1:14
      |
    1 | b: 'it''s {{ missing.x }}'
      |              ^^^^^^^^^
      |
      = hint: set it in vars, or give it a value with "| default(...)"
    "#);
    insta::assert_snapshot!(located("- plain {{ 1 + missing }} text\n"), @r#"
    error: "missing" is undefined
     --> p.yml:1:16
      |
    1 | - plain {{ 1 + missing }} text
      |                ^^^^^^^
      |
      = hint: set it in vars, or give it a value with "| default(...)"
    "#);
    insta::assert_snapshot!(located("b: \"{{ größe | upper }}\"\n"), @r#"
    error: bad template: unexpected character
     --> p.yml:1:10
      |
    1 | b: "{{ größe | upper }}"
      |          ^
    "#);
    insta::assert_snapshot!(located("b: |\n  first line\n  {{ name }} {{ list | nosuch }}\n"), @r#"
    error: unknown filter "nosuch"
     --> p.yml:3:24
      |
    3 |   {{ name }} {{ list | nosuch }}
      |                        ^^^^^^
    "#);
    insta::assert_snapshot!(located("b: \"{{ name \"\n"), @r#"
    error: bad template: unexpected end of input, expected end of variable block
     --> p.yml:1:8
      |
    1 | b: "{{ name "
      |        ^^^^
    "#);
    insta::assert_snapshot!(located("b: \"\\u00e4 {{ missing }}\"\n"), @r#"
    error: "missing" is undefined
     --> p.yml:1:15
      |
    1 | b: "\u00e4 {{ missing }}"
      |               ^^^^^^^
      |
      = hint: set it in vars, or give it a value with "| default(...)"
    "#);
}

#[test]
fn conditions_are_strict() {
    let templates = Templates::new();
    let truth = |e: &str| {
        templates
            .truth(e, &vars())
            .map_err(|e| format!("{} ({})", e.message, e.hint.clone().unwrap_or_default()))
    };
    assert_eq!(truth("yes and n > 2"), Ok(true));
    assert_eq!(truth("{{ no }}"), Ok(false));
    for falsy in ["nothing", "empty", "[]", "{}", "not yes"] {
        assert_eq!(truth(falsy), Ok(false), "{falsy}");
    }
    insta::assert_snapshot!(truth("word").unwrap_err(), @r#"a condition must be true or false, not text (add "| bool" or compare it with something)"#);
    insta::assert_snapshot!(truth("n").unwrap_err(), @"a condition must be true or false, not a number (compare it: != 0)");
    insta::assert_snapshot!(truth("list").unwrap_err(), @"a condition must be true or false, not a list (write: (...) | length > 0)");
    assert_eq!(truth("word | bool"), Ok(false));
    let node = |t: &str| yaml::parse(&Source::new("p.yml", t)).unwrap();
    let of = |t: &str| templates.truth_of(node(t).get("when").unwrap(), &vars());
    assert_eq!(of("when: true"), Ok(true));
    assert_eq!(of("when: [yes, n == 3]"), Ok(true));
    assert_eq!(of("when: [yes, n == 4, missing]"), Ok(false));
    insta::assert_snapshot!(render(&[of("when:\n  - n == 3\n  - word\n").unwrap_err().diagnostic()]), @r#"
    error: a condition must be true or false, not text
     --> p.yml:3:5
      |
    3 |   - word
      |     ^^^^
      |
      = hint: add "| bool" or compare it with something
    "#);
}

#[test]
fn bool_reads_words() {
    for word in ["no", "false", "off", "0", "False", "NO", "n", ""] {
        assert_eq!(eval(&format!("'{word}' | bool")), false, "{word}");
    }
    for word in ["yes", "true", "on", "1", "True", "t"] {
        assert_eq!(eval(&format!("'{word}' | bool")), true, "{word}");
    }
    assert_eq!(
        (eval("1 | bool"), eval("0 | bool"), eval("none | bool")),
        (true.into(), false.into(), false.into())
    );
    assert!(fails("'maybe' | bool").contains("neither true nor false"));
    assert!(fails("2 | bool").contains("neither"));
}

#[test]
fn roots_are_what_a_template_reads() {
    let templates = Templates::new();
    let roots = |t: &str| templates.roots(t).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(
        roots(
            "{{ a.b.c | default(d) }} {% for x in xs %}{{ x }}{{ omit }}{{ range(3) }}{% endfor %}"
        ),
        "a d xs"
    );
    assert_eq!(roots("{% set y = 1 %}{{ y }}"), "");
    assert_eq!(roots("plain"), "");
    assert_eq!(roots("{{ broken"), "");
    let expected: BTreeSet<String> = ["a".to_owned(), "b".to_owned()].into();
    assert_eq!(templates.roots_of_expression("a.x and b is defined"), expected);
    assert!(is_template("{{ x }}") && is_template("{% if x %}") && !is_template("{ x }"));
}

#[test]
fn an_error_never_shows_the_values_around_it() {
    let templates = Templates::new();
    for broken in [
        "{{ secret + 1 }}",
        "{{ secret }} {{ missing }}",
        "{{ secret | bool }}",
        "{{ secret | combine({}) }}",
        "{{ secret | pg_bytes }}",
        "{{ secret | b64decode }}",
        "{{ secret.x.y }}",
        "{{ secret | flatten }}",
        "{{ secret is failed }}",
        "{{ secret | dict2items }}",
        "{{ secret | from_json }}",
        "{{ secret | items2dict }}",
        "{{ secret | int }}",
        "{{ secret | float }}",
        "{{ secret | list | sum }}",
        "{{ secret() }}",
        "{{ secret.nope() }}",
    ] {
        let Err(error) = templates.render("t", broken, &vars()) else { continue };
        for shown in [error.to_string(), format!("{error:?}"), render(&[error.diagnostic()])] {
            assert!(!shown.contains("hunter22"), "{broken}: {shown}");
        }
    }
}

#[test]
fn a_template_that_does_not_end_is_stopped() {
    let error = Templates::new()
        .render(
            "t",
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}",
            &vars(),
        )
        .unwrap_err();
    assert_eq!(error.message, "this template does not come to an end");
}

#[test]
fn names_for_includes() {
    let mut templates = Templates::new();
    templates.add("head.j2", "# {{ name }}\n").unwrap();
    assert_eq!(templates.render("t", "{% include 'head.j2' %}x", &vars()).unwrap(), "# pg1\nx");
    templates.add("bad.j2", "{{ missing }}").unwrap();
    let error = templates.render("t", "{% include 'bad.j2' %}", &vars()).unwrap_err();
    assert_eq!(error.template, "bad.j2");
}

#[test]
fn variables_can_be_converted_once() {
    let vars = Vars::from(&vars());
    let templates = Templates::new();
    assert_eq!(templates.eval("n + 1", &vars).unwrap(), 4);
    assert_eq!(templates.eval("map | list", &vars).unwrap(), json!(["b", "a"]));
}

proptest::proptest! {
    #[test]
    fn no_template_makes_the_engine_panic(
        pieces in proptest::collection::vec(
            "\\{\\{|\\}\\}|\\{%|%\\}|-| |a\\.b|é|\\[0\\]|\\['x'\\]|'|\"|\\|| default\\(1\\)| is defined|missing|name|\n|\\(|\\)|if |endif|\\{#",
            0..14,
        )
    ) {
        let text = pieces.concat();
        let templates = Templates::new();
        let node = yaml::parse(&Source::new("x", serde_json::to_string(&json!({"a": text})).unwrap())).unwrap();
        if let Err(error) = templates.render_value(&node, &vars()) {
            proptest::prop_assert!(!render(&[error.diagnostic()]).is_empty());
        }
        for result in [templates.truth(&text, &vars()).map(drop), templates.check("t", &text), templates.check_expression(&text)] {
            if let Err(error) = result {
                proptest::prop_assert!(!render(&[error.diagnostic()]).is_empty());
            }
        }
        proptest::prop_assert!(templates.roots(&text).len() < 100);
        proptest::prop_assert!(templates.roots_of_expression(&text).len() < 100);
    }
}
