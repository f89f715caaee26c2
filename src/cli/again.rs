//! The command that continues a run: the one that was given, fit to be shown.

use crate::model::{MASK, quote};

/// Options whose value may be a secret.
const VARIABLES: [&str; 2] = ["-e", "--extra-vars"];

/// The last line of a run that did not come to its end.
pub(super) fn to_continue() -> String {
    format!("what is done stays done; to continue: {}\n", command_line())
}

/// The process's own command line, quoted, with the values of `-e` masked.
fn command_line() -> String {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    shown(&arguments)
}

fn shown(arguments: &[String]) -> String {
    let mut words = vec!["pgorch".to_owned()];
    let mut variables = false;
    for argument in arguments {
        words.push(match argument.split_once('=') {
            Some((option @ "--extra-vars", value)) => format!("{option}={}", masked(value)),
            _ if variables => masked(argument),
            _ => match argument.strip_prefix("-e").filter(|rest| !rest.is_empty()) {
                Some(value) => format!("-e {}", masked(value)),
                None => quote(argument),
            },
        });
        variables = VARIABLES.contains(&argument.as_str());
    }
    words.join(" ")
}

fn masked(value: &str) -> String {
    match value.split_once('=') {
        _ if value.starts_with('@') => quote(value),
        Some((name, _)) if !name.contains(['{', ' ']) => format!("{name}={MASK}"),
        _ => MASK.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn values_of_variables_are_not_repeated() {
        let words = ["run", "my play.yml", "-e", "pw=hunter22", "-e@more.yml", "-l", "a,b"];
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        assert_eq!(shown(&words), "pgorch run 'my play.yml' -e pw=******** -e @more.yml -l a,b");
        let words = ["apply".to_owned(), "--extra-vars={\"pw\": \"hunter22\"}".to_owned()];
        assert_eq!(shown(&words), "pgorch apply --extra-vars=********");
    }
}
