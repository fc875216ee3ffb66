//! The RTCP of a leg that ends here: what we say to one peer of the stream that it hears from us and of the one that we
//! hear from it.
//!
//! Sans-IO: it is fed figures, compounds, time and chance, and gives compounds. Each begins with a report and
//! names its source (RFC 3550 section 6.1), whether or not the peer takes reduced ones (RFC 5506): those are for
//! feedback, of which we send none.

use super::schedule::Schedule;
use super::{Packet, ReportBlock, RoundTrip, SenderInfo, VoipMetrics, packets, write};
use crate::base::time::Time;
use crate::base::token::Tokens;
use gateway_common::learned::FlowState;
use std::time::Duration;

/// Octets of the RTP header without extensions, which the octet count of a sender report leaves out.
const RTP_HEADER: u64 = 12;

/// The stream that goes to the peer, so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub ssrc: u32,
    pub packets: u32,
    /// Of payload alone.
    pub octets: u32,
    /// RTP timestamp of a packet sent at `at`.
    pub timestamp: u32,
    pub at: Time,
    /// RTP clock of the stream in Hz.
    pub clock_rate: u32,
}

/// The stream that comes from the peer, so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heard {
    pub ssrc: u32,
    /// Packets that should have come and those that did, repeats included.
    pub expected: u64,
    pub received: u64,
    /// Highest sequence number with the count of wraps in the upper half.
    pub highest: u32,
    /// In units of the RTP clock.
    pub jitter: u32,
    /// For a peer that wants to hear of it.
    pub metrics: Option<VoipMetrics>,
}

impl Sent {
    /// What left by a flow to the far end, as its state counts it; `None` before the first packet.
    pub fn of(state: &FlowState, clock_rate: u32) -> Option<Self> {
        let statistics = &state.statistics;
        (statistics.packets > 0).then(|| Self {
            ssrc: state.out_ssrc.host(),
            // The counts of a report wrap (RFC 3550 section 6.4.1).
            packets: statistics.packets as u32,
            octets: statistics.octets.saturating_sub(statistics.packets.saturating_mul(RTP_HEADER)) as u32,
            timestamp: state.out_timestamp,
            at: Time(state.sent_at / 1_000),
            clock_rate,
        })
    }
}

impl Heard {
    /// What a flow heard, as its state counts it; `None` before the first packet.
    pub fn of(state: &FlowState) -> Option<Self> {
        (state.statistics.received > 0).then(|| Self {
            ssrc: state.ssrc.host(),
            expected: state.expected(),
            received: state.statistics.received,
            highest: state.highest,
            jitter: state.statistics.jitter_scaled / 16,
            metrics: None,
        })
    }
}

/// What the peer says of the stream that it hears from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Lost between its last two reports, in 1/256.
    pub fraction_lost: u8,
    /// Lost so far; negative when repeats outnumber losses.
    pub cumulative_lost: i32,
    /// In units of the RTP clock.
    pub jitter: u32,
}

impl Opinion {
    pub fn of(block: &ReportBlock) -> Self {
        let ReportBlock { fraction_lost, cumulative_lost, jitter, .. } = *block;
        Self { fraction_lost, cumulative_lost, jitter }
    }
}

/// The reports to one peer.
#[derive(Debug)]
pub struct Reporter {
    schedule: Schedule,
    cname: Box<str>,
    /// Of reports while nothing was sent.
    ssrc: u32,
    /// NTP timestamp of [`Time::ZERO`].
    epoch: u64,
    /// Packets sent when each of the last two reports was, newest first: who sent between is a sender.
    sent_before: [Option<u32>; 2],
    reported: Option<Reported>,
    /// Last sender report of the peer: middle of its NTP timestamp, and when it came.
    peer_report: Option<(u32, Time)>,
    round_trips: RoundTrip,
    round_trip: Option<Duration>,
    opinion: Option<Opinion>,
    /// Reports were sent.
    spoke: bool,
    unreadable: u32,
}

/// What of a source the last report said.
#[derive(Clone, Copy, Debug)]
struct Reported {
    ssrc: u32,
    /// Counts when the source was first reported on: its losses are counted from there.
    first: (u64, u64),
    last: (u64, u64),
}

impl Reporter {
    /// `epoch` is the NTP timestamp of [`Time::ZERO`], as [`ntp_timestamp`] of the wall clock then. Name and SSRC (of
    /// reports while we send nothing) come by chance (RFC 7022, RFC 3550 section 8.1).
    pub fn new(now: Time, epoch: u64, tokens: &mut Tokens) -> Self {
        Self {
            schedule: Schedule::new(now, tokens),
            cname: tokens.token().into(),
            ssrc: tokens.number() as u32,
            epoch,
            sent_before: [None; 2],
            reported: None,
            peer_report: None,
            round_trips: RoundTrip::default(),
            round_trip: None,
            opinion: None,
            spoke: false,
            unreadable: 0,
        }
    }

    /// When [`Self::run`] may have a report to send.
    pub fn deadline(&self) -> Time {
        self.schedule.deadline()
    }

    /// Gives the compound that is due, if one is, of what was sent and heard so far.
    pub fn run(
        &mut self,
        now: Time,
        sent: Option<Sent>,
        heard: Option<Heard>,
        tokens: &mut Tokens,
    ) -> Option<Vec<u8>> {
        let senders = usize::from(self.is_sender(sent)) + usize::from(self.is_news(heard));
        if !self.schedule.is_due(now, senders, tokens) {
            return None;
        }
        let compound = self.report(now, sent, heard);
        self.sent_before = [Some(sent.map_or(0, |sent| sent.packets)), self.sent_before[0]];
        self.schedule.sent(now, compound.len(), senders, tokens);
        self.spoke = true;
        Some(compound)
    }

    /// The last compound: a report and BYE. `None` if the peer never heard of us (RFC 3550 section 6.3.7).
    pub fn goodbye(&mut self, now: Time, sent: Option<Sent>, heard: Option<Heard>) -> Option<Vec<u8>> {
        if !self.spoke && sent.is_none() {
            return None;
        }
        let mut compound = self.report(now, sent, heard);
        write::goodbye(&mut compound, self.ssrc);
        Some(compound)
    }

    /// A compound of the peer. What can be read of it is used.
    pub fn receive(&mut self, now: Time, compound: &[u8]) {
        self.schedule.heard(compound.len());
        for packet in packets(compound) {
            let reports = match packet {
                Ok(Packet::SenderReport { sender, reports, .. }) => {
                    self.peer_report = Some((sender.ntp_middle(), now));
                    reports
                }
                Ok(Packet::ReceiverReport { reports, .. }) => reports,
                Ok(_) => continue,
                Err(_) => {
                    self.unreadable = self.unreadable.saturating_add(1);
                    return;
                }
            };
            for block in reports.iter().filter(|block| block.ssrc == self.ssrc) {
                self.round_trip = self.round_trips.report(block, now).or(self.round_trip);
                self.opinion = Some(Opinion::of(block));
            }
        }
    }

    /// To the peer and back, by its last report that tells.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// What the peer last said of our stream.
    pub fn opinion(&self) -> Option<Opinion> {
        self.opinion
    }

    /// Compounds of the peer that could not be read to their end.
    pub fn unreadable(&self) -> u32 {
        self.unreadable
    }

    /// Whether RTP went out since the report before the last (RFC 3550 section 6.3.8).
    fn is_sender(&self, sent: Option<Sent>) -> bool {
        let packets = sent.map_or(0, |sent| sent.packets);
        packets > 0 && self.sent_before[1].is_none_or(|before| before != packets)
    }

    /// Whether RTP came since the last report.
    fn is_news(&self, heard: Option<Heard>) -> bool {
        let last = self.reported.map(|reported| (reported.ssrc, reported.last.1));
        heard.is_some_and(|heard| last != Some((heard.ssrc, heard.received)))
    }

    /// A report with the name of its source, which every compound has.
    fn report(&mut self, now: Time, sent: Option<Sent>, heard: Option<Heard>) -> Vec<u8> {
        // Blocks are for sources heard since the last report (RFC 3550 section 6.4).
        let news = heard.filter(|_| self.is_news(heard));
        let blocks: Vec<_> = news.map(|heard| self.block(now, heard)).into_iter().collect();
        let mut compound = Vec::with_capacity(96);
        match sent.filter(|_| self.is_sender(sent)) {
            Some(sent) => {
                self.ssrc = sent.ssrc;
                let sender = self.sender_info(now, sent);
                self.round_trips.sender_report(&sender, now);
                write::sender_report(&mut compound, self.ssrc, &sender, &blocks);
            }
            None => write::receiver_report(&mut compound, self.ssrc, &blocks),
        }
        write::source_description(&mut compound, self.ssrc, &self.cname);
        if let Some((heard, metrics)) = news.and_then(|heard| Some((heard.ssrc, heard.metrics?))) {
            write::extended_report(&mut compound, self.ssrc, (heard, &metrics));
        }
        compound
    }

    fn sender_info(&self, now: Time, sent: Sent) -> SenderInfo {
        // The timestamp of this very moment, as if a packet left now (RFC 3550 section 6.4.1).
        let since = now.since(sent.at).as_micros() as u64;
        let elapsed = (u128::from(since) * u128::from(sent.clock_rate) / 1_000_000) as u32;
        SenderInfo {
            ntp: self.epoch.wrapping_add(ntp_units(now.since(Time::ZERO))),
            rtp_timestamp: sent.timestamp.wrapping_add(elapsed),
            packets: sent.packets,
            octets: sent.octets,
        }
    }

    /// RFC 3550 section 6.4.1 and appendix A.3.
    fn block(&mut self, now: Time, heard: Heard) -> ReportBlock {
        let counts = (heard.expected, heard.received);
        let known = self.reported.filter(|reported| reported.ssrc == heard.ssrc);
        // Another source than before counts from the last report on, as nobody tells what came of which.
        let origin = self.reported.map_or((0, 0), |reported| reported.last);
        let reported = known.unwrap_or(Reported { ssrc: heard.ssrc, first: origin, last: origin });
        let lost = |(expected, received): (u64, u64)| {
            let (expected, received) = (counts.0.wrapping_sub(expected), counts.1.wrapping_sub(received));
            (expected, i64::try_from(expected).unwrap_or(i64::MAX).saturating_sub_unsigned(received))
        };
        let (expected, lost_lately) = lost(reported.last);
        let (_, lost_in_all) = lost(reported.first);
        let fraction = (lost_lately.max(0).cast_unsigned() << 8).checked_div(expected).unwrap_or_default();
        self.reported = Some(Reported { last: counts, ..reported });
        let (last_sender_report, delay_since) = match self.peer_report {
            Some((middle, at)) => (middle, u32::try_from(ntp_units(now.since(at)) >> 16).unwrap_or(u32::MAX)),
            None => (0, 0),
        };
        ReportBlock {
            ssrc: heard.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            cumulative_lost: lost_in_all.clamp(i32::MIN.into(), i32::MAX.into()) as i32,
            extended_highest_sequence: heard.highest,
            jitter: heard.jitter,
            last_sender_report,
            delay_since,
        }
    }
}

/// NTP timestamp of a wall-clock time, as its distance from the Unix epoch: era 0 begins with 1900 (RFC 5905
/// section 6).
pub fn ntp_timestamp(since_unix_epoch: Duration) -> u64 {
    const UNIX_EPOCH: u64 = 2_208_988_800;
    (UNIX_EPOCH << 32).wrapping_add(ntp_units(since_unix_epoch))
}

/// A span in units of 2^-32 s.
fn ntp_units(span: Duration) -> u64 {
    (span.as_secs() << 32) + (u64::from(span.subsec_nanos()) << 32) / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: Duration = Duration::from_millis(20);

    /// Two reporters with a network between them, and what each says.
    struct Session {
        tokens: Tokens,
        now: Time,
        ends: [Reporter; 2],
        sent: [Option<Sent>; 2],
        heard: [Option<Heard>; 2],
        said: [Vec<Vec<u8>>; 2],
        way: Duration,
        under_way: Vec<(Time, usize, Vec<u8>)>,
    }

    impl Session {
        fn new(way: Duration) -> Self {
            let (mut tokens, now) = (Tokens::seeded(3), Time(1_000_000_000));
            let epochs = [ntp_timestamp(Duration::from_secs(1_800_000_000)), 0];
            let ends = epochs.map(|epoch| Reporter::new(now, epoch, &mut tokens));
            let (sent, heard) = ([None; 2], [None; 2]);
            Self { tokens, now, ends, sent, heard, said: [vec![], vec![]], way, under_way: vec![] }
        }

        /// `from` sends one packet of 20 ms, which is lost or not.
        fn packet(&mut self, from: usize, lost: bool) {
            let before = self.sent[from];
            let packets = before.map_or(1, |sent| sent.packets + 1);
            let ssrc = 10 + from as u32;
            let timestamp = 0xffff_ff00u32.wrapping_add(packets * 160);
            let octets = packets * 160;
            self.sent[from] =
                Some(Sent { ssrc, packets, octets, timestamp, at: self.now, clock_rate: 8_000 });
            let heard = &mut self.heard[1 - from];
            let received = heard.map_or(0, |heard| heard.received) + u64::from(!lost);
            if !lost {
                let highest = packets + 0xfff0;
                *heard = Some(Heard {
                    ssrc,
                    expected: packets.into(),
                    received,
                    highest,
                    jitter: 24,
                    metrics: None,
                });
            }
        }

        /// Goes on by a packet's time.
        fn step(&mut self) {
            self.now = self.now + PACKET;
            let arrived: Vec<_> = self.under_way.extract_if(.., |(at, ..)| *at <= self.now).collect();
            for (at, to, compound) in arrived {
                self.ends[to].receive(at, &compound);
            }
            for end in 0..2 {
                let (sent, heard) = (self.sent[end], self.heard[end]);
                if let Some(compound) = self.ends[end].run(self.now, sent, heard, &mut self.tokens) {
                    self.under_way.push((self.now + self.way, 1 - end, compound.clone()));
                    self.said[end].push(compound);
                }
            }
        }
    }

    fn read(compound: &[u8]) -> Vec<Packet<'_>> {
        packets(compound).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn both_ends_report_what_they_sent_and_heard_and_learn_the_way_there_and_back() {
        let mut session = Session::new(Duration::from_millis(30));
        for packet in 0..3_000u32 {
            session.packet(0, packet % 50 == 49);
            session.packet(1, false);
            session.step();
        }
        assert!((10..25).contains(&session.said[1].len()), "{} in a minute", session.said[1].len());
        let packets = read(session.said[1].last().unwrap());
        let [Packet::SenderReport { ssrc: 11, sender, reports }, Packet::SourceDescription(sources)] =
            &packets[..]
        else {
            panic!("{packets:?}")
        };
        assert_eq!((sources[0].ssrc, sources[0].cname.unwrap().len()), (11, 16));
        assert_eq!(sender.octets, sender.packets * 160);
        let [block] = &reports[..] else { panic!("{reports:?}") };
        assert_eq!((block.ssrc, block.jitter), (10, 24));
        assert!((4..=6).contains(&block.fraction_lost), "2 % of 256, not {}", block.fraction_lost);
        let expected = block.extended_highest_sequence - 0xfff0;
        assert_eq!(block.cumulative_lost, (expected / 50).cast_signed());
        assert!(block.last_sender_report != 0 && block.delay_since > 0);
        for end in &session.ends {
            let round_trip = end.round_trip().unwrap();
            assert!((55..65).contains(&round_trip.as_millis()), "{round_trip:?}");
        }
        assert_eq!(session.ends[0].opinion().unwrap().jitter, 24);
        assert_eq!(session.ends[1].opinion().unwrap().cumulative_lost, 0);
    }

    #[test]
    fn the_two_clocks_of_a_sender_report_name_one_moment() {
        let mut session = Session::new(Duration::ZERO);
        session.packet(0, false);
        while session.said[0].is_empty() {
            session.step();
        }
        let packets = read(&session.said[0][0]);
        let Packet::SenderReport { sender, .. } = packets[0] else { panic!("{packets:?}") };
        let since = session.now.since(Time(1_000_000_000));
        let elapsed = (since.as_millis() * 8) as u32;
        assert_eq!(sender.rtp_timestamp, 0xffff_ff00u32.wrapping_add(160).wrapping_add(elapsed));
        let seconds = 2_208_988_800u64 + 1_800_000_000 + 1_000 + since.as_secs();
        assert_eq!(sender.ntp >> 32, seconds & 0xffff_ffff);
    }

    #[test]
    fn who_sends_nothing_gives_receiver_reports_and_a_silent_source_is_not_reported_on() {
        let mut session = Session::new(Duration::ZERO);
        for _ in 0..1_000 {
            session.packet(0, false);
            session.step();
        }
        let packets = read(session.said[1].last().unwrap());
        assert!(matches!(&packets[0], Packet::ReceiverReport { reports, .. } if reports.len() == 1));
        for _ in 0..2_000 {
            session.step();
        }
        for end in 0..2 {
            let packets = read(session.said[end].last().unwrap());
            assert!(
                matches!(&packets[0], Packet::ReceiverReport { reports, .. } if reports.is_empty()),
                "{end}: {packets:?}"
            );
        }
    }

    #[test]
    fn another_source_is_counted_from_where_it_began() {
        let (mut tokens, now) = (Tokens::seeded(1), Time(5_000_000));
        let mut reporter = Reporter::new(now, 0, &mut tokens);
        let heard = |ssrc, expected, received| Heard {
            ssrc,
            expected,
            received,
            highest: 9,
            jitter: 0,
            metrics: None,
        };
        let first = reporter.block(now, heard(1, 100, 90));
        assert_eq!((first.cumulative_lost, first.fraction_lost), (10, 25));
        let second = reporter.block(now, heard(2, 200, 190));
        assert_eq!((second.cumulative_lost, second.fraction_lost), (0, 0));
        let repeats = reporter.block(now, heard(2, 300, 295));
        assert_eq!((repeats.cumulative_lost, repeats.fraction_lost), (-5, 0));
    }

    #[test]
    fn goodbye_says_who_leaves_to_those_that_know_us() {
        let mut session = Session::new(Duration::ZERO);
        assert_eq!(session.ends[0].goodbye(session.now, None, None), None);
        session.packet(0, false);
        let compound = session.ends[0].goodbye(session.now, session.sent[0], None).unwrap();
        let packets = read(&compound);
        assert!(matches!(packets[0], Packet::SenderReport { ssrc: 10, .. }));
        assert_eq!(packets[2], Packet::Goodbye { sources: vec![10] });
    }

    #[test]
    fn reports_that_lie_or_are_cut_are_counted_and_change_nothing() {
        let (mut tokens, now) = (Tokens::seeded(1), Time(5_000_000));
        let mut reporter = Reporter::new(now, 0, &mut tokens);
        for cut in [&[0x81, 201, 0, 7, 0, 0][..], &[0x00; 8], &[0x9f, 200, 0, 1, 0, 0, 0, 1]] {
            reporter.receive(now, cut);
        }
        assert_eq!((reporter.unreadable(), reporter.opinion(), reporter.round_trip()), (3, None, None));
    }
}
