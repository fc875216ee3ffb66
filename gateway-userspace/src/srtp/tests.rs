use super::transform::Transform;
use super::*;
use proptest::prelude::*;

/// Octets of a vector as the RFCs print them.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

const SSRC: u32 = 0xcafe_babe;

fn key(suite: Suite) -> MasterKey {
    let master: Vec<u8> = (1..).take(suite.master_len()).collect();
    MasterKey::new(suite, &master).unwrap()
}

fn with_mki(suite: Suite) -> MasterKey {
    key(suite).with_mki(Some(Mki::new(1, 4).unwrap()))
}

/// An RTP packet with a payload that tells its index.
fn rtp(index: u64) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend((index as u16).to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(SSRC.to_be_bytes());
    packet.extend([index.to_be_bytes(); 20].concat());
    packet
}

fn rtcp() -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(SSRC.to_be_bytes());
    packet.extend([0x81, 202, 0, 2]);
    packet.extend(SSRC.to_be_bytes());
    packet.extend([1, 0, 0, 0]);
    packet
}

fn protected_rtp(protect: &mut Protect, packet: &[u8]) -> Result<Vec<u8>, SrtpFault> {
    let mut buffer = [packet, &[0; 160]].concat();
    let length = protect.rtp(&mut buffer, packet.len())?;
    buffer.truncate(length);
    Ok(buffer)
}

fn protected_rtcp(protect: &mut Protect, packet: &[u8]) -> Result<Vec<u8>, SrtpFault> {
    let mut buffer = [packet, &[0; 160]].concat();
    let length = protect.rtcp(&mut buffer, packet.len())?;
    buffer.truncate(length);
    Ok(buffer)
}

fn unprotected_rtp(unprotect: &mut Unprotect, packet: &[u8]) -> Result<Vec<u8>, SrtpFault> {
    let mut buffer = packet.to_vec();
    let length = unprotect.rtp(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn unprotected_rtcp(unprotect: &mut Unprotect, packet: &[u8]) -> Result<Vec<u8>, SrtpFault> {
    let mut buffer = packet.to_vec();
    let length = unprotect.rtcp(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

#[test]
fn the_key_stream_is_that_of_rfc_3711() {
    // Appendix B.2: SSRC and index 0; the packet is in front of the text, which is zeros.
    let keys = StreamKeys::of(
        Suite::AesCm128HmacSha1_80,
        &hex("2B7E151628AED2A6ABF7158809CF4F3C"),
        &[0; 20],
        &hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD"),
    );
    let mut packet = [0; 12 + 48];
    Transform::new(&keys).seal_rtp(&mut packet, 12..60, (0, 0)).unwrap();
    let stream = hex(
        "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0",
    );
    assert_eq!(packet[12..], stream);
}

#[test]
fn packets_of_the_counter_suites_are_those_that_every_stack_makes() {
    // The packet by which libsrtp validates itself, from the master keys of RFC 3711 appendix B.3 and RFC 6188
    // section 7.2.
    let table = [
        (
            Suite::AesCm128HmacSha1_80,
            "E1F97A0D3E018BE0D64FA32C06DE41390EC675AD498AFEEBB6960B3AABE6",
            "4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb",
        ),
        (
            Suite::Aes256CmHmacSha1_80,
            "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b63b04803de51ee7c96423ab5b78d2",
            "f1d9de17ff251ff1aa007774b0b4b40da08d9d9a5b3a55d8873b",
        ),
    ];
    for (suite, master, sealed) in table {
        let plain = hex("800f1234decafbadcafebabe abababababababababababababababab");
        let mut protect = Protect::new(&MasterKey::new(suite, &hex(master)).unwrap());
        let packet = protected_rtp(&mut protect, &plain).unwrap();
        assert_eq!(packet, hex(&format!("800f1234decafbadcafebabe {sealed}")), "{suite:?}");
    }
}

// Statement 210.
#[test]
fn packets_of_the_gcm_suites_are_those_of_rfc_7714() {
    let salt = hex("517569642070726f2071756f");
    let keys = |suite: Suite| {
        let key: Vec<u8> = (0..).take(suite.key_len()).collect();
        Transform::new(&StreamKeys::of(suite, &key, &[], &salt))
    };
    let (gcm_128, gcm_256) = (keys(Suite::AeadAes128Gcm), keys(Suite::AeadAes256Gcm));
    assert_eq!((Suite::AeadAes256Gcm.master_len(), Suite::AeadAes256Gcm.rtp_tag_len()), (44, 16));

    // Sections 16.1.1 and 16.2.1.
    let plain = hex(
        "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573",
    );
    let table = [
        (
            &gcm_128,
            "f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833",
            "899d7f27 beb16a91 52cf765e e4390cce",
        ),
        (
            &gcm_256,
            "32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b",
            "7aa3db36 dfffd6b0 f9bb7878 d7a76c13",
        ),
    ];
    for (transform, sealed, tag) in table {
        let mut packet = plain.clone();
        let length = packet.len();
        let made = transform.seal_rtp(&mut packet, 12..length, (0x5501_a0b2, 0xf17b)).unwrap();
        assert_eq!((&packet[12..], made.as_slice()), (&*hex(sealed), &*hex(tag)));
        let mut whole = [packet, hex(tag)].concat();
        transform.open_rtp(&mut whole, 12..length, &hex(tag), (0x5501_a0b2, 0xf17b)).unwrap();
        assert_eq!(whole[..length], plain);
    }

    // Section 17.1.
    let plain = hex(
        "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef deadbeef \
         deadbeef",
    );
    let sealed = hex(
        "63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b",
    );
    let mut packet = plain.clone();
    let length = packet.len();
    let made = gcm_128.seal_rtcp(&mut packet, 8..length, (0x4d61_7273, 0x8000_05d4)).unwrap();
    assert_eq!((&packet[8..], made.as_slice()), (&*sealed, &*hex("c84aa458 96cf4d2f c5abf872 45d9eade")));
}

#[test]
fn what_was_protected_is_read_again_by_every_suite_with_and_without_an_identifier() {
    let extended = [
        &hex("90 08 0001 00000000 cafebabe bede0001 10ff0000")[..],
        &hex("b3 08 0002 00000000 cafebabe 00000001 00000002 00000003 bede0000")[..],
        &[7; 33][..],
    ];
    for key in Suite::ALL.into_iter().flat_map(|suite| [key(suite), with_mki(suite)]) {
        let (mut protect, mut unprotect) = (Protect::new(&key), Unprotect::new(&key));
        let mut packets: Vec<_> = (10..20).map(rtp).collect();
        packets.push(extended[0].to_vec());
        packets.push([extended[1], extended[2]].concat());
        for packet in packets {
            let sealed = protected_rtp(&mut protect, &packet).unwrap();
            let behind = key.suite().rtp_tag_len() + key.mki().map_or(0, Mki::len);
            assert_eq!(sealed.len(), packet.len() + behind, "{key:?}");
            assert_eq!(unprotected_rtp(&mut unprotect, &sealed).unwrap(), packet, "{key:?}");
        }
        for _ in 0..3 {
            let sealed = protected_rtcp(&mut protect, &rtcp()).unwrap();
            assert!(sealed.len() - rtcp().len() <= protect.growth());
            assert_eq!(unprotected_rtcp(&mut unprotect, &sealed).unwrap(), rtcp(), "{key:?}");
        }
    }
}

// Statement 133.
#[test]
fn packets_carry_an_identifier_exactly_when_one_was_signalled() {
    for suite in Suite::ALL {
        let (with, without) = (with_mki(suite), key(suite));
        let sealed = |key| protected_rtp(&mut Protect::new(key), &rtp(1)).unwrap();
        assert_eq!(sealed(&with).len(), sealed(&without).len() + 4);
        let refused = |key, packet: &[u8]| unprotected_rtp(&mut Unprotect::new(key), packet).unwrap_err();
        assert_eq!(refused(&with, &sealed(&without)), SrtpFault::WrongMki);
        assert_eq!(refused(&without, &sealed(&with)), SrtpFault::Unauthentic);
    }
}

// Statement 136.
#[test]
fn one_changed_octet_is_refused_and_changes_nothing() {
    for suite in Suite::ALL {
        let (mut protect, mut unprotect) = (Protect::new(&key(suite)), Unprotect::new(&key(suite)));
        let (media, control) =
            (protected_rtp(&mut protect, &rtp(7)).unwrap(), protected_rtcp(&mut protect, &rtcp()).unwrap());
        for place in 0..media.len() {
            let mut damaged = media.clone();
            damaged[place] ^= 0x40;
            assert!(unprotected_rtp(&mut unprotect, &damaged).is_err(), "{suite:?} octet {place}");
        }
        for place in 0..control.len() {
            let mut damaged = control.clone();
            damaged[place] ^= 0x40;
            assert!(unprotected_rtcp(&mut unprotect, &damaged).is_err(), "{suite:?} octet {place}");
        }
        assert_eq!(unprotected_rtp(&mut unprotect, &media).unwrap(), rtp(7));
        assert_eq!(unprotected_rtcp(&mut unprotect, &control).unwrap(), rtcp());
    }
}

// Statement 136.
#[test]
fn a_repeated_packet_is_refused() {
    for suite in Suite::ALL {
        let (mut protect, mut unprotect) = (Protect::new(&key(suite)), Unprotect::new(&key(suite)));
        let packets: Vec<_> =
            (0..200).map(|index| protected_rtp(&mut protect, &rtp(index)).unwrap()).collect();
        for packet in packets.iter().skip(1) {
            unprotected_rtp(&mut unprotect, packet).unwrap();
        }
        for packet in &packets {
            // The first is genuine and not repeated, but older than the window.
            assert_eq!(unprotected_rtp(&mut unprotect, packet), Err(SrtpFault::Replayed));
        }
        let control = protected_rtcp(&mut protect, &rtcp()).unwrap();
        unprotected_rtcp(&mut unprotect, &control).unwrap();
        assert_eq!(unprotected_rtcp(&mut unprotect, &control), Err(SrtpFault::Replayed));
    }
}

fn is_dropped(fault: SrtpFault) -> bool {
    matches!(fault, SrtpFault::Replayed | SrtpFault::Unauthentic)
}

// Statement 137.
#[test]
fn the_rollover_counter_advances_on_both_sides_and_late_packets_of_the_turn_before_are_read() {
    for suite in Suite::ALL {
        let (mut protect, mut unprotect) = (Protect::new(&key(suite)), Unprotect::new(&key(suite)));
        let mut late = None;
        for index in (65_000..65_600).chain((65_600..131_000).step_by(100)).chain(131_000..131_100) {
            let sealed = protected_rtp(&mut protect, &rtp(index)).unwrap();
            if index == 65_530 {
                late = Some(sealed);
                continue;
            }
            assert_eq!(unprotected_rtp(&mut unprotect, &sealed), Ok(rtp(index)), "{suite:?} {index}");
            if index == 65_540 {
                let sealed = late.take().unwrap();
                assert_eq!(unprotected_rtp(&mut unprotect, &sealed), Ok(rtp(65_530)));
            }
        }
    }
}

#[test]
fn a_stream_whose_first_turn_nobody_could_read_is_read() {
    for suite in Suite::ALL {
        let mut protect = Protect::new(&key(suite));
        let packets: Vec<_> =
            (65_530..65_560).map(|index| protected_rtp(&mut protect, &rtp(index)).unwrap()).collect();
        let mut unprotect = Unprotect::new(&key(suite));
        for (index, packet) in (65_530..).zip(&packets).skip(10) {
            assert_eq!(unprotected_rtp(&mut unprotect, packet), Ok(rtp(index)), "{suite:?} {index}");
        }
    }
}

#[test]
fn a_gap_of_more_than_half_a_turn_is_survived() {
    for suite in Suite::ALL {
        let (mut protect, mut unprotect) = (Protect::new(&key(suite)), Unprotect::new(&key(suite)));
        for index in (0..100_000).step_by(500) {
            let sealed = protected_rtp(&mut protect, &rtp(index)).unwrap();
            if index == 0 || index > 40_000 {
                assert_eq!(unprotected_rtp(&mut unprotect, &sealed), Ok(rtp(index)), "{suite:?} {index}");
            }
        }
    }
}

/// Sender and receiver after a turn and a half.
fn long_call(suite: Suite) -> (Protect, Unprotect, Vec<u8>) {
    let (mut protect, mut unprotect) = (Protect::new(&key(suite)), Unprotect::new(&key(suite)));
    let mut first = Vec::new();
    for index in (0..98_000).step_by(1_000) {
        let sealed = protected_rtp(&mut protect, &rtp(index)).unwrap();
        unprotected_rtp(&mut unprotect, &sealed).unwrap();
        if index == 0 {
            first = sealed;
        }
    }
    (protect, unprotect, first)
}

// Statement 138.
#[test]
fn after_an_exchange_that_left_the_key_a_sender_may_have_kept_its_counter() {
    for suite in Suite::ALL {
        let (mut protect, mut unprotect, first) = long_call(suite);
        unprotect.renegotiated();
        for index in 98_000..98_300 {
            let sealed = protected_rtp(&mut protect, &rtp(index)).unwrap();
            assert_eq!(unprotected_rtp(&mut unprotect, &sealed), Ok(rtp(index)), "{suite:?}");
        }
        assert!(unprotected_rtp(&mut unprotect, &first).is_err_and(is_dropped));
    }
}

// Statement 138.
#[test]
fn after_an_exchange_that_left_the_key_a_sender_may_have_begun_its_counter_again() {
    for suite in Suite::ALL {
        let (_, mut unprotect, _) = long_call(suite);
        let mut anew = Protect::new(&key(suite));
        let sealed = protected_rtp(&mut anew, &rtp(32_500)).unwrap();
        assert!(unprotected_rtp(&mut unprotect, &sealed).is_err_and(is_dropped));
        unprotect.renegotiated();
        for index in 32_501..32_900 {
            let sealed = protected_rtp(&mut anew, &rtp(index)).unwrap();
            assert_eq!(unprotected_rtp(&mut unprotect, &sealed), Ok(rtp(index)), "{suite:?}");
        }
    }
}

#[test]
fn an_old_packet_repeated_after_an_exchange_does_not_deafen_the_receiver() {
    for suite in Suite::ALL {
        let (mut protect, mut unprotect, first) = long_call(suite);
        unprotect.renegotiated();
        let _ = unprotected_rtp(&mut unprotect, &first);
        for index in 98_000..98_300 {
            let sealed = protected_rtp(&mut protect, &rtp(index)).unwrap();
            assert_eq!(unprotected_rtp(&mut unprotect, &sealed), Ok(rtp(index)), "{suite:?}");
        }
        assert!(unprotected_rtp(&mut unprotect, &first).is_err_and(is_dropped));
    }
}

#[test]
fn a_number_is_never_protected_twice_and_sources_are_bounded() {
    let mut protect = Protect::new(&key(Suite::AesCm128HmacSha1_80));
    protected_rtp(&mut protect, &rtp(5)).unwrap();
    assert_eq!(protected_rtp(&mut protect, &rtp(5)), Err(SrtpFault::Replayed));
    let of_source = |source: u32| {
        let mut packet = rtp(1);
        packet[8..12].copy_from_slice(&source.to_be_bytes());
        packet
    };
    let refused = (0..100).filter(|source| protected_rtp(&mut protect, &of_source(*source)).is_err()).count();
    assert_eq!(refused, 100 - 15);
    assert!(protected_rtp(&mut protect, &rtp(6)).is_ok());
}

#[test]
fn a_receiver_forgets_the_source_that_was_silent_longest() {
    let suite = Suite::AesCm128HmacSha1_80;
    let mut unprotect = Unprotect::new(&key(suite));
    for source in 0..100u32 {
        let mut protect = Protect::new(&key(suite));
        let mut packet = rtp(1);
        packet[8..12].copy_from_slice(&source.to_be_bytes());
        let sealed = protected_rtp(&mut protect, &packet).unwrap();
        assert_eq!(unprotected_rtp(&mut unprotect, &sealed), Ok(packet));
        assert_eq!(unprotected_rtp(&mut unprotect, &sealed), Err(SrtpFault::Replayed));
    }
}

#[test]
fn a_buffer_without_room_is_left_as_it_was() {
    let mut protect = Protect::new(&key(Suite::AesCm128HmacSha1_80));
    let mut packet = rtp(1);
    let length = packet.len();
    assert_eq!(protect.rtp(&mut packet, length), Err(SrtpFault::NoRoom));
    assert_eq!(protect.rtp(&mut packet, length + 1), Err(SrtpFault::NoRoom));
    assert_eq!(packet, rtp(1));
}

proptest! {
    #[test]
    fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..200), suite in 0..5usize) {
        let key = with_mki(Suite::ALL[suite]);
        let (mut protect, mut unprotect) = (Protect::new(&key), Unprotect::new(&key));
        prop_assert!(unprotected_rtp(&mut unprotect, &octets).is_err());
        prop_assert!(unprotected_rtcp(&mut unprotect, &octets).is_err());
        let _ = protected_rtp(&mut protect, &octets);
        let _ = protected_rtcp(&mut protect, &octets);
    }
}
