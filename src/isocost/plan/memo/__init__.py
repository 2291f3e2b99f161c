"""No log yet: from a range of volumes and two token counts to a memo for a meeting, as plain data.

``traffic`` generates requests from stated spreads; they are planned and replayed at the middle volume.
``ways`` sizes and prices every way to serve at any other; ``study`` compares them; ``wires`` says what
would turn the verdict; ``sources`` what it rests on; ``make`` puts the page together (``result``).
Facts read: ``planning/memo``, ``staff/*``.
"""

from isocost.plan.memo.make import memo
from isocost.plan.memo.result import Memo
from isocost.plan.memo.traffic import MemoAsk

__all__ = ["Memo", "MemoAsk", "memo"]
