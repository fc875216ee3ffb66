//! The command line's side of the admin interface.

use super::answer::{CallList, DeniedList, Done, Drops, Failed, FlowList, NodeStatus, TrunkList};
use super::command::{CallFilter, DrainTarget};
use crate::base::id::CallId;
use crate::observe::calls::CallDetail;
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::time::Duration;
use ureq::http::Response;
use ureq::{Agent, Body};

/// Longer than the daemon waits for its cores.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientFault {
    #[error(
        "no causeway answers on {address}: {error}\nIs it running? Is [admin] listen another address (--admin)?"
    )]
    NotRunning { address: SocketAddr, error: String },
    /// The daemon's own words.
    #[error("{0}")]
    Refused(String),
    #[error("the answer of {address} is not one of this version of causeway: {error}")]
    Unreadable { address: SocketAddr, error: String },
}

/// One running daemon.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    agent: Agent,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let config = Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false);
        // Never through a proxy that the environment names: the daemon is on this host or this network.
        Self { address, agent: config.proxy(None).build().into() }
    }

    /// # Errors
    /// As all questions here: [`ClientFault`].
    pub fn status(&self) -> Result<NodeStatus, ClientFault> {
        self.read("/v1/status", &[])
    }

    pub fn calls(&self, filter: &CallFilter, limit: usize) -> Result<CallList, ClientFault> {
        let limit = limit.to_string();
        let mut query = vec![("limit", limit.as_str())];
        let progress = filter.progress.map(|progress| progress.word());
        query.extend(progress.map(|progress| ("progress", progress)));
        query.extend(filter.trunk.as_deref().map(|trunk| ("trunk", trunk)));
        query.extend(filter.number.as_deref().map(|number| ("number", number)));
        self.read("/v1/calls", &query)
    }

    pub fn call(&self, call: CallId) -> Result<CallDetail, ClientFault> {
        self.read(&format!("/v1/calls/{call}"), &[])
    }

    pub fn flows(&self, limit: usize) -> Result<FlowList, ClientFault> {
        self.read("/v1/flows", &[("limit", &limit.to_string())])
    }

    pub fn drops(&self) -> Result<Drops, ClientFault> {
        self.read("/v1/drops", &[])
    }

    pub fn reload(&self) -> Result<Done, ClientFault> {
        self.order("/v1/reload")
    }

    pub fn trunks(&self) -> Result<TrunkList, ClientFault> {
        self.read("/v1/trunks", &[])
    }

    pub fn drain(&self, what: &DrainTarget, drained: bool) -> Result<Done, ClientFault> {
        let query = match what {
            DrainTarget::Node => vec![],
            DrainTarget::Trunk(trunk) => vec![("trunk", trunk.as_str())],
            DrainTarget::Peer { trunk, peer } => vec![("trunk", trunk.as_str()), ("peer", peer)],
        };
        let path = if drained { "/v1/drain" } else { "/v1/undrain" };
        let response = self.agent.post(self.url(path)).query_pairs(query).send_empty();
        self.parse(&self.body(response)?)
    }

    /// Denies a network for as long as is said, or usual; one that trunks use only if forced.
    pub fn deny(&self, network: &IpNet, span: Option<Duration>, force: bool) -> Result<Done, ClientFault> {
        let (network, force) = (network.to_string(), force.to_string());
        let seconds = span.map(|span| span.as_secs().to_string());
        let mut query = vec![("network", network.as_str()), ("force", &force)];
        query.extend(seconds.as_deref().map(|seconds| ("seconds", seconds)));
        let response = self.agent.post(self.url("/v1/deny")).query_pairs(query).send_empty();
        self.parse(&self.body(response)?)
    }

    pub fn allow(&self, network: &IpNet) -> Result<Done, ClientFault> {
        let query = [("network", network.to_string())];
        let response = self.agent.post(self.url("/v1/allow")).query_pairs(query).send_empty();
        self.parse(&self.body(response)?)
    }

    pub fn denied(&self) -> Result<DeniedList, ClientFault> {
        self.read("/v1/denied", &[])
    }

    /// A file in the pcapng format, after `span`.
    pub fn capture(
        &self,
        call: CallId,
        span: Duration,
        sip: bool,
        audio: bool,
    ) -> Result<Vec<u8>, ClientFault> {
        let [seconds, sip, audio] = [span.as_secs().to_string(), sip.to_string(), audio.to_string()];
        let query = [("seconds", seconds), ("sip", sip), ("audio", audio)];
        let request = self.agent.post(self.url(&format!("/v1/calls/{call}/capture"))).query_pairs(query);
        let request = request.config().timeout_global(Some(span + PATIENCE * 2)).build();
        let response = request.send_empty();
        if response.as_ref().is_ok_and(|response| !response.status().is_success()) {
            self.body(response)?;
            return Ok(Vec::new());
        }
        let not_running =
            |error: ureq::Error| ClientFault::NotRunning { address: self.address, error: error.to_string() };
        let mut response = response.map_err(not_running)?;
        response.body_mut().with_config().limit(64 << 20).read_to_vec().map_err(not_running)
    }

    pub fn hang_up(&self, call: CallId) -> Result<Done, ClientFault> {
        self.order(&format!("/v1/calls/{call}/hang-up"))
    }

    /// The body of any path, for `/metrics`, `/health` and `/ready`.
    pub fn text(&self, path: &str) -> Result<String, ClientFault> {
        let response = self.agent.get(self.url(path)).call();
        self.body(response)
    }

    fn read<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, ClientFault> {
        let response = self.agent.get(self.url(path)).query_pairs(query.iter().copied()).call();
        self.parse(&self.body(response)?)
    }

    fn order(&self, path: &str) -> Result<Done, ClientFault> {
        let response = self.agent.post(self.url(path)).send_empty();
        self.parse(&self.body(response)?)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn body(&self, response: Result<Response<Body>, ureq::Error>) -> Result<String, ClientFault> {
        let not_running =
            |error: ureq::Error| ClientFault::NotRunning { address: self.address, error: error.to_string() };
        let mut response = response.map_err(not_running)?;
        let body = response.body_mut().with_config().limit(64 << 20).read_to_string().map_err(not_running)?;
        if response.status().is_success() {
            return Ok(body);
        }
        let told = serde_json::from_str::<Failed>(&body).map(|failed| failed.error);
        Err(ClientFault::Refused(told.unwrap_or(body)))
    }

    fn parse<T: DeserializeOwned>(&self, body: &str) -> Result<T, ClientFault> {
        serde_json::from_str(body)
            .map_err(|error| ClientFault::Unreadable { address: self.address, error: error.to_string() })
    }
}
