"""prepare_data.py tokenize: every document once, the same bins whatever the number of workers, and nothing half-done."""
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import ROOT, run
from tokenizer import load_tokenizer, write_ranks


def tokenize(*arguments, tokenizer="bytes"):
    return run("prepare_data.py", "tokenize", *arguments, "--tokenizer", tokenizer)


def documents(folder, split):
    """The texts of a bin, in order."""
    data = np.fromfile(folder / f"{split}.bin", dtype=np.uint16)
    ends = np.flatnonzero(data == 256)
    assert len(ends) and ends[-1] == len(data) - 1
    return [bytes(part[part != 256].astype(np.uint8)).decode() for part in np.split(data, ends[:-1] + 1)]


@pytest.fixture
def corpus(tmp_path):
    texts = [f"document {i}\n" + "x = 1\n" * (i % 17) + "é中😀<|endoftext|>" * (i % 3) for i in range(300)]
    (tmp_path / "code" / "deep" / "er").mkdir(parents=True)
    for i, text in enumerate(texts[:200]):
        (tmp_path / "code" / ("deep/er" if i % 2 else "") / f"f{i}.{('py', 'txt', 'md')[i % 3]}").write_text(text)
    (tmp_path / "code" / "image.png").write_text("not text")
    (tmp_path / "code" / ".hidden").mkdir()
    (tmp_path / "code" / ".hidden" / "h.py").write_text("hidden")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[200:260]))
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as f:
        f.writelines(json.dumps({"text": text, "other": 1}) + "\n" for text in texts[260:])
    return [tmp_path / "code", tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"], texts


def test_every_document_is_there_once_in_a_random_order_that_is_the_same_for_any_number_of_workers(corpus, tmp_path):
    sources, texts = corpus
    for name, options in (("one", ["--workers", "1"]), ("three", ["--workers", "3"]), ("seed", ["--seed", "5"])):
        done = tokenize(*sources, "--out", tmp_path / name, "--val", "0.1", *options)
        assert done.returncode == 0 and "next: python train.py CONFIG" in done.stdout
    for split in ("train", "val"):
        assert (tmp_path / "one" / f"{split}.bin").read_bytes() == (tmp_path / "three" / f"{split}.bin").read_bytes()
        assert documents(tmp_path / "one", split) != documents(tmp_path / "seed", split)
        assert sorted(documents(tmp_path / "one", split)) == sorted(documents(tmp_path / "seed", split))
    train, val = documents(tmp_path / "one", "train"), documents(tmp_path / "one", "val")
    assert sorted(train + val) == sorted(texts) and 10 < len(val) < 60
    numbers = [int(text.split()[1]) for text in train]
    assert abs(np.corrcoef(numbers, range(len(numbers)))[0, 1]) < 0.2  # folder and .jsonl are interleaved


def test_the_order_does_not_depend_on_the_number_of_buckets(corpus, tmp_path):
    sources, _ = corpus
    assert tokenize(*sources, "--out", tmp_path / "one", "--val", "0.1").returncode == 0
    many = "import prepare_data as p, sys; p.BUCKET_BYTES = 100; sys.argv = ['', 'tokenize', *sys.argv[1:]]; p.tokenize(p.parse_args())"
    done = run("-c", many, *sources, "--out", tmp_path / "many", "--val", "0.1", "--tokenizer", "bytes")
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "many" / f).read_bytes() for f in ("train.bin", "val.bin"))


def test_validation_keeps_its_documents_when_sources_are_added_and_never_shares_one_with_training(corpus, tmp_path):
    sources, _ = corpus
    assert tokenize(sources[0], "--out", tmp_path / "few", "--val", "0.2").returncode == 0
    assert tokenize(sources[1], *sources, sources[0], "--out", tmp_path / "many", "--val", "0.2").returncode == 0  # with duplicates
    few, many = set(documents(tmp_path / "few", "val")), documents(tmp_path / "many", "val")
    assert few < set(many) and not set(many) & set(documents(tmp_path / "many", "train"))


def test_meta_describes_the_bins(corpus, tmp_path):
    sources, texts = corpus
    tokenize(*sources, "--out", tmp_path / "out", "--val", "0.1")
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert (meta["tokenizer"], meta["vocab_size"], meta["dtype"]) == ("bytes", 257, "uint16")
    for split in ("train", "val"):
        data = (tmp_path / "out" / f"{split}.bin").read_bytes()
        assert meta[split] == {"tokens": len(data) // 2, "documents": len(documents(tmp_path / "out", split)), "sha256": hashlib.sha256(data).hexdigest()}
    assert sorted(os.listdir(tmp_path / "out")) == ["meta.json", "train.bin", "val.bin"]


def test_codegen_bins_hold_the_ids_of_the_tokenizer(corpus, tmp_path, ranks):
    sources, texts = corpus
    tokenize(*sources, "--out", tmp_path / "out", "--val", "0.1", tokenizer="codegen")
    encoding = load_tokenizer("codegen")
    expected = sorted(encoding.encode_ordinary(text) + [50256] for text in texts)
    found = []
    for split in ("train", "val"):
        data = np.fromfile(tmp_path / "out" / f"{split}.bin", dtype=np.uint16)
        found += [part.tolist() for part in np.split(data, np.flatnonzero(data == 50256)[:-1] + 1)]
    assert sorted(found) == expected


def test_what_cannot_be_used_is_skipped_and_counted(tmp_path, ranks):
    code = tmp_path / "code"
    code.mkdir()
    for i in range(30):
        (code / f"good{i}.py").write_text(f"print({i})\r\n")
    (code / "latin.py").write_bytes("é".encode("latin-1"))
    (code / "binary.py").write_bytes(b"a\0b")
    (code / "empty.py").write_text(" \n")
    (code / "newlines.py").write_text("a" + "\n" * 2_000_000 + "b")
    (code / "bom.py").write_bytes(b"\xef\xbb\xbfprint('bom')")
    (tmp_path / "x.jsonl").write_text('{"text": "fine"}\n{"text": "torn\n{"txt": "other field"}\n[]\n{"text": 3}\n{"text": "lone \\ud800 surrogate"}\n')
    done = tokenize(code, tmp_path / "x.jsonl", "--out", tmp_path / "out", "--val", "0.3", tokenizer="codegen")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["skipped"] == {
        "not UTF-8": 2, "binary (holds NUL)": 1, "empty": 1, "a huge run of white space": 1, "not JSON": 1, "no 'text'": 3}
    assert "1 not JSON" in done.stdout
    bins = b"".join((tmp_path / "out" / f"{split}.bin").read_bytes() for split in ("train", "val"))
    texts = load_tokenizer("codegen").decode(np.frombuffer(bins, dtype=np.uint16).tolist()).split("<|endoftext|>")
    assert set(texts) == {f"print({i})\n" for i in range(30)} | {"print('bom')", "fine", ""}


@pytest.mark.parametrize("arguments, words", [
    (["nowhere"], "nowhere does not exist, or is no file"), (["empty"], "holds no text"), (["requirements.txt", "--val", "1.5"], "argument --val: 1.5, where 0 to 1 is expected"),
    (["requirements.txt", "--val", "0"], "0 for validation"), (["Makefile"], "Makefile cannot be a source"), (["cut.jsonl.gz"], "cannot be read to its end")])
def test_a_mistake_ends_in_one_line_and_leaves_nothing(tmp_path, arguments, words):
    (tmp_path / "empty").mkdir()
    with gzip.open(tmp_path / "whole.gz", "wt") as f:
        f.writelines(json.dumps({"text": os.urandom(50).hex()}) + "\n" for i in range(1000))
    (tmp_path / "cut.jsonl.gz").write_bytes((tmp_path / "whole.gz").read_bytes()[:20_000])
    arguments = [str(tmp_path / a) if a in ("empty", "cut.jsonl.gz") else a for a in arguments]
    done = tokenize(*arguments, "--out", tmp_path / "out")
    assert done.returncode and words in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_with_more_ids_than_16_bits_hold_is_refused(tmp_path):
    tokens = [bytes([i]) for i in range(256)] + [bytes([i, j]) for i in range(256) for j in range(256)]
    write_ranks(str(tmp_path / "big.tiktoken"), {token: rank for rank, token in enumerate(tokens)})
    done = tokenize("requirements.txt", "--out", tmp_path / "out", tokenizer=tmp_path / "big.tiktoken")
    assert done.stderr.splitlines()[-1].endswith("has 65,793 tokens: at most 65,536 fit in train.bin's 16 bits")


def test_of_a_single_document_the_end_is_for_validation(tmp_path):
    text = "".join(f"line {i}\n" for i in range(1000))
    (tmp_path / "input.txt").write_text(text)
    done = tokenize(tmp_path / "input.txt", "--val", "0.1", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    train, val = (np.fromfile(tmp_path / "out" / f"{split}.bin", dtype=np.uint16) for split in ("train", "val"))
    assert bytes([*train, *val[:-1]]).decode() == text and val[-1] == 256 and len(val) == -(-(len(text) + 1) // 10)
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert all(meta[split] == {"tokens": len(part), "documents": 1, "sha256": hashlib.sha256(part.tobytes()).hexdigest()}
               for split, part in (("train", train), ("val", val)))


def test_a_finished_folder_is_not_overwritten(corpus, tmp_path):
    tokenize(*corpus[0], "--out", tmp_path / "out", "--val", "0.1")
    before = (tmp_path / "out" / "train.bin").read_bytes()
    done = tokenize(corpus[0][0], "--out", tmp_path / "out", "--val", "0.1")
    assert "is complete already" in done.stderr and (tmp_path / "out" / "train.bin").read_bytes() == before


def test_a_killed_run_leaves_nothing_that_looks_whole_and_the_same_command_then_works(tmp_path):
    with open(tmp_path / "big.jsonl", "w") as f:
        for i in range(60_000):
            f.write(json.dumps({"text": f"x{i} = {i}\n" * 40}) + "\n")
    command = ["prepare_data.py", "tokenize", str(tmp_path / "big.jsonl"), "--tokenizer", "bytes", "--out", str(tmp_path / "out")]
    for delay in (0.3, 0.6, 0.9):
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stderr=subprocess.DEVNULL)
        while not (tmp_path / "out" / "tokenize.tmp").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (tmp_path / "out" / "meta.json").exists():
            break  # it was faster
        assert not (tmp_path / "out" / "train.bin").exists()
    else:
        done = run(*command)
        assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["meta.json", "train.bin", "val.bin"]
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["train"]["documents"] > 59_000


def test_ctrl_c_waits_for_no_worker_and_leaves_neither_files_nor_processes(corpus, tmp_path):
    program = """
import multiprocessing, os, signal, sys, time, prepare_data
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background ignore Ctrl-C
def asleep(task):
    os.write(1, b"asleep\\n")  # in one piece: print writes the end of the line on its own, and two workers share the pipe
    time.sleep(600)
multiprocessing.set_start_method("fork")  # so that the workers know this function
prepare_data.tokenize_task = asleep
prepare_data.main(sys.argv[1:])
"""
    command = [sys.executable, "-c", program, "tokenize", *map(str, corpus[0]), "--tokenizer", "bytes", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "asleep\n"
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]  # the pipes are closed: the workers have ended as well
    assert process.returncode == 1 and error.splitlines()[-1] == "interrupted: nothing was written; the same command starts over"
    assert not (tmp_path / "out").exists()
