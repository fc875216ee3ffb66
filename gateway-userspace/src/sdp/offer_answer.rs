//! Offer and answer on one leg as a table (RFC 3264 section 4; where in SIP they travel: RFC 6337 section 2).

use crate::base::machine::{Machine, Step, closed_enum};

closed_enum! {
    pub enum State {
        /// Nothing is open: the last answer holds, or there was none yet.
        Stable,
        /// We offered and wait for the peer's answer.
        LocalOffer,
        /// The peer offered and waits for our answer.
        RemoteOffer,
    }
}

closed_enum! {
    pub enum Event {
        SendOffer,
        ReceiveOffer,
        /// An answer in an unreliable provisional response goes out: the final response says it again.
        SendPreview,
        /// One came. Early media may flow by it.
        ReceivePreview,
        SendAnswer,
        ReceiveAnswer,
        /// The offer was refused, or its transaction ended without an answer: what held before it holds again.
        Abandon,
    }
}

/// The machine of one leg.
#[derive(Debug)]
pub struct OfferAnswer;

impl Machine for OfferAnswer {
    type State = State;
    type Event = Event;
    type Act = ();

    const STATES: &'static [State] = State::ALL;
    const EVENTS: &'static [Event] = Event::ALL;
    const START: (State, &'static [()]) = (State::Stable, &[]);

    fn step(state: State, event: Event) -> Step<State, ()> {
        use Event::*;
        use State::*;
        use Step::{Already, Illegal, To};
        match (state, event) {
            (Stable, SendOffer) => To(LocalOffer, &[]),
            (Stable, ReceiveOffer) => To(RemoteOffer, &[]),
            (Stable, SendPreview | SendAnswer) => Illegal,
            // The response after the one that answered may repeat the answer (RFC 3261 section 13.2.1).
            (Stable, ReceivePreview | ReceiveAnswer | Abandon) => Already,
            // Offers cross: the later one is refused with 491 (RFC 3261 section 14.2, RFC 3311 section 5.2).
            (LocalOffer, SendOffer | ReceiveOffer) => Illegal,
            (LocalOffer, SendPreview | SendAnswer) => Illegal,
            (LocalOffer, ReceivePreview) => To(LocalOffer, &[]),
            (LocalOffer, ReceiveAnswer | Abandon) => To(Stable, &[]),
            (RemoteOffer, SendOffer | ReceiveOffer) => Illegal,
            (RemoteOffer, ReceivePreview | ReceiveAnswer) => Illegal,
            (RemoteOffer, SendPreview) => To(RemoteOffer, &[]),
            (RemoteOffer, SendAnswer | Abandon) => To(Stable, &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_printed() {
        insta::assert_snapshot!("table", OfferAnswer::table());
        insta::assert_snapshot!("graph", OfferAnswer::graph());
    }
}
