//! A convolution as a sum for each pixel: the geometry.
//!
//! The rows of a product are one pixel of as many images, which lie an image apart. So each pixel has its own runs, those that
//! read pixels of the picture: no zeros around a picture are copied or multiplied, which counts where pictures are small.

use super::tile::{unit, Run, PAIR, SIDE};
use crate::ops::shape::Shape;
use half::bf16;
use std::ops::Range;

/// Rows of one piece of work.
const POSITIONS: usize = 2048;
/// Values that a piece reads: what the second-level cache holds.
const VALUES: usize = 256 * 1024;

/// Which pixels each pixel of the outputs reads, through which taps.
pub(super) struct Pixels {
    batch: usize,
    /// Values of a source image, and of one pixel and one row of it.
    pub image: usize,
    channels: usize,
    row: usize,
    rows: Lines,
    columns: Lines,
    /// For each kind of row and of column the runs, counted from the first pixel that is read.
    runs: Vec<Vec<Run>>,
}

/// The rows, or the columns, of the outputs.
struct Lines {
    /// For each line its kind, and the first line of the source that it reads.
    lines: Vec<(usize, usize)>,
    /// For each kind the taps that read lines of the picture, and how far these are from the first.
    kinds: Vec<Vec<(usize, usize)>>,
}

impl Lines {
    /// Of `len` lines; `read(line, tap)` is the line of the source that a tap of the kernel reads.
    fn new(len: usize, kernel: usize, read: impl Fn(usize, usize) -> Option<usize>) -> Self {
        let (mut lines, mut kinds) = (Vec::with_capacity(len), Vec::<Vec<_>>::new());
        for line in 0..len {
            let taps: Vec<(usize, usize)> = (0..kernel).filter_map(|tap| Some((tap, read(line, tap)?))).collect();
            let first = taps.iter().map(|&(_, at)| at).min().unwrap_or(0);
            let kind: Vec<(usize, usize)> = taps.into_iter().map(|(tap, at)| (tap, at - first)).collect();
            let known = kinds.iter().position(|known| *known == kind).unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            });
            lines.push((known, first));
        }
        Self { lines, kinds }
    }

    /// Taps of all lines.
    fn num_taps(&self) -> usize {
        self.lines.iter().map(|&(kind, _)| self.kinds[kind].len()).sum()
    }
}

/// The same pixel of some images.
#[derive(Clone, Copy)]
pub(super) struct Images {
    pub first: usize,
    /// How many, a multiple of [`unit`].
    pub count: usize,
    /// How many of the first are another block's.
    pub skipped: usize,
}

/// Some pixels of some images.
pub(super) struct Piece {
    pub images: Images,
    pub pixels: Range<usize>,
}

impl Pixels {
    /// Output pixels from input pixels.
    pub fn forward(shape: &Shape) -> Self {
        let (stride, padding) = (shape.conv.stride, shape.conv.padding);
        Self::new(shape, shape.channels, shape.output, shape.input, |at, tap| (at * stride + tap).checked_sub(padding))
    }

    /// Gradients to the input pixels from gradients to the output pixels.
    pub fn backward(shape: &Shape) -> Self {
        let (stride, padding) = (shape.conv.stride, shape.conv.padding);
        Self::new(shape, shape.out_channels, shape.input, shape.output, |at, tap| {
            (at + padding).checked_sub(tap).filter(|at| at % stride == 0).map(|at| at / stride)
        })
    }

    /// `read(at, tap)` is the row or column of the source that a tap reads for one of the output.
    fn new(
        shape: &Shape,
        channels: usize,
        outputs: (usize, usize),
        source: (usize, usize),
        read: impl Fn(usize, usize) -> Option<usize>,
    ) -> Self {
        let (kernel, row) = (shape.conv.kernel, source.1 * channels);
        let rows = Lines::new(outputs.0, kernel.0, |at, tap| read(at, tap).filter(|&at| at < source.0));
        let columns = Lines::new(outputs.1, kernel.1, |at, tap| read(at, tap).filter(|&at| at < source.1));
        let bytes = |values: usize| (values * size_of::<bf16>()) as isize;
        let run = |&(ky, y): &(usize, usize), &(kx, x): &(usize, usize)| Run {
            a: bytes(y * row + x * channels),
            panel: bytes((ky * kernel.1 + kx) * channels / 2 * PAIR),
            pairs: channels / 2,
        };
        let kinds = rows.kinds.iter().flat_map(|y| columns.kinds.iter().map(move |x| (y, x)));
        let runs = kinds.map(|(y, x)| y.iter().flat_map(|y| x.iter().map(move |x| (y, x))).map(|(y, x)| run(y, x)).collect()).collect();
        Self { batch: shape.batch, image: source.0 * row, channels, row, rows, columns, runs }
    }

    /// Pixels of an output image.
    pub fn len(&self) -> usize {
        self.rows.lines.len() * self.columns.lines.len()
    }

    /// Where an image's values begin that a pixel's runs count from, and the runs.
    pub fn runs(&self, pixel: usize) -> (usize, &[Run]) {
        let width = self.columns.lines.len();
        let ((row, y), (column, x)) = (self.rows.lines[pixel / width], self.columns.lines[pixel % width]);
        (y * self.row + x * self.channels, &self.runs[row * self.columns.kinds.len() + column])
    }

    /// Rows times taps that are multiplied; `None` where there are too few images for a product.
    pub fn work(&self) -> Option<usize> {
        let taps = self.rows.num_taps() * self.columns.num_taps();
        (self.batch >= unit()).then(|| self.batch.next_multiple_of(unit()) * taps)
    }

    /// The whole batch in pieces, cut by shape alone.
    pub fn pieces(&self) -> Vec<Piece> {
        let blocks = self.blocks();
        let rows = blocks.iter().map(|images| images.count).max().unwrap_or(SIDE);
        let per_pixel = (self.image / self.len().max(1) * rows).max(1);
        let most = (POSITIONS / rows).min(VALUES / per_pixel).max(1);
        let size = self.len().div_ceil(self.len().div_ceil(most).max(1));
        let of_block = |&images: &Images| {
            let piece = move |first: usize| Piece { images, pixels: first..(first + size).min(self.len()) };
            (0..self.len()).step_by(size.max(1)).map(piece)
        };
        blocks.iter().flat_map(of_block).collect()
    }

    /// The batch in blocks of rows; what is left of it is taken with images of the block before.
    fn blocks(&self) -> Vec<Images> {
        let (unit, whole) = (unit(), self.batch / unit() * unit());
        let block = |first: usize| Images { first, count: SIDE.min(whole - first), skipped: 0 };
        let mut blocks: Vec<Images> = (0..whole).step_by(SIDE).map(block).collect();
        if whole < self.batch {
            blocks.push(Images { first: self.batch - unit, count: unit, skipped: unit - (self.batch - whole) });
        }
        blocks
    }
}
