//! A message under rules: its parts by [`Place`], each change whole and valid or not made at all.

use super::LeftOut;
use super::place::{HeaderPart, Place, UriPart};
use super::session::Session;
use super::uri;
use crate::base::redact::Number;
use crate::sip::message::{
    Contact, DisplayName, Draft, Header, HeaderName, Headers, Item, Limits, Message, Method, NameAddr,
    Request, Response, StatusCode, Uri,
};

/// A request, a response or a draft, opened for change. What rules must not touch is not in it.
pub struct Subject<'a> {
    pub(super) start: Start<'a>,
    pub(super) method: Method,
    call_id: &'a str,
    from: &'a mut NameAddr,
    to: &'a mut NameAddr,
    contact: &'a mut Contact,
    headers: &'a mut Headers,
    body: &'a mut Vec<u8>,
    /// Octets and lines of the headers that are not in here.
    fixed: (usize, usize),
}

pub(super) enum Start<'a> {
    Request { uri: &'a mut Uri },
    Response { status: &'a mut StatusCode, reason: &'a mut String },
}

/// What becomes of one value.
pub(super) enum Change {
    Keep,
    To(String),
    Remove,
}

/// Octets that the Via takes which a draft has not yet.
const VIA_ROOM: usize = 512;
/// Octets of the header lines whose values have a bound: CSeq, Max-Forwards, Content-Length.
const SMALL_LINES: usize = 256;

impl<'a> From<&'a mut Request> for Subject<'a> {
    fn from(request: &'a mut Request) -> Self {
        let head = &mut request.head;
        let fixed = fixed(head.via.iter().map(ToString::to_string), &head.route, &head.record_route);
        Self {
            start: Start::Request { uri: &mut request.uri },
            method: request.method.clone(),
            call_id: &head.call_id,
            from: &mut head.from,
            to: &mut head.to,
            contact: &mut head.contact,
            headers: &mut request.headers,
            body: &mut request.body,
            fixed,
        }
    }
}

impl<'a> From<&'a mut Response> for Subject<'a> {
    fn from(response: &'a mut Response) -> Self {
        let head = &mut response.head;
        let fixed = fixed(head.via.iter().map(ToString::to_string), &head.route, &head.record_route);
        Self {
            start: Start::Response { status: &mut response.status, reason: &mut response.reason },
            method: head.cseq.method.clone(),
            call_id: &head.call_id,
            from: &mut head.from,
            to: &mut head.to,
            contact: &mut head.contact,
            headers: &mut response.headers,
            body: &mut response.body,
            fixed,
        }
    }
}

impl<'a> From<&'a mut Draft> for Subject<'a> {
    fn from(draft: &'a mut Draft) -> Self {
        let (octets, lines) = fixed(std::iter::empty(), &draft.route, &[]);
        Self {
            start: Start::Request { uri: &mut draft.uri },
            method: draft.method.clone(),
            call_id: &draft.call_id,
            from: &mut draft.from,
            to: &mut draft.to,
            contact: &mut draft.contact,
            headers: &mut draft.headers,
            body: &mut draft.body,
            fixed: (octets + VIA_ROOM, lines + 1),
        }
    }
}

impl<'a> From<&'a mut Message> for Subject<'a> {
    fn from(message: &'a mut Message) -> Self {
        match message {
            Message::Request(request) => request.into(),
            Message::Response(response) => response.into(),
        }
    }
}

fn fixed(vias: impl Iterator<Item = String>, route: &[NameAddr], record: &[NameAddr]) -> (usize, usize) {
    let routes = route.iter().chain(record).map(ToString::to_string);
    // "Record-Route: " and the end of the line.
    vias.chain(routes).fold((SMALL_LINES, 8), |(octets, lines), line| (octets + line.len() + 16, lines + 1))
}

impl Subject<'_> {
    /// The numbers that call and are called, as far as the message says: From, and the Request-URI of a request outside
    /// dialogs, else To.
    pub fn numbers(&self) -> (Option<Number>, Option<Number>) {
        let called = match &self.start {
            Start::Request { uri } if self.to.tag().is_none() => uri,
            Start::Request { .. } | Start::Response { .. } => &self.to.uri,
        };
        (self.from.uri.number(), called.number())
    }

    pub(super) fn is_request(&self) -> bool {
        matches!(self.start, Start::Request { .. })
    }

    /// A request with a To tag (RFC 3261 section 12.2).
    pub(super) fn is_in_dialog(&self) -> bool {
        self.is_request() && self.to.tag().is_some()
    }

    pub(super) fn status(&self) -> Option<StatusCode> {
        match &self.start {
            Start::Request { .. } => None,
            Start::Response { status, .. } => Some(**status),
        }
    }

    /// All values of a place, in the order of the message.
    pub(super) fn values(&self, place: &Place) -> Vec<String> {
        let one = |value: Option<String>| value.into_iter().collect();
        match (place, &self.start) {
            (Place::Method, _) => vec![self.method.as_str().to_owned()],
            (Place::CallId, _) => vec![self.call_id.to_owned()],
            (Place::Status, Start::Response { status, .. }) => vec![status.to_string()],
            (Place::Reason, Start::Response { reason, .. }) => vec![(*reason).clone()],
            (Place::RequestUri(part), Start::Request { uri }) => one(uri::read(uri, part)),
            (Place::Status | Place::Reason, Start::Request { .. }) => Vec::new(),
            (Place::RequestUri(_), Start::Response { .. }) => Vec::new(),
            (Place::Header(name, part), _) => self.header_values(name, part),
            (
                Place::Attribute(_) | Place::Bandwidth(_) | Place::Direction | Place::Codecs | Place::Sdp,
                _,
            ) => Session::open(self.headers, self.body).map_or(Vec::new(), |session| session.values(place)),
        }
    }

    fn header_values(&self, name: &HeaderName, part: &HeaderPart) -> Vec<String> {
        let addresses = match name {
            HeaderName::From => std::slice::from_ref(&*self.from),
            HeaderName::To => std::slice::from_ref(&*self.to),
            HeaderName::Contact => self.contact.addresses(),
            _ => &[],
        };
        let typed = addresses.iter().map(|address| Item::Address(address.clone()));
        match part {
            HeaderPart::Whole => {
                let lines = self.headers.values(name).map(str::to_owned);
                addresses.iter().map(ToString::to_string).chain(lines).collect()
            }
            part => {
                let lines = self.headers.values(name).filter_map(|line| Item::parse_line(line).ok());
                typed.chain(lines.flatten()).filter_map(|item| read_item(&item, part)).collect()
            }
        }
    }

    /// Puts each value through `change`; whether any changed.
    pub(super) fn edit(
        &mut self,
        place: &Place,
        change: &mut dyn FnMut(&str) -> Result<Change, LeftOut>,
    ) -> Result<bool, LeftOut> {
        match place {
            Place::RequestUri(part) => self.edit_request_uri(part, change),
            Place::Header(name, part) => self.edit_header(name, part, change),
            Place::Status | Place::Reason => {
                let values = self.values(place);
                match change(values.first().ok_or(LeftOut::Absent)?)? {
                    Change::To(value) => self.set(place, &value),
                    Change::Keep | Change::Remove => Ok(false),
                }
            }
            place => self.edit_session(|session| session.edit(place, change)),
        }
    }

    /// Puts one value in the place of all that are there; whether that changed anything.
    pub(super) fn set(&mut self, place: &Place, value: &str) -> Result<bool, LeftOut> {
        match (place, &mut self.start) {
            (Place::Status, Start::Response { status, reason }) => {
                let code = value.parse().ok().and_then(StatusCode::new).ok_or(LeftOut::Invalid)?;
                if **status == code {
                    return Ok(false);
                }
                (**status, **reason) = (code, code.phrase().into_owned());
                Ok(true)
            }
            (Place::Reason, Start::Response { reason, .. }) => {
                let changed = **reason != value;
                value.clone_into(reason);
                Ok(changed)
            }
            (Place::Status | Place::Reason, Start::Request { .. }) => Err(LeftOut::Absent),
            (Place::Header(name, HeaderPart::Whole), _) => {
                let before = self.headers.clone();
                let lines = self.headers.lines_mut();
                match lines.iter().position(|line| line.name == *name) {
                    Some(first) => {
                        value.clone_into(&mut lines[first].value);
                        let mut seen = 0..;
                        lines.retain(|line| line.name != *name || seen.next() == Some(0));
                    }
                    None => lines.push(Header { name: name.clone(), value: value.to_owned() }),
                }
                self.keep_headers(before)
            }
            (Place::Header(_, HeaderPart::Uri(_) | HeaderPart::Param(_) | HeaderPart::Display), _)
            | (Place::RequestUri(_), _) => self.put_part(place, value),
            (place, _) => self.edit_session(|session| session.set(place, value)),
        }
    }

    /// Adds one more value of a list.
    pub(super) fn add(&mut self, place: &Place, value: &str) -> Result<bool, LeftOut> {
        match place {
            Place::Header(name, _) => {
                let before = self.headers.clone();
                self.headers.push(name.clone(), value);
                self.keep_headers(before)
            }
            place => self.edit_session(|session| session.add(place, value)),
        }
    }

    /// Gives all lines of one header another name.
    pub(super) fn rename(&mut self, from: &HeaderName, to: &HeaderName) -> Result<bool, LeftOut> {
        let before = self.headers.clone();
        for line in self.headers.lines_mut().iter_mut().filter(|line| line.name == *from) {
            line.name = to.clone();
        }
        self.keep_headers(before)
    }

    /// Puts copies of all values of one place, as lines, in the place of a header's.
    pub(super) fn copy_lines(&mut self, from: &Place, to: &HeaderName) -> Result<bool, LeftOut> {
        let values = self.values(from);
        if values.is_empty() {
            return Err(LeftOut::Absent);
        }
        let before = self.headers.clone();
        self.headers.remove(to);
        for value in values {
            self.headers.push(to.clone(), value);
        }
        self.keep_headers(before)
    }

    /// Changes the session description; what cannot be read afterwards is put back.
    pub(super) fn edit_session(
        &mut self,
        edit: impl FnOnce(&mut Session) -> Result<bool, LeftOut>,
    ) -> Result<bool, LeftOut> {
        let mut session = Session::open(self.headers, self.body).ok_or(LeftOut::NoSdp)?;
        if !edit(&mut session)? {
            return Ok(false);
        }
        let body = session.print()?;
        if body.len() > Limits::WIDEST.body || self.head_len() + body.len() > Limits::WIDEST.message {
            return Err(LeftOut::TooLarge);
        }
        *self.body = body;
        Ok(true)
    }

    /// Sets a part of what is there: parameters and the like have no place of their own.
    fn put_part(&mut self, place: &Place, value: &str) -> Result<bool, LeftOut> {
        let mut items = 0;
        let changed = match place {
            Place::RequestUri(part) => {
                items += 1;
                self.replace_request_uri(|uri| uri::write(uri, part, Some(value)))
            }
            Place::Header(name, part) => self.map_items(name, &mut |item| {
                items += 1;
                write_item(item, part, Some(value)).map(Some)
            }),
            _ => Ok(false),
        }?;
        if items == 0 { Err(LeftOut::Absent) } else { Ok(changed) }
    }

    fn edit_request_uri(
        &mut self,
        part: &UriPart,
        change: &mut dyn FnMut(&str) -> Result<Change, LeftOut>,
    ) -> Result<bool, LeftOut> {
        self.replace_request_uri(|uri| {
            let Some(value) = uri::read(uri, part) else { return Ok(uri.clone()) };
            match change(&value)? {
                Change::Keep => Ok(uri.clone()),
                Change::To(value) => uri::write(uri, part, Some(&value)),
                Change::Remove => uri::write(uri, part, None),
            }
        })
    }

    fn replace_request_uri(
        &mut self,
        edit: impl FnOnce(&Uri) -> Result<Uri, LeftOut>,
    ) -> Result<bool, LeftOut> {
        let in_dialog = self.is_in_dialog();
        let Start::Request { uri } = &mut self.start else { return Err(LeftOut::Absent) };
        let new = edit(uri)?;
        if new == **uri {
            return Ok(false);
        }
        if in_dialog {
            return Err(LeftOut::InDialog);
        }
        if new.as_sip().is_some_and(|uri| uri.headers.is_some()) {
            return Err(LeftOut::Invalid);
        }
        if new.to_string().len() > Limits::WIDEST.uri {
            return Err(LeftOut::TooLarge);
        }
        let before = std::mem::replace(*uri, new);
        if self.fits() {
            return Ok(true);
        }
        if let Start::Request { uri } = &mut self.start {
            **uri = before;
        }
        Err(LeftOut::TooLarge)
    }

    fn edit_header(
        &mut self,
        name: &HeaderName,
        part: &HeaderPart,
        change: &mut dyn FnMut(&str) -> Result<Change, LeftOut>,
    ) -> Result<bool, LeftOut> {
        if *part != HeaderPart::Whole {
            return self.map_items(name, &mut |item| {
                let Some(value) = read_item(item, part) else { return Ok(Some(item.clone())) };
                match change(&value)? {
                    Change::Keep => Ok(Some(item.clone())),
                    Change::To(value) => write_item(item, part, Some(&value)).map(Some),
                    Change::Remove => write_item(item, part, None).map(Some),
                }
            });
        }
        let mut lines = Vec::with_capacity(self.headers.len());
        for line in self.headers.iter() {
            if line.name != *name {
                lines.push(line.clone());
                continue;
            }
            match change(&line.value)? {
                Change::Keep => lines.push(line.clone()),
                Change::To(value) => lines.push(Header { name: line.name.clone(), value }),
                Change::Remove => {}
            }
        }
        let before = std::mem::take(self.headers);
        *self.headers.lines_mut() = lines;
        self.keep_headers(before)
    }

    /// Puts each item of a header through `map`; lines without a change stay as they were written.
    fn map_items(
        &mut self,
        name: &HeaderName,
        map: &mut dyn FnMut(&Item) -> Result<Option<Item>, LeftOut>,
    ) -> Result<bool, LeftOut> {
        match name {
            HeaderName::From => {
                let mapped = map_address(self.from, map)?;
                let before = std::mem::replace(self.from, mapped);
                if self.fits() {
                    return Ok(before != *self.from);
                }
                *self.from = before;
            }
            HeaderName::To => {
                let mapped = map_address(self.to, map)?;
                let before = std::mem::replace(self.to, mapped);
                if self.fits() {
                    return Ok(before != *self.to);
                }
                *self.to = before;
            }
            HeaderName::Contact => {
                let Contact::Addresses(addresses) = &*self.contact else { return Ok(false) };
                let mapped = addresses.iter().map(|address| map_address(address, map));
                let mapped = Contact::Addresses(mapped.collect::<Result<_, _>>()?);
                let before = std::mem::replace(self.contact, mapped);
                if self.fits() {
                    return Ok(before != *self.contact);
                }
                *self.contact = before;
            }
            name => {
                let mut lines = self.headers.clone();
                for line in lines.lines_mut().iter_mut().filter(|line| line.name == *name) {
                    // What cannot be read is left to whom it is for.
                    let Ok(items) = Item::parse_line(&line.value) else { continue };
                    let mut mapped = Vec::with_capacity(items.len());
                    for item in &items {
                        mapped.extend(map(item)?);
                    }
                    if mapped != items {
                        line.value = mapped.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    }
                }
                let before = std::mem::replace(self.headers, lines);
                return self.keep_headers(before);
            }
        }
        Err(LeftOut::TooLarge)
    }

    /// Keeps the headers as they now are if the message can have them, else puts `before` back.
    fn keep_headers(&mut self, before: Headers) -> Result<bool, LeftOut> {
        if *self.headers == before {
            return Ok(false);
        }
        if self.fits() {
            return Ok(true);
        }
        *self.headers = before;
        Err(LeftOut::TooLarge)
    }

    /// Whether the message is within [`Limits::WIDEST`]: a parser should bear it.
    fn fits(&self) -> bool {
        let limits = Limits::WIDEST;
        let lines = self.fixed.1 + self.contact.addresses().len() + self.headers.len();
        let head = self.head_len();
        let addresses = [&*self.from, &*self.to].into_iter().chain(self.contact.addresses());
        lines <= limits.headers
            && head <= limits.head
            && head + self.body.len() <= limits.message
            && self.headers.iter().all(|line| line_len(line) <= limits.header_line)
            && addresses.map(ToString::to_string).all(|address| address.len() + 16 <= limits.header_line)
    }

    fn head_len(&self) -> usize {
        let start = match &self.start {
            Start::Request { uri } => uri.to_string().len() + self.method.as_str().len(),
            Start::Response { reason, .. } => reason.len(),
        };
        let addresses = [&*self.from, &*self.to].into_iter().chain(self.contact.addresses());
        let typed: usize = addresses.map(|address| address.to_string().len() + 16).sum();
        self.fixed.0 + start + self.call_id.len() + typed + self.headers.iter().map(line_len).sum::<usize>()
    }
}

fn line_len(line: &Header) -> usize {
    line.name.as_str().len() + line.value.len() + 4
}

/// Goes through a typed address; what would not be read as it was meant is refused.
fn map_address(
    address: &NameAddr,
    map: &mut dyn FnMut(&Item) -> Result<Option<Item>, LeftOut>,
) -> Result<NameAddr, LeftOut> {
    match map(&Item::Address(address.clone()))? {
        Some(Item::Address(mapped)) => match mapped.to_string().parse::<NameAddr>() {
            Ok(read) if read == mapped && read.tag() == address.tag() => Ok(mapped),
            Ok(_) | Err(_) => Err(LeftOut::Invalid),
        },
        Some(Item::Value(..)) | None => Err(LeftOut::Invalid),
    }
}

fn read_item(item: &Item, part: &HeaderPart) -> Option<String> {
    match part {
        HeaderPart::Whole => Some(item.to_string()),
        HeaderPart::Uri(part) => uri::read(&item.address()?.uri, part),
        HeaderPart::Display => Some(item.address()?.display.as_ref()?.text().into_owned()),
        HeaderPart::Param(name) => item.param(name).map(|value| value.into_owned()),
    }
}

/// The item with that part changed, or without it.
fn write_item(item: &Item, part: &HeaderPart, value: Option<&str>) -> Result<Item, LeftOut> {
    let mut item = item.clone();
    match part {
        HeaderPart::Param(name) => match value {
            Some("") => item.params_mut().set_flag(name),
            Some(value) => item.params_mut().set(name, value),
            None => item.params_mut().remove(name),
        },
        part => {
            let Item::Address(address) = &mut item else { return Err(LeftOut::Invalid) };
            match part {
                HeaderPart::Uri(part) => address.uri = uri::write(&address.uri, part, value)?,
                HeaderPart::Display | HeaderPart::Whole | HeaderPart::Param(_) => {
                    address.display = value.map(DisplayName::new);
                }
            }
        }
    }
    Ok(item)
}
