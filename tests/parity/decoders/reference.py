"""The peer: runs a case from its files on disk with transformers and PEFT.

Both the maker and `verify.py` go through this module, so what is written as
expected is always computed from the files that the Rust program will read.
"""

import json
import os
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import tokenizers
import torch
import transformers
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
warnings.filterwarnings("ignore")
torch.set_num_threads(1)

NEW_TOKENS = 64
# A logits difference of 1e-4 must not be able to flip a greedy token.
LEAST_GAP = 2e-3
LEAST_DISTINCT = 8


class Reject(Exception):
    """These weights make no good fixture (a near tie, or a dull row)."""


def versions():
    from importlib.metadata import version

    return {
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "tokenizers": tokenizers.__version__,
        "gguf": version("gguf"),
    }


def load_base(path):
    """The base model of a case, in float32 with eager attention."""
    path = Path(path)
    if path.suffix == ".gguf":
        from gguf_files import load_gguf

        return load_gguf(path)
    return AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def phi3_as_llama(phi3):
    """A Llama with the weights of a Phi-3: the fused projections cut apart."""
    c = phi3.config
    head = c.hidden_size // c.num_attention_heads
    q, kv = c.num_attention_heads * head, c.num_key_value_heads * head
    rope = {"rope_type": "default", "rope_theta": c.rope_parameters["rope_theta"]}
    config = LlamaConfig(
        vocab_size=c.vocab_size, hidden_size=c.hidden_size,
        intermediate_size=c.intermediate_size, num_hidden_layers=c.num_hidden_layers,
        num_attention_heads=c.num_attention_heads,
        num_key_value_heads=c.num_key_value_heads, rms_norm_eps=c.rms_norm_eps,
        max_position_embeddings=c.max_position_embeddings, rope_parameters=rope,
        tie_word_embeddings=c.tie_word_embeddings,
    )
    state = {}
    for name, w in phi3.state_dict().items():
        if "qkv_proj" in name:
            parts = w.split([q, kv, kv])
            names = ("q_proj", "k_proj", "v_proj")
            state.update({name.replace("qkv_proj", n): p for n, p in zip(names, parts)})
        elif "gate_up_proj" in name:
            gate, up = w.chunk(2)
            state[name.replace("gate_up_proj", "gate_proj")] = gate
            state[name.replace("gate_up_proj", "up_proj")] = up
        else:
            state[name] = w
    config._attn_implementation = "eager"
    llama = LlamaForCausalLM(config)
    llama.load_state_dict({k: v.contiguous() for k, v in state.items()})
    return llama.eval()


def with_adapters(base, folders):
    """`base` with every adapter folder loaded and active, as `a0`, `a1`, ..."""
    model = PeftModel.from_pretrained(base, folders[0], adapter_name="a0")
    for i, folder in enumerate(folders[1:], 1):
        model.load_adapter(folder, adapter_name=f"a{i}")
    model.base_model.set_adapter([f"a{i}" for i in range(len(folders))])
    return model.eval()


class Reference:
    """One case at any strength.

    rule "scaling": the strength multiplies `scaling[adapter]` of each LoRA layer.
    rule "interpolate": each weight is W + s * (merged - W), `merged` being what
    PEFT's merge_and_unload gives.
    """

    def __init__(self, case_dir, spec):
        case_dir = Path(case_dir)
        base = load_base(case_dir / spec["model"])
        if spec.get("split_phi3"):
            base = phi3_as_llama(base)
        self.rule = spec["rule"]
        folders = [str(case_dir / a) for a in spec["adapters"]]
        if self.rule == "scaling":
            self.model = with_adapters(base, folders)
            self.layers = [m for m in self.model.modules() if isinstance(m, LoraLayer)]
            self.scaling = [dict(m.scaling) for m in self.layers]
        else:
            self.base = {k: v.clone() for k, v in base.state_dict().items()}
            self.model = with_adapters(base, folders).merge_and_unload().eval()
            self.merged = {k: v.clone() for k, v in self.model.state_dict().items()}
            assert self.base.keys() == self.merged.keys()
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0

    def at(self, strength):
        if self.rule == "scaling":
            each = strength if isinstance(strength, list) else [strength]
            for layer, scaling in zip(self.layers, self.scaling):
                for name, value in scaling.items():
                    layer.scaling[name] = value * each[int(name[1:])]
        else:
            mixed = {
                k: w + strength * (self.merged[k] - w) for k, w in self.base.items()
            }
            self.model.load_state_dict(mixed)
        return self.model


def forget_length(model):
    """Undo what an earlier run left in dynamic rope (it remembers the longest)."""
    for m in model.modules():
        if getattr(m, "rope_type", None) == "dynamic":
            m.register_buffer("inv_freq", m.original_inv_freq.clone(), persistent=False)
            m.max_seq_len_cached = m.original_max_seq_len


def logits_of(model, ids):
    forget_length(model)
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]), use_cache=False)
    return out.logits[0].float().contiguous()


def greedy_of(model, ids, recompute):
    """The greedy continuation with a KV cache, its smallest top-1/top-2 gap, and how far
    the peer's own logits move when it recomputes them in one pass without a cache."""
    forget_length(model)
    prompt = torch.tensor([ids])
    with torch.no_grad():
        out = model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
            max_new_tokens=NEW_TOKENS, use_cache=True, return_dict_in_generate=True,
            output_logits=True,
        )
    new = out.sequences[0, len(ids):]
    assert new.shape == (NEW_TOKENS,)
    steps = torch.stack([step[0] for step in out.logits])
    noise = 0.0
    if recompute:
        full = logits_of(model, out.sequences[0].tolist())[len(ids) - 1:-1]
        assert torch.equal(full.argmax(-1), new), "cached and uncached runs differ"
        noise = (full - steps).abs().max().item()
        assert noise < 5e-4, noise
    top = steps.topk(2).values
    return new, (top[:, 0] - top[:, 1]).min().item(), noise


def expected_of(case_dir, spec):
    """All expected tensors, the smallest gap, the largest noise; raises Reject early."""
    reference = Reference(case_dir, spec)
    tensors, least, most = {}, float("inf"), 0.0
    for i, strength in enumerate(spec["strengths"]):
        model = reference.at(strength)
        for p, ids in enumerate(spec["prompts"]):
            new, gap, noise = greedy_of(model, ids, spec["recompute"])
            if gap < LEAST_GAP:
                raise Reject(f"gap {gap:.1e}")
            if len(set(new.tolist())) < LEAST_DISTINCT:
                raise Reject(f"dull row {new.tolist()[-8:]}")
            least, most = min(least, gap), max(most, noise)
            tensors[f"greedy.p{p}.s{i}"] = new
            tensors[f"logits.p{p}.s{i}"] = logits_of(model, ids)
    return tensors, least, most


def read_spec(case_dir):
    return json.loads((Path(case_dir) / "expected.json").read_text())


def read_expected(case_dir):
    return load_file(Path(case_dir) / "expected.safetensors")
