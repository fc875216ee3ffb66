//! Fax over UDPTL: what descriptions say of such a stream (ITU-T T.38 annex D, RFC 3362). What its packets hold is between
//! the two ends; of the attributes those of T.38 pass from one to the other as they are.

use sdp_types::Attribute;

/// The words of its media line (T.38 annex D.2.3).
pub(super) const MEDIA: &str = "image";
pub(super) const FORMAT: &str = "t38";
/// Attributes that are kept: twice as many as T.38 has.
const ATTRIBUTES_MAX: usize = 32;

/// Whether fax over UDPTL passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaxTerms {
    /// Offers of it are refused: fax machines then stay with tones in the audio.
    #[default]
    Refuse,
    /// From and to trunks that relay it too.
    Relay,
}

/// What one side says of its end of a fax stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fax {
    attributes: Vec<(Box<str>, Option<Box<str>>)>,
}

impl Fax {
    /// The attributes of T.38 among those of a stream. Values that do not print go no further.
    pub(super) fn of(attributes: &[Attribute]) -> Self {
        let prints = |text: &str| text.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic());
        let is_fax = |attribute: &&Attribute| {
            let Attribute { attribute: name, value } = attribute;
            let begins = name.get(..3).is_some_and(|begin| begin.eq_ignore_ascii_case("t38"));
            begins && prints(name) && value.as_deref().is_none_or(prints)
        };
        let kept = attributes.iter().filter(is_fax).take(ATTRIBUTES_MAX);
        let kept = kept.map(|attribute| {
            (attribute.attribute.as_str().into(), attribute.value.as_deref().map(Into::into))
        });
        Self { attributes: kept.collect() }
    }

    pub(super) fn attributes(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.attributes.iter().map(|(name, value)| (&**name, value.as_deref()))
    }
}
