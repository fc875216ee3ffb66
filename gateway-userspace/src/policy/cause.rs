//! Q.850 causes as a trunk's network means them.

use std::collections::BTreeMap;

/// What causes become on their way to a trunk, and which cause a refusal has there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CauseMap {
    table: CauseTable,
    causes: BTreeMap<u8, u8>,
    refusals: BTreeMap<u16, u8>,
}

/// Whose table says which cause goes with a refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CauseTable {
    /// Nobody's: the cause is what the other side wrote, and none where it wrote none.
    #[default]
    AsReceived,
    /// RFC 4497 section 8.4: a cause that does not stand for the status code becomes the one that does.
    Rfc4497,
}

impl CauseMap {
    /// By a table, and by entries that are stronger than it: pairs of a cause (1 to 127) and what it becomes, pairs of
    /// the status code of a refusal and its cause.
    pub fn new(
        table: CauseTable,
        causes: impl IntoIterator<Item = (u8, u8)>,
        refusals: impl IntoIterator<Item = (u16, u8)>,
    ) -> Self {
        Self { table, causes: causes.into_iter().collect(), refusals: refusals.into_iter().collect() }
    }

    pub fn of(&self, cause: u8) -> u8 {
        self.causes.get(&cause).copied().unwrap_or(cause)
    }

    /// The cause of a refusal that came with this one.
    pub fn of_refusal(&self, status: u16, cause: Option<u8>) -> Option<u8> {
        if let Some(own) = self.refusals.get(&status) {
            return Some(*own);
        }
        let cause = match self.table {
            CauseTable::AsReceived => cause,
            CauseTable::Rfc4497 => cause
                .filter(|cause| statuses_of(*cause).contains(&status))
                .or_else(|| cause_of(status))
                .or(cause),
        };
        cause.map(|cause| self.of(cause))
    }
}

/// RFC 4497 section 8.4.1: the status codes that a cause becomes, by location or diagnostic where there are two.
fn statuses_of(cause: u8) -> &'static [u16] {
    match cause {
        1..=3 => &[404],
        17 => &[486],
        18 => &[408],
        19 | 20 | 31 => &[480],
        21 => &[403, 603],
        22 => &[301, 410],
        23 => &[410],
        27 => &[502],
        28 => &[484],
        29 | 69 | 79 => &[501],
        34 | 38 | 41 | 42 | 47 | 58 | 88 => &[503],
        55 | 57 | 87 => &[403],
        65 | 70 => &[488],
        102 => &[504],
        111 | 127 => &[500],
        _ => &[],
    }
}

/// RFC 4497 section 8.4.4: the cause that a status code becomes; of the two for 488 and 606 the one that says that it is
/// the media. None for those that never end a call: 487 and 491.
fn cause_of(status: u16) -> Option<u8> {
    Some(match status {
        404 | 485 | 604 => 1,
        486 | 600 => 17,
        480 => 18,
        401 | 402 | 403 | 407 | 603 => 21,
        410 => 22,
        482 | 483 => 25,
        484 => 28,
        502 => 38,
        400 | 481 | 500 | 503 => 41,
        405 => 63,
        488 | 606 => 65,
        406 | 415 | 501 => 79,
        408 | 504 => 102,
        413 | 414 | 416 | 420 | 421 | 423 | 505 | 513 => 127,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rfc4497() -> CauseMap {
        CauseMap::new(CauseTable::Rfc4497, [], [])
    }

    #[test]
    fn a_refusal_without_a_cause_gets_that_of_rfc_4497() {
        let table = [
            (400, 41),
            (401, 21),
            (402, 21),
            (403, 21),
            (404, 1),
            (405, 63),
            (406, 79),
            (407, 21),
            (408, 102),
            (410, 22),
            (413, 127),
            (414, 127),
            (415, 79),
            (416, 127),
            (420, 127),
            (421, 127),
            (423, 127),
            (480, 18),
            (481, 41),
            (482, 25),
            (483, 25),
            (484, 28),
            (485, 1),
            (486, 17),
            (488, 65),
            (500, 41),
            (501, 79),
            (502, 38),
            (503, 41),
            (504, 102),
            (505, 127),
            (513, 127),
            (600, 17),
            (603, 21),
            (604, 1),
            (606, 65),
        ];
        for status in 300..700 {
            let expected = table.iter().find(|(own, _)| *own == status).map(|(_, cause)| *cause);
            assert_eq!(rfc4497().of_refusal(status, None), expected, "{status}");
            assert_eq!(CauseMap::default().of_refusal(status, None), None, "{status}");
        }
    }

    #[test]
    fn a_cause_that_stands_for_its_refusal_by_rfc_4497_stays_and_another_is_replaced() {
        let table = [
            (1, 404),
            (2, 404),
            (3, 404),
            (17, 486),
            (18, 408),
            (19, 480),
            (20, 480),
            (21, 403),
            (21, 603),
            (22, 301),
            (22, 410),
            (23, 410),
            (27, 502),
            (28, 484),
            (29, 501),
            (31, 480),
            (34, 503),
            (38, 503),
            (41, 503),
            (42, 503),
            (47, 503),
            (55, 403),
            (57, 403),
            (58, 503),
            (65, 488),
            (69, 501),
            (70, 488),
            (79, 501),
            (87, 403),
            (88, 503),
            (102, 504),
            (111, 500),
            (127, 500),
        ];
        for status in 300..700 {
            for cause in 1..128 {
                let told = rfc4497().of_refusal(status, Some(cause));
                let stays = table.contains(&(cause, status));
                let expected = if stays { None } else { rfc4497().of_refusal(status, None) };
                assert_eq!(told, expected.or(Some(cause)), "{status} with {cause}");
                assert_eq!(CauseMap::default().of_refusal(status, Some(cause)), Some(cause));
            }
        }
    }

    /// As a network counts that maps by NICC ND1017: the one entry of it that is publicly known.
    #[test]
    fn entries_of_ones_own_are_stronger_than_a_table() {
        let map = CauseMap::new(CauseTable::Rfc4497, [(18, 19)], [(486, 34)]);
        assert_eq!(map.of_refusal(486, Some(17)), Some(34));
        assert_eq!(map.of_refusal(486, None), Some(34));
        assert_eq!(map.of_refusal(480, None), Some(19), "what the table says is mapped on");
        assert_eq!(map.of_refusal(503, None), Some(41));
        assert_eq!((map.of(18), map.of(16)), (19, 16));
    }
}
