"""
Prepare data for phi-1 ("Textbooks Are All You Need", arXiv 2306.11644, section 2 and, for decontamination, section 5).

    python prepare_data.py collect  the-stack/ Posts.xml ~/code --out data/web.jsonl.gz
    python prepare_data.py annotate data/web.jsonl.gz --samples 100000 --model MODEL --out data/labels.jsonl
    python prepare_data.py filter   data/web.jsonl.gz --labels data/labels.jsonl --encoder codegen-350M-mono/ --keep 0.17 --out data/filtered.jsonl.gz
    python prepare_data.py textbooks --count 1000000 --budget 1400 --model MODEL --out data/textbooks.jsonl
    python prepare_data.py exercises --count 900000 --budget 400 --model MODEL --out data/exercises.jsonl
    python prepare_data.py decontaminate data/exercises.jsonl --against humaneval mbpp --tau 0.95 --out data/exercises_clean.jsonl
    python prepare_data.py tokenize data/filtered.jsonl.gz data/textbooks.jsonl --out data/codetextbook
    python prepare_data.py tokenize data/exercises_clean.jsonl --out data/codeexercises
    ... --dry-run      # annotate, textbooks, exercises: three finished prompts, the expected tokens and price; no call made
    ... --batch        # the same three through the Batch API at half price
    torchrun --nproc_per_node=8 prepare_data.py filter ...      # the ranks share the embedding
    python prepare_data.py STAGE --help

annotate, textbooks and exercises ask any server with OpenAI's API: OPENAI_API_KEY, and OPENAI_BASE_URL for another than OpenAI's
(vLLM, llama.cpp, Ollama, LM Studio: http://localhost:8000/v1, no key needed). Each answer is appended to NAME.answers.jsonl as it
comes, rejected ones too; the same command continues a stopped run and asks nothing twice. NAME.jsonl, one document a line, is made
from the answers when enough are there; --budget 0 makes it from those so far.

In this file: the prompts; files and worker processes; the client; then the stages in the order above, each with its helpers.
"""
import argparse
import ast
import builtins
import difflib
import doctest
import errno
import fcntl
import fnmatch
import functools
import gzip
import hashlib
import heapq
import html
import importlib.util
import itertools
import json
import math
import multiprocessing
import os
import queue
import random
import re
import shutil
import signal
import struct
import sys
import sysconfig
import tempfile
import textwrap
import threading
import time
import warnings
import zipfile
import zlib
from collections import Counter, deque, namedtuple
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from email.utils import parsedate_to_datetime

import numpy as np
from tqdm import tqdm

from tokenizer import load_tokenizer


# ---- prompts: all of them, and the texts they are made of; topics and words for names are in topics.txt ---------------

ANNOTATE = """\
Below is a piece of code, or of text about code. Determine its educational value for a student whose goal is to learn basic coding
concepts. Give an integer score:

0  none: data, generated or broken code, configuration, licences, advertising
1  hardly any: boilerplate, long lists of constants, code that cannot be followed without the rest of its project
2  little: it works, but is about a particular tool or machine rather than about an idea
3  some: self-contained in the main, and a beginner can learn a basic concept from it
4  high: clear, self-contained, sensibly named, does one thing that is worth learning
5  outstanding: as if written for a textbook, an algorithm or a concept shown simply and completely

Judge what can be learned from the code itself. Many comments alone do not make it educational, and few do not make it poor.

<document>
{document}
</document>

First justify the score in one or two sentences. Then end with one line of exactly this form:
Educational score: N
"""

TEXTBOOK = """\
Write one section of a Python textbook. Its topic: {topic}.

{audience}

{opening} Explain the idea in your own words, step by step, and let prose and code take turns: at least one complete function or
program in a ```python block, then a call of it and the result that it gives, followed through by hand. What comes later builds on
what came before. Every example runs as it stands, with Python 3 and its standard library only.

Somewhere in a real program stand these lines. Take an idea for the setting of your examples from them; do not quote or mention them.
<lines>
{snippet}
</lines>

About {words} words. No title, no headings, no greeting, no announcement of what the section is about, no summary and no questions
at the end: the first sentence already teaches.
"""

AUDIENCES = """\
a first program: The reader is eleven and has never programmed. Use short sentences, things from a kitchen, a playground or a pet's
    day as data, and one new idea at a time. No function before it was said what a function is for. Show what is printed after every
    few lines.
high school: The reader is in high school and knows its mathematics. Let a small problem from geometry, statistics or physics lead
    to the code, write the formula first and then the line that computes it, and check the result with paper and pencil.
first-year student: The reader studies computer science in the first year. Define each term exactly before it is used, state what
    the function expects and promises, treat the edge cases (empty, one item, equal items) and say how the number of steps grows
    with the input.
career changer: The reader is an adult who changes careers and learns in the evening. Start from a chore at an office (bookings,
    invoices, shifts), solve it by hand, then automate exactly these steps, and point at the two mistakes that everybody makes here.
scientist: The reader works in a laboratory and has measurements to process. Use small tables of readings with units, show how a
    wrong result would be noticed, and prefer clear functions that are checked with known values over cleverness.
from another language: The reader has programmed for years in a language with types and braces. Be brief about what is common to all
    languages. Contrast the direct translation with the way it is said in Python, and explain what happens underneath when the two
    differ.
dialogue: Write it as a talk between a patient teacher and a curious learner. The learner guesses, is wrong at least once, tries the
    code, sees the output and corrects the idea; the teacher asks rather than tells. Names in front of the lines, code in blocks.
debugging: Teach through a mistake. Show a short program that is plausible and wrong, the wrong output, and how to find the cause by
    looking at values in between; then the corrected program, why it is right, and a test that would have caught it.
worked problems: Write it as worked problems: after a paragraph on the idea come three problems of rising difficulty, each with a
    statement, a plan in words, a function with a docstring, and a check with two or three asserts. The third combines the idea with
    another one.
mathematician: The reader studies mathematics. Begin with the definition, give a short argument why the method is correct (an
    invariant, an induction), let the function follow the argument line by line, and end with a case where a careless version fails.
code reader: Teach by reading. Show one function of fifteen to twenty-five lines, go through it line by line with the values that
    the variables take for one input, then change one requirement and show which lines change and which stay.
refactoring: Begin with a version that works and is clumsy. Improve it in three small steps, each with its reason and the new code,
    show that the results stay the same, and say when one would stop earlier.
"""  # each reader needs other instructions: changing the one word "student" does not stop duplicates
AUDIENCES = dict(" ".join(paragraph.split()).split(": ", 1) for paragraph in re.split(r"\n(?! )", AUDIENCES.strip()))

OPENINGS = ("Begin with a concrete situation in which the idea is missing.", "Begin with four lines of code and what they print.",
            "Begin with the definition of the idea in one plain sentence.", "Begin with a wrong expectation that many people have.",
            "Begin with a tiny example done by hand.", "Begin by comparing two ways to do the same thing.",
            "Begin with the smallest input for which anything happens.", "Begin with the data, and let the need for the idea follow.")

EXERCISES = """\
Write {count} Python exercises, one for each of these function names:
{names}

For each name invent a small precise task that the name fits and that takes some reasoning: three to fifteen lines of code with a loop,
a condition, recursion or a little algorithm in most of them, not a single call. All of them are from the subject: {topic}.
The {count} tasks differ in their data and in what is to be found. Write each in a code block of its own, complete, in exactly this form:

```python
from typing import List

def name(first: List[int], second: int) -> int:
    \"\"\"
    What the function returns, in one to three sentences, the special cases included.

    Parameters:
    first (List[int]): what it is
    second (int): what it is

    Returns:
    int: what it is

    >>> name([1, 2, 3], 2)
    4
    >>> name([], 2)
    0
    \"\"\"
    the body, with few comments
```

The imports are those that the function needs, of the standard library only; without any, the block starts with def. One function to a
block, no classes (where the subject is about them, take its data), no input, no printing, no files, nothing random. Work out the results
of the examples with care: they will be run.
"""


# ---- files -----------------------------------------------------------------------------------------------------------

TASK_BYTES = 1 << 20  # of input in one task of a worker process
tell_once = functools.cache(print)


def beside(path, suffix):
    """data/x.jsonl.gz -> data/x + suffix: where a stage keeps what belongs to a file."""
    return re.sub(r"\.jsonl(\.gz)?$", "", path) + suffix


def lock(file, path):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise SystemExit(f"another run is writing {path}: wait for it, or choose another --out" if isinstance(error, BlockingIOError) else
                         f"{path} cannot be locked ({error.strerror}): choose an --out on another file system")


@contextmanager
def whole_file(path):
    """A file to write bytes to that appears only when it is complete, and that one process writes at a time."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = path + ".tmp"
    raw = open(os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    lock(raw, path)
    if not os.path.exists(temporary) or not os.path.samestat(os.fstat(raw.fileno()), os.stat(temporary)):  # renamed since it was opened
        raise SystemExit(f"another run has just written {path}")
    try:
        with raw:
            raw.truncate(0)  # of a run that was killed
            packed = path.endswith(".gz")
            with gzip.GzipFile("", "wb", 4, raw, mtime=0) if packed else nullcontext(raw) as f:  # no name, no time: the same bytes
                yield f
            raw.flush()
            os.fsync(raw.fileno())
            os.replace(temporary, path)  # while we hold the lock
    finally:
        with suppress(FileNotFoundError):
            os.remove(temporary)


def json_line(record):
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def read_jsonl(path, fault):
    """Yield (line number, record) of the objects in a .jsonl(.gz) in which fault(record) is None. The others are left out, counted
    and named with what is wrong with them."""
    corrupt = []
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    record = json.loads(line)
                    reason = fault(record) if isinstance(record, dict) else "no object"
                except (ValueError, RecursionError):
                    reason = "not JSON"
                if not reason:
                    yield number, record
                elif line.strip():
                    corrupt.append(f"{number} ({reason})")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SystemExit(f"{path} cannot be read to its end ({error}): make it again")
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}")
    tell_corrupt(path, corrupt)


def tell_corrupt(path, lines):
    if lines:
        tell_once(f"{path}: {len(lines):,} corrupt lines left out: {', '.join(lines[:5])}" + (", ..." if len(lines) > 5 else ""))


def read_documents(path):
    """Yield (line number, record) of the documents of a .jsonl(.gz): objects with a "text" that is not blank."""
    def fault(record):
        if not isinstance(record.get("text"), str):
            return "no 'text'"
        return "half a character" if re.search("[\ud800-\udfff]", record["text"]) else None
    for number, record in read_jsonl(path, fault):
        if record["text"].strip():
            yield number, record


def hash64(data):
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def hash_text(text):
    return hash64(text.encode("utf-8", "surrogatepass"))


def listed(counts, most=20):
    """{"a": 3, "b": 1} -> "3 a, 1 b", the most frequent first."""
    rows = sorted(((-n, reason) for reason, n in counts.items() if n))
    rest = -sum(n for n, _ in rows[most:])
    return ", ".join([f"{-n:,} {reason}" for n, reason in rows[:most]] + ([f"{rest:,} others"] if rest else [])) or "nothing"


class Seen:
    """The 64-bit hashes met so far at 8 bytes each: a sorted array, into which the set of the latest is merged now and then."""
    def __init__(self):
        self.old, self.latest = np.empty(0, np.uint64), set()

    def add(self, h):
        """True if h is new."""
        at = int(self.old.searchsorted(np.uint64(h)))
        if h in self.latest or (at < len(self.old) and int(self.old[at]) == h):
            return False
        self.latest.add(h)
        if len(self.latest) >= 1 << 20:
            self.merge()
        return True

    def merge(self):
        latest = np.fromiter(self.latest, np.uint64, len(self.latest))
        self.old, self.latest = np.sort(np.concatenate([self.old, latest])), set()


# ---- sources and worker processes (collect, decontaminate, tokenize) --------------------------------------------------

def files_below(outermost, suffixes, exclude):
    """Paths of the files with these suffixes below a folder, sorted within each folder, without ever listing all of them at once."""
    def entries(folder):
        try:
            return iter(sorted(os.scandir(folder), key=lambda entry: entry.name))
        except OSError as error:
            if folder == outermost:
                raise SystemExit(f"{folder}: {error.strerror}")
            tell_once(f"{folder}: {error.strerror}: left out")
            return iter(())

    open_folders = [entries(outermost)]  # from the outermost to the one being listed: they may be nested deeper than Python's calls
    while open_folders:
        entry = next(open_folders[-1], None)
        if not entry:
            open_folders.pop()
        elif entry.name.startswith(".") or any(fnmatch.fnmatch(entry.name, pattern) for pattern in exclude):
            continue
        elif entry.is_dir(follow_symlinks=False):
            open_folders.append(entries(entry.path))
        elif entry.name.endswith(suffixes) and os.path.isfile(entry.path):
            yield entry.path


def source_files(args, below, given):
    """Yield (number of the source, path): the files with the suffixes `below` in the folders among the sources, and the files that
    are sources themselves, which may have the suffixes `given` too. Ends the program at a source that cannot be used."""
    for number, source in enumerate(args.sources):
        if os.path.isdir(source):
            yield from ((number, path) for path in files_below(source, below, args.exclude))
        elif not os.path.isfile(source):
            raise SystemExit(f"{source} does not exist, or is no file")
        elif not source.endswith(below + given):
            raise SystemExit(f"{source} cannot be a source: folders are, and {', '.join(below + given)} files")
        else:
            yield number, source


def size_of(path):
    try:
        return os.path.getsize(path)
    except OSError:
        return 0  # it is gone, or cannot be read: the worker that meets it counts it as skipped


def input_bytes(args, below, given):
    """The size of all sources on disk, for the progress bar."""
    sizes = Counter()
    for number, path in source_files(args, below, given):
        sizes[number] += size_of(path)
        if path.endswith(".parquet") and not importlib.util.find_spec("pyarrow"):
            raise SystemExit(f"{path}: reading parquet needs one more package: pip install pyarrow")
    for number, source in enumerate(args.sources):
        if not sizes[number]:
            raise SystemExit(f"{source} holds no text: {', '.join(below + given * os.path.isfile(source))} files are read")
    return sum(sizes.values())


def tasks(files, fields=()):
    """Yield (bytes of input, (source number, path, first, read, items)) for the workers, some MB at a time. read(item) is a document's
    text; item i has the number first + i in its source: paths of text files, lines of a .jsonl, rows of a .parquet, posts."""
    paths, first, size, last = [], 0, 0, None
    for source, path in files:
        if paths and (source != last or size >= TASK_BYTES or len(paths) == 1000):
            yield size, (last, "", first, read_file, paths)
            paths, first, size = [], first + len(paths), 0
        if source != last:
            first, last = 0, source
        if path.endswith((".jsonl", ".jsonl.gz")):
            blocks, read = line_blocks(path), functools.partial(read_line, fields=fields)
        elif path.endswith((".parquet", ".xml")):
            blocks, read = parquet_rows(path, fields) if path.endswith(".parquet") else stackoverflow_posts(path), read_row
        else:
            paths.append(path)
            size += size_of(path)
            continue
        for done, number, items in blocks:
            yield done, (source, path, number, read, items)
    yield size, (last, "", first, read_file, paths)


def line_blocks(path):
    """Yield (bytes of the file, number of the first line, lines) with some MB of a .jsonl(.gz), blank lines included."""
    with open(path, "rb") as raw, gzip.open(raw) if path.endswith(".gz") else nullcontext(raw) as lines:
        first, read = 1, 0
        try:
            while block := lines.readlines(TASK_BYTES):
                yield raw.tell() - read, first, block
                first, read = first + len(block), raw.tell()
        except (EOFError, OSError, zlib.error) as error:
            raise SystemExit(f"{path} cannot be read to its end ({error}): fetch or make it again")


def read_file(path):
    with open(path, "rb") as f:
        return decoded(f.read())


def read_line(line, fields=("text",)):
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not JSON")
    text = next((record[name] for name in fields if isinstance(record.get(name), str)), None) if isinstance(record, dict) else None
    if text is None:
        raise ValueError(f"no {' or '.join(map(repr, fields))}")
    return read_row(text)


def read_row(text):
    return decoded(text.encode("utf-8", "surrogatepass"))


def decoded(data):
    """A document's text; raises ValueError with the reason to leave it out."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8")
    if "\0" in text:
        raise ValueError("binary (holds NUL)")
    if "\r" in text:  # looking for one character is ten times as fast
        text = text.replace("\r\n", "\n")
    if not text.strip():
        raise ValueError("empty")
    return text


def read_items(read, items, first, dropped, corrupt):
    """Yield (number, item, text) of the items that hold a document. Counts the others in `dropped` by reason, and puts the numbers of
    lines that should hold one into `corrupt`."""
    for number, item in enumerate(items, first):
        if isinstance(item, bytes) and not item.strip():
            continue
        try:
            text = read(item)
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            dropped[reason] += 1
            if isinstance(item, bytes) and reason != "empty":
                corrupt.append(f"{number} ({reason})")
        else:
            yield number, item, text


def in_parallel(function, items, workers, setup=None, *arguments):
    """Yield (size, function(item)) for (size, item) in items, in order. In each process the global `worker` is setup(*arguments). Only
    a few items per worker are in flight, so memory does not grow with their number."""
    pool, pending = ProcessPoolExecutor(workers, initializer=start_worker, initargs=(setup, arguments)), deque()
    try:
        for size, item in items:
            pending.append((size, pool.submit(function, item)))
            if len(pending) >= 4 * workers:
                size, future = pending.popleft()
                yield size, future.result()
        for size, future in pending:
            yield size, future.result()
        pool.shutdown()
    except BrokenProcessPool:
        raise SystemExit("a worker process was killed, most likely because memory ran out: try fewer --workers")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def start_worker(setup, arguments):
    def end_with_parent():  # a worker does not outlive a parent that was killed
        multiprocessing.parent_process().join()
        os._exit(1)

    global worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")  # of the compiler, about the documents
    worker = setup(*arguments) if setup else None


# ---- the client: OpenAI's REST API by hand ---------------------------------------------------------------------------

OPENAI = "https://api.openai.com/v1"
TRIES = 14  # over some five minutes
NO_CREDIT = ("insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached", "billing_not_active")
ENDS = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed")  # how servers say that an answer is whole
SWAP = {"max_completion_tokens": "max_tokens", "max_tokens": "max_completion_tokens"}  # the new and the old name of one parameter
# Rejections that are this prompt's fault and final. Any other may be the server's fault: the next run asks again
FINAL = re.compile("(?i)finish_reason (length|content_filter)|no text in the answer|broken characters|context.?(length|window|size)|"
                   "too (long|large)|HTTP 413|content.?(policy|filter|management)|safety|moderation|flagged|invalid.prompt")
USELESS, REFUSALS = 100, 20  # so many answers in a row without a usable one, or refusals that are not final, end the run


class Refused(Exception):
    """The server will never answer this request; .error is what it says."""
    def __init__(self, error):
        super().__init__(error["message"])
        self.error = error


class GaveUp(Exception):
    """No answer after all tries, or the run is ending."""


def one_line(text):
    return "".join(c if c.isprintable() else " " for c in " ".join(str(text)[:1000].split()))[:200]


def error_of(status, data):
    """The error in an answer's body, whatever the server sent (OpenAI's form, others', text, HTML), as {"message": one line, "says":
    all of it} and, where the server says so, "code" and "param"."""
    text = data.decode("utf-8", "replace").strip()
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        page = re.search(r"(?is)<(title|h1)\b[^>]*>(.*?)</", text)
        torn = not text or text.startswith("{")
        if text.startswith("<"):
            what = "a web page" + (f", {one_line(page[2])!r}" if page else "")
        elif text.startswith("{"):
            what = "JSON that is cut off"
        else:
            what = one_line(text) or "an empty answer"
        return {"message": f"HTTP {status}: {what}", "says": text, "torn": torn}
    body = body[0] if isinstance(body, list) and len(body) == 1 else body  # as Gemini sends it
    error = body.get("error") or body if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return {"message": f"HTTP {status}: {one_line(error)}", "says": text}
    message = error.get("message") or json.dumps(error.get("detail", error))
    code = next((error.get(name) for name in ("code", "type") if error.get(name) in NO_CREDIT), error.get("code") or error.get("type"))
    named = f" ({one_line(code)})" if code else ""
    return {"message": f"HTTP {status}: {one_line(message)}{named}", "says": json.dumps(error), "code": str(code), "param": error.get("param")}


def kind_of(status, error):
    """What an error answer asks for: "stop" the run, try "later", or leave this item: "refuse"."""
    if status == 403 and FINAL.search(error["message"]):
        return "refuse"  # one prompt that was flagged, not the key
    if (status == 429 and error.get("code") in NO_CREDIT) or status in (401, 402, 403, 404, 405) or 300 <= status < 400:
        return "stop"
    return "later" if status in (408, 409, 421, 424, 425, 429, 498, 499) or status >= 500 or status < 300 else "refuse"


def retry_after(headers):
    """Seconds that the server asks to wait, from retry-after-ms or Retry-After (seconds or a date); None if it does not say."""
    for name, seconds in (("retry-after-ms", lambda value: float(value) / 1000), ("retry-after", float),
                          ("retry-after", lambda value: parsedate_to_datetime(value).timestamp() - time.time())):
        with suppress(KeyError, ValueError, TypeError, OverflowError):
            if math.isfinite(wait := seconds(headers[name])):
                return max(0.0, min(3600.0, wait))


def answer_of(reply):
    """(text, None) or (None, why it cannot be used) from the JSON of a chat completion."""
    try:
        choice = reply["choices"][0]
        text, finish = choice["message"].get("content"), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        return None, "no choices in the answer"
    if isinstance(text, list):  # parts, as some servers answer
        text = "".join(part["text"] for part in text if isinstance(part, dict) and isinstance(part.get("text"), str))
    finish = finish.lower() if isinstance(finish, str) else finish
    if not (finish in ENDS or finish in (None, "", "tool_calls", "function_call") and text):
        return None, f"finish_reason {'length' if finish in ('max_tokens', 'model_length') else one_line(finish)}"
    text = re.split(r"</think(?:ing)?>(?!['\")])|\[/THINK\]|<\|channel\|>final<\|message\|>", text)[-1] if isinstance(text, str) else ""  # some leave the reasoning in
    text = text.strip()
    for _ in range(3):  # or the model's own marks of the end
        if text.endswith("|>") and re.fullmatch(r"\w+", text[text.rfind("<|") + 2:-2]):
            text = text[:text.rfind("<|")].rstrip()
    if re.match(r"<think(ing)?>|\[THINK\]|<\|(start|channel)\|>", text):
        text = ""  # the reasoning never came to an end
    if "\0" in text or re.search("[\ud800-\udfff]", text):
        return None, "broken characters"
    return (text, None) if text else (None, "no text in the answer")


def fields_of(value):
    """The value if it is a dict, else an empty one: servers send null, lists and texts where the API has an object."""
    return value if isinstance(value, dict) else {}


def tokens_of(reply, prompt, text):
    """[in, out] as the server counts them; where it does not, or says 0, four characters are taken for one token. Some servers count
    reasoning, which is paid, in the total only."""
    usage = fields_of(reply.get("usage"))
    total, *counted = (int(n) if type(n) in (int, float) and 0 < n < 1e9 else 0 for n in map(usage.get, ("total_tokens", "prompt_tokens", "completion_tokens")))
    read, made = (n or len(t or "") // 4 for n, t in zip(counted, (prompt, text)))
    return [read, max(made, total - read)]


def base_url():
    return os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI


class Client:
    """A server that speaks OpenAI's API, OPENAI_BASE_URL with the key OPENAI_API_KEY, for many threads at once.

        client = Client("gpt-5.6-luna", temperature=0.7, max_tokens=1500, price=(0.20, 1.20), budget=5.0)
        answers = ask_all(client, [(prompt, about), ...], "data/x.answers.jsonl")   # about: a dict that is stored with the answer
        for record in answers.read():
            record["about"], record.get("text"), record.get("rejected")             # one of the two, text or why there is none
    """
    def __init__(self, model, temperature=None, max_tokens=1000, reasoning_effort="none", price=(0, 0), budget=math.inf, concurrency=32, timeout=600):
        self.model, self.price, self.budget, self.concurrency, self.timeout = model, price, budget, concurrency, timeout
        self.base, _, self.query = base_url().partition("?")  # Azure's has an api-version
        self.base = self.base.rstrip("/")
        self.where = re.sub("//[^/]*@", "//", self.base)  # as shown to the user: without a password
        self.key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not self.key and self.base == OPENAI:
            raise SystemExit("no key: export OPENAI_API_KEY=...; a local server needs none, only its address: "
                             "export OPENAI_BASE_URL=http://localhost:8000/v1")
        self.headers = {header: os.environ.get(name, "").strip() for header, name in (("OpenAI-Organization", "OPENAI_ORG_ID"),
                                                                                      ("OpenAI-Project", "OPENAI_PROJECT_ID"))}
        if not all(value.isascii() and value.isprintable() for value in (self.key, *self.headers.values())):
            raise SystemExit("OPENAI_API_KEY, OPENAI_ORG_ID or OPENAI_PROJECT_ID holds a character that none has: copy it again")
        # Sent with each prompt until the server refuses one of them. Reasoning models think before they answer, at the price of output:
        # not needed here. The limit goes by its new name to OpenAI's servers only: some others pass that over in silence
        limit = "max_completion_tokens" if "openai" in self.base else "max_tokens"
        params = {"temperature": temperature, limit: max_tokens, "reasoning_effort": reasoning_effort}
        self.params = {name: value for name, value in params.items() if value not in (None, "")}
        self.settings = {"model": model, "temperature": temperature, "max_tokens": max_tokens, "reasoning_effort": reasoning_effort}
        self.local, self.lock, self.stopping = threading.local(), threading.Lock(), threading.Event()
        self.resume_at, self.answered, self.refused = 0.0, 0, set()
        self.spent = 0.0  # dollars, with what has come and is not stored yet

    def session(self):
        """This thread's own connection."""
        if not hasattr(self.local, "session"):
            import requests
            self.local.session = session = requests.Session()
            session.headers.update({header: value for header, value in self.headers.items() if value})
            if self.key:
                def sign(request):  # as `auth`, so that no ~/.netrc takes its place
                    request.headers["Authorization"] = f"Bearer {self.key}"
                    if self.query:
                        request.headers["api-key"] = self.key  # Azure's own name for it
                    return request
                session.auth = sign
        return self.local.session

    def fetch(self, method, path, timeout=None, **kwargs):
        """(status, headers, body) of one request. Its body has `timeout` seconds from the headers on: the timeouts of requests are for each piece that comes."""
        timeout = timeout or self.timeout
        connect = timeout if "files" in kwargs else min(10, timeout)  # which has to be enough for all that is sent, too
        url = self.base + path + (("&" if "?" in path else "?") + self.query if self.query else "")
        stored = path.startswith("/files/")  # may lie elsewhere; requests keeps our key from there
        with self.session().request(method, url, timeout=(connect, timeout), allow_redirects=stored and not self.query, stream=True, **kwargs) as response:
            def hang_up():
                with suppress(Exception):  # the answer has just come to its end, or urllib3 is older than 2.3
                    response.raw.shutdown()
            timer = threading.Timer(timeout, hang_up)
            timer.daemon = True
            timer.start()
            try:
                data = response.content
            finally:
                timer.cancel()
            if len(self.key) >= 16:  # what a server echoes must not reach a file (local servers' "EMPTY" may)
                for spelled in (self.key, "".join(f"\\u{ord(c):04x}" for c in self.key)):
                    data = data.replace(spelled.encode(), b"[key]")
            return response.status_code, response.headers, data

    def sleep(self, seconds):
        if self.stopping.wait(seconds):
            raise GaveUp("the run is ending")

    def call(self, method, path, need=None, tries=TRIES, **kwargs):
        """What the server answers: JSON with the field `need`, or bytes if need is None. Tries again on what may pass. Raises
        Refused where it will not, GaveUp after all tries, and SystemExit where no request can succeed."""
        import requests
        from urllib3.exceptions import LocationParseError, NewConnectionError
        attempt, strange, before, progress = 0, 0, self.answered, self.answered
        while True:
            while (pause := self.resume_at - time.monotonic()) > 0:  # all threads wait where one was told to
                self.sleep(pause * random.uniform(1, 1.2))
            if self.stopping.is_set():
                raise GaveUp("the run is ending")
            status, wait = 0, None
            try:
                status, headers, data = self.fetch(method, path, **kwargs)
                wait = retry_after(headers)
                with suppress(ValueError, RecursionError):
                    value = json.loads(data) if 200 <= status < 300 and need else data
                    if 200 <= status < 300 and (not need or isinstance(value, dict) and need in value):
                        self.answered += 1
                        return value
                error = error_of(status, data)
                if status < 300 and str(error.get("code")).isdecimal() and int(error["code"]) >= 400:  # OpenRouter's way to say it
                    status = int(error["code"])
            except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema,
                    LocationParseError):
                raise SystemExit(f"OPENAI_BASE_URL is {self.where}, which is no address: give one such as http://localhost:8000/v1")
            except requests.RequestException as failure:
                error = {"message": f"no answer ({type(failure).__name__})"}
                cause = getattr(failure.args[0] if failure.args else None, "reason", None)
                if isinstance(failure, requests.exceptions.ReadTimeout):
                    tell_once(f"\nno answer within {self.timeout:g} s: if the server answers fewer than {self.concurrency} requests at once, lower --concurrency, "
                              "or raise --timeout: what it makes meanwhile is lost")
                if not self.answered and attempt >= 2 and isinstance(cause, NewConnectionError):
                    raise SystemExit(f"no server answers at {self.where}: start it, or correct OPENAI_BASE_URL")
                if not self.answered and attempt >= 2 and isinstance(failure, requests.exceptions.SSLError):
                    raise SystemExit(f"{self.where} cannot be trusted ({one_line(cause)}): correct OPENAI_BASE_URL (local servers often speak http://), "
                                     "or name the file of your own certificates in REQUESTS_CA_BUNDLE")
            kind = kind_of(status, error) if status else "later"
            if status == 404 and path.startswith("/batches/"):
                raise Refused(error)
            if kind == "stop":
                raise SystemExit(self.explain(status, error, path))
            if kind == "refuse":
                raise Refused(error)
            if 200 <= status < 300 and not error.get("torn"):
                # A proxy's page, another API's answer: three of them, while nobody gets an answer, are no accident
                strange += 1
                if strange == 3 and self.answered == before:
                    raise SystemExit(f"{self.where} answers, but not as OpenAI's API does: {error['message']}. Correct OPENAI_BASE_URL "
                                     "(most end in /v1), or see what stands between")
            delay = max(wait or 0, min(60, 0.5 * 2**attempt) * random.uniform(0.5, 1))  # servers say 1 s throughout an outage
            if wait and delay == wait > 30:
                print(f"\n{self.where} asks to wait {delay:.0f} s: {error['message']}", file=sys.stderr)
            if status == 429:
                with self.lock:
                    self.resume_at = max(self.resume_at, time.monotonic() + delay)
                if self.answered > progress:  # the limit is shared: while others get answers, waiting longer is not failing
                    attempt, progress = 0, self.answered
            attempt += 1
            if attempt >= tries:
                raise GaveUp(error["message"])
            self.sleep(delay)

    def explain(self, status, error, path):
        """One line for an error that ends the run."""
        if 300 <= status < 400:
            why = "answers with a redirect: correct OPENAI_BASE_URL"
        elif status == 401:
            why = "does not accept the key: correct OPENAI_API_KEY" if self.key else "wants a key: export OPENAI_API_KEY=..."
        elif status in (429, 402):
            why = "gives no more credit: add some and give the same command again"
        elif status == 403:
            why = "does not let us in"
        elif path.startswith("/files/"):
            why = f"has forgotten {path}, the answers of a batch. If they are gone for good, remove the .batches.json beside the answers: then they are asked anew"
        elif path.startswith(("/files", "/batches")):
            why = "has no Batch API: run without --batch"
        else:
            names = []
            with suppress(Exception):  # a hint only
                names = [str(model["id"]) for model in json.loads(self.fetch("GET", "/models", timeout=10)[2])["data"]]
            near = difflib.get_close_matches(self.model, names, n=3, cutoff=0.3) or names[:3]
            others = f" but {', '.join(near)}" if near else ""
            why = f"does not know the model {self.model!r}{others}, or is not the API's address (most end in /v1)"
        return f"{self.where} {why} ({error['message']})"

    def refused_parameter(self, sent, error):
        """The name of the parameter that was `sent` and is what the server refused, or None."""
        if not sent or FINAL.search(error["message"]):
            return None  # though it may name max_tokens
        param = str(error.get("param"))
        if param.startswith("messages"):
            return None  # whatever the prompt says
        for says in (param, error["says"]):
            if named := re.search(rf"(?i)\b({'|'.join(sent).replace('_', '[ _]?')})\b", says):
                # the first: behind it some servers repeat the whole request
                return next(name for name in sent if name.replace("_", "") == re.sub("[ _]", "", named[1]).lower())
        if "reasoning_effort" in sent and re.search("""(?i)\\b(?:reasoning|effort|thinking)|['"]none\\*['"]""", error["says"]):
            return "reasoning_effort"  # many servers name the value only

    def leave_out(self, name, params, refused):
        """Take a refused parameter out of params, or call it by its other name if that was not refused as well."""
        value = params.pop(name)
        if (other := SWAP.get(name)) and other not in refused:
            params[other] = value

    def leave_out_for_good(self, names):
        for name in names:
            with self.lock:
                if name in self.params:  # not done by another thread already
                    value = self.params[name]
                    self.refused.add(name)
                    self.leave_out(name, self.params, self.refused)
                    now = f"sent as {SWAP[name]}" if SWAP.get(name) in self.params else "left out"
                    print(f"\nthe server refuses {name}={value}: {now}", file=sys.stderr)

    def body(self, prompt, params):
        return {"model": self.model, "messages": [{"role": "user", "content": prompt}], **params}

    def ask(self, prompt):
        """{"text"} or {"rejected": why}, with "tokens" in and out and "usd", all attempts included."""
        tokens = [0, 0]
        for _ in range(1 if self.settings["temperature"] == 0 else 3):  # an empty or overlong answer may be chance: asked anew twice
            params, refused = dict(self.params), []
            while True:
                try:
                    reply = self.call("POST", "/chat/completions", need="choices", json=self.body(prompt, params))
                    self.leave_out_for_good(refused)  # only now: an error may name a parameter and be about the prompt
                    break
                except Refused as refusal:
                    name = self.refused_parameter(params, refusal.error)
                    if not name or name in refused:
                        return self.record(None, str(refusal), tokens)
                    refused.append(name)
                    self.leave_out(name, params, self.refused.union(refused))
                except GaveUp as error:
                    if any(tokens):  # what was paid before is to be counted
                        return {**self.record(None, str(error), tokens), "again": True}
                    raise
            text, why = answer_of(reply)
            paid = tokens_of(reply, prompt, text)
            tokens = [a + b for a, b in zip(tokens, paid)]
            with self.lock:
                self.spent += self.usd(paid)
            if text or why.startswith("finish_reason content_filter"):
                break
            if self.spent >= self.budget:
                return {**self.record(None, why, tokens), "again": True}
        return self.record(text, why, tokens)

    def record(self, text, why, tokens, share=1.0):
        """What is stored about an answer; "again" means that it is not final."""
        return {**({"text": text} if text else {"rejected": why}), **({} if text or FINAL.search(why) else {"again": True}),
                **({} if text or why != "finish_reason length" else {"max_tokens": self.settings["max_tokens"]}), "tokens": tokens, "usd": self.usd(tokens, share)}

    def usd(self, tokens, share=1.0):
        return round(share * sum(n * price for n, price in zip(tokens, self.price)) / 1e6, 9)


def damage(record):
    """Why a line of a file of answers cannot be used, or None."""
    tokens, usd = record.get("tokens"), record.get("usd")
    if "settings" in record:
        return None if isinstance(record["settings"], dict) else "no 'settings'"
    if not isinstance(record.get("key"), str):
        return "no 'key'"
    if not (isinstance(tokens, list) and [*map(type, tokens)] == [int, int] and isinstance(usd, (int, float)) and math.isfinite(usd)):
        return "no 'tokens' or 'usd'"
    if not isinstance(record.get("max_tokens", 0), int):
        return "no 'max_tokens'"
    if not record.get("again") and not (isinstance(record.get("about"), dict) and isinstance(record.get("text", record.get("rejected")), str)):
        return "no 'about' or 'text'"


class Answers:
    """The file of all answers to one set of prompts: a line with the settings they were asked with, then one line per prompt,
    {"key": hash of the prompt, "about", "text" or "rejected", "tokens", "usd"}, appended and flushed as they come. Of two lines about a
    prompt the later one counts; one with "again" says that the prompt is to be asked again (its cost counts all the same)."""
    def __init__(self, path, settings):
        self.path, self.settings = path, settings
        self.done, self.lines = {}, 0                    # {key of a prompt that has its answer: the answer's line}; lines of the file
        self.tokens, self.usd = [0, 0], 0.0              # in and out, and what they cost, of all answers in the file
        self.useless = []                                # the answers since the last one that can be used
        self.asked, self.again = set(), Counter()        # by the last ask_all: keys; why prompts got no final answer
        self.stopped = ""                                # why the last ask_all ended early
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self.file = open(path, "a+b")
        lock(self.file, path)
        self.file.seek(0)
        begin, whole, found = b'{"settings"', 0, {}
        for line in self.file:
            if not self.lines and line[:len(begin)] != begin[:len(line)]:
                raise SystemExit(f"{path} does not begin with the settings of its answers: it is damaged, or another file. Move it away, or "
                                 "choose another --out")
            if line.endswith(b"\n"):
                self.lines += 1
                whole += len(line)
        self.file.truncate(whole)  # a killed run may have left a torn last line
        for number, record in read_jsonl(path, damage):
            if "settings" in record:
                found = record["settings"]
            else:
                self.count(number, record)
        if self.done and differing(found, settings):
            raise SystemExit(f"{path} was not made with these settings ({differing(found, settings)} differ): move it away, or choose another --out")
        if not self.done and found != settings:  # a new file, or one that was begun and holds no answer yet
            self.file.truncate(0)
            self.lines, self.useless = 0, []
            self.write({"settings": settings})
            if any(self.tokens):
                self.write({"key": "", "again": True, "tokens": self.tokens, "usd": self.usd})

    def count(self, number, record):
        self.done.pop(record["key"], None)
        if not record.get("again") and not record.get("max_tokens", math.inf) < self.settings.get("max_tokens", 0):  # it was cut there
            self.done[record["key"]] = number
        if "rejected" in record:
            self.useless.append(record)
        else:
            self.useless = []
        self.tokens = [a + b for a, b in zip(self.tokens, record["tokens"])]
        self.usd += record["usd"]

    def write(self, record):
        self.file.write(json_line(record))
        self.file.flush()
        self.lines += 1

    def add(self, *records):
        for record in records:
            self.write(record)
            self.count(self.lines, record)
            if record.get("again") and "rejected" in record:
                self.again[record["rejected"]] += 1

    def read(self):
        """Yield the answers, kept and rejected, to the prompts of the last ask_all."""
        for number, record in read_jsonl(self.path, damage):
            if record.get("key") in self.asked and self.done.get(record["key"]) == number:
                yield record

    def so_far(self):
        return f"{self.tokens[0] / 1e6:.2f}M tokens in, {self.tokens[1] / 1e6:.2f}M out, ${self.usd:.2f}"

    def stop_if_useless(self, client):
        """End the run where the latest answers were all of no use, and take them back: the next run asks them again."""
        waves = 2 * client.concurrency  # a refusal comes sooner than an answer: some of each wave of requests are no sign yet
        refused = [record for record in self.useless[-max(REFUSALS, waves):] if record.get("again")]
        if len(self.useless) < max(USELESS, waves) and len(refused) < max(REFUSALS, waves):
            return
        why, last = listed(Counter(record["rejected"] for record in self.useless), 3), len(self.useless)
        if len(refused) >= REFUSALS:
            advice = "correct the server, or the option that it names"
        elif "context" in why or "too large" in why:
            advice = f"give the model a longer context, or lower --max_tokens (now {client.settings['max_tokens']})"
        else:
            advice = f"raise --max_tokens (now {client.settings['max_tokens']}), or switch off the model's reasoning at the server"
        self.take_back()
        raise SystemExit(f"{client.where}: none of the last {last} answers can be used, {why}: {advice}. The same command asks them again")

    def take_back(self):
        """The latest answers, all rejected, are not final."""
        self.add(*({"key": record["key"], "again": True, "tokens": [0, 0], "usd": 0} for record in self.useless))


def differing(a, b):
    """The names of the settings that differ; max_tokens may, as it changes no answer that is kept."""
    return ", ".join(sorted(name for name in {**a, **b} if a.get(name) != b.get(name) and name != "max_tokens"))


def key_of(prompt):
    return f"{hash_text(prompt):016x}"


def ask_all(client, items, path, settings=None, batch=False, total=None):
    """Ask for every (prompt, about) of `items` that the file at `path` has no answer to, and return its Answers. Ends early, with
    .stopped saying why, where the budget is reached. Of equal prompts one is asked. The settings (the client's are added) must be
    those that the file was begun with. `path` may also be an Answers that a call before returned."""
    answers = path if isinstance(path, Answers) else Answers(path, {**client.settings, **(settings or {})})
    answers.asked, answers.stopped, answers.again = set(), "", Counter()
    if not batch and os.path.exists(batches_of(answers)):
        raise SystemExit(f"{batches_of(answers)} says that batches are on their way: --batch picks them up (removed, their prompts are paid again)")

    def fresh():
        for prompt, about in items:
            key = key_of(prompt)
            if key not in answers.asked:
                answers.asked.add(key)
                if key not in answers.done:
                    yield key, prompt, about

    client.stopping.clear()
    try:
        if batch:
            ask_in_batches(client, fresh(), answers)
        else:
            ask_in_threads(client, fresh(), answers, total)
    except KeyboardInterrupt:
        raise SystemExit(f"interrupted: {len(answers.done):,} answers ({answers.so_far()}) are kept in {answers.path}; the same command goes on")
    except (GaveUp, Refused) as error:  # in batch mode
        raise SystemExit(f"{client.where} fails: {error}; the same command goes on")
    except SystemExit as error:
        raise SystemExit(f"{error} ({len(answers.done):,} answers, {answers.so_far()}, are kept in {answers.path})" if answers.done else error.code)
    if answers.again:
        print(f"{sum(answers.again.values()):,} prompts got no answer that can be used ({listed(answers.again, 3)}): the same command asks "
              "them again")
    return answers


def ask_in_threads(client, items, answers, total):
    """A bounded window of requests. This thread alone writes, and writes what has come before it asks for more."""
    pending, failures, interrupted, come = {}, 0, False, queue.SimpleQueue()
    client.spent = answers.usd
    pool = ThreadPoolExecutor(client.concurrency)

    def on_signal(number, _):  # no exception, which could strike between taking an answer and storing it
        nonlocal interrupted
        if interrupted and number == signal.SIGINT:  # a second Ctrl-C; a closed terminal may send several SIGHUP
            os._exit(130)
        interrupted = True
        come.put(None)

    def take():
        """Store what has come, then end the run if something in it says so."""
        nonlocal failures
        records, fatal = [], None
        for future in filter(None, [come.get(), *(come.get() for _ in range(come.qsize()))]):
            key, about = pending.pop(future)
            try:
                records.append({"key": key, "about": about, **future.result()})
                failures = 0
            except GaveUp as error:  # the next run asks again; where none succeeds any more, this run ends
                answers.again[str(error)] += 1
                failures += 1
                if failures == max(4, client.concurrency) or not (client.answered or pending):
                    fatal = SystemExit(f"{client.where} fails: {error}, after {TRIES} tries for each of {failures} prompts. The same command goes on")
            except (SystemExit, Exception) as error:  # after the others' answers are stored
                fatal = error
        for record in records:
            if "rejected" in record and client.stopping.is_set():
                record["again"] = True  # why the run ends may be why this was rejected
        answers.add(*records)
        bar.update(len(records))
        bar.set_postfix_str(answers.so_far(), refresh=False)
        if fatal:
            raise fatal
        if interrupted and not client.stopping.is_set():
            print(f"\nwaiting for {len(pending)} answers under way; Ctrl-C again leaves them", file=sys.stderr)
            raise KeyboardInterrupt
        answers.stop_if_useless(client)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
              if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN}  # nohup ignores SIGHUP
    with tqdm(total=total and max(total, len(answers.done)), initial=len(answers.done), unit="answer", smoothing=0.1) as bar:
        try:
            for key, prompt, about in items:
                while len(pending) >= client.concurrency or interrupted:
                    take()
                if client.spent >= client.budget:
                    answers.stopped = f"the budget of ${client.budget:g} is reached"
                    break
                future = pool.submit(client.ask, prompt)
                pending[future] = key, about
                future.add_done_callback(come.put)
            while pending:
                take()
        except BaseException as error:
            client.stopping.set()  # no further try; what is under way is paid, so it is waited for
            if pending and isinstance(error, SystemExit):
                print(f"\n{error}: waiting for {len(pending)} answers under way; Ctrl-C leaves them", file=sys.stderr)
            while pending:
                with suppress(SystemExit, OSError):
                    take()
            raise error
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            pool.shutdown(wait=False, cancel_futures=True)


# ---- the client: batches at half the price ---------------------------------------------------------------------------

BATCH_LINES, BATCH_BYTES = 50_000, 190_000_000  # the API allows 50,000 lines and 200 MB in a file


def batches_of(answers):
    return re.sub(r"(\.answers)?\.jsonl$", "", answers.path) + ".batches.json"


def ask_in_batches(client, items, answers):
    """The same through the Batch API. What is on its way is noted beside the answers, in .batches.json, before each step that
    costs: {"settings", "batches": [{"keys": {key: about}, "file": id of the uploaded file, "tried": was the batch asked for, "batch": its id}, ...]}."""
    note, todo, begun = batches_of(answers), {key: (prompt, about) for key, prompt, about in items}, len(answers.done)
    under_way, gone, most = noted_batches(client, note, answers), [], None

    def save():
        if under_way or gone:
            with whole_file(note) as f:
                f.write(json.dumps({"settings": answers.settings, "batches": under_way + gone}).encode())
        elif os.path.exists(note):
            os.remove(note)

    while todo or under_way:
        chunks = chunks_for(client, todo, {key for entry in under_way for key in entry["keys"]}, answers)
        if answers.stopped and len(answers.done) > begun and sum(map(len, chunks)) < len(answers.done) / 10:
            chunks = []  # a rest of the budget is not worth another day's wait for a few lines
        if most:
            chunks = [dict(itertools.islice(chunk.items(), most)) for chunk in chunks[:1] if not under_way]
        for chunk in chunks:
            file = client.call("POST", "/files", need="id", data={"purpose": "batch"},
                               files={"file": ("prompts.jsonl", b"".join(chunk.values()), "application/jsonl")})["id"]
            under_way.append({"keys": {key: todo[key][1] for key in chunk}, "file": file, "tried": False, "batch": None})
            save()
        refused = [why for entry in under_way if not entry["batch"] and (why := create_batch(client, entry, save))]
        under_way = [entry for entry in under_way if entry["batch"]]  # what is refused is sent anew, perhaps in smaller batches
        save()
        if not under_way and not refused:
            break
        largest = max((len(entry["keys"]) for entry in under_way), default=0)
        lines_before, refused_before, started, looks = answers.lines, set(client.refused), time.time(), Counter()
        reason, cancelled, pause = "", "", 0.25
        while under_way:
            for entry in [*under_way]:
                batch = ended_batch(client, entry, started, looks)
                if not batch:
                    continue
                if batch["status"] == "not there":
                    gone.append(entry)
                else:
                    reason = take_batch(client, batch, entry["keys"], todo, answers) or reason
                if batch["status"] == "cancelled":
                    cancelled = entry["batch"]
                under_way.remove(entry)
                save()
            if under_way:
                client.sleep(pause)
                pause = min(60, pause * 1.5)
        answers.stop_if_useless(client)
        if refused:
            raise SystemExit(f"{client.where} refuses a batch: {refused[0]}. The same command tries it again; a smaller --count makes smaller ones")
        if gone:
            raise SystemExit(f"{client.where} does not know {gone[0]['batch']}, with {len(gone[0]['keys']):,} prompts: with the key, the project and the "
                             f"OPENAI_BASE_URL that began it, the same command picks it up. If it is gone for good, remove {note}: then they are asked anew")
        if todo and cancelled:
            raise SystemExit(f"{client.where}: {cancelled} was cancelled. The same command asks anew what it did not answer")
        if todo and answers.lines == lines_before and re.search("(?i)token.?limit|enqueued", reason) and largest > 100:
            most = largest // 2  # OpenAI's new accounts may have a few hundred lines waiting
            print(f"{one_line(reason).rstrip('.')}: the next batches are of {most:,} lines, one at a time")
        elif todo and answers.lines == lines_before and client.refused == refused_before:
            if len(todo) > len(answers.done) / 10:
                raise SystemExit(f"the batches brought no answer: {reason or 'no line came back'}. The same command sends them again; a smaller "
                                 "--count makes smaller ones")
            answers.again[reason or "no line came back"] += len(todo)  # a few lines that never succeed do not keep the others
            break


def noted_batches(client, note, answers):
    """The batches that an earlier run noted as on their way."""
    if not os.path.exists(note):
        return []
    under_way = []
    try:
        with open(note) as f:
            noted = json.load(f)
        settings = dict(noted["settings"])
        for entry in noted["batches"]:
            keys = {key: dict(about) for key, about in entry["keys"].items()}
            under_way.append({"keys": keys, "file": entry["file"], "tried": entry["tried"], "batch": entry["batch"]})
    except (ValueError, TypeError, KeyError, AttributeError):
        raise SystemExit(f"{note}, which says what batches are on their way, is damaged: see at {client.where} whether some are, then remove it")
    if differing(settings, answers.settings):
        raise SystemExit(f"{note}: batches are on their way that were asked with other settings ({differing(settings, answers.settings)} "
                         "differ): give those again, or another --out")
    print(f"{len(under_way)} batches of an earlier run, with {sum(len(entry['keys']) for entry in under_way):,} prompts, are picked up")
    return under_way


def ended_batch(client, entry, started, looks):
    """Look how a batch is doing. Returns it once it has ended (as "not there" where the server does not know it), else None. looks: how
    often each was found ended and its answers not there yet."""
    name, batch = entry["batch"], {"status": "not there"}
    try:
        batch = client.call("GET", f"/batches/{name}", need="id")
    except Refused as error:
        if not str(error).startswith("HTTP 404"):
            raise
    except GaveUp as error:
        print(f"\r{name}: {error}; asked again", end="", flush=True)
        return None  # waiting costs nothing
    status = batch["status"] = str(batch.get("status")).lower().replace("canceled", "cancelled")
    done = fields_of(batch.get("request_counts")).get("completed")
    done = done if isinstance(done, int) else None
    print(f"\r{name}: {status}, {done or 0:,} of {len(entry['keys']):,} lines, {(time.time() - started) / 60:.0f} min   ", end="", flush=True)
    if status not in ("completed", "failed", "expired", "cancelled", "not there"):
        return None
    print()
    # On some servers a batch can be asked for, and names its files, a while after it began and ended
    if (status == "not there" or status != "failed" and done != 0 and not batch.get("output_file_id")) and looks[name] < TRIES:
        looks[name] += 1
        return None
    if status == "completed" and done != 0 and not (batch.get("output_file_id") or batch.get("error_file_id")):
        raise SystemExit(f"{client.where} has done {name} and names no file with its answers: the same command looks again")
    return batch


def chunks_for(client, todo, sent, answers):
    """[{key: line}, ...], one for each batch to start with what is in `todo` and not in `sent`, cut where the budget ends. The price of
    a batch shows only afterwards: lines are sent while their dearest outcome, or the mean so far, fits the budget."""
    longest = client.params.get("max_completion_tokens") or client.params.get("max_tokens") or 4000
    left, chunks, size = client.budget - answers.usd, [], 0
    answers.stopped = ""
    for key, (prompt, _) in todo.items():
        left -= answers.usd / len(answers.done) if len(answers.done) >= 100 else client.usd([len(prompt) // 4, longest], 0.5)
        if left < 0 or answers.usd >= client.budget:
            answers.stopped = f"the budget of ${client.budget:g} leaves no room for another line"
            break
        if key not in sent:
            line = json_line({"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": client.body(prompt, client.params)})
            if not chunks or len(chunks[-1]) == BATCH_LINES or size + len(line) > BATCH_BYTES:
                chunks.append({})
                size = 0
            chunks[-1][key] = line
            size += len(line)
    return chunks


def create_batch(client, entry, save):
    """POST /batches exactly once for an uploaded file. Where the outcome of an attempt is not known (the program was killed, the
    connection cut), the server's list is searched first: a second batch for this file would be paid a second time. Returns why
    the server refuses, if it does."""
    for attempt in range(TRIES):
        for wait in (0, 1, 2, 4, 8, 16) if entry["tried"] else ():  # a request that was cut may still be at work
            client.sleep(wait)
            after = ""
            for _ in range(20):
                page = client.call("GET", f"/batches?limit=100{after}", need="data")
                found = [*map(fields_of, page["data"] or [])]
                if mine := [batch["id"] for batch in found if batch.get("input_file_id") == entry["file"]]:
                    entry["batch"] = mine[0]
                    return save()
                if not found or not page.get("has_more"):
                    break
                after = f"&after={found[-1].get('id')}"
        entry["tried"] = True
        save()
        try:
            entry["batch"] = client.call("POST", "/batches", need="id", tries=1, json={
                "input_file_id": entry["file"], "endpoint": "/v1/chat/completions", "completion_window": "24h"})["id"]
            return save()  # before the first poll
        except GaveUp as error:
            reason = str(error)
            client.sleep(min(60, 0.5 * 2**attempt))
        except Refused as error:
            return str(error)
    raise SystemExit(f"{client.where} starts no batch ({reason}): the same command tries again")


def read_batch(client, batch):
    """(the lines of a batch's error and output file, are some torn or missing), read again a few times where they are."""
    completed = fields_of(batch.get("request_counts")).get("completed")
    for wait in (1, 5, 20, None):
        rows, torn = [], False
        for name in filter(batch.get, ("error_file_id", "output_file_id")):  # the useless first: they are no sign if others are of use
            for line in filter(bytes.strip, client.call("GET", f"/files/{batch[name]}/content").splitlines()):
                try:
                    rows.append(json.loads(line))
                except (ValueError, RecursionError):
                    torn = True
        distinct = {str(fields_of(row).get("custom_id")) for row in rows}
        torn = torn or isinstance(completed, int) and len(distinct) < completed
        if not torn or wait is None:
            return rows, torn
        client.sleep(wait)


def take_batch(client, batch, abouts, todo, answers):
    """Append what a batch that has ended holds, from its output and its error file, and take it out of `todo`. Of its prompts,
    {key: about}, some may not be in `todo`: they are paid as well. Returns why lines are missing, if some are: they are sent again in the
    next batch. Reading a batch twice adds nothing: lines are joined on custom_id."""
    rows, torn = read_batch(client, batch)
    errors = fields_of(batch.get("errors")).get("data") or batch.get("errors") or []
    errors = errors if isinstance(errors, list) else [errors]
    reason = "; ".join(one_line(fields_of(error).get("message") or error) for error in errors[:3])
    answered = any(fields_of(fields_of(row).get("response")).get("status_code") == 200 for row in rows)
    for row in rows:
        key, response = fields_of(row).get("custom_id"), fields_of(fields_of(row).get("response"))
        if not isinstance(key, str) or key not in abouts or key in answers.done:
            continue
        prompt, _ = todo.get(key, ("", None))
        status, reply = response.get("status_code"), response.get("body")
        status, reply = int(status) if str(status).isdecimal() else 0, fields_of(reply)
        if status == 200:
            text, why = answer_of(reply)
            record = client.record(text, why, tokens_of(reply, prompt, text), 0.5)
        else:
            error = error_of(status, json.dumps(reply if reply else {"error": row.get("error")}).encode())
            if not status or kind_of(status, error) != "refuse":
                reason = error["message"]
                continue
            name = client.refused_parameter({**dict.fromkeys(client.refused), **client.params}, error)
            if name and not answered:  # with the same parameters
                client.leave_out_for_good([name])
                reason = f"a parameter is refused ({error['message']})"
                continue
            record = client.record(None, error["message"], [0, 0])
        answers.add({"key": key, "about": abouts[key], **record})
        todo.pop(key, None)
    if torn:
        completed = fields_of(batch.get("request_counts")).get("completed")
        raise SystemExit(f"{client.where} sends the files of {batch['id']} torn, or without some of its {completed} lines: what came is kept, and the same "
                         f"command reads them again. If that does not help, remove {batches_of(answers)}: then what is missing is asked anew")
    return reason


# ---- asking until there is enough (annotate, textbooks, exercises) ----------------------------------------------------

PRICES = {"gpt-5.6-luna": (0.20, 1.20), "gpt-6-luna": (0.10, 0.50)}  # USD per million tokens in and out, 2026-11; --price wins
EXPECTED = {"annotate": 90, "textbooks": 1100, "exercises": 230}     # tokens of one answer (of one exercise), for --dry-run only


def make(args, items, keep, dropped, about_prompts, per_answer=1):
    """Ask the `items` in order until --count documents are kept, and write these to --out. keep(records) yields the documents (dicts) of
    some answers, and counts in `dropped` what it leaves out. about_prompts: all that prompts are made of; the program ends where the answers
    on disk were made of something else. per_answer: documents that one answer should hold. Returns how many are kept, None after a dry run."""
    price = args.price or PRICES.get(args.model)
    if args.dry_run:
        return dry_run(args, items, price, per_answer)
    if not price and "api.openai.com" in base_url():
        raise SystemExit(f"the price of {args.model} is not known: give it in dollars per million tokens, --price IN OUT")
    path = beside(args.out, ".answers.jsonl")
    if os.path.exists(args.out) and not os.path.exists(path):
        raise SystemExit(f"{args.out} is there and its answers, {path}, are not: another program made it; choose another --out")
    client = Client(args.model, args.temperature, args.max_tokens, args.reasoning_effort, price or (0, 0), args.budget, args.concurrency,
                    args.timeout)
    if not price:
        print(f"{args.model} at {client.where} is taken to be free" + (": no --budget is ever reached" if args.budget < math.inf else "")
              + "; --price IN OUT sets a price")
    settings = {"stage": args.stage, "prompts": key_of(repr(about_prompts)), "seed": args.seed}
    most = 3 * math.ceil(args.count / per_answer) + 20  # prompts, however many answers are dropped
    answers, asked, kept, more = path, 0, 0, True
    items = iter(items)
    with whole_file(args.out) as out:
        while kept < args.count and asked < most:
            # as many as are missing at the rate so far; a million prompts need not be in memory at once in batch mode
            missing = (args.count - kept) / (kept / asked if kept else per_answer)
            n = min(math.ceil(missing * (1.02 if asked else 1)), most - asked, 200_000 if args.batch else 1 << 60)
            answers = ask_all(client, itertools.islice(items, n), answers, settings, args.batch, asked + n)
            before, asked = kept, asked + len(answers.asked)
            for document in itertools.islice(keep(answers.read()), args.count - kept):
                out.write(json_line(document))
                kept += 1
            more = next(items, None)  # is there another prompt? It is put back
            items = itertools.chain([more], items)
            if answers.stopped or not more or kept == before and (not kept or len(answers.asked) > 20):  # a few may all be of no use
                break
        if not kept and len(answers.useless) >= asked > 0:
            answers.take_back()
            raise SystemExit(f"none of the {asked:,} answers can be used: {listed(dropped or answers.again)}. The same command asks them again")
    print(f"{args.out}: {kept:,} {'labels' if args.stage == 'annotate' else args.stage} kept from the answers to {asked:,} prompts; dropped: {listed(dropped)}")
    print(f"all answers so far: {answers.so_far()}, ${answers.usd / max(1, kept):.5f} for each that is kept")
    if answers.stopped:
        print(f"{answers.stopped}: the same command with a larger --budget goes on, nothing is asked twice")
    elif kept < args.count:
        if not more:
            why = "there are no further prompts"
        elif dropped.total():
            why = "too many answers were dropped, for the reasons above"
        else:
            why = (f"an answer held {kept / max(1, asked):.1f} where {per_answer} were asked for; "
                   "--per_call 1 in another --out asks for one at a time")
        print(f"{args.count - kept:,} fewer than asked for: {why}")
    return kept


def dry_run(args, items, price, per_answer):
    prompts = [prompt for prompt, _ in itertools.islice(items, 3)]
    for number, prompt in enumerate(prompts, 1):
        print(f"---- prompt {number} of {len(prompts)} " + "-" * 80 + f"\n{prompt}")
    calls = math.ceil(args.count / per_answer)
    tokens_in = calls * sum(map(len, prompts)) / max(1, len(prompts)) / 4
    tokens_out = args.count * EXPECTED[args.stage]
    print(f"---- {calls:,} calls, about {tokens_in / 1e6:,.2f}M tokens in (4 characters each) and {tokens_out / 1e6:,.2f}M out "
          f"({EXPECTED[args.stage]} expected for each of {args.count:,})")
    usd = (tokens_in * price[0] + tokens_out * price[1]) / 1e6 if price else 0
    print((f"${usd:,.2f} at ${price[0]:g} and ${price[1]:g} per million tokens in and out, ${usd / 2:,.2f} with --batch" if price else
           f"the price of {args.model} is not known here: --price IN OUT computes the sum") + ". No call was made")


# ---- collect ---------------------------------------------------------------------------------------------------------

FIELDS = ("text", "content", "code")  # that hold the text of a record, the first of them that is there; The Stack has content
MAX_BYTES, MAX_LINE, MAX_MEAN_LINE, MIN_ALPHANUMERIC = 1 << 20, 1000, 100, 0.25  # StarCoder's, and 1 MB


def check_text(text, code):
    """Raises ValueError with the reason where the cheap filters reject a document."""
    if len(text) > MAX_BYTES:
        raise ValueError("over 1 MB")
    lines = text.splitlines()
    if max(map(len, lines)) > MAX_LINE:
        raise ValueError(f"a line over {MAX_LINE} characters")
    if len(text) > MAX_MEAN_LINE * len(lines):
        raise ValueError(f"mean line over {MAX_MEAN_LINE} characters")
    if sum(map(str.isalnum, text)) < MIN_ALPHANUMERIC * len(text):
        raise ValueError("few letters and digits")
    if code and not parsed(text):
        raise ValueError("not Python 3")


def parsed(code):
    """The syntax tree of Python 3 code, None of other text."""
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.parse(code)


def collect_task(task):
    """Filter a task's documents. Returns (path, [(hash, line of the output)], {reason: dropped}, [lines that hold no document])."""
    _, path, first, read, items = task
    documents, dropped, corrupt = [], Counter(), []
    for number, item, text in read_items(read_small_file if read is read_file else read, items, first, dropped, corrupt):
        try:
            check_text(text, code=not path.endswith(".xml"))
            documents.append((hash_text(text), json_line({"text": text, "source": readable(f"{path}:{number}" if path else item)})))
        except ValueError as error:
            dropped[str(error)] += 1
    return path, documents, dropped, corrupt


def readable(name):
    """The name of a file, which need not be UTF-8, as text that is."""
    return os.fsencode(name).decode(errors="replace")


def read_small_file(path):
    if os.path.getsize(path) > MAX_BYTES:
        raise ValueError("over 1 MB")
    return read_file(path)


def parquet_rows(path, fields):
    """Yield (bytes of the file, number of the first row, texts). The text's column may lie in others: "file.content"."""
    import pyarrow.parquet
    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = [file.schema.column(i).path for i in range(len(file.schema))]
        column = next((name for name in fields if name in names), None)
        if not column:
            raise SystemExit(f"{path} has no column {' or '.join(fields)}, but {', '.join(names)}: name one with --field")
        first, total = 1, max(1, file.metadata.num_rows)
        for batch in file.iter_batches(batch_size=500, columns=[column]):
            values = batch.to_pylist()
            for name in column.split("."):
                values = [value.get(name) if isinstance(value, dict) else None for value in values]
            texts = [value.decode(errors="surrogateescape") if isinstance(value, bytes) else value or "" for value in values]
            if not all(isinstance(text, str) for text in texts):
                raise SystemExit(f"{path}: its column {column} holds no text; --field names another of {', '.join(names)}")
            yield size_of(path) * len(texts) // total, first, texts
            first += len(texts)
    except (OSError, pyarrow.ArrowException) as error:
        raise SystemExit(f"{path} cannot be read ({one_line(error)}): fetch it again")


def stackoverflow_posts(path):
    """Yield (bytes of the file, number of the first, texts): the Python questions of a StackOverflow dump, each with its best answer,
    the accepted one, else the one with the highest score. The dump has one row per post, questions before their answers; a temporary
    database on disk joins them."""
    import sqlite3
    import xml.etree.ElementTree
    with open(path, "rb") as raw:
        folder = tempfile.mkdtemp(dir=os.path.dirname(path) or ".", prefix=".posts-")
        db = sqlite3.connect(os.path.join(folder, "posts"))
        db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; "
                         "CREATE TABLE posts (id INTEGER PRIMARY KEY, title, body, accepted INTEGER, rank INTEGER DEFAULT -1000000, answer)")
        shutil.rmtree(folder, ignore_errors=True)  # its name only: the open database lives on, and goes with us, however we end
        done = 0
        try:
            events = xml.etree.ElementTree.iterparse(raw, events=("start", "end"))
            _, root = next(events)
            for event, row in events:
                if event == "end" and row.tag == "row":
                    kind, tags = row.get("PostTypeId"), row.get("Tags", "")
                    if kind == "1" and re.search(r"(?<![\w-])python(-[\w.]+)?(?![\w-])", tags):
                        db.execute("INSERT OR IGNORE INTO posts (id, title, body, accepted) VALUES (?, ?, ?, ?)",
                                   (row.get("Id"), row.get("Title", ""), row.get("Body", ""), row.get("AcceptedAnswerId")))
                    elif kind == "2" and row.get("Id"):
                        rank = "CASE WHEN accepted IS ?4 THEN 1000000000 ELSE ?3 END"
                        db.execute(f"UPDATE posts SET answer = ?2, rank = {rank} WHERE id = ?1 AND rank < {rank}",
                                   (row.get("ParentId"), row.get("Body", ""), float(row.get("Score") or 0), int(row.get("Id"))))
                    root.clear()  # or the whole dump would stay in memory
                    if raw.tell() - done > 1 << 26:
                        yield raw.tell() - done, 0, []  # for the progress bar
                        done = raw.tell()
        except (xml.etree.ElementTree.ParseError, ValueError, TypeError, OverflowError, sqlite3.IntegrityError) as error:
            raise SystemExit(f"{path} is not a whole Posts.xml ({error}): fetch it again")
        except sqlite3.OperationalError as error:
            raise SystemExit(f"the database that joins the posts cannot be written beside {path} ({error}): make room there")
        size, first, rows = raw.tell() - done, 1, db.execute("SELECT title, body, answer FROM posts WHERE answer IS NOT NULL ORDER BY id")
        while posts := [f"{title}\n\n{plain(body)}\n\nAnswer:\n\n{plain(answer)}\n" for title, body, answer in rows.fetchmany(500)]:
            yield size, first, posts
            size, first = 0, first + len(posts)
        db.close()


def plain(page):
    """A post's HTML as text, its code in ``` blocks."""
    parts = re.split(r"(?s)<pre[^>]*>\s*<code[^>]*>(.*?)</code>\s*</pre>", page)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = f"\n```\n{html.unescape(part).rstrip()}\n```\n"
        else:
            part = re.sub(r"<li>", "- ", re.sub(r"</?code>", "`", part))
            parts[i] = html.unescape(re.sub(r"<[^>]*>", "", part))
    return re.sub(r"\n{3,}", "\n\n", "".join(parts)).strip()


def collect(args):
    """Sources -> one .jsonl(.gz) of distinct documents, {"text", "source"}."""
    suffixes = (".py", ".jsonl", ".jsonl.gz", ".parquet"), (".xml",)
    total = input_bytes(args, *suffixes)
    seen, dropped, corrupt, read, kept, size_out = Seen(), Counter(), {}, 0, 0, 0
    work = in_parallel(collect_task, tasks(source_files(args, *suffixes), [args.field] if args.field else FIELDS), args.workers)
    with whole_file(args.out) as out, tqdm(total=total, unit="B", unit_scale=True, desc="collect") as bar:
        for size, (path, documents, drops, bad) in work:
            dropped.update(drops)
            read += len(documents) + sum(drops.values())
            if bad:
                corrupt.setdefault(path, []).extend(bad)
            for h, line in documents:
                if seen.add(h):
                    out.write(line)
                    kept, size_out = kept + 1, size_out + len(line)
                else:
                    dropped["exact duplicate"] += 1
            bar.update(size)
        if not kept:
            raise SystemExit(f"no document is left of {read:,}; dropped: {listed(dropped)}" + ("; --field names the one with the text" if corrupt else ""))
    for path, bad in corrupt.items():
        tell_corrupt(path, bad)
    print(f"{args.out}: {kept:,} of {read:,} documents kept ({size_out / 1e9:.3f} GB); dropped: {listed(dropped)}")
    print(f"duplicate rate {dropped['exact duplicate'] / max(1, kept + dropped['exact duplicate']):.1%} of those that passed the filters")
    print(f"next: python prepare_data.py annotate {args.out} --samples 100000 --model MODEL --out data/labels.jsonl --dry-run")


# ---- annotate --------------------------------------------------------------------------------------------------------

DOCUMENT_CHARACTERS = 6000  # of a document that the teacher reads, about 1,800 tokens
# "score: 4", "Score is **4**", "score (0-5): 4/5"; but not a range ("score: 3-4"), another scale ("4/10") or a fraction ("3.5")
SCORE = r"score(?: is)?(?: ?[([]0 ?(?:-|–|to) ?5[])])?\W{0,8}([0-5])(?:\.0+(?!\d))?(?!\s*[-–]\s*\d)(?:\s*/\s*5(?!\d))?(?!\s*/|[\d.]*\d)"


def annotate(args):
    """A random sample of documents -> {"id": hash of the document, "score": 0..5, "reason"}."""
    args.count, scores, dropped = args.samples, Counter(), Counter()
    # The smallest hashes are a sample that does not depend on the order, and a larger --samples contains it. Some more stand by
    # in case answers are of no use
    hashed = ((hash_text(f"{args.seed}{text}"), key_of(text), text[:DOCUMENT_CHARACTERS])
              for text in (record["text"] for _, record in read_documents(args.documents)))
    sample = dict.fromkeys(heapq.nsmallest(args.count + args.count // 4 + 100, hashed))
    items = ((ANNOTATE.format(document=text), {"id": name}) for _, name, text in sample)
    if args.dry_run:
        args.count = min(args.count, len(sample))

    def keep(records):
        for record in records:
            text = record.get("text", "")
            found = [*re.finditer("educational " + SCORE, text, re.I)] or [*re.finditer(SCORE, text, re.I)]
            if found:
                score, reason = int(found[-1][1]), record["text"][:found[-1].start()]
                scores[score] += 1
                yield {"id": record["about"]["id"], "score": score, "reason": " ".join(reason.split())}
            else:
                dropped[record.get("rejected", "no score of 0 to 5 in the answer")] += 1

    if total := make(args, items, keep, dropped, ANNOTATE):
        print("scores: " + ", ".join(f"{score}: {scores[score] / total:.1%}" for score in range(6)))
        print(f"next: python prepare_data.py filter {args.documents} --labels {args.out} --encoder codegen-350M-mono/ --out data/filtered.jsonl.gz")


# ---- filter ----------------------------------------------------------------------------------------------------------

BLOCK = 2048          # documents embedded, and kept on disk, together
BATCH_TOKENS = 16384  # that go through the model at once, padding included
MAX_TOKENS = 1024     # of a document that are embedded


def embed(path, encoder, device, alone=False):
    """Embed the documents of a .jsonl(.gz), and return the block files, in order, each with ids (n,) uint64, lines (n,) int64 and
    vectors (n, D) fp16: the mean of a document's last hidden states. Blocks lie in a folder beside the file, those found there are
    not made again, and ranks under torchrun take turns where this one is not `alone`. Returns None on ranks above 0."""
    import torch
    from model import load_model, pick_device
    files = [path] + (sorted(os.path.join(encoder, f) for f in os.listdir(encoder)) if os.path.isdir(encoder) else [encoder])
    state = [(os.path.basename(f), os.path.getsize(f), os.stat(f).st_mtime_ns) for f in files if os.path.exists(f)]
    folder = beside(path, f".embeddings-{key_of(repr((state, MAX_TOKENS)))}")
    rank, world = (0, 1) if alone else (int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
    device = pick_device(device)
    model, name = load_model(encoder, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    encoding = load_tokenizer(name)
    os.makedirs(folder, exist_ok=True)

    blocks, documents = [], ((line, record["text"]) for line, record in read_documents(path))
    with tqdm(desc=f"embed ({encoder})", unit="document", disable=rank > 0) as bar:
        while block := list(itertools.islice(documents, BLOCK)):
            blocks.append(os.path.join(folder, f"{len(blocks):06d}.npz"))
            if (len(blocks) - 1) % world == rank and not os.path.exists(blocks[-1]):
                lines, texts = zip(*block)
                ids, vectors = np.array([*map(hash_text, texts)], np.uint64), mean_hidden(model, encoding, texts)
                with whole_file(blocks[-1]) as f:
                    np.savez(f, ids=ids, lines=np.array(lines), vectors=vectors)
            bar.update(len(block))
    if rank:
        return None
    while not all(map(os.path.exists, blocks)):  # other ranks' last blocks; torchrun ends us if one of them fails
        time.sleep(0.5)
    return blocks


def mean_hidden(model, encoding, texts):
    """(n, D) fp16: the mean of each text's last hidden states, of its first MAX_TOKENS tokens."""
    import torch
    device, T = model.cos.device, min(MAX_TOKENS, model.config.context)
    # 16 characters a token are more than code has; the cut keeps tiktoken off the rest
    ids = [encoding.encode_ordinary(text[:16 * T])[:T] for text in texts]
    result = np.empty((len(ids), model.config.n_embd), np.float16)
    order, at = sorted(range(len(ids)), key=lambda i: -len(ids[i])), 0
    while at < len(order):  # neighbours are of about the same length: little padding
        rows = order[at:at + max(1, BATCH_TOKENS // len(ids[order[at]]))]
        idx = torch.zeros(len(rows), len(ids[rows[0]]), dtype=torch.long)
        for b, i in enumerate(rows):
            idx[b, :len(ids[i])] = torch.tensor(ids[i])
        lengths = torch.tensor([len(ids[i]) for i in rows], device=device)[:, None]
        real = torch.arange(idx.size(1), device=device) < lengths   # (B, T): padding stands on the right, behind what attention sees
        with torch.inference_mode():
            hidden = model.hidden(idx.to(device)).float()           # (B, T, D)
            result[rows] = ((hidden * real[:, :, None]).sum(1) / lengths).cpu().numpy()
        at += len(rows)
    return result


def read_block(path):
    try:
        with np.load(path) as block:
            return {name: block[name] for name in ("ids", "lines", "vectors")}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        raise SystemExit(f"{path} is damaged: remove it, and the same command makes it again")


def fit_head(X, y):
    """(weights (D+1,), ridge penalty) of the least-squares fit of scores y (n,) to embeddings X (n, D), its penalty chosen on a fifth of them."""
    mean, std = X.mean(0), X.std(0) + 1e-6

    def fit(X, y, penalty):
        Z, offset = (X - mean) / std, y.mean()
        w = np.linalg.solve(Z.T @ Z + penalty * len(Z) * np.eye(Z.shape[1]), Z.T @ (y - offset)) / std
        return np.append(w, offset - mean @ w)

    def held_out_error(penalty):
        head = fit(X[~held], y[~held], penalty)
        return np.mean((predict(head, X[held]) - y[held]) ** 2)

    held = np.arange(len(y)) % 5 == 0
    best = min((1e-4, 1e-3, 1e-2, 1e-1, 1, 10), key=held_out_error)
    return fit(X, y, best), best


def predict(head, X):
    return X @ head[:-1] + head[-1]


def report_head(y, p, y_train, p_train):
    """Print how well predictions p (n,) tell the scores y of documents that the head has not seen."""

    def f1(truth, found):
        return 2 * int((truth & found).sum()) / max(1, int(truth.sum()) + int(found.sum()))

    def ranks(x):  # 1..n, equal values sharing their mean rank: Pearson's correlation of these is Spearman's
        _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[inverse]

    correlation = np.corrcoef(ranks(y), ranks(p))[0, 1] if y.std() and p.std() else 0.0
    # Predictions of a linear fit shrink to the mean, so the line between good and not is drawn where F1 is best in training
    line = max(np.quantile(p_train, np.linspace(0.02, 0.98, 97)), key=lambda t: f1(y_train >= 3, p_train >= t))
    print(f"held out: rank correlation {correlation:.3f}, F1 {f1(y >= 3, p >= line):.3f} for scores of 3 and above "
          f"({(y >= 3).mean():.1%} of the labels; calling all of them good gives {f1(y >= 3, y >= 0):.3f}), mean error {np.abs(y - p).mean():.2f}")
    rounded = np.clip(np.rint(p), 0, 5).astype(int)
    print("label \\ predicted" + "".join(f"{score:>7}" for score in range(6)))
    for score in range(6):
        print(f"{score:>17}" + "".join(f"{int(((y == score) & (rounded == column)).sum()):>7,}" for column in range(6)))


def read_labels(path):
    """{hash of a document: score} from what annotate wrote."""
    labels = {}
    for number, record in read_jsonl(path, lambda record: None if isinstance(record.get("score"), int) else "no 'score'"):
        if not 0 <= record["score"] <= 5 or not re.fullmatch("[0-9a-f]{16}", str(record.get("id"))):
            raise SystemExit(f"{path}, line {number}: a score of 0 to 5 and an id are expected; prepare_data.py annotate writes them")
        labels[int(record["id"], 16)] = record["score"]
    return labels


def filter_documents(args):
    """Keep the documents that a linear head on frozen embeddings scores highest. The paper fits a random forest to the output embedding of
    CodeGen and does not say which labels, threshold or accuracy. Ours is the recipe of FineWeb-Edu: integer scores, least
    squares on the mean of the last hidden states, a quantile as threshold. It needs no further package, is fit in seconds, its
    quality is printed, and another --keep or other labels need no new embeddings. (Known bias: it likes well commented code.)"""
    labels = read_labels(args.labels)
    blocks = embed(args.documents, args.encoder, args.device)
    if blocks is None:
        return
    rows = {h: row for block in map(read_block, blocks) for h, row in zip(block["ids"].tolist(), block["vectors"]) if h in labels}
    y = np.array([labels[h] for h in rows], np.float64)
    if len(rows) < 0.9 * len(labels):
        raise SystemExit(f"{args.labels} does not match {args.documents}: {len(rows):,} of its {len(labels):,} labelled documents are there. "
                         "Give the documents that were annotated")
    if len(rows) < 50 or y.std() == 0:
        raise SystemExit(f"{args.labels} has {len(rows):,} labels, {len(set(y))} of them different: at least 50, of two or more scores, are needed; "
                         "prepare_data.py annotate --samples N writes more")
    X, held = np.array(list(rows.values()), np.float64), np.array([h % 5 == 0 for h in rows])
    head, penalty = fit_head(X[~held], y[~held])
    print(f"linear head on {(~held).sum():,} labels, {held.sum():,} held out; ridge penalty {penalty:g}")
    report_head(y[held], predict(head, X[held]), y[~held], predict(head, X[~held]))
    scores = np.concatenate([predict(head, block["vectors"].astype(np.float64)).astype(np.float32) for block in map(read_block, blocks)])
    if not np.isfinite(scores).all():
        raise SystemExit(f"{args.encoder} gives embeddings that are not numbers for {int((~np.isfinite(scores)).sum()):,} documents: it is damaged, or diverged")
    threshold = np.quantile(scores, 1 - args.keep)
    kept, characters, all_characters = 0, 0, 0
    with whole_file(args.out) as out:
        for score, (_, record) in zip(scores.tolist(), read_documents(args.documents), strict=True):
            all_characters += len(record["text"])
            if score >= threshold:
                out.write(json_line({**record, "score": round(score, 3)}))
                kept, characters = kept + 1, characters + len(record["text"])
    print(f"{args.out}: {kept:,} of {len(scores):,} documents kept, {characters / max(1, all_characters):.1%} of the characters; dropped: "
          f"{len(scores) - kept:,} with a predicted score below {threshold:.2f}")
    draw_scores(scores, threshold, beside(args.out, ".png"))
    print(f"next: python prepare_data.py tokenize {args.out} data/textbooks.jsonl --out data/codetextbook")


def draw_scores(scores, threshold, path):
    """A histogram of the predicted scores, kept and dropped apart."""
    try:
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        print("no picture of the scores: pip install matplotlib, and the same command with another --out draws one")
        return
    parts = {"dropped": scores[scores < threshold], f"kept, from {threshold:.2f} on": scores[scores >= threshold]}
    pyplot.hist([*parts.values()], label=[*parts], bins=50, stacked=True)
    pyplot.xlabel("predicted educational score")
    pyplot.ylabel("documents")
    pyplot.legend()
    pyplot.savefig(path)
    print(f"the distribution of scores is drawn in {path}")


# ---- textbooks -------------------------------------------------------------------------------------------------------

def read_topics():
    """The sections of topics.txt: {"topics": lines, "verbs": words, "things": words, "twists": words}."""
    path, sections, name = os.path.join(os.path.dirname(os.path.abspath(__file__)), "topics.txt"), {}, ""
    try:
        with open(path, encoding="utf-8") as f:
            for line in map(str.strip, f):
                if line.startswith("["):
                    name = line.strip("[]")
                elif line and not line.startswith("#"):
                    sections.setdefault(name, []).extend([line] if name == "topics" else line.split())
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}; it comes with prepare_data.py")
    missing = [name for name in ("topics", "verbs", "things", "twists") if not sections.get(name)]
    if missing:
        raise SystemExit(f"{path} has no lines below [{missing[0]}]")
    return sections


def seed_documents(path, seed):
    """Real code to cut snippets from: 20,000 random documents of a .jsonl(.gz), or the standard library, which every Python has."""
    if path:
        texts = (record["text"] for _, record in read_documents(path))
        documents = [text for _, text in heapq.nsmallest(20_000, ((hash_text(f"{seed}{text}"), text[:20_000]) for text in texts))]
        if not any(map(str.strip, documents)):
            raise SystemExit(f"{path} holds no documents to take --seeds from")
        return documents
    apart, documents = ("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "pydoc_data", "encodings"), []
    for file in files_below(sysconfig.get_paths()["stdlib"], (".py",), apart):
        with suppress(ValueError, OSError):
            documents.append(read_file(file))
    return documents


def textbook_items(args, documents):
    """Endless (prompt, about): every topic for every audience, each time with other lines of the real documents and another opening."""
    topics, names = read_topics()["topics"], list(AUDIENCES)
    for number in itertools.count():
        turn, topic = number // len(topics), topics[number % len(topics)]
        rng = random.Random(f"{args.seed} {topic} {turn}")  # so a prompt is the same in every run, also when topics come or go
        audience = names[(hash_text(topic) + turn) % len(names)]
        snippet = ""
        while not snippet:
            lines, n = rng.choice(documents).splitlines(), rng.randint(1, 15)
            at = rng.randrange(max(1, len(lines) - n + 1))
            snippet = textwrap.dedent("\n".join(line[:200] for line in lines[at:at + n])).strip()
        prompt = TEXTBOOK.format(topic=topic, audience=AUDIENCES[audience], opening=rng.choice(OPENINGS), snippet=snippet,
                                 words=rng.choice((400, 600, 800, 1000)))
        yield prompt, {"topic": topic, "audience": audience}


def textbooks(args):
    """Topics x audiences x real code -> {"text", "topic", "audience"}."""
    seen, openings, found, dropped = Seen(), set(), Counter(), Counter()
    documents = seed_documents(args.seeds, args.seed)

    def keep(records):
        for record in records:
            if "text" not in record:
                dropped[record["rejected"]] += 1
            elif not seen.add(hash_text(record["text"])):
                dropped["exact duplicate"] += 1
            else:
                openings.add(hash_text(" ".join(record["text"].lower().split()[:5])))
                found["without code"] += "```" not in record["text"]
                yield {"text": record["text"] + "\n", **record["about"]}

    made_of = TEXTBOOK, AUDIENCES, OPENINGS, [*map(hash_text, documents)]
    if kept := make(args, textbook_items(args, documents), keep, dropped, made_of):
        print(f"duplicate rate {dropped['exact duplicate'] / (kept + dropped['exact duplicate']):.1%}; {len(openings) / kept:.1%} of the openings (five "
              f"words) are distinct; {found['without code']:,} have no code block")
        print(f"next: python prepare_data.py tokenize data/filtered.jsonl.gz {args.out} --out data/codetextbook")


# ---- exercises -------------------------------------------------------------------------------------------------------

def exercise_items(args):
    """Endless (prompt, about): names of functions by verb, thing and twist, no combination twice, and a topic for each call."""
    words = read_topics()
    verbs, things, twists = words["verbs"], words["things"], words["twists"]
    total = len(verbs) * len(things) * len(twists)
    step = next(step for step in range(int(total * 0.618), total) if math.gcd(step, total) == 1)  # visits each combination once, far apart
    for i in itertools.count():
        names = []
        for k in range(i * args.per_call, (i + 1) * args.per_call):
            number = (hash64(str(args.seed).encode()) + k * step) % total
            number, verb = divmod(number, len(verbs))
            twist, thing = divmod(number, len(things))
            names.append(f"{verbs[verb]}_{things[thing]}_{twists[twist]}")
        topic = random.Random(f"{args.seed} {i}").choice(words["topics"])
        yield EXERCISES.format(count=args.per_call, names="\n".join(names), topic=topic), {"topic": topic}


FENCE = re.compile(r"^[^\S\n]*(?:(?:[-*+•]|(?:#+ )?\**\d+[.)]\**|\*\*[^\n`*]*\*\*)[ \t]*)?(`{3,}|~{3,})[^\n`]*\n(.*?)"
                   r"(?:\1[`~]*[^\S\n]*$|(?=^[^\S\n]*(?:`{3,}|~{3,})py)|\Z)", re.S | re.M)  # ended by its fence, by the next block, or never
HEAD, FUNCTION_LINES = r"(?:(?:from|import|@)[^\n]*\n+)+", r"def [^\n]*\n(?:[ \t][^\n]*\n|[)#][^\n]*\n|\n)+"
BARE = re.compile(rf"^(?:{HEAD}(?:{FUNCTION_LINES})?|{FUNCTION_LINES})", re.M)  # code among prose; a head alone is matched, or it would be tried from each line
WRAPPED = re.compile(r"\s*(?:`{3,}|~{3,})[ \t]*(?:markdown|md)[ \t]*\n(.*?)(?:\n[ \t]*(?:`{3,}|~{3,})\s*)?", re.S)  # a whole answer in one fence


def exercises_in(answer):
    """Yield (name, program, examples as a test or "") of every exercise in an answer, and (None, reason, "") of what is none."""
    answer = answer.replace("\r\n", "\n").translate({ord("\r"): "\n", 0xa0: " ", 0x200b: None, 0xfeff: None})  # spaces of no width, too
    wrapped = WRAPPED.fullmatch(answer)
    fences = re.findall(r"(?m)^[ \t]*(?:`{3,}|~{3,})[ \t]*(\S*)", wrapped[1]) if wrapped else []
    if fences and fences[0]:  # the next fence opens a block of a language, and does not close this one
        answer = wrapped[1]
    blocks = [block for _, block in FENCE.findall(answer)]
    if not blocks:
        blocks = [answer] if parsed(answer) else [code for code in BARE.findall(answer + "\n") if re.search("^def ", code, re.M)] or [answer]
    for block in map(textwrap.dedent, blocks):
        tree = parsed(block)
        functions = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))] if tree else []
        if not functions:
            yield None, "no function" if tree else "does not parse", ""
        for function in functions:
            try:
                yield check_exercise(block, tree, function)
            except RecursionError:
                yield None, "nested too deeply", ""
            except ValueError as error:
                yield None, str(error), ""


def check_exercise(block, tree, function):
    """(name, program, test) of one function of a block; raises ValueError with the reason why it is no exercise."""
    if not isinstance(function, ast.FunctionDef):
        raise ValueError("a class" if isinstance(function, ast.ClassDef) else "an async function")
    doc = ast.get_docstring(function)
    if not doc:
        raise ValueError("no docstring")
    if all(does_nothing(statement) for statement in function.body[1:]):
        raise ValueError("no body")
    inside, header = set(ast.walk(function)), []
    read, bound = names_in(inside)
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        names = {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        if node in inside or names & read or "*" in names or getattr(node, "module", "") == "__future__":
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else ["." * node.level + (node.module or "")]
            if any(module.split(".")[0] not in sys.stdlib_module_names for module in modules):
                raise ValueError("imports outside the standard library")
            if "*" in names:
                raise ValueError("import *")
            bound |= names
            if node not in inside:
                header.append(ast.unparse(node))
    if read - bound - set(dir(builtins)):
        raise ValueError("uses a name that is not defined")
    start = min([function.lineno] + [decorator.lineno for decorator in function.decorator_list]) - 1
    gap = ["", ""] if header else []
    program = "\n".join([*header, *gap, *block.split("\n")[start:function.end_lineno]]).rstrip() + "\n"
    return function.name, program, examples_of(doc)


def does_nothing(statement):
    """pass, raise, `...`, a text, or the return of a constant: what stands where a body was left out."""
    value_only = isinstance(statement, (ast.Expr, ast.Return)) and isinstance(statement.value, (ast.Constant, type(None)))
    return value_only or isinstance(statement, (ast.Pass, ast.Raise))


def names_in(nodes):
    """({names that are read}, {names that are bound}) by nodes of a syntax tree, imports left out."""
    read, bound = set(), set()
    for node in nodes:
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            bound.add(node.rest)
    return read, bound


def examples_of(doc):
    """The >>> examples of a docstring as a test: asserts, or "" if it has none."""
    try:
        examples = doctest.DocTestParser().get_examples(doc)
    except ValueError:
        raise ValueError("malformed examples")
    lines = []
    for example in examples:
        source, want = example.source.rstrip(), example.want.strip()
        if example.options.get(doctest.SKIP):
            continue
        if example.exc_msg is not None:
            name = re.split(r"[:\s]", example.exc_msg)[0]
            if isinstance(kind := getattr(builtins, name, None), type) and issubclass(kind, Exception) and parsed(source):
                lines.append(f"try:\n{textwrap.indent(source, '    ')}\nexcept {name}:\n    pass\nelse:\n    raise AssertionError('no {name}')")
            continue
        tree = parsed(source)
        value = tree.body[0].value if tree and len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr) else None
        if value and not want:
            lines.append(f"assert ({ast.unparse(value)}) is None")
        elif not value and not want:
            lines.append(source)  # a statement: it has to run
        elif not value or example.options or isinstance(value, ast.Call) and ast.unparse(value.func) == "print":
            # a loop that prints, two statements on a line, # doctest: +ELLIPSIS: what a console shows
            options = sum(flag for flag, on in example.options.items() if on)
            lines.append("import contextlib as _contextlib, doctest as _doctest, io as _io\nwith _contextlib.redirect_stdout(_io.StringIO()) as _shown:\n"
                         f"    exec(compile({example.source!r}, 'example', 'single'), globals())\n"
                         f"assert _doctest.OutputChecker().check_output({example.want!r}, _shown.getvalue().removesuffix('\\n') + '\\n' * bool(_shown.getvalue()), {options})")
        else:
            try:
                counted = re.fullmatch(r"(?:Counter|OrderedDict|defaultdict)\((?:<.*>, |None, )?(.*)\)", want, re.S)
                kind, literal = ("dict", counted[1] or "{}") if counted else ("", want)  # which is equal: a test may not have Counter
                ast.literal_eval(literal)
                lines.append(f"assert ({ast.unparse(value)}) == {kind}({ast.unparse(ast.parse(literal, mode='eval'))})")
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # TypeError: {[1], [2]}
                lines.append(f"assert repr({ast.unparse(value)}) == {want!r}")
    return "\n".join(lines)


def near_duplicate(program, seen):
    """True if an earlier program shares most of its words (MinHash over runs of 4 words, 8 bands of 8: even odds at a Jaccard
    similarity of 0.73), or has the same code up to names and docstring where it is long enough for that to say something."""
    words = re.findall(r"\w+|[^\w\s]", program)
    hashes = np.array([hash64(" ".join(words[i:i + 4]).encode()) for i in range(max(1, len(words) - 3))], np.uint64)
    a, b = np.random.default_rng(0).integers(1, 1 << 63, (2, 64, 1), dtype=np.uint64)
    least = (hashes * (2 * a + 1) + b).min(axis=1)  # (64,), modulo 2**64
    keys = [hash64(bytes([band]) + least[8 * band:8 * band + 8].tobytes()) for band in range(8)]
    types, details = node_types(ast.parse(program))
    if len(types) >= 40:
        keys.append(hash_text(repr((types, details))))
    return not all([seen.add(key) for key in keys])  # a list: every key is added


def exercises(args):
    """Names of functions x topics -> {"text": signature, docstring and body, "name", "topic"}, each checked."""
    from sandbox import Program, Sandbox, SandboxError
    seen, names, found, dropped = Seen(), set(), Counter(), Counter()
    try:
        box = None if args.no_run or args.dry_run else Sandbox(args.workers)
    except SandboxError as error:
        raise SystemExit(f"the examples cannot be run safely here: {error}; --no_run keeps exercises without running them")

    def keep(records):
        records = iter(tqdm(records, desc="check", unit="answer"))
        while chunk := list(itertools.islice(records, 100)):
            programs = []
            for record in chunk:
                if "text" not in record:
                    dropped[f"whole answers: {record['rejected']}"] += 1
                    continue
                for name, program, test in exercises_in(record["text"]):
                    found["exercises"] += 1
                    if name is None:
                        dropped[program] += 1
                    elif near_duplicate(program, seen):
                        dropped["near duplicate"] += 1
                    else:
                        programs.append((name, program, test, record["about"]))
            verdicts = dict(box.judge(Program(program, test or "pass", name) for name, program, test, _ in programs)) if box else {}
            for i, (name, program, test, about) in enumerate(programs):
                if box and verdicts[i].status != "passed":
                    dropped[f"examples that {'do not hold' if verdicts[i].status == 'failed' else 'end in ' + verdicts[i].status}"] += 1
                    continue
                names.add(hash_text(name))
                found["with examples"] += bool(test)
                yield {"text": program, "name": name, **about}

    try:
        kept = make(args, exercise_items(args), keep, dropped, (EXERCISES, args.per_call, read_topics()), args.per_call)
    except SandboxError as error:
        raise SystemExit(f"the sandbox failed: {error}; all answers are kept, the same command runs the examples again")
    finally:
        if box:
            box.close()
    if kept:
        print(f"duplicate rate {dropped['near duplicate'] / found['exercises']:.1%} of {found['exercises']:,} found; {len(names) / kept:.1%} "
              f"distinct names; {found['with examples'] / kept:.1%} have examples, which " + ("hold" if box else "were not run"))
        print(f"next: python prepare_data.py decontaminate {args.out} --out {beside(args.out, '_clean.jsonl')}")


# ---- decontaminate ---------------------------------------------------------------------------------------------------

GRAM = 13
TAUS = (0.95, 0.9, 0.85, 0.8)  # the paper's
SMALL = 30                     # nodes: innocent functions often share a tree of fewer, so there the details must match as well
NODE_TYPES = {cls: n for n, cls in enumerate(cls for cls in vars(ast).values() if isinstance(cls, type) and issubclass(cls, ast.AST))}
NODE_TYPES[ast.AnnAssign], NODE_TYPES[ast.AsyncFunctionDef] = NODE_TYPES[ast.Assign], NODE_TYPES[ast.FunctionDef]
FUNCTION = ast.FunctionDef, ast.AsyncFunctionDef
# A problem as exercises are compared with it. words: of all its docstrings; prose: of each, those before the examples; types and
# details: of its canonical solution, as node_types gives them
Fingerprint = namedtuple("Fingerprint", "task_id words prose types details")


def node_types(tree):
    """(types of a program's nodes in source order, what they leave out). Left out of the types, as in the paper: names, constants,
    comments and docstrings; annotations and imports too. Constants, attributes and names of builtins are returned apart."""
    types, details, stack = [], [], [tree]
    while stack:
        node = stack.pop()
        kind = type(node)
        docstring = kind is ast.Expr and type(node.value) is ast.Constant and type(node.value.value) is str
        if docstring or kind is ast.Import or kind is ast.ImportFrom:
            continue
        if kind is ast.Constant:
            details.append(hex(node.value) if type(node.value) is int else node.value)  # Python refuses to print many decimal digits
        elif kind is ast.Attribute:
            details.append(node.attr)
        elif kind is ast.Name and hasattr(builtins, node.id):
            details.append(node.id)
        if kind is not ast.Module:
            types.append(NODE_TYPES[kind])
        for field in reversed(node._fields):
            if field not in ("ctx", "annotation", "returns"):
                child = getattr(node, field, None)
                if isinstance(child, ast.AST):
                    stack.append(child)
                elif isinstance(child, list):
                    stack.extend(item for item in reversed(child) if isinstance(item, ast.AST))
    return types, details


def words_of(text):
    return re.findall(r"\w+", text.lower())


def fingerprint_of(problem):
    """The Fingerprint of a Problem of eval_humaneval.py."""
    tree = parsed(problem.prompt.rstrip() + "\n" + ("    pass\n" if problem.start else ""))
    docs = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.FunctionDef))] if tree else []
    docs = [*filter(None, docs)] or [problem.prompt]
    examples = re.compile(rf">>>|(?i:\bexamples?\b|\be\.g\.)|\bassert\b|=>|➞|\b{re.escape(problem.entry_point or 'assert')}\s*\(")
    solution = parsed(problem.start + problem.canonical)
    if not solution:
        raise SystemExit(f"{problem.task_id}: its canonical solution is no Python 3")
    prose = [words_of(examples.split(doc)[0]) for doc in docs]
    return Fingerprint(problem.task_id, words_of("\n".join(docs)), prose, *node_types(solution))


def bits_of(sequence):
    """({element: bits at its places}, all bits) for match_rate."""
    masks = {}
    for i, x in enumerate(sequence):
        masks[x] = masks.get(x, 0) | 1 << i
    return masks, (1 << len(sequence)) - 1


def match_rate(masks, full, b):
    """2 * (length of the longest common subsequence of a and b) / (len(a) + len(b)) of a with bits_of(a): the dynamic program's rows
    as the bits of one integer (Hyyro 2004), so that a pair of functions takes some 20 microseconds."""
    v = full
    for x in b:
        u = v & masks.get(x, 0)
        v = ((v + u) | (v - u)) & full
    total = full.bit_length() + len(b)
    return 2 * (full ^ v).bit_count() / total if total else 1.0


def setup_decontaminate(problems, tau, ngrams):
    grams = {}
    for p, problem in enumerate(problems):
        for i in range((len(problem.words) - GRAM + 1) * ngrams):
            grams.setdefault(tuple(problem.words[i:i + GRAM]), set()).add(p)
    bags = np.array([np.bincount(problem.types, minlength=len(vars(ast))) for problem in problems]).T.copy()  # (types, problems)
    return problems, tau, grams, [bits_of(problem.types) for problem in problems], bags, np.zeros(len(problems))


def copied_problems(text, problems, grams):
    """{problem} of which the text has 13 words in a row, and more than half of all its words or of those before its first example, in
    order: 13 alone may be a common phrase."""
    words, suspects, copied = words_of(text) if grams else [], set(), set()
    for i in range(len(words) - GRAM + 1):
        suspects.update(grams.get(tuple(words[i:i + GRAM]), ()))
    for p in suspects:
        for wanted in (problems[p].words, *problems[p].prose):
            matcher = difflib.SequenceMatcher(None, wanted, words, autojunk=False)
            if sum(block.size for block in matcher.get_matching_blocks()) > 0.5 * len(wanted):
                copied.add(p)
                break
    return copied


def syntax_rates(tree, lowest):
    """Yield (problem, match rate of their syntax) of those that are at least `lowest` close to an exercise, or closer than any before."""
    problems, _, _, bits, bags, best = worker
    lengths, parts = bags.sum(0), [tree]
    nodes = [*ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, FUNCTION)]
    bare = all(isinstance(node, (*FUNCTION, ast.Import, ast.ImportFrom)) for node in tree.body)
    if len(functions) > 1 or not bare:
        parts += functions  # a copy may stand beside other functions or statements, or inside of one
        around = [node for node in nodes if isinstance(node, (ast.ClassDef, *FUNCTION)) or node is tree and not bare]
        bodies = [[part for part in node.body if isinstance(part, FUNCTION)] for node in around]
        parts += [ast.Module(body, []) for body in bodies if len(body) > 1]  # or be two functions, with something else around them
    for part in parts:
        types, details = node_types(part)
        # A rate is at most what the bags of node types allow, and the lengths with them: almost all pairs end here, below the
        # lowest tau and below the closest pair seen so far
        bag = np.bincount(types, minlength=len(bags))
        there = bag.nonzero()[0]
        bound = 2 * np.minimum(bags[there], bag[there, None]).sum(0) / (lengths + max(1, len(types)))
        for p in ((bound >= lowest) | (bound > best)).nonzero()[0].tolist():
            rate = match_rate(*bits[p], types)
            if rate >= lowest and lengths[p] < SMALL:
                rate = min(rate, match_rate(*bits_of([*map(repr, problems[p].details)]), [*map(repr, details)]))
            yield p, rate


def decontaminate_task(task):
    """Compare a task's exercises with all problems. Returns (kept, counts, corrupt, copied, nearer): kept [(line number, line)], copied
    {problem} by 13-grams, nearer [(problem, rate, line number, text)] of exercises closer to a problem than any before."""
    problems, tau, grams, _, _, best = worker
    _, _, first, read, lines = task
    kept, counts, corrupt, copied, nearer = [], Counter(), [], set(), []
    for number, line, text in read_items(read, lines, first, Counter(), corrupt):
        copies = copied_problems(text, problems, grams)
        copied |= copies
        tree = parsed(text) if tau else None
        highest = 0.0
        for p, rate in syntax_rates(tree, min(tau, TAUS[-1])) if tree else ():
            highest = max(highest, rate)
            if rate > best[p]:
                nearer.append((p, rate, number, text))
                best[p] = rate
        found = [stage for stage, hit in (("13-grams", copies), ("syntax", highest >= tau > 0)) if hit]
        counts.update(["exercises", *found, *(f"tau {t}" for t in TAUS if highest >= t)])
        counts["no Python"] += bool(tau and not tree)
        if not found:
            kept.append((number, line))
    return kept, counts, corrupt, copied, nearer


def decontaminate(args):
    """Exercises -> those that are not close to a problem of the benchmarks (paper, section 5 and appendix C), a report, and the list
    of similar problems for the evaluation. 13-grams and syntax trees catch copies, also renamed or slightly rearranged ones, not
    paraphrases, nor a copied docstring of fewer than 13 words above other code; an --encoder adds the distance of embeddings for
    these, with a threshold that the paper does not state. One statement more in a short copy can bring it below 0.95: tau 0.8 is safer, and drops more innocents
    (BENCHMARKS.md)."""
    from eval_humaneval import load_benchmark
    total = input_bytes(args, (), (".jsonl", ".jsonl.gz"))
    benchmark = [problem for name in args.against for problem in load_benchmark(name)[0]]  # MBPP's two versions share their task_ids
    problems = [*map(fingerprint_of, benchmark)]
    close, nearest = {}, {}
    if args.encoder:
        close, nearest = near_embeddings(args, benchmark)
        if close is None:
            return
    counts, corrupt, kept, started = Counter({"embedding": len(close)}), [], 0, time.time()
    best, stages = {p.task_id: (0.0, 0, "") for p in problems}, {p.task_id: set() for p in problems}
    for task in close.values():
        stages[task].add("embedding")
    work = in_parallel(decontaminate_task, tasks(source_files(args, (), (".jsonl", ".jsonl.gz")), ["text"]), args.workers,
                       setup_decontaminate, problems, args.tau, args.ngrams)
    with whole_file(args.out) as out:  # the last file to appear: with it the others are there
        with tqdm(total=total, unit="B", unit_scale=True, desc="decontaminate") as bar:
            for size, (lines, more, bad, copied, nearer) in work:
                counts.update(more)
                corrupt += bad
                for p in copied:
                    stages[problems[p].task_id].add("13-grams")
                for p, *pair in nearer:
                    best[problems[p].task_id] = max(best[problems[p].task_id], tuple(pair), key=lambda pair: pair[0])
                for number, line in lines:
                    if number not in close:
                        out.write(line.rstrip(b"\r\n") + b"\n")
                        kept += 1
                bar.update(size)
        seconds, similar = max(time.time() - started, 1e-9), beside(args.out, ".similar.jsonl")
        tell_corrupt(args.exercises, corrupt)
        if not counts["exercises"]:
            raise SystemExit(f"{args.exercises} holds no exercise")
        rows = []
        for task, (rate, number, text) in sorted(best.items()):
            if rate >= args.tau > 0:
                stages[task].add("syntax")
            rows.append({"task_id": task, "rate": round(rate, 4), "similar": bool(stages[task]), "found_by": sorted(stages[task]),
                         "line": number, "closest": text, **nearest.get(task, {})})
        with whole_file(similar) as f:
            f.writelines(map(json_line, rows))
        table = {}
        for t in TAUS if args.tau else ():
            near = sum(rate >= t for rate, _, _ in best.values())
            table[str(t)] = {"exercises": counts[f"tau {t}"], "problems": near}
        found = {name: counts[name] for name in ("13-grams", "syntax", "embedding")}
        report = {"exercises": counts["exercises"], "kept": kept, "found": found, "at_tau": table, "corrupt_lines": corrupt,
                  "settings": {name: getattr(args, name) for name in ("against", "ngrams", "tau", "encoder", "distance")}}
        with whole_file(beside(args.out, ".report.json")) as f:
            f.write(json.dumps(report, indent=2).encode())
    for t, row in table.items():
        print(f"tau {t}: {row['exercises']:,} exercises are at least as close as that to {row['problems']:,} of {len(rows):,} problems")
    notes = " (some for two reasons)" if kept + sum(found.values()) > counts["exercises"] else ""
    if counts["no Python"]:
        notes += f"; {counts['no Python']:,} are no Python, their syntax was not compared"
    print(f"{args.out}: {kept:,} of {counts['exercises']:,} exercises kept; dropped: {listed(found)}{notes}")
    speed = f"{counts['exercises'] * len(problems) / seconds / 1e6:.2f} million pairs/s; " if args.tau else ""
    print(f"{speed}the closest exercise of every problem: {similar}")
    print(f"next: python prepare_data.py tokenize {args.out} --out data/codeexercises; and later python eval_humaneval.py MODEL --similar {similar}")


def near_embeddings(args, benchmark):
    """({line: task} of the exercises whose normalised embedding lies within --distance of a problem's, {task: its closest exercise})."""
    blocks = embed(args.exercises, args.encoder, args.device)
    if blocks is None:
        return None, None
    unit = lambda x: x.astype(np.float32) / np.linalg.norm(x.astype(np.float32), axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "problems.jsonl")
        with whole_file(path) as f:
            f.writelines(json_line({"text": problem.prompt + problem.canonical}) for problem in benchmark)
        P = np.concatenate([unit(read_block(block)["vectors"]) for block in embed(path, args.encoder, args.device, alone=True)])
    ids, close, best, line = [problem.task_id for problem in benchmark], {}, np.full(len(P), np.inf), np.zeros(len(P), int)
    for block in map(read_block, blocks):  # (2048, D) x (D, problems) at a time
        distance = np.sqrt(np.maximum(0, 2 - 2 * unit(block["vectors"]) @ P.T))
        for i in (distance.min(1) <= args.distance).nonzero()[0]:
            close[int(block["lines"][i])] = ids[distance[i].argmin()]
        line = np.where(distance.min(0) < best, block["lines"][distance.argmin(0)], line)
        best = np.minimum(best, distance.min(0))
    return close, {task: {"distance": round(float(d), 4), "nearest_line": int(n)} for task, d, n in zip(ids, best, line)}


# ---- tokenize --------------------------------------------------------------------------------------------------------

SUFFIXES = (".py", ".txt", ".md"), (".jsonl", ".jsonl.gz")
BUCKET_BYTES = 32 << 20         # of input in one bucket of the sort, which is sorted in memory
RECORD = struct.Struct("<QI?")  # one document in a bucket: key to sort by, number of bytes of its tokens, is it for validation


def setup_tokenize(tokenizer, seed, val):
    return load_tokenizer(tokenizer), seed, val


def tokenize_task(task):
    """Tokenize a task's documents. Returns (documents, characters of text, skipped): each document as (key to sort by, is it for
    validation, its tokens as the bytes of a uint16 array), and {reason: count}."""
    encoding, seed, val = worker
    source, _, first, read, items = task
    documents, characters, skipped, end = [], 0, Counter(), np.uint16(encoding.eot_token).tobytes()
    for number, _, text in read_items(read, items, first, skipped, []):
        try:
            tokens = encoding.encode_to_numpy(text, disallowed_special=())  # as encode_ordinary, without a Python list
        except ValueError:  # tiktoken's stack ends at a run of several 100,000 white space characters
            skipped["a huge run of white space"] += 1
            continue
        documents.append((hash64(f"{seed} {source} {number}".encode()), hash_text(text) / 2**64 < val,
                          tokens.astype(np.uint16).tobytes() + end))
        characters += len(text)
    return documents, characters, skipped


def tokenize(args):
    """Documents -> what train.py reads. Sources are folders (their .py, .txt and .md files; hidden folders are left out), such files by
    name, and .jsonl or .jsonl.gz with the text in one field. It writes

        train.bin, val.bin   token ids as uint16, flat, <|endoftext|> after each document
        meta.json            tokenizer, counts, sha256 of both, what was skipped and why; written last: with it the data is whole

    The order of documents is random but a function of --seed and the sources alone, and memory stays flat: it is an external bucket
    sort by a hash, of which memory holds one bucket, of 32 MB of text or, above 16 GB, of a 512th of it. A document goes to validation by the hash of
    its text, so adding sources later moves none from one side to the other, and two copies of a text are never on both sides. Where there
    is one document in all, its end is for validation."""
    if os.path.isfile(args.out):
        raise SystemExit(f"{args.out} is a file, and --out names a folder: choose another")
    if os.path.exists(os.path.join(args.out, "meta.json")):
        raise SystemExit(f"{args.out} is complete already: remove it to make it anew, or choose another --out")
    total = input_bytes(args, *SUFFIXES)
    vocab_size = load_tokenizer(args.tokenizer).n_vocab  # in this process first: downloads the ranks once, or says why not
    if vocab_size > 1 << 16:
        raise SystemExit(f"{args.tokenizer} has {vocab_size:,} tokens: at most {1 << 16:,} fit in train.bin's 16 bits")
    new = not os.path.exists(args.out)
    os.makedirs(args.out, exist_ok=True)
    lock(os.open(args.out, os.O_RDONLY), args.out)  # held until this process ends
    temporary = os.path.join(args.out, "tokenize.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    os.mkdir(temporary)
    try:
        meta = {"tokenizer": args.tokenizer, "vocab_size": vocab_size, "dtype": "uint16", "seed": args.seed, "val_share": args.val,
                "sources": args.sources, **sort_documents(args, temporary, total)}
        train, val = meta["train"], meta["val"]
        if train["documents"] + val["documents"] == 1:
            cut_in_two(temporary, train, val, args.val)
        if not train["documents"] or not val["documents"]:
            raise SystemExit(f"{train['documents']} documents for training and {val['documents']} for validation: "
                             f"both need one; set the share for validation with --val (now {args.val}) or add documents. "
                             f"Skipped: {listed(meta['skipped'])}")
        with whole_file(os.path.join(temporary, "meta.json")) as f:
            f.write(json.dumps(meta, indent=2).encode())
        for file in ("train.bin", "val.bin", "meta.json"):
            os.replace(os.path.join(temporary, file), os.path.join(args.out, file))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if new and not os.listdir(args.out):
            os.rmdir(args.out)
    print(f"{args.out}: {train['tokens']:,} tokens of {train['documents']:,} documents to train on, "
          f"{val['tokens']:,} of {val['documents']:,} for validation")
    print(f"{meta['text_characters'] / (train['tokens'] + val['tokens']):.2f} characters per token; skipped: {listed(meta['skipped'])}")
    print(f"next: python train.py CONFIG --data_dir={args.out} --out_dir=out/NAME, or finetune.py; configs/ has examples")


def cut_in_two(folder, train, val, share):
    """Make a single document's end the text for validation, in the folder's bins and in what meta.json says of them."""
    tokens = np.concatenate([np.fromfile(os.path.join(folder, f"{split}.bin"), np.uint16) for split in ("train", "val")])
    at = len(tokens) - math.ceil(share * len(tokens))
    for split, meta, part in (("train", train, tokens[:at]), ("val", val, tokens[at:])):
        with whole_file(os.path.join(folder, f"{split}.bin")) as f:
            f.write(part.tobytes())
        meta.update(tokens=len(part), documents=int(len(part) > 0), sha256=hashlib.sha256(part.tobytes()).hexdigest())


def sort_documents(args, temporary, total):
    """Tokenize all documents into buckets by the leading bits of their keys, then append the buckets one after the other,
    each sorted, to train.bin and val.bin: the order is that of the keys, whatever the number of buckets or workers."""
    text = total + sum(5 * size_of(source) for source in args.sources if source.endswith(".gz"))  # a guess: code packs about sixfold
    bits = min(9, (text // BUCKET_BYTES).bit_length())  # at most 512 files are open
    buckets = [open(os.path.join(temporary, f"{b}.bucket"), "wb") for b in range(1 << bits)]
    skipped, characters = Counter(), 0
    work = in_parallel(tokenize_task, tasks(source_files(args, *SUFFIXES), [args.field]), args.workers,
                       setup_tokenize, args.tokenizer, args.seed, args.val)
    with tqdm(total=total, unit="B", unit_scale=True, desc="tokenize") as bar:
        for size, (documents, chars, skips) in work:
            for key, for_val, tokens in documents:
                buckets[key >> (64 - bits)].write(RECORD.pack(key, len(tokens), for_val) + tokens)
            skipped.update(skips)
            characters += chars
            bar.update(size)
    counts = {split: {"tokens": 0, "documents": 0} for split in ("train", "val")}
    hashes = {split: hashlib.sha256() for split in counts}
    with whole_file(os.path.join(temporary, "train.bin")) as train, whole_file(os.path.join(temporary, "val.bin")) as val:
        for bucket in tqdm(buckets, desc="shuffle", unit="bucket", disable=len(buckets) == 1):
            bucket.close()
            with open(bucket.name, "rb") as f:
                data = f.read()
            os.remove(bucket.name)
            documents, at = [], 0
            while at < len(data):
                key, size, for_val = RECORD.unpack_from(data, at)
                documents.append((key, at + RECORD.size, size, for_val))
                at += RECORD.size + size
            for key, at, size, for_val in sorted(documents):
                split, tokens = "val" if for_val else "train", memoryview(data)[at:at + size]
                (val if for_val else train).write(tokens)
                hashes[split].update(tokens)
                counts[split]["tokens"] += size // 2
                counts[split]["documents"] += 1
    for split in counts:
        counts[split]["sha256"] = hashes[split].hexdigest()
    return {**counts, "text_characters": characters, "skipped": skipped}


# ---- command line ----------------------------------------------------------------------------------------------------

STAGES = {
    "collect": (collect, "code, StackOverflow -> one file of distinct documents"),
    "annotate": (annotate, "a sample of documents -> educational scores by a teacher"),
    "filter": (filter_documents, "documents + scores -> the most educational documents"),
    "textbooks": (textbooks, "topics x audiences x real code -> textbook sections by a teacher"),
    "exercises": (exercises, "names of functions -> exercises by a teacher, checked"),
    "decontaminate": (decontaminate, "exercises -> those that are not close to a benchmark's problem"),
    "tokenize": (tokenize, "documents -> train.bin, val.bin, meta.json"),
}


def within(low, high, kind=float):
    def number(text):
        if not low <= kind(text) <= high:
            raise argparse.ArgumentTypeError(f"{text}, where {low} to {high} is expected")
        return kind(text)
    return number


def jsonl(path):
    if not path.endswith((".jsonl", ".jsonl.gz")):
        raise argparse.ArgumentTypeError(f"{path}, where a .jsonl or .jsonl.gz file is expected")
    return path


def parse_args(argv=None):
    teacher, count = "annotate textbooks exercises", within(1, math.inf, int)
    options = [  # the stages that have it, its name, the rest of add_argument
        ("collect", "sources", dict(nargs="+", help="folders (of .py, .jsonl(.gz), .parquet), such files, StackOverflow's Posts.xml")),
        ("tokenize", "sources", dict(nargs="+", help="folders (of .py, .txt, .md), such files, .jsonl, .jsonl.gz")),
        ("annotate filter", "documents", dict(type=jsonl, help=".jsonl(.gz) that collect wrote")),
        ("decontaminate", "exercises", dict(type=jsonl, help=".jsonl(.gz) that exercises wrote")),
        ("tokenize", "--out", dict(required=True, help="folder to write")),
        ("collect filter decontaminate " + teacher, "--out", dict(required=True, type=jsonl, help="file to write, .jsonl or .jsonl.gz")),

        ("collect", "--field", dict(help=f"of a .jsonl or column of a .parquet that holds the text (the first there of {', '.join(FIELDS)})")),
        ("tokenize", "--field", dict(default="text", help="of a .jsonl line that holds the text")),
        ("collect tokenize", "--exclude", dict(nargs="+", default=[], metavar="NAME", help="names (or patterns) of files and folders to leave out")),
        ("annotate", "--samples", dict(type=count, default=100_000, help="documents to label (the paper: about 100k)")),
        ("filter", "--labels", dict(required=True, type=jsonl, help=".jsonl that annotate wrote")),
        ("filter", "--keep", dict(type=within(0, 1), default=0.17, help="share of the documents to keep (the paper: about 0.17)")),
        ("textbooks", "--count", dict(type=count, default=1_000_000, help="sections to keep")),
        ("textbooks", "--seeds", dict(type=jsonl, help=".jsonl(.gz) of real code to take snippets from (default: Python's standard library)")),
        ("exercises", "--count", dict(type=count, default=900_000, help="exercises to keep")),
        ("exercises", "--per_call", dict(type=count, default=5, help="exercises to ask for at once")),
        ("exercises", "--no_run", dict(action="store_true", help="do not run the examples in the sandbox")),
        ("decontaminate", "--against", dict(nargs="+", default=["humaneval", "mbpp"], help="benchmarks that eval_humaneval.py knows (add "
                                            "mbpp-sanitized if you report it), or .jsonl files in HumanEval's format")),
        ("decontaminate", "--tau", dict(type=within(0, 1), default=0.95, help="drop at this match rate of syntax trees and above (paper: 0.95 "
                                        "to 0.8); 0: do not compare them")),
        ("decontaminate", "--ngrams", dict(type=int, default=1, choices=(0, 1), help=f"compare {GRAM}-grams of words")),
        ("decontaminate", "--encoder", dict(help="compare embeddings too, by this checkpoint or Hugging Face folder")),
        ("decontaminate", "--distance", dict(type=within(0, 2), default=0.1, help="drop at this L2 distance of embeddings and below (our choice)")),
        ("filter", "--encoder", dict(required=True, help="embeds documents: a checkpoint of train.py, or a folder such as codegen-350M-mono")),
        ("filter decontaminate", "--device", dict(default="auto", help="auto, cuda, mps or cpu")),
        ("tokenize", "--tokenizer", dict(default="codegen", help="codegen (phi-1's), bytes, or a .tiktoken file of ranks")),
        ("tokenize", "--val", dict(type=within(0, 1), default=0.01, help="share of the documents for validation")),
        ("collect exercises decontaminate tokenize", "--workers", dict(type=count, default=os.cpu_count(), help="processes")),
        ("tokenize " + teacher, "--seed", dict(type=int, default=1337, help="of samples, prompts, the order of documents")),

        (teacher, "--model", dict(required=True, help="the teacher, as its server calls it")),
        (teacher, "--price", dict(type=within(0, 1e6), nargs=2, metavar=("IN", "OUT"), help=f"dollars per million tokens (known for {', '.join(PRICES)}; "
                                  "0 for another server than OpenAI's)")),
        (teacher, "--budget", dict(type=within(0, math.inf), default=math.inf, help="dollars, of all runs with this --out together; what is under "
                                   "way when it is reached comes on top")),
        ("annotate", "--temperature", dict(type=within(0, 2), default=0.0, help="of the teacher's sampling")),
        ("textbooks exercises", "--temperature", dict(type=within(0, 2), default=1.0, help="of the teacher's sampling")),
        ("annotate", "--max_tokens", dict(type=count, default=300, help="the longest answer; longer ones are dropped")),
        ("textbooks", "--max_tokens", dict(type=count, default=2500, help="the longest answer; longer ones are dropped")),
        ("exercises", "--max_tokens", dict(type=count, default=4000, help="the longest answer; longer ones are dropped")),
        (teacher, "--reasoning_effort", dict(default="none", help="for models that think first; '' sends nothing")),
        (teacher, "--concurrency", dict(type=count, default=32, help="requests at once")),
        (teacher, "--timeout", dict(type=within(0.1, 86400), default=600, help="seconds to wait for a whole answer before asking again")),
        (teacher, "--batch", dict(action="store_true", help="use the Batch API: half the price, within 24 hours")),
        (teacher, "--dry-run", dict(action="store_true", help="print three prompts and the expected price; no call is made")),
    ]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parsers = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for stage, (_, help) in STAGES.items():
        p = parsers.add_parser(stage, help=help)
        for stages, name, settings in options:
            if stage in stages.split():
                default = "" if settings.get("default") in (None, []) else " (default: %(default)s)"
                p.add_argument(name, **{**settings, "help": settings["help"] + default})
    args = parser.parse_args(argv)
    if args.stage in ("collect", "filter", "decontaminate") and os.path.exists(args.out):
        raise SystemExit(f"{args.out} is there already: remove it to make it anew, or choose another --out")
    if args.stage == "decontaminate":
        args.sources, args.exclude = [args.exercises], []
    return args


def main(argv):
    warnings.simplefilter("ignore", SyntaxWarning)  # of the compiler, about code that others wrote
    args = None
    try:
        args = parse_args(argv)
        STAGES[args.stage][0](args)
    except KeyboardInterrupt:
        kept = "answers" if hasattr(args, "model") else f"blocks of {BLOCK:,} embeddings" if getattr(args, "encoder", None) else ""
        print(f"interrupted: all {kept} so far are kept; the same command goes on" if kept else
              "interrupted: nothing was written; the same command starts over", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)  # worker processes end with this one; Python would first wait for what they are at
    except BrokenPipeError:  # as in `... --dry-run | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise SystemExit(f"the disk of {args.out} is full, or your share of it ({error.strerror}): make room (tokenize needs two bytes per token) and "
                             "give the same command again; the answers and blocks of embeddings that were written are kept")
        if error.filename is None:
            raise
        raise SystemExit(f"{error.filename or repr('')}: {error.strerror}")  # no permission, a file in the place of a folder
    except SystemExit as error:
        if isinstance(error.code, str) and int(os.environ.get("RANK", 0)) > 0:  # under torchrun rank 0 says it
            time.sleep(3)
            error.code = 1
        raise


if __name__ == "__main__":
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="backslashreplace")  # what the terminal's encoding lacks, and names of files that are no UTF-8
    main(sys.argv[1:])
