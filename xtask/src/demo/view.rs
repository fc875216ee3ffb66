//! What a person sees while calls are up, and the table at the end.

use super::Figures;
use crate::daemon::Status;
use crate::media::PACKETS;
use crate::report::{self, thousands};
use crate::tap::Counts;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

/// How often a line is printed where standard error is no terminal.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Lines that are redrawn in place, or printed now and then where there is no terminal.
pub(super) struct View {
    lines: Option<[ProgressBar; 3]>,
    calls: u32,
    printed: Instant,
}

impl View {
    /// The bar is full when both ends of all calls have received the whole recording.
    pub(super) fn new(calls: u32) -> Self {
        let packets = u64::from(calls) * 2 * u64::from(PACKETS);
        let lines = stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            ["calls", "audio", "set-up"].map(|name| {
                let bar = if name == "calls" { "[{bar:30}] " } else { "" };
                let template = format!("{{spinner:>8}}  {{prefix:<24}} {bar}{{wide_msg}}");
                let style = ProgressStyle::with_template(&template).expect("both templates parse");
                let line = all.add(ProgressBar::new(packets).with_style(style.progress_chars("=> ")));
                line.set_prefix(name);
                line
            })
        });
        Self { lines, calls, printed: Instant::now() }
    }

    /// `status` is Causeway's word, `counts` is what the ends' own interfaces saw.
    pub(super) fn show(&mut self, status: &Status, counts: Counts) {
        let milliseconds = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.1} ms"));
        let number = |value: u64| thousands(value as f64);
        let texts = [
            format!("{} of {} up", status.calls, self.calls),
            format!(
                "{} packets sent, {} relayed by the gateway, {} received, {} dropped",
                number(counts.sent),
                number(status.packets_relayed),
                number(counts.received),
                number(status.packets_dropped)
            ),
            format!("p50 {}, p99 {}", milliseconds(status.setup_p50_ms), milliseconds(status.setup_p99_ms)),
        ];
        match &self.lines {
            Some(lines) => {
                for (line, text) in lines.iter().zip(texts) {
                    line.set_position(counts.received);
                    line.set_message(text);
                    line.tick();
                }
            }
            None if self.printed.elapsed() >= HEARTBEAT => {
                self.printed = Instant::now();
                eprintln!("{:>8}  {:<24} {}", "...", "calls", texts.join("; "));
            }
            None => {}
        }
    }

    pub(super) fn finish(self) {
        for line in self.lines.into_iter().flatten() {
            line.finish();
        }
    }
}

pub(super) fn print_figures(figures: &Figures) {
    let mut table = report::table(["calls", "", "audio", "", "set-up", ""], &[1, 3, 5]);
    let number = |value: u64| thousands(value as f64);
    let (placed, answered, failed) = (figures.placed, figures.answered, figures.failed);
    let ms = |value: f64| format!("{value:.1} ms");
    let row = |cells: [(&str, String); 3]| cells.map(|(name, value)| [name.to_owned(), value]).concat();
    table.add_row(row([
        ("placed", number(placed)),
        ("packets sent", number(figures.rtp_sent)),
        ("p50", ms(figures.setup_p50_ms)),
    ]));
    table.add_row(row([
        ("answered", number(answered)),
        ("received", number(figures.rtp_received)),
        ("p99", ms(figures.setup_p99_ms)),
    ]));
    table.add_row(row([
        ("failed", number(failed)),
        ("lost", number(figures.rtp_lost)),
        ("datapath", figures.datapath.clone()),
    ]));
    table.add_row(row([
        ("", String::new()),
        ("by the kernel", format!("{:.2} %", figures.kernel_share * 100.0)),
        ("kernel", figures.kernel.clone()),
    ]));
    println!("{table}");
    let header =
        ["trunk", "answered", "caller", "callee", "packets heard", "missed", "relayed by", "in the kernel"];
    let mut table = report::table(header, &[1, 4, 5, 7]);
    for kind in &figures.kinds {
        table.add_row([
            kind.trunk.clone(),
            number(kind.answered as u64),
            format!("{} in RTP", kind.caller_codec),
            format!("{} in {}", kind.callee_codec, kind.callee_media),
            number(kind.packets),
            number(kind.missed),
            kind.relayed_by.join(", "),
            format!("{:.2} %", kind.kernel_share * 100.0),
        ]);
    }
    println!("{table}");
    println!("packets: counted on the interfaces of both ends. set-up: INVITE to 200, on the caller's.");
    if figures.kinds.iter().any(|kind| kind.kernel_share < 1.0) {
        println!(
            "what is transcoded is sent at a pace of its own, also while a side is silent: more than was sent."
        );
    }
}
