//! A world for each test: a home folder, an environment and a table that no other test has, in which the program under
//! test and the Python original run side by side.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::servers::servers;

/// A value that must never be seen on stderr, whatever fails: [`World::run`] looks for it after every command.
pub(crate) const SECRET: &str = "s3cr3t-c4n4ry";

/// An endpoint at which nobody answers.
pub(crate) const CLOSED: &str = "http://127.0.0.1:1";

/// Where a test's commands run, and what they find there.
pub(crate) struct World {
    folder: TempDir,
    env: BTreeMap<String, OsString>,
    dynamodb: String,
    table: String,
}

impl World {
    /// A new table in DynamoDB Local, and moto's KMS.
    pub(crate) fn dynamodb() -> Self {
        let world = Self::without_table();
        world.create_table(&world.table);
        world
    }

    /// As [`World::dynamodb`], with no table made.
    pub(crate) fn without_table() -> Self {
        Self::aws(&servers().dynamodb)
    }

    /// A new table in moto's DynamoDB, which unlike DynamoDB Local has tags and takes empty texts.
    pub(crate) fn moto() -> Self {
        let world = Self::moto_without_table();
        world.create_table(&world.table);
        world
    }

    /// As [`World::moto`], with no table made.
    pub(crate) fn moto_without_table() -> Self {
        Self::aws(&servers().moto)
    }

    /// A machine where credentials are kept in the local store, which is not made yet.
    pub(crate) fn local() -> Self {
        let mut world = Self::no_cloud();
        world.set("CREDSTASH_STORE", "local");
        world
    }

    /// A machine without AWS: no credentials, no endpoints. Embedded stores live in its data folder.
    pub(crate) fn no_cloud() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["home", "work", "original"] {
            fs::create_dir(folder.path().join(name)).expect("made");
        }
        let path = std::env::var_os("PATH").expect("the tests have a PATH");
        let env = [
            ("PATH", path),
            ("HOME", folder.path().join("home").into()),
            ("LC_ALL", "C.UTF-8".into()),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
            ("AWS_MAX_ATTEMPTS", "2".into()),
        ];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { folder, env, dynamodb: String::new(), table: String::new() }
    }

    fn aws(dynamodb: &str) -> Self {
        static TABLES: AtomicU32 = AtomicU32::new(0);
        make_default_key("us-east-1");
        let mut world = Self::no_cloud();
        world.dynamodb = dynamodb.to_owned();
        world.table = format!("table-{}-{}", std::process::id(), TABLES.fetch_add(1, Ordering::Relaxed));
        let table = world.table.clone();
        world
            .set("AWS_ACCESS_KEY_ID", "test")
            .set("AWS_SECRET_ACCESS_KEY", "test")
            .set("AWS_DEFAULT_REGION", "us-east-1")
            .set("AWS_ENDPOINT_URL_DYNAMODB", dynamodb)
            .set("AWS_ENDPOINT_URL_KMS", &servers().moto)
            .set("AWS_ENDPOINT_URL_STS", &servers().moto)
            .set("CREDSTASH_DEFAULT_TABLE", table);
        world
    }

    /// Sets an environment variable of all commands that follow.
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(name.to_owned(), value.as_ref().to_owned());
        self
    }

    /// Removes an environment variable.
    pub(crate) fn unset(&mut self, name: &str) -> &mut Self {
        self.env.remove(name);
        self
    }

    /// The name of this test's table.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// Where the DynamoDB of this world is.
    pub(crate) fn dynamodb_url(&self) -> &str {
        &self.dynamodb
    }

    /// The path of `name` in the home folder.
    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join("home").join(name)
    }

    /// The path of `name` in the folder in which the program runs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    /// Every file and folder of this world, sorted.
    pub(crate) fn everything(&self) -> Vec<PathBuf> {
        let mut found = vec![self.folder.path().to_owned()];
        let mut next = 0;
        while let Some(path) = found.get(next) {
            if path.is_dir() {
                found.extend(fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path()));
            }
            next += 1;
        }
        found.sort();
        found
    }

    /// Writes a file there; gives its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Writes a file in the home folder, and the folders above it.
    pub(crate) fn home_file(&self, name: &str, content: &str) {
        let path = self.home(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
    }

    /// The program under test with these arguments, ready to be spawned.
    pub(crate) fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = self.other(env!("CARGO_BIN_EXE_credstash"));
        command.args(args);
        command
    }

    /// Another program in the same world.
    pub(crate) fn other(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path("")).env_clear().envs(&self.env).stdin(Stdio::null());
        command
    }

    /// Runs the program under test, with nothing on its standard input.
    pub(crate) fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
        self.run_with(b"", args)
    }

    /// Runs the program under test with `stdin` on its standard input.
    pub(crate) fn run_with(&self, stdin: &[u8], args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
        let ran = Ran::of(self.command(args), stdin);
        assert!(!ran.stderr.contains(SECRET), "a secret is on stderr\n{ran}");
        assert!(!self.path("credstash.log").exists(), "there is a log that nobody asked for\n{ran}");
        ran
    }

    /// Runs the Python original.
    pub(crate) fn python(&self, args: impl IntoIterator<Item = impl Into<String>>) -> Ran {
        self.python_with(b"", args)
    }

    /// Runs the Python original with `stdin` on its standard input.
    pub(crate) fn python_with(&self, stdin: &[u8], args: impl IntoIterator<Item = impl Into<String>>) -> Ran {
        let args: Vec<String> = args.into_iter().map(Into::into).collect();
        let text = |value: &OsString| value.to_str().expect("UTF-8").to_owned();
        let answer = Original::ask(&json!({
            "args": args,
            "stdin": STANDARD.encode(stdin),
            "env": self.env.iter().map(|(name, value)| (name, text(value))).collect::<BTreeMap<_, _>>(),
            // It leaves a log where it runs.
            "folder": self.folder.path().join("original"),
        }));
        let bytes = |value: &Value| STANDARD.decode(value.as_str().expect("base64")).expect("base64");
        Ran {
            command: format!("original credstash {args:?}"),
            stdout: bytes(&answer["stdout"]),
            stderr: String::from_utf8(bytes(&answer["stderr"])).expect("UTF-8"),
            code: answer["code"].as_i64().and_then(|code| i32::try_from(code).ok()),
        }
    }

    /// Runs a Python script, with `stdin` on its standard input, that must end well; gives what it prints.
    pub(crate) fn script(&self, script: &str, args: &[&str], stdin: &[u8]) -> Vec<u8> {
        let mut python = self.other(&servers().python);
        python.arg("-c").arg(script).args(args);
        let ran = Ran::of(python, stdin);
        assert!(ran.code == Some(0) && ran.stderr.is_empty(), "the script fails\n{ran}");
        ran.stdout
    }

    /// Runs `sh` on a script that must end well; gives what it prints.
    pub(crate) fn sh(&self, script: &str) -> Vec<u8> {
        let mut sh = self.other("sh");
        sh.arg("-c").arg(script);
        let ran = Ran::of(sh, b"");
        assert!(ran.code == Some(0) && ran.stderr.is_empty(), "the script fails\n{ran}");
        ran.stdout
    }

    /// Runs `command`, the program under test among it or not, on a terminal of its own; for each of `answers` waits
    /// until the screen shows the first text, and types the second and a line feed. Gives what the screen showed.
    pub(crate) fn on_terminal(&self, command: &[&str], answers: &[(&str, &str)]) -> Ran {
        const TERMINAL: &str = r#"
import json, os, pty, signal, sys

asked = json.load(sys.stdin)
signal.alarm(60)
child, terminal = pty.fork()
if child == 0:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # who starts the tests in the background ignores it
    os.execvp(asked["command"][0], asked["command"])

screen = b""
def read():
    global screen
    try:
        shown = os.read(terminal, 4096)
    except OSError:  # how Linux says that the other end is closed
        shown = b""
    screen += shown
    return shown

for question, answer in asked["answers"]:
    while question.encode() not in screen:
        if not read():
            sys.exit(f"no question {question!r} in {screen!r}")
    os.write(terminal, answer.encode() + b"\n")
while read():
    pass
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
json.dump({"screen": screen.decode(), "code": code}, sys.stdout)
"#;
        let asked = json!({"command": command, "answers": answers}).to_string();
        let result: Value =
            serde_json::from_slice(&self.script(TERMINAL, &[], asked.as_bytes())).expect("the driver prints JSON");
        let screen = result["screen"].as_str().expect("a text").replace("\r\n", "\n");
        Ran {
            command: format!("{command:?}"),
            stdout: screen.into_bytes(),
            stderr: String::new(),
            code: result["code"].as_i64().and_then(|code| i32::try_from(code).ok()),
        }
    }

    /// Makes a table with the keys of a credential store.
    pub(crate) fn create_table(&self, table: &str) {
        self.call(
            "CreateTable",
            json!({
                "TableName": table,
                "KeySchema": [
                    {"AttributeName": "name", "KeyType": "HASH"},
                    {"AttributeName": "version", "KeyType": "RANGE"},
                ],
                "AttributeDefinitions": [
                    {"AttributeName": "name", "AttributeType": "S"},
                    {"AttributeName": "version", "AttributeType": "S"},
                ],
                "BillingMode": "PAY_PER_REQUEST",
            }),
        );
    }

    /// Calls the DynamoDB of this world directly.
    pub(crate) fn call(&self, operation: &str, body: Value) -> Value {
        aws_call(&self.dynamodb, "us-east-1", "dynamodb", &format!("DynamoDB_20120810.{operation}"), &body)
    }

    /// All rows of the table, sorted, as DynamoDB shows them: each attribute with its type.
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.rows_of(&self.table)
    }

    /// All rows of another table.
    pub(crate) fn rows_of(&self, table: &str) -> Vec<Value> {
        let answer = self.call("Scan", json!({"TableName": table, "ConsistentRead": true}));
        let mut rows = answer["Items"].as_array().expect("items").clone();
        rows.sort_by_key(|row| [&row["name"], &row["version"]].map(|key| key["S"].as_str().map(str::to_owned)));
        rows
    }

    /// The one row of `name`.
    pub(crate) fn row(&self, name: &str) -> Value {
        let rows: Vec<Value> = self.rows().into_iter().filter(|row| row["name"]["S"] == name).collect();
        assert_eq!(rows.len(), 1, "{name} has one version");
        rows.into_iter().next().expect("one row")
    }

    /// Puts a row as it is, whatever was there.
    pub(crate) fn put_row(&self, row: &Value) {
        self.call("PutItem", json!({"TableName": self.table, "Item": row}));
    }
}

/// A Python that has loaded the original, which takes it longer than most commands, and runs each command in a child.
struct Original {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Ends when its standard input is closed.
    _python: Child,
}

impl Original {
    /// Has a command run by one that is idle, or by a new one.
    fn ask(command: &Value) -> Value {
        static IDLE: Mutex<Vec<Original>> = Mutex::new(Vec::new());
        let idle = || IDLE.lock().expect("no panic while it is locked");
        let one = idle().pop();
        let mut one = one.unwrap_or_else(Self::start);
        writeln!(one.stdin, "{command}").expect("Python reads on");
        let mut answer = String::new();
        one.stdout.read_line(&mut answer).expect("text");
        idle().push(one);
        serde_json::from_str(&answer).expect("Python answers in JSON, or has said why not")
    }

    fn start() -> Self {
        const SCRIPT: &str = r#"
import base64, json, os, signal, sys, tempfile, traceback
import credstash

def text(fd, mode):
    return open(fd, mode, encoding="utf-8", newline="\n", closefd=False)

def run(args, stdin, env, folder):
    files = [tempfile.TemporaryFile() for _ in range(3)]
    files[0].write(base64.b64decode(stdin))
    files[0].seek(0)
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # where it fails to read a secret, it waits for ever
        os.environ.clear()
        os.environ.update(env)
        os.chdir(folder)
        for fd, file in enumerate(files):
            os.dup2(file.fileno(), fd)
        sys.stdin, sys.stdout, sys.stderr = text(0, "r"), text(1, "w"), text(2, "w")
        sys.argv = ["credstash", *args]
        try:
            credstash.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for file in files:
        file.seek(0)
    out, err = (base64.b64encode(file.read()).decode() for file in files[1:])
    return {"stdout": out, "stderr": err, "code": code}

for line in sys.stdin:
    print(json.dumps(run(**json.loads(line))), flush=True)
"#;
        let mut python = Command::new(&servers().python);
        python.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut python = python.spawn().expect("Python runs");
        let stdin = python.stdin.take().expect("stdin is piped");
        let stdout = BufReader::new(python.stdout.take().expect("stdout is piped"));
        Self { stdin, stdout, _python: python }
    }
}

/// What a command printed, and how it ended.
#[derive(Clone)]
pub(crate) struct Ran {
    command: String,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl Ran {
    /// Runs a command to its end.
    pub(crate) fn of(mut command: Command, stdin: &[u8]) -> Self {
        let line = std::iter::once(command.get_program()).chain(command.get_args());
        let line = format!("{:?}", line.collect::<Vec<_>>());
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{line} does not run: {error}"));
        let mut input = child.stdin.take().expect("stdin is piped");
        let output = std::thread::scope(|scope| {
            // A command that does not read its input may close it.
            scope.spawn(move || input.write_all(stdin));
            child.wait_with_output().expect("its output can be read")
        });
        Self {
            command: line,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        }
    }

    /// It printed exactly this, said nothing on stderr, and ended well.
    #[track_caller]
    pub(crate) fn ok(&self, stdout: impl AsRef<[u8]>) -> &Self {
        self.prints(stdout).says("")
    }

    /// It printed exactly this and ended well, whatever it said on stderr.
    #[track_caller]
    pub(crate) fn prints(&self, stdout: impl AsRef<[u8]>) -> &Self {
        let expected = stdout.as_ref();
        assert!(self.code == Some(0), "must end well\n{self}");
        assert!(self.stdout == expected, "must print {}\n{self}", shown(expected));
        self
    }

    /// Exactly this is on stderr.
    #[track_caller]
    pub(crate) fn says(&self, stderr: &str) -> &Self {
        assert!(self.stderr == stderr, "must say {stderr:?}\n{self}");
        self
    }

    /// These words are on stderr.
    #[track_caller]
    pub(crate) fn mentions(&self, words: &str) -> &Self {
        assert!(self.stderr.contains(words), "must mention {words:?}\n{self}");
        self
    }

    /// It failed with this code, printed nothing, and said why with these words: in one line for a failure (1), below
    /// the usage for a wrong usage (2).
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &str) -> &Self {
        assert!(self.code == Some(code), "must exit with {code}\n{self}");
        assert!(self.stdout.is_empty(), "must print nothing\n{self}");
        self.mentions(words);
        match code {
            1 => assert!(self.stderr.lines().count() == 1, "must say why in one line\n{self}"),
            _ => {
                assert!(self.stderr.starts_with("usage: credstash"), "must show the usage\n{self}");
                let mut lines = self.stderr.lines();
                let is_error = |line: &str| line.starts_with("credstash") && line.contains(": error: ");
                assert!(lines.any(is_error), "must name the error\n{self}");
            }
        }
        self
    }

    /// What it printed, as text.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap_or_else(|_| panic!("must print text\n{self}"))
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("must print JSON: {error}\n{self}"))
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, stdout, stderr, code } = self;
        write!(f, "command: {command}\nexit code: {code:?}\nstdout: {}\nstderr: {stderr}", shown(stdout))
    }
}

/// The beginning of an output, readable.
fn shown(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().take(2000).collect();
    format!("{text:?} ({} bytes)", bytes.len())
}

/// Makes the key that commands use unless told otherwise, once for each region.
pub(crate) fn make_default_key(region: &'static str) {
    static MADE: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().expect("no panic while it is locked");
    if !made.contains(&region) {
        let key = make_key(region);
        let alias = json!({"AliasName": "alias/credstash", "TargetKeyId": key});
        aws_call(&servers().moto, region, "kms", "TrentService.CreateAlias", &alias);
        made.push(region);
    }
}

/// Makes a KMS key; gives its id.
pub(crate) fn make_key(region: &str) -> String {
    let answer = aws_call(&servers().moto, region, "kms", "TrentService.CreateKey", &json!({}));
    answer["KeyMetadata"]["KeyId"].as_str().expect("the id of a key").to_owned()
}

/// Calls a local server that speaks AWS JSON; the call must succeed. It does not check signatures, so that a made-up
/// one will do. moto fails now and then when another thread of it makes a table meanwhile: then once more.
fn aws_call(endpoint: &str, region: &str, service: &str, target: &str, body: &Value) -> Value {
    let address = endpoint.strip_prefix("http://").expect("an http endpoint");
    let body = body.to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nX-Amz-Target: {target}\r\nContent-Type: application/x-amz-json-1.0\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=test/20200101/{region}/{service}/aws4_request, \
         SignedHeaders=host, Signature=0\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut answer = exchange(address, request.as_bytes());
    for _ in 0..4 {
        if answer.starts_with("HTTP/1.1 500") {
            answer = exchange(address, request.as_bytes());
        }
    }
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{target} fails: {head}\n{body}");
    match body {
        "" => Value::Null,
        body => serde_json::from_str(body).expect("JSON"),
    }
}

/// Sends a request that asks for the connection to be closed; gives the whole answer.
pub(crate) fn exchange(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("the server answers");
    stream.write_all(request).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in text");
    answer
}

/// One call to AWS, as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// Such as `Query`.
    pub(crate) operation: String,
    /// The region for which it is signed.
    pub(crate) region: String,
    /// The access key with which it is signed.
    pub(crate) access_key: String,
    /// The body of the request.
    pub(crate) body: String,
}

/// A server that sees the calls that are meant for AWS.
pub(crate) struct Recorder {
    pub(crate) url: String,
    calls: Arc<Mutex<Vec<Call>>>,
    uncalled: Arc<AtomicUsize>,
}

impl Recorder {
    /// Hands each call on to another server.
    pub(crate) fn before(server: &str) -> Self {
        Self::between(server, |_| None)
    }

    /// Answers those calls itself to which `answer` has a status and a body, and hands the others on to another server.
    pub(crate) fn between(
        server: &str,
        answer: impl Fn(&Call) -> Option<(u16, Value)> + Send + Sync + 'static,
    ) -> Self {
        let address = server.strip_prefix("http://").expect("an http endpoint").to_owned();
        Self::start(move |call, request| match call.and_then(&answer) {
            Some((status, body)) => http_answer(status, &body.to_string()),
            None => exchange(&address, request),
        })
    }

    /// Throttles the first `times` calls, and hands the others on to another server.
    pub(crate) fn throttling(times: usize, server: &str) -> Self {
        let left = AtomicUsize::new(times);
        Self::between(server, move |_| {
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).ok()?;
            Some((400, json!({"__type": "com.amazon#ThrottlingException", "message": "Rate exceeded"})))
        })
    }

    /// Answers whatever it is asked with this status and body.
    pub(crate) fn answering(status: u16, body: &Value) -> Self {
        let body = body.to_string();
        Self::start(move |_, _| http_answer(status, &body))
    }

    /// Answers with the error that AWS answers in this case.
    pub(crate) fn refusing(code: &str, message: &str) -> Self {
        Self::answering(400, &json!({"__type": format!("com.amazon#{code}"), "message": message}))
    }

    /// Answers with an error as STS words it, in XML.
    pub(crate) fn refusing_roles(code: &str, message: &str) -> Self {
        let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
        let body = format!("<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>");
        Self::start(move |_, _| http_answer(403, &body))
    }

    /// Hands each call on to another server, and loses the answer to the first call of this operation.
    pub(crate) fn losing_an_answer(operation: &'static str, server: &str) -> Self {
        let address = server.strip_prefix("http://").expect("an http endpoint").to_owned();
        let lost = AtomicBool::new(false);
        Self::start(move |call, request| {
            let answer = exchange(&address, request);
            let is_the_one = call.is_some_and(|call| call.operation == operation);
            // A connection that closes without an answer.
            if is_the_one && !lost.swap(true, Ordering::SeqCst) { String::new() } else { answer }
        })
    }

    fn start(answer: impl Fn(Option<&Call>, &[u8]) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let uncalled = Arc::new(AtomicUsize::new(0));
        let (answer, seen, others) = (Arc::new(answer), Arc::clone(&calls), Arc::clone(&uncalled));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, seen, others) = (Arc::clone(&answer), Arc::clone(&seen), Arc::clone(&others));
                std::thread::spawn(move || serve(stream, &*answer, &seen, &others));
            }
        });
        Self { url, calls, uncalled }
    }

    /// The calls that were seen so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("no panic while it is locked").clone()
    }

    /// How many requests were seen that are no signed calls.
    pub(crate) fn uncalled(&self) -> usize {
        self.uncalled.load(Ordering::SeqCst)
    }
}

fn http_answer(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} Answered\r\nContent-Type: application/x-amz-json-1.0\r\nx-amzn-RequestId: 1\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Reads one request, records it if it is a call, and answers it. A client that goes away is no failure of a test.
fn serve(
    stream: TcpStream,
    answer: &dyn Fn(Option<&Call>, &[u8]) -> String,
    seen: &Mutex<Vec<Call>>,
    others: &AtomicUsize,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    while reader.read_until(b'\n', &mut head)? > 0 && !head.ends_with(b"\r\n\r\n") {}
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines().filter(|line| !line.is_empty());
    let Some(request_line) = lines.next() else { return Ok(()) };
    let headers: BTreeMap<String, &str> =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value)).collect();

    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let call = read_call(&headers, String::from_utf8_lossy(&body).into_owned());
    match call.clone() {
        Some(call) => seen.lock().expect("no panic while it is locked").push(call),
        None => drop(others.fetch_add(1, Ordering::SeqCst)),
    }

    let kept = headers.iter().filter(|(name, _)| *name != "connection");
    let kept: String = kept.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut request = format!("{request_line}\r\n{kept}connection: close\r\n\r\n").into_bytes();
    request.extend(body);
    reader.get_mut().write_all(answer(call.as_ref(), &request).as_bytes())
}

fn read_call(headers: &BTreeMap<String, &str>, body: String) -> Option<Call> {
    let action = body.split('&').find_map(|field| field.strip_prefix("Action="));
    let operation = headers.get("x-amz-target").and_then(|target| target.split('.').nth(1)).or(action)?.to_owned();
    let scope = headers.get("authorization")?.split_once("Credential=")?.1.split(',').next()?;
    let mut scope = scope.split('/').map(str::to_owned);
    let (access_key, region) = (scope.next()?, scope.nth(1)?);
    Some(Call { operation, region, access_key, body })
}

/// moto behind TLS, with a certificate for this machine and for the real names of AWS in us-east-1, which only the
/// authority in the file [`Tls::ca`] vouches for.
pub(crate) struct Tls {
    /// The address on this machine, such as `127.0.0.1:4321`.
    pub(crate) address: String,
    /// The file of the authority's certificate.
    pub(crate) ca: String,
    /// Ends when its standard input is closed.
    _server: Child,
    _folder: TempDir,
}

impl Tls {
    /// The one server of all tests.
    pub(crate) fn server() -> &'static Self {
        static SERVER: OnceLock<Tls> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    fn start() -> Self {
        const SERVER: &str = r#"
import asyncio, datetime, ipaddress, os, ssl, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

folder, upstream = sys.argv[1], (sys.argv[2].split(":")[0], int(sys.argv[2].split(":")[1]))

def name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

def certificate(subject, key, issuer, issuer_key, is_authority):
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
             x509.DNSName("dynamodb.us-east-1.amazonaws.com"), x509.DNSName("kms.us-east-1.amazonaws.com")]
    builder = (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
               .public_key(key.public_key()).serial_number(x509.random_serial_number())
               .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=2))
               .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True))
    if not is_authority:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())

def write(file, *parts):
    with open(os.path.join(folder, file), "wb") as out:
        out.write(b"".join(parts))

ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
ca = certificate("test authority", ca_key, "test authority", ca_key, True)
leaf = certificate("localhost", key, "test authority", ca_key, False)
pem = serialization.Encoding.PEM
write("ca.pem", ca.public_bytes(pem))
write("server.pem", leaf.public_bytes(pem), key.private_bytes(
    pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(folder, "server.pem"))

async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # either side may go when it likes
    finally:
        writer.close()

async def serve(reader, writer):
    from_server, to_server = await asyncio.open_connection(*upstream)
    await asyncio.gather(copy(reader, to_server), copy(from_server, writer))

# One thread: Python's TLS connections cannot be read and written by two at once.
async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # clients that do not trust us
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)

asyncio.run(main())
"#;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let upstream = servers().moto.strip_prefix("http://").expect("an http endpoint");
        let mut server = Command::new(&servers().python)
            .args(["-c", SERVER])
            .arg(folder.path())
            .arg(upstream)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let mut port = String::new();
        BufReader::new(server.stdout.take().expect("stdout is piped")).read_line(&mut port).expect("a port");
        let ca = folder.path().join("ca.pem").to_str().expect("UTF-8").to_owned();
        Self { address: format!("127.0.0.1:{}", port.trim()), ca, _server: server, _folder: folder }
    }
}

/// An HTTP proxy that leads every tunnel to one server, whatever host was asked for, and records those hosts.
pub(crate) struct Proxy {
    pub(crate) url: String,
    hosts: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// A proxy that leads to the server at `address`.
    pub(crate) fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let hosts = Arc::new(Mutex::new(Vec::new()));
        let (address, seen) = (address.to_owned(), Arc::clone(&hosts));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (address, seen) = (address.clone(), Arc::clone(&seen));
                std::thread::spawn(move || tunnel(client, &address, &seen));
            }
        });
        Self { url, hosts }
    }

    /// The hosts that were asked for so far, each once, sorted.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let mut hosts = self.hosts.lock().expect("no panic while it is locked").clone();
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

fn tunnel(mut client: TcpStream, address: &str, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head);
    let Some(host) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else { return Ok(()) };
    seen.lock().expect("no panic while it is locked").push(host.to_owned());

    let mut server = TcpStream::connect(address)?;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    std::io::copy(&mut server, &mut client)?;
    client.shutdown(std::net::Shutdown::Both)
}
