"""Tests of eval_humaneval.py: scores against exact arithmetic, batches against one-by-one, runs against uninterrupted runs.

    pytest tests/test_eval.py
    PHI1_BENCHMARKS=path/to/folder pytest tests/test_eval.py    # HumanEval and MBPP too, which are not downloaded here

Models are tiny and random. A machine without isolation for programs skips what judges any.
"""
import gzip
import hashlib
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import conftest  # first: it sets the number of threads
import pytest
import torch
import torch.nn.functional as F

import eval_humaneval as ev
from fake_openai import FakeOpenAI
from model import Phi, PhiConfig, load_model
from sandbox import Sandbox, SandboxError, Verdict
from tokenizer import load_tokenizer

ROOT = Path(conftest.ROOT)
BENCHMARKS = {"humaneval": 164, "mbpp": 500, "mbpp-sanitized": 427, "unseen": 50}
each_benchmark = pytest.mark.parametrize("name", BENCHMARKS)


def load(name, shots=0):
    folder = os.environ.get("PHI1_BENCHMARKS", "")
    if name in ev.FILES and not os.path.exists(os.path.join(folder, ev.FILES[name][0])):
        pytest.skip(f"PHI1_BENCHMARKS names no folder with {ev.FILES[name][0]}")
    return ev.load_benchmark(name, shots)[0]


@pytest.fixture(scope="module")
def box():
    try:
        with Sandbox(workers=2) as box:
            yield box
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A random model on bytes: weights large enough that its greedy text is no constant, context of 800."""
    path = tmp_path_factory.mktemp("model") / "run" / "ckpt.pt"
    path.parent.mkdir()
    torch.manual_seed(1)
    model = Phi(PhiConfig(vocab_size=257, context=800, n_layer=2, n_head=2, n_embd=64, rotary_dim=16))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    torch.save({"model": model.state_dict(), "model_config": asdict(model.config), "tokenizer": "bytes", "step": 7}, path)
    return path


ADD = {"task_id": "own/0", "prompt": "def add(a, b):\n    \"\"\"a + b\"\"\"\n", "canonical_solution": "    return a + b\n",
       "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n", "entry_point": "add"}
OWN = [{**ADD, "task_id": f"own/{i}", "prompt": f"def add(a, b):\n    \"\"\"a + b{' and so on' * i}\"\"\"\n"} for i in range(6)]


@pytest.fixture()
def own(tmp_path, monkeypatch):
    """A benchmark file of six problems, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in OWN))
    return "own.jsonl"


def run(monkeypatch, *argv):
    """The program in this process, with these arguments."""
    monkeypatch.setattr(sys, "argv", ["eval_humaneval.py", *map(str, argv)])
    args = ev.parse_args()
    return ev.compare(args.paths) if args.compare else ev.evaluate(args)


def command(*argv, launcher=(sys.executable,)):
    """The program in processes of its own, in the current folder."""
    return subprocess.Popen([*launcher, str(ROOT / "eval_humaneval.py"), *map(str, argv)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def contents(folder):
    """{file: bytes} of the folder of a run."""
    return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def write(path, rows):
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


# ---------------------------------------------------------------------------------------------------------- scores

def test_pass_at_k_is_the_share_of_all_draws_of_k_samples_that_hold_a_passing_one():
    for n in range(1, 8):
        for c, k in itertools.product(range(n + 1), range(1, n + 1)):
            draws = list(itertools.combinations(range(n), k))
            share = Fraction(sum(min(draw) < c for draw in draws), len(draws))
            assert abs(ev.pass_at_k(n, c, k) - share) < 1e-12


def test_pass_at_k_of_200_samples_equals_the_product_in_fractions():
    for c, k in itertools.product((0, 1, 3, 99, 150, 199, 200), (1, 10, 100, 200)):
        miss = Fraction(1)
        for drawn in range(k):  # every further draw misses too
            miss *= Fraction(max(0, 200 - c - drawn), 200 - drawn)
        assert abs(ev.pass_at_k(200, c, k) - (1 - miss)) < 1e-12


def test_wilsons_interval_ends_where_the_share_found_is_196_standard_errors_away():
    for P, passed in ((164, 83), (50, 0), (7, 7), (500, 1)):
        low, high, how = ev.interval([1.0] * passed + [0.0] * (P - passed))
        assert how == "Wilson" and low <= passed / P <= high
        for p in (low, high):
            if 0 < p < 1 - 1e-12:
                assert abs(abs(passed / P - p) - 1.959964 * math.sqrt(p * (1 - p) / P)) < 1e-6


def test_the_interval_over_several_samples_is_the_standard_error_over_problems():
    values = [0.1, 0.5, 0.5, 0.9, 0.2]
    half = 1.959964 * torch.tensor(values, dtype=torch.float64).std().item() / 5 ** 0.5
    low, high, how = ev.interval(values)
    assert (low, high) == pytest.approx((0.44 - half, 0.44 + half)) and "standard error" in how


def test_the_sign_test_counts_all_outcomes_of_fair_coins_that_are_as_uneven():
    for a, b in itertools.product(range(7), range(7)):
        outcomes = [sum(coins) for coins in itertools.product((0, 1), repeat=a + b)]
        as_uneven = sum(abs(heads - (a + b) / 2) >= abs(a - (a + b) / 2) for heads in outcomes)
        assert abs(ev.sign_test(a, b) - Fraction(as_uneven, len(outcomes))) < 1e-12


def write_run(folder, passed, n=1):
    Path(folder).mkdir()
    rows = [{"task_id": f"t/{i}", "n": n, "passed": c, "samples": []} for i, c in enumerate(passed)]
    write(f"{folder}/results.jsonl", rows)
    Path(folder, "results.json").write_text(json.dumps({"settings": {"benchmark": "x", "data_sha256": "1", "problems": len(passed), "temperature": 0}}))


def test_a_comparison_counts_pairs_and_refuses_other_problems(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run("a", [1, 1, 1, 0, 0, 0, 0, 0])
    write_run("b", [1, 0, 1, 1, 1, 1, 1, 0])
    run(monkeypatch, "a", "b", "--compare")
    out = capsys.readouterr().out
    assert "both pass 2, only A 1, only B 4, neither 1; 8 problems" in out
    assert "p         0.375" in out  # 2 * (1 + 5) / 32
    low, high = (100 * ((4 - 1) / 10 + side * 1.959964 / 10 * math.sqrt(4 + 1 + 1 - (4 - 1) ** 2 / 10)) for side in (-1, 1))  # their formula for pairs
    assert f"+37.5 points, 95% interval {low:+.1f} to {high:+.1f}" in out
    write_run("c", [1, 0])
    with pytest.raises(SystemExit, match="same problems"):
        run(monkeypatch, "a", "c", "--compare")
    write_run("d", [1, 0])
    Path("d", "results.jsonl").write_text("")
    for other in ("nowhere", "d"):
        with pytest.raises(SystemExit, match="not the folder of a finished run"):
            run(monkeypatch, "a", other, "--compare")


# ---------------------------------------------------------------------------------------------------------- benchmarks

@each_benchmark
@pytest.mark.parametrize("shots", [0, 3])
def test_no_canonical_solution_is_cut(name, shots):
    if shots and not name.startswith("mbpp"):
        pytest.skip("HumanEval's prompts have no examples")
    problems = load(name, shots)
    assert len(problems) == BENCHMARKS[name]
    assert not [p.task_id for p in problems if ev.cut(p.canonical, p.stops) != p.canonical]


def test_a_completion_is_cut_at_the_first_new_statement_of_the_top_level():
    assert ev.cut("    return 1\n\ndef next():\n    pass\nprint(1)", ev.HUMANEVAL_STOPS) == "    return 1\n"
    assert ev.cut("def a():\n    pass\n\ndef b():\n    a()\n\nassert b()", ev.MBPP_STOPS) == "def a():\n    pass\n\ndef b():\n    a()\n"
    assert ev.cut("    return 1\n[DONE]\n", ev.SHOT_STOPS) == "    return 1\n"


@each_benchmark
def test_every_canonical_solution_passes_and_every_stub_fails(name, box):
    problems = load(name)
    programs = [p.program(p.canonical, 20.0) for p in problems]
    stubs = []  # for time's sake of every fifth MBPP problem
    for p, stub in itertools.product(problems if problems[0].start else problems[::5], ("pass", "return None")):
        stubs.append(p)
        programs.append(p.program(f"    {stub}\n" if p.start else f"def {p.entry_point}(*args, **kwargs):\n    {stub}\n", 20.0))
    verdicts = {i: (verdict, reason) for i, verdict, reason, _ in ev.judge_all(box, programs)}
    assert not {p.task_id: verdicts[i] for i, p in enumerate(problems) if verdicts[i][0] != "passed"}
    stubs = [(p.task_id, *verdicts[i]) for i, p in enumerate(stubs, len(problems))]
    assert not [stub for stub in stubs if stub[1] not in ("wrong answer", "exception")]


def test_the_three_shots_never_hold_the_problem_itself():
    for problem in load("mbpp-sanitized", 3):
        assert problem.canonical not in problem.prompt and problem.prompt.count("[DONE]") == 3 and problem.prompt.endswith("[BEGIN]\n")


def test_a_file_is_downloaded_once_and_a_wrong_one_is_refused(tmp_path, monkeypatch):
    data = gzip.compress("".join(json.dumps(row) + "\n" for row in OWN).encode())
    fetched = []

    def urlopen(address, timeout):
        fetched.append(address)
        path = tmp_path / "served"
        path.write_bytes(data)
        return open(path, "rb")

    def no_network(address, timeout):
        raise OSError("no network")

    monkeypatch.setenv("PHI1_BENCHMARKS", str(tmp_path / "cache"))
    monkeypatch.setitem(ev.FILES, "humaneval", ("HumanEval.jsonl.gz", "https://example.org/x", hashlib.sha256(data).hexdigest()))
    monkeypatch.setattr(ev.urllib.request, "urlopen", no_network)
    with pytest.raises(SystemExit, match=r"cache/HumanEval.jsonl.gz is not there.*PHI1_BENCHMARKS.*unseen"):
        ev.load_benchmark("humaneval")
    monkeypatch.setattr(ev.urllib.request, "urlopen", urlopen)
    for _ in range(2):
        assert [p.task_id for p in ev.load_benchmark("humaneval")[0]] == [row["task_id"] for row in OWN]
    assert len(fetched) == 1 and os.listdir(tmp_path / "cache") == ["HumanEval.jsonl.gz"]
    (tmp_path / "cache" / "HumanEval.jsonl.gz").write_bytes(data + b"\0")
    with pytest.raises(SystemExit, match="has the sha256 .* and not"):
        ev.load_benchmark("humaneval")
    data += b"\0"  # the server's file is wrong: it must not reach the cache
    os.remove(tmp_path / "cache" / "HumanEval.jsonl.gz")
    with pytest.raises(SystemExit, match="https://example.org/x has the sha256"):
        ev.load_benchmark("humaneval")
    assert os.listdir(tmp_path / "cache") == []


@pytest.mark.parametrize("content, message", [
    ('{"task_id": "own/0"', "line 1: not JSON"), ('{"task_id": "own/0", "prompt": ""}', "line 1: no text in field 'canonical_solution'"),
    ("[]", "no text in field 'task_id'"), ("", "holds no problem"), (2 * (json.dumps(ADD) + "\n"), "has own/0 more than once")])
def test_a_bad_benchmark_file_gets_one_line(own, content, message):
    Path(own).write_text(content)
    with pytest.raises(SystemExit, match=message):
        ev.load_benchmark(own)


def test_an_unknown_benchmark_is_told_the_nearest_name():
    with pytest.raises(SystemExit, match="did you mean 'humaneval'"):
        ev.load_benchmark("humanevall")


# ---------------------------------------------------------------------------------------------------------- samples of others

@pytest.mark.parametrize("rows, message", [
    ([{"task_id": "own/9", "completion": ""}], "does not have: own/9"),
    ([{"task_id": "own/0", "completion": ""}], "no sample for 5 of 6 tasks: own/1"),
    ([{"task_id": "own/0", "completion": 3}], "line 1: no text in field 'completion'"), ([{"task_id": "own/0"}], "line 1: no text")])
def test_samples_that_do_not_match_the_benchmark_get_one_line(own, monkeypatch, rows, message):
    write("samples.jsonl", rows)
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, "--samples", "samples.jsonl", "--benchmark", own)
    assert not os.path.exists("results")


def test_samples_get_their_verdicts_whatever_the_number_of_workers(own, box, monkeypatch, capsys):
    bodies = ["import time; time.sleep(0.5); return a + b", "return a - b", "raise KeyError", "while True: pass", "import os; os._exit(0)", "x = [0] * 10**10"]
    write("samples.jsonl", [{"task_id": f"own/{i}", "completion": f"    {body}\n"} for i, body in enumerate(bodies)]
          + [{"task_id": "own/0", "completion": "    return a\n"}])  # judged before the slow first one where there are 3 workers
    for workers in (1, 3):
        run(monkeypatch, "--samples", "samples.jsonl", "--benchmark", own, "--workers", workers, "--out", f"w{workers}")
    assert contents("w1") == contents("w3")
    assert [row["samples"][0]["verdict"] for row in lines("w1/results.jsonl")] == [
        "passed", "wrong answer", "exception", "timed out", "crashed", "out of memory"]
    assert [sample["verdict"] for sample in lines("w1/results.jsonl")[0]["samples"]] == ["passed", "wrong answer"]
    assert json.loads(Path("w1/results.json").read_text())["scores"]["pass@1"]["value"] == 1 / 12
    write("similar.jsonl", [{"task_id": f"own/{i}", "similar": i == 1, "rate": rate} for i, rate in enumerate((0.97, 0.91, 0.1, 0.1, 0.86, 0.2))])
    capsys.readouterr()
    run(monkeypatch, "--samples", "samples.jsonl", "--benchmark", own, "--out", "w1", "--similar", "similar.jsonl")
    out = capsys.readouterr().out
    assert "is finished" in out and "as listed 0.0% of 1 similar problems, 10.0% of 5 others" in out and "tau 0.95  50.0% of 1 similar problems, 0.0% of 5 others" in out and "tau 0.85  16.7% of 3" in out


def test_grades_of_an_llm_are_asked_once_and_an_answer_without_a_grade_is_named(own, box, monkeypatch, capsys):
    said = {0: "All right.\nGrade: 10", 1: "Grade 0 to 10? Off by one, but the idea is there.\n**Grade: 7**", 2: "grade: 0", 3: "It depends.", 4: "Grade: 11"}

    def answer(prompt):
        i = prompt.count(" and so on")
        assert OWN[i]["prompt"] in prompt and f"    return {i}\n" in prompt, "the exercise and the answer are shown"
        return said[i]

    write("samples.jsonl", [{"task_id": f"own/{i}", "completion": f"    return {j}\n"} for i in range(5) for j in (i, 77)])  # the first counts
    write(own, OWN[:5])
    settings = ["--samples", "samples.jsonl", "--benchmark", own, "--out", "out"]
    with FakeOpenAI(answer, faults=("429 ms", "cut before"), fault_rate=0.3) as server:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        run(monkeypatch, *settings)
        assert not server.log, "nobody is asked without --grade"
        before, outputs = contents("out"), []
        for times in (1, 1, 2):
            capsys.readouterr()
            run(monkeypatch, *settings, "--grade", "--grader", "fake-1")
            outputs.append(capsys.readouterr().out)
            assert {name: data for name, data in contents("out").items() if "grades" not in name} == before
            assert sorted(server.answered.values()) == [1] * (6 - times) + [2] * (times - 1), "no answer is paid twice"
            kept = Path("out", "grades-fake-1.jsonl").read_bytes().splitlines(keepends=True)
            if times == 1 and len(outputs) == 2:  # as if interrupted before the last answer was whole: that one is asked again
                Path("out", "grades-fake-1.jsonl").write_bytes(b"".join(kept[:-1]) + kept[-1][:20])
    low, high, _ = ev.interval([1.0, 0.7, 0.0])
    for out in outputs:
        assert f"grade      56.7%   understanding of 3 answers, as fake-1 sees it; 95% interval {low:.1%} to {high:.1%}" in out
        assert "ungraded  2 of 5, for want of an answer that ends in a grade: own/3, own/4" in out


def test_a_failure_of_the_harness_is_tried_again_and_no_verdict(own, monkeypatch, tmp_path):
    class Box:  # judges two programs at once, and breaks on every program that says so while `broken`
        broken, level = True, "none"
        def judge(self, programs):
            for i, program in enumerate(programs):
                if "break" in program.code and self.broken:
                    raise SandboxError(f"program {i}: no memory")
                yield i, Verdict("passed", "", 0.1)

    problems = ev.load_benchmark(own)[0]
    samples = {(i, 0): "break" if i in (1, 4) else "" for i in range(6)}
    with pytest.raises(SystemExit, match=r"failed on 2 problems.*own/1, own/4.*no memory"):
        ev.judge_samples(Box(), problems, samples, [0.1] * 6, str(tmp_path))
    assert sorted(row["i"] for row in lines(tmp_path / "verdicts.jsonl")) == [0, 2, 3, 5]
    Box.broken = False
    assert ev.judge_samples(Box(), problems, samples, [0.1] * 6, str(tmp_path)) == {key: ("passed", "") for key in samples}


# ---------------------------------------------------------------------------------------------------------- a model's run

def by_hand(model, encoding, prompt, new):
    """Greedy continuation, the whole sequence through the model for every token."""
    ids = list(prompt)
    while len(ids) < min(len(prompt) + new, model.config.context):
        token = model(torch.tensor([ids]))[0][0, -1, :encoding.n_vocab].argmax().item()
        if token == encoding.eot_token:
            break
        ids.append(token)
    return encoding.decode(ids[len(prompt):])


@torch.no_grad()
def test_a_batched_run_equals_generation_one_by_one_and_names_what_does_not_fit(own, box, checkpoint, monkeypatch, capsys):
    write(own, OWN + [{**ADD, "task_id": "own/long", "prompt": "#" * 800 + "\n" + ADD["prompt"]}])
    run(monkeypatch, checkpoint, "--benchmark", own, "--max_new_tokens", 40, "--batch_size", 4, "--out", "out")
    model, _ = load_model(checkpoint)
    encoding = load_tokenizer("bytes")
    rows = lines("out/samples.jsonl")
    assert len({row["raw_completion"] for row in rows}) > 4, "these texts would not show a mix-up"
    for row, problem in zip(rows, OWN):
        whole = by_hand(model, encoding, encoding.encode_ordinary(problem["prompt"]), 40)
        assert ev.cut(row["raw_completion"], ev.HUMANEVAL_STOPS) == ev.cut(whole, ev.HUMANEVAL_STOPS) == row["completion"]
        assert whole.startswith(row["raw_completion"].rstrip("\ufffd"))
    assert rows[-1] == {"task_id": "own/long", "completion": "", "raw_completion": ""}
    assert lines("out/results.jsonl")[-1]["samples"] == [{"verdict": "prompt too long", "reason": ""}]
    assert "1 prompts do not fit" in (out := capsys.readouterr().out) and "own/long" in out

    for row, problem in zip(lines("out/results.jsonl"), OWN):  # bits of the solution, token by token
        prompt, solution = (encoding.encode_ordinary(problem[name]) for name in ("prompt", "canonical_solution"))
        nats = [-F.log_softmax(model(torch.tensor([prompt + solution[:t]]))[0][0, -1], -1)[token].item()
                for t, token in enumerate(solution)]
        assert row["bits"] == pytest.approx(sum(nats) / math.log(2), abs=0.01) and row["bytes"] == len(problem["canonical_solution"])


def test_sampled_text_depends_neither_on_the_batch_nor_on_the_ranks(own, box, checkpoint, monkeypatch):
    settings = [checkpoint, "--benchmark", own, "-n", 3, "--temperature", 0.7, "--max_new_tokens", 30]
    ranks = command(*settings, "--out", "two", launcher=(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2",
                                                         "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"))
    run(monkeypatch, *settings, "--out", "one", "--batch_size", 1)
    run(monkeypatch, *settings, "--out", "many", "--batch_size", 7)
    output = ranks.communicate(timeout=100)[0]
    assert ranks.returncode == 0, output
    assert contents("one") == contents("many") == contents("two")
    assert len({row["raw_completion"] for row in lines("one/samples.jsonl")}) == 18


def test_samples_that_someone_removes_meanwhile_are_missed(own, box, checkpoint, monkeypatch):
    def meet(value=None):
        for path in Path("out/part").glob("samples.*"):
            path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
        return [value]
    monkeypatch.setattr(ev, "meet", meet)
    with pytest.raises(SystemExit, match="out/part lacks samples for own/4 .* The same command makes them again"):
        run(monkeypatch, checkpoint, "--benchmark", own, "--max_new_tokens", 3, "--batch_size", 1, "--out", "out")


def test_a_killed_run_continues_to_the_same_files_and_refuses_other_settings(own, box, checkpoint, monkeypatch, capsys):
    settings = [checkpoint, "--benchmark", own, "-n", 4, "--temperature", 0.7, "--max_new_tokens", 150, "--batch_size", 2]
    part = Path("killed [1]/part/samples.0.jsonl")
    process = command(*settings, "--out", "killed [1]")
    deadline = time.time() + 60
    while time.time() < deadline and not (part.exists() and part.read_bytes().count(b"\n") >= 5):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = part.read_bytes().splitlines(keepends=True)
    assert 5 <= len(kept) < 24, "killed in the middle"
    part.write_bytes(b"".join(kept[:5]) + b"\0\0\0\0\0\n" + kept[4][:20])  # in the middle of the second problem, damaged and torn
    Path("killed [1]", "samples.jsonl.123.tmp").write_text("half")  # of a kill or a full disk at the end
    Path("killed [1]", "mine.tmp").write_text("a user's")

    with pytest.raises(SystemExit, match="was made with seed = 1337, and now it is 1: choose another --out"):
        run(monkeypatch, *settings, "--out", "killed [1]", "--seed", 1)
    made = []
    monkeypatch.setattr(ev, "generate", lambda *args, real=ev.generate: made.extend(args[-1]) or real(*args))
    run(monkeypatch, *settings, "--out", "killed [1]")
    assert len(made) == 24 - 5, "what was there is not made again"
    run(monkeypatch, *settings, "--out", "whole")
    assert contents("killed [1]") == {**contents("whole"), "mine.tmp": b"a user's"}

    before = contents("whole")
    capsys.readouterr()
    run(monkeypatch, *settings, "--out", "whole")
    assert "whole is finished" in capsys.readouterr().out and contents("whole") == before
    Path("killed [1]", "results.jsonl").write_bytes(b"".join(before["results.jsonl"].splitlines(keepends=True)[:2]))
    with pytest.raises(SystemExit, match="has 2 problems of 6"):
        run(monkeypatch, *settings, "--out", "killed [1]")
    Path("killed [1]", "results.jsonl").write_bytes(before["results.jsonl"].replace(b'"n"', b'"m"'))
    with pytest.raises(SystemExit, match="was changed since"):
        run(monkeypatch, *settings, "--out", "killed [1]")
    with pytest.raises(SystemExit, match="was made with eot = False"):
        run(monkeypatch, *settings, "--out", "whole", "--eot")
    with pytest.raises(SystemExit, match="holds files, but no run"):
        run(monkeypatch, *settings, "--out", ".")


def test_a_stripped_prompt_makes_the_same_program_when_the_model_writes_the_newline(own, box, checkpoint, monkeypatch):
    prompts = []

    def generate(model, encoding, ids, *args):
        prompts.extend(map(encoding.decode, ids))
        for i, _ in args[-1]:
            for token in encoding.encode_ordinary("\n    return a + b\n\nprint(1)\n"):
                yield i, 0, token
            yield i, 0, None

    monkeypatch.setattr(ev, "generate", generate)
    run(monkeypatch, checkpoint, "--benchmark", own, "--strip", "--eot", "--out", "out")
    assert prompts == ["<|endoftext|>" + row["prompt"].strip() for row in OWN]
    assert {row["completion"] for row in lines("out/samples.jsonl")} == {"    return a + b\n"}
    assert all(row["passed"] == 1 for row in lines("out/results.jsonl"))


def test_a_name_that_would_steer_the_terminal_is_refused():
    with pytest.raises(SystemExit, match=r"line 2: '\\x1b\[2JHumanEval/0' is no task_id"):
        list(ev.read_rows("s.jsonl", b'{"task_id": "a"}\n{"task_id": "\\u001b[2JHumanEval/0"}\n', ("task_id",)))


def test_help_comes_before_torch():
    code = ("import sys, runpy; sys.argv = ['eval_humaneval.py', '--help']\n"
            "try: runpy.run_path('eval_humaneval.py', run_name='__main__')\n"
            "except SystemExit: assert 'torch' not in sys.modules\n")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("command", [["nowhere/"], ["--samples", "nowhere.jsonl"]])
def test_a_model_or_file_that_is_not_there_is_named_before_a_benchmark_is_downloaded(tmp_path, command):
    done = conftest.run("eval_humaneval.py", *command, env={**os.environ, "PHI1_BENCHMARKS": str(tmp_path / "empty")})
    assert done.returncode == 1 and done.stdout == "" and done.stderr.startswith(f"{command[-1]} is not there: name a checkpoint")
