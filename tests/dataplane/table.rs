//! The table of sentences, run against the kernel and the reference path at once.

use crate::lab::Lab;
use crate::row::{Row, Then, Told};
use crate::rows;
use anyhow::{Context, Result, bail, ensure};
use gateway_userspace::dataplane::reference::frame::Verdict;
use std::collections::HashSet;

/// Fewer sentences than this, and some were lost.
const SENTENCES_MIN: usize = 120;

#[test]
fn every_sentence_holds_in_the_kernel_and_on_the_reference_path() {
    let rows = rows::all();
    let names: HashSet<_> = rows.iter().map(|row| row.says.as_str()).collect();
    assert_eq!(names.len(), rows.len(), "two sentences say the same");
    assert!(rows.len() >= SENTENCES_MIN, "only {} sentences", rows.len());

    let mut lab = Lab::new("table").expect("the lab comes up");
    let mut broken = Vec::new();
    for row in &rows {
        if let Err(error) = holds(&mut lab, row) {
            broken.push(format!("{}\n    {error:#}", row.says));
            // Both relays start afresh: one broken sentence must not break the next.
            drop(lab);
            lab = Lab::new("table").expect("the lab comes up again");
        }
    }
    println!("{} sentences, {} broken", rows.len(), broken.len());
    assert!(broken.is_empty(), "{} of {} sentences broken:\n{}", broken.len(), rows.len(), broken.join("\n"));
}

fn holds(lab: &mut Lab, row: &Row) -> Result<()> {
    lab.install(&row.flows)?;
    for (index, (ingress, frame)) in row.earlier.iter().enumerate() {
        lab.relay(*ingress, frame).with_context(|| format!("earlier packet {index}"))?;
    }
    let became = lab.relay(row.ingress, &row.frame)?;
    match (&row.then, &became.verdict) {
        (Then::Passes, Verdict::Pass) => {}
        (Then::Drops(expected), Verdict::Drop(reason)) if expected == reason => {}
        (Then::Sends(egress, expected), sent) => same_octets(*egress, expected, leaving(sent, row.ingress)?)?,
        (Then::SendsPayload(egress, holds), sent) => {
            let (by, octets) = leaving(sent, row.ingress)?;
            ensure!(by == *egress, "left by interface {by}");
            // Untagged Ethernet, IPv4 without options, UDP.
            let payload = octets.get(42..).context("no payload")?;
            ensure!(holds(payload), "the payload is {}", crate::lab::hex(payload));
        }
        (Then::Passes, other) => bail!("expected it passed, both say {other:?}"),
        (Then::Drops(reason), other) => bail!("expected a drop for {}, both say {other:?}", reason.label()),
    }
    if !row.figures.is_empty() {
        let (id, _) = lab.installed[0];
        let report = lab.dataplane.report(id).context("the flow is installed")?;
        for (figure, expected) in &row.figures {
            let counted = figure.of(&report);
            ensure!(counted == *expected, "{figure:?} is {counted}, expected {expected}");
        }
    }
    if let Some(expected) = &row.tells {
        let told: Vec<Told> = became.records.iter().filter_map(Told::of).collect();
        ensure!(told == *expected, "told {told:?}, expected {expected:?}");
    }
    Ok(())
}

fn leaving(verdict: &Verdict, ingress: u32) -> Result<(u32, &[u8])> {
    match verdict {
        Verdict::Transmit(octets) => Ok((ingress, octets)),
        Verdict::Redirect(egress, octets) => Ok((*egress, octets)),
        other => bail!("expected it sent, both say {other:?}"),
    }
}

fn same_octets(egress: u32, expected: &[u8], (by, octets): (u32, &[u8])) -> Result<()> {
    ensure!(by == egress, "left by interface {by}, expected {egress}");
    ensure!(
        octets == expected,
        "octets differ\n    sent {}\nexpected {}",
        crate::lab::hex(octets),
        crate::lab::hex(expected)
    );
    Ok(())
}
