//! The way to the DNS: asks what a [`Resolver`] wants asked, and hands out what names come to mean.

use crate::base::time::Time;
use crate::resolve::{Findings, Kind, Naptr, Outcome, Question, Records, Resolver, Srv, Wanted};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// For one server to answer one question.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the admin thread needs to look names up.
pub struct DnsPort {
    /// Where to ask; those of `/etc/resolv.conf` when empty.
    pub servers: Vec<SocketAddr>,
    pub names: NamesWanted,
    /// Told each time that names come to mean something else.
    pub publish: Box<dyn Fn(Arc<Findings>) + Send + Sync>,
    pub clock: fn() -> Time,
}

/// Says which names are wanted.
#[derive(Clone, Debug)]
pub struct Names {
    peers: Arc<watch::Sender<Vec<Wanted>>>,
    learned: mpsc::UnboundedSender<Wanted>,
}

/// The admin thread's end of [`Names`].
#[derive(Debug)]
pub struct NamesWanted {
    peers: watch::Receiver<Vec<Wanted>>,
    learned: mpsc::UnboundedReceiver<Wanted>,
}

impl Names {
    pub fn new(wanted: Vec<Wanted>) -> (Self, NamesWanted) {
        let (sender, peers) = watch::channel(wanted);
        let (learned, learned_receiver) = mpsc::unbounded_channel();
        let names = Self { peers: Arc::new(sender), learned };
        (names, NamesWanted { peers, learned: learned_receiver })
    }

    /// Wants these in the place of those before. What they mean is published anew, also if all are known.
    pub fn want(&self, wanted: Vec<Wanted>) {
        self.peers.send_replace(wanted);
    }

    /// Wants one more for a while: a name that a dialog goes to. Never waits.
    pub fn learn(&self, wanted: Wanted) {
        // Nobody listens any more when the daemon is ending.
        let _ = self.learned.send(wanted);
    }
}

/// Asks and publishes until nobody wants names any more.
pub(super) async fn run(port: DnsPort) {
    let client = match client(&port.servers) {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "names of peers cannot be looked up"),
    };
    let DnsPort { names: NamesWanted { mut peers, mut learned }, publish, clock, .. } = port;
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut resolver = Resolver::default();
    resolver.want(peers.borrow_and_update().clone());
    loop {
        for question in resolver.poll(clock()) {
            let (client, tell) = (client.clone(), tell.clone());
            tokio::spawn(async move {
                let outcome = ask(&client, &question).await;
                // Nobody listens any more when the daemon is ending.
                let _ = tell.send((question, outcome));
            });
        }
        if let Some(findings) = resolver.news() {
            publish(findings);
        }
        let pause = resolver.next().map_or(Duration::MAX, |at| at.since(clock()));
        tokio::select! {
            Some((question, outcome)) = told.recv() => resolver.answered(clock(), &question, outcome),
            changed = peers.changed() => match changed {
                Ok(()) => resolver.want(peers.borrow_and_update().clone()),
                Err(_) => return,
            },
            Some(wanted) = learned.recv() => resolver.learn(clock(), wanted),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// It keeps nothing itself: how long an answer counts is the [`Resolver`]'s affair.
fn client(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().map(server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = PATIENCE;
    builder.build()
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let connection = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    };
    let connections = vec![connection(ProtocolConfig::Udp), connection(ProtocolConfig::Tcp)];
    NameServerConfig::new(address.ip(), true, connections)
}

async fn ask(client: &TokioResolver, question: &Question) -> Outcome {
    let kind = match question.kind {
        Kind::Naptr => RecordType::NAPTR,
        Kind::Srv => RecordType::SRV,
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
    };
    // The dot keeps the host's own domain from being tried behind it.
    let name = match Name::from_ascii(format!("{}.", question.name)) {
        Ok(name) => name,
        Err(error) => {
            tracing::error!(%question, %error, "this is no name of the DNS");
            return Outcome::Nothing { ttl: None };
        }
    };
    match client.lookup(name, kind).await {
        Ok(found) => outcome(question.kind, found.answers()),
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
        {
            let ttl = none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into()));
            Outcome::Nothing { ttl }
        }
        Err(error) => {
            tracing::warn!(%question, %error, "the DNS does not answer; its last answer counts");
            Outcome::Failed
        }
    }
}

fn outcome(kind: Kind, answers: &[Record]) -> Outcome {
    // Those of aliases on the way count, too.
    let ttl = answers.iter().map(|record| record.ttl).min().unwrap_or_default();
    let data = answers.iter().map(|record| &record.data);
    let records = match kind {
        Kind::Naptr => Records::Naptr(data.filter_map(naptr).collect()),
        Kind::Srv => Records::Srv(data.filter_map(srv).collect()),
        Kind::A | Kind::Aaaa => Records::Addresses(data.filter_map(RData::ip_addr).collect()),
    };
    let is_empty = match &records {
        Records::Naptr(records) => records.is_empty(),
        Records::Srv(records) => records.is_empty(),
        Records::Addresses(addresses) => addresses.is_empty(),
    };
    if is_empty {
        return Outcome::Nothing { ttl: None };
    }
    Outcome::Records { records, ttl: Duration::from_secs(ttl.into()) }
}

fn naptr(data: &RData) -> Option<Naptr> {
    let RData::NAPTR(record) = data else { return None };
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned().into();
    Some(Naptr {
        order: record.order,
        preference: record.preference,
        flags: text(&record.flags),
        service: text(&record.services),
        replacement: host(&record.replacement),
    })
}

fn srv(data: &RData) -> Option<Srv> {
    let RData::SRV(record) = data else { return None };
    Some(Srv {
        priority: record.priority,
        weight: record.weight,
        port: record.port,
        target: host(&record.target),
    })
}

/// Without the dot at its end; the root becomes nothing.
fn host(name: &Name) -> Box<str> {
    name.to_ascii().trim_end_matches('.').into()
}
