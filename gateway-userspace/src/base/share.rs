//! Which core owns a call: a hash of the Call-ID, so that every message of a leg finds its core without a table.

use super::id::CoreId;
use super::token::Tokens;

/// One core among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub core: CoreId,
    pub cores: u16,
}

impl Share {
    /// The core that owns the leg with this Call-ID.
    pub fn owner(self, call_id: &[u8]) -> CoreId {
        let hash = u64::from(crc32fast::hash(call_id));
        // The multiplication spreads the 32-bit hash over the cores without a division's bias to the low bits.
        CoreId(((hash * u64::from(self.cores.max(1))) >> 32) as u16)
    }

    /// A Call-ID of our own that this core owns, so that both legs of a call live on one core.
    pub fn call_id(self, tokens: &mut Tokens) -> String {
        loop {
            let call_id = tokens.token();
            if self.owner(call_id.as_bytes()) == self.core {
                return call_id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_call_id_is_owned_by_its_core_and_cores_share_evenly() {
        let mut tokens = Tokens::seeded(7);
        let mut counts = [0u32; 5];
        for core in 0..5 {
            let share = Share { core: CoreId(core), cores: 5 };
            for _ in 0..20 {
                let call_id = share.call_id(&mut tokens);
                assert_eq!(share.owner(call_id.as_bytes()), CoreId(core));
            }
        }
        let share = Share { core: CoreId(0), cores: 5 };
        for _ in 0..5_000 {
            counts[usize::from(share.owner(tokens.token().as_bytes()).0)] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
