//! Whether an answer is AWS's.
//!
//! Something else may answer in its place: a proxy, a page to log in, a server at a mistyped endpoint. Where it says
//! that all is well, the SDK reads what it does not know, or nothing at all, as an answer without members: a table
//! without rows, a row that is stored. AWS gives each answer a request id, and what has none is not believed.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

const REQUEST_ID: &str = "x-amzn-requestid";

/// Refuses answers that say that all is well and are not AWS's.
#[derive(Debug)]
pub(crate) struct RefuseStrangers;

#[derive(Debug, thiserror::Error)]
#[error("what answered is not AWS, since it gave no request id")]
struct Stranger;

#[dyn_dispatch_hint]
impl Intercept for RefuseStrangers {
    fn name(&self) -> &'static str {
        "refuse strangers"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response();
        match answer.status().is_success() && !answer.headers().contains_key(REQUEST_ID) {
            true => Err(Stranger.into()),
            false => Ok(()),
        }
    }
}
