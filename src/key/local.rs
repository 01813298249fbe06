//! The local key: 32 random bytes, in a file that only its owner may read, under which data keys are wrapped with
//! AES-256-GCM. No cloud, no network.
//!
//! A wrapped data key is, byte for byte:
//!
//! ```text
//! wrapped    = header || nonce || AES-256-GCM[key, nonce](data key; associated data = header || context)
//! header     = 01 || key id                 the version of this format, then 8 bytes that name the key
//! key id     = first 8 bytes of SHA-256("credstash local key id" || key)
//! nonce      = 12 random bytes
//! context    = count || pair || pair ..     count as 32-bit big-endian; pairs sorted by the bytes of their keys
//! pair       = len(key) || key || len(value) || value        lengths in bytes of UTF-8, as 32-bit big-endian
//! ```
//!
//! The tag of AES-GCM, 16 bytes, ends its ciphertext (NIST SP 800-38D). Random nonces of 96 bits are safe for 2^32
//! data keys under one key (section 8.3 there).

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{KeyError, KeyService};
use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::files::{flush_name, make_folder_of, new_private_file};
use crate::secret::{DataKey, WrappedKey};

const SERVICE: &str = "local key";
const FORMAT: u8 = 1;
const KEY_LEN: usize = 32;
const KEY_ID_LEN: usize = 8;
const HEADER_LEN: usize = 1 + KEY_ID_LEN;
const NONCE_LEN: usize = 12;

/// A master key on this machine.
pub struct LocalKey {
    cipher: Aes256Gcm,
    id: [u8; KEY_ID_LEN],
    origin: String,
}

impl std::fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalKey").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl LocalKey {
    /// A new random key that is kept nowhere, for tests and examples.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn random() -> Result<Self, Failure> {
        Ok(Self::from_bytes(&*random_key()?, "in memory".to_owned()))
    }

    /// The key in the file at `path`.
    ///
    /// # Errors
    /// When there is no such file, when it holds anything but 32 bytes, or when others than its owner may read it.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let failed =
            |reason: String| Failure::new(FailureKind::Io, format!("the key file {}: {reason}", path.display()));
        let not_a_key = || failed(format!("it does not hold a key, which is {KEY_LEN} bytes"));
        // Asked before it is opened: to open a pipe is to wait for its other end.
        if !fs::metadata(path).map_err(|error| failed(error.to_string()))?.is_file() {
            return Err(not_a_key());
        }
        let mut file = File::open(path).map_err(|error| failed(error.to_string()))?;
        let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(failed(format!("others may use it (mode {mode:04o}); run: chmod 600 {}", path.display())));
        }
        if metadata.len() != KEY_LEN as u64 {
            return Err(not_a_key());
        }
        let mut key = Zeroizing::new([0; KEY_LEN]);
        file.read_exact(&mut *key).map_err(|error| failed(error.to_string()))?;
        Ok(Self::from_bytes(&key, format!("in {}", path.display())))
    }

    /// The key in the file at `path`, which is made, with mode 0600, if it is not there. Of several processes that
    /// do this at once one makes the file, and the others read it.
    ///
    /// # Errors
    /// As [`LocalKey::read`], and when the file cannot be made.
    pub fn read_or_create(path: &Path) -> Result<Self, Failure> {
        if !path.try_exists().is_ok_and(|exists| exists) {
            create(path, &*random_key()?).map_err(|error| {
                Failure::new(FailureKind::Io, format!("the key file {} cannot be made: {error}", path.display()))
            })?;
        }
        // Whoever made it: no row may be stored under a key that a loss of power can take away.
        flush_name(path);
        Self::read(path)
    }

    fn from_bytes(key: &[u8; KEY_LEN], origin: String) -> Self {
        let digest = Sha256::new().chain_update("credstash local key id").chain_update(key).finalize();
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&digest[..KEY_ID_LEN]);
        Self { cipher: Aes256Gcm::new(key.into()), id, origin }
    }

    fn header(&self) -> [u8; HEADER_LEN] {
        let mut header = [FORMAT; HEADER_LEN];
        header[1..].copy_from_slice(&self.id);
        header
    }

    fn not_generated(&self, reason: impl ToString) -> KeyError {
        let failure = Failure::new(FailureKind::Io, reason.to_string());
        KeyError::Generate { service: SERVICE, key: self.origin.clone(), failure }
    }

    /// Refuses what another key, or no local key at all, has wrapped: a wrong key file is not a wrong context.
    fn check_header(&self, header: &[u8]) -> Result<(), KeyError> {
        let reason = match header {
            [FORMAT, id @ ..] if *id == self.id => return Ok(()),
            [FORMAT, id @ ..] => format!(
                "the credential was sealed under the local key {}, and the key {} is {}",
                hex::encode(id),
                self.origin,
                hex::encode(self.id)
            ),
            _ => "the credential was not sealed under a local key".to_owned(),
        };
        Err(KeyError::Unwrap { service: SERVICE, failure: Failure::new(FailureKind::KeyUnusable, reason) })
    }
}

#[async_trait]
impl KeyService for LocalKey {
    async fn generate(&self, len: usize, context: &Context) -> Result<(DataKey, WrappedKey), KeyError> {
        let mut data_key = Zeroizing::new(vec![0; len]);
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut data_key).map_err(|error| self.not_generated(error))?;
        getrandom::fill(&mut nonce).map_err(|error| self.not_generated(error))?;
        let header = self.header();
        let payload = Payload { msg: &data_key, aad: &associated_data(&header, context) };
        let ciphertext =
            self.cipher.encrypt(&Nonce::from(nonce), payload).map_err(|error| self.not_generated(error))?;
        let wrapped = [header.as_slice(), &nonce, &ciphertext].concat();
        Ok((DataKey::new(std::mem::take(&mut data_key)), WrappedKey::new(wrapped)))
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, KeyError> {
        let mismatch = KeyError::Mismatch { service: SERVICE };
        let Some((header, rest)) = wrapped.as_bytes().split_at_checked(HEADER_LEN) else { return Err(mismatch) };
        self.check_header(header)?;
        let Some((nonce, ciphertext)) = rest.split_first_chunk::<NONCE_LEN>() else { return Err(mismatch) };
        let payload = Payload { msg: ciphertext, aad: &associated_data(header, context) };
        let data_key = self.cipher.decrypt(&Nonce::from(*nonce), payload).map_err(|_| mismatch)?;
        Ok(DataKey::new(data_key))
    }
}

/// `header || context`, as the head of this file writes them out.
fn associated_data(header: &[u8], context: &Context) -> Vec<u8> {
    let mut data = header.to_vec();
    let pairs = context.pairs();
    data.extend(length(pairs.len()));
    for text in pairs.flat_map(|(key, value)| [key, value]) {
        data.extend(length(text.len()));
        data.extend(text.as_bytes());
    }
    data
}

/// A length that does not fit is impossible: no context of 4 GiB passes through a command line or a KMS.
fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("less than 4 GiB").to_be_bytes()
}

fn random_key() -> Result<Zeroizing<[u8; KEY_LEN]>, Failure> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    getrandom::fill(&mut *key).map_err(|error| Failure::new(FailureKind::Io, error.to_string()))?;
    Ok(key)
}

/// Writes the key beside `path`, then gives the file its name in one step, unless another process was first.
fn create(path: &Path, key: &[u8]) -> io::Result<()> {
    make_folder_of(path)?;
    let draft = draft_path(path)?;
    let written = write_new(&draft, key).and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => removed,
        // Where nothing could be written there is nothing to remove either; the first of the two errors says why.
        written => written.and(removed),
    }
}

fn write_new(path: &Path, key: &[u8]) -> io::Result<()> {
    let mut file = new_private_file().open(path)?;
    file.write_all(key)?;
    file.sync_all()
}

fn draft_path(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{:016x}", getrandom::u64().map_err(io::Error::other)?));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(pairs: &[(&str, &str)]) -> Context {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_associated_data_is_as_documented() {
        let data = associated_data(&[1, 2], &context(&[("k", "vé"), ("a", "")]));
        assert_eq!(data, b"\x01\x02\0\0\0\x02\0\0\0\x01a\0\0\0\0\0\0\0\x01k\0\0\0\x03v\xc3\xa9");
    }

    /// The numbers are of another implementation of what the head of this file says, by OpenSSL.
    #[tokio::test]
    async fn the_wrapped_key_is_as_documented() {
        let bytes: Vec<u8> = (0..32).collect();
        let master = LocalKey::from_bytes(bytes.as_slice().try_into().expect("32 bytes"), "in a test".to_owned());
        let wrapped = "01dbc571ba3d6506ae000102030405060708090a0b4005d11cc2e2c51c90e4f1d38f4efec2210b25bb57892040";
        let wrapped = WrappedKey::new(hex::decode(wrapped).expect("hexadecimal"));
        let opened = master.unwrap_key(&wrapped, &context(&[("env", "prod")])).await.expect("opened");
        assert_eq!(opened.expose(), [7; 8]);
    }

    #[tokio::test]
    async fn a_key_opens_only_with_its_context_and_its_master_key() {
        let master = LocalKey::random().expect("random bytes");
        let bound = context(&[("env", "prod")]);
        let (key, wrapped) = master.generate(64, &bound).await.expect("generated");
        assert_eq!(wrapped.as_bytes().len(), HEADER_LEN + NONCE_LEN + 64 + 16);

        let opened = master.unwrap_key(&wrapped, &bound).await.expect("opened");
        assert_eq!(opened.expose(), key.expose());
        assert_eq!(format!("{master:?}"), r#"LocalKey { origin: "in memory", .. }"#);

        for wrong in [context(&[]), context(&[("env", "dev")]), context(&[("env", "prod"), ("x", "y")])] {
            let refused = master.unwrap_key(&wrapped, &wrong).await.map(|_| ());
            assert_eq!(refused, Err(KeyError::Mismatch { service: SERVICE }));
        }
        let other = LocalKey::random().expect("random bytes");
        let refused = other.unwrap_key(&wrapped, &bound).await.expect_err("another key");
        assert!(refused.to_string().contains("sealed under the local key"), "{refused}");
    }

    #[tokio::test]
    async fn no_key_and_no_nonce_is_used_twice() {
        let master = LocalKey::random().expect("random bytes");
        let (one, wrapped) = master.generate(64, &Context::new()).await.expect("generated");
        let (other, wrapped_other) = master.generate(64, &Context::new()).await.expect("generated");
        assert_ne!(one.expose(), other.expose());
        let nonce = HEADER_LEN..HEADER_LEN + NONCE_LEN;
        assert_ne!(wrapped.as_bytes()[nonce.clone()], wrapped_other.as_bytes()[nonce]);
    }

    #[tokio::test]
    async fn every_flipped_bit_of_a_wrapped_key_is_refused() {
        let master = LocalKey::random().expect("random bytes");
        let (_, wrapped) = master.generate(64, &Context::new()).await.expect("generated");
        for bit in 0..wrapped.as_bytes().len() * 8 {
            let mut bytes = wrapped.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(master.unwrap_key(&WrappedKey::new(bytes), &Context::new()).await.is_err(), "bit {bit}");
        }
        for len in 0..wrapped.as_bytes().len() {
            let short = WrappedKey::new(wrapped.as_bytes()[..len].to_vec());
            assert!(master.unwrap_key(&short, &Context::new()).await.is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_key_file_is_private_and_whole() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("key");
        let first = LocalKey::read_or_create(&path).expect("made");
        let again = LocalKey::read_or_create(&path).expect("read");
        assert_eq!(first.id, again.id);
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "no draft is left behind");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
        let refused = LocalKey::read(&path).expect_err("others may read it").to_string();
        assert!(refused.contains("chmod 600"), "{refused}");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
        for len in [0, KEY_LEN - 1, KEY_LEN + 1] {
            fs::write(&path, vec![7; len]).expect("written");
            let refused = LocalKey::read(&path).expect_err("not a key").to_string();
            assert!(refused.contains("does not hold a key"), "{len} bytes: {refused}");
        }
        assert!(LocalKey::read(&folder.path().join("none")).is_err());
    }

    /// Nobody makes a file there, not even root.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_key_file_that_cannot_be_made_says_why() {
        let error = create(Path::new("/sys/key"), &[1; KEY_LEN]).expect_err("no folder for files");
        assert_ne!(error.kind(), io::ErrorKind::NotFound, "{error}");
    }

    #[test]
    fn whoever_is_second_to_make_a_key_file_leaves_the_first_one_as_it_is() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("key");
        create(&path, &[1; KEY_LEN]).expect("made");
        create(&path, &[2; KEY_LEN]).expect("it is there");
        assert_eq!(fs::read(&path).expect("there"), [1; KEY_LEN]);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "no draft is left behind");
    }
}
