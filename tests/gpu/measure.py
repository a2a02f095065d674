"""The checks and measurements of tests/gpu/run, in turn with PyTorch on the same GPU, as one table."""
import argparse
import datetime
import json
import pathlib
import re
import subprocess
import sys

STEPS = {
    "ResNet-18, 32 px small stem, batch 512": "--arch resnet18 --stem small --size 32 --batch-size 512",
    "ResNet-18, 224 px, batch 256": "--arch resnet18 --stem imagenet --size 224 --batch-size 256",
    "ResNet-50, 224 px, batch 256": "--arch resnet50 --stem imagenet --size 224 --batch-size 256",
}
PRECISIONS = "bf16,tf32,f32"
PARTS = "tests,steps,losses,epochs"
FLOOR, GOAL = 0.9, 1.1
IMAGENET = 1_281_167
QUICK_STEPS = {"ResNet-18, 32 px small stem, batch 32": "--arch resnet18 --stem small --size 32 --batch-size 32 --num-images 5000 --num-background 500"}


def main():
    args = arguments()
    card = run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]).strip().splitlines()[0]
    folder = pathlib.Path("tests/gpu") / f"{datetime.date.today()}-{re.sub(r'[^A-Za-z0-9]+', '-', card.split(',')[0])}"
    folder.mkdir(parents=True, exist_ok=True)
    report = Report(folder)
    peer = Peer(report)
    report.line(f"{card}, {datetime.datetime.now():%Y-%m-%d %H:%M}")
    failed = "tests" in args.parts and tests(report)
    if "steps" in args.parts:
        steps(report, peer, args)
    if "losses" in args.parts:
        losses(report, peer, args)
    if "epochs" in args.parts:
        epochs(report, args)
    sys.exit(1 if failed else 0)


def arguments():
    parser = argparse.ArgumentParser(prog="tests/gpu/run")
    parser.add_argument("--cifar10", help="folder of CIFAR-10 images in train/ and test/, a folder a class")
    parser.add_argument("--imagenette", help="folder of Imagenette images in train/ and val/")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side, in turn, of what is judged")
    parser.add_argument("--precisions", default=PRECISIONS, help="what the steps compute in, and k-means where it can")
    parser.add_argument("--parts", default=PARTS, help="which parts to do")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    args = parser.parse_args()
    for name, known in [("precisions", PRECISIONS), ("parts", PARTS)]:
        unknown = set(getattr(args, name).split(",")) - set(known.split(","))
        if unknown:
            parser.error(f"--{name} takes {known}, got {','.join(sorted(unknown))}")
        setattr(args, name, getattr(args, name).split(","))
    if args.quick:
        args.rounds = 1
    return args


class Report:
    """Prints lines and keeps them, with everything that was run, after what was kept that day on such a card."""

    def __init__(self, folder):
        self.table = (folder / "table.txt").open("a")
        self.raw = (folder / "raw.txt").open("a")

    def line(self, text):
        print(text, flush=True)
        print(text, file=self.table, flush=True)

    def run(self, command):
        """What a command prints; none where it fails, which is told."""
        print("$", *command, file=self.raw, flush=True)
        done = subprocess.run(command, capture_output=True, text=True)
        print(done.stdout, done.stderr, file=self.raw, flush=True)
        if done.returncode:
            self.line(f"FAILED: {' '.join(command)}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
            return None
        return done.stdout


class Peer:
    """PyTorch in a process of its own, started once: to load it takes longer than most measurements."""

    def __init__(self, report):
        self.report = report
        command = [sys.executable, "tests/peers/network.py", "serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, words):
        """Its figures for such a command line; none where it fails, which is told."""
        print(" ".join(words), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        print("$ tests/peers/network.py", *words, file=self.report.raw)
        print(line, file=self.report.raw, flush=True)
        found = json.loads(line) if line else {"error": "PyTorch's process ended"}
        if "error" in found:
            self.report.line(f"FAILED: tests/peers/network.py {' '.join(words)}: {found['error'].strip().splitlines()[:1]}")
            return None
        return found


def run(command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def tests(report):
    """Golden values and every operation against the CPU's."""
    passed = report.run(["./cuda-tests", "--test-threads", "1"])
    summary = re.findall(r"test result: .*", passed or "")
    report.line(f"golden values and operations against the CPU: {summary[0] if summary else 'FAILED, see raw.txt'}")
    return passed is None


def last_json(text):
    return json.loads(text.strip().splitlines()[-1]) if text else None


def in_turn(report, peer, words, ours, theirs, rounds):
    """The figures of both sides for such a command line, each with words of its own: medians over runs in turn."""
    found = ([], [])
    for _ in range(rounds):
        mine = last_json(report.run(["./la-cli", "bench", words[0], "--device", "cuda", "--json"] + words[1:] + ours))
        peers = peer.measure([words[0], "--device", "cuda"] + words[1:] + theirs)
        for side, figures in zip(found, (mine, peers)):
            if figures:
                side.append(figures)
    return [middle(side) for side in found]


def middle(figures):
    ordered = sorted(figures, key=lambda f: f["median_s"])
    return ordered[len(ordered) // 2] if ordered else None


def verdict(ratio):
    return "goal met" if ratio >= GOAL else "floor met" if ratio >= FLOOR else "BELOW THE FLOOR"


def steps(report, peer, args):
    report.line(f"training step, ours and PyTorch's images/s; floor {FLOOR}, goal {GOAL} in bf16, of {args.rounds} runs each; the rest of one")
    for name, flags in (QUICK_STEPS if args.quick else STEPS).items():
        for precision in args.precisions:
            rounds = args.rounds if precision == "bf16" else 1
            mine, theirs = in_turn(report, peer, ["step"] + flags.split() + ["--precision", precision, "--rounds", "6"], [], [], rounds)
            if not (mine and theirs):
                continue
            ratio = mine["images_per_s"] / theirs["images_per_s"]
            memory = f"peak {mine['peak_gpu_mb']:.0f} and {theirs['peak_gpu_mb']:.0f} MiB"
            judged = verdict(ratio) if precision == "bf16" else ""
            report.line(f"  {name}, {precision}: {mine['images_per_s']:.0f} and {theirs['images_per_s']:.0f}, ratio {ratio:.2f} {judged}; {memory}")
            shares = ", ".join(f"{part} {share:.0%}" for part, share in mine["shares"].items())
            report.line(f"    share of time, each part waited for: {shares}")


def losses(report, peer, args):
    n, k, clusters = (20_000, 500, 300) if args.quick else (IMAGENET, 4096, 30_000)
    report.line(f"without a network, at N = {n}")
    size = ["loss", "--num-images", str(n), "--num-background", str(k), "--num-clusterings", "10", "--batch-size", "256"]
    compare(report, "local aggregation, K = %d, H = 10, B = 256" % k, in_turn(report, peer, size, [], [], args.rounds))
    for precision in [precision for precision in args.precisions if precision != "bf16"]:
        common = ["kmeans", "--num-clusters", str(clusters), "--iters", "20", "--precision", precision, "--rounds", "1"]
        sides = in_turn(report, peer, common, ["--num-points", str(n)], ["--num-images", str(n)], 1)
        compare(report, f"one k-means of {clusters} clusters, 20 iterations, {precision}", sides)


def compare(report, name, sides):
    mine, peer = sides
    if mine and peer:
        ratio = peer["median_s"] / mine["median_s"]
        report.line(f"  {name}: {mine['median_s']:.4f} s and {peer['median_s']:.4f} s, ratio {ratio:.2f}")


def epochs(report, args):
    for name, data in [("cifar10", args.cifar10), ("imagenette", args.imagenette)]:
        if data:
            epoch(report, name, data)
        else:
            report.line(f"one epoch of {name}: left out, --{name} names no folder")


def epoch(report, name, data):
    """One epoch from a folder, kNN included, and how long the card waited for images."""
    out = pathlib.Path(f"runs/gpu-{name}-{datetime.datetime.now():%H%M%S}")
    small = ["--size", "32", "--stem", "small", "--batch-size", "512"] if name == "cifar10" else ["--size", "160", "--batch-size", "128"]
    command = ["./la-cli", "train", "--device", "cuda", "--precision", "bf16", "--data", data, "--epochs", "1", "--ir-epochs", "0", "--out", str(out)]
    if report.run(command + small) is None:
        return
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    busy = last["wait_seconds"] / max(last["wait_seconds"] + 1e-9 + trained_seconds(name, last), 1e-9)
    report.line(f"one epoch of {name}: {last['seconds']:.1f} s, kNN {last['knn_top1']}, waited for images {busy:.0%} of the training time")


def trained_seconds(name, metrics):
    images = {"cifar10": 50_000, "imagenette": 9_469}[name]
    return images / max(metrics["images_per_s"], 1e-9)


main()
