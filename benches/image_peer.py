"""Reference programs' times on SIDE WIDTH IMAGE IMAGE FEATURES FEATURES: name, seconds, result on each line."""

import sys
import time

import imagehash
import numpy as np
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

side, width = map(int, sys.argv[1:3])
a, b = (np.fromfile(path, np.uint8).reshape(side, side, 3) for path in sys.argv[3:5])
x, y = (np.fromfile(path).reshape(-1, width) for path in sys.argv[5:7])
pictures = [Image.fromarray(image) for image in (a, b)]
tensors = [torch.from_numpy(image).permute(2, 0, 1)[None].float() for image in (a, b)]


def ssim():
    return structural_similarity(
        a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1
    )


def histogram():
    counts = [np.histogramdd(i.reshape(-1, 3), bins=8, range=[(0, 256)] * 3)[0] / side**2 for i in (a, b)]
    return max(0.0, 1 - np.sqrt(counts[0] * counts[1]).sum()) ** 0.5


def kid():
    """The estimate and 1000 bootstrap ones."""
    kernels = [(p @ q.T / width + 1) ** 3 for p, q in ((x, x), (y, y), (x, y))]
    for kernel in kernels[:2]:
        np.fill_diagonal(kernel, 0)

    def estimate(*times):
        inner = [t @ k @ t / (t.sum() ** 2 - (t**2).sum()) for t, k in zip(times, kernels)]
        return sum(inner) - 2 * times[0] @ kernels[2] @ times[1] / (times[0].sum() * times[1].sum())

    rng = np.random.default_rng(12345)
    for _ in range(1000):
        estimate(*(np.bincount(rng.choice(len(s), size=len(s)), minlength=len(s)) for s in (x, y)))
    return estimate(*(np.ones(len(s)) for s in (x, y)))


RUNS = {
    "ssim": ssim,
    "ssim-8": lambda: sum(ssim() for _ in range(8)),
    "ms-ssim": lambda: multiscale_structural_similarity_index_measure(*tensors, data_range=255.0).item(),
    "psnr": lambda: peak_signal_noise_ratio(a, b, data_range=255),
    "histogram": histogram,
    "phash": lambda: imagehash.phash(pictures[0]) - imagehash.phash(pictures[1]),
    "dhash": lambda: imagehash.dhash(pictures[0]) - imagehash.dhash(pictures[1]),
    "bicubic": lambda: int(np.asarray(pictures[0].resize((224, 224), Image.Resampling.BICUBIC), np.int64).sum()),
    "kid": kid,
}
for name, run in RUNS.items():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    print(name, min(times), float(result), sep="\t")
