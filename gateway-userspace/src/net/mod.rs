//! Bytes in, bytes out: UDP and TCP sockets on mio.
