//! Connectivity checks among the media (ICE).

use crate::row::{Figure, Row, call, carrying, packet};
use gateway_common::flow::{Latch, Punted};
use gateway_common::verdict::Reason;
use gateway_userspace::base::token::Tokens;
use gateway_userspace::ice::{Mint, UnknownAttributes};
use gateway_userspace::media::plan::{ChecksSpec, FlowSpec, GateSpec, OutputSpec};

/// A call whose caller sends checks, and has sent none.
fn unchecked() -> Vec<FlowSpec> {
    let mut flows = call();
    let nobody = "0.0.0.0:0".parse().expect("an address");
    flows[0].gate = GateSpec::Exact(nobody);
    flows[0].latch = Latch::Signalled;
    flows[0].checks = Some(ChecksSpec {
        local: Mint::new(&mut Tokens::seeded(1)).credentials(),
        unknown: UnknownAttributes::Refuse,
        forks: Vec::new(),
    });
    let output = flows[1].rtp.map(|output| OutputSpec { to: nobody, learned_from: Some(0), ..output });
    (flows[1].rtp, flows[1].rtcp) = (output, output);
    flows
}

fn stun(first: u8) -> Vec<u8> {
    let mut message = vec![first, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    message.extend([7; 12]);
    message
}

pub fn rows() -> Vec<Row> {
    let row = |says: &str| Row::new(says).flows(unchecked());
    let other_cookie = |mut message: Vec<u8>| {
        message[7] ^= 1;
        message
    };
    let refused = [(Figure::Refused, 1), (Figure::Packets, 0)];
    vec![
        // As nobody listens in this lab, what is for userspace is dropped under its own name.
        row("a check is for userspace, whoever it comes from")
            .frame(carrying(stun(0)))
            .drops(Reason::NoSocket),
        row("first octets up to 3 are STUN's").frame(carrying(stun(3))).drops(Reason::NoSocket),
        row("a first octet of 4 is not STUN's").frame(carrying(stun(4))).drops(Reason::NotRtp),
        row("what has another cookie is no check")
            .frame(carrying(other_cookie(stun(0))))
            .drops(Reason::NotRtp),
        row("what ends within the cookie is no check")
            .frame(carrying(stun(0)[..7].to_vec()))
            .drops(Reason::NotRtp),
        row("media is refused before a check has vouched for its source")
            .drops(Reason::SourceRefused)
            .figures(&refused),
        row("a check is for userspace where all of its flow is")
            .caller(|flow| flow.userspace = Some(Punted::Policy))
            .frame(carrying(stun(0)))
            .drops(Reason::NoSocket),
        row("media is refused before a check, where userspace relays, too")
            .caller(|flow| flow.userspace = Some(Punted::Policy))
            .drops(Reason::SourceRefused),
        Row::new("nothing is sent to where no check came from")
            .frame(crate::row::answer())
            .by(crate::lab::WAN)
            .flows({
                let mut flows = unchecked();
                flows.swap(0, 1);
                let output = flows[0].rtp.map(|output| OutputSpec { learned_from: Some(1), ..output });
                (flows[0].rtp, flows[0].rtcp) = (output, output);
                flows
            })
            .drops(Reason::NoDestination),
        Row::new("a flow without checks takes STUN for noise").frame(carrying(stun(0))).drops(Reason::NotRtp),
        row("a check with a wrong length of UDP is refused for that")
            .frame(support::wire::Frame { payload: stun(0), ..packet() })
            .damaged(|octets| octets[14 + 20 + 5] = 200)
            .drops(Reason::UdpLength),
    ]
}
