"""The random numbers of a training, restated in numpy (src/base/random.rs).

    python tests/parity/train_random.py

A number is word i of Philox4x32-10 on the counter (i / 4, lane, visit, index) under the first eight bytes of
SHA-256("lora-eval/{seed}/{purpose}"). Run by itself it checks Random123's known answers and prints the values that the
unit test of src/base/random.rs holds. Needs numpy only.
"""

import hashlib

import numpy as np

KNOWN_ANSWERS = [  # Random123's kat_vectors: counter, key, result
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0],
     [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
]  # fmt: skip


def philox4x32(counters, key):
    """Ten rounds on counters (4, n), as 64-bit integers that hold 32-bit words."""
    low, half = np.uint64(2**32 - 1), np.uint64(32)
    a, b, c, d = counters
    key = list(key)
    for _ in range(10):
        p, q = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = q >> half ^ b ^ np.uint64(key[0]), q & low, p >> half ^ d ^ np.uint64(key[1]), p & low
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return np.stack([a, b, c, d])


class Random:
    """The random numbers of one purpose."""

    def __init__(self, seed, purpose):
        digest = hashlib.sha256(f"lora-eval/{seed}/{purpose}".encode()).digest()
        self.key = [int.from_bytes(digest[i : i + 4], "little") for i in (0, 4)]

    def at(self, index, visit, lane):
        return Draws(self.key, index, visit, lane)

    def permutation(self, count, visit):
        """Fisher and Yates, from the last place down."""
        order, draws = list(range(count)), self.at(0, visit, 0)
        for last in range(count - 1, 0, -1):
            other = draws.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order


class Draws:
    """The numbers of one thing, in order. Normal numbers come in pairs: ask for an even number, or for the last ones."""

    def __init__(self, key, index, visit, lane):
        self.key, self.rest, self.used = key, (lane, visit, index), 0

    def uniforms(self, count):
        """(word + 1/2) / 2^32, in f64."""
        first, end = self.used // 4, -(-(self.used + count) // 4)
        blocks = np.arange(first, end, dtype=np.uint64)
        counters = [blocks, *(np.full(len(blocks), value, np.uint64) for value in self.rest)]
        words = philox4x32(counters, self.key).T.reshape(-1)[self.used - 4 * first :][:count]
        self.used += count
        return (words.astype(np.float64) + 0.5) / 2.0**32

    def below(self, count):
        return int(self.uniforms(1)[0] * count)

    def normals(self, count):
        """Box and Muller in f64: of each two uniform numbers first the cosine, then the sine."""
        u, v = self.uniforms(2 * -(-count // 2)).reshape(-1, 2).T
        radius, angle = np.sqrt(-2.0 * np.log(u)), 2.0 * np.pi * v
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)[:count]


def first_a(seed, index, shape, init, rank):
    """A as it begins, f32: uniform in ±1/sqrt(inputs) (kaiming) or normal of deviation 1/rank (gaussian)."""
    draws, count = Random(seed, "init").at(index, 0, 0), int(np.prod(shape))
    if init == "kaiming":
        values = (2.0 * draws.uniforms(count) - 1.0) / np.sqrt(float(np.prod(shape[1:])))
    else:
        values = draws.normals(count) / rank
    return values.astype(np.float32).reshape(shape)


def steps_of(seed, examples, size, steps):
    """The examples of each optimizer step, as (example, visit): epochs in their order, the last step of one may be short."""
    order, out, epoch = Random(seed, "order"), [], 0
    while len(out) < steps:
        shuffled = [(i, epoch) for i in order.permutation(examples, epoch)]
        out += [shuffled[at : at + size] for at in range(0, examples, size)]
        epoch += 1
    return out[:steps]


def main():
    for counter, key, result in KNOWN_ANSWERS:
        got = philox4x32([np.array([word], np.uint64) for word in counter], key)
        assert got[:, 0].tolist() == result, result
    one_by_one = Random(42, "noise").at(7, 3, 1)
    uniform = [one_by_one.uniforms(1)[0].item() for _ in range(6)]
    assert uniform == Random(42, "noise").at(7, 3, 1).uniforms(6).tolist()
    print("uniform", uniform)
    print("normal", Random(42, "noise").at(7, 3, 1).normals(4).tolist())
    print("below 1000", Random(42, "timestep").at(7, 3, 0).below(1000))
    print("permutation of 10", Random(42, "order").permutation(10, 3))


if __name__ == "__main__":
    main()
