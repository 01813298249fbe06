//! Why a service could not answer, or what it refused: the one vocabulary of stores and key services for breakage.

use std::fmt;

/// A call that failed for a reason outside the vault: in one line what was attempted and what happened.
///
/// Match on [`Failure::kind`], show the `Display` text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: FailureKind,
    message: String,
}

impl Failure {
    /// A failure of this kind, described by one line.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Whether the next call would fail alike, whatever credential it is about.
    #[must_use]
    pub fn concerns_every_call(&self) -> bool {
        use FailureKind as Kind;
        match self.kind {
            Kind::Denied | Kind::KeyUnusable | Kind::Other => false,
            Kind::Io | Kind::Malconfigured | Kind::NoCredentials | Kind::RejectedCredentials => true,
            Kind::Throttled | Kind::Tls | Kind::Unavailable | Kind::Unreachable => true,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// No credentials for the service were found.
    NoCredentials,
    /// The credentials are expired, malformed or unknown to the service.
    RejectedCredentials,
    /// A setting that is needed to call at all is wrong: a profile, a certificate bundle, an endpoint.
    Malconfigured,
    /// The service knows the caller and says no.
    Denied,
    /// The key that was named does not exist, or cannot be used in its present state.
    KeyUnusable,
    /// The service asks for fewer calls, and went on doing so through all retries.
    Throttled,
    /// The service answers that it cannot do its work now, through all attempts.
    Unavailable,
    /// Nobody answers at the endpoint, or not in time.
    Unreachable,
    /// Somebody answers, but no trusted connection could be made.
    Tls,
    /// A file or the system of this machine.
    Io,
    /// Anything else the service answered.
    Other,
}
