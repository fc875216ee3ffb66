//! What the sender of a REFER hears of the call that it asked for (RFC 3515 section 2.4.5): one NOTIFY after the other, the
//! last one with the final status.

use crate::base::id::Side;
use crate::call::leg::Leg;
use crate::call::{Context, RequestKey};
use crate::sip::message::{HeaderName, Method, Request, StatusCode};

/// The subscription that a REFER made.
#[derive(Debug)]
pub(in crate::call) struct Subscription {
    /// Of the REFER among those of the call.
    pub(in crate::call) number: u8,
    /// The Call-ID of the dialog that it was made in.
    pub(in crate::call) call_id: String,
    /// The REFER's sequence number.
    id: u32,
    /// Of the status told last.
    told: Option<StatusCode>,
    /// A NOTIFY waits for its answer: another could overtake it.
    is_open: bool,
    waiting: Option<StatusCode>,
}

/// A subscription that is not over, as it outlives the process.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(in crate::call) struct Referred {
    pub(in crate::call) call_id: String,
    pub(in crate::call) id: u32,
    /// The other side's peer has it, and tells of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::call) passed: Option<Passed>,
}

/// A REFER that the other side has accepted.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(in crate::call) struct Passed {
    /// Who asked.
    pub(in crate::call) from: Side,
    /// Of the REFER that the other side has.
    pub(in crate::call) sequence: u32,
}

/// Seconds that the target may take to answer and its news to arrive.
const EXPIRES: u32 = 300;

impl Subscription {
    pub(in crate::call) fn new(number: u8, leg: &Leg, id: u32) -> Self {
        let call_id = leg.dialog.call_id().to_owned();
        Self { number, call_id, id, told: None, is_open: false, waiting: None }
    }

    /// Tells how the call goes, at once or when the NOTIFY before is answered. What was told is not told again.
    pub(in crate::call) fn tell(&mut self, leg: &mut Leg, status: StatusCode, context: &mut Context<'_>) {
        if self.told == Some(status) || self.told.is_some_and(StatusCode::is_final) {
            return;
        }
        self.told = Some(status);
        if self.is_open && leg.dialog.state() != TERMINATED {
            self.waiting = Some(status);
        } else {
            self.send(leg, status, context);
        }
    }

    /// Tells it now, whatever is under way: the dialog is about to end.
    pub(in crate::call) fn finish(&mut self, leg: &mut Leg, status: StatusCode, context: &mut Context<'_>) {
        self.is_open = false;
        match self.waiting.take() {
            Some(last) if last.is_final() => self.send(leg, last, context),
            _ => self.tell(leg, status, context),
        }
    }

    /// The final answer to a NOTIFY, or none came; `false` where nothing more is to be told.
    pub(in crate::call) fn answered(&mut self, leg: &mut Leg, ok: bool, context: &mut Context<'_>) -> bool {
        self.is_open = false;
        // RFC 6665 section 4.2.2: who refuses a NOTIFY has no subscription any more.
        match self.waiting.take().filter(|_| ok) {
            Some(status) => {
                self.send(leg, status, context);
                true
            }
            None => ok && !self.told.is_some_and(StatusCode::is_final),
        }
    }

    /// What the next daemon needs to go on with it, or to end it; `None` where everything is told.
    pub(in crate::call) fn referred(&self) -> Option<Referred> {
        let (call_id, id) = (self.call_id.clone(), self.id);
        (!self.told.is_some_and(StatusCode::is_final)).then_some(Referred { call_id, id, passed: None })
    }

    fn send(&mut self, leg: &mut Leg, status: StatusCode, context: &mut Context<'_>) {
        if leg.dialog.state() == TERMINATED {
            return;
        }
        self.is_open = true;
        notify(leg, self.number, self.id, status, context);
    }
}

/// One NOTIFY of the subscription that the REFER with this sequence number made.
pub(in crate::call) fn notify(
    leg: &mut Leg,
    number: u8,
    id: u32,
    status: StatusCode,
    context: &mut Context<'_>,
) {
    let mut draft = leg.dialog.request(Method::Notify);
    let state = match status.is_final() {
        true => "terminated;reason=noresource".to_owned(),
        false => format!("active;expires={EXPIRES}"),
    };
    draft.headers.push(HeaderName::Event, format!("refer;id={id}"));
    draft.headers.push(HeaderName::SubscriptionState, state);
    draft.set_body("message/sipfrag;version=2.0", format!("SIP/2.0 {status} {}\r\n", status.phrase()));
    leg.request(context, RequestKey::Notify { number }, draft);
}

/// How the call goes that our REFER with this sequence number asked for, as a NOTIFY says it; `None` where it speaks of
/// something else, or in words that cannot be read. A subscription that ends without a final status has failed.
pub(in crate::call) fn reported(notify: &Request, sequence: u32) -> Option<StatusCode> {
    let mut event = notify.headers.value(&HeaderName::Event)?.split(';').map(str::trim);
    if !event.next()?.eq_ignore_ascii_case("refer") {
        return None;
    }
    let id = event.find_map(|part| part.strip_prefix("id="));
    if id.is_some_and(|id| id.parse() != Ok(sequence)) {
        return None;
    }
    let line = String::from_utf8_lossy(&notify.body);
    let status = line.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.and_then(StatusCode::new);
    let state = notify.headers.value(&HeaderName::SubscriptionState).unwrap_or_default();
    let is_over = state.split(';').next().is_some_and(|word| word.trim().eq_ignore_ascii_case("terminated"));
    match status {
        Some(status) if status.is_final() || !is_over => Some(status),
        Some(_) | None => is_over.then_some(StatusCode::SERVICE_UNAVAILABLE),
    }
}

const TERMINATED: crate::sip::dialog::lifetime::State = crate::sip::dialog::lifetime::State::Terminated;
