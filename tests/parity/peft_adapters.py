"""Adapters for language models: folders written by PEFT, and what PEFT makes of them."""

import json
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

import formulas
from tiny_bases import PT, load_language_model, rand

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
LINEAR = ATTENTION + ["gate_proj", "up_proj", "down_proj"]


def configs():
    """Folder name -> (base, LoraConfig). Ranks and alphas are chosen so that no two scales are alike."""
    lora = {"task_type": "CAUSAL_LM", "lora_dropout": 0.0}
    gpt2 = {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}
    return {
        "llama-peft": ("llama", LoraConfig(r=4, lora_alpha=6, target_modules=LINEAR, **lora)),
        "llama-peft-second": ("llama", LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "up_proj"], **lora)),
        "llama-peft-patterns": (
            "llama",
            LoraConfig(
                r=2, lora_alpha=4, target_modules=ATTENTION + ["down_proj"],
                rank_pattern={"q_proj": 3, r"layers\.1\.self_attn\.v_proj": 4},
                alpha_pattern={"model.layers.0.mlp.down_proj": 7, "v_proj": 5, "k_proj": 1}, **lora,
            ),
        ),
        "llama-peft-rslora": ("llama", LoraConfig(r=4, lora_alpha=3, target_modules=LINEAR, use_rslora=True, **lora)),
        "llama-peft-dora": ("llama", LoraConfig(r=3, lora_alpha=6, target_modules=LINEAR, use_dora=True, **lora)),
        "llama-peft-embedding": (
            "llama", LoraConfig(r=3, lora_alpha=4, target_modules=["embed_tokens", "lm_head", "q_proj"], **lora),
        ),
        "llama-peft-modules-to-save": (
            "llama", LoraConfig(r=2, lora_alpha=2, target_modules=["v_proj"], modules_to_save=["lm_head"], **lora),
        ),
        "llama-peft-regex": (
            "llama",
            LoraConfig(
                r=2, lora_alpha=5, target_modules=r".*\.layers\.0\.(self_attn\.[qv]_proj|mlp\.down_proj)", **lora
            ),
        ),
        "llama-peft-one-layer": (
            "llama", LoraConfig(r=2, lora_alpha=3, target_modules=ATTENTION, layers_to_transform=[1], **lora),
        ),
        "llama-peft-bf16": ("llama", LoraConfig(r=4, lora_alpha=8, target_modules=ATTENTION, **lora)),
        "qwen2-peft-bias-all": ("qwen2", LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj"], bias="all", **lora)),
        "qwen2-peft-bias-lora-only": (
            "qwen2", LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "v_proj"], bias="lora_only", **lora),
        ),
        "qwen2-peft-lora-bias": (
            "qwen2", LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "k_proj"], lora_bias=True, **lora),
        ),
        "qwen2-peft-lm-head": ("qwen2", LoraConfig(r=3, lora_alpha=4, target_modules=["lm_head", "v_proj"], **lora)),
        "qwen2-peft-embedding": ("qwen2", LoraConfig(r=3, lora_alpha=4, target_modules=["embed_tokens"], **lora)),
        "gpt2-peft": ("gpt2", LoraConfig(r=3, lora_alpha=4, **gpt2, **lora)),
        "gpt2-peft-dora": ("gpt2", LoraConfig(r=2, lora_alpha=3, use_dora=True, **gpt2, **lora)),
    }  # fmt: skip


def save_adapters(bases, folder):
    for name, (base, config) in configs().items():
        model = get_peft_model(load_language_model(bases, base), config)
        fill(model, name)
        out = folder / name
        shutil.rmtree(out, ignore_errors=True)
        model.save_pretrained(out, save_embedding_layers=False)
        (out / "README.md").unlink(missing_ok=True)
        tidy_config(out / "adapter_config.json")
        if name.endswith("-bf16"):
            weights = out / "adapter_model.safetensors"
            save_file({k: v.bfloat16() for k, v in load_file(weights).items()}, weights, PT)


def tidy_config(path):
    """PEFT keeps target_modules in a set, so it writes them in a different order each time."""
    config = json.loads(path.read_text())
    if isinstance(config.get("target_modules"), list):
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


@torch.no_grad()
def fill(model, name):
    """Trained-looking values: updates of about a fifth of the weight, magnitudes and biases moved."""
    for key, p in model.named_parameters():
        seed = f"{name}/{key}"
        if "lora_A" in key or "lora_embedding_B" in key:
            p.copy_(rand(seed, p.shape, p.shape[1] ** -0.5))
        elif "lora_embedding_A" in key:
            p.copy_(rand(seed, p.shape, 0.15))
        elif "lora_B" in key:
            p.copy_(rand(seed, p.shape, 0.12))
        elif "lora_magnitude" in key:
            p.mul_(1 + rand(seed, p.shape, 0.2))
        elif "modules_to_save" in key:
            p.copy_(rand(seed, p.shape, p.shape[1] ** -0.5))
        elif key.endswith("bias") and p.requires_grad:
            p.add_(rand(seed, p.shape, 0.1))


# ---------------------------------------------------------------- PEFT's own merge


def peft_merged(bases, base, adapters):
    """`merge_and_unload` of the adapters at their strengths (`set_scale`), as a state dict."""
    model = attached(bases, base, adapters)
    return clean(model.merge_and_unload().state_dict(), base)


def attached(bases, base, adapters):
    (first, _), *rest = adapters
    model = PeftModel.from_pretrained(load_language_model(bases, base), first, adapter_name="a0").eval()
    for i, (path, _) in enumerate(rest, 1):
        model.load_adapter(path, adapter_name=f"a{i}")
    model.base_model.set_adapter([f"a{i}" for i in range(len(adapters))])
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for i, (_, strength) in enumerate(adapters):
                if f"a{i}" in module.scaling:
                    module.set_scale(f"a{i}", strength)
    return model


def clean(state, base):
    tied = base != "llama"
    return {k: v.clone() for k, v in state.items() if not (tied and k == "lm_head.weight")}


# ---------------------------------------------------------------- the same by formulas, in float64


def exact_merged(state, adapters):
    """`state` with the adapters (folder, strength) applied in float64, by the formulas alone.

    Where `lm_head` is tied to the embedding and either of them is adapted, the two part: both are in the result."""
    state = dict(state)
    touched = {k for folder, _ in adapters for k in differences(state | untied(state), folder)}
    if touched & {"lm_head.weight", "model.embed_tokens.weight"}:
        state |= untied(state)
    out = {k: formulas.f64(v) for k, v in state.items()}
    for folder, strength in adapters:
        for key, value in differences(state, folder).items():
            out[key] = out[key] + strength * value
    return out


def untied(state):
    return {} if "lm_head.weight" in state else {"lm_head.weight": state.get("model.embed_tokens.weight")}


def differences(state, folder):
    """Base key -> difference at strength 1."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    out = {}
    modules = {}
    for key, tensor in tensors.items():
        path = key.removeprefix("base_model.model.")
        for part in ("lora_A.weight", "lora_B.weight", "lora_B.bias", "lora_embedding_A", "lora_embedding_B",
                     "lora_magnitude_vector"):  # fmt: skip
            if path.endswith("." + part):
                modules.setdefault(path.removesuffix("." + part), {})[part] = tensor
                break
        else:
            path = path.replace(".base_layer.", ".")  # a bias of an adapted module
            out[path] = formulas.f64(tensor) - formulas.f64(state[path])
    for path, parts in modules.items():
        key = f"{path}.weight"
        out[key] = module_difference(parts, state[key], scaling(config, path, parts), config)
        if "lora_B.bias" in parts:
            out[f"{path}.bias"] = scaling(config, path, parts) * formulas.f64(parts["lora_B.bias"])
    return out


def scaling(config, path, parts):
    import re

    rank = parts["lora_A.weight" if "lora_A.weight" in parts else "lora_embedding_A"].shape[0]
    matches = (v for k, v in config["alpha_pattern"].items() if re.match(rf"(.*\.)?({k})$", path))
    alpha = next(matches, config["lora_alpha"])
    return alpha / (rank**0.5 if config["use_rslora"] else rank)


def module_difference(parts, weight, scale, config):
    parts = {k: formulas.f64(v) for k, v in parts.items()}
    weight = formulas.f64(weight)
    if "lora_embedding_A" in parts:
        return scale * (parts["lora_embedding_B"] @ parts["lora_embedding_A"]).T
    delta = scale * parts["lora_B.weight"] @ parts["lora_A.weight"]
    base = weight.T if config["fan_in_fan_out"] else weight
    if "lora_magnitude_vector" in parts:
        delta = formulas.dora(base, delta, parts["lora_magnitude_vector"]) - base
    return delta.T if config["fan_in_fan_out"] else delta
