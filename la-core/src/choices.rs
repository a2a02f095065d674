//! Settings that are one word out of a few.

/// Declares an enum with its words, so that JSON, the command line and messages agree.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident, $argument:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every word that can be parsed.
            pub const WORDS: &'static [&'static str] = &[$($word),*];
        }

        impl std::str::FromStr for $name {
            type Err = crate::Error;

            fn from_str(word: &str) -> crate::Result<Self> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    other => Err(crate::Error::invalid(format!("{} must be one of {}, got {other}", $argument, Self::WORDS.join(", ")))),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)* })
            }
        }
    };
}
pub(crate) use choices;
