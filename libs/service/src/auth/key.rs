//! The form of an API key. Only its digest ever leaves this module.

use runledger_domain::digest::{self, Digest};
use runledger_domain::scope::Mode;

const LIVE: &str = "rl_live_";
const TEST: &str = "rl_test_";
const DIGITS: usize = 64;

/// A well-formed API key: which worlds it can open, and the digest by which the directory knows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub mode: Mode,
    pub digest: Digest,
}

/// A text that cannot be an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an API key is rl_live_ or rl_test_ and 64 lowercase hexadecimal digits")]
pub struct Malformed;

impl Key {
    /// Checks the form of `text`: `rl_live_` or `rl_test_` and 64 lowercase hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let (mode, digits) = match (text.strip_prefix(LIVE), text.strip_prefix(TEST)) {
            (Some(digits), _) => (Mode::Live, digits),
            (None, Some(digits)) => (Mode::Sandbox, digits),
            (None, None) => return Err(Malformed),
        };
        if digits.len() != DIGITS
            || !digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(Malformed);
        }
        Ok(Self {
            mode,
            digest: digest::of(text.as_bytes()),
        })
    }

    /// The text of a key for `mode` made of 32 random bytes.
    pub fn text(mode: Mode, random: &[u8; 32]) -> String {
        let prefix = match mode {
            Mode::Live => LIVE,
            Mode::Sandbox => TEST,
        };
        let mut text = String::with_capacity(prefix.len() + DIGITS);
        text.push_str(prefix);
        text.push_str(&hex::encode(random));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_a_key() {
        let live = Key::text(Mode::Live, &[0xab; 32]);
        let key = Key::parse(&live).unwrap();
        assert_eq!(key.mode, Mode::Live);
        assert_eq!(key.digest, digest::of(live.as_bytes()));
        assert!(
            Key::parse(&Key::text(Mode::Sandbox, &[7; 32]))
                .is_ok_and(|key| key.mode == Mode::Sandbox)
        );
        for wrong in [
            String::new(),
            "rl_live_".to_owned(),
            live.to_uppercase(),
            live[..live.len() - 1].to_owned(),
            format!("{live}0"),
            live.replace("live", "prod"),
            format!(" {live}"),
            live.replace('a', "é"),
        ] {
            assert!(Key::parse(&wrong).is_err(), "{wrong}");
        }
    }
}
