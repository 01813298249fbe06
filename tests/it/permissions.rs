//! The IAM policies of the README, and its table of what each command needs: enough, and nothing more. Both are read
//! from the README itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::{Value, json};

use crate::servers::servers;
use crate::world::{Call, Recorder, SECRET, World};

/// The actions that a command calls.
type Actions = BTreeSet<String>;

const README: &str = include_str!("../../README.md");

/// What it says of IAM.
fn section() -> &'static str {
    README.split("\n### ").find(|section| section.starts_with("IAM policies")).expect("a section")
}

/// The policies of the README, each under the word in bold that is last before it.
fn policies() -> BTreeMap<&'static str, Value> {
    let mut parts = section().split("```json\n");
    let mut before = parts.next().expect("words");
    let mut policies = BTreeMap::new();
    for part in parts {
        let (policy, after) = part.split_once("```").expect("an end of the block");
        let role = before.rsplit("**").nth(1).expect("a role in bold");
        policies.insert(role, serde_json::from_str(policy).expect("a policy is JSON"));
        before = after;
    }
    assert_eq!(policies.keys().copied().collect::<Vec<_>>(), ["reader", "setup", "writer"]);
    policies
}

/// The table of the README: each command, and the actions that it needs.
fn needs() -> BTreeMap<&'static str, Actions> {
    fn quoted(cell: &str) -> impl Iterator<Item = &str> {
        cell.split('`').skip(1).step_by(2)
    }
    let mut needs = BTreeMap::new();
    for row in section().lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').collect();
        let actions: Actions = quoted(cells[2]).map(str::to_owned).collect();
        needs.extend(quoted(cells[1]).map(|command| (command, actions.clone())));
    }
    let run: BTreeSet<_> =
        [&READING[..], &WRITING, &DELETING, &MAKING].concat().iter().map(|(command, _)| *command).collect();
    assert_eq!(needs.keys().copied().collect::<BTreeSet<_>>(), run, "what is in the table is run here");
    needs
}

/// The actions that a policy allows.
fn allowed(policy: &Value) -> Actions {
    let statements = policy["Statement"].as_array().expect("statements").iter();
    let actions = statements.flat_map(|statement| {
        assert_eq!(statement["Effect"], "Allow", "{statement}");
        match &statement["Action"] {
            Value::Array(actions) => actions.clone(),
            action => vec![action.clone()],
        }
    });
    actions.map(|action| action.as_str().expect("a text").to_owned()).collect()
}

// --- What is called ---------------------------------------------------------------------------------------------------

/// Commands, each under its name in the table of the README.
type Commands<const N: usize> = [(&'static str, &'static [&'static str]); N];

const READING: Commands<8> = [
    ("get NAME", &["get", "a"]),
    ("get NAME -v VERSION", &["get", "a", "env=prod", "-v", "2"]),
    ("get NAME", &["get", "bound"]),
    ("get PATTERN", &["get", "a*"]),
    ("getall", &["getall"]),
    ("get PATTERN", &["get", "--require-bound", "b*"]),
    ("list", &["list"]),
    ("keys", &["keys"]),
];
const WRITING: Commands<7> = [
    ("put", &["put", "w", SECRET]),
    ("put", &["put", "w", SECRET, "-v", "7"]),
    ("put", &["put", "--bind", "w.bound", SECRET]),
    ("put -a", &["put", "-a", "w", SECRET]),
    ("put -a", &["put", "-a", "--bind", "w", SECRET]),
    ("putall", &["putall", r#"{"w.1": "v", "w.2": "v"}"#]),
    ("putall -a", &["putall", "-a", r#"{"w.1": "v"}"#]),
];
const DELETING: Commands<1> = [("delete", &["delete", "a"])];
const MAKING: Commands<2> =
    [("setup", &["setup"]), ("setup --pitr", &["setup", "--tags", "team=infra", "--deletion-protection", "--pitr"])];

/// What a command calls, which must succeed; every request is a signed call.
fn called(world: &mut World, args: &[&str]) -> Actions {
    let (dynamodb, kms) = (Recorder::before(&servers().moto), Recorder::before(&servers().moto));
    world.set("AWS_ENDPOINT_URL_DYNAMODB", &dynamodb.url).set("AWS_ENDPOINT_URL_KMS", &kms.url);
    let ran = world.run(args);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert_eq!((dynamodb.uncalled(), kms.uncalled()), (0, 0), "{args:?}: there are requests that are no signed calls");
    let of = |service: &str, recorder: &Recorder| -> Vec<String> {
        recorder.calls().into_iter().map(|call| format!("{service}:{}", call.operation)).collect()
    };
    of("dynamodb", &dynamodb).into_iter().chain(of("kms", &kms)).collect()
}

/// No command calls what its policy does not allow, and no policy allows what no command calls.
#[test]
fn policies_allow_what_is_called_and_no_more() {
    let (policies, needs) = (policies(), needs());
    let mut world = World::moto();
    put_what_is_read(&world);

    let mut all_called = |commands: &[(&str, &[&str])]| {
        let mut all = Actions::new();
        for (command, args) in commands {
            let called = called(&mut world, args);
            assert_eq!(called, needs[command], "{args:?}");
            all.extend(called);
        }
        all
    };
    assert_eq!(all_called(&READING), allowed(&policies["reader"]));
    let writer = allowed(&policies["writer"]);
    assert_eq!(all_called(&WRITING), writer);
    assert_eq!(&all_called(&DELETING) - &writer, Actions::from(["dynamodb:DeleteItem".to_owned()]));

    for (command, args) in MAKING {
        assert_eq!(called(&mut World::moto_without_table(), args), needs[command], "{args:?}");
    }
    assert_eq!(needs["setup --pitr"], allowed(&policies["setup"]));
    // A table that is there is only looked for.
    assert_eq!(called(&mut World::moto(), &["setup"]), Actions::from(["dynamodb:ListTables".to_owned()]));
}

/// What [`READING`] and [`DELETING`] ask for.
fn put_what_is_read(world: &World) {
    for put in [&["put", "a", "v"][..], &["put", "a", "v", "-v", "2", "env=prod"], &["put", "a", "v", "-v", "3"]] {
        world.run(put).ok("a has been stored\n");
    }
    world.run(["put", "--bind", "bound", "v"]).ok("bound has been stored\n");
}

// --- What conditions see ----------------------------------------------------------------------------------------------

/// A condition of the README on the encryption context, as in `"StringLike": {"kms:EncryptionContext:name": "app.*"}`.
struct Condition {
    operator: String,
    key: String,
    value: String,
}

impl Condition {
    fn of_readme(operator: &str) -> Self {
        let start = format!("\"{operator}\": {{\"kms:EncryptionContext:");
        let (_, rest) = README.split_once(&start).expect("a condition with this operator");
        let (condition, _) = rest.split_once('}').expect("its end");
        assert!(!rest.contains(&start), "there is one more {operator}");
        let (key, value) = condition.split_once("\": ").expect("a key and a value");
        let value = serde_json::from_str(value).expect("a text");
        Self { operator: operator.to_owned(), key: key.to_owned(), value }
    }

    /// Whether IAM would let a call pass that has this encryption context: a condition on what is not there is not met.
    fn is_met(&self, context: &Value) -> bool {
        context[&self.key].as_str().is_some_and(|found| match self.operator.as_str() {
            "StringEquals" => found == self.value,
            "StringLike" => found.starts_with(self.value.strip_suffix('*').expect("a * at the end, and no other")),
            other => panic!("{other} is not known here"),
        })
    }
}

/// moto evaluates no condition, so the contexts of the calls are held against them here.
#[test]
fn conditions_on_the_context_tell_calls_apart() {
    let mut world = World::moto();
    for name in ["app.db", "other"] {
        world.run(["put", "--bind", name, "v"]).ok(format!("{name} has been stored\n"));
        world.run(["put", &format!("{name}.prod"), "v", "env=prod"]);
        world.run(["put", &format!("{name}.plain"), "v"]);
    }
    let mut contexts = |args: &[&str]| -> Vec<Value> {
        let kms = Recorder::before(&servers().moto);
        world.set("AWS_ENDPOINT_URL_KMS", &kms.url);
        world.run(args);
        let context = |call: Call| serde_json::from_str::<Value>(&call.body).expect("JSON")["EncryptionContext"].take();
        let contexts: Vec<_> = kms.calls().into_iter().map(context).collect();
        assert!(!contexts.is_empty(), "{args:?} calls KMS");
        contexts
    };
    let of_prod = Condition::of_readme("StringEquals");
    let of_app = Condition::of_readme("StringLike");
    for (condition, met, args) in [
        (&of_prod, true, &["get", "app.db.prod", "env=prod"][..]),
        (&of_prod, true, &["get", "*.prod", "env=prod"]),
        (&of_prod, true, &["put", "new", "v", "env=prod"]),
        (&of_prod, true, &["putall", "-a", r#"{"new": "v"}"#, "env=prod"]),
        (&of_prod, false, &["get", "app.db.plain"]),
        (&of_prod, false, &["get", "app.db.prod", "env=dev"]),
        (&of_prod, false, &["put", "-a", "new", "v"]),
        (&of_app, true, &["get", "app.db"]),
        (&of_app, true, &["put", "-a", "--bind", "app.db", "v"]),
        (&of_app, true, &["put", "--bind", "app.new", "v", "env=prod"]),
        (&of_app, false, &["get", "other"]),
        (&of_app, false, &["put", "-a", "--bind", "other", "v"]),
        (&of_app, false, &["get", "app.db.plain"]),
        (&of_app, false, &["put", "-a", "app.db.plain", "v"]),
    ] {
        for context in contexts(args) {
            assert_eq!(condition.is_met(&context), met, "{args:?} has {context}");
        }
    }
}

// --- What is enforced -------------------------------------------------------------------------------------------------

/// A moto of its own that refuses what a user may not do, and signatures that are wrong.
///
/// It knows the actions of DynamoDB and KMS, and neither their resources nor the encryption context of a call: there are
/// actions here, and no more.
struct Guarded {
    url: String,
    /// The access key of each user, and its secret.
    users: BTreeMap<String, [String; 2]>,
    /// The server ends when this is closed.
    _stdin: ChildStdin,
    _server: Child,
}

impl Guarded {
    fn start(users: &BTreeMap<String, Actions>) -> Self {
        const SERVER: &str = r#"
import json, logging, sys
import boto3
from moto import settings
from moto.core.exceptions import JsonRESTError
from moto.iam.access_control import IAMRequest
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
# moto words refusals in XML, which only some services do; these two are DynamoDB's and KMS's.
def deny(call):
    raise JsonRESTError("AccessDeniedException", f"User: {call._access_key.arn} is not authorized to perform: {call._action}")

def distrust(call):
    raise JsonRESTError("InvalidSignatureException", "The request signature we calculated does not match")

IAMRequest._raise_access_denied, IAMRequest._raise_signature_does_not_match = deny, distrust

actions = json.loads(sys.stdin.readline())
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
url = "http://127.0.0.1:%d" % server.get_host_and_port()[1]

def client(service):
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")

kms, iam, users = client("kms"), client("iam"), {}
kms.create_alias(AliasName="alias/credstash", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
for number, (user, allowed) in enumerate(actions.items()):
    name = f"user-{number}"
    iam.create_user(UserName=name)
    if allowed:
        statement = {"Effect": "Allow", "Action": allowed, "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    users[user] = [key["AccessKeyId"], key["SecretAccessKey"]]
settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
print(json.dumps({"url": url, "users": users}), flush=True)
sys.stdin.read()
"#;
        let mut server = Command::new(&servers().python)
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let mut stdin = server.stdin.take().expect("stdin is piped");
        writeln!(stdin, "{}", json!(users)).expect("Python reads");
        let mut line = String::new();
        BufReader::new(server.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("text");
        let started: Value = serde_json::from_str(&line).expect("Python has said why not");
        let users = serde_json::from_value(started["users"].clone()).expect("users");
        let url = started["url"].as_str().expect("a text").to_owned();
        Self { url, users, _stdin: stdin, _server: server }
    }

    /// The world of a user.
    fn user(&self, name: &str) -> World {
        let [id, secret] = &self.users[name];
        let mut world = World::no_cloud();
        world
            .set("AWS_ACCESS_KEY_ID", id)
            .set("AWS_SECRET_ACCESS_KEY", secret)
            .set("AWS_DEFAULT_REGION", "us-east-1")
            .set("AWS_ENDPOINT_URL", &self.url);
        world
    }
}

/// A command can do its work with its actions alone, and with any of them missing says which, and changes nothing.
#[test]
fn each_command_needs_each_of_its_actions() {
    const EVERYTHING: &str = "everything";
    let without = |command: &str, action: &str| format!("{command} without {action}");
    let needs = needs();
    let mut users = BTreeMap::from([(EVERYTHING.to_owned(), needs.values().flatten().cloned().collect::<Actions>())]);
    for (command, actions) in &needs {
        users.insert((*command).to_owned(), actions.clone());
        for action in actions {
            let others = actions.iter().filter(|other| *other != action).cloned().collect();
            users.insert(without(command, action), others);
        }
    }
    let guarded = Guarded::start(&users);
    let owner = guarded.user(EVERYTHING);
    assert_eq!(owner.run(["setup"]).code, Some(0));
    put_what_is_read(&owner);

    let commands = [&READING[..], &WRITING, &DELETING, &MAKING].concat();
    for (number, (command, args)) in commands.into_iter().enumerate() {
        let user = |name: &str, table: &str| {
            let mut world = guarded.user(name);
            if command.starts_with("setup") {
                world.set("CREDSTASH_DEFAULT_TABLE", format!("table-{number}-{table}"));
            }
            world
        };
        for action in &needs[command] {
            let before = owner.run(["list"]);
            let (_, operation) = action.split_once(':').expect("an action");
            let ran = user(&without(command, action), operation).run(args);
            assert_eq!(ran.code, Some(1), "{ran}");
            ran.mentions(&format!("is not authorized to perform: {action}")).mentions(operation).mentions("IAM policy");
            let says_what_it_does = |line: &str| command.starts_with("setup") || line.starts_with("Deleting a -- ");
            assert!(ran.text().lines().all(says_what_it_does), "{ran}");
            assert_eq!(owner.run(["list"]).text(), before.text(), "{ran}");
        }
        let ran = user(command, "whole").run(args);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran}");
    }
    owner.run(["get", "w"]).ok(format!("{SECRET}\n"));
    owner.run(["get", "a"]).fails(1, "couldn't be found");

    // A signature is checked too: a wrong secret is told from a wrong policy.
    let mut forger = guarded.user(EVERYTHING);
    forger.set("AWS_SECRET_ACCESS_KEY", "wrong").run(["list"]).fails(1, "log in again");
}
