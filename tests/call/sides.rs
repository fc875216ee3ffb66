//! What one side says and what the other hears of it: header fields that stay where they are, holds, codecs, and
//! media that stays in its place.

use support::stage::scene::{ALICE, BOB, Scene, Stage};

/// Names of the header fields in what was said.
fn header_names<'a>(said: impl Iterator<Item = &'a str>) -> Vec<String> {
    let heads = said.flat_map(|text| text.split("\r\n\r\n").next());
    heads
        .flat_map(str::lines)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.to_lowercase())
        .collect()
}

// Statements 53, 54.
#[test]
fn what_the_operators_network_says_to_itself_does_not_reach_the_service() {
    let mut scene = Scene::new(Stage::default());
    scene.alice().calls_with = "P-Charging-Vector: icid-value=Alice-1;orig-ioi=operator.example\r\n\
        P-Access-Network-Info: 3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=Alice\r\n\
        P-Served-User: <sip:Alice@operator.example>;sescase=orig\r\n\
        P-Asserted-Service: urn:urn-7:3gpp-service.ims.icsi.mmtel\r\n\
        History-Info: <sip:+441632960999@operator.example?Reason=SIP%3Bcause%3D302>;index=1\r\n\
        Route: <sip:Alice-internal@192.0.2.1:5060;lr>\r\n";
    scene.talk();
    let names = header_names(scene.tap().said_to_service());
    for name in ["p-charging-vector", "p-access-network-info", "p-served-user", "p-asserted-service", "route"]
    {
        assert!(!names.contains(&name.to_owned()), "{name} went to the service");
    }
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statements 90, 91.
#[test]
fn what_teams_says_to_itself_is_tolerated_and_does_not_reach_the_operator() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().calls_with = "Referred-By: <sip:Bob@sip.pstnhub.example;x-m=1>\r\n\
        X-MS-UserLocation: internal\r\nX-MS-MediaPath: proxy.example, bypass.example\r\nX-MS-UserSite: Bobtown\r\n";
    let now = scene.now;
    scene.bob().call(now, "+441632960001", true);
    scene.run(5_000);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    let names = header_names(scene.tap().said_to_operator());
    assert!(!names.iter().any(|name| name.starts_with("x-ms-")), "{names:?}");
    scene.hangs_up(BOB);
    scene.ends();
}

// Statement 86.
#[test]
fn opaque_parameters_of_a_contact_come_back_in_requests_of_the_dialog() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().contact_parameters = ";x-i=0a6f-Bob;x-c=9%2f7:8080;x-flag";
    let now = scene.now;
    scene.bob().call(now, "+441632960001", true);
    scene.run(5_000);
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("inactive"));
    scene.run(2_000);
    scene.hangs_up(ALICE);
    scene.run(1_000);
    let requests: Vec<_> = scene
        .tap()
        .said_to_service()
        .filter_map(|text| text.lines().next())
        .filter(|line| line.ends_with(" SIP/2.0"))
        .map(str::to_owned)
        .collect();
    assert!(requests.iter().any(|line| line.starts_with("INVITE ")), "{requests:?}");
    assert!(requests.iter().any(|line| line.starts_with("BYE ")), "{requests:?}");
    for line in requests {
        let uri = line.split(' ').nth(1).unwrap_or_default();
        assert_eq!(uri, "sip:Bob@198.18.0.20:5060;x-i=0a6f-Bob;x-c=9%2f7:8080;x-flag", "{line}");
    }
    scene.ends();
}

// Statement 96.
#[test]
fn each_form_of_hold_is_answered_by_its_counterpart() {
    for (offered, answered) in [("sendonly", "recvonly"), ("inactive", "inactive")] {
        let mut scene = Scene::new(Stage::default());
        scene.talk();
        let session = scene.phones[ALICE].session.directed(offered);
        scene.reinvites(ALICE, session);
        scene.run(2_000);
        let answer = scene.tap().said_to_operator().last().unwrap_or_default().to_owned();
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
        assert!(answer.contains(&format!("a={answered}\r\n")), "{answer}");
        scene.hangs_up(ALICE);
        scene.ends();
    }
}

// Statement 97.
#[test]
fn the_hold_of_old_phones_never_reaches_the_service_as_an_address_of_zeros() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    for connection in [Some("0.0.0.0"), None, Some("0.0.0.0")] {
        let mut session = scene.phones[ALICE].session.clone();
        session.connection = connection;
        scene.reinvites(ALICE, session);
        scene.run(2_000);
        assert_eq!(scene.phones[ALICE].answers.last().map(String::as_str), Some("INVITE 200"));
    }
    let said: Vec<_> = scene.tap().said_to_service().collect();
    assert!(said.iter().filter(|text| text.contains("a=sendonly")).count() >= 2, "the holds went on");
    assert!(!said.iter().any(|text| text.contains("0.0.0.0")), "{said:?}");
    scene.hangs_up(BOB);
    scene.ends();
}

// Statements 99, 100.
#[test]
fn ten_holds_from_each_side_end_in_audio_both_ways_at_the_same_place() {
    use gateway_userspace::base::id::Side;
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    for holder in [ALICE, BOB] {
        let session = scene.phones[holder].session.clone();
        for time in 0..10 {
            scene.reinvites(holder, session.directed("inactive"));
            scene.run(1_000);
            scene.reinvites(holder, session.clone());
            scene.run(1_000);
            for side in [Side::Caller, Side::Callee] {
                let flow = scene.flows.media_of(side).expect("media is relayed");
                assert!(!flow.muted && flow.rtp.is_some(), "{side:?} after hold {time} of {holder}");
            }
        }
    }
    let place = |text: &str| {
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).map(str::to_owned);
        Some((line("c=")?, line("m=audio ")?.split(' ').nth(1)?.to_owned()))
    };
    let mut places: Vec<_> = scene.tap().said_to_service().filter_map(place).collect();
    assert!(places.len() > 40, "an offer or answer for each change");
    places.dedup();
    assert_eq!(places, [("c=IN IP4 203.0.113.2".to_owned(), "20000".to_owned())]);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 152.
#[test]
fn a_codec_that_is_offered_alone_is_the_codec() {
    for (number, codec) in [(8, "PCMA/8000"), (0, "PCMU/8000"), (9, "G722/8000"), (18, "G729/8000")] {
        let mut scene = Scene::new(Stage::default());
        let every = [(18, "G729/8000"), (9, "G722/8000"), (0, "PCMU/8000"), (8, "PCMA/8000")];
        scene.bob().session = scene.phones[BOB].session.with_formats(&every);
        scene.alice().session = scene.phones[ALICE].session.with_formats(&[(number, codec)]);
        scene.talk();
        let offer =
            scene.tap().said_to_service().find(|text| text.starts_with("INVITE ")).unwrap_or_default();
        assert!(offer.contains(&format!("RTP/AVP {number}\r\n")), "{offer}");
        scene.hangs_up(ALICE);
        let records = scene.ends().records;
        assert_eq!(records[0].caller_codec.as_deref(), Some(codec));
        assert_eq!(records[0].callee_codec.as_deref(), Some(codec));
    }
}
