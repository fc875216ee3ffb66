//! What the ends of transcoded calls hear, whoever transcodes: packets of their own codec, and in them what the other
//! end said, as loud.

use super::lab::{ENDPOINT_INTERFACE, Path, Side, enter};
use super::traffic::{HEADERS, endpoint_port};
use super::transcoded::Spoken;
use crate::packet_socket::{PacketSocket, Received};
use anyhow::{Context, Result, ensure};
use gateway_userspace::codec::Decoder;
use std::thread;
use std::time::Duration;

/// Listening ends when nothing came for this long.
const PATIENCE: Duration = Duration::from_millis(500);
/// What level and codecs may take from the loudness of speech, or add to it.
const WITHIN_DB: f64 = 6.0;
/// Where UDP names the port of who is to hear, and RTP its payload type and what it carries.
const DESTINATION_PORT: usize = 14 + 20 + 2;
const RTP: usize = 14 + 20 + 8;

/// What one end heard.
#[derive(Default)]
struct Heard {
    /// Of its own codec, in all calls.
    packets: u64,
    /// Those of the first call, decoded.
    audio: Vec<i16>,
}

/// Listens at both ends while `run` sends, and answers the share of what it says to have sent that was heard there in
/// the right codec. Nothing may be attached to the endpoints.
///
/// # Errors
/// One of the ends hears something else than what the other one says.
pub(super) fn control(
    path: &Path<'_>,
    spoken: &[Spoken; 2],
    run: impl FnOnce() -> Result<u64>,
) -> Result<f64> {
    let open = |side: Side| {
        enter(&path.endpoint_namespace(side), || PacketSocket::receiver(ENDPOINT_INTERFACE, PATIENCE))
    };
    let ears = [(open(Side::Caller)?, &spoken[0]), (open(Side::Callee)?, &spoken[1])];
    let (sent, heard) = thread::scope(|scope| {
        let listening = ears.each_ref().map(|(socket, own)| scope.spawn(|| listen(socket, own)));
        let sent = run()?;
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Heard>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        Ok::<_, anyhow::Error>((sent, listening.into_iter().map(join).collect::<Result<Vec<_>>>()?))
    })?;
    for (side, heard) in Side::BOTH.into_iter().zip(&heard) {
        let said = said(&spoken[side.other() as usize])?;
        let difference = level(&heard.audio) - level(&said);
        ensure!(
            difference.abs() < WITHIN_DB,
            "the {} hears the other end {difference:+.1} dB as loud as it speaks",
            side.name()
        );
    }
    Ok(heard.iter().map(|heard| heard.packets).sum::<u64>() as f64 / sent as f64)
}

fn listen(socket: &PacketSocket, own: &Spoken) -> Result<Heard> {
    let (mut heard, mut decoder) = (Heard::default(), Decoder::new(&own.coding)?);
    let mut buffer = [0; 2048];
    while let Some(Received { frame, .. }) = socket.receive(&mut buffer).context("receive")? {
        let Some((headers, payload)) = frame.split_first_chunk::<HEADERS>() else { continue };
        if headers[RTP] != 0x80 || headers[RTP + 1] & 0x7f != own.payload_type {
            continue;
        }
        heard.packets += 1;
        if headers[DESTINATION_PORT..DESTINATION_PORT + 2] == endpoint_port(0).to_be_bytes() {
            decoder.decode(payload, &mut heard.audio).context("what a relay sends is not its codec's")?;
        }
    }
    Ok(heard)
}

/// What an end's packets say.
fn said(spoken: &Spoken) -> Result<Vec<i16>> {
    let (mut audio, mut decoder) = (Vec::new(), Decoder::new(&spoken.coding)?);
    for payload in &spoken.payloads {
        decoder.decode(payload, &mut audio).context("what is sent")?;
    }
    Ok(audio)
}

/// Mean power in dB below full scale.
fn level(audio: &[i16]) -> f64 {
    let power: f64 = audio.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    10.0 * ((power / audio.len().max(1) as f64).max(1.0) / f64::from(i16::MAX).powi(2)).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_amplitude_is_six_decibels_less_and_silence_is_far_below() {
        let tone = [20_000, -20_000].repeat(100);
        let half = [10_000, -10_000].repeat(100);
        assert!((level(&tone) - level(&half) - 6.02).abs() < 0.01);
        assert!(level(&[0; 200]) < level(&half) - 60.0);
        assert!(level(&[]) < -80.0);
    }
}
