//! The life of a dialog (RFC 3261 sections 12 and 12.3): early, confirmed, terminated.

use crate::base::machine::{Machine, Step, closed_enum};

closed_enum! {
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum State {
        /// A provisional response with a tag made it.
        Early,
        /// A 2xx made or confirmed it.
        Confirmed,
        Terminated,
    }
}

closed_enum! {
    pub enum Event {
        /// 101 to 199 of the INVITE that makes it.
        Provisional,
        /// 2xx of the INVITE that makes it, or of a later one.
        Success,
        /// 3xx to 6xx of the INVITE that makes it (section 12.3).
        Failure,
        /// BYE, sent or received.
        Bye,
        /// 481 or 408 to a request inside the dialog, or no response at all (section 12.2.1.2).
        Gone,
    }
}

/// The dialog's table. It asks for nothing but the move.
#[derive(Debug)]
pub struct Lifetime;

impl Machine for Lifetime {
    type State = State;
    type Event = Event;
    type Act = std::convert::Infallible;

    const STATES: &'static [State] = State::ALL;
    const EVENTS: &'static [Event] = Event::ALL;
    const START: (State, &'static [Self::Act]) = (State::Early, &[]);

    fn step(state: State, event: Event) -> Step<State, Self::Act> {
        use Event::*;
        use State::*;
        use Step::{Already, Illegal, To};
        match (state, event) {
            (Early, Provisional) => Already,
            (Early, Success) => To(Confirmed, &[]),
            (Early, Failure | Bye | Gone) => To(Terminated, &[]),

            // A provisional response that the 2xx overtook, a copy of the 2xx.
            (Confirmed, Provisional | Success) => Already,
            // The INVITE that made the dialog has had its final response.
            (Confirmed, Failure) => Illegal,
            (Confirmed, Bye | Gone) => To(Terminated, &[]),

            (Terminated, Failure | Bye | Gone) => Already,
            // A 2xx that crossed our BYE is still acknowledged, but revives nothing.
            (Terminated, Provisional | Success) => Already,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_printed() {
        insta::assert_snapshot!("table", Lifetime::table());
        insta::assert_snapshot!("graph", Lifetime::graph());
    }
}
