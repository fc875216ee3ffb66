//! The XDP program in the kernel, and the reference path beside it: they must agree.
//!
//! Needs root, as it loads programs and makes network namespaces; without, it fails and says so.
#![expect(unreachable_pub, reason = "modules of a test binary have no outside")]

mod bridge;
mod capture;
mod checks;
mod guard;
mod lab;
mod lifecycle;
mod random;
mod reports;
mod row;
mod rows;
mod shortcut;
mod srtp;
mod table;
mod userspace;
mod wires;
mod worker;
