//! The local key: a file holds a whole key or is refused, and a wrapped key opens as it was made or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use credstash::{Context, KeyError, KeyService as _, LocalKey, WrappedKey};
use futures_util::FutureExt as _;
use tempfile::TempDir;

use super::cases::Input;

const KEY_LEN: usize = 32;

/// Takes the mode of the file, a place to change, two contexts, bytes that nobody wrapped, and what the file holds.
pub fn check(case: &[u8]) {
    thread_local! {
        static FOLDER: TempDir = tempfile::tempdir().expect("a temporary folder");
    }
    let mut input = Input::new(case);
    let mode = input.one_of(&[0o600, 0o600, 0o600, 0o400, 0o640, 0o604, 0o777]);
    let place = input.below(usize::MAX);
    let (context, other_context) = (context(&mut input), context(&mut input));
    let (foreign, content) = (input.bytes(), input.rest());

    let path = FOLDER.with(|folder| folder.path().join("key"));
    let _ = fs::remove_file(&path);
    fs::write(&path, content).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
    let master = match LocalKey::read(&path) {
        Ok(master) => master,
        Err(failure) => {
            assert!(content.len() != KEY_LEN || mode & 0o077 != 0, "{failure}");
            return assert!(failure.to_string().contains(path.to_str().expect("UTF-8")), "{failure}");
        }
    };
    assert!(content.len() == KEY_LEN && mode & 0o077 == 0);
    assert!(!format!("{master:?}").contains(&format!("{content:?}")));

    let unwrap = |master: &LocalKey, wrapped: &[u8], context: &Context| {
        let wrapped = WrappedKey::new(wrapped.to_vec());
        master.unwrap_key(&wrapped, context).now_or_never().expect("it waits for nothing")
    };
    assert!(unwrap(&master, foreign, &context).is_err(), "nobody wrapped it");

    let len = 1 + place % 64;
    let generated = master.generate(len, &context).now_or_never().expect("it waits for nothing");
    let (key, wrapped) = generated.expect("random bytes");
    let wrapped = wrapped.as_bytes();
    let again = LocalKey::read(&path).expect("as before");
    for master in [&master, &again] {
        let unwrapped = unwrap(master, wrapped, &context).expect("as it was wrapped");
        assert_eq!(unwrapped.expose(), key.expose());
    }

    assert!(unwrap(&master, &flipped(wrapped, place), &context).is_err(), "bit {place}");
    assert!(unwrap(&master, &wrapped[..place % wrapped.len()], &context).is_err(), "{place} bytes");
    assert!(unwrap(&master, &[wrapped, &[0]].concat(), &context).is_err(), "one byte more");
    if other_context != context {
        let refused = unwrap(&master, wrapped, &other_context).map(|_| ());
        assert!(matches!(refused, Err(KeyError::Mismatch { .. })), "{refused:?}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
    fs::write(&path, flipped(content, place)).expect("written");
    let other = LocalKey::read(&path).expect("another key");
    assert!(unwrap(&other, wrapped, &context).is_err(), "another key");
}

fn context(input: &mut Input<'_>) -> Context {
    let pairs = input.below(4);
    (0..pairs).map(|_| (input.text(), input.text())).collect()
}

fn flipped(bytes: &[u8], place: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let bit = place % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}
