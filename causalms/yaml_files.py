"""YAML of users: data only, of limited size and depth, every fault one line with its place."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalms.errors import InputError

if TYPE_CHECKING:
    import yaml

#: Most bytes, most levels of nesting and most values (aliases written out) of a YAML file.
LARGEST_YAML, DEEPEST_YAML, MOST_VALUES = 256_000, 20, 50_000


def read_yaml(path: str | os.PathLike[str], mend: str) -> Any:
    r"""Content of a YAML file: mappings, lists, texts, numbers, truth values and dates.

    Refused are keys that stand twice, tags of program objects, dates that do not exist, and files past
    :data:`LARGEST_YAML` bytes, :data:`DEEPEST_YAML` levels or :data:`MOST_VALUES` values; each alias counts as what it stands
    for, because a few lines of them can stand for gigabytes.

    Parameters
    ----------
    path : path-like
    mend : str
        What such a file holds, for messages.

    Raises
    ------
    InputError
        Naming the file, the line and the mend.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.yaml"
    >>> _ = file.write_text("name: x\nname: y\n")
    >>> read_yaml(file, "write name and rules")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: ...a.yaml: line 2: key 'name' stands twice; write name and rules
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            raw = stream.read(LARGEST_YAML + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not readable as YAML (byte {error.start + 1} is not UTF-8); save it as UTF-8") from error
    return parse_yaml(text, str(file), mend)


def parse_yaml(text: str, source: str, mend: str) -> Any:
    """Content of a YAML text, checked as :func:`read_yaml` does; ``source`` names it in messages.

    Raises
    ------
    InputError
    """
    import yaml

    if len(text) > LARGEST_YAML:
        raise InputError(f"{source}: longer than {LARGEST_YAML:,} characters; {mend}")
    try:
        loader = _loader()(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_expansion(node)
        return loader.construct_document(node)
    except _YamlRefusalError as refusal:
        raise InputError(f"{source}: {refusal}; {mend}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        problem = " ".join(str(error.problem or error.context or "").split())
        raise InputError(f"{source}: {place}not readable as YAML ({problem}); {mend}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not readable as YAML ({' '.join(str(error).split())}); {mend}") from None


class _YamlRefusalError(Exception):
    """What stands in a YAML text and is not read, with its line."""


def _refuse_expansion(root: yaml.Node) -> None:
    """Refuse a tree whose aliases, written out, are too many, too deep or go in a circle."""
    sizes: dict[int, tuple[int, int]] = {}

    def measured(node: yaml.Node, above: tuple[int, ...]) -> tuple[int, int]:
        """Values and levels of a node with every alias written out."""
        line = node.start_mark.line + 1
        if id(node) in above:
            raise _YamlRefusalError(f"line {line}: an alias stands for what holds it")
        if id(node) not in sizes:
            inner = node.value if isinstance(node.value, list) else []
            parts = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
            below = [measured(part, (*above, id(node))) for part in parts]
            sizes[id(node)] = 1 + sum(count for count, _ in below), 1 + max((deep for _, deep in below), default=0)
        count, deep = sizes[id(node)]
        if count > MOST_VALUES:
            raise _YamlRefusalError(f"line {line}: stands for more than {MOST_VALUES:,} values")
        if deep > DEEPEST_YAML:
            raise _YamlRefusalError(f"line {line}: nested more than {DEEPEST_YAML} deep")
        return count, deep

    measured(root, ())


@functools.cache
def _loader() -> type[yaml.SafeLoader]:
    """The safe loader with its limits; made when first used, because loading YAML takes time."""
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            line: int = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            if self.depth >= DEEPEST_YAML:
                raise _YamlRefusalError(f"line {line}: nested more than {DEEPEST_YAML} deep")
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise _YamlRefusalError(f"line {key.start_mark.line + 1}: a key is a list or mapping, expected a name")
                if key.value in seen:
                    raise _YamlRefusalError(f"line {key.start_mark.line + 1}: key {key.value!r} stands twice")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep)
            except (ValueError, OverflowError):
                kind = "date" if node.tag.endswith("timestamp") else "number"
                raise _YamlRefusalError(
                    f"line {node.start_mark.line + 1}: {node.value[:40]!r} is no {kind} that exists"
                ) from None

    return Loader
