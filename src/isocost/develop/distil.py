"""When to distil: the loss of a student of a teacher, and of the same student on its own.

The law is that of Busbridge et al. (2025), its constants are facts of ``scaling/busbridge``.
"""

from __future__ import annotations

import msgspec

from isocost.catalog import CatalogAt
from isocost.develop.ask import Ask

LAW = "scaling/busbridge"


class Distilled(msgspec.Struct, frozen=True):
    """Loss of a student in nats a token: on its own, and of the best teacher; ``teacher_params`` of the
    usual ratio to the student, ``kind`` says whether the constants were read or remembered."""

    alone_nats: float
    distilled_nats: float
    teacher_nats: float
    teacher_params: float
    worth: bool
    kind: str


def supervised_loss(
    params: float,
    training_tok: float,
    loss_floor: float,
    params_factor: float,
    tok_factor: float,
    params_power: float,
    tok_power: float,
    sum_power: float,
) -> float:
    """Loss of a model trained on its own: a power of the sum of two powers.

    >>> supervised_loss(1e99, 1e99, 1.22, 3355.0, 18186.0, 0.408, 0.431, 0.452) < 1.23
    True
    """
    terms = params_factor / params**params_power + tok_factor / training_tok**tok_power
    return float(loss_floor + terms**sum_power)


def student_loss(
    teacher_nats: float, alone_nats: float, reach: float, gap: tuple[float, float, float, float]
) -> float:
    """Loss of a student of a teacher.

    ``reach`` is the student's own term (size and data) to its power; ``gap`` is (teacher_power,
    gap_power, gap_width, gap_ratio): a teacher far beyond the student's own loss stops helping.

    >>> student_loss(2.0, 2.2, 0.0, (2.549, 522.6, 0.09, 1.315))
    2.0
    """
    teacher_power, gap_power, gap_width, gap_ratio = gap
    bend = 1.0 + (teacher_nats / (alone_nats * gap_ratio)) ** (1.0 / gap_width)
    return float(teacher_nats + teacher_nats**-teacher_power * bend ** (-gap_power * gap_width) * reach)


def distilled(at: CatalogAt, ask: Ask) -> Distilled:
    """A student of the asked size and data: on its own, and of a teacher of the usual ratio to it."""

    def of(part: str, *names: str) -> list[float]:
        return [at.number(LAW, name, f"of={part}") for name in names]

    sizes = ("params_factor", "tok_factor", "params_power", "tok_power", "sum_power")
    floor = at.number(LAW, "loss_floor", "of=supervised")
    own = of("supervised", *sizes)
    alone = supervised_loss(ask.active, ask.tokens, floor, *own)
    bigger = at.number("scaling/capacity-gap", "teacher_over_student") * ask.active
    # A teacher that exists has read far more than the student will: its own data do not limit it.
    teacher = supervised_loss(bigger, max(ask.tokens, 20.0 * bigger) * 10.0, floor, *own)
    part = of("distilled", *sizes)
    reach = (part[0] / ask.active ** part[2] + part[1] / ask.tokens ** part[3]) ** part[4]
    gap = of("distilled", "teacher_power", "gap_power", "gap_width", "gap_ratio")
    taught = student_loss(teacher, alone, reach, (gap[0], gap[1], gap[2], gap[3]))
    return Distilled(
        alone, taught, teacher, bigger, taught < alone, at.fact(LAW, "params_factor", "of=distilled").kind
    )
