"""What the tests share: small data folders, tiny models, and a way to run the scripts as a user does."""
import os
import subprocess
import sys

os.environ["OMP_NUM_THREADS"] = "1"  # the models here are tiny: more threads only wait for each other, here and in the scripts we start

import numpy as np
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)


def run(*command, **kwargs):
    """Run `python command...` in the project's folder; returns the finished process, its output as text."""
    return subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=120, **kwargs)


def torchrun(ranks, *command):
    return run("-m", "torch.distributed.run", f"--nproc_per_node={ranks}", "--master_port=0", "--rdzv_backend=c10d",
               "--rdzv_endpoint=localhost:0", *command)


@pytest.fixture(scope="session")
def ranks():
    """GPT-2's ranks, on which the codegen tokenizer is built; skips where they cannot be had."""
    from tokenizer import gpt2_ranks
    try:
        return gpt2_ranks()
    except SystemExit as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A data folder made by prepare_data.py tokenize from generated code, with the bytes tokenizer."""
    root = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    (root / "code").mkdir()
    for i in range(120):
        a, b, c = rng.integers(0, 100, 3)
        lines = "".join(f"    total += {n} * x\n" for n in rng.integers(0, 50, 4))
        (root / "code" / f"f{i}.py").write_text(f"def f{i}(x):\n    total = {a}\n{lines}    return total % {b + 1} - {c}\n")
    done = run("prepare_data.py", "tokenize", root / "code", "--tokenizer", "bytes", "--val", "0.2", "--out", root / "bins")
    assert done.returncode == 0, done.stderr
    return str(root / "bins")


def tiny_run(data, out_dir):
    """Arguments of train.py for a run of a second or two, with dropout on."""
    return ["--vocab_size=257", "--context=32", "--n_layer=2", "--n_head=2", "--n_embd=32", "--rotary_dim=8", "--dropout=0.1", "--compile=False",
            "--batch_size=8", "--micro_batch_size=4", "--max_steps=40", "--warmup_steps=5", "--log_interval=1", "--eval_interval=20",
            "--eval_sequences=16", "--save_interval=7", "--dtype=fp32", f"--data_dir={data}", f"--out_dir={out_dir}"]
