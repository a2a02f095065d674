//! The shapes of a convolution, for every way to compute it.

/// Which convolution: square stride and padding, any kernel and image size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Pixels from one output to the next.
    pub stride: usize,
    /// Zero rows and columns on each side.
    pub padding: usize,
}

impl Conv2d {
    /// A square kernel.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self { kernel: (kernel, kernel), stride, padding }
    }

    /// Whether the taps of one kernel row are read as one run of values: with few channels (the stem).
    pub(in crate::ops) fn merges_rows(&self, channels: usize) -> bool {
        self.kernel.1 > 1 && self.kernel.1 * channels <= 32
    }

    /// Height and width of the output of an `(height, width)` input, or `None` where the kernel does not fit.
    pub fn output_size(&self, (height, width): (usize, usize)) -> Option<(usize, usize)> {
        let side = |size: usize, kernel: usize| Some((size + 2 * self.padding).checked_sub(kernel)? / self.stride + 1);
        Some((side(height, self.kernel.0)?, side(width, self.kernel.1)?))
    }
}

/// A convolution with the checked shapes of what goes through it.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Which convolution.
    pub conv: Conv2d,
    /// Images.
    pub batch: usize,
    /// Height and width of an input.
    pub input: (usize, usize),
    /// Height and width of an output.
    pub output: (usize, usize),
    /// Channels of an input.
    pub channels: usize,
    /// Channels of an output.
    pub out_channels: usize,
}

impl Shape {
    /// The taps of the kernel, row after row.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::ops) fn taps(&self) -> Vec<usize> {
        (0..self.conv.kernel.0 * self.conv.kernel.1).collect()
    }
}
