"""Every adapter type's weight difference in float64: the exact value that peers' results are checked against.

`weight_delta(parts, base)` takes one module's tensors under kohya's and LyCORIS' part names (`lora_down.weight`,
`hada_w1_a`, ...) and the base weight; it gives the difference at strength 1. Strengths multiply it.
"""

import torch


def f64(tensor):
    return tensor.to(torch.float64)


def weight_delta(parts, base):
    parts = {k: f64(v) for k, v in parts.items()}
    base = f64(base)
    if "weight" in parts:
        return ia3(parts, base)
    if "a1.weight" in parts:
        return glora(parts, base)
    delta = product(parts, base).reshape(base.shape)
    if "lora_magnitude_vector" in parts:  # PEFT: always along the output
        return dora(base, delta, parts["lora_magnitude_vector"].flatten()) - base
    if "dora_scale" in parts:
        return dora(base, delta, parts["dora_scale"]) - base
    return delta


def bias_delta(parts):
    for name in ("diff_b", "b_norm"):
        if name in parts:
            return f64(parts[name])
    return None


def product(parts, base):
    if "diff" in parts:
        return parts["diff"]
    if "w_norm" in parts:
        return parts["w_norm"]
    if "hada_w1_a" in parts:
        return loha(parts)
    if any(k.startswith("lokr_") for k in parts):
        return lokr(parts, base)
    return lora(parts)


def scale(parts, rank):
    """alpha / rank; a missing alpha means alpha = rank."""
    return float(parts["alpha"]) / rank if "alpha" in parts else 1.0


def lora(parts):
    down, up = parts["lora_down.weight"], parts["lora_up.weight"]
    rank = down.shape[0]
    flat_up = up.reshape(up.shape[0], rank)
    if "lora_mid.weight" in parts:
        flat_down = down.reshape(rank, -1)
        delta = torch.einsum("mn...,om,ni->oi...", parts["lora_mid.weight"], flat_up, flat_down)
    else:
        delta = flat_up @ down.reshape(rank, -1)
    return scale(parts, rank) * delta


def loha(parts):
    halves = []
    for i in (1, 2):
        a, b = parts[f"hada_w{i}_a"], parts[f"hada_w{i}_b"]
        core = parts.get(f"hada_t{i}")
        halves.append(a @ b if core is None else torch.einsum("ij...,jq,ip->pq...", core, b, a))
    return scale(parts, parts["hada_w1_b"].shape[0]) * halves[0] * halves[1]


def lokr(parts, base):
    w1 = parts.get("lokr_w1")
    if w1 is None:
        w1 = parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    w2 = parts.get("lokr_w2")
    if w2 is None:
        a, b = parts["lokr_w2_a"], parts["lokr_w2_b"]
        core = parts.get("lokr_t2")
        w2 = a @ b if core is None else torch.einsum("ij...,jq,ip->pq...", core, b, a)
    if w2.dim() == 4:
        w1 = w1[:, :, None, None]
    if "lokr_w1" in parts and "lokr_w2" in parts:
        return torch.kron(w1, w2)  # both full: alpha has no meaning
    rank = parts["lokr_w2_b" if "lokr_w2_b" in parts else "lokr_w1_b"].shape[0]
    return scale(parts, rank) * torch.kron(w1, w2.contiguous())


def ia3(parts, base):
    weight = parts["weight"].flatten()
    axis = 1 if int(parts["on_input"]) else 0
    shape = [1] * base.dim()
    shape[axis] = -1
    return base * weight.reshape(shape)


def glora(parts, base):
    a1, a2, b1, b2 = (parts[f"{k}.weight"] for k in ("a1", "a2", "b1", "b2"))
    rank = a2.shape[0]
    if base.dim() == 2 and b2.shape[1] == b1.shape[0] == a1.shape[0] and a2.shape[0] == base.shape[1]:
        return scale(parts, b1.shape[0]) * (b2 @ b1 + base @ a2 @ a1)  # written by old LyCORIS: 1 and 2 change roles
    mixed = torch.einsum("oi...,ir,rj->oj...", base, a1.reshape(-1, rank), a2.reshape(rank, -1))
    plain = (b1.reshape(-1, rank) @ b2.reshape(rank, -1)).reshape(base.shape)
    return scale(parts, rank) * (plain + mixed)


def dora(base, delta, magnitude):
    """m * (W + D) / |W + D|; the axis of the norm is the one along which `magnitude` is not 1."""
    value = base + delta
    axis = 1 if magnitude.dim() == base.dim() and magnitude.shape[0] == 1 and magnitude.shape[1] > 1 else 0
    others = [d for d in range(base.dim()) if d != axis]
    shape = [1] * base.dim()
    shape[axis] = -1
    return magnitude.reshape(shape) * value / value.pow(2).sum(others, keepdim=True).sqrt()


def merge(components, adapters):
    """Components in float64 with adapters applied. `adapters`: (modules, {component: strength}) in any order.

    Every difference is taken from the untouched base, so the sum does not depend on the order."""
    out = {name: {k: f64(v) if v.is_floating_point() else v for k, v in state.items()} for name, state in components.items()}
    for modules, strengths in adapters:
        for (component, path), parts in modules.items():
            strength = strengths[component]
            base, target = components[component], out[component]
            key = f"{path}.weight"
            target[key] = target[key] + strength * weight_delta(parts, base[key])
            bias = bias_delta(parts)
            if bias is not None:
                target[f"{path}.bias"] = target[f"{path}.bias"] + strength * bias
    return out


def changed(merged, base):
    """The tensors of `merged` that differ from `base`, or that the base does not have."""
    return {
        k: v for k, v in merged.items() if k not in base or not torch.equal(v.to(torch.float64), f64(base[k]))
    }


def relative_error(got, want):
    """Largest difference as a share of the largest value."""
    want = f64(want)
    return ((f64(got) - want).abs().max() / want.abs().max().clamp_min(1e-30)).item()
