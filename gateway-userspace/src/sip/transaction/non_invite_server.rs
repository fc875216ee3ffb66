//! The non-INVITE server transaction (RFC 3261 section 17.2.2, figure 8).

use super::server::Act;
use super::timer::Timer;
use crate::base::machine::{Machine, Step, closed_enum};

closed_enum! {
    pub enum State {
        /// The user has the request and has said nothing.
        Trying,
        /// A provisional response went out.
        Proceeding,
        /// A final response went out and is sent again for each copy of the request.
        Completed,
        Terminated,
    }
}

closed_enum! {
    pub enum Event {
        /// The same request again.
        Request,
        /// The user says 1xx.
        Provisional,
        /// The user says 2xx to 6xx.
        Final,
        TimerJ,
        TransportError,
    }
}

#[derive(Debug)]
pub struct NonInviteServer;

impl Machine for NonInviteServer {
    type State = State;
    type Event = Event;
    type Act = Act;

    const STATES: &'static [State] = State::ALL;
    const EVENTS: &'static [Event] = Event::ALL;
    const START: (State, &'static [Act]) = (State::Trying, &[Act::Pass]);

    fn step(state: State, event: Event) -> Step<State, Act> {
        use Act::{Arm, Keep, Send, Undeliverable};
        use Event::*;
        use State::*;
        use Step::{Already, Illegal, To};
        match (state, event) {
            (Trying, Request) => Already,
            (Trying | Proceeding, Provisional) => To(Proceeding, &[Keep, Send]),
            (Trying | Proceeding, Final) => To(Completed, &[Keep, Send, Arm(Timer::J)]),
            (Trying | Proceeding, TimerJ) => Illegal,
            // Nothing of ours is under way.
            (Trying, TransportError) => Already,

            (Proceeding, Request) => To(Proceeding, &[Send]),
            (Proceeding | Completed, TransportError) => To(Terminated, &[Undeliverable]),

            (Completed, Request) => To(Completed, &[Send]),
            (Completed, Provisional | Final) => Illegal,
            (Completed, TimerJ) => To(Terminated, &[]),

            (Terminated, Request | Provisional | Final | TimerJ | TransportError) => Illegal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_printed() {
        insta::assert_snapshot!("table", NonInviteServer::table());
        insta::assert_snapshot!("graph", NonInviteServer::graph());
    }
}
