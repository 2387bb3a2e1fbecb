//! The wire: generated code, and the only conversions between it and the domain.
//!
//! For: `runledger.*.v1` messages, clients and servers; [`decode`] inward, which lists every fault
//! of a message at once; [`encode`] outward, which cannot fail.
//! Must never: let a missing or malformed field past `decode`, or be asked to decode and re-encode
//! a stored record (unknown fields would be lost: carry the original bytes).

pub mod codec;
pub mod decode;
pub mod encode;
pub mod types;
pub mod words;

/// The encoded descriptor set of every file, for reflection and for tests that walk the services.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! packages {
    ($($package:ident),+) => {$(
        #[allow(
            clippy::all, unreachable_pub, unused_qualifications, rust_2018_idioms,
            clippy::allow_attributes_without_reason, clippy::large_futures, clippy::too_many_lines,
            reason = "generated code"
        )]
        pub mod $package {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/runledger.", stringify!($package), ".v1.rs"));
            }
        }
    )+};
}

packages!(
    analytics, approval, audit, billing, common, directory, log, message, policy, price, recording,
    run, schedule
);
