"""Count the operations, bytes and kernels of a compiled program from its text.

XLA's own cost analysis counts the body of a loop once; here a loop counts as often as it is known to run. A kernel is what is
run as one loop over elements: a fusion, or an operation left alone. Its bytes are what it reads and writes, of slices only the
part taken.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

BYTES = {"f64": 8, "s64": 8, "u64": 8, "f32": 4, "s32": 4, "u32": 4, "pred": 1, "s8": 1, "u8": 1, "f16": 2, "bf16": 2}
KINDS = {
    "divisions and roots": ("divide", "sqrt", "rsqrt", "remainder"),
    "exponentials and logarithms": (
        "exponential", "log", "log-plus-one", "exponential-minus-one", "power", "logistic", "tanh", "erf", "cosine", "sine", "cbrt",
    ),
    "free": ("parameter", "constant", "bitcast", "broadcast", "reshape", "get-tuple-element", "tuple", "iota", "after-all",
             "opt-barrier", "slice", "dynamic-slice", "dynamic-update-slice", "concatenate", "transpose", "copy", "pad",
             "bitcast-convert", "reverse", "gather"),
}  # fmt: skip
"""Operations by kind; all others are simple: additions, multiplications, comparisons, choices, integers."""
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}
SIMPLE = "simple operations"
NO_KERNEL = ("parameter", "constant", "bitcast", "get-tuple-element", "tuple", "after-all", "opt-barrier")
LINE = re.compile(r"\s*(ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")


@dataclass
class Line:
    """One operation of the program."""

    name: str
    shapes: list[tuple[str, int]]
    """Type and number of elements; several of a tuple."""
    operation: str
    operands: list[str]
    text: str
    root: bool

    @property
    def elements(self) -> int:
        return sum(n for _, n in self.shapes)

    @property
    def bytes(self) -> int:
        return sum(BYTES.get(kind, 4) * n for kind, n in self.shapes)


@dataclass
class Counts:
    """What one run of the program does."""

    operations: Counter = field(default_factory=Counter)
    """Elements computed, by kind."""
    bytes: float = 0.0
    kernels: float = 0.0

    def add(self, other: "Counts", times: float) -> None:
        for kind, n in other.operations.items():
            self.operations[kind] += n * times
        self.bytes += other.bytes * times
        self.kernels += other.kernels * times


def _lines(text: str) -> Iterator[tuple[str, Line]]:
    """Yield the operations with the name of the computation that they are in; that of the program is ``ENTRY``."""
    inside = ""
    for raw in text.splitlines():
        if raw.endswith("{") and " -> " in raw:
            inside = "ENTRY" if raw.startswith("ENTRY") else raw.split()[0].lstrip("%")
        elif (found := LINE.match(raw)) is not None:
            root, name, shape, operation, rest = found.groups()
            shapes = [(kind, math.prod(map(int, filter(None, n.split(","))))) for kind, n in SHAPE.findall(shape)]
            operands = re.findall(r"%([\w.\-]+)", rest.split(")", 1)[0])
            yield inside, Line(name, shapes, operation, operands, rest, root is not None)


class Program:
    """A compiled program's text, ready to be counted."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Line]] = {}
        for inside, line in _lines(text):
            self.computations.setdefault(inside, {})[line.name] = line
        self.known: dict[str, Counts] = {}

    def counts(self, name: str = "ENTRY") -> Counts:
        """Return what one run of a computation does."""
        if name not in self.known:
            total, lines = Counts(), self.computations[name]
            for line in lines.values():
                called = re.findall(r"(?:calls|to_apply|body|condition)=%([\w.\-]+)", line.text)
                if line.operation == "while":
                    trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line.text)
                    for part in called:
                        total.add(self.counts(part), float(trips.group(1)) if trips else 1.0)
                elif line.operation in ("call", "conditional"):
                    for part in called or re.findall(r"%([\w.\-]+)", line.text.split("computations=")[-1]):
                        total.add(self.counts(part), 1.0)
                elif line.operation == "fusion":
                    total.operations.update(self._inside(called[0]))
                    total.bytes += self._bytes_of_fusion(line, lines, called[0])
                    total.kernels += 1
                else:
                    self._alone(line, lines, total)
            self.known[name] = total
        return self.known[name]

    def _alone(self, line: Line, lines: dict[str, Line], total: Counts) -> None:
        total.operations.update(self._operations(line, lines))
        if line.operation not in NO_KERNEL:
            total.kernels += 1
            total.bytes += line.bytes + sum(lines[o].bytes for o in line.operands if o in lines)

    def _operations(self, line: Line, lines: dict[str, Line]) -> Counter:
        kind = KIND_OF.get(line.operation, SIMPLE)
        if kind == "free":
            return Counter()
        if line.operation in ("reduce", "reduce-window"):
            return Counter({kind: sum(lines[o].elements for o in line.operands if o in lines)})
        if line.operation == "dot":
            size = max((lines[o].elements for o in line.operands if o in lines), default=1)
            return Counter({kind: 2 * size})
        return Counter({kind: line.elements})

    def _inside(self, name: str) -> Counter:
        found, lines = Counter(), self.computations[name]
        for line in lines.values():
            if line.operation == "fusion":
                found.update(self._inside(re.findall(r"calls=%([\w.\-]+)", line.text)[0]))
            else:
                found.update(self._operations(line, lines))
        return found

    def _bytes_of_fusion(self, line: Line, lines: dict[str, Line], name: str) -> float:
        inner, total = self.computations[name], 0.0
        root = next(x for x in inner.values() if x.root)
        updated = root.operation == "dynamic-update-slice"
        total += inner[root.operands[1]].bytes if updated else line.bytes
        parameters = {x.name: int(x.text.split(")")[0]) for x in inner.values() if x.operation == "parameter"}
        for parameter, number in parameters.items():
            users = [x for x in inner.values() if parameter in x.operands]
            if users and all(x.operation == "dynamic-slice" and x.operands[0] == parameter for x in users):
                total += sum(x.bytes for x in users)
            elif not (updated and root.operands[0] == parameter) and line.operands[number] in lines:
                total += lines[line.operands[number]].bytes
        return total
