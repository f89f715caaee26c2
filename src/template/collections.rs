//! Filters on lists and mappings, as Ansible has them.

use minijinja::value::{Kwargs, Rest, Serde, ValueKind};
use minijinja::{Environment, Error, Value};

use super::filters::{refuse, to_json};
use crate::model::{self, Map};

pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_filter("combine", combine);
    environment.add_filter("dict2items", dict2items);
    environment.add_filter("items2dict", items2dict);
    environment.add_filter("union", |a: Value, b: Value| {
        sets(&a, &b, |a, b| a.iter().chain(b).cloned().collect())
    });
    environment.add_filter("intersect", |a: Value, b: Value| {
        sets(&a, &b, |a, b| a.iter().filter(|v| b.contains(v)).cloned().collect())
    });
    environment.add_filter("difference", |a: Value, b: Value| {
        sets(&a, &b, |a, b| a.iter().filter(|v| !b.contains(v)).cloned().collect())
    });
    environment.add_filter("symmetric_difference", |a: Value, b: Value| {
        sets(&a, &b, |a, b| {
            let only_a = a.iter().filter(|v| !b.contains(v));
            only_a.chain(b.iter().filter(|v| !a.contains(v))).cloned().collect()
        })
    });
    environment.add_filter("flatten", flatten);
    environment.add_filter("extract", extract);
    environment.add_filter("product", product);
}

fn list(value: &Value) -> Result<Vec<Value>, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => Ok(value.try_iter()?.collect()),
        other => Err(refuse(format!("a list is wanted, not {other}"))),
    }
}

/// Applies a set operation; each value stands once in the result, in order of appearance.
fn sets(
    a: &Value,
    b: &Value,
    operation: impl Fn(&[Value], &[Value]) -> Vec<Value>,
) -> Result<Value, Error> {
    let mut unique: Vec<Value> = Vec::new();
    for value in operation(&list(a)?, &list(b)?) {
        if !unique.contains(&value) {
            unique.push(value);
        }
    }
    Ok(Value::from(unique))
}

/// Mappings laid over each other; with `recursive=true` also the mappings inside, with
/// `list_merge` = `replace`, `keep`, `append` or `prepend` for the lists inside.
fn combine(first: Value, others: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let recursive = options.get::<Option<bool>>("recursive")?.unwrap_or(false);
    let lists = options.get::<Option<String>>("list_merge")?.unwrap_or("replace".to_owned());
    options.assert_all_used()?;
    if !["replace", "keep", "append", "prepend"].contains(&lists.as_str()) {
        return Err(refuse("combine: list_merge is one of replace, keep, append, prepend"));
    }
    let mut result = mapping(&first)?;
    for other in others.iter() {
        merge(&mut result, mapping(other)?, recursive, &lists);
    }
    Ok(Value::from(Serde(result)))
}

fn mapping(value: &Value) -> Result<Map, Error> {
    match to_json(value)? {
        model::Value::Object(map) => Ok(map),
        _ => Err(refuse(format!("combine: a mapping is wanted, not {}", value.kind()))),
    }
}

fn merge(under: &mut Map, over: Map, recursive: bool, lists: &str) {
    use model::Value as V;
    for (key, new) in over {
        match (under.get_mut(&key), new) {
            (Some(V::Object(old)), V::Object(new)) if recursive => {
                merge(old, new, recursive, lists);
            }
            (Some(V::Array(_)), V::Array(_)) if lists == "keep" => {}
            (Some(V::Array(old)), V::Array(new)) if lists == "append" => old.extend(new),
            (Some(V::Array(old)), V::Array(mut new)) if lists == "prepend" => {
                new.append(old);
                *old = new;
            }
            (_, new) => drop(under.insert(key, new)),
        }
    }
}

fn dict2items(value: Value, options: Kwargs) -> Result<Value, Error> {
    let name = |key: &str, default: &str| -> Result<String, Error> {
        Ok(options.get::<Option<String>>(key)?.unwrap_or_else(|| default.to_owned()))
    };
    let (key_name, value_name) = (name("key_name", "key")?, name("value_name", "value")?);
    options.assert_all_used()?;
    if value.kind() != ValueKind::Map {
        return Err(refuse(format!("dict2items: a mapping is wanted, not {}", value.kind())));
    }
    let mut items = Vec::new();
    for key in value.try_iter()? {
        let inner = value.get_item(&key)?;
        items.push(Value::from_pairs([(key_name.clone(), key), (value_name.clone(), inner)]));
    }
    Ok(Value::from(items))
}

fn items2dict(value: Value, options: Kwargs) -> Result<Value, Error> {
    let key_name = options.get::<Option<String>>("key_name")?.unwrap_or("key".to_owned());
    let value_name = options.get::<Option<String>>("value_name")?.unwrap_or("value".to_owned());
    options.assert_all_used()?;
    let mut map = Map::new();
    for item in list(&value)? {
        let key = item.get_attr(&key_name)?;
        if key.is_undefined() {
            return Err(refuse(format!("items2dict: an item has no \"{key_name}\"")));
        }
        map.insert(key.to_string(), to_json(&item.get_attr(&value_name)?)?);
    }
    Ok(Value::from(Serde(map)))
}

fn flatten(value: Value, options: Kwargs) -> Result<Value, Error> {
    let levels = options.get::<Option<u32>>("levels")?.unwrap_or(u32::MAX);
    let skip_nulls = options.get::<Option<bool>>("skip_nulls")?.unwrap_or(true);
    options.assert_all_used()?;
    fn into(value: &Value, levels: u32, out: &mut Vec<Value>) -> Result<(), Error> {
        for item in list(value)? {
            let nested = matches!(item.kind(), ValueKind::Seq | ValueKind::Iterable);
            if nested && levels > 0 {
                into(&item, levels - 1, out)?;
            } else {
                out.push(item);
            }
        }
        Ok(())
    }
    let mut out = Vec::new();
    into(&value, levels, &mut out)?;
    out.retain(|item| !(skip_nulls && item.is_none()));
    Ok(Value::from(out))
}

/// `key | extract(container)`, for `map('extract', container, 'attribute')`.
fn extract(key: Value, container: Value, more: Option<Value>) -> Result<Value, Error> {
    let found = container.get_item(&key)?;
    let more = match more {
        None => return Ok(found),
        Some(keys) if keys.kind() == ValueKind::Seq => list(&keys)?,
        Some(key) => vec![key],
    };
    more.iter().try_fold(found, |value, key| value.get_item(key))
}

/// Every combination of an item of the list with one of each other list.
fn product(first: Value, others: Rest<Value>) -> Result<Value, Error> {
    const ITEMS_MAX: usize = 100_000;
    let mut rows: Vec<Vec<Value>> = list(&first)?.into_iter().map(|item| vec![item]).collect();
    for other in others.iter() {
        let items = list(other)?;
        if rows.len().saturating_mul(items.len()) > ITEMS_MAX {
            return Err(refuse("product: too many combinations"));
        }
        let longer = |row: &Vec<Value>, item: &Value| {
            row.iter().chain([item]).cloned().collect::<Vec<Value>>()
        };
        rows = rows.iter().flat_map(|row| items.iter().map(|i| longer(row, i))).collect();
    }
    Ok(rows.into_iter().map(Value::from).collect())
}
