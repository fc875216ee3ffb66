//! Server transactions: what their machines can ask for.

use super::timer::Timer;

/// What a server machine asks its layer to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Sends the bytes kept, the last response; nothing if there was none.
    Send,
    /// Makes a 100, keeps it and sends it.
    Trying,
    /// Gives the request or the ACK to the user.
    Pass,
    /// Drops the bytes kept.
    Forget,
    /// Starts the timer, or its next doubling.
    Arm(Timer),
    Disarm(Timer),
    /// Tells the user that its final response was never acknowledged.
    NoAck,
    /// Tells the user that the transport failed.
    Undeliverable,
}
