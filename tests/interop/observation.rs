//! What an operator sees of one call: its packets in a file, and the quality of its media.

use anyhow::{Context, Result, ensure};
use gateway_userspace::admin::answer::FlowList;
use gateway_userspace::observe::calls::CallDetail;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::daemon::{Daemon, SOON, TRUNKS};
use support::lab::{Host, Lab};
use support::phone::{Phone, connect};
use support::process::until;
use support::stream::Streams;

#[test]
fn tshark_reads_a_capture_of_a_call_that_xdp_relays() -> Result<()> {
    let lab = Lab::new()?;
    captured(&lab, Daemon::start(&lab, TRUNKS)?)
}

#[test]
fn tshark_reads_a_capture_of_a_call_over_sockets() -> Result<()> {
    let lab = Lab::new()?;
    captured(&lab, Daemon::start_over_sockets(&lab, TRUNKS)?)
}

/// A call is captured while both phones talk and one hangs up.
fn captured(lab: &Lab, daemon: Daemon<'_>) -> Result<()> {
    let mut caller = Phone::new(lab, Host::Caller)?;
    let mut callee = Phone::new(lab, Host::Callee)?;
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;
    let call = daemon.calls()?.calls[0].call.clone();
    let streams = Streams::start(lab, &daemon.ask::<FlowList>(&["flows"])?.flows)?;
    let file = lab.directory().join("call.pcapng");
    let output = file.to_string_lossy();

    let refused = daemon.command(&["capture", &call, "--audio", "--output", &output])?.output()?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && told.contains("[capture] audio = true"), "{told}");

    let question = ["capture", &call, "--seconds", "3", "--sip", "--output", &output];
    let mut capture = daemon.command(&question)?.stdout(Stdio::null()).spawn()?;
    until(SOON, || Ok(daemon.log().contains("packets of a call are captured").then_some(())))?;
    std::thread::sleep(Duration::from_secs(1));
    streams.stop()?;
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    ensure!(capture.wait()?.success(), "{}", daemon.log());

    let packets = dissected(&output)?;
    let media: Vec<_> = packets.iter().filter(|packet| packet.protocols.ends_with("rtp")).collect();
    // Fifty a second each way, each as it came and as it left.
    ensure!(media.len() > 100, "{} of media:\n{packets:?}", media.len());
    ensure!(media.iter().all(|packet| packet.length - packet.captured == 160), "{:?}", media[0]);
    let byes = packets.iter().filter(|packet| packet.method == "BYE").count();
    ensure!(byes == 2, "{byes} BYEs:\n{packets:?}");
    Ok(())
}

/// A packet as tshark reads it.
#[derive(Debug)]
struct Dissected {
    protocols: String,
    length: usize,
    captured: usize,
    method: String,
}

fn dissected(file: &str) -> Result<Vec<Dissected>> {
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-r", file, "-o", "rtp.heuristic_rtp:TRUE", "--enable-heuristic", "rtp_udp"]);
    tshark.args(["-d", "udp.port==20000-39999,rtp", "-T", "fields", "-E", "separator=;"]);
    for field in ["frame.protocols", "frame.len", "frame.cap_len", "sip.Method"] {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().context("tshark")?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() && !told.contains("cut short"), "{told}");
    let text = String::from_utf8(output.stdout)?;
    let packet = |line: &str| {
        let mut fields = line.split(';').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        let (protocols, length, captured) = (next(), next().parse()?, next().parse()?);
        Ok(Dissected { protocols, length, captured, method: next() })
    };
    text.lines().map(packet).collect()
}

#[test]
fn the_course_of_a_call_is_told_and_drawn() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;
    let call = daemon.calls()?.calls[0].call.clone();
    let streams = Streams::start(&lab, &daemon.ask::<FlowList>(&["flows"])?.flows)?;
    let detail = until(SOON * 2, || {
        let detail: CallDetail = daemon.ask(&["call", &call])?;
        Ok(detail.media.as_ref().is_some_and(|media| media.samples.len() == 2).then_some(detail))
    })?;
    let media = detail.media.context("there is media")?;
    ensure!(
        media.from_caller.packets > 400 && media.from_caller.mos.is_some_and(|mos| mos > 4.0),
        "{media:?}"
    );
    let seen = media.samples[1].from_callee.context("the callee talked")?;
    ensure!(seen.loss == 0.0 && seen.mos > 4.0, "{seen:?}");
    streams.stop()?;
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;

    let file = lab.directory().join("call.svg");
    let ended: CallDetail = daemon.ask(&["call", &call, "--svg", &file.to_string_lossy()])?;
    ensure!(ended.record.is_some() && ended.media.is_some_and(|media| media.samples.len() >= 2));
    ensure!(fs::read_to_string(&file)?.ends_with("</svg>\n"));
    let scrape = daemon.http("/metrics")?;
    ensure!(scrape.contains("causeway_call_mos_count{trunk=\"operator\"} 1"), "{scrape}");
    Ok(())
}
