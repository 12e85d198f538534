"""
Tests of sandbox.py. The hostile and odd programs stand in sandbox_programs.py; here they are judged with and without namespaces, a part
of them also by one worker and (for root) as nobody, and afterwards nothing of them may be left.

PHI1_BENCHMARKS names a folder with HumanEval.jsonl.gz, for one of its helpers.
"""
import gzip
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]
import sandbox
import sandbox_programs
from sandbox import Program, Sandbox, SandboxError
from sandbox_programs import ADD, PROGRAMS

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="isolation needs Linux")
GOOD = Program(ADD, "assert f(2) == 3", "f")
SLEEP = Program("import time\ntime.sleep(100)", "", timeout=50)


@pytest.fixture(scope="session", autouse=True)
def temporary_folder():
    """A folder for temporary files that others do not use meanwhile."""
    folder, before = tempfile.mkdtemp(), os.environ.get("TMPDIR")
    os.chmod(folder, 0o1777)
    os.environ["TMPDIR"], tempfile.tempdir = folder, folder
    yield
    tempfile.tempdir = None
    os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)
    shutil.rmtree(folder)


def processes():
    """The processes that run our sandbox.py: helpers, tests and candidates."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if os.path.abspath(sandbox.__file__).encode() in f.read().split(b"\0"):
                    found.add(int(pid))
        except OSError:
            pass
    return found


def traces():
    """All that a program might leave behind: processes, files, descriptors, mounts."""
    files = sorted(os.listdir(tempfile.gettempdir()) + os.listdir("/dev/shm") + os.listdir("/var/tmp"))
    with open("/proc/self/mounts") as f:
        return dict(processes=processes(), files=[name for name in files if "sandbox" in name or name in ("escaped", "left")],
                    descriptors=sorted(os.listdir("/proc/self/fd")), mounts=f.read())


def test_where_memory_ends_the_kernel_takes_a_helper_and_not_the_caller():
    with Sandbox(1) as box:
        list(box.judge([GOOD]))
        scores = {open(f"/proc/{pid}/oom_score_adj").read().strip() for pid in processes()}
    assert scores == {"1000"}


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_program_without_time_is_refused(seconds):
    with Sandbox(1) as box, pytest.raises(ValueError, match=f"timeout is {seconds}"):
        list(box.judge([GOOD._replace(timeout=seconds)]))


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def wrong(verdicts, programs=PROGRAMS):
    """The verdicts that are not as the table says."""
    rows = []
    for (name, _, _, expected, *text), (judged, status, reason) in zip(programs, verdicts, strict=True):
        statuses = expected if isinstance(expected, tuple) else (expected,)
        if name != judged or status not in statuses or text and text[0] not in reason:
            rows.append((name, status, reason, "expected", expected, *text))
    return rows


@pytest.fixture(scope="module", params=[True, False], ids=["with namespaces", "without namespaces"])
def judged(request):
    """The whole table, judged by two workers."""
    before = traces()
    level, verdicts = sandbox_programs.verdicts(2, request.param)
    return request.param, level, verdicts, before, traces()


@pytest.fixture(scope="module")
def box():
    with Sandbox(workers=2) as box:
        yield box


def judge(box, *programs):
    verdicts = dict(box.judge(programs))
    return [verdicts[i] for i in range(len(programs))]


def test_the_table_holds_at_least_sixty_hostile_programs():
    assert len({row[0] for row in PROGRAMS}) == len(PROGRAMS)
    assert sum("passed" != row[3] for row in PROGRAMS) >= 60


def test_every_hostile_and_odd_program_gets_the_right_verdict(judged):
    assert wrong(judged[2]) == []


def test_the_level_says_what_is_switched_on(judged):
    assert judged[1].startswith("namespaces") == judged[0] and "seccomp" in judged[1] and judged[1].endswith("rlimits")


def test_nothing_is_left_of_the_hostile_programs(judged):
    assert judged[3] == judged[4]


def test_verdicts_are_the_same_for_one_worker_and_for_two(judged):
    quick = [i for i, row in enumerate(PROGRAMS) if row not in sandbox_programs.RESOURCES and isinstance(row[3], str)][judged[0]::4]
    programs = list(sandbox_programs.programs())
    with Sandbox(1, memory_mb=512, namespaces=judged[0]) as box:
        again = judge(box, *(programs[i] for i in quick))
    assert [judged[2][i][1:] for i in quick] == [v[:2] for v in again]


def test_the_console_stays_clean():
    run = subprocess.run([sys.executable, os.path.join(HERE, "sandbox_programs.py"), "workers=2", "namespaces=1", "only=terminal"],
                         capture_output=True, text=True, check=True)
    assert run.stderr == "" and run.stdout.count("\n") == 1 and run.stdout.isascii() and "\x1b" not in run.stdout
    assert [v[1] for v in json.loads(run.stdout)[1]] == ["failed"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become nobody")
@pytest.mark.parametrize("namespaces", [1, 0], ids=["with namespaces", "without namespaces"])
def test_nobody_gets_the_same_verdicts(namespaces):
    folder = tempfile.mkdtemp()  # our own folders may be closed to nobody
    os.chmod(folder, 0o755)
    try:
        for path in (sandbox.__file__, sandbox_programs.__file__):
            os.makedirs(os.path.join(folder, "tests"), exist_ok=True)
            shutil.copy(path, os.path.join(folder, "tests") if path == sandbox_programs.__file__ else folder)
        script = os.path.join(folder, "tests", "sandbox_programs.py")
        for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
            as_nobody = dict(user=65534, group=65534, extra_groups=[], cwd="/", capture_output=True, text=True)
            try:
                if subprocess.run([python, "-c", "import sys; assert sys.version_info >= (3, 10)"], **as_nobody).returncode == 0:
                    break
            except OSError:
                pass
        else:
            pytest.skip("no Python 3.10 that nobody may run")
        run = subprocess.run([python, script, "workers=2", f"namespaces={namespaces}", "step=4"], **as_nobody)
        assert run.returncode == 0 and run.stderr == "", run.stderr
        level, verdicts = json.loads(run.stdout)
        assert level.startswith("namespaces") or not namespaces
        assert wrong(verdicts, PROGRAMS[::4]) == []
    finally:
        shutil.rmtree(folder)


# ---- the benchmarks: that all canonical solutions pass and all stubs fail is in test_eval.py

def test_a_helper_in_the_prompt_cannot_be_replaced(box):
    path = os.path.join(os.environ.get("PHI1_BENCHMARKS", ""), "HumanEval.jsonl.gz")
    if not os.path.exists(path):
        pytest.skip("PHI1_BENCHMARKS names no folder with HumanEval.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as f:
        row, = (row for row in map(json.loads, f) if row["entry_point"] == "find_zero")
    code = row["prompt"] + "    global poly\n    poly = lambda *a: 0\n    return 0.0\n"
    assert judge(box, Program(code, f"{row['test']}\ncheck(find_zero)\n", "find_zero", 10, row["prompt"]))[0].status == "failed"


# ---- the harness

def test_programs_are_taken_lazily_and_all_are_answered(box):
    taken = []
    def programs():
        for i in range(20):
            taken.append(i)
            yield GOOD
    judging = box.judge(programs())
    next(judging)
    assert len(taken) <= 4
    assert len(list(judging)) == 19 and len(taken) == 20


def test_leaving_in_the_middle_does_not_mix_up_later_verdicts(box):
    for i, _ in box.judge([GOOD, SLEEP._replace(timeout=0.5), SLEEP._replace(timeout=0.5)]):
        break
    assert [v.status for v in judge(box, GOOD, GOOD._replace(code="def f(x): return x"), GOOD)] == ["passed", "failed", "passed"]


def test_a_helper_that_dies_is_replaced_and_the_program_judged_again(box):
    def programs():
        yield GOOD
        for helper in list(box.helpers):
            helper.kill()
        yield GOOD
        yield GOOD
    assert [v.status for v in judge(box, *[GOOD] * 2)] == ["passed"] * 2
    assert [v.status for _, v in box.judge(programs())] == ["passed"] * 3


def test_a_harness_that_keeps_failing_raises_and_blames_nobody(monkeypatch):
    with Sandbox(workers=1) as box:
        start = box.start
        def start_and_kill():
            helper = start()
            helper.kill()
            return helper
        monkeypatch.setattr(box, "start", start_and_kill)
        box.helpers[0].kill()
        with pytest.raises(SandboxError, match="program 0: a helper process died"):
            judge(box, GOOD)


def test_a_helper_without_descriptors_is_an_error_of_the_harness():
    with Sandbox(workers=1, namespaces=False) as box:
        resource.prlimit(box.helpers[0].pid, resource.RLIMIT_NOFILE, (3, 3))
        first = box.helpers[0]
        assert [v.status for v in judge(box, GOOD, GOOD, GOOD)] == ["passed"] * 3
        assert box.helpers[0] is not first


@pytest.mark.parametrize("namespaces", [True, False], ids=["with namespaces", "without namespaces"])
@pytest.mark.parametrize("victim", ["helper", "caller"])
def test_nothing_outlives_a_killed_helper_or_caller(victim, namespaces):
    before = traces()
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from sandbox import *\n"
            f"box = Sandbox(1, namespaces={namespaces})\n"
            "print(box.helpers[0].pid, flush=True)\n"
            "list(box.judge([Program('import threading\\nwhile True: pass', '', timeout=50)]))\n")
    caller = subprocess.Popen([sys.executable, "-c", code, os.path.dirname(sandbox.__file__)],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    helper = int(caller.stdout.readline())
    time.sleep(0.3)
    inside = processes() - before["processes"]
    assert len(inside) == 3  # helper, tests, candidate
    os.kill(caller.pid if victim == "caller" else helper, signal.SIGKILL)
    wait_until(lambda: not inside & processes())
    caller.kill()
    caller.wait()
    caller.stdout.close()
    wait_until(lambda: not processes() - before["processes"])
    if victim == "caller":
        assert traces() == before
    for name in set(traces()["files"]) - set(before["files"]):  # killed both: the one case in which a folder stays
        os.rmdir(os.path.join(tempfile.gettempdir(), name))


def test_a_system_without_isolation_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", without_isolation(subprocess.Popen))
    with pytest.raises(SandboxError, match="^untrusted programs need Linux with Landlock and seccomp.*this system offers rlimits") as error:
        Sandbox(workers=1)
    assert "\n" not in str(error.value)
    with Sandbox(workers=1, allow_unsafe=True) as box:
        assert box.level == "rlimits"
        assert [v.status for v in judge(box, GOOD, SLEEP._replace(timeout=0.5), GOOD)] == ["passed", "timeout", "passed"]


def without_isolation(popen):
    def start(command, **options):
        script = "import sys, platform; platform.machine = lambda: 'riscv64'; exec(open(sys.argv.pop(1)).read())"
        at = command.index(os.path.abspath(sandbox.__file__))
        return popen(command[:at] + ["-c", "import sys; sys.path.insert(0, '')\n" + script] + command[at:], **options)
    return start


def test_the_environment_hides_secrets(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "1234")
    code = "import os\nX = sorted(os.environ)\nTEXT = str(os.environ)"
    with Sandbox(workers=1) as box:
        assert judge(box, Program(code, "assert 'SECRET_TOKEN' not in X and '1234' not in TEXT"))[0].status == "passed"


def test_asserts_of_earlier_programs_are_not_in_the_memory_of_a_candidate():
    """A candidate reads all of its own memory: nothing can forbid that. It knows the mark shifted by a letter, or it would find that."""
    search = ("import ctypes, gc, os\n"
              "shift, libc, (r, w) = bytes(range(1, 256)) + b'\\0', ctypes.CDLL(None), os.pipe()\n"
              "def f(shifted):\n"
              "    found, here = 0, id(gc) & ~0xFFF\n"
              "    for page in range(here - (64 << 20), here + (64 << 20), 4096):\n"
              "        if libc.write(w, ctypes.c_void_p(page), 4096) == 4096:\n"
              "            found += shifted.encode() in os.read(r, 4096).translate(shift)\n"
              "    return found > 0\n")
    def shifted(mark):
        return "".join(chr(ord(c) + 1) for c in mark)
    first = Program("def f(x): return 0", "assert f(1) == 1, 'mark_one'", "f")
    second = Program(search, f"assert f({shifted('mark_one')!r}) is False", "f", 20)
    third = Program(search + "kept = 'mark_two'\n", f"assert f({shifted('mark_two')!r})", "f", 20)  # the search does find things
    with Sandbox(workers=1) as box:
        assert [v.status for v in judge(box, first, second, third)] == ["failed", "passed", "passed"]


def test_signals_that_the_caller_ignores_or_blocks_reach_the_tests():
    code = ("import signal, sys; sys.path.insert(0, sys.argv[1]); from sandbox import *\n"
            "signal.signal(signal.SIGALRM, signal.SIG_IGN), signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
            "with Sandbox(1) as box: print(*[v.status for _, v in box.judge([Program('while True: pass', '', timeout=0.2)])])\n")
    run = subprocess.run([sys.executable, "-c", code, os.path.dirname(sandbox.__file__)], capture_output=True, text=True, timeout=30)
    assert (run.stdout, run.stderr) == ("timeout\n", "")


def test_a_lost_helper_is_replaced_and_a_machine_without_descriptors_is_no_fault_of_the_program():
    with Sandbox(workers=2) as box:
        for helper in box.helpers:
            helper.kill()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), limits[1]))
        try:
            with pytest.raises(SandboxError, match="cannot be started: .*Too many open files"):
                judge(box, GOOD, GOOD)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert [v.status for v in judge(box, GOOD, GOOD, GOOD)] == ["passed"] * 3


def test_leaving_ends_programs_that_still_run():
    time.sleep(1)  # until the helpers of other tests have the processes of their next programs
    before, start = traces(), time.monotonic()
    with Sandbox(workers=3) as another:
        next(another.judge([GOOD, SLEEP, SLEEP, SLEEP]))
    assert time.monotonic() - start < 8 and traces() == before  # SLEEP takes 50 s


def test_system_call_numbers_are_those_of_the_kernel_headers():
    for column, path in enumerate(["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm-generic/unistd.h"]):
        if not os.path.exists(path):
            pytest.skip(f"no {path} here")
        with open(path) as f:
            numbers = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", f.read())}
        words = sandbox.DENIED.split()
        ours = {name: int(number) for name, number in zip(words[::3], words[1 + column::3])}
        ours.update((row[0], row[1 + column]) for row in sandbox.CHECKED)
        assert ours == {name: numbers.get(name, -1) for name in ours}


def test_many_programs_a_second(box):
    start = time.perf_counter()
    assert {v.status for _, v in box.judge([GOOD] * 200)} == {"passed"}
    rate = 200 / (time.perf_counter() - start)
    print(f"{rate:.0f} programs/s")
    assert rate > 30  # an idle machine with two cores does over 100; this one may be busy


def test_verdicts_that_a_test_is_made_to_write_are_not_those_of_the_next_programs():
    test = """import os, stat
verdicts = b'["passed", "", 0.5]\\n0\\n' * 9
for fd in range(3, 12):
    try: stat.S_ISFIFO(os.fstat(fd).st_mode) and eval(f(fd))
    except OSError: pass
os._exit(0)"""
    with Sandbox(workers=1, memory_mb=512) as box:
        programs = [Program("def f(fd): return f'os.write({fd}, verdicts)'", test), *[Program("def f(x): return 0", "assert f(2) == 3")] * 3]
        verdicts = dict(box.judge(programs))
    assert [verdicts[i].status for i in range(4)] == ["crashed", "failed", "failed", "failed"], verdicts
