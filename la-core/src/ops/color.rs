//! Colour changes over one picture: bytes in, normalised floats out, rows at a time while they are in the first cache.
//!
//! The loops are plain and branch-free; `dispatch!` compiles them for each instruction set. No operation is contracted,
//! so every set gives the same bits.

use super::simd::dispatch;

/// One colour change with its drawn factor; values are clamped to 0..1 after each, as in torchvision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Adjust {
    /// `f x`.
    Brightness(f32),
    /// `f x + (1 - f) m`, `m` the mean luma of the picture as it is by then.
    Contrast(f32),
    /// `f x + (1 - f) luma`.
    Saturation(f32),
    /// Turns the hue of HSV by this share of the circle.
    Hue(f32),
}

/// What happens to a picture, in this order: gray, the adjustments, the flip, `scale x + shift` for each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ColorPlan {
    /// Whether the three channels become their luma, `0.299 R + 0.587 G + 0.114 B` (ITU-R BT.601).
    pub gray: bool,
    /// Changes in order; each kind at most once.
    pub adjust: Vec<Adjust>,
    /// Whether left and right change places.
    pub flip: bool,
    /// Factor of each channel.
    pub scale: [f32; 3],
    /// Summand of each channel.
    pub shift: [f32; 3],
}

impl ColorPlan {
    /// Values of 0..1 as they are.
    pub fn identity() -> Self {
        Self { gray: false, adjust: vec![], flip: false, scale: [1.0; 3], shift: [0.0; 3] }
    }

    /// The same changes, then `(value - mean) / std` for each channel.
    pub(crate) fn normalizing(self, mean: [f32; 3], deviation: [f32; 3]) -> Self {
        let scale = deviation.map(|deviation| 1.0 / deviation);
        Self { scale, shift: std::array::from_fn(|c| -mean[c] * scale[c]), ..self }
    }
}

/// Applies `plan` to RGB `pixels`, rows of `width`, and writes as many floats to `out`, channels innermost.
///
/// # Panics
/// Where `pixels` and `out` differ in length or are not whole rows.
pub fn apply(pixels: &[u8], width: usize, plan: &ColorPlan, out: &mut [f32]) {
    assert!(pixels.len() == out.len() && width > 0 && pixels.len().is_multiple_of(3 * width), "whole rows of RGB");
    // A gray picture stays gray: saturation and hue do nothing to it, and one channel is enough.
    let is_gray = plan.gray || pixels.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]);
    let mut row = vec![0.0; 3 * width];
    let row = &mut row[..];
    // SAFETY: the kernels hold safe code only; `dispatch` picks an instruction set that the processor has.
    unsafe {
        if is_gray {
            dispatch!(gray_rows(pixels: &[u8], plan: &ColorPlan, row: &mut [f32], out: &mut [f32]))
        } else {
            dispatch!(color_rows(pixels: &[u8], plan: &ColorPlan, row: &mut [f32], out: &mut [f32]))
        }
    }
}

/// The changes before contrast, contrast's factor, and those after it.
fn split_at_contrast(adjust: &[Adjust]) -> (&[Adjust], Option<f32>, &[Adjust]) {
    for (i, change) in adjust.iter().enumerate() {
        if let Adjust::Contrast(factor) = change {
            return (&adjust[..i], Some(*factor), &adjust[i + 1..]);
        }
    }
    (adjust, None, &[])
}

/// Unsafe, and generic, only for `dispatch!`, which compiles it for each instruction set: it asks nothing of its caller.
#[inline(always)]
#[allow(clippy::extra_unused_type_parameters)]
unsafe fn color_rows<S>(pixels: &[u8], plan: &ColorPlan, row: &mut [f32], out: &mut [f32]) {
    let len = row.len();
    let (before, contrast, after) = split_at_contrast(&plan.adjust);
    let mut sum = 0.0f64;
    for (bytes, out) in pixels.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
        load_planes(bytes, row);
        adjust_row(row, before);
        match contrast {
            Some(_) => {
                sum += luma_sum(row);
                out.copy_from_slice(row);
            }
            None => store_row(row, plan, out),
        }
    }
    let Some(factor) = contrast else { return };
    let mean = (sum / (pixels.len() / 3) as f64) as f32;
    for out in out.chunks_exact_mut(len) {
        blend(out, factor, mean, row);
        adjust_row(row, after);
        store_row(row, plan, out);
    }
}

/// As [`color_rows`], one channel for the three.
#[inline(always)]
#[allow(clippy::extra_unused_type_parameters)]
unsafe fn gray_rows<S>(pixels: &[u8], plan: &ColorPlan, row: &mut [f32], out: &mut [f32]) {
    let len = row.len();
    let row = &mut row[..len / 3];
    let (before, contrast, after) = split_at_contrast(&plan.adjust);
    let mut sum = 0.0f64;
    for (bytes, out) in pixels.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
        load_luma(bytes, row);
        brighten(row, before);
        match contrast {
            Some(_) => {
                sum += sum_of(row);
                out[..len / 3].copy_from_slice(row);
            }
            None => store_gray(row, plan, out),
        }
    }
    let Some(factor) = contrast else { return };
    let mean = (sum / (pixels.len() / 3) as f64) as f32;
    for out in out.chunks_exact_mut(len) {
        blend(&out[..len / 3], factor, mean, row);
        brighten(row, after);
        store_gray(row, plan, out);
    }
}

#[inline(always)]
fn load_planes(bytes: &[u8], row: &mut [f32]) {
    let (r, g, b) = planes(row);
    for (((p, r), g), b) in bytes.chunks_exact(3).zip(r).zip(g).zip(b) {
        *r = f32::from(p[0]) / 255.0;
        *g = f32::from(p[1]) / 255.0;
        *b = f32::from(p[2]) / 255.0;
    }
}

#[inline(always)]
fn load_luma(bytes: &[u8], row: &mut [f32]) {
    for (p, x) in bytes.chunks_exact(3).zip(row) {
        // Equal channels give exactly their value: the weights are whole thousandths.
        let luma = 299.0 * f32::from(p[0]) + 587.0 * f32::from(p[1]) + 114.0 * f32::from(p[2]);
        *x = luma / 255_000.0;
    }
}

#[inline(always)]
fn planes(row: &mut [f32]) -> (&mut [f32], &mut [f32], &mut [f32]) {
    let width = row.len() / 3;
    let (r, rest) = row.split_at_mut(width);
    let (g, b) = rest.split_at_mut(width);
    (r, g, b)
}

#[inline(always)]
fn luma(r: f32, g: f32, b: f32) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

#[inline(always)]
fn clamp(x: f32) -> f32 {
    // `f32::clamp` keeps NaN and so does not become one minimum and one maximum.
    let x = if x > 0.0 { x } else { 0.0 };
    if x < 1.0 {
        x
    } else {
        1.0
    }
}

#[inline(always)]
fn adjust_row(row: &mut [f32], changes: &[Adjust]) {
    for change in changes {
        match *change {
            Adjust::Brightness(_) => brighten(row, std::slice::from_ref(change)),
            Adjust::Saturation(factor) => saturate(row, factor),
            Adjust::Hue(turn) => turn_hue(row, turn),
            Adjust::Contrast(_) => (),
        }
    }
}

#[inline(always)]
fn brighten(row: &mut [f32], changes: &[Adjust]) {
    for change in changes {
        if let Adjust::Brightness(factor) = *change {
            for x in row.iter_mut() {
                *x = clamp(*x * factor);
            }
        }
    }
}

#[inline(always)]
fn blend(from: &[f32], factor: f32, mean: f32, row: &mut [f32]) {
    let base = (1.0 - factor) * mean;
    for (x, to) in from.iter().zip(row) {
        *to = clamp(*x * factor + base);
    }
}

#[inline(always)]
fn saturate(row: &mut [f32], factor: f32) {
    let (r, g, b) = planes(row);
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        let base = (1.0 - factor) * luma(*r, *g, *b);
        *r = clamp(*r * factor + base);
        *g = clamp(*g * factor + base);
        *b = clamp(*b * factor + base);
    }
}

/// To HSV, hue plus `turn`, and back: `channel = V - C clamp(min(k, 4 - k), 0, 1)`, `k = n + 6 H mod 6`, `n` = 5, 3, 1.
#[inline(always)]
fn turn_hue(row: &mut [f32], turn: f32) {
    let (r, g, b) = planes(row);
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        let max = if *r > *g { *r } else { *g };
        let max = if max > *b { max } else { *b };
        let min = if *r < *g { *r } else { *g };
        let min = if min < *b { min } else { *b };
        let chroma = max - min;
        let inverse = 1.0 / if chroma > 0.0 { chroma } else { 1.0 };
        let from_blue = 4.0 + (*r - *g) * inverse;
        let from_green = 2.0 + (*b - *r) * inverse;
        let from_red = (*g - *b) * inverse;
        let sector = if max == *g { from_green } else { from_blue };
        let sector = if max == *r { from_red } else { sector };
        let sector = sector + 6.0 * turn;
        *r = channel(sector + 5.0, max, chroma);
        *g = channel(sector + 3.0, max, chroma);
        *b = channel(sector + 1.0, max, chroma);
    }
}

#[inline(always)]
fn channel(k: f32, max: f32, chroma: f32) -> f32 {
    let k = k - 6.0 * (k * (1.0 / 6.0)).floor();
    let other = 4.0 - k;
    max - chroma * clamp(if k < other { k } else { other })
}

/// In sixteen partial sums, so that the order of additions does not depend on the instruction set.
#[inline(always)]
fn luma_sum(row: &mut [f32]) -> f64 {
    let mut sums = [0.0f32; 16];
    let (r, g, b) = planes(row);
    let mut chunks = r.chunks_exact(16).zip(g.chunks_exact(16)).zip(b.chunks_exact(16));
    for ((r, g), b) in &mut chunks {
        for i in 0..16 {
            sums[i] += luma(r[i], g[i], b[i]);
        }
    }
    let done = r.len() / 16 * 16;
    for i in done..r.len() {
        sums[i - done] += luma(r[i], g[i], b[i]);
    }
    sums.iter().map(|&sum| f64::from(sum)).sum()
}

#[inline(always)]
fn sum_of(row: &[f32]) -> f64 {
    let mut sums = [0.0f32; 16];
    for chunk in row.chunks(16) {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x;
        }
    }
    sums.iter().map(|&sum| f64::from(sum)).sum()
}

#[inline(always)]
fn store_row(row: &mut [f32], plan: &ColorPlan, out: &mut [f32]) {
    let (scale, shift) = (plan.scale, plan.shift);
    let (r, g, b) = planes(row);
    if plan.flip {
        r.reverse();
        g.reverse();
        b.reverse();
    }
    for (((out, r), g), b) in out.chunks_exact_mut(3).zip(r).zip(g).zip(b) {
        out[0] = *r * scale[0] + shift[0];
        out[1] = *g * scale[1] + shift[1];
        out[2] = *b * scale[2] + shift[2];
    }
}

#[inline(always)]
fn store_gray(row: &mut [f32], plan: &ColorPlan, out: &mut [f32]) {
    let (scale, shift) = (plan.scale, plan.shift);
    if plan.flip {
        row.reverse();
    }
    for (out, x) in out.chunks_exact_mut(3).zip(row) {
        out[0] = *x * scale[0] + shift[0];
        out[1] = *x * scale[1] + shift[1];
        out[2] = *x * scale[2] + shift[2];
    }
}
