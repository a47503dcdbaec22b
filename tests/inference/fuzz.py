"""Bad input made by machine: seeded edits of good files and command lines. Some are known to be wrong, others may be harmless."""

import csv
import io
import random
import re
from collections.abc import Callable

NASTY = (
    "", " ", "nan", "NaN", "inf", "-inf", "1e999", "-1", "0", "1e308", "-0.0", "18,0", "1_000", "0x10", "١٢", "½", "NR", "TRUE",
    "=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "../../etc/passwd", "/etc/passwd", "..\\..\\x", "C:\\x", "CON",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "{{ 7*7 }}", "${HOME}", "$(id)", "`id`", "%s%n", "[bold]", "[/x]",
    "$\\frac{$", "'", '"', '""', "a\nb", "a\rb", "\x00", "\x1b[2J", "\x07", "\x7f", "\u202eabc", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    "x" * 5000, "9" * 400, "0." + "3" * 400, "é", "数", "\ufeff", "null", "None", "[]", "{}", "--out", "1/0", "00", "1.0.0", "1e", "e5",
)  # fmt: skip
NEVER_A_NUMBER = (
    "many",
    "nan",
    "inf",
    "1e999",
    "18,0",
    "=1+1",
    "<b>",
    "1_000",
    "0x10",
    "١٢",
    "[/x]",
    "1.0.0",
    "9" * 400,
    "$\\frac{$",
)
NUL_OR_NOT_UTF8 = (b"\x00", b"\xff", b"\xc3\x28", b"\x1b[2J", b"\x07")
Case = tuple[bytes, bool]
"""A file's bytes, and whether it is known to be wrong."""


def damaged(data: bytes, rng: random.Random) -> Case:
    """Return a file with bytes changed, cut, doubled or put in; wrong where what was put in is no text."""
    at, kind = rng.randrange(len(data) + 1), rng.randrange(6)
    if kind == 0:
        return data[:at], False
    if kind == 1:
        return data[:at] + rng.choice(NUL_OR_NOT_UTF8) + data[at:], True
    if kind == 2:
        return data[:at] + rng.choice(NASTY).encode() + data[at:], False
    end = min(len(data), at + rng.randrange(1, 40))
    if kind == 3:
        return data[:at] + data[end:], False
    if kind == 4:
        return data[:end] + data[at:], False
    return data[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 8))) + data[end:], False


def _csv(rows: list[list[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode("utf-8", "replace")


def table_case(
    data: bytes,
    rng: random.Random,
    wrong: dict[str, tuple[str, ...]],
    needed: tuple[str, ...],
    unread: Callable[[dict[str, str]], tuple[str, ...]] = lambda _: (),
) -> Case:
    """Return a CSV table with one edit.

    ``wrong`` holds, by column, cells that no row can have where it is read; ``unread`` gives the columns of which a row is
    not read. Without the columns ``needed`` the table is wrong.
    """
    rows = list(csv.reader(io.StringIO(data.decode())))
    header, i = rows[0], rng.randrange(1, len(rows))
    kind = rng.randrange(8)
    if kind == 0:
        return damaged(data, rng)
    if kind in (1, 2):
        name = rng.choice(list(wrong))
        read = name not in unread(dict(zip(header, rows[i], strict=True)))
        rows[i][header.index(name)] = rng.choice(wrong[name])
        return _csv(rows), read
    if kind == 3:
        rows[i][rng.randrange(len(header))] = rng.choice(NASTY)
        return _csv(rows), False
    if kind == 4:
        at = header.index(rng.choice(needed))
        return _csv([[c for k, c in enumerate(row) if k != at] for row in rows]), True
    if kind == 5:
        del rows[i][rng.randrange(len(rows[i])) :]
        return _csv(rows), bool(rows[i]) and any(c.strip() for c in rows[i])
    if kind == 6:
        rows.append([rng.choice(NASTY) for _ in header])
        return _csv(rows), False
    rng.shuffle(rows)
    return _csv(rows), rows[0] != header


def toml_case(data: bytes, rng: random.Random) -> Case:
    """Return a TOML file with one edit: of a value, a key, a section, or of its bytes."""
    lines = data.decode().splitlines()
    keys = [i for i, line in enumerate(lines) if re.match(r"\s*[\w-]+\s*=", line)]
    i, kind = rng.choice(keys), rng.randrange(7)
    key, value = (part.strip() for part in lines[i].split("=", 1))
    if kind == 0:
        return damaged(data, rng)
    if kind == 1:
        lines[i] = f"{key} = {rng.choice(['', '1..2', '{', '[1,', 'true false', '1979-', '=', 'nope'])}"
        return "\n".join(lines).encode(), True
    if kind == 2:
        lines[i] = (
            f"{key} = {rng.choice(['nan', 'inf', '-inf', '1e400', '-1e9', '[[]]', '1979-05-27', '99999999999999999999999'])}"
        )
        return "\n".join(lines).encode(), True
    if kind == 3:
        lines.insert(i, f"{rng.choice(['unknown', '_', '1', '""', '"../x"', '"\\u0000"'])} = {value}")
        return "\n".join(lines).encode(), True
    if kind == 4:
        lines.insert(i + 1, f"{key} = {value}")
        return "\n".join(lines).encode(), True  # a key twice
    text = rng.choice(NASTY).replace("\\", "\\\\").replace('"', '\\"')
    quoted = '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text) + '"'
    lines[i] = f"{key} = {quoted}"
    hidden = not text.isprintable() or text != text.strip() or not text
    return "\n".join(lines).encode("utf-8", "replace"), hidden


def sealed_case(data: bytes, seal: int, rng: random.Random) -> Case:
    """Return a sealed file cut, with flipped bits, or with bytes behind it; harmless is only a loss of part of the seal."""
    kind = rng.randrange(3)
    if kind == 0:
        keep = rng.randrange(len(data))
        return data[:keep], keep < len(data) - seal
    out = bytearray(data)
    places = [rng.randrange(len(data)) for _ in range(1 if kind == 1 else rng.randrange(2, 50))]
    for at in places:
        out[at] ^= 1 << rng.randrange(8)
    return bytes(out), bytes(out[:-seal]) != data[:-seal]


def words_case(rng: random.Random, commands: dict[str, tuple[str, ...]], places: list[str]) -> tuple[list[str], bool]:
    """Return arguments of the command line; wrong where they name no command, an unknown option, or a value that none takes."""
    command = rng.choice(list(commands))
    options = commands[command]
    words = [command, "--out", "{out}"]
    kind = rng.randrange(5)
    if kind == 0:
        return [rng.choice(NASTY).replace("\x00", "") for _ in range(rng.randrange(5))], False
    if kind == 1:
        return [command + rng.choice("abc-"), *words[1:]], True
    if kind == 2:
        return [*words, f"--{rng.choice(['outt', 'x', 'seeed', 'no-such', '__', '=', 'Out'])}", "1"], True
    for _ in range(rng.randrange(1, 4)):
        option = rng.choice(options)
        words += [option, rng.choice([*NASTY, *places, "1", "2", "50", "100", "0.5"]).replace("\x00", "")]
    if kind == 3:
        option = rng.choice([o for o in options if o in NUMERIC] or ["--no-such"])
        return [
            *words,
            option,
            rng.choice(["many", "1,5", "-5", "1e999", "nan", "", "99999999999999999999", "½"]),
        ], True
    if rng.randrange(2):
        rng.shuffle(words)
    return words, False


NUMERIC = frozenset({
    "--chains", "--warmup", "--draws", "--virtual-patients", "--seed", "--trials", "--covariance-trials", "--widen", "--dose",
    "--days-on", "--cycle-days", "--rdi", "--patients", "--months",
})  # fmt: skip
Make = Callable[[random.Random], Case]
