//! Sealing and opening: pure functions between a secret and its sealed form. No I/O, no clock, nothing async.
//!
//! `open(seal(secret)) = secret`, and any changed bit is refused before anything is decrypted.

mod ctr_hmac;
mod digest;

pub use digest::{Digest, UnknownDigest};

use crate::secret::{DataKey, Secret, WrappedKey};

/// A sealed secret beside the wrapped data key that opens it. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The data key, wrapped by a key service.
    pub wrapped_key: WrappedKey,
    /// How the secret was sealed.
    pub suite: Suite,
    /// The ciphertext, as long as the secret.
    pub contents: Vec<u8>,
    /// The authentication code over the ciphertext.
    pub mac: Vec<u8>,
    /// Whether the context of the data key holds the name and the version of the row. The seal knows neither; this only
    /// says what to unwrap the key with.
    pub bound: bool,
}

/// How a secret is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Suite {
    /// The credstash format: AES in counter mode, then an HMAC with this digest over the ciphertext.
    CtrHmac(Digest),
}

impl Suite {
    /// The length in bytes of the data key that [`seal`] needs.
    #[must_use]
    pub fn key_len(self) -> usize {
        match self {
            Self::CtrHmac(_) => ctr_hmac::KEY_LEN,
        }
    }

    /// The length in bytes of the authentication code.
    #[must_use]
    pub fn mac_len(self) -> usize {
        match self {
            Self::CtrHmac(digest) => digest.output_len(),
        }
    }
}

/// Seals `secret` under `key`, which must be used for nothing else, ever.
///
/// ```
/// use credstash::{DataKey, Digest, Secret, Suite, WrappedKey, open, seal};
///
/// let key = DataKey::new((0..64).collect());
/// let sealed = seal(Suite::CtrHmac(Digest::Sha256), &key, WrappedKey::new(vec![1]), &Secret::from("hunter2"))?;
/// assert_eq!(open(&sealed, &key)?.expose(), b"hunter2");
/// # Ok::<(), credstash::EnvelopeError>(())
/// ```
///
/// # Errors
/// [`EnvelopeError::ReadOnlyDigest`] for a digest that is only read, [`EnvelopeError::KeyLength`] for a key that is
/// not of [`Suite::key_len`].
pub fn seal(suite: Suite, key: &DataKey, wrapped_key: WrappedKey, secret: &Secret) -> Result<Sealed, EnvelopeError> {
    match suite {
        Suite::CtrHmac(digest) => {
            let (contents, mac) = ctr_hmac::seal(digest, key, secret)?;
            Ok(Sealed { wrapped_key, suite, contents, mac, bound: false })
        }
    }
}

/// Verifies `sealed`, in constant time, and only then decrypts it.
///
/// # Errors
/// [`EnvelopeError::Integrity`] when the code does not match: a changed row, or another key.
/// [`EnvelopeError::KeyLength`] for a key that no AES takes.
pub fn open(sealed: &Sealed, key: &DataKey) -> Result<Secret, EnvelopeError> {
    match sealed.suite {
        Suite::CtrHmac(digest) => ctr_hmac::open(digest, key, &sealed.contents, &sealed.mac),
    }
}

/// Why a secret could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The stored authentication code is not the one of this ciphertext under this key.
    #[error("the stored HMAC ({digest}) is not that of the contents")]
    Integrity {
        /// The digest of the HMAC.
        digest: Digest,
    },
    /// The data key has a length that the suite cannot use.
    #[error("a data key of {bytes} bytes cannot be used")]
    KeyLength {
        /// The length of the refused key, in bytes.
        bytes: usize,
    },
    /// The digest is one that is read for the sake of old rows, and no longer written.
    #[error("{digest} is only read, no longer written")]
    ReadOnlyDigest {
        /// The refused digest.
        digest: Digest,
    },
}
