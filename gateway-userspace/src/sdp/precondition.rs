//! Quality-of-service preconditions (RFC 3312, RFC 4032) of one audio stream, with segmented status: what an IMS phone
//! waits for before the other side may ring. We have our resources at all times, so only the peer's are ever missing.

use super::model::Direction;

/// The peer's `a=curr` and `a=des` lines for its own access, from its view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Preconditions {
    /// What its access carries now.
    current: Direction,
    /// The session must not go on before its access carries both ways.
    mandatory: bool,
}

impl Preconditions {
    /// Of the attributes of a stream, as names and values; `None` if none is about quality of service.
    pub(super) fn of<'a>(attributes: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut found = None;
        for (name, value) in attributes {
            let words: Vec<_> = value.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let entry = Self { current: Direction::Inactive, mandatory: false };
            match (name, words.as_slice()) {
                ("curr", ["qos", "local", current]) => {
                    let entry: &mut Self = found.get_or_insert(entry);
                    entry.current = status(current);
                }
                ("des", ["qos", strength, "local", _]) => {
                    let entry = found.get_or_insert(entry);
                    entry.mandatory = *strength == "mandatory";
                }
                ("curr" | "des", ["qos", ..]) => {
                    found.get_or_insert(entry);
                }
                _ => {}
            }
        }
        found
    }

    /// Whether the other side may be rung.
    pub fn are_met(&self) -> bool {
        !self.mandatory || self.current == Direction::SendReceive
    }

    /// The attributes of our answer (RFC 3312 section 5.1.3): ours are there, the peer's as it said, and word is wanted
    /// when they are.
    pub(super) fn answer(&self) -> Vec<(&'static str, String)> {
        let current = match self.current {
            Direction::SendReceive => "sendrecv",
            Direction::SendOnly => "recv",
            Direction::ReceiveOnly => "send",
            Direction::Inactive => "none",
        };
        let mut lines = vec![
            ("curr", "qos local sendrecv".to_owned()),
            ("curr", format!("qos remote {current}")),
            ("des", "qos mandatory local sendrecv".to_owned()),
            ("des", "qos mandatory remote sendrecv".to_owned()),
        ];
        if !self.are_met() {
            lines.push(("conf", "qos remote sendrecv".to_owned()));
        }
        lines
    }
}

/// A direction tag of RFC 3312 section 4.
fn status(tag: &str) -> Direction {
    match tag {
        "sendrecv" => Direction::SendReceive,
        "send" => Direction::SendOnly,
        "recv" => Direction::ReceiveOnly,
        _ => Direction::Inactive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[(&str, &str)]) -> Option<Preconditions> {
        Preconditions::of(lines.iter().copied())
    }

    #[test]
    fn only_a_mandatory_status_of_the_peers_own_access_is_waited_for() {
        let missing = ("curr", "qos local none");
        let there = ("curr", "qos local sendrecv");
        let table = [
            (vec![missing, ("des", "qos mandatory local sendrecv")], false),
            (vec![("curr", "qos local send"), ("des", "qos mandatory local sendrecv")], false),
            (vec![("curr", "QoS Local None"), ("des", "qos Mandatory local sendrecv")], false),
            (vec![there, ("des", "qos mandatory local sendrecv")], true),
            (vec![missing, ("des", "qos optional local sendrecv")], true),
            (vec![missing, ("des", "qos mandatory remote sendrecv")], true),
            (vec![missing, ("des", "qos none local sendrecv")], true),
        ];
        for (lines, met) in table {
            assert_eq!(of(&lines).map(|found| found.are_met()), Some(met), "{lines:?}");
        }
        assert_eq!(of(&[("curr", "sec e2e none"), ("rtcp", "4000")]), None);
    }

    #[test]
    fn our_answer_says_that_ours_are_there_and_asks_for_word_of_the_peers() {
        let lines = [("curr", "qos local none"), ("des", "qos mandatory local sendrecv")];
        let answer = of(&lines).unwrap().answer();
        let text: Vec<_> = answer.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        assert_eq!(
            text,
            [
                "curr:qos local sendrecv",
                "curr:qos remote none",
                "des:qos mandatory local sendrecv",
                "des:qos mandatory remote sendrecv",
                "conf:qos remote sendrecv",
            ]
        );
        let lines = [("curr", "qos local sendrecv"), ("des", "qos mandatory local sendrecv")];
        assert!(of(&lines).unwrap().answer().iter().all(|(name, _)| *name != "conf"));
    }
}
