//! RTP quality arithmetic: loss, jitter, the G.107 estimate.
