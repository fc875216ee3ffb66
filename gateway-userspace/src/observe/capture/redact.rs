//! Secrets in messages, blotted out octet for octet, so that lengths stay right.

const BLOT: u8 = b'*';

/// Header fields whose values let others speak for their sender, all behind the scheme (RFC 3261 section 20).
const CREDENTIALS: [&[u8]; 3] = [b"authorization", b"proxy-authorization", b"authentication-info"];

/// The message with its credentials, SRTP keys (RFC 4568), ICE passwords (RFC 8839) and keys of RFC 4566 blotted out.
pub(super) fn redacted(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let mut in_credentials = false;
    for line in message.split_inclusive_mut(|octet| *octet == b'\n') {
        let end = line.iter().rposition(|octet| !matches!(octet, b'\r' | b'\n')).map_or(0, |last| last + 1);
        let Some(line) = line.get_mut(..end) else { continue };
        // A line that begins with white space goes on with the header field before it.
        in_credentials = match line.first() {
            Some(b' ' | b'\t') => in_credentials,
            _ => is_credentials(line),
        };
        if in_credentials {
            blot_credentials(line);
        } else if let Some(value) = behind(line, b"a=ice-pwd:").or(behind(line, b"k=")) {
            blot(line, value..end);
        } else if behind(line, b"a=crypto:").is_some() {
            blot_keys(line);
        }
    }
    message
}

fn is_credentials(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|octet| *octet == b':') else { return false };
    let name = line.get(..colon).unwrap_or_default().trim_ascii_end();
    CREDENTIALS.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// All but the name and the scheme: `Authorization: Digest ***`.
fn blot_credentials(line: &mut [u8]) {
    let value = match is_credentials(line) {
        true => line.iter().position(|octet| *octet == b':').map_or(0, |colon| colon + 1),
        false => 0,
    };
    let is_digest = line.get(value..).is_some_and(|rest| {
        rest.trim_ascii_start().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"digest "))
    });
    let blank = line.iter().skip(value).take_while(|octet| octet.is_ascii_whitespace()).count();
    blot(line, value + blank + if is_digest { 7 } else { 0 }..line.len());
}

/// What stands behind each `inline:`, up to its lifetime, the next key, or the next parameter.
fn blot_keys(line: &mut [u8]) {
    const INLINE: &[u8] = b"inline:";
    let mut from = 0;
    while let Some(found) = line.get(from..).and_then(|rest| position(rest, INLINE)) {
        let start = from + found + INLINE.len();
        let ends = |octet: &u8| matches!(octet, b'|' | b';' | b' ' | b'\t');
        let end = line.iter().skip(start).position(ends).map_or(line.len(), |length| start + length);
        blot(line, start..end);
        from = end;
    }
}

fn position(line: &[u8], word: &[u8]) -> Option<usize> {
    line.windows(word.len()).position(|window| window.eq_ignore_ascii_case(word))
}

fn behind(line: &[u8], start: &[u8]) -> Option<usize> {
    line.get(..start.len()).filter(|begun| begun.eq_ignore_ascii_case(start)).map(<[u8]>::len)
}

fn blot(line: &mut [u8], range: std::ops::Range<usize>) {
    if let Some(secret) = line.get_mut(range) {
        secret.fill(BLOT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_keys_are_blotted_out_and_nothing_else_is() {
        let message = "INVITE sip:a@b SIP/2.0\r\n\
            AUTHORIZATION : Digest username=\"u\",\r\n\t response=\"0011\"\r\n\
            Proxy-Authorization: Basic dTpw\r\n\
            WWW-Authenticate: Digest nonce=\"n\"\r\n\
            Subject: the key is inline:\r\n\r\n\
            v=0\r\nk=clear:secret\r\n\
            a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0|2^31|1:1;inline:b3RoZXI= FEC_ORDER=1\r\n\
            a=ice-ufrag:user\r\na=ice-pwd:secret\r\n";
        let redacted = String::from_utf8(redacted(message.as_bytes())).unwrap();
        let expected = "INVITE sip:a@b SIP/2.0\r\n\
            AUTHORIZATION : Digest *************\r\n\t ***************\r\n\
            Proxy-Authorization: **********\r\n\
            WWW-Authenticate: Digest nonce=\"n\"\r\n\
            Subject: the key is inline:\r\n\r\n\
            v=0\r\nk=************\r\n\
            a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:********|2^31|1:1;inline:******** FEC_ORDER=1\r\n\
            a=ice-ufrag:user\r\na=ice-pwd:******\r\n";
        assert_eq!(redacted, expected);
    }
}
