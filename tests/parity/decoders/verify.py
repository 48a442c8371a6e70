"""Re-checks a random sample of the expected values from the files on disk alone.

    python tests/parity/decoders/verify.py [--all] [--seed N] [CASE ...]

For each case it loads the model and the adapters anew with the peers (see
make_decoders.py for versions) and compares one prompt at one strength, or with
--all every one: logits within 1e-4, greedy tokens equal.
"""

import argparse
import random
from pathlib import Path

from reference import LEAST_GAP, NEW_TOKENS, Reference, greedy_of, logits_of, read_expected, \
    read_spec

HERE = Path(__file__).resolve().parent


def check(case_dir, rng, everything):
    spec, expected = read_spec(case_dir), read_expected(case_dir)
    prompts, strengths = spec["prompts"], spec["strengths"]
    pairs = [(p, s) for p in range(len(prompts)) for s in range(len(strengths))]
    names = {f"{kind}.p{p}.s{s}" for kind in ("logits", "greedy") for p, s in pairs}
    assert names == set(expected), names ^ set(expected)
    for p, s in pairs:
        assert len(expected[f"logits.p{p}.s{s}"]) == len(prompts[p])
        assert expected[f"greedy.p{p}.s{s}"].shape == (NEW_TOKENS,)
    # The strengths must tell each other apart, or a loader that drops the adapter passes.
    first, last = expected["logits.p0.s0"], expected[f"logits.p0.s{len(strengths) - 1}"]
    assert (first - last).abs().max() > 0.1
    reference = Reference(case_dir, spec)
    worst = 0.0
    for p, s in pairs if everything else [rng.choice(pairs)]:
        model = reference.at(strengths[s])
        far = (logits_of(model, prompts[p]) - expected[f"logits.p{p}.s{s}"]).abs().max().item()
        new, gap, _ = greedy_of(model, prompts[p], spec["recompute"])
        assert far < 1e-4, (case_dir.name, p, s, far)
        assert new.equal(expected[f"greedy.p{p}.s{s}"]), (case_dir.name, p, s)
        assert gap > LEAST_GAP and gap > spec["min_gap"] - 1e-4, (case_dir.name, p, s, gap)
        worst = max(worst, far)
    return worst


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("cases", nargs="*")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    every = sorted(f.parent for f in HERE.glob("*/expected.json"))
    folders = [HERE / c for c in args.cases] or every
    for folder in folders:
        worst = check(folder, rng, args.all)
        print(f"{folder.name}: ok, logits within {worst:.1e}", flush=True)
    print(f"{len(folders)} cases ok")


if __name__ == "__main__":
    main()
