//! A row as an item of the table, attribute by attribute.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::name::Name;
use crate::row::{Attributes, Entry, MalformedAttribute, SealedRow};
use crate::store::StoreError;
use crate::version::Version;

/// The attributes of one row.
pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

/// The item of `row`; `comment` is in it only when it says something.
pub(super) fn encode(row: &SealedRow) -> Item {
    let Attributes { key, contents, hmac, digest, bound } = Attributes::from(&row.sealed);
    let Entry { name, version, comment } = &row.entry;
    [
        ("name", Some(text(name.as_str()))),
        ("version", Some(text(version.as_str()))),
        ("key", key.map(AttributeValue::S)),
        ("contents", contents.map(AttributeValue::S)),
        ("hmac", hmac.map(Blob::new).map(AttributeValue::B)),
        ("digest", digest.map(AttributeValue::S)),
        ("bound", bound.map(AttributeValue::S)),
        ("comment", comment.as_deref().filter(|comment| !comment.is_empty()).map(text)),
    ]
    .into_iter()
    .filter_map(|(attribute, value)| Some((attribute.to_owned(), value?)))
    .collect()
}

/// Takes what names the row out of the item. An item without it is in a table of another kind.
pub(super) fn take_entry(item: &mut Item) -> Result<Entry, MalformedAttribute> {
    let name = Name::new(take_text(item, "name")?).map_err(|error| MalformedAttribute::new("name", error))?;
    let version = take_version(item)?;
    // A comment of another type than text is somebody else's, as every attribute that is not known.
    let comment = take_text(item, "comment").ok();
    Ok(Entry { name, version, comment })
}

pub(super) fn take_version(item: &mut Item) -> Result<Version, MalformedAttribute> {
    take_text(item, "version").map(Version::stored)
}

/// The row of `entry`, of which `item` holds the rest.
pub(super) fn decode(entry: Entry, mut item: Item) -> Result<SealedRow, StoreError> {
    match take_attributes(&mut item).and_then(Attributes::decode) {
        Ok(sealed) => Ok(SealedRow { entry, sealed }),
        Err(malformed) => Err(StoreError::Malformed { name: entry.name, version: entry.version, malformed }),
    }
}

fn take_attributes(item: &mut Item) -> Result<Attributes, MalformedAttribute> {
    let hmac = match item.remove("hmac") {
        None => None,
        Some(AttributeValue::B(blob)) => Some(blob.into_inner()),
        Some(AttributeValue::S(text)) => Some(text.into_bytes()),
        Some(_) => return Err(MalformedAttribute::new("hmac", "is neither Binary nor text")),
    };
    let mut optional = |attribute| match item.contains_key(attribute) {
        true => take_text(item, attribute).map(Some),
        false => Ok(None),
    };
    Ok(Attributes {
        key: optional("key")?,
        contents: optional("contents")?,
        hmac,
        digest: optional("digest")?,
        bound: optional("bound")?,
    })
}

fn take_text(item: &mut Item, attribute: &'static str) -> Result<String, MalformedAttribute> {
    match item.remove(attribute) {
        Some(AttributeValue::S(text)) => Ok(text),
        Some(_) => Err(MalformedAttribute::new(attribute, "is no text")),
        None => Err(MalformedAttribute::missing(attribute)),
    }
}

/// What must hold of all items, for a test and for the fuzz target `item`.
#[cfg(any(test, fuzzing))]
#[path = "../../../fuzz/src/item.rs"]
pub mod property;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Digest, Sealed, Suite};
    use crate::secret::WrappedKey;

    fn row(comment: Option<&str>, bound: bool) -> SealedRow {
        let entry = Entry {
            name: Name::new("db.password").expect("a valid name"),
            version: Version::first(),
            comment: comment.map(str::to_owned),
        };
        let sealed = Sealed {
            wrapped_key: WrappedKey::new(b"hi!".to_vec()),
            suite: Suite::CtrHmac(Digest::Sha1),
            contents: b"hi".to_vec(),
            mac: vec![0x0a, 0xff],
            bound,
        };
        SealedRow { entry, sealed }
    }

    fn binary(bytes: &[u8]) -> AttributeValue {
        AttributeValue::B(Blob::new(bytes))
    }

    fn read(mut item: Item) -> Result<SealedRow, StoreError> {
        let entry = take_entry(&mut item).expect("name and version");
        decode(entry, item)
    }

    #[test]
    fn what_was_fuzzed_holds() {
        crate::cases::replay("item", super::property::check);
    }

    #[test]
    fn a_row_is_read_from_its_item() {
        let mut expected: Item = [
            ("name", text("db.password")),
            ("version", text("0000000000000000001")),
            ("key", text("aGkh")),
            ("contents", text("aGk=")),
            ("hmac", binary(b"0aff")),
            ("digest", text("SHA")),
        ]
        .map(|(attribute, value)| (attribute.to_owned(), value))
        .into();
        assert_eq!(encode(&row(None, false)), expected);
        assert_eq!(read(expected.clone()), Ok(row(None, false)));
        // An empty comment is none.
        assert_eq!(encode(&row(Some(""), false)), expected);

        expected.insert("comment".to_owned(), text("why"));
        expected.insert("bound".to_owned(), text("name version"));
        assert_eq!(encode(&row(Some("why"), true)), expected);
        assert_eq!(read(expected), Ok(row(Some("why"), true)));
    }

    #[test]
    fn an_item_without_name_and_version_is_no_row() {
        for (attribute, value, reason) in [
            ("name", None, "is missing"),
            ("name", Some(binary(b"db.password")), "is no text"),
            ("name", Some(text("")), "the name of a credential cannot be empty"),
            ("version", None, "is missing"),
            ("version", Some(AttributeValue::N("1".to_owned())), "is no text"),
        ] {
            let mut item = encode(&row(None, false));
            item.remove(attribute);
            item.extend(value.map(|value| (attribute.to_owned(), value)));
            assert_eq!(take_entry(&mut item), Err(MalformedAttribute::new(attribute, reason)));
        }
    }

    #[test]
    fn an_attribute_of_another_type_is_named() {
        let number = AttributeValue::N("1".to_owned());
        for (attribute, value, reason) in [
            ("key", Some(binary(b"hi!")), "is no text"),
            ("key", None, "is missing"),
            ("contents", Some(binary(b"hi")), "is no text"),
            ("contents", None, "is missing"),
            ("hmac", Some(number.clone()), "is neither Binary nor text"),
            ("hmac", None, "is missing"),
            ("digest", Some(number.clone()), "is no text"),
            ("bound", Some(AttributeValue::Bool(true)), "is no text"),
            ("bound", Some(text("name")), "is not 'name version'"),
        ] {
            let mut item = encode(&row(None, true));
            item.remove(attribute);
            item.extend(value.map(|value| (attribute.to_owned(), value)));
            let Entry { name, version, .. } = row(None, true).entry;
            let malformed = MalformedAttribute::new(attribute, reason);
            assert_eq!(read(item), Err(StoreError::Malformed { name, version, malformed }));
        }
    }

    /// Of other writers: an HMAC as text, no digest, and attributes that say nothing to this one.
    #[test]
    fn what_other_writers_do_is_read() {
        let mut item = encode(&row(None, false));
        item.insert("hmac".to_owned(), text("0AFF"));
        item.remove("digest");
        item.insert("comment".to_owned(), AttributeValue::N("1".to_owned()));
        item.insert("owner".to_owned(), AttributeValue::Bool(true));
        let mut expected = row(None, false);
        expected.sealed.suite = Suite::CtrHmac(Digest::Sha256);
        assert_eq!(read(item), Ok(expected));
    }
}
