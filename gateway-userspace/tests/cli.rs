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

/// One worked example of the manual of rules.
struct Example<'a> {
    heading: &'a str,
    rules: &'a str,
    message: &'a str,
    difference: &'a str,
}

fn examples() -> Vec<Example<'static>> {
    let manual = include_str!("../../docs/manipulation.md");
    let block = |text: &'static str, kind: &str| {
        let (_, rest) =
            text.split_once(&format!("```{kind}\n")).unwrap_or_else(|| panic!("no {kind} in {text}"));
        rest.split_once("```").expect("a block ends").0
    };
    let parts = manual.split("\n### ").skip(1);
    parts
        .map(|part| Example {
            heading: part.lines().next().unwrap_or_default(),
            rules: block(part, "toml"),
            message: block(part, "sip"),
            difference: block(part, "diff"),
        })
        .collect()
}

#[test]
fn the_examples_of_the_manual_do_exactly_what_it_says() {
    let examples = examples();
    assert_eq!(examples.len(), 10);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (rules, message) = (path("rules.toml"), path("message.sip"));
    for Example { heading, rules: text_of_rules, message: text_of_message, difference } in examples {
        fs::write(&rules, text_of_rules).unwrap();
        fs::write(&message, text_of_message).unwrap();
        let direction = if text_of_rules.contains("\"send\"") { "send" } else { "receive" };
        let shown = causeway(&["rules", "test", "--rule", &rules, "--direction", direction, &message]);
        assert_eq!(shown.status.code(), Some(0), "{heading}: {}", text(&shown.stderr));
        let shown = text(&shown.stdout);
        let changed: String = shown
            .lines()
            .filter(|line| line.starts_with(['+', '-']))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(changed, difference, "{heading}\n{shown}");
        assert!(shown.starts_with("# ") && shown.contains("changed something"), "{heading}: {shown}");
        let json =
            causeway(&["rules", "test", "--rule", &rules, "--direction", direction, &message, "--json"]);
        let told: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(
            (&told["changed"], &told["rules"][0]["changed"]),
            (&true.into(), &true.into()),
            "{heading}"
        );
    }
}

#[test]
fn rules_of_a_trunk_are_tried_from_its_configuration_and_wrong_ones_end_with_code_2() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (config, message) = (path("causeway.toml"), path("message.sip"));
    let trunk = "[[trunk]]\nname = \"core\"\nlisten = \"udp:192.0.2.1\"\npeers = [{ address = \"192.0.2.2\" }]\ndefault_to = \"core\"\n";
    let rule = |action: &str| {
        format!("{trunk}[[trunk.rule]]\nname = \"r\"\ndirection = \"send\"\ndo = [{action}]\n")
    };
    fs::write(&config, rule("{ set = \"header.X-Trunk\", value = \"${trunk} ${called}\" }")).unwrap();
    fs::write(&message, examples()[0].message).unwrap();
    let test = |trunk: &str, message: &str| {
        causeway(&["rules", "test", "--config", &config, "--trunk", trunk, "--direction", "send", message])
    };
    assert!(text(&test("core", &message).stdout).contains("\n+X-Trunk: core +12025550147\n"));
    let unknown = test("cor", &message);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("trunks are core"), "{}", text(&unknown.stderr));
    assert_eq!(test("core", "/nonexistent.sip").status.code(), Some(1));
    fs::write(&config, rule("{ remove = \"header.Via\" }")).unwrap();
    let wrong = test("core", &message);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("causeway.toml:9:"), "{}", text(&wrong.stderr));
}
