//! A call between two baresip phones, with the audio of both ends looked at.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use support::certificate::{Authority, Credentials, Key};
use support::daemon::{Daemon, SOON, TRUNKS};
use support::lab::{Host, Lab};
use support::process::{Process, until};
use support::tone::Recording;

/// What is looked at: from 1 s on, for 2 s. The first packets may fall into the phone's jitter buffer.
const FROM: f64 = 1.0;
const LENGTH: f64 = 2.0;

#[test]
fn two_phones_hear_each_other_and_nothing_else() -> Result<()> {
    tones_both_ways("udp", "service")
}

#[test]
fn two_phones_hear_each_other_when_they_signal_over_tcp() -> Result<()> {
    tones_both_ways("tcp", "service-tcp")
}

// Statement 1.
#[test]
fn two_phones_hear_each_other_when_they_signal_over_tls() -> Result<()> {
    tones_both_ways("tls", "service-tls")
}

/// One phone says a low tone and the other a high one; what each hears is the other's.
fn tones_both_ways(transport: &'static str, trunk: &str) -> Result<()> {
    let lab = Lab::new()?;
    let secured = Secured::new(&lab)?;
    let daemon = Daemon::start(&lab, &format!("{TRUNKS}{}", secured.trunks()))?;
    let called = format!("sip:bob@10.81.1.1;transport={transport}");
    let (low, high) = (440.0, 1000.0);
    let callee = Baresip::start(&lab, &secured, Host::Callee, "bob", high, &[])?;
    let caller =
        Baresip::start(&lab, &secured, Host::Caller, "alice", low, &["-e", &format!("/dial {called}")])?;
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

/// Certificates of gateway and phones, by their addresses.
struct Secured {
    authority: Authority,
    gateway: Credentials,
    phones: Credentials,
}

impl Secured {
    fn new(lab: &Lab) -> Result<Self> {
        let authority = Authority::new(lab.directory(), "ca")?;
        Ok(Self {
            gateway: authority.issue("gateway", &["sbc.example.net", "10.81.1.1", "10.81.2.1"], Key::Rsa)?,
            phones: authority.issue("phones", &["10.81.1.2", "10.81.2.2"], Key::Rsa)?,
            authority,
        })
    }

    fn trunks(&self) -> String {
        let trunk = |name: &str, ours: &str, theirs: &str| {
            format!(
                "[[trunk]]\nname = \"{name}\"\nlisten = \"tls:{ours}\"\npeers = [{{ address = \"{theirs}\" }}]\n\
                 [trunk.tls]\n{}\nroots = [\"{}\"]\n",
                self.gateway.fields(),
                self.authority.root.display(),
            )
        };
        [
            trunk("operator-tls", "10.81.1.1", "10.81.1.2"),
            trunk("service-tls", "10.81.2.1", "10.81.2.2"),
            "[[route]]\nprefix = \"\"\nfrom = \"operator-tls\"\nto = \"service-tls\"\n".to_owned(),
        ]
        .concat()
    }

    fn phone_settings(&self) -> String {
        let (bundle, root) = (self.phones.bundle.display(), self.authority.root.display());
        format!("sip_certificate {bundle}\nsip_cafile {root}\n")
    }
}

/// A phone that answers by itself, says a tone and records what it hears.
struct Baresip {
    process: Process,
    directory: PathBuf,
}

impl Baresip {
    fn start(
        lab: &Lab,
        secured: &Secured,
        host: Host,
        name: &str,
        frequency: f64,
        arguments: &[&str],
    ) -> Result<Self> {
        let directory = lab.directory().join(name);
        fs::create_dir(&directory)?;
        let address = if host == Host::Caller { "10.81.1.2" } else { "10.81.2.2" };
        let config = config(&directory, address, frequency)?;
        fs::write(directory.join("config"), format!("{config}{}", secured.phone_settings()))?;
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
