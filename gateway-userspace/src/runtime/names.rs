//! Peers by name: which are wanted of the DNS, and how what they mean reaches the cores.

use super::mailbox::{Mail, Mailbox};
use crate::config::Config;
use crate::policy::{PeerAddress, Snapshot, Trunk};
use crate::resolve::{Family, Findings, Wanted};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// All names of peers.
pub(super) fn wanted(policy: &Snapshot) -> Vec<Wanted> {
    let peers = policy.trunks().flat_map(|(_, trunk)| trunk.peers.iter().map(move |peer| (trunk, peer)));
    let named = peers.filter(|(_, peer)| peer.address.authority().is_some());
    named.map(|(trunk, peer)| wanted_by(trunk, &peer.address)).collect()
}

/// Tells all cores what names mean now.
pub(super) fn publisher(
    config: Arc<Mutex<(PathBuf, Config)>>,
    mailboxes: Arc<[Mailbox]>,
) -> Box<dyn Fn(&Findings) + Send + Sync> {
    Box::new(move |findings| {
        let (_, config) = &mut *config.lock();
        let look_up = |trunk: &Trunk, address: &PeerAddress| {
            findings.meaning(&wanted_by(trunk, address)).map(<[_]>::to_vec)
        };
        config.policy = Arc::new(config.policy.resolved(&look_up));
        for core in mailboxes.iter() {
            core.post(Mail::Policy { policy: Arc::clone(&config.policy), tls: Arc::clone(&config.tls) });
        }
    })
}

fn wanted_by(trunk: &Trunk, address: &PeerAddress) -> Wanted {
    Wanted { address: address.clone(), transport: trunk.transport, family: Family::of(trunk.listen.ip()) }
}
