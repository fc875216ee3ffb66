//! Audio made a little shorter without a click: a period is taken out where the sound repeats itself.

/// Periods that may be taken out, in milliseconds.
const PERIODS_MS: (usize, usize) = (3, 8);

/// Takes one period out of `audio`, the one at which its beginning and what follows are most alike. Audio that is
/// too short stays as it is.
pub(super) fn shorten(audio: &mut Vec<i16>, rate: u32) {
    let per_ms = rate as usize / 1000;
    let (shortest, longest) = (PERIODS_MS.0 * per_ms, PERIODS_MS.1 * per_ms);
    if audio.len() < 2 * longest {
        return;
    }
    let likeness = |lag: usize| {
        let (mut product, mut energy) = (0.0f32, 1.0f32);
        for (one, other) in audio[..longest].iter().zip(&audio[lag..lag + longest]) {
            product += f32::from(*one) * f32::from(*other);
            energy += f32::from(*other) * f32::from(*other);
        }
        product / energy.sqrt()
    };
    let lag =
        (shortest..=longest).map(|lag| (lag, likeness(lag))).max_by(|one, other| one.1.total_cmp(&other.1));
    let lag = lag.map_or(longest, |(lag, _)| lag);
    for at in 0..lag {
        let weight = (at + 1) as f32 / (lag + 1) as f32;
        audio[at] = (f32::from(audio[at]) * (1.0 - weight) + f32::from(audio[at + lag]) * weight) as i16;
    }
    audio.drain(lag..2 * lag);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_taken_out_without_a_click() {
        let step = std::f32::consts::TAU * 200.0 / 8_000.0;
        let mut audio: Vec<i16> = (0..160).map(|at| (8_000.0 * (at as f32 * step).sin()) as i16).collect();
        shorten(&mut audio, 8_000);
        assert_eq!(audio.len(), 120);
        let steepest = audio.windows(2).map(|pair| pair[0].abs_diff(pair[1])).max();
        assert!(steepest < Some(1_400), "{steepest:?}");
    }
}
