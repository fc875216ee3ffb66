//! Registrars behind the service's phones, and what has to agree between them and the gateway.

use super::{BOB, CAROL, Scene};
use crate::stage::phone::Registrar;
use gateway_userspace::policy::RegistrationState;
use std::time::Duration;

/// How long the gateway may think that it is registered where it is not any more, once the machine has stood still or it
/// took its Contact back: until it gives up waiting for an answer (64*T1), and a little.
const GRACE: Duration = Duration::from_secs(40);

impl Scene {
    /// The service's phones are registrars from now on, whose nonces last for so long.
    pub fn has_registrars(&mut self, lifetime: Duration) {
        for phone in [BOB, CAROL] {
            self.phones[phone].registrar = Some(Registrar::new(lifetime));
        }
    }

    /// Where the gateway is registered, a registrar knows it.
    pub(super) fn broken_registrations(&self) -> Vec<String> {
        if self.clock.resumed.is_some_and(|resumed| self.now.since(resumed) < GRACE) {
            return Vec::new();
        }
        let mut broken = Vec::new();
        for phone in &self.phones {
            let Some(registrar) = &phone.registrar else { continue };
            let targets =
                self.policy.trunks().flat_map(|(id, _)| self.policy.peers(id)).flat_map(|view| view.targets);
            let states = targets.filter(|target| target.address == phone.address);
            let is_registered = states
                .filter_map(|target| target.standing.registration())
                .any(|state| state == RegistrationState::Registered);
            let is_known = registrar.knows_somebody(self.now) || registrar.was_left(self.now, GRACE);
            if is_registered && !is_known {
                broken.push(format!("the gateway is registered with {}, who knows nobody", phone.name));
            }
        }
        broken
    }
}
