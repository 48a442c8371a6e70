"""Tiny random models of real architectures, in the layouts that they have on the Hub."""

import hashlib
import json
import shutil
from pathlib import Path

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
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

import ldm_layout

PT = {"format": "pt"}


def rand(name, shape, std):
    """Normal values that depend on `name` only, so adding a fixture changes no other one."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "little")
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed)) * std


@torch.no_grad()
def randomise(model, name):
    """Weights of the size that trained layers have; norms near one, biases small but not zero."""
    for key, parameter in model.named_parameters():
        if parameter.dim() == 1:
            norm = "norm" in key.lower() or ".ln_" in key
            centre = 1.0 if norm and key.endswith("weight") else 0.0
            parameter.copy_(centre + rand(f"{name}/{key}", parameter.shape, 0.1))
        else:
            parameter.copy_(rand(f"{name}/{key}", parameter.shape, parameter[0].numel() ** -0.5))
    return model.eval()


# ---------------------------------------------------------------- language models


def llama_config():
    return LlamaConfig(
        vocab_size=48, hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


def qwen2_config():
    return Qwen2Config(
        vocab_size=48, hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


def gpt2_config():
    return GPT2Config(vocab_size=48, n_positions=64, n_embd=16, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)


LANGUAGE_MODELS = {
    "llama": (LlamaForCausalLM, llama_config),
    "qwen2": (Qwen2ForCausalLM, qwen2_config),
    "gpt2": (GPT2LMHeadModel, gpt2_config),
}


def save_language_models(bases):
    for name, (model_class, config) in LANGUAGE_MODELS.items():
        model = randomise(model_class(config()), name)
        model.generation_config.transformers_version = None
        model.save_pretrained(bases / name)
    llama = LlamaForCausalLM.from_pretrained(bases / "llama", dtype=torch.float32)
    llama.save_pretrained(bases / "llama-sharded", max_shard_size="12KB")
    assert len(list((bases / "llama-sharded").glob("*.safetensors"))) >= 2
    for name, dtype in {"llama-bf16": torch.bfloat16, "llama-f16": torch.float16}.items():
        LlamaForCausalLM.from_pretrained(bases / "llama", dtype=dtype).save_pretrained(bases / name)


def load_language_model(bases, name):
    """A fresh f32 copy of a base, without a trace of where it lies."""
    model = LANGUAGE_MODELS[name][0].from_pretrained(bases / name, dtype=torch.float32).eval()
    model.name_or_path = model.config._name_or_path = f"tiny/{name}"
    return model


# ---------------------------------------------------------------- Stable Diffusion


def clip_config(hidden, layers, projection, act):
    return CLIPTextConfig(
        vocab_size=64, hidden_size=hidden, intermediate_size=2 * hidden + 4, num_hidden_layers=layers,
        num_attention_heads=2, max_position_embeddings=77, projection_dim=projection, hidden_act=act,
        bos_token_id=62, eos_token_id=63, pad_token_id=1,
    )  # fmt: skip


def tiny_vae(scaling):
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 8), layers_per_block=2, norm_num_groups=2, latent_channels=4, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, scaling_factor=scaling,
    )  # fmt: skip


def sd_unet(context, channels, **options):
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=channels, layers_per_block=2, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, cross_attention_dim=context, **options,
    )  # fmt: skip


def sdxl_unet(context, pooled):
    return UNet2DConditionModel(
        sample_size=16, block_out_channels=(8, 8, 12), layers_per_block=2, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=context,
        transformer_layers_per_block=[1, 2, 3], attention_head_dim=[2, 2, 3], use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=pooled + 24,
    )  # fmt: skip


BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


def make_pipeline(family):
    """A pipeline with random weights: SD1 (conv projections), SD2 (linear, OpenCLIP) or SDXL (two encoders)."""
    none = {"tokenizer": None, "feature_extractor": None, "image_encoder": None}
    if family == "sd1":
        pipe = StableDiffusionPipeline(
            unet=sd_unet(12, (8, 8, 12, 12), attention_head_dim=2),
            text_encoder=CLIPTextModel(clip_config(12, 2, 12, "quick_gelu")),
            vae=tiny_vae(0.18215), safety_checker=None, requires_safety_checker=False,
            scheduler=PNDMScheduler(**BETAS, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1), **none,
        )  # fmt: skip
    elif family == "sd2":
        pipe = StableDiffusionPipeline(
            unet=sd_unet(16, (8, 8, 8, 8), attention_head_dim=[2, 2, 4, 4], use_linear_projection=True),
            text_encoder=CLIPTextModel(clip_config(16, 2, 16, "gelu")),
            vae=tiny_vae(0.18215), safety_checker=None, requires_safety_checker=False,
            scheduler=DDIMScheduler(**BETAS, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False,
                                    steps_offset=1), **none,
        )  # fmt: skip
    else:
        pipe = StableDiffusionXLPipeline(
            unet=sdxl_unet(12 + 16, 16), text_encoder=CLIPTextModel(clip_config(12, 2, 12, "quick_gelu")),
            text_encoder_2=CLIPTextModelWithProjection(clip_config(16, 11, 16, "gelu")), vae=tiny_vae(0.13025),
            scheduler=EulerDiscreteScheduler(**BETAS, steps_offset=1), tokenizer_2=None,
            force_zeros_for_empty_prompt=True, add_watermarker=False, **none,
        )  # fmt: skip
    for name in components_of(family):
        randomise(getattr(pipe, name), f"{family}/{name}")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def components_of(family):
    return ["unet", "vae", "text_encoder"] + (["text_encoder_2"] if family == "sdxl" else [])


def canonical(name, state):
    """State dict with `text_model.` in a text encoder's keys, which new versions of transformers leave out."""
    if name != "text_encoder" or any(k.startswith("text_model.") for k in state):
        return dict(state)
    return {"text_model." + k: v for k, v in state.items()}


def pipeline_state(pipe, family):
    return {
        name: {k: v.detach().clone().contiguous() for k, v in canonical(name, getattr(pipe, name).state_dict()).items()}
        for name in components_of(family)
    }


def single_file_extras(family):
    """Tensors that exist in the original layout only."""
    if family == "sd1":
        alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
        return {
            "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
            "alphas_cumprod": alphas.float(),
        }
    if family == "sd2":  # the last block of OpenCLIP, which Hugging Face's SD2 text encoder does not have
        layer = CLIPTextModel(clip_config(16, 1, 16, "gelu"))
        layer = canonical("text_encoder", randomise(layer, "sd2/dropped").state_dict())
        dropped = {k.replace("layers.0.", "layers.2."): v for k, v in layer.items() if ".layers.0." in k}
        extras = ldm_layout.open_clip_to_ldm(dropped, "cond_stage_model.model.")
        extras["cond_stage_model.model.text_projection"] = rand("sd2/projection", (16, 16), 0.25)
        extras["cond_stage_model.model.logit_scale"] = torch.tensor(4.6052)
        return extras
    return {"conditioner.embedders.1.model.logit_scale": torch.tensor(4.6052)}


def to_half(tensors):
    keep = ("alphas_cumprod",)
    return {k: v.half() if v.is_floating_point() and k not in keep else v for k, v in tensors.items()}


def flattened(family):
    """Whether the folder's text encoder is written in the key style of transformers >= 5.6."""
    return family == "sd2"


def save_stable_diffusion(bases, family):
    pipe = make_pipeline(family)
    state = pipeline_state(pipe, family)
    folder = bases / family
    pipe.save_pretrained(folder)
    encoder = state["text_encoder"]
    if flattened(family):
        encoder = {k.removeprefix("text_model."): v for k, v in encoder.items()}
    save_file(encoder, folder / "text_encoder" / "model.safetensors", PT)
    ldm = ldm_layout.to_ldm(family, state, single_file_extras(family))
    ldm = {k: v.contiguous().clone() for k, v in ldm.items()}
    ldm_layout.check_with_diffusers(family, ldm, state, pipe)
    if family == "sd1":
        save_file(ldm, bases / "sd1-f32.safetensors", PT)
    save_file(to_half(ldm), bases / f"{family}.safetensors", PT)


def load_pipeline(bases, family):
    """The f32 pipeline from its folder."""
    pipeline_class = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    absent = {"tokenizer": None, "feature_extractor": None, "image_encoder": None}
    absent |= {"tokenizer_2": None} if family == "sdxl" else {"safety_checker": None, "requires_safety_checker": False}
    pipe = pipeline_class.from_pretrained(bases / family, **absent)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make_bases(bases):
    shutil.rmtree(bases, ignore_errors=True)
    bases.mkdir(parents=True)
    save_language_models(bases)
    for family in ("sd1", "sd2", "sdxl"):
        save_stable_diffusion(bases, family)
    for path in bases.rglob("generation_config.json"):
        path.unlink()
    for path in bases.rglob("*.json"):
        scrub(path)


def scrub(path):
    """No local paths in the fixtures."""
    data = json.loads(path.read_text())
    if isinstance(data, dict) and data.pop("_name_or_path", None) is not None:
        path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n")
