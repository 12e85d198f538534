"""Tests of problems/unseen.jsonl, our fifty problems in HumanEval's format.

    pytest tests/test_unseen.py
    PHI1_BENCHMARKS=path/to/folder pytest tests/test_unseen.py     # the overlap tests too

The overlap tests compare with HumanEval and MBPP. They read HumanEval.jsonl.gz, mbpp.jsonl and sanitized-mbpp.json from
the folder that PHI1_BENCHMARKS names and are skipped without it. The programs run here are our own: no sandbox.
"""
import ast
import builtins
import copy
import doctest
import gzip
import json
import os
import re
import time
import warnings
from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path

import pytest

UNSEEN = Path(__file__).resolve().parent.parent / "problems" / "unseen.jsonl"
PROBLEMS = [json.loads(line) for line in UNSEEN.read_text(encoding="utf-8").splitlines()]
each_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=[p["entry_point"] for p in PROBLEMS])

# A completion is cut at the first of these after the prompt, so a canonical solution must hold none (nor its first line start one).
STOPS = ("\nclass ", "\ndef ", "\n#", "\n@", "\nprint", "\nif ", "\n```", "<|endoftext|>")
LITERALS = (int, float, str, bool, type(None), list, tuple, dict, set)
NGRAM = 13  # words in a row; the length that decontamination uses
# Bound on the similarity of two solutions, 1 being equal up to names and constants. For scale: a HumanEval solution's closest
# neighbour in MBPP is at 0.67 in the median and at 1.00 at most; short loops over a list look alike (measured).
MAX_SIMILARITY = 0.80


def run_check(problem: dict, body: str, wrap=lambda function: function) -> None:
    """Run the problem's check on prompt + body, put together as an evaluation does. Raises whatever the program raises."""
    names = {}
    exec(problem["prompt"] + body + "\n" + problem["test"], names)
    names["check"](wrap(names[problem["entry_point"]]))


def signature(problem: dict) -> ast.FunctionDef:
    return ast.parse(problem["prompt"]).body[-1]


def asserts_of(problem: dict) -> list[ast.Assert]:
    return ast.parse(problem["test"]).body[0].body


# ---------------------------------------------------------------------------------------------------------- format

def test_there_are_fifty_problems_numbered_in_order():
    assert [p["task_id"] for p in PROBLEMS] == [f"unseen/{i}" for i in range(50)]


def test_the_file_is_ascii_with_one_object_per_line():
    data = UNSEEN.read_bytes()
    assert data.isascii() and data.endswith(b"}\n") and b"\r" not in data and data.count(b"\n") == 50


def test_entry_points_are_unique():
    assert len({p["entry_point"] for p in PROBLEMS}) == 50


@each_problem
def test_fields_are_exactly_those_of_humaneval(problem):
    assert list(problem) == ["task_id", "prompt", "canonical_solution", "test", "entry_point"]
    assert all(type(value) is str for value in problem.values())


@each_problem
def test_the_prompt_is_a_typed_signature_with_a_docstring_and_ends_in_one_newline(problem):
    prompt = problem["prompt"]
    function = signature(problem)
    assert prompt.endswith('\n    """\n') and function.name == problem["entry_point"]
    assert function.args.args and all(a.annotation for a in function.args.args) and function.returns
    assert len(function.body) == 1 and ast.get_docstring(function), "the prompt holds nothing but the docstring"
    lines = prompt.split('"""')[1].strip().splitlines()
    assert 3 <= len(lines) <= 12, f"docstring of {len(lines)} lines"
    assert max(map(len, prompt.splitlines())) <= 92


@each_problem
def test_the_canonical_solution_is_an_indented_body_that_no_stop_string_cuts(problem):
    body = problem["canonical_solution"]
    assert body.endswith("\n") and not body.endswith("\n\n")
    assert all(line == "" or line.startswith("    ") for line in body.splitlines())
    assert not any(stop in "\n" + body for stop in STOPS)


@each_problem
def test_the_canonical_solution_neither_reads_nor_prints_nor_imports(problem):
    tree = ast.parse(problem["prompt"] + problem["canonical_solution"])
    assert not any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(tree))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"open", "input", "print", "eval", "exec", "compile", "globals", "__import__"}


@each_problem
def test_the_test_is_one_function_check_with_six_different_asserts_or_more(problem):
    (check,) = ast.parse(problem["test"]).body
    assert check.name == "check" and [a.arg for a in check.args.args] == ["candidate"]
    assert problem["test"].startswith("def check(candidate):\n") and problem["test"].endswith("\n")
    calls = set()
    for statement in check.body:
        assert isinstance(statement, ast.Assert) and isinstance(statement.test, ast.Compare)
        assert isinstance(statement.test.ops[0], ast.Eq)
        ast.literal_eval(statement.test.comparators[0])
        calls.add(ast.unparse(statement.test.left))
    assert len(calls) == len(check.body) >= 6


# ---------------------------------------------------------------------------------------------------------- answers

@each_problem
def test_the_canonical_solution_passes_its_check_in_milliseconds(problem):
    start = time.process_time()
    run_check(problem, problem["canonical_solution"])
    assert time.process_time() - start < 0.25


@each_problem
def test_the_examples_of_the_docstring_hold(problem):
    examples = doctest.DocTestParser().get_examples(ast.get_docstring(signature(problem)))
    names = {}
    exec(problem["prompt"] + problem["canonical_solution"], names)
    assert 1 <= len(examples) <= 2
    for example in examples:
        result = eval(example.source, names)
        assert repr(result) == example.want.strip(), example.source


@each_problem
def test_arguments_and_results_are_literals_and_arguments_stay_as_they_were(problem):
    def is_literal(value):
        if isinstance(value, dict):
            value = [*value, *value.values()]
        return type(value) in LITERALS and (not isinstance(value, (list, tuple, set)) or all(map(is_literal, value)))

    def wrap(function):
        def call(*args):
            before = repr(args)
            result = function(*args)
            assert repr(args) == before and is_literal(list(args)) and is_literal(result)
            return result
        return call

    run_check(problem, problem["canonical_solution"], wrap)


@each_problem
@pytest.mark.parametrize("stub", ["pass", "return None", "return FIRST", "return 0", "return []", 'return ""',
                                  "return True", "return False", "return {}", "return 1"])
def test_stubs_fail(problem, stub):
    body = "    " + stub.replace("FIRST", signature(problem).args.args[0].arg) + "\n"
    with pytest.raises(AssertionError):
        run_check(problem, body)


@each_problem
def test_no_constant_answers_half_of_the_asserts_or_more_unless_it_is_a_bool(problem):
    wanted = Counter(repr(ast.literal_eval(a.test.comparators[0])) for a in asserts_of(problem))
    answer, times = wanted.most_common(1)[0]
    assert answer in ("True", "False") or 2 * times < sum(wanted.values()), f"{answer} is right {times} times"


# ---------------------------------------------------------------------------------------------------------- overlap

@pytest.fixture(scope="module")
def benchmarks() -> list[dict]:
    """HumanEval (164), MBPP (974) and its sanitized version (427): [{name, text, code, tests, functions}, ...]"""
    folder = os.environ.get("PHI1_BENCHMARKS")
    if not folder:
        pytest.skip("PHI1_BENCHMARKS is not set: it names the folder with HumanEval.jsonl.gz, mbpp.jsonl, sanitized-mbpp.json")
    rows = []
    for line in gzip.open(Path(folder, "HumanEval.jsonl.gz"), "rt", encoding="utf-8"):
        row = json.loads(line)
        rows.append(dict(name=row["task_id"], text=row["prompt"], code=row["prompt"] + row["canonical_solution"], tests=row["test"]))
    with open(Path(folder, "mbpp.jsonl"), encoding="utf-8") as file:
        mbpp = [json.loads(line) for line in file]
    sanitized = json.loads(Path(folder, "sanitized-mbpp.json").read_text(encoding="utf-8"))
    for source, data in ("MBPP", mbpp), ("MBPP sanitized", sanitized):
        for row in data:
            text = row["text"] if "text" in row else row["prompt"]
            code = row["code"].replace("\r\n", "\n")
            rows.append(dict(name=f"{source}/{row['task_id']}", text=text, code=code, tests="\n".join(row["test_list"])))
    assert len(rows) == 164 + 974 + 427
    with warnings.catch_warnings():  # MBPP's regular expressions hold invalid escapes such as "\d"
        warnings.simplefilter("ignore")
        for row in rows:
            row["functions"] = [node for node in ast.walk(ast.parse(row["code"])) if isinstance(node, ast.FunctionDef)]
    return rows


def ngrams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i:i + NGRAM]) for i in range(len(words) - NGRAM + 1)}


def shape(code: ast.FunctionDef) -> list[str]:
    """The function's syntax as a list of words: own names become "name", constants their type; docstring and types are left out.

    x = max(a, 3)  ->  name = max ( name , int )
    """
    code = copy.deepcopy(code)
    if isinstance(code.body[0], ast.Expr) and isinstance(code.body[0].value, ast.Constant):
        code.body = code.body[1:] or [ast.Pass()]
    for node in ast.walk(code):
        if isinstance(node, ast.Name) and not hasattr(builtins, node.id):
            node.id = "name"
        elif isinstance(node, ast.arg):
            node.arg, node.annotation = "name", None
        elif isinstance(node, ast.FunctionDef):
            node.name, node.returns = "name", None
        elif isinstance(node, ast.JoinedStr):
            node.values = [value for value in node.values if isinstance(value, ast.FormattedValue)]
            for value in node.values:
                value.format_spec = None
        elif isinstance(node, ast.Constant):
            node.value = type(node.value).__name__
    return re.findall(r"\w+|[^\w\s']+", ast.unparse(code))


def test_no_entry_point_is_a_function_of_humaneval_or_mbpp(benchmarks):
    taken = {function.name.lower(): row["name"] for row in benchmarks for function in row["functions"]}
    clashes = {p["entry_point"]: taken[p["entry_point"]] for p in PROBLEMS if p["entry_point"] in taken}
    assert not clashes


def test_no_thirteen_words_in_a_row_of_a_prompt_stand_in_humaneval_or_mbpp(benchmarks):
    theirs = {}
    for row in benchmarks:
        for gram in ngrams(row["text"]) | ngrams(row["code"]) | ngrams(row["tests"]):
            theirs[gram] = row["name"]
    for problem in PROBLEMS:
        for part in "prompt", "canonical_solution", "test":
            shared = {" ".join(gram): theirs[gram] for gram in ngrams(problem[part]) if gram in theirs}
            assert not shared, f"{problem['task_id']}, {part}"


def test_no_canonical_solution_is_built_like_one_of_humaneval_or_mbpp(benchmarks):
    theirs = [(row["name"], shape(function)) for row in benchmarks for function in row["functions"]]
    closest = (0.0, "", "")
    matcher = SequenceMatcher(autojunk=False)
    for problem in PROBLEMS:
        matcher.set_seq2(shape(ast.parse(problem["prompt"] + problem["canonical_solution"]).body[-1]))
        for name, words in theirs:
            matcher.set_seq1(words)
            # the two quick ratios are upper bounds: most pairs end there
            if matcher.real_quick_ratio() > closest[0] and matcher.quick_ratio() > closest[0]:
                closest = max(closest, (matcher.ratio(), problem["entry_point"], name))
    assert closest[0] < MAX_SIMILARITY, f"closest pair: {closest[1]} and {closest[2]}, similarity {closest[0]:.3f}"
