//! A line `export NAME='value'` for each credential, for `eval`.
//!
//! The variable is the name in upper case, with `_` for every character that is not an ASCII letter or digit, and a
//! `_` before a leading digit: `db.password` is `DB_PASSWORD`. Two names that would be one variable are an error. Inside
//! single quotes a shell reads every character as it is; a `'` is written as `'\''` (POSIX, Shell Command Language 2.2.2).

use super::{Item, assignments};

pub(super) fn write(items: &[Item<'_>]) -> Result<Vec<u8>, Vec<String>> {
    let variable = |name: &str| Ok(variable(name));
    assignments(items, variable, |variable, value| {
        if value.contains('\0') {
            return Err("a value with a zero byte cannot be in a variable (use -f json)".to_owned());
        }
        Ok(format!("export {variable}='{}'\n", value.replace('\'', r"'\''")))
    })
}

fn variable(name: &str) -> String {
    let leading = if name.starts_with(|first: char| first.is_ascii_digit()) { "_" } else { "" };
    let mapped = name.chars().map(|character| match character.is_ascii_alphanumeric() {
        true => character.to_ascii_uppercase(),
        false => '_',
    });
    leading.chars().chain(mapped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(items: &[(&str, &str)]) -> Result<String, Vec<String>> {
        let items: Vec<Item<'_>> = items.iter().map(|(name, value)| (*name, (*value).into())).collect();
        write(&items).map(|text| String::from_utf8(text).expect("UTF-8"))
    }

    #[test]
    fn names_become_variables() {
        for (name, expected) in [("db.password", "DB_PASSWORD"), ("9x", "_9X"), ("é", "_"), ("$(id)", "__ID_")] {
            assert_eq!(variable(name), expected);
        }
    }

    #[test]
    fn values_are_quoted() {
        assert_eq!(written(&[("a", "it's $X")]).as_deref(), Ok("export A='it'\\''s $X'\n"));
    }

    #[test]
    fn what_would_collide_or_choose_what_to_run_is_named() {
        let refused = written(&[("a.b", "1"), ("a_b", "2"), ("c", "3")]).expect_err("two are one variable");
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert!(written(&[("ld.preload", "x")]).is_err());
        assert!(written(&[("a", "x\0y")]).is_err());
    }
}
