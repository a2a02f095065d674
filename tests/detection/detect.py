"""The paper's detection row in small: Faster R-CNN on the raccoon data set, from our weights and from random ones.

    la-cli export weights/imagenette --format backbone --out la.safetensors
    python tests/detection/detect.py --data raccoon --backbone la=la.safetensors --seeds 0,1,2 --out detection.json

`random` is always among the backbones. Every backbone is fine-tuned in the same way: all stages and batch norm trained,
the neck and the heads new. AP50 is the area under the precision-recall curve at an overlap of 0.5 (VOC 2010). The interval
is the bootstrap over the test images, of the mean over the seeds. A finished seed is kept in --out and not run again.

--data: images/*.jpg and data/raccoon_labels.csv of https://github.com/datitran/raccoon_dataset (MIT), split 160 + 40 as
published there. Needs torch, torchvision, numpy, Pillow and safetensors.
"""
import argparse
import csv
import hashlib
import json
import math
import os
import pathlib
import time

import numpy
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign, box_iou
from torchvision.transforms.functional import hflip, to_tensor

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
RESAMPLES = 1_000


def pictures(folder):
    """Pictures and boxes, as 160 to learn from and 40 to test, in the published split."""
    boxes = {}
    with open(folder / "data" / "raccoon_labels.csv") as file:
        for row in csv.DictReader(file):
            boxes.setdefault(row["filename"], []).append([float(row[key]) for key in ("xmin", "ymin", "xmax", "ymax")])
    names = sorted(boxes)
    chosen = set(numpy.random.RandomState(1).choice(len(names), size=160, replace=False))
    read = lambda name: (to_tensor(Image.open(folder / "images" / name).convert("RGB")), torch.tensor(boxes[name]))
    return [read(names[i]) for i in sorted(chosen)], [read(name) for i, name in enumerate(names) if i not in chosen]


def detector(weights, args):
    """Faster R-CNN over stages 2 to 4; lean heads, so that two cores can train it."""
    body = resnet_fpn_backbone(
        backbone_name=args.arch, weights=None, norm_layer=torch.nn.BatchNorm2d, trainable_layers=5, returned_layers=[2, 3, 4]
    )
    how = IMAGENET
    if weights:
        body.body.load_state_dict(safetensors.torch.load_file(weights), strict=True)
        with safetensors.safe_open(weights, "pt") as file:
            how = json.loads(file.metadata()["input"])
    width = 256
    anchors = AnchorGenerator(tuple((side,) for side in (32, 64, 128, 256)), ((0.5, 1.0, 2.0),) * 4)
    return FasterRCNN(
        body, rpn_anchor_generator=anchors, box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 7, 2),
        box_head=TwoMLPHead(width * 49, 512), box_predictor=FastRCNNPredictor(512, 2), box_batch_size_per_image=64,
        rpn_pre_nms_top_n_train=500, rpn_post_nms_top_n_train=200, rpn_pre_nms_top_n_test=500, rpn_post_nms_top_n_test=200,
        min_size=args.size, max_size=args.size, image_mean=how["mean"], image_std=how["std"],
    )


def flipped(image, boxes):
    width = image.shape[2]
    return hflip(image), torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def train(net, images, seed, args):
    """SGD with warm-up and cosine; half of the pictures mirrored."""
    order = numpy.random.RandomState(seed)
    steps = args.epochs * (len(images) // args.batch)
    sgd = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    rate = lambda step: min(1, (step + 1) / args.warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(sgd, rate)
    net.train()
    for _ in range(args.epochs):
        shuffled = order.permutation(len(images))
        for start in range(0, len(images) - args.batch + 1, args.batch):
            batch = [images[i] for i in shuffled[start : start + args.batch]]
            batch = [flipped(*pair) if order.rand() < 0.5 else pair for pair in batch]
            targets = [{"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)} for _, boxes in batch]
            loss = sum(net([image for image, _ in batch], targets).values())
            if not math.isfinite(loss.item()):
                raise SystemExit(f"loss became {loss.item()}; try a smaller --lr")
            sgd.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 10)
            sgd.step()
            schedule.step()


def detections(net, images):
    """For each picture: scores, whether each is right, and how many boxes there are."""
    net.eval()
    found = []
    with torch.no_grad():
        for image, boxes in images:
            (out,) = net([image])
            free, right = set(range(len(boxes))), []
            for overlaps in box_iou(out["boxes"], boxes):
                best = max(range(len(boxes)), key=lambda i: overlaps[i])
                is_right = overlaps[best] >= 0.5 and best in free
                free.discard(best) if is_right else None
                right.append(bool(is_right))
            found.append({"scores": out["scores"].tolist(), "right": right, "boxes": len(boxes)})
    return found


def ap50(found):
    """Area under the precision-recall curve, precision made to fall."""
    scores = numpy.concatenate([numpy.asarray(one["scores"]) for one in found])
    right = numpy.concatenate([numpy.asarray(one["right"], bool) for one in found])[numpy.argsort(-scores, kind="stable")]
    hits = numpy.cumsum(right)
    precision = numpy.maximum.accumulate((hits / numpy.arange(1, len(hits) + 1))[::-1])[::-1]
    return float(precision[right].sum() / sum(one["boxes"] for one in found))


def interval(of_seeds, others=None):
    """95 % of the bootstrap over pictures, of the mean over seeds; of the difference to `others` if given."""
    draw = numpy.random.RandomState(0)
    count = len(of_seeds[0])
    mean = lambda seeds, at: numpy.mean([ap50([found[i] for i in at]) for found in seeds])
    values = []
    for _ in range(RESAMPLES):
        at = draw.randint(count, size=count)
        values.append(mean(of_seeds, at) - (mean(others, at) if others else 0))
    return [float(value) for value in numpy.percentile(values, [2.5, 97.5])]


def write(path, results):
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(results))
    os.replace(temporary, path)


def table(results, names):
    of = {name: [results[key]["found"] for key in results if key.rsplit("/", 1)[0] == name] for name in names}
    print("| backbone | AP50 of each seed | mean | 95 % | minus random |\n|---|---|---|---|---|")
    for name in names:
        each = [100 * ap50(found) for found in of[name]]
        low, high = interval(of[name])
        row = f"| {name} | {', '.join(f'{value:.1f}' for value in each)} | {numpy.mean(each):.1f} | {100 * low:.1f} to {100 * high:.1f} |"
        if name != "random" and len(of[name]) == len(of["random"]):
            low, high = interval(of[name], of["random"])
            least = numpy.mean(each) - numpy.mean([100 * ap50(found) for found in of["random"]])
            row += f" {least:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        print(f"{row} |" if not row.endswith("|") else f"{row} – |")


def opened(parser, args):
    """The backbones by name, and the results that are there; ends with a line where an argument cannot be used."""
    pairs = [pair.partition("=") for pair in args.backbone]
    names = ["random"] + [name for name, _, _ in pairs]
    if not all(sign for _, sign, _ in pairs) or len(set(names)) < len(names):
        parser.error("--backbone: expected NAME=FILE, each name once and none called random")
    if not (0 < args.lr < math.inf) or min(args.epochs, args.warmup, args.batch) < 1 or not args.batch <= args.images <= 160:
        parser.error("expected --lr above 0, --epochs, --warmup and --batch of at least 1, --images from --batch to 160")
    if not (args.data / "data" / "raccoon_labels.csv").is_file():
        parser.error(f"--data {args.data}: expected the raccoon data set, with data/raccoon_labels.csv")
    if not args.out.parent.is_dir():
        parser.error(f"--out {args.out}: there is no folder {args.out.parent}")
    try:
        digests = {name: hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest() for name, _, file in pairs}
        results = json.loads(args.out.read_text()) if args.out.exists() else {}
    except (OSError, ValueError) as error:
        parser.error(str(error))
    settings = {key: getattr(args, key) for key in ("arch", "images", "size", "epochs", "batch", "lr", "warmup")}
    kept = results.setdefault("settings", settings | {"backbones": {}})
    known = kept["backbones"]
    if kept != settings | {"backbones": known} or any(known.get(name, digest) != digest for name, digest in digests.items()):
        parser.error(f"--out {args.out}: made with other settings or weights; name another file")
    known.update(digests)
    return {"random": None} | {name: file for name, _, file in pairs}, results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--backbone", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default="0,1,2")
    parser.add_argument("--images", type=int, default=160, help="pictures to learn from, drawn by the seed")
    parser.add_argument("--size", type=int, default=320, help="longest side of the pictures")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--warmup", type=int, default=100, help="steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    backbones, results = opened(parser, args)
    learn, test = pictures(args.data)
    for seed in args.seeds:
        for name, weights in backbones.items():
            if f"{name}/{seed}" in results:
                continue
            started = time.time()
            torch.manual_seed(seed)
            net = detector(weights, args)
            chosen = numpy.random.RandomState(seed).permutation(len(learn))[: args.images]
            train(net, [learn[i] for i in chosen], seed, args)
            found = detections(net, test)
            results[f"{name}/{seed}"] = {"found": found, "seconds": round(time.time() - started)}
            write(args.out, results)
            print(f"{name}, seed {seed}: AP50 {100 * ap50(found):.1f}, {time.time() - started:.0f} s", flush=True)
    table({key: value for key, value in results.items() if key != "settings"}, list(backbones))


main()
