//! baresip: a phone that answers by itself, says a tone and records what it hears.

use crate::daemon::SOON;
use crate::lab::{Host, Lab};
use crate::process::{Process, until};
use crate::tone::Recording;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

/// What is looked at of a recording, in seconds: never the first, which may lie in the phone's jitter buffer, and the last two.
pub const FROM: f64 = 1.0;
pub const LENGTH: f64 = 2.0;
/// Where it takes commands, if it is the first on its host; others have it as far from here as their SIP port from 5060.
const CONTROL: u16 = 4444;

/// How a phone is to be.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    pub host: Host,
    /// For SIP.
    pub port: u16,
    pub name: &'a str,
    /// Of its tone, in Hz.
    pub frequency: f64,
    /// What it speaks, as its account says it.
    pub codec: &'a str,
    /// Further lines of its configuration, each with its end.
    pub settings: &'a str,
    /// Further parameters of its account, each with its semicolon in front.
    pub account: &'a str,
    pub dials: Option<&'a str>,
}

impl<'a> Setup<'a> {
    /// A phone without anything special that waits for calls.
    pub fn new(host: Host, name: &'a str, frequency: f64) -> Self {
        Self { host, port: 5060, name, frequency, codec: "pcma,pcmu", settings: "", account: "", dials: None }
    }
}

/// A running phone.
pub struct Baresip<'a> {
    lab: &'a Lab,
    host: Host,
    port: u16,
    process: Process,
    directory: PathBuf,
}

impl<'a> Baresip<'a> {
    pub fn start(lab: &'a Lab, setup: Setup<'_>) -> Result<Self> {
        let Setup { host, port, name, frequency, codec, settings, account, dials } = setup;
        let directory = lab.directory().join(name);
        fs::create_dir(&directory)?;
        let address = address(host);
        let config = config(&directory, (address, port), frequency)?;
        fs::write(directory.join("config"), format!("{config}{settings}"))?;
        let account =
            format!("<sip:{name}@{address}:{port}>;regint=0;answermode=auto;audio_codecs={codec}{account}\n");
        fs::write(directory.join("accounts"), account)?;
        fs::write(directory.join("contacts"), "")?;
        let mut command = lab.command(host, "baresip");
        command.arg("-f").arg(&directory);
        if let Some(called) = dials {
            command.args(["-e", &format!("/dial {called}")]);
        }
        let process = lab.start(name, command)?;
        let phone = Self { lab, host, port, process, directory };
        until(SOON, || Ok(phone.process.listens(port)?.then_some(())))
            .with_context(|| format!("baresip does not listen:\n{}", phone.output()))?;
        Ok(phone)
    }

    pub fn output(&self) -> String {
        self.process.output()
    }

    /// All that it has decoded so far.
    pub fn heard(&self) -> Result<Recording> {
        Recording::read(&self.recording()?.context("nothing was recorded")?)
    }

    /// Waits until what it has decoded last is `tone`, with at least `purity` of the power, 0 to 1, and holds next to nothing
    /// of the phone's `own` tone. A host that stands still for a moment costs some packets, which passes; what a call does
    /// to its audio stays.
    pub fn hears(&self, tone: f64, own: f64, purity: f64) -> Result<()> {
        self.hears_last((FROM, LENGTH), |part| {
            let echo = part.share(own);
            let is = part.share(tone) > purity && echo < (1.0 - purity) / 10.0;
            (is, format!("{:.4} of it at {tone} Hz, an echo of {echo:.4} at {own} Hz", part.share(tone)))
        })
    }

    /// Waits until the last second that it has decoded is this tone and nothing else, whatever it heard before.
    pub fn hears_tone(&self, frequency: f64) -> Result<()> {
        self.hears_last((0.0, 1.0), |part| {
            (part.share(frequency) > 0.99, format!("{:.3} of it at {frequency} Hz", part.share(frequency)))
        })
    }

    /// Waits until the last `length` seconds, all of them later than `from`, are no silence and as `is` says.
    fn hears_last(
        &self,
        (from, length): (f64, f64),
        is: impl Fn(&Recording) -> (bool, String),
    ) -> Result<()> {
        let mut last = String::from("nothing was recorded");
        let heard = until(SOON, || {
            let Some(path) = self.recording()? else { return Ok(None) };
            // The file is still being written: its header comes first, and may not be there yet.
            let Ok(all) = Recording::read(&path) else { return Ok(None) };
            let begin = all.seconds() - length;
            let Some(Ok(part)) = (begin >= from).then(|| all.part(begin, length)) else { return Ok(None) };
            // G.711 leaves a tone at this level about 38 dB above its quantisation noise (ITU-T G.712).
            let (is, found) = is(&part);
            last = format!("power {:.0}, {found}", part.power());
            Ok((part.power() > 1e6 && is).then_some(()))
        });
        heard.with_context(|| format!("{last}\n{}", self.output()))
    }

    /// Gives it a command, as one types it behind `/`, and reads its answer.
    pub fn ask(&self, command: &str) -> Result<String> {
        let mut stream = self.command_begun(command)?;
        let mut length = Vec::new();
        // A netstring as well.
        loop {
            let mut octet = [0; 1];
            stream.read_exact(&mut octet)?;
            match octet {
                [b':'] => break,
                [digit] => length.push(digit),
            }
        }
        let mut answer = vec![0; std::str::from_utf8(&length)?.parse()?];
        stream.read_exact(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Gives it a command.
    pub fn command(&self, command: &str) -> Result<()> {
        // Its answer says nothing; that it came says that the command was done.
        Ok(self.command_begun(command)?.read_exact(&mut [0; 1])?)
    }

    fn command_begun(&self, command: &str) -> Result<TcpStream> {
        let at = (address(self.host), control(self.port));
        let mut stream = self.lab.on(self.host, || Ok(TcpStream::connect(at)?))?;
        let message = format!("{{\"command\":\"{command}\"}}");
        // A netstring.
        write!(stream, "{}:{message},", message.len())?;
        Ok(stream)
    }

    /// Ends the phone, which hangs up.
    pub fn hang_up(mut self) -> Result<()> {
        self.process.signal("TERM")?;
        let status = self.process.wait(SOON)?;
        if !status.success() {
            bail!("baresip: {status}");
        }
        Ok(())
    }

    /// baresip's `sndfile` module writes `dump-TIME-dec.wav`, a new one for each stream.
    fn recording(&self) -> Result<Option<PathBuf>> {
        let files = fs::read_dir(&self.directory)?.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(files.filter(|path| path.to_string_lossy().ends_with("-dec.wav")).max())
    }
}

fn address(host: Host) -> &'static str {
    if host == Host::Caller { "10.81.1.2" } else { "10.81.2.2" }
}

fn control(port: u16) -> u16 {
    port - 5060 + CONTROL
}

fn config(directory: &Path, (address, port): (&str, u16), frequency: f64) -> Result<String> {
    Ok(format!(
        "sip_listen {address}:{port}\n\
         net_interface to-gateway\n\
         rtp_ports 10000-29999\n\
         ctrl_tcp_listen {address}:{}\n\
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
         module srtp.so\n\
         module_tmp account.so\n\
         module_app menu.so\n\
         module_app ctrl_tcp.so\n",
        control(port),
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
