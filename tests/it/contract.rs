//! What every store keeps to: one contract, and each clause of it a test for each store.
//!
//! The clauses come first, then the stores, each with what only it can show.

use std::any::type_name;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use credstash::{
    Asked, Billing, Digest, DynamoDb, Entry, Memory, Name, Sealed, SealedRow, Select, Session, SessionOptions, Setup,
    SetupOutcome, SetupStep, Sqlite, Store, StoreError, Suite, Version, WrappedKey,
};
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use serde_json::{Value, json};

use crate::world::{Ran, World};

#[path = "../../examples/own_store.rs"]
#[allow(dead_code, unreachable_pub, reason = "a program of its own, of which these tests use a part")]
mod own_store;

/// Makes a test of each named clause: `$run` hands a new and empty store, of type `$store`, to a closure.
macro_rules! clauses {
    ($run:ident, $store:ty: $($clause:ident)*) => {
        $(
            #[test]
            fn $clause() {
                $run(async |store: &$store| super::$clause(store).await);
            }
        )*
    };
}

/// Makes the tests of the clauses that every store keeps.
macro_rules! all_clauses {
    ($run:ident, $store:ty) => {
        clauses! {
            $run, $store:
            a_row_is_got_as_it_was_put
            a_row_is_never_overwritten
            each_of_many_puts_at_once_has_its_own_answer
            what_is_not_there_is_not_found
            versions_sort_by_their_bytes
            the_padded_version_comes_before_the_typed_one
            entries_are_all_versions_of_all_names
            an_empty_comment_is_none
            one_pass_gives_the_newest_of_each_name
            one_pass_gives_the_asked_version_of_each_name
            only_the_deleted_version_goes
            every_other_text_is_another_name
            the_longest_names_and_versions
            the_largest_row
            getting_ready_changes_nothing
        }
    };
}

// --- the clauses ----------------------------------------------------------------------------------------------------

async fn a_row_is_got_as_it_was_put(store: &dyn Store) {
    for digest in Digest::WRITABLE.into_iter().chain([Digest::Ripemd160, Digest::Whirlpool]) {
        let suite = Suite::CtrHmac(digest);
        let mac = vec![0xA0; suite.mac_len()];
        let sealed = Sealed {
            wrapped_key: WrappedKey::new(vec![0, 255]),
            suite,
            contents: (0..=255).collect(),
            mac,
            bound: true,
        };
        let stored = SealedRow { entry: entry(digest.name(), "0000000000000000001", Some("why")), sealed };
        store.put(&stored).await.expect("stored");
        for select in [Select::Latest, exactly("1")] {
            assert_eq!(store.get(&stored.entry.name, &select).await.as_ref(), Ok(&stored), "{select:?}");
        }
    }
}

async fn a_row_is_never_overwritten(store: &dyn Store) {
    let first = row("a", "1");
    store.put(&first).await.expect("stored");

    let exists = StoreError::Exists { name: name("a"), version: Version::stored("1") };
    let second = row_of("a", "1", b"other contents");
    assert_eq!(store.put(&second).await, Err(exists));
    assert_eq!(store.get(&name("a"), &Select::Latest).await.as_ref(), Ok(&first));
    assert_eq!(store.entries().await, Ok(vec![first.entry]));
}

async fn each_of_many_puts_at_once_has_its_own_answer(store: &dyn Store) {
    let row = |number: u32| row_of("a", &number.to_string(), &number.to_be_bytes());
    for number in [7, 99] {
        store.put(&row_of("a", &number.to_string(), b"was here first")).await.expect("stored");
    }
    let answers = futures_util::future::join_all((0..100).map(async |number| store.put(&row(number)).await)).await;
    for (number, answer) in (0..).zip(answers) {
        let was_there = [7, 99].contains(&number);
        let exists = || StoreError::Exists { name: name("a"), version: Version::stored(number.to_string()) };
        assert_eq!(answer, if was_there { Err(exists()) } else { Ok(()) }, "{number}");
        let stored = store.get(&name("a"), &exactly(&number.to_string())).await.expect("it is there");
        match was_there {
            true => assert_eq!(stored.sealed.contents, b"was here first"),
            false => assert_eq!(stored, row(number)),
        }
    }
}

async fn what_is_not_there_is_not_found(store: &dyn Store) {
    assert_eq!(store.entries().await, Ok(vec![]));
    assert_eq!(one_pass(store, &Select::Latest).await, passed([]));
    assert_eq!(one_pass(store, &exactly("1")).await, passed([]));

    store.put(&row("a", "0000000000000000001")).await.expect("stored");
    assert_eq!(store.versions(&name("b")).await, Ok(vec![]));
    assert_eq!(store.newest(&name("b")).await, Ok(None));
    assert_eq!(store.get(&name("b"), &Select::Latest).await, Err(not_found("b", None)));
    // A version is named as this product would have stored it.
    assert_eq!(store.get(&name("b"), &exactly("1")).await, Err(not_found("b", Some("0000000000000000001"))));
    assert_eq!(store.get(&name("a"), &exactly("2")).await, Err(not_found("a", Some("0000000000000000002"))));
}

async fn versions_sort_by_their_bytes(store: &dyn Store) {
    let sorted = [
        "0000000000000000001",
        "00000000000000000020",
        "0000000000000000010",
        "0000000000000000abc",
        "1",
        "1 ",
        "1.2.3",
        "10",
        "12345678901234567890123",
        "2",
        "A",
        "a",
        "é",
        // In UTF-16 these two would sort the other way round.
        "\u{ff5e}",
        "\u{1f600}",
    ];
    assert!(sorted.is_sorted());
    for version in sorted.iter().rev() {
        store.put(&row("a", version)).await.expect("stored");
    }
    for newest in (0..sorted.len()).rev() {
        let expected = row("a", sorted[newest]);
        assert_eq!(store.versions(&name("a")).await, Ok(versions(&sorted[..=newest])));
        assert_eq!(store.newest(&name("a")).await.as_ref(), Ok(&Some(expected.entry.version.clone())));
        assert_eq!(store.get(&name("a"), &Select::Latest).await.as_ref(), Ok(&expected));
        assert_eq!(one_pass(store, &Select::Latest).await, passed([Ok(expected.clone())]));
        store.delete(&name("a"), &expected.entry.version).await.expect("deleted");
    }
    assert_eq!(store.newest(&name("a")).await, Ok(None));
}

/// Other writers may not have padded: then the version is stored as it is typed.
async fn the_padded_version_comes_before_the_typed_one(store: &dyn Store) {
    for (typed, padded) in
        [("5", "0000000000000000005"), ("05", "0000000000000000005"), ("1.2.3", "000000000000001.2.3")]
    {
        for stored in [typed, padded] {
            store.put(&row(typed, stored)).await.expect("stored");
            assert_eq!(store.get(&name(typed), &exactly(typed)).await, Ok(row(typed, stored)));
        }
    }
    // 50 is not 5, and neither is what only begins so.
    store.put(&row("a", "50")).await.expect("stored");
    assert_eq!(store.get(&name("a"), &exactly("5")).await, Err(not_found("a", Some("0000000000000000005"))));
}

async fn entries_are_all_versions_of_all_names(store: &dyn Store) {
    let expected = [
        entry("a", "0000000000000000001", None),
        entry("a", "0000000000000000002", Some("rotated, after \"the\" incident\n\t☃\\n")),
        entry("a", "word", None),
        entry("b", "1", Some(" ")),
    ];
    for entry in &expected {
        store.put(&SealedRow { entry: entry.clone(), ..row("any", "any") }).await.expect("stored");
    }
    assert_eq!(sorted_entries(store).await, expected);
}

/// Nobody can see the difference, and a table of the original has no such comment.
async fn an_empty_comment_is_none(store: &dyn Store) {
    store.put(&SealedRow { entry: entry("a", "1", Some("")), ..row("a", "1") }).await.expect("stored");
    assert_eq!(store.entries().await, Ok(vec![entry("a", "1", None)]));
    assert_eq!(store.get(&name("a"), &Select::Latest).await, Ok(row("a", "1")));
}

async fn one_pass_gives_the_newest_of_each_name(store: &dyn Store) {
    for (name, version) in [("a", "2"), ("a", "10"), ("b", "0000000000000000001"), ("c", "x"), ("c", "1"), ("c", "9")] {
        store.put(&row(name, version)).await.expect("stored");
    }
    let newest = [row("a", "2"), row("b", "0000000000000000001"), row("c", "x")];
    assert_eq!(one_pass(store, &Select::Latest).await, passed(newest.map(Ok)));
}

async fn one_pass_gives_the_asked_version_of_each_name(store: &dyn Store) {
    let (one, two) = ("0000000000000000001", "0000000000000000002");
    for (name, versions) in [("both", [one, two, "1", "11"]), ("typed", [two, "1", "10", "11"])] {
        for version in versions {
            store.put(&row(name, version)).await.expect("stored");
        }
    }
    for row in [row("neither", two), row("neither", "11"), row("padded", one)] {
        store.put(&row).await.expect("stored");
    }
    let asked =
        [Ok(row("both", one)), Ok(row("padded", one)), Ok(row("typed", "1")), Err(not_found("neither", Some(one)))];
    assert_eq!(one_pass(store, &exactly("1")).await, passed(asked));
}

async fn only_the_deleted_version_goes(store: &dyn Store) {
    for (name, version) in [("a", "1"), ("a", "2"), ("a", "3"), ("b", "2")] {
        store.put(&row(name, version)).await.expect("stored");
    }
    // The second time there is nothing to delete, which is as good.
    for _ in 0..2 {
        store.delete(&name("a"), &Version::stored("2")).await.expect("deleted");
        assert_eq!(sorted_entries(store).await, [entry("a", "1", None), entry("a", "3", None), entry("b", "2", None)]);
    }
    store.delete(&name("nobody"), &Version::stored("1")).await.expect("nothing is deleted");
    assert_eq!(store.versions(&name("nobody")).await, Ok(vec![]));

    // The place of what was deleted is free.
    let again = row_of("a", "2", b"again");
    store.put(&again).await.expect("stored");
    assert_eq!(store.get(&name("a"), &exactly("2")).await, Ok(again));
}

async fn every_other_text_is_another_name(store: &dyn Store) {
    let names = "name|Name|NAME| name|name |name\t|name\n|name\r\n|n%|n_|%|_|*|?|[n]|it's|\"it\"|`it`|'; DROP TABLE x; --\
        |a/b|a\\b|a\\tb|../a|.|#name|:name|$1|é|e\u{301}|☃|\u{1f600}\u{10ffff}|\u{feff}name|\u{ff5e}|ß|SS|ss|İ|i|0|00|-1\
        |null|na\0me|na|na\0|\0";
    let rows: BTreeMap<Name, SealedRow> = names.split('|').map(|text| (name(text), row(text, "1"))).collect();
    for row in rows.values() {
        store.put(row).await.unwrap_or_else(|error| panic!("{:?} is stored: {error}", row.entry.name));
    }
    for select in [Select::Latest, exactly("1")] {
        assert_eq!(one_pass(store, &select).await, passed(rows.values().cloned().map(Ok)), "{select:?}");
    }
    let mut left = rows.clone();
    for (name, row) in &rows {
        assert_eq!(store.get(name, &Select::Latest).await.as_ref(), Ok(row), "{name:?}");
        assert_eq!(store.versions(name).await, Ok(versions(&["1"])), "{name:?}");
        store.delete(name, &Version::stored("1")).await.expect("deleted");
        left.remove(name);
        let expected: Vec<_> = left.values().map(|row| row.entry.clone()).collect();
        assert_eq!(sorted_entries(store).await, expected, "without {name:?}");
    }
}

async fn the_longest_names_and_versions(store: &dyn Store) {
    // The others differ from them in the last byte.
    let names = ["é".repeat(1024), "é".repeat(1023) + "è"];
    let long_versions = ["9".repeat(1023) + "8", "9".repeat(1024)];
    assert!(names.iter().all(|text| text.len() == Name::MAX_BYTES));
    assert!(long_versions.iter().all(|text| text.len() == Version::MAX_BYTES));
    for name in &names {
        for version in &long_versions {
            store.put(&row(name, version)).await.expect("stored");
        }
    }
    for text in &names {
        assert_eq!(store.versions(&name(text)).await, Ok(versions(&long_versions)));
        for version in &long_versions {
            assert_eq!(store.get(&name(text), &exactly(version)).await, Ok(row(text, version)));
        }
    }
}

async fn the_largest_row(store: &dyn Store) {
    let largest = row_of_size(SealedRow::MAX_SIZE);
    store.put(&largest).await.expect("stored");
    assert_eq!(store.get(&largest.entry.name, &Select::Latest).await.as_ref(), Ok(&largest));
    assert_eq!(one_pass(store, &Select::Latest).await, passed([Ok(largest)]));
}

/// The sealed form of the empty secret.
async fn contents_may_be_empty(store: &dyn Store) {
    let empty = row_of("a", "1", b"");
    store.put(&empty).await.expect("stored");
    assert_eq!(store.get(&name("a"), &Select::Latest).await.as_ref(), Ok(&empty));
    assert_eq!(one_pass(store, &Select::Latest).await, passed([Ok(empty)]));
}

async fn getting_ready_changes_nothing(store: &dyn Store) {
    for _ in 0..2 {
        store.prepare().await;
        assert_eq!(store.entries().await, Ok(vec![]));
    }
    store.put(&row("a", "1")).await.expect("stored");
    assert_eq!(store.get(&name("a"), &Select::Latest).await, Ok(row("a", "1")));
}

/// More than DynamoDB hands out at once, which is 1 MB: 8 MB in all, and more than 2 MB of them of one name.
async fn many_rows_are_read_to_the_last(store: &dyn Store) {
    let counts = (1..=22).map(|number| (format!("name-{number:02}"), 50)).chain([("name-long".to_owned(), 400)]);
    let counts: BTreeMap<String, usize> = counts.collect();
    let version = |number: usize| format!("{number:019}");
    let large = |name: &str, number: usize| {
        let filling = [name.as_bytes(), &number.to_le_bytes()].concat();
        row_of(name, &version(number), &filling.into_iter().cycle().take(4096).collect::<Vec<_>>())
    };
    // Versions are stored from all names in turn, so that nothing is in order by chance.
    let numbers = (1..=400).flat_map(|number| counts.keys().map(move |name| (name, number)));
    let rows: Vec<_> = numbers.filter(|(name, number)| *number <= counts[*name]).collect();
    assert_eq!(rows.len(), 1500);
    stream::iter(&rows)
        .for_each_concurrent(8, |(name, number)| async move { store.put(&large(name, *number)).await.expect("stored") })
        .await;

    let mut expected: Vec<_> = rows.iter().map(|(name, number)| entry(name, &version(*number), None)).collect();
    expected.sort();
    assert_eq!(sorted_entries(store).await, expected);
    for (text, count) in &counts {
        let expected: Vec<_> = (1..=*count).map(version).collect();
        assert_eq!(store.versions(&name(text)).await, Ok(versions(&expected)), "{text}");
    }
    let newest = counts.iter().map(|(name, count)| Ok(large(name, *count)));
    assert_eq!(one_pass(store, &Select::Latest).await, passed(newest));
    let asked = counts.iter().map(|(name, count)| match *count {
        50 => Err(not_found(name, Some(&version(51)))),
        _ => Ok(large(name, 51)),
    });
    assert_eq!(one_pass(store, &exactly("51")).await, passed(asked));
}

/// However many put at once, each through a handle of its own: one row is stored, and only who stored it hears so.
async fn of_those_who_put_one_version_one_wins(handles: [Arc<dyn Store>; 2]) {
    const WRITERS: u8 = 8;
    for round in 0..20 {
        let version = round.to_string();
        let offer = |writer: u8| row_of("a", &version, &[writer]);
        let puts = (0..WRITERS).map(|writer| {
            let (store, row) = (Arc::clone(&handles[usize::from(writer) % 2]), offer(writer));
            tokio::spawn(async move { (writer, store.put(&row).await) })
        });
        let mut winners = Vec::new();
        for put in join_all(puts).await {
            match put.expect("no panic") {
                (writer, Ok(())) => winners.push(writer),
                (_, refused) => {
                    let exists = StoreError::Exists { name: name("a"), version: Version::stored(&version) };
                    assert_eq!(refused, Err(exists));
                }
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        for store in &handles {
            assert_eq!(store.get(&name("a"), &exactly(&version)).await, Ok(offer(winners[0])), "round {round}");
        }
    }
}

/// What each function of a store answers, by its name.
async fn every_answer(store: &dyn Store) -> BTreeMap<&'static str, Result<(), StoreError>> {
    let passed: Vec<_> = store.rows(&Select::Latest).collect().await;
    [
        ("entries", store.entries().await.map(drop)),
        ("versions", store.versions(&name("a")).await.map(drop)),
        ("newest", store.newest(&name("a")).await.map(drop)),
        ("get the latest", store.get(&name("a"), &Select::Latest).await.map(drop)),
        ("get a version", store.get(&name("a"), &exactly("1")).await.map(drop)),
        ("rows", passed.into_iter().try_for_each(|row| row.map(drop))),
        ("put", store.put(&row("a", "1")).await),
        ("delete", store.delete(&name("a"), &Version::stored("1")).await),
    ]
    .into()
}

// --- rows and answers -----------------------------------------------------------------------------------------------

fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

fn versions<T: AsRef<str>>(texts: &[T]) -> Vec<Version> {
    texts.iter().map(|text| Version::stored(text.as_ref())).collect()
}

fn exactly(typed: &str) -> Select {
    Select::Exactly(Asked::new(typed).expect("short enough"))
}

fn entry(name: &str, version: &str, comment: Option<&str>) -> Entry {
    Entry { name: self::name(name), version: Version::stored(version), comment: comment.map(str::to_owned) }
}

/// A row whose contents no other name and version has.
fn row(name: &str, version: &str) -> SealedRow {
    row_of(name, version, format!("{name} in version {version}").as_bytes())
}

/// A row with these contents, and a data key of its own. A store does not look whether it can be opened.
fn row_of(name: &str, version: &str, contents: &[u8]) -> SealedRow {
    let sealed = Sealed {
        wrapped_key: WrappedKey::new([b"the key of ", &contents[..contents.len().min(64)]].concat()),
        suite: Suite::CtrHmac(Digest::Sha256),
        contents: contents.to_vec(),
        mac: (0..32).collect(),
        bound: false,
    };
    SealedRow { entry: entry(name, version, None), sealed }
}

/// A row of this size, as [`SealedRow::size`] counts it.
fn row_of_size(size: usize) -> SealedRow {
    let SealedRow { entry, sealed } = row("a", "0000000000000000001");
    let sized = |secret_len, comment_len| {
        let entry = Entry { comment: Some("c".repeat(comment_len)), ..entry.clone() };
        let size = SealedRow::size(&entry, sealed.suite, sealed.bound, sealed.wrapped_key.as_bytes().len(), secret_len);
        (size, entry)
    };
    // Base64 grows in steps of four characters; the comment fills the step.
    let secret_len = (0..size).rev().find(|secret_len| sized(*secret_len, 1).0 <= size).expect("room for something");
    let (without_filling, _) = sized(secret_len, 1);
    let (reached, entry) = sized(secret_len, 1 + size - without_filling);
    assert_eq!(reached, size);
    SealedRow { entry, sealed: Sealed { contents: vec![0xFF; secret_len], ..sealed } }
}

fn not_found(name: &str, version: Option<&str>) -> StoreError {
    StoreError::NotFound { name: self::name(name), version: version.map(Version::stored) }
}

async fn sorted_entries(store: &dyn Store) -> Vec<Entry> {
    let mut entries = store.entries().await.expect("entries");
    entries.sort();
    entries
}

type Passed = BTreeMap<Name, Result<SealedRow, StoreError>>;

/// What one pass over the store gives, by name. It gives each name once.
async fn one_pass(store: &dyn Store, select: &Select) -> Passed {
    let results: Vec<_> = store.rows(select).collect().await;
    let count = results.len();
    let passed = passed(results);
    assert_eq!(passed.len(), count, "each name once");
    passed
}

fn passed(results: impl IntoIterator<Item = Result<SealedRow, StoreError>>) -> Passed {
    let name_of = |result: &Result<SealedRow, StoreError>| match result {
        Ok(row) => row.entry.name.clone(),
        Err(error) => error.name().unwrap_or_else(|| panic!("it is about one name: {error}")).clone(),
    };
    results.into_iter().map(|result| (name_of(&result), result)).collect()
}

/// The steps that a store tells of while it is set up, and what comes out.
async fn set_up(store: &dyn Store, options: &Setup) -> (Vec<SetupStep>, Result<SetupOutcome, StoreError>) {
    let steps = Mutex::new(Vec::new());
    let outcome = store.setup(options, &|step| steps.lock().expect("no panic").push(step)).await;
    (steps.into_inner().expect("no panic"), outcome)
}

/// Options that a store without any refuses, one by one, each with its name.
fn options() -> [(Setup, &'static str); 4] {
    let tags = [("team".to_owned(), "web".to_owned())].into();
    [
        (Setup { tags, ..Setup::default() }, "tags"),
        (Setup { billing: Some(Billing::Provisioned), ..Setup::default() }, "billing"),
        (Setup { point_in_time_recovery: true, ..Setup::default() }, "point-in-time recovery"),
        (Setup { deletion_protection: true, ..Setup::default() }, "deletion protection"),
    ]
}

async fn refuses_all_options(store: &dyn Store, kind: &'static str) {
    for (options, option) in options() {
        let refused = Err(StoreError::Unsupported { store: kind, option });
        assert_eq!(set_up(store, &options).await, (vec![], refused));
    }
}

/// Runs a future to its end, on threads enough for what it spawns to meet.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

// --- memory ---------------------------------------------------------------------------------------------------------

mod memory {
    use super::*;

    fn in_memory(test: impl AsyncFnOnce(&Memory)) {
        run(async { test(&Memory::new()).await });
    }

    all_clauses!(in_memory, Memory);
    clauses!(in_memory, Memory: contents_may_be_empty many_rows_are_read_to_the_last);

    #[test]
    fn of_those_who_put_one_version_one_wins() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        run(super::of_those_who_put_one_version_one_wins([Arc::clone(&store), store]));
    }

    #[test]
    fn it_is_there_without_setup() {
        in_memory(async |store| {
            assert_eq!(set_up(store, &Setup::default()).await, (vec![], Ok(SetupOutcome::Existed)));
            refuses_all_options(store, "memory").await;
        });
    }
}

// --- SQLite ---------------------------------------------------------------------------------------------------------

mod sqlite {
    use super::*;

    pub(super) fn in_file(test: impl AsyncFnOnce(&Sqlite)) {
        in_folder(async |folder| {
            let store = Sqlite::open_or_create(&folder.join("credentials.db")).expect("made");
            test(&store).await;
        });
    }

    pub(super) fn in_folder(test: impl AsyncFnOnce(&Path)) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        run(test(folder.path()));
    }

    all_clauses!(in_file, Sqlite);
    clauses!(in_file, Sqlite: contents_may_be_empty many_rows_are_read_to_the_last);

    #[test]
    fn of_those_who_put_one_version_one_wins() {
        in_folder(async |folder| {
            let opened = || Arc::new(Sqlite::open_or_create(&folder.join("credentials.db")).expect("opened"));
            super::of_those_who_put_one_version_one_wins([opened(), opened()]).await;
        });
    }

    #[test]
    fn whoever_makes_the_file_sets_it_up() {
        in_folder(async |folder| {
            let path = folder.join("credentials.db");
            let made = Sqlite::open_or_create(&path).expect("made");
            refuses_all_options(&made, "SQLite").await;
            let options = Setup::default();
            assert_eq!(set_up(&made, &options).await, (vec![SetupStep::Creating], Ok(SetupOutcome::Created)));
            for opened in [Sqlite::open(&path), Sqlite::open_or_create(&path)] {
                let opened = opened.expect("opened");
                assert_eq!(set_up(&opened, &options).await, (vec![], Ok(SetupOutcome::Existed)));
            }
        });
    }

    #[test]
    fn a_store_that_is_not_there_is_not_made_by_reading() {
        in_folder(async |folder| {
            let path = folder.join("credentials.db");
            let place = path.display().to_string();
            let refused = Sqlite::open(&path).map(drop).expect_err("there is no file");
            assert!(matches!(&refused, StoreError::NotSetUp { place: found, .. } if *found == place), "{refused:?}");
            assert_eq!(fs::read_dir(folder).expect("a folder").count(), 0);
        });
    }

    /// As when it was cut: it must not pass for a store without rows.
    #[test]
    fn an_empty_file_is_no_store_to_read() {
        in_folder(async |folder| {
            let path = folder.join("credentials.db");
            fs::write(&path, "").expect("written");
            let refused = Sqlite::open(&path).map(drop).expect_err("an empty file");
            assert!(
                matches!(&refused, StoreError::NotSetUp { message, .. } if message.contains("is empty")),
                "{refused:?}"
            );
            assert_eq!(fs::read(&path).expect("read"), b"");
            // Unless somebody makes it a store.
            std::thread::scope(|scope| {
                let reader = scope.spawn(|| Sqlite::open(&path));
                Sqlite::open_or_create(&path).expect("made");
                reader.join().expect("no panic").expect("opened");
            });
        });
    }

    #[test]
    fn a_file_of_another_program_stays_as_it_is() {
        in_folder(async |folder| {
            let (text, database) = (folder.join("notes.txt"), folder.join("other.db"));
            fs::write(
                &text,
                "Not a database, and long enough to be told from a file that is only beginning.\n".repeat(20),
            )
            .expect("written");
            let other = rusqlite::Connection::open(&database).expect("made");
            other.execute("CREATE TABLE bookmark (url TEXT)", []).expect("made");
            drop(other);
            for path in [text, database] {
                let before = fs::read(&path).expect("read");
                for opened in [Sqlite::open(&path), Sqlite::open_or_create(&path)] {
                    let refused = opened.map(drop).expect_err("another program's");
                    assert!(matches!(refused, StoreError::NotAStore { .. }), "{refused:?}");
                }
                assert!(fs::read(&path).expect("read") == before, "{} is changed", path.display());
            }
        });
    }

    /// As two processes do that make one store at once: here the other is in the middle of it for a while.
    #[test]
    fn a_file_that_another_process_has_locked_is_waited_for() {
        in_folder(async |folder| {
            let path = folder.join("store.db");
            let other = rusqlite::Connection::open(&path).expect("made");
            other.execute_batch("BEGIN IMMEDIATE").expect("locked");
            let opening = tokio::task::spawn_blocking(move || Sqlite::open_or_create(&path));
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(!opening.is_finished(), "{:?}", opening.await);
            other.execute_batch("ROLLBACK").expect("unlocked");
            let store = opening.await.expect("no panic").expect("made");
            assert_eq!(store.put(&row("a", "1")).await, Ok(()));
        });
    }

    /// Version 1 of the schema had no `bound`.
    #[test]
    fn a_store_of_the_first_schema_is_brought_to_this_one() {
        in_folder(async |folder| {
            let path = folder.join("store.db");
            let connection = rusqlite::Connection::open(&path).expect("made");
            let first = "PRAGMA application_id = 1668441444; PRAGMA user_version = 1;
                CREATE TABLE credential (
                    name TEXT NOT NULL, version TEXT NOT NULL, key BLOB NOT NULL, contents BLOB NOT NULL,
                    hmac BLOB NOT NULL, digest TEXT NOT NULL, comment TEXT, PRIMARY KEY (name, version)
                ) STRICT, WITHOUT ROWID;
                INSERT INTO credential VALUES ('a', '1', x'01', x'02', x'03', 'SHA256', 'why');";
            connection.execute_batch(first).expect("filled");
            for store in [Sqlite::open(&path), Sqlite::open_or_create(&path)] {
                let row = store.expect("opened").get(&name("a"), &Select::Latest).await.expect("it is there");
                assert_eq!(row.entry, entry("a", "1", Some("why")));
                assert!(!row.sealed.bound);
            }
        });
    }

    #[test]
    fn a_row_with_an_unknown_digest_concerns_its_name_only() {
        in_folder(async |folder| {
            let path = folder.join("credentials.db");
            let store = Sqlite::open_or_create(&path).expect("made");
            for row in [row("a", "1"), row("damaged", "1"), row("z", "1")] {
                store.put(&row).await.expect("stored");
            }
            let damage = "UPDATE credential SET digest = 'ROT13' WHERE name = 'damaged'";
            let damaged = rusqlite::Connection::open(&path).and_then(|raw| raw.execute(damage, []));
            assert_eq!(damaged, Ok(1));

            let malformed = malformed("damaged", "1", "digest", "unknown digest 'ROT13'");
            assert_eq!(store.get(&name("damaged"), &Select::Latest).await, Err(malformed.clone()));
            let passed = super::passed([Ok(row("a", "1")), Err(malformed), Ok(row("z", "1"))]);
            for select in [Select::Latest, exactly("1")] {
                assert_eq!(one_pass(&store, &select).await, passed, "{select:?}");
            }
            assert_eq!(store.entries().await.map(|entries| entries.len()), Ok(3));
        });
    }
}

// --- SQLite, opened anew for every call, as by runs of the command line ------------------------------------------------

mod sqlite_reopened {
    use super::*;

    struct Reopened(PathBuf);

    impl Reopened {
        fn open(&self) -> Result<Sqlite, StoreError> {
            Sqlite::open(&self.0)
        }
    }

    #[async_trait]
    impl Store for Reopened {
        async fn setup(&self, options: &Setup, step: &(dyn Fn(SetupStep) + Sync)) -> Result<SetupOutcome, StoreError> {
            self.open()?.setup(options, step).await
        }

        async fn entries(&self) -> Result<Vec<Entry>, StoreError> {
            self.open()?.entries().await
        }

        async fn versions(&self, name: &Name) -> Result<Vec<Version>, StoreError> {
            self.open()?.versions(name).await
        }

        async fn newest(&self, name: &Name) -> Result<Option<Version>, StoreError> {
            self.open()?.newest(name).await
        }

        async fn get(&self, name: &Name, select: &Select) -> Result<SealedRow, StoreError> {
            self.open()?.get(name, select).await
        }

        fn rows<'a>(&'a self, select: &'a Select) -> BoxStream<'a, Result<SealedRow, StoreError>> {
            let rows = async move {
                match self.open() {
                    Ok(store) => store.rows(select).collect().await,
                    Err(error) => vec![Err(error)],
                }
            };
            stream::once(rows).flat_map(stream::iter).boxed()
        }

        async fn put(&self, row: &SealedRow) -> Result<(), StoreError> {
            self.open()?.put(row).await
        }

        async fn delete(&self, name: &Name, version: &Version) -> Result<(), StoreError> {
            self.open()?.delete(name, version).await
        }
    }

    fn reopened(test: impl AsyncFnOnce(&Reopened)) {
        sqlite::in_folder(async |folder| {
            let path = folder.join("credentials.db");
            Sqlite::open_or_create(&path).expect("made");
            test(&Reopened(path)).await;
        });
    }

    all_clauses!(reopened, Reopened);
    clauses!(reopened, Reopened: contents_may_be_empty many_rows_are_read_to_the_last);
}

// --- examples/own_store.rs ------------------------------------------------------------------------------------------

mod text_file {
    use super::own_store::TextFile;
    use super::*;

    fn in_text_file(test: impl AsyncFnOnce(&TextFile)) {
        sqlite::in_folder(async |folder| {
            test(&TextFile::open(&folder.join("credentials.txt")).expect("made")).await;
        });
    }

    all_clauses!(in_text_file, TextFile);
    clauses!(in_text_file, TextFile: contents_may_be_empty);

    #[test]
    fn of_those_who_put_one_version_one_wins() {
        sqlite::in_folder(async |folder| {
            let opened = || Arc::new(TextFile::open(&folder.join("credentials.txt")).expect("opened"));
            super::of_those_who_put_one_version_one_wins([opened(), opened()]).await;
        });
    }
}

// --- DynamoDB -------------------------------------------------------------------------------------------------------

/// Marks the child process of [`in_world`].
const CHILD: &str = "CREDSTASH_TEST_IS_CHILD";

/// Hands the table of a new `world` to `test`, in a process of its own.
///
/// Endpoints and credentials of AWS come from the environment, which all threads of a process share: so the test
/// process runs itself once more, in the environment of the world, for the one test that called this function. Its
/// name is that of the function in which the closure `test` is written. Gives the world as the test left it, in the
/// process that made it.
pub(crate) fn in_world<F: AsyncFnOnce(&DynamoDb)>(world: impl FnOnce() -> World, test: F) -> Option<World> {
    if let Some(table) = std::env::var_os(CHILD) {
        run(async {
            let session = Session::open(SessionOptions::default()).await.expect("a session");
            test(&DynamoDb::new(&session, table.to_str().expect("UTF-8"))).await;
        });
        return None;
    }
    let (_, path) = type_name::<F>().split_once("::").expect("a path within this crate");
    let test = path.strip_suffix("::{{closure}}").expect("a closure in a function");
    let mut world = world();
    let table = world.table().to_owned();
    world.set(CHILD, table);
    let mut child = world.other(std::env::current_exe().expect("this program"));
    child.args([test, "--exact", "--nocapture"]);
    let ran = Ran::of(child, b"");
    let report = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.code == Some(0) && report.contains(" 1 passed;"), "{test}, on its own:\n{}{report}", ran.stderr);
    Some(world)
}

/// What the row of [`row`] is as an item of a table, with other attributes in place of some of its own; those that are
/// null are not there.
fn item(name: &str, version: &str, others: Value) -> Value {
    let mut item = json!({
        "name": {"S": name},
        "version": {"S": version},
        "key": {"S": "dGhlIGtleQ=="},
        "contents": {"S": "eA=="},
        "hmac": {"B": "ZmZmZg=="}, // of the text ffff
        "digest": {"S": "SHA256"},
    });
    for (attribute, value) in others.as_object().expect("attributes") {
        item[attribute] = value.clone();
    }
    item.as_object_mut().expect("attributes").retain(|_, value| !value.is_null());
    item
}

fn malformed(name: &str, version: &str, attribute: &'static str, reason: &str) -> StoreError {
    StoreError::Malformed {
        name: self::name(name),
        version: Version::stored(version),
        malformed: credstash::MalformedAttribute { attribute, reason: reason.to_owned() },
    }
}

mod dynamodb {
    use super::*;

    /// In DynamoDB Local.
    fn in_table<F: AsyncFnOnce(&DynamoDb)>(test: F) {
        in_world(World::dynamodb, test);
    }

    all_clauses!(in_table, DynamoDb);

    #[test]
    fn many_rows_are_read_to_the_last() {
        let world = in_world(World::dynamodb, async |store| super::many_rows_are_read_to_the_last(store).await);
        if let Some(world) = world {
            let name = json!({":name": {"S": "name-long"}});
            let scanned = world.call("Scan", json!({"TableName": world.table()}));
            let queried = world.call(
                "Query",
                json!({
                    "TableName": world.table(),
                    "KeyConditionExpression": "#name = :name",
                    "ExpressionAttributeNames": {"#name": "name"},
                    "ExpressionAttributeValues": name,
                }),
            );
            for answer in [scanned, queried] {
                assert!(answer["LastEvaluatedKey"].is_object(), "there is more than one page");
            }
        }
    }

    #[test]
    fn of_those_who_put_one_version_one_wins() {
        in_table(async |store| {
            super::of_those_who_put_one_version_one_wins([Arc::new(store.clone()), Arc::new(store.clone())]).await;
        });
    }

    /// It counts as DynamoDB does: what is stored in [`the_largest_row`] has no byte to spare.
    #[test]
    fn a_row_of_one_byte_more_is_refused() {
        in_table(async |store| {
            let refused = store.put(&row_of_size(SealedRow::MAX_SIZE + 1)).await.expect_err("too large");
            assert!(refused.to_string().contains("Item size"), "{refused}");
        });
    }

    #[test]
    fn a_row_that_cannot_be_read_concerns_its_name_only() {
        let world = || {
            let world = World::dynamodb();
            for (name, version, others) in [
                ("a", "1", json!({})),
                ("contents-missing", "1", json!({"contents": null})),
                ("contents-not-base64", "1", json!({"contents": {"S": "AAA"}})),
                ("digest-unknown", "1", json!({"digest": {"S": "sha256"}})),
                ("hmac-missing", "1", json!({"hmac": null})),
                ("hmac-not-hexadecimal", "1", json!({"hmac": {"S": "xy"}})),
                ("hmac-odd", "1", json!({"hmac": {"B": "ZmZm"}})),
                ("hmac-of-another-type", "1", json!({"hmac": {"N": "12"}})),
                ("key-missing", "1", json!({"key": null})),
                ("key-of-another-type", "1", json!({"key": {"B": "dGhlIGtleQ=="}})),
                ("only-an-old-one", "1", json!({"key": null})),
                ("only-an-old-one", "2", json!({})),
                ("z", "1", json!({})),
            ] {
                world.put_row(&item(name, version, others));
            }
            world
        };
        in_world(world, async |store| {
            let malformed = [
                ("contents-missing", "contents", "is missing"),
                ("contents-not-base64", "contents", "Incorrect padding"),
                ("digest-unknown", "digest", "unknown digest 'sha256'"),
                ("hmac-missing", "hmac", "is missing"),
                ("hmac-not-hexadecimal", "hmac", "Invalid character 'x' at position 0"),
                ("hmac-odd", "hmac", "Odd number of digits"),
                ("hmac-of-another-type", "hmac", "is neither Binary nor text"),
                ("key-missing", "key", "is missing"),
                ("key-of-another-type", "key", "is no text"),
            ]
            .map(|(name, attribute, reason)| super::malformed(name, "1", attribute, reason));
            let latest = one_pass(store, &Select::Latest).await;
            let refused: Vec<_> = latest.values().filter_map(|row| row.clone().err()).collect();
            assert_eq!(refused, malformed);
            let read: Vec<_> = latest.values().filter_map(|row| Some(row.as_ref().ok()?.entry.clone())).collect();
            assert_eq!(read, [entry("a", "1", None), entry("only-an-old-one", "2", None), entry("z", "1", None)]);
            for (name, passed) in &latest {
                assert_eq!(store.get(name, &Select::Latest).await, *passed, "{name}");
            }

            // Who asks for the old one hears of it.
            let old = super::malformed("only-an-old-one", "1", "key", "is missing");
            let passed = one_pass(store, &exactly("1")).await;
            assert_eq!(passed.get(&name("only-an-old-one")), Some(&Err(old.clone())));
            assert_eq!(store.get(&name("only-an-old-one"), &exactly("1")).await, Err(old));

            // They can be listed and deleted like any other.
            assert_eq!(store.entries().await.map(|entries| entries.len()), Ok(13));
            store.delete(&name("key-missing"), &Version::stored("1")).await.expect("deleted");
            assert_eq!(store.versions(&name("key-missing")).await, Ok(vec![]));
        });
    }

    #[test]
    fn rows_of_other_writers_are_read_alike() {
        let world = || {
            let world = World::dynamodb();
            for (name, others) in [
                ("as-usual", json!({})),
                ("base64-in-lines", json!({"key": {"S": "dGhl\nIGtl\neQ==\n"}})),
                ("comment-of-another-type", json!({"comment": {"N": "1"}})),
                ("comment-null", json!({"comment": {"NULL": true}})),
                ("digest-missing", json!({"digest": null})),
                ("hmac-as-text", json!({"hmac": {"S": "ffff"}})),
                ("hmac-in-capitals", json!({"hmac": {"S": "FFFF"}})),
                ("more-attributes", json!({"created": {"N": "1"}, "tags": {"L": [{"S": "x"}]}})),
            ] {
                world.put_row(&item(name, "1", others));
            }
            world
        };
        in_world(world, async |store| {
            let passed = one_pass(store, &Select::Latest).await;
            assert_eq!(passed.len(), 8);
            for (name, passed) in passed {
                let expected = SealedRow {
                    entry: entry(name.as_str(), "1", None),
                    sealed: Sealed {
                        wrapped_key: WrappedKey::new(b"the key".to_vec()),
                        suite: Suite::CtrHmac(Digest::Sha256),
                        contents: b"x".to_vec(),
                        mac: vec![0xFF, 0xFF],
                        bound: false,
                    },
                };
                assert_eq!(store.get(&name, &Select::Latest).await.as_ref(), Ok(&expected));
                assert_eq!(passed, Ok(expected));
            }
            let comments: Vec<_> = sorted_entries(store).await.into_iter().map(|entry| entry.comment).collect();
            assert_eq!(comments, vec![None; 8]);
        });
    }

    /// What this product writes is what the original writes, attribute by attribute.
    #[test]
    fn a_row_in_the_table_has_the_attributes_of_the_original() {
        let world = in_world(World::dynamodb, async |store| {
            let SealedRow { sealed, .. } = row_of("a", "1", b"x");
            let sealed = Sealed { wrapped_key: WrappedKey::new(b"the key".to_vec()), mac: vec![0xFF, 0xFF], ..sealed };
            for (name, comment) in [("a", None), ("b", Some("why"))] {
                let entry = entry(name, "0000000000000000001", comment);
                store.put(&SealedRow { entry, sealed: sealed.clone() }).await.expect("stored");
            }
        });
        if let Some(world) = world {
            let expected = [
                item("a", "0000000000000000001", json!({})),
                item("b", "0000000000000000001", json!({"comment": {"S": "why"}})),
            ];
            assert_eq!(world.rows(), expected);
        }
    }

    #[test]
    fn a_table_that_is_not_there_is_named() {
        in_world(World::without_table, async |store| {
            for (call, answer) in every_answer(store).await {
                let Err(StoreError::NotSetUp { place, message }) = &answer else { panic!("{call}: {answer:?}") };
                assert!(place.starts_with("the table table-") && place.ends_with(" in us-east-1"), "{call}: {place}");
                assert!(message.contains("ResourceNotFoundException"), "{call}: {message}");
            }
        });
    }

    #[test]
    fn a_table_with_another_partition_key_is_no_store() {
        in_table_of(&["id"], async |store| are_of_no_store(every_answer(store).await));
    }

    #[test]
    fn a_table_with_another_sort_key_is_no_store() {
        in_table_of(&["name", "number"], async |store| are_of_no_store(every_answer(store).await));
    }

    /// It takes rows, one for each name: the answer to a put alone does not show what it is.
    #[test]
    fn a_table_without_a_sort_key_is_no_store() {
        in_table_of(&["name"], async |store| {
            let mut answers = every_answer(store).await;
            let exists = StoreError::Exists { name: name("a"), version: Version::stored("1") };
            assert_eq!(answers.remove("put"), Some(Err(exists)));
            are_of_no_store(answers);
        });
    }

    fn are_of_no_store(answers: BTreeMap<&str, Result<(), StoreError>>) {
        for (call, answer) in answers {
            assert!(matches!(answer, Err(StoreError::NotAStore { .. })), "{call}: {answer:?}");
        }
    }

    /// In a table that has these keys, and one item.
    fn in_table_of<F: AsyncFnOnce(&DynamoDb)>(keys: &[&str], test: F) {
        let world = || {
            let world = World::without_table();
            let schema = keys.iter().zip(["HASH", "RANGE"]);
            let schema: Vec<_> = schema.map(|(key, kind)| json!({"AttributeName": key, "KeyType": kind})).collect();
            let types: Vec<_> = keys.iter().map(|key| json!({"AttributeName": key, "AttributeType": "S"})).collect();
            let table = json!({
                "TableName": world.table(),
                "KeySchema": schema,
                "AttributeDefinitions": types,
                "BillingMode": "PAY_PER_REQUEST",
            });
            world.call("CreateTable", table);
            world.put_row(&keys.iter().map(|key| ((*key).to_owned(), json!({"S": "a"}))).collect::<Value>());
            world
        };
        in_world(world, test);
    }
}

/// DynamoDB itself takes empty texts since 2020, shows the row that a refused put met since 2023, and has tags and
/// backups. DynamoDB Local, in the release that can be had as a package, does not; moto does.
mod dynamodb_moto {
    use super::*;

    fn in_table<F: AsyncFnOnce(&DynamoDb)>(test: F) {
        in_world(World::moto, test);
    }

    clauses! {
        in_table, DynamoDb:
        a_row_is_got_as_it_was_put
        a_row_is_never_overwritten
        an_empty_comment_is_none
        contents_may_be_empty
    }

    /// What a second attempt meets when the answer to the first one was lost.
    #[test]
    fn the_row_that_is_there_already_is_stored() {
        in_table(async |store| {
            for _ in 0..2 {
                assert_eq!(store.put(&row("a", "1")).await, Ok(()));
                assert_eq!(store.entries().await, Ok(vec![entry("a", "1", None)]));
            }
        });
    }

    #[test]
    fn a_table_is_made_once() {
        use SetupStep::{Creating, EnablingRecovery, Tagging, Waiting};

        in_world(World::moto_without_table, async |store| {
            let options = Setup { point_in_time_recovery: true, ..Setup::default() };
            let steps = vec![Creating, Waiting, Tagging, EnablingRecovery];
            assert_eq!(set_up(store, &options).await, (steps, Ok(SetupOutcome::Created)));
            store.put(&row("a", "1")).await.expect("it can be used at once");
            // What is there stays, and what was asked for is seen to again.
            assert_eq!(set_up(store, &options).await, (vec![EnablingRecovery], Ok(SetupOutcome::Existed)));
            assert_eq!(set_up(store, &Setup::default()).await, (vec![], Ok(SetupOutcome::Existed)));
            assert_eq!(sorted_entries(store).await, [entry("a", "1", None)]);
        });
    }
}
