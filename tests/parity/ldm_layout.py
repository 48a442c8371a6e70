"""Stable Diffusion's original single-file ("LDM") layout, made from diffusers components.

Only names and shapes change, never values, with three exceptions that stack or transpose: OpenCLIP keeps q, k and v in
one `in_proj` tensor, its `text_projection` is the transpose of the Hugging Face one, and the VAE's attention is a 1x1
convolution. `check_with_diffusers` proves the mapping: diffusers' own converter must give back every component.
"""

import torch

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
UNET_TOP = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
PERIOD = 3  # layers_per_block + 1, as in every Stable Diffusion


def unet_module(path, attention_ups):
    """LDM name of the UNet module `path`. `attention_ups`: which up blocks have attentions."""
    if path in UNET_TOP:
        return UNET_TOP[path]
    side, *rest = path.split(".")
    if side == "mid_block":
        kind, index, *inner = rest
        place = {"resnets.0": 0, "attentions.0": 1, "resnets.1": 2}[f"{kind}.{index}"]
        return f"middle_block.{place}." + unet_inner(kind, inner)
    block, kind, layer, *inner = rest
    block, layer = int(block), int(layer)
    if side == "down_blocks":
        if kind == "downsamplers":
            return f"input_blocks.{PERIOD * (block + 1)}.0.op"
        slot = 0 if kind == "resnets" else 1
        return f"input_blocks.{1 + PERIOD * block + layer}.{slot}." + unet_inner(kind, inner)
    if kind == "upsamplers":
        slot = 2 if block in attention_ups else 1
        return f"output_blocks.{PERIOD * block + 2}.{slot}.conv"
    slot = 0 if kind == "resnets" else 1
    return f"output_blocks.{PERIOD * block + layer}.{slot}." + unet_inner(kind, inner)


def unet_inner(kind, inner):
    return RESNET[inner[0]] if kind == "resnets" else ".".join(inner)


def attention_ups(unet_state):
    return {int(k.split(".")[1]) for k in unet_state if k.startswith("up_blocks.") and ".attentions." in k}


def unet_to_ldm(state):
    ups = attention_ups(state)
    out = {}
    for key, tensor in state.items():
        module, leaf = key.rsplit(".", 1)
        out[f"model.diffusion_model.{unet_module(module, ups)}.{leaf}"] = tensor
    return out


def vae_key(key, levels):
    """LDM name of the VAE tensor `key`; `levels` is the number of resolution levels."""
    parts = key.split(".")
    if parts[0] in ("quant_conv", "post_quant_conv"):
        return key
    half, name, *rest = parts
    if name in ("conv_in", "conv_out"):
        return key
    if name == "conv_norm_out":
        return ".".join([half, "norm_out", *rest])
    if name == "mid_block":
        kind, index, *inner = rest
        if kind == "resnets":
            return ".".join([half, "mid", f"block_{int(index) + 1}", *vae_inner(inner)])
        leaf = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}[inner[0]]
        return ".".join([half, "mid.attn_1", leaf, inner[-1]])
    block, kind, index, *inner = rest
    level = int(block) if name == "down_blocks" else levels - 1 - int(block)
    side = "down" if name == "down_blocks" else "up"
    if kind == "resnets":
        return ".".join([half, side, str(level), "block", index, *vae_inner(inner)])
    return ".".join([half, side, str(level), "downsample" if side == "down" else "upsample", *inner])


def vae_inner(inner):
    return ["nin_shortcut" if part == "conv_shortcut" else part for part in inner]


def vae_to_ldm(state):
    levels = 1 + max(int(k.split(".")[2]) for k in state if k.startswith("decoder.up_blocks."))
    out = {}
    for key, tensor in state.items():
        new = "first_stage_model." + vae_key(key, levels)
        if ".attn_1." in new and tensor.dim() == 2:
            tensor = tensor[:, :, None, None]
        out[new] = tensor
    return out


def clip_to_ldm(state, prefix):
    """Text encoder of SD1 and first one of SDXL: only a prefix."""
    return {prefix + key: tensor for key, tensor in state.items()}


def open_clip_to_ldm(state, prefix):
    """Text encoder of SD2 and second one of SDXL: OpenCLIP's names, q/k/v stacked, projection transposed."""
    names = {
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.final_layer_norm.weight": "ln_final.weight",
        "text_model.final_layer_norm.bias": "ln_final.bias",
    }
    inner = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    out = {}
    for key, tensor in state.items():
        if key == "text_projection.weight":
            out[prefix + "text_projection"] = tensor.T.contiguous()
        elif key in names:
            out[prefix + names[key]] = tensor
        else:
            _, _, _, layer, *rest = key.split(".")
            module, leaf = ".".join(rest[:-1]), rest[-1]
            block = f"{prefix}transformer.resblocks.{layer}."
            if module in inner:
                out[f"{block}{inner[module]}.{leaf}"] = tensor
            elif module == "self_attn.q_proj":
                stem = key[: -len(f"q_proj.{leaf}")]
                stacked = [state[f"{stem}{name}.{leaf}"] for name in ("q_proj", "k_proj", "v_proj")]
                out[f"{block}attn.in_proj_{leaf}"] = torch.cat(stacked)
    return out


def to_ldm(family, components, extras):
    """The whole single-file checkpoint. `extras` are tensors that only this layout has; they never change."""
    out = {**unet_to_ldm(components["unet"]), **vae_to_ldm(components["vae"])}
    if family == "sd1":
        out |= clip_to_ldm(components["text_encoder"], "cond_stage_model.transformer.")
    elif family == "sd2":
        out |= open_clip_to_ldm(components["text_encoder"], "cond_stage_model.model.")
    else:
        out |= clip_to_ldm(components["text_encoder"], "conditioner.embedders.0.transformer.")
        out |= open_clip_to_ldm(components["text_encoder_2"], "conditioner.embedders.1.model.")
    return out | extras


def check_with_diffusers(family, ldm, components, pipe):
    """diffusers' converter, applied to the single file, must give back the diffusers weights exactly."""
    from diffusers.loaders import single_file_utils as peer

    got = {
        "unet": peer.convert_ldm_unet_checkpoint(dict(ldm), pipe.unet.config),
        "vae": peer.convert_ldm_vae_checkpoint(dict(ldm), pipe.vae.config),
    }
    if family == "sd1":
        got["text_encoder"] = peer.convert_ldm_clip_checkpoint(dict(ldm))
    elif family == "sd2":
        got["text_encoder"] = peer.convert_open_clip_checkpoint(pipe.text_encoder, dict(ldm))
    else:
        got["text_encoder"] = peer.convert_ldm_clip_checkpoint(dict(ldm))
        got["text_encoder_2"] = peer.convert_open_clip_checkpoint(
            pipe.text_encoder_2, dict(ldm), prefix="conditioner.embedders.1.model."
        )
    for name, state in components.items():
        missing = [k for k in state if k not in got[name]]
        assert not missing, f"{family} {name}: diffusers' converter did not give back {missing[:5]}"
        for key, tensor in state.items():
            assert torch.equal(got[name][key], tensor), f"{family} {name}: {key} differs"
