//! Bad input and bad weather: each gets one line that names the cause and what to do, the right exit code, and nothing
//! on standard output.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::servers::servers;
use crate::world::{CLOSED, Ran, Recorder, SECRET, Tls, World, make_key};

/// Every command that reads or writes the table.
const COMMANDS: [&[&str]; 8] = [
    &["list"],
    &["keys"],
    &["get", "a"],
    &["get", "a", "-v", "1"],
    &["get", "a*"],
    &["getall"],
    &["delete", "a"],
    &["put", "-a", "a", SECRET],
];

// --- The store ----------------------------------------------------------------------------------

#[test]
fn a_missing_table_says_what_to_run() {
    let world = World::without_table();
    for command in COMMANDS.iter().chain(&[&["put", "a", SECRET][..]]) {
        world
            .run(*command)
            .fails(1, "An error occurred (ResourceNotFoundException) when calling the ")
            .mentions(world.table())
            .mentions("credstash setup");
    }
    let putall = world.run(["putall", &format!(r#"{{"a": "{SECRET}"}}"#)]);
    assert_eq!((putall.code, putall.stdout.len()), (Some(1), 0), "{putall}");
    putall.mentions("ResourceNotFoundException").mentions("credstash setup");
}

/// The keys of the table tell: only what has `name` and `version`, both text, is a credential store.
#[test]
fn a_table_of_something_else_is_refused() {
    let world = World::without_table();
    let table = |name: &str, keys: &[(&str, &str, &str)], row: Value| {
        let schema = keys.iter().map(|(key, kind, _)| json!({"AttributeName": key, "KeyType": kind}));
        let types = keys.iter().map(|(key, _, kind)| json!({"AttributeName": key, "AttributeType": kind}));
        let table = format!("{}-{name}", world.table());
        world.call(
            "CreateTable",
            json!({
                "TableName": table,
                "KeySchema": schema.collect::<Vec<_>>(),
                "AttributeDefinitions": types.collect::<Vec<_>>(),
                "BillingMode": "PAY_PER_REQUEST",
            }),
        );
        world.call("PutItem", json!({"TableName": table, "Item": row}));
        table
    };
    for table in [
        table("other-keys", &[("id", "HASH", "S")], json!({"id": {"S": "x"}})),
        table(
            "number",
            &[("name", "HASH", "S"), ("version", "RANGE", "N")],
            json!({"name": {"S": "a"}, "version": {"N": "1"}}),
        ),
    ] {
        for command in COMMANDS {
            let ran = world.run([&["-t", &table], command].concat());
            ran.fails(1, "").mentions(&table).mentions("is not a credential store");
        }
        assert_eq!(world.rows_of(&table).len(), 1, "nothing is stored in it");
    }
    // Who looks for one name in a table without versions finds it, or finds nothing; who reads it all is refused.
    let table = table("no-version", &[("name", "HASH", "S")], json!({"name": {"S": "x"}}));
    for command in [&["list"][..], &["keys"], &["getall"], &["get", "a*"], &["get", "x"]] {
        let ran = world.run([&["-t", &table], command].concat());
        ran.fails(1, "").mentions(&table).mentions("is not a credential store");
    }
    world.run(["-t", &table, "get", "a"]).fails(1, "Item {'name': 'a'} couldn't be found.");
}

#[test]
fn a_name_that_no_table_can_have_is_a_wrong_usage() {
    let mut world = World::without_table();
    world.run(["-t", "a b", "list"]).fails(2, "argument -t/--table: 'a b' cannot be the name of a table");
    world.set("CREDSTASH_DEFAULT_TABLE", "x/y");
    world.run(["list"]).fails(2, "CREDSTASH_DEFAULT_TABLE: 'x/y' cannot be the name of a table");
}

// --- The session --------------------------------------------------------------------------------

#[test]
fn no_credentials() {
    let mut world = World::dynamodb();
    world.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
    for command in COMMANDS {
        world.run(command).fails(1, "Unable to locate credentials").mentions("AWS_ACCESS_KEY_ID");
    }
    world.run(["put", "a", SECRET]).fails(
        1,
        "KMS ERROR: Could not generate key using KMS key alias/credstash (Details: Unable to locate credentials)",
    );
}

#[test]
fn credentials_that_are_not_valid_any_more() {
    let mut world = World::dynamodb();
    let refusing = Recorder::refusing("ExpiredTokenException", "The security token included in the request is expired");
    world.set("AWS_ENDPOINT_URL_DYNAMODB", &refusing.url).set("AWS_ENDPOINT_URL_KMS", &refusing.url);
    for command in COMMANDS {
        world
            .run(command)
            .fails(1, "(ExpiredTokenException)")
            .mentions("The security token included in the request is expired")
            .mentions("log in again");
    }
    world.run(["put", "a", SECRET]).fails(1, "KMS ERROR: ").mentions("is expired").mentions("log in again");
}

#[test]
fn a_caller_who_may_not() {
    let mut world = World::dynamodb();
    let message = "User: arn:aws:iam::123456789012:user/x is not authorized to perform this";
    let refusing = Recorder::refusing("AccessDeniedException", message);
    world.set("AWS_ENDPOINT_URL_DYNAMODB", &refusing.url);
    for command in COMMANDS {
        world.run(command).fails(1, message).mentions("(AccessDeniedException)").mentions("IAM policy");
    }
}

#[test]
fn a_service_that_asks_for_patience_gets_it() {
    let mut world = World::dynamodb();
    world.run(["put", "a", "v"]).ok("a has been stored\n");
    // Longer than the SDK's own attempts last, which are 2 in these worlds.
    let dynamodb = Recorder::throttling(5, &servers().dynamodb);
    let kms = Recorder::throttling(5, &servers().moto);
    world.set("AWS_ENDPOINT_URL_DYNAMODB", &dynamodb.url).set("AWS_ENDPOINT_URL_KMS", &kms.url);
    world.run(["getall"]).ok("{\n    \"a\": \"v\"\n}\n");
    assert_eq!((dynamodb.calls().len(), kms.calls().len()), (6, 6), "each is asked until it answers");
}

#[test]
fn nobody_at_the_endpoint() {
    let mut world = World::dynamodb();
    world.set("AWS_ENDPOINT_URL_DYNAMODB", CLOSED);
    for command in COMMANDS {
        world.run(command).fails(1, "No answer when calling the ").mentions("refused").mentions("AWS_ENDPOINT_URL");
    }
    world.set("AWS_ENDPOINT_URL_DYNAMODB", "http://credstash.invalid");
    world.run(["list"]).fails(1, "No answer when calling the Scan operation").mentions("check the network");
}

/// Something answers, but it is no AWS.
#[test]
fn rubbish_at_the_endpoint() {
    let mut world = World::dynamodb();
    for (status, body) in [(502, json!("<html>Bad Gateway</html>")), (404, json!({"error": "no such page"}))] {
        let rubbish = Recorder::answering(status, &body);
        world.set("AWS_ENDPOINT_URL_DYNAMODB", &rubbish.url);
        world.run(["list"]).fails(1, "Scan operation");
        world.run(["get", "a"]).fails(1, "Query operation");
    }
}

#[test]
fn a_server_that_never_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let mut world = World::without_table();
    world.set("AWS_ENDPOINT_URL_DYNAMODB", &url).set("AWS_ENDPOINT_URL_KMS", &url);
    for command in COMMANDS {
        let given_up = [&["--timeout", "0.3"], command].concat();
        world.run(given_up).fails(1, "gave up after 0.3 s").mentions("--timeout");
        let unanswered = [&["--timeout-read", "0.1"], command].concat();
        world.run(unanswered).fails(1, "No answer when calling the ").mentions("check the network");
    }
    for wrong in ["0", "-1", "soon", "inf", "1e40", ""] {
        world.run(["--timeout", wrong, "list"]).fails(2, "--timeout").mentions("a number of seconds above 0");
    }
}

#[test]
fn an_answer_without_end() {
    let endless = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", endless.local_addr().expect("an address"));
    let answer = |mut client: TcpStream| -> std::io::Result<()> {
        let _ = client.read(&mut [0; 0x10000])?;
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\n")?;
        client.write_all(b"Transfer-Encoding: chunked\r\n\r\n")?;
        let piece = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
        loop {
            client.write_all(&piece)?;
        }
    };
    thread::spawn(move || {
        for client in endless.incoming().flatten() {
            thread::spawn(move || answer(client));
        }
    });
    let mut world = World::without_table();
    world.set("AWS_ENDPOINT_URL", &url).unset("AWS_ENDPOINT_URL_DYNAMODB").unset("AWS_ENDPOINT_URL_KMS");
    for command in COMMANDS {
        world.run(command).fails(1, "No answer when calling the ").mentions("more than 64 MiB came");
    }
}

/// What was deleted before must not bring an older secret back.
#[test]
fn a_deletion_that_fails_midway_leaves_the_newest() {
    let mut world = World::dynamodb();
    for value in ["one", "two", "three"] {
        world.run(["put", "-a", "a", value]).ok("a has been stored\n");
    }
    let denying = Recorder::between(&servers().dynamodb, |call| {
        let is_second = call.operation == "DeleteItem" && call.body.contains("0000000000000000002");
        is_second.then(|| (400, json!({"__type": "com.amazon#AccessDeniedException", "message": "not you"})))
    });
    world.set("AWS_ENDPOINT_URL_DYNAMODB", &denying.url);
    let failed = world.run(["delete", "a"]);
    assert_eq!(failed.code, Some(1), "{failed}");
    failed.mentions("AccessDeniedException");
    world.set("AWS_ENDPOINT_URL_DYNAMODB", &servers().dynamodb);
    world.run(["get", "a"]).ok("three\n");
    world.run(["delete", "a"]);
    assert_eq!(world.rows(), [] as [Value; 0]);
}

#[test]
fn a_certificate_that_nobody_trusts() {
    let mut world = World::moto();
    let tls = Tls::server();
    let url = format!("https://{}", tls.address);
    world.set("AWS_ENDPOINT_URL_DYNAMODB", &url).set("AWS_ENDPOINT_URL_KMS", &url);
    for command in COMMANDS {
        world.run(command).fails(1, "certificate").mentions("AWS_CA_BUNDLE");
    }

    world.set("AWS_CA_BUNDLE", &tls.ca);
    world.run(["put", "a", "v"]).ok("a has been stored\n");
    world.run(["get", "a"]).ok("v\n");

    // No TLS at all where it is expected.
    let plain = Recorder::answering(200, &json!({}));
    world.set("AWS_ENDPOINT_URL_DYNAMODB", plain.url.replace("http:", "https:"));
    world.run(["list"]).fails(1, "No answer when calling the Scan operation");
}

#[test]
fn a_bundle_of_certificates_that_cannot_be_used() {
    let mut world = World::moto();
    world.set("AWS_ENDPOINT_URL_DYNAMODB", format!("https://{}", Tls::server().address));
    let empty = world.file("empty.pem", "no certificate in here\n");
    let missing = world.path("missing.pem").to_str().expect("UTF-8").to_owned();
    for bundle in [empty, missing] {
        world.set("AWS_CA_BUNDLE", &bundle);
        world.run(["list"]).fails(1, &bundle);
    }
}

// --- The key ------------------------------------------------------------------------------------

/// The keys of the context that was given help to see what is wrong; its values may be secret.
#[test]
fn a_wrong_context() {
    let world = World::dynamodb();
    world.run(["put", "a", "v", "env=prod", "app=x"]).ok("a has been stored\n");
    let sentence = "KMS ERROR: Could not decrypt hmac key with KMS. The encryption context provided may not match the \
                    one used when the credential was stored.";
    world.run(["get", "a"]).fails(1, sentence).mentions("No context was given");
    let wrong = world.run(["get", "a", "env=other-value", "zone=z"]);
    wrong.fails(1, sentence).mentions("env, zone");
    assert!(!wrong.stderr.contains("other-value"), "{wrong}");
    world.run(["get", "a", "env=prod"]).fails(1, sentence);
    world.run(["get", "a", "env=prod", "app=x", "more=y"]).fails(1, sentence);
    world.run(["get", "a", "app=x", "env=prod"]).ok("v\n");
}

#[test]
fn a_key_that_is_not_there() {
    let world = World::dynamodb();
    world
        .run(["put", "a", SECRET, "-k", "alias/none"])
        .fails(1, "KMS ERROR: Could not generate key using KMS key alias/none (Details: An error occurred (NotFoundException)")
        .mentions("-k");
    assert!(world.rows().is_empty(), "nothing is stored");
}

/// moto goes on using a disabled key, so that the answers are those that KMS is documented to give.
#[test]
fn a_key_that_cannot_be_used() {
    let mut world = World::dynamodb();
    world.run(["put", "a", "v"]).ok("a has been stored\n");
    for (code, hint) in
        [("DisabledException", "-k"), ("KMSInvalidStateException", "-k"), ("AccessDeniedException", "IAM policy")]
    {
        let refusing = Recorder::refusing(code, "arn:aws:kms:us-east-1:123456789012:key/x says no");
        world.set("AWS_ENDPOINT_URL_KMS", &refusing.url);
        world
            .run(["put", "b", SECRET, "-k", "alias/team"])
            .fails(1, "KMS ERROR: Could not generate key using KMS key alias/team (Details: An error occurred (")
            .mentions(code)
            .mentions("key/x says no")
            .mentions(hint);
        world
            .run(["get", "a"])
            .fails(1, "KMS ERROR: Decryption error An error occurred (")
            .mentions(code)
            .mentions("when calling the Decrypt operation: arn:aws:kms:us-east-1:123456789012:key/x says no");
    }
    assert_eq!(world.rows().len(), 1, "nothing is stored");
}

// --- Rows ---------------------------------------------------------------------------------------

/// A row that cannot be read is named, with what is wrong in it.
#[test]
fn malformed_rows() {
    let world = World::dynamodb();
    world.run(["put", "good", "v"]).ok("good has been stored\n");
    let good = world.row("good");
    let bytes = |text: &str| json!({"B": STANDARD.encode(text)});
    let cases = [
        ("key", Value::Null, "missing"),
        ("contents", Value::Null, "missing"),
        ("hmac", Value::Null, "missing"),
        ("key", json!({"S": "YWJ"}), "Incorrect padding"),
        ("contents", json!({"S": "YWJjY"}), "Invalid base64-encoded string"),
        ("hmac", bytes("abc"), ""),
        ("hmac", bytes("zz"), ""),
        ("hmac", json!({"S": "no hex"}), ""),
        ("digest", json!({"S": "SHA3"}), "SHA3"),
        ("digest", json!({"S": "sha256"}), "sha256"),
        ("key", json!({"N": "5"}), ""),
        ("contents", json!({"L": []}), ""),
        ("hmac", json!({"N": "5"}), ""),
        ("digest", json!({"BOOL": true}), ""),
    ];
    for (number, (attribute, value, words)) in cases.iter().enumerate() {
        let mut row = good.clone();
        row["name"]["S"] = json!(format!("bad.{number}"));
        row[*attribute] = value.clone();
        row.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        world.put_row(&row);
        let name = format!("bad.{number}");
        let names_all = |ran: &Ran| {
            ran.fails(1, words).mentions(&name).mentions("0000000000000000001").mentions(&format!("'{attribute}'"));
        };
        names_all(&world.run(["get", &name]));
        names_all(&world.run(["get", &name, "-v", "1"]));
    }

    let all = world.run(["getall"]);
    assert_eq!((all.code, all.stdout.len()), (Some(1), 0), "{all}");
    for (number, (attribute, ..)) in cases.iter().enumerate() {
        let line = all.stderr.lines().find(|line| line.starts_with(&format!("bad.{number}: ")));
        assert!(line.is_some_and(|line| line.contains(attribute)), "bad.{number} is named with its {attribute}\n{all}");
    }
    world.run(["getall", "--skip-undecryptable"]).prints("{\n    \"good\": \"v\"\n}\n");
}

/// One changed bit anywhere, and the value is not shown.
#[test]
fn changed_rows() {
    let world = World::dynamodb();
    world.run(["put", "a", SECRET]).ok("a has been stored\n");
    let row = world.row("a");
    let flipped = |attribute: &str, kind: &str| {
        let mut changed = row.clone();
        let mut bytes = STANDARD.decode(row[attribute][kind].as_str().expect("a text")).expect("base64");
        let last = bytes.last_mut().expect("not empty");
        // Another digit in the hexadecimal text of the HMAC, another bit elsewhere.
        *last = if kind == "B" { if *last == b'0' { b'1' } else { b'0' } } else { *last ^ 1 };
        changed[attribute][kind] = json!(STANDARD.encode(bytes));
        changed
    };
    let mut other_digest = row.clone();
    other_digest["digest"]["S"] = json!("SHA512");
    for changed in [flipped("contents", "S"), flipped("hmac", "B"), other_digest] {
        world.put_row(&changed);
        world.run(["get", "a"]).fails(1, "INTEGRITY ERROR: Computed HMAC on a does not match stored HMAC");
    }
    world.put_row(&flipped("key", "S"));
    world.run(["get", "a"]).fails(1, "KMS ERROR: Could not decrypt hmac key with KMS.");
}

#[test]
fn getall_is_complete_or_nothing() {
    let world = World::dynamodb();
    for (name, context) in [("a", None), ("b", Some("k=v")), ("c", Some("k=w")), ("d", None)] {
        world.run(["put", name, SECRET].into_iter().chain(context)).ok(format!("{name} has been stored\n"));
    }
    for command in [&["getall"][..], &["get", "*"], &["getall", "-f", "csv"], &["get", "*", "-f", "shell"]] {
        let ran = world.run(command);
        assert_eq!((ran.code, ran.stdout.len()), (Some(1), 0), "{ran}");
        let named: Vec<&str> =
            ran.stderr.lines().filter_map(|line| line.split_once(": KMS ERROR")).map(|l| l.0).collect();
        assert_eq!(named, ["b", "c"], "{ran}");
    }
    // Asked for, a part will do; what is left out is said.
    let expected = format!("{{\n    \"a\": \"{SECRET}\",\n    \"d\": \"{SECRET}\"\n}}");
    let part = world.run(["getall", "--skip-undecryptable"]);
    part.prints(format!("{expected}\n")).mentions("left out b: ").mentions("left out c: ");
    world.run(["get", "*", "--skip-undecryptable"]).prints(expected);

    // A name that does not have the version is as much of a gap.
    world.run(["put", "a", SECRET, "-v", "2"]).ok("a has been stored\n");
    let versions = world.run(["get", "*", "-v", "2"]);
    assert_eq!((versions.code, versions.stdout.len()), (Some(1), 0), "{versions}");
    for name in ["b", "c", "d"] {
        let version = "0000000000000000002";
        versions.mentions(&format!("Item {{'name': '{name}', 'version': '{version}'}} couldn't be found."));
    }
}

#[test]
fn what_is_not_there() {
    let world = World::dynamodb();
    world.run(["put", "a", "v"]).ok("a has been stored\n");
    world.run(["get", "b"]).fails(1, "").says("Item {'name': 'b'} couldn't be found.\n");
    world
        .run(["get", "a", "-v", "3"])
        .fails(1, "")
        .says("Item {'name': 'a', 'version': '0000000000000000003'} couldn't be found.\n");
    world.run(["delete", "b"]).fails(1, "").says("Item {'name': 'b'} couldn't be found.\n");
    // A star is a name like any other to delete.
    world.run(["delete", "*"]).fails(1, "").says("Item {'name': '*'} couldn't be found.\n");
    assert_eq!(world.rows().len(), 1, "nothing is deleted");
}

// --- Versions -----------------------------------------------------------------------------------

#[test]
fn a_version_is_never_overwritten() {
    let world = World::dynamodb();
    world.run(["put", "a", "first"]).ok("a has been stored\n");
    let refused = world.run(["put", "a", SECRET]);
    refused.fails(
        1,
        "a version 0000000000000000001 is already in the credential store. Use the -v flag to specify a new version",
    );
    world.run(["get", "a"]).ok("first\n");
}

/// What -a stores is what get reads next, or it stores nothing.
#[test]
fn a_next_version_that_nobody_would_read() {
    let world = World::dynamodb();
    world.run(["put", "word", "v", "-v", "abc"]).ok("word has been stored\n");
    world
        .run(["put", "word", SECRET, "-a"])
        .fails(1, "Can not autoincrement version. The current version: 0000000000000000abc is not an int");

    world.run(["put", "row", "old"]).ok("row has been stored\n");
    let mut row = world.row("row");
    row["version"]["S"] = json!("2");
    world.put_row(&row);
    let refused = world.run(["put", "row", SECRET, "-a"]);
    refused.fails(1, "Can not autoincrement version.").mentions("-v 2000000000000000000");
    // The way out that is named is one.
    world.run(["put", "row", "new", "-v", "2000000000000000000"]).ok("row has been stored\n");
    world.run(["put", "row", "newer", "-a"]).ok("row has been stored\n");
    world.run(["get", "row"]).ok("newer\n");
}

// --- Values, names, contexts --------------------------------------------------------------------

#[test]
fn values_that_cannot_be_read() {
    let mut world = World::dynamodb();
    world.set("AWS_ENDPOINT_URL_KMS", CLOSED);
    let folder = world.path("").to_str().expect("UTF-8").to_owned();
    for path in ["/nonexistent/file", &folder, "~/none", "~nosuchuser/none", ""] {
        let file = format!("@{path}");
        let unreadable = format!("Unable to read file {path}");
        let refused = world.run(["put", "a", &file]);
        refused.fails(2, &format!("argument value: {unreadable}")).mentions("must come from a file or -");
        world.run(["putall", &file]).fails(2, &format!("argument credentials: {unreadable}"));
    }
    let no_text = OsStr::from_bytes(b"v\xff");
    for words in [["put".as_ref(), "a".as_ref(), no_text], ["put".as_ref(), no_text, "v".as_ref()]] {
        world.run(words).fails(2, "UTF-8");
    }
    world.run([OsStr::new("get"), no_text]).fails(2, "UTF-8");
    assert!(world.rows().is_empty(), "nothing is stored");
}

/// The limit of DynamoDB is known before anything is sent.
#[test]
fn values_that_are_too_large() {
    let mut world = World::dynamodb();
    let large = world.file("large", vec![b'x'; 310_000]);
    world.set("AWS_ENDPOINT_URL_DYNAMODB", CLOSED).set("AWS_ENDPOINT_URL_KMS", CLOSED);
    for command in [&["put", "a", &format!("@{large}")][..], &["put", "-a", "a", &format!("@{large}")]] {
        world.run(command).fails(1, "a is too large").mentions("310000 bytes").mentions("400 KB");
    }
    let document = json!({"a": "x".repeat(310_000)}).to_string();
    let putall = world.run_with(document.as_bytes(), ["putall", "-"]);
    assert_eq!(putall.code, Some(1), "{putall}");
    putall.mentions("a is too large");
}

/// To the byte: what is refused would not have fitted, and what is not refused does.
#[test]
fn the_largest_value_fits() {
    let world = World::dynamodb();
    world.run(["put", "n", "abc", "-v", "2"]).ok("n has been stored\n");
    let row = world.rows().pop().expect("a row");
    let size = |attribute: &str, value: &Value| -> usize {
        let (text, binary) = (value["S"].as_str(), value["B"].as_str());
        let bytes = binary.map(|binary| STANDARD.decode(binary).expect("base64").len());
        attribute.len() + text.map(str::len).or(bytes).expect("text or binary")
    };
    let used: usize = row.as_object().expect("an object").iter().map(|(attribute, value)| size(attribute, value)).sum();
    // The three bytes that are in it are four characters of base64.
    let largest = (400 * 1024 - used) / 4 * 3 + 3;

    let value = vec![b'x'; largest];
    world.run_with(&value, ["put", "n", "-", "-v", "3"]).ok("n has been stored\n");
    world.run(["get", "-n", "n"]).ok(&value);
    world.run_with(&vec![b'x'; largest + 1], ["put", "n", "-", "-v", "4"]).fails(1, "n is too large");
}

/// A document is checked as a whole before anything is stored.
#[test]
fn documents_that_are_refused() {
    let mut world = World::dynamodb();
    world.set("AWS_ENDPOINT_URL_DYNAMODB", CLOSED).set("AWS_ENDPOINT_URL_KMS", CLOSED);
    for document in [
        "",
        "no json",
        "[]",
        "5",
        "null",
        "\"text\"",
        &format!("{{\"a\": \"{SECRET}\""),
        &format!("{{\"a\": \"{SECRET}\",}}"),
        &format!("{{\"a\": \"{SECRET}\"}} x"),
        &format!("[\"{SECRET}\"]"),
        &format!("\"{SECRET}\""),
        SECRET,
    ] {
        world.run(["putall", document]).fails(1, "JSON");
        world.run_with(document.as_bytes(), ["putall", "-"]).fails(1, "JSON");
    }
    for value in ["5", "null", "true", "[]", "{}", "[\"s3cr3t-c4n4ry\"]", "1e400"] {
        let document = format!("{{\"good\": \"{SECRET}\", \"bad.one\": {value}}}");
        world.run(["putall", &document]).fails(1, "");
    }
    world.run(["putall", r#"{"good": "x", "bad.one": 5}"#]).fails(1, "bad.one");
    world.run(["putall", r#"{"": "x"}"#]).fails(1, "empty");
    world.run_with(b"{\"a\": \"\xff\"}", ["putall", "-"]).fails(1, "UTF-8");
    assert!(world.rows().is_empty(), "nothing is stored");
}

/// The rest of a document is stored, and what is not is said.
#[test]
fn a_document_that_fails_in_part() {
    let world = World::dynamodb();
    world.run(["put", "b", "old", "-v", "0"]).ok("b has been stored\n");
    let ran = world.run(["putall", &format!(r#"{{"a": "1", "b": "{SECRET}", "c": "3"}}"#)]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert_eq!(ran.text(), "a has been stored\nc has been stored\n");
    ran.mentions("b version 0000000000000000000 is already in the credential store").mentions("1 of 3");
    world.run(["getall"]).ok("{\n    \"a\": \"1\",\n    \"b\": \"old\",\n    \"c\": \"3\"\n}\n");
}

#[test]
fn contexts_that_are_refused() {
    let mut world = World::dynamodb();
    world.set("AWS_ENDPOINT_URL_DYNAMODB", CLOSED).set("AWS_ENDPOINT_URL_KMS", CLOSED);
    for word in ["word", "k=", "=v", "="] {
        let message = format!("argument context: '{word}' is not the form of \"key=value\"");
        world.run(["get", "a", word]).fails(2, &message);
        world.run(["getall", "k=v", word]).fails(2, &message);
    }
    // After a value, the word may be the rest of that value.
    world.run(["put", "a", "correct", SECRET]).fails(2, "argument context: ").mentions("key=value");
    world.run(["putall", "{}", SECRET]).fails(2, "argument context: ").mentions("key=value");
}

#[test]
fn names_and_versions_that_are_refused() {
    let mut world = World::dynamodb();
    world.set("AWS_ENDPOINT_URL_DYNAMODB", CLOSED).set("AWS_ENDPOINT_URL_KMS", CLOSED);
    let long = "n".repeat(2049);
    // Counted in bytes: 1025 letters of two.
    let long_in_bytes = "é".repeat(1025);
    for (name, words) in [("", "cannot be empty"), (&long, "2049"), (&long_in_bytes, "2050")] {
        world.run(["put", name, SECRET]).fails(1, words);
        world.run(["get", name]).fails(1, words);
        world.run(["delete", name]).fails(1, words);
        world.run(["putall", &json!({name: SECRET}).to_string()]).fails(1, words);
    }
    let version = "1".repeat(1025);
    world.run(["put", "a", SECRET, "-v", &version]).fails(1, "1024").mentions("1025");
    world.run(["get", "a", "-v", &version]).fails(1, "1024").mentions("1025");
}

#[test]
fn wrong_usage() {
    let mut world = World::dynamodb();
    world.set("AWS_ENDPOINT_URL_DYNAMODB", CLOSED).set("AWS_ENDPOINT_URL_KMS", CLOSED);
    for (command, program) in [
        (&["bogus"][..], "credstash: error: "),
        (&["--bogus", "list"], ": error: "),
        (&["get"], "credstash get: error: "),
        (&["put"], "credstash put: error: "),
        (&["delete", "a", "b"], "credstash delete: error: "),
        (&["keys", "x"], "credstash keys: error: "),
        (&["list", "--frobnicate"], "credstash list: error: "),
        (&["get", "a", "-f", "xml"], "credstash get: error: "),
        (&["put", "a", "b", "-d", "SHA1"], "credstash put: error: "),
        (&["put", "a", "b", "-v"], "credstash put: error: "),
        (&["get", "a", "word"], "credstash get: error: "),
        (&["setup", "--tags", "word"], "credstash setup: error: "),
        (&["-p", "x", "-n", "arn:aws:iam::123456789012:role/r", "list"], "credstash list: error: "),
        (&["-t", "x y", "get", "put"], "credstash get: error: "),
        (&["-t", "put", "--store", "local", "list"], "credstash"),
    ] {
        world.run(command).fails(2, program);
    }
}

// --- Output -------------------------------------------------------------------------------------

/// `credstash getall | head -c 0`
#[test]
fn a_closed_pipe_is_quiet() {
    let world = World::dynamodb();
    for number in 0..3 {
        world.run(["put", &number.to_string(), "v"]).ok(format!("{number} has been stored\n"));
    }
    for args in [
        &["list"][..],
        &["keys"],
        &["get", "1"],
        &["get", "*"],
        &["getall"],
        &["-h"],
        &["get", "-h"],
        &["completions", "bash"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = world.command(args);
        command.stdout(writer).stderr(std::process::Stdio::piped());
        let output = command.spawn().expect("it runs").wait_with_output().expect("its output can be read");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        assert!(!output.status.success() && output.status.code() != Some(101), "{args:?}: {}", output.status);
    }
}

/// A value that did not arrive must not look as if it had.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    let world = World::dynamodb();
    world.run(["put", "a", SECRET]).ok("a has been stored\n");
    for args in
        [&["get", "a"][..], &["get", "-n", "a"], &["getall"], &["list"], &["keys"], &["completions", "bash"], &["-h"]]
    {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let mut command = world.command(args);
        command.stdout(full).stderr(std::process::Stdio::piped());
        let output = command.spawn().expect("it runs").wait_with_output().expect("its output can be read");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains("No space left") && stderr.lines().count() == 1, "{args:?}: {stderr}");
    }
}

/// What was begun is finished, and that nobody could be told is said: a part of a document would be found out late.
#[test]
fn a_report_that_cannot_be_written_stops_no_write() {
    let world = World::dynamodb();
    let names: Vec<String> = (100..140).map(|number| format!("n{number}")).collect();
    let document: serde_json::Map<_, _> = names.iter().map(|name| (name.clone(), json!("v"))).collect();
    let run = |args: &[&str]| {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let mut command = world.command(args);
        command.stdout(full).stderr(std::process::Stdio::piped());
        let output = command.spawn().expect("it runs").wait_with_output().expect("its output can be read");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"), "{args:?}");
    };
    run(&["putall", "-a", &Value::Object(document.clone()).to_string()]);
    world.run(["keys"]).ok(format!("{}\n", names.join("\n")));
    run(&["putall", "-a", &Value::Object(document).to_string()]);
    run(&["delete", "n100"]);
    world.run(["get", "n100"]).fails(1, "couldn't be found");
}

// --- Logs ---------------------------------------------------------------------------------------

/// A log that cannot be had is no reason to withhold a credential.
#[test]
fn a_log_is_never_in_the_way() {
    let world = World::dynamodb();
    world.run(["put", "a", "v"]).ok("a has been stored\n");
    let log = world.path("my.log").to_str().expect("UTF-8").to_owned();
    world.run(["--log-file", &log, "--log-level", "TRACE", "get", "a"]).ok("v\n");
    assert!(fs::read_to_string(&log).expect("the log is there").contains("KMS Decrypt"));
    world.run(["--log-file", "/nonexistent/x", "get", "a"]).prints("v\n").mentions("the log file cannot be opened");
    world.run(["--log-level", "bogus", "get", "a"]).prints("v\n").mentions("--log-level bogus is not one of");
    world.run(["--log-level", "TRACE", "get", "a"]).prints("v\n").mentions("DynamoDB Query");
    for level in ["ERROR", "warning", "CRITICAL", "30", "INFO"] {
        world.run(["--log-level", level, "get", "a"]).ok("v\n");
    }
}

/// Nothing is written where a command runs, which may be a container whose folders cannot be written.
#[test]
fn no_file_is_left_behind() {
    let world = World::dynamodb();
    let log = world.file("out", "");
    for command in [&["put", "a", "v"][..], &["get", "a"], &["get", "none"], &["bogus"], &["getall"], &["delete", "a"]]
    {
        world.run(command);
    }
    let files: Vec<_> =
        fs::read_dir(world.path("")).expect("a folder").map(|file| file.expect("a file").path()).collect();
    assert_eq!(files, [std::path::Path::new(&log)]);
    let home: Vec<_> = fs::read_dir(world.home("")).expect("a folder").collect();
    assert!(home.is_empty(), "nothing is in the home folder: {home:?}");
}

/// Text from a table or a command line is shown on stderr in one line, and cannot move the cursor.
#[test]
fn control_characters_are_not_sent_to_stderr() {
    let world = World::dynamodb();
    let refused = world.run(["get", "a\x1b[2J\nb"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(!refused.stderr.contains('\x1b') && refused.stderr.lines().count() == 1, "{refused}");
}

/// A key made for this test shows that the right one is used.
#[test]
fn the_named_key_is_the_one_that_is_used() {
    let mut world = World::dynamodb();
    let recorder = Recorder::before(&servers().moto);
    world.set("AWS_ENDPOINT_URL_KMS", &recorder.url);
    let key = make_key("us-east-1");
    world.run(["put", "a", "v", "-k", &key]).ok("a has been stored\n");
    world.run(["get", "a"]).ok("v\n");
    let calls = recorder.calls();
    let operations: Vec<&str> = calls.iter().map(|call| call.operation.as_str()).collect();
    assert_eq!(operations, ["GenerateDataKey", "Decrypt"]);
    let body: Value = serde_json::from_str(&calls[0].body).expect("JSON");
    assert_eq!((&body["KeyId"], &body["NumberOfBytes"]), (&json!(key), &json!(64)));
}

// --- Answers that are lost ----------------------------------------------------------------------

/// The SDK tries a put again when its answer is lost. The second attempt meets the row of the first: that is success,
/// not a version that exists, and with `-a` it is one version, not two. What is there moto says itself, as DynamoDB does;
/// DynamoDB Local must be asked.
#[test]
fn a_put_whose_answer_is_lost_is_stored_once() {
    for (new_world, asked) in [(World::moto as fn() -> World, 0), (World::dynamodb, 1)] {
        for put in [&["put", "a", "value", "-v", "7"][..], &["put", "-a", "a", "value"]] {
            let mut world = new_world();
            let recorder = Recorder::losing_an_answer("PutItem", world.dynamodb_url());
            world.set("AWS_ENDPOINT_URL_DYNAMODB", &recorder.url);
            world.run(put).ok("a has been stored\n");
            let count = |operation| recorder.calls().iter().filter(|call| call.operation == operation).count();
            assert_eq!(count("PutItem"), 2, "the answer to the first was lost");
            assert_eq!(count("Query"), asked + usize::from(put[1] == "-a"), "{put:?}");
            assert_eq!(world.rows().len(), 1);
            world.run(["get", "a"]).ok("value\n");
        }
    }
}
