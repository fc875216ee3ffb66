//! Replays one recording as many calls: each call and direction has its own addresses, ports, SSRC, sequence
//! numbers and timestamps, and valid checksums, so that a relay has to do all of its work.
//!
//! The sender is made to cost little and to cost the same whatever relay follows: headers are prepared, ten
//! octets of a frame change from packet to packet, the audio is never copied in userspace, and 64 frames go
//! to the kernel at once.

use super::lab::{CALLS_PER_ADDRESS, ENDPOINT_INTERFACE, Path, Port, Side, enter};
use super::processor_time;
use super::recording::{Packet, Recording};
use super::secured::Prepared;
use crate::packet_socket::{BATCH, Frame, PacketSocket};
use anyhow::{Context, Result, ensure};
use gateway_userspace::media::plan::FlowSpec;
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, gettid, sched_setaffinity};
use std::io::IoSlice;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Ethernet, IPv4, UDP and RTP in front of the audio.
pub(crate) const HEADERS: usize = 14 + 20 + 8 + 12;
const IP: usize = 14;
const UDP: usize = IP + 20;
const RTP: usize = UDP + 8;

/// Nice value of who comes before all others.
const FIRST: i32 = -20;

/// How often a paced sender wakes up.
const TICK: Duration = Duration::from_millis(1);

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// As fast as one processor can.
    Unpaced,
    PacketsPerSecond(f64),
}

/// What a run sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) packets: u64,
    pub(crate) elapsed: Duration,
    /// Processor time that the kernel charged to the sending thread, softirqs on top of it included.
    pub(crate) charged: Duration,
}

impl Sent {
    pub(crate) fn rate(&self) -> f64 {
        self.packets as f64 / self.elapsed.as_secs_f64()
    }
}

/// What tells a packet from all others of a replay, in a frame that leaves as in one that arrives: a relay changes neither,
/// whether it protects the packet or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PacketId {
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
}

impl PacketId {
    /// Of an Ethernet frame with IPv4, UDP and RTP.
    pub(crate) fn of(frame: &[u8]) -> Option<Self> {
        let [_, _, high, low, _, _, _, _, ssrc @ ..] = frame.get(RTP..HEADERS)?.first_chunk::<12>()?;
        Some(Self { ssrc: u32::from_be_bytes(*ssrc), sequence: u16::from_be_bytes([*high, *low]) })
    }
}

/// A packet, and when it left or arrived, since the epoch.
pub(crate) type Moment = (PacketId, Duration);

/// Media ports of one call: where each end receives, and where the relay listens for that end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallPorts {
    pub(crate) endpoint: [u16; 2],
    pub(crate) relay: [u16; 2],
}

/// First port at the endpoints; each call takes an even one and leaves the next to RTCP.
const ENDPOINT_PORTS: u16 = 10_000;

/// Where the ends of call number `call` receive.
pub(crate) fn endpoint_port(call: usize) -> u16 {
    port_from(ENDPOINT_PORTS, call)
}

/// The even port of call number `call` where those of its address begin with `first`.
pub(crate) fn port_from(first: u16, call: usize) -> u16 {
    first + 2 * (call % CALLS_PER_ADDRESS) as u16
}

/// All calls over one relay.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    lanes: [Lane<'a>; 2],
}

/// One direction: its interface and its streams.
#[derive(Debug)]
struct Lane<'a> {
    recording: &'a Recording,
    socket: PacketSocket,
    streams: Vec<Stream>,
    /// Frames sent so far, or prepared; stream and position in the recording follow from it.
    sent: u64,
    /// Packets that are protected, of a lane with SRTP.
    prepared: Option<Prepared>,
}

impl<'a> Replay<'a> {
    /// # Errors
    /// The lab is not up, or no CAP_NET_RAW.
    pub(crate) fn over(path: &Path<'_>, calls: &[CallPorts], recording: &'a Recording) -> Result<Self> {
        Self::between(path, calls, [recording; 2])
    }

    /// With a recording for either side.
    ///
    /// # Errors
    /// As [`Replay::over`].
    pub(crate) fn between(
        path: &Path<'_>,
        calls: &[CallPorts],
        recordings: [&'a Recording; 2],
    ) -> Result<Self> {
        let lane = |side: Side| -> Result<Lane<'a>> {
            let recording = recordings[side as usize];
            let namespace = path.endpoint_namespace(side);
            let socket = enter(&namespace, || PacketSocket::sender(ENDPOINT_INTERFACE))?;
            let (from, to) = (path.endpoint(side), path.gateway(side));
            let streams = calls.iter().enumerate().map(|(call, ports)| {
                let ssrc = (call as u32 + 1) << 1 | u32::from(side == Side::Callee);
                let (from, to) = (from.of_call(call), to.of_call(call));
                Stream::new((from, ports.endpoint[side as usize]), (to, ports.relay[side as usize]), ssrc)
            });
            Ok(Lane { recording, socket, streams: streams.collect(), sent: 0, prepared: None })
        };
        ensure!(!calls.is_empty(), "a replay needs at least one call");
        Ok(Self { lanes: [lane(Side::Caller)?, lane(Side::Callee)?] })
    }

    /// What the callee sends is SRTP from now on; `flows` are any.
    ///
    /// # Errors
    /// There is no flow.
    pub(crate) fn secure(&mut self, mut flows: Vec<FlowSpec>) -> Result<()> {
        let lane = &mut self.lanes[Side::Callee as usize];
        let flow = flows.pop().context("a plan has flows")?;
        lane.prepared = Some(Prepared::new(lane.streams.len(), flow)?);
        Ok(())
    }

    /// Protects what a run of `packets` sends.
    ///
    /// # Errors
    /// A packet of the recording cannot be protected.
    pub(crate) fn prepare(&mut self, packets: u64) -> Result<()> {
        let each = packets as usize / 2 + 2 * BATCH;
        self.lanes.iter_mut().try_for_each(|lane| lane.prepare(each))
    }

    /// Sends at least `packets`, half in each direction, from a thread pinned to `processor`.
    ///
    /// # Errors
    /// An interface is gone.
    pub(crate) fn run(&mut self, pace: Pace, packets: u64, processor: usize) -> Result<Sent> {
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut set = CpuSet::new();
                set.set(processor);
                sched_setaffinity(None, &set).context("cannot pin the sender to one processor")?;
                if pace == Pace::Unpaced {
                    // The processor is all its own: whatever else wants to run has the other ones.
                    setpriority_process(Some(gettid()), FIRST).context("priority of the sender")?;
                }
                let charged = processor_time::of_this_thread();
                let mut sent = self.send(pace, packets)?;
                sent.charged = processor_time::of_this_thread() - charged;
                Ok(sent)
            });
            sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn send(&mut self, pace: Pace, packets: u64) -> Result<Sent> {
        let started = Instant::now();
        let mut sent = 0;
        while sent < packets {
            let due = match pace {
                Pace::Unpaced => packets,
                Pace::PacketsPerSecond(rate) => {
                    let due = (started.elapsed().as_secs_f64() * rate) as u64;
                    if due <= sent {
                        thread::sleep(TICK);
                        continue;
                    }
                    due.min(packets)
                }
            };
            while sent < due {
                let each = ((due - sent).div_ceil(2) as usize).min(BATCH);
                for lane in &mut self.lanes {
                    sent += lane.send(each)?;
                }
            }
        }
        Ok(Sent { packets: sent, elapsed: started.elapsed(), charged: Duration::ZERO })
    }

    /// Sends one packet of each call in both directions, and writes down when. Waits `gap` after each packet.
    ///
    /// # Errors
    /// An interface is gone, or does not take a packet.
    pub(crate) fn round(&mut self, gap: Duration, departures: &mut Vec<Moment>) -> Result<()> {
        for _ in 0..self.lanes[0].streams.len() {
            for lane in &mut self.lanes {
                departures.push(lane.send_one()?);
                thread::sleep(gap);
            }
        }
        Ok(())
    }
}

impl Lane<'_> {
    /// Sends the next `count` frames, at most [`BATCH`]; answers how many the interface took.
    fn send(&mut self, count: usize) -> Result<u64> {
        if let Some(prepared) = &mut self.prepared {
            let waiting = prepared.frames.iter().take(count);
            let frames: Vec<Frame<'_>> =
                waiting.map(|frame| [IoSlice::new(frame), IoSlice::new(&[])]).collect();
            ensure!(!frames.is_empty(), "nothing is prepared to be sent");
            let taken = self.socket.send(&frames).context("send")?;
            drop(prepared.frames.drain(..taken));
            return Ok(taken as u64);
        }
        let (length, sent) = (self.streams.len() as u64, self.sent);
        let first = (sent % length) as usize;
        let (wrapped, ahead) = self.streams.split_at_mut(first);
        let (now, next) = (sent / length, sent / length + 1);
        let mut frames = Vec::<Frame<'_>>::with_capacity(BATCH);
        let order = ahead
            .iter_mut()
            .map(|stream| (stream, now))
            .chain(wrapped.iter_mut().map(|stream| (stream, next)));
        for (stream, position) in order.take(count) {
            let (packet, timestamp) = self.recording.at(position);
            let headers = stream.next(packet, position as u16, timestamp, packet.payload.len(), packet.sum);
            frames.push([IoSlice::new(headers), IoSlice::new(&packet.payload)]);
        }
        let taken = self.socket.send(&frames).context("send")? as u64;
        self.sent += taken;
        Ok(taken)
    }

    /// Protects packets until `count` wait, where the lane's are protected.
    fn prepare(&mut self, count: usize) -> Result<()> {
        let Some(prepared) = &mut self.prepared else { return Ok(()) };
        while prepared.frames.len() < count {
            let length = self.streams.len() as u64;
            let (index, position) = ((self.sent % length) as usize, self.sent / length);
            let (packet, timestamp) = self.recording.at(position);
            let stream = &mut self.streams[index];
            let headers = stream.next(packet, position as u16, timestamp, packet.payload.len(), packet.sum);
            prepared.add(index, headers.first_chunk().context("headers of a packet")?, &packet.payload)?;
            self.sent += 1;
        }
        Ok(())
    }

    /// Sends the next frame, and answers when.
    fn send_one(&mut self) -> Result<Moment> {
        self.prepare(1)?;
        let length = self.streams.len() as u64;
        let (index, position) = ((self.sent % length) as usize, self.sent / length);
        let frame: Frame<'_> = match &self.prepared {
            Some(prepared) => {
                let frame = prepared.frames.front().context("a packet was prepared")?;
                [IoSlice::new(frame), IoSlice::new(&[])]
            }
            None => {
                let (packet, timestamp) = self.recording.at(position);
                let stream = &mut self.streams[index];
                let headers =
                    stream.next(packet, position as u16, timestamp, packet.payload.len(), packet.sum);
                [IoSlice::new(headers), IoSlice::new(&packet.payload)]
            }
        };
        let packet = PacketId::of(&frame[0]).context("headers of a packet")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        ensure!(self.socket.send(&[frame]).context("send")? == 1, "the interface takes no packet");
        match &mut self.prepared {
            Some(prepared) => drop(prepared.frames.pop_front()),
            None => self.sent += 1,
        }
        Ok((packet, now))
    }
}

/// A single frame with audio in it.
pub(crate) fn frame(from: (Port, u16), to: (Port, u16), payload_type: u8, payload: &[u8]) -> Vec<u8> {
    let packet = Packet {
        marker_and_type: payload_type,
        timestamp: 0,
        sum: words(payload),
        payload: payload.to_vec(),
    };
    let mut stream = Stream::new(from, to, 1);
    [stream.next(&packet, 1, 0, payload.len(), packet.sum), payload].concat()
}

/// One direction of one call.
#[derive(Debug)]
struct Stream {
    headers: [u8; HEADERS],
    /// One's complement sum over what stays the same under the UDP checksum.
    sum: u64,
}

impl Stream {
    fn new(from: (Port, u16), to: (Port, u16), ssrc: u32) -> Self {
        let mut headers = [0; HEADERS];
        headers[..6].copy_from_slice(&to.0.mac);
        headers[6..12].copy_from_slice(&from.0.mac);
        headers[12..14].copy_from_slice(&[0x08, 0x00]);
        headers[IP] = 0x45;
        headers[IP + 6] = 0x40;
        headers[IP + 8] = 64;
        headers[IP + 9] = libc::IPPROTO_UDP as u8;
        headers[IP + 12..IP + 16].copy_from_slice(&from.0.address.octets());
        headers[IP + 16..IP + 20].copy_from_slice(&to.0.address.octets());
        headers[UDP..UDP + 2].copy_from_slice(&from.1.to_be_bytes());
        headers[UDP + 2..UDP + 4].copy_from_slice(&to.1.to_be_bytes());
        headers[RTP] = 0x80;
        headers[RTP + 8..].copy_from_slice(&ssrc.to_be_bytes());
        // The pseudo header (RFC 768) and everything else that `next` does not write.
        let sum = words(&headers[IP + 12..]) + libc::IPPROTO_UDP as u64;
        Self { headers, sum }
    }

    /// Headers of the stream's next packet, whose audio has `length` octets and `payload_sum` as their sum.
    /// Lengths are written each time: packets of a recording may differ.
    fn next(
        &mut self,
        packet: &Packet,
        sequence: u16,
        timestamp: u32,
        length: usize,
        payload_sum: u64,
    ) -> &[u8] {
        let udp_length = (8 + 12 + length) as u16;
        let headers = &mut self.headers;
        headers[IP + 2..IP + 4].copy_from_slice(&(20 + udp_length).to_be_bytes());
        headers[IP + 10..IP + 12].copy_from_slice(&[0, 0]);
        let ip_sum = checksum(words(&headers[IP..UDP]));
        headers[IP + 10..IP + 12].copy_from_slice(&ip_sum.to_be_bytes());
        headers[UDP + 4..UDP + 6].copy_from_slice(&udp_length.to_be_bytes());
        headers[RTP + 1] = packet.marker_and_type;
        headers[RTP + 2..RTP + 4].copy_from_slice(&sequence.to_be_bytes());
        headers[RTP + 4..RTP + 8].copy_from_slice(&timestamp.to_be_bytes());
        // The UDP length counts twice: in its header and in the pseudo header.
        let changing = 2 * u64::from(udp_length)
            + u64::from(packet.marker_and_type)
            + u64::from(sequence)
            + u64::from(timestamp >> 16)
            + u64::from(timestamp & 0xffff);
        let sum = checksum(self.sum + changing + payload_sum);
        // Zero says "no checksum"; the other zero of one's complement says zero (RFC 768).
        let sum = if sum == 0 { 0xffff } else { sum };
        headers[UDP + 6..UDP + 8].copy_from_slice(&sum.to_be_bytes());
        headers
    }
}

/// Sum of 16-bit words, an odd octet being the upper half of the last one.
pub(crate) fn words(octets: &[u8]) -> u64 {
    let (pairs, rest) = octets.as_chunks::<2>();
    let pairs: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    pairs + rest.first().map_or(0, |octet| u64::from(*octet) << 8)
}

/// The Internet checksum (RFC 1071) of a sum of words.
fn checksum(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn both_checksums_verify_whatever_the_length_of_the_audio() {
        let port = |host| Port { address: Ipv4Addr::new(198, 18, 1, host), mac: [2, 0, 18, 1, 0, host] };
        let mut stream = Stream::new((port(2), 10_000), (port(1), 20_000), 0xdead_beef);
        for length in [160_usize, 33, 0] {
            let payload: Vec<u8> = (0..length).map(|octet| octet as u8 ^ 0xd5).collect();
            let packet = Packet { marker_and_type: 0x88, timestamp: 0, sum: words(&payload), payload };
            let headers = stream.next(&packet, 0xfffe, 0xffff_ff60, length, packet.sum).to_vec();

            assert_eq!(checksum(words(&headers[IP..UDP])), 0);
            let pseudo = words(&headers[IP + 12..UDP]) + 17 + (20 + length) as u64;
            assert_eq!(checksum(pseudo + words(&headers[UDP..]) + words(&packet.payload)), 0);
        }
    }
}
