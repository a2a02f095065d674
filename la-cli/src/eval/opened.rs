//! The data that an evaluation opens, and what it asks of them.

use super::labelled::{note_classes, Labelled};
use super::EvalArgs;
use crate::index::{Data, OpenArgs};
use crate::source;
use crate::weights::Encoder;
use anyhow::{bail, Context};
use la_core::eval::knn::KnnConfig;

/// Which images are evaluated on.
pub struct Asked {
    src: String,
    test: Option<String>,
    limit: Option<usize>,
    /// Whether the user named them, and not the weights.
    is_named: bool,
}

impl Asked {
    /// What the arguments name, or what the weights learned from.
    pub fn new(args: &EvalArgs, encoder: &Encoder) -> anyhow::Result<Self> {
        let (recorded, recorded_test) = encoder.recorded_data();
        let Some(src) = args.data.as_deref().or(recorded) else {
            bail!("{} does not say what it was trained on; name the images with --data SRC", encoder.name);
        };
        // A recorded test set belongs to the recorded data.
        let test = args.test.as_deref().or(if args.data.is_none() { recorded_test } else { None });
        // A run's own data means the images that it learned from, where it did from a part of them.
        let limit = args.encoder.limit.or(if args.data.is_none() { encoder.recorded_limit() } else { None });
        Ok(Self { src: src.to_string(), test: test.map(str::to_string), limit, is_named: args.data.is_some() })
    }

    /// The source of the training images.
    pub fn src(&self) -> &str {
        &self.src
    }
}

/// Opens the images for a network.
pub fn open(args: &EvalArgs, asked: &Asked, encoder: &Encoder) -> anyhow::Result<Data> {
    let use_cache = args.cache.use_cache();
    let open = |data, limit| {
        let open = OpenArgs { data, limit, use_cache };
        match args.needs_pictures() {
            Some(flag) => Data::open_pictures(&open, encoder).context(flag),
            None => Data::open(&open, encoder),
        }
    };
    let images = open(&asked.src, asked.limit).and_then(|images| match &asked.test {
        Some(test) => {
            let test = open(test, None)?;
            note_foreign_classes(&images, &test);
            images.with_test(test)
        }
        None => Ok(images),
    });
    images.map_err(|error| match asked.is_named {
        true => error,
        false => source::not_where_recorded(error, &encoder.name, &asked.src),
    })
}

/// Says which classes of the test images the training images do not know.
fn note_foreign_classes(train: &Data, test: &Data) {
    let (ours, theirs) = (train.splits.train.class_names(), test.splits.train.class_names());
    let is_shared = theirs.iter().any(|name| ours.contains(name));
    let foreign = theirs.iter().filter(|name| is_shared && !ours.contains(name)).map(String::as_str);
    note_classes("classes only among the test images, whose images are left out", foreign.collect());
}

/// The images with their labels; fails where these do not serve.
pub fn labelled(args: &EvalArgs, images: &Data) -> anyhow::Result<Labelled> {
    let splits = images.splits.clone();
    if args.leave_one_out && splits.train.len() < 2 {
        bail!("--leave-one-out needs at least 2 images, since each is classified by the others, got 1; name more, or raise --limit");
    }
    let name = splits.name.clone();
    if let Some(flag) = args.needs_pictures().filter(|_| splits.test.is_none()) {
        bail!("{flag} is measured on test images, and {name} has none; name some with --test SRC");
    }
    let data = if args.leave_one_out { Labelled::leaving_one_out(splits)? } else { Labelled::new(splits, &name)? };
    data.check_num_classes()?;
    Ok(data)
}

/// How neighbours vote, of so many.
pub fn knn_config(args: &EvalArgs, num_rows: usize) -> anyhow::Result<KnnConfig> {
    match args.knn_k {
        Some(k) if !(1..=num_rows).contains(&k) => {
            bail!("--knn-k must be in 1 to {num_rows}, the number of training images that can vote, got {k}")
        }
        _ if args.knn_temperature.is_nan() || args.knn_temperature <= 0.0 => {
            bail!("--knn-temperature must be above 0, got {}", args.knn_temperature)
        }
        k => Ok(KnnConfig { k: k.unwrap_or(KnnConfig::default().k.min(num_rows)), temperature: args.knn_temperature }),
    }
}
