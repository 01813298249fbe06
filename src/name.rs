//! The names of credentials, and patterns that select them.

use std::fmt;

/// The name of a credential: 1 to [`Name::MAX_BYTES`] bytes of any text.
///
/// Names are compared byte for byte, and sort by code point.
///
/// ```
/// use credstash::Name;
///
/// let name = Name::new("db.password")?;
/// assert_eq!(name.as_str(), "db.password");
/// assert!(Name::new("").is_err());
/// # Ok::<(), credstash::InvalidName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The longest name in bytes of UTF-8: what DynamoDB takes as a partition key.
    pub const MAX_BYTES: usize = 2048;

    /// Takes `text` as a name.
    ///
    /// # Errors
    /// When the text is empty or longer than [`Name::MAX_BYTES`].
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        match text.len() {
            0 => Err(InvalidName::Empty),
            1..=Self::MAX_BYTES => Ok(Self(text)),
            bytes => Err(InvalidName::TooLong { bytes }),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text cannot be the name of a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The text is empty.
    #[error("the name of a credential cannot be empty")]
    Empty,
    /// The text is too long.
    #[error("the name of a credential cannot be longer than {} bytes, this one has {bytes}", Name::MAX_BYTES)]
    TooLong {
        /// The length of the refused text, in bytes.
        bytes: usize,
    },
}

/// Selects names: `*` stands for any run of characters but a line feed, every other character for itself.
///
/// ```
/// use credstash::{Name, Pattern};
///
/// let pattern = Pattern::new("app.*.password");
/// assert!(pattern.matches(&Name::new("app.db.password")?));
/// assert!(!pattern.matches(&Name::new("appXdb.password")?));
/// # Ok::<(), credstash::InvalidName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<char>);

impl Pattern {
    /// The one character with a meaning of its own.
    pub const WILDCARD: char = '*';

    /// Takes `text` as a pattern; without a `*` it matches one name only.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.chars().collect())
    }

    /// Whether `name`, as a whole, matches.
    #[must_use]
    pub fn matches(&self, name: &Name) -> bool {
        let pattern = &self.0;
        let text: Vec<char> = name.as_str().chars().collect();
        let (mut p, mut t) = (0, 0);
        // The last wildcard seen: where the pattern goes on after it, and how far its run reaches.
        let mut wildcard: Option<(usize, usize)> = None;
        loop {
            if p < pattern.len() && pattern[p] == Self::WILDCARD {
                p += 1;
                wildcard = Some((p, t));
            } else if p < pattern.len() && t < text.len() && pattern[p] == text[t] {
                p += 1;
                t += 1;
            } else if p == pattern.len() && t == text.len() {
                return true;
            } else {
                match wildcard {
                    Some((after, run_end)) if run_end < text.len() && text[run_end] != '\n' => {
                        wildcard = Some((after, run_end + 1));
                        p = after;
                        t = run_end + 1;
                    }
                    _ => return false,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).matches(&Name::new(name).expect("a valid name"))
    }

    #[test]
    fn a_star_is_any_run_and_all_else_is_literal() {
        assert!(matches("*", "anything"));
        assert!(matches("a*", "a"));
        assert!(matches("a*d*r", "app.db.user"));
        assert!(matches("*ab", "aab"));
        assert!(matches("a.b*", "a.b"));
        assert!(!matches("a.b*", "axb"));
        assert!(!matches("a|b*", "b"));
        assert!(matches("[x*", "[x]"));
        assert!(matches("é*☃", "é☃☃"));
        assert!(!matches("a*b", "a*"));
        assert!(!matches("app", "apps"));
    }

    #[test]
    fn a_star_does_not_run_over_a_line_feed() {
        assert!(!matches("a*", "a\nb"));
        assert!(matches("a\n*", "a\nb"));
        assert!(!matches("*x*b", "x\nxb"));
    }

    #[test]
    fn names_have_a_length() {
        assert_eq!(Name::new(""), Err(InvalidName::Empty));
        assert!(Name::new("x".repeat(2048)).is_ok());
        assert_eq!(Name::new("x".repeat(2049)), Err(InvalidName::TooLong { bytes: 2049 }));
    }
}
