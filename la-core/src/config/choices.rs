//! Settings that are one word out of a few.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Declares an enum with its words, so that JSON, the command line and messages agree.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident, $argument:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every word that can be parsed.
            pub const WORDS: &'static [&'static str] = &[$($word),*];
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(word: &str) -> Result<Self> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    other => Err(Error::invalid(format!("{} must be one of {}, got {other}", $argument, Self::WORDS.join(", ")))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)* })
            }
        }
    };
}

choices! {
    /// How instance recognition is computed.
    Ir, "ir" {
        /// Full softmax for few images, noise-contrastive estimation for many.
        Auto = "auto",
        /// Softmax over the whole bank.
        Softmax = "softmax",
        /// Noise-contrastive estimation, as published.
        Nce = "nce",
    }
}

choices! {
    /// What the memory bank holds at first.
    BankInit, "bank-init" {
        /// Random unit vectors, as published.
        Random = "random",
        /// The embeddings of the un-augmented images before training.
        Forward = "forward",
    }
}

choices! {
    /// How the learning rate falls.
    ScheduleKind, "schedule" {
        /// In steps, as published.
        Step = "step",
        /// Along half a cosine, to 0.
        Cosine = "cosine",
    }
}

choices! {
    /// What the kNN monitor embeds at the end of each epoch.
    Monitor, "monitor" {
        /// Both splits for few images, the test split for many.
        Auto = "auto",
        /// Both splits, un-augmented and in eval mode.
        Reembed = "reembed",
        /// The test split; the running memory bank stands for the training split.
        Bank = "bank",
        /// Nothing.
        None = "none",
    }
}
