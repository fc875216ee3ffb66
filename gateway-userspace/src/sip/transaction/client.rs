//! Client transactions: what their machines can ask for.

use super::timer::Timer;

/// What a client machine asks its layer to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Sends the bytes kept: the request, or once there is one the ACK.
    Send,
    /// Makes the ACK for a failure (RFC 3261 section 17.1.1.3), keeps it in place of the INVITE and sends it.
    Acknowledge,
    /// Makes the CANCEL (RFC 3261 section 9.1) and starts its own transaction.
    Cancel,
    /// Gives the response to the user.
    Pass,
    /// Drops the bytes kept.
    Forget,
    /// Starts the timer, or its next doubling.
    Arm(Timer),
    /// Starts the timer with its cap at once.
    ArmLongest(Timer),
    Disarm(Timer),
    /// Tells the user that no response came in time.
    TimedOut,
    /// Tells the user that the transport failed.
    Unreachable,
}
