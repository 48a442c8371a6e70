"""Numbers of parameters of released models, from their configurations alone (no weights are fetched).

    python tests/parity/shapes.py

They stand in `src/advise/memory/mod.rs`, whose counts of parameters and activations walk the same layers.
Made with torch 2.15, diffusers 0.42.1, transformers 5.24.
"""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)


def count(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


with torch.device("meta"):
    print("sd1 unet", count(UNet2DConditionModel(cross_attention_dim=768)))
    sdxl = UNet2DConditionModel(
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    print("sdxl unet", count(sdxl))
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
    )
    print("autoencoder", count(vae))
    small = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
    print("clip-l", count(CLIPTextModel(small)))
    large = CLIPTextConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=20,
        projection_dim=1280,
    )
    print("openclip-g", count(CLIPTextModelWithProjection(large)))
    qwen = Qwen2Config(
        vocab_size=151936,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    print("qwen2.5-1.5b", count(Qwen2ForCausalLM(qwen)))
    llama = LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    print("llama-3.1-8b", count(LlamaForCausalLM(llama)))
