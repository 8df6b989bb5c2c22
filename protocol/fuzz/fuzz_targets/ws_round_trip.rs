#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_protocol::ws::fuzz::fuzz_round_trip(data));
