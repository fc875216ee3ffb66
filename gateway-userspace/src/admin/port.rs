//! The one executor of [`AdminCommand`]: asks the cores that it concerns and puts their answers together.

use super::AdminFault;
use super::answer::{
    CallList, CertificateStatus, CoreStatus, DeniedList, Done, DropLine, Drops, FlowList, MediaPath,
    NodeStatus, TrunkList,
};
use super::command::{AdminCommand, Ask, CallFilter, CoreAnswer, CoreCommand, DrainTarget};
use crate::base::id::CallId;
use crate::observe::calls::{CallDetail, CallSummary, Progress};
use crate::observe::capture::{Wanted, write};
use crate::observe::metrics::{CertificateReading, Metrics};
use ipnet::IpNet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a core may take to answer: it looks at its queue once a turn, and a turn takes microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the admin thread needs of the rest of the node. The runtime fills it in at start.
pub struct AdminPort {
    /// Name of the node.
    pub node: String,
    pub started: Instant,
    pub calls_max: u64,
    /// In order of the cores.
    pub cores: Vec<CorePort>,
    pub metrics: Arc<Metrics>,
    /// Reads the configuration again and hands it to the cores; the error is told to whoever asked.
    pub reload: Box<dyn Fn() -> Result<String, String> + Send + Sync>,
    pub defence: DefencePort,
    pub capture: CapturePermissions,
}

/// Denies a network for so long; one that trunks use only if forced.
type Deny = dyn Fn(IpNet, Option<Duration>, bool) -> Result<String, String> + Send + Sync;

/// The way to the guard of the SIP sockets; errors are told to whoever asked.
pub struct DefencePort {
    pub deny: Box<Deny>,
    pub allow: Box<dyn Fn(IpNet) -> Result<String, String> + Send + Sync>,
    pub denied: Box<dyn Fn() -> Result<DeniedList, String> + Send + Sync>,
}

/// The way into one core.
pub struct CorePort {
    /// Puts a question into its queue and wakes it. A question that is dropped counts as not answered.
    pub post: Box<dyn Fn(Ask) + Send + Sync>,
}

/// The answer to an [`AdminCommand`], of the kind that was asked for; as JSON it is the bare answer.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum Answer {
    Status(Box<NodeStatus>),
    Calls(CallList),
    Call(Box<CallDetail>),
    Flows(FlowList),
    Drops(Drops),
    Trunks(TrunkList),
    Denied(DeniedList),
    Done(Done),
    /// A file in the pcapng format, which is no JSON.
    #[serde(skip)]
    Capture(Vec<u8>),
}

/// What captures may hold, as the configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapturePermissions {
    pub audio: bool,
    pub secrets: bool,
}

/// The longest capture of a call.
pub const CAPTURE_MAX: Duration = Duration::from_secs(3_600);

fn defended(outcome: Result<String, String>) -> Result<Done, AdminFault> {
    outcome.map(|done| Done { done }).map_err(AdminFault::DefenceRefused)
}

fn certificate_status(reading: &CertificateReading) -> CertificateStatus {
    CertificateStatus {
        trunk: reading.trunk.to_string(),
        subject: reading.subject.clone(),
        expires: reading.expires.clone(),
        days_left: reading.days_left,
        engine: reading.engine.to_owned(),
    }
}

impl AdminPort {
    /// Carries out one command.
    ///
    /// # Errors
    /// [`AdminFault::CoreSilent`] when a core that the answer needs does not give its part in time,
    /// [`AdminFault::NoSuchCall`], [`AdminFault::NoSuchTrunk`], [`AdminFault::ReloadRefused`],
    /// [`AdminFault::DefenceRefused`].
    pub async fn execute(&self, command: AdminCommand) -> Result<Answer, AdminFault> {
        Ok(match command {
            AdminCommand::Status => Answer::Status(Box::new(self.status().await)),
            AdminCommand::Calls { filter, limit } => Answer::Calls(self.calls(filter, limit).await?),
            AdminCommand::Call(call) => Answer::Call(Box::new(self.call(call).await?)),
            AdminCommand::Capture { call, span, sip, audio } => {
                Answer::Capture(self.capture(call, span, sip, audio).await?)
            }
            AdminCommand::HangUp(call) => Answer::Done(self.end(call, CoreCommand::HangUp(call)).await?),
            #[cfg(debug_assertions)]
            AdminCommand::Panic(call) => Answer::Done(self.end(call, CoreCommand::Panic(call)).await?),
            AdminCommand::Flows { limit } => Answer::Flows(self.flows(limit).await?),
            AdminCommand::Drops => Answer::Drops(self.drops().await?),
            AdminCommand::Reload => Answer::Done(self.reload()?),
            AdminCommand::Trunks => Answer::Trunks(self.trunks().await?),
            AdminCommand::Drain { what, drained } => Answer::Done(self.drain(what, drained).await?),
            AdminCommand::Deny { network, span, force } => {
                Answer::Done(defended((self.defence.deny)(network, span, force))?)
            }
            AdminCommand::Allow { network } => Answer::Done(defended((self.defence.allow)(network))?),
            AdminCommand::Denied => {
                Answer::Denied((self.defence.denied)().map_err(AdminFault::DefenceRefused)?)
            }
        })
    }

    /// How the node is. A core that does not answer shows in it.
    pub async fn status(&self) -> NodeStatus {
        let mut cores = Vec::with_capacity(self.cores.len());
        for (core, answer) in (0_u16..).zip(self.ask_all(&CoreCommand::Alive).await) {
            let metrics = self.metrics.cores.get(usize::from(core));
            let calls = metrics.map_or(0, |core| core.calls());
            cores.push(CoreStatus { core, calls, answers: answer.is_ok() });
        }
        let readings = (self.metrics.read_node)();
        let delays = self.metrics.setup_delay();
        let quantile =
            |quantile| (!delays.is_empty()).then(|| delays.value_at_quantile(quantile) as f64 / 1_000.0);
        let path =
            |(interface, path): &(Arc<str>, _)| MediaPath { interface: interface.to_string(), path: *path };
        NodeStatus {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            draining: readings.draining,
            media: readings.paths.iter().map(path).collect(),
            calls: self.metrics.calls(),
            calls_max: self.calls_max,
            calls_started: self.metrics.total("causeway_calls_started"),
            calls_answered: self.metrics.total("causeway_calls_answered"),
            calls_ended: self.metrics.total("causeway_calls_ended"),
            setup_p50_ms: quantile(0.5),
            setup_p99_ms: quantile(0.99),
            flows: readings.flows,
            flows_max: readings.flows_max,
            media_port_pairs_in_use: readings.port_pairs_in_use,
            media_port_pairs: readings.port_pairs,
            packets_relayed: readings.transmitted + readings.redirected,
            packets_dropped: readings.drops.iter().map(|(_, count)| count).sum(),
            call_records_lost: self.metrics.total("causeway_call_records_lost"),
            cores,
            certificates: readings.certificates.iter().map(certificate_status).collect(),
        }
    }

    /// A list with a core missing would mislead, so a silent one is an error.
    async fn calls(&self, filter: CallFilter, limit: usize) -> Result<CallList, AdminFault> {
        let command = CoreCommand::Calls { filter, limit: limit.saturating_add(1) };
        let mut calls = Vec::new();
        for answer in self.ask_all(&command).await {
            if let CoreAnswer::Calls(part) = answer? {
                calls.extend(part);
            }
        }
        // As each core sorts its own: in progress first, oldest first; then ended ones, latest first.
        calls.sort_by(|a, b| {
            let ended = |call: &CallSummary| call.progress == Progress::Ended;
            let age = a.started_at.cmp(&b.started_at);
            ended(a).cmp(&ended(b)).then(if ended(a) { age.reverse() } else { age })
        });
        let more = calls.len() > limit;
        calls.truncate(limit);
        Ok(CallList { calls, more })
    }

    async fn call(&self, call: CallId) -> Result<CallDetail, AdminFault> {
        let mut silent = None;
        for answer in self.ask_all(&CoreCommand::Call(call)).await {
            match answer {
                Ok(CoreAnswer::Call(Some(detail))) => return Ok(*detail),
                Ok(_) => {}
                Err(fault) => silent = Some(fault),
            }
        }
        Err(silent.unwrap_or_else(|| AdminFault::NoSuchCall(call.to_string())))
    }

    /// Takes as long as the capture.
    async fn capture(
        &self,
        call: CallId,
        span: Duration,
        sip: bool,
        audio: bool,
    ) -> Result<Vec<u8>, AdminFault> {
        if audio && !self.capture.audio {
            return Err(AdminFault::CaptureRefused(
                "audio is not permitted: [capture] audio = true in the configuration permits it".to_owned(),
            ));
        }
        if span.is_zero() || span > CAPTURE_MAX {
            let most = CAPTURE_MAX.as_secs();
            return Err(AdminFault::BadQuestion(format!("a capture takes 1 to {most} seconds")));
        }
        let wanted = Wanted { sip, audio, secrets: self.capture.secrets };
        let begun = self.ask_all(&CoreCommand::Capture { call, wanted, span }).await;
        let begun = begun.into_iter().flatten();
        let begun: Vec<_> = begun
            .filter_map(|answer| if let CoreAnswer::Capture(begun) = answer { Some(begun) } else { None })
            .collect();
        if begun.contains(&Err(true)) {
            let busy = "this call is captured already, or four others of its core are";
            return Err(AdminFault::CaptureRefused(busy.to_owned()));
        }
        if !begun.contains(&Ok(())) {
            return Err(AdminFault::NoSuchCall(call.to_string()));
        }
        tokio::time::sleep(span).await;
        for answer in self.ask_all(&CoreCommand::Captured(call)).await.into_iter().flatten() {
            if let CoreAnswer::Captured(Some(captured)) = answer {
                let comment = format!("call {call} on {}", self.node);
                return write(&captured, &comment)
                    .map_err(|fault| AdminFault::CaptureRefused(fault.to_string()));
            }
        }
        Err(AdminFault::NoSuchCall(call.to_string()))
    }

    async fn end(&self, call: CallId, command: CoreCommand) -> Result<Done, AdminFault> {
        let mut silent = None;
        for answer in self.ask_all(&command).await {
            match answer {
                Ok(CoreAnswer::HangUp(true)) => {
                    return Ok(Done { done: format!("call {call} is being ended") });
                }
                Ok(_) => {}
                Err(fault) => silent = Some(fault),
            }
        }
        Err(silent.unwrap_or_else(|| AdminFault::NoSuchCall(call.to_string())))
    }

    async fn flows(&self, limit: usize) -> Result<FlowList, AdminFault> {
        let mut flows = Vec::new();
        for answer in self.ask_all(&CoreCommand::Flows { limit: limit.saturating_add(1) }).await {
            if let CoreAnswer::Flows(part) = answer? {
                flows.extend(part);
            }
        }
        flows.sort_by(|a, b| a.call.cmp(&b.call).then(a.slot.cmp(&b.slot)));
        let more = flows.len() > limit;
        flows.truncate(limit);
        Ok(FlowList { flows, more })
    }

    async fn drops(&self) -> Result<Drops, AdminFault> {
        let mut silenced = Vec::new();
        for answer in self.ask_all(&CoreCommand::Silenced).await {
            if let CoreAnswer::Silenced(part) = answer? {
                silenced.extend(part);
            }
        }
        silenced.sort_by(|a, b| b.messages.cmp(&a.messages).then(a.address.cmp(&b.address)));
        let readings = (self.metrics.read_node)();
        let packets = readings.drops.iter().filter(|(_, count)| *count > 0);
        let packets = packets.map(|(reason, count)| DropLine {
            reason: reason.label().to_owned(),
            count: *count,
            explanation: reason.explanation().trim().to_owned(),
        });
        let requests = self.metrics.requests_refused().into_iter().filter(|(_, count)| *count > 0);
        let requests = requests.map(|(fault, count)| DropLine {
            reason: fault.label().to_owned(),
            count,
            explanation: fault.explanation().trim().to_owned(),
        });
        Ok(Drops { packets: packets.collect(), requests: requests.collect(), silenced })
    }

    fn reload(&self) -> Result<Done, AdminFault> {
        (self.reload)().map(|done| Done { done }).map_err(AdminFault::ReloadRefused)
    }

    async fn trunks(&self) -> Result<TrunkList, AdminFault> {
        match self.ask_one(&CoreCommand::Trunks).await? {
            CoreAnswer::Trunks(trunks) => Ok(TrunkList { trunks }),
            _ => Err(AdminFault::CoreSilent(0)),
        }
    }

    /// Every core drains its own part of the node; what trunks and peers are is one thing for all cores.
    async fn drain(&self, what: DrainTarget, drained: bool) -> Result<Done, AdminFault> {
        let command = CoreCommand::Drain { what: what.clone(), drained };
        let refused = if drained { "new calls are refused" } else { "new calls are taken" };
        if what == DrainTarget::Node {
            tracing::info!(drained, "drain of the node by command: {refused}");
            for answer in self.ask_all(&command).await {
                answer?;
            }
            let going_on = format!("; {} calls in progress finish", self.metrics.calls());
            return Ok(Done { done: format!("{refused}{}", if drained { going_on.as_str() } else { "" }) });
        }
        match self.ask_one(&command).await? {
            CoreAnswer::NoSuchTrunk => Err(AdminFault::NoSuchTrunk(what.to_string())),
            _ => Ok(Done { done: format!("{what}: {refused}") }),
        }
    }

    /// Asks the first core what any could answer.
    async fn ask_one(&self, command: &CoreCommand) -> Result<CoreAnswer, AdminFault> {
        let answer = self.ask(self.cores.iter().take(1), command).await.pop();
        answer.unwrap_or(Err(AdminFault::CoreSilent(0)))
    }

    /// Asks all cores at once; answers in order of the cores.
    async fn ask_all(&self, command: &CoreCommand) -> Vec<Result<CoreAnswer, AdminFault>> {
        self.ask(self.cores.iter(), command).await
    }

    async fn ask(
        &self,
        cores: impl Iterator<Item = &CorePort>,
        command: &CoreCommand,
    ) -> Vec<Result<CoreAnswer, AdminFault>> {
        let ask = |core: &CorePort| {
            let (reply, answer) = oneshot::channel();
            (core.post)(Ask { command: command.clone(), reply });
            answer
        };
        let asked: Vec<_> = cores.map(ask).collect();
        let mut answers = Vec::with_capacity(asked.len());
        // One deadline for all: waiting for the first is time that the others had as well.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for (core, answer) in (0_u16..).zip(asked) {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let answer = timeout(left, answer).await.ok().and_then(Result::ok);
            answers.push(answer.ok_or(AdminFault::CoreSilent(core)));
        }
        answers
    }
}
