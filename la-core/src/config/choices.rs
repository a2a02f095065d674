//! What a run can be told in one word out of a few.

use crate::choices::choices;

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
    /// What k-means clusters.
    ClusterFeatures, "cluster-features" {
        /// The rows of the memory bank, as published.
        Bank = "bank",
        /// The whitened read-out of the un-augmented images: of few images its clusters are closer to the classes.
        Readout = "readout",
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
