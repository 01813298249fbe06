//! Rows in a DynamoDB table, exactly as credstash 1.17.1 writes them.
//!
//! The partition key is `name`, the sort key `version`, both text. The other attributes are those of
//! [`Attributes`](crate::row::Attributes), where `hmac` is Binary and holds the text of hexadecimal digits; older writers made it a String.
//! `comment` is there only when it says something. Attributes that are not known are ignored.

mod item;
mod picker;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::scan::builders::ScanFluentBuilder;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::SdkError;
use futures_util::stream::{self, BoxStream, StreamExt as _};

/// The one door for fuzz/ to what is private here.
#[cfg(fuzzing)]
pub use self::item::property as item_property;
use self::item::{Item, decode, encode, take_entry, take_version, text};
use self::picker::Picker;
use self::table::is_as_asked;
use super::{Setup, SetupOutcome, SetupStep, Store, StoreError};
use crate::aws::{LeaveThrottledToPace, Pace, RefuseStrangers, Session, classify, code, into_opening};
use crate::failure::{Failure, FailureKind};
use crate::name::Name;
use crate::row::{Entry, MalformedAttribute, SealedRow};
use crate::version::{Select, Version};

/// A credential table in DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoDb {
    client: Client,
    table: String,
    region: String,
    pace: Arc<Pace>,
    prepared: Arc<AtomicBool>,
}

impl DynamoDb {
    /// The table that is used when none is named.
    pub const DEFAULT_TABLE: &str = "credential-store";

    /// The store in `table`, whether it is set up or not.
    #[must_use]
    pub fn new(session: &Session, table: impl Into<String>) -> Self {
        let config = aws_sdk_dynamodb::config::Builder::from(session.config())
            // Calls that fail are not a reason to give up on others: Pace sees to the service's health.
            .retry_partition(
                RetryPartition::custom("credstash-dynamodb").token_bucket(TokenBucket::unlimited()).build(),
            )
            .retry_classifier(LeaveThrottledToPace)
            .interceptor(RefuseStrangers)
            .build();
        Self {
            client: Client::from_conf(config),
            table: table.into(),
            region: session.region().to_owned(),
            pace: Arc::default(),
            prepared: Arc::default(),
        }
    }

    /// What a failed call means.
    fn failed<E>(&self, operation: &'static str, error: &SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let failure = classify(operation, error);
        let message = error.as_service_error().and_then(ProvideErrorMetadata::message).unwrap_or_default();
        match code(error) {
            Some("ResourceNotFoundException") => StoreError::NotSetUp {
                place: format!("the table {} in {}", self.table, self.region),
                message: failure.to_string(),
            },
            Some("ValidationException") if speaks_of_other_keys(message) => self.not_a_store(message),
            _ => StoreError::Failed(failure),
        }
    }

    fn not_a_store(&self, reason: impl ToString) -> StoreError {
        StoreError::NotAStore { place: format!("the table {}", self.table), reason: reason.to_string() }
    }

    /// Asks for the rows of `name`, as they are after every write that ended before.
    fn query(&self, name: &Name) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#name = :name")
            .expression_attribute_names("#name", "name")
            .expression_attribute_values(":name", text(name.as_str()))
            .consistent_read(true)
    }

    async fn send_query(&self, request: QueryFluentBuilder) -> Result<QueryOutput, StoreError> {
        log::trace!("DynamoDB Query, table {}", self.table);
        self.pace.run("Query", || request.clone().send()).await.map_err(|error| self.failed("Query", &error))
    }

    fn scan(&self) -> ScanFluentBuilder {
        self.client.scan().table_name(&self.table)
    }

    /// One page of a scan, from `start` on, and where the next one starts.
    async fn send_scan(
        &self,
        request: &ScanFluentBuilder,
        start: Option<Item>,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        log::trace!("DynamoDB Scan, table {}", self.table);
        let request = request.clone().set_exclusive_start_key(start);
        let answer = self.pace.run("Scan", || request.clone().send()).await;
        let answer = answer.map_err(|error| self.failed("Scan", &error))?;
        Ok((answer.items.unwrap_or_default(), answer.last_evaluated_key))
    }

    /// The wrapped key of a version, by a Query: it is the one way of reading that a writer has who may use `-a`.
    async fn find(&self, name: &Name, version: &Version) -> Result<Option<Item>, StoreError> {
        let request = self
            .query(name)
            .key_condition_expression("#name = :name AND #version = :version")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":version", text(version.as_str()))
            .projection_expression("#key")
            .expression_attribute_names("#key", "key");
        Ok(self.send_query(request).await?.items.unwrap_or_default().pop())
    }

    async fn get_latest(&self, name: &Name) -> Result<Option<Item>, StoreError> {
        let answer = self.send_query(self.query(name).scan_index_forward(false).limit(1)).await?;
        Ok(answer.items.unwrap_or_default().pop())
    }

    async fn get_version(&self, name: &Name, version: &Version) -> Result<Option<Item>, StoreError> {
        log::trace!("DynamoDB GetItem, table {}, version {version} of {name}", self.table);
        let request = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("name", text(name.as_str()))
            .key("version", text(version.as_str()))
            .consistent_read(true);
        let answer = self.pace.run("GetItem", || request.clone().send()).await;
        Ok(answer.map_err(|error| self.failed("GetItem", &error))?.item)
    }
}

#[async_trait]
impl Store for DynamoDb {
    async fn setup(&self, options: &Setup, step: &(dyn Fn(SetupStep) + Sync)) -> Result<SetupOutcome, StoreError> {
        let mut outcome = SetupOutcome::Existed;
        if !self.exists().await? {
            step(SetupStep::Creating);
            outcome = self.create(options).await?;
            step(SetupStep::Waiting);
            let table = self.wait_until_active().await?;
            // A table that was not there a moment ago was made by an attempt whose answer was lost, or by another process
            // that asked for the same. What follows can be done twice.
            if is_as_asked(&table, options) {
                outcome = SetupOutcome::Created;
            }
            if outcome == SetupOutcome::Created {
                step(SetupStep::Tagging);
                self.tag(&table, options).await?;
            }
        }
        // Of a table that is there as well: an earlier setup may not have come so far. Its tags are left alone, as the
        // original does.
        if options.point_in_time_recovery {
            step(SetupStep::EnablingRecovery);
            self.enable_recovery().await?;
        }
        Ok(outcome)
    }

    async fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let request = self
            .scan()
            .projection_expression("#name, #version, #comment")
            .expression_attribute_names("#name", "name")
            .expression_attribute_names("#version", "version")
            .expression_attribute_names("#comment", "comment");
        let mut entries = Vec::new();
        let mut start = None;
        loop {
            let (items, next) = self.send_scan(&request, start).await?;
            for mut item in items {
                entries.push(take_entry(&mut item).map_err(|error| self.not_a_store(error))?);
            }
            if next.is_none() {
                return Ok(entries);
            }
            start = next;
        }
    }

    async fn versions(&self, name: &Name) -> Result<Vec<Version>, StoreError> {
        let request =
            self.query(name).projection_expression("#name, #version").expression_attribute_names("#version", "version");
        let mut versions = Vec::new();
        let mut start = None;
        loop {
            let answer = self.send_query(request.clone().set_exclusive_start_key(start)).await?;
            for mut item in answer.items.unwrap_or_default() {
                versions.push(take_version(&mut item).map_err(|error| self.not_a_store(error))?);
            }
            if answer.last_evaluated_key.is_none() {
                return Ok(versions);
            }
            start = answer.last_evaluated_key;
        }
    }

    async fn newest(&self, name: &Name) -> Result<Option<Version>, StoreError> {
        let request = self
            .query(name)
            .projection_expression("#version")
            .expression_attribute_names("#version", "version")
            .scan_index_forward(false)
            .limit(1);
        match self.send_query(request).await?.items.unwrap_or_default().pop() {
            Some(mut item) => take_version(&mut item).map(Some).map_err(|error| self.not_a_store(error)),
            None => Ok(None),
        }
    }

    async fn get(&self, name: &Name, select: &Select) -> Result<SealedRow, StoreError> {
        let mut item = None;
        match select {
            Select::Latest => item = self.get_latest(name).await?,
            Select::Exactly(asked) => {
                for version in asked.candidates() {
                    item = self.get_version(name, version).await?;
                    if item.is_some() {
                        break;
                    }
                }
            }
        }
        let item = item.ok_or_else(|| StoreError::not_found(name, select))?;
        let (entry, item) = split(item).map_err(|error| self.not_a_store(error))?;
        decode(entry, item)
    }

    /// The rows are those that a consistent read of each name would give. While the rows of one page are handed out,
    /// the next page is under way.
    fn rows<'a>(&'a self, select: &'a Select) -> BoxStream<'a, Result<SealedRow, StoreError>> {
        let scan = self.scan().consistent_read(true);
        let fetch = move |start| {
            let (store, scan) = (self.clone(), scan.clone());
            tokio::spawn(async move { store.send_scan(&scan, start).await })
        };
        let first_page = Some((Picker::new(select), fetch(None)));
        stream::unfold((fetch, first_page), move |(fetch, page)| async move {
            let (mut picker, page) = page?;
            let page = page
                .await
                .unwrap_or_else(|panic| Err(StoreError::Failed(Failure::new(FailureKind::Other, panic.to_string()))));
            let (items, next) = match page {
                Ok(page) => page,
                Err(error) => return Some((vec![Err(error)], (fetch, None))),
            };
            let next = next.map(|start| fetch(Some(start)));
            let mut rows = Vec::new();
            for item in items {
                match split(item) {
                    Ok((entry, item)) => rows.extend(picker.offer(entry, item)),
                    Err(error) => return Some((vec![Err(self.not_a_store(error))], (fetch, None))),
                }
            }
            match next {
                Some(next) => Some((rows, (fetch, Some((picker, next))))),
                None => {
                    rows.extend(picker.finish());
                    Some((rows, (fetch, None)))
                }
            }
        })
        .flat_map(stream::iter)
        .boxed()
    }

    async fn put(&self, row: &SealedRow) -> Result<(), StoreError> {
        let Entry { name, version, .. } = &row.entry;
        log::trace!("DynamoDB PutItem, table {}, version {version} of {name}", self.table);
        let request = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(encode(row)))
            .condition_expression("attribute_not_exists(#name)")
            .expression_attribute_names("#name", "name")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let attempts = Arc::new(AtomicUsize::new(0));
        let sent = self.pace.run("PutItem", || {
            let attempts = Arc::clone(&attempts);
            let count = move |_: &mut HttpRequest| {
                attempts.fetch_add(1, Ordering::Relaxed);
            };
            request.clone().customize().mutate_request(count).send()
        });
        let Err(error) = sent.await.map(drop) else { return Ok(()) };
        let Some(PutItemError::ConditionalCheckFailedException(conflict)) = error.as_service_error() else {
            return Err(self.failed("PutItem", &error));
        };
        // An attempt whose answer was lost may have stored the row, whose wrapped key is like no other. DynamoDB says what
        // is there; those that stand in for it may not.
        let found = match conflict.item() {
            None if attempts.load(Ordering::Relaxed) > 1 => self.find(name, version).await?,
            said => said.cloned(),
        };
        match found.is_some_and(|item| item.get("key") == encode(row).get("key")) {
            true => Ok(()),
            false => Err(StoreError::Exists { name: name.clone(), version: version.clone() }),
        }
    }

    async fn delete(&self, name: &Name, version: &Version) -> Result<(), StoreError> {
        log::trace!("DynamoDB DeleteItem, table {}, version {version} of {name}", self.table);
        let request = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("name", text(name.as_str()))
            .key("version", text(version.as_str()));
        let deleted = self.pace.run("DeleteItem", || request.clone().send()).await;
        deleted.map_err(|error| self.failed("DeleteItem", &error))?;
        Ok(())
    }

    async fn prepare(&self) {
        if self.prepared.swap(true, Ordering::Relaxed) {
            return;
        }
        let once = aws_sdk_dynamodb::Config::builder().retry_config(RetryConfig::disabled());
        let opening = self.client.list_tables().customize().config_override(once).mutate_request(into_opening);
        // What goes wrong goes wrong again for the next call, which says so.
        let _ = opening.send().await;
    }
}

/// Takes what names the row out of the item.
fn split(mut item: Item) -> Result<(Entry, Item), MalformedAttribute> {
    Ok((take_entry(&mut item)?, item))
}

/// Whether a ValidationException says that the table has another key than `name` and `version`.
fn speaks_of_other_keys(message: &str) -> bool {
    const OF_AWS: [&str; 4] = ["key element", "key schema", "Missing the key", "Type mismatch for key"];
    const OF_DYNAMODB_LOCAL: [&str; 3] = ["conditions on the keys", "required keys", "Type mismatch for attribute"];
    OF_AWS.iter().chain(&OF_DYNAMODB_LOCAL).any(|words| message.contains(words))
}
