"""How far rounding alone moves the networks of sines, whatever computes them.

    python tests/golden/rounding.py         # with torch, torchvision and safetensors

Shares of the largest value, PyTorch beside the files. In eval mode all is f64 but for what a column rounds to bf16; then come
PyTorch's autocast, a network that keeps in bf16 what ours keeps in it, and that one again with sums in f32 and another
order, beside itself. In training the worst gradient, by the type and the layout that convolutions compute in.
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
    exact = kept_in_bf16(arch, golden["input"], torch.float64, torch.contiguous_format)
    shares.append(apart(exact, golden["output"]))
    shares.append(apart(kept_in_bf16(arch, golden["input"], torch.float32, torch.channels_last), exact))
    print(f"{file:<34}" + "".join(f"{share:>10.1e}" for share in shares))


def kept_in_bf16(arch, images, dtype, layout):
    """The outputs where images, weights and what convolutions, ReLUs and shortcuts give are rounded, and sums are not."""
    net = network(arch, sines).to(dtype, memory_format=layout).eval()
    shortcuts = [layer[1] for name, layer in net.named_modules() if name.endswith("downsample")]
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data = rounded(layer.weight.data)
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.ReLU)) or layer in shortcuts:
            layer.register_forward_hook(lambda _, _inputs, outputs: rounded(outputs))
    return net(rounded(images.to(dtype, memory_format=layout)))


def train_mode(file, dtype, layout):
    golden = load_file(HERE / f"{file}.safetensors")
    net = network("resnet18", sines, small_stem=True).to(dtype, memory_format=layout).train()
    outputs = net(golden["input"].to(dtype, memory_format=layout))
    (-(torch.nn.functional.normalize(outputs) * golden["target"].to(dtype)).sum(1).mean()).backward()
    named = dict(net.named_parameters())
    worst = max(apart(named[name[5:]].grad, grad) for name, grad in golden.items() if name.startswith("grad."))
    print(f"{file:<34}{worst:>10.1e}  {dtype}, {layout}")


print(f"{'outputs':<34}" + "".join(f"{name:>10}" for name in ["f64", "weights", "inputs", "both", "autocast", "as ours", "sums"]))
for file, arch in [("resnet_18_eval_64px", "resnet18"), ("resnet_18_eval_odd_75x53", "resnet18"), ("resnet_50_eval_64px", "resnet50")]:
    eval_mode(file, arch)
for dtype, layout in [(torch.float64, torch.contiguous_format), (torch.float32, torch.contiguous_format), (torch.float32, torch.channels_last)]:
    train_mode("resnet_18_small_stem_train_32px", dtype, layout)
