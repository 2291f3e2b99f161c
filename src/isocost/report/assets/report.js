"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const specs = read("specs");
  const data = read("slider-data");
  const options = { ast: true, actions: false, renderer: "svg", defaultStyle: false,
    tooltip: { disableDefaultStyle: true, sanitize: escaped } };
  const views = {};

  function escaped(value) {
    return String(value).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
  }

  async function draw(name) {
    const old = document.getElementById("chart-" + name);
    const next = document.createElement("div");
    next.style.cssText = "position:absolute;visibility:hidden;width:840px";
    document.body.append(next);
    try {
      const found = await window.vegaEmbed(next, specs[name], options);
      next.removeAttribute("style");
      next.id = old.id;
      next.className = old.className + " vega-embed";
      next.setAttribute("role", "img");
      next.setAttribute("aria-label", old.getAttribute("aria-label"));
      old.replaceWith(next);
      views[name] = found.view;
    } catch (error) {
      next.remove();
      console.error(error);
    }
  }

  function scaled(n, roundedFrom) {
    const size = Math.abs(n);
    for (const [unit, letter] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]])
      if (size >= 0.9995 * unit) return (n / unit).toFixed(size / unit >= roundedFrom ? 0 : 1) + letter;
    return null;
  }

  const count = (n) => scaled(n, 9.95) ?? Math.round(n).toString();
  const money = (n) => "$" + (scaled(n, 99.95) ?? n.toFixed(Math.abs(n) >= 99.995 ? 0 : 2));
  const times = (n) => Number(n.toPrecision(3)).toString();
  const signed = (percent) => (percent === 0 ? "as now" : (percent > 0 ? "+" : "−") + Math.abs(percent) + "%");

  function priced(series, api, gpu) {
    const rest = 1 - series.api - series.gpu;
    const scale = rest + series.api * api + series.gpu * gpu;
    return series.usd.map((c) => (c === null ? null : series.fixed + (c - series.fixed) * scale));
  }

  function costAt(volumes, costs, stairs, v) {
    if (v < volumes[0] || v > volumes[volumes.length - 1]) return null;
    const j = volumes.findIndex((x) => x >= v);
    if (j === 0 || stairs) return costs[j];
    const [a, b] = [costs[j - 1], costs[j]];
    if (a === null || b === null) return null;
    return a + ((b - a) * (v - volumes[j - 1])) / (volumes[j] - volumes[j - 1]);
  }

  function cheapest(curves, v) {
    let best = null;
    for (const curve of curves) {
      if (!curve.ok) continue;
      const usd = costAt(data.volumes, curve.costs, curve.stairs, v);
      if (usd !== null && (best === null || usd < best.usd)) best = { label: curve.label, usd };
    }
    return best;
  }

  function takeovers(curves) {
    const [lo, hi] = [data.volumes[0], data.volumes[data.volumes.length - 1]];
    const steps = 1500;
    const found = [];
    let before = null;
    for (let k = 0; k <= steps; k++) {
      const v = lo > 0 ? Math.min(hi, lo * Math.pow(hi / lo, k / steps)) : lo + ((hi - lo) * k) / steps;
      const now = cheapest(curves, v);
      if (now && before && now.label !== before.label)
        found.push({ v, usd: now.usd, label: now.label });
      if (now) before = now;
    }
    return found;
  }

  function crossing(a, b) {
    const [lo, hi] = [data.volumes[0], data.volumes[data.volumes.length - 1]];
    const steps = 1500;
    let dearer = false;
    for (let k = 0; k <= steps; k++) {
      const v = lo > 0 ? Math.min(hi, lo * Math.pow(hi / lo, k / steps)) : lo + ((hi - lo) * k) / steps;
      const [x, y] = [a, b].map((c) => costAt(data.volumes, c.costs, c.stairs, v));
      if (x === null || y === null) continue;
      if (y < x && dearer)
        return { v, usd: y, text: b.label + " cheaper than " + a.label + " from " + count(v) + " a month" };
      dearer = y >= x;
    }
    return null;
  }

  function recompute() {
    const value = (id) => Number(document.getElementById(id).value);
    const factor = Math.pow(10, value("in-volume"));
    const [api, gpu] = [value("in-api"), value("in-gpu")];
    const v = data.today * factor;
    const curves = data.series.map((s) => ({ ...s, costs: priced(s, 1 + api / 100, 1 + gpu / 100) }));
    const rows = [];
    for (const curve of curves)
      curve.costs.forEach((usd, j) => {
        if (usd !== null && usd > 0)
          rows.push({ v: data.volumes[j], usd, label: curve.label, stairs: curve.stairs, ok: curve.ok });
      });
    const takeover = takeovers(curves);
    const crossings = data.pairs.map(([i, j]) => crossing(curves[i], curves[j])).filter((c) => c !== null);
    const text = factor === 1 ? "this trace" : times(factor) + " × this trace";
    const view = views.breakeven;
    if (view) view.data("curves", rows).data("today", [{ v, text }]).data("crossings", crossings).run();
    document.getElementById("out-volume").textContent = factor === 1 ? "as now" : "× " + times(factor);
    document.getElementById("out-api").textContent = signed(api);
    document.getElementById("out-gpu").textContent = signed(gpu);
    const best = cheapest(curves, v);
    const later = takeover.find((c) => c.v > v);
    let said = "At " + count(v) + " requests a month ";
    said += best ? best.label + " costs least of what is allowed: " + money(best.usd) + " a month." : "nothing tabulated that is allowed serves all the traffic.";
    if (best && later) said += " " + later.label + " takes over from " + count(later.v) + ".";
    document.getElementById("said").textContent = said;
  }

  function slide() {
    const form = document.getElementById("sliders");
    if (!data || !form || !views.breakeven) return;
    form.hidden = false;
    for (const id of ["in-volume", "in-api", "in-gpu"]) document.getElementById(id).addEventListener("input", recompute);
    document.getElementById("back").addEventListener("click", () => { form.reset(); recompute(); });
    form.addEventListener("submit", (event) => event.preventDefault());
    recompute();
  }

  function sortable() {
    const table = document.getElementById("facts-table");
    if (!table) return;
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const keyOf = (row, i) => row.cells[i].dataset.sort ?? row.cells[i].textContent.trim();
    heads.forEach((head, i) => {
      head.dataset.on = "";
      head.tabIndex = 0;
      const sort = () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].sort((a, b) => {
          const [x, y] = [keyOf(a, i), keyOf(b, i)];
          const [m, n] = [Number(x), Number(y)];
          const numbers = x !== "" && y !== "" && !Number.isNaN(m) && !Number.isNaN(n);
          return (down ? -1 : 1) * (numbers ? m - n : x.localeCompare(y, "en", { numeric: true }));
        });
        body.append(...rows);
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); } });
    });
    const filter = document.getElementById("filter");
    const shown = document.getElementById("shown");
    document.getElementById("tools").hidden = false;
    filter.addEventListener("input", () => {
      const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let n = 0;
      for (const row of body.rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !wanted.every((word) => text.includes(word));
        n += row.hidden ? 0 : 1;
      }
      shown.textContent = wanted.length ? n + " of " + body.rows.length : "";
    });
  }

  sortable();
  if (window.vegaEmbed) Promise.all(Object.keys(specs).map(draw)).then(slide);
})();
