//! The INVITE server transaction (RFC 3261 section 17.2.1, figure 7, as amended by RFC 6026).
//!
//! The Accepted state of RFC 6026 is two here, before and after the ACK, because the transaction also carries
//! the retransmission of the 2xx that RFC 3261 section 13.3.1.4 lays on its user: the bytes are here already, and
//! timer L ends at the moment that section gives up on the ACK.

use super::server::Act;
use super::timer::Timer;
use crate::base::machine::{Machine, Step, closed_enum};

closed_enum! {
    pub enum State {
        /// The user has the INVITE and has given no final response.
        Proceeding,
        /// A failure went out and waits for its ACK.
        Completed,
        /// The failure was acknowledged; further ACKs are absorbed.
        Confirmed,
        /// A 2xx went out and waits for its ACK, which has a branch of its own.
        Accepted,
        /// The 2xx was acknowledged; late copies of INVITE and ACK are absorbed.
        Acknowledged,
        Terminated,
    }
}

closed_enum! {
    pub enum Event {
        /// The same INVITE again.
        Request,
        Ack,
        /// The user says 1xx.
        Provisional,
        /// The user says 2xx.
        Success,
        /// The user says 3xx to 6xx.
        Failure,
        TimerTrying,
        TimerAnswer,
        TimerG,
        TimerH,
        TimerI,
        TimerL,
        TransportError,
    }
}

#[derive(Debug)]
pub struct InviteServer;

impl Machine for InviteServer {
    type State = State;
    type Event = Event;
    type Act = Act;

    const STATES: &'static [State] = State::ALL;
    const EVENTS: &'static [Event] = Event::ALL;
    const START: (State, &'static [Act]) = (State::Proceeding, &[Act::Pass, Act::Arm(Timer::Trying)]);

    fn step(state: State, event: Event) -> Step<State, Act> {
        use Act::{Arm, Disarm, Forget, Keep, NoAck, Pass, Send, Undeliverable};
        use Event::*;
        use State::*;
        use Step::{Already, Illegal, To};
        match (state, event) {
            (Proceeding, Request) => To(Proceeding, &[Send]),
            (Proceeding, Provisional) => To(Proceeding, &[Disarm(Timer::Trying), Keep, Send]),
            (Proceeding, Success) => {
                To(Accepted, &[Disarm(Timer::Trying), Keep, Send, Arm(Timer::Answer), Arm(Timer::L)])
            }
            (Proceeding, Failure) => {
                To(Completed, &[Disarm(Timer::Trying), Keep, Send, Arm(Timer::G), Arm(Timer::H)])
            }
            (Proceeding, TimerTrying) => To(Proceeding, &[Send]),
            (Proceeding, TransportError) => To(Proceeding, &[Undeliverable]),
            (Proceeding, Ack | TimerAnswer | TimerG | TimerH | TimerI | TimerL) => Illegal,

            (Completed, Request) => To(Completed, &[Send]),
            (Completed, Ack) => To(Confirmed, &[Disarm(Timer::G), Disarm(Timer::H), Forget, Arm(Timer::I)]),
            (Completed, TimerG) => To(Completed, &[Send, Arm(Timer::G)]),
            (Completed, TimerH) => To(Terminated, &[NoAck]),
            (Completed, TransportError) => To(Completed, &[Undeliverable]),
            (Completed, Provisional | Success | Failure) => Illegal,
            (Completed, TimerTrying | TimerAnswer | TimerI | TimerL) => Illegal,

            (Confirmed, Request | Ack) => Already,
            (Confirmed, TimerI) => To(Terminated, &[]),
            (Confirmed, TransportError) => Already,
            (Confirmed, Provisional | Success | Failure) => Illegal,
            (Confirmed, TimerTrying | TimerAnswer | TimerG | TimerH | TimerL) => Illegal,

            // The 2xx is on its own schedule (RFC 6026 section 7.1).
            (Accepted, Request) => Already,
            (Accepted, Ack) => To(Acknowledged, &[Disarm(Timer::Answer), Forget, Pass]),
            (Accepted, TimerAnswer) => To(Accepted, &[Send, Arm(Timer::Answer)]),
            (Accepted, TimerL) => To(Terminated, &[Disarm(Timer::Answer), NoAck]),
            (Accepted, TransportError) => To(Accepted, &[Undeliverable]),
            (Accepted, Provisional | Success | Failure) => Illegal,
            (Accepted, TimerTrying | TimerG | TimerH | TimerI) => Illegal,

            (Acknowledged, Request | Ack) => Already,
            (Acknowledged, TimerL) => To(Terminated, &[]),
            (Acknowledged, TransportError) => Already,
            (Acknowledged, Provisional | Success | Failure) => Illegal,
            (Acknowledged, TimerTrying | TimerAnswer | TimerG | TimerH | TimerI) => Illegal,

            (
                Terminated,
                Request | Ack | Provisional | Success | Failure | TimerTrying | TimerAnswer | TimerG | TimerH
                | TimerI | TimerL | TransportError,
            ) => Illegal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_printed() {
        insta::assert_snapshot!("table", InviteServer::table());
        insta::assert_snapshot!("graph", InviteServer::graph());
    }
}
