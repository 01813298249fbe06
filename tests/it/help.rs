//! What the program says about itself: help, completions, man pages.

use std::fs;
use std::path::PathBuf;

use crate::world::{Ran, World};

const COMMANDS: [&str; 10] =
    ["completions", "delete", "get", "getall", "keys", "list", "man", "put", "putall", "setup"];

/// Help is compared with files in `tests/golden/transcripts`. After a change on purpose, `UPDATE_TRANSCRIPTS=1 cargo
/// test --test it help` writes them anew; read the difference before you commit it.
#[test]
fn help_is_as_it_was() {
    let world = World::no_cloud();
    is_as_it_was("credstash", &world.run(["-h"]));
    for command in COMMANDS {
        is_as_it_was(&format!("credstash-{command}"), &world.run([command, "-h"]));
        // The long form explains more.
        assert_eq!(world.run([command, "--help"]).code, Some(0), "{command}");
    }
}

#[track_caller]
fn is_as_it_was(name: &str, help: &Ran) {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", "transcripts"].iter().collect();
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        fs::create_dir_all(&folder).expect("made");
        fs::write(&path, &help.stdout).expect("written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    help.ok(expected);
}

/// Whoever comes from the original finds every option, under its name.
#[test]
fn help_names_every_option_of_the_original() {
    let world = World::no_cloud();
    for (command, options) in [
        (&["-h"][..], &["--region", "--kms-region", "--table", "--log-level", "--log-file", "--profile", "--arn"][..]),
        (&["get", "-h"], &["--noline", "--version", "--format"]),
        (&["getall", "-h"], &["--version", "--format"]),
        (&["put", "-h"], &["--key", "--comment", "--version", "--autoversion", "--digest", "--prompt"]),
        (&["putall", "-h"], &["--key", "--comment", "--version", "--autoversion", "--digest"]),
        (&["setup", "-h"], &["--save-kms-region", "--tags"]),
    ] {
        let help = world.run(command);
        for option in options {
            assert!(help.text().contains(option), "{option}\n{help}");
        }
    }
}

/// Each command shows by an example how it is meant, and one line of the program's help says what it does.
#[test]
fn help_has_examples() {
    let world = World::no_cloud();
    let help = world.run(["-h"]);
    for command in COMMANDS {
        assert!(world.run([command, "-h"]).text().contains("Example: "), "{command} has an example");
        let is_described = |line: &str| line.trim().strip_prefix(command).is_some_and(|rest| rest.starts_with("  "));
        assert!(help.text().lines().any(is_described), "{command} is in the help\n{help}");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    World::no_cloud().run(["--version"]).ok(format!("credstash {}\n", env!("CARGO_PKG_VERSION")));
}

/// Codes of colours are for terminals, and not for those who say that they want none.
#[test]
fn no_colours_where_nobody_asked_for_them() {
    let mut world = World::local();
    world.set("TERM", "xterm-256color");
    for args in [&["-h"][..], &["get", "-h"], &["bogus"], &["get"], &["get", "none"], &["list"]] {
        let ran = world.run(args);
        assert!(!ran.stdout.contains(&b'\x1b') && !ran.stderr.contains('\x1b'), "{ran}");
    }
    world.set("NO_COLOR", "1");
    for args in [&["-h"][..], &["get", "-h"], &["bogus"], &["get"], &["get", "none"], &["list"]] {
        let command = [&[env!("CARGO_BIN_EXE_credstash")], args].concat();
        let shown = world.on_terminal(&command, &[]);
        assert!(!shown.stdout.contains(&b'\x1b'), "{shown}");
    }
}

/// On a terminal, names and comments are shown, and not obeyed.
#[test]
fn names_and_comments_cannot_play_tricks_on_a_terminal() {
    let world = World::local();
    world.run(["put", "a\x1b[2J", "v", "-c", "line\nanother -- version \u{202e}"]).prints("a\x1b[2J has been stored\n");
    let program = env!("CARGO_BIN_EXE_credstash");
    let shown = world.on_terminal(&[program, "list"], &[]);
    assert!(!shown.stdout.contains(&b'\x1b'), "{shown}");
    assert_eq!(shown.text().lines().count(), 1, "{shown}");
    assert!(!shown.text().contains('\u{202e}'), "{shown}");
    // To a program the same bytes go as from the original.
    let name = "a\x1b[2J";
    world.run(["keys"]).ok(format!("{name}\n"));
}

#[test]
fn completions() {
    let world = World::no_cloud();
    for shell in ["bash", "zsh", "fish"] {
        let script = world.run(["completions", shell]);
        for command in COMMANDS {
            assert!(script.text().contains(command), "{shell} completes {command}");
        }
        world.run(["completions", shell]).ok(&script.stdout);
    }
    world.run(["completions", "cobol"]).fails(2, "must be one of bash");
}

/// The script is one that bash takes, and that completes.
#[test]
fn bash_completes() {
    let world = World::no_cloud();
    let script = world.file("completions", &world.run(["completions", "bash"]).stdout);
    let complete = format!(
        "set -e; bash -n '{script}'; bash -c '. {script}; COMP_WORDS=(credstash ge) COMP_CWORD=1; \
         _credstash credstash ge credstash; echo \"${{COMPREPLY[@]}}\"'"
    );
    assert_eq!(String::from_utf8_lossy(&world.sh(&complete)), "get getall\n");
}

#[test]
fn man_pages() {
    let world = World::no_cloud();
    let folder = world.path("man/man1");
    world.run(["man", folder.to_str().expect("UTF-8")]).ok("");
    let pages = COMMANDS.map(|command| format!("credstash-{command}.1")).into_iter().chain(["credstash.1".to_owned()]);
    for page in pages {
        let text = fs::read_to_string(folder.join(&page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains(".TH credstash") && text.contains(".SH SYNOPSIS"), "{page} is a man page: {text}");
    }
    let file = world.file("file", "");
    world.run(["man", &file]).fails(1, &file);
}
