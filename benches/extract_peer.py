"""torch's full SVD of the matrices that `cargo bench --bench extract` lists; called by it."""

import sys
import time

import numpy as np
import torch

listing, rank = sys.argv[1], int(sys.argv[2])
for line in open(listing):
    path, m, n, kind, ours, rest = line.rstrip("\n").split("\t")
    matrix = torch.from_numpy(np.fromfile(path, dtype=np.float32).reshape(int(m), int(n)))
    torch.linalg.svd(matrix[:64, :64], full_matrices=False)
    start = time.time()
    for _ in range(2):
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    seconds = (time.time() - start) / 2
    best = float(s[rank:].double().square().sum().sqrt())
    print(
        f"{m} × {n}, {kind}: torch {torch.__version__} full SVD {seconds:.3f} s, "
        f"ratio {seconds / float(ours):.1f}; ‖rest‖ {best:.6f} (ours {float(rest):.6f})"
    )
