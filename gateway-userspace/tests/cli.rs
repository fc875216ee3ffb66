//! The built binary as operators and scripts meet it: exit codes, and which stream says what.

use std::fs;
use std::process::{Command, Output};

fn causeway(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_causeway"))
        .args(arguments)
        .output()
        .expect("the binary was built for this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the binary prints UTF-8")
}

/// An address that nobody listens on: bound once, so free, and closed again.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").to_string()
}

#[test]
fn the_printed_example_passes_the_check() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("causeway.toml");
    let path = path.to_str().unwrap();
    let example = causeway(&["check", "--example"]);
    assert_eq!(example.status.code(), Some(0));
    // All cores is what any host has; the example says nothing about them.
    fs::write(path, &example.stdout).unwrap();
    let checked = causeway(&["check", "--config", path]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    assert!(text(&checked.stdout).contains("OK"));
    let json = causeway(&["check", "--config", path, "--json"]);
    let summary: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(summary["trunks"][0]["name"], "operator");
}

#[test]
fn a_wrong_configuration_ends_with_code_2_and_all_its_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("causeway.toml");
    fs::write(&path, "[node]\nmax_call = 3\n[media]\nports = 4\n").unwrap();
    let path = path.to_str().unwrap();
    let checked = causeway(&["check", "--config", path]);
    assert_eq!(checked.status.code(), Some(2));
    assert!(checked.stdout.is_empty());
    let told = text(&checked.stderr);
    assert!(told.contains(&format!("{path}:2:1")) && told.contains("did you mean \"max_calls\"?"), "{told}");
    assert!(told.contains(&format!("{path}:4:9")) && told.contains("quotes"), "{told}");
    let json = causeway(&["check", "--config", path, "--json"]);
    assert_eq!(json.status.code(), Some(2));
    let told: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(told["errors"][0]["line"], 2);
    assert_eq!(causeway(&["check", "--config", "/nonexistent.toml"]).status.code(), Some(2));
    assert_eq!(causeway(&["chekc"]).status.code(), Some(2));
}

#[test]
fn a_question_to_no_daemon_ends_with_code_1_and_says_where_it_looked() {
    let address = nobody();
    let status = causeway(&["status", "--admin", &address]);
    assert_eq!(status.status.code(), Some(1));
    assert!(text(&status.stderr).contains(&address));
    let json = causeway(&["status", "--admin", &address, "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(told["error"].as_str().unwrap().contains(&address));
}

#[test]
fn without_a_daemon_flows_are_looked_for_in_the_kernel_and_this_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let pins = directory.path().to_str().unwrap();
    let flows = causeway(&["flows", "--admin", &nobody(), "--pins", pins]);
    assert_eq!(flows.status.code(), Some(1));
    let told = text(&flows.stderr);
    assert!(told.contains("no daemon answers") && told.contains(pins), "{told}");
}
