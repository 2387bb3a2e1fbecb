//! A new key: made, shown, and known from then on by its digest alone.

use rand::TryRngCore as _;
use rand::rand_core::OsError;
use rand::rngs::OsRng;
use runledger_domain::digest::Digest;
use runledger_domain::scope::Mode;
use runledger_service::auth;
use secrecy::SecretString;

/// How many digits a masked listing shows at each end.
const SHOWN: usize = 4;

/// A key that nobody has seen yet.
pub(crate) struct Fresh {
    pub(crate) secret: SecretString,
    pub(crate) digest: Digest,
    /// The first and the last digits, by which people tell keys apart.
    pub(crate) head: String,
    pub(crate) tail: String,
}

/// Makes a key for `mode` from 32 bytes of the system's randomness.
///
/// # Errors
/// When the system has none.
pub(crate) fn fresh(mode: Mode) -> Result<Fresh, OsError> {
    let mut random = [0; 32];
    OsRng.try_fill_bytes(&mut random)?;
    let text = auth::Key::text(mode, &random);
    let digest = runledger_domain::digest::of(text.as_bytes());
    let digits = text.get(prefix(mode).len()..).unwrap_or_default();
    let head = digits.chars().take(SHOWN).collect();
    let tail = digits.chars().skip(digits.len() - SHOWN).collect();
    Ok(Fresh {
        secret: text.into(),
        digest,
        head,
        tail,
    })
}

/// How keys for `mode` begin.
pub(crate) fn prefix(mode: Mode) -> &'static str {
    match mode {
        Mode::Live => "rl_live_",
        Mode::Sandbox => "rl_test_",
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_fresh_key_is_one_that_the_gate_knows() {
        for &mode in Mode::ALL {
            let fresh = fresh(mode).unwrap();
            let text = fresh.secret.expose_secret();
            let key = auth::Key::parse(text).unwrap();
            assert_eq!((key.mode, key.digest), (mode, fresh.digest));
            assert!(text.starts_with(&format!("{}{}", prefix(mode), fresh.head)));
            assert!(text.ends_with(&fresh.tail));
            assert_eq!((fresh.head.len(), fresh.tail.len()), (4, 4));
            assert!(!format!("{:?}", fresh.secret).contains(text));
        }
    }
}
