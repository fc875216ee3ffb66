//! What is remembered of flows, by slot: in memory of our own, or in the very memory that the XDP program writes, where
//! userspace relays flows that the program relayed before, or will.

use crate::dataplane::mmap::{Element, SharedArray};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

pub(in crate::dataplane) enum States<T> {
    Own(HashMap<u32, T>),
    Shared(Arc<SharedArray<T>>),
}

impl<T: Element + Default> States<T> {
    /// The state of a slot; of one that heard nothing, the state the kernel's array starts with.
    pub(super) fn read(&self, slot: u32) -> T {
        match self {
            Self::Own(states) => states.get(&slot).copied(),
            Self::Shared(states) => states.read(slot as usize),
        }
        .unwrap_or_default()
    }

    /// Changes the state of a slot. In shared memory only the words that change are written: the program may write others
    /// meanwhile.
    pub(super) fn change<R>(&mut self, slot: u32, change: impl FnOnce(&mut T) -> R) -> R {
        match self {
            Self::Own(states) => change(states.entry(slot).or_default()),
            Self::Shared(states) => {
                let before = states.read(slot as usize).unwrap_or_default();
                let mut after = before;
                let result = change(&mut after);
                states.amend(slot as usize, &before, &after);
                result
            }
        }
    }

    /// Forgets a slot's state. What the kernel has of it belongs to an epoch, and means nothing after it.
    pub(super) fn forget(&mut self, slot: u32) {
        if let Self::Own(states) = self {
            states.remove(&slot);
        }
    }
}

impl<T> Default for States<T> {
    fn default() -> Self {
        Self::Own(HashMap::new())
    }
}

impl<T> fmt::Debug for States<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own(_) => "Own",
            Self::Shared(_) => "Shared",
        })
    }
}
