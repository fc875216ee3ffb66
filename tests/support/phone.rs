//! A SIP phone in plain text over UDP, for tests that decide message by message. It shares no code with the
//! daemon, keeps no timers and repeats nothing: between hosts of a lab nothing is lost.

use crate::lab::{Host, Lab};
use crate::secured::Keys;
use anyhow::{Context, Result, bail};
use gateway_userspace::srtp::Suite;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// A guard: messages come within milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Payload type of telephone-event in every SDP of a phone (RFC 4733).
pub const TELEPHONE_EVENT: u8 = 101;

/// One phone on one host.
#[derive(Debug)]
pub struct Phone {
    socket: UdpSocket,
    local: SocketAddr,
    gateway: SocketAddr,
    count: u32,
    /// The one suite by which it takes calls; none for plain RTP.
    suite: Option<Suite>,
}

/// Its end of a call.
#[derive(Clone, Debug)]
pub struct Call {
    pub call_id: String,
    /// From and To of our requests.
    ours: String,
    theirs: String,
    target: String,
    sequence: u32,
    /// Where our SDP wants media.
    pub media_port: u16,
    /// Where the gateway's SDP wants it, once known.
    pub far_media: Option<SocketAddr>,
    /// Of a call that was answered with SRTP.
    pub keys: Option<Keys>,
}

/// A message, taken apart as far as tests look.
#[derive(Clone, Debug)]
pub struct Message {
    pub start: String,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Message {
    pub fn parse(text: &str) -> Result<Self> {
        let (head, body) = text.split_once("\r\n\r\n").context("no empty line")?;
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').with_context(|| format!("no header: {line}"))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        };
        Ok(Self { start, headers: lines.map(header).collect::<Result<_>>()?, body: body.to_owned() })
    }

    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        let found = self.headers.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Of a response.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    pub fn is_request(&self, method: &str) -> bool {
        self.start.split(' ').next() == Some(method) && self.status().is_none()
    }

    /// Where the audio of this SDP, or the fax in its place, goes.
    pub fn media(&self) -> Option<SocketAddr> {
        let value = |prefix| self.body.lines().find_map(|line| line.strip_prefix(prefix));
        let address = value("c=IN IP4 ").or_else(|| value("c=IN IP6 "))?.trim().parse().ok()?;
        let port = value("m=audio ").or_else(|| value("m=image "))?.split(' ').next()?.parse().ok()?;
        Some(SocketAddr::new(address, port))
    }
}

impl Call {
    /// The value of Replaces, escaped for a URI, by which an INVITE to the gateway takes the place of this dialog.
    pub fn replaces(&self) -> String {
        let tag = |address: &str| address.split_once(";tag=").map_or("0", |(_, tag)| tag).to_owned();
        let id = self.call_id.replace('@', "%40");
        format!("Replaces={id}%3Bto-tag%3D{}%3Bfrom-tag%3D{}", tag(&self.theirs), tag(&self.ours))
    }
}

impl Phone {
    /// On `host`, on port 5060, talking to the gateway's port 5060 of that side.
    pub fn new(lab: &Lab, host: Host) -> Result<Self> {
        Self::on_port(lab, host, 5060)
    }

    /// A second phone on one host has another port.
    pub fn on_port(lab: &Lab, host: Host, port: u16) -> Result<Self> {
        match host {
            Host::Caller => Self::at(lab, host, "10.81.1.2", "10.81.1.1", port),
            Host::Callee => Self::at(lab, host, "10.81.2.2", "10.81.2.1", port),
            Host::Gateway => bail!("phones are on the outer hosts"),
        }
    }

    /// On the caller's host, by IPv6.
    pub fn over_ipv6(lab: &Lab) -> Result<Self> {
        Self::at(lab, Host::Caller, "fd00:81:1::2", "fd00:81:1::1", 5060)
    }

    /// On `host`, on port 5060, talking to this proxy instead of the gateway.
    pub fn behind(lab: &Lab, host: Host, proxy: &str) -> Result<Self> {
        Ok(Self { gateway: proxy.parse()?, ..Self::new(lab, host)? })
    }

    fn at(lab: &Lab, host: Host, local: &str, gateway: &str, port: u16) -> Result<Self> {
        let local = SocketAddr::new(local.parse()?, port);
        let socket = lab.on(host, || Ok(UdpSocket::bind(local)?))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(Self { socket, local, gateway: SocketAddr::new(gateway.parse()?, 5060), count: 0, suite: None })
    }

    /// Answers with SRTP by this suite, and by no other.
    pub fn secured_by(self, suite: Suite) -> Self {
        Self { suite: Some(suite), ..self }
    }

    /// Sends an INVITE with an offer.
    pub fn invite(&mut self, number: &str, media_port: u16) -> Result<Call> {
        let offer = sdp(self.local, media_port);
        self.invite_with(number, media_port, "application/sdp", &offer)
    }

    /// Sends an INVITE with any body.
    pub fn invite_with(
        &mut self,
        number: &str,
        media_port: u16,
        content_type: &str,
        body: &str,
    ) -> Result<Call> {
        let serial = self.serial();
        let call = Call {
            call_id: format!("{serial}@{}", self.local.ip()),
            ours: format!("<sip:phone@{}>;tag=from-{serial}", self.local),
            theirs: format!("<sip:{number}@{}>", self.gateway),
            target: format!("sip:{number}@{}", self.gateway),
            sequence: 1,
            media_port,
            far_media: None,
            keys: None,
        };
        self.request(&call, "INVITE", content_type, body)?;
        Ok(call)
    }

    /// Waits for the 200 of an INVITE and acknowledges it.
    pub fn be_answered(&mut self, call: &mut Call) -> Result<()> {
        let answer = self.final_response(call)?;
        self.acknowledge(call, &answer)
    }

    /// Acknowledges this 200; any other answer is an error.
    pub fn acknowledge(&mut self, call: &mut Call, answer: &Message) -> Result<()> {
        if answer.status() != Some(200) {
            self.send(&acknowledged(call, answer))?;
            bail!("not answered: {}", answer.start);
        }
        call.theirs = answer.header("To").to_owned();
        call.target = uri(answer.header("Contact"));
        call.far_media = answer.media();
        self.request(call, "ACK", "", "")
    }

    /// Waits for a new INVITE and answers it with 200 and SDP.
    pub fn answer(&mut self, media_port: u16) -> Result<Call> {
        let call = self.respond("200 OK", media_port)?;
        let id = call.call_id.clone();
        self.receive("an ACK", |message| message.is_request("ACK") && message.header("Call-ID") == id)?;
        Ok(call)
    }

    /// Waits for a new INVITE and responds with this status line and SDP.
    pub fn respond(&mut self, status: &str, media_port: u16) -> Result<Call> {
        let sdp = sdp(self.local, media_port);
        self.respond_with(status, media_port, &sdp).map(|(call, _)| call)
    }

    /// As [`Phone::respond`], with any SDP; the INVITE comes back with the call.
    pub fn respond_with(&mut self, status: &str, media_port: u16, sdp: &str) -> Result<(Call, Message)> {
        let invite = self.be_invited()?;
        let call = self.respond_to(&invite, status, media_port, sdp)?;
        Ok((call, invite))
    }

    /// Waits for a new INVITE, to respond to it later.
    pub fn be_invited(&mut self) -> Result<Message> {
        self.receive("an INVITE", |message| message.is_request("INVITE"))
    }

    /// Responds to an INVITE as one more of the phones that it was forked to: with a tag, and keys, of its own (RFC 3261
    /// section 16.7).
    pub fn respond_to(&mut self, invite: &Message, status: &str, media_port: u16, sdp: &str) -> Result<Call> {
        let tag = format!(";tag=to-{}", self.serial());
        let keys = self.suite.map(|suite| Keys::answering(&invite.body, suite, self.count)).transpose()?;
        let call = Call {
            call_id: invite.header("Call-ID").to_owned(),
            ours: format!("{}{tag}", invite.header("To")),
            theirs: invite.header("From").to_owned(),
            target: uri(invite.header("Contact")),
            sequence: 0,
            media_port,
            far_media: invite.media(),
            keys,
        };
        self.respond_again(invite, &call, status, sdp)?;
        Ok(call)
    }

    /// Responds once more as the phone that has this end of the call.
    pub fn respond_again(&mut self, invite: &Message, call: &Call, status: &str, sdp: &str) -> Result<()> {
        let tag = call.ours.strip_prefix(invite.header("To")).context("of another INVITE")?;
        let sdp = match &call.keys {
            Some(keys) => keys.answer(&invite.body, sdp),
            None => sdp.to_owned(),
        };
        self.send(&response(invite, status, tag, self.local, &sdp))
    }

    /// Offers this SDP within the call (RFC 3261 section 14.1), and acknowledges the answer.
    pub fn reinvite(&mut self, call: &mut Call, sdp: &str) -> Result<Message> {
        call.sequence += 1;
        self.request(call, "INVITE", "application/sdp", sdp)?;
        let answer = self.final_response(call)?;
        self.acknowledge(call, &answer)?;
        Ok(answer)
    }

    /// Waits for an offer within the call, and answers it with this SDP; the INVITE comes back.
    pub fn be_reinvited(&mut self, call: &mut Call, sdp: &str) -> Result<Message> {
        self.be_reinvited_with(call, |_| Ok(sdp.to_owned()))
    }

    /// The same, with an answer that is made of the offer.
    pub fn be_reinvited_with(
        &mut self,
        call: &mut Call,
        answer: impl FnOnce(&str) -> Result<String>,
    ) -> Result<Message> {
        let id = call.call_id.clone();
        let is_of_the_call = |message: &Message| message.header("Call-ID") == id;
        let invite =
            self.receive("a re-INVITE", |message| message.is_request("INVITE") && is_of_the_call(message))?;
        call.far_media = invite.media();
        let sdp = answer(&invite.body)?;
        self.send(&response(&invite, "200 OK", "", self.local, &sdp))?;
        self.receive("an ACK", |message| message.is_request("ACK") && is_of_the_call(message))?;
        Ok(invite)
    }

    /// Asks that somebody else be called in its place (RFC 3515), and waits for the 202.
    pub fn refer(&mut self, call: &mut Call, to: &str) -> Result<()> {
        call.sequence += 1;
        let Call { target, ours, theirs, call_id, sequence, .. } = &*call;
        let (local, branch) = (self.local, format!("refer-{call_id}-{sequence}"));
        self.send(&format!(
            "REFER {target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
             From: {ours}\r\nTo: {theirs}\r\nCall-ID: {call_id}\r\nCSeq: {sequence} REFER\r\n\
             Contact: <sip:phone@{local}>\r\nRefer-To: {to}\r\nContent-Length: 0\r\n\r\n"
        ))?;
        let answer = self.response_to(call, "REFER")?;
        if answer.status() != Some(202) {
            bail!("REFER was answered by {}", answer.start);
        }
        Ok(())
    }

    /// Sends INFO (RFC 6086) within the call, and waits for its 200.
    pub fn inform(&mut self, call: &mut Call, content_type: &str, body: &str) -> Result<()> {
        call.sequence += 1;
        self.request(call, "INFO", content_type, body)?;
        let answer = self.response_to(call, "INFO")?;
        if answer.status() != Some(200) {
            bail!("INFO was answered by {}", answer.start);
        }
        Ok(())
    }

    /// Waits for INFO and answers it.
    pub fn be_informed(&mut self, call: &Call) -> Result<Message> {
        let id = call.call_id.as_str();
        let info =
            self.receive("an INFO", |message| message.is_request("INFO") && message.header("Call-ID") == id)?;
        self.send(&response(&info, "200 OK", "", self.local, ""))?;
        Ok(info)
    }

    /// Sends BYE and waits for its 200.
    pub fn hang_up(&mut self, call: &mut Call) -> Result<()> {
        self.hang_up_unanswered(call)?;
        let answer = self.response_to(call, "BYE")?;
        if answer.status() != Some(200) {
            bail!("BYE was answered by {}", answer.start);
        }
        Ok(())
    }

    /// Sends BYE only.
    pub fn hang_up_unanswered(&mut self, call: &mut Call) -> Result<()> {
        call.sequence += 1;
        self.request(call, "BYE", "", "")
    }

    /// Waits for BYE and answers it.
    pub fn be_hung_up(&mut self, call: &Call) -> Result<Message> {
        let id = call.call_id.as_str();
        let bye =
            self.receive("a BYE", |message| message.is_request("BYE") && message.header("Call-ID") == id)?;
        self.send(&response(&bye, "200 OK", "", self.local, ""))?;
        Ok(bye)
    }

    /// The final response to the INVITE of this call.
    pub fn final_response(&mut self, call: &Call) -> Result<Message> {
        self.response_to(call, "INVITE")
    }

    /// This provisional response to the INVITE of this call.
    pub fn provisional_response(&mut self, call: &Call, status: u16) -> Result<Message> {
        let id = call.call_id.as_str();
        self.receive(&format!("a {status}"), |message| {
            message.status() == Some(status) && message.header("Call-ID") == id
        })
    }

    fn response_to(&mut self, call: &Call, method: &str) -> Result<Message> {
        let (id, sequence) = (call.call_id.as_str(), format!("{} {method}", call.sequence));
        self.receive(&format!("a final response to {method}"), |message| {
            message.status().is_some_and(|status| status >= 200)
                && message.header("Call-ID") == id
                && message.header("CSeq") == sequence
        })
    }

    /// The next message that is wanted; others are passed over.
    pub fn receive(&mut self, what: &str, wanted: impl Fn(&Message) -> bool) -> Result<Message> {
        let deadline = Instant::now() + PATIENCE;
        let mut passed_over = Vec::new();
        while Instant::now() < deadline {
            let mut buffer = [0; 65_535];
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(error) => return Err(error.into()),
            };
            let message = Message::parse(std::str::from_utf8(&buffer[..length])?)?;
            if wanted(&message) {
                return Ok(message);
            }
            passed_over.push(format!("{} ({})", message.start, message.header("CSeq")));
        }
        bail!("{what} did not come; what came: {passed_over:?}")
    }

    /// Sends octets as they are.
    pub fn send_raw(&self, octets: &[u8]) -> Result<()> {
        self.socket.send_to(octets, self.gateway)?;
        Ok(())
    }

    fn send(&self, text: &str) -> Result<()> {
        self.send_raw(text.as_bytes())
    }

    fn request(&mut self, call: &Call, method: &str, content_type: &str, body: &str) -> Result<()> {
        let branch = self.serial();
        let content_type = if body.is_empty() { "" } else { &format!("Content-Type: {content_type}\r\n") };
        let Call { target, ours, theirs, call_id, sequence, .. } = call;
        self.send(&format!(
            "{method} {target} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK{branch}\r\n\
             Max-Forwards: 70\r\n\
             From: {ours}\r\nTo: {theirs}\r\nCall-ID: {call_id}\r\nCSeq: {sequence} {method}\r\n\
             Contact: <sip:phone@{local}>\r\n{content_type}\
             Content-Length: {length}\r\n\r\n{body}",
            local = self.local,
            length = body.len(),
        ))
    }

    fn serial(&mut self) -> String {
        self.count += 1;
        format!("{:x}-{:x}-{:x}", std::process::id(), self.local.port(), self.count)
    }
}

/// One answered call between two phones, with media at these ports.
pub fn connect(caller: &mut Phone, callee: &mut Phone, media_port: u16) -> Result<(Call, Call)> {
    let mut from = caller.invite("0800", media_port)?;
    // The callee waits for its ACK, which the gateway may send before or after the caller's.
    let to = std::thread::scope(|scope| {
        let answering = scope.spawn(|| callee.answer(media_port));
        caller.be_answered(&mut from)?;
        answering.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok((from, to))
}

fn sdp(local: SocketAddr, port: u16) -> String {
    let family = if local.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=phone 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 {TELEPHONE_EVENT}\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:{TELEPHONE_EVENT} telephone-event/8000\r\na=fmtp:{TELEPHONE_EVENT} 0-15\r\n",
        ip = local.ip()
    )
}

/// A response to `request`, with what the RFC has copied from it (RFC 3261 sections 8.2.6.2 and 12.1.1).
fn response(request: &Message, status: &str, tag: &str, local: SocketAddr, body: &str) -> String {
    let copied = |name: &str| -> String {
        request.headers(name).map(|value| format!("{name}: {value}\r\n")).collect()
    };
    let (vias, routes) = (copied("Via"), copied("Record-Route"));
    let content_type = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "SIP/2.0 {status}\r\n{vias}{routes}From: {from}\r\nTo: {to}{tag}\r\nCall-ID: {call_id}\r\nCSeq: {cseq}\r\n\
         Contact: <sip:phone@{local}>\r\n{content_type}Content-Length: {length}\r\n\r\n{body}",
        from = request.header("From"),
        to = request.header("To"),
        call_id = request.header("Call-ID"),
        cseq = request.header("CSeq"),
        length = body.len(),
    )
}

/// The ACK of a refusal (RFC 3261 section 17.1.1.3).
fn acknowledged(call: &Call, refusal: &Message) -> String {
    let Call { target, ours, call_id, sequence, .. } = call;
    format!(
        "ACK {target} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {ours}\r\nTo: {to}\r\n\
         Call-ID: {call_id}\r\nCSeq: {sequence} ACK\r\nContent-Length: 0\r\n\r\n",
        via = refusal.header("Via"),
        to = refusal.header("To"),
    )
}

/// Out of `<sip:…>;param` or a bare URI.
fn uri(contact: &str) -> String {
    let inner = contact.split_once('<').map_or(contact, |(_, rest)| rest);
    inner.split('>').next().unwrap_or_default().to_owned()
}
