//! Who does what, by a seed: phones that call, answer, change, transfer and leave, with keys or without, a network that
//! loses, connections that are reset, clocks that are set, daemons that die.

use crate::stage::phone::Reaction::{self, Branch, Describe, Fork, Reliable, Say};
use crate::stage::phone::{Mood, registers};
use crate::stage::scene::{ALICE, ALICES_NUMBER, BOB, BOBS_NUMBER, CAROL, Scene, Stage};
use crate::stage::session::Session;
use crate::stage::weather::Weather;
use gateway_userspace::base::fault::Fault;
use gateway_userspace::policy::{EarlyMedia, HoldForm, ReliableProvisional, Trunk};
use gateway_userspace::sdp::MediaSecurity;
use gateway_userspace::sip::transport::Transport;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;

type Script = &'static [(u64, Reaction)];

const PARTIES: [usize; 3] = [ALICE, BOB, CAROL];

/// What a callee does about an INVITE.
const ANSWERS: [Script; 22] = [
    &[(30, Say(180)), (700, Describe(200))],
    &[(30, Describe(183)), (1_500, Describe(200))],
    &[(10, Describe(200))],
    &[(30, Describe(183)), (900, Say(503))],
    &[(30, Say(486))],
    &[(30, Say(503))],
    &[(30, Say(180))],
    &[],
    &[(5_500, Describe(200))],
    &[(30, Say(180)), (12_000, Describe(200))],
    &[(30, Say(180)), (700, Describe(200)), (800, Fork)],
    &[(30, Reliable(180, false)), (300, Reliable(183, true)), (1_500, Say(200))],
    &[(30, Reliable(183, true)), (40, Describe(200))],
    &[(30, Branch(1, 183, true)), (300, Branch(2, 183, true)), (900, Branch(3, 200, true))],
    &[(30, Branch(1, 180, false)), (900, Branch(1, 200, true)), (920, Branch(2, 200, true))],
    &[(30, Say(302))],
    &[(30, Say(404))],
    &[(30, Say(408))],
    &[(30, Say(500))],
    &[(30, Say(504))],
    &[(30, Say(603))],
    // A 200 without the answer that it owes.
    &[(30, Say(200))],
];

/// What a phone does about a re-INVITE.
const CHANGES: [Script; 9] = [
    &[(30, Describe(200))],
    &[(30, Describe(200))],
    &[(900, Describe(200))],
    &[(30, Say(488))],
    &[(30, Say(491))],
    &[(300, Say(180)), (2_000, Describe(200))],
    &[(30, Say(481))],
    &[(30, Say(200))],
    &[],
];

const DIRECTIONS: [&str; 4] = ["sendrecv", "sendonly", "recvonly", "inactive"];

/// What a phone may say about media besides the usual.
const FORMATS: [&[(u8, &str)]; 4] = [
    &[(8, "PCMA/8000"), (0, "PCMU/8000"), (101, "telephone-event/8000")],
    &[(0, "PCMU/8000")],
    &[(8, "PCMA/8000"), (96, "telephone-event/8000")],
    &[(18, "G729/8000")],
];

/// What trunks have other than the usual.
const TRUNKS: [fn(&mut Trunk); 11] = [
    |_| {},
    |_| {},
    |trunk| trunk.transport = Transport::Tcp,
    |trunk| trunk.sip.reliable_provisional = ReliableProvisional::Off,
    |trunk| trunk.sip.early_media = EarlyMedia::FirstOnly,
    |trunk| trunk.sip.early_media = EarlyMedia::Ringing,
    |trunk| (trunk.sip.hold, trunk.sip.session_expires) = (HoldForm::Inactive, Some(90)),
    |trunk| {
        trunk.sip.delayed_offer = false;
        trunk.peer_timeout = Duration::from_secs(2);
        trunk.progress_timeout = Some(Duration::from_secs(8));
    },
    |trunk| trunk.media.security.security = MediaSecurity::Required,
    |trunk| trunk.media.security.security = MediaSecurity::Offered,
    |trunk| (trunk.transport, trunk.media.security.security) = (Transport::Tcp, MediaSecurity::Required),
];

/// What the service's trunk has other than the usual, where it registers.
const REGISTERING: [fn(&mut Trunk); 3] = [registers, registers, |trunk| {
    trunk.transport = Transport::Tcp;
    registers(trunk);
}];

/// How registrars take it.
const MOODS: [Mood; 8] = [
    Mood::Grants(600),
    Mood::Grants(600),
    Mood::Grants(3_600),
    Mood::Grants(120),
    Mood::WantsLonger(900),
    Mood::Refuses(403),
    Mood::Refuses(503),
    Mood::IsSilent,
];

/// How long a nonce may be used: some are out of date when their answer comes.
const NONCES: [Duration; 3] = [Duration::from_secs(300), Duration::from_secs(5), Duration::ZERO];

/// What a phone may send keys by; another one from time to time.
const KEYS: [&[&str]; 3] = [
    &["1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^31"],
    &["1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^31"],
    &[
        "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
        "2 AES_CM_128_HMAC_SHA1_32 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR",
    ],
];

/// Whom a REFER may name.
const TARGETS: [&str; 6] = [
    "<sip:+12025550148@192.0.2.1>",
    "<sip:198.18.0.30:5060;x-m=carol>",
    "<sip:198.18.0.20:5060;x-m=bob>",
    "<sip:+441632960199@203.0.113.1>",
    "<sip:+9123456@elsewhere.example>",
    "nobody at all",
];

/// Chance, and nothing else.
pub(super) struct Actors {
    chance: StdRng,
    /// Whether the trunk of the operator's side, and that of the service's, speak SRTP.
    secured: [bool; 2],
    /// The service's trunk registers.
    pub(super) registers: bool,
}

impl Actors {
    pub(super) fn new(seed: u64) -> Self {
        Self { chance: StdRng::seed_from_u64(seed), secured: [false; 2], registers: false }
    }

    pub(super) fn stage(&mut self, seed: u64) -> Stage {
        let weather = if seed.is_multiple_of(4) { Weather::FAIR } else { Weather::FOUL };
        let cores = self.chance.random_range(1..4);
        let (operator, service) = (self.one_of(&TRUNKS), self.one_of(&TRUNKS));
        self.registers = seed % 3 == 1;
        let service = if self.registers { self.one_of(&REGISTERING) } else { service };
        self.secured = [operator, service].map(is_secured);
        Stage { weather, cores, operator, service, ..Stage::of_simulation(seed) }
    }

    /// All that happens, and at last everybody hangs up.
    pub(super) fn play(&mut self, scene: &mut Scene) {
        if self.registers {
            scene.has_registrars(self.one_of(&NONCES));
            scene.run(self.chance.random_range(0..3_000));
        }
        for _ in 0..self.chance.random_range(6..20) {
            for phone in PARTIES {
                self.prepare(scene, phone);
            }
            self.act(scene);
            let pause = if self.chance.random_ratio(1, 4) { 40 } else { 4_000 };
            let pause = if self.chance.random_ratio(1, 24) { 200_000 } else { pause };
            scene.run(self.chance.random_range(pause / 8..pause));
        }
        for _ in 0..6 {
            for phone in PARTIES {
                scene.phones[phone].dead = false;
                if let Some(registrar) = &mut scene.phones[phone].registrar {
                    registrar.mood = Mood::Grants(600);
                }
                scene.hangs_up(phone);
            }
            scene.run(45_000);
        }
    }

    /// How a phone takes what will come.
    fn prepare(&mut self, scene: &mut Scene, phone: usize) {
        let calls_with =
            self.one_of(&["", "Supported: 100rel\r\n", "Supported: 100rel\r\n", "Require: 100rel\r\n"]);
        let timer = self.one_of(&[None, Some("90;refresher=uac"), Some("90;refresher=uas")]);
        let timer = timer.map(|value| ("Session-Expires", value.to_owned()));
        let update = self.happens(1, 2).then(|| ("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE".to_owned()));
        let answers = if self.happens(2, 5) { ANSWERS[0] } else { self.one_of(&ANSWERS) };
        let changes = self.one_of(&CHANGES);
        let session = self.session(scene, phone);
        let own = &mut scene.phones[phone];
        own.calls_with = calls_with;
        own.adds = timer.into_iter().chain(update).collect();
        (own.on_invite, own.on_reinvite) = (answers.to_vec(), changes.to_vec());
        own.session = session;
        own.own_numbers = self.happens(1, 10);
        own.ignores_cancel = self.happens(1, 10);
        own.acknowledges = !self.happens(1, 20);
        own.pracks = !self.happens(1, 20);
        own.dead = self.happens(1, 40);
        own.refuses_update = self.happens(1, 8).then_some(488);
        if self.happens(1, 3) {
            let mood = self.one_of(&MOODS);
            scene.phones[phone].registrar.iter_mut().for_each(|registrar| registrar.mood = mood);
        }
    }

    /// Another offer or answer of the phone: sometimes another codec, another port, or what no parser takes.
    fn session(&mut self, scene: &Scene, phone: usize) -> Session {
        let usual = &scene.phones[phone].session;
        let mut session = usual.clone();
        session.attributes = "";
        if self.happens(1, 8) {
            session = session.with_formats(self.one_of(&FORMATS));
        }
        if self.happens(1, 8) {
            session.at.1 = self.chance.random_range(2_000..2_010) * 2;
        }
        if self.secured[usize::from(phone != ALICE)] != self.happens(1, 30) {
            session =
                session.secured("RTP/SAVP", if self.happens(1, 8) { self.one_of(&KEYS) } else { KEYS[0] });
        } else {
            session = session.secured("RTP/AVP", &[]);
        }
        if self.happens(1, 30) {
            session.attributes = "no attribute at all\r\n";
        }
        session
    }

    fn act(&mut self, scene: &mut Scene) {
        let phone = self.one_of(&PARTIES);
        let now = scene.now;
        match self.chance.random_range(0..32) {
            0..4 => scene.alice_calls(),
            4 => scene.alice().call(now, BOBS_NUMBER, false),
            5 => {
                let offers = self.happens(3, 4);
                scene.phones[phone].call(
                    now,
                    if phone == ALICE { BOBS_NUMBER } else { ALICES_NUMBER },
                    offers,
                );
            }
            6..9 => {
                let session = scene.phones[phone].session.directed(self.one_of(&DIRECTIONS));
                scene.reinvites(phone, session);
            }
            // Both at once.
            9 => {
                for phone in [ALICE, BOB] {
                    let session = scene.phones[phone].session.directed(self.one_of(&DIRECTIONS));
                    scene.reinvites(phone, session);
                }
            }
            10 => scene.phones[phone].reinvite(now, None),
            11..13 => {
                let session = scene.phones[phone].session.directed(self.one_of(&DIRECTIONS));
                let offers = self.happens(2, 3);
                scene.updates(phone, offers.then_some(session));
            }
            13 | 14 => scene.hangs_up(phone),
            15 => PARTIES.into_iter().for_each(|phone| scene.hangs_up(phone)),
            16 | 17 => scene.cancels(phone),
            18 => self.kill(scene),
            19 => scene.unreachable(phone),
            20 => scene.resets(phone),
            21 => {
                let talks = self.happens(1, 2);
                scene.media(talks);
            }
            22 => scene.hang_up_any(Fault::HungUp),
            23 => {
                let pause = self.one_of(&[300, 3_000, 40_000, 400_000]);
                scene.stands_still(pause);
            }
            24 => light_fuse(scene),
            25 => {
                let text = self.one_of(&GARBAGE);
                scene.says(phone, text);
            }
            26 => self.say_again(scene, phone),
            27 | 28 => {
                let target = self.one_of(&TARGETS);
                self.refer(scene, phone, target);
            }
            29 => self.refer_to_a_dialog(scene, phone),
            30 => self.replace(scene),
            _ => self.drain_for_a_moment(scene),
        }
    }

    fn refer(&mut self, scene: &mut Scene, phone: usize, target: &str) {
        if scene.phones[phone].is_talking() {
            scene.refers(phone, target);
        }
    }

    /// An announced transfer: whoever has the named dialog is to talk to whom this one talks to.
    fn refer_to_a_dialog(&mut self, scene: &mut Scene, phone: usize) {
        let Some(dialog) = scene.replaces_if_talking(phone) else { return };
        let mut escaped =
            dialog.replace('@', "%40").replace(';', "%3B").replace('=', "%3D").replace(':', "%3A");
        if self.happens(1, 8) {
            escaped.push('0');
        }
        let number = if phone == ALICE { BOBS_NUMBER } else { ALICES_NUMBER };
        let gateway = scene.phones[phone].gateway;
        self.refer(scene, phone, &format!("<sip:{number}@{gateway}?Replaces={escaped}>"));
    }

    /// A phone of the service takes the place of the other.
    fn replace(&mut self, scene: &mut Scene) {
        let (from, to) = self.one_of(&[(BOB, CAROL), (CAROL, BOB)]);
        let Some(dialog) = scene.replaces_if_talking(from) else { return };
        scene.replaces_with(to, ALICES_NUMBER, &dialog, self.one_of(&["", "Require: replaces\r\n"]));
    }

    /// The daemon is killed and started again; the wall clock may have been set meanwhile, also back.
    fn kill(&mut self, scene: &mut Scene) {
        let by = self.one_of(&[0, 0, -3, 7_200]);
        if by != 0 {
            scene.sets_wall_clock(by);
        }
        scene.restart();
    }

    /// Old messages turn up once more, long behind their time.
    fn say_again(&mut self, scene: &mut Scene, phone: usize) {
        let last = scene.tap().last_from(scene.phones[phone].address);
        if !last.is_empty() {
            scene.says(phone, &last);
        }
    }

    fn drain_for_a_moment(&mut self, scene: &mut Scene) {
        scene.drain();
        scene.run(self.chance.random_range(0..2_000));
        scene.undrain();
    }

    fn happens(&mut self, times: u32, of: u32) -> bool {
        self.chance.random_ratio(times, of)
    }

    fn one_of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.chance.random_range(0..choice.len())]
    }
}

fn is_secured(settings: fn(&mut Trunk)) -> bool {
    let mut trunk = Trunk::new("any", Transport::Udp, ([192, 0, 2, 1], 5060).into());
    settings(&mut trunk);
    trunk.media.security.security != MediaSecurity::Off
}

const GARBAGE: [&str; 4] = [
    "\r\n\r\n",
    "what is this\r\n\r\n",
    "INVITE sip:+12025550147@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bK-x\r\nCSeq: 1 INVITE\r\n\r\n",
    "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-none\r\nFrom: <sip:a@example.net>;tag=1\r\n\
     To: <sip:b@example.net>;tag=2\r\nCall-ID: nobody\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
];

/// A step of a call panics. Builds without debug assertions have no fuse, and their seeds take another way.
fn light_fuse(scene: &mut Scene) {
    #[cfg(debug_assertions)]
    scene.lights_fuse();
    #[cfg(not(debug_assertions))]
    scene.hang_up_any(Fault::Internal);
}
