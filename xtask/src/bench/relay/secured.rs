//! The callee's end of SRTP: its keys, and its packets, protected before they are sent.

use super::traffic::{HEADERS, words};
use anyhow::{Context, Result};
use gateway_common::srtp::{self, FlowCrypto, FlowKeys, Keys, Scratch, Straight, Stream};
use gateway_userspace::dataplane::keys;
use gateway_userspace::media::plan::FlowSpec;
use gateway_userspace::srtp::{MasterKey, Suite};
use std::collections::VecDeque;

const IP: usize = 14;
const UDP: usize = IP + 20;
const RTP: usize = UDP + 8;

/// What the callee protects its packets with, and what it hears is protected with.
pub(super) fn from_callee() -> Result<MasterKey> {
    key(0x11)
}

pub(super) fn to_callee() -> Result<MasterKey> {
    key(0x77)
}

fn key(octet: u8) -> Result<MasterKey> {
    let master: [u8; 30] = std::array::from_fn(|index| index as u8 ^ octet);
    MasterKey::new(Suite::AesCm128HmacSha1_80, &master).context("a key of 30 octets")
}

/// Packets that wait to be sent, and the counts of the streams that they are of.
#[derive(Debug)]
pub(super) struct Prepared {
    keys: Keys,
    streams: Vec<Stream>,
    pub(super) frames: VecDeque<Vec<u8>>,
}

impl Prepared {
    /// For so many streams; `plan` is any flow.
    pub(super) fn new(streams: usize, plan: FlowSpec) -> Result<Self> {
        let flow = FlowSpec { unprotect: Some(from_callee()?), protect: None, ..plan };
        let none = FlowKeys { unprotect: Keys::NONE, protect: Keys::NONE };
        let FlowKeys { unprotect, .. } = keys::compile(&flow, &none, &FlowCrypto::default(), false);
        Ok(Self { keys: unprotect, streams: vec![Stream::default(); streams], frames: VecDeque::new() })
    }

    /// Protects a packet of a stream and puts it behind those that wait.
    pub(super) fn add(&mut self, stream: usize, headers: &[u8; HEADERS], audio: &[u8]) -> Result<()> {
        let plain = [&headers[RTP..], audio].concat();
        let mut scratch = Scratch::new();
        let stream = self.streams.get_mut(stream).context("a stream of the lane")?;
        let protected = scratch
            .load(&plain)
            .and_then(|()| srtp::protect(&mut Straight, &self.keys, stream, &mut scratch, plain.len()))
            .map_err(|reason| anyhow::anyhow!("a packet of the recording: {}", reason.label()))?;
        let mut frame = headers[..RTP].to_vec();
        frame.extend(scratch.octets(protected.len));
        let udp_length = (frame.len() - UDP) as u16;
        frame[IP + 2..IP + 4].copy_from_slice(&(20 + udp_length).to_be_bytes());
        frame[UDP + 4..UDP + 6].copy_from_slice(&udp_length.to_be_bytes());
        frame[IP + 10..IP + 12].fill(0);
        frame[UDP + 6..UDP + 8].fill(0);
        let checksum = folded(words(&frame[IP..UDP]));
        frame[IP + 10..IP + 12].copy_from_slice(&checksum.to_be_bytes());
        // The pseudo header (RFC 768): addresses, protocol and length.
        let pseudo = words(&frame[IP + 12..UDP]) + libc::IPPROTO_UDP as u64 + u64::from(udp_length);
        let checksum = match folded(pseudo + words(&frame[UDP..])) {
            0 => 0xffff,
            checksum => checksum,
        };
        frame[UDP + 6..UDP + 8].copy_from_slice(&checksum.to_be_bytes());
        self.frames.push_back(frame);
        Ok(())
    }
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
