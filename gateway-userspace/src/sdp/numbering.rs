//! Payload numbers of one leg: a number once given to a format keeps it for the whole session (RFC 3264
//! section 8.3.2), whatever the other leg calls it.

use super::capability::counterpart;
use super::model::Format;

/// Numbers to give to formats that come without a free one: the dynamic range of RFC 3551 section 6, then the
/// unassigned range that RFC 5761 section 4 leaves for more of them.
const DYNAMIC: [std::ops::RangeInclusive<u8>; 2] = [96..=127, 35..=63];

/// The formats that one leg has numbered so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Numbering(Vec<Format>);

impl Numbering {
    /// `formats` as this leg numbers them: as before, else as they come, else by the next number that is free.
    /// `None` when there is no such number.
    pub(super) fn assign(&mut self, formats: &[Format]) -> Option<Vec<Format>> {
        let mut taken = Vec::with_capacity(formats.len());
        formats
            .iter()
            .map(|format| {
                let position = match counterpart(format, &self.0, &taken) {
                    Some(position) => position,
                    None => self.add(format)?,
                };
                taken.push(position);
                let payload_type = self.0.get(position)?.payload_type;
                Some(Format { payload_type, ..format.clone() })
            })
            .collect()
    }

    /// Takes over the numbers of an offer of this leg's peer.
    pub(super) fn adopt(&mut self, formats: &[Format]) {
        self.0.retain(|known| !formats.iter().any(|format| format.payload_type == known.payload_type));
        // In front: of two numbers for one format, the one that the peer used last is looked up first.
        self.0.splice(0..0, formats.iter().cloned());
    }

    fn add(&mut self, format: &Format) -> Option<usize> {
        let free = |number: &u8| self.0.iter().all(|known| known.payload_type != *number);
        let payload_type = Some(format.payload_type).filter(free);
        let payload_type = payload_type.or_else(|| DYNAMIC.into_iter().flatten().find(free))?;
        self.0.push(Format { payload_type, ..format.clone() });
        Some(self.0.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(payload_type: u8, codec: &str) -> Format {
        Format { payload_type, codec: codec.parse().unwrap(), fmtp: None }
    }

    fn numbers(numbering: &mut Numbering, formats: &[Format]) -> Vec<u8> {
        numbering.assign(formats).unwrap().iter().map(|format| format.payload_type).collect()
    }

    #[test]
    fn a_number_stays_with_its_format_and_a_newcomer_gets_a_free_one() {
        let mut numbering = Numbering::default();
        let first = [format(8, "PCMA/8000"), format(96, "telephone-event/8000")];
        assert_eq!(numbers(&mut numbering, &first), [8, 96]);
        let second =
            [format(96, "opus/48000/2"), format(101, "telephone-event/8000"), format(8, "PCMA/8000")];
        assert_eq!(numbers(&mut numbering, &second), [97, 96, 8]);
        assert_eq!(numbers(&mut numbering, &second), [97, 96, 8], "and again");
    }

    #[test]
    fn the_peers_own_numbers_rule() {
        let mut numbering = Numbering::default();
        numbers(&mut numbering, &[format(96, "opus/48000/2"), format(97, "telephone-event/48000")]);
        numbering.adopt(&[format(97, "opus/48000/2")]);
        let offer = [format(111, "opus/48000/2"), format(101, "telephone-event/48000")];
        assert_eq!(numbers(&mut numbering, &offer), [97, 101]);
    }

    #[test]
    fn numbers_run_out_without_a_clash() {
        let mut numbering = Numbering::default();
        let formats: Vec<_> = (0..61).map(|clock| format(96, &format!("X/{}", clock + 1))).collect();
        let mut given = numbers(&mut numbering, &formats);
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), 61);
        assert_eq!(numbering.assign(&[format(96, "Y/1")]), None);
    }
}
