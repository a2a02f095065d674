"""Writes one network as a bundle's weights and as ONNX, for embed.mjs, cold.mjs and memory.mjs:
DIR/NAME/{manifest.json, model.safetensors, model.onnx}.

    python tests/browser/onnx_export.py DIR        # needs torch, torchvision, safetensors, onnx, onnxscript
"""

import hashlib
import json
import pathlib
import sys

import safetensors.torch
import torch
import torchvision


def network(stem):
    torch.manual_seed(0)
    net = torchvision.models.resnet18(num_classes=128)
    if stem == "small":
        net.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        net.maxpool = torch.nn.Identity()
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(8, 3, 64, 64))
    return net.eval()


class Embedding(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return torch.nn.functional.normalize(self.net(x), dim=1)


def entry(path, data):
    return {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def export(folder, stem, size, rows=1):
    folder.mkdir(parents=True, exist_ok=True)
    net = network(stem)
    tensors = {k: v.half() if v.dim() > 1 else v.float() for k, v in net.state_dict().items() if "num_batches" not in k}
    # Both sides compute with the same values.
    net.load_state_dict({**net.state_dict(), **{k: v.float() for k, v in tensors.items()}})
    weights = safetensors.torch.save(tensors)
    (folder / "model.safetensors").write_bytes(weights)
    empty = b""
    manifest = {
        "format": "la-bundle",
        "version": 1,
        "created_by": "onnx_export.py",
        "title": folder.name,
        "model": {
            "config": {"arch": "resnet18", "stem": stem, "width": 64, "embedding_dim": 128},
            "precision": "f16",
            "file": entry("model.safetensors", weights),
        },
        "preprocessing": {"size": size, "crop_fraction": 1.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        "bank": {"rows": rows, "dim": 128, "precision": "f32", "made": "for measuring", "file": {**entry("bank.bin", empty), "bytes": rows * 512}},
        "labels": None,
        "names": entry("names.txt", empty),
        "thumbnails": None,
        "map": None,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    torch.onnx.export(Embedding(net), (torch.zeros(1, 3, size, size),), str(folder / "model.onnx"), input_names=["x"], output_names=["y"], dynamo=False)


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    export(out / "resnet18-224", "imagenet", 224)
    export(out / "resnet18-32-small", "small", 32)
