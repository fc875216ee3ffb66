//! Calls over a chain: a phone, the gateway, a Kamailio that has rtpengine relay the media, another phone.

use super::srtp::{no_tag_was_wrong, reported};
use anyhow::{Context, Result, ensure};
use gateway_userspace::admin::answer::{FlowLine, FlowList};
use gateway_userspace::observe::cdr::CallRecord;
use support::baresip::{Baresip, Setup};
use support::daemon::{Daemon, SOON};
use support::kamailio::Kamailio;
use support::lab::{Host, Lab};
use support::process::{Process, until};
use support::rtpengine::{PORTS, Rtpengine};

const LOW: f64 = 440.0;
const HIGH: f64 = 1000.0;
/// Of 160 octets of G.711: with the headers of UDP and RTP, and with the tag of AES_CM_128_HMAC_SHA1_80 behind.
const PLAIN: u16 = 8 + 12 + 160;
const SECURED: u16 = PLAIN + 10;

/// Two trunks and a route between them each way; the service's peer is the proxy.
fn trunks(media: &str) -> String {
    format!(
        r#"
[[trunk]]
name = "operator"
listen = "udp:10.81.1.1:5060"
peers = [{{ address = "10.81.1.2:5060" }}]
[trunk.media]
transcode = "when_needed"

[[trunk]]
name = "service"
listen = "udp:10.81.2.1:5060"
peers = [{{ address = "10.81.2.2:5070" }}]
[trunk.media]
transcode = "when_needed"
{media}

[[route]]
prefix = ""
from = "operator"
to = "service"

[[route]]
prefix = ""
from = "service"
to = "operator"
"#
    )
}

/// What is between the phones.
struct Chain<'a> {
    lab: &'a Lab,
    daemon: Daemon<'a>,
    kamailio: Kamailio,
    rtpengine: Rtpengine,
}

impl<'a> Chain<'a> {
    fn new(lab: &'a Lab, media: &str, secured: bool) -> Result<Self> {
        let rtpengine = Rtpengine::start(lab)?;
        let kamailio = Kamailio::with_rtpengine(lab, secured)?;
        Ok(Self { lab, daemon: Daemon::start(lab, &trunks(media))?, kamailio, rtpengine })
    }

    fn logs(&self) -> String {
        format!("{}\n{}\n{}", self.daemon.log(), self.kamailio.log(), self.rtpengine.log())
    }

    fn flows(&self) -> Result<Vec<FlowLine>> {
        Ok(self.daemon.ask::<FlowList>(&["flows"])?.flows)
    }

    /// Of the flows of media, of which one goes to rtpengine.
    fn is_relayed_by(&self, relayed_by: &str) -> Result<()> {
        let media: Vec<_> = self.flows()?.into_iter().filter(|flow| flow.kind != "rtcp").collect();
        let to_rtpengine = media.iter().filter_map(|flow| flow.to).filter(|end| is_rtpengine(end.port()));
        ensure!(
            to_rtpengine.count() == 1
                && media.len() == 2
                && media.iter().all(|flow| flow.relayed_by == relayed_by),
            "{media:?}"
        );
        Ok(())
    }

    /// What is on a device of the callee's host: RTP between the gateway and rtpengine, or between rtpengine and the phone.
    fn observed(&self, device: &str) -> Result<Observed> {
        let mut dissector = self.lab.command(Host::Callee, "tshark");
        let ports = PORTS.map(|port| port.to_string()).join("-");
        dissector.args(["-l", "-n", "-i", device, "-f", &format!("udp portrange {ports}")]);
        dissector.args(["-d", &format!("udp.port=={ports},rtp"), "-Y", "rtp && rtp.p_type < 72"]);
        dissector.args(["-T", "fields", "-e", "udp.srcport", "-e", "udp.length"]);
        let dissector = self.lab.start(&format!("tshark-{device}"), dissector)?;
        until(SOON, || Ok(dissector.output().contains("Capturing on").then_some(())))?;
        Ok(Observed { dissector })
    }

    fn record(&self) -> Result<CallRecord> {
        let mut records = self.daemon.records(1)?;
        ensure!(records.len() == 1, "{records:?}");
        let record = records.remove(0);
        ensure!(record.sip_status == 200 && record.fault.is_none(), "{record:?}");
        Ok(record)
    }
}

/// Packets of a device.
struct Observed {
    dissector: Process,
}

impl Observed {
    /// How many came from rtpengine and how many went to it so far, all of them of this length.
    fn counted(&self, length: u16) -> Result<[usize; 2]> {
        let output = self.dissector.output();
        let mut counted = [0; 2];
        for line in output.lines().filter_map(|line| line.split_once('\t')) {
            let (Ok(from), Ok(seen)) = (line.0.parse(), line.1.parse::<u16>()) else { continue };
            ensure!(seen == length, "{seen} octets from port {from} instead of {length}");
            counted[usize::from(!is_rtpengine(from))] += 1;
        }
        Ok(counted)
    }

    /// Waits until a second more has gone each way.
    fn goes_on(&self, length: u16) -> Result<()> {
        let before = self.counted(length)?;
        let goes_on = || {
            let now = self.counted(length)?;
            Ok(now.iter().zip(before).all(|(now, before)| *now >= before + 50).then_some(()))
        };
        until(SOON, goes_on).with_context(|| self.dissector.output())
    }
}

fn is_rtpengine(port: u16) -> bool {
    (PORTS[0]..=PORTS[1]).contains(&port)
}

/// A phone at each end, who hear each other.
fn heard<'a>(chain: &Chain<'a>, alice_calls: bool) -> Result<(Baresip<'a>, Baresip<'a>)> {
    let alice = Setup { codec: "pcma", ..Setup::new(Host::Caller, "alice", LOW) };
    let bob = Setup { codec: "pcma", ..Setup::new(Host::Callee, "bob", HIGH) };
    let (alice, bob) = if alice_calls {
        let bob = Baresip::start(chain.lab, bob)?;
        (Baresip::start(chain.lab, Setup { dials: Some("sip:bob@10.81.1.1"), ..alice })?, bob)
    } else {
        let alice = Baresip::start(chain.lab, alice)?;
        (alice, Baresip::start(chain.lab, Setup { dials: Some("sip:alice@10.81.2.2:5070"), ..bob })?)
    };
    bob.hears(LOW, HIGH, 0.99).with_context(|| chain.logs())?;
    alice.hears(HIGH, LOW, 0.99).with_context(|| chain.logs())?;
    Ok((alice, bob))
}

const REQUIRED: &str = "security = \"required\"\nsuites = [\"AES_CM_128_HMAC_SHA1_80\"]";

#[test]
fn between_the_gateway_and_rtpengine_media_is_secured_and_plain_at_the_phones() -> Result<()> {
    for alice_calls in [true, false] {
        let lab = Lab::new()?;
        let chain = Chain::new(&lab, REQUIRED, true)?;
        let (outside, inside) = (chain.observed("to-gateway")?, chain.observed("lo")?);
        let (alice, bob) = heard(&chain, alice_calls)?;
        outside.goes_on(SECURED)?;
        inside.goes_on(PLAIN)?;
        chain.is_relayed_by("kernel")?;
        no_tag_was_wrong(&chain.daemon)?;
        ensure!(!chain.daemon.log().contains("inline:"), "a key in the log");
        if alice_calls {
            alice.hang_up()?
        } else {
            bob.hang_up()?
        }
        let record = chain.record()?;
        assert_eq!((record.from_caller.lost, record.from_callee.lost), (0, 0), "{record:?}");
    }
    Ok(())
}

/// rtpengine passes nothing on that it cannot open, and the gateway neither.
#[test]
fn after_hold_and_resume_from_either_side_packets_flow_both_ways_over_rtpengine() -> Result<()> {
    let lab = Lab::new()?;
    let chain = Chain::new(&lab, REQUIRED, true)?;
    let (outside, inside) = (chain.observed("to-gateway")?, chain.observed("lo")?);
    let (alice, bob) = heard(&chain, true)?;
    for phone in [&alice, &bob] {
        phone.command("hold")?;
        until(SOON, || Ok(chain.flows()?.iter().any(|flow| flow.muted).then_some(())))
            .with_context(|| chain.logs())?;
        phone.command("resume")?;
        outside.goes_on(SECURED).with_context(|| chain.logs())?;
        inside.goes_on(PLAIN).with_context(|| chain.logs())?;
    }
    chain.is_relayed_by("kernel")?;
    no_tag_was_wrong(&chain.daemon)?;
    alice.hang_up()?;
    chain.record()?;
    Ok(())
}

/// The gateway codes between the caller's G.722 and the callee's PCMA, which rtpengine relays with SRTP towards us.
#[test]
fn a_transcoded_call_is_heard_both_ways_over_rtpengine() -> Result<()> {
    let lab = Lab::new()?;
    let media = format!("{REQUIRED}\ncodecs = [\"PCMA\", \"G722\"]");
    let chain = Chain::new(&lab, &media, true)?;
    let bob = Baresip::start(&lab, Setup { codec: "pcma", ..Setup::new(Host::Callee, "bob", HIGH) })?;
    let alice = Setup {
        codec: "g722/16000",
        settings: "module g722.so\n",
        dials: Some("sip:bob@10.81.1.1"),
        ..Setup::new(Host::Caller, "alice", LOW)
    };
    let alice = Baresip::start(&lab, alice)?;
    bob.hears(LOW, HIGH, 0.98).with_context(|| chain.logs())?;
    alice.hears(HIGH, LOW, 0.98).with_context(|| chain.logs())?;
    chain.is_relayed_by("userspace (codec)")?;
    no_tag_was_wrong(&chain.daemon)?;
    alice.hang_up()?;
    let record = chain.record()?;
    let codecs = (record.caller_codec.as_deref(), record.callee_codec.as_deref());
    assert_eq!(codecs, (Some("G722/8000"), Some("PCMA/8000")));
    Ok(())
}

/// With plain RTP on all of the chain, RTP and RTCP at ports of their own.
#[test]
fn each_phone_reads_the_others_reports_over_rtpengine_and_the_gateway() -> Result<()> {
    let lab = Lab::new()?;
    let chain = Chain::new(&lab, "", false)?;
    let (alice, bob) = heard(&chain, true)?;
    for phone in [&alice, &bob] {
        until(2 * SOON, || reported(phone)).with_context(|| chain.logs())?;
    }
    chain.is_relayed_by("kernel")?;
    alice.hang_up()?;
    chain.record()?;
    Ok(())
}
