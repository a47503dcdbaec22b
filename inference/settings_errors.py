"""A pydantic error about a TOML file as one line for the user."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from .errors import InputError, input_error, nearest_first, shown


def settings_error(path: Path, text: str, error: ValidationError, root: type[BaseModel]) -> InputError:
    """Return the first error of ``error`` as one line: file, line, key, value, allowed, remedy.

    ``text`` is the file's text and ``root`` the model that refused it.
    """
    first = error.errors()[0]
    place = location(first["loc"])
    keys = [k for k in place if isinstance(k, str)]
    key, line = ".".join(keys), line_of(text, place)
    if first["type"] == "extra_forbidden":
        known = nearest_first(keys[-1], declaration(root, keys[:-1])[1].model_fields)
        return input_error(
            path,
            f"unknown key `{key}`",
            f"did you mean `{known[0]}`? Rename the key or delete it",
            line=line,
            allowed=", ".join(known),
        )
    field, _ = declaration(root, keys)
    if first["type"] == "missing":
        section = ".".join(keys[:-1])
        header = f"[[{section}]]" if len(place) > 1 and isinstance(place[-2], int) else f"[{section}]"
        under = f"under {header}" if section else "as a section"
        return input_error(path, f"key `{key}` is missing", f"add it {under}", line=line, allowed=field.description)
    value = first["input"].model_dump() if isinstance(first["input"], BaseModel) else first["input"]
    why = str(first.get("ctx", {}).get("error")) if first["type"] == "value_error" else "is not allowed"
    default = None if field.is_required() or isinstance(field.default, BaseModel) else field.default
    example = f", for example {keys[-1]} = {json.dumps(default)}" if default not in (None, ()) else ""
    return input_error(
        path,
        f"key `{key}`: value {shown(value)} {why}",
        f"correct it{example}",
        line=line,
        allowed=field.description,
    )


def location(loc: Sequence[str | int]) -> list[str | int]:
    """Return a pydantic location without the tags of unions, which hold a space and so are no bare TOML keys."""
    return [k for k in loc if isinstance(k, int) or not k.startswith("as a ")]


def declaration(root: type[BaseModel], keys: Sequence[Any]) -> tuple[FieldInfo, type[BaseModel]]:
    """Return the declaration at ``keys`` below ``root``, and the section that it is or that holds it."""
    section, field, named = root, FieldInfo(description="sections"), False
    for key in keys:
        if named:  # the user's own name of a section, such as [rules.strict]
            named = False
            continue
        if key not in section.model_fields:
            break
        field = section.model_fields[key]
        inner = _section_in(field.annotation)
        if inner is not None:
            section, named = inner, _is_mapping(field.annotation)
    return field, section


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """Return the first section named in a type such as ``tuple[Scenario, ...]`` or ``str | Rules``."""
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for a in get_args(annotation) if (found := _section_in(a))), None)


def _is_mapping(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is dict


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """Return the line of a key, or of the section that should hold it; tomllib keeps no line numbers.

    ``place`` holds keys, and after the name of an array of tables the index of the table.
    """
    section: list[str | int] = []
    tables: dict[tuple[str | int, ...], int] = {}
    best, best_line = 0, None
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[?)\[([^\[\]]+)\]", line):
            section = []
            names = [_bare(part) for part in header[2].split(".")]
            for i, name in enumerate(names):
                section.append(name)
                path = tuple(section)
                if header[1] and i == len(names) - 1:
                    tables[path] = tables.get(path, -1) + 1
                if path in tables:  # a header below [[scenario]] belongs to the latest one
                    section.append(tables[path])
            here = section
        elif assignment := re.match(r"""\s*((?:[\w.-]|"[^"]*"|'[^']*')+)\s*=""", line):
            here = section + [_bare(part) for part in assignment[1].split(".")]
        else:
            continue
        # An error about the list of [[tables]] itself names no table: the first one stands for it.
        for at in (here, here[:-1] if isinstance(here[-1], int) else here):
            if at == list(place[: len(at)]) and len(at) > best:
                best, best_line = len(at), number
    return best_line


def _bare(key: str) -> str:
    return key.strip().strip("\"'")
