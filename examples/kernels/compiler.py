"""From a source to a shared object that holds nothing but a function.

After the words of the source (`static_checks.py`) the object itself is looked at: what it calls, what would run when it
is loaded, and whether it has memory of its own that a call could leave something in. Objects are kept by their sources'
hash: a group of rollouts writes the same kernel many times.
"""

import hashlib
import os
import re
import subprocess
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from examples.kernels.graphs import SIGNATURES
from examples.kernels.static_checks import INCLUDE, MATH, refusal

# Infinities stay what they are; sums may be reordered, so that loops over a row use the vector unit.
_FLAGS = (
    "-std=gnu11 -O3 -march=native -fno-math-errno -fno-trapping-math -fassociative-math -fno-signed-zeros -fPIC -w "
    "-Werror=implicit-function-declaration -Werror=incompatible-pointer-types -Werror=int-conversion "
    "-fno-stack-protector -fmax-errors=1 -fdiagnostics-color=never -fno-diagnostics-show-caret "
    "-shared -nostartfiles -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,defs -Wl,--as-needed"
)
TIMEOUT_S = 20.0
CPU_SECONDS, MEMORY_BYTES, OBJECT_BYTES = 10, 2 * 1024**3, 2 * 1024**2
KEPT = 2000
# Diagnostics in plain ASCII English.
ENVIRONMENT = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}
MAX_DIAGNOSTIC = 120
# What gcc makes of loops that fill or copy.
OF_GCC = frozenset({"memset", "memcpy", "memmove"})
CODE_THAT_RUNS_ON_LOADING = re.compile(r"^\.(preinit_array|init_array|fini_array|ctors|dtors|init|fini|tdata|tbss)")
MEMORY_OF_ITS_OWN = re.compile(r"^\.(data|bss|lbss|ldata)")
VECTOR_MATH = re.compile(r"_ZGV[a-zA-Z]+\d*[a-zA-Z]*v+_(\w+)")
# The vector forms of the C library's functions, which loops may then use.
_VECTOR = "exp log pow sin cos tan tanh atan sinh cosh erf erfc exp2 expm1 log1p log2 log10 cbrt"
VECTOR = frozenset(_VECTOR.split())


@dataclass(frozen=True)
class Compiled:
    """What came of a source.

    Attributes:
        library: the shared object; None where there is none.
        diagnostic: the first fault, for the agent; empty where there is none.
        refused: the kind of the check that refused it, "symbols" for those of the object; empty where it was only wrong
            C.
    """

    library: bytes | None
    diagnostic: str = ""
    refused: str = ""


class Compiler:
    """Compiles with gcc, at most `at_once` sources at a time, and remembers what it compiled. Threads may share it."""

    def __init__(self, at_once: int = 2) -> None:
        self._known: OrderedDict[str, Compiled] = OrderedDict()
        self._lock = threading.Lock()
        self._places = threading.Semaphore(at_once)

    def compile(self, source: str, signature: int) -> Compiled:
        """The object for a source that must have that signature, by its number in `SIGNATURES`."""
        if (refused := refusal(source)) is not None:
            return Compiled(None, refused.reason, refused.kind)
        key = hashlib.sha256(f"{signature}\0{source}".encode()).hexdigest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        with self._places:
            compiled = compile_unchecked(source, SIGNATURES[signature])
        with self._lock:
            self._known[key] = compiled
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        return compiled


def compile_unchecked(source: str, signature: str = "") -> Compiled:
    """Compile a source whose words nobody has looked at; what it calls is checked in the object."""
    with tempfile.TemporaryDirectory(prefix="kernels-") as folder:
        library = Path(folder) / "kernel.so"
        text = f"{_prelude(signature)}\n#line 1\n{INCLUDE.sub('', source)}\n"
        limits = [f"--cpu={CPU_SECONDS}", f"--as={MEMORY_BYTES}", f"--fsize={OBJECT_BYTES}", "--core=0"]
        command = ["prlimit", *limits, "gcc", *_FLAGS.split(), "-o", str(library), "-x", "c", "-", "-x", "none"]
        command += ["-lm", "-lc"] if not _has_vector_math() else ["-lmvec", "-lm", "-lc"]
        try:
            built = subprocess.run(
                command,
                input=text,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                cwd=folder,
                env=ENVIRONMENT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Compiled(None, "compiling took too long")
        if built.returncode != 0:
            return Compiled(None, _first_fault(built.stderr))
        problem = object_problem(library)
        if problem is not None:
            return Compiled(None, problem, "symbols")
        return Compiled(library.read_bytes())


def object_problem(library: Path) -> str | None:
    """What a shared object has that a kernel may not have; None where there is nothing."""
    command = ["readelf", "-SW", "--dyn-syms", str(library)]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout
    for name in re.findall(r"^\s*\[\s*\d+\]\s+(\.\S+)", listed, re.M):
        if CODE_THAT_RUNS_ON_LOADING.match(name):
            return f"it would run code when it is loaded ({name})"
        if MEMORY_OF_ITS_OWN.match(name):
            return f"it has memory that outlives a call ({name})"
    for kind, _, where, name in re.findall(r"^\s*\d+: \w+\s+\d+ (\w+)\s+\w+\s+(\w+)\s+(\w+) (\S+)", listed, re.M):
        plain = name.split("@")[0]
        vector = VECTOR_MATH.fullmatch(plain)
        if kind == "IFUNC":
            return f"it would run code when it is loaded ({plain})"
        if where == "UND" and plain not in MATH | OF_GCC and (vector is None or vector[1] not in MATH):
            return f"it calls '{plain}'"
    return None


def _prelude(signature: str) -> str:
    """Declarations that every kernel has, so that none needs a header, and the function that it must be."""
    lines = ["typedef __SIZE_TYPE__ size_t; typedef __PTRDIFF_TYPE__ ptrdiff_t;"]
    lines += [
        f"typedef __INT{bits}_TYPE__ int{bits}_t; typedef __UINT{bits}_TYPE__ uint{bits}_t;" for bits in (8, 16, 32, 64)
    ]
    lines += ["#define INFINITY (__builtin_inff())", "#define NAN (__builtin_nanf(0))"]
    takes = {"pow": 2, "atan2": 2, "fmax": 2, "fmin": 2, "fmod": 2, "hypot": 2, "copysign": 2, "fma": 3}
    for name in sorted(MATH):
        kind = "float" if name.endswith("f") and name != "erf" else "double"
        base = name.removesuffix("f") if kind == "float" else name
        is_vector = _has_vector_math() and base in VECTOR
        vector = '__attribute__((simd("notinbranch"), const))' if is_vector else "__attribute__((const))"
        lines.append(f"{kind} {name}({', '.join([kind] * takes.get(base, 1))}) {vector};")
    return "\n".join([*lines, f"{signature};" if signature else ""])


def _has_vector_math() -> bool:
    return any(
        Path(folder, "libmvec.so.1").exists()
        for folder in ("/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib")
    )


def _first_fault(stderr: str) -> str:
    """The first error of gcc, as `line:column: what`, short."""
    found = re.search(r"<stdin>:(\d+):(\d+): (?:fatal )?error: (.*)", stderr)
    text = f"{found[1]}:{found[2]}: {found[3]}" if found else (stderr.strip().splitlines() or ["gcc failed"])[-1]
    return re.sub(r" \[-W.*\]$", "", text)[:MAX_DIAGNOSTIC]
