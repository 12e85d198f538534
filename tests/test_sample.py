"""Generation against the slow way: the whole sequence through the model again for every token."""
import math
import subprocess
import sys
import time

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import sample
from conftest import ROOT, run
from model import Phi, PhiConfig, can_be_packed
from sample import Batch, choose, generate
from tokenizer import load_tokenizer

BYTES = load_tokenizer("bytes")
PROMPTS = [list(b"def f(x):\n"), [7], list(b"class Longer(object):\n    pass\n" * 2), list(b"x = 1"), [3, 4]]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    model = Phi(PhiConfig(vocab_size=300, context=96, n_layer=3, n_head=2, n_embd=48, rotary_dim=12)).eval()
    for p in model.parameters():
        p.data += torch.randn_like(p) * 0.1
    return model


@torch.no_grad()
def slow(model, prompt, length):
    """Greedy, without a cache, one prompt at a time."""
    tokens = list(prompt)
    while len(tokens) < min(len(prompt) + length, model.config.context):
        token = model(torch.tensor([tokens]))[0][0, -1, :257].argmax().item()
        if token == 256:
            break
        tokens.append(token)
    return tokens[len(prompt):]


def collect(events):
    """{(prompt, sample): tokens} of samples that were ended exactly once, after their last token."""
    samples, ended = {}, set()
    for i, j, token in events:
        assert (i, j) not in ended
        samples.setdefault((i, j), [])
        if token is None:
            ended.add((i, j))
        else:
            samples[i, j].append(token)
    assert ended == set(samples)
    return samples


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_cached_batched_generation_equals_the_slow_way_for_any_mix_of_lengths(model, batch_size, fixed):
    for length in (1, 50):
        made = collect(generate(model, BYTES, PROMPTS, max_new_tokens=length, temperature=0, batch_size=batch_size, fixed=fixed))
        assert made == {(i, 0): slow(model, prompt, length) for i, prompt in enumerate(PROMPTS)}


def test_samples_depend_on_the_seed_and_their_number_but_not_on_the_batch(model):
    make = lambda **kw: collect(generate(model, BYTES, PROMPTS, **{"n": 4, "max_new_tokens": 20, "temperature": 1.0, "top_p": 1.0, **kw}))
    one = make(batch_size=1)
    assert one == make(batch_size=7) == make(batch_size=100) == make(batch_size=7, fixed=True)
    assert len({tuple(tokens) for tokens in one.values()}) == len(one) == 20
    assert one != make(seed=2)
    assert all(make(n=2)[key] == one[key] for key in make(n=2))


@pytest.mark.parametrize("ending", ["ended", "closed", "failed"])
def test_large_matrices_are_packed_on_a_cpu_while_their_model_generates_and_give_the_same_text(ending):
    torch.manual_seed(6)
    model = Phi(PhiConfig(vocab_size=257, context=64, n_layer=2, n_head=4, n_embd=256, rotary_dim=16, init_std=0.2)).eval()
    is_packed = lambda: model.blocks[1].fc1.packed is not None
    stop = (lambda i, j, made: 1 / 0) if ending == "failed" else None
    events = generate(model, BYTES, PROMPTS, max_new_tokens=20, temperature=0, n=2, batch_size=4, stop=stop)
    first = next(events)
    assert is_packed() == can_be_packed(model.blocks[1].fc1.weight, rows=4)
    if ending == "ended":
        assert collect([first, *events]) == {(i, j): slow(model, prompt, 20) for i, prompt in enumerate(PROMPTS) for j in range(2)}
    elif ending == "closed":
        events.close()
    else:
        with pytest.raises(ZeroDivisionError):
            next(events)
    assert not is_packed()


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_fixed_step_can_be_recorded_and_replayed_as_a_cuda_graph_is(model, monkeypatch, temperature):
    from torch.fx.experimental.proxy_tensor import make_fx
    step, recorded, replayed = Batch.step, {}, []

    def replay(batch, rows, window):  # a replay repeats the recorded kernels on the same memory, with every Python number as it was
        key = id(batch), rows, window
        if key in recorded:
            recorded[key]()
            replayed.append(key)
        else:
            recorded[key] = make_fx(lambda: step(batch, rows, window))()  # runs it, too

    how = dict(n=2, max_new_tokens=20, temperature=temperature, batch_size=3, stop=lambda i, j, tokens: len(tokens) == 4 * (i + j + 1))
    eager = collect(generate(model, BYTES, PROMPTS, **how))
    monkeypatch.setattr(Batch, "step", replay)
    assert collect(generate(model, BYTES, PROMPTS, fixed=True, **how)) == eager
    assert {(rows, window) for _, rows, window in recorded} <= {(rows, 82) for rows in (1, 2, 3)} and len(replayed) > 30


def test_a_prompt_is_read_once_for_all_its_samples(model, monkeypatch):
    read, hidden = [], model.hidden
    monkeypatch.setattr(model, "hidden", lambda idx, cache=None: (read.append(idx.shape), hidden(idx, cache))[1])
    collect(generate(model, BYTES, PROMPTS[2:3], n=8, max_new_tokens=5, batch_size=3))
    assert sum(shape[1] > 1 for shape in read) <= 3  # once per time that no row held the prompt, not 8 times
    read.clear()
    collect(generate(model, BYTES, PROMPTS[2:3], n=8, max_new_tokens=5, batch_size=8))
    assert sum(shape[1] > 1 for shape in read) == 1


def test_prompts_that_enter_together_are_read_together_with_little_padding(model, monkeypatch):
    read, hidden = [], model.hidden
    monkeypatch.setattr(model, "hidden", lambda idx, cache=None: (read.append(tuple(idx.shape)), hidden(idx, cache))[1])
    prompts = [[1] * size for size in (20, 39, 2, 40, 19, 3, 30)]
    made = collect(generate(model, BYTES, prompts, n=2, max_new_tokens=3, temperature=0, batch_size=14))
    assert [shape for shape in read if shape[1] > 1] == [(4, 40), (1, 19), (2, 3)]
    assert made == {(i, j): slow(model, prompt, 3) for i, prompt in enumerate(prompts) for j in range(2)}
    read.clear()
    collect(generate(model, BYTES, [[i] * 90 for i in range(100)], max_new_tokens=1, batch_size=100))
    assert read == [(45, 90), (45, 90), (10, 90)]  # at most 4,096 tokens at once


def test_generation_ends_at_end_of_text_at_a_stop_and_at_the_end_of_the_context(model):
    eot = Phi(model.config)
    eot.load_state_dict(model.state_dict())
    with torch.no_grad():
        eot.lm_head.bias[256] += 1000
    assert collect(generate(eot.eval(), BYTES, PROMPTS, max_new_tokens=5)) == {(i, 0): [] for i in range(5)}
    events = list(generate(eot, BYTES, PROMPTS, max_new_tokens=5))
    assert sorted(events) == [(i, 0, None) for i in range(5)]
    stopped = collect(generate(model, BYTES, PROMPTS, max_new_tokens=30, temperature=0, stop=lambda i, j, tokens: len(tokens) == 3 + i))
    assert {key: len(tokens) for key, tokens in stopped.items()} == {(i, 0): len(slow(model, PROMPTS[i], 3 + i)) for i in range(5)}
    full = collect(generate(model, BYTES, [[5] * 90], max_new_tokens=500, temperature=0))
    assert full == {(0, 0): slow(model, [5] * 90, 500)}


def test_an_id_that_the_tokenizer_does_not_have_is_never_made(model):
    padded = Phi(model.config)
    padded.load_state_dict(model.state_dict())
    with torch.no_grad():
        padded.lm_head.bias[257:] += 1000  # the padding rows would win every time
    for temperature in (0, 1.0):
        made = collect(generate(padded.eval(), BYTES, PROMPTS, n=3, max_new_tokens=20, temperature=temperature, top_p=1.0))
        assert max(token for tokens in made.values() for token in tokens) < 256


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("damage", [lambda m: m.blocks[0].fc1.weight.data[0].fill_(math.nan), lambda m: m.lm_head.bias.data[3].fill_(math.inf),
                                    lambda m: m.cos[8:].fill_(math.nan)], ids=["all", "one infinite", "after the prompt"])
def test_logits_that_are_not_numbers_end_the_program_instead_of_becoming_text(model, temperature, damage):
    damaged = Phi(model.config).eval()
    damage(damaged)
    with pytest.raises(SystemExit, match="not numbers"):
        list(generate(damaged, BYTES, [[1, 2], [3]], n=2, max_new_tokens=20, temperature=temperature))


def test_the_least_temperature_is_greedy_and_overflows_nowhere(model):
    greedy, least = (collect(generate(model, BYTES, PROMPTS, max_new_tokens=20, temperature=temperature)) for temperature in (0, 1e-320))
    assert greedy == least


@pytest.mark.parametrize("temperature, top_k, top_p", [(1.0, 0, 1.0), (0.7, 0, 0.9), (1.3, 7, 1.0), (1.0, 12, 0.6), (1.0, 0, 1e-6), (1.0, 1, 1.0)])
def test_choice_follows_the_distribution_that_transformers_defines(temperature, top_k, top_p):
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(0)) * 2
    scores = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)
    expected = TopPLogitsWarper(top_p, min_tokens_to_keep=1)(None, scores).softmax(-1)[0]
    n = 200_000
    uniform = (torch.arange(n) + 0.5) / n  # evenly spaced instead of random: frequencies are then probabilities, to 1/n
    counts = choose(logits.expand(n, -1), temperature, top_k, top_p, uniform).bincount(minlength=40)
    assert torch.allclose(counts / n, expected, atol=2e-4)
    assert not counts[expected == 0].any()


def test_the_most_probable_tokens_of_a_large_vocabulary_are_found_whether_few_or_many():
    logits = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)) * torch.tensor([[6.0], [1.0]])
    kept = TopPLogitsWarper(0.9)(None, logits) > -torch.inf
    assert kept[0].sum() < 1024 < kept[1].sum()
    for rows in ([0], [1], [0, 1]):  # alone, and beside one that needs the whole sort
        for u in (torch.arange(100) + 0.5) / 100:
            cumulative = (logits[rows].double().softmax(-1) * kept[rows]).cumsum(-1)
            assert torch.equal(choose(logits[rows], 1.0, 0, 0.9, u.expand(len(rows))), (cumulative <= u * cumulative[:, -1:]).sum(-1))


def test_help_comes_without_loading_torch():
    done = run("-X", "importtime", "sample.py", "--help")
    assert done.returncode == 0 and "--temperature" in done.stdout and "| torch" not in done.stderr


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    from dataclasses import asdict
    path = tmp_path_factory.mktemp("model") / "ckpt.pt"
    torch.save({"model": model.state_dict(), "model_config": asdict(model.config), "tokenizer": "bytes", "step": 1}, path)
    return path


def test_a_prompt_may_come_from_the_command_line_a_file_or_standard_input(checkpoint, tmp_path):
    (tmp_path / "p.py").write_text("def é(x):\n")
    options = ["--max_new_tokens", "12", "-n", "2", "--temperature", "1.0", "--seed", "3"]
    outputs = {run("sample.py", checkpoint, *options, "--prompt", "def é(x):\n").stdout,
               run("sample.py", checkpoint, *options, "--file", tmp_path / "p.py").stdout,
               run("sample.py", checkpoint, *options, input="def é(x):\n").stdout}
    assert len(outputs) == 1
    text = outputs.pop()
    assert text.count("def é(x):\n") == 2 and "--- sample 2 of 2" in text


def test_text_is_printed_as_it_is_made(checkpoint):
    process = subprocess.Popen([sys.executable, "sample.py", str(checkpoint), "--prompt", "ab", "--max_new_tokens", "60", "--temperature", "0"],
                               cwd=ROOT, stdout=subprocess.PIPE)
    reads = []
    while chunk := process.stdout.read1(100):
        reads.append(chunk)
        time.sleep(0.002)
    assert process.wait() == 0 and len(reads) > 5


def refused(monkeypatch, capsys, *arguments):
    """What sample.py says as it ends, run in this process."""
    monkeypatch.setattr(sys, "argv", ["sample.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        sample.main(sample.parse_args())
    return capsys.readouterr().err or stop.value.code


@pytest.mark.parametrize("arguments, words", [
    (["--prompt", "x" * 96], "the prompt has 96 tokens and the model's context is 96"), (["--temperature", "-1"], "--temperature is -1"),
    (["--top_p", "1.5"], "--top_p is 1.5"), (["--file", "nowhere.py"], "nowhere.py"), (["--device", "cuda:9"], "device 'cuda:9' is not there")])
def test_a_mistake_ends_in_one_line(checkpoint, arguments, words, monkeypatch, capsys):
    said = refused(monkeypatch, capsys, checkpoint, *arguments, *([] if "--prompt" in arguments or "--file" in arguments else ["--prompt", "x"]))
    assert words in said.splitlines()[-1]


def test_a_model_that_is_not_there_ends_in_one_line(tmp_path, monkeypatch, capsys):
    assert refused(monkeypatch, capsys, tmp_path / "no.pt", "--prompt", "x") == f"{tmp_path / 'no.pt'}: no such checkpoint or folder"
    (tmp_path / "bad.pt").write_bytes(b"PK\x03\x04" + bytes(500))
    said = refused(monkeypatch, capsys, tmp_path / "bad.pt", "--prompt", "x")
    assert "is not a whole checkpoint of train.py" in said and "\n" not in said
