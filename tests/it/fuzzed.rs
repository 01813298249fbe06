//! The cases that the fuzz targets keep, replayed; those of private items are replayed where the items are.

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use fuzz::{cases, context, envelope, local_key, sqlite_row, wildcard};

#[test]
fn what_was_fuzzed_holds() {
    cases::replay("context", context::check);
    cases::replay("envelope", envelope::check);
    cases::replay("local_key", local_key::check);
    cases::replay("sqlite_row", sqlite_row::check);
    cases::replay("wildcard", wildcard::check);
}
