"""How far rounding alone moves the networks of sines, whatever computes them.

    python tests/golden/rounding.py         # with torch, torchvision and safetensors

Shares of the largest value, PyTorch beside the files. In eval mode all is f64 but for what a column rounds to bf16, and the
last column is PyTorch's autocast. In training the worst gradient, by the type and the layout that convolutions compute in.
"""

import pathlib

import torch
from networks import apart, network, sines
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).parent


def rounded(t):
    return t.bfloat16().to(t.dtype)


@torch.no_grad()
def eval_mode(file, arch):
    golden = load_file(HERE / f"{file}.safetensors")
    shares = []
    for weights, inputs in [(False, False), (True, False), (False, True), (True, True)]:
        net = network(arch, sines).double().eval()
        for layer in net.modules():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                layer.weight.data = rounded(layer.weight.data) if weights else layer.weight.data
                if inputs:
                    layer.register_forward_pre_hook(lambda _, x: (rounded(x[0]),))
        shares.append(apart(net(golden["input"].double()), golden["output"]))
    with torch.autocast("cpu", torch.bfloat16):
        shares.append(apart(network(arch, sines).eval()(golden["input"]), golden["output"]))
    print(f"{file:<34}" + "".join(f"{share:>10.1e}" for share in shares))


def train_mode(file, dtype, layout):
    golden = load_file(HERE / f"{file}.safetensors")
    net = network("resnet18", sines, small_stem=True).to(dtype, memory_format=layout).train()
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
