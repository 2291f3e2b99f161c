"""Numbers of making a model: ``develop/PARAMSxTOKENS@ACCELERATOR.QUANTITY``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from isocost.catalog import CatalogAt
from isocost.develop import Ask, compute
from isocost.develop.hardware import accelerator, region, rent_term
from isocost.develop.posterior import mfu_fact
from isocost.develop.published import ANY, METHOD, of_chip
from isocost.develop.scaling import FLOP_PER_PARAM_TOK
from isocost.errors import BadInput, UnknownFact
from isocost.units import tokens
from isocost.why.formula import Leaf, Node, explain, fact_node

FORM = "develop/8e9x100e9@h100-sxm.gpu_h"
QUANTITIES = ("flop", "gpu_h", "kwh", "tco2e", "usd")


def of_making(at: CatalogAt, subject: str, quantity: str) -> Node:
    """The tree of a number of training from scratch.

    Raises:
        UnknownFact: the name is not of the form, or the quantity is not known.
    """
    found = re.fullmatch(r"develop/([\w.]+)x([\w.]+)@(.+)", subject)
    if found is None or quantity not in QUANTITIES:
        raise UnknownFact(
            f"nothing is called {subject}.{quantity}", fix=f"Like {FORM}; quantities: {', '.join(QUANTITIES)}"
        )
    try:
        ask = Ask(params=float(tokens(found[1])), tokens=float(tokens(found[2])), gpu=found[3])
    except BadInput as wrong:
        raise UnknownFact(wrong.what, where=subject, fix=f"Like {FORM}") from None
    node = _flop(at, ask) if quantity == "flop" else _gpu_h(at, ask)
    if quantity in ("kwh", "tco2e"):
        node = _kwh(at, ask, node)
    if quantity == "tco2e":
        factor = fact_node(region(at, ask.region, "gco2e_per_kwh"), "gco2e_per_kwh")
        node = _told(compute.carbon_t, "t", {"kwh": node, "gco2e_per_kwh": factor})
    if quantity == "usd":
        rent = rent_term(at, accelerator(at, ask.gpu).ident)
        price = Node(
            "usd_per_gpu_h", rent.value, "USD/h", how="the middle of the providers' cheapest quotes on demand"
        )
        node = _told(compute.rented_usd, "USD", {"gpu_h": node, "usd_per_gpu_h": price})
    return Node(
        f"{subject}.{quantity}", node.value, node.unit, node.formula, node.how, node.inputs, node.facts
    )


def _flop(at: CatalogAt, ask: Ask) -> Node:
    aspect = fact_node(at.fact("development/any", "aspect_ratio"), "aspect_ratio")
    size = Node("params_active", ask.active, "parameters", how="as asked")
    depth = _told(compute.depth_of, "1", {"params_active": size, "aspect_ratio": aspect})
    layers = _called("layers", depth)
    width = Node(
        "hidden_size", layers.value * aspect.value, "elements", "layers * aspect_ratio", "", (layers, aspect)
    )
    return _told(
        compute.training_flop,
        "FLOP",
        {
            "flop_per_param_tok": Node(
                "flop_per_param_tok", FLOP_PER_PARAM_TOK, "FLOP", how="two forward, four backward"
            ),
            "params_active": size,
            "training_tok": Node("training_tok", ask.tokens, "tok", how="as asked"),
            "layers": layers,
            "hidden_size": width,
            "context_tok": Node("context_tok", ask.context_tok, "tok", how="length of a training sequence"),
        },
    )


def _gpu_h(at: CatalogAt, ask: Ask) -> Node:
    gpu = accelerator(at, ask.gpu)
    peak = at.fact(f"gpu/{gpu.ident}", "peak_flop_per_s", "dtype=bf16")
    use = fact_node(mfu_fact(at, gpu.ident), "mfu_frac")
    return _told(
        compute.gpu_hours,
        "h",
        {"flop": _flop(at, ask), "peak_flop_per_s": fact_node(peak, "peak_flop_per_s"), "mfu_frac": use},
    )


def _kwh(at: CatalogAt, ask: Ask, hours: Node) -> Node:
    gpu, method = accelerator(at, ask.gpu), at.catalog.at(ANY)
    ratio = of_chip(method, "server_power_ratio", gpu.ident)
    return _told(
        compute.site_kwh,
        "kWh",
        {
            "gpu_h": hours,
            "tdp_w": fact_node(at.fact(f"gpu/{gpu.ident}", "tdp_w"), "tdp_w"),
            "server_power_ratio": Node("server_power_ratio", ratio, "1", how=f"{METHOD} for its generation"),
            "power_frac": fact_node(method.fact(METHOD, "power_frac", "chip=gpu"), "power_frac"),
            "pue": fact_node(at.fact("energy/default", "pue"), "pue"),
        },
    )


def _called(name: str, node: Node) -> Node:
    return Node(name, node.value, node.unit, node.formula, node.how, node.inputs, node.facts)


def _told(function: Callable[..., Any], unit: str, given: Mapping[str, Node]) -> Node:
    """A function of plain numbers, each explained already under the name of its argument."""
    renamed = {name: _called(name, node) for name, node in given.items()}
    values = {name: node.value for name, node in given.items()}
    node = explain(function, values, lambda _argument, _field: Leaf(), given=renamed)
    return Node(node.name, node.value, unit, node.formula, node.how, node.inputs, node.facts)
