//! Input that means harm, or as good as: rows, names, documents and files of every kind. Each is read for what it is or
//! refused in words that say which one it is, in bounded time and memory, and never printed as if it were a value.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::types::Value as Cell;
use serde_json::{Value, json};

use crate::servers::servers;
use crate::world::{CLOSED, Ran, SECRET, World};

const PROGRAM: &str = env!("CARGO_BIN_EXE_credstash");

/// Where the local store of a world is, and its key.
const STORE: &str = ".local/share/credstash/credentials.db";
const KEY: &str = ".local/share/credstash/key";

// --- Rows in DynamoDB ---------------------------------------------------------------------------

/// Attributes that cannot be read, each with the words that say why.
fn unreadable() -> Vec<(&'static str, Value, &'static str)> {
    let binary = |text: &str| json!({"B": STANDARD.encode(text)});
    let mut cases = Vec::new();
    for attribute in ["key", "contents", "hmac", "digest"] {
        let why = if attribute == "hmac" { "is neither Binary nor text" } else { "is no text" };
        for value in [
            json!({"N": "5"}),
            json!({"L": [{"S": "YWJj"}]}),
            json!({"L": []}),
            json!({"M": {"S": {"S": "YWJj"}}}),
            json!({"NULL": true}),
            json!({"BOOL": false}),
            json!({"SS": ["YWJj"]}),
            json!({"NS": ["1", "2"]}),
            json!({"BS": [STANDARD.encode("YWJj")]}),
        ] {
            cases.push((attribute, value, why));
        }
        if attribute != "hmac" {
            cases.push((attribute, binary("YWJj"), why));
        }
    }
    for attribute in ["key", "contents"] {
        cases.push((attribute, json!({"S": "YWJ"}), "Incorrect padding"));
        cases.push((attribute, json!({"S": "Y"}), "Invalid base64-encoded string"));
        cases.push((attribute, json!({"S": "YQ=\u{202e}"}), "Incorrect padding"));
    }
    for digits in ["a", "0x", "zz", "é", "12 34", "\u{1b}[2J", "\0\0"] {
        cases.push(("hmac", json!({"S": digits}), ""));
        cases.push(("hmac", binary(digits), ""));
    }
    for digest in ["SHA3", "sha256", " SHA256", "SHA256\0", "\u{1b}[2J", &"x".repeat(10_000)] {
        cases.push(("digest", json!({"S": digest}), "unknown digest"));
    }
    cases
}

/// Attributes that can be read, of rows that were never sealed so.
fn changed() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("key", json!({"S": STANDARD.encode("nobody wrapped this")}), "KMS ERROR"),
        ("contents", json!({"S": "!!!!"}), "INTEGRITY ERROR"),
        ("contents", json!({"S": STANDARD.encode([0xff; 1000])}), "INTEGRITY ERROR"),
        ("hmac", json!({"S": "00"}), "INTEGRITY ERROR"),
        ("hmac", json!({"B": STANDARD.encode("00".repeat(32))}), "INTEGRITY ERROR"),
        ("digest", json!({"S": "MD5"}), "INTEGRITY ERROR"),
    ]
}

#[test]
fn attributes_of_every_type_and_none_that_is_right() {
    let world = World::dynamodb();
    world.run(["put", "good", "v"]).ok("good has been stored\n");
    let good = world.row("good");
    let named = |name: &str, attribute: &str, value: &Value| {
        let mut row = good.clone();
        row["name"]["S"] = json!(name);
        row[attribute] = value.clone();
        row
    };

    let mut lines = Vec::new();
    for (number, (attribute, value, why)) in unreadable().iter().enumerate() {
        let name = format!("bad.{number:03}");
        world.put_row(&named(&name, attribute, value));
        let says = format!("version 0000000000000000001 of {name}: attribute '{attribute}': ");
        world.run(["get", &name]).fails(1, &says).mentions(why);
        lines.push((name, says));
    }
    for (number, (attribute, value, why)) in changed().iter().enumerate() {
        let name = format!("changed.{number}");
        world.put_row(&named(&name, attribute, value));
        world.run(["get", &name]).fails(1, why);
        lines.push((name, (*why).to_owned()));
    }
    let comments = [json!({"N": "5"}), json!({"L": []}), json!({"NULL": true}), json!({"B": "AAAA"})];
    for (number, comment) in comments.iter().enumerate() {
        let name = format!("comment.{number}");
        world.put_row(&named(&name, "comment", comment));
        world.run(["get", &name]).ok("v\n");
    }

    // Many at once: nothing, and each that is unreadable on a line of its own, whatever it holds.
    for command in [&["getall"][..], &["getall", "-v", "1"], &["get", "*"], &["getall", "-f", "csv"]] {
        let all = world.run(command);
        assert_eq!((all.code, all.stdout.len()), (Some(1), 0), "{all}");
        assert_eq!(all.stderr.lines().count(), lines.len(), "{all}");
        for (line, (name, says)) in all.stderr.lines().zip(&lines) {
            assert!(line.starts_with(&format!("{name}: ")) && line.contains(says), "{line}");
            assert!(!line.contains(char::is_control), "{line:?}");
        }
    }
    let readable = world.run(["getall", "--skip-undecryptable"]);
    let expected = json!({"comment.0": "v", "comment.1": "v", "comment.2": "v", "comment.3": "v", "good": "v"});
    assert_eq!((readable.code, readable.json()), (Some(0), expected), "{readable}");
    assert_eq!(readable.stderr.lines().filter(|line| line.contains("left out ")).count(), lines.len(), "{readable}");

    // What needs no value does not mind.
    let names: Vec<String> =
        world.rows().iter().map(|row| row["name"]["S"].as_str().expect("text").to_owned()).collect();
    world.run(["keys"]).ok(format!("{}\n", names.join("\n")));
    assert_eq!(world.run(["list"]).text().lines().count(), names.len());
    for name in ["bad.000", "bad.010", "bad.030", "changed.0"] {
        world.run(["put", "-a", name, "new"]).ok(format!("{name} has been stored\n"));
        world.run(["get", name]).ok("new\n");
        assert_eq!(world.run(["get", name, "-v", "1"]).code, Some(1));
        let deleted = [1, 2].map(|version| format!("Deleting {name} -- version {version:019}\n"));
        world.run(["delete", name]).ok(deleted.concat());
        world.run(["get", name]).fails(1, "couldn't be found");
    }
}

/// moto takes empty texts, as DynamoDB does.
#[test]
fn attributes_that_are_empty() {
    let world = World::moto();
    world.run(["put", "good", "v"]).ok("good has been stored\n");
    let good = world.row("good");
    for (attribute, value, why) in [
        ("key", json!({"S": ""}), "KMS ERROR"),
        ("contents", json!({"S": ""}), "INTEGRITY ERROR"),
        ("hmac", json!({"S": ""}), "INTEGRITY ERROR"),
        ("hmac", json!({"B": ""}), "INTEGRITY ERROR"),
        ("digest", json!({"S": ""}), "attribute 'digest': unknown digest ''"),
    ] {
        let mut row = good.clone();
        row["name"]["S"] = json!("empty");
        row[attribute] = value;
        world.put_row(&row);
        world.run(["get", "empty"]).fails(1, why);
        let all = world.run(["getall"]);
        assert_eq!((all.code, all.stdout.len()), (Some(1), 0), "{all}");
        assert!(all.stderr.starts_with("empty: ") && all.stderr.lines().count() == 1, "{all}");
        world.run(["getall", "--skip-undecryptable"]).prints("{\n    \"good\": \"v\"\n}\n");
    }
}

// --- Rows in SQLite -----------------------------------------------------------------------------

/// The marks of a store can be put on a table that takes any type.
#[test]
fn columns_of_every_type_and_none_that_is_right() {
    let world = World::local();
    world.run(["put", "good", "v"]).ok("good has been stored\n");
    let database = rusqlite::Connection::open(world.home(STORE)).expect("opened");
    database
        .execute_batch(
            "ALTER TABLE credential RENAME TO strict;
             CREATE TABLE credential (name, version, key, contents, hmac, digest, comment, bound);
             INSERT INTO credential SELECT name, version, key, contents, hmac, digest, comment, bound FROM strict;
             DROP TABLE strict",
        )
        .expect("changed");
    let columns = ["key", "contents", "hmac", "digest", "comment", "bound"];
    let cells = [
        Cell::Null,
        Cell::Integer(5),
        Cell::Real(0.5),
        Cell::Text(String::new()),
        Cell::Text("\u{1b}[2J\0".to_owned()),
        Cell::Blob(Vec::new()),
        Cell::Blob(vec![0xff; 70]),
    ];
    let mut lines = Vec::new();
    for column in columns {
        for (number, cell) in cells.iter().enumerate() {
            let name = format!("{column}.{number}");
            let copy = format!(
                "INSERT INTO credential (name, version, {column}, {others})
                    SELECT ?, version, ?, {others} FROM credential WHERE name = 'good'",
                others = columns.into_iter().filter(|other| *other != column).collect::<Vec<_>>().join(", ")
            );
            database.execute(&copy, (&name, cell)).expect("stored");
            let ran = world.run(["get", &name]);
            match (column, cell) {
                ("comment", _) => {
                    ran.ok("v\n");
                    continue;
                }
                // A column of integers, in which any but 0 says yes.
                ("bound", Cell::Integer(_)) => ran.fails(1, "LOCAL KEY ERROR").mentions("in another place"),
                ("bound", _) => ran.fails(1, &format!("{name}: attribute 'bound': is neither 0 nor 1")),
                ("digest", Cell::Text(_)) => ran.fails(1, "attribute 'digest': unknown digest"),
                ("key", Cell::Blob(_)) => ran.fails(1, "LOCAL KEY ERROR"),
                ("contents" | "hmac", Cell::Blob(_)) => ran.fails(1, "INTEGRITY ERROR").mentions(&name),
                _ => {
                    let kind = if column == "digest" { "text" } else { "Blob" };
                    let says = format!("version 0000000000000000001 of {name}: attribute '{column}': is no {kind}");
                    ran.fails(1, &says)
                }
            };
            lines.push(name);
        }
    }
    lines.sort();

    for command in [&["getall"][..], &["getall", "-v", "1"], &["get", "*"]] {
        let all = world.run(command);
        assert_eq!((all.code, all.stdout.len()), (Some(1), 0), "{all}");
        let named: Vec<&str> = all.stderr.lines().filter_map(|line| line.split_once(": ")).map(|line| line.0).collect();
        assert_eq!(named, lines, "{all}");
    }
    let readable = world.run(["getall", "--skip-undecryptable"]).json();
    assert_eq!(readable.as_object().expect("an object").len(), 1 + cells.len(), "{readable}");
    assert_eq!(world.run(["keys"]).text().lines().count(), 1 + columns.len() * cells.len());

    // A row that has no name is the store's affair.
    for (name, version) in [("X''", "'1'"), ("NULL", "'1'"), ("5", "'1'"), ("''", "'1'"), ("'a'", "X'ff'")] {
        let row = format!(
            "INSERT INTO credential SELECT {name}, {version}, key, contents, hmac, digest, NULL, 0 FROM credential WHERE name = 'good'"
        );
        database.execute(&row, []).expect("stored");
        for command in [&["getall"][..], &["list"], &["keys"], &["get", "*"]] {
            world.run(command).fails(1, "the credential store ").mentions("credentials.db");
        }
        world.run(["get", "good"]).ok("v\n");
        database.execute("DELETE FROM credential WHERE rowid = last_insert_rowid()", []).expect("deleted");
    }
}

// --- Many, and large ----------------------------------------------------------------------------

/// The seal covers neither name nor version, so that one row makes many.
#[test]
fn ten_thousand_versions_of_one_name() {
    const VERSIONS: u32 = 10_000;
    let dynamodb = World::dynamodb();
    dynamodb.run(["put", "many", "v"]).ok("many has been stored\n");
    let row = dynamodb.row("many");
    let versions: Vec<u32> = (2..=VERSIONS).collect();
    for batch in versions.chunks(25) {
        let put = |version: &u32| {
            let mut row = row.clone();
            row["version"]["S"] = json!(format!("{version:019}"));
            json!({"PutRequest": {"Item": row}})
        };
        let puts: Vec<Value> = batch.iter().map(put).collect();
        let answer = dynamodb.call("BatchWriteItem", json!({"RequestItems": {dynamodb.table(): puts}}));
        assert_eq!(answer["UnprocessedItems"], json!({}));
    }
    let local = World::local();
    local.run(["put", "many", "v"]).ok("many has been stored\n");
    let copies = "WITH RECURSIVE number(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM number WHERE n < ?)
                  INSERT INTO credential (name, version, key, contents, hmac, digest)
                      SELECT name, printf('%019d', n), key, contents, hmac, digest FROM credential, number";
    let database = rusqlite::Connection::open(local.home(STORE)).expect("opened");
    assert_eq!(database.execute(copies, [VERSIONS]), Ok(versions.len()));

    for world in [dynamodb, local] {
        within(&world, &["get", "many"]).ok("v\n");
        within(&world, &["get", "many", "-v", "5000"]).ok("v\n");
        within(&world, &["put", "-a", "many", "newest"]).ok("many has been stored\n");
        within(&world, &["get", "many", "-v", "10001"]).ok("newest\n");
        within(&world, &["getall"]).ok("{\n    \"many\": \"newest\"\n}\n");
        within(&world, &["keys"]).ok("many\n");
        let list = within(&world, &["list"]);
        assert_eq!(list.text().lines().count(), 10_001);
        assert!(list.text().ends_with("many -- version 0000000000000010001 -- comment \n"));
    }
}

/// DynamoDB's limit holds for SQLite too, to the byte.
#[test]
fn the_largest_value_in_sqlite() {
    let world = World::local();
    // Names and values of all attributes but the contents: key (101 bytes, base64) and hmac (hexadecimal) among them.
    let others = 4 + 1 + 7 + 19 + 3 + 136 + 8 + 4 + 64 + 6 + 6;
    let largest = (400 * 1024 - others) / 4 * 3;
    let value: Vec<u8> = (0..=255).cycle().take(largest).collect();
    world.run_with(&value, ["put", "n", "-"]).ok("n has been stored\n");
    world.run(["get", "-n", "n"]).ok(&value);
    world.run_with(&vec![0; largest + 1], ["put", "-a", "n", "-"]).fails(1, "n is too large");
    let file = world.file("large", vec![0; 1_000_000]);
    world.run(["put", "-a", "n", &format!("@{file}")]).fails(1, "n is too large").mentions("1000000 bytes");
}

// --- Names --------------------------------------------------------------------------------------

/// Names that would clear a screen, begin a line, hide what follows, or turn it round.
const NAMES: [&str; 8] = [
    "ansi\u{1b}[2J\u{1b}[1;1H",
    "bell\u{7}",
    "bidi\u{202e}txt.exe\u{2066}",
    "c1\u{9b}2J",
    "feed\nroot -- version 9",
    "nul\u{1}\u{7f}",
    "return\rgone",
    "title\u{1b}]0;x\u{7}",
];

#[test]
fn names_are_shown_on_a_terminal_and_exact_elsewhere() {
    let world = World::dynamodb();
    let document: serde_json::Map<String, Value> =
        NAMES.map(|name| (name.to_owned(), json!("v"))).into_iter().collect();
    let document = Value::Object(document);
    let stored: String = NAMES.map(|name| format!("{name} has been stored\n")).concat();
    world.run(["putall", "-c", "\u{1b}[31mred", &document.to_string()]).ok(stored);

    // In a pipe: as they are.
    world.run(["keys"]).ok(NAMES.map(|name| format!("{name}\n")).concat());
    assert_eq!(world.run(["getall"]).json(), document);
    let csv = "import csv, json, sys\nprint(json.dumps(dict(filter(None, csv.reader(open(0, newline='', encoding='utf-8'))))))";
    let yaml = "import json, sys, yaml\nprint(json.dumps(yaml.safe_load(sys.stdin.buffer)))";
    for (format, script) in [("csv", csv), ("yaml", yaml)] {
        let written = world.run(["getall", "-f", format]);
        let read = world.script(script, &[], &written.stdout);
        assert_eq!(serde_json::from_slice::<Value>(&read).expect("JSON"), document, "{format}\n{written}");
    }
    for name in NAMES {
        world.run(["get", name]).ok("v\n");
    }

    // In a log: a line each, and nothing but text, since it may be read on a terminal.
    for name in NAMES {
        let log = world.run(["--log-level", "TRACE", "get", name]).stderr;
        assert!(log.lines().all(|line| line.starts_with('[')), "{log:?}");
        assert!(!log.contains(|character: char| character.is_control() && character != '\n'), "{log:?}");
    }

    // On a terminal: a line each, and nothing but text.
    let shown = |args: &[&str], code: i32| {
        let ran = world.on_terminal(&[&[PROGRAM], args].concat(), &[]);
        assert_eq!(ran.code, Some(code), "{ran}");
        let tricks = |character: char| {
            (character.is_control() && character != '\n')
                || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!ran.text().contains(tricks), "{ran}");
        ran.text().to_owned()
    };
    let escaped = |name: &str| -> String {
        name.chars()
            .flat_map(|character| match character.is_ascii_graphic() || character == ' ' {
                true => character.to_string().chars().collect::<Vec<_>>(),
                false => character.escape_default().collect(),
            })
            .collect()
    };
    assert_eq!(shown(&["keys"], 0), NAMES.map(|name| format!("{}\n", escaped(name))).concat());
    let list = shown(&["list"], 0);
    assert_eq!(list.lines().count(), NAMES.len());
    for (line, name) in list.lines().zip(NAMES) {
        assert!(line.starts_with(&escaped(name)) && line.ends_with(r"-- comment \u{1b}[31mred"), "{line}");
    }
    for name in NAMES {
        let name_shown = escaped(name);
        assert_eq!(shown(&["put", "-a", name, "v"], 0), format!("{name_shown} has been stored\n"));
        assert_eq!(shown(&["put", "-v", "1", name, "v"], 1).lines().count(), 1);
        shown(&["get", name, "-v", "7"], 1);
        assert!(shown(&["delete", name], 0).starts_with(&format!("Deleting {name_shown} -- version ")));
    }
}

// --- Documents ----------------------------------------------------------------------------------

#[test]
fn documents_that_mean_harm() {
    let world = World::local();
    let utf16 = |text: &str| [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let with_secret = |end: &str| format!("{{\"a\": \"{SECRET}\", {end}").into_bytes();
    let large = |unit: &str| unit.repeat((50 << 20) / unit.len()).into_bytes();
    for (what, document) in [
        ("nothing", Vec::new()),
        ("space", b" \n\t ".to_vec()),
        ("zeros", vec![0; 100]),
        ("lists in lists", "[".repeat(100_000).into_bytes()),
        ("lists in a member", with_secret(&format!("\"b\": {}", "[".repeat(100_000)))),
        ("objects in objects", "{\"a\":".repeat(100_000).into_bytes()),
        ("closed lists", with_secret(&format!("\"b\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000)))),
        ("a huge exponent", with_secret("\"b\": 1e999999999}")),
        ("a huge number", with_secret(&format!("\"b\": {}}}", "9".repeat(100_000)))),
        ("no number", with_secret("\"b\": NaN}")),
        ("infinity", with_secret("\"b\": -Infinity}")),
        ("half a pair", with_secret(r#""b": "\ud800"}"#)),
        ("a raw line feed", with_secret("\"b\": \"\n\"}")),
        ("a comment", with_secret("\"b\": \"x\"} // end")),
        ("two documents", [with_secret("\"b\": \"x\"}"), with_secret("\"c\": \"x\"}")].concat()),
        ("a byte order mark", [b"\xef\xbb\xbf".to_vec(), with_secret("\"b\": \"x\"}")].concat()),
        ("UTF-16", utf16(&format!("{{\"a\": \"{SECRET}\"}}"))),
        ("Latin-1", with_secret("\"b\": \"").into_iter().chain(*b"\xe9\"}").collect()),
        ("50 MB of x", large("x")),
        ("50 MB of lists", large("[")),
        ("50 MB of a text", [with_secret("\"b\": \""), large(SECRET)].concat()),
        ("70 MB", b" ".repeat(70 << 20)),
    ] {
        let file = world.file("document", document);
        let ran = reading(&file, &world, &["putall", "-"]);
        assert!(ran.code == Some(1) && ran.stderr.len() < 1000, "{what}: {ran}");
        ran.fails(1, "");
        within(&world, &["putall", &format!("@{file}")]).fails(1, "").says(&ran.stderr);
    }
    assert!(!world.home(".local").exists(), "nothing is stored");

    // A member that is too large is refused before anything is sent.
    let mut world = World::dynamodb();
    world.set("AWS_ENDPOINT_URL_DYNAMODB", CLOSED).set("AWS_ENDPOINT_URL_KMS", CLOSED);
    let document = format!("{{\"large\": \"{}\"}}", "x".repeat(50 << 20));
    let ran = world.run_with(document.as_bytes(), ["putall", "-"]);
    assert_eq!((ran.code, ran.stdout.len()), (Some(1), 0), "{ran}");
    ran.mentions("large is too large").mentions("52428800 bytes");
}

// --- Files that are none ------------------------------------------------------------------------

/// Makes a thing at a path.
type Make = fn(&Path);

/// Things that can be where a file is expected.
const THINGS: [(&str, Make); 6] = [
    ("a folder", |path| fs::create_dir(path).expect("made")),
    ("a pipe", |path| {
        let made = Command::new("mkfifo").arg(path).status().expect("it runs");
        assert!(made.success());
    }),
    ("10 GB", |path| File::create(path).and_then(|file| file.set_len(10 << 30)).expect("made")),
    ("zeros without end", |path| std::os::unix::fs::symlink("/dev/zero", path).expect("made")),
    ("a loop", |path| std::os::unix::fs::symlink(path, path).expect("made")),
    ("below a file", |path| {
        fs::write(path.with_extension("file"), "").expect("written");
        std::os::unix::fs::symlink(path.with_extension("file").join("x"), path).expect("made");
    }),
];

#[test]
fn a_configuration_that_is_no_file() {
    let mut world = World::dynamodb();
    world.run(["put", "a", "v"]).ok("a has been stored\n");
    let path = world.home(".credstash");
    let named = path.to_str().expect("UTF-8").to_owned();
    for (what, make) in THINGS {
        make(&path);
        for command in [&["list"][..], &["get", "a"], &["put", "a", SECRET], &["setup", "--save-kms-region", "x"]] {
            let ran = within(&world, command);
            assert_eq!(ran.code, Some(1), "{what}: {ran}");
            ran.fails(1, &named);
        }
        // What is given otherwise is no reason to read it.
        world.set("CREDSTASH_REQUIRE_BOUND", "0");
        within(&world, &["get", "a", "--kms-region", "us-east-1"]).ok("v\n");
        world.unset("CREDSTASH_REQUIRE_BOUND");
        assert!(
            fs::symlink_metadata(&path).is_ok_and(|thing| !thing.is_file() || thing.len() == 10 << 30),
            "{what} stays"
        );
        if fs::remove_dir(&path).is_err() {
            fs::remove_file(&path).expect("removed");
        }
    }
    for content in
        ["", "{", "[]", "null", "{\"kms-region\": 5}", "\u{feff}{}", &"[".repeat(100_000), &" ".repeat(2 << 20)]
    {
        fs::write(&path, content).expect("written");
        within(&world, &["list"]).fails(1, &named);
    }
    fs::write(&path, b"{\"kms-region\": \"\xff\"}").expect("written");
    within(&world, &["list"]).fails(1, &named).mentions("UTF-8");

    // A link to what is not there is as good as nothing there.
    fs::remove_file(&path).expect("removed");
    std::os::unix::fs::symlink(world.home("nowhere"), &path).expect("made");
    within(&world, &["get", "a"]).ok("v\n");
}

#[test]
fn a_key_that_is_no_file() {
    let world = World::local();
    world.run(["put", "a", "v"]).ok("a has been stored\n");
    let path = world.home(KEY);
    let kept = fs::read(&path).expect("read");
    let refused = || {
        for command in [&["get", "a"][..], &["getall"], &["put", "-a", "a", SECRET], &["list"]] {
            within(&world, command).fails(1, path.to_str().expect("UTF-8"));
        }
    };
    for (what, make) in THINGS {
        fs::remove_file(&path).expect("removed");
        make(&path);
        if what == "10 GB" {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
        }
        refused();
        if fs::remove_dir(&path).is_ok() {
            fs::write(&path, "").expect("written");
        }
    }
    fs::remove_file(&path).expect("removed");
    for content in [&b""[..], &kept[..31], &[kept.as_slice(), b"\n"].concat()] {
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
        refused();
    }
    // The store is as it was.
    fs::write(&path, kept).expect("written");
    world.run(["get", "a"]).ok("v\n");
}

#[test]
fn a_store_that_is_no_file() {
    let world = World::no_cloud();
    let path = world.path("store");
    let url = format!("sqlite:{}", path.display());
    for (what, make) in THINGS {
        make(&path);
        for command in [&["get", "a"][..], &["list"], &["put", "a", SECRET], &["setup"]] {
            let ran = within(&world, &[&["--store", &url], command].concat());
            assert_eq!(ran.code, Some(1), "{what}: {ran}");
            ran.fails(1, path.to_str().expect("UTF-8"));
        }
        if fs::remove_dir(&path).is_err() {
            fs::remove_file(&path).expect("removed");
        }
    }
}

#[test]
fn values_and_documents_that_have_no_end() {
    let world = World::local();
    for (what, make) in THINGS {
        let path = world.path("value");
        make(&path);
        let file = format!("@{}", path.display());
        for command in [["put", "a", &file].as_slice(), &["putall", &file]] {
            match what {
                // A pipe is read when somebody writes to it; see below.
                "a pipe" => {}
                "10 GB" | "zeros without end" => {
                    within(&world, command).fails(1, "holds more than 64 MiB");
                }
                _ => {
                    within(&world, command).fails(2, "Unable to read file");
                }
            }
        }
        if fs::remove_dir(&path).is_err() {
            fs::remove_file(&path).expect("removed");
        }
    }
    for command in [&["put", "a", "-"][..], &["putall", "-"]] {
        reading("/dev/zero", &world, command).fails(1, "holds more than 64 MiB");
    }
    assert!(!world.home(".local").exists(), "nothing is stored");
}

/// `put x @<(command)`, and a pipe with a name.
#[test]
fn a_pipe_is_a_source_of_values() {
    let world = World::local();
    let mut command = world.other("bash");
    command.args(["-c", r#""$0" put a @<(printf one) && "$0" putall @<(printf '{"b": "two"}')"#, PROGRAM]);
    Ran::of(command, b"").ok("a has been stored\nb has been stored\n");

    let pipe = world.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
    let value = vec![b'x'; 300_000]; // more than a pipe holds at once
    std::thread::scope(|scope| {
        scope.spawn(|| fs::write(&pipe, &value).expect("somebody reads it"));
        within(&world, &["put", "c", &format!("@{}", pipe.display())]).ok("c has been stored\n");
    });
    world.run(["get", "a"]).ok("one\n");
    world.run(["get", "b"]).ok("two\n");
    world.run(["get", "-n", "c"]).ok(&value);
}

// --- Bounds -------------------------------------------------------------------------------------

/// Runs the program under test, which must come to an end in a minute and with 4 GB of address space.
fn within(world: &World, args: &[&str]) -> Ran {
    reading("/dev/null", world, args)
}

/// As [`within`], with a file as its standard input.
fn reading(stdin: &str, world: &World, args: &[&str]) -> Ran {
    const BOUNDED: &str = "
import os, resource, signal, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
os.dup2(os.open(sys.argv[1], os.O_RDONLY), 0)
signal.alarm(60)
os.execv(sys.argv[2], sys.argv[2:])";
    let mut python = world.other(&servers().python);
    python.args(["-c", BOUNDED, stdin, PROGRAM]).args(args);
    let ran = Ran::of(python, b"");
    assert!(ran.code.is_some(), "must end by itself\n{ran}");
    assert!(!ran.stderr.contains(SECRET), "a secret is on stderr\n{ran}");
    ran
}
