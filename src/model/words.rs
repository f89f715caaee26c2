//! Splitting a command line into words as a shell would, without its expansions.

/// The words of `line`: blanks separate, quotes and backslashes work as in a POSIX shell; nothing
/// is expanded, so that `$`, `*` and `|` stand for themselves.
///
/// # Errors
/// A quote that is never closed, or nothing behind the last backslash.
pub fn split_words(line: &str) -> Result<Vec<String>, &'static str> {
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
                None => return Err("the command ends with a backslash"),
            },
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single(chars: &mut std::str::Chars, word: &mut String) -> Result<(), &'static str> {
    for c in chars {
        if c == '\'' {
            return Ok(());
        }
        word.push(c);
    }
    Err("the command has a ' that is never closed")
}

fn double(chars: &mut std::str::Chars, word: &mut String) -> Result<(), &'static str> {
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
    Err("the command has a \" that is never closed")
}

#[cfg(test)]
mod tests {
    use super::split_words;

    #[test]
    fn splits_as_a_shell_does() {
        let words = split_words(r#"a 'b c' "d \"e\" \x" f\ g ''  h"#).expect("valid");
        assert_eq!(words, ["a", "b c", r#"d "e" \x"#, "f g", "", "h"]);
        assert!(split_words("a 'b").is_err());
        assert!(split_words("").expect("valid").is_empty());
    }
}
