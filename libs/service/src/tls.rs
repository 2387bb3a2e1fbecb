//! One provider of cryptography for the process.

/// Makes ring the provider of every TLS connection of the process. Two providers in one build and
/// none chosen would be a panic at the first handshake.
pub(crate) fn install_provider() {
    // Refused when one is installed already, which is as good.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
}
