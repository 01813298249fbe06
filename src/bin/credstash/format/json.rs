//! One JSON object, exactly as Python's `json.dumps(.., sort_keys=True, indent=4, separators=(',', ': '))` writes it:
//! ASCII only.

use std::io;

use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::Item;

pub(super) fn write(items: &[Item<'_>]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, Ascii { pretty: PrettyFormatter::with_indent(b"    ") });
    let pairs = items.iter().map(|(name, value)| (*name, value.as_ref()));
    serde::Serializer::collect_map(&mut serializer, pairs).expect("texts serialize, and memory takes them");
    text
}

/// Pretty, and with every character outside of space to `~` as `\uXXXX`.
struct Ascii<'a> {
    pretty: PrettyFormatter<'a>,
}

impl Formatter for Ascii<'_> {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for character in fragment.chars() {
            if matches!(character, ' '..='~') {
                writer.write_all(&[character as u8])?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_object(writer)
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_object(writer)
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.pretty.begin_object_key(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_object_value(writer)
    }

    fn end_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(items: &[(&str, &str)]) -> String {
        let items: Vec<Item<'_>> = items.iter().map(|(name, value)| (*name, (*value).into())).collect();
        String::from_utf8(write(&items)).expect("ASCII")
    }

    #[test]
    fn it_is_what_python_writes() {
        assert_eq!(written(&[]), "{}");
        assert_eq!(written(&[("a", "1"), ("b", "x/\"\\")]), "{\n    \"a\": \"1\",\n    \"b\": \"x/\\\"\\\\\"\n}");
        assert_eq!(
            written(&[("é", "\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}☃😀")]),
            "{\n    \"\\u00e9\": \"\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f\\u2603\\ud83d\\ude00\"\n}"
        );
    }
}
