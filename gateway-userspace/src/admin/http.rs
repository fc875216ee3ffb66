//! HTTP on the admin thread. There is no authentication: it listens on the loopback address unless the
//! configuration says otherwise.
//!
//! | | |
//! |---|---|
//! | `GET /metrics` | OpenMetrics text |
//! | `GET /health` | 200 while every core turns, else 500 |
//! | `GET /ready` | 200 while new calls are taken, 503 while draining or when a core is stuck |
//! | `GET /v1/status` `/v1/trunks` `/v1/calls` `/v1/calls/{id}` `/v1/flows` `/v1/drops` `/v1/denied` | [`super::answer`] |
//! | `POST /v1/reload` `/v1/calls/{id}/hang-up` | orders |
//! | `POST /v1/deny` | order, `?network=` with `&seconds=` and `&force=true` if wanted |
//! | `POST /v1/allow` | order, `?network=` |
//! | `POST /v1/drain` `/v1/undrain` | orders; with `?trunk=` for a trunk, with `&peer=` for one of its peers |
//!
//! A media path slower than native XDP does not make a node unready: taking it out would only load the others.
//! It shows in `/ready`, `/v1/status`, a metric and the log.

use super::answer::Failed;
use super::command::{CallFilter, DrainTarget};
use super::dns::{self, DnsPort};
use super::{AdminCommand, AdminFault, AdminPort};
use crate::base::id::CallId;
use crate::observe::calls::Progress;
use crate::observe::event::Datapath;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use ipnet::IpNet;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::oneshot;

/// Lines of a list unless asked for more.
pub const LIMIT_DEFAULT: usize = 100;
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The running admin thread. Dropping it stops it.
#[derive(Debug)]
pub struct AdminThread {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminThread {
    /// Binds `listen` and serves `port` on a thread of its own, which looks up names besides.
    ///
    /// # Errors
    /// [`AdminFault::Listen`] when the address is not to be had.
    pub fn start(listen: SocketAddr, port: AdminPort, dns: Option<DnsPort>) -> Result<Self, AdminFault> {
        let failed = |error: std::io::Error| AdminFault::Listen { address: listen, error: error.to_string() };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let thread_failed = |error: std::io::Error| AdminFault::Thread(error.to_string());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(thread_failed)?;
        let thread = thread::Builder::new()
            .name("causeway-admin".into())
            .spawn(move || {
                runtime.block_on(async {
                    dns.map(|dns| tokio::spawn(dns::run(dns)));
                    serve(listener, port, stopped).await;
                })
            })
            .map_err(thread_failed)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// The address bound, with the port that port 0 became.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Served {
    port: AdminPort,
    registry: Registry,
}

type Shared = State<Arc<Served>>;

async fn serve(listener: TcpListener, port: AdminPort, stopped: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the admin interface does not listen"),
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(port.metrics.clone()));
    let served = axum::serve(listener, router(Served { port, registry }));
    tokio::select! {
        result = async { served.await } => {
            if let Err(error) = result {
                tracing::error!(%error, "the admin interface stopped");
            }
        }
        // Not graceful: a client that keeps its connection open must not hold the daemon's end up.
        _ = stopped => {}
    }
}

fn router(served: Served) -> Router {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/v1/status", get(async |State(served): Shared| served.answer(AdminCommand::Status).await))
        .route("/v1/calls", get(calls))
        .route("/v1/calls/{id}", get(call))
        .route("/v1/calls/{id}/hang-up", post(hang_up))
        .route("/v1/calls/{id}/capture", post(capture))
        .route("/v1/flows", get(flows))
        .route("/v1/drops", get(async |State(served): Shared| served.answer(AdminCommand::Drops).await))
        .route("/v1/reload", post(async |State(served): Shared| served.answer(AdminCommand::Reload).await))
        .route("/v1/trunks", get(async |State(served): Shared| served.answer(AdminCommand::Trunks).await))
        .route("/v1/denied", get(async |State(served): Shared| served.answer(AdminCommand::Denied).await))
        .route("/v1/deny", post(deny))
        .route("/v1/allow", post(allow))
        .route("/v1/drain", post(async |served: Shared, query: DrainQuery| drain(served, query, true).await))
        .route(
            "/v1/undrain",
            post(async |served: Shared, query: DrainQuery| drain(served, query, false).await),
        );
    #[cfg(debug_assertions)]
    let router = router.route("/v1/calls/{id}/panic", post(panic_in));
    router.layer(from_fn(refuse_browsers)).with_state(Arc::new(served))
}

/// A web page that an operator looks at can make the browser send orders to loopback; it cannot keep the browser
/// from saying whose page it was (Fetch standard, section 3.1).
async fn refuse_browsers(request: Request, next: Next) -> Response {
    if request.method() != Method::GET && request.headers().contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "orders are not taken from web pages\n").into_response();
    }
    next.run(request).await
}

impl Served {
    async fn answer(&self, command: AdminCommand) -> Response {
        match self.port.execute(command).await {
            Ok(super::Answer::Capture(file)) => {
                ([(header::CONTENT_TYPE, "application/vnd.tcpdump.pcap")], file).into_response()
            }
            Ok(answer) => Json(answer).into_response(),
            Err(fault) => fault.into_response(),
        }
    }
}

impl IntoResponse for AdminFault {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoSuchCall(_) | Self::NoSuchTrunk(_) => StatusCode::NOT_FOUND,
            Self::BadQuestion(_) => StatusCode::BAD_REQUEST,
            Self::ReloadRefused(_) | Self::DefenceRefused(_) | Self::CaptureRefused(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::CoreSilent(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Listen { .. } | Self::Thread(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(Failed { error: self.to_string() })).into_response()
    }
}

async fn metrics(State(served): Shared) -> Response {
    let mut text = String::new();
    match encode(&mut text, &served.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn health(State(served): Shared) -> Response {
    let status = served.port.status().await;
    match status.cores.iter().find(|core| !core.answers) {
        None => "alive\n".into_response(),
        Some(core) => {
            (StatusCode::INTERNAL_SERVER_ERROR, AdminFault::CoreSilent(core.core).to_string()).into_response()
        }
    }
}

async fn ready(State(served): Shared) -> Response {
    let status = served.port.status().await;
    let mut text = String::new();
    if status.media.is_empty() {
        text.push_str("degraded: all media goes by sockets\n");
    }
    for media in status.media.iter().filter(|media| media.path != Datapath::Native) {
        text.push_str(&format!("degraded: media on {} goes by {}\n", media.interface, media.path.label()));
    }
    let stuck = status.cores.iter().find(|core| !core.answers);
    let (code, word) = match stuck {
        Some(core) => (StatusCode::SERVICE_UNAVAILABLE, format!("core {} does not answer\n", core.core)),
        None if status.draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned()),
        None => (StatusCode::OK, "ready\n".to_owned()),
    };
    (code, word + &text).into_response()
}

/// Query of `/v1/calls`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CallsQuery {
    progress: Option<Progress>,
    trunk: Option<String>,
    number: Option<String>,
    limit: Option<usize>,
}

async fn calls(State(served): Shared, query: Result<Query<CallsQuery>, QueryRejection>) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return AdminFault::BadQuestion(rejection.body_text()).into_response(),
    };
    let filter = CallFilter { progress: query.progress, trunk: query.trunk, number: query.number };
    served.answer(AdminCommand::Calls { filter, limit: query.limit.unwrap_or(LIMIT_DEFAULT) }).await
}

/// Query of `/v1/flows`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FlowsQuery {
    limit: Option<usize>,
}

async fn flows(State(served): Shared, query: Result<Query<FlowsQuery>, QueryRejection>) -> Response {
    match query {
        Ok(Query(query)) => {
            served.answer(AdminCommand::Flows { limit: query.limit.unwrap_or(LIMIT_DEFAULT) }).await
        }
        Err(rejection) => AdminFault::BadQuestion(rejection.body_text()).into_response(),
    }
}

/// Query of `/v1/drain` and `/v1/undrain`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DrainWhat {
    trunk: Option<String>,
    peer: Option<String>,
}

type DrainQuery = Result<Query<DrainWhat>, QueryRejection>;

async fn drain(State(served): Shared, query: DrainQuery, drained: bool) -> Response {
    let what = match query {
        Ok(Query(DrainWhat { trunk: None, peer: None })) => DrainTarget::Node,
        Ok(Query(DrainWhat { trunk: Some(trunk), peer: None })) => DrainTarget::Trunk(trunk),
        Ok(Query(DrainWhat { trunk: Some(trunk), peer: Some(peer) })) => DrainTarget::Peer { trunk, peer },
        Ok(Query(DrainWhat { trunk: None, peer: Some(_) })) => {
            return AdminFault::BadQuestion("a peer is named, and no trunk".to_owned()).into_response();
        }
        Err(rejection) => return AdminFault::BadQuestion(rejection.body_text()).into_response(),
    };
    served.answer(AdminCommand::Drain { what, drained }).await
}

/// Query of `/v1/deny`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct DenyQuery {
    /// An address or a network.
    network: String,
    seconds: Option<u64>,
    #[serde(default)]
    force: bool,
}

async fn deny(State(served): Shared, query: Result<Query<DenyQuery>, QueryRejection>) -> Response {
    let Query(DenyQuery { network, seconds, force }) = match query {
        Ok(query) => query,
        Err(rejection) => return AdminFault::BadQuestion(rejection.body_text()).into_response(),
    };
    match network_of(&network) {
        Ok(network) => {
            let span = seconds.map(Duration::from_secs);
            served.answer(AdminCommand::Deny { network, span, force }).await
        }
        Err(fault) => fault.into_response(),
    }
}

/// Query of `/v1/allow`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowQuery {
    network: String,
}

async fn allow(State(served): Shared, query: Result<Query<AllowQuery>, QueryRejection>) -> Response {
    match query.map_err(|rejection| AdminFault::BadQuestion(rejection.body_text())) {
        Ok(Query(query)) => match network_of(&query.network) {
            Ok(network) => served.answer(AdminCommand::Allow { network }).await,
            Err(fault) => fault.into_response(),
        },
        Err(fault) => fault.into_response(),
    }
}

fn network_of(text: &str) -> Result<IpNet, AdminFault> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map_err(|_| {
        AdminFault::BadQuestion(format!("{text:?} is no address and no network such as 192.0.2.0/24"))
    })
}

async fn call(State(served): Shared, Path(id): Path<String>) -> Response {
    match call_id(&id) {
        Ok(call) => served.answer(AdminCommand::Call(call)).await,
        Err(fault) => fault.into_response(),
    }
}

async fn hang_up(State(served): Shared, Path(id): Path<String>) -> Response {
    match call_id(&id) {
        Ok(call) => served.answer(AdminCommand::HangUp(call)).await,
        Err(fault) => fault.into_response(),
    }
}

/// Query of `/v1/calls/{id}/capture`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CaptureQuery {
    seconds: u64,
    #[serde(default)]
    sip: bool,
    #[serde(default)]
    audio: bool,
}

async fn capture(
    State(served): Shared,
    Path(id): Path<String>,
    query: Result<Query<CaptureQuery>, QueryRejection>,
) -> Response {
    let Query(CaptureQuery { seconds, sip, audio }) = match query {
        Ok(query) => query,
        Err(rejection) => return AdminFault::BadQuestion(rejection.body_text()).into_response(),
    };
    match call_id(&id) {
        Ok(call) => {
            let span = Duration::from_secs(seconds);
            served.answer(AdminCommand::Capture { call, span, sip, audio }).await
        }
        Err(fault) => fault.into_response(),
    }
}

#[cfg(debug_assertions)]
async fn panic_in(State(served): Shared, Path(id): Path<String>) -> Response {
    match call_id(&id) {
        Ok(call) => served.answer(AdminCommand::Panic(call)).await,
        Err(fault) => fault.into_response(),
    }
}

fn call_id(text: &str) -> Result<CallId, AdminFault> {
    text.parse()
        .map_err(|_| AdminFault::BadQuestion(format!("{text:?} is no call id: 16 hexadecimal digits")))
}

#[cfg(test)]
mod tests {
    use super::super::answer::NodeStatus;
    use super::super::client::{Client, ClientFault};
    use super::super::command::{Ask, CoreAnswer, CoreCommand};
    use super::super::port::{CorePort, DefencePort};
    use super::super::table::samples;
    use super::*;
    use crate::base::time::Time;
    use crate::observe::capture::{Capture, Captured, Wanted};
    use crate::observe::clock::WallClock;
    use crate::observe::metrics::{CoreMetrics, Metrics, NodeReadings};
    use crossbeam::channel;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Instant, UNIX_EPOCH};

    /// A node whose only core answers as `core` does, on a thread of its own.
    fn node(core: impl Fn(CoreCommand) -> Option<CoreAnswer> + Send + 'static) -> (AdminThread, Client) {
        let (asks, asked) = channel::bounded::<Ask>(8);
        thread::spawn(move || {
            for Ask { command, reply } in asked {
                if let Some(answer) = core(command) {
                    let _ = reply.send(answer);
                }
            }
        });
        let draining = Arc::new(AtomicBool::new(false));
        let read = draining.clone();
        let read_node = move || NodeReadings {
            draining: read.load(Ordering::Relaxed),
            paths: vec![("eth0".into(), Datapath::Generic)],
            ..NodeReadings::default()
        };
        let metrics =
            Metrics { cores: vec![Arc::new(CoreMetrics::default())], read_node: Box::new(read_node) };
        let port = AdminPort {
            node: "gw1".into(),
            started: Instant::now(),
            calls_max: 10,
            cores: vec![CorePort {
                post: Box::new(move |ask| {
                    if let CoreCommand::Drain { what: DrainTarget::Node, drained } = &ask.command {
                        draining.store(*drained, Ordering::Relaxed);
                    }
                    asks.send(ask).unwrap();
                }),
            }],
            metrics: Arc::new(metrics),
            reload: Box::new(|| Err("causeway.toml:3:1: no such field".into())),
            defence: guard(),
            capture: crate::admin::CapturePermissions::default(),
        };
        let admin = AdminThread::start("127.0.0.1:0".parse().unwrap(), port, None).unwrap();
        let client = Client::new(admin.address());
        (admin, client)
    }

    /// Has one entry, and denies whatever is not 10.0.0.0/8.
    fn guard() -> DefencePort {
        let deny = |network: IpNet, span: Option<Duration>, force: bool| {
            let spared: IpNet = "10.0.0.0/8".parse().unwrap();
            if spared.contains(&network) && !force {
                return Err("trunk core has peers or networks there".to_owned());
            }
            Ok(format!("{network} for {span:?}"))
        };
        DefencePort {
            deny: Box::new(deny),
            allow: Box::new(|network| Ok(format!("{network} is heard again"))),
            denied: Box::new(|| Ok(samples::denied())),
        }
    }

    fn one_call(command: CoreCommand) -> Option<CoreAnswer> {
        Some(match command {
            CoreCommand::Drain { what: DrainTarget::Trunk(trunk), .. } if trunk != "teams & co" => {
                CoreAnswer::NoSuchTrunk
            }
            CoreCommand::Alive | CoreCommand::Drain { .. } => CoreAnswer::Done,
            CoreCommand::Trunks => CoreAnswer::Trunks(vec![samples::trunk()]),
            CoreCommand::Calls { filter, .. } => {
                CoreAnswer::Calls([samples::call()].into_iter().filter(|call| filter.accepts(call)).collect())
            }
            CoreCommand::Call(call) => {
                CoreAnswer::Call((call == CallId(7)).then(|| Box::new(samples::detail())))
            }
            CoreCommand::Capture { call, wanted, .. } => {
                assert!(!wanted.audio && !wanted.secrets);
                CoreAnswer::Capture(if call == CallId(7) { Ok(()) } else { Err(call == CallId(8)) })
            }
            CoreCommand::Captured(call) => CoreAnswer::Captured((call == CallId(7)).then(|| {
                let capture = Capture::new(Wanted::default(), Time::ZERO, Duration::from_secs(1));
                Box::new(Captured { capture, clock: WallClock::new(Time::ZERO, UNIX_EPOCH) })
            })),
            CoreCommand::HangUp(call) => CoreAnswer::HangUp(call == CallId(7)),
            #[cfg(debug_assertions)]
            CoreCommand::Panic(call) => CoreAnswer::HangUp(call == CallId(7)),
            CoreCommand::Flows { limit } => CoreAnswer::Flows(vec![samples::flow(); limit]),
            CoreCommand::Silenced => CoreAnswer::Silenced(Vec::new()),
        })
    }

    #[test]
    fn each_question_is_answered_over_http() {
        let (_admin, client) = node(one_call);
        let status: NodeStatus = client.status().unwrap();
        assert_eq!((status.node.as_str(), status.cores[0].answers), ("gw1", true));
        assert_eq!(client.calls(&CallFilter::default(), 5).unwrap().calls, [samples::call()]);
        let other = CallFilter { trunk: Some("no such trunk & more".into()), ..CallFilter::default() };
        assert!(client.calls(&other, 5).unwrap().calls.is_empty());
        assert_eq!(client.call(CallId(7)).unwrap(), samples::detail());
        let flows = client.flows(3).unwrap();
        assert_eq!((flows.flows.len(), flows.more), (3, true));
        assert!(client.drops().unwrap().packets.is_empty());
        assert!(client.drain(&DrainTarget::Node, true).unwrap().done.contains("refused"));
        assert!(client.drain(&DrainTarget::Node, false).unwrap().done.contains("taken"));
        let peer = DrainTarget::Peer { trunk: "teams".into(), peer: "192.0.2.1:5060".into() };
        let told = client.drain(&peer, true).unwrap().done;
        assert_eq!(told, "peer 192.0.2.1:5060 of trunk teams: new calls are refused");
        let told = client.drain(&DrainTarget::Trunk("teams & co".into()), false).unwrap().done;
        assert_eq!(told, "trunk teams & co: new calls are taken");
        assert_eq!(client.trunks().unwrap().trunks, [samples::trunk()]);
        assert!(client.hang_up(CallId(7)).unwrap().done.contains("ended"));
        let network = |text: &str| text.parse::<IpNet>().unwrap();
        let told = client.deny(&network("2001:db8::/48"), Some(Duration::from_secs(60)), false).unwrap().done;
        assert_eq!(told, "2001:db8::/48 for Some(60s)");
        assert_eq!(client.deny(&network("10.0.0.1/32"), None, true).unwrap().done, "10.0.0.1/32 for None");
        assert_eq!(client.allow(&network("192.0.2.0/24")).unwrap().done, "192.0.2.0/24 is heard again");
        assert_eq!(client.denied().unwrap(), samples::denied());
        assert!(client.text("/metrics").unwrap().contains("causeway_calls_started_total 0"));
        assert_eq!(client.text("/health").unwrap(), "alive\n");
    }

    #[test]
    fn a_capture_is_a_file_or_a_refusal_that_says_why() {
        let (_admin, client) = node(one_call);
        let capture =
            |call, seconds, audio| client.capture(CallId(call), Duration::from_secs(seconds), true, audio);
        let file = capture(7, 1, false).unwrap();
        assert_eq!(file[..4], [0x0a, 0x0d, 0x0d, 0x0a], "a section header block");
        for (call, seconds, audio, why) in [
            (7, 1, true, "audio = true"),
            (7, 0, false, "1 to 3600 seconds"),
            (8, 1, false, "captured already"),
            (9, 1, false, "no such call"),
        ] {
            let refused = capture(call, seconds, audio).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn what_cannot_be_answered_says_why() {
        let (_admin, client) = node(one_call);
        let told = |fault: ClientFault| fault.to_string();
        assert!(told(client.call(CallId(8)).unwrap_err()).contains("no such call: 0000000000000008"));
        assert!(told(client.reload().unwrap_err()).contains("causeway.toml:3:1"));
        assert!(told(client.text("/v1/calls/zz").unwrap_err()).contains("is no call id"));
        let unknown = client.drain(&DrainTarget::Trunk("temas".into()), true).unwrap_err();
        assert!(told(unknown).contains("there is no trunk temas"));
        let spared = client.deny(&"10.0.0.1/32".parse().unwrap(), None, false).unwrap_err();
        assert!(told(spared).contains("trunk core has peers"));
        assert!(told(client.text("/v1/calls?colour=red").unwrap_err()).contains("colour"));
    }

    #[test]
    fn a_draining_node_is_alive_and_not_ready_and_says_which_path_is_slow() {
        let (_admin, client) = node(one_call);
        let told = client.text("/ready").unwrap();
        assert_eq!(told, "ready\ndegraded: media on eth0 goes by generic\n");
        client.drain(&DrainTarget::Node, true).unwrap();
        assert_eq!(client.text("/health").unwrap(), "alive\n");
        let told = client.text("/ready").unwrap_err().to_string();
        assert!(told.contains("draining") && told.contains("media on eth0 goes by generic"), "{told}");
    }

    #[test]
    fn orders_from_web_pages_are_refused() {
        let (admin, _client) = node(one_call);
        let url = format!("http://{}/v1/drain", admin.address());
        let agent = ureq::Agent::new_with_defaults();
        let from_page = agent.post(&url).header("Origin", "http://example.net").send_empty();
        assert!(matches!(from_page, Err(ureq::Error::StatusCode(403))));
        assert!(agent.post(&url).send_empty().is_ok());
    }

    #[test]
    fn a_core_that_does_not_answer_is_named() {
        let (_admin, client) = node(|_| None);
        assert!(!client.status().unwrap().cores[0].answers);
        let told = client.calls(&CallFilter::default(), 5).unwrap_err().to_string();
        assert!(told.contains("core 0 does not answer"), "{told}");
        assert!(client.text("/health").unwrap_err().to_string().contains("core 0"));
    }

    #[test]
    fn a_taken_port_is_told_with_its_fix_and_a_stopped_daemon_as_not_running() {
        let (admin, client) = node(one_call);
        let port = AdminPort {
            node: "gw2".into(),
            started: Instant::now(),
            calls_max: 0,
            cores: Vec::new(),
            metrics: Arc::new(Metrics { cores: Vec::new(), read_node: Box::new(NodeReadings::default) }),
            reload: Box::new(|| Ok(String::new())),
            defence: guard(),
            capture: crate::admin::CapturePermissions::default(),
        };
        let told = AdminThread::start(admin.address(), port, None).unwrap_err().to_string();
        assert!(told.contains("set [admin] listen to another port"), "{told}");
        drop(admin);
        let told = client.status().unwrap_err();
        assert!(matches!(told, ClientFault::NotRunning { .. }), "{told}");
    }
}
