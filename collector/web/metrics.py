"""The collector's own figures in Prometheus text (exposition format 0.0.4). No label grows with the fleet."""

from collections.abc import Iterable, Mapping
from typing import Final, get_args

from collector.state import Link, State
from collector.web.overview import Agents
from contract.codec import Refusal
from contract.vocabulary import Later, Rejection

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
ANSWERS: Final = ("received", "stored", "rejected", "later", "dropped")

Sample = tuple[Mapping[str, str], float]


def exposition(state: State, agents: Agents, version: str) -> str:
    """Every metric, as one text."""
    counters = state.counters
    links = {"broker": state.broker, "store": state.store}
    families = [
        _family("wanggan_build_info", "gauge", "Version of the collector.", [({"version": version}, 1)]),
        _family(
            "wanggan_start_time_seconds", "gauge", "Start of the collector, Unix time.",
            [({}, state.started_at.timestamp())],
        ),
        _family(
            "wanggan_records_total", "counter", "Records by what became of them; received counts all.",
            [({"answer": answer}, counters[answer]) for answer in ANSWERS],
        ),
        _reasons(
            "wanggan_records_rejected_total", "Records refused for good.", "reason", "rejected.", Rejection, counters,
        ),
        _reasons(
            "wanggan_records_later_total", "Records that the agent sends again.", "reason", "later.", Later, counters,
        ),
        _reasons(
            "wanggan_refused_total", "Payloads and records not believed.", "refusal", "refused.", Refusal, counters,
        ),
        _family("wanggan_dead_letters_total", "counter", "Dead letters kept.", [({}, counters["dead_letters"])]),
        _family("wanggan_queue_bytes", "gauge", "Batches that wait for the store.", [({}, state.queue_bytes)]),
        _family(
            "wanggan_link_up", "gauge", "1 while the connection stands.",
            [({"link": name}, int(link.up)) for name, link in links.items()],
        ),
        _family(
            "wanggan_link_change_timestamp_seconds", "gauge", "When the connection last changed, Unix time.",
            [({"link": name}, _since(link)) for name, link in links.items() if link.since],
        ),
        _family(
            "wanggan_agents", "gauge", "Agents by how they are heard; waiting: for registration.",
            [({"state": name}, getattr(agents, name)) for name in Agents.__struct_fields__],
        ),
    ]  # fmt: skip
    return "".join(families)


def _reasons(name: str, help_: str, label: str, prefix: str, vocabulary: object, counters: Mapping[str, int]) -> str:
    """A counter per word of a closed vocabulary, the unused ones at 0."""
    words = list(get_args(vocabulary))
    counted = {key.removeprefix(prefix) for key in counters if key.startswith(prefix)}
    words += sorted(counted.difference(words))
    return _family(name, "counter", help_, [({label: word}, counters.get(prefix + word, 0)) for word in words])


def _since(link: Link) -> float:
    assert link.since is not None
    return link.since.timestamp()


def _family(name: str, kind: str, help_: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {help_}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{inside}}} {value}" if inside else f"{name} {value}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
