//! Keys of a telephone in requests inside a dialog: INFO with `application/dtmf-relay` or `application/dtmf`, NOTIFY with
//! `audio/telephone-event`.

use crate::media::KeyTransport;
use crate::signal::dtmf::Key;
use crate::signal::dtmf::body::{Kind, Press};
use crate::sip::dialog::Dialog;
use crate::sip::message::{Draft, HeaderName, Method, Request};
use gateway_common::rtp::TelephoneEvent;
use std::time::Duration;

const EVENT: &str = "telephone-event";
const EVENT_TYPE: &str = "audio/telephone-event";
/// Durations of the payload count at the clock of telephone speech (RFC 4733 section 2.3.5), as there is no stream beside
/// it that would say otherwise.
const CLOCK_RATE: u64 = 8_000;
/// RFC 4733 section 2.3: the end bit, and the volume that senders of signalling write.
const END: u8 = 0x80;
const VOLUME: u8 = 10;

/// A body that tells of something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::call) struct NotKeys;

/// Whether a NOTIFY tells of keys.
pub(in crate::call) fn is_of_keys(request: &Request) -> bool {
    let event = request.headers.value(&HeaderName::Event).unwrap_or_default();
    event.split(';').next().is_some_and(|event| event.trim().eq_ignore_ascii_case(EVENT))
}

/// The key that a request tells of; `None` where it tells of none, or of one that has begun only: its end comes in another
/// request, and one key is one event.
pub(in crate::call) fn read(request: &Request) -> Result<Option<Press>, NotKeys> {
    let Some(content_type) = request.headers.value(&HeaderName::ContentType) else {
        // INFO without a body asks whether the dialog stands (RFC 2976 section 2.2).
        return Ok(None);
    };
    if let Some(kind) = Kind::of_content_type(content_type) {
        return Ok(kind.read(&request.body).ok());
    }
    if !content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(EVENT_TYPE)) {
        return Err(NotKeys);
    }
    let event = TelephoneEvent::parse(request.body.as_slice(), 0, request.body.len()).ok_or(NotKeys)?;
    let duration = Duration::from_millis(u64::from(event.duration) * 1000 / CLOCK_RATE);
    Ok(Key::of_code(event.code).filter(|_| event.end).map(|key| Press { key, duration }))
}

/// The request that tells of a key.
pub(in crate::call) fn write(dialog: &mut Dialog, transport: KeyTransport, press: Press) -> Draft {
    let kind = if transport == KeyTransport::Info { Kind::Dtmf } else { Kind::DtmfRelay };
    if transport != KeyTransport::Notify {
        let mut draft = dialog.request(Method::Info);
        draft.set_body(kind.content_type(), kind.write(press));
        return draft;
    }
    let units =
        u64::try_from(press.duration.as_millis()).unwrap_or(u64::MAX).saturating_mul(CLOCK_RATE) / 1000;
    let [high, low] = u16::try_from(units).unwrap_or(u16::MAX).to_be_bytes();
    let mut draft = dialog.request(Method::Notify);
    draft.headers.push(HeaderName::Event, EVENT);
    draft.headers.push(HeaderName::SubscriptionState, "active");
    draft.set_body(EVENT_TYPE, vec![press.key.code(), END | VOLUME, high, low]);
    draft
}
