"""Makes the fixtures of the models that judge pictures, and what their reference implementations compute.

    python tests/parity/make_vision.py

Needs torch 2.15.0 (CPU), torchvision, transformers 5.24.0, torchmetrics 1.9.0, lpips 0.1.4, pillow, safetensors. Nothing
is downloaded and every number comes from a fixed seed. Writes `vision/`:

- `clip/`, `clip-older/`: CLIPModel folders; the second in the manner of older files (f16, shards, `…_config_dict`,
  `eos_token_id` 2), with its preprocessing in `processor_config.json`
- `dino/`, `dino-registers/`: Dinov2Model and Dinov2WithRegistersModel, the second with SwiGLU and uncropped pictures
- `lpips-alex.safetensors`, `lpips-vgg.safetensors`, `lpips-squeeze/`: lpips.LPIPS with narrow convolutions; the last one
  under torchvision's names, its weights of channels in a file of their own
- `preprocess/`: the preprocessing of OpenAI's CLIP; `preprocess-padded/`: one that only crops, beyond the edges too
- `expected.safetensors`, `cases.json`: values, and what they belong to

Pictures are made by a formula (`picture` here and in tests/vision.rs).
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import hashlib
import importlib.metadata
import json
import shutil
import sys
import warnings
from pathlib import Path

sys.dont_write_bytecode = True
warnings.filterwarnings("ignore")

import lpips
import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from torchmetrics.functional.multimodal.clip_score import _clip_score_update
from transformers import (
    CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer, Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)  # fmt: skip
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from diffusion_tokenizer import VOCABULARY, save_tokenizer, write_json

FOLDER = Path(__file__).resolve().parent / "vision"
PACKAGES = ("torch", "torchvision", "transformers", "torchmetrics", "lpips", "pillow", "numpy", "safetensors")

SIZES = [(28, 28), (64, 48), (31, 77), (101, 29), (9, 13), (57, 57)]
OPENAI_SIZES = [(640, 480), (333, 500), (224, 224), (225, 223), (100, 71), (1000, 37)]
LPIPS_SIZES = {"alex": [(64, 64), (31, 45), (90, 71)], "vgg": [(32, 32), (33, 17)], "squeeze": [(32, 32), (17, 40), (63, 50)]}
TEXTS = [
    "a photo of a cat",
    "",
    "A Painting of a HOUSE, on a hill!",
    "a red hat <|endoftext|> a blue circle",
    "watercolor, oil painting, " * 12,
]
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def picture(width, height, seed):
    """(height, width, 3) u8: slopes, a curve and a chequered pattern."""
    y, x, c = np.mgrid[:height, :width, :3]
    value = x * (3 + seed) + y * 5 + c * 67 + x * y // 7 + (x // 5 + y // 3 + seed) % 2 * 90
    return (value % 256).astype(np.uint8)


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    expected = {}
    cases = {
        "command": "python tests/parity/make_vision.py",
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "sizes": SIZES,
        "texts": TEXTS,
        "clip": [clip(expected), clip_older(expected)],
        "dino": [dino(expected), dino_registers(expected)],
        "lpips": {net: distances(net) for net in LPIPS_SIZES},
        "preprocess": [
            preprocess("preprocess", OPENAI_SIZES),
            preprocess("preprocess-padded", SIZES, do_resize=False, do_normalize=False, crop_size={"height": 30, "width": 45}),
        ],
    }
    save_file(expected, FOLDER / "expected.safetensors")
    write_json(FOLDER / "cases.json", cases)


def randomise(model, seed):
    """Weights large enough that every part shows in the result."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                fan_in = parameter.numel() / parameter.shape[0]
                # tables of vectors, and then matrices
                parameter.copy_(noise * (0.5 if "embed" in name or "token" in name else 1.4 * fan_in**-0.5))
            else:
                centre = 1.0 if name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "lambda1")) else 0.0
                parameter.copy_(centre + 0.2 * noise)
    return model.eval()


def clip_model(activation, seed):
    shared = {"num_hidden_layers": 2, "hidden_act": activation}
    text = {
        "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 40, "num_attention_heads": 2,
        "bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1, "pad_token_id": VOCABULARY - 1, **shared,
    }  # fmt: skip
    vision = {
        "hidden_size": 24, "intermediate_size": 56, "num_attention_heads": 3, "image_size": 28, "patch_size": 7, **shared,
    }  # fmt: skip
    return randomise(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)), seed)


def clip(expected):
    folder = FOLDER / "clip"
    save_tokenizer(folder, "<|endoftext|>")
    clip_model("quick_gelu", 1).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=28).save_pretrained(folder)
    return clip_values(expected, folder, CLIPImageProcessorPil.from_pretrained(folder))


def clip_older(expected):
    folder = FOLDER / "clip-older"
    save_tokenizer(folder, "<|endoftext|>")
    clip_model("gelu", 2).half().save_pretrained(folder, max_shard_size="30KB")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for half in ("text", "vision"):
        of_half = config[f"{half}_config"]
        config[f"{half}_config_dict"] = {key: of_half[key] for key in sorted(of_half)}
        of_half |= {"hidden_act": "quick_gelu", "num_attention_heads": 1}
    config["text_config_dict"]["eos_token_id"] = 2
    write_json(path, config)
    processor = CLIPImageProcessorPil(size={"height": 28, "width": 28}, do_center_crop=False, resample=2, **IMAGENET)
    write_json(folder / "processor_config.json", {"image_processor": processor.to_dict(), "processor_class": "CLIPProcessor"})
    return clip_values(expected, folder, CLIPImageProcessorPil.from_pretrained(folder))


class Tensors:
    """The model as torchmetrics 1.9 expects it: transformers 5 returns its features inside an output."""

    def __init__(self, model):
        self.model, self.config = model, model.config

    def to(self, _):
        return self

    def get_image_features(self, pixel_values):
        return self.model.get_image_features(pixel_values).pooler_output

    def get_text_features(self, input_ids, attention_mask):
        return self.model.get_text_features(input_ids, attention_mask).pooler_output


@torch.no_grad()
def clip_values(expected, folder, processor):
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    images = images_of(expected, folder.name, processor, lambda pixels: model.get_image_features(pixels).pooler_output)
    rows = [tokenizer(text, truncation=True, max_length=77, return_tensors="pt") for text in TEXTS]
    texts = torch.cat([model.get_text_features(**row).pooler_output for row in rows])
    expected[f"{folder.name}.texts"] = texts
    spread = torch.nn.functional.normalize(torch.cat([images, texts]))
    assert (spread @ spread.T - torch.eye(len(spread))).max() < 0.99, "features that tell nothing apart"
    pairs, whole = range(len(TEXTS) - 1), (Tensors(model), CLIPProcessor(processor, tokenizer))
    shown = [torch.from_numpy(picture(*SIZES[i], i)).permute(2, 0, 1) for i in pairs]
    scores, _ = _clip_score_update(shown, [TEXTS[i] for i in pairs], *whole)
    alike, _ = _clip_score_update(shown[:-1], shown[1:], *whole)
    return {"folder": folder.name, "scores": scores.tolist(), "image_scores": alike.tolist()}


def images_of(expected, name, processor, features):
    """What the model says of each picture by itself, and what it saw."""
    all_features = []
    for index, size in enumerate(SIZES):
        image = Image.fromarray(picture(*size, index))
        pixels = processor(image, return_tensors="pt")["pixel_values"]
        expected[f"{name}.pixels.{index}"] = pixels[0].clone().contiguous()
        all_features.append(features(pixels))
    expected[f"{name}.images"] = torch.cat(all_features)
    return expected[f"{name}.images"]


def dino(expected):
    config = Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=70, patch_size=7, mlp_ratio=2
    )
    return dino_values(expected, "dino", Dinov2Model(config), {"size": {"shortest_edge": 32}, "crop_size": 28})


def dino_registers(expected):
    config = Dinov2WithRegistersConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=63, patch_size=7, mlp_ratio=2,
        use_swiglu_ffn=True, num_register_tokens=3, qkv_bias=False,
    )  # fmt: skip
    size = {"size": {"shortest_edge": 24}, "do_center_crop": False}
    return dino_values(expected, "dino-registers", Dinov2WithRegistersModel(config), size)


@torch.no_grad()
def dino_values(expected, name, model, size):
    folder = FOLDER / name
    randomise(model, 3).save_pretrained(folder)
    BitImageProcessorPil(**size, **IMAGENET).save_pretrained(folder)
    processor = BitImageProcessorPil.from_pretrained(folder)
    images = images_of(expected, name, processor, lambda pixels: model(pixels).pooler_output)
    spread = torch.nn.functional.normalize(images)
    assert (spread @ spread.T - torch.eye(len(spread))).max() < 0.99, "features that tell nothing apart"
    return name


def narrow(module, by, generator, channels=3):
    """Replaces every convolution by one of fewer channels, whatever lies around it. Returns the channels that come out."""
    for name, child in module.named_children():
        if isinstance(child, torch.nn.Conv2d):
            out = max(child.out_channels // by, 2)
            conv = torch.nn.Conv2d(channels, out, child.kernel_size, child.stride, child.padding)
            fan_in = conv.weight[0].numel()
            conv.weight.data = torch.randn(conv.weight.shape, generator=generator) * (2 / fan_in) ** 0.5
            conv.bias.data = torch.randn(out, generator=generator) * 0.1
            setattr(module, name, conv)
            channels = out
        elif hasattr(child, "expand1x1"):
            squeezed = narrow(torch.nn.ModuleDict({"squeeze": child.squeeze}), by, generator, channels)
            parts = {}
            for part, inputs in (("squeeze", channels), ("expand1x1", squeezed), ("expand3x3", squeezed)):
                holder = torch.nn.ModuleDict({part: getattr(child, part)})
                parts[part] = narrow(holder, by, generator, inputs)
                setattr(child, part, holder[part])
            channels = parts["expand1x1"] + parts["expand3x3"]
        else:
            channels = narrow(child, by, generator, channels)
    return channels


def lpips_model(net):
    generator = torch.Generator().manual_seed(4)
    model = lpips.LPIPS(pretrained=False, pnet_rand=True, net=net, verbose=False)
    narrow(model.net, {"alex": 16, "vgg": 32, "squeeze": 16}[net], generator)
    sample = torch.rand(1, 3, 64, 64, generator=generator)
    for lin, features in zip(model.lins, model.net(sample)):
        # not below 0, as in the package
        lin.model[1].weight = torch.nn.Parameter(torch.rand(1, features.shape[1], 1, 1, generator=generator) * 0.5)
    return model.eval()


@torch.no_grad()
def distances(net):
    model = lpips_model(net)
    if net == "squeeze":
        folder = FOLDER / "lpips-squeeze"
        folder.mkdir()
        state = model.state_dict()
        features = {".".join(["features", *k.split(".")[2:]]): v for k, v in state.items() if k.startswith("net.")}
        save_file(features, folder / "features.safetensors")
        save_file({k: v for k, v in state.items() if k.startswith("lin") and "lins" not in k}, folder / "lin.safetensors")
    else:
        # the tensors of safetensors' `save_model`, which writes a header in no fixed order
        state = {name: value for name, value in model.state_dict().items() if not name.startswith("lins.")}
        save_file(state, FOLDER / f"lpips-{net}.safetensors")
    values = []
    for width, height in LPIPS_SIZES[net]:
        a, b = (lpips.im2tensor(picture(width, height, seed)) for seed in (0, 1))
        values.append({"size": [width, height], "distance": model(a, b).item()})
    return values


def preprocess(name, sizes, **settings):
    """SHA-256 of the f32 values that a preprocessing gives."""
    folder = FOLDER / name
    CLIPImageProcessorPil(**settings).save_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    digests = []
    for index, size in enumerate(sizes):
        pixels = processor(Image.fromarray(picture(*size, index)))["pixel_values"][0]
        assert pixels.dtype == np.float32 and pixels.shape[1:] == (processor.crop_size.height, processor.crop_size.width)
        digests.append({"size": size, "sha256": hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()})
    return {"folder": name, "digests": digests}


if __name__ == "__main__":
    main()
