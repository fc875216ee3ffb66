//! Recorded speech out of WAV files.

use std::fmt;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

/// A recording is held in memory whole: ten minutes at 48 kHz are 58 MB.
const LONGEST_SECONDS: u32 = 600;
const RATES: [u32; 3] = [8_000, 16_000, 48_000];

/// Speech that may be played to any number of calls at once.
#[derive(Clone, PartialEq, Eq)]
pub struct Announcement {
    samples: Arc<[i16]>,
    rate: u32,
}

impl fmt::Debug for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Announcement({:?} at {} Hz)", self.length(), self.rate)
    }
}

/// A file that cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum AnnouncementError {
    #[error("no WAV file: {0}")]
    Wav(#[from] hound::Error),
    #[error("{0} samples a second: convert the file to 8000, 16000 or 48000")]
    Rate(u32),
    #[error("{channels} channels of {bits} bits: convert the file to PCM of 16 bits with 1 or 2 channels")]
    Format { channels: u16, bits: u16 },
    #[error("the file is longer than {LONGEST_SECONDS} seconds, or has no audio")]
    Length,
}

impl Announcement {
    /// Reads a WAV file; two channels are mixed.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn read(file: &[u8]) -> Result<Self, AnnouncementError> {
        let reader = hound::WavReader::new(Cursor::new(file))?;
        let hound::WavSpec { channels, sample_rate, bits_per_sample, sample_format } = reader.spec();
        if !RATES.contains(&sample_rate) {
            return Err(AnnouncementError::Rate(sample_rate));
        }
        if !matches!(channels, 1 | 2) || bits_per_sample != 16 || sample_format != hound::SampleFormat::Int {
            return Err(AnnouncementError::Format { channels, bits: bits_per_sample });
        }
        if reader.duration() == 0 || reader.duration() / sample_rate >= LONGEST_SECONDS {
            return Err(AnnouncementError::Length);
        }
        let samples = reader.into_samples::<i16>().collect::<Result<Vec<_>, _>>()?;
        let mixed = samples.chunks_exact(usize::from(channels)).map(|frame| {
            let sum: i32 = frame.iter().map(|&sample| i32::from(sample)).sum();
            (sum / i32::from(channels)) as i16
        });
        Ok(Self { samples: mixed.collect(), rate: sample_rate })
    }

    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.samples.len() as f64 / f64::from(self.rate))
    }

    /// Samples a second.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    pub(super) fn samples(&self) -> &[i16] {
        &self.samples
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::signal::tone) fn wav(
        channels: u16,
        sample_rate: u32,
        bits_per_sample: u16,
        samples: &[i32],
    ) -> Vec<u8> {
        let sample_format = hound::SampleFormat::Int;
        let spec = hound::WavSpec { channels, sample_rate, bits_per_sample, sample_format };
        let mut file = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
        samples.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
        writer.finalize().unwrap();
        file.into_inner()
    }

    #[test]
    fn files_that_can_be_played_are_read_and_two_channels_mixed() {
        let mono = Announcement::read(&wav(1, 16_000, 16, &[1, -2, 300])).unwrap();
        assert_eq!((mono.rate(), mono.samples()), (16_000, &[1, -2, 300][..]));
        let stereo = Announcement::read(&wav(2, 8_000, 16, &[100, 300, -32_768, -32_768])).unwrap();
        assert_eq!(stereo.samples(), [200, -32_768]);
    }

    #[test]
    fn files_that_cannot_be_played_are_refused_by_name() {
        assert!(matches!(Announcement::read(b"RIFF"), Err(AnnouncementError::Wav(_))));
        assert!(matches!(
            Announcement::read(&wav(1, 44_100, 16, &[1])),
            Err(AnnouncementError::Rate(44_100))
        ));
        assert!(matches!(
            Announcement::read(&wav(1, 8_000, 8, &[1])),
            Err(AnnouncementError::Format { bits: 8, .. })
        ));
        assert!(matches!(Announcement::read(&wav(1, 8_000, 16, &[])), Err(AnnouncementError::Length)));
        let whole = wav(1, 8_000, 16, &[7; 100]);
        for length in 0..whole.len() {
            assert!(Announcement::read(&whole[..length]).is_err(), "{length} octets of {}", whole.len());
        }
    }
}
