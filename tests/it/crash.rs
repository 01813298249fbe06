//! SIGKILL at any moment: what was acknowledged is there, what is there is whole, and a second run finishes the job.
//!
//! A command is killed again and again, at moments that are spread from its start to somewhat beyond its normal end.
//! How often is `CREDSTASH_TEST_KILLS`, by default [`KILLS`] for each command and store; 200 take a minute each. The
//! moments come from a seed, which is shown with a failure, and can be given in `CREDSTASH_TEST_SEED`.
//!
//! What was on its way to a server when the process died may arrive after we have looked: so a second run may find more
//! done than we did, and never less.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{Ran, SECRET, World};

const KILLS: u64 = 15;

/// The last moment to kill, as a part of the normal duration.
const BEYOND: f64 = 1.3;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().expect("a number"))
}

fn rounds() -> u64 {
    setting("CREDSTASH_TEST_KILLS").unwrap_or(KILLS)
}

/// Kills commands of one kind.
struct Killer {
    what: &'static str,
    random: u64,
    rounds: u64,
    /// How long the command takes when it is left alone, as far as is known.
    normal: Duration,
    killed: u64,
    /// How many of the killed had acknowledged something before.
    acknowledged: u64,
}

#[allow(clippy::print_stdout, reason = "shown with a failure, or with --nocapture")]
impl Killer {
    /// `run` does the same as will be killed, and not in the way of it; the argument is another one each time.
    fn new(what: &'static str, run: impl Fn(usize)) -> Self {
        let seed = setting("CREDSTASH_TEST_SEED").unwrap_or_else(|| getrandom::u64().expect("random bytes"));
        let mut times = [0, 1, 2].map(|time| {
            let begun = Instant::now();
            run(time);
            begun.elapsed()
        });
        times.sort();
        let normal = times[1];
        println!("{what}: CREDSTASH_TEST_SEED={seed}, killed in the first {:?}", normal.mul_f64(BEYOND));
        Self { what, random: seed, rounds: rounds(), normal, killed: 0, acknowledged: 0 }
    }

    /// From the start to somewhat beyond the normal end: by the top 53 bits of the next number of SplitMix64.
    fn moment(&mut self) -> Duration {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let fraction = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        self.normal.mul_f64(BEYOND * fraction)
    }

    /// Runs the command until its moment comes; gives the lines that were on standard output by then.
    fn kill(&mut self, mut command: Command, stdin: &str) -> Vec<String> {
        let moment = self.moment();
        let begun = Instant::now();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        child.stdin.take().expect("stdin is piped").write_all(stdin.as_bytes()).expect("it fits into the pipe");
        std::thread::sleep(moment.saturating_sub(begun.elapsed()));
        child.kill().expect("killed, or ended before");
        let output = child.wait_with_output().expect("its output can be read");
        let stdout = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(!String::from_utf8_lossy(&output.stderr).contains(SECRET), "a secret is on stderr");
        let lines: Vec<_> = stdout.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).collect();
        // How busy the machine is changes. So balanced, three of four are killed, and the last moment is about the normal end.
        if output.status.signal() == Some(9) {
            self.killed += 1;
            self.acknowledged += u64::from(!lines.is_empty());
            self.normal = self.normal.mul_f64(1.1);
        } else {
            self.normal = self.normal.mul_f64(0.75);
        }
        lines.into_iter().map(str::to_owned).collect()
    }

    /// A test in which nothing was killed has shown nothing.
    fn finish(self) {
        let Self { what, rounds, normal, killed, acknowledged, .. } = self;
        println!("{what}: {rounds} rounds, {killed} killed, {acknowledged} of them after a line; {normal:?} at last");
        assert!(killed > rounds / 10, "{killed} of {rounds} were killed before they ended");
    }
}

/// A world whose temporary files can be seen.
fn watched(mut world: World) -> World {
    let folder = world.path("temporary");
    fs::create_dir(&folder).expect("made");
    world.set("TMPDIR", folder);
    world
}

fn value(round: u64) -> String {
    format!("{SECRET} {round}")
}

/// No file anywhere below this world's folder holds a plaintext.
fn nothing_is_plain(world: &World) {
    for path in world.everything().into_iter().filter(|path| path.is_file()) {
        let bytes = fs::read(&path).expect("read");
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "a secret is in {}", path.display());
    }
}

fn has_ended_well(ran: &Ran) {
    ran.prints(&ran.stdout).says("");
}

// --- put ------------------------------------------------------------------------------------------------------------

#[test]
fn killed_puts_in_sqlite() {
    killed_puts("put, SQLite", &watched(World::local()));
}

#[test]
fn killed_puts_in_dynamodb() {
    killed_puts("put, DynamoDB", &watched(World::dynamodb()));
}

fn killed_puts(what: &'static str, world: &World) {
    let mut expected = BTreeMap::new();
    let mut killer = Killer::new(what, |time| has_ended_well(&world.run(["put", &format!("normal-{time}"), "v"])));
    expected.extend((0..3).map(|time| (format!("normal-{time}"), "v".to_owned())));
    for round in 0..killer.rounds {
        let (name, value) = (format!("name-{round}"), value(round));
        let stored = format!("{name} has been stored");
        let acknowledged = killer.kill(world.command(["put", &name, &value]), "") == [stored.as_str()];

        let read = world.run(["get", "-n", &name]);
        let exists = read.code == Some(0);
        match exists {
            true => read.ok(&value),
            false => read.fails(1, "couldn't be found"),
        };
        assert!(exists || !acknowledged, "round {round}: it was acknowledged\n{read}");
        let again = world.run(["put", &name, &value]);
        match again.code {
            Some(0) => assert!(!exists, "round {round}: it was there\n{again}"),
            _ => drop(again.fails(1, "is already in the credential store")),
        }
        world.run(["get", "-n", &name]).ok(&value);
        expected.insert(name, value);
        let listed = world.run(["keys"]);
        assert_eq!(listed.text().lines().count(), expected.len(), "round {round}\n{listed}");
        nothing_is_plain(world);
    }
    world.run(["get", "name-0"]).ok(format!("{}\n", value(0)));
    assert_eq!(world.run(["getall"]).json(), json!(expected));
    killer.finish();
}

// --- putall ---------------------------------------------------------------------------------------------------------

/// More than are stored at a time.
const NAMES: u64 = 20;

/// Each round makes the store and its key, too.
#[test]
fn killed_putalls_in_sqlite() {
    let world = watched(World::no_cloud());
    killed_putalls("putall, SQLite", &world, |round| format!("sqlite:{round}/store.db"));
}

#[test]
fn killed_putalls_in_dynamodb() {
    let world = watched(World::dynamodb());
    killed_putalls("putall, DynamoDB", &world, |round| {
        let table = format!("{}-{round}", world.table());
        world.create_table(&table);
        format!("dynamodb:{table}")
    });
}

fn killed_putalls(what: &'static str, world: &World, new_store: impl Fn(String) -> String) {
    let document = |round| (0..NAMES).map(|name| (format!("name-{name:02}"), json!(value(round)))).collect();
    let document = |round| Value::Object(document(round));
    let mut killer = Killer::new(what, |time| {
        let store = new_store(format!("normal-{time}"));
        has_ended_well(&world.run_with(document(0).to_string().as_bytes(), ["--store", &store, "putall", "-"]));
    });
    for round in 0..killer.rounds {
        let store = new_store(format!("round-{round}"));
        let (all, text) = (document(round), document(round).to_string());
        let lines = killer.kill(world.command(["--store", &store, "putall", "-"]), &text);

        let read = world.run(["--store", &store, "getall"]);
        // Of an embedded store there may be nothing yet, or the key alone.
        let there = match read.code {
            Some(0) => read.json(),
            _ => {
                read.fails(1, "credstash setup");
                json!({})
            }
        };
        let there = there.as_object().expect("an object");
        assert!(there.iter().all(|(name, value)| all[name] == *value), "round {round}\n{read}");
        for line in &lines {
            let name = line.strip_suffix(" has been stored").expect("nothing else is said");
            assert!(there.contains_key(name), "round {round}: {name} was acknowledged\n{read}");
        }
        let again = world.run_with(text.as_bytes(), ["--store", &store, "putall", "-"]);
        let (stored, missing) = (again.text().lines().count(), NAMES as usize - there.len());
        assert!(stored <= missing, "round {round}: {missing} were missing\n{again}");
        assert_eq!(again.code, Some(i32::from(stored < NAMES as usize)), "{again}");
        let read = world.run(["--store", &store, "getall"]);
        assert_eq!(read.json(), all, "round {round}");
        nothing_is_plain(world);
    }
    killer.finish();
}

// --- delete ---------------------------------------------------------------------------------------------------------

const VERSIONS: usize = 5;

#[test]
fn killed_deletes_in_sqlite() {
    killed_deletes("delete, SQLite", &watched(World::local()));
}

#[test]
fn killed_deletes_in_dynamodb() {
    killed_deletes("delete, DynamoDB", &watched(World::dynamodb()));
}

fn killed_deletes(what: &'static str, world: &World) {
    let rounds = rounds();
    let names = (0..rounds).map(|round| format!("name-{round}")).chain((0..3).map(|time| format!("normal-{time}")));
    let document: serde_json::Map<_, _> = names.map(|name| (name, json!(value(0)))).collect();
    let document = Value::Object(document).to_string();
    for version in 1..=VERSIONS {
        has_ended_well(&world.run_with(document.as_bytes(), ["putall", "-", "-v", &version.to_string()]));
    }
    let mut killer = Killer::new(what, |time| has_ended_well(&world.run(["delete", &format!("normal-{time}")])));
    for round in 0..rounds {
        let name = format!("name-{round}");
        let lines = killer.kill(world.command(["delete", &name]), "");
        // What goes was said before; and the newest goes last, so that no older one comes back in its place.
        let listed = world.run(["list"]);
        let is_listed = |version: usize| {
            let mut lines = listed.text().lines().filter(|line| line.split(' ').next() == Some(&name));
            lines.any(|line| line.contains(&format!("-- version {version:019} --")))
        };
        let left: Vec<usize> = (1..=VERSIONS).filter(|version| is_listed(*version)).collect();
        for version in (1..=VERSIONS).filter(|version| !left.contains(version)) {
            let said = format!("Deleting {name} -- version {version:019}");
            assert!(lines.contains(&said), "round {round}: {lines:?}\n{listed}");
        }
        assert!(left.is_empty() || left.contains(&VERSIONS), "round {round}\n{listed}");
        let others = (rounds - round - 1) as usize * VERSIONS;
        assert_eq!(listed.text().lines().count(), others + left.len(), "round {round}: the others stay\n{listed}");
        for again in [world.run(["get", "-n", &name]), world.run(["delete", &name])] {
            match again.code {
                Some(0) => assert!(!left.is_empty(), "round {round}: it was gone\n{again}"),
                _ => drop(again.fails(1, "couldn't be found")),
            }
        }
        world.run(["get", &name]).fails(1, "couldn't be found");
        nothing_is_plain(world);
    }
    world.run(["list"]).ok("");
    killer.finish();
}

// --- setup ----------------------------------------------------------------------------------------------------------

#[test]
fn killed_setups_in_sqlite() {
    let world = watched(World::no_cloud());
    killed_setups("setup, SQLite", &world, |round| format!("sqlite:{round}/deep/store.db"));
}

/// moto, since DynamoDB Local has no tags, and a setup there fails after it has made the table.
#[test]
fn killed_setups_in_dynamodb() {
    let world = watched(World::moto_without_table());
    killed_setups("setup, moto", &world, |round| format!("dynamodb:{}-{round}", world.table()));
}

fn killed_setups(what: &'static str, world: &World, store: impl Fn(String) -> String) {
    let mut killer = Killer::new(what, |time| {
        has_ended_well(&world.run(["--store", &store(format!("normal-{time}")), "setup"]));
    });
    for round in 0..killer.rounds {
        let store = store(format!("round-{round}"));
        let store = ["--store", &store];
        let lines = killer.kill(world.command([&store[..], &["setup"]].concat()), "");
        let is_made = lines.iter().any(|line| line.starts_with("Table has been created."));

        let list = world.run([&store[..], &["list"]].concat());
        match list.code {
            Some(0) => list.ok(""),
            _ => list.fails(1, "credstash setup"),
        };
        assert!(list.code == Some(0) || !is_made, "round {round}: it was acknowledged\n{list}");
        has_ended_well(&world.run([&store[..], &["setup"]].concat()));
        let value = value(round);
        world.run([&store[..], &["put", "a", &value]].concat()).ok("a has been stored\n");
        world.run([&store[..], &["get", "-n", "a"]].concat()).ok(value);
        nothing_is_plain(world);
    }
    killer.finish();
}
