//! Events as log lines: what concerns the node at `info` and above, single calls at `debug`, so that a busy
//! node does not write a line per message unless asked to.

use super::event::{Datapath, Event};

pub(super) fn log(event: &Event) {
    match event {
        Event::CallStarted(start) => {
            tracing::debug!(call = %start.call, caller = %start.caller, called = %start.called,
                trunk = %start.trunk, "call started");
        }
        Event::CallAdopted { start, .. } => {
            tracing::info!(call = %start.call, "call taken over after a restart")
        }
        Event::Sip { call: Some(call), message } => tracing::trace!(%call, ?message, "sip"),
        Event::Sip { call: None, message } => tracing::trace!(?message, "sip"),
        Event::Routed { call, trunk, peer, attempt } => {
            tracing::debug!(%call, %trunk, %peer, attempt, "routed");
        }
        Event::Alerted { call, since_invite } => tracing::debug!(%call, ?since_invite, "ringing"),
        Event::Answered { call } => tracing::debug!(%call, "answered"),
        Event::MediaPlanned { call, media } => tracing::debug!(%call, ?media, "media planned"),
        Event::Transfer { call, side, step } => tracing::debug!(%call, ?side, ?step, "transfer"),
        Event::Dtmf { call, from, .. } => tracing::debug!(%call, ?from, "telephone-event"),
        Event::CallPanicked { call, place, message } => {
            tracing::error!(%call, place, message, "a call panicked and is ended: please report this as a bug");
        }
        Event::Ended(end) => {
            let fault = end.fault.map(|fault| fault.label());
            tracing::debug!(call = %end.start.call, status = end.status, fault, by = ?end.by, "call ended");
        }
        Event::Refused { fault, source } => {
            tracing::debug!(fault = fault.label(), %source, "request refused")
        }
        Event::Silenced { source } => tracing::debug!(%source, "message from an unknown source dropped"),
        Event::ConfigReloaded { outcome: Ok(()) } => tracing::info!("configuration reloaded"),
        Event::ConfigReloaded { outcome: Err(error) } => {
            tracing::error!("configuration not reloaded, the old one stays in force: {error}");
        }
        Event::PathChanged { interface, path: Datapath::Native } => {
            tracing::info!(%interface, "media path: native XDP");
        }
        // Slower than it could be: never silently.
        Event::PathChanged { interface, path } => {
            tracing::warn!(%interface, path = path.label(), "media path is not native XDP: more CPU per packet");
        }
        // The room that has the socket knows more, and has told it.
        Event::HandshakeFailed { .. } => {}
        // Who denies tells of it, and of a flood of them only once in a while.
        Event::SourceDenied { network, cause, span } => {
            tracing::debug!(%network, %cause, ?span, "source denied");
        }
        Event::SourceAllowed { network } => tracing::info!(%network, "source denied no more"),
        Event::CertificateExpires { trunk, subject, days } => {
            tracing::warn!(%trunk, %subject, days, "certificate expires soon: renew it and reload");
        }
        Event::Trunk(event) => super::trunk::log(event),
        // One of each core; who asks for it tells the operator once.
        Event::DrainBegun { calls } => tracing::debug!(calls, "core drains"),
        Event::DrainEnded => tracing::debug!("core takes calls again"),
    }
}
