"""Buckets of sd-scripts, pixels and colours of torchvision: writes buckets.json beside this file.

`make_bucket_resolutions`, `adjust_min_max` and `select_bucket` say again what sd-scripts of February 2026
computes (library/model_util.py and library/train_util.py): a set of sizes of about one area, and for a
picture the size of the nearest aspect ratio and the size it is resized to before it is cropped. A case
that sd-scripts stops at (a side of 0) is left out.

`pixels` are those of a picture made by formula, resized by Pillow, mirrored, cropped and normalized.

Needs: pip install numpy pillow torch==2.15.0 torchvision==0.29.2
Run:   python buckets.py
"""

import json
import math
import random
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
import torchvision.transforms.functional as colours
from PIL import Image
from torchvision import transforms

torch.set_num_threads(1)


def make_bucket_resolutions(resolution, least, most, step):
    area = resolution[0] * resolution[1]
    square = int(math.sqrt(area) // step) * step
    sizes = {(square, square)}
    for width in range(least, most + 1, step):
        height = min(most, int((area // width) // step) * step)
        if height >= least:
            sizes |= {(width, height), (height, width)}
    return sorted(sizes)


def adjust_min_max(least, most, step):
    return least - least % step, most + (-most) % step


def select_bucket(size, resolution, sizes, no_upscale, step):
    width, height = size
    aspect = width / height
    if not no_upscale:
        if size in sizes:
            bucket = size
        else:
            ratios = np.array([w / h for w, h in sizes])
            bucket = sizes[int(np.abs(ratios - aspect).argmin())]
        scale = bucket[1] / height if aspect > bucket[0] / bucket[1] else bucket[0] / width
        return bucket, (int(width * scale + 0.5), int(height * scale + 0.5))
    area = resolution[0] * resolution[1]
    resized = size
    if width * height > area:
        shrunk_width = math.sqrt(area * aspect)
        shrunk_height = area / shrunk_width

        def to_steps(x):
            x = int(x + 0.5)
            return x - x % step

        by_width = to_steps(shrunk_width)
        ratio_by_width = by_width / to_steps(by_width / aspect)
        by_height = to_steps(shrunk_height)
        ratio_by_height = to_steps(by_height * aspect) / by_height
        if abs(ratio_by_width - aspect) < abs(ratio_by_height - aspect):
            resized = (by_width, int(by_width / aspect + 0.5))
        else:
            resized = (int(by_height * aspect + 0.5), by_height)
    bucket = tuple(side - side % step for side in resized)
    if 0 in bucket:
        raise ZeroDivisionError
    return bucket, resized


def pictures(rng):
    known = [(512, 512), (1, 1), (64, 64), (576, 448), (448, 576), (1920, 1080), (1080, 1920)]
    known += [(4032, 3024), (3000, 4000), (832, 1216), (1216, 832), (2048, 256), (256, 2048)]
    drawn = [(rng.randint(40, 3000), rng.randint(40, 3000)) for _ in range(200)]
    sides = [int(math.exp(rng.uniform(math.log(16), math.log(12000)))) for _ in range(200)]
    return known + drawn + list(zip(sides[::2], sides[1::2]))


def bucket_case(resolution, least=256, most=1024, step=64, buckets=True, no_upscale=False):
    least_used, most_used = adjust_min_max(least, most, step)
    sizes = [resolution]
    if buckets:
        sizes = make_bucket_resolutions(resolution, least_used, most_used, step)
    placed = []
    for size in pictures(random.Random(11)):
        try:
            bucket, resized = select_bucket(size, resolution, sizes, no_upscale, step)
        except ZeroDivisionError:
            continue
        placed.append([*size, *bucket, *resized])
    return {
        "resolution": resolution,
        "min_bucket": least,
        "max_bucket": most,
        "bucket_step": step,
        "buckets": buckets,
        "no_upscale": no_upscale,
        "sizes": sizes,
        "placed": placed,
    }


def colour_case(rng, factors):
    pixels = [[rng.randrange(256) for _ in range(3)] for _ in range(40)]
    pixels += [[0, 0, 0], [255, 255, 255], [7, 7, 7], [255, 0, 0], [0, 0, 255], [9, 200, 200]]
    image = torch.tensor(pixels, dtype=torch.float32).T.reshape(3, 2, 23) / 255
    brightness, contrast, saturation, hue = factors
    image = colours.adjust_brightness(image, brightness)
    image = colours.adjust_contrast(image, contrast)
    image = colours.adjust_saturation(image, saturation)
    image = colours.adjust_hue(image, hue)
    after = [[round(float(v), 7) for v in pixel] for pixel in image.reshape(3, 46).T]
    return {"factors": factors, "pixels": pixels, "after": after}


def pixel_case(size, resized, bucket, corner, flip):
    width, height = size
    rows = [[[(x * 37 + y * 91 + c * 53 + x * y) % 256 for c in range(3)] for x in range(width)] for y in range(height)]
    image = Image.fromarray(np.array(rows, dtype=np.uint8)).resize(resized, Image.Resampling.LANCZOS)
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    left, top = corner
    image = image.crop((left, top, left + bucket[0], top + bucket[1]))
    normalize = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])
    # the nearest f64 of an f32, so that reading it again gives the same f32
    values = [float(np.format_float_positional(v)) for v in normalize(image).numpy().ravel()]
    case = {"size": size, "resized": resized, "bucket": bucket, "left": left, "top": top, "flip": flip}
    return case | {"values": values}


cases = [
    bucket_case((512, 512)),
    bucket_case((768, 768)),
    bucket_case((1024, 1024), most=2048),
    bucket_case((512, 768), least=320, step=32),
    bucket_case((1024, 1024), least=250, most=1500),
    bucket_case((512, 512), no_upscale=True),
    bucket_case((1024, 1024), no_upscale=True),
    bucket_case((512, 512), buckets=False),
    bucket_case((768, 512), buckets=False),
]
rng = random.Random(5)
factors = [(1.1, 0.9, 1.05, 0.02), (0.9, 1.1, 0.9, -0.02), (1.0, 1.0, 1.1, 0.0), (1.03, 0.97, 1.0, 0.013)]
written = {
    "made_by": "tests/parity/buckets.py",
    "versions": {
        "pillow": PIL.__version__,
        "torch": torch.__version__.split("+")[0],
        "torchvision": torchvision.__version__.split("+")[0],
    },
    "cases": cases,
    "pixels": [
        pixel_case((40, 30), (16, 12), (12, 10), (1, 2), False),
        pixel_case((40, 30), (16, 12), (12, 10), (3, 0), True),
        pixel_case((9, 7), (18, 14), (16, 8), (1, 3), True),
    ],
    "colours": [colour_case(rng, each) for each in factors],
}
text = json.dumps(written, separators=(",", ":"))
Path(__file__).with_suffix(".json").write_text(text.replace('{"', '\n{"') + "\n")
