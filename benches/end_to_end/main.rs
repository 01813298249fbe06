//! The release program beside its peers, on services that count: what a command takes, from its start to its end.
//!
//! ```text
//! end_to_end --program PATH [--python PATH] [--rounds N] [SECTION...]
//! ```
//!
//! `scripts/bench` builds the program, installs the peers and runs this; README.md in the folder above says what the
//! figures are.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it prints its results, and what it is doing")]

#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/it/loopback.rs"]
mod loopback;
mod measure;
mod table;

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::loopback::{Limit, Loopback, Settings, name, value};
use crate::measure::{LAUNCH, Run, count, launch};
use crate::table::{
    Line, Table,
    Unit::{self, Calls, Megabytes, Milliseconds, Number, RoundTrips, Seconds},
};

/// Measures something, and adds its lines to the table.
type Section = fn(&Bench, &mut Table);

/// The sections in the order of the table.
const SECTIONS: [(&str, Section); 12] = [
    ("startup", startup),
    ("get", get),
    ("tls", get_over_tls),
    ("roundtrips", round_trips),
    ("getall", getall),
    ("growth", growth),
    ("quota", quota),
    ("list", list),
    ("write", write),
    ("race", race),
    ("sqlite", sqlite),
    ("size", size),
];

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1);
    if std::env::args_os().nth(1).is_some_and(|first| first == LAUNCH) {
        return launch(args.skip(1));
    }
    let args: Vec<String> = args.map(|arg| arg.into_string().expect("UTF-8")).filter(|arg| arg != "--bench").collect();
    let (bench, wanted) = Bench::from_args(args);
    println!("{}\n", machine());
    let mut table = Table::default();
    for (section, measure) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == section) {
            eprintln!("measuring {section}");
            measure(&bench, &mut table);
        }
    }
    println!("{table}");
    ExitCode::SUCCESS
}

/// Where the figures are from, and how busy it was.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo");
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "Machine: {cores} x {}, {}; load at the start {load}.",
        processor.map_or("a processor", |(_, name)| name),
        std::env::consts::OS
    )
}

// --- the programs ---------------------------------------------------------------------------------------------------

/// The programs, and where they run.
struct Bench {
    program: PathBuf,
    python: Option<PathBuf>,
    sqlite3: bool,
    /// How often a short command runs; a long one runs a fifth of that.
    rounds: usize,
    folder: TempDir,
}

/// The runs of one command, and those of a peer that were taken in turns with them.
struct Pair {
    ours: Vec<Run>,
    peer: Vec<Run>,
}

impl Bench {
    /// Gives the names of the sections that are asked for, too.
    fn from_args(args: Vec<String>) -> (Self, Vec<String>) {
        let (mut program, mut python, mut rounds, mut sections) = (None, None, 10, Vec::new());
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
            match arg.as_str() {
                "--program" => program = Some(value().into()),
                "--python" => python = Some(value().into()),
                "--rounds" => rounds = value().parse().expect("a number of rounds"),
                section if SECTIONS.iter().any(|(name, _)| *name == section) => sections.push(arg),
                _ => panic!("{arg} is none of {:?}", SECTIONS.map(|(name, _)| name)),
            }
        }
        let sqlite3 = Command::new("sqlite3").arg("--version").stdout(Stdio::null()).status().is_ok();
        let folder = tempfile::tempdir().expect("a temporary folder");
        (Self { program: program.expect("--program"), python, sqlite3, rounds, folder }, sections)
    }

    fn few_rounds(&self) -> usize {
        self.rounds.div_ceil(5)
    }

    /// A program with nothing in its environment but what it needs.
    fn command(&self, program: impl AsRef<OsStr>, services: Option<&Loopback>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("AWS_EC2_METADATA_DISABLED", "true");
        if let Some(services) = services {
            command.envs(services.environment());
            if let Some(certificate) = &services.certificate {
                command.env("AWS_CA_BUNDLE", self.file("ca.pem", certificate));
            }
        }
        command
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).expect("written");
        path
    }

    /// Runs a command on services that count it alone.
    fn counted(&self, program: &Path, services: &Loopback, args: &[String]) -> Run {
        services.reset();
        let mut run = Run::of(self.command(program, Some(services)).args(args));
        run.counts = services.counts();
        run
    }

    /// Runs the program and Python in turns; `args` gets another number for each run.
    fn beside_python<const N: usize>(
        &self,
        rounds: usize,
        services: &Loopback,
        args: impl Fn(usize) -> [String; N],
    ) -> Pair {
        let runs = Cell::new(0);
        let run = |program: &Path| self.counted(program, services, &args(runs.replace(runs.get() + 1)));
        Pair::in_turns(rounds, || run(&self.program), self.python.as_deref().map(|python| || run(python)))
    }

    /// Runs the program alone.
    fn alone(&self, rounds: usize, services: &Loopback, args: &[String]) -> Pair {
        Pair::in_turns(rounds, || self.counted(&self.program, services, args), None::<fn() -> Run>)
    }
}

impl Pair {
    fn in_turns(rounds: usize, mut ours: impl FnMut() -> Run, mut peer: Option<impl FnMut() -> Run>) -> Self {
        let mut pair = Self { ours: Vec::new(), peer: Vec::new() };
        for _ in 0..rounds {
            pair.ours.push(ours());
            pair.peer.extend(peer.as_mut().map(|peer| peer()));
        }
        pair
    }

    /// Adds the median of a figure of the runs to the table.
    fn line<'a>(
        &self,
        table: &'a mut Table,
        figure: impl Into<String>,
        unit: Unit,
        of: impl Fn(&Run) -> f64,
    ) -> &'a mut Line {
        let peer = (!self.peer.is_empty()).then(|| median(&self.peer, &of));
        table.line(figure, unit, median(&self.ours, &of), peer)
    }
}

fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().map(of).collect();
    figures.sort_unstable_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len().is_multiple_of(2) { f64::midpoint(figures[middle - 1], figures[middle]) } else { figures[middle] }
}

/// Arguments of a command that are the same in each run.
fn same<const N: usize>(args: [&str; N]) -> impl Fn(usize) -> [String; N] {
    move |_| args.map(str::to_owned)
}

/// Services so far away, where a connection takes as long as two requests.
fn network(round_trip: u64) -> Settings {
    Settings { round_trip: Duration::from_millis(round_trip), set_up: 2, ..Settings::default() }
}

/// A JSON document of so many credentials.
fn document(names: usize) -> String {
    let member = |index| (name(index), Value::from(value(&name(index), 1)));
    Value::Object((0..names).map(member).collect::<Map<_, _>>()).to_string()
}

// --- one credential -------------------------------------------------------------------------------------------------

/// Python has no `--version`.
fn startup(bench: &Bench, table: &mut Table) {
    let run = |program: &Path, args: &str| Run::of(bench.command(program, None).arg(args));
    let python = bench.python.as_deref().map(|python| || run(python, "--help"));
    let pair = Pair::in_turns(bench.rounds, || run(&bench.program, "--version"), python);
    pair.line(table, "--version (Python: --help): CPU", Milliseconds, Run::cpu).at_most(3.0);
    pair.line(table, "--version (Python: --help): memory", Megabytes, Run::memory).at_most(5.0);
}

fn get(bench: &Bench, table: &mut Table) {
    let pair = get_from(bench, Settings::default());
    pair.line(table, "get, HTTP: CPU", Milliseconds, Run::cpu).at_most(5.0);
    pair.line(table, "get, HTTP: CPU, beside Python", Milliseconds, Run::cpu).times_less(80.0);
    pair.line(table, "get, HTTP: wall", Milliseconds, |run| run.wall() * 1e3);
    pair.line(table, "get, HTTP: memory", Megabytes, Run::memory).at_most(10.0);
}

fn get_over_tls(bench: &Bench, table: &mut Table) {
    let pair = get_from(bench, Settings { tls: true, ..Settings::default() });
    pair.line(table, "get, TLS: CPU", Milliseconds, Run::cpu).at_most(8.0);
    pair.line(table, "get, TLS: memory", Megabytes, Run::memory);
}

fn get_from(bench: &Bench, settings: Settings) -> Pair {
    let services = Loopback::start(settings);
    services.load(100, 3);
    let pair = bench.beside_python(bench.rounds, &services, same(["get", &name(50)]));
    let expected = value(&name(50), 3);
    for run in pair.ours.iter().chain(&pair.peer) {
        assert!(run.stdout.starts_with(expected.as_bytes()), "another value was read");
    }
    pair
}

fn round_trips(bench: &Bench, table: &mut Table) {
    let services = Loopback::start(network(20));
    services.load(100, 3);
    let rounds = bench.few_rounds();
    let pair = bench.beside_python(rounds, &services, same(["get", &name(50)]));
    pair.line(table, "get, round trips", RoundTrips, Run::round_trips).at_most(4.0);
    let pair = bench.beside_python(rounds, &services, |run| ["put".to_owned(), format!("new-{run}"), "x".to_owned()]);
    pair.line(table, "put, round trips", RoundTrips, Run::round_trips).at_most(4.0);
    let pair = bench.beside_python(rounds, &services, same(["put", "-a", &name(50), "x"]));
    pair.line(table, "put -a, round trips", RoundTrips, Run::round_trips).at_most(4.0);
}

// --- many credentials -----------------------------------------------------------------------------------------------

fn getall(bench: &Bench, table: &mut Table) {
    for (names, latency) in [(100, 0), (1000, 0), (100, 10), (1000, 10)] {
        let services = Loopback::start(network(latency));
        services.load(names, 1);
        let pair = bench.beside_python(bench.few_rounds(), &services, same(["getall"]));
        let what = format!("getall of {names} at {latency} ms");
        pair.line(table, format!("{what}: CPU"), Milliseconds, Run::cpu);
        let wall = pair.line(table, format!("{what}: wall"), Seconds, Run::wall);
        if (names, latency) == (1000, 10) {
            wall.times_less(20.0);
        }
        pair.line(table, format!("{what}: calls"), Calls, Run::calls);
        if latency > 0 {
            let round_trips = pair.line(table, format!("{what}: round trips"), RoundTrips, Run::round_trips);
            if names == 1000 {
                round_trips.at_most(30.0);
            }
        }
    }
}

/// Whether five times the credentials take more than five times as much.
fn growth(bench: &Bench, table: &mut Table) {
    const SMALL: usize = 1000;
    const LARGE: usize = 5000;
    let [small, large] = [SMALL, LARGE].map(|names| {
        let services = Loopback::start(Settings::default());
        services.load(names, 10);
        bench.alone(bench.few_rounds(), &services, &["getall".to_owned()])
    });
    let [cpu_of_small, cpu_of_large] = [&small, &large].map(|pair| median(&pair.ours, Run::cpu));
    let exponent = (cpu_of_large / cpu_of_small).ln() / (count(LARGE) / count(SMALL)).ln();
    table.line("getall of 5000 x 10: growth exponent from 1000", Number, exponent, None).at_most(1.05);
    table.line("getall of 5000 x 10: ms of CPU a credential", Number, cpu_of_large / count(LARGE), None).at_most(0.15);
    large.line(table, "getall of 5000 x 10: memory", Megabytes, Run::memory).at_most(20.0);
}

/// The program alone: Python hangs when a credential cannot be read.
fn quota(bench: &Bench, table: &mut Table) {
    for (names, calls_per_second) in [(1000, 200), (200, 20)] {
        let kms_limit = Some(Limit { calls_per_second, burst: calls_per_second / 10 });
        let services = Loopback::start(Settings { kms_limit, ..network(10) });
        services.load(names, 1);
        let run = bench.counted(&bench.program, &services, &["getall".to_owned()]);
        let values: Map<String, Value> = serde_json::from_slice(&run.stdout).expect("JSON");
        assert_eq!(values.len(), names, "it is complete");
        let what = format!("getall of {names} at {calls_per_second} Decrypts/s");
        let ideal = count(names) / f64::from(calls_per_second);
        table.line(format!("{what}: wall / ideal"), Number, run.wall() / ideal, None).at_most(1.15);
        let decrypts = count(run.counts.calls("Decrypt")) / count(names);
        table.line(format!("{what}: Decrypts each"), Number, decrypts, None).at_most(1.3);
    }
}

fn list(bench: &Bench, table: &mut Table) {
    let services = Loopback::start(Settings::default());
    services.load(10_000, 1);
    for command in ["list", "keys"] {
        let pair = bench.beside_python(bench.few_rounds(), &services, same([command]));
        let what = format!("{command} of 10000");
        pair.line(table, format!("{what}: CPU"), Milliseconds, Run::cpu).at_most(80.0);
        pair.line(table, format!("{what}: memory"), Megabytes, Run::memory).at_most(20.0);
    }
}

/// Python opens new connections for each credential that it stores, so it stores a tenth.
fn write(bench: &Bench, table: &mut Table) {
    const ROWS: usize = 1000;
    let services = Loopback::start(network(10));
    let putall = |names, version: usize| {
        let file = bench.file("credentials.json", &document(names));
        ["putall", &format!("@{}", file.display()), "-v", &version.to_string()].map(str::to_owned)
    };
    let pair = bench.beside_python(1, &services, |run| putall(ROWS / 10, run));
    pair.line(table, "putall of 100 at 10 ms: wall", Seconds, Run::wall);
    pair.line(table, "putall of 100 at 10 ms: round trips", RoundTrips, Run::round_trips);
    let alone = bench.alone(1, &services, &putall(ROWS, 2));
    alone.line(table, "putall of 1000 at 10 ms: wall", Seconds, Run::wall);
    alone.line(table, "putall of 1000 at 10 ms: round trips", RoundTrips, Run::round_trips);

    let services = Loopback::start(network(10));
    let pair = bench.beside_python(1, &services, |_| {
        services.load(1, ROWS);
        ["delete".to_owned(), name(0)]
    });
    assert_eq!(services.rows(), 0, "all are deleted");
    pair.line(table, "delete of 1000 versions at 10 ms: wall", Seconds, Run::wall);
    pair.line(table, "delete of 1000 versions at 10 ms: round trips", RoundTrips, Run::round_trips);
}

/// The program alone: of several Pythons all but one fail.
fn race(bench: &Bench, table: &mut Table) {
    for writers in [20, 100] {
        let services = Loopback::start(network(10));
        let start = Instant::now();
        let put = |_| {
            let mut command = bench.command(&bench.program, Some(&services));
            command.args(["put", "-a", "contended", "x"]).stdout(Stdio::null()).spawn().expect("the program runs")
        };
        let children: Vec<_> = (0..writers).map(put).collect();
        for mut child in children {
            assert!(child.wait().expect("it ends").success(), "a writer fails");
        }
        let wall = start.elapsed().as_secs_f64();
        assert_eq!(services.rows(), writers, "each has a version");
        let calls = count(services.counts().all_calls()) / count(writers);
        table.line(format!("{writers} writers of one name at 10 ms: wall"), Seconds, wall, None);
        table.line(format!("{writers} writers of one name at 10 ms: calls each"), Number, calls, None);
    }
}

// --- the embedded store ---------------------------------------------------------------------------------------------

fn sqlite(bench: &Bench, table: &mut Table) {
    const SIZES: [usize; 3] = [100, 10_000, 100_000];
    let mut first = None;
    for size in SIZES {
        let database = bench.folder.path().join(format!("{size}.db"));
        let ours = |args: &[&str]| {
            let mut command = bench.command(&bench.program, None);
            command.env("CREDSTASH_STORE", format!("sqlite:{}", database.display())).args(args);
            Run::of(&command)
        };
        let document = bench.file("credentials.json", &document(size));
        let putall = ours(&["putall", "-v", "1", &format!("@{}", document.display())]);
        let wanted = name(size / 2);
        let sqlite3 = bench.sqlite3.then_some(|| Run::of(&select_newest(bench, &database, &wanted)));
        let pair = Pair::in_turns(bench.rounds, || ours(&["get", &wanted]), sqlite3);
        let what = format!("SQLite, {size}");
        let cpu = median(&pair.ours, Run::cpu);
        pair.line(table, format!("{what}: get, CPU, beside sqlite3"), Milliseconds, Run::cpu);
        if bench.sqlite3 {
            let times = cpu / median(&pair.peer, Run::cpu);
            table.line(format!("{what}: get, CPU / sqlite3's"), Number, times, None).at_most(3.0);
        }
        let flat = cpu / *first.get_or_insert(cpu);
        if size == SIZES[2] {
            table.line(format!("{what}: get, CPU / that of 100"), Number, flat, None).at_most(1.25);
            table.line(format!("{what}: putall, wall"), Seconds, putall.wall(), None);
            let getall = ours(&["getall"]);
            table.line(format!("{what}: getall, wall"), Seconds, getall.wall(), None);
            table.line(format!("{what}: getall, memory"), Megabytes, getall.memory(), None);
        }
    }
}

/// How the `sqlite3` program reads the row that a `get` reads.
fn select_newest(bench: &Bench, database: &Path, name: &str) -> Command {
    let mut command = bench.command("sqlite3", None);
    let query = format!("SELECT * FROM credential WHERE name = '{name}' ORDER BY version DESC LIMIT 1");
    command.arg(database).arg(query);
    command
}

// --- the program itself ---------------------------------------------------------------------------------------------

fn size(bench: &Bench, table: &mut Table) {
    let bytes = fs::metadata(&bench.program).expect("it is there").len();
    let megabytes = count(usize::try_from(bytes).expect("a small number")) / 1e6;
    table.line("size of the program", Megabytes, megabytes, None).at_most(9.0);
}
