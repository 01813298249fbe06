//! Items: what can be read is written as it was read, and what cannot be read is named.
#![allow(unreachable_pub, reason = "in the main project only a test reaches it")]

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use super::{Item, decode, encode, take_entry};
use crate::cases::Input;
use crate::row::{MalformedAttribute, SealedRow};
use crate::store::StoreError;

/// Those that are chosen often; `bound`, as any other, is found by its name.
const KNOWN: [&str; 7] = ["name", "version", "key", "contents", "hmac", "digest", "comment"];

/// Takes an item, attribute by attribute.
pub fn check(case: &[u8]) {
    let mut input = Input::new(case);
    let mut item = Item::new();
    while !input.is_empty() && item.len() < 12 {
        let attribute = match input.below(KNOWN.len() + 1) {
            known if known < KNOWN.len() => KNOWN[known].to_owned(),
            _ => input.text(),
        };
        item.insert(attribute, value(&mut input, 2));
    }

    let mut rest = item.clone();
    let entry = match take_entry(&mut rest) {
        Ok(entry) => entry,
        Err(malformed) => {
            assert!(["name", "version"].contains(&malformed.attribute), "{malformed}");
            return assert!(is_to_blame(&item, &malformed), "{malformed} in {item:?}");
        }
    };
    assert_eq!(text_of(&item, "name"), Some(entry.name.as_str()));
    assert_eq!(text_of(&item, "version"), Some(entry.version.as_str()));
    assert_eq!(text_of(&item, "comment"), entry.comment.as_deref());
    let row = match decode(entry.clone(), rest) {
        Ok(row) => row,
        Err(StoreError::Malformed { name, version, malformed }) => {
            assert_eq!((name, version), (entry.name, entry.version));
            assert!(["key", "contents", "hmac", "digest", "bound"].contains(&malformed.attribute), "{malformed}");
            return assert!(is_to_blame(&item, &malformed), "{malformed} in {item:?}");
        }
        Err(error) => panic!("{error}"),
    };

    let written = encode(&row);
    assert!(written.keys().all(|attribute| attribute == "bound" || KNOWN.contains(&attribute.as_str())));
    let mut expected = row.clone();
    expected.entry.comment = row.entry.comment.filter(|comment| !comment.is_empty());
    assert_eq!(read(written.clone()), expected, "a row is read as it was written");
    assert_eq!(encode(&read(written.clone())), written);
    let mut of_an_old_writer = written;
    if let Some(AttributeValue::B(hmac)) = of_an_old_writer.get("hmac").cloned() {
        let digits = String::from_utf8(hmac.into_inner()).expect("hexadecimal digits");
        of_an_old_writer.insert("hmac".to_owned(), AttributeValue::S(digits));
    }
    assert_eq!(read(of_an_old_writer), expected, "the HMAC as text is the same");
}

fn read(mut item: Item) -> SealedRow {
    let entry = take_entry(&mut item).expect("named");
    decode(entry, item).expect("read")
}

fn text_of<'a>(item: &'a Item, attribute: &str) -> Option<&'a str> {
    item.get(attribute)?.as_s().ok().map(String::as_str)
}

/// Whether the attribute is one with which something may be wrong: not one that is as this program writes it.
fn is_to_blame(item: &Item, malformed: &MalformedAttribute) -> bool {
    let attribute = malformed.attribute;
    let text = text_of(item, attribute);
    match (attribute, text, item.get(attribute)) {
        ("name", Some(name), _) => name.is_empty() || name.len() > 2048,
        ("version", Some(_), _) => false,
        ("digest", Some(digest), _) => !["SHA", "SHA224", "SHA256", "SHA384", "SHA512", "MD5"].contains(&digest),
        ("bound", Some(bound), _) => bound != "name version",
        // What is missing is the default.
        ("digest" | "bound", None, value) => value.is_some(),
        ("hmac", Some(digits), _) => !is_hex(digits.as_bytes()),
        ("hmac", None, Some(AttributeValue::B(digits))) => !is_hex(digits.as_ref()),
        // Nothing is wrong with quads of the alphabet.
        (_, Some(base64), _) => base64.len() % 4 != 0 || !base64.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        _ => true,
    }
}

fn is_hex(digits: &[u8]) -> bool {
    digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit)
}

fn value(input: &mut Input<'_>, depth: usize) -> AttributeValue {
    // Texts and binaries most of the time.
    match input.below(if depth == 0 { 14 } else { 16 }) {
        0..8 => AttributeValue::S(input.text()),
        8..10 => AttributeValue::B(Blob::new(input.bytes())),
        10 => AttributeValue::N(input.text()),
        11 => AttributeValue::Bool(input.byte().is_multiple_of(2)),
        12 => AttributeValue::Null(true),
        13 => AttributeValue::Ss(vec![input.text()]),
        14 => AttributeValue::L(vec![value(input, depth - 1)]),
        _ => AttributeValue::M([(input.text(), value(input, depth - 1))].into()),
    }
}
