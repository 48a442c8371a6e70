"""Image metrics of formula-made images by the reference programs: writes image_reference.json.

Needs: pip install torch torchmetrics==1.9.0 scikit-image==0.26.0 ImageHash==4.3.2 pillow==13.0.0 scipy==1.17.1
Run: python tests/parity/image_reference.py
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import imagehash
import numpy as np
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

MASK = 0xFFFFFFFF


def scatter(x, y, channel, seed):
    """A number below 2^32 for each place, by integers only."""
    mixed = (x * 73856093 ^ y * 19349663 ^ channel * 83492791 ^ seed * 40503) & MASK
    mixed ^= mixed >> 13
    mixed = mixed * 1274126177 & MASK
    return mixed ^ mixed >> 16


def places(width, height):
    y, x, channel = np.mgrid[0:height, 0:width, 0:3].astype(np.int64)
    return x, y, channel


def noise(width, height, seed):
    return (scatter(*places(width, height), seed) & 255).astype(np.uint8)


def natural(width, height, seed):
    """Smooth shapes of four sizes: levels on lattices, joined by straight lines."""
    x, y, channel = places(width, height)
    total = np.zeros_like(x)
    for cell, share in ((64, 8), (32, 4), (16, 2), (8, 1)):
        left, top, right, down = x // cell, y // cell, x % cell, y % cell

        def corner(dx, dy):
            return scatter(left + dx, top + dy, channel, seed + cell) & 255

        above = corner(0, 0) * (cell - right) + corner(1, 0) * right
        below = corner(0, 1) * (cell - right) + corner(1, 1) * right
        total += share * ((above * (cell - down) + below * down) // (cell * cell))
    return (total // 15).astype(np.uint8)


def disturbed(image, seed, strength):
    """Noise of up to ±strength levels."""
    height, width, _ = image.shape
    by = noise(width, height, seed).astype(np.int64) * (2 * strength + 1) // 256 - strength
    return np.clip(image + by, 0, 255).astype(np.uint8)


def pattern(width, height, seed):
    """Checks and stripes, whose frequencies are mostly 0 but for rounding."""
    x, y, _ = places(width, height)
    period = 1 + seed % 13
    choice = (x // period, y // period, x // period + y // period, (x + y) // period)[seed % 4]
    return (choice % 2 * 255).astype(np.uint8)


MAKE = {"noise": noise, "natural": natural, "pattern": pattern}


def pair(width, height, kind, seed):
    first = natural(width, height, seed)
    if kind == "disturbed":
        return first, disturbed(first, seed + 1, 5 + seed % 40)
    if kind == "brighter":
        return first, np.clip(first.astype(np.int64) + 25, 0, 255).astype(np.uint8)
    if kind == "inverse":
        return first, 255 - first
    return first, natural(width, height, seed + 1)


def shares(image):
    bins = (image // 32).reshape(-1, 3).astype(np.int64)
    counts = np.bincount(bins @ [64, 8, 1], minlength=512)
    return counts / counts.sum()


def compared(width, height, kind, seed):
    first, second = pair(width, height, kind, seed)
    tensors = [torch.from_numpy(i).double().permute(2, 0, 1)[None] for i in (first, second)]
    row = {
        "width": width,
        "height": height,
        "kind": kind,
        "seed": seed,
        "ssim": structural_similarity(
            first, second, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1
        ),
        "psnr": peak_signal_noise_ratio(first, second, data_range=255),
        "histogram": max(0.0, 1 - np.sqrt(shares(first) * shares(second)).sum()) ** 0.5,
    }
    if min(width, height) >= 176:
        row["ms_ssim"] = multiscale_structural_similarity_index_measure(*tensors, data_range=255.0).item()
        row["ms_ssim_f32"] = multiscale_structural_similarity_index_measure(
            *(t.float() for t in tensors), data_range=255.0
        ).item()
    return {key: value if isinstance(value, (str, int)) else float(value) for key, value in row.items()}


def resized(kind, size, to, filter):
    image = Image.fromarray(MAKE[kind](*size, 7))
    bytes_ = image.resize(to, getattr(Image.Resampling, filter.upper())).tobytes()
    return {"kind": kind, "from": size, "to": to, "filter": filter, "sha256": hashlib.sha256(bytes_).hexdigest()}


def hashed(kind, width, height, seed):
    image = Image.fromarray(MAKE[kind](width, height, seed))
    hashes = [str(hash(image)) for hash in (imagehash.phash, imagehash.dhash)]
    return [kind, width, height, seed, *hashes]


def features(rows, width, seed):
    i, j = np.mgrid[0:rows, 0:width]
    return (i * 31 + j * 17 + seed * 7) % 23 / 23 + (i * j + seed) % 5 / 10


def kid(rows, others, width, trials):
    """The unbiased estimate; its bootstrap leaves out pairs of draws of one image."""
    x, y = features(rows, width, 0), features(others, width, 3)
    kernels = [(a @ b.T / width + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    within = [k * (1 - np.eye(len(k))) for k in kernels[:2]]
    across = kernels[2]

    def estimate(*times):
        inner = [t @ k @ t / (t.sum() ** 2 - (t**2).sum()) for t, k in zip(times, within)]
        return sum(inner) - 2 * times[0] @ across @ times[1] / (times[0].sum() * times[1].sum())

    rng = np.random.default_rng(12345)

    def draw(n):
        times = np.bincount(rng.choice(n, size=n), minlength=n).astype(float)
        return times if np.count_nonzero(times) > 1 else draw(n)

    trial = sorted(estimate(draw(rows), draw(others)) for _ in range(trials))
    cut = trials // 40
    return {
        "rows": rows,
        "others": others,
        "width": width,
        "trials": trials,
        "kid": estimate(np.ones(rows), np.ones(others)),
        "low": trial[cut],
        "high": trial[-1 - cut],
    }


SIZES = ((176, 176), (192, 256), (301, 177), (400, 300), (11, 11), (64, 17), (97, 131))
KINDS = ("disturbed", "brighter", "inverse", "other")
RESIZES = [
    (kind, size, to, filter)
    for filter in ("bilinear", "bicubic", "lanczos")
    for kind, size, to in (
        ("natural", (512, 512), (224, 224)),
        ("natural", (640, 427), (336, 224)),
        ("noise", (300, 200), (224, 224)),
        ("noise", (97, 131), (224, 302)),
        ("noise", (17, 5), (64, 64)),
        ("natural", (224, 100), (224, 224)),
        ("noise", (100, 224), (224, 224)),
        ("noise", (1, 1), (3, 7)),
        ("noise", (1000, 3), (7, 5)),
        ("pattern", (256, 256), (100, 255)),
        ("natural", (512, 768), (224, 224)),
        ("noise", (96, 167), (32, 32)),
        ("noise", (95, 82), (61, 14)),
        ("noise", (60, 200), (224, 100)),
    )
]
HASHES = [
    (kind, 9 + seed * 29 % 300, 8 + seed * 53 % 280, seed)
    for kind, count in (("noise", 100), ("natural", 120), ("pattern", 60))
    for seed in range(count)
]

torch.set_num_threads(1)
names = ("torchmetrics", "scikit-image", "ImageHash", "pillow", "scipy", "numpy", "torch")
result = {
    "versions": {name: version(name) for name in names},
    "pairs": [compared(*size, kind, 10 * i + j) for i, size in enumerate(SIZES) for j, kind in enumerate(KINDS)],
    "resizes": [resized(*case) for case in RESIZES],
    "hashes": [hashed(*case) for case in HASHES],
    "kid": [kid(40, 40, 8, 1000), kid(30, 55, 19, 1000), kid(2, 3, 4, 200)],
}


def lines(value):
    return "[\n" + ",\n".join(json.dumps(row) for row in value) + "\n]" if isinstance(value, list) else json.dumps(value)


text = "{\n" + ",\n".join(f"{json.dumps(key)}: {lines(value)}" for key, value in result.items()) + "\n}\n"
Path(__file__).with_suffix(".json").write_text(text)
