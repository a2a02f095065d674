//! The layers of a ResNet, each with the forward pass, the training forward pass with its cache, and the backward pass.

use super::ResNetConfig;
use crate::{
    ops::{
        batch_norm::{batch_norm, batch_norm_backward, BatchStats, Epilogue},
        bias::{add_bias, sum_rows},
        conv2d::{conv2d, conv2d_backward_input, conv2d_backward_weight, conv2d_eval, conv2d_stats, Conv2d},
    },
    rng::Rng,
    Result,
};
use candle_core::{Device, Tensor};

/// Share of the new value when a running statistic moves.
const NORM_MOMENTUM: f32 = 0.1;

/// A trainable tensor and its gradient, in this crate's layout.
pub struct Parameter {
    /// torchvision's name.
    pub name: String,
    /// The values.
    pub value: Tensor,
    /// The gradient of the last backward pass; the shape of `value`.
    pub grad: Tensor,
    /// Whether weight decay applies: not to batch norm nor biases.
    pub decays: bool,
    pub(super) kind: Kind,
}

/// What a tensor is, which decides its start and its layout in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `(KH, KW, C, O)` here, `(O, C, KH, KW)` in files.
    Conv,
    /// `(1, 1, C, O)` here, `(O, C)` in files.
    Linear,
    /// The bias of a linear layer over this many inputs.
    LinearBias { inputs: usize },
    /// Starts at 1: batch norm's weight and running variance.
    One,
    /// Starts at 0: batch norm's bias and running mean.
    Zero,
}

/// Makes the tensor of a shape and kind, in the order of torchvision's state dict.
pub(super) type Make<'a> = &'a mut dyn FnMut(&[usize], Kind) -> Result<Tensor>;

impl Kind {
    /// The value before training: Kaiming normal over the outgoing connections, torchvision's uniform for `fc`.
    pub fn initial(self, shape: &[usize], rng: &mut Rng, device: &Device) -> Result<Tensor> {
        let len: usize = shape.iter().product();
        let uniform = |inputs: usize, rng: &mut Rng| {
            let bound = 1.0 / (inputs as f32).sqrt();
            (0..len).map(|_| rng.uniform_in(-bound, bound)).collect()
        };
        let values: Vec<f32> = match self {
            Kind::Conv => {
                let std = (2.0 / (shape[3] * shape[0] * shape[1]) as f32).sqrt();
                (0..len).map(|_| rng.normal() * std).collect()
            }
            Kind::Linear => uniform(shape[2], rng),
            Kind::LinearBias { inputs } => uniform(inputs, rng),
            Kind::One => vec![1.0; len],
            Kind::Zero => vec![0.0; len],
        };
        Ok(Tensor::from_vec(values, shape, device)?)
    }
}

impl Parameter {
    fn new(name: String, shape: &[usize], kind: Kind, make: Make) -> Result<Self> {
        let value = make(shape, kind)?;
        let grad = value.zeros_like()?;
        Ok(Self { name, value, grad, decays: matches!(kind, Kind::Conv | Kind::Linear), kind })
    }
}

/// A running statistic: saved with the weights, moved by training, never by the optimiser.
pub(super) struct Buffer {
    pub name: String,
    pub value: Tensor,
}

/// Convolution and batch norm, with the residual sum and ReLU that may follow.
pub(super) struct Unit {
    conv: Conv2d,
    pub weight: Parameter,
    pub norm_weight: Parameter,
    pub norm_bias: Parameter,
    pub running_mean: Buffer,
    pub running_var: Buffer,
    /// Whether training moves the two.
    pub is_moving: bool,
}

pub(super) struct UnitCache {
    input: Tensor,
    conv_out: Tensor,
    stats: BatchStats,
    output: Tensor,
}

impl Unit {
    pub fn new((conv_name, norm_name): (&str, &str), conv: Conv2d, (channels, out): (usize, usize), make: Make) -> Result<Self> {
        let shape = [conv.kernel.0, conv.kernel.1, channels, out];
        Ok(Self {
            conv,
            weight: Parameter::new(format!("{conv_name}.weight"), &shape, Kind::Conv, make)?,
            norm_weight: Parameter::new(format!("{norm_name}.weight"), &[out], Kind::One, make)?,
            norm_bias: Parameter::new(format!("{norm_name}.bias"), &[out], Kind::Zero, make)?,
            running_mean: Buffer { name: format!("{norm_name}.running_mean"), value: make(&[out], Kind::Zero)? },
            running_var: Buffer { name: format!("{norm_name}.running_var"), value: make(&[out], Kind::One)? },
            is_moving: true,
        })
    }

    pub fn parameters(&self) -> [&Parameter; 3] {
        [&self.weight, &self.norm_weight, &self.norm_bias]
    }

    pub fn parameters_mut(&mut self) -> [&mut Parameter; 3] {
        [&mut self.weight, &mut self.norm_weight, &mut self.norm_bias]
    }

    fn norm(&self) -> (&Tensor, &Tensor) {
        (&self.norm_weight.value, &self.norm_bias.value)
    }

    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>, relu: bool) -> Result<Tensor> {
        let running = (&self.running_mean.value, &self.running_var.value);
        conv2d_eval(x, &self.weight.value, &self.conv, running, self.norm(), Epilogue { residual, relu })
    }

    pub fn forward_train(&mut self, x: &Tensor, residual: Option<&Tensor>, relu: bool) -> Result<(Tensor, UnitCache)> {
        let (conv_out, stats) = conv2d_stats(x, &self.weight.value, &self.conv)?;
        if self.is_moving {
            stats.move_running((&self.running_mean.value, &self.running_var.value), NORM_MOMENTUM)?;
        }
        let output = batch_norm(&conv_out, &stats, self.norm(), Epilogue { residual, relu })?;
        Ok((output.clone(), UnitCache { input: x.clone(), conv_out, stats, output }))
    }

    /// Through batch norm (and gate) only: the gradients to the convolution's output and to the residual.
    fn backward_norm(&mut self, grad: Tensor, cache: &UnitCache, epilogue: Epilogue) -> Result<(Tensor, Option<Tensor>)> {
        let into = (&self.norm_weight.grad, &self.norm_bias.grad);
        batch_norm_backward(grad, (&cache.conv_out, &cache.output), &cache.stats, self.norm(), epilogue, into)
    }

    /// Through the convolution: fills the weight gradient and gives the input's, added to `add_to` if there is one.
    fn backward_conv(&mut self, grad: &Tensor, cache: &UnitCache, add_to: Option<Tensor>) -> Result<Tensor> {
        conv2d_backward_weight(&cache.input, grad, &self.conv, &self.weight.grad)?;
        let (_, height, width, _) = cache.input.dims4()?;
        conv2d_backward_input(grad, &self.weight.value, &self.conv, (height, width), add_to)
    }

    /// The first layer's backward pass: no gradient to the images.
    pub fn backward_weights(&mut self, grad: Tensor, cache: UnitCache) -> Result<()> {
        let (grad, _) = self.backward_norm(grad, &cache, Epilogue { residual: None, relu: true })?;
        conv2d_backward_weight(&cache.input, &grad, &self.conv, &self.weight.grad)
    }
}

/// Channels of one residual block.
pub(super) struct BlockShape {
    pub channels: usize,
    pub width: usize,
    pub expansion: usize,
    pub stride: usize,
}

impl BlockShape {
    /// The blocks of each stage.
    pub fn stages(config: &ResNetConfig) -> Vec<Vec<Self>> {
        let expansion = config.arch.expansion();
        let mut channels = config.width;
        let stage = |(s, &count): (usize, &usize)| {
            let shape = |b| {
                let stride = if b == 0 && s > 0 { 2 } else { 1 };
                let shape = Self { channels, width: config.width << s, expansion, stride };
                channels = shape.out_channels();
                shape
            };
            (0..count).map(shape).collect()
        };
        config.arch.blocks().iter().enumerate().map(stage).collect()
    }

    pub fn out_channels(&self) -> usize {
        self.width * self.expansion
    }

    /// The projection of the shortcut, where the shape changes.
    pub fn projection(&self) -> Option<Conv2d> {
        (self.stride != 1 || self.channels != self.out_channels()).then(|| Conv2d::square(1, self.stride, 0))
    }

    /// Convolutions of the main path with their input and output channels.
    pub fn convolutions(&self) -> Vec<(Conv2d, (usize, usize))> {
        let (c, w, o) = (self.channels, self.width, self.out_channels());
        match self.expansion {
            1 => vec![(Conv2d::square(3, self.stride, 1), (c, w)), (Conv2d::square(3, 1, 1), (w, w))],
            _ => vec![(Conv2d::square(1, 1, 0), (c, w)), (Conv2d::square(3, self.stride, 1), (w, w)), (Conv2d::square(1, 1, 0), (w, o))],
        }
    }
}

/// A basic block (two units) or a bottleneck (three), with the projection of its shortcut where the shape changes.
pub(super) struct Block {
    units: Vec<Unit>,
    downsample: Option<Unit>,
}

pub(super) struct BlockCache {
    units: Vec<UnitCache>,
    downsample: Option<UnitCache>,
}

impl Block {
    pub fn new(name: &str, shape: &BlockShape, make: Make) -> Result<Self> {
        let mut units = Vec::new();
        for (i, (conv, channels)) in shape.convolutions().into_iter().enumerate() {
            units.push(Unit::new((&format!("{name}.conv{}", i + 1), &format!("{name}.bn{}", i + 1)), conv, channels, make)?);
        }
        let mut downsample = None;
        if let Some(conv) = shape.projection() {
            let names = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
            downsample = Some(Unit::new((&names.0, &names.1), conv, (shape.channels, shape.out_channels()), make)?);
        }
        Ok(Self { units, downsample })
    }

    pub fn units(&self) -> impl Iterator<Item = &Unit> {
        self.units.iter().chain(&self.downsample)
    }

    pub fn units_mut(&mut self) -> impl Iterator<Item = &mut Unit> {
        self.units.iter_mut().chain(&mut self.downsample)
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let shortcut = match &self.downsample {
            Some(unit) => unit.forward(x, None, false)?,
            None => x.clone(),
        };
        let (last, first) = self.units.split_last().expect("a block has at least two units");
        let mut h = x.clone();
        for unit in first {
            h = unit.forward(&h, None, true)?;
        }
        last.forward(&h, Some(&shortcut), true)
    }

    pub fn forward_train(&mut self, x: Tensor) -> Result<(Tensor, BlockCache)> {
        let (shortcut, downsample) = match &mut self.downsample {
            Some(unit) => {
                let (shortcut, cache) = unit.forward_train(&x, None, false)?;
                (shortcut, Some(cache))
            }
            None => (x.clone(), None),
        };
        let (last, first) = self.units.split_last_mut().expect("a block has at least two units");
        let (mut h, mut units) = (x, Vec::new());
        for unit in first {
            let (y, cache) = unit.forward_train(&h, None, true)?;
            units.push(cache);
            h = y;
        }
        let (y, cache) = last.forward_train(&h, Some(&shortcut), true)?;
        units.push(cache);
        Ok((y, BlockCache { units, downsample }))
    }

    /// Gradient to the block's input; `grad` is overwritten.
    pub fn backward(&mut self, grad: Tensor, mut cache: BlockCache) -> Result<Tensor> {
        let mut grad = grad;
        let mut shortcut = None;
        for (i, unit) in self.units.iter_mut().enumerate().rev() {
            let unit_cache = cache.units.pop().expect("the forward pass cached every unit");
            let is_last = shortcut.is_none();
            let residual = is_last.then_some(&unit_cache.output);
            let (through, residual_grad) = unit.backward_norm(grad, &unit_cache, Epilogue { residual, relu: true })?;
            if let Some(residual_grad) = residual_grad {
                shortcut = Some(backward_shortcut(&mut self.downsample, residual_grad, cache.downsample.take())?);
            }
            let add_to = if i == 0 { shortcut.take() } else { None };
            grad = unit.backward_conv(&through, &unit_cache, add_to)?;
            if i == 0 {
                break;
            }
        }
        Ok(grad)
    }
}

fn backward_shortcut(downsample: &mut Option<Unit>, grad: Tensor, cache: Option<UnitCache>) -> Result<Tensor> {
    match (downsample, cache) {
        (Some(unit), Some(cache)) => {
            let (grad, _) = unit.backward_norm(grad, &cache, Epilogue::default())?;
            unit.backward_conv(&grad, &cache, None)
        }
        _ => Ok(grad),
    }
}

/// A fully connected layer.
pub(super) struct Linear {
    pub weight: Parameter,
    pub bias: Parameter,
}

impl Linear {
    const CONV: Conv2d = Conv2d { kernel: (1, 1), stride: 1, padding: 0 };

    pub fn new(name: &str, (inputs, outputs): (usize, usize), make: Make) -> Result<Self> {
        Ok(Self {
            weight: Parameter::new(format!("{name}.weight"), &[1, 1, inputs, outputs], Kind::Linear, make)?,
            bias: Parameter::new(format!("{name}.bias"), &[outputs], Kind::LinearBias { inputs }, make)?,
        })
    }

    pub fn parameters(&self) -> [&Parameter; 2] {
        [&self.weight, &self.bias]
    }

    pub fn parameters_mut(&mut self) -> [&mut Parameter; 2] {
        [&mut self.weight, &mut self.bias]
    }

    /// `(B, C)` to `(B, O)`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, inputs) = x.dims2()?;
        let y = conv2d(&x.reshape((batch, 1, 1, inputs))?, &self.weight.value, &Self::CONV)?;
        add_bias(&y, &self.bias.value)?;
        Ok(y.reshape((batch, self.bias.value.elem_count()))?)
    }

    /// Fills both gradients; gives the input's `(B, C)`.
    pub fn backward(&mut self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let ((batch, inputs), (_, outputs)) = (x.dims2()?, grad.dims2()?);
        let grad = grad.contiguous()?.reshape((batch, 1, 1, outputs))?;
        conv2d_backward_weight(&x.reshape((batch, 1, 1, inputs))?, &grad, &Self::CONV, &self.weight.grad)?;
        sum_rows(&grad, &self.bias.grad)?;
        let grad = conv2d_backward_input(&grad, &self.weight.value, &Self::CONV, (1, 1), None)?;
        Ok(grad.reshape((batch, inputs))?)
    }
}
