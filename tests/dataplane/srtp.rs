//! SRTP in the XDP program and on the reference path, which must agree, with a far end on either side of the call.

use crate::lab::{LAN, Lab, WAN, hex};
use crate::random::{damage, flows as random_flows, label, whole};
use crate::row::{answer, call, carrying, fresh, output, packet6, relayed};
use anyhow::{Context, Result, bail, ensure};
use gateway_common::flow::{FlowKind, Latch, flag};
use gateway_common::srtp::{FlowCrypto, FlowKeys, Keys};
use gateway_common::verdict::Reason;
use gateway_userspace::dataplane::keys;
use gateway_userspace::dataplane::reference::frame::Verdict;
use gateway_userspace::media::plan::FlowSpec;
use gateway_userspace::srtp::{MasterKey, Mki, Suite};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use support::srtp::FarEnd;
use support::wire::{Checksum, Frame, Rtp, rtcp};

const FIRST: u32 = 0x1111_1111;
const SECOND: u32 = 0x2222_2222;

pub fn key(octet: u8) -> MasterKey {
    suited(Suite::AesCm128HmacSha1_80, octet)
}

fn suited(suite: Suite, octet: u8) -> MasterKey {
    let master: Vec<u8> = (0..suite.master_len() as u8).map(|index| index ^ octet).collect();
    MasterKey::new(suite, &master).expect("as long as the suite says")
}

/// A call whose caller protects its media by `from_caller`, and hears what is protected by `to_caller`.
pub fn secured(from_caller: &MasterKey, to_caller: &MasterKey) -> Vec<FlowSpec> {
    let mut flows = call();
    flows[0].unprotect = Some(from_caller.clone());
    flows[1].protect = Some(to_caller.clone());
    flows.iter_mut().for_each(|flow| flow.continuity = true);
    flows
}

/// The far end of a stream that this key protects.
pub fn far_end(key: &MasterKey) -> FarEnd {
    let flow = FlowSpec { unprotect: Some(key.clone()), ..call().swap_remove(0) };
    let FlowKeys { unprotect, .. } = keys::compile(
        &flow,
        &FlowKeys { unprotect: Keys::NONE, protect: Keys::NONE },
        &FlowCrypto::default(),
        false,
    );
    FarEnd::new(unprotect)
}

pub fn rtp(sequence: u16, body: usize) -> Vec<u8> {
    from(FIRST, sequence, body)
}

fn from(ssrc: u32, sequence: u16, body: usize) -> Vec<u8> {
    let body = (0..body).map(|octet| octet as u8).collect();
    Rtp { ssrc, sequence, timestamp: u32::from(sequence) * 160, body, ..Rtp::default() }.octets()
}

/// The caller says it: what becomes of it.
fn says(lab: &mut Lab, payload: Vec<u8>) -> Result<Verdict> {
    Ok(lab.relay(LAN, &carrying(payload).octets())?.verdict)
}

/// The callee says it: what the caller gets of it.
fn hears(lab: &mut Lab, payload: Vec<u8>) -> Result<Vec<u8>> {
    let became = lab.relay(WAN, &Frame { payload, ..answer() }.octets())?;
    match became.verdict {
        Verdict::Redirect(LAN, octets) => Ok(octets[42..].to_vec()),
        other => bail!("not relayed: {other:?}"),
    }
}

/// It arrives at the callee as these octets, in headers and with checksums that are right.
fn arrives(verdict: &Verdict, plain: &[u8]) -> Result<()> {
    let Verdict::Redirect(WAN, octets) = verdict else { bail!("not relayed: {verdict:?}") };
    let expected = relayed(&carrying(plain.to_vec())).octets();
    ensure!(*octets == expected, "arrived as {}\nexpected {}", hex(octets), hex(&expected));
    Ok(())
}

// Statements 133, 136.
#[test]
fn protected_audio_is_heard_plain_and_plain_audio_protected_in_every_suite_and_length() -> Result<()> {
    let mut lab = Lab::new("srtp")?;
    let identifier = Mki::new(1, 1)?;
    let suites = [Suite::AesCm128HmacSha1_80, Suite::AesCm128HmacSha1_32];
    for (suite, mki) in suites.into_iter().flat_map(|suite| [(suite, None), (suite, Some(identifier))]) {
        let keys = [1, 2].map(|octet| suited(suite, octet).with_mki(mki));
        lab.install(&secured(&keys[0], &keys[1]))?;
        let [mut caller, mut ear] = [far_end(&keys[0]), far_end(&keys[1])];
        for (sequence, body) in (1000..).zip([0, 1, 19, 20, 33, 47, 48, 160, 1000, 1430]) {
            let plain = rtp(sequence, body);
            let wire = caller.protect(&plain);
            let added = suite.rtp_tag_len() + mki.map_or(0, Mki::len);
            ensure!(wire.len() == plain.len() + added, "{} octets for {body}", wire.len());
            arrives(&says(&mut lab, wire)?, &plain).with_context(|| format!("{suite:?} {mki:?} {body}"))?;
            let wire = hears(&mut lab, plain.clone())?;
            ensure!(wire.len() == plain.len() + added && (body == 0 || wire[12..plain.len()] != plain[12..]));
            ensure!(ear.unprotect(&wire) == Ok(plain), "{suite:?} {mki:?} {body}: {}", hex(&wire));
        }
    }
    // An identifier that was not agreed, or one that is missing, is a wrong tag.
    let agreed = key(1).with_mki(Some(identifier));
    lab.install(&secured(&agreed, &key(2)))?;
    let missing = far_end(&key(1)).protect(&rtp(1, 160));
    ensure!(says(&mut lab, missing)? == Verdict::Drop(Reason::BadTag));
    lab.install(&secured(&key(1), &key(2)))?;
    let unwanted = far_end(&agreed).protect(&rtp(1, 160));
    ensure!(says(&mut lab, unwanted)? == Verdict::Drop(Reason::BadTag));
    Ok(())
}

// Statement 136.
#[test]
fn wrong_tags_and_repeated_packets_are_dropped_counted_and_change_nothing() -> Result<()> {
    let mut lab = Lab::new("srtptags")?;
    lab.install(&secured(&key(1), &key(2)))?;
    let mut caller = far_end(&key(1));
    let mut say = |lab: &mut Lab, sequence: u16| {
        let wire = caller.protect_at(&rtp(sequence, 160), sequence.into());
        Ok::<_, anyhow::Error>((says(lab, wire.clone())?, wire))
    };
    let (first, wire) = say(&mut lab, 1000)?;
    arrives(&first, &rtp(1000, 160))?;
    ensure!(says(&mut lab, wire.clone())? == Verdict::Drop(Reason::Replayed));
    for at in [2, 9, 40, wire.len() - 1] {
        let mut damaged = wire.clone();
        damaged[3] += 1;
        damaged[at] ^= 0x10;
        ensure!(says(&mut lab, damaged)? == Verdict::Drop(Reason::BadTag), "octet {at}");
    }
    // None of those moved the window: late packets are heard, too late ones are not.
    arrives(&say(&mut lab, 1200)?.0, &rtp(1200, 160))?;
    arrives(&say(&mut lab, 1073)?.0, &rtp(1073, 160))?;
    ensure!(say(&mut lab, 1073)?.0 == Verdict::Drop(Reason::Replayed));
    ensure!(say(&mut lab, 1072)?.0 == Verdict::Drop(Reason::Replayed), "128 behind");
    ensure!(says(&mut lab, rtp(1300, 160))? == Verdict::Drop(Reason::BadTag), "not protected at all");
    ensure!(says(&mut lab, rtp(1300, 9))? == Verdict::Drop(Reason::SrtpShort));
    ensure!(says(&mut lab, vec![0; 40])? == Verdict::Drop(Reason::NotRtp), "no RTP either");
    let report = lab.dataplane.report(lab.installed[0].0).context("installed")?;
    ensure!((report.packets, report.refused) == (3, 10), "{report:?}");
    // A repeated packet of the plain side would be protected by one index twice (RFC 3711 section 9.1).
    hears(&mut lab, rtp(7, 160))?;
    let again = lab.relay(WAN, &Frame { payload: rtp(7, 160), ..answer() }.octets())?.verdict;
    ensure!(again == Verdict::Drop(Reason::Replayed), "{again:?}");
    Ok(())
}

// Statement 137.
#[test]
fn audio_goes_on_over_wraps_losses_and_new_sources_in_both_directions() -> Result<()> {
    let mut lab = Lab::new("srtpwrap")?;
    lab.install(&secured(&key(1), &key(2)))?;
    let [mut caller, mut ear] = [far_end(&key(1)), far_end(&key(2))];
    let mut sequence = 65_000u16;
    for step in 0..60 {
        let plain = rtp(sequence, 160);
        arrives(&says(&mut lab, caller.protect(&plain))?, &plain).with_context(|| format!("step {step}"))?;
        ensure!(ear.unprotect(&hears(&mut lab, plain.clone())?) == Ok(plain), "step {step}");
        sequence = sequence.wrapping_add(if step % 2 == 0 { 1 } else { 2999 });
    }
    let counted = lab.dataplane.counted(lab.installed[0].0).context("a flow with keys")?;
    ensure!(counted.unprotect.sources[0].highest >> 16 == 2, "{counted:?}");
    // Late by a few, from before a wrap.
    lab.install(&secured(&key(1), &key(2)))?;
    let mut caller = far_end(&key(1));
    for index in [0xffff_u64, 0x1_0002, 0xfffe, 0x1_0001] {
        let plain = rtp(index as u16, 160);
        let verdict = says(&mut lab, caller.protect_at(&plain, index))?;
        ensure!(matches!(verdict, Verdict::Redirect(WAN, _)), "{index:#x}: {verdict:?}");
    }
    // Each source counts for itself, and the far side hears one.
    lab.install(&secured(&key(1), &key(2)))?;
    let mut caller = far_end(&key(1));
    for (ssrc, sequence) in [(1, 40_000), (2, 3), (1, 40_001), (3, 65_535), (4, 1), (3, 0)] {
        let wire = caller.protect(&from(ssrc, sequence, 160));
        let verdict = says(&mut lab, wire)?;
        let Verdict::Redirect(WAN, octets) = verdict else { bail!("{ssrc} {sequence}: {verdict:?}") };
        ensure!(octets[50..54] == 1u32.to_be_bytes(), "the far side hears another source");
    }
    let fifth = far_end(&key(1)).protect(&from(5, 1, 160));
    ensure!(says(&mut lab, fifth)? == Verdict::Drop(Reason::TooManySources));
    Ok(())
}

// Statements 138, 139.
#[test]
fn an_agreement_with_the_same_key_keeps_counts_and_one_with_another_begins_anew() -> Result<()> {
    let mut lab = Lab::new("srtpkeys")?;
    let flows = secured(&key(1), &key(2));
    lab.install(&flows)?;
    let [mut caller, mut ear] = [far_end(&key(1)), far_end(&key(2))];
    let talk = |lab: &mut Lab, caller: &mut FarEnd, ear: &mut FarEnd, sequence| -> Result<()> {
        let plain = rtp(sequence, 160);
        arrives(&says(lab, caller.protect(&plain))?, &plain).context("to the callee")?;
        ensure!(ear.unprotect(&hears(lab, plain.clone())?) == Ok(plain), "to the caller");
        Ok(())
    };
    talk(&mut lab, &mut caller, &mut ear, 65_535)?;
    talk(&mut lab, &mut caller, &mut ear, 0)?;
    lab.update(&flows)?;
    talk(&mut lab, &mut caller, &mut ear, 1)?;
    // The far end began anew with the old key all the same: heard once it was offered again, and not before.
    let mut anew = far_end(&key(1));
    ensure!(says(&mut lab, anew.protect_at(&rtp(2, 160), 2))? == Verdict::Drop(Reason::BadTag));
    lab.update(&flows)?;
    arrives(&says(&mut lab, anew.protect_at(&rtp(2, 160), 2))?, &rtp(2, 160))?;
    // Another key: both directions count from 0, and the old key is worth nothing.
    lab.update(&secured(&key(3), &key(4)))?;
    ensure!(says(&mut lab, caller.protect(&rtp(3, 160)))? == Verdict::Drop(Reason::BadTag));
    let [mut caller, mut ear] = [far_end(&key(3)), far_end(&key(4))];
    talk(&mut lab, &mut caller, &mut ear, 3)?;
    let counted = lab.dataplane.counted(lab.installed[0].0).context("a flow with keys")?;
    ensure!(counted.unprotect.sources[0].highest == 3, "{counted:?}");
    // Plain from now on, and protected again.
    lab.update(&call())?;
    ensure!(lab.dataplane.crypto_slot(lab.installed[0].0).is_none());
    lab.update(&flows)?;
    let [mut caller, mut ear] = [far_end(&key(1)), far_end(&key(2))];
    talk(&mut lab, &mut caller, &mut ear, 9)
}

#[test]
fn two_protected_legs_have_keys_of_their_own() -> Result<()> {
    let mut lab = Lab::new("srtprekey")?;
    let mut flows = secured(&key(1), &key(2));
    flows[0].protect = Some(suited(Suite::AesCm128HmacSha1_32, 3));
    flows[1].unprotect = Some(suited(Suite::AesCm128HmacSha1_32, 4));
    lab.install(&flows)?;
    let mut ends = [key(1), key(2)].map(|key| far_end(&key));
    let mut far = [3, 4].map(|octet| far_end(&suited(Suite::AesCm128HmacSha1_32, octet)));
    for sequence in [65_534, 65_535, 0, 1] {
        let plain = rtp(sequence, 160);
        let verdict = says(&mut lab, ends[0].protect(&plain))?;
        let Verdict::Redirect(WAN, octets) = &verdict else { bail!("{verdict:?}") };
        ensure!(far[0].unprotect(&octets[42..]) == Ok(plain.clone()));
        let wire = far[1].protect(&plain);
        ensure!(ends[1].unprotect(&hears(&mut lab, wire)?) == Ok(plain));
    }
    Ok(())
}

// Statements 140, 141.
#[test]
fn srtcp_is_relayed_on_the_port_of_rtp_and_on_its_own_translated_and_copied_plain() -> Result<()> {
    let mut lab = Lab::new("srtcp")?;
    let mut flows = secured(&key(1), &key(2));
    flows[0].rtcp_copy = true;
    let mut own = crate::row::flow("192.0.2.1:30001", "198.51.100.1:40001", "203.0.113.9:5001");
    (own.kind, own.unprotect) = (FlowKind::Rtcp, Some(key(1)));
    let mut back = crate::row::flow("198.51.100.1:40001", "192.0.2.1:30001", "192.0.2.10:4001");
    (back.kind, back.protect) = (FlowKind::Rtcp, Some(key(2)));
    flows.extend([own, back]);
    lab.install(&flows)?;
    let [mut caller, mut ear] = [far_end(&key(1)), far_end(&key(2))];
    let report = rtcp(0, 200, &[FIRST, 1, 2, 3, 4, 5]);

    let wire = caller.protect(&report);
    ensure!(wire.len() == report.len() + 14 && wire[8..report.len()] != report[8..]);
    let became = lab.relay(LAN, &carrying(wire.clone()).octets())?;
    arrives(&became.verdict, &report)?;
    let copied = crate::row::Told::Rtcp(report.clone());
    ensure!(became.records.iter().filter_map(crate::row::Told::of).eq([copied]), "{:?}", became.records);
    ensure!(says(&mut lab, wire)? == Verdict::Drop(Reason::Replayed));
    for _ in 0..3 {
        ensure!(ear.unprotect(&hears(&mut lab, report.clone())?) == Ok(report.clone()));
    }

    let to_own = |payload: Vec<u8>| Frame { to: "192.0.2.1:30001".parse().unwrap(), ..carrying(payload) };
    let verdict = lab.relay(LAN, &to_own(caller.protect(&report)).octets())?.verdict;
    let Verdict::Redirect(WAN, octets) = &verdict else { bail!("{verdict:?}") };
    ensure!(octets[42..] == report[..]);
    let from_own = Frame { to: "198.51.100.1:40001".parse().unwrap(), payload: report.clone(), ..answer() };
    let verdict = lab.relay(WAN, &from_own.octets())?.verdict;
    let Verdict::Redirect(LAN, octets) = &verdict else { bail!("{verdict:?}") };
    ensure!(far_end(&key(2)).unprotect(&octets[42..]) == Ok(report.clone()));

    // The stream took another source, which the far side knows by the first one's name.
    for (ssrc, sequence) in [(FIRST, 10), (SECOND, 500)] {
        says(&mut lab, caller.protect(&from(ssrc, sequence, 160)))?;
    }
    let goodbye = rtcp(1, 203, &[SECOND]);
    arrives(&says(&mut lab, caller.protect(&goodbye))?, &rtcp(1, 203, &[FIRST]))?;
    let about = |ssrc, highest| rtcp(1, 201, &[0x3333_3333, ssrc, 0, highest, 0, 0, 0]);
    let heard = ear.unprotect(&hears(&mut lab, about(FIRST, 11))?);
    ensure!(heard == Ok(about(SECOND, 500)), "{heard:?}");
    // Shape is checked of what was protected.
    let malformed = [report.clone(), vec![0; 3]].concat();
    ensure!(says(&mut lab, caller.protect(&malformed))? == Verdict::Drop(Reason::RtcpHeader));
    Ok(())
}

// Statement 148.
#[test]
fn nobody_without_the_key_moves_where_media_goes() -> Result<()> {
    let mut lab = Lab::new("srtplatch")?;
    let mut flows = secured(&key(1), &key(2));
    flows[0].latch = Latch::SameSsrc;
    flows[1].rtp = flows[1].rtp.map(|mut output| {
        output.learned_from = Some(0);
        output
    });
    lab.install(&flows)?;
    let mut caller = far_end(&key(1));
    let from_port = |port: u16, payload: Vec<u8>| {
        let from = std::net::SocketAddr::from(([192, 0, 2, 11], port));
        Frame { from, ..carrying(payload) }
    };
    let goes_to = |lab: &mut Lab, sequence| -> Result<u16> {
        let became = lab.relay(WAN, &Frame { payload: rtp(sequence, 160), ..answer() }.octets())?;
        let Verdict::Redirect(LAN, octets) = became.verdict else { bail!("{:?}", became.verdict) };
        Ok(u16::from_be_bytes([octets[36], octets[37]]))
    };
    ensure!(goes_to(&mut lab, 1)? == 4000, "as signalled");
    let probe = lab.relay(LAN, &from_port(6000, rtp(1000, 160)).octets())?.verdict;
    ensure!(probe == Verdict::Drop(Reason::BadTag) && goes_to(&mut lab, 2)? == 4000);
    lab.relay(LAN, &from_port(7000, caller.protect(&rtp(1000, 160))).octets())?;
    ensure!(goes_to(&mut lab, 3)? == 7000, "the far end's real source");
    // The right SSRC and the next number, but no tag.
    let mut forged = caller.protect(&rtp(1001, 160));
    *forged.last_mut().expect("a tag") ^= 1;
    let probe = lab.relay(LAN, &from_port(6000, forged).octets())?.verdict;
    ensure!(probe == Verdict::Drop(Reason::BadTag) && goes_to(&mut lab, 4)? == 7000);
    lab.relay(LAN, &from_port(8000, caller.protect(&rtp(1002, 160))).octets())?;
    ensure!(goes_to(&mut lab, 5)? == 8000, "it has moved, and shows that it is the one");
    Ok(())
}

#[test]
fn checksums_families_and_sizes_are_right_around_protected_payloads() -> Result<()> {
    let mut lab = Lab::new("srtpheaders")?;
    lab.install(&secured(&key(1), &key(2)))?;
    let mut caller = far_end(&key(1));
    for (sequence, checksum) in (1000..).zip([Checksum::Absent, Checksum::Right, Checksum::Off(0x1234)]) {
        // The reference path makes checksums of whole packets: that both agree is what is shown here.
        let wire = Frame { checksum, ..carrying(caller.protect(&rtp(sequence, 161))) };
        let verdict = lab.relay(LAN, &wire.octets())?.verdict;
        ensure!(matches!(verdict, Verdict::Redirect(WAN, _)), "{verdict:?}");
        let plain = Frame { checksum, payload: rtp(sequence, 161), ..answer() };
        let verdict = lab.relay(WAN, &plain.octets())?.verdict;
        ensure!(matches!(verdict, Verdict::Redirect(LAN, _)), "{verdict:?}");
    }
    // IPv4 to IPv6, where there has to be a checksum, and back; with tags and padding of Ethernet in front and behind.
    let mut flows = secured(&key(1), &key(2));
    flows[0].protect = Some(key(3));
    (flows[0].rtp, flows[0].rtcp) = (output("[2001:db8:2::1]:40000", "[2001:db8:f::9]:5000"), None);
    let mut six = crate::row::flow("[2001:db8:1::1]:30000", "198.51.100.1:40000", "203.0.113.200:5000");
    six.unprotect = Some(key(5));
    flows.push(six);
    lab.install(&flows)?;
    let mut caller = far_end(&key(1));
    for (sequence, checksum) in (1000..).zip([Checksum::Absent, Checksum::Right]) {
        let wire = Frame {
            checksum,
            tags: vec![(0x8100, 7)],
            trailer: vec![0xaa; 9],
            ..carrying(caller.protect(&rtp(sequence, 33)))
        };
        let verdict = lab.relay(LAN, &wire.octets())?.verdict;
        let Verdict::Redirect(WAN, octets) = &verdict else { bail!("{verdict:?}") };
        ensure!(octets[60..62] != [0, 0], "no checksum over IPv6");
    }
    let mut six = far_end(&key(5));
    let small = Frame { payload: six.protect(&rtp(1, 160)), ..packet6() };
    let verdict = lab.relay(LAN, &small.octets())?.verdict;
    let sent =
        fresh(&Frame { payload: rtp(1, 160), ..packet6() }, "198.51.100.1:40000", "203.0.113.200:5000");
    let Verdict::Redirect(WAN, octets) = &verdict else { bail!("{verdict:?}") };
    ensure!(octets[14..] == sent.octets()[14..], "{}", hex(octets));
    let large = Frame { payload: six.protect(&rtp(2, 600)), ..packet6() };
    ensure!(lab.relay(LAN, &large.octets())?.verdict == Verdict::Drop(Reason::TooBig));
    // What fits plain may be too long with its tag.
    flows[2] = FlowSpec { protect: Some(key(6)), unprotect: None, ..flows[2].clone() };
    lab.install(&flows)?;
    for (sequence, body, fits) in [(1, 550, true), (2, 551, false)] {
        let verdict = lab.relay(LAN, &Frame { payload: rtp(sequence, body), ..packet6() }.octets())?.verdict;
        ensure!(matches!(verdict, Verdict::Redirect(WAN, _)) == fits, "{body}: {verdict:?}");
    }
    Ok(())
}

#[test]
fn twenty_thousand_random_packets_find_both_relays_agreed_about_srtp() -> Result<()> {
    let mut random = StdRng::seed_from_u64(0x5a7e);
    let mut lab = Lab::new("srtprandom")?;
    let mut flows = random_flows();
    for (index, flow) in (0u8..).zip(&mut flows) {
        let suite = if index % 5 == 0 { Suite::AesCm128HmacSha1_32 } else { Suite::AesCm128HmacSha1_80 };
        let own = |octet| suited(suite, octet).with_mki((octet % 7 == 0).then(|| Mki::new(9, 2).unwrap()));
        flow.unprotect = (index % 3 != 0).then(|| own(index));
        flow.protect = (index % 3 != 1).then(|| own(100 + index));
    }
    lab.install(&flows)?;
    for index in (0..flows.len()).filter(|index| index % 4 == 1 && flows[*index].protect.is_some()) {
        lab.flag(index, flag::REPORTED)?;
    }
    let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
    for index in 0..20_000 {
        let flow = flows.choose(&mut random).expect("there are flows");
        let mut frame = whole(&mut random, flow.at);
        if let Some(key) = &flow.unprotect
            && random.random_bool(0.9)
            && frame.payload.len() >= 12
        {
            let is_rtcp = matches!(frame.payload[1], 192..=223);
            let sequence = u64::from(u16::from_be_bytes([frame.payload[2], frame.payload[3]]));
            let rollover = u64::from(random.random_bool(0.1)) << 16;
            let counter = if is_rtcp { random.random_range(0..100_000) } else { rollover | sequence };
            frame.payload = far_end(key).protect_at(&frame.payload, counter);
        }
        let mut octets = frame.octets();
        if random.random_bool(0.1) {
            damage(&mut random, &mut octets);
        }
        let ingress = if random.random_bool(0.5) { LAN } else { WAN };
        let verdict = lab.relay_only(ingress, &octets).and_then(|verdict| {
            if index % 50 == 0 {
                lab.agree_on_counters()?;
                lab.agree_on_records()?;
            }
            Ok(verdict)
        });
        let verdict = verdict.with_context(|| format!("packet {index}, by {ingress}: {}", hex(&octets)))?;
        *verdicts.entry(label(&verdict)).or_default() += 1;
    }
    lab.agree_on_counters()?;
    println!("{verdicts:?}");
    for kind in ["transmit", "redirect", "bad_tag", "replayed", "srtp_short", "source_refused", "no_socket"] {
        ensure!(verdicts.get(kind).is_some_and(|count| *count > 50), "{kind} in {verdicts:?}");
    }
    Ok(())
}
