//! The INVITE client transaction (RFC 3261 section 17.1.1, figure 5, with the Accepted state of RFC 6026).

use super::client::Act;
use super::timer::Timer;
use crate::base::machine::{Machine, Step, closed_enum};

closed_enum! {
    pub enum State {
        /// The INVITE is out and nothing came back.
        Calling,
        /// A provisional response came.
        Proceeding,
        /// A failure came and was acknowledged; its retransmissions are acknowledged again.
        Completed,
        /// A 2xx came; each further 2xx passes to the user, whose dialogs acknowledge it.
        Accepted,
        Terminated,
    }
}

closed_enum! {
    pub enum Event {
        /// 1xx.
        Provisional,
        /// 2xx.
        Success,
        /// 3xx to 6xx.
        Failure,
        TimerA,
        TimerB,
        TimerD,
        TimerM,
        /// The cancelled INVITE got no final response in time.
        TimerCancelled,
        TransportError,
    }
}

#[derive(Debug)]
pub struct InviteClient;

impl Machine for InviteClient {
    type State = State;
    type Event = Event;
    type Act = Act;

    const STATES: &'static [State] = State::ALL;
    const EVENTS: &'static [Event] = Event::ALL;
    const START: (State, &'static [Act]) =
        (State::Calling, &[Act::Send, Act::Arm(Timer::A), Act::Arm(Timer::B)]);

    fn step(state: State, event: Event) -> Step<State, Act> {
        use Act::{Acknowledge, Arm, Disarm, Forget, Pass, Send, TimedOut, Unreachable};
        use Event::*;
        use State::*;
        use Step::{Already, Illegal, To};
        match (state, event) {
            (Calling, Provisional) => To(Proceeding, &[Disarm(Timer::A), Disarm(Timer::B), Pass]),
            (Calling, Success) => {
                To(Accepted, &[Disarm(Timer::A), Disarm(Timer::B), Forget, Arm(Timer::M), Pass])
            }
            (Calling, Failure) => {
                To(Completed, &[Disarm(Timer::A), Disarm(Timer::B), Acknowledge, Pass, Arm(Timer::D)])
            }
            (Calling, TimerA) => To(Calling, &[Send, Arm(Timer::A)]),
            (Calling, TimerB) => To(Terminated, &[TimedOut]),
            (Calling, TransportError) => To(Terminated, &[Unreachable]),
            // A CANCEL, and so its deadline, waits for a provisional response.
            (Calling, TimerD | TimerM | TimerCancelled) => Illegal,

            (Proceeding, Provisional) => To(Proceeding, &[Pass]),
            (Proceeding, Success) => To(Accepted, &[Disarm(Timer::Cancelled), Forget, Arm(Timer::M), Pass]),
            (Proceeding, Failure) => {
                To(Completed, &[Disarm(Timer::Cancelled), Acknowledge, Pass, Arm(Timer::D)])
            }
            // Treated as a 408 would be: the transaction is given up.
            (Proceeding, TimerCancelled) => To(Terminated, &[TimedOut]),
            // Nothing of ours is under way: the response may come by another connection.
            (Proceeding, TransportError) => Already,
            (Proceeding, TimerA | TimerB | TimerD | TimerM) => Illegal,

            (Completed, Provisional) => Already,
            (Completed, Failure) => To(Completed, &[Send]),
            (Completed, TimerD) => To(Terminated, &[]),
            // The ACK was lost: the peer sends its response again, or gives up by its timer H.
            (Completed, TransportError) => To(Terminated, &[Unreachable]),
            (Completed, Success | TimerA | TimerB | TimerM | TimerCancelled) => Illegal,

            (Accepted, Provisional) => Already,
            (Accepted, Success) => To(Accepted, &[Pass]),
            (Accepted, TimerM) => To(Terminated, &[]),
            // The ACK is the dialog's and goes its own way.
            (Accepted, TransportError) => Already,
            (Accepted, Failure | TimerA | TimerB | TimerD | TimerCancelled) => Illegal,

            (
                Terminated,
                Provisional | Success | Failure | TimerA | TimerB | TimerD | TimerM | TimerCancelled
                | TransportError,
            ) => Illegal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_printed() {
        insta::assert_snapshot!("table", InviteClient::table());
        insta::assert_snapshot!("graph", InviteClient::graph());
    }
}
