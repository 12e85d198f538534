"""bench.py says what it measured, and measures the training loop's own step."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import bench
from conftest import ROOT, run
from train import Machine, TrainConfig, Windows, make_optimizer


def test_help_answers_without_torch():
    done = run("-X", "importtime", "bench.py", "train", "--help")
    assert done.returncode == 0 and "--against" in done.stdout and "| torch" not in done.stderr


def rows_of(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_train_prints_a_table_and_json_whose_figures_agree(tmp_path):
    done = run("bench.py", "train", "configs/demo.py", "--context=32", "--n_layer=1", "--micro_batch_size=4", "--accumulation=2", "--steps=4", "--rounds=2")
    row, = rows_of(done)
    assert row["tok/s"] == pytest.approx(2 * 4 * 32 / row["ms/step"] * 1000)
    assert row["MFU"] == "n/a" and "no MFU" in done.stdout and row["attention"] == "flash"
    assert row["settings"]["context"] == 32 and torch.__version__ in row["settings"]["machine"]
    assert sum(float(row[part].rstrip("%")) for part in ("loader", "optimizer")) < 100


def test_the_gpu_rows_stop_at_once_without_a_gpu():
    done = subprocess.run(["bash", "runs/bench_gpu.sh"], cwd=ROOT, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PATH": os.path.dirname(sys.executable) + ":" + os.environ["PATH"]})
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1 and "no GPU" in done.stderr


def test_its_step_is_the_loops_step(tmp_path):
    """The weights after three steps are those of plain torch on the same tokens."""
    from model import Phi
    config = TrainConfig(vocab_size=50, context=8, n_layer=1, n_head=2, n_embd=16, rotary_dim=4, dropout=0.0, batch_size=4, micro_batch_size=2)
    machine = Machine(0, 1, torch.device("cpu"), torch.float32, False, "")
    np.random.default_rng(0).integers(50, size=500, dtype=np.uint16).tofile(tmp_path / "train.bin")
    data = Windows(str(tmp_path / "train.bin"), 8, config.seed)
    spent = {"loader": 0.0, "optimizer": 0.0}
    step = bench.our_step(config.model_config(), config, machine, data, spent)
    losses = [step(i)[0].item() for i in range(3)]

    torch.manual_seed(config.seed)
    model = Phi(config.model_config())
    optimizer = make_optimizer(model, config)
    for i in range(3):
        tokens = data.read([data.start(n) for n in range(4 * i, 4 * i + 4)])
        loss = torch.nn.functional.cross_entropy(model(tokens[:, :-1])[0].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (i + 1) / config.warmup_steps
        optimizer.step()
        optimizer.zero_grad()
        assert loss.item() == pytest.approx(losses[i], rel=1e-5)
    assert spent["loader"] > 0 and spent["optimizer"] > 0


@pytest.mark.parametrize("arguments", [["sample", "x.pt", "--batch", "4", "0"], ["tokenize", ".", "--workers", "0"], ["train", "x.py", "--rounds", "-1"]])
def test_a_number_that_cannot_be_is_one_line(arguments):
    done = run("bench.py", *arguments)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith("it must be at least 1")


def test_a_peer_that_is_not_there_is_one_line():
    for peer in (lambda: bench.load_nanogpt("no/such/folder", None), lambda: bench.nanogpt_prepare("no/such/folder", [], 1, "out")):
        with pytest.raises(SystemExit, match="no/such/folder.*git clone"):
            peer()


def test_loading_and_tokenizing_have_rows_whose_figures_agree(data, ranks, tmp_path):
    row, = rows_of(run("bench.py", "loader", data, "--context", "32", "--micro_batch_size", "4"))
    assert row["batches/s"] == pytest.approx(1000 / row["ms"]) and row["tok/s"] == pytest.approx(row["batches/s"] * 128)
    for i in range(9):
        (tmp_path / f"{i:03}.py").write_text(f"def f{i:03}(x):\n    return x + 1\n")
    raw, ours, whole = rows_of(run("bench.py", "tokenize", tmp_path, "--rounds", "1"))
    assert raw["x tiktoken"] == 1 and ours["x tiktoken"] == pytest.approx(ours["MB per CPU s"] / raw["MB per CPU s"])
    assert raw["MB"] / raw["processes"] == whole["MB"] == pytest.approx(9 * 30 / 1e6) and whole["tok/s"] > 0
