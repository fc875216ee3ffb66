//! What the calls of a demo are like: each kind has a service and a callee of its own.

use super::Arguments;
use crate::daemon::{Record, Service};
use crate::media::Form;
use crate::peers::Answer;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Master key and salt of [`Form::Secured`], as `a=crypto` has them (RFC 4568 section 6.1).
const MASTER_KEY: &str = "4fl6DT4Bi+DWT6MsBt5BOQ7Gda1Jiv7rtpYLOqvm";

/// Calls that end alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Also the name of its trunk.
    pub(super) name: &'static str,
    /// The number that its callers call.
    pub(super) called: &'static str,
    /// Where its callers send from.
    pub(super) caller_port: u16,
    answer: Answer<'static>,
    /// What its callee plays.
    pub(super) form: Form,
}

const PLAIN: Kind = Kind {
    name: "service",
    called: "442079460000",
    caller_port: 5060,
    answer: Answer::PLAIN,
    form: Form::ALaw,
};

const SECURED: Kind = Kind {
    name: "service-srtp",
    called: "442079460100",
    caller_port: 5160,
    answer: Answer {
        port: 5160,
        media: "RTP/SAVP 8 101\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:@KEY@\na=rtpmap:8 PCMA/8000",
    },
    form: Form::Secured,
};

const TRANSCODED: Kind = Kind {
    name: "service-pcmu",
    called: "442079460200",
    caller_port: 5260,
    answer: Answer { port: 5260, media: "RTP/AVP 0 101\na=rtpmap:0 PCMU/8000" },
    form: Form::MuLaw,
};

static SERVICES: [Service; 2] = [
    Service {
        name: SECURED.name,
        prefix: "4420794601",
        port: 5160,
        media: "security = \"required\"\nsuites = [\"AES_CM_128_HMAC_SHA1_80\"]",
    },
    Service {
        name: TRANSCODED.name,
        prefix: "4420794602",
        port: 5260,
        media: "codecs = [\"PCMU\"]\ntranscode = \"when_needed\"",
    },
];

/// The kinds that were asked for, and the services that they need beside the plain one.
pub(super) fn asked(arguments: &Arguments) -> (Vec<Kind>, &'static [Service]) {
    let mut kinds = vec![PLAIN];
    kinds.extend(arguments.srtp.then_some(SECURED));
    kinds.extend(arguments.transcode.then_some(TRANSCODED));
    let (first, end) = (usize::from(!arguments.srtp), 1 + usize::from(arguments.transcode));
    (kinds, SERVICES.get(first..end).unwrap_or_default())
}

impl Kind {
    /// Where its scenarios, statistics and recordings are.
    pub(super) fn directory(&self, above: &Path) -> PathBuf {
        above.join(self.name)
    }

    /// What its callee answers: where, and the line of its audio with what goes with it, the key included.
    pub(super) fn answer(&self) -> (u16, String) {
        (self.answer.port, self.answer.media.replace("@KEY@", MASTER_KEY))
    }
}

/// What became of the calls of one kind, by their records.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KindFigures {
    pub(super) trunk: String,
    pub(super) answered: usize,
    pub(super) caller_codec: String,
    pub(super) callee_codec: String,
    /// What the callee's media is carried in.
    pub(super) callee_media: String,
    /// RTP packets heard from both sides.
    pub(super) packets: u64,
    /// Those that never came to Causeway, and those that it could not play: what is coded anew goes on over them.
    pub(super) missed: u64,
    /// Who relayed the calls, and why if not the kernel: all that was seen of them while they were up.
    pub(super) relayed_by: Vec<String>,
    /// Of the packets, the share that the kernel relayed.
    pub(super) kernel_share: f64,
}

impl KindFigures {
    pub(super) fn of(kind: &Kind, records: &[Record], relayed: &BTreeMap<String, BTreeSet<String>>) -> Self {
        let answered: Vec<_> = records
            .iter()
            .filter(|record| record.to_trunk.as_deref() == Some(kind.name) && record.sip_status == 200)
            .collect();
        let packets: u64 = answered.iter().map(|record| record.packets()).sum();
        let in_kernel: f64 = answered.iter().map(|record| record.packets_in_kernel()).sum();
        let codec = |of: fn(&Record) -> &Option<String>| {
            answered.first().and_then(|record| of(record).clone()).unwrap_or_default()
        };
        Self {
            trunk: kind.name.to_owned(),
            answered: answered.len(),
            caller_codec: codec(|record| &record.caller_codec),
            callee_codec: codec(|record| &record.callee_codec),
            callee_media: if kind.form == Form::Secured { "SRTP" } else { "RTP" }.to_owned(),
            packets,
            missed: answered.iter().map(|record| record.missed()).sum(),
            relayed_by: relayed.get(kind.name).into_iter().flatten().cloned().collect(),
            kernel_share: if packets == 0 { 0.0 } else { in_kernel / packets as f64 },
        }
    }
}
