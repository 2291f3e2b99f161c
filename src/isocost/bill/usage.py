"""What a request used, and what its bill says: plain data, without arrays."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, NamedTuple

import msgspec

from isocost.errors import BadInput
from isocost.units import usd_of

Status = Literal["priced", "partial", "unpriced"]
STATUS: tuple[Status, ...] = ("priced", "partial", "unpriced")
"""Names of the status codes of a columnar bill."""


class Usage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one request used.

    ``input_tok`` counts all input: text and audio, read from the cache (``cached_tok``), written to it
    (``cache_write_tok`` for the provider's short life, ``cache_write_1h_tok`` for an hour) and plain.
    ``output_tok`` counts all output, reasoning and audio included. ``audio_input_tok`` is plain audio inside
    the input, ``audio_cached_tok`` audio inside ``cached_tok``, ``audio_output_tok`` audio inside the output;
    ``image_input_tok``, ``image_cached_tok`` and ``image_output_tok`` the same of images, where the provider
    counts them apart. ``cache_storage_tok_h`` are tokens held in an explicit cache times hours,
    ``file_searches`` searches of stored files that the model made.
    """

    input_tok: int = 0
    cached_tok: int = 0
    cache_write_tok: int = 0
    output_tok: int = 0
    cache_write_1h_tok: int = 0
    audio_input_tok: int = 0
    audio_cached_tok: int = 0
    audio_output_tok: int = 0
    web_searches: int = 0
    requests: int = 1
    image_input_tok: int = 0
    image_cached_tok: int = 0
    image_output_tok: int = 0
    cache_storage_tok_h: int = 0
    file_searches: int = 0

    def quantities(self) -> dict[str, int]:
        """Quantity of every meter.

        Raises:
            BadInput: a negative count, or parts that exceed their whole.
        """
        found = {
            "input": self.input_tok
            - self.cached_tok
            - self.cache_write_tok
            - self.cache_write_1h_tok
            - self.audio_input_tok
            - self.image_input_tok,
            "cache_read": self.cached_tok - self.audio_cached_tok - self.image_cached_tok,
            "cache_write": self.cache_write_tok,
            "cache_write_1h": self.cache_write_1h_tok,
            "output": self.output_tok - self.audio_output_tok - self.image_output_tok,
            "audio_input": self.audio_input_tok,
            "audio_cache_read": self.audio_cached_tok,
            "audio_output": self.audio_output_tok,
            "request": self.requests,
            "web_search": self.web_searches,
            "image_input": self.image_input_tok,
            "image_cache_read": self.image_cached_tok,
            "image_output": self.image_output_tok,
            "file_search": self.file_searches,
            "cache_storage": self.cache_storage_tok_h,
        }
        for meter, quantity in found.items():
            if quantity < 0:
                raise BadInput(
                    f"{quantity} units of {meter}",
                    where="usage",
                    fix="Input counts all input and output all output: no part may exceed its whole",
                )
        return found


class Line(NamedTuple):
    """One line of a bill: ``quantity`` of a meter at ``unit_price`` USD for ``per`` units."""

    meter: str
    quantity: int
    unit_price: Decimal
    per: int
    facts: tuple[str, ...]
    amount_fusd: int


class Priced(msgspec.Struct, frozen=True):
    """The bill of one request; ``why`` says what an amount that is only a lower bound leaves out, or that its
    prices were announced for that day and not yet seen in force."""

    amount_fusd: int
    lines: tuple[Line, ...]
    status: Status
    why: str = ""

    @property
    def usd(self) -> Decimal:
        """The amount in dollars, exact."""
        return usd_of(self.amount_fusd)
