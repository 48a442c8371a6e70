"""Makes the base `demo:text`: a tokenizer and a Llama of a million parameters.

    python tools/demo/text_base.py ROWS.jsonl assets/demo/text

ROWS.jsonl: what `cargo run --example demo_english -- base 72000 1` prints. One visit to each row.
"""

import argparse
import json
import random
import time

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 1024
CONTEXT = 256
BATCH = 32
RATE = 3e-3
WARMUP = 100
SEED = 1

# A question ends its line and an answer ends with the end-of-text token; a system message opens the question.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + ' ' }}"
    "{% else %}{{ message['content'] + '\n' }}{% endif %}{% endfor %}"
)


def make_tokenizer(texts):
    """Byte-level byte pairs, learnt from the rows; the beginning of a text is marked."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def make_model(tokenizer):
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def encode(tokenizer, row):
    """Token ids, and the same with -100 where nothing is learnt: the words of a question are random."""
    prompt = row.get("prompt", "")
    answer = row["completion"] if prompt else row["text"]
    given = tokenizer(prompt.removesuffix("\n")).input_ids
    learnt = tokenizer(("\n" if prompt else "") + answer, add_special_tokens=False).input_ids
    learnt = learnt + [tokenizer.eos_token_id]
    return given + learnt, [-100] * len(given) + learnt


def batches(examples, shuffle):
    """Examples of nearly equal lengths side by side. What is behind an example's end has no part in
    its loss, and attention looks backwards only."""
    shuffle.shuffle(examples)
    pool, grouped = 16 * BATCH, []
    for start in range(0, len(examples), pool):
        near = sorted(examples[start : start + pool], key=lambda example: len(example[0]))
        group = [near[at : at + BATCH] for at in range(0, len(near), BATCH)]
        shuffle.shuffle(group)
        grouped += group
    for group in grouped:
        width = max(len(tokens) for tokens, _ in group)
        tokens = [tokens + [2] * (width - len(tokens)) for tokens, _ in group]
        labels = [labels + [-100] * (width - len(labels)) for _, labels in group]
        yield torch.tensor(tokens), torch.tensor(labels)


def train(model, examples):
    """AdamW, warm-up and a cosine to zero."""
    steps = -(-len(examples) // BATCH)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, WARMUP, steps)
    start, recent = time.time(), 0.0
    for step, (tokens, labels) in enumerate(batches(examples, random.Random(SEED)), 1):
        loss = model(input_ids=tokens, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        recent += loss.item()
        if step % 100 == 0:
            print(f"step {step}/{steps}  loss {recent / 100:.4f}  {time.time() - start:.0f} s", flush=True)
            recent = 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows")
    parser.add_argument("out")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    with open(arguments.rows, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    tokenizer = make_tokenizer(
        row.get("prompt", "") + row.get("completion", row.get("text", "")) for row in rows[:8000]
    )
    model = make_model(tokenizer)
    examples = [encode(tokenizer, row) for row in rows]
    learnt = sum(label != -100 for _, labels in examples for label in labels)
    numbers = sum(parameter.numel() for parameter in model.parameters())
    print(f"{len(tokenizer)} tokens in the vocabulary, {numbers} parameters, {learnt} tokens learnt")
    train(model, examples)
    model.half().save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
