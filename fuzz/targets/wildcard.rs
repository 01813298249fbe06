#![no_main]

libfuzzer_sys::fuzz_target!(|case: &[u8]| credstash_fuzz::wildcard::check(case));
