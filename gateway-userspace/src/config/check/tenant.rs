//! Customers behind trunks that many of them share.

use super::super::error::ConfigErrors;
use super::super::file::{self, File};
use super::trunk::{limits, required};
use super::value;
use crate::policy::{PolicyError, Tenant, Tenants};
use toml::Spanned;

/// None when anything about them is wrong; `errors` says what.
pub(super) fn tenants(file: &File, errors: &mut ConfigErrors) -> Tenants {
    let label = "[[tenant]]";
    let mut tenants: Vec<Tenant> = Vec::new();
    for (entry, written) in &file.tenants {
        let name =
            required(entry, &written.name, label, "name = \"contoso\", as records will call it", errors);
        let Some(name) = name else { continue };
        tenants.push(tenant(name.get_ref().trim(), written, errors));
        // Each is held against those before it, so that an error stands where the second claim is.
        if let Err(error) = Tenants::new(tenants.clone()) {
            let at = place(&error, written).unwrap_or_else(|| entry.clone());
            let fix = match error {
                PolicyError::TenantNumber { .. } => {
                    "write it as in \"+442079460\", a number or the beginning of a block"
                }
                _ => "let it belong to one tenant",
            };
            errors.add(Some(at), format!("{label} {:?}", name.get_ref()), error.to_string(), fix);
            tenants.pop();
        }
    }
    if let Some(trunk) = file.trunks.iter().find_map(|(_, trunk)| {
        trunk.tenants.as_ref().filter(|shared| *shared.get_ref() && file.tenants.is_empty())
    }) {
        let fix = "add a [[tenant]] for each customer, or leave it out";
        errors.add(
            Some(trunk.span()),
            "[[trunk]] tenants",
            "there is no [[tenant]], so nobody may call",
            fix,
        );
    }
    Tenants::new(tenants).unwrap_or_default()
}

fn tenant(name: &str, written: &file::Tenant, errors: &mut ConfigErrors) -> Tenant {
    let texts =
        |texts: &[Spanned<String>]| texts.iter().map(|text| text.get_ref().trim().to_owned()).collect();
    Tenant {
        name: name.into(),
        numbers: texts(&written.numbers),
        hosts: texts(&written.hosts),
        id: written.id.as_ref().map(|id| id.get_ref().trim().to_owned()),
        screening: value(&written.screening, true),
        limits: limits(&written.limits, &format!("[[tenant]] {name:?}"), errors),
    }
}

/// Where in its entry an error lies.
fn place(error: &PolicyError, written: &file::Tenant) -> Option<file::Span> {
    let wanted = match error {
        PolicyError::TenantTwice { value, .. } => value,
        PolicyError::TenantNumber { number, .. } => number,
        _ => return None,
    };
    let mut texts = written.name.iter().chain(&written.id).chain(&written.numbers).chain(&written.hosts);
    texts.find(|text| text.get_ref().trim() == wanted).map(Spanned::span)
}
