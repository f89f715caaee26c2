//! File modes: octal text or `u=rw,go=r`.

use super::{Args, StepError};
use crate::model::Value;

/// A wanted mode, absolute or relative to what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Octal(u32),
    /// The clauses between the commas, as written.
    Symbolic(String),
}

impl Mode {
    /// The argument `mode`. A bare number is refused: YAML reads 0644 as decimal 644 or as
    /// octal 420, depending on its version, and files have got mode 01204 that way.
    pub(super) fn arg(args: &Args) -> Result<Option<Mode>, StepError> {
        match args.get("mode") {
            None => Ok(None),
            Some(Value::String(text)) => Mode::parse(text).map(Some),
            Some(_) => Err(StepError::new("\"mode\" must be text in quotes, not a number")
                .arg("mode")
                .hint("write it as mode: \"0644\"")),
        }
    }

    /// Octal digits or symbolic clauses.
    pub(super) fn parse(text: &str) -> Result<Mode, StepError> {
        let octal = (3..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if octal {
            let value = u32::from_str_radix(text, 8).ok().filter(|v| *v <= 0o7777);
            return value.map(Mode::Octal).ok_or_else(|| bad(text));
        }
        let symbolic = Mode::Symbolic(text.to_owned());
        apply_symbolic(text, 0, false).map(|_| symbolic).ok_or_else(|| bad(text))
    }

    /// The mode that a file of mode `current` gets.
    pub(super) fn apply(&self, current: u32, is_dir: bool) -> u32 {
        match self {
            Mode::Octal(mode) => *mode,
            Mode::Symbolic(text) => apply_symbolic(text, current, is_dir).unwrap_or(current),
        }
    }

    /// As `chmod` takes it.
    pub(super) fn word(&self) -> String {
        match self {
            Mode::Octal(mode) => octal(*mode),
            Mode::Symbolic(text) => text.clone(),
        }
    }
}

/// Four octal digits.
pub(super) fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

fn bad(text: &str) -> StepError {
    StepError::new(format!("\"{text}\" is not a file mode"))
        .arg("mode")
        .hint("use octal digits in quotes such as \"0644\", or u=rw,go=r")
}

fn apply_symbolic(text: &str, current: u32, is_dir: bool) -> Option<u32> {
    text.split(',').try_fold(current, |mode, clause| apply_clause(clause, mode, is_dir))
}

fn apply_clause(clause: &str, mut mode: u32, is_dir: bool) -> Option<u32> {
    let at = clause.find(['=', '+', '-'])?;
    let (who, mut rest) = clause.split_at(at);
    let mut mask = 0;
    for c in who.chars() {
        mask |= match c {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if who.is_empty() {
        mask = 0o7777;
    }
    while !rest.is_empty() {
        let op = rest.chars().next()?;
        let end = rest[1..].find(['=', '+', '-']).map_or(rest.len(), |i| i + 1);
        let bits = permission_bits(&rest[1..end], mode, is_dir)? & mask;
        mode = match op {
            '=' => (mode & !mask) | bits,
            '+' => mode | bits,
            _ => mode & !bits,
        };
        rest = &rest[end..];
    }
    Some(mode)
}

fn permission_bits(letters: &str, mode: u32, is_dir: bool) -> Option<u32> {
    let mut bits = 0;
    for c in letters.chars() {
        bits |= match c {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            'X' if is_dir || mode & 0o111 != 0 => 0o111,
            'X' => 0,
            's' => 0o6000,
            't' => 0o1000,
            'u' => ((mode >> 6) & 7) * 0o111,
            'g' => ((mode >> 3) & 7) * 0o111,
            'o' => (mode & 7) * 0o111,
            _ => return None,
        };
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::Mode;

    #[test]
    fn modes_apply_as_chmod_does() {
        let apply = |text: &str, mode, dir| Mode::parse(text).expect("valid").apply(mode, dir);
        assert_eq!(apply("0640", 0o777, false), 0o640);
        assert_eq!(apply("640", 0o777, false), 0o640);
        assert_eq!(apply("u=rw,go=r", 0o777, false), 0o644);
        assert_eq!(apply("u=rwX,g=rX,o=", 0o600, true), 0o750);
        assert_eq!(apply("go-w", 0o666, false), 0o644);
        assert_eq!(apply("u+s", 0o755, false), 0o4755);
        assert_eq!(apply("a+X", 0o644, false), 0o644);
        assert_eq!(apply("g=u", 0o740, false), 0o770);
        for bad in ["rw", "u", "99", "0999", "u=q", "12345678", ""] {
            assert!(Mode::parse(bad).is_err(), "{bad}");
        }
    }
}
