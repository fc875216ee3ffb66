//! The sentences, by subject.

mod account;
mod admission;
mod checks;
mod headers;
mod media;
mod output;
mod rtcp;

use crate::row::Row;

pub fn all() -> Vec<Row> {
    [
        headers::rows(),
        media::rows(),
        admission::rows(),
        output::rows(),
        account::rows(),
        rtcp::rows(),
        checks::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
