//! What one program stores, the other reads: this one and Python credstash 1.17.1, on one table, in both directions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::world::World;

const DIGESTS: [&str; 6] = ["SHA", "SHA224", "SHA256", "SHA384", "SHA512", "MD5"];

#[test]
fn every_digest() {
    let world = World::dynamodb();
    for digest in DIGESTS {
        let (ours, theirs) = (format!("ours-{digest}"), format!("theirs-{digest}"));
        world.run(["put", &ours, "a value", "-d", digest]).ok(format!("{ours} has been stored\n"));
        world.python(["put", &theirs, "a value", "-d", digest]).ok(format!("{theirs} has been stored\n"));
        world.python(["get", &ours]).ok("a value\n");
        world.run(["get", &theirs]).ok("a value\n");
    }
}

/// What programs that are neither of the two see: the same attributes, of the same types, with content of the same
/// form, and no others.
#[test]
fn rows_are_alike_attribute_by_attribute() {
    let world = World::dynamodb();
    for (number, options) in
        [&["-c", "a comment", "-d", "SHA512"][..], &["-a"], &["-v", "word"], &["-c", ""], &["k=v", "-d", "MD5"]]
            .into_iter()
            .enumerate()
    {
        let words = |who: &str| [&["put", &format!("{who}-{number}"), "a value"], options].concat().join("\t");
        let (ours, theirs) = (words("ours"), words("them"));
        world.run(ours.split('\t')).ok(format!("ours-{number} has been stored\n"));
        world.python(theirs.split('\t')).ok(format!("them-{number} has been stored\n"));
        let (ours, theirs) = (world.row(&format!("ours-{number}")), world.row(&format!("them-{number}")));
        assert_eq!(form(&ours), form(&theirs), "put {options:?}");
    }
}

/// A row with what is random in it replaced by its form, and its name shortened to what both writers share.
fn form(row: &Value) -> Value {
    let mut form = row.clone();
    let decoded = |attribute: &str, kind: &str| {
        let text = row[attribute][kind].as_str().unwrap_or_else(|| panic!("{attribute} is of type {kind}: {row}"));
        STANDARD.decode(text).expect("base64, padded, without line breaks")
    };
    let hmac = String::from_utf8(decoded("hmac", "B")).expect("the digits are text");
    assert!(hmac.chars().all(|digit| matches!(digit, '0'..='9' | 'a'..='f')), "lower-case hexadecimal: {hmac}");
    form["hmac"]["B"] = json!(format!("{} digits", hmac.len()));
    form["contents"]["S"] = json!(format!("{} bytes", decoded("contents", "S").len()));
    form["key"]["S"] = json!(format!("{} bytes", decoded("key", "S").len()));
    // `ours-1` and `them-1` are both `-1`.
    form["name"]["S"] = json!(row["name"]["S"].as_str().map(|name| &name["ours".len()..]));
    form
}

#[test]
fn contexts() {
    let world = World::dynamodb();
    let contexts: [&[&str]; 4] =
        [&["env=prod"], &["b=2", "a=1", "c=3"], &["schlüssel=wért ☃", "😀=日本"], &["k=old", "k=new"]];
    for (number, context) in contexts.iter().enumerate() {
        let (ours, theirs) = (format!("ours-{number}"), format!("theirs-{number}"));
        world.run([&["put", &ours, "v"], *context].concat()).ok(format!("{ours} has been stored\n"));
        world.python([&["put", &theirs, "v"], *context].concat()).ok(format!("{theirs} has been stored\n"));
        // In another order, and with what a repeated key means.
        let mut reversed: Vec<&str> = context.iter().rev().copied().collect();
        if number == 3 {
            reversed = vec!["k=new"];
        }
        world.python([&["get", &ours][..], &reversed].concat()).ok("v\n");
        world.run([&["get", &theirs][..], &reversed].concat()).ok("v\n");
        world.run(["get", &theirs]).fails(1, "KMS ERROR: Could not decrypt hmac key with KMS.");
    }
}

/// A context value with a `=` in it, which the original refuses, is bound as everybody else binds it.
#[test]
fn a_context_value_may_hold_an_equals_sign() {
    let world = World::dynamodb();
    world.run(["put", "a", "v", "id=YWJj=="]).ok("a has been stored\n");
    let read = "
import credstash, sys
print(credstash.getSecret('a', table=sys.argv[1], context={'id': 'YWJj=='}))";
    assert_eq!(world.script(read, &[world.table()], b""), b"v\n");
    world.run(["get", "a", "id=YWJj=="]).ok("v\n");
}

/// Around the ends of cipher blocks, and up to what fits into a row.
#[test]
fn values_of_every_length() {
    let world = World::dynamodb();
    let value = |length: usize| -> Vec<u8> { b"0123456789abcdef-".iter().copied().cycle().take(length).collect() };
    for length in [1, 15, 16, 17, 32, 33, 4096, 250_000] {
        let (ours, theirs) = (format!("ours-{length}"), format!("theirs-{length}"));
        world.run_with(&value(length), ["put", &ours, "-"]).ok(format!("{ours} has been stored\n"));
        world.python_with(&value(length), ["put", &theirs, "-"]).ok(format!("{theirs} has been stored\n"));
        world.python(["get", "-n", &ours]).ok(value(length));
        world.run(["get", "-n", &theirs]).ok(value(length));
    }
}

/// DynamoDB takes an empty text, where DynamoDB Local does not.
#[test]
fn the_empty_value() {
    let world = World::moto();
    world.run(["put", "ours", ""]).ok("ours has been stored\n");
    world.python(["put", "theirs"]).ok("theirs has been stored\n");
    assert_eq!(world.row("ours")["contents"], json!({"S": ""}));
    world.python(["get", "ours"]).ok("\n");
    world.run(["get", "theirs"]).ok("\n");
    world.run(["get", "-n", "ours"]).ok("");
}

/// Line ends, zero bytes and every plane of Unicode arrive as they were sent.
#[test]
fn values_of_every_kind() {
    let world = World::dynamodb();
    for (number, value) in [
        "line\nline\r\nline\rline\n\n",
        "\0zero\0",
        "\u{feff}mark, tab\t, \u{1b}[31m escape \u{7f}",
        "naïve ☃ 日本語 😀 \u{10ffff} e\u{301}",
        " surrounding space ",
        "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n",
    ]
    .into_iter()
    .enumerate()
    {
        let (ours, theirs) = (format!("ours-{number}"), format!("theirs-{number}"));
        world.run_with(value.as_bytes(), ["put", &ours, "-"]).ok(format!("{ours} has been stored\n"));
        world.python_with(value.as_bytes(), ["put", &theirs, "-"]).ok(format!("{theirs} has been stored\n"));
        world.python(["get", "-n", &ours]).ok(value);
        world.run(["get", "-n", &theirs]).ok(value);
    }
}

/// The original stores and reads text only; here every byte comes back.
#[test]
fn bytes_that_are_no_text() {
    let world = World::dynamodb();
    let bytes: Vec<u8> = (0..=255).collect();
    let file = world.file("keystore", &bytes);
    world.run(["put", "from-file", &format!("@{file}")]).ok("from-file has been stored\n");
    world.run_with(&bytes, ["put", "from-stdin", "-"]).ok("from-stdin has been stored\n");
    world.run(["get", "-n", "from-file"]).ok(&bytes);
    world.run(["get", "-n", "from-stdin"]).ok(&bytes);
    let refused = world.python(["get", "from-file"]);
    assert_eq!(refused.code, Some(1), "the original must refuse it\n{refused}");
    refused.mentions("'utf-8' codec can't decode");
}

/// A file with the line ends of another system comes back as it was.
#[test]
fn a_file_keeps_its_line_ends() {
    let world = World::dynamodb();
    let file = world.file("dos.txt", "one\r\ntwo\rthree\n");
    world.run(["put", "file", &format!("@{file}")]).ok("file has been stored\n");
    world.python(["get", "-n", "file"]).ok("one\r\ntwo\rthree\n");
}

#[test]
fn names_of_every_kind() {
    let world = World::dynamodb();
    let long = "n".repeat(2048);
    let names = [
        "a b",
        " x ",
        "a/b.c-d_e:f",
        "UPPER",
        "upper",
        "ключ",
        "😀",
        "it's \"quoted\"",
        "%s {0} \\",
        "a=b",
        "@file",
        "$HOME",
        "two\nlines",
        "[x]",
        &long,
    ];
    for name in names {
        world.run(["put", name, "ours"]).ok(format!("{name} has been stored\n"));
        world.python(["get", name]).ok("ours\n");
        world.python(["put", name, "theirs", "-v2"]).ok(format!("{name} has been stored\n"));
        world.run(["get", name]).ok("theirs\n");
    }
    // Without the name of two lines and the name of 2048 characters, on which a person could not tell list from keys.
    world.run(["delete", "two\nlines"]).prints(
        "Deleting two\nlines -- version 0000000000000000001\nDeleting two\nlines -- version 0000000000000000002\n",
    );
    let (list, keys) = (world.run(["list"]), world.run(["keys"]));
    world.python(["list"]).ok(&list.stdout);
    world.python(["keys"]).ok(&keys.stdout);
}

/// Names that begin with a `-` stand after `--`; a `*` is read by its pattern.
#[test]
fn names_that_look_like_something_else() {
    let world = World::dynamodb();
    world.run(["put", "--", "-a", "ours"]).ok("-a has been stored\n");
    world.python(["put", "--", "--help", "theirs"]).ok("--help has been stored\n");
    world.python(["get", "--", "-a"]).ok("ours\n");
    world.run(["get", "--", "--help"]).ok("theirs\n");
    world.python(["put", "a*b", "star"]).ok("a*b has been stored\n");
    world.run(["get", "a*b"]).ok("{\n    \"a*b\": \"star\"\n}");
}

#[test]
fn versions_counted_in_turn() {
    let world = World::dynamodb();
    for (number, by_us) in [(1, true), (2, false), (3, true), (4, true), (5, false)] {
        let value = format!("value {number}");
        match by_us {
            true => world.run(["put", "-a", "x", &value]).ok("x has been stored\n"),
            false => world.python(["put", "-a", "x", &value]).ok("x has been stored\n"),
        };
        world.run(["get", "x"]).ok(format!("{value}\n"));
        world.python(["get", "x"]).ok(format!("{value}\n"));
    }
    let versions: Vec<Value> = world.rows().iter().map(|row| row["version"]["S"].clone()).collect();
    let expected: Vec<String> = (1..=5).map(|number| format!("{number:019}")).collect();
    assert_eq!(versions, expected);
    world.run(["get", "x", "-v", "2"]).ok("value 2\n");
    world.python(["get", "x", "-v", "3"]).ok("value 3\n");
}

#[test]
fn comments() {
    let world = World::dynamodb();
    world.run(["put", "a", "v", "-c", "rotated; see ☃ \"wiki\""]).ok("a has been stored\n");
    world.python(["put", "longer-name", "v", "-c", "theirs"]).ok("longer-name has been stored\n");
    world.run(["put", "a", "v", "-v", "2"]).ok("a has been stored\n");
    let list = "\
a           -- version 0000000000000000001 -- comment rotated; see ☃ \"wiki\"
a           -- version 0000000000000000002 -- comment 
longer-name -- version 0000000000000000001 -- comment theirs
";
    world.run(["list"]).ok(list);
    world.python(["list"]).ok(list);
}

/// What Python 2 and older versions left behind, and what other tools add.
#[test]
fn old_and_foreign_rows() {
    let world = World::dynamodb();
    world.python(["put", "row", "v"]).ok("row has been stored\n");
    let row = world.row("row");
    let hmac = STANDARD.decode(row["hmac"]["B"].as_str().expect("base64")).expect("base64");
    let hmac = String::from_utf8(hmac).expect("digits");
    let key = row["key"]["S"].as_str().expect("a text");
    let (first, second) = key.split_at(40);

    let variants = [
        ("hmac-as-text", json!({"hmac": {"S": hmac}})),
        ("hmac-in-upper-case", json!({"hmac": {"S": hmac.to_uppercase()}})),
        ("no-digest", json!({"digest": null})),
        ("both", json!({"hmac": {"S": hmac}, "digest": null})),
        ("wrapped-lines", json!({"key": {"S": format!("{first}\r\n{second}\n")}})),
        ("more-attributes", json!({"created": {"N": "5"}, "tags": {"L": [{"S": "x"}]}, "on": {"BOOL": true}})),
        ("unpadded", json!({"version": {"S": "1"}})),
        ("dotted", json!({"version": {"S": "1.2.3"}})),
    ];
    for (name, changes) in &variants {
        let mut variant = row.clone();
        variant["name"]["S"] = json!(name);
        for (attribute, value) in changes.as_object().expect("an object") {
            variant[attribute] = value.clone();
        }
        variant.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        world.put_row(&variant);
        world.python(["get", name]).ok("v\n");
        world.run(["get", name]).ok("v\n");
    }
    // The original cannot read these by version.
    world.run(["get", "unpadded", "-v", "1"]).ok("v\n");
    world.run(["get", "dotted", "-v", "1.2.3"]).ok("v\n");
    let all = world.run(["getall"]).json();
    assert_eq!(all.as_object().map(serde_json::Map::len), Some(variants.len() + 1), "{all}");
}

/// Another Rust port writes `SHA1` for what everybody else calls `SHA`.
#[test]
fn sha1_is_sha() {
    let world = World::dynamodb();
    world.python(["put", "row", "v", "-d", "SHA"]).ok("row has been stored\n");
    let mut row = world.row("row");
    row["digest"]["S"] = json!("SHA1");
    world.put_row(&row);
    world.run(["get", "row"]).ok("v\n");
}

#[test]
fn many_at_once() {
    let world = World::dynamodb();
    let document = r#"{"b": "2", "a": "1 ☃", "c\u0064": "x\ny", "a": "last"}"#;
    world.run(["putall", document, "k=v"]).ok("b has been stored\na has been stored\ncd has been stored\n");
    let ours = world.run(["getall", "k=v"]);
    world.python(["getall", "k=v"]).ok(&ours.stdout);
    assert_eq!(ours.json(), json!({"a": "last", "b": "2", "cd": "x\ny"}));
    // Without -v the original stores version 0, whatever its help says.
    world.run(["get", "a", "-v", "0", "k=v"]).ok("last\n");

    world.python_with(br#"{"d": "theirs"}"#, ["putall", "-a", "-", "k=v"]).ok("d has been stored\n");
    world.run(["get", "d", "k=v"]).ok("theirs\n");
}

/// Either deletes what the other stored, with the same words.
#[test]
fn deleting() {
    let world = World::dynamodb();
    let deleting = |name: &str, versions: &[u32]| -> String {
        versions.iter().map(|version| format!("Deleting {name} -- version {version:019}\n")).collect()
    };
    for version in ["1", "2", "10"] {
        world.run(["put", "ours", "v", "-v", version]).ok("ours has been stored\n");
        world.python(["put", "theirs", "v", "-v", version]).ok("theirs has been stored\n");
    }
    world.python(["delete", "ours"]).ok(deleting("ours", &[1, 2, 10]));
    world.run(["delete", "theirs"]).ok(deleting("theirs", &[1, 2, 10]));
    assert!(world.rows().is_empty());
}

/// A key of one's own, named in every way that KMS takes.
#[test]
fn keys_by_id_and_arn() {
    let world = World::dynamodb();
    let id = crate::world::make_key("us-east-1");
    let arn = format!("arn:aws:kms:us-east-1:123456789012:key/{id}");
    world.run(["put", "by-id", "v", "-k", &id]).ok("by-id has been stored\n");
    world.run(["put", "by-arn", "v", "--key", &arn]).ok("by-arn has been stored\n");
    world.python(["get", "by-id"]).ok("v\n");
    world.python(["get", "by-arn"]).ok("v\n");
}
