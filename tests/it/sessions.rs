//! With which credentials, in which region, through which network: what decides, and what wins. It is read from the
//! signatures of the calls, which name region and access key.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::servers::servers;
use crate::world::{Call, Proxy, Ran, Recorder, SECRET, Tls, World, make_default_key};

const PROGRAM: &str = env!("CARGO_BIN_EXE_credstash");
const ROLE: &str = "arn:aws:iam::123456789012:role/credstash-reader";

/// The certificate of an authority that signed nothing. Its key is gone.
const STRANGER: &str = "\
-----BEGIN CERTIFICATE-----
MIIBrTCCAVOgAwIBAgIUDjrAyvhPt2cETtvB5hT4rEcaZbEwCgYIKoZIzj0EAwIw
KzEpMCcGA1UEAwwgYW4gYXV0aG9yaXR5IHRoYXQgc2lnbmVkIG5vdGhpbmcwIBcN
MjYxMTIyMTkxNzExWhgPMjEyNjEwMjkxOTE3MTFaMCsxKTAnBgNVBAMMIGFuIGF1
dGhvcml0eSB0aGF0IHNpZ25lZCBub3RoaW5nMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEQZH/NbpT8iMCYPYE7SAZ+RDKSZzkVGW0geLVIw/YNAwOdURMrnWPfLo2
TQ/9OjSCMxndY6gAPgIWKGIdRCWY8KNTMFEwHQYDVR0OBBYEFNUKQdTY86/3HDNu
MsrYQ+f+0Hn4MB8GA1UdIwQYMBaAFNUKQdTY86/3HDNuMsrYQ+f+0Hn4MA8GA1Ud
EwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhANUU6QBdKRvAd5l+ccvDdhZT
fstNrZJiiCF1nM8eXGHjAiB84ho8oZQrZSROdV5Kwdx9eaou48Tv0aXjvVjBcX/i
Bg==
-----END CERTIFICATE-----
";

/// A DynamoDB that has nothing in any table.
fn empty_dynamodb() -> Recorder {
    Recorder::answering(200, &json!({"Items": [], "Count": 0, "ScannedCount": 0}))
}

/// A world whose DynamoDB is this one.
fn world_with(dynamodb: &Recorder) -> World {
    let mut world = World::without_table();
    world.set("AWS_ENDPOINT_URL_DYNAMODB", &dynamodb.url);
    world
}

#[track_caller]
fn last_call(recorder: &Recorder) -> Call {
    recorder.calls().pop().expect("a call was made")
}

// --- Regions ------------------------------------------------------------------------------------

/// `-r`, AWS_DEFAULT_REGION, AWS_REGION, the profile's, us-east-1.
#[test]
fn the_region_of_the_table() {
    let dynamodb = empty_dynamodb();
    let mut world = world_with(&dynamodb);
    let region = |world: &World, args: &[&str]| {
        world.run([args, &["list"]].concat()).ok("");
        last_call(&dynamodb).region
    };
    world.unset("AWS_DEFAULT_REGION");
    assert_eq!(region(&world, &[]), "us-east-1");

    world.home_file(".aws/config", "[default]\nregion = eu-north-1\n[profile team]\nregion = eu-south-1\n");
    world.home_file(".aws/credentials", "[team]\naws_access_key_id = team\naws_secret_access_key = x\n");
    assert_eq!(region(&world, &[]), "eu-north-1");
    assert_eq!(region(&world, &["-p", "team"]), "eu-south-1");
    world.set("AWS_PROFILE", "team");
    assert_eq!(region(&world, &[]), "eu-south-1");
    world.unset("AWS_PROFILE");

    world.set("AWS_REGION", "ap-south-1");
    assert_eq!(region(&world, &[]), "ap-south-1");
    world.set("AWS_DEFAULT_REGION", "us-west-1");
    assert_eq!(region(&world, &[]), "us-west-1");
    assert_eq!(region(&world, &["-p", "team"]), "us-west-1");
    assert_eq!(region(&world, &["-r", "us-west-2"]), "us-west-2");
    assert_eq!(region(&world, &["-p", "team", "--region=us-west-2"]), "us-west-2");

    // What is empty is not set.
    world.set("AWS_DEFAULT_REGION", "").set("AWS_REGION", "");
    assert_eq!(region(&world, &["-r", ""]), "eu-north-1");
}

/// The original knows all of these but AWS_REGION, and so do scripts that were written for it.
#[test]
fn the_region_is_that_of_the_original() {
    let dynamodb = empty_dynamodb();
    let mut world = world_with(&dynamodb);
    let region = |ran: Ran| {
        ran.ok("");
        last_call(&dynamodb).region
    };
    world.home_file(".aws/config", "[default]\nregion = eu-north-1\n[profile team]\nregion = eu-south-1\n");
    world.home_file(".aws/credentials", "[team]\naws_access_key_id = team\naws_secret_access_key = x\n");
    for default_region in [Some("us-west-1"), None] {
        match default_region {
            Some(region) => world.set("AWS_DEFAULT_REGION", region),
            None => world.unset("AWS_DEFAULT_REGION"),
        };
        for args in [&["list"][..], &["-p", "team", "list"], &["-r", "us-west-2", "list"]] {
            assert_eq!(
                region(world.run(args)),
                region(world.python(args.iter().copied())),
                "{default_region:?} {args:?}"
            );
        }
    }
}

/// `--kms-region`, the one saved in `~/.credstash`, that of the table. The saved one wins over `-r`.
#[test]
fn the_region_of_the_key() {
    let mut world = World::dynamodb();
    let (dynamodb, kms) = (Recorder::before(&servers().dynamodb), Recorder::before(&servers().moto));
    world.set("AWS_ENDPOINT_URL_DYNAMODB", &dynamodb.url).set("AWS_ENDPOINT_URL_KMS", &kms.url);
    for region in ["eu-west-1", "eu-west-2", "eu-west-3"] {
        make_default_key(region);
    }
    let regions = |world: &World, args: &[&str]| {
        world.run([args, &["put", "-a", "a", "v"]].concat()).ok("a has been stored\n");
        let put = (last_call(&dynamodb).region, last_call(&kms).region);
        world.run([args, &["get", "a"]].concat()).ok("v\n");
        let get = (last_call(&dynamodb).region, last_call(&kms).region);
        assert_eq!(put, get);
        put
    };
    let both = |dynamodb: &str, kms: &str| (dynamodb.to_owned(), kms.to_owned());
    assert_eq!(regions(&world, &[]), both("us-east-1", "us-east-1"));
    assert_eq!(regions(&world, &["-r", "eu-west-1"]), both("eu-west-1", "eu-west-1"));
    assert_eq!(regions(&world, &["--kms-region", "eu-west-2"]), both("us-east-1", "eu-west-2"));
    world.home_file(".credstash", r#"{"kms-region": "eu-west-3"}"#);
    assert_eq!(regions(&world, &[]), both("us-east-1", "eu-west-3"));
    assert_eq!(regions(&world, &["-r", "eu-west-1"]), both("eu-west-1", "eu-west-3"));
    assert_eq!(regions(&world, &["--kms-region", "eu-west-2"]), both("us-east-1", "eu-west-2"));
}

/// The file belongs to others too: what else is in it stays, and a link stays a link.
#[test]
fn the_saved_region_of_the_key() {
    let world = World::dynamodb();
    world.home_file("dotfiles/credstash", r#"{"other": [1, {"a": "b"}], "kms-region": "old"}"#);
    symlink(world.home("dotfiles/credstash"), world.home(".credstash")).expect("linked");
    let set = "KMS region set to eu-west-1\nCredential Store table already exists\n";
    world.run(["setup", "--save-kms-region", "eu-west-1"]).ok(set);
    let saved: Value =
        serde_json::from_str(&fs::read_to_string(world.home(".credstash")).expect("there")).expect("JSON");
    assert_eq!(saved, json!({"other": [1, {"a": "b"}], "kms-region": "eu-west-1"}));
    assert!(fs::symlink_metadata(world.home(".credstash")).expect("there").is_symlink());
    let files = fs::read_dir(world.home("dotfiles")).expect("a folder").count();
    assert_eq!(files, 1, "no draft is left behind");

    make_default_key("eu-west-1");
    world.run(["put", "a", "v"]).ok("a has been stored\n");
    world.python(["get", "a"]).ok("v\n");
}

#[test]
fn a_malformed_settings_file_is_named() {
    let world = World::dynamodb();
    for content in ["", "no json", "[]", "5", r#"{"kms-region": 5}"#, r#"{"kms-region": "#, "\u{feff}{}"] {
        world.home_file(".credstash", content);
        world.run(["list"]).fails(1, "/.credstash");
        world.run(["put", "a", SECRET]).fails(1, "/.credstash");
        world.run(["setup"]).fails(1, "/.credstash");
    }
    // What is asked for explicitly needs no file.
    fs::remove_file(world.home(".credstash")).expect("removed");
    fs::create_dir(world.home(".credstash")).expect("made");
    world.run(["list"]).fails(1, "/.credstash");
    world.run(["--kms-region", "us-east-1", "list"]).ok("");
    fs::remove_dir(world.home(".credstash")).expect("removed");
    world.home_file(".credstash", r#"{"other": 1}"#);
    world.run(["list"]).ok("");
}

/// Tables of different regions are different tables.
#[test]
fn each_region_has_its_own_tables() {
    let world = World::moto();
    make_default_key("eu-west-1");
    world.run(["-r", "eu-west-1", "list"]).fails(1, "in eu-west-1").mentions("credstash setup");
    assert_eq!(world.run(["-r", "eu-west-1", "setup"]).code, Some(0));
    world.run(["-r", "eu-west-1", "put", "a", "there"]).ok("a has been stored\n");
    world.run(["-r", "eu-west-1", "get", "a"]).ok("there\n");
    world.run(["get", "a"]).fails(1, "couldn't be found");
}

// --- Credentials --------------------------------------------------------------------------------

/// A profile that is asked for is used alone, whatever keys the environment holds.
#[test]
fn a_profile_wins_over_keys_in_the_environment() {
    let dynamodb = empty_dynamodb();
    let mut world = world_with(&dynamodb);
    world.home_file(".aws/config", "[profile team]\nregion = eu-south-1\n");
    world.home_file(
        ".aws/credentials",
        "[default]\naws_access_key_id = file-default\naws_secret_access_key = x\n\
         [team]\naws_access_key_id = file-team\naws_secret_access_key = x\n",
    );
    let key = |ran: Ran| {
        ran.ok("");
        last_call(&dynamodb).access_key
    };
    assert_eq!(key(world.run(["list"])), "test");
    assert_eq!(key(world.run(["-p", "team", "list"])), "file-team");
    assert_eq!(key(world.run(["list", "--profile", "team"])), "file-team");
    assert_eq!(key(world.python(["-p", "team", "list"])), "file-team");

    world.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
    assert_eq!(key(world.run(["list"])), "file-default");
    world.set("AWS_PROFILE", "team");
    assert_eq!(key(world.run(["list"])), "file-team");
    assert_eq!(key(world.python(["list"])), "file-team");
}

#[test]
fn an_unknown_profile() {
    let mut world = World::dynamodb();
    let message = "The config profile (nobody) could not be found";
    world.run(["-p", "nobody", "list"]).fails(1, message);
    world.run(["-p", "nobody", "put", "a", SECRET]).fails(1, message);
    world.set("AWS_PROFILE", "nobody");
    world.run(["list"]).fails(1, message);
}

/// boto3 looks at AWS_DEFAULT_PROFILE before AWS_PROFILE.
#[test]
fn the_profile_of_the_environment() {
    let dynamodb = empty_dynamodb();
    let mut world = world_with(&dynamodb);
    let profile = |name: &str| format!("[{name}]\naws_access_key_id = of-{name}\naws_secret_access_key = x\n");
    world.home_file(".aws/credentials", &["default", "one", "two"].map(profile).concat());
    world.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
    for (name, value, key) in [("AWS_PROFILE", "two", "of-two"), ("AWS_DEFAULT_PROFILE", "one", "of-one")] {
        world.set(name, value);
        world.run(["list"]).ok("");
        assert_eq!(last_call(&dynamodb).access_key, key);
        world.python(["list"]).ok("");
        assert_eq!(last_call(&dynamodb).access_key, key, "the original");
    }
    world.unset("AWS_DEFAULT_PROFILE").unset("AWS_PROFILE");
    world.run(["-p", "", "list"]).ok("");
    assert_eq!(last_call(&dynamodb).access_key, "of-default");
}

/// The SDK would end the program over each of them.
#[test]
fn settings_that_the_sdk_cannot_read() {
    let mut world = World::moto();
    world.run(["put", "a", "v"]).ok("a has been stored\n");
    for (name, value) in [
        ("AWS_RETRY_MODE", "legacy"),
        ("AWS_RETRY_MODE", "adaptive"),
        ("AWS_MAX_ATTEMPTS", " 5 "),
        ("AWS_MAX_ATTEMPTS", "99999999999"),
        ("AWS_ENDPOINT_URL", ""),
        ("AWS_ENDPOINT_URL_STS", ""),
    ] {
        world.set(name, value);
        world.run(["get", "a"]).ok("v\n");
        world.unset(name);
    }
    for (name, value) in [
        ("AWS_RETRY_MODE", "bogus"),
        ("AWS_MAX_ATTEMPTS", "0"),
        ("AWS_MAX_ATTEMPTS", "-1"),
        ("AWS_MAX_ATTEMPTS", "many"),
        ("AWS_SESSION_TOKEN", "token\r"),
    ] {
        world.set(name, value);
        world.run(["get", "a"]).fails(1, name);
        world.unset(name);
    }
    world.home_file(".aws/config", "[default]\nretry_mode = legacy\nmax_attempts = 4\n");
    world.run(["get", "a"]).ok("v\n");
    world.home_file(".aws/config", "[default]\nretry_mode = x\n");
    world.run(["get", "a"]).fails(1, "retry_mode");

    // An empty endpoint of a service leaves the one of all.
    world.home_file(".aws/config", "");
    world.set("AWS_ENDPOINT_URL", &servers().moto).set("AWS_ENDPOINT_URL_DYNAMODB", "").set("AWS_ENDPOINT_URL_KMS", "");
    world.run(["get", "a"]).ok("v\n");
    world.python(["get", "a"]).ok("v\n");
    world.set("AWS_ACCESS_KEY_ID", "AKIA\r");
    world.run(["get", "a"]).fails(1, "AWS_ACCESS_KEY_ID holds a control character");
}

#[test]
fn a_malformed_aws_file_is_named() {
    let world = World::dynamodb();
    for file in [".aws/config", ".aws/credentials"] {
        world.home_file(file, "[profile\nregion = x\n");
        world.run(["list"]).fails(1, file);
        fs::remove_file(world.home(file)).expect("removed");
    }
}

#[test]
fn a_program_that_gives_credentials() {
    let dynamodb = empty_dynamodb();
    let mut world = world_with(&dynamodb);
    world.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
    let answer = r#"{"Version": 1, "AccessKeyId": "from-process", "SecretAccessKey": "x"}"#;
    let answer = world.file("answer.json", answer);
    world.home_file(".aws/config", &format!("[profile process]\ncredential_process = cat {answer}\n"));
    world.run(["-p", "process", "list"]).ok("");
    assert_eq!(last_call(&dynamodb).access_key, "from-process");
}

/// What a task in a container or a pod in a cluster finds in its environment.
#[test]
fn credentials_of_a_machine() {
    let dynamodb = empty_dynamodb();
    let mut world = world_with(&dynamodb);
    world.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
    let container = Recorder::answering(
        200,
        &json!({
            "AccessKeyId": "from-container", "SecretAccessKey": "x", "Token": "t", "Expiration": "2100-01-01T00:00:00Z",
        }),
    );
    world.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/credentials", container.url));
    world.run(["list"]).ok("");
    assert_eq!(last_call(&dynamodb).access_key, "from-container");

    world.unset("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let token = world.file("token", "a.web.token");
    world.set("AWS_WEB_IDENTITY_TOKEN_FILE", token).set("AWS_ROLE_ARN", ROLE);
    world.run(["list"]).ok("");
    assert!(last_call(&dynamodb).access_key.starts_with("ASIA"), "{:?}", last_call(&dynamodb));
}

/// All calls but the one that assumes the role are the role's.
#[test]
fn a_role() {
    let (dynamodb, sts) = (empty_dynamodb(), Recorder::before(&servers().moto));
    let mut world = world_with(&dynamodb);
    world.set("AWS_ENDPOINT_URL_STS", &sts.url);
    world.run(["-n", ROLE, "list"]).ok("");
    let call = last_call(&sts);
    assert_eq!((call.operation.as_str(), call.access_key.as_str()), ("AssumeRole", "test"));
    assert!(call.body.contains("RoleSessionName=AssumeRoleCredstashSession1"), "{}", call.body);
    assert!(call.body.contains("role%2Fcredstash-reader"), "{}", call.body);
    assert!(last_call(&dynamodb).access_key.starts_with("ASIA"), "{:?}", last_call(&dynamodb));

    world.run(["--arn", ROLE, "--session-name", "boot-of-web-1", "list"]).ok("");
    assert!(last_call(&sts).body.contains("RoleSessionName=boot-of-web-1"), "{}", last_call(&sts).body);
    world.run(["-p", "x", "-n", ROLE, "list"]).fails(2, "not allowed with argument");
    assert_eq!(sts.calls().len(), 2, "a role is assumed once for each command");
}

/// A role is assumed in the region that was asked for; the original needs a setting beside `-r`.
#[test]
fn a_role_needs_no_region_of_its_own() {
    let (dynamodb, sts) = (empty_dynamodb(), Recorder::before(&servers().moto));
    let mut world = world_with(&dynamodb);
    world.set("AWS_ENDPOINT_URL_STS", &sts.url).unset("AWS_DEFAULT_REGION");
    world.run(["-r", "us-west-2", "-n", ROLE, "list"]).ok("");
    assert_eq!((last_call(&sts).region, last_call(&dynamodb).region), ("us-west-2".into(), "us-west-2".into()));
    world.run(["-n", ROLE, "list"]).ok("");
    assert_eq!(last_call(&sts).region, "us-east-1");
}

#[test]
fn a_role_that_is_refused() {
    let mut world = World::dynamodb();
    let message = "User: x is not authorized to perform: sts:AssumeRole";
    world.set("AWS_ENDPOINT_URL_STS", &Recorder::refusing_roles("AccessDenied", message).url);
    for args in [&["list"][..], &["get", "a"], &["put", "a", SECRET]] {
        let refused = world.run([&["-n", ROLE], args].concat());
        refused.fails(1, "An error occurred (AccessDenied) when calling the AssumeRole operation: ").mentions(message);
    }
}

/// A role of a profile, as every AWS tool knows it.
#[test]
fn a_role_of_a_profile() {
    let (dynamodb, sts) = (empty_dynamodb(), Recorder::before(&servers().moto));
    let mut world = world_with(&dynamodb);
    world.set("AWS_ENDPOINT_URL_STS", &sts.url);
    world.home_file(
        ".aws/config",
        &format!("[profile base]\n[profile deploy]\nrole_arn = {ROLE}\nsource_profile = base\nregion = eu-west-1\n"),
    );
    world.home_file(".aws/credentials", "[base]\naws_access_key_id = base\naws_secret_access_key = x\n");
    world.unset("AWS_DEFAULT_REGION");
    world.run(["-p", "deploy", "list"]).ok("");
    assert_eq!((last_call(&sts).operation, last_call(&sts).access_key), ("AssumeRole".into(), "base".into()));
    let call = last_call(&dynamodb);
    assert!(call.access_key.starts_with("ASIA") && call.region == "eu-west-1", "{call:?}");
}

/// The code of a second factor is asked for on the terminal.
#[test]
fn a_role_with_a_second_factor() {
    let (dynamodb, sts) = (empty_dynamodb(), Recorder::before(&servers().moto));
    let mut world = world_with(&dynamodb);
    world.set("AWS_ENDPOINT_URL_STS", &sts.url);
    let device = "arn:aws:iam::123456789012:mfa/x";
    let command = [PROGRAM, "-n", ROLE, "--mfa-serial", device, "list"];
    let shown = world.on_terminal(&command, &[(&format!("MFA code of {device}: "), "123456")]);
    shown.prints(format!("MFA code of {device}: \n"));
    let call = last_call(&sts);
    assert!(call.body.contains("TokenCode=123456") && call.body.contains("SerialNumber=arn"), "{}", call.body);
    world.run(["--mfa-serial", device, "list"]).fails(2, "argument --mfa-serial: ");
}

// --- The network --------------------------------------------------------------------------------

#[test]
fn endpoints() {
    let mut world = World::moto();
    for service in ["DYNAMODB", "KMS", "STS"] {
        world.unset(&format!("AWS_ENDPOINT_URL_{service}"));
    }
    let recorder = Recorder::before(&servers().moto);
    world.set("AWS_ENDPOINT_URL", &recorder.url);
    world.run(["-n", ROLE, "put", "a", "v"]).ok("a has been stored\n");
    let mut operations: Vec<String> = recorder.calls().into_iter().map(|call| call.operation).collect();
    operations.sort();
    assert_eq!(operations, ["AssumeRole", "GenerateDataKey", "PutItem"]);

    // The one of a service wins.
    let before = recorder.calls().len();
    world.set("AWS_ENDPOINT_URL_DYNAMODB", &servers().moto);
    world.run(["list"]).ok("a -- version 0000000000000000001 -- comment \n");
    assert_eq!(recorder.calls().len(), before);
}

/// The endpoints of AWS itself, through a proxy that asks for trust in its own authority.
#[test]
fn a_proxy() {
    let mut world = World::moto();
    let tls = Tls::server();
    let proxy = Proxy::to(&tls.address);
    for service in ["DYNAMODB", "KMS", "STS"] {
        world.unset(&format!("AWS_ENDPOINT_URL_{service}"));
    }
    for variable in ["HTTPS_PROXY", "https_proxy"] {
        world.unset("HTTPS_PROXY").set(variable, &proxy.url).set("AWS_CA_BUNDLE", &tls.ca);
        world.run(["put", "-a", "a", "v"]).ok("a has been stored\n");
        world.run(["get", "a"]).ok("v\n");
    }
    assert_eq!(proxy.hosts(), ["dynamodb.us-east-1.amazonaws.com:443", "kms.us-east-1.amazonaws.com:443"]);
}

#[test]
fn hosts_that_need_no_proxy() {
    let mut world = World::moto();
    let (tls, proxy) = (Tls::server(), Proxy::to(&Tls::server().address));
    let url = format!("https://{}", tls.address);
    world.set("AWS_ENDPOINT_URL_DYNAMODB", &url).set("AWS_ENDPOINT_URL_KMS", &url).set("AWS_CA_BUNDLE", &tls.ca);
    world.set("HTTPS_PROXY", &proxy.url).set("NO_PROXY", "example.com,127.0.0.1");
    world.run(["put", "a", "v"]).ok("a has been stored\n");
    world.run(["get", "a"]).ok("v\n");
    assert_eq!(proxy.hosts(), [] as [&str; 0]);
    // This machine needs none, whatever the variables say: it may be what gives a container its credentials.
    world.set("NO_PROXY", "");
    world.run(["get", "a"]).ok("v\n");
    assert_eq!(proxy.hosts(), [] as [&str; 0]);
    world.set("AWS_ENDPOINT_URL_DYNAMODB", "https://dynamodb.invalid").set("NO_PROXY", "example.com, invalid");
    world.run(["--timeout", "5", "get", "a"]).fails(1, "");
    assert_eq!(proxy.hosts(), [] as [&str; 0]);
    world.set("NO_PROXY", "example.com");
    world.run(["--timeout", "5", "get", "a"]).fails(1, "");
    assert_eq!(proxy.hosts()[0], "dynamodb.invalid:443");
}

#[test]
fn a_proxy_that_does_not_answer() {
    let mut world = World::moto();
    world.unset("AWS_ENDPOINT_URL_DYNAMODB").set("HTTPS_PROXY", crate::world::CLOSED);
    world.run(["list"]).fails(1, "No answer when calling the Scan operation").mentions("HTTPS_PROXY");
}

/// The first of these that is given counts, and one is enough.
#[test]
fn whom_to_trust() {
    let mut world = World::moto();
    let tls = Tls::server();
    let url = format!("https://{}", tls.address);
    world.set("AWS_ENDPOINT_URL_DYNAMODB", &url).set("AWS_ENDPOINT_URL_KMS", &url);
    let stranger = world.file("stranger.pem", STRANGER);
    world.home_file(".aws/config", &format!("[profile trusting]\nregion = us-east-1\nca_bundle = {}\n", tls.ca));

    // Mozilla's authorities, and those of this machine.
    world.run(["list"]).fails(1, "certificate");
    world.run(["--trust", "system", "list"]).fails(1, "certificate");

    world.run(["--trust", &tls.ca, "list"]).ok("");
    world.set("SSL_CERT_FILE", &tls.ca);
    world.run(["list"]).ok("");
    world.run(["--trust", "system", "list"]).ok("");
    world.set("SSL_CERT_FILE", &stranger).set("AWS_CA_BUNDLE", &tls.ca);
    world.run(["list"]).ok("");
    world.run(["--trust", &stranger, "list"]).fails(1, "certificate");
    world.unset("AWS_CA_BUNDLE");
    world.run(["list"]).fails(1, "certificate");
    world.set("AWS_PROFILE", "trusting");
    world.run(["list"]).ok("");
}

/// A metadata service that takes connections and says nothing, as one behind a firewall, costs little and is named.
#[test]
fn a_silent_metadata_service() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let dynamodb = empty_dynamodb();
    let mut world = world_with(&dynamodb);
    world.unset("AWS_EC2_METADATA_DISABLED");
    world.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{}", silent.local_addr().expect("an address")));

    // It is not asked for the region.
    world.unset("AWS_DEFAULT_REGION");
    world.run(["list"]).ok("");
    assert_eq!(last_call(&dynamodb).region, "us-east-1");

    world.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
    let began = Instant::now();
    world.run(["list"]).fails(1, "Unable to locate credentials: the metadata service of this machine did not answer");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// The variants of AWS's endpoints that some organisations must use.
#[test]
fn fips_and_dual_stack() {
    let mut world = World::moto();
    let proxy = Proxy::to(&Tls::server().address);
    world.unset("AWS_ENDPOINT_URL_DYNAMODB").set("HTTPS_PROXY", &proxy.url);
    for (variable, host) in [
        ("AWS_USE_FIPS_ENDPOINT", "dynamodb-fips.us-east-1.amazonaws.com:443"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "dynamodb.us-east-1.api.aws:443"),
    ] {
        world.set(variable, "true");
        // Nobody vouches for the server here: it is enough to see for whom it was asked.
        world.run(["list"]).fails(1, "AWS_CA_BUNDLE");
        assert!(proxy.hosts().contains(&host.to_owned()), "{variable}: {:?}", proxy.hosts());
        world.unset(variable);
    }
}

// --- Prompts ------------------------------------------------------------------------------------

/// The question is asked once, on the terminal; the answer is not shown. To the byte as the original does it.
#[test]
fn a_value_is_asked_for() {
    let world = World::dynamodb();
    let original = servers().python_credstash.to_str().expect("UTF-8");
    let original = [original, "--log-file", "/dev/null", "put", "-P", "theirs"];
    world.on_terminal(&original, &[("theirs: ", SECRET)]).prints("theirs: \ntheirs has been stored\n");
    world.on_terminal(&[PROGRAM, "put", "-P", "ours"], &[("ours: ", SECRET)]).prints("ours: \nours has been stored\n");
    world.run(["get", "ours"]).ok(format!("{SECRET}\n"));
    world.run(["get", "theirs"]).ok(format!("{SECRET}\n"));

    // What was typed as value is replaced.
    let shown = world.on_terminal(&[PROGRAM, "put", "-a", "ours", "typed", "--prompt"], &[("ours: ", "asked ☃ for")]);
    shown.prints("ours: \nours has been stored\n");
    world.run(["get", "ours"]).ok("asked ☃ for\n");
}

/// Not even if it is there at once, as when a program types it: the echo is off before the question is asked.
#[test]
fn an_answer_is_never_shown() {
    let world = World::local();
    for _ in 0..20 {
        let shown = world.on_terminal(&[PROGRAM, "put", "-a", "-P", "a"], &[("a: ", SECRET)]);
        shown.prints("a: \na has been stored\n");
    }
}

/// On a terminal a missing value is a question; elsewhere it is the empty one, as in the original.
#[test]
fn a_missing_value_is_asked_for_on_a_terminal() {
    let world = World::moto();
    let shown = world.on_terminal(&[PROGRAM, "put", "a"], &[("a: ", SECRET)]);
    shown.prints("a: \na has been stored\n");
    world.run(["get", "a"]).ok(format!("{SECRET}\n"));
    world.run(["put", "-a", "a"]).ok("a has been stored\n");
    world.run(["get", "a"]).ok("\n");
}

/// The terminal is asked, whatever standard input and output are.
#[test]
fn a_question_goes_to_the_terminal() {
    let world = World::dynamodb();
    let out = world.path("out");
    let line = format!("exec '{PROGRAM}' put -P a </dev/null >'{}'", out.display());
    world.on_terminal(&["sh", "-c", &line], &[("a: ", SECRET)]).prints("a: \n");
    assert_eq!(fs::read_to_string(out).expect("written"), "a has been stored\n");
    world.run(["get", "a"]).ok(format!("{SECRET}\n"));
}

/// Ctrl-C at the question ends the command, and the terminal shows again what is typed.
#[test]
fn a_question_that_is_interrupted() {
    let world = World::dynamodb();
    let line = format!("trap : INT; '{PROGRAM}' put -P a; echo code $?; stty -a");
    let shown = world.on_terminal(&["sh", "-c", &line], &[("a: ", "\x03")]);
    assert!(shown.text().contains("code 130"), "{shown}");
    assert!(shown.text().contains(" echo ") && !shown.text().contains(" -echo "), "{shown}");
    assert!(world.rows().is_empty(), "nothing is stored");
}

/// Ctrl-Z and Ctrl-\\, which stop nothing here, are no part of a password.
#[test]
fn an_answer_with_control_characters() {
    let world = World::dynamodb();
    for answer in ["hunter\x1a2", "\x1c", "a\x1b[Db"] {
        let shown = world.on_terminal(&[PROGRAM, "put", "a"], &[("a: ", answer)]);
        assert_eq!(shown.code, Some(1), "{shown}");
        assert!(shown.text().contains("holds a control character"), "{shown}");
    }
    assert!(world.rows().is_empty(), "nothing is stored");
}

/// No answer is not an empty one: what was to give it may have failed.
#[test]
fn no_answer_without_a_terminal() {
    let world = World::local();
    world.run(["put", "a", "old"]).ok("a has been stored\n");
    let mut command = world.other(&servers().python);
    command.args(["-c", LEAVE_TERMINAL, PROGRAM, "put", "-a", "-P", "a"]);
    Ran::of(command, b"").fails(1, "no terminal to ask on, and standard input is empty");
    world.run(["get", "a"]).ok("old\n");
}

/// Runs the rest of its arguments where there is no terminal.
const LEAVE_TERMINAL: &str = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])";

/// Without any terminal the answer is a line of standard input, and nothing is said about it.
#[test]
fn an_answer_without_a_terminal() {
    let world = World::dynamodb();
    for (number, (stdin, value)) in
        [("line\nmore\n", "line"), ("dos\r\n", "dos"), ("no end", "no end")].into_iter().enumerate()
    {
        let name = format!("n{number}");
        let mut command = world.other(&servers().python);
        command.args(["-c", LEAVE_TERMINAL, PROGRAM, "put", "-P", &name]);
        Ran::of(command, stdin.as_bytes()).ok(format!("{name} has been stored\n"));
        world.run(["get", &name]).ok(format!("{value}\n"));
    }
}

// --- setup --------------------------------------------------------------------------------------

const MADE: &str = "Creating table...\nWaiting for table to be created...\nAdding tags...\nTable has been created. \
                    Go read the README about how to create your KMS key\n";

fn table_of(world: &World) -> Value {
    world.call("DescribeTable", json!({"TableName": world.table()}))["Table"].clone()
}

fn tags_of(world: &World) -> Value {
    let arn = table_of(world)["TableArn"].clone();
    let answer = world.call("ListTagsOfResource", json!({"ResourceArn": arn}));
    let tags = answer["Tags"].as_array().expect("tags").iter();
    tags.map(|tag| (tag["Key"].as_str().expect("a text").to_owned(), tag["Value"].clone())).collect()
}

#[test]
fn setup_makes_the_table_of_the_original() {
    let (ours, theirs) = (World::moto_without_table(), World::moto_without_table());
    ours.run(["setup"]).ok(MADE);
    theirs.python(["setup"]).ok(MADE);
    let (our_table, their_table) = (table_of(&ours), table_of(&theirs));
    for member in ["KeySchema", "AttributeDefinitions"] {
        assert_eq!(our_table[member], their_table[member], "{member}");
    }
    assert_eq!(tags_of(&ours), tags_of(&theirs));
    assert_eq!(tags_of(&ours), json!({"Name": "credstash"}));
    // One difference on purpose: one read unit a second is what makes getall of the original slow.
    assert_eq!(our_table["BillingModeSummary"]["BillingMode"], "PAY_PER_REQUEST");

    ours.run(["put", "a", "v"]).ok("a has been stored\n");
    ours.python(["get", "a"]).ok("v\n");
    // A second time nothing is touched.
    let again = "Credential Store table already exists\n";
    ours.run(["setup", "--tags", "Name=other"]).ok(again);
    assert_eq!(tags_of(&ours), json!({"Name": "credstash"}));
    ours.run(["get", "a"]).ok("v\n");
    ours.run(["setup", "--deletion-protection"]).prints(again).mentions("stay as they are");
    assert_eq!(table_of(&ours)["DeletionProtectionEnabled"], false);
}

/// As after a setup that was interrupted before it came so far.
#[test]
fn recovery_can_be_turned_on_later() {
    let world = World::moto();
    let recovery = || {
        let answer = world.call("DescribeContinuousBackups", json!({"TableName": world.table()}));
        answer["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"].clone()
    };
    assert_eq!(recovery(), "DISABLED");
    let turned_on = "Turning point-in-time recovery on...\nCredential Store table already exists\n";
    world.run(["setup", "--pitr"]).ok(turned_on);
    assert_eq!(recovery(), "ENABLED");
}

#[test]
fn setup_with_everything() {
    let world = World::moto_without_table();
    let made = world.run([
        "setup",
        "--tags",
        "team=infra",
        "Name=vault",
        "--billing",
        "provisioned",
        "--pitr",
        "--deletion-protection",
    ]);
    assert_eq!(made.code, Some(0), "{made}");
    let table = table_of(&world);
    assert_eq!(table["ProvisionedThroughput"]["ReadCapacityUnits"], 1, "{table}");
    assert_eq!(table["ProvisionedThroughput"]["WriteCapacityUnits"], 1, "{table}");
    assert_ne!(table["BillingModeSummary"]["BillingMode"], "PAY_PER_REQUEST", "{table}");
    assert_eq!(table["DeletionProtectionEnabled"], true, "{table}");
    assert_eq!(tags_of(&world), json!({"team": "infra", "Name": "vault"}));
    let backups = world.call("DescribeContinuousBackups", json!({"TableName": world.table()}));
    let recovery = &backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"];
    assert_eq!(recovery["PointInTimeRecoveryStatus"], "ENABLED", "{backups}");
}

/// DynamoDB Local cannot tag: the steps up to there are done and said, and a second run finds the table.
#[test]
fn setup_that_fails_half_way() {
    let (ours, theirs) = (World::without_table(), World::without_table());
    let (our, their) = (ours.run(["setup"]), theirs.python(["setup"]));
    assert_eq!((our.code, their.code), (Some(1), Some(1)));
    assert_eq!(our.text(), "Creating table...\nWaiting for table to be created...\nAdding tags...\n");
    assert_eq!(our.stdout, their.stdout);
    our.mentions("when calling the TagResource operation");
    assert_eq!(our.stderr.lines().count(), 1, "{our}");
    ours.run(["setup"]).ok("Credential Store table already exists\n");
    ours.run(["put", "a", "v"]).ok("a has been stored\n");
}

/// Of several at the same time one makes the table, and the others find it made.
#[test]
fn setup_that_is_overtaken() {
    let mut world = World::moto();
    let recorder = Recorder::between(&servers().moto, |call| {
        (call.operation == "ListTables").then(|| (200, json!({"TableNames": []})))
    });
    world.set("AWS_ENDPOINT_URL_DYNAMODB", &recorder.url);
    let overtaken = world.run(["setup"]);
    assert_eq!((overtaken.code, overtaken.stderr.as_str()), (Some(0), ""), "{overtaken}");
    assert!(recorder.calls().iter().any(|call| call.operation == "CreateTable"), "it has tried to make the table");
    world.run(["put", "a", "v"]).ok("a has been stored\n");
}
