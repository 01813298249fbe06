//! Rows that Python credstash 1.17.1 made, and what it made of damaged ones: tests/golden/rows.json.
//!
//! Where this product answers otherwise than the original, the answers are written out below.

use std::collections::BTreeMap;

use credstash::{
    Attributes, DataKey, Digest, EnvelopeError, MalformedAttribute, Sealed, Secret, Suite, WrappedKey, open, seal,
};
use serde_json::Value;

/// All digests that a row may name.
const DIGESTS: [Digest; 8] = [
    Digest::Sha1,
    Digest::Sha224,
    Digest::Sha256,
    Digest::Sha384,
    Digest::Sha512,
    Digest::Md5,
    Digest::Ripemd160,
    Digest::Whirlpool,
];

/// The rows that can be read and that credstash 1.17.1 would write otherwise: without a digest, with an HMAC in capital
/// letters, with base64 that holds more than base64.
const OF_OTHER_WRITERS: [&str; 7] = ["p44", "p45", "p46", "p47", "p52", "p53", "p54"];

/// The rows that name a digest which the original does not know, and this product does: that of earlier releases, or of
/// another port. None of them was made with the digest it names.
const DIGESTS_KNOWN_HERE: [(&str, Digest); 3] =
    [("n79", Digest::Whirlpool), ("n80", Digest::Ripemd160), ("n82", Digest::Sha1)];

/// One row, and what the original made of it.
struct Vector {
    id: String,
    /// What the row shows.
    note: String,
    key: DataKey,
    attributes: Attributes,
    outcome: Outcome,
}

/// What the original made of a row.
enum Outcome {
    /// This secret.
    Opened(Vec<u8>),
    /// An error, since the secret is not UTF-8. Here a secret is any bytes.
    NotUtf8(Vec<u8>),
    /// An error of this class, in these words.
    Refused { class: String, message: String },
}

impl Vector {
    fn read(value: &Value) -> Self {
        let text = |field: &str| value[field].as_str().unwrap_or_else(|| panic!("{field} of {value}")).to_owned();
        let attribute = |name: &str| value["row"][name].as_str().map(str::to_owned);
        let outcome = match (&value["secret_utf8"], &value["secret_hex"], &value["error"]) {
            (Value::String(secret), _, _) => Outcome::Opened(secret.as_bytes().to_vec()),
            (_, Value::String(secret), _) => Outcome::NotUtf8(hex::decode(secret).expect("hexadecimal digits")),
            (_, _, error) => Outcome::Refused {
                class: error["class"].as_str().expect("a class").to_owned(),
                message: error["python_message"].as_str().expect("a message").to_owned(),
            },
        };
        Self {
            id: text("id"),
            note: text("note"),
            key: DataKey::new(hex::decode(text("plaintext_key_hex")).expect("hexadecimal digits")),
            attributes: Attributes {
                key: attribute("key"),
                contents: attribute("contents"),
                // Binary and String hold the same text; a store hands on the bytes of either.
                hmac: attribute("hmac").map(String::into_bytes),
                digest: attribute("digest"),
                bound: None,
            },
            outcome,
        }
    }

    /// The secret of a row that can be read.
    fn secret(&self) -> Option<&[u8]> {
        match &self.outcome {
            Outcome::Opened(secret) | Outcome::NotUtf8(secret) => Some(secret),
            Outcome::Refused { .. } => None,
        }
    }

    fn sealed(&self) -> Sealed {
        self.attributes.clone().decode().unwrap_or_else(|error| panic!("{self} is decoded: {error}"))
    }

    /// What reading the row comes to.
    fn read_row(&self) -> Result<Vec<u8>, Refusal> {
        let sealed = self.attributes.clone().decode().map_err(Refusal::Malformed)?;
        Ok(open(&sealed, &self.key).map_err(Refusal::Unopened)?.expose().to_vec())
    }
}

impl std::fmt::Display for Vector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.id, self.note)
    }
}

/// Why a row was refused.
#[derive(Debug, PartialEq)]
enum Refusal {
    Malformed(MalformedAttribute),
    Unopened(EnvelopeError),
}

fn vectors() -> Vec<Vector> {
    let document: Value = serde_json::from_str(include_str!("../golden/rows.json")).expect("JSON");
    document["vectors"].as_array().expect("vectors").iter().map(Vector::read).collect()
}

/// The rows made with [`Digest::WRITABLE`], one of each.
fn one_of_each_digest() -> Vec<Vector> {
    let rows: Vec<_> =
        vectors().into_iter().filter(|vector| vector.note == format!("digest {}", digest(vector))).collect();
    assert_eq!(rows.iter().map(digest).collect::<Vec<_>>(), Digest::WRITABLE);
    rows
}

/// The digest that a row names.
fn digest(vector: &Vector) -> Digest {
    let named = vector.attributes.digest.as_deref();
    named.and_then(|name| Digest::from_name(name).ok()).unwrap_or_default()
}

/// Without this, a file with fewer rows in it would do as well.
#[test]
fn all_vectors_are_there() {
    let mut found = BTreeMap::new();
    for vector in vectors() {
        let class = match vector.outcome {
            Outcome::Opened(_) => "opened".to_owned(),
            Outcome::NotUtf8(_) => "not UTF-8".to_owned(),
            Outcome::Refused { class, .. } => class,
        };
        *found.entry(class).or_insert(0) += 1;
    }
    let expected = [
        ("integrity", 22),
        ("malformed", 10),
        ("missing_attribute", 3),
        ("not UTF-8", 3),
        ("opened", 56),
        ("unknown_digest", 5),
    ];
    assert_eq!(found, expected.map(|(class, count)| (class.to_owned(), count)).into());
}

#[test]
fn every_row_of_the_original_opens() {
    for vector in vectors() {
        if let Some(secret) = vector.secret() {
            assert_eq!(vector.read_row(), Ok(secret.to_vec()), "{vector}");
        }
    }
}

/// The same secret under the same data key: what the original wrote, to the letter.
#[test]
fn sealing_again_gives_the_row_of_the_original() {
    let mut of_other_writers = Vec::new();
    for vector in vectors() {
        let Some(secret) = vector.secret() else { continue };
        let sealed = vector.sealed();
        let again =
            seal(sealed.suite, &vector.key, sealed.wrapped_key.clone(), &Secret::new(secret.to_vec())).expect("sealed");
        assert_eq!(again, sealed, "{vector}");
        if Attributes::from(&again) != vector.attributes {
            of_other_writers.push(vector.id);
        }
    }
    assert_eq!(of_other_writers, OF_OTHER_WRITERS, "these alone differ in their text");
}

#[test]
fn every_row_that_the_original_refuses_is_refused_for_the_same_reason() {
    for vector in vectors() {
        let Outcome::Refused { class, message } = &vector.outcome else { continue };
        let refusal = vector.read_row().expect_err(&vector.to_string());
        let known_here = DIGESTS_KNOWN_HERE.into_iter().find(|(id, _)| *id == vector.id);
        match (class.as_str(), known_here) {
            ("integrity", None) => {
                let digest = digest(&vector);
                assert_eq!(refusal, Refusal::Unopened(EnvelopeError::Integrity { digest }), "{vector}");
            }
            ("unknown_digest", Some((_, digest))) => {
                assert_eq!(refusal, Refusal::Unopened(EnvelopeError::Integrity { digest }), "{vector}");
            }
            ("unknown_digest", None) => {
                let named = vector.attributes.digest.as_deref().expect("a digest");
                assert_eq!(refusal, malformed("digest", format!("unknown digest '{named}'")), "{vector}");
            }
            ("missing_attribute", None) => {
                // Python says no more than the name of the attribute, quoted.
                let attribute = ["key", "contents", "hmac"].into_iter().find(|name| *message == format!("'{name}'"));
                assert_eq!(refusal, malformed(attribute.expect("an attribute"), "is missing"), "{vector}");
            }
            ("malformed", None) => {
                let Refusal::Malformed(MalformedAttribute { attribute, reason }) = &refusal else {
                    panic!("{vector}: {refusal:?}");
                };
                // What the rows show is noted as `attribute: what is wrong with it`.
                assert_eq!(Some(*attribute), vector.note.split(':').next(), "{vector}");
                assert!(!reason.is_empty(), "{vector}");
            }
            (class, known_here) => panic!("{vector}: {class}, {known_here:?}"),
        }
    }
}

fn malformed(attribute: &'static str, reason: impl Into<String>) -> Refusal {
    Refusal::Malformed(MalformedAttribute { attribute, reason: reason.into() })
}

/// The bit counts from the first byte's lowest.
fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

fn assert_refused(sealed: &Sealed, key: &DataKey, why: impl std::fmt::Display) {
    let Suite::CtrHmac(digest) = sealed.suite else { panic!("{why}: {:?}", sealed.suite) };
    let opened = open(sealed, key).map(|_| "a secret");
    assert_eq!(opened, Err(EnvelopeError::Integrity { digest }), "{why}");
}

#[test]
fn every_flipped_bit_of_the_contents_is_refused() {
    for vector in one_of_each_digest() {
        let sealed = vector.sealed();
        for bit in 0..sealed.contents.len() * 8 {
            let damaged = Sealed { contents: flip(&sealed.contents, bit), ..sealed.clone() };
            assert_refused(&damaged, &vector.key, format_args!("{vector}, bit {bit}"));
        }
    }
}

#[test]
fn every_flipped_bit_of_the_hmac_is_refused() {
    for vector in one_of_each_digest() {
        let sealed = vector.sealed();
        for bit in 0..sealed.mac.len() * 8 {
            let damaged = Sealed { mac: flip(&sealed.mac, bit), ..sealed.clone() };
            assert_refused(&damaged, &vector.key, format_args!("{vector}, bit {bit}"));
        }
    }
}

/// Half an HMAC is none, and neither is one with something after it.
#[test]
fn every_other_length_is_refused() {
    for vector in one_of_each_digest() {
        let sealed = vector.sealed();
        for (part, len) in [("contents", sealed.contents.len()), ("hmac", sealed.mac.len())] {
            for other in (0..=2 * len).filter(|other| *other != len) {
                let mut damaged = sealed.clone();
                let bytes = if part == "hmac" { &mut damaged.mac } else { &mut damaged.contents };
                bytes.resize(other, 0);
                assert_refused(&damaged, &vector.key, format_args!("{vector}, {part} of {other} bytes"));
            }
        }
    }
}

#[test]
fn every_other_digest_is_refused() {
    for vector in one_of_each_digest() {
        for other in DIGESTS.into_iter().filter(|other| *other != digest(&vector)) {
            let damaged = Sealed { suite: Suite::CtrHmac(other), ..vector.sealed() };
            assert_refused(&damaged, &vector.key, format_args!("{vector}, read as {other}"));
        }
    }
}

/// The second half of a data key is that of the HMAC. The first half has nothing that could vouch for it; it comes out
/// of the same wrapped key, which the key service vouches for.
#[test]
fn every_flipped_bit_of_the_keys_hmac_half_is_refused() {
    for vector in one_of_each_digest() {
        let key = vector.key.expose();
        for bit in key.len() * 4..key.len() * 8 {
            let other = DataKey::new(flip(key, bit));
            assert_refused(&vector.sealed(), &other, format_args!("{vector}, bit {bit}"));
        }
    }
}

/// What wraps the data key is the key service's alone: the envelope carries it, and looks at nothing in it.
#[test]
fn the_wrapped_key_is_carried_as_it_is() {
    for vector in one_of_each_digest() {
        let sealed = Sealed { wrapped_key: WrappedKey::new(vec![0, 255]), ..vector.sealed() };
        let attributes = Attributes::from(&sealed);
        assert_eq!(attributes.key.as_deref(), Some("AP8="), "{vector}");
        assert_eq!(attributes.decode(), Ok(sealed), "{vector}");
    }
}
