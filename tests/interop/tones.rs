//! What a baresip phone hears of the gateway while the phone that it calls rings: the ringback of its country, until that
//! phone is heard.

use anyhow::{Context as _, Result};
use support::baresip::{Baresip, Setup};
use support::daemon::{Daemon, SOON};
use support::lab::{Host, Lab};
use support::process::until;
use support::sipp::Sipp;
use support::tone::Recording;

/// The caller's own tone, which comes back to it once the callee has answered.
const OWN: f64 = 1000.0;
/// Of the configuration below, in Hz, and seconds of tone and of pause.
const RINGBACK: (f64, f64, f64) = (425.0, 1.0, 0.5);

const TRUNKS: &str = "[[trunk]]\nname = \"operator\"\nlisten = \"udp:10.81.1.1:5060\"\n\
    peers = [{ address = \"10.81.1.2:5060\" }]\n\
    [trunk.tones]\ncountry = \"DE\"\nringback = \"425/1000,0/500\"\non_ringing = true\n\
    [[trunk]]\nname = \"service\"\nlisten = \"udp:10.81.2.1:5060\"\n\
    peers = [{ address = \"10.81.2.2:5060\" }]\n\
    [[route]]\nprefix = \"\"\nfrom = \"operator\"\nto = \"service\"\n";

/// Seconds of tone and of silence in turn, from the first tone on.
fn cadence(heard: &Recording, frequency: f64) -> Vec<(bool, f64)> {
    const STEP: f64 = 0.02;
    let steps = (heard.seconds() / STEP) as usize;
    let sounds = |step: usize| {
        heard
            .part(step as f64 * STEP, STEP)
            .is_ok_and(|part| part.power() > 1e5 && part.share(frequency) > 0.8)
    };
    let sounds: Vec<bool> = (0..steps).map(sounds).skip_while(|sounds| !sounds).collect();
    let runs = sounds.chunk_by(|one, other| one == other);
    runs.map(|run| (run[0], run.len() as f64 * STEP)).collect()
}

fn is_rung_until_the_callee_is_heard(lab: &Lab, daemon: &Daemon<'_>, path: &str) -> Result<()> {
    let callee = Sipp::callee(lab, "callee_rings.xml", 5060, &["-rtp_echo", "-m", "1"])?;
    let alice = Setup::new(Host::Caller, "alice", OWN);
    let caller = Baresip::start(lab, Setup { dials: Some("sip:bob@10.81.1.1"), ..alice })?;
    // Two whole turns of the cadence.
    let (frequency, tone, pause) = RINGBACK;
    let ringing = until(SOON, || {
        let Ok(heard) = caller.heard() else { return Ok(None) };
        Ok((cadence(&heard, frequency).len() >= 5).then_some(heard))
    });
    let ringing = ringing.with_context(|| format!("no ringback:\n{}\n{}", caller.output(), daemon.log()))?;
    for (sounds, seconds) in cadence(&ringing, frequency).into_iter().take(4) {
        let expected = if sounds { tone } else { pause };
        assert!(
            (seconds - expected).abs() < 0.1,
            "{sounds} for {seconds} s: {:?}",
            cadence(&ringing, frequency)
        );
    }
    let flows = daemon.command(&["flows"])?.output()?;
    let flows = String::from_utf8_lossy(&flows.stdout).into_owned();
    assert!(flows.contains(path), "{flows}");
    // And then nothing but the callee.
    caller.hears_tone(OWN)?;
    let is_a_relay = || {
        let flows = daemon.command(&["flows"])?.output()?;
        Ok((!String::from_utf8_lossy(&flows.stdout).contains("(tones)")).then_some(()))
    };
    until(SOON, is_a_relay).context("a relay again")?;
    caller.hang_up()?;
    assert_eq!(callee.finish()?.successful, 1);
    let record = daemon.records(1)?.remove(0);
    assert_eq!(record.sip_status, 200);
    Ok(())
}

// Statements 57, 69.
#[test]
fn a_phone_is_rung_over_sockets_until_the_callee_is_heard() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start_over_sockets(&lab, TRUNKS)?;
    is_rung_until_the_callee_is_heard(&lab, &daemon, "sockets")
}

// Statements 57, 69.
#[test]
fn a_phone_is_rung_over_af_xdp_until_the_callee_is_heard_through_the_kernel() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    is_rung_until_the_callee_is_heard(&lab, &daemon, "userspace (tones)")
}
