"""The networks whose weights a formula gives (README.md has it), for the scripts beside this file."""

import numpy
import torch
import torchvision


def sines(p, j, fan_in):
    return numpy.sin(0.7 * j + p) * (2 / fan_in) ** 0.5


def network(arch, weights, small_stem=False):
    """A torchvision ResNet; `weights(p, j, fan_in)` gives what the p-th entry of 2 or 4 dims holds at its elements j."""
    net = getattr(torchvision.models, arch)(num_classes=128)
    if small_stem:
        net.conv1, net.maxpool = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False), torch.nn.Identity()
    entries = [(name, t) for name, t in net.state_dict().items() if t.is_floating_point()]
    net.load_state_dict(net.state_dict() | {name: entry(p, name, t, weights) for p, (name, t) in enumerate(entries)})
    return net


def entry(p, name, tensor, weights):
    j = numpy.arange(tensor.numel(), dtype=numpy.float64)
    if name.endswith("running_var"):
        value = 1 + 0.5 * numpy.sin(0.9 * j + p) ** 2
    elif name.endswith(("bias", "running_mean")):
        value = 0.05 * numpy.sin(0.3 * j + p)
    elif tensor.dim() == 1:
        value = 1 + 0.1 * numpy.sin(0.5 * j + p)
    else:
        value = weights(p, j, tensor[0].numel())
    return torch.from_numpy(value.astype(numpy.float32)).view(tensor.shape)


def apart(a, b):
    """The largest difference, as a share of the largest value of `b`."""
    return ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()
