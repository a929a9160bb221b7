#![no_main]

use sluicegate::framing::Framing;

libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate_fuzz::framing(Framing::AwsEventStream, input));
