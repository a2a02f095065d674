//! Blocks of dot products between two sets of rows: exact, or coarse with a known bound where the processor has
//! instructions for it.

use super::{
    products::{panel_width, Panels},
    quantize::{Bound, CodePanels, Codes, PANEL_WIDTH},
};
use std::ops::Range;

/// Rows that stand on either side of products.
pub(crate) struct Rows<'a> {
    values: &'a [f32],
    dim: usize,
    codes: Option<Codes>,
}

impl<'a> Rows<'a> {
    /// Rows `values` `(n, dim)` for exact products.
    pub fn exact(values: &'a [f32], dim: usize) -> Self {
        Self { values, dim, codes: None }
    }

    /// The same for coarse products; only where [`super::quantize::is_available`].
    pub fn coarse(values: &'a [f32], dim: usize) -> Self {
        Self { values, dim, codes: Some(Codes::new(values, dim)) }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    /// All rows.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// Whether products with these rows are coarse.
    pub fn is_coarse(&self) -> bool {
        self.codes.is_some()
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.values[i * self.dim..][..self.dim]
    }

    /// What coding lost in row `i`; nothing where products are exact.
    pub fn bound(&self, i: usize) -> Bound {
        self.codes.as_ref().map_or(Bound::default(), |codes| codes.bound(i))
    }

    /// What coding lost at most.
    pub fn bound_of_all(&self) -> Bound {
        self.codes.as_ref().map_or(Bound::default(), Codes::bound_of_all)
    }
}

/// Rows packed as the columns of products.
pub(crate) enum Columns {
    Exact(Panels),
    Coarse(CodePanels),
}

impl Columns {
    /// Packs rows `range`; `bias(i)` is added to every product with row `range.start + i`.
    pub fn pack(rows: &Rows, range: Range<usize>, bias: impl Fn(usize) -> f32) -> Self {
        match &rows.codes {
            Some(codes) => Self::Coarse(CodePanels::pack(codes, range, bias)),
            None => Self::Exact(Panels::pack(&rows.values[range.start * rows.dim..range.end * rows.dim], rows.dim, bias)),
        }
    }

    /// How many columns of `rows` fill a panel.
    pub fn panel_width(rows: &Rows) -> usize {
        if rows.is_coarse() {
            PANEL_WIDTH
        } else {
            panel_width()
        }
    }

    /// Columns, missing ones of the last panel included; these score `-inf`.
    pub fn len(&self) -> usize {
        match self {
            Self::Exact(panels) => panels.num_columns(),
            Self::Coarse(panels) => panels.len() * PANEL_WIDTH,
        }
    }

    /// Writes the products of rows `range` with every column, row by row.
    pub fn products(&self, rows: &Rows, range: Range<usize>, out: &mut [f32]) {
        match (self, &rows.codes) {
            (Self::Exact(panels), _) => {
                panels.products(&rows.values[range.start * rows.dim..range.end * rows.dim], 0..panels.num_panels(), out);
            }
            (Self::Coarse(panels), Some(codes)) => panels.products(codes, range, 0..panels.len(), out),
            (Self::Coarse(_), None) => unreachable!("both sides of a product are coded or neither is"),
        }
    }
}
