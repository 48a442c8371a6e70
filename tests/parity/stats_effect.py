"""Effects by SciPy, corrections by statsmodels: python tests/parity/stats_effect.py > tests/parity/stats_effect.json

Paired data of 12 and 40 clusters for scipy.stats.bootstrap (method="BCa", paired=True), whose resamples are those of
numpy.random.default_rng(12345).integers(0, n, (trials, n)). Ends of 90 % and 98 % intervals; bias and acceleration as
SciPy computes them on the way.
"""

import json
import platform

import numpy as np
import scipy
import statsmodels
from scipy import special, stats
from statsmodels.stats.multitest import multipletests

TRIALS = 2000
SEED = 12345


def data(kind, n):
    generator = np.random.default_rng(n)
    weight = generator.integers(20, 200, n).astype(float)
    base = generator.gamma(2.0, 1.0, n)
    candidate = base + generator.exponential(0.5, n) - 0.2
    if kind == "difference":
        return np.stack([base, np.ones(n)], 1), np.stack([candidate, np.ones(n)], 1)
    return np.stack([base * weight, weight], 1), np.stack([candidate * weight, weight], 1)


def score(kind, base, base_weight, candidate, candidate_weight):
    of_base = base.sum(-1) / base_weight.sum(-1)
    of_candidate = candidate.sum(-1) / candidate_weight.sum(-1)
    if kind == "ratio":
        return np.log(of_candidate) - np.log(of_base)
    return of_candidate if kind == "level" else of_candidate - of_base


def case(kind, n):
    base, candidate = data(kind, n)
    sample = (base[:, 0], base[:, 1], candidate[:, 0], candidate[:, 1])

    def statistic(*columns, axis=-1):
        return score(kind, *columns)

    ends = {}
    for level in (0.9, 0.98):
        result = stats.bootstrap(
            sample,
            statistic,
            n_resamples=TRIALS,
            paired=True,
            vectorized=True,
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(SEED),
        )
        ends[f"{(1 - level) / 2:.2f}"] = [result.confidence_interval.low, result.confidence_interval.high]
    value = score(kind, *sample)
    below = stats.percentileofscore(result.bootstrap_distribution, value, kind="mean") / 100
    without = np.array([score(kind, *(np.delete(column, at) for column in sample)) for at in range(n)])
    spread = without.mean() - without
    return {
        "change": kind,
        "base": base.tolist(),
        "candidate": candidate.tolist(),
        "value": value,
        "bias": special.ndtri(below),
        "acceleration": (spread**3).sum() / (6 * (spread**2).sum() ** 1.5),
        "standard_error": float(np.sqrt((n - 1) / n * (spread**2).sum())),
        "bca": ends,
        "first_samples": result.bootstrap_distribution[:5].tolist(),
    }


def holm():
    generator = np.random.default_rng(0)
    cases = [[0.01, 0.04, 0.03, 0.005], [0.5], [0.02, 0.02, 0.02], [1.0, 0.9, 0.0]]
    cases += [generator.random(count).round(6).tolist() for count in (2, 7, 12)]
    cases += [(generator.random(9) ** 4).round(6).tolist()]
    return [{"p": p, "adjusted": multipletests(p, method="holm")[1].tolist()} for p in cases]


def distributions():
    levels = [0.0005, 0.005, 0.025, 0.05, 0.3, 0.5, 0.8, 0.95, 0.9995]
    freedoms = [1, 2, 3, 7, 8, 19, 50, 499]
    return {
        "levels": levels,
        "normal": stats.norm.ppf(levels).tolist(),
        "student": {str(freedom): stats.t.ppf(levels, freedom).tolist() for freedom in freedoms},
    }


def clopper_pearson():
    rows = []
    for n, events in [(8, 0), (20, 0), (20, 1), (20, 3), (60, 2)]:
        upper = stats.binomtest(events, n, alternative="less").proportion_ci(0.95, "exact").high
        rows.append({"clusters": n, "events": events, "high": float(upper)})
    return rows


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "versions": {
                    "python": platform.python_version(),
                    "numpy": np.__version__,
                    "scipy": scipy.__version__,
                    "statsmodels": statsmodels.__version__,
                },
                "trials": TRIALS,
                "effects": [case(kind, n) for kind in ("difference", "ratio", "level") for n in (12, 40)],
                "holm": holm(),
                "distributions": distributions(),
                "clopper_pearson": clopper_pearson(),
            },
            indent=1,
        )
    )
