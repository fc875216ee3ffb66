//! Where a panic stops: a step of one call goes wrong, its core goes on.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

/// A panic that was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Panic {
    /// File, line and column; empty unless [`tell_places`] was called in this process.
    pub(super) place: String,
    pub(super) message: String,
}

thread_local! {
    static FENCED: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `step`; a panic in it ends here.
///
/// What `step` was changing is in any state afterwards: the caller has to throw it away or mend it.
pub(super) fn catch<T>(step: impl FnOnce() -> T) -> Result<T, Panic> {
    let outside = FENCED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(step));
    FENCED.set(outside);
    outcome.map_err(|payload| Panic { place: PLACE.take(), message: message(&*payload) })
}

/// From now on panics inside a fence tell their place to it and not to the terminal: who catches them logs them. Others
/// are told as before.
pub fn tell_places() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(
            move |panic| {
                if FENCED.get() { PLACE.set(place(panic)) } else { usual(panic) }
            },
        ));
    });
}

fn place(panic: &PanicHookInfo<'_>) -> String {
    panic.location().map(ToString::to_string).unwrap_or_default()
}

fn message(payload: &(dyn Any + Send)) -> String {
    let fixed = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    fixed.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "not a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_at_the_fence_and_names_its_place() {
        tell_places();
        let panic = catch(|| -> u32 { panic!("no {}", "way") }).unwrap_err();
        assert_eq!(panic.message, "no way");
        assert!(panic.place.contains("fence.rs:"), "{}", panic.place);
        assert_eq!(catch(|| 7), Ok(7));
    }

    #[test]
    fn a_fence_inside_a_fence_leaves_the_outer_one_standing() {
        tell_places();
        let outer = catch(|| {
            let inner = catch(|| panic!("inner")).unwrap_err();
            assert_eq!(inner.message, "inner");
            panic!("outer");
        });
        assert_eq!(outer.map_err(|panic: Panic| panic.message), Err::<(), _>("outer".to_owned()));
    }
}
