"""Tiny Stable Diffusion pipelines that can draw: tokenizers, f32 folders, and single files in the original layout.

The weights are random, with three measures that make twenty steps at guidance 7.5 as stable as in a trained model:

- the epsilon models (SD1, SDXL) carry their input to the output through the last skip connection, beside the random
  network, so that they remove noise: an epsilon that does not depend on the sample would make latents of size 14;
- `conv_out` is scaled to outputs of about unit size, and the VAE's to pictures of middling contrast;
- every value is one of float16, so the half-precision single file and the folder hold the same numbers.
"""

import shutil

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import ldm_layout
from diffusion_tokenizer import VOCABULARY, save_tokenizer, write_json
from tiny_bases import PT, canonical, components_of, pipeline_state, rand, randomise, scrub

FAMILIES = ("sd1", "sd2", "sdxl")
END = "<|endoftext|>"
PADS = {"sd1": {"tokenizer": END}, "sd2": {"tokenizer": "!"}, "sdxl": {"tokenizer": END, "tokenizer_2": "!"}}
PIPELINES = {"sd1": StableDiffusionPipeline, "sd2": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
EXTRA = {"sd1": {"requires_safety_checker": False}, "sd2": {"requires_safety_checker": False}, "sdxl": {}}

BETAS = {"beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085}
SCHEDULERS = {  # scheduler_config.json of runwayml/stable-diffusion-v1-5, stable-diffusion-2-1, stable-diffusion-xl-base-1.0
    "sd1": {
        "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", **BETAS, "num_train_timesteps": 1000,
        "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None, "clip_sample": False,
    },
    "sd2": {
        "_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0", **BETAS, "clip_sample": False,
        "num_train_timesteps": 1000, "prediction_type": "v_prediction", "set_alpha_to_one": False,
        "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
    },
    "sdxl": {
        "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0.dev0", **BETAS, "clip_sample": False,
        "interpolation_type": "linear", "num_train_timesteps": 1000, "prediction_type": "epsilon", "sample_max_value": 1.0,
        "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "timestep_spacing": "leading",
        "trained_betas": None, "use_karras_sigmas": False,
    },
}  # fmt: skip
DEFAULTS = {"sd1": PNDMScheduler, "sd2": DDIMScheduler, "sdxl": EulerDiscreteScheduler}

# ---------------------------------------------------------------- configurations


def text_config(hidden, layers, act):
    """`eos_token_id` 2 as in the real files, which say so although the token is another: the last id pools."""
    return CLIPTextConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=2 * hidden + 8, num_hidden_layers=layers,
        num_attention_heads=4, max_position_embeddings=77, projection_dim=hidden, hidden_act=act,
        bos_token_id=0, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip


def unet(context, channels, down, up, **options):
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=channels, layers_per_block=2, down_block_types=down, up_block_types=up,
        cross_attention_dim=context, **options,
    )  # fmt: skip


FOUR_LEVELS = {
    "down": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}


def unet_of(family):
    if family == "sd1":
        return unet(24, (8, 8, 16, 16), norm_num_groups=4, attention_head_dim=4, **FOUR_LEVELS)
    if family == "sd2":
        return unet(24, (8, 12, 12, 16), norm_num_groups=4, attention_head_dim=[2, 3, 4, 8],
                    use_linear_projection=True, **FOUR_LEVELS)  # fmt: skip
    return unet(
        24 + 32, (8, 8, 16), ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",), norm_num_groups=4, attention_head_dim=[2, 2, 4],
        transformer_layers_per_block=[1, 1, 2], use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=32 + 6 * 8,
    )  # fmt: skip


def vae_of(family):
    return AutoencoderKL(
        block_out_channels=(4, 8, 8, 12), layers_per_block=2, norm_num_groups=4, latent_channels=4, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.13025 if family == "sdxl" else 0.18215,
    )  # fmt: skip


def make_pipeline(family):
    parts = {"unet": unet_of(family), "vae": vae_of(family)}
    parts["text_encoder"] = CLIPTextModel(text_config(24, 2, "gelu" if family == "sd2" else "quick_gelu"))
    if family == "sdxl":
        parts["text_encoder_2"] = CLIPTextModelWithProjection(text_config(32, 2, "gelu"))
    for name, model in parts.items():
        tune(family, name, randomise(model, f"diffusion/{family}/{name}"))
        for tensor in model.parameters():
            tensor.data = tensor.data.half().float()
    scheduler = DEFAULTS[family].from_config(SCHEDULERS[family])
    absent = {"feature_extractor": None} | ({} if family == "sdxl" else {"safety_checker": None})
    tokenizers = dict.fromkeys(PADS[family])
    return PIPELINES[family](**parts, **tokenizers, **absent, **EXTRA[family], scheduler=scheduler)


# ---------------------------------------------------------------- sizes


@torch.no_grad()
def tune(family, name, model):
    if name == "unet":
        model.conv_out.weight.mul_(UNET_OUT[family])
        model.conv_out.bias.mul_(0.5)
        if family != "sd2":
            carry_input(model)
    elif name == "vae":
        model.decoder.conv_out.weight.mul_(0.55)
    else:  # outputs with a mean that emphasis can divide by
        inner = getattr(model, "text_model", model)
        inner.final_layer_norm.bias.add_(0.1)
        inner.embeddings.position_embedding.weight.add_(0.2)


UNET_OUT = {"sd1": 0.2, "sd2": 1.0, "sdxl": 0.25}
CARRIED = 1.0  # the share of the (normalised) sample in epsilon


def carry_input(model):
    """Adds a path from the sample to the output: x and -x lie in eight channels of conv_in, the last up block's first
    skip brings them to its conv_shortcut, and conv_out takes silu(x) - silu(-x), which is x."""
    last = model.up_blocks[-1].resnets[-1]
    skip = last.conv_shortcut.weight.shape[1] - model.conv_in.weight.shape[0]
    model.conv_in.weight[:8] *= 0.3
    for channel in range(8):
        model.conv_in.weight[channel, channel // 2, 1, 1] += 1.0 if channel % 2 == 0 else -1.0
    last.conv_shortcut.weight[:8] *= 0.3
    last.conv_shortcut.weight[:8, skip : skip + 8, 0, 0] += 1.5 * torch.eye(8)
    for channel in range(8):
        sign = 1.0 if channel % 2 == 0 else -1.0
        model.conv_out.weight[channel // 2, channel, 1, 1] += sign * CARRIED


# ---------------------------------------------------------------- files


def single_file_extras(family):
    """Tensors that real single files have and diffusers folders do not."""
    sigmas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)
    alphas = torch.cumprod(1 - sigmas**2, 0)
    positions = torch.arange(77)[None]
    if family == "sdxl":
        return {
            "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": positions,
            "conditioner.embedders.1.model.logit_scale": torch.tensor(4.6052),
            "denoiser.sigmas": ((1 - alphas) / alphas).sqrt().float(),
        }
    extras = {
        "betas": (sigmas**2).float(),
        "alphas_cumprod": alphas.float(),
        "alphas_cumprod_prev": torch.cat([torch.ones(1, dtype=torch.float64), alphas[:-1]]).float(),
        "sqrt_alphas_cumprod": alphas.sqrt().float(),
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(1000, dtype=torch.int32),
    }
    if family == "sd1":
        return extras | {"cond_stage_model.transformer.text_model.embeddings.position_ids": positions}
    return extras | dropped_block() | {
        "cond_stage_model.model.text_projection": rand("diffusion/sd2/projection", (24, 24), 0.2),
        "cond_stage_model.model.logit_scale": torch.tensor(4.6052),
    }


def dropped_block():
    """The last block of OpenCLIP, which Hugging Face's text encoder of SD2 does not have."""
    layer = randomise(CLIPTextModel(text_config(24, 1, "gelu")), "diffusion/sd2/dropped").state_dict()
    layer = {k.replace("layers.0.", "layers.2."): v for k, v in canonical("text_encoder", layer).items()}
    layer = {k: v for k, v in layer.items() if ".layers.2." in k}
    return ldm_layout.open_clip_to_ldm(layer, "cond_stage_model.model.")


def halved(key, tensor):
    """Weights in float16; the tables of the noise schedule stay as they are, as in real files."""
    weight = key.startswith(("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner."))
    return tensor.half() if weight and tensor.is_floating_point() else tensor


def save_pipeline(folder, family):
    """The diffusers folder `folder/family` and the single file beside it."""
    pipe, root = make_pipeline(family), folder / family
    shutil.rmtree(root, ignore_errors=True)
    pipe.save_pretrained(root)
    for path in root.rglob("*.json"):
        scrub(path)
    state = pipeline_state(pipe, family)
    save_file(state["text_encoder"], root / "text_encoder" / "model.safetensors", PT)
    write_json(root / "scheduler" / "scheduler_config.json", SCHEDULERS[family])
    for name, pad in PADS[family].items():
        save_tokenizer(root / name, pad)
    write_json(root / "model_index.json", model_index(pipe, family))
    ldm = ldm_layout.to_ldm(family, state, single_file_extras(family))
    ldm = {k: halved(k, v).contiguous().clone() for k, v in ldm.items()}
    save_file(ldm, folder / f"{family}.safetensors", PT)
    widened = {k: v.float() if v.dtype == torch.float16 else v for k, v in ldm.items()}
    ldm_layout.check_with_diffusers(family, widened, state, pipe)


def model_index(pipe, family):
    index = {"_class_name": type(pipe).__name__, "_diffusers_version": "0.42.1", **EXTRA[family]}
    index |= {"feature_extractor": [None, None]}
    index |= {"force_zeros_for_empty_prompt": True} if family == "sdxl" else {"safety_checker": [None, None]}
    index |= {"scheduler": ["diffusers", type(pipe.scheduler).__name__]}
    for name in components_of(family):
        model = getattr(pipe, name)
        index[name] = ["diffusers" if name in ("unet", "vae") else "transformers", type(model).__name__]
    return index | {name: ["transformers", "CLIPTokenizer"] for name in PADS[family]}


def load_pipeline(folder, family):
    """The f32 pipeline from its folder, all parts of it."""
    plain = {"add_watermarker": False} if family == "sdxl" else {}
    pipe = PIPELINES[family].from_pretrained(folder / family, **plain)
    pipe.set_progress_bar_config(disable=True)
    return pipe
