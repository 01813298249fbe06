//! Credentials that are bound to their name and version: whoever can write the table cannot pass one off as another.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::servers::servers;
use crate::world::{Recorder, World};

const STORED: &str = "a has been stored\n";

/// What a reader says of a row that is not where it was put.
const REFUSED: &str = "KMS ERROR: Could not decrypt hmac key with KMS.";

/// The two pairs by which the original reads the first version of `name`.
fn pairs(name: &str) -> [String; 2] {
    [format!("credstash-name={name}"), "credstash-version=0000000000000000001".to_owned()]
}

#[test]
fn a_bound_credential_needs_no_more_to_be_read() {
    let world = World::dynamodb();
    world.run(["put", "--bind", "a", "v"]).ok(STORED);
    world.run(["get", "a"]).ok("v\n");
    world.run(["get", "a", "-v", "1"]).ok("v\n");
    world.run(["get", "--require-bound", "a"]).ok("v\n");
    world.run(["getall", "--require-bound", "-f", "csv"]).ok("a,v\n\n");
    assert_eq!(world.row("a")["bound"], json!({"S": "name version"}));
    // A further context is as good as ever, and as necessary.
    world.run(["put", "--bind", "b", "w", "env=prod"]).ok("b has been stored\n");
    world.run(["get", "b", "env=prod"]).ok("w\n");
    world.run(["get", "b"]).fails(1, REFUSED);
}

/// Both directions: the original takes the two pairs for a context like any other.
#[test]
fn the_original_reads_it_with_two_pairs() {
    let world = World::dynamodb();
    world.run(["put", "--bind", "a", "v", "env=prod"]).ok(STORED);
    let [name, version] = pairs("a");
    world.python(["get", "a", "env=prod", &name, &version]).ok("v\n");
    assert_eq!(world.python(["get", "a", "env=prod"]).code, Some(1));
    world.python(["list"]).ok("a -- version 0000000000000000001 -- comment \n");
    world.run(["get", "a", "env=prod", &name, &version]).ok("v\n");
    // It does not mark what it puts with them; so here too they must be given.
    let [name, version] = pairs("b");
    world.python(["put", "b", "w", &name, &version]).ok("b has been stored\n");
    world.run(["get", "b", &name, &version]).ok("w\n");
    world.run(["get", "b"]).fails(1, REFUSED);
    world.run(["get", "--require-bound", "b", &name, &version]).fails(1, "is not bound");
}

/// The pairs are in the calls to KMS, where IAM policies and CloudTrail see them.
#[test]
fn kms_is_told() {
    let mut world = World::dynamodb();
    let kms = Recorder::before(&servers().moto);
    world.set("AWS_ENDPOINT_URL_KMS", &kms.url);
    world.run(["put", "--bind", "-a", "a", "v", "env=prod"]).ok(STORED);
    world.run(["get", "a", "env=prod"]).ok("v\n");
    for call in kms.calls() {
        let body: Value = serde_json::from_str(&call.body).expect("JSON");
        let context = json!({"credstash-name": "a", "credstash-version": "0000000000000000001", "env": "prod"});
        assert_eq!(body["EncryptionContext"], context, "{}", call.operation);
    }
    assert_eq!(kms.calls().len(), 2);
}

/// What whoever can write the table might do with a bound row. None of it gives its secret out under another name.
#[test]
fn a_bound_row_in_another_place_is_refused() {
    let world = World::dynamodb();
    world.run(["put", "--bind", "a", "bound"]).ok(STORED);
    world.run(["put", "u", "unbound"]).ok("u has been stored\n");
    let moved = |from: &str, changes: &[(&str, Value)]| {
        let mut row = world.row(from);
        for (attribute, value) in changes {
            row[*attribute] = value.clone();
        }
        row.as_object_mut().expect("a row").retain(|_, value| !value.is_null());
        world.put_row(&row);
    };
    moved("a", &[("name", json!({"S": "b"}))]);
    world.run(["get", "b"]).fails(1, REFUSED).mentions("in another place");
    moved("a", &[("name", json!({"S": "stripped"})), ("bound", Value::Null)]);
    world.run(["get", "stripped"]).fails(1, REFUSED);
    world.run(["get", "--require-bound", "stripped"]).fails(1, "is not bound to its name and version");
    moved("u", &[("name", json!({"S": "marked"})), ("bound", json!({"S": "name version"}))]);
    world.run(["get", "marked"]).fails(1, REFUSED);
    moved("a", &[("name", json!({"S": "other"})), ("bound", json!({"S": "something else"}))]);
    world.run(["get", "other"]).fails(1, "attribute 'bound': is not 'name version'");
    moved("a", &[("name", json!({"S": "number"})), ("bound", json!({"N": "1"}))]);
    world.run(["get", "number"]).fails(1, "attribute 'bound': is no text");
    // An old version in the place of a new one.
    moved("a", &[("version", json!({"S": "0000000000000000002"}))]);
    world.run(["get", "a"]).fails(1, REFUSED);
    world.run(["get", "a", "-v", "1"]).ok("bound\n");
    // Stripped where it is.
    let mut row = world.rows().into_iter().find(|row| row["name"]["S"] == "a").expect("the first version");
    row.as_object_mut().expect("a row").remove("bound");
    world.put_row(&row);
    world.run(["get", "a", "-v", "1"]).fails(1, REFUSED);

    // What the reader did not ask for is refused as well.
    let all = world.run(["getall"]);
    assert_eq!((all.code, all.stdout.len()), (Some(1), 0), "{all}");
    for name in ["a", "b", "stripped", "marked", "other", "number"] {
        all.mentions(&format!("{name}: "));
    }
    world.run(["getall", "--skip-undecryptable", "-f", "csv"]).prints("u,unbound\n\n");
}

/// Without binding, the same is not noticed: what the format of the original cannot do.
#[test]
fn an_unbound_row_can_be_moved() {
    let world = World::dynamodb();
    world.run(["put", "a", "v"]).ok(STORED);
    let mut row = world.row("a");
    row["name"] = json!({"S": "b"});
    world.put_row(&row);
    world.run(["get", "b"]).ok("v\n");
    world.python(["get", "b"]).ok("v\n");
    world.run(["get", "--require-bound", "b"]).fails(1, "is not bound to its name and version");
}

#[test]
fn what_is_not_bound_is_refused_where_that_is_asked_for() {
    let mut world = World::dynamodb();
    world.run(["put", "a", "unbound"]).ok(STORED);
    world.run(["put", "--bind", "b", "bound"]).ok("b has been stored\n");
    let refused = "is not bound to its name and version";
    world.run(["get", "--require-bound", "a"]).fails(1, refused).mentions("store that again with put -a --bind");
    world.run(["get", "--require-bound", "*"]).fails(1, refused).mentions("a: version 0000000000000000001 of a");
    world.run(["getall", "--require-bound"]).fails(1, refused);
    world.run(["getall", "--require-bound", "--skip-undecryptable", "-f", "csv"]).prints("b,bound\n\n");
    world.set("CREDSTASH_REQUIRE_BOUND", "1");
    world.run(["get", "a"]).fails(1, refused);
    world.run(["get", "b"]).ok("bound\n");
    world.set("CREDSTASH_REQUIRE_BOUND", "0");
    world.home_file(".credstash", r#"{"require-bound": true}"#);
    world.run(["get", "a"]).ok("unbound\n");
    world.unset("CREDSTASH_REQUIRE_BOUND");
    world.run(["get", "a"]).fails(1, refused);
    world.home_file(".credstash", r#"{"require-bound": "yes"}"#);
    world.run(["get", "a"]).fails(1, r#""require-bound" must be true or false"#);
    world.set("CREDSTASH_REQUIRE_BOUND", "yes");
    world.run(["get", "a"]).fails(2, "CREDSTASH_REQUIRE_BOUND must be 1 or 0");
}

#[test]
fn binding_can_be_the_rule() {
    let mut world = World::dynamodb();
    let bound = |world: &World, name: &str, args: &[&str]| {
        world.run([&["put", name, "v"], args].concat()).ok(format!("{name} has been stored\n"));
        !world.row(name)["bound"].is_null()
    };
    assert!(!bound(&world, "a", &[]));
    world.set("CREDSTASH_BIND", "1");
    assert!(bound(&world, "b", &[]));
    world.run(["putall", r#"{"c": "v", "d": "v"}"#]).ok("c has been stored\nd has been stored\n");
    assert!(["c", "d"].iter().all(|name| world.row(name)["bound"] == json!({"S": "name version"})));
    world.home_file(".credstash", r#"{"bind": true}"#);
    world.set("CREDSTASH_BIND", "0");
    assert!(!bound(&world, "e", &[]));
    assert!(bound(&world, "f", &["--bind"]));
    world.unset("CREDSTASH_BIND");
    assert!(bound(&world, "g", &[]));
    world.home_file(".credstash", r#"{"bind": 1}"#);
    world.run(["put", "h", "v"]).fails(1, r#""bind" must be true or false"#);
    world.set("CREDSTASH_BIND", "on");
    world.run(["put", "h", "v"]).fails(2, "CREDSTASH_BIND must be 1 or 0");
}

/// Each seals for the version that it gets, however often that changes.
#[test]
fn bound_next_versions_under_contention() {
    const WRITERS: usize = 12;
    for world in [World::dynamodb(), World::local()] {
        world.run(["put", "-a", "--bind", "a", "before"]).ok(STORED);
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let mut put = world.command(["put", "-a", "--bind", "a", &format!("v{number}")]);
                put.stdout(Stdio::null()).spawn().expect("it runs")
            })
            .collect();
        for mut writer in writers {
            assert!(writer.wait().expect("it ends").success());
        }
        let mut values: Vec<_> = (1..=WRITERS + 1)
            .map(|version| world.run(["get", "--require-bound", "-n", "a", "-v", &version.to_string()]))
            .map(|got| got.text().to_owned())
            .collect();
        let mut expected: Vec<_> = (0..WRITERS).map(|number| format!("v{number}")).collect();
        expected.push("before".to_owned());
        values.sort();
        expected.sort();
        assert_eq!(values, expected);
    }
}

#[test]
fn the_local_store_binds_alike() {
    let mut world = World::no_cloud();
    world.set("CREDSTASH_STORE", "sqlite:store.db");
    world.run(["put", "--bind", "a", "v"]).ok(STORED);
    world.run(["put", "u", "v"]).ok("u has been stored\n");
    world.run(["get", "--require-bound", "a"]).ok("v\n");
    world.run(["get", "--require-bound", "u"]).fails(1, "is not bound to its name and version");
    let sql = |statement: &str| {
        const RUN: &str = "import sqlite3, sys; c = sqlite3.connect('store.db'); c.execute(sys.argv[1]); c.commit()";
        world.script(RUN, &[statement], b"");
    };
    sql("UPDATE credential SET name = 'b' WHERE name = 'a'");
    world.run(["get", "b"]).fails(1, "in another place");
    sql("UPDATE credential SET bound = 0 WHERE name = 'b'");
    world.run(["get", "b"]).fails(1, "Could not decrypt hmac key");
}
