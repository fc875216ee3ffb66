//! A call between two baresip phones, with the audio of both ends looked at.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use support::daemon::{Daemon, SOON, TRUNKS};
use support::lab::{Host, Lab};
use support::process::{Process, until};
use support::tone::Recording;

/// What is looked at: from 1 s on, for 2 s. The first packets may fall into the phone's jitter buffer.
const FROM: f64 = 1.0;
const LENGTH: f64 = 2.0;

#[test]
fn two_phones_hear_each_other_and_nothing_else() -> Result<()> {
    tones_both_ways("sip:bob@10.81.1.1")
}

#[test]
fn two_phones_hear_each_other_when_they_signal_over_tcp() -> Result<()> {
    tones_both_ways("sip:bob@10.81.1.1;transport=tcp")
}

/// One phone says a low tone and the other a high one; what each hears is the other's.
fn tones_both_ways(called: &str) -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let (low, high) = (440.0, 1000.0);
    let callee = Baresip::start(&lab, Host::Callee, "bob", high, &[])?;
    let caller = Baresip::start(&lab, Host::Caller, "alice", low, &["-e", &format!("/dial {called}")])?;
    let heard_by_callee = callee.hears()?;
    let heard_by_caller = caller.hears()?;
    // A phone that is asked to end hangs up.
    caller.hang_up()?;

    for (heard, theirs, own) in [(heard_by_callee, low, high), (heard_by_caller, high, low)] {
        // G.711 leaves a tone at this level about 38 dB above its quantisation noise (ITU-T G.712).
        assert!(heard.power() > 1e6, "silence: power {}", heard.power());
        assert!(heard.share(theirs) > 0.99, "{} of the power at {theirs} Hz", heard.share(theirs));
        assert!(heard.share(own) < 0.001, "{} of the power at {own} Hz: an echo", heard.share(own));
    }
    let [record] =
        <[_; 1]>::try_from(daemon.records(1)?).map_err(|records| anyhow::anyhow!("{records:?}"))?;
    assert_eq!((record.sip_status, record.caller.as_str(), record.called.as_str()), (200, "alice", "bob"));
    let trunk = if called.ends_with("tcp") { "service-tcp" } else { "service" };
    assert_eq!(
        (record.to_trunk.as_deref(), record.callee_codec.as_deref()),
        (Some(trunk), Some("PCMA/8000"))
    );
    assert_eq!((record.fast_path_share, record.from_caller.lost, record.from_callee.lost), (Some(1.0), 0, 0));
    // 20 ms a packet.
    let least = ((FROM + LENGTH) * 50.0) as u64;
    assert!(record.from_caller.packets >= least && record.from_callee.packets >= least, "{record:#?}");
    Ok(())
}

#[test]
fn the_listener_tells_a_tone_from_another_and_from_silence() {
    let sine = |index: f64| 8000.0 * (std::f64::consts::TAU * 440.0 * index / 8000.0).sin();
    let tone = Recording { rate: 8000, samples: (0..8000).map(|index| sine(f64::from(index))).collect() };
    assert!(tone.share(440.0) > 0.99);
    assert!(tone.share(1000.0) < 0.001);
    let silence = Recording { rate: 8000, samples: vec![0.0; 8000] };
    assert_eq!((silence.share(440.0), silence.power()), (0.0, 0.0));
}

/// A phone that answers by itself, says a tone and records what it hears.
struct Baresip {
    process: Process,
    directory: PathBuf,
}

impl Baresip {
    fn start(lab: &Lab, host: Host, name: &str, frequency: f64, arguments: &[&str]) -> Result<Self> {
        let directory = lab.directory().join(name);
        fs::create_dir(&directory)?;
        let address = if host == Host::Caller { "10.81.1.2" } else { "10.81.2.2" };
        fs::write(directory.join("config"), config(&directory, address, frequency)?)?;
        let account = format!("<sip:{name}@{address}>;regint=0;answermode=auto;audio_codecs=pcma\n");
        fs::write(directory.join("accounts"), account)?;
        fs::write(directory.join("contacts"), "")?;
        let mut command = lab.command(host, "baresip");
        command.arg("-f").arg(&directory).args(arguments);
        let process = lab.start(name, command)?;
        let phone = Self { process, directory };
        until(SOON, || Ok(phone.process.listens(5060)?.then_some(())))
            .with_context(|| format!("baresip does not listen:\n{}", phone.process.output()))?;
        Ok(phone)
    }

    /// What it has decoded, once that is long enough.
    fn hears(&self) -> Result<Recording> {
        let heard = until(SOON, || {
            let Some(path) = self.recording()? else { return Ok(None) };
            // The file is still being written: its header comes first, and may not be there yet.
            Ok(Recording::read(&path).and_then(|heard| heard.part(FROM, LENGTH)).ok())
        });
        heard.with_context(|| format!("nothing was recorded:\n{}", self.process.output()))
    }

    /// baresip's `sndfile` module writes `dump-TIME-dec.wav`.
    fn recording(&self) -> Result<Option<PathBuf>> {
        let mut files = fs::read_dir(&self.directory)?;
        let decoded = files.find_map(|entry| {
            let path = entry.ok()?.path();
            path.to_str()?.ends_with("-dec.wav").then_some(path)
        });
        Ok(decoded)
    }

    fn hang_up(mut self) -> Result<()> {
        self.process.signal("TERM")?;
        let status = self.process.wait(SOON)?;
        if !status.success() {
            bail!("baresip: {status}");
        }
        Ok(())
    }
}

fn config(directory: &Path, address: &str, frequency: f64) -> Result<String> {
    Ok(format!(
        "sip_listen {address}:5060\n\
         net_interface to-gateway\n\
         audio_source ausine,{frequency}\n\
         audio_player aubridge,sink\n\
         audio_alert aubridge,alert\n\
         ausrc_srate 48000\n\
         ausrc_channels 2\n\
         auplay_srate 48000\n\
         auplay_channels 1\n\
         snd_path {}\n\
         module_path {}\n\
         module g711.so\n\
         module ausine.so\n\
         module aubridge.so\n\
         module sndfile.so\n\
         module_tmp account.so\n\
         module_app menu.so\n",
        directory.display(),
        modules()?.display(),
    ))
}

/// Where the distribution has baresip's modules.
fn modules() -> Result<PathBuf> {
    let places = ["/usr/lib/baresip/modules", "/usr/lib64/baresip/modules", "/usr/local/lib/baresip/modules"];
    let found = places.iter().map(PathBuf::from).find(|place| place.join("sndfile.so").exists());
    found.context("baresip's modules are not there (Debian: apt-get install baresip-core)")
}
