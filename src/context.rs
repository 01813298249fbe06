//! The encryption context: pairs of text that are bound to a data key and must be given again to unwrap it.

use std::collections::BTreeMap;
use std::fmt;

use crate::name::Name;
use crate::version::Version;

/// An ordered map of `key=value` pairs; the order in which they were given has no meaning.
///
/// It is not stored: who reads must give the same pairs as who wrote. Values do not show in `Debug`.
///
/// ```
/// use credstash::Context;
///
/// let context: Context = ["env=prod", "id=YWI="].into_iter().map(Context::parse_pair).collect::<Result<_, _>>()?;
/// assert_eq!(context.get("id"), Some("YWI="));
/// # Ok::<(), credstash::InvalidPair>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Context(BTreeMap<String, String>);

impl Context {
    /// The key of the pair that binds a data key to the name of a credential.
    pub const NAME: &str = "credstash-name";

    /// The key of the pair that binds a data key to the version of a credential, as it is stored.
    pub const VERSION: &str = "credstash-version";

    /// The context without pairs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads one `key=value`: split at the first `=`, text on both sides.
    ///
    /// # Errors
    /// When there is no `=`, or nothing on one of its sides.
    pub fn parse_pair(text: &str) -> Result<(String, String), InvalidPair> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(InvalidPair),
        }
    }

    /// This context and two more pairs: [`Context::NAME`] and [`Context::VERSION`]. A data key that was made with it can
    /// be unwrapped for the row of that name and version only.
    ///
    /// A pair of these keys that is there already stays: if it says something else, nothing will be unwrapped.
    ///
    /// ```
    /// use credstash::{Context, Name, Version};
    ///
    /// let context = Context::new().bound_to(&Name::new("db.password")?, &Version::first());
    /// assert_eq!(context.get("credstash-name"), Some("db.password"));
    /// assert_eq!(context.get("credstash-version"), Some("0000000000000000001"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn bound_to(&self, name: &Name, version: &Version) -> Self {
        let mut pairs = self.0.clone();
        for (key, value) in [(Self::NAME, name.as_str()), (Self::VERSION, version.as_str())] {
            pairs.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
        Self(pairs)
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The keys, sorted by code point.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The pairs, sorted by the code points of their keys.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// The last of a repeated key stays.
impl FromIterator<(String, String)> for Context {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A text that is not of the form `key=value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not the form of \"key=value\"")]
pub struct InvalidPair;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_split_at_the_first_equals_sign() {
        assert_eq!(Context::parse_pair("k=a=b=="), Ok(("k".into(), "a=b==".into())));
        for bad in ["", "k", "k=", "=v", "="] {
            assert_eq!(Context::parse_pair(bad), Err(InvalidPair), "{bad}");
        }
    }

    #[test]
    fn the_last_of_a_repeated_key_stays_and_values_do_not_show() {
        let context: Context = [("k", "old"), ("k", "new"), ("a", "b")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        assert_eq!(context.pairs().collect::<Vec<_>>(), [("a", "b"), ("k", "new")]);
        assert_eq!(context.keys().collect::<Vec<_>>(), ["a", "k"]);
        assert_eq!((context.get("k"), context.get("b")), (Some("new"), None));
        assert_eq!(format!("{context:?}"), r#"{"a", "k"}"#);
    }

    #[test]
    fn binding_adds_two_pairs_and_changes_none() {
        let name = Name::new("db.password").expect("a valid name");
        let given: Context = [("env".to_owned(), "prod".to_owned())].into_iter().collect();
        let bound = given.bound_to(&name, &Version::first());
        let name_pair = ("credstash-name", "db.password");
        let version_pair = ("credstash-version", "0000000000000000001");
        assert_eq!(bound.pairs().collect::<Vec<_>>(), [name_pair, version_pair, ("env", "prod")]);
        // Whoever says otherwise does not have the row's key, but is not overruled either.
        assert_eq!(bound.bound_to(&name, &Version::stored("2")), bound);
    }
}
