//! Quality-of-service preconditions (RFC 3312, RFC 4032) of one audio stream, with segmented status: what an IMS phone
//! waits for before the other side may ring, or before it rings itself. We have our resources at all times, so only the
//! peer's are ever missing, and its word of ours.

use super::model::Direction;

/// What the peer said of its own access and of ours, from its view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Preconditions {
    /// What its access carries now.
    current: Direction,
    /// The session must not go on before its access carries both ways.
    mandatory: bool,
    /// It does not know yet that our access carries both ways, and does not go on before it does.
    #[serde(default)]
    awaits_word: bool,
    /// To be written in an offer of ours, not in an answer.
    #[serde(skip)]
    offered: bool,
}

impl Preconditions {
    /// What is known of a peer that has said nothing yet.
    pub(super) const UNKNOWN: Self =
        Self { current: Direction::Inactive, mandatory: false, awaits_word: false, offered: false };

    /// Of the attributes of a stream, as names and values; `None` if none is about quality of service.
    pub(super) fn of<'a>(attributes: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut found = None;
        let (mut ours, mut ours_mandatory, mut confirm) = (Direction::Inactive, false, false);
        for (name, value) in attributes {
            let words: Vec<_> = value.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            match (name, words.as_slice()) {
                ("curr", ["qos", "local", current]) => {
                    found.get_or_insert(Self::UNKNOWN).current = status(current);
                }
                ("des", ["qos", strength, "local", _]) => {
                    found.get_or_insert(Self::UNKNOWN).mandatory = *strength == "mandatory";
                }
                ("curr", ["qos", "remote", current]) => ours = status(current),
                ("des", ["qos", strength, "remote", _]) => ours_mandatory = *strength == "mandatory",
                ("conf", ["qos", "remote", _]) => confirm = true,
                _ => {}
            }
            if matches!((name, words.as_slice()), ("curr" | "des", ["qos", ..])) {
                found.get_or_insert(Self::UNKNOWN);
            }
        }
        let awaits_word = confirm || (ours_mandatory && ours != Direction::SendReceive);
        found.map(|found| Self { awaits_word, ..found })
    }

    /// Whether the other side may be rung.
    pub fn are_met(&self) -> bool {
        !self.mandatory || self.current == Direction::SendReceive
    }

    /// Whether the peer is to be told that our access carries both ways (RFC 3312 section 5.1.3).
    pub fn await_word(&self) -> bool {
        self.awaits_word
    }

    /// The same for an offer of ours.
    pub(super) fn offered(self) -> Self {
        Self { offered: true, ..self }
    }

    /// The attributes of our description: ours are there, the peer's as far as it has said. An answer wants word when
    /// the peer's are there too (RFC 3312 section 5.1.3). An offer makes nothing mandatory that the peer has not, so that
    /// one that knows nothing of preconditions may go on without (section 11).
    pub(super) fn written(&self) -> Vec<(&'static str, String)> {
        if self.offered {
            return self.lines("optional", if self.mandatory { "mandatory" } else { "optional" });
        }
        let mut lines = self.lines("mandatory", "mandatory");
        if !self.are_met() {
            lines.push(("conf", "qos remote sendrecv".to_owned()));
        }
        lines
    }

    fn lines(&self, ours: &str, theirs: &str) -> Vec<(&'static str, String)> {
        let current = match self.current {
            Direction::SendReceive => "sendrecv",
            Direction::SendOnly => "recv",
            Direction::ReceiveOnly => "send",
            Direction::Inactive => "none",
        };
        vec![
            ("curr", "qos local sendrecv".to_owned()),
            ("curr", format!("qos remote {current}")),
            ("des", format!("qos {ours} local sendrecv")),
            ("des", format!("qos {theirs} remote sendrecv")),
        ]
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
    fn a_peer_that_asks_for_word_or_waits_for_our_access_is_to_be_told() {
        let ready = [("curr", "qos local sendrecv"), ("des", "qos mandatory local sendrecv")];
        let table = [
            (vec![("curr", "qos remote sendrecv"), ("des", "qos mandatory remote sendrecv")], false),
            (vec![("curr", "qos remote none"), ("des", "qos mandatory remote sendrecv")], true),
            (vec![("curr", "qos remote none"), ("des", "qos optional remote sendrecv")], false),
            (vec![("curr", "qos remote none"), ("conf", "qos remote sendrecv")], true),
        ];
        for (lines, awaits) in table {
            let lines: Vec<_> = ready.into_iter().chain(lines).collect();
            assert_eq!(of(&lines).map(|found| found.await_word()), Some(awaits), "{lines:?}");
        }
    }

    #[test]
    fn our_offer_is_ready_and_demands_nothing_that_the_peer_did_not() {
        let text = |known: Preconditions| {
            known
                .offered()
                .written()
                .iter()
                .map(|(name, value)| format!("{name}:{value}"))
                .collect::<Vec<_>>()
        };
        let ours = ["curr:qos local sendrecv", "des:qos optional local sendrecv"];
        let unknown = text(Preconditions::UNKNOWN);
        assert_eq!([&*unknown[0], &*unknown[2]], ours);
        assert_eq!(
            [&*unknown[1], &*unknown[3]],
            ["curr:qos remote none", "des:qos optional remote sendrecv"]
        );
        let lines = [("curr", "qos local sendrecv"), ("des", "qos mandatory local sendrecv")];
        let known = text(of(&lines).unwrap());
        assert_eq!([&*known[0], &*known[2]], ours);
        assert_eq!(
            [&*known[1], &*known[3]],
            ["curr:qos remote sendrecv", "des:qos mandatory remote sendrecv"]
        );
    }

    #[test]
    fn our_answer_says_that_ours_are_there_and_asks_for_word_of_the_peers() {
        let lines = [("curr", "qos local none"), ("des", "qos mandatory local sendrecv")];
        let answer = of(&lines).unwrap().written();
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
        assert!(of(&lines).unwrap().written().iter().all(|(name, _)| *name != "conf"));
    }
}
