# SPDX-License-Identifier: Apache-2.0
"""Damage to packed files: what a program says of itself, what the header says of its tensors, and single bytes."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import struct
from collections.abc import Iterator
from typing import Any

from _packed_files import in_file
from bittern.deploy.kinds.table import KINDS

NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    63,
    64,
    65,
    255,
    1000,
    2**15,
    2**16,
    2**24,
    2**31 - 1,
    2**31,
    2**32,
    2**40,
    2**63,
    -(2**31),
)
ODD = (None, True, "", "sign", "acc", 0.5, 1e30, [], [1], [2, 2], [0, 0], {}, 10**30, [[1]], -0.0)
KIND, NAME, INPUTS, ATTRS, ROLES = range(5)


def mutated(data: bytes, r: random.Random) -> bytes:
    """The file with up to four kinds of damage, or none."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    content = json.loads(header["__metadata__"]["bittern-packed"])
    for _ in range(r.choice((0, 1, 1, 1, 2, 3, 4))):
        with contextlib.suppress(TypeError, AttributeError, ValueError, KeyError):  # damage done before is in the way
            if content.get("few_bits") and r.random() < 0.1:
                _few_bits(content["few_bits"], r)
            elif r.random() < 0.8:
                r.choice(PROGRAM)(content["program"], r)
            else:
                body = r.choice((_entry, _numbers))(header, body, r)
    header["__metadata__"]["bittern-packed"] = json.dumps(content)
    result = in_file(header, body)
    return r.choice((_bytes, _cut))(result, r) if r.random() < 0.1 else result


def _few_bits(table: dict[str, Any], r: random.Random) -> None:
    """The bits or the shape of a weight in planes, or the whole entry."""
    name = r.choice(list(table))
    match r.randrange(4):
        case 0:
            del table[name]
        case 1:
            table[name] = _odd(r)
        case 2:
            table[name][0] = _number(table[name][0], r)
        case _:
            shape = table[name][1]
            shape[r.randrange(len(shape))] = _number(r.choice(shape), r)


def _number(old: Any, r: random.Random) -> Any:
    """Something in place of a number: near it, at the edge of some type, or of another type."""
    if type(old) is int and r.random() < 0.7:
        return old + r.choice((1, -1, old, 2, 64, -2 * old))
    return r.choice(NUMBERS) if r.random() < 0.8 else _odd(r)


def _odd(r: random.Random) -> Any:
    """A value of its own, for damage that comes later changes lists where they are."""
    return copy.deepcopy(r.choice(ODD))


def _attr(program: Any, r: random.Random) -> None:
    node = _node(program, r)
    if node is None:
        return
    known = [*node[ATTRS], *(KINDS[node[KIND]].attrs if node[KIND] in KINDS else ())]
    if not known:
        return
    key = r.choice(known)
    old = node[ATTRS].get(key)
    rule = KINDS[node[KIND]].attrs.get(key) if node[KIND] in KINDS else None
    if isinstance(old, list) and old and r.random() < 0.8:
        old[r.randrange(len(old))] = _number(r.choice(old), r)
    elif isinstance(old, list):
        node[ATTRS][key] = r.choice((old + old, old[:-1], old[::-1]))
    elif rule is not None and rule.choices and r.random() < 0.9:
        node[ATTRS][key] = r.choice(rule.choices)
    elif r.random() < 0.1:
        node[ATTRS].pop(key, None)
    else:
        node[ATTRS][key] = (not old) if type(old) is bool else _number(old, r)


def _node(program: Any, r: random.Random) -> Any:
    nodes = [node for node in program["nodes"] if isinstance(node, list) and len(node) == ROLES + 1]
    return r.choice(nodes) if nodes else None


def _inputs(program: Any, r: random.Random) -> None:
    node = _node(program, r)
    if node is None or not node[INPUTS]:
        return
    count = len(program["nodes"])
    if r.random() < 0.8:
        node[INPUTS][r.randrange(len(node[INPUTS]))] = r.randint(0, count)
    else:
        node[INPUTS] = r.choice((node[INPUTS] * 2, node[INPUTS][:-1], [*node[INPUTS], r.randint(0, count)], [-1]))


def _order(program: Any, r: random.Random) -> None:
    nodes = program["nodes"]
    if not nodes:
        return
    i, j = r.randrange(len(nodes)), r.randrange(len(nodes))
    action = r.randrange(3)
    if action == 0:
        nodes[i], nodes[j] = nodes[j], nodes[i]
    elif action == 1:
        del nodes[i]
    else:
        nodes.insert(
            j, [*nodes[i][:NAME], f"again{len(nodes)}", *nodes[i][INPUTS:]] if isinstance(nodes[i], list) else nodes[i]
        )


def _shape(program: Any, r: random.Random) -> None:
    if "inputs" in program:
        _given(program, r)
        return
    shape = program["input"]
    if shape and r.random() < 0.8:
        i = r.randrange(len(shape))
        shape[i] = _number(shape[i], r)
    else:
        program["input"] = r.choice(([*shape, 1], shape[:-1], shape[::-1]))


def _given(program: Any, r: random.Random) -> None:
    """Damage to the inputs of a program that takes several, or to how they are given."""
    part = r.choice(("inputs", "parameters", *(("sizes", "conditions") if "sizes" in program else ())))
    if part in ("sizes", "conditions"):
        _damage(program[part], r)
        return
    entries = program[part]
    i = r.randrange(len(entries))
    action = r.randrange(4)
    if action == 0:
        entries[i][r.randrange(len(entries[i]))] = _odd(r)
    elif action == 1:
        entries.insert(r.randrange(len(entries)), copy.deepcopy(entries[i]))
    elif action == 2:
        del entries[i]
    elif part == "inputs":
        field = r.choice((1, 2, 3))
        old = entries[i][field]
        if field == 2 and old:
            old[r.randrange(len(old))] = _number(r.choice(old), r)
        else:
            entries[i][field] = r.choice(("int64", "bool")) if field == 1 else r.choice((None, 0, 1, 2, 7))
    else:
        tree = entries[i][1]
        for _ in range(r.choice((1, 2, 20))):
            tree = [r.choice(("tuple", "list", "constant")), tree]
        entries[i][1] = tree if r.random() < 0.5 else _number(0, r)


def _damage(entries: Any, r: random.Random) -> None:
    """Something else in place of one entry of a list, or of a list within it."""
    i = r.randrange(len(entries))
    if isinstance(entries[i], list) and entries[i] and r.random() < 0.8:
        _damage(entries[i], r)
    elif r.random() < 0.3:
        entries[i] = r.choice((["+", 1, 2], ["*", 2**30, 2**30, 2**30], ["//", 1, 0], [entries[i]], "batch", "size1"))
    else:
        entries[i] = _number(entries[i], r)


def _expression(program: Any, r: random.Random) -> None:
    """Damage to a size that a node computes."""
    node = _node(program, r)
    found = [] if node is None else list(_expressions(node[ATTRS]))
    if found:
        chosen = r.choice(found)
        whole = [chosen["size"]]
        _damage(whole, r)
        chosen["size"] = whole[0]
        if r.random() < 0.1:
            chosen["dim"] = r.choice((0, 1, -1, 9))


def _expressions(value: Any) -> Iterator[Any]:
    if isinstance(value, dict) and "size" in value:
        yield value
    elif isinstance(value, (dict, list)):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _expressions(entry)


def _kind(program: Any, r: random.Random) -> None:
    node = _node(program, r)
    if node is not None:
        node[KIND] = r.choice((*KINDS, "more"))


def _output(program: Any, r: random.Random) -> None:
    program["output"] = r.choice((r.randint(0, len(program["nodes"])), r.choice(NUMBERS), _odd(r)))


def _field(program: Any, r: random.Random) -> None:
    """Any part of a node of another type."""
    if program["nodes"]:
        node = r.choice(program["nodes"])
        if isinstance(node, list) and node:
            node[r.randrange(len(node))] = _odd(r)


def _entry(header: Any, body: bytes, r: random.Random) -> bytes:
    names = [name for name in header if name != "__metadata__"]
    if not names:
        return body
    entry = header[r.choice(names)]
    action = r.randrange(5)
    if action == 0:
        entry["dtype"] = r.choice(("F32", "U8", "I8", "I32", "F64", "BF16", "BOOL", 3, None, [], {}))
    elif action == 1:
        entry["shape"] = r.choice(
            (entry["shape"][::-1], [*entry["shape"], 1], [1, *entry["shape"]], [0], [], [-1], [2**47, 0, 2**47], None)
        )
    elif action == 2:
        entry["data_offsets"] = r.choice(
            (header[r.choice(names)]["data_offsets"], [0, 0], [0], [-4, 4], [2**62, 2**63], "0")
        )
    elif action == 3 and isinstance(entry["shape"], list) and entry["shape"]:
        i = r.randrange(len(entry["shape"]))
        entry["shape"][i] = _number(entry["shape"][i], r)
    else:
        return r.choice((body[:-1], body + b"\0", body[4:], b""))
    return body


def _numbers(header: Any, body: bytes, r: random.Random) -> bytes:
    """Floats and integers at the edge: infinities, NaN, subnormal, largest; random bytes."""
    if len(body) < 4:
        return body
    at = r.randrange(0, len(body) - 3) & ~3
    words = (0x7F800000, 0x7FC00000, 0x00000001, 0x7F7FFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFF, r.getrandbits(32))
    return body[:at] + struct.pack("<I", r.choice(words)) + body[at + 4 :]


def _bytes(data: bytes, r: random.Random) -> bytes:
    at = r.randrange(len(data))
    return data[:at] + r.randbytes(r.randint(1, 4)) + data[at + r.randint(0, 4) :]


def _cut(data: bytes, r: random.Random) -> bytes:
    return data[: r.randrange(len(data))]


PROGRAM = (*(_attr,) * 4, *(_expression,) * 2, *(_inputs,) * 2, _order, _shape, _kind, _output, _field)
