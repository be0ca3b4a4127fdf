"""`iw`, the kernel's own tool, asked about one interface: text, or the reason why there is none.

It can hang for ever, above all in a scan that the kernel has long finished: every call has its deadline.
"""

from typing import Final

from agent import command
from agent.probe import Failure
from contract.vocabulary import Reason

SHORT_S: Final = 3.0
SCAN_S: Final = 15.0
"""A scan takes 4 s, while associated 11 to 13 s. One that hangs is most often done, and while it hangs nothing else is
measured."""
SCAN_BYTES: Final = 4 * 1024 * 1024
"""Of a scan's results: an access point's elements are 3 to 8 kB of text, and there may be hundreds of them."""

_REASONS: Final[dict[int, Reason]] = {
    1: "no_permission", 13: "no_permission", 16: "busy", 19: "no_interface", 100: "no_link"
}  # fmt: skip
"""By errno: EPERM, EACCES, EBUSY, ENODEV, ENETDOWN."""
_NO_NL80211: Final = "nl80211 not found"
_ENODEV: Final = 19
_EOPNOTSUPP: Final = 95


class Unknown(Failure):
    """`iw` will never know this: it is not installed, the kernel has no nl80211, or the driver does not tell."""


async def ask(interface: str, *words: str) -> str:
    """What ``iw dev INTERFACE WORDS`` prints.

    :raises Unknown: `tool_missing`, `no_interface`, or `internal` where the driver lacks it.
    :raises command.Killed: it took more than 3 s, a scan more than 15 s.
    :raises Failure: `busy` when a scan is under way; `no_permission`; `no_link` when the radio is off; `internal`.
    """
    timeout_s = SCAN_S if words == ("scan",) else SHORT_S
    max_bytes = SCAN_BYTES if words[0] == "scan" else command.MAX_OUTPUT_BYTES
    try:
        done = await command.run("iw", "dev", interface, *words, timeout_s=timeout_s, max_bytes=max_bytes)
    except Failure as failure:
        if failure.reason == "tool_missing":
            raise Unknown(failure.reason, failure.detail) from None
        raise
    if done.code == 0:
        return done.output
    detail = f"iw {' '.join(words)}: {done.error or f'exit code {done.code}'}"
    # The negative errno, as far as an exit code holds it.
    code = 256 - done.code
    if _NO_NL80211 in done.error:
        raise Unknown("no_interface", detail)
    if code in (_ENODEV, _EOPNOTSUPP):
        raise Unknown(_REASONS.get(code, "internal"), detail)
    raise Failure(_REASONS.get(code, "internal"), detail)
