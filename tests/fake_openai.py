"""
A server with OpenAI's API on loopback, real HTTP, that answers as told and fails as told.

    with FakeOpenAI(answer=lambda prompt: "Fine. Educational score: 3", faults=("503", "cut"), fault_rate=0.3) as server:
        server.env                 # the environment that leads a program to it
        server.answered            # Counter of prompts that were answered well; server.log: everything that came in
"""
import collections
import email.utils
import itertools
import json
import random
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PASSING = ("429", "429 ms", "429 date", "500", "502 html", "503", "408", "409", "cut before", "cut within", "torn json", "empty", "not json", "no choices")
KEY = "sk-test-0123456789abcdef"


class FakeOpenAI:
    def __init__(self, answer=lambda prompt: f"About {prompt}", faults=(), fault_rate=0.0, seed=0, delay=0.0, finish=lambda prompt: "stop",
                 refuse=(), style="openai", models=("fake-1", "fake-mini"), usage=True, always=None, batch_polls=1, batch_expire=0.0,
                 cut_batch_create=0, fault_tries=1 << 60, slow=0.0):
        self.__dict__.update(locals())
        self.random, self.lock = random.Random(seed), threading.Lock()
        self.answered, self.failed, self.log, self.headers = collections.Counter(), collections.Counter(), [], []
        self.files, self.batches, self.numbers = {}, {}, itertools.count(1)
        self.at_work = self.most_at_work = 0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.handle_one()

            do_POST = do_GET

            def handle_one(self):
                data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with fake.lock:
                    fake.log.append((time.monotonic(), self.command, self.path))
                    fake.headers.append(dict(self.headers))
                    fake.at_work += 1
                    fake.most_at_work = max(fake.most_at_work, fake.at_work)
                try:
                    fake.reply(self, data)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                finally:
                    with fake.lock:
                        fake.at_work -= 1

        class Server(ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 256

            def handle_error(self, *_):
                pass

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        self.env = {"OPENAI_BASE_URL": self.url, "OPENAI_API_KEY": KEY}

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    # ---- answers

    def send(self, handler, status, body, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in headers:
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def error(self, handler, status, message, code=None, param=None, headers=()):
        self.send(handler, status, {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": param}}, headers)

    def reply(self, handler, data):
        path = handler.path.split("?")[0].removeprefix("/v1")
        if path == "/models":
            return self.send(handler, 200, {"object": "list", "data": [{"id": name} for name in self.models]})
        fault = self.always
        if not fault:
            with self.lock:
                if self.faults and self.random.random() < self.fault_rate:
                    fault = self.random.choice(self.faults)
        if path == "/chat/completions":
            body = json.loads(data)
            if fault and not self.always:
                self.failed[data] += 1
                fault = fault if self.failed[data] <= self.fault_tries else None
            if self.refused(handler, body):
                return None
            return self.chat(handler, body, fault)
        if fault and path != "/files":
            return self.fail(handler, fault, {})
        if path == "/files":
            name, content = next(self.numbers), re.search(rb"\r\n\r\n(\{.*?\})\s*\r\n--", data, re.S)[1]
            self.files[f"file-{name}"] = content
            return self.send(handler, 200, {"id": f"file-{name}", "object": "file"})
        if path.startswith("/files/"):
            return self.send(handler, 200, self.files[path.split("/")[2]])
        if path == "/batches" and handler.command == "POST":
            return self.new_batch(handler, json.loads(data))
        if path == "/batches":
            return self.send(handler, 200, {"object": "list", "data": [self.shown(b) for b in self.batches.values()], "has_more": False})
        return self.send(handler, 200, self.shown(self.batches[path.split("/")[2]], poll=True))

    def refused(self, handler, body):
        if body["model"] not in self.models:
            self.error(handler, 404, f"The model `{body['model']}` does not exist", "model_not_found")
            return True
        for name in self.refuse:
            if name in body:
                if self.style == "openai":
                    self.error(handler, 400, f"Unsupported parameter: '{name}' is not supported with this model.", "unsupported_parameter", name)
                elif self.style == "old":
                    self.error(handler, 400, f"Unrecognized request argument supplied: {name}")
                elif self.style == "text":
                    self.send(handler, 400, f"Bad Request: {name} is not a field that I know; got {json.dumps(body)}".encode())
                else:  # FastAPI
                    self.send(handler, 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}]})
                return True
        return False

    def chat(self, handler, body, fault):
        prompt = body["messages"][0]["content"]
        time.sleep(self.delay)
        if self.slow and self.random.random() < 0.02:
            time.sleep(self.slow)
        whole = self.completion(prompt)
        if fault:
            return self.fail(handler, fault, whole)
        with self.lock:  # before it is sent: the client may be done, and the test look, as soon as it has it
            if whole["choices"][0]["finish_reason"] == "stop":
                self.answered[prompt] += 1
        self.send(handler, 200, whole)

    def completion(self, prompt):
        text = self.answer(prompt)
        usage = {"usage": {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(text) // 4}} if self.usage else {}
        return {"id": "x", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": text},
                                                                     "finish_reason": self.finish(prompt)}], **usage}

    def fail(self, handler, fault, whole):
        data = json.dumps(whole).encode()
        if fault == "429":
            self.error(handler, 429, "Rate limit reached", "rate_limit_exceeded", headers=[("Retry-After", "0.05")])
        elif fault == "429 ms":
            self.error(handler, 429, "Slow down", "slow_down", headers=[("retry-after-ms", "40")])
        elif fault == "429 date" and self.failed["date"] > 2:  # dates have whole seconds: not too many of them
            self.fail(handler, "429 ms", whole)
        elif fault == "429 date":
            self.failed["date"] += 1
            self.error(handler, 429, "Rate limit reached", "rate_limit_exceeded", headers=[("Retry-After", email.utils.formatdate(time.time() + 1, usegmt=True))])
        elif fault == "quota":
            self.error(handler, 429, f"You exceeded your current quota, key {KEY}", "insufficient_quota")
        elif fault == "401":
            self.error(handler, 401, f"Incorrect API key provided: {KEY}", "invalid_api_key")
        elif fault == "context":
            self.error(handler, 400, "This model's maximum context length is 4096 tokens; your max_tokens is too high", "context_length_exceeded", "messages")
        elif fault == "502 html":
            self.send(handler, 502, b"<html><body><h1>502 Bad Gateway</h1></body></html>")
        elif fault in ("408", "409", "500", "503"):
            self.error(handler, int(fault), "The server had an error")
        elif fault == "cut before":
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
        elif fault == "cut within":
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data) + 10))
            handler.end_headers()
            handler.wfile.write(data[:len(data) // 2])
            handler.close_connection = True
        elif fault == "torn json":
            self.send(handler, 200, data[:len(data) // 2])
        elif fault == "empty":
            self.send(handler, 200, b"")
        elif fault == "not json":
            self.send(handler, 200, b"<html>captive portal</html>")
        elif fault == "no choices":
            self.send(handler, 200, {"object": "chat.completion", "choices": []})
        elif fault == "hang":
            time.sleep(2.5)
            handler.close_connection = True
        elif fault == "misconfigured":
            self.send(handler, 400, b"no backend is configured for this route")
        elif fault in ("null", "length", "content_filter", "nul", "surrogate"):
            content = {"null": None, "nul": "a\0b", "surrogate": "a\ud800b"}
            whole["choices"][0]["message"]["content"] = content.get(fault, whole["choices"][0]["message"]["content"][:5])
            whole["choices"][0]["finish_reason"] = "stop" if fault in content else fault
            self.send(handler, 200, whole)
        else:
            raise ValueError(fault)

    # ---- batches

    def new_batch(self, handler, body):
        with self.lock:
            name = f"batch_{next(self.numbers)}"
            self.batches[name] = {"id": name, "input_file_id": body["input_file_id"], "polls": 0, "out": None}
            cut, self.cut_batch_create = self.cut_batch_create > 0, self.cut_batch_create - 1
        time.sleep(self.delay)
        if cut:  # the batch is made (and paid), the answer lost
            return self.fail(handler, "cut before", {})
        return self.send(handler, 200, self.shown(self.batches[name]))

    def shown(self, batch, poll=False):
        batch["polls"] += poll
        view = {"id": batch["id"], "object": "batch", "input_file_id": batch["input_file_id"], "status": "in_progress"}
        if batch["polls"] > self.batch_polls:
            with self.lock:
                if not batch["out"]:
                    self.run_batch(batch)
            view |= {"status": "completed", **batch["out"]}
        return view

    def run_batch(self, batch):
        good, bad = [], []
        lines = self.files[batch["input_file_id"]].splitlines()
        self.random.shuffle(lines)  # the order is not kept
        for line in map(json.loads, lines):
            prompt, refused = line["body"]["messages"][0]["content"], [name for name in self.refuse if name in line["body"]]
            row = {"id": "r", "custom_id": line["custom_id"], "error": None}
            if refused:
                bad.append(row | {"response": {"status_code": 400, "body": {"error": {"message": f"Unsupported parameter: '{refused[0]}'",
                                  "code": "unsupported_parameter", "param": refused[0]}}}})
            elif self.random.random() < self.batch_expire or self.finish(prompt) == "expired":
                bad.append(row | {"response": None, "error": {"code": "batch_expired", "message": "This request could not be executed in time"}})
            elif self.finish(prompt) == "refused":
                bad.append(row | {"response": {"status_code": 400, "body": {"error": {"message": "content policy", "code": "content_policy_violation"}}}})
            else:
                good.append(row | {"response": {"status_code": 200, "body": self.completion(prompt)}})
                self.answered[prompt] += 1
        batch["out"] = {"request_counts": {"total": len(lines), "completed": len(good), "failed": len(bad)}}
        for name, rows in (("output_file_id", good), ("error_file_id", bad)):
            if rows:
                file = f"file-{next(self.numbers)}"
                self.files[file] = "".join(json.dumps(row) + "\n" for row in rows).encode()
                batch["out"][name] = file
