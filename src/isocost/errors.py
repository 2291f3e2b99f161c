"""Everything isocost raises on purpose.

::

    IsocostError                 exit code 2; says what, where and what to type
    ├── BadInput                 a file, a column or a value that cannot be used
    │   ├── BadTrace             a log
    │   ├── BadLimits            slo.toml, have.toml, plan.toml
    │   └── BadFact              a row of the catalog
    ├── UnknownFact              the catalog does not hold it (never zero)
    │   ├── UnknownModel         no such model; nearest names are given
    │   └── UnknownPrice         the model is known, its price on that date is not
    ├── DoesNotFit               a model and its cache do not fit the memory
    ├── Infeasible               no plan meets the limits; carries the smallest conflict
    ├── NotBuilt                 a room of the design that does not exist yet
    └── MissingExtra             an optional dependency; carries the command that installs it
"""

from __future__ import annotations

from collections.abc import Sequence


class IsocostError(Exception):
    """Base of the tree.

    ``what`` went wrong, ``where`` (file:line, column, subject), and what to ``fix`` or type.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(self.line())

    def line(self) -> str:
        """The error in one line: ``where: what. fix``."""
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}. {self.fix}" if self.fix else head


class BadInput(IsocostError):
    """A file, a column or a value that cannot be used."""


class BadTrace(BadInput):
    """A log that cannot be read as requests."""


class BadLimits(BadInput):
    """A limit, a holding or a plan file that cannot be used."""


class BadFact(BadInput):
    """A row of the catalog that is malformed."""


class UnknownFact(IsocostError):
    """A fact that the catalog does not hold on that date."""


class UnknownModel(UnknownFact):
    """A model name that no entry of the catalog matches."""


class UnknownPrice(UnknownFact):
    """A model whose price on that date is not known."""


class DoesNotFit(IsocostError):
    """Weights and one request's cache exceed the memory of the replica."""


class Infeasible(IsocostError):
    """No plan meets the limits.

    ``conflict`` is the smallest set of limits that cannot hold together; ``ways_out`` pairs each
    with what relaxing it would cost (``(limit, price in words)``).
    """

    def __init__(
        self,
        what: str,
        *,
        conflict: Sequence[str] = (),
        ways_out: Sequence[tuple[str, str]] = (),
        where: str = "",
        fix: str = "",
    ) -> None:
        self.conflict, self.ways_out = tuple(conflict), tuple(ways_out)
        super().__init__(what, where=where, fix=fix)


class NotBuilt(IsocostError):
    """A room of the design that does not exist yet."""


class MissingExtra(IsocostError):
    """An optional dependency is absent; ``fix`` is the command that installs it."""
