//! Keys of a telephone that travel in signalling, on one side of the call or on both.

use super::Established;
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::call::feature::keys;
use crate::call::{Action, Context, RequestKey};
use crate::signal::dtmf::body::Press;
use crate::sip::message::{Request, StatusCode};
use crate::sip::transaction::ServerId;

impl Established {
    /// INFO, or NOTIFY of telephone-events: answered here, and the key goes on the way that the other side has its keys.
    pub(super) fn pressed(
        &mut self,
        side: Side,
        (server, request): (ServerId, &Request),
        context: &mut Context<'_>,
    ) {
        let leg = self.legs.of_mut(side);
        match keys::read(request) {
            Err(keys::NotKeys) => leg.refuse(context, (server, request), Fault::UnsupportedMediaType),
            Ok(press) => {
                leg.respond(context, (server, request), StatusCode::OK, None);
                if let Some(press) = press {
                    self.press(side.other(), press, context);
                }
            }
        }
    }

    /// A key for the peer of `to`.
    pub(super) fn press(&mut self, to: Side, press: Press, context: &mut Context<'_>) {
        let leg = self.legs.of_mut(to);
        let transport = leg.trunk.media.keys;
        if transport.is_signalling() {
            let draft = keys::write(&mut leg.dialog, transport, press);
            leg.request(context, RequestKey::Keys { to }, draft);
        } else {
            context.push(Action::Press { to, press });
        }
    }
}
