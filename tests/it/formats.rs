//! What is written in a format, its real readers read back: the same names, the same values, and nothing runs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::world::{Ran, World};

/// Values on which quoting goes wrong. Each that runs anything makes the file `CANARY`.
const NASTY: &[&str] = &[
    "",
    "plain",
    " surrounding ",
    "two words",
    "it's",
    "say \"hi\"",
    "both ' and \"",
    "''",
    "\"",
    "\\",
    "\\\\",
    "ends with \\",
    "\\n is no line feed",
    "{\"json\": \"a\\nb\"}",
    "C:\\new\\table",
    "line\nfeed",
    "\nleading and trailing\n",
    "return\rcarriage",
    "dos\r\nfile\r\n",
    "tab\there",
    "comma,separated;values|here",
    "# no comment",
    "half # comment",
    "a=b",
    "key: value",
    "- list",
    "[flow, {map: 1}]",
    "!tag &anchor *alias",
    "%directive @at `tick",
    "123",
    "0x1f",
    "1e3",
    "010",
    "1_000",
    "12:30:45",
    "2001-01-01",
    "yes",
    "No",
    "null",
    "~",
    "=",
    "<<",
    ".inf",
    "$HOME",
    "${HOME}",
    "${HOME:-x}",
    "$(touch CANARY)",
    "`touch CANARY`",
    "'; touch CANARY; '",
    "\"; touch CANARY; \"",
    "'$(touch CANARY)'",
    "\\'; touch CANARY #",
    "\n touch CANARY\n",
    "x' && touch CANARY && 'x",
    "!touch",
    "!!",
    "=cmd|' /C calc'!A0",
    "naïve café",
    "日本語 ☃ 😀 \u{10ffff}",
    "zero\u{200b}width\u{feff}",
    "\u{85}next\u{2028}line\u{2029}",
    "\u{1b}[31mred\u{7}",
    "\u{7f}",
    "-----BEGIN KEY-----\nabc+/=\n-----END KEY-----\n",
];

/// Values that no variable can hold, and some formats cannot either.
const ZERO: &str = "zero\0byte";

/// A world whose store holds a credential for each of these values: `v0`, `v1`, and so on.
fn world_of(values: &[&str]) -> (World, BTreeMap<String, String>) {
    let world = World::local();
    let stored: BTreeMap<String, String> =
        values.iter().enumerate().map(|(number, value)| (format!("v{number}"), (*value).to_owned())).collect();
    store(&world, &stored);
    (world, stored)
}

fn store(world: &World, credentials: &BTreeMap<String, String>) {
    let document = json!(credentials).to_string();
    let stored = world.run_with(document.as_bytes(), ["putall", "-"]);
    assert_eq!((stored.code, stored.stderr.as_str()), (Some(0), ""), "{stored}");
}

fn in_upper_case(stored: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    stored.iter().map(|(name, value)| (name.to_uppercase(), value.clone())).collect()
}

/// Runs a Python script that prints a JSON object, with the output of a command on its standard input.
fn read_by_python(world: &World, script: &str, written: &Ran) -> BTreeMap<String, String> {
    serde_json::from_slice(&world.script(script, &[], &written.stdout)).expect("the script prints JSON")
}

/// What was read is what is expected; the first difference is shown, and not everything.
#[track_caller]
fn same(read: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) {
    for (name, value) in expected {
        assert_eq!(read.get(name), Some(value), "{name}");
    }
    assert_eq!(read.len(), expected.len(), "and nothing else");
}

fn nothing_ran(world: &World) {
    assert!(!world.path("CANARY").exists(), "a value was run as a command");
}

#[test]
fn json_is_read_by_python() {
    let (world, stored) = world_of(&[NASTY, &[ZERO]].concat());
    let written = world.run(["getall"]);
    assert!(written.stdout.is_ascii(), "{written}");
    same(&read_by_python(&world, "import json, sys; print(json.dumps(json.load(sys.stdin)))", &written), &stored);
    // To the byte what Python writes, with one more line feed.
    let python = "import json, sys; print(json.dumps(json.load(sys.stdin), sort_keys=True, indent=4))";
    written.ok(world.script(python, &[], &written.stdout));
}

#[test]
fn csv_is_read_by_python() {
    let (world, stored) = world_of(&[NASTY, &[ZERO]].concat());
    let script = "
import csv, io, json, sys
text = io.TextIOWrapper(sys.stdin.buffer, encoding='utf-8', newline='')
print(json.dumps({name: value for name, value in csv.reader(text)}))";
    let written = world.run(["get", "*", "-f", "csv"]);
    same(&read_by_python(&world, script, &written), &stored);
}

#[test]
fn yaml_is_read_by_pyyaml() {
    let (world, stored) = world_of(&[NASTY, &[ZERO]].concat());
    let written = world.run(["getall", "-f", "yaml"]);
    assert!(written.stdout.is_ascii(), "{written}");
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))";
    same(&read_by_python(&world, script, &written), &stored);
}

/// `eval "$(credstash getall -f shell)"`, in each shell that is there; `sh` always is.
#[test]
fn shell_is_evaluated_by_shells() {
    let (mut world, stored) = world_of(NASTY);
    let written = world.run(["getall", "-f", "shell"]);
    world.set("WRITTEN", written.text());
    let print = environment_of(&stored);
    for shell in ["sh", "bash", "dash", "zsh"] {
        if shell != "sh" && !is_there(&world, shell) {
            continue;
        }
        let mut command = world.other(shell);
        command.arg("-c").arg(format!("eval \"$WRITTEN\"; {print}"));
        let ran = Ran::of(command, b"");
        assert_eq!(ran.stderr, "", "{shell}: {ran}");
        assert_eq!(ran.json(), json!(in_upper_case(&stored)), "{shell}");
    }
    nothing_ran(&world);
}

fn is_there(world: &World, program: &str) -> bool {
    world.other("sh").args(["-c", &format!("command -v {program} >/dev/null")]).status().is_ok_and(|it| it.success())
}

/// A command for a shell: prints those variables of its environment, as JSON, that are named as the credentials are.
fn environment_of(stored: &BTreeMap<String, String>) -> String {
    let names: Vec<String> = stored.keys().map(|name| name.to_uppercase()).collect();
    let python = &crate::servers::servers().python;
    format!(
        "'{}' -c 'import json, os, sys; print(json.dumps({{name: os.environ[name] for name in sys.argv[1:]}}))' {}",
        python.display(),
        names.join(" ")
    )
}

/// The values that `-f dotenv` takes: not all readers read the others alike, which are named instead.
fn fit_for_dotenv(world: &World) -> (BTreeMap<String, String>, Ran) {
    let (mut fit, refused) = (BTreeMap::new(), world.run(["getall", "-f", "dotenv"]));
    for (name, value) in world.run(["getall"]).json().as_object().expect("an object") {
        if !refused.stderr.lines().any(|line| line.contains(&format!("{name}: "))) {
            fit.insert(name.clone(), value.as_str().expect("a text").to_owned());
        }
    }
    (fit, refused)
}

#[test]
fn dotenv_is_read_by_sh_and_python_dotenv() {
    let (all, stored) = world_of(NASTY);
    let (fit, refused) = fit_for_dotenv(&all);
    assert_eq!((refused.code, refused.stdout.len()), (Some(1), 0), "all or nothing\n{refused}");
    // Only two kinds are refused: what has a `$` or backtick and also a quote or backslash, and what has a carriage
    // return, which Python's text files take for the end of a line.
    for (name, value) in &stored {
        let expands = value.contains(['$', '`']);
        let escapes = value.contains('\'') || value.contains("\\\\") || value.ends_with('\\');
        let is_unfit = (expands && escapes) || value.contains('\r');
        assert!(fit.contains_key(name) || is_unfit, "{name} is refused: {value:?}\n{refused}");
    }

    let world = World::local();
    store(&world, &fit);
    let written = world.run(["getall", "-f", "dotenv"]);
    let file = world.file("written.env", &written.stdout);
    let expected = in_upper_case(&fit);

    let sourced = world.sh(&format!("set -a; . '{file}'; set +a; {}", environment_of(&fit)));
    let sourced: BTreeMap<String, String> = serde_json::from_slice(&sourced).expect("JSON");
    same(&sourced, &expected);
    let script = "
import json, sys
from dotenv import dotenv_values
print(json.dumps(dotenv_values(sys.argv[1], interpolate=False)))";
    let parsed: BTreeMap<String, String> = serde_json::from_slice(&world.script(script, &[&file], b"")).expect("JSON");
    same(&parsed, &expected);
    nothing_ran(&world);
    nothing_ran(&all);
}

/// Values without a quote are written as the original writes them, so that whatever reads those files now goes on.
#[test]
fn dotenv_is_what_the_original_writes() {
    let world = World::local();
    for (name, value) in [("db.password", "p4ss word"), ("a-b/c_d", "$x #y \"z\""), ("straße", "é"), ("empty", "")] {
        world.run(["put", name, value]).ok(format!("{name} has been stored\n"));
    }
    let expected = "A-B/C_D='$x #y \"z\"'\nDB.PASSWORD='p4ss word'\nEMPTY=''\nSTRASSE='é'\n";
    world.run(["get", "*", "-f", "dotenv"]).ok(expected);
    world.run(["getall", "-f", "dotenv"]).ok(format!("{expected}\n"));
}

/// Names that a format cannot hold are refused by name; all of them, and nothing is written.
#[test]
fn names_that_do_not_fit_are_named() {
    let world = World::local();
    world.run(["put", "good", "v"]).ok("good has been stored\n");
    let unfit =
        ["a b", "a=b", "x;touch CANARY", "$(touch CANARY)", "`touch CANARY`", "two\nlines", "a:b", "q'", "(", "😀"];
    for name in unfit {
        world.run(["put", name, "v"]).ok(format!("{name} has been stored\n"));
    }
    let refused = world.run(["getall", "-f", "dotenv"]);
    assert_eq!((refused.code, refused.stdout.len()), (Some(1), 0), "{refused}");
    assert_eq!(refused.stderr.lines().count(), unfit.len(), "a line for each\n{refused}");
    for name in unfit {
        refused.mentions(&name.replace('\n', "\\n"));
    }

    // Data formats hold them all.
    let csv = "
import csv, io, json, sys
text = io.TextIOWrapper(sys.stdin.buffer, encoding='utf-8', newline='')
print(json.dumps({name: value for name, value in csv.reader(text)}))";
    let yaml = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))";
    let expected: BTreeMap<String, String> =
        unfit.iter().chain(&["good"]).map(|name| ((*name).to_owned(), "v".to_owned())).collect();
    assert_eq!(world.run(["getall"]).json(), json!(expected));
    assert_eq!(read_by_python(&world, csv, &world.run(["get", "*", "-f", "csv"])).len(), unfit.len());
    assert_eq!(read_by_python(&world, yaml, &world.run(["getall", "-f", "yaml"])), expected);
    nothing_ran(&world);
}

/// For `-f shell` names become variables by a rule; two that become the same one are both named.
#[test]
fn names_become_variables() {
    let mut world = World::local();
    for name in ["db.password", "9lives", "x;touch CANARY", "$(touch CANARY)", "a b=c"] {
        world.run(["put", name, "v"]).ok(format!("{name} has been stored\n"));
    }
    let written = world.run(["getall", "-f", "shell"]);
    written.ok("\
export __TOUCH_CANARY_='v'
export _9LIVES='v'
export A_B_C='v'
export DB_PASSWORD='v'
export X_TOUCH_CANARY='v'
");
    world.set("WRITTEN", written.text());
    assert_eq!(world.sh("eval \"$WRITTEN\"; echo $DB_PASSWORD$_9LIVES"), b"vv\n");
    nothing_ran(&world);

    world.run(["put", "db_password", "other"]).ok("db_password has been stored\n");
    let refused = world.run(["getall", "-f", "shell"]);
    assert_eq!((refused.code, refused.stdout.len()), (Some(1), 0), "{refused}");
    refused.mentions("db.password: ").mentions("db_password: ").mentions("DB_PASSWORD");
}

/// Whoever may store a credential must not choose what its readers run.
#[test]
fn variables_by_which_programs_are_chosen_are_refused() {
    for name in
        ["PATH", "ld_preload", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "BASH_ENV", "IFS", "PS4", "prompt_command"]
    {
        let world = World::local();
        world.run(["put", name, "v"]).ok(format!("{name} has been stored\n"));
        for format in ["shell", "dotenv"] {
            world.run(["getall", "-f", format]).fails(1, name);
        }
        // They are credentials like any other elsewhere.
        world.run(["get", name]).ok("v\n");
        world.run(["get", "*"]).ok(format!("{{\n    \"{name}\": \"v\"\n}}"));
    }
}

#[test]
fn values_that_do_not_fit_are_named() {
    let world = World::local();
    world.run(["put", "good", "v"]).ok("good has been stored\n");
    world.run_with(ZERO.as_bytes(), ["put", "zero", "-"]).ok("zero has been stored\n");
    for format in ["dotenv", "shell"] {
        world.run(["getall", "-f", format]).fails(1, "zero: ");
    }
    assert_eq!(world.run(["getall"]).json(), json!({"good": "v", "zero": ZERO}));
}

/// Bytes that are no text are an error in every format, or base64 if that is asked for.
#[test]
fn bytes_that_are_no_text() {
    let world = World::local();
    let bytes: Vec<u8> = (0..=255).rev().collect();
    world.run_with(&bytes, ["put", "keystore", "-"]).ok("keystore has been stored\n");
    world.run(["put", "text", "v"]).ok("text has been stored\n");
    world.run(["get", "-n", "keystore"]).ok(&bytes);
    for format in ["json", "csv", "yaml", "dotenv", "shell"] {
        let refused = world.run(["getall", "-f", format]);
        refused.fails(1, "keystore: its value is not UTF-8 text").mentions("--binary base64");
    }

    let encoded = world.run(["getall", "--binary", "base64"]);
    assert_eq!(encoded.code, Some(0), "{encoded}");
    encoded.mentions("keystore is not UTF-8 text, and written as base64");
    assert_eq!(encoded.json()["text"], "v");
    let decode =
        "import base64, json, sys; sys.stdout.buffer.write(base64.b64decode(json.load(sys.stdin)['keystore']))";
    assert_eq!(world.script(decode, &[], &encoded.stdout), bytes);
    for format in ["csv", "yaml", "dotenv", "shell"] {
        let encoded = world.run(["getall", "-f", format, "--binary", "base64"]);
        assert_eq!(encoded.code, Some(0), "{encoded}");
        assert!(encoded.text().contains("//79/Pv6"), "{encoded}");
    }
}

/// Nothing to write has its own form in each format, and getall ends with one more line feed than a pattern.
#[test]
fn empty_stores() {
    let world = World::local();
    for (format, pattern, all) in
        [("json", "{}", "{}\n"), ("csv", "", "\n"), ("dotenv", "", "\n"), ("yaml", "{}\n", "{}\n\n"), ("shell", "", "")]
    {
        world.run(["get", "*", "-f", format]).ok(pattern);
        world.run(["getall", "-f", format]).ok(all);
    }
}

/// What is written as JSON is what putall reads.
#[test]
fn json_is_read_back_by_putall() {
    let (world, stored) = world_of(&[NASTY, &[ZERO]].concat());
    let written = world.run(["getall"]);
    let copy = World::local();
    let put = copy.run_with(&written.stdout, ["putall", "-"]);
    assert_eq!(put.code, Some(0), "{put}");
    assert_eq!(copy.run(["getall"]).json(), Value::from_iter(stored));
}

/// The order of lines is that of the names, in every format.
#[test]
fn lines_are_sorted_by_name() {
    let world = World::local();
    for name in ["b", "a", "ä", "Z", "a.b", "a-b"] {
        world.run(["put", name, "v"]).ok(format!("{name} has been stored\n"));
    }
    world.run(["getall", "-f", "csv"]).ok("Z,v\na,v\na-b,v\na.b,v\nb,v\nä,v\n\n");
    world.run(["keys"]).ok("Z\na\na-b\na.b\nb\nä\n");
}
