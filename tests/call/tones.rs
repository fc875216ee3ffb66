//! What callers, and those who wait for a transfer, hear of the gateway: when it begins, what it is, and when it ends.

use gateway_userspace::base::id::Side;
use gateway_userspace::media::Tones;
use gateway_userspace::media::bridge::PlayUntil;
use gateway_userspace::media::plan::{Bridged, GateSpec};
use gateway_userspace::policy::{ReferPolicy, Trunk};
use gateway_userspace::signal::tone::{Announcement, Plan, Signal, Source};
use std::sync::Arc;
use std::time::Duration;
use support::stage::phone::Reaction::{self, Describe, Reliable, Say};
use support::stage::scene::{ALICE, BOB, CAROL, Scene, Stage};
use support::stage::session::formats_of;

fn tones(country: &str) -> Tones {
    Tones::of(Plan::of_country(country).expect("a country of the table"))
}

/// An operator whose network does not ring its callers by itself.
fn silent_network(trunk: &mut Trunk) {
    trunk.tones = Some(Arc::new(Tones { on_ringing: true, ..tones("FR") }));
}

/// One that does, and is rung into silence only.
fn usual(trunk: &mut Trunk) {
    trunk.tones = Some(Arc::new(tones("US")));
}

fn scene(operator: fn(&mut Trunk)) -> Scene {
    Scene::new(Stage { operator, ..Stage::default() })
}

/// The country whose ringback a side hears now.
fn hears(scene: &Scene, side: Side) -> Option<&'static str> {
    let (source, ..) = scene.flows.playing_to(side)?;
    let Source::Cadence(cadence) = source else { return Some("an announcement") };
    let of = |country: &&str| {
        Plan::of_country(country).is_some_and(|plan| plan.cadence(Signal::Ringback) == cadence)
    };
    Some(Plan::countries().find(of).unwrap_or("nobody's"))
}

fn answers(scene: &Scene, status: &str) -> Vec<String> {
    scene.phones[ALICE].came(&format!("SIP/2.0 {status}")).map(str::to_owned).collect()
}

fn bridged(scene: &Scene) -> Option<Bridged> {
    scene.flows.media_of(Side::Caller)?.bridge.as_ref().map(|bridge| bridge.why)
}

// Statements 57, 69, 166.
#[test]
fn a_caller_whose_network_does_not_ring_is_rung_from_the_180_to_the_200() {
    let mut scene = scene(silent_network);
    scene.bob().on_invite = vec![(50, Say(180)), (3_000, Describe(200))];
    scene.alice_calls();
    scene.run(150);
    assert!(answers(&scene, "180").is_empty());
    let told = answers(&scene, "183").pop().expect("early media");
    assert_eq!(formats_of(&told)[0], (8, "PCMA/8000".to_owned()), "{told}");
    assert_eq!(hears(&scene, Side::Caller), Some("FR"));
    assert_eq!(bridged(&scene), Some(Bridged::Tones));
    let (_, until, since) = scene.flows.playing_to(Side::Caller).cloned().expect("ringback");
    assert_eq!(until, PlayUntil::Speech);
    assert!(scene.now.since(since).as_millis() <= 100, "it begins with the 183");
    assert_eq!(scene.flows.media_of(Side::Caller).and_then(|flow| flow.rtp), None, "Bob is sent nothing yet");
    scene.run(2_700);
    assert_eq!(hears(&scene, Side::Caller), Some("FR"));
    scene.run(300);
    assert!(scene.phones[BOB].is_talking());
    assert_eq!((hears(&scene, Side::Caller), bridged(&scene)), (None, None));
    let offers = scene.phones[ALICE].came("INVITE ").count();
    assert_eq!(offers, 0, "what the 183 said holds");
    scene.hangs_up(ALICE);
    assert_eq!(scene.ends().records[0].sip_status, 200);
}

// Statement 57.
#[test]
fn a_caller_whose_network_rings_gets_180_and_so_does_one_that_cannot_be_played_to() {
    let deaf = Stage { operator: silent_network, plays: false, ..Stage::default() };
    for mut scene in [scene(usual), Scene::new(deaf)] {
        scene.alice_calls();
        scene.run(500);
        assert_eq!((answers(&scene, "180").len(), answers(&scene, "183").len()), (1, 0));
        assert_eq!(hears(&scene, Side::Caller), None);
        scene.run(3_000);
        scene.hangs_up(ALICE);
        scene.ends();
    }
}

// Statements 68, 166.
#[test]
fn early_media_that_was_announced_and_does_not_come_becomes_ringback() {
    let mut scene = scene(usual);
    scene.flows.never_spoke = [true; 2];
    scene.bob().on_invite = vec![(50, Describe(183)), (6_000, Describe(200))];
    scene.alice_calls();
    scene.run(2_000);
    assert_eq!(hears(&scene, Side::Caller), None);
    scene.run(150);
    assert_eq!(hears(&scene, Side::Caller), Some("US"));
    assert_eq!(answers(&scene, "183").len(), 1, "the caller has its description");
    scene.run(5_000);
    assert_eq!((hears(&scene, Side::Caller), bridged(&scene)), (None, None));
    scene.hangs_up(BOB);
    scene.ends();
}

// Statement 68.
#[test]
fn early_media_that_comes_is_left_alone() {
    let mut scene = scene(usual);
    scene.bob().on_invite = vec![(50, Describe(183)), (6_000, Describe(200))];
    scene.alice_calls();
    scene.run(5_000);
    assert_eq!((hears(&scene, Side::Caller), bridged(&scene)), (None, None));
    scene.run(5_000);
    scene.hangs_up(BOB);
    scene.ends();
}

// Statement 68.
#[test]
fn progress_without_a_description_becomes_ringback_and_the_caller_is_told_where_it_comes_from() {
    let mut scene = scene(usual);
    scene.flows.never_spoke = [true; 2];
    scene.bob().on_invite = vec![(50, Say(183)), (6_000, Describe(200))];
    scene.alice_calls();
    scene.run(2_200);
    assert_eq!(hears(&scene, Side::Caller), Some("US"));
    let told = answers(&scene, "183");
    assert_eq!(told.len(), 2);
    assert!(told[1].contains("\r\nm=audio "), "{}", told[1]);
    scene.run(6_000);
    assert!(scene.phones[ALICE].is_talking());
    scene.hangs_up(BOB);
    scene.ends();
}

// Statement 69.
#[test]
fn ringback_gives_way_to_the_first_that_the_callee_says_and_does_not_come_back() {
    let mut scene = scene(silent_network);
    scene.bob().on_invite =
        vec![(50, Say(180)), (1_000, Describe(183)), (3_000, Say(180)), (6_000, Describe(200))];
    scene.alice_calls();
    scene.run(1_200);
    assert_eq!(hears(&scene, Side::Caller), Some("FR"), "183 is a promise, and no media");
    assert_eq!(answers(&scene, "183").len(), 2);
    scene.gives_way(Side::Caller);
    assert_eq!((hears(&scene, Side::Caller), bridged(&scene)), (None, None), "relayed in the kernel again");
    scene.run(3_000);
    assert_eq!(hears(&scene, Side::Caller), None);
    scene.run(5_000);
    assert!(scene.phones[ALICE].is_talking());
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 69.
#[test]
fn a_refusal_and_a_cancel_end_ringback() {
    for refused in [true, false] {
        let mut scene = scene(silent_network);
        scene.bob().on_invite =
            if refused { vec![(50, Say(180)), (1_000, Say(486))] } else { vec![(50, Say(180))] };
        scene.alice_calls();
        scene.run(500);
        assert_eq!(hears(&scene, Side::Caller), Some("FR"));
        if refused {
            scene.run(600);
        } else {
            scene.cancels(ALICE);
            scene.run(100);
        }
        assert!(scene.flows.is_empty());
        scene.run(1_000);
        scene.ends();
    }
}

#[test]
fn ringback_for_a_caller_with_reliable_responses_is_described_once_and_for_good() {
    let operator = |trunk: &mut Trunk| {
        silent_network(trunk);
        trunk.sip.reliable_provisional = gateway_userspace::policy::ReliableProvisional::Supported;
    };
    let mut scene = scene(operator);
    scene.alice().calls_with = "Supported: 100rel\r\n";
    scene.bob().on_invite = vec![(50, Say(180)), (500, Reliable(180, false)), (3_000, Describe(200))];
    scene.alice_calls();
    scene.run(2_000);
    assert_eq!(hears(&scene, Side::Caller), Some("FR"));
    let told = answers(&scene, "183");
    assert!(told[0].contains("\r\nRSeq: ") && told[0].contains("m=audio "), "{}", told[0]);
    assert!(answers(&scene, "180").is_empty());
    scene.run(3_000);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    assert_eq!(hears(&scene, Side::Caller), None);
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn a_callee_that_takes_another_codec_than_the_ringback_had_is_offered_to_the_caller_again() {
    let mut scene = scene(silent_network);
    scene.alice().session.formats = vec![(8, "PCMA/8000"), (0, "PCMU/8000")];
    scene.bob().session.formats = vec![(0, "PCMU/8000")];
    scene.alice_calls();
    scene.run(5_000);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    let types: Vec<_> =
        scene.flows.iter().flat_map(|flow| &flow.payload_types).map(|one| (one.near, one.far)).collect();
    assert_eq!(types, [(0, 0), (0, 0)]);
    assert_eq!(bridged(&scene), None);
    scene.hangs_up(ALICE);
    scene.ends();
}

fn sends_back(trunk: &mut Trunk) {
    trunk.sip.refer = ReferPolicy::SendBack;
}

/// Alice and Bob talk; Bob transfers Alice to Carol, whose phone rings.
fn transferred(carol: Vec<(u64, Reaction)>) -> Scene {
    let mut scene = Scene::new(Stage { operator: usual, service: sends_back, ..Stage::default() });
    scene.talk();
    scene.carol().on_invite = carol;
    scene.refers(BOB, "<sip:carol@198.18.0.30:5060>");
    scene.run(30);
    assert_eq!(hears(&scene, Side::Caller), None, "nobody rings yet");
    scene
}

// Statement 121.
#[test]
fn who_waits_for_a_transfer_hears_ringback_while_the_target_rings() {
    let mut scene = transferred(vec![(100, Say(180)), (3_000, Describe(200))]);
    scene.run(150);
    assert_eq!(hears(&scene, Side::Caller), Some("US"));
    let (_, until, _) = scene.flows.playing_to(Side::Caller).cloned().expect("ringback");
    assert_eq!(until, PlayUntil::Stopped, "what Bob says meanwhile is for nobody's ears");
    scene.run(2_800);
    assert_eq!(hears(&scene, Side::Caller), Some("US"));
    scene.run(200);
    assert!(scene.phones[CAROL].is_talking());
    assert_eq!((hears(&scene, Side::Caller), bridged(&scene)), (None, None));
    scene.hangs_up(BOB);
    scene.hangs_up(ALICE);
    scene.run(1_000);
    scene.ends();
}

// Statement 121.
#[test]
fn ringback_goes_on_when_the_transferor_leaves_and_nothing_goes_to_it_any_more() {
    let mut scene = transferred(vec![(100, Say(180)), (3_000, Describe(200))]);
    scene.run(500);
    scene.hangs_up(BOB);
    scene.run(500);
    assert_eq!(hears(&scene, Side::Caller), Some("US"));
    let to_bob = scene.flows.media_of(Side::Caller).and_then(|flow| flow.rtp);
    let from_bob = scene.flows.media_of(Side::Callee).expect("the flow that leads to Alice");
    assert_eq!(to_bob, None);
    assert!(matches!(from_bob.gate, GateSpec::Exact(at) if at.port() == 0), "{:?}", from_bob.gate);
    assert!(from_bob.payload_types.is_empty() && from_bob.rtp.is_some());
    scene.run(3_000);
    assert!(scene.phones[CAROL].is_talking() && scene.phones[ALICE].is_talking());
    assert_eq!((hears(&scene, Side::Caller), bridged(&scene)), (None, None));
    scene.hangs_up(ALICE);
    scene.run(1_000);
    scene.ends();
}

// Statement 121.
#[test]
fn ringback_ends_with_a_transfer_that_fails_and_the_two_hear_each_other_again() {
    let mut scene = transferred(vec![(100, Say(180)), (1_000, Say(486))]);
    scene.run(500);
    assert_eq!(hears(&scene, Side::Caller), Some("US"));
    scene.run(700);
    assert_eq!((hears(&scene, Side::Caller), bridged(&scene)), (None, None));
    assert!(scene.phones[BOB].is_talking());
    scene.hangs_up(ALICE);
    scene.run(1_000);
    scene.ends();
}

/// Callers hear why they are refused: a tone for three seconds, an announcement for 404.
fn explains(trunk: &mut Trunk) {
    let samples = [0u8; 2 * 8_000];
    let announcement = Announcement::read(&wav(&samples)).expect("a WAV file");
    let on_refusal = Some(Duration::from_secs(3));
    trunk.tones =
        Some(Arc::new(Tones { on_refusal, announcements: [(404, announcement)].into(), ..tones("US") }));
}

/// A file of these octets, 8000 samples of 16 bits a second.
fn wav(samples: &[u8]) -> Vec<u8> {
    let mut file = b"RIFF".to_vec();
    file.extend((36 + samples.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data");
    file.extend((samples.len() as u32).to_le_bytes());
    file.extend(samples);
    file
}

fn source(scene: &Scene) -> Option<String> {
    let plan = Plan::of_country("US").expect("a country");
    let (source, ..) = scene.flows.playing_to(Side::Caller)?;
    Some(match source {
        Source::Cadence(cadence) if cadence == plan.cadence(Signal::Busy) => "busy".into(),
        Source::Cadence(cadence) if cadence == plan.cadence(Signal::Congestion) => "congestion".into(),
        Source::Cadence(_) => "another tone".into(),
        Source::Announcement(announcement) => format!("{announcement:?}"),
    })
}

// Statement 166.
#[test]
fn a_caller_hears_busy_or_congestion_or_an_announcement_before_it_is_refused() {
    for (status, expected, seconds) in
        [(486, "busy", 3), (600, "busy", 3), (500, "congestion", 3), (404, "Announcement(1s at 8000 Hz)", 1)]
    {
        let mut scene = scene(explains);
        scene.bob().on_invite = vec![(50, Say(status))];
        scene.alice_calls();
        scene.run(500);
        assert_eq!(source(&scene).as_deref(), Some(expected), "{status}");
        let told = answers(&scene, "183").pop().expect("early media");
        assert!(told.contains("m=audio "), "{told}");
        assert!(scene.phones[ALICE].answers.is_empty(), "not refused yet");
        scene.run(seconds * 1_000 + 300);
        assert_eq!(scene.phones[ALICE].answers, [format!("INVITE {status}")]);
        assert!(scene.flows.is_empty());
        scene.run(1_000);
        assert_eq!(scene.ends().records[0].sip_status, status);
    }
}

#[test]
fn an_announcement_that_has_come_to_its_end_is_followed_by_the_refusal_at_once() {
    let mut scene = scene(explains);
    scene.bob().on_invite = vec![(50, Say(404))];
    scene.alice_calls();
    scene.run(500);
    assert!(scene.phones[ALICE].answers.is_empty());
    scene.gives_way(Side::Caller);
    scene.run(50);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 404"]);
    scene.ends();
}

#[test]
fn refusals_without_a_tone_come_at_once_and_a_caller_may_hang_up_on_one() {
    let mut plain = scene(explains);
    plain.bob().on_invite = vec![(50, Say(480))];
    plain.alice_calls();
    plain.run(500);
    assert_eq!(plain.phones[ALICE].answers, ["INVITE 480"]);
    plain.ends();
    let mut scene = scene(explains);
    scene.bob().on_invite = vec![(50, Say(486))];
    scene.alice_calls();
    scene.run(500);
    scene.cancels(ALICE);
    scene.run(100);
    assert_eq!(scene.phones[ALICE].answers.last().map(String::as_str), Some("INVITE 487"));
    assert!(scene.flows.is_empty());
    scene.run(1_000);
    scene.ends();
}
