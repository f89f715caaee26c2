//! Playbooks from disk and from inside the binary, and which texts a run was made from.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::error::CliError;
use crate::playbook::{self, Playbook};
use crate::syntax::{Diagnostic, Source};

/// A playbook with all the texts that it was read from, by the name that they were found by.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) playbook: Playbook,
    pub(super) texts: BTreeMap<String, Arc<Source>>,
}

/// A playbook with everything that it imports; its expressions and templates are checked too.
pub(super) fn playbook(path: &Path) -> Result<Loaded, CliError> {
    let source = find(path)
        .map_err(|why| CliError::usage(why).hint("`pgorch playbooks` lists the shipped ones"))?;
    let loaded = parse(&source).map_err(|all| CliError::diagnostics(&all))?;
    let complaints = playbook::lint(&loaded.playbook);
    if complaints.is_empty() { Ok(loaded) } else { Err(CliError::diagnostics(&complaints)) }
}

fn parse(source: &Arc<Source>) -> Result<Loaded, Vec<Diagnostic>> {
    let texts = RefCell::new(BTreeMap::from([(source.name.to_string(), Arc::clone(source))]));
    let playbook = playbook::parse(source, &|name, from| {
        let beside = Path::new(from).parent().map(|dir| dir.join(name));
        let found = match beside.filter(|p| p.exists()) {
            Some(path) => find(&path),
            None => find(Path::new(name)),
        }?;
        texts.borrow_mut().insert(found.name.to_string(), Arc::clone(&found));
        Ok(found)
    })?;
    Ok(Loaded { playbook, texts: texts.into_inner() })
}

/// A file of the user's wins over a shipped one of the same name.
fn find(path: &Path) -> Result<Arc<Source>, String> {
    let name = path.to_string_lossy();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Source::new(name, text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            match playbook::shipped(&name) {
                Some(text) => Ok(Source::new(name, text)),
                None => Err(format!("no playbook {name}")),
            }
        }
        Err(error) => Err(format!("cannot read {name}: {error}")),
    }
}
