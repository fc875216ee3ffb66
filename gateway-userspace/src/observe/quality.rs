//! How the media of a call fares: figures of each direction, and how they went over the call.

use super::path::RelayPath;
use crate::base::id::Side;
use crate::base::time::Time;
use std::time::Duration;

/// One direction of media, from the first packet to the last (RFC 3550 section 6.4.1), as it came from a side.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MediaQuality {
    /// RTP packets relayed and their octets of UDP payload.
    pub packets: u64,
    pub octets: u64,
    /// Of `packets`, those relayed by the kernel.
    pub fast_path_packets: u64,
    /// Who relayed the last of them, and why; absent where no flow stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relayed_by: Option<RelayPath>,
    pub lost: u64,
    pub late: u64,
    /// Of `packets`, those that came and were not heard, where media is coded anew: too late, or nothing of their codec.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub discarded: u64,
    /// Milliseconds of audio that were made up for them, and for lost ones, there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub concealed_ms: u64,
    /// Interarrival jitter at the end, in milliseconds.
    pub jitter_ms: f64,
    /// From us to the far end and back, in milliseconds; absent where no RTCP of it told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
    /// Mean opinion score, 1.0 to 4.5, by the E-model (ITU-T G.107); absent without packets.
    pub mos: Option<f64>,
}

impl MediaQuality {
    /// Packets that were not heard: they never came, or came for nothing.
    pub fn missed(&self) -> u64 {
        self.lost + self.discarded
    }

    /// Share of the packets that were not heard, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.missed() as f64 / (self.packets + self.lost).max(1) as f64
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The other direction, as the far end says in its RTCP that it heard it.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FarEndQuality {
    /// Negative when repeats outnumber losses.
    pub lost: i64,
    /// Share of what was sent there that it misses, 0 to 1.
    pub loss: f64,
    pub jitter_ms: f64,
    /// Mean opinion score, as in [`MediaQuality`].
    pub mos: Option<f64>,
}

/// All that is known of a call's media.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CallMedia {
    pub from_caller: MediaQuality,
    pub from_callee: MediaQuality,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_caller: Option<FarEndQuality>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_callee: Option<FarEndQuality>,
    /// How it went, in order of time.
    pub samples: Vec<Point>,
}

/// One stretch of a call.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Point {
    /// Its end, since the INVITE.
    pub at_ms: u64,
    /// Absent where nothing came.
    pub from_caller: Option<PointQuality>,
    pub from_callee: Option<PointQuality>,
}

/// What came from one side in a stretch of a call; of longer stretches the mean loss and the worst of the others.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PointQuality {
    /// 0 to 1.
    pub loss: f64,
    pub jitter_ms: f64,
    pub mos: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
}

/// Between two looks at a call's media.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Samples that are kept: of a longer call, each stands for a longer stretch. Even, as they are halved.
const SAMPLES_MAX: usize = 32;

/// A call's media over its time, in bounded memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    begun: Time,
    /// Packets expected and lost until the last look, by side.
    before: [Counts; 2],
    /// Looks that a sample stands for.
    stride: u16,
    /// Looks in `last`.
    looks: u16,
    last: Sample,
    samples: Vec<Sample>,
}

/// Packets that should have come from a side, and those of them that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub expected: u64,
    pub lost: u64,
}

/// In units that two octets hold: this is kept for every call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sample([Packed; 2]);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Packed {
    /// 1/10,000.
    loss: u16,
    /// 0.1 ms.
    jitter: u16,
    /// 0.1 ms, 0 for unknown.
    round_trip: u16,
    /// 1/10,000 of it, 0 for silence.
    mos: u16,
}

impl Series {
    pub fn new(begun: Time) -> Self {
        Self {
            begun,
            before: Default::default(),
            stride: 1,
            looks: 0,
            last: Sample::default(),
            samples: vec![],
        }
    }

    /// Share of the packets of `side` that were lost since the last look; `None` if none was expected.
    pub fn loss_since(&self, side: Side, now: Counts) -> Option<f64> {
        let before = self.before[side.index()];
        let expected = now.expected.saturating_sub(before.expected);
        (expected > 0).then(|| (now.lost.saturating_sub(before.lost) as f64 / expected as f64).min(1.0))
    }

    /// Takes down what was seen by a look, by side.
    pub fn look(&mut self, counts: [Counts; 2], seen: [Option<PointQuality>; 2]) {
        self.before = counts;
        let seen = Sample(seen.map(|seen| seen.map(Packed::of).unwrap_or_default()));
        self.last = if self.looks == 0 { seen } else { self.last.with(seen, self.looks) };
        self.looks += 1;
        if self.looks < self.stride {
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples = self.samples.chunks_exact(2).map(|pair| pair[0].with(pair[1], 1)).collect();
            self.stride = self.stride.saturating_mul(2);
            // `last` is the first half of the next sample by now.
            return;
        }
        // No more room than is used: it is kept as long as the call.
        self.samples.reserve_exact(1);
        self.samples.push(self.last);
        self.looks = 0;
    }

    /// All samples, of a call whose INVITE came at `started`.
    pub fn points(&self, started: Time) -> Vec<Point> {
        let until = |index: usize| self.begun + LOOK_EVERY * (u32::from(self.stride) * (index as u32 + 1));
        let point = |(index, sample): (usize, &Sample)| Point {
            at_ms: u64::try_from(until(index).since(started).as_millis()).unwrap_or(u64::MAX),
            from_caller: sample.0[0].quality(),
            from_callee: sample.0[1].quality(),
        };
        self.samples.iter().enumerate().map(point).collect()
    }
}

impl Sample {
    /// One stretch of both: `self` stands for `looks`, `next` for as many if it is a sample, else for one.
    fn with(self, next: Self, looks: u16) -> Self {
        let [caller, callee] = self.0;
        Self([caller.with(next.0[0], looks), callee.with(next.0[1], looks)])
    }
}

impl Packed {
    fn of(quality: PointQuality) -> Self {
        let packed = |value: f64| value.round().clamp(0.0, f64::from(u16::MAX)) as u16;
        Self {
            loss: packed(quality.loss * 1e4),
            jitter: packed(quality.jitter_ms * 10.0),
            round_trip: packed(quality.round_trip_ms.unwrap_or_default() * 10.0),
            mos: packed(quality.mos * 1e4),
        }
    }

    fn quality(&self) -> Option<PointQuality> {
        (self.mos > 0).then(|| PointQuality {
            loss: f64::from(self.loss) / 1e4,
            jitter_ms: f64::from(self.jitter) / 10.0,
            mos: f64::from(self.mos) / 1e4,
            round_trip_ms: (self.round_trip > 0).then(|| f64::from(self.round_trip) / 10.0),
        })
    }

    fn with(self, next: Self, looks: u16) -> Self {
        match (self.mos, next.mos) {
            (0, _) => next,
            (_, 0) => self,
            (mos, next_mos) => Self {
                loss: ((u32::from(self.loss) * u32::from(looks) + u32::from(next.loss))
                    / (u32::from(looks) + 1)) as u16,
                jitter: self.jitter.max(next.jitter),
                round_trip: self.round_trip.max(next.round_trip),
                mos: mos.min(next_mos),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(loss: f64, jitter_ms: f64, mos: f64) -> PointQuality {
        PointQuality { loss, jitter_ms, mos, round_trip_ms: None }
    }

    #[test]
    fn a_look_tells_what_was_lost_since_the_one_before() {
        let mut series = Series::new(Time::ZERO);
        let counts = |expected, lost| Counts { expected, lost };
        assert_eq!(series.loss_since(Side::Caller, counts(0, 0)), None);
        assert_eq!(series.loss_since(Side::Caller, counts(250, 5)), Some(0.02));
        series.look([counts(250, 5), Counts::default()], [None; 2]);
        assert_eq!(series.loss_since(Side::Caller, counts(500, 5)), Some(0.0));
        assert_eq!(
            series.loss_since(Side::Caller, counts(260, 2)),
            Some(0.0),
            "what was late came after all"
        );
    }

    #[test]
    fn a_long_call_keeps_its_worst_moments_in_as_much_memory_as_a_short_one() {
        let mut series = Series::new(Time(1_000_000));
        for look in 0..1_000u32 {
            let jitter = if look == 617 { 80.0 } else { 1.5 };
            let mos = if look == 617 { 2.1 } else { 4.4 };
            let callee = (look % 2 == 0).then(|| seen(0.0, 2.0, 4.3));
            series.look(Default::default(), [Some(seen(0.01, jitter, mos)), callee]);
            assert!(series.samples.len() <= SAMPLES_MAX && series.samples.capacity() <= SAMPLES_MAX);
        }
        let points = series.points(Time::ZERO);
        assert!((16..=32).contains(&points.len()));
        let stretch = points[1].at_ms - points[0].at_ms;
        assert_eq!(points[0].at_ms, 1_000 + stretch);
        assert!(points.iter().all(|point| (point.from_caller.unwrap().loss - 0.01).abs() < 1e-3));
        let worst: Vec<_> =
            points.iter().filter(|point| point.from_caller.is_some_and(|seen| seen.mos == 2.1)).collect();
        assert_eq!(worst.len(), 1);
        assert_eq!(worst[0].from_caller.unwrap().jitter_ms, 80.0);
        let at = 1_000 + 618 * 5_000;
        assert!((worst[0].at_ms - stretch..=worst[0].at_ms).contains(&at), "{} for {at}", worst[0].at_ms);
        assert!(points.iter().all(|point| point.from_callee.is_some_and(|seen| seen.mos == 4.3)));
    }

    #[test]
    fn silence_is_no_sample() {
        let mut series = Series::new(Time::ZERO);
        series.look(Default::default(), [None, Some(seen(1.0, 70_000.0, 1.0))]);
        let [point] = series.points(Time::ZERO)[..] else { panic!() };
        assert_eq!((point.at_ms, point.from_caller), (5_000, None));
        assert_eq!(point.from_callee, Some(seen(1.0, 6_553.5, 1.0)));
    }
}
