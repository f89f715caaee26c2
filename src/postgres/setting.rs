//! A server parameter, and when two ways of writing its value mean the same.

/// A row of `pg_settings`.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Setting {
    /// `current_setting`: with unit, as people write it.
    pub value: String,
    /// `setting` in base units and that unit, for comparison.
    pub raw: String,
    pub unit: Option<String>,
    /// `bool`, `enum`, `integer`, `real` or `string`.
    pub vartype: String,
    /// `postmaster`, `sighup`, `user`, ...
    pub context: String,
    pub source: String,
    pub source_file: Option<String>,
    pub pending_restart: bool,
}

/// Whether `wanted`, as people write it, is the value that the server runs with: `256MB` and
/// `32768` pages of 8 kB, `yes` and `on`, `5min` and `300` s.
#[must_use]
pub fn same_value(wanted: &str, setting: &Setting) -> bool {
    let unit = setting.unit.as_deref();
    let have = Value::read(&setting.raw, &setting.vartype, unit);
    match (Value::read(wanted, &setting.vartype, unit), have) {
        (Some(wanted), Some(have)) => wanted.equals(&have),
        _ => wanted == setting.raw || wanted == setting.value,
    }
}

/// Whether a server would take `text` for a parameter of this type, unit and these choices, ranges
/// left aside.
#[must_use]
pub fn valid_value(text: &str, vartype: &str, unit: Option<&str>, choices: &[String]) -> bool {
    match Value::read(text, vartype, unit) {
        None => false,
        Some(Value::Enum(word)) => {
            // Many enums take boolean words besides what pg_settings lists.
            choices.is_empty()
                || choices.iter().any(|c| c.eq_ignore_ascii_case(&word))
                || boolean(&word).is_some()
        }
        Some(_) => true,
    }
}

/// A value in the base unit of its parameter.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Bool(bool),
    Integer(i64),
    Real(f64),
    Enum(String),
    Text(String),
}

impl Value {
    fn read(text: &str, vartype: &str, unit: Option<&str>) -> Option<Value> {
        Some(match vartype {
            "bool" => Value::Bool(boolean(text)?),
            "integer" => {
                let number = number(text, unit)?.round_ties_even();
                // Every integer parameter is an int32.
                if number.abs() > f64::from(i32::MAX) + 1.0 {
                    return None;
                }
                #[expect(clippy::cast_possible_truncation, reason = "the range is checked above")]
                Value::Integer(number as i64)
            }
            "real" => Value::Real(number(text, unit)?),
            "enum" => Value::Enum(text.trim().to_ascii_lowercase()),
            _ => Value::Text(text.to_owned()),
        })
    }

    fn equals(&self, other: &Value) -> bool {
        match (self, other) {
            // pg_settings prints six significant digits.
            (Value::Real(a), Value::Real(b)) => (a - b).abs() <= 1e-6 * a.abs().max(b.abs()),
            // `yes` for `on` and the like, which enums take although they do not list them.
            (Value::Enum(a), Value::Enum(b)) => {
                a == b || boolean(a).is_some_and(|a| boolean(b) == Some(a))
            }
            (Value::Text(a), Value::Text(b)) => same_text(a, b),
            (a, b) => a == b,
        }
    }
}

/// Lists may have blanks around their commas. The server rewrites DateStyle to its own case.
fn same_text(a: &str, b: &str) -> bool {
    let date_styles = ["ISO, ", "SQL, ", "Postgres, ", "German, "];
    let fold = date_styles.iter().any(|style| b.starts_with(style));
    let items = |text: &str| -> Vec<String> {
        let text = if fold { text.to_ascii_lowercase() } else { text.to_owned() };
        // A comma inside quotes is no separator; then only the whole text counts.
        if text.contains(['"', '\'']) {
            return vec![text];
        }
        text.split(',').map(|item| item.trim().to_owned()).collect()
    };
    a == b || items(a) == items(b)
}

/// As `parse_bool_with_len()` in bool.c: any unambiguous prefix, in any case.
fn boolean(text: &str) -> Option<bool> {
    let text = text.trim().to_ascii_lowercase();
    let prefix = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    if prefix("true", 1) || prefix("yes", 1) || text == "on" || text == "1" {
        Some(true)
    } else if prefix("false", 1) || prefix("no", 1) || prefix("off", 2) || text == "0" {
        Some(false)
    } else {
        None
    }
}

/// Bytes in a memory unit (guc.c: case counts).
fn bytes(unit: &str) -> Option<f64> {
    Some(match unit {
        "B" => 1.0,
        "kB" => 1024.0,
        "MB" => 1024.0 * 1024.0,
        "GB" => 1024.0 * 1024.0 * 1024.0,
        "TB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    })
}

/// Milliseconds in a time unit.
fn milliseconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    })
}

/// `text` in units of `base` (`kB`, `8kB`, `MB`, `ms`, `s`, `min`, ...); a number without a unit
/// already is. `None` if it is no number or the unit is of another kind.
fn number(text: &str, base: Option<&str>) -> Option<f64> {
    let text = text.trim();
    let (digits, unit) = split_unit(text);
    let value = plain_number(digits)?;
    if unit.is_empty() {
        return Some(value);
    }
    let base = base?;
    let (multiple, base) = split_unit(base);
    let multiple = if multiple.is_empty() { 1.0 } else { multiple.parse().ok()? };
    let ratio = match (bytes(unit), bytes(base)) {
        (Some(unit), Some(base)) => unit / base,
        _ => milliseconds(unit)? / milliseconds(base)?,
    };
    Some(value * ratio / multiple)
}

/// Splits `1.5 GB` into number and unit.
fn split_unit(text: &str) -> (&str, &str) {
    if text.starts_with("0x") || text.starts_with("0X") {
        return (text, "");
    }
    let exponent = |at: usize| {
        // `1e5` is a number; no unit starts with an e.
        text[at..].starts_with(['e', 'E'])
    };
    let end = text
        .char_indices()
        .find(|(at, c)| c.is_ascii_whitespace() || (c.is_ascii_alphabetic() && !exponent(*at)))
        .map_or(text.len(), |(at, _)| at);
    (&text[..end], text[end..].trim())
}

/// As strtol with base 0, falling back to strtod: hexadecimal, octal, decimal, fractions.
fn plain_number(digits: &str) -> Option<f64> {
    let (sign, bare) = match digits.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, digits.strip_prefix('+').unwrap_or(digits)),
    };
    if !bare.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let hex = bare.strip_prefix("0x").or_else(|| bare.strip_prefix("0X"));
    let whole = match hex {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None if bare.len() > 1 && bare.starts_with('0') => i64::from_str_radix(bare, 8).ok(),
        None => None,
    };
    #[expect(clippy::cast_precision_loss, reason = "parameters fit into 53 bits")]
    let value = match whole {
        Some(whole) => whole as f64,
        None => bare.parse::<f64>().ok()?,
    };
    Some(sign * value)
}

#[cfg(test)]
mod tests {
    use super::{Setting, same_value, valid_value};

    fn setting(vartype: &str, unit: &str, raw: &str) -> Setting {
        Setting {
            raw: raw.to_owned(),
            unit: (!unit.is_empty()).then(|| unit.to_owned()),
            vartype: vartype.to_owned(),
            ..Setting::default()
        }
    }

    #[test]
    fn the_same_value_in_other_words() {
        let table = [
            ("256MB", "integer", "8kB", "32768", true),
            ("256 MB", "integer", "8kB", "32768", true),
            ("0.25GB", "integer", "8kB", "32768", true),
            ("32768", "integer", "8kB", "32768", true),
            ("256mb", "integer", "8kB", "32768", false),
            ("255MB", "integer", "8kB", "32768", false),
            ("1.5GB", "integer", "MB", "1536", true),
            ("1TB", "integer", "MB", "1048576", true),
            ("4096kB", "integer", "kB", "4096", true),
            ("16MB", "integer", "B", "16777216", true),
            ("5min", "integer", "s", "300", true),
            ("5min", "integer", "ms", "300000", true),
            ("1d", "integer", "min", "1440", true),
            ("1h", "integer", "s", "3601", false),
            ("1500us", "integer", "ms", "2", true),
            ("2ms", "real", "ms", "2", true),
            ("200us", "real", "ms", "0.2", true),
            ("0.90", "real", "", "0.9", true),
            ("1e1", "real", "", "10", true),
            ("-1", "integer", "kB", "-1", true),
            ("0777", "integer", "", "0777", true),
            ("0x10", "integer", "", "16", true),
            ("100", "integer", "", "100", true),
            ("100MB", "integer", "", "100", false),
            ("on", "bool", "", "on", true),
            ("true", "bool", "", "on", true),
            ("YES", "bool", "", "on", true),
            ("1", "bool", "", "on", true),
            ("of", "bool", "", "off", true),
            ("no", "bool", "", "on", false),
            ("Replica", "enum", "", "replica", true),
            ("true", "enum", "", "on", true),
            ("local", "enum", "", "on", false),
            ("a,b", "string", "", "a, b", true),
            ("a,b", "string", "", "a, B", false),
            ("iso, mdy", "string", "", "ISO, MDY", true),
            ("", "string", "", "", true),
        ];
        for (wanted, vartype, unit, raw, same) in table {
            let have = setting(vartype, unit, raw);
            assert_eq!(same_value(wanted, &have), same, "{wanted} and {raw} {unit}");
        }
    }

    #[test]
    fn says_what_a_server_would_refuse() {
        let choices = ["minimal", "replica", "logical"].map(str::to_owned);
        assert!(valid_value("120", "integer", None, &[]));
        assert!(!valid_value("many", "integer", None, &[]));
        assert!(!valid_value("5min", "integer", Some("8kB"), &[]));
        assert!(!valid_value("99999999999", "integer", None, &[]));
        assert!(!valid_value("perhaps", "bool", None, &[]));
        assert!(valid_value("logical", "enum", None, &choices));
        assert!(!valid_value("hot", "enum", None, &choices));
        assert!(valid_value("anything", "string", None, &[]));
    }
}
