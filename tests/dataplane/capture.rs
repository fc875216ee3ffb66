//! Captures of a call: what is copied of packets that come and leave, in the kernel and over sockets.

use crate::wires::{Wires, plan, talk};
use anyhow::{Context, Result, ensure};
use gateway_common::verdict::Traffic;
use gateway_userspace::base::id::CoreId;
use gateway_userspace::dataplane::{Node, Record, Watch};
use gateway_userspace::observe::capture::Link;
use gateway_userspace::srtp::{MasterKey, Suite};
use std::collections::BTreeMap;

/// Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 14 + 20 + 8;
/// With the fixed header of RTP.
const WITHOUT_AUDIO: usize = HEADERS + 12;
/// 20 ms of G.711 behind it.
const WHOLE: usize = WITHOUT_AUDIO + 160;

/// Copies by slot of the flow and whether they left.
type Copies = BTreeMap<(u32, bool), Vec<(u32, Vec<u8>)>>;

fn copies(watch: &mut Watch) -> Result<Copies> {
    let mut records = Vec::new();
    watch.drain(&mut records)?;
    let mut copies = Copies::new();
    for record in records {
        if let Record::Captured { flow, sent, link, length, octets, .. } = record {
            ensure!(link == Link::Ethernet);
            copies.entry((flow.slot, sent)).or_default().push((length, octets));
        }
    }
    Ok(copies)
}

#[test]
fn a_call_is_captured_in_the_kernel_without_its_audio_unless_that_is_asked_for() -> Result<()> {
    let wires = Wires::new("capture")?;
    let (mut caller, mut callee) = wires.phones()?;
    let node = Node::boot(&wires.settings())?;
    let (mut dataplane, mut watch) = (node.worker(CoreId(0), 1)?, node.watch()?);
    let ids = dataplane.install(&plan())?;
    wires.resolved("192.0.2.10")?;
    wires.resolved("198.51.100.9")?;
    talk(&mut caller, &mut callee, 5)?;
    ensure!(copies(&mut watch)?.is_empty(), "nobody asked for a capture");

    dataplane.capture(&ids, Some(false))?;
    talk(&mut caller, &mut callee, 5)?;
    let taken = copies(&mut watch)?;
    for slot in [ids[0].slot, ids[1].slot] {
        for sent in [false, true] {
            let of_flow = taken.get(&(slot, sent)).with_context(|| format!("slot {slot}, sent {sent}"))?;
            ensure!(of_flow.len() == 5, "{} copies", of_flow.len());
            for (length, octets) in of_flow {
                ensure!(
                    (*length as usize, octets.len()) == (WHOLE, WITHOUT_AUDIO),
                    "{length} {}",
                    octets.len()
                );
            }
        }
    }
    let ports = |slot: usize, sent| {
        let frame = &taken[&(ids[slot].slot, sent)][0].1;
        [34, 36].map(|at| u16::from_be_bytes([frame[at], frame[at + 1]]))
    };
    ensure!(ports(0, false) == [4_000, 30_000] && ports(0, true) == [40_000, 5_000]);
    ensure!(ports(1, false) == [5_000, 40_000] && ports(1, true) == [30_000, 4_000]);

    // It goes on when the call changes, here to whole packets.
    dataplane.capture(&ids, Some(true))?;
    let ids = dataplane.update(&ids, &plan())?.ids;
    talk(&mut caller, &mut callee, 3)?;
    let taken = copies(&mut watch)?;
    let lengths: Vec<_> = taken.values().flatten().map(|(_, octets)| octets.len()).collect();
    ensure!(lengths == [WHOLE; 12], "{lengths:?}");

    dataplane.capture(&ids, None)?;
    talk(&mut caller, &mut callee, 3)?;
    ensure!(copies(&mut watch)?.is_empty(), "the capture ended");
    ensure!(node.drops()?.is_empty(), "{:?}", node.drops()?);
    Ok(node.detach()?)
}

#[test]
fn what_leaves_protected_is_captured_as_it_leaves() -> Result<()> {
    let wires = Wires::new("capture-srtp")?;
    let (mut caller, callee) = wires.phones()?;
    let node = Node::boot(&wires.settings())?;
    let (mut dataplane, mut watch) = (node.worker(CoreId(0), 1)?, node.watch()?);
    let mut flows = plan();
    flows[0].protect = Some(MasterKey::new(Suite::AesCm128HmacSha1_80, &[7; 30])?);
    let ids = dataplane.install(&flows)?;
    wires.resolved("198.51.100.9")?;
    dataplane.capture(&ids, Some(true))?;
    let said = caller.say()?;
    let heard = callee.next()?;
    ensure!(heard.len() == said.len() + 10 && heard[12..] != said[12..], "not protected");
    let taken = copies(&mut watch)?;
    ensure!(taken[&(ids[0].slot, false)][0].1[HEADERS..] == said[..], "another packet came");
    ensure!(taken[&(ids[0].slot, true)][0].1[HEADERS..] == heard[..], "another packet left");
    Ok(node.detach()?)
}

#[test]
fn copies_that_find_no_room_are_counted_and_their_packets_relayed() -> Result<()> {
    let wires = Wires::new("capture-full")?;
    let (mut caller, mut callee) = wires.phones()?;
    let node = Node::boot(&wires.settings())?;
    // Nobody reads the ring.
    let mut dataplane = node.worker(CoreId(0), 1)?;
    let ids = dataplane.install(&plan())?;
    wires.resolved("192.0.2.10")?;
    wires.resolved("198.51.100.9")?;
    dataplane.capture(&ids, Some(false))?;
    talk(&mut caller, &mut callee, 1_000)?;
    let lost = node.traffic()?[&Traffic::CapturesLost];
    ensure!((1_000..4_000).contains(&lost), "{lost} of 4,000 copies lost");
    ensure!(node.drops()?.is_empty(), "{:?}", node.drops()?);
    Ok(node.detach()?)
}
