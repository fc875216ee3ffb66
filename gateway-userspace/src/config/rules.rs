//! A file of rules by itself, for `causeway rules test --rule FILE`: `[[rule]]` and `[variables]`, as they would stand in
//! a trunk.

use super::check::rule;
use super::error::ConfigErrors;
use super::file::RuleFile;
use super::read;
use crate::policy::manipulation::Manipulation;
use std::fs;
use std::path::Path;

/// Reads the rules of a file.
///
/// # Errors
/// As [`super::Config::load`].
pub fn load_rules(path: &Path) -> Result<Manipulation, ConfigErrors> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => parse_rules(&name, &text),
        Err(error) => Err(ConfigErrors::unreadable(&name, &error)),
    }
}

/// Checks the text of such a file; `name` stands for it in errors.
///
/// # Errors
/// As [`super::Config::load`].
pub fn parse_rules(name: &str, text: &str) -> Result<Manipulation, ConfigErrors> {
    let mut errors = ConfigErrors::new(name, text);
    let file: Option<RuleFile> = read::rule_file(text, &mut errors);
    let manipulation = file.map(|file| {
        let variables = rule::variables(&file.variables, "[variables]", &mut errors);
        rule::manipulation(&file.rule, &variables, "[[rule]]", &mut errors)
    });
    match manipulation {
        Some(manipulation) if errors.is_empty() => Ok(manipulation),
        _ => Err(errors.sorted()),
    }
}
