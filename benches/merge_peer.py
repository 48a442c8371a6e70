"""The peers' way of merging a kohya LoRA into a single-file base: sd-scripts' merge, in torch.

    python benches/merge_peer.py BASE.safetensors LORA.safetensors

Re-states the loop of sd-scripts' `networks/merge_lora.py` (48d368fa, `--precision float`,
`--save_precision fp16`): load the whole model, for each module `weight + ratio * (up @ down) * scale`
in f32, save. Loading and saving are part of the time, as they are part of ours.
"""

import sys
import time

import torch
from safetensors.torch import load_file, save_file

base, lora = sys.argv[1:]
start = time.time()
model = {key: value.float() for key, value in load_file(base).items()}
names = {}
for key in model:
    if key.startswith("cond_stage_model.transformer."):
        path = key.removeprefix("cond_stage_model.transformer.").removesuffix(".weight")
        names["lora_te_" + path.replace(".", "_")] = key


def unet_names():
    """Original UNet names by kohya's diffusers names, two layers a block."""
    resnet = {"in_layers.2": "conv1", "out_layers.3": "conv2", "emb_layers.1": "time_emb_proj", "skip_connection": "conv_shortcut"}
    for key in model:
        if not key.startswith("model.diffusion_model."):
            continue
        block, i, rest = (key.removeprefix("model.diffusion_model.").removesuffix(".weight").split(".", 2))
        if block == "middle_block":
            path = f"mid_block.attentions.0.{rest}" if i == "1" else f"mid_block.resnets.{int(i) // 2}.{resnet[rest]}"
        else:
            side, j = ("down_blocks", int(i) - 1) if block == "input_blocks" else ("up_blocks", int(i))
            part, rest = rest.split(".", 1)
            kind = "attentions" if part == "1" else "resnets"
            path = f"{side}.{j // 3}.{kind}.{j % 3}.{rest if part == '1' else resnet[rest]}"
        yield "lora_unet_" + path.replace(".", "_"), key


names.update(unet_names())
adapter = load_file(lora)
for key in [key for key in adapter if key.endswith(".lora_down.weight")]:
    name = key.removesuffix(".lora_down.weight")
    down, up = adapter[key].float(), adapter[f"{name}.lora_up.weight"].float()
    scale = adapter[f"{name}.alpha"].float().item() / down.shape[0]
    weight = model[names[name]]
    if weight.dim() == 2:
        weight += 0.8 * (up @ down) * scale
    elif down.shape[2:] == (1, 1):
        product = up.flatten(1) @ down.flatten(1)
        weight += 0.8 * product[:, :, None, None] * scale
    else:
        conved = torch.nn.functional.conv2d(down.permute(1, 0, 2, 3), up).permute(1, 0, 2, 3)
        weight += 0.8 * conved * scale
save_file({key: value.half().contiguous() for key, value in model.items()}, base + ".peer")
print(f"torch {torch.__version__}, {torch.get_num_threads()} threads: {time.time() - start:.2f} s")
