"""Makes the fixtures of Stable Diffusion: tiny pipelines, and what transformers and diffusers compute with them.

    python tests/parity/make_diffusion.py

Needs torch 2.15.0 (CPU), diffusers 0.42.1, transformers 5.24.0, peft 0.21.2, accelerate, safetensors. Nothing is
downloaded and every number comes from a fixed seed. Writes `diffusion/`, which diffusion/README.md describes.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import importlib.metadata
import sys
import warnings
from pathlib import Path

sys.dont_write_bytecode = True
warnings.filterwarnings("ignore")

import diffusers
import torch
import transformers
from safetensors.torch import save_file

import diffusion_adapters as adapters
import diffusion_emphasis as emphasis
import diffusion_images as images
import diffusion_models as models
import diffusion_outputs as outputs
from diffusion_tokenizer import write_json

FOLDER = Path(__file__).resolve().parent / "diffusion"
PACKAGES = ("torch", "diffusers", "transformers", "tokenizers", "peft", "safetensors")


def main():
    torch.set_num_threads(1)
    diffusers.logging.set_verbosity_error()
    transformers.logging.set_verbosity_error()
    FOLDER.mkdir(exist_ok=True)
    emphasis.check_fragments()
    families = {family: make_family(family) for family in models.FAMILIES}
    save("noise.safetensors", {f"{h}x{w}": images.noise(images.SEED, h, w, images.STEPS + 1) for h, w in images.NOISE})
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    command = "python tests/parity/make_diffusion.py"
    write_json(FOLDER / "cases.json", {"command": command, "versions": versions, "families": families})


def make_family(family):
    models.save_pipeline(FOLDER, family)
    base, adapted = models.load_pipeline(FOLDER, family), models.load_pipeline(FOLDER, family)
    lora = FOLDER / f"{family}-lora.safetensors"
    adapters.apply_adapter(lora, family, adapted, adapters.make_adapter(lora, family, base))
    save(f"{family}-parts.safetensors", parts(family, base, adapted))
    for pipe in (base, adapted):
        images.with_final_norm(pipe)
    tensors, cases = images.family_images(family, base, adapted)
    save(f"{family}-images.safetensors", tensors)
    out = {
        "folder": family,
        "single_file": f"{family}.safetensors",
        "adapter": f"{family}-lora.safetensors",
        "strength": adapters.STRENGTH,
        "parts": {"file": f"{family}-parts.safetensors", "prompts": outputs.PROMPTS, "lora_prompts": [outputs.PROMPTS[-1]]},
        "images": {"file": f"{family}-images.safetensors", "cases": cases},
    }
    if family != "sd2":
        tensors, cases = emphasis.family_emphasis(family, base)
        save(f"{family}-emphasis.safetensors", tensors)
        out["emphasis"] = {"file": f"{family}-emphasis.safetensors", "cases": cases}
    return out


def parts(family, base, adapted):
    """Everything of (a) to (c); `lora.` in front where the adapter is fused."""
    inputs = outputs.unet_inputs(base, family)
    out = outputs.text_outputs(base, family, outputs.PROMPTS) | inputs
    out |= outputs.unet_outputs(base, family, inputs) | outputs.vae_outputs(base, family)
    with_lora = outputs.text_outputs(adapted, family, outputs.PROMPTS[-1:])
    with_lora |= outputs.unet_outputs(adapted, family, inputs)
    for key, tensor in with_lora.items():
        if not key.endswith(".ids"):
            out[f"lora.{key}"] = tensor
    return out


def save(name, tensors):
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, FOLDER / name)


if __name__ == "__main__":
    main()
