//! What users write: YAML, inventories, templates, and the complaints about them.

mod filters;
mod hosts;
mod inventory;
mod secrets;
mod syntax;
mod template;
