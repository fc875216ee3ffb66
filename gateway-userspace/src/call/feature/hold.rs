//! Which changes of one side's session the other side hears of, and in what form: hold has several, and not every peer
//! understands each.

use crate::policy::HoldForm;
use crate::sdp::{self, Direction};

/// What becomes of an offer inside an answered call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::call) enum Course {
    /// It concerns its own side alone: an unchanged session (a refresh), another address, a hold that the other side
    /// does not want to hear of.
    Answer,
    /// The other side is asked, with this direction.
    PassOn(Direction),
}

/// The course of `offer` of the peer of `asking`, toward a side that wants `form`.
///
/// Media of the other side arrives where it did before and goes where the new offer says: a new address is no news to it
/// (RFC 3264 section 8.3.1 lets it move, which Teams, for one, does not follow).
pub(in crate::call) fn course(asking: &sdp::Leg, offer: &sdp::Description, form: HoldForm) -> Course {
    let wish = offer.audio.wishes();
    let goes_on = asking.media().is_some_and(|agreed| {
        offer.audio.port != 0
            && agreed.fax.is_some() == offer.audio.fax.is_some()
            && agreed.formats.iter().all(|format| offer.audio.formats.iter().any(|one| format.is_of(one)))
    });
    let turns = asking.media().is_none_or(|agreed| agreed.direction != wish);
    if goes_on && (!turns || form == HoldForm::Hidden) {
        return Course::Answer;
    }
    Course::PassOn(directed(form, wish))
}

/// The direction by which `form` says what `wish` wants.
fn directed(form: HoldForm, wish: Direction) -> Direction {
    match (wish, form) {
        (Direction::SendReceive, _) | (_, HoldForm::AsOffered | HoldForm::Hidden) => wish,
        (_, HoldForm::Inactive) => Direction::Inactive,
        (_, HoldForm::SendOnly) => Direction::SendOnly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Inactive, ReceiveOnly, SendOnly, SendReceive};

    #[test]
    fn a_hold_takes_the_form_that_the_other_side_wants_and_a_resume_is_one_in_any() {
        let table = [
            (HoldForm::AsOffered, [SendOnly, ReceiveOnly, Inactive]),
            (HoldForm::Hidden, [SendOnly, ReceiveOnly, Inactive]),
            (HoldForm::Inactive, [Inactive; 3]),
            (HoldForm::SendOnly, [SendOnly; 3]),
        ];
        for (form, expected) in table {
            assert_eq!([SendOnly, ReceiveOnly, Inactive].map(|wish| directed(form, wish)), expected);
            assert_eq!(directed(form, SendReceive), SendReceive);
        }
    }
}
