//! Cases: the bytes from which a property takes what it needs, and those that are kept to be replayed.
#![allow(dead_code, unreachable_pub, reason = "each of the crates that share this file uses a part of it")]

use std::path::Path;

/// What is left of a case. Where nothing is left, it goes on with zeros and empty texts.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// The whole of a case.
    pub fn new(case: &'a [u8]) -> Self {
        Self(case)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// A number less than `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % limit
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// Up to 255 bytes, after their number.
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte());
        self.take(len)
    }

    /// Up to 255 bytes as text; what is not UTF-8 becomes U+FFFD.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, left) = self.0.split_at(len.min(self.0.len()));
        self.0 = left;
        taken
    }
}

/// Runs `check` on the kept cases of a target.
#[allow(clippy::print_stdout, reason = "a test's output is seen when it fails, and then names the case")]
pub fn replay(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut replayed = 0;
    for file in files {
        let path = file.expect("a file").path();
        println!("{}", path.display());
        check(&std::fs::read(path).expect("read"));
        replayed += 1;
    }
    assert!(replayed > 0, "there are cases in {}", folder.display());
}
