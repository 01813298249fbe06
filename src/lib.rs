//! Keeps credentials: versioned, immutable, sealed with one-time keys.
//!
//! A **secret** is sealed with a one-time **data key** into a **sealed row**; the data key travels in the row, wrapped
//! by a **master key**. A [`Store`] keeps sealed rows and never sees a secret, a data key or a context. A
//! [`KeyService`] wraps and unwraps data keys and never sees a row. The envelope, [`seal`] and [`open`], is a pure
//! function between the two. A [`Vault`] is one store and one key service, and the type to start from:
//!
//! ```
//! use credstash::{Context, Draft, LocalKey, Memory, Name, Select, Vault};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let vault = Vault::new(Memory::new(), LocalKey::random()?);
//! let name = Name::new("db.password")?;
//! let version = vault.put(Draft::next(name.clone(), "hunter2".into())).await?;
//! assert_eq!(version.as_str(), "0000000000000000001");
//! let secret = vault.get(&name, &Select::Latest, &Context::new()).await?;
//! assert_eq!(secret.expose(), b"hunter2");
//! # Ok(())
//! # }
//! ```
//!
//! | store | key service | feature |
//! |---|---|---|
//! | `DynamoDb` | `Kms`, both made from an AWS `Session` | `aws` |
//! | `Sqlite` | [`LocalKey`] | `sqlite` |
//! | [`Memory`] | any | |
//!
//! The library prints nothing, reads no environment variables but AWS's, and those of proxies and certificates, and logs
//! through the `log` crate what it does, never a secret or a context value. It needs a tokio runtime. Rows in DynamoDB
//! are those of Python credstash 1.17.1, in both directions; that, and the formats documented in [`key::local`] and
//! [`row`], will not change without a new major version.

#![forbid(unsafe_code)]

pub mod context;
pub mod envelope;
pub mod error;
pub mod failure;
mod files;
mod jitter;
pub mod key;
pub mod name;
pub mod row;
pub mod secret;
pub mod store;
pub mod vault;
pub mod version;

#[cfg(feature = "aws")]
pub mod aws;

/// What fuzz/ and the tests that replay its cases have in common.
#[cfg(any(test, fuzzing))]
#[path = "../fuzz/src/cases.rs"]
pub mod cases;

#[cfg(feature = "aws")]
pub use aws::{Mfa, Role, Session, SessionOptions, Trust};
pub use context::{Context, InvalidPair};
pub use envelope::{Digest, EnvelopeError, Sealed, Suite, UnknownDigest, open, seal};
pub use error::Error;
pub use failure::{Failure, FailureKind};
#[cfg(feature = "aws")]
pub use key::kms::Kms;
pub use key::local::LocalKey;
pub use key::{KeyError, KeyService};
pub use name::{InvalidName, Name, Pattern};
pub use row::{Attributes, Entry, MalformedAttribute, SealedRow};
pub use secret::{DataKey, Secret, WrappedKey};
#[cfg(feature = "aws")]
pub use store::dynamodb::DynamoDb;
pub use store::memory::Memory;
#[cfg(feature = "sqlite")]
pub use store::sqlite::Sqlite;
pub use store::{Billing, Setup, SetupOutcome, SetupStep, Store, StoreError};
pub use vault::{Collected, Draft, Vault};
pub use version::{Asked, InvalidVersion, NewVersion, NoNextVersion, Select, Version};
