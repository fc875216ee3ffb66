//! Embeds the XDP objects that `cargo xtask ebpf` left in `<target>/ebpf/` into the daemon, and finds the codecs'
//! libraries.
//!
//! Writes `$OUT_DIR/object.rs`, to be included once by the loader:
//!
//! ```ignore
//! pub mod object {
//!     include!(concat!(env!("OUT_DIR"), "/object.rs"));
//! }
//! ```
//!
//! It declares, aligned as ELF parsers expect:
//! * `pub static OBJECT: &[u8]`: the product object.
//! * `pub static TRACED_OBJECT: &[u8]`: its twin that logs each decision by aya-log.
//!
//! An object that is not built yet is embedded as an empty slice, with a cargo warning: everything that does
//! not load programs still compiles and runs, and the loader answers an empty slice with an error that names
//! `cargo xtask ebpf`. The daemon is rebuilt when the objects change.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Constant in the generated file, file name in `<target>/ebpf/`.
const OBJECTS: [(&str, &str); 2] = [("OBJECT", "causeway.o"), ("TRACED_OBJECT", "causeway-traced.o")];

fn main() -> io::Result<()> {
    find_codec_libraries();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    let triple = env::var("TARGET").expect("cargo sets TARGET for build scripts");
    let objects = target_directory(&out, &triple).join("ebpf");
    // Cargo takes a missing path for a changed one and would rebuild the daemon each time; an empty directory
    // it can watch.
    fs::create_dir_all(&objects)?;
    println!("cargo::rerun-if-changed={}", objects.display());
    println!("cargo::rerun-if-changed=build.rs");

    let mut generated = String::from(
        "/// ELF readers cast into the object, so it starts where any of its structures may.\n\
         #[repr(C, align(32))]\n\
         struct Aligned<T: ?Sized>(T);\n",
    );
    for (constant, file) in OBJECTS {
        fs::write(out.join(file), built_object(&objects.join(file))?)?;
        generated.push_str(&format!(
            "/// `{file}` as built by `cargo xtask ebpf`; empty when it was not built before the daemon.\n\
             pub static {constant}: &[u8] = {{\n\
             \x20   static BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\")));\n\
             \x20   &BYTES.0\n\
             }};\n"
        ));
    }
    fs::write(out.join("object.rs"), generated)
}

/// `<target>` out of `<target>[/<triple>]/<profile>/build/<package>/out`, wherever `CARGO_TARGET_DIR` put it.
fn target_directory(out: &Path, triple: &str) -> PathBuf {
    let above_profile = out.ancestors().nth(4).expect("OUT_DIR lies four levels below the target directory");
    let cross = above_profile.file_name().is_some_and(|name| name == triple);
    let target = if cross { above_profile.parent().unwrap_or(above_profile) } else { above_profile };
    target.to_path_buf()
}

fn built_object(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            println!(
                "cargo::warning={} is not built: this daemon cannot load its XDP program (cargo xtask ebpf)",
                path.display()
            );
            Ok(Vec::new())
        }
        read => read,
    }
}

/// Feature of this crate, the library as pkg-config calls it, and the Debian package.
const CODEC_LIBRARIES: [(&str, &str, &str); 4] = [
    ("OPUS", "opus", "libopus-dev"),
    ("AMR", "opencore-amrnb", "libopencore-amrnb-dev"),
    ("AMR", "opencore-amrwb", "libopencore-amrwb-dev"),
    ("AMR", "vo-amrwbenc", "libvo-amrwbenc-dev"),
];

/// Links the libraries of codecs that are wanted; says all at once what is missing.
fn find_codec_libraries() {
    let wanted = |feature: &str| env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    let missing: Vec<_> = CODEC_LIBRARIES
        .iter()
        .filter(|(feature, ..)| wanted(feature))
        .filter_map(|(_, library, package)| {
            let error = pkg_config::Config::new().env_metadata(true).probe(library).err()?;
            println!("cargo::warning={library}: {}", error.to_string().lines().next().unwrap_or_default());
            Some(*package)
        })
        .collect();
    if !missing.is_empty() {
        let packages = missing.join(" ");
        println!(
            "cargo::error=libraries of codecs are missing: `cargo xtask setup`, or \
             `apt-get install pkg-config {packages}`; without these codecs: --no-default-features"
        );
        std::process::exit(1);
    }
}
