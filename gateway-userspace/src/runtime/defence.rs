//! The guard of our sockets follows the configuration and the DNS; sources that keep offending are denied, and
//! whatever the operator denies.
//!
//! Beside the call path: cores only put offences into a queue.

use super::mailbox::{Mail, Mailbox};
use super::offline;
use super::worker::clock;
use crate::admin::answer::DeniedList;
use crate::base::time::Time;
use crate::dataplane::{DataplaneFault, Guard, GuardLimits, GuardedSocket, Protocol};
use crate::observe::{DenialCause, Event, Offence};
use crate::policy::{DefenceSettings, Heard, Offenders, Snapshot};
use crate::sip::transport::Transport;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use gateway_common::guard::Pace;
use ipnet::IpNet;
use parking_lot::Mutex;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Offences that wait to be counted.
pub(super) const QUEUE: usize = 1_024;

/// How often what is over is removed from the lists.
const SWEEP: Duration = Duration::from_secs(5);

/// How long a command denies that does not say it.
const USUAL_DENIAL: Duration = Duration::from_secs(3_600);

/// The one place that decides who is denied.
#[derive(Debug)]
pub(super) struct Defence {
    inner: Mutex<Inner>,
    /// Of the core whose observer tells of it.
    tell: Mailbox,
}

#[derive(Debug)]
struct Inner {
    guard: Guard,
    policy: Arc<Snapshot>,
    settings: DefenceSettings,
    /// As last written.
    guarded: Vec<GuardedSocket>,
    limits: GuardLimits,
    offenders: Offenders,
    denied: usize,
    log: LogLimit,
}

impl Defence {
    /// Guards the sockets of `policy` from now on.
    pub(super) fn new(guard: Guard, policy: Arc<Snapshot>, settings: DefenceSettings, tell: Mailbox) -> Self {
        let mut inner = Inner {
            guard,
            policy,
            settings,
            guarded: Vec::new(),
            limits: GuardLimits::default(),
            offenders: Offenders::default(),
            denied: 0,
            log: LogLimit::default(),
        };
        // What a daemon before this one left is written anew, whatever it was.
        inner.protect();
        inner.sweep();
        Self { inner: Mutex::new(inner), tell }
    }

    /// Takes another policy, or the same with what names mean now, and other settings.
    pub(super) fn follow(&self, policy: &Arc<Snapshot>, settings: DefenceSettings) {
        let inner = &mut *self.inner.lock();
        (inner.policy, inner.settings) = (Arc::clone(policy), settings);
        if inner.sockets() != inner.guarded || inner.limits() != inner.limits {
            inner.protect();
        }
        match inner.forgive() {
            Ok(forgiven) => {
                forgiven.into_iter().for_each(|network| self.tell(Event::SourceAllowed { network }))
            }
            Err(error) => tracing::error!(%error, "what is denied cannot be read"),
        }
        inner.sweep();
    }

    /// Denies by order, and says so; refuses what would silence a trunk, unless told to do it all the same.
    ///
    /// # Errors
    /// Why it is not denied, for people.
    pub(super) fn deny(&self, network: IpNet, span: Option<Duration>, force: bool) -> Result<String, String> {
        let (inner, span) = (&mut *self.inner.lock(), span.unwrap_or(USUAL_DENIAL));
        if !inner.settings.enabled {
            return Err("[defence] enabled = false: nobody is denied".to_owned());
        }
        if let (false, Some(trunk)) = (force, inner.policy.spared(&network, inner.settings.spare)) {
            return Err(format!(
                "trunk {trunk} has peers or networks there: --force denies them all the same"
            ));
        }
        let cause = DenialCause::Operator;
        inner.guard.deny(network, span, cause.number()).map_err(|error| error.to_string())?;
        inner.sweep();
        let name = offline::name(&network);
        tracing::warn!(network = name, seconds = span.as_secs(), "denied by command");
        self.tell(Event::SourceDenied { network, cause, span });
        Ok(format!("{name} gets silence for {} seconds", span.as_secs()))
    }

    /// Takes back every denial of this network and inside it.
    ///
    /// # Errors
    /// None of it is denied; or the kernel says no.
    pub(super) fn allow(&self, network: IpNet) -> Result<String, String> {
        let inner = &mut *self.inner.lock();
        let told = |error: DataplaneFault| error.to_string();
        let name = offline::name(&network);
        if inner.guard.allow(network).map_err(told)? == 0 {
            let denied = inner.guard.denied().map_err(told)?;
            let around = denied.iter().find(|view| view.network.contains(&network));
            return Err(match around {
                Some(view) => format!("{name} is denied with {}: allow that", offline::name(&view.network)),
                None => format!("{name} is not denied: `causeway denied` lists who is"),
            });
        }
        inner.sweep();
        self.tell(Event::SourceAllowed { network });
        Ok(format!("{name} is heard again, as far as a trunk allows it"))
    }

    /// Who is denied now.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn denied(&self) -> Result<DeniedList, String> {
        let denied = self.inner.lock().guard.denied().map_err(|error| error.to_string())?;
        Ok(offline::denied_list(&denied))
    }

    /// How many are denied, as of a few seconds ago at most.
    pub(super) fn denied_count(&self) -> u64 {
        self.inner.lock().denied as u64
    }

    fn offence(&self, source: IpAddr, offence: Offence, now: Time) {
        let inner = &mut *self.inner.lock();
        if !inner.settings.enabled || !inner.guard.is_there() {
            return;
        }
        let source = source.to_canonical();
        if !inner.offenders.offend(source, &inner.settings, now) {
            return;
        }
        let (network, cause) = (IpNet::from(source), DenialCause::Offence(offence));
        if let Some(trunk) = inner.policy.spared(&network, inner.settings.spare) {
            if let Some(untold) = inner.log.may_tell(now) {
                tracing::warn!(%source, %cause, trunk, untold, "a source of a trunk keeps offending and is spared");
            }
            return;
        }
        let span = inner.settings.denial;
        if let Err(error) = inner.guard.deny_offender(source, span, cause.number()) {
            return tracing::error!(%source, %error, "a source cannot be denied");
        }
        inner.denied += 1;
        if let Some(untold) = inner.log.may_tell(now) {
            tracing::warn!(%source, %cause, seconds = span.as_secs(), untold, "source denied: it keeps offending");
        }
        self.tell(Event::SourceDenied { network, cause, span });
    }

    fn sweep(&self) {
        self.inner.lock().sweep();
    }

    fn tell(&self, event: Event) {
        self.tell.post(Mail::Tell(event));
    }
}

/// Counts offences until nobody is left to report any.
pub(super) fn watch(
    defence: Arc<Defence>,
    offences: Receiver<(IpAddr, Offence)>,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("causeway-guard".into()).spawn(move || {
        let mut swept = clock();
        loop {
            match offences.recv_timeout(SWEEP) {
                Ok((source, offence)) => defence.offence(source, offence, clock()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = clock();
            if now.since(swept) >= SWEEP {
                swept = now;
                defence.sweep();
            }
        }
    })
}

impl Inner {
    fn protect(&mut self) {
        (self.guarded, self.limits) = (self.sockets(), self.limits());
        if !self.guard.is_there() {
            return tracing::info!("SIP sockets are not guarded: packets do not pass the XDP program");
        }
        match self.guard.protect(&self.guarded, &self.limits) {
            Ok(()) => {
                let sources: usize = self.guarded.iter().map(|socket| socket.sources.len()).sum();
                tracing::info!(sockets = self.guarded.len(), sources, "SIP sockets guarded");
            }
            Err(error) => tracing::error!(%error, "SIP sockets are not guarded"),
        }
    }

    fn sockets(&self) -> Vec<GuardedSocket> {
        let guarded = |Heard { listen, transport, sources }| {
            let protocol = match transport {
                Transport::Udp => Protocol::Udp,
                Transport::Tcp | Transport::Tls => Protocol::Tcp,
            };
            GuardedSocket { at: listen, protocol, sources }
        };
        let heard = if self.settings.enabled { self.policy.heard() } else { Vec::new() };
        heard.into_iter().map(guarded).collect()
    }

    fn limits(&self) -> GuardLimits {
        let DefenceSettings { packets_per_second, burst, .. } = self.settings;
        GuardLimits { known: Pace::new(packets_per_second, burst), ..GuardLimits::default() }
    }

    /// Takes back what was denied without an order and belongs to a trunk by now.
    fn forgive(&mut self) -> Result<Vec<IpNet>, DataplaneFault> {
        let mut forgiven = Vec::new();
        for view in self.guard.denied()? {
            let spared = self.policy.spared(&view.network, self.settings.spare).is_some();
            if spared && DenialCause::of_number(view.cause) != DenialCause::Operator {
                self.guard.forgive(view.network.addr())?;
                forgiven.push(view.network);
            }
        }
        Ok(forgiven)
    }

    fn sweep(&mut self) {
        match self.guard.sweep() {
            Ok(denied) => self.denied = denied,
            Err(error) => tracing::error!(%error, "denials that are over cannot be removed"),
        }
    }
}

/// A few lines a minute, whatever happens.
#[derive(Debug, Default)]
struct LogLimit {
    since: Time,
    told: u32,
    untold: u32,
}

const LINES_A_MINUTE: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);

impl LogLimit {
    /// How many lines were left out since the last one; `None` if this one is to be left out as well.
    fn may_tell(&mut self, now: Time) -> Option<u32> {
        if now.since(self.since) >= MINUTE {
            (self.since, self.told) = (now, 0);
        }
        if self.told >= LINES_A_MINUTE {
            self.untold += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_denials_is_told_in_a_few_lines_a_minute_that_say_how_many_are_missing() {
        let mut log = LogLimit::default();
        let begin = Time(100_000_000);
        let told = (0..500).filter_map(|_| log.may_tell(begin)).collect::<Vec<_>>();
        assert_eq!(told, [0; 10]);
        assert_eq!(log.may_tell(begin + MINUTE), Some(490));
        assert_eq!(log.may_tell(begin + MINUTE), Some(0));
    }
}
