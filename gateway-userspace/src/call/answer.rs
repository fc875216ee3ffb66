//! Responses of our own making.

use super::feature::ability::{ALLOW, REL100, unsupported};
use super::feature::session_timer::MIN_SE;
use crate::base::fault::Fault;
use crate::sip::message::{HeaderName, Method, Request, Response, StatusCode};

/// Seconds after which a refused caller may try again (RFC 3261 section 20.33).
const RETRY_AFTER: &str = "10";

/// The final response that tells of `fault`, with the headers that its status asks for. The To tag is the caller's to
/// add where the request has none.
pub(crate) fn refusal(request: &Request, fault: Fault) -> Response {
    let status = StatusCode::new(fault.status()).unwrap_or(StatusCode::SERVER_INTERNAL_ERROR);
    let mut response = Response::to_request(request, status);
    let headers = &mut response.headers;
    match fault {
        Fault::MethodNotAllowed => headers.push(HeaderName::Allow, ALLOW),
        Fault::UnsupportedMediaType => headers.push(HeaderName::Accept, "application/sdp"),
        Fault::BadExtension => {
            headers.push(HeaderName::Unsupported, unsupported(&request.headers).join(", "));
        }
        // A pause for all calls is right for who is out of service, and wrong for who has one call too many: it would
        // let calls back that there is room for a moment later.
        Fault::Draining | Fault::TrunkDraining | Fault::PeersDown => {
            headers.push(HeaderName::RetryAfter, RETRY_AFTER);
        }
        Fault::SessionIntervalTooShort => headers.push(HeaderName::MinSe, MIN_SE.to_string()),
        Fault::ExtensionRequired => headers.push(HeaderName::Require, REL100),
        // A glaring re-INVITE may come again at once as far as we are concerned (RFC 3261 section 14.2).
        Fault::SequenceTooLow => headers.push(HeaderName::RetryAfter, "0"),
        // Between 0 and 10 seconds (RFC 3261 section 14.2, RFC 3311 section 5.2).
        Fault::InvitePending => headers.push(HeaderName::RetryAfter, "2"),
        _ => {}
    }
    if request.method == Method::Invite {
        headers.push(HeaderName::Reason, reason(fault));
    }
    response
}

/// The Reason header (RFC 3326; in responses RFC 6432) that says why in ISUP's words and in ours.
pub(super) fn reason(fault: Fault) -> String {
    format!("Q.850;cause={};text=\"{}\"", fault.cause(), fault.label())
}
