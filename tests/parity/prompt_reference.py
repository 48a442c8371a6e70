"""Expected values for the prompt parser, made with the WebUI's own kind of machinery.

The behaviour of AUTOMATIC1111's prompt language (v1.10.1) is written down here a second time, in
Python: the schedule grammar runs in `lark` (Earley, the version the WebUI pins), the rest in
Python's `re`. The Rust parser shares none of that and has to give the same answers.

    pip install lark==1.1.2
    python tests/parity/prompt_reference.py > tests/parity/prompt.json

`lark` 1.1.2 keeps the alternatives of an ambiguous parse in a set, so for a few prompts with
unbalanced brackets the WebUI's own answer depends on Python's hash seed. The schedules are
therefore computed under twelve seeds, and every answer seen is kept in `schedules`: where there is
more than one, the Rust parser has to give one of them.
"""

import json
import os
import random
import re
import subprocess
import sys

import lark

GRAMMAR = r"""
!document: (run | /[][():]/+)*
run: (weighted | switch | cycle | words | BLANK)*
!weighted: "(" run ")"
         | "(" run ":" run ")"
         | "[" run "]"
switch: "[" [run ":"] run ":" [BLANK] NUMBER [BLANK] "]"
cycle: "[" run ("|" [run])+ "]"
BLANK: /\s+/
words: /([^\\\[\]():|]|\\.)+/
%import common.SIGNED_NUMBER -> NUMBER
"""
PARSER = lark.Lark(GRAMMAR, start="document")


def moment(number, steps):
    """The last step of `from`: a number with a point is a fraction of all steps."""
    value = float(number) * steps if "." in number else float(number)
    return min(steps, int(value))


def text_at(node, step, steps):
    """The text a parse tree stands for at one step."""
    if node is None:
        return ""
    if isinstance(node, lark.Token):
        return str(node)
    if node.data == "switch":
        before, after, _, number, _ = node.children
        return text_at(before if step <= moment(number, steps) else after, step, steps)
    if node.data == "cycle":
        return text_at(node.children[(step - 1) % len(node.children)], step, steps)
    # a bare blank in a `run` comes as a token that lark keeps, so it is part of the text
    return "".join(text_at(child, step, steps) for child in node.children)


def schedule(text, steps):
    try:
        tree = PARSER.parse(text)
    except lark.exceptions.LarkError:
        return [[steps, text]]
    ends = {steps}
    for node in tree.iter_subtrees():
        if node.data == "switch":
            end = moment(node.children[-2], steps)
            if end >= 1:
                ends.add(end)
        elif node.data == "cycle":
            ends.update(range(1, steps + 1))
    return [[end, text_at(tree, end, steps)] for end in sorted(ends)]


TOKEN = re.compile(r"\\[()\[\]\\]|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
BREAK = re.compile(r"\s*\bBREAK\b\s*")


def fragments(text):
    """Emphasis: pairs of a text and its weight, or None where the WebUI raises."""
    pieces, rounds, squares = [], [], []

    def close(start, factor):
        for piece in pieces[start:]:
            piece[1] *= factor

    for match in TOKEN.finditer(text):
        token, number = match.group(0), match.group(1)
        if token[0] == "\\":
            pieces.append([token[1:], 1.0])
        elif token == "(":
            rounds.append(len(pieces))
        elif token == "[":
            squares.append(len(pieces))
        elif number is not None and rounds:
            try:
                factor = float(number)
            except ValueError:
                return None
            close(rounds.pop(), factor)
        elif token == ")" and rounds:
            close(rounds.pop(), 1.1)
        elif token == "]" and squares:
            close(squares.pop(), 1 / 1.1)
        else:
            first, *rest = BREAK.split(token)
            pieces.append([first, 1.0])
            for part in rest:
                pieces.append(["BREAK", -1])
                pieces.append([part, 1.0])
    for start in rounds:
        close(start, 1.1)
    for start in squares:
        close(start, 1 / 1.1)

    merged = []
    for text_, weight in pieces or [["", 1.0]]:
        if merged and merged[-1][1] == weight:
            merged[-1][0] += text_
        else:
            merged.append([text_, weight])
    return merged


AND = re.compile(r"\bAND\b")
PART = re.compile(r"^((?:\s|.)*?)(?:\s*:\s*([-+]?(?:\d+\.?|\d*\.\d+)))?\s*$")


def parts(text):
    found = []
    for part in AND.split(text):
        match = PART.search(part)
        words, weight = match.groups()
        found.append([words, 1.0 if weight is None else float(weight)])
    return found


DOCUMENTED_SCHEDULES = [
    "test", "a [b:3]", "a [b: 3]", "a [[[b]]:2]", "[(a:2):3]", "a [b : c : 1] d", "a[b:[c:d:2]:1]e",
    "a [unbalanced", "a [b:.5] c", "a [{b|d{:.5] c", "((a][:b:c [d:3]", "[a|(b:1.1)]", "[fe|]male",
    "[fe|||]male", "a [b:1.5] c",
    "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6]"
    "[ in background:0.25] [shoddy:masterful:0.5]",
]
DOCUMENTED_EMPHASIS = [
    "normal text", "an (important) word", "(unbalanced", r"\(literal\]", "(unnecessary)(parens)",
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
]
DOCUMENTED_PARTS = [
    "a cat AND a dog", "a cat :1.2 AND a dog AND a penguin :2.2",
    "creature_embedding in the woods:0.7 AND arcane_embedding:0.5 AND glitch_embedding:0.2",
    "creature_embedding on log AND frog:0.13 AND yellow eyes:0.08",
]
TRAPS = [
    "", " ", "a", "(", ")", "[", "]", "()", "[]", "(()", "())", "[[a]", "a))", "a]]", "((a))", "[[a]]", "([a])", "[(a)]",
    "(a:1.5)", "(a: 1.5 )", "(a :1.5)", "(a:+1.5)", "(a:-1)", "(a:0)", "(a:-0)", "(a:.5)", "(a:5.)", "(a:1.2", "a:1.2)", "(a:1.2))",
    "((a:1.2):1.3)", "(a:1.2:1.3)", "(a:b)", "(a:1,2)", "(a:1e1)", "(a:1.2.3)", "(a:.)", "(a:+)", "[a:1.5]", "[a:1.5)", "(a]", "[a)",
    "(a [b) c]", "[a (b] c)", "([a (b] c) d", "(a [b] c)", "((a) b [c) d]", r"\(a\)", r"\[a\]", r"\\", "\\", r"a\b", r"\\(a)", r"(a\)",
    r"(a\:1.2)", r"(\:1.2)", r"\:", r"(a)\:", r"(a) \ (b)", r"[a\]", r"\(\)\[\]\\", "BREAK", "a BREAK b", "aBREAK b", "a BREAKb",
    "a, BREAK, b", "a break b", "BREAK BREAK", "BREAK (b)", "(a) BREAK", "(a)BREAK(b)", "(a BREAK b)", "[a BREAK b]", "(a BREAK b:1)",
    "(a BREAK b:-1)", "(BREAK:-1)", "x (BREAK:-1)", "x (BREAK:0)", "a\n BREAK \nb", "_BREAK", "éBREAK", "-BREAK-", "a BREAK:1.2) b",
    "(a BREAK)", "(a:1.1)(b)", "(a) (b)", "(a:1)b", "a:b", "a::b", "a : b", ":", "::", ":)", "(:)", "(:1.2)", "(:1.2", "(a:\t1.2\n)",
     "日本語 (猫:1.2)", "👩‍🚀 (🚀)", "e\u0301 (e\u0301:1.2)", "\u00a0(a:\u00a01.2)", "a\x1cBREAK\x1cb",
    "[a:b:0.5]", "[a::0.5]", "[:a:0.5]", "[::0.5]", "[:0.5]", "[a:0]", "[a:1]", "[a:10]", "[a:11]", "[a:1000]", "[a:-3]", "[a:-.5]",
    "[a:+3]", "[a:1.0]", "[a:1.2]", "[a:0.99]", "[a:0.05]", "[a:5.]", "[a:.5e0]", "[a:1e1]", "[a:1E-1]", "[a:1.e-1]", "[a:1.5e-1]",
    "[a:3 ]", "[a: 3 ]", "[a:\n3\n]", "[ a : b : 3 ]", "[a:3a]", "[a:x3]", "[a:b]", "[a:b:c]", "[a:b:c:3]", "[a:b:3", "a:b:3]", "[a:b:3]]",
    "[[a:b:3]", "[a:3][b:4]", "[a:3]:4]", "[[a:3]:4]", "[a:[b:c:3]:4]", "[[a:b:2]:[c:d:8]:5]", "([a:b:5])", "(x [a:b:5] y:1.3)",
    "[([a:b:5]):3]", "(a:[b:3]:c)", "([b:3]:c)", "(c:[b:3])", "(a [b:c) d:3]", "[a:(b:3]", "[a:b):3]", "[ ( [a:3]", "( ) ] [a:3]", "[x (a] [b:3]",
    "[x:(a] [b:3]", "[[a:3]|b]", "[a|b]", "[a|b|c]", "[|a]", "[a|]", "[|]", "[||]", "a|b", "(a|b)", "[a|b", "[a|b:3]", "[a:b|c:3]", "[a|[b|c]]",
    "[[a|b]:c:5]", "[a|[b:c:5]]", "[a:[b|c]:5]", "[a|(b:1.1)|[c]]", r"[a\|b]", r"a\|b", r"[a\:b:3]", r"[a\]:3]", r"\[a:3]", r"[a:3\]", r"[a:\3]",
    "[a:3]\\", "\\[a:3]\\", "[a:3] \\\n", "[a\nb:3]", "[a\n|b\n]", "(a:b [c:3])", "(a:b:[c:3])", "[(a:b:[c:3]):4]", "[[[[a:1]:2]:3]:4]",
    "[a: b :3]", "[a:3:4]", "[3:4]", "[3]", "[3:4:5]", "[:3:4]", "[a:.]", "[a:1.2.3]", "[a:0.1:0.2]", "[a:0x1]", "[a:1_0]", "[a:٣]",
    "a cat AND a dog:1.2", "AND", "a AND", "AND a", "a AND AND b", "aAND b", "a ANDb", "a and b", "a,AND,b", "a_AND b", "(a AND b)",
    "[a AND b:3]", "a:1.2", "a :1.2 ", "a : 1.2\n", "a:1.", "a:.5", "a:-1", "a:+2", "a: 1 2", "a:1e3", "a::1", "a:1:2", ":1", "", "16:9", "a\n:2",
    "a:1 AND :2", "a \n AND \n b", "a AND b:1.2.3", "ANDAND", "a AND b AND c", "(a:1.2)", "(a:1.2) AND (b:1.3):2", "é AND ü", "éAND", "a:- 1",
]


def random_texts(count, alphabet, longest, seed):
    source = random.Random(seed)
    return ["".join(source.choice(alphabet) for _ in range(source.randint(1, longest))) for _ in range(count)]


RANDOM = (
    random_texts(150, ["a", "b", " ", "(", ")", "[", "]", ":", "|", "\\", "3", ".5", "BREAK", "AND"], 14, 1)
    + random_texts(150, ["[", "]", "[", "]", ":", "|", "a", "b", "2", ":.4]", ":3]", "(", ")"], 12, 2)
    + random_texts(100, ["(", ")", "[", "]", "a", " BREAK ", ":1.3)", ":-1)", ":0)", "\\", " "], 16, 3)
)


SEEDS = range(12)


def all_texts():
    return list(dict.fromkeys(DOCUMENTED_SCHEDULES + DOCUMENTED_EMPHASIS + DOCUMENTED_PARTS + TRAPS + RANDOM))


def schedules_under_one_seed():
    json.dump([[schedule(text, 10), schedule(text, 7)] for text in all_texts()], sys.stdout)


def schedules_under_all_seeds():
    """For each text the different answers, as [schedule of 10 steps, schedule of 7 steps]."""
    command = [sys.executable, __file__, "--one-seed"]
    runs = [
        json.loads(subprocess.check_output(command, env={**os.environ, "PYTHONHASHSEED": str(seed)}))
        for seed in SEEDS
    ]
    return [[answer for i, answer in enumerate(answers) if answer not in answers[:i]] for answers in zip(*runs)]


def main():
    lines = []
    for text, schedules in zip(all_texts(), schedules_under_all_seeds()):
        one = {
            "text": text,
            "fragments": fragments(text),
            "parts": parts(text),
            "schedules": [{"10": ten, "7": seven} for ten, seven in sorted(schedules)],
        }
        lines.append(json.dumps(one, ensure_ascii=False))
    print("[\n" + ",\n".join(lines) + "\n]")


if __name__ == "__main__":
    schedules_under_one_seed() if "--one-seed" in sys.argv else main()
