//! Real peers in network namespaces: SIPp, baresip, and phones that a test leads message by message.

mod bleed;
mod calls;
mod chain;
mod defence;
mod dtmf;
mod fax;
mod forks;
mod hostile;
mod ice;
mod media;
mod names;
mod observation;
mod operation;
mod panics;
mod registration;
mod secured;
mod srtp;
mod start;
mod survival;
mod telephone;
mod tls;
mod tones;
mod transcoding;
mod transfers;
mod trunks;
