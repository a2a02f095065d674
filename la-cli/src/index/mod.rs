//! Data sources with their embeddings: those of a folder of pictures are kept in the user's cache folder from one command to
//! the next, those of a file that `la-cli embed` has written are read, all others are made anew.

mod fitted;
mod folder;
mod indexed;
mod kept;
mod look;
mod rows_file;
mod stamp;

use crate::data;
use crate::source::{self, Embedded, Split};
use crate::weights::Encoder;
use anyhow::bail;
use candle_core::Tensor;
use folder::FolderIndex;
pub use indexed::Indexed;
use la_core::data::{Source, Splits, Unreadable};
pub use look::Look;
pub use rows_file::write;
use std::path::Path;
use std::sync::Arc;

/// Whether embeddings are kept.
#[derive(clap::Args)]
pub struct CacheArgs {
    /// Neither read nor write the cache of embeddings
    #[arg(long)]
    no_cache: bool,
}

impl CacheArgs {
    /// Whether the embeddings of a folder are kept from one command to the next.
    pub fn use_cache(&self) -> bool {
        !self.no_cache
    }
}

/// What is opened, and how.
#[derive(Clone, Copy)]
pub struct OpenArgs<'a> {
    /// A data source, or a file of embeddings.
    pub data: &'a str,
    /// As many training images, drawn at random.
    pub limit: Option<usize>,
    /// Whether the embeddings of a folder are kept from one command to the next.
    pub use_cache: bool,
}

/// A data source of which nothing is embedded yet.
pub struct Data {
    /// Its images. Some of a folder may turn out to be unreadable: a split that is embedded is left with the others.
    pub splits: Splits,
    rows: Rows,
    /// Where the test images have embeddings of their own: they are of another source.
    test_rows: Option<Rows>,
    /// Whether the encoder is to stay as it is.
    is_fitted: bool,
}

/// Where the embeddings of images come from.
enum Rows {
    Folder(Box<FolderIndex>),
    File(Tensor),
    Network,
}

impl Data {
    /// Opens `args.data` without a look at its pictures where it is a folder.
    pub fn open(args: &OpenArgs, encoder: &Encoder) -> anyhow::Result<Self> {
        let config = encoder.open_config(args.limit);
        let path = Path::new(args.data);
        if rows_file::is_one(args.data) {
            let (splits, rows) = rows_file::open(path, encoder, &config)?;
            return Ok(Self { splits, rows: Rows::File(rows), test_rows: None, is_fitted: true });
        }
        let Some(listing) = data::list(args.data, &config)? else {
            return Ok(Self { splits: data::open(args.data, &config)?, rows: Rows::Network, test_rows: None, is_fitted: false });
        };
        let rows = Rows::Folder(Box::new(FolderIndex::open(path, &listing, encoder, args.use_cache)));
        Ok(Self { splits: listing.lazy(&config)?, rows, test_rows: None, is_fitted: false })
    }

    /// Opens `args.data` for more than embeddings: every picture is looked at, and no embedding known already is used.
    pub fn open_pictures(args: &OpenArgs, encoder: &Encoder) -> anyhow::Result<Self> {
        if rows_file::is_one(args.data) {
            bail!("{} holds embeddings, and this needs the pictures; name their folder with --data", args.data);
        }
        Ok(Self {
            splits: data::open(args.data, &encoder.open_config(args.limit))?,
            rows: Rows::Network,
            test_rows: None,
            is_fitted: false,
        })
    }

    /// The same with the training images of `other` as test images, classes matched by their names.
    pub fn with_test(self, other: Data) -> anyhow::Result<Self> {
        Ok(Self { splits: self.splits.with_test(other.splits)?, test_rows: Some(other.rows), ..self })
    }

    /// Whether it is a folder of pictures, whose embeddings are kept.
    pub fn is_folder(&self) -> bool {
        matches!(self.rows, Rows::Folder(_))
    }

    /// Whether it is a file of embeddings.
    pub fn is_embeddings(&self) -> bool {
        matches!(self.rows, Rows::File(_))
    }

    /// The same for an encoder that is used with its own read-out, so that embeddings of several sources can be compared.
    pub fn without_fitting(self) -> Self {
        Self { is_fitted: true, ..self }
    }

    /// The embeddings of a split; lists the images that cannot be read and have none. The first time, the encoder's read-out is
    /// fitted to the images.
    ///
    /// Where a signal comes while a folder is embedded, what is done is kept, and the call fails.
    pub fn embed(&mut self, split: Split, encoder: &mut Encoder) -> anyhow::Result<Indexed> {
        let images = source::join(split.parts(&self.splits)?);
        let rows = match &mut self.test_rows {
            Some(rows) if split == Split::Test => rows,
            _ => &mut self.rows,
        };
        let is_fitted = std::mem::replace(&mut self.is_fitted, true);
        let (Embedded { images, rows }, unreadable) = rows.embed(&images, encoder, is_fitted)?;
        self.splits.unreadable.extend(unreadable);
        match split {
            Split::Train => self.splits.train = images.clone(),
            Split::Test => self.splits.test = Some(images.clone()),
            Split::All => (),
        }
        source::warn_unreadable(&self.splits);
        // Each is told once, whatever is embedded after this.
        self.splits.unreadable.clear();
        self.splits.notes.clear();
        Ok(Indexed { name: self.splits.name.clone(), images, rows })
    }
}

impl Rows {
    /// The embeddings of `images`, and those that cannot be read.
    fn embed(&mut self, images: &Arc<dyn Source>, encoder: &mut Encoder, is_fitted: bool) -> anyhow::Result<(Embedded, Vec<Unreadable>)> {
        let (features, unreadable) = match self {
            Rows::File(rows) => return Ok((Embedded { images: images.clone(), rows: rows.clone() }, vec![])),
            Rows::Folder(index) if !is_fitted => return index.fit(encoder, images),
            Rows::Folder(index) => index.features(encoder, images)?,
            Rows::Network => (encoder.features(images, "embedding")?, vec![]),
        };
        if !is_fitted {
            encoder.set_readout(encoder.fit(&features.rows)?);
        }
        Ok((Embedded { rows: encoder.embed_features(&features.rows)?, ..features }, unreadable))
    }
}
