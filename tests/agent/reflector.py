"""A reflector for the agent's tests: the real HTTP side and the real admission.

`python -m tests.agent.reflector ADDRESS` serves one in a network namespace and prints its port; with `http` behind the
address that of its HTTP side.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from contract.throughput import Admitted, Greeting, Hello, decode, encode
from reflector.admission import Limits, Test
from tests.reflector.site import NONCE, Site, serving

Keys = Mapping[str, tuple[bytes, ...]] | None


@asynccontextmanager
async def reflector(
    limits: Limits | None = None, keys: Keys = None, *, host: str = "127.0.0.1", draining: bool = False
) -> AsyncIterator[tuple[Site, int]]:
    """The site, and the port of its control connections."""
    async with serving(limits, keys, host=host) as site:
        site.admission.draining = draining

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            answer = None
            try:
                writer.write(encode(Greeting(nonce=NONCE, http_port=site.web.port)))
                hello = decode(await reader.readline(), Hello)
                answer = site.admission.admit(hello, NONCE, writer.get_extra_info("peername")[0])
                if isinstance(answer, Test):
                    said = Admitted(
                        test=answer.id,
                        secret=answer.secret,
                        duration_s=answer.duration_s,
                        byte_cap=answer.byte_cap,
                        congestion_control="cubic",
                    )
                    writer.write(encode(said))
                    await reader.read()
                else:
                    writer.write(encode(answer))
            except ConnectionError:
                pass
            finally:
                if isinstance(answer, Test):
                    answer.release()
                writer.close()

        server = await asyncio.start_server(talk, host, 0)
        async with server:
            yield site, server.sockets[0].getsockname()[1]


async def _serve(host: str, side: str = "control") -> None:
    async with reflector(host=host) as (site, port):
        print(site.web.port if side == "http" else port, flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(*sys.argv[1:]))
