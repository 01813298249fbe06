//! A line `name,value` for each credential, without a header, quoted where a reader needs it (RFC 4180, with line
//! feeds as line ends, as the original writes it).

use csv::{QuoteStyle, Terminator, WriterBuilder};

use super::Item;

pub(super) fn write(items: &[Item<'_>]) -> Vec<u8> {
    let mut writer = WriterBuilder::new()
        .quote_style(QuoteStyle::Necessary)
        .terminator(Terminator::Any(b'\n'))
        .has_headers(false)
        .from_writer(Vec::new());
    for (name, value) in items {
        writer.write_record([name, value.as_ref()]).expect("each record has two fields, and memory takes them");
    }
    writer.into_inner().expect("memory takes what is left")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &str) -> String {
        String::from_utf8(write(&[("k", value.into())])).expect("UTF-8")
    }

    #[test]
    fn only_what_must_be_is_quoted() {
        assert_eq!(written(""), "k,\n");
        assert_eq!(written(" a '#;"), "k, a '#;\n");
        assert_eq!(written("a,b"), "k,\"a,b\"\n");
        assert_eq!(written("a\"b"), "k,\"a\"\"b\"\n");
        assert_eq!(written("a\nb"), "k,\"a\nb\"\n");
        assert_eq!(written("a\rb"), "k,\"a\rb\"\n");
    }
}
