//! Which room may use which, and what only the rooms at the rim may do: read from the source, so that a wrong
//! edge fails the build before anybody argues about it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from the lowest line to the highest. A room may use its own line and those below.
const LINES: [&[&str]; 9] = [
    &["base"],
    &["observe"],
    &["sdp", "rtp", "srtp", "ice", "codec", "signal", "sip::message"],
    &["sip"],
    &["policy", "media", "resolve"],
    &["call"],
    &["ims"],
    EFFECTS,
    &["runtime", "config"],
];

/// Rooms with effects, blind to one another.
const EFFECTS: &[&str] = &["net", "dataplane", "store", "ha", "admin"];

/// The binary: above all.
const TOP: [&str; 2] = ["main", "cli"];

/// What is allowed in a few rooms only: a word in the source, and the rooms.
const CONFINED: [(&str, &[&str]); 17] = [
    ("rsip::", &["sip::message"]),
    ("tokio::", &["admin"]),
    ("hickory_resolver::", &["admin"]),
    ("axum::", &["admin"]),
    ("ureq::", &["admin"]),
    ("rustls::", &["net"]),
    ("x509_parser::", &["net"]),
    ("mio::", &["net", "runtime", "dataplane"]),
    ("aya::", &["dataplane"]),
    ("sdp_types::", &["sdp"]),
    ("audio_codec::", &["codec"]),
    ("opusic_c::", &["codec"]),
    ("hound::", &["signal"]),
    ("Instant::now", &["runtime", "net", "dataplane", "admin", "store"]),
    ("SystemTime::now", &["runtime", "config"]),
    ("thread::spawn", &["runtime", "net", "dataplane", "admin", "store"]),
    ("fs::", &["store", "dataplane", "config", "runtime"]),
];

#[test]
fn every_room_uses_only_its_own_line_and_those_below() {
    let sources = sources();
    let mut wrong = BTreeSet::new();
    let mut edges = 0;
    for Source { path, room, code } in &sources {
        for used in crate_paths(code).iter().map(|path| room_of(path)).filter(|used| used != room) {
            edges += 1;
            if let Err(why) = may_use(room, &used) {
                wrong.insert(format!("{}: {room} uses {used}: {why}", path.display()));
            }
        }
    }
    assert!(edges > 50, "only {edges} edges found: the reader of this test is broken");
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn clocks_threads_files_and_foreign_crates_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for Source { path, room, code } in &sources() {
        for (word, rooms) in CONFINED {
            let allowed = rooms.contains(&room.as_str()) || TOP.contains(&room.as_str());
            let line = code.lines().find(|line| names(line, word));
            if let (false, Some(line)) = (allowed, line) {
                let rooms = rooms.join(", ");
                wrong.push(format!("{}: {word} belongs to {rooms}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_sees_every_form_of_an_edge_and_the_rules_bite() {
    let code = "use crate::base::id::CallId;\nuse crate::{sip::{message::Method, Hop}, net};\nlet x = crate::rtp::mos(1);";
    let used: BTreeSet<_> = crate_paths(code).iter().map(|path| room_of(path)).collect();
    assert_eq!(used, ["base", "net", "rtp", "sip", "sip::message"].map(str::to_owned).into());
    assert_eq!(may_use("call", "policy"), Ok(()));
    assert!(may_use("policy", "call").is_err());
    assert!(may_use("sip::message", "sip").is_err());
    assert!(may_use("net", "store").is_err());
    assert!(may_use("base", "nowhere").is_err());
    assert!(names("use tokio::sync;", "tokio::") && !names("self.buffs::<u8>()", "fs::"));
    assert_eq!(production("fn a() {}\n#[cfg(test)]\nmod tests {\n}\nfn b() {}\n"), "fn a() {}\nfn b() {}\n");
}

struct Source {
    path: PathBuf,
    room: String,
    /// Without comments and tests.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let source = |path: PathBuf| {
        let place = path.strip_prefix(&root).expect("collected below the root").with_extension("");
        let segments: Vec<_> = place.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let code = production(&fs::read_to_string(&path).expect("a file just listed can be read"));
        (segments != ["lib"]).then(|| Source { room: room_of(&segments), code, path })
    };
    files.into_iter().filter_map(source).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a source directory can be listed") {
        let path = entry.expect("a source directory can be listed").path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "tests" && name != "snapshots" {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
            files.push(path);
        }
    }
}

/// The text without comment lines and without items that only tests are compiled with: what tests use is their
/// own matter. An item ends with the first line that closes it at its own indentation.
fn production(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indentation = &line[..line.len() - line.trim_start().len()];
        let closing = [format!("{indentation}}}"), format!("{indentation}}};")];
        for line in lines.by_ref() {
            let attribute = line.trim_start().starts_with("#[");
            let one_line = line.ends_with(';')
                && line.strip_prefix(indentation).is_some_and(|rest| !rest.starts_with(' '));
            if !attribute
                && (one_line || line.ends_with("{}") || closing.iter().any(|closing| closing == line))
            {
                break;
            }
        }
    }
    kept
}

/// Paths that begin with `crate::`, as their segments; groups in braces are taken apart.
fn crate_paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            paths_from(&mut code[at + word.len()..].chars().peekable(), &mut Vec::new(), &mut paths);
        }
    }
    paths
}

fn paths_from(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    prefix: &mut Vec<String>,
    paths: &mut Vec<Vec<String>>,
) {
    let depth = prefix.len();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.next_if_eq(&'{').is_some() {
            while rest.peek().is_some_and(|c| *c != '}') {
                paths_from(rest, prefix, paths);
                while rest.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
            }
            rest.next();
            break;
        }
        let mut segment = String::new();
        while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
            segment.push(c);
        }
        if segment.is_empty() {
            // `*`, or something that is no path: consumed, so that a group always comes to its end.
            rest.next_if(|c| *c != '}' && *c != ',');
            paths.push(prefix.clone());
            break;
        }
        prefix.push(segment);
        let continued = rest.next_if_eq(&':').is_some() && rest.next_if_eq(&':').is_some();
        if !continued {
            paths.push(prefix.clone());
            break;
        }
    }
    prefix.truncate(depth);
}

/// `sip::message` is a room of its own: it stands on a lower line than the rest of `sip`.
fn room_of(segments: &[String]) -> String {
    match segments {
        [sip, message, ..] if sip == "sip" && message == "message" => "sip::message".to_owned(),
        [room, ..] => room.clone(),
        [] => String::new(),
    }
}

fn may_use(room: &str, used: &str) -> Result<(), String> {
    let line = |room: &str| LINES.iter().position(|line| line.contains(&room));
    if TOP.contains(&room) {
        return Ok(());
    }
    let (Some(own), Some(other)) = (line(room), line(used)) else {
        return Err("one of them is in no line of this test's table: add it where it belongs".to_owned());
    };
    if other > own {
        return Err("that one stands above".to_owned());
    }
    if EFFECTS.contains(&room) && EFFECTS.contains(&used) {
        return Err("rooms with effects are blind to one another".to_owned());
    }
    Ok(())
}

/// Whether `line` has `word` as a word of its own and not as the end of another.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}
