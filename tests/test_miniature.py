"""runs/miniature.py and runs/plot.py: what the demo's claim rests on."""
import ast
import collections
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT, run
from tokenizer import load_tokenizer, train_bpe


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """The miniature's files, a tenth as large as the demo's."""
    folder = tmp_path_factory.mktemp("miniature")
    done = run("runs/miniature.py", "corpora", folder, "--megabytes", "0.3")
    assert done.returncode == 0, done.stderr
    return folder


def combinations(text):
    """The returned expressions of all functions in a text, with the same name for every argument and constant, but for those that
    belong to an operation (x % 2 == 0, x ** 2)."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            arguments = "|".join(argument.arg for argument in node.args.args) or "-"
            for statement in ast.walk(node):
                if isinstance(statement, ast.Return) and statement.value is not None:
                    code = re.sub(rf"\b({arguments})\b", "argument", ast.unparse(statement.value))
                    yield re.sub(r"'[-,+/a-z]'|(?<=[<>+-] )[2-9]|(?<=!= )\d|(?<=% )[3-9]", "_", code)


def code_in(name, text):
    return text[text.index("def "):] if name == "textbook" else text


def test_no_text_to_train_on_holds_a_problem(corpora):
    held_out = {code for row in lines(corpora / "problems.jsonl") for code in combinations(row["prompt"] + row["canonical_solution"])}
    assert len(held_out) > 60
    seen = 0
    for name in ("web", "textbook", "exercises"):
        for row in lines(corpora / f"{name}.jsonl"):
            try:
                codes = set(combinations(code_in(name, row["text"])))
            except SyntaxError:
                assert name == "web"  # the last file is cut short
                continue
            seen += len(codes)
            assert not held_out & codes, (name, row)
    assert seen > 2000
    # the comparison does find a function under other names and constants, and tells other operations apart
    one, same, other = (set(combinations(f"def f({arg}):\n    return sorted([x + {j} for x in {arg} if x % 2 == {k}])")) for arg, j, k in
                        (("values", 3, 0), ("nums", 9, 0), ("nums", 9, 1)))
    assert one == same != other


def test_a_problem_passes_with_its_solution_and_fails_with_the_next_ones(corpora):
    rows = lines(corpora / "problems.jsonl")
    assert len(rows) > 60 and len({row["task_id"] for row in rows}) == len(rows)
    for i, row in enumerate(rows):
        scope = {}
        exec(row["prompt"] + row["canonical_solution"] + row["test"], scope)
        scope["check"](scope[row["entry_point"]])
        assert row["test"].count("assert") >= 5
        for wrong in (lambda argument: None, lambda argument: argument, lambda argument: [], lambda argument: 0):
            with pytest.raises((AssertionError, TypeError)):
                scope["check"](wrong)


def test_what_the_textbook_prints_is_what_its_functions_return(corpora):
    checked = 0
    for row in lines(corpora / "textbook.jsonl"):
        code, call, result = re.fullmatch(r".*?(def .*)\nprint\((.*)\)  # (.*)\n", row["text"], re.DOTALL).groups()
        scope = {}
        exec(code, scope)
        assert repr(eval(call, scope)) == result
        checked += 1
    assert checked > 500


def test_every_part_of_a_problem_is_read_about(corpora):
    """A held-out combination is of known parts: each filter, map and reduction is in the exercises with others."""
    exercises = " ".join(row["text"] for row in lines(corpora / "exercises.jsonl"))
    for row in lines(corpora / "problems.jsonl"):
        for part in re.findall(r" if (.*?)\]|\[(.*?) for |return (\w+)\(", row["canonical_solution"]):
            part = re.sub(r"\d", r"\\d", re.escape("".join(part)))
            assert re.search(part, exercises), row


def test_the_same_seed_makes_the_same_files_and_another_holds_out_others(corpora, tmp_path):
    for seed in ("1", "2"):
        assert run("runs/miniature.py", "corpora", tmp_path / seed, "--megabytes", "0.02", "--seed", seed).returncode == 0
    first, again, other = (lines(folder / "problems.jsonl") for folder in (corpora, tmp_path / "1", tmp_path / "2"))
    tasks = [{tuple(row["task"]) for row in rows} for rows in (first, again, other)]
    assert tasks[0] == tasks[1] and len(tasks[0] & tasks[2]) < len(tasks[0]) / 2
    exercises = [lines(folder / "exercises.jsonl")[:20] for folder in (tmp_path / "1", tmp_path / "2")]
    assert exercises[0] != exercises[1]


def test_every_byte_pair_was_the_most_frequent_one_when_it_was_joined():
    with open(os.path.join(ROOT, "train.py"), encoding="utf-8") as f:
        text = f.read(30_000)
    words = [[bytes([b]) for b in word.encode()] for word in re.findall(r" ?[a-zA-Z]+| ?\d+| ?[^\w\s]+|_+| {2,31}|\s", text)]
    ranks = list(train_bpe([text], 256 + 60))
    assert ranks[:256] == [bytes([i]) for i in range(256)]
    for token in ranks[256:]:
        counts = collections.Counter(pair for word in words for pair in zip(word, word[1:]))
        pair = max((pair for pair in counts if pair[0] + pair[1] == token), key=counts.get)
        assert counts[pair] == max(counts.values())
        for word in words:
            for i in range(len(word) - 1, 0, -1):
                if (word[i - 1], word[i]) == pair and word[i] != word[i - 1]:
                    word[i - 1:i + 1] = [token]
            if pair[0] == pair[1]:  # of three in a row the first two are joined
                i = 0
                while i < len(word) - 1:
                    if word[i] == word[i + 1] == pair[0]:
                        word[i:i + 2] = [token]
                    i += 1


def test_a_trained_tokenizer_reads_back_every_text(corpora):
    encoding = load_tokenizer(str(corpora / "bpe.tiktoken"))
    assert encoding.n_vocab == 1024 and encoding.eot_token == 1023
    for text in ("def f(x):\n    return x", "\t\tümlaut €\r\n   \x00", "<|endoftext|>"):
        ids = encoding.encode_ordinary(text)
        assert encoding.decode(ids) == text and 1023 not in ids
    exercise = lines(corpora / "exercises.jsonl")[0]["text"]
    assert len(encoding.encode_ordinary(exercise)) < len(exercise) / 2.5


@pytest.mark.parametrize("content, says", [(None, "No such file or directory;"), (b"not base64 at all\n", "not a file of ranks"), (b"YQ== 0\n", "256 bytes")])
def test_a_tokenizer_file_that_is_none_is_one_line(tmp_path, content, says):
    path = tmp_path / "x.tiktoken"
    if content:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match=says):
        load_tokenizer(str(path))


def test_a_relative_path_of_a_tokenizer_says_what_it_is_relative_to():
    with pytest.raises(SystemExit, match="^no/x.tiktoken: No such file or directory .the path is relative to the folder where the model was trained.;"):
        load_tokenizer("no/x.tiktoken")


DEMO_STUB = """import sys
print("RUN", *sys.argv[1:])
sys.exit(sys.argv[1] == "eval_humaneval.py" and "--allow_unsafe" not in sys.argv)"""


@pytest.mark.parametrize("script", ["demo", "proxy"])
def test_where_the_sandbox_refuses_nothing_is_trained(tmp_path, script):
    """With a python that only says what it is asked for, and an evaluation that refuses unless it is allowed."""
    (tmp_path / "runs").mkdir(), (tmp_path / "bin").mkdir()
    shutil.copy(os.path.join(ROOT, "runs", f"{script}.sh"), tmp_path / "runs")
    (tmp_path / "bin" / "python").write_text(f"#!{sys.executable}\n{DEMO_STUB}")
    (tmp_path / "bin" / "python").chmod(0o755)
    for more, code, evaluations in ({}, 1, 1), ({"EVAL": "--allow_unsafe"}, 0, 4):
        done = subprocess.run(["bash", f"runs/{script}.sh"], cwd=tmp_path, capture_output=True, text=True,
                              env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", **more})
        asked = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("RUN")]
        assert done.returncode == code and asked.count("eval_humaneval.py") == evaluations and ("train.py" in asked) == (code == 0)


def make_results(folder, rates):
    for name, rate in zip(("web", "textbook", "exercises"), rates):
        out = folder / "out" / name
        out.mkdir(parents=True)
        (out / "log.jsonl").write_text('{"step": 0, "val_loss": 7.0}\n{"step": 9, "loss": 2.0, "lr": 0.1, "tok_per_s": 5.0, "tokens": 1200000}\n'
                                       '{"step": 9, "val_loss": 1.25}\n{"torn')
        result = {"model": str(out / "ckpt.pt"), "scores": {"problems": 50, "bits_per_byte": 0.5, "pass@1": {"value": rate, "low": 0.0, "high": 1.0}}}
        (folder / name).mkdir()
        (folder / name / "results.json").write_text(json.dumps(result))


def test_the_table_says_what_was_measured_and_fails_where_it_falls_short(tmp_path):
    (tmp_path / "good").mkdir(), (tmp_path / "bad").mkdir()
    make_results(tmp_path / "good", (0.0, 0.3, 0.9))
    make_results(tmp_path / "bad", (0.35, 0.5, 0.9))
    good, bad = (run("runs/miniature.py", "table", tmp_path / name) for name in ("good", "bad"))
    assert good.returncode == 0, good.stderr
    assert re.search(r"textbook, then exercises +1.2M \+ 1.2M +1.250 +0.500 +90.0%", good.stdout)
    assert bad.returncode == 1 and "NOT reproduced" in bad.stderr and "What this shows" in good.stdout and "What this shows" not in bad.stdout
    missing = run("runs/miniature.py", "table", tmp_path)
    assert missing.returncode == 1 and "runs/demo.sh" in missing.stderr and "Traceback" not in missing.stderr


def test_curves_are_drawn_or_say_what_is_missing(tmp_path):
    make_results(tmp_path, (0.0, 0.3, 0.9))
    done = run("runs/plot.py", tmp_path / "out" / "web", tmp_path / "out" / "textbook" / "log.jsonl", "--out", tmp_path / "x.svg")
    if "pip install matplotlib" in done.stderr:
        assert done.returncode == 1 and done.stderr.count("\n") == 1
    else:
        picture = (tmp_path / "x.svg").read_text()
        assert done.returncode == 0 and picture.count('id="line2d') > 20 and "tokens per second" in picture
    nothing = run("runs/plot.py", tmp_path)
    assert nothing.returncode == 1 and nothing.stderr.count("\n") == 1 and "log.jsonl" in nothing.stderr
