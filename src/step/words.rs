//! Splitting a command line into words as a shell would, without its expansions.

use super::StepError;

/// The words of `line`: blanks separate, quotes and backslashes work as in a POSIX shell; nothing
/// is expanded, so that `$`, `*` and `|` stand for themselves.
pub(super) fn split(line: &str) -> Result<Vec<String>, StepError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => single(&mut chars, word.get_or_insert_default())?,
            '"' => double(&mut chars, word.get_or_insert_default())?,
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err(StepError::new("the command ends with a backslash")),
            },
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single(chars: &mut std::str::Chars, word: &mut String) -> Result<(), StepError> {
    for c in chars {
        if c == '\'' {
            return Ok(());
        }
        word.push(c);
    }
    Err(StepError::new("the command has a ' that is never closed"))
}

fn double(chars: &mut std::str::Chars, word: &mut String) -> Result<(), StepError> {
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok(()),
            '\\' => match chars.next() {
                Some(next @ ('"' | '\\' | '$' | '`')) => word.push(next),
                Some('\n') => {}
                Some(next) => word.extend(['\\', next]),
                None => break,
            },
            other => word.push(other),
        }
    }
    Err(StepError::new("the command has a \" that is never closed"))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn splits_as_a_shell_does() {
        let words = split(r#"a 'b c' "d \"e\" \x" f\ g ''  h"#).expect("valid");
        assert_eq!(words, ["a", "b c", r#"d "e" \x"#, "f g", "", "h"]);
        assert!(split("a 'b").is_err());
        assert!(split("").expect("valid").is_empty());
    }
}
