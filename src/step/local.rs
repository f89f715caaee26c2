//! Kinds that touch no host: `assert`, `fail`, `debug`, `set_fact`, `meta`.

use super::answers::flag;
use super::render::{eval, truth};
use super::{
    ArgKind, ArgSpec, Args, Ctx, Kind, Report, StepError, Verdict, data, no_files, no_probe,
};
use crate::model::{Answer, Map, Value};

/// `assert`.
pub(super) const ASSERT: Kind = Kind {
    name: "assert",
    aliases: &[],
    summary: "Conditions that must hold.",
    free_form: None,
    args: &[
        ArgSpec::new("that", ArgKind::Expr, "Expressions, without braces.").required(),
        ArgSpec::new("fail_msg", ArgKind::Str, "What to say if one does not hold.")
            .aliases(&["msg"]),
        ArgSpec::new("success_msg", ArgKind::Str, "What to say if all hold."),
        ArgSpec::new("quiet", ArgKind::Bool, "Say nothing if all hold."),
    ],
    files: no_files,
    probe: no_probe,
    diff: assert,
};

/// `fail`.
pub(super) const FAIL: Kind = Kind {
    name: "fail",
    aliases: &[],
    summary: "Fails, with a message.",
    free_form: None,
    args: &[ArgSpec::new("msg", ArgKind::Str, "The message.")],
    files: no_files,
    probe: no_probe,
    diff: fail,
};

/// `debug`.
pub(super) const DEBUG: Kind = Kind {
    name: "debug",
    aliases: &[],
    summary: "Prints a message or the value of an expression.",
    free_form: None,
    args: &[
        ArgSpec::new("msg", ArgKind::Any, "The message."),
        ArgSpec::new("var", ArgKind::Expr, "An expression, without braces."),
        ArgSpec::new("verbosity", ArgKind::Int, "Only printed with this many -v."),
    ],
    files: no_files,
    probe: no_probe,
    diff: debug,
};

/// `set_fact`.
pub(super) const SET_FACT: Kind = Kind {
    name: "set_fact",
    aliases: &[],
    summary: "Variables of the host for the rest of the run.",
    free_form: None,
    args: &[
        ArgSpec::new("cacheable", ArgKind::Bool, "Taken, without effect."),
        ArgSpec::new("*", ArgKind::Any, "Any name: the variable's value."),
    ],
    files: no_files,
    probe: no_probe,
    diff: set_fact,
};

/// `meta`; the engine does what it says.
pub(super) const META: Kind = Kind {
    name: "meta",
    aliases: &[],
    summary: "Tells the engine something: flush_handlers, noop.",
    free_form: Some("action"),
    args: &[ArgSpec::new(
        "action",
        ArgKind::Choice(&["flush_handlers", "noop", "end_host", "end_play"]),
        "What to do.",
    )
    .required()],
    files: no_files,
    probe: no_probe,
    diff: nothing,
};

fn assert(args: &Args, _: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let items = match args.get("that") {
        None => return Err(StepError::new("the argument \"that\" is required").arg("that")),
        Some(Value::Array(items)) => items.clone(),
        Some(one) => vec![one.clone()],
    };
    for item in &items {
        let (holds, shown) = match item {
            Value::Bool(b) => (*b, b.to_string()),
            Value::String(text) => (truth(text, ctx).map_err(|e| e.arg("that"))?, text.clone()),
            other => {
                let message = format!("\"that\" must hold expressions, not {other}");
                return Err(StepError::new(message).arg("that"));
            }
        };
        if !holds {
            let message = match args.str("fail_msg")? {
                Some(message) => format!("{message} ({shown} is false)"),
                None => format!("assertion failed: {shown}"),
            };
            return Err(StepError::new(message).arg("that"));
        }
    }
    let quiet = flag(args, "quiet", false)?;
    let message = args.str("success_msg")?.filter(|_| !quiet);
    Ok(Verdict::Satisfied(Report { message, ..Report::default() }))
}

fn fail(args: &Args, _: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let message = args.str("msg")?.unwrap_or_else(|| "failed as requested from task".to_owned());
    Err(StepError::new(message))
}

fn debug(args: &Args, _: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let show = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    };
    let (message, data) = match (args.str("var")?, args.get("msg")) {
        (Some(_), Some(_)) => {
            return Err(StepError::new("give msg or var, not both").arg("var"));
        }
        (Some(name), None) => {
            let value = eval(&name, ctx).map_err(|e| e.arg("var"))?;
            (format!("{name}: {}", show(&value)), data(&[(&name, value)]))
        }
        (None, Some(value)) => (show(value), data(&[("msg", value.clone())])),
        (None, None) => ("Hello world!".to_owned(), Map::new()),
    };
    Ok(Verdict::Satisfied(Report { message: Some(message), data, ..Report::default() }))
}

fn set_fact(args: &Args, _: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let vars: Map = args
        .0
        .iter()
        .filter(|(name, _)| *name != "cacheable")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for name in vars.keys() {
        if !name.chars().all(good) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(StepError::new(format!("\"{name}\" is not a variable name")));
        }
    }
    if vars.is_empty() {
        return Err(StepError::new("set_fact needs at least one variable"));
    }
    let data = data(&[("ansible_facts", Value::Object(vars.clone()))]);
    Ok(Verdict::Satisfied(Report { set_vars: vars, data, ..Report::default() }))
}

fn nothing(_: &Args, _: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    Ok(Verdict::ok())
}
