//! SIP messages: framer, lexer, URI and name-addr types of our own; rsip serves single canonical values here and nowhere else.
