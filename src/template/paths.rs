//! Rewrites templates where Ansible's users expect what the engine does not do.
//!
//! Backslashes in strings: `'\d+'` and `'\1'` are errors to the engine; here a backslash before
//! anything but `n r t u x \ ' "` is itself, so patterns can be written with one or with two.
//!
//! `a.b.c | default(x)` and `a.b.c is defined` work when `a` or `a.b` is missing. Strict undefined refuses the lookup of `.c` on something undefined before `default` sees it;
//! Ansible accepts it. So such paths are rewritten into a call of a function that looks up step by
//! step. Only plain paths (`a.b['c'][0]`) directly before the filter or test are.

use std::ops::Range;

use minijinja::value::Rest;
use minijinja::{Environment, Value};

const FUNCTION: &str = "__path";

pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_function(FUNCTION, |root: Value, keys: Rest<Value>| {
        keys.iter().fold(root, |value, key| {
            if value.is_undefined() {
                return value;
            }
            value.get_item(key).unwrap_or(Value::UNDEFINED)
        })
    });
}

/// One replacement: the bytes `old` of the original became `new` of the rewritten text.
#[derive(Debug)]
pub(super) struct Move {
    old: Range<usize>,
    new: Range<usize>,
}

/// The place in the original text of an offset into the rewritten one.
pub(super) fn original(moves: &[Move], offset: usize) -> usize {
    let mut back = offset;
    for m in moves {
        if offset >= m.new.end {
            back = offset - m.new.end + m.old.end;
        } else if offset > m.new.start {
            return m.old.start;
        }
    }
    back
}

/// Rewrites a template.
pub(super) fn rewrite(text: &str) -> (String, Vec<Move>) {
    let mut rewriting = Rewriting::default();
    let mut at = 0;
    while let Some(found) = text[at..].find("{{").into_iter().chain(text[at..].find("{%")).min() {
        let open = at + found + 2;
        rewriting.copy(&text[at..open]);
        let close = if text[..open].ends_with("{{") { "}}" } else { "%}" };
        let end = end_of_code(text, open, close);
        rewriting.code(&text[open..end], open);
        at = end;
    }
    rewriting.copy(&text[at..]);
    (rewriting.out, rewriting.moves)
}

/// Rewrites an expression without braces.
pub(super) fn rewrite_expression(expression: &str) -> (String, Vec<Move>) {
    let mut rewriting = Rewriting::default();
    rewriting.code(expression, 0);
    (rewriting.out, rewriting.moves)
}

/// Where the code that starts at `open` ends: before `close`, strings skipped.
fn end_of_code(text: &str, open: usize, close: &str) -> usize {
    let mut at = open;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(close) {
            return at;
        }
        at += string_length(rest).unwrap_or_else(|| rest.chars().next().map_or(1, char::len_utf8));
    }
    text.len()
}

/// The length of the string literal that `text` starts with.
fn string_length(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| *c == '"' || *c == '\'')?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[derive(Default)]
struct Rewriting {
    out: String,
    moves: Vec<Move>,
}

impl Rewriting {
    fn copy(&mut self, piece: &str) {
        self.out.push_str(piece);
    }

    fn replace(&mut self, old: Range<usize>, piece: &str) {
        let new = self.out.len()..self.out.len() + piece.len();
        self.moves.push(Move { old, new });
        self.out.push_str(piece);
    }

    /// Copies code that starts at `base` of the original, with its paths replaced.
    fn code(&mut self, code: &str, base: usize) {
        let mut at = 0;
        let mut before = ' ';
        while let Some(rest) = code.get(at..).filter(|rest| !rest.is_empty()) {
            let first = rest.chars().next().unwrap_or(' ');
            let step = if let Some(length) = string_length(rest) {
                let literal = string(&rest[..length]);
                if literal.len() != length {
                    self.replace(base + at..base + at + length, &literal);
                    at += length;
                    before = '"';
                    continue;
                }
                length
            } else if is_start(first) && !is_word(before) && before != '.' {
                match path(rest) {
                    Some((length, call)) if is_forgiven(&rest[length..]) => {
                        self.replace(base + at..base + at + length, &call);
                        at += length;
                        before = ')';
                        continue;
                    }
                    _ => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                }
            } else {
                first.len_utf8()
            };
            self.out.push_str(&rest[..step]);
            before = rest[..step].chars().next_back().unwrap_or(' ');
            at += step;
        }
    }
}

/// A string literal with the backslashes doubled that begin no escape.
fn string(literal: &str) -> String {
    let mut out = String::with_capacity(literal.len());
    let mut chars = literal.chars();
    while let Some(c) = chars.next() {
        out.push(c);
        if c != '\\' {
            continue;
        }
        let Some(next) = chars.next() else { break };
        if !"nrtux\\'\"".contains(next) {
            out.push('\\');
        }
        out.push(next);
    }
    out
}

fn is_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A path of two steps or more at the start of `text`: its length and the call that replaces it.
fn path(text: &str) -> Option<(usize, String)> {
    let word = |text: &str| text.find(|c| !is_word(c)).unwrap_or(text.len());
    let mut at = word(text);
    let mut call = format!("{FUNCTION}({}", &text[..at]);
    let root = at;
    loop {
        let rest = &text[at..];
        if let Some(name) = rest.strip_prefix('.').filter(|n| n.starts_with(is_word)) {
            let length = word(name);
            call.push_str(&format!(", '{}'", &name[..length]));
            at += 1 + length;
        } else if let Some(key) = rest.strip_prefix('[') {
            let digits = key.bytes().take_while(u8::is_ascii_digit).count();
            let length = string_length(key).unwrap_or(digits);
            if length == 0 || !key[length..].starts_with(']') {
                return None;
            }
            call.push_str(&format!(", {}", string(&key[..length])));
            at += length + 2;
        } else {
            break;
        }
    }
    call.push(')');
    (at > root && !text[at..].starts_with('(')).then_some((at, call))
}

/// Whether what follows a path forgives that it is undefined.
fn is_forgiven(rest: &str) -> bool {
    let rest = rest.trim_start();
    if let Some(filter) = rest.strip_prefix('|') {
        let name = filter.trim_start();
        let name = &name[..name.find(|c| !is_word(c)).unwrap_or(name.len())];
        return name == "default" || name == "d";
    }
    let mut words = rest.split(|c| !is_word(c)).filter(|w| !w.is_empty());
    let is_test = rest.starts_with("is ") && words.next() == Some("is");
    let word = words.next();
    let word = if word == Some("not") { words.next() } else { word };
    is_test && (word == Some("defined") || word == Some("undefined"))
}
