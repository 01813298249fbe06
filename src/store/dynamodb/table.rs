//! Making the table: the steps of `setup`.

use std::time::Duration;

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, PointInTimeRecoverySpecification,
    ProvisionedThroughput, ScalarAttributeType, TableDescription, TableStatus, Tag,
};

use super::DynamoDb;
use crate::aws::code;
use crate::failure::{Failure, FailureKind};
use crate::store::{Billing, Setup, SetupOutcome, StoreError};

/// How often to look whether a new table can be used, and how many times: five minutes in all.
const POLL: (Duration, u32) = (Duration::from_secs(2), 150);

impl DynamoDb {
    pub(super) async fn exists(&self) -> Result<bool, StoreError> {
        let mut start = None;
        loop {
            let request = self.client.list_tables().set_exclusive_start_table_name(start);
            let answer = self.pace.run("ListTables", || request.clone().send()).await;
            let answer = answer.map_err(|error| self.failed("ListTables", &error))?;
            if answer.table_names().contains(&self.table) {
                return Ok(true);
            }
            if answer.last_evaluated_table_name.is_none() {
                return Ok(false);
            }
            start = answer.last_evaluated_table_name;
        }
    }

    /// Asks for the table to be made, unless that has just been done.
    pub(super) async fn create(&self, options: &Setup) -> Result<SetupOutcome, StoreError> {
        let mut request = self.client.create_table().table_name(&self.table);
        for (attribute, key_type) in [("name", KeyType::Hash), ("version", KeyType::Range)] {
            let definition =
                AttributeDefinition::builder().attribute_name(attribute).attribute_type(ScalarAttributeType::S);
            let key = KeySchemaElement::builder().attribute_name(attribute).key_type(key_type);
            request = request
                .attribute_definitions(definition.build().map_err(unbuilt)?)
                .key_schema(key.build().map_err(unbuilt)?);
        }
        request = match options.billing.unwrap_or(Billing::OnDemand) {
            Billing::OnDemand => request.billing_mode(BillingMode::PayPerRequest),
            Billing::Provisioned => {
                let one_a_second = ProvisionedThroughput::builder().read_capacity_units(1).write_capacity_units(1);
                request.provisioned_throughput(one_a_second.build().map_err(unbuilt)?)
            }
        };
        if options.deletion_protection {
            request = request.deletion_protection_enabled(true);
        }
        match self.pace.run("CreateTable", || request.clone().send()).await {
            Ok(_) => Ok(SetupOutcome::Created),
            Err(error) if code(&error) == Some("ResourceInUseException") => Ok(SetupOutcome::Existed),
            Err(error) => Err(self.failed("CreateTable", &error)),
        }
    }

    /// Waits until the table can be used.
    pub(super) async fn wait_until_active(&self) -> Result<TableDescription, StoreError> {
        let (interval, attempts) = POLL;
        for _ in 0..attempts {
            let request = self.client.describe_table().table_name(&self.table);
            match self.pace.run("DescribeTable", || request.clone().send()).await {
                Ok(answer) => match answer.table {
                    Some(table) if table.table_status == Some(TableStatus::Active) => return Ok(table),
                    _ => {}
                },
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

    pub(super) async fn tag(&self, table: &TableDescription, options: &Setup) -> Result<(), StoreError> {
        let mut tags = options.tags.clone();
        tags.entry("Name".to_owned()).or_insert_with(|| "credstash".to_owned());
        let tags = tags
            .into_iter()
            .map(|(key, value)| Tag::builder().key(key).value(value).build())
            .collect::<Result<Vec<_>, _>>()
            .map_err(unbuilt)?;
        let request = self.client.tag_resource().set_resource_arn(table.table_arn.clone()).set_tags(Some(tags));
        let tagged = self.pace.run("TagResource", || request.clone().send()).await;
        tagged.map(drop).map_err(|error| self.failed("TagResource", &error))
    }

    pub(super) async fn enable_recovery(&self) -> Result<(), StoreError> {
        let on = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true);
        let request = self
            .client
            .update_continuous_backups()
            .table_name(&self.table)
            .point_in_time_recovery_specification(on.build().map_err(unbuilt)?);
        let enabled = self.pace.run("UpdateContinuousBackups", || request.clone().send()).await;
        enabled.map(drop).map_err(|error| self.failed("UpdateContinuousBackups", &error))
    }
}

/// Whether the table is paid for and protected as [`DynamoDb::create`] would have asked.
pub(super) fn is_as_asked(table: &TableDescription, options: &Setup) -> bool {
    let mode = table.billing_mode_summary().and_then(|summary| summary.billing_mode());
    let billing = match mode {
        Some(BillingMode::PayPerRequest) => Billing::OnDemand,
        _ => Billing::Provisioned,
    };
    let protected = table.deletion_protection_enabled.unwrap_or_default();
    billing == options.billing.unwrap_or(Billing::OnDemand) && protected == options.deletion_protection
}

/// The SDK's builders refuse what lacks a member; here each has all of them.
fn unbuilt(error: BuildError) -> StoreError {
    StoreError::Failed(Failure::new(FailureKind::Other, error.to_string()))
}
