"""``isocost why``: a number, its formula with live values, and the facts behind it."""

from __future__ import annotations

from isocost.cli.root import Json, app
from isocost.errors import NotBuilt


@app.command(sort_key=6)
def why(name: str, /, *, json: Json = False) -> None:
    """Say why a number is what it is: formula, live values, facts with their quotes."""
    raise NotBuilt("'why' is not built yet", fix="Use 'isocost catalog show SUBJECT' for a fact")
