"""Pictures by the models under training, and the folder that is shipped."""
import json
import shutil
from pathlib import Path

import diffusers
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file, save_file

from world import to_pictures

SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0015,  # ends with less of the picture left in the noise than 0.00085 to 0.012
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


class PlainAttention:
    """Attention by two products: several times as fast backwards on a CPU in bf16 as torch's own."""

    def __call__(self, attention, x, encoder_hidden_states=None, **_):
        context = x if encoder_hidden_states is None else encoder_hidden_states
        projected = (attention.to_q(x), attention.to_k(context), attention.to_v(context))
        q, k, v = (y.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for y in projected)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        with torch.autocast("cpu", enabled=False):
            weights = scores.softmax(-1)
        return attention.to_out[0]((weights @ v).transpose(1, 2).flatten(2))


@torch.no_grad()
def sample(unet, vae, context, empty, guidance, seed=0, steps=25):
    """One picture a row of `context` (rows, 77, width); noise by seed and row."""
    scheduler = DDIMScheduler(**SCHEDULER)
    scheduler.set_timesteps(steps)
    rows = len(context)
    x = torch.cat([torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1000 * seed + row)) for row in range(rows)])
    both = torch.cat([empty.expand(rows, -1, -1), context])
    for t in scheduler.timesteps:
        unconditional, conditional = unet(torch.cat([x, x]), t, encoder_hidden_states=both).sample.float().chunk(2)
        x = scheduler.step(unconditional + guidance * (conditional - unconditional), t, x).prev_sample
    return to_pictures(torch.cat([vae.decode(part / vae.config.scaling_factor).sample for part in x.split(32)]))


def write_folder(out, unet, text_encoder, vae, tokenizer):
    """The pipeline's folder in f16; what stood there is replaced at once."""
    out = Path(out)
    fresh, old = out.with_name(out.name + ".new"), out.with_name(out.name + ".old")
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    parts = {"unet": unet, "text_encoder": text_encoder, "vae": vae}
    for name, model in parts.items():
        model.save_pretrained(fresh / name)
        (weights,) = (fresh / name).glob("*.safetensors")
        tensors = {key: value.half().contiguous() for key, value in load_file(weights).items() if not key.endswith("position_ids")}
        save_file(tensors, weights, metadata={"format": "pt"})
        weights.chmod(0o644)
        config = json.loads((fresh / name / "config.json").read_text())
        config.pop("_name_or_path", None)
        if "dtype" in config:
            config["dtype"] = "float16"
        (fresh / name / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    shutil.copytree(tokenizer, fresh / "tokenizer")
    DDIMScheduler(**SCHEDULER).save_pretrained(fresh / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (fresh / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    if out.exists():
        out.rename(old)
    fresh.rename(out)
    shutil.rmtree(old, ignore_errors=True)
