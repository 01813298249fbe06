//! Many at once: writers of one name, readers of many, and the order in which a vault asks its store and its keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use credstash::{
    Asked, Context, DataKey, Digest, Draft, Entry, Error, Failure, FailureKind, KeyError, KeyService, LocalKey, Memory,
    Name, NewVersion, Pattern, SealedRow, Select, Setup, SetupOutcome, SetupStep, Sqlite, Store, StoreError, Suite,
    Vault, Version, WrappedKey,
};
use futures_util::future::join_all;
use futures_util::stream::BoxStream;

use crate::contract::{in_world, run};
use crate::world::World;

// --- writers --------------------------------------------------------------------------------------------------------

#[test]
fn writers_of_one_name_in_memory() {
    let vault = Vault::new(Memory::new(), LocalKey::random().expect("random bytes"));
    run(twenty_puts_give_twenty_versions([vault.clone(), vault]));
}

/// As two processes: each has opened the file and the key for itself.
#[test]
fn writers_of_one_name_in_sqlite() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let opened = || {
        let store = Sqlite::open_or_create(&folder.path().join("credentials.db")).expect("a store");
        Vault::new(store, LocalKey::read_or_create(&folder.path().join("key")).expect("a key"))
    };
    run(twenty_puts_give_twenty_versions([opened(), opened()]));
}

#[test]
fn writers_of_one_name_in_dynamodb() {
    in_world(World::dynamodb, async |store| {
        let vault = Vault::new(store.clone(), LocalKey::random().expect("random bytes"));
        twenty_puts_give_twenty_versions([vault.clone(), vault]).await;
    });
}

/// None of them fails, none overwrites another, and none leaves a gap.
async fn twenty_puts_give_twenty_versions(vaults: [Vault; 2]) {
    let puts = (1..=20).map(|writer: usize| {
        let vault = vaults[writer % 2].clone();
        tokio::spawn(async move { (vault.put(draft("contended", &value(writer))).await, writer) })
    });
    let mut writers = BTreeMap::new();
    for put in join_all(puts).await {
        let (version, writer) = put.expect("no panic");
        writers.insert(version.expect("stored"), writer);
    }
    let expected: Vec<_> = (1..=20).map(|number| entry("contended", number)).collect();
    for vault in &vaults {
        assert_eq!(vault.list().await.as_ref(), Ok(&expected));
        // Under the version that a writer was told lies its own value.
        for (version, writer) in &writers {
            let select = Select::Exactly(Asked::new(version.as_str()).expect("short enough"));
            let secret = vault.get(&name("contended"), &select, &Context::new()).await.expect("read");
            assert_eq!(secret.expose(), value(*writer).as_bytes(), "{version}");
        }
    }
    assert_eq!(writers.into_values().collect::<BTreeSet<_>>(), (1..=20).collect());
}

fn value(writer: usize) -> String {
    format!("the value of writer {writer}")
}

/// A store in which a rival is faster the first few times: it has stored its own row when a put arrives.
struct Rivalled {
    rows: Memory,
    rivals: AtomicU32,
}

impl Rivalled {
    fn times(rivals: u32) -> Self {
        Self { rows: Memory::new(), rivals: AtomicU32::new(rivals) }
    }
}

#[async_trait]
impl Store for Rivalled {
    async fn setup(&self, options: &Setup, step: &(dyn Fn(SetupStep) + Sync)) -> Result<SetupOutcome, StoreError> {
        self.rows.setup(options, step).await
    }

    async fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        self.rows.entries().await
    }

    async fn versions(&self, name: &Name) -> Result<Vec<Version>, StoreError> {
        self.rows.versions(name).await
    }

    async fn newest(&self, name: &Name) -> Result<Option<Version>, StoreError> {
        self.rows.newest(name).await
    }

    async fn get(&self, name: &Name, select: &Select) -> Result<SealedRow, StoreError> {
        self.rows.get(name, select).await
    }

    fn rows<'a>(&'a self, select: &'a Select) -> BoxStream<'a, Result<SealedRow, StoreError>> {
        self.rows.rows(select)
    }

    async fn put(&self, row: &SealedRow) -> Result<(), StoreError> {
        let faster = self.rivals.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if faster.is_ok() {
            let mut rivals = row.clone();
            rivals.entry.comment = Some("of the rival".to_owned());
            rivals.sealed.wrapped_key = WrappedKey::new(b"of the rival".to_vec());
            self.rows.put(&rivals).await?;
        }
        self.rows.put(row).await
    }

    async fn delete(&self, name: &Name, version: &Version) -> Result<(), StoreError> {
        self.rows.delete(name, version).await
    }
}

#[test]
fn a_writer_who_was_too_slow_takes_the_version_after() {
    run(async {
        let keys = Watched::new();
        let vault = Vault::new(Rivalled::times(3), keys.clone());
        let version = vault.put(draft("a", "mine")).await.expect("stored");
        assert_eq!(version.as_str(), "0000000000000000004");

        let comments: Vec<_> = vault.list().await.expect("entries").into_iter().map(|entry| entry.comment).collect();
        let rivals = Some("of the rival".to_owned());
        assert_eq!(comments, [rivals.clone(), rivals.clone(), rivals, None]);
        let secret = vault.get(&name("a"), &Select::Latest, &Context::new()).await.expect("read");
        assert_eq!(secret.expose(), b"mine");
        // What was sealed once is offered again: a key service may cost money, and a second.
        assert_eq!(keys.generated(), 1);
    });
}

#[test]
fn a_writer_of_an_exact_version_hears_that_it_is_taken() {
    run(async {
        let vault = Vault::new(Rivalled::times(1), Watched::new());
        let version = NewVersion::Exactly(Version::first());
        let put = || vault.put(Draft { version: version.clone(), ..draft("a", "mine") });
        let taken = Error::Store(StoreError::Exists { name: name("a"), version: Version::first() });
        assert_eq!(put().await, Err(taken.clone()));
        // And so does who comes later: it is not tried again under another version.
        assert_eq!(put().await, Err(taken));
        assert_eq!(vault.list().await.expect("entries").len(), 1);
    });
}

// --- readers --------------------------------------------------------------------------------------------------------

#[test]
fn what_cannot_be_read_does_not_keep_the_rest_from_being_read() {
    run(async {
        let vault = Vault::new(Memory::new(), LocalKey::random().expect("random bytes"));
        let (prod, dev) = (context("env", "prod"), context("env", "dev"));
        for number in 0..100 {
            for (kind, context) in [("prod", &prod), ("dev", &dev), ("none", &Context::new())] {
                let draft = draft(&format!("{kind}.{number:02}"), &format!("{kind} {number}"));
                vault.put(Draft { context: context.clone(), ..draft }).await.expect("stored");
            }
        }
        let progress = Mutex::new(Vec::new());
        let heard = |count| progress.lock().expect("no panic").push(count);
        let collected = vault.get_all(None, &Select::Latest, &prod, &heard).await.expect("read");

        let secrets = collected.secrets.iter().map(|(name, secret)| (name.to_string(), secret.expose().to_vec()));
        let expected = (0..100).map(|number| (format!("prod.{number:02}"), format!("prod {number}").into_bytes()));
        assert_eq!(secrets.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert_eq!(collected.failures.len(), 200);
        for (name, failure) in &collected.failures {
            let expected = Error::Key {
                name: name.clone(),
                context_keys: vec!["env".to_owned()],
                error: KeyError::Mismatch { service: "local key" },
            };
            assert_eq!(*failure, expected);
            assert!(!name.as_str().starts_with("prod"), "{name}");
        }
        let progress = progress.into_inner().expect("no panic");
        assert!(progress.is_sorted(), "{progress:?}");
        assert_eq!(progress.last(), Some(&100));
    });
}

/// A pattern chooses before anything is unwrapped, and what it does not choose cannot fail.
#[test]
fn a_pattern_asks_for_no_key_that_is_not_needed() {
    run(async {
        let keys = Watched::new();
        let vault = Vault::new(Memory::new(), keys.clone());
        for name in ["app.db", "app.mail", "other"] {
            vault.put(draft(name, "value")).await.expect("stored");
        }
        vault.put(Draft { context: context("env", "prod"), ..draft("bound", "value") }).await.expect("stored");
        let pattern = Pattern::new("app.*");
        let collected = vault.get_all(Some(&pattern), &Select::Latest, &Context::new(), &|_| ()).await.expect("read");
        assert_eq!(collected.secrets.keys().map(Name::as_str).collect::<Vec<_>>(), ["app.db", "app.mail"]);
        assert_eq!(collected.failures, BTreeMap::new());
        assert_eq!(keys.unwrapped(), 2);
    });
}

/// A failure that every name would meet ends the whole at once; one that says something of a key alone does not.
#[test]
fn only_a_failure_of_every_call_ends_the_pass() {
    use FailureKind::{
        Denied, Io, KeyUnusable, Malconfigured, NoCredentials, Other, RejectedCredentials, Throttled, Tls, Unavailable,
        Unreachable,
    };

    const NAMES: u32 = 300;
    run(async {
        let keys = Watched::new();
        let vault = Vault::new(Memory::new(), keys.clone());
        for number in 0..NAMES {
            vault.put(draft(&format!("name {number:03}"), "value")).await.expect("stored");
        }
        let read = || async {
            let before = keys.unwrapped();
            let collected = vault.get_all(None, &Select::Latest, &Context::new(), &|_| ()).await;
            (collected, keys.unwrapped() - before)
        };
        for kind in [Io, Malconfigured, NoCredentials, RejectedCredentials, Throttled, Tls, Unavailable, Unreachable] {
            let failure = Failure::new(kind, "nobody answers");
            keys.fail(Some(failure.clone()));
            let (collected, calls) = read().await;
            let error = collected.map(|_| "an answer").expect_err("it ends");
            assert_eq!(error.failure(), Some(&failure), "{kind:?}");
            // Those that were under way, but not one for each name.
            assert!((1..NAMES / 2).contains(&calls), "{kind:?}: {calls} calls");
        }
        for kind in [Denied, KeyUnusable, Other] {
            keys.fail(Some(Failure::new(kind, "not this one")));
            let (collected, calls) = read().await;
            let collected = collected.expect("an answer");
            assert_eq!((collected.secrets.len(), collected.failures.len()), (0, 300), "{kind:?}");
            assert_eq!(calls, NAMES, "{kind:?}");
        }
        keys.fail(None);
        let (collected, _) = read().await;
        assert_eq!(collected.expect("an answer").secrets.len(), 300);
    });
}

// --- what a vault asks its key service ------------------------------------------------------------------------------

#[test]
fn what_is_too_large_is_found_before_a_key_is_made() {
    run(async {
        let keys = Watched::new();
        let vault = Vault::new(Memory::new(), keys.clone());
        let too_large = |secret: usize| draft("a", &"x".repeat(secret));

        let secret = SealedRow::MAX_SIZE; // in base64 it is larger by a third
        let refused = vault.put(too_large(secret)).await.expect_err("too large");
        let Error::TooLarge { name: found, secret: len, row } = &refused else { panic!("{refused:?}") };
        assert_eq!((found, *len), (&name("a"), secret));
        assert!(*row > SealedRow::MAX_SIZE, "{row}");
        assert_eq!(keys.generated(), 0);

        // How much longer than itself a wrapped key is shows only when there is one. Then nothing is stored all the same.
        let (entry, suite) = (entry("a", 1), Suite::CtrHmac(Digest::default()));
        let size = |secret| SealedRow::size(&entry, suite, false, suite.key_len(), secret);
        let largest =
            (0..secret).rev().find(|secret| size(*secret) <= SealedRow::MAX_SIZE).expect("room for something");
        let refused = vault.put(too_large(largest)).await.expect_err("too large with its key");
        assert!(matches!(refused, Error::TooLarge { .. }), "{refused:?}");
        assert_eq!(keys.generated(), 1);
        assert_eq!(vault.list().await, Ok(vec![]));

        vault.put(too_large(largest - 200)).await.expect("there is room for the key");
    });
}

/// Whoever waits for a key service waits for a network: what is known to fail without it must fail at once.
#[test]
fn what_has_no_next_version_is_found_before_a_key_is_made() {
    run(async {
        let keys = Watched::new();
        let vault = Vault::new(Memory::new(), keys.clone());
        let word = NewVersion::Exactly(Version::stored("word"));
        vault.put(Draft { version: word, ..draft("a", "value") }).await.expect("stored");
        let refused = vault.put(draft("a", "value")).await.expect_err("no number");
        assert!(matches!(refused, Error::NoNextVersion { .. }), "{refused:?}");
        assert_eq!(keys.generated(), 1, "that of the first");
    });
}

#[test]
fn without_a_key_nothing_is_stored() {
    run(async {
        let keys = Watched::new();
        let vault = Vault::new(Memory::new(), keys.clone());
        let failure = Failure::new(FailureKind::Denied, "not you");
        keys.fail(Some(failure.clone()));
        for version in [NewVersion::Next, NewVersion::Exactly(Version::first())] {
            let refused = vault.put(Draft { version, ..draft("a", "value") }).await.expect_err("no key");
            assert_eq!((refused.name(), refused.failure()), (Some(&name("a")), Some(&failure)));
        }
        assert_eq!(vault.list().await, Ok(vec![]));
    });
}

/// A local key that counts its calls, and fails while it is told to.
#[derive(Clone)]
struct Watched(Arc<Watch>);

struct Watch {
    key: LocalKey,
    failure: Mutex<Option<Failure>>,
    generated: AtomicU32,
    unwrapped: AtomicU32,
}

impl Watched {
    fn new() -> Self {
        Self(Arc::new(Watch {
            key: LocalKey::random().expect("random bytes"),
            failure: Mutex::default(),
            generated: AtomicU32::default(),
            unwrapped: AtomicU32::default(),
        }))
    }

    fn fail(&self, failure: Option<Failure>) {
        *self.0.failure.lock().expect("no panic") = failure;
    }

    fn failure(&self) -> Option<Failure> {
        self.0.failure.lock().expect("no panic").clone()
    }

    fn generated(&self) -> u32 {
        self.0.generated.load(Ordering::Relaxed)
    }

    fn unwrapped(&self) -> u32 {
        self.0.unwrapped.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl KeyService for Watched {
    async fn generate(&self, len: usize, context: &Context) -> Result<(DataKey, WrappedKey), KeyError> {
        self.0.generated.fetch_add(1, Ordering::Relaxed);
        match self.failure() {
            Some(failure) => Err(KeyError::Generate { service: "watched", key: "a key".to_owned(), failure }),
            None => self.0.key.generate(len, context).await,
        }
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, KeyError> {
        self.0.unwrapped.fetch_add(1, Ordering::Relaxed);
        match self.failure() {
            Some(failure) => Err(KeyError::Unwrap { service: "watched", failure }),
            None => self.0.key.unwrap_key(wrapped, context).await,
        }
    }
}

// --- names and drafts -----------------------------------------------------------------------------------------------

fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

fn entry(text: &str, version: u32) -> Entry {
    Entry { name: name(text), version: Version::stored(format!("{version:019}")), comment: None }
}

fn draft(text: &str, value: &str) -> Draft {
    Draft::next(name(text), value.into())
}

fn context(key: &str, value: &str) -> Context {
    [(key.to_owned(), value.to_owned())].into_iter().collect()
}
