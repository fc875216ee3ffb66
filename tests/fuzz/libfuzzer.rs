//! One target under libFuzzer: the one that `FUZZ_TARGET` names.

#![no_main]

mod media;
mod targets;

use std::env;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = env::var("FUZZ_TARGET").unwrap_or_default();
    let found = targets::TARGETS.iter().find(|(own, _)| *own == name);
    let names = targets::TARGETS.map(|(own, _)| own).join(", ");
    found.unwrap_or_else(|| panic!("FUZZ_TARGET={name:?} is none of {names}")).1
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| TARGET(input));
