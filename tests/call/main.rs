//! Call scenarios on virtual time: cores, scripted phones and a seeded network between them.
//!
//! Each test is a sentence about what callers and callees see. After every scenario `Scene::ends` holds it to the
//! rules that no call may break: both phones and the core are out of the call, ports and flows are given back, one
//! record is written, an INVITE has one final answer, sequence numbers rise, and nothing of one side was sent to the
//! other.

mod admission;
mod adoption;
mod callers;
mod changes;
mod codecs;
mod digest;
mod endings;
mod far_ends;
mod fax;
mod first_packet;
mod forks;
mod health;
mod hold;
mod ice;
mod identity;
mod late_offer;
mod limits;
mod loss;
mod malformed;
mod overload;
mod panics;
mod peers;
mod preconditions;
mod reasons;
mod records;
mod refusals;
mod relayed;
mod reliable;
mod rfc3665;
mod rfc5359;
mod rfc5407;
mod rules;
mod services;
mod sessions;
mod setup;
mod sides;
mod simulation;
mod srtp;
mod tenants;
mod tones;
mod transcoding;
mod transfers;
mod update;
mod zoom;
