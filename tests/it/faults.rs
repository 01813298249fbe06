//! The fault table: every command, against every fault of every call that it makes, once and for ever.
//!
//! The property is one: a command gives the whole right result and ends with 0, or it fails, says what failed, and
//! prints nothing that is not so. What it has said to be stored is stored, once; what it has not said to be stored is
//! there whole or not at all; and it ends in time. [`Trial::judge`] is that property. What is read back is read from the
//! servers themselves, behind the back of what spoils the calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::servers::servers;
use crate::world::{Ran, SECRET, World, exchange};

// --- What goes wrong --------------------------------------------------------------------------------------------------

/// What becomes of a call.
#[derive(Clone, Copy)]
enum Fault {
    /// The service does nothing, and answers with this status and this error: DynamoDB's, KMS's.
    Refused(u16, [&'static str; 2]),
    /// The service does nothing, and answers with this error, unless the call is signed by its clock: [`NOW`].
    OtherClock(&'static str),
    /// Something else does nothing, and answers that all is well.
    Stranger(&'static str),
    /// The service hears nothing.
    Unheard(Ending),
    /// The service does what it was asked, and its answer is lost.
    Unanswered(Ending),
    /// The service does what it was asked, and its answer breaks off after this.
    BrokenOff(fn(&Answer) -> String),
    /// The service does what it was asked, and something hands on half of its answer as if it were whole.
    Halved,
}

/// How a connection ends before there is an answer.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Closed,
    Reset,
    /// Not at all, as far as one can see from here.
    Silent,
}

const FAULTS: [(&str, Fault); 19] = [
    ("throttled", Fault::Refused(400, ["ProvisionedThroughputExceededException", "ThrottlingException"])),
    ("500, a fault of the service", Fault::Refused(500, ["InternalServerError", "KMSInternalException"])),
    ("503, the service is not available", Fault::Refused(503, ["ServiceUnavailable", "ServiceUnavailableException"])),
    ("an expired token", Fault::Refused(400, ["ExpiredTokenException"; 2])),
    ("a clock that is years off (too skewed)", Fault::OtherClock("RequestTimeTooSkewed")),
    ("a clock that is years off (signature)", Fault::OtherClock("InvalidSignatureException")),
    ("closed, and nothing done", Fault::Unheard(Ending::Closed)),
    ("reset, and nothing done", Fault::Unheard(Ending::Reset)),
    ("no answer, and nothing done", Fault::Unheard(Ending::Silent)),
    ("done, then closed", Fault::Unanswered(Ending::Closed)),
    ("done, then reset", Fault::Unanswered(Ending::Reset)),
    ("done, then no answer", Fault::Unanswered(Ending::Silent)),
    ("done, and the answer breaks off in its body", Fault::BrokenOff(|answer| text(&answer.head, half(&answer.body)))),
    ("done, and half the answer as if it were whole", Fault::Halved),
    ("done, and the answer breaks off in its head", Fault::BrokenOff(|answer| half(&answer.head).to_owned())),
    ("200 and nothing", Fault::Stranger("")),
    ("200 and {}", Fault::Stranger("{}")),
    ("200 and rubbish", Fault::Stranger("\u{1}rub{bish")),
    ("200 and a page to log in", Fault::Stranger("<!DOCTYPE html><html><body>Welcome to our Wi-Fi</body></html>")),
];

/// The time of a service whose clock is not ours, as a header says it and as the signature of a call begins.
const NOW: (&str, &str) = ("Wed, 01 Jan 2031 12:00:00 GMT", "20310101T12");

fn half(text: &str) -> &str {
    text.split_at(text.len() / 2).0
}

impl Fault {
    /// Whether a command must get over it when it strikes then.
    fn passes(self, when: When) -> bool {
        match self {
            // Once it is known, calls are signed by that clock.
            Self::OtherClock(_) => true,
            Self::Refused(_, [code, _]) => when == When::Once && code != "ExpiredTokenException",
            Self::Unheard(_) | Self::Unanswered(_) | Self::BrokenOff(_) => when == When::Once,
            Self::Stranger(_) | Self::Halved => false,
        }
    }

    /// Whether it shows only by the time that passes.
    fn is_silent(self) -> bool {
        matches!(self, Self::Unheard(Ending::Silent) | Self::Unanswered(Ending::Silent))
    }
}

/// Which calls of an operation go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    Once,
    Always,
    /// From the second on, where there is one.
    Midway,
}

impl When {
    /// Whether the call is one of them that is the `number`th of its operation.
    fn strikes(self, number: usize) -> bool {
        match self {
            Self::Once => number == 1,
            Self::Always => true,
            Self::Midway => number >= 2,
        }
    }
}

// --- What is tried ----------------------------------------------------------------------------------------------------

/// What a command does when it ends well. `NAME` in its arguments is a name that no other trial has.
#[derive(Clone, Copy)]
enum Effect {
    /// It prints what a run without faults prints.
    Prints,
    /// It stores [`VALUE`] under the name and these endings, as this version, where this many versions were before.
    Stores { endings: &'static [&'static str], before: usize, version: &'static str },
    /// It deletes the versions of the name.
    Deletes { before: usize },
    /// It makes a table, with tags and recovery.
    MakesTable,
}

const PUT: Effect = Effect::Stores { endings: &[""], before: 0, version: "0000000000000000001" };
const PUT_NEXT: Effect = Effect::Stores { endings: &[""], before: 2, version: "0000000000000000003" };
const PUT_SEVENTH: Effect = Effect::Stores { endings: &[""], before: 2, version: "0000000000000000007" };
const PUTALL: Effect = Effect::Stores { endings: &[".a", ".b", ".c"], before: 0, version: "0000000000000000000" };
const PUTALL_NEXT: Effect = Effect::Stores { endings: &[".a", ".b", ".c"], before: 1, version: "0000000000000000002" };

const COMMANDS: [(&[&str], Effect); 15] = [
    (&["get", "p.1"], Effect::Prints),
    (&["get", "p.1", "-v", "1"], Effect::Prints),
    (&["get", "p.*"], Effect::Prints),
    (&["getall"], Effect::Prints),
    (&["list"], Effect::Prints),
    (&["keys"], Effect::Prints),
    (&["put", "NAME", VALUE], PUT),
    (&["put", "NAME", VALUE, "-v", "7"], PUT_SEVENTH),
    (&["put", "--bind", "NAME", VALUE], PUT),
    (&["put", "-a", "NAME", VALUE], PUT_NEXT),
    (&["put", "-a", "--bind", "NAME", VALUE], PUT_NEXT),
    (&["putall", DOCUMENT], PUTALL),
    (&["putall", "-a", DOCUMENT], PUTALL_NEXT),
    (&["delete", "NAME"], Effect::Deletes { before: 3 }),
    (&["setup", "--tags", "team=infra", "--pitr"], Effect::MakesTable),
];

/// [`SECRET`], so that no failure may show it.
const VALUE: &str = SECRET;

const DOCUMENT: &str = r#"{"NAME.a": "s3cr3t-c4n4ry", "NAME.b": "s3cr3t-c4n4ry", "NAME.c": "s3cr3t-c4n4ry"}"#;

/// The limits of what must fail, and of what a busy machine must not keep from ending well.
const SHORT: Limits = Limits { read: "1", whole: 4, attempts: "2" };
const LONG: Limits = Limits { read: "8", whole: 30, attempts: "3" };

/// Of `--timeout-connect` and `--timeout-read`, of `--timeout`, in seconds, and of `AWS_MAX_ATTEMPTS`.
struct Limits {
    read: &'static str,
    whole: u64,
    attempts: &'static str,
}

/// What a busy machine needs to start a command, and to see that it has ended.
const SLACK: Duration = Duration::from_secs(8);

/// Most of a trial is waiting.
const TRIALS_AT_ONCE: usize = 24;

/// The places in which a worker tries.
struct Ground<'a> {
    /// Holds what is read. In DynamoDB Local.
    read: &'a World,
    /// Is written. In DynamoDB Local.
    written: World,
    /// Where tables are made. In moto, which has tags and recovery.
    making: World,
    /// A row, whose value nobody reads.
    row: Value,
}

/// Six credentials of two versions.
fn readable() -> World {
    let world = World::dynamodb();
    for number in 1..=6 {
        let name = format!("p.{number}");
        world.run(["put", &name, &format!("old {number}")]).ok(format!("{name} has been stored\n"));
        world.run(["put", "-a", &name, &format!("value {number}")]).ok(format!("{name} has been stored\n"));
    }
    world
}

impl<'a> Ground<'a> {
    fn new(read: &'a World) -> Self {
        Self { read, written: World::dynamodb(), making: World::moto_without_table(), row: read.rows().swap_remove(0) }
    }

    /// What the reading commands must print.
    fn printed(args: &[&str]) -> String {
        let pairs = (1..=6).map(|number| format!("    \"p.{number}\": \"value {number}\""));
        let object = format!("{{\n{}\n}}", pairs.collect::<Vec<_>>().join(",\n"));
        let entries = (1..=6).flat_map(|number| (1..=2).map(move |version| (number, version)));
        match args {
            ["get", "p.1"] => "value 1\n".to_owned(),
            ["get", "p.1", "-v", "1"] => "old 1\n".to_owned(),
            ["get", "p.*"] => object,
            ["getall"] => object + "\n",
            ["list"] => {
                entries.map(|(number, version)| format!("p.{number} -- version {version:019} -- comment \n")).collect()
            }
            ["keys"] => (1..=6).map(|number| format!("p.{number}\n")).collect(),
            other => panic!("{other:?} does not read"),
        }
    }
}

/// One command against one fault of one operation.
#[derive(Clone, Copy)]
struct Trial {
    number: usize,
    args: &'static [&'static str],
    effect: Effect,
    /// None in the run that shows which calls a command makes.
    strike: Option<Strike>,
}

#[derive(Clone, Copy)]
struct Strike {
    operation: &'static str,
    fault: (&'static str, Fault),
    when: When,
}

/// How a trial ended that kept the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The whole right result.
    Whole,
    /// A failure that was said.
    Refused,
}

impl std::fmt::Display for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "credstash {}", self.args.join(" "))?;
        match self.strike {
            Some(Strike { operation, fault: (fault, _), when }) => write!(f, ", {operation}: {fault}, {when:?}"),
            None => write!(f, ", no fault"),
        }
    }
}

impl Trial {
    fn limits(&self) -> Limits {
        match self.strike {
            Some(Strike { fault: (_, fault), when, .. }) if fault.passes(when) && fault.is_silent() => {
                // Each attempt is a chance more for a busy machine to answer in time.
                Limits { read: "2", attempts: "6", ..LONG }
            }
            Some(Strike { fault: (_, fault), when, .. }) if !fault.passes(when) => SHORT,
            _ => LONG,
        }
    }

    /// A name that no other trial has.
    fn name(&self) -> String {
        format!("n{:05}", self.number)
    }

    /// Prepares what the command finds, runs it between spoilt servers, and judges; gives the calls as well.
    fn run(&self, ground: &Ground<'_>) -> (Result<Outcome, String>, Vec<String>) {
        let world = match self.effect {
            Effect::Prints => ground.read,
            Effect::Stores { .. } | Effect::Deletes { .. } => &ground.written,
            Effect::MakesTable => &ground.making,
        };
        let before = self.prepare(ground);
        let dynamodb = Between::start(world.dynamodb_url(), 0, self.strike);
        let kms = Between::start(&servers().moto, 1, self.strike);
        let name = self.name();
        let Limits { read, whole, attempts } = self.limits();
        let mut command = world.command(["--timeout-connect", read, "--timeout-read", read]);
        command.args(["--timeout", &whole.to_string()]).env("AWS_MAX_ATTEMPTS", attempts);
        command.args(self.args.iter().map(|word| word.replace("NAME", &name)));
        command.env("AWS_ENDPOINT_URL_DYNAMODB", &dynamodb.url).env("AWS_ENDPOINT_URL_KMS", &kms.url);
        if let Effect::MakesTable = self.effect {
            command.env("CREDSTASH_DEFAULT_TABLE", self.table(world));
        }
        let start = Instant::now();
        let ran = Ran::of(command, b"");
        let took = start.elapsed();
        let judged = if took > Duration::from_secs(whole) + SLACK {
            Err(format!("it took {took:?}"))
        } else {
            self.judge(ground, &before, &ran)
        };
        let judged = judged.map_err(|broken| format!("{self}: {broken}\n{ran}"));
        (judged, [dynamodb.calls(), kms.calls()].concat())
    }

    fn table(&self, world: &World) -> String {
        format!("{}-{}", world.table(), self.name())
    }

    /// The names that are stored or deleted.
    fn names(&self) -> Vec<String> {
        let endings = match self.effect {
            Effect::Stores { endings, .. } => endings,
            Effect::Deletes { .. } => &[""],
            Effect::Prints | Effect::MakesTable => &[],
        };
        endings.iter().map(|ending| self.name() + ending).collect()
    }

    /// Puts the versions that are to be there before; gives them.
    fn prepare(&self, ground: &Ground<'_>) -> Vec<Value> {
        let (Effect::Stores { before, .. } | Effect::Deletes { before }) = self.effect else { return Vec::new() };
        let mut rows = Vec::new();
        for name in self.names() {
            for version in 1..=before {
                let mut row = ground.row.clone();
                row["name"]["S"] = json!(name);
                row["version"]["S"] = json!(format!("{version:019}"));
                ground.written.put_row(&row);
                rows.push(row);
            }
        }
        rows
    }

    /// The promise: the whole right result, or a failure that is said, and nothing between.
    fn judge(&self, ground: &Ground<'_>, before: &[Value], ran: &Ran) -> Result<Outcome, String> {
        ensure(!ran.stderr.contains(SECRET), "a secret is on stderr")?;
        ensure(matches!(ran.code, Some(0 | 1)), "it must end with 0 or 1")?;
        let outcome = if ran.code == Some(0) { Outcome::Whole } else { Outcome::Refused };
        match outcome {
            Outcome::Whole => ensure(ran.stderr.is_empty(), "success says nothing")?,
            Outcome::Refused => {
                let operation = self.strike.map_or("no fault", |strike| strike.operation);
                // On a busy machine another call may have had no time.
                let reasons = [operation, "--timeout", &self.name(), "no answer within", "no connection within"];
                let named = reasons.iter().any(|reason| ran.stderr.contains(reason));
                ensure(named, "it must say what failed")?;
            }
        }
        match self.effect {
            Effect::Prints => {
                let expected = if outcome == Outcome::Whole { Ground::printed(self.args) } else { String::new() };
                ensure(ran.stdout == expected.as_bytes(), &format!("it must print {expected:?}"))?;
            }
            Effect::Stores { version, .. } => self.judge_stored(&ground.written, before, version, ran, outcome)?,
            Effect::Deletes { .. } => self.judge_deleted(&ground.written, before, ran, outcome)?,
            Effect::MakesTable => self.judge_table(&ground.making, ran, outcome)?,
        }
        match self.strike {
            Some(Strike { fault: (_, fault), when, .. }) if fault.passes(when) => {
                ensure(outcome == Outcome::Whole, "another attempt gets over it")?;
            }
            Some(_) => {}
            None => ensure(outcome == Outcome::Whole, "there is no fault")?,
        }
        Ok(outcome)
    }

    /// What was there is there still. What is said to be stored is there, and right, and once; so is what is there
    /// without being said to be.
    fn judge_stored(
        &self,
        world: &World,
        before: &[Value],
        version: &str,
        ran: &Ran,
        outcome: Outcome,
    ) -> Result<(), String> {
        let said: BTreeSet<&str> = ran.text().lines().collect();
        let mut sayable = BTreeSet::new();
        for name in self.names() {
            let sentence = format!("{name} has been stored");
            let rows = rows_of(world, &name);
            let (old, new): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| before.contains(row));
            let kept = before.iter().filter(|row| row["name"]["S"] == name).count();
            ensure(old.len() == kept, &format!("{name}: an old version is gone or changed"))?;
            ensure(new.len() <= 1, &format!("{name}: it is there more than once"))?;
            if let Some(row) = new.first() {
                ensure(row["version"]["S"] == version, &format!("{name}: it is version {}", row["version"]["S"]))?;
                let read = Ran::of(world.command(["get", "-n", &name, "-v", version]), b"");
                ensure(read.stdout == VALUE.as_bytes(), &format!("{name}: it reads as {read}"))?;
            }
            let acknowledged = said.contains(sentence.as_str());
            ensure(!acknowledged || new.len() == 1, &format!("{name}: it is said to be stored, and is not"))?;
            ensure(acknowledged || outcome == Outcome::Refused, &format!("{name}: it must be said to be stored"))?;
            sayable.insert(sentence);
        }
        ensure(said.iter().all(|line| sayable.contains(*line)), "it must print nothing else")
    }

    /// All is gone; or the newest is there still, unless the answer to its own deletion was lost: no older one comes
    /// back.
    fn judge_deleted(&self, world: &World, before: &[Value], ran: &Ran, outcome: Outcome) -> Result<(), String> {
        let left = rows_of(world, &self.name());
        match outcome {
            Outcome::Whole => ensure(left.is_empty(), "it is not deleted")?,
            Outcome::Refused => ensure(left.is_empty() || left.last() == before.last(), "an older version came back")?,
        }
        ensure(left.iter().all(|row| before.contains(row)), "a version was changed")?;
        let start = format!("Deleting {} -- version ", self.name());
        ensure(ran.text().lines().all(|line| line.starts_with(&start)), "it must print nothing else")
    }

    /// The table is there with all that was asked for, or it is not said to be.
    fn judge_table(&self, world: &World, ran: &Ran, outcome: Outcome) -> Result<(), String> {
        let made = "Table has been created. Go read the README about how to create your KMS key";
        let said = ran.text().lines().any(|line| line == made);
        if outcome == Outcome::Refused {
            return ensure(!ran.text().contains(made) && !ran.text().contains("exists"), "it must not claim a table");
        }
        ensure(said, "it must say that it made the table")?;
        let table = world.call("DescribeTable", json!({"TableName": self.table(world)}))["Table"].clone();
        let tags = world.call("ListTagsOfResource", json!({"ResourceArn": table["TableArn"]}));
        let tags = tags["Tags"].as_array().into_iter().flatten().map(|tag| (&tag["Key"], &tag["Value"]));
        let tags: Vec<_> = tags.map(|(key, value)| format!("{key}={value}")).collect();
        for tag in [r#""team"="infra""#, r#""Name"="credstash""#] {
            ensure(tags.iter().any(|found| found == tag), &format!("the tag {tag} is missing"))?;
        }
        let backups = world.call("DescribeContinuousBackups", json!({"TableName": self.table(world)}));
        let recovery = &backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"];
        ensure(recovery["PointInTimeRecoveryStatus"] == "ENABLED", "recovery is off")
    }
}

fn ensure(kept: bool, otherwise: &str) -> Result<(), String> {
    if kept { Ok(()) } else { Err(otherwise.to_owned()) }
}

/// The rows of `name`, in the order of their versions.
fn rows_of(world: &World, name: &str) -> Vec<Value> {
    let query = json!({
        "TableName": world.table(),
        "ConsistentRead": true,
        "KeyConditionExpression": "#name = :name",
        "ExpressionAttributeNames": {"#name": "name"},
        "ExpressionAttributeValues": {":name": {"S": name}},
    });
    world.call("Query", query)["Items"].as_array().expect("items").clone()
}

#[test]
fn every_command_under_every_fault() {
    let read = readable();
    let ground = Ground::new(&read);
    let start = Instant::now();

    let mut trials = Vec::new();
    for (number, (args, effect)) in COMMANDS.into_iter().enumerate() {
        let (judged, calls) = Trial { number, args, effect, strike: None }.run(&ground);
        judged.unwrap_or_else(|broken| panic!("{broken}"));
        let mut counts = BTreeMap::<String, usize>::new();
        calls.into_iter().for_each(|operation| *counts.entry(operation).or_default() += 1);
        for (operation, count) in counts {
            // As long as the program.
            let operation: &'static str = operation.leak();
            for fault in FAULTS {
                let whens = [When::Once, When::Always, When::Midway];
                for when in whens.into_iter().filter(|when| *when != When::Midway || count > 1) {
                    let number = COMMANDS.len() + trials.len();
                    trials.push(Trial { number, args, effect, strike: Some(Strike { operation, fault, when }) });
                }
            }
        }
    }

    let (next, ended) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..TRIALS_AT_ONCE {
            scope.spawn(|| {
                let ground = Ground::new(&read);
                while let Some(trial) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (judged, _) = trial.run(&ground);
                    ended.lock().expect("no panic while it is locked").push((*trial, judged));
                }
            });
        }
    });
    let mut ended = ended.into_inner().expect("no panic while it was locked");
    // What a busy machine breaks it does not break alone; what the program breaks it breaks again.
    for (trial, judged) in ended.iter_mut().filter(|(_, judged)| judged.is_err()) {
        (*judged, _) = Trial { number: trial.number + 10_000, ..*trial }.run(&ground);
    }
    report(&ended, start.elapsed());
    let broken: Vec<&String> = ended.iter().filter_map(|(_, judged)| judged.as_ref().err()).collect();
    assert!(broken.is_empty(), "{} of {} trials:\n{}", broken.len(), ended.len(), join(&broken));
}

fn join(lines: &[&String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Prints, for each fault, how many trials were made and how they ended: whole or refused.
#[expect(clippy::print_stdout)]
fn report(ended: &[(Trial, Result<Outcome, String>)], took: Duration) {
    println!("{} trials of {} commands in {:.0} s", ended.len(), COMMANDS.len(), took.as_secs_f64());
    println!("| fault | trials | once: whole, refused | always | midway |\n|---|---|---|---|---|");
    let mut totals = BTreeMap::new();
    for (name, _) in FAULTS {
        let mut counts = BTreeMap::new();
        for (trial, judged) in ended {
            let Some(Strike { when, .. }) = trial.strike.filter(|strike| strike.fault.0 == name) else {
                continue;
            };
            for counts in [&mut counts, &mut totals] {
                let (whole, refused) = counts.entry(when).or_insert((0, 0));
                match judged {
                    Ok(Outcome::Whole) => *whole += 1,
                    Ok(Outcome::Refused) => *refused += 1,
                    Err(_) => {}
                }
            }
        }
        println!("{}", line(name, &counts));
    }
    println!("{}", line("all", &totals));
}

fn line(name: &str, counts: &BTreeMap<When, (u32, u32)>) -> String {
    let trials: u32 = counts.values().map(|(whole, refused)| whole + refused).sum();
    let cells = [When::Once, When::Always, When::Midway].map(|when| {
        let (whole, refused) = counts.get(&when).copied().unwrap_or_default();
        format!("{whole}, {refused}")
    });
    format!("| {name} | {trials} | {} |", cells.join(" | "))
}

// --- What spoils the calls --------------------------------------------------------------------------------------------

/// Stands between a command and a server, and spoils the calls that it is told to.
struct Between {
    url: String,
    address: SocketAddr,
    calls: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
}

/// What a server answered.
struct Answer {
    head: String,
    body: String,
}

fn text(head: &str, body: &str) -> String {
    format!("{head}\r\n\r\n{body}")
}

impl Answer {
    /// The head of an answer with this body. Without the date of the server, which may have another one to say.
    fn head_for(&self, body: &str) -> String {
        let own = ["content-length:", "connection:", "date:"];
        let others = self.head.lines().filter(|line| !own.iter().any(|own| line.to_lowercase().starts_with(own)));
        let others: Vec<&str> = others.collect();
        format!("{}\r\nContent-Length: {}", others.join("\r\n").replacen("HTTP/1.0", "HTTP/1.1", 1), body.len())
    }
}

impl Between {
    /// Before the server at `url`, which is the one of DynamoDB (0) or of KMS (1).
    fn start(url: &str, service: usize, strike: Option<Strike>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = url.strip_prefix("http://").expect("an http endpoint").to_owned();
        let (calls, ended) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let (seen, is_ended) = (Arc::clone(&calls), Arc::clone(&ended));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_ended.load(Ordering::Relaxed) {
                    break;
                }
                let (server, seen) = (server.clone(), Arc::clone(&seen));
                // A client that goes away is no failure of a test.
                thread::spawn(move || serve(stream, &server, service, strike, &seen));
            }
        });
        Self { url: format!("http://{address}"), address, calls, ended }
    }

    /// The operations that were called, in their order.
    fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("no panic while it is locked").clone()
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
    }
}

/// Answers one request after another, until the connection ends.
fn serve(
    mut stream: TcpStream,
    server: &str,
    service: usize,
    strike: Option<Strike>,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    while let Some(request) = peek(&stream)? {
        let asking = String::from_utf8_lossy(&request).into_owned();
        let header = |name: &str| {
            asking.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim_start_matches([':', ' ']))
        };
        let operation =
            header("x-amz-target").and_then(|target| target.split('.').nth(1)).unwrap_or_default().to_owned();
        let fault = {
            let mut seen = seen.lock().expect("no panic while it is locked");
            seen.push(operation.clone());
            let number = seen.iter().filter(|one| **one == operation).count();
            strike
                .filter(|strike| strike.operation == operation && strike.when.strikes(number))
                .map(|strike| strike.fault.1)
        };
        // Of a server that speaks HTTP/1.0 the answer ends with the connection.
        let asked = || {
            let answer = exchange(server, asking.replacen("HTTP/1.1", "HTTP/1.0", 1).as_bytes());
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
            Answer { head: head.to_owned(), body: body.to_owned() }
        };
        let whole = |answer: Answer| text(&answer.head_for(&answer.body), &answer.body);
        let error = |status: u16, date: &str, code: &str| {
            let body = json!({"__type": format!("com.amazon#{code}"), "message": "for a test"}).to_string();
            format!(
                "HTTP/1.1 {status} Refused\r\nx-amzn-RequestId: 1\r\n{date}Content-Type: application/x-amz-json-1.0\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let (answer, ending) = match fault {
            None => (whole(asked()), None),
            Some(Fault::Refused(status, codes)) => (error(status, "", codes[service]), None),
            Some(Fault::OtherClock(code)) => {
                let date = format!("Date: {}\r\n", NOW.0);
                match header("x-amz-date").is_some_and(|date| date.starts_with(NOW.1)) {
                    true => (whole(asked()).replacen("\r\n", &format!("\r\n{date}"), 1), None),
                    false => (error(400, &date, code), None),
                }
            }
            Some(Fault::Stranger(body)) => (
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
                None,
            ),
            Some(Fault::Unheard(ending)) => (String::new(), Some(ending)),
            Some(Fault::Unanswered(ending)) => (drop(asked()), (String::new(), Some(ending))).1,
            Some(Fault::BrokenOff(left)) => (left(&asked()), Some(Ending::Closed)),
            Some(Fault::Halved) => {
                let answer = asked();
                let body = half(&answer.body);
                (text(&answer.head_for(body), body), None)
            }
        };
        // A connection that is closed while something has not been read is reset.
        let unread = usize::from(ending == Some(Ending::Reset));
        stream.read_exact(&mut vec![0; request.len() - unread])?;
        stream.write_all(answer.as_bytes())?;
        match ending {
            None => {}
            Some(Ending::Closed | Ending::Reset) => return Ok(()),
            // Until the client goes away.
            Some(Ending::Silent) => return stream.read_to_end(&mut Vec::new()).map(drop),
        }
    }
    Ok(())
}

/// The next request, which stays to be read; none when the client has no more.
fn peek(stream: &TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = stream.peek(&mut buffer)?;
        if len == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&buffer[..len]);
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let whole = head.len() + 4 + length.and_then(|length| length.parse().ok()).unwrap_or(0);
            if len >= whole {
                return Ok(Some(buffer[..whole].to_vec()));
            }
        }
        // The rest is on its way.
        thread::sleep(Duration::from_millis(1));
    }
}

// --- The embedded store -----------------------------------------------------------------------------------------------

/// A machine with a local store of eight credentials, bound to their names, of a page each.
fn local() -> (World, PathBuf) {
    let world = World::local();
    for name in LOCAL {
        let value = local_value(name);
        world.run_with(value.as_bytes(), ["put", "--bind", name, "-"]).ok(format!("{name} has been stored\n"));
    }
    // All of it in one file.
    let path = world.home(".local/share/credstash/credentials.db");
    let whole = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA wal_checkpoint(TRUNCATE)'); c.close()";
    world.script(whole, &[path.to_str().expect("UTF-8")], b"");
    (world, path)
}

const LOCAL: [&str; 8] = ["p.1", "p.2", "p.3", "p.4", "p.5", "p.6", "p.7", "p.8"];

fn local_value(name: &str) -> String {
    format!("{SECRET} {name} ").repeat(120)
}

/// All credentials are there and right.
#[track_caller]
fn is_whole(world: &World) {
    let values: serde_json::Map<_, _> =
        LOCAL.iter().map(|name| ((*name).to_owned(), json!(local_value(name)))).collect();
    assert_eq!(world.run(["getall"]).json(), Value::Object(values));
}

/// Another process that holds a lock on an SQLite file, until it is dropped.
struct Lock {
    _stdin: ChildStdin,
    _python: Child,
}

impl Lock {
    fn hold(path: &Path, statements: &str) -> Self {
        const SCRIPT: &str = "
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2].split(';'):
    connection.execute(statement).fetchall()
print('locked', flush=True)
sys.stdin.read()";
        let mut python = Command::new(&servers().python);
        python.args(["-c", SCRIPT]).arg(path).arg(statements).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut python = python.spawn().expect("Python runs");
        let mut line = String::new();
        BufReader::new(python.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("text");
        assert_eq!(line, "locked\n");
        Self { _stdin: python.stdin.take().expect("stdin is piped"), _python: python }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self._python.kill();
        let _ = self._python.wait();
    }
}

/// A writer that does not end keeps no reader from reading, and other writers no longer than `--timeout`.
#[test]
fn a_local_store_that_is_locked() {
    let (world, path) = local();
    let lock = Lock::hold(&path, "BEGIN IMMEDIATE");
    is_whole(&world);
    for command in [
        &["put", "-a", "p.1", SECRET][..],
        &["put", "new", SECRET],
        &["putall", r#"{"new": "s3cr3t-c4n4ry"}"#],
        &["delete", "p.1"],
    ] {
        let start = Instant::now();
        let ran = world.run([&["--timeout", "0.5"], command].concat());
        assert!(start.elapsed() < SLACK, "{:?}\n{ran}", start.elapsed());
        assert_eq!(ran.code, Some(1), "{ran}");
        ran.mentions("gave up after 0.5 s");
        assert!(!ran.text().contains("stored"), "{ran}");
    }
    drop(lock);
    is_whole(&world);
}

/// What cannot be written can be read, and whoever puts is told its path.
#[cfg(target_os = "linux")]
#[test]
fn a_local_store_that_is_read_only() {
    let (world, path) = local();
    let folder = path.parent().expect("a folder");
    let before = fs::read(&path).expect("read");
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("changed");
    // Who runs the tests as root, as in a container, may write everything: then without that privilege.
    let is_root = fs::metadata(&path).expect("there").uid() == 0;
    let run = |args: &[&str]| {
        let mut command = world.command(args);
        if is_root {
            let program = command.get_program().to_owned();
            command = world.other("setpriv");
            command.arg("--bounding-set=-dac_override,-dac_read_search").arg(program).args(args);
        }
        Ran::of(command, b"")
    };
    for (file_mode, folder_mode) in [(0o400, 0o700), (0o600, 0o500), (0o400, 0o500)] {
        mode(&path, file_mode);
        mode(folder, folder_mode);
        let (got, put) = (run(&["get", "-n", "p.3"]), run(&["put", "-a", "p.3", "new"]));
        mode(folder, 0o700);
        mode(&path, 0o600);
        got.ok(local_value("p.3"));
        put.fails(1, path.to_str().expect("UTF-8"));
        assert!(fs::read(&path).expect("read") == before, "it has changed");
    }
    is_whole(&world);
}

/// At whatever size a disk is full: what is said to be stored is there, what was there stays, and the next put, with
/// room, works. A process that is killed for it (`trap -`) leaves no less than one that is told.
#[cfg(target_os = "linux")]
#[test]
fn a_local_store_on_a_full_disk() {
    let program = env!("CARGO_BIN_EXE_credstash");
    let full = |world: &World, blocks: u32, trap: &str, args: &str| {
        let mut sh = world.other("sh");
        sh.arg("-c").arg(format!("{trap} XFSZ; ulimit -f {blocks}; exec '{program}' {args}"));
        Ran::of(sh, b"")
    };
    let (world, _) = local();
    let big = world.file("big", "x".repeat(40_000));
    let mut refused = 0;
    for (number, blocks) in [0, 1, 8, 16, 40, 64, 80, 100, 1000].into_iter().enumerate() {
        for trap in ["trap ''", "trap -"] {
            let name = format!("big.{number}.{}", trap.len());
            let ran = full(&world, blocks, trap, &format!("put {name} @{big}"));
            is_whole_with(&world, &name, &ran, "x".repeat(40_000).as_bytes());
            refused += u32::from(ran.code != Some(0));
        }
        // And where there is no store yet.
        for trap in ["trap ''", "trap -"] {
            let fresh = World::local();
            let ran = full(&fresh, blocks, trap, "put a value");
            match ran.code {
                Some(0) => drop(fresh.run(["get", "a"]).ok("value\n")),
                Some(1) => drop(ran.fails(1, ".local/share/credstash")),
                _ => assert!(ran.stdout.is_empty(), "{ran}"),
            }
            fresh.run(["put", "-a", "a", "with room"]).ok("a has been stored\n");
            fresh.run(["get", "a"]).ok("with room\n");
        }
    }
    assert!((1..18).contains(&refused), "{refused} of 18 are refused");
}

/// A server that accepts no connection: its queue is full, and what asks for one more hears nothing.
#[cfg(target_os = "linux")]
#[test]
fn a_server_that_accepts_nobody() {
    const SCRIPT: &str = "
import socket, sys
server = socket.socket()
server.bind(('127.0.0.1', 0))
server.listen(0)
waiting = []
for _ in range(4):
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(server.getsockname())
    waiting.append(client)
print(server.getsockname()[1], flush=True)
sys.stdin.read()";
    let mut python = Command::new(&servers().python);
    python.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().expect("Python runs");
    let mut port = String::new();
    BufReader::new(python.stdout.take().expect("stdout is piped")).read_line(&mut port).expect("a port");
    let url = format!("http://127.0.0.1:{}", port.trim());

    let mut world = World::dynamodb();
    world.set("AWS_MAX_ATTEMPTS", "1");
    for (args, _) in COMMANDS {
        let mut command = world.command(["--timeout-connect", "0.2", "--timeout-read", "60"]);
        command.args(args).env("AWS_ENDPOINT_URL_DYNAMODB", &url).env("AWS_ENDPOINT_URL_KMS", &url);
        let start = Instant::now();
        let ran = Ran::of(command, b"");
        assert!(start.elapsed() < SLACK, "{:?}\n{ran}", start.elapsed());
        assert!(ran.code == Some(1) && ran.stdout.is_empty(), "{ran}");
        ran.mentions("no connection within 0.2 s").mentions("check the network");
    }
    drop(python.stdin.take());
    python.wait().expect("Python ends");
}

/// What was there is whole; `name` is there with this value if the command that put it said so, or not at all.
#[track_caller]
fn is_whole_with(world: &World, name: &str, ran: &Ran, value: &[u8]) {
    let got = world.run(["get", "-n", name]);
    match ran.code {
        Some(0) => drop(got.ok(value)),
        Some(1) => {
            ran.fails(1, "credentials.db");
            got.fails(1, "couldn't be found");
        }
        _ => assert!(ran.stdout.is_empty() && (got.code == Some(1) || got.stdout == value), "{ran}\n{got}"),
    }
    world.run(["delete", name]);
    is_whole(world);
}

/// What the first byte of a page says that it is (SQLite documentation, "Database File Format", 1.6).
const INTERIOR: u8 = 2;
const LEAF: u8 = 10;

/// Whatever byte of the file is another, and wherever it ends: a value that is printed is the right one.
#[test]
fn a_local_store_that_is_damaged() {
    let (world, path) = local();
    let sound = fs::read(&path).expect("read");
    let expected: BTreeMap<String, String> = LOCAL.map(|name| (name.to_owned(), local_value(name))).into();
    let (mut counts, mut lists) = (BTreeMap::<&str, u32>::new(), 0);
    let mut check = |damage: &str, bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        for beside in ["credentials.db-wal", "credentials.db-shm"] {
            let _ = fs::remove_file(path.with_file_name(beside));
        }
        let all = world.run(["getall", "--require-bound"]);
        let ended = match all.code {
            Some(0) => {
                let values: BTreeMap<String, String> = serde_json::from_slice(&all.stdout).expect("JSON");
                for (name, value) in &values {
                    assert_eq!(Some(value), expected.get(name), "{damage}: {name}");
                }
                assert!(values == expected, "{damage}: there is only {:?}", values.keys());
                "whole"
            }
            _ => {
                assert!(all.code == Some(1) && all.stdout.is_empty() && !all.stderr.is_empty(), "{damage}\n{all}");
                "refused"
            }
        };
        let one = world.run(["get", "-n", "p.5", "--require-bound"]);
        match one.code {
            Some(0) => assert_eq!(one.text(), expected["p.5"], "{damage}"),
            _ => assert!(one.code == Some(1) && one.stdout.is_empty() && !one.stderr.is_empty(), "{damage}\n{one}"),
        }
        *counts.entry(ended).or_default() += 1;
    };
    // Each byte of the head of the file, and of what each page says about itself; then some of each page.
    let page = 4096;
    let flipped = (0..sound.len()).filter(|at| *at < 120 || at % page < 12 || at % 197 == 0);
    for at in flipped {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x41;
        check(&format!("byte {at}"), &bytes);
    }
    for len in (0..sound.len()).step_by(page / 2) {
        check(&format!("{len} bytes"), &sound[..len]);
    }
    // What no checksum and no bad pointer shows: a page whose list of cells leaves one out, or names another one twice.
    for start in (page..sound.len()).step_by(page) {
        let header = &sound[start..start + 12];
        let cells = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let pointers = start + if header[0] == INTERIOR { 12 } else { 8 };
        if ![INTERIOR, LEAF].contains(&header[0]) || !(2..=8).contains(&cells) {
            continue;
        }
        let mut bytes = sound.clone();
        bytes[start + 4] -= 1;
        check(&format!("{} of {cells} cells in page at {start}", cells - 1), &bytes);
        for command in [&["list"][..], &["keys"], &["getall"], &["delete", "p.8"]] {
            world.run(command).fails(1, "the file is damaged").mentions("page").mentions("restore a copy of it");
        }
        for cell in 1..cells {
            let mut bytes = sound.clone();
            bytes.copy_within(pointers..pointers + 2, pointers + 2 * cell);
            check(&format!("cell {cell} of {cells} in page at {start} is the first"), &bytes);
        }
        lists += 1;
    }
    assert!(lists > 0, "no page has cells");
    damaged(&counts, sound.len());
    fs::write(&path, &sound).expect("written");
    is_whole(&world);
}

#[expect(clippy::print_stdout)]
fn damaged(counts: &BTreeMap<&str, u32>, len: usize) {
    println!("a file of {len} bytes, damaged {} times: {counts:?}", counts.values().sum::<u32>());
}

/// A key file that is not a key, of whatever length: named, and nothing is stored.
#[test]
fn a_local_key_that_is_damaged() {
    let (world, path) = local();
    let key = path.with_file_name("key");
    let sound = fs::read(&key).expect("read");
    for len in [0, 1, 31, 33] {
        fs::write(&key, [&sound[..], &sound[..]].concat().split_at(len).0).expect("written");
        for command in [&["get", "p.1"][..], &["getall"], &["put", "-a", "p.1", "new"], &["put", "new", "new"]] {
            world.run(command).fails(1, key.to_str().expect("UTF-8")).mentions("32 bytes");
        }
    }
    let mut other = sound.clone();
    other[7] ^= 1;
    fs::write(&key, other).expect("written");
    world.run(["get", "p.1"]).fails(1, "sealed under the local key");
    fs::write(&key, sound).expect("written");
    is_whole(&world);
}
