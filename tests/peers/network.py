"""The training step of Local Aggregation, and the network in eval mode, in PyTorch: what `la-cli bench step|embed` measures.

channels_last f32, SGD fused where PyTorch can, no gradient where none is needed. Ends with one line of JSON.
"""
import argparse
import json
import resource
import statistics
import time

import torch
import torch.nn.functional as F
import torchvision

TEMPERATURE, BANK_MOMENTUM, WARMUPS = 0.07, 0.5, 2


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    net = network(args).to(memory_format=torch.channels_last)
    images = torch.rand(args.batch_size, 3, args.size, args.size).mul(2).sub(1).contiguous(memory_format=torch.channels_last)
    step = training_step(net, images, args) if args.kind == "step" else eval_step(net, images)
    seconds = []
    for _ in range(WARMUPS + args.rounds):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds[WARMUPS:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peer": "PyTorch " + torch.__version__, "images_per_s": args.batch_size / median, "median_s": median, "peak_rss_mb": peak}))


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["step", "embed"])
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--stem", default="imagenet", choices=["imagenet", "small"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--num-images", type=int, default=60_000)
    parser.add_argument("--num-background", type=int, default=4096)
    parser.add_argument("--num-clusterings", type=int, default=3)
    parser.add_argument("--num-clusters", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def network(args):
    net = getattr(torchvision.models, args.arch)(num_classes=128)
    if args.stem == "small":
        net.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        net.maxpool = torch.nn.Identity()
    return net


def optimiser(net):
    decayed = [p for p in net.parameters() if p.dim() > 1]
    plain = [p for p in net.parameters() if p.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 1e-4}, {"params": plain, "weight_decay": 0.0}]
    try:
        return torch.optim.SGD(groups, lr=0.03, momentum=0.9, fused=True)
    except (RuntimeError, TypeError):  # older than fused SGD on the CPU
        return torch.optim.SGD(groups, lr=0.03, momentum=0.9)


def training_step(net, images, args):
    n = args.num_images
    sgd = optimiser(net)
    bank = F.normalize(torch.rand(n, 128) * 2 - 1, dim=1)
    labels = torch.randint(0, args.num_clusters, (args.num_clusterings, n))

    def step():
        indices = torch.randint(0, n, (args.batch_size,))
        embeddings = F.normalize(net(images), dim=1)
        similarities, background = (embeddings @ bank.T).topk(args.num_background, dim=1, sorted=False)
        weights = (similarities / TEMPERATURE).exp()
        is_close = (labels[:, background] == labels[:, indices][:, :, None]).any(0)
        loss = -((weights * is_close).sum(1) / weights.sum(1) + 1e-7).log().mean()
        sgd.zero_grad(set_to_none=True)
        loss.backward()
        sgd.step()
        with torch.no_grad():
            bank[indices] = F.normalize(bank[indices] * BANK_MOMENTUM + embeddings * (1 - BANK_MOMENTUM), dim=1)

    return step


def eval_step(net, images):
    net.eval()

    @torch.inference_mode()
    def step():
        F.normalize(net(images), dim=1)

    return step


if __name__ == "__main__":
    main()
