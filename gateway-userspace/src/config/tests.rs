//! Files as operators write them, and what they are told.

mod rule;
mod tls;

use super::file;
use super::*;
use crate::base::time::Time;
use crate::media::{GatePolicy, Tones};
use crate::policy::{Inquiry, NumberFormat};
use crate::signal::tone::{Plan, Signal};
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use std::collections::BTreeSet;

fn host() -> Host {
    Host { name: "host".into(), cores: 4, now: SystemTime::now() }
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse("causeway.toml", text, &host())
}

/// The example with one piece of text replaced.
fn spoilt(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "{from}");
    EXAMPLE.replacen(from, to, 1)
}

fn told(text: &str) -> String {
    parse(text).expect_err("the file is wrong").to_string()
}

/// The trunk that a call goes to.
fn goes_to(config: &Config, from: &str, called: &str) -> String {
    let (from, _) = config.policy.trunk_named(from).unwrap();
    let inquiry = Inquiry { from, called, emergency: false, now: Time::ZERO, spread: 0 };
    let to = config.policy.decide(&inquiry).unwrap().candidates.trunk();
    config.policy.trunk(to).unwrap().name.clone()
}

#[test]
fn nobody_is_latched_whom_neither_a_network_nor_a_key_vouches_for() {
    let trunk = |media: &str| {
        format!(
            "[[trunk]]\nname = \"a\"\nlisten = \"udp:192.0.2.1:5060\"\npeers = [{{ address = \"192.0.2.20:5060\" }}]\n\
             default_to = \"a\"\n[trunk.media]\n{media}\n"
        )
    };
    for latch in ["same-ssrc", "first-packet"] {
        let open = format!("gate = \"any\"\nlatch = \"{latch}\"");
        let text = told(&trunk(&open));
        assert!(text.contains("media.latch") && text.contains("whoever is the first"), "{text}");
        assert!(told(&trunk(&format!("{open}\nsecurity = \"offered\""))).contains("media.latch"));
        for closed in [
            format!("{open}\nsecurity = \"required\""),
            format!("gate = \"host\"\nlatch = \"{latch}\""),
            format!("gate = \"198.51.100.0/24\"\nlatch = \"{latch}\""),
        ] {
            parse(&trunk(&closed)).unwrap();
        }
    }
    parse(&trunk("gate = \"any\"")).unwrap();
}

// Statement 180.
#[test]
fn media_bypass_and_ipv6_do_not_go_together() {
    let trunk = |listen: &str, ice: &str| {
        let peer = if listen.starts_with('[') { "[2001:db8::9]:5060" } else { "192.0.2.20:5060" };
        format!(
            "[media]\nports = \"30000-30099\"\n[[trunk]]\nname = \"a\"\nlisten = \"udp:{listen}\"\n\
             peers = [{{ address = \"{peer}\" }}]\ndefault_to = \"a\"\n[trunk.media]\nice = \"{ice}\"\n"
        )
    };
    let text = told(&trunk("[2001:db8::1]:5060", "lite"));
    assert!(text.contains("media.ice") && text.contains("IPv4 candidates only"), "{text}");
    let text = told(&trunk("[2001:db8::1]:5060", "full"));
    assert!(text.contains("ice") && text.contains("lite"), "{text}");
    for (listen, ice) in [("[2001:db8::1]:5060", "off"), ("192.0.2.1:5060", "lite")] {
        let config = parse(&trunk(listen, ice)).unwrap();
        let (_, trunk) = config.policy.trunk_named("a").unwrap();
        assert_eq!(trunk.media.ice.is_lite, ice == "lite");
    }
}

// Statement 166.
#[test]
fn tones_are_of_a_country_or_of_ones_own_and_what_is_wrong_with_them_is_told() {
    let trunk = |tones: &str| {
        format!(
            "[[trunk]]\nname = \"a\"\nlisten = \"udp:192.0.2.1:5060\"\npeers = [{{ address = \"192.0.2.20:5060\" }}]\n\
             default_to = \"a\"\n[trunk.tones]\n{tones}\n"
        )
    };
    let tones = |text: &str| {
        let config = parse(&trunk(text)).unwrap_or_else(|errors| panic!("{errors}"));
        config.policy.trunk_named("a").unwrap().1.tones.clone().unwrap()
    };
    assert_eq!(*tones("country = \"gb\""), Tones::of(Plan::of_country("GB").unwrap()));
    let own = tones("country = \"GB\"\nbusy = \"425/100,0/100\"\nsilence_ms = 0\non_ringing = true");
    assert_eq!(*own.plan.cadence(Signal::Busy), "425/100,0/100".parse().unwrap());
    assert_eq!(own.plan.cadence(Signal::Ringback), Plan::of_country("GB").unwrap().cadence(Signal::Ringback));
    assert_eq!((own.on_silence, own.on_ringing, own.on_transfer), (None, true, true));
    let table = [
        ("country = \"XX\"", "7:11", "tones.country", "write one of AT, AU"),
        ("busy = \"425/100,0/100\"", "6:1", "tones.ringback", "add country"),
        ("country = \"DE\"\nringback = \"9000/100\"", "8:12", "tones.ringback", "as in \"425/1000,0/4000\""),
        ("country = \"DE\"\nsilence_ms = 50", "8:14", "tones.silence_ms", "write 200 to 60000"),
        ("country = \"DE\"\nrefusal_seconds = 90", "8:19", "tones.refusal_seconds", "write 1 to 60"),
        (
            "country = \"DE\"\nannouncements = { 404 = \"/nowhere.wav\" }",
            "8:25",
            "tones.announcements",
            "name a WAV file",
        ),
        (
            "country = \"DE\"\nannouncements = { 200 = \"/nowhere.wav\" }",
            "8:25",
            "tones.announcements",
            "the status code of a refusal",
        ),
        ("land = \"DE\"", "7:1", "land", "country"),
    ];
    for (text, place, field, fix) in table {
        let told = told(&trunk(text));
        assert!(told.contains(place) && told.contains(field) && told.contains(fix), "{text}: {told}");
    }
}

#[test]
fn the_example_works_and_means_what_it_says() {
    let config = parse(EXAMPLE).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.warnings, []);
    assert_eq!((config.node.workers, config.node.max_calls), (4, 5_000));
    assert_eq!(config.dataplane.interfaces, ["eth0"]);
    assert_eq!(config.media.timeout, Some(Duration::from_secs(60)));
    assert_eq!(config.listeners().len(), 2);
    let (_, trunk) = config.policy.trunk_named("operator").unwrap();
    assert_eq!(trunk.media_address, trunk.listen.ip());
    assert_eq!(trunk.peers[1].priority, 1);
    assert_eq!(trunk.peer_timeout, Duration::from_secs(2));
    assert_eq!(trunk.media.dscp, Some(46));
    assert_eq!(goes_to(&config, "operator", "12025550147"), "service");
    insta::assert_snapshot!(Summary::of(&config).render("causeway.toml"));
}

#[test]
fn what_is_left_out_has_a_value_that_works() {
    let config = parse(
        "[[trunk]]\nname = \"a\"\nlisten = \"udp:192.0.2.1\"\npeers = [{ address = \"192.0.2.2\" }]\n\
         [[route]]\nprefix = \"\"\nto = \"a\"\n",
    )
    .unwrap();
    assert_eq!(&*config.node.name, "host");
    assert_eq!(config.cdr.path, Path::new("/var/lib/causeway/cdr.jsonl"));
    assert_eq!(config.admin.listen, "127.0.0.1:9090".parse().unwrap());
    let (_, trunk) = config.policy.trunk_named("a").unwrap();
    assert_eq!((trunk.listen.port(), trunk.peers[0].name.as_str()), (5060, "192.0.2.2:5060"));
    // No interface: works, and is said.
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn a_group_of_peers_ranks_them_by_the_region_of_the_node_and_hears_their_networks() {
    let text = r#"
        [node]
        region = "east"
        [dataplane]
        mode = "sockets"
        [[trunk]]
        name = "core"
        listen = "udp:192.0.2.1:5060"
        default_to = "teams"
        peers = [
            { name = "e1", address = "192.0.2.11:5060", region = "east", priority = { east = 0, west = 1 } },
            { name = "w1", address = "192.0.2.21:5060", region = "west", priority = { east = 1, west = 0 }, weight = 3,
              allowed = ["192.0.2.16/28"], allowed_media = ["198.51.100.0/25"] },
        ]
        [[trunk]]
        name = "teams"
        service = "teams"
        listen = "tcp:203.0.113.1:5061"
        advertised = "sbc1.example.net:5061"
        default_to = "core"
        peers = [{ address = "203.0.113.9" }]
        [trunk.limits]
        calls = 500
        calls_per_second = 20
        [trunk.health]
        interval_seconds = 30
        [emergency]
        numbers = ["112", "911"]
        to = "core"
        [[route]]
        prefix = "+44"
        from = "core"
        to = "core"
    "#;
    let config = parse(text).unwrap_or_else(|errors| panic!("{errors}"));
    let (_, core) = config.policy.trunk_named("core").unwrap();
    let ranks: Vec<_> = core.peers.iter().map(|peer| (peer.is_remote, peer.priority, peer.weight)).collect();
    assert_eq!(ranks, [(false, 0, 1), (true, 1, 3)]);
    assert_eq!(core.media.gate, GatePolicy::Networks(["198.51.100.0/25".parse().unwrap()].into()));
    assert_eq!(core.networks().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.16/28"]);
    assert_eq!(core.progress_timeout, Some(Duration::from_secs(10)));
    assert_eq!(core.health.interval, None);
    let (_, teams) = config.policy.trunk_named("teams").unwrap();
    assert_eq!(teams.health.interval, Some(Duration::from_secs(30)));
    assert_eq!(
        (teams.health.retry, teams.progress_timeout),
        (Duration::from_secs(10), Some(Duration::from_millis(9_500)))
    );
    assert_eq!(teams.numbers.format, NumberFormat::E164);
    assert_eq!(config.warnings.len(), 1, "Teams without TLS");
    assert_eq!(teams.limits.calls, Some(500));
    assert_eq!(teams.limits.rate, Some(CallRate { per_second: 20, burst: 20 }));
    let (core, _) = config.policy.trunk_named("core").unwrap();
    assert_eq!(config.policy.emergency().to, Some(core));
    assert_eq!(goes_to(&config, "teams", "+12025550147"), "core");
    assert_eq!(goes_to(&config, "core", "+12025550147"), "teams");
    assert_eq!(goes_to(&config, "core", "+441632960123"), "core");
}

/// Each wrong file, as a tired person reads about it. One snapshot, so that all are read together.
#[test]
fn each_mistake_is_told_with_its_place_and_its_fix() {
    let cases = [
        ("not TOML", spoilt("name = \"gw1\"", "name = gw1\nmax_calls == 3")),
        ("unknown section", spoilt("[media]", "[medai]")),
        ("unknown field", spoilt("timeout_seconds", "timeout_second")),
        ("unknown field in a list", spoilt("peer_timeout_ms", "colour")),
        ("unknown field in a peer", spoilt("priority = 0", "prio = 0")),
        ("unknown choice", spoilt("latch = \"same-ssrc\"", "latch = \"ssrc\"")),
        ("wrong type", spoilt("max_calls = 5000", "max_calls = \"5000\"")),
        ("number too large", spoilt("dscp = 46", "dscp = 460")),
        ("one bracket", spoilt("[[interface]]", "[interface]")),
        ("section twice as a list", spoilt("[cdr]", "[[cdr]]")),
        ("no transport", spoilt("udp:192.0.2.1:5060", "192.0.2.1:5060")),
        ("TLS without certificate", spoilt("tcp:198.51.100.1:5060", "tls:198.51.100.1:5061")),
        ("no name of a peer", spoilt("198.51.100.50:5060", "198.51.100.500:5060")),
        (
            "a name without networks",
            spoilt("192.0.2.20:5060", "sbc.example.net").replacen("allowed = [\"192.0.2.16/28\"]\n", "", 1),
        ),
        ("priority out of range", spoilt("priority = 1 }", "priority = 101 }")),
        ("priority of a region", spoilt("priority = 1 }", "priority = { east = 0 } }")),
        ("region of no node", spoilt("priority = 1 }", "region = \"east\" }")),
        ("a peer twice", spoilt("192.0.2.21:5060", "192.0.2.20:5060")),
        ("unknown default", spoilt("peer_timeout_ms = 2000", "default_to = \"servcie\"")),
        ("default and route", spoilt("peer_timeout_ms = 2000", "default_to = \"service\"")),
        ("gate said twice", spoilt("priority = 1 }", "priority = 1, allowed_media = [\"192.0.2.0/24\"] }")),
        (
            "patience without end",
            spoilt("[trunk.media]", "[trunk.health]\ntimeout_ms = 20000\n[trunk.media]"),
        ),
        ("down at once", spoilt("[trunk.media]", "[trunk.health]\ndown_after = 0\n[trunk.media]")),
        ("no such security", spoilt("[trunk.media]", "[trunk.media]\nsecurity = \"on\"")),
        ("no such suite", spoilt("[trunk.media]", "[trunk.media]\nsuites = [\"AES_CM_128_HMAC_SHA1\"]")),
        ("no suite", spoilt("[trunk.media]", "[trunk.media]\nsuites = []")),
        ("a service that wants a name", spoilt("peer_timeout_ms = 2000", "service = \"teams\"")),
        ("an unknown service", spoilt("peer_timeout_ms = 2000", "service = \"team\"")),
        ("no country code", spoilt("[trunk.media]", "[trunk.numbers]\ncountry = \"GB\"\n[trunk.media]")),
        (
            "national of nowhere",
            spoilt("[trunk.media]", "[trunk.numbers]\nformat = \"national\"\n[trunk.media]"),
        ),
        ("no calls at all", spoilt("[trunk.media]", "[trunk.limits]\ncalls = 0\n[trunk.media]")),
        ("no rate at all", spoilt("max_calls = 5000", "calls_per_second = 0")),
        ("a burst of nothing", spoilt("max_calls = 5000", "burst = 10")),
        (
            "an emergency to nowhere",
            spoilt("[cdr]", "[emergency]\nnumbers = [\"one-one-two\"]\nto = \"psap\"\n[cdr]"),
        ),
        (
            "tenants that cannot be told apart",
            spoilt(
                "[cdr]",
                "[[tenant]]\nname = \"a\"\nnumbers = [\"+44\"]\n[[tenant]]\nname = \"b\"\nnumbers = [\"+44\"]\n\
                 [[tenant]]\nnumbers = [\"0207946\"]\n[cdr]",
            ),
        ),
        ("tenants of nobody", spoilt("peer_timeout_ms = 2000", "tenants = true")),
        ("no network", spoilt("192.0.2.16/28", "192.0.2.16/33")),
        ("bits behind the prefix", spoilt("192.0.2.16/28", "192.0.2.17/28")),
        ("missing name", spoilt("name = \"service\"\n", "")),
        ("two of a name", spoilt("name = \"service\"", "name = \"operator\"")),
        ("unknown trunk", spoilt("to = \"service\"", "to = \"servcie\"")),
        ("no prefix", spoilt("prefix = \"+44\"", "prefix = \"+44x\"")),
        ("port range", spoilt("20000-39999", "39999-20000")),
        ("port range too small", spoilt("20000-39999", "20000-20004")),
        ("no cause", spoilt("dscp = 46", "dscp = 46\n\n[trunk.sip]\ncauses = { 34 = 0 }")),
        ("no refusal", spoilt("dscp = 46", "dscp = 46\n\n[trunk.sip]\ncauses = { 200 = 16 }")),
        (
            "digest without password",
            spoilt("dscp = 46", "dscp = 46\n\n[trunk.digest]\nrealm = \"core.example\""),
        ),
        ("session too short", spoilt("dscp = 46", "dscp = 46\n\n[trunk.sip]\nsession_expires_seconds = 30")),
        ("SIP among media", spoilt("udp:192.0.2.1:5060", "udp:192.0.2.1:20000")),
        ("other family", spoilt("198.51.100.50:5060", "[2001:db8::50]:5060")),
        (
            "overlapping listeners",
            spoilt("tcp:198.51.100.1:5060", "udp:0.0.0.0:5060\"\nadvertised = \"198.51.100.1"),
        ),
        ("any address", spoilt("tcp:198.51.100.1:5060", "tcp:0.0.0.0:5060")),
        ("ambiguous sources", {
            let same = spoilt("tcp:198.51.100.1:5060", "udp:192.0.2.1:5060");
            same.replacen("198.51.100.0/24", "192.0.2.16/28", 1)
        }),
        ("a guard that stops its own peers", spoilt("[cdr]", "[defence]\npackets_per_second = 10\n[cdr]")),
        ("denied for ever", spoilt("[cdr]", "[defence]\ndeny_seconds = 100000\n[cdr]")),
        ("nobody knows who is spared", spoilt("[cdr]", "[defence]\nspare = \"peer\"\n[cdr]")),
        ("more networks than fit", {
            let networks: Vec<_> =
                (0..16_400).map(|net| format!("\"10.{}.{}.0/24\"", net / 256, net % 256)).collect();
            spoilt("\"198.51.100.0/24\"", &networks.join(",\n"))
        }),
        ("admin port", spoilt("127.0.0.1:9090", "198.51.100.1:5060")),
        ("burst alone", spoilt("packets_per_second = 200\n", "")),
        ("nothing", String::new()),
    ];
    let mut all = String::new();
    for (case, text) in cases {
        all.push_str(&format!("## {case}\n{}\n", told(&text)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn several_mistakes_are_told_at_once_in_order_of_their_lines() {
    let text = spoilt("max_calls = 5000", "max_calls = \"many\"\nworker = 2");
    let text = text.replacen("dscp = 46", "dscp = \"EF\"", 1).replacen("[media]", "[medium]", 1);
    let errors = parse(&text).unwrap_err();
    let fields: Vec<_> = errors.errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["[node] max_calls", "[node]", "the file", "[[trunk]] media"]);
    let lines: Vec<_> = errors.errors.iter().map(|error| error.line).collect();
    assert!(lines.is_sorted() && lines.iter().all(Option::is_some));

    let text = spoilt("udp:192.0.2.1:5060", "udp:nowhere").replacen("192.0.2.21:5060", "other example", 1);
    assert_eq!(parse(&text).unwrap_err().errors.len(), 2);
}

#[test]
fn no_spoilt_file_panics_or_passes_unseen() {
    // Every line dropped, doubled or cut in the middle.
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    for at in 0..lines.len() {
        let join = |middle: &[&str]| [&lines[..at], middle, &lines[at + 1..]].concat().join("\n");
        let cut = lines[at].get(..lines[at].len() / 2).unwrap_or("");
        for text in [join(&[]), join(&[lines[at], lines[at]]), join(&[cut])] {
            if let Err(errors) = parse(&text) {
                assert!(!errors.is_empty() && errors.errors.iter().all(|error| !error.fix.is_empty()));
            }
        }
    }
}

#[test]
fn a_missing_file_is_told_with_the_way_to_begin() {
    let told = Config::load(Path::new("/nonexistent/causeway.toml")).unwrap_err().to_string();
    assert!(told.contains("/nonexistent/causeway.toml") && told.contains("check --example"), "{told}");
}

#[test]
fn a_reload_may_change_trunks_but_not_what_stands_at_start() {
    let running = parse(EXAMPLE).unwrap();
    let peer = parse(&spoilt("192.0.2.21:5060", "192.0.2.22:5060")).unwrap();
    assert!(running.needs_restart(&peer).is_empty());
    let spared = parse(&spoilt("[cdr]", "[defence]\nspare = \"peers\"\n[cdr]")).unwrap();
    assert!(running.needs_restart(&spared).is_empty());
    let port = parse(&spoilt("udp:192.0.2.1:5060", "udp:192.0.2.1:5070")).unwrap();
    assert_eq!(running.needs_restart(&port), ["[[trunk]] listen"]);
    let media = parse(&spoilt("20000-39999", "20000-29999").replacen("gw1", "gw2", 1)).unwrap();
    assert_eq!(running.needs_restart(&media), ["[node] name", "[media]"]);
}

#[test]
fn the_reference_describes_every_field_and_no_other() {
    let reference = include_str!("../../../docs/configuration.md");
    let sections: &[(&str, &[&str])] = &[
        ("[node]", fields_of::<file::Node>()),
        ("[dataplane]", fields_of::<file::Dataplane>()),
        ("[[interface]]", fields_of::<file::Interface>()),
        ("[media]", fields_of::<file::Media>()),
        ("[sip]", fields_of::<file::Sip>()),
        ("[connections]", fields_of::<file::Connections>()),
        ("[defence]", fields_of::<file::Defence>()),
        ("[dns]", fields_of::<file::Dns>()),
        ("[admin]", fields_of::<file::Admin>()),
        ("[cdr]", fields_of::<file::Cdr>()),
        ("[capture]", fields_of::<file::Capture>()),
        ("[[trunk]]", fields_of::<file::Trunk>()),
        ("peers", fields_of::<file::Peer>()),
        ("[[tenant]]", fields_of::<file::Tenant>()),
        ("[emergency]", fields_of::<file::Emergency>()),
        ("[trunk.numbers]", fields_of::<file::TrunkNumbers>()),
        ("[trunk.registration]", fields_of::<file::TrunkRegistration>()),
        ("[trunk.callers]", fields_of::<file::TrunkCallers>()),
        ("[trunk.limits]", fields_of::<file::CallLimits>()),
        ("[trunk.health]", fields_of::<file::TrunkHealth>()),
        ("[trunk.media]", fields_of::<file::TrunkMedia>()),
        ("[trunk.tones]", fields_of::<file::TrunkTones>()),
        ("[trunk.sip]", fields_of::<file::TrunkSip>()),
        ("[trunk.tls]", fields_of::<file::TrunkTls>()),
        ("[[trunk.rule]]", fields_of::<file::Rule>()),
        ("when", fields_of::<file::Condition>()),
        ("do", fields_of::<file::Action>()),
        ("[[route]]", fields_of::<file::Route>()),
    ];
    for (section, fields) in sections {
        let heading = format!("## `{section}`");
        let part = reference.split_once(&heading).unwrap_or_else(|| panic!("no heading {heading}")).1;
        let part = part.split("\n## ").next().unwrap();
        let documented: BTreeSet<&str> =
            part.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let declared: BTreeSet<&str> = fields.iter().copied().collect();
        assert_eq!(documented, declared, "docs/configuration.md, {heading}");
    }
}

/// The field names that serde knows of a struct.
fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Probe<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Probe<'_> {
        type Error = de::value::Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            _visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            Err(de::Error::custom("only the names are wanted"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("not a struct"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut fields: &'static [&'static str] = &[];
    let _ = T::deserialize(Probe(&mut fields));
    assert!(!fields.is_empty());
    fields
}
