//! Dialogs (RFC 3261 section 12): tags, sequence numbers, route set, remote target.
