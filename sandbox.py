r"""
Judge programs that a language model wrote, without trusting them.

    with Sandbox(workers=2) as box:
        print(box.level)                                   # namespaces+landlock+seccomp+rlimits
        for i, verdict in box.judge([Program(code="def add(a, b):\n    return a - b", test="assert add(1, 2) == 3")]):
            print(i, verdict.status, verdict.reason)       # 0 failed AssertionError: assert add(1, 2) == 3

Each worker has a helper, a clean interpreter (never a fork of the process that holds torch), which forks twice per program:

    caller --program-->  tests: setup and test run here   --"call add(1, 2)"-->  candidate: code runs here
           <--verdict--  (the helper waits and cleans up) <------- "-1" -------  (both are in jail)
           <---ended---  helper, by a pipe of its own: what was written until then is all there is of a verdict

The candidate is forked before the program is read, so no assert is ever in its memory, and all it can do is answer calls: what it
does to its own process (exit, patch builtins, walk frames, write to the pipe) changes an answer, never the comparison. Answers are
rebuilt from a fixed table of builtin types, KINDS: no pickle, no eval. What is no literal (a generator, a closure, an instance) stays
where it is, and the other side gets a Remote: to call, iterate, pass back, ask for attributes. Exceptions cross as their nearest
builtin type, under their own name. Names in a test that neither it, setup, builtins nor the standard library define are looked up in
the candidate.

Covered (Linux 5.13 with Landlock, x86-64 or aarch64, no root, no packages; namespaces are added where they are allowed): forged
verdicts, early exits, crashes, endless loops, recursion, floods, bombs of memory and disk; processes, network, signals, ptrace,
shared memory, keyrings, io_uring, chmod (seccomp); root's powers (capabilities); mounts, files but for one private empty folder and
the standard library (Landlock). After each program its processes are gone and its folder is empty, also if the caller dies.
NOT covered:
- bugs of the kernel; timing; names, sizes and times of files (site-packages beside the standard library can even be read); many
  threads for a second or two; without namespaces the sum of many 16 MB files, a minute or two for a flood of
  folders on a slow disk, and the folder of a helper that was killed;
- tests that evaluate answers (eval(f(x))), pass eval or getattr to f, or set alarms: they are in jail too, but the verdict on this program is theirs;
- memory of what answers and arguments hand over (objects, closures, generators): it is not freed before the program ends;
- answers: identity, but of the containers of one call: what two calls return, or attributes hold, are copies, so a method that hands out its own
  list passes, a default argument that collects does too, and a change of that list is lost. On a Remote < with a literal, in, del, a `with` that swallows an exception,
  `async for`, isinstance of types that the program has not made (but of abstract ones such as Iterator), type(), reversed, round, divmod, += by __iadd__, arithmetic that
  gives a literal (a dot product), __names__ but __name__ (doctest has nothing to look into), and == with what it does not inherit from (!= is
  its opposite; where two Remotes are compared, theirs is the answer); a class of the test cannot inherit from it. A test that expects one of these to fail passes. Nesting beyond a few hundred; more than 16 MB;
  subclasses of literals (a function that returns a Stack(list) gives a list; what the test makes by Stack() keeps its methods, if it is a
  container, but not <, in-place operators and isinstance; named tuples keep all but their own operators and __str__); a generator's return value and StopIteration, which arrives as an
  Exception of that name. Of an exception its __str__, methods, properties and cause; its class, if a module of the standard library has it
  (but for a few, as json.JSONDecodeError);
- arguments: subclasses likewise; of an object of a class that prompt or test defines its class (isinstance, type, match), identity and an
  Enum's ==; of a function all but its call and name (inspect.signature); exceptions as values; attributes of objects, but for those of classes
  that prompt or test define; async callbacks; calls after f has returned; a decorator or descriptor of the candidate in a class of the tests;
- what else a test shares with f in one process: stdout, os.environ, the seed of random, patches, globals of the prompt that f sets anew,
  threads that wait for each other, an event loop (each await of f runs to its end: no timeout or task reaches into it);
- honest programs that need processes, network, site-packages, chmod, truncate, utime, flock, thread pools of multiprocessing, more than 256
  files or 16 MB in one, or a second function that the test calls and that is named like a builtin or a module of the standard library: they fail.
  The program's own `if __name__ == "__main__":` is not entered. Gathered coroutines run in turn. 100,000 items of a generator take 4 to 11 s.
"""
import builtins, collections, concurrent.futures, contextlib, copy, ctypes, datetime, functools, gc, importlib, itertools, json, operator, os
import platform, queue, random, re, resource, select, signal, socket, struct, subprocess, sys, tempfile, threading, time, traceback, types
from decimal import Decimal, DivisionByZero, InvalidOperation
from fractions import Fraction
from typing import NamedTuple

class Program(NamedTuple):
    code: str              # written by the model: runs in the candidate's process only
    test: str              # statements; an exception means failed. For HumanEval: its test + "\ncheck(add)"
    entry_point: str = ""  # taken from the candidate even where setup or builtins have the name too (MBPP 126 tests a `sum`)
    timeout: float = 3.0   # seconds of wall clock: loading, calls and tests together
    setup: str = ""        # trusted, runs before test: HumanEval's prompt (its helpers!), MBPP's test_imports and test_setup_code

STATUSES = "passed", "failed", "timeout", "crashed", "memory"

class Verdict(NamedTuple):
    status: str            # one of STATUSES
    reason: str            # one line, the same in every run and for any number of workers
    seconds: float

class SandboxError(RuntimeError):
    """No isolation here, or the harness itself failed three times (no memory, helper killed): says nothing about the program."""

MAX_MESSAGE = 16 << 20  # bytes in one message
LIMITS = dict(CORE=0, FSIZE=16 << 20, NOFILE=256, STACK=64 << 20)  # bytes in a file, open files, stack (8 MB: too few to recurse deep)
OUT_OF_MEMORY = 77      # exit code of a process that gives up: it may have no memory left for a message

# ---- 1. Values on the pipe ------------------------------------------------------------------------------------------------------
# Messages are lines of JSON. null, booleans, strings, floats and 64-bit ints stand for themselves, [kind, part, part..] for the rest.

def flat(mapping):
    return [part for item in mapping.items() for part in item]

def pairs(parts):
    return zip(parts[::2], parts[1::2], strict=True)

KINDS = {  # kind: (type, value -> simpler values, simpler values -> value). What is a subclass crosses as its base class
    **{t.__name__: (t, list, t) for t in (list, tuple, set, frozenset)},
    "deque": (collections.deque, lambda v: [collections.deque.maxlen.__get__(v), *v], lambda p: collections.deque(p[1:], p[0])),
    "defaultdict": (collections.defaultdict, lambda v: [v.default_factory, *flat(v)], lambda p: collections.defaultdict(p[0], pairs(p[1:]))),
    **{t.__name__: (t, flat, lambda p, t=t: t(dict(pairs(p)))) for t in (collections.OrderedDict, collections.Counter, dict)},
    "int": (int, lambda v: [hex(v)], lambda p: int(p[0], 16)),  # huge ones, and subclasses of these three
    "float": (float, lambda v: [float(v)], lambda p: p[0]),
    "str": (str, lambda v: [str.__str__(v)], lambda p: p[0]),
    **{t.__name__: (t, lambda v: [v.hex()], lambda p, t=t: t.fromhex(p[0])) for t in (bytes, bytearray)},
    **{t.__name__: (t, lambda v: [v.isoformat()], lambda p, t=t: t.fromisoformat(p[0]))
       for t in (datetime.datetime, datetime.date, datetime.time)},
    **{t.__name__: (t, lambda v: [str(v)], lambda p, t=t: t(p[0])) for t in (complex, Decimal)},
    "timezone": (datetime.timezone, lambda v: [v.utcoffset(None)], lambda p: datetime.timezone(*p)),
    "Fraction": (Fraction, lambda v: [v.numerator, v.denominator], lambda p: Fraction(*p)),
    **{t.__name__: (t, lambda v: [v.start, v.stop, v.step], lambda p, t=t: t(*p)) for t in (range, slice)},
    "timedelta": (datetime.timedelta, lambda v: [v.days, v.seconds, v.microseconds], lambda p: datetime.timedelta(*p)),
    "keys": (type({}.keys()), list, lambda p: dict.fromkeys(p).keys()),
    "values": (type({}.values()), list, lambda p: dict(enumerate(p)).values()),
    "items": (type({}.items()), list, lambda p: dict(p).items())}
# Types that cross by name
TYPES = {t.__name__: t for t in (bool, type(None), object, type, *(t for t, *_ in KINDS.values()))}
SHOWN = bool, int, float, str, bytes, tuple, list, dict, set, type(None)  # in an exception's arguments; of others the repr crosses
CONTAINERS = list, dict, set, bytearray, collections.deque  # that can be shared between values, and changed in a call; subclasses likewise
CONTAINER_TYPES = {t for t, *_ in KINDS.values() if issubclass(t, CONTAINERS)}
# Without these two, which cross as Exception: they would end a map() in the tests in silence, and all(map(...)) would hold
EXCEPTIONS = {n: c for n, c in vars(builtins).items() if isinstance(c, type) and issubclass(c, BaseException)
              and n not in ("StopIteration", "StopAsyncIteration", "BaseExceptionGroup", "ExceptionGroup")}
EXCEPTIONS |= {c.__name__: c for c in (json.JSONDecodeError, InvalidOperation, DivisionByZero, re.error, queue.Empty, queue.Full)}

def error_names(cls):
    """-> (its name, the same of each base that is an exception, ..); of a builtin one the name only"""
    builtin = EXCEPTIONS.get(cls.__name__) is cls
    return (cls.__name__, *[error_names(base) for base in cls.__bases__ if issubclass(base, BaseException) and not builtin])

def tuples(names):
    return (names[0], *map(tuples, names[1:]))

def encode(message):
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"

def decode(line):
    return json.loads(line.decode("utf-8", "surrogatepass"))

# What can be done with a Remote. Nothing that lets an answer decide what it equals: == and < with another Remote only, `in` looks at its
# items, what comes of arithmetic is no literal (V(1) + V(2) is fine, f(x) - 3.5 is not) and becomes no number or boolean afterwards, and `with`
# swallows no exception
ORDER = "lt", "le", "gt", "ge"
OPERATIONS = {"iter": iter, "len": len, "bool": bool, "str": str, "repr": repr, "format": format, "hash": hash, "eq": operator.eq,
              **{name: getattr(operator, name) for name in (*ORDER, "getitem", "setitem", "delitem")},
              "abs": abs, "int": int, "float": float, "copy": copy.copy, "deepcopy": copy.deepcopy,
              "isinstance": isinstance, "issubclass": issubclass,
              "enter": lambda manager: manager.__enter__(), "leave": lambda manager, error: manager.__exit__(error, None, None) and None}
ARITHMETIC = {name: getattr(operator, f"__{name}__") for name in "add sub mul matmul truediv floordiv mod pow lshift rshift and or xor neg pos invert".split()}

class Remote:  # something that lives at the other end of the pipe. (A docstring would be that of the candidate's functions)
    def __init__(self, peer, handle):
        self.__dict__.update(__peer__=peer, __handle__=handle)
    def __getattr__(self, name):
        if name.startswith("__") and name not in ("__name__", "__qualname__"):
            raise AttributeError(name)
        return self.__peer__.call("getattr", self, name)
    def __setattr__(self, name, value):
        self.__peer__.call("setattr", self, name, value)
    def __eq__(self, other):
        if isinstance(other, Remote):
            return self is other or bool(self.__peer__.call("eq", self, other))
        return any(literal == other for literal in self.__literal__())
    __hash__ = object.__hash__
    __copy__ = lambda self: self.__peer__.call("copy", self)
    __deepcopy__ = lambda self, memo: self.__peer__.call("deepcopy", self)
    __is_container__ = __knows_a_literal__ = False
    def __literal__(self):
        """-> [it as a literal] if its class inherits from one, else []. Asked once until another call is made: no chance to guess."""
        if self.__is_container__ and self.__handle__ not in self.__peer__.literals:
            answer = self.__peer__.call("literal", self)
            self.__peer__.literals[self.__handle__] = answer if type(answer) is list and len(answer) == 1 and type(answer[0]) in CONTAINER_TYPES else []
        return self.__peer__.literals.get(self.__handle__, [])
    def __compute__(self, name, *operands):
        literals = [value for operand in operands for value in (operand.__literal__() if isinstance(operand, Remote) else [operand])]
        result = self.__peer__.call(name, *operands)
        if isinstance(result, Remote) and not (result.__is_container__ and len(literals) == len(operands)):
            if any(not isinstance(operand, Remote) or operand.__knows_a_literal__ for operand in operands):
                result.__dict__["__knows_a_literal__"] = True
            return result
        if len(literals) < len(operands):
            raise TypeError(f"the program's own {name} gives a literal")
        return ARITHMETIC[name](*literals)  # of what it was before the other operand was known

class RemoteTuple(tuple):  # its items are here, its fields and methods at the other end
    __getattr__ = Remote.__getattr__
    def __repr__(self):
        return self.__peer__.call("repr", self)
    def __deepcopy__(self, memo):
        return self

def next_of(self):
    for item in self.__peer__.call("next", self):
        return item
    raise StopIteration

# What a Remote can do only if the original can: tests may ask hasattr, callable or isinstance(x, Iterator)
ABILITIES = {"__call__": lambda self, /, *args, **kwargs: self.__peer__.call(self.__handle__, *args, **kwargs), "__next__": next_of, "__is_container__": True,
             "__instancecheck__": lambda self, x: self.__peer__.call("isinstance", x, self),
             "__subclasscheck__": lambda self, cls: self.__peer__.call("issubclass", cls, self),
             "__enter__": lambda self: self.__peer__.call("enter", self),
             "__exit__": lambda self, error, *_: self.__peer__.call("leave", self, error) and None}

def to_literal(self, name):
    if self.__knows_a_literal__:
        raise TypeError(f"{name}() of what the program's own arithmetic gives")
    return self.__peer__.call(name, self)

for operation in "iter", "hash", "getitem":
    ABILITIES[f"__{operation}__"] = lambda self, *args, name=operation: self.__peer__.call(name, self, *args)
Remote.__bool__ = lambda self: to_literal(self, "bool")
for operation in "str", "repr", "format", "setitem", "delitem":
    setattr(Remote, f"__{operation}__", lambda self, *args, name=operation: self.__peer__.call(name, self, *args))
for operation in "abs", "int", "float", "len":
    ABILITIES[f"__{operation}__"] = lambda self, name=operation: to_literal(self, name)
for operation in ORDER:
    setattr(Remote, f"__{operation}__", lambda self, other, name=operation: self.__peer__.call(name, self, other) if isinstance(other, Remote) else NotImplemented)
for operation in ARITHMETIC:
    setattr(Remote, f"__{operation}__", lambda self, *other, name=operation: self.__compute__(name, self, *other))
    setattr(Remote, f"__r{operation}__", lambda self, other, name=operation: self.__compute__(name, other, self))

@functools.cache
def abilities_of(cls):
    methods = {name: method for c in reversed(cls.__mro__) for name, method in vars(c).items()}  # getattr would also look in its metaclass
    ours = {"__is_container__": issubclass(cls, CONTAINERS), "__hash__": cls.__hash__ is not object.__hash__}  # whatever its methods are called
    return [name for name in ABILITIES if ours.get(name, methods.get(name))]

@functools.cache
def remote_with(*abilities):
    return type("Remote", (Remote,), {name: ABILITIES[name] for name in abilities})

def literal(v):
    """-> [v as a literal of the type that it inherits from], or []"""
    return [make(split(v)) for cls, split, make in KINDS.values() if isinstance(v, cls)][:1]

@functools.cache
def has_more_than_a_literal(cls):
    """Is it a class of the candidate (an LRUCache(OrderedDict), a namedtuple) with methods or fields that a literal lacks?"""
    own = [attribute for c in cls.__mro__ if c.__module__ == "candidate" or hasattr(c, "_fields") for attribute in vars(c).items()]
    return issubclass(cls, (*CONTAINERS, tuple)) and any(not name.startswith("_") or callable(x) for name, x in own)

def reserve(frames):
    """Raises RecursionError here and not between two messages."""
    if frames:
        reserve(frames - 1)

class Shared(list):
    """The containers of a call and its reply, as both ends number them: in the order in which they end in the messages. Where one of them
    comes again, its number is sent: a list that occurs twice is one list at the other end too, and an argument that is returned the same."""
    def __init__(self, containers=()):
        super().__init__(containers)
        self.numbers = {id(c): n for n, c in enumerate(self)}
    def add(self, container):
        self.numbers[id(container)] = len(self)
        self.append(container)
        return container

def need_no_packing(parts):
    kinds = {*map(type, parts)}
    return kinds <= {bool, float, str, type(None)} or kinds == {int} and -2**63 <= min(parts) and max(parts) < 2**63

def parts_of(container):
    return KINDS[type(container).__name__][1](container)

def replace_parts(container, new):
    """In place, as far as can be: who goes through the container meanwhile does not notice that only values change."""
    if isinstance(container, (list, bytearray)):
        container[:] = new
    elif isinstance(container, dict) and list(container) == list(new) or isinstance(container, collections.deque) and len(container) == len(new):
        for key, value in new.items() if isinstance(new, dict) else enumerate(new):
            container[key] = value
    else:
        container.clear()
        (container.update if isinstance(container, (dict, set)) else container.extend)(new)

def same_parts(old, new):
    return len(old) == len(new) and all(a is b or type(a) is type(b) in (int, str) and a == b for a, b in zip(old, new))

class Peer:
    """One end of the pipe. A call waits for its reply, and answers calls that come in meanwhile (to a lambda of the tests)."""
    def __init__(self, pipe, lost, **names):
        self.pipe, self.remotes, self.errors, self.own_errors, self.turn = pipe.makefile("rwb"), {}, {}, {}, threading.RLock()
        self.literals = {}  # of Remotes, as long as nothing else is called
        self.types = dict(TYPES)
        self.lost = lost  # lost(why) is called when the other end is gone or talks nonsense; it must not return, nor raise what
        # an `except:` in a test could swallow. names: what the other end may call besides what was sent to it
        self.exports = {**OPERATIONS, **ARITHMETIC, "literal": literal, "next": lambda iterator: [item for item in [next(iterator, Peer)] if item is not Peer],
                        "await": lambda coroutine: importlib.import_module("asyncio").run(coroutine), **names}

    def pack(self, v, shared):
        if v is None or type(v) in (bool, float, str) or type(v) is int and -2**63 <= v < 2**63:
            return v
        if id(v) in shared.numbers:
            return ["again", shared.numbers[id(v)]]
        if isinstance(v, (Remote, RemoteTuple)):
            return ["yours", v.__handle__]
        if isinstance(v, tuple) and type(v) is not tuple and has_more_than_a_literal(type(v)):
            self.exports[id(v)] = v
            return ["named tuple", id(v), " ".join(getattr(v, "_fields", ())), *[self.pack(part, shared) for part in v]]
        if self.exports.get(id(v)) is v:
            return self.pack_handle(v)
        for kind, (cls, split, _) in KINDS.items():
            if isinstance(v, cls):
                parts = split(v)
                packed = [kind, *(parts if need_no_packing(parts) else [self.pack(part, shared) for part in parts])]
                if issubclass(cls, CONTAINERS):
                    shared.add(v)
                return packed
        if isinstance(v, type) and TYPES.get(v.__name__) is v:
            return ["type", v.__name__]
        if isinstance(v, type) and issubclass(v, BaseException):
            return ["error", json.dumps(self.names_of(v))]
        return self.pack_handle(v)

    def pack_handle(self, v):
        self.exports[id(v)] = v
        if isinstance(v, types.CoroutineType):
            return ["coroutine", id(v)]
        indexed = isinstance(v, type) and hasattr(v, "__class_getitem__")  # Stack[int]
        return ["remote", id(v), *abilities_of(type(v)), *["__getitem__"] * indexed]

    def unpack(self, v, shared):
        """The inverse of pack: makes literals, stand-ins, and what was sent from here before. Nothing else."""
        if type(v) is not list:
            return v
        kind, parts = v[0], v[1:]
        if list in {*map(type, parts)}:
            parts = [self.unpack(part, shared) for part in parts]
        if kind in KINDS:
            made = KINDS[kind][2](parts)
            return shared.add(made) if isinstance(made, CONTAINERS) else made
        if kind == "error":
            return self.error(*tuples(json.loads(*parts)))
        handle, *more = parts
        if kind == "named tuple":
            made = RemoteTuple(more[1:])
            made.__dict__.update(zip(more[0].split(), made))  # "count" would be the tuple's
            made.__dict__.update(__peer__=self, __handle__=handle)
            return made
        if kind == "again" and type(handle) is int and handle >= 0:
            return shared[handle]
        if kind in ("remote", "coroutine"):
            remote = self.remotes.setdefault(handle, remote_with(*more)(self, handle))
            return remote if kind == "remote" else self.coroutine(remote)
        if kind == "yours" and type(handle) is int:  # not our own functions
            return self.exports[handle]
        return {"type": self.types}[kind][handle]

    async def coroutine(self, remote):  # it runs to its end at the other end when it is awaited here
        return self.call("await", remote)

    def names_of(self, cls):
        names = error_names(cls)
        if names[1:]:
            self.own_errors.setdefault(names, cls)
        return names

    def error(self, name, *bases):
        """The exception of this name: a builtin one, one of our own, or a new class with these bases, which a test can catch by its name."""
        if not bases:
            return EXCEPTIONS[name]
        own = self.own_errors.get((name, *bases))
        if own and not issubclass(own, (StopIteration, StopAsyncIteration)):  # see EXCEPTIONS
            return own
        if (name, *bases) not in self.errors:
            self.errors[(name, *bases)] = type(name, (*[self.error(*base) for base in bases],), {})
        return self.errors[(name, *bases)]

    def send(self, *message):
        line = encode(message)
        if len(line) > MAX_MESSAGE:
            raise ValueError("too many bytes to pass")
        with contextlib.suppress(OSError):  # the other end is gone, as receive() will find
            self.pipe.write(line)
            self.pipe.flush()

    def receive(self):
        line = self.pipe.readline(MAX_MESSAGE + 1)
        if not line.endswith(b"\n"):
            self.lost("an answer is too long" if len(line) > MAX_MESSAGE else "")
        return decode(line)

    def call(self, target, /, *args, **kwargs):
        """Call what the other end has under this name or handle. Returns what it returns and raises what it raises."""
        reserve(25)
        with self.turn:  # one thread at a time: replies do not say whose they are
            shared = Shared()
            if target != "literal":
                self.literals.clear()
            self.send("call", target, [self.pack(v, shared) for v in args], {name: self.pack(v, shared) for name, v in kwargs.items()})
            try:
                while (message := self.receive())[0] == "call":
                    self.answer(*message[1:])
                _, error, value, changes = message
                value = self.unpack(value, shared)
                if error:
                    cls, (value, attributes) = self.error(*tuples(error)), value
                    exception = cls(*value) if cls.__module__ == "builtins" else cls.__new__(cls, *value)  # its __init__ may want others
                    exception.__dict__.update(attributes)
                for n, kind, parts in changes:
                    replace_parts(shared[n], KINDS[kind][2]([self.unpack(part, shared) for part in parts]))
            except Exception:
                self.lost("an answer cannot be read")
            if error:
                raise exception
            return value

    def answer(self, target, args, kwargs):
        shared, before = Shared(), []

        def reply(error, value):
            value = self.pack(value, shared)
            changes = [(n, type(shared[n]).__name__, [self.pack(part, shared) for part in new])
                       for n, old in enumerate(before) if not same_parts(old, new := parts_of(shared[n]))]
            self.send("reply", error, value, changes)

        try:
            values, named = [self.unpack(v, shared) for v in args], {name: self.unpack(v, shared) for name, v in kwargs.items()}
            before = [*map(parts_of, shared)]
            more = 3 if sys.getrecursionlimit() < 30_000 else 0  # for the frames that are ours; the stack is 64 MB
            sys.setrecursionlimit(sys.getrecursionlimit() + more)
            try:
                value = self.exports[target](*values, **named)
            finally:
                sys.setrecursionlimit(max(1, sys.getrecursionlimit() - more))
            if isinstance(self.exports[target], type) and has_more_than_a_literal(type(value)):
                self.exports[id(value)] = value  # what a class makes stays where it is
            reply("", value)
        except MemoryError:
            raise
        except BaseException as e:
            args = [e.errno, e.strerror, e.filename] if isinstance(e, OSError) and e.filename else [str(e)] if isinstance(e, SyntaxError) else e.args
            args = [a if type(a) in SHOWN else repr(a) for a in args]
            own = [vars(cls) for cls in reversed(type(e).__mro__[:-1]) if EXCEPTIONS.get(cls.__name__) is not cls]
            named = {k: v for part in own for k, v in part.items() if type(v) in SHOWN} | vars(e)
            attributes = {k: v for k, v in named.items() if not k.startswith("__")}
            numbered = Shared(shared[:len(before)])  # without what a reply that failed has packed
            for whole in (True, False):
                shared = Shared(numbered)
                with contextlib.suppress(RecursionError, ValueError, RuntimeError):  # a list in itself, 16 MB, a thread that still changes it
                    return reply(self.names_of(type(e)), [args, attributes] if whole else [[*map(repr, e.args)], {}])
            self.send("unreadable")

# ---- 2. The jail ----------------------------------------------------------------------------------------------------------------
# Numbers: asm/unistd_64.h (x86-64), asm-generic/unistd.h (aarch64), linux/seccomp.h, landlock.h, prctl.h, sched.h, mount.h

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # Landlock's system calls
PDEATHSIG, SECCOMP, CHILD_SUBREAPER, NO_NEW_PRIVS = 1, 22, 36, 38  # of prctl, PR_SET_..
NEW_NS, NEW_IPC, NEW_USER, NEW_NET = 0x00020000, 0x08000000, 0x10000000, 0x40000000  # of unshare, CLONE_..
NOSUID, NODEV, REC, PRIVATE = 2, 4, 1 << 14, 1 << 18  # of mount, MS_..
DENIED = """
    fork 57 -1  vfork 58 -1  execve 59 221  execveat 322 281  setsid 112 157  setpgid 109 154  unshare 272 97  setns 308 268
    ptrace 101 117  process_vm_readv 310 270  process_vm_writev 311 271  pidfd_open 434 434  pidfd_getfd 438 438
    tkill 200 130  rt_sigqueueinfo 129 138  rt_tgsigqueueinfo 297 240  pidfd_send_signal 424 424
    setpriority 141 140  sched_setparam 142 118  sched_setscheduler 144 119  sched_setaffinity 203 122  sched_setattr 314 274
    ioprio_set 251 30  socket 41 198  connect 42 203  bind 49 200  sendmsg 46 211  sendmmsg 307 269  bpf 321 280
    perf_event_open 298 241  userfaultfd 323 282  io_uring_setup 425 425  io_uring_enter 426 426  io_uring_register 427 427
    add_key 248 217  request_key 249 218  keyctl 250 219  memfd_create 319 279  memfd_secret 447 447  mq_open 240 180
    mq_unlink 241 181  shmget 29 194  shmat 30 196  shmctl 31 195  semget 64 190  semop 65 193  semctl 66 191  semtimedop 220 192
    msgget 68 186  msgsnd 69 189  msgrcv 70 188  msgctl 71 187
    chmod 90 -1  fchmod 91 52  fchmodat 268 53  chown 92 -1  fchown 93 55  lchown 94 -1  fchownat 260 54  utime 132 -1
    utimes 235 -1  futimesat 261 -1  utimensat 280 88  setxattr 188 5  lsetxattr 189 6  fsetxattr 190 7  removexattr 197 14
    lremovexattr 198 15  fremovexattr 199 16  truncate 76 45  flock 73 32  inotify_add_watch 254 27
    inotify_init 253 -1  inotify_init1 294 26
    openat2 437 437  fanotify_init 300 262  fanotify_mark 301 263  sync 162 81  syncfs 306 267
    io_setup 206 0  kcmp 312 272  get_robust_list 274 100  move_pages 279 239
"""  # name, x86-64, aarch64. From chmod on: Landlock does not govern these. Mounting: Landlock forbids it, and no capability is left
LOAD, MASK, EQUAL, ANY_BIT, AT_LEAST, GIVE = 0x20, 0x54, 0x15, 0x45, 0x35, 0x06  # instructions: (what, skips if true, skips if false, value)
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50001, 0x50026
CHECKED = [  # name, x86-64, aarch64, argument, test, value, and whether the call is denied if that holds or if not
    ("clone", 56, 220, 0, ANY_BIT, 0x10000, False),  # CLONE_THREAD: threads only
    ("kill", 62, 129, 0, EQUAL, "pid", False),
    ("tgkill", 234, 131, 0, EQUAL, "pid", False),
    ("prlimit64", 302, 261, 0, EQUAL, 0, False),
    ("prctl", 157, 167, 0, EQUAL, PDEATHSIG, True),  # we need ours
    ("fcntl", 72, 25, 1, ANY_BIT, 8, True),          # F_SETOWN, F_SETOWN_EX: signals to others
    ("ioctl", 16, 29, 1, ANY_BIT, 0xFFFFAB00, True), # only terminals' 0x54..: others set owners (as above) or flags of files
    ("fcntl", 72, 25, 1, EQUAL, 1024, True),         # F_SETLEASE: others who open the file would wait
    ("fcntl", 72, 25, 1, EQUAL, 1026, True),         # F_NOTIFY: who opens what
    ("socketpair", 53, 199, 1, ANY_BIT, 0xE, True),  # SOCK_STREAM only (asyncio needs it): others could send to any socket
    ("socketpair", 53, 199, 0, EQUAL, 1, False),     # AF_UNIX only: another could load a module of the kernel
    # Before Linux 6.2 Landlock does not govern O_TRUNC, and mode 3 counts as neither reading nor writing: (bits, their value)
    ("open", 2, -1, 1, EQUAL, (3, 3), True), ("open", 2, -1, 1, EQUAL, (0x203, 0x200), True),
    ("openat", 257, 56, 2, EQUAL, (3, 3), True), ("openat", 257, 56, 2, EQUAL, (0x203, 0x200), True)]
LAST_SYSCALL = 450  # newer ones get ENOSYS, as from an older kernel
ARCH, AUDIT_ARCH, CAPSET = {"x86_64": (0, 0xC000003E, 126), "aarch64": (1, 0xC00000B7, 91)}.get(platform.machine(), (None,) * 3)
LINUX = sys.platform == "linux" and ARCH is not None and sys.maxsize > 2**32
libc = ctypes.CDLL(None, use_errno=True)

def system(function, *args):
    """Call a function of the C library by name, or a system call by number. Does nothing where there is no Linux."""
    if not LINUX:
        return
    args = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    result = getattr(libc, function)(*args) if isinstance(function, str) else libc.syscall(ctypes.c_long(function), *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")
    return result

def enter_namespaces():
    """Namespaces of our own for users, mounts, network and IPC; and a private folder at /proc: that hides /proc, and the path exists
    everywhere and holds no library."""
    uid, gid = os.geteuid(), os.getegid()
    system("unshare", NEW_USER | NEW_NS | NEW_NET | NEW_IPC)
    for name, text in [("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")]:
        with open(f"/proc/self/{name}", "w") as f:
            f.write(text)
    system("mount", b"none", b"/", None, REC | PRIVATE, None)  # the outside does not see our mounts
    system("mount", b"tmpfs", b"/proc", b"tmpfs", NOSUID | NODEV, b"size=64m,nr_inodes=8192,mode=700")

def landlock_rules(folder):
    """-> descriptor of a ruleset: all but devices and sockets in the folder, reading of the standard library, and nothing else."""
    version = system(CREATE_RULESET, None, 0, 1)
    rights = (1 << 13) - 1 | (version >= 2) << 13 | (version >= 3) << 14 | (version >= 5) << 15  # bits in the order of landlock.h
    wanted = [rights] + [3] * (version >= 4) + [3] * (version >= 6)  # files; TCP; abstract sockets and signals
    rules = system(CREATE_RULESET, struct.pack(f"{len(wanted)}Q", *wanted), 8 * len(wanted), 0)
    unwanted = 1 << 0 | 1 << 6 | 1 << 9 | 1 << 11 | 1 << 15  # execute, character device, socket, block device, ioctl on devices
    granted = {folder: rights & ~unwanted, "/dev/null": rights & (1 << 1 | 1 << 2 | 1 << 14)}  # write, read, truncate
    for path in [*sys.path, *os.environ.get("LD_LIBRARY_PATH", "").split(":"), sys.base_prefix + "/lib", "/usr/lib", "/usr/lib64", "/lib",
                 "/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/dev/zero", "/dev/urandom"]:
        if path[1:] and os.path.exists(path):
            granted[path] = 1 << 2 | os.path.isdir(path) << 3  # read, list
    for path, bits in granted.items():
        fd = os.open(path, os.O_PATH)
        system(ADD_RULE, rules, 1, struct.pack("=Qi", bits, fd), 0)
        os.close(fd)
    return rules

def seccomp():
    """Let the kernel run a small program before each system call of this process, on its number (at 0), the kind of processor (at 4)
    and the arguments (from 16 on): what DENIED and CHECKED say is refused."""
    code = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, AUDIT_ARCH), (GIVE, 0, 0, KILL),  # 32-bit system calls have other numbers
            (LOAD, 0, 0, 0), (AT_LEAST, 0, 1, LAST_SYSCALL + 1), (GIVE, 0, 0, ENOSYS),  # x32 included
            (EQUAL, 0, 1, 435), (GIVE, 0, 0, ENOSYS)]  # clone3: libc then uses clone, whose flags can be seen
    for number in DENIED.split()[1 + ARCH::3]:
        code += [(EQUAL, 0, 1, int(number) % 2**32), (GIVE, 0, 0, EPERM)]
    for _, *numbers, argument, test, value, denied in CHECKED:  # the low half of the argument is all the kernel looks at
        mask, value = value if isinstance(value, tuple) else (2**32 - 1, value)
        code += [(EQUAL, 0, 5, numbers[ARCH] % 2**32), (LOAD, 0, 0, 16 + 8 * argument), (MASK, 0, 0, mask),
                 (test, not denied, denied, os.getpid() if value == "pid" else value), (GIVE, 0, 0, EPERM), (LOAD, 0, 0, 0)]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in [*code, (GIVE, 0, 0, ALLOW)])
    system("prctl", SECCOMP, 2, struct.pack("HP", len(code) // 8, ctypes.cast(code, ctypes.c_void_p).value), 0, 0)

# ---- 3. The two processes of a program ------------------------------------------------------------------------------------------

def child(function, *args):
    """Fork a process that runs the function, dies with its parent, and never returns. -> its pid"""
    parent, code, pid = os.getpid(), 1, os.fork()
    if pid:
        return pid
    try:
        system("prctl", PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            function(*args)
            code = 0
    except MemoryError:
        code = OUT_OF_MEMORY
    finally:
        os._exit(code)

def wait(pid):
    """-> its exit code, or minus the signal that ended it"""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def be_tests(layers, rules, codes):
    """Go to jail, fork the candidate, read a program from descriptor 0, run its tests, and write the verdict to descriptor 1."""
    os.close(codes)  # whatever is done to us, only the helper says that a program has ended
    os.setpgid(0, 0)
    output, folder, program, start = os.dup(1), os.getcwd(), None, 0
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(1, 2)
    if rules is not None:
        system(RESTRICT_SELF, rules, 0)  # Landlock, before the fork: out of a domain of our own, our death could not kill the candidate
    ours, theirs = socket.socketpair()
    candidate = child(be_candidate, theirs, layers)
    theirs.close()
    if "seccomp" in layers:
        seccomp()
    def end(status, reason=""):
        signal.setitimer(signal.ITIMER_REAL, 0)
        reason = re.sub("0x[0-9a-f]{6,}", "0x..", " ".join(reason[:5000].replace(folder, "~").split()))  # the same in every run
        reason = "".join(c if c.isprintable() else "?" for c in reason)[:200]
        # past the helper, whose memory the next candidate inherits, for a reason may quote an assert
        os.write(output, encode([status, reason, round(time.monotonic() - start, 4)]))
        os._exit(0)
    def lost(why):
        if program is None:
            os._exit(1)  # the candidate could not be set up: an error of the harness
        end(*("failed", why) if why else died(wait(candidate)))
    def attribute(function, thing, name, *value):  # of objects that a test hands over, such as nodes of a tree; of functions the name; never of frames
        if function is getattr and name in ("__name__", "__qualname__") and isinstance(thing, (types.FunctionType, types.BuiltinFunctionType, type)):
            return str(getattr(thing, name))
        if type(thing).__module__ != "__main__" or isinstance(thing, (Peer, Remote, RemoteTuple)) or name.startswith("__"):
            raise AttributeError(name)
        return function(thing, name, *value)
    peer = Peer(ours, lost, getattr=functools.partial(attribute, getattr), setattr=functools.partial(attribute, setattr))
    del peer.types["type"]  # with which the candidate could make classes in this process
    peer.receive()
    job = sys.stdin.buffer.readline()
    os.dup2(1, 0)
    program, start = Program(*decode(job)), time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, program.timeout)  # kills us, which kills the candidate
    try:
        run(program, peer)
    except BaseException as e:
        if isinstance(e, SystemExit):
            raised_in = traceback.extract_tb(e.__traceback__)[-1].filename
            if raised_in == getattr(sys.modules.get("unittest.main"), "__file__", "") and not e.code:  # only there it is no answer of the candidate
                end("passed")  # unittest.main()'s way to say it
        text = ""
        with contextlib.suppress(BaseException):  # what cannot be printed: an int of 5,000 digits, an answer whose __str__ raises
            text = str(e)
            if isinstance(e, AssertionError) and not text:  # show the assert itself
                lines = [frame.lineno for frame in traceback.extract_tb(e.__traceback__) if frame.filename == "<test>"]
                text = re.split("\r\n?|\n", program.test)[lines[-1] - 1].strip()
        end("memory" if isinstance(e, MemoryError) else "failed", type(e).__name__ + (f": {text}" if text else ""))
    end("passed")

def run(program, peer):
    class Names(dict):
        """The globals of the tests. What they lack are builtins, else modules of the standard library, else the candidate's."""
        def __missing__(self, name):
            ours = name != entry_point
            if ours and hasattr(builtins, name):
                raise KeyError(name)  # Python goes on to look there
            value = importlib.import_module(name) if ours and name in sys.stdlib_module_names else peer.call("get", name)
            if isinstance(value, (Remote, types.ModuleType)):  # a number may be another one the next time
                self[name] = value
            return value
    entry_point = re.match(r"\w*", program.entry_point)[0]  # "Solution" of "Solution().solve"
    names = Names(__name__="__main__")
    module = sys.modules["__main__"] = type("Module", (), {})()
    module.__dict__ = names  # where dataclasses look for quoted annotations, and unittest for tests
    peer.call("load", program.code)
    random.seed(0)  # HumanEval 32, 38, 50 and 53 draw their inputs
    exec(compile(program.setup, "<setup>", "exec", dont_inherit=True), names)
    names.pop(entry_point, None)  # HumanEval's prompt defines a stub
    peer.own_errors.update({error_names(v): v for v in names.values() if isinstance(v, type) and issubclass(v, BaseException)
                            and not v.__module__.startswith("unittest")})  # SkipTest
    with contextlib.suppress(Exception):
        names[entry_point]  # for tests that look in globals()
    test = compile(program.test, "<test>", "exec", dont_inherit=True)
    for name in names_in_classes(test):  # the body of a class does not ask __missing__
        with contextlib.suppress(Exception):
            names.setdefault(name, names[name])
    exec(test, names)

def names_in_classes(code):
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from inner.co_names if "__qualname__" in inner.co_names else ()
            yield from names_in_classes(inner)

def be_candidate(pipe, layers):
    """Say hello, and answer calls until killed. Knows nothing of the program yet: its code comes over the pipe."""
    if "seccomp" in layers:
        seccomp()
    os.dup2(pipe.detach(), 3)
    os.dup2(1, 0)
    os.closerange(4, LIMITS["NOFILE"])
    module = sys.modules["candidate"] = types.ModuleType("candidate")
    random.seed(0)
    builtins.exit = builtins.quit = sys.exit
    peer = Peer(socket.socket(fileno=3), lambda why: os._exit(1), getattr=getattr, setattr=setattr, get=lambda name: vars(module)[name],
                load=lambda code: exec(compile(code, "<candidate>", "exec", dont_inherit=True), vars(module)))
    peer.send("jailed")
    while True:
        peer.answer(*peer.receive()[1:])

def died(code):
    if code == OUT_OF_MEMORY:
        return "memory", "MemoryError"
    if code < 0:
        return "crashed", "killed by " + next((s.name for s in signal.Signals if s == -code), f"signal {-code}")
    return "crashed", f"left with exit code {code} instead of answering"

# ---- 4. The helper --------------------------------------------------------------------------------------------------------------

def helper(codes, memory_mb, namespaces, allow_unsafe):
    """Write [level, error] to the descriptor `codes`, and then for each program, after its end, the exit code of the process that ran its tests."""
    def say(message):
        os.write(codes, encode(message))
    for number in (signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)  # what the caller ignores or blocks, we inherit
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as f:
        f.write("1000")  # where memory ends, the kernel is to take a candidate and not the caller with its model
    system("prctl", CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans of our children become ours, to be waited for
    system("prctl", NO_NEW_PRIVS, 1, 0, 0, 0)  # no new privileges, without which Landlock and seccomp are for root only
    steps = [("namespaces", enter_namespaces)] * namespaces
    steps += [("landlock", lambda: system(RESTRICT_SELF, landlock_rules("/"), 0)), ("seccomp", seccomp)]
    # each is tried in a throw-away child: some systems let unshare succeed and then refuse the rest
    layers = [name for name, step in steps if LINUX and wait(child(step)) == 0]
    level = "+".join([*layers, "rlimits"])
    if not allow_unsafe and not {"landlock", "seccomp"} <= set(layers):
        return say(["", f"untrusted programs need Linux with Landlock and seccomp; this system offers {level} "
                        "(allow_unsafe=True runs them all the same)"])
    if "namespaces" in layers:
        enter_namespaces()
    folder = "/proc" if "namespaces" in layers else tempfile.mkdtemp(prefix="sandbox-")
    rules = landlock_rules(folder) if "landlock" in layers else None
    for name, value in [*LIMITS.items(), *[("AS", memory_mb << 20)] * LINUX, *[("NPROC", 512)] * ("namespaces" in layers)]:  # macOS refuses to limit memory
        kind = getattr(resource, "RLIMIT_" + name)
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, [value if hard == resource.RLIM_INFINITY else min(value, hard)] * 2)
    os.chdir(folder)
    os.environ.update(HOME=folder, TMPDIR=folder)
    tempfile.tempdir = folder
    for name in """array bisect calendar cmath copy dataclasses enum functools hashlib heapq inspect io numbers operator statistics
                   string textwrap threading unicodedata""".split():  # what programs import most: saves them the time
        importlib.import_module(name)
    system(CAPSET, struct.pack("II", 0x20080522, 0), bytes(24))  # no capabilities: root still owns files, but those Landlock hides
    gc.freeze()  # the children's garbage collections leave our pages alone: fewer to copy
    say([level, ""])
    while True:
        watch, alive = os.pipe()
        tests = child(be_tests, layers, rules, codes)
        os.close(alive)  # but the tests' copy, which closes when they end
        poll = select.poll()
        poll.register(0, 0)
        poll.register(watch, 0)
        caller_is_gone = 0 in dict(poll.poll())
        with contextlib.suppress(ProcessLookupError):
            os.killpg(tests, signal.SIGKILL)  # nobody has left the process group: seccomp denies setsid and setpgid
        code = wait(tests)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        os.close(watch)
        empty(folder)
        if caller_is_gone:
            break
        say(code)
    if "namespaces" not in layers:
        os.rmdir(folder)

def empty(folder):
    """Without recursion: programs nest folders deeper than a path or a stack may be, so what a folder holds is lifted up first."""
    while names := os.listdir(folder):
        for path in [os.path.join(folder, name) for name in names]:
            if os.path.islink(path) or not os.path.isdir(path):
                os.unlink(path)
                continue
            os.chmod(path, 0o700)
            for inner in list(os.scandir(path)):
                if inner.is_dir(follow_symlinks=False):
                    os.chmod(inner.path, 0o700)  # only a folder that we may write to can be moved
                os.rename(inner.path, os.path.join(folder, os.urandom(8).hex()))
            os.rmdir(path)

# ---- 5. The caller's side -------------------------------------------------------------------------------------------------------

class Sandbox(contextlib.AbstractContextManager):
    """Judges programs with `workers` helpers, one program each at a time. Leaving the `with` block ends them."""
    def __init__(self, workers=None, memory_mb=1024, namespaces=True, allow_unsafe=False):
        self.config, self.helpers, self.workers, self.closed = (memory_mb, namespaces, allow_unsafe), [], workers or os.cpu_count(), False
        self.threads, self.level = concurrent.futures.ThreadPoolExecutor(self.workers), ""
        try:
            self.idle = [self.start()]  # which tells the level; the others start when they are needed
        except SandboxError:
            self.close()
            raise

    def start(self):
        # No -I: it would ignore PYTHONHASHSEED, and the order of a set must be the same in every run. -s -S: no site-packages
        env = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:backslashreplace",
               "MALLOC_ARENA_MAX": "2", "TZ": "UTC", **{k: os.environ[k] for k in ("TMPDIR", "LD_LIBRARY_PATH") if k in os.environ}}
        try:
            codes, theirs = os.pipe()
            try:
                command = [sys.executable, "-s", "-S", os.path.abspath(__file__), json.dumps([theirs, *self.config])]
                helper = subprocess.Popen(command, env=env, cwd="/", start_new_session=True, pass_fds=[theirs], stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            except OSError:
                os.close(codes)
                raise
            finally:
                os.close(theirs)
        except OSError as error:
            raise SandboxError(f"the helper process cannot be started: {error}")
        helper.codes = os.fdopen(codes, "rb")
        os.set_blocking(helper.stdout.fileno(), False)
        try:
            level, refused = json.loads(helper.codes.readline() or '["", "the helper process did not start"]')
        except BaseException:  # Ctrl-C
            helper.kill()
            raise
        self.helpers.append(helper)
        if level != (self.level or level):
            refused = f"a helper process has {level}, and the first had {self.level}"
        if refused:
            self.stop(helper)
            raise SandboxError(refused)
        self.level = level
        return helper

    def stop(self, helper):
        try:
            self.helpers.remove(helper)
        except ValueError:  # another thread stops it
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            helper.communicate(timeout=10)  # closes its input: it ends its program and itself
        helper.kill()
        helper.wait()
        helper.codes.close()

    def close(self, *_):
        self.closed = True
        for _ in range(2):  # a thread may have been about to start a helper
            for helper in list(self.helpers):
                self.stop(helper)
            self.threads.shutdown(cancel_futures=True)

    __exit__ = close

    def judge(self, programs):
        """Yields (index, Verdict) as they come. Takes no more programs than it has workers for."""
        jobs, done, busy = enumerate(programs), queue.SimpleQueue(), 0  # not futures.wait(): interrupted, it can leave locks behind
        while True:
            for job in itertools.islice(jobs, self.workers - busy):
                self.threads.submit(self.judge_one, *job).add_done_callback(done.put)
                busy += 1
            if not busy:
                return
            future, busy = done.get(), busy - 1
            yield future.result()

    def judge_one(self, i, program):
        """What fails in the harness is tried three times, with new helpers."""
        program = Program(*program)
        if not 0 < program.timeout <= 1e6:
            raise ValueError(f"timeout is {program.timeout}; it must be above 0 and at most a million seconds")
        error = SandboxError(f"program {i}: a helper process died or hangs")
        for _ in range(3):
            if self.closed:
                break
            try:
                helper = self.idle.pop()
            except IndexError:
                try:
                    helper = self.start()
                except SandboxError as failure:
                    error = failure
                    time.sleep(0.2)  # a machine that is out of memory or descriptors may have some again
                    continue
            if self.closed:  # close() stops it
                break
            if verdict := self.ask(helper, program):
                if helper in self.helpers:
                    self.idle.append(helper)
                return i, verdict
            self.stop(helper)
            time.sleep(0.2)
        raise error

    def ask(self, helper, program):
        """-> Verdict, or None for an error of the harness. The tests' process sends the verdict, if it gets there; after its end the helper
        sends its exit code, by another pipe."""
        line = encode(program)
        if len(line) > MAX_MESSAGE:
            line = encode(Program("", "raise ValueError('the program is too long')"))
        with contextlib.suppress(OSError):  # a dead helper shows at the end of its output
            helper.stdin.write(line)
            helper.stdin.flush()
        timeout = Verdict("timeout", f"no verdict after {program.timeout:g} s", program.timeout)
        poll = select.poll()  # not select(): the caller may have more than 1024 files open
        poll.register(helper.codes, select.POLLIN)
        if not poll.poll(1000 * (program.timeout + 60)):
            self.stop(helper)
            return timeout
        code, said = int(helper.codes.readline() or 1), b""
        with contextlib.suppress(BlockingIOError):  # nobody is left who writes: nothing stays for the next program
            while part := os.read(helper.stdout.fileno(), 1 << 16):
                said += part
        if code in (1, -signal.SIGKILL):  # not the candidate's doing: it has no means to
            return None
        if code == -signal.SIGALRM:
            return timeout
        with contextlib.suppress(ValueError, TypeError):
            status, reason, seconds = decode(said)
            if status in STATUSES and type(reason) is str and type(seconds) is float:
                return Verdict(status, reason, seconds)
        return Verdict(*died(code), 0.0)

if __name__ == "__main__":
    if not sys.argv[-1].startswith("["):
        sys.exit(print(__doc__))
    del sys.path[0]  # this file's folder: candidates import from the standard library only
    __name__ = Peer.__module__ = Remote.__module__ = RemoteTuple.__module__ = Shared.__module__ = "sandbox"  # what is in __main__ is the tests'
    helper(*json.loads(sys.argv.pop()))
