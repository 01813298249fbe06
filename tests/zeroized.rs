//! What this process gives back to the allocator holds neither a secret nor a key.
//!
//! An allocator keeps a copy of every block that is given back, as it is at that moment; each test then looks for its
//! own bytes among all of them. So it finds what nobody thought of: the old place of a buffer that grew, a copy inside
//! a cipher, a future that was dropped. Copies on the stack and in registers it does not see.
//!
//! Rust may not read the bytes of a block that were never written. The kernel may, and reads them for us.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "an allocator cannot be written without it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::sync::{Mutex, OnceLock};

use credstash::{
    Context, DataKey, Digest, Draft, EnvelopeError, KeyError, KeyService as _, LocalKey, Memory, Name, Pattern, Sealed,
    Secret, Select, Suite, Vault, WrappedKey, open, seal,
};

// --- the allocator --------------------------------------------------------------------------------------------------

#[global_allocator]
static ALLOCATOR: Keeping = Keeping;

/// The system's allocator, which first keeps what is given back. A block that grows moves to a new one each time, which
/// is what `GlobalAlloc::realloc` does unless told otherwise.
struct Keeping;

// SAFETY: it is the system's allocator, for every block of every layout.
unsafe impl GlobalAlloc for Keeping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        keep(block as u64, layout.size());
        // SAFETY: as above, and the block is from `System.alloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// How much is kept of all that is given back.
const ROOM: usize = 64 << 20;

/// The blocks that were given back, one after the other, and how many bytes they have together.
static KEPT: Mutex<([u8; ROOM], usize)> = Mutex::new(([0; ROOM], 0));

/// The memory of this process; blocks are kept from when it is open.
static MEMORY: OnceLock<File> = OnceLock::new();

/// Keeps a block. Nothing here allocates.
fn keep(address: u64, len: usize) {
    let Some(memory) = MEMORY.get() else { return };
    let Ok(mut kept) = KEPT.lock() else { return };
    let (blocks, end) = &mut *kept;
    // What finds no room is missed, which `was_given_back` sees: there is none left.
    let Some(room) = blocks.get_mut(*end..*end + len) else { return *end = ROOM };
    match memory.read_exact_at(room, address) {
        Ok(()) => *end += len,
        Err(_) => *end = ROOM,
    }
}

/// From here on every block is kept.
fn watch() {
    MEMORY.get_or_init(|| File::open("/proc/self/mem").expect("a process may read its own memory"));
}

/// Whether 16 bytes of `bytes`, from any multiple of 8 on, are in a block that was given back.
fn was_given_back(bytes: &[u8]) -> bool {
    assert!(bytes.len() >= 16, "too short to be told from chance");
    // While they are locked nothing may be given back.
    let (missed, found) = {
        let kept = KEPT.lock().expect("no panic while it is locked");
        let (blocks, end) = &*kept;
        let mut parts = bytes.windows(16).step_by(8);
        (*end == ROOM, parts.any(|part| position(&blocks[..*end], part).is_some()))
    };
    assert!(!missed, "more was given back than there is room for");
    found
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| *byte == wanted[0]) {
        if text[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Random bytes that this process has nowhere else but where the test puts them.
fn marker<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("random bytes");
    bytes
}

// --- what would be found --------------------------------------------------------------------------------------------

#[test]
fn a_plain_buffer_would_be_found() {
    watch();
    let (dropped, grown, future) = (marker::<32>(), marker::<32>(), marker::<32>());
    drop(dropped.to_vec());
    assert!(was_given_back(&dropped));

    let mut buffer = grown.to_vec();
    buffer.reserve_exact(1000);
    buffer.fill(0);
    drop(buffer);
    assert!(was_given_back(&grown), "its old place");

    let waits = Box::pin(async move {
        std::future::pending::<()>().await;
        future.len()
    });
    drop(waits);
    assert!(was_given_back(&future));
    assert!(!was_given_back(&marker::<32>()), "what was never there");
}

// --- secrets and data keys ------------------------------------------------------------------------------------------

#[test]
fn secrets_and_data_keys_are_wiped() {
    watch();
    let (bytes, key) = (marker::<100>(), marker::<64>());
    let text = hex::encode(marker::<32>());
    let secret = Secret::new(bytes.to_vec());
    let copy = secret.clone();
    let from_text = Secret::from(text.as_str());
    drop((secret, copy, from_text, DataKey::new(key.to_vec())));
    // A buffer with more room than bytes: what lies behind the bytes is wiped too.
    let mut roomy = bytes.repeat(2);
    roomy.truncate(1);
    drop(Secret::new(roomy));
    for gone in [&bytes[..], &key, text.as_bytes()] {
        assert!(!was_given_back(gone));
    }
}

#[test]
fn sealing_and_opening_leave_nothing_behind() {
    watch();
    let (bytes, key_bytes) = (marker::<5000>(), marker::<64>());
    let key = DataKey::new(key_bytes.to_vec());
    let secret = Secret::new(bytes.to_vec());
    for digest in Digest::WRITABLE {
        let sealed = seal(Suite::CtrHmac(digest), &key, WrappedKey::new(vec![1]), &secret).expect("sealed");
        assert_eq!(open(&sealed, &key).expect("opened").expose(), bytes);
        let damaged = Sealed { mac: vec![0; sealed.mac.len()], ..sealed };
        assert_eq!(open(&damaged, &key).map(|_| ()), Err(EnvelopeError::Integrity { digest }));
    }
    let short = DataKey::new(key_bytes[..63].to_vec());
    seal(Suite::CtrHmac(Digest::Sha256), &short, WrappedKey::new(vec![1]), &secret).expect_err("too short");
    drop((secret, key, short));
    assert!(!was_given_back(&bytes[..64]) && !was_given_back(&bytes[4936..]), "the secret");
    assert!(!was_given_back(&key_bytes), "the key");
}

// --- the local key and the vault ------------------------------------------------------------------------------------

/// A key file with these bytes in it, in a folder that is deleted with the first of the two.
fn key_file(key: &[u8; 32]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("key");
    fs::write(&path, key).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
    (folder, path)
}

fn context(value: &str) -> Context {
    [("env".to_owned(), value.to_owned())].into_iter().collect()
}

#[tokio::test]
async fn wrapping_and_unwrapping_leave_nothing_behind() {
    watch();
    let master_bytes = marker::<32>();
    let (_folder, path) = key_file(&master_bytes);
    let master = Box::new(LocalKey::read(&path).expect("read"));
    let (key, wrapped) = master.generate(64, &context("prod")).await.expect("generated");
    let key_bytes: [u8; 64] = key.expose().try_into().expect("64 bytes");
    let unwrapped = master.unwrap_key(&wrapped, &context("prod")).await.expect("unwrapped");
    assert_eq!(unwrapped.expose(), key_bytes);
    let refused = master.unwrap_key(&wrapped, &context("dev")).await.map(|_| ());
    assert_eq!(refused, Err(KeyError::Mismatch { service: "local key" }));
    drop((key, unwrapped, master));
    assert!(!was_given_back(&key_bytes), "the data key");
    assert!(!was_given_back(&master_bytes), "the master key");

    let made = path.with_file_name("made");
    drop(LocalKey::read_or_create(&made).expect("made"));
    let made: [u8; 32] = {
        let mut bytes = [0; 32];
        File::open(&made).and_then(|file| file.read_exact_at(&mut bytes, 0)).expect("read");
        bytes
    };
    assert!(!was_given_back(&made), "a master key that was made");
}

#[tokio::test]
async fn a_vault_leaves_nothing_behind() {
    watch();
    let (master_bytes, first, second) = (marker::<32>(), marker::<3000>(), marker::<3000>());
    let (_folder, path) = key_file(&master_bytes);
    let vault = Vault::new(Memory::new(), LocalKey::read(&path).expect("read"));
    let name = Name::new("name").expect("a valid name");
    let draft = |bytes: Vec<u8>| Draft::next(name.clone(), Secret::new(bytes));
    vault.put(draft(first.to_vec())).await.expect("stored");
    vault.put(draft(second.to_vec())).await.expect("stored");
    vault.put(draft(first.repeat(200))).await.expect_err("too large");
    let read = vault.get(&name, &Select::Latest, &Context::new()).await.expect("read");
    assert_eq!(read.expose(), second);
    vault.get(&name, &Select::Latest, &context("prod")).await.expect_err("another context");
    let all = vault.get_all(Some(&Pattern::new("*")), &Select::Latest, &Context::new(), &|_| ()).await.expect("read");
    assert_eq!(all.secrets[&name].expose(), second);
    drop((read, all, vault));
    for gone in [&master_bytes[..], &first[..64], &first[2936..], &second[..64], &second[2936..]] {
        assert!(!was_given_back(gone));
    }
}
