//! The back-to-back user agent: two legs, one call, phases consumed by value.
