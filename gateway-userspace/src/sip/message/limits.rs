//! What a message may weigh: bounds that stop a hostile message before it costs memory or time.

/// Bounds of one message. A message beyond one of them is refused with 513, or with 414 for its
/// Request-URI (RFC 3261 sections 21.5.7 and 21.4.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of the whole message.
    pub message: usize,
    /// Octets from the first of the start line to the empty line.
    pub head: usize,
    /// Octets of one header with its continuation lines, and of the start line.
    pub header_line: usize,
    /// Header lines of one message.
    pub headers: usize,
    /// Via values of one message: more than Max-Forwards lets a request collect (RFC 3261 section 8.1.1.6).
    pub vias: usize,
    /// Values of one Route, Record-Route or Contact list.
    pub list: usize,
    /// Octets of the Request-URI; a URI in a header is bounded by its line.
    pub uri: usize,
    /// Octets of the body.
    pub body: usize,
}

impl Limits {
    pub const DEFAULT: Self = Self {
        message: 65_535,
        head: 32 * 1024,
        header_line: 8 * 1024,
        headers: 256,
        vias: 71,
        list: 64,
        uri: 2 * 1024,
        body: 64 * 1024,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
