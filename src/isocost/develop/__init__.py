"""What a model costs to make: from scratch, by tuning, by distillation, or bought.

:func:`programme` costs an :class:`Ask` by every way that it states enough for; :func:`optima` says which
size and data cost least under each published scaling law; :mod:`isocost.develop.published` is how the
literature costs a training run. ``way(at, ask, "hosted").book`` is one way as charges with their drivers.
"""

from isocost.develop.ask import WAYS, Ask, Federated, Serve, Tune, read_ask
from isocost.develop.optimum import Optimum, Prices, optima
from isocost.develop.programme import Programme, programme
from isocost.develop.scaling import Law, laws
from isocost.develop.ways import Way, way, ways

__all__ = [
    "WAYS",
    "Ask",
    "Federated",
    "Law",
    "Optimum",
    "Prices",
    "Programme",
    "Serve",
    "Tune",
    "Way",
    "laws",
    "optima",
    "programme",
    "read_ask",
    "way",
    "ways",
]
