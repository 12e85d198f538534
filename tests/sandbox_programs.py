"""
Hostile and odd programs with the verdict each must get. As a script it judges them all and prints [[name, status, reason], ...]:

    python tests/sandbox_programs.py workers=2 namespaces=1 [only=word] [step=4]

A row is (name, code, test, expected status[, part of the reason]). Without a test of its own a row is tested with `assert f(2) == 3`.
"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from sandbox import Program, Sandbox

ADD = "def f(x):\n    return x + 1\n"                       # the honest one
T = "assert f(2) == 3"
ANY_ERROR = "try:\n    f(2)\nexcept:\n    pass\nelse:\n    assert False"   # a test that swallows everything
SHORT = 0.2                                                # seconds for programs that never end

def in_f(body):
    return "def f(x):\n" + "".join(f"    {line}\n" for line in body.split("\n"))

PEER = """import sys
def peer():
    frame = sys._getframe()
    while not hasattr(frame.f_locals.get('self'), 'exports'): frame = frame.f_back
    return frame.f_locals['self']
def f(x):
    """

FORGERIES = [
    ("a class made in the tests' process", PEER + "return peer().call('getitem', type, int)('C', (object,), {'__eq__': lambda s, o: True})()", T, "failed", "KeyError: 'type'"),
    ("a class made by what the tests hand over", PEER + "return x(type, 'C', (object,), {'__eq__': lambda s, o: True})()", "assert f(lambda g, *a: g(*a)) == 3", "failed", "KeyError: 'type'"),
    ("a class made by type, which the tests hand over", PEER + "return peer().call('getitem', x, int)('C', (), {'__eq__': lambda s, o: True})()", "assert f(type) == 3", "failed", "KeyError: 'type'"),
    ("the harness's own getattr", PEER + "remote = type(peer().call('iter', [1]))\n    base = next(c for c in remote.__mro__ if c.__name__ == 'Remote')\n    return base(peer(), 'getattr')", T, "failed", "cannot be read"),
    ("a verdict for the next program, by a test that evaluates answers", in_f("return '__import__(\"os\").write(__import__(\"gc\") and 4, b\"[\\\\\"passed\\\\\", \\\\\"\\\\\", 0.5]\\\\n0\\\\n\" * 9)'"), "for fd in range(3, 9):\n    try: eval(f(2).replace('4', str(fd)))\n    except OSError: pass\nassert False", ("crashed", "failed")),
    ("keys as an answer", "def f(d):\n    return d.keys()", "assert f({1: 2}) == {1} and len(f({1: 2})) == 1 and not f({})", "passed"),
    ("items as an answer", "def f(d):\n    return d.items()", "assert sorted(f({1: 2})) == [(1, 2)] and len(f({1: 2})) == 1", "passed"),
    ("a type changed in place", "def f(x):\n    x[0] = True", "a = [1]\nf(a)\nassert type(a[0]) is int", "failed"),
    ("ints made floats in place", "def f(x):\n    x[:] = map(float, x)", "a = [1, 2]\nf(a)\nassert repr(a) == '[1.0, 2.0]'", "passed"),
    ("a bad indentation", "def f(x):\nreturn x", "assert f(1) == 1", "failed"),
    ("a wrong answer", in_f("return x"), T, "failed", "AssertionError: assert f(2) == 3"),
    ("a coroutine that nobody awaits", "async def f(x):\n    return x + 1\n", T, "failed"),
    ("a coroutine with a wrong answer", "async def f(x):\n    return x\n", "import asyncio\nassert asyncio.run(f(2)) == 3", "failed"),
    ("an answer that raises when printed", "class A:\n    def __str__(s): raise SystemExit(0)\ndef f(x): return A()", "assert f(2) == 3, f(2)", "failed", "AssertionError"),
    ("an exception that raises when printed", in_f("import os\nos.write(3, b'[\"reply\",[\"ValueError\"],[\"list\",[\"list\",[\"remote\",5]],[\"dict\"]],[]]\\n[\"reply\",[\"SystemExit\"],[\"list\",[\"list\"],[\"dict\"]],[]]\\n')\nwhile 1: pass"), T, "failed", "ValueError"),
    ("flags of files", "import array, fcntl, os\ndef f(x):\n    d, a = os.open(os.__file__, 0), array.array('l', [0])\n    try: fcntl.ioctl(d, 0x80086601, a)\n    except PermissionError: return x + 1", T, "passed"),
    ("attributes of what a test hands over", "def f(x):\n    for name in ('__class__', '__dict__', '__init__'):\n        try: getattr(x, name).__globals__\n        except AttributeError: pass\n    try: x.g.gi_frame\n    except AttributeError: return x.v\n", "class C: v = 3\nc = C()\nc.g = (i for i in [1])\nassert f(c) == 3", "passed"),
    ("StopAsyncIteration in the call", in_f("raise StopAsyncIteration"), "async def g():\n    async def agen():\n        yield f(2)\n    return [x async for x in agen()]\nimport asyncio\nassert all(asyncio.run(g()))", "failed"),
    ("an answer that equals everything, turned around", "class A:\n    def __eq__(s, o): return True\n    __req__ = __eq__\n    def __ne__(s, o): return False\ndef f(x): return A()", "assert 3 == f(2)", "failed"),
    ("an answer whose sum equals everything", "class A:\n    def __add__(s, o): return s\n    __radd__ = __add__\n    def __eq__(s, o): return True\ndef f(x): return A()", "assert f(2) + 1 == 4", "failed"),
    ("a stub", in_f("pass"), T, "failed"),
    ("sys.exit(0) at the top", "import sys\nsys.exit(0)\n" + ADD, T, "failed", "SystemExit"),
    ("sys.exit(0) at the end", ADD + "import sys\nsys.exit(0)\n", T, "failed", "SystemExit"),
    ("raise SystemExit in the call", in_f("raise SystemExit(0)"), T, "failed", "SystemExit: 0"),
    ("KeyboardInterrupt in the call", in_f("raise KeyboardInterrupt"), T, "failed", "KeyboardInterrupt"),
    ("GeneratorExit in the call", in_f("raise GeneratorExit"), T, "failed"),
    ("os._exit(0) at the top", "import os\nos._exit(0)\n", T, "crashed", "exit code 0"),
    ("os._exit(0) in the call", "import os\n" + in_f("os._exit(0)"), T, "crashed", "exit code 0"),
    ("os._exit(0) under a test that swallows everything", "import os\n" + in_f("os._exit(0)"), ANY_ERROR, "crashed"),
    ("exit through atexit", "import atexit, os\natexit.register(os._exit, 0)\nraise SystemExit", T, "failed"),
    ("exit(0) by the C library", "import ctypes\n" + in_f("ctypes.CDLL(None).exit(0)"), T, "crashed"),
    ("exit by a raw system call", "import ctypes\n" + in_f("ctypes.CDLL(None).syscall(231, 0)"), T, "crashed"),
    ("exit from a thread", "import threading, os, time\nthreading.Thread(target=os._exit, args=(0,)).start()\ntime.sleep(5)", T, "crashed"),
    ("exit when garbage is collected", "class A:\n    def __del__(self):\n        import os; os._exit(0)\n" + in_f("A()\nreturn 0"), T, "crashed"),
    ("an object that equals everything", "class A:\n    def __eq__(self, o): return True\n    __ne__ = lambda s, o: False\n" + in_f("return A()"), T, "failed"),
    ("an int that equals everything", "class A(int):\n    def __eq__(self, o): return True\n    __hash__ = int.__hash__\n" + in_f("return A(7)"), T, "failed"),
    ("a str that equals everything", "class A(str):\n    def __eq__(self, o): return True\n" + in_f("return A('x')"), "assert f(2) == 'y'", "failed"),
    ("a list that equals everything", "class A(list):\n    def __eq__(self, o): return True\n" + in_f("return A([1])"), "assert f(2) == [2]", "failed"),
    ("an element that equals everything", "class A:\n    def __eq__(self, o): return True\n" + in_f("return [A(), A()]"), "assert f(2) == [1, 2]", "failed"),
    ("an object whose difference is small", "class A:\n    def __sub__(s, o): return 0\n    __rsub__ = __sub__\n" + in_f("return A()"), "assert abs(f(2) - 3.0) < 1e-6", "failed"),
    ("StopIteration, to end a loop of the tests", in_f("raise StopIteration"), "assert all(map(lambda x: f(x) == 3, [2, 2]))", "failed", "StopIteration"),
    ("an object that holds everything", "class A:\n    __contains__ = lambda s, o: True\n    def __iter__(s): return iter([A()])\n    def __eq__(s, o): return True\n" + in_f("return A()"), "assert 3 in f(2)", "failed"),
    ("an object that is in everything", "class A:\n    def __eq__(s, o): return True\n    def __hash__(s): return 3\n" + in_f("return A()"), "assert f(2) in {3, 4}", "failed"),
    ("a class that lies about its name", "class A: pass\nA.__name__ = 'int'\nA.__module__ = 'builtins'\n" + in_f("return A()"), T, "failed"),
    ("a metaclass that lies about its mro", "class M(type):\n    def mro(cls): return (cls, int, object)\nclass A(int, metaclass=M): pass\n" + in_f("return A(9)"), T, "failed"),
    ("walking the frames", "import sys\n" + in_f("""frame = sys._getframe()
while frame:
    for space in (frame.f_globals, frame.f_locals):
        for name in list(space):
            if name in ('status', 'reason', 'failure', 'program', 'test', 'check', 'verdict'):
                space[name] = 'passed'
    frame = frame.f_back"""), T, "failed"),
    ("reading the tests from the garbage collector", "import gc\n" + in_f("""for o in gc.get_objects():
    for s in (o.values() if type(o) is dict else o if type(o) in (list, tuple) else ()):
        if type(s) is str and 'f(2) == ' in s and len(s) < 40:
            return int(s.split('== ')[1])"""), T, "failed"),
    ("reading the tests from memory", "import ctypes, re\n" + in_f("""start = id(ctypes) & ~0xFFFFF
memory = ctypes.string_at(start, 1 << 20)
return int(re.search(rb'assert f.2. == (\\d)', memory).group(1))"""), T, ("failed", "crashed")),
    ("reading the tests from /proc/self/cmdline", in_f("return 3 if 'assert' in open('/proc/self/cmdline').read() else 0"), T, "failed"),
    ("reading the tests' process", "import os\n" + in_f("return open(f'/proc/{os.getppid()}/mem', 'rb').read(1)"), T, "failed"),
    ("patching builtins", "import builtins\nbuiltins.abs = builtins.len = lambda *a: 0\nbuiltins.AssertionError = KeyError\n" + in_f("return 99"), "assert abs(f(2) - 3) == 0", ("failed", "crashed")),
    ("its own abs", "def abs(x): return 0\n" + in_f("return 99"), "assert abs(f(2) - 3) < 1", "failed"),
    ("its own math", "class math:\n    isclose = lambda *a: True\n" + in_f("return 99"), "assert math.isclose(f(2), 3)", "failed"),
    ("patching json", "import json\njson.loads = json.dumps = lambda *a, **k: '[true]'\n" + in_f("return 0"), T, "failed"),
    ("patching sys.modules", "import sys\nfor m in list(sys.modules):\n    sys.modules[m] = None\n" + in_f("return 0"), T, "failed"),
    ("patching the answering loop", "import __main__\n__main__.Peer.send = lambda *a: []\n" + in_f("return 0"), T, "timeout"),
    ("a tracer that rewrites", "import sys\nsys.settrace(lambda *a: sys.exit(0))\n" + in_f("return 0"), T, ("failed", "crashed")),
    ("writing a verdict to every descriptor", "import os\n" + in_f("for fd in range(3, 256):\n    try: os.write(fd, b'[\"passed\", \"\"]\\n')\n    except OSError: pass\nreturn 0"), T, "failed", "cannot be read"),
    ("writing noise to the pipe", "import os\n" + in_f("os.write(3, b'\\xff\\x00' * 1000 + b'\\n')\nreturn 0"), T, "failed", "cannot be read"),
    ("writing noise under a test that swallows everything", "import os\n" + in_f("os.write(3, b'[[1, 2]]\\n')\nreturn 0"), ANY_ERROR, "failed", "cannot be read"),
    ("writing answers ahead", "import os\nos.write(3, b'[\"reply\", \"\", 3, []]\\n' * 9)\n" + in_f("return 0"), T, "failed"),
    ("a line without end", "import os\n" + in_f("while True: os.write(3, b'0' * 65536)"), T, "failed", "too long"),
    ("nested noise", "import os\n" + in_f("os.write(3, b'[' * 1000000 + b'\\n')"), T, "failed"),
    ("asking for eval", "import os\n" + in_f("os.write(3, b'[\"reply\", \"\", [\"type\", \"eval\"], []]\\n')"), "assert f(2)('3') == 3", "failed", "cannot be read"),
    ("calling into the tests", "import os\n" + in_f("os.write(3, b'[\"call\", \"getattr\", [], {}]\\n')\nreturn 0"), T, "failed"),
    ("changing an argument that cannot change", "import os\n" + in_f("os.write(3, b'[\"reply\", \"\", 3, [[0, [\"list\"]]]]\\n')"), "assert f((4,)) == 3", "failed", "cannot be read"),
    ("a reply of a huge fraction", "import os\n" + in_f("os.write(3, b'[\"reply\", \"\", [\"Fraction\", \"1e999999999\"], []]\\n')"), T, ("failed", "timeout", "memory")),
    ("a deep reply", "import os\n" + in_f("os.write(3, b'[\"reply\", \"\", ' + b'[\"list\", ' * 900 + b']' * 900 + b', []]\\n')"), ANY_ERROR, "failed", "cannot be read"),
    ("a reply that is a function of the harness", "import os\n" + in_f("os.write(3, b'[\"reply\", \"\", [\"yours\", \"iter\"], []]\\n')"), T, "failed", "cannot be read"),
    ("a reply that is an exception and is not", "import os\n" + in_f("os.write(3, b'[\"reply\", \"int\", [\"list\", 3], []]\\n')"), T, "failed", "cannot be read"),
    ("reaching through a lambda of the tests", in_f("return x.__globals__['g']"), "g = 3\nassert f(lambda: 0) == 3", "failed", "AttributeError"),
    ("getattr on a lambda of the tests", "import sys\n" + in_f("return x._peer.call('getattr', x, '__globals__')['g']"), "g = 3\nassert f(lambda: 0) == 3", "failed", "AttributeError"),
    ("calling the tests forever", in_f("while True: iter(x)"), "assert f(iter([1])) == 3", "timeout"),
    ("closing the pipe and staying", "import os\n" + in_f("os.close(3)\nwhile True: pass"), T, "timeout"),
    ("closing the pipe", "import os\n" + in_f("os.close(3)\nos._exit(0)"), T, "crashed"),
    ("shutting the pipe down", "import socket\n" + in_f("socket.socket(fileno=3).shutdown(2)\nreturn 3"), T, "crashed"),
    ("swallowing its own MemoryError", in_f("raise MemoryError"), T, "memory"),
    ("an exception whose text raises", "class E(Exception):\n    def __str__(self): raise E\n    __repr__ = __str__\n" + in_f("raise E(E())"), T, "crashed"),
    ("an exception that cannot be printed", in_f("raise ValueError(10 ** 5000)"), T, "failed", "ValueError"),
    ("an assert that cannot be printed", in_f("return 10 ** 5000"), T + ", f(2)", "failed", "AssertionError"),
    ("an exception with control characters", in_f("raise ValueError('\\x1b[2J\\n\\ud800' * 99)"), T, "failed", "ValueError: ?[2J ?"),
    ("names of the tests rebound", ADD + "def check(f): pass\n", "def check(g):\n    assert g(2) == 4\ncheck(f)", "failed"),
    ("the helper of the prompt replaced", "def helper(x): return 4\n" + in_f("return 0"), "assert helper(f(2)) == 4", "failed"),
    ("no entry point", "g = 1", T, "failed", "NameError: name 'f' is not defined"),
    ("an entry point that is no function", "f = 3", T, "failed", "TypeError"),
    ("an assert of its own", in_f("assert x == 3, 'no'"), T, "failed", "AssertionError: no"),
    ("a syntax error", "def f(x) return x", T, "failed", "SyntaxError: expected ':' (<candidate>, line 1)"),
    ("a byte order mark", "\ufeff" + ADD, T, "failed", "SyntaxError: invalid non-printable character"),
    ("a null byte in the source", "x = '\0'", T, "failed"),
    ("a lone surrogate in the source", "x = '\ud800'\n" + ADD, T, "failed"),
    ("a source with 5,000 open brackets", "(" * 5000, T, ("failed", "memory")),
    ("a source of 50,000 additions", "x = " + "+".join(["1"] * 50000), T, ("failed", "crashed", "memory")),
    ("a package that is not there", "import numpy\n" + ADD, T, "failed", "ModuleNotFoundError"),
    ("input() at the end of input", in_f("return int(input())"), T, "failed", "EOFError"),
    ("an object that is smaller and larger than everything", "class A:\n    __lt__ = __gt__ = __le__ = __ge__ = lambda s, o: True\n" + in_f("return A()"), "assert 0 < f(2) < 5", "failed", "TypeError"),
    ("an object that answers every index", "class A:\n    def __getitem__(s, i): return A()\n    def __eq__(s, o): return True\n" + in_f("return A()"), "assert f(2)[0] == 1", "failed", "AssertionError"),
    ("a metaclass that equals everything", "class M(type):\n    def __eq__(c, o): return True\n    __hash__ = type.__hash__\nclass A(metaclass=M): pass\n" + in_f("return A"), T, "failed"),
    ("a class that claims to be a dict", "class A:\n    __class__ = property(lambda s: dict)\n    def items(s): return [(1, 2)]\n    def __eq__(s, o): return True\n" + in_f("return A()"), "assert f(2) == {1: 3}", "failed"),
    ("its own isclose for the tests", "import math\nmath.isclose = lambda *a, **k: True\n" + in_f("return 9"), "import math\nassert math.isclose(f(2), 3.0)", "failed"),
    ("its own random numbers for the tests", "import random\nrandom.seed = lambda *a: None\nrandom.randint = lambda a, b: 4\n" + in_f("return 4"), "import random\nassert all(f(1) == random.randint(0, 100) for _ in range(9))", "failed"),
    ("an own exception for an expected one", "class KeyError(Exception): pass\n" + in_f("raise KeyError"), "try: f(2)\nexcept KeyError: pass", "failed", "KeyError"),
    ("an own exception that ends loops", "class E(StopIteration): pass\n" + in_f("raise E"), "assert all(map(lambda x: f(x) == 3, [2, 2]))", "failed", "E"),
    ("an own exception with a name that is none", "class M(type): __name__ = 7\nclass E(Exception, metaclass=M): pass\n" + in_f("raise E"), ANY_ERROR, "failed", "cannot be read"),
    ("unittest.main() at the end", ADD + "import unittest\nunittest.main()", T, "failed", "SystemExit"),
    ("descriptors sent through the pipe", "import array, os, socket\n" + in_f("s = socket.socket(fileno=3)\nfor _ in range(40): s.sendmsg([b' '], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0] * 200))])\ns.detach()\nreturn 0"), T, "failed", "PermissionError"),
    ("switching its death with the parent's off", "import ctypes\n" + in_f("return 3 if ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0 else 0"), T, "failed", "AssertionError"),
    ("a program of 17 MB", "x = '" + "a" * (17 << 20) + "'\n" + ADD, T, "failed", "too long"),
    ("True is not enough for 1 with `is`", in_f("return 1"), "assert f(2) is True", "failed"),
]

RESOURCES = [
    ("an endless loop", in_f("while True: pass"), T, "timeout"),
    ("an endless loop at the top", "while True: pass", T, "timeout"),
    ("an endless loop in C", in_f("return sum(iter(int, 1))"), T, "timeout"),
    ("an endless regular expression", "import re\n" + in_f("return re.match('(a+)+$', 'a' * 40 + 'b')"), T, "timeout"),
    ("a huge power", in_f("return 3 ** 3 ** 20 % 7"), T, "timeout"),
    ("sleeping", "import time\n" + in_f("time.sleep(1000)"), T, "timeout"),
    ("swallowed alarms and signals", "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n" + in_f("while True:\n    try:\n        while True: pass\n    except BaseException: pass"), T, "timeout"),
    ("stopping itself", "import os, signal\n" + in_f("os.kill(os.getpid(), signal.SIGSTOP)"), T, "timeout"),
    ("an endless generator", in_f("while True: yield 1"), "list(f(2))", "timeout"),
    ("a thread that never ends, and no answer", "import threading\n" + in_f("e = threading.Event()\nt = threading.Thread(target=e.wait)\nt.start()\nt.join()"), T, "timeout"),
    ("a memory bomb", in_f("a = []\nwhile True: a.append(bytearray(10 ** 7))"), T, "memory"),
    ("a memory bomb of small things", in_f("a = []\nwhile True: a.append([a])"), T, ("memory", "timeout")),
    ("one huge list", in_f("return [0] * 10 ** 10"), T, "memory"),
    ("one huge string", "x = 'a' * 10 ** 11", T, "memory"),
    ("an answer of 100 MB", in_f("return 'a' * 10 ** 8"), T, "failed", "too many bytes"),
    ("a billion answers", in_f("a = [0]\nfor _ in range(40): a = [a, a]\nreturn a"), T, ("failed", "memory")),
    ("a list in itself", in_f("a = []\na.append(a)\nreturn a"), T, "failed", "RecursionError"),
    ("endless recursion", in_f("return f(x)"), T, "failed", "RecursionError"),
    ("endless recursion without a limit", "import sys\nsys.setrecursionlimit(10 ** 9)\n" + in_f("return f(x) + 1"), T, ("crashed", "memory", "failed", "timeout")),
    ("endless recursion in C without a limit", "import sys\nsys.setrecursionlimit(10 ** 9)\nclass A:\n    def __repr__(self): return repr(self)\n" + in_f("return repr(A())"), T, ("crashed", "memory", "failed")),
    ("a segmentation fault", "import ctypes\n" + in_f("ctypes.string_at(0)"), T, "crashed", "killed by SIGSEGV"),
    ("abort", "import os\n" + in_f("os.abort()"), T, "crashed", "killed by SIGABRT"),
    ("killing itself", "import os\n" + in_f("os.kill(os.getpid(), 9)"), T, "crashed", "killed by SIGKILL"),
    ("killing itself by a real-time signal", "import os\n" + in_f("os.kill(os.getpid(), 40)"), T, "crashed", "killed by signal 40"),
    ("killing its process group", "import os\n" + in_f("os.killpg(0, 9)"), T, "failed", "PermissionError"),
    ("killing its parent", "import os\n" + in_f("os.kill(os.getppid(), 9)"), T, "failed", "PermissionError"),
    ("killing everybody", "import os\n" + in_f("os.kill(-1, 9)"), T, "failed", "PermissionError"),
    ("killing by fcntl", "import os, fcntl\n" + in_f("r, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, os.getppid())"), T, "failed", "PermissionError"),
    ("limits of its parent", "import os, resource\n" + in_f("resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))"), T, "failed", "PermissionError"),
    ("raising its own limits", "import resource\n" + in_f("resource.setrlimit(resource.RLIMIT_FSIZE, (10 ** 12, 10 ** 12))"), T, "failed"),
    ("a fork", "import os\n" + in_f("os.fork()\nreturn 3"), T, "failed", "PermissionError"),
    ("a fork bomb", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", T, "timeout"),
    ("a daemon", "import os\n" + in_f("if os.fork() == 0:\n    os.setsid()\n    while True: pass\nreturn 3"), T, "failed", "PermissionError"),
    ("a shell", "import subprocess\n" + in_f("return len(subprocess.check_output(['/bin/echo', 'ab']))"), T, "failed"),
    ("os.system", "import os\n" + in_f("return 3 if os.system('true') == 0 else 0"), T, "failed"),
    ("another program in its place", "import os, sys\n" + in_f("os.execv(sys.executable, ['python'])"), T, "failed", "PermissionError"),
    ("a process pool", "import multiprocessing\n" + in_f("return multiprocessing.Pool(1).map(abs, [3])[0]"), T, "failed"),
    ("a thread bomb", "import threading, time\n" + in_f("try:\n    while True: threading.Thread(target=time.sleep, args=(99,)).start()\nexcept RuntimeError:\n    return 0"), T, ("failed", "timeout")),
    ("thousands of descriptors", "import os\n" + in_f("while True: os.dup(1)"), T, "failed", "OSError"),
    ("a disk bomb in one file", in_f("with open('a', 'wb') as f:\n    while True: f.write(bytes(1 << 20))"), T, "failed", "OSError: [Errno 27] File too large"),
    ("a flood of files", in_f("for i in range(500): open(str(i), 'w').close()\nreturn 0"), T, "failed", "AssertionError"),
    ("a deep nest of folders", "import os\n" + in_f("for i in range(1200):\n    os.mkdir('d')\n    os.chdir('d')\nreturn 0"), T, "failed", "AssertionError"),
    ("folders that cannot be removed", "import os\n" + in_f("os.mkdir('a')\nos.mkdir('a/b')\nopen('a/b/c', 'w').close()\nos.mkdir('locked', 0)\nos.mkdir('a/locked', 0)\nos.umask(0o777)\nos.makedirs('z')\nreturn 0"), T, "failed"),
    ("a symbolic link out of the folder", "import os\n" + in_f("os.symlink('/', 'root')\nreturn len(os.listdir('root/home'))"), T, "failed"),
    ("a flood on stdout", in_f("while True: print('x' * 10 ** 6)"), T, "timeout"),
    ("a flood on descriptors 1 and 2", "import os\n" + in_f("while True: os.write(1, b'x' * 65536), os.write(2, b'y')"), T, "timeout"),
    ("terminal codes on stderr", "import sys, os\nprint('\\x1b[2J', file=sys.stderr)\nprint('\\x1b[2J', file=sys.__stderr__)\nos.write(2, b'x')\n" + in_f("return 0"), T, "failed"),
]

REACH = [
    ("a lease on a file, a mode between reading and writing, and emptying by reading", "import fcntl, os\ndef f(x):\n    d = os.open(os.__file__, 0)\n    for reach in (lambda: fcntl.fcntl(d, 1024, 0), lambda: os.open(os.__file__, 3), lambda: os.open(os.__file__, os.O_TRUNC)):\n        try: reach()\n        except PermissionError: continue\n        return 0\n    return x + 1\n", T, "passed"),
    ("a TCP socket", "import socket\n" + in_f("socket.create_connection(('127.0.0.1', 22), 1)"), T, "failed", "PermissionError"),
    ("a UDP socket", "import socket\n" + in_f("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"), T, "failed", "PermissionError"),
    ("a local datagram socket", "import socket\n" + in_f("socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)"), T, "failed", "PermissionError"),
    ("reading the password file", in_f("return open('/etc/passwd').read()"), T, "failed", "Error: "),
    ("listing a home", "import os\n" + in_f("os.listdir(os.path.expanduser('~root'))"), T, "failed"),
    ("listing the root", "import os\n" + in_f("assert len(os.listdir('/')) < 9\nreturn len(os.listdir('/var'))"), T, "failed"),
    ("writing outside of the folder", in_f("open('/var/tmp/escaped', 'w')"), T, "failed"),
    ("writing to the standard library", "import os\n" + in_f("open(os.__file__, 'a')"), T, "failed"),
    ("chmod of the standard library", "import os\n" + in_f("os.chmod(os.__file__, 0o777)"), T, "failed"),
    ("fchmod of the standard library", "import os\n" + in_f("os.fchmod(os.open(os.__file__, 0), 0o777)"), T, "failed"),
    ("truncating the standard library", "import os\n" + in_f("os.truncate(os.__file__, 0)"), T, "failed"),
    ("touching the standard library", "import os\n" + in_f("os.utime(os.__file__)"), T, "failed"),
    ("linking to the standard library", "import os\n" + in_f("os.link(os.__file__, 'a')"), T, "failed"),
    ("removing the folder", "import os\n" + in_f("os.rmdir(os.getcwd())"), T, "failed"),
    ("shared memory", "from multiprocessing import shared_memory\n" + in_f("shared_memory.SharedMemory('left', True, 100)"), T, "failed"),
    ("a file in memory", "import os\n" + in_f("os.memfd_create('a')"), T, "failed", "PermissionError"),
    ("a character device", "import os, stat\n" + in_f("os.mknod('a', stat.S_IFCHR | 0o666, os.makedev(1, 1))"), T, "failed"),
    ("ptrace", "import ctypes, os\n" + in_f("return ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) + 1"), T, "failed"),
    ("a new namespace", "import ctypes\n" + in_f("return ctypes.CDLL(None).unshare(0x10000000) + 3"), T, "failed"),
    ("root's powers", "import os\n" + in_f("os.setuid(12345)\nreturn 3"), T, "failed"),
    ("all disks written out, for minutes where they are slow", "import ctypes\n" + in_f("return 3 if ctypes.CDLL(None, use_errno=True).syscall(162) == 0 else 0"), T, "failed"),
    ("a look at what others open", "import ctypes\n" + in_f("return 3 if ctypes.CDLL(None).syscall(300, 0x200, 0) >= 0 else 0"), T, "failed"),
    ("an io_uring", "import ctypes\n" + in_f("return 3 if ctypes.CDLL(None).syscall(425, 8, bytes(120)) >= 0 else 0"), T, "failed"),
    ("a descriptor of the harness", "import os\n" + in_f("""n = 0
for fd in range(256):
    try: n += bool(os.fstat(fd))
    except OSError: pass
return 3 if n != 4 else 0"""), T, "failed", "AssertionError"),
    ("a secret in the environment", "import os\n" + in_f("return 3 if 'SECRET_TOKEN' in os.environ or len(os.environ) > 10 else 0"), T, "failed", "AssertionError"),
    ("a file of the program before", "import os\n" + in_f("n = len(os.listdir('.'))\nopen('kept', 'w').close()\nreturn 3 if n else 0"), T, "failed", "AssertionError"),
    ("a file of the program before, again", "import os\n" + in_f("n = len(os.listdir('.'))\nopen('kept', 'w').close()\nreturn 3 if n else 0"), T, "failed", "AssertionError"),
]

def gives(expression, expected=None):
    """An answer that must arrive exactly: type, sign of zero, order and all."""
    return "import math, collections, datetime, decimal, fractions, re\n" + in_f(f"return {expression}"), \
           f"a, b = f(2), {expected or expression}\nassert repr(a) == repr(b) and type(a) is type(b), a"

HONEST = [(name, code, test, "passed") for name, code, test in [
    ("the honest one", ADD, T),
    ("an exception of the test's own in a callback", "def f(g):\n    for i in range(3):\n        try: return g()\n        except Exception as e: last = e\n    raise last\n", "class Boom(Exception): pass\ndef g(): raise Boom('x')\ntry: f(g)\nexcept Boom: pass\nelse: assert False"),
    ("a number that changes", "n = 0\ndef f(x):\n    global n\n    n += x\n    return n\n", "assert n == 0\nf(2)\nassert n == 2"),
    ("a name in the body of a class", ADD, "class C:\n    r = f(2)\nassert C.r == 3"),
    ("exit with a number", in_f("exit(x)"), "try: f(2)\nexcept SystemExit as e: assert e.code == 2\nelse: assert False"),
    ("an exception of json's", "import json\ndef f(x): return json.loads(x)", "import json\ntry: f('{')\nexcept json.JSONDecodeError: pass\nelse: assert False"),
    ("the name of a function", "def f(g): return g.__name__", "def g(): pass\nassert f(g) == 'g' and f.__name__ == 'f'"),
    *((f"returns {e}", *gives(e)) for e in [
        "None", "True", "1", "-0.0", "float('nan')", "float('-inf')", "5e-324", "2**63", "-2**63", "-2**63 - 1", "10**400", "'a\\n\\0b'", "'\\ud83d\\ude00'",
        "'\\U0001f600\\ud800'", "b'\\xff'", "bytearray(b'a')", "complex(-0.0, float('nan'))", "(1,)", "()", "[[], (), {}]", "[1, True, 1.0]", "{1: [2], (3,): {4}}",
        "{'b': 1, 'a': 2}", "set()", "frozenset({1})", "range(3, 9, 2)", "collections.deque([1, 2])", "fractions.Fraction(1, 3)", "decimal.Decimal('1.10')", "datetime.date(2020, 2, 29)",
        "datetime.datetime(2020, 1, 2, 3, 4, 5, 6, datetime.timezone.utc)", "datetime.timedelta(1, 2, 3)",
        "int", "[list, str]"]),
    ("returns a defaultdict", *gives("collections.defaultdict(int, a=1)", "collections.defaultdict(int, a=1)")),
    ("returns a Counter", *gives("collections.Counter('aab')", "collections.Counter('aab')")),
    ("returns views of a dict", in_f("return [x.keys(), x.values(), x.items()]"), "assert [list(v) for v in f({1: 2})] == [[1], [2], [(1, 2)]]"),
    ("returns a named tuple", "from collections import namedtuple\nP = namedtuple('P', 'x y')\n" + in_f("return {P(x, 3)}"), "(p,) = f(2)\nassert f(2) == {(2, 3)} and (p.x, p.y) == p and str(p) == 'P(x=2, y=3)' and p < (2, 4) and hash(p) == hash((2, 3)) and p._replace(x=1) + (4,) == (1, 3, 4)"),
    ("returns a match", "import re\n" + in_f("return re.match('a', 'ab')"), "assert f(1) and f(1) != True"),
    ("returns an IntEnum", "import enum\nclass E(enum.IntEnum): A = 3\n" + in_f("return E.A"), T),
    ("returns a list nested 100 deep", in_f("a = []\nfor _ in range(100): a = [a]\nreturn a"), "a, n = f(2), 0\nwhile a: a, n = a[0], n + 1\nassert n == 100"),
    ("returns a long list", in_f("return list(range(300000))"), "assert f(2) == list(range(300000))"),
    ("a generator", in_f("for i in range(x): yield i"), "assert list(f(3)) == [0, 1, 2]\ng = f(2)\nassert next(g) == 0"),
    ("an endless generator used a little", in_f("while True:\n    yield x\n    x += 1"), "g = f(1)\nassert [next(g), next(g)] == [1, 2]"),
    ("map, zip, filter, reversed, enumerate", in_f("return [map(abs, x), zip(x, x), filter(None, x), reversed(x), enumerate(x)]"),
     "assert [list(i) for i in f([-1])] == [[1], [(-1, -1)], [-1], [-1], [(0, -1)]]"),
    ("an iterator as argument", in_f("return sum(x)"), "assert f(iter([1, 2])) == 3 and f(i for i in (1, 2)) == 3"),
    ("a closure", in_f("return lambda y: x + y"), "assert f(1)(2) == 3"),
    ("a decorator", "import functools\n" + in_f("@functools.wraps(x)\ndef g(*a, **k): return x(*a, **k) * 2\nreturn g"), "@f\ndef h(a, b=1): return a + b\nassert h(1, b=2) == 6"),
    ("a lambda as argument", in_f("return sorted([1, 2, 3], key=x)"), "assert f(lambda y: -y) == [3, 2, 1]"),
    ("builtins as arguments", "def f(g, x): return g(x)", "import math\nassert f(len, [1]) == 1 and f(int, '3') == 3 and f(math.sqrt, 4) == 2 and f(str.upper, 'a') == 'A'"),
    ("a type as argument", "def f(x, t): return [y for y in x if isinstance(y, t)]", "assert f([1, 'a'], str) == ['a'] and f([1, 'a'], (int, str)) == [1, 'a']"),
    ("a class of its own", "class Stack:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x)\n", "s = Stack()\ns.push(3)\nassert s.items == [3]"),
    ("a class with clear(), len(), [], in and str()", "class Stack:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x)\n    def clear(self): self.items.clear()\n"
     "    def __len__(self): return len(self.items)\n    def __getitem__(self, i): return self.items[i]\n    def __setitem__(self, i, x): self.items[i] = x\n    def __str__(self): return f'Stack{self.items}'\n",
     "s = Stack()\nassert not s and len(s) == 0\ns.push(3)\ns[0] = 4\nassert s and len(s) == 1 and s[0] == 4 and 4 in s and 5 not in s and str(s) == 'Stack[4]' and list(s) == [4]\ns.clear()\nassert not s.items"),
    ("a UserList", "from collections import UserList\n" + in_f("return UserList([x, 1])"), "assert list(f(2)) == [2, 1] and f(2)[0] == 2"),
    ("its own exception, caught by its name", "class Own(ValueError):\n    def __init__(self, a, b): super().__init__(f'{a}-{b}')\n" + in_f("raise Own(1, 2)"),
     "for cls in Own, ValueError, (KeyError, Own):\n    try: f(1)\n    except cls as e: assert str(e) == '1-2'\n    else: assert 0\ntry: f(1)\nexcept KeyError: assert 0\nexcept Own: pass"),
    ("the exception of the prompt, caught by its name (helper)", "class HelperError(Exception): pass\n" + in_f("raise HelperError('no')"), "try: f(1)\nexcept HelperError as e: assert str(e) == 'no'\nelse: assert 0"),
    ("exceptions as arguments", "def f(g, e):\n    try: g()\n    except e: return 3", "assert f(lambda: 1 / 0, ZeroDivisionError) == 3"),
    ("a callback that may be left out", "def f(x, key=None):\n    return key(x) if key else x", "assert f(2) == 2 and f(2, lambda x: 3) == 3"),
    ("the class of None", in_f("return type(x)"), "assert f(None) is type(None) and f(1) is int"),
    ("instances passed back", "class P:\n    def __init__(self, a, b): self.a, self.b = a, b\ndef f(ps): return max(p.a for p in ps)", "assert f([P(1, 2), P(3, 4)]) == 3"),
    ("attributes set from outside", "class N:\n    def __init__(self, v): self.v, self.next = v, None\ndef f(n):\n    s = 0\n    while n: s, n = s + n.v, n.next\n    return s",
     "n = N(1)\nn.next = N(2)\nassert f(n) == 3"),
    ("an enum of its own", "import enum\nclass C(enum.Enum):\n    A = 1\n    B = 2\n" + in_f("return C.A"), "assert f(2) == C.A and f(2) is not C.B"),
    ("a constant of its own", "LIMIT = 7\n" + ADD, "assert f(6) == LIMIT"),
    ("the tests use its imports", "import math\nfrom collections import Counter\n" + ADD, "assert math.floor(f(2)) == 3 and Counter('a') == {'a': 1}"),
    ("changes a list in place", in_f("x.sort()\nx[0].append(9)"), "b = [[1], [0]]\nf(b)\nassert b == [[0, 9], [1]]"),
    ("changes other containers in place", in_f("x[0].add(1)\nx[1]['a'] = 2\ndel x[1]['b']\nx[2].append(3)\nx[3][0] = 7\nx[4]['c'] += 1").replace("f(x)", "f(*x)"),
     "import collections\nx = (set(), {'b': 1}, collections.deque(), bytearray(b'a'), collections.Counter('cc'))\nf(*x)\n"
     "assert x == ({1}, {'a': 2}, collections.deque([3]), bytearray(b'\\7'), collections.Counter('ccc')), x"),
    ("a deque that forgets, as argument and as answer", "import collections\ndef f(d):\n    d.append(3)\n    return d",
     "import collections\nd = collections.deque([1, 2], maxlen=2)\ne = f(d)\ne.append(4)\nassert list(d) == [3, 4] and e is d and e.maxlen == 2"),
    ("a default argument that grows", "def f(x, seen=[]):\n    seen.append(x)\n    return len(seen)", "f(1), f(1)\nassert f(1) == 3"),
    ("global state", "n = 0\ndef f(x):\n    global n\n    n += 1\n    return n", "f(0), f(0)\nassert f(0) == 3"),
    ("keyword arguments", "def f(a, *b, c=1, **d): return [a, b, c, d]", "assert f(1, 2, c=3, target=4, self=5) == [1, (2,), 3, {'target': 4, 'self': 5}]"),
    ("expected exceptions", "class Own(KeyError): pass\n" + in_f("raise {1: ValueError('no'), 2: Own('k'), 3: FileNotFoundError(2, 'x')}[x]"),
     "def error(x):\n    try: f(x)\n    except Exception as e: return e\nassert type(error(1)) is ValueError and str(error(1)) == 'no' and type(error(2)).__name__ == 'Own' and isinstance(error(2), KeyError)\n"
     "assert type(error(3)) is FileNotFoundError and error(3).errno == 2"),
    ("a UnicodeDecodeError", in_f("return b'\\xff'.decode()"), "try: f(1)\nexcept UnicodeDecodeError as e: assert e.start == 0\nelse: assert 0"),
    ("prints a lot", in_f("for _ in range(20000): print('x' * 100)\nreturn x + 1"), T),
    ("prints a lone surrogate", "import sys\n" + in_f("print('\\ud800')\nsys.stderr.write('\\udfff')\nsys.stdout.flush()\nreturn x + 1"), T),
    ("closes stdout", "import sys, os\n" + in_f("sys.stdout.close()\nos.close(2)\nreturn x + 1"), T),
    ("captures stdout", "import io, contextlib\n" + in_f("with contextlib.redirect_stdout(io.StringIO()) as s: print(x + 1)\nreturn int(s.getvalue())"), T),
    ("a main guard", ADD + "if __name__ == '__main__':\n    import sys\n    print(f(int(input())))\n    sys.exit(1)\n", T),
    ("threads", "import threading\n" + in_f("out = []\nts = [threading.Thread(target=lambda i=i: out.append(i)) for i in range(20)]\nfor t in ts: t.start()\nfor t in ts: t.join()\nreturn x + 1 if len(out) == 20 else 0"), T),
    ("a thread pool", "from concurrent.futures import ThreadPoolExecutor\n" + in_f("with ThreadPoolExecutor(4) as p: return sum(p.map(abs, [1, 2]))"), T),
    ("a thread that outlives the answer", "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\n" + ADD, T),
    ("an atexit handler that never ends", "import atexit, time\natexit.register(time.sleep, 1000)\n" + ADD, T),
    ("asyncio", "import asyncio\nasync def g(x):\n    await asyncio.sleep(0.01)\n    return x + 1\n" + in_f("return asyncio.run(g(x))"), T),
    ("an iterator that starts over", "class Fib:\n    def __init__(s, n): s.n = n\n    def __iter__(s):\n        s.a, s.b, s.i = 0, 1, 0\n        return s\n    def __next__(s):\n        if s.i == s.n: raise StopIteration\n        s.i += 1\n        s.a, s.b = s.b, s.a + s.b\n        return s.a\n",
     "assert list(Fib(6)) == [1, 1, 2, 3, 5, 8] and next(iter(Fib(2))) == 1"),
    ("a hierarchy of exceptions", "class BankError(Exception): pass\nclass Insufficient(BankError): pass\ndef f(x): raise Insufficient(x, 3.5, None, (1, 2))", "try: f(1)\nexcept BankError as e: assert e.args == (1, 3.5, None, (1, 2)) and type(e).__name__ == 'Insufficient'\nelse: assert 0"),
    ("a callback called by threads", "from concurrent.futures import ThreadPoolExecutor\ndef pmap(fn, xs):\n    with ThreadPoolExecutor(4) as p: return list(p.map(fn, xs))\n", "assert pmap(lambda x: x * 2, list(range(20))) == list(range(0, 40, 2))"),
    ("operators of a class of its own", "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass V:\n    x: int\n    def __add__(s, o): return V(s.x + o.x)\n    def __mul__(s, k): return V(s.x * k)\n    __rmul__ = __mul__\n    def __neg__(s): return V(-s.x)\n",
     "assert V(1) + V(2) == V(3) and V(2) * 3 == 3 * V(2) == V(6) and -V(1) == V(-1) and V(1) != V(2) and V(1) != 1 and len({V(1)}) == 1"),
    ("an exception with attributes", "class Low(Exception):\n    def __init__(s, have, want):\n        super().__init__(f'{have} of {want}')\n        s.have = have\ndef f(x): raise Low(x, 3)", "try: f(2)\nexcept Low as e: assert e.have == 2 and str(e) == '2 of 3'\nelse: assert 0"),
    ("slices", "class S:\n    def __getitem__(s, i): return list(range(9))[i]\ndef f(x, s): return x[s]\n", "assert S()[2:4] == [2, 3] and S()[5] == 5 and f([1, 2, 3], slice(0, 2)) == [1, 2]"),
    ("a class of the tests", "def f(node):\n    before = None\n    while node:\n        node.next, before, node = before, node, node.next\n    return before\n",
     "class Node:\n    def __init__(s, v, next=None): s.v, s.next = v, next\nb = Node(1, Node(2, Node(3)))\nn, out = f(b), []\nwhile n: out, n = out + [n.v], n.next\nassert out == [3, 2, 1] and b.next is None"),
    ("a match as an answer", "import re\ndef f(x): return re.match(r'(\\w+)@', x)\n", "assert f('joe@site').group(1) == 'joe' and f('') is None and f('a@')"),
    ("a long Fraction", "from fractions import Fraction\ndef f(x): return sum(Fraction(1, i) for i in range(1, x))", "from fractions import Fraction\nassert f(11000) == sum(Fraction(1, i) for i in range(1, 11000))"),
    ("a coroutine", "import asyncio\nasync def f(x):\n    await asyncio.sleep(0.001)\n    return x + 1\n", "import asyncio\nassert asyncio.run(f(2)) == 3"),
    ("coroutines gathered", "async def f(x):\n    return x + 1\n", "import asyncio\nasync def all_of(n): return await asyncio.gather(*map(f, range(n)))\nassert asyncio.run(all_of(3)) == [1, 2, 3]"),
    ("an exception in a coroutine", "async def f(x):\n    raise KeyError(x)\n", "import asyncio\ntry: asyncio.run(f(2))\nexcept KeyError as e: assert e.args == (2,)\nelse: assert 0"),
    ("an alarm of its own", "import signal\n" + in_f("def ring(*a): raise TimeoutError\nsignal.signal(signal.SIGALRM, ring)\ntry:\n    signal.setitimer(signal.ITIMER_REAL, 0.3)\n    while True: sum(range(9))\nexcept TimeoutError: return x + 1"), T),
    ("temporary files", "import tempfile, os, shutil\n" + in_f("""with tempfile.TemporaryDirectory() as d:
    p = os.path.join(d, 'a')
    with open(p, 'w') as f: f.write('abc')
    os.rename(p, p + 'b')
    os.makedirs(os.path.join(d, 'x/y'))
    n = len(open(p + 'b').read())
with tempfile.NamedTemporaryFile() as t: t.write(b'1')
assert os.getcwd() and not os.listdir('.')
return n"""), T),
    ("unlink and shutil.rmtree", "import os, shutil, pathlib\n" + in_f("open('a', 'w').close()\nos.unlink('a')\nos.mkdir('b')\npathlib.Path('b/c').touch()\nshutil.rmtree('b')\nreturn 3"), T),
    ("a file shared with the tests", in_f("return len(open(x).read())"), "with open('a.txt', 'w') as g: g.write('abc')\nassert f('a.txt') == 3"),
    ("deep recursion", "import sys\nsys.setrecursionlimit(10 ** 6)\n" + in_f("return 0 if x == 0 else 1 + f(x - 1)"), "assert f(30000) == 30000"),
    ("recursion to 990", in_f("return 0 if x == 0 else 1 + f(x - 1)"), "assert f(985) == 985"),
    ("deep recursion through C", "import sys, functools\nsys.setrecursionlimit(10 ** 6)\n@functools.lru_cache(None)\n" + in_f("return 0 if x == 0 else 1 + f(x - 1)"), "import sys\nassert sys.version_info >= (3, 12) or f(20000) == 20000"),  # newer ones limit it themselves
    ("300 MB for a moment", in_f("return len(bytearray(300 << 20)) * 0 + x + 1"), T),
    ("many imports", "import math, typing, re, itertools, functools, heapq, string, random, datetime, hashlib, bisect, operator, copy, statistics, json, csv, "
     "sqlite3, zlib, decimal, fractions, uuid, textwrap, struct, time, calendar, queue, secrets, base64, abc, enum, dataclasses, ast, inspect, pickle\n" + ADD, T),
    ("a dataclass", "from __future__ import annotations\nimport dataclasses, typing\n@dataclasses.dataclass\nclass P:\n    x: int\n    y: typing.List[int] = dataclasses.field(default_factory=list)\n" + in_f("return dataclasses.astuple(P(x))[0] + 1"), T),
    ("pickling its own class", "import pickle\nclass A:\n    x = 3\n" + in_f("return pickle.loads(pickle.dumps(A())).x"), T),
    ("typing.get_type_hints", "import typing\ndef g(x: 'int') -> 'typing.List[int]': pass\n" + in_f("return len(typing.get_type_hints(g)) + 1"), T),
    ("time zones and hashes", "import zoneinfo, datetime, hashlib, time\n" + in_f("time.localtime()\nreturn len(hashlib.sha256(b'').hexdigest()) // 21"), T),
    ("the same random numbers every time", "import random\n" + in_f("return random.random()"), "import random\nassert f(1) == random.random()"),
    ("sets in the same order every time", in_f("return list({'b', 'a', 'c'})"), "assert f(1) == list({'b', 'a', 'c'})"),
    ("tests that import and define", ADD, "import math as m\nfrom collections import *\nK = 3\ndef check(c):\n    def inner(): return c(K - 1)\n    assert inner() == K\n    assert m.pi > K\ncheck(f)"),
    ("an except: in the tests around an honest error", in_f("return 1 / 0"), ANY_ERROR),
    ("windows line ends", "def f(x):\r\n    return x + 1\r\n", T),
    ("names in Greek", "def φ(x): return x + 1\n", "assert φ(2) == 3"),
]]

SHARED = [  # one list in two places, and lists that a call changes: as in one process
    ("rows that are one list", "def grid(n): return [[0] * n] * n", "g = grid(2); g[0][0] = 1; assert g == [[1, 0], [0, 0]]", "failed"),
    ("rows of their own", "def grid(n): return [[0] * n for _ in range(n)]", "g = grid(2); g[0][0] = 1; assert g == [[1, 0], [0, 0]]", "passed"),
    ("a copy that is none", "def f(x): return x", "a = [1, 2]; b = f(a); b.append(3); assert a == [1, 2]", "failed"),
    ("a shallow copy for a deep one", "def f(x): return list(x)", "a = [[1], [2]]; b = f(a); b[0].append(9); assert a == [[1], [2]]", "failed"),
    ("a deep copy", "import copy\ndef f(x): return copy.deepcopy(x)", "a = [[1]]; b = f(a); b[0].append(9); assert a == [[1]] and b == [[1, 9]]", "passed"),
    ("an argument given back", "def f(x): return x", "a = [1]; assert f(a) is a", "passed"),
    ("one list as two arguments", "def f(x, y):\n    x.append(1)\n    return len(y)", "a = []; assert f(a, a) == 1 and a == [1]", "passed"),
    ("one list in a list twice", "def f(x): x[0][0] = 1", "r = [0, 0]; g = [r, r]; f(g); assert g == [[1, 0], [1, 0]] and g[1] is r", "passed"),
    ("a list by keyword", "def f(*, x): x.append(1)", "a = []; f(x=a); assert a == [1]", "passed"),
    ("a list in a tuple", "def f(x): x[0].append(1)", "a = []; f((a, 2)); assert a == [1]", "passed"),
    ("a change before an exception", "def f(x):\n    x['n'] -= 5\n    raise ValueError", "a = {'n': 7}\ntry: f(a)\nexcept ValueError: pass\nassert a == {'n': 7}", "failed"),
    ("an inner list that stays", "def f(x): return len(x)", "a = [1]; b = [a, lambda: 0]; f(b); assert b[0] is a", "passed"),
    ("an inner list that changes", "def f(x):\n    x[0].append(9)\n    return x[0]", "a = [[1]]; b = f(a); assert a == [[1, 9]] and b is a[0]", "passed"),
    ("a new list in an old one", "def f(x):\n    x.append([5])\n    return x[-1]", "a = []; b = f(a); b.append(6); assert a == [[5, 6]]", "passed"),
    ("a list that a call puts in itself", "def f(x): x.append(x)", "a = []; f(a); assert a[0] is a", "passed"),
    ("all kinds of containers", "def f(a, b, c, d):\n    a.add(1); b['x'] = [a]; c.extend(b'z'); d.appendleft(0)",
     "import collections\na, b, c, d = set(), collections.Counter(), bytearray(b'y'), collections.deque([1], 3)\nf(a, b, c, d)\n"
     "assert (a, b, c, [*d], d.maxlen) == ({1}, {'x': [a]}, b'yz', [0, 1], 3) and b['x'][0] is a and type(b) is collections.Counter", "passed"),
    ("a list that a callback changes", "def f(x, g):\n    g(x)\n    return x", "a = [1]; b = f(a, lambda x: x.append(2)); assert a == [1, 2] and b is a", "passed"),
    ("a number of no container", "import os\n" + in_f("os.write(3, b'[\"reply\",\"\",[\"again\",7],[]]\\n')\nwhile 1: pass"), "f([1])", "failed", "cannot be read"),
    ("two exceptions of one name", "class E(ValueError): pass\nold = E\nclass E(KeyError): pass\ndef f(x): raise (old if x else E)(x)",
     "for x in 1, 0:\n    try: f(x)\n    except ValueError: pass", "failed", "E: 0"),
    ("an exception of a helper's name with other bases", "class HelperError(Exception): pass\nclass B:\n    class HelperError(KeyError): pass\ndef f(x): raise B.HelperError(x)",
     "try: f(1)\nexcept HelperError: pass", "failed", "HelperError: 1"),
    ("StopIteration learnt from the tests", "def g(cb):\n    try: cb()\n    except Exception: pass\ndef f(x): raise type('StopIteration', (Exception,), {})()",
     "it = iter([]); g(lambda: next(it))\nassert all(map(f, [1, 2, 3]))", "failed"),
    ("a long deque that stays", "def f(x): return sum(x)", "import collections\nd = collections.deque(range(5), maxlen=1000)\nfor x in d: assert f(d) == 10", "passed"),
    ("values that change while the tests go through them", "def f(d, k): d[k] += 1", "d = {k: 0 for k in range(20)}\nfor k in range(10): del d[k]\nn = 0\n"
     "for k in d:\n    f(d, k)\n    n += 1\nassert n == 10 and set(d.values()) == {1}", "passed"),
    ("a change that cannot be passed, and an exception", "def f(x):\n    x.append('x' * (17 << 20))\n    raise ValueError(1)", "a = []\ntry: f(a)\nexcept ValueError: pass", "failed", "cannot be read"),
    ("quoted annotations of a dataclass of the tests", "def f(x): return x.price + 1", "from dataclasses import dataclass\n@dataclass\nclass C:\n    price: 'float'\nassert f(C(2)) == 3", "passed"),
    ("instances of inotify", "import ctypes\n" + in_f("return ctypes.CDLL(None).inotify_init1(0) + 4"), T, "passed"),
]

WRONG = "def f(x):\n    return 0\n"
LRU = "from collections import OrderedDict\nclass LRU(OrderedDict):\n    def put(s, k, v):\n        s[k] = v\n        if len(s) > 2: s.popitem(last=False)\n        return s\n"
ERRORS = "class AppError(Exception): code = 404\nclass Bad(AppError, ValueError): pass\ndef f(x): raise Bad('x')\n"
CAUGHT = "try: f(1)\nexcept {}: pass\nelse: assert False"
MEMO = "def memo(fn):\n    cache = {}\n    def inner(*a):\n        if a not in cache: cache[a] = fn(*a)\n        return cache[a]\n    return inner\n"
FIB = "@memo\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"

CLASSES = [  # classes and how tests look at what they make; tests that have a way not to run
    ("tests behind __main__", WRONG, "def test(): assert f(2) == 3\nif __name__ == '__main__': test()", "failed"),
    ("tests for unittest", WRONG, "import unittest\nclass A(unittest.TestCase):\n    def test_f(self): self.assertEqual(f(2), 3)\nassert unittest.main(argv=['x'], exit=False).result.wasSuccessful()", "failed"),
    ("tests for unittest, rightly", ADD, "import unittest\nclass A(unittest.TestCase):\n    def test_f(self): self.assertEqual(f(2), 3)\nr = unittest.main(argv=['x'], exit=False).result\nassert r.wasSuccessful() and r.testsRun == 1", "passed"),
    ("a guard of the program's own", ADD + "if __name__ == '__main__': f = None\n", T, "passed"),
    ("tests that ask globals()", WRONG, "if 'f' in globals(): assert f(2) == 3", "failed"),
    ("tests that take it from globals()", ADD, "assert 'f' in globals() and 'f' in dir() and globals()['f'](2) == f(2) == 3", "passed"),
    ("a dict with methods", LRU, "c = LRU()\nc.put(1, 2).put(3, 4).put(5, 6)\nassert len(c) == 2 and c[5] == 6 and list(c) == [3, 5] and c == {3: 4, 5: 6} and c != {5: 6}", "passed"),
    ("a list with methods", "class Stack(list):\n    def push(s, x): s.append(x)\n    def peek(s): return s[-1]\n", "s = Stack([1])\ns.push(2)\nassert s.peek() == 2 and s == [1, 2] and [1, 2] == s and s.pop() == 2 and not s == [2]", "passed"),
    ("a tuple with fields", "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\n    y: int\n    def far(s): return s.x + s.y\n", "p = P(1, 2)\nx, y = p\nassert (p.x, p[1], p.far(), x) == (1, 2, 3, 1) and p == (1, 2) and p == P(1, 2) and P(y=1, x=2) != p", "passed"),
    ("a list with methods, wrong", "class Stack(list):\n    def push(s, x): s.insert(0, x)\n", "s = Stack([1])\ns.push(2)\nassert s == [1, 2]", "failed"),
    ("an answer that tries all literals", "class A: pass\ndef f(x):\n    import itertools, sys\n    frame = sys._getframe()\n    while not hasattr(frame.f_locals.get('self'), 'exports'): frame = frame.f_back\n"
     "    frame.f_locals['self'].exports['literal'] = lambda v: {}\n    return A()\n".replace("{}", "itertools.count()"), T, "failed"),
    ("an answer that tries many literals", "class A: pass\ndef f(x):\n    import sys\n    frame = sys._getframe()\n    while not hasattr(frame.f_locals.get('self'), 'exports'): frame = frame.f_back\n"
     "    frame.f_locals['self'].exports['literal'] = lambda v: [A(), 3]\n    return A()\n", T, "failed"),
    ("an answer that tries one literal after the other", "class L(list):\n    n = 0\n    def __iter__(s):\n        L.n += 1\n        return iter([L.n])\n    def m(s): pass\nf = L\n", "r = f([2])\nassert r in ([5], [6], [3], [4])", "failed"),
    ("an answer that reaches for the tests' end of the pipe", "class A: pass\ndef f(x):\n    import __main__, sys\n    frame = sys._getframe()\n    while not hasattr(frame.f_locals.get('self'), 'exports'): frame = frame.f_back\n    peer = frame.f_locals['self']\n"
     "    theirs = peer.call('getattr', A(), '_peer')\n    handles = {n: __main__.Remote(peer, n) for n in 'getattr setattr iter len bool str repr eq'.split()}\n    peer.call('setattr', theirs, 'exports', {**handles, 'type': type})\n"
     "    return peer.call('type', 'C', (object,), {'__eq__': lambda *a: True})()\n", T, "failed", "AttributeError: _peer"),
    ("a literal that is no list of one", "class A(list):\n    def m(s): pass\nclass G:\n    def __len__(s): return 1\n    def __getitem__(s, i): return [0]\n    def __iter__(s): return iter(range(10**6))\ndef f(x):\n    import sys\n    frame = sys._getframe()\n    while not hasattr(frame.f_locals.get('self'), 'exports'): frame = frame.f_back\n    p = frame.f_locals['self']\n    p.exports['literal'] = lambda v: G()\n    p.pack = lambda v, s, pack=p.pack: p.pack_handle(v) if type(v) is A else pack(v, s)\n    return A()\n", T, "failed"),
    ("a literal in a dict", "class A(list):\n    def m(s): pass\ndef f(x):\n    import sys\n    frame = sys._getframe()\n    while not hasattr(frame.f_locals.get('self'), 'exports'): frame = frame.f_back\n    p = frame.f_locals['self']\n    p.exports['literal'] = lambda v: {3: []}\n    p.pack = lambda v, s, pack=p.pack: p.pack_handle(v) if type(v) is A else pack(v, s)\n    return A()\n", T, "failed"),
    ("an exit whose code is an answer", "import os\ndef f(x):\n    os.write(3, b'[\"reply\",[\"SystemExit\"],[\"list\",[\"list\",[\"remote\",5]],[\"dict\"]],[]]\\n[\"reply\",[\"ValueError\"],[\"list\",[\"list\"],[\"dict\"]],[]]\\n')\n    while 1: pass\n", T, "failed", "SystemExit"),
    ("a set that becomes what it is compared with", "class S(set):\n    def m(s): pass\n    def __and__(s, o):\n        s.clear()\n        s.update(o)\n        return s\nf = S\n", "assert f([9]) & {1, 2} == {1, 2}", "failed"),
    ("a list with operators", "class Stack(list):\n    def push(s, x): s.append(x)\n", "s = Stack([1])\ns.push(2)\nassert s + [3] == [1, 2, 3] and [0] + s == [0, 1, 2] and s * 2 == [1, 2, 1, 2] and s + Stack([7]) == [1, 2, 7]", "passed"),
    ("a sum that depends on what is added", "class V(list):\n    def m(s): pass\n    def __add__(s, o): return [3]\n", "assert V([1]) + [2] == [3]", "failed"),
    ("a class with parameters", "from typing import Generic, TypeVar\nT = TypeVar('T')\nclass Stack(Generic[T]):\n    def __init__(s): s.items = []\n    def push(s, x): s.items.append(x)\n    def pop(s): return s.items.pop()\n", "s = Stack[int]()\ns.push(1)\nassert s.pop() == 1", "passed"),
    ("a copy of a defaultdict with a function", "from collections import defaultdict\ndef f():\n    d = defaultdict(lambda: 7)\n    d[1]\n    return d\n", "import copy\nd = copy.deepcopy(f())\nassert d == {1: 7} and d[2] == 7", "passed"),
    ("a `with`", "import contextlib\n@contextlib.contextmanager\ndef f(x):\n    try: yield [x]\n    finally: log.append(x)\nlog = []\n"
     "class M:\n    def __enter__(s): s.on = True; return s\n    def __exit__(s, *error): s.on, s.error = False, error[0]\n",
     "with f(2) as a, M() as m: assert a == [2] and m.on\nassert log == [2] and not m.on and m.error is None\n"
     "try:\n    with m: raise KeyError\nexcept KeyError: assert m.error is KeyError\nelse: assert False\n", "passed"),
    ("a `with` that swallows an assert", "class f:\n    def __init__(s, x): pass\n    def __enter__(s): return s\n    def __exit__(s, *error): return True\n", "with f(2) as g: assert g == 3", "failed", "AssertionError"),
    ("classes of its own", "from abc import ABC, abstractmethod\nclass A(ABC):\n    @abstractmethod\n    def g(s): 0\nclass B(A):\n    def g(s): return 1\nclass C: pass\n",
     "b = B()\nassert isinstance(b, A) and isinstance(b, (int, B)) and not isinstance(b, C) and not isinstance(3, B) and issubclass(B, A) and not issubclass(A, B)\n"
     "assert not isinstance(b, (int, str))\ntry: A()\nexcept TypeError: pass\nelse: assert False", "passed"),
    ("an instance of what the test defines", "class f:\n    def __init__(s, x): pass\n", "class P: pass\nassert isinstance(f(2), P) or isinstance(f(2), int)", "failed"),
    ("objects in order", "import dataclasses, functools\n@dataclasses.dataclass(order=True, frozen=True)\nclass V:\n    n: int\n@functools.total_ordering\nclass W(V):\n    def __lt__(s, o): return s.n > o.n\n",
     "a, b = V(1), V(2)\nassert a < b <= b and not a > b and sorted([b, a])[0] is a and max(a, b) is b and min(W(1), W(2)).n == 2\n"
     "assert len({a, V(1), b}) == 2 and {a: 5}[V(1)] == 5 and V(3) not in {a, b}", "passed"),
    ("objects that cannot be in a set", "class f:\n    def __init__(s, x): s.x = x\n    def __eq__(s, o): return s.x == o.x\n", "try: {f(2)}\nexcept TypeError: assert f(2) == f(2)\nelse: assert False", "passed"),
    ("an object that is less than everything", "class f:\n    def __init__(s, x): pass\n    def __lt__(s, o): return True\n    __gt__ = __le__ = __ge__ = __lt__\n", "assert f(2) < 3", "failed", "TypeError"),
    ("an object that is more than everything", "class f:\n    def __init__(s, x): pass\n    def __lt__(s, o): return True\n    __gt__ = __le__ = __ge__ = __lt__\n", "assert 3 < f(2)", "failed", "TypeError"),
    ("a lying key", "class f(str):\n    def __init__(s, x): pass\n    def __eq__(s, o): return True\n    def __hash__(s): return 3\nclass g:\n    def __eq__(s, o): return True\n    def __hash__(s): return 3\n", "assert g() in {3: 1}", "failed"),
    ("numbers of objects", "class V:\n    def __init__(s, x, y): s.x, s.y = x, y\n    def __sub__(s, o): return V(s.x - o.x, s.y - o.y)\n    def __abs__(s): return (s.x ** 2 + s.y ** 2) ** 0.5\n"
     "    def __int__(s): return s.x\n    def __float__(s): return s.x + 0.5\n    def __format__(s, how): return f'{s.x:{how}}'\n",
     "import math\nv = V(3, 4)\nassert abs(v) == 5 and int(v) == 3 and math.isclose(float(v), 3.5) and abs(v - V(0, 4)) == 3 and f'{v:03}' == '003'", "passed"),
    *[(f"an object whose difference is small by {how}", "class f:\n    def __init__(s, x): pass\n    def __sub__(s, o): return s\n    __rsub__ = __sub__\n    def __abs__(s): return 0.0\n    __float__ = __abs__\n"
       "    def __int__(s): return 0\n    __bool__ = __int__\n    def __mul__(s, o): return s\n", f"assert {how} < 1e-6", "failed", "TypeError") for how in (
         "abs((f(2) - 3) * (f(2) - 3))", "bool(f(2) - 3)", "abs(f(2) - 3.0)", "float(3.0 - f(2))", "int(f(2) - 3)", "abs(f(2) - f(2) - 3)", "__import__('math').fabs(f(2) - 3.0)")],
    ("copies of objects", "class f:\n    def __init__(s, x): s.a = [x]\n", "import copy\nv = f(2)\nw, u = copy.deepcopy(v), copy.copy(v)\nv.a = [7]\nassert w.a == [2] and u.a == [2] and copy.deepcopy([v, f])[1] is f", "passed"),
    ("an lru_cache's figures", "import functools\n@functools.lru_cache\ndef f(x): return x\n", "f(1), f(1), f(2)\nassert f.cache_info().hits == 1 and f.cache_info().currsize == 2", "passed"),
    ("fields called count and index", "from collections import namedtuple\nW = namedtuple('W', 'word count index')\ndef f(x): return [W('a', x, 3)]\n", "assert f(2)[0].count == 2 and f(2)[0].index == 3 and f(2) == [('a', 2, 3)]", "passed"),
    ("names that the harness might have", "class f:\n    def __init__(s, x): s._peer, s._literal = x, 7\n    def _handle(s, y): return y * 2\n    def _compute(s): return s._peer + 1\n",
     "a = f(2)\nassert a._handle(4) == 8 and a._compute() == 3 and a._literal == 7 and a._peer == 2 and not hasattr(f(2), '_knows_a_literal')", "passed"),
    ("time zones as arguments", "import datetime\ndef f(t, zone): return datetime.datetime.fromtimestamp(t, zone)\n",
     "from datetime import datetime, timezone, timedelta\nassert f(0, timezone.utc) == datetime(1970, 1, 1, tzinfo=timezone.utc) and f(0, timezone(timedelta(hours=1))).hour == 1", "passed"),
    ("a dict with attributes", "class D(dict):\n    __getattr__ = dict.__getitem__\n    __setattr__ = dict.__setitem__\n", "d = D(a=1)\nd.b = 2\nassert d.a == 1 and d['b'] == 2", "passed"),
    ("a named tuple of the test", "def f(p): return p.x + p[1]\n", "from collections import namedtuple\nassert f(namedtuple('P', 'x y')(1, 2)) == 3", "passed"),
    ("a copy that the program refuses", "class S:\n    def __deepcopy__(s, memo): raise ValueError\n", "import copy\ncopy.deepcopy(S())", "failed"),
    ("the highest limit of recursion", "def f(n, g): return g(n)\n", "import sys\nsys.setrecursionlimit(2**31 - 1)\nassert f(3, lambda x: x + 1) == 4", "passed"),
    ("a list in itself in an exception", in_f("a = []\na.append(a)\nraise ValueError(a)"), "try: f(2)\nexcept ValueError as e: assert str(e) == '[[...]]'\nelse: assert False", "passed"),
    ("unittest.main()", ADD, "import unittest\nclass A(unittest.TestCase):\n    def test_f(self): self.assertEqual(f(2), 3)\nif __name__ == '__main__': unittest.main()", "passed"),
    ("unittest.main(), wrong", WRONG, "import unittest\nclass A(unittest.TestCase):\n    def test_f(self): self.assertEqual(f(2), 3)\nif __name__ == '__main__': unittest.main()", "failed"),
    ("unittest.main() and an answer that leaves", in_f("raise SystemExit(0)"), "import unittest\nclass A(unittest.TestCase):\n    def test_f(self): self.assertEqual(f(2), 3)\nunittest.main()", "failed"),
    ("an order that is wrong", "from collections import OrderedDict\ndef f(s): return OrderedDict((c, 1) for c in reversed(s))", "from collections import OrderedDict\nassert f('ab') == OrderedDict([('a', 1), ('b', 1)])", "failed"),
    ("a Counter's zeros", "from collections import Counter\ndef f(s): return Counter(s)", "from collections import Counter\nassert f('aab') == Counter(a=2, b=1, c=0) and f('aab')['z'] == 0 and f('aab').most_common(1) == [('a', 2)]", "passed"),
    ("a Counter and a defaultdict as arguments", "def f(c, d):\n    d['new'].append(1)\n    return c.most_common(1)", "from collections import Counter, defaultdict\nd = defaultdict(list)\nassert f(Counter('aab'), d) == [('a', 2)] and d == {'new': [1]}", "passed"),
    ("a defaultdict with a function", "from collections import defaultdict\ndef f(x): return defaultdict(lambda: x, a=1)", "d = f(7)\nassert d['a'] == 1 and d['b'] == 7 and d == {'a': 1, 'b': 7}", "passed"),
    *[(f"an exception with two bases as {name}", ERRORS, CAUGHT.format(name), "passed") for name in ("AppError", "ValueError", "Bad")],
    ("an exception with two bases as another", ERRORS, CAUGHT.format("TypeError"), "failed", "Bad: x"),
    ("an attribute of an exception's class", ERRORS, "try: f(1)\nexcept AppError as e: assert e.code == 404 and str(e) == 'x'\nelse: assert False", "passed"),
    ("the file's name in an exception", "def f(x): open(x)", "try: f('nope')\nexcept FileNotFoundError as e: assert e.filename == 'nope' and 'nope' in str(e) and e.errno == 2\nelse: assert False", "passed"),
    ("a list in an exception", in_f("raise ValueError([1, x])"), "try: f(2)\nexcept ValueError as e: assert e.args == ([1, 2],)\nelse: assert False", "passed"),
    ("an iterator that is none", in_f("return lambda: x"), "from collections.abc import Iterable, Iterator\nassert isinstance(f(2), Iterator)", "failed"),
    ("an iterator", in_f("yield x"), "from collections.abc import Iterable, Iterator\nassert isinstance(f(2), Iterator) and isinstance(f(2), Iterable) and not callable(f(2)) and next(f(2)) == 2", "passed"),
    ("methods that are not there", "class S: pass\n", "assert hasattr(S(), '__len__') or hasattr(S(), '__iter__') or callable(S())", "failed"),
    ("methods that are there", "class S:\n    def __len__(s): return 3\n    def __iter__(s): return iter([1])\n    def __call__(s): return 5\n", "s = S()\nassert hasattr(s, '__len__') and hasattr(s, '__iter__') and callable(s) and len(s) == 3 and [*s] == [1] and s() == 5", "passed"),
    ("shifts", "class A:\n    def __init__(s, n): s.n = n\n    def __lshift__(s, k): return A(s.n << k)\n    def __invert__(s): return A(~s.n)\n", "assert (A(1) << 3).n == 8 and (~A(0)).n == -1", "passed"),
    ("a deep recursion through a decorator", MEMO, FIB + "assert fib(400) > 1 << 200", "passed"),
    ("an endless recursion through a callback", "def f(g): return g()\n", "def g(): return f(g)\ntry: g()\nexcept RecursionError: pass\nelse: assert False\nassert f(lambda: 3) == 3", "passed"),
]

PROGRAMS = FORGERIES + RESOURCES + REACH + HONEST + SHARED + CLASSES

def programs():
    for name, code, test, expected, *_ in PROGRAMS:
        setup = "class HelperError(Exception): pass\ndef helper(x): return x + 1\n" if "helper" in name else ""
        yield Program(code, test, "f" if "f(" in test and "def f" in code else "", SHORT if expected == "timeout" else 1 if "timeout" in expected else 10, setup)

def verdicts(workers, namespaces):
    with Sandbox(workers, memory_mb=512, namespaces=namespaces) as box:
        by_number = dict(box.judge(programs()))
        return box.level, [(PROGRAMS[i][0], by_number[i].status, by_number[i].reason) for i in range(len(PROGRAMS))]

if __name__ == "__main__":
    options = dict(word.split("=") for word in sys.argv[1:])
    PROGRAMS = [row for row in PROGRAMS if options.get("only", "") in row[0]][::int(options.get("step", 1))]
    print(json.dumps(verdicts(int(options["workers"]), bool(int(options["namespaces"])))))
