#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_engine::auth::fuzz_token(data));
