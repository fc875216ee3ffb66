//! From [`File`] to [`Config`]: what missing fields mean, what each field's text says, and fields against each
//! other.

use super::error::ConfigErrors;
use super::file::{Field, File, Span};
use super::{
    AdminSettings, CdrSettings, Config, DnsSettings, Host, MediaSettings, NodeSettings, SipSettings,
    dataplane,
};
use crate::admin::CapturePermissions;
use crate::media::ports::PortPool;
use crate::policy::CallRate;
use crate::sip::transaction::{self, Intervals};
use crate::sip::transport::Transport;
use gateway_common::index::FLOWS_MAX;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

mod callers;
mod connections;
mod defence;
mod limits;
mod peer;
mod policy;
mod refusal;
mod registration;
pub(super) mod rule;
mod tenant;
mod tls;
mod tones;
mod trunk;

const STATE_DIRECTORY: &str = "/var/lib/causeway";
/// RFC 1035 section 4.2.
const DNS_PORT: u16 = 53;
const CDR_FILE: &str = "cdr.jsonl";
const MAX_CALLS: u32 = 10_000;
const KEEP_ENDED_CALLS: u16 = 256;
const PORTS: RangeInclusive<u16> = 20_000..=39_999;
const QUARANTINE_SECONDS: u16 = 5;
const TIMEOUT_SECONDS: u32 = 60;

pub(super) fn check(file: &File, host: &Host, errors: &mut ConfigErrors) -> Option<Config> {
    let node = node(file, host, errors);
    let media = media(file, node.workers, errors);
    let dataplane = dataplane(file, errors);
    let sip = sip(file, errors);
    let connections = connections::connections(file, sip.limits, errors);
    let dns = dns(file, errors);
    let admin = admin(file, errors);
    let cdr = file.cdr.path.as_ref().map(|path| path.get_ref().clone());
    let cdr = CdrSettings { path: cdr.unwrap_or_else(|| node.state_directory.join(CDR_FILE)) };
    let capture = CapturePermissions {
        audio: value(&file.capture.audio, false),
        secrets: value(&file.capture.secrets, false),
    };
    let surroundings =
        policy::Surroundings { region: node.region.as_deref(), ports: &media.ports, admin: admin.listen };
    let policy = policy::snapshot(file, &surroundings, errors)?;
    let defence = defence::defence(file, &policy, errors);
    let (tls, tls_warnings) = tls::table(file, &policy, host.now, errors);
    let (policy, tls) = (Arc::new(policy), Arc::new(tls));
    let mut config = Config {
        node,
        dataplane,
        media,
        sip,
        connections,
        defence,
        dns,
        admin,
        cdr,
        capture,
        policy,
        tls,
        warnings: Vec::new(),
    };
    config.warnings = warnings(file, &config, errors);
    config.warnings.extend(tls_warnings);
    Some(config)
}

fn node(file: &File, host: &Host, errors: &mut ConfigErrors) -> NodeSettings {
    let name = value(&file.node.name, host.name.clone());
    if name.trim().is_empty() {
        errors.add(
            span(&file.node.name),
            "[node] name",
            "is empty",
            "write a name that tells this node from others",
        );
    }
    let workers = usize::from(value(&file.node.workers, u16::try_from(host.cores).unwrap_or(u16::MAX)));
    if workers == 0 || workers > host.cores {
        let fix = format!("write 1 to {}, or leave it out for all cores", host.cores);
        let message = format!("{workers} workers on a host with {} cores", host.cores);
        errors.add(span(&file.node.workers), "[node] workers", message, fix);
    }
    let max_calls = value(&file.node.max_calls, MAX_CALLS);
    if max_calls == 0 {
        let fix =
            "write how many calls this node may carry at once; to refuse new ones, use `causeway drain`";
        errors.add(span(&file.node.max_calls), "[node] max_calls", "allows no call", fix);
    }
    let region = file.node.region.as_ref().map(|region| region.get_ref().trim());
    if region == Some("") {
        let fix = "write the region's name, or leave it out";
        errors.add(span(&file.node.region), "[node] region", "is empty", fix);
    }
    NodeSettings {
        name: name.into(),
        region: region.map(Into::into),
        workers: workers.max(1),
        state_directory: value(&file.node.state_directory, PathBuf::from(STATE_DIRECTORY)),
        max_calls: usize::try_from(max_calls).unwrap_or(usize::MAX),
        rate: call_rate(&file.node.calls_per_second, &file.node.burst, "[node]", errors),
        keep_ended_calls: usize::from(value(&file.node.keep_ended_calls, KEEP_ENDED_CALLS)),
    }
}

/// Without a burst, a second's calls may come at once.
fn call_rate(
    per_second: &Field<u32>,
    burst: &Field<u32>,
    section: &str,
    errors: &mut ConfigErrors,
) -> Option<CallRate> {
    if let (None, Some(burst)) = (per_second, burst) {
        let fix = "add calls_per_second, or leave burst out";
        errors.add(Some(burst.span()), format!("{section} burst"), "bounds nothing by itself", fix);
    }
    let number = |field: &Field<u32>, name: &str, errors: &mut ConfigErrors| {
        let number = field.as_ref().map(|field| *field.get_ref());
        if number == Some(0) {
            let fix = "write how many, or leave it out; to refuse new calls, use `causeway drain`";
            errors.add(span(field), format!("{section} {name}"), "allows no call", fix);
        }
        number
    };
    let rate = number(per_second, "calls_per_second", errors);
    let burst = number(burst, "burst", errors);
    rate.map(|per_second| CallRate { per_second, burst: burst.unwrap_or(per_second) })
}

fn media(file: &File, workers: usize, errors: &mut ConfigErrors) -> MediaSettings {
    let quarantine = Duration::from_secs(value(&file.media.quarantine_seconds, QUARANTINE_SECONDS).into());
    let ports = match &file.media.ports {
        None => PORTS,
        Some(text) => port_range(text.get_ref()).unwrap_or_else(|message| {
            let fix = "write the first and the last port, as in \"20000-39999\"";
            errors.add(Some(text.span()), "[media] ports", message, fix);
            PORTS
        }),
    };
    // The pool that will serve the range says whether it can.
    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if let Err(error) = PortPool::partition(nowhere, ports.clone(), quarantine, workers) {
        let fix = "a call takes one pair of ports on each leg: write a wider range above 1023";
        errors.add(span(&file.media.ports), "[media] ports", error.to_string(), fix);
    }
    let timeout = value(&file.media.timeout_seconds, TIMEOUT_SECONDS);
    MediaSettings { ports, quarantine, timeout: (timeout > 0).then(|| Duration::from_secs(timeout.into())) }
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let ports = text.split_once('-').map(|(first, last)| (first.trim().parse(), last.trim().parse()));
    match ports {
        Some((Ok(first), Ok(last))) if first < last => Ok(first..=last),
        Some((Ok(first), Ok(last))) => Err(format!("{first} is not below {last}")),
        _ => Err(format!("{text:?} is no range of ports")),
    }
}

fn dataplane(file: &File, errors: &mut ConfigErrors) -> dataplane::Settings {
    let standard = dataplane::Settings::default();
    let mut interfaces: Vec<String> = Vec::new();
    for (entry, interface) in &file.interfaces {
        let Some(name) = &interface.name else {
            errors.add(
                Some(entry.clone()),
                "[[interface]]",
                "name is missing",
                "add name = \"eth0\", or the one that media uses",
            );
            continue;
        };
        let text = name.get_ref();
        // IFNAMSIZ counts a closing zero.
        let sound = (1..16).contains(&text.len()) && !text.contains(|c: char| c == '/' || c.is_whitespace());
        if !sound {
            let fix = "write the name that `ip link` shows";
            errors.add(
                Some(name.span()),
                "[[interface]] name",
                format!("{text:?} is no interface name"),
                fix,
            );
        } else if interfaces.contains(text) {
            errors.add(
                Some(name.span()),
                "[[interface]] name",
                format!("{text} is named twice"),
                "keep one of them",
            );
        } else {
            interfaces.push(text.clone());
        }
    }
    let mode = value(&file.dataplane.mode, standard.mode);
    if interfaces.is_empty() && matches!(mode, dataplane::Mode::Native | dataplane::Mode::Generic) {
        let fix = "add [[interface]] with the name of each interface that media comes by";
        let message = "asks for XDP, and no interface is named";
        errors.add(span(&file.dataplane.mode), "[dataplane] mode", message, fix);
    }
    let flows = value(&file.dataplane.flows, standard.flows);
    if flows == 0 {
        let fix = "write four for each call that is to fit, or leave it out";
        errors.add(span(&file.dataplane.flows), "[dataplane] flows", "leaves room for no call", fix);
    } else if flows > FLOWS_MAX {
        let fix = "write four for each call that is to fit";
        let message = format!("is more than the {FLOWS_MAX} flows that the kernel's index takes");
        errors.add(span(&file.dataplane.flows), "[dataplane] flows", message, fix);
    }
    dataplane::Settings {
        mode,
        flows,
        secured_flows: value(&file.dataplane.secured_flows, standard.secured_flows),
        socket_frames: value(&file.dataplane.socket_frames, standard.socket_frames),
        pin_directory: value(&file.dataplane.pin_directory, standard.pin_directory),
        interfaces,
        traced: value(&file.dataplane.traced, standard.traced),
    }
}

fn sip(file: &File, errors: &mut ConfigErrors) -> SipSettings {
    let standard = transaction::Settings::default();
    let mut interval = |field: &Field<u32>, name: &str, standard: Duration| match field {
        None => standard,
        Some(text) if *text.get_ref() == 0 => {
            let fix = format!("write milliseconds; RFC 3261 has {}", standard.as_millis());
            errors.add(Some(text.span()), format!("[sip] {name}"), "no time at all", fix);
            standard
        }
        Some(text) => Duration::from_millis((*text.get_ref()).into()),
    };
    let intervals = Intervals {
        t1: interval(&file.sip.t1_ms, "t1_ms", standard.intervals.t1),
        t2: interval(&file.sip.t2_ms, "t2_ms", standard.intervals.t2),
        t4: interval(&file.sip.t4_ms, "t4_ms", standard.intervals.t4),
        ..standard.intervals
    };
    if intervals.t2 < intervals.t1 {
        let fix = "T2 is the longest pause between retransmissions and T1 the first: write t2_ms above t1_ms";
        errors.add(span(&file.sip.t2_ms).or(span(&file.sip.t1_ms)), "[sip] t2_ms", "is below t1_ms", fix);
    }
    let limits = limits::limits(&file.sip, errors);
    let limit = size(&file.sip.max_transactions, standard.limit);
    if limit == 0 {
        let fix = "write how many may run at once, or leave it out";
        errors.add(span(&file.sip.max_transactions), "[sip] max_transactions", "allows no request", fix);
    }
    let retry_after = file.sip.retry_after_seconds.as_ref();
    let retry_after =
        retry_after.map_or(standard.retry_after, |seconds| Duration::from_secs((*seconds.get_ref()).into()));
    SipSettings { transactions: transaction::Settings { intervals, limit, retry_after }, limits }
}

fn dns(file: &File, errors: &mut ConfigErrors) -> DnsSettings {
    let server = |text: &Spanned<String>| {
        let server = trunk::address_of(text.get_ref(), DNS_PORT);
        if server.is_none() {
            let message = format!("{:?} is no address", text.get_ref());
            let fix = "write the address of a server, as in \"192.0.2.53\" or \"[2001:db8::53]:5353\"";
            errors.add(Some(text.span()), "[dns] servers", message, fix);
        }
        server
    };
    DnsSettings { servers: file.dns.servers.iter().filter_map(server).collect() }
}

fn admin(file: &File, errors: &mut ConfigErrors) -> AdminSettings {
    let fix = "write address and port, as in \"127.0.0.1:9090\"";
    let listen = file.admin.listen.as_ref().and_then(|text| parsed(text, "[admin] listen", fix, errors));
    listen.map_or(AdminSettings::default(), |listen| AdminSettings { listen })
}

/// What works and may still not be meant.
fn warnings(file: &File, config: &Config, errors: &ConfigErrors) -> Vec<super::ConfigError> {
    let mut warnings = Vec::new();
    let mut warn = |span, field: &str, message: String, fix: &str| {
        warnings.push(errors.locate(span, field.to_owned(), message, fix.to_owned()));
    };
    if !config.admin.listen.ip().is_loopback() {
        let message =
            format!("{} is not loopback, and the admin interface asks for no password", config.admin.listen);
        warn(span(&file.admin.listen), "[admin] listen", message, "keep others away from it with a firewall");
    }
    let plain = file.trunks.iter().filter_map(|(_, written)| {
        let name = written.name.as_ref()?.get_ref().trim();
        let (_, trunk) = config.policy.trunk_named(name)?;
        let service = trunk.service.filter(|service| service.wants_a_name())?;
        (trunk.transport != Transport::Tls).then_some((written, trunk, service))
    });
    for (written, trunk, service) in plain {
        let field = format!("[[trunk]] {:?}, listen", trunk.name);
        let message = format!("{service:?} takes SIP over TLS only");
        warn(span(&written.listen), &field, message, "listen on tls:, unless this is a lab");
    }
    let flow_calls = usize::try_from(config.dataplane.flows / 4).unwrap_or(usize::MAX);
    if flow_calls < config.node.max_calls {
        let message = format!(
            "{} flows hold {flow_calls} calls with RTCP on ports of its own, and max_calls is {}",
            config.dataplane.flows, config.node.max_calls
        );
        warn(span(&file.dataplane.flows), "[dataplane] flows", message, "write four for each call");
    }
    if config.dataplane.interfaces.is_empty() && config.dataplane.mode == dataplane::Mode::Auto {
        let message = "no interface is named, so all media goes by plain sockets".to_owned();
        let fix = "add [[interface]] for XDP, or say mode = \"sockets\"";
        warn(span(&file.dataplane.mode), "[[interface]]", message, fix);
    }
    warnings
}

fn value<T: Clone>(field: &Field<T>, standard: T) -> T {
    field.as_ref().map_or(standard, |field| field.get_ref().clone())
}

fn size(field: &Field<u32>, standard: usize) -> usize {
    field.as_ref().map_or(standard, |field| usize::try_from(*field.get_ref()).unwrap_or(usize::MAX))
}

fn span<T>(field: &Field<T>) -> Option<Span> {
    field.as_ref().map(Spanned::span)
}

fn parsed<T: FromStr>(
    text: &Spanned<String>,
    field: &str,
    fix: &str,
    errors: &mut ConfigErrors,
) -> Option<T> {
    let parsed = text.get_ref().trim().parse().ok();
    if parsed.is_none() {
        errors.add(Some(text.span()), field, format!("{:?} cannot be understood", text.get_ref()), fix);
    }
    parsed
}
