//! From text to [`File`]: TOML's own grammar, then each section by itself, and where a section is wrong each
//! of its fields by itself, so that one error does not hide the next.

use super::error::{ConfigErrors, nearest};
use super::file::{File, RuleFile, Span};
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error, ValueDeserializer};

const TABLES: [&str; 11] = [
    "node",
    "dataplane",
    "media",
    "sip",
    "connections",
    "defence",
    "dns",
    "admin",
    "cdr",
    "capture",
    "emergency",
];
const LISTS: [&str; 4] = ["interface", "tenant", "trunk", "route"];

/// `None` when something in it is no TOML, no known field or of a wrong type; `errors` says what.
pub(super) fn read(text: &str, errors: &mut ConfigErrors) -> Option<File> {
    let (document, broken) = DeTable::parse_recoverable(text);
    for error in &broken {
        let span = error.span();
        let fix = "write TOML: field = value, text in \"quotes\", sections in [brackets]";
        errors.add(span, "the file", error.message().trim(), fix);
    }
    if !broken.is_empty() {
        return None;
    }
    let mut file = File::default();
    for (key, value) in document.into_inner() {
        let (name, span) = (key.get_ref().as_ref(), key.span());
        match name {
            "node" => file.node = table(name, value, errors),
            "dataplane" => file.dataplane = table(name, value, errors),
            "media" => file.media = table(name, value, errors),
            "sip" => file.sip = table(name, value, errors),
            "connections" => file.connections = table(name, value, errors),
            "defence" => file.defence = table(name, value, errors),
            "dns" => file.dns = table(name, value, errors),
            "admin" => file.admin = table(name, value, errors),
            "cdr" => file.cdr = table(name, value, errors),
            "capture" => file.capture = table(name, value, errors),
            "emergency" => file.emergency = table(name, value, errors),
            "interface" => file.interfaces = list(name, value, errors),
            "tenant" => file.tenants = list(name, value, errors),
            "trunk" => file.trunks = list(name, value, errors),
            "route" => file.routes = list(name, value, errors),
            unknown => {
                let meant = nearest(unknown, TABLES.into_iter().chain(LISTS));
                let fix = meant.map_or_else(
                    || format!("sections are {} and lists {}", TABLES.join(", "), LISTS.join(", ")),
                    |meant| format!("did you mean {}?", header(meant)),
                );
                errors.add(Some(span), "the file", format!("there is no section {unknown:?}"), fix);
            }
        }
    }
    errors.is_empty().then_some(file)
}

/// The same for a file of rules.
pub(super) fn rule_file(text: &str, errors: &mut ConfigErrors) -> Option<RuleFile> {
    match toml::from_str(text) {
        Ok(file) => Some(file),
        Err(error) => {
            let span = error.span().unwrap_or_default();
            explain("[[rule]]", "", &span, &error, errors);
            None
        }
    }
}

/// A section's name as it stands in the file.
fn header(name: &str) -> String {
    if LISTS.contains(&name) { format!("[[{name}]]") } else { format!("[{name}]") }
}

fn table<T: DeserializeOwned + Default>(
    name: &str,
    value: Spanned<DeValue<'_>>,
    errors: &mut ConfigErrors,
) -> T {
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        let fix = format!("write [{name}] once, on a line of its own, and its fields below");
        errors.add(Some(value.span()), header(name), "this is a section, not a value or a list", fix);
        return T::default();
    }
    section(&header(name), value, errors)
}

fn list<T: DeserializeOwned + Default>(
    name: &str,
    value: Spanned<DeValue<'_>>,
    errors: &mut ConfigErrors,
) -> Vec<(Span, T)> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Array(entries)
            if entries.iter().all(|entry| matches!(entry.get_ref(), DeValue::Table(_))) =>
        {
            let entry = |entry: Spanned<DeValue<'_>>| (entry.span(), section(&header(name), entry, errors));
            entries.into_iter().map(entry).collect()
        }
        _ => {
            let fix = format!("write [[{name}]], with two brackets, before each one");
            errors.add(Some(span), header(name), format!("there may be several, so {name} is a list"), fix);
            Vec::new()
        }
    }
}

/// The whole at once, and only if that fails field by field: each field's error then stands alone.
fn section<T: DeserializeOwned + Default>(
    name: &str,
    value: Spanned<DeValue<'_>>,
    errors: &mut ConfigErrors,
) -> T {
    let whole = match T::deserialize(ValueDeserializer::from(value.clone())) {
        Ok(read) => return read,
        Err(error) => error,
    };
    let before = errors.errors.len();
    let span = value.span();
    if let DeValue::Table(fields) = value.into_inner() {
        for (key, field) in fields {
            let (key_text, key_span) = (key.get_ref().to_string(), key.span());
            let mut alone = DeTable::new();
            alone.insert(key, field);
            let alone = Spanned::new(span.clone(), DeValue::Table(alone));
            if let Err(error) = T::deserialize(ValueDeserializer::from(alone)) {
                explain(name, &key_text, &key_span, &error, errors);
            }
        }
    }
    if errors.errors.len() == before {
        // Nothing wrong with any field alone: whatever it is, it may not be lost.
        explain(name, "", &span, &whole, errors);
    }
    T::default()
}

/// Serde's message in words of the file.
fn explain(section: &str, key: &str, key_span: &Span, error: &Error, errors: &mut ConfigErrors) {
    let message = error.message();
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let field = if key.is_empty() { section.to_owned() } else { format!("{section} {key}") };
    let span = error.span().unwrap_or_else(|| key_span.clone());
    if let (true, Some((unknown, known))) = (message.starts_with("unknown field"), words.split_first()) {
        let fix = choice(unknown, known, "fields are");
        // Of the section itself, or of a table inside it.
        let place = if *unknown == key { section.to_owned() } else { field };
        return errors.add(Some(span), place, format!("there is no field {unknown:?}"), fix);
    }
    if let (true, Some((unknown, known))) = (message.starts_with("unknown variant"), words.split_first()) {
        let fix = choice(unknown, known, "write one of");
        return errors.add(Some(span), field, format!("{unknown:?} is none of the choices"), fix);
    }
    if let (true, Some(missing)) = (message.starts_with("missing field"), words.first()) {
        let fix = format!("add {missing} = ...");
        return errors.add(Some(span), field, format!("{missing} is missing"), fix);
    }
    let (told, expected) = message.rsplit_once(", expected ").unwrap_or((message, ""));
    let found = told.split_once(": ").map_or(told, |(_, found)| found);
    let fix = match expected.trim() {
        "a string" | "a borrowed string" | "string" | "path string" => "write text in \"quotes\"",
        "a boolean" => "write true or false, without quotes",
        "u8" => "write a whole number from 0 to 255, without quotes",
        "u16" => "write a whole number from 0 to 65535, without quotes",
        "u32" => "write a whole number from 0 to 4294967295, without quotes",
        "a sequence" => "write a list in [brackets], with commas between",
        _ => "see docs/configuration.md for what stands here",
    };
    errors.add(Some(span), field, format!("{found} does not fit here"), fix);
}

fn choice(word: &str, known: &[&str], otherwise: &str) -> String {
    let known = || known.iter().copied();
    nearest(word, known()).map_or_else(
        || format!("{otherwise} {}", known().collect::<Vec<_>>().join(", ")),
        |meant| format!("did you mean {meant:?}?"),
    )
}
