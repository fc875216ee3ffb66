//! Session timers (RFC 4028), negotiated on each leg by itself: a session that nobody refreshes is over.

use super::ability::TIMER;
use crate::base::time::Time;
use crate::sip::message::{Draft, HeaderName, Headers, Request, Response};
use std::time::Duration;

/// The shortest interval that we agree to, in seconds: that of RFC 4028 section 5.
pub(in crate::call) const MIN_SE: u32 = 90;

/// One leg's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::call) struct Session {
    timer: Option<Timer>,
    /// The longest Min-SE that a 422 of the peer named; 0 before one did.
    min: u32,
    /// Our refresh is under way, or was put off, until then.
    busy_until: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Timer {
    /// Seconds.
    interval: u32,
    refresher: Refresher,
    refreshed: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Refresher {
    Us,
    Peer,
}

/// What a session needs when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::call) enum Due {
    Refresh,
    /// Nobody refreshed it: BYE, a little before the peer gives up too (section 10).
    Expired,
}

/// Says what we want of the session in an INVITE or UPDATE of ours; `wanted` is the trunk's interval in seconds, `None`
/// where it wants no timer.
pub(in crate::call) fn ask(draft: &mut Draft, session: &Session, wanted: Option<u32>) {
    let running = session.timer.as_ref();
    let Some(interval) = running.map(|timer| timer.interval).or(wanted) else { return };
    draft.headers.push(HeaderName::Supported, TIMER);
    let role = running.map_or("", |timer| match timer.refresher {
        Refresher::Us => ";refresher=uac",
        Refresher::Peer => ";refresher=uas",
    });
    draft.headers.set(HeaderName::SessionExpires, format!("{}{role}", interval.max(session.min)));
    if session.min > 0 {
        draft.headers.set(HeaderName::MinSe, session.min.to_string());
    }
}

/// Whether the interval that a request asks for is too short for us, and its sender understands a 422 (section 9).
pub(in crate::call) fn is_too_short(request: &Request) -> bool {
    let asked = expires(&request.headers);
    asked.is_some_and(|(interval, _)| interval < MIN_SE)
        && request.headers.has_token(&HeaderName::Supported, TIMER)
}

impl Session {
    /// Takes what `request` asks for into our 2xx to it, and says it there (section 9).
    pub(in crate::call) fn answer(
        &mut self,
        request: &Request,
        response: &mut Response,
        wanted: Option<u32>,
        now: Time,
    ) {
        let supports = request.headers.has_token(&HeaderName::Supported, TIMER)
            || request.headers.has_token(&HeaderName::Require, TIMER);
        let min = number(&request.headers, &HeaderName::MinSe).unwrap_or(0).max(MIN_SE);
        let (interval, refresher) = match (expires(&request.headers), wanted) {
            (Some((asked, role)), wanted) => {
                let interval = wanted.map_or(asked, |wanted| wanted.min(asked)).max(min);
                let ours = !supports || role == Some(Role::Uas);
                (interval, if ours { Refresher::Us } else { Refresher::Peer })
            }
            (None, Some(wanted)) if supports => (wanted.max(min), Refresher::Peer),
            (None, _) => return self.timer = None,
        };
        let role = match refresher {
            Refresher::Us => "uas",
            Refresher::Peer => "uac",
        };
        response.headers.push(HeaderName::SessionExpires, format!("{interval};refresher={role}"));
        if refresher == Refresher::Peer {
            response.headers.push(HeaderName::Require, TIMER);
        }
        self.start(interval, refresher, now);
    }

    /// Takes what the 2xx to an INVITE or UPDATE of ours says (section 7.2).
    pub(in crate::call) fn learn(&mut self, response: &Response, now: Time) {
        match expires(&response.headers) {
            Some((interval, Some(Role::Uas))) => self.start(interval, Refresher::Peer, now),
            Some((interval, _)) => self.start(interval, Refresher::Us, now),
            None => (self.timer, self.busy_until) = (None, None),
        }
    }

    /// Takes a 422; whether it names an interval to try again with (section 7.3).
    pub(in crate::call) fn raise(&mut self, refusal: &Response) -> bool {
        let Some(min) = number(&refusal.headers, &HeaderName::MinSe) else { return false };
        let raises = min > self.min;
        self.min = self.min.max(min);
        raises
    }

    /// When [`Session::due`] is to be asked next.
    pub(in crate::call) fn deadline(&self) -> Option<Time> {
        let timer = self.timer?;
        Some(match timer.refresher {
            Refresher::Us => timer.half().max(self.busy_until.unwrap_or(Time::ZERO)).min(timer.end()),
            Refresher::Peer => timer.end(),
        })
    }

    pub(in crate::call) fn due(&self, now: Time) -> Option<Due> {
        let timer = self.timer?;
        if now >= timer.end() {
            return Some(Due::Expired);
        }
        (self.deadline()? <= now).then_some(Due::Refresh)
    }

    /// Our refresh is on its way, or cannot go now: none before `pause` is over.
    pub(in crate::call) fn put_off(&mut self, now: Time, pause: Duration) {
        self.busy_until = Some(now + pause);
    }

    fn start(&mut self, interval: u32, refresher: Refresher, now: Time) {
        let interval = interval.max(MIN_SE);
        self.timer = Some(Timer { interval, refresher, refreshed: now });
        self.busy_until = None;
    }
}

impl Timer {
    /// Section 7.2: the refresher refreshes at half the interval.
    fn half(&self) -> Time {
        self.refreshed + Duration::from_secs(self.interval.into()) / 2
    }

    /// Section 10: 32 seconds, or a third of the interval, before it ends.
    fn end(&self) -> Time {
        let ahead = (self.interval / 3).min(32);
        self.refreshed + Duration::from_secs((self.interval - ahead).into())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Uac,
    Uas,
}

/// Session-Expires: seconds, and who refreshes.
fn expires(headers: &Headers) -> Option<(u32, Option<Role>)> {
    let mut parts = headers.value(&HeaderName::SessionExpires)?.split(';');
    let interval = parts.next()?.trim().parse().ok()?;
    let role = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        match (name.trim().eq_ignore_ascii_case("refresher"), value.trim().to_ascii_lowercase().as_str()) {
            (true, "uac") => Some(Role::Uac),
            (true, "uas") => Some(Role::Uas),
            _ => None,
        }
    });
    Some((interval, role))
}

fn number(headers: &Headers, name: &HeaderName) -> Option<u32> {
    headers.value(name)?.split(';').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(interval: u32, refresher: Refresher) -> Session {
        let mut session = Session::default();
        session.start(interval, refresher, Time::ZERO);
        session
    }

    #[test]
    fn the_refresher_refreshes_at_half_and_either_gives_up_a_little_before_the_end() {
        let seconds = |seconds: u64| Time::ZERO + Duration::from_secs(seconds);
        // (interval, half, end)
        for (interval, half, end) in [(1_800, 900, 1_768), (90, 45, 60), (96, 48, 64)] {
            let mut ours = session(interval, Refresher::Us);
            assert_eq!(ours.deadline(), Some(seconds(half)));
            assert_eq!(ours.due(seconds(half - 1)), None);
            assert_eq!(ours.due(seconds(half)), Some(Due::Refresh));
            ours.put_off(seconds(half), Duration::from_secs(3_600));
            assert_eq!(ours.deadline(), Some(seconds(end)), "an unanswered refresh does not hide the end");
            assert_eq!(ours.due(seconds(end)), Some(Due::Expired));
            assert_eq!(session(interval, Refresher::Peer).deadline(), Some(seconds(end)));
        }
    }

    #[test]
    fn the_header_is_read_with_and_without_its_parameter() {
        let read = |value: &str| {
            let mut headers = Headers::default();
            headers.push(HeaderName::SessionExpires, value);
            expires(&headers).map(|(interval, role)| (interval, role.map(|role| role == Role::Uac)))
        };
        assert_eq!(read("1800"), Some((1_800, None)));
        assert_eq!(read(" 90 ; Refresher = UAC"), Some((90, Some(true))));
        assert_eq!(read("90;x=y;refresher=uas"), Some((90, Some(false))));
        assert_eq!(read("90;refresher=both"), Some((90, None)));
        for broken in ["", "soon", "-1", ";refresher=uac"] {
            assert_eq!(read(broken), None, "{broken:?}");
        }
    }
}
