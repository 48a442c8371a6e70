"""Random texts scored by sacreBLEU and rouge-score: writes text_random.json beside this file.

Needs: pip install sacrebleu==2.6.0 rouge_score==0.1.2
"""

import json
import random
from pathlib import Path

import sacrebleu
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest

rng = random.Random(7)
WORDS = (
    "the a of adapter adapters model models strength kite harbour dawn quickly running flies dying "
    "relational hopefully generalization y yyy 3.5 1,200 2024. -5 3-4 it's don't (twice) «x» … — € "
    "Zürich l’été ΑΣ Σ İs K中文 日本語 。 、 한국 a&amp;b &lt;p&gt; &quot;q&quot; e.g. ... ,, .,. x_y #tag @me "
    "100% $5 \U00020000 \u2f9f ½ ² 'quoted' 's 5's"
).split() + ["\u00a0", "\t", "\x1d", "<skipped>"]


def sentence(length):
    return " ".join(rng.choice(WORDS) for _ in range(length))


def disturbed(text):
    words = text.split(" ")
    for _ in range(rng.randrange(4)):
        if len(words) > 3 and rng.random() < 0.6:
            start = rng.randrange(len(words) - 2)
            phrase = words[start : start + rng.randrange(1, 5)]
            del words[start : start + len(phrase)]
            at = rng.randrange(len(words) + 1)
            words[at:at] = phrase
        words.insert(rng.randrange(len(words) + 1), rng.choice(WORDS))
        if len(words) > 1:
            del words[rng.randrange(len(words))]
    return " ".join(words)


def corpus(segments, longest):
    first = [sentence(rng.randrange(longest)) for _ in range(segments)]
    second = [disturbed(line) for line in first]
    systems = [[disturbed(line) for line in first], [disturbed(disturbed(line)) for line in second]]
    return systems, [first, second]


ARGS = {
    "bleu": [{"tokenize": t} for t in ("13a", "intl", "zh", "char", "none")]
    + [{"lowercase": True}, {"effective_order": True}, {"max_ngram_order": 7}]
    + [{"smooth_method": "floor", "smooth_value": 0.01}, {"smooth_method": "add-k"}],
    "chrf": [{}, {"word_order": 2}, {"whitespace": True}, {"lowercase": True}]
    + [{"eps_smoothing": True, "word_order": 2, "beta": 3}, {"char_order": 9}],
    "ter": [{}, {"normalized": True}, {"no_punct": True, "asian_support": True}]
    + [{"normalized": True, "asian_support": True, "no_punct": True, "case_sensitive": True}],
}
METRICS = {"bleu": BLEU, "chrf": CHRF, "ter": TER}
out = {"sacrebleu": sacrebleu.__version__, "corpora": []}
for segments, longest in ((40, 30), (12, 4), (4, 120)):
    systems, refs = corpus(segments, longest)
    case = {"systems": systems, "refs": refs, "scores": [], "paired": [], "tokenize": []}
    for kind, options in ARGS.items():
        for args in options:
            for count in (1, 2):
                metric = METRICS[kind](**args)
                score = metric.corpus_score(systems[0], refs[:count])
                stats = metric._extract_corpus_statistics(systems[0], refs[:count])
                case["scores"].append(
                    {
                        "metric": kind,
                        "args": args,
                        "n_refs": count,
                        "score": score.score,
                        "signature": str(metric.get_signature()),
                        "stats": stats[:8],
                    }
                )
    for test in ("bs", "ar"):
        metrics = {"bleu": BLEU(), "chrf": CHRF(), "ter": TER()}
        _, scores = PairedTest(
            [("base", systems[0]), ("system", systems[1])], metrics, refs, test_type=test, n_samples=500
        )()
        for kind, name in (("bleu", "BLEU"), ("chrf", "chrF2"), ("ter", "TER")):
            rows = [
                {k: None if v is None else float(v) for k, v in vars(result).items()}
                for result in scores[name]
            ]
            case["paired"].append({"test": test, "metric": kind, "n": 500, "results": rows})
    tokenizers = {t: BLEU(tokenize=t).tokenizer for t in ("13a", "intl", "zh", "char", "none")}
    for line in systems[1][:12]:
        case["tokenize"].append({"line": line, **{name: t(line) for name, t in tokenizers.items()}})
    out["corpora"].append(case)
scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
ENDINGS = (
    "ational tional enci anci izer bli alli entli eli ousli ization ation ator alism iveness fulness "
    "ousness aliti iviti biliti fulli logi icate ative alize iciti ical ful ness al ance ence er ic "
    "able ible ant ement ment ent sion tion ou ism ate iti ous ive ize e ll sses ies ss s ied eed ed "
    "ing at bl iz y"
).split()


def invented():
    stem = "".join(rng.choice("aeioubcdlstyxz") for _ in range(rng.randrange(1, 5)))
    return stem + rng.choice(ENDINGS) + rng.choice(["", "", "s", "ed", "ing", "ly"])


stemmer = scorer._tokenizer._stemmer
words = sorted({invented() for _ in range(1500)} | {"skies", "news", "dying", "exceed", "enjoy", "fly"})
out["stems"] = {word: stemmer.stem(word) for word in words}
out["rouge"] = []
for _ in range(20):
    lines = [" ".join(rng.choice(words[:30]) for _ in range(rng.randrange(12))) for _ in range(6)]
    target, prediction = "\n".join(lines[:3]), "\n".join(lines[3:])
    scores = scorer.score(target, prediction)
    out["rouge"].append(
        {"target": target, "prediction": prediction, **{k: list(v) for k, v in scores.items()}}
    )
path = Path(__file__).with_name("text_random.json")
path.write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
