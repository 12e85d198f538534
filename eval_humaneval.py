"""
Score a model on HumanEval, MBPP, or problems of our own ("Textbooks Are All You Need", arXiv 2306.11644, sections 3 to 5).

    python eval_humaneval.py out/phi1/ckpt.pt                                # HumanEval, greedy, pass@1 with its interval
    python eval_humaneval.py phi-1/ --benchmark mbpp                         # a Hugging Face folder; mbpp-sanitized, unseen, or a path
    python eval_humaneval.py out/phi1/ckpt.pt -n 50 --temperature 0.2 --top_p 0.95 -k 1 10
    torchrun --nproc_per_node=8 eval_humaneval.py out/phi1/ckpt.pt -n 200    # problems shared among ranks
    python eval_humaneval.py --samples samples.jsonl                         # completions made elsewhere, in human-eval's format
    python eval_humaneval.py --oracle --benchmark humaneval                  # the canonical solutions, no model needed: must be 164/164
    python eval_humaneval.py out/phi1/ckpt.pt --similar similar.jsonl        # similar and other problems apart (paper, Table 3)
    python eval_humaneval.py out/phi1/ckpt.pt --benchmark unseen --grade --grader MODEL   # an LLM grades the answers (section 4)
    python eval_humaneval.py results/a results/b --compare                   # the same problems, two models: is the difference real?

The model's programs run in sandbox.py. A benchmark is downloaded once, into the folder that PHI1_BENCHMARKS names (default
~/.cache/phi1). The same command again continues an interrupted run, or prints a finished one again. A run's folder holds
    samples.jsonl   task_id, completion, raw_completion (before it was cut)     results.jsonl   the verdicts, one line per problem
    results.json    settings, versions, isolation, scores; written last: with it the run is finished
"""
import argparse
import os


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", metavar="model", help="a checkpoint or a Hugging Face folder; for --compare two results")
    parser.add_argument("--samples", metavar="FILE", help="score these as they are (.jsonl, .jsonl.gz: task_id, completion)")
    parser.add_argument("--oracle", action="store_true", help="score the canonical solutions; writes nothing")
    parser.add_argument("--compare", action="store_true", help="compare two folders of results problem by problem")
    parser.add_argument("--benchmark", default="humaneval", help="humaneval, mbpp (test split, 500), mbpp-sanitized (427), unseen "
                        "(our 50), or a .jsonl file in HumanEval's format (humaneval)")
    parser.add_argument("--limit", type=int, help="the first problems only")
    parser.add_argument("-n", "--num_samples", type=int, default=1, help="completions per problem (1)")
    parser.add_argument("-k", type=int, nargs="+", help="report pass@k for these k (those of 1, 10 and 100 that n allows)")
    parser.add_argument("--temperature", type=float, help="0 is greedy (n = 1: 0; else 0.2, or 0.8 where a k is above 1)")
    parser.add_argument("--top_p", type=float, default=0.95, help="sample among the fewest tokens that have this share (0.95)")
    parser.add_argument("--max_new_tokens", type=int, default=512, help="the longest completion (512)")
    parser.add_argument("--seed", type=int, default=1337, help="same seed, same completions, whatever the ranks (1337)")
    parser.add_argument("--strip", action="store_true", help="give the prompt without white space around it; raw ends in a newline")
    parser.add_argument("--eot", action="store_true", help="put <|endoftext|> in front of the prompt")
    parser.add_argument("--shots", type=int, default=0, choices=(0, 3), help="solved examples in MBPP's prompt (0)")
    parser.add_argument("--similar", metavar="FILE", help="score similar problems apart: prepare_data.py decontaminate's list")
    parser.add_argument("--grade", action="store_true", help="let an LLM grade each problem's first completion, 0 to 10")
    parser.add_argument("--grader", metavar="MODEL", help="the LLM for --grade, called as prepare_data.py does")
    parser.add_argument("--out", metavar="FOLDER", help="of the results (results/NAME, from model, benchmark and settings)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="programs judged at once (number of CPU cores)")
    parser.add_argument("--allow_unsafe", action="store_true", help="run the programs even where this system cannot isolate them")
    parser.add_argument("--batch_size", type=int, help="completions generated at once, per rank (64 on a GPU, else 16)")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    parser.add_argument("--dtype", default="fp32", choices=("fp32", "bf16", "fp16"), help="of the weights; 16 bits are faster, but "
                        "greedy scores then move by up to 3 points with the batch size (fp32)")
    args = parser.parse_args()
    for name, low, high in (("limit", 1, None), ("num_samples", 1, None), ("temperature", 0, None), ("top_p", 0, 1),
                            ("max_new_tokens", 1, None), ("workers", 1, 1024), ("batch_size", 1, None), ("seed", 0, None)):
        value = getattr(args, name)
        if value is not None and (not value >= low or (high and value > high) or value == float("inf")):
            parser.error(f"--{name} is {value}; it must be at least {low}" + (f" and at most {high}" if high else ""))
    if sum(map(bool, (args.samples, args.oracle, args.paths))) != 1 or len(args.paths) not in (0, 2 if args.compare else 1):
        parser.error("name one model, or --samples FILE, or --oracle; or two folders of results with --compare")
    if args.compare and not args.paths:
        parser.error("--compare takes two folders of results")
    if args.shots and not args.benchmark.startswith("mbpp"):
        parser.error("--shots is for --benchmark mbpp and mbpp-sanitized")
    if args.samples and (args.num_samples > 1 or args.temperature or args.strip or args.eot or args.shots):
        parser.error("--samples are scored as they are: -n, --temperature, --strip, --eot and --shots are for a model")
    if args.grade and not args.grader:
        parser.error("--grade needs a model: --grader MODEL")
    if args.k and min(args.k) < 1 or not args.samples and max(args.k or [1]) > args.num_samples:
        parser.error(f"-k {' '.join(map(str, args.k))}: every k is at least 1 and at most n, which is {args.num_samples}")
    if args.temperature is None:
        largest = max(args.k or [k for k in (1, 10, 100) if k <= args.num_samples])
        args.temperature = 0.0 if args.num_samples == 1 else 0.2 if largest == 1 else 0.8
    elif args.temperature == 0 and args.num_samples > 1:
        parser.error(f"--temperature 0 makes {args.num_samples} equal completions: take -n 1, or a temperature above 0")
    return args


if __name__ == "__main__":
    args = parse_args()  # before torch is imported, so that --help and a mistyped option answer at once

import collections
import contextlib
import datetime
import difflib
import glob
import gzip
import hashlib
import json
import math
import platform
import re
import shutil
import statistics
import urllib.request
import zlib
import warnings
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from tqdm import tqdm

from model import DTYPES, load_model, memory_is_full, pick_device, read_checkpoint
from sample import generate
from sandbox import Program, Sandbox, SandboxError, Verdict
from tokenizer import load_tokenizer
from train import RANK, WORLD, lock, run_script


# ---- benchmarks ------------------------------------------------------------------------------------------------------

# A completion is cut at the first of these: a line that starts something new at the top level. None is in a canonical solution
# (an MBPP answer may hold several functions and classes, and one of them a comment in between).
HUMANEVAL_STOPS = ("\nclass ", "\ndef ", "\n#", "\n@", "\nprint", "\nif ", "\n```", "<|endoftext|>")
MBPP_STOPS = ("\nassert", '\n"""', "\nprint", "\nif ", "\n<|", "\n```", "<|endoftext|>")
SHOT_STOPS = ("[DONE]", "\nYou are an expert", "<|endoftext|>")

FILES = {  # file, address, sha256; of mbpp-sanitized the sha256 of its content as json.dumps writes it, whatever its indentation
    "humaneval": ("HumanEval.jsonl.gz", "https://github.com/openai/human-eval/raw/master/data/HumanEval.jsonl.gz",
                  "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"),
    "mbpp": ("mbpp.jsonl", "https://raw.githubusercontent.com/google-research/google-research/30adf0ec5f35f9609c2f1d896005e184195d9146/mbpp/mbpp.jsonl",
             "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f"),
    "mbpp-sanitized": ("sanitized-mbpp.json", "https://github.com/google-research/google-research/raw/master/mbpp/sanitized-mbpp.json",
                       "ca95deaa9a01ef0a6f439f88bcf0dd3db3563d22f22aad6cae04ebb9a8d8c8e9"),
}
UNSEEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "problems", "unseen.jsonl")


@dataclass
class Problem:
    task_id: str
    prompt: str        # what the model continues
    canonical: str     # the answer of the benchmark's authors
    start: str         # what the program begins with, before the completion: HumanEval's prompt
    setup: str         # trusted code that the tests need
    test: str
    entry_point: str   # the function under test
    stops: tuple

    def program(self, completion, timeout):
        return Program(self.start + completion, self.test, self.entry_point, timeout, self.setup)


def load_benchmark(name, shots=0):
    """(problems, sha256 of the file) of a benchmark by name or path."""
    if name in FILES:
        path, data, digest = fetch(name)
    elif name == "unseen" or os.path.exists(name):
        path = UNSEEN if name == "unseen" else name
        data = read_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
    else:
        near = difflib.get_close_matches(name, [*FILES, "unseen"], n=1)
        raise SystemExit(f"no benchmark and no file is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else
                         f": {', '.join(FILES)}, unseen, or the path of a .jsonl file in HumanEval's format"))
    if name in ("mbpp", "mbpp-sanitized"):
        rows = json.loads(data) if name == "mbpp-sanitized" else [json.loads(line) for line in data.splitlines()]
        return mbpp_problems(rows, shots, test_split=name == "mbpp"), digest
    rows = list(read_rows(path, data, ("task_id", "prompt", "canonical_solution", "test", "entry_point")))
    twice = [task for task, count in collections.Counter(str(row["task_id"]) for row in rows).items() if count > 1]
    if twice or not rows:
        raise SystemExit(f"{path} " + (f"has {name_some(twice)} more than once" if twice else "holds no problem"))
    problems = []
    for row in rows:
        prompt, name = row["prompt"], row["entry_point"]
        test = f"{row['test']}\ncheck({name})"
        problems.append(Problem(str(row["task_id"]), prompt, row["canonical_solution"], prompt, as_setup(prompt), test, name, HUMANEVAL_STOPS))
    return problems, digest


def fetch(name):
    """(path, content, sha256) of a benchmark's file, downloaded on first use."""
    file, address, expected = FILES[name]
    folder = os.environ.get("PHI1_BENCHMARKS") or os.path.expanduser("~/.cache/phi1")
    path = os.path.join(folder, file)
    found = os.path.exists(path)
    if found:
        data = read_bytes(path)
    else:
        print(f"downloading {address}", flush=True)
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                data = answer.read()
        except OSError as error:
            raise SystemExit(f"{path} is not there, and its download failed ({error}): put {file} from {address} there, or into a "
                             "folder that PHI1_BENCHMARKS names; only the benchmark `unseen` needs no download")
    try:
        digest = hashlib.sha256(json.dumps(json.loads(data)).encode() if file.endswith(".json") else data).hexdigest()
    except ValueError:
        digest = "of no JSON"
    if digest != expected:
        raise SystemExit(f"{path if found else address} has the sha256 {digest} and not {expected}: damaged, or another version; "
                         + ("remove it, and the next run downloads it" if found else f"put the right file at {path}"))
    if not found:
        os.makedirs(folder, exist_ok=True)
        write_whole(path, data)
    return path, data, digest


def read_bytes(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}")


def read_rows(path, data, fields):
    """The lines of a .jsonl(.gz) as dicts, after checking that each has these fields, all text."""
    try:
        lines = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig").split("\n")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SystemExit(f"{path} cannot be read: {error}")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            values = {field: row.get(field) for field in fields} if isinstance(row, dict) else {}
            json.dumps(values, ensure_ascii=False).encode()  # half a character (a lone surrogate) could not be written later
        except (ValueError, RecursionError) as error:
            raise SystemExit(f"{path}, line {number}: not JSON ({error})")
        for field in fields:
            if not isinstance(values.get(field), (str, int) if field == "task_id" else str):
                raise SystemExit(f"{path}, line {number}: no text in field {field!r}; each line needs {', '.join(fields)}")
        if not str(row["task_id"]).isprintable():  # it will be printed
            raise SystemExit(f"{path}, line {number}: {row['task_id']!r} is no task_id")
        yield row


def as_setup(prompt):
    """The prompt as a program of its own, for what its helpers give the tests; a signature without docstring needs a body."""
    for code in (prompt, prompt.rstrip() + "\n    pass\n"):
        with contextlib.suppress(SyntaxError, ValueError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            compile(code, "prompt", "exec", dont_inherit=True)
            return code
    return ""


def mbpp_problems(rows, shots, test_split):
    """MBPP's rows as problems. Zero-shot is InCoder's prompt: text and first test as a docstring. The examples of the 3-shot prompt
    are tasks 2, 3, 4 as in MBPP's paper; a problem that is one of them (in the sanitized set) gets task 6 in its place."""
    problems, examples = [], {row["task_id"]: row for row in rows if row["task_id"] in (2, 3, 4, 6)}

    def task(row):
        return (f"You are an expert Python programmer, and here is your task: {row.get('text') or row['prompt']} "
                "Your code should pass these tests:\n\n" + "\n".join(row["test_list"]) + "\n[BEGIN]\n")

    for row in rows:
        if test_split and not 11 <= row["task_id"] <= 510:
            continue
        code, tests = row["code"].replace("\r\n", "\n"), "\n".join(row["test_list"])
        if shots:
            others = [example for i, example in sorted(examples.items()) if i != row["task_id"]][:shots]
            prompt = "".join(task(other) + other["code"].replace("\r\n", "\n") + "\n[DONE]\n\n" for other in others) + task(row)
        else:
            prompt = f'"""\n{row.get("text") or row["prompt"]}\n{row["test_list"][0]}\n"""\n'
        defined = re.findall(r"^def (\w+)", code, re.MULTILINE)
        entry_point = next(word for word in re.findall(r"\w+", tests) if word in defined)
        setup = "\n".join([*row.get("test_imports", []), row.get("test_setup_code", "")])
        stops = SHOT_STOPS if shots else MBPP_STOPS
        problems.append(Problem(f"MBPP/{row['task_id']}", prompt, code, "", setup, tests, entry_point, stops))
    return problems


def cut(text, stops):
    """The text up to the first of the stops."""
    return text[:min((at for at in map(text.find, stops) if at >= 0), default=len(text))]


# ---- completions -----------------------------------------------------------------------------------------------------

def read_samples(args, problems):
    """({(i, j): completion} of the first --limit problems, sha256) from a file in human-eval's format; MBPP's tasks may be numbers."""
    path, count = args.samples, args.limit or len(problems)
    data = read_bytes(path)
    places = {problem.task_id.removeprefix("MBPP/"): i for i, problem in enumerate(problems)}
    rows = read_rows(path, data, ("task_id", "completion"))
    rows = [(str(row["task_id"]).removeprefix("MBPP/"), row["completion"]) for row in rows]
    unknown = list(dict.fromkeys(name for name, _ in rows if name not in places))
    if unknown:
        raise SystemExit(f"{path} has samples for tasks that {args.benchmark} does not have: {name_some(unknown)}; is --benchmark right?")
    samples, counts = {}, [0] * len(problems)
    for name, text in rows:
        i = places[name]
        if i < count:
            samples[i, counts[i]] = text
        counts[i] += 1
    missing = [problem.task_id for problem, n in zip(problems[:count], counts) if n == 0]
    if missing:
        raise SystemExit(f"{path} has no sample for {len(missing)} of {len(problems)} tasks: {name_some(missing)}")
    if args.k and max(args.k) > min(counts[:count]):
        raise SystemExit(f"pass@{max(args.k)} needs {max(args.k)} samples of every task; {path} has {min(counts[:count])} of some")
    return samples, hashlib.sha256(data).hexdigest()


def open_model(args, problems):
    """(model on its device, encoding, the problems' prompts as token ids, settings that the completions depend on)"""
    path = args.paths[0]
    model, tokenizer = load_model(path)
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy())
    sampled = args.temperature > 0
    settings = {"weights_sha256": digest.hexdigest(), "step": None if os.path.isdir(path) else read_checkpoint(path)["step"],
                "tokenizer": tokenizer, "dtype": args.dtype, "prompt": "stripped" if args.strip else "raw", "eot": args.eot,
                "shots": args.shots, "max_new_tokens": args.max_new_tokens, "num_samples": args.num_samples,
                "temperature": args.temperature, "top_p": args.top_p if sampled else None, "seed": args.seed if sampled else None}
    device = pick_device(args.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    model = model.to(device, DTYPES[args.dtype])
    encoding = load_tokenizer(tokenizer)
    texts = [problem.prompt.strip() if args.strip else problem.prompt for problem in problems]
    prompts = [[encoding.eot_token] * args.eot + encoding.encode_ordinary(text) or [encoding.eot_token] for text in texts]
    return model, encoding, prompts, settings


def print_model(args, model, prompts, problems):
    how = f"{args.num_samples} each at temperature {args.temperature:g}, top_p {args.top_p:g}" if args.temperature else "greedy"
    print(f"model     {args.paths[0]}: {model.num_params():,} parameters, {args.dtype}, {WORLD} x {model.cos.device.type}; "
          f"{'stripped' if args.strip else 'raw'} prompts; completions {how}, of at most {args.max_new_tokens} tokens")
    long = [problem.task_id for problem, prompt in zip(problems, prompts) if len(prompt) >= model.config.context]
    if long:
        print(f"too long  {len(long)} prompts do not fit the context of {model.config.context} tokens and count as failed: "
              + ", ".join(long))


def make_samples(args, model, encoding, problems, prompts, part):
    """{(i, j): text of sample j of problem i, None where the prompt does not fit}. Ranks share the problems. Each finished sample
    is on disk at once, in the rank's own file, and is not made again."""
    def read():
        paths = glob.glob(os.path.join(glob.escape(part), "samples.*.jsonl"))
        return {(row["i"], row["j"]): row["text"] for path in paths for row in whole_lines(path)}

    made, tokens = read(), {}
    meet()  # nobody writes before all have read
    fitting = [i for i, prompt in enumerate(prompts) if len(prompt) < model.config.context]
    left = [i for i in fitting if any((i, j) not in made for j in range(args.num_samples))]
    todo = [(i, j) for i in left[RANK::WORLD] for j in range(args.num_samples) if (i, j) not in made]
    tails = [max(map(len, problem.stops)) for problem in problems]  # a token has at least one byte

    def stop(i, j, ids):
        tail = encoding.decode_bytes(ids[-tails[i]:])
        return any(text.encode() in tail for text in problems[i].stops)

    batch_size = args.batch_size or (64 if model.cos.device.type == "cuda" else 16)
    with append_to(os.path.join(part, f"samples.{RANK}.jsonl")) as f, \
            tqdm(total=len(todo), desc="generate", unit="sample", disable=RANK > 0 or not todo) as bar:
        count = 0
        try:
            for i, j, token in generate(model, encoding, prompts, args.num_samples, args.max_new_tokens, args.temperature, 0,
                                        args.top_p, args.seed, batch_size, stop, todo):
                if token is not None:
                    tokens.setdefault((i, j), []).append(token)
                    count += 1
                    continue
                f.write(json.dumps({"i": i, "j": j, "text": encoding.decode(tokens.pop((i, j), []))}) + "\n")
                f.flush()
                speed = count / (bar.format_dict["elapsed"] or 1)
                bar.set_postfix_str(f"{speed:,.0f} tok/s" + (f" on each of {WORLD} ranks" if WORLD > 1 else ""), refresh=False)
                bar.update()
        except (RuntimeError, MemoryError) as error:
            if not memory_is_full(error):
                raise
            raise SystemExit(f"the memory is full: the same command with a --batch_size below {batch_size} continues")
    meet()
    made = read()
    meet()  # nobody removes them before all have read
    if missing := [problems[i].task_id for i in fitting for j in range(args.num_samples) if (i, j) not in made]:
        raise SystemExit(f"{part} lacks samples for {missing[0]} that were made: something else writes there. The same command makes them again")
    return {(i, j): None for i in range(len(prompts)) for j in range(args.num_samples)} | made


@torch.inference_mode()
def solution_bits(model, encoding, problems, prompts, newline):
    """{i: bits} that the model needs to encode problem i's canonical solution, given its prompt; for those that fit its context. It
    falls long before pass@1 rises."""
    solutions = [encoding.encode_ordinary(newline + problem.canonical) for problem in problems]
    fitting = [i for i, solution in enumerate(solutions) if len(prompts[i]) + len(solution) <= model.config.context]
    fitting.sort(key=lambda i: len(prompts[i]) + len(solutions[i]))  # rows of a batch are about as long as each other
    bits = {}
    for at in tqdm(range(8 * RANK, len(fitting), 8 * WORLD), desc="bits per byte", unit="batch", disable=RANK > 0 or not fitting):
        batch = fitting[at:at + 8]
        idx = torch.full((len(batch), max(len(prompts[i]) + len(solutions[i]) for i in batch)), encoding.eot_token)
        for row, i in zip(idx, batch):
            row[:len(prompts[i]) + len(solutions[i])] = torch.tensor(prompts[i] + solutions[i])
        for hidden, row, i in zip(model.hidden(idx.to(model.cos.device)), idx, batch):
            first, end = len(prompts[i]), len(prompts[i]) + len(solutions[i])
            logits = model.lm_head(hidden[first - 1:end - 1])[:, :encoding.n_vocab].float()
            loss = F.cross_entropy(logits, row[first:end].to(logits.device), reduction="sum")
            bits[i] = round(loss.item() / math.log(2), 3)
    return {i: value for share in meet(bits) for i, value in share.items()}


# ---- verdicts --------------------------------------------------------------------------------------------------------

VERDICTS = ("passed", "wrong answer", "exception", "timed out", "crashed", "out of memory", "prompt too long")


def judge_all(box, programs):
    """Yield (index, verdict, reason, seconds) as they come. Where the sandbox itself fails, after retries of its own, the programs that
    are left are judged one by one, to know which gets the verdict "harness error"."""
    left = dict(enumerate(programs))
    with contextlib.suppress(SandboxError):
        for i, verdict in box.judge(programs):
            del left[i]
            yield i, *name_verdict(verdict)
    for i, program in left.items():
        try:
            (_, verdict), = box.judge([program])
        except SandboxError as error:
            verdict = Verdict("error", str(error), 0.0)
        yield i, *name_verdict(verdict)


def name_verdict(verdict):
    names = {"passed": "passed", "timeout": "timed out", "crashed": "crashed", "memory": "out of memory", "error": "harness error",
             "failed": "wrong answer" if verdict.reason.startswith("AssertionError") else "exception"}
    return names[verdict.status], verdict.reason, verdict.seconds


def judge_canonical(box, problems):
    """(seconds that each canonical solution takes on this machine, how many pass): the time limits, and a check of the harness."""
    seconds, failed = [0.0] * len(problems), {}
    programs = [problem.program(problem.canonical, 30.0) for problem in problems]
    for i, verdict, reason, took in tqdm(judge_all(box, programs), desc="canonical solutions", unit="program", total=len(problems)):
        seconds[i] = took
        if verdict != "passed":
            failed[i] = f"{problems[i].task_id}: {verdict}" + (f" ({reason})" if reason else "")
    passed = len(problems) - len(failed)
    print(f"check     {passed} of {len(problems)} canonical solutions pass here", *map(failed.get, sorted(failed)), sep="\n          ")
    return seconds, passed


def judge_samples(box, problems, samples, seconds, part):
    """{(i, j): (verdict, reason)} of {(i, j): completion, None for a prompt too long}. Each verdict is on disk at once."""
    path = os.path.join(part, "verdicts.jsonl")
    known = whole_lines(path) if os.path.exists(path) else ()
    verdicts = {(row["i"], row["j"]): (row["verdict"], row["reason"]) for row in known}
    verdicts |= {key: ("prompt too long", "") for key, completion in samples.items() if completion is None}
    left, passed = [key for key in samples if key not in verdicts], sum(verdict == "passed" for verdict, _ in verdicts.values())
    programs = [problems[i].program(samples[i, j], max(3.0, 4 * seconds[i])) for i, j in left]
    with append_to(path) as f, tqdm(total=len(left), desc="judge", unit="program", disable=not left) as bar:
        for at, verdict, reason, _ in judge_all(box, programs):
            i, j = left[at]
            verdicts[i, j] = verdict, reason
            passed += verdict == "passed"
            if verdict != "harness error":  # it says nothing about the program: the next run tries again
                f.write(json.dumps({"i": i, "j": j, "verdict": verdict, "reason": reason}) + "\n")
                f.flush()
            bar.set_postfix_str(f"{passed:,} passed", refresh=False)
            bar.update()
    broken = {problems[i].task_id: reason for (i, _), (verdict, reason) in verdicts.items() if verdict == "harness error"}
    if broken:
        raise SystemExit(f"the sandbox itself failed on {len(broken)} problems, which says nothing about the programs: "
                         f"{name_some(broken)} ({[*broken.values()][0]}). The other verdicts are kept, and the same command tries these again")
    return verdicts


# ---- scores ----------------------------------------------------------------------------------------------------------

def pass_at_k(n, c, k):
    """The chance that one of k samples passes, drawn from n of which c pass: 1 - C(n - c, k) / C(n, k) (Chen et al. 2021)."""
    return 1 - math.comb(n - c, k) / math.comb(n, k)


def interval(values):
    """(low, high, how): 95% interval of the mean over problems. Wilson's where each passes or not (it holds at 0 and 1 too), else the
    mean plus and minus 1.96 standard errors over problems."""
    P, mean = len(values), math.fsum(values) / len(values)
    if set(values) <= {0, 1}:
        z2 = 1.959964 ** 2
        middle, half = mean + z2 / (2 * P), math.sqrt(z2 * (mean * (1 - mean) / P + z2 / (4 * P * P)))
        return max(0.0, (middle - half) / (1 + z2 / P)), min(1.0, (middle + half) / (1 + z2 / P)), "Wilson"
    half = 1.959964 * statistics.stdev(values) / math.sqrt(P) if P > 1 else 1.0
    return max(0.0, mean - half), min(1.0, mean + half), "standard error over problems"


def scores(rows, ks=None):
    """pass@k with intervals, counts of verdicts and bits per byte from the lines of results.jsonl."""
    found = {}
    for k in ks or [k for k in (1, 10, 100) if k <= min(row["n"] for row in rows)]:
        values = [pass_at_k(row["n"], row["passed"], k) for row in rows]
        low, high, how = interval(values)
        found[f"pass@{k}"] = {"value": math.fsum(values) / len(values), "low": low, "high": high, "interval": f"95%, {how}"}
    counts = collections.Counter(sample["verdict"] for row in rows for sample in row["samples"])
    known = [row for row in rows if row.get("bits") is not None]
    bits = sum(row["bits"] for row in known) / sum(row["bytes"] for row in known) if known else None
    return {"problems": len(rows), **found, "verdicts": {name: counts[name] for name in VERDICTS if counts[name]},
            "bits_per_byte": bits, "bits_per_byte_problems": len(known)}


def print_scores(rows, splits, ks):
    found = scores(rows, ks)
    for name, score in found.items():
        if name.startswith("pass@"):
            whole = f"{sum(row['passed'] for row in rows)} of {len(rows)} problems; " if all(row["n"] == 1 for row in rows) else ""
            print(f"{name:<10}{score['value']:6.1%}   {whole}95% interval {score['low']:.1%} to {score['high']:.1%} "
                  f"({score['interval'].removeprefix('95%, ')})")
    print("verdicts  " + ", ".join(f"{count:,} {name}" for name, count in found["verdicts"].items()))
    if found["bits_per_byte"] is not None:
        print(f"bits/byte {found['bits_per_byte']:6.4f}   of the canonical solutions, given the prompts "
              f"({found['bits_per_byte_problems']} of {len(rows)} fit the context); lower is better")
    for name, is_similar in splits.items():
        parts = []
        for side, kind in ((True, "similar problems"), (False, "others")):
            part = [row for row in rows if is_similar[row["task_id"]] == side]
            parts.append(f"{scores(part)['pass@1']['value']:.1%} of {len(part)} {kind}" if part else f"no {kind}")
        print(f"{name:<10}" + ", ".join(parts))


def read_similar(path, problems):
    """{name of a split: {task_id: is it similar}} from lines with "similar" (true or false) and "rate", the match rate of the closest
    training exercise, cut at the paper's four thresholds."""
    rows = {str(row["task_id"]): row for row in read_rows(path, read_bytes(path), ("task_id",))}
    tasks = [problem.task_id for problem in problems]
    missing = [task for task in tasks if task not in rows]
    if missing:
        raise SystemExit(f"{path} says nothing about {len(missing)} of {len(problems)} tasks: {name_some(missing)}")
    if not all(isinstance(rows[task].get("similar"), bool) and isinstance(rows[task].get("rate"), (int, float)) for task in tasks):
        raise SystemExit(f'{path}: every line needs "similar": true or false, and "rate": 0 to 1')
    return {"as listed": {task: rows[task]["similar"] for task in tasks},
            **{f"tau {tau:.2f}": {task: rows[task]["rate"] >= tau for task in tasks} for tau in (0.95, 0.9, 0.85, 0.8)}}


def read_results(folder):
    """(settings, {task_id: its line of results.jsonl, with the "share" of its samples that passed}) of a finished run."""
    try:
        with open(os.path.join(folder, "results.json")) as f:
            settings = json.load(f)["settings"]
        for name in ("data_sha256", "benchmark"):
            settings[name]
        rows = {row["task_id"]: row for row in whole_lines(os.path.join(folder, "results.jsonl"))}
        for row in rows.values():
            row["share"] = row["passed"] / row["n"]
        if not len(rows) == settings["problems"] > 0:
            raise ValueError(f"results.jsonl has {len(rows)} problems of {settings['problems']}")
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise SystemExit(f"{folder} is not the folder of a finished run: {error}")
    return settings, rows


def compare(folders):
    """Two runs on the same problems: the difference, and whether chance explains it."""
    (settings_a, a), (settings_b, b) = map(read_results, folders)
    if a.keys() != b.keys() or settings_a["data_sha256"] != settings_b["data_sha256"]:
        raise SystemExit(f"{folders[0]} has {len(a)} problems of {settings_a['benchmark']} and {folders[1]} {len(b)} of "
                         f"{settings_b['benchmark']}: only runs on the same problems can be compared")
    pairs = [(a[task]["share"], b[task]["share"]) for task in a]
    only_a, only_b = sum(x > y for x, y in pairs), sum(x < y for x, y in pairs)
    for letter, folder, values in zip("AB", folders, zip(*pairs)):
        print(f"{letter}  pass@1 {statistics.fmean(values):6.1%}   {folder}")
    if all(row["n"] == 1 for row in [*a.values(), *b.values()]):
        both = sum(x == y == 1 for x, y in pairs)
        print(f"both pass {both}, only A {only_a}, only B {only_b}, neither {len(pairs) - both - only_a - only_b}; {len(pairs)} problems")
    else:
        print(f"A passes more often on {only_a} problems, B on {only_b}, the same on {len(pairs) - only_a - only_b}")
    differences = [100 * (y - x) for x, y in pairs]
    low, high = paired_interval(differences)
    print(f"B - A     {statistics.fmean(differences):+.1f} points, 95% interval {low:+.1f} to {high:+.1f} (Agresti and Min's, over paired problems)")
    p = sign_test(only_a, only_b)
    print(f"p         {p:.3g}: the chance of a split at least as uneven as {only_a} to {only_b} if A and B were equally good (exact sign "
          f"test, McNemar's); chance alone {'hardly explains' if p < 0.05 else 'may explain'} the difference")
    of_the_model = ("weights_sha256", "step", "samples_sha256")
    if other := [name for name in {**settings_a, **settings_b} if name not in of_the_model and settings_a.get(name) != settings_b.get(name)]:
        print(f"note      the runs differ in more than the model: {', '.join(other)}")


def paired_interval(differences):
    """(low, high): 95% interval of the mean of paired differences in points: its standard error after half a problem of each of the four
    outcomes was added (Agresti and Min 2005), so that it has a width where all pairs differ alike."""
    P, total, squares = len(differences) + 2, math.fsum(differences), math.fsum(d * d for d in differences) + 100 ** 2
    mean = total / P
    half = 1.959964 * math.sqrt((squares / P - mean * mean) / P)
    return max(-100.0, mean - half), min(100.0, mean + half)


def sign_test(a, b):
    """Two-sided exact p-value of a to b where each side has chance 1/2."""
    return min(1.0, 2 * sum(math.comb(a + b, k) for k in range(min(a, b) + 1)) / 2 ** (a + b))


# ---- an LLM as the judge ---------------------------------------------------------------------------------------------

GRADING = """You are a teacher who grades a student's answer to a programming exercise. Judge how well the student understood the task:
an answer that is on the right way but for a slip deserves a good part of the points, one that misses the point few or none.

The exercise, which the student had to continue:
```python
{prompt}```

The student's continuation:
```python
{completion}
```

First explain in a few sentences what is right and what is wrong in it. Then end with one line "Grade: N", N from 0 (nothing
understood) to 10 (entirely correct)."""


def grade(args, client, out, problems):
    """The paper's section 4: an understanding score, 0 to 10, of each problem's first completion. Answers stay in the run's folder."""
    from prepare_data import ask_all
    completions = {}
    for row in whole_lines(os.path.join(out, "samples.jsonl")):
        completions.setdefault(row["task_id"], row["completion"])
    if missing := [problem.task_id for problem in problems if problem.task_id not in completions]:
        raise SystemExit(f"{out}: samples.jsonl lacks {name_some(missing)}, it was changed since: remove the folder and run again")
    items = [(GRADING.format(prompt=problem.prompt, completion=completions[problem.task_id]), {"task_id": problem.task_id})
             for problem in problems]
    path = os.path.join(out, f"grades-{re.sub('[^A-Za-z0-9.-]', '_', args.grader)}.jsonl")
    grades = {}
    for answer in ask_all(client, items, path, total=len(items)).read():
        found = re.findall(r"grade\W*(\d+)\b", answer.get("text", ""), re.IGNORECASE)
        if found and int(found[-1]) <= 10:
            grades[answer["about"]["task_id"]] = int(found[-1]) / 10
    if grades:
        low, high, _ = interval([*grades.values()])
        print(f"grade     {statistics.fmean(grades.values()):6.1%}   understanding of {len(grades)} answers, as {args.grader} sees it; "
              f"95% interval {low:.1%} to {high:.1%}")
    ungraded = [problem.task_id for problem in problems if problem.task_id not in grades]
    if ungraded:
        print(f"ungraded  {len(ungraded)} of {len(problems)}, for want of an answer that ends in a grade: {name_some(ungraded)}")


# ---- files -----------------------------------------------------------------------------------------------------------

def write_whole(path, data):
    """Write a file whole or not at all."""
    temporary = f"{path}.{os.getpid()}.tmp"  # ranks may write the same file
    with open(temporary, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)


def write_lines(path, rows):
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def whole_lines(path):
    """The rows of a .jsonl of ours. Lines that an interruption tore, or a power cut filled with zeros, do not count: what was in them
    is done again."""
    rows = []
    with open(path, "rb") as f:
        for line in f:
            with contextlib.suppress(ValueError):
                if line.endswith(b"\n") and isinstance(row := json.loads(line), dict):
                    rows.append(row)
    return rows


def append_to(path):
    """Open a .jsonl of ours to go on with, without such a torn line."""
    f = open(path, "a+b")
    f.seek(0)
    f.truncate(f.read().rfind(b"\n") + 1)
    f.close()
    return open(path, "a")


def name_some(names):
    names = list(names)
    return ", ".join(map(str, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def default_folder(args, settings):
    """results/NAME for this model (or file of samples), benchmark and settings: phi1-ckpt-24000-humaneval-n50-t0.2"""
    path = os.path.abspath(args.samples or args.paths[0])
    words = [os.path.basename(path)]
    if os.path.isfile(path):
        words = [os.path.basename(os.path.dirname(path)), words[0].split(".")[0]]
    if settings.get("step") is not None and f"_{settings['step']}" not in words[-1]:
        words.append(str(settings["step"]))
    words += [os.path.basename(args.benchmark).split(".")[0], f"first{args.limit}" if args.limit else "", "3shot" if args.shots == 3 else "",
              "strip" if args.strip else "", "eot" if args.eot else "", f"n{args.num_samples}-t{args.temperature:g}" if args.temperature else ""]
    return os.path.join("results", "-".join(filter(None, words)))


def check_folder(folder, settings):
    """Is the run in this folder finished? Ends the program where the folder holds a run with other settings, or something else."""
    for file in ("results.json", os.path.join("part", "settings.json")):
        path = os.path.join(folder, file)
        if os.path.exists(path):
            try:
                with open(path) as f:
                    old = dict(json.load(f)["settings"])
            except (ValueError, KeyError, TypeError) as error:
                raise SystemExit(f"{path} was not written by this program ({type(error).__name__}: {error}): choose another --out")
            for name in {**settings, **old}:
                if settings.get(name) != old.get(name):
                    raise SystemExit(f"{folder} was made with {name} = {old.get(name)!r}, and now it is {settings.get(name)!r}: "
                                     "choose another --out")
            return file == "results.json"
    if os.path.exists(folder) and set(os.listdir(folder)) - {"part"}:
        raise SystemExit(f"{folder} holds files, but no run of this program: choose another --out")
    return False


def write_results(args, out, settings, problems, raw, samples, verdicts, bits, isolation, canonical):
    rows = [{"task_id": problem.task_id, "n": 0, "passed": 0, "bits": bits.get(i), "bytes": len(problem.canonical.encode()),
             "samples": []} for i, problem in enumerate(problems)]
    for (i, j), (verdict, reason) in sorted(verdicts.items()):
        rows[i]["n"] += 1
        rows[i]["passed"] += verdict == "passed"
        rows[i]["samples"].append({"verdict": verdict, "reason": reason})
    for left in glob.glob(os.path.join(glob.escape(out), "*.json*.[0-9]*.tmp")):
        os.remove(left)  # of a run that was killed, or whose disk was full
    write_lines(os.path.join(out, "samples.jsonl"), [{"task_id": problems[i].task_id, "completion": samples[i, j] or "",
                                                      "raw_completion": raw[i, j] or ""} for i, j in sorted(raw)])
    write_lines(os.path.join(out, "results.jsonl"), rows)
    result = {"settings": settings, "model": args.samples or args.paths[0], "isolation": isolation,
              "canonical_solutions_passed": canonical, "scores": scores(rows, args.k),
              "versions": {"python": platform.python_version(), "torch": str(torch.__version__)}}
    write_whole(os.path.join(out, "results.json"), (json.dumps(result, indent=2) + "\n").encode())
    shutil.rmtree(os.path.join(out, "part"))


# ---- the run ---------------------------------------------------------------------------------------------------------

def meet(value=None):
    """Wait for all ranks. Returns what each of them brought."""
    values = [value] * WORLD
    if WORLD > 1:
        dist.all_gather_object(values, value)
    return values


def open_sandbox(args):
    try:
        box = Sandbox(args.workers, allow_unsafe=args.allow_unsafe)
    except SandboxError as error:
        raise SystemExit(str(error))
    print(f"sandbox   {box.level}; {args.workers} programs at once")
    return box


def evaluate(args):
    chief = RANK == 0  # the chief prints, judges and writes the results; all ranks generate
    if WORLD > 1:
        dist.init_process_group("gloo", timeout=datetime.timedelta(days=7))
    for path in filter(None, [args.samples, *args.paths]):
        if not os.path.exists(path):  # before a benchmark is downloaded
            raise SystemExit(f"{path} is not there: name a checkpoint, a Hugging Face folder or, with --samples, a file")
    problems, data_sha256 = load_benchmark(args.benchmark, args.shots)
    everything, problems = problems, problems[:args.limit]
    splits = read_similar(args.similar, problems) if args.similar else {}
    if args.grade and chief:
        from prepare_data import PRICES, Client
        grader = Client(args.grader, temperature=0, price=PRICES.get(args.grader, (0, 0)))  # a missing key shows now
    settings = {"benchmark": os.path.basename(args.benchmark), "data_sha256": data_sha256, "problems": len(problems)}
    if args.oracle:
        with open_sandbox(args) as box:
            raise SystemExit(int(judge_canonical(box, problems)[1] < len(problems)))
    if args.samples:
        raw, settings["samples_sha256"] = read_samples(args, everything)
    else:
        model, encoding, prompts, more = open_model(args, problems)
        settings |= more
    out = args.out or default_folder(args, settings)
    part = os.path.join(out, "part")  # what an unfinished run has so far
    finished = check_folder(out, settings)
    meet()  # all have looked before the first one writes

    if finished and chief:
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed in its last moment
        print(f"{out} is finished, with these settings; its scores:")
    elif not finished:
        with open_sandbox(args) if chief else contextlib.nullcontext() as box:
            if chief:
                os.makedirs(part, exist_ok=True)
                held = open(os.path.join(part, "lock"), "w")  # until this run ends
                lock(held, out, "--out")
                write_whole(os.path.join(part, "settings.json"), json.dumps({"settings": settings}).encode())
                print(f"benchmark {args.benchmark}, {len(problems)} problems: which completions pass all tests of their problem?")
                seconds, canonical = judge_canonical(box, problems)  # before hours of generation: a broken sandbox shows now
            meet()
            bits, newline = {}, "\n" if args.strip else ""  # the prompt's last newline is the prompt's, also where the model has to write it
            if not args.samples:
                if chief:
                    print_model(args, model, prompts, problems)
                bits = solution_bits(model, encoding, problems, prompts, newline)
                raw = make_samples(args, model, encoding, problems, prompts, part)
            if chief:
                samples = dict(raw)
                if not args.samples:
                    for (i, j), text in raw.items():
                        samples[i, j] = text and cut(text, problems[i].stops).removeprefix(newline)
                verdicts = judge_samples(box, problems, samples, seconds, part)
                write_results(args, out, settings, problems, raw, samples, verdicts, bits, box.level, canonical)
    if chief:
        rows = whole_lines(os.path.join(out, "results.jsonl"))
        if len(rows) != len(problems) or not all({"task_id", "n", "passed"} <= row.keys() for row in rows):
            raise SystemExit(f"{out}: results.jsonl has {len(rows)} problems of {len(problems)}, it was changed since: remove the folder and run again")
        print_scores(rows, splits, args.k)
        if args.grade:
            grade(args, grader, out, problems)
        print(f"files     {out}: " + ", ".join(sorted(os.listdir(out))))
        print(f"next      python eval_humaneval.py {out} OTHER_RESULTS --compare")


def main(argv):
    try:
        compare(args.paths) if args.compare else evaluate(args)
    except KeyboardInterrupt:
        raise SystemExit("\ninterrupted" if args.oracle or args.compare else
                         "\ninterrupted: what was finished is kept, and the same command continues")


if __name__ == "__main__":
    run_script(main)
