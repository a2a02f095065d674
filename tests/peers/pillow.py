"""Odd pictures of Pillow's source package: our pixels against Pillow's, and what is refused by which side.

    cargo build --release -p la-core -p la-cli --example decode
    pip download --no-deps --no-binary pillow pillow && tar xf pillow-*.tar.gz
    python tests/peers/pillow.py pillow-*/Tests/images

Needs Pillow and NumPy. Ends with 1 where a picture differs by more than 8 (JPEG: 45, where colour is interpolated) and has no reason here.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
from PIL import Image, ImageOps

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".mpo", ".apng", ".jfif"}
# Why a picture may differ, by a part of its name.
REASONS = {
    "app13.jpg": "four pixels whose colour is interpolated",
    "hopper_bad_exif.jpg": "damaged data, which decoders go on from in ways of their own",
    "mmap_error.bmp": "a header by which the pixels begin in the palette",
    "rletrns.bmp": "pixels that are left out are black to Pillow, and transparent to us",
    "rgb32bf-abgr.bmp": "Pillow keeps an alpha that is 0 throughout",
    "exif_imagemagick_orientation.png": "an orientation outside of EXIF is not read",
    "xmp_tags_orientation": "an orientation outside of EXIF is not read",
}
# The same by Pillow's mode.
MODES = {mode: "Pillow cuts values off at 255, and we scale them" for mode in ("I", "I;16", "I;16B", "I;16L", "F")}


def reason(path):
    with Image.open(path) as image:
        return next((reason for part, reason in REASONS.items() if part in path.name), MODES.get(image.mode))


def reference(path):
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return numpy.asarray(image.convert("RGB")).astype(int)


def ours(paths, folder):
    decode = pathlib.Path(__file__).parents[2] / "target/release/examples/decode"
    command = [decode, folder, "4096", *map(str, paths)]
    # Decoders that give up say so there, and in the answer.
    lines = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True).stdout.splitlines()
    for i, line in enumerate(lines):
        answer = json.loads(line)
        if "error" in answer:
            yield answer["error"]
        else:
            pixels = numpy.fromfile(pathlib.Path(folder) / str(i), numpy.uint8)
            yield pixels.reshape(answer["height"], answer["width"], 3).astype(int)


def compare(got, path):
    try:
        expected = reference(path)
    except Exception as error:
        return "both refuse" if isinstance(got, str) else f"only Pillow refuses: {type(error).__name__}"
    if isinstance(got, str):
        return f"refused: {got}"
    if got.shape != expected.shape:
        return f"DIFFERS: {got.shape[1]}x{got.shape[0]}, Pillow {expected.shape[1]}x{expected.shape[0]}"
    worst = abs(got - expected).max()
    tolerance = 45 if path.suffix.lower() in {".jpg", ".jpeg", ".mpo", ".jfif"} else 8
    return "same" if worst <= tolerance else f"DIFFERS by {worst}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    paths = sorted(path for path in parser.parse_args().folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    counts, is_bad = {}, False
    with tempfile.TemporaryDirectory() as folder:
        for path, got in zip(paths, ours(paths, folder)):
            outcome = compare(got, path)
            why = reason(path) if outcome.startswith("DIFFERS") else None
            kind = outcome.split(":")[0].split(" by")[0]
            counts[kind] = counts.get(kind, 0) + 1
            if outcome not in ("same", "both refuse"):
                print(f"{path.name}: {outcome}{f' ({why})' if why else ''}")
            is_bad |= outcome.startswith("DIFFERS") and why is None
    print(counts)
    sys.exit(is_bad)


main()
