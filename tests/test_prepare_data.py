"""The stages that make the data: against a server that fails in every way, killed at random moments, and with planted rules and copies."""
import argparse
import ast
import errno
import gc
import gzip
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import asdict
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest
import torch

import prepare_data
from conftest import ROOT, run, torchrun
from fake_openai import KEY, PASSING, FakeOpenAI
from model import Phi, PhiConfig
from prepare_data import Answers, Client, ask_all
from sandbox import Program, Sandbox


def rows(path):
    with (gzip.open if str(path).endswith(".gz") else open)(path, "rt", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def write_rows(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def stage(server, *command):
    return run("prepare_data.py", *command, env={**os.environ, **(server.env if server else {})})


def start(server, *command):
    return subprocess.Popen([sys.executable, "prepare_data.py", *map(str, command)], cwd=ROOT, env={**os.environ, **server.env},
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


@pytest.fixture
def client(monkeypatch):
    """Makes a Client of a server."""
    def make(server, **settings):
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        return Client("fake-1", **{"temperature": 0.5, "max_tokens": 50, "price": (1.0, 2.0), "timeout": 1, **settings})
    return make


def words(n, start=0):
    """n different prompts."""
    return [(f"prompt {i}", {"i": i}) for i in range(start, start + n)]


# ---- the client ------------------------------------------------------------------------------------------------------

def test_five_hundred_items_come_out_complete_and_none_twice_from_a_server_that_fails_in_every_way(tmp_path, client):
    with FakeOpenAI(faults=(*PASSING, "null", "length", "hang", "nul", "surrogate"), fault_rate=0.25, fault_tries=1, refuse=("max_completion_tokens",), usage=False) as server:
        answers = ask_all(client(server), words(500), str(tmp_path / "a.jsonl"))
        found = list(answers.read())
        assert sorted(record["about"]["i"] for record in found) == list(range(500))
        assert all(record["text"] == f"About prompt {record['about']['i']}" for record in found)
        assert len(rows(tmp_path / "a.jsonl")) == 501 and max(server.answered.values()) == 1
        assert server.most_at_work <= 32 + 10  # the window; a request that hangs on may still be at work in the server


def test_a_run_killed_at_random_moments_asks_at_most_what_was_under_way_twice_and_loses_nothing(tmp_path):
    out, rng = tmp_path / "t.jsonl", random.Random(5)
    command = ("textbooks", "--count", 1000, "--model", "fake-1", "--concurrency", 16, "--out", out)
    with FakeOpenAI(answer=lambda prompt: f"On {hash(prompt)}", delay=0.02) as server:
        kills = 0
        while True:
            process = start(server, *command)
            try:
                assert process.wait(timeout=rng.uniform(0.4, 1.2) if kills < 4 else 60) == 0, process.stdout.read()
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
                path = tmp_path / "t.answers.jsonl"
                if path.exists() and kills == 2:  # as if the kill had come in the middle of a write
                    path.write_bytes(path.read_bytes()[:-9])
        assert kills == 4
        texts = Counter(row["text"] for row in rows(out))
        assert len(texts) == 1000 and set(texts.values()) == {1}
        assert sum(server.answered.values()) <= 1000 + kills * 16 + 1


def test_each_answer_is_on_disk_before_more_than_the_window_is_asked(tmp_path, client):
    path, behind = tmp_path / "a.jsonl", []

    def answer(prompt):
        behind.append(len(behind) + 1 - (path.read_bytes().count(b"\n") - 1))  # asked, this one included, minus on disk
        return "yes"
    with FakeOpenAI(answer=answer) as server:
        ask_all(client(server, concurrency=4), words(60), str(path))
    assert max(behind) <= 4


@pytest.mark.parametrize("headers, seconds", [({"retry-after-ms": "250"}, 0.25), ({"retry-after": "3"}, 3), ({"retry-after": "0.5"}, 0.5),
                                              ({"retry-after": "soon"}, None), ({}, None), ({"retry-after": "-1"}, 0),
                                              ({"retry-after-ms": "40", "retry-after": "7"}, 0.04)])
def test_retry_after_is_read_in_all_its_forms(headers, seconds):
    assert prepare_data.retry_after(headers) == seconds


def test_retry_after_may_be_a_date():
    assert 8 <= prepare_data.retry_after({"retry-after": formatdate(time.time() + 10, usegmt=True)}) <= 10
    assert prepare_data.retry_after({"retry-after": formatdate(time.time() - 10, usegmt=True)}) == 0
    assert prepare_data.retry_after({"retry-after": "Mon, 01 Jan 99999999999 00:00:00 GMT"}) is None


def test_one_rate_limit_answer_pauses_all_threads(tmp_path, client):
    with FakeOpenAI(delay=0.01) as server:
        send, told = server.chat, []

        def chat(handler, body, fault):
            if sum(server.answered.values()) >= 40 and not told:
                told.append(time.monotonic())
                return server.error(handler, 429, "Rate limit reached", "rate_limit_exceeded", headers=[("Retry-After", "0.8")])
            return send(handler, body, fault)
        server.chat = chat
        answers = ask_all(client(server, concurrency=8), words(200), str(tmp_path / "a.jsonl"))
        assert len(answers.done) == 200
        quiet = [at - told[0] for at, _, _ in server.log if 0.2 < at - told[0]]  # what was under way has come in by then
        assert min(quiet) >= 0.75


@pytest.mark.parametrize("style", ["openai", "old", "fastapi", "text"])
def test_a_refused_parameter_is_left_out_or_renamed_for_the_rest_of_the_run(tmp_path, client, capfd, style):
    with FakeOpenAI(refuse=("max_tokens", "reasoning_effort", "temperature"), style=style) as server:
        asking = client(server, concurrency=4)
        answers = ask_all(asking, words(60), str(tmp_path / "a.jsonl"))
        assert len([record for record in answers.read() if "text" in record]) == 60
        assert asking.params == {"max_completion_tokens": 50}
        assert len(server.log) <= 60 + 3 * 4
    assert "max_tokens=50: sent as max_completion_tokens" in capfd.readouterr().err


def test_what_is_wrong_with_one_prompt_is_recorded_and_the_run_goes_on(tmp_path, client):
    with FakeOpenAI(finish=lambda prompt: "length" if prompt.endswith("7") else "content_filter" if prompt.endswith("8") else "stop") as server:
        send = server.chat
        server.chat = lambda handler, body, fault: send(handler, body, "context" if body["messages"][0]["content"].endswith("9") else None)
        asking = client(server)
        answers = ask_all(asking, words(50), str(tmp_path / "a.jsonl"))
        why = Counter(record.get("rejected") for record in answers.read())
        assert why[None] == 35 and why["finish_reason length"] == why["finish_reason content_filter"] == 5
        assert sum("context length" in (reason or "") for reason in why.elements()) == 5
        assert "max_tokens" in asking.params  # the error names max_tokens, but is about the prompt
        requests = len(server.log)
        ask_all(asking, words(50), answers)
        assert len(server.log) == requests  # rejected is answered too


@pytest.mark.parametrize("finish, text, expected", [
    ("stop", "Yes.", ("Yes.", None)), ("END_TURN", "Yes.", ("Yes.", None)), (None, "Yes.", ("Yes.", None)), ("tool_calls", "Yes.", ("Yes.", None)),
    ("tool_calls", None, (None, "finish_reason tool_calls")), (None, None, (None, "finish_reason None")), ("max_tokens", "Y", (None, "finish_reason length")),
    ("stop", "<think>Hm.</think> Yes.", ("Yes.", None)), ("stop", "<think>Hm. What", (None, "no text in the answer"))])
def test_an_answer_counts_if_the_server_says_in_any_of_the_usual_words_that_it_is_whole(finish, text, expected):
    assert prepare_data.answer_of({"choices": [{"message": {"content": text}, "finish_reason": finish}]}) == expected


def test_a_403_for_a_flagged_prompt_is_about_the_prompt_and_any_other_about_the_key():
    flagged, other = ({"message": f"HTTP 403: {says}"} for says in ("the input was flagged by moderation", "no access"))
    assert (prepare_data.kind_of(403, flagged), prepare_data.kind_of(403, other)) == ("refuse", "stop")


def test_the_cost_of_an_attempt_counts_even_if_the_next_one_fails_and_whatever_the_server_counts(tmp_path, client, monkeypatch):
    assert prepare_data.tokens_of({"usage": {"prompt_tokens": -5, "completion_tokens": True}}, "p" * 40, "t" * 8) == [10, 2]
    monkeypatch.setattr(Client, "sleep", lambda *_: None)
    with FakeOpenAI(finish=lambda prompt: "length") as server:
        send = server.chat
        server.chat = lambda handler, body, fault: send(handler, body, "500" if server.failed["all"] else None) or server.failed.update(all=1)
        try:
            ask_all(client(server, concurrency=1, budget=1e-9), words(5), str(tmp_path / "a.jsonl"))
        except SystemExit:
            pass
    spent = [row for row in rows(tmp_path / "a.jsonl") if "usd" in row]
    assert len(spent) == 1 and spent[0]["again"] and spent[0]["usd"] > 0  # the budget is reached, no other prompt was asked


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_an_answer_that_drips_in_has_as_long_as_any_other(tmp_path, client, connection):
    with FakeOpenAI() as server:
        send = server.send

        def drip(handler, status, body, headers=()):
            if server.failed["drips"]:
                return send(handler, status, body, headers)
            server.failed["drips"] += 1
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.send_header("Connection", connection)
            handler.end_headers()
            for _ in range(100):
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(0.1)
        server.send = drip
        began = time.monotonic()
        answers = ask_all(client(server, timeout=0.5), words(1), str(tmp_path / "a.jsonl"))
        assert len(answers.done) == 1 and time.monotonic() - began < 4


@pytest.mark.parametrize("fault, says", [("quota", "credit"), ("401", "OPENAI_API_KEY"), ("model", "fake-mini")])
def test_what_cannot_succeed_ends_the_run_in_one_line_without_the_key(tmp_path, fault, says):
    with FakeOpenAI(always=None if fault == "model" else fault) as server:
        done = stage(server, "textbooks", "--count", 500, "--model", "fake-2" if fault == "model" else "fake-1", "--out", tmp_path / "t.jsonl")
        assert done.returncode == 1 and len(server.log) <= 64 + 32
    last = done.stderr.strip().splitlines()[-1]
    assert says in last and "Traceback" not in done.stderr
    assert KEY not in done.stderr + done.stdout + "".join(path.read_text() for path in tmp_path.iterdir())
    assert not (tmp_path / "t.jsonl").exists()


def test_the_key_is_sent_but_never_written_even_if_the_server_echoes_it(tmp_path, client):
    with FakeOpenAI(answer=lambda prompt: f"{prompt} {KEY}") as server:
        ask_all(client(server), words(3), str(tmp_path / "a.jsonl"))
        assert {headers.get("Authorization") for headers in server.headers} == {f"Bearer {KEY}"}
    assert KEY not in (tmp_path / "a.jsonl").read_text()


def test_no_key_and_no_server_are_one_line_each(tmp_path):
    command = ("prepare_data.py", "textbooks", "--count", 5, "--model", "gpt-5.6-luna", "--out", tmp_path / "t.jsonl")
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI")}
    done = run(*command, env=env)
    assert done.returncode == 1 and done.stderr.startswith("no key") and "OPENAI_BASE_URL" in done.stderr and done.stderr.count("\n") == 1
    done = run(*command, env={**env, "OPENAI_BASE_URL": "http://user:secret@127.0.0.1:9/v1"})
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("no server answers at http://127.0.0.1:9/v1") and "secret" not in done.stderr


def test_https_to_a_server_without_it_is_one_line(monkeypatch, quick):
    with FakeOpenAI() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.env["OPENAI_BASE_URL"].replace("http:", "https:"))
        with pytest.raises(SystemExit, match="cannot be trusted .*WRONG_VERSION_NUMBER.* http://"):
            prepare_data.Client("fake-1").call("POST", "/chat/completions", need="choices", json={})


def test_a_refusal_that_names_parameters_and_is_about_the_prompt_costs_no_other_prompt_a_parameter(tmp_path, client, capfd):
    with FakeOpenAI() as server:
        send = server.chat

        def chat(handler, body, fault):
            if "7" in body["messages"][0]["content"]:  # as pydantic, vLLM and LiteLLM repeat what they were sent
                return server.error(handler, 400, f"1 validation error: value_error, input: {body}", None)
            send(handler, body, fault)
        server.chat = chat
        asking = client(server, concurrency=2)
        before = dict(asking.params)
        answers = ask_all(asking, words(16), str(tmp_path / "a.jsonl"))
        assert len([record for record in answers.read() if "text" in record]) == 15 and asking.params == before
    assert "the server refuses" not in capfd.readouterr().err
    error = {"message": "Invalid content in message 0: 'from temperature to'", "says": "'from temperature to'", "param": "messages"}
    assert asking.refused_parameter(before, error) is None
    for param in (None, "None", "body", "model"):
        assert asking.refused_parameter(before, {"message": "no", "says": "Unsupported parameter: 'temperature'", "param": param}) == "temperature"


def test_the_query_of_an_address_goes_behind_the_path(tmp_path, client, monkeypatch):
    with FakeOpenAI() as server:
        server.env = {**server.env, "OPENAI_BASE_URL": server.env["OPENAI_BASE_URL"] + "?api-version=2024-10-21"}
        ask_all(client(server), words(2), str(tmp_path / "a.jsonl"))
        assert {path for _, _, path in server.log} == {"/v1/chat/completions?api-version=2024-10-21"}
        assert {headers["api-key"] for headers in server.headers} == {KEY}  # Azure reads the key here


@pytest.mark.parametrize("usage, tokens", [
    ({"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 5150}, [100, 5050]), ({"prompt_tokens": 0, "completion_tokens": 0}, [10, 5]),
    ({"prompt_tokens": 7, "completion_tokens": 3.0, "total_tokens": 10}, [7, 3]), (None, [10, 5]), ({"prompt_tokens": -1, "completion_tokens": "3"}, [10, 5])])
def test_reasoning_that_only_the_total_counts_is_counted_and_nothing_is_free(usage, tokens):
    assert prepare_data.tokens_of({"usage": usage}, "p" * 40, "t" * 20) == tokens


@pytest.mark.parametrize("text, expected", [
    ("<think>a</think>\n\nLists.", "Lists."), ("<thinking>plan</thinking>Lists.", "Lists."), ("<thinking>plan", None), ("Lists.<|im_end|>\n", "Lists."),
    ("<|channel|>analysis<|message|>User wants.<|end|><|start|>assistant<|channel|>final<|message|>Lists.<|return|>", "Lists."),
    ("<|channel|>analysis<|message|>User", None), ("<|start|>assistant<|channel|>analysis<|message|>User", None), ("Lists.<|eot_id|><|end_of_text|>", "Lists."), ("The mark <|endoftext|> ends a document.", "The mark <|endoftext|> ends a document.")])
def test_reasoning_and_marks_of_the_end_are_left_out(text, expected):
    assert prepare_data.answer_of({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})[0] == expected


def test_a_server_that_fails_for_good_ends_the_run_and_keeps_the_answers(tmp_path, client, monkeypatch):
    monkeypatch.setattr(prepare_data, "TRIES", 3)
    monkeypatch.setattr(prepare_data.random, "uniform", lambda a, b: a / 5)
    monkeypatch.setattr(Client.call, "__defaults__", (None, 3))
    with FakeOpenAI() as server:
        send = server.chat
        server.chat = lambda handler, body, fault: send(handler, body, "503" if sum(server.answered.values()) >= 20 else None)
        with pytest.raises(SystemExit, match="fails.*HTTP 503.*answers.*are kept"):
            ask_all(client(server, concurrency=4), words(1000), str(tmp_path / "a.jsonl"))
    assert len(rows(tmp_path / "a.jsonl")) >= 21


def test_the_budget_is_passed_only_by_what_was_under_way_and_a_larger_one_goes_on(tmp_path, client):
    with FakeOpenAI(answer=lambda prompt: "x" * 400) as server:  # 100 tokens out at $2 and 2 in at $1 per million: $0.000202
        answers = ask_all(client(server, budget=0.01, concurrency=8), words(200), str(tmp_path / "a.jsonl"))
        assert answers.stopped and 0.01 <= answers.usd <= 0.01 + 8 * 0.000203
        asked = len(server.log)
        answers.file.close()
        again = ask_all(client(server, budget=0.01), words(200), str(tmp_path / "a.jsonl"))
        assert again.stopped and len(server.log) == asked
        again.file.close()
        done = ask_all(client(server, budget=1), words(200), str(tmp_path / "a.jsonl"))
        assert not done.stopped and len(server.log) == 200 and max(server.answered.values()) == 1


def test_the_budget_counts_attempts_and_a_larger_limit_asks_anew_what_was_cut(tmp_path, client):
    path = str(tmp_path / "a.jsonl")
    with FakeOpenAI(answer=lambda prompt: "x" * 400, finish=lambda prompt: "length") as server:
        cut = ask_all(client(server, budget=0.002, concurrency=4), words(9), path)  # each attempt costs $0.000202
        assert 10 <= len(server.log) <= 14 and cut.stopped and cut.again and cut.usd == pytest.approx(0.000202 * len(server.log))
        cut.file.close()
        ask_all(client(server), words(9), path).file.close()
        asked = len(server.log)
        ask_all(client(server), words(9), path).file.close()
        assert len(server.log) == asked
        server.finish = lambda prompt: "stop"
        whole = ask_all(client(server, max_tokens=100), words(9), path)
        assert len(server.log) == asked + 9 and all(record["text"] for record in whole.read())


def test_answers_to_other_settings_or_prompts_are_never_mixed(tmp_path, client):
    path = str(tmp_path / "a.jsonl")
    with FakeOpenAI() as server:
        ask_all(client(server), words(10), path, {"prompts": "1"}).file.close()
        for other in ({"temperature": 0.9}, {"reasoning_effort": "low"}):
            with pytest.raises(SystemExit, match=f"was not made with these settings.*{next(iter(other))}"):
                ask_all(client(server, **other), words(10), path, {"prompts": "1"})
        ask_all(client(server, max_tokens=51), words(10), path, {"prompts": "1"}).file.close()  # as our own advice may be: nothing is asked again
        with pytest.raises(SystemExit, match="prompts differ"):
            ask_all(client(server), words(10), path, {"prompts": "2"})
        answers = ask_all(client(server), words(10, start=5), path, {"prompts": "1"})
        assert sorted(record["about"]["i"] for record in answers.read()) == list(range(5, 15)) and len(server.log) == 15


def test_a_corrupt_line_among_the_answers_is_named_and_asked_again(tmp_path, client, capsys):
    path = tmp_path / "a.jsonl"
    with FakeOpenAI() as server:
        ask_all(client(server), words(10), str(path)).file.close()
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:4]) + "{torn\n" + "".join(lines[5:]) + '{"key": "torn')
        answers = ask_all(client(server), words(10), str(path))
        assert len(list(answers.read())) == 10 and len(server.log) == 11
    assert "1 corrupt lines left out: 5 (not JSON)" in capsys.readouterr().out


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP, signal.SIGHUP], [signal.SIGHUP, signal.SIGTERM]])
def test_a_signal_keeps_what_was_under_way(tmp_path, numbers):
    with FakeOpenAI(answer=lambda prompt: f"On {hash(prompt)}", delay=0.3) as server:
        send = server.chat

        def chat(handler, body, fault):  # some requests are to be tried again later: not when the run is ending
            if hash(body["messages"][0]["content"]) % 8 == 0:
                return server.error(handler, 503, "Loading", headers=[("Retry-After", "30")])
            return send(handler, body, fault)
        server.chat = chat
        process = start(server, "textbooks", "--count", 1000, "--model", "fake-1", "--concurrency", 16, "--out", tmp_path / "t.jsonl")
        while sum(server.answered.values()) < 20:
            time.sleep(0.05)
        for number in numbers:  # a shell may pass on the SIGHUP of a closed terminal that the kernel sends as well
            process.send_signal(number)
            time.sleep(0.05)
        output = process.communicate(timeout=10)[0]
        if numbers[1:] and process.returncode < 0:  # the second came when all was stored
            assert -process.returncode == numbers[1]
        else:
            assert process.returncode == 1 and "interrupted" in output and "the same command goes on" in output
        assert len(rows(tmp_path / "t.answers.jsonl")) - 1 == sum(server.answered.values())


def test_an_error_in_an_answer_of_status_200_is_an_error(tmp_path, client):
    with FakeOpenAI() as server:
        server.chat = lambda handler, body, fault: server.send(handler, 200, {"error": {"code": 402, "message": "Insufficient credits"}})
        client(server)
        with pytest.raises(SystemExit, match="no more credit"):
            prepare_data.main(["textbooks", "--count", "5", "--model", "fake-1", "--out", str(tmp_path / "t.jsonl")])


def test_a_full_disk_is_one_line(tmp_path, client, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")
    with FakeOpenAI() as server:
        client(server)
        monkeypatch.setattr(Answers, "add", full)
        with pytest.raises(SystemExit, match="the disk of .* is full"):
            prepare_data.main(["textbooks", "--count", "50", "--model", "fake-1", "--out", str(tmp_path / "t.jsonl")])


def test_openai_is_never_taken_to_be_free(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for address in ("", " ", "https://api.openai.com/v1"):
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        with pytest.raises(SystemExit, match="the price of some-model is not known"):
            prepare_data.main(["textbooks", "--count", "5", "--model", "some-model", "--out", str(tmp_path / "t.jsonl")])


@pytest.mark.parametrize("name", ["textbooks", "exercises", "annotate"])
def test_a_dry_run_prints_three_prompts_and_a_price_and_needs_neither_key_nor_network(tmp_path, name):
    documents = write_rows(tmp_path / "d.jsonl", [{"text": f"x = {i}"} for i in range(9)])
    more = ["annotate", documents, "--samples", 9] if name == "annotate" else [name, "--count", 1000]
    env = {variable: value for variable, value in os.environ.items() if not variable.startswith("OPENAI")}
    done = run("prepare_data.py", *more, "--model", "gpt-5.6-luna", "--out", tmp_path / "o.jsonl", "--dry-run", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("---- prompt") == 3 and "$" in done.stdout and "No call was made" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.jsonl"]


# ---- batches ---------------------------------------------------------------------------------------------------------

def test_a_batch_joins_both_files_drops_what_the_server_refuses_and_sends_the_expired_again(tmp_path, client, monkeypatch):
    monkeypatch.setattr(prepare_data, "USELESS", 8)  # ten refusals stand together in the file of errors
    with FakeOpenAI(refuse=("reasoning_effort",), batch_expire=0.2, finish=lambda prompt: "refused" if prompt.endswith("3") else "stop") as server:
        answers = ask_all(client(server, concurrency=2), words(100), str(tmp_path / "a.answers.jsonl"), batch=True)
        found = list(answers.read())
        assert len(found) == 100 and all(record["text"] == f"About prompt {record['about']['i']}" for record in found if "text" in record)
        assert sum("rejected" in record for record in found) == 10
        assert max(server.answered.values()) == 1 and len(server.batches) >= 3
        assert answers.usd == pytest.approx(0.5 * sum(n * price for n, price in zip(answers.tokens, (1, 2))) / 1e6)
        assert not (tmp_path / "a.batches.json").exists()


def test_a_line_of_a_batch_that_never_succeeds_does_not_keep_the_others(tmp_path, client, capsys):
    with FakeOpenAI(finish=lambda prompt: "expired" if prompt.endswith(" 7") else "stop") as server:
        answers = ask_all(client(server), words(30), str(tmp_path / "a.answers.jsonl"), batch=True)
        assert len(list(answers.read())) == 29 and len(server.batches) == 2 and not (tmp_path / "a.batches.json").exists()
    assert "1 prompts got no answer that can be used (1 HTTP 0: This request could not be executed in time (batch_expired))" in capsys.readouterr().out


def test_batch_mode_killed_at_random_moments_pays_once(tmp_path):
    command = ("textbooks", "--batch", "--count", 300, "--model", "fake-1", "--out", tmp_path / "t.jsonl")
    rng, kills = random.Random(2), 0
    with FakeOpenAI(answer=lambda prompt: f"On {hash(prompt)}", batch_polls=5, delay=0.3, cut_batch_create=1) as server:
        while True:
            process = start(server, *command)
            try:
                assert process.wait(timeout=rng.uniform(0.4, 1.2) if kills < 4 else 60) == 0, process.stdout.read()
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
        assert kills >= 2 and len(server.batches) == 1
        assert len({row["text"] for row in rows(tmp_path / "t.jsonl")}) == 300 and set(server.answered.values()) == {1}


def test_a_batch_is_not_started_twice_when_the_answer_to_its_start_is_lost(tmp_path, client):
    with FakeOpenAI(cut_batch_create=1) as server:
        answers = ask_all(client(server), words(20), str(tmp_path / "a.answers.jsonl"), batch=True)
        assert len(answers.done) == 20 and len(server.batches) == 1


def test_the_id_of_a_batch_is_on_disk_before_the_first_poll_and_reading_it_again_adds_nothing(tmp_path, client):
    with FakeOpenAI() as server:
        shown, noted = server.shown, []

        def look(batch, poll=False):
            if poll:
                noted.append(batch["id"] in (tmp_path / "a.batches.json").read_text())
            return shown(batch, poll)
        server.shown = look
        asking = client(server)
        answers = ask_all(asking, words(10), str(tmp_path / "a.answers.jsonl"), batch=True)
        assert noted and all(noted)
        before = (tmp_path / "a.answers.jsonl").read_text()
        todo = {prepare_data.key_of(prompt): (prompt, about) for prompt, about in words(10)}
        abouts = {key: about for key, (_, about) in todo.items()}
        prepare_data.take_batch(asking, server.shown(next(iter(server.batches.values()))), abouts, todo, answers)
        assert (tmp_path / "a.answers.jsonl").read_text() == before


def test_batches_under_way_are_not_mixed_with_other_settings_nor_asked_a_second_time_without_batch(tmp_path, client, monkeypatch):
    path = str(tmp_path / "a.jsonl")
    with FakeOpenAI(batch_polls=10 ** 9) as server:
        monkeypatch.setattr(Client, "sleep", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(SystemExit, match="interrupted"):
            ask_all(client(server), words(5), path, batch=True)
        gc.collect()  # its lock
        with pytest.raises(SystemExit, match=r"other settings \(temperature differ\)"):
            ask_all(client(server, temperature=0.1), words(5), path, batch=True)
        gc.collect()
        with pytest.raises(SystemExit, match="--batch picks them up"):
            ask_all(client(server), words(5), path)
        gc.collect()
        monkeypatch.undo()
        server.batch_polls = 0
        assert len(ask_all(client(server), words(5), path, batch=True).done) == 5 and len(server.batches) == 1


def test_a_refused_batch_does_not_keep_the_others_from_being_read_and_odd_rows_are_passed_over(tmp_path, client, monkeypatch):
    monkeypatch.setattr(prepare_data, "BATCH_LINES", 4)
    with FakeOpenAI() as server:
        make, run_batch = server.new_batch, server.run_batch

        def new_batch(handler, body):
            return server.error(handler, 400, "Enqueued token limit reached") if server.batches else make(handler, body)

        def with_odd_rows(batch):
            run_batch(batch)
            server.files[batch["out"]["output_file_id"]] += b'null\n[1]\n{"custom_id": ["x"]}\n{"custom_id": "y", "response": "no"}\n'
        server.new_batch, server.run_batch = new_batch, with_odd_rows
        with pytest.raises(SystemExit, match="refuses a batch: HTTP 400: Enqueued token limit"):
            ask_all(client(server), words(8), str(tmp_path / "a.jsonl"), batch=True)
        assert len([row for row in rows(tmp_path / "a.jsonl") if "text" in row]) == 4
        gc.collect()
        server.new_batch = make
        assert len(ask_all(client(server), words(8), str(tmp_path / "a.jsonl"), batch=True).done) == 8 and set(server.answered.values()) == {1}


def test_a_batch_that_holds_prompts_not_asked_for_now_is_taken_whole_and_nothing_is_paid_twice(tmp_path, client, monkeypatch):
    with FakeOpenAI() as server:
        monkeypatch.setattr(Client, "sleep", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(SystemExit, match="interrupted"):
            ask_all(client(server), words(20), str(tmp_path / "a.answers.jsonl"), batch=True)
        gc.collect()
        monkeypatch.undo()
        assert len(list(ask_all(client(server), words(5), str(tmp_path / "a.answers.jsonl"), batch=True).read())) == 5  # a smaller --count
        gc.collect()
        assert len(list(ask_all(client(server), words(20), str(tmp_path / "a.answers.jsonl")).read())) == 20
        assert len(server.answered) == 20 and set(server.answered.values()) == {1}


def test_a_batch_of_a_later_round_is_taken_by_the_first_round_of_the_next_run(tmp_path, client, monkeypatch):
    command = ["textbooks", "--batch", "--count", "40", "--model", "fake-1", "--price", "1", "2", "--out", str(tmp_path / "t.jsonl")]
    with FakeOpenAI(answer=lambda prompt: "the same" if prepare_data.hash_text(prompt) % 2 else f"On {prompt}") as server:
        client(server)
        sleep = Client.sleep

        def stop_in_the_second_round(self, seconds):
            if len(server.batches) == 2:
                raise KeyboardInterrupt
            sleep(self, 0.01)
        monkeypatch.setattr(Client, "sleep", stop_in_the_second_round)
        with pytest.raises(SystemExit, match="interrupted"):
            prepare_data.main(command)
        gc.collect()
        monkeypatch.setattr(Client, "sleep", lambda self, _: sleep(self, 0.01))
        prepare_data.main(command)
        assert len(rows(tmp_path / "t.jsonl")) == 40 and set(server.answered.values()) == {1}


def test_the_advice_after_useless_or_refused_batches_can_be_followed(tmp_path, client, monkeypatch):
    with FakeOpenAI(finish=lambda prompt: "length") as server:
        with pytest.raises(SystemExit, match="raise --max_tokens"):
            ask_all(client(server, concurrency=2), words(120), str(tmp_path / "a.answers.jsonl"), batch=True)
        gc.collect()
        server.finish = lambda prompt: "stop"
        assert len(ask_all(client(server, max_tokens=500), words(120), str(tmp_path / "a.answers.jsonl")).done) == 120  # and without --batch
    with FakeOpenAI() as server:
        make = server.new_batch
        server.new_batch = lambda handler, body: (server.error(handler, 400, "too many") if len(server.files[body["input_file_id"]].splitlines()) > 10
                                                  else make(handler, body))
        with pytest.raises(SystemExit, match="a smaller --count makes smaller ones"):
            ask_all(client(server), words(20), str(tmp_path / "b.answers.jsonl"), batch=True)
        gc.collect()
        assert len(ask_all(client(server), words(5), str(tmp_path / "b.answers.jsonl"), batch=True).done) == 5


@pytest.fixture
def quick(monkeypatch):
    """Waits are counted, not waited for."""
    waited, sleep = [], Client.sleep
    monkeypatch.setattr(Client, "sleep", lambda self, seconds: waited.append(seconds) or sleep(self, 0.001))
    return waited


def test_batches_become_smaller_where_the_server_lets_fewer_lines_wait(tmp_path, client, quick, capsys):
    with FakeOpenAI() as server:
        shown, sizes = server.shown, []

        def limited(batch, poll=False):
            lines = len(server.files[batch["input_file_id"]].splitlines())
            if lines <= 150:
                return shown(batch, poll)
            sizes.append(lines)
            return {"id": batch["id"], "input_file_id": batch["input_file_id"], "status": "failed", "request_counts": {"total": 0, "completed": 0, "failed": 0},
                    "errors": {"data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached for fake-1. Limit: 9,000 enqueued tokens."}]}}
        server.shown = limited
        answers = ask_all(client(server), words(500), str(tmp_path / "a.answers.jsonl"), batch=True)
        assert len(answers.done) == 500 and max(server.answered.values()) == 1 and sorted(set(sizes)) == [250, 500]
    assert "the next batches are of 125 lines, one at a time" in capsys.readouterr().out


def test_a_batch_is_waited_for_through_an_outage_of_the_server(tmp_path, client, quick):
    with FakeOpenAI(batch_polls=3) as server:
        reply, failing = server.reply, itertools.count()

        def out_of_order(handler, data):
            if "/batches/" in handler.path and next(failing) < 50:
                return server.fail(handler, "503", {})
            return reply(handler, data)
        server.reply = out_of_order
        assert len(ask_all(client(server), words(20), str(tmp_path / "a.answers.jsonl"), batch=True).done) == 20


def test_a_wait_that_the_server_names_does_not_shorten_ours(tmp_path, client, quick):
    with FakeOpenAI() as server:
        failing, chat = itertools.count(), server.chat
        server.chat = lambda handler, body, fault: server.error(handler, 503, "Busy", headers=[("Retry-After", "0.05")]) if next(failing) < 8 else chat(handler, body, fault)
        assert len(ask_all(client(server, concurrency=1), words(1), str(tmp_path / "a.jsonl")).done) == 1
    assert sum(quick) > 20  # 0.05 s are what it names


@pytest.mark.parametrize("status, counts", [("completed", False), ("expired", True), ("completed", True), ("completed", None)])
def test_a_batch_that_names_its_files_later_is_looked_at_again_and_paid_once(tmp_path, client, quick, status, counts):
    with FakeOpenAI() as server:
        shown, looks = server.shown, Counter()

        def late(batch, poll=False):
            view = shown(batch, poll)
            if view["status"] == "completed":
                looks[batch["id"]] += 1
                view = {key: value for key, value in view.items() if key != "output_file_id" or looks[batch["id"]] > 3} | {"status": status, "error_file_id": None}
                if not counts:
                    view["request_counts"] = counts and {}
            return view
        server.shown = late
        assert len(ask_all(client(server), words(20), str(tmp_path / "a.answers.jsonl"), batch=True).done) == 20
        assert set(server.answered.values()) == {1} and len(server.batches) == 1


@pytest.mark.parametrize("torn", [lambda data: data[:data.rfind(b"\n", 0, -1) + 1], lambda data: b"", lambda data: b'{"object": "list", "data": []}', lambda data: data[:-9]])
def test_a_file_of_answers_that_comes_short_is_read_again_and_not_paid_again(tmp_path, client, quick, torn):
    with FakeOpenAI() as server:
        run_batch, path = server.run_batch, str(tmp_path / "a.answers.jsonl")

        def short(batch):
            run_batch(batch)
            whole.append((batch["out"]["output_file_id"], server.files[batch["out"]["output_file_id"]]))
            server.files[whole[-1][0]] = torn(whole[-1][1])
        whole, server.run_batch = [], short
        with pytest.raises(SystemExit, match="torn, or without some of its 20 lines"):
            ask_all(client(server), words(20), path, batch=True)
        assert sum("text" in row for row in rows(path)) == sum(line.endswith(b"}") and b"custom_id" in line for line in torn(whole[0][1]).splitlines())
        gc.collect()
        server.files.update(whole)
        assert len(ask_all(client(server), words(20), path, batch=True).done) == 20 and set(server.answered.values()) == {1}


def test_a_parameter_that_is_refused_though_it_was_not_sent_ends_the_run(tmp_path, client, quick):
    with FakeOpenAI() as server:
        run_batch = server.run_batch

        def refuse(batch):
            run_batch(batch)
            file = batch["out"].pop("output_file_id")
            rows = [json.loads(line) | {"response": {"status_code": 400, "body": {"error": {"message": "Unsupported parameter: temperature", "param": "temperature"}}}}
                    for line in server.files[file].splitlines()]
            server.files[file] = "".join(json.dumps(row) + "\n" for row in rows).encode()
            batch["out"] |= {"error_file_id": file, "request_counts": {"completed": 0}}
        server.run_batch = refuse
        with pytest.raises(SystemExit, match="brought no answer: a parameter is refused .HTTP 400: Unsupported parameter: temperature"):
            ask_all(client(server), words(5), str(tmp_path / "a.answers.jsonl"), batch=True)
        assert len(server.batches) == 2


@pytest.mark.parametrize("what, says", [("gone", "does not know batch_.*, with 10 prompts.*picks it up"), ("cancelled", "was cancelled. The same command asks anew")])
def test_a_batch_that_is_gone_or_cancelled_is_named_after_the_others_are_taken(tmp_path, client, quick, monkeypatch, what, says):
    monkeypatch.setattr(prepare_data, "BATCH_LINES", 10)
    with FakeOpenAI() as server:
        reply, shown, path = server.reply, server.shown, str(tmp_path / "a.answers.jsonl")

        def without_the_first(handler, data):
            if what == "gone" and handler.path.endswith("/" + next(iter(server.batches), "none")):
                return server.error(handler, 404, "No batch found")
            return reply(handler, data)
        server.reply = without_the_first
        server.shown = lambda batch, poll=False: (shown(batch, poll) if what == "gone" or batch["id"] != next(iter(server.batches)) else
                                                  {"id": batch["id"], "status": "cancelled", "request_counts": {"completed": 0}})
        with pytest.raises(SystemExit, match=f"{says}.*20 answers"):
            ask_all(client(server), words(30), path, batch=True)
        gc.collect()
        server.reply, server.shown = reply, shown  # as with the right key again: what was not known is picked up, what was cancelled is asked anew
        assert len(ask_all(client(server), words(30), path, batch=True).done) == 30 and len(server.batches) == 3 + (what == "cancelled")
        assert what == "cancelled" or set(server.answered.values()) == {1}


def test_a_server_that_refuses_to_show_a_batch_ends_the_run_and_the_batch_is_picked_up_later(tmp_path, client, quick):
    with FakeOpenAI() as server:
        reply, path = server.reply, str(tmp_path / "a.answers.jsonl")
        server.reply = lambda handler, data: (server.error(handler, 400, "OpenAI-Project header should match") if "/batches/" in handler.path else
                                              reply(handler, data))
        with pytest.raises(SystemExit, match="header should match.*goes on"):
            ask_all(client(server), words(20), path, batch=True)
        gc.collect()
        server.reply = reply
        assert len(ask_all(client(server), words(20), path, batch=True).done) == 20 and set(server.answered.values()) == {1}


@pytest.mark.parametrize("empty", [{"data": None}, {"data": [], "has_more": True}, {"data": ["x", None], "has_more": True}])
def test_a_start_whose_outcome_is_not_known_is_looked_up_for_half_a_minute_in_any_list(tmp_path, client, quick, empty):
    with FakeOpenAI(cut_batch_create=1) as server:
        reply, lists = server.reply, []

        def late(handler, data):
            if handler.command == "GET" and handler.path.startswith("/v1/batches?"):
                lists.append(1)
                if len(lists) < 4 or "after" in handler.path:
                    return server.send(handler, 200, empty if len(lists) < 4 else {"data": []})
            return reply(handler, data)
        server.reply = late
        assert len(ask_all(client(server), words(20), str(tmp_path / "a.answers.jsonl"), batch=True).done) == 20
        assert len(server.batches) == 1 and sum(quick) >= 1


def test_a_batch_larger_than_the_budget_is_cut_to_it(tmp_path, client):
    with FakeOpenAI() as server:
        answers = ask_all(client(server, budget=0.0003), words(100), str(tmp_path / "a.answers.jsonl"), batch=True)
        assert answers.stopped and 0 < len(answers.done) < 100 and answers.usd <= 0.0003


# ---- collect ---------------------------------------------------------------------------------------------------------

def test_a_folder_that_cannot_be_listed_is_left_out_and_named_and_a_name_that_is_no_utf8_becomes_readable(tmp_path, monkeypatch, capsys):
    for name in (b"a.py", b"closed/b.py", b"c\xff.py"):
        path = os.path.join(os.fsencode(tmp_path / "code"), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_text(f"x = {len(name)}\n")
    scandir = os.scandir

    def guarded(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scandir(folder)
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path / "code"), b"d\xff.jsonl"))).write_text('{"text": "y = 1"}\n')
    monkeypatch.setattr(os, "scandir", guarded)
    prepare_data.main(["collect", str(tmp_path / "code"), "--workers", "1", "--out", str(tmp_path / "o.jsonl")])
    assert "code/closed: Permission denied: left out" in capsys.readouterr().out
    assert sorted(row["source"].rsplit("/")[-1] for row in rows(tmp_path / "o.jsonl")) == ["a.py", "c\ufffd.py", "d\ufffd.jsonl:1"]
    with pytest.raises(SystemExit, match="closed: Permission denied"):
        prepare_data.main(["collect", str(tmp_path / "code" / "closed"), "--out", str(tmp_path / "p.jsonl")])


def test_a_file_without_one_exercise_is_not_decontaminated(tmp_path):
    (tmp_path / "e.jsonl").write_text("no json\n")
    with pytest.raises(SystemExit, match="e.jsonl holds no exercise"):
        prepare_data.main(["decontaminate", str(tmp_path / "e.jsonl"), "--against", os.path.join(ROOT, "problems", "unseen.jsonl"), "--workers", "1", "--out", str(tmp_path / "o.jsonl")])
    assert not (tmp_path / "o.jsonl").exists()


POSTS = """<?xml version="1.0" encoding="utf-8"?>
<posts>
  <row Id="1" PostTypeId="1" AcceptedAnswerId="3" Score="5" Title="How to sum?" Body="&lt;p&gt;I have &lt;code&gt;x&lt;/code&gt; &amp;amp; y&lt;/p&gt;&lt;pre&gt;&lt;code&gt;if x &amp;lt; 2:&#xA;    y&lt;/code&gt;&lt;/pre&gt;" Tags="&lt;python&gt;&lt;list&gt;" />
  <row Id="2" PostTypeId="2" ParentId="1" Score="9" Body="a loop" />
  <row Id="3" PostTypeId="2" ParentId="1" Score="7" Body="use sum" />
  <row Id="4" PostTypeId="1" Score="5" Title="Java?" Body="j" Tags="|java|" />
  <row Id="5" PostTypeId="2" ParentId="4" Score="9" Body="java answer" />
  <row Id="6" PostTypeId="1" Score="1" Title="Open" Body="q6" Tags="|python-3.x|" />
  <row Id="7" PostTypeId="2" ParentId="6" Score="-1" Body="bad" />
  <row Id="8" PostTypeId="2" ParentId="6" Score="2" Body="good" />
  <row Id="9" PostTypeId="2" ParentId="6" Score="1" Body="fair" />
  <row Id="10" PostTypeId="1" Score="1" Title="Iron" Body="q9" Tags="&lt;ironpython&gt;" />
  <row Id="12" PostTypeId="2" ParentId="1" Score="99" Body="later and liked" />
  <row Id="13" PostTypeId="1" Score="1" Title="Unanswered" Body="q11" Tags="&lt;python&gt;" />
</posts>
"""


def test_collect_reads_folders_lines_and_posts_and_says_what_it_dropped(tmp_path):
    code = tmp_path / "code"
    (code / "deep").mkdir(parents=True)
    (code / "a.py").write_text("def one():\n    return 1\n")
    (code / "deep" / "copy.py").write_bytes(b"def one():\r\n    return 1\r\n")
    (code / "old.py").write_text("print 'python 2'\n")
    (code / "long.py").write_text("x = '" + "y" * 1000 + "'\n")
    (code / "marks.py").write_text("_ = '" + "!?-+" * 20 + "'\n")
    (code / "big.py").write_text("x = 1\n" * 200_000)
    (code / "notes.txt").write_text("not code")
    with gzip.open(code / "deep" / "stack.jsonl.gz", "wt") as f:
        f.write('{"content": "import os\\n"}\n{"content": 3}\n\nnot json\n{"content": "def one():\\n    return 1\\n"}\n')
    (tmp_path / "Posts.xml").write_text(POSTS)
    done = stage(None, "collect", code, tmp_path / "Posts.xml", "--out", tmp_path / "web.jsonl.gz", "--workers", 2)
    assert done.returncode == 0, done.stderr
    texts = [row["text"] for row in rows(tmp_path / "web.jsonl.gz")]
    assert texts == ["import os\n", "def one():\n    return 1\n",
                     "How to sum?\n\nI have `x` & y\n```\nif x < 2:\n    y\n```\n\nAnswer:\n\nuse sum\n", "Open\n\nq6\n\nAnswer:\n\ngood\n"] or \
        texts == ["def one():\n    return 1\n", "import os\n", *texts[2:]] and texts[2].endswith("use sum\n") and texts[3].endswith("good\n")
    assert "4 of 12 documents kept" in done.stdout and "2 exact duplicate" in done.stdout
    for reason in ("1 not Python 3", "1 a line over 1000 characters", "1 few letters and digits", "1 over 1 MB"):
        assert reason in done.stdout
    assert "stack.jsonl.gz: 2 corrupt lines left out: 2 (no 'text' or 'content' or 'code'), 4 (not JSON)" in done.stdout
    assert "duplicate rate 33.3%" in done.stdout and "next: python prepare_data.py annotate" in done.stdout


def test_collect_writes_the_same_file_on_any_number_of_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_data, "TASK_BYTES", 3000)  # many tasks, of which some take longer than others
    monkeypatch.chdir(ROOT)
    for workers in (1, 2):
        prepare_data.main(["collect", "tests", ".", "--exclude", ".*", "data", "out", "results", "--workers", str(workers), "--out", str(tmp_path / f"{workers}.jsonl")])
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


def test_parquet_without_pyarrow_is_one_line(tmp_path):
    try:
        import pyarrow  # noqa: F401
        pytest.skip("pyarrow is installed")
    except ImportError:
        pass
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    done = stage(None, "collect", tmp_path, "--out", tmp_path / "o.jsonl")
    assert done.returncode == 1 and done.stderr.endswith("reading parquet needs one more package: pip install pyarrow\n") and done.stderr.count("\n") == 1


def test_hashes_seen_are_remembered_across_merges_as_a_set_remembers_them(monkeypatch):
    rng, seen, truth = random.Random(0), prepare_data.Seen(), set()
    for _ in range(3):
        for h in [rng.randrange(5000) * 3_689_348_814_741_910 for _ in range(2000)]:
            assert seen.add(h) == (h not in truth)
            truth.add(h)
        seen.merge()


# ---- annotate and filter ---------------------------------------------------------------------------------------------

def snippets(n, seed=0):
    """(documents, scores): the more of its lines are comments, the higher the score."""
    rng, documents, scores = random.Random(seed), [], []
    for i in range(n):
        score = rng.randrange(6)
        lines = [f"# the {rng.choice(['sum', 'list', 'mean', 'next one'])} of {rng.choice('abc')}" if rng.random() < 0.1 + 0.16 * score
                 else f"{rng.choice('xyz')}{rng.randrange(99)} = {rng.choice('abc')}[{rng.randrange(99)}] * {rng.randrange(9)}" for _ in range(12)]
        documents.append({"text": "\n".join([f"n = {i}", *lines]) + "\n"})
        scores.append(score)
    return documents, scores


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A folder with docs.jsonl, labels.jsonl (by annotate, from a teacher that scores by the rule) and a small checkpoint of our own."""
    folder = tmp_path_factory.mktemp("filter")
    documents, scores = snippets(500)
    truth = {document["text"]: score for document, score in zip(documents, scores)}
    write_rows(folder / "docs.jsonl", documents)

    def teacher(prompt):
        return f"It reads well.\n\nEducational score: {truth[prompt.split('<document>' + chr(10))[1].split(chr(10) + '</document>')[0]]}"
    with FakeOpenAI(answer=teacher, finish=lambda prompt: "length" if "n = 7\n" in prompt else "stop") as server:
        done = stage(server, "annotate", folder / "docs.jsonl", "--samples", 400, "--model", "fake-1", "--out", folder / "labels.jsonl")
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    config = PhiConfig(vocab_size=257, context=160, n_layer=2, n_head=2, n_embd=64, rotary_dim=16)
    torch.save({"model": Phi(config).state_dict(), "model_config": asdict(config), "tokenizer": "bytes", "step": 0}, folder / "tiny.pt")
    return folder, done.stdout


def test_annotate_labels_a_random_sample_whatever_the_order_of_the_documents(labelled, tmp_path):
    folder, output = labelled
    labels = rows(folder / "labels.jsonl")
    assert len(labels) == len({label["id"] for label in labels}) == 400 and all(label["reason"] == "It reads well." for label in labels)
    truth = {f"{prepare_data.hash_text(document['text']):016x}": score for document, score in zip(*snippets(500))}
    assert all(truth[label["id"]] == label["score"] for label in labels)
    assert "scores: 0: " in output and "next: python prepare_data.py filter" in output


def test_a_run_whose_answers_are_all_of_no_use_ends_in_one_line_and_is_asked_anew(tmp_path):
    documents = write_rows(tmp_path / "d.jsonl", [{"text": f"x = {i}"} for i in range(5)])
    with FakeOpenAI(finish=lambda prompt: "length") as server:
        command = ("annotate", documents, "--samples", 5, "--model", "fake-1", "--out", tmp_path / "l.jsonl")
        done = stage(server, *command)
        assert done.returncode == 1 and "none of the 5 answers can be used: 5 finish_reason length" in done.stderr and not os.path.exists(tmp_path / "l.jsonl")
        server.finish = lambda prompt: "stop"
        server.answer = lambda prompt: "Educational score: 2"
        assert stage(server, *command).returncode == 0 and len(rows(tmp_path / "l.jsonl")) == 5


@pytest.mark.parametrize("answer, score", [("Educational score (0-5): 4", 4), ("score: 3-4", None), ("Good.\nEducational score: 4", 4), ("Educational score: **0**", 0), ('{"score": 3}', 3), ("Score: 5/5.", 5),
                                           ("score 1, no: a better score: 2", 2), ("Educational score: 7", None), ("score: 3.5", None),
                                           ("score: 10", None), ("Four of five", None), ("score: 3/10", None), ("Educational score: 4.0", 4), ("score: 4.05", None), ("score: 4.0/5", 4), ("score: 3 / 5", 3),
                                           ("Educational score is 4\n\nBroken code would score 0.", 4)])
def test_an_annotation_is_taken_only_with_a_whole_score_from_0_to_5(tmp_path, answer, score):
    documents = write_rows(tmp_path / "d.jsonl", [{"text": "x = 1"}])
    with FakeOpenAI(answer=lambda prompt: answer) as server:
        os.environ.update(server.env)
        try:
            prepare_data.main(["annotate", str(documents), "--samples", "1", "--model", "fake-1", "--out", str(tmp_path / "l.jsonl")])
        finally:
            for name in server.env:
                del os.environ[name]
    assert [label["score"] for label in rows(tmp_path / "l.jsonl")] == ([] if score is None else [score])


def filtered(folder, out, *more):
    command = ("filter", folder / "docs.jsonl", "--labels", folder / "labels.jsonl", "--encoder", folder / "tiny.pt", "--device", "cpu", "--out", out, *more)
    prepare_data.main(list(map(str, command)))


def test_the_filter_finds_the_rule_in_labels_on_documents_it_has_not_seen_and_a_second_look_costs_no_embedding(labelled, tmp_path, capsys):
    folder, _ = labelled
    filtered(folder, tmp_path / "a.jsonl.gz", "--keep", 0.2)
    output = capsys.readouterr().out
    correlation, f1 = map(float, re.search(r"rank correlation (\S+), F1 (\S+) for", output).groups())
    assert correlation > 0.8 and f1 > 0.8, output  # the labels are noisy by themselves: a score of 3 is 12 draws at 58%
    truth = {document["text"]: score for document, score in zip(*snippets(500))}
    kept = [truth[row["text"]] for row in rows(tmp_path / "a.jsonl.gz")]
    assert len(kept) == 100 and np.mean(kept) > np.mean(list(truth.values())) + 1.5
    cache = next(folder.glob("docs.embeddings-*"))
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    filtered(folder, tmp_path / "b.jsonl", "--keep", 0.5)
    assert before == {path: path.stat().st_mtime_ns for path in cache.iterdir()} and len(rows(tmp_path / "b.jsonl")) == 250
    block = min(cache.iterdir())
    whole = block.read_bytes()
    for damage in (whole[:-100], b""):
        block.write_bytes(damage)
        with pytest.raises(SystemExit, match="is damaged: remove it, and the same command makes it again"):
            filtered(folder, tmp_path / "c.jsonl")
    block.unlink()
    filtered(folder, tmp_path / "c.jsonl", "--keep", 0.5)
    assert rows(tmp_path / "c.jsonl") == rows(tmp_path / "b.jsonl")


def test_ranks_share_the_embedding_and_keep_the_same_documents(labelled, tmp_path, monkeypatch):
    folder, _ = labelled
    write_rows(tmp_path / "docs.jsonl", snippets(500)[0])
    os.symlink(folder / "tiny.pt", tmp_path / "tiny.pt")
    code = ("import sys, os; import prepare_data as p; p.BLOCK = 100; os.chdir(sys.argv.pop(1)); made, whole = [], p.whole_file; "
            "p.whole_file = lambda path: made.append(path) or whole(path); "
            "print('rank', os.environ['RANK'], len(p.embed('docs.jsonl', 'tiny.pt', 'cpu') or []), len(made))")
    (tmp_path / "two.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", ROOT)
    done = torchrun(2, tmp_path / "two.py", tmp_path)
    assert done.returncode == 0 and sorted(line for line in done.stdout.splitlines() if line.startswith("rank")) == ["rank 0 5 3", "rank 1 0 2"], done.stderr
    monkeypatch.chdir(tmp_path)
    cache = next(tmp_path.glob("docs.embeddings-*"))
    shared = np.concatenate([np.load(block)["vectors"] for block in sorted(cache.iterdir())])
    cache.rename(tmp_path / "moved")
    alone = np.concatenate([np.load(block)["vectors"] for block in prepare_data.embed("docs.jsonl", "tiny.pt", "cpu")])
    assert np.abs(shared.astype(float) - alone).max() < 2e-3


def test_an_embedding_is_the_mean_of_the_hidden_states_of_its_document_alone(labelled, tmp_path):
    from model import load_model
    folder, _ = labelled
    texts = ["a = 1\n", "def f(x):\n    return x\n" * 3, "x" * 1000]
    write_rows(tmp_path / "d.jsonl", [{"text": text} for text in texts])
    block, = prepare_data.embed(str(tmp_path / "d.jsonl"), str(folder / "tiny.pt"), "cpu")
    model, _ = load_model(str(folder / "tiny.pt"))
    for text, vector in zip(texts, np.load(block)["vectors"]):
        with torch.no_grad():
            mean = model.hidden(torch.tensor([list(text.encode())[:160]])).mean(1)[0].numpy()
        assert np.abs(mean - vector).max() < 2e-3


@pytest.mark.parametrize("change, says", [
    (lambda folder: write_rows(folder / "labels.jsonl", [{"id": f"{i:016x}", "score": 3} for i in range(90)]), "does not match"),
    (lambda folder: write_rows(folder / "labels.jsonl", [{"id": f"{i:016x}", "score": 9} for i in range(90)]), "labels.jsonl, line 1: a score of 0 to 5"),
    (lambda folder: write_rows(folder / "labels.jsonl", rows(folder / "labels.jsonl")[:20]), "at least 50"),
    (lambda folder: (folder / "labels.jsonl").unlink(), "No such file")])
def test_labels_that_do_not_fit_are_one_line(labelled, tmp_path, change, says):
    for path in labelled[0].iterdir():
        os.symlink(path, tmp_path / path.name) if path.name != "labels.jsonl" else (tmp_path / "labels.jsonl").write_bytes(path.read_bytes())
    change(tmp_path)
    with pytest.raises(SystemExit, match=says):
        prepare_data.main(["filter", str(tmp_path / "docs.jsonl"), "--labels", str(tmp_path / "labels.jsonl"), "--encoder", str(tmp_path / "tiny.pt"),
                           "--out", str(tmp_path / "o.jsonl"), "--device", "cpu"])


# ---- textbooks and exercises -----------------------------------------------------------------------------------------

def args_of(*command):
    return prepare_data.parse_args([*map(str, command), "--model", "m", "--out", "o.jsonl"])


STDLIB = prepare_data.seed_documents(None, 1337)


def test_every_textbook_prompt_differs_and_topics_audiences_and_openings_are_all_used():
    items = [item for item, _ in zip(prepare_data.textbook_items(args_of("textbooks"), STDLIB), range(6000))]
    assert len({prompt for prompt, _ in items}) == 6000
    assert len({about["topic"] for _, about in items}) > 300 and len({(about["topic"], about["audience"]) for _, about in items}) > 4700
    assert all(sum(opening in prompt for prompt, _ in items) > 500 for opening in prepare_data.OPENINGS)
    again = [item for item, _ in zip(prepare_data.textbook_items(args_of("textbooks"), STDLIB), range(50))]
    assert again == items[:50]


def test_a_new_topic_changes_no_other_textbook_prompt_and_another_list_of_words_is_not_mixed_with_paid_exercises(tmp_path, client, monkeypatch):
    before = [prompt for (prompt, _), _ in zip(prepare_data.textbook_items(args_of("textbooks"), STDLIB), range(1000))]
    topics = prepare_data.read_topics()
    topics["topics"].insert(100, "a topic that nobody had thought of")
    with FakeOpenAI(answer=lambda prompt: GOOD) as server:
        client(server)
        command = ["exercises", "--count", "1", "--model", "fake-1", "--price", "1", "2", "--out", str(tmp_path / "e.jsonl")]
        prepare_data.main(command)
        gc.collect()
        monkeypatch.setattr(prepare_data, "read_topics", lambda: topics)
        with pytest.raises(SystemExit, match=r"\(prompts differ\)"):
            prepare_data.main(command)
    after = {prompt for (prompt, _), _ in zip(prepare_data.textbook_items(args_of("textbooks"), STDLIB), range(1010))}
    assert after > set(before)


def test_every_exercise_prompt_asks_for_other_names():
    names = [name for item, _ in zip(prepare_data.exercise_items(args_of("exercises")), range(4000)) for name in item[0].split("\n\n")[0].split("\n")[1:]]
    assert len(names) == len(set(names)) == 20_000 and all(name.isidentifier() for name in names)


GOOD = '''```python
from typing import List
import math

def count_above(values: List[int], limit: int) -> int:
    """
    Count the values above the limit.

    >>> count_above([1, 5, 7], 4)
    2
    >>> print(count_above([], 0))
    0
    """
    return sum(value > limit for value in values)  # a comment
```'''


def test_an_exercise_comes_out_as_imports_signature_docstring_and_body():
    assert list(prepare_data.exercises_in(f"Here it is:\n\n{GOOD}\nDone.")) == [("count_above", '''from typing import List


def count_above(values: List[int], limit: int) -> int:
    """
    Count the values above the limit.

    >>> count_above([1, 5, 7], 4)
    2
    >>> print(count_above([], 0))
    0
    """
    return sum(value > limit for value in values)  # a comment
''', prepare_data.examples_of(">>> count_above([1, 5, 7], 4)\n2\n>>> print(count_above([], 0))\n0"))]


def test_an_answer_with_the_line_ends_of_windows_holds_the_same_exercises():
    both = f"{GOOD}\n\n{GOOD}"
    assert list(prepare_data.exercises_in(both.replace("\n", "\r\n"))) == list(prepare_data.exercises_in(both))


@pytest.mark.parametrize("example, test", [
    ("x = f(1)", "x = f(1)"), ("f(1)\n<f>", "assert repr(f(1)) == '<f>'"),
    ("f(1)\n1", "assert (f(1)) == (1)"), ("f(1)  # easy\n1  # one", "assert (f(1)) == (1)"),
    ("f(1)", "assert (f(1)) is None"), ("f(1)\nTraceback (most recent call last):\n    ...\nValueError: no", "try:\n    f(1)\nexcept ValueError:\n    pass\nelse:\n    raise AssertionError('no ValueError')"),
    ("f(1)\nCounter({'a': 2})", "assert (f(1)) == dict({'a': 2})"), ("f(1)\nCounter()", "assert (f(1)) == dict({})"), ("f(1)  # doctest: +SKIP\n3", ""),
    ("f(1)\ndefaultdict(None, {1: 2})", "assert (f(1)) == dict({1: 2})"), ("f(1)\nOrderedDict([(1, 2)])", "assert (f(1)) == dict([(1, 2)])"), ("f(1)\ndefaultdict(<class 'int'>, {1: 2})", "assert (f(1)) == dict({1: 2})"),
    ("f(1)\n{[1], [2]}", "assert repr(f(1)) == '{[1], [2]}'"), ("f(1)\n{[1]: 2}", "assert repr(f(1)) == '{[1]: 2}'")])
def test_an_example_becomes_an_assertion_where_its_output_says_what_holds(example, test):
    assert prepare_data.examples_of(f">>> {example}\n") == test


@pytest.mark.parametrize("example, holds", [
    (">>> for k in range(2):\n...     print(f(k))\n0\n2", True), (">>> for k in range(2):\n...     print(f(k))\n999\n998", False),
    (">>> a = f(1); a\n2", True), (">>> a = f(1); a\n777", False), (">>> a = f(2)\n>>> a\n4", True),
    (">>> shown = 1\n>>> for i in [1]: print(shown)\n1", True), (">>> for i in 1, 2: print('\\n' * (2 - i))\n<BLANKLINE>\n<BLANKLINE>\n<BLANKLINE>", True),
    (">>> for i in range(3): print(i, i)  # doctest: +NORMALIZE_WHITESPACE\n0   0\n1   1\n2   2", True),
    (">>> print(f(1), end='')\n2", True), (">>> print(f(1), f(2))\n2 4", True), (">>> print(*[f(1), f(2)], sep='-')\n2-4", True), (">>> print(f(1))\n3", False),
    (">>> [f(n) for n in range(99)]  # doctest: +ELLIPSIS\n[0, 2, ..., 196]", True), (">>> f([1])  # doctest: +ELLIPSIS\n[2, ...]", False)])
def test_what_an_example_shows_is_compared_where_it_is_not_one_value(example, holds):
    test = prepare_data.examples_of(f"Text.\n\n{example}\n")
    with Sandbox(1) as box:
        (_, verdict), = box.judge([Program("def f(x): return 2 * x", test, "f")])
    assert verdict.status == ("passed" if holds else "failed")


@pytest.mark.parametrize("head", ["- ", "2. ", "1) ", "+ ", "• ", "**Exercise 1:** ", "#### 1. ", "\xa0"])
def test_a_fence_may_stand_behind_a_number_or_a_title(head):
    block = "```python\ndef {0}(x):\n    \"\"\"Adds.\"\"\"\n    return x + 1\n```\n\n"
    assert [name for name, *_ in prepare_data.exercises_in(head + block.format("one") + "Then:\n\n" + head + block.format("two"))] == ["one", "two"]


def test_functions_are_found_among_prose_without_any_fence():
    answer = "1. First:\n\nfrom math import pi\n\n" + EXERCISE.format("one", "pi") + "Now the second.\n" + EXERCISE.format("two", "2") + "\nThat is all."
    assert [name for name, *_ in prepare_data.exercises_in(answer)] == ["one", "two"]
    assert "import pi" in next(prepare_data.exercises_in(answer))[1]
    commented = "Here it is:\n\ndef f(x):\n    \"\"\"Doc.\"\"\"\n    y = x\n# now return\n    return y\n\nIt copies.\n"
    assert "return y" in next(prepare_data.exercises_in(commented))[1]
    assert list(prepare_data.exercises_in("from x\n" * 30_000)) == [(None, "does not parse", "")]  # and not after half a minute


def test_blocks_are_found_whose_end_is_missing_or_on_the_last_line_of_code():
    one, two = EXERCISE.format("one", "2"), EXERCISE.format("two", "3")
    names = lambda answer: [name for name, *_ in prepare_data.exercises_in(answer)]
    assert names(f"```python\n{one}\n```py\n{two}") == names(f"```python\n{one.rstrip()}```\nand\n~~~\n{two.rstrip()}~~~\n") == ["one", "two"]
    assert names(f"```python\n{one}\nNow the second:\n\n```python\n{two}") == [None, "two"]
    assert names("```python\n\ufeff" + one.replace("    ", "\u00a0" * 4) + "```") == ["one"]


EXERCISE = """def {}(
    x,
) -> float:
    \"\"\"
    Scales.

    >>> 1 + 1
    2
    \"\"\"

    return x * {}
"""


@pytest.mark.parametrize("wrap", ["````markdown\n{}\n````", "```markdown\n{}\n```", "```md\n{}", "\n~~~markdown\n{}\n~~~\n"])
def test_exercises_are_found_in_an_answer_that_is_wrapped_in_a_fence_of_its_own(wrap):
    block = "```python\ndef {0}(x):\n    \"\"\"Adds.\"\"\"\n    return x + 1\n```"
    answer = wrap.replace("{}", "Here:\n\n" + block.format("one") + "\n\n" + block.format("two").replace("\n```", "\n`````"))
    assert [name for name, *_ in prepare_data.exercises_in(answer)] == ["one", "two"]
    titled = "```markdown\n### Exercise 1\n```\n" + block.format("one") + "\n\n" + block.format("two")
    assert [name for name, *_ in prepare_data.exercises_in(titled) if name] == ["one", "two"]


@pytest.mark.parametrize("code, reason", [
    ("def f(x:\n  return", "does not parse"), ("x = 1", "no function"), ("class A:\n    'doc'\n    x = 1", "a class"),
    ("def f(x):\n    return x + 1", "no docstring"), ("def f(x):\n    'doc'", "no body"), ("def f(x):\n    'doc'\n    pass", "no body"),
    ("def f(x):\n    'doc'\n    raise NotImplementedError", "no body"), ("def f(x):\n    'doc'\n    return None", "no body"),
    ("import numpy as np\ndef f(x):\n    'doc'\n    return np.sum(x)", "imports outside the standard library"),
    ("def f(x):\n    'doc'\n    import pandas\n    return x + 1", "imports outside the standard library"),
    ("def f(x):\n    'doc'\n    return np.sum(x)", "uses a name that is not defined"),
    ("def f(x: List[int]):\n    'doc'\n    return sum(x)", "uses a name that is not defined"),
    ("def g(x):\n    'doc'\n    return x + 1\n\ndef f(x):\n    'doc'\n    return g(x)", "uses a name that is not defined"),
    ("async def f(x):\n    'doc'\n    return x + 1", "an async function"),
    ("def f(x):\n    '''doc\n    >>> " + "1+" * 600 + "1\n    601\n    '''\n    return x + 1", "nested too deeply"),
    ("def f(x):\n    '''doc\n    >>>f(1)\n    '''\n    return x + 1", "malformed examples")])
def test_what_is_no_exercise_is_dropped_with_its_reason(code, reason):
    assert [program for name, program, _ in prepare_data.exercises_in(f"```python\n{code}\n```") if name is None] == [reason]


def test_old_line_ends_and_numbers_of_many_digits_are_code_like_any_other():
    (name, program, _), = prepare_data.exercises_in("import os\rimport re\rdef f(x):\r    'doc'\r    return re.sub(x, x, os.sep)\r")
    assert name == "f" and program.startswith("import os\nimport re\n\n\ndef f")
    long = "def f(x):\n    'doc'\n" + "    x = x + 0x" + "f" * 5000 + "\n" + "    x = x + 1\n" * 20 + "    return x\n"
    assert not prepare_data.near_duplicate(long, prepare_data.Seen())


def test_what_a_pattern_binds_is_defined():
    code = "def f(x):\n    'doc'\n    match x:\n        case {'a': a, **rest}:\n            return a, rest\n        case [first, *others]:\n            return first, others\n"
    assert [name for name, _, _ in prepare_data.exercises_in(code)] == ["f"]


def test_near_duplicates_are_found_and_others_are_not():
    text = next(prepare_data.exercises_in(GOOD))[1]
    seen = prepare_data.Seen()
    assert not prepare_data.near_duplicate(text, seen)
    assert prepare_data.near_duplicate(text.replace("a comment", "the comment"), seen)
    assert not prepare_data.near_duplicate("def f(n):\n    '''Return the n-th square.'''\n    return n ** 2\n", seen)
    body = "    best = 0\n    for i, a in enumerate(xs):\n        for b in xs[i + 1:]:\n            if a + b > best and (a * b) % 3 == 0:\n                best = a + b\n    return best\n"
    assert not prepare_data.near_duplicate(f"def pairs(xs):\n    '''The largest sum of two numbers with a product that three divides.'''\n{body}", seen)
    renamed = body.replace("best", "top").replace("xs", "items")
    assert prepare_data.near_duplicate(f"def f(items):\n    '''Look at all pairs, and so on.'''\n{renamed}", seen)
    other = body.replace("best", "most").replace("xs", "prices").replace("% 3", "% 5")
    assert not prepare_data.near_duplicate(f"def g(prices):\n    '''What two goods may cost together at most, if it can be paid with fives.'''\n{other}", seen)


def exercise(i):
    return (f"def task_{i}(x):\n    \"\"\"Do step {i}.\n\n    >>> task_{i}({i})\n    {sum(range(i)) * 7 % (i + 3)}\n    \"\"\"\n    total_{i} = 0\n"
            f"    for k_{i} in range(x):\n        total_{i} += k_{i}\n    return total_{i} * 7 % {i + 3}\n")


def test_exercises_are_kept_when_their_examples_hold_and_asked_for_until_there_are_enough(tmp_path):
    def answer(prompt, turn=iter(range(1000))):
        i = 5 * next(turn)
        wrong = exercise(i + 1).replace(">>> ", ">>> 1 + ")
        endless = exercise(i + 2).replace(f"total_{i + 2} = 0", f"total_{i + 2} = 0\n    while x:\n        pass") if i == 5 else "no code\n"
        return "\n\n".join(f"```python\n{code}```" for code in (exercise(i), wrong, endless, exercise(i + 3)))
    with FakeOpenAI(answer=answer) as server:
        done = stage(server, "exercises", "--count", 40, "--model", "fake-1", "--out", tmp_path / "e.jsonl", "--workers", 2)
        assert done.returncode == 0, done.stderr
        kept = rows(tmp_path / "e.jsonl")
        assert len(kept) == 40 and {int(row["name"][5:]) % 5 for row in kept} == {0, 3} and all(ast.parse(row["text"]) for row in kept)
        assert "examples that do not hold" in done.stdout and "1 examples that end in timeout" in done.stdout and "does not parse" in done.stdout
        assert 20 <= len(server.log) <= 28, done.stdout
        again = stage(server, "exercises", "--count", 60, "--model", "fake-1", "--out", tmp_path / "e.jsonl", "--no_run")
        assert again.returncode == 0 and len(rows(tmp_path / "e.jsonl")) == 60 and "which were not run" in again.stdout


def test_answers_with_fewer_exercises_than_asked_for_are_named(tmp_path, client):
    with FakeOpenAI(answer=lambda prompt, turn=iter(range(1000)): f"```python\n{exercise(next(turn))}```") as server:
        done = stage(server, "exercises", "--count", 60, "--model", "fake-1", "--out", tmp_path / "e.jsonl", "--no_run")
    assert "4 fewer than asked for: an answer held 1.0 where 5 were asked for; --per_call 1" in done.stdout


# ---- decontaminate ---------------------------------------------------------------------------------------------------

PROBLEM = {"task_id": "Bench/1", "entry_point": "close_pairs", "test": "def check(candidate):\n    pass\n", "prompt": '''from typing import List


def close_pairs(numbers: List[float], threshold: float) -> bool:
    """ Tell whether in the given list of numbers any two neighbours in sorted order lie closer to each other than the given threshold.
    >>> close_pairs([1.0, 2.0, 3.0], 0.5)
    False
    """
''', "canonical_solution": '''    ordered = sorted(numbers)
    smallest = threshold
    count = 0
    for left, right in zip(ordered, ordered[1:]):
        if right - left < smallest:
            smallest = right - left
            count += 1
    return count > 0
'''}
WHOLE = PROBLEM["prompt"] + PROBLEM["canonical_solution"]


def renamed(code):
    for old, new in (("close_pairs", "f"), ("numbers", "xs"), ("threshold", "eps"), ("ordered", "s"), ("smallest", "m"), ("left", "a"), ("right", "b"), ("count", "n")):
        code = re.sub(rf"\b{old}\b", new, code)
    return code


REWORDED = WHOLE.replace(WHOLE[WHOLE.index('""" '):WHOLE.rindex('"""')], '"""Check if some values come nearer than eps.\n    ')
REORDERED = WHOLE.replace("    ordered = sorted(numbers)\n    smallest = threshold\n    count = 0\n", "    count = 0\n    smallest = threshold\n    ordered = sorted(numbers)\n")
NEW_BODY = PROBLEM["prompt"] + "    return len(set(numbers)) < len(numbers) or min(abs(a - b) for a in numbers for b in numbers if a != b) < threshold\n"
INNOCENT = ["def double(x):\n    \"\"\"Twice x.\"\"\"\n    while x:\n        x = {x: 2}\n    return [x]\n",
            "def merge(a, b):\n    \"\"\"Merge two sorted lists of numbers into one list that is sorted in the given order again, as in merge sort.\"\"\"\n    out = []\n"
            "    while a and b:\n        out.append(a.pop(0) if a[0] <= b[0] else b.pop(0))\n    return out + a + b\n"]


def decontaminated(tmp_path, texts, *more):
    write_rows(tmp_path / "bench.jsonl", [PROBLEM])
    write_rows(tmp_path / "e.jsonl", [{"text": text} for text in texts])
    command = ("decontaminate", tmp_path / "e.jsonl", "--against", tmp_path / "bench.jsonl", "--out", tmp_path / "c.jsonl", "--workers", 1, *more)
    prepare_data.main(list(map(str, command)))
    return [texts.index(row["text"]) for row in rows(tmp_path / "c.jsonl")]


def test_a_planted_problem_is_found_by_the_stage_that_should_and_innocents_stay(tmp_path, capsys):
    plants = [WHOLE, renamed(WHOLE), renamed(REWORDED), renamed(REORDERED), NEW_BODY]
    assert decontaminated(tmp_path, plants + INNOCENT, "--tau", 0.95) == [5, 6]
    output = capsys.readouterr().out
    assert "3 syntax" in output and "4 13-grams" in output
    row, = rows(tmp_path / "c.similar.jsonl")
    assert row == {"task_id": "Bench/1", "rate": 1.0, "similar": True, "found_by": ["13-grams", "syntax"], "line": 1, "closest": WHOLE}
    report = json.loads((tmp_path / "c.report.json").read_text())
    assert report["exercises"] == 7 and report["kept"] == 2 and report["at_tau"]["0.95"] == {"exercises": 3, "problems": 1}
    for tau, ngrams, expected in ((0.95, 0, [3, 4, 5, 6]),  # syntax alone finds neither the new body nor the rearranged statements
                                  (0.85, 0, [4, 5, 6]),     # a lower tau finds these
                                  (0, 1, [2, 5, 6])):       # 13-grams alone miss the reworded docstring
        (tmp_path / "c.jsonl").unlink()
        assert decontaminated(tmp_path, plants + INNOCENT, "--tau", tau, "--ngrams", ngrams) == expected


def test_a_copy_beside_another_function_or_inside_of_one_is_found_by_its_syntax(tmp_path):
    inside = "def outer(a):\n" + textwrap.indent(renamed(REWORDED), "    ") + "    return a + 1\n"
    beside = "def other(a, b):\n    while a % b:\n        a, b = b, a % b\n    return [a, b]\n\n\n" + renamed(REWORDED)
    before = renamed(REWORDED) + "\n\nif __name__ == '__main__':\n    print([i * i for i in range(9)])\n"
    method = "class Solution:\n" + textwrap.indent(renamed(REWORDED), "    ")
    assert decontaminated(tmp_path, [inside, beside, before, method] + INNOCENT, "--tau", 0.95, "--ngrams", 0) == [4, 5]


def test_copies_as_coroutines_and_of_two_functions_in_any_place_are_found():
    problem = prepare_data.Fingerprint("T/0", [], [[]], *prepare_data.node_types(ast.parse(TWO)))
    prepare_data.worker = prepare_data.setup_decontaminate([problem], 0.95, 0)
    for copy in (TWO, TWO + "if __name__ == '__main__':\n    print(b([1]))\n", "class C:\n    x = 1\n" + textwrap.indent(TWO, "    "),
                 "def outer():\n    y = 3\n" + textwrap.indent(TWO, "    ") + "    return b\n", TWO.replace("def ", "async def ")):
        assert max(rate for _, rate in prepare_data.syntax_rates(ast.parse(copy), 0.8)) == 1.0


TWO = """\
def a(n):
    if n < 2:
        return False
    for k in range(2, n - 1):
        if n % k == 0:
            return False
    return True

def b(xs):
    total, seen = 0, []
    for x in xs:
        if a(x) and x not in seen:
            seen.append(x)
            total += x * 2
    return total
"""


def test_embeddings_find_what_lies_close_when_asked(labelled, tmp_path, capsys):
    options = ("--tau", 0, "--ngrams", 0, "--encoder", labelled[0] / "tiny.pt", "--distance", 0.05, "--device", "cpu")
    assert decontaminated(tmp_path, [WHOLE, *INNOCENT], *options) == [1, 2]
    (tmp_path / "e.jsonl").write_text("\n\n" + (tmp_path / "e.jsonl").read_text())  # lines are counted alike with blank ones among them
    (tmp_path / "c.jsonl").unlink()
    prepare_data.main(["decontaminate", str(tmp_path / "e.jsonl"), "--against", str(tmp_path / "bench.jsonl"), "--out", str(tmp_path / "c.jsonl"), *map(str, options)])
    assert [row["text"] for row in rows(tmp_path / "c.jsonl")] == INNOCENT and "1 embedding" in capsys.readouterr().out
    row, = rows(tmp_path / "c.similar.jsonl")
    assert row["similar"] and row["distance"] < 0.01 and row["nearest_line"] == 3


def test_a_corrupt_line_among_exercises_is_counted_and_named(tmp_path, capsys):
    write_rows(tmp_path / "bench.jsonl", [PROBLEM])
    (tmp_path / "e.jsonl").write_text(json.dumps({"text": INNOCENT[0]}) + "\n{torn\n" + json.dumps({"text": "def ("}) + "\n")
    prepare_data.main(["decontaminate", str(tmp_path / "e.jsonl"), "--against", str(tmp_path / "bench.jsonl"), "--out", str(tmp_path / "c.jsonl")])
    output = capsys.readouterr().out
    assert "1 corrupt lines left out: 2 (not JSON)" in output and "1 are no Python" in output
    assert len(rows(tmp_path / "c.jsonl")) == 2


def slow_common_length(a, b):
    row = [0] * (len(b) + 1)
    for x in a:
        new = [0]
        for j, y in enumerate(b):
            new.append(row[j] + 1 if x == y else max(new[j], row[j + 1]))
        row = new
    return row[-1]


def test_the_match_rate_is_that_of_a_slow_longest_common_subsequence_and_pruning_loses_no_pair(monkeypatch):
    def types_in(*modules):
        for module in modules:
            with open(os.path.join(os.path.dirname(os.__file__), module)) as f:
                for code in (ast.unparse(node) for node in ast.walk(ast.parse(f.read())) if isinstance(node, ast.FunctionDef)):
                    yield code, *prepare_data.node_types(ast.parse(code))
    functions, types, details = map(list, zip(*types_in("textwrap.py", "heapq.py", "queue.py")))
    for code in functions[:20]:  # and somewhat longer ones, for rates between the taus
        functions.append(code + "\n    a = b + c[0]" * (len(functions) % 5))
        types.append(prepare_data.node_types(ast.parse(functions[-1]))[0])
        details.append(prepare_data.node_types(ast.parse(functions[-1]))[1])
    problems = [prepare_data.Fingerprint(f"p{i}", ["w"], [["w"]], types, details)
                for i, (_, types, details) in enumerate([*types_in("sched.py", "bisect.py"), *types_in("heapq.py")])]
    monkeypatch.setattr(prepare_data, "worker", prepare_data.setup_decontaminate(problems, 0.8, 1), raising=False)
    lines = [json.dumps({"text": code}).encode() for code in functions]
    kept, counts, _, _, nearer = prepare_data.decontaminate_task((0, "e.jsonl", 1, prepare_data.read_line, lines))

    def rate(a, b):
        return 2 * slow_common_length(a, b) / (len(a) + len(b)) if a or b else 1.0

    def strict(p, types, details):  # a small tree that is close must match in its details too
        small = len(p.types) < prepare_data.SMALL and rate(types, p.types) >= 0.8
        return min(rate(types, p.types), rate([*map(repr, details)], [*map(repr, p.details)])) if small else rate(types, p.types)
    rates = np.array([[strict(p, *both) for p in problems] for both in zip(types, details)])
    best = np.zeros(len(problems))
    for p, found, _, _ in nearer:
        best[p] = max(best[p], found)
    assert np.allclose(best, rates.max(0)) and (best < 0.8).any() and (best == 1).any()
    assert [counts[f"tau {tau}"] for tau in prepare_data.TAUS] == [int((rates.max(1) >= tau).sum()) for tau in prepare_data.TAUS]
    assert len(kept) == int((rates.max(1) < 0.8).sum())


def test_the_length_in_bits_of_an_integer_is_that_of_the_slow_table_for_any_sequences():
    rng = random.Random(1)
    for _ in range(200):
        a, b = ([rng.randrange(6) for _ in range(rng.randrange(1, 80))] for _ in range(2))
        masks = {x: sum(1 << i for i, y in enumerate(a) if y == x) for x in a}
        assert prepare_data.match_rate(masks, (1 << len(a)) - 1, b) == 2 * slow_common_length(a, b) / (len(a) + len(b))


def test_help_answers_at_once():
    started = time.process_time(), os.times().children_user
    assert "exercises" in run("prepare_data.py", "--help").stdout
    assert os.times().children_user - started[1] < 0.5  # of CPU time: other programs may be running


# ---- found by attack -------------------------------------------------------------------------------------------------

def test_a_file_has_one_writer_at_a_time_and_a_second_one_harms_nothing(tmp_path):
    path = str(tmp_path / "x.jsonl")
    with prepare_data.whole_file(path) as f:
        f.write(b"first\n")
        with pytest.raises(SystemExit, match="another run is writing"):
            with prepare_data.whole_file(path):
                pass
    assert open(path).read() == "first\n"


@pytest.mark.parametrize("fault, advice", [("misconfigured", "no backend is configured.*correct the server"),
                                           ("null", "raise --max_tokens"), ("context", "a longer context")])
def test_answers_that_may_be_the_servers_fault_stop_the_run_and_are_asked_again(tmp_path, client, monkeypatch, fault, advice):
    monkeypatch.setattr(prepare_data, "USELESS", 25)
    path = tmp_path / "a.jsonl"
    with FakeOpenAI() as server:
        send = server.chat
        server.chat = lambda handler, body, _: send(handler, body, fault if sum(server.answered.values()) >= 30 else None)
        with pytest.raises(SystemExit, match=f"answers can be used.*{advice}.*are kept in"):
            ask_all(client(server, concurrency=4), words(100), str(path))
        assert len(server.log) <= (60 if fault == "misconfigured" else 120)
        good = sum(server.answered.values())
    with FakeOpenAI() as server:
        answers = ask_all(client(server), words(100), copy(path))
        found = list(answers.read())
        assert sorted(record["about"]["i"] for record in found) == list(range(100))
        stored = sum("rejected" in record for record in found)  # that came in before the last good one: no more than were under way
        assert stored <= 3 and len(server.log) == 100 - good - stored


def copy(path):
    """The first Answers of a test still holds the lock of its file."""
    copied = path.with_name("copy-" + path.name)
    copied.write_bytes(path.read_bytes())
    return str(copied)


def test_a_single_refusal_of_unknown_cause_does_not_stop_the_run_and_is_asked_by_the_next_one(tmp_path, client, capsys):
    with FakeOpenAI() as server:
        send = server.chat
        server.chat = lambda handler, body, _: send(handler, body, "misconfigured" if body["messages"][0]["content"].endswith("9") else None)
        assert len(ask_all(client(server), words(50), str(tmp_path / "a.jsonl")).done) == 45
        assert "5 prompts got no answer that can be used (5 HTTP 400: no backend" in capsys.readouterr().out
        server.chat, asked = send, len(server.log)
        assert len(ask_all(client(server), words(50), copy(tmp_path / "a.jsonl")).done) == 50 and len(server.log) == asked + 5


def test_settings_may_change_as_long_as_no_answer_is_of_use_and_the_cost_is_not_forgotten(tmp_path, client, monkeypatch):
    monkeypatch.setattr(prepare_data, "USELESS", 25)
    path = tmp_path / "a.jsonl"
    with FakeOpenAI(always="length") as server:
        with pytest.raises(SystemExit, match="raise --max_tokens .now 50"):
            ask_all(client(server), words(100), str(path))
    spent = sum(row.get("usd", 0) for row in rows(path))
    with FakeOpenAI() as server:
        asking = client(server, max_tokens=900)
        answers = ask_all(asking, words(20), copy(path))
        assert len(answers.done) == 20 and answers.usd > spent > 0
        assert Answers(copy(tmp_path / "copy-a.jsonl"), asking.settings).usd == pytest.approx(answers.usd)


@pytest.mark.parametrize("body, says", [(b"<html><title>Sign in</title>...", "a web page, 'Sign in'"), (b'{"result": "ok"}', "result"),
                                        (b"OK, proxy here", "OK, proxy here")])
def test_what_is_no_api_is_said_at_once_with_its_address(tmp_path, client, monkeypatch, body, says):
    monkeypatch.setattr(prepare_data.random, "uniform", lambda a, b: a / 5)  # shorter waits
    with FakeOpenAI() as server:
        server.chat = lambda handler, *_: server.send(handler, 200, body)
        with pytest.raises(SystemExit, match=f"^{server.url} answers, but not as OpenAI's API does: .*{says}.*OPENAI_BASE_URL"):
            ask_all(client(server, concurrency=4), words(100), str(tmp_path / "a.jsonl"))
        assert len(server.log) <= 12  # three tries of each of four requests


@pytest.mark.parametrize("fault", ["nul", "surrogate"])
def test_answers_with_broken_characters_are_rejected(tmp_path, client, fault):
    with FakeOpenAI(always=fault) as server:
        records = list(ask_all(client(server), words(2), str(tmp_path / "a.jsonl")).read())
        assert [record["rejected"] for record in records] == ["broken characters"] * 2 and len(server.log) == 6


def test_a_damaged_line_among_the_answers_is_counted_whatever_it_holds(tmp_path, client, capsys):
    lines = [b'{"key": 1}', b'[]', b'"x"', b'{"key": "x", "about": {}, "text": "t", "tokens": null, "usd": 0}', b"\xff\xfe", b"[" * 100_000,
             b'{"key": "x", "about": {}, "text": "t", "tokens": [1, 2], "usd": "1"}', b'{"key": "x", "about": 3, "text": "t"}',
             b'{"key": "x", "about": {}, "text": 5, "tokens": [1, 2], "usd": 0}', b'{"settings": 1}']
    with FakeOpenAI() as server:
        path, asking = tmp_path / "a.jsonl", client(server)
        ask_all(asking, words(3), str(path)).file.close()
        path.write_bytes(path.read_bytes() + b"\n".join(lines) + b"\n")
        assert len(list(ask_all(asking, words(3), str(path)).read())) == 3 and len(server.log) == 3
        assert f"{path}: 10 corrupt lines left out: 5 (no 'key'), 6 (no object), 7 (no object), 8 (no 'tokens'" in capsys.readouterr().out


def test_a_damaged_first_line_or_note_of_batches_is_one_line(tmp_path, client):
    with FakeOpenAI() as server:
        asking, path = client(server), tmp_path / "a.answers.jsonl"
        path.write_text('{torn\n{"text": "of somebody else"}\n')
        with pytest.raises(SystemExit, match="does not begin with the settings.*another --out"):
            ask_all(asking, words(3), str(path))
        path.write_text('{"text": "of somebody else, without an end of line"}')
        with pytest.raises(SystemExit, match="does not begin with the settings"):
            ask_all(asking, words(3), str(path))
        assert path.read_text().endswith('end of line"}')  # untouched
        for i, note in enumerate(("{torn", "[1]", '[{"keys": []}]')):
            (tmp_path / f"{i}.batches.json").write_text(note)
            with pytest.raises(SystemExit, match=f"{i}.batches.json.*is damaged.*remove it"):
                ask_all(asking, words(3), str(tmp_path / f"{i}.answers.jsonl"), batch=True)


def test_short_innocents_stay_and_short_copies_go(tmp_path, monkeypatch):
    problem = {"task_id": "Small/1", "entry_point": "last_digit", "test": "def check(candidate):\n    pass\n",
               "prompt": "def last_digit(n):\n    ''' Last digit of n. '''\n", "canonical_solution": "    return abs(n) % 10\n"}
    monkeypatch.setitem(globals(), "PROBLEM", problem)
    copies = [problem["prompt"] + problem["canonical_solution"], "def f(number):\n    '''What a number ends in.'''\n    return abs(number) % 10\n"]
    innocent = ["def g(x):\n    '''Is it odd?'''\n    return len(x) % 2\n", "def g(x):\n    '''A day of the week.'''\n    return int(x) % 7\n"]
    assert decontaminated(tmp_path, copies + innocent, "--tau", 0.95) == [2, 3]
    row, = rows(tmp_path / "c.similar.jsonl")
    assert row["similar"] and row["found_by"] == ["syntax"] and row["rate"] == 1.0


def test_two_versions_of_a_problem_under_one_name_are_both_looked_for(tmp_path):
    other = PROBLEM | {"prompt": "def close_pairs(a, b):\n    \"\"\" Another text. \"\"\"\n", "canonical_solution": "    while a:\n        a = {b: [a]}\n    return not a\n"}
    write_rows(tmp_path / "other.jsonl", [other])
    texts = [WHOLE, other["prompt"] + other["canonical_solution"], *INNOCENT]
    assert decontaminated(tmp_path, texts, "--against", tmp_path / "bench.jsonl", tmp_path / "other.jsonl") == [2, 3]
    assert [row["task_id"] for row in rows(tmp_path / "c.similar.jsonl")] == ["Bench/1"]


def test_a_solution_that_is_no_python_is_named(tmp_path):
    write_rows(tmp_path / "bench.jsonl", [PROBLEM | {"canonical_solution": "    return (numbers\n"}])
    write_rows(tmp_path / "e.jsonl", [{"text": WHOLE}])
    with pytest.raises(SystemExit, match="Bench/1: its canonical solution is no Python"):
        prepare_data.main(["decontaminate", str(tmp_path / "e.jsonl"), "--against", str(tmp_path / "bench.jsonl"), "--out", str(tmp_path / "c.jsonl")])


def test_rank_0_embeds_the_problems_by_itself_however_many_they_are(labelled, tmp_path, monkeypatch):
    problems = [prepare_data.namedtuple("P", "task_id prompt canonical")(str(i), f"def f{i}", "()") for i in range(5)]
    monkeypatch.setattr(prepare_data, "BLOCK", 2)
    write_rows(tmp_path / "e.jsonl", [{"text": "def f3()"}, {"text": "x"}])
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(prepare_data.time, "sleep", lambda _: pytest.fail("it waits for a rank that has ended"))
    args = argparse.Namespace(exercises=str(tmp_path / "e.jsonl"), encoder=str(labelled[0] / "tiny.pt"), device="cpu", distance=0.01)
    close, nearest = prepare_data.near_embeddings(args, problems)
    assert close == {1: "3"} and nearest["3"]["nearest_line"] == 1


def test_a_docstring_copied_without_its_examples_is_found(tmp_path, monkeypatch):
    examples = "".join(f"    >>> close_pairs([{i}.0, {i + 2}.0, {i + 5}.0, {i}.5], 0.{i})\n    False\n" for i in range(1, 9))
    head, _, _ = PROBLEM["prompt"].partition("    >>>")
    monkeypatch.setitem(globals(), "PROBLEM", PROBLEM | {"prompt": head + examples + '    """\n'})
    assert decontaminated(tmp_path, [head + '    """\n    while x:\n        x = {x: y}\n    return [x]\n', *INNOCENT]) == [1, 2]


def test_the_text_of_a_record_is_its_first_field_that_holds_text():
    read = prepare_data.read_line
    assert read(b'{"text": 3, "content": "x"}', ("text", "content")) == "x" and read(b'{"text": "t", "content": "x"}', ("text", "content")) == "t"
    with pytest.raises(ValueError, match="no 'text' or 'content'"):
        read(b'{"code": "x"}', ("text", "content"))


def test_parquet_is_read_by_column_also_a_nested_or_binary_one(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts = [f"x{i} = {i}\n" for i in range(25)]
    pq.write_table(pa.table({"size": [1] * 25, "content": texts}), tmp_path / "stack.parquet", row_group_size=10)
    pq.write_table(pa.table({"file": pa.array([{"code": text.encode(), "n": 1} for text in texts] + [None])}), tmp_path / "nested.parquet")
    for name, fields, expected in (("stack", prepare_data.FIELDS, texts), ("nested", ["file.code"], texts + [""])):
        blocks = list(prepare_data.parquet_rows(str(tmp_path / f"{name}.parquet"), fields))
        assert [text for _, _, block in blocks for text in block] == expected and blocks[0][1] == 1
    with pytest.raises(SystemExit, match="holds no text; --field names another of size, content"):
        list(prepare_data.parquet_rows(str(tmp_path / "stack.parquet"), ["size"]))


@pytest.mark.parametrize("opening, closing", [("```python", "```"), ("```python3", "```"), ('```python title="a.py"', "```"), ("~~~python", "~~~"),
                                              ("1. ```python", "```"), ("```", "")])
def test_an_exercise_is_found_in_every_kind_of_fence(opening, closing):
    body = 'def f(x: int) -> int:\n    """Add one to x.\n\n    >>> f(1)\n    2\n    """\n    return x + 1\n'
    (found,) = prepare_data.exercises_in(f"Here it is:\n{opening}\n{body}{closing}\n")
    assert found[0] == "f", found


def test_a_wait_that_is_no_number_is_not_waited_for():
    assert prepare_data.retry_after({"retry-after": "nan"}) is None and prepare_data.retry_after({"retry-after": "inf"}) is None
    assert prepare_data.retry_after({"retry-after": "1.5"}) == 1.5
