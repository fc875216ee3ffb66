//! What a scenario says: who calls, leaves, changes, and what happens to the gateway meanwhile.

use super::{ALICE, ALICES_NUMBER, BOB, BOBS_NUMBER, CAROL, Scene};
use crate::stage::phone::Phone;
use crate::stage::session::Session;
use gateway_userspace::base::fault::Fault;
use gateway_userspace::base::id::Side;
use gateway_userspace::runtime::core::Core;
use gateway_userspace::signal::dtmf::body::Press;
use gateway_userspace::sip::transport::{Hop, Transport};

impl Scene {
    pub fn bob(&mut self) -> &mut Phone {
        &mut self.phones[BOB]
    }

    pub fn carol(&mut self) -> &mut Phone {
        &mut self.phones[CAROL]
    }

    pub fn alice(&mut self) -> &mut Phone {
        &mut self.phones[ALICE]
    }

    /// Alice calls the number that leads to Bob, and Carol after him.
    pub fn alice_calls(&mut self) {
        let now = self.now;
        self.alice().call(now, BOBS_NUMBER, true);
        self.post();
    }

    /// Alice calls any number.
    pub fn alice_dials(&mut self, number: &str) {
        let now = self.now;
        self.alice().call(now, number, true);
        self.post();
    }

    /// Bob calls the number that leads to Alice.
    pub fn bob_calls_alice(&mut self) {
        let now = self.now;
        self.bob().call(now, ALICES_NUMBER, true);
        self.post();
    }

    /// Alice calls, Bob answers, five seconds pass.
    pub fn talk(&mut self) {
        self.alice_calls();
        self.run(5_000);
        assert!(
            self.phones[ALICE].is_talking() && self.phones[BOB].is_talking(),
            "{}",
            self.ladder.join("\n")
        );
    }

    pub fn hangs_up(&mut self, phone: usize) {
        let now = self.now;
        self.phones[phone].hang_up(now);
        self.post();
    }

    pub fn cancels(&mut self, phone: usize) {
        let now = self.now;
        self.phones[phone].cancel(now);
        self.post();
    }

    /// As [`Scene::hangs_up`] and [`Scene::cancels`], with a further header line.
    pub fn leaves(&mut self, phone: usize, line: &str) {
        self.phones[phone].last_line = line.to_owned();
        self.hangs_up(phone);
    }

    pub fn cancels_with(&mut self, phone: usize, line: &str) {
        self.phones[phone].last_line = line.to_owned();
        self.cancels(phone);
    }

    pub fn reinvites(&mut self, phone: usize, session: Session) {
        let now = self.now;
        self.phones[phone].reinvite(now, Some(session));
        self.post();
    }

    /// A phone asks something inside its last dialog, with an extra header line.
    pub fn asks(&mut self, phone: usize, method: &'static str, header: &str) {
        let now = self.now;
        self.phones[phone].ask(now, method, header);
        self.post();
    }

    /// A phone sends a request with a body inside its last dialog, whose type `header` says; without a header, none.
    pub fn tells(&mut self, phone: usize, method: &'static str, header: &str, body: &str) {
        let now = self.now;
        self.phones[phone].tell(now, method, header, body);
        self.run(1_000);
    }

    /// The data plane heard a key of the other side, for this one, which has keys by signalling.
    pub fn hears_key(&mut self, side: Side, press: Press) {
        let flow = self.flows.id_of(side).expect("media of the side is relayed");
        for core in 0..self.cores.len() {
            self.turn(core, |core, turn| core.key(turn, flow, press));
        }
        self.run(1_000);
    }

    /// What is played to this side gives way, as to the first that the other one says.
    pub fn gives_way(&mut self, side: Side) {
        let flow = self.flows.id_of(side).expect("media of the side is relayed");
        for core in 0..self.cores.len() {
            self.turn(core, |core, turn| core.played(turn, flow));
        }
        self.run(1);
    }

    /// A phone sends an UPDATE inside its last dialog.
    pub fn updates(&mut self, phone: usize, session: Option<Session>) {
        let now = self.now;
        self.phones[phone].update(now, session);
        self.post();
    }

    /// A phone sends a request with an offer inside its last dialog.
    pub fn offers(&mut self, phone: usize, method: &'static str, session: Session, header: &str) {
        let now = self.now;
        self.phones[phone].offer(now, method, session, header);
        self.post();
    }

    /// A phone sends text.
    pub fn says(&mut self, phone: usize, text: &str) {
        self.phones[phone].say(text);
        self.post();
    }

    /// Nobody hears either side from now on, or hears it again.
    pub fn media(&mut self, flows: bool) {
        self.flows.silent_since = [(!flows).then_some(self.now); 2];
    }

    pub fn drain(&mut self) {
        let now = self.now;
        self.cores.iter_mut().for_each(|core| core.drain(now));
    }

    pub fn undrain(&mut self) {
        let now = self.now;
        self.cores.iter_mut().for_each(|core| core.undrain(now));
    }

    pub fn hang_up_call(&mut self, fault: Fault) {
        assert!(!self.checkpoints.is_empty(), "no call was answered");
        self.hang_up_any(fault);
    }

    /// Ends an answered call from our side, if there is one.
    pub fn hang_up_any(&mut self, fault: Fault) {
        let Some(call) = self.checkpoints.keys().next().copied() else { return };
        let mut known = 0;
        for core in 0..self.cores.len() {
            self.turn(core, |core, turn| known += u32::from(core.hang_up(turn, call, fault)));
        }
        assert_eq!(known, 1, "a call has one core");
    }

    /// The next step of any call panics, be it the first of a new one.
    #[cfg(debug_assertions)]
    pub fn lights_fuse(&mut self) {
        self.fuses += self.cores.len() as u64;
        self.cores.iter_mut().for_each(Core::light_fuse);
    }

    /// What the network says about a host that is not there.
    pub fn unreachable(&mut self, phone: usize) {
        let remote = self.phones[phone].address;
        let local = self.phones[phone].gateway;
        let hop = Hop { transport: Transport::Udp, local, remote, connection: None };
        for core in 0..self.cores.len() {
            self.turn(core, |core, turn| core.transport_failed(turn, hop));
        }
    }
}
