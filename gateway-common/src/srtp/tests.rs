use super::*;
use proptest::prelude::*;

const MASTER_KEY: &str = "e1f97a0d3e018be0d64fa32c06de4139";
const MASTER_SALT: &str = "0ec675ad498afeebb6960b3aabe6";

fn hex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// RFC 3711 section 4.3.1 with a key derivation rate of 0.
fn derived(label: u8, len: usize) -> Vec<u8> {
    let mut block: Vec<u8> = hex(MASTER_SALT);
    block.extend([0, 0]);
    block[7] ^= label;
    let mut scratch = Scratch::new();
    for (word, octets) in scratch.counter.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*octets);
    }
    aes::counter_mode(&aes::expand(&hex(MASTER_KEY).try_into().unwrap()), &mut scratch, 0, 2);
    scratch.octets(len).collect()
}

fn session(first_label: u8) -> Session {
    let [cipher, authentication, salt] =
        [(0, 16), (1, 20), (2, 14)].map(|(label, len)| derived(first_label + label, len));
    Session::new(&cipher.try_into().unwrap(), &salt.try_into().unwrap(), &authentication.try_into().unwrap())
}

fn keys() -> Keys {
    Keys { epoch: 1, tag_len: 10, rtp: session(0), rtcp: session(3), ..Keys::NONE }
}

fn packet(ssrc: u32, sequence: u16, body: &[u8]) -> Vec<u8> {
    [&[0x80, 8][..], &sequence.to_be_bytes(), &[0, 0, 0, 160], &ssrc.to_be_bytes(), body].concat()
}

fn sealed(keys: &Keys, stream: &mut Stream, plain: &[u8]) -> Result<Vec<u8>, Reason> {
    let mut scratch = Scratch::new();
    scratch.load(plain)?;
    let changed = protect(&mut Straight, keys, stream, &mut scratch, plain.len())?;
    Ok(scratch.octets(changed.len).collect())
}

fn opened(keys: &Keys, stream: &mut Stream, secured: &[u8]) -> Result<Vec<u8>, Reason> {
    let mut scratch = Scratch::new();
    scratch.load(secured)?;
    let changed = unprotect(&mut Straight, keys, stream, &mut scratch, secured.len())?;
    Ok(scratch.octets(changed.len).collect())
}

/// A sender that counts as it likes.
fn sealed_at(keys: &Keys, index: u64, body: &[u8]) -> Vec<u8> {
    let source = Source { ssrc: Be32::new(7), used: 1, highest: index.wrapping_sub(1), window: [1, 0] };
    let mut stream = Stream { epoch: keys.epoch, ..Stream::default() };
    if index > 0 {
        stream.sources[0] = source;
    }
    sealed(keys, &mut stream, &packet(7, index as u16, body)).unwrap()
}

#[test]
fn session_keys_are_those_of_rfc_3711_appendix_b_3() {
    assert_eq!(derived(0, 16), hex("c61e7a93744f39ee10734afe3ff7a087"));
    assert_eq!(derived(2, 14), hex("30cbbc08863d8c85d49db34a9ae1"));
    assert_eq!(derived(1, 20), hex("cebe321f6ff7716b6fd4ab49af256a156d38baa4"));
}

#[test]
fn a_packet_is_protected_as_other_implementations_do() {
    let plain = hex("800f1234 decafbad cafebabe abababab abababab abababab abababab");
    let secured =
        hex("800f1234 decafbad cafebabe 4e55dc4c e79978d8 8ca4d215 949d2402 b78d6acc 99ea179b 8dbb");
    assert_eq!(sealed(&keys(), &mut Stream::default(), &plain), Ok(secured.clone()));
    assert_eq!(opened(&keys(), &mut Stream::default(), &secured), Ok(plain));
}

#[test]
fn srtcp_is_protected_as_other_implementations_do() {
    let plain = hex("81c8000b cafebabe abababab abababab abababab abababab");
    let secured =
        hex("81c8000b cafebabe 7128035b e487b9bd bef89041 f977a5a8 80000001 993e08cd 54d6c123 0798");
    let mut stream = Stream::default();
    sealed(&keys(), &mut stream, &plain).unwrap();
    assert_eq!(sealed(&keys(), &mut stream, &plain), Ok(secured.clone()));
    assert_eq!(opened(&keys(), &mut Stream::default(), &secured), Ok(plain));
}

proptest! {
    #[test]
    fn what_was_protected_is_had_back_and_no_octet_of_it_may_change(
        body in proptest::collection::vec(any::<u8>(), 0..1400),
        sequence: u16,
        (tag_len, mki_len) in prop_oneof![Just((10, 0)), Just((4, 0)), Just((10, 1)), Just((4, 4))],
        is_rtcp: bool,
        (at, bit) in (any::<prop::sample::Index>(), 0u8..8),
    ) {
        let mut plain = packet(7, sequence, &body);
        if is_rtcp {
            plain[1] = 200;
        }
        let keys = Keys { tag_len, mki_len, mki: [1, 2, 3, 4], ..keys() };
        let mut secured = sealed(&keys, &mut Stream::default(), &plain).unwrap();
        let first = u32::from_ne_bytes(plain[..4].try_into().unwrap());
        prop_assert_eq!(secured.len(), plain.len() + keys.overhead(first));
        let mut stream = Stream::default();
        prop_assert_eq!(opened(&keys, &mut stream, &secured), Ok(plain));
        prop_assert_eq!(opened(&keys, &mut stream, &secured), Err(Reason::Replayed));
        // The identifier is no part of what the tag covers.
        let tag = if is_rtcp { TAG_MAX } else { usize::from(tag_len) };
        let identifier = secured.len() - tag - usize::from(mki_len)..secured.len() - tag;
        let at = at.index(secured.len());
        prop_assume!(at > 1 && !identifier.contains(&at));
        secured[at] ^= 1 << bit;
        let before = stream;
        prop_assert!(opened(&keys, &mut stream, &secured).is_err());
        prop_assert_eq!(stream, before);
    }

    #[test]
    fn the_window_hears_each_index_once_and_none_too_far_behind(
        indices in proptest::collection::vec(0u64..400, 1..300),
    ) {
        let mut source = Source::default();
        let mut heard = std::collections::HashSet::new();
        for index in indices {
            let highest = heard.iter().max().copied();
            let expected = !heard.contains(&index)
                && highest.is_none_or(|highest| index > highest || highest - index < WINDOW);
            let fresh = source.used == 0;
            prop_assert_eq!(fresh || source.is_fresh(index), expected);
            if expected {
                source.accept(Be32::new(7), &Accepted { index, fresh });
                heard.insert(index);
            }
        }
    }
}

#[test]
fn the_rollover_counter_follows_the_sequence_number_over_its_wrap() {
    let at = |highest: u64| Source { used: 1, highest, ..Source::default() };
    assert_eq!(at(0xffff).estimate(0), 0x1_0000);
    assert_eq!(at(0x1_0000).estimate(0xffff), 0xffff);
    assert_eq!(at(5).estimate(0xffff), NONE, "before the first of all");
    assert_eq!(at(0x7fff).estimate(0xfffe), 0xfffe);
    assert_eq!(at(0x2_8000).estimate(0), 0x2_0000);
    assert_eq!(at(0x2_8001).estimate(0), 0x3_0000);
    assert_eq!(at(0x2_4000).estimate(0xc001), 0x1_c001);
}

#[test]
fn a_long_call_is_heard_over_many_wraps_and_losses() {
    let (keys, mut sender, mut receiver) = (keys(), Stream::default(), Stream::default());
    for step in 0..40u64 {
        let sequence = (60_000 + step * 9_000) as u16;
        let plain = packet(7, sequence, &[step as u8; 20]);
        let secured = sealed(&keys, &mut sender, &plain).unwrap();
        assert_eq!(opened(&keys, &mut receiver, &secured), Ok(plain), "step {step}");
    }
    assert!(receiver.sources[0].highest >> 16 > 4);
}

#[test]
fn a_first_packet_may_be_one_behind_a_wrap() {
    let (keys, mut stream) = (keys(), Stream::default());
    opened(&keys, &mut stream, &sealed_at(&keys, 0x1_0003, b"behind")).unwrap();
    assert_eq!(stream.sources[0].highest, 0x1_0003);
    assert_eq!(
        opened(&keys, &mut Stream::default(), &sealed_at(&keys, 0x2_0003, b"two")),
        Err(Reason::BadTag)
    );
}

#[test]
fn an_offer_with_the_same_key_keeps_the_count_and_lets_the_far_end_begin_anew_once() {
    let (mut keys, mut stream) = (keys(), Stream::default());
    let heard = |keys: &Keys, stream: &mut Stream, index| opened(keys, stream, &sealed_at(keys, index, b"x"));
    heard(&keys, &mut stream, 0xffff).unwrap();
    heard(&keys, &mut stream, 0x1_0010).unwrap();
    assert!(heard(&keys, &mut stream, 0x11).is_err(), "nobody offered anything");
    keys.offer = 1;
    heard(&keys, &mut stream, 0x1_0012).unwrap();
    assert!(heard(&keys, &mut stream, 0x13).is_err(), "the far end has shown that it goes on");
    keys.offer = 2;
    heard(&keys, &mut stream, 0x14).unwrap();
    assert_eq!(stream.sources[0].highest, 0x14);
    assert_eq!(heard(&keys, &mut stream, 0x14), Err(Reason::Replayed));
}

#[test]
fn another_key_begins_anew() {
    let (keys, mut stream) = (keys(), Stream::default());
    opened(&keys, &mut stream, &sealed_at(&keys, 0x1_0003, b"x")).unwrap();
    let other = Keys { epoch: 2, rtp: session(3), ..keys };
    assert_eq!(opened(&other, &mut stream, &sealed_at(&keys, 4, b"x")), Err(Reason::BadTag));
    opened(&other, &mut stream, &sealed_at(&other, 4, b"x")).unwrap();
    assert_eq!(stream.sources[0].highest, 4);
    assert_eq!(opened(&Keys::NONE, &mut stream, &sealed_at(&keys, 5, b"x")), Err(Reason::KeysMissing));
}

#[test]
fn an_index_is_used_once_on_the_way_out() {
    let (keys, mut stream) = (keys(), Stream::default());
    sealed(&keys, &mut stream, &packet(7, 10, b"one")).unwrap();
    assert_eq!(sealed(&keys, &mut stream, &packet(7, 10, b"two")), Err(Reason::Replayed));
    sealed(&keys, &mut stream, &packet(7, 9, b"late")).unwrap();
}

#[test]
fn so_many_sources_are_heard_and_no_more() {
    let (keys, mut stream) = (keys(), Stream::default());
    for ssrc in 0..=SOURCES as u32 {
        let secured = sealed(&keys, &mut Stream::default(), &packet(ssrc, 10, b"x")).unwrap();
        let expected = (ssrc < SOURCES as u32).then(|| packet(ssrc, 10, b"x")).ok_or(Reason::TooManySources);
        assert_eq!(opened(&keys, &mut stream, &secured), expected);
    }
}

#[test]
fn what_cannot_be_srtp_is_refused_by_name() {
    let (keys, mut stream) = (keys(), Stream::default());
    let mut open = |octets: &[u8]| opened(&keys, &mut stream, octets);
    assert_eq!(open(&packet(7, 1, b"123456789")), Err(Reason::SrtpShort));
    assert_eq!(open(&packet(7, 1, &[0; 160])), Err(Reason::BadTag), "never protected");
    assert_eq!(open(&[0; 100]), Err(Reason::NotRtp));
    assert_eq!(open(&[0x80; 7]), Err(Reason::NotRtp));
    assert_eq!(open(&packet(7, 1, &[0; PAYLOAD_MAX])), Err(Reason::TooBig));
    let mut sources = packet(7, 1, &[0; 30]);
    sources[0] |= 15;
    assert_eq!(open(&sources), Err(Reason::RtpHeader));
}
