//! The digests under the HMAC, by the names that rows hold.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};

/// The digest under the HMAC of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Digest {
    /// SHA-1, called `SHA` in rows.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256, the default, and meant where a row names none.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// MD5.
    Md5,
    /// RIPEMD-160, called `RIPEMD` in rows; only read, since credstash before 1.15 could write it.
    Ripemd160,
    /// Whirlpool; only read, since credstash before 1.15 could write it.
    Whirlpool,
}

/// Evaluates `$body` with `$mac` as the HMAC type of `$digest`.
macro_rules! with_mac {
    ($digest:expr, $mac:ident => $body:expr) => {
        match $digest {
            Digest::Sha1 => {
                type $mac = Hmac<sha1::Sha1>;
                $body
            }
            Digest::Sha224 => {
                type $mac = Hmac<sha2::Sha224>;
                $body
            }
            Digest::Sha256 => {
                type $mac = Hmac<sha2::Sha256>;
                $body
            }
            Digest::Sha384 => {
                type $mac = Hmac<sha2::Sha384>;
                $body
            }
            Digest::Sha512 => {
                type $mac = Hmac<sha2::Sha512>;
                $body
            }
            Digest::Md5 => {
                type $mac = Hmac<md5::Md5>;
                $body
            }
            Digest::Ripemd160 => {
                type $mac = Hmac<ripemd::Ripemd160>;
                $body
            }
            Digest::Whirlpool => {
                type $mac = Hmac<whirlpool::Whirlpool>;
                $body
            }
        }
    };
}

impl Digest {
    /// The digests that are written, in the order in which help texts list them.
    pub const WRITABLE: [Self; 6] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512, Self::Md5];

    /// The name that rows and the command line give to the digest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA",
            Self::Sha224 => "SHA224",
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha512 => "SHA512",
            Self::Md5 => "MD5",
            Self::Ripemd160 => "RIPEMD",
            Self::Whirlpool => "WHIRLPOOL",
        }
    }

    /// The digest that a row names; `SHA1` is read as `SHA`, since another port writes it so.
    ///
    /// ```
    /// use credstash::Digest;
    ///
    /// assert_eq!(Digest::from_name("SHA1"), Ok(Digest::Sha1));
    /// assert!(Digest::from_name("sha256").is_err());
    /// ```
    ///
    /// # Errors
    /// When the name, in exactly this spelling, is that of no digest.
    pub fn from_name(name: &str) -> Result<Self, UnknownDigest> {
        match name {
            "SHA1" => Ok(Self::Sha1),
            "RIPEMD" => Ok(Self::Ripemd160),
            "WHIRLPOOL" => Ok(Self::Whirlpool),
            _ => {
                let known = Self::WRITABLE.into_iter().find(|digest| digest.name() == name);
                known.ok_or_else(|| UnknownDigest { name: name.to_owned() })
            }
        }
    }

    /// The length in bytes of the HMAC.
    pub(crate) fn output_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 | Self::Ripemd160 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 | Self::Whirlpool => 64,
        }
    }

    /// `HMAC-digest(key, data)`, RFC 2104.
    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        with_mac!(self, M => new_mac::<M>(key).chain_update(data).finalize().into_bytes().to_vec())
    }

    /// Whether `mac` is `HMAC-digest(key, data)`, in a time that does not depend on where they differ.
    pub(super) fn hmac_is(self, key: &[u8], data: &[u8], mac: &[u8]) -> bool {
        with_mac!(self, M => new_mac::<M>(key).chain_update(data).verify_slice(mac).is_ok())
    }
}

/// HMAC takes a key of any length (RFC 2104, section 3), so this cannot fail.
fn new_mac<M: Mac + KeyInit>(key: &[u8]) -> M {
    <M as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length")
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is that of no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown digest '{name}'")]
pub struct UnknownDigest {
    /// The name that was found.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_and_round_trip() {
        for digest in Digest::WRITABLE.into_iter().chain([Digest::Ripemd160, Digest::Whirlpool]) {
            assert_eq!(Digest::from_name(digest.name()), Ok(digest));
            assert_eq!(digest.to_string(), digest.name());
        }
        assert_eq!(Digest::from_name("SHA1"), Ok(Digest::Sha1));
        for unknown in ["", "sha256", "SHA-256", "SHA3"] {
            assert!(Digest::from_name(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn the_stated_lengths_are_those_of_the_codes() {
        for digest in Digest::WRITABLE.into_iter().chain([Digest::Ripemd160, Digest::Whirlpool]) {
            assert_eq!(digest.hmac(b"k", b"d").len(), digest.output_len(), "{digest}");
        }
    }

    // The golden rows hold the digests that are still written; these two come from elsewhere.
    #[test]
    fn the_digests_that_are_only_read_are_the_right_ones() {
        // RFC 2286, section 2, test case 1.
        assert_eq!(
            hex::encode(Digest::Ripemd160.hmac(&[0x0b; 20], b"Hi There")),
            "24cb4bd67d20fc1a5d2ed7732dcc39377f0a5668"
        );
        // openssl dgst -provider legacy -provider default -whirlpool -hmac key
        assert_eq!(
            hex::encode(Digest::Whirlpool.hmac(b"key", b"The quick brown fox jumps over the lazy dog")),
            WHIRLPOOL_OF_THE_FOX
        );
    }

    const WHIRLPOOL_OF_THE_FOX: &str = "7f7192e3a155cb6a8171584ba146882f26821658112dfd2601272db013517a31e573637d146584596f86a884eb0decc9514dde000ecf2476dc5d436a92197527";
}
