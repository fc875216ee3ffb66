//! Where a request inside a dialog goes (RFC 3261 section 12.2.1.1): past loose routers and past strict ones.

use crate::sip::message::{NameAddr, Uri};

/// The route set of the caller: Record-Route lists the proxies from the callee's end.
pub(super) fn reversed(record_route: &[NameAddr]) -> Vec<NameAddr> {
    record_route.iter().rev().cloned().collect()
}

/// Request-URI and Route for a route set and a remote target.
pub(super) fn address(route_set: &[NameAddr], remote_target: &Uri) -> (Uri, Vec<NameAddr>) {
    match route_set.split_first() {
        None => (remote_target.clone(), Vec::new()),
        Some((first, _)) if is_loose(&first.uri) => (remote_target.clone(), route_set.to_vec()),
        // A strict router takes its own URI for the Request-URI and finds the target at the end of Route.
        Some((first, rest)) => {
            let mut route = rest.to_vec();
            route.push(NameAddr::new(remote_target.clone()));
            (without_what_no_request_uri_has(&first.uri), route)
        }
    }
}

fn is_loose(uri: &Uri) -> bool {
    uri.params().is_some_and(|params| params.has("lr"))
}

/// RFC 3261 section 19.1.1, table 1: no `method` parameter and no headers.
fn without_what_no_request_uri_has(uri: &Uri) -> Uri {
    match uri {
        Uri::Sip(uri) => {
            let mut uri = uri.clone();
            uri.params.remove("method");
            uri.headers = None;
            Uri::Sip(uri)
        }
        Uri::Tel(_) | Uri::Absolute(_) => uri.clone(),
    }
}
