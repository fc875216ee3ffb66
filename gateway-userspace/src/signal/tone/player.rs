//! Tones and announcements into linear audio.

use super::{Announcement, Cadence};
use crate::codec::resample::Resampler;

/// Amplitude of each tone: -13 dBm0, the middle of what E.180 recommends for tones.
const AMPLITUDE: f64 = 5_100.0;
/// Milliseconds over which a tone comes and goes, so that it does not click.
const RAMP_MS: u32 = 5;
/// Samples of a recording that are taken at a time: 10 ms at 48 kHz.
const CHUNK: usize = 480;

/// What is played.
#[derive(Clone, Debug)]
pub enum Source {
    /// Until it is stopped.
    Cadence(Cadence),
    /// Once.
    Announcement(Announcement),
}

/// One source on its way into one stream.
#[derive(Debug)]
pub struct Player {
    state: State,
    rate: u32,
}

#[derive(Debug)]
enum State {
    Cadence { cadence: Cadence, segment: usize, at: u32 },
    Announcement { announcement: Announcement, at: usize, resampler: Box<Resampler>, ready: Vec<i16> },
}

impl Player {
    /// Plays `source` into audio of `rate` samples a second.
    pub fn new(source: Source, rate: u32) -> Self {
        let state = match source {
            Source::Cadence(cadence) => State::Cadence { cadence, segment: 0, at: 0 },
            Source::Announcement(announcement) => {
                let resampler = Box::new(Resampler::new(announcement.rate(), rate));
                State::Announcement { announcement, at: 0, resampler, ready: Vec::new() }
            }
        };
        Self { state, rate }
    }

    /// Appends `samples`, and says whether there is more to come. What is behind the end is silence.
    pub fn play(&mut self, samples: usize, audio: &mut Vec<i16>) -> bool {
        let end = audio.len() + samples;
        match &mut self.state {
            State::Cadence { cadence, segment, at } => {
                for _ in 0..samples {
                    audio.push(sample(cadence, self.rate, segment, at));
                }
                true
            }
            State::Announcement { announcement, at, resampler, ready } => {
                let recording = announcement.samples();
                while ready.len() < samples && *at < recording.len() {
                    let next = recording.len().min(*at + CHUNK);
                    resampler.process(&recording[*at..next], ready);
                    *at = next;
                }
                audio.extend(ready.drain(..samples.min(ready.len())));
                audio.resize(end, 0);
                *at < recording.len() || !ready.is_empty()
            }
        }
    }
}

/// The next sample of a cadence, `at` samples into its segment.
fn sample(cadence: &Cadence, rate: u32, segment: &mut usize, at: &mut u32) -> i16 {
    let segments = cadence.segments();
    let now = segments[*segment % segments.len()];
    let length = now.milliseconds * (rate / 1000);
    let ramp = f64::from((RAMP_MS * rate / 1000).min(length / 2).max(1));
    let gain = (f64::from(*at + 1) / ramp).min(f64::from(length - *at) / ramp).min(1.0);
    let tone = |hertz: u16| match hertz {
        0 => 0.0,
        hertz => (std::f64::consts::TAU * f64::from(hertz) * f64::from(*at) / f64::from(rate)).sin(),
    };
    let value = now.tones.map(tone).iter().sum::<f64>() * gain * AMPLITUDE;
    *at += 1;
    if *at == length {
        (*segment, *at) = ((*segment + 1) % segments.len(), 0);
    }
    value as i16
}

#[cfg(test)]
mod tests {
    use super::super::announcement::tests::wav;
    use super::super::{Plan, Signal};
    use super::*;

    /// Milliseconds of sound and of silence, in turn.
    fn lengths(audio: &[i16], rate: u32) -> Vec<u32> {
        let per_ms = rate as usize / 1000;
        // Loudest of 3 ms: longer than half a period of every tone.
        let loud = |at: usize| {
            audio[at * per_ms..((at + 3) * per_ms).min(audio.len())].iter().any(|s| s.unsigned_abs() > 500)
        };
        let states: Vec<bool> = (0..audio.len() / per_ms - 3).map(loud).collect();
        states.chunk_by(|one, other| one == other).map(|run| run.len() as u32).collect()
    }

    #[test]
    fn each_country_hears_its_own_tones_and_an_operator_may_write_others() {
        let own = Plan::new("350+440/300,0/100", "425/100,0/100", "425/200,0/50").unwrap();
        for (name, plan) in
            Plan::countries().map(|name| (name, Plan::of_country(name).unwrap())).chain([("own", own)])
        {
            for (signal, rate) in [Signal::Ringback, Signal::Busy, Signal::Congestion]
                .iter()
                .flat_map(|signal| [8_000, 16_000, 48_000].map(|rate| (*signal, rate)))
            {
                let cadence = plan.cadence(signal);
                let expected: Vec<u32> =
                    cadence.segments().iter().map(|segment| segment.milliseconds).collect();
                let mut player = Player::new(Source::Cadence(cadence.clone()), rate);
                let mut audio = Vec::new();
                let whole: u32 = expected.iter().sum();
                for _ in 0..(2 * whole).div_ceil(20) + 10 {
                    assert!(player.play(rate as usize / 50, &mut audio));
                }
                let heard = lengths(&audio, rate);
                for (at, (heard, expected)) in
                    heard.iter().zip(expected.iter().cycle()).take(expected.len() * 2).enumerate()
                {
                    assert!(
                        heard.abs_diff(*expected) <= 8,
                        "{name} {signal:?}: segment {at} of {heard} ms, not {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_announcement_is_played_once_at_the_rate_of_the_stream() {
        let tone: Vec<i32> = (0..1_600).map(|at| (8_000.0 * (f64::from(at) * 0.1).sin()) as i32).collect();
        for rate in [8_000, 16_000, 48_000] {
            let announcement = Announcement::read(&wav(1, 16_000, 16, &tone)).unwrap();
            let mut player = Player::new(Source::Announcement(announcement), rate);
            let mut audio = Vec::new();
            let mut packets = 1;
            while player.play(rate as usize / 50, &mut audio) {
                packets += 1;
            }
            assert_eq!(packets, 5, "100 ms in packets of 20 ms at {rate}");
            assert!(audio.iter().any(|sample| sample.unsigned_abs() > 7_000));
            audio.clear();
            assert!(!player.play(10, &mut audio));
            assert_eq!(audio, [0; 10]);
        }
    }
}
