"""Stable Diffusion bases of full size with random weights, for benches/diffusion.rs.

    python diffusion_bases.py [FOLDER [sd15] [sdxl]]

Writes to FOLDER (default target/bench-bases):

- `sd15.safetensors` (2.1 GB) and `sdxl.safetensors` (6.9 GB): f16, names and shapes of the released single files
- `sd15/` and `sdxl/`: the configurations of the same models, as diffusers' `from_single_file(config=...)` takes them
- `sd15-lora.safetensors`: kohya's names, rank 16 on the linear layers of text encoder and UNet

Weights are normal with deviation 1/sqrt(inputs), norms 1 with deviation 0.1, and depend on their names only. Models are
made without memory and written tensor by tensor. Tried with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "parity"))

import ldm_layout
import sd_adapters
from diffusion_models import SCHEDULERS
from tiny_bases import canonical, rand

RANK, ALPHA = 16, 8.0
# the layout's name, which is also that of its scheduler's settings
LAYOUTS = {"sd15": "sd1", "sdxl": "sdxl"}


def text_config(hidden, layers, act):
    return CLIPTextConfig(
        vocab_size=49408, hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, max_position_embeddings=77, projection_dim=hidden, hidden_act=act,
    )  # fmt: skip


def models_of(family):
    vae = {
        "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    }  # fmt: skip
    text_encoder = CLIPTextModel(text_config(768, 12, "quick_gelu"))
    if family == "sd15":
        return {
            "unet": UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
            "vae": AutoencoderKL(**vae, sample_size=512, scaling_factor=0.18215),
            "text_encoder": text_encoder,
        }
    unet = UNet2DConditionModel(
        sample_size=128, block_out_channels=(320, 640, 1280), cross_attention_dim=2048,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2, 10], attention_head_dim=[5, 10, 20], use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
    )  # fmt: skip
    return {
        "unet": unet,
        "vae": AutoencoderKL(**vae, sample_size=1024, scaling_factor=0.13025),
        "text_encoder": text_encoder,
        "text_encoder_2": CLIPTextModelWithProjection(text_config(1280, 32, "gelu")),
    }


def save_configs(folder, family, models):
    """No tokenizers: the peer is given embeddings."""
    names = {"sd15": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
    scheduler = {"sd15": PNDMScheduler, "sdxl": EulerDiscreteScheduler}[family]
    index = {"_class_name": names[family], "_diffusers_version": "0.42.1"}
    index["scheduler"] = ["diffusers", scheduler.__name__]
    scheduler.from_config(SCHEDULERS[LAYOUTS[family]]).save_config(folder / "scheduler")
    for name, model in models.items():
        library = "transformers" if name.startswith("text") else "diffusers"
        index[name] = [library, type(model).__name__]
        if library == "diffusers":
            model.save_config(folder / name)
        else:
            model.config.save_pretrained(folder / name)
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def values(name, shape):
    if len(shape) > 1:
        return rand(name, shape, shape[1:].numel() ** -0.5)
    return rand(name, shape, 0.1) + (1.0 if name.endswith("weight") else 0.0)


def write_half(path, shapes):
    """A safetensors file in f16 with one tensor in memory at a time."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * shape.numel()
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            file.write(values(name, shape).half().numpy())
    unfinished.rename(path)


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "target/bench-bases")
    for family in sys.argv[2:] or LAYOUTS:
        with torch.device("meta"):
            models = models_of(family)
        states = {name: canonical(name, model.state_dict()) for name, model in models.items()}
        save_configs(folder / family, family, models)
        tensors = ldm_layout.to_ldm(LAYOUTS[family], states, {})
        write_half(folder / f"{family}.safetensors", {name: tensors[name].shape for name in sorted(tensors)})
        if family == "sd15":
            targets = {c: sd_adapters.attention_modules(states[c], c) for c in ("text_encoder", "unet")}
            lora = sd_adapters.lora("bench", states, targets, rank=RANK, alpha=ALPHA, dtype=torch.float16)
            sd_adapters.save_kohya(sd_adapters.kohya(lora, LAYOUTS[family]), folder / "sd15-lora.safetensors")


if __name__ == "__main__":
    main()
