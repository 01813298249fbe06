//! What must hold whatever the input: a property a file, each a function that panics where it does not hold.
//!
//! The fuzz targets try to refute them, and the tests of the main project replay the cases in `corpus/`. Here are the
//! properties of what is public; those of what is private, `config.rs`, `item.rs` and `version.rs`, are modules of what
//! they are about, in tests and in builds for fuzzing only.
#![allow(dead_code, unreachable_pub, reason = "each of the crates that share this file uses a part of it")]

pub mod cases;
pub mod context;
pub mod envelope;
pub mod local_key;
pub mod sqlite_row;
pub mod wildcard;
