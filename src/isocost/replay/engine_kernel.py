"""The compiled loop of engines that may run out of cache: routing, scaling, losses, and the clock.

Import this module only where a kernel runs (it imports numba). ``isocost.replay.engine`` is the door: it
checks the input, calls :func:`run`, and states the semantics; what a replica does between two moments is in
``isocost.replay.engine_steps``.
"""

from __future__ import annotations

from isocost.replay.compiled import compiled
from isocost.replay.engine_steps import advance
from isocost.replay.engine_tables import (
    BOUNDARY,
    COMPUTED,
    DECODE_PS,
    DRAINING,
    EMITTED,
    END,
    FREE,
    HEAD,
    HELD,
    IDLE,
    JSQ,
    KEPT,
    LAUNCHED,
    LEAST_TOKENS,
    LINK,
    MADE,
    MODE,
    N_RUN,
    N_WAIT,
    NEVER,
    NEXT_PS,
    NOW,
    OFF,
    ON,
    ON_PS,
    OUTSTANDING,
    OUTSTANDING_TOK,
    OVERFLOWED,
    PHASE,
    RANK_COLUMNS,
    READY,
    ROUND_ROBIN,
    RUNNING,
    STARTING,
    TAIL,
    TOO_LARGE,
    Engine,
    Fleet,
    Load,
    Out,
    Rules,
)


@compiled
def choose(fleet: Fleet, engine: Engine, rules: Rules) -> int:
    """The rank that the next request goes to, or -1 where none that is on has room."""
    limit = rules.overflow if rules.overflow >= 0 else NEVER
    n = fleet.rank.shape[0]
    best = -1
    least = 0
    for hop in range(n):
        q = (fleet.backlog[3] + hop) % n if rules.routing == ROUND_ROBIN else hop
        if fleet.group[q // engine.ranks, PHASE] != ON or fleet.rank[q, OUTSTANDING] >= limit:
            continue
        if rules.routing == ROUND_ROBIN:
            return q
        if rules.routing == JSQ:
            score = fleet.rank[q, OUTSTANDING]
        elif rules.routing == LEAST_TOKENS:
            score = fleet.rank[q, OUTSTANDING_TOK]
        else:
            score = fleet.rank[q, OUTSTANDING] * 4 - fleet.rank[q, N_RUN] * 3
        if best < 0 or score < least:
            best = q
            least = score
    return best


@compiled
def any_on(fleet: Fleet) -> bool:
    """Whether any replica takes requests."""
    found = False
    for g in range(fleet.group.shape[0]):
        found |= fleet.group[g, PHASE] == ON
    return found


@compiled
def route(i: int, now: int, load: Load, fleet: Fleet, engine: Engine, rules: Rules, out: Out) -> None:
    """Request ``i`` goes to a rank, waits for a replica to be there, or goes elsewhere."""
    if not any_on(fleet):
        load.state[i, LINK] = -1
        if fleet.backlog[1] >= 0:
            load.state[fleet.backlog[1], LINK] = i
        else:
            fleet.backlog[0] = i
        fleet.backlog[1] = i
        fleet.backlog[2] += 1
        return
    q = choose(fleet, engine, rules)
    if q < 0:
        out.status[i] = OVERFLOWED
        return
    fleet.backlog[3] = (q + 1) % fleet.rank.shape[0]
    k = fleet.rank[q]
    k[OUTSTANDING] += 1
    k[OUTSTANDING_TOK] += load.input_tok[i] + load.output_tok[i]
    load.state[i, LINK] = -1
    if k[TAIL] >= 0:
        load.state[k[TAIL], LINK] = i
    else:
        k[HEAD] = i
    k[TAIL] = i
    k[N_WAIT] += 1
    out.rank[i] = q
    s = fleet.group[q // engine.ranks]
    if s[MODE] == IDLE:
        s[MODE] = BOUNDARY
        s[NOW] = now
    out.queued_ps[i] = (s[END] if s[MODE] == RUNNING else now) - load.arrival_ps[i]


@compiled
def route_backlog(now: int, load: Load, fleet: Fleet, engine: Engine, rules: Rules, out: Out) -> None:
    """Requests that waited for a replica go on, first come first served."""
    i = fleet.backlog[0]
    fleet.backlog[0] = -1
    fleet.backlog[1] = -1
    fleet.backlog[2] = 0
    while i >= 0:
        following = load.state[i, LINK]
        route(i, now, load, fleet, engine, rules, out)
        i = following


@compiled
def wake(now: int, load: Load, fleet: Fleet, engine: Engine, rules: Rules, out: Out) -> None:
    """Replicas whose start ends now take requests."""
    for g in range(fleet.group.shape[0]):
        if fleet.group[g, PHASE] == STARTING and fleet.group[g, READY] <= now:
            fleet.group[g, PHASE] = ON
    if fleet.backlog[2] > 0 and any_on(fleet):
        route_backlog(now, load, fleet, engine, rules, out)


@compiled
def outstanding_of(g: int, fleet: Fleet, engine: Engine) -> int:
    """Requests routed to replica ``g`` that have not ended."""
    found = 0
    for q in range(g * engine.ranks, (g + 1) * engine.ranks):
        found += fleet.rank[q, OUTSTANDING]
    return found


@compiled
def settle(fleet: Fleet, engine: Engine) -> None:
    """Replicas that drain and have nothing left are off, since their last step ended."""
    for g in range(fleet.group.shape[0]):
        s = fleet.group[g]
        if s[PHASE] == DRAINING and outstanding_of(g, fleet, engine) == 0:
            s[ON_PS] += max(s[NOW], s[READY]) - s[LAUNCHED]
            s[PHASE] = OFF


@compiled
def scale(now: int, changed_ps: int, fleet: Fleet, engine: Engine, rules: Rules) -> int:
    """One look of the scaling rule; when the number of replicas last changed."""
    total = fleet.backlog[2]
    active = 0
    for g in range(fleet.group.shape[0]):
        total += outstanding_of(g, fleet, engine)
        if fleet.group[g, PHASE] == ON or fleet.group[g, PHASE] == STARTING:
            active += 1
    wanted = min(rules.most, max(rules.least, (total + rules.target - 1) // rules.target))
    if wanted > active:
        for wish in (DRAINING, OFF):
            for g in range(fleet.group.shape[0]):
                s = fleet.group[g]
                if active < wanted and s[PHASE] == wish:
                    if wish == DRAINING:
                        s[PHASE] = ON
                    else:
                        s[PHASE] = STARTING
                        s[LAUNCHED] = now
                        s[READY] = now + rules.start_ps
                    active += 1
                    changed_ps = now
    elif wanted < active and now - changed_ps >= rules.cool_ps:
        for back in range(fleet.group.shape[0]):
            g = fleet.group.shape[0] - 1 - back
            s = fleet.group[g]
            if active > wanted and s[PHASE] == ON:
                s[PHASE] = DRAINING
                s[READY] = now
                active -= 1
                changed_ps = now
    return changed_ps


@compiled
def lose(g: int, now: int, load: Load, fleet: Fleet, engine: Engine, rules: Rules, out: Out) -> None:
    """Replica ``g`` is taken away now: what it had starts anew elsewhere; it is back after a while."""
    s = fleet.group[g]
    if s[PHASE] == OFF:
        return
    if s[MODE] == RUNNING:
        s[DECODE_PS] += now - s[NOW]
    s[ON_PS] += max(0, now - s[LAUNCHED])
    again = s[PHASE] != DRAINING
    s[PHASE] = STARTING if again else OFF
    s[LAUNCHED] = now + rules.away_ps
    s[READY] = now + rules.away_ps + rules.start_ps
    s[MODE] = IDLE
    s[NOW] = now
    s[END] = NEVER
    s[NEXT_PS] = -1
    n = 0
    for q in range(g * engine.ranks, (g + 1) * engine.ranks):
        k = fleet.rank[q]
        for at in range(k[N_RUN]):
            fleet.order[n] = fleet.running[q, at]
            n += 1
        i = k[HEAD]
        while i >= 0:
            fleet.order[n] = i
            n += 1
            i = load.state[i, LINK]
        for c in range(RANK_COLUMNS):
            k[c] = 0
        k[HEAD] = -1
        k[TAIL] = -1
        k[FREE] = engine.n_blocks
    for a in range(1, n):  # nearly sorted: insertion
        i = fleet.order[a]
        b = a - 1
        while b >= 0 and fleet.order[b] > i:
            fleet.order[b + 1] = fleet.order[b]
            b -= 1
        fleet.order[b + 1] = i
    for a in range(n):
        i = fleet.order[a]
        r = load.state[i]
        r[COMPUTED] = 0
        r[MADE] = load.made_tok[i]
        r[EMITTED] = load.made_tok[i]
        r[HELD] = 0
        r[KEPT] = 0
        out.restarted[i] += 1
        out.ttft_ps[i] = -1
        route(i, now, load, fleet, engine, rules, out)


@compiled
def next_ready(fleet: Fleet) -> int:
    """When the next replica that starts will be there."""
    found = NEVER
    for g in range(fleet.group.shape[0]):
        if fleet.group[g, PHASE] == STARTING and fleet.group[g, READY] < found:
            found = fleet.group[g, READY]
    return found


@compiled
def run(load: Load, fleet: Fleet, engine: Engine, rules: Rules, out: Out) -> int:
    """Replay: fills ``out``; when the last request came or ended.

    At one instant: steps end, replicas are lost, are there, the rule looks, requests come.
    """
    n = load.arrival_ps.size
    groups = fleet.group.shape[0]
    i = 0
    lost = 0
    tick = rules.tick_ps if rules.tick_ps > 0 else NEVER
    changed_ps = -rules.cool_ps
    last_ps = load.arrival_ps[n - 1] if n > 0 else 0
    while True:
        while i < n and out.status[i] == TOO_LARGE:
            i += 1
        arrives = load.arrival_ps[i] if i < n else NEVER
        goes = rules.lost_ps[lost] if lost < rules.lost_ps.size else NEVER
        ready = next_ready(fleet)
        at = min(min(arrives, goes), ready)
        if tick < at and (i < n or tick <= last_ps or fleet.backlog[2] > 0):
            at = tick
        if at == NEVER or (i >= n and at > last_ps and fleet.backlog[2] == 0):
            break
        now = at
        for g in range(groups):
            advance(g, now, load, fleet, engine, out)
        settle(fleet, engine)
        if goes == now:
            lose(rules.lost_group[lost], now, load, fleet, engine, rules, out)
            lost += 1
        elif ready == now:
            wake(now, load, fleet, engine, rules, out)
        elif tick == now:
            changed_ps = scale(now, changed_ps, fleet, engine, rules)
            wake(now, load, fleet, engine, rules, out)
            tick += rules.tick_ps
        else:
            route(i, now, load, fleet, engine, rules, out)
            i += 1
    now = last_ps
    for g in range(groups):
        advance(g, NEVER, load, fleet, engine, out)
        now = max(now, fleet.group[g, NOW])
    settle(fleet, engine)
    return now
