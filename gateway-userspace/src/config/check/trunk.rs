//! One trunk: what its fields say, each by itself.

use super::super::error::ConfigErrors;
use super::super::file::{self, Field, Span};
use super::parsed;
use super::peer::{media_networks, peer};
use crate::media::plan::RateLimit;
use crate::media::{GatePolicy, MediaPolicy};
use crate::policy::{
    Advertised, CauseMap, CauseTable, Health, IdentityPolicy, Limits, NumberFormat, NumberPlan,
    PreconditionPolicy, ReliableProvisional, SipPolicy, Trunk, Usual,
};
use crate::rtp::Encoding;
use crate::sdp::{IceTerms, MediaSecurity, SecurityTerms};
use crate::sip::auth::Credentials;
use crate::sip::message::HeaderName;
use crate::sip::transport::Transport;
use crate::srtp::Suite;
use gateway_common::flow::Latch;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use toml::Spanned;

/// RFC 4028 section 4.
const MIN_SE: u32 = 90;
const SIP_PORT: u16 = 5060;
const PEER_TIMEOUT: Duration = Duration::from_secs(4);
/// ITU-T E.123 and most countries.
const NATIONAL_PREFIX: &str = "0";
const INTERNATIONAL_PREFIX: &str = "00";
/// Packets at once above the rate: a second of 20 ms packets, which is what a short outage lets pile up.
const BURST: u32 = 50;

/// `None` when a field is wrong; `errors` says which.
pub(super) fn trunk(
    entry: &Span,
    written: &file::Trunk,
    label: &str,
    region: Option<&str>,
    errors: &mut ConfigErrors,
) -> Option<Trunk> {
    let name = required(entry, &written.name, label, "name = \"operator\"", errors);
    let listen = required(entry, &written.listen, label, "listen = \"udp:192.0.2.1:5060\"", errors)
        .and_then(|text| listen(text, label, errors));
    let field = format!("{label} media_address");
    let fix = "write an address of this host, as in \"192.0.2.1\"";
    let media_address = section(written.media_address.as_ref(), |text| parsed(text, &field, fix, errors));
    let port = listen.map_or(SIP_PORT, |(transport, _)| transport.default_port());
    let advertised = section(written.advertised.as_ref(), |text| advertised(text, port, label, errors));
    let peers: Vec<_> =
        written.peers.iter().map(|written| peer(written, port, label, region, errors)).collect();
    let allowed: Vec<_> =
        written.allowed.iter().map(|text| network(text, &format!("{label} allowed"), errors)).collect();
    let variables = super::rule::variables(&written.variables, label, errors);
    let rules = super::rule::manipulation(&written.rule, &variables, label, errors);
    let service = written.service.as_ref().map(|service| *service.get_ref());
    let usual = Usual::of(service);
    let media = media(written, &usual, label, errors);
    let tones = section(written.tones.as_ref(), |tones| super::tones::tones(tones, label, errors));
    let limits = limits(&written.limits, label, errors);
    let (transport, listen) = listen?;
    let media_address = media_address?.unwrap_or_else(|| listen.ip());
    bypass(written, media_address, label, errors);
    let way = (!written.peers.is_empty(), transport);
    let registration = section(written.registration.as_ref(), |own| {
        super::registration::registration(entry, own, way, label, errors)
    });
    let callers =
        section(written.callers.as_ref(), |own| super::callers::challenger(entry, own, label, errors));
    let digest = section(written.digest.as_ref(), |own| credentials(entry, own, label, errors));
    Some(Trunk {
        name: name?.get_ref().trim().to_owned(),
        peers: peers.into_iter().collect::<Option<_>>()?,
        allowed: allowed.into_iter().collect::<Option<_>>()?,
        transport,
        listen,
        advertised: advertised?,
        media_address,
        media: media?,
        tones: tones?,
        rules,
        sip: sip(&written.sip, usual.sip, label, errors),
        peer_timeout: milliseconds(&written.peer_timeout_ms, PEER_TIMEOUT),
        service,
        tenants: super::value(&written.tenants, false),
        numbers: numbers(&written.numbers, usual.format),
        redirection: super::value(&written.identity.redirection, usual.redirection),
        registration: registration?,
        callers: callers?,
        digest: digest?,
        identity: identity(&written.identity, &usual.identity),
        progress_timeout: Some(milliseconds(&written.progress_timeout_ms, usual.progress_timeout))
            .filter(|timeout| !timeout.is_zero()),
        limits,
        overload_control: super::value(&written.overload_control, false),
        health: health(&written.health, usual.health),
    })
}

/// What a field or a section says that need not be there; `None` when it is there and wrong.
fn section<S, T>(written: Option<&S>, check: impl FnOnce(&S) -> Option<T>) -> Option<Option<T>> {
    written.map_or(Some(None), |written| check(written).map(Some))
}

pub(super) fn limits(written: &file::CallLimits, label: &str, errors: &mut ConfigErrors) -> Limits {
    let calls = written.calls.as_ref().map(|calls| *calls.get_ref());
    let label = format!("{label} limits");
    Limits { calls, rate: super::call_rate(&written.calls_per_second, &written.burst, &label, errors) }
}

/// Media bypass has IPv4 candidates only.
fn bypass(written: &file::Trunk, media_address: IpAddr, label: &str, errors: &mut ConfigErrors) {
    if let Some(ice) = written.media.ice.as_ref().filter(|ice| *ice.get_ref() == file::IceMode::Lite)
        && media_address.is_ipv6()
    {
        let message =
            format!("media bypass has IPv4 candidates only, and the media address is {media_address}");
        let fix = "write an IPv4 address as media_address, or ice = \"off\"";
        errors.add(Some(ice.span()), format!("{label} media.ice"), message, fix);
    }
}

fn numbers(written: &file::TrunkNumbers, usual: NumberFormat) -> NumberPlan {
    let text = |field: &Field<String>, usual: &str| -> Box<str> {
        field.as_ref().map_or(usual, |field| field.get_ref().trim()).into()
    };
    NumberPlan {
        country: written
            .country
            .as_ref()
            .map(|country| country.get_ref().trim().trim_start_matches('+').into()),
        national_prefix: text(&written.national_prefix, NATIONAL_PREFIX),
        international_prefix: text(&written.international_prefix, INTERNATIONAL_PREFIX),
        format: written.format.as_ref().map_or(usual, |format| match format.get_ref() {
            file::NumberFormat::AsReceived => NumberFormat::AsReceived,
            file::NumberFormat::E164 => NumberFormat::E164,
            file::NumberFormat::National => NumberFormat::National,
        }),
    }
}

fn identity(written: &file::TrunkIdentity, usual: &IdentityPolicy) -> IdentityPolicy {
    IdentityPolicy {
        trusted: super::value(&written.trusted, usual.trusted),
        form: super::value(&written.form, usual.form),
        from: super::value(&written.from, usual.from),
        asserted: super::value(&written.asserted, usual.asserted),
    }
}

fn credentials(
    entry: &Span,
    written: &file::TrunkDigest,
    label: &str,
    errors: &mut ConfigErrors,
) -> Option<Credentials> {
    let realm = required(entry, &written.realm, label, "digest.realm = \"core.example.net\"", errors);
    let user = required(entry, &written.user, label, "digest.user = \"gateway\"", errors);
    if written.password.is_none() {
        let field = format!("{label} digest.password");
        errors.add(Some(entry.clone()), field, "is missing", "add digest.password = \"…\"");
    }
    Some(Credentials {
        realm: realm?.get_ref().clone(),
        user: user?.get_ref().clone(),
        password: written.password.as_ref()?.get_ref().clone(),
        md5: super::value(&written.md5, false),
    })
}

fn health(written: &file::TrunkHealth, standard: Health) -> Health {
    let seconds =
        |field: &Field<u32>| field.as_ref().map(|field| Duration::from_secs((*field.get_ref()).into()));
    let interval =
        seconds(&written.interval_seconds).or(standard.interval).filter(|interval| !interval.is_zero());
    let retry = seconds(&written.retry_seconds).unwrap_or(standard.retry);
    Health {
        interval,
        // Who asks often anyway asks no less often in trouble.
        retry: interval.map_or(retry, |interval| interval.min(retry)),
        timeout: milliseconds(&written.timeout_ms, standard.timeout),
        down_after: super::value(&written.down_after, standard.down_after),
        up_after: super::value(&written.up_after, standard.up_after),
    }
}

fn milliseconds(field: &Field<u32>, standard: Duration) -> Duration {
    field.as_ref().map_or(standard, |field| Duration::from_millis((*field.get_ref()).into()))
}

pub(super) fn required<'a>(
    entry: &Span,
    field: &'a Field<String>,
    label: &str,
    example: &str,
    errors: &mut ConfigErrors,
) -> Option<&'a Spanned<String>> {
    if field.is_none() {
        let name = example.split(' ').next().unwrap_or_default();
        errors.add(Some(entry.clone()), format!("{label} {name}"), "is missing", format!("add {example}"));
    }
    field.as_ref()
}

/// `udp:192.0.2.1:5060`, `tls:[2001:db8::1]:5061`.
fn listen(text: &Spanned<String>, label: &str, errors: &mut ConfigErrors) -> Option<(Transport, SocketAddr)> {
    let written = text.get_ref().trim();
    let (scheme, rest) = written.split_once(':').unwrap_or((written, ""));
    let transport = match scheme.to_ascii_lowercase().as_str() {
        "udp" => Some(Transport::Udp),
        "tcp" => Some(Transport::Tcp),
        "tls" => Some(Transport::Tls),
        _ => None,
    };
    let address = match transport {
        Some(transport) => address_of(rest, transport.default_port()),
        None => socket_address(written),
    };
    let fix = match (transport, address) {
        (Some(transport), Some(address)) => return Some((transport, address)),
        (None, Some(address)) => {
            format!("write the transport in front: \"udp:{address}\", \"tcp:{address}\" or \"tls:{address}\"")
        }
        _ => "write transport, address and port, as in \"udp:192.0.2.1:5060\" or \"tls:[2001:db8::1]:5061\""
            .to_owned(),
    };
    errors.add(
        Some(text.span()),
        format!("{label} listen"),
        format!("{written:?} is no address to listen on"),
        fix,
    );
    None
}

/// With port 5060 unless another is written; an IPv6 address with a port in brackets.
pub(super) fn socket_address(text: &str) -> Option<SocketAddr> {
    address_of(text, SIP_PORT)
}

/// With `port` unless another is written.
pub(super) fn address_of(text: &str, port: u16) -> Option<SocketAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    text.parse().ok().or_else(|| bare.parse().ok().map(|address: IpAddr| SocketAddr::new(address, port)))
}

pub(super) fn network(text: &Spanned<String>, field: &str, errors: &mut ConfigErrors) -> Option<IpNet> {
    let written = text.get_ref().trim();
    let parsed: Option<IpNet> =
        written.parse().ok().or_else(|| written.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(network) = parsed else {
        let fix = "write address and prefix length, as in \"192.0.2.0/24\", or one address";
        errors.add(Some(text.span()), field, format!("{written:?} is no network"), fix);
        return None;
    };
    if network != network.trunc() {
        let message = format!("{network} has bits behind its prefix");
        let fix =
            format!("write \"{}\" for the network, or \"{}\" for the host", network.trunc(), network.addr());
        errors.add(Some(text.span()), field, message, fix);
    }
    Some(network.trunc())
}

/// Host and port, or a host alone with the transport's port.
fn advertised(
    text: &Spanned<String>,
    port: u16,
    label: &str,
    errors: &mut ConfigErrors,
) -> Option<Advertised> {
    let written = text.get_ref().trim();
    if let Some(address) = address_of(written, port) {
        return Some(Advertised::of(address));
    }
    let (host, port) =
        written.rsplit_once(':').map_or((written, Some(port)), |(host, port)| (host, port.parse().ok()));
    let is_name = |host: &str| {
        let sound =
            |label: &str| !label.is_empty() && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        host.split('.').all(sound)
    };
    match port.filter(|port| *port > 0 && is_name(host)) {
        Some(port) => Some(Advertised { host: host.into(), port }),
        None => {
            let message = format!("{written:?} is no host and port");
            let fix = "write what peers reach, as in \"sbc.example.net:5060\" or \"203.0.113.1:5060\"";
            errors.add(Some(text.span()), format!("{label} advertised"), message, fix);
            None
        }
    }
}

fn media(trunk: &file::Trunk, usual: &Usual, label: &str, errors: &mut ConfigErrors) -> Option<MediaPolicy> {
    let written = &trunk.media;
    let standard = MediaPolicy::default();
    let networks = media_networks(&trunk.peers);
    let gate = match &written.gate {
        None if networks.is_empty() => Some(standard.gate),
        None => Some(GatePolicy::Networks(networks.into())),
        Some(text) if !networks.is_empty() => {
            let fix = "leave it out: allowed_media of the peers says whose media is heard";
            let message = "a peer has allowed_media, which says the same";
            errors.add(Some(text.span()), format!("{label} media.gate"), message, fix);
            None
        }
        Some(text) => gate(text, label, errors),
    };
    let rate = match (&written.packets_per_second, &written.burst) {
        (None, None) => None,
        (None, Some(burst)) => {
            let fix = "add packets_per_second, or leave burst out";
            errors.add(Some(burst.span()), format!("{label} media.burst"), "bounds nothing by itself", fix);
            None
        }
        (Some(rate), burst) => {
            Some(RateLimit { packets_per_second: *rate.get_ref(), burst: super::value(burst, BURST) })
        }
    };
    let codecs = written
        .codecs
        .as_ref()
        .map(|list| list.get_ref().iter().map(|name| Encoding::named(name.get_ref())).collect::<Vec<_>>());
    let latch = written.latch.as_ref().map_or(standard.latch, |latch| match latch.get_ref() {
        file::Latch::Signalled => Latch::Signalled,
        file::Latch::SameSsrc => Latch::SameSsrc,
        file::Latch::FirstPacket => Latch::FirstPacket,
    });
    let security = super::value(&written.security, usual.security.security);
    if gate == Some(GatePolicy::Any) && latch != Latch::Signalled && security != MediaSecurity::Required {
        let message =
            "sends media to whoever is the first to guess its port, while gate = \"any\" hears everybody";
        let fix = "write the network that media comes from as gate, or security = \"required\": then keys say who it is";
        let span = written.latch.as_ref().map(Spanned::span);
        errors.add(span, format!("{label} media.latch"), message, fix);
    }
    Some(MediaPolicy {
        gate: gate?,
        latch,
        hear_before_answer: super::value(&written.hear_before_answer, standard.hear_before_answer),
        dscp: written.dscp.as_ref().map(|dscp| *dscp.get_ref()),
        rate,
        codecs,
        transcoding: super::value(&written.transcode, standard.transcoding),
        keys: super::value(&written.dtmf, standard.keys),
        packet_ms: packet_ms(&written.packet_ms, label, errors),
        offer_rtcp_mux: super::value(&written.offer_rtcp_mux, standard.offer_rtcp_mux),
        voip_metrics: super::value(&written.voip_metrics, usual.voip_metrics),
        security: SecurityTerms { security, suites: suites(&written.suites, &usual.security, label, errors) },
        ice: IceTerms {
            is_lite: written.ice.as_ref().is_some_and(|ice| *ice.get_ref() == file::IceMode::Lite),
            ..usual.ice
        },
        fax: super::value(&written.fax, standard.fax),
        comfort_noise: super::value(&written.comfort_noise, usual.comfort_noise),
        userspace: super::value(&written.relay, file::Relay::Kernel) == file::Relay::Userspace,
    })
}

fn packet_ms(field: &Field<u16>, label: &str, errors: &mut ConfigErrors) -> Option<u16> {
    let written = field.as_ref()?;
    let milliseconds = *written.get_ref();
    if !(10..=120).contains(&milliseconds) || milliseconds % 10 != 0 {
        let message = format!("packets of {milliseconds} ms cannot be made");
        let fix = "write a multiple of 10 up to 120; 20 is what nearly all peers expect";
        errors.add(Some(written.span()), format!("{label} media.packet_ms"), message, fix);
    }
    Some(milliseconds)
}

fn suites(
    written: &Field<Vec<Spanned<String>>>,
    usual: &SecurityTerms,
    label: &str,
    errors: &mut ConfigErrors,
) -> Vec<Suite> {
    let Some(list) = written else { return usual.suites.clone() };
    let field = format!("{label} media.suites");
    let known = || Suite::ALL.map(Suite::name).join(", ");
    let mut suites = Vec::with_capacity(list.get_ref().len());
    for name in list.get_ref() {
        let (span, name) = (name.span(), name.get_ref().trim());
        match Suite::named(name) {
            Some(suite) if suites.contains(&suite) => {
                errors.add(Some(span), field.clone(), format!("{name} is there twice"), "leave one out");
            }
            Some(suite) => suites.push(suite),
            None => {
                let fix = format!("write one of {}", known());
                errors.add(Some(span), field.clone(), format!("{name:?} is no suite of SRTP"), fix);
            }
        }
    }
    if list.get_ref().is_empty() {
        let fix = "name a suite, or write security = \"off\"";
        errors.add(Some(list.span()), field, "is empty", fix);
    }
    suites
}

/// Q.850 causes are 1 to 127 (ITU-T Q.850 table 1); what is larger is the status code of a refusal.
fn causes(written: &file::TrunkSip, label: &str, errors: &mut ConfigErrors) -> CauseMap {
    let table = super::value(&written.cause_table, CauseTable::default());
    let Some(entries) = &written.causes else { return CauseMap::new(table, [], []) };
    let (mut causes, mut refusals) = (Vec::new(), Vec::new());
    for (from, to) in entries.get_ref() {
        match from.parse::<u16>() {
            Ok(from @ 1..=127) if (1..128).contains(to) => {
                causes.extend(u8::try_from(from).map(|from| (from, *to)))
            }
            Ok(from @ 300..=699) if (1..128).contains(to) => refusals.push((from, *to)),
            _ => {
                let message = format!("{from} = {to} is neither of a cause nor of a refusal");
                let fix = "write causes of 1 to 127, as in { 34 = 17 }, or the status code of a refusal and its \
                           cause, as in { 486 = 17 }";
                errors.add(Some(entries.span()), format!("{label} sip.causes"), message, fix);
            }
        }
    }
    CauseMap::new(table, causes, refusals)
}

fn sip(written: &file::TrunkSip, standard: SipPolicy, label: &str, errors: &mut ConfigErrors) -> SipPolicy {
    let session = super::value(&written.session_expires_seconds, standard.session_expires.unwrap_or(0));
    if (1..MIN_SE).contains(&session) {
        let fix = format!("write {MIN_SE} or more, or 0 for no session timer");
        let span = written.session_expires_seconds.as_ref().map(Spanned::span);
        let message = format!("{session} seconds are less than RFC 4028 section 4 allows");
        errors.add(span, format!("{label} sip.session_expires_seconds"), message, fix);
    }
    SipPolicy {
        reliable_provisional: super::value(&written.reliable_provisional, standard.reliable_provisional),
        preconditions: preconditions(written, &standard, label, errors),
        early_media: super::value(&written.early_media, standard.early_media),
        p_early_media: super::value(&written.p_early_media, standard.p_early_media),
        hold: super::value(&written.hold, standard.hold),
        refer: super::value(&written.refer, standard.refer),
        causes: causes(written, label, errors),
        session_expires: Some(session).filter(|session| *session > 0),
        delayed_offer: super::value(&written.delayed_offer, standard.delayed_offer),
        tcp_when_large: super::value(&written.tcp_when_large, standard.tcp_when_large),
        slim_when_large: super::value(&written.slim_when_large, standard.slim_when_large),
        trace_header: trace_header(&written.trace_header, standard.trace_header, label, errors),
    }
}

fn preconditions(
    written: &file::TrunkSip,
    standard: &SipPolicy,
    label: &str,
    errors: &mut ConfigErrors,
) -> PreconditionPolicy {
    let policy = super::value(&written.preconditions, standard.preconditions);
    let reliable = super::value(&written.reliable_provisional, standard.reliable_provisional);
    if policy == PreconditionPolicy::Offered && reliable == ReliableProvisional::Off {
        let span = written.preconditions.as_ref().map(Spanned::span);
        let message = "preconditions need reliable provisional responses, which are off";
        let fix = "write reliable_provisional = \"supported\", or preconditions = \"off\"";
        errors.add(span, format!("{label} sip.preconditions"), message, fix);
    }
    policy
}

fn trace_header(
    written: &Field<String>,
    standard: Option<HeaderName>,
    label: &str,
    errors: &mut ConfigErrors,
) -> Option<HeaderName> {
    let Some(text) = written else { return standard };
    let name = HeaderName::from_token(text.get_ref().as_bytes());
    if name.is_none() {
        let message = format!("{:?} is no header name", text.get_ref());
        let fix = "write a name, as in \"X-Trace-ID\"";
        errors.add(Some(text.span()), format!("{label} sip.trace_header"), message, fix);
    }
    name
}

fn gate(text: &Spanned<String>, label: &str, errors: &mut ConfigErrors) -> Option<GatePolicy> {
    match text.get_ref().trim() {
        "signalled" => Some(GatePolicy::Signalled),
        "host" => Some(GatePolicy::Around { ipv4_prefix: 32, ipv6_prefix: 128 }),
        "any" => Some(GatePolicy::Any),
        written => {
            let network = written.parse().ok();
            let network = network.map(|network: IpNet| GatePolicy::Networks([network.trunc()].into()));
            if network.is_none() {
                let fix = "write \"signalled\", \"host\", \"any\", or a network as in \"192.0.2.0/24\"";
                errors.add(
                    Some(text.span()),
                    format!("{label} media.gate"),
                    format!("{written:?} is no gate"),
                    fix,
                );
            }
            network
        }
    }
}
