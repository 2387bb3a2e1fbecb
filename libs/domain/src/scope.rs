//! Who may touch what: tenant, mode, principal and role.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{PrincipalId, TenantId};

macro_rules! worded {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($variant),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that stands for it in keys, columns and texts.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::scope::UnknownWord;

            fn from_str(text: &str) -> Result<Self, $crate::scope::UnknownWord> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text).ok_or($crate::scope::UnknownWord)
            }
        }
    };
}
pub(crate) use worded;

/// A text that names none of the values of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of the known words")]
pub struct UnknownWord;

worded! {
    /// The two worlds inside a tenant; never mixed.
    Mode { Live = "live", Sandbox = "sandbox" }
}

worded! {
    /// What a principal may do.
    Role { Admin = "admin", Reviewer = "reviewer", Viewer = "viewer", Agent = "agent", Operator = "operator" }
}

worded! {
    /// What kind of principal acts.
    PrincipalKind { User = "user", Agent = "agent", Service = "service" }
}

/// (tenant, mode): every row, key, limit and credential belongs to exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    pub tenant: TenantId,
    pub mode: Mode,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.mode)
    }
}

/// Who caused a record, as authenticated when it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Actor {
    pub principal: PrincipalId,
    pub kind: PrincipalKind,
    pub role: Role,
}
