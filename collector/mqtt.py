"""The connection to the broker. Nothing else in the collector knows which MQTT client it uses (decision 0003).

Records come at QoS 0: an acknowledgement of the broker's hop proves nothing, ours is end to end, and an agent sends
again what was not answered. Births and wills come at QoS 1.
"""

import asyncio
import logging
import os
import random
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from mqttium import (
    BrokerDisconnectError,
    ConnectRefusedError,
    FlowControlError,
    MQTTError,
    MQTTProtocolVersion,
    NotConnectedError,
    SubscribeError,
)
from mqttium.api import AsyncClient
from mqttium.codec.vbi import decode_vbi
from mqttium.packets import _publish
from mqttium.types import Message, Properties

from collector.config import MqttSettings
from collector.state import State
from contract import topics
from contract.messages import MAX_BYTES

log = logging.getLogger(__name__)

KEEPALIVE_S: Final = 30
CONNECT_S: Final = 10.0
RECONNECT_S: Final = (1.0, 30.0)
"""First and longest wait for another attempt; the real one is a random part of it (full jitter)."""
SETTLED_S: Final = 30.0
"""After a connection that lived this long, the next attempt is soon again."""
GOODBYE_S: Final = 0.5
MAX_PACKET_BYTES: Final = 4 * MAX_BYTES
"""The broker keeps larger ones from us; what is above the contract's limit and below this is refused by name."""
MAX_WAITING_BYTES: Final = 8 * 2**20
"""Of answers that the broker does not take."""
MAX_TOPICS: Final = 100_000
MAX_TOPIC: Final = len(topics.up(32 * "x", "records"))
"""Characters; who has a longer topic is no agent."""
MAX_CORRELATION_BYTES: Final = 100
"""Longer Correlation Data is no batch's identity; it would wait uncounted for the store."""

_SIZES: Final = {0x01: 1, 0x02: 4, 0x23: 2}
"""Bytes of a value of fixed size in a PUBLISH."""
_TEXTS: Final = {0x03: 1, 0x08: 1, 0x09: 1, 0x26: 2}
"""How many strings, each behind its length, stand in a property: Content Type, Response Topic, Correlation Data,
User Property."""
_CORRELATION: Final = 0x09


def _correlation_alone(data: bytes | bytearray, offset: int, packet: str) -> tuple[Properties, int]:
    """The Correlation Data of a PUBLISH; any other property is passed over, sound or not.

    mqttium ends the connection for what mosquitto lets through: a Response Topic with a wildcard, a Payload Format
    Indicator of 2, 1,025 User Properties. One such message, retained, would keep a collector away for ever.
    """
    size, at = decode_vbi(data, offset)
    end = at + size
    correlation: bytes | None = None
    while at < min(end, len(data)):
        kind, at = data[at], at + 1
        if kind in _SIZES:
            at += _SIZES[kind]
        elif kind in _TEXTS:
            for _ in range(_TEXTS[kind]):
                start = at + 2
                at = start + int.from_bytes(data[at:start])
            if kind == _CORRELATION:
                correlation = bytes(data[start:at])
        else:  # a Subscription Identifier, which we never ask for, or what the standard does not know
            break
    return Properties({} if correlation is None else {"correlation_data": correlation}), end


# Not a setting of mqttium (1.2): the tests show it when another version does this elsewhere.
_publish.decode_properties = _correlation_alone  # type: ignore[attr-defined,assignment]

OnMessage = Callable[[str, str, bytes, bytes | None], None]
"""Gets agent, leaf of the topic, payload and Correlation Data. Must not raise."""

_REFUSALS: Final = {
    0x80: "it does not say why",
    0x84: "it does not speak MQTT 5",
    0x85: "it does not accept the client id; change `name`",
    0x86: "wrong user name or password; see mqtt.user and mqtt.password_file",
    0x87: "not authorized; see mqtt.user and mqtt.password_file",
    0x88: "it is not available",
    0x89: "it is busy",
    0x8A: "we are banned",
    0x8C: "it wants another way to authenticate",
    0x95: "the packet is too large",
    0x97: "a quota is exceeded",
    0x9F: "connections come too fast",
}
"""MQTT 5, 3.2.2.2."""
_TAKEN_OVER: Final = 0x8E


class Connection:
    """One connection after another, each with a client of its own and no session kept by the broker."""

    def __init__(self, settings: MqttSettings, name: str, state: State, on_message: OnMessage) -> None:
        """:raises OSError: (and ssl.SSLError, which is one) when a certificate or the password cannot be used."""
        self._settings = settings
        self._name = name
        self._state = state
        self._on_message = on_message
        self._tls = _tls(settings) if settings.tls else None
        self._password = settings.password_file.read_text().split("\n")[0] if settings.password_file else None
        self._client: AsyncClient | None = None
        self._topics: dict[str, tuple[str, str]] = {}
        group = f"$share/{settings.share_group}/" if settings.share_group else ""
        self._subscriptions = [
            (topics.up("+", "status"), 1),
            (topics.up("+", "reply"), 1),
            (group + topics.up("+", "records"), 0),
        ]

    def publish(self, topic: str, payload: bytes) -> bool:
        """Send at QoS 0; False when it could not be, which the agent hears as silence. Never blocks."""
        if self._client is None:
            return False
        try:
            self._client.publish_nowait(topic, payload)
        except (NotConnectedError, FlowControlError):
            return False
        return True

    async def run(self) -> None:
        """Connect, again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        wait_s, longest_s = RECONNECT_S
        while True:
            began_s = loop.time()
            reason = await self._connect_once()
            if self._state.broker.change(False, datetime.now(UTC), reason):
                log.warning("broker: %s", reason)
            if loop.time() - began_s >= SETTLED_S:
                wait_s = RECONNECT_S[0]
            await asyncio.sleep(random.uniform(0, wait_s))  # noqa: S311 jitter, no secret
            wait_s = min(2 * wait_s, longest_s)

    async def _connect_once(self) -> str:
        """Live through one connection; why it ended, or why there was none."""
        lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        client = self._new_client(lost)
        try:
            async with asyncio.timeout(CONNECT_S):
                await client.connect(self._settings.host, self._settings.port, ssl=self._tls)
                # Before the first retained birth arrives, which is answered.
                self._client = client
                await client.subscribe(self._subscriptions)
            if self._state.broker.change(True, datetime.now(UTC)):
                log.info("broker: connected to %s:%d", self._settings.host, self._settings.port)
            return _why(await lost)
        except TimeoutError:
            return f"no answer from {self._settings.host}:{self._settings.port} within {CONNECT_S:.0f} s"
        except (MQTTError, OSError) as error:
            return _why(error)
        finally:
            self._client = None
            try:
                async with asyncio.timeout(GOODBYE_S):
                    await client.disconnect()
            except (TimeoutError, MQTTError, OSError) as error:
                log.debug("broker: goodbye failed: %s", error)

    def _new_client(self, lost: "asyncio.Future[BaseException | None]") -> AsyncClient:
        client = AsyncClient(
            self._name,
            protocol=MQTTProtocolVersion.MQTTv5,
            clean_start=True,
            keepalive=KEEPALIVE_S,
            username=self._settings.user,
            password=self._password,
            maximum_packet_size=MAX_PACKET_BYTES,
            max_write_queue_bytes=MAX_WAITING_BYTES,
            max_write_queue_messages=100_000,
            message_delivery="callback",
        )

        def on_disconnect(error: BaseException | None) -> None:
            if not lost.done():
                lost.set_result(error)

        client.on_message = self._received
        client.on_disconnect = on_disconnect
        return client

    def _received(self, message: Message) -> None:
        try:
            agent, leaf = self._topics[message.topic]
        except KeyError:
            parts = message.topic.split("/")
            agent, leaf = topics.agent_of(message.topic), parts[-1]
            if len(self._topics) >= MAX_TOPICS:
                self._topics.clear()
            if len(message.topic) <= MAX_TOPIC:
                self._topics[message.topic] = agent, leaf
        properties = message.properties
        correlation = properties.get("correlation_data") if properties else None
        if correlation is not None and len(correlation) > MAX_CORRELATION_BYTES:
            correlation = None
        self._on_message(agent, leaf, message.payload, correlation)


def _why(error: BaseException | None) -> str:
    """For people."""
    match error:
        case None:
            return "the connection was closed"
        case ConnectRefusedError():
            words = _REFUSALS.get(error.reason_code, f"reason code 0x{error.reason_code:02x}")
            return f"the broker refuses the connection: {words}"
        case SubscribeError():
            return "the broker refuses the subscriptions: its rules must let this user read wanggan/1/up/#"
        case BrokerDisconnectError() if error.reason_code == _TAKEN_OVER:
            return "another client has taken our client id: every collector needs a `name` of its own"
        case _:
            cause = error.__cause__ or error
            if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and (cause.errno or 0) > 0:
                return os.strerror(cause.errno or 0)  # asyncio puts its own words around the system's
            return str(cause) or type(cause).__name__


def _tls(settings: MqttSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.cert_file is not None:
        context.load_cert_chain(str(settings.cert_file), str(settings.key_file))
    return context
