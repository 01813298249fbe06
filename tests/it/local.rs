//! The embedded store: one SQLite file and one key file, no cloud.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::world::{SECRET, World};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("changed");
}

fn files(folder: &Path) -> Vec<String> {
    let name = |file: fs::DirEntry| file.file_name().to_str().expect("UTF-8").to_owned();
    let mut files: Vec<String> =
        fs::read_dir(folder).expect("a folder").map(|file| name(file.expect("a file"))).collect();
    files.sort();
    files
}

#[test]
fn it_is_made_on_first_use() {
    let world = World::no_cloud();
    world.run(["--store", "local", "put", "a", "v"]).ok("a has been stored\n");
    world.run(["--store", "local", "get", "a"]).ok("v\n");
    let folder = world.home(".local/share/credstash");
    assert_eq!(files(&folder), ["credentials.db", "key"]);
    assert_eq!(fs::metadata(folder.join("key")).expect("there").len(), 32);
}

/// Reading makes it too: an empty store, not an error, is what somebody new finds.
#[test]
fn an_empty_one_can_be_read() {
    let world = World::local();
    world.run(["list"]).ok("");
    world.run(["keys"]).ok("");
    world.run(["getall"]).ok("{}\n");
    world.run(["get", "a"]).fails(1, "Item {'name': 'a'} couldn't be found.");
}

#[test]
fn it_lives_where_the_data_of_this_user_lives() {
    let mut world = World::local();
    let data = world.home("data");
    world.set("XDG_DATA_HOME", &data);
    world.run(["put", "a", "v"]).ok("a has been stored\n");
    assert_eq!(files(&data.join("credstash")), ["credentials.db", "key"]);
    assert!(!world.home(".local").exists());

    // The XDG Base Directory Specification: a path that is not absolute is to be ignored.
    world.set("XDG_DATA_HOME", "data");
    world.run(["put", "b", "v"]).ok("b has been stored\n");
    assert_eq!(files(&world.home(".local/share/credstash")), ["credentials.db", "key"]);
    assert!(!world.path("data").exists());
}

/// Whatever the umask is, others see nothing.
#[test]
fn others_may_not_see_it() {
    let world = World::no_cloud();
    let program = env!("CARGO_BIN_EXE_credstash");
    let path = world.path("deep/er/store.db");
    world.sh(&format!("umask 000; '{program}' --store local put a v"));
    world.sh(&format!("umask 000; '{program}' --store 'sqlite:{}' put a v", path.display()));
    for (folder, names) in [
        (world.home(".local/share/credstash"), ["credentials.db", "key"]),
        (world.path("deep/er"), ["store.db", "store.db.key"]),
    ] {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        assert_eq!(files(&folder), names);
        for name in names {
            assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
        }
    }
    assert_eq!(mode(&world.path("deep")), 0o700);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let world = World::local();
    world.run(["put", "a", "v"]).ok("a has been stored\n");
    let key = world.home(".local/share/credstash/key");
    for open in [0o640, 0o604, 0o660, 0o700 | 0o010] {
        set_mode(&key, open);
        let chmod = format!("chmod 600 {}", key.display());
        world.run(["get", "a"]).fails(1, &chmod);
        world.run(["put", "b", SECRET]).fails(1, &chmod);
    }
    set_mode(&key, 0o600);
    world.run(["list"]).ok("a -- version 0000000000000000001 -- comment \n");
}

/// A new key could open nothing of what is there: none is made beside a store that has rows.
#[test]
fn a_lost_key_is_not_replaced() {
    let world = World::local();
    world.run(["put", "a", "v"]).ok("a has been stored\n");
    let key = world.home(".local/share/credstash/key");
    let kept = world.home("kept");
    fs::rename(&key, &kept).expect("moved");
    for command in [&["get", "a"][..], &["put", "b", SECRET], &["put", "-a", "a", SECRET], &["getall"]] {
        world.run(command).fails(1, key.to_str().expect("UTF-8"));
    }
    assert!(!key.exists(), "no key is made");
    fs::rename(&kept, &key).expect("moved back");
    world.run(["getall"]).ok("{\n    \"a\": \"v\"\n}\n");
}

#[test]
fn another_key_is_told_from_another_context() {
    let world = World::local();
    world.run(["put", "a", "v", "k=v"]).ok("a has been stored\n");
    world.run(["get", "a"]).fails(1, "The encryption context provided may not match").mentions("No context was given");
    world.run(["get", "a", "k=other-value"]).fails(1, "LOCAL KEY ERROR").mentions("keys: k");

    let key = world.home(".local/share/credstash/key");
    fs::write(&key, [7; 32]).expect("written");
    world.run(["get", "a", "k=v"]).fails(1, "sealed under the local key").mentions(key.to_str().expect("UTF-8"));
    for (content, words) in [(&b"short"[..], "32 bytes"), (&[7; 33], "32 bytes"), (b"", "32 bytes")] {
        fs::write(&key, content).expect("written");
        world.run(["get", "a", "k=v"]).fails(1, words).mentions(key.to_str().expect("UTF-8"));
    }
}

/// `--store` names it, before the command or after it, or CREDSTASH_STORE does.
#[test]
fn a_store_has_an_address() {
    let mut world = World::no_cloud();
    world.run(["--store", "sqlite:one.db", "put", "a", "1"]).ok("a has been stored\n");
    world.run(["put", "a", "2", "--store", "sqlite:two.db?key=keys/two"]).ok("a has been stored\n");
    assert_eq!(files(&world.path("")), ["keys", "one.db", "one.db.key", "two.db"]);
    assert_eq!(mode(&world.path("keys/two")), 0o600);
    world.run(["--store=sqlite:one.db", "get", "a"]).ok("1\n");

    world.set("CREDSTASH_STORE", "sqlite:two.db?key=keys/two");
    world.run(["get", "a"]).ok("2\n");
    // The flag wins over the environment.
    world.run(["get", "a", "--store", "sqlite:one.db"]).ok("1\n");
    // A table is a flag too, and so wins over the variable, which wins over the other variable.
    world.set("CREDSTASH_DEFAULT_TABLE", "table");
    world.run(["get", "a"]).ok("2\n");
    world.run(["-t", "table", "get", "a"]).fails(1, "Unable to locate credentials");
    // Each with its own key.
    world.run(["get", "a", "--store", "sqlite:two.db?key=one.db.key"]).fails(1, "sealed under the local key");

    for address in ["nonsense", "sqlite:", "sqlite:x?key=", "redis:x", "Local", "/path"] {
        world.run(["--store", address, "list"]).fails(2, "argument --store: ");
        world.set("CREDSTASH_STORE", address);
        world.run(["list"]).fails(2, "CREDSTASH_STORE: ");
    }
    // An empty variable is none.
    world.set("CREDSTASH_STORE", "");
    world.run(["list"]).fails(1, "Unable to locate credentials");
    world.run(["--store", "local", "-t", "table", "list"]).fails(2, "--table");
}

/// A mistyped path must not read as an empty store.
#[test]
fn a_named_store_must_be_there_to_be_read() {
    let world = World::no_cloud();
    for command in [&["list"][..], &["keys"], &["get", "a"], &["get", "*"], &["getall"], &["delete", "a"]] {
        let refused = world.run([&["--store", "sqlite:mistyped.db"], command].concat());
        refused.fails(1, "there is no credential store at mistyped.db").mentions("credstash setup");
    }
    assert_eq!(files(&world.path("")), [] as [&str; 0], "nothing is made");
}

#[test]
fn setup_makes_it_once() {
    let world = World::no_cloud();
    let made = world.run(["--store", "sqlite:a.db", "setup"]);
    made.prints(
        "Creating table...\nTable has been created. Keep a copy of the key a.db.key: without it nothing can be read\n",
    );
    world.run(["--store", "sqlite:a.db", "setup"]).ok("Credential Store table already exists\n");
    world.run(["--store", "sqlite:a.db", "getall"]).ok("{}\n");
    world.run(["--store", "sqlite:b.db", "setup", "--tags", "a=b"]).fails(1, "SQLite has no tags");
    world.run(["--store", "sqlite:a.db", "put", "a", SECRET, "-k", "alias/x"]).fails(2, "argument -k/--key: ");
}

#[test]
fn a_file_of_something_else_is_refused() {
    let world = World::no_cloud();
    let script = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute('CREATE TABLE credential (name TEXT, version TEXT)')
database.execute(\"INSERT INTO credential VALUES ('a', '1')\")
database.commit()";
    let foreign = world.path("foreign.db").to_str().expect("UTF-8").to_owned();
    world.script(script, &[&foreign], b"");
    let text = world.file("notes.txt", "these are my notes, and no database at all\n".repeat(50));
    for path in [foreign, text] {
        let before = fs::read(&path).expect("read");
        let store = format!("sqlite:{path}");
        for command in [&["list"][..], &["get", "a"], &["put", "a", SECRET], &["setup"]] {
            let refused = world.run([&["--store", &store], command].concat());
            refused.fails(1, &path).mentions("is not a credential store");
        }
        assert!(fs::read(&path).expect("read") == before, "{path} stays as it was");
        assert!(!Path::new(&format!("{path}.key")).exists(), "and gets no key");
    }
    let folder = world.path("").to_str().expect("UTF-8").to_owned();
    world.run(["--store", &format!("sqlite:{folder}"), "list"]).fails(1, &folder);
}

/// A store of a later version of this program is not touched by this one.
#[test]
fn a_later_schema_is_refused() {
    let world = World::no_cloud();
    world.run(["--store", "sqlite:a.db", "put", "a", "v"]).ok("a has been stored\n");
    let script = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute('PRAGMA user_version = 99')
database.commit()";
    world.script(script, &[world.path("a.db").to_str().expect("UTF-8")], b"");
    world.run(["--store", "sqlite:a.db", "get", "a"]).fails(1, "99");
}

/// The same commands, flags and outputs as in the cloud.
#[test]
fn everything_works_as_on_dynamodb() {
    let world = World::local();
    world.run(["put", "db.password", "one", "-c", "first", "env=prod"]).ok("db.password has been stored\n");
    world.run(["put", "-a", "db.password", "two", "env=prod"]).ok("db.password has been stored\n");
    world.run(["put", "db.user", "app", "env=prod", "-d", "SHA512"]).ok("db.user has been stored\n");
    world.run(["get", "db.password", "env=prod"]).ok("two\n");
    world.run(["get", "-n", "db.password", "-v", "1", "env=prod"]).ok("one");
    world.run(["get", "db.*", "env=prod"]).ok("{\n    \"db.password\": \"two\",\n    \"db.user\": \"app\"\n}");
    world.run(["getall", "env=prod", "-f", "csv"]).ok("db.password,two\ndb.user,app\n\n");
    world.run(["putall", "{\"b\": \"1\", \"a\": \"2\"}", "-a"]).ok("b has been stored\na has been stored\n");
    world.run(["keys"]).ok("a\nb\ndb.password\ndb.user\n");
    world.run(["list"]).ok("\
a           -- version 0000000000000000001 -- comment 
b           -- version 0000000000000000001 -- comment 
db.password -- version 0000000000000000001 -- comment first
db.password -- version 0000000000000000002 -- comment 
db.user     -- version 0000000000000000001 -- comment 
");
    world.run(["put", "a", SECRET]).fails(1, "a version 0000000000000000001 is already in the credential store");
    let deleting =
        "Deleting db.password -- version 0000000000000000001\nDeleting db.password -- version 0000000000000000002\n";
    world.run(["delete", "db.password"]).ok(deleting);
    world.run(["delete", "db.password"]).fails(1, "Item {'name': 'db.password'} couldn't be found.");
    world.run(["get", "db.password", "-v", "1"]).fails(1, "'version': '0000000000000000001'} couldn't be found.");
    world
        .run(["getall", "--skip-undecryptable"])
        .prints("{\n    \"a\": \"2\",\n    \"b\": \"1\"\n}\n")
        .mentions("left out db.user");
}

/// Bytes of every kind and length, up to the same limit as in the cloud.
#[test]
fn values_of_every_kind() {
    let world = World::local();
    let bytes: Vec<u8> = (0..=255).cycle().take(250_000).collect();
    for (number, value) in [&b""[..], b"\0", b"\r\n", &bytes[..16], &bytes[..17], &bytes].into_iter().enumerate() {
        let name = number.to_string();
        world.run_with(value, ["put", &name, "-"]).ok(format!("{name} has been stored\n"));
        world.run(["get", "-n", &name]).ok(value);
    }
    world.run_with(&vec![b'x'; 310_000], ["put", "large", "-"]).fails(1, "large is too large").mentions("400 KB");
}

/// The file holds nothing that can be read without the key.
#[test]
fn the_file_holds_no_plaintext() {
    let world = World::local();
    world.run(["put", "a", SECRET]).ok("a has been stored\n");
    let folder = world.home(".local/share/credstash");
    for file in files(&folder) {
        let bytes = fs::read(folder.join(&file)).expect("read");
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "the secret is in {file}");
    }
}

/// What was put under one name or context is not what is read under another.
#[test]
fn rows_are_sealed_against_change() {
    let world = World::local();
    world.run(["put", "a", SECRET]).ok("a has been stored\n");
    let path = world.home(".local/share/credstash/credentials.db");
    let change = |sql: &str| {
        let script = format!(
            "import sqlite3, sys\ndatabase = sqlite3.connect(sys.argv[1])\ndatabase.execute(\"{sql}\")\ndatabase.commit()"
        );
        world.script(&script, &[path.to_str().expect("UTF-8")], b"");
    };
    change("UPDATE credential SET contents = CAST(substr(contents, 2) AS BLOB)");
    world.run(["get", "a"]).fails(1, "INTEGRITY ERROR: Computed HMAC on a does not match stored HMAC");
    change("UPDATE credential SET digest = 'SHA3'");
    world.run(["get", "a"]).fails(1, "SHA3").mentions("a");
    change("UPDATE credential SET digest = 'SHA256', key = CAST(substr(key, 1, 60) AS BLOB)");
    world.run(["get", "a"]).fails(1, "LOCAL KEY ERROR: ");
}

/// SQLite has a meaning of its own for some of them.
#[test]
fn every_path_is_the_path_of_a_file() {
    let world = World::no_cloud();
    for path in [":memory:", "file:x.db", "file:y.db?mode=memory", "a b%20c#d.db"] {
        let store = format!("sqlite:{path}");
        world.run(["--store", &store, "put", "a", "v"]).ok("a has been stored\n");
        world.run(["--store", &store, "get", "a"]).ok("v\n");
        let found = fs::metadata(world.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{path}");
    }
    let link = world.path("link.db");
    std::os::unix::fs::symlink(world.path("nothing.db"), &link).expect("linked");
    world.run(["--store", "sqlite:link.db", "put", "a", "v"]).fails(1, "link.db");
    assert!(!world.path("nothing.db").exists(), "it would be for all to read");
}

/// As `mktemp` makes one.
#[test]
fn an_empty_file_becomes_a_store() {
    let world = World::no_cloud();
    world.file("empty.db", "");
    world.run(["--store", "sqlite:empty.db", "get", "a"]).fails(1, "empty.db");
    world.run(["--store", "sqlite:empty.db", "put", "a", "v"]).ok("a has been stored\n");
    world.run(["--store", "sqlite:empty.db", "get", "a"]).ok("v\n");
}

/// A folder that cannot be written, a path below a file: one line with the path.
#[test]
fn a_place_where_nothing_can_be_made() {
    let mut world = World::no_cloud();
    let file: PathBuf = world.file("file", "").into();
    let below = file.join("store.db");
    world
        .run(["--store", &format!("sqlite:{}", below.display()), "put", "a", SECRET])
        .fails(1, file.to_str().expect("UTF-8"));
    world.set("XDG_DATA_HOME", &file).set("CREDSTASH_STORE", "local");
    world.run(["put", "a", SECRET]).fails(1, file.to_str().expect("UTF-8"));
    world.run(["list"]).fails(1, file.to_str().expect("UTF-8"));
}
