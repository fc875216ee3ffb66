//! Answers for people: tables with units, and the ladder.

use super::answer::{
    CallList, CertificateStatus, DeniedList, DropLine, Drops, FlowList, NodeStatus, PeerLine, TrunkList,
};
use crate::observe::calls::{CallDetail, CallSummary};
use crate::observe::ladder;
use crate::observe::quality::{CallMedia, FarEndQuality, MediaQuality};
use crate::policy::TargetState;
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Write as _;

/// `causeway status`.
pub fn status(status: &NodeStatus) -> String {
    let state = if status.draining { "draining: new calls are refused" } else { "taking calls" };
    let mut table = plain(&[]);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("node", format!("{} (causeway {})", status.node, status.version));
    row("state", format!("{state}, up {}", span(status.uptime_ms)));
    if status.media.is_empty() {
        row("media", "all by plain sockets: no interface has XDP".to_owned());
    }
    for media in &status.media {
        row("media", format!("{} by {}", media.interface, media.path.label()));
    }
    row("calls", format!("{} of {} in progress", count(status.calls), count(status.calls_max)));
    let (started, answered) = (count(status.calls_started), count(status.calls_answered));
    row("", format!("{started} started, {answered} answered, {} ended", count(status.calls_ended)));
    if let (Some(median), Some(tail)) = (status.setup_p50_ms, status.setup_p99_ms) {
        row("set-up delay", format!("{median:.1} ms median, {tail:.1} ms at 99 %"));
    }
    row("flows", format!("{} of {}", count(status.flows), count(status.flows_max)));
    row(
        "media ports",
        format!("{} of {} pairs", count(status.media_port_pairs_in_use), count(status.media_port_pairs)),
    );
    let relayed = count(status.packets_relayed);
    row("packets", format!("{relayed} relayed, {} dropped", count(status.packets_dropped)));
    if status.call_records_lost > 0 {
        row("call records", format!("{} LOST: see the log", count(status.call_records_lost)));
    }
    for certificate in &status.certificates {
        let soon = if certificate.days_left < 30 { ": RENEW IT" } else { "" };
        let CertificateStatus { trunk, subject, expires, days_left, engine } = certificate;
        let engine = if engine == "openssl" { ", BY OPENSSL: suites with CBC may be in use" } else { "" };
        row("certificate", format!("{trunk}: {subject} until {expires}, {days_left} days{soon}{engine}"));
    }
    for core in &status.cores {
        let state = if core.answers { "" } else { ", DOES NOT ANSWER" };
        row(&format!("core {}", core.core), format!("{} calls{state}", count(core.calls)));
    }
    print(&table)
}

/// `causeway calls`.
pub fn calls(list: &CallList) -> String {
    if list.calls.is_empty() {
        return "no calls\n".to_owned();
    }
    let mut table =
        plain(&["CALL", "STATE", "CALLER", "CALLED", "FROM", "TO", "CODECS", "STARTED (UTC)", "TALK"]);
    for call in &list.calls {
        table.add_row([
            call.call.clone(),
            progress(call),
            call.caller.clone(),
            call.called.clone(),
            call.from_trunk.clone(),
            or_dash(call.to_trunk.clone()),
            codecs(call),
            call.started_at.clone(),
            or_dash(call.talk_ms.map(span)),
        ]);
    }
    right(&mut table, &[8]);
    print(&table) + more(list.more)
}

/// `causeway call ID`.
pub fn call(detail: &CallDetail) -> String {
    let call = &detail.summary;
    let mut text = format!(
        "call {}  {} to {}  {}\nfrom {}  to {}{}\nstarted {}  age {}",
        call.call,
        call.caller,
        call.called,
        progress(call),
        call.from_trunk,
        or_dash(call.to_trunk.clone()),
        call.peer.map(|peer| format!(" ({peer})")).unwrap_or_default(),
        call.started_at,
        span(call.age_ms),
    );
    if let Some(talk) = call.talk_ms {
        let _ = write!(text, "  talk {}  codecs {}", span(talk), codecs(call));
    }
    let _ = writeln!(text, "\n\n{}", ladder::render(&detail.ladder));
    if let Some(record) = &detail.record {
        let fault = record.fault.as_ref().map(|fault| format!(", {fault}")).unwrap_or_default();
        let _ = writeln!(text, "status {}, Q.850 cause {}{fault}", record.sip_status, record.cause);
    }
    if let Some(media) = &detail.media {
        text.push_str(&quality(media));
    }
    text
}

/// `causeway flows`.
pub fn flows(list: &FlowList) -> String {
    if list.flows.is_empty() {
        return "no flows\n".to_owned();
    }
    let mut table = plain(&[
        "CALL", "SLOT", "KIND", "AT", "SOURCE", "TO", "BY", "PACKETS", "LOST", "LATE", "JITTER", "REFUSED",
        "IDLE",
    ]);
    for flow in &list.flows {
        let muted = if flow.muted { " muted" } else { "" };
        table.add_row([
            or_dash(flow.call.clone()),
            flow.slot.to_string(),
            format!("{}{muted}", flow.kind),
            flow.at.to_string(),
            or_dash(flow.source.map(|source| source.to_string())),
            or_dash(flow.to.map(|to| to.to_string())),
            flow.relayed_by.clone(),
            count(flow.packets),
            count(flow.lost),
            count(flow.late),
            format!("{:.1} ms", flow.jitter_ms),
            count(flow.refused),
            or_dash(flow.idle_ms.map(span)),
        ]);
    }
    right(&mut table, &[1, 7, 8, 9, 10, 11, 12]);
    print(&table) + more(list.more)
}

/// `causeway trunks`.
pub fn trunks(list: &TrunkList) -> String {
    let mut table = plain(&[
        "TRUNK",
        "LISTEN",
        "CALLS",
        "PEER",
        "ADDRESS",
        "PRIORITY",
        "WEIGHT",
        "STATE",
        "LAST OPTIONS",
    ]);
    for trunk in &list.trunks {
        let name = if trunk.drained { format!("{} DRAINED", trunk.trunk) } else { trunk.trunk.clone() };
        let most = trunk.calls_max.map(|most| format!(" of {}", count(most.into()))).unwrap_or_default();
        let calls = format!("{}{most}", count(trunk.calls.into()));
        if trunk.peers.is_empty() {
            table.add_row([&name, &trunk.listen, &calls, "-", "-", "-", "-", "-", "-"]);
        }
        for (position, peer) in trunk.peers.iter().enumerate() {
            let first = |text: &String| if position == 0 { text.clone() } else { String::new() };
            let remote = if peer.remote { " remote" } else { "" };
            table.add_row([
                first(&name),
                first(&trunk.listen),
                first(&calls),
                peer.peer.clone(),
                or_dash(peer.address.map(|address| address.to_string())),
                format!("{}{remote}", peer.priority),
                peer.weight.to_string(),
                peer_state(peer),
                last_options(peer),
            ]);
        }
    }
    right(&mut table, &[6]);
    print(&table)
}

fn peer_state(peer: &PeerLine) -> String {
    let mut text = match (peer.address, peer.asked_ms) {
        (None, _) => "unresolved".to_owned(),
        (Some(_), None) if peer.state == TargetState::Unknown => "not asked".to_owned(),
        _ => peer.state.label().to_owned(),
    };
    if peer.drained {
        text.push_str(", drained");
    }
    if let Some(rest) = peer.rests_ms {
        let _ = write!(text, ", rests {}", span(rest));
    }
    if let Some(registration) = peer.registration {
        let _ = write!(text, ", {}", registration.label());
    }
    if let Some(overload) = &peer.overload {
        let _ = write!(text, ", {overload}");
    }
    text
}

fn last_options(peer: &PeerLine) -> String {
    let answered = || peer.answered.map_or("no answer".to_owned(), |status| status.to_string());
    or_dash(peer.asked_ms.map(|ago| format!("{}, {} ago", answered(), span(ago))))
}

/// `causeway drops`.
pub fn drops(drops: &Drops) -> String {
    let mut text = String::new();
    let mut section = |title: &str, lines: &[DropLine]| {
        if lines.is_empty() {
            let _ = writeln!(text, "{title}: none\n");
            return;
        }
        let mut table = plain(&["REASON", "COUNT", "MEANING"]);
        for line in lines {
            table.add_row([line.reason.clone(), count(line.count), line.explanation.clone()]);
        }
        right(&mut table, &[1]);
        let _ = writeln!(text, "{title}\n{}", print(&table));
    };
    section("packets not relayed and not let in", &drops.packets);
    section("SIP requests refused", &drops.requests);
    if drops.silenced.is_empty() {
        text.push_str("sources that no trunk allows: none\n");
        return text;
    }
    let mut table = plain(&["SOURCE", "MESSAGES"]);
    for source in &drops.silenced {
        table.add_row([source.address.to_string(), count(source.messages)]);
    }
    right(&mut table, &[1]);
    let _ = write!(text, "sources that no trunk allows (silenced)\n{}", print(&table));
    text
}

/// `causeway denied`.
pub fn denied(list: &DeniedList) -> String {
    if list.denied.is_empty() {
        return "nobody is denied\n".to_owned();
    }
    let mut table = plain(&["SOURCE", "FOR ANOTHER", "CAUSE"]);
    for line in &list.denied {
        table.add_row([line.source.clone(), span(line.left_ms), line.cause.clone()]);
    }
    right(&mut table, &[1]);
    print(&table)
}

/// What came from each side, and what its far end says of the media that went there.
fn quality(media: &CallMedia) -> String {
    let mut table = plain(&[
        "MEDIA",
        "PACKETS",
        "OCTETS",
        "LOST",
        "LOSS",
        "LATE",
        "DISCARDED",
        "JITTER",
        "ROUND TRIP",
        "MOS",
        "IN KERNEL",
        "RELAYED BY",
    ]);
    table.add_row(heard("from caller", &media.from_caller));
    if let Some(said) = &media.to_caller {
        table.add_row(told("to caller", said));
    }
    table.add_row(heard("from callee", &media.from_callee));
    if let Some(said) = &media.to_callee {
        table.add_row(told("to callee", said));
    }
    right(&mut table, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    print(&table)
}

fn heard(direction: &str, quality: &MediaQuality) -> [String; 12] {
    let share = quality.fast_path_packets.min(quality.packets) as f64 / quality.packets.max(1) as f64;
    let some = |text: String| if quality.packets == 0 { "-".to_owned() } else { text };
    [
        direction.to_owned(),
        count(quality.packets),
        count(quality.octets),
        count(quality.lost),
        some(format!("{:.2} %", quality.loss() * 100.0)),
        count(quality.late),
        count(quality.discarded),
        some(format!("{:.1} ms", quality.jitter_ms)),
        or_dash(quality.round_trip_ms.map(|span| format!("{span:.1} ms"))),
        or_dash(quality.mos.map(|mos| format!("{mos:.2}"))),
        some(format!("{:.2} %", share * 100.0)),
        or_dash(quality.relayed_by.map(|path| path.to_string())),
    ]
}

fn told(direction: &str, quality: &FarEndQuality) -> [String; 12] {
    let unknown = || "-".to_owned();
    [
        direction.to_owned(),
        unknown(),
        unknown(),
        quality.lost.to_string(),
        format!("{:.2} %", quality.loss * 100.0),
        unknown(),
        unknown(),
        format!("{:.1} ms", quality.jitter_ms),
        unknown(),
        or_dash(quality.mos.map(|mos| format!("{mos:.2}"))),
        unknown(),
        unknown(),
    ]
}

fn progress(call: &CallSummary) -> String {
    let held = if call.held { " on hold" } else { "" };
    format!("{}{held}", call.progress.word())
}

fn codecs(call: &CallSummary) -> String {
    match (&call.caller_codec, &call.callee_codec) {
        (Some(caller), Some(callee)) if caller != callee => format!("{caller} | {callee}"),
        (caller, callee) => or_dash(caller.clone().or_else(|| callee.clone())),
    }
}

fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    if !header.is_empty() {
        table.set_header(header);
    }
    table
}

fn right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn print(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn more(more: bool) -> &'static str {
    if more { "There are more: raise --limit.\n" } else { "" }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// With a thin mark between thousands.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    match seconds {
        0..60 => format!("{:.1} s", milliseconds as f64 / 1_000.0),
        60..86_400 => format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60),
        _ => format!("{} d {}:{:02} h", seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60),
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use crate::admin::answer::{DeniedLine, FlowLine, TrunkLine};
    use crate::base::id::Side;
    use crate::base::time::Time;
    use crate::observe::calls::Progress;
    use crate::observe::cdr::CallRecord;
    use crate::observe::clock::WallClock;
    use crate::observe::event::{Direction, samples};
    use crate::observe::ladder::Rung;
    use crate::policy::RegistrationState;

    pub(crate) fn denied() -> DeniedList {
        let line = |source: &str, cause: &str, left_ms| DeniedLine {
            source: source.into(),
            cause: cause.into(),
            left_ms,
        };
        let network = line("2001:db8:66::/48", "operator", 3_599_000);
        DeniedList { denied: vec![network, line("198.51.100.66", "scan", 42_500)] }
    }

    pub(crate) fn call() -> CallSummary {
        CallSummary {
            call: "0000000000000007".into(),
            progress: Progress::Answered,
            caller: "+*********123".into(),
            called: "+********147".into(),
            from_trunk: "operator".into(),
            to_trunk: Some("teams".into()),
            peer: Some("203.0.113.9:5060".parse().unwrap()),
            started_at: "2026-11-22T15:28:14.071Z".into(),
            age_ms: 65_000,
            talk_ms: Some(61_500),
            caller_codec: Some("PCMA/8000".into()),
            callee_codec: Some("PCMU/8000".into()),
            held: true,
        }
    }

    pub(crate) fn detail() -> CallDetail {
        let rung = Rung {
            at_ms: 0.25,
            side: Some(Side::Caller),
            direction: Some(Direction::Received),
            text: "INVITE 1 +SDP".into(),
        };
        let clock = WallClock::new(Time::ZERO, std::time::UNIX_EPOCH);
        let record = CallRecord::new("gw1", &samples::end(), Time(64_000_000), &clock);
        let media = CallMedia {
            from_caller: record.from_caller,
            from_callee: record.from_callee,
            to_caller: record.to_caller,
            to_callee: record.to_callee,
            samples: samples::series().points(Time(1_000_000)),
        };
        CallDetail { summary: call(), ladder: vec![rung], record: Some(record), media: Some(media) }
    }

    pub(crate) fn trunk() -> TrunkLine {
        let peer = PeerLine {
            peer: "teams1".into(),
            address: Some("203.0.113.9:5061".parse().unwrap()),
            remote: false,
            priority: 0,
            weight: 1,
            state: TargetState::Up,
            drained: false,
            rests_ms: None,
            overload: Some("takes 40 %".into()),
            registration: Some(RegistrationState::Registered),
            asked_ms: Some(12_300),
            answered: Some(200),
        };
        let down = PeerLine {
            peer: "teams2".into(),
            address: Some("203.0.113.10:5061".parse().unwrap()),
            priority: 1,
            state: TargetState::Down,
            answered: None,
            overload: None,
            registration: None,
            rests_ms: Some(28_000),
            drained: true,
            remote: true,
            ..peer.clone()
        };
        let silent = PeerLine {
            asked_ms: None,
            answered: None,
            overload: None,
            registration: None,
            state: TargetState::Unknown,
            ..peer.clone()
        };
        let quiet = PeerLine { peer: "203.0.113.11:5061".into(), ..silent.clone() };
        let nowhere = PeerLine { peer: "teams3".into(), address: None, ..silent };
        TrunkLine {
            trunk: "teams".into(),
            listen: "tcp:192.0.2.1:5061".into(),
            drained: true,
            calls: 1_204,
            calls_max: Some(5_000),
            peers: vec![peer, down, quiet, nowhere],
        }
    }

    pub(crate) fn flow() -> FlowLine {
        FlowLine {
            call: Some("0000000000000007".into()),
            slot: 12,
            kind: "mux".into(),
            at: "192.0.2.1:20000".parse().unwrap(),
            source: Some("198.51.100.7:4000".parse().unwrap()),
            to: None,
            relayed_by: "kernel".into(),
            muted: false,
            packets: 1_234_567,
            octets: 212_345_524,
            refused: 0,
            lost: 3,
            late: 1,
            jitter_ms: 1.25,
            idle_ms: Some(18),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::answer::{CoreStatus, MediaPath, TrunkLine};
    use crate::observe::event::Datapath;
    use crate::observe::sources::SilencedSource;

    #[test]
    fn a_status_reads_at_a_glance() {
        let answer = NodeStatus {
            node: "gw1".into(),
            version: "0.1.0".into(),
            uptime_ms: 3_725_000,
            draining: false,
            media: vec![MediaPath { interface: "eth0".into(), path: Datapath::Native }],
            calls: 1_204,
            calls_max: 20_000,
            calls_started: 88_001,
            calls_answered: 61_090,
            calls_ended: 86_797,
            setup_p50_ms: Some(212.4),
            setup_p99_ms: Some(2_900.0),
            flows: 4_816,
            flows_max: 200_000,
            media_port_pairs_in_use: 2_500,
            media_port_pairs: 20_000,
            packets_relayed: 1_000_000,
            packets_dropped: 12,
            call_records_lost: 2,
            cores: vec![
                CoreStatus { core: 0, calls: 600, answers: true },
                CoreStatus { core: 1, calls: 604, answers: false },
            ],
            certificates: vec![CertificateStatus {
                trunk: "service".to_owned(),
                subject: "sbc.example.net".to_owned(),
                expires: "2026-12-24".to_owned(),
                days_left: 29,
                engine: "openssl".to_owned(),
            }],
        };
        insta::assert_snapshot!(status(&answer));
    }

    #[test]
    fn calls_and_flows_stand_in_columns_with_units() {
        let list = CallList { calls: vec![samples::call()], more: true };
        let flow_list = FlowList { flows: vec![samples::flow()], more: false };
        insta::assert_snapshot!(calls(&list) + "\n" + &flows(&flow_list));
    }

    #[test]
    fn trunks_stand_with_their_peers_and_what_is_known_of_them() {
        let empty = TrunkLine {
            trunk: "operator".into(),
            drained: false,
            calls_max: None,
            peers: Vec::new(),
            ..samples::trunk()
        };
        insta::assert_snapshot!(trunks(&TrunkList { trunks: vec![samples::trunk(), empty] }));
    }

    #[test]
    fn an_ended_call_shows_its_ladder_and_what_was_heard() {
        insta::assert_snapshot!(call(&samples::detail()));
    }

    #[test]
    fn drops_say_what_they_mean() {
        let line = DropLine {
            reason: "no_route".into(),
            count: 12_000,
            explanation: "No route for the called number.".into(),
        };
        let answer = Drops {
            packets: Vec::new(),
            requests: vec![line],
            silenced: vec![SilencedSource { address: "198.51.100.66".parse().unwrap(), messages: 88 }],
        };
        insta::assert_snapshot!(drops(&answer));
    }

    #[test]
    fn the_denied_stand_with_cause_and_the_time_that_is_left() {
        insta::assert_snapshot!(denied(&samples::denied()));
        assert_eq!(denied(&DeniedList::default()), "nobody is denied\n");
    }

    #[test]
    fn spans_and_counts_have_units_that_people_read() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([900, 59_900, 61_000, 90_061_000].map(span), ["0.9 s", "59.9 s", "0:01:01", "1 d 1:01 h"]);
    }
}
