//! What Teams, Zoom and an operator's core hear of us, each in its own way.

use gateway_userspace::policy::{Advertised, NumberFormat, Service, Trunk};
use gateway_userspace::sdp::MediaSecurity;
use gateway_userspace::sip::message::{Message, Request, parse};
use support::stage::far_end::FarEnd;
use support::stage::scene::{ALICE, BOB, Scene, Stage};
use support::stage::session::Session;

const NAME: &str = "sbc1.corp.example:5060";

pub(super) fn toward(trunk: &mut Trunk, service: Service) {
    *trunk = trunk.clone().toward(service);
    // Security has tests of its own.
    trunk.media.security.security = MediaSecurity::Off;
    trunk.advertised = Some(Advertised { host: "sbc1.corp.example".into(), port: 5060 });
}

pub(super) fn teams() -> Stage {
    let far_end = Some(FarEnd::new(Service::Teams));
    Stage { service: |trunk| toward(trunk, Service::Teams), far_end, ..Stage::default() }
}

/// What the gateway sent to Bob's side that begins so.
pub(super) fn to_bob(scene: &Scene, start: &str) -> Vec<String> {
    let to_bob = |text: &&str| text.starts_with(start) && text.contains("198.18.0.20");
    scene.tap().sent().filter(to_bob).map(str::to_owned).collect()
}

fn invite(scene: &Scene) -> Request {
    let text = to_bob(scene, "INVITE ").remove(0);
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

// Statements 34, 37, 38, 40, 41, 47.
#[test]
fn an_invite_to_teams_names_us_by_name_and_numbers_as_telephone_numbers() {
    let mut scene = Scene::new(teams());
    scene.alice().calls_with = "Record-Route: <sip:198.51.100.9;lr>\r\n";
    scene.talk();
    let request = invite(&scene);
    assert_eq!(request.uri.to_string(), "sip:+12025550147@198.18.0.20:5060;user=phone");
    assert_eq!(request.head.to.uri.to_string(), "sip:+12025550147@198.18.0.20:5060;user=phone");
    assert_eq!(request.head.from.uri.to_string(), format!("sip:+441632960123@{NAME};user=phone"));
    let contacts: Vec<String> = request.head.contact.addresses().iter().map(ToString::to_string).collect();
    assert_eq!(contacts, [format!("<sip:{NAME}>")]);
    assert_eq!(request.head.via[0].host.to_string(), "sbc1.corp.example");
    let text = to_bob(&scene, "INVITE ").remove(0);
    assert!(
        text.contains(concat!("\r\nX-MS-SBC: Causeway/Gateway/", env!("CARGO_PKG_VERSION"), "\r\n")),
        "{text}"
    );
    for text in to_bob(&scene, "") {
        assert!(!text.contains("\r\nReplaces:") && !text.contains("\r\nRecord-Route:"), "{text}");
    }
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 146.
#[test]
fn descriptions_to_teams_have_one_audio_line_and_attributes_of_a_closed_list() {
    const ALLOWED: [&str; 8] =
        ["rtpmap", "fmtp", "ptime", "maxptime", "sendrecv", "sendonly", "recvonly", "rtcp-mux"];
    let mut scene = Scene::new(teams());
    let mut session = scene.phones[ALICE].session.clone();
    session.attributes = "a=silenceSupp:off - - - -\r\na=ssrc:1 cname:alice\r\na=msid:a b\r\na=label:1\r\n\
        a=X-made-up:Alice\r\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=mid:audio\r\n\
        a=rtcp-fb:* nack\r\na=rtcp-xr:voip-metrics\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\nm=video 0 RTP/AVP 34\r\n";
    scene.phones[ALICE].session = session;
    scene.talk();
    let mut seen = 0;
    for text in to_bob(&scene, "INVITE ") {
        let (_, description) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            description.lines().filter(|line| line.starts_with("m=audio ")).count(),
            1,
            "{description}"
        );
        for line in description.lines().filter_map(|line| line.strip_prefix("a=")) {
            let name = line.split(':').next().unwrap();
            assert!(ALLOWED.contains(&name), "a={line}");
            seen += 1;
        }
        assert!(!description.contains("m=video"), "{description}");
    }
    assert!(seen > 3);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statements 37, 39, 47.
#[test]
fn every_message_of_a_dialog_with_teams_has_the_same_contact() {
    let mut scene = Scene::new(teams());
    scene.talk();
    scene.reinvites(ALICE, Session::at("198.51.100.12", 4_100));
    scene.run(2_000);
    scene.reinvites(BOB, Session::at("198.18.0.22", 4_200));
    scene.run(2_000);
    scene.hangs_up(ALICE);
    scene.run(1_000);
    let mut seen = 0;
    for text in to_bob(&scene, "") {
        for line in text.lines().filter(|line| line.starts_with("Contact:")) {
            assert_eq!(line, format!("Contact: <sip:{NAME}>"), "{text}");
            seen += 1;
        }
        let is_request = !text.starts_with("SIP/2.0 ");
        assert_eq!(is_request, text.contains("\r\nX-MS-SBC: "), "{text}");
    }
    assert!(seen >= 3, "INVITE, re-INVITE and the 200 of theirs have one: {seen}");
    scene.ends();
}

// Statements 53, 54.
#[test]
fn what_only_an_operator_is_to_know_stays_on_its_side() {
    let names = [
        "P-Charging-Vector",
        "P-Access-Network-Info",
        "P-Served-User",
        "P-Asserted-Service",
        "P-Visited-Network-ID",
        "History-Info",
        "Diversion",
    ];
    for service in [Service::Teams, Service::Zoom] {
        let stage = match service {
            Service::Zoom => Stage { service: |trunk| toward(trunk, Service::Zoom), ..Stage::default() },
            _ => teams(),
        };
        let mut scene = Scene::new(stage);
        let lines: Vec<String> =
            names.iter().map(|name| format!("{name}: <sip:core.example>;x=1\r\n")).collect();
        scene.alice().calls_with = lines.concat().leak();
        scene.talk();
        for text in to_bob(&scene, "") {
            assert!(names.iter().all(|name| !text.contains(&format!("\r\n{name}:"))), "{text}");
            assert!(!text.contains("core.example"), "{text}");
        }
        scene.hangs_up(ALICE);
        scene.ends();
    }
}

// Statements 90, 91.
#[test]
fn what_teams_says_for_itself_is_tolerated_and_stays_on_its_side() {
    let mut scene = Scene::new(teams());
    let names = ["X-MS-UserLocation", "X-MS-MediaPath", "X-MS-UserSite", "X-MS-TenantID", "Referred-By"];
    let lines: Vec<String> = names.iter().map(|name| format!("{name}: <sip:secret.example>\r\n")).collect();
    scene.bob().calls_with = lines.concat().leak();
    scene.bob_calls_alice();
    scene.run(5_000);
    assert!(scene.phones[ALICE].is_talking());
    for text in scene.tap().sent() {
        assert!(names.iter().all(|name| !text.contains(&format!("\r\n{name}:"))), "{text}");
        assert!(!text.contains("secret.example"), "{text}");
    }
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statements 40, 82, 212.
#[test]
fn national_numbers_of_an_operator_reach_the_service_in_e164_and_back() {
    let operator = |trunk: &mut Trunk| {
        trunk.numbers.country = Some("44".into());
        (trunk.numbers.national_prefix, trunk.numbers.international_prefix) = ("0".into(), "00".into());
        trunk.numbers.format = NumberFormat::National;
    };
    let mut scene = Scene::new(Stage { operator, ..teams() });
    scene.alice_dials("0012025550147");
    scene.run(5_000);
    assert_eq!(invite(&scene).uri.to_string(), "sip:+12025550147@198.18.0.20:5060;user=phone");
    scene.hangs_up(ALICE);
    scene.run(1_000);
    scene.bob_calls_alice();
    scene.run(5_000);
    let to_alice = scene.tap().sent().find(|text| text.starts_with("INVITE sip:0")).map(str::to_owned);
    let to_alice = to_alice.expect("an INVITE in the national format");
    assert!(to_alice.starts_with("INVITE sip:01632960123@198.51.100.10:5060 SIP/2.0\r\n"), "{to_alice}");
    assert!(!to_alice.contains("user=phone") && !to_alice.contains("X-MS-SBC"), "{to_alice}");
    scene.hangs_up(ALICE);
    scene.ends();
}

/// As Teams offers: more than a telephone network has.
const OF_TEAMS: [(u8, &str); 17] = [
    (104, "SILK/16000"),
    (103, "SILK/8000"),
    (105, "opus/48000/2"),
    (9, "G722/8000"),
    (0, "PCMU/8000"),
    (8, "PCMA/8000"),
    (18, "G729/8000"),
    (111, "SIREN/16000"),
    (114, "x-msrta/16000"),
    (115, "x-msrta/8000"),
    (112, "G7221/16000"),
    (116, "AAL2-G726-32/8000"),
    (119, "AAL2-G726-24/8000"),
    (117, "iLBC/8000"),
    (13, "CN/8000"),
    (118, "CN/16000"),
    (101, "telephone-event/8000"),
];

const ICE_AND_KEYS: &str = "a=fmtp:104 useinbandfec=1; usedtx=0; maxaveragebitrate=30000; sprop-stereo=0\r\n\
    a=fmtp:103 useinbandfec=1; usedtx=0; maxaveragebitrate=20000; sprop-stereo=0\r\n\
    a=fmtp:105 maxplaybackrate=48000; maxaveragebitrate=40000; useinbandfec=1; usedtx=0; stereo=0\r\n\
    a=fmtp:112 bitrate=24000\r\na=fmtp:117 mode=30\r\na=fmtp:18 annexb=no\r\n\
    a=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg8hhYasd88f\r\n\
    a=candidate:1 1 UDP 2130706431 198.18.0.21 4000 typ host\r\n\
    a=candidate:2 1 UDP 1694498815 198.18.0.99 4000 typ srflx raddr 198.18.0.21 rport 4000\r\n\
    a=crypto:0 AES_CM_128_HMAC_SHA1_32 inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA|2^31\r\n\
    a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA|2^31\r\n";

/// What of Teams' INVITE with this offer, so many octets long, reaches Alice.
fn offered(
    operator: fn(&mut Trunk),
    formats: &[(u8, &'static str)],
    attributes: &'static str,
) -> (usize, String) {
    let mut scene = Scene::new(Stage { operator, ..teams() });
    scene.bob().session = scene.phones[BOB].session.with_formats(formats);
    scene.bob().session.attributes = attributes;
    scene.bob().calls_with = "User-Agent: Microsoft.PSTNHub.SIPProxy v.2026.1.1.1 i.EUWE.5\r\n";
    scene.run(1_000);
    scene.bob_calls_alice();
    scene.run(5);
    let sent = scene.tap().last_from(scene.phones[BOB].address).len();
    scene.run(5_000);
    assert!(scene.phones[ALICE].is_talking(), "{}", scene.ladder.join("\n"));
    let invite = scene.phones[ALICE].came("INVITE ").next().expect("an INVITE").to_owned();
    scene.hangs_up(ALICE);
    scene.ends();
    (sent, invite)
}

// Statement 93.
#[test]
fn a_large_invite_of_teams_reaches_an_operator_over_udp_without_ice_keys_and_rare_codecs() {
    let (sent, invite) = offered(|_| {}, &OF_TEAMS, ICE_AND_KEYS);
    assert!(sent > 1_500, "{sent}");
    assert!(invite.len() <= 1_300, "{} octets: {invite}", invite.len());
    for word in ["ice-", "candidate", "crypto", "SILK", "opus", "SIREN", "x-msrta", "iLBC"] {
        assert!(!invite.contains(word), "{word} in {invite}");
    }
    for word in ["G722/8000", "PCMU/8000", "PCMA/8000", "G729/8000", "CN/8000", "telephone-event/8000"] {
        assert!(invite.contains(word), "no {word} in {invite}");
    }
    let (_, all) = offered(|trunk| trunk.sip.slim_when_large = false, &OF_TEAMS, ICE_AND_KEYS);
    assert!(all.len() > 1_300 && all.contains("SILK/16000") && !all.contains("candidate"), "{all}");
}

#[test]
fn an_invite_that_fits_a_datagram_keeps_its_codecs() {
    let (_, invite) = offered(|_| {}, &[(104, "SILK/16000"), (8, "PCMA/8000")], "");
    assert!(invite.contains("SILK/16000") && invite.contains("PCMA/8000"), "{invite}");
}
