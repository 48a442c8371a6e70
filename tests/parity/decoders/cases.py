"""The table of cases whose model is a transformers folder."""

import torch

ATTN = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


def lora(targets=None, r=4, alpha=6, **more):
    return {
        "r": r, "lora_alpha": alpha, "target_modules": targets or ATTN + MLP,
        "lora_dropout": 0.0, "bias": "none", "task_type": "CAUSAL_LM", **more,
    }


def plain(targets=None, **more):
    return [("adapter", "LoraConfig", lora(targets, **more))]


def config(kind, architecture, **more):
    """A config.json as checkpoints of that family are published (the old style)."""
    return {
        "architectures": [architecture], "model_type": kind, "vocab_size": 128,
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 128, "initializer_range": 0.02, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "attention_dropout": 0.0, "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False,
        "use_cache": True, "torch_dtype": "float32", **more,
    }


def llama(**more):
    return config("llama", "LlamaForCausalLM", attention_bias=False, mlp_bias=False, **more)


def rope_llama(scaling, **more):
    return llama(**{"head_dim": 16, "rope_scaling": scaling, **more})


def phi3(**more):
    return config("phi3", "Phi3ForCausalLM", sliding_window=None, resid_pdrop=0.0,
                  embd_pdrop=0.0, **more)


def longrope(original, maximum):
    return phi3(**{
        "tie_word_embeddings": True, "partial_rotary_factor": 0.75,
        "original_max_position_embeddings": original,
        "max_position_embeddings": maximum,
        "rope_scaling": {
            "type": "longrope", "short_factor": [1.0, 1.1, 1.3],
            "long_factor": [1.2, 2.5, 4.0],
        },
    })


def gemma3(**more):
    return config("gemma3_text", "Gemma3ForCausalLM", **{
        "num_hidden_layers": 3, "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 24, "sliding_window": 8, "sliding_window_pattern": 3,
        "rope_theta": 1000.0, "rope_local_base_freq": 100.0,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        "tie_word_embeddings": True, "attention_bias": False, "rms_norm_eps": 1e-6,
        "attn_logit_softcapping": None, "final_logit_softcapping": None, **more,
    })


NO_ROPE = {"rope_scaling": None}
FUSED = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
DYNAMIC = (
    "rope type dynamic: the prompt's logits come from one pass (the frequencies of length T "
    "for all positions). Greedy is transformers' generate with a KV cache, started on a fresh "
    "rotary state: at each step the new token's q and k use the frequencies of the current "
    "length; cached keys keep those of the step that made them. A recomputation without a "
    "cache would give other logits, so it is not asserted."
)
CROSS = (
    "the run crosses original_max_position_embeddings while generating. Phi3ForCausalLM drops "
    "its KV cache at the first step whose length exceeds it and recomputes every position with "
    "the long factors, so greedy equals one uncached pass per step."
)

CORE = [
    {"name": "llama", "family": "llama", "config": llama()},
    {"name": "llama-tied-bias", "family": "llama",
     "config": llama() | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}},
    {"name": "mistral", "family": "mistral",
     "config": config("mistral", "MistralForCausalLM", head_dim=12, sliding_window=8),
     "off": {"sliding_window": {"sliding_window": None},
             "window off by one": {"sliding_window": 9}}},
    {"name": "qwen2", "family": "qwen2",
     "config": config("qwen2", "Qwen2ForCausalLM", use_sliding_window=False, sliding_window=8,
                      max_window_layers=1) | {"tie_word_embeddings": True}},
    {"name": "qwen2-window", "family": "qwen2",
     "config": config("qwen2", "Qwen2ForCausalLM", use_sliding_window=True, sliding_window=8,
                      max_window_layers=1) | {"num_hidden_layers": 3},
     "off": {"use_sliding_window": {"use_sliding_window": False},
             "windows on all layers": {"max_window_layers": 0}},
     "note": "layer 0 attends to all, layers 1 and 2 to the window"},
    {"name": "qwen3", "family": "qwen3",
     "config": config("qwen3", "Qwen3ForCausalLM", head_dim=16, attention_bias=False,
                      use_sliding_window=False, sliding_window=None, max_window_layers=2)},
    {"name": "phi3", "family": "phi3", "config": phi3(), "make_adapters": plain(FUSED)},
    {"name": "gemma2", "family": "gemma2",
     "config": config("gemma2", "Gemma2ForCausalLM", head_dim=16,
                      hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=24,
                      sliding_window=8, attn_logit_softcapping=5.0,
                      final_logit_softcapping=20.0, attention_bias=False)
     | {"tie_word_embeddings": True, "num_hidden_layers": 3, "rms_norm_eps": 1e-6},
     "off": {"sliding_window": {"sliding_window": 4096},
             "attn_logit_softcapping": {"attn_logit_softcapping": None},
             "final_logit_softcapping": {"final_logit_softcapping": None},
             "query_pre_attn_scalar": {"query_pre_attn_scalar": 16}},
     "note": "layers 0 and 2 slide, layer 1 attends to all"},
    {"name": "gemma3", "family": "gemma3_text", "config": gemma3(),
     "off": {"sliding_window": {"sliding_window": 4096}, "rope_scaling": NO_ROPE,
             "rope_local_base_freq": {"rope_local_base_freq": 1000.0},
             "query_pre_attn_scalar": {"query_pre_attn_scalar": 16}},
     "note": "layers 0 and 1 slide with rope_local_base_freq and no scaling; layer 2 attends "
             "to all with rope_theta and the linear scaling"},
]

ROPE = [
    {"name": "llama-linear", "family": "llama", "off": {"rope_scaling": NO_ROPE},
     "config": rope_llama({"type": "linear", "factor": 4.0})},
    {"name": "llama-dynamic", "family": "llama", "off": {"rope_scaling": NO_ROPE},
     "config": rope_llama({"rope_type": "dynamic", "factor": 4.0},
                          max_position_embeddings=16, rope_theta=100.0),
     "lengths": [3, 9, 22], "recompute": False, "note": DYNAMIC},
    {"name": "llama3", "family": "llama", "off": {"rope_scaling": NO_ROPE},
     "config": rope_llama(LLAMA3, rope_theta=100.0)},
    {"name": "llama-yarn", "family": "llama", "lengths": [3, 9, 30],
     "off": {"rope_scaling": NO_ROPE,
             "attention factor": {"rope_scaling": YARN | {"attention_factor": 1.0}}},
     "config": rope_llama(YARN, rope_theta=100.0, max_position_embeddings=96),
     "note": "attention_factor unset: 0.1 ln(4) + 1"},
    {"name": "llama-yarn-mscale", "family": "llama", "lengths": [3, 9, 30],
     "off": {"rope_scaling": NO_ROPE, "mscale": {"rope_scaling": YARN},
             "truncate": {"rope_scaling": YARN | {
                 "mscale": 1.5, "mscale_all_dim": 0.5, "beta_fast": 4.0, "beta_slow": 0.5}}},
     "config": rope_llama(YARN | {"mscale": 1.5, "mscale_all_dim": 0.5, "beta_fast": 4.0,
                                  "beta_slow": 0.5, "truncate": False},
                          rope_theta=100.0, max_position_embeddings=96)},
    {"name": "llama-rope-parameters", "family": "llama", "new_style": True,
     "config": rope_llama(LLAMA3, rope_theta=100.0),
     "note": "config.json in the style that transformers 5 writes (rope_parameters)"},
    {"name": "phi4-mini", "family": "phi3", "make_adapters": plain(FUSED),
     "config": longrope(96, 192),
     "off": {"partial_rotary_factor": {"partial_rotary_factor": 1.0, "rope_scaling": None},
             "rope_scaling": NO_ROPE},
     "note": "all lengths stay within original_max_position_embeddings: the short factors"},
    {"name": "phi4-mini-long", "family": "phi3", "make_adapters": plain(FUSED),
     "config": longrope(16, 128), "lengths": [17, 23, 40], "off": {"rope_scaling": NO_ROPE},
     "note": "the prompts exceed original_max_position_embeddings: the long factors throughout"},
    {"name": "phi4-mini-cross", "family": "phi3", "make_adapters": plain(FUSED),
     "config": longrope(32, 128), "lengths": [3, 9, 17], "recompute": False, "note": CROSS},
    {"name": "gemma3-rope-parameters", "family": "gemma3_text", "new_style": True,
     "config": gemma3(sliding_window_pattern=2),
     "note": "config.json as transformers 5 writes it: layer_types and nested rope_parameters"},
    {"name": "smollm3", "family": "smollm3",
     "config": config("smollm3", "SmolLM3ForCausalLM", no_rope_layers=[1, 0, 1],
                      use_sliding_window=False, sliding_window=None, attention_bias=False,
                      mlp_bias=False) | {"num_hidden_layers": 3, "tie_word_embeddings": True},
     "off": {"no_rope_layers": {"no_rope_layers": [1, 1, 1]}},
     "note": "no_rope_layers: 1 means the layer rotates, 0 that it does not"},
]


def on_llama(name, made, **more):
    """An adapter kind on the model of the case `llama`."""
    return {"name": name, "family": "llama", "model": "../llama/model", "make_adapters": made,
            "adapters": [m[0] for m in made], **more}


LYCORIS = {"r": 4, "alpha": 6, "target_modules": ATTN + MLP, "task_type": "CAUSAL_LM"}
MERGED = "weights are W + s (W_merged - W), W_merged from PEFT's merge_and_unload"

KINDS = [
    on_llama("adapter-rslora", plain(use_rslora=True)),
    on_llama("adapter-pattern", plain(
        rank_pattern={"q_proj": 6, "layers.1.mlp.down_proj": 2}, alpha_pattern={"v_proj": 10}),
        note="rank_pattern and alpha_pattern"),
    on_llama("adapter-dora", plain(use_dora=True), rule="interpolate", note=MERGED),
    on_llama("adapter-two", [
        ("adapter-a", "LoraConfig", lora(["q_proj", "v_proj", "down_proj"], r=4, alpha=6)),
        ("adapter-b", "LoraConfig", lora(["q_proj", "o_proj", "up_proj", "gate_proj"], r=3,
                                         alpha=5))],
        strengths=[[0, 0], [0.5, 0], [0, 1], [0.7, -0.4]],
        note="a strength is a pair: adapter-a's, adapter-b's"),
    on_llama("adapter-embed-head", plain(
        ATTN + MLP + ["embed_tokens", "lm_head"]),
        note="PEFT also saves the untouched base weights here, as embed_tokens.base_layer.weight "
             "and lm_head.base_layer.weight: they equal the model's"),
    on_llama("adapter-saved", plain(["q_proj", "v_proj"], modules_to_save=["lm_head"]),
             rule="interpolate", note=MERGED + "; lm_head itself is saved"),
    {"name": "phi3-apart", "family": "phi3", "model": "../phi3/model", "split_phi3": True,
     "make_adapters": plain(), "adapters": ["adapter"],
     "note": "a Phi-3 with an adapter for q_proj, k_proj, v_proj, gate_proj and up_proj apart. "
             "The peer is a Llama with the fused weights cut apart and PEFT on it"},
    {"name": "llama-sharded", "family": "llama", "config": llama(), "shard": "50KB"},
    {"name": "llama-bf16", "family": "llama", "dtype": torch.bfloat16,
     "config": llama() | {"torch_dtype": "bfloat16"},
     "note": "weights stored in bf16, upcast and computed in f32"},
    {"name": "llama-f16", "family": "llama", "dtype": torch.float16,
     "config": llama() | {"torch_dtype": "float16"},
     "note": "weights stored in f16, upcast and computed in f32"},
]

for _case in CORE + ROPE + KINDS:
    _case.setdefault("make_adapters", plain())
