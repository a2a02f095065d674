//! Data sources with their embeddings: those of a folder of pictures are kept in the user's cache folder from one command to
//! the next, those of a file that `la-cli embed` has written are read, all others are made anew.

mod folder;
mod kept;
mod rows_file;
mod stamp;

use crate::source::{self, Embedded, Split};
use crate::weights::Encoder;
use anyhow::bail;
use candle_core::Tensor;
use folder::FolderIndex;
use la_core::data::{self, Source, Splits, Unreadable};
use la_core::digests::sha256_of;
pub use rows_file::write;
use std::path::Path;
use std::sync::Arc;

/// Whether embeddings are kept.
#[derive(clap::Args)]
pub struct CacheArgs {
    /// Embed every picture anew, and keep no embeddings for the next command
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

/// Opens a data source and embeds a split of it, as [`Data::embed`] does.
pub fn open(args: &OpenArgs, split: Split, encoder: &Encoder) -> anyhow::Result<Indexed> {
    Data::open(args, encoder)?.embed(split, encoder)
}

/// Images with their embeddings.
pub struct Indexed {
    /// Where they are from, for people to read.
    pub name: String,
    /// The images that could be read.
    pub images: Arc<dyn Source>,
    /// `(N, D)`, a unit-length row for each.
    pub rows: Tensor,
}

impl Indexed {
    /// Another one where any image, name or row is.
    pub fn digest(&self) -> anyhow::Result<String> {
        let names = (0..self.images.len()).map(|index| (self.images.name(index) + "\0").into_bytes());
        let rows = self.rows.flatten_all()?.to_vec1::<f32>()?;
        Ok(sha256_of(names.chain(rows.chunks(1 << 12).map(|chunk| chunk.iter().flat_map(|value| value.to_le_bytes()).collect()))))
    }
}

/// A data source of which nothing is embedded yet.
pub struct Data {
    /// Its images. Some of a folder may turn out to be unreadable: a split that is embedded is left with the others.
    pub splits: Splits,
    rows: Rows,
    /// Where the test images have embeddings of their own: they are of another source.
    test_rows: Option<Rows>,
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
            return Ok(Self { splits, rows: Rows::File(rows), test_rows: None });
        }
        let Some(listing) = data::list(args.data, &config)? else {
            return Ok(Self { splits: data::open(args.data, &config)?, rows: Rows::Network, test_rows: None });
        };
        let rows = Rows::Folder(Box::new(FolderIndex::open(path, &listing, encoder, args.use_cache)));
        Ok(Self { splits: listing.lazy(&config)?, rows, test_rows: None })
    }

    /// Opens `args.data` for more than embeddings: every picture is looked at, and no embedding known already is used.
    pub fn open_pictures(args: &OpenArgs, encoder: &Encoder) -> anyhow::Result<Self> {
        if rows_file::is_one(args.data) {
            bail!("{} holds embeddings, and this needs the pictures; name their folder with --data", args.data);
        }
        Ok(Self { splits: data::open(args.data, &encoder.open_config(args.limit))?, rows: Rows::Network, test_rows: None })
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

    /// The embeddings of a split; lists the images that cannot be read and have none.
    ///
    /// Where a signal comes while a folder is embedded, what is done is kept, and the call fails.
    pub fn embed(&mut self, split: Split, encoder: &Encoder) -> anyhow::Result<Indexed> {
        let images = source::join(split.parts(&self.splits)?);
        let rows = match &mut self.test_rows {
            Some(rows) if split == Split::Test => rows,
            _ => &mut self.rows,
        };
        let Embedded { images, rows } = embedded(rows, &images, &mut self.splits.unreadable, encoder)?;
        match split {
            Split::Train => self.splits.train = images.clone(),
            Split::Test => self.splits.test = Some(images.clone()),
            Split::All => (),
        }
        source::warn_unreadable(&self.splits);
        // Each is listed once, whatever is embedded after this.
        self.splits.unreadable.clear();
        Ok(Indexed { name: self.splits.name.clone(), images, rows })
    }
}

/// Embeds `images`; adds those that cannot be read to `unreadable`.
fn embedded(rows: &mut Rows, images: &Arc<dyn Source>, unreadable: &mut Vec<Unreadable>, encoder: &Encoder) -> anyhow::Result<Embedded> {
    match rows {
        Rows::Folder(index) => {
            let (embedded, left_out) = index.embed(encoder, images)?;
            unreadable.extend(left_out);
            Ok(embedded)
        }
        Rows::File(rows) => Ok(Embedded { images: images.clone(), rows: rows.clone() }),
        Rows::Network => encoder.embed(images, "embedding"),
    }
}
