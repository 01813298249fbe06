//! The order of the steps, and what becomes of them when another writer, a row or a service fails.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tokio::time::Instant;

use super::*;
use crate::failure::{Failure, FailureKind};
use crate::key::KeyError;
use crate::key::local::LocalKey;
use crate::row::MalformedAttribute;
use crate::secret::{DataKey, WrappedKey};
use crate::store::memory::Memory;
use crate::version::Asked;

// --- put and get ------------------------------------------------------------------------------------------------

#[tokio::test]
async fn every_put_is_a_version_of_its_own() {
    let (vault, ..) = rigged(Rigged::default());
    assert_eq!(vault.put(draft("a", "first")).await, Ok(version(1)));
    assert_eq!(vault.put(draft("a", "second")).await, Ok(version(2)));
    assert_eq!(vault.put(exactly(7, draft("a", "seventh"))).await, Ok(version(7)));
    let exists = StoreError::Exists { name: name("a"), version: version(7) };
    assert_eq!(vault.put(exactly(7, draft("a", "again"))).await, Err(exists.into()));
    assert_eq!(vault.put(draft("a", "eighth")).await, Ok(version(8)));

    assert_eq!(got(&vault, "a", &Select::Latest).await.as_deref(), Ok("eighth"));
    assert_eq!(got(&vault, "a", &select(2)).await.as_deref(), Ok("second"));
    assert_eq!(got(&vault, "a", &select(7)).await.as_deref(), Ok("seventh"));
    let not_found = StoreError::not_found(&name("a"), &select(3));
    assert_eq!(got(&vault, "a", &select(3)).await, Err(not_found.into()));

    let word = Version::stored("word");
    vault.put(Draft { version: NewVersion::Exactly(word.clone()), ..draft("a", "last") }).await.expect("stored");
    let error = word.next().expect_err("no number");
    assert_eq!(vault.put(draft("a", "after it")).await, Err(Error::NoNextVersion { name: name("a"), error }));
}

#[tokio::test]
async fn a_secret_opens_with_its_context_only() {
    let (vault, ..) = rigged(Rigged::default());
    let prod: Context = [("env".to_owned(), "prod".to_owned())].into_iter().collect();
    vault.put(Draft { context: prod.clone(), ..draft("a", "value") }).await.expect("stored");
    let secret = vault.get(&name("a"), &Select::Latest, &prod).await.expect("read");
    assert_eq!(secret.expose(), b"value");
    let mismatch = Error::key(&name("a"), &Context::new(), KeyError::Mismatch { service: "local key" });
    assert_eq!(got(&vault, "a", &Select::Latest).await, Err(mismatch));
}

#[tokio::test]
async fn a_changed_row_is_told_from_one_that_cannot_be_sealed() {
    let (vault, store, _) = rigged(Rigged::default());
    vault.put(draft("a", "value")).await.expect("stored");
    let mut row = store.get(&name("a"), &Select::Latest).await.expect("there");
    row.entry.version = version(2);
    row.sealed.contents[0] ^= 1;
    store.put(&row).await.expect("stored");
    let changed = Error::Integrity { name: name("a"), version: version(2), digest: Digest::Sha256 };
    assert_eq!(got(&vault, "a", &Select::Latest).await, Err(changed));

    let digest = Digest::Whirlpool;
    let error = EnvelopeError::ReadOnlyDigest { digest };
    let refused = vault.put(Draft { digest, ..draft("a", "value") }).await;
    assert_eq!(refused, Err(Error::Envelope { name: name("a"), error }));
}

#[tokio::test]
async fn each_side_gets_ready_while_the_other_is_asked() {
    let (vault, store, keys) = rigged(Rigged::default());
    let ready = async || {
        tokio::task::yield_now().await;
        (store.prepared.swap(false, Ordering::Relaxed), keys.prepared.swap(false, Ordering::Relaxed))
    };
    vault.put(exactly(1, draft("a", "value"))).await.expect("stored");
    assert_eq!(ready().await, (true, false));
    vault.put(Draft { bind: true, ..draft("a", "value") }).await.expect("stored");
    assert_eq!(ready().await, (false, true));
    got(&vault, "a", &Select::Latest).await.expect("read");
    assert_eq!(ready().await, (false, true));
    // Both are asked at once.
    vault.put(draft("a", "value")).await.expect("stored");
    assert_eq!(ready().await, (false, false));
}

#[tokio::test]
async fn a_row_of_the_largest_size_is_the_largest() {
    let (vault, store, keys) = rigged(Rigged::default());
    let draft = Draft { comment: Some(String::new()), ..draft("a", &"x".repeat(300_000)) };
    let size = |wrapped_key_len| {
        let entry = entry(&draft, &Version::first());
        SealedRow::size(&entry, Suite::CtrHmac(draft.digest), false, wrapped_key_len, 300_000)
    };
    let commented = |len| Draft { comment: Some("x".repeat(len)), ..draft.clone() };
    let too_large = |row| Err(Error::TooLarge { name: name("a"), secret: 300_000, row });

    // Too large with the shortest key that there could be: nobody is asked.
    let room = SealedRow::MAX_SIZE - size(64);
    assert_eq!(vault.put(commented(room + 1)).await, too_large(SealedRow::MAX_SIZE + 1));
    assert_eq!(vault.put(exactly(1, commented(room + 1))).await, too_large(SealedRow::MAX_SIZE + 1));
    assert_eq!(keys.asked(), []);

    // Too large with the key that there is: nothing is stored.
    let room = SealedRow::MAX_SIZE - size(64 + WRAPPING);
    assert_eq!(vault.put(commented(room + 1)).await, too_large(SealedRow::MAX_SIZE + 1));
    assert_eq!(vault.put(exactly(1, commented(room + 1))).await, too_large(SealedRow::MAX_SIZE + 1));
    assert_eq!(store.calls(), [""; 0]);

    assert_eq!(vault.put(commented(room)).await, Ok(version(1)));
}

#[tokio::test]
async fn many_puts_are_answered_in_their_order_whatever_becomes_of_each() {
    let (vault, ..) = rigged(Rigged::default());
    vault.put(draft("b", "there")).await.expect("stored");
    let drafts = vec![draft("c", "1"), exactly(1, draft("b", "2")), draft("a", "3"), draft("b", "4")];
    let answers: Vec<_> = vault.put_all(drafts).collect().await;
    let exists = StoreError::Exists { name: name("b"), version: version(1) };
    let expected = [
        (name("c"), Ok(version(1))),
        (name("b"), Err(exists.into())),
        (name("a"), Ok(version(1))),
        (name("b"), Ok(version(2))),
    ];
    assert_eq!(answers, expected);
    assert_eq!(got(&vault, "a", &Select::Latest).await.as_deref(), Ok("3"));
}

// --- binding ----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_bound_row_opens_in_its_own_place_only() {
    let (vault, store, _) = rigged(Rigged::default());
    vault.put(Draft { bind: true, ..draft("a", "value") }).await.expect("stored");
    assert_eq!(got(&vault, "a", &Select::Latest).await.as_deref(), Ok("value"));

    let row = store.get(&name("a"), &Select::Latest).await.expect("there");
    assert!(row.sealed.bound);
    for moved in [Entry { name: name("b"), ..row.entry.clone() }, Entry { version: version(2), ..row.entry.clone() }] {
        store.put(&SealedRow { entry: moved.clone(), ..row.clone() }).await.expect("stored");
        let context = Context::new().bound_to(&moved.name, &moved.version);
        let refused = Error::key(&moved.name, &context, KeyError::Mismatch { service: "local key" });
        assert_eq!(got(&vault, moved.name.as_str(), &Select::Latest).await, Err(refused));
    }
}

#[tokio::test]
async fn a_vault_that_requires_binding_reads_nothing_else() {
    let (vault, ..) = rigged(Rigged::default());
    vault.put(draft("a", "unbound")).await.expect("stored");
    vault.put(Draft { bind: true, ..draft("b", "bound") }).await.expect("stored");
    let strict = vault.requiring_bound();
    let unbound = Error::Unbound { name: name("a"), version: version(1) };
    assert_eq!(got(&strict, "a", &Select::Latest).await, Err(unbound.clone()));
    assert_eq!(got(&strict, "b", &Select::Latest).await.as_deref(), Ok("bound"));
    let collected = read_all(&strict, None).await.expect("read");
    assert_eq!(collected, [("a", Err(unbound)), ("b", Ok("bound"))].map(owned));
}

// --- other writers ----------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_put_takes_the_version_after_those_of_faster_writers() {
    let (vault, _, keys) = rigged(Rigged { rivals: 3 * STUCK, ..Rigged::default() });
    let started = Instant::now();
    assert_eq!(vault.put(draft("a", "mine")).await, Ok(version(3 * STUCK + 1)));
    assert_eq!(got(&vault, "a", &Select::Latest).await.as_deref(), Ok("mine"));
    assert_eq!(keys.asked(), [Context::new()], "it is sealed once");
    // The pauses grow: thirty like the first would end before.
    assert!(started.elapsed() > Duration::from_millis(6 * 30), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_bound_put_is_sealed_anew_for_each_version() {
    let (vault, _, keys) = rigged(Rigged { rivals: 2, ..Rigged::default() });
    assert_eq!(vault.put(Draft { bind: true, ..draft("a", "mine") }).await, Ok(version(3)));
    assert_eq!(got(&vault, "a", &Select::Latest).await.as_deref(), Ok("mine"));
    assert_eq!(keys.asked(), [1, 2, 3].map(|number| Context::new().bound_to(&name("a"), &version(number))));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_taken_and_not_there_is_given_up() {
    let (vault, store, _) = rigged(Rigged { is_stuck: true, ..Rigged::default() });
    let exists = StoreError::Exists { name: name("a"), version: version(1) };
    assert_eq!(vault.put(draft("a", "mine")).await, Err(exists.into()));
    assert_eq!(store.calls(), vec!["put 1"; 1 + STUCK as usize]);
}

#[tokio::test(start_paused = true)]
async fn pauses_are_random_and_grow_up_to_a_limit() {
    for (conflict, limit) in [(0, 5), (1, 10), (3, 40), (6, 250), (u32::MAX, 250)] {
        let limit = Duration::from_millis(limit);
        let mut pauses = Vec::new();
        for _ in 0..100 {
            let started = Instant::now();
            pause(conflict).await;
            pauses.push(started.elapsed());
        }
        pauses.sort_unstable();
        assert!(pauses[0] < limit / 2 && pauses[99] > limit / 2, "{conflict}: {pauses:?}");
        // The clock counts in milliseconds, and rounds up.
        assert!(pauses[99] <= limit + Duration::from_millis(1), "{conflict}: {pauses:?}");
    }
}

// --- many at once -----------------------------------------------------------------------------------------------

#[tokio::test]
async fn the_list_is_sorted() {
    let (vault, store, _) = rigged(Rigged::default());
    for (name, number) in [("b", 1), ("a", 10), ("a", 9)] {
        vault.put(exactly(number, draft(name, "value"))).await.expect("stored");
    }
    assert!(!store.entries().await.expect("read").is_sorted());
    let entry = |text, number| Entry { name: name(text), version: version(number), comment: None };
    assert_eq!(vault.list().await, Ok(vec![entry("a", 9), entry("a", 10), entry("b", 1)]));
}

#[tokio::test]
async fn all_that_match_are_read_and_counted() {
    let (vault, ..) = rigged(Rigged::default());
    for name in ["app.a", "app.b", "other"] {
        vault.put(draft(name, "old")).await.expect("stored");
        vault.put(draft(name, "new")).await.expect("stored");
    }
    let heard = Mutex::new(Vec::new());
    let progress = |count| heard.lock().expect("no panic").push(count);
    let pattern = Pattern::new("app.*");
    let collected = vault.get_all(Some(&pattern), &select(1), &Context::new(), &progress).await.expect("read");
    assert_eq!(read(collected), [("app.a", Ok("old")), ("app.b", Ok("old"))].map(owned));
    assert_eq!(*heard.lock().expect("no panic"), [1, 2]);

    let all = read_all(&vault, None).await.expect("read");
    assert_eq!(all, [("app.a", Ok("new")), ("app.b", Ok("new")), ("other", Ok("new"))].map(owned));
}

/// Of the rows of one name the selected one counts, in whichever order a store gives them: an older secret never
/// stands in for a newer row that cannot be read.
#[tokio::test]
async fn a_name_that_a_store_hands_on_twice_is_decided_by_its_newest_row() {
    let (vault, store, _) = rigged(Rigged::default());
    for name in ["good", "damaged", "malformed"] {
        vault.put(draft(name, "old")).await.expect("stored");
        vault.put(draft(name, "new")).await.expect("stored");
    }
    let row = async |text, number| store.get(&name(text), &select(number)).await.expect("there");
    let mut damaged = row("damaged", 2).await;
    damaged.sealed.mac[0] ^= 1;
    let malformed = StoreError::Malformed {
        name: name("malformed"),
        version: version(2),
        malformed: MalformedAttribute::missing("hmac"),
    };
    let absent = StoreError::not_found(&name("absent"), &Select::Latest);
    // Of a part of the rows of a name, none of which is selected.
    let elsewhere = StoreError::not_found(&name("good"), &Select::Latest);
    let mut pass = vec![
        Ok(row("good", 1).await),
        Ok(row("good", 2).await),
        Ok(row("damaged", 1).await),
        Ok(damaged),
        Ok(row("malformed", 1).await),
        Err(malformed.clone()),
        Err(absent.clone()),
        Err(elsewhere),
    ];
    let integrity = Error::Integrity { name: name("damaged"), version: version(2), digest: Digest::Sha256 };
    let expected = [
        ("absent", Err(absent.into())),
        ("damaged", Err(integrity)),
        ("good", Ok("new")),
        ("malformed", Err(malformed.into())),
    ]
    .map(owned);
    for _ in 0..2 {
        let store = Arc::new(Rigged { pass: Some(pass.clone()), ..Rigged::default() });
        let vault = Vault { store, ..vault.clone() };
        assert_eq!(read_all(&vault, None).await.expect("read"), expected);
        pass.reverse();
    }
}

#[tokio::test]
async fn a_failure_ends_the_pass_if_it_is_not_of_one_name() {
    let broken = StoreError::Failed(Failure::new(FailureKind::Other, "half a page"));
    let pass = vec![Err(StoreError::not_found(&name("a"), &Select::Latest)), Err(broken.clone())];
    let (vault, ..) = rigged(Rigged { pass: Some(pass), ..Rigged::default() });
    // The pattern keeps out what is of other names, and nothing that is of none.
    assert_eq!(read_all(&vault, Some("b")).await, Err(broken.into()));

    let (vault, _, keys) = rigged(Rigged::default());
    vault.put(draft("a", "value")).await.expect("stored");
    for (kind, ends) in [(FailureKind::Denied, false), (FailureKind::Throttled, true)] {
        let failure = Failure::new(kind, "no");
        *keys.failure.lock().expect("no panic") = Some(failure.clone());
        let error = Error::key(&name("a"), &Context::new(), KeyError::Unwrap { service: "watched", failure });
        let expected = if ends { Err(error) } else { Ok(vec![owned(("a", Err(error)))]) };
        assert_eq!(read_all(&vault, None).await, expected, "{kind:?}");
    }
}

// --- delete -----------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn the_newest_version_is_deleted_when_all_others_are_gone() {
    let (vault, store, _) = rigged(Rigged::default());
    for number in 1..=3 {
        vault.put(exactly(number, draft("a", "value"))).await.expect("stored");
    }
    let mut heard = Vec::new();
    vault.delete(&name("a"), |version| heard.push(version.clone())).await.expect("deleted");
    assert_eq!(heard, [1, 2, 3].map(version));
    assert_eq!(store.calls()[3..], ["delete 1", "delete 2", "gone 1", "gone 2", "delete 3", "gone 3"]);
    let not_found = StoreError::NotFound { name: name("a"), version: None };
    assert_eq!(vault.delete(&name("a"), |_| ()).await, Err(not_found.into()));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_fails_midway_leaves_the_newest_version() {
    let (vault, ..) = rigged(Rigged { undeletable: Some(version(1)), ..Rigged::default() });
    for (number, value) in [(1, "old"), (2, "older"), (3, "newest")] {
        vault.put(exactly(number, draft("a", value))).await.expect("stored");
    }
    assert_eq!(vault.delete(&name("a"), |_| ()).await, Err(StoreError::Failed(undeletable()).into()));
    assert_eq!(got(&vault, "a", &Select::Latest).await.as_deref(), Ok("newest"));
}

// --- setup ------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn setup_is_that_of_the_store() {
    let (vault, ..) = rigged(Rigged::default());
    assert_eq!(vault.setup(&Setup::default(), &|_| ()).await, Ok(SetupOutcome::Existed));
    let protected = Setup { deletion_protection: true, ..Setup::default() };
    let unsupported = StoreError::Unsupported { store: "memory", option: "deletion protection" };
    assert_eq!(vault.setup(&protected, &|_| ()).await, Err(unsupported.into()));
}

// --- a store and a key service that are watched -----------------------------------------------------------------

/// A store in memory that notes what is written, and has one fault or another.
#[derive(Default)]
struct Rigged {
    memory: Memory,
    calls: Mutex<Vec<String>>,
    prepared: AtomicBool,
    /// Another writer is faster until it has written as many versions.
    rivals: u32,
    /// Every version is taken, and none is there.
    is_stuck: bool,
    /// This version cannot be deleted.
    undeletable: Option<Version>,
    /// What one pass gives, instead of what is there.
    pass: Option<Vec<Result<SealedRow, StoreError>>>,
}

impl Rigged {
    fn note(&self, verb: &str, version: &Version) {
        let mut calls = self.calls.lock().expect("no panic");
        calls.push(format!("{verb} {}", version.as_str().trim_start_matches('0')));
        assert!(calls.len() < 1000, "it goes on for ever");
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("no panic").clone()
    }
}

#[async_trait]
impl Store for Rigged {
    async fn setup(&self, options: &Setup, step: &(dyn Fn(SetupStep) + Sync)) -> Result<SetupOutcome, StoreError> {
        self.memory.setup(options, step).await
    }

    async fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = self.memory.entries().await?;
        entries.reverse();
        Ok(entries)
    }

    async fn versions(&self, name: &Name) -> Result<Vec<Version>, StoreError> {
        self.memory.versions(name).await
    }

    async fn newest(&self, name: &Name) -> Result<Option<Version>, StoreError> {
        self.memory.newest(name).await
    }

    async fn get(&self, name: &Name, select: &Select) -> Result<SealedRow, StoreError> {
        self.memory.get(name, select).await
    }

    fn rows<'a>(&'a self, select: &'a Select) -> BoxStream<'a, Result<SealedRow, StoreError>> {
        match &self.pass {
            Some(pass) => stream::iter(pass.clone()).boxed(),
            None => self.memory.rows(select),
        }
    }

    async fn put(&self, row: &SealedRow) -> Result<(), StoreError> {
        let Entry { name, version, .. } = row.entry.clone();
        self.note("put", &version);
        if self.is_stuck {
            return Err(StoreError::Exists { name, version });
        }
        if self.memory.versions(&name).await?.len() < self.rivals as usize {
            self.memory.put(row).await?;
        }
        self.memory.put(row).await
    }

    /// Takes its time, so that it shows what is being deleted beside what.
    async fn delete(&self, name: &Name, version: &Version) -> Result<(), StoreError> {
        self.note("delete", version);
        tokio::time::sleep(Duration::from_millis(10)).await;
        if self.undeletable.as_ref() == Some(version) {
            return Err(undeletable().into());
        }
        self.memory.delete(name, version).await?;
        self.note("gone", version);
        Ok(())
    }

    async fn prepare(&self) {
        self.prepared.store(true, Ordering::Relaxed);
    }
}

/// What keeps [`Rigged::undeletable`] from being deleted.
fn undeletable() -> Failure {
    Failure::new(FailureKind::Denied, "not this one")
}

/// A local key that notes the contexts of the keys that it makes, and unwraps none when it is told so.
struct Watched {
    key: LocalKey,
    contexts: Mutex<Vec<Context>>,
    prepared: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

/// How much longer than a key its wrapped form is.
const WRAPPING: usize = 37;

impl Watched {
    fn asked(&self) -> Vec<Context> {
        self.contexts.lock().expect("no panic").clone()
    }
}

#[async_trait]
impl KeyService for Watched {
    async fn generate(&self, len: usize, context: &Context) -> Result<(DataKey, WrappedKey), KeyError> {
        self.contexts.lock().expect("no panic").push(context.clone());
        self.key.generate(len, context).await
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, KeyError> {
        let failure = self.failure.lock().expect("no panic").clone();
        match failure {
            Some(failure) => Err(KeyError::Unwrap { service: "watched", failure }),
            None => self.key.unwrap_key(wrapped, context).await,
        }
    }

    async fn prepare(&self) {
        self.prepared.store(true, Ordering::Relaxed);
    }
}

fn rigged(store: Rigged) -> (Vault, Arc<Rigged>, Arc<Watched>) {
    let keys = Arc::new(Watched {
        key: LocalKey::random().expect("random bytes"),
        contexts: Mutex::default(),
        prepared: AtomicBool::default(),
        failure: Mutex::default(),
    });
    let store = Arc::new(store);
    (Vault { store: store.clone(), keys: keys.clone(), requires_bound: false }, store, keys)
}

// --- drafts, and what becomes of them ---------------------------------------------------------------------------

fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

fn version(number: u32) -> Version {
    Version::padded(&number.to_string()).expect("short enough")
}

fn select(number: u32) -> Select {
    Select::Exactly(Asked::new(&number.to_string()).expect("short enough"))
}

fn draft(text: &str, value: &str) -> Draft {
    Draft::next(name(text), value.into())
}

fn exactly(number: u32, draft: Draft) -> Draft {
    Draft { version: NewVersion::Exactly(version(number)), ..draft }
}

async fn got(vault: &Vault, text: &str, select: &Select) -> Result<String, Error> {
    vault.get(&name(text), select, &Context::new()).await.map(|secret| value(&secret))
}

fn value(secret: &Secret) -> String {
    String::from_utf8(secret.expose().to_vec()).expect("text")
}

/// What was read of each name, sorted by name.
type Read = Vec<(String, Result<String, Error>)>;

async fn read_all(vault: &Vault, pattern: Option<&str>) -> Result<Read, Error> {
    let pattern = pattern.map(Pattern::new);
    vault.get_all(pattern.as_ref(), &Select::Latest, &Context::new(), &|_| ()).await.map(read)
}

fn read(collected: Collected) -> Read {
    let secrets = collected.secrets.iter().map(|(name, secret)| (name.to_string(), Ok(value(secret))));
    let failures = collected.failures.into_iter().map(|(name, error)| (name.to_string(), Err(error)));
    let mut read: Read = secrets.chain(failures).collect();
    read.sort_by(|(one, _), (other, _)| one.cmp(other));
    read
}

fn owned((name, result): (&str, Result<&str, Error>)) -> (String, Result<String, Error>) {
    (name.to_owned(), result.map(str::to_owned))
}
