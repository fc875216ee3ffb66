//! The ladder of a scenario: what was sent by whom, in lines.

use super::{OPERATOR, SERVICE, Scene};
use crate::stage::session::{direction_of, media_of};
use gateway_userspace::sip::message::{Message, Response, parse};
use std::net::SocketAddr;

impl Scene {
    pub(super) fn note(&mut self, line: String) {
        let seconds = (self.now.0 - 1_000_000) as f64 / 1e6;
        self.ladder.push(format!("{seconds:>8.3}  {line}"));
    }

    pub(super) fn name(&self, address: SocketAddr) -> String {
        match self.phones.iter().find(|phone| phone.address == address) {
            Some(phone) => phone.name.to_owned(),
            None if [OPERATOR, SERVICE].contains(&address.to_string().as_str()) => "causeway".to_owned(),
            None => address.to_string(),
        }
    }
}

/// A message in a line.
pub(super) fn summary(bytes: &[u8]) -> String {
    let message = match parse(bytes) {
        Ok(message) => message,
        Err(_) => return "what cannot be read".to_owned(),
    };
    let body = String::from_utf8_lossy(message.body()).into_owned();
    let session = match (body.contains("m=audio"), body.contains("m=image")) {
        (true, _) => format!(" [{} {}]", media_of(&body), direction_of(&body)),
        (false, true) => format!(" [{} fax]", media_of(&body)),
        (false, false) => String::new(),
    };
    let cseq = &message.head().cseq;
    match &message {
        Message::Request(request) => format!("{} {}{session}", request.method, cseq.number),
        Message::Response(Response { status, .. }) => {
            format!("{status} to {} {}{session}", cseq.method, cseq.number)
        }
    }
}
