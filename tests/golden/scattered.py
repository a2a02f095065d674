"""Makes resnet_*_scattered_*.safetensors: torchvision's ResNets with weights that a hash scatters (README.md has the formula).

    python tests/golden/scattered.py        # with torch, torchvision and safetensors

Prints how far PyTorch's own autocast to bf16 lies from the outputs, and f32 from f64, as shares of the largest value, and how
near to 0 a ReLU's input comes in training.
"""

import pathlib

import numpy
import torch
from networks import apart, network
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
GRADS = ["conv1.weight", "bn1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer2.0.bn1.weight", "layer2.0.downsample.0.weight", "fc.weight", "fc.bias"]
AFTER = ["bn1.running_mean", "bn1.running_var", "layer4.1.bn2.running_var"]


def scattered(p, j, fan_in):
    """Values of a hash, evenly in [-1, 1), scaled."""
    x = (j.astype(numpy.uint64) + numpy.uint64(1 + 1_000_003 * p)) * numpy.uint64(0x9E3779B97F4A7C15)
    x ^= x >> numpy.uint64(31)
    x *= numpy.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> numpy.uint64(29)
    return ((x >> numpy.uint64(40)).astype(numpy.float64) / 2**23 - 1) * (6 / fan_in) ** 0.5


def unit(x):
    return torch.nn.functional.normalize(x)


def save(file, tensors):
    save_file({name: t.detach().float().contiguous() for name, t in tensors.items()}, HERE / f"{file}.safetensors")


@torch.no_grad()
def evaluated(file, arch, shape):
    net, images = network(arch, scattered).eval(), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    stages = {}
    for i in range(1, 5):
        net.get_submodule(f"layer{i}").register_forward_hook(lambda _, __, out, i=i: stages.__setitem__(f"mean.layer{i}", out.mean((2, 3))))
    outputs = net(images)
    save(file, {"input": images, "output": outputs, "embedding": unit(outputs), **stages})
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(images).float()
    print(f"{file}: bf16 {apart(rounded, outputs):.1e}, f64 {apart(outputs, net.double()(images.double())):.1e}")


def trained(net, images, target):
    outputs = net(images)
    loss = -(unit(outputs) * target).sum(1).mean()
    loss.backward()
    grads, state = dict(net.named_parameters()), net.state_dict()
    return {
        "input": images, "target": target, "output": outputs, "embedding": unit(outputs), "loss": loss[None],
        **{f"grad.{name}": grads[name].grad for name in GRADS}, **{f"after.{name}": state[name] for name in AFTER},
    }


def nearest_kink(net, images):
    """The least size of a ReLU's input, as a share of the deviation of all inputs of that layer."""
    nearest = []
    for relu in (module for module in net.modules() if isinstance(module, torch.nn.ReLU)):
        relu.register_forward_pre_hook(lambda _, inputs: nearest.append((inputs[0].abs().min() / inputs[0].std()).item()))
    net(images)
    return min(nearest)


def train_case(file, shape, seed):
    draw = torch.Generator().manual_seed(seed)
    images, target = torch.randn(shape, generator=draw), unit(torch.randn((shape[0], 128), generator=draw))
    case = trained(network("resnet18", scattered, small_stem=True).train(), images, target)
    save(file, case)
    exact = trained(network("resnet18", scattered, small_stem=True).train().double(), images.double(), target.double())
    nearest = nearest_kink(network("resnet18", scattered, small_stem=True).train(), images)
    print(f"{file}: nearest to 0 {nearest:.1e}; f64 " + ", ".join(f"{name} {apart(case[name], exact[name]):.1e}" for name in case))


evaluated("resnet_18_scattered_eval_64px", "resnet18", (2, 3, 64, 64))
evaluated("resnet_18_scattered_eval_odd_75x53", "resnet18", (1, 3, 75, 53))
evaluated("resnet_50_scattered_eval_64px", "resnet50", (2, 3, 64, 64))
# Of 4,000 seeds, the one whose ReLU inputs all lie farthest from 0, so that rounding moves none across.
train_case("resnet_18_scattered_small_stem_train_16px", (4, 3, 16, 16), 2405)
