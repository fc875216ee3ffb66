//! A session description as lines, of which those that rules do not name stay as they are.

use super::LeftOut;
use super::place::Place;
use super::subject::Change;
use crate::rtp::Codec;
use crate::sdp;
use crate::sip::message::{Headers, MediaType};
use std::ops::Range;

/// The lines of a body of `application/sdp`. Rules see its session part and its audio.
pub(super) struct Session {
    lines: Vec<String>,
}

/// What is done to the list of codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecChange {
    Remove,
    /// Those that are not named are removed.
    Keep,
    /// Those that are named come first, in that order.
    Order,
}

const DIRECTIONS: [&str; 4] = ["sendrecv", "sendonly", "recvonly", "inactive"];

impl Session {
    /// `None` if the body is no session description in text, or one that cannot be read anyway.
    pub(super) fn open(headers: &Headers, body: &[u8]) -> Option<Self> {
        if MediaType::of(headers, body) != Some(MediaType::Sdp) || sdp::parse(body).is_err() {
            return None;
        }
        let text = std::str::from_utf8(body).ok()?;
        Some(Self { lines: text.lines().map(str::to_owned).collect() })
    }

    /// # Errors
    /// [`LeftOut::Invalid`] if it could not be read any more.
    pub(super) fn print(&self) -> Result<Vec<u8>, LeftOut> {
        let mut body = self.lines.join("\r\n").into_bytes();
        body.extend_from_slice(b"\r\n");
        sdp::parse(&body).map(|_| body).map_err(|_| LeftOut::Invalid)
    }

    pub(super) fn values(&self, place: &Place) -> Vec<String> {
        match place {
            Place::Attribute(name) => self.tagged('a', name),
            Place::Bandwidth(name) => self.tagged('b', name),
            Place::Direction => vec![self.direction().to_owned()],
            Place::Codecs => self.codecs(),
            Place::Sdp => vec![self.lines.join("\n")],
            _ => Vec::new(),
        }
    }

    pub(super) fn edit(
        &mut self,
        place: &Place,
        change: &mut dyn FnMut(&str) -> Result<Change, LeftOut>,
    ) -> Result<bool, LeftOut> {
        let (kind, name) = match place {
            Place::Attribute(name) => ('a', name),
            Place::Bandwidth(name) => ('b', name),
            Place::Direction => {
                return match change(self.direction())? {
                    Change::To(value) => self.set(place, &value),
                    Change::Keep | Change::Remove => Ok(false),
                };
            }
            _ => return Ok(false),
        };
        let mut changed = false;
        let seen = self.seen();
        let mut lines = Vec::with_capacity(self.lines.len());
        for (at, line) in self.lines.iter().enumerate() {
            let value = if seen[at] { tagged_value(line, kind, name) } else { None };
            let change = value.map_or(Ok(Change::Keep), &mut *change)?;
            changed |= !matches!(change, Change::Keep);
            match change {
                Change::Keep => lines.push(line.clone()),
                Change::To(value) => lines.push(tagged(kind, name, &value)),
                Change::Remove => {}
            }
        }
        self.lines = lines;
        Ok(changed)
    }

    pub(super) fn set(&mut self, place: &Place, value: &str) -> Result<bool, LeftOut> {
        let before = self.lines.clone();
        match place {
            Place::Attribute(name) => {
                self.remove(|line| tagged_value(line, 'a', name).is_some());
                self.add(place, value)?;
            }
            Place::Bandwidth(name) => {
                self.remove(|line| tagged_value(line, 'b', name).is_some());
                self.add(place, value)?;
            }
            Place::Direction => {
                if !DIRECTIONS.contains(&value) {
                    return Err(LeftOut::Invalid);
                }
                self.remove(|line| DIRECTIONS.iter().any(|name| tagged_value(line, 'a', name).is_some()));
                self.append('a', |_| tagged('a', value, ""));
            }
            _ => return Err(LeftOut::Invalid),
        }
        Ok(self.lines != before)
    }

    /// Adds a line to each audio stream.
    pub(super) fn add(&mut self, place: &Place, value: &str) -> Result<bool, LeftOut> {
        match place {
            Place::Attribute(name) => self.append('a', |_| tagged('a', name, value)),
            Place::Bandwidth(name) if is_decimal(value) => self.append('b', |_| tagged('b', name, value)),
            _ => return Err(LeftOut::Invalid),
        }
        Ok(true)
    }

    /// Changes the lists of formats of the audio. Names are those of `a=rtpmap`, with or without `/` and the clock rate.
    pub(super) fn change_codecs(&mut self, change: CodecChange, names: &[String]) -> Result<bool, LeftOut> {
        let before = self.lines.clone();
        // From the last, because lines are removed.
        for stream in self.audio().into_iter().rev() {
            self.change_stream(stream, change, names)?;
        }
        Ok(self.lines != before)
    }

    fn change_stream(
        &mut self,
        stream: Range<usize>,
        change: CodecChange,
        names: &[String],
    ) -> Result<(), LeftOut> {
        let (head, formats) = self.formats(&stream);
        let rank = |format: &str| {
            let codec = self.codec(&stream, format);
            let named = |name: &String| {
                codec.as_ref().is_some_and(|codec| {
                    codec.0.eq_ignore_ascii_case(name) || codec.1.eq_ignore_ascii_case(name)
                })
            };
            names.iter().position(named)
        };
        let kept: Vec<String> = match change {
            CodecChange::Remove => formats.iter().filter(|format| rank(format).is_none()).cloned().collect(),
            CodecChange::Keep => formats.iter().filter(|format| rank(format).is_some()).cloned().collect(),
            CodecChange::Order => {
                let mut ordered = formats.clone();
                ordered.sort_by_key(|format| rank(format).unwrap_or(usize::MAX));
                ordered
            }
        };
        let is_speech = |format: &String| {
            self.codec(&stream, format).is_none_or(|(name, _)| {
                !["telephone-event", "CN", "red"].iter().any(|other| other.eq_ignore_ascii_case(&name))
            })
        };
        if formats.iter().any(is_speech) && !kept.iter().any(is_speech) {
            return Err(LeftOut::NoCodecLeft);
        }
        self.lines[stream.start] = format!("{head} {}", kept.join(" "));
        let gone: Vec<_> = formats.into_iter().filter(|format| !kept.contains(format)).collect();
        let mut at = 0;
        self.lines.retain(|line| {
            let inside = stream.contains(&at);
            at += 1;
            let described =
                ["rtpmap", "fmtp", "rtcp-fb"].iter().find_map(|name| tagged_value(line, 'a', name));
            let format = described.and_then(|value| value.split(' ').next());
            !(inside && format.is_some_and(|format| gone.iter().any(|gone| gone == format)))
        });
        Ok(())
    }

    /// The part of the media line before its formats, and the formats.
    fn formats(&self, stream: &Range<usize>) -> (String, Vec<String>) {
        let mut words = self.lines[stream.start].split_ascii_whitespace().map(str::to_owned);
        let head: Vec<String> = words.by_ref().take(3).collect();
        (head.join(" "), words.collect())
    }

    /// Name, and name with clock rate, of a format.
    fn codec(&self, stream: &Range<usize>, format: &str) -> Option<(String, String)> {
        let mapped = self.lines[stream.clone()].iter().find_map(|line| {
            let (own, encoding) = tagged_value(line, 'a', "rtpmap")?.split_once(' ')?;
            (own == format).then(|| encoding.trim())
        });
        if let Some(encoding) = mapped {
            let mut parts = encoding.split('/');
            let name = parts.next().unwrap_or_default();
            return Some((name.to_owned(), format!("{name}/{}", parts.next().unwrap_or_default())));
        }
        let codec = Codec::of_static_payload_type(format.parse().ok()?)?;
        let name = codec.encoding.name().to_owned();
        Some((name.clone(), format!("{name}/{}", codec.clock_rate)))
    }

    fn codecs(&self) -> Vec<String> {
        let streams = self.audio();
        let names = streams.iter().flat_map(|stream| {
            let (_, formats) = self.formats(stream);
            formats.into_iter().filter_map(|format| Some(self.codec(stream, &format)?.0)).collect::<Vec<_>>()
        });
        names.collect()
    }

    /// RFC 8866 section 6.7: the stream's own, else the session's, else both ways.
    fn direction(&self) -> &'static str {
        let among = |lines: &[String]| {
            let named =
                |line: &String| DIRECTIONS.iter().find(|name| tagged_value(line, 'a', name).is_some());
            lines.iter().find_map(named).copied()
        };
        let own = self.audio().into_iter().find_map(|stream| among(&self.lines[stream]));
        own.or_else(|| among(&self.lines[self.session()])).unwrap_or("sendrecv")
    }

    fn tagged(&self, kind: char, name: &str) -> Vec<String> {
        let lines = self.lines.iter().zip(self.seen()).filter(|(_, seen)| *seen);
        lines.filter_map(|(line, _)| tagged_value(line, kind, name)).map(str::to_owned).collect()
    }

    fn remove(&mut self, is_gone: impl Fn(&str) -> bool) {
        let mut seen = self.seen().into_iter();
        self.lines.retain(|line| !(seen.next() == Some(true) && is_gone(line)));
    }

    /// Adds a line to each audio stream, where its kind stands by the order of RFC 8866 section 5.
    fn append(&mut self, kind: char, line: impl Fn(&Self) -> String) {
        for stream in self.audio().into_iter().rev() {
            let stands_before = |line: &String| kind == 'a' || line.starts_with(['m', 'i', 'c', 'b']);
            let count = self.lines[stream.clone()].iter().take_while(|line| stands_before(line)).count();
            let line = line(self);
            self.lines.insert(stream.start + count, line);
        }
    }

    fn session(&self) -> Range<usize> {
        0..self.lines.iter().position(|line| line.starts_with("m=")).unwrap_or(self.lines.len())
    }

    /// The lines of each audio stream, its media line first.
    fn audio(&self) -> Vec<Range<usize>> {
        let starts = self.lines.iter().enumerate().filter(|(_, line)| line.starts_with("m="));
        let starts: Vec<usize> = starts.map(|(at, _)| at).collect();
        let ends = starts.iter().skip(1).copied().chain([self.lines.len()]);
        let streams = starts.iter().copied().zip(ends).map(|(start, end)| start..end);
        streams.filter(|stream| self.lines[stream.start].starts_with("m=audio ")).collect()
    }

    /// Whether rules see it, by line.
    fn seen(&self) -> Vec<bool> {
        let mut seen = vec![false; self.lines.len()];
        for range in self.audio().into_iter().chain([self.session()]) {
            seen[range].fill(true);
        }
        seen
    }
}

/// The value of `a=name:value` or `b=name:value`, empty for `a=name`.
fn tagged_value<'a>(line: &'a str, kind: char, name: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(kind)?.strip_prefix('=')?;
    let (own, value) = rest.split_once(':').unwrap_or((rest.trim_end(), ""));
    own.eq_ignore_ascii_case(name).then_some(value)
}

fn tagged(kind: char, name: &str, value: &str) -> String {
    if value.is_empty() { format!("{kind}={name}") } else { format!("{kind}={name}:{value}") }
}

pub(super) fn is_decimal(value: &str) -> bool {
    (1..=9).contains(&value.len()) && value.bytes().all(|octet| octet.is_ascii_digit())
}

pub(super) fn is_direction(value: &str) -> bool {
    DIRECTIONS.contains(&value)
}
