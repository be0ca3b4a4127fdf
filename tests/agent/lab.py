"""What the agent's tests say to it; the network around it is `tests.network`."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.network.namespaces import Namespace, cable, namespace

__all__ = ["Namespace", "cable", "latency_job", "namespace", "when"]


def latency_job(folder: Path, host: str, interface: str, **settings: object) -> str:
    """A configuration with one latency job to `core`; quick unless `settings` say otherwise."""
    quick = {"packets": 10, "interval_ms": 20, "late_s": 0.3} | settings
    lines = [f"{name} = {json.dumps(value)}" for name, value in quick.items()]
    path = folder / "agent.toml"
    path.write_text(
        f'agent = "lib-01"\nstate = "state"\ninterface = "{interface}"\n[mqtt]\nhost = "127.0.0.1"\ntls = false\n'
        f'[targets.core]\nrole = "service"\nhost = "{host}"\nport = 9\n'
        '[[jobs]]\nprobe = "latency"\ntarget = "core"\nperiod_s = 60\n' + "\n".join(lines)
    )
    return str(path)


@contextmanager
def when(happened: Callable[[], bool], do: Callable[[], object]) -> Iterator[None]:
    """`do` something as soon as something else has happened."""

    def watch() -> None:
        while not happened():
            if over.wait(0.02):
                return
        do()

    over = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
