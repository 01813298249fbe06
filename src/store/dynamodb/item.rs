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
    #[test]
    fn what_was_fuzzed_holds() {
        crate::cases::replay("item", super::property::check);
    }
}
