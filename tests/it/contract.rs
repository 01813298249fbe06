//! What every store keeps to: one contract, and each clause of it a test for each store.
//!
//! The clauses come first, then the stores, each with what only it can show.

use std::any::type_name;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use credstash::{
    Asked, Billing, Digest, DynamoDb, Entry, Failure, Memory, Name, Sealed, SealedRow, Select, Session, SessionOptions,
    Setup, SetupOutcome, SetupStep, Sqlite, Store, StoreError, Suite, Version, WrappedKey,
};
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use serde_json::{Value, json};

use crate::world::{Ran, World};

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

/// Makes the tests of all clauses that every store keeps.
macro_rules! all_clauses {
    ($run:ident, $store:ty) => {
        clauses! {
            $run, $store:
            a_row_is_got_as_it_was_put
            a_row_is_never_overwritten
            what_is_not_there_is_not_found
            versions_sort_by_their_bytes
            the_padded_version_comes_before_the_typed_one
            entries_are_all_versions_of_all_names
            an_empty_comment_is_none
            one_pass_gives_the_newest_of_each_name
            one_pass_gives_the_asked_version_of_each_name
            only_the_deleted_version_goes
            every_other_text_is_another_name
            the_longest_name_and_the_longest_version
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
        let sealed = Sealed { wrapped_key: WrappedKey::new(vec![0, 255]), suite, contents: (0..=255).collect(), mac };
        let stored = SealedRow { entry: entry(digest.name(), "0000000000000000001", Some("why")), sealed };
        store.put(&stored).await.expect("stored");
        for select in [Select::Latest, exactly("1")] {
            assert_eq!(store.get(&stored.entry.name, &select).await.as_ref(), Ok(&stored), "{select:?}");
        }
    }
}

async fn a_row_is_never_overwritten(store: &dyn Store) {
    let first = row("a", "1", b"first");
    store.put(&first).await.expect("stored");

    let exists = StoreError::Exists { name: name("a"), version: Version::stored("1") };
    let other = SealedRow { entry: entry("a", "1", Some("another comment")), ..row("a", "1", b"second") };
    assert_eq!(store.put(&other).await, Err(exists.clone()));
    assert_eq!(store.get(&name("a"), &Select::Latest).await.as_ref(), Ok(&first));

    // The same row once more is no exception: whoever puts must know whether the row is theirs.
    assert_eq!(store.put(&first).await, Err(exists));
    assert_eq!(store.entries().await, Ok(vec![first.entry]));
}

async fn what_is_not_there_is_not_found(store: &dyn Store) {
    assert_eq!(store.entries().await, Ok(vec![]));
    assert_eq!(one_pass(store, &Select::Latest).await, BTreeMap::new());

    store.put(&row("a", "0000000000000000001", b"x")).await.expect("stored");
    assert_eq!(store.versions(&name("b")).await, Ok(vec![]));
    assert_eq!(store.newest(&name("b")).await, Ok(None));
    assert_eq!(store.get(&name("b"), &Select::Latest).await, Err(not_found("b", None)));
    assert_eq!(store.get(&name("b"), &exactly("1")).await, Err(not_found("b", Some("0000000000000000001"))));
    // The version is named as this product would have stored it.
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
        // In UTF-16 these two sort the other way round.
        "\u{ff5e}",
        "\u{1f600}",
    ];
    assert!(sorted.is_sorted());
    for version in sorted.iter().rev() {
        store.put(&row("a", version, version.as_bytes())).await.expect("stored");
    }
    for newest in (0..sorted.len()).rev() {
        assert_eq!(store.versions(&name("a")).await, Ok(versions(&sorted[..=newest])));
        assert_eq!(store.newest(&name("a")).await, Ok(Some(Version::stored(sorted[newest]))));
        let expected = row("a", sorted[newest], sorted[newest].as_bytes());
        assert_eq!(one_pass(store, &Select::Latest).await, passed([("a", Ok(expected.clone()))]));
        assert_eq!(store.get(&name("a"), &Select::Latest).await, Ok(expected));
        store.delete(&name("a"), &Version::stored(sorted[newest])).await.expect("deleted");
    }
    assert_eq!(store.newest(&name("a")).await, Ok(None));
}

/// Other writers may not have padded: what was typed is then the version as it is stored.
async fn the_padded_version_comes_before_the_typed_one(store: &dyn Store) {
    for (typed, padded) in
        [("5", "0000000000000000005"), ("05", "0000000000000000005"), ("1.2.3", "000000000000001.2.3")]
    {
        let of_typed = row(typed, typed, b"unpadded");
        store.put(&of_typed).await.expect("stored");
        assert_eq!(store.get(&name(typed), &exactly(typed)).await, Ok(of_typed));

        let of_padded = row(typed, padded, b"padded");
        store.put(&of_padded).await.expect("stored");
        assert_eq!(store.get(&name(typed), &exactly(typed)).await, Ok(of_padded));
    }
    // Nobody who asks for 5 means 50, or a version that only begins so.
    store.put(&row("a", "50", b"x")).await.expect("stored");
    assert_eq!(store.get(&name("a"), &exactly("5")).await, Err(not_found("a", Some("0000000000000000005"))));
}

async fn entries_are_all_versions_of_all_names(store: &dyn Store) {
    let expected = [
        entry("a", "0000000000000000001", None),
        entry("a", "0000000000000000002", Some("rotated, after \"the\" incident\n☃")),
        entry("a", "word", None),
        entry("b", "1", Some(" ")),
    ];
    for entry in &expected {
        let SealedRow { sealed, .. } = row("x", "y", b"z");
        store.put(&SealedRow { entry: entry.clone(), sealed }).await.expect("stored");
    }
    let mut entries = store.entries().await.expect("entries");
    entries.sort();
    assert_eq!(entries, expected);
}

/// A table cannot hold it, and nobody can see the difference.
async fn an_empty_comment_is_none(store: &dyn Store) {
    let stored = SealedRow { entry: entry("a", "1", Some("")), ..row("a", "1", b"x") };
    store.put(&stored).await.expect("stored");
    assert_eq!(store.entries().await, Ok(vec![entry("a", "1", None)]));
    assert_eq!(store.get(&name("a"), &Select::Latest).await, Ok(row("a", "1", b"x")));
}

async fn one_pass_gives_the_newest_of_each_name(store: &dyn Store) {
    for (name, version) in [("a", "2"), ("a", "10"), ("b", "0000000000000000001"), ("c", "x"), ("c", "1"), ("c", "9")] {
        store.put(&row(name, version, version.as_bytes())).await.expect("stored");
    }
    let newest = [("a", "2"), ("b", "0000000000000000001"), ("c", "x")];
    let newest = newest.map(|(name, version)| (name, Ok(row(name, version, version.as_bytes()))));
    assert_eq!(one_pass(store, &Select::Latest).await, passed(newest));
}

async fn one_pass_gives_the_asked_version_of_each_name(store: &dyn Store) {
    let (padded, other) = ("0000000000000000001", "0000000000000000002");
    let (both, typed_only, padded_only) = (row("both", padded, b"x"), row("typed", "1", b"x"), row("padded", padded, b"x"));
    for row in [&row("both", "1", b"y"), &both, &typed_only, &padded_only, &row("neither", other, b"y")] {
        store.put(row).await.expect("stored");
        let SealedRow { entry: Entry { name, .. }, .. } = row;
        store.put(&self::row(name.as_str(), "11", b"y")).await.or_else(|error| match error {
            StoreError::Exists { .. } => Ok(()), // of the same name, a moment ago
            error => Err(error),
        })
        .expect("stored");
    }
    assert_eq!(
        one_pass(store, &exactly("1")).await,
        passed([
            ("both", Ok(both)),
            ("neither", Err(not_found("neither", Some(padded)))),
            ("padded", Ok(padded_only)),
            ("typed", Ok(typed_only)),
        ])
    );
}

async fn only_the_deleted_version_goes(store: &dyn Store) {
    for (name, version) in [("a", "1"), ("a", "2"), ("a", "3"), ("b", "2")] {
        store.put(&row(name, version, b"x")).await.expect("stored");
    }
    // The second time there is nothing to delete, which is as good.
    for _ in 0..2 {
        store.delete(&name("a"), &Version::stored("2")).await.expect("deleted");
        assert_eq!(store.versions(&name("a")).await, Ok(versions(&["1", "3"])));
        assert_eq!(store.versions(&name("b")).await, Ok(versions(&["2"])));
    }
    store.delete(&name("nobody"), &Version::stored("1")).await.expect("nothing is deleted");
    assert_eq!(store.entries().await.map(|entries| entries.len()), Ok(3));

    // Its place is free again.
    let again = row("a", "2", b"again");
    store.put(&again).await.expect("stored");
    assert_eq!(store.get(&name("a"), &exactly("2")).await, Ok(again));
}

async fn every_other_text_is_another_name(store: &dyn Store) {
    let names = [
        "name", "Name", "NAME", " name", "name ", "name\t", "name\n", "name\r\n", "n%", "n_", "%", "_", "*", "?", "[n]",
        "it's", "\"it\"", "`it`", "'; DROP TABLE credential; --", "a/b", "a\\b", "../a", ".", "#name", ":name", "$1",
        "é", "e\u{301}", "☃", "\u{1f600}\u{10ffff}", "\u{feff}name", "\u{ff5e}", "ß", "SS", "İ", "i", "0", "00", "-1",
        "null", "na\0me", "na", "na\0", "\0",
    ];
    let rows: BTreeMap<&str, SealedRow> = names.map(|text| (text, row(text, "1", text.as_bytes()))).into();
    for row in rows.values() {
        store.put(row).await.unwrap_or_else(|error| panic!("{:?} is stored: {error}", row.entry.name));
    }
    let everything = rows.iter().map(|(name, row)| (*name, Ok(row.clone())));
    assert_eq!(one_pass(store, &Select::Latest).await, passed(everything.clone()));
    assert_eq!(one_pass(store, &exactly("1")).await, passed(everything));

    let mut left = rows.clone();
    for (text, row) in &rows {
        assert_eq!(store.get(&name(text), &Select::Latest).await.as_ref(), Ok(row), "{text:?}");
        assert_eq!(store.versions(&name(text)).await, Ok(versions(&["1"])), "{text:?}");
        store.delete(&name(text), &Version::stored("1")).await.expect("deleted");
        left.remove(text);
        let mut entries = store.entries().await.expect("entries");
        entries.sort();
        assert_eq!(entries, left.values().map(|row| row.entry.clone()).collect::<Vec<_>>(), "without {text:?}");
    }
}

async fn the_longest_name_and_the_longest_version(store: &dyn Store) {
    let (long_name, long_version) = ("é".repeat(Name::MAX_BYTES / 2), "☃".repeat(Version::MAX_BYTES / 3) + "é");
    assert_eq!((long_name.len(), long_version.len()), (Name::MAX_BYTES, Version::MAX_BYTES - 1 + 1 - 1 + 1));
    // Others, which differ in the last byte only.
    let other_name = long_name.replace("éé", "éé") .chars().rev().skip(1).collect::<String>() + "è";
    let rows = [row(&long_name, &long_version, b"x"), row(&other_name, &long_version, b"y")];
    for row in &rows {
        store.put(row).await.expect("stored");
    }
    for row in rows {
        assert_eq!(store.get(&row.entry.name, &exactly(&long_version)).await, Ok(row));
    }
}
