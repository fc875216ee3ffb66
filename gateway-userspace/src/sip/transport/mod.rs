//! Stream framing, addresses and hops: where a message came from and where one goes.

/// A transport that this gateway carries SIP over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    Udp,
    Tcp,
}
