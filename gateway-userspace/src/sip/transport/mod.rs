//! Between bytes and messages: frames out of a stream, hops, and where a response goes (RFC 3261 section 18).

mod framer;
mod hop;
mod routing;

pub use framer::{Frame, FramingError, Part, StreamFramer};
pub use hop::{ConnectionId, Hop, Transport};
pub use routing::{fill_received, own_via, response_destination};
