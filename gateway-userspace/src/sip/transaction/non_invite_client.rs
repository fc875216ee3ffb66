//! The non-INVITE client transaction (RFC 3261 section 17.1.2, figure 6).

use super::client::Act;
use super::timer::Timer;
use crate::base::machine::{Machine, Step, closed_enum};

closed_enum! {
    pub enum State {
        /// The request is out and nothing came back.
        Trying,
        /// A provisional response came; the request still needs to be sent again, but slowly.
        Proceeding,
        /// A final response came; its retransmissions are absorbed.
        Completed,
        Terminated,
    }
}

closed_enum! {
    pub enum Event {
        /// 1xx.
        Provisional,
        /// 2xx to 6xx.
        Final,
        TimerE,
        TimerF,
        TimerK,
        TransportError,
    }
}

#[derive(Debug)]
pub struct NonInviteClient;

impl Machine for NonInviteClient {
    type State = State;
    type Event = Event;
    type Act = Act;

    const STATES: &'static [State] = State::ALL;
    const EVENTS: &'static [Event] = Event::ALL;
    const START: (State, &'static [Act]) =
        (State::Trying, &[Act::Send, Act::Arm(Timer::E), Act::Arm(Timer::F)]);

    fn step(state: State, event: Event) -> Step<State, Act> {
        use Act::{Arm, ArmLongest, Disarm, Forget, Pass, Send, TimedOut, Unreachable};
        use Event::*;
        use State::*;
        use Step::{Already, Illegal, To};
        match (state, event) {
            (Trying, Provisional) => To(Proceeding, &[Pass]),
            (Trying | Proceeding, Final) => {
                To(Completed, &[Disarm(Timer::E), Disarm(Timer::F), Forget, Pass, Arm(Timer::K)])
            }
            (Trying, TimerE) => To(Trying, &[Send, Arm(Timer::E)]),
            (Trying | Proceeding, TimerF) => To(Terminated, &[TimedOut]),
            (Trying | Proceeding, TransportError) => To(Terminated, &[Unreachable]),
            (Trying | Proceeding, TimerK) => Illegal,

            (Proceeding, Provisional) => To(Proceeding, &[Pass]),
            (Proceeding, TimerE) => To(Proceeding, &[Send, ArmLongest(Timer::E)]),

            (Completed, Provisional | Final) => Already,
            (Completed, TimerK) => To(Terminated, &[]),
            // Nothing of ours is under way any more.
            (Completed, TransportError) => Already,
            (Completed, TimerE | TimerF) => Illegal,

            (Terminated, Provisional | Final | TimerE | TimerF | TimerK | TransportError) => Illegal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_printed() {
        insta::assert_snapshot!("table", NonInviteClient::table());
        insta::assert_snapshot!("graph", NonInviteClient::graph());
    }
}
