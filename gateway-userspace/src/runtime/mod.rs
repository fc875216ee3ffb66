//! The cores: one poll, one timer table, calls owned by exactly one core.
