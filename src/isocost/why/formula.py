"""The formula of a quantity, read from the function that computes it.

:func:`explain` walks a function's signature and body, so what is shown is what a plan executes. A
function with loops or branches (a bisection, a line laid through a curve) is named with its inputs and
shows no formula.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from isocost.catalog.fact import Fact


class Node(msgspec.Struct, frozen=True):
    """A number. ``formula`` is Python over the names of ``inputs`` (and max, min, exp …), or blank.

    ``how`` says in words where a number without formula comes from; ``facts`` are the ids behind a leaf.
    """

    name: str
    value: float
    unit: str = ""
    formula: str = ""
    how: str = ""
    inputs: tuple[Node, ...] = ()
    facts: tuple[str, ...] = ()

    def evaluate(self) -> float:
        """The formula at the inputs' values; the value itself where there is no formula."""
        if not self.formula:
            return self.value
        names = {node.name: node.value for node in self.inputs}
        return float(eval(self.formula, {"__builtins__": {}}, {**WORDS, **names}))

    def walk(self) -> list[Node]:
        """This node and all below it."""
        return [self, *(node for one in self.inputs for node in one.walk())]

    def all_facts(self) -> tuple[str, ...]:
        """Ids of every fact behind the number, in order of appearance."""
        return tuple(dict.fromkeys(ident for node in self.walk() for ident in node.facts))


def _if(condition: bool, then: float, otherwise: float) -> float:
    return then if condition else otherwise


def _safe_log1p(x: float) -> float:
    return math.log1p(x) if x > -1 else -math.inf


WORDS: Mapping[str, Callable[..., float]] = {
    "max": max,
    "min": min,
    "exp": math.exp,
    "expm1": math.expm1,
    "log1p": _safe_log1p,
    "sqrt": math.sqrt,
    "where": _if,
    "sum": lambda *parts: math.fsum(parts),
}
"""What a formula may call."""

NUMPY: Mapping[str, str] = {"maximum": "max", "minimum": "min"}
TRANSPARENT = frozenset({"asarray", "float64", "float", "broadcast_to"})


class Leaf(NamedTuple):
    """Where a field of an argument comes from."""

    unit: str = ""
    how: str = ""
    facts: tuple[str, ...] = ()


Leaves = Callable[[str, str], Leaf]
"""(argument, field) to where it comes from."""


def explain(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    leaves: Leaves,
    *,
    name: str = "",
    given: Mapping[str, Node] | None = None,
) -> Node:
    """The tree of a pure function at scalar or one-element arguments.

    Its local names and the project's functions that it calls become nodes below. ``leaves`` says where
    each field (``gpu``, ``memory_bytes``) or plain argument (field blank) comes from; ``given`` are
    plain arguments that are explained already.
    """
    given = given or {}
    called = name or function.__name__
    value = _number(function(**arguments))
    body = _body(function)
    if body is None:
        doc = (inspect.getdoc(function) or "").partition("\n")[0]
        found = tuple(given.get(one) or _leaf(one, "", arguments[one], leaves) for one in _plain(arguments))
        return Node(called, value, _unit_of(called), how=doc, inputs=found)
    reader = _Reader(_Scope(inspect.unwrap(function).__globals__, arguments, body.locals, given), leaves)
    formula = reader.formula(body.result)
    return Node(called, value, _unit_of(called), formula, "", tuple(reader.inputs.values()))


class _Body(NamedTuple):
    """What a function returns, and its local names that stand for a part of it."""

    result: ast.expr
    locals: dict[str, ast.expr]


class _Scope(NamedTuple):
    """What names mean inside a function at its arguments."""

    globals: Mapping[str, Any]
    arguments: Mapping[str, Any]
    locals: Mapping[str, ast.expr]
    given: Mapping[str, Node]

    def value(self, node: ast.expr) -> Any:
        """An expression of the function's body, evaluated as the function does."""
        whole = node
        while any(isinstance(one, ast.Name) and one.id in self.locals for one in ast.walk(whole)):
            whole = _substituted(whole, self.locals)
        expression = ast.fix_missing_locations(ast.Expression(_copy(whole)))
        return eval(compile(expression, "<formula>", "eval"), dict(self.globals), dict(self.arguments))


class _Reader(ast.NodeTransformer):
    """Turns an expression of a function's body into a formula over plain names; collects the inputs."""

    def __init__(self, scope: _Scope, leaves: Leaves) -> None:
        self.scope, self.leaves = scope, leaves
        self.inputs: dict[str, Node] = {}

    def formula(self, node: ast.expr) -> str:
        """The formula of an expression."""
        return ast.unparse(ast.fix_missing_locations(self.visit(_copy(node))))

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if not (isinstance(node.value, ast.Name) and node.value.id in self.scope.arguments):
            return node
        argument, field = node.value.id, node.attr
        hidden = field in self.scope.locals or field in self.scope.arguments
        name = f"{argument}_{field}" if hidden else field
        if name not in self.inputs:
            leaf = _leaf(argument, field, getattr(self.scope.arguments[argument], field), self.leaves)
            self.inputs[name] = msgspec.structs.replace(leaf, name=name)
        return ast.Name(name)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        name = node.id
        if name in self.inputs:
            return node
        if name in self.scope.locals:
            self.inputs[name] = self._part(name, self.scope.locals[name])
        elif name in self.scope.given:
            self.inputs[name] = self.scope.given[name]
        elif name in self.scope.arguments:
            self.inputs[name] = _leaf(name, "", self.scope.arguments[name], self.leaves)
        elif isinstance(self.scope.globals.get(name), int | float):
            return ast.Constant(self.scope.globals[name])
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        named = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if named in TRANSPARENT:
            visited: ast.expr = self.visit(node.args[0])
            return visited
        if isinstance(node.func, ast.Attribute) or named in WORDS:
            return ast.Call(ast.Name(NUMPY.get(named, named)), [self.visit(one) for one in node.args], [])
        return ast.Name(self._below(self.scope.globals[named], node))

    def _part(self, name: str, node: ast.expr) -> Node:
        """A local name, or an argument of a call, as a node of its own."""
        reader = _Reader(self.scope, self.leaves)
        formula = reader.formula(node)
        inputs = tuple(reader.inputs.values())
        value = _number(self.scope.value(node))
        if len(inputs) == 1 and formula == inputs[0].name:
            return msgspec.structs.replace(inputs[0], name=name)
        return Node(name, value, _unit_of(name), formula if inputs else "", "", inputs)

    def _below(self, function: Callable[..., Any], node: ast.Call) -> str:
        """The node of a call. Its arguments are explained here, where their names mean something."""
        called, i = function.__name__.lstrip("_"), 2
        name = called
        while name in self.inputs or name in self.scope.locals or name in self.scope.arguments:
            name, i = f"{called}_{i}", i + 1
        given = [self.scope.value(one) for one in node.args]
        named = {one.arg: self.scope.value(one.value) for one in node.keywords if one.arg}
        signature = inspect.signature(function)
        bound = dict(signature.bind(*given, **named).arguments)
        written = signature.bind(*node.args, **{one.arg: one.value for one in node.keywords if one.arg})
        parts = {
            parameter: self._part(parameter, expression)
            for parameter, expression in written.arguments.items()
            if not hasattr(bound[parameter], "_fields")
        }
        for parameter, spec in signature.parameters.items():
            if parameter not in bound and spec.default is not spec.empty:
                bound[parameter] = spec.default
        self.inputs[name] = explain(function, bound, self.leaves, name=name, given=parts)
        return name


def _body(function: Callable[..., Any]) -> _Body | None:
    """A function's body as one expression; ``None`` where it has loops or branches.

    A name that is set once becomes a local of its own, unless it hides a parameter or only renames.
    """
    source = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(source, ast.FunctionDef)
    parameters = set(inspect.signature(function).parameters)
    pairs: list[tuple[str, ast.expr]] = []
    result: ast.expr | None = None
    for statement in source.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        if isinstance(statement, ast.Return):
            result = statement.value
            break
        assigned = _assigned(statement)
        if assigned is None:
            return None
        pairs += assigned
    if result is None:
        return None
    times = [name for name, _ in pairs]
    inlined: dict[str, ast.expr] = {}
    kept: dict[str, ast.expr] = {}
    for name, value in pairs:
        expression = _substituted(value, inlined)
        if times.count(name) > 1 or name in parameters or _renames(expression):
            inlined[name] = expression
        else:
            kept[name] = expression
    return _Body(_substituted(result, inlined), kept)


def _assigned(statement: ast.stmt) -> list[tuple[str, ast.expr]] | None:
    """Names and what they are set to; ``None`` for any other statement."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    target, value = statement.targets[0], statement.value
    if isinstance(target, ast.Name):
        return [(target.id, value)]
    if not (isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)):
        return None
    names = [one.id for one in target.elts if isinstance(one, ast.Name)]
    return list(zip(names, value.elts, strict=True)) if len(names) == len(value.elts) else None


def _renames(node: ast.expr) -> bool:
    """Whether an expression is only another name: a field, or an argument made an array."""
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        return called in TRANSPARENT and _renames(node.args[0])
    return isinstance(node, ast.Name | ast.Attribute | ast.Constant)


class _Substitute(ast.NodeTransformer):
    def __init__(self, known: Mapping[str, ast.expr]) -> None:
        self.known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return _copy(self.known[node.id]) if node.id in self.known else node


def _substituted(node: ast.expr, known: Mapping[str, ast.expr]) -> ast.expr:
    found: ast.expr = _Substitute(known).visit(_copy(node))
    return found


def _copy(node: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(node), mode="eval").body


def _plain(arguments: Mapping[str, Any]) -> list[str]:
    return [name for name, value in arguments.items() if not hasattr(value, "_fields")]


def _leaf(argument: str, field: str, value: Any, leaves: Leaves) -> Node:
    found = leaves(argument, field)
    name = field or argument
    return Node(name, _number(value), found.unit or _unit_of(name), how=found.how, facts=found.facts)


def _number(value: Any) -> float:
    """A float of a scalar or of an array of one element."""
    item = getattr(value, "item", None)
    return float(item() if item is not None else value)


UNITS: Mapping[str, str] = {
    "_usd_per_gpu_h": "USD/h",
    "_usd_per_mtok": "USD/Mtok",
    "_usd_per_month": "USD/month",
    "_bytes_per_s": "bytes/s",
    "_bytes_per_tok": "bytes/tok",
    "_flop_per_s": "FLOP/s",
    "_mtok_per_month": "Mtok/month",
    "_per_s": "1/s",
    "_tok": "tok",
    "_bytes": "bytes",
    "_s": "s",
    "_usd": "USD",
    "_params": "parameters",
}
"""Ending of a name to its unit, longest first."""


def _unit_of(name: str) -> str:
    return next((unit for ending, unit in UNITS.items() if f"_{name}".endswith(ending)), "")


def fact_node(fact: Fact, name: str = "") -> Node:
    """A fact as a leaf."""
    value = float("nan") if isinstance(fact.value, str) else float(fact.value)
    return Node(name or fact.attribute, value, fact.unit, facts=(fact.id,))
