#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_protocol::ws::deflate::fuzz::fuzz_deflate_decoder(data));
