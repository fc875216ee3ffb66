//! What can be wrong with a rule when it is loaded, and why an action is left out when it runs.

use super::MAX_TEXT;
use super::pattern::MAX_PATTERN;

/// A rule that is refused when it is loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    #[error("{0:?} names no part of a message")]
    UnknownPlace(String),
    #[error("{0:?} is no name of a header, parameter or attribute")]
    BadName(String),
    #[error("{0} carries dialogs, transactions or transport, and rules are not given it")]
    Withheld(String),
    #[error("{0} may be read and not changed")]
    ReadOnly(String),
    #[error("{0} keeps the dialog or its media together, and rules may not change it")]
    Protected(String),
    #[error("{0} is not a list that something can be added to")]
    NotAList(String),
    #[error("{0} cannot be without")]
    NotRemovable(String),
    #[error("{0} is no whole header")]
    NotAHeader(String),
    #[error("the pattern is wrong: {0}")]
    Pattern(String),
    #[error("the pattern has {0} octets, {MAX_PATTERN} are the most")]
    LongPattern(usize),
    #[error("the pattern becomes too large a machine")]
    LargePattern,
    #[error("the text has {0} octets, {MAX_TEXT} are the most")]
    LongText(usize),
    #[error("the text holds a control octet, which no header can")]
    Control,
    #[error("${{ without }}")]
    OpenBrace,
    #[error("${{{0}}} is no variable, capture or part of a message")]
    UnknownVariable(String),
    #[error("the pattern has no group {0}")]
    NoGroup(String),
    #[error("{0:?} is no status code of 101 to 699, nor a class such as \"4xx\"")]
    Status(String),
    #[error("a status is changed and the rule does not say of which responses")]
    StatusOfAny,
    #[error("{0} would change what becomes of the transaction: provisional, success or failure")]
    StatusKind(u16),
    #[error("{0:?} does not fit here")]
    Value(String),
    #[error("{0} is never part of the messages that the rule is for")]
    NeverThere(String),
}

impl RuleFault {
    /// What to write instead.
    pub fn fix(&self) -> String {
        match self {
            Self::UnknownPlace(_) => {
                "write request-uri, header.NAME, sdp.attribute.NAME, sdp.bandwidth.TYPE, sdp.direction, status or reason, \
                 with a part behind it, as in header.From.user"
            }
            Self::BadName(_) => "write a name as it stands in messages, as in header.P-Asserted-Identity",
            Self::Withheld(_) => "leave it out; the Call-ID can be read as call-id, the method as method",
            Self::ReadOnly(_) => "leave it out, or change what it is made of",
            Self::Protected(_) => {
                "change another part of it: the user, host or display name of From and To; the user or a parameter of \
                 Contact towards the peer; codecs by remove_codecs, keep_codecs and order_codecs"
            }
            Self::NotAList(_) => "use set in place of add",
            Self::NotRemovable(_) => "set it, or remove the whole header",
            Self::NotAHeader(_) => "write header.NAME and nothing behind it",
            Self::Pattern(_) => {
                "see https://docs.rs/regex for the syntax: no look-around and no back-references; in TOML, write \
                 patterns in 'single quotes'"
            }
            Self::LongPattern(_) => "split the rule",
            Self::LargePattern => "use smaller counts, and [0-9] or [A-Za-z] in place of \\d and \\w",
            Self::LongText(_) => "write less",
            Self::Control => "write one line of printing characters",
            Self::OpenBrace => "close the brace, or write $$ for a dollar sign",
            Self::UnknownVariable(_) => {
                "variables are trunk, calling, called, those in [trunk.variables], named groups of the rule's patterns, \
                 and any part of the message, as in ${header.From.user}"
            }
            Self::NoGroup(_) => "number the groups from 1 in the order of their opening brackets",
            Self::Status(_) => "write as in \"486\" or \"5xx\"",
            Self::StatusOfAny => "add status = [...] to the rule",
            Self::StatusKind(_) => {
                "stay within 101 to 199, within 200 to 299, or within 300 to 699, and let status = [...] of the rule be \
                 of the same"
            }
            Self::Value(_) => {
                "write what the place takes: sendrecv, sendonly, recvonly or inactive for sdp.direction, a number for \
                 sdp.ptime and sdp.bandwidth"
            }
            Self::NeverThere(_) => "requests have request-uri, responses have status and reason",
        }
        .to_owned()
    }
}

/// Why an action was left out: the message goes on as if it were not in the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeftOut {
    #[error("nothing of what it needs is there")]
    Absent,
    #[error("the result would be no valid message")]
    Invalid,
    #[error("the result would be too large")]
    TooLarge,
    #[error("inside a dialog the Request-URI is the peer's own Contact")]
    InDialog,
    #[error("the message has no session description that can be read")]
    NoSdp,
    #[error("no speech codec would be left")]
    NoCodecLeft,
    #[error("the rules have done as much work as one message may cost")]
    Exhausted,
}
