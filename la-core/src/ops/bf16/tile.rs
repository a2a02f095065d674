//! The product that all else is made of: 32 rows times a panel of 32 columns.

use super::path::{path, Path};
use half::bf16;
use std::arch::{asm, x86_64::*};

/// Rows and columns of a product, and depth of one block of a panel.
pub(super) const SIDE: usize = 32;
/// Pairs of a panel's rows in one block.
pub(super) const PAIRS: usize = SIDE / 2;
/// Values of a pair of a panel's rows: `(even[c], odd[c])` for 32 columns.
pub(super) const PAIR: usize = 2 * SIDE;
/// Values of one block of a panel.
pub(super) const BLOCK: usize = SIDE * SIDE;

/// A run of values of each row, and the rows of a panel that they multiply.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Where the run begins, in bytes from the row's first value, and from the panel's.
    pub a: isize,
    pub panel: isize,
    /// Half its length: see [`pairs`].
    pub pairs: usize,
}

/// `out[r][c] = Σ_runs Σ_k a[run][r][k] · panel[run][k][c]`.
pub(super) struct Product<'a> {
    /// The first row's first value; each row begins `row` values after the one before.
    pub a: *const bf16,
    pub row: usize,
    /// How many rows, a multiple of [`unit`], at most 32.
    pub rows: usize,
    pub runs: &'a [Run],
    pub panel: *const bf16,
}

/// Rows come in multiples of this.
pub(super) fn unit() -> usize {
    match path() {
        Some(Path::Amx) => SIDE,
        _ => ROWS,
    }
}

/// Pairs that a product of so many values takes; what lies past them is multiplied by zeros.
pub(super) fn pairs(values: usize) -> usize {
    match path() {
        Some(Path::Amx) => values.div_ceil(SIDE) * PAIRS,
        _ => values.div_ceil(2),
    }
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

    /// Writes the product's rows of `out`.
    ///
    /// # Safety
    /// Each run must be readable in each row and in the panel.
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
    if product.runs.is_empty() {
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
            "mov {upper}, [{runs}]",
            "add {upper}, {a}",
            "lea {lower}, [{upper} + {row}*8]",
            "lea {lower}, [{lower} + {row}*8]",
            "mov {b}, [{runs} + 8]",
            "add {b}, {panel}",
            "mov {left}, [{runs} + 16]",
            "shr {left}, 4",
            "3:",
            "tileloadd tmm4, [{upper} + {row}*1]",
            "tileloadd tmm6, [{b} + {stride}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {stride}*1 + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {row}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {upper}, 64",
            "add {lower}, 64",
            "add {b}, 2048",
            "dec {left}",
            "jnz 3b",
            "add {runs}, 24",
            "dec {count}",
            "jnz 2b",
            "tilestored [{out} + {stride}*1], tmm0",
            "tilestored [{out} + {stride}*1 + 64], tmm1",
            "tilestored [{out} + {stride}*1 + 2048], tmm2",
            "tilestored [{out} + {stride}*1 + 2112], tmm3",
            a = in(reg) product.a,
            row = in(reg) product.row * size_of::<bf16>(),
            runs = inout(reg) product.runs.as_ptr() => _,
            count = inout(reg) product.runs.len() => _,
            panel = in(reg) product.panel,
            out = in(reg) out.0.as_mut_ptr(),
            stride = in(reg) 4 * SIDE,
            b = out(reg) _,
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
    for first in (0..product.rows).step_by(ROWS) {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        for run in product.runs {
            // SAFETY: the caller's promise: the run is readable in each row, and as many pairs of the panel's rows.
            unsafe {
                let (a, panel) = (product.a.add(first * product.row).byte_offset(run.a), product.panel.byte_offset(run.panel));
                for pair in 0..run.pairs {
                    let b: [__m512bh; 2] = [load(panel.add(pair * PAIR)), load(panel.add(pair * PAIR + SIDE))];
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let a = a.add(r * product.row + 2 * pair).cast::<i32>().read_unaligned();
                        let a: __m512bh = std::mem::transmute(_mm512_set1_epi32(a));
                        sums[0] = _mm512_dpbf16_ps(sums[0], a, b[0]);
                        sums[1] = _mm512_dpbf16_ps(sums[1], a, b[1]);
                    }
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
