//! Stream framing, addresses and hops: where a message came from and where one goes.
