//! Rows in a DynamoDB table, exactly as credstash 1.17.1 writes them.
//!
//! The partition key is `name`, the sort key `version`, both text. The other attributes are those of
//! [`Attributes`], where `hmac` is Binary and holds the text of hexadecimal digits; older writers made it a String.
//! `comment` is there only when it says something. Attributes that are not known are ignored.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::scan::builders::ScanFluentBuilder;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, PointInTimeRecoverySpecification,
    ProvisionedThroughput, ScalarAttributeType, TableStatus, Tag,
};
use aws_smithy_runtime_api::client::result::SdkError;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::{Billing, Setup, SetupOutcome, SetupStep, Store, StoreError};
use crate::aws::{Session, classify, code, into_ping};
use crate::failure::{Failure, FailureKind};
use crate::name::Name;
use crate::row::{Attributes, Entry, MalformedAttribute, SealedRow};
use crate::version::{Select, Version};

/// How often to look whether a new table can be used, and how many times: five minutes in all.
const TABLE_POLL: (Duration, u32) = (Duration::from_secs(2), 150);

/// A credential table in DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoDb {
    client: Client,
    table: String,
    region: String,
    prepared: Arc<AtomicBool>,
}

type Item = HashMap<String, AttributeValue>;

impl DynamoDb {
    /// The table that is used when none is named.
    pub const DEFAULT_TABLE: &str = "credential-store";

    /// The store in `table`, whether it is set up or not.
    #[must_use]
    pub fn new(session: &Session, table: impl Into<String>) -> Self {
        Self {
            client: Client::new(session.config()),
            table: table.into(),
            region: session.region().to_owned(),
            prepared: Arc::default(),
        }
    }

    /// What a failed call means; `E` is the error of the operation.
    fn failed<E, R>(&self, operation: &'static str, error: &SdkError<E, R>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
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

    fn not_a_store(&self, reason: impl Into<String>) -> StoreError {
        StoreError::NotAStore { place: format!("the table {}", self.table), reason: reason.into() }
    }

    fn scan(&self) -> ScanFluentBuilder {
        log::debug!("DynamoDB Scan, table {}", self.table);
        self.client.scan().table_name(&self.table)
    }

    async fn get_latest(&self, name: &Name) -> Result<Option<Item>, StoreError> {
        log::debug!("DynamoDB Query, table {}, latest version of {name}", self.table);
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#name = :name")
            .expression_attribute_names("#name", "name")
            .expression_attribute_values(":name", text(name.as_str()))
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(1)
            .send()
            .await
            .map_err(|error| self.failed("Query", &error))?;
        Ok(answer.items.unwrap_or_default().pop())
    }

    async fn get_version(&self, name: &Name, version: &Version) -> Result<Option<Item>, StoreError> {
        log::debug!("DynamoDB GetItem, table {}, version {version} of {name}", self.table);
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("name", text(name.as_str()))
            .key("version", text(version.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| self.failed("GetItem", &error))?;
        Ok(answer.item)
    }

    async fn exists(&self) -> Result<bool, StoreError> {
        let mut names = self.client.list_tables().into_paginator().items().send();
        while let Some(name) = names.next().await {
            if name.map_err(|error| self.failed("ListTables", &error))? == self.table {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn create(&self, options: &Setup) -> Result<(), StoreError> {
        let built = |error| StoreError::Failed(Failure::new(FailureKind::Other, format!("CreateTable: {error}")));
        let mut request = self.client.create_table().table_name(&self.table);
        for (attribute, key_type) in [("name", KeyType::Hash), ("version", KeyType::Range)] {
            let definition =
                AttributeDefinition::builder().attribute_name(attribute).attribute_type(ScalarAttributeType::S);
            let key = KeySchemaElement::builder().attribute_name(attribute).key_type(key_type);
            request = request
                .attribute_definitions(definition.build().map_err(built)?)
                .key_schema(key.build().map_err(built)?);
        }
        request = match options.billing.unwrap_or(Billing::OnDemand) {
            Billing::OnDemand => request.billing_mode(BillingMode::PayPerRequest),
            Billing::Provisioned => {
                let one_a_second = ProvisionedThroughput::builder().read_capacity_units(1).write_capacity_units(1);
                request.provisioned_throughput(one_a_second.build().map_err(built)?)
            }
        };
        if options.deletion_protection {
            request = request.deletion_protection_enabled(true);
        }
        request.send().await.map_err(|error| self.failed("CreateTable", &error))?;
        Ok(())
    }

    /// Waits until the table can be used, and gives its ARN.
    async fn wait_until_active(&self) -> Result<String, StoreError> {
        let (interval, attempts) = TABLE_POLL;
        for _ in 0..attempts {
            let answer = self.client.describe_table().table_name(&self.table).send().await;
            match answer {
                Ok(answer) => {
                    let table =
                        answer.table.unwrap_or_else(|| aws_sdk_dynamodb::types::TableDescription::builder().build());
                    if table.table_status == Some(TableStatus::Active) {
                        return Ok(table.table_arn.unwrap_or_default());
                    }
                }
                // A table that is just being made may not be known everywhere yet.
                Err(error) if code(&error) == Some("ResourceNotFoundException") => {}
                Err(error) => return Err(self.failed("DescribeTable", &error)),
            }
            tokio::time::sleep(interval).await;
        }
        let message = format!(
            "the table {} could still not be used after {} s",
            self.table,
            interval.as_secs() * u64::from(attempts)
        );
        Err(StoreError::Failed(Failure::new(FailureKind::Other, message)))
    }

    async fn tag(&self, arn: &str, options: &Setup) -> Result<(), StoreError> {
        let mut tags = options.tags.clone();
        tags.entry("Name".to_owned()).or_insert_with(|| "credstash".to_owned());
        let tags = tags
            .into_iter()
            .map(|(key, value)| Tag::builder().key(key).value(value).build())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| StoreError::Failed(Failure::new(FailureKind::Other, format!("TagResource: {error}"))))?;
        let request = self.client.tag_resource().resource_arn(arn).set_tags(Some(tags));
        request.send().await.map_err(|error| self.failed("TagResource", &error))?;
        Ok(())
    }

    async fn enable_recovery(&self) -> Result<(), StoreError> {
        let on = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true).build();
        let on = on.map_err(|error| {
            StoreError::Failed(Failure::new(FailureKind::Other, format!("UpdateContinuousBackups: {error}")))
        })?;
        self.client
            .update_continuous_backups()
            .table_name(&self.table)
            .point_in_time_recovery_specification(on)
            .send()
            .await
            .map_err(|error| self.failed("UpdateContinuousBackups", &error))?;
        Ok(())
    }
}

#[async_trait]
impl Store for DynamoDb {
    async fn setup(&self, options: &Setup, step: &(dyn Fn(SetupStep) + Sync)) -> Result<SetupOutcome, StoreError> {
        if self.exists().await? {
            return Ok(SetupOutcome::Existed);
        }
        step(SetupStep::Creating);
        self.create(options).await?;
        step(SetupStep::Waiting);
        let arn = self.wait_until_active().await?;
        step(SetupStep::Tagging);
        self.tag(&arn, options).await?;
        if options.point_in_time_recovery {
            step(SetupStep::EnablingRecovery);
            self.enable_recovery().await?;
        }
        Ok(SetupOutcome::Created)
    }

    async fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let request = self
            .scan()
            .projection_expression("#name, #version, #comment")
            .expression_attribute_names("#name", "name")
            .expression_attribute_names("#version", "version")
            .expression_attribute_names("#comment", "comment");
        let mut items = request.into_paginator().items().send();
        let mut entries = Vec::new();
        while let Some(item) = items.next().await {
            let mut item = item.map_err(|error| self.failed("Scan", &error))?;
            entries.push(take_entry(&mut item).map_err(|error| self.not_a_store(error.to_string()))?);
        }
        Ok(entries)
    }

    async fn versions(&self, name: &Name) -> Result<Vec<Version>, StoreError> {
        let request = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#name = :name")
            .projection_expression("#name, #version")
            .expression_attribute_names("#name", "name")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":name", text(name.as_str()))
            .consistent_read(true);
        let mut items = request.into_paginator().items().send();
        let mut versions = Vec::new();
        while let Some(item) = items.next().await {
            let mut item = item.map_err(|error| self.failed("Query", &error))?;
            versions.push(take_entry(&mut item).map_err(|error| self.not_a_store(error.to_string()))?.version);
        }
        Ok(versions)
    }

    async fn newest(&self, name: &Name) -> Result<Option<Version>, StoreError> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#name = :name")
            .projection_expression("#version")
            .expression_attribute_names("#name", "name")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":name", text(name.as_str()))
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(1)
            .send()
            .await
            .map_err(|error| self.failed("Query", &error))?;
        let Some(mut item) = answer.items.unwrap_or_default().pop() else { return Ok(None) };
        let version = take_text(&mut item, "version").map_err(|error| self.not_a_store(error.to_string()))?;
        Ok(Some(Version::stored(version)))
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
        let (entry, item) = split(item).map_err(|error| self.not_a_store(error.to_string()))?;
        decode(entry, item)
    }

    fn rows<'a>(&'a self, select: &'a Select) -> BoxStream<'a, Result<SealedRow, StoreError>> {
        // The values are those that a consistent read of each name would give.
        let items = self.scan().consistent_read(true).into_paginator().items().send();
        let state = (items, Picker::new(select), VecDeque::new(), false);
        stream::unfold(state, move |(mut items, mut picker, mut ready, mut ended)| async move {
            loop {
                if let Some(row) = ready.pop_front() {
                    return Some((row, (items, picker, ready, ended)));
                }
                if ended {
                    return None;
                }
                let item = match items.next().await {
                    Some(Ok(item)) => split(item).map_err(|error| self.not_a_store(error.to_string())),
                    Some(Err(error)) => Err(self.failed("Scan", &error)),
                    None => {
                        ended = true;
                        ready.extend(picker.finish());
                        continue;
                    }
                };
                match item {
                    Ok((entry, item)) => ready.extend(picker.offer(entry, item)),
                    Err(error) => {
                        ended = true;
                        ready.push_back(Err(error));
                    }
                }
            }
        })
        .boxed()
    }

    async fn put(&self, row: &SealedRow) -> Result<(), StoreError> {
        let Entry { name, version, .. } = &row.entry;
        log::debug!("DynamoDB PutItem, table {}, version {version} of {name}", self.table);
        let request = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(encode(row)))
            .condition_expression("attribute_not_exists(#name)")
            .expression_attribute_names("#name", "name");
        request.send().await.map_err(|error| match code(&error) {
            Some("ConditionalCheckFailedException") => {
                StoreError::Exists { name: name.clone(), version: version.clone() }
            }
            _ => self.failed("PutItem", &error),
        })?;
        Ok(())
    }

    async fn delete(&self, name: &Name, version: &Version) -> Result<(), StoreError> {
        log::debug!("DynamoDB DeleteItem, table {}, version {version} of {name}", self.table);
        let request = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("name", text(name.as_str()))
            .key("version", text(version.as_str()));
        request.send().await.map_err(|error| self.failed("DeleteItem", &error))?;
        Ok(())
    }

    async fn prepare(&self) {
        if self.prepared.swap(true, Ordering::Relaxed) {
            return;
        }
        let once = aws_sdk_dynamodb::Config::builder().retry_config(RetryConfig::disabled());
        let ping = self.client.list_tables().customize().config_override(once).mutate_request(into_ping);
        // Whatever the answer is, the connection is open; if it is not, the next call says why.
        let _ = ping.send().await;
    }
}

/// Chooses, of the items of a scan, the selected one of each name.
///
/// A scan gives the items of one name one after the other (they share a partition), so a name is done when another
/// one begins. DynamoDB does not promise that; should a name come back, its later choice is handed on too, and the
/// vault keeps the better of the two.
struct Picker<'a> {
    select: &'a Select,
    current: Option<(Name, Option<(Entry, Item)>)>,
}

impl<'a> Picker<'a> {
    fn new(select: &'a Select) -> Self {
        Self { select, current: None }
    }

    /// Takes the next item; gives the row of the name before it, if the item begins another one.
    fn offer(&mut self, entry: Entry, item: Item) -> Option<Result<SealedRow, StoreError>> {
        let done = match &self.current {
            Some((name, _)) if *name != entry.name => self.finish(),
            _ => None,
        };
        let (_, best) = self.current.get_or_insert_with(|| (entry.name.clone(), None));
        if self.select.prefers(&entry.version, best.as_ref().map(|(best, _)| &best.version)) {
            *best = Some((entry, item));
        }
        done
    }

    /// The row of the last name.
    fn finish(&mut self) -> Option<Result<SealedRow, StoreError>> {
        let (name, best) = self.current.take()?;
        Some(match best {
            Some((entry, item)) => decode(entry, item),
            None => Err(StoreError::not_found(&name, self.select)),
        })
    }
}

/// Takes what names the row out of the item.
fn split(mut item: Item) -> Result<(Entry, Item), MalformedAttribute> {
    Ok((take_entry(&mut item)?, item))
}

fn take_entry(item: &mut Item) -> Result<Entry, MalformedAttribute> {
    let name = Name::new(take_text(item, "name")?).map_err(|error| MalformedAttribute::new("name", error))?;
    let version = Version::stored(take_text(item, "version")?);
    // A comment of another type than text is somebody else's, as every attribute that is not known.
    let comment = take_text(item, "comment").ok();
    Ok(Entry { name, version, comment })
}

fn decode(entry: Entry, mut item: Item) -> Result<SealedRow, StoreError> {
    let attributes = take_attributes(&mut item);
    match attributes.and_then(Attributes::decode) {
        Ok(sealed) => Ok(SealedRow { entry, sealed }),
        Err(malformed) => Err(StoreError::Malformed { name: entry.name, version: entry.version, malformed }),
    }
}

fn take_attributes(item: &mut Item) -> Result<Attributes, MalformedAttribute> {
    let hmac = match item.remove("hmac") {
        None => None,
        Some(AttributeValue::B(blob)) => Some(blob.into_inner()),
        Some(AttributeValue::S(text)) => Some(text.into_bytes()),
        Some(_) => return Err(MalformedAttribute::new("hmac", "is neither Binary nor text")),
    };
    let mut optional = |attribute| match item.contains_key(attribute) {
        true => take_text(item, attribute).map(Some),
        false => Ok(None),
    };
    Ok(Attributes { key: optional("key")?, contents: optional("contents")?, hmac, digest: optional("digest")? })
}

fn take_text(item: &mut Item, attribute: &'static str) -> Result<String, MalformedAttribute> {
    match item.remove(attribute) {
        Some(AttributeValue::S(text)) => Ok(text),
        Some(_) => Err(MalformedAttribute::new(attribute, "is no text")),
        None => Err(MalformedAttribute::missing(attribute)),
    }
}

fn encode(row: &SealedRow) -> Item {
    let Attributes { key, contents, hmac, digest } = Attributes::from(&row.sealed);
    let Entry { name, version, comment } = &row.entry;
    [
        ("name", Some(text(name.as_str()))),
        ("version", Some(text(version.as_str()))),
        ("key", key.map(AttributeValue::S)),
        ("contents", contents.map(AttributeValue::S)),
        ("hmac", hmac.map(Blob::new).map(AttributeValue::B)),
        ("digest", digest.map(AttributeValue::S)),
        ("comment", comment.as_deref().filter(|comment| !comment.is_empty()).map(text)),
    ]
    .into_iter()
    .filter_map(|(attribute, value)| Some((attribute.to_owned(), value?)))
    .collect()
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

/// Whether a ValidationException says that the table has another key than `name` and `version`.
fn speaks_of_other_keys(message: &str) -> bool {
    ["key element", "key schema", "Missing the key", "Type mismatch for key"]
        .iter()
        .any(|words| message.contains(words))
}
