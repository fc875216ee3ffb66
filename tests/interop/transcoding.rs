//! Calls between baresip phones that have no codec in common: what each hears is the other's tone, and nothing of its own.

use anyhow::{Context, Result, bail};
use gateway_userspace::admin::answer::FlowList;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use support::baresip::{Baresip, Setup};
use support::daemon::{Daemon, SOON};
use support::lab::{Host, Lab};
use support::phone::{Call, Phone};
use support::process::until;
use support::wire::Rtp;

const LOW: f64 = 440.0;
const HIGH: f64 = 1000.0;

/// The caller's side takes all, the callee's side has peers that speak PCMA alone.
fn trunks() -> String {
    let trunk = |name: &str, ours: &str, theirs: &str, media: &str| {
        format!(
            "[[trunk]]\nname = \"{name}\"\nlisten = \"udp:{ours}:5060\"\npeers = [{{ address = \"{theirs}:5060\" }}]\n\
             [trunk.media]\ntranscode = \"when_needed\"\n{media}\n"
        )
    };
    [
        trunk("operator", "10.81.1.1", "10.81.1.2", ""),
        trunk(
            "service",
            "10.81.2.1",
            "10.81.2.2",
            "codecs = [\"PCMA\", \"PCMU\", \"G722\", \"opus\", \"AMR\", \"AMR-WB\"]",
        ),
        "[[route]]\nprefix = \"\"\nfrom = \"operator\"\nto = \"service\"\n".to_owned(),
    ]
    .concat()
}

const MODULES: &str = "module g722.so\nmodule opus.so\nmodule amr.so\n";

/// A caller that speaks `codec` alone and a callee that speaks PCMA alone: the codecs of the record, once both have heard
/// the other's tone, with XDP attached and over sockets. `purity` is the least share of the power that has to lie at its
/// frequency.
fn heard_both_ways(codec: &str, purity: f64) -> Result<(String, String)> {
    let over_sockets = heard(false, (codec, purity))?;
    let with_xdp = heard(true, (codec, purity))?;
    assert_eq!(over_sockets, with_xdp);
    Ok(with_xdp)
}

fn heard(with_xdp: bool, (codec, purity): (&str, f64)) -> Result<(String, String)> {
    let lab = Lab::new()?;
    let (daemon, relayed_by) = match with_xdp {
        true => (Daemon::start(&lab, &trunks())?, "userspace (codec)"),
        false => (Daemon::start_over_sockets(&lab, &trunks())?, "sockets"),
    };
    let callee = Baresip::start(&lab, Setup { codec: "pcma", ..Setup::new(Host::Callee, "bob", HIGH) })?;
    let alice = Setup { codec, settings: MODULES, ..Setup::new(Host::Caller, "alice", LOW) };
    let caller = Baresip::start(&lab, Setup { dials: Some("sip:bob@10.81.1.1"), ..alice })?;
    callee.hears(LOW, HIGH, purity).context(codec.to_owned())?;
    caller.hears(HIGH, LOW, purity).context(codec.to_owned())?;
    let flows = daemon.ask::<FlowList>(&["flows"])?.flows;
    assert!(flows.len() >= 2 && flows.iter().all(|flow| flow.relayed_by == relayed_by), "{flows:?}");
    caller.hang_up()?;
    let [record] =
        <[_; 1]>::try_from(daemon.records(1)?).map_err(|records| anyhow::anyhow!("{records:?}"))?;
    assert_eq!(record.sip_status, 200);
    Ok((record.caller_codec.unwrap_or_default(), record.callee_codec.unwrap_or_default()))
}

// Statement 153.
#[test]
fn g722_and_pcma() -> Result<()> {
    assert_eq!(heard_both_ways("g722/16000", 0.98)?, ("G722/8000".into(), "PCMA/8000".into()));
    Ok(())
}

#[test]
fn pcmu_and_pcma() -> Result<()> {
    assert_eq!(heard_both_ways("pcmu", 0.98)?, ("PCMU/8000".into(), "PCMA/8000".into()));
    Ok(())
}

#[test]
fn opus_and_pcma() -> Result<()> {
    assert_eq!(heard_both_ways("opus/48000/2", 0.95)?, ("opus/48000/2".into(), "PCMA/8000".into()));
    Ok(())
}

#[test]
fn amr_wide_and_pcma() -> Result<()> {
    assert_eq!(heard_both_ways("amr-wb/16000", 0.9)?, ("AMR-WB/16000".into(), "PCMA/8000".into()));
    Ok(())
}

#[test]
fn amr_and_pcma() -> Result<()> {
    assert_eq!(heard_both_ways("amr/8000", 0.9)?, ("AMR/8000".into(), "PCMA/8000".into()));
    Ok(())
}

/// What stood between the two died with the daemon, and is made anew out of the journal.
#[test]
fn a_transcoded_call_is_heard_both_ways_again_under_the_next_daemon() -> Result<()> {
    let lab = Lab::new()?;
    let mut daemon = Daemon::start(&lab, &trunks())?;
    let callee = Baresip::start(&lab, Setup { codec: "pcma", ..Setup::new(Host::Callee, "bob", HIGH) })?;
    let alice = Setup { codec: "g722/16000", settings: MODULES, ..Setup::new(Host::Caller, "alice", LOW) };
    let caller = Baresip::start(&lab, Setup { dials: Some("sip:bob@10.81.1.1"), ..alice })?;
    callee.hears_tone(LOW)?;
    caller.hears_tone(HIGH)?;
    daemon.kill()?;
    let daemon = daemon.restart()?;
    let before = daemon.ask::<FlowList>(&["flows"])?.flows;
    assert!(before.len() >= 2, "{before:?}");
    // More than what tones are looked for in, so that all of it is of the new daemon.
    std::thread::sleep(Duration::from_secs(2));
    callee.hears_tone(LOW)?;
    caller.hears_tone(HIGH)?;
    for (flow, before) in daemon.ask::<FlowList>(&["flows"])?.flows.iter().zip(before) {
        assert_eq!(flow.relayed_by, "userspace (codec)", "{flow:?}");
        if flow.kind != "rtcp" {
            assert!(flow.packets > before.packets + 50, "{flow:?} before: {before:?}");
        }
    }
    caller.hang_up()?;
    assert_eq!(daemon.records(1)?[0].sip_status, 200);
    Ok(())
}

/// RFC 3611, as another's dissector reads it on the callee's host.
#[test]
fn a_peer_that_asks_for_voip_metrics_is_told_how_it_is_heard() -> Result<()> {
    const MEDIA: u16 = 30_000;
    /// In a hundred packets of the callee, so many in a row are never sent.
    const MISSING: u16 = 5;
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &trunks())?;
    let mut dissector = lab.command(Host::Callee, "tshark");
    dissector.args(["-l", "-n", "-i", "to-gateway", "-d", "udp.port==30001,rtcp", "-Y", "rtcp.xr.bt == 7"]);
    dissector.args(["-f", "udp dst port 30001", "-T", "fields", "-E", "separator=;"]);
    for field in ["burstdensity", "burstduration", "gmin", "rfactor", "moslq", "jbnominal"] {
        dissector.args(["-e", &format!("rtcp.xr.voipmetrics.{field}")]);
    }
    let dissector = lab.start("tshark", dissector)?;
    until(SOON, || Ok(dissector.output().contains("Capturing on").then_some(())))?;

    let sdp = |host: &str, format: &str| {
        format!(
            "v=0\r\no=phone 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n\
             m=audio {MEDIA} RTP/AVP {format}\r\n"
        )
    };
    let (mut caller, mut callee) = (Phone::new(&lab, Host::Caller)?, Phone::new(&lab, Host::Callee)?);
    let mut from = caller.invite_with("0800", MEDIA, "application/sdp", &sdp("10.81.1.2", "0"))?;
    let asking = format!("{}a=rtcp-xr:voip-metrics\r\n", sdp("10.81.2.2", "8"));
    let (to, _) = callee.respond_with("200 OK", MEDIA, &asking)?;
    caller.be_answered(&mut from)?;

    let end = |host, address: &str, call: &Call| -> Result<(UdpSocket, SocketAddr)> {
        let socket = lab.on(host, || Ok(UdpSocket::bind((address, MEDIA))?))?;
        Ok((socket, call.far_media.context("where the gateway hears")?))
    };
    let ends = [end(Host::Caller, "10.81.1.2", &from)?, end(Host::Callee, "10.81.2.2", &to)?];
    let mut sequence = 0;
    let told = until(SOON * 2, || {
        for (payload_type, (socket, towards)) in [0, 8].into_iter().zip(&ends) {
            let timestamp = u32::from(sequence) * 160;
            let packet =
                Rtp { payload_type, sequence, timestamp, ssrc: payload_type.into(), ..Rtp::default() };
            if payload_type == 0 || sequence % 100 >= MISSING {
                socket.send_to(&packet.octets(), towards)?;
            }
        }
        sequence += 1;
        let output = dissector.output();
        let line = output.lines().rfind(|line| line.matches(';').count() == 5 && !line.starts_with("0;"));
        Ok(line.map(str::to_owned))
    });
    let told = told.with_context(|| dissector.output())?;
    let fields: Vec<f64> = told.split(';').map(str::parse).collect::<Result<_, _>>()?;
    let [density, duration, gmin, rating, listening, nominal] = fields[..] else { bail!("{told}") };
    // Every burst is lost from its first packet to its last.
    assert_eq!((density, gmin, nominal), (255.0, 16.0, 40.0), "{told}");
    assert!((80.0..=120.0).contains(&duration), "{told}");
    assert!((20.0..90.0).contains(&rating) && (1.0..4.3).contains(&listening), "{told}");
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    let record = daemon.records(1)?.remove(0);
    assert!(record.from_callee.lost >= u64::from(MISSING) && record.from_callee.concealed_ms >= 100);
    Ok(())
}
