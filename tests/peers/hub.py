"""What is published and what others published, held against PyTorch: one line a case, and 1 at the end where something differs.

    tests/hub_peers                          # installs the peers into target/peers/hub, once
    python tests/peers/hub.py --la target/release/la-cli

Published: each folder of weights/ by `push --dry-run`, loaded by torchvision, timm, candle-transformers (--candle, the program of
tests/peers/candle) and onnxruntime; its card read by huggingface_hub.
Of others: state dicts of many layouts with random weights, whose features la-cli and PyTorch compute from the same pictures.
Needs torch, torchvision, timm, transformers, onnxruntime, huggingface_hub, safetensors and Pillow.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy
import onnxruntime
import safetensors.torch
import timm
import torch
import torchvision
import transformers
from huggingface_hub import ModelCard
from PIL import Image
from torchvision import transforms

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 1e-4
FAILED = []


def report(case, said, is_right):
    print(f"{'ok  ' if is_right else 'FAIL'} {case:<44} {said}", flush=True)
    if not is_right:
        FAILED.append(case)


def la(*words):
    done = subprocess.run([LA, *map(str, words)], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr.strip()


def embedded(weights, folder, pictures, *more):
    """la-cli's embeddings of the pictures, in the order of their names; or its error."""
    out = folder / "embeddings.safetensors"
    code, _, said = la("embed", weights, "--data", pictures, "--out", out, "--force", "--no-cache", *more)
    return safetensors.torch.load_file(out)["embeddings"] if code == 0 else said


def compare(case, got, wanted):
    for either in (got, wanted):
        if isinstance(either, str):
            return report(case, either.splitlines()[-1][:200], False)
    wanted = torch.nn.functional.normalize(wanted)
    difference = (got - wanted).abs().max().item() if got.shape == wanted.shape else float("inf")
    report(case, f"{tuple(got.shape)}, differs by {difference:.1e}", difference <= LIMIT)


def make_pictures(folder, side):
    """Smooth pictures of two shapes."""
    folder.mkdir()
    random = numpy.random.default_rng(1)
    for i in range(6):
        small = Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=numpy.uint8))
        small.resize((side * 5 // 4, side) if i % 2 else (side, side * 5 // 4), Image.BICUBIC).save(folder / f"{i}.png")
    return [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())]


def prepared(pictures, resized, size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
    steps = [transforms.Resize(resized), transforms.CenterCrop(size), transforms.ToTensor(), transforms.Normalize(mean, std)]
    return torch.stack([transforms.Compose(steps)(picture) for picture in pictures])


def published(folder):
    for weights in sorted(path for path in (ROOT / "weights").iterdir() if path.is_dir()):
        name, out, paths = weights.name, folder / f"published-{weights.name}", folder / f"pictures-{weights.name}"
        code, _, said = la("push", weights, f"me/{name}", "--dry-run", out)
        if code != 0:
            report(f"{name}: push --dry-run", said, False)
            continue
        config = json.loads((out / "config.json").read_text())
        check_card(name, ModelCard.load(out / "README.md"), config["local_aggregation"].get("figures"))
        how = config["pretrained_cfg"]
        size, resized = how["input_size"][1], round(how["input_size"][1] / how["crop_pct"])
        # Of the size that they are resized to: what is compared is the network, not how resizing rounds.
        pictures = make_pictures(paths, resized)
        graph(name, out, folder, pictures, paths)
        state = safetensors.torch.load_file(out / "model.safetensors")
        first = state["conv1.weight"]
        if first.shape[0] != 64 or first.dtype == torch.int8:
            print(f"     {name}: not for torchvision: width {first.shape[0]}, {first.dtype}")
            continue
        images = prepared(pictures, resized, size, how["mean"], how["std"])
        net = torchvision.models.get_model(config["architecture"], num_classes=config["num_classes"])
        if first.shape[-1] == 3:
            net.conv1, net.maxpool = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False), torch.nn.Identity()
        net.load_state_dict({key: value.float() for key, value in state.items()})
        ours = embedded(out, folder, paths, "--embedding", "output")
        with torch.no_grad():
            compare(f"{name}: torchvision, strict", ours, net.eval()(images))
            if first.shape[-1] == 7:
                compare(f"{name}: timm, local-dir:", ours, timm.create_model(f"local-dir:{out}", pretrained=True).eval()(images))
                compare(f"{name}: candle-transformers", ours, by_candle(config, out, folder, images))


def by_candle(config, weights, folder, images):
    """What candle-transformers' network makes of the images; or its error."""
    inputs, out = folder / "images.safetensors", folder / "outputs.safetensors"
    safetensors.torch.save_file({"images": images.contiguous()}, inputs)
    words = [CANDLE, config["architecture"], config["num_classes"], weights / "model.safetensors", inputs, out]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    return safetensors.torch.load_file(out)["outputs"] if done.returncode == 0 else done.stderr


def check_card(name, card, figures):
    if figures:
        stated = [result.metric_value for result in card.data.eval_results]
        best = (figures.get("resized") or figures)["weights"]
        measured = [round(100 * best[key], 2) for key in ("knn_top1", "linear_top1") if best.get(key) is not None]
        is_right = stated == measured and card.data.model_name == f"me/{name}"
        report(f"{name}: results in the card", f"{stated} of {card.data.model_name}", is_right)


def graph(name, weights, folder, pictures, paths):
    """ONNX: both kinds of embedding."""
    for kind in ["output", "readout"]:
        path = folder / "network.onnx"
        code, _, said = la("export", weights, "--format", "onnx", "--embedding", kind, "--out", path, "--force")
        if code != 0:
            print(f"     {name}: ONNX, {kind}: {said[:100]}")
            continue
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        notes = session.get_modelmeta().custom_metadata_map
        size, resized = int(notes["size"]), int(notes["resized"])
        images = prepared(pictures, resized, size, json.loads(notes["mean"]), json.loads(notes["std"]))
        outputs = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        compare(f"{name}: ONNX, {kind}", embedded(weights, folder, paths, "--embedding", kind), outputs)


def randomized(net):
    """Batch norm that does something."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.0)
            module.bias.data.normal_(0, 0.1)
    return net.eval()


def pooled(net, images):
    net.fc = torch.nn.Identity()
    with torch.no_grad():
        return net(images)


def others(folder, pictures, paths):
    usual = prepared(pictures, 256, 224)

    def case(name, state, wanted, config=None, file="model.safetensors"):
        place = folder / name.replace(" ", "-").replace(",", "")
        place.mkdir()
        path = place / file
        if file.endswith(".safetensors"):
            safetensors.torch.save_file({key: value.contiguous().clone() for key, value in state.items()}, path)
        else:
            torch.save(state, path)
        if config is not None:
            (place / "config.json").write_text(json.dumps(config))
        compare(name, embedded(path if config is None else place, folder, paths), wanted)

    def refused(name, state, *words):
        place = folder / name
        place.mkdir()
        safetensors.torch.save_file({key: value.contiguous().clone() for key, value in state.items()}, place / "model.safetensors")
        said = embedded(place, folder, paths)
        is_right = isinstance(said, str) and all(word in said for word in words)
        report(f"{name}: refused", (said if isinstance(said, str) else "was read").splitlines()[-1][:250], is_right)

    nets = {arch: randomized(torchvision.models.get_model(arch)) for arch in ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]}
    states = {arch: net.state_dict() for arch, net in nets.items()}
    features = {arch: pooled(net, usual) for arch, net in nets.items()}
    for arch, state in states.items():
        case(f"torchvision {arch}", state, features[arch])
    bare = {arch: {key: value for key, value in state.items() if not key.startswith("fc.")} for arch, state in states.items()}
    case("torchvision resnet18 in a .pth", states["resnet18"], features["resnet18"], file="resnet18.pth")
    case("DINO resnet50, no fc", bare["resnet50"], features["resnet50"])
    head = {"fc.weight": torch.randn(128, 2048) * 0.01, "fc.bias": torch.zeros(128)}
    moco = {f"module.encoder_q.{key}": value for key, value in {**bare["resnet50"], **head}.items()}
    moco |= {f"module.encoder_k.{key}": value * 0 for key, value in bare["resnet50"].items()} | {"module.queue": torch.zeros(128, 8)}
    case("MoCo v1 checkpoint", {"state_dict": moco, "epoch": 3}, features["resnet50"] @ head["fc.weight"].T, file="moco.pth.tar")
    mlp = {"fc.0.weight": torch.zeros(2048, 2048), "fc.0.bias": torch.zeros(2048), "fc.2.weight": torch.zeros(128, 2048), "fc.2.bias": torch.zeros(128)}
    case("MoCo v2", {f"module.encoder_q.{key}": value for key, value in {**bare["resnet50"], **mlp}.items()}, features["resnet50"])
    both = {f"module.base_encoder.{key}": value for key, value in {**bare["resnet50"], **mlp}.items()}
    both |= {f"module.momentum_encoder.{key}": value * 0 for key, value in bare["resnet50"].items()} | {"module.predictor.0.weight": torch.zeros(4, 4)}
    case("MoCo v3", both, features["resnet50"])
    case("backbone. and a projection head", {f"backbone.{key}": value for key, value in bare["resnet18"].items()} | {"projection_head.layers.0.weight": torch.zeros(4, 4)}, features["resnet18"])
    row = torch.nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])
    row.load_state_dict(dict(zip(row.state_dict(), bare["resnet18"].values())))
    case("lightly, modules in a row", {f"backbone.{key}": value for key, value in row.state_dict().items()}, features["resnet18"])
    case("f16", {key: value.half() if value.is_floating_point() else value for key, value in states["resnet18"].items()}, pooled(half(states["resnet18"], torch.float16), usual))
    case("bf16", {key: value.bfloat16() if value.is_floating_point() else value for key, value in states["resnet18"].items()}, pooled(half(states["resnet18"], torch.bfloat16), usual))

    for name in ["resnet18.a1_in1k", "resnet26.bt_in1k", "resnet50.a1_in1k"]:
        net = randomized(timm.create_model(name, pretrained=False))
        known = {key: value for key, value in net.pretrained_cfg.items() if value is not None and key not in ("url", "hf_hub_id", "file")}
        config = {"architecture": net.pretrained_cfg["architecture"], "num_classes": 1000, "num_features": net.num_features, "pretrained_cfg": known}
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net))
        with torch.no_grad():
            wanted = net.forward_head(net.forward_features(torch.stack([transform(picture) for picture in pictures])), pre_logits=True)
        case(f"timm {name}", net.state_dict(), wanted, config)
    net = randomized(timm.create_model("resnet50", pretrained=False, num_classes=0))
    with torch.no_grad():
        case("timm resnet50, num_classes=0", net.state_dict(), net(usual))

    for arch, depths, kind, sizes in [("resnet18", [2, 2, 2, 2], "basic", [64, 128, 256, 512]), ("resnet50", [3, 4, 6, 3], "bottleneck", [256, 512, 1024, 2048])]:
        config = transformers.ResNetConfig(depths=depths, layer_type=kind, hidden_sizes=sizes, num_labels=1000)
        net = randomized(transformers.ResNetForImageClassification(config))
        with torch.no_grad():
            wanted = net.resnet(usual).pooler_output.flatten(1)
        case(f"transformers {arch}", net.state_dict(), wanted, {"architectures": ["ResNetForImageClassification"], "id2label": {}, "model_type": "resnet"})
        case(f"transformers {arch}, without a head", net.resnet.state_dict(), wanted)

    for name, words in [
        ("resnet50d", ["expected a ResNet", "ResNet-18"]),
        ("wide_resnet50_2", ["has shape", "ResNet-18"]),
        ("resnext50_32x4d", ["has shape", "ResNet-18"]),
        ("resnet10t", ["ResNet-18"]),
        ("vit_tiny_patch16_224", ["ResNet-18"]),
    ]:
        refused(name, timm.create_model(name, pretrained=False).state_dict(), *words[-1:])


def half(state, kind):
    """A network with the values that a file of fewer bits holds."""
    net = torchvision.models.resnet18().eval()
    net.load_state_dict({key: value.to(kind).float() if value.is_floating_point() else value for key, value in state.items()})
    return net


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--la", default=ROOT / "target/release/la-cli", help="the program")
    arguments.add_argument("--candle", default=ROOT / "target/peers/candle/release/candle-peer", help="the program of tests/peers/candle")
    arguments = arguments.parse_args()
    LA, CANDLE = str(pathlib.Path(arguments.la).resolve()), str(arguments.candle)
    torch.manual_seed(0)
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        paths = folder / "pictures"
        pictures = make_pictures(paths, 240)
        published(folder)
        others(folder, pictures, paths)
    print(f"{len(FAILED)} differ" if FAILED else "all are as PyTorch has them")
    sys.exit(bool(FAILED))
