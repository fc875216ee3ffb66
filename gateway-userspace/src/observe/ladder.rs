//! The ladder of a call: what went over the wire and what was decided, in order, small enough to keep for
//! every call.

use super::event::{Direction, EndedBy, MediaSummary, Method, SipSummary, StartLine, TransferStep};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::base::time::Time;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

/// Steps that a ladder holds. Beyond them the first [`HEAD`] and the latest remain, and those between are
/// only counted: how a call began and how it ended is what people look for.
pub const STEPS_MAX: usize = 64;
const HEAD: usize = 48;

/// What happened in one call so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ladder {
    steps: Vec<(Time, Step)>,
    omitted: u32,
}

/// One line of a ladder.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Sip(Line),
    Routed {
        trunk: Arc<str>,
        peer: SocketAddr,
        attempt: u8,
    },
    Media {
        caller_codec: Arc<str>,
        callee_codec: Arc<str>,
        early: bool,
        held: bool,
    },
    /// Which key was pressed is not kept: people type card numbers and secrets.
    Dtmf {
        from: Side,
    },
    Transfer {
        side: Side,
        step: TransferStep,
    },
    Adopted,
    Ended {
        by: EndedBy,
        fault: Option<Fault>,
    },
}

/// [`SipSummary`] in 24 octets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    side: Side,
    direction: Direction,
    line: StartLine,
    cseq: u32,
    method: Method,
    has_sdp: bool,
    repeated: bool,
}

/// A step as the API answers it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Rung {
    /// Since the call began.
    pub at_ms: f64,
    /// Column that the step belongs to; absent for what Causeway does by itself.
    pub side: Option<Side>,
    /// Seen from Causeway; absent for what is no message.
    pub direction: Option<Direction>,
    pub text: String,
}

impl From<&SipSummary> for Step {
    fn from(message: &SipSummary) -> Self {
        Self::Sip(Line {
            side: message.side,
            direction: message.direction,
            line: message.line,
            cseq: message.cseq,
            method: message.method,
            has_sdp: message.has_sdp,
            repeated: message.repeated,
        })
    }
}

impl From<&MediaSummary> for Step {
    fn from(media: &MediaSummary) -> Self {
        Self::Media {
            caller_codec: media.caller_codec.clone(),
            callee_codec: media.callee_codec.clone(),
            early: media.early,
            held: media.held,
        }
    }
}

impl Ladder {
    pub fn push(&mut self, at: Time, step: Step) {
        if self.steps.len() >= STEPS_MAX {
            self.steps.remove(HEAD);
            self.omitted = self.omitted.saturating_add(1);
        }
        self.steps.push((at, step));
    }

    /// Gives back memory that growth reserved: called when the call ends.
    pub fn shrink(&mut self) {
        self.steps.shrink_to_fit();
    }

    pub fn steps(&self) -> impl Iterator<Item = &(Time, Step)> {
        self.steps.iter()
    }

    /// As values, times from `started`; a rung says how many were omitted where they were.
    pub fn rungs(&self, started: Time) -> Vec<Rung> {
        let milliseconds = |at: Time| at.since(started).as_micros() as f64 / 1_000.0;
        let mut rungs: Vec<_> = self
            .steps
            .iter()
            .map(|(at, step)| Rung {
                at_ms: milliseconds(*at),
                side: step.side(),
                direction: step.direction(),
                text: step.text(),
            })
            .collect();
        if self.omitted > 0 {
            let at_ms = self.steps.get(HEAD).map_or(0.0, |(at, _)| milliseconds(*at));
            let text = format!("({} steps omitted)", self.omitted);
            rungs.insert(HEAD.min(rungs.len()), Rung { at_ms, side: None, direction: None, text });
        }
        rungs
    }
}

impl Step {
    fn side(&self) -> Option<Side> {
        match self {
            Self::Sip(line) => Some(line.side),
            Self::Dtmf { from } => Some(*from),
            Self::Routed { .. }
            | Self::Media { .. }
            | Self::Transfer { .. }
            | Self::Adopted
            | Self::Ended { .. } => None,
        }
    }

    fn direction(&self) -> Option<Direction> {
        match self {
            Self::Sip(line) => Some(line.direction),
            Self::Dtmf { .. } => Some(Direction::Received),
            Self::Routed { .. }
            | Self::Media { .. }
            | Self::Transfer { .. }
            | Self::Adopted
            | Self::Ended { .. } => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Sip(line) => line.text(),
            Self::Routed { trunk, peer, attempt: 1 } => format!("route to {trunk} {peer}"),
            Self::Routed { trunk, peer, attempt } => format!("route to {trunk} {peer}, attempt {attempt}"),
            Self::Media { caller_codec, callee_codec, early, held } => {
                let mut text = if caller_codec == callee_codec {
                    format!("media {caller_codec}")
                } else {
                    format!("media {caller_codec} | {callee_codec}")
                };
                text.push_str(if *early { ", early" } else { "" });
                text.push_str(if *held { ", on hold" } else { "" });
                text
            }
            Self::Dtmf { .. } => "telephone-event".to_owned(),
            Self::Transfer { side, step } => {
                let side = match side {
                    Side::Caller => "caller",
                    Side::Callee => "callee",
                };
                match step {
                    TransferStep::Begun => format!("transfer of the {side}'s side"),
                    TransferStep::Done => format!("transferred: another {side}"),
                    TransferStep::Failed(status) => format!("transfer failed: {status}"),
                }
            }
            Self::Adopted => "taken over after a restart".to_owned(),
            Self::Ended { by, fault } => {
                let by = match by {
                    EndedBy::Caller => "caller",
                    EndedBy::Callee => "callee",
                    EndedBy::Causeway => "causeway",
                };
                fault.map_or_else(
                    || format!("ended by {by}"),
                    |fault| format!("ended by {by}: {}", fault.label()),
                )
            }
        }
    }
}

impl Line {
    fn text(&self) -> String {
        let mut text = match self.line {
            StartLine::Request => self.method.to_string(),
            // The CSeq method tells a 200 to an INVITE from one to a BYE.
            StartLine::Response { status } => format!("{status} ({})", self.method),
        };
        let _ = write!(text, " {}", self.cseq);
        text.push_str(if self.has_sdp { " +SDP" } else { "" });
        text.push_str(if self.repeated { " again" } else { "" });
        text
    }
}

const COLUMN: usize = 34;

/// The ladder as text, one line a step, arrows from sender to receiver:
///
/// ```text
///               caller                           causeway                             callee
///     0.0000 s     │── INVITE 1 +SDP ────────────────▶│                                  │
/// ```
pub fn render(rungs: &[Rung]) -> String {
    let blank = " ".repeat(COLUMN);
    let mut text = format!("{:14}caller{:28}causeway{:28}callee\n", "", "", "");
    for rung in rungs {
        let line = match (rung.side, rung.direction) {
            (Some(side), Some(direction)) => {
                let rightward = (side == Side::Caller) == (direction == Direction::Received);
                let drawn = arrow(&rung.text, rightward);
                let (left, right) = if side == Side::Caller { (&drawn, &blank) } else { (&blank, &drawn) };
                format!("│{left}│{right}│")
            }
            _ => format!("│{blank}● {}", rung.text),
        };
        let _ = writeln!(text, "{:>10.4} s     {line}", rung.at_ms / 1_000.0);
    }
    text
}

fn arrow(label: &str, rightward: bool) -> String {
    let line = "─".repeat(COLUMN.saturating_sub(label.chars().count() + 5));
    if rightward { format!("── {label} {line}▶") } else { format!("◀─ {label} {line}─") }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Event, samples};
    use super::*;

    fn ladder() -> Ladder {
        let mut ladder = Ladder::default();
        let mut at = 1_000_000;
        for event in samples::all() {
            let step = match &event {
                Event::Sip { message, .. } => message.into(),
                Event::Routed { trunk, peer, attempt, .. } => {
                    Step::Routed { trunk: trunk.clone(), peer: *peer, attempt: *attempt }
                }
                Event::MediaPlanned { media, .. } => media.into(),
                Event::Dtmf { from, .. } => Step::Dtmf { from: *from },
                Event::Transfer { side, step, .. } => Step::Transfer { side: *side, step: *step },
                _ => continue,
            };
            ladder.push(Time(at), step);
            at += 1_150_300;
        }
        ladder.push(Time(at + 60_000_000), Step::Ended { by: EndedBy::Callee, fault: None });
        ladder
    }

    #[test]
    fn a_ladder_has_three_columns() {
        insta::assert_snapshot!(render(&ladder().rungs(Time(1_000_000))));
    }

    #[test]
    fn a_long_ladder_keeps_its_beginning_and_its_end() {
        let mut ladder = Ladder::default();
        for index in 0..1_000_u32 {
            let message = SipSummary {
                cseq: index,
                ..samples::sip(Side::Caller, Direction::Received, None, "INFO", false)
            };
            ladder.push(Time(u64::from(index)), (&message).into());
        }
        let rungs = ladder.rungs(Time::ZERO);
        assert_eq!(rungs.len(), STEPS_MAX + 1);
        assert_eq!(rungs[0].text, "INFO 0");
        assert_eq!(rungs[HEAD - 1].text, "INFO 47");
        assert_eq!(rungs[HEAD].text, "(936 steps omitted)");
        assert_eq!(rungs[HEAD + 1].text, "INFO 984");
        assert_eq!(rungs[STEPS_MAX].text, "INFO 999");
    }

    #[test]
    fn a_step_takes_at_most_100_octets() {
        assert!(size_of::<(Time, Step)>() <= 100, "{}", size_of::<(Time, Step)>());
    }
}
