//! One block mapping in the style of PyYAML: ASCII only, each text plain where every YAML reader takes it for a text,
//! in single quotes where it is printable, in double quotes otherwise. Lines are not folded.

use super::Item;

/// Longer keys need the explicit form (YAML 1.2.2, section 7.4.2: 1024 characters); PyYAML uses it beyond this.
const LONGEST_SIMPLE_KEY: usize = 128;

pub(super) fn write(items: &[Item<'_>]) -> Vec<u8> {
    if items.is_empty() {
        return b"{}\n".to_vec();
    }
    let mut text = String::new();
    for (name, value) in items {
        let (key, value) = (scalar(name), scalar(value));
        match key.len() <= LONGEST_SIMPLE_KEY {
            true => text.push_str(&format!("{key}: {value}\n")),
            false => text.push_str(&format!("? {key}\n: {value}\n")),
        }
    }
    text.into_bytes()
}

fn scalar(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else if text.chars().all(|character| matches!(character, ' '..='~')) {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        double_quoted(text)
    }
}

/// Whether every reader of YAML 1.1 and 1.2 takes the bare text for a text: it starts with a letter, holds nothing that
/// has a meaning in YAML, and is none of the words that mean something else.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan"];
    let is_tame = |character: char| character.is_ascii_alphanumeric() || " _./@+-".contains(character);
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(is_tame)
        && !text.ends_with(' ')
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match (character, u32::from(character)) {
            ('"' | '\\', _) => quoted.extend(['\\', character]),
            ('\n', _) => quoted.push_str("\\n"),
            ('\r', _) => quoted.push_str("\\r"),
            ('\t', _) => quoted.push_str("\\t"),
            (' '..='~', _) => quoted.push(character),
            (_, code @ 0..=0xff) => quoted.push_str(&format!("\\x{code:02X}")),
            (_, code @ 0..=0xffff) => quoted.push_str(&format!("\\u{code:04X}")),
            (_, code) => quoted.push_str(&format!("\\U{code:08X}")),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_texts() {
        for (text, expected) in [
            ("plain", "plain"),
            ("two words", "two words"),
            ("a.b/c", "a.b/c"),
            ("", "''"),
            ("123", "'123'"),
            ("Yes", "'Yes'"),
            ("null", "'null'"),
            ("a: b", "'a: b'"),
            ("it's", "'it''s'"),
            ("end ", "'end '"),
            ("café", "\"caf\\xE9\""),
            ("☃😀\n\0\"\\", "\"\\u2603\\U0001F600\\n\\x00\\\"\\\\\""),
        ] {
            assert_eq!(scalar(text), expected);
        }
    }

    #[test]
    fn an_empty_mapping_and_long_keys_have_their_own_form() {
        assert_eq!(write(&[]), b"{}\n");
        let name = "k".repeat(200);
        assert_eq!(write(&[(&name, "v".into())]), format!("? {name}\n: v\n").into_bytes());
    }
}
