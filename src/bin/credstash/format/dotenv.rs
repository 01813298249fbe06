//! A line `NAME='value'` for each credential, which `sh` and python-dotenv read back alike.
//!
//! So do most dotenv libraries by the first rule; those of Node keep the backslashes of the second.
//!
//! Names are in upper case as the original writes them, so `a.b` gives `A.B`, which dotenv libraries read and `sh`
//! does not. Values are quoted by the first of these rules that fits:
//!
//! 1. `'value'`, verbatim: no `'` in it, no two `\` in a row, and no `\` at its end. (To `sh` a `\` in single quotes is
//!    a character like any other; dotenv libraries take it together with a `\` or `'` that follows.)
//! 2. `"value"` with a `\` before each `\` and `"`: no `$` and no backtick in it, which `sh` would expand.
//! 3. Nothing suits all readers, and the credential is named in an error. So is one with a carriage return, which
//!    readers of text files turn into a line feed.
//!
//! `${NAME}` inside a value is for `sh` what it is; a dotenv library that interpolates must be told not to.

use super::{Item, assignments};

pub(super) fn write(items: &[Item<'_>]) -> Result<Vec<u8>, Vec<String>> {
    assignments(items, variable, |variable, value| Ok(format!("{variable}={}\n", quoted(value)?)))
}

fn variable(name: &str) -> Result<String, String> {
    let unfit = |character: &char| !character.is_alphanumeric() && !"_.-/".contains(*character);
    if let Some(character) = name.chars().find(unfit) {
        return Err(format!("the character {character:?} cannot stand in a dotenv name (use -f json, or -f shell)"));
    }
    Ok(name.to_uppercase())
}

fn quoted(value: &str) -> Result<String, String> {
    if value.contains(['\0', '\r']) {
        return Err(
            "a value with a zero byte or a carriage return cannot stand in a dotenv file (use -f json)".to_owned()
        );
    }
    if !value.contains('\'') && !value.contains(r"\\") && !value.ends_with('\\') {
        return Ok(format!("'{value}'"));
    }
    if !value.contains(['$', '`']) {
        return Ok(format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"")));
    }
    Err("sh and dotenv libraries read a value with quotes or backslashes and a $ differently (use -f shell or -f json)"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_verbatim_where_they_can_be() {
        for (value, expected) in [
            ("", "''"),
            ("$HOME `id` \"x\" #\n!", "'$HOME `id` \"x\" #\n!'"),
            (r"C:\new", r"'C:\new'"),
            ("it's", "\"it's\""),
            ("it's \"\\n\"", r#""it's \"\\n\"""#),
            (r"a\\b", r#""a\\\\b""#),
            (r"a\", r#""a\\""#),
        ] {
            assert_eq!(quoted(value).as_deref(), Ok(expected));
        }
        let item = |name: &'static str| (name, "v".into());
        assert_eq!(write(&[item("a"), item("A"), item("b")]).expect_err("two are one").len(), 2);
        for unfit in ["it's $HOME", r"\\$", "a\0b", "a\r\nb"] {
            assert!(quoted(unfit).is_err(), "{unfit}");
        }
    }

    #[test]
    fn names_are_those_of_the_original_or_refused() {
        assert_eq!(variable("db.pass-word/1_é").as_deref(), Ok("DB.PASS-WORD/1_É"));
        assert_eq!(variable("ß").as_deref(), Ok("SS"));
        for unfit in ["a b", "a=b", "$(id)", "a\nb", "x;y", "a:b", "path", "ld_preload"] {
            assert!(write(&[(unfit, "v".into())]).is_err(), "{unfit}");
        }
    }
}
