"""
Prepare data for phi-1 ("Textbooks Are All You Need", arXiv 2306.11644, section 2).

    python prepare_data.py tokenize CODE_FOLDER more.jsonl.gz --out data/mycode
    python prepare_data.py tokenize data/textbooks.jsonl --field text --tokenizer bytes --out data/small
    python prepare_data.py tokenize --help

tokenize turns documents into what train.py reads. Sources are folders (their .py, .txt and .md files; hidden folders are
left out), such files by name, and .jsonl or .jsonl.gz with the text in one field. It writes
    train.bin, val.bin   token ids as uint16, flat, <|endoftext|> after each document
    meta.json            tokenizer, counts, sha256 of both, what was skipped and why; written last: with it the data is whole
The order of documents is random but a function of --seed and the sources alone, and memory stays flat at any size: it is an
external bucket sort by a hash, and only a single document must fit in memory. A document goes to validation by the hash of
its text, so adding sources later moves none from one side to the other, and two copies of a text are never on both sides.
"""
import argparse
import errno
import fcntl
import fnmatch
import gzip
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import struct
import sys
import threading
import zlib
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

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


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    p = stages.add_parser("tokenize", help="documents -> train.bin, val.bin, meta.json",
                          formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("sources", nargs="+", help="folders, files, .jsonl, .jsonl.gz")
    p.add_argument("--out", required=True, help="folder to write")
    p.add_argument("--tokenizer", default="codegen", choices=("codegen", "bytes"), help="phi-1's, or plain bytes")
    p.add_argument("--field", default="text", help="field of a .jsonl line that holds the text")
    p.add_argument("--exclude", nargs="+", default=[], metavar="NAME",
                   help="names (or patterns) of files and folders to leave out")
    p.add_argument("--val", type=float, default=0.01, help="share of the documents for validation")
    p.add_argument("--seed", type=int, default=1337, help="of the order of documents")
    p.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args()
    if not 0 < args.val < 1:
        parser.error(f"--val is {args.val}; a share between 0 and 1 is expected")
    if args.workers < 1:
        parser.error(f"--workers is {args.workers}; at least 1 is needed")
    return args


if __name__ == "__main__":
    args = parse_args()
    try:
        tokenize(args)
    except KeyboardInterrupt:
        raise SystemExit("interrupted: nothing was written; the same command starts over")
    except OSError as error:  # no permission, a file in the place of a folder
        raise SystemExit(f"{error.filename}: {error.strerror}")
