//! Distributions that a core adds to while the scrape reads them.

use super::super::event::CallEnd;
use super::super::quality::MediaQuality;
use super::NoLabels;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Upper bounds of the set-up delay's buckets, in seconds.
const SETUP_BUCKETS: [f64; 12] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// Two halves: the core writes to whichever the scrape does not hold, so it never waits.
#[derive(Debug)]
struct Halves<T>([Mutex<T>; 2]);

impl<T> Halves<T> {
    fn write(&self, change: impl FnOnce(&mut T)) {
        let [first, second] = &self.0;
        change(&mut first.try_lock().unwrap_or_else(|| second.lock()));
    }

    fn read(&self, mut look: impl FnMut(&T)) {
        self.0.iter().for_each(|half| look(&half.lock()));
    }
}

/// Set-up delay, in microseconds.
#[derive(Debug)]
pub(super) struct Delay(Halves<Histogram<u64>>);

impl Default for Delay {
    fn default() -> Self {
        Self(Halves(std::array::from_fn(|_| Mutex::new(Self::empty()))))
    }
}

impl Delay {
    pub(super) fn empty() -> Histogram<u64> {
        const LONGEST: u64 = 600_000_000;
        Histogram::new_with_bounds(1, LONGEST, 2).expect("the bounds are constants that hdrhistogram takes")
    }

    pub(super) fn record(&self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.0.write(|half| half.saturating_record(micros));
    }

    pub(super) fn add_to(&self, sum: &mut Histogram<u64>) {
        self.0.read(|half| sum.add(half).expect("all halves have the same bounds"));
    }
}

pub(super) fn encode_setup_delay(
    delays: &Histogram<u64>,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let mut before = 0;
    let mut buckets: Vec<_> = SETUP_BUCKETS
        .iter()
        .map(|bound| {
            let until = delays.count_between(0, (bound * 1e6) as u64);
            let bucket = (*bound, until - before);
            before = until;
            bucket
        })
        .collect();
    buckets.push((f64::INFINITY, delays.len() - before));
    let sum = delays.mean() * delays.len() as f64 / 1e6;
    let help = "From the INVITE to the first 180, 183 or 200 sent to the caller";
    encoder
        .encode_descriptor("causeway_setup_delay_seconds", help, None, MetricType::Histogram)?
        .encode_histogram::<NoLabels>(sum, delays.len(), &buckets, None)
}

/// A figure of calls: its name, its help and the upper bounds of its buckets.
type Figure = (&'static str, &'static str, &'static [f64]);

/// What is told of the media of calls that ended, as it was heard from the peers of each trunk.
const FIGURES: [Figure; 4] = [
    (
        "causeway_call_mos",
        "Mean opinion score of a call's media as it came from a peer of the trunk (ITU-T G.107)",
        &[1.5, 2.0, 2.5, 3.0, 3.5, 3.8, 4.0, 4.2, 4.3, 4.4],
    ),
    (
        "causeway_call_loss_ratio",
        "Share of a call's RTP packets from a peer of the trunk that never came",
        &[0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5],
    ),
    (
        "causeway_call_jitter_seconds",
        "Interarrival jitter of a call's RTP from a peer of the trunk, at its end",
        &[0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2],
    ),
    (
        "causeway_call_round_trip_seconds",
        "From us to a call's peer of the trunk and back, by its last RTCP report",
        &[0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0],
    ),
];

/// Quality of calls by the name of the trunk: as many as the configuration has, however many calls there are.
#[derive(Debug, Default)]
pub(super) struct Quality(Halves<ByTrunk>);

type ByTrunk = BTreeMap<Arc<str>, [Distribution; FIGURES.len()]>;

impl Default for Halves<ByTrunk> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Quality {
    /// A call ended.
    pub(super) fn record(&self, end: &CallEnd) {
        self.record_leg(&end.start.trunk, &end.from_caller);
        if let Some(trunk) = &end.to_trunk {
            self.record_leg(trunk, &end.from_callee);
        }
    }

    fn record_leg(&self, trunk: &Arc<str>, heard: &MediaQuality) {
        if heard.packets == 0 {
            return;
        }
        let round_trip = heard.round_trip_ms.map(|span| span / 1e3);
        let values = [heard.mos, Some(heard.loss()), Some(heard.jitter_ms / 1e3), round_trip];
        self.0.write(|half| {
            let distributions = half.entry(Arc::clone(trunk)).or_default();
            for ((distribution, value), (_, _, bounds)) in distributions.iter_mut().zip(values).zip(&FIGURES)
            {
                if let Some(value) = value {
                    distribution.record(bounds, value);
                }
            }
        });
    }

    fn add_to(&self, sum: &mut ByTrunk) {
        self.0.read(|half| {
            for (trunk, distributions) in half {
                let sums = sum.entry(Arc::clone(trunk)).or_default();
                sums.iter_mut().zip(distributions).for_each(|(sum, part)| sum.add(part));
            }
        });
    }
}

pub(super) fn encode_quality<'a>(
    cores: impl Iterator<Item = &'a Quality>,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let mut sum = ByTrunk::default();
    cores.for_each(|core| core.add_to(&mut sum));
    for (index, (name, help, bounds)) in FIGURES.iter().enumerate() {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (trunk, distribution) in sum.iter().filter_map(|(trunk, all)| Some((trunk, all.get(index)?))) {
            let buckets = distribution.buckets(bounds);
            let labels = [("trunk", &**trunk)];
            metric.encode_family(&labels)?.encode_histogram::<NoLabels>(
                distribution.sum,
                distribution.count(),
                &buckets,
                None,
            )?;
        }
    }
    Ok(())
}

/// Counts by bucket; the last is what is above all bounds.
#[derive(Clone, Debug, Default)]
struct Distribution {
    counts: Vec<u64>,
    sum: f64,
}

impl Distribution {
    fn record(&mut self, bounds: &[f64], value: f64) {
        let bucket = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
        if self.counts.is_empty() {
            self.counts = vec![0; bounds.len() + 1];
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
            self.sum += value;
        }
    }

    fn add(&mut self, other: &Self) {
        if self.counts.is_empty() {
            self.counts = vec![0; other.counts.len()];
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.sum += other.sum;
    }

    fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn buckets(&self, bounds: &[f64]) -> Vec<(f64, u64)> {
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied().chain(std::iter::repeat(0))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_records_a_delay_while_the_scrape_holds_a_half() {
        let delay = Delay::default();
        let held = delay.0.0[0].lock();
        delay.record(Duration::from_millis(3));
        drop(held);
        let mut sum = Delay::empty();
        delay.add_to(&mut sum);
        assert_eq!(sum.len(), 1);
    }

    #[test]
    fn a_value_at_a_bound_is_below_it_and_one_above_all_is_in_the_last() {
        let mut distribution = Distribution::default();
        [0.0, 1.0, 1.1, 7.0].into_iter().for_each(|value| distribution.record(&[1.0, 2.0], value));
        assert_eq!(distribution.buckets(&[1.0, 2.0]), [(1.0, 2), (2.0, 1), (f64::INFINITY, 1)]);
        assert_eq!(Distribution::default().buckets(&[1.0]), [(1.0, 0), (f64::INFINITY, 0)]);
    }
}
