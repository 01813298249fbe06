//! What a store keeps: entries, sealed rows, and the text form in which credstash tables hold a row's attributes.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use crate::envelope::{Digest, Sealed, Suite};
use crate::name::Name;
use crate::secret::WrappedKey;
use crate::version::Version;

/// What names a row, and what may be shown of it without a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The credential's name.
    pub name: Name,
    /// The version of this row.
    pub version: Version,
    /// What the writer said about it.
    pub comment: Option<String>,
}

/// One version of one credential, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRow {
    /// Which row it is.
    pub entry: Entry,
    /// The sealed secret.
    pub sealed: Sealed,
}

impl SealedRow {
    /// The largest row in bytes, as [`SealedRow::size`] counts them: DynamoDB's limit of 400 KB for an item.
    ///
    /// The vault keeps to it with every store, so that a row can move to any other.
    pub const MAX_SIZE: usize = 400 * 1024;

    /// The size in bytes of a row in a DynamoDB table: the names and the values of its attributes, `key` and
    /// `contents` in base64 and `hmac` in hexadecimal (Amazon DynamoDB developer guide, "Item sizes and formats").
    #[must_use]
    pub fn size(entry: &Entry, suite: Suite, bound: bool, wrapped_key_len: usize, secret_len: usize) -> usize {
        let Suite::CtrHmac(digest) = suite;
        let attributes = [
            ("name", entry.name.as_str().len()),
            ("version", entry.version.as_str().len()),
            ("key", base64_len(wrapped_key_len)),
            ("contents", base64_len(secret_len)),
            ("hmac", 2 * suite.mac_len()),
            ("digest", digest.name().len()),
        ];
        let comment = entry.comment.as_ref().map_or(0, |comment| "comment".len() + comment.len());
        let bound = if bound { "bound".len() + BOUND.len() } else { 0 };
        bound + comment + attributes.iter().map(|(name, len)| name.len() + len).sum::<usize>()
    }
}

/// What the attribute `bound` says: that the context of the data key holds the name and the version.
const BOUND: &str = "name version";

fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// The attributes of a row as credstash tables hold them, each of which may be missing in a row of another writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Base64 of the wrapped data key.
    pub key: Option<String>,
    /// Base64 of the ciphertext.
    pub contents: Option<String>,
    /// The HMAC in hexadecimal digits: the bytes of that text.
    pub hmac: Option<Vec<u8>>,
    /// The name of the digest; [`Digest::Sha256`] where it is missing.
    pub digest: Option<String>,
    /// `name version` where the data key is bound to those of the row; else missing. Not known to the original.
    pub bound: Option<String>,
}

impl From<&Sealed> for Attributes {
    fn from(sealed: &Sealed) -> Self {
        let Suite::CtrHmac(digest) = sealed.suite;
        Self {
            key: Some(STANDARD.encode(sealed.wrapped_key.as_bytes())),
            contents: Some(STANDARD.encode(&sealed.contents)),
            hmac: Some(hex::encode(&sealed.mac).into_bytes()),
            digest: Some(digest.name().to_owned()),
            bound: sealed.bound.then(|| BOUND.to_owned()),
        }
    }
}

impl Attributes {
    /// Reads the attributes as leniently as the original does: base64 with foreign characters in it, hexadecimal
    /// digits in either case.
    ///
    /// # Errors
    /// [`MalformedAttribute`] names the first attribute that is missing or cannot be read.
    pub fn decode(self) -> Result<Sealed, MalformedAttribute> {
        let wrapped_key = decode_base64("key", self.key)?;
        let contents = decode_base64("contents", self.contents)?;
        let hmac = self.hmac.ok_or(MalformedAttribute::missing("hmac"))?;
        let mac = hex::decode(hmac).map_err(|error| MalformedAttribute::new("hmac", error))?;
        let digest = match self.digest {
            None => Digest::default(),
            Some(name) => Digest::from_name(&name).map_err(|error| MalformedAttribute::new("digest", error))?,
        };
        let bound = match self.bound.as_deref() {
            None => false,
            Some(BOUND) => true,
            Some(_) => return Err(MalformedAttribute::new("bound", format_args!("is not '{BOUND}'"))),
        };
        Ok(Sealed { wrapped_key: WrappedKey::new(wrapped_key), suite: Suite::CtrHmac(digest), contents, mac, bound })
    }
}

/// An attribute of a row that is missing, or holds what cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attribute '{attribute}': {reason}")]
pub struct MalformedAttribute {
    /// The name of the attribute.
    pub attribute: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl MalformedAttribute {
    pub(crate) fn new(attribute: &'static str, reason: impl ToString) -> Self {
        Self { attribute, reason: reason.to_string() }
    }

    pub(crate) fn missing(attribute: &'static str) -> Self {
        Self::new(attribute, "is missing")
    }
}

fn decode_base64(attribute: &'static str, text: Option<String>) -> Result<Vec<u8>, MalformedAttribute> {
    let text = text.ok_or(MalformedAttribute::missing(attribute))?;
    // Bits beyond the last whole byte are ignored, as Python does.
    const LENIENT: GeneralPurpose =
        GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
    let quads = whole_quads(&text).map_err(|reason| MalformedAttribute::new(attribute, reason))?;
    LENIENT.decode(quads).map_err(|error| MalformedAttribute::new(attribute, error))
}

/// The characters of `text` that Python's `base64.b64decode` reads, padded: those outside the alphabet are skipped
/// (other writers wrap lines), and a complete padding ends the text.
fn whole_quads(text: &str) -> Result<String, String> {
    let mut quads = String::with_capacity(text.len());
    let mut padding = 0;
    for character in text.chars() {
        match character {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '+' | '/' => {
                quads.push(character);
                padding = 0;
            }
            '=' if quads.len() % 4 >= 2 => {
                padding += 1;
                if quads.len() % 4 + padding == 4 {
                    quads.extend(std::iter::repeat_n('=', padding));
                    return Ok(quads);
                }
            }
            _ => {}
        }
    }
    match quads.len() % 4 {
        0 => Ok(quads),
        1 => {
            Err("Invalid base64-encoded string: number of data characters cannot be 1 more than a multiple of 4".into())
        }
        _ => Err("Incorrect padding".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Result<Vec<u8>, String> {
        decode_base64("key", Some(text.to_owned())).map_err(|error| error.reason)
    }

    #[test]
    fn base64_is_read_as_python_reads_it() {
        assert_eq!(decoded(""), Ok(vec![]));
        assert_eq!(decoded("aGk="), Ok(b"hi".to_vec()));
        assert_eq!(decoded("aG\r\n k!="), Ok(b"hi".to_vec()));
        assert_eq!(decoded("aGk===="), Ok(b"hi".to_vec()));
        assert_eq!(decoded("aGk=ignored"), Ok(b"hi".to_vec()));
        assert_eq!(decoded("aGl="), Ok(b"hi".to_vec()));
        assert_eq!(decoded("=aGk="), Ok(b"hi".to_vec()));
        assert_eq!(decoded("aA=="), Ok(b"h".to_vec()));
        assert_eq!(decoded("a=A=="), Ok(b"h".to_vec()));
        assert_eq!(decoded("aGkh===="), Ok(b"hi!".to_vec()));
        assert_eq!(decoded("aGk"), Err("Incorrect padding".into()));
        assert!(decoded("aGlob").is_err_and(|reason| reason.starts_with("Invalid base64-encoded string")));
    }

    #[test]
    fn what_is_sealed_is_read_from_its_attributes() {
        for (digest, bound) in [(Digest::Sha256, false), (Digest::Md5, true)] {
            let sealed = Sealed {
                wrapped_key: WrappedKey::new(b"hi!".to_vec()),
                suite: Suite::CtrHmac(digest),
                contents: b"hi".to_vec(),
                mac: vec![0x0a, 0xff],
                bound,
            };
            let attributes = Attributes {
                key: Some("aGkh".to_owned()),
                contents: Some("aGk=".to_owned()),
                hmac: Some(b"0aff".to_vec()),
                digest: Some(digest.name().to_owned()),
                bound: bound.then(|| "name version".to_owned()),
            };
            assert_eq!(Attributes::from(&sealed), attributes);
            assert_eq!(attributes.clone().decode().as_ref(), Ok(&sealed));
            assert_eq!(Attributes { hmac: Some(b"0AFF".to_vec()), ..attributes }.decode(), Ok(sealed));
        }
    }

    #[test]
    fn an_attribute_that_cannot_be_read_is_named() {
        let whole = || Attributes {
            key: Some("aGkh".to_owned()),
            contents: Some(String::new()),
            hmac: Some(b"0aff".to_vec()),
            digest: None,
            bound: None,
        };
        assert_eq!(whole().decode().expect("whole").suite, Suite::CtrHmac(Digest::Sha256));
        let text = |text: &str| Some(text.to_owned());
        for (attributes, attribute, reason) in [
            (Attributes { key: None, ..whole() }, "key", "is missing"),
            (Attributes { key: text("aGk"), ..whole() }, "key", "Incorrect padding"),
            (Attributes { contents: None, ..whole() }, "contents", "is missing"),
            (Attributes { contents: text("aGk"), ..whole() }, "contents", "Incorrect padding"),
            (Attributes { hmac: None, ..whole() }, "hmac", "is missing"),
            (Attributes { hmac: Some(b"0af".to_vec()), ..whole() }, "hmac", "Odd number of digits"),
            (Attributes { digest: text("SHA3"), ..whole() }, "digest", "unknown digest 'SHA3'"),
            (Attributes { bound: text("name"), ..whole() }, "bound", "is not 'name version'"),
        ] {
            assert_eq!(attributes.decode(), Err(MalformedAttribute::new(attribute, reason)));
        }
    }

    #[test]
    fn the_size_is_that_of_the_attributes() {
        let entry = Entry {
            name: Name::new("abc").expect("a valid name"),
            version: Version::first(),
            comment: Some("why".into()),
        };
        let suite = Suite::CtrHmac(Digest::Sha256);
        // name 4+3, version 7+19, key 3+8, contents 8+4, hmac 4+64, digest 6+6, comment 7+3
        assert_eq!(SealedRow::size(&entry, suite, false, 4, 1), 7 + 26 + 11 + 12 + 68 + 12 + 10);
        // bound 5+12
        assert_eq!(SealedRow::size(&entry, suite, true, 4, 1), 7 + 26 + 11 + 12 + 68 + 12 + 10 + 17);
    }
}
