//! The servers that stand in for AWS, started once for the whole test binary.
//!
//! [`servers`] runs `scripts/servers run` and keeps the pipe to its standard input open. The script
//! stops the servers when that pipe closes, and the kernel closes it when this process ends, even
//! by a crash or SIGKILL: no run leaves a server behind.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

/// Where the servers are, and the Python programs the tests compare with.
pub(crate) struct Servers {
    /// The endpoint of Amazon DynamoDB Local.
    pub(crate) dynamodb: String,
    /// The endpoint of moto: KMS, STS, and a DynamoDB that has tags.
    pub(crate) moto: String,
    /// A Python that has boto3, python-dotenv and PyYAML.
    pub(crate) python: PathBuf,
    /// The Python credstash.
    pub(crate) python_credstash: PathBuf,
    /// Holds the pipe open.
    _script: Child,
}

/// The servers; the first call starts them, which takes a second.
pub(crate) fn servers() -> &'static Servers {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    SERVERS.get_or_init(start)
}

fn start() -> Servers {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/servers");
    let mut script = Command::new(path)
        .arg("run")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{path} does not run: {error}"));

    let stdout = script.stdout.take().expect("stdout is piped");
    let lines: Vec<String> =
        BufReader::new(stdout).lines().map_while(Result::ok).take_while(|line| line != "ready").collect();
    let value = |name: &str| {
        let value = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| {
            panic!(
                "the test servers did not start, and said why above; run the tests with \
                 scripts/test, or run `scripts/servers install` once and then `cargo test`"
            )
        })
    };

    Servers {
        dynamodb: value("DYNAMODB_LOCAL").to_owned(),
        moto: value("MOTO").to_owned(),
        python: value("PYTHON").into(),
        python_credstash: value("PYTHON_CREDSTASH").into(),
        _script: script,
    }
}
