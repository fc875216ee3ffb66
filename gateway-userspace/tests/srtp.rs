//! Another implementation of SRTP as the other end: what one protects the other reads, and octet for octet the same.

use gateway_userspace::srtp::{MasterKey, Protect, Suite, Unprotect};
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

/// RTP packets of an SSRC, over a turn of the sequence number.
fn packets() -> impl Iterator<Item = Vec<u8>> {
    (65_400..65_800u32).map(|index| {
        let mut packet = vec![0x80, 0];
        packet.extend((index as u16).to_be_bytes());
        packet.extend((index * 160).to_be_bytes());
        packet.extend(0x1234_5678u32.to_be_bytes());
        packet.extend((0..index % 200).map(|octet| octet as u8));
        packet
    })
}

/// A receiver report with an SDES of the same source.
fn compound() -> Vec<u8> {
    [
        &[0x80, 201, 0, 1, 0x12, 0x34, 0x56, 0x78][..],
        &[0x81, 202, 0, 3, 0x12, 0x34, 0x56, 0x78, 1, 4],
        b"name\0\0",
    ]
    .concat()
}

fn ends(suite: Suite) -> (MasterKey, Context) {
    let profile = match suite {
        Suite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Suite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
        Suite::Aes256CmHmacSha1_80 => ProtectionProfile::Aes256CmHmacSha1_80,
        Suite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Suite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
    };
    let master: Vec<u8> = (100..).take(suite.master_len()).collect();
    let key = MasterKey::new(suite, &master).unwrap();
    let provider = rtc_crypto::default_provider().unwrap();
    let context = Context::new(key.key(), key.salt(), profile, None, None, provider.crypto()).unwrap();
    (key, context)
}

#[test]
fn each_end_makes_the_same_packets() {
    for suite in Suite::ALL {
        let (key, mut foreign) = ends(suite);
        let mut ours = Protect::new(&key);
        for packet in packets() {
            let mut buffer = [&packet[..], &[0; 32]].concat();
            let length = ours.rtp(&mut buffer, packet.len()).unwrap();
            assert_eq!(buffer[..length], foreign.encrypt_rtp(&packet).unwrap()[..], "{suite:?}");
        }
    }
}

#[test]
fn each_end_reads_what_the_other_protects() {
    for suite in Suite::ALL {
        let (key, mut foreign) = ends(suite);
        let (_, mut foreign_reader) = ends(suite);
        let (mut protect, mut unprotect) = (Protect::new(&key), Unprotect::new(&key));
        for packet in packets() {
            let mut sealed = foreign.encrypt_rtp(&packet).unwrap();
            let length = unprotect.rtp(&mut sealed).unwrap();
            assert_eq!(sealed[..length], packet, "{suite:?}");
            let mut buffer = [&packet[..], &[0; 32]].concat();
            let length = protect.rtp(&mut buffer, packet.len()).unwrap();
            assert_eq!(foreign_reader.decrypt_rtp(&buffer[..length]).unwrap()[..], packet, "{suite:?}");
        }
        let compound = compound();
        for _ in 0..3 {
            let mut sealed = foreign.encrypt_rtcp(&compound).unwrap();
            let length = unprotect.rtcp(&mut sealed).unwrap();
            assert_eq!(sealed[..length], compound, "{suite:?}");
            let mut buffer = [&compound[..], &[0; 32]].concat();
            let length = protect.rtcp(&mut buffer, compound.len()).unwrap();
            assert_eq!(foreign_reader.decrypt_rtcp(&buffer[..length]).unwrap()[..], compound, "{suite:?}");
        }
    }
}
