//! rtpengine as Debian ships it (`rtpengine-daemon`), in userspace, driven over its NG control protocol: a
//! datagram is a cookie, a space and a bencoded dictionary.

use super::bencode::Value;
use super::lab::{Path, Side, enter};
use super::secured;
use super::traffic::{CallPorts, endpoint_port};
use anyhow::{Context, Result, anyhow, bail};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const CONTROL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 22_222);
/// How long the daemon may take to listen, and to answer a command.
const START: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(2);

/// A running rtpengine; it is stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct Rtpengine {
    process: Child,
    control: UdpSocket,
    cookie: u32,
}

impl Rtpengine {
    /// Starts it in the gateway namespace of `path` with Debian's defaults and one interface to each end.
    ///
    /// # Errors
    /// It is not installed, or does not answer.
    pub(crate) fn start(path: &Path<'_>) -> Result<Self> {
        let namespace = path.gateway_namespace();
        let interface = |side: Side| format!("--interface={}/{}", side.name(), path.gateway(side).address);
        let process = path
            .on_gateway("rtpengine")
            .args(["--foreground", "--log-stderr", "--log-level=3"])
            // No kernel module: what is compared with is the userspace relay.
            .arg("--table=-1")
            .args(Side::BOTH.map(interface))
            .arg(format!("--listen-ng={CONTROL}"))
            // Runs take turns, so calls may hear nothing for minutes.
            .args(["--timeout=3600", "--silent-timeout=3600", "--port-min=30000", "--port-max=60000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start rtpengine in the lab")?;
        let control = enter(&namespace, || {
            let socket =
                UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("socket for rtpengine's control port")?;
            socket.connect(CONTROL).context("rtpengine's control port")?;
            Ok(socket)
        })?;
        let mut rtpengine = Self { process, control, cookie: 0 };
        rtpengine.wait_until_it_answers()?;
        Ok(rtpengine)
    }

    /// Whether what is installed encodes and decodes, by its own word: that depends on the libraries it was built with.
    ///
    /// # Errors
    /// It is not installed.
    pub(super) fn codes(codec: &Transcoded) -> Result<bool> {
        let output = Command::new("rtpengine").arg("--codecs").output().context("rtpengine --codecs")?;
        let line = format!("{}: fully supported", codec.name());
        Ok(String::from_utf8_lossy(&output.stdout).lines().any(|known| known.trim() == line))
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let started = Instant::now();
        let ping = Value::dictionary([("command", "ping".into())]);
        loop {
            if let Some(status) = self.process.try_wait().context("rtpengine")? {
                bail!(
                    "rtpengine ended at start with {status}; is rtpengine-daemon installed? (cargo xtask setup)"
                );
            }
            match self.ask(&ping, Duration::from_millis(100)) {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > START => {
                    return Err(error.context("rtpengine does not start"));
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Sets up call number `call` by an offer from the caller and an answer from the callee.
    ///
    /// # Errors
    /// rtpengine refuses, or answers something else than SDP with an audio port.
    pub(crate) fn call(&mut self, path: &Path<'_>, call: usize, with_srtp: bool) -> Result<CallPorts> {
        let port = endpoint_port(call);
        let call_id = format!("bench-{call}");
        let sdp = |side: Side, crypto: Option<&str>| sdp(path.endpoint(side).address, port, crypto);
        let common = |command: &str, side: Side, crypto: Option<&str>| {
            [
                ("command", command.into()),
                ("call-id", call_id.as_str().into()),
                ("from-tag", "caller".into()),
                ("sdp", sdp(side, crypto).as_str().into()),
                ("replace", Value::texts(&["origin"])),
                ("ICE", "remove".into()),
            ]
        };
        let mut offer = Value::dictionary(common("offer", Side::Caller, None));
        if let Value::Dictionary(offer) = &mut offer {
            offer.insert("direction".into(), Value::texts(&Side::BOTH.map(Side::name)));
            if with_srtp {
                offer.insert("transport-protocol".into(), "RTP/SAVP".into());
                offer.insert("DTLS".into(), "off".into());
            }
        }
        let offered = self.ask(&offer, ANSWER)?;
        let to_callee = audio_port(&offered)?;
        let crypto = if with_srtp { Some(crypto(&offered)?) } else { None };
        let mut answer = Value::dictionary(common("answer", Side::Callee, crypto.as_deref()));
        if let Value::Dictionary(answer) = &mut answer {
            answer.insert("to-tag".into(), "callee".into());
        }
        let to_caller = audio_port(&self.ask(&answer, ANSWER)?)?;
        Ok(CallPorts { endpoint: [port; 2], relay: [to_caller, to_callee] })
    }

    /// Sets up call number `call` between the caller's codec and the callee's, with what codes one into the other.
    ///
    /// # Errors
    /// As [`Rtpengine::call`].
    pub(super) fn transcode(
        &mut self,
        path: &Path<'_>,
        call: usize,
        codecs: &[Transcoded; 2],
    ) -> Result<CallPorts> {
        let port = endpoint_port(call);
        let call_id = format!("transcode-{call}");
        let common = |command: &str, side: Side| {
            [
                ("command", command.into()),
                ("call-id", call_id.as_str().into()),
                ("from-tag", "caller".into()),
                (
                    "sdp",
                    codecs[side as usize]
                        .sdp(path.endpoint(side).of_call(call).address, port)
                        .as_str()
                        .into(),
                ),
                ("replace", Value::texts(&["origin"])),
                ("ICE", "remove".into()),
            ]
        };
        let mut offer = Value::dictionary(common("offer", Side::Caller));
        if let Value::Dictionary(offer) = &mut offer {
            offer.insert("direction".into(), Value::texts(&Side::BOTH.map(Side::name)));
            let [masked, wanted] = codecs.each_ref().map(|codec| codec.name());
            let codec = [("mask", Value::texts(&[masked])), ("transcode", Value::texts(&[wanted]))];
            offer.insert("codec".into(), Value::dictionary(codec));
        }
        let to_callee = audio_port(&self.ask(&offer, ANSWER)?)?;
        let mut answer = Value::dictionary(common("answer", Side::Callee));
        if let Value::Dictionary(answer) = &mut answer {
            answer.insert("to-tag".into(), "callee".into());
        }
        let to_caller = audio_port(&self.ask(&answer, ANSWER)?)?;
        Ok(CallPorts { endpoint: [port; 2], relay: [to_caller, to_callee] })
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// One command and its answer.
    fn ask(&mut self, command: &Value, patience: Duration) -> Result<Value> {
        self.cookie += 1;
        let cookie = format!("{} ", self.cookie);
        let mut datagram = cookie.clone().into_bytes();
        datagram.extend(command.encode());
        self.control.send(&datagram).context("command to rtpengine")?;
        self.control.set_read_timeout(Some(patience)).context("patience with rtpengine")?;
        let mut buffer = [0; 65_536];
        loop {
            let length = self.control.recv(&mut buffer).context("answer of rtpengine")?;
            // The answer to an earlier command that was given up.
            let Some(body) = buffer.get(..length).and_then(|answer| answer.strip_prefix(cookie.as_bytes()))
            else {
                continue;
            };
            let answer = Value::decode(body).context("answer of rtpengine")?;
            return match answer.text("result") {
                Some("ok" | "pong") => Ok(answer),
                result => Err(anyhow!(
                    "rtpengine answers {}: {}",
                    result.unwrap_or("nothing"),
                    answer.text("error-reason").unwrap_or("no reason")
                )),
            };
        }
    }
}

/// A codec of one side of a call.
pub(super) struct Transcoded {
    /// As in an `rtpmap` line.
    pub(super) codec: &'static str,
    pub(super) fmtp: &'static str,
    pub(super) payload_type: u8,
}

impl Transcoded {
    /// The encoding's name alone.
    fn name(&self) -> &'static str {
        self.codec.split('/').next().unwrap_or(self.codec)
    }

    fn sdp(&self, address: Ipv4Addr, port: u16) -> String {
        let Self { codec, fmtp, payload_type } = self;
        let fmtp = if fmtp.is_empty() { String::new() } else { format!("a=fmtp:{payload_type} {fmtp}\r\n") };
        format!(
            "v=0\r\no=bench 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP {payload_type}\r\na=rtpmap:{payload_type} {codec}\r\n{fmtp}\
             a=ptime:20\r\na=sendrecv\r\n"
        )
    }
}

impl Drop for Rtpengine {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("rtpengine (process {}) was not stopped: {error}", self.process.id());
        }
    }
}

fn sdp(address: Ipv4Addr, port: u16, crypto: Option<&str>) -> String {
    let profile = if crypto.is_some() { "RTP/SAVP" } else { "RTP/AVP" };
    format!(
        "v=0\r\no=bench 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
         m=audio {port} {profile} 8\r\na=rtpmap:8 PCMA/8000\r\na=ptime:20\r\na=sendrecv\r\n{}",
        crypto.unwrap_or_default()
    )
}

/// The callee's line of keys that answers the suite which both relays are measured with (RFC 4568).
fn crypto(offer: &Value) -> Result<String> {
    const SUITE: &str = "AES_CM_128_HMAC_SHA1_80";
    let sdp = offer.text("sdp").context("rtpengine answers without SDP")?;
    let tag = sdp.lines().find_map(|line| {
        let (tag, rest) = line.strip_prefix("a=crypto:")?.split_once(' ')?;
        rest.starts_with(SUITE).then_some(tag)
    });
    let tag = tag.with_context(|| format!("rtpengine does not offer {SUITE}:\n{sdp}"))?;
    Ok(format!("a=crypto:{tag} {SUITE} inline:{}\r\n", *secured::from_callee()?.to_base64()))
}

fn audio_port(answer: &Value) -> Result<u16> {
    let sdp = answer.text("sdp").context("rtpengine answers without SDP")?;
    let port = sdp.lines().find_map(|line| line.strip_prefix("m=audio ")?.split(' ').next()?.parse().ok());
    port.with_context(|| format!("no audio port in rtpengine's SDP:\n{sdp}"))
}
