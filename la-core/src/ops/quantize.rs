//! Rows as 8-bit codes whose products miss the true ones by no more than a known bound.
//!
//! Where the processor multiplies bytes (AVX-512 VNNI), four times as many products fit in a cycle as with `f32`.
//! Searches scan the coarse products and compute exactly what the bound cannot rule out, so results are exact.
//! `x·y - x̂·ŷ = x·(y - ŷ) + (x - x̂)·ŷ`, hence at most `|x| |y - ŷ| + |x - x̂| |ŷ|`; codes are `row / scale`, rounded.

use super::{
    codes::encode,
    parallel,
    simd::{self, Level},
};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::ops::Range;

/// Columns in a panel: two vectors of 32-bit sums.
pub(crate) const PANEL_WIDTH: usize = 32;

/// Values of a row that one instruction multiplies and sums.
const GROUP: usize = 4;

/// What a zero is coded as.
const ZERO: u8 = 128;

/// Whether this processor multiplies bytes fast enough for the coarse pass to pay.
pub(crate) fn is_available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        simd::level() == Level::Avx512 && is_x86_feature_detected!("avx512vnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (simd::level(), Level::Portable);
        false
    }
}

/// Lengths of rows and of what coding lost; maxima over a set of rows bound its products.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bound {
    /// `|x|`.
    pub norm: f32,
    /// `|x - x̂|`.
    pub error: f32,
}

impl Bound {
    /// How far a coarse product of rows within the two bounds, plus a bias of up to `bias`, may lie from the true one.
    pub fn slack(self, other: Self, bias: f32) -> f32 {
        let rounding = 4e-6 * (self.norm * other.norm + bias);
        self.norm * other.error + self.error * (other.norm + other.error) + rounding
    }

    fn max(self, other: Self) -> Self {
        Self { norm: self.norm.max(other.norm), error: self.error.max(other.error) }
    }
}

/// Rows as codes.
pub(crate) struct Codes {
    /// `code + 128`, each row padded with zeros to whole groups.
    codes: Vec<u8>,
    rows: Vec<Coded>,
    stride: usize,
}

/// What a row's codes stand for.
#[derive(Debug, Clone, Copy, Default)]
struct Coded {
    scale: f32,
    bound: Bound,
}

impl Codes {
    /// Codes `rows` `(n, dim)`.
    pub fn new(rows: &[f32], dim: usize) -> Self {
        const BLOCK: usize = 1024;
        let (n, stride) = (rows.len() / dim, dim.next_multiple_of(GROUP));
        let (mut codes, mut coded) = (vec![ZERO; n * stride], vec![Coded::default(); n]);
        let mut blocks: Vec<_> = codes.chunks_mut(BLOCK * stride).zip(coded.chunks_mut(BLOCK)).zip(rows.chunks(BLOCK * dim)).collect();
        parallel::for_each_chunk(&mut blocks, 1, |_, blocks| {
            let ((codes, coded), rows) = &mut blocks[0];
            let mut signed = vec![0; dim];
            for (coded, (row, codes)) in coded.iter_mut().zip(rows.chunks_exact(dim).zip(codes.chunks_exact_mut(stride))) {
                let (scale, norm, error) = encode(row, &mut signed);
                *coded = Coded { scale, bound: Bound { norm, error } };
                codes.iter_mut().zip(&signed).for_each(|(code, &signed)| *code = (signed as u8).wrapping_add(ZERO));
            }
        });
        Self { codes, rows: coded, stride }
    }

    /// The bound of row `i`.
    pub fn bound(&self, i: usize) -> Bound {
        self.rows[i].bound
    }

    /// The bound that holds for every row.
    pub fn bound_of_all(&self) -> Bound {
        self.rows.iter().fold(Bound::default(), |all, row| all.max(row.bound))
    }
}

/// Coded rows, packed: the columns of the product.
pub(crate) struct CodePanels {
    /// Panel by panel, group by group, four codes a column.
    groups: Vec<i32>,
    /// `-128 Σ codes` of each column, which undoes the offset of the rows' codes.
    starts: Vec<i32>,
    scales: Vec<f32>,
    bias: Vec<f32>,
    num_groups: usize,
}

impl CodePanels {
    /// Packs coded rows `range`; `bias(i)` is added to every product with row `range.start + i`.
    pub fn pack(rows: &Codes, range: Range<usize>, bias: impl Fn(usize) -> f32) -> Self {
        let (n, num_groups) = (range.len(), rows.stride / GROUP);
        let width = n.next_multiple_of(PANEL_WIDTH);
        let mut packed = Self {
            groups: vec![0; width * num_groups],
            starts: vec![0; width],
            scales: vec![0.0; width],
            bias: (0..width).map(|i| if i < n { bias(i) } else { f32::NEG_INFINITY }).collect(),
            num_groups,
        };
        for (i, row) in range.enumerate() {
            let first = i / PANEL_WIDTH * PANEL_WIDTH * num_groups + i % PANEL_WIDTH;
            let codes = &rows.codes[row * rows.stride..][..rows.stride];
            for (g, group) in codes.chunks_exact(GROUP).enumerate() {
                let signed = [0, 1, 2, 3].map(|b| group[b].wrapping_sub(ZERO));
                packed.groups[first + g * PANEL_WIDTH] = i32::from_le_bytes(signed);
            }
            packed.starts[i] = codes.iter().map(|&c| i32::from(c) - i32::from(ZERO)).sum::<i32>() * -i32::from(ZERO);
            packed.scales[i] = rows.rows[row].scale;
        }
        packed
    }

    /// How many panels there are.
    pub fn len(&self) -> usize {
        self.bias.len() / PANEL_WIDTH
    }

    /// Writes `out[i * stride + c] ≈ row range.start + i · column c + bias[c]`, as [`super::products::Panels::products`].
    pub fn products(&self, rows: &Codes, range: Range<usize>, panels: Range<usize>, out: &mut [f32]) {
        let (num_rows, stride) = (range.len(), panels.len() * PANEL_WIDTH);
        assert!(is_available() && rows.stride == self.num_groups * GROUP && range.end <= rows.rows.len());
        assert!(panels.end <= self.len() && out.len() >= num_rows * stride);
        for (at, panel) in panels.enumerate() {
            let columns = panel * PANEL_WIDTH;
            let tile = Tile {
                rows: rows.codes[range.start * rows.stride..].as_ptr(),
                coded: rows.rows[range.start..].as_ptr(),
                num_rows,
                num_groups: self.num_groups,
                panel: self.groups[columns * self.num_groups..].as_ptr(),
                starts: self.starts[columns..].as_ptr(),
                scales: self.scales[columns..].as_ptr(),
                bias: self.bias[columns..].as_ptr(),
                out: out[at * PANEL_WIDTH..].as_mut_ptr(),
                stride,
            };
            // SAFETY: the assertions bound the rows, the panel and the written part of `out`, and say that the
            // processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                panel_products(tile)
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = tile;
        }
    }
}

/// A block of coded rows against one panel.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
struct Tile {
    rows: *const u8,
    coded: *const Coded,
    num_rows: usize,
    num_groups: usize,
    panel: *const i32,
    starts: *const i32,
    scales: *const f32,
    bias: *const f32,
    out: *mut f32,
    stride: usize,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn panel_products(tile: Tile) {
    let mut row = 0;
    // SAFETY: rows stay below `num_rows`; the caller gives valid pointers and a processor with the instructions.
    unsafe {
        while row + 12 <= tile.num_rows {
            tile_products::<12>(tile, row);
            row += 12;
        }
        while row < tile.num_rows {
            tile_products::<1>(tile, row);
            row += 1;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
unsafe fn tile_products<const R: usize>(tile: Tile, first: usize) {
    // SAFETY: `first + R` rows exist; the panel holds `num_groups` times two vectors; `out` two vectors at each row.
    unsafe {
        let rows = tile.rows.cast::<i32>().add(first * tile.num_groups);
        let starts = [_mm512_loadu_si512(tile.starts.cast()), _mm512_loadu_si512(tile.starts.add(16).cast())];
        let mut sums = [starts; R];
        for g in 0..tile.num_groups {
            let column = tile.panel.add(g * PANEL_WIDTH);
            let (a, b) = (_mm512_loadu_si512(column.cast()), _mm512_loadu_si512(column.add(16).cast()));
            for (r, sum) in sums.iter_mut().enumerate() {
                let codes = _mm512_set1_epi32(rows.add(r * tile.num_groups + g).read_unaligned());
                sum[0] = _mm512_dpbusd_epi32(sum[0], codes, a);
                sum[1] = _mm512_dpbusd_epi32(sum[1], codes, b);
            }
        }
        for v in 0..2 {
            let scales = _mm512_loadu_ps(tile.scales.add(16 * v));
            let bias = _mm512_loadu_ps(tile.bias.add(16 * v));
            for (r, sum) in sums.iter().enumerate() {
                let scale = _mm512_mul_ps(scales, _mm512_set1_ps((*tile.coded.add(first + r)).scale));
                let score = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[v]), scale, bias);
                _mm512_storeu_ps(tile.out.add((first + r) * tile.stride + 16 * v), score);
            }
        }
    }
}
