//! Goodput under overload: calls that are answered and end by BYE, when as many are offered as the carrier's trunk
//! takes, and when ten times as many are. RFC 7339 section 4 and RFC 6357 section 6 ask that it does not fall.
//!
//! The limit is one that a core of the generator can offer ten times of, far below what the daemon could carry: what is
//! shown is that those who are refused take nothing from those who are not. Emergency calls come in between, by the same
//! trunk, and none of them may be refused.

use super::{Bench, SHAPE, fresh};
use crate::daemon::{Daemon, Shape};
use crate::peers::{Answer, Callee, Caller, Conversation, Offer, Outcome, Sample, samples};
use crate::report::{self, thousands};
use crate::signalling::Transport;
use crate::steps::{Step, Steps};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How many times the limit is offered.
const OVERLOAD: u32 = 10;
/// How long calls are begun.
const SECONDS: u32 = 12;
/// What the trunk lets in at once after a pause is used up by then.
const SETTLE_SECONDS: f64 = 3.0;
/// Less than this share of what should be offered is another load than the one that is spoken of.
const LEAST_OFFERED: f64 = 0.9;
const EMERGENCIES_PER_SECOND: u32 = 10;
/// From here emergency calls are placed.
const EMERGENCY_PORT: u16 = 5064;

/// Medians of all turns; emergency calls of all together.
#[derive(Debug, Serialize)]
pub(super) struct Goodput {
    /// New calls a second that the trunk takes.
    limit: u32,
    /// Calls begun a second.
    offered_1x: f64,
    offered_10x: f64,
    /// Calls completed a second.
    goodput_1x: f64,
    goodput_10x: f64,
    goodput_ratio: f64,
    /// Beside ten times the limit.
    emergency_placed: u64,
    emergency_admitted: u64,
}

/// Calls begun and completed each second, once the load is steady.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rates {
    offered: f64,
    completed: f64,
}

/// # Errors
/// A program could not do its work, or the load was not offered: there is no figure then.
pub(super) fn measure(bench: &Bench<'_>, limit: u32, steps: &Steps) -> Result<Goodput> {
    let (mut single, mut tenfold) = (Vec::new(), Vec::new());
    let (mut emergency_placed, mut emergency_admitted) = (0, 0);
    for _ in 0..bench.arguments.repetitions {
        single.push(steps.run("offered the limit", |step| {
            let (rates, _) = turn(bench, limit, 1, step)?;
            step.detail(rates.told());
            Ok(rates)
        })?);
        tenfold.push(steps.run("offered ten times of it", |step| {
            let (rates, emergencies) = turn(bench, limit, OVERLOAD, step)?;
            step.detail(rates.told());
            emergency_placed += emergencies.placed;
            emergency_admitted += emergencies.answered;
            Ok(rates)
        })?);
    }
    let median = |turns: &[Rates], rate: fn(&Rates) -> f64| {
        report::median(&turns.iter().map(rate).collect::<Vec<f64>>())
    };
    let goodput_1x = median(&single, |rates| rates.completed)?;
    let goodput_10x = median(&tenfold, |rates| rates.completed)?;
    Ok(Goodput {
        limit,
        offered_1x: median(&single, |rates| rates.offered)?,
        offered_10x: median(&tenfold, |rates| rates.offered)?,
        goodput_1x,
        goodput_10x,
        goodput_ratio: goodput_10x / goodput_1x,
        emergency_placed,
        emergency_admitted,
    })
}

/// One load for [`SECONDS`], beside emergency calls.
fn turn(bench: &Bench<'_>, limit: u32, times: u32, step: &Step) -> Result<(Rates, Outcome)> {
    bench.renew_lab()?;
    let directory = fresh(bench.directory, &format!("offered-{times}"))?;
    let emergencies = fresh(&directory, "emergencies")?;
    let shape = Shape { calls_per_second: Some(limit), ..SHAPE };
    let _daemon = Daemon::start(bench.lab, bench.program, &directory, &shape)?;
    let conversation = Conversation { transport: Transport::Udp, recording: None };
    let _callee = Callee::start(bench.lab, &directory, conversation, Answer::PLAIN)?;
    let offered = Offer { may_be_refused: true, ..Offer::new(limit * times * SECONDS, limit * times) };
    let emergency = Offer {
        called: "112",
        port: EMERGENCY_PORT,
        ..Offer::new(EMERGENCIES_PER_SECOND * SECONDS, EMERGENCIES_PER_SECOND)
    };
    let mut caller = Caller::start(bench.lab, &directory, conversation, offered)?;
    let mut in_need = Caller::start(bench.lab, &emergencies, conversation, emergency)?;
    ended(&mut caller, &directory, offered, step)?;
    let in_need = ended(&mut in_need, &emergencies, emergency, step)?;
    let rates = Rates::of(&samples(&directory)?, offered.calls.into())?;
    let wanted = f64::from(offered.rate);
    ensure!(
        rates.offered >= LEAST_OFFERED * wanted,
        "only {:.0} of {wanted} calls a second were offered: choose a lower --limit",
        rates.offered
    );
    Ok((rates, in_need))
}

fn ended(caller: &mut Caller, directory: &Path, offer: Offer, step: &Step) -> Result<Outcome> {
    loop {
        if let Some(outcome) = caller.outcome()? {
            return Ok(outcome);
        }
        let begun = Outcome::read(directory).map_or(0, |outcome| outcome.placed);
        step.progress(begun, offer.calls.into(), "calls begun");
        thread::sleep(Duration::from_millis(200));
    }
}

impl Rates {
    /// Between the first second that is steady and the last one that begins calls, of `calls` in all.
    fn of(samples: &[Sample], calls: u64) -> Result<Self> {
        let begun = samples.first().context("SIPp has no statistics")?.at;
        let mut steady =
            samples.iter().filter(|sample| sample.at - begun >= SETTLE_SECONDS && sample.placed < calls);
        let (first, last) = (steady.next().context("no steady second")?, steady.next_back());
        let last = last.context("one steady second only")?;
        let seconds = last.at - first.at;
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
        Ok(Self {
            offered: rate(first.placed, last.placed),
            completed: rate(first.completed, last.completed),
        })
    }

    fn told(&self) -> String {
        let [offered, completed] = [self.offered, self.completed].map(thousands);
        format!("{completed} calls a second completed of {offered} offered")
    }
}

impl Goodput {
    /// Rows of the table that people read.
    pub(super) fn rows(&self) -> [(&'static str, String); 4] {
        [
            ("goodput, the limit offered", format!("{:.1} of {:.1}", self.goodput_1x, self.offered_1x)),
            ("goodput, ten times offered", format!("{:.1} of {:.1}", self.goodput_10x, self.offered_10x)),
            ("their ratio", format!("{:.3}", self.goodput_ratio)),
            ("emergency calls admitted", format!("{} of {}", self.emergency_admitted, self.emergency_placed)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: f64, placed: u64, completed: u64) -> Sample {
        Sample { at, placed, completed }
    }

    #[test]
    fn rates_are_those_between_the_first_steady_second_and_the_last_that_begins_calls() {
        let samples = [
            sample(100.0, 0, 0),
            sample(102.9, 2900, 400),
            sample(103.0, 3000, 500),
            sample(105.0, 5000, 700),
            sample(107.0, 7000, 900),
            sample(108.0, 8000, 960),
        ];
        let rates = Rates::of(&samples, 8000).unwrap();
        assert_eq!(rates, Rates { offered: 1000.0, completed: 100.0 });
    }

    #[test]
    fn a_load_without_a_steady_second_has_no_rates() {
        assert!(Rates::of(&[], 100).is_err());
        assert!(Rates::of(&[sample(1.0, 10, 0), sample(5.0, 50, 5)], 100).is_err());
    }
}
