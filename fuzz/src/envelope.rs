//! The envelope: opening undoes sealing, and nothing else opens.

use credstash::{DataKey, Digest, EnvelopeError, Sealed, Secret, Suite, WrappedKey, open, seal};

use super::cases::Input;

/// Takes a digest, a place to change, a code, a key and a secret.
pub fn check(case: &[u8]) {
    let mut input = Input::new(case);
    let digest = input.one_of(&[
        Digest::Sha1,
        Digest::Sha224,
        Digest::Sha256,
        Digest::Sha384,
        Digest::Sha512,
        Digest::Md5,
        Digest::Ripemd160,
        Digest::Whirlpool,
    ]);
    let (other_digest, place) = (input.one_of(&Digest::WRITABLE), input.below(usize::MAX));
    let (code, key_bytes) = (input.bytes(), input.bytes());
    let secret = Secret::new(input.rest().to_vec());
    let key = || DataKey::new(key_bytes.to_vec());
    let suite = Suite::CtrHmac(digest);

    // Whatever is in a row, without the key that sealed it.
    let foreign = Sealed {
        wrapped_key: WrappedKey::new(Vec::new()),
        suite,
        contents: secret.expose().to_vec(),
        mac: code.to_vec(),
        bound: false,
    };
    assert!(open(&foreign, &key()).is_err(), "a code out of thin air");

    let sealed = match seal(suite, &key(), WrappedKey::new(vec![1]), &secret) {
        Ok(sealed) => sealed,
        Err(EnvelopeError::ReadOnlyDigest { .. }) => return assert!(!Digest::WRITABLE.contains(&digest)),
        Err(EnvelopeError::KeyLength { bytes }) => {
            return assert!(bytes == key_bytes.len() && bytes != suite.key_len());
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!((sealed.contents.len(), sealed.mac.len()), (secret.expose().len(), suite.mac_len()));
    assert_eq!(open(&sealed, &key()).expect("opened").expose(), secret.expose());

    let refused = |sealed: &Sealed, key: DataKey| {
        let Suite::CtrHmac(digest) = sealed.suite else { unreachable!("there is one suite") };
        assert_eq!(open(sealed, &key).map(|_| ()), Err(EnvelopeError::Integrity { digest }));
    };
    let flipped = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let bit = place % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    };
    if !sealed.contents.is_empty() {
        refused(&Sealed { contents: flipped(&sealed.contents), ..sealed.clone() }, key());
        let shorter = sealed.contents[..place % sealed.contents.len()].to_vec();
        refused(&Sealed { contents: shorter, ..sealed.clone() }, key());
    }
    refused(&Sealed { contents: [sealed.contents.as_slice(), &[0]].concat(), ..sealed.clone() }, key());
    refused(&Sealed { mac: flipped(&sealed.mac), ..sealed.clone() }, key());
    refused(&Sealed { mac: sealed.mac[..place % sealed.mac.len()].to_vec(), ..sealed.clone() }, key());
    refused(&Sealed { mac: [sealed.mac.as_slice(), &[0]].concat(), ..sealed.clone() }, key());
    if other_digest != digest {
        refused(&Sealed { suite: Suite::CtrHmac(other_digest), ..sealed.clone() }, key());
    }
    // The half of the key that authenticates; the other half is the key service's to protect.
    let (encrypts, authenticates) = key_bytes.split_at(key_bytes.len() / 2);
    refused(&sealed, DataKey::new([encrypts, &flipped(authenticates)].concat()));
}
