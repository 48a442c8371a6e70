"""sacreBLEU's times on the files REFERENCE FIRST SECOND: name, seconds, result on each line."""

import sys
import time

from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import _paired_ar_test, _paired_bs_test

reference, first, second = (open(path, encoding="utf-8").read().split("\n") for path in sys.argv[1:4])
for name, metric in (("BLEU", BLEU()), ("chrF", CHRF()), ("chrF++", CHRF(word_order=2)), ("TER", TER())):
    start = time.perf_counter()
    score = metric.corpus_score(first, [reference]).score
    print(name, time.perf_counter() - start, score, sep="\t")


class Known(BLEU):
    """Statistics are given, so that only the test is timed."""

    def _extract_corpus_statistics(self, hypotheses, references):
        return STATISTICS[hypotheses is second]


STATISTICS = [BLEU()._extract_corpus_statistics(lines, [reference]) for lines in (first, second)]
metric = Known()
base = {"BLEU": (STATISTICS[0], metric._aggregate_and_compute(STATISTICS[0]))}
for name, test, trials in (("bs", _paired_bs_test, 1000), ("ar", _paired_ar_test, 10000)):
    start = time.perf_counter()
    _, results = test(base, "second", second, None, {"BLEU": metric}, trials, -1, 12345)
    print(name, time.perf_counter() - start, results["BLEU"].p_value, sep="\t")
