"""A YAML file with the line of everything in it."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lakehouse.errors import Misdeclared, NotFound

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A file's content, and where each part of it stands."""

    path: Path
    content: Any
    root: Node

    def line(self, place: Place) -> int:
        """Give the line of the innermost part of a place that is there: a key's own, or an item's."""
        node, line = self.root, self.root.start_mark.line
        for step in place:
            found = _inner(node, step)
            if found is not None:
                mark, node = found
                line = mark.start_mark.line
        return int(line) + 1

    def wrong(self, place: Place, reason: str) -> Misdeclared:
        """Make the error that something at a place is wrong."""
        return Misdeclared(self.path.name, self.line(place), reason)


def read(path: Path) -> Document:
    """Read a file; errors: NotFound, and Misdeclared for what is no YAML and for a key that stands twice."""
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, yaml.SafeLoader)
        content = yaml.safe_load(text)
    except OSError:
        raise NotFound("file", str(path), []) from None
    except UnicodeDecodeError:
        raise Misdeclared(path.name, 1, "it is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        raise Misdeclared(path.name, line, f"this is no YAML: {error.problem}") from None
    if root is None:
        raise Misdeclared(path.name, 1, "it is empty")
    for key in _repeated_keys(root):
        raise Misdeclared(path.name, key.start_mark.line + 1, f"the key {key.value} stands here a second time")
    return Document(path, content, root)


def _inner(node: Node, step: Hashable) -> tuple[Node, Node] | None:
    """Give the node that marks a step's place, and the one it leads to."""
    if isinstance(node, MappingNode):
        return next(((key, value) for key, value in node.value if key.value == step), None)
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _repeated_keys(node: Node) -> Iterator[ScalarNode]:
    if isinstance(node, MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key
            seen.add(key.value)
            yield from _repeated_keys(value)
    elif isinstance(node, SequenceNode):
        for item in node.value:
            yield from _repeated_keys(item)
