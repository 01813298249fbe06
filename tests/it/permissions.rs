//! The IAM policies of the README: each is enough for the commands of its role, and holds nothing that none of them
//! needs. They are read from the README itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::{Value, json};

use crate::servers::servers;
use crate::world::{Recorder, SECRET, World};

/// The actions that a command calls.
type Actions = BTreeSet<String>;

/// The policies of the README, each under the word in bold that is last before it.
fn policies() -> BTreeMap<&'static str, Value> {
    const README: &str = include_str!("../../README.md");
    let section = README.split("\n### ").find(|section| section.starts_with("IAM policies")).expect("a section");
    let mut parts = section.split("```json\n");
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

fn actions(words: &[&str]) -> Actions {
    words.iter().copied().map(str::to_owned).collect()
}

// --- What is called ---------------------------------------------------------------------------------------------------

/// The commands of each role, with what the words around its policy say that they need.
const READING: [(&[&str], &[&str]); 8] = [
    (&["get", "a"], &["dynamodb:Query", "kms:Decrypt"]),
    (&["get", "a", "env=prod", "-v", "2"], &["dynamodb:GetItem", "kms:Decrypt"]),
    (&["get", "bound"], &["dynamodb:Query", "kms:Decrypt"]),
    (&["get", "a*"], &["dynamodb:Scan", "kms:Decrypt"]),
    (&["getall"], &["dynamodb:Scan", "kms:Decrypt"]),
    (&["getall", "--require-bound", "--skip-undecryptable"], &["dynamodb:Scan", "kms:Decrypt"]),
    (&["list"], &["dynamodb:Scan"]),
    (&["keys"], &["dynamodb:Scan"]),
];
const WRITING: [(&[&str], &[&str]); 7] = [
    (&["put", "w", SECRET], &["dynamodb:PutItem", "kms:GenerateDataKey"]),
    (&["put", "w", SECRET, "-v", "7"], &["dynamodb:PutItem", "kms:GenerateDataKey"]),
    (&["put", "--bind", "w.bound", SECRET], &["dynamodb:PutItem", "kms:GenerateDataKey"]),
    (&["put", "-a", "w", SECRET], &["dynamodb:PutItem", "dynamodb:Query", "kms:GenerateDataKey"]),
    (&["put", "-a", "--bind", "w", SECRET], &["dynamodb:PutItem", "dynamodb:Query", "kms:GenerateDataKey"]),
    (&["putall", r#"{"w.1": "v", "w.2": "v"}"#], &["dynamodb:PutItem", "kms:GenerateDataKey"]),
    (&["putall", "-a", r#"{"w.1": "v"}"#], &["dynamodb:PutItem", "dynamodb:Query", "kms:GenerateDataKey"]),
];
const DELETING: (&[&str], &[&str]) = (&["delete", "a"], &["dynamodb:Query", DELETE_ITEM]);
const MAKING: [&[&str]; 2] = [&["setup"], &["setup", "--tags", "team=infra", "--deletion-protection", "--pitr"]];

/// What the words around the policy of the writer say that `delete` needs on top of it.
const DELETE_ITEM: &str = "dynamodb:DeleteItem";

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
    let policies = policies();
    let mut world = World::moto();
    for put in [&["put", "a", "v"][..], &["put", "a", "v", "-v", "2", "env=prod"], &["put", "a", "v", "-v", "3"]] {
        world.run(put).ok("a has been stored\n");
    }
    world.run(["put", "--bind", "bound", "v"]).ok("bound has been stored\n");

    for (role, commands) in [("reader", &READING[..]), ("writer", &WRITING[..])] {
        let mut all = Actions::new();
        for (args, expected) in commands {
            let called = called(&mut world, args);
            assert_eq!(called, actions(expected), "{args:?}");
            all.extend(called);
        }
        assert_eq!(all, allowed(&policies[role]), "{role}");
    }

    let deleting = called(&mut world, DELETING.0);
    assert_eq!(deleting, actions(DELETING.1));
    let mut enough = allowed(&policies["writer"]);
    enough.insert(DELETE_ITEM.to_owned());
    assert!(deleting.is_subset(&enough), "{deleting:?}");

    let making: Vec<Actions> = MAKING.iter().map(|args| called(&mut World::moto_without_table(), args)).collect();
    let of_recovery = actions(&["dynamodb:UpdateContinuousBackups"]);
    assert_eq!(&making[1] - &making[0], of_recovery, "the last action is for --pitr");
    assert_eq!(making[1], allowed(&policies["setup"]));
    // A table that is there is only looked for.
    assert_eq!(called(&mut World::moto(), &["setup"]), actions(&["dynamodb:ListTables"]));
}

// --- What is enforced -------------------------------------------------------------------------------------------------

/// A moto of its own that refuses what the policies of a user do not allow, and signatures that are wrong.
///
/// It knows the actions of DynamoDB and KMS, and neither their resources, so that each `Resource` is `*` here, nor the
/// encryption context of a call, so that no policy here has a condition.
struct Guarded {
    url: String,
    /// The access key of each role, and its secret.
    users: BTreeMap<String, [String; 2]>,
    /// The server ends when this is closed.
    _stdin: ChildStdin,
    _server: Child,
}

impl Guarded {
    fn start(policies: &BTreeMap<&str, Value>) -> Self {
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

policies = json.loads(sys.stdin.readline())
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
url = "http://127.0.0.1:%d" % server.get_host_and_port()[1]

def client(service):
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")

kms, iam, users = client("kms"), client("iam"), {}
kms.create_alias(AliasName="alias/credstash", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
for role, policy in policies.items():
    iam.create_user(UserName=role)
    iam.put_user_policy(UserName=role, PolicyName=role, PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=role)["AccessKey"]
    users[role] = [key["AccessKeyId"], key["SecretAccessKey"]]
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
        writeln!(stdin, "{}", json!(policies)).expect("Python reads");
        let mut line = String::new();
        BufReader::new(server.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("text");
        let started: Value = serde_json::from_str(&line).expect("Python has said why not");
        let users = serde_json::from_value(started["users"].clone()).expect("users");
        let url = started["url"].as_str().expect("a text").to_owned();
        Self { url, users, _stdin: stdin, _server: server }
    }

    /// The world of the user who has the policy of this role.
    fn user(&self, role: &str) -> World {
        let [id, secret] = &self.users[role];
        let mut world = World::no_cloud();
        world
            .set("AWS_ACCESS_KEY_ID", id)
            .set("AWS_SECRET_ACCESS_KEY", secret)
            .set("AWS_DEFAULT_REGION", "us-east-1")
            .set("AWS_ENDPOINT_URL", &self.url);
        world
    }
}

/// Each role can do its work with its policy alone, cannot do that of another, and leaves nothing half done.
#[test]
fn policies_are_enough_and_refuse_the_rest() {
    let mut policies = policies();
    let mut deleter = policies["writer"].clone();
    deleter["Statement"].as_array_mut().expect("statements").push(json!({"Effect": "Allow", "Action": DELETE_ITEM}));
    policies.insert("deleter", deleter);
    for statement in policies.values_mut().flat_map(|policy| policy["Statement"].as_array_mut().expect("statements")) {
        statement["Resource"] = json!("*");
    }
    let guarded = Guarded::start(&policies);
    let [reader, writer, deleter, maker] = ["reader", "writer", "deleter", "setup"].map(|role| guarded.user(role));
    let works = |world: &World, args: &[&str]| {
        let ran = world.run(args);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran}");
        ran
    };

    works(&maker, MAKING[1]);
    for put in [&["put", "a", "v"][..], &["put", "a", "v", "-v", "2", "env=prod"], &["put", "a", "v", "-v", "3"]] {
        works(&writer, put);
    }
    works(&writer, &["put", "--bind", "bound", "v"]);
    for (args, _) in READING {
        let ran = reader.run(args);
        assert_eq!(ran.code, Some(0), "{ran}");
    }
    reader.run(["get", "a"]).ok("v\n");
    reader.run(["getall"]).ok("{\n    \"a\": \"v\",\n    \"bound\": \"v\"\n}\n");
    for (args, _) in WRITING {
        works(&writer, args);
    }
    reader.run(["get", "w"]).ok(format!("{SECRET}\n"));

    let before = works(&reader, &["list"]).stdout;
    let refused: [(&World, &[&str], &str); 16] = [
        (&reader, &["put", "new", SECRET], "kms:GenerateDataKey"),
        (&reader, &["put", "-a", "a", SECRET], "kms:GenerateDataKey"),
        (&reader, &["put", "-a", "--bind", "a", SECRET], "kms:GenerateDataKey"),
        (&reader, &["delete", "a"], DELETE_ITEM),
        (&reader, &["setup"], "dynamodb:ListTables"),
        (&writer, &["get", "a"], "kms:Decrypt"),
        (&writer, &["get", "a", "-v", "3"], "dynamodb:GetItem"),
        (&writer, &["get", "a*"], "dynamodb:Scan"),
        (&writer, &["getall"], "dynamodb:Scan"),
        (&writer, &["list"], "dynamodb:Scan"),
        (&writer, &["keys"], "dynamodb:Scan"),
        (&writer, &["delete", "a"], DELETE_ITEM),
        (&maker, &["get", "a"], "dynamodb:Query"),
        (&maker, &["list"], "dynamodb:Scan"),
        (&maker, &["put", "new", SECRET], "kms:GenerateDataKey"),
        (&maker, &["delete", "a"], "dynamodb:Query"),
    ];
    for (world, args, action) in refused {
        let ran = world.run(args);
        assert_eq!(ran.code, Some(1), "{ran}");
        let (_, operation) = action.split_once(':').expect("an action");
        ran.mentions(&format!("is not authorized to perform: {action}")).mentions(operation).mentions("IAM policy");
        assert!(ran.text().lines().all(|line| line.starts_with("Deleting a -- ")), "{ran}");
    }
    let putall = reader.run(["putall", &json!({"new": SECRET}).to_string()]);
    assert_eq!((putall.code, putall.stdout.len()), (Some(1), 0), "{putall}");
    putall.mentions("new: KMS ERROR").mentions("kms:GenerateDataKey");
    assert_eq!(works(&reader, &["list"]).stdout, before, "nothing has changed");

    works(&deleter, DELETING.0);
    reader.run(["get", "a"]).fails(1, "couldn't be found");
    // A signature is checked too: a wrong secret is told from a wrong policy.
    let mut forger = guarded.user("reader");
    forger.set("AWS_SECRET_ACCESS_KEY", "wrong").run(["list"]).fails(1, "log in again");
}
