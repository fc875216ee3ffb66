//! Keys that come as tones: found, reported, and taken out of the audio before anybody hears them.

use crate::codec::resample::Resampler;
use crate::signal::dtmf::{Detection, Detector, LOOK_AHEAD};
use std::collections::VecDeque;
use std::ops::Range;

const DETECTOR_RATE: u32 = 8_000;
/// Samples of the detector by which a beginning or an end may be off: 8 ms, and what the resampler delays.
const MARGIN: u64 = 64 + 16;
/// Tones that may lie in the audio held back.
const MOST_RANGES: usize = 8;

/// Audio held back by [`LOOK_AHEAD`], so that a tone can be taken out from its beginning on.
#[derive(Debug)]
pub(super) struct TonesOut {
    detector: Detector,
    resampler: Resampler,
    narrow: Vec<i16>,
    held: VecDeque<i16>,
    /// Samples of the stream's rate for one of the detector's.
    scale: u64,
    /// Samples that have come, and that have gone, at the stream's rate.
    come: u64,
    gone: u64,
    /// Of those that have come, up to which one they are the peer's.
    heard: u64,
    /// To be silenced, oldest first; the last is open while a key is down.
    silenced: VecDeque<Range<u64>>,
}

impl TonesOut {
    /// For audio of `rate` samples a second.
    pub(super) fn new(rate: u32) -> Self {
        let scale = u64::from(rate / DETECTOR_RATE);
        let held = LOOK_AHEAD as u64 * scale;
        Self {
            detector: Detector::new(),
            resampler: Resampler::new(rate, DETECTOR_RATE),
            narrow: Vec::new(),
            held: std::iter::repeat_n(0, held as usize).collect(),
            scale,
            come: held,
            gone: 0,
            heard: 0,
            silenced: VecDeque::with_capacity(MOST_RANGES),
        }
    }

    /// Whether audio of the peer is held back still.
    pub(super) fn holds(&self) -> bool {
        self.gone < self.heard
    }

    /// Puts audio of earlier, without tones, in the place of `audio`, which the peer sent if it is `heard`; reports what is
    /// found to `found`.
    pub(super) fn process(&mut self, audio: &mut [i16], heard: bool, mut found: impl FnMut(Detection)) {
        self.narrow.clear();
        self.resampler.process(audio, &mut self.narrow);
        self.held.extend(audio.iter());
        self.come += audio.len() as u64;
        if heard {
            self.heard = self.come;
        }
        let Self { detector, narrow, silenced, come, scale, .. } = self;
        let place = |ago: usize| come.saturating_sub(ago as u64 * *scale);
        let margin = MARGIN * *scale;
        detector.feed(narrow, |detection| {
            match detection {
                Detection::Began { ago, .. } if silenced.len() < MOST_RANGES => {
                    silenced.push_back(place(ago).saturating_sub(margin)..u64::MAX);
                }
                Detection::Began { .. } => {}
                Detection::Ended { ago, .. } => {
                    if let Some(open) = silenced.back_mut().filter(|range| range.end == u64::MAX) {
                        open.end = place(ago) + margin;
                    }
                }
            }
            found(detection);
        });
        for sample in audio.iter_mut() {
            *sample = self.held.pop_front().unwrap_or_default();
            if self.silenced.front().is_some_and(|range| range.contains(&self.gone)) {
                *sample = 0;
            }
            self.gone += 1;
            while self.silenced.front().is_some_and(|range| range.end <= self.gone) {
                self.silenced.pop_front();
            }
        }
    }
}
