"""The compiled loop of engines that may run out of cache: preemption, lock-step, scaling, losses.

Import this module only where a kernel runs (it imports numba). ``isocost.replay.engine`` is the door: it
checks the input, calls :func:`run`, and states the semantics; ``isocost.replay.engine_stepwise`` is the
same machine with lists and objects, which the tests hold equal to this one bit for bit.

A replica is a group of ranks that step together. Between steps it is at a boundary that is composed
only when every event at or before it has been handled; a step in flight is never changed, only
abandoned where its replica is taken away. Steps that only decode the same sequences are taken many at
once (:func:`leap`).
"""

from __future__ import annotations

from isocost.replay.compiled import compiled
from isocost.replay.engine_tables import (
    BOUNDARY,
    COMPUTED,
    CUR_PREFILL,
    CUR_PS,
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
    LAST_PS,
    LAUNCHED,
    LEAST_TOKENS,
    LINK,
    MADE,
    MARK,
    MODE,
    N_CUR,
    N_NEXT,
    N_RUN,
    N_WAIT,
    NEVER,
    NEXT_PREFILL,
    NEXT_PS,
    NOW,
    OFF,
    ON,
    ON_PS,
    OUTSTANDING,
    OUTSTANDING_TOK,
    OVERFLOWED,
    PHASE,
    PREFILL_PS,
    RANK_COLUMNS,
    READY,
    ROUND_ROBIN,
    RUNNING,
    SERVED,
    STARTING,
    STEPS,
    TAIL,
    TAKEN,
    TOO_LARGE,
    Engine,
    Fleet,
    Load,
    Out,
    Rules,
)


@compiled
def draw(seed: int, i: int, made: int) -> int:
    """A number in [0, 2**31) that depends on seed, request and place alone."""
    # Plain integers: those of an array are too narrow for the product where nothing is compiled.
    x = (int(i) * 0x9E3779B1 + int(made) * 0x85EBCA6B + int(seed) * 0x27D4EB2F) & 0x7FFFFFFF
    x ^= x >> 15
    x = (x * 0x2C1B3C6D) & 0x7FFFFFFF
    x ^= x >> 12
    x = (x * 0x297A2D39) & 0x7FFFFFFF
    return x ^ (x >> 15)


@compiled
def put_out(i: int, q: int, load: Load, fleet: Fleet, out: Out) -> None:
    """Request ``i`` loses its place on rank ``q``: its blocks are free, a token in flight is lost."""
    s = load.state[i]
    k = fleet.rank[q]
    s[KEPT] = s[HELD]
    s[MARK] = k[TAKEN] + k[FREE]
    k[FREE] += s[HELD]
    s[HELD] = 0
    s[COMPUTED] = 0
    for c in range(k[N_CUR]):
        if fleet.cur[q, c] == i:
            fleet.cur[q, c] = -1
    s[MADE] = s[EMITTED]
    s[LINK] = k[HEAD]
    k[HEAD] = i
    if k[TAIL] < 0:
        k[TAIL] = i
    k[N_WAIT] += 1
    k[N_RUN] -= 1
    out.preempted[i] += 1


@compiled
def compose(q: int, load: Load, fleet: Fleet, engine: Engine, out: Out) -> tuple[int, int, int]:
    """Choose what rank ``q`` does next: its time less the base, of that for prefill, and its tokens."""
    k = fleet.rank[q]
    running = fleet.running[q]
    block = engine.block_tok
    drafts = engine.accept.size
    budget = engine.budget_tok
    n_next = 0
    n_decode = 0
    held = 0
    prefilled = 0
    pairs = 0
    lost = False
    at = 0
    while at < k[N_RUN] and budget > 0:
        i = running[at]
        s = load.state[i]
        if s[MADE] >= load.output_tok[i]:
            at += 1
            continue
        todo = load.input_tok[i] + s[MADE] - s[COMPUTED]
        decodes = todo == 1 and s[MADE] > 0
        ahead = todo
        if decodes:
            ahead = min(1 + drafts, budget)
        else:
            todo = min(todo, budget)
            ahead = todo
        over = s[COMPUTED] + ahead - s[HELD] * block
        need = (over + block - 1) // block if over > 0 else 0
        while need > k[FREE]:
            victim = running[k[N_RUN] - 1]
            put_out(victim, q, load, fleet, out)
            lost = True
            if victim == i:
                break
        if at >= k[N_RUN]:
            break
        if need > 0:
            k[FREE] -= need
            k[TAKEN] += need
            s[HELD] += need
        budget -= ahead
        if decodes:
            n_decode += 1
            held += s[COMPUTED]
            got = 1
            if drafts > 0:
                u = draw(engine.seed, i, s[MADE])
                while got < ahead and u < engine.accept[got - 1]:
                    got += 1
                got = min(got, load.output_tok[i] - s[MADE])
            s[COMPUTED] += got
            s[MADE] += got
            fleet.coming[q, n_next] = i
            fleet.coming_tok[q, n_next] = got
            n_next += 1
        else:
            pairs += s[COMPUTED] * todo + (todo * (todo + 1)) // 2
            prefilled += todo
            s[COMPUTED] += todo
            if s[COMPUTED] == load.input_tok[i] + s[MADE]:
                s[MADE] += 1
                fleet.coming[q, n_next] = i
                fleet.coming_tok[q, n_next] = 1
                n_next += 1
        at += 1
    while not lost and k[HEAD] >= 0 and budget > 0 and k[N_RUN] < engine.seats:
        i = k[HEAD]
        s = load.state[i]
        known = load.input_tok[i] + s[MADE]
        found = load.cached_tok[i]
        back = 0
        if s[KEPT] > 0:  # what is left of its own blocks, which were freed tail first
            back = max(0, s[KEPT] - max(0, k[TAKEN] - s[MARK]))
            back = min(back, (known - 1) // block)
            found = back * block
        whole = (known + block - 1) // block
        if whole > k[FREE]:
            break
        todo = known - found
        decodes = todo == 1 and s[MADE] > 0
        todo = min(todo, budget)
        need = (found + todo + block - 1) // block
        k[HEAD] = s[LINK]
        if k[HEAD] < 0:
            k[TAIL] = -1
        k[N_WAIT] -= 1
        k[FREE] -= need
        k[TAKEN] += need - back
        s[HELD] = need
        s[KEPT] = 0
        s[COMPUTED] = found + todo
        running[k[N_RUN]] = i
        k[N_RUN] += 1
        budget -= todo
        if decodes:
            n_decode += 1
            held += found
        else:
            pairs += found * todo + (todo * (todo + 1)) // 2
            prefilled += todo
        if s[COMPUTED] == known:
            s[MADE] += 1
            fleet.coming[q, n_next] = i
            fleet.coming_tok[q, n_next] = 1
            n_next += 1
    k[N_NEXT] = n_next
    for_prefill = engine.prefill_ps * prefilled + engine.pair_fs * pairs // 1000
    step = for_prefill + engine.seq_ps * n_decode + engine.kv_ps * held
    return step, for_prefill, engine.budget_tok - budget


@compiled
def compose_group(g: int, load: Load, fleet: Fleet, engine: Engine, out: Out) -> bool:
    """Compose the next step of every rank of replica ``g``: it lasts as long as the slowest."""
    longest = 0
    for_prefill = 0
    tokens = 0
    for q in range(g * engine.ranks, (g + 1) * engine.ranks):
        step, part, used = compose(q, load, fleet, engine, out)
        tokens += used
        if step > longest:
            longest = step
            for_prefill = part
    if tokens == 0:
        fleet.group[g, NEXT_PS] = -1
        return False
    shared = engine.base_ps
    if engine.touched.size > 0:
        shared += engine.expert_ps * engine.touched[min(tokens, engine.touched.size - 1)] >> 20
    if for_prefill == longest and longest > 0:
        for_prefill += shared
    fleet.group[g, NEXT_PS] = shared + longest
    fleet.group[g, NEXT_PREFILL] = for_prefill
    return True


@compiled
def start(g: int, fleet: Fleet, engine: Engine) -> None:
    """What was composed is in flight from now on."""
    s = fleet.group[g]
    for q in range(g * engine.ranks, (g + 1) * engine.ranks):
        n = fleet.rank[q, N_NEXT]
        fleet.rank[q, N_CUR] = n
        for c in range(n):
            fleet.cur[q, c] = fleet.coming[q, c]
            fleet.cur_tok[q, c] = fleet.coming_tok[q, c]
        fleet.rank[q, N_NEXT] = 0
    s[MODE] = RUNNING
    s[END] = s[NOW] + s[NEXT_PS]
    s[CUR_PS] = s[NEXT_PS]
    s[CUR_PREFILL] = s[NEXT_PREFILL]
    s[NEXT_PS] = -1


@compiled
def finish(g: int, load: Load, fleet: Fleet, engine: Engine, out: Out) -> None:
    """The step in flight ends: tokens come out, requests that have all of theirs leave."""
    s = fleet.group[g]
    s[NOW] = s[END]
    s[END] = NEVER
    s[MODE] = BOUNDARY
    s[STEPS] += 1
    s[PREFILL_PS] += s[CUR_PREFILL]
    s[DECODE_PS] += s[CUR_PS] - s[CUR_PREFILL]
    now = s[NOW]
    for q in range(g * engine.ranks, (g + 1) * engine.ranks):
        k = fleet.rank[q]
        ended = 0
        for c in range(k[N_CUR]):
            i = fleet.cur[q, c]
            if i < 0:
                continue
            r = load.state[i]
            if r[EMITTED] == 0:
                out.ttft_ps[i] = now - load.arrival_ps[i]
            r[EMITTED] += fleet.cur_tok[q, c]
            if r[EMITTED] >= load.output_tok[i]:
                out.e2e_ps[i] = now - load.arrival_ps[i]
                out.status[i] = SERVED
                k[FREE] += r[HELD]
                r[HELD] = 0
                k[OUTSTANDING] -= 1
                k[OUTSTANDING_TOK] -= load.input_tok[i] + load.output_tok[i]
                ended += 1
        k[N_CUR] = 0
        if ended > 0:
            kept = 0
            for at in range(k[N_RUN]):
                i = fleet.running[q, at]
                if load.state[i, EMITTED] < load.output_tok[i]:
                    fleet.running[q, kept] = i
                    kept += 1
            k[N_RUN] = kept


@compiled
def steps_alike(g: int, load: Load, fleet: Fleet, engine: Engine) -> int:
    """For how many steps from now on replica ``g`` surely only decodes, the same sequences; or 0."""
    if engine.accept.size > 0 or (engine.lag > 0 and fleet.group[g, NEXT_PS] < 0):
        return 0
    most = NEVER
    for q in range(g * engine.ranks, (g + 1) * engine.ranks):
        k = fleet.rank[q]
        n = k[N_RUN]
        if n > engine.budget_tok:
            return 0
        if k[HEAD] >= 0 and n < engine.seats and n < engine.budget_tok:
            i = k[HEAD]
            known = load.input_tok[i] + load.state[i, MADE]
            if (known + engine.block_tok - 1) // engine.block_tok <= k[FREE]:
                return 0
        if n == 0:
            continue
        most = min(most, (k[FREE] // n - 1) * engine.block_tok)
        if most < 2:
            return 0
        for at in range(n):
            i = fleet.running[q, at]
            made = load.state[i, MADE]
            given = load.state[i, EMITTED]
            if given < 1 or given + engine.lag != made:
                return 0
            if load.state[i, COMPUTED] != load.input_tok[i] + made - 1:
                return 0
            # One token less without lag: who ends is taken out where its step ends.
            most = min(most, load.output_tok[i] - made - 1 + engine.lag)
            if most < 2:
                return 0
    return 0 if most == NEVER else most


@compiled
def leap(g: int, most: int, until_ps: int, load: Load, fleet: Fleet, engine: Engine) -> None:
    """Take up to ``most`` steps that only decode, of those that start before ``until_ps`` and end by then."""
    s = fleet.group[g]
    first = g * engine.ranks
    ahead = 0 if s[NEXT_PS] < 0 else 1
    tokens = 0
    for q in range(first, first + engine.ranks):
        tokens += fleet.rank[q, N_RUN]
        held = 0
        for at in range(fleet.rank[q, N_RUN]):
            held += load.state[fleet.running[q, at], COMPUTED]
        fleet.cur_tok[q, 0] = held  # what the next step to be composed attends to
    shared = engine.base_ps
    if engine.touched.size > 0:
        shared += engine.expert_ps * engine.touched[min(tokens, engine.touched.size - 1)] >> 20
    now = s[NOW]
    step_ps = s[NEXT_PS]
    for_prefill = s[NEXT_PREFILL]
    done = 0
    while done < most:
        longest = 0
        for q in range(first, first + engine.ranks):
            n = fleet.rank[q, N_RUN]
            longest = max(longest, engine.seq_ps * n + engine.kv_ps * (fleet.cur_tok[q, 0] + done * n))
        following = shared + longest
        if ahead == 0:
            step_ps = following
            for_prefill = 0
        if now >= until_ps or now + step_ps > until_ps or now > LAST_PS:
            break
        now += step_ps
        s[PREFILL_PS] += for_prefill
        s[DECODE_PS] += step_ps - for_prefill
        done += 1
        step_ps = following
        for_prefill = 0
    s[NOW] = now
    s[STEPS] += done
    if ahead > 0:
        s[NEXT_PS] = step_ps
        s[NEXT_PREFILL] = for_prefill
    block = engine.block_tok
    for q in range(first, first + engine.ranks):
        k = fleet.rank[q]
        for at in range(k[N_RUN]):
            r = load.state[fleet.running[q, at]]
            r[COMPUTED] += done
            r[MADE] += done
            r[EMITTED] += done
            over = r[COMPUTED] - r[HELD] * block
            if over > 0:
                more = (over + block - 1) // block
                r[HELD] += more
                k[FREE] -= more
                k[TAKEN] += more


@compiled
def advance(g: int, until_ps: int, load: Load, fleet: Fleet, engine: Engine, out: Out) -> None:
    """Every step of replica ``g`` that ends at or before ``until_ps`` and starts before it."""
    s = fleet.group[g]
    while s[MODE] != IDLE:
        if s[MODE] == RUNNING:
            if s[END] > until_ps:
                return
            finish(g, load, fleet, engine, out)
        if s[NOW] >= until_ps:
            return
        if s[NOW] > LAST_PS:
            raise OverflowError("the replay runs past the last time that picoseconds can count")
        alike = steps_alike(g, load, fleet, engine)
        if alike > 1:
            done = s[STEPS]
            leap(g, alike, until_ps, load, fleet, engine)
            if s[STEPS] > done:
                continue
        if s[NEXT_PS] < 0 and not compose_group(g, load, fleet, engine, out):
            s[MODE] = IDLE
            return
        start(g, fleet, engine)
        if engine.lag > 0:
            compose_group(g, load, fleet, engine, out)


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
