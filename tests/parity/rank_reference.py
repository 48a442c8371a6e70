"""Ranks that sd-scripts' `networks/resize_lora.py` (48d368fa) chooses, for src/adapter/rank.rs.

The four index functions are re-stated from that file with numpy:
    python tests/parity/rank_reference.py
"""

import numpy as np

S = np.array([8, 4, 2, 1, 0.5, 0.25])
RANK = 6


def clamp(index):
    return max(1, min(index, len(S) - 1))


def sv_ratio(target):
    return clamp(int((S > S[0] / target).sum()))


def sv_cumulative(target):
    return clamp(int(np.searchsorted(np.cumsum(S) / S.sum(), target)) + 1)


def sv_fro(target):
    squares = S**2
    return clamp(int(np.searchsorted(np.cumsum(squares) / squares.sum(), target**2)) + 1)


for name, function, targets in [
    ("sv_ratio", sv_ratio, [2, 5, 1000]),
    ("sv_fro", sv_fro, [0.9, 0.99]),
    ("sv_cumulative", sv_cumulative, [0.5, 0.9]),
]:
    for target in targets:
        print(name, target, min(function(target) + 1, RANK))
