#![no_main]

libfuzzer_sys::fuzz_target!(|case: &[u8]| credstash::store::dynamodb::item_property::check(case));
