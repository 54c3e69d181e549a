"""Damages of files: cut, flipped, emptied, in another encoding, under a wrong suffix; YAML that is deep, circular or wrong."""

from __future__ import annotations

import numpy as np

from studies.robustness.damage import Right, damage

Random = np.random.Generator
ANY = ("participants", "draws", "results", "policy", "design", "plan", "shard", "checkpoint", "shipped", "run", "mask")
YAML = ("policy", "design", "plan")


@damage("file", "refused", "bytes", *ANY)
def cut(content: bytes, random: Random) -> bytes:
    return content[: int(random.integers(1, max(2, len(content))))]


@damage("file", "refused", "bytes", *ANY)
def empty(content: bytes, random: Random) -> bytes:
    return b""


@damage("file", "refused", "bytes", *ANY)
def noise(content: bytes, random: Random) -> bytes:
    return random.bytes(min(len(content), 4096))


@damage("file", "refused", "bytes", *ANY)
def bits_flipped(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for place in random.integers(0, len(changed), 8):
        changed[int(place)] ^= 1 << int(random.integers(8))
    return bytes(changed)


@damage("file", "refused", "bytes", *ANY)
def zeros_inside(content: bytes, random: Random) -> bytes:
    start = int(random.integers(len(content) // 2))
    return content[:start] + b"\0" * 64 + content[start + 64 :]


@damage("file", "refused", "bytes", *ANY)
def html_page(content: bytes, random: Random) -> bytes:
    return b"<!DOCTYPE html><html><body>404 not found</body></html>\n"


@damage("file", "refused", "bytes", *ANY)
def pickle_inside(content: bytes, random: Random) -> bytes:
    return b"\x80\x04cos\nsystem\n(S'touch ran'\ntR."


@damage("file", "harmless", "bytes", "participants.csv", "draws.csv", "results.csv", *YAML)
def byte_order_mark(content: bytes, random: Random) -> bytes:
    return b"\xef\xbb\xbf" + content


@damage("file", "harmless", "bytes", "participants.csv", "draws.csv", "results.csv", *YAML)
def windows_line_ends(content: bytes, random: Random) -> bytes:
    return content.replace(b"\n", b"\r\n")


@damage("file", "refused", "bytes", "participants.csv", "draws.csv", "results.csv", *YAML)
def utf16(content: bytes, random: Random) -> bytes:
    return content.decode().encode("utf-16")


@damage("file", "refused", "bytes", "participants.csv", "draws.csv", "results.csv")
def semicolons(content: bytes, random: Random) -> bytes:
    return content.replace(b",", b";")


@damage("file", "refused", "bytes", "participants.csv", "draws.csv", "results.csv")
def line_with_a_comma_too_many(content: bytes, random: Random) -> bytes:
    lines = content.split(b"\n")
    lines[int(random.integers(1, len(lines) - 1))] += b",1"
    return b"\n".join(lines)


@damage("file", "refused", "bytes", "participants.csv", "draws.csv", "results.csv")
def unclosed_quote(content: bytes, random: Random) -> bytes:
    lines = content.split(b"\n")
    lines[int(random.integers(1, len(lines) - 1))] = b'"' + lines[1]
    return b"\n".join(lines)


@damage("file", "refused", "bytes", "participants.csv", "draws.csv", "results.csv")
def heading_repeated(content: bytes, random: Random) -> bytes:
    heading, rest = content.split(b"\n", 1)
    return heading.replace(b"trial", b"arm").replace(b"subgroup", b"estimate") + b"\n" + rest


@damage("file", "refused", "bytes", "participants.csv", "draws.csv", "results.csv")
def conflict_marks(content: bytes, random: Random) -> bytes:
    lines = content.split(b"\n")
    lines.insert(int(random.integers(1, len(lines))), b"<<<<<<< HEAD")
    return b"\n".join(lines)


def _enter_yaml() -> None:
    levels = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    nested = "(" * 500 + "gd_lesions > 0" + ")" * 500
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + levels
    texts: list[tuple[str, str | None, Right, tuple[str, ...]]] = [
        ("deep nesting", "name: " + "[" * 5000 + "]" * 5000, "refused", YAML),
        ("deep mapping", "name: " + "{a: " * 3000 + "1" + "}" * 3000, "refused", YAML),
        ("bomb of aliases", bomb + "name: *a11\n", "refused", YAML),
        ("circular alias", "name: &a [*a]\nrules: *a\n", "refused", YAML),
        ("python object", "name: !!python/object/apply:os.system ['touch ran']\n", "refused", YAML),
        ("a list", "- a\n- b\n", "refused", YAML),
        ("a number", "42\n", "refused", YAML),
        ("tabs", "name:\tx\n\trules: 1\n", "refused", YAML),
        ("two documents", "name: a\n---\nname: b\n", "refused", YAML),
        ("keys that are no text", "1: a\n? [b]\n: c\n", "refused", YAML),
        ("impossible date", "written: 2026-02-31\nname: x\n", "refused", YAML),
        ("endless number", "name: " + "9" * 6000 + "\n", "refused", YAML),
        ("null", "name: null\nrules: null\notherwise: null\n", "refused", YAML),
        ("large file", "name: x\n" + "# \n" * 4_000_000, "refused", YAML),
        ("nested condition", f"rules:\n  - when: '{nested}'\n    arm: drug\notherwise: placebo\n", "refused", ("policy",)),
        ("code in a condition", "rules:\n  - when: __import__('os').system('touch ran')\n    arm: drug\notherwise: placebo\n",
         "refused", ("policy",)),
        ("unknown column", "rules:\n  - when: nothing > 0\n    arm: drug\notherwise: placebo\n", "refused", ("policy",)),
        ("unknown arm", "rules: []\notherwise: no such arm\n", "refused", ("policy",)),
        ("probabilities above one", "rules: []\notherwise: {drug: 0.9, placebo: 0.9}\n", "refused", ("policy",)),
        ("probability not a number", "rules: []\notherwise: {drug: .nan, placebo: 0.9}\n", "refused", ("policy",)),
        ("rule without arm", "rules:\n  - when: gd_lesions > 0\notherwise: drug\n", "refused", ("policy",)),
    ]  # fmt: skip
    for name, text, right, kinds in texts:

        def put(content: bytes, random: Random, text: str | None = text) -> bytes:
            return (text or "").encode()

        put.__name__ = name
        damage("structure", right, "bytes", *kinds)(put)


_enter_yaml()


def _enter_replacements() -> None:
    changes = {
        "design": [("size: 0.6", "size: -1"), ("size: 0.6", "size: .inf"),
                   ("weeks: [24, 48]", "weeks: []"), ("sites: 2", "sites: 0"),
                   ("log_rate_week96: 1.5", "log_rate_week96: 900"), ("drug: 0.6", "drug: 1e30"),
                   ("name: A", "name: ../../A"),
                   ("weeks: [24, 48]", "weeks: [48, 24, 24]"), ("placebo: 1, drug: 1", "placebo: 1, other: 1"),
                   ("weeks: [24, 48]", "weeks: 2026-01-01")],
        "plan": [("written: 2026-11-20", "written: 2999-01-01"), ("written: 2026-11-20", "written: 20-11-2026"),
                 ("written: 2026-11-20", "written: yesterday"), ("at_most: 1", "at_most: .nan"), ("at_most: 1", "at_mots: 1"),
                 ("statistic: estimate", "statistic: colour"), ("grade: low", "grade: none"), ("at_most: 1", "at_most: '1,0'"),
                 ("at_most: 1", "at_most: 1\n    at_least: 2")],
        "policy": [("arm: drug", "arm: [drug]"), ("arm: drug", "arm: {drug: -1}"), ("gd_lesions > 0", "gd_lesions > "),
                   ("rules:", "rulez:"), ("name: escalate", "name: [a, b]"), ("gd_lesions > 0", "gd_lesions > 'x'"),
                   ("gd_lesions > 0", "gd_lesions"), ("arm: drug", "arm: 7")],
    }  # fmt: skip
    for kind, pairs in changes.items():
        for old, new in pairs:

            def put(content: bytes, random: Random, old: str = old, new: str = new) -> bytes:
                return content.replace(old.encode(), new.encode())

            put.__name__ = " ".join(new.split())
            damage("values", "refused", "bytes", kind)(put)


_enter_replacements()
