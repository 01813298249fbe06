//! `credstash putall`

use credstash::{Draft, Secret, Vault};
use futures_util::stream::StreamExt as _;
use serde_json::{Map, Value};

use super::write_options::WriteOptions;
use crate::input::{self, Beside};
use crate::output::Output;
use crate::progress::Progress;
use crate::report::{self, Failed};

/// The version of a first putall, as in the original, whose help says 1.
const DEFAULT_VERSION: &str = "0";

/// Store all credentials of a JSON object of texts
#[derive(clap::Args)]
#[command(before_help = "\
Example: credstash putall -a @credentials.json env=prod
         credstash getall | credstash --store local putall -")]
pub(crate) struct Args {
    /// JSON object, {"name": "value", ...}: @FILE for a file, - for standard input
    credentials: String,

    /// Encryption context: key=value pairs that every reader has to give again
    context: Vec<String>,

    #[command(flatten)]
    pub(crate) write: WriteOptions,
}

impl Args {
    /// Checks what was typed, and the whole document, before anything is stored.
    pub(crate) fn check(self) -> Result<Vec<Draft>, Failed> {
        let context = input::context(&self.context, Beside::Value)?;
        let text = input::document(self.credentials)?;
        // The parser's own words would quote the document.
        let refused = |error: serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            Failed::Message(format!(
                "the document is no JSON object of texts, such as {{\"name\": \"value\"}}: see line {line}, column {column}"
            ))
        };
        if text.trim_ascii().is_empty() {
            return Err(Failed::Message(
                "the document is empty, and must be a JSON object of texts, such as {\"name\": \"value\"}".to_owned(),
            ));
        }
        let members: Map<String, Value> = serde_json::from_str(&text).map_err(refused)?;
        let draft = |(name, value): (String, Value)| match value {
            Value::String(text) => {
                let draft = self.write.draft(&name, Secret::new(text.into_bytes()), context.clone(), DEFAULT_VERSION);
                draft.map_err(|refused| match refused {
                    Failed::Message(reason) => Failed::Message(format!("{reason}; nothing was stored")),
                    other => other,
                })
            }
            other => Err(Failed::Message(format!(
                "the value of '{name}' is {}, and must be a text in quotes; nothing was stored",
                kind_of(&other)
            ))),
        };
        members.into_iter().map(draft).collect()
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Stores each credential, goes on after one that fails, and reports in the order of the document. That nobody reads
/// the report any more is no reason to store a part: it is said when all is done.
pub(crate) async fn run(drafts: Vec<Draft>, vault: &Vault, out: &mut Output) -> Result<(), Failed> {
    let progress = Progress::new("storing");
    let mut stored = std::pin::pin!(vault.put_all(drafts));
    let (mut done, mut failures, mut written) = (0, 0, Ok(()));
    while let Some((name, result)) = stored.next().await {
        progress.clear();
        match result {
            Ok(_) => written = written.and_then(|()| out.line(&format!("{name} has been stored"))),
            Err(error) => {
                failures += 1;
                report::about(&name, &error);
            }
        }
        done += 1;
        progress.show(format_args!("{done} credentials"));
    }
    if failures > 0 {
        return Err(Failed::Message(format!("{failures} of {done} credentials could not be stored")));
    }
    Ok(written?)
}
