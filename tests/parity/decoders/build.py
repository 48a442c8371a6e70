"""Writes one case: weights, adapters, and the expected values, from seeds."""

import json
import shutil
import tempfile
from pathlib import Path

import peft
import torch
from peft import get_peft_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from reference import LEAST_GAP, NEW_TOKENS, Reject, expected_of, load_base, logits_of, \
    phi3_as_llama, versions

OUT = Path(__file__).resolve().parent


def normal(generator, like, mean, std):
    return torch.randn(like.shape, generator=generator) * std + mean


def random_weights(model, generator):
    """Random weights with nothing left at a neutral value: norms off 1, biases off 0.

    Tied models get a small embedding and a large final norm of either sign, otherwise
    each token predicts itself and greedy decoding repeats one token. Gemma stores its
    norms as an offset from 1.
    """
    gemma = model.config.model_type.startswith("gemma")
    tied = model.config.tie_word_embeddings
    done = {}
    for name, w in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        if name.endswith(".bias"):
            mean, std = 0.0, 0.3
        elif "norm" in name:
            mean, std = 0.0 if gemma else 1.0, 0.3
        elif "embed_tokens" in name:
            mean, std = 0.0, 0.25 if tied else 1.0
        elif name == "lm_head.weight":
            mean, std = 0.0, 1.0
        else:
            mean, std = 0.0, 1.4 / w.shape[1] ** 0.5
        done[name] = normal(generator, w, mean, std)
        if tied and name == "model.norm.weight":
            sign = torch.randint(0, 2, w.shape, generator=generator) * 2.0 - 1.0
            done[name] = (4.0 - mean + done[name]) * sign - (1.0 - mean)
    return done


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def write_lines(path, value):
    """JSON with one line for each top-level key."""
    lines = [f" {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def write_model(folder, config, seed, dtype=torch.float32, shard=None, new_style=False):
    """A transformers folder whose config.json is `config` itself, word for word."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    weights = random_weights(model, torch.Generator().manual_seed(seed))
    model.load_state_dict(weights, strict=not model.config.tie_word_embeddings)
    model = model.to(dtype)
    if shard or new_style:
        model.tie_weights()
        model.save_pretrained(folder, max_shard_size=shard or "5GB")
        (folder / "generation_config.json").unlink()
        if not new_style:
            write_json(folder / "config.json", config)
    else:
        weights = {k: v.to(dtype) for k, v in weights.items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for written in folder.glob("*.safetensors"):
        written.chmod(0o644)


def write_adapter(folder, base, kind, options, base_name, seed):
    """A PEFT folder as save_pretrained writes it, with every tensor random."""
    config = getattr(peft, kind)(**options)
    generator = torch.Generator().manual_seed(seed)
    model = get_peft_model(base, config)
    for name, w in model.named_parameters():
        if not w.requires_grad:
            continue
        if "magnitude" in name:
            new = w.data * (1 + 0.2 * torch.randn(w.shape, generator=generator))
        elif "modules_to_save" in name:
            new = w.data + normal(generator, w, 0.0, 0.5)
        elif "lora_embedding" in name:
            new = normal(generator, w, 0.0, 0.35)
        elif kind == "LoraConfig":
            new = normal(generator, w, 0.0, 0.2)
        else:
            new = normal(generator, w, 0.0, 0.3)
        w.data.copy_(new)
    model.peft_config["default"].base_model_name_or_path = base_name
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    settle(folder)


def settle(folder):
    """PEFT writes its sets in the order of Python's string hashes: sort them."""
    (folder / "adapter_model.safetensors").chmod(0o644)
    path = folder / "adapter_config.json"
    written = json.loads(path.read_text())
    for key in ("target_modules", "modules_to_save"):
        if isinstance(written.get(key), list):
            written[key] = sorted(written[key])
    write_json(path, written)


def sensitivity(case_dir, case, prompts):
    """How far logits move when a feature under test is switched off in config.json.

    A fixture that a missing feature could pass is no fixture: each must exceed 0.02.
    """
    moved = {}
    model_dir = case_dir / case["model"]
    straight = [logits_of(load_base(model_dir), p) for p in prompts]
    for name, change in case.get("off", {}).items():
        with tempfile.TemporaryDirectory() as temp:
            other = Path(temp) / "model"
            shutil.copytree(model_dir, other)
            config = json.loads((other / "config.json").read_text())
            write_json(other / "config.json", {**config, **change})
            model = load_base(other)
            far = max(
                (logits_of(model, p) - s).abs().max().item()
                for p, s in zip(prompts, straight)
            )
        assert far > 0.02, (case["name"], name, far)
        moved[name] = round(far, 3)
    return moved


def prompts_for(lengths, vocab, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, vocab, (n,), generator=generator).tolist() for n in lengths]


def finish(case_dir, case, seed, prompts):
    """Computes and writes what is expected; raises Reject for a bad seed."""
    spec = {
        "case": case["name"],
        "family": case["family"],
        "peer": versions(),
        "model": case["model"],
        "adapters": case["adapters"],
        "rule": case.get("rule", "scaling"),
        "seed": seed,
        "new_tokens": NEW_TOKENS,
        "recompute": case.get("recompute", True),
        "prompts": prompts,
        "strengths": case.get("strengths", [0, 0.5, 1]),
    }
    if case.get("split_phi3"):
        spec["split_phi3"] = True
    tensors, least, noise = expected_of(case_dir, spec)
    spec["min_gap"] = least
    spec["peer_noise"] = noise
    spec["least_gap_asked"] = LEAST_GAP
    if case.get("off"):
        spec["moved_when_off"] = sensitivity(case_dir, case, prompts)
    spec["note"] = case.get("note", "")
    spec.update(case.get("extra", {}))
    save_file(tensors, case_dir / "expected.safetensors")
    (case_dir / "expected.safetensors").chmod(0o644)
    write_lines(case_dir / "expected.json", spec)
    return least


def search(case, attempt, first=0, tries=150):
    """Runs `attempt(case_dir, case, seed)` over seeds until one is accepted."""
    case_dir = OUT / case["name"]
    for seed in range(first, first + tries):
        shutil.rmtree(case_dir, ignore_errors=True)
        case_dir.mkdir(parents=True)
        try:
            least = attempt(case_dir, case, seed)
        except Reject as why:
            print(f"  {case['name']} seed {seed}: {why}", flush=True)
            continue
        size = sum(f.stat().st_size for f in case_dir.rglob("*") if f.is_file())
        print(f"{case['name']}: seed {seed} gap {least:.1e} {size // 1024} KiB", flush=True)
        return
    raise SystemExit(f"{case['name']}: no seed of {tries} will do")


def attempt_folder(case_dir, case, seed):
    """A case whose model is a transformers folder of its own, or another case's."""
    case = {"model": "model", "adapters": ["adapter"], **case}
    if "config" in case:
        write_model(
            case_dir / "model", case["config"], 1000 + seed, case.get("dtype", torch.float32),
            case.get("shard"), case.get("new_style", False),
        )
    vocab = json.loads((case_dir / case["model"] / "config.json").read_text())["vocab_size"]
    for i, (folder, kind, options) in enumerate(case.get("make_adapters", [])):
        base = load_base(case_dir / case["model"])
        if case.get("split_phi3"):
            base = phi3_as_llama(base)
        write_adapter(
            case_dir / folder, base, kind, options, case.get("base_name", "tiny/" + case["family"]),
            2000 + 100 * i + seed,
        )
    prompts = prompts_for(case.get("lengths", [3, 9, 17]), vocab, 3000 + seed)
    return finish(case_dir, case, seed, prompts)
