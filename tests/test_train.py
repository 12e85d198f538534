"""Training and finetuning: the same numbers after any interruption and on any number of ranks, and one clear line for each mistake."""
import json
import math
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import torch
import torch.distributed as dist

import finetune
import train
from conftest import ROOT, run, tiny_run, torchrun
from model import Phi, PhiConfig, load_model, read_checkpoint
from train import RunConfig, TrainConfig, Windows, evaluate, load_config, lr_at, make_optimizer, sequence_numbers, set_up_machine


@pytest.fixture(autouse=True)
def restored_signals():
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    yield
    for s, handler in before.items():
        signal.signal(s, handler)


def log_of(folder, *names):
    """[(step, value of each name)] of a log.jsonl."""
    with open(os.path.join(folder, "log.jsonl")) as f:
        entries = [json.loads(line) for line in f]
    return [(e["step"], *(e.get(name) for name in names)) for e in entries]


NUMBERS = ("loss", "grad_norm", "lr", "val_loss")


@pytest.fixture(scope="module")
def reference(data, tmp_path_factory):
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    train.main(tiny_run(data, folder))
    return folder


# ---- the loader ------------------------------------------------------------------------------------------------------

@pytest.fixture
def counting_bin(tmp_path):
    np.arange(1000, dtype=np.uint16).tofile(tmp_path / "train.bin")  # token i is i: a window shows where it was cut
    return str(tmp_path / "train.bin")


@pytest.mark.parametrize("T", [1, 7, 10, 333, 999])
def test_over_one_pass_every_window_is_seen_exactly_once_and_the_next_pass_cuts_elsewhere(counting_bin, T):
    windows = Windows(counting_bin, T, seed=3)
    phases = set()
    for number in range(4):
        first = number * windows.count
        tokens = windows.read([windows.start(first + i) for i in range(windows.count)])
        assert torch.equal(tokens[:, 1:], (tokens[:, :-1] + 1) % 1000)     # T+1 tokens in a row, around the end of the file
        inputs = tokens[:, :-1].flatten().tolist()
        assert len(set(inputs)) == len(inputs) == 1000 // T * T            # no token twice, less than one window left out
        phases.add(min(tokens[:, 0] % T).item() if T > 1 else number)
    assert len(phases) > 1 or T == 999


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_the_ranks_together_see_the_global_batch_once_whatever_their_number(world):
    config = RunConfig(batch_size=24 * world // math.gcd(24, world) if 24 % world else 24, micro_batch_size=1)
    accumulation = config.batch_size // world
    for step in range(3):
        seen = [n for rank in range(world) for m in range(accumulation) for n in sequence_numbers(config, step, rank * accumulation + m)]
        assert sorted(seen) == list(range(step * config.batch_size, (step + 1) * config.batch_size))


def test_a_batch_larger_than_the_data_goes_on_into_the_next_passes(counting_bin):
    windows = Windows(counting_bin, 100, seed=3)
    starts = [windows.start(n) for n in range(45)]
    assert starts == [Windows(counting_bin, 100, seed=3).start(n) for n in range(45)]
    assert starts[9:12] == [windows.start(n) for n in (9, 10, 11)]          # going back to an earlier pass gives the same
    assert starts != [Windows(counting_bin, 100, seed=4).start(n) for n in range(45)]


# ---- the recipe ------------------------------------------------------------------------------------------------------

def test_the_learning_rate_is_the_papers():
    config = load_config(TrainConfig, ["configs/phi1.py"])[0]
    steps = np.arange(36_000)
    expected = np.interp(steps, [-1, 749, 750, 36_000], [0, 1e-3, 1e-3, 0])
    assert np.allclose([lr_at(config, s) for s in steps], expected, rtol=1e-12)
    assert f"{lr_at(config, 24_000):.1e}" == "3.4e-04"


def test_weight_decay_is_on_matrices_only():
    model = Phi(PhiConfig(vocab_size=20, context=8, n_layer=1, n_head=1, n_embd=8, rotary_dim=4))
    decayed, plain = make_optimizer(model, RunConfig(weight_decay=0.1)).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert decayed["weight_decay"] == 0.1 and plain["weight_decay"] == 0
    assert all(names[id(p)].endswith("bias") or "norm" in names[id(p)] for p in plain["params"])
    assert not any(names[id(p)].endswith("bias") or "norm" in names[id(p)] for p in decayed["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(names)


def test_the_update_is_torchs_adamw_on_the_clipped_mean_gradient_of_the_whole_batch(data, tmp_path):
    """A slow twin of the first three steps: one batch, no micro-batches, AdamW and clipping as in torch's documentation."""
    arguments = tiny_run(data, tmp_path / "run") + ["--dropout=0.0", "--max_steps=8", "--grad_clip=0.1"]
    train.main(arguments)
    config = load_config(TrainConfig, arguments)[0]
    torch.manual_seed(config.seed)
    model = Phi(config.model_config())
    windows = Windows(os.path.join(data, "train.bin"), 32, config.seed)
    moments = {name: [torch.zeros_like(p), torch.zeros_like(p)] for name, p in model.named_parameters()}
    for step in range(3):
        tokens = windows.read([windows.start(n) for n in range(8 * step, 8 * step + 8)])
        model.zero_grad()
        logits = model(tokens[:, :-1])[0]
        loss = -logits.log_softmax(-1).gather(-1, tokens[:, 1:, None]).mean()
        loss.backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))
        logged = [entry for entry in log_of(tmp_path / "run", "loss", "grad_norm") if entry[1]][step]
        assert logged[1:] == pytest.approx((loss.item(), norm), rel=1e-5)
        with torch.no_grad():
            for name, p in model.named_parameters():
                gradient, (m, v) = p.grad * min(1, 0.1 / norm), moments[name]
                m.mul_(0.9).add_(0.1 * gradient)
                v.mul_(0.95).add_(0.05 * gradient**2)
                lr, t = lr_at(config, step), step + 1
                if p.dim() > 1:
                    p.mul_(1 - lr * config.weight_decay)
                p.sub_(lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-8))


def test_the_loss_starts_near_ln_of_the_vocabulary_and_falls(reference):
    losses = [loss for _, loss, *_ in log_of(reference, "loss") if loss is not None]
    assert abs(losses[0] - math.log(257)) < 0.1 and losses[-1] < losses[0] - 1


def test_the_validation_loss_is_the_mean_over_the_windows_of_the_bin(reference, data):
    model, _ = load_model(str(reference / "ckpt.pt"))
    val = Windows(os.path.join(data, "val.bin"), 32, 0)
    flat = torch.from_numpy(np.fromfile(os.path.join(data, "val.bin"), dtype=np.uint16).astype(np.int64))
    config = RunConfig(eval_sequences=10**6, micro_batch_size=3, device="cpu", dtype="fp32")
    with torch.no_grad():
        losses = [model(flat[None, i * 32:i * 32 + 32], flat[None, i * 32 + 1:i * 32 + 33])[1] for i in range(len(flat) // 32 - 1)]
    if len(flat) % 32 == 0:  # the last window needs one token more than the bin has: it wraps to the first
        losses.append(model(flat[None, -32:], torch.cat([flat[-31:], flat[:1]])[None])[1])
    elif val.count > len(losses):
        losses.append(model(flat[None, len(losses) * 32:][:, :32], flat[None, len(losses) * 32 + 1:][:, :32])[1])
    assert evaluate(model, val, config, set_up_machine(config)) == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_best_is_the_checkpoint_with_the_lowest_validation_loss(data, tmp_path):
    train.main(tiny_run(data, tmp_path / "run") + ["--learning_rate=0.1", "--eval_interval=4", "--keep_steps=(4,8,12,16,20,24,28,32,36,40)"])
    losses = {step: loss for step, loss in log_of(tmp_path / "run", "val_loss") if loss is not None}
    step = min(losses, key=losses.get)
    best = read_checkpoint(str(tmp_path / "run" / "best.pt"))
    assert best["step"] == step and best["best"] == {"val_loss": losses[step], "step": step}
    if step:
        kept = read_checkpoint(str(tmp_path / "run" / f"step_{step}.pt"))
        assert all(torch.equal(best["model"][name], kept["model"][name]) for name in kept["model"])


# ---- interruptions and ranks -----------------------------------------------------------------------------------------

def test_a_run_killed_at_random_moments_and_continued_equals_one_never_killed_to_the_last_bit(data, tmp_path):
    arguments = tiny_run(data, tmp_path / "run") + ["--max_steps=80", "--dtype=bf16"]
    train.main([*arguments, f"--out_dir={tmp_path / 'whole'}"])
    rng, kills = random.Random(), 0
    for _ in range(9):
        process = subprocess.Popen([sys.executable, "train.py", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for line in process.stdout:  # let it get going, then strike at any moment: in a step, an evaluation, a save
            if line.startswith("step") and kills < 1:
                time.sleep(rng.uniform(0, 0.4))
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.read()
        if process.wait() == 0:
            break
        kills += 1
    assert kills
    assert log_of(tmp_path / "run", *NUMBERS) == log_of(tmp_path / "whole", *NUMBERS)
    ours, theirs = (read_checkpoint(str(tmp_path / name / "ckpt.pt")) for name in ("run", "whole"))
    assert all(torch.equal(ours["model"][name], theirs["model"][name]) for name in ours["model"]) and ours["best"] == theirs["best"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(data, tmp_path, number):
    command = [sys.executable, "train.py", *tiny_run(data, tmp_path / "run"), "--max_steps=4000", "--save_interval=4000"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("step      25/"):
            process.send_signal(number)
            break
    said = process.stdout.read()
    assert process.wait() == 128 + number and "the same command continues" in said
    step = read_checkpoint(str(tmp_path / "run" / "ckpt.pt"))["step"]
    assert 25 <= step < 4000 and log_of(tmp_path / "run")[-1][0] == step and f"stopped at step {step:,}" in said


def test_ctrl_c_while_it_says_what_will_run_saves_as_well(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "print_start", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit) as stop:
        train.main(tiny_run(data, tmp_path / "run"))
    assert stop.value.code == 130 and "stopped at step 1 and saved" in capsys.readouterr().out
    assert read_checkpoint(str(tmp_path / "run" / "ckpt.pt"))["step"] == 1


def test_two_ranks_equal_one_with_twice_the_accumulation(data, tmp_path, reference):
    done = torchrun(2, "train.py", *tiny_run(data, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    one, two = log_of(reference, *NUMBERS), log_of(tmp_path / "run", *NUMBERS)
    assert [e[0] for e in one] == [e[0] for e in two]
    for (_, *a), (_, *b) in zip(one, two):  # dropout included: it belongs to the micro-batch, not to the rank
        assert [x is None for x in a] == [x is None for x in b]
        assert [x for x in b if x is not None] == pytest.approx([x for x in a if x is not None], rel=2e-5)


def test_ranks_hold_their_gradients_once_and_compile_one_graph(data, tmp_path, monkeypatch):
    graphs, compile = [], torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, dynamic, options: compile(model, dynamic=dynamic, backend=lambda graph, _: graphs.append(1) or graph))
    config, _ = load_config(TrainConfig, tiny_run(data, tmp_path) + ["--n_embd=640", "--micro_batch_size=2"])  # 40 MB: two of DDP's buckets and more
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        raw_model, machine = Phi(config.model_config()), train.Machine(0, 2, torch.device("cpu"), torch.float32, True, "")
        model, optimizer = train.wrap(raw_model, machine), train.make_optimizer(raw_model, config)
        for step in range(3):
            train.update(model, optimizer, torch.amp.GradScaler("cpu", enabled=False), Windows(os.path.join(data, "train.bin"), 32, 1), config, machine, step, 1e-3)
        storages = {p.grad.untyped_storage().data_ptr() for p in raw_model.parameters()}
    finally:
        dist.destroy_process_group()
    assert len(graphs) == 1 and 1 < len(storages) < 6 < len(list(raw_model.parameters()))


def test_a_run_killed_in_its_first_evaluation_or_whose_log_is_gone_continues(data, tmp_path, monkeypatch, reference):
    monkeypatch.setattr(train, "evaluate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train.main(tiny_run(data, tmp_path / "run"))
    assert os.listdir(tmp_path / "run") == ["ckpt.pt"]
    monkeypatch.undo()
    train.main(tiny_run(data, tmp_path / "run"))
    assert log_of(tmp_path / "run", *NUMBERS) == log_of(reference, *NUMBERS)


def test_a_best_checkpoint_later_than_the_one_continued_from_stays_the_best(data, tmp_path, monkeypatch):
    arguments = tiny_run(data, tmp_path / "run") + ["--eval_interval=10", "--save_interval=14"]
    real, saves = train.save, []
    def save(path, content):
        real(path, content)
        saves.append((os.path.basename(path), content["step"]))
        if saves[-1] == ("best.pt", 20):
            raise KeyboardInterrupt
    monkeypatch.setattr(train, "save", save)
    with pytest.raises(KeyboardInterrupt):
        train.main(arguments)
    monkeypatch.undo()
    best = read_checkpoint(str(tmp_path / "run" / "best.pt"))["best"]
    train.main(arguments + ["--eval_interval=15", "--learning_rate=0.001"])
    losses = {step: loss for step, loss in log_of(tmp_path / "run", "val_loss") if loss is not None}
    assert losses[15] > best["val_loss"] and read_checkpoint(str(tmp_path / "run" / "best.pt"))["best"]["val_loss"] <= best["val_loss"]


def test_a_best_checkpoint_that_was_removed_is_written_again(data, tmp_path, monkeypatch):
    real = train.save
    def save(path, content):
        real(path, content)
        if content["step"] == 21:
            raise KeyboardInterrupt
    monkeypatch.setattr(train, "save", save)
    with pytest.raises(KeyboardInterrupt):
        train.main(tiny_run(data, tmp_path / "run"))
    monkeypatch.undo()
    os.remove(tmp_path / "run" / "best.pt")
    monkeypatch.setattr(train, "evaluate", lambda *_: 9.0)  # worse than what was removed
    train.main(tiny_run(data, tmp_path / "run"))
    assert read_checkpoint(str(tmp_path / "run" / "best.pt"))["best"] == {"val_loss": 9.0, "step": 40}


def test_a_log_keeps_whole_entries_only(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b'{"step": 1}\n5\n{"x": 1}\n\xff\n{"step": 2}')
    train.cut_log(tmp_path.joinpath("log.jsonl").as_posix(), 2)
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_bin_that_changes_during_the_run_is_not_read_on(data, tmp_path):
    shutil.copy(os.path.join(data, "train.bin"), tmp_path)
    windows = Windows(str(tmp_path / "train.bin"), 32, 1)
    os.truncate(tmp_path / "train.bin", 1000)
    assert "has changed during the run" in refused(windows.read, [0])


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says what is resident")
def test_the_pages_of_a_bin_that_were_read_do_not_stay_in_memory(tmp_path):
    path = str(tmp_path / "train.bin")
    np.ones(8 << 20, np.uint16).tofile(path)
    windows = Windows(path, 1024, 1)
    for n in range(windows.count):
        assert windows.read([windows.start(n)]).sum() == 1025
    with open("/proc/self/smaps") as f:
        assert re.search(rf"{path}\n(?:.*\n)*?Rss: +(\d+) kB", f.read())[1] == "0"


def test_memory_that_is_full_is_one_line(data, tmp_path):
    done = run("train.py", *tiny_run(data, tmp_path / "run"), "--n_embd=1048576", "--n_layer=1")
    assert done.returncode == 1 and done.stderr.startswith("the memory is full") and len(done.stderr.splitlines()) == 1


def test_a_finished_run_is_left_as_it_is(data, reference, capsys):
    before = {f.name: f.stat().st_mtime_ns for f in reference.iterdir() if f.name != "log.jsonl"} , log_of(reference, *NUMBERS)
    train.main(tiny_run(data, reference))
    assert ({f.name: f.stat().st_mtime_ns for f in reference.iterdir() if f.name != "log.jsonl"}, log_of(reference, *NUMBERS)) == before
    assert "finished after 40 steps" in capsys.readouterr().out


def test_compiled_training_equals_uncompiled_to_rounding(data, tmp_path):
    if not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler on a CPU, and g++ is not there")
    train.main(tiny_run(data, tmp_path / "run") + ["--compile=True", "--dropout=0.0", "--max_steps=6", "--n_layer=1"])
    train.main(tiny_run(data, tmp_path / "eager") + ["--dropout=0.0", "--max_steps=6", "--n_layer=1"])
    for a, b in zip(log_of(tmp_path / "run", "loss"), log_of(tmp_path / "eager", "loss")):
        assert a == pytest.approx(b, rel=1e-4) if a[1] else a == b


def test_compiled_code_adds_up_an_embeddings_gradient_in_the_same_order_every_time(data, tmp_path):
    if not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler on a CPU, and g++ is not there")
    set_up_machine(load_config(TrainConfig, tiny_run(data, tmp_path / "run"))[0])
    weight, idx, dy = torch.zeros(5, 32, requires_grad=True), torch.randint(5, (64, 128)), torch.randn(64, 128, 32)
    multiplied = torch.compile(lambda: (torch.nn.functional.embedding(idx, weight) * dy).sum())
    torch.set_num_threads(2)
    try:
        gradients = [torch.autograd.grad(multiplied(), weight)[0] for _ in range(50)]
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


# ---- finetuning ------------------------------------------------------------------------------------------------------

def finetuning(data, folder, start):
    names = ("vocab_size", "context", "n_layer", "n_head", "n_embd", "rotary_dim", "keep")
    return [a for a in tiny_run(data, folder) if not a[2:].startswith(names)] + [f"--init_from={start}", "--keep_steps=(10,20,30,40)"]


def test_finetuning_starts_from_the_checkpoint_and_names_the_best_of_the_kept(data, tmp_path, reference, capsys):
    finetune.main(finetuning(data, tmp_path / "tuned", reference / "best.pt"))
    losses = {step: loss for step, loss in log_of(tmp_path / "tuned", "val_loss") if loss is not None}
    assert losses[0] == pytest.approx(read_checkpoint(str(reference / "best.pt"))["best"]["val_loss"], rel=1e-6)
    assert losses[40] < losses[0]
    said = capsys.readouterr().out
    best = min((10, 20, 30, 40), key=losses.get)
    assert f"step_{best}.pt  {losses[best]:.4f}  <- the best of the kept" in said and said.count("<-") == 1
    os.remove(tmp_path / "tuned" / f"step_{best}.pt")
    finetune.main(finetuning(data, tmp_path / "tuned", reference / "best.pt"))
    assert f"step_{best}.pt" not in capsys.readouterr().out
    state = read_checkpoint(str(tmp_path / "tuned" / "ckpt.pt"))
    assert state["model_config"]["dropout"] == 0.1 and state["optimizer"]["state"][0]["step"] == 40  # a fresh optimizer


def test_finetuning_starts_from_a_hugging_face_folder(data, tmp_path, ranks):
    Phi(PhiConfig(vocab_size=50295, context=32, n_layer=1, n_head=1, n_embd=16, rotary_dim=8)).half().save_pretrained(tmp_path / "hf")
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": f"def f{i}(x): return x + {i}" * 9}) + "\n" for i in range(40)))
    assert run("prepare_data.py", "tokenize", tmp_path / "x.jsonl", "--val", "0.3", "--out", tmp_path / "bins").returncode == 0
    finetune.main(finetuning(tmp_path / "bins", tmp_path / "tuned", tmp_path / "hf") + ["--max_steps=6"])
    assert abs(log_of(tmp_path / "tuned", "val_loss")[0][1] - math.log(50295)) < 0.1
    with pytest.raises(SystemExit, match="tokenized with 'bytes' and the model reads 'codegen'"):
        finetune.main(finetuning(data, tmp_path / "other", tmp_path / "hf"))


# ---- mistakes --------------------------------------------------------------------------------------------------------

def refused(function, *arguments):
    with pytest.raises(SystemExit) as stop:
        function(*arguments)
    assert isinstance(stop.value.code, str) and "\n" not in stop.value.code
    return stop.value.code


@pytest.mark.parametrize("argument, words", [
    ("--n_layers=4", "no setting is called 'n_layers'; did you mean 'n_layer'?"), ("--n_layer=four", "n_layer takes a whole number, got 'four'"),
    ("--n_layer=4.0", "n_layer takes a whole number, got 4.0 (float)"), ("--max_steps={[]}", "got '{[]}'"), (f"--keep_steps={hex(16**5000)}", "keep_steps is a number of more"), ("--compile=1", "compile takes True or False"), ("--max_steps", "--max_steps=VALUE"),
    ("--lr=0.1", "did you mean 'learning_rate'?"), ("--lr", "did you mean 'learning_rate'?"), ("--eps=0", "eps is 0"), ("--min_lr=1.0", "above learning_rate"),
    ("--keep_steps=(0,)", "counted from 1"), ("--n_embd=4611686018427387904", "below 2,147,483,648"), ("--learning_rate=1" + "0" * 400, "learning_rate is inf"),
    ("--n_layer=True", "n_layer takes a whole number, got True"), ("--batch_size=0", "batch_size is 0; it must be at least 1"), ("--learning_rate=nan", "learning_rate"),
    ("--learning_rate=-1.0", "at least 0"), ("--dropout=1.0", "below 1"), ("--dtype=int8", "bf16, fp16, fp32"), ("--device=tpu", "cuda"),
    ("--warmup_steps=40", "leaves no room"), ("--keep_steps=('a',)", "whole numbers"), ("--beta1=1.5", "beta1 is 1.5"),
    ("--seed=99999999999999999999", "seed"), ("--n_head=5", "n_head 5"), ("--rotary_dim=7", "rotary_dim 7"),
    ("--batch_size=10", "batch_size 10 is not a multiple of 1 ranks x micro_batch_size 4 = 4"), ("--vocab_size=200", "vocab_size is 200: --vocab_size=257 has room"),
    ("--context=100000", "one window takes 100,001"), ("--data_dir=nowhere", "prepare_data.py tokenize"), ("configs/none.py", "configs/none.py"),
    ("README.md", "not a file of plain assignments"), ("--out_dir=", "out_dir is not set"), ("--data_dir=", "data_dir is not set"),
    ("configs/finetune_demo.py", "no setting is called 'init_from'; it is one of finetune.py")])
def test_a_mistake_ends_in_one_line_and_changes_nothing(data, tmp_path, argument, words):
    assert words in refused(train.main, tiny_run(data, tmp_path / "run") + [argument])
    assert not (tmp_path / "run").exists()


def test_settings_come_from_files_then_from_the_command_line(tmp_path):
    (tmp_path / "a.py").write_text("n_layer = 2 * 3\nlearning_rate = 1\nout_dir = 'here'\nkeep_steps = [5]\n")
    config, plan = load_config(TrainConfig, [str(tmp_path / "a.py"), "--n_layer=7", "--data_dir=2024", "--plan"])
    assert (config.n_layer, config.learning_rate, config.out_dir, config.data_dir, config.keep_steps, plan) == (7, 1.0, "here", "2024", (5,), True)


@pytest.mark.parametrize("name", [n for n in os.listdir(os.path.join(ROOT, "configs")) if n.endswith(".py")])
def test_every_config_is_valid(name):
    load_config(finetune.FinetuneConfig if name.startswith("finetune") else TrainConfig, [os.path.join(ROOT, "configs", name)])


@pytest.mark.parametrize("damage, words", [
    ("cut", "cut short or from another run"), ("no val", "cut short or from another run"), ("meta", "was not written by prepare_data.py"),
    ("no meta", "text is tokenized first"), ("type", "'257' where int belongs")])
def test_a_damaged_data_folder_is_refused(data, tmp_path, damage, words):
    shutil.copytree(data, tmp_path / "bins")
    if damage == "cut":
        os.truncate(tmp_path / "bins" / "train.bin", 1000)
    elif damage == "no val":
        os.remove(tmp_path / "bins" / "val.bin")
    elif damage == "meta":
        (tmp_path / "bins" / "meta.json").write_text("{}")
    elif damage == "type":
        (tmp_path / "bins" / "meta.json").write_text((tmp_path / "bins" / "meta.json").read_text().replace('"vocab_size": 257', '"vocab_size": "257"'))
    else:
        os.remove(tmp_path / "bins" / "meta.json")
    assert words in refused(train.main, tiny_run(tmp_path / "bins", tmp_path / "run"))


def test_a_run_is_not_continued_with_what_would_alter_it(data, tmp_path, reference):
    shutil.copytree(reference, tmp_path / "run")
    again = tiny_run(data, tmp_path / "run")
    for argument, words in (("--learning_rate=0.5", "learning_rate = 0.001, and now it is 0.5"), ("--seed=1", "seed = 1337"), ("--n_layer=3", "n_layer = 2"),
                            ("--max_steps=41", "max_steps = 40")):
        assert words in refused(train.main, again + [argument])
    assert "was made by train.py" in refused(finetune.main, finetuning(data, tmp_path / "run", reference / "best.pt"))
    assert "float32" in refused(train.main, again + ["--dtype=bf16"])
    shutil.copytree(data, tmp_path / "bins")
    meta = json.loads((tmp_path / "bins" / "meta.json").read_text())
    for split in ("train", "val"):
        (tmp_path / "bins" / "meta.json").write_text(json.dumps(meta | {split: meta[split] | {"sha256": "0"}}))
        assert f"another {split}.bin" in refused(train.main, again + [f"--data_dir={tmp_path / 'bins'}"])
    train.main(again + ["--micro_batch_size=2", "--eval_interval=3"])  # these may change


def test_a_folder_that_cannot_be_continued_is_not_overwritten(data, tmp_path, reference):
    shutil.copytree(reference, tmp_path / "run")
    again = tiny_run(data, tmp_path / "run")
    shutil.copy(tmp_path / "run" / "best.pt", tmp_path / "run" / "ckpt.pt")
    assert "weights only" in refused(train.main, again)
    state = read_checkpoint(str(reference / "ckpt.pt"))
    state["model"]["position.weight"] = torch.zeros(32, 32)
    torch.save(state, tmp_path / "run" / "ckpt.pt")
    assert "ckpt.pt: its tensors do not fit this model" in refused(train.main, again)
    for key in ("best", "scaler", "data", "dtype", "config"):
        torch.save({name: value for name, value in read_checkpoint(str(reference / "ckpt.pt")).items() if name != key}, tmp_path / "run" / "ckpt.pt")
        assert f"its {key!r} is None" in refused(train.main, again)
    os.truncate(tmp_path / "run" / "ckpt.pt", 5000)
    assert "not a whole checkpoint" in refused(train.main, again)
    torch.save([1, 2], tmp_path / "run" / "ckpt.pt")
    assert "not a whole checkpoint" in refused(train.main, again)
    os.remove(tmp_path / "run" / "ckpt.pt")
    assert "no ckpt.pt to continue from" in refused(train.main, again)
    assert log_of(tmp_path / "run", *NUMBERS) == log_of(reference, *NUMBERS)


def test_a_validation_loss_that_is_no_number_ends_the_run_and_keeps_what_was_saved(data, tmp_path, monkeypatch):
    losses = iter((5.0, float("nan")))
    monkeypatch.setattr(train, "evaluate", lambda *_: next(losses))
    assert "step 20: the validation loss is nan. The last checkpoint is" in refused(train.main, tiny_run(data, tmp_path / "run"))
    assert read_checkpoint(str(tmp_path / "run" / "ckpt.pt"))["step"] == 14
    assert read_checkpoint(str(tmp_path / "run" / "best.pt"))["best"] == {"val_loss": 5.0, "step": 0}


def test_a_run_whose_reader_has_gone_ends_without_a_traceback(data, tmp_path):
    process = subprocess.Popen([sys.executable, "train.py", *tiny_run(data, tmp_path / "run"), "--max_steps=5000"], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    while not process.stdout.readline().startswith("legend"):  # the last line before the loop: only there a lost reader stops and saves the run
        pass
    process.stdout.close()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE and process.stderr.read() == ""
    assert read_checkpoint(str(tmp_path / "run" / "ckpt.pt"))["step"] == log_of(tmp_path / "run", "step")[-1][0] > 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has this file")
def test_a_run_whose_output_cannot_be_written_says_so(data, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "train.py", *tiny_run(data, tmp_path / "run")], cwd=ROOT, stdout=full, stderr=subprocess.PIPE,
                              text=True)
    assert "standard output: No space left on device. What was saved" in done.stderr and done.stderr.count("\n") == 1


def test_a_closed_terminal_stops_a_run_and_saves_it_but_not_under_nohup(data, tmp_path):
    for handler, ends in ((signal.SIG_DFL, 128 + signal.SIGHUP), (signal.SIG_IGN, 0)):
        run_of = tmp_path / str(ends)
        process = subprocess.Popen([sys.executable, "train.py", *tiny_run(data, run_of), "--save_interval=1000"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGHUP, handler))
        while not process.stdout.readline().startswith("step       1/"):
            pass
        process.send_signal(signal.SIGHUP)
        process.stdout.read()
        assert process.wait(timeout=60) == ends
        assert read_checkpoint(str(run_of / "ckpt.pt"))["step"] == (40 if ends == 0 else log_of(run_of, "step")[-1][0])


def test_a_folder_in_use_is_refused(data, tmp_path):
    with train.own_folder(str(tmp_path / "run")):
        assert "in use by another run" in refused(train.main, tiny_run(data, tmp_path / "run"))
    (tmp_path / "file").write_text("")
    assert run("train.py", *tiny_run(data, tmp_path / "file")).stderr == f"{tmp_path / 'file'}: File exists\n"


def test_a_loss_that_is_not_a_number_stops_the_run_and_leaves_a_good_checkpoint(data, tmp_path):
    said = refused(train.main, tiny_run(data, tmp_path / "run") + ["--learning_rate=1e30", "--grad_clip=0.0", "--log_interval=3"])
    assert "learning rate" in said and "gradient norm" in said and str(tmp_path / "run" / "ckpt.pt") in said
    assert all(t.isfinite().all() for t in read_checkpoint(str(tmp_path / "run" / "ckpt.pt"))["model"].values())


def test_a_full_disk_keeps_the_last_checkpoint_and_says_so(data, tmp_path, monkeypatch):
    real_save, saved = torch.save, []
    def save(content, f):
        if "optimizer" in content:
            saved.append(content["step"])
            if len(saved) == 3:
                f.write(b"half")
                raise OSError(28, "No space left on device")
        real_save(content, f)
    monkeypatch.setattr(torch, "save", save)
    said = refused(train.main, tiny_run(data, tmp_path / "run"))
    assert "could not be written" in said and "GB are free" in said
    assert read_checkpoint(str(tmp_path / "run" / "ckpt.pt"))["step"] == saved[1]
    assert not [f for f in os.listdir(tmp_path / "run") if f.endswith(".tmp")]
    monkeypatch.undo()
    train.main(tiny_run(data, tmp_path / "run"))
    assert read_checkpoint(str(tmp_path / "run" / "ckpt.pt"))["step"] == 40


def test_a_gpu_config_without_a_gpu_says_what_to_do(capsys):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    said = refused(train.main, ["configs/phi1.py"])
    assert "prepare_data.py tokenize" in said or "--device=cpu" in said
    train.main(["configs/phi1.py", "--plan"])
    plan = capsys.readouterr().out
    assert "1,418,270,720 parameters" in plan and "75.5B tokens" in plan and "50.3B" in plan and "6.86e+20" in plan


def test_wandb_gets_every_entry_and_a_continued_run_goes_on_under_its_id(data, tmp_path, monkeypatch):
    asked, logged = [], []
    run = types.SimpleNamespace(id="abc", log=lambda entry, step: logged.append((step, *map(entry.get, NUMBERS))), finish=lambda: None)
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **how: asked.append((how["id"], how["resume"])) or run))
    for _ in range(2):
        train.main(tiny_run(data, tmp_path / "run") + ["--wandb=True", "--max_steps=8"])
    assert asked == [(None, "allow"), ("abc", "allow")] and logged == log_of(tmp_path / "run", *NUMBERS)


@pytest.mark.parametrize("gpu, peak", [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA L4", 121e12),
                                       ("NVIDIA L40", None), ("NVIDIA GeForce RTX 4090", 165e12), ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
                                       ("NVIDIA GeForce RTX 3090 Ti", None), ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None)])
def test_only_a_gpu_whose_peak_is_known_gets_an_mfu(monkeypatch, gpu, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: gpu)
    assert train.peak_flops(torch.device("cuda")) == peak


def test_a_plan_refuses_what_the_run_would_and_speaks_of_the_device(capsys):
    assert "batch_size 9 is not a multiple of 1 ranks x micro_batch_size 8 = 8 sequences: try --micro_batch_size=1" in refused(
        train.main, ["configs/demo.py", "--batch_size=9", "--plan"])
    assert "'n_layer'; the shape is that of init_from" in refused(finetune.main, ["configs/finetune_demo.py", "--n_layer=6"])
    train.main(["configs/demo.py", "--device=cpu", "--plan"])
    assert "GPU" not in capsys.readouterr().out
    train.main(["configs/proxy.py", "--plan"])
    said, flop = capsys.readouterr().out, 419.4304e6 * train.flops_per_token(load_config(TrainConfig, ["configs/proxy.py"])[0].model_config(), 1024)
    assert "per GPU" in said and f"{flop / (0.5 * 989e12) / 60:.2g} minutes on one H100" in said
    train.main(["configs/proxy.py", "--plan", "--out_dir=out/it's mine"])
    command = capsys.readouterr().out.rpartition("start    ")[2].partition(", or ")[0]
    assert shlex.split(command) == ["python", "train.py", "configs/proxy.py", "--out_dir=out/it's mine"]


def test_the_demos_files_continue_the_demos_runs():
    """runs/demo.sh gives the settings on the command line, a reader the file alone."""
    for name, kind in (("demo", TrainConfig), ("finetune_demo", finetune.FinetuneConfig)):
        assert load_config(kind, [f"configs/{name}.py"])[0].seed == 1
