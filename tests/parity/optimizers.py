"""Optimizers and learning rates of the peers: writes optimizers.json beside this file.

Optimizers: 30 steps on three tensors with given gradients and with learning rates that differ by
tensor and step, in float32 and float64. Schedules: the factors of diffusers' and transformers'
`get_scheduler` (the script stops where the two part) at every step of a training. Norms: what
`clip_grad_norm_` makes of the first gradients.

Needs: pip install torch==2.15.0 lion-pytorch==0.2.5 prodigyopt==1.1.2 diffusers==0.42.1
       transformers==5.24.0 numpy
Run:   python optimizers.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from diffusers.optimization import get_scheduler as of_diffusers
from lion_pytorch import Lion
from prodigyopt import Prodigy
from transformers import get_scheduler as of_transformers

STEPS = 30
SHAPES = [(3, 4), (5,), (2, 3)]
PACKAGES = ["torch", "lion-pytorch", "prodigyopt", "diffusers", "transformers"]

torch.set_num_threads(1)


def numbers(seed, count):
    """Multiples of 2^-12 in -1…1: exact in float32 and short as text."""
    return (np.random.default_rng(seed).integers(-4096, 4097, count) / 4096).tolist()


def tensors(seed):
    counts = [int(np.prod(shape)) for shape in SHAPES]
    return [numbers([seed, i], count) for i, count in enumerate(counts)]


# The last tensor starts at 0, as B does.
START = [*tensors(1)[:2], [0.0] * 6]
LASTING = tensors(2)


def start(name):
    """Prodigy starts near 0: it measures how far tensors got by differences that float32 has only
    few digits of where they are small beside the tensors' values."""
    scale = 2.0**-16 if name == "prodigy" else 1.0
    return [[scale * x for x in tensor] for tensor in START]


def gradients(step):
    """A part that lasts for 12 steps, in which Prodigy's estimate grows, and then goes back and
    forth; noise; zeros for the second tensor at first."""
    sign = 1 if step < 12 else (-1) ** step
    of_step = [
        [round((sign * a + 0.5 * b) * 4096) / 4096 for a, b in zip(lasting, noise)]
        for lasting, noise in zip(LASTING, tensors(100 + step))
    ]
    return [[0.0] * len(g) if i == 1 and step < 2 else g for i, g in enumerate(of_step)]


def rates(base, step, same):
    """A warm-up from 0 over 4 steps; where it may be, a rate of its own for each tensor."""
    factor = min(step / 4, 1.0)
    return [base * factor * (1 if same else ratio) for ratio in (1, 4, 0.25)]


OPTIMIZERS = {
    "adamw": (
        torch.optim.AdamW, 1e-2, dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1, foreach=False)
    ),
    "adamw without decay": (
        torch.optim.AdamW, 1e-3, dict(betas=(0.8, 0.99), eps=1e-2, weight_decay=0.0, foreach=False)
    ),
    "sgd": (torch.optim.SGD, 1e-2, dict(momentum=0.9, weight_decay=0.1, foreach=False)),
    "sgd without momentum": (torch.optim.SGD, 1e-1, dict(momentum=0.0, foreach=False)),
    "lion": (Lion, 1e-3, dict(betas=(0.9, 0.99), weight_decay=0.1)),
    "prodigy": (Prodigy, 1.0, dict(betas=(0.9, 0.999), eps=1e-3, weight_decay=0.01)),
}


def settings(name, options):
    beta1, beta2 = options.get("betas", (options.get("momentum"), 0.999))
    return {
        "kind": name.split()[0],
        "beta1": beta1,
        "beta2": beta2,
        "epsilon": options.get("eps", 1e-8),
        "weight_decay": options.get("weight_decay", 0.0),
    }


def course(name, dtype):
    make, base, options = OPTIMIZERS[name]
    same = make is Prodigy
    params = [
        torch.tensor(values, dtype=dtype).reshape(shape).requires_grad_()
        for values, shape in zip(start(name), SHAPES)
    ]
    optimizer = make([{"params": [p], "lr": base} for p in params], lr=base, **options)
    estimates = []
    for step in range(STEPS):
        here = zip(optimizer.param_groups, rates(base, step, same), params, gradients(step))
        for group, rate, param, gradient in here:
            group["lr"] = rate
            param.grad = torch.tensor(gradient, dtype=dtype).reshape(param.shape)
        optimizer.step()
        estimates.append(optimizer.param_groups[0].get("d"))
    values = [param.detach().flatten().tolist() for param in params]
    return values, [d for d in estimates if d is not None]


def optimizer_case(name):
    _, base, options = OPTIMIZERS[name]
    (f32, _), (f64, estimates) = course(name, torch.float32), course(name, torch.float64)
    return {
        "name": name,
        "settings": settings(name, options),
        "start": start(name),
        "rates": [rates(base, step, name == "prodigy") for step in range(STEPS)],
        "f32": f32,
        "f64": f64,
        "estimates": estimates,
    }


def schedule_cases():
    base = 2e-4
    kinds = [
        ("constant", {}),
        ("linear", {}),
        ("cosine", {}),
        ("cosine_with_restarts", {"num_cycles": 1}),
        ("cosine_with_restarts", {"num_cycles": 3}),
        ("polynomial", {"power": 1.0}),
        ("polynomial", {"power": 2.5}),
    ]
    for kind, options in kinds:
        for total in (1, 7, 100):
            for warmup in sorted({0, 1, 10, total + 3}):
                yield schedule_case(kind, options, base, total, warmup)


def schedule_case(kind, options, base, total, warmup):
    name = "constant_with_warmup" if kind == "constant" else kind

    def factors(get, **more):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
        of_step = get(name, optimizer, num_warmup_steps=warmup, num_training_steps=total, **more)
        return [of_step.lr_lambdas[0](step) for step in range(total)]

    ours = factors(of_diffusers, **options)
    theirs = factors(of_transformers, scheduler_specific_kwargs=options)
    assert np.allclose(ours, theirs, rtol=0, atol=1e-15), (kind, options, total, warmup)
    return {
        "kind": kind,
        "cycles": options.get("num_cycles", 1),
        "power": options.get("power", 1.0),
        "learning_rate": base,
        "total": total,
        "warmup": warmup,
        "factors": ours,
    }


def clip_case(limit):
    params = [torch.zeros(len(g), dtype=torch.float64) for g in gradients(0)]
    for param, gradient in zip(params, gradients(0)):
        param.grad = torch.tensor(gradient, dtype=torch.float64)
    norm = torch.nn.utils.clip_grad_norm_(params, limit)
    return {"limit": limit, "norm": norm.item(), "f64": [p.grad.tolist() for p in params]}


def main():
    result = {
        "versions": {package: version(package) for package in PACKAGES},
        "shapes": SHAPES,
        "gradients": [gradients(step) for step in range(STEPS)],
        "optimizers": [optimizer_case(name) for name in OPTIMIZERS],
        "schedules": list(schedule_cases()),
        "clips": [clip_case(limit) for limit in (0.5, 1.0, 100.0)],
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
