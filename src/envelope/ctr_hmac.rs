//! The credstash format.
//!
//! With a data key `K` of 64 bytes, of which the first half is `E` and the second half `A`:
//!
//! ```text
//! contents = AES-256-CTR[E](secret), the counter block being a 128-bit big-endian number that starts at 1
//! mac      = HMAC-digest[A](contents)
//! ```
//!
//! The counter starts at the same block for every secret. That is safe only because no key seals two secrets.
//! The mac covers the contents and nothing else: neither name nor version nor context. Source: the behaviour of
//! credstash 1.17.1; NIST SP 800-38A section 6.5 for the counter mode, RFC 2104 for the HMAC.

use aes::cipher::{BlockCipherEncrypt, BlockSizeUser, KeyInit, KeyIvInit, StreamCipher, consts::U16};
use aes::{Aes128, Aes192, Aes256};
use ctr::Ctr128BE;

use super::{Digest, EnvelopeError};
use crate::secret::{DataKey, Secret};

/// The length in bytes of a data key that seals: 32 for AES-256, 32 for the HMAC.
pub(super) const KEY_LEN: usize = 64;

/// The first counter block.
const FIRST_BLOCK: [u8; 16] = 1_u128.to_be_bytes();

/// Gives the contents and the mac of `secret`.
pub(super) fn seal(digest: Digest, key: &DataKey, secret: &Secret) -> Result<(Vec<u8>, Vec<u8>), EnvelopeError> {
    if !Digest::WRITABLE.contains(&digest) {
        return Err(EnvelopeError::ReadOnlyDigest { digest });
    }
    let bytes = key.expose().len();
    if bytes != KEY_LEN {
        return Err(EnvelopeError::KeyLength { bytes });
    }
    let (encryption, authentication) = key.expose().split_at(KEY_LEN / 2);
    let mut contents = secret.expose().to_vec();
    apply_keystream(encryption, &mut contents)?;
    let mac = digest.hmac(authentication, &contents);
    Ok((contents, mac))
}

/// Verifies `mac`, then decrypts `contents`. A key is cut at half its length, whatever that is, as the original does.
pub(super) fn open(digest: Digest, key: &DataKey, contents: &[u8], mac: &[u8]) -> Result<Secret, EnvelopeError> {
    let (encryption, authentication) = key.expose().split_at(key.expose().len() / 2);
    if !digest.hmac_is(authentication, contents, mac) {
        return Err(EnvelopeError::Integrity { digest });
    }
    let mut secret = contents.to_vec();
    apply_keystream(encryption, &mut secret)?;
    Ok(Secret::new(secret))
}

/// Counter mode is its own inverse: encrypts plaintext and decrypts ciphertext, in place.
fn apply_keystream(key: &[u8], data: &mut [u8]) -> Result<(), EnvelopeError> {
    match key.len() {
        16 => apply::<Aes128>(key, data),
        24 => apply::<Aes192>(key, data),
        32 => apply::<Aes256>(key, data),
        half => return Err(EnvelopeError::KeyLength { bytes: 2 * half }),
    }
    Ok(())
}

fn apply<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16> + KeyInit>(key: &[u8], data: &mut [u8]) {
    let mut cipher =
        Ctr128BE::<C>::new_from_slices(key, &FIRST_BLOCK).expect("the caller chose the cipher by the key's length");
    cipher.apply_keystream(data);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn opening_undoes_sealing(
            key in prop::collection::vec(any::<u8>(), KEY_LEN),
            secret in prop::collection::vec(any::<u8>(), 0..5000),
            digest in prop::sample::select(Digest::WRITABLE.to_vec()),
        ) {
            let key = DataKey::new(key);
            let (contents, mac) = seal(digest, &key, &Secret::new(secret.clone())).expect("sealed");
            let opened = open(digest, &key, &contents, &mac).expect("opened");
            prop_assert_eq!(opened.expose(), &secret);
        }

        #[test]
        fn every_flipped_bit_is_refused(secret in prop::collection::vec(any::<u8>(), 1..40), at in any::<prop::sample::Index>()) {
            let key: Vec<u8> = (0..64).collect();
            let (contents, mac) = seal(Digest::Sha256, &DataKey::new(key.clone()), &Secret::new(secret)).expect("sealed");
            let flip = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                let bit = at.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            };
            let refused = Err(EnvelopeError::Integrity { digest: Digest::Sha256 });
            let open = |key: Vec<u8>, contents: &[u8], mac: &[u8]| {
                super::open(Digest::Sha256, &DataKey::new(key), contents, mac).map(|_| ())
            };
            prop_assert_eq!(open(key.clone(), &flip(&contents), &mac), refused);
            prop_assert_eq!(open(key.clone(), &contents, &flip(&mac)), refused);
            let mut other_key = key.clone();
            other_key[32..].copy_from_slice(&flip(&key[32..]));
            prop_assert_eq!(open(other_key, &contents, &mac), refused);
        }
    }

    #[test]
    fn a_shortened_or_lengthened_mac_is_refused() {
        let key = DataKey::new((0..64).collect());
        let (contents, mac) = seal(Digest::Sha256, &key, &Secret::from("hello")).expect("sealed");
        let longer = [mac.as_slice(), &[0]].concat();
        for wrong in [&[] as &[u8], &mac[..31], &longer] {
            assert!(open(Digest::Sha256, &key, &contents, wrong).is_err());
        }
    }

    /// What another implementation makes of the head of this file: `openssl enc -aes-256-ctr` with the first block as
    /// the initialization vector, then `openssl dgst -sha256` with the second half of the key.
    const SEALED: &str = "917d05cb29cbfa91869af45f2fa7441d7ad4d4b09543edd828cac55a7b47";
    const MAC: &str = "505556f447342c246e8f67d7b7556cb5a27ccef289e65ada6af8f507eda0b275";

    const SECRET: &str = "a secret longer than one block";

    #[test]
    fn the_format_is_as_documented() {
        let key = DataKey::new((0..64).collect());
        let (contents, mac) = seal(Digest::Sha256, &key, &Secret::from(SECRET)).expect("sealed");
        assert_eq!((hex::encode(contents).as_str(), hex::encode(mac).as_str()), (SEALED, MAC));
    }

    #[test]
    fn shorter_keys_select_shorter_ciphers_when_opening() {
        // As above, with -aes-128-ctr, -aes-192-ctr and -aes-256-ctr.
        for (bytes, contents) in [
            (32, "126660f0f6b2d16a6917d28d02915f2a3dbee63db9f4c8e9c3eb160703ea"),
            (48, "286e4b3f284dcac3338683c66f071537af6b73e597224a49a3202e4994a1"),
            (64, SEALED),
        ] {
            let key: Vec<u8> = (0..bytes).collect();
            let contents = hex::decode(contents).expect("hexadecimal");
            let mac = Digest::Sha256.hmac(&key[key.len() / 2..], &contents);
            let opened = open(Digest::Sha256, &DataKey::new(key), &contents, &mac).expect("opened");
            assert_eq!(opened.expose(), SECRET.as_bytes());
        }
        let mac = Digest::Sha256.hmac(&[0; 5], b"");
        let refused = open(Digest::Sha256, &DataKey::new(vec![0; 10]), b"", &mac).map(|_| ());
        assert_eq!(refused, Err(EnvelopeError::KeyLength { bytes: 10 }));
    }

    #[test]
    fn only_whole_keys_and_current_digests_seal() {
        let secret = Secret::from("x");
        let key = DataKey::new(vec![7; 63]);
        assert_eq!(seal(Digest::Sha256, &key, &secret), Err(EnvelopeError::KeyLength { bytes: 63 }));
        let key = DataKey::new(vec![7; 64]);
        let digest = Digest::Whirlpool;
        assert_eq!(seal(digest, &key, &secret), Err(EnvelopeError::ReadOnlyDigest { digest }));
    }
}
