#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_protocol::http::fuzz::fuzz_body(data));
