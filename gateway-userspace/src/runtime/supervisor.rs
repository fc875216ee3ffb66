//! Starting, draining and stopping the node: the main thread waits here.

use super::mailbox::{Mail, Mailbox};
use crossbeam::channel::{Receiver, Sender, unbounded};
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::thread;

/// What the main thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// SIGINT or SIGTERM: the first drains, the second stops.
    Leave,
    /// SIGHUP.
    Reload,
    /// This core is draining and its last call has ended; or it was undrained after that.
    Idle { core: u16, idle: bool },
    /// A core's thread ended without being asked.
    Died { core: u16 },
}

/// How the node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every call ended by itself.
    Drained,
    /// Calls in progress were left to the kernel and to the next daemon.
    Left,
    /// A core died.
    Broken { core: u16 },
}

/// A channel of orders, with the signals connected to it.
pub fn orders() -> io::Result<(Sender<Order>, Receiver<Order>)> {
    let (sender, receiver) = unbounded();
    let interrupted = sender.clone();
    ctrlc::set_handler(move || {
        // The receiver lives until the process ends.
        let _ = interrupted.send(Order::Leave);
    })
    .map_err(io::Error::other)?;
    let mut signals = Signals::new([SIGTERM, SIGHUP])?;
    let signalled = sender.clone();
    thread::Builder::new().name("causeway-signal".into()).spawn(move || {
        for signal in signals.forever() {
            let order = if signal == SIGHUP { Order::Reload } else { Order::Leave };
            if signalled.send(order).is_err() {
                return;
            }
        }
    })?;
    Ok((sender, receiver))
}

/// Waits until the node is to end, and tells the cores what is asked meanwhile.
pub fn supervise(orders: &Receiver<Order>, cores: &[Mailbox], reload: impl Fn()) -> Outcome {
    let mut draining = false;
    let mut idle = vec![false; cores.len()];
    let post = |mail: fn() -> Mail| cores.iter().for_each(|core| core.post(mail()));
    for order in orders {
        match order {
            Order::Leave if draining => {
                tracing::warn!(
                    "stopping at once: calls in progress are left to the kernel and the next daemon"
                );
                return Outcome::Left;
            }
            Order::Leave => {
                tracing::info!("draining: new calls are refused, a second signal stops at once");
                draining = true;
                // A node that the command line has drained says no second time that it is idle.
                if idle.iter().all(|idle| *idle) {
                    return Outcome::Drained;
                }
                post(|| Mail::Drain);
            }
            Order::Reload => reload(),
            Order::Idle { core, idle: now } => {
                if let Some(idle) = idle.get_mut(usize::from(core)) {
                    *idle = now;
                }
                // A drain that the command line asked for refuses calls, but only a signal ends the process.
                if draining && idle.iter().all(|idle| *idle) {
                    return Outcome::Drained;
                }
            }
            Order::Died { core } => return Outcome::Broken { core },
        }
    }
    Outcome::Left
}
