//! Versions, which one of them is wanted, and which one is to be written.
//!
//! A version is text, and stores sort it as text. Writers left-pad it with zeros to
//! [`Version::WIDTH`] characters, so that the order of the texts is the order of the numbers.
//! Rows of other writers may hold anything: unpadded numbers, `1.2.3`, words.

use std::fmt;

/// A version as a store holds it; ordered as stores order it, by its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(String);

impl Version {
    /// The width in characters to which a shorter version is padded: the digits of the largest 64-bit integer.
    pub const WIDTH: usize = 19;

    /// The longest version in bytes of UTF-8: what DynamoDB takes as a sort key.
    pub const MAX_BYTES: usize = 1024;

    /// The version that is stored for the typed `text`: shorter ones are left-padded with zeros to
    /// [`Version::WIDTH`] characters, whatever they hold; longer ones stay as they are.
    ///
    /// ```
    /// use credstash::Version;
    ///
    /// assert_eq!(Version::padded("7")?.as_str(), "0000000000000000007");
    /// assert_eq!(Version::padded("abc")?.as_str(), "0000000000000000abc");
    /// # Ok::<(), credstash::InvalidVersion>(())
    /// ```
    ///
    /// # Errors
    /// When the text is longer than [`Version::MAX_BYTES`].
    pub fn padded(text: &str) -> Result<Self, InvalidVersion> {
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidVersion { bytes: text.len() });
        }
        Ok(Self(pad(text)))
    }

    /// A version exactly as a store gave it.
    #[must_use]
    pub fn stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The first version that autoversion gives to a new name.
    #[must_use]
    pub fn first() -> Self {
        Self(pad("1"))
    }

    /// The version after this one: its number plus one, padded.
    ///
    /// # Errors
    /// When this version is no number, or when the next number would sort before it as text, so that readers would
    /// go on getting the old secret.
    pub fn next(&self) -> Result<Self, NoNextVersion> {
        let number = decimal(&self.0)
            .filter(|number| !number.starts_with('-'))
            .ok_or_else(|| NoNextVersion::NotANumber { current: self.clone() })?;
        let next = Self(pad(&plus_one(&number)));
        if next > *self {
            return Ok(next);
        }
        Err(NoNextVersion::SortsBefore { current: self.clone(), next, suggestion: self.number_that_sorts_after() })
    }

    /// A number that sorts after this one, of a width from which counting on works: `2` gives `2000000000000000000`, `1_0`
    /// the same. None where there is none, since this one begins with no ASCII digit, say.
    fn number_that_sorts_after(&self) -> Option<Self> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.0.split_at(digits);
        let number = match rest {
            "" => number.to_owned(),
            _ => Some(plus_one(number)).filter(|greater| greater.len() == digits)?,
        };
        let width = Self::WIDTH.max(number.len() + 1);
        Some(Self(format!("{number:0<width$}"))).filter(|number| number.0.len() <= Self::MAX_BYTES)
    }

    /// The version as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text cannot be a version: it is too long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version cannot be longer than {} bytes, this one has {bytes}", Version::MAX_BYTES)]
pub struct InvalidVersion {
    /// The length of the refused text, in bytes.
    pub bytes: usize,
}

/// Why the version after the newest one cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoNextVersion {
    /// The newest version is no number.
    #[error("Can not autoincrement version. The current version: {current} is not an int")]
    NotANumber {
        /// The newest version.
        current: Version,
    },
    /// The next number would sort before the newest version, so nobody would read it.
    #[error(
        "Can not autoincrement version. The next version {next} sorts before the current version {current}, and would never be read"
    )]
    SortsBefore {
        /// The newest version.
        current: Version,
        /// The number after it, as it would be stored.
        next: Version,
        /// A version that sorts after the newest one and can be counted on from, if there is one.
        suggestion: Option<Version>,
    },
}

/// Which version of a credential is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Select {
    /// The newest: the one that sorts highest.
    Latest,
    /// This one.
    Exactly(Asked),
}

impl Select {
    /// Whether a row of version `found` is wanted rather than one of version `best`, of the same name.
    pub(crate) fn prefers(&self, found: &Version, best: Option<&Version>) -> bool {
        match self {
            Self::Latest => best.is_none_or(|best| found > best),
            Self::Exactly(asked) => {
                let rank = |version: &Version| asked.candidates().position(|candidate| candidate == version);
                match (rank(found), best.and_then(rank)) {
                    (Some(found), Some(best)) => found < best,
                    (found, _) => found.is_some(),
                }
            }
        }
    }
}

/// A version as somebody asked for it, which two stored versions may answer: the padded one, and the text as it is.
///
/// ```
/// use credstash::Asked;
///
/// let asked = Asked::new("1")?;
/// let stored: Vec<_> = asked.candidates().map(|version| version.as_str()).collect();
/// assert_eq!(stored, ["0000000000000000001", "1"]);
/// # Ok::<(), credstash::InvalidVersion>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    padded: Version,
    verbatim: Option<Version>,
}

impl Asked {
    /// Reads the typed `text`. Numbers may have surrounding space, a sign, leading zeros and `_` between digits, as
    /// Python's `int()` takes them.
    ///
    /// # Errors
    /// When the text is longer than [`Version::MAX_BYTES`].
    pub fn new(text: &str) -> Result<Self, InvalidVersion> {
        let verbatim = Version::stored(text);
        let is_short = text.chars().count() < Version::WIDTH;
        let padded = match decimal(text) {
            Some(number) if is_short => Version::padded(&number)?,
            _ => Version::padded(text)?,
        };
        let verbatim = (verbatim != padded && !text.is_empty()).then_some(verbatim);
        Ok(Self { padded, verbatim })
    }

    /// The padded version: what this product would have stored, and what messages name.
    #[must_use]
    pub fn padded(&self) -> &Version {
        &self.padded
    }

    /// The stored versions that answer, in order of preference.
    pub fn candidates(&self) -> impl Iterator<Item = &Version> {
        std::iter::once(&self.padded).chain(&self.verbatim)
    }
}

/// Which version a put writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewVersion {
    /// The one after the newest; [`Version::first`] for a new name.
    Next,
    /// This one, which must not be there yet.
    Exactly(Version),
}

fn pad(text: &str) -> String {
    format!("{text:0>width$}", width = Version::WIDTH)
}

/// The zero of each script's decimal digits, which follow it in order (Unicode 14, general category Nd): what Python
/// 3.11 takes for digits.
const ZEROS: [char; 66] = [
    '\u{30}',
    '\u{660}',
    '\u{6f0}',
    '\u{7c0}',
    '\u{966}',
    '\u{9e6}',
    '\u{a66}',
    '\u{ae6}',
    '\u{b66}',
    '\u{be6}',
    '\u{c66}',
    '\u{ce6}',
    '\u{d66}',
    '\u{de6}',
    '\u{e50}',
    '\u{ed0}',
    '\u{f20}',
    '\u{1040}',
    '\u{1090}',
    '\u{17e0}',
    '\u{1810}',
    '\u{1946}',
    '\u{19d0}',
    '\u{1a80}',
    '\u{1a90}',
    '\u{1b50}',
    '\u{1bb0}',
    '\u{1c40}',
    '\u{1c50}',
    '\u{a620}',
    '\u{a8d0}',
    '\u{a900}',
    '\u{a9d0}',
    '\u{a9f0}',
    '\u{aa50}',
    '\u{abf0}',
    '\u{ff10}',
    '\u{104a0}',
    '\u{10d30}',
    '\u{11066}',
    '\u{110f0}',
    '\u{11136}',
    '\u{111d0}',
    '\u{112f0}',
    '\u{11450}',
    '\u{114d0}',
    '\u{11650}',
    '\u{116c0}',
    '\u{11730}',
    '\u{118e0}',
    '\u{11950}',
    '\u{11c50}',
    '\u{11d50}',
    '\u{11da0}',
    '\u{16a60}',
    '\u{16ac0}',
    '\u{16b50}',
    '\u{1d7ce}',
    '\u{1d7d8}',
    '\u{1d7e2}',
    '\u{1d7ec}',
    '\u{1d7f6}',
    '\u{1e140}',
    '\u{1e2f0}',
    '\u{1e950}',
    '\u{1fbf0}',
];

/// The value of a decimal digit of any script.
fn digit(character: char) -> Option<char> {
    if character.is_ascii() {
        return character.is_ascii_digit().then_some(character);
    }
    let zero = ZEROS.iter().rev().find(|zero| **zero <= character)?;
    char::from_digit(u32::from(character) - u32::from(*zero), 10)
}

/// The canonical decimal form of what Python's `int()` reads, of any length.
fn decimal(text: &str) -> Option<String> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.split('_').any(str::is_empty) {
        return None;
    }
    let digits: String = digits.chars().filter(|character| *character != '_').map(digit).collect::<Option<_>>()?;
    match digits.trim_start_matches('0') {
        "" => Some("0".to_owned()),
        significant => Some(format!("{sign}{significant}")),
    }
}

/// `number` + 1, for a canonical decimal of any length.
fn plus_one(number: &str) -> String {
    let nines = number.len() - number.trim_end_matches('9').len();
    let (head, zeros) = (&number[..number.len() - nines], "0".repeat(nines));
    match head.as_bytes().last() {
        None => format!("1{zeros}"),
        Some(digit) => format!("{}{}{zeros}", &head[..head.len() - 1], char::from(digit + 1)),
    }
}

/// What must hold of all versions, for a test and for the fuzz target `version`.
#[cfg(any(test, fuzzing))]
#[path = "../fuzz/src/version.rs"]
pub mod property;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn padded_numbers_sort_as_numbers(one: u64, other: u64) {
            // One digit less than the width, so that the number after it has not more than that.
            let (one, other) = (one / 100, other / 100);
            let version = |number: u64| Version::padded(&number.to_string()).expect("short enough");
            prop_assert_eq!(version(one).cmp(&version(other)), one.cmp(&other));
            prop_assert_eq!(version(one).next(), Ok(version(one + 1)));
        }

        #[test]
        fn the_next_version_sorts_after_whatever_it_follows(text in "[0-9_ +-]{0,25}") {
            let version = Version::stored(text);
            if let Ok(next) = version.next() {
                prop_assert!(next > version);
            }
        }
    }

    #[test]
    fn what_was_fuzzed_holds() {
        crate::cases::replay("version", property::check);
    }

    fn next(current: &str) -> Result<String, NoNextVersion> {
        Version::stored(current).next().map(|version| version.to_string())
    }

    #[test]
    fn a_typed_version_is_padded_as_text() {
        let padded = |text| Version::padded(text).expect("short enough").to_string();
        assert_eq!(padded("1"), "0000000000000000001");
        assert_eq!(padded(""), "0000000000000000000");
        assert_eq!(padded("-1"), "00000000000000000-1");
        assert_eq!(padded("é"), "000000000000000000é");
        assert_eq!(padded("12345678901234567890123"), "12345678901234567890123");
        assert_eq!(padded(&"9".repeat(1024)).len(), 1024);
        assert_eq!(Version::padded(&"9".repeat(1025)), Err(InvalidVersion { bytes: 1025 }));
    }

    #[test]
    fn counting_goes_on_beyond_machine_integers() {
        assert_eq!(next("0000000000000000001").as_deref(), Ok("0000000000000000002"));
        assert_eq!(next("0000000000000000099").as_deref(), Ok("0000000000000000100"));
        assert_eq!(next("12345678901234567890123").as_deref(), Ok("12345678901234567890124"));
        assert_eq!(Version::first().as_str(), "0000000000000000001");
    }

    #[test]
    fn counting_never_gives_a_version_that_sorts_before() {
        let (longest, one_less) = ("9".repeat(Version::MAX_BYTES), "9".repeat(Version::MAX_BYTES - 1));
        for (current, suggestion) in [
            ("2", Some("2000000000000000000")),
            ("10", Some("1000000000000000000")),
            ("9999999999999999999", Some("99999999999999999990")),
            ("1_0", Some("2000000000000000000")),
            ("00000000000000001_0", Some("0000000000000000200")),
            ("9_9", None),
            ("٣", None),
            (&one_less, Some(&*format!("{one_less}0"))),
            (&longest, None),
        ] {
            let Err(NoNextVersion::SortsBefore { suggestion: found, .. }) = next(current) else {
                panic!("{current} must be refused");
            };
            assert_eq!(found.as_ref().map(Version::as_str), suggestion);
            if let Some(found) = found {
                assert!(found > Version::stored(current));
                assert!(found.next().is_ok());
            }
        }
        assert!(matches!(next("1.2.3"), Err(NoNextVersion::NotANumber { .. })));
        assert!(matches!(next("00000000000000000-5"), Err(NoNextVersion::NotANumber { .. })));
    }

    #[test]
    fn an_asked_version_is_read_as_python_reads_integers() {
        let asked = |text| {
            let asked = Asked::new(text).expect("short enough");
            asked.candidates().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(asked("5"), ["0000000000000000005", "5"]);
        assert_eq!(asked("05"), ["0000000000000000005", "05"]);
        assert_eq!(asked(" 1_0 "), ["0000000000000000010", " 1_0 "]);
        assert_eq!(asked("-5"), ["00000000000000000-5", "-5"]);
        assert_eq!(asked("١٢"), ["0000000000000000012", "١٢"]);
        assert_eq!(asked("1½"), ["000000000000000001½", "1½"]);
        assert_eq!(asked("abc"), ["0000000000000000abc", "abc"]);
        assert_eq!(asked("1__0"), ["0000000000000001__0", "1__0"]);
        assert_eq!(asked("0000000000000000005"), ["0000000000000000005"]);
    }

    #[test]
    fn of_two_versions_the_wanted_one_is_preferred() {
        let prefers = |select: &Select, found: &str, best: Option<&str>| {
            select.prefers(&Version::stored(found), best.map(Version::stored).as_ref())
        };
        let five = Select::Exactly(Asked::new("5").expect("short enough"));
        let padded = "0000000000000000005";
        for (select, better, worse) in
            [(&Select::Latest, "10", "1"), (&Select::Latest, "5", padded), (&five, padded, "5")]
        {
            assert!(prefers(select, better, None));
            assert!(prefers(select, worse, None));
            assert!(prefers(select, better, Some(worse)));
            assert!(!prefers(select, worse, Some(better)));
            assert!(!prefers(select, better, Some(better)));
        }
        for best in [None, Some(padded), Some("5")] {
            assert!(!prefers(&five, "6", best), "{best:?}");
        }
    }
}
