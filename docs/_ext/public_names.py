"""The reference of public names: constants of a room, links to names where they are documented, and the map of files.

``{public-constant} causalms.tables.ARMS`` describes a constant by the ``#:`` comment above it, wherever in the room it stands.
``{public-names} causalms`` lists the names at the top of the package, ``{file-map} causalms/effects`` the files of a folder, each
with the first sentence of its docstring. A link to an inner name (``causalms.effects.transport.transport_weights``) goes to the
page where the name is documented.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

ROOT = Path(__file__).resolve().parents[2]
LOGGER = getLogger(__name__)
#: A constant whose value is longer is described in words only.
LONGEST_VALUE = 400


class PublicConstant(SphinxDirective):
    """A constant with its value and the comment above its definition."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Describe the constant; functions, classes and rooms have pages of their own and give nothing."""
        room, _, name = self.arguments[0].rpartition(".")
        value = getattr(importlib.import_module(room), name)
        if inspect.ismodule(value) or inspect.isclass(value) or inspect.isroutine(value):
            return []
        shown = repr(value)
        lines = [f".. py:data:: {name}", f"   :module: {room}", ""]
        lines += [f"   {line}" for line in _comment(room, name)] + [""]
        if len(shown) > LONGEST_VALUE and isinstance(value, dict):
            shown = ", ".join(map(str, value))
        if len(shown) <= LONGEST_VALUE:
            lines += [f"   ``{shown}``", ""]
        holder = nodes.container()
        self.state.nested_parse(StringList(lines, source=self.arguments[0]), self.content_offset, holder)
        return holder.children


def _comment(room: str, name: str) -> list[str]:
    """The ``#:`` comment above the definition of ``name`` in the room or in one of its files."""
    package = importlib.import_module(room)
    files = [room, *(f"{room}.{each.name}" for each in pkgutil.iter_modules(getattr(package, "__path__", [])))]
    for file in files:
        try:
            comments = ModuleAnalyzer.for_module(file).find_attr_docs()
        except (PycodeError, ImportError):
            continue
        if ("", name) in comments:
            return comments["", name]
    return []


class PublicNames(SphinxDirective):
    """The names that stand at the top of the package, each with its first sentence and a link to its room."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """One line a name, itself a target of links."""
        package = importlib.import_module(self.arguments[0])
        lines = []
        for name in (name for name in package.__all__ if not name.startswith("_")):
            thing = getattr(package, name)
            home = thing.__name__ if isinstance(thing, ModuleType) else f"{thing.__module__}.{name}"
            role = "mod" if isinstance(thing, ModuleType) else "obj"
            words = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
            lines += [f"* :py:{role}:`{self.arguments[0]}.{name} <{home}>`: {words}", ""]
        holder = nodes.container()
        self.state.nested_parse(StringList(lines, source=self.arguments[0]), self.content_offset, holder)
        return holder.children


class FileMap(SphinxDirective):
    """The python files of a folder, each with the first sentence of its docstring."""

    required_arguments = 1
    option_spec = {"recursive": directives.flag}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """A definition list in alphabetical order, the room's own sentence first."""
        folder = ROOT / self.arguments[0]
        paths = sorted(folder.rglob("*.py") if "recursive" in self.options else folder.glob("*.py"))
        if not paths:
            raise self.error(f"{folder}: no python file")
        listed = nodes.bullet_list()
        for path in paths:
            self.env.note_dependency(str(path))
            words = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
            if not words:
                continue
            name = nodes.literal("", str(path.relative_to(folder)))
            text = nodes.Text(": " + " ".join(re.sub(r":\w+:(?=`)|`", "", words).split()))
            listed += nodes.list_item("", nodes.paragraph("", "", name, text))
        return [listed]


def documented_home(app: Sphinx, env: Any, node: nodes.Element, content: nodes.Element) -> nodes.Element | None:
    """Resolve a link to an inner name of the package at the public name that is documented."""
    if node.get("refdomain") != "py":
        return None
    owner, _, last = str(node["reftarget"]).rpartition(".")
    if node.get("reftype") == "attr" and owner:  # attributes stand in the docstring of their class
        last = owner.rpartition(".")[2]
    python = env.get_domain("py")
    room = str(node["reftarget"]).split(".")[1:2] if str(node["reftarget"]).startswith("causalms.") else []
    homes = [name for name in python.objects if name.rpartition(".")[2] == last]
    homes = [name for name in homes if name.split(".")[1:2] == room] or homes
    here = [name for name in homes if name.split(".")[:2] == str(node.get("py:module", "")).split(".")[:2]]
    chosen = sorted(here or homes, key=len)
    if not chosen:
        return None
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", chosen[0], node, content)


def every_public_name(app: Sphinx, env: Any) -> None:
    """Warn of a name in a room's ``__all__`` that the reference does not describe."""
    documented = env.get_domain("py").objects
    for room in sorted(name for name, entry in documented.items() if entry.objtype == "module"):
        names = [] if room == "causalms" else getattr(importlib.import_module(room), "__all__", [])
        for name in names:
            is_room = isinstance(getattr(importlib.import_module(room), name), ModuleType)
            if not is_room and f"{room}.{name}" not in documented:
                LOGGER.warning("%s.%s: in __all__ and not in the reference", room, name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives and the links."""
    app.add_directive("public-constant", PublicConstant)
    app.add_directive("public-names", PublicNames)
    app.add_directive("file-map", FileMap)
    app.connect("env-check-consistency", every_public_name)
    app.connect("missing-reference", documented_home)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
