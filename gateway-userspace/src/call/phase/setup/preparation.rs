//! What an INVITE is checked for before anything is sent, and both legs as they begin.

use super::ringback::Ringback;
use super::{Callee, Setup};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::base::redact::Number;
use crate::call::facts::Facts;
use crate::call::feature::ability::{Abilities, REL100};
use crate::call::feature::correlation;
use crate::call::feature::early_media::Heard;
use crate::call::feature::reliable::Provisional;
use crate::call::feature::session_timer::{self, Session};
use crate::call::leg::{Leg, TrunkRef};
use crate::call::phase::tell_of_invite;
use crate::call::{Action, Context, Invitation, media};
use crate::observe::event::CallStart;
use crate::observe::{self, TrunkEvent};
use crate::policy::{
    Caller, Candidates, Decision, Inquiry, Permit, PreconditionPolicy, Redirection, ReliableProvisional,
};
use crate::sip::dialog::Dialog;
use crate::sip::message::{HeaderName, Request, Response, StatusCode, Uri};
use crate::sip::transport::Hop;
use std::sync::Arc;

/// Checks the INVITE and prepares both legs. On refusal nothing was done, and the INVITE comes back.
pub(in crate::call) fn begin(
    invitation: Invitation,
    context: &mut Context<'_>,
) -> Result<(Facts, Setup), (Fault, Box<Request>)> {
    let Invitation { id, server, request, hop, trunk, permit, emergency } = invitation;
    let prepared = prepare(&request, hop, trunk.clone(), emergency, context);
    let Prepared { caller, callee, admission, offered } = match prepared {
        Ok(prepared) => prepared,
        Err(fault) => return Err((fault, request)),
    };
    let Admission { candidates, permit: to_trunk, tenants, of_tenants } = admission;
    let start = CallStart {
        call: id,
        caller: callee.caller.number(),
        called: Number::new(callee.called.as_str()),
        trunk: Arc::from(trunk.name.as_str()),
        source: hop.remote,
        tenants,
    };
    context.push(Action::Publish(observe::Event::CallStarted(Box::new(start.clone()))));
    tell_of_invite(id, Side::Caller, &request, context);
    let trying = Response::to_request(&request, StatusCode::TRYING);
    context.push(Action::Respond { server, response: Box::new(trying) });
    let mut facts = Facts::new(start, context.now);
    tell_of_limits(&facts, (&callee.trunk, &to_trunk), &of_tenants, context);
    facts.permits = [Some(permit), Some(to_trunk)];
    facts.of_tenants = of_tenants;
    facts.heard_from(Side::Caller, &request.headers, &caller.trunk);
    let policy = caller.trunk.sip.reliable_provisional;
    let provisional = Provisional::of(server, &request, policy, context.tokens.number());
    let setup = Setup {
        caller,
        server,
        request,
        provisional,
        heard: Heard::default(),
        offered,
        callee,
        candidates,
        attempts: Vec::new(),
        is_waiting: false,
        held: None,
        ringback: Ringback::default(),
        refusing: None,
    };
    Ok((facts, setup))
}

/// Warns where this call has brought a trunk or a tenant near what it may have.
fn tell_of_limits(
    facts: &Facts,
    (trunk, permit): (&TrunkRef, &Permit),
    of_tenants: &[Option<Permit>; 2],
    context: &mut Context<'_>,
) {
    let mut tell = |event| context.push(Action::Publish(observe::Event::Trunk(event)));
    if let Some(limit) = permit.near_limit {
        tell(TrunkEvent::NearLimit { trunk: trunk.name.as_str().into(), limit });
    }
    for (tenant, permit) in facts.start.tenants.iter().zip(of_tenants) {
        if let (Some(tenant), Some(Permit { near_limit: Some(limit), .. })) = (tenant, permit) {
            tell(TrunkEvent::TenantNearLimit { tenant: Arc::clone(tenant), limit: *limit });
        }
    }
}

/// Both legs before anything is sent.
struct Prepared {
    caller: Leg,
    callee: Callee,
    admission: Admission,
    offered: bool,
}

/// Where a call goes, and by whose leave.
struct Admission {
    candidates: Candidates,
    /// Of the trunk that it goes to.
    permit: Permit,
    /// Whose users the caller and the called one are.
    tenants: [Option<Arc<str>>; 2],
    of_tenants: [Option<Permit>; 2],
}

fn admit(
    request: &Request,
    trunk: &TrunkRef,
    caller: &Caller,
    (called, emergency): (&str, bool),
    context: &mut Context<'_>,
) -> Result<Admission, Fault> {
    let tenant = context.policy.screen(trunk, request, caller, emergency)?;
    let (now, spread) = (context.now, context.tokens.number());
    let inquiry = Inquiry { from: trunk.id(), called, emergency, now, spread };
    let Decision { candidates, permit, tenant: callee } = context.policy.decide(&inquiry)?;
    let tenants = [tenant, callee];
    let names = tenants.each_ref().map(Option::as_deref);
    let of_tenants = match emergency {
        true => context.policy.tenants().enter_above(names),
        false => context.policy.tenants().enter(names, now)?,
    };
    Ok(Admission { candidates, permit, tenants, of_tenants })
}

fn prepare(
    request: &Request,
    hop: Hop,
    trunk: TrunkRef,
    emergency: bool,
    context: &mut Context<'_>,
) -> Result<Prepared, Fault> {
    let called = match context.policy.emergency().number(&request.uri) {
        Some(number) => number.to_owned(),
        None => called_number(request, &trunk)?,
    };
    let speaks_100rel = [HeaderName::Supported, HeaderName::Require]
        .iter()
        .any(|header| request.headers.has_token(header, REL100));
    if trunk.sip.reliable_provisional == ReliableProvisional::Required && !speaks_100rel {
        return Err(Fault::ExtensionRequired);
    }
    if session_timer::is_too_short(request) {
        return Err(Fault::SessionIntervalTooShort);
    }
    let offer = media::description_of_request(request)?;
    let caller = Caller::of(request, &trunk);
    let admission = admit(request, &trunk, &caller, (&called, emergency), context)?;
    let to_trunk =
        TrunkRef::new(Arc::clone(context.policy), admission.candidates.trunk()).ok_or(Fault::NoRoute)?;
    let tag = context.tokens.token();
    let dialog =
        Dialog::from_request(request, &tag, trunk.contact(), false).map_err(|refused| refused.fault())?;
    let redirection = Redirection::of(request, &trunk, &caller);
    let mut near = media::open(&trunk, context)?;
    let offered = offer.is_some();
    let taken = match offer {
        Some(offer) => near.receive_offer(offer).map_err(|refusal| refusal.fault()),
        None => Ok(()),
    };
    let far = taken.and_then(|()| media::open(&to_trunk, context));
    let far = match far {
        Ok(far) => far,
        Err(fault) => {
            context.ports.release(near.local(), context.now);
            return Err(fault);
        }
    };
    let abilities = Abilities::of(&request.headers);
    let charging = correlation::charging_vector(&request.headers, &trunk);
    let leg = Leg {
        trunk,
        hop,
        dialog,
        media: near,
        abilities,
        session: Session::default(),
        acknowledged_with: String::new(),
        authorization: (0, Vec::new()),
        charging,
    };
    let asks = to_trunk.sip.preconditions == PreconditionPolicy::Offered;
    let mut callee = Callee {
        has_offer: offered || !to_trunk.sip.delayed_offer,
        trunk: to_trunk,
        media: far,
        session: Session::default(),
        invite: None,
        called,
        caller,
        redirection,
    };
    if asks {
        callee.ask_for_preconditions();
    }
    Ok(Prepared { caller: leg, callee, admission, offered })
}

/// The called number or name, as the trunk's far end means it.
fn called_number(request: &Request, trunk: &TrunkRef) -> Result<String, Fault> {
    // A registrar calls the Contact that we gave it; whom the call is for, To says (RFC 3261 section 16.5).
    let ours =
        trunk.registration.as_ref().is_some_and(|own| request.uri.user().as_deref() == Some(&own.user));
    let uri = if ours { &request.head.to.uri } else { &request.uri };
    match uri {
        Uri::Sip(_) | Uri::Tel(_) => trunk.numbers.read_uri(uri).ok_or(Fault::NoRoute),
        Uri::Absolute(_) => Err(Fault::UnsupportedUriScheme),
    }
}
