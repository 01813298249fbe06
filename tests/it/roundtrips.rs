//! How often the program asks AWS, and how much of that one after the other. Counts and never seconds, so that a slow
//! machine fails nothing.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::loopback::{Counts, Limit, Loopback, Service, Settings, name, value};
use crate::world::{Ran, World};

/// A network on which a connection takes as long as two requests: TCP and TLS. It is slow enough for a program that
/// was built for tests to start both connections in one round trip.
const NETWORK: Settings = Settings {
    round_trip: Duration::from_millis(50),
    set_up: 2,
    tls: false,
    kms_limit: None,
    kms_fails_every: None,
    dynamodb_fails_every: None,
};

/// The program beside services that count.
struct Counted {
    world: World,
    services: Loopback,
}

impl Counted {
    fn new(settings: Settings) -> Self {
        let services = Loopback::start(settings);
        let mut world = World::no_cloud();
        for (variable, value) in services.environment() {
            world.set(variable, value);
        }
        if let Some(certificate) = &services.certificate {
            world.set("AWS_CA_BUNDLE", world.file("ca.pem", certificate));
        }
        // The number of attempts is the program's own.
        world.unset("AWS_MAX_ATTEMPTS");
        Self { world, services }
    }

    /// What a command asks that must print this.
    #[track_caller]
    fn counts_of(&self, args: &[&str], stdout: &str) -> Counts {
        self.services.reset();
        self.world.run(args).prints(stdout);
        self.services.counts()
    }

    /// What a `getall` asks that must print this version of so many credentials.
    #[track_caller]
    fn counts_of_getall(&self, command: Command, names: usize, version: usize) -> Counts {
        self.services.reset();
        let ran = Ran::of(command, b"");
        let printed = ran.prints(&ran.stdout).json();
        let expected = (0..names).map(|index| (name(index), Value::from(value(&name(index), version))));
        assert!(printed == Value::Object(expected.collect()), "the values are others\n{ran}");
        self.services.counts()
    }
}

/// Measures until there are fewer round trips than this, and not for ever: a busy machine, which is late with one thing while
/// another is under way, adds some and takes none away.
#[track_caller]
fn assert_fewer_round_trips(limit: f64, measure: impl Fn() -> Counts) {
    let mut found = Vec::new();
    while found.len() < 5 {
        found.push(measure().round_trips());
        if found.last().is_some_and(|round_trips| *round_trips < limit) {
            return;
        }
    }
    panic!("{found:?} round trips");
}

/// Setting up both connections takes two, side by side; then two calls, of which one needs the answer to the other.
#[track_caller]
fn assert_four_round_trips(measure: impl Fn() -> Counts) {
    assert_fewer_round_trips(4.5, measure);
}

// --- one credential -------------------------------------------------------------------------------------------------

#[test]
fn a_get_takes_four_round_trips() {
    for tls in [false, true] {
        assert_four_round_trips(|| {
            let counted = Counted::new(Settings { tls, ..NETWORK });
            counted.services.load(1, 3);
            let counts = counted.counts_of(&["get", &name(0)], &format!("{}\n", value(&name(0), 3)));
            assert_eq!(counts.operations(), [("Decrypt", 1), ("Query", 1)]);
            counts
        });
    }
}

#[test]
fn a_put_takes_four_round_trips() {
    assert_four_round_trips(|| {
        let counts = Counted::new(NETWORK).counts_of(&["put", "a", "x"], "a has been stored\n");
        assert_eq!(counts.operations(), [("GenerateDataKey", 1), ("PutItem", 1)]);
        counts
    });
}

/// The version and the data key are asked for side by side.
#[test]
fn a_put_of_the_next_version_takes_four_round_trips() {
    assert_four_round_trips(|| {
        let counted = Counted::new(NETWORK);
        counted.services.load(1, 3);
        let stored = format!("{} has been stored\n", name(0));
        let counts = counted.counts_of(&["put", "-a", &name(0), "x"], &stored);
        assert_eq!(counts.operations(), [("GenerateDataKey", 1), ("PutItem", 1), ("Query", 1)]);
        assert_eq!(counted.services.rows(), 4);
        counts
    });
}

// --- many credentials -----------------------------------------------------------------------------------------------

#[test]
fn a_getall_scans_once_and_decrypts_the_newest_of_each() {
    const NAMES: usize = 500;
    const AT_ONCE: usize = 72;
    let counted = Counted::new(NETWORK);
    let pages = counted.services.load(NAMES, 10).div_ceil(1 << 20);
    assert!(pages > 1, "one page would not do");
    let counts = counted.counts_of_getall(counted.world.command(["getall"]), NAMES, 10);
    assert_eq!(counts.operations(), [("Decrypt", NAMES), ("Scan", pages)]);
    assert!(counts.overlap("Decrypt", "Scan"), "nothing is decrypted before the scan has ended");

    let in_flight = counts.most_in_flight(Service::Kms);
    assert!(in_flight <= AT_ONCE, "{in_flight} calls at once");
    assert_eq!(counts.most_in_flight(Service::DynamoDb), 1);
    // One may have been opened for a call that another then took over.
    let connections = counts.connections(Service::Kms);
    assert!(connections <= AT_ONCE + 2, "{connections} connections for {AT_ONCE} calls at once");
    let connections = counts.connections(Service::DynamoDb);
    assert!(connections <= 3, "{connections} connections for one call");
}

#[test]
fn a_getall_needs_few_files() {
    let counted = Counted::new(NETWORK);
    counted.services.load(300, 1);
    let mut limited = counted.world.other("sh");
    limited.args(["-c", "ulimit -n 256; exec \"$0\" getall", env!("CARGO_BIN_EXE_credstash")]);
    counted.counts_of_getall(limited, 300, 1);
}

#[test]
fn a_getall_under_a_quota_is_complete_and_refused_little() {
    const NAMES: usize = 300;
    let limit = Limit { calls_per_second: 200, burst: 20 };
    let counted = Counted::new(Settings { kms_limit: Some(limit), ..NETWORK });
    counted.services.load(NAMES, 1);
    let counts = counted.counts_of_getall(counted.world.command(["getall"]), NAMES, 1);
    assert!(counts.refused > 0, "the quota was not met");
    let calls = counts.calls("Decrypt");
    assert!(calls <= NAMES * 13 / 10, "{calls} calls for {NAMES} credentials");
}

#[test]
fn a_getall_from_failing_services_is_complete_and_repeats_only_what_failed() {
    const NAMES: usize = 300;
    let failing = Settings { kms_fails_every: Some(7), dynamodb_fails_every: Some(2), ..NETWORK };
    let counted = Counted::new(failing);
    let pages = counted.services.load(NAMES, 10).div_ceil(1 << 20);
    let counts = counted.counts_of_getall(counted.world.command(["getall"]), NAMES, 10);
    let scans = counts.calls("Scan");
    assert!(pages < scans && scans <= 2 * pages, "{scans} calls for {pages} pages");
    let calls = counts.calls("Decrypt");
    assert!(NAMES < calls && calls <= NAMES * 7 / 6 + 5, "{calls} calls for {NAMES} credentials");
}

#[test]
fn a_delete_does_not_wait_for_each_version() {
    const VERSIONS: usize = 100;
    let lines: Vec<_> =
        (1..=VERSIONS).map(|version| format!("Deleting {} -- version {version:019}\n", name(0))).collect();
    assert_fewer_round_trips(33.0, || {
        let counted = Counted::new(NETWORK);
        counted.services.load(1, VERSIONS);
        let counts = counted.counts_of(&["delete", &name(0)], &lines.concat());
        assert_eq!(counts.operations(), [("DeleteItem", VERSIONS), ("Query", 1)]);
        assert_eq!(counted.services.rows(), 0);
        counts
    });
}

#[test]
fn a_putall_does_not_wait_for_each_credential() {
    const NAMES: usize = 100;
    let document = (0..NAMES).map(|index| (name(index), Value::from("x"))).collect();
    let document = Value::Object(document).to_string();
    let stored: Vec<_> = (0..NAMES).map(|index| format!("{} has been stored\n", name(index))).collect();
    assert_fewer_round_trips(66.0, || {
        let counted = Counted::new(NETWORK);
        let file = counted.world.file("credentials.json", &document);
        let counts = counted.counts_of(&["putall", &format!("@{file}")], &stored.concat());
        assert_eq!(counts.operations(), [("GenerateDataKey", NAMES), ("PutItem", NAMES)]);
        assert_eq!(counted.services.rows(), NAMES);
        counts
    });
}

// --- many writers ---------------------------------------------------------------------------------------------------

#[test]
fn writers_of_one_name_make_few_calls() {
    const WRITERS: usize = 20;
    let counted = Counted::new(Settings { round_trip: Duration::from_millis(10), ..NETWORK });
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                counted.world.run(["put", "-a", "a", "x"]).ok("a has been stored\n");
            });
        }
    });
    let counts = counted.services.counts();
    assert_eq!(counted.services.rows(), WRITERS);
    assert_eq!(counts.calls("GenerateDataKey"), WRITERS);
    let calls = counts.all_calls();
    assert!(calls <= 15 * WRITERS, "{calls} calls for {WRITERS} writers");
}
