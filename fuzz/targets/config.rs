//! The library does not have the command line's configuration, so that this target is made of the command line's files.
#![no_main]
#![allow(dead_code, reason = "not all of these files is about configuration")]

#[path = "../src/cases.rs"]
mod cases;
#[path = "../../src/bin/credstash/config.rs"]
mod config;
#[path = "../../src/bin/credstash/global.rs"]
mod global;
#[path = "../../src/bin/credstash/logging.rs"]
mod logging;
#[path = "../../src/bin/credstash/output.rs"]
mod output;
#[path = "../../src/bin/credstash/report.rs"]
mod report;
#[path = "../../src/bin/credstash/terminal.rs"]
mod terminal;

libfuzzer_sys::fuzz_target!(|case: &[u8]| config::property::check(case));
