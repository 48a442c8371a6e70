"""Adapters for Stable Diffusion: their values, and the dialects in which the tools write them.

In memory an adapter is {(component, module path): parts}, with parts named as kohya and LyCORIS name them. The paths are
diffusers' own, text encoders with `text_model.`; the writers below turn them into the keys of one dialect.
"""

import hashlib
import json

import torch
from safetensors.torch import save, save_file

import ldm_layout
from tiny_bases import PT, rand

TEXT_LINEAR = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
CONV_PATHS = ("conv1", "conv2", "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv")


# ---------------------------------------------------------------- which modules


def weights_of(state):
    """Module path -> weight, for one component's state dict."""
    return {k.removesuffix(".weight"): v for k, v in state.items() if k.endswith(".weight")}


def attention_modules(state, component):
    """The modules that sd-scripts adapts by default: linear layers and 1x1 convolutions of transformers."""
    if component.startswith("text_encoder"):
        return [p for p in weights_of(state) if p.endswith(TEXT_LINEAR)]
    return [p for p, w in weights_of(state).items() if ".attentions." in p and w.dim() > 1]


def conv_modules(state):
    """What `conv_dim` adds to them."""
    return [p for p in weights_of(state) if ".attentions." not in p and p.endswith(CONV_PATHS)]


# ---------------------------------------------------------------- values


def lora_parts(name, weight, rank, alpha=None, tucker=False, dtype=torch.float32):
    """Random LoRA / LoCon of one weight, its update about a fifth of the weight. `alpha=None`: no alpha stored."""
    out, fan_in, *kernel = weight.shape
    scale = 1.0 if alpha is None else alpha / rank
    inputs = weight[0].numel()
    parts = {}
    if tucker and kernel and max(kernel) > 1:
        parts["lora_down.weight"] = rand(name + "/down", (rank, fan_in, 1, 1), 1.0)
        parts["lora_mid.weight"] = rand(name + "/mid", (rank, rank, *kernel), inputs**-0.5)
        parts["lora_up.weight"] = rand(name + "/up", (out, rank, 1, 1), 0.2 / (rank * scale))
    else:
        ones = [1] * len(kernel)
        parts["lora_down.weight"] = rand(name + "/down", (rank, fan_in, *kernel), inputs**-0.5)
        parts["lora_up.weight"] = rand(name + "/up", (out, rank, *ones), 0.2 / (rank**0.5 * scale))
    if alpha is not None:
        parts["alpha"] = torch.tensor(float(alpha))
    return {k: v.to(dtype) for k, v in parts.items()}


def lora(name, states, targets, rank=4, alpha=2.0, **options):
    """One LoRA over `targets` {component: paths}; rank and alpha may be functions of the module's number."""
    modules = {}
    for component, paths in targets.items():
        weights = weights_of(states[component])
        for i, path in enumerate(paths):
            r = rank(i) if callable(rank) else rank
            a = alpha(i) if callable(alpha) else alpha
            modules[component, path] = lora_parts(f"{name}/{component}/{path}", weights[path], r, a, **options)
    return modules


def flat_projections(modules):
    """proj_in and proj_out as 2-D tensors, whatever the base has."""
    return reshaped(modules, lambda t: t.flatten(1))


def square_projections(modules):
    """proj_in and proj_out as 1x1 convolutions, whatever the base has."""
    return reshaped(modules, lambda t: t if t.dim() == 4 else t[:, :, None, None])


def reshaped(modules, change):
    def one(path, key, tensor):
        return change(tensor) if path.endswith(("proj_in", "proj_out")) and key != "alpha" else tensor

    return {(c, p): {k: one(p, k, t) for k, t in parts.items()} for (c, p), parts in modules.items()}


# ---------------------------------------------------------------- kohya's keys


def kohya(modules, family, sgm_ups=None, text_prefix=None):
    """kohya's keys; with `sgm_ups` (up blocks that have attentions) the UNet in SDXL's original names."""
    first = text_prefix or ("lora_te1_" if family == "sdxl" else "lora_te_")
    prefixes = {"unet": "lora_unet_", "text_encoder": first, "text_encoder_2": "lora_te2_"}
    out = {}
    for (component, path), parts in modules.items():
        if component == "unet" and sgm_ups is not None:
            path = ldm_layout.unet_module(path, sgm_ups)
        for part, tensor in parts.items():
            out[f"{prefixes[component]}{path.replace('.', '_')}.{part}"] = tensor
    return out


def save_kohya(tensors, path, metadata=None):
    tensors = {k: v.contiguous() for k, v in tensors.items()}
    if metadata is not None:
        metadata = metadata | sd_scripts_hashes(tensors, metadata)
    save_file(tensors, path, metadata)


def sd_scripts_hashes(tensors, metadata):
    """As sd-scripts computes them: over the file with the `ss_` metadata only."""
    data = save(tensors, {k: v for k, v in metadata.items() if k.startswith("ss_")})
    header = 8 + int.from_bytes(data[:8], "little")
    return {
        "sshs_model_hash": hashlib.sha256(data[header:]).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8],
    }


def training_metadata(name, rank, alpha):
    return {
        "ss_v2": "False",
        "ss_base_model_version": "sd_v1",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_network_args": "{}",
        "ss_output_name": name,
        "ss_session_id": "1234567890",
        "ss_training_started_at": "1700000000.0",
        "ss_training_finished_at": "1700003600.0",
        "ss_learning_rate": "0.0001",
        "ss_unet_lr": "0.0001",
        "ss_text_encoder_lr": "5e-05",
        "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit",
        "ss_lr_scheduler": "cosine",
        "ss_num_train_images": "24",
        "ss_num_epochs": "10",
        "ss_steps": "240",
        "ss_max_train_steps": "240",
        "ss_mixed_precision": "fp16",
        "ss_clip_skip": "2",
        "ss_seed": "42",
        "ss_noise_offset": "None",
        "ss_min_snr_gamma": "5.0",
        "ss_resolution": "(512, 512)",
        "ss_batch_size_per_device": "1",
        "ss_sd_model_name": "v1-5-pruned.safetensors",
        "ss_sd_model_hash": "e3b0c442",
        "ss_tag_frequency": json.dumps({"8_striped": {"striped style": 24, "a red star": 7, "green background": 5}}),
        "ss_dataset_dirs": json.dumps({"8_striped": {"n_repeats": 8, "img_count": 24}}),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": name,
        "modelspec.resolution": "512x512",
        "modelspec.date": "2023-11-14T22:13:20",
        "modelspec.prediction_type": "epsilon",
        "modelspec.encoder_layer": "2",
    }


# ---------------------------------------------------------------- diffusers' keys


def peft_layers(modules, component, text_model=True):
    """{key: tensor} of one component as `save_lora_weights` takes it: PEFT's names without a prefix."""
    names = {"lora_down.weight": "lora_A.weight", "lora_up.weight": "lora_B.weight"}
    out = {}
    for (owner, path), parts in modules.items():
        if owner == component:
            path = path if text_model else path.removeprefix("text_model.")
            out |= {f"{path}.{names.get(part, part)}": t for part, t in parts.items() if part != "alpha"}
    return out


def intermediate(modules):
    """The keys between the two: `.lora.down.weight`, and `.lora_linear_layer.down.weight` in a text encoder."""
    out = {}
    for (component, path), parts in modules.items():
        word = "lora" if component == "unet" else "lora_linear_layer"
        for side in ("down", "up"):
            out[f"{component}.{path}.{word}.{side}.weight"] = parts[f"lora_{side}.weight"]
    return out


def processor(modules, prefix=True):
    """The oldest keys: `.attn1.processor.to_q_lora.down.weight`, `.self_attn.to_q_lora.down.weight`."""
    out = {}
    for (component, path), parts in modules.items():
        owner, leaf = path.removesuffix(".0").rsplit(".", 1)
        if component == "unet":
            stem = f"{owner}.processor.{leaf}_lora"
        else:
            stem = f"{owner}.to_{leaf.removesuffix('_proj')}_lora"
        stem = f"{component}.{stem}" if prefix else stem
        for side in ("down", "up"):
            out[f"{stem}.{side}.weight"] = parts[f"lora_{side}.weight"]
    return out


def save_plain(tensors, path):
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, PT)
