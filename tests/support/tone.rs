//! Which tone a recording holds.

use anyhow::{Context, Result, bail};
use std::f64::consts::TAU;
use std::path::Path;

/// A recording of 16-bit samples.
#[derive(Clone, Debug)]
pub struct Recording {
    pub rate: u32,
    pub samples: Vec<f64>,
}

impl Recording {
    /// Reads a RIFF/WAVE file of 16-bit PCM; of several channels, the first. A length of 0 or too much, as a program leaves it that
    /// was ended while it recorded, means the rest of the file.
    pub fn read(path: &Path) -> Result<Self> {
        let file = std::fs::read(path).with_context(|| path.display().to_string())?;
        if file.get(..4) != Some(b"RIFF") || file.get(8..12) != Some(b"WAVE") {
            bail!("{} is no WAVE file", path.display());
        }
        let (mut rest, mut rate, mut channels) = (&file[12..], None, 1);
        while let Some((header, content)) = rest.split_at_checked(8) {
            let length = u32::from_le_bytes(header[4..8].try_into()?) as usize;
            match &header[..4] {
                b"fmt " => {
                    let word = |at: usize| u16::from_le_bytes([content[at], content[at + 1]]);
                    if (word(0), word(14)) != (1, 16) || word(2) == 0 {
                        bail!("{}: not 16-bit PCM", path.display());
                    }
                    channels = usize::from(word(2));
                    rate = Some(u32::from_le_bytes(content[4..8].try_into()?));
                }
                b"data" => {
                    let length = if length == 0 { content.len() } else { length.min(content.len()) };
                    let samples = content[..length].chunks_exact(2 * channels);
                    let samples = samples.map(|pair| f64::from(i16::from_le_bytes([pair[0], pair[1]])));
                    return Ok(Self { rate: rate.context("no format")?, samples: samples.collect() });
                }
                _ => {}
            }
            rest = content.get(length + length % 2..).unwrap_or_default();
        }
        bail!("{} holds no samples", path.display())
    }

    /// The part from `from` seconds on that lasts `length` seconds.
    pub fn part(&self, from: f64, length: f64) -> Result<Self> {
        let at = |seconds: f64| (seconds * f64::from(self.rate)) as usize;
        let samples = self.samples.get(at(from)..at(from + length));
        let samples = samples.with_context(|| format!("only {} s recorded", self.seconds()))?.to_vec();
        Ok(Self { rate: self.rate, samples })
    }

    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }

    /// Mean power of a sample.
    pub fn power(&self) -> f64 {
        self.samples.iter().map(|sample| sample * sample).sum::<f64>() / self.samples.len().max(1) as f64
    }

    /// Share of the power that lies at `frequency`, 0 to 1, by Goertzel's algorithm.
    pub fn share(&self, frequency: f64) -> f64 {
        let coefficient = 2.0 * (TAU * frequency / f64::from(self.rate)).cos();
        let (last, before) = self
            .samples
            .iter()
            .fold((0.0, 0.0), |(last, before), sample| (sample + coefficient * last - before, last));
        let magnitude = last * last + before * before - coefficient * last * before;
        // A sine of amplitude A has power A²/2 and magnitude (A·N/2)².
        let count = self.samples.len().max(1) as f64;
        let at_frequency = 2.0 * magnitude / (count * count);
        if self.power() > 0.0 { at_frequency / self.power() } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_told_from_another_and_from_silence() {
        let sine = |frequency: f64, time: f64| 8000.0 * (TAU * frequency * time).sin();
        let samples = (0..8000).map(|index| sine(440.0, f64::from(index) / 8000.0)).collect();
        let tone = Recording { rate: 8000, samples };
        assert!(tone.share(440.0) > 0.99);
        assert!(tone.share(650.0) < 0.01);
        assert_eq!(Recording { rate: 8000, samples: vec![0.0; 8000] }.share(440.0), 0.0);
    }
}
