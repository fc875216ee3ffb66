//! Q.850 causes as a trunk's network means them.

use std::collections::BTreeMap;

/// What causes become on their way to a trunk; those not in it stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CauseMap(BTreeMap<u8, u8>);

impl CauseMap {
    /// Of pairs of a cause (1 to 127) and what it becomes.
    pub fn new(pairs: impl IntoIterator<Item = (u8, u8)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    pub fn of(&self, cause: u8) -> u8 {
        self.0.get(&cause).copied().unwrap_or(cause)
    }
}
