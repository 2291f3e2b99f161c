"""How fast a model runs on an accelerator: shapes, roofline, memory, latency at a load.

The chain is ``arch`` and ``hardware`` (facts as arrays) to ``setup`` (layout and precision) to
``roofline`` (time of one step) to ``terms`` (its linear form, which replay executes) to ``steady``
(latency at a load, load at a limit). ``candidates`` enumerates layouts that fit.
"""

from isocost.perf.arch import Arch, arch_from_config, arch_of, model_id_of
from isocost.perf.candidates import Candidates, candidates
from isocost.perf.card import ModelCard, model_card
from isocost.perf.constants import Constants, Interval, constants_for, constants_of, interval_of, stack_of
from isocost.perf.hardware import Gpu, gpu_id_of, gpu_of
from isocost.perf.predict import Load, Prediction, Spread, load_of, quantities, spread_of, within
from isocost.perf.setup import Precision, Setup, native_precision, precision_of, setup_of
from isocost.perf.steady import Options, Steady, closed_form, closed_loop, goodput
from isocost.perf.terms import StepTerms, step_terms

__all__ = [
    "Arch",
    "Candidates",
    "Constants",
    "Gpu",
    "Interval",
    "Load",
    "ModelCard",
    "Options",
    "Precision",
    "Prediction",
    "Setup",
    "Spread",
    "Steady",
    "StepTerms",
    "arch_from_config",
    "arch_of",
    "candidates",
    "closed_form",
    "closed_loop",
    "constants_for",
    "constants_of",
    "goodput",
    "gpu_id_of",
    "gpu_of",
    "interval_of",
    "load_of",
    "model_card",
    "model_id_of",
    "native_precision",
    "precision_of",
    "quantities",
    "setup_of",
    "spread_of",
    "stack_of",
    "step_terms",
    "within",
]
