"""How far rounding alone moves the networks of sines (README.md has the formula), whatever computes them.

    python tests/golden/rounding.py         # with torch, torchvision and safetensors

Shares of the largest value, PyTorch beside the files. In eval mode all is f64 but for what a column rounds to bf16, and the
last column is PyTorch's autocast. In training the worst gradient, by the type and the layout that convolutions compute in.
"""

import pathlib

import numpy
import torch
import torchvision
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).parent


def entry(p, name, tensor):
    j = numpy.arange(tensor.numel(), dtype=numpy.float64)
    if name.endswith("running_var"):
        value = 1 + 0.5 * numpy.sin(0.9 * j + p) ** 2
    elif name.endswith(("bias", "running_mean")):
        value = 0.05 * numpy.sin(0.3 * j + p)
    elif tensor.dim() == 1:
        value = 1 + 0.1 * numpy.sin(0.5 * j + p)
    else:
        value = numpy.sin(0.7 * j + p) * (2 / tensor[0].numel()) ** 0.5
    return torch.from_numpy(value.astype(numpy.float32)).view(tensor.shape)


def network(arch, small_stem=False):
    net = getattr(torchvision.models, arch)(num_classes=128)
    if small_stem:
        net.conv1, net.maxpool = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False), torch.nn.Identity()
    entries = [(name, t) for name, t in net.state_dict().items() if t.is_floating_point()]
    net.load_state_dict(net.state_dict() | {name: entry(p, name, t) for p, (name, t) in enumerate(entries)})
    return net


def apart(a, b):
    return ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()


def rounded(t):
    return t.bfloat16().to(t.dtype)


@torch.no_grad()
def eval_mode(file, arch):
    golden = load_file(HERE / f"{file}.safetensors")
    shares = []
    for weights, inputs in [(False, False), (True, False), (False, True), (True, True)]:
        net = network(arch).double().eval()
        for layer in net.modules():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                layer.weight.data = rounded(layer.weight.data) if weights else layer.weight.data
                if inputs:
                    layer.register_forward_pre_hook(lambda _, x: (rounded(x[0]),))
        shares.append(apart(net(golden["input"].double()), golden["output"]))
    with torch.autocast("cpu", torch.bfloat16):
        shares.append(apart(network(arch).eval()(golden["input"]), golden["output"]))
    print(f"{file:<34}" + "".join(f"{share:>10.1e}" for share in shares))


def train_mode(file, dtype, layout):
    golden = load_file(HERE / f"{file}.safetensors")
    net = network("resnet18", small_stem=True).to(dtype, memory_format=layout).train()
    outputs = net(golden["input"].to(dtype, memory_format=layout))
    (-(torch.nn.functional.normalize(outputs) * golden["target"].to(dtype)).sum(1).mean()).backward()
    named = dict(net.named_parameters())
    worst = max(apart(named[name[5:]].grad, grad) for name, grad in golden.items() if name.startswith("grad."))
    print(f"{file:<34}{worst:>10.1e}  {dtype}, {layout}")


print(f"{'outputs':<34}" + "".join(f"{name:>10}" for name in ["f64", "weights", "inputs", "both", "autocast"]))
for file, arch in [("resnet_18_eval_64px", "resnet18"), ("resnet_18_eval_odd_75x53", "resnet18"), ("resnet_50_eval_64px", "resnet50")]:
    eval_mode(file, arch)
for dtype, layout in [(torch.float64, torch.contiguous_format), (torch.float32, torch.contiguous_format), (torch.float32, torch.channels_last)]:
    train_mode("resnet_18_small_stem_train_32px", dtype, layout)
