//! Versions: padding keeps the order of numbers, the next one is greater, and of two rows one is preferred.
#![allow(unreachable_pub, reason = "in the main project only a test reaches it")]

use super::{Asked, NoNextVersion, Select, Version};
use crate::cases::Input;

/// Takes a few texts.
pub fn check(case: &[u8]) {
    let mut input = Input::new(case);
    let mut texts = Vec::new();
    while !input.is_empty() && texts.len() < 8 {
        // Some are longer than a version may be.
        texts.push(input.text().repeat(input.one_of(&[1, 1, 1, 2, 5, 19])));
    }
    for text in &texts {
        padding(text);
        counting(&Version::stored(text.as_str()));
        for other in &texts {
            order_of_numbers(text, other);
        }
    }
    let versions: Vec<Version> = texts.iter().map(|text| Version::stored(text.as_str())).collect();
    preference(&Select::Latest, &versions);
    for asked in texts.iter().filter_map(|text| asking(text)) {
        preference(&Select::Exactly(asked), &versions);
    }
}

fn padding(text: &str) {
    let Ok(version) = Version::padded(text) else { return assert!(text.len() > Version::MAX_BYTES) };
    assert!(text.len() <= Version::MAX_BYTES);
    let zeros = version.as_str().strip_suffix(text).expect("padded on its left");
    assert!(zeros.bytes().all(|byte| byte == b'0'));
    assert_eq!(zeros.len(), Version::WIDTH.saturating_sub(text.chars().count()));
    assert_eq!(Version::padded(version.as_str()), Ok(version), "padding again changes nothing");
}

/// The number that a text of ASCII digits is, as far as 128 bits go.
fn number(text: &str) -> Option<u128> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn order_of_numbers(one: &str, other: &str) {
    let fits = |text: &str| number(text).filter(|_| text.len() <= Version::WIDTH);
    if let (Some(first), Some(second)) = (fits(one), fits(other)) {
        let [one, other] = [one, other].map(|text| Version::padded(text).expect("short enough"));
        assert_eq!(one.cmp(&other), first.cmp(&second), "{one} and {other}");
    }
}

fn counting(current: &Version) {
    let is_number = !current.as_str().is_empty() && current.as_str().bytes().all(|byte| byte.is_ascii_digit());
    match current.next() {
        Ok(next) => {
            assert!(next > *current, "{next} after {current}");
            if let Some(number) = number(current.as_str()) {
                assert_eq!(self::number(next.as_str()), number.checked_add(1), "{next} after {current}");
            }
        }
        Err(NoNextVersion::SortsBefore { current: named, next, suggestion }) => {
            assert!(named == *current && next <= *current, "{next} after {current}");
            if let Some(suggestion) = suggestion {
                assert!(suggestion > *current, "{suggestion} after {current}");
                assert!(suggestion.next().is_ok(), "counting goes on from {suggestion}");
            } else {
                assert!(!is_number || current.as_str().len() + 1 >= Version::MAX_BYTES, "{current} has a way out");
            }
        }
        Err(NoNextVersion::NotANumber { current: named }) => assert!(named == *current && !is_number),
    }
}

fn asking(text: &str) -> Option<Asked> {
    let asked = Asked::new(text);
    assert_eq!(asked.is_err(), text.len() > Version::MAX_BYTES);
    let asked = asked.ok()?;
    let candidates: Vec<&Version> = asked.candidates().collect();
    assert_eq!(candidates[0], asked.padded());
    assert!(candidates[1..].iter().all(|verbatim| verbatim.as_str() == text && *verbatim != asked.padded()));
    assert!(text.is_empty() || candidates.iter().any(|found| found.as_str() == text), "what was typed is found");
    assert!(candidates.len() <= 2);
    Some(asked)
}

/// Of any versions one is preferred, whatever the order in which a store gives them.
fn preference(select: &Select, versions: &[Version]) {
    fn best<'a>(select: &Select, versions: impl Iterator<Item = &'a Version>) -> Option<&'a Version> {
        versions.fold(None, |best, found| if select.prefers(found, best) { Some(found) } else { best })
    }
    let expected = match select {
        Select::Latest => versions.iter().max(),
        Select::Exactly(asked) => asked.candidates().find(|candidate| versions.contains(candidate)),
    };
    assert_eq!(best(select, versions.iter()), expected);
    assert_eq!(best(select, versions.iter().rev()), expected);
    for one in versions {
        assert!(!select.prefers(one, Some(one)), "{one} over itself");
        for other in versions {
            assert!(!(select.prefers(one, Some(other)) && select.prefers(other, Some(one))), "{one} and {other}");
        }
    }
}
