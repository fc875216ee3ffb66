//! From a [`Description`] to text, written by sdp-types.

use super::fax::{self, Fax};
use super::model::{Audio, Description, Direction, OtherStream};
use super::precondition::Preconditions;
use sdp_types::{AddrType, Attribute, Connection, Media, NetType, Session};
use std::net::IpAddr;

/// Writes a session description with its `c=` line at session level, so that it covers refused streams too
/// (RFC 8866 section 5.7 asks for one for each stream).
pub fn print(description: &Description) -> String {
    let Description { origin, before, audio, after, otherwise: _ } = description;
    let address_type = origin.address.parse::<IpAddr>().map_or(AddrType::Ip4, AddrType::from);
    let origin = sdp_types::Origin::new(
        &origin.session_id,
        origin.version,
        NetType::In,
        address_type,
        &origin.address,
    );
    let mut session = Session::new(origin, "-");
    session.connection = Some(Connection::from_ip_addr(audio.address));
    if audio.ice.as_ref().is_some_and(|ice| ice.is_lite) {
        // RFC 8839 section 5.3: of the session, not of a stream.
        session.attributes.push(Attribute { attribute: "ice-lite".to_owned(), value: None });
    }
    session.medias.extend(before.iter().map(refused));
    session.medias.push(media(audio));
    session.medias.extend(after.iter().map(refused));
    let mut body = Vec::with_capacity(320);
    session.write(&mut body).expect("writing to a vector does not fail");
    String::from_utf8(body).expect("a body made of strings is UTF-8")
}

/// Refuses a stream (RFC 3264 section 6): port 0, the rest as it was offered.
fn refused(stream: &OtherStream) -> Media {
    line(&stream.media, 0, &stream.profile, stream.formats.clone())
}

fn media(audio: &Audio) -> Media {
    if let Some(fax) = &audio.fax {
        return image(audio, fax);
    }
    let numbers: Vec<_> = audio.formats.iter().map(|format| format.payload_type.to_string()).collect();
    let mut media = line("audio", audio.port, audio.profile.name(), numbers.join(" "));
    let mut attribute = |name: &str, value: Option<String>| {
        media.attributes.push(Attribute { attribute: name.to_owned(), value });
    };
    for format in &audio.formats {
        attribute("rtpmap", Some(format!("{} {}", format.payload_type, format.codec)));
        if let Some(fmtp) = &format.fmtp {
            attribute("fmtp", Some(format!("{} {fmtp}", format.payload_type)));
        }
    }
    for line in &audio.crypto {
        attribute("crypto", Some(line.to_string()));
    }
    for (name, milliseconds) in [("ptime", audio.ptime), ("maxptime", audio.maxptime)] {
        if let Some(milliseconds) = milliseconds {
            attribute(name, Some(milliseconds.to_string()));
        }
    }
    attribute(audio.direction.name(), None);
    if let Some(rtcp) = &audio.rtcp {
        let address = rtcp.address.map(|address| format!(" IN {} {address}", AddrType::from(address)));
        attribute("rtcp", Some(format!("{}{}", rtcp.port, address.unwrap_or_default())));
    }
    if audio.rtcp_mux {
        attribute("rtcp-mux", None);
    }
    if audio.metrics {
        attribute("rtcp-xr", Some("voip-metrics".to_owned()));
    }
    for (name, value) in audio.ice.iter().flat_map(|ice| ice.attributes()) {
        attribute(name, Some(value));
    }
    for (name, value) in audio.preconditions.iter().flat_map(Preconditions::written) {
        media.attributes.push(Attribute { attribute: name.to_owned(), value: Some(value) });
    }
    media
}

fn image(stream: &Audio, fax: &Fax) -> Media {
    let mut media = line(fax::MEDIA, stream.port, stream.profile.name(), fax::FORMAT.to_owned());
    let written = fax.attributes().map(|(name, value)| (name, value.map(str::to_owned)));
    // Few ends of fax know directions: none is said where there is nothing to say.
    let direction = Some(stream.direction).filter(|direction| *direction != Direction::SendReceive);
    let written = written.chain(direction.map(|direction| (direction.name(), None)));
    media.attributes.extend(written.map(|(name, value)| Attribute { attribute: name.to_owned(), value }));
    media
}

fn line(name: &str, port: u16, profile: &str, formats: String) -> Media {
    Media {
        media: name.to_owned(),
        port,
        num_ports: None,
        proto: profile.to_owned(),
        fmt: formats,
        media_title: None,
        connections: Vec::new(),
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
    }
}
