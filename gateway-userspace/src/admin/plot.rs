//! A call's media over its time, as a picture that any browser shows: `causeway call ID --svg FILE`.

use crate::observe::calls::CallDetail;
use crate::observe::quality::{Point, PointQuality};
use std::fmt::Write as _;

/// Octets of text that an attribute or an element may not hold as they are.
const ESCAPES: [(char, &str); 4] = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;")];
const CALLER: &str = "#1f6feb";
const CALLEE: &str = "#d1570c";
const WIDTH: f64 = 900.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
const PANEL: f64 = 130.0;
const GAP: f64 = 34.0;

/// One figure over time.
struct Panel {
    title: &'static str,
    value: fn(&PointQuality) -> f64,
    /// Bottom of the scale, and the least that its top is.
    scale: (f64, f64),
    digits: usize,
}

const PANELS: [Panel; 3] = [
    Panel { title: "Loss (%)", value: |seen| seen.loss * 100.0, scale: (0.0, 1.0), digits: 1 },
    Panel { title: "Jitter (ms)", value: |seen| seen.jitter_ms, scale: (0.0, 10.0), digits: 1 },
    Panel { title: "MOS (G.107)", value: |seen| seen.mos, scale: (1.0, 4.5), digits: 1 },
];

/// The picture; `None` of a call that has no samples yet.
pub fn svg(detail: &CallDetail) -> Option<String> {
    let points =
        detail.media.as_ref().map(|media| media.samples.as_slice()).filter(|points| !points.is_empty())?;
    let span = Span::of(points)?;
    let height = TOP + PANELS.len() as f64 * (PANEL + GAP);
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let call = &detail.summary;
    let to = call.to_trunk.as_deref().unwrap_or("-");
    let title =
        format!("Call {}: {} to {}, {} to {to}", call.call, call.caller, call.called, call.from_trunk);
    text(&mut picture, (LEFT, 24.0), "font-size=\"15\" font-weight=\"bold\"", &title);
    let began = format!("from {} on, by the minute and second since", call.started_at);
    text(&mut picture, (LEFT, 42.0), "fill=\"#555\"", &began);
    for (index, (colour, name)) in [(CALLER, "from caller"), (CALLEE, "from callee")].into_iter().enumerate()
    {
        let x = WIDTH - RIGHT - 190.0 + 100.0 * index as f64;
        let _ = writeln!(picture, "<rect x=\"{x}\" y=\"33\" width=\"10\" height=\"10\" fill=\"{colour}\"/>");
        text(&mut picture, (x + 14.0, 42.0), "", name);
    }
    for (index, panel) in PANELS.iter().enumerate() {
        let frame = Frame { top: TOP + index as f64 * (PANEL + GAP), span, scale: panel.fit(points) };
        frame.axes(&mut picture, panel);
        frame.line(&mut picture, CALLER, points, |point| point.from_caller.as_ref().map(panel.value));
        frame.line(&mut picture, CALLEE, points, |point| point.from_callee.as_ref().map(panel.value));
    }
    picture.push_str("</svg>\n");
    Some(picture)
}

/// Time that the samples cover, in milliseconds since the INVITE.
#[derive(Clone, Copy)]
struct Span {
    from: f64,
    to: f64,
}

impl Span {
    fn of(points: &[Point]) -> Option<Self> {
        let (first, last) = (points.first()?, points.last()?);
        // A sample stands for the time before it, as long as from one to the next.
        let stretch = points.get(1).map_or(5_000, |second| second.at_ms.saturating_sub(first.at_ms));
        Some(Self { from: first.at_ms.saturating_sub(stretch) as f64, to: last.at_ms as f64 })
    }
}

impl Panel {
    /// The scale with room for all values.
    fn fit(&self, points: &[Point]) -> (f64, f64) {
        let (bottom, least) = self.scale;
        let seen = points.iter().flat_map(|point| [point.from_caller, point.from_callee]).flatten();
        let most = seen.map(|seen| (self.value)(&seen)).fold(least, f64::max);
        // A round number of the same size.
        let size = 10f64.powf(most.log10().floor());
        (bottom, if most > least { (most / size).ceil() * size } else { least })
    }
}

/// Where a panel is drawn, and what its edges stand for.
struct Frame {
    top: f64,
    span: Span,
    scale: (f64, f64),
}

impl Frame {
    fn place(&self, at_ms: f64, value: f64) -> (f64, f64) {
        let across = (at_ms - self.span.from) / (self.span.to - self.span.from).max(1.0);
        let (bottom, most) = self.scale;
        let up = (value - bottom) / (most - bottom);
        (LEFT + across * (WIDTH - LEFT - RIGHT), self.top + PANEL * (1.0 - up.clamp(0.0, 1.0)))
    }

    fn axes(&self, picture: &mut String, panel: &Panel) {
        text(picture, (LEFT, self.top - 6.0), "font-weight=\"bold\"", panel.title);
        for step in 0..=4 {
            let share = f64::from(step) / 4.0;
            let value = self.scale.0 + share * (self.scale.1 - self.scale.0);
            let (x, y) = self.place(self.span.from, value);
            let end = WIDTH - RIGHT;
            let _ = writeln!(
                picture,
                "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{end:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>"
            );
            let label = format!("{value:.*}", panel.digits.max(usize::from(self.scale.1 < 4.0) * 2));
            text(picture, (x - 6.0, y + 4.0), "text-anchor=\"end\" fill=\"#555\"", &label);
            let at = self.span.from + share * (self.span.to - self.span.from);
            let (x, y) = self.place(at, self.scale.0);
            let seconds = (at / 1_000.0) as u64;
            let label = format!("{}:{:02}", seconds / 60, seconds % 60);
            text(picture, (x, y + 15.0), "text-anchor=\"middle\" fill=\"#555\"", &label);
        }
    }

    /// A line through the values, with a gap where there is none.
    fn line(
        &self,
        picture: &mut String,
        colour: &str,
        points: &[Point],
        value: impl Fn(&Point) -> Option<f64>,
    ) {
        let mut path = String::new();
        let mut drawing = false;
        for point in points {
            let Some(value) = value(point) else {
                drawing = false;
                continue;
            };
            let (x, y) = self.place(point.at_ms as f64, value);
            // A value between two gaps is a dot: a line of no length with round ends.
            let command = if drawing { format!("L{x:.1} {y:.1}") } else { format!("M{x:.1} {y:.1}h0") };
            path.push_str(&command);
            drawing = true;
        }
        let _ = writeln!(
            picture,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linecap=\"round\"/>"
        );
    }
}

fn text(picture: &mut String, (x, y): (f64, f64), attributes: &str, content: &str) {
    let mut escaped = String::with_capacity(content.len());
    for character in content.chars() {
        match ESCAPES.iter().find(|(plain, _)| *plain == character) {
            Some((_, escape)) => escaped.push_str(escape),
            None => escaped.push(character),
        }
    }
    let _ = writeln!(picture, "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{escaped}</text>");
}

#[cfg(test)]
mod tests {
    use super::super::table::samples;
    use super::*;

    #[test]
    fn a_call_is_drawn_with_a_gap_where_nothing_came() {
        let picture = svg(&samples::detail()).unwrap();
        assert_eq!(picture.matches("<path").count(), 6);
        let callee = picture.lines().find(|line| line.starts_with("<path") && line.contains(CALLEE)).unwrap();
        assert_eq!(callee.matches('M').count(), 2, "one gap: {callee}");
        insta::assert_snapshot!(picture);
    }

    #[test]
    fn a_call_without_media_is_not_drawn() {
        assert_eq!(svg(&CallDetail { media: None, ..samples::detail() }), None);
    }

    #[test]
    fn names_of_trunks_cannot_leave_their_place() {
        let mut detail = samples::detail();
        detail.summary.from_trunk = "<script>\"&".into();
        let picture = svg(&detail).unwrap();
        assert!(picture.contains("&lt;script&gt;&quot;&amp;") && !picture.contains("<script"));
    }
}
