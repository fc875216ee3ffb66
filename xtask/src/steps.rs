//! What a person sees while a task works: one line per step with its time, and a progress bar meanwhile.
//!
//! Everything is written to standard error; standard output belongs to a task's result. Where standard error
//! is not a terminal, bars become plain lines, at most one every [`HEARTBEAT`].

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

/// How often a step that takes long says so in a log.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// The steps of one task.
pub(crate) struct Steps {
    interactive: bool,
}

/// One step under way.
pub(crate) struct Step {
    name: String,
    interactive: bool,
    bar: ProgressBar,
    started: Instant,
    last_line: Cell<Instant>,
    detail: RefCell<String>,
    failed: Cell<bool>,
    logged: Cell<bool>,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { interactive: stderr().is_terminal() }
    }

    /// Does `work` under a bar, then prints its line: `ok`, what the step said of itself, and the time.
    pub(crate) fn run<T>(&self, name: &str, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
        let step = Step::start(name, self.interactive);
        let result = work(&step);
        step.bar.finish_and_clear();
        let seconds = step.started.elapsed().as_secs_f64();
        let (mark, detail) = match &result {
            Ok(_) if !step.failed.get() => ("ok", step.detail.borrow().clone()),
            _ => ("FAILED", step.detail.borrow().clone()),
        };
        eprintln!("{mark:>8}  {name:<24} {detail:<58} {seconds:>7.1} s");
        result
    }

    /// A line that is neither success nor failure: what was left out, and why.
    pub(crate) fn note(&self, name: &str, text: &str) {
        eprintln!("{:>8}  {name:<24} {text}", "note");
    }
}

impl Step {
    fn start(name: &str, interactive: bool) -> Self {
        let bar = ProgressBar::with_draw_target(
            None,
            if interactive { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
        );
        bar.set_style(
            ProgressStyle::with_template("{spinner:>8}  {prefix:<24} {wide_msg} {elapsed:>7}")
                .expect("the template is a constant that parses"),
        );
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        let started = Instant::now();
        let (last_line, detail) = (Cell::new(started), RefCell::new(String::new()));
        Self {
            name: name.to_owned(),
            interactive,
            bar,
            started,
            last_line,
            detail,
            failed: Cell::new(false),
            logged: Cell::new(false),
        }
    }

    /// What the finished step's line says.
    pub(crate) fn detail(&self, text: impl Into<String>) {
        self.detail.replace(text.into());
    }

    /// What the finished step's line says of a step that came to its end with a bad result.
    pub(crate) fn failed(&self, text: impl Into<String>) {
        self.detail(text);
        self.failed.set(true);
    }

    /// Whether a command of this step has written to its log already.
    pub(crate) fn logs_again(&self) -> bool {
        self.logged.replace(true)
    }

    /// What the step is doing now.
    pub(crate) fn doing(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        self.heartbeat(text);
    }

    /// `done` of `total` units are done.
    pub(crate) fn progress(&self, done: u64, total: u64, text: &str) {
        if self.bar.length() != Some(total) {
            let template = "{spinner:>8}  {prefix:<24} [{bar:30}] {pos}/{len} {wide_msg} {elapsed:>7}";
            let style =
                ProgressStyle::with_template(template).expect("the template is a constant that parses");
            self.bar.set_style(style.progress_chars("=> "));
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
        self.bar.set_message(text.to_owned());
        self.heartbeat(&format!("{done}/{total} {text}"));
    }

    fn heartbeat(&self, text: &str) {
        if self.interactive || self.last_line.get().elapsed() < HEARTBEAT {
            return;
        }
        self.last_line.set(Instant::now());
        eprintln!("{:>8}  {:<24} {text} ({} s)", "...", self.name, self.started.elapsed().as_secs());
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}
