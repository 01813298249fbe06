//! The tests that need more than one room: real servers, the real program, the real original.
//!
//! One binary, since each one links the AWS SDK again; a module for each feature.

mod binding;
mod contract;
mod crash;
mod crowds;
mod failures;
mod faults;
mod formats;
mod fuzzed;
mod golden;
mod help;
mod hostile;
mod hygiene;
mod interop;
mod local;
mod loopback;
mod originals;
mod permissions;
mod races;
mod roundtrips;
mod servers;
mod sessions;
mod world;
