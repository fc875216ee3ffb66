//! Transition tables: a state machine is two closed enums and one exhaustive `match` over their pairs.
//!
//! The compiler refuses a missing pair, and no table has a catch-all arm, so each pair has been thought of.
//! From the same function come a printed table and a Graphviz picture, which snapshot tests keep in view.

use std::fmt::{Debug, Write};

/// What one event does to a machine in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<S, A: 'static> {
    /// Goes to the state, which may be where it is, and does the acts in order.
    To(S, &'static [A]),
    /// What the event tells or asks is so already: nothing to do, and nobody's mistake.
    Already,
    /// Cannot come in this state unless the peer or our own caller breaks the rules: counted, then dropped.
    Illegal,
}

/// A machine as its table.
pub trait Machine {
    type State: Copy + Debug + PartialEq + 'static;
    type Event: Copy + Debug + 'static;
    type Act: Copy + Debug + 'static;

    const STATES: &'static [Self::State];
    const EVENTS: &'static [Self::Event];
    /// Where it begins and what it does on the way in.
    const START: (Self::State, &'static [Self::Act]);

    fn step(state: Self::State, event: Self::Event) -> Step<Self::State, Self::Act>;

    /// Every pair of state and event, one a line.
    fn table() -> String {
        let mut text = format!("start → {:?}{}\n", Self::START.0, acts(Self::START.1));
        for state in Self::STATES {
            text.push('\n');
            for event in Self::EVENTS {
                let outcome = match Self::step(*state, *event) {
                    Step::To(next, done) if next == *state => format!("stays{}", acts(done)),
                    Step::To(next, done) => format!("→ {next:?}{}", acts(done)),
                    Step::Already => String::from("already so"),
                    Step::Illegal => String::from("illegal"),
                };
                let _ = writeln!(text, "{:<16} {:<16} {outcome}", format!("{state:?}"), format!("{event:?}"));
            }
        }
        text
    }

    /// The moves between states for Graphviz; pairs that stay, repeat or are illegal are left out.
    fn graph() -> String {
        let mut text = format!("digraph {{\n  start [shape=point];\n  start -> {:?};\n", Self::START.0);
        for state in Self::STATES {
            for event in Self::EVENTS {
                if let Step::To(next, _) = Self::step(*state, *event)
                    && next != *state
                {
                    let _ = writeln!(text, "  {state:?} -> {next:?} [label=\"{event:?}\"];");
                }
            }
        }
        text.push_str("}\n");
        text
    }
}

fn acts<A: Debug>(done: &[A]) -> String {
    if done.is_empty() { String::new() } else { format!(": {}", list(done)) }
}

fn list<A: Debug>(done: &[A]) -> String {
    let words: Vec<_> = done.iter().map(|act| format!("{act:?}")).collect();
    words.join(", ")
}

/// Declares an enum of unit variants together with `ALL`, the list of them in order.
macro_rules! closed_enum {
    ($(#[$meta:meta])* $visibility:vis enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visibility enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $name {
            $visibility const ALL: &'static [Self] = &[$(Self::$variant),+];
        }
    };
}

pub(crate) use closed_enum;

#[cfg(test)]
mod tests {
    use super::*;

    closed_enum! {
        enum Door { Open, Shut }
    }

    closed_enum! {
        enum Wish { Pull, Push }
    }

    struct Hinge;

    impl Machine for Hinge {
        type State = Door;
        type Event = Wish;
        type Act = &'static str;

        const STATES: &'static [Door] = Door::ALL;
        const EVENTS: &'static [Wish] = Wish::ALL;
        const START: (Door, &'static [&'static str]) = (Door::Shut, &[]);

        fn step(state: Door, event: Wish) -> Step<Door, &'static str> {
            match (state, event) {
                (Door::Open, Wish::Pull) => Step::Already,
                (Door::Open, Wish::Push) => Step::To(Door::Shut, &["bang"]),
                (Door::Shut, Wish::Pull) => Step::To(Door::Open, &[]),
                (Door::Shut, Wish::Push) => Step::Illegal,
            }
        }
    }

    #[test]
    fn a_table_prints_every_pair_and_a_graph_only_the_moves() {
        let table = Hinge::table();
        assert!(table.starts_with("start → Shut\n"), "{table}");
        for outcome in ["already so", "→ Shut: \"bang\"", "→ Open", "illegal"] {
            assert!(table.contains(outcome), "{outcome} in\n{table}");
        }
        assert_eq!(Hinge::graph().matches("->").count(), 3);
    }
}
