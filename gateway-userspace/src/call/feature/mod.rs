//! What SIP extensions and other features do inside a call, one file each. Phases call them; none knows a phase.

pub(super) mod ability;
pub(super) mod correlation;
pub(super) mod early_media;
pub(super) mod hold;
pub(super) mod keys;
pub(super) mod local_answer;
pub(super) mod reason;
pub(super) mod reliable;
pub(super) mod session_timer;
pub(super) mod transfer;
