"""What `la-cli bench step|embed|loss|kmeans` measures, in PyTorch: the training step of Local Aggregation, the network in
eval mode, and on a GPU the objective alone and k-means.

channels_last, f32 or by autocast, SGD fused where PyTorch can, no gradient where none is needed; on a GPU with
cudnn.benchmark, and waited for after each few steps alone. Ends with one line of JSON.
"""
import argparse
import contextlib
import gc
import json
import resource
import shlex
import statistics
import sys
import time

import torch
import torch.nn.functional as F
import torchvision

TEMPERATURE, BANK_MOMENTUM, WARMUPS = 0.07, 0.5, 2


def main():
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        print(json.dumps(measure(arguments())))


def serve():
    """Measures what each line of the input says, as a command line would; for callers that ask many times."""
    for line in sys.stdin:
        try:
            found = measure(arguments(shlex.split(line)))
        except (RuntimeError, SystemExit) as error:
            found = {"error": str(error)}
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(json.dumps(found), flush=True)


def measure(args):
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision != "f32"
    if args.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    step = {"step": training, "embed": embedding, "loss": objective, "kmeans": clustering}[args.kind](args)
    # A GPU is not waited for at every step in training either.
    steps = 5 if args.device != "cpu" and args.kind == "step" else 1
    # Ours clusters cold too.
    warmups = 0 if args.kind == "kmeans" else WARMUPS
    seconds = []
    for _ in range(warmups + args.rounds):
        wait(args)
        started = time.perf_counter()
        for _ in range(steps):
            step()
        wait(args)
        seconds.append((time.perf_counter() - started) / steps)
    median = statistics.median(seconds[warmups:])
    found = {"peer": "PyTorch " + torch.__version__, "images_per_s": args.batch_size / median, "median_s": median}
    found["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if args.device != "cpu":
        found["peak_gpu_mb"] = torch.cuda.max_memory_allocated() / 2**20
        found["gpu"] = torch.cuda.get_device_name()
    return found


def wait(args):
    if args.device != "cpu":
        torch.cuda.synchronize()


def training(args):
    return training_step(network(args).to(args.device, memory_format=torch.channels_last), made_up_images(args), args)


def embedding(args):
    return eval_step(network(args).to(args.device, memory_format=torch.channels_last), made_up_images(args), args)


def made_up_images(args):
    images = torch.rand(args.batch_size, 3, args.size, args.size).mul(2).sub(1)
    return images.to(args.device).contiguous(memory_format=torch.channels_last)


def arguments(words=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["step", "embed", "loss", "kmeans"])
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
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="f32", choices=["f32", "tf32", "bf16"])
    parser.add_argument("--iters", type=int, default=20)
    return parser.parse_args(words)


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
    sgd = optimiser(net)
    aggregate, update = local_aggregation(args)
    autocast = casting(args)

    def step():
        indices = torch.randint(0, args.num_images, (args.batch_size,), device=args.device)
        with autocast:
            outputs = net(images)
        embeddings = F.normalize(outputs.float(), dim=1)
        loss = aggregate(embeddings, indices)
        sgd.zero_grad(set_to_none=True)
        loss.backward()
        sgd.step()
        update(embeddings, indices)

    return step


def casting(args):
    """Autocast to bf16 where that is asked for."""
    return torch.autocast(args.device.split(":")[0], torch.bfloat16) if args.precision == "bf16" else contextlib.nullcontext()


def local_aggregation(args):
    """The loss over a bank and labels that are made up, and the update of that bank."""
    n = args.num_images
    bank = F.normalize(torch.rand(n, 128) * 2 - 1, dim=1).to(args.device)
    labels = torch.randint(0, args.num_clusters, (args.num_clusterings, n)).to(args.device)

    def aggregate(embeddings, indices):
        similarities, background = (embeddings @ bank.T).topk(args.num_background, dim=1, sorted=False)
        weights = (similarities / TEMPERATURE).exp()
        is_close = (labels[:, background] == labels[:, indices][:, :, None]).any(0)
        return -((weights * is_close).sum(1) / weights.sum(1) + 1e-7).log().mean()

    @torch.no_grad()
    def update(embeddings, indices):
        bank[indices] = F.normalize(bank[indices] * BANK_MOMENTUM + embeddings * (1 - BANK_MOMENTUM), dim=1)

    return aggregate, update


def objective(args):
    aggregate, update = local_aggregation(args)
    embeddings = F.normalize(torch.rand(args.batch_size, 128) * 2 - 1, dim=1).to(args.device).requires_grad_()
    indices = torch.randint(0, args.num_images, (args.batch_size,), device=args.device)

    def step():
        embeddings.grad = None
        aggregate(embeddings, indices).backward()
        update(embeddings, indices)

    return step


def clustering(args):
    """One k-means of unit rows, blocked so that the products fit."""
    points = F.normalize(torch.randn(args.num_images, 128), dim=1).to(args.device)

    @torch.no_grad()
    def step():
        centroids = points[torch.randperm(len(points), device=args.device)[: args.num_clusters]]
        for _ in range(args.iters):
            half = centroids.square().sum(1) / 2
            labels = torch.cat([(block @ centroids.T - half).argmax(1) for block in points.split(16384)])
            sums = torch.zeros_like(centroids).index_add_(0, labels, points)
            counts = torch.bincount(labels, minlength=args.num_clusters)[:, None]
            centroids = torch.where(counts > 0, sums / counts.clamp(min=1), centroids)

    return step


def eval_step(net, images, args):
    net.eval()
    autocast = casting(args)

    @torch.inference_mode()
    def step():
        with autocast:
            outputs = net(images)
        F.normalize(outputs.float(), dim=1)

    return step


if __name__ == "__main__":
    main()
