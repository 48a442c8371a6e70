"""Norms, activations and attention with their gradients, by torch in float32.

    python tests/parity/nn.py > tests/parity/nn.json
"""

import json

import torch
import torch.nn.functional as F


def values(n, seed):
    """The numbers of `values` in tests/nn.rs."""
    state = (seed * 2_654_435_761 + 1) % 2**32
    numbers = []
    for _ in range(n):
        state = (state * 1_664_525 + 1_013_904_223) % 2**32
        numbers.append((state >> 8) / 2**23 - 1)
    return torch.tensor(numbers)


def tensor(shape, seed):
    return values(torch.Size(shape).numel(), seed).reshape(shape).requires_grad_()


def case(inputs, function):
    """The result, and the gradients of its product with values of seed 99."""
    y = function(*inputs)
    gradients = torch.autograd.grad(y, inputs, values(y.numel(), 99).reshape(y.shape))
    flat = [[float(f"{x:.8e}") for x in t.detach().flatten().tolist()] for t in (y, *gradients)]
    return {"y": flat[0], "gradients": flat[1:]}


ACTIVATIONS = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}


def geglu(x):
    """As diffusers.models.activations.GEGLU after its projection."""
    hidden, gate = x.chunk(2, dim=-1)
    return hidden * F.gelu(gate)


def attention(**options):
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options)


layer = [tensor([2, 3, 40], 1), tensor([40], 2), tensor([40], 3)]
group = [tensor([2, 8, 5, 3], 1), tensor([8], 2), tensor([8], 3)]
cross = [tensor([2, 4, 21, 8], 1), tensor([2, 2, 30, 8], 2), tensor([2, 2, 30, 8], 3)]
square = [tensor([1, 2, 33, 8], seed) for seed in (1, 2, 3)]
cases = {
    "layer_norm": case(layer, lambda x, w, b: F.layer_norm(x, (40,), w, b, 1e-5)),
    "group_norm": case(group, lambda x, w, b: F.group_norm(x, 4, w, b, 1e-6)),
    "group_norm_silu": case(group, lambda x, w, b: F.silu(F.group_norm(x, 4, w, b, 1e-6))),
    "geglu": case([tensor([3, 2, 38], 1)], geglu),
    "attention": case(cross, attention(enable_gqa=True)),
    "attention_causal": case(square, attention(is_causal=True)),
}
for name, function in ACTIVATIONS.items():
    cases[name] = case([tensor([150], 1)], lambda x, function=function: function(5 * x))
print(json.dumps({"torch": torch.__version__, "cases": cases}, separators=(",", ":")))
