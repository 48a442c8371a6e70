"""GGUF cases: written with gguf.GGUFWriter as llama.cpp's convert_hf_to_gguf does."""

import json

import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from gguf import GGUFReader, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import tokens as tok
from build import finish, prompts_for, random_weights, write_adapter
from cases import lora
from reference import load_base

VOCAB = 352
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem in TOP:
        return f"{TOP[stem]}.{kind}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.{kind}"


def permute(w, heads):
    """convert_hf_to_gguf's LlamaModel.permute: rotary halves become neighbours."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2) \
        .reshape(w.shape)


def unpermute(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2) \
        .reshape(w.shape)


def heads_of(name, heads, kv_heads):
    """The heads by which arch llama permutes this tensor, or None."""
    return {"attn_q": heads, "attn_k": kv_heads}.get(name.split(".")[-2])


def random_blocks(shape, kind, std, rng):
    """Valid K-quant blocks with random content: the Python package cannot quantise to K
    types, so the weights are defined by the blocks."""
    rows, blocks = shape[0], shape[1] // 256

    def noise(n):
        return rng.integers(0, 256, (rows, blocks, n), dtype=np.uint8)

    def half(scale):
        value = (scale * rng.uniform(0.7, 1.3, (rows, blocks, 1))).astype(np.float16)
        return value.view(np.uint8)

    if kind == Q.Q6_K:
        scales = rng.integers(-48, 49, (rows, blocks, 16)).astype(np.int8).view(np.uint8)
        parts = [noise(128), noise(64), scales, half(std / (18.5 * 28))]
    else:
        assert kind == Q.Q4_K
        # value = d * scale * q - dmin * min, with six-bit scale and min, four-bit q
        parts = [half(std / 270), half(7.5 * std / 270), noise(12), noise(128)]
    return np.concatenate(parts, axis=-1).reshape(rows, -1)


def kind_of(name, shape, case):
    if len(shape) == 1:
        return Q.F32
    if case["quant"] == "q4_k_m":
        big = any(part in name for part in ("attn_v", "ffn_down", "token_embd"))
        return Q.Q6_K if big else Q.Q4_K
    return {"f32": Q.F32, "q8_0": Q.Q8_0, "q4_0": Q.Q4_0}[case["quant"]]


def write_tokenizer(writer, arch):
    if arch == "llama":
        tokens, scores, types = tok.spm_vocabulary(VOCAB)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_scores(scores)
        writer.add_token_types(types)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_add_bos_token(True)
        writer.add_add_eos_token(False)
        writer.add_add_space_prefix(True)
        writer.add_chat_template(tok.LLAMA_CHAT)
        return
    built = json.loads(tok.byte_level(VOCAB, SPECIALS).to_str())
    vocab = built["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.get) + SPECIALS
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (VOCAB - len(SPECIALS)) + [3] * len(SPECIALS))
    writer.add_token_merges([" ".join(m) for m in built["model"]["merges"]])
    writer.add_bos_token_id(VOCAB - 3)
    writer.add_eos_token_id(VOCAB - 1)
    writer.add_pad_token_id(VOCAB - 3)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tok.CHATML)


def hf_config(meta):
    """A transformers config from the metadata that lora-eval reads too."""
    arch = meta["general.architecture"]

    def get(key):
        return meta[f"{arch}.{key}"]

    head = get("embedding_length") // get("attention.head_count")
    head = meta.get(f"{arch}.attention.key_length", head)
    return AutoConfig.for_model(
        arch, vocab_size=len(meta["tokenizer.ggml.tokens"]),
        hidden_size=get("embedding_length"), intermediate_size=get("feed_forward_length"),
        num_hidden_layers=get("block_count"), num_attention_heads=get("attention.head_count"),
        num_key_value_heads=get("attention.head_count_kv"), head_dim=head,
        max_position_embeddings=get("context_length"),
        rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": get("rope.freq_base")},
        tie_word_embeddings="output.weight" not in meta["tensors"], pad_token_id=0,
    )


def load_gguf(path):
    reader = GGUFReader(path)
    meta = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    tensors = {t.name: t for t in reader.tensors}
    meta["tensors"] = tensors
    config = hf_config(meta)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    state = {}
    for name in model.state_dict():
        if config.tie_word_embeddings and name == "lm_head.weight":
            continue
        t = tensors.pop(gguf_name(name))
        w = np.array(dequantize(t.data, t.tensor_type), dtype=np.float32)
        heads = heads_of(t.name, config.num_attention_heads, config.num_key_value_heads)
        if meta["general.architecture"] == "llama" and heads:
            w = unpermute(w, heads)
        state[name] = torch.from_numpy(w.copy())
    assert not tensors, list(tensors)
    model.load_state_dict(state, strict=not config.tie_word_embeddings)
    return model.eval()


def write_gguf(path, case, seed):
    arch, tied = case["family"], case["tied"]
    hidden, layers, inner, head = case["shape"]
    writer = GGUFWriter(path, arch)
    writer.add_name(case["name"])
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    if arch == "llama":
        writer.add_rope_dimension_count(head)
        writer.add_vocab_size(VOCAB)
    if arch == "qwen3":
        writer.add_key_length(head)
        writer.add_value_length(head)
    writer.add_file_type({
        "f32": LlamaFileType.ALL_F32, "q8_0": LlamaFileType.MOSTLY_Q8_0,
        "q4_0": LlamaFileType.MOSTLY_Q4_0, "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
    }[case["quant"]])
    writer.add_quantization_version(2)
    write_tokenizer(writer, arch)
    config = AutoConfig.for_model(
        arch, vocab_size=VOCAB, hidden_size=hidden, intermediate_size=inner,
        num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2, head_dim=head,
        tie_word_embeddings=tied, pad_token_id=0,
    )
    model = AutoModelForCausalLM.from_config(config)
    weights = random_weights(model, torch.Generator().manual_seed(seed))
    rng = np.random.default_rng(seed)
    for name, w in weights.items():
        name, w = gguf_name(name), w.numpy()
        heads = heads_of(name, 4, 2)
        if arch == "llama" and heads:
            w = np.ascontiguousarray(permute(w, heads))
        kind = kind_of(name, w.shape, case)
        if kind in (Q.Q4_K, Q.Q6_K):
            std = 0.09 if name.startswith("token_embd") else 0.0875
            data = random_blocks(w.shape, kind, std, rng)
        else:
            data = w if kind == Q.F32 else quantize(w, kind)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def token_rows(path, arch):
    """Ids of TEXTS from a reference tokenizer, checked against transformers' reading
    of the same GGUF; the texts on which that one differs carry its ids as well."""
    peer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    rows = []
    texts = list(tok.TEXTS)
    if arch == "llama":
        tokens, scores, _ = tok.spm_vocabulary(VOCAB)
    else:
        built = tok.byte_level(VOCAB, SPECIALS)
        texts.append("<|im_start|>user\nthe river<|im_end|>\n<|im_start|>assistant\n")
    for text in texts:
        if arch == "llama":
            ids = [1] + tok.spm_encode(text, tokens, scores)
        else:
            ids = built.encode(text).ids
        row = {"text": text, "ids": ids, "decoded": peer.decode(ids, skip_special_tokens=True)}
        if peer(text).input_ids != ids:
            row["transformers_ids"] = peer(text).input_ids
        rows.append(row)
    messages = [{"role": "user", "content": "what is the answer"},
                {"role": "assistant", "content": "water"},
                {"role": "user", "content": "and the question"}]
    chat = peer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return {"texts": rows, "how": HOW[arch], "messages": messages, "rendered": chat}


SPM_HOW = (
    "llama.cpp's algorithm written out in tokens.py (spm_encode), BOS put before. Where "
    "transformers' tokenizer of the same GGUF differs, its ids are in transformers_ids: it puts "
    "no space before a text that already starts with one. decoded is transformers' decode"
)
BPE_HOW = (
    "tokenizers' BPE with Qwen2's split and no normaliser (a GGUF names none, llama.cpp applies "
    "none; Qwen2's own tokenizer.json has NFC). transformers reads the GGUF to the same ids"
)
HOW = {"llama": SPM_HOW, "qwen2": BPE_HOW, "qwen3": BPE_HOW}


def attempt_gguf(case_dir, case, seed):
    path = case_dir / f"{case['name']}.gguf"
    write_gguf(path, case, 1000 + seed)
    own = load_base(path)
    # The config is handed over: transformers does not read qwen3's key_length itself.
    theirs = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, config=own.config, dtype=torch.float32,
        attn_implementation="eager")
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        far = (own(ids).logits - theirs.eval()(ids).logits).abs().max().item()
    assert far < 1e-3, far
    write_adapter(case_dir / "adapter", load_base(path), "LoraConfig", lora(),
                  "tiny/" + case["family"], 2000 + seed)
    case = {"model": path.name, "adapters": ["adapter"], **case,
            "extra": {"tokenizer": token_rows(path, case["family"])}}
    return finish(case_dir, case, seed, prompts_for([3, 7, 12], VOCAB, 3000 + seed))


def gguf_case(family, quant, tied=False, shape=(32, 2, 64, 8), note=""):
    return {"name": f"gguf-{family}-{quant}", "family": family, "quant": quant, "tied": tied,
            "shape": shape, "group": "gguf",
            "note": "dequantised with gguf.quants, q and k un-permuted for arch llama, run in "
                    "float32; transformers' own reading of the file agrees within 1e-3. " + note}


GGUF = [
    gguf_case("llama", "f32"), gguf_case("llama", "q8_0"), gguf_case("llama", "q4_0"),
    gguf_case("qwen2", "q8_0", tied=True), gguf_case("qwen3", "q8_0", shape=(32, 2, 64, 16)),
    gguf_case("llama", "q4_k_m", tied=True, shape=(256, 1, 256, 64), note=(
        "attn_v, ffn_down and token_embd are Q6_K, the other matrices Q4_K; random valid blocks")),
]
