"""One kohya LoRA for each pipeline: rank 4 on the text encoders' linear layers, on the UNet's attention and feed-forward,
and on all its convolutions but those of the up blocks' residual layers. SDXL's file has the original block names, as
sd-scripts writes it."""

import json

from peft.tuners.lora import LoraLayer

import formulas
import ldm_layout
import sd_adapters as sd
from tiny_bases import components_of, pipeline_state

RANK, ALPHA, STRENGTH = 4, 2.0, 0.8
SIZE = {"sd1": 0.8, "sd2": 0.5, "sdxl": 0.8}  # of the updates, against a fifth of the weight
AGREEMENT = 2e-6  # of a tensor's largest value


def make_adapter(path, family, pipe):
    """Writes the file in float16; the modules are returned as they can be read from it."""
    state = pipeline_state(pipe, family)
    targets = {c: sd.attention_modules(state[c], c) for c in components_of(family) if c != "vae"}
    targets["unet"] += [p for p in sd.conv_modules(state["unet"]) if not p.startswith("up_blocks") or "samplers" in p]
    modules = sd.lora(f"diffusion/{family}", state, targets, rank=RANK, alpha=ALPHA)
    for parts in modules.values():
        parts["lora_up.weight"] *= SIZE[family]
    modules = {owner: {k: t.half() for k, t in parts.items()} for owner, parts in modules.items()}
    ups = ldm_layout.attention_ups(state["unet"]) if family == "sdxl" else None
    tensors = sd.kohya(modules, family, sgm_ups=ups)
    sd.save_kohya(tensors, path, sd.training_metadata(f"{family}-lora", RANK, ALPHA))
    sort_metadata(path)
    return modules


def sort_metadata(path):
    """safetensors writes metadata in an order that changes from run to run."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


def apply_adapter(path, family, pipe, modules):
    """Fuses the file into the pipeline at STRENGTH by diffusers' own reader, and checks it against the formulas."""
    exact = formulas.merge(pipeline_state(pipe, family), [(modules, dict.fromkeys(components_of(family), STRENGTH))])
    pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name="a")
    parts = [name for name in components_of(family) if name != "vae"]
    pipe.fuse_lora(components=parts, lora_scale=STRENGTH)
    for name in parts:
        unwrap(getattr(pipe, name))
    fused = pipeline_state(pipe, family)
    for name in components_of(family):
        assert fused[name].keys() == exact[name].keys()
        for key, tensor in fused[name].items():
            error = formulas.relative_error(tensor, exact[name][key])
            assert error < AGREEMENT, f"{family} {name} {key}: {error}"


def unwrap(model):
    """Puts the layers with their fused weights in the place of PEFT's, so nothing of the adapter is left to compute."""
    for path, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            assert module.merged
            owner, _, leaf = path.rpartition(".")
            setattr(model.get_submodule(owner), leaf, module.get_base_layer())
