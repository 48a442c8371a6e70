"""What each part of a pipeline computes: transformers' text encoders, diffusers' UNet and VAE, in float32."""

import torch

from diffusion_models import PADS
from tiny_bases import rand

PROMPTS = [
    "a photo of a cat",
    "",
    "masterpiece, best quality, 1girl, blue eyes, standing in the rain at night, (a red star:1.2) on a hill — é, 8k",
]
SIZES = [(8, 8), (8, 12), (10, 6)]  # height and width of latents
TIMESTEPS = [981, 37]  # of the two rows
TIME_IDS = [[64.0, 64.0, 0.0, 0.0, 64.0, 64.0], [96.0, 72.0, 8.0, 0.0, 64.0, 96.0]]


def encoders_of(pipe, family):
    """(name of the folder, its tokenizer) for each text encoder."""
    return [(n.replace("tokenizer", "text_encoder"), getattr(pipe, n)) for n in PADS[family]]


def token_ids(tokenizer, prompts):
    return tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


@torch.no_grad()
def text_outputs(pipe, family, prompts):
    """`ids`, `last` (after the final norm), `penultimate` (hidden_states[-2]), `penultimate_normed`, `pooled`."""
    out = {}
    for name, tokenizer in encoders_of(pipe, family):
        encoder = getattr(pipe, name)
        ids = token_ids(tokenizer, prompts)
        got = encoder(ids, output_hidden_states=True)
        inner = getattr(encoder, "text_model", encoder)
        assert torch.equal(inner.final_layer_norm(got.hidden_states[-1]), got.last_hidden_state)
        out |= {
            f"{name}.ids": ids,
            f"{name}.last": got.last_hidden_state,
            f"{name}.penultimate": got.hidden_states[-2],
            f"{name}.penultimate_normed": inner.final_layer_norm(got.hidden_states[-2]),
            f"{name}.pooled": got.text_embeds if "text_embeds" in got else got.pooler_output,
        }
    return out


def unet_inputs(pipe, family):
    """Unit noise at every size, a context of unit size, and SDXL's added conditions."""
    width = pipe.unet.config.cross_attention_dim
    inputs = {f"unet.sample.{h}x{w}": rand(f"sample/{family}/{h}x{w}", (2, 4, h, w), 1.0) for h, w in SIZES}
    inputs["unet.timesteps"] = torch.tensor(TIMESTEPS)
    inputs["unet.context"] = rand(f"context/{family}", (2, 77, width), 1.0)
    if family == "sdxl":
        inputs["unet.text_embeds"] = rand("text_embeds", (2, pipe.text_encoder_2.config.projection_dim), 1.0)
        inputs["unet.time_ids"] = torch.tensor(TIME_IDS)
    return inputs


@torch.no_grad()
def unet_outputs(pipe, family, inputs):
    added = {k: inputs[f"unet.{k}"] for k in ("text_embeds", "time_ids")} if family == "sdxl" else None
    out = {}
    for h, w in SIZES:
        sample, steps = inputs[f"unet.sample.{h}x{w}"], inputs["unet.timesteps"]
        got = pipe.unet(sample, steps, inputs["unet.context"], added_cond_kwargs=added).sample
        out[f"unet.out.{h}x{w}"] = got
    return out


@torch.no_grad()
def vae_outputs(pipe, family):
    """`decode` takes latents as the VAE has them (already divided by the scaling factor); images are in -1..1."""
    latents = rand(f"latents/{family}", (1, 4, 4, 6), 1.0) / pipe.vae.config.scaling_factor
    image = rand(f"image/{family}", (1, 3, 32, 48), 0.5).clamp(-1, 1)
    image = torch.nn.functional.avg_pool2d(image, 3, 1, 1)
    posterior = pipe.vae.encode(image).latent_dist
    return {
        "vae.latents": latents,
        "vae.decoded": pipe.vae.decode(latents).sample,
        "vae.image": image,
        "vae.mean": posterior.mean,
        "vae.logvar": posterior.logvar,
    }
