//! The configuration file: parsed strictly, every error with file, line, field and fix.
