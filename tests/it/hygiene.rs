//! Where a secret must never be: on stderr, in a log, in a file, in a core; and who may open what this program makes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::json;

use crate::servers::servers;
use crate::world::{CLOSED, Ran, World};

/// A value that is nowhere but where this test puts it.
struct Canary {
    text: String,
    /// As which it would give itself away.
    forms: Vec<String>,
}

impl Canary {
    fn new() -> Self {
        let random = || getrandom::u64().expect("random bytes");
        let text = format!("{:016x}{:016x}", random(), random());
        // Base64 of three different kinds, by how many bytes come before; its ends depend on what is beside it.
        let base64 = (0..3).map(|before| {
            let encoded = STANDARD_NO_PAD.encode([&vec![0; before], text.as_bytes()].concat());
            encoded[(before * 8).div_ceil(6)..(before + text.len()) * 8 / 6].to_owned()
        });
        let hex = hex::encode(&text);
        let forms = base64.chain([text.clone(), hex.to_uppercase(), hex]).collect();
        Self { text, forms }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let is_there = |form: &String| bytes.windows(form.len()).any(|window| window == form.as_bytes());
        self.forms.iter().any(is_there)
    }
}

#[test]
fn a_canary_is_found_in_each_form() {
    let canary = Canary::new();
    let text = canary.text.as_bytes();
    for before in ["", "a", "ab", "abc"] {
        let beside = [before.as_bytes(), text, b"xyz"].concat();
        for form in [STANDARD_NO_PAD.encode(&beside), hex::encode(&beside), hex::encode_upper(&beside)] {
            assert!(canary.is_in(form.as_bytes()), "{form}");
        }
        assert!(canary.is_in(&beside));
    }
    assert!(!canary.is_in(Canary::new().text.as_bytes()));
}

// --- every command --------------------------------------------------------------------------------------------------

#[test]
fn no_command_gives_a_secret_away_on_sqlite() {
    no_command_gives_a_secret_away(World::local());
}

#[test]
fn no_command_gives_a_secret_away_on_dynamodb() {
    no_command_gives_a_secret_away(World::dynamodb());
}

#[test]
fn no_command_gives_a_secret_away_on_moto() {
    no_command_gives_a_secret_away(World::moto());
}

/// Each command at the most talkative of all levels, with the log on stderr and in a file, and with no program in reach
/// that it could hand a secret to.
fn no_command_gives_a_secret_away(mut world: World) {
    let canary = Canary::new();
    let secret = canary.text.as_str();
    let log = world.path("asked-for.log").to_str().expect("UTF-8").to_owned();
    let inputs = [("value", secret.to_owned()), ("document", json!({"file": secret}).to_string())];
    let [value, document] = inputs.map(|(name, content)| format!("@{}", world.file(name, content)));
    for (variable, folder) in [("TMPDIR", "temporary"), ("PATH", "no-programs")] {
        let folder = world.path(folder);
        fs::create_dir(&folder).expect("made");
        world.set(variable, folder);
    }
    world.set("RUST_LOG", "trace").set("RUST_BACKTRACE", "full");

    let typed =
        [json!({"typed": secret}).to_string(), format!("{{\"broken\": \"{secret}"), json!([secret]).to_string()];
    let [typed, broken, list] = &typed;
    let (context, other) = (format!("k={secret}"), format!("k=other{secret}"));
    let (man, no_man) = (world.path("man"), world.path("value/man"));
    let (man, no_man) = (man.to_str().expect("UTF-8"), no_man.to_str().expect("UTF-8"));
    fs::create_dir_all(man).expect("made");
    // What is typed after --log-level, on standard input, and the exit code.
    let commands: &[(&[&str], &str, i32)] = &[
        (&["setup"], "", 0),
        (&["setup", "--save-kms-region", "us-east-1"], "", 0),
        (&["put", "-a", "a", secret], "", 0),
        (&["put", "-a", "b", "-"], secret, 0),
        (&["put", "-a", "c", &value, "-c", "why", "-d", "SHA512"], "", 0),
        (&["put", "-a", "bound", secret, &context], "", 0),
        (&["put", "a", secret], "", 1),
        (&["put", "-a", "a b", secret, "word"], "", 2),
        (&["put", "-a", "a", "correct", "horse", secret], "", 2),
        (&["put", "-a", "a", secret, "-d", "none"], "", 2),
        (&["put", "a", &format!("-x{secret}")], "", 2),
        (&["putall", "-a", typed, &context], "", 0),
        (&["putall", "-a", &document], "", 0),
        (&["putall", "-a", "-"], typed, 0),
        (&["putall", &document, "-v", "1"], "", 1),
        (&["putall", broken], "", 1),
        (&["putall", list], "", 1),
        (&["putall", "-"], secret, 1),
        (&["get", "a"], "", 0),
        (&["get", "-n", "a", "-v", "1"], "", 0),
        (&["get", "bound", &context], "", 0),
        (&["get", "bound", &other], "", 1),
        (&["get", "bound"], "", 1),
        (&["get", "none"], "", 1),
        (&["get", "a*", "-f", "yaml"], "", 0),
        (&["getall"], "", 1),
        (&["getall", &context], "", 1),
        (&["getall", "--skip-undecryptable"], "", 0),
        (&["getall", "--skip-undecryptable", "-f", "csv"], "", 0),
        (&["getall", "--skip-undecryptable", "-f", "dotenv"], "", 0),
        (&["getall", "--skip-undecryptable", "-f", "shell"], "", 0),
        (&["getall", "--skip-undecryptable", "-f", "yaml", "--binary", "base64"], "", 0),
        (&["list"], "", 0),
        (&["keys"], "", 0),
        (&["delete", "a"], "", 0),
        (&["delete", "none"], "", 1),
        (&["completions", "bash"], "", 0),
        (&["man", man], "", 0),
        (&["man", no_man], "", 1),
        (&["get", "--help"], "", 0),
        (&["bogus", secret], "", 2),
    ];
    let run = |world: &World, args: &[&str], stdin: &str| {
        let ran = Ran::of(world.command(args), stdin.as_bytes());
        assert!(!canary.is_in(ran.stderr.as_bytes()), "the secret is on stderr\n{ran}");
        ran
    };
    let logs = [&["--log-level", "TRACE"][..], &["--log-level", "TRACE", "--log-file", &log]];
    for to in logs {
        for (args, stdin, code) in commands {
            let ran = run(&world, &[to, args].concat(), stdin);
            assert!(ran.code == Some(*code), "must exit with {code}\n{ran}");
            let reads = args[0].starts_with("get") && *code == 0 && !args.contains(&"--help");
            assert_eq!(canary.is_in(&ran.stdout), reads, "{ran}");
        }
    }
    // Where no key can be had, whatever needs none may still succeed.
    world.set("AWS_ENDPOINT_URL_KMS", CLOSED).set("AWS_MAX_ATTEMPTS", "1");
    for to in logs {
        for (args, stdin, _) in commands.iter().filter(|(args, ..)| ["put", "putall", "get"].contains(&args[0])) {
            run(&world, &[to, args].concat(), stdin);
        }
    }
    assert!(fs::read_to_string(&log).expect("the log is there").contains("couldn't be found"), "what fails is logged");
    let inputs: BTreeSet<PathBuf> = ["value", "document"].map(|name| world.path(name)).into();
    is_in_no_file(&canary, world.everything().iter().filter(|path| !inputs.contains(*path)));
}

fn is_in_no_file<'a>(canary: &Canary, paths: impl Iterator<Item = &'a PathBuf>) {
    let mut searched = 0;
    for path in paths.filter(|path| path.is_file()) {
        assert!(!canary.is_in(&fs::read(path).expect("read")), "the secret is in {}", path.display());
        searched += 1;
    }
    assert!(searched > 0, "there is no file to search");
}

// --- files ----------------------------------------------------------------------------------------------------------

/// The program with these arguments, in a world where every file that is made is everybody's.
fn without_umask(world: &World, args: &[&str]) -> Command {
    let mut command = world.other("sh");
    command.args(["-c", "umask 000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_credstash")]).args(args);
    command
}

/// The write-ahead log and its index are there only while the store is open: a reader whose output nobody takes holds
/// it open.
#[test]
fn whatever_is_made_is_the_owners_and_holds_no_secret() {
    let world = World::local();
    let canary = Canary::new();
    let before: BTreeSet<PathBuf> = world.everything().into_iter().collect();
    let run = |args: &[&str], stdin: &[u8]| {
        let ran = Ran::of(without_umask(&world, args), stdin);
        assert_eq!(ran.code, Some(0), "{ran}");
    };
    let log = world.path("asked-for.log");
    run(&["setup", "--save-kms-region", "eu-west-1"], b"");
    run(&["--log-level", "TRACE", "--log-file", log.to_str().expect("UTF-8"), "list"], b"");
    let large = "x".repeat(100_000);
    run(&["put", "large", "-"], large.as_bytes());
    run(&["--store", "sqlite:deep/er/store.db?key=other/key", "put", "a", &canary.text], b"");

    let mut reader = without_umask(&world, &["getall"]).stdout(Stdio::piped()).spawn().expect("the program runs");
    let output = BufReader::new(reader.stdout.take().expect("stdout is piped"));
    let folder = world.home(".local/share/credstash");
    let wal = folder.join("credentials.db-wal");
    until("the reader has the store open", || wal.exists());
    run(&["put", "-a", "b", &canary.text], b"");
    assert!(fs::metadata(&wal).expect("there").len() > 0, "the row is in the log");

    let made: Vec<PathBuf> = world.everything().into_iter().filter(|path| !before.contains(path)).collect();
    for name in ["credentials.db", "credentials.db-wal", "credentials.db-shm", "key"] {
        assert!(made.contains(&folder.join(name)), "{name} is not in {made:?}");
    }
    for path in [world.home(".credstash"), log, world.path("deep/er/store.db"), world.path("other/key")] {
        assert!(made.contains(&path), "{} is not in {made:?}", path.display());
    }
    for path in &made {
        let metadata = fs::metadata(path).expect("there");
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o7777, expected, "{}", path.display());
    }
    is_in_no_file(&canary, made.iter());
    let lines = output.lines().map_while(Result::ok).count();
    assert!(lines > 0 && reader.wait().expect("it ends").success());
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not come to it that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

// --- the process ----------------------------------------------------------------------------------------------------

/// Whatever block of memory is freed has been wiped before, even those of the libraries that a value passes through.
#[cfg(target_os = "linux")]
#[test]
fn no_freed_block_holds_a_secret() {
    // Stands before the C library's `free`, and says so if a block holds the marker, which is given to it backwards.
    const WATCH: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char marker[64];
static void (*real_free)(void *);

__attribute__((constructor)) static void start(void) {
    const char *backwards = getenv("BACKWARDS");
    size_t length = backwards ? strlen(backwards) : 0;
    if (length < sizeof marker)
        for (size_t i = 0; i < length; i++)
            marker[i] = backwards[length - 1 - i];
}

void free(void *block) {
    if (!real_free)
        real_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    if (block && *marker && memmem(block, malloc_usable_size(block), marker, strlen(marker)))
        (void)!write(2, "a freed block holds the secret\n", 31);
    real_free(block);
}
"#;
    for mut world in [World::local(), World::dynamodb()] {
        world.file("watch.c", WATCH);
        world.sh("cc -shared -fPIC -O1 -o watch.so watch.c -ldl");
        let canary = Canary::new().text;
        world.set("BACKWARDS", canary.chars().rev().collect::<String>());
        world.set("LD_PRELOAD", world.path("watch.so"));
        // That it watches: a program that wipes nothing.
        let mut careless = world.other(&servers().python);
        careless.args(["-c", "print(input())"]);
        Ran::of(careless, format!("{canary}\n").as_bytes()).mentions("a freed block holds the secret");

        let file = format!("@{}", world.file("value", &canary));
        let stored = "a has been stored\n";
        world.run(["put", "-a", "a", &canary]).ok(stored);
        world.run_with(canary.as_bytes(), ["put", "-a", "a", "-"]).ok(stored);
        world.run(["put", "-a", "a", &file]).ok(stored);
        world.run(["putall", "-a", &json!({"b": format!("\"{canary}\\")}).to_string()]).ok("b has been stored\n");
        world.run(["get", "a"]).ok(format!("{canary}\n"));
        for format in ["json", "csv", "yaml", "dotenv", "shell"] {
            let all = world.run(["getall", "-f", format]);
            assert_eq!((all.code, all.stderr.as_str()), (Some(0), ""), "{all}");
        }
    }
}

/// While a secret is in its memory: no child, no core, nobody who may look into it, and nothing in what all may see.
#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_a_running_program_is_its_own() {
    use std::io::Write as _;
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::{Pid, Uid};

    // Root may look into everything: somebody else must try.
    const NOBODY: u32 = 65534;
    let world = World::local();
    let canary = Canary::new();
    let program = world.path("credstash");
    // By another process: a file that one of this process's children has open for writing cannot be run.
    world.sh(&format!("cp '{}' credstash", env!("CARGO_BIN_EXE_credstash")));
    let everybody = fs::Permissions::from_mode(0o777);
    let root = world.path("").parent().expect("the world's folder").to_owned();
    for path in [&root, &world.path(""), &program] {
        fs::set_permissions(path, everybody.clone()).expect("changed");
    }
    let user = |program: &str, args: &[&str]| {
        let mut command = world.other("sh");
        // As far as others are concerned, cores are welcome.
        command.args(["-c", "ulimit -c unlimited 2>/dev/null; exec \"$@\"", "sh", program]).args(args);
        if Uid::effective().is_root() {
            command.uid(NOBODY);
        }
        command
    };
    let may_read = |pid: u32, file: &str| {
        let ran = Ran::of(user("head", &["-c1", &format!("/proc/{pid}/{file}")]), b"");
        assert!(ran.code == Some(0) || ran.stderr.contains("Permission denied"), "{ran}");
        ran.code == Some(0)
    };

    let mut other = user("sleep", &["60"]).spawn().expect("sleep runs");
    let program = program.to_str().expect("UTF-8");
    let mut waiting = user(program, &["put", "x", "-"]).stdin(Stdio::piped()).spawn().expect("the program runs");
    let mut stdin = waiting.stdin.take().expect("stdin is piped");
    let pid = waiting.id();
    let of_process = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("there");
    let has_no_core = || {
        of_process("limits")
            .lines()
            .any(|line| line.split_whitespace().take(6).eq(["Max", "core", "file", "size", "0", "0"]))
    };
    stdin.write_all(canary.text.as_bytes()).expect("the program reads");
    until("it may leave no core", has_no_core);

    for file in ["environ", "maps"] {
        assert!(may_read(other.id(), file), "of another process of the same user");
        assert!(!may_read(pid, file), "{file}");
    }
    assert!(!may_read(pid, "mem"));
    assert_eq!(of_process(&format!("task/{pid}/children")), "");
    for file in ["cmdline", "comm", "status"] {
        assert!(!canary.is_in(of_process(file).as_bytes()), "{file}");
    }
    if Uid::effective().is_root() {
        assert!(!canary.is_in(of_process("environ").as_bytes()), "environ");
    }

    let before = world.everything();
    // Rust takes the first one for the overflow of a stack, finds that it is none, and leaves the next to the kernel.
    for child in [&mut waiting, &mut other] {
        until("it ends", || {
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGSEGV).expect("sent");
            child.try_wait().expect("a child").is_some()
        });
    }
    let ended = waiting.wait().expect("it ends");
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(Signal::SIGSEGV as i32), false));
    let control = other.wait().expect("it ends");
    // Where cores become files in this folder, that of sleep is one.
    let is_of_sleep = |path: &&Path| {
        control.core_dumped() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core"))
    };
    let after = world.everything();
    let left = after.iter().map(PathBuf::as_path).filter(|path| !before.iter().any(|known| known == path));
    assert_eq!(left.filter(|path| !is_of_sleep(path)).collect::<Vec<_>>(), [] as [&Path; 0]);
}
