//! The product that all else is made of: 32 rows times a panel of 32 columns.

use super::path::{path, Path};
use half::bf16;
use std::arch::{asm, x86_64::*};

/// Rows and columns of a product, and depth of one block of a panel.
pub(super) const SIDE: usize = 32;
/// Values of one block of a panel: two tiles of 16 columns, each 16 pairs of rows deep.
pub(super) const BLOCK: usize = SIDE * SIDE;
/// Values of one tile.
pub(super) const TILE: usize = BLOCK / 2;

/// `out[r][c] = Σ_t Σ_k a[t][r][k] · panel[t][k][c]`.
pub(super) struct Product<'a> {
    /// The first row's first value; each row begins `row` values after the one before.
    pub a: *const bf16,
    pub row: usize,
    /// Where each tap's rows begin, in bytes from `a`.
    pub taps: &'a [isize],
    /// Depth of each tap, in blocks of 32.
    pub blocks: usize,
    /// `taps × blocks` blocks, one after the other.
    pub panel: *const bf16,
}

/// 32 rows of 32 sums.
#[repr(C, align(64))]
pub(super) struct Sums(pub [f32; SIDE * SIDE]);

/// A thread that may multiply: with AMX, its tiles have their shape for as long as this lives.
pub(super) struct Multiplier(Path);

#[repr(C, align(64))]
struct TileConfig([u8; 64]);

impl Multiplier {
    /// For work that begins on this thread and ends on it. `None` where the processor has no such product.
    pub fn new() -> Option<Self> {
        let path = path()?;
        if path == Path::Amx {
            // Palette 1; each of the eight tiles has 16 rows of 64 bytes.
            let mut config = TileConfig([0; 64]);
            config.0[0] = 1;
            for tile in 0..8 {
                (config.0[16 + 2 * tile], config.0[48 + tile]) = (64, 16);
            }
            // SAFETY: `path` says that this process may use tiles; the configuration is a valid one of 64 bytes.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) };
        }
        Some(Self(path))
    }

    /// Writes the whole of `out`.
    ///
    /// # Safety
    /// 32 rows of `blocks * 32` values must be readable at each tap, and the panel's blocks.
    #[inline]
    pub unsafe fn run(&self, product: &Product, out: &mut Sums) {
        match self.0 {
            // SAFETY: the caller's promise; `new` found the instructions.
            Path::Amx => unsafe { amx(product, out) },
            // SAFETY: as above.
            Path::Avx512 => unsafe { avx512(product, out) },
        }
    }
}

impl Drop for Multiplier {
    fn drop(&mut self) {
        if self.0 == Path::Amx {
            // SAFETY: gives the tiles' state back; nothing uses it after this.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }
}

/// Four tiles of sums: two of rows by two of columns.
unsafe fn amx(product: &Product, out: &mut Sums) {
    if product.taps.is_empty() || product.blocks == 0 {
        return out.0.fill(0.0);
    }
    // SAFETY: the caller's promise gives every address that is read; `out` has the four tiles that are written.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "mov {upper}, [{taps}]",
            "add {upper}, {a}",
            "lea {lower}, [{upper} + {row}*8]",
            "lea {lower}, [{lower} + {row}*8]",
            "mov {left}, {blocks}",
            "3:",
            "tileloadd tmm4, [{upper} + {row}*1]",
            "tileloadd tmm6, [{panel} + {stride}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{panel} + {stride}*1 + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {row}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {upper}, 64",
            "add {lower}, 64",
            "add {panel}, 2048",
            "dec {left}",
            "jnz 3b",
            "add {taps}, 8",
            "dec {count}",
            "jnz 2b",
            "add {stride}, {stride}",
            "tilestored [{out} + {stride}*1], tmm0",
            "tilestored [{out} + {stride}*1 + 64], tmm1",
            "tilestored [{out} + {stride}*1 + 2048], tmm2",
            "tilestored [{out} + {stride}*1 + 2112], tmm3",
            a = in(reg) product.a,
            row = in(reg) product.row * size_of::<bf16>(),
            taps = inout(reg) product.taps.as_ptr() => _,
            count = inout(reg) product.taps.len() => _,
            blocks = in(reg) product.blocks,
            panel = inout(reg) product.panel => _,
            out = in(reg) out.0.as_mut_ptr(),
            stride = inout(reg) 64usize => _,
            upper = out(reg) _,
            lower = out(reg) _,
            left = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        );
    }
}

/// Rows that are summed at once: 16 sums hide the latency of the product.
const ROWS: usize = 8;

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn avx512(product: &Product, out: &mut Sums) {
    for first in (0..SIDE).step_by(ROWS) {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        let mut panel = product.panel;
        for &tap in product.taps {
            // SAFETY: the caller's promise: 32 rows at each tap, and a block of the panel for each 32 values of depth.
            unsafe {
                let mut a = product.a.byte_offset(tap).add(first * product.row);
                for _ in 0..product.blocks {
                    for pair in 0..SIDE / 2 {
                        let column = panel.add(pair * SIDE);
                        let b: [__m512bh; 2] = [load(column), load(column.add(TILE))];
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let a = a.add(r * product.row + 2 * pair).cast::<i32>().read_unaligned();
                            let a: __m512bh = std::mem::transmute(_mm512_set1_epi32(a));
                            sums[0] = _mm512_dpbf16_ps(sums[0], a, b[0]);
                            sums[1] = _mm512_dpbf16_ps(sums[1], a, b[1]);
                        }
                    }
                    a = a.add(SIDE);
                    panel = panel.add(BLOCK);
                }
            }
        }
        for (row, sums) in out.0[first * SIDE..].chunks_exact_mut(SIDE).zip(&sums) {
            // SAFETY: a row has 32 sums.
            unsafe {
                _mm512_storeu_ps(row.as_mut_ptr(), sums[0]);
                _mm512_storeu_ps(row.as_mut_ptr().add(16), sums[1]);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn load(p: *const bf16) -> __m512bh {
    // SAFETY: the caller gives 32 values; both types are 64 bytes without invalid patterns.
    unsafe { std::mem::transmute(_mm512_loadu_si512(p.cast())) }
}
