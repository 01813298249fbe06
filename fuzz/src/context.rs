//! Contexts: pairs split at the first `=`, one order, the last of a repeated key.

use credstash::{Context, InvalidPair};

/// Takes each line, up to a hundred, as a word of a command line.
pub fn check(case: &[u8]) {
    let text = String::from_utf8_lossy(case);
    let mut pairs: Vec<(String, String)> = Vec::new();
    for word in text.split('\n').take(100) {
        let parsed = Context::parse_pair(word);
        match word.find('=') {
            Some(at) if at > 0 && at + 1 < word.len() => {
                assert_eq!(parsed, Ok((word[..at].to_owned(), word[at + 1..].to_owned())));
            }
            _ => assert_eq!(parsed, Err(InvalidPair)),
        }
        pairs.extend(parsed);
    }

    let context: Context = pairs.iter().cloned().collect();
    for (key, _) in &pairs {
        let last = pairs.iter().rfind(|(other, _)| other == key).map(|(_, value)| value.as_str());
        assert_eq!(context.get(key), last, "the last of a repeated key stays");
    }
    assert!(context.keys().is_sorted_by(|one, next| one < next), "sorted, each key once");
    assert!(context.pairs().all(|(key, value)| context.get(key) == Some(value)));
    assert!(context.keys().all(|key| pairs.iter().any(|(given, _)| given == key)));
    assert_eq!(context.pairs().len(), context.keys().count());

    let mut reversed: Vec<_> = context.pairs().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    reversed.reverse();
    let in_another_order: Context = reversed.into_iter().collect();
    assert_eq!(in_another_order, context, "the order in which pairs are given has no meaning");
    let keys: std::collections::BTreeSet<&str> = context.keys().collect();
    assert_eq!(format!("{context:?}"), format!("{keys:?}"), "values do not show");
}
