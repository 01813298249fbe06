//! The one place that reads the SDK's errors. Their `Display` is often only "service error": what matters is further
//! down the chain.

use std::error::Error;

use aws_config::imds::client::error::ImdsError;
use aws_config::meta::ProviderChainError;
use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::retries::classifiers::THROTTLING_ERRORS;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::{ConnectorError, SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::failure::{Failure, FailureKind};

/// The error code that a service answered, if it answered at all.
pub(crate) fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// What the failed call `operation` means for its caller, in the words of the original where it has some.
pub(crate) fn classify<E>(operation: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let SdkError::ServiceError(answer) = error else { return unanswered(operation, error) };
    let status = answer.raw().status();
    let kind = match answer.err().code() {
        Some(code) => kind_of_code(code),
        None if status.is_server_error() => FailureKind::Unavailable,
        None => FailureKind::Other,
    };
    if status.is_success() {
        return Failure::new(kind, format!("The answer when calling the {operation} operation cannot be read"));
    }
    let code = answer.err().code().unwrap_or("Unknown");
    // An answer that is none of AWS's, of a proxy for example, has no message.
    let message = answer.err().message().map_or_else(|| format!("HTTP status {status}"), str::to_owned);
    Failure::new(kind, format!("An error occurred ({code}) when calling the {operation} operation: {message}"))
}

/// A call to which no service gave an answer.
fn unanswered(operation: &str, error: &(dyn Error + 'static)) -> Failure {
    // One of our own, which came through the SDK.
    if let Some(failure) = find::<Failure>(error) {
        return failure.clone();
    }
    if let Some(credentials) = find::<CredentialsError>(error) {
        // The metadata service is asked last; that it says no, as it does where there is none, adds nothing.
        if matches!(credentials, CredentialsError::CredentialsNotLoaded(_)) || find::<ImdsError>(error).is_some() {
            let attempts =
                find::<ProviderChainError<CredentialsError>>(error).map_or(&[][..], ProviderChainError::attempts);
            let is_timeout = |error| find::<ConnectorError>(error).is_some_and(ConnectorError::is_timeout);
            let is_silent = attempts.iter().any(|attempt| is_timeout(attempt.error()));
            let why = if is_silent { ": the metadata service of this machine did not answer in time" } else { "" };
            return Failure::new(FailureKind::NoCredentials, format!("Unable to locate credentials{why}"));
        }
        let message = format!("Unable to get credentials: {}", chain(credentials));
        return Failure::new(FailureKind::RejectedCredentials, message);
    }
    let reason = deepest(error).to_string();
    let message = format!("No answer when calling the {operation} operation: {reason}");
    if find::<rustls::Error>(error).is_some() {
        return Failure::new(FailureKind::Tls, message);
    }
    Failure::new(FailureKind::Unreachable, message)
}

fn kind_of_code(code: &str) -> FailureKind {
    match code {
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" | "NotAuthorized" => FailureKind::Denied,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "RequestExpired"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => FailureKind::RejectedCredentials,
        "DependencyTimeoutException"
        | "InternalFailure"
        | "InternalServerError"
        | "KMSInternalException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => FailureKind::Unavailable,
        // A number of tables, which waiting does not raise, though the SDK counts it among the errors that pass.
        "LimitExceededException" => FailureKind::Other,
        "DisabledException"
        | "InvalidKeyUsageException"
        | "KMSInvalidStateException"
        | "KeyUnavailableException"
        | "NotFoundException" => FailureKind::KeyUnusable,
        code if THROTTLING_ERRORS.contains(&code) => FailureKind::Throttled,
        _ => FailureKind::Other,
    }
}

/// Every error of the chain that adds words to those before it, in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let words = source.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = source.source();
    }
    text
}

fn deepest<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    sources(error).last().unwrap_or(error)
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    sources(error).find_map(<dyn Error>::downcast_ref)
}

/// `error` and all that caused it. An `io::Error` passes over the error in it when asked for its source.
fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_chain_is_one_line_without_repetition() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] Middle);
        #[derive(Debug, thiserror::Error)]
        #[error("outer: inner words")]
        struct Middle(#[source] io::Error);

        let error = Outer(Middle(io::Error::other("inner words")));
        assert_eq!(chain(&error), "outer: outer: inner words");
        assert_eq!(deepest(&error).to_string(), "inner words");
    }

    #[test]
    fn codes_have_kinds() {
        assert_eq!(kind_of_code("ExpiredTokenException"), FailureKind::RejectedCredentials);
        assert_eq!(kind_of_code("ThrottlingException"), FailureKind::Throttled);
        assert_eq!(kind_of_code("DisabledException"), FailureKind::KeyUnusable);
        assert_eq!(kind_of_code("SomethingNew"), FailureKind::Other);
    }
}
