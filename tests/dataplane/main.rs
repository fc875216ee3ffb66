//! The data plane as a table of sentences.
