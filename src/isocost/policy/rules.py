"""Policies as a person writes them in ``plan.toml``: pure Python, so that a gateway can run them.

A policy answers one question: given what was tried and how that went, what next? It is composed of parts that
are asked in a fixed order (docs/routing.md): guard, exact cache, rules that answer first, semantic cache,
stickiness, the choice (fixed, split, by task, router, cascade), then what happens on failure (retry,
fallback, hedge). Edits and waiting apply to whatever is tried. It decides from its arguments alone: no
clock, no I/O. An unknown field is an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from isocost.errors import BadLimits
from isocost.policy import proven
from isocost.policy.proven import Counted, Proven
from isocost.policy.route import (
    Action,
    Attempt,
    Edit,
    Refuse,
    Request,
    Route,
    Share,
    Stop,
    Try,
    View,
    key,
    pick_share,
)
from isocost.policy.seen import Seen, check_letters, check_seen

STRONG = "*"
"""The entry of a table that holds for every task without one of its own."""


AT_ONCE_S: Final = 1e-9
"""How much later a hedge begins that is to begin at once: it is a hedge still, and the first answer wins."""
NOTHING: Final = View()
"""Nothing spent, and no session."""


class Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind"):
    """How a deployment is chosen: ``kind`` in a file says which of those below."""


class Fixed(Kind, frozen=True, tag="fixed"):
    """Always one deployment."""

    deployment: str


class Split(Kind, frozen=True, tag="split"):
    """Shares of the requests, by hour of the week where a share is a list of 168; ``by_session``: of the
    sessions, each of which stays together."""

    shares: tuple[Share, ...]
    by_session: bool = False


class ByTask(Kind, frozen=True, tag="by-task"):
    """A deployment for each task; ``*`` for any other."""

    tasks: dict[str, str]
    seen: Seen | None = None


class Router(Kind, frozen=True, tag="router"):
    """``strong`` where the request's score (isocost.policy.router) reaches ``bar``, else ``cheap``.

    A request without a score goes to ``strong``. ``weights`` names the file that the score is read from.
    """

    cheap: str
    strong: str
    bar: float
    weights: str = ""
    seen: Seen | None = None


class Accept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Accept an answer: after a pattern of agreement (``AA``, ``AB``, ``A-``), on some tasks, take this
    letter's."""

    pattern: str
    take: str
    tasks: tuple[str, ...] = (STRONG,)
    but: tuple[str, ...] = ()


class Cascade(Kind, frozen=True, tag="cascade"):
    """Ask in order; accept when answers agree as ``accept`` says or a checker passes one; else ask the next.

    ``together`` asks that many of the first deployments at once. ``checked`` says that every answer is put
    to a checker: one that it passes is accepted, one that it rejects is not, whatever agrees. The last
    deployment's answer is accepted.
    """

    ask: tuple[str, ...]
    accept: tuple[Accept, ...] = ()
    together: int = 1
    checked: bool = False
    seen: Seen | None = None


Choice = Fixed | Split | ByTask | Router | Cascade


class Guard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is refused, and what happens once a budget is spent.

    ``usd`` is the budget of ``budget`` (a tenant, a day: whatever the view counts under that name); from
    ``soft_frac`` of it on requests go to ``then`` where that is named; once it is spent they are refused.
    """

    most_input_tok: int | None = None
    most_output_tok: int | None = None
    budget: str = ""
    usd: float | None = None
    soft_frac: float = 1.0
    then: str = ""


class First(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Rules or a classifier that answer, or abstain, before any model is asked; only on ``tasks`` where
    given. ``measured``: of how many requests that came to it how many it answered (``hits``), where a replay
    has nothing else to go by; it decides nothing."""

    deployment: str
    tasks: tuple[str, ...] = ()
    measured: Counted | None = None


class Sticky(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A session stays where it was last served (its prefix is cached there) while that is one of
    ``among``."""

    among: tuple[str, ...]


class Defer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Requests that may wait ``wait_s`` or longer go to a batch deployment; late ones do not."""

    deployment: str
    wait_s: float


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is cut: input beyond ``trim_input_tok`` (oldest first), output beyond ``cap_output_tok``."""

    trim_input_tok: int | None = None
    cap_output_tok: int | None = None


class Recover(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """After a failure: the same deployment ``retries`` times more, ``pause_s`` apart and doubling, then
    ``fallback`` in turn."""

    retries: int = 0
    pause_s: float = 0.0
    fallback: tuple[str, ...] = ()


class Hedge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A second deployment starts ``after_s`` later where the first has not answered; the first answer
    wins."""

    deployment: str
    after_s: float


class Semantic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Answers of nearly the same question, in the same scope (isocost.policy.keys); off without a
    ``certificate``.

    ``cache`` is the deployment that keeps questions; ``verifier`` the fitted file beside the plan
    (:class:`isocost.policy.semantic.Weights`). ``measured`` says how often such a cache was hit where a log
    has no words to play it with; it decides nothing.
    """

    cache: str
    verifier: str = ""
    certificate: Proven | None = None
    measured: Counted | None = None

    @property
    def on(self) -> bool:
        """Whether it is asked."""
        return self.certificate is not None


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The policy of the requests of a workload and one of today's models (``*``: any)."""

    choose: Choice
    workload: str = STRONG
    model: str = STRONG
    guard: Guard | None = None
    cache: str = ""
    first: First | None = None
    semantic: Semantic | None = None
    sticky: Sticky | None = None
    defer: Defer | None = None
    shape: Shape | None = None
    recover: Recover | None = None
    hedge: Hedge | None = None

    def deployments(self) -> tuple[str, ...]:
        """Every deployment that it names, each once."""
        choice = self.choose
        match choice:
            case Fixed():
                named = [choice.deployment]
            case Split():
                named = [share.deployment for share in choice.shares]
            case ByTask():
                named = list(choice.tasks.values())
            case Router():
                named = [choice.cheap, choice.strong]
            case Cascade():
                named = list(choice.ask)
        named += [self.cache, self.first.deployment if self.first else ""]
        named += [self.semantic.cache if self.semantic else ""]
        named += [self.guard.then if self.guard else "", self.defer.deployment if self.defer else ""]
        named += [
            self.hedge.deployment if self.hedge else "",
            *(self.recover.fallback if self.recover else ()),
        ]
        named += list(self.sticky.among) if self.sticky else []
        return tuple(dict.fromkeys(name for name in named if name))


def rule_of(route: Route) -> Rule:
    """A route as a policy: its shares, its cache, its fallback.

    Raises:
        BadLimits: its cache is one of its shares or its fallback, and would be tried for ever.
    """
    if route.cache and route.cache in (route.fallback, *(share.deployment for share in route.shares)):
        raise BadLimits(
            f"{route.cache!r} is its cache and named for something else too",
            where=f"[[route]] of {route.workload!r}",
            fix="A cache answers nothing else: name another deployment",
        )
    recover = Recover(fallback=(route.fallback,)) if route.fallback else None
    shares = Split(route.shares, route.by_session)
    return Rule(shares, route.workload, route.model, cache=route.cache, recover=recover)


class Policies:
    """Rules by workload and model. ``next`` is the whole of a policy."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        for rule in rules:
            check(rule)
        self._by_key = {(rule.workload, rule.model): rule for rule in rules}
        if len(self._by_key) < len(self.rules):
            raise BadLimits(
                "two policies of one workload and model", where="[[policy]]", fix="Keep one of them"
            )

    def rule(self, request: Request) -> Rule | None:
        """The rule that applies: of workload and model, else of the workload, of the model, of all."""
        keys = (
            (request.workload, request.model), (request.workload, STRONG),
            (STRONG, request.model), (STRONG, STRONG),
        )  # fmt: skip
        return next((self._by_key[key] for key in keys if key in self._by_key), None)

    def next(self, request: Request, attempts: Sequence[Attempt], view: View = NOTHING) -> Action:
        """Given what was tried and how it went, what next?"""
        rule = self.rule(request)
        return Stop() if rule is None else decide(rule, request, attempts, view)


def decide(rule: Rule, request: Request, attempts: Sequence[Attempt], view: View = NOTHING) -> Action:
    """What a rule does next. Pure: the same arguments give the same action."""
    refused = _guarded(rule, request, view)
    if refused and not attempts:
        return Refuse(refused)
    if rule.cache:
        state = _single(rule.cache, attempts)
        if state == "open":
            return Try((rule.cache,))
        if state == "done":
            return Stop()
    if rule.first is not None and (not rule.first.tasks or request.task in rule.first.tasks):
        state = _single(rule.first.deployment, attempts)
        if state == "open":
            return Try((rule.first.deployment,))
        if state == "done":
            return Stop()
    if rule.semantic is not None and rule.semantic.on:
        state = _single(rule.semantic.cache, attempts)
        if state == "open":
            return Try((rule.semantic.cache,))
        if state == "done":
            return Stop()
    before = _before(rule)
    mine = [one for one in attempts if one.deployment not in before]
    return _answer(rule, request, mine, view)


def _before(rule: Rule) -> tuple[str, ...]:
    """What may answer before any model is asked."""
    first, semantic = rule.first, rule.semantic
    return (rule.cache, first.deployment if first else "", semantic.cache if semantic else "")


def _single(deployment: str, attempts: Sequence[Attempt]) -> str:
    """Of a deployment that is tried once: ``open``, ``done`` (it answered) or ``passed`` (it did not)."""
    mine = next((one for one in attempts if one.deployment == deployment), None)
    if mine is None:
        return "open"
    return "done" if mine.ended in ("served", "passed") else "passed"


def _guarded(rule: Rule, request: Request, view: View) -> str:
    """Why a request is refused; empty where it is not."""
    guard = rule.guard
    if guard is None:
        return ""
    if guard.most_input_tok is not None and request.input_tok > guard.most_input_tok:
        return "input"
    if guard.most_output_tok is not None and request.output_tok > guard.most_output_tok:
        return "output"
    if guard.usd is not None and view.spent_usd >= guard.usd:
        return "budget"
    return ""


def _answer(rule: Rule, request: Request, attempts: Sequence[Attempt], view: View) -> Action:
    """The choice, and what follows a failure."""
    guard = rule.guard
    if (
        guard is not None
        and guard.then
        and guard.usd is not None
        and view.spent_usd >= guard.soft_frac * guard.usd
    ):
        return _one(rule, guard.then, attempts)
    defer = rule.defer
    if defer is not None and request.wait_s is not None and request.wait_s >= defer.wait_s:
        state = _single(defer.deployment, attempts)
        if state == "open":
            return _try(rule, (defer.deployment,), wait_s=request.wait_s)
        if state == "done":
            return Stop()
        attempts = [one for one in attempts if one.deployment != defer.deployment]
    if rule.sticky is not None and view.last in rule.sticky.among:
        return _one(rule, view.last, attempts)
    if isinstance(rule.choose, Cascade):
        return _asked(rule, rule.choose, request, attempts)
    return _one(rule, chosen(rule.choose, request), attempts)


def chosen(choice: Choice, request: Request) -> str:
    """The deployment that a choice without steps gives a request."""
    match choice:
        case Fixed():
            return choice.deployment
        case Split():
            number = key(request.sequence, request.session, choice.by_session)
            return pick_share(choice.shares, number, request.hour)
        case ByTask():
            return choice.tasks.get(request.task, choice.tasks[STRONG])
        case Router():
            hard = request.score is None or request.score >= choice.bar
            return choice.strong if hard else choice.cheap
        case Cascade():
            return choice.ask[0]


def _try(
    rule: Rule, names: tuple[str, ...], *, not_before_s: float = 0.0, wait_s: float | None = None
) -> Try:
    shape = rule.shape
    edit = None if shape is None else Edit(shape.trim_input_tok, shape.cap_output_tok)
    return Try(names, wait_s, edit, not_before_s)


def _one(rule: Rule, name: str, attempts: Sequence[Attempt]) -> Action:
    """Try one deployment, hedged, retried, with fallbacks; stop once anything answered."""
    if any(one.ended in ("served", "passed") for one in attempts):
        return Stop()
    recover, hedge = rule.recover or Recover(), rule.hedge
    pending = len(attempts)
    if hedge is not None and hedge.deployment != name:
        if pending == 0:
            return Try(
                (name, hedge.deployment),
                None,
                _try(rule, ()).edit,
                0.0,
                stagger_s=max(hedge.after_s, AT_ONCE_S),
            )
        if pending == 1:
            return Wait
        pending -= 1  # the pair counts as one attempt at the deployment
    if pending == 0:
        return _try(rule, (name,))
    if pending <= recover.retries:
        return _try(rule, (name,), not_before_s=recover.pause_s * 2 ** (pending - 1))
    place = pending - 1 - recover.retries
    if place < len(recover.fallback):
        return _try(rule, (recover.fallback[place],))
    return Stop()


def _asked(rule: Rule, choice: Cascade, request: Request, attempts: Sequence[Attempt]) -> Action:
    """Ask along a cascade: each deployment once; the fallbacks where the last of them fails too."""
    order = choice.ask
    done = len(attempts)
    if done and any(one.ended == "passed" for one in attempts):
        return Stop()
    if done == 0:
        return _try(rule, order[: choice.together])
    if done < choice.together:
        return Wait
    if done <= len(order):
        last = attempts[-1]
        if done == len(order) and last.ended in ("served", "rejected"):
            return Stop()
        if not choice.checked and accepted(choice, request.task, pattern(attempts)) is not None:
            return Stop()
        if done < len(order):
            return _try(rule, (order[done],))
    answers = [one for one in attempts if one.ended in ("served", "rejected")]
    recover = rule.recover or Recover()
    beyond = done - len(order)
    if beyond and attempts[-1].ended == "served":
        return Stop()
    if not answers and beyond < len(recover.fallback):
        return _try(rule, (recover.fallback[beyond],))
    return Stop()


def pattern(attempts: Sequence[Attempt]) -> str:
    """The pattern of agreement of attempts: a letter for each group of equal answers, ``-`` for none."""
    return "".join(
        "-" if one.answer < 0 or one.ended not in ("served", "rejected") else chr(ord("A") + one.answer)
        for one in attempts
    )


def accepted(choice: Cascade, task: str, found: str) -> str | None:
    """The letter whose answer is taken after a pattern, or ``None`` to ask on."""
    for rule in choice.accept:
        if rule.pattern == found and task not in rule.but and (STRONG in rule.tasks or task in rule.tasks):
            return rule.take
    return None


def check(rule: Rule) -> None:
    """Refuse what cannot be meant.

    Raises:
        BadLimits: shares that do not sum to 1, a table without ``*``, a pattern that cannot be, an empty
        cascade, or one deployment for two parts of which each is to try it once.
    """
    where = f"[[policy]] of {rule.workload!r}"
    choice = rule.choose
    if isinstance(choice, Split):
        odd = next((len(share.frac) for share in choice.shares if len(share.frac) not in (1, 168)), None)
        if odd is not None:
            raise BadLimits(
                f"{odd} shares of a deployment", where=where, fix="Give one, or one for each of 168 hours"
            )
        below = [one for share in choice.shares for one in share.frac if not one >= 0]
        if below:
            raise BadLimits(f"a share of {below[0]:g}", where=where, fix="Give shares from 0 to 1")
        for hour in range(168):
            whole = sum(share.at(hour) for share in choice.shares)
            if abs(whole - 1.0) > 1e-6:
                raise BadLimits(
                    f"shares sum to {whole:.6f} in hour {hour}", where=where, fix="Make them sum to 1"
                )
    if isinstance(choice, ByTask) and STRONG not in choice.tasks:
        raise BadLimits("no deployment for other tasks", where=where, fix='Add "*" = DEPLOYMENT to tasks')
    if isinstance(choice, Cascade):
        if len(choice.ask) < 2 or len(set(choice.ask)) < len(choice.ask) or len(choice.ask) > 5:
            raise BadLimits("a cascade asks two to five deployments, each once", where=where)
        if not 1 <= choice.together <= len(choice.ask):
            raise BadLimits(f"together = {choice.together}", where=where, fix=f"1 to {len(choice.ask)}")
        for one in choice.accept:
            _check_pattern(one, len(choice.ask), where)
    if isinstance(choice, Cascade | Router | ByTask) and choice.seen is not None:
        if isinstance(choice, Cascade) and choice.checked:
            raise BadLimits("a checker is not foretold by agreement", where=where, fix="Leave out seen")
        longest = len(choice.ask) if isinstance(choice, Cascade) else 0 if isinstance(choice, Router) else -1
        check_seen(choice.seen, longest, f"{where} seen")
    if rule.first is not None and rule.first.measured is not None:
        proven.check_counted(rule.first.measured, f"{where} first measured")
    _check_once(rule, where)
    if rule.semantic is not None:
        _check_semantic(rule.semantic, f"{where} semantic")
    if rule.guard is not None and rule.guard.then and rule.guard.usd is None:
        raise BadLimits("then without usd", where=f"{where} guard", fix="Name the budget, usd = 100")
    if rule.recover is not None and not 0 <= rule.recover.retries <= 5:
        raise BadLimits(f"retries = {rule.recover.retries}", where=f"{where} recover", fix="0 to 5")
    _check_amounts(rule, where)
    if rule.hedge is not None and isinstance(choice, Cascade):
        raise BadLimits(
            "a cascade is not hedged", where=where, fix="Ask several together instead: together = 2"
        )


def _check_amounts(rule: Rule, where: str) -> None:
    """Tokens, dollars and seconds are 0 or more; a share of a budget is at most 1."""
    for part in (rule.guard, rule.shape, rule.defer, rule.hedge, rule.recover):
        for name, value in msgspec.structs.asdict(part).items() if part is not None else ():
            if isinstance(value, int | float) and not 0 <= value < math.inf:
                kind = type(part).__name__.lower()
                raise BadLimits(
                    f"{name} = {value:g}", where=f"{where} {kind}", fix="Give a number, 0 or more"
                )
    for name, value in msgspec.structs.asdict(rule.shape).items() if rule.shape is not None else ():
        if value == 0:
            raise BadLimits(f"{name} = 0", where=f"{where} shape", fix="Give 1 or more: nothing is left of 0")
    if rule.guard is not None and rule.guard.soft_frac > 1:
        raise BadLimits(
            f"soft_frac = {rule.guard.soft_frac:g}", where=f"{where} guard", fix="Give a share from 0 to 1"
        )
    if isinstance(rule.choose, Router) and math.isnan(rule.choose.bar):
        raise BadLimits("bar = nan", where=where, fix="Give a score")


def _check_once(rule: Rule, where: str) -> None:
    """What is tried once, before or beside the choice, is named for nothing else in its rule: its attempts
    are not counted there, so that it would be tried for ever."""
    once = (
        ("cache", rule.cache, msgspec.structs.replace(rule, cache="")),
        ("first", rule.first.deployment if rule.first else "", msgspec.structs.replace(rule, first=None)),
        (
            "semantic",
            rule.semantic.cache if rule.semantic else "",
            msgspec.structs.replace(rule, semantic=None),
        ),
        ("defer", rule.defer.deployment if rule.defer else "", msgspec.structs.replace(rule, defer=None)),
    )
    for part, name, without in once:
        if name and name in without.deployments():
            raise BadLimits(
                f"{name!r} is named for something else too",
                where=f"{where} {part}",
                fix="It is tried once: name another deployment there, or here",
            )


def _check_semantic(semantic: Semantic, where: str) -> None:
    """A certificate that follows from its counts."""
    if semantic.certificate is not None:
        proven.check(semantic.certificate, f"{where} certificate")
    if semantic.measured is not None:
        proven.check_counted(semantic.measured, f"{where} measured")


def _check_pattern(one: Accept, most: int, where: str) -> None:
    check_letters(one.pattern, where)
    if not 1 <= len(one.pattern) <= most or one.take not in one.pattern or one.take == "-":
        raise BadLimits(
            f"pattern {one.pattern!r} takes {one.take!r}", where=where, fix="Take one of its letters"
        )


def named(rules: Sequence[Rule], deployments: Mapping[str, object]) -> None:
    """Every deployment that rules name is there.

    Raises:
        BadLimits: one is not.
    """
    for rule in rules:
        for name in rule.deployments():
            if name not in deployments:
                raise BadLimits(
                    f"it names {name!r}",
                    where=f"[[policy]] of {rule.workload!r}",
                    fix=f"Deployments are: {', '.join(deployments)}",
                )


Wait: Final = Try(())
"""Nothing new: an attempt of those begun together is still out."""
