"""What a query may ask for, looked at before it is validated: validation itself can be made to take minutes.

    tokens        of the text                        depth   of fields inside each other, fragments written out
    fields        all of them, fragments written out        same    fields of one name side by side
    roots         fields of the query itself

``measure`` costs as much as the text is long: each fragment is measured once. What depends on the data is bounded
while the query is executed (``resolving.Budget``).
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from millstream.errors import BadRequest

TOKENS_MAX: Final = 1_000
DEPTH_MAX: Final = 20
FIELDS_MAX: Final = 500
SAME_MAX: Final = 20
ROOTS_MAX: Final = 10


class Size:
    """A selection set with its fragments written out: its fields, by name as answered, and all below them."""

    __slots__ = ("depth", "fields", "names")

    def __init__(self) -> None:
        self.fields = 0
        self.depth = 0
        self.names: Counter[str] = Counter()


def check(document: DocumentNode) -> Measuring:
    """The sizes of what a query asks for. Raises BadRequest where that is too much."""
    named = [node for node in document.definitions if isinstance(node, FragmentDefinitionNode)]
    measuring = Measuring({node.name.value: node for node in named})
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            size = measuring.size(node.selection_set)
            _refuse("fields", size.fields, FIELDS_MAX)
            _refuse("levels of fields", size.depth, DEPTH_MAX)
            _refuse("fields at its root", size.names.total(), ROOTS_MAX)
    return measuring


class Measuring:
    """Sizes of the selection sets of one document."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._known: dict[str, Size] = {}
        self._open: set[str] = set()

    def size(self, selections: SelectionSetNode, level: int = 1) -> Size:
        """Of this selection set. Raises BadRequest where it is too large on its own."""
        _refuse("levels of fields", level, DEPTH_MAX)
        size = Size()
        for node in selections.selections:
            if isinstance(node, FieldNode):
                size.fields += 1
                size.names[node.alias.value if node.alias else node.name.value] += 1
                below = self.size(node.selection_set, level + 1) if node.selection_set else Size()
                size.fields += below.fields
                size.depth = max(size.depth, below.depth + 1)
                continue
            if isinstance(node, InlineFragmentNode):
                below = self.size(node.selection_set, level + 1)
            else:
                assert isinstance(node, FragmentSpreadNode), f"a selection of an unknown kind: {node!r}"
                below = self._fragment(node.name.value, level)
            size.fields += below.fields
            size.depth = max(size.depth, below.depth)
            size.names += below.names
        _refuse("fields", size.fields, FIELDS_MAX)
        _refuse("fields of one name side by side", max(size.names.values(), default=0), SAME_MAX)
        return size

    def _fragment(self, name: str, level: int) -> Size:
        """One that there is not, and one that holds itself, validation complains of: here they are empty."""
        if name not in self._fragments or name in self._open:
            return Size()
        if name not in self._known:
            self._open.add(name)
            self._known[name] = self.size(self._fragments[name].selection_set, level + 1)
            self._open.discard(name)
        return self._known[name]


def _refuse(what: str, count: int, most: int) -> None:
    if count > most:
        raise BadRequest(f"query refused: it may have {most} {what}, got {count} or more. Ask for less at a time.")
