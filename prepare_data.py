"""
Prepare data for phi-1 ("Textbooks Are All You Need", arXiv 2306.11644, section 2 and, for decontamination, section 5).

    python prepare_data.py collect  the-stack/ Posts.xml ~/code --out data/web.jsonl.gz
    python prepare_data.py annotate data/web.jsonl.gz --samples 100000 --model MODEL --out data/labels.jsonl
    python prepare_data.py filter   data/web.jsonl.gz --labels data/labels.jsonl --encoder codegen-350M-mono/ --keep 0.17 --out data/filtered.jsonl.gz
    python prepare_data.py textbooks --count 1000000 --budget 500 --model MODEL --out data/textbooks.jsonl
    python prepare_data.py exercises --count 900000 --budget 200 --model MODEL --out data/exercises.jsonl
    python prepare_data.py decontaminate data/exercises.jsonl --against humaneval mbpp --tau 0.95 --out data/exercises_clean.jsonl
    python prepare_data.py tokenize data/filtered.jsonl.gz data/textbooks.jsonl --out data/codetextbook
    python prepare_data.py tokenize data/exercises_clean.jsonl --out data/codeexercises
    ... --dry-run      # annotate, textbooks, exercises: three finished prompts, the expected tokens and price; no call made
    ... --batch        # the same three through the Batch API at half price
    torchrun --nproc_per_node=8 prepare_data.py filter ...      # the ranks share the embedding
    python prepare_data.py STAGE --help

annotate, textbooks and exercises ask any server with OpenAI's API: OPENAI_API_KEY, and OPENAI_BASE_URL for another than OpenAI's
(vLLM, llama.cpp, Ollama, LM Studio: http://localhost:8000/v1, no key needed). All prompts are in one place below. Each answer is
appended to NAME.answers.jsonl as it comes, rejected ones too; the same command continues a stopped run and asks nothing twice.
NAME.jsonl, one document a line, is made from the answers when enough are there; --budget 0 makes it from those so far.

tokenize turns documents into what train.py reads. Sources are folders (their .py, .txt and .md files; hidden folders are
left out), such files by name, and .jsonl or .jsonl.gz with the text in one field. It writes
    train.bin, val.bin   token ids as uint16, flat, <|endoftext|> after each document
    meta.json            tokenizer, counts, sha256 of both, what was skipped and why; written last: with it the data is whole
The order of documents is random but a function of --seed and the sources alone, and memory stays flat at any size: it is an
external bucket sort by a hash, and only a single document must fit in memory. A document goes to validation by the hash of
its text, so adding sources later moves none from one side to the other, and two copies of a text are never on both sides.
"""
import argparse
import ast
import builtins
import difflib
import doctest
import errno
import fcntl
import fnmatch
import gzip
import hashlib
import heapq
import html
import itertools
import json
import math
import multiprocessing
import os
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
import zlib
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from email.utils import parsedate_to_datetime

SUFFIXES = (".py", ".txt", ".md")
TASK_BYTES = 1 << 20      # of input in one task of a worker process
BUCKET_BYTES = 32 << 20   # of input in one bucket of the sort, which is sorted in memory
RECORD = struct.Struct("<QI?")  # one document in a bucket: key to sort by, number of tokens, is it for validation


# ---- tokenize: sources -----------------------------------------------------------------------------------------------

def files_below(folder, exclude):
    """Paths of the text files below a folder, sorted within each folder, without ever listing all of them at once."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise SystemExit(f"{folder}: {error.strerror}")
    for entry in entries:
        if entry.name.startswith(".") or any(fnmatch.fnmatch(entry.name, pattern) for pattern in exclude):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from files_below(entry.path, exclude)
        elif entry.name.endswith(SUFFIXES) and os.path.isfile(entry.path):
            yield entry.path


def size_of(path):
    try:
        return os.path.getsize(path)
    except OSError:
        return 0  # it is gone, or cannot be read: the worker that meets it counts it as skipped


def tasks(sources, exclude, field):
    """Yield (bytes of input, task) for the workers: a task is (name, first, field, items) with some MB of items, which are
    paths of files (field None) or lines of a .jsonl. Item i of source number `name` is document (name, first + i)."""
    for number, source in enumerate(sources):
        if source.endswith((".jsonl", ".jsonl.gz")) and not os.path.isdir(source):
            with open(source, "rb") as raw:
                lines = gzip.open(raw) if source.endswith(".gz") else raw
                first, items, size, read = 0, [], 0, 0
                try:
                    for line in filter(bytes.strip, lines):
                        items.append(line)
                        size += len(line)
                        if size >= TASK_BYTES:
                            yield raw.tell() - read, (number, first, field, items)
                            first, items, size, read = first + len(items), [], 0, raw.tell()
                except (EOFError, OSError, zlib.error) as error:
                    raise SystemExit(f"{source} cannot be read to its end ({error}); fetch it again")
                yield raw.tell() - read, (number, first, field, items)
        else:
            first, items, size = 0, [], 0
            for path in files_below(source, exclude) if os.path.isdir(source) else [source]:
                items.append(path)
                size += size_of(path)
                if size >= TASK_BYTES or len(items) == 1000:
                    yield size, (number, first, None, items)
                    first, items, size = first + len(items), [], 0
            yield size, (number, first, None, items)


def input_bytes(sources, exclude):
    """The size of all sources on disk, for the progress bar; ends the program at one that cannot be used."""
    total = 0
    for source in sources:
        if os.path.isdir(source):
            size = sum(map(size_of, files_below(source, exclude)))
            if not size:
                raise SystemExit(f"{source} holds no text in {', '.join(SUFFIXES)} files")
        elif not os.path.isfile(source):
            raise SystemExit(f"{source} is not there, or no file")
        elif not source.endswith(SUFFIXES + (".jsonl", ".jsonl.gz")):
            raise SystemExit(f"{source}: sources are folders, {', '.join(SUFFIXES)} files, .jsonl and .jsonl.gz")
        else:
            size = os.path.getsize(source)
        total += size
    return total


# ---- tokenize: workers -----------------------------------------------------------------------------------------------

def start_worker(tokenizer, seed, val):
    from tokenizer import load_tokenizer
    global worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=end_with_parent, daemon=True).start()
    worker = load_tokenizer(tokenizer), seed, val


def end_with_parent():
    """A worker does not outlive a parent that was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)


def read_text(item, field):
    """The text of a file (field None) or of a .jsonl line; raises ValueError with the reason to skip it."""
    if field is None:
        with open(item, "rb") as f:
            data = f.read()
    else:
        try:
            record = json.loads(item)
        except (ValueError, RecursionError):
            raise ValueError("not JSON")
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            raise ValueError(f"no text in field {field!r}")
        data = record[field].encode("utf-8", "surrogatepass")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8")
    if "\0" in text:
        raise ValueError("binary (holds NUL)")
    text = text.replace("\r\n", "\n")
    if not text.strip():
        raise ValueError("empty")
    return text


def tokenize_task(task):
    """Tokenize a task's documents. Returns (documents, bytes of text, skipped): each document as (key to sort by, is it for
    validation, its tokens as the bytes of a uint16 array), and {reason: count}."""
    import numpy as np
    encoding, seed, val = worker
    number, first, field, items = task
    documents, text_bytes, skipped = [], 0, {}
    for i, item in enumerate(items):
        try:
            text = read_text(item, field)
            try:
                tokens = encoding.encode_to_numpy(text, disallowed_special=())  # as encode_ordinary, without a Python list
            except ValueError:  # tiktoken's stack ends at a run of several 100,000 white space characters
                raise ValueError("a huge run of white space")
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            skipped[reason] = skipped.get(reason, 0) + 1
            continue
        draw = hash64(text.encode()) / 2**64
        documents.append((hash64(f"{seed} {number} {first + i}".encode()), draw < val,
                          np.append(tokens, encoding.eot_token).astype(np.uint16).tobytes()))
        text_bytes += len(text)
    return documents, text_bytes, skipped


def hash64(data):
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


# ---- tokenize: the run -----------------------------------------------------------------------------------------------

def in_parallel(function, items, workers, initializer, initargs):
    """Yield (size, function(item)) for (size, item) in items, as they are done. Only a few items per worker are in flight, so
    memory does not grow with their number."""
    with ProcessPoolExecutor(workers, initializer=initializer, initargs=initargs) as pool:
        pending = {}
        try:
            for size, item in items:
                pending[pool.submit(function, item)] = size
                while len(pending) >= 3 * workers:
                    for future in wait(pending, return_when=FIRST_COMPLETED).done:
                        yield pending.pop(future), future.result()
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    yield pending.pop(future), future.result()
        except BrokenProcessPool:
            raise SystemExit("a worker process was killed, most likely because memory ran out: try fewer --workers")
        finally:
            pool.shutdown(cancel_futures=True)


def tokenize(args):
    """Sources -> OUT/train.bin, val.bin, meta.json."""
    from tqdm import tqdm
    from tokenizer import load_tokenizer
    if os.path.exists(os.path.join(args.out, "meta.json")):
        raise SystemExit(f"{args.out} is complete already: remove it to make it anew, or choose another --out")
    vocab_size = load_tokenizer(args.tokenizer).n_vocab  # in this process first: downloads the ranks once, or says why not
    assert vocab_size <= 1 << 16, "token ids must fit in uint16"
    total = input_bytes(args.sources, args.exclude)
    new = not os.path.exists(args.out)
    os.makedirs(args.out, exist_ok=True)
    folder = os.open(args.out, os.O_RDONLY)  # held until this process ends
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit(f"another run is writing to {args.out}: wait for it, or choose another --out")
    temporary = os.path.join(args.out, "tokenize.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    os.mkdir(temporary)
    try:
        meta = sort_documents(args, temporary, total, tqdm)
        meta = {"tokenizer": args.tokenizer, "vocab_size": vocab_size, "dtype": "uint16", "seed": args.seed,
                "val_share": args.val, "sources": args.sources, **meta}
        if not meta["train"]["documents"] or not meta["val"]["documents"]:
            raise SystemExit(f"{meta['train']['documents']} documents for training and {meta['val']['documents']} for validation: "
                             f"both need one; set the share for validation with --val (now {args.val}) or add documents")
        with open(os.path.join(temporary, "meta.json"), "w") as f:
            json.dump(meta, f, indent=2)
            f.flush()
            os.fsync(f.fileno())
        for file in ("train.bin", "val.bin", "meta.json"):
            os.replace(os.path.join(temporary, file), os.path.join(args.out, file))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise SystemExit(f"the disk of {args.out} is full: about {5 * total / 1e6:,.0f} MB are needed for {total / 1e6:,.0f} MB "
                         "of sources")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if new and not os.listdir(args.out):
            os.rmdir(args.out)
    print(f"{args.out}: {meta['train']['tokens']:,} tokens of {meta['train']['documents']:,} documents to train on, "
          f"{meta['val']['tokens']:,} of {meta['val']['documents']:,} for validation")
    print(f"{meta['text_characters'] / (meta['train']['tokens'] + meta['val']['tokens']):.2f} characters per token; skipped: "
          + (", ".join(f"{count:,} {reason}" for reason, count in sorted(meta["skipped"].items())) or "nothing"))
    print(f"next: python train.py CONFIG --data_dir={args.out} --out_dir=out/NAME, or finetune.py; configs/ has examples")


def sort_documents(args, temporary, total, tqdm):
    """Tokenize all documents into buckets by the leading bits of their keys, then append the buckets one after the other,
    each sorted, to train.bin and val.bin: the order is that of the keys, whatever the number of buckets or workers."""
    text = total + sum(5 * size_of(source) for source in args.sources if source.endswith(".gz"))  # a guess: code packs about sixfold
    bits = min(9, (text // BUCKET_BYTES).bit_length())  # at most 512 files are open
    buckets = [open(os.path.join(temporary, f"{b}.bucket"), "wb") for b in range(1 << bits)]
    skipped, characters = {}, 0
    work = in_parallel(tokenize_task, tasks(args.sources, args.exclude, args.field), args.workers,
                       start_worker, (args.tokenizer, args.seed, args.val))
    with tqdm(total=total, unit="B", unit_scale=True, desc="tokenize") as bar:
        for size, (documents, chars, skips) in work:
            for key, for_val, tokens in documents:
                buckets[key >> (64 - bits)].write(RECORD.pack(key, len(tokens), for_val) + tokens)
            for reason, count in skips.items():
                skipped[reason] = skipped.get(reason, 0) + count
            characters += chars
            bar.update(size)
    counts = {split: {"tokens": 0, "documents": 0} for split in ("train", "val")}
    hashes = {split: hashlib.sha256() for split in counts}
    files = {split: open(os.path.join(temporary, split + ".bin"), "wb") for split in counts}
    for bucket in tqdm(buckets, desc="shuffle", unit="bucket", disable=len(buckets) == 1):
        bucket.close()
        with open(bucket.name, "rb") as f:
            data = f.read()
        os.remove(bucket.name)
        documents, at = [], 0
        while at < len(data):
            key, size, for_val = RECORD.unpack_from(data, at)
            at += RECORD.size
            documents.append((key, at, size, for_val))
            at += size
        for key, at, size, for_val in sorted(documents):
            split, tokens = "val" if for_val else "train", memoryview(data)[at:at + size]
            files[split].write(tokens)
            hashes[split].update(tokens)
            counts[split]["tokens"] += size // 2
            counts[split]["documents"] += 1
    for split, f in files.items():
        f.flush()
        os.fsync(f.fileno())
        f.close()
        counts[split]["sha256"] = hashes[split].hexdigest()
    return {**counts, "text_characters": characters, "skipped": skipped}


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

AUDIENCES = {  # each reader needs other instructions: changing the one word "student" does not stop duplicates
    "a first program":
        "The reader is eleven and has never programmed. Use short sentences, things from a kitchen, a playground or a pet's day as "
        "data, and one new idea at a time. No function before it was said what a function is for. Show what is printed after every "
        "few lines.",
    "high school":
        "The reader is in high school and knows its mathematics. Let a small problem from geometry, statistics or physics lead to "
        "the code, write the formula first and then the line that computes it, and check the result with paper and pencil.",
    "first-year student":
        "The reader studies computer science in the first year. Define each term exactly before it is used, state what the function "
        "expects and promises, treat the edge cases (empty, one item, equal items) and say how the number of steps grows with the "
        "input.",
    "career changer":
        "The reader is an adult who changes careers and learns in the evening. Start from a chore at an office (bookings, invoices, "
        "shifts), solve it by hand, then automate exactly these steps, and point at the two mistakes that everybody makes here.",
    "scientist":
        "The reader works in a laboratory and has measurements to process. Use small tables of readings with units, show how a "
        "wrong result would be noticed, and prefer clear functions that are checked with known values over cleverness.",
    "from another language":
        "The reader has programmed for years in a language with types and braces. Be brief about what is common to all languages. "
        "Contrast the direct translation with the way it is said in Python, and explain what happens underneath when the two "
        "differ.",
    "dialogue":
        "Write it as a talk between a patient teacher and a curious learner. The learner guesses, is wrong at least once, tries the "
        "code, sees the output and corrects the idea; the teacher asks rather than tells. Names in front of the lines, code in "
        "blocks.",
    "debugging":
        "Teach through a mistake. Show a short program that is plausible and wrong, the wrong output, and how to find the cause by "
        "looking at values in between; then the corrected program, why it is right, and a test that would have caught it.",
    "worked problems":
        "Write it as worked problems: after a paragraph on the idea come three problems of rising difficulty, each with a "
        "statement, a plan in words, a function with a docstring, and a check with two or three asserts. The third combines the "
        "idea with another one.",
    "mathematician":
        "The reader studies mathematics. Begin with the definition, give a short argument why the method is correct (an invariant, "
        "an induction), let the function follow the argument line by line, and end with a case where a careless version fails.",
    "code reader":
        "Teach by reading. Show one function of fifteen to twenty-five lines, go through it line by line with the values that the "
        "variables take for one input, then change one requirement and show which lines change and which stay.",
    "refactoring":
        "Begin with a version that works and is clumsy. Improve it in three small steps, each with its reason and the new code, "
        "show that the results stay the same, and say when one would stop earlier.",
}

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
block, no classes, no input, no printing, no files, nothing random. Work out the results of the examples with care: they will be run.
"""

PRICES = {"gpt-5.6-luna": (0.20, 1.20), "gpt-6-luna": (0.10, 0.50)}  # USD per million tokens in and out, 2026-11; --price wins
EXPECTED = {"annotate": 90, "textbooks": 1100, "exercises": 230}     # tokens of one answer (of one exercise), for --dry-run only


# ---- files -----------------------------------------------------------------------------------------------------------

def beside(path, suffix):
    """data/x.jsonl.gz -> data/x + suffix: where a stage keeps what belongs to a file."""
    return re.sub(r"\.jsonl(\.gz)?$", "", path) + suffix


@contextmanager
def whole_file(path):
    """A file to write bytes to that appears only when it is complete, and that one process writes at a time."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = path + ".tmp"
    raw = open(os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    try:
        fcntl.flock(raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"another run is writing {path}: wait for it, or choose another --out")
    try:
        with raw:
            raw.truncate(0)  # of a run that was killed
            with gzip.open(raw, "wb", compresslevel=4) if path.endswith(".gz") else nullcontext(raw) as f:
                yield f
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def json_line(record):
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def read_jsonl(path, **fields):
    """Yield (line number, record) of a .jsonl(.gz) whose records have these fields of these types. Other lines are left out; at
    the end they are counted and named."""
    corrupt = []
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    record = json.loads(line)
                    bad = [name for name, kind in fields.items() if not isinstance(record, dict) or not isinstance(record.get(name), kind)]
                    reason = f"no {bad[0]!r}" if bad else None
                except (ValueError, RecursionError):
                    reason = "not JSON"
                if not reason:
                    yield number, record
                elif line.strip():
                    corrupt.append(f"{number} ({reason})")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SystemExit(f"{path} cannot be read to its end ({error}); make it again")
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}")
    tell_corrupt(path, corrupt)


def tell_corrupt(path, lines):
    if lines:
        print(f"{path}: {len(lines):,} corrupt lines left out: {', '.join(lines[:5])}" + (", ..." if len(lines) > 5 else ""))


def line_tasks(path):
    """Yield (bytes of the file, (number of the first line, lines)) with some MB of a .jsonl(.gz), blank lines included."""
    with open(path, "rb") as raw, gzip.open(raw) if path.endswith(".gz") else nullcontext(raw) as lines:
        first, read = 1, 0
        try:
            while block := lines.readlines(TASK_BYTES):
                yield raw.tell() - read, (first, block)
                first, read = first + len(block), raw.tell()
        except (EOFError, OSError, zlib.error) as error:
            raise SystemExit(f"{path} cannot be read to its end ({error}); fetch it again")


def read_documents(path):
    """Yield (line number, text) of the documents of a .jsonl(.gz)."""
    for number, record in read_jsonl(path, text=str):
        if record["text"].strip():
            yield number, record["text"]


def hash_text(text):
    return hash64(text.encode("utf-8", "surrogatepass"))


def listed(counts):
    """{"a": 3, "b": 1} -> "3 a, 1 b", the most frequent first."""
    return ", ".join(f"{n:,} {reason}" for reason, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n) or "nothing"


class Seen:
    """The 64-bit hashes met so far at 8 bytes each: a sorted array, into which the set of the latest is merged now and then."""
    def __init__(self):
        import numpy as np
        self.np, self.old, self.latest = np, np.empty(0, np.uint64), set()

    def add(self, h):
        """True if h is new."""
        at = int(self.old.searchsorted(self.np.uint64(h)))
        if h in self.latest or (at < len(self.old) and int(self.old[at]) == h):
            return False
        self.latest.add(h)
        if len(self.latest) >= 1 << 20:
            self.merge()
        return True

    def merge(self):
        latest = self.np.fromiter(self.latest, self.np.uint64, len(self.latest))
        self.old, self.latest = self.np.sort(self.np.concatenate([self.old, latest])), set()


def in_order(results):
    """(size, (serial, value)) of in_parallel -> (size, value) in the order of serials 0, 1, ...: the same output in every run."""
    waiting, turn = {}, 0
    for size, (serial, value) in results:
        waiting[serial] = size, value
        while turn in waiting:
            yield waiting.pop(turn)
            turn += 1


def start_plain_worker():
    import warnings
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")  # of the compiler, about the documents


# ---- the client: OpenAI's REST API by hand ---------------------------------------------------------------------------

OPENAI = "https://api.openai.com/v1"
TRIES = 8
NO_CREDIT = {"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached", "billing_not_active"}
SWAP = {"max_completion_tokens": "max_tokens", "max_tokens": "max_completion_tokens"}  # the new and the old name of one parameter


class Refused(Exception):
    """The server will never answer this request; .error is what it says."""
    def __init__(self, error):
        super().__init__(one_line(error.get("message")))
        self.error = error


class GaveUp(Exception):
    """No answer after all tries, or the run is ending."""


def one_line(text):
    return " ".join(str(text).split())[:200]


def error_of(status, data):
    """The error in an answer's body as {"message", "code", "param"}, whatever the server sent: OpenAI's form, others', HTML."""
    try:
        body = json.loads(data)
    except ValueError:
        return {"message": f"HTTP {status}" + (" and a page that is not JSON" if data.strip() else "")}
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return {"message": f"HTTP {status}: {one_line(error)}"}
    message = error.get("message") or json.dumps(error.get("detail", error))
    return {"message": f"HTTP {status}: {one_line(message)}", "code": error.get("code") or error.get("type"), "param": error.get("param"),
            "all": json.dumps(error)}


def kind_of(status, error):
    """What an error answer asks for: "stop" the run, try "later", or leave this item: "refuse"."""
    if (status == 429 and NO_CREDIT & {error.get("code")}) or status in (401, 402, 403, 404, 405) or 300 <= status < 400:
        return "stop"
    return "later" if status in (408, 409, 425, 429) or status >= 500 else "refuse"


def retry_after(headers):
    """Seconds that the server asks to wait, from retry-after-ms or Retry-After (seconds or a date); None if it does not say."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1)):
        try:
            if math.isfinite(seconds := float(headers[name]) * unit):
                return max(0.0, min(3600.0, seconds))
        except (KeyError, ValueError):
            pass
    try:
        return max(0.0, min(3600.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time()))
    except (KeyError, ValueError, TypeError):
        return None


def answer_of(reply):
    """(text, None) or (None, why it cannot be used) from the JSON of a chat completion."""
    try:
        choice = reply["choices"][0]
        text, finish = choice["message"].get("content"), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        return None, "no choices in the answer"
    if isinstance(text, list):  # parts, as some servers answer
        text = "".join(part.get("text") or "" for part in text if isinstance(part, dict))
    if finish not in ("stop", "eos", "eos_token") and not (finish is None and text):
        return None, f"finish_reason {finish}"
    text = text.rpartition("</think>")[2].strip() if isinstance(text, str) else ""  # some servers leave the reasoning in
    return (text, None) if text else (None, "null content")


class Client:
    """A server that speaks OpenAI's API, OPENAI_BASE_URL with the key OPENAI_API_KEY, for many threads at once.

        client = Client("gpt-5.6-luna", temperature=0.7, max_tokens=1500, price=(0.20, 1.20), budget=5.0)
        answers = ask_all(client, [(prompt, about), ...], "data/x.answers.jsonl")   # about: a dict that is stored with the answer
        for record in answers.read():
            record["about"], record.get("text"), record.get("rejected")             # one of the two, text or why there is none
    """
    def __init__(self, model, temperature=None, max_tokens=1000, reasoning_effort="none", price=(0, 0), budget=math.inf, concurrency=32, timeout=600):
        self.model, self.price, self.budget, self.concurrency, self.timeout = model, price, budget, concurrency, timeout
        # Sent until the server refuses one. Reasoning models think before they answer, at the price of output: not needed here
        self.params = {"temperature": temperature, "max_completion_tokens": max_tokens, "reasoning_effort": reasoning_effort}
        self.params = {name: value for name, value in self.params.items() if value not in (None, "")}
        self.settings = {"model": model, "temperature": temperature, "max_tokens": max_tokens, "reasoning_effort": reasoning_effort}
        self.base = (os.environ.get("OPENAI_BASE_URL") or OPENAI).rstrip("/")
        self.key = os.environ.get("OPENAI_API_KEY", "").strip()
        self.where = re.sub(r"//[^/]*@", "//", self.base)  # as shown to the user: without a password
        if not self.key and self.base == OPENAI:
            raise SystemExit("no key: export OPENAI_API_KEY=...; a local server needs none, only its address: "
                             "export OPENAI_BASE_URL=http://localhost:8000/v1")
        if not self.key.isascii() or not self.key.isprintable():
            raise SystemExit("OPENAI_API_KEY holds a character that no key has: copy it again")
        self.local, self.lock, self.stopping = threading.local(), threading.Lock(), threading.Event()
        self.resume_at, self.answered, self.refusals, self.refused = 0.0, 0, 0, set()

    def session(self):
        """This thread's own connection."""
        if not hasattr(self.local, "session"):
            import requests
            self.local.session = session = requests.Session()
            for header, variable in (("OpenAI-Organization", "OPENAI_ORG_ID"), ("OpenAI-Project", "OPENAI_PROJECT_ID")):
                if os.environ.get(variable):
                    session.headers[header] = os.environ[variable]
            if self.key:
                def sign(request):  # as `auth`, so that no ~/.netrc takes its place
                    request.headers["Authorization"] = f"Bearer {self.key}"
                    return request
                session.auth = sign
        return self.local.session

    def sleep(self, seconds):
        if self.stopping.wait(seconds):
            raise GaveUp("the run is ending")

    def call(self, method, path, need=None, tries=TRIES, **kwargs):
        """What the server answers: JSON with the field `need`, or bytes if need is None. Tries again on what may pass. Raises
        Refused where it will not, GaveUp after all tries, and SystemExit where no request can succeed."""
        import requests
        from urllib3.exceptions import NewConnectionError
        attempt, progress = 0, self.answered
        while True:
            while (pause := self.resume_at - time.monotonic()) > 0:  # all threads wait where one was told to
                self.sleep(pause * random.uniform(1, 1.2))
            if self.stopping.is_set():
                raise GaveUp("the run is ending")
            status, wait = 0, None
            try:
                response = self.session().request(method, self.base + path, timeout=(min(10, self.timeout), self.timeout),
                                                  allow_redirects=False, **kwargs)
                status, data, wait = response.status_code, response.content, retry_after(response.headers)
                if len(self.key) >= 16:  # what a server echoes must not reach a file (local servers' "EMPTY" may)
                    data = data.replace(self.key.encode(), b"[key]")
                if 200 <= status < 300:
                    value = data if need is None else json.loads(data)
                    if need is None or (isinstance(value, dict) and need in value):
                        self.answered += 1
                        return value
                    status, error = 0, error_of(status, data)
                else:
                    error = error_of(status, data)
            except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
                raise SystemExit(f"OPENAI_BASE_URL is {self.where}, which is no address; such as http://localhost:8000/v1")
            except requests.RequestException as failure:
                error = {"message": type(failure).__name__}
                cause = getattr(failure.args[0] if failure.args else None, "reason", None)
                if not self.answered and attempt >= 2 and isinstance(cause, NewConnectionError):
                    raise SystemExit(f"no server answers at {self.where}: start it, or correct OPENAI_BASE_URL")
            except ValueError:
                status, error = 0, {"message": "JSON that is cut off" if data.strip() else "an empty answer"}
            kind = kind_of(status, error) if status else "later"
            if kind == "stop":
                raise SystemExit(self.explain(status, error, path))
            if kind == "refuse":
                raise Refused(error)
            delay = wait or min(60, 0.5 * 2**attempt) * random.uniform(0.5, 1)
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
        message = error["message"]
        if 300 <= status < 400:
            return f"{self.where} answers with a redirect (HTTP {status}): correct OPENAI_BASE_URL"
        if status == 401:
            return f"{self.where} does not accept the key: {message}. Set OPENAI_API_KEY" + ("" if self.key else "; it is not set")
        if status in (429, 402):
            return f"no credit is left: {message}. All answers are kept; add credit and give the same command again"
        if status in (404, 405) and path.startswith(("/files", "/batches")):
            return (f"{self.where} has no Batch API, or has forgotten {path} ({message}): run without --batch, or remove the "
                    ".batches.json beside the answers")
        if status in (404, 405):
            try:
                names = [model["id"] for model in self.session().get(self.base + "/models", timeout=10).json()["data"]]
            except Exception:  # a hint only
                names = []
            near = difflib.get_close_matches(self.model, names, n=3, cutoff=0.3) or names[:3]
            return (f"{self.where} does not know the model {self.model!r}, or is not the API's address: {message}"
                    + (f"; it has {', '.join(near)}" if near else ""))
        return f"{self.where} does not let us in: {message}"

    def drop(self, sent, error):
        """True if a parameter that was `sent` is what the server refused: it is then left out, or renamed, from now on."""
        says = f"{error.get('message')} {error.get('all')}"
        if error.get("code") == "context_length_exceeded" or "context length" in says or "too large" in says:
            return False  # about this prompt, though it may name max_tokens
        name = error.get("param") if error.get("param") in sent else None
        if not name and re.search("(?i)unsupported|unrecogni|unknown|unexpected|extra|invalid|input should be|must be|literal_error|"
                                  "not (supported|permitted|allowed)|does not support", says):
            name = next((name for name in sent if re.search(rf"\b{name}\b", says)), None)
            if not name and "reasoning_effort" in sent and re.search("(?i)reasoning|effort|think|'none'", says):
                name = "reasoning_effort"  # many servers name the value only
        if not name:
            return False
        with self.lock:
            if name in self.params:  # not done by another thread already
                value = self.params.pop(name)
                self.refused.add(name)
                other = SWAP.get(name)
                if other and other not in self.refused:
                    self.params[other] = value
                print(f"\nthe server refuses {name}={value}: " + (f"sent as {other}" if other in self.params else "left out"), file=sys.stderr)
        return True

    def body(self, prompt, params):
        return {"model": self.model, "messages": [{"role": "user", "content": prompt}], **params}

    def ask(self, prompt):
        """{"text": ...} or {"rejected": why}, with "tokens" in and out and "usd", all attempts included."""
        tokens = [0, 0]
        for again in range(3):  # an empty or overlong answer may be chance: asked anew twice
            while True:
                params = dict(self.params)
                try:
                    reply = self.call("POST", "/chat/completions", need="choices", json=self.body(prompt, params))
                    break
                except Refused as refusal:
                    if not self.drop(params, refusal.error):
                        self.refusals += 1
                        if self.refusals >= 20 and not self.answered:
                            raise SystemExit(f"{self.where} refuses every request: {refusal}")
                        return {"rejected": str(refusal), "tokens": tokens, "usd": self.usd(tokens)}
            text, why = answer_of(reply)
            tokens = [a + b for a, b in zip(tokens, tokens_of(reply, prompt, text))]
            if text or why == "finish_reason content_filter":
                break
        return {**({"text": text} if text else {"rejected": why}), "tokens": tokens, "usd": self.usd(tokens)}

    def usd(self, tokens, share=1.0):
        return round(share * sum(n * price for n, price in zip(tokens, self.price)) / 1e6, 9)


def tokens_of(reply, prompt, text):
    """[in, out] as the server counts them; where it does not, four characters are taken for one token."""
    usage = reply.get("usage") if isinstance(reply.get("usage"), dict) else {}
    counted = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return [n if isinstance(n, int) else len(t or "") // 4 for n, t in zip(counted, (prompt, text))]


class Answers:
    """The file of all answers to one set of prompts: a line with the settings they were asked with, then one line per prompt,
    {"key": hash of the prompt, "about", "text" or "rejected", "tokens", "usd"}, appended and flushed as they come."""
    def __init__(self, path, settings):
        self.path, self.done, self.asked, self.tokens, self.usd, self.stopped = path, set(), set(), [0, 0], 0.0, ""
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self.file = open(path, "r+b" if os.path.exists(path) else "w+b")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit(f"another run is writing to {path}: wait for it, or choose another --out")
        size = self.file.seek(0, os.SEEK_END)
        while size:  # a killed run may have left a torn last line
            start = max(0, size - (1 << 16))
            self.file.seek(start)
            cut = self.file.read(size - start).rfind(b"\n") + 1
            if cut:
                self.file.truncate(start + cut)
                break
            size = start
        if not size:
            self.file.truncate(0)
            self.file.seek(0)
            self.file.write(json_line({"settings": settings}))
            self.file.flush()
        records = read_jsonl(path)
        _, head = next(records, (0, None))
        found = head.get("settings") if isinstance(head, dict) else None
        if found != settings and head is not None and not any(True for _ in records):  # begun, and nothing was answered yet
            self.file.truncate(0)
            self.file.seek(0)
            self.file.write(json_line({"settings": settings}))
            self.file.flush()
        elif found != settings:
            names = [name for name in settings if not isinstance(found, dict) or found.get(name) != settings[name]]
            raise SystemExit(f"{path} was not made with these settings ({', '.join(names) or 'others'} differ): move it away, or "
                             "choose another --out")
        for _, record in records:
            if isinstance(record, dict) and "key" in record:
                self.count(record)
        self.file.seek(0, os.SEEK_END)

    def count(self, record):
        self.done.add(record["key"])
        self.tokens = [a + b for a, b in zip(self.tokens, record.get("tokens", (0, 0)))]
        self.usd += record.get("usd", 0)

    def add(self, *records):
        for record in records:
            self.file.write(json_line(record))
            self.count(record)
        self.file.flush()

    def read(self):
        """Yield the answers, kept and rejected, to the prompts of the last ask_all."""
        for _, record in read_jsonl(self.path):
            if isinstance(record, dict) and record.get("key") in self.asked:
                yield record

    def so_far(self):
        return f"{self.tokens[0] / 1e6:.2f}M tokens in, {self.tokens[1] / 1e6:.2f}M out, ${self.usd:.2f}"


def key_of(prompt):
    return f"{hash_text(prompt):016x}"


def ask_all(client, items, path, settings=None, batch=False, total=None):
    """Ask for every (prompt, about) of `items` that the file at `path` has no answer to, and return its Answers. Ends early, with
    .stopped saying why, where the budget is reached. Of equal prompts one is asked. The settings (the client's are added) must be
    those that the file was begun with. `path` may also be an Answers that a call before returned."""
    answers = path if isinstance(path, Answers) else Answers(path, {**client.settings, **(settings or {})})
    answers.asked, answers.stopped = set(), ""

    def fresh():
        for prompt, about in items:
            key = key_of(prompt)
            if key not in answers.asked:
                answers.asked.add(key)
                if key not in answers.done:
                    yield key, prompt, about

    try:
        (ask_in_batches if batch else ask_in_threads)(client, fresh(), answers, total)
    except KeyboardInterrupt:
        raise SystemExit(f"interrupted: {len(answers.done):,} answers ({answers.so_far()}) are kept in {answers.path}; the same command goes on")
    except (GaveUp, Refused) as error:  # in batch mode
        raise SystemExit(f"{client.where} fails: {error}; the same command goes on")
    except SystemExit as error:
        raise SystemExit(f"{error} ({len(answers.done):,} answers, {answers.so_far()}, are kept in {answers.path})" if answers.done else error.code)
    return answers


def ask_in_threads(client, items, answers, total):
    """A bounded window of requests. This thread alone writes, and writes what has come before it asks for more."""
    from tqdm import tqdm
    pending, unanswered, in_a_row = {}, 0, 0
    pool = ThreadPoolExecutor(client.concurrency)
    client.stopping.clear()

    def take(done):
        nonlocal unanswered, in_a_row
        records, fatal = [], None
        for future in done:
            key, about = pending.pop(future)
            try:
                records.append({"key": key, "about": about, **future.result()})
                in_a_row = 0
            except GaveUp as error:  # this one will be asked again by the next run; where none succeeds any more, this run ends
                unanswered, in_a_row = unanswered + 1, in_a_row + 1
                if in_a_row == max(4, client.concurrency) or not (client.answered or pending):
                    fatal = SystemExit(f"{client.where} fails: {error}, after {TRIES} tries for each of {in_a_row} requests")
            except SystemExit as error:
                fatal = error
        answers.add(*records)
        bar.update(len(records))
        bar.set_postfix_str(answers.so_far(), refresh=False)
        if fatal:
            raise fatal

    with tqdm(total=total and max(total, len(answers.done)), initial=len(answers.done), unit="answer", smoothing=0.1) as bar:
        try:
            for key, prompt, about in items:
                while len(pending) >= client.concurrency:
                    take(wait(pending, return_when=FIRST_COMPLETED).done)
                if answers.usd >= client.budget:
                    answers.stopped = f"the budget of ${client.budget:g} is reached"
                    break
                pending[pool.submit(client.ask, prompt)] = key, about
            while pending:
                take(wait(pending, return_when=FIRST_COMPLETED).done)
        except BaseException as error:
            client.stopping.set()  # no further try; what is under way is paid, so it is waited for
            if isinstance(error, KeyboardInterrupt):
                print(f"\nwaiting for {len(pending)} answers under way; Ctrl-C again leaves them", file=sys.stderr)
            try:
                while pending:
                    with suppress(SystemExit, OSError):
                        take(wait(pending, return_when=FIRST_COMPLETED).done)
            except KeyboardInterrupt:
                os._exit(130)
            raise error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    if unanswered:
        print(f"{unanswered:,} requests got no answer after {TRIES} tries each: the same command asks them again")


# ---- the client: batches at half the price ---------------------------------------------------------------------------

BATCH_LINES, BATCH_BYTES = 50_000, 190_000_000  # the API allows 50,000 lines and 200 MB in a file


def ask_in_batches(client, items, answers, total):
    """The same through the Batch API. What is on its way is noted beside the answers, in .batches.json, before each step that
    costs: [{"keys", "file": id of the uploaded file, "tried": was the batch asked for, "batch": its id}, ...]."""
    note = beside(answers.path, ".batches.json").replace(".answers", "")
    under_way = []
    if os.path.exists(note):
        with open(note) as f:
            under_way = json.load(f)
        print(f"{len(under_way)} batches of an earlier run are picked up")
    todo, begun = {key: (prompt, about) for key, prompt, about in items}, len(answers.done)
    client.stopping.clear()

    def save():
        with whole_file(note) as f:
            f.write(json.dumps(under_way).encode())

    while todo or under_way:
        answers.stopped = ""
        sent = {key for entry in under_way for key in entry["keys"]}
        # The price of a batch shows only afterwards: lines are sent while their dearest outcome, or the mean so far, fits the budget
        longest = client.params.get("max_completion_tokens") or client.params.get("max_tokens") or 4000
        left = client.budget - answers.usd
        chunk, size, chunks = [], 0, []
        for key, (prompt, _) in todo.items():
            left -= answers.usd / len(answers.done) if len(answers.done) >= 100 else client.usd([len(prompt) // 4, longest], 0.5)
            if left < 0:
                answers.stopped = f"the budget of ${client.budget:g} leaves no room for another line"
                break
            if key not in sent:
                line = json_line({"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": client.body(prompt, client.params)})
                if len(chunk) == BATCH_LINES or size + len(line) > BATCH_BYTES:
                    chunks.append(chunk)
                    chunk, size = [], 0
                chunk.append((key, line))
                size += len(line)
        chunks += [chunk] if chunk else []
        if answers.stopped and len(answers.done) > begun and sum(map(len, chunks)) < len(todo) / 10:
            chunks = []  # a rest of the budget is not worth another day's wait for a few lines
        for chunk in chunks:
            file = client.call("POST", "/files", need="id", data={"purpose": "batch"},
                               files={"file": ("prompts.jsonl", b"".join(line for _, line in chunk), "application/jsonl")})["id"]
            under_way.append({"keys": [key for key, _ in chunk], "file": file, "tried": False, "batch": None})
            save()
        for entry in under_way:
            if not entry["batch"]:
                create_batch(client, entry, save)
        if not under_way:
            break
        before, reason = len(answers.done), ""
        pause, started = 0.25, time.time()
        while under_way:
            for entry in list(under_way):
                batch = client.call("GET", f"/batches/{entry['batch']}", need="id")
                counts = batch.get("request_counts") or {}
                print(f"\r{batch['id']}: {batch.get('status')}, {counts.get('completed', 0):,} of {len(entry['keys']):,} lines, "
                      f"{(time.time() - started) / 60:.0f} min   ", end="", flush=True)
                if batch.get("status") in ("completed", "failed", "expired", "cancelled"):
                    print()
                    reason = take_batch(client, batch, todo, answers) or reason
                    under_way.remove(entry)
                    save()
            if under_way:
                client.sleep(pause)
                pause = min(60, pause * 1.5)
        todo = {key: item for key, item in todo.items() if key not in answers.done}
        if todo and len(answers.done) == before and not reason.startswith("sent"):
            raise SystemExit(f"the batches brought no answer: {reason or 'no line came back'}")
    with suppress(FileNotFoundError):
        os.remove(note)


def create_batch(client, entry, save):
    """POST /batches exactly once for an uploaded file. Where the outcome of an attempt is not known (the program was killed, the
    connection cut), the server's list is searched first: a second batch for this file would be paid a second time."""
    for attempt in range(TRIES):
        if entry["tried"]:
            for look in range(3):  # a request that was cut may still be at work
                after = ""
                for _ in range(20):
                    page = client.call("GET", f"/batches?limit=100{after}", need="data")
                    mine = [batch["id"] for batch in page["data"] if batch.get("input_file_id") == entry["file"]]
                    if mine or not page.get("has_more"):
                        break
                    after = f"&after={page['data'][-1]['id']}"
                if mine:
                    entry["batch"] = mine[0]
                    save()
                    return
                client.sleep(0.5)
        entry["tried"] = True
        save()
        try:
            entry["batch"] = client.call("POST", "/batches", need="id", tries=1, json={
                "input_file_id": entry["file"], "endpoint": "/v1/chat/completions", "completion_window": "24h"})["id"]
            save()  # before the first poll
            return
        except GaveUp as error:
            reason = str(error)
            client.sleep(min(60, 0.5 * 2**attempt))
        except Refused as error:
            raise SystemExit(f"{client.where} refuses the batch: {error}")
    raise SystemExit(f"{client.where} starts no batch ({reason}): the file is uploaded, the same command tries again")


def take_batch(client, batch, todo, answers):
    """Append what a batch that has ended holds, from its output and its error file. Returns why lines are missing, if some are:
    they are sent again in the next batch. Reading a batch twice adds nothing: lines are joined on custom_id."""
    reason = "; ".join(one_line(error.get("message")) for error in ((batch.get("errors") or {}).get("data") or [])[:3])
    for name in ("output_file_id", "error_file_id"):
        if not batch.get(name):
            continue
        for _ in range(3):
            data = client.call("GET", f"/files/{batch[name]}/content")
            try:
                rows = [json.loads(line) for line in data.splitlines() if line.strip()]
                break
            except ValueError:
                continue
        else:
            raise SystemExit(f"{client.where} sends {batch[name]} torn: the batch is done and paid, the same command reads it again")
        records = []
        for row in rows:
            key, response = row.get("custom_id"), row.get("response") or {}
            if key not in todo or key in answers.done:
                continue
            prompt, about = todo[key]
            status, reply = response.get("status_code") or 0, response.get("body") or {}
            if status == 200:
                text, why = answer_of(reply)
                tokens = tokens_of(reply, prompt, text)
                records.append({"key": key, "about": about, **({"text": text} if text else {"rejected": why}), "tokens": tokens,
                                "usd": client.usd(tokens, 0.5)})
                continue
            error = error_of(status, json.dumps(reply if reply else {"error": row.get("error")}))
            kind = kind_of(status, error) if status else "later"
            if kind == "refuse" and not client.drop({**dict.fromkeys(client.refused), **client.params}, error):
                records.append({"key": key, "about": about, "rejected": error["message"], "tokens": [0, 0], "usd": 0})
            else:
                reason = "sent with a parameter that the server refuses" if kind == "refuse" else error["message"]
        answers.add(*records)
    return reason


# ---- asking until there is enough ------------------------------------------------------------------------------------

def make(args, items, keep, about_prompts, per_answer=1):
    """Ask for items one after the other, in order, until `count` documents are kept, and write them to --out. keep(records,
    dropped) yields the documents (dicts) of some answers and counts in `dropped` what it leaves out. A change of about_prompts, all
    that prompts are made of, begins other answers. Returns how many documents are kept, None after a dry run."""
    price = args.price or PRICES.get(args.model)
    if args.dry_run:
        return dry_run(args, items, price, per_answer)
    if not price and "api.openai.com" in (os.environ.get("OPENAI_BASE_URL") or OPENAI):
        raise SystemExit(f"the price of {args.model} is not known: give it in dollars per million tokens, --price IN OUT")
    if not price:
        print(f"{args.model} is taken to be free, as its server is not OpenAI's"
              + (", and no --budget is ever reached" if args.budget < math.inf else "") + "; --price IN OUT sets a price")
    path = beside(args.out, ".answers.jsonl")
    if os.path.exists(args.out) and not os.path.exists(path):
        raise SystemExit(f"{args.out} is there and its answers, {path}, are not: another program made it; choose another --out")
    client = Client(args.model, args.temperature, args.max_tokens, args.reasoning_effort, price or (0, 0), args.budget, args.concurrency,
                    args.timeout)
    settings = {"stage": args.stage, "prompts": f"{hash_text(repr(about_prompts)):016x}", "seed": args.seed}
    first = math.ceil(args.count / per_answer)
    answers, asked, kept, dropped, more = path, 0, 0, Counter(), True
    items = iter(items)
    with whole_file(args.out) as out:
        while kept < args.count and asked < 3 * first + 20:
            # as many as are missing at the rate so far; a million prompts need not be in memory at once in batch mode
            missing = (args.count - kept) / (kept / asked if kept else per_answer)
            n = min(math.ceil(missing * (1.02 if asked else 1)), 3 * first + 20 - asked, 200_000 if args.batch else 1 << 60)
            answers = ask_all(client, itertools.islice(items, n), answers, settings, args.batch, asked + n)
            before, asked = kept, asked + len(answers.asked)
            for document in keep(answers.read(), dropped):
                if kept < args.count:
                    out.write(json_line(document))
                    kept += 1
            more = next(items, None)  # look whether there is another prompt, and put it back
            items = itertools.chain([more], items)
            if answers.stopped or not more or kept == before:
                break
    name = {"annotate": "labels", "textbooks": "textbooks"}.get(args.stage, "exercises")
    print(f"{args.out}: {kept:,} {name} kept from {asked:,} answers; dropped: {listed(dropped)}")
    print(f"all answers so far: {answers.so_far()}, ${answers.usd / max(1, kept):.5f} for each that is kept")
    if answers.stopped:
        print(f"{answers.stopped}: the same command with a larger --budget goes on, nothing is asked twice")
    elif kept < args.count:
        print(f"{args.count - kept:,} fewer than asked for: "
              + ("there are no further prompts" if not more else "too many answers were dropped, see above"))
    return kept


def dry_run(args, items, price, per_answer):
    prompts = [prompt for prompt, _ in itertools.islice(items, 3)]
    for number, prompt in enumerate(prompts, 1):
        print(f"---- prompt {number} of 3 " + "-" * 80 + f"\n{prompt}")
    calls = math.ceil(args.count / per_answer)
    tokens_in = calls * sum(map(len, prompts)) / max(1, len(prompts)) / 4
    tokens_out = calls * per_answer * EXPECTED[args.stage]
    print(f"---- {calls:,} calls, about {tokens_in / 1e6:,.2f}M tokens in (4 characters each) and {tokens_out / 1e6:,.2f}M out "
          f"({EXPECTED[args.stage]} expected for each of {args.count:,})")
    if price:
        usd = (tokens_in * price[0] + tokens_out * price[1]) / 1e6
        print(f"${usd:,.2f} at ${price[0]:g} and ${price[1]:g} per million tokens in and out, ${usd / 2:,.2f} with --batch. No call was made")
    else:
        print(f"the price of {args.model} is not known here: --price IN OUT computes the sum. No call was made")


# ---- collect ---------------------------------------------------------------------------------------------------------

FIELDS = ("text", "content", "code")  # The Stack has content
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
    if code:
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ValueError("not Python 3")


def collect_task(task):
    """Filter a task's documents. Returns (serial, (documents, dropped, corrupt)): [(hash, line of the output)], {reason: count},
    [places that hold no document]."""
    serial, kind, name, first, field, items = task
    documents, dropped, corrupt = [], Counter(), []
    for i, item in enumerate(items):
        if kind == "lines" and not item.strip():
            continue
        where = item if kind == "files" else f"{name}:{first + i}"
        try:
            if kind == "files" and os.path.getsize(item) > MAX_BYTES:
                raise ValueError("over 1 MB")
            text = item.replace("\r\n", "\n") if kind in ("rows", "prose") else read_text(item, field)
            if not text.strip():
                raise ValueError("empty")
            check_text(text, code=kind != "prose")
            documents.append((hash_text(text), json_line({"text": text, "source": where})))
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            dropped[reason] += 1
            if kind == "lines" and reason.startswith("no"):  # not JSON, no text
                corrupt.append(f"{first + i} ({reason})")
    return serial, (name, documents, dropped, corrupt)


def collect_tasks(paths, field):
    """Yield (bytes of input, (kind, name, first, field, items)) for the workers; item i of `name` is document first + i."""
    files, size = [], 0
    for path in paths:
        if path.endswith((".jsonl", ".jsonl.gz")):
            found = field
            for read, (first, lines) in line_tasks(path):
                if not found:
                    found = field_of(lines)
                yield read, ("lines", path, first, found or FIELDS[0], lines)
        elif path.endswith(".parquet"):
            yield from parquet_tasks(path, field)
        elif path.endswith(".xml"):
            yield from stackoverflow_tasks(path)
        else:
            files.append(path)
            size += os.path.getsize(path)
            if size >= TASK_BYTES or len(files) == 1000:
                yield size, ("files", "", 0, None, files)
                files, size = [], 0
    yield size, ("files", "", 0, None, files)


def field_of(lines):
    """The first of FIELDS in the first line that is a JSON object with one of them; None if no line is."""
    for line in lines:
        with suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict) and (names := [name for name in FIELDS if name in record]):
                return names[0]


def parquet_tasks(path, field):
    import pyarrow.parquet
    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = file.schema_arrow.names
        column = next((name for name in ((field,) if field else FIELDS) if name in names), None)
        if not column:
            raise SystemExit(f"{path} has no column {field or ' or '.join(FIELDS)}, but {', '.join(names)}: name it with --field")
        first, rows = 1, max(1, file.metadata.num_rows)
        for batch in file.iter_batches(batch_size=500, columns=[column]):
            texts = [text or "" for text in batch.column(0).to_pylist()]
            yield os.path.getsize(path) * len(texts) // rows, ("rows", path, first, None, texts)
            first += len(texts)
    except (OSError, pyarrow.ArrowException) as error:
        raise SystemExit(f"{path} cannot be read ({one_line(error)}); fetch it again")


def stackoverflow_tasks(path):
    """The Python questions of a StackOverflow dump, each with its best answer: the accepted one, else the one with the highest
    score. The dump has one row per post, questions before their answers; a temporary database on disk joins them."""
    import sqlite3
    import xml.etree.ElementTree
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path) or ".", prefix=".posts-") as folder, open(path, "rb") as raw:
        db = sqlite3.connect(os.path.join(folder, "posts"))
        db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; "
                         "CREATE TABLE posts (id INTEGER PRIMARY KEY, title, body, accepted INTEGER, rank INTEGER DEFAULT -1000000, answer)")
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
                    elif kind == "2":
                        rank = "iif(accepted IS ?4, 1000000000, ?3)"
                        db.execute(f"UPDATE posts SET answer = ?2, rank = {rank} WHERE id = ?1 AND rank < {rank}",
                                   (row.get("ParentId"), row.get("Body", ""), int(row.get("Score") or 0), int(row.get("Id"))))
                    root.clear()  # or the whole dump would stay in memory
                    if raw.tell() - done > 1 << 26:
                        yield raw.tell() - done, ("prose", path, 0, None, [])  # for the progress bar
                        done = raw.tell()
        except (xml.etree.ElementTree.ParseError, ValueError, TypeError) as error:
            raise SystemExit(f"{path} is not a whole Posts.xml ({error}); fetch it again")
        size, posts = raw.tell() - done, []
        for number, (title, body, answer) in enumerate(db.execute("SELECT title, body, answer FROM posts WHERE answer IS NOT NULL ORDER BY id")):
            posts.append(f"{title}\n\n{plain(body)}\n\nAnswer:\n\n{plain(answer)}\n")
            if len(posts) == 500:
                yield size, ("prose", path, number - 498, None, posts)
                size, posts = 0, []
        yield size, ("prose", path, number - len(posts) + 2 if posts else 0, None, posts)
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
    from tqdm import tqdm
    if os.path.exists(args.out):
        raise SystemExit(f"{args.out} is there already: remove it to make it anew, or choose another --out")
    suffixes, total = (".py", ".jsonl", ".jsonl.gz", ".parquet", ".xml"), 0

    def listing():
        """Paths of all sources; folders are walked as they come, so that no list of 35 million files is ever in memory."""
        for source in args.sources:
            if not os.path.isdir(source):
                yield source
            for folder, folders, names in os.walk(source):
                folders[:] = sorted(name for name in folders if not name.startswith(".") and not excluded(name))
                yield from (os.path.join(folder, name) for name in sorted(names) if name.endswith(suffixes[:-1]) and not excluded(name))

    excluded = lambda name: any(fnmatch.fnmatch(name, pattern) for pattern in args.exclude)
    for path in listing():
        if not os.path.exists(path):
            raise SystemExit(f"{path} is not there")
        if not path.endswith(suffixes):
            raise SystemExit(f"{path}: sources are folders of .py, and {', '.join(suffixes)} files")
        if path.endswith(".parquet"):
            try:
                import pyarrow.parquet  # noqa: F401
            except ImportError:
                raise SystemExit(f"{path}: reading parquet needs one more package: pip install pyarrow")
        total += os.path.getsize(path)
    if not total:
        raise SystemExit(f"{' '.join(args.sources)} holds nothing in {', '.join(suffixes[:-1])} files")
    seen, dropped, corrupt, read, kept, size_out = Seen(), Counter(), {}, 0, 0, 0
    numbered = ((size, (serial, *task)) for serial, (size, task) in enumerate(collect_tasks(listing(), args.field)))
    with whole_file(args.out) as out, tqdm(total=total, unit="B", unit_scale=True, desc="collect") as bar:
        for size, (name, documents, drops, bad) in in_order(in_parallel(collect_task, numbered, args.workers, start_plain_worker, ())):
            dropped.update(drops)
            read += len(documents) + sum(drops.values())
            if bad:
                corrupt.setdefault(name, []).extend(bad)
            for h, line in documents:
                if seen.add(h):
                    out.write(line)
                    kept, size_out = kept + 1, size_out + len(line)
                else:
                    dropped["exact duplicate"] += 1
            bar.update(size)
    for name, bad in corrupt.items():
        tell_corrupt(name, bad)
    print(f"{args.out}: {kept:,} of {read:,} documents kept ({size_out / 1e9:.3f} GB of text); dropped: {listed(dropped)}")
    print(f"duplicate rate {dropped['exact duplicate'] / max(1, kept + dropped['exact duplicate']):.1%} of those that passed the filters")
    print(f"next: python prepare_data.py annotate {args.out} --samples 100000 --model MODEL --out data/labels.jsonl --dry-run")


# ---- annotate --------------------------------------------------------------------------------------------------------

DOCUMENT_CHARACTERS = 6000  # of a document that the teacher reads, about 1,800 tokens


def annotate(args):
    """A random sample of documents -> {"id": hash of the document, "score": 0..5, "reason"}."""
    args.count = args.samples
    scores = Counter()
    # The smallest hashes are a sample that does not depend on the order, and a larger --samples contains it. A few more stand by
    # in case answers are of no use
    hashed = ((hash_text(f"{args.seed}{text}"), f"{hash_text(text):016x}", text[:DOCUMENT_CHARACTERS]) for _, text in read_documents(args.documents))
    sample = dict.fromkeys(heapq.nsmallest(args.count + args.count // 20 + 20, hashed))
    items = ((ANNOTATE.format(document=text), {"id": name}) for _, name, text in sample)

    def keep(records, dropped):
        for record in records:
            if "text" not in record:
                dropped[record["rejected"]] += 1
                continue
            found = list(re.finditer(r"score\W{0,8}([0-5])(?:\s*/\s*5)?(?![\d.]*\d)", record["text"], re.I))
            reason = record["text"][:found[-1].start()] if found else ""
            if not found:
                dropped["no score of 0 to 5 in the answer"] += 1
            else:
                scores[int(found[-1][1])] += 1
                yield {"id": record["about"]["id"], "score": int(found[-1][1]), "reason": " ".join(reason.removesuffix("Educational ").split())}

    if make(args, items, keep, ANNOTATE):
        total = sum(scores.values())
        print("scores: " + ", ".join(f"{score}: {scores[score] / total:.1%}" for score in range(6)))
        print(f"next: python prepare_data.py filter {args.documents} --labels {args.out} --encoder MODEL --out data/filtered.jsonl.gz")


# ---- filter ----------------------------------------------------------------------------------------------------------

BLOCK = 2048          # documents embedded, and kept on disk, together
BATCH_TOKENS = 16384  # that go through the model at once, padding included


def embed(documents, path, encoder, max_tokens, device):
    """Embed the documents of the file at `path` (pairs of line number and text), and return the block files, in order, each with
    ids (n,) uint64, lines (n,) int64 and vectors (n, D) fp16: the mean of a document's last hidden states. Blocks lie in a folder
    beside the file, those found there are not made again, and ranks under torchrun take turns. Returns None on ranks above 0."""
    import numpy as np
    import torch
    from tqdm import tqdm
    from model import load_model, pick_device
    from tokenizer import load_tokenizer
    files = [path] + (sorted(os.path.join(encoder, f) for f in os.listdir(encoder)) if os.path.isdir(encoder) else [encoder])
    state = [(os.path.basename(f), os.path.getsize(f), os.stat(f).st_mtime_ns) for f in files if os.path.exists(f)]
    folder = beside(path, f".embeddings-{hash_text(repr((state, max_tokens))):016x}")
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = pick_device(device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    model, name = load_model(encoder, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    encoding, T = load_tokenizer(name), min(max_tokens, model.config.context)
    os.makedirs(folder, exist_ok=True)

    @torch.inference_mode()
    def vectors(texts):
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
            real = torch.arange(idx.size(1), device=device) < lengths                           # (B, T): padding stands on the right, and is causal
            hidden = model.hidden(idx.to(device)).float()                                       # (B, T, D)
            result[rows] = ((hidden * real[:, :, None]).sum(1) / lengths).cpu().numpy()
            at += len(rows)
        return result

    blocks, documents = [], iter(documents)
    with tqdm(desc=f"embed ({encoder})", unit="document", disable=rank > 0) as bar:
        while block := list(itertools.islice(documents, BLOCK)):
            number = len(blocks)
            blocks.append(os.path.join(folder, f"{number:06d}.npz"))
            if number % world == rank and not os.path.exists(blocks[-1]):
                content = dict(ids=np.array([hash_text(text) for _, text in block], np.uint64), lines=np.array([line for line, _ in block]),
                               vectors=vectors([text for _, text in block]))
                with whole_file(blocks[-1]) as f:
                    np.savez(f, **content)
            bar.update(len(block))
    if rank:
        return None
    while not all(map(os.path.exists, blocks)):  # other ranks' last blocks; torchrun ends us if one of them fails
        time.sleep(0.5)
    return blocks


def ranks_of(x):
    """Ranks 1..n, equal values sharing their mean rank: Pearson's correlation of these is Spearman's."""
    import numpy as np
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def fit_head(X, y):
    """(weights (D+1,), ridge penalty) of the least-squares fit of scores y (n,) to embeddings X (n, D), its penalty chosen on a fifth of them."""
    import numpy as np
    mean, std = X.mean(0), X.std(0) + 1e-6

    def fit(X, y, penalty):
        Z, offset = (X - mean) / std, y.mean()
        w = np.linalg.solve(Z.T @ Z + penalty * len(Z) * np.eye(Z.shape[1]), Z.T @ (y - offset)) / std
        return np.append(w, offset - mean @ w)

    held = np.arange(len(y)) % 5 == 0
    error = {penalty: np.mean((predict(fit(X[~held], y[~held], penalty), X[held]) - y[held]) ** 2) for penalty in (1e-4, 1e-3, 1e-2, 1e-1, 1, 10)}
    best = min(error, key=error.get)
    return fit(X, y, best), best


def predict(head, X):
    return X @ head[:-1] + head[-1]


def f1(truth, found):
    both = int((truth & found).sum())
    return 2 * both / max(1, int(truth.sum()) + int(found.sum()))


def report_head(y, p, y_train, p_train):
    """Print how well predictions p (n,) tell the scores y of documents that the head has not seen."""
    import numpy as np
    correlation = np.corrcoef(ranks_of(y), ranks_of(p))[0, 1] if y.std() and p.std() else 0.0
    # Predictions of a linear fit shrink to the mean, so the line between good and not is drawn where F1 is best in training
    lines = np.quantile(p_train, np.linspace(0.02, 0.98, 97))
    line = max(lines, key=lambda t: f1(y_train >= 3, p_train >= t))
    print(f"held out: rank correlation {correlation:.3f}, F1 {f1(y >= 3, p >= line):.3f} for scores of 3 and above "
          f"({(y >= 3).mean():.1%} of the labels; calling all of them good gives {f1(y >= 3, y >= 0):.3f}), mean error {np.abs(y - p).mean():.2f}")
    rounded = np.clip(np.rint(p), 0, 5).astype(int)
    print("label \\ predicted" + "".join(f"{score:>7}" for score in range(6)))
    for score in range(6):
        print(f"{score:>17}" + "".join(f"{int(((y == score) & (rounded == column)).sum()):>7,}" for column in range(6)))


def filter_documents(args):
    """Keep the documents that a linear head on frozen embeddings scores highest. The paper fits a random forest to the output embedding of
    CodeGen and does not say which labels, threshold or accuracy. Ours is the recipe of FineWeb-Edu: integer scores, least
    squares on the mean of the last hidden states, a quantile as threshold. It needs no further package, is fit in seconds, its
    quality is printed, and another --keep or other labels need no new embeddings. (Known bias: it likes well commented code.)"""
    import numpy as np
    if os.path.exists(args.out):
        raise SystemExit(f"{args.out} is there already: remove it to make it anew, or choose another --out")
    labels = {}
    for number, record in read_jsonl(args.labels, score=int):
        if (not 0 <= record["score"] <= 5 or not isinstance(record.get("id", record.get("text")), str)
                or not re.fullmatch("[0-9a-f]+", record.get("id", "0"))):
            raise SystemExit(f"{args.labels}, line {number}: a score of 0 to 5 and an id (or the text) are expected; "
                             "prepare_data.py annotate writes them")
        labels[int(record["id"], 16) if "id" in record else hash_text(record["text"])] = record["score"]
    blocks = embed(read_documents(args.documents), args.documents, args.encoder, args.max_tokens, args.device)
    if blocks is None:
        return
    rows = {h: row for block in map(np.load, blocks) for h, row in zip(block["ids"].tolist(), block["vectors"]) if h in labels}
    ids, found = list(rows), len(rows)
    y = np.array([labels[h] for h in ids], np.float64)
    if found < 0.9 * len(labels):
        raise SystemExit(f"{args.labels} does not match {args.documents}: {found:,} of its {len(labels):,} labelled documents are there")
    if found < 50 or y.std() == 0:
        raise SystemExit(f"{args.labels} has {found:,} labels, {len(set(y))} of them different: at least 50, of two or more scores, are needed")
    X, held = np.array(list(rows.values()), np.float64), np.array([h % 5 == 0 for h in ids])
    head, penalty = fit_head(X[~held], y[~held])
    print(f"linear head on {(~held).sum():,} labels, {held.sum():,} held out; ridge penalty {penalty:g}")
    report_head(y[held], predict(head, X[held]), y[~held], predict(head, X[~held]))
    scores = np.concatenate([predict(head, block["vectors"].astype(np.float64)).astype(np.float32) for block in map(np.load, blocks)])
    threshold = np.quantile(scores, 1 - args.keep)
    kept, characters, all_characters = 0, 0, 0
    with whole_file(args.out) as out:
        for score, (_, record) in zip(scores.tolist(), ((n, r) for n, r in read_jsonl(args.documents, text=str) if r["text"].strip()), strict=True):
            all_characters += len(record["text"])
            if score >= threshold:
                out.write(json_line({**record, "score": round(score, 3)}))
                kept, characters = kept + 1, characters + len(record["text"])
    print(f"{args.out}: {kept:,} of {len(scores):,} documents kept, {characters / max(1, all_characters):.1%} of the characters; dropped: "
          f"{len(scores) - kept:,} with a predicted score below {threshold:.2f}")
    try:
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot
        pyplot.hist(scores, bins=100)
        pyplot.axvline(threshold, color="black")
        pyplot.xlabel("predicted educational score; kept: right of the line")
        pyplot.ylabel("documents")
        pyplot.savefig(beside(args.out, ".png"))
        print(f"the distribution of scores is drawn in {beside(args.out, '.png')}")
    except ImportError:
        print("no picture of the scores: matplotlib is not installed")
    print(f"next: python prepare_data.py tokenize {args.out} data/textbooks.jsonl --out data/codetextbook")


# ---- textbooks -------------------------------------------------------------------------------------------------------

def read_topics():
    """The sections of topics.txt: lists of topics and of words."""
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
        documents = heapq.nsmallest(20_000, ((hash_text(f"{seed}{text}"), text[:20_000]) for _, text in read_documents(path)))
        return [text for _, text in documents] or [""]
    folder = sysconfig.get_paths()["stdlib"]
    texts = []
    for file in files_below(folder, ("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "pydoc_data", "encodings")):
        with suppress(ValueError, OSError):
            texts.append(read_text(file, None))
    return texts


def textbook_items(args):
    """Endless (prompt, about): every topic for every audience, each time with other real lines and another opening."""
    topics, documents, names = read_topics()["topics"], seed_documents(args.seeds, args.seed), list(AUDIENCES)
    for i in itertools.count():
        rng = random.Random(f"{args.seed} {i}")  # prompt i is the same in every run
        topic, audience = topics[i % len(topics)], names[(i % len(topics) + i // len(topics)) % len(names)]
        snippet = ""
        while not snippet:
            lines, n = rng.choice(documents).splitlines(), rng.randint(1, 15)
            at = rng.randrange(max(1, len(lines) - n))
            snippet = textwrap.dedent("\n".join(line[:200] for line in lines[at:at + n])).strip() or ("pass" if documents == [""] else "")
        prompt = TEXTBOOK.format(topic=topic, audience=AUDIENCES[audience], opening=rng.choice(OPENINGS), snippet=snippet,
                                 words=rng.choice((400, 600, 800, 1000)))
        yield prompt, {"topic": topic, "audience": audience}


def textbooks(args):
    """Topics x audiences x real code -> {"text", "topic", "audience"}."""
    seen, openings, kinds = Seen(), Counter(), Counter()

    def keep(records, dropped):
        for record in records:
            if "text" not in record:
                dropped[record["rejected"]] += 1
            elif not seen.add(hash_text(record["text"])):
                dropped["exact duplicate"] += 1
            else:
                openings[hash_text(" ".join(record["text"].lower().split()[:5]))] += 1
                kinds["with code" if "```" in record["text"] else "without code"] += 1
                kinds["exact duplicate"] = dropped["exact duplicate"]
                yield {"text": record["text"] + "\n", **record["about"]}

    if kept := make(args, textbook_items(args), keep, (TEXTBOOK, AUDIENCES, OPENINGS, args.seeds)):
        print(f"duplicate rate {kinds['exact duplicate'] / (kept + kinds['exact duplicate']):.1%}; "
              f"{len(openings) / sum(openings.values()):.1%} of the openings (five words) are distinct; {kinds['without code']:,} have no code block")
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


FENCE = re.compile(r"^[ \t]*(?:\d+\.[ \t]*)?(```|~~~)[^\n`]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.S | re.M)


def exercises_in(answer):
    """Yield (name, program, examples as a test or "") of every exercise in an answer, and (None, reason, "") of what is none."""
    for block in [block for _, block in FENCE.findall(answer)] or [answer]:
        block = textwrap.dedent(block).replace("\r\n", "\n")
        try:
            tree = ast.parse(block)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            yield None, "does not parse", ""
            continue
        functions = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
        if not functions:
            yield None, "no function", ""
        for function in functions:
            try:
                yield check_exercise(block, tree, function)
            except ValueError as error:
                yield None, str(error), ""


def check_exercise(block, tree, function):
    """(name, program, test) of one function of a block; raises ValueError with the reason why it is no exercise."""
    if not isinstance(function, ast.FunctionDef):
        raise ValueError("a class" if isinstance(function, ast.ClassDef) else "an async function")
    doc = ast.get_docstring(function)
    if not doc:
        raise ValueError("no docstring")
    if all(isinstance(s, (ast.Pass, ast.Raise)) or (isinstance(s, (ast.Expr, ast.Return)) and isinstance(s.value, (ast.Constant, type(None))))
           for s in function.body[1:]):
        raise ValueError("no body")
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    inside = {id(node) for node in ast.walk(function)}
    read, bound, header = set(), {function.name, "__name__"}, []
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler)) and node.name:
            bound.add(node.name)
        elif isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
            bound.add(node.name)
    for node in imports:
        names = {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        if id(node) in inside or names & read or "*" in names or getattr(node, "module", "") == "__future__":
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else ["." * node.level + (node.module or "")]
            if any(module.split(".")[0] not in sys.stdlib_module_names for module in modules):
                raise ValueError("imports outside the standard library")
            if "*" in names:
                raise ValueError("import *")
            bound |= names
            if id(node) not in inside:
                header.append(ast.unparse(node))
    if read - bound - set(dir(builtins)):
        raise ValueError("uses a name that is not defined")
    start = min([function.lineno] + [decorator.lineno for decorator in function.decorator_list]) - 1
    program = "\n".join([*header, *[""] * (2 * bool(header)), *block.split("\n")[start:function.end_lineno]]).rstrip() + "\n"
    return function.name, program, examples_of(doc)


def examples_of(doc):
    """The >>> examples of a docstring as a test: asserts, or "" if it has none."""
    try:
        examples = doctest.DocTestParser().get_examples(doc)
    except ValueError:
        raise ValueError("malformed examples")
    lines = []
    for example in examples:
        source, want = example.source.rstrip(), example.want.strip()
        if example.exc_msg is not None:
            continue  # the sandbox cannot show how an uncaught exception prints
        if printed := re.fullmatch(r"print\((.*)\)", source, re.S):
            lines.append(f"assert str({printed[1]}) == {want!r}")
        elif want:
            try:
                ast.literal_eval(want)
                lines.append(f"assert ({source}) == ({want})")
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                lines.append(f"assert repr({source}) == {want!r}")
        else:
            lines.append(source)
    return "\n".join(lines)


def near_duplicate(program, seen):
    """True if an earlier program shares most of its words (MinHash over runs of 4 words, 8 bands of 8: even odds at a Jaccard
    similarity of 0.77), or has the same code up to names and docstring where it is long enough for that to say something."""
    import numpy as np
    words = re.findall(r"\w+|[^\w\s]", program)
    hashes = np.array([hash64(" ".join(words[i:i + 4]).encode()) for i in range(max(1, len(words) - 3))], np.uint64)
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 1 << 63, (2, 64, 1), dtype=np.uint64)
    least = (hashes * (2 * a + 1) + b).min(axis=1)  # (64,), modulo 2**64
    keys = [hash64(bytes([band]) + least[8 * band:8 * band + 8].tobytes()) for band in range(8)]
    types, details = node_types(ast.parse(program))
    if len(types) >= 40:
        keys.append(hash64(repr((types, details)).encode("utf-8", "surrogatepass")))
    return not all([seen.add(key) for key in keys])  # a list: every key is added


def exercises(args):
    """Names of functions x topics -> {"text": signature, docstring and body, "name", "topic"}, each checked."""
    seen, names, found = Seen(), Counter(), Counter()
    box = None
    from sandbox import Program, Sandbox, SandboxError
    if not args.no_run and not args.dry_run:
        try:
            box = Sandbox(args.workers)
        except SandboxError as error:
            raise SystemExit(f"the examples cannot be run safely here: {error}; --no_run keeps exercises without running them")

    def keep(records, dropped):
        from tqdm import tqdm
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
                        found["near duplicates"] += 1
                    else:
                        programs.append((name, program, test, record["about"]))
            verdicts = dict(box.judge(Program(program, test or "pass", name) for name, program, test, _ in programs)) if box else {}
            for i, (name, program, test, about) in enumerate(programs):
                if box and verdicts[i].status != "passed":
                    dropped[f"examples that {'do not hold' if verdicts[i].status == 'failed' else 'end in ' + verdicts[i].status}"] += 1
                    continue
                names[hash_text(name)] += 1
                found["with examples"] += bool(test)
                yield {"text": program, "name": name, **about}

    try:
        kept = make(args, exercise_items(args), keep, (EXERCISES, args.per_call), args.per_call)
    except SandboxError as error:
        raise SystemExit(f"the sandbox failed: {error}; all answers are kept, the same command runs the examples again")
    finally:
        if box:
            box.close()
    if kept:
        total = sum(names.values())
        print(f"duplicate rate {found['near duplicates'] / max(1, found['exercises']):.1%} of {found['exercises']:,} found; {len(names) / total:.1%} "
              f"distinct names; {found['with examples'] / total:.1%} have examples, which " + ("hold" if box else "were not run"))
        print(f"next: python prepare_data.py decontaminate {args.out} --out {beside(args.out, '_clean.jsonl')}")


# ---- decontaminate ---------------------------------------------------------------------------------------------------

GRAM = 13
TAUS = (0.95, 0.9, 0.85, 0.8)  # the paper's
NODE_TYPES = [cls for cls in vars(ast).values() if isinstance(cls, type) and issubclass(cls, ast.AST)]
NODE_TYPES = {cls: number for number, cls in enumerate(sorted(NODE_TYPES, key=lambda cls: cls.__name__))}
NODE_TYPES[ast.AnnAssign] = NODE_TYPES[ast.Assign]


def node_types(tree):
    """(types of a program's nodes in source order, what they leave out). Left out of the types, as in the paper: names, constants,
    comments and docstrings; annotations and imports too. Constants, attributes and names of builtins are returned apart."""
    types, details, stack = [], [], [tree]
    while stack:
        node = stack.pop()
        kind = type(node)
        if kind is ast.Import or kind is ast.ImportFrom or (kind is ast.Expr and type(node.value) is ast.Constant and type(node.value.value) is str):
            continue
        if kind is ast.Constant:
            details.append(node.value)
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


def common_length(masks, full, sequence):
    """Length of the longest common subsequence of `sequence` and one whose element x stands at the bits masks[x]: the dynamic
    program's rows as the bits of one integer (Hyyro 2004), so that a pair of functions takes some 20 microseconds."""
    v = full
    for x in sequence:
        u = v & masks.get(x, 0)
        v = ((v + u) | (v - u)) & full
    return (full ^ v).bit_count()


def start_decontaminate(problems, tau, ngrams):
    """problems: [(task_id, words of its docstring, node types)]."""
    import numpy as np
    global worker
    start_plain_worker()
    grams, masks = {}, []
    for p, (_, words, types) in enumerate(problems):
        if ngrams:
            for i in range(len(words) - GRAM + 1):
                grams.setdefault(tuple(words[i:i + GRAM]), set()).add(p)
        positions = {}
        for i, x in enumerate(types):
            positions[x] = positions.get(x, 0) | 1 << i
        masks.append((positions, (1 << len(types)) - 1))
    bags = np.array([np.bincount(types, minlength=len(vars(ast))) for _, _, types in problems]).T.copy()  # (types, problems)
    worker = problems, tau, grams, masks, bags, np.array([len(types) for _, _, types in problems]), np.zeros(len(problems))


def decontaminate_task(task):
    """Compare a task's exercises with all problems. Returns (serial, (kept, counts, corrupt, hits)): kept [(line number, line)],
    hits [(problem, rate, line number, text, stage)] of contamination and of exercises closer to a problem than any before."""
    import numpy as np
    problems, tau, grams, masks, bags, lengths, best = worker
    serial, field, (first, lines) = task
    kept, counts, corrupt, hits = [], Counter(), [], []
    for number, line in enumerate(lines, first):
        try:
            text = read_text(line, field)
        except ValueError as error:
            if line.strip():
                corrupt.append(f"{number} ({error})")
            continue
        counts["exercises"] += 1
        found = set()
        words = words_of(text) if grams else []
        for p in set().union(*(grams[gram] for i in range(len(words) - GRAM + 1) if (gram := tuple(words[i:i + GRAM])) in grams)):
            # 13 words in a row may be a common phrase: more than half of the problem's words must be there, in order
            matcher = difflib.SequenceMatcher(None, problems[p][1], words, autojunk=False)
            if sum(block.size for block in matcher.get_matching_blocks()) > 0.5 * len(problems[p][1]):
                found.add("13-grams")
                hits.append((p, 0.0, number, text, "13-grams"))
        if tau:
            try:
                types = node_types(ast.parse(text))[0]
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                types = []
                counts["no Python (syntax not compared)"] += 1
            highest = 0.0
            if types:
                # 2 * common / (length + length) is at most what the bags of node types allow, and the lengths with them: almost all
                # pairs end here, below the lowest tau and below the closest pair seen so far
                bag = np.bincount(types, minlength=len(bags))
                there = bag.nonzero()[0]
                bound = 2 * np.minimum(bags[there], bag[there, None]).sum(0) / (lengths + len(types))
                for p in ((bound >= min(tau, TAUS[-1])) | (bound > best)).nonzero()[0].tolist():
                    rate = 2 * common_length(*masks[p], types) / (lengths[p] + len(types))
                    highest = max(highest, rate)
                    if rate >= tau or rate > best[p]:
                        hits.append((p, float(rate), number, text if rate > best[p] else "", "syntax" if rate >= tau else ""))
                        best[p] = max(best[p], rate)
                        if rate >= tau:
                            found.add("syntax")
            for t in TAUS:
                counts[f"tau {t}"] += bool(highest >= t)
        if not found:
            kept.append((number, line))
        counts.update(found)
    return serial, (kept, counts, corrupt, hits)


def decontaminate(args):
    """Exercises -> those that are not close to a problem of the benchmarks (paper, section 5 and appendix C), a report, and the list
    of similar problems for the evaluation. 13-grams and syntax trees catch copies, also renamed or rearranged ones, not
    paraphrases; an --encoder adds the distance of embeddings for these, with a threshold that the paper does not state."""
    from tqdm import tqdm
    from eval_humaneval import load_benchmark
    if os.path.exists(args.out):
        raise SystemExit(f"{args.out} is there already: remove it to make it anew, or choose another --out")
    problems, texts = [], []
    for name in args.against:
        for problem in load_benchmark(name)[0]:
            code = problem.start + problem.canonical
            doc = ""
            with suppress(SyntaxError):
                trees = [node for node in ast.walk(ast.parse(problem.prompt.rstrip() + "\n" + "    pass\n" * bool(problem.start)))
                         if isinstance(node, (ast.Module, ast.FunctionDef))]
                doc = "\n".join(filter(None, map(ast.get_docstring, trees)))
            problems.append((problem.task_id, words_of(doc or problem.prompt), node_types(ast.parse(code))[0]))
            texts.append(problem.prompt + problem.canonical)
    total = input_bytes([args.exercises], ())
    if args.encoder:
        close, nearest = near_embeddings(args, [task for task, _, _ in problems], texts)
        if close is None:
            return
    else:
        close, nearest = {}, {}
    counts, corrupt, kept = Counter(), [], 0
    best, stages = {}, {task: set() for task, _, _ in problems}
    for p in close.values():
        stages[problems[p][0]].add("embedding")
    started = time.time()
    numbered = ((size, (serial, args.field, task)) for serial, (size, task) in enumerate(line_tasks(args.exercises)))
    work = in_parallel(decontaminate_task, numbered, args.workers, start_decontaminate, (problems, args.tau, args.ngrams))
    with whole_file(args.out) as out, tqdm(total=total, unit="B", unit_scale=True, desc="decontaminate") as bar:
        for size, (lines, more, bad, hits) in in_order(work):
            counts.update(more)
            corrupt += bad
            for p, rate, number, text, stage in hits:
                task = problems[p][0]
                if stage:
                    stages[task].add(stage)
                if rate > best.get(task, (0, 0, ""))[0] and text:
                    best[task] = rate, number, text
            for number, line in lines:
                if number in close:
                    counts["embedding only"] += 1
                else:
                    out.write(line.rstrip(b"\r\n") + b"\n")
                    kept += 1
            bar.update(size)
    seconds = time.time() - started
    tell_corrupt(args.exercises, corrupt)
    counts["embedding"] = len(close)
    rows = []
    for task, _, _ in sorted({task: problem for problem in problems for task in problem[:1]}.values(), key=lambda problem: problem[0]):
        rate, number, text = best.get(task, (0.0, 0, ""))
        rows.append({"task_id": task, "rate": round(rate, 4), "similar": bool(stages[task]), "found_by": sorted(stages[task]),
                     "line": number, "closest": text, **nearest.get(task, {})})
    with whole_file(beside(args.out, ".similar.jsonl")) as f:
        f.writelines(map(json_line, rows))
    table = {str(t): {"exercises": counts[f"tau {t}"], "problems": sum(row["rate"] >= t for row in rows)} for t in TAUS if args.tau}
    found = {name: counts[name] for name in ("13-grams", "syntax", "embedding")}
    report = {"exercises": counts["exercises"], "kept": kept, "found": found, "at_tau": table, "corrupt_lines": corrupt,
              "settings": {name: getattr(args, name) for name in ("against", "ngrams", "tau", "encoder", "distance")}}
    with whole_file(beside(args.out, ".report.json")) as f:
        f.write(json.dumps(report, indent=2).encode())
    for t, row in table.items():
        print(f"tau {t}: {row['exercises']:,} exercises are as close as that to one of {row['problems']:,} problems of {len(rows):,}")
    similar, unparsed = beside(args.out, ".similar.jsonl"), counts["no Python (syntax not compared)"]
    print(f"{args.out}: {kept:,} of {counts['exercises']:,} exercises kept; dropped: {listed(found)}" + (" (some for two reasons)" if kept else "")
          + (f"; {unparsed:,} are no Python, their syntax was not compared" if unparsed else ""))
    print(f"{counts['exercises'] * len(problems) / max(seconds, 1e-9) / 1e6:.2f} million pairs/s; the closest exercise of every problem: {similar}")
    print(f"next: python prepare_data.py tokenize {args.out} --out data/codeexercises; and later python eval_humaneval.py MODEL --similar {similar}")


def near_embeddings(args, tasks_, texts):
    """({line: problem} of the exercises whose normalised embedding lies within --distance of a problem's, {task: closest})."""
    import numpy as np
    with tempfile.TemporaryDirectory() as folder:
        blocks = embed(read_documents(args.exercises), args.exercises, args.encoder, args.max_tokens, args.device)
        if blocks is None:
            return None, None
        path = os.path.join(folder, "problems.jsonl")
        with whole_file(path) as f:
            f.writelines(json_line({"text": text}) for text in texts)
        unit = lambda x: x.astype(np.float32) / np.linalg.norm(x.astype(np.float32), axis=1, keepdims=True)
        of_problems = embed(read_documents(path), path, args.encoder, args.max_tokens, args.device)
        P = np.concatenate([unit(np.load(block)["vectors"]) for block in of_problems])
    close, best, line = {}, np.full(len(P), np.inf), np.zeros(len(P), int)
    for block in map(np.load, blocks):  # (2048, D) x (D, problems) at a time
        distance = np.sqrt(np.maximum(0, 2 - 2 * unit(block["vectors"]) @ P.T))
        at, nearest = distance.argmin(0), distance.argmin(1)
        for i in (distance.min(1) <= args.distance).nonzero()[0]:
            close[int(block["lines"][i])] = int(nearest[i])
        line = np.where(distance.min(0) < best, block["lines"][at], line)
        best = np.minimum(best, distance.min(0))
    return close, {task: {"distance": round(float(d), 4), "nearest_line": int(n)} for task, d, n in zip(tasks_, best, line)}


# ---- command line ----------------------------------------------------------------------------------------------------

def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")

    def stage(name, help, out):
        p = stages.add_parser(name, help=help, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        p.add_argument("--out", required=True, help=out)
        return p

    def add_workers(p):
        p.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")

    def add_client(p, temperature, max_tokens, concurrency=32):
        p.add_argument("--model", required=True, help="the teacher, as its server calls it")
        p.add_argument("--price", type=float, nargs=2, metavar=("IN", "OUT"), help="dollars per million tokens (known for "
                       f"{', '.join(PRICES)}; 0 for another server than OpenAI's)")
        p.add_argument("--budget", type=float, default=math.inf, 
                       help="dollars, of all runs with this --out together; what is under way when it is reached comes on top")
        p.add_argument("--temperature", type=float, default=temperature, help="of the teacher's sampling")
        p.add_argument("--max_tokens", type=int, default=max_tokens, help="the longest answer; longer ones are cut off and dropped")
        p.add_argument("--reasoning_effort", default="none", help="for models that think first; '' sends nothing")
        p.add_argument("--concurrency", type=int, default=concurrency, help="requests at once")
        p.add_argument("--timeout", type=float, default=600, help="seconds to wait for an answer before asking again")
        p.add_argument("--seed", type=int, default=1337, help="of samples and prompts")
        p.add_argument("--batch", action="store_true", help="use the Batch API: half the price, within 24 hours")
        p.add_argument("--dry-run", action="store_true", help="print three prompts and the expected price; no call is made")

    def add_encoder(p, required):
        p.add_argument("--encoder", required=required, 
                       help="embeds documents: a checkpoint of train.py, or a Hugging Face folder such as codegen-350M-mono")
        p.add_argument("--max_tokens", type=int, default=1024, help="of a document that are embedded")
        p.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")

    p = stage("collect", "code, StackOverflow -> one file of distinct documents", "file to write, .jsonl or .jsonl.gz")
    p.add_argument("sources", nargs="+", help="folders (of .py, .jsonl(.gz), .parquet), such files, StackOverflow's Posts.xml")
    p.add_argument("--field", help=f"of a .jsonl or column of a .parquet that holds the text (the first there of {', '.join(FIELDS)})")
    p.add_argument("--exclude", nargs="+", default=[], metavar="NAME", help="names (or patterns) of files and folders to leave out")
    add_workers(p)

    p = stage("annotate", "a sample of documents -> educational scores by a teacher", "labels to write, .jsonl")
    p.add_argument("documents", help=".jsonl(.gz) that collect wrote")
    p.add_argument("--samples", type=int, default=100_000, help="documents to label (the paper: about 100k)")
    add_client(p, 0.0, 300)

    p = stage("filter", "documents + scores -> the most educational documents", "file to write, .jsonl or .jsonl.gz")
    p.add_argument("documents", help=".jsonl(.gz) that collect wrote")
    p.add_argument("--labels", required=True, help=".jsonl that annotate wrote")
    p.add_argument("--keep", type=float, default=0.17, help="share of the documents to keep (the paper: about 0.17)")
    add_encoder(p, True)

    p = stage("textbooks", "topics x audiences x real code -> textbook sections by a teacher", "file to write, .jsonl")
    p.add_argument("--count", type=int, default=1_000_000, help="sections to keep")
    p.add_argument("--seeds", help=".jsonl(.gz) of real code to take snippets from, such as data/filtered.jsonl.gz "
                   "(default: Python's standard library)")
    add_client(p, 1.0, 2500)

    p = stage("exercises", "names of functions -> exercises by a teacher, checked", "file to write, .jsonl")
    p.add_argument("--count", type=int, default=900_000, help="exercises to keep")
    p.add_argument("--per_call", type=int, default=5, help="exercises to ask for at once")
    p.add_argument("--no_run", action="store_true", help="do not run the examples in the sandbox")
    add_client(p, 1.0, 4000)
    add_workers(p)

    p = stage("decontaminate", "exercises -> those that are not close to a benchmark's problem", "file to write, .jsonl or .jsonl.gz")
    p.add_argument("exercises", help=".jsonl(.gz) that exercises wrote")
    p.add_argument("--against", nargs="+", default=["humaneval", "mbpp"],
                   help="benchmarks that eval_humaneval.py knows (add mbpp-sanitized if you report it), or .jsonl files in HumanEval's format")
    p.add_argument("--tau", type=float, default=0.95,
                   help="drop at this match rate of syntax trees and above (paper: 0.95 to 0.8); 0: do not compare them")
    p.add_argument("--ngrams", type=int, default=1, choices=(0, 1), help=f"compare {GRAM}-grams of words")
    p.add_argument("--distance", type=float, default=0.1, help="drop at this L2 distance of embeddings and below, with --encoder (our choice)")
    p.add_argument("--field", default="text", help="field of a line that holds the exercise")
    add_encoder(p, False)
    add_workers(p)

    p = stage("tokenize", "documents -> train.bin, val.bin, meta.json", "folder to write")
    p.add_argument("sources", nargs="+", help="folders, files, .jsonl, .jsonl.gz")
    p.add_argument("--tokenizer", default="codegen", help="codegen (phi-1's), bytes, or a .tiktoken file of ranks")
    p.add_argument("--field", default="text", help="field of a .jsonl line that holds the text")
    p.add_argument("--exclude", nargs="+", default=[], metavar="NAME",
                   help="names (or patterns) of files and folders to leave out")
    p.add_argument("--val", type=float, default=0.01, help="share of the documents for validation")
    p.add_argument("--seed", type=int, default=1337, help="of the order of documents")
    add_workers(p)

    args = parser.parse_args(argv)
    if args.stage == "tokenize" and not 0 < args.val < 1:
        parser.error(f"--val is {args.val}; a share between 0 and 1 is expected")
    for name in ("workers", "count", "samples", "per_call", "concurrency", "max_tokens"):
        if getattr(args, name, 1) < 1:
            parser.error(f"--{name} is {getattr(args, name)}; at least 1 is needed")
    for name, low, high in (("keep", 0, 1), ("tau", 0, 1), ("distance", 0, 2), ("temperature", 0, 2), ("timeout", 0.1, math.inf),
                            ("budget", 0, math.inf)):
        if not low <= getattr(args, name, low) <= high:
            parser.error(f"--{name} is {getattr(args, name)}; {low} to {high} is expected")
    if args.stage in ("collect", "filter", "decontaminate", "annotate", "textbooks", "exercises") and not args.out.endswith((".jsonl", ".jsonl.gz")):
        parser.error(f"--out is {args.out}; a .jsonl or .jsonl.gz file is expected")
    return args


STAGES = {"collect": collect, "annotate": annotate, "filter": filter_documents, "textbooks": textbooks, "exercises": exercises,
          "decontaminate": decontaminate, "tokenize": tokenize}


def main(argv):
    args = parse_args(argv)
    try:
        STAGES[args.stage](args)
    except KeyboardInterrupt:
        kept = "answers" if hasattr(args, "model") else "embeddings" if getattr(args, "encoder", None) else ""
        raise SystemExit(f"interrupted: all {kept} so far are kept; the same command goes on" if kept else
                         "interrupted: nothing was written; the same command starts over")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise SystemExit(f"the disk of {args.out} is full: all whole answers and blocks are kept; make room and give the same command again")
        if not error.filename:
            raise
        raise SystemExit(f"{error.filename}: {error.strerror}")  # no permission, a file in the place of a folder
    except SystemExit as error:
        if isinstance(error.code, str) and int(os.environ.get("RANK", 0)) > 0:  # under torchrun rank 0 says it
            time.sleep(3)
            error.code = 1
        raise


if __name__ == "__main__":
    main(sys.argv[1:])
