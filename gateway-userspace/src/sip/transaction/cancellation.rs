//! Cancelling an INVITE (RFC 3261 section 9.1): a machine beside the INVITE client transaction, since the wish
//! to cancel may come before the RFC lets a CANCEL be sent.

use super::client::Act;
use super::timer::Timer;
use crate::base::machine::{Machine, Step, closed_enum};

closed_enum! {
    pub enum State {
        /// No provisional response yet: a CANCEL could overtake its INVITE.
        Early,
        /// No provisional response yet, and the user wants to cancel.
        Wanted,
        /// A provisional response came: a CANCEL may go.
        Possible,
        /// The CANCEL is out; the INVITE's final response is awaited.
        Sent,
        /// A final response came: there is nothing to cancel. If it was a 2xx the user has to send BYE.
        Moot,
    }
}

closed_enum! {
    pub enum Event {
        /// The user wants to cancel.
        Ask,
        /// 1xx of the INVITE.
        Provisional,
        /// 2xx to 6xx of the INVITE.
        Final,
    }
}

#[derive(Debug)]
pub struct Cancellation;

impl Machine for Cancellation {
    type State = State;
    type Event = Event;
    type Act = Act;

    const STATES: &'static [State] = State::ALL;
    const EVENTS: &'static [Event] = Event::ALL;
    const START: (State, &'static [Act]) = (State::Early, &[]);

    fn step(state: State, event: Event) -> Step<State, Act> {
        use Event::*;
        use State::*;
        use Step::{Already, To};
        match (state, event) {
            (Early, Ask) => To(Wanted, &[]),
            (Early, Provisional) => To(Possible, &[]),
            (Wanted, Ask) => Already,
            (Possible, Ask) | (Wanted, Provisional) => To(Sent, &[Act::Cancel, Act::Arm(Timer::Cancelled)]),
            (Possible, Provisional) => Already,
            (Sent, Ask | Provisional) => Already,
            (Early | Wanted | Possible | Sent, Final) => To(Moot, &[]),
            (Moot, Ask | Provisional | Final) => Already,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_printed() {
        insta::assert_snapshot!("table", Cancellation::table());
        insta::assert_snapshot!("graph", Cancellation::graph());
    }
}
