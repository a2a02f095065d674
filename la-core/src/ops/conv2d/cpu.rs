//! Convolution on the CPU over `(B, H, W, C)` values, without im2col: each register tile gathers its pixels by pointer.
//!
//! Work is cut into pieces by shape alone and each output is summed by one piece in one order, so threads change nothing.

use super::kernel::{gather_tile, lanes, max_vectors, outer_tile, Gather, GatherTile, Outer, MAX_ROWS};
use super::operands::{Epilogue, Images};
use super::panels::{Block, Panels};
use super::plan::{Plan, PADDED};
use crate::ops::parallel::{for_each, SharedMut};

/// Output pixels of one piece of work: their inputs, outputs and one weight panel stay in the second-level cache.
const PIXELS: usize = 240;
/// Terms that are summed in registers before they join the output: short sums keep f32 as exact as torchvision's golden values ask.
const PANEL_ROWS: usize = 128;
/// Taps of one panel at most, so that their pointers fit a fixed array.
const MAX_TAPS: usize = 64;
/// Pixels whose gradients stay in the first-level cache while all weights of a piece accumulate over them.
const OUTER_PIXELS: usize = 96;
/// Input channels of one outer-product tile.
const OUTER_ROWS: usize = 6;

/// Gathers every output pixel of `plan` over a batch: `out (+)= inputs · panels`, and then what `epilogue` says.
pub(super) fn gather_all(plan: &Plan, input: Images, panels: &Panels, out: &mut [f32], accumulate: bool, epilogue: Option<&Epilogue>) {
    let (image_len, batch) = (out.len() / (input.values.len() / input.image).max(1), input.values.len() / input.image);
    let pixels = plan.pixels() * batch;
    let chunks = pixels.div_ceil(PIXELS);
    let zeros = vec![0f32; panels.channels];
    let shared = SharedMut(out.as_mut_ptr());
    for_each(chunks * panels.blocks.len(), |i| {
        let (chunk, block) = place(i, chunks, panels.blocks.len());
        let block = &panels.blocks[block];
        let panel = panels.block(block);
        let piece = Piece {
            plan,
            input,
            channels: panels.channels,
            panel: &panel,
            block,
            zeros: &zeros,
            out: shared.get(),
            out_image: image_len,
            accumulate,
        };
        let start = chunk * PIXELS;
        let end = (start + PIXELS).min(pixels);
        piece.run(start, end);
        if let Some(epilogue) = epilogue {
            for pixel in start..end {
                let at = pixel / plan.pixels() * image_len + plan.outputs[pixel % plan.pixels()] as usize + block.start;
                // SAFETY: this piece owns these columns of its pixels.
                unsafe { epilogue.apply(shared.get(), at, block.start, block.columns) };
            }
        }
    });
}

/// Chunk and block of piece `i`. Threads share a block's panel; a single one in a browser keeps a chunk's inputs in its
/// second-level cache instead, where reading them once for each block took up to twice the time.
fn place(i: usize, chunks: usize, blocks: usize) -> (usize, usize) {
    match cfg!(target_arch = "wasm32") {
        true => (i / blocks, i % blocks),
        false => (i % chunks, i / chunks),
    }
}

/// One piece of a gather: a range of output pixels and one block of output columns.
struct Piece<'a> {
    plan: &'a Plan,
    input: Images<'a>,
    channels: usize,
    panel: &'a [f32],
    block: &'a Block,
    zeros: &'a [f32],
    out: *mut f32,
    out_image: usize,
    accumulate: bool,
}

impl Piece<'_> {
    fn run(&self, start: usize, end: usize) {
        let tile = gather_tile(self.block.vectors);
        let channels = self.channels;
        let taps = self.plan.taps.len();
        let taps_at_once = (PANEL_ROWS / channels).clamp(1, MAX_TAPS);
        let channels_at_once = channels.div_ceil(channels.div_ceil(PANEL_ROWS).max(1));
        for tap in (0..taps).step_by(taps_at_once) {
            for channel in (0..channels).step_by(channels_at_once) {
                let range = Rows { tap, taps: taps_at_once.min(taps - tap), channel, channels: channels_at_once.min(channels - channel) };
                for pixel in (start..end).step_by(tile.rows) {
                    self.tile(&tile, &range, pixel, end);
                }
            }
        }
    }

    fn tile(&self, tile: &GatherTile, range: &Rows, start: usize, end: usize) {
        let mut rows = [std::ptr::null::<f32>(); MAX_ROWS * MAX_TAPS];
        let mut spare = [0f32; 64];
        let mut out = [spare.as_mut_ptr(); MAX_ROWS];
        let per_image = self.plan.pixels();
        let (mut image, mut pixel) = (start / per_image, start % per_image);
        for r in 0..tile.rows {
            if start + r >= end {
                (0..range.taps).for_each(|t| rows[t * tile.rows + r] = self.zeros.as_ptr());
                continue;
            }
            let offsets = &self.plan.inputs[pixel * self.plan.taps.len() + range.tap..][..range.taps];
            let base = self.input.values[image * self.input.image..].as_ptr();
            for (t, &offset) in offsets.iter().enumerate() {
                // The plan's offsets lie within one image of `input`; that of a padded tap is none, and its pointer is not taken.
                let at = base.wrapping_offset(offset as isize + range.channel as isize);
                rows[t * tile.rows + r] = if offset == PADDED { self.zeros.as_ptr() } else { at };
            }
            let offset = image * self.out_image + self.plan.outputs[pixel] as usize + self.block.start;
            // SAFETY: the plan's output offsets lie within one image of `out`.
            out[r] = unsafe { self.out.add(offset) };
            pixel += 1;
            if pixel == per_image {
                (image, pixel) = (image + 1, 0);
            }
        }
        let first = (range.tap * self.channels + range.channel) * self.block.width();
        let mut job = Gather {
            rows: rows.as_ptr(),
            taps: range.taps,
            channels: range.channels,
            panel: self.panel[first..].as_ptr(),
            out: out.as_ptr(),
            accumulate: self.accumulate || range.tap + range.channel > 0,
        };
        if self.block.columns == self.block.width() {
            // SAFETY: rows, panel and outputs hold the values that `Gather` asks for; this piece owns its outputs.
            unsafe { (tile.run)(&job) };
        } else {
            self.narrow(tile, &mut job, &out, (end - start).min(tile.rows));
        }
    }

    /// Runs a tile that is wider than its columns through a buffer.
    fn narrow(&self, tile: &GatherTile, job: &mut Gather, out: &[*mut f32; MAX_ROWS], used: usize) {
        let mut buffer = [0f32; MAX_ROWS * 64];
        let width = self.block.width();
        let wide: [*mut f32; MAX_ROWS] = std::array::from_fn(|r| buffer[(r * width).min(MAX_ROWS * 64 - width)..].as_mut_ptr());
        let add = std::mem::take(&mut job.accumulate);
        job.out = wide.as_ptr();
        // SAFETY: as in `tile`, with outputs that lie in `buffer`.
        unsafe { (tile.run)(job) };
        for r in 0..used {
            // SAFETY: each used output row holds `columns` values that this piece owns.
            let row = unsafe { std::slice::from_raw_parts_mut(out[r], self.block.columns) };
            for (o, &b) in row.iter_mut().zip(&buffer[r * width..]) {
                *o = if add { *o + b } else { b };
            }
        }
    }
}

struct Rows {
    tap: usize,
    taps: usize,
    channel: usize,
    channels: usize,
}

/// Weight gradient `(taps, channels, columns)` of a batch: each tap's inputs times the output gradients.
pub(super) fn outer_all(plan: &Plan, input: Images, grads: Images, channels: usize, weight: &mut [f32]) {
    let taps = plan.taps.len();
    let columns = weight.len() / (taps * channels);
    let pixels = plan.pixels() * (input.values.len() / input.image);
    // Small weights: cut the pixels, each part with a buffer of its own. Large weights: cut the weights.
    let parts = if weight.len() <= 160 * 1024 { pixels.div_ceil(4096).clamp(1, 8) } else { 1 };
    let blocks = columns.div_ceil(outer_width());
    let pieces = if parts > 1 { 1 } else { taps * blocks };
    let zeros = vec![0f32; channels];
    let mut partials = vec![0f32; if parts > 1 { (parts - 1) * weight.len() } else { 0 }];
    weight.fill(0.0);
    let (first, rest) = (SharedMut(weight.as_mut_ptr()), SharedMut(partials.as_mut_ptr()));
    let len = weight.len();
    for_each(parts * pieces, |i| {
        let part = i / pieces;
        let piece = OuterPiece {
            plan,
            input,
            grads,
            channels,
            columns,
            zeros: &zeros,
            // SAFETY: part 0 writes `weight`, part p the p-th buffer.
            weight: if part == 0 { first.get() } else { unsafe { rest.get().add((part - 1) * len) } },
        };
        let step = pixels.div_ceil(parts);
        let range = (part * step, ((part + 1) * step).min(pixels));
        match parts > 1 {
            true => piece.run(range, 0..taps, 0..blocks),
            false => piece.run(range, i / blocks..i / blocks + 1, i % blocks..i % blocks + 1),
        }
    });
    for partial in partials.chunks_exact(len.max(1)) {
        weight.iter_mut().zip(partial).for_each(|(w, p)| *w += p);
    }
}

fn outer_width() -> usize {
    max_vectors() * lanes()
}

struct OuterPiece<'a> {
    plan: &'a Plan,
    input: Images<'a>,
    grads: Images<'a>,
    channels: usize,
    columns: usize,
    zeros: &'a [f32],
    weight: *mut f32,
}

impl OuterPiece<'_> {
    fn run(&self, (start, end): (usize, usize), taps: std::ops::Range<usize>, blocks: std::ops::Range<usize>) {
        let mut tail = vec![0f32; OUTER_PIXELS * lanes()];
        for pixel in (start..end).step_by(OUTER_PIXELS) {
            let count = OUTER_PIXELS.min(end - pixel);
            for block in blocks.clone() {
                for tap in taps.clone() {
                    let rows = self.rows(pixel, count, tap);
                    self.block(&rows[..count], pixel, tap, block, &mut tail);
                }
            }
        }
    }

    /// Pointers to the input values that each pixel multiplies at this tap.
    fn rows(&self, start: usize, count: usize, tap: usize) -> [*const f32; OUTER_PIXELS] {
        let mut rows = [self.zeros.as_ptr(); OUTER_PIXELS];
        let (per_image, taps) = (self.plan.pixels(), self.plan.taps.len());
        let (mut image, mut pixel) = (start / per_image, start % per_image);
        for row in rows.iter_mut().take(count) {
            let offset = self.plan.inputs[pixel * taps + tap];
            if offset != PADDED {
                *row = self.input.values[image * self.input.image + offset as usize..].as_ptr();
            }
            pixel += 1;
            if pixel == per_image {
                (image, pixel) = (image + 1, 0);
            }
        }
        rows
    }

    fn block(&self, rows: &[*const f32], pixel: usize, tap: usize, block: usize, tail: &mut [f32]) {
        let start = block * outer_width();
        let used = outer_width().min(self.columns - start);
        let vectors = used / lanes();
        let grads = self.grads.values[pixel * self.columns + start..].as_ptr();
        // SAFETY: the weight gradient of (tap, channel 0, column start) lies within this piece's buffer.
        let weight = unsafe { self.weight.add(tap * self.channels * self.columns + start) };
        if vectors > 0 {
            self.tiles(rows, (grads, self.columns), (weight, self.columns), vectors);
        }
        if !used.is_multiple_of(lanes()) {
            self.narrow(rows, pixel, start + vectors * lanes(), tap, tail);
        }
    }

    fn tiles(
        &self,
        rows: &[*const f32],
        (grads, grad_stride): (*const f32, usize),
        (weight, weight_stride): (*mut f32, usize),
        vectors: usize,
    ) {
        let mut shifted = [std::ptr::null::<f32>(); OUTER_PIXELS];
        for channel in (0..self.channels).step_by(OUTER_ROWS) {
            let height = OUTER_ROWS.min(self.channels - channel);
            // SAFETY: every row holds `channels` values; weights have a row for every channel.
            let weight = unsafe { weight.add(channel * weight_stride) };
            for (to, from) in shifted.iter_mut().zip(rows) {
                // SAFETY: as above.
                *to = unsafe { from.add(channel) };
            }
            let job = Outer { rows: shifted.as_ptr(), pixels: rows.len(), grads, grad_stride, weight, weight_stride };
            // SAFETY: rows, gradients and weights hold the values that `Outer` asks for; this piece owns its weights.
            unsafe { outer_tile(height, vectors)(&job) };
        }
    }

    /// The last columns, fewer than a vector, through zero-padded copies.
    fn narrow(&self, rows: &[*const f32], pixel: usize, start: usize, tap: usize, tail: &mut [f32]) {
        let (width, used) = (lanes(), self.columns - start);
        for (p, padded) in tail.chunks_exact_mut(width).take(rows.len()).enumerate() {
            let from = (pixel + p) * self.columns + start;
            padded[..used].copy_from_slice(&self.grads.values[from..from + used]);
            padded[used..].fill(0.0);
        }
        let mut sums = vec![0f32; self.channels * width];
        self.tiles(rows, (tail.as_ptr(), width), (sums.as_mut_ptr(), width), 1);
        for (channel, sum) in sums.chunks_exact(width).enumerate() {
            for (i, s) in sum[..used].iter().enumerate() {
                // SAFETY: (tap, channel, start + i) lies within this piece's buffer.
                unsafe { *self.weight.add((tap * self.channels + channel) * self.columns + start + i) += s };
            }
        }
    }
}
