"""The E-model, simple: how speech would sound, from delay and loss (ITU-T G.107 with everything else at its default).

R is 0-100 (93.2 is the best of narrow-band speech); MOS is 1-4.5. Codec figures: see G.113 Appendix I before quoting.
"""

from typing import Final, NamedTuple

from perception.scoring.primitives import clamp

R0: Final = 93.2
BEST_R: Final = 93.2
G711_PLC_BPL: Final = 25.1
"""Robustness of G.711 with packet loss concealment; its Ie is 0."""


class Codec(NamedTuple):
    """How a codec suffers."""

    ie: float
    """Equipment impairment without loss."""
    bpl: float
    """Robustness against random loss."""


CODECS: Final = {"g711": Codec(0, 4.3), "g711_plc": Codec(0, G711_PLC_BPL), "g729a_vad": Codec(11, 19)}


class Emodel(NamedTuple):
    """The rating and what it is made of."""

    r: float
    mos: float
    delay_ms: float
    """Mouth to ear, one way."""
    id: float
    """Delay impairment."""
    ie_eff: float
    """Equipment and loss impairment."""


def delay_ms(rtt_ms: float, jitter_buffer_ms: float) -> float:
    """One way, estimated: half the round trip and the jitter buffer."""
    return rtt_ms / 2 + jitter_buffer_ms


def emodel(
    delay_ms: float | None, loss_ratio: float | None, *, ie: float = 0, bpl: float = G711_PLC_BPL, r0: float = R0
) -> Emodel | None:
    """From the delay of one way; None when delay or loss is."""
    if delay_ms is None or loss_ratio is None:
        return None
    late = 0.024 * delay_ms + 0.11 * max(0.0, delay_ms - 177.3)
    lost = effective_impairment(loss_ratio, ie, bpl)
    r = r0 - late - lost
    return Emodel(r, mos(r), delay_ms, late, lost)


def effective_impairment(loss_ratio: float, ie: float, bpl: float, burst_r: float = 1) -> float:
    """Ie,eff of G.107."""
    loss_percent = 100 * loss_ratio
    return ie + (95 - ie) * loss_percent / (loss_percent / burst_r + bpl)


def mos(r: float) -> float:
    """Mean opinion score of a rating (G.107 Annex B), never below 1: the cubic dips there for small R."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


def voice(r: float | None) -> float | None:
    """The voice indicator, 0-100: R in parts of its best (自定)."""
    return None if r is None else 100 * clamp(r / BEST_R, 0, 1)
