//! The vault: one store and one key service, and the order of the steps between them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join;
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};

use crate::context::Context;
use crate::envelope::{self, Digest, EnvelopeError, Sealed, Suite};
use crate::error::Error;
use crate::jitter;
use crate::key::KeyService;
use crate::name::{Name, Pattern};
use crate::row::{Entry, SealedRow};
use crate::secret::Secret;
use crate::store::{Setup, SetupOutcome, SetupStep, Store, StoreError};
use crate::version::{NewVersion, Select, Version};

/// How many data keys are being unwrapped at a time when many secrets are read.
const UNWRAPS_AT_ONCE: usize = 64;

/// How many versions are being deleted at a time.
const DELETES_AT_ONCE: usize = 64;

/// How often a put of the next version is refused although that version is not there. While other writers get through,
/// it goes on for ever; a store that refuses for another reason must still come to an end.
const STUCK: u32 = 10;

/// The longest pause before a put of the next version looks again.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Keeps credentials in a store, sealed with data keys of a key service.
///
/// ```
/// use credstash::{Context, Draft, LocalKey, Memory, Name, Select, Vault};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vault = Vault::new(Memory::new(), LocalKey::random()?);
/// let name = Name::new("db.password")?;
/// vault.put(Draft::next(name.clone(), "hunter2".into())).await?;
/// let secret = vault.get(&name, &Select::Latest, &Context::new()).await?;
/// assert_eq!(secret.expose(), b"hunter2");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Vault {
    store: Arc<dyn Store>,
    keys: Arc<dyn KeyService>,
    requires_bound: bool,
}

/// A credential to be put.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its name.
    pub name: Name,
    /// Its value.
    pub secret: Secret,
    /// The version to write.
    pub version: NewVersion,
    /// What to say about it, for all to see who may list the store.
    pub comment: Option<String>,
    /// The context that readers will have to give.
    pub context: Context,
    /// The digest under its HMAC.
    pub digest: Digest,
    /// Whether to bind the data key to name and version, by [`Context::bound_to`]: the row can then be read in its own
    /// place only. [`Vault::get`] needs no further context for it; the original needs those two pairs.
    pub bind: bool,
}

impl Draft {
    /// The next version of `name`, without comment or context.
    #[must_use]
    pub fn next(name: Name, secret: Secret) -> Self {
        let version = NewVersion::Next;
        Self { name, secret, version, comment: None, context: Context::new(), digest: Digest::default(), bind: false }
    }
}

/// What [`Vault::get_all`] could read, and what it could not.
#[derive(Debug, Default)]
pub struct Collected {
    /// The secrets, sorted by name.
    pub secrets: BTreeMap<Name, Secret>,
    /// Why each of the others could not be read, sorted by name.
    pub failures: BTreeMap<Name, Error>,
}

impl Vault {
    /// A vault of this store and this key service.
    pub fn new(store: impl Store + 'static, keys: impl KeyService + 'static) -> Self {
        Self { store: Arc::new(store), keys: Arc::new(keys), requires_bound: false }
    }

    /// This vault, which refuses to read what is not bound to its name and version ([`Draft::bind`]).
    #[must_use]
    pub fn requiring_bound(self) -> Self {
        Self { requires_bound: true, ..self }
    }

    /// Makes the store, unless it is there; `step` hears what is being done.
    ///
    /// # Errors
    /// When the store cannot be made, or has no such option.
    pub async fn setup(&self, options: &Setup, step: &(dyn Fn(SetupStep) + Sync)) -> Result<SetupOutcome, Error> {
        Ok(self.store.setup(options, step).await?)
    }

    /// Every version of every credential, sorted by name, then version. Nothing is decrypted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self) -> Result<Vec<Entry>, Error> {
        let mut entries = self.store.entries().await?;
        entries.sort_unstable();
        Ok(entries)
    }

    /// The secret of the selected version of `name`, which was put with `context`.
    ///
    /// # Errors
    /// When there is no such row, when its key cannot be unwrapped, or when it was changed.
    pub async fn get(&self, name: &Name, select: &Select, context: &Context) -> Result<Secret, Error> {
        self.prepare_keys();
        let row = self.store.get(name, select).await?;
        self.open(&row, context).await
    }

    /// The selected version of each name that matches `pattern` (all of them without one), all of which were put with
    /// `context`. `progress` hears how many are done.
    ///
    /// What concerns one name only is among the [`Collected::failures`]: the caller decides whether a part will do.
    ///
    /// # Errors
    /// When the store cannot be read to its end, or for a failure that would meet every name alike.
    pub async fn get_all(
        &self,
        pattern: Option<&Pattern>,
        select: &Select,
        context: &Context,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<Collected, Error> {
        let wanted = |name: Option<&Name>| match (pattern, name) {
            (Some(pattern), Some(name)) => pattern.matches(name),
            _ => true,
        };
        let mut results = self
            .store
            .rows(select)
            .filter(|row| {
                let name = row.as_ref().map_or_else(StoreError::name, |row| Some(&row.entry.name));
                std::future::ready(wanted(name))
            })
            .map(|row| async {
                let row = row?;
                let secret = self.open(&row, context).await;
                Ok::<_, StoreError>((row.entry, secret))
            })
            .buffer_unordered(UNWRAPS_AT_ONCE);

        let mut collecting = Collecting { select, versions: BTreeMap::new(), collected: Collected::default() };
        while let Some(result) = results.next().await {
            match result {
                Ok((entry, secret)) => collecting.take(entry, secret)?,
                Err(error) => collecting.refuse(error.into())?,
            }
            progress(collecting.collected.secrets.len());
        }
        Ok(collecting.collected)
    }

    /// Seals and stores a draft; gives the version it got. A version that is there is never overwritten.
    ///
    /// With [`NewVersion::Next`] another writer of the same name is no failure: the put looks again and takes the
    /// version after that.
    ///
    /// # Errors
    /// When the version exists, when there is no next one, when the secret is too large (found before anything is
    /// sent), or when the key service or the store fails.
    pub async fn put(&self, draft: Draft) -> Result<Version, Error> {
        let least = match &draft.version {
            NewVersion::Next => &Version::first(),
            NewVersion::Exactly(version) => version,
        };
        // No wrapped key is shorter than what it wraps.
        check_size(&draft, least, Suite::CtrHmac(draft.digest).key_len())?;
        match &draft.version {
            NewVersion::Exactly(version) => {
                let store = Arc::clone(&self.store);
                tokio::spawn(async move { store.prepare().await });
                let sealed = self.seal(&draft, version).await?;
                check_size(&draft, version, sealed.wrapped_key.as_bytes().len())?;
                self.store.put(&row(&draft, version, &sealed)).await?;
                Ok(version.clone())
            }
            NewVersion::Next => {
                let (version, sealed) = if draft.bind {
                    self.prepare_keys();
                    let version = self.next_version(&draft.name).await?;
                    let sealed = self.seal(&draft, &version).await?;
                    (version, sealed)
                } else {
                    // Beside each other: the seal of any version is that of the first.
                    try_join(self.next_version(&draft.name), self.seal(&draft, &Version::first())).await?
                };
                check_size(&draft, &version, sealed.wrapped_key.as_bytes().len())?;
                self.put_next(&draft, version, sealed).await
            }
        }
    }

    /// Puts each draft, several at a time and whatever becomes of the others; gives, in the order of `drafts`, each
    /// name and what [`Vault::put`] gave for it.
    pub fn put_all(&self, drafts: Vec<Draft>) -> impl Stream<Item = (Name, Result<Version, Error>)> {
        stream::iter(drafts)
            .map(|draft| async {
                let name = draft.name.clone();
                (name, self.put(draft).await)
            })
            .buffered(self.store.puts_at_once())
    }

    /// Stores `sealed` as `version`, or as the version after those that other writers took meanwhile.
    async fn put_next(&self, draft: &Draft, mut version: Version, mut sealed: Sealed) -> Result<Version, Error> {
        let (mut conflicts, mut stuck) = (0, 0);
        loop {
            match self.store.put(&row(draft, &version, &sealed)).await {
                Ok(()) => return Ok(version),
                Err(StoreError::Exists { .. }) if stuck < STUCK => {}
                Err(error) => return Err(error.into()),
            }
            log::debug!("version {version} of {} was taken by another writer; looking again", draft.name);
            pause(conflicts).await;
            let next = self.next_version(&draft.name).await?;
            conflicts += 1;
            stuck = if next == version { stuck + 1 } else { 0 };
            version = next;
            if draft.bind {
                sealed = self.seal(draft, &version).await?;
            }
        }
    }

    /// Deletes every version of `name`; `deleting` hears of each, in ascending order, before it goes.
    ///
    /// The newest goes last, when all others are gone: a deletion that fails midway brings no older secret back.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none, and when the store fails: the newest version is then still there.
    pub async fn delete(&self, name: &Name, mut deleting: impl FnMut(&Version)) -> Result<(), Error> {
        let versions = self.store.versions(name).await?;
        let Some((newest, older)) = versions.split_last() else {
            return Err(StoreError::NotFound { name: name.clone(), version: None }.into());
        };
        stream::iter(older)
            .map(|version| {
                deleting(version);
                self.store.delete(name, version)
            })
            .buffered(DELETES_AT_ONCE)
            .try_collect::<()>()
            .await?;
        deleting(newest);
        Ok(self.store.delete(name, newest).await?)
    }

    async fn open(&self, row: &SealedRow, context: &Context) -> Result<Secret, Error> {
        let Entry { name, version, .. } = &row.entry;
        if self.requires_bound && !row.sealed.bound {
            return Err(Error::Unbound { name: name.clone(), version: version.clone() });
        }
        let context = context_of(row.sealed.bound, context, name, version);
        let unwrapped = self.keys.unwrap_key(&row.sealed.wrapped_key, &context).await;
        let key = unwrapped.map_err(|error| Error::key(name, &context, error))?;
        envelope::open(&row.sealed, &key).map_err(|error| match error {
            EnvelopeError::Integrity { digest } => {
                Error::Integrity { name: name.clone(), version: version.clone(), digest }
            }
            error => Error::Envelope { name: name.clone(), error },
        })
    }

    /// Seals the secret of a draft; `version` matters if the draft is to be bound to it.
    async fn seal(&self, draft: &Draft, version: &Version) -> Result<Sealed, Error> {
        let suite = Suite::CtrHmac(draft.digest);
        let context = context_of(draft.bind, &draft.context, &draft.name, version);
        let generated = self.keys.generate(suite.key_len(), &context).await;
        let (key, wrapped) = generated.map_err(|error| Error::key(&draft.name, &context, error))?;
        let sealed = envelope::seal(suite, &key, wrapped, &draft.secret)
            .map_err(|error| Error::Envelope { name: draft.name.clone(), error })?;
        Ok(Sealed { bound: draft.bind, ..sealed })
    }

    /// Has the key service get ready, while the store is asked.
    fn prepare_keys(&self) {
        let keys = Arc::clone(&self.keys);
        tokio::spawn(async move { keys.prepare().await });
    }

    async fn next_version(&self, name: &Name) -> Result<Version, Error> {
        match self.store.newest(name).await? {
            None => Ok(Version::first()),
            Some(newest) => newest.next().map_err(|error| Error::NoNextVersion { name: name.clone(), error }),
        }
    }
}

/// Refuses a draft whose row is too large as this version, with a wrapped key of `wrapped_key_len` bytes.
fn check_size(draft: &Draft, version: &Version, wrapped_key_len: usize) -> Result<(), Error> {
    let entry = entry(draft, version);
    let secret = draft.secret.expose().len();
    let row = SealedRow::size(&entry, Suite::CtrHmac(draft.digest), draft.bind, wrapped_key_len, secret);
    if row > SealedRow::MAX_SIZE {
        return Err(Error::TooLarge { name: draft.name.clone(), secret, row });
    }
    Ok(())
}

/// The context of the data key of a row: what the user gave, and where the row is bound its name and version.
fn context_of<'a>(bound: bool, given: &'a Context, name: &Name, version: &Version) -> Cow<'a, Context> {
    match bound {
        true => Cow::Owned(given.bound_to(name, version)),
        false => Cow::Borrowed(given),
    }
}

/// The seal covers neither name nor version, so one sealed secret can be offered under one version after another, if
/// its key is not bound to one.
fn row(draft: &Draft, version: &Version, sealed: &Sealed) -> SealedRow {
    SealedRow { entry: entry(draft, version), sealed: sealed.clone() }
}

fn entry(draft: &Draft, version: &Version) -> Entry {
    Entry { name: draft.name.clone(), version: version.clone(), comment: draft.comment.clone() }
}

/// A random pause, longer after more conflicts, so that writers that met once do not meet again.
async fn pause(conflict: u32) {
    let limit = Duration::from_millis(5).saturating_mul(1 << conflict.min(6)).min(LONGEST_PAUSE);
    tokio::time::sleep(jitter::below(limit)).await;
}

/// Brings the results of one pass together. A store may hand on a name twice; the row it prefers stays.
struct Collecting<'a> {
    select: &'a Select,
    versions: BTreeMap<Name, Version>,
    collected: Collected,
}

impl Collecting<'_> {
    fn take(&mut self, entry: Entry, secret: Result<Secret, Error>) -> Result<(), Error> {
        let Entry { name, version, .. } = entry;
        if !self.select.prefers(&version, self.versions.get(&name)) {
            return Ok(());
        }
        self.collected.failures.remove(&name);
        self.collected.secrets.remove(&name);
        self.versions.insert(name.clone(), version);
        match secret {
            Ok(secret) => {
                self.collected.secrets.insert(name, secret);
                Ok(())
            }
            Err(error) => self.fail(name, error),
        }
    }

    /// Takes an error of the store: about one name, or the end.
    fn refuse(&mut self, error: Error) -> Result<(), Error> {
        let Some(name) = error.name().cloned() else { return Err(error) };
        if let Error::Store(StoreError::Malformed { version, .. }) = &error {
            let entry = Entry { name, version: version.clone(), comment: None };
            return self.take(entry, Err(error));
        }
        if self.versions.contains_key(&name) {
            return Ok(());
        }
        self.fail(name, error)
    }

    fn fail(&mut self, name: Name, error: Error) -> Result<(), Error> {
        if error.failure().is_some_and(|failure| failure.concerns_every_call()) {
            return Err(error);
        }
        self.collected.failures.insert(name, error);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
        for moved in
            [Entry { name: name("b"), ..row.entry.clone() }, Entry { version: version(2), ..row.entry.clone() }]
        {
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
}
