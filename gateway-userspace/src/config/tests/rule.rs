//! Rules as operators write them, and what they are told of wrong ones.

use super::{parse, told};
use crate::config::parse_rules;

const TRUNK: &str = "[[trunk]]\nname = \"a\"\nlisten = \"udp:192.0.2.1\"\npeers = [{ address = \"192.0.2.2\" }]\ndefault_to = \"a\"\n";

/// What is told of a file with one rule that is right but for these fields.
fn refused(fields: &str) -> String {
    let text = format!("[[rule]]\nname = \"r\"\ndirection = \"send\"\n{fields}\n");
    parse_rules("rules.toml", &text).expect_err(fields).to_string()
}

#[test]
fn rules_of_a_trunk_keep_their_order_and_directions() {
    let rule = |name: &str, direction: &str| {
        format!(
            "[[trunk.rule]]\nname = \"{name}\"\ndirection = \"{direction}\"\ndo = [{{ remove = \"header.Server\" }}]\n"
        )
    };
    let text = [TRUNK, &rule("b", "send"), &rule("c", "receive"), &rule("a", "send")].concat();
    let config = parse(&text).unwrap_or_else(|errors| panic!("{errors}"));
    let (_, trunk) = config.policy.trunk_named("a").unwrap();
    let names = |rules: &[crate::policy::manipulation::Rule]| {
        rules.iter().map(|rule| rule.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&trunk.rules.send), names(&trunk.rules.receive)),
        (vec!["b".into(), "a".into()], vec!["c".into()])
    );
}

#[test]
fn an_error_in_a_rule_names_line_column_field_and_fix() {
    let text = format!(
        "{TRUNK}[[trunk.rule]]\nname = \"r\"\ndirection = \"send\"\ndo = [\n    {{ set = \"header.Via\", value = \"x\" }},\n    \
         {{ rewrite = \"request-uri.user\", pattern = '(?=0)', with = \"$1\" }},\n]\n"
    );
    let told = told(&text);
    assert!(told.contains("causeway.toml:10:13") && told.contains("Via carries dialogs"), "{told}");
    assert!(told.contains("causeway.toml:11:47") && told.contains("look-around"), "{told}");
    assert!(told.contains("rule \"r\" do") && told.contains("fix: "), "{told}");
}

#[test]
fn every_way_to_write_a_rule_wrong_is_told() {
    let table = [
        ("do = []", "add do"),
        ("do = [{ remove = \"header.Server\", value = \"x\" }]", "one verb"),
        ("do = [{ remove = \"header.Server\", set = \"header.Server\", value = \"x\" }]", "one verb"),
        ("do = [{ remove_codecs = [\"PCMU\"], to = \"sdp\" }]", "one verb"),
        ("do = [{ set = \"header.Server\" }]", "one verb"),
        ("do = [{ delete = \"header.Server\" }]", "there is no field"),
        ("do = [{ remove = \"headers.Server\" }]", "names no part"),
        ("do = [{ remove = \"header.Ser ver\" }]", "no name of a header"),
        ("do = [{ remove = \"header.From.uesr\" }]", "names no part"),
        ("do = [{ remove = \"header.Call-ID\" }]", "transactions"),
        ("do = [{ remove = \"header.l\" }]", "Content-Length"),
        ("do = [{ remove = \"header.From\" }]", "may not change"),
        ("do = [{ remove = \"header.t.param.TAG\" }]", "may not change"),
        ("do = [{ set = \"header.Contact.host\", value = \"h\" }]", "may not change"),
        ("do = [{ set = \"header.RSeq\", value = \"1\" }]", "may not change"),
        ("do = [{ rename = \"header.X\", to = \"header.Content-Type\" }]", "may not change"),
        ("do = [{ rename = \"header.X\", to = \"header.Y.user\" }]", "no whole header"),
        ("do = [{ remove = \"sdp.attribute.crypto\" }]", "may not change"),
        ("do = [{ remove = \"header.From.host\" }]", "cannot be without"),
        ("do = [{ set = \"method\", value = \"BYE\" }]", "not changed"),
        ("do = [{ add = \"header.From.user\", value = \"x\" }]", "not a list"),
        ("do = [{ set = \"sdp.direction\", value = \"both\" }]", "does not fit"),
        ("do = [{ set = \"sdp.ptime\", value = \"fast\" }]", "does not fit"),
        ("do = [{ set = \"header.X\", value = \"${nobody}\" }]", "no variable"),
        ("do = [{ set = \"header.X\", value = \"${trunk\" }]", "without }"),
        ("do = [{ set = \"header.X\", value = \"$1\" }]", "no group 1"),
        ("do = [{ set = \"header.X\", value = \"a\\r\\nVia: b\" }]", "control octet"),
        ("do = [{ rewrite = \"header.X\", pattern = '(a', with = \"b\" }]", "pattern is wrong"),
        ("do = [{ rewrite = \"header.X\", pattern = '(a)\\1', with = \"b\" }]", "pattern is wrong"),
        ("do = [{ rewrite = \"header.X\", pattern = '\\w{500}', with = \"b\" }]", "too large a machine"),
        ("do = [{ set = \"status\", value = \"480\" }]", "of which responses"),
        ("status = [\"18x\"]\ndo = [{ set = \"status\", value = \"480\" }]", "provisional"),
        ("status = [\"4xx\"]\ndo = [{ set = \"status\", value = \"200\" }]", "provisional"),
        ("status = [\"100\"]\ndo = [{ remove = \"header.X\" }]", "no status code"),
        ("status = [\"4xx\"]\ndo = [{ set = \"request-uri.user\", value = \"1\" }]", "never part"),
        ("message = \"request\"\ndo = [{ set = \"reason\", value = \"1\" }]", "never part"),
        ("message = \"reply\"\ndo = [{ remove = \"header.X\" }]", "none of the choices"),
        ("method = [\"invite\"]\ndo = [{ remove = \"header.X\" }]", "no method"),
        ("when = [{ value = \"header.X\" }]\ndo = [{ remove = \"header.X\" }]", "one test"),
        (
            "when = [{ value = \"header.X\", present = true, is = [\"a\"] }]\ndo = [{ remove = \"header.X\" }]",
            "one test",
        ),
    ];
    for (fields, expected) in table {
        let told = refused(fields);
        assert!(told.contains(expected), "{fields}: {told}");
        assert!(told.contains("rules.toml:") && told.contains("fix: "), "{fields}: {told}");
    }
    let long = format!("do = [{{ remove = \"header.X\", matching = '{}' }}]", "a".repeat(513));
    assert!(refused(&long).contains("512 are the most"));
    let many = format!("do = [{}]", "{ remove = \"header.X\" },".repeat(17));
    assert!(refused(&many).contains("16 are the most"));
}

#[test]
fn at_most_so_many_rules_of_a_direction_and_variables_of_no_other_meaning() {
    let rule = "[[rule]]\nname = \"r\"\ndirection = \"receive\"\ndo = [{ remove = \"header.X\" }]\n";
    assert!(parse_rules("f", &rule.repeat(64)).is_ok());
    assert!(parse_rules("f", &rule.repeat(65)).unwrap_err().to_string().contains("64 rules"));
    for variables in ["trunk = \"x\"", "method = \"x\"", "\"a b\" = \"x\"", "a = \"x\\ny\""] {
        assert!(parse_rules("f", &format!("[variables]\n{variables}\n")).is_err(), "{variables}");
    }
}
