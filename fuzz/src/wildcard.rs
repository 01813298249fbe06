//! Patterns, against a table that knows nothing of backtracking.

use credstash::{Name, Pattern};

/// Takes what is before the first zero byte as a pattern, and the rest as a name.
pub fn check(case: &[u8]) {
    let text = String::from_utf8_lossy(case);
    let (pattern, name) = text.split_once('\0').unwrap_or((&text, ""));
    let name = match Name::new(name) {
        Ok(name) => name,
        Err(_) => return assert!(name.is_empty() || name.len() > Name::MAX_BYTES),
    };
    let found = Pattern::new(pattern).matches(&name);
    assert_eq!(found, matches_by_table(pattern, name.as_str()), "{pattern:?} on {name:?}");
    if !pattern.contains('*') {
        assert_eq!(found, pattern == name.as_str(), "without a star a pattern is a name");
    }
}

/// For each beginning of the pattern: which beginnings of the name it matches.
fn matches_by_table(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let mut matched = vec![false; name.len() + 1];
    matched[0] = true;
    for wanted in pattern.chars() {
        let mut longer = vec![false; name.len() + 1];
        for end in 0..=name.len() {
            longer[end] = match (wanted, end.checked_sub(1)) {
                ('*', None) => matched[end],
                ('*', Some(last)) => matched[end] || (longer[last] && name[last] != '\n'),
                (_, None) => false,
                (_, Some(last)) => matched[last] && name[last] == wanted,
            };
        }
        matched = longer;
    }
    matched[name.len()]
}
