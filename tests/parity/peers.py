"""What diffusers and LyCORIS make of an adapter: merged float32 weights, by their own code."""

import logging

import torch
from lycoris.logging import logger as lycoris_logger
from lycoris.modules import (
    FullModule,
    GLoRAModule,
    IA3Module,
    LoConModule,
    LohaModule,
    LokrModule,
    NormModule,
    get_module,
    make_module,
)
from peft.tuners.lora import LoraLayer

from tiny_bases import canonical, components_of, load_pipeline, rand

lycoris_logger.setLevel(logging.ERROR)

# ---------------------------------------------------------------- diffusers


def diffusers_fused(bases, family, adapters):
    """`load_lora_weights`, strengths, `fuse_lora`. `adapters`: (file, strength or {component: strength})."""
    pipe = load_pipeline(bases, family)
    names = [f"a{i}" for i in range(len(adapters))]
    for name, (path, _) in zip(names, adapters):
        pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name=name)
    parts = [c for c in components_of(family) if c != "vae" and getattr(getattr(pipe, c), "peft_config", None)]
    strengths = [strength for _, strength in adapters]
    if len(adapters) == 1 and not isinstance(strengths[0], dict):
        pipe.fuse_lora(components=parts, lora_scale=strengths[0])
    else:
        pipe.set_adapters(names, strengths)
        pipe.fuse_lora(components=parts)
    return {name: fused_state(name, getattr(pipe, name)) for name in components_of(family)}


def peft_layers_merged(pipe, family):
    """Merge the PEFT layers that the pipeline's models hold now."""
    for name in components_of(family):
        for module in getattr(pipe, name).modules():
            if isinstance(module, LoraLayer):
                module.merge()
    return {name: fused_state(name, getattr(pipe, name)) for name in components_of(family)}


def fused_state(name, model):
    state = {k.replace(".base_layer.", "."): v.detach().clone() for k, v in model.state_dict().items() if "lora_" not in k}
    return canonical(name, state)


# ---------------------------------------------------------------- LyCORIS


def lycoris_module(kind, name, layer, dim=2, alpha=1.0, **options):
    """A LyCORIS module of its own class on `layer`, with random values."""
    classes = {
        "locon": LoConModule, "loha": LohaModule, "lokr": LokrModule, "full": FullModule, "norm": NormModule,
        "ia3": IA3Module, "glora": GLoRAModule,
    }  # fmt: skip
    module = classes[kind](name.replace("/", "_"), layer, 1.0, lora_dim=dim, alpha=alpha, **options).eval()
    fill(kind, name, module, layer)
    return module


@torch.no_grad()
def fill(kind, name, module, layer):
    """Values that make an update of about a fifth of the weight."""
    weight = layer.weight.std().item()
    for key, p in module.named_parameters():
        seed = f"{name}/{key}"
        if key.endswith("dora_scale"):
            p.mul_(1 + rand(seed, p.shape, 0.2))
        elif kind in ("full", "norm", "ia3"):
            p.copy_(rand(seed, p.shape, 0.2 if kind == "ia3" else 0.2 * (weight if kind == "full" else 0.5)))
        elif kind == "locon":
            p.copy_(rand(seed, p.shape, layer.weight[0].numel() ** -0.5 if "down" in key else 0.3))
        elif kind == "glora":
            p.copy_(rand(seed, p.shape, p[0].numel() ** -0.5 if key.startswith(("a2", "b2")) else 0.25))
        else:
            p.copy_(rand(seed, p.shape, 0.5))
    if kind in ("loha", "lokr"):
        rescale(module, 0.2 * weight)


def rescale(module, size):
    """Hadamard and Kronecker products: set the update's size by one factor of the product."""
    factor = size / module.get_weight(module.shape).std()
    for key in ("hada_w1_a", "lokr_w1", "lokr_w1_a"):
        if hasattr(module, key):
            getattr(module, key).data.mul_(factor)


def lycoris_parts(module):
    if isinstance(module, FullModule):  # its state_dict subtracts the original, as after `apply_to`; here it holds the difference
        parts = {"diff": module.weight, "diff_b": module.bias}
        return {k: v.detach().clone() for k, v in parts.items() if v is not None}
    return {k: v.detach().clone() for k, v in module.state_dict().items()}


@torch.no_grad()
def lycoris_merged(kind, module, layer):
    """Merged (weight, bias) as the module's forward uses them.

    Not `get_merged_weight` for LoHa and LoKr: it multiplies by alpha / rank twice, the forward pass once."""
    if kind in ("loha", "lokr", "locon"):
        delta = module.make_weight() * module.scale if kind == "locon" else module.get_weight(module.shape)
        if module.wd:
            return module.apply_weight_decompose(layer.weight + delta.view(layer.weight.shape), 1.0), layer.bias
        return layer.weight + delta.view(layer.weight.shape), layer.bias
    weight, bias = module.get_merged_weight(1.0)
    return weight, layer.bias if bias is None else bias


def layer_at(pipe, component, path):
    model = getattr(pipe, component)
    if component == "text_encoder" and not hasattr(model, "text_model"):
        path = path.removeprefix("text_model.")
    return model.get_submodule(path)


@torch.no_grad()
def lycoris_read(pipe, state, modules):
    """LyCORIS reads each module's tensors as from a file (`get_module`, `make_module`) and merges them."""
    merged = {name: dict(tensors) for name, tensors in state.items()}
    for (component, path), parts in modules.items():
        layer = layer_at(pipe, component, path)
        name = path.replace(".", "_")
        kind, params = get_module({f"{name}.{part}": t for part, t in parts.items()}, name)
        module = make_module(kind, params, name, layer).eval()
        short = {"kron": "lokr"}.get(module.name, module.name)
        merged[component][f"{path}.weight"] = lycoris_merged(short, module, layer)[0].detach().clone()
    return merged
