//! What makes a source one that is better not heard.

use super::event::Event;
use crate::base::fault::{Blame, Fault};
use std::fmt;
use std::net::IpAddr;

/// Something that a peer does once by mistake, and a scanner all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offence {
    /// What it sends is no SIP.
    Malformed,
    /// It asks for what is not here, or is nobody's peer.
    Scan,
    /// It cannot say in TLS who it is.
    Handshake,
    /// It says who it is, and the password is wrong.
    Credentials,
}

/// Why a source is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenialCause {
    /// By command.
    Operator,
    /// It did the last of too many of these.
    Offence(Offence),
}

impl Offence {
    /// The offence in an event, and whose it is.
    pub fn of(event: &Event) -> Option<(IpAddr, Self)> {
        match event {
            Event::Refused { fault, source } => Some((source.ip(), Self::of_fault(*fault)?)),
            Event::Silenced { source } => Some((source.ip(), Self::Scan)),
            Event::HandshakeFailed { peer, .. } => Some((peer.ip(), Self::Handshake)),
            _ => None,
        }
    }

    fn of_fault(fault: Fault) -> Option<Self> {
        match fault {
            Fault::VersionNotSupported => Some(Self::Malformed),
            // What scanners try: registrations, subscriptions, and calls to wherever they may lead.
            Fault::NoRoute | Fault::MethodNotAllowed | Fault::BadEvent => Some(Self::Scan),
            // Being asked is none: every call of an honest caller begins so.
            Fault::WrongCredentials => Some(Self::Credentials),
            fault => (fault.blame() == Blame::Malformed).then_some(Self::Malformed),
        }
    }
}

impl DenialCause {
    const ALL: [Self; 5] = [
        Self::Operator,
        Self::Offence(Offence::Malformed),
        Self::Offence(Offence::Scan),
        Self::Offence(Offence::Handshake),
        Self::Offence(Offence::Credentials),
    ];

    /// As the kernel keeps it.
    pub fn number(self) -> u32 {
        Self::ALL.iter().position(|cause| *cause == self).map_or(0, |position| position as u32)
    }

    /// One of another version of ours is taken for the operator's.
    pub fn of_number(number: u32) -> Self {
        let position = usize::try_from(number).unwrap_or(usize::MAX);
        Self::ALL.get(position).copied().unwrap_or(Self::Operator)
    }

    /// The word in logs and answers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Offence(Offence::Malformed) => "malformed",
            Self::Offence(Offence::Scan) => "scan",
            Self::Offence(Offence::Handshake) => "handshake",
            Self::Offence(Offence::Credentials) => "credentials",
        }
    }
}

impl fmt::Display for DenialCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::samples;
    use super::*;

    #[test]
    fn causes_come_back_from_the_kernel_as_they_went() {
        for cause in DenialCause::ALL {
            assert_eq!(DenialCause::of_number(cause.number()), cause);
        }
        assert_eq!(DenialCause::of_number(77), DenialCause::Operator);
    }

    #[test]
    fn what_a_scanner_does_is_an_offence_and_what_befalls_a_peer_is_not() {
        let refused = |fault| Offence::of(&Event::Refused { fault, source: samples::source() });
        let by = |offence| Some((samples::source().ip(), offence));
        assert_eq!(refused(Fault::MalformedHeader), by(Offence::Malformed));
        assert_eq!(refused(Fault::NoRoute), by(Offence::Scan));
        assert_eq!(refused(Fault::WrongCredentials), by(Offence::Credentials));
        assert_eq!(refused(Fault::NotAuthenticated), None);
        assert_eq!(Offence::of(&Event::Silenced { source: samples::source() }), by(Offence::Scan));
        for fault in [Fault::CallRateExceeded, Fault::NoSuchDialog, Fault::PeersDown, Fault::Internal] {
            assert_eq!(refused(fault), None, "{fault:?}");
        }
    }
}
