"""An epoch of augmented batches by torchvision and its DataLoader: what `la-cli bench loader` measures.

The augmentation of Local Aggregation in its order. Ends with one line of JSON.
"""
import argparse
import json
import statistics
import time

import torch
import torchvision
from torchvision import transforms as T


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2, help="worker processes")
    args = parser.parse_args()
    augment = T.Compose([
        T.RandomResizedCrop(args.size, scale=(0.2, 1.0)),
        T.RandomGrayscale(p=0.2),
        T.ColorJitter(0.4, 0.4, 0.4, 0.4),
        T.RandomHorizontalFlip(),
        T.ToTensor(),
        T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])
    images = torchvision.datasets.ImageFolder(args.data, augment)
    loader = torch.utils.data.DataLoader(
        images, batch_size=args.batch_size, shuffle=True, drop_last=True, num_workers=args.threads, persistent_workers=True
    )
    # The first epoch starts the workers and is not counted.
    epoch(loader)
    seconds = []
    for _ in range(args.rounds):
        started = time.perf_counter()
        num_images = epoch(loader)
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    print(json.dumps({"peer": "torchvision " + torchvision.__version__, "images_per_s": num_images / median, "median_s": median}))


def epoch(loader):
    return sum(len(images) for images, _ in loader)


if __name__ == "__main__":
    main()
