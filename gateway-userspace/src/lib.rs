//! The Causeway daemon: SIP and SDP as sans-IO values, calls owned by one core each, media relayed by the
//! XDP program that this crate embeds and loads.
//!
//! Rooms, lowest first; a room uses only those above it in this list, through their doors (`mod.rs`):
//! `base`, `observe`, formats (`sip::message`, `sdp`, `rtp`, `srtp`, `ice`, `codec`, `signal`), SIP state
//! (`sip::transaction`, `sip::dialog`, `sip::transport`), decisions (`media`, `policy`, `resolve`), `call`, effects
//! (`net`, `dataplane`, `store`, `admin`), `config`, `runtime`.

pub mod admin;
pub mod base;
pub mod call;
pub mod codec;
pub mod config;
pub mod dataplane;
pub mod ice;
pub mod media;
pub mod net;
pub mod observe;
pub mod policy;
pub mod resolve;
pub mod rtp;
pub mod runtime;
pub mod sdp;
pub mod signal;
pub mod sip;
pub mod srtp;
pub mod store;
