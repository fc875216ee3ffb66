//! One INVITE at a time in a dialog, whoever sends it (RFC 3261 sections 14.1 and 14.2).

use crate::base::machine::{Machine, Step, closed_enum};

closed_enum! {
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum State {
        /// None is under way.
        Idle,
        /// Ours waits for its final response.
        Ours,
        /// Theirs waits for our final response.
        Theirs,
        /// Theirs has our 2xx, which waits for its ACK.
        Accepted,
    }
}

closed_enum! {
    pub enum Event {
        /// We want to send one.
        Send,
        /// One of ours has its final response, or will have none.
        Finished,
        /// One of theirs comes.
        Receive,
        /// We accept theirs.
        Accept,
        /// We refuse theirs.
        Refuse,
        /// The ACK of our 2xx came, or was given up.
        Settled,
    }
}

/// What to answer instead of going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// 491: theirs and ours crossed.
    Glare,
    /// 500 with Retry-After: theirs before the last of theirs was answered.
    TooSoon,
    /// Ours has to wait until the one under way is over.
    Wait,
}

/// The table of INVITEs in a dialog.
#[derive(Debug)]
pub struct Invitation;

impl Machine for Invitation {
    type State = State;
    type Event = Event;
    type Act = Act;

    const STATES: &'static [State] = State::ALL;
    const EVENTS: &'static [Event] = Event::ALL;
    const START: (State, &'static [Act]) = (State::Idle, &[]);

    fn step(state: State, event: Event) -> Step<State, Act> {
        use Event::*;
        use State::*;
        use Step::{Already, Illegal, To};
        match (state, event) {
            (Idle, Send) => To(Ours, &[]),
            (Idle, Receive) => To(Theirs, &[]),
            (Idle, Finished | Settled) => Already,
            (Idle, Accept | Refuse) => Illegal,

            (Ours, Send) => To(Ours, &[Act::Wait]),
            (Ours, Finished) => To(Idle, &[]),
            (Ours, Receive) => To(Ours, &[Act::Glare]),
            (Ours, Settled) => Already,
            (Ours, Accept | Refuse) => Illegal,

            (Theirs, Send) => To(Theirs, &[Act::Wait]),
            (Theirs, Receive) => To(Theirs, &[Act::TooSoon]),
            (Theirs, Accept) => To(Accepted, &[]),
            (Theirs, Refuse) => To(Idle, &[]),
            (Theirs, Finished) => Already,
            (Theirs, Settled) => Illegal,

            (Accepted, Send) => To(Accepted, &[Act::Wait]),
            // The peer has our answer and so may ask again; the ACK was lost or comes late.
            (Accepted, Receive) => To(Theirs, &[]),
            (Accepted, Settled) => To(Idle, &[]),
            (Accepted, Accept | Finished) => Already,
            (Accepted, Refuse) => Illegal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_printed() {
        insta::assert_snapshot!("table", Invitation::table());
        insta::assert_snapshot!("graph", Invitation::graph());
    }
}
