//! 3×3 stride-1 convolution by Winograd's F(4×4, 3×3): a quarter of the multiplications.
//!
//! Lavin, Gray 2016, <https://arxiv.org/abs/1509.09308>. Tiles of 6×6 inputs and 4×4 outputs become 36 matrix products.

mod transforms;

use super::{
    kernel::{gather_tile, lanes, max_vectors, outer_tile, Gather, Outer, MAX_ROWS},
    operands::{Epilogue, Images},
    panels::{Block, Panels},
};
use crate::ops::{
    host::scratch,
    parallel::{for_each, for_each_chunk, threads, SharedMut},
    simd::dispatch,
};

use transforms::{grads_to_points, inputs_to_points, points_to_outputs, points_to_taps, weights_to_points};

/// Outputs of a tile along one side.
const OUT: usize = 4;
/// Inputs of a tile along one side.
const IN: usize = 6;
/// Products per tile and channel pair.
const POINTS: usize = IN * IN;
/// Transformed inputs of one piece of work (tiles × channels): 36 times this many values stay in the second-level cache.
const PIECE: usize = 3072;
/// Transformed values of a group of tiles for the weight gradient, a share of the last-level cache.
const GROUP: usize = 1 << 20;
/// Rows whose pointers one outer product takes at once.
const OUTER_ROWS: usize = 96;

/// How a batch is cut into tiles.
#[derive(Clone, Copy)]
pub(super) struct Tiling {
    pub batch: usize,
    pub input: (usize, usize),
    pub output: (usize, usize),
    /// Rows and columns of zeros before the input.
    pub padding: usize,
}

impl Tiling {
    fn grid(&self) -> (usize, usize) {
        (self.output.0.div_ceil(OUT), self.output.1.div_ceil(OUT))
    }

    /// Tiles of the whole batch.
    pub fn tiles(&self) -> usize {
        self.batch * self.grid().0 * self.grid().1
    }

    /// Share of computed outputs that are wanted.
    pub fn used(&self) -> f64 {
        let (rows, columns) = self.grid();
        (self.output.0 * self.output.1) as f64 / (rows * columns * OUT * OUT) as f64
    }

    /// Image, first row and first column (of outputs) of a tile.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (rows, columns) = self.grid();
        (tile / (rows * columns), tile / columns % rows * OUT, tile % columns * OUT)
    }
}

/// Weights packed as nine taps, taken to 36 points.
pub(super) struct Points {
    values: Vec<f32>,
    blocks: Vec<Block>,
    channels: usize,
}

/// `out (+)= input * weights`, and then what `epilogue` says.
pub(super) fn convolve(tiling: &Tiling, input: Images, weights: &Points, out: &mut [f32], accumulate: bool, epilogue: Option<&Epilogue>) {
    let channels = weights.channels;
    let tiles = tiling.tiles();
    // A small image alone has fewer pieces than there are threads; how tiles are grouped changes none of them.
    let share = tiles.div_ceil(threads()).max(1).next_multiple_of(gather_tile(max_vectors()).rows);
    let count = (PIECE / channels / 6 * 6).max(12).min(share);
    let out_channels = out.len() / (tiling.batch * tiling.output.0 * tiling.output.1);
    let shared = SharedMut(out.as_mut_ptr());
    for_each(tiles.div_ceil(count), |i| {
        let first = i * count;
        let used = count.min(tiles - first);
        let mut transformed = scratch(POINTS * count * channels);
        for t in 0..used {
            let to = &mut transformed[t * channels..][..(POINTS - 1) * count * channels + channels];
            // SAFETY: the slice holds the 36 rows.
            unsafe { transform_input(tiling, input, first + t, channels, (to.as_mut_ptr(), count * channels)) };
        }
        let widest = max_vectors() * lanes();
        let mut products = scratch(POINTS * count * widest);
        for block in &weights.blocks {
            let width = block.width();
            for point in 0..POINTS {
                let panel = &weights.values[POINTS * (block.offset / 9) + point * channels * width..];
                let rows = &transformed[point * count * channels..];
                multiply((rows, channels, used), panel, block.vectors, &mut products[point * count * width..]);
            }
            for t in 0..used {
                // SAFETY: tiles write disjoint outputs; this piece owns its tiles.
                let target =
                    Target { out: shared.get(), channels: out_channels, start: block.start, columns: block.columns, accumulate, epilogue };
                transform_output(tiling, first + t, &products[t * width..], count * width, &target);
            }
        }
    });
}

/// `products (used, width) = rows (used, channels) · panel (channels, width)`.
fn multiply((rows, channels, used): (&[f32], usize, usize), panel: &[f32], vectors: usize, products: &mut [f32]) {
    let tile = gather_tile(vectors);
    let width = vectors * lanes();
    let mut spare = [0f32; 64];
    for start in (0..used).step_by(tile.rows) {
        let mut from = [rows.as_ptr(); MAX_ROWS];
        let mut to = [spare.as_mut_ptr(); MAX_ROWS];
        for r in 0..tile.rows.min(used - start) {
            from[r] = rows[(start + r) * channels..].as_ptr();
            to[r] = products[(start + r) * width..].as_mut_ptr();
        }
        let job = Gather { rows: from.as_ptr(), taps: 1, channels, panel: panel.as_ptr(), out: to.as_ptr(), accumulate: false };
        // SAFETY: each row has `channels` values, the panel channels · width, each output (or the spare) width.
        unsafe { (tile.run)(&job) };
    }
}

/// Weights of nine taps to 36 points: `G g Gᵀ` for every channel pair.
pub(super) fn transform_weights(panels: Panels) -> Points {
    let mut out = scratch(panels.values.len() / 9 * POINTS);
    let shared = SharedMut(out.as_mut_ptr());
    let channels = panels.channels;
    const ROWS: usize = 16;
    for block in &panels.blocks {
        let width = block.width();
        let panel = panels.block(block);
        for_each(channels.div_ceil(ROWS), |i| {
            for c in i * ROWS..((i + 1) * ROWS).min(channels) {
                let from = panel[c * width..].as_ptr();
                // SAFETY: the block's transformed weights start at 36/9 of its offset.
                let to = unsafe { shared.get().add(block.offset / 9 * POINTS + c * width) };
                let stride = channels * width;
                // SAFETY: nine rows to read and 36 to write, `width` values each, `stride` apart.
                unsafe { dispatch!(weights_to_points(from: *const f32, to: *mut f32, stride: usize, width: usize)) };
            }
        });
    }
    Points { values: out, blocks: panels.blocks, channels }
}

/// `Bᵀ d B` of one tile, to 36 rows of `channels` values that lie `stride` apart.
///
/// # Safety
///
/// `to` is the first of these rows, which can be written and which no one else uses meanwhile.
unsafe fn transform_input(tiling: &Tiling, input: Images, tile: usize, channels: usize, (to, stride): (*mut f32, usize)) {
    let (image, y, x) = tiling.place(tile);
    let zeros = [0f32; MAX_CHANNELS];
    let mut from = [zeros.as_ptr(); POINTS];
    for (i, from) in from.iter_mut().enumerate() {
        let (row, column) = ((y + i / IN).wrapping_sub(tiling.padding), (x + i % IN).wrapping_sub(tiling.padding));
        if row < tiling.input.0 && column < tiling.input.1 {
            *from = input.values[image * input.image + (row * tiling.input.1 + column) * channels..].as_ptr();
        }
    }
    assert!(channels <= MAX_CHANNELS);
    let from = &from;
    // SAFETY: each pointer has `channels` values; the caller answers for the outputs.
    unsafe { dispatch!(inputs_to_points(from: &[*const f32; POINTS], to: *mut f32, stride: usize, channels: usize)) };
}

/// The most channels of a Winograd convolution: as many zeros stand in for padding.
pub(super) const MAX_CHANNELS: usize = 1024;

struct Target<'a> {
    out: *mut f32,
    channels: usize,
    start: usize,
    columns: usize,
    accumulate: bool,
    epilogue: Option<&'a Epilogue<'a>>,
}

/// `Aᵀ m A` of one tile, from 36 rows that lie `stride` apart, to its outputs inside the image.
fn transform_output(tiling: &Tiling, tile: usize, from: &[f32], stride: usize, target: &Target) {
    let (image, y, x) = tiling.place(tile);
    let mut to = [std::ptr::null_mut(); OUT * OUT];
    for (i, to) in to.iter_mut().enumerate() {
        let (row, column) = (y + i / OUT, x + i % OUT);
        if row < tiling.output.0 && column < tiling.output.1 {
            let pixel = (image * tiling.output.0 + row) * tiling.output.1 + column;
            // SAFETY: the pixel lies in the output, which has `channels` values a pixel.
            *to = unsafe { target.out.add(pixel * target.channels + target.start) };
        }
    }
    let (to, columns, accumulate) = (&to, target.columns, target.accumulate);
    let from = from[..(POINTS - 1) * stride + columns].as_ptr();
    // SAFETY: 36 rows of `columns` values to read; each pointer that is not null has `columns` values to write.
    unsafe { dispatch!(points_to_outputs(from: *const f32, stride: usize, to: &[*mut f32; OUT * OUT], columns: usize, accumulate: bool)) };
    let Some(epilogue) = target.epilogue else { return };
    for to in to.iter().filter(|to| !to.is_null()) {
        // SAFETY: the pointers were made from `out` above; this piece owns these columns of its pixels.
        unsafe { epilogue.apply(target.out, to.offset_from(target.out) as usize, target.start, columns) };
    }
}

/// Weight gradient `(3, 3, C, O)`: `Gᵀ (Σ tiles V ⊗ A dY Aᵀ) G`.
pub(super) fn weight_gradient(tiling: &Tiling, input: Images, grads: Images, channels: usize, weight: &mut [f32]) {
    let columns = weight.len() / (9 * channels);
    let tiles = tiling.tiles();
    let group = (GROUP / (POINTS * channels.max(columns))).clamp(12, tiles.max(12));
    let mut inputs = scratch(POINTS * group * channels);
    let mut outputs = scratch(POINTS * group * columns);
    let mut sums = vec![0f32; POINTS * channels * columns];
    for first in (0..tiles).step_by(group) {
        let used = group.min(tiles - first);
        let (v, d) = (SharedMut(inputs.as_mut_ptr()), SharedMut(outputs.as_mut_ptr()));
        // SAFETY: tile `t`, one of `group`, writes row `t` of each of the 36 matrices, which no other piece touches.
        for_each(used, |t| unsafe {
            transform_input(tiling, input, first + t, channels, (v.get().add(t * channels), group * channels));
            transform_grad(tiling, grads, first + t, columns, (d.get().add(t * columns), group * columns));
        });
        let (inputs, outputs) = (&inputs, &outputs);
        for_each_chunk(&mut sums, channels * columns, |point, sums| {
            let rows = &inputs[point * group * channels..][..used * channels];
            let grads = &outputs[point * group * columns..][..used * columns];
            add_outer((rows, channels), (grads, columns), sums);
        });
    }
    points_to_weight_gradient(&sums, channels * columns, weight);
}

/// `A dY Aᵀ` of one tile, to 36 rows of `columns` values that lie `stride` apart.
///
/// # Safety
///
/// As for [`transform_input`].
unsafe fn transform_grad(tiling: &Tiling, grads: Images, tile: usize, columns: usize, (to, stride): (*mut f32, usize)) {
    let (image, y, x) = tiling.place(tile);
    let zeros = [0f32; MAX_CHANNELS];
    let mut from = [zeros.as_ptr(); OUT * OUT];
    for (i, from) in from.iter_mut().enumerate() {
        let (row, column) = (y + i / OUT, x + i % OUT);
        if row < tiling.output.0 && column < tiling.output.1 {
            *from = grads.values[image * grads.image + (row * tiling.output.1 + column) * columns..].as_ptr();
        }
    }
    assert!(columns <= MAX_CHANNELS);
    let from = &from;
    // SAFETY: each pointer has `columns` values; the caller answers for the outputs.
    unsafe { dispatch!(grads_to_points(from: &[*const f32; OUT * OUT], to: *mut f32, stride: usize, columns: usize)) };
}

/// `sums (channels, columns) += rowsᵀ · grads`; columns must fill whole vectors.
fn add_outer((rows, channels): (&[f32], usize), (grads, columns): (&[f32], usize), sums: &mut [f32]) {
    let count = rows.len() / channels;
    let widest = max_vectors() * lanes();
    for start in (0..count).step_by(OUTER_ROWS) {
        let used = OUTER_ROWS.min(count - start);
        for column in (0..columns).step_by(widest) {
            let vectors = widest.min(columns - column) / lanes();
            for channel in (0..channels).step_by(6) {
                let height = 6.min(channels - channel);
                let mut pointers = [std::ptr::null(); OUTER_ROWS];
                for (p, pointer) in pointers.iter_mut().enumerate().take(used) {
                    *pointer = rows[(start + p) * channels + channel..].as_ptr();
                }
                let job = Outer {
                    rows: pointers.as_ptr(),
                    pixels: used,
                    grads: grads[start * columns + column..].as_ptr(),
                    grad_stride: columns,
                    weight: sums[channel * columns + column..].as_mut_ptr(),
                    weight_stride: columns,
                };
                // SAFETY: `height` inputs at each pointer, whole vectors of gradients and sums at theirs.
                unsafe { outer_tile(height, vectors)(&job) };
            }
        }
    }
}

fn points_to_weight_gradient(sums: &[f32], len: usize, weight: &mut [f32]) {
    const CHUNK: usize = 4096;
    let out = SharedMut(weight.as_mut_ptr());
    for_each(len.div_ceil(CHUNK), |i| {
        let (start, count) = (i * CHUNK, CHUNK.min(len - i * CHUNK));
        let from = sums[start..].as_ptr();
        // SAFETY: `weight` has nine rows of `len` values; this piece owns its columns.
        let to = unsafe { out.get().add(start) };
        // SAFETY: 36 rows to read and nine to write, `len` apart, `count` values each.
        unsafe { dispatch!(points_to_taps(from: *const f32, to: *mut f32, len: usize, count: usize)) };
    });
}
