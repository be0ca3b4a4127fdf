"""Every number of a weekly report once more, from the raw records: nothing here comes from `perception`.
    python -m bench.recompute wanggan.db sites.toml reports/2026-W47.json PROFILE.yaml ...
Reads the printed figures from the report's archive, and from a SQLite store raw tables, announced jobs and `fleet`; outages
are compared with stored incidents. Exact figures must be equal; those from sketches (times, and scores made of them) within
1 %, ranks within one place. Not for weeks with maintenance, holidays, busy hours in the register, a measures file, a second
profile, a judged upgrade, or a target that was away for everybody. Lines are long so that the whole stays short."""

# fmt: off
import hashlib, json, math, re, sqlite3, sys, tomllib
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from functools import cache
from itertools import groupby, product
from pathlib import Path
from zoneinfo import ZoneInfo
import numpy as np
import yaml
from scipy import stats
HOUR, DAY, WEEK = 3600 * 10**9, 86400 * 10**9, 7 * 86400 * 10**9
PROBES = ["latency", "throughput", "dns", "web", "video", "path", "wifi_link", "wifi_scan", "wifi_join", "portal", "agent"]
AVAIL = """(SELECT venue, network, agent, target, time / 300000000000 * 300000000000 AS time, max(ok) AS ok, 1 AS attempted FROM latency LEFT JOIN role USING (agent, target)
  WHERE attempted AND coalesce(role, target) != 'gateway' GROUP BY venue, network, agent, time / 300000000000 HAVING count(DISTINCT latency.target) >= 2)"""
REACH = f"({' UNION ALL '.join(f'SELECT venue,network,agent,target,time,ok,attempted FROM {p}' for p in ('latency', 'web', 'dns'))})"
CORE, SERVICE = "coalesce(role, target) = 'core'", "coalesce(role, target) = 'service'"
VALUES = {  # where a value comes from, what a test gives (9e999: a time-out), which tests, the statistic
    "access_success_ratio": ("wifi_join", "ok", "1", "mean"), "online_ms": ("wifi_join", "iif(ok, online_ms, 9e999)", "1", "p50"),
    "good_signal_ratio": ("wifi_link", "rssi_dbm > -65 AND snr_db > 20", "ok AND rssi_dbm + snr_db NOTNULL", "mean"),
    "loss_ratio": ("latency", "iif(ok OR reason = 'all_lost', loss_ratio, 1)", CORE, "mean"), "rtt_p50_ms": ("latency", "iif(ok, rtt_p50_ms, 9e999)", CORE, "p50"),
    "availability_ratio": (AVAIL, "ok", "1", "mean"), "reach_ratio": (REACH, "ok", SERVICE, "mean"),
    "down_mbps": ("throughput", "iif(ok, down_mbps, 0)", "1", "busy"), "up_mbps": ("throughput", "iif(ok, up_mbps, 0)", "1", "busy"),
    **{f"{probe}_success_ratio": (probe, "ok", "1", "mean") for probe in ("web", "video")},
    **{name: (probe, f"iif(ok, {column}, NULL)", which, how) for name, probe, column, which, how in (
        ("rt_pdv_p95_ms", "latency", "rt_pdv_p95_ms", CORE, "p50"), ("working_rise_ms", "throughput", "working_rise_ms", "1", "p50"),
        ("dns_rtt_ms", "dns", "rtt_ms", "1", "p50"), ("web_total_ms", "web", "total_ms", "1", "p50"), ("video_start_s", "video", "start_s", "1", "p50"),
        ("video_stall_ratio", "video", "stall_ratio", "1", "mean"), ("rpm_down", "throughput", "rpm_down", "1", "mean"), ("rpm_up", "throughput", "rpm_up", "1", "mean"),
        *((f"{kind}_ms", "throughput", f"{kind}_rtt_p50_ms", "1", "mean") for kind in ("idle", "loaded_down", "loaded_up")))},
}
BEHIND = {"web": ["web_success_ratio"], "video": ["video_success_ratio"], "voice": ["rtt_p50_ms", "loss_ratio"]}
MARKED = {"web": "web_total_ms", "video": "video_stall_ratio"}
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
def quantile(x, p):
    x = np.sort(x)
    return (x[max(0, math.ceil(p * len(x) - 1e-9) - 1)] if np.isinf(x).any() else np.quantile(x, p)) if len(x) else None
def mean(x):
    return float(np.mean(x)) if len(x) else None
def lin(x, bad, good):
    return 100 * min(1, max(0, (x - bad) / (good - bad)))
def t_interval(value, days):
    half = stats.t.ppf(0.975, len(days) - 1) * np.std(days, ddof=1) / math.sqrt(len(days)) if len(days) > 3 else 0
    return (None, None) if value is None or len(days) < 4 else (max(0, value - half), min(100, value + half))

class Week:
    def __init__(self, db, profiles, venues, start):
        self.start, self.venues, self.profiles, self.tests = start, venues, profiles, defaultdict(dict)
        for name, (table, x, which, _) in VALUES.items():
            sql = f"SELECT venue, network, time, {x}, NOT ok FROM {table} LEFT JOIN role USING (agent, target) WHERE attempted AND ({which}) AND time >= ? AND time < ?"
            for key, tests in groupby(sorted(db.execute(sql, (start, start + WEEK)), key=lambda row: row[:3]), key=lambda row: row[:2]):
                self.tests[key][name] = np.array([test[2:] for test in tests], float).T
        self.joins = {venue for (venue,) in db.execute("SELECT DISTINCT venue FROM wifi_join")}
    def profile(self, key):
        return next(p for p in self.profiles if p["profile"]["network"] == key[1] and ("observe" in p["profile"]["id"]) == (key[1] == "wifi" and key[0] not in self.joins))
    @cache
    def busy_hours(self, key):
        hours = next(p for p in self.profiles if p["profile"]["network"] == key[1] and "observe" not in p["profile"]["id"])["busy_idle"]["hours"]
        table, own = np.zeros(168 * 60, bool), hours.get(self.venues[key[0]]["type"], hours["default"])
        for one in own if isinstance(own, list) else [own]:
            first, _, last = one["days"].partition("-")
            for day, at in product(range(DAYS.index(first), DAYS.index(last or first) + 1), one["at"]):
                a, b = (day * 1440 + int(clock[:2]) * 60 + int(clock[3:]) for clock in at.split("-"))
                table[a:b] = True
        return table.reshape(168, 60).sum(axis=1) >= 30
    def window(self, key, name, start, end):
        tests = self.tests[key].get(name, np.zeros((3, 0)))
        t, x, failed = tests[:, slice(*np.searchsorted(tests[0], [start, end]))]
        return t, x, failed > 0
    def values(self, key, start, end):
        found, counts = {}, {}
        for name, (*_, how) in VALUES.items():
            t, x, failed = self.window(key, name, start, end)
            known, busy = ~np.isnan(x), self.busy_hours(key)[((t - self.start) // HOUR).astype(int)]
            counted = known | failed
            counts[name] = int(counted.sum()), int((busy & counted).sum()), len(set(((t[counted] - self.start) // DAY).tolist()))
            found[name] = quantile(x[known], 0.5) if how == "p50" else mean(x[known])
            if how == "busy":
                kinds = found[f"{name[:-5]}_busy_mbps"], found[f"{name[:-5]}_idle_mbps"] = mean(x[busy & known]), mean(x[~busy & known])
                found[name] = sum(kinds) / 2 if None not in kinds else found[name] if end - start < WEEK else None
        return found, counts
    @cache
    def score(self, key, start, end):
        """Index, dimensions, indicators' scores, values and counts; floors hold for a week alone."""
        (v, counts), profile, scores, dims = self.values(key, start, end), self.profile(key), {}, {}
        for i in profile["indicators"]:
            behind = [zip(counts[b], ("min_n", "min_busy", "min_days"), strict=True) for b in BEHIND.get(i["id"], [i["id"]])]
            scores[i["id"]] = None if end - start == WEEK and any(n < i.get(f, 0) for of in behind for n, f in of) else indicator(i, v)
        for dim in profile["dimensions"]:
            of = [(i["w"], scores[i["id"]]) for i in profile["indicators"] if i["dim"] == dim]
            w, known = sum(w for w, _ in of), sum(w for w, s in of if s is not None)
            dims[dim] = sum(w * s for w, s in of if s is not None) / known if known and w - known <= w / 3 * (1 + 1e-9) else None
        return None if None in dims.values() else sum(profile["dimensions"][d] * s for d, s in dims.items()), dims, scores, v, counts
    def week(self, key):
        return self.score(key, self.start, self.start + WEEK)
    def series(self, key, step):
        return {n: x for n in range(WEEK // step) if (x := self.score(key, self.start + n * step, self.start + (n + 1) * step)[0]) is not None}

def voice_r(v):
    if v["rtt_p50_ms"] is None or v["loss_ratio"] is None or v["rtt_p50_ms"] == math.inf:
        return None if v["rtt_p50_ms"] is None else -math.inf
    delay, loss = v["rtt_p50_ms"] / 2 + 40, 100 * v["loss_ratio"]
    return 93.2 - 0.024 * delay - 0.11 * max(0, delay - 177.3) - 95 * loss / (loss + 25.1)
def web_mos(v):
    t, success = v["web_total_ms"], v["web_success_ratio"]
    return 1.0 if success == 0 else None if t is None else min(5, max(1, 5 - 4 * math.log(t / 500) / math.log(20)))
def indicator(i, v):
    if i["id"] == "web":
        return None if web_mos(v) is None else 25 * (web_mos(v) - 1) * v["web_success_ratio"]
    if i["id"] == "video":
        start, stall, ok = (v[f"video_{name}"] for name in ("start_s", "stall_ratio", "success_ratio"))
        whole = None if start is None or stall is None else 0.4 * lin(start, 5, 1) + 0.6 * lin(stall, 0.05, 0.001)
        return 0.0 if ok == 0 else None if whole is None else whole * ok
    if i["id"] == "voice":
        return None if voice_r(v) is None else 100 * min(1, max(0, voice_r(v) / 93.2))
    x, ends = v[i["id"]], (i["bad"], i["good"])
    return None if x is None else lin(x, *ends) if i["fn"] == "lin" else 0.0 if x <= 0 else lin(math.log(x), *map(math.log, ends))

def others(week, key):
    """The scores beside the index; of the barometer (IQB) also how far it jumps when a value is 1 % off."""
    profile, (*_, v, counts) = week.profile(key), week.week(key)
    def iqb(p, off=1.0):
        sources = {"down_mbps": "down_mbps", "up_mbps": "up_mbps", "rtt_ms": "rtt_p50_ms", "loss_ratio": "loss_ratio"}
        tests = {n: x[~np.isnan(x)] for n, source in sources.items() for x in [week.window(key, source, week.start, week.start + WEEK)[1]]}
        q = {n: quantile(x, 1 - p if "mbps" in n else p) if p == 0.5 or counts[sources[n]][0] >= 72 else None for n, x in tests.items()}
        met = [[(r["w"], q[n] * off > r["thr"] if "mbps" in n else q[n] / off < r["thr"]) for n, r in need.items() if q[n] is not None] for need in profile["iqb"].values()]
        return mean([sum(w for w, ok in of if ok) / sum(w for w, _ in of) for of in met if of])
    rises, r = [max(0, v[n] - v["idle_ms"]) for n in ("loaded_down_ms", "loaded_up_ms") if None not in (v[n], v["idle_ms"])], voice_r(v)
    found = {"rpm": min((v[n] for n in ("rpm_down", "rpm_up") if v[n] is not None), default=None), "r_factor": None if r is None else max(0, r), "web_mos": web_mos(v), "bloat_rise_ms": mean(rises)}
    for name, p in (("iqb_typ", 0.5), ("iqb_95", 0.95)):
        found |= {name: iqb(p), f"{name}/room": None if iqb(p) is None else iqb(p, 1.01) - iqb(p, 0.99)}
    return found
def change(this, last):
    """Hodges-Lehmann's estimate of what changed between two weeks, by hour."""
    d = np.array([this[h] - last[h] for h in this if h in last])
    return float(np.median([(d[i] + d[j]) / 2 for i, j in [np.triu_indices(len(d))]])) if len(d) else None
def mark(week, key, i, contracts):
    """The number that a mark is about, the mark, and whether it is met (None: too few tests)."""
    _, _, scores, v, _ = week.week(key)
    x, limit = voice_r(v) if i["id"] == "voice" else v[MARKED.get(i["id"], i["id"])], contracts[key].get(i["id"], i["pass"]["v"])
    return x, limit, None if scores[i["id"]] is None else bool(x >= limit if i["pass"]["op"] == ">=" else x <= limit)

def figures(db, now, last, sites, contracts, monday):
    """Every figure by its key: value, numerator, denominator, low, high, as far as it has them."""
    f, shorts, slots, label = {"measures/done": (None, 0, 0)}, 0, defaultdict(Counter), f"{monday:%G-W%V}"
    def ratio(key, k, n):
        f[key] = (k / n if n else None, k, n)
    def shares(at, c):
        tried, due = c["ok"] + c["failed"], c["expected"] - c["planned"]
        for name, k, n in (("completeness", min(c["n"], c["expected"]), c["expected"]), ("validity", min(tried, due), due), ("success", c["ok"], tried)):
            ratio(f"{at}/{name}", k, n)
    for probe in PROBES:
        sql = f"SELECT venue, network, outcome, reason, count(*) FROM {probe} WHERE time >= ? AND time < ? GROUP BY 1, 2, 3, 4"
        for venue, net, outcome, reason, n in db.execute(sql, (now.start, now.start + WEEK)):
            slots[venue, net, probe].update({"n": n, outcome: n, "planned": n * (reason in ("quiet_hours", "suppressed")), f"reason/{reason}": n if reason else 0})
    for agent, probe, period, since, *_ in db.execute("SELECT agent, probe, period_s, min(time) FROM jobs WHERE announced GROUP BY agent, probe, target, interface, provider, resolver"):
        slots[(*sites[agent], probe)]["expected"] += round((now.start + WEEK - max(now.start, since)) / 1e9 / period)
    for p, net in product(now.profiles, {net for _, net in sites.values()}):
        for i in p["indicators"] if p["profile"]["network"] == net else ():
            f |= {f"method/{p['profile']['id']}/{i['id']}/{name}": (i.get(name),) for name in ("w", "bad", "good", "min_n")}
            f[f"{net}/pass/{i['id']}/threshold"] = (i["pass"]["v"],)
    for net in sorted({of for _, of in sites.values()}):
        keys = sorted({key for key in sites.values() if key[1] == net})
        rated, types, passes = [key for key in keys if now.week(key)[0] is not None], defaultdict(dict), defaultdict(list)
        days, hours = {key: now.series(key, DAY) for key in keys}, {key: (now.series(key, HOUR), last.series(key, HOUR)) for key in keys}
        for key in keys:
            at, (score, _, scores, v, counts) = f"{net}/{key[0]}", now.week(key)
            c, low = sum((of for k, of in slots.items() if k[:2] == key), Counter()), {name for name, x in scores.items() if x is None}
            tried, due, (lo, hi) = c["ok"] + c["failed"], c["expected"] - c["planned"], t_interval(score, [*days[key].values()])
            f |= {f"{at}/ppi": (score, None, None, lo, hi), f"{at}/attempted": (tried,), f"{at}/change": (change(*hours[key]),)}
            shares(at, c)
            for name in ("access_success_ratio", "availability_ratio"):
                n = 0 if name in low else counts[name][0]
                f[f"{at}/{name}"] = (v[name], round(v[name] * n), n) if n else (None,)
            core, rates = now.window(key, "rtt_p50_ms", now.start, now.start + WEEK)[1], [v["down_busy_mbps"], v["down_idle_mbps"]]
            f |= {f"{at}/rtt_{p}_ms": (quantile(core, int(p[1:]) / 100),) for p in ("p50", "p95")} | {f"{at}/busy_idle": (None if None in rates else rates[0] / rates[1],)}
            f |= {f"{at}/down_{kind}_mbps": (None if "down_mbps" in low else x,) for kind, x in zip(("busy", "idle"), rates, strict=True)}
            f |= {f"{at}/loss_ratio": (v["loss_ratio"],)} | {f"{at}/score/{name}": (x,) for name, x in scores.items()} | {f"{at}/{name}": (x,) for name, x in others(now, key).items()}
            if min(tried, due) >= 0.7 * due and None not in (score, lo, hi):
                types[now.venues[key[0]]["type"]][key] = score, lo, hi
            f |= {f"{at}/upgrade/before": (None,), f"{at}/upgrade/effect": (None,), f"{at}/upgrade/signal": (None,), f"{at}/upgrade/controls": (0,), f"{at}/upgrade/after": (mean([*days[key].values()]),)}
            for i in now.profile(key)["indicators"]:
                x, limit, met = mark(now, key, i, contracts)
                passes[i["id"] if min(tried, due) >= 0.7 * due and met is not None else None].append((key, met))
                if met is False and min(tried, due) >= 0.7 * due:
                    weeks, shorts = 2 if mark(last, key, i, contracts)[2] is False else 1, shorts + 1
                    f |= {f"{at}/short/{i['id']}": (x,), f"{at}/short/{i['id']}/threshold": (limit,), f"{at}/short/{i['id']}/weeks": (weeks,)}
        for of in types.values():
            order, tier, lead = sorted(of, key=lambda k, of=of: (-of[k][0], k)), 0, math.inf
            sha, draws = "|".join(sorted({now.profile(k)["sha"] for k in of})), {}
            for k in of:
                seed = int.from_bytes(hashlib.sha256(f"{k[0]}|{label}|{sha}".encode()).digest()[:8], "big")
                draws[k] = np.array([*days[k].values()])[np.random.Generator(np.random.PCG64(seed)).integers(0, len(days[k]), (2000, 7))].mean(axis=1)
            for place, key in enumerate(order, 1):
                tier, lead = (tier + 1, of[key][1]) if of[key][2] < lead or place == 1 else (tier, lead)
                f |= {f"{net}/{key[0]}/tier": (tier,), f"{net}/{key[0]}/rank": (place, None, None, *np.quantile(1 + sum(draws[k] > draws[key] for k in of), (0.05, 0.95)))}
        averages = [mean([week.week(k)[0] for k in keys if week.week(k)[0] is not None]) for week in (now, last)]
        means = [np.mean([days[k][d] for k in rated if d in days[k]]) for d in range(7) if any(d in days[k] for k in rated)]
        f |= {f"{net}/ppi": (averages[0], None, None, *t_interval(averages[0], means)), f"{net}/venues": (len(keys),), f"{net}/venues/scored": (len(rated),), f"{net}/to_year": (None,), f"{net}/to_baseline": (None,)}
        f |= {f"{net}/{dim}": (mean([now.week(k)[1][dim] for k in rated]),) for dim in ("coverage", "quality", "service")} | {f"{net}/weeks/{monday - timedelta(weeks=n):%G-W%V}": (averages[n] if n < 2 else None,) for n in range(4)}
        district = {h: np.mean([a[h] - b[h] for a, b in (hours[k] for k in rated) if h in a and h in b]) for h in range(168) if any(h in hours[k][0] and h in hours[k][1] for k in rated)}
        f[f"{net}/change"] = (change(district, dict.fromkeys(district, 0)),)
        for name in {i["id"] for p in now.profiles if p["profile"]["network"] == net for i in p["indicators"]}:
            n, k = len(passes[name]), sum(met for _, met in passes[name])
            f |= {f"{net}/pass/{name}/{end}": (x,) for end, x in zip(("lo", "hi"), stats.binomtest(k, n).proportion_ci(method="wilson") if n else (None, None), strict=True)}
            ratio(f"{net}/pass/{name}", k, n)
        met = [(key, met) for name, of in passes.items() if name for key, met in of]
        ratio(f"{net}/pass", sum(ok for _, ok in met), len(met))
        judged = {key for key, _ in met}
        ratio(f"{net}/pass/venues", len(judged - {key for key, ok in met if not ok}), len(judged))
        total = sum((c for k, c in slots.items() if k[1] == net), Counter())
        for at, c in ((f"quality/{net}", total), *((f"quality/{net}/{p}", sum((c for k, c in slots.items() if k[1:] == (net, p)), Counter())) for p in PROBES)):
            f |= {f"{at}/{state}": (c[state],) for state in ("expected", "n", "ok", "failed", "invalid", "skipped", "planned")} | {f"{at}/missing": (c["expected"] - min(c["n"], c["expected"]),)}
        f |= {f"{net}/venues/judged": (len(judged),)} | {f"quality/{net}/{name}": (n,) for name, n in total.items() if "/" in name}
        shares(f"quality/{net}", total)
        ratio(f"quality/{net}/online", *db.execute("SELECT round(total(online)), count(online) FROM fleet WHERE network = ? AND time >= ? AND time < ?", (net, now.start, now.start + WEEK)).fetchone())
    return f | {"short": (shorts,), "short/unplanned": (shorts,)}

def check(db_file, register_file, archive, profile_files):
    """What is printed and does not agree, a line each; and how many figures were compared."""
    register, report, wrong = tomllib.loads(Path(register_file).read_text()), json.loads(Path(archive).read_text()), []
    zone, db = ZoneInfo(register.get("timezone", "Asia/Shanghai")), sqlite3.connect(f"file:{db_file}?mode=ro", uri=True)
    db.execute("CREATE TEMP TABLE role AS SELECT agent, target, max(role) AS role FROM jobs WHERE role != '' GROUP BY 1, 2")
    profiles = [one | {"sha": hashlib.sha256(json.dumps(one, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()}
                for one in (yaml.safe_load(Path(path).read_text()) for path in profile_files)]
    monday = date.fromisocalendar(int(report["week"][:4]), int(report["week"][6:]), 1)
    now, last = (Week(db, profiles, register["venues"], int(datetime.combine(day, datetime.min.time(), zone).timestamp()) * 10**9) for day in (monday, monday - timedelta(weeks=1)))
    contracts = {(site["venue"], site["network"]): site.get("contract", {}) for site in register["sites"]}
    f = figures(db, now, last, {site["agent"]: (site["venue"], site["network"]) for site in register["sites"]}, contracts, monday)
    for venue, network, segment, time, hours in db.execute("SELECT venue, network, segment, time, hours FROM incident_1h"):
        f[f"{network}/{venue}/outage/{segment}/{datetime.fromtimestamp(time // 10**9, zone):%Y-%m-%dT%H}"] = (hours,)
    printed = report["revisions"][-1]["figures"]
    for key, figure in printed.items():
        exact = re.search(r"^(quality|measures|method)/|/(attempted|completeness|validity|weeks|threshold|tier|access\w*|availability\w*)$|/pass|/(low|venues)$", key)
        for name, x in zip(("value", "numerator", "denominator", "lo", "hi"), f.get(key, ("nothing",)), strict=False):
            said, x = figure.get(name), None if isinstance(x, float) and math.isinf(x) else x
            room = f[f"{key}/room"][0] or 0 if "/iqb" in key else 1 if key.endswith("/rank") else 0.5 if key.endswith("/change") or (name in ("lo", "hi") and not exact) else 0
            if x == "nothing" or (said is None) != (x is None) or (x is not None and abs(said - x) > (0 if exact else 0.01 * abs(x)) + room + 1e-9 * (1 + abs(x))):
                wrong.append(f"{key}: {name} is printed {said}, recomputed {x}")
    return wrong, len(printed)
if __name__ == "__main__":
    differ, compared = check(*sys.argv[1:4], sys.argv[4:])
    print("\n".join(differ) or "all agree", f"({compared} figures)")
    sys.exit(bool(differ))
