"""The E-model in full: ITU-T G.107, every term, with its default values. Names are the Recommendation's."""

import math
from typing import NamedTuple

from perception.scoring.emodel import effective_impairment, mos


class Transmission(NamedTuple):
    """The parameters of G.107, Table 3, with their defaults (dB, dBm0p, ms, ratios as there)."""

    slr: float = 8
    rlr: float = 2
    stmr: float = 15
    ds: float = 3
    dr: float = 3
    telr: float = 65
    wepl: float = 110
    qdu: float = 1
    nc: float = -70
    nfor: float = -64
    ps: float = 35
    pr: float = 35
    t: float = 0
    ta: float = 0
    tr: float = 0
    ie: float = 0
    bpl: float = 1
    ppl: float = 0
    """Percent."""
    burst_r: float = 1
    a: float = 0

    def delayed(self, delay_ms: float) -> "Transmission":
        """With one delay everywhere: T = Ta, and Tr there and back."""
        return self._replace(t=delay_ms, ta=delay_ms, tr=2 * delay_ms)


class EmodelFull(NamedTuple):
    """The rating and what it is made of."""

    r: float
    mos: float
    delay_ms: float
    id: float
    """Idte + Idle + Idd."""
    ie_eff: float
    ro: float
    """Signal to noise."""
    is_: float
    """Simultaneous impairments."""
    idd: float
    """Too long a delay, even without echo."""


def emodel_full(line: Transmission) -> EmodelFull:
    """R = Ro - Is - Id - Ie,eff + A."""
    no, ro = _noise(line)
    ist = _sidetone(line)
    is_ = _loudness(line, no) + ist + _quantizing(line, ro)
    idd = _absolute_delay(line.ta)
    id_ = _talker_echo(line, no, ist) + _listener_echo(line, ro) + idd
    ie_eff = effective_impairment(line.ppl / 100, line.ie, line.bpl, line.burst_r)
    r = ro - is_ - id_ - ie_eff + line.a
    return EmodelFull(r, mos(r), line.ta, id_, ie_eff, ro, is_, idd)


def _noise(line: Transmission) -> tuple[float, float]:
    """No, the sum of noises, and Ro."""
    olr, lstr = line.slr + line.rlr, line.stmr + line.dr
    pre = line.pr + 10 * math.log10(1 + math.pow(10, (10 - lstr) / 10))
    nor = line.rlr - 121 + pre + 0.008 * (pre - 35) ** 2
    nos = line.ps - line.slr - line.ds - 100 + 0.004 * (line.ps - olr - line.ds - 14) ** 2
    powers = (line.nc, nos, nor, line.nfor + line.rlr)
    no = 10 * math.log10(sum(math.pow(10, power / 10) for power in powers))
    return no, 15 - 1.5 * (line.slr + no)


def _loudness(line: Transmission, no: float) -> float:
    """Iolr: too loud."""
    x = line.slr + line.rlr + 0.2 * (64 + no - line.rlr)
    return 20 * (_norm(x / 8, 8) - x / 8)


def _sidetone(line: Transmission) -> float:
    """Ist: one's own voice."""
    s = -10 * math.log10(math.pow(10, -line.stmr / 10) + math.exp(-line.t / 4) * math.pow(10, -line.telr / 10))
    return 12 * _norm((s - 13) / 6, 8) - 28 * _norm((s + 1) / 19.4, 35) - 13 * _norm((s - 3) / 33, 13) + 29


def _quantizing(line: Transmission, ro: float) -> float:
    """Iq: distortion."""
    q = 37 - 15 * math.log10(line.qdu)
    g = 1.07 + 0.258 * q + 0.0602 * q**2
    return 15 * math.log10(1 + math.pow(10, (ro - 100) / 15 + 46 / 8.4 - g / 9) + math.pow(10, 46 / 30 - g / 40))


def _talker_echo(line: Transmission, no: float, ist: float) -> float:
    """Idte."""
    t = line.t
    terv = line.telr - 40 * math.log10((1 + t / 10) / (1 + t / 150)) + 6 * math.exp(-0.3 * t**2)
    if line.stmr < 9:
        terv += ist / 2
    roe = -1.5 * (no - line.rlr)
    re = 80 + 2.5 * (terv - 14)
    return ((roe - re) / 2 + math.sqrt((roe - re) ** 2 / 4 + 100) - 1) * (1 - math.exp(-t))


def _listener_echo(line: Transmission, ro: float) -> float:
    """Idle."""
    rle = 10.5 * (line.wepl + 7) * math.pow(line.tr + 1, -0.25)
    return (ro - rle) / 2 + math.sqrt((ro - rle) ** 2 / 4 + 169)


def _absolute_delay(ta: float) -> float:
    """Idd."""
    if ta <= 100:
        return 0.0
    x = math.log2(ta / 100)
    return 25 * (_norm(x, 6) - 3 * _norm(x / 3, 6) + 2)


def _norm(x: float, order: int) -> float:
    """(1 + x^order)^(1/order): 1 for small x, x for large ones."""
    return math.pow(1 + math.pow(x, order), 1 / order)
