#![no_main]

libfuzzer_sys::fuzz_target!(|case: &[u8]| credstash::version::property::check(case));
