//! What the caller hears of the callee's provisional responses: one early dialog and one session description, however
//! many branches ring behind the callee's trunk.

use crate::policy::EarlyMedia;
use crate::sip::message::{HeaderName, Headers, StatusCode};

/// What the caller has heard since its INVITE.
#[derive(Debug, Default)]
pub(in crate::call) struct Heard {
    /// Status, whether a session description came with it, and the branch that said it.
    told: Vec<(u16, bool, Box<str>)>,
}

/// What is told of one provisional response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::call) enum Telling {
    /// Nothing: the caller knows, or its trunk's peer asked not to be told.
    Nothing,
    /// This status alone.
    Bare(StatusCode),
    /// This status and the session description.
    Described(StatusCode),
}

const EARLY_DIALOG_TERMINATED: StatusCode = StatusCode::new(199).expect("199 is a status code");
/// Branches times responses of one INVITE that are remembered.
const MAX_TOLD: usize = 64;

impl Heard {
    /// What to tell of a `status` (101 to 199) that `branch` said, with a session description if `describes`.
    pub(in crate::call) fn tell(
        &mut self,
        mode: EarlyMedia,
        status: StatusCode,
        describes: bool,
        branch: &str,
    ) -> Telling {
        // RFC 6228: a branch has ended, which the caller, who sees one dialog, need not know.
        if status == EARLY_DIALOG_TERMINATED {
            return Telling::Nothing;
        }
        let (status, describes) = match mode {
            EarlyMedia::Ringing => (StatusCode::RINGING, false),
            EarlyMedia::Pass | EarlyMedia::FirstOnly => (status, describes),
        };
        if mode == EarlyMedia::FirstOnly && !self.told.is_empty() {
            return Telling::Nothing;
        }
        let same = |(told, described, by): &(u16, bool, Box<str>)| {
            *told == status.code() && *described >= describes && &**by != branch
        };
        // One branch may ring again, so that nobody on the way gives up (RFC 3261 section 13.3.1.1).
        if self.told.iter().any(same) {
            return Telling::Nothing;
        }
        if self.told.len() < MAX_TOLD {
            self.told.push((status.code(), describes, branch.into()));
        }
        if describes { Telling::Described(status) } else { Telling::Bare(status) }
    }
}

/// Who may send early media, for a caller that asked by `P-Early-Media: supported` (RFC 5009 section 8): as the
/// callee's network says, else both.
pub(in crate::call) fn authorization(invite: &Headers, provisional: &Headers) -> Option<String> {
    if !invite.has_token(&HeaderName::PEarlyMedia, "supported") {
        return None;
    }
    let known = ["sendrecv", "sendonly", "recvonly", "inactive"];
    let said = known.into_iter().find(|word| provisional.has_token(&HeaderName::PEarlyMedia, word));
    let mut value = said.unwrap_or("sendrecv").to_owned();
    if provisional.has_token(&HeaderName::PEarlyMedia, "gated") {
        value.push_str(", gated");
    }
    Some(value)
}

/// For such a caller, of media that is ours: nobody hears what the caller sends.
pub(in crate::call) fn authorization_of_ours(invite: &Headers) -> Option<String> {
    invite.has_token(&HeaderName::PEarlyMedia, "supported").then(|| "sendonly".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(mode: EarlyMedia, said: &[(u16, bool, &str)]) -> Vec<String> {
        let mut heard = Heard::default();
        said.iter()
            .map(|(status, describes, branch)| {
                let status = StatusCode::new(*status).unwrap();
                match heard.tell(mode, status, *describes, branch) {
                    Telling::Nothing => "-".into(),
                    Telling::Bare(status) => status.code().to_string(),
                    Telling::Described(status) => format!("{} with SDP", status.code()),
                }
            })
            .collect()
    }

    #[test]
    fn each_mode_tells_what_it_says() {
        let said =
            [(180, false, "a"), (180, false, "b"), (183, true, "b"), (180, false, "a"), (199, false, "a")];
        assert_eq!(told(EarlyMedia::Pass, &said), ["180", "-", "183 with SDP", "180", "-"]);
        assert_eq!(told(EarlyMedia::FirstOnly, &said), ["180", "-", "-", "-", "-"]);
        assert_eq!(told(EarlyMedia::Ringing, &said), ["180", "-", "-", "180", "-"]);
        assert_eq!(told(EarlyMedia::Ringing, &[(183, true, "a")]), ["180"]);
        assert_eq!(
            told(EarlyMedia::FirstOnly, &[(183, true, "a"), (180, false, "a")]),
            ["183 with SDP", "-"]
        );
    }

    #[test]
    fn early_media_is_authorized_where_the_caller_asked_and_as_the_callee_says() {
        let headers = |value: Option<&str>| {
            let mut headers = Headers::default();
            value.into_iter().for_each(|value| headers.push(HeaderName::PEarlyMedia, value));
            headers
        };
        let asked = headers(Some("supported"));
        assert_eq!(authorization(&headers(None), &headers(Some("sendonly"))), None);
        assert_eq!(authorization(&asked, &headers(None)).as_deref(), Some("sendrecv"));
        assert_eq!(authorization(&asked, &headers(Some("sendonly"))).as_deref(), Some("sendonly"));
        assert_eq!(
            authorization(&asked, &headers(Some("inactive, gated"))).as_deref(),
            Some("inactive, gated")
        );
    }
}
