//! From bytes to a [`Description`]: grammar by sdp-types, limits and meaning here.

use super::fault::SdpFault;
use super::model::{Audio, Description, Direction, Format, Origin, OtherStream, Profile, RtcpPort};
use crate::rtp::Codec;
use sdp_types::{Attribute, Connection, Media, Session};
use std::net::{IpAddr, Ipv4Addr};

/// Longest body, in octets: an order of magnitude above what large WebRTC offers take.
pub(super) const BODY_MAX: usize = 32 * 1024;
/// Longest line, in octets.
pub(super) const LINE_MAX: usize = 2048;
/// Most lines.
const LINES_MAX: usize = 1024;

/// Reads a session description.
///
/// Of several audio streams the first that this gateway can carry is meant: an offer may hold a secured stream
/// beside a plain one. Octets that are not UTF-8 are read as U+FFFD, because they stand in names that go no
/// further. Formats whose encoding is unknown (a dynamic number without `a=rtpmap`) are left out.
pub fn parse(body: &[u8]) -> Result<Description, SdpFault> {
    check_limits(body)?;
    let text = String::from_utf8_lossy(body);
    let mut session = Session::parse(text.as_bytes())?;
    let position = audio_position(&session)?;
    let after: Vec<Media> = session.medias.drain(position + 1..).collect();
    let media = session.medias.pop().ok_or(SdpFault::NoAudio)?;
    let audio = audio(&session, &media)?;
    let other = |media: Media| OtherStream { media: media.media, profile: media.proto, formats: media.fmt };
    Ok(Description {
        origin: Origin {
            session_id: session.origin.sess_id,
            version: session.origin.sess_version,
            address: session.origin.unicast_address,
        },
        before: session.medias.into_iter().map(other).collect(),
        audio,
        after: after.into_iter().map(other).collect(),
    })
}

fn check_limits(body: &[u8]) -> Result<(), SdpFault> {
    if body.len() > BODY_MAX {
        return Err(SdpFault::TooLarge(body.len()));
    }
    let mut lines = 0;
    for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
        if line.len() > LINE_MAX {
            return Err(SdpFault::LineTooLong(number));
        }
        lines = number;
    }
    if lines > LINES_MAX { Err(SdpFault::TooManyLines(LINES_MAX)) } else { Ok(()) }
}

/// The audio stream to speak of: the first to carry, else the first of a profile that could be carried but is
/// refused or ended (port 0), else the first of any kind, whose fault is then the answer.
fn audio_position(session: &Session) -> Result<usize, SdpFault> {
    let find = |wanted: &dyn Fn(&Media) -> bool| {
        session.medias.iter().position(|media| media.media.eq_ignore_ascii_case("audio") && wanted(media))
    };
    find(&|media| media.port != 0 && audio(session, media).is_ok())
        .or_else(|| find(&|media| media.port == 0 && Profile::named(&media.proto).is_some()))
        .or_else(|| find(&|_| true))
        .ok_or(SdpFault::NoAudio)
}

fn audio(session: &Session, media: &Media) -> Result<Audio, SdpFault> {
    let profile = Profile::named(&media.proto).ok_or_else(|| SdpFault::Profile(media.proto.clone()))?;
    if let Some(count) = media.num_ports.filter(|count| *count > 1) {
        return Err(SdpFault::PortCount(count));
    }
    let connection = media.connections.first().or(session.connection.as_ref());
    let address = match connection {
        Some(connection) => address(connection)?,
        // A refused stream goes nowhere, and some write no address for it.
        None if media.port == 0 => Ipv4Addr::UNSPECIFIED.into(),
        None => return Err(SdpFault::NoAddress),
    };
    let direction = direction(&media.attributes).or_else(|| direction(&session.attributes));
    let ptime = |name| value(&media.attributes, name).and_then(leading_number);
    Ok(Audio {
        address,
        port: media.port,
        profile,
        formats: formats(media)?,
        direction: direction.unwrap_or_default(),
        rtcp: value(&media.attributes, "rtcp").and_then(rtcp_port),
        rtcp_mux: media.attributes.iter().any(|attribute| attribute.attribute == "rtcp-mux"),
        ptime: ptime("ptime"),
        maxptime: ptime("maxptime"),
    })
}

/// One numeric unicast address. A host name would need a resolver between two packets of one transaction.
fn address(connection: &Connection) -> Result<IpAddr, SdpFault> {
    let refused = || SdpFault::Address(connection.connection_address.clone());
    let address: IpAddr = connection.connection_address.parse().map_err(|_| refused())?;
    // A mapped address never stands on the wire (RFC 4038 section 4.2): the peer means IPv4.
    let address = address.to_canonical();
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_multicast() || broadcast { Err(refused()) } else { Ok(address) }
}

fn formats(media: &Media) -> Result<Vec<Format>, SdpFault> {
    let mut formats: Vec<Format> = Vec::new();
    for word in media.fmt.split_ascii_whitespace() {
        let number = word.parse().ok().filter(|number| *number < 128u8);
        let number = number.ok_or_else(|| SdpFault::FormatList(media.fmt.clone()))?;
        let known = formats.iter().any(|format| format.payload_type == number);
        if let Some(codec) = codec(media, number).filter(|_| !known) {
            let fmtp = of_payload(media, "fmtp", number).map(Into::into);
            formats.push(Format { payload_type: number, codec, fmtp });
        }
    }
    Ok(formats)
}

/// By `a=rtpmap`, and without one by the static assignment (RFC 3551 section 6).
fn codec(media: &Media, number: u8) -> Option<Codec> {
    match of_payload(media, "rtpmap", number) {
        Some(map) => map.parse().ok(),
        None => Codec::of_static_payload_type(number),
    }
}

/// What `a=rtpmap` or `a=fmtp` says of a payload number.
fn of_payload<'a>(media: &'a Media, name: &str, number: u8) -> Option<&'a str> {
    media
        .attributes
        .iter()
        .filter(|attribute| attribute.attribute == name)
        .filter_map(|attribute| attribute.value.as_deref()?.trim().split_once(' '))
        .find(|(word, _)| word.parse() == Ok(number))
        .map(|(_, rest)| rest.trim())
}

fn direction(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().find_map(|attribute| Direction::named(&attribute.attribute))
}

fn value<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    attributes.iter().find(|attribute| attribute.attribute == name)?.value.as_deref()
}

/// `port [IN IP4|IP6 address]` (RFC 3605 section 2.1).
fn rtcp_port(value: &str) -> Option<RtcpPort> {
    let mut words = value.split_ascii_whitespace();
    let port = words.next()?.parse().ok()?;
    let address =
        words.nth(2).and_then(|word| word.parse::<IpAddr>().ok()).map(|address| address.to_canonical());
    Some(RtcpPort { port, address: address.filter(|address| !address.is_unspecified()) })
}

/// Milliseconds: the grammar allows a fraction (RFC 8866 section 6.4), which no packet needs.
fn leading_number(value: &str) -> Option<u16> {
    let digits = value.trim().split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|number| *number > 0)
}
