"""Make the parity fixtures: tiny bases, adapters of every format, and the merged weights that the peers compute.

    python tests/parity/make_fixtures.py

Needs torch (CPU), peft 0.21.2, diffusers 0.42.1, transformers 5.24.0, lycoris-lora 4.1.3, accelerate, safetensors, numpy.
Everything is random with fixed seeds and nothing is downloaded. The files it writes (`bases/`, `adapters/`, `expected/`,
`manifest.json`) are described in README.md; the versions that made them are in the manifest.

Each peer's float32 result is checked here against the formulas in float64 (formulas.py) before it is stored.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import importlib.metadata
import json
import logging
import re
import shutil
import sys
import warnings
from pathlib import Path

sys.dont_write_bytecode = True
warnings.filterwarnings("ignore")

import diffusers
import torch
import transformers
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import load_file, save_file

import formulas
import ldm_layout
import peers
import peft_adapters
import sd_adapters as sd
from tiny_bases import (
    PT,
    components_of,
    flattened,
    load_language_model,
    load_pipeline,
    make_bases,
    pipeline_state,
    rand,
    single_file_extras,
    to_half,
)

HERE = Path(__file__).resolve().parent
BASES, ADAPTERS, EXPECTED = HERE / "bases", HERE / "adapters", HERE / "expected"
AGREEMENT = 2e-6  # of a tensor's largest value: how far a peer's float32 may be from the formulas' float64

CASES = []


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    make_bases(BASES)
    for folder in (ADAPTERS, EXPECTED):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    language_model_cases()
    for family in ("sd1", "sd2", "sdxl"):
        StableDiffusion(family).run()
    for path in ADAPTERS.rglob("*.safetensors"):
        sort_metadata(path)
    write_manifest()


def sort_metadata(path):
    """safetensors writes metadata in a random order; the same fixtures must come out byte for byte."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


def write_manifest():
    names = ["torch", "peft", "diffusers", "transformers", "lycoris-lora", "safetensors", "numpy"]
    versions = {"python": sys.version.split()[0]} | {n: importlib.metadata.version(n) for n in names}
    text = json.dumps({"versions": versions, "cases": CASES}, indent=1, ensure_ascii=False)
    (HERE / "manifest.json").write_text(text + "\n")
    size = sum(p.stat().st_size for p in HERE.rglob("*") if p.is_file())
    print(f"{len(CASES)} cases, {size / 1e6:.1f} MB")


def add_case(name, base, adapters, tensors, dtype, peer, tolerance=None):
    """Store one expectation. `adapters`: (path below adapters/, strength or {"te", "unet"})."""
    assert tensors, f"{name}: nothing changes"
    assert name not in {case["name"] for case in CASES}, name
    stored = torch.float32 if dtype == "f32" else torch.float64
    tensors = {k: v.to(stored).contiguous().clone() for k, v in tensors.items()}
    assert all(torch.isfinite(v).all() for v in tensors.values()), name
    save_file(tensors, EXPECTED / f"{name}.safetensors")
    case = {
        "name": name,
        "base": f"bases/{base}",
        "adapters": [{"path": f"adapters/{path}", "strength": strength} for path, strength in adapters],
        "expected": f"expected/{name}.safetensors",
        "dtype": dtype,
        "peer": peer,
    }
    if tolerance is not None:
        case["tolerance"] = tolerance
    CASES.append(case)


def check_agreement(name, peer, exact):
    """The peer's tensors must be the formulas' to float32 precision."""
    assert set(peer) == set(exact), f"{name}: different tensors change: {sorted(set(peer) ^ set(exact))[:6]}"
    worst = max(peer, key=lambda k: formulas.relative_error(peer[k], exact[k]))
    error = formulas.relative_error(peer[worst], exact[worst])
    assert error < AGREEMENT, f"{name}: {worst} is {error:.1e} from the formulas"


# ---------------------------------------------------------------- language models


def language_model_cases():
    peft_adapters.save_adapters(BASES, ADAPTERS)
    for name, (base, _) in peft_adapters.configs().items():
        if name in ("qwen2-peft-lm-head", "qwen2-peft-embedding"):
            tied_case(name, base)
        else:
            peft_case(name, base, [(name, 1.0)], "PEFT merge_and_unload")
    for strength in (0.5, 1.5, -0.7):
        peft_case(f"llama-peft-at-{strength}", "llama", [("llama-peft", strength)], "PEFT set_scale, merge_and_unload")
    scaled = "PEFT set_scale, merge_and_unload"
    peft_case("llama-peft-rslora-at-0.5", "llama", [("llama-peft-rslora", 0.5)], scaled)
    peft_case("llama-peft-patterns-at--0.7", "llama", [("llama-peft-patterns", -0.7)], scaled)
    peft_case("llama-peft-embedding-at-1.5", "llama", [("llama-peft-embedding", 1.5)], scaled)
    peft_case("gpt2-peft-at-0.5", "gpt2", [("gpt2-peft", 0.5)], scaled)
    peft_case("qwen2-peft-lora-bias-at-0.5", "qwen2", [("qwen2-peft-lora-bias", 0.5)], scaled)
    three = [("llama-peft", 0.8), ("llama-peft-second", -0.5), ("llama-peft-rslora", 0.3)]
    peft_case("llama-peft-three", "llama", three, "PEFT: three active adapters with set_scale, merge_and_unload")
    unstripped_adapter()
    peft_case("llama-sharded-peft", "llama", [("llama-peft", 1.0)], "PEFT merge_and_unload", folder="llama-sharded")
    for strength in (0.5, -1.0):
        dora_case(f"llama-peft-dora-at-{strength}", "llama", "llama-peft-dora", strength)
    dora_case("gpt2-peft-dora-at-0.5", "gpt2", "gpt2-peft-dora", 0.5)
    exact_case("llama-peft-dora-and-lora", "llama", "f32", [("llama-peft-dora", 0.6), ("llama-peft", -0.4)])
    replaced = "; replaced tensors go W + s (new - W), PEFT itself has no strength for them"
    exact_case("llama-peft-modules-to-save-at-0.5", "llama", "f32", [("llama-peft-modules-to-save", 0.5)], replaced)
    for dtype in ("bf16", "f16"):
        base = f"llama-{dtype}"
        exact_case(f"{base}-peft", base, dtype, [("llama-peft", 1.0)])
        exact_case(f"{base}-peft-three", base, dtype, three)
        exact_case(f"{base}-peft-dora-at-0.5", base, dtype, [("llama-peft-dora", 0.5)])


def unstripped_adapter():
    """The keys of a plain `state_dict()`: the adapter's name is still in them. PEFT's values are the stripped file's."""
    source, name = "llama-peft-second", "llama-peft-unstripped"
    shutil.copytree(ADAPTERS / source, ADAPTERS / name)
    tensors = load_file(ADAPTERS / source / "adapter_model.safetensors")
    tensors = {k.replace(".weight", ".default.weight"): v for k, v in tensors.items()}
    save_file(tensors, ADAPTERS / name / "adapter_model.safetensors", PT)
    merged = peft_adapters.peft_merged(BASES, "llama", located([(source, 1.0)]))
    changes = formulas.changed(merged, base_state("llama"))
    add_case(name, "llama", [(name, 1.0)], changes, "f32", f"PEFT merge_and_unload of {source}, which holds the same values")


def base_state(folder):
    return load_file(BASES / folder / "model.safetensors")


def located(adapters):
    return [(ADAPTERS / name, strength) for name, strength in adapters]


def peft_case(name, base, adapters, how, folder=None):
    """PEFT's own float32 merge."""
    state = base_state(base)
    merged = formulas.changed(peft_adapters.peft_merged(BASES, base, located(adapters)), state)
    exact = formulas.changed(peft_adapters.exact_merged(state, located(adapters)), state)
    check_agreement(name, merged, exact)
    add_case(name, folder or base, adapters, merged, "f32", how)


def dora_case(name, base, adapter, strength):
    """W + s (W_dora - W) with PEFT's W_dora; PEFT has no strength of its own outside the norm."""
    state = base_state(base)
    full = formulas.changed(peft_adapters.peft_merged(BASES, base, located([(adapter, 1.0)])), state)
    merged = {k: (formulas.f64(state[k]) + strength * (formulas.f64(v) - formulas.f64(state[k]))).float() for k, v in full.items()}
    exact = formulas.changed(peft_adapters.exact_merged(state, located([(adapter, strength)])), state)
    check_agreement(name, merged, exact)
    add_case(name, base, [(adapter, strength)], merged, "f32", "W + s (W_dora - W), W_dora by PEFT merge_and_unload")


def exact_case(name, base, dtype, adapters, note=""):
    """Formulas in float64, for bases of half precision and for what the peers cannot do."""
    state = base_state(base)
    exact = formulas.changed(peft_adapters.exact_merged(state, located(adapters)), state)
    add_case(name, base, adapters, exact, dtype, "formulas in float64" + note)


def tied_case(name, base):
    """LoRA on one of two tied weights: what the unmerged PEFT model computes, with the two weights apart."""
    state = base_state(base)
    exact = peft_adapters.exact_merged(state, located([(name, 1.0)]))
    changes = formulas.changed({k: v.float() for k, v in exact.items()}, state)
    model = load_language_model(BASES, base)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(exact["lm_head.weight"].float())
    model.load_state_dict(changes, strict=False)
    ids = torch.arange(12)[None] * 3
    with torch.no_grad():
        ours = model(input_ids=ids).logits
        theirs = peft_adapters.attached(BASES, base, located([(name, 1.0)]))(input_ids=ids).logits
    assert formulas.relative_error(ours, theirs) < 1e-5, name
    how = "the unmerged PEFT model (same logits); lm_head and embedding are no longer tied, so lm_head.weight is new"
    add_case(name, base, [(name, 1.0)], changes, "f32", how)


# ---------------------------------------------------------------- Stable Diffusion


class StableDiffusion:
    """The adapters and cases of one family."""

    def __init__(self, family):
        self.family = family
        self.pipe = load_pipeline(BASES, family)
        self.state = pipeline_state(self.pipe, family)
        self.ups = ldm_layout.attention_ups(self.state["unet"])
        self.texts = [c for c in components_of(family) if c.startswith("text_encoder")]
        self.adapters = {}

    def run(self):
        {"sd1": self.sd1, "sd2": self.sd2, "sdxl": self.sdxl}[self.family]()

    # ---- bases

    def components(self, base):
        """The base's weights by component, as its file holds them (half precision rounds)."""
        if self.is_half(base):
            return {n: {k: v.half() for k, v in s.items()} for n, s in self.state.items()}
        return self.state

    def is_half(self, base):
        return base == f"{self.family}.safetensors"

    def file_tensors(self, base, components):
        """Components under the keys of the base's own files."""
        if base.endswith(".safetensors"):
            extras = single_file_extras(self.family)
            if self.is_half(base):
                extras = to_half(extras)
            return ldm_layout.to_ldm(self.family, components, extras)
        out = {}
        for name, state in components.items():
            strip = name == "text_encoder" and flattened(self.family)
            out |= {f"{name}/{k.removeprefix('text_model.') if strip else k}": v for k, v in state.items()}
        return out

    # ---- cases

    def keep(self, name, modules, path=None):
        """Remember the values of an adapter file, so that cases can name it."""
        self.adapters[path or f"{name}.safetensors"] = modules
        return ADAPTERS / f"{name}.safetensors"

    def exact(self, base, adapters):
        components = self.components(base)
        merged = formulas.merge(components, [(self.adapters[p], self.strengths(s)) for p, s in adapters])
        return formulas.changed(self.file_tensors(base, merged), self.file_tensors(base, components))

    def strengths(self, strength):
        if isinstance(strength, dict):
            return {"unet": strength["unet"]} | {t: strength["te"] for t in self.texts}
        return {c: strength for c in ["unet", *self.texts]}

    def exact_case(self, name, base, adapters, note=""):
        tensors = self.exact(base, adapters)
        dtype = "f16" if self.is_half(base) else "f32"
        add_case(name, base, adapters, tensors, dtype, "formulas in float64" + note)

    def peer_case(self, name, bases, adapters, peer, how):
        """`peer`: merged float32 components. One case for each of the float32 `bases`."""
        for base in bases:
            got = formulas.changed(self.file_tensors(base, peer), self.file_tensors(base, self.state))
            full = name if base == self.family else f"{name}-{'file' if base.endswith('.safetensors') else base}"
            check_agreement(full, got, self.exact(base, adapters))
            add_case(full, base, adapters, got, "f32", how)

    def diffusers_case(self, name, adapters, bases=None, how="diffusers load_lora_weights, fuse_lora"):
        located = [(ADAPTERS / p, self.diffusers_strength(s)) for p, s in adapters]
        peer = peers.diffusers_fused(BASES, self.family, located)
        self.peer_case(name, bases or [self.family], adapters, peer, how)

    def diffusers_strength(self, strength):
        if not isinstance(strength, dict):
            return strength
        return self.strengths(strength)

    def kohya(self, name, modules, metadata=None, **dialect):
        """Write a kohya file and its case at strength 1 on the folder, by diffusers."""
        sd.save_kohya(sd.kohya(modules, self.family, **dialect), self.keep(name, modules), metadata)

    # ---- modules

    def attention(self, component, only=""):
        return [p for p in sd.attention_modules(self.state[component], component) if only in p]

    def everything(self):
        return {c: self.attention(c) for c in ["unet", *self.texts]}

    def lora(self, name, targets, **options):
        return sd.lora(name, self.state, targets, **options)

    # ---- SD1

    def sd1(self):
        self.sd1_kohya()
        self.sd1_kohya_cases()
        self.sd1_diffusers()
        self.sd1_lycoris()
        self.sd1_mixed()

    def sd1_kohya(self):
        modules = self.lora("sd1-kohya", self.everything(), rank=4, alpha=2.0, dtype=torch.float16)
        self.kohya("sd1-kohya", modules, sd.training_metadata("sd1-kohya", 4, 2.0))
        part = {"unet": self.attention("unet", "down_blocks.1"), "text_encoder": self.attention("text_encoder", "fc")}
        self.kohya("sd1-kohya-no-alpha", self.lora("sd1-kohya-no-alpha", part, rank=3, alpha=None))
        ranks = {"rank": lambda i: 2 + i % 3, "alpha": lambda i: 1.0 + 0.5 * (i % 4)}
        part = {"unet": self.attention("unet", "mid_block"), "text_encoder": self.attention("text_encoder", "layers.1")}
        self.kohya("sd1-kohya-ranks", self.lora("sd1-kohya-ranks", part, **ranks))
        part = {"text_encoder": self.attention("text_encoder", "_proj")}
        self.kohya("sd1-kohya-te1", self.lora("sd1-kohya-te1", part, rank=2), text_prefix="lora_te1_")
        part = {"unet": self.attention("unet", "proj_")}
        modules = self.lora("sd1-kohya-projections-2d", part, rank=2, alpha=3.0)
        self.kohya("sd1-kohya-projections-2d", sd.flat_projections(modules))
        self.kohya("sd1-kohya-projections-4d", modules)
        convs = [p for p in sd.conv_modules(self.state["unet"]) if p.startswith(("down_blocks.1", "down_blocks.3", "up_blocks.1"))]
        self.kohya("sd1-locon", self.lora("sd1-locon", {"unet": convs + self.attention("unet", "mid_block")}, rank=3))
        convs = [p for p in sd.conv_modules(self.state["unet"]) if p.startswith(("mid_block", "down_blocks.0", "up_blocks.3"))]
        self.kohya("sd1-locon-tucker", self.lora("sd1-locon-tucker", {"unet": convs}, rank=3, tucker=True))

    def sd1_kohya_cases(self):
        both, one = ["sd1", "sd1-f32.safetensors"], ["sd1"]
        self.diffusers_case("sd1-kohya", [("sd1-kohya.safetensors", 1.0)], both)
        for strength in (0.5, 1.5, -0.7):
            how = f"diffusers load_lora_weights, fuse_lora(lora_scale={strength})"
            self.diffusers_case(f"sd1-kohya-no-alpha-at-{strength}", [("sd1-kohya-no-alpha.safetensors", strength)], one, how)
        for name in ("no-alpha", "te1", "projections-4d"):
            self.diffusers_case(f"sd1-kohya-{name}", [(f"sd1-kohya-{name}.safetensors", 1.0)], one)
        self.reading_case("sd1-kohya-ranks", both)
        self.diffusers_case("sd1-locon", [("sd1-locon.safetensors", 1.0)], both)
        self.reading_case("sd1-locon-tucker", one)
        same = "; same values as sd1-kohya-projections-4d"
        self.exact_case("sd1-kohya-projections-2d", "sd1", [("sd1-kohya-projections-2d.safetensors", 1.0)], same)
        active = "diffusers load_lora_weights, set_adapters, fuse_lora"
        split = {"te": 0.3, "unet": 1.2}
        part = "sd1-kohya-no-alpha.safetensors"
        self.diffusers_case("sd1-kohya-te-unet", [(part, split)], both, active)
        several = [(part, 0.8), ("sd1-kohya-projections-4d.safetensors", -0.6), ("sd1-locon.safetensors", 0.4)]
        self.diffusers_case("sd1-kohya-three", several, one, active)
        half = "sd1.safetensors"
        several[2] = ("sd1-kohya-ranks.safetensors", 0.4)
        self.exact_case("sd1-f16-kohya", half, [("sd1-kohya.safetensors", 1.0)])
        self.exact_case("sd1-f16-kohya-three", half, several)
        self.exact_case("sd1-f16-kohya-te-unet", half, [(part, split)])
        self.exact_case("sd1-f16-locon-tucker-at--0.7", half, [("sd1-locon-tucker.safetensors", -0.7)])

    def reading_case(self, name, bases):
        """LyCORIS reads and merges the file; for what diffusers does not read, or reads wrongly."""
        file = f"{name}.safetensors"
        peer = peers.lycoris_read(self.pipe, self.state, self.adapters[file])
        self.peer_case(name, bases, [(file, 1.0)], peer, "LyCORIS reads the file, weights of its forward pass")

    # ---- SD1, diffusers' own formats

    def sd1_diffusers(self):
        part = {"unet": self.attention("unet", "up_blocks.2"), "text_encoder": self.attention("text_encoder", "layers.0")}
        plain = self.lora("sd1-diffusers", part, rank=3, alpha=None)
        self.save_lora_weights("sd1-diffusers", plain)
        self.diffusers_case("sd1-diffusers", [("sd1-diffusers.safetensors", 1.0)])
        self.diffusers_case("sd1-diffusers-te-unet", [("sd1-diffusers.safetensors", {"te": 1.5, "unet": -0.5})],
                            how="diffusers load_lora_weights, set_adapters, fuse_lora")  # fmt: skip
        config = {"r": 3, "lora_alpha": 5, "rank_pattern": {"proj_in": 2}, "alpha_pattern": {"proj_in": 7, "to_q": 1}}
        configured = self.lora("sd1-diffusers-metadata", part, rank=3, alpha=5.0)
        for (component, path), parts in configured.items():
            if path.endswith("proj_in"):
                weight = self.state["unet"][f"{path}.weight"]
                configured[component, path] = sd.lora_parts(f"sd1-diffusers-metadata/{path}", weight, 2, 7.0)
            elif path.endswith("to_q"):
                parts["alpha"] = torch.tensor(1.0)
        self.save_lora_weights("sd1-diffusers-metadata", configured, config)
        self.diffusers_case("sd1-diffusers-metadata", [("sd1-diffusers-metadata.safetensors", 1.0)])
        flat = self.lora("sd1-diffusers-flat-text", {"text_encoder": part["text_encoder"]}, rank=2, alpha=None)
        self.save_lora_weights("sd1-diffusers-flat-text", flat, text_model=False)
        self.diffusers_case("sd1-diffusers-flat-text", [("sd1-diffusers-flat-text.safetensors", 1.0)])
        self.sd1_old_diffusers()
        self.sd1_diffusers_dora()

    def sd1_old_diffusers(self):
        attention = [p for p in self.attention("unet", "down_blocks.2") if ".to_" in p]
        text = self.attention("text_encoder", "layers.1.self_attn")
        modules = self.lora("sd1-processor", {"unet": attention, "text_encoder": text}, rank=2, alpha=None)
        sd.save_plain(sd.processor(modules), self.keep("sd1-processor", modules))
        modules = self.lora("sd1-processor-no-prefix", {"unet": attention}, rank=2, alpha=None)
        sd.save_plain(sd.processor(modules, prefix=False), self.keep("sd1-processor-no-prefix", modules))
        both = {"unet": self.attention("unet", "up_blocks.3"), "text_encoder": self.attention("text_encoder", "layers.0")}
        modules = self.lora("sd1-intermediate", both, rank=2, alpha=None)
        sd.save_plain(sd.intermediate(modules), self.keep("sd1-intermediate", modules))
        for name in ("sd1-processor", "sd1-intermediate"):
            self.diffusers_case(name, [(f"{name}.safetensors", 1.0)])
        self.exact_case("sd1-processor-no-prefix", "sd1", [("sd1-processor-no-prefix.safetensors", 1.0)])

    def sd1_diffusers_dora(self):
        """DoRA by PEFT in diffusers: `inject_adapter_in_model`, `get_peft_model_state_dict`, `save_lora_weights`."""
        pipe = load_pipeline(BASES, self.family)
        targets = {"unet": r"mid_block.*(to_k|proj_in|conv1|ff\.net\.2)", "text_encoder": r".*layers\.1.*(q_proj|fc1)"}
        layers, modules = {}, {}
        for component, pattern in targets.items():
            model = getattr(pipe, component)
            inject_adapter_in_model(LoraConfig(r=2, lora_alpha=2, target_modules=pattern, use_dora=True), model)
            peft_adapters.fill(model, f"sd1-diffusers-dora/{component}")
            layers[component] = get_peft_model_state_dict(model)
            for key, tensor in layers[component].items():
                path, part = re.fullmatch(r"(.*)\.(lora_[^.]*)(\.weight)?", key).group(1, 2)
                part = {"lora_A": "lora_down.weight", "lora_B": "lora_up.weight"}.get(part, part)
                path = f"text_model.{path}" if component == "text_encoder" else path
                modules.setdefault((component, path), {})[part] = tensor.detach().clone()
        path = self.keep("sd1-diffusers-dora", modules)
        pipe.save_lora_weights(path.parent, layers["unet"], layers["text_encoder"], weight_name=path.name)
        # Not by load_lora_weights: transformers' loader drops the text encoder's magnitudes (PEFT reads them).
        peer = peers.peft_layers_merged(pipe, self.family)
        self.peer_case("sd1-diffusers-dora", ["sd1"], [(path.name, 1.0)], peer, "PEFT: merge of the layers in the pipeline")
        for strength in (0.5, -1.0):
            self.exact_case(f"sd1-diffusers-dora-at-{strength}", "sd1", [(path.name, strength)], ": W + s (W_dora - W)")

    def save_lora_weights(self, name, modules, config=None, text_model=True):
        """The pipeline's own writer; `config` (LoraConfig fields) becomes its metadata."""
        path = self.keep(name, modules)
        options = {}
        for component in ["unet", *self.texts]:
            layers = sd.peft_layers(modules, component, text_model)
            if layers:
                options[f"{component}_lora_layers"] = {k: v.contiguous() for k, v in layers.items()}
                if config:
                    targets = sorted({p.removeprefix("text_model.") for c, p in modules if c == component})
                    full = LoraConfig(**config, target_modules=targets).to_dict()
                    full["target_modules"] = targets
                    options[f"{component}_lora_adapter_metadata"] = full
        type(self.pipe).save_lora_weights(path.parent, weight_name=path.name, **options)

    # ---- SD1, LyCORIS

    def sd1_lycoris(self):
        """Each algorithm on a few layers that differ in shape; LyCORIS makes the tensors and the merged weights."""
        linear = ["down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
                  "down_blocks.2.attentions.0.transformer_blocks.0.ff.net.0.proj"]  # fmt: skip
        conv = ["down_blocks.2.resnets.0.conv1", "up_blocks.2.upsamplers.0.conv"]
        square = ["mid_block.attentions.0.transformer_blocks.0.attn1.to_q"]
        point = ["down_blocks.1.attentions.1.proj_in", "up_blocks.1.resnets.0.conv_shortcut"]
        norms = ["mid_block.attentions.0.transformer_blocks.0.norm2", "down_blocks.1.resnets.0.norm1"]
        text = ["text_model.encoder.layers.0.mlp.fc1", "text_model.encoder.layers.1.self_attn.v_proj"]
        everything = linear + point + conv + text
        out, old = {"weight_decompose": True}, {"weight_decompose": True, "wd_on_out": False}
        for name, kind, paths, options in [
            ("loha", "loha", linear + point + conv + text, {"dim": 2, "alpha": 1.0}),
            ("loha-tucker", "loha", conv, {"dim": 3, "alpha": 2.0, "use_tucker": True}),
            ("lokr-full", "lokr", linear + conv + text, {"full_matrix": True, "factor": 2}),
            ("lokr-w2", "lokr", linear + conv + text, {"dim": 2, "alpha": 1.0, "factor": 2}),
            ("lokr-w1-w2", "lokr", linear[1:], {"dim": 2, "alpha": 3.0, "factor": 8, "decompose_both": True}),
            ("lokr-w1", "lokr", linear[1:], {"dim": 4, "alpha": 3.0, "factor": 8, "decompose_both": True,
                                             "unbalanced_factorization": True}),
            ("lokr-tucker", "lokr", conv[:1], {"dim": 2, "alpha": 1.0, "factor": 2, "use_tucker": True}),
            ("dora", "locon", everything + square, {"dim": 2, "alpha": 1.0, **out}),
            ("dora-input-axis", "locon", everything + square, {"dim": 2, "alpha": 1.0, **old}),
            ("dora-loha", "loha", linear + conv, {"dim": 2, "alpha": 1.0, **out}),
            ("dora-lokr", "lokr", linear + conv, {"dim": 2, "alpha": 1.0, "factor": 2, **out}),
            ("full", "full", everything, {}),
            ("norm", "norm", norms + ["text_model.encoder.layers.0.layer_norm1"], {}),
            ("ia3", "ia3", linear + conv, {}),
            ("ia3-on-input", "ia3", linear + conv, {"train_on_input": True}),
            ("glora", "glora", linear + point + conv + square, {"dim": 2, "alpha": 1.0}),
        ]:
            self.lycoris(f"sd1-{name}", kind, paths, options)
        for name, part in {"lokr-w1": "lokr_w1_b", "lokr-w2": "lokr_w2_b", "lokr-tucker": "lokr_t2"}.items():
            assert any(part in parts for parts in self.adapters[f"sd1-{name}.safetensors"].values()), (name, part)
        self.old_glora([linear[0], square[0]])
        self.lycoris_prefix(linear + conv)
        for name, strength in [("loha", 0.5), ("lokr-w2", -0.7), ("full", 1.5), ("norm", 0.5), ("ia3", -1.0), ("glora", 0.5),
                               ("dora", 0.5), ("dora", -1.0), ("dora-input-axis", 0.5), ("dora-input-axis", -1.0)]:  # fmt: skip
            note = ": W + s (W_dora - W)" if name.startswith("dora") else ""
            self.exact_case(f"sd1-{name}-at-{strength}", "sd1", [(f"sd1-{name}.safetensors", strength)], note)

    def lycoris(self, name, kind, paths, options):
        modules, merged = {}, {n: dict(s) for n, s in self.state.items()}
        for path in paths:
            component = "text_encoder" if path.startswith("text_model.") else "unet"
            layer = peers.layer_at(self.pipe, component, path)
            module = peers.lycoris_module(kind, f"{name}/{path}", layer, **options)
            modules[component, path] = peers.lycoris_parts(module)
            weight, bias = peers.lycoris_merged(kind, module, layer)
            merged[component][f"{path}.weight"] = weight.detach().clone()
            if bias is not None:
                merged[component][f"{path}.bias"] = bias.detach().clone()
        self.kohya(name, modules)
        how = {"loha": "weights of its forward pass (its merge scales twice)"}
        how["lokr"] = how["loha"]
        how = "LyCORIS " + how.get(kind, "get_merged_weight" if kind != "locon" else "weights of its forward pass")
        self.peer_case(name, ["sd1"], [(f"{name}.safetensors", 1.0)], merged, how)

    def old_glora(self, paths):
        """GLoRA as LyCORIS wrote it first; the merged weight is A1111's and ComfyUI's formula."""
        modules = {}
        for path in paths:
            out, fan_in = self.state["unet"][f"{path}.weight"].shape
            shapes = {"a1": (2, fan_in), "a2": (fan_in, 2), "b1": (2, fan_in), "b2": (out, 2)}
            parts = {f"{k}.weight": rand(f"glora-old/{path}/{k}", s, 0.3) for k, s in shapes.items()}
            modules["unet", path] = parts | {"alpha": torch.tensor(1.0)}
        self.kohya("sd1-glora-old", modules)
        self.exact_case("sd1-glora-old", "sd1", [("sd1-glora-old.safetensors", 1.0)])

    def lycoris_prefix(self, paths):
        """Keys as `create_lycoris` writes them for a model that it does not know: `lycoris_` and the module path."""
        modules = self.lora("sd1-lycoris-prefix", {"unet": paths}, rank=2, alpha=1.0)
        tensors = {k.replace("lora_unet_", "lycoris_"): v for k, v in sd.kohya(modules, self.family).items()}
        sd.save_kohya(tensors, self.keep("sd1-lycoris-prefix", modules))
        self.reading_case("sd1-lycoris-prefix", ["sd1"])

    def sd1_mixed(self):
        """Kinds together, on both layouts and in half precision."""
        several = [("sd1-loha.safetensors", 0.7), ("sd1-dora.safetensors", -0.4), ("sd1-diffusers.safetensors", 0.5),
                   ("sd1-norm.safetensors", 1.2)]  # fmt: skip
        note = "; each difference is taken from the untouched base"
        self.exact_case("sd1-mixed", "sd1-f32.safetensors", several, note)
        self.exact_case("sd1-f16-mixed", "sd1.safetensors", several, note)
        self.exact_case("sd1-f16-lokr-tucker", "sd1.safetensors", [("sd1-lokr-tucker.safetensors", 1.0)])

    # ---- SD2

    def sd2(self):
        modules = self.lora("sd2-kohya", self.everything(), rank=3, alpha=2.0)
        self.kohya("sd2-kohya", modules)
        part = {"unet": self.attention("unet", "mid_block"), "text_encoder": self.attention("text_encoder", "layers.1")}
        modules = self.lora("sd2-kohya-projections-4d", part, rank=2, alpha=3.0)
        self.kohya("sd2-kohya-projections-4d", sd.square_projections(modules))
        part = {"text_encoder": [p for p in self.attention("text_encoder") if p.endswith("q_proj")]}
        self.kohya("sd2-kohya-q-only", self.lora("sd2-kohya-q-only", part, rank=2))
        self.diffusers_case("sd2-kohya", [("sd2-kohya.safetensors", 1.0)])
        self.diffusers_case("sd2-kohya-te-unet", [("sd2-kohya.safetensors", {"te": -0.5, "unet": 0.7})],
                            how="diffusers load_lora_weights, set_adapters, fuse_lora")  # fmt: skip
        self.exact_case("sd2-kohya-projections-4d", "sd2", [("sd2-kohya-projections-4d.safetensors", 1.0)])
        half = "sd2.safetensors"
        rows = "; q, k and v are rows of in_proj_weight"
        self.exact_case("sd2-f16-kohya", half, [("sd2-kohya-projections-4d.safetensors", 1.0)], rows)
        self.exact_case("sd2-f16-q-only-at-1.5", half, [("sd2-kohya-q-only.safetensors", 1.5)], "; k and v rows unchanged")
        two = [("sd2-kohya-projections-4d.safetensors", 0.8), ("sd2-kohya-q-only.safetensors", -0.5)]
        self.exact_case("sd2-f16-two", half, two)

    # ---- SDXL

    def sdxl(self):
        modules = self.lora("sdxl-kohya-sgm", self.everything(), rank=2, alpha=1.0)
        self.kohya("sdxl-kohya-sgm", modules, sgm_ups=self.ups)
        part = {"unet": self.attention("unet", "attn2.to_k"), "text_encoder": self.attention("text_encoder", "layers.1"),
                "text_encoder_2": self.attention("text_encoder_2", "layers.10")}  # fmt: skip
        modules = self.lora("sdxl-kohya-part", part, rank=2, alpha=3.0)
        self.kohya("sdxl-kohya-part-sgm", modules, sgm_ups=self.ups)
        self.kohya("sdxl-kohya-part-diffusers", modules)
        other = ("conv_in", "conv_out", "time_embedding.linear_1", "add_embedding.linear_2")
        convs = [p for p in sd.conv_modules(self.state["unet"]) if p.startswith(("down_blocks.0", "up_blocks.2", "mid_block"))]
        convs += [p for p in sd.conv_modules(self.state["unet"]) if p.endswith("samplers.0.conv") and p not in convs]
        modules = self.lora("sdxl-locon-sgm", {"unet": convs + list(other)}, rank=2, alpha=1.0)
        self.kohya("sdxl-locon-sgm", modules, sgm_ups=self.ups)
        plain = self.lora("sdxl-diffusers", part, rank=2, alpha=None)
        self.save_lora_weights("sdxl-diffusers", plain)
        self.diffusers_case("sdxl-kohya-sgm", [("sdxl-kohya-sgm.safetensors", 1.0)])
        for name in ("sdxl-kohya-part-sgm", "sdxl-kohya-part-diffusers", "sdxl-diffusers"):
            self.diffusers_case(name, [(f"{name}.safetensors", 1.0)])
        self.reading_case("sdxl-locon-sgm", ["sdxl"])
        active = "diffusers load_lora_weights, set_adapters, fuse_lora"
        split = {"te": 0.4, "unet": 1.3}
        self.diffusers_case("sdxl-diffusers-te-unet", [("sdxl-diffusers.safetensors", split)], how=active)
        two = [("sdxl-kohya-part-sgm.safetensors", 0.9), ("sdxl-diffusers.safetensors", -0.3)]
        self.diffusers_case("sdxl-two", two, how=active)
        half = "sdxl.safetensors"
        self.exact_case("sdxl-f16-kohya-part-sgm", half, [("sdxl-kohya-part-sgm.safetensors", 1.0)])
        self.exact_case("sdxl-f16-two", half, two)
        self.exact_case("sdxl-f16-locon-sgm-at-0.5", half, [("sdxl-locon-sgm.safetensors", 0.5)])


if __name__ == "__main__":
    main()
