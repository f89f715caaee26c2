//! Text to spanned tree.
//!
//! The only module that knows the YAML library (serde-saphyr). What a plain scalar means is decided
//! here from its raw text, in the spirit of YAML 1.2 but without its number traps: only canonical
//! decimals are numbers, only `true` and `false` are booleans. `0644`, `08`, `1_000`, `0x1f`, `yes`
//! and `off` stay text, so that no file mode and no country code changes under way.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned, Tagged};

use super::yaml_error::diagnostic;
use super::{Diagnostic, Entry, Node, NodeKind, Source, Span};

/// Nested collections allowed in one document. The library recurses through about 45 kB of stack
/// per level in a debug build, and a test's or worker's thread has 2 MB.
const DEPTH_MAX: usize = 32;
/// Scalars, lists and mappings allowed in one document, aliases expanded.
const NODES_MAX: usize = 1_000_000;

/// Reads one YAML document. `yes/no/on/off` stay text, `0644` stays text, duplicate keys are
/// errors, merge keys and anchors work, an empty document is an empty mapping. Keys that are
/// numbers or booleans become their text. Tags other than `!vault` and the core `!!` ones are
/// refused. The span of an aliased or merged value is that of its definition.
///
/// # Errors
/// Every complaint about the text, each with its place. Syntax errors come one at a time, because
/// nothing after one can be trusted.
pub fn parse(source: &Arc<Source>) -> Result<Node, Vec<Diagnostic>> {
    let shape: Placed<Shape> = match serde_saphyr::from_str_with_options(&source.text, options()) {
        Ok(shape) => shape,
        Err(error) => {
            return if is_blank(&source.text) {
                Ok(empty(source))
            } else {
                Err(vec![diagnostic(source, &error)])
            };
        }
    };
    let mut lowering = Lowering { source, complaints: Vec::new() };
    let node = lowering.node(shape);
    if !lowering.complaints.is_empty() {
        return Err(lowering.complaints);
    }
    Ok(match node.kind {
        NodeKind::Null => empty(source),
        _ => node,
    })
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_events: 2 * NODES_MAX,
            max_nodes: NODES_MAX,
            max_documents: 1,
            max_aliases: 10_000,
            max_total_scalar_bytes: 32 * 1024 * 1024,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 200_000,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        legacy_octal_numbers: false,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    }
}

/// Whether the text holds no document at all: nothing, or only comments and `---`.
fn is_blank(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
    })
}

fn empty(source: &Arc<Source>) -> Node {
    let span = Span { source: Arc::clone(source), start: 0, end: 0 };
    Node { kind: NodeKind::Map(Vec::new()), span }
}

/// What the library says about a node, before the raw text is consulted.
enum Shape {
    Null,
    Bool(bool),
    Int(i64),
    /// A number that is no `i64`; its raw text decides.
    Number(f64),
    Str(String),
    Seq(Vec<Placed<Shape>>),
    Map(Vec<(Placed<String>, Placed<Shape>)>),
}

type Placed<T> = Spanned<Tagged<T>>;

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        #[expect(clippy::cast_precision_loss, reason = "only reached beyond i64; raw text decides")]
        Ok(i64::try_from(value).map_or(Shape::Number(value as f64), Shape::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape, E> {
        Ok(Shape::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape, E> {
        Ok(Shape::Str(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Shape, E> {
        Ok(Shape::Str(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Shape::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Shape::Map(entries))
    }
}

/// Turns shapes into nodes: raw text, tags and spans.
struct Lowering<'a> {
    source: &'a Arc<Source>,
    complaints: Vec<Diagnostic>,
}

impl Lowering<'_> {
    fn node(&mut self, shape: Placed<Shape>) -> Node {
        let Tagged(value, tag) = shape.value;
        let mut span = span_of(self.source, shape.defined);
        let kind = match value {
            Shape::Null => NodeKind::Null,
            Shape::Bool(b) => NodeKind::Bool(b),
            Shape::Int(i) => number(raw(&span), Some(i), None),
            Shape::Number(f) => number(raw(&span), None, Some(f)),
            Shape::Str(s) => NodeKind::Str(s),
            Shape::Seq(items) => {
                NodeKind::Seq(items.into_iter().map(|item| self.node(item)).collect())
            }
            Shape::Map(entries) => NodeKind::Map(
                entries.into_iter().map(|(key, value)| self.entry(key, value)).collect(),
            ),
        };
        trim_block(&mut span);
        let kind = self.tagged(kind, tag.as_deref(), &span);
        Node { kind, span }
    }

    fn entry(&mut self, key: Placed<String>, value: Placed<Shape>) -> Entry {
        let key_span = span_of(self.source, key.defined);
        Entry { key: key.value.0, key_span, value: self.node(value) }
    }

    /// Applies a tag: `!vault` to a text, the core tags as the library did, no other.
    fn tagged(&mut self, kind: NodeKind, tag: Option<&str>, span: &Span) -> NodeKind {
        let Some(tag) = tag else { return kind };
        let core = tag.strip_prefix("tag:yaml.org,2002:").or_else(|| tag.strip_prefix("!!"));
        match (tag, core, kind) {
            ("!vault", _, NodeKind::Str(text)) => NodeKind::Vault(text),
            ("!vault", _, kind) => {
                let found = Node { kind, span: span.clone() };
                let message = format!("!vault must be followed by text, not {}", found.type_name());
                self.complaints.push(Diagnostic::error(span, message));
                NodeKind::Null
            }
            ("!" | "?", _, kind)
            | (_, Some("str" | "int" | "float" | "bool" | "null" | "seq" | "map"), kind) => kind,
            (_, _, kind) => {
                let complaint = Diagnostic::error(span, format!("unknown tag \"{tag}\""))
                    .hint("the only tag that means something here is !vault");
                self.complaints.push(complaint);
                kind
            }
        }
    }
}

/// A library location as a byte range of the source.
pub(super) fn span_of(source: &Arc<Source>, location: Location) -> Span {
    let number = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok());
    let text = &source.text;
    let start = match number(location.span().byte_offset()) {
        Some(offset) => offset,
        None => offset_of_line(text, location),
    };
    let start = text.floor_char_boundary(start.min(text.len()));
    let length = number(location.span().byte_len()).unwrap_or(0);
    let end = text.floor_char_boundary((start + length).min(text.len()));
    Span { source: Arc::clone(source), start, end }
}

/// The byte offset of a line and column, for locations that carry no offset.
fn offset_of_line(text: &str, location: Location) -> usize {
    let line = usize::try_from(location.line()).unwrap_or(0).max(1);
    let column = usize::try_from(location.column()).unwrap_or(0).max(1);
    let start = text.split_inclusive('\n').take(line - 1).map(str::len).sum::<usize>();
    let rest = text.get(start..).unwrap_or_default();
    start + rest.chars().take(column - 1).map(char::len_utf8).sum::<usize>()
}

fn raw(span: &Span) -> &str {
    span.source.text.get(span.start..span.end).unwrap_or_default().trim()
}

/// Cuts the white space that a block collection's or block scalar's span ends with.
fn trim_block(span: &mut Span) {
    let text = span.source.text.get(span.start..span.end).unwrap_or_default();
    span.end = span.start + text.trim_end().len();
}

/// What a plain scalar that the library took for a number is, by its raw text.
fn number(raw: &str, int: Option<i64>, float: Option<f64>) -> NodeKind {
    let text = raw.strip_prefix(['-', '+']).unwrap_or(raw);
    let odd = |c: char| !c.is_ascii_alphanumeric() && !"._-+".contains(c);
    let (mantissa, fraction) = text.split_once(['.', 'e', 'E']).unwrap_or((text, ""));
    let canonical = (mantissa == "0" || !mantissa.starts_with('0'))
        && !mantissa.is_empty()
        && mantissa.bytes().all(|b| b.is_ascii_digit())
        && fraction.bytes().all(|b| b.is_ascii_digit() || b"eE+-".contains(&b));
    match (int, float) {
        (Some(i), _) if canonical => NodeKind::Int(i),
        (_, Some(f)) if canonical && f.is_finite() && mantissa.len() < text.len() => {
            NodeKind::Float(f)
        }
        // The span did not cover the scalar alone (`!!int "5"`): the library's word counts.
        (Some(i), _) if raw.is_empty() || raw.contains(odd) => NodeKind::Int(i),
        (_, Some(f)) if raw.is_empty() || raw.contains(odd) => NodeKind::Float(f),
        _ => NodeKind::Str(raw.to_owned()),
    }
}
