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

/// How many data keys are being unwrapped at a time when many secrets are read. A call to KMS that is under way holds
/// some 70 KB.
const UNWRAPS_AT_ONCE: usize = 72;

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
mod tests;
