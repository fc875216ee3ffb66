//! What stands behind a trunk, and what follows from it where the operator says nothing else.

use super::{
    AssertedSource, Health, HoldForm, IdentityForm, IdentityPolicy, NumberFormat, PreconditionPolicy,
    RedirectionForm, ReferPolicy, SipPolicy,
};
use crate::ice::UnknownAttributes;
use crate::sdp::{IceTerms, MediaSecurity, NoiseTerms, SecurityTerms};
use crate::sip::message::HeaderName;
use crate::srtp::Suite;
use std::time::Duration;

/// What stands behind a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Microsoft Teams: Direct Routing, Operator Connect, Teams Phone Mobile.
    Teams,
    /// Zoom Phone.
    Zoom,
    /// A carrier's core network.
    Operator,
}

/// What a trunk has unless its own settings say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usual {
    pub health: Health,
    pub progress_timeout: Duration,
    pub format: NumberFormat,
    pub identity: IdentityPolicy,
    pub redirection: RedirectionForm,
    pub sip: SipPolicy,
    pub security: SecurityTerms,
    /// Off; but once it is on, what a far end's checks may hold.
    pub ice: IceTerms,
    pub comfort_noise: NoiseTerms,
    pub voip_metrics: bool,
}

impl Usual {
    /// Of a trunk whose service may be known.
    pub fn of(service: Option<Service>) -> Self {
        let asking = Health { interval: Some(Duration::from_secs(60)), ..Health::default() };
        let usual = Self {
            health: Health::default(),
            progress_timeout: Duration::from_secs(10),
            format: NumberFormat::AsReceived,
            identity: IdentityPolicy::default(),
            redirection: RedirectionForm::None,
            sip: SipPolicy::default(),
            security: SecurityTerms::default(),
            ice: IceTerms::default(),
            comfort_noise: NoiseTerms::default(),
            voip_metrics: true,
        };
        let required =
            |suites: &[Suite]| SecurityTerms { security: MediaSecurity::Required, suites: suites.to_vec() };
        let trusted = IdentityPolicy { trusted: true, ..IdentityPolicy::default() };
        match service {
            None => usual,
            Some(Service::Operator) => Self {
                health: asking,
                identity: IdentityPolicy { form: IdentityForm::Pai, ..trusted },
                redirection: RedirectionForm::HistoryInfo,
                ..usual
            },
            // It looks for the caller in P-Asserted-Identity. What callers keep from strangers is not for it.
            Some(Service::Zoom) => Self {
                health: asking,
                format: NumberFormat::E164,
                identity: IdentityPolicy {
                    form: IdentityForm::Pai,
                    asserted: AssertedSource::ReceivedOrFrom,
                    ..IdentityPolicy::default()
                },
                // It takes no INVITE without an offer.
                sip: SipPolicy {
                    delayed_offer: false,
                    preconditions: PreconditionPolicy::Off,
                    trace_header: Some(HeaderName::Other("X-Trace-ID".into())),
                    ..usual.sip
                },
                // The order in which Zoom offers them.
                security: required(&[
                    Suite::AeadAes256Gcm,
                    Suite::Aes256CmHmacSha1_80,
                    Suite::AesCm128HmacSha1_80,
                    Suite::AesCm128HmacSha1_32,
                ]),
                // Not among the attributes that it documents.
                voip_metrics: false,
                ..usual
            },
            // Teams tries another gateway after ten seconds (FailoverTimeSeconds): our answer has to be there before.
            Some(Service::Teams) => Self {
                health: asking,
                progress_timeout: Duration::from_millis(9_500),
                format: NumberFormat::E164,
                // It shows From to its users and ignores History-Info. What it asserts, mutual TLS says is its own.
                identity: trusted,
                // It takes no INVITE without an offer, and knows no other hold than `inactive`.
                // Only it knows what the parameters of a target mean, one outside of it included.
                sip: SipPolicy {
                    delayed_offer: false,
                    preconditions: PreconditionPolicy::Off,
                    hold: HoldForm::Inactive,
                    refer: ReferPolicy::SendBack,
                    ..usual.sip
                },
                // The one suite that it documents.
                security: required(&[Suite::AesCm128HmacSha1_80]),
                // Its clients send attributes of their own.
                ice: IceTerms { is_lite: false, unknown: UnknownAttributes::Ignore },
                // It wants it in every call.
                comfort_noise: NoiseTerms::Offer,
                // Not among the attributes that it documents.
                voip_metrics: false,
                ..usual
            },
        }
    }
}

impl Service {
    /// As in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Teams => "teams",
            Self::Zoom => "zoom",
            Self::Operator => "operator",
        }
    }

    /// Whether it knows us by a name, and refuses an address in Contact.
    pub fn wants_a_name(self) -> bool {
        match self {
            Self::Teams | Self::Zoom => true,
            Self::Operator => false,
        }
    }

    /// What our requests towards it say besides what all say: header name and value.
    pub fn greeting(self) -> Option<(&'static str, &'static str)> {
        match self {
            // Vendor, model and version, for Microsoft's support.
            Self::Teams => Some(("X-MS-SBC", concat!("Causeway/Gateway/", env!("CARGO_PKG_VERSION")))),
            Self::Zoom | Self::Operator => None,
        }
    }
}
