"""The compiled steps of a replica whose cache may run full: composed, started, ended, many at once.

Import this module only where a kernel runs (it imports numba). ``isocost.replay.engine`` says what is done;
``isocost.replay.engine_stepwise`` is the same machine with lists and objects, which the tests hold equal to
this one bit for bit.

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
    EMITTED,
    END,
    FREE,
    HEAD,
    HELD,
    IDLE,
    KEPT,
    LAST_PS,
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
    OUTSTANDING,
    OUTSTANDING_TOK,
    PREFILL_PS,
    RUNNING,
    SERVED,
    STEPS,
    TAIL,
    TAKEN,
    Engine,
    Fleet,
    Load,
    Out,
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
def put_out(i: int, q: int, block: int, load: Load, fleet: Fleet, out: Out) -> None:
    """Request ``i`` loses its place on rank ``q``: its blocks are free, a token in flight is lost.

    Only blocks that are full can be found again; those behind them are taken first.
    """
    s = load.state[i]
    k = fleet.rank[q]
    s[KEPT] = s[COMPUTED] // block
    s[MARK] = k[TAKEN] + k[FREE] + s[HELD] - s[KEPT]
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
            put_out(victim, q, block, load, fleet, out)
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
        todo = known - found
        decodes = todo == 1 and s[MADE] > 0
        todo = min(todo, budget)
        need = (found + todo + block - 1) // block
        room = need if engine.by_chunk > 0 else (known + block - 1) // block
        if room > k[FREE]:
            break
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
            if engine.by_chunk > 0 or (known + engine.block_tok - 1) // engine.block_tok <= k[FREE]:
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
