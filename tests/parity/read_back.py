"""Do the peers read what lora-eval writes? A check run by hand, with the environment of make_fixtures.py:

    python tests/parity/read_back.py target/release/lora-eval [--only TEXT]

It converts, merges and extracts on the fixtures with the program, loads each result with PEFT, diffusers, LyCORIS or
transformers, and compares weights (for language models also logits) with what the peers make of the original. Errors are
shares of the largest value and may be 1e-5 (for half precision: one rounding). Prints a table; exits 1 when a check fails.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import argparse
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

sys.dont_write_bytecode = True
warnings.filterwarnings("ignore")

import diffusers
import torch
import transformers
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from safetensors.torch import load_file, save_file

import formulas
import ldm_layout
import peers
import peft_adapters
from tiny_bases import LANGUAGE_MODELS, PT, canonical, components_of, load_pipeline, pipeline_state

HERE = Path(__file__).resolve().parent
BASES = HERE / "bases"
LIMIT = 1e-5
HALF = {"f16": 2.0**-11, "bf16": 2.0**-8}
IDS = torch.arange(14)[None] * 3

# Adapters that diffusers' format can hold: plain LoRA, of linear layers and convolutions. Not the files whose proj_in has
# another number of dimensions than the base's: without a base a converter cannot know, and the peers do not reshape.
PLAIN = [
    "sd1-kohya", "sd1-kohya-no-alpha", "sd1-kohya-ranks", "sd1-kohya-te1", "sd1-kohya-projections-4d",
    "sd1-locon", "sd1-diffusers", "sd1-diffusers-metadata", "sd1-diffusers-flat-text", "sd1-processor",
    "sd1-processor-no-prefix", "sd1-intermediate", "sd2-kohya", "sdxl-kohya-sgm",
    "sdxl-kohya-part-sgm", "sdxl-kohya-part-diffusers", "sdxl-diffusers",
]  # fmt: skip
# What kohya's format can hold besides (LyCORIS' parts are kohya's).
KOHYA = PLAIN + [
    "sd1-locon-tucker", "sdxl-locon-sgm", "sd1-diffusers-dora", "sd1-loha", "sd1-loha-tucker", "sd1-lokr-full",
    "sd1-lokr-w2", "sd1-dora", "sd1-glora",
]  # fmt: skip


class Report:
    def __init__(self, only):
        self.only, self.rows, self.failed = only, [], 0

    def check(self, name, run):
        """`run` gives (error, limit); an exception is a failure with its message."""
        if self.only and self.only not in name:
            return
        try:
            error, limit = run()
            good, text = error <= limit, f"{error:.1e}"
        except Exception as problem:  # the table must show every failure, whatever it is
            good, text = False, f"{type(problem).__name__}: {' '.join(str(problem).split())[-200:]}"
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'}  {name:<58} {text}", flush=True)
        self.rows.append(name)


class Program:
    def __init__(self, binary, work):
        self.binary, self.work, self.number = str(Path(binary).resolve()), work, 0

    def __call__(self, *arguments):
        """Run it; `OUT` among the arguments becomes a fresh path, which is returned."""
        self.number += 1
        suffix = next((a[3:] for a in arguments if str(a).startswith("OUT")), "")
        out = self.work / f"{self.number}{suffix}"
        words = [str(out) if str(a).startswith("OUT") else str(a) for a in arguments]
        done = subprocess.run([self.binary, *words], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"exit {done.returncode}: {done.stderr}")
        return out


def main():
    parser = argparse.ArgumentParser(description="Do the peers read what lora-eval writes?")
    parser.add_argument("binary", help="the lora-eval program")
    parser.add_argument("--only", help="only checks whose name contains this")
    options = parser.parse_args()
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    report = Report(options.only)
    cases = json.loads((HERE / "manifest.json").read_text())["cases"]
    with tempfile.TemporaryDirectory() as work:
        program = Program(options.binary, Path(work))
        for case in cases:
            check_merge(report, program, case)
        check_convert_peft(report, program)
        check_convert_stable_diffusion(report, program, {c["name"]: c for c in cases})
        check_extract(report, program, {c["name"]: c for c in cases})
    print(f"{len(report.rows) - report.failed} of {len(report.rows)} good")
    sys.exit(1 if report.failed or not report.rows else 0)


def worst(got, want):
    """Largest relative error over all tensors of `want`; each must be there in its shape."""
    missing = [k for k in want if k not in got]
    assert not missing, f"missing {missing[:3]}"
    for key in want:
        assert got[key].shape == want[key].shape, f"{key}: {tuple(got[key].shape)} for {tuple(want[key].shape)}"
    return max(formulas.relative_error(got[k], want[k]) for k in want if want[k].is_floating_point())


def family_of(base):
    return Path(base).name.split(".")[0].removesuffix("-f32")


# ---------------------------------------------------------------- merge


def check_merge(report, program, case):
    """`merge`, then the peer's own loader on the result: all tensors, the unchanged ones too."""
    if any(isinstance(a["strength"], dict) for a in case["adapters"]):
        return  # two strengths cannot be said on this command line
    loras = [w for a in case["adapters"] for w in ("--lora", f"{HERE / a['path']}:{a['strength']}")]
    base = HERE / case["base"]

    def run():
        out = program("merge", "--base", base, *loras, "--out", "OUT" + base.suffix)
        want = load_peer(with_expected(base, case, program.work / "want"), case["base"])
        return worst(load_peer(out, case["base"]), want), HALF.get(case["dtype"], LIMIT)

    report.check(f"merge {case['name']}", run)


def with_expected(base, case, out):
    """A copy of the base with the expected tensors in it, in the base's type."""
    shutil.rmtree(out, ignore_errors=True) if out.is_dir() else out.unlink(missing_ok=True)
    expected = load_file(HERE / case["expected"])
    if base.is_file():
        out = out.with_suffix(base.suffix)
        replace(base, out, expected)
        return out
    shutil.copytree(base, out)
    for file in out.rglob("*.safetensors"):
        part = "" if file.parent == out else f"{file.parent.name}/"
        own = set(load_file(file))
        new = {k.removeprefix(part): v for k, v in expected.items() if k.startswith(part)}
        sharded = len(list(out.glob("*.safetensors"))) > 1
        replace(file, file, {k: v for k, v in new.items() if k in own or not sharded})
    if "lm_head.weight" in expected:
        set_untied(out)
    return out


def replace(source, target, expected):
    tensors = load_file(source)
    dtype = next(v.dtype for v in tensors.values() if v.is_floating_point())
    tensors |= {k: v.to(tensors[k].dtype if k in tensors else dtype) for k, v in expected.items()}
    save_file({k: v.contiguous() for k, v in tensors.items()}, target, PT)


def set_untied(folder):
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config))


def load_peer(path, base):
    """All weights of a model, by the loader of transformers or diffusers."""
    name = Path(base).name
    if name.split("-")[0] in LANGUAGE_MODELS:
        model = LANGUAGE_MODELS[name.split("-")[0]][0].from_pretrained(path)
        with torch.no_grad():
            logits = model.float().eval()(input_ids=IDS).logits
        return {k: v for k, v in model.state_dict().items()} | {"logits": logits}
    family = family_of(name)
    if path.is_dir():
        state = pipeline_state(load_pipeline(path.parent, path.name) if family == path.name else load_renamed(path, family), family)
    else:
        state = single_file_state(path, family)
    return {f"{part}/{k}": v for part, tensors in state.items() for k, v in tensors.items()}


def load_renamed(path, family):
    """load_pipeline on a folder that is not called after its family."""
    link = path.parent / f"{path.name}-as" / family
    shutil.rmtree(link.parent, ignore_errors=True)
    shutil.copytree(path, link)
    return load_pipeline(link.parent, family)


def single_file_state(path, family):
    config = str(BASES / family)
    state = {}
    for name, cls in {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL}.items():
        state[name] = cls.from_single_file(str(path), config=config, subfolder=name).state_dict()
    for name in components_of(family):
        if name.startswith("text_encoder"):
            second = name == "text_encoder_2"
            cls = transformers.CLIPTextModelWithProjection if second else transformers.CLIPTextModel
            tensors = load_file(path)
            if family == "sdxl":  # diffusers tells the two encoders apart by the real models' sizes
                prefix = "conditioner.embedders." + ("1" if second else "0")
                tensors = {k: v for k, v in tensors.items() if k.startswith(prefix)}
            model = create_diffusers_clip_model_from_ldm(cls, tensors, subfolder=name, config=config, local_files_only=True)
            state[name] = canonical(name, model.state_dict())
    return state


# ---------------------------------------------------------------- convert


def check_convert_peft(report, program):
    """PEFT to PEFT: read, understood, written; the logits must be the original's."""
    for name, (base, _) in peft_adapters.configs().items():

        def run(name=name, base=base):
            out = program("convert", HERE / "adapters" / name, "--to", "peft", "--out", "OUT")
            return formulas.relative_error(logits(base, out), logits(base, HERE / "adapters" / name)), LIMIT

        report.check(f"convert {name} to peft", run)


def logits(base, adapter):
    with torch.no_grad():
        return peft_adapters.attached(BASES, base, [(adapter, 1.0)])(input_ids=IDS).logits


def check_convert_stable_diffusion(report, program, cases):
    for target, names in {"diffusers": PLAIN, "kohya": KOHYA}.items():
        for name in names:

            def run(name=name, target=target):
                case = cases[name]
                family = family_of(case["base"])
                source = HERE / case["adapters"][0]["path"]
                out = program("convert", source, "--to", target, "--out", "OUT.safetensors")
                read = peers.diffusers_fused if target == "diffusers" else kohya_read
                got = read(BASES, family, [(weights_file(out), 1.0)])
                return compare_with_expected(got, family, case), LIMIT

            report.check(f"convert {name} to {target}", run)


def weights_file(path):
    """A folder may have been written instead of a file."""
    return next(path.rglob("*.safetensors")) if path.is_dir() else path


def kohya_read(bases, family, adapters):
    """LyCORIS on a kohya file. Keys are matched with the model's own modules, in both of SDXL's spellings."""
    pipe = load_pipeline(bases, family)
    state = pipeline_state(pipe, family)
    table = kohya_names(state)
    modules = {}
    for key, tensor in load_file(adapters[0][0]).items():
        name, part = key.split(".", 1)
        assert name in table, f"{name} is no module of {family}"
        modules.setdefault(table[name], {})[part] = tensor
    for parts in modules.values():
        if "lora_down.weight" in parts:
            parts.setdefault("alpha", torch.tensor(float(parts["lora_down.weight"].shape[0])))
    return peers.lycoris_read(pipe, state, modules)


def kohya_names(state):
    ups = ldm_layout.attention_ups(state["unet"])
    table = {}
    for component in ("unet", "text_encoder", "text_encoder_2"):
        paths = [k.removesuffix(".weight") for k in state.get(component, {}) if k.endswith(".weight")]
        for path in paths:
            prefixes = {"unet": ["lora_unet_"], "text_encoder": ["lora_te_", "lora_te1_"], "text_encoder_2": ["lora_te2_"]}
            for prefix in prefixes[component]:
                table[prefix + path.replace(".", "_")] = (component, path)
            if component == "unet":
                table["lora_unet_" + ldm_layout.unet_module(path, ups).replace(".", "_")] = (component, path)
    return table


def compare_with_expected(got, family, case):
    """Merged components against the original's merged folder, unchanged tensors included."""
    flat = {f"{name}/{k}": v for name, tensors in got.items() for k, v in tensors.items()}
    want = {f"{n}/{k}": v for n, s in pipeline_state(load_pipeline(BASES, family), family).items() for k, v in s.items()}
    for key, tensor in load_file(HERE / case["expected"]).items():
        key = key if key in want else key.replace("text_encoder/", "text_encoder/text_model.")
        want[key] = tensor
    return worst(flat, want)


# ---------------------------------------------------------------- extract


def check_extract(report, program, cases):
    """An adapter of the difference's own rank gives the tuned model back."""

    def language_model():
        tuned = with_expected(BASES / "llama", cases["llama-peft"], program.work / "tuned")
        out = program("extract", "--base", BASES / "llama", "--tuned", tuned, "--rank", 4, "--out", "OUT")
        want = load_peer(tuned, "llama")["logits"]
        return formulas.relative_error(logits("llama", out), want), LIMIT

    def stable_diffusion():
        case = cases["sd1-kohya-no-alpha"]
        tuned = with_expected(BASES / "sd1", case, program.work / "tuned")
        out = program("extract", "--base", BASES / "sd1", "--tuned", tuned, "--rank", 3, "--out", "OUT.safetensors")
        return compare_with_expected(kohya_read(BASES, "sd1", [(weights_file(out), 1.0)]), "sd1", case), LIMIT

    report.check("extract llama-peft at rank 4", language_model)
    report.check("extract sd1-kohya-no-alpha at rank 3", stable_diffusion)


if __name__ == "__main__":
    main()
