//! The file as it is written: one struct a section, every field optional here, so that each field's error can
//! be told by itself. What a missing one means is said in `check`.

use crate::dataplane::Mode;
use crate::media::KeyTransport;
use crate::policy::manipulation;
use crate::policy::{
    AssertedSource, CauseTable, EarlyMedia, FromSource, HoldForm, IdentityForm, PreconditionPolicy,
    RedirectionForm, ReferPolicy, ReliableProvisional, Service, Spare,
};
use crate::sdp::{FaxTerms, MediaSecurity, NoiseTerms, Transcoding};
use crate::sip::auth::Password;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use toml::Spanned;

/// Octets of the file that something stands in.
pub(super) type Span = Range<usize>;
pub(super) type Field<T> = Option<Spanned<T>>;

#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) node: Node,
    pub(super) dataplane: Dataplane,
    pub(super) interfaces: Vec<(Span, Interface)>,
    pub(super) media: Media,
    pub(super) sip: Sip,
    pub(super) connections: Connections,
    pub(super) defence: Defence,
    pub(super) dns: Dns,
    pub(super) admin: Admin,
    pub(super) cdr: Cdr,
    pub(super) capture: Capture,
    pub(super) emergency: Emergency,
    pub(super) tenants: Vec<(Span, Tenant)>,
    pub(super) trunks: Vec<(Span, Trunk)>,
    pub(super) routes: Vec<(Span, Route)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Node {
    pub(super) name: Field<String>,
    pub(super) region: Field<String>,
    pub(super) workers: Field<u16>,
    pub(super) state_directory: Field<PathBuf>,
    pub(super) max_calls: Field<u32>,
    pub(super) calls_per_second: Field<u32>,
    pub(super) burst: Field<u32>,
    pub(super) keep_ended_calls: Field<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Dataplane {
    pub(super) mode: Field<Mode>,
    pub(super) flows: Field<u32>,
    pub(super) secured_flows: Field<u32>,
    pub(super) socket_frames: Field<u32>,
    pub(super) pin_directory: Field<PathBuf>,
    pub(super) traced: Field<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Interface {
    pub(super) name: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Media {
    pub(super) ports: Field<String>,
    pub(super) quarantine_seconds: Field<u16>,
    pub(super) timeout_seconds: Field<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sip {
    pub(super) t1_ms: Field<u32>,
    pub(super) t2_ms: Field<u32>,
    pub(super) t4_ms: Field<u32>,
    pub(super) max_transactions: Field<u32>,
    pub(super) retry_after_seconds: Field<u16>,
    pub(super) max_message_bytes: Field<u32>,
    pub(super) max_headers: Field<u16>,
    pub(super) max_body_bytes: Field<u32>,
    pub(super) max_request_uri_bytes: Field<u32>,
    pub(super) max_contact_uri_bytes: Field<u32>,
    pub(super) max_userinfo_bytes: Field<u32>,
    pub(super) max_from_host_bytes: Field<u32>,
    pub(super) max_header_name_bytes: Field<u32>,
    pub(super) max_media_type_bytes: Field<u32>,
    pub(super) max_options_bytes: Field<u32>,
    pub(super) max_option_bytes: Field<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Connections {
    pub(super) max: Field<u32>,
    pub(super) max_per_source: Field<u32>,
    pub(super) connect_seconds: Field<u32>,
    pub(super) handshake_seconds: Field<u32>,
    pub(super) head_seconds: Field<u32>,
    pub(super) body_seconds: Field<u32>,
    pub(super) idle_seconds: Field<u32>,
    pub(super) ping_seconds: Field<u32>,
    pub(super) renewal_seconds: Field<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Defence {
    pub(super) enabled: Field<bool>,
    pub(super) packets_per_second: Field<u32>,
    pub(super) burst: Field<u32>,
    pub(super) offences: Field<u32>,
    pub(super) window_seconds: Field<u32>,
    pub(super) deny_seconds: Field<u32>,
    pub(super) spare: Field<Spare>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Dns {
    pub(super) servers: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Admin {
    pub(super) listen: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Cdr {
    pub(super) path: Field<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Capture {
    pub(super) audio: Field<bool>,
    pub(super) secrets: Field<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Emergency {
    pub(super) numbers: Vec<Spanned<String>>,
    pub(super) to: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tenant {
    pub(super) name: Field<String>,
    pub(super) numbers: Vec<Spanned<String>>,
    pub(super) hosts: Vec<Spanned<String>>,
    pub(super) id: Field<String>,
    pub(super) screening: Field<bool>,
    pub(super) limits: CallLimits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Trunk {
    pub(super) name: Field<String>,
    pub(super) service: Field<Service>,
    pub(super) listen: Field<String>,
    pub(super) advertised: Field<String>,
    pub(super) peers: Vec<Spanned<Peer>>,
    pub(super) allowed: Vec<Spanned<String>>,
    pub(super) media_address: Field<String>,
    pub(super) default_to: Field<String>,
    pub(super) peer_timeout_ms: Field<u32>,
    pub(super) progress_timeout_ms: Field<u32>,
    pub(super) tenants: Field<bool>,
    pub(super) numbers: TrunkNumbers,
    pub(super) identity: TrunkIdentity,
    pub(super) digest: Option<TrunkDigest>,
    pub(super) callers: Option<TrunkCallers>,
    pub(super) registration: Option<TrunkRegistration>,
    pub(super) limits: CallLimits,
    pub(super) overload_control: Field<bool>,
    pub(super) health: TrunkHealth,
    pub(super) media: TrunkMedia,
    pub(super) tones: Option<Spanned<TrunkTones>>,
    pub(super) sip: TrunkSip,
    pub(super) tls: Option<TrunkTls>,
    pub(super) variables: Field<BTreeMap<String, String>>,
    pub(super) rule: Vec<Spanned<Rule>>,
}

/// A file of rules by itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RuleFile {
    pub(super) variables: Field<BTreeMap<String, String>>,
    pub(super) rule: Vec<Spanned<Rule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rule {
    pub(super) name: Field<String>,
    pub(super) direction: Field<manipulation::Direction>,
    pub(super) message: Field<manipulation::Kind>,
    pub(super) method: Vec<Spanned<String>>,
    pub(super) status: Vec<Spanned<String>>,
    pub(super) dialog: Field<RuleDialog>,
    pub(super) when: Vec<Spanned<Condition>>,
    #[serde(rename = "do")]
    pub(super) actions: Vec<Spanned<Action>>,
    pub(super) last: Field<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RuleDialog {
    Outside,
    Inside,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Condition {
    pub(super) value: Field<String>,
    pub(super) present: Field<bool>,
    pub(super) is: Field<Vec<String>>,
    pub(super) matches: Field<String>,
    pub(super) not: Field<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Action {
    pub(super) add: Field<String>,
    pub(super) set: Field<String>,
    pub(super) remove: Field<String>,
    pub(super) rename: Field<String>,
    pub(super) rewrite: Field<String>,
    pub(super) copy: Field<String>,
    pub(super) remove_codecs: Field<Vec<String>>,
    pub(super) keep_codecs: Field<Vec<String>>,
    pub(super) order_codecs: Field<Vec<String>>,
    pub(super) value: Field<String>,
    pub(super) to: Field<String>,
    pub(super) pattern: Field<String>,
    pub(super) with: Field<String>,
    pub(super) matching: Field<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Peer {
    #[serde(default)]
    pub(super) name: Field<String>,
    pub(super) address: Spanned<String>,
    #[serde(default)]
    pub(super) region: Field<String>,
    /// A number, or one for each region.
    #[serde(default)]
    pub(super) priority: Field<toml::Value>,
    #[serde(default = "one")]
    pub(super) weight: u16,
    #[serde(default)]
    pub(super) allowed: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) allowed_media: Vec<Spanned<String>>,
}

fn one() -> u16 {
    1
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TrunkNumbers {
    pub(super) country: Field<String>,
    pub(super) national_prefix: Field<String>,
    pub(super) international_prefix: Field<String>,
    pub(super) format: Field<NumberFormat>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TrunkIdentity {
    pub(super) trusted: Field<bool>,
    pub(super) form: Field<IdentityForm>,
    pub(super) from: Field<FromSource>,
    pub(super) asserted: Field<AssertedSource>,
    pub(super) redirection: Field<RedirectionForm>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TrunkDigest {
    pub(super) realm: Field<String>,
    pub(super) user: Field<String>,
    pub(super) password: Field<Password>,
    pub(super) md5: Field<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TrunkRegistration {
    pub(super) domain: Field<String>,
    pub(super) user: Field<String>,
    pub(super) expires_seconds: Field<u32>,
    pub(super) instance: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TrunkCallers {
    pub(super) realm: Field<String>,
    pub(super) users: Field<BTreeMap<String, Password>>,
    pub(super) algorithms: Field<Vec<Spanned<String>>>,
    pub(super) nonce_seconds: Field<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum NumberFormat {
    AsReceived,
    E164,
    National,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CallLimits {
    pub(super) calls: Field<u32>,
    pub(super) calls_per_second: Field<u32>,
    pub(super) burst: Field<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TrunkHealth {
    pub(super) interval_seconds: Field<u32>,
    pub(super) retry_seconds: Field<u32>,
    pub(super) timeout_ms: Field<u32>,
    pub(super) down_after: Field<u8>,
    pub(super) up_after: Field<u8>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TrunkMedia {
    pub(super) gate: Field<String>,
    pub(super) latch: Field<Latch>,
    pub(super) hear_before_answer: Field<bool>,
    pub(super) dscp: Field<u8>,
    pub(super) packets_per_second: Field<u32>,
    pub(super) burst: Field<u32>,
    pub(super) codecs: Field<Vec<Spanned<String>>>,
    pub(super) transcode: Field<Transcoding>,
    pub(super) dtmf: Field<KeyTransport>,
    pub(super) packet_ms: Field<u16>,
    pub(super) offer_rtcp_mux: Field<bool>,
    pub(super) voip_metrics: Field<bool>,
    pub(super) security: Field<MediaSecurity>,
    pub(super) suites: Field<Vec<Spanned<String>>>,
    pub(super) ice: Field<IceMode>,
    pub(super) fax: Field<FaxTerms>,
    pub(super) comfort_noise: Field<NoiseTerms>,
    pub(super) relay: Field<Relay>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TrunkTones {
    pub(super) country: Field<String>,
    pub(super) ringback: Field<String>,
    pub(super) busy: Field<String>,
    pub(super) congestion: Field<String>,
    pub(super) on_ringing: Field<bool>,
    pub(super) silence_ms: Field<u32>,
    pub(super) on_transfer: Field<bool>,
    pub(super) refusal_seconds: Field<u32>,
    pub(super) announcements: BTreeMap<String, Spanned<PathBuf>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum IceMode {
    Lite,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Relay {
    Kernel,
    Userspace,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TrunkTls {
    pub(super) certificate: Field<PathBuf>,
    pub(super) key: Field<PathBuf>,
    pub(super) roots: Vec<Spanned<PathBuf>>,
    pub(super) peer_names: Vec<Spanned<String>>,
    pub(super) mutual: Field<bool>,
    pub(super) engine: Field<String>,
    pub(super) versions: Vec<Spanned<String>>,
    pub(super) suites: Field<Vec<Spanned<String>>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Latch {
    Signalled,
    SameSsrc,
    FirstPacket,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TrunkSip {
    pub(super) reliable_provisional: Field<ReliableProvisional>,
    pub(super) preconditions: Field<PreconditionPolicy>,
    pub(super) early_media: Field<EarlyMedia>,
    pub(super) p_early_media: Field<bool>,
    pub(super) delayed_offer: Field<bool>,
    pub(super) hold: Field<HoldForm>,
    pub(super) refer: Field<ReferPolicy>,
    pub(super) session_expires_seconds: Field<u32>,
    pub(super) tcp_when_large: Field<bool>,
    pub(super) slim_when_large: Field<bool>,
    pub(super) trace_header: Field<String>,
    pub(super) cause_table: Field<CauseTable>,
    pub(super) causes: Field<BTreeMap<String, u8>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Route {
    pub(super) prefix: Field<String>,
    pub(super) from: Field<String>,
    pub(super) to: Field<String>,
}
