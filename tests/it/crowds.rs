//! Many processes at once: writers of one name, readers beside them, and several that set one store up.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::world::{Ran, World};

/// Starts a command and leaves it to itself; a crowd may keep a server busy for longer than users wait for an answer.
fn start(world: &World, args: &[&str]) -> Child {
    world
        .command([&["--timeout-connect", "60", "--timeout-read", "300"], args].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs")
}

/// How each ended: its exit code, and what it printed and said.
fn ends(children: Vec<Child>) -> Vec<(Option<i32>, String, String)> {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let end = |child: Child| {
        let output = child.wait_with_output().expect("its output can be read");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    children.into_iter().map(end).collect()
}

fn all_stored(name: &str, ended: &[(Option<i32>, String, String)]) {
    for (code, stdout, stderr) in ended {
        assert_eq!((*code, stdout, stderr.as_str()), (Some(0), &format!("{name} has been stored\n"), ""));
    }
}

// --- writers and readers --------------------------------------------------------------------------------------------

const WRITERS: usize = 100;

/// Long enough to have a beginning and an end that could come apart.
fn value(writer: usize) -> String {
    format!("{writer:02}").repeat(2000)
}

#[test]
fn a_hundred_writers_of_one_name_in_sqlite() {
    let world = World::local();
    // Who makes the store and the key on a new machine is a race of its own, below.
    world.run(["setup"]);
    a_hundred_puts_give_a_hundred_versions(&world);
}

#[test]
fn a_hundred_writers_of_one_name_in_dynamodb() {
    let mut world = World::dynamodb();
    // As often as users try: a hundred processes and a server are a crowd for one machine.
    world.unset("AWS_MAX_ATTEMPTS");
    a_hundred_puts_give_a_hundred_versions(&world);
}

/// None of them fails, none overwrites another, none leaves a gap; and whoever reads meanwhile finds a whole value.
fn a_hundred_puts_give_a_hundred_versions(world: &World) {
    let values: BTreeSet<String> = (0..WRITERS).map(value).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers = [
            scope.spawn(|| read_until(&done, || seen_by_get(&world.run(["get", "-n", "name"])), &values)),
            scope.spawn(|| read_until(&done, || seen_by_getall(&world.run(["getall"])), &values)),
        ];
        let writers = (0..WRITERS).map(|writer| start(world, &["put", "-a", "name", &value(writer)])).collect();
        let ended = ends(writers);
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(
                reader.join().expect("it has read what may be read") > 0,
                "a reader found nothing in all this time"
            );
        }
        all_stored("name", &ended);
    });

    let versions: Vec<String> = (1..=WRITERS).map(|version| format!("{version:019}")).collect();
    let listed: String = versions.iter().map(|version| format!("name -- version {version} -- comment \n")).collect();
    world.run(["list"]).ok(listed);
    let read = |version: &String| world.run(["get", "-n", "name", "-v", version]).text().to_owned();
    // Two at a time: there are not many more processors.
    let (early, late) = versions.split_at(WRITERS / 2);
    let stored: BTreeSet<String> = thread::scope(|scope| {
        let early = scope.spawn(|| early.iter().map(read).collect::<Vec<_>>());
        late.iter().map(read).chain(early.join().expect("read")).collect()
    });
    assert!(stored == values, "each value is in one version");
}

/// Reads again and again; gives how often there was something. What was there once stays there.
fn read_until(done: &AtomicBool, read: impl Fn() -> Option<String>, values: &BTreeSet<String>) -> usize {
    let mut found = 0;
    // Once more at the end, so that a reader that was slow to start finds something too.
    let mut last = false;
    while !last {
        last = done.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(50));
        match read() {
            Some(value) => {
                assert!(values.contains(&value), "nobody has put this: {value}");
                found += 1;
            }
            None => assert_eq!(found, 0, "it was there before"),
        }
    }
    found
}

/// The value, or that it is not there yet; nothing else may be said.
fn seen_by_get(ran: &Ran) -> Option<String> {
    if ran.code == Some(1) {
        ran.fails(1, "Item {'name': 'name'} couldn't be found.");
        return None;
    }
    ran.prints(&ran.stdout).says("");
    Some(ran.text().to_owned())
}

fn seen_by_getall(ran: &Ran) -> Option<String> {
    ran.prints(&ran.stdout).says("");
    let all = ran.json();
    all.get("name").map(|value| value.as_str().expect("a text").to_owned())
}

/// Of several that put the same version, one stores it, and the others say that it is there.
#[test]
fn one_of_many_gets_a_version() {
    for world in [World::local(), World::dynamodb()] {
        let put = |writer: usize| start(&world, &["put", "name", &value(writer)]);
        let ended = ends((0..8).map(put).collect());
        let stored: Vec<_> = (0..8).filter(|writer| ended[*writer].0 == Some(0)).collect();
        assert_eq!(stored.len(), 1, "{ended:?}");
        let refused: Vec<_> = ended.iter().filter(|(code, ..)| *code == Some(1)).collect();
        assert_eq!(refused.len(), 7, "{ended:?}");
        assert!(refused.iter().all(|(.., stderr)| stderr.contains("is already in the credential store")), "{ended:?}");
        world.run(["get", "-n", "name"]).ok(value(stored[0]));
    }
}

// --- a place where nothing is yet -----------------------------------------------------------------------------------

/// On a machine where nothing is there yet: one store, one key, nothing lost.
#[test]
fn the_first_use_may_be_many_at_once() {
    let world = World::local();
    let names: Vec<String> = (0..12).map(|number| format!("name-{number:02}")).collect();
    let children: Vec<_> = names.iter().map(|name| start(&world, &["put", name, "v"])).collect();
    for (name, ended) in names.iter().zip(ends(children)) {
        all_stored(name, &[ended]);
    }
    let expected: serde_json::Map<_, _> = names.into_iter().map(|name| (name, json!("v"))).collect();
    assert_eq!(world.run(["getall"]).json(), json!(expected));
    let folder = std::fs::read_dir(world.home(".local/share/credstash")).expect("a folder");
    assert_eq!(folder.count(), 2, "the store and the key, and no draft");
}

/// Ten times in a row, since there is one moment only in which they can meet.
#[test]
fn ten_may_set_up_one_store() {
    for _ in 0..10 {
        let world = World::local();
        ten_setups(&world);
        world.run(["put", "a", "v"]).ok("a has been stored\n");
        world.run(["get", "a"]).ok("v\n");
    }
}

/// moto, since DynamoDB Local has no tags, and a setup there fails after it has made the table.
#[test]
fn ten_may_set_up_one_table() {
    for _ in 0..3 {
        let mut world = World::moto_without_table();
        // As often as users try: moto fails now and then when another thread of it makes a table meanwhile.
        world.unset("AWS_MAX_ATTEMPTS");
        ten_setups(&world);
        world.run(["put", "a", "v"]).ok("a has been stored\n");
        world.run(["get", "a"]).ok("v\n");
    }
}

/// Each succeeds, and at least one has made it.
fn ten_setups(world: &World) {
    let ended = ends((0..10).map(|_| start(world, &["setup"])).collect());
    for (code, stdout, stderr) in &ended {
        assert_eq!((*code, stderr.as_str()), (Some(0), ""), "{stdout}");
        let last = stdout.lines().last().expect("a line");
        assert!(
            last == "Credential Store table already exists" || last.starts_with("Table has been created. "),
            "{stdout}"
        );
    }
    assert!(ended.iter().any(|(_, stdout, _)| stdout.contains("Table has been created. ")), "{ended:?}");
}
