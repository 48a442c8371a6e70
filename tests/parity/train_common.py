"""What the peers' trainings of text and of pictures share: how adapters begin, the optimizer's loop, what is compared."""

import json
import os
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
warnings.filterwarnings("ignore")

import importlib.metadata
from pathlib import Path

import numpy as np
import torch
from peft.tuners.lora import LoraLayer

from train_random import first_a

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "train"
SEED, STEPS, WEIGHT_DECAY = 1337, 20, 0.01
COMPONENTS = ("unet", "text_encoder", "text_encoder_2")


def versions(*packages):
    return {name: importlib.metadata.version(name).split("+")[0] for name in ("torch", "peft", "numpy", *packages)}


def layers_of(models):
    """Every LoRA layer as (component, path, layer), in the order that numbers them: components as in COMPONENTS, then
    the paths' bytes."""
    found = []
    for component, model in models.items():
        for path, module in model.named_modules():
            if isinstance(module, LoraLayer):
                found.append((component, canonical(component, path), module))
    rank = {name: i for i, name in enumerate(COMPONENTS)}
    return sorted(found, key=lambda layer: (rank.get(layer[0], 0), layer[1].encode()))


def canonical(component, path):
    """Without PEFT's prefix; with the part of CLIP's paths that transformers 5.6 left out."""
    path = path.removeprefix("base_model.model.")
    lacks = component.startswith("text_encoder") and not path.startswith("text_model.")
    return f"text_model.{path}" if lacks else path


@torch.no_grad()
def begin(layers, init, dtype):
    """A from the module's own random numbers, B 0; both in `dtype`."""
    for index, (_, _, layer) in enumerate(layers):
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        first = first_a(SEED, index, tuple(a.shape), init, a.shape[0])
        a.data, b.data = torch.from_numpy(first).to(dtype), torch.zeros_like(b, dtype=dtype)


def train(layers, groups, clip, schedule_of, micro_losses):
    """STEPS optimizer steps: AdamW, gradients clipped to norm `clip`. `micro_losses(step)` yields the parts of a step's
    loss, each already divided by the whole step's number of tokens or samples. `untrained` are the losses without any
    step."""
    with torch.no_grad():
        untrained = [sum(part.item() for part in micro_losses(step)) for step in range(STEPS)]
    optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    schedule = schedule_of(optimizer)
    parameters = [p for group in groups for p in group["params"]]
    out = {"untrained": untrained, "losses": [], "rates": [], "grad_norms": []}
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = 0.0
        for part in micro_losses(step):
            part.backward()
            loss += part.item()
        out["losses"].append(loss)
        out["grad_norms"].append(torch.nn.utils.clip_grad_norm_(parameters, clip).item())
        out["rates"].append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return out | {"changes": changes(layers), "norms": norms(layers)}


@torch.no_grad()
def changes(layers):
    """The change that each layer makes to its weight, B·A times its scale, in f64."""
    out = {}
    for component, path, layer in layers:
        out[f"{component}/{path}"] = layer.get_delta_weight("default").double()
    return out


@torch.no_grad()
def norms(layers):
    """[‖A‖, ‖B‖] of each layer."""
    factors = ((f"{c}.{path}", layer.lora_A["default"].weight, layer.lora_B["default"].weight) for c, path, layer in layers)
    return {name: [a.double().norm().item(), b.double().norm().item()] for name, a, b in factors}


def relative(got, want):
    """The largest error as a share of the largest value."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return float(np.abs(got - want).max() / np.abs(want).max())


def rounding(results):
    """How far each run in f32 lies from the one in f64, as shares of the largest value; of changes and norms the worst
    layer's."""
    exact, out = results["exact"], {}
    for name, result in results.items():
        if name == "exact":
            continue
        out[name] = {
            "losses": relative(result["losses"], exact["losses"]),
            "grad_norms": relative(result["grad_norms"], exact["grad_norms"]),
            "changes": max(relative(result["changes"][k], exact["changes"][k]) for k in exact["changes"]),
            "norms": max(relative(result["norms"][k], exact["norms"][k]) for k in exact["norms"]),
        }
    return out


def write_report(path, report):
    """JSON in which a list without objects takes one line."""
    path.write_text(dumped(report, "") + "\n", encoding="utf-8")


def dumped(value, indent):
    if isinstance(value, dict):
        items, ends = [f"{json.dumps(k)}: {dumped(v, indent + ' ')}" for k, v in value.items()], "{}"
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items, ends = [json.dumps(item, ensure_ascii=False) for item in value], "[]"
    else:
        return json.dumps(value, ensure_ascii=False)
    inner = f",\n{indent} ".join(items)
    return f"{ends[0]}\n{indent} {inner}\n{indent}{ends[1]}"
