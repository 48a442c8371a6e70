"""Normal random numbers of torch on the CPU: writes noise.json beside this file.

Also the values of a numpy restatement of Philox as the WebUI 1.10.1 uses it (source `nv`). A case
is a stream: calls in order, the first and last value of each, the hash of all values together.
Setting the capability to avx512 changes no value; `default`, torch's scalar form, does.

Needs: pip install torch==2.15.0 numpy
Run:   ATEN_CPU_CAPABILITY=avx2 python noise.py
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

SEEDS = [0, 1, 42, 2**32 - 1, 2**32 + 5, 2**63]
LATENTS = [(1, 4, 64, 64), (1, 4, 128, 128), (1, 4, 96, 64)]
SEQUENCES = [
    *([shape, shape] for shape in LATENTS),
    [(1,), (2,), (5,), (15,), (16,), (17,), (23,), (100,)],
    [(100,), (23,), (17,), (16,), (15,), (5,), (2,), (1,)],
    [(5,), (16,), (1,), (23,), (15,), (1, 4, 64, 64), (2,), (17,), (1,), (1,)],
    [(1, 4, 64, 64), (5,), (1, 4, 64, 64), (1,)],
]


class Torch:
    def __init__(self, seed):
        self.generator = torch.Generator("cpu").manual_seed(seed)

    def normal(self, shape):
        return torch.randn(shape, generator=self.generator).numpy().reshape(-1)


class Philox:
    """Counter (call, 0, element, 0), ten rounds, the sine of Box and Muller; f64 until the end."""

    def __init__(self, seed):
        self.seed, self.call = seed, 0

    def normal(self, shape):
        count, low = int(np.prod(shape)), np.uint64(2**32 - 1)
        zero = np.zeros(count, np.uint64)
        a, b, c, d = zero + np.uint64(self.call), zero, np.arange(count, dtype=np.uint64), zero
        self.call += 1
        keys = [self.seed % 2**32, self.seed >> 32]
        for _ in range(10):
            p, q = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
            k, m = np.uint64(keys[0]), np.uint64(keys[1])
            a, b, c, d = q >> np.uint64(32) ^ b ^ k, q & low, p >> np.uint64(32) ^ d ^ m, p & low
            keys = [(keys[0] + 0x9E3779B9) % 2**32, (keys[1] + 0xBB67AE85) % 2**32]
        scale, turn = np.float32(2.3283064e-10), np.float32(2.3283064e-10 * 6.2831855)
        u = a * np.float64(scale) + np.float64(scale / np.float32(2))
        v = b * np.float64(turn) + np.float64(turn / np.float32(2))
        return (np.sqrt(-2.0 * np.log(u)) * np.sin(v)).astype(np.float32)


def case(source, make, seed, shapes):
    generator = make(seed)
    calls = [np.ascontiguousarray(generator.normal(shape), "<f4") for shape in shapes]
    together = np.concatenate(calls)
    return {
        "source": source,
        "seed": str(seed),
        "counts": [len(values) for values in calls],
        "first": [float(values[0]) for values in calls],
        "last": [float(values[-1]) for values in calls],
        "sha256": hashlib.sha256(together.tobytes()).hexdigest(),
    }


torch.set_num_threads(1)
cases = [
    case(source, make, seed, shapes)
    for source, make in [("cpu", Torch), ("nv", Philox)]
    for seed in SEEDS
    for shapes in SEQUENCES
]
report = {
    "made_by": "noise.py",
    "versions": {"torch": torch.__version__, "numpy": np.__version__},
    "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    "cases": cases,
}
Path(__file__).with_name("noise.json").write_text(json.dumps(report, indent=1) + "\n")
