//! Whether an answer is AWS's.
//!
//! Something else may answer in its place: a proxy, a page to log in, a server at a mistyped endpoint. Where it says
//! that all is well, the SDK reads what it does not know, or nothing at all, as an answer without members: a table
//! without rows, a row that is stored. AWS gives each answer a request id and a type of its own, and servers that stand
//! in for it at least one of the two; what has neither is not believed.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

const REQUEST_ID: &str = "x-amzn-requestid";

/// How the types of AWS's answers begin.
const AMZ_JSON: &str = "application/x-amz-json";

/// Refuses answers that say that all is well and are not AWS's.
#[derive(Debug)]
pub(crate) struct RefuseStrangers;

#[derive(Debug, thiserror::Error)]
#[error("what answered is not AWS: its answer has neither a request id nor the type of AWS's")]
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
        let (status, headers) = (context.response().status(), context.response().headers());
        let is_of_aws = headers.contains_key(REQUEST_ID)
            || headers.get("content-type").is_some_and(|content_type| content_type.starts_with(AMZ_JSON));
        match status.is_success() && !is_of_aws {
            true => Err(Stranger.into()),
            false => Ok(()),
        }
    }
}
