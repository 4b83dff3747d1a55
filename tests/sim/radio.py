"""A radio as 802.11 has it: frames take time on the air, senders listen first, and still collide.

The distributed coordination function (IEEE 802.11, 10.3): who hears a transmission waits for its end, for
DIFS and for a random number of slots. Two who cannot hear each other (hidden terminals), or who start within
the same slot, collide at every receiver of both. One who sends hears nothing meanwhile. Multicast is sent
once, at the basic rate; unicast is faster, acknowledged, and repeated with a wider window until it is.

Not modelled: distance and fading (who hears, hears well, apart from `AirConditions.loss`), rate adaptation,
acknowledgements as frames of their own (their time is the sender's; one lost costs a repetition).
"""

import random
from collections import Counter, defaultdict, deque
from dataclasses import dataclass

from tests.sim.network import FRAME_HEADERS, UNICAST_TRIES, AirConditions, Medium, Timeline

FRAME_BYTES = 24 + 4 + 8 + 28
"""On the air around a datagram: MAC header, check sum, LLC/SNAP, IPv4 and UDP headers."""

ACK_BYTES = 14


@dataclass(frozen=True)
class RadioModel:
    """Rates in bits a second, times in seconds; `queue` is frames waiting in a radio.

    `capture` is the probability that a receiver keeps the frame it was receiving when another one comes in.
    """

    multicast_rate: float = 1_000_000
    unicast_rate: float = 6_000_000
    preamble: float = 192e-6
    slot: float = 20e-6
    sifs: float = 10e-6
    difs: float = 50e-6
    window: int = 31
    widest: int = 1023
    queue: int = 256
    capture: float = 0.0

    def airtime(self, size: int, *, unicast: bool) -> float:
        """Seconds that a datagram of `size` bytes takes; unicast with its acknowledgement."""
        multicast = self.preamble + (size + FRAME_BYTES) * 8 / self.multicast_rate
        if not unicast:
            return multicast
        frame = self.preamble + (size + FRAME_BYTES) * 8 / self.unicast_rate
        return frame + self.sifs + self.preamble + ACK_BYTES * 8 / self.unicast_rate


class _Frame:
    """One frame in a radio's queue. `slots` are those left to wait for once the air is idle."""

    __slots__ = ("arrived", "data", "receivers", "sender", "slots", "to", "tries")

    def __init__(self, sender: int, to: int | None, data: bytes) -> None:
        self.sender, self.to, self.data = sender, to, data
        self.tries = 0
        self.slots = 0
        self.arrived = False
        self.receivers: list[int] = []


class _Antenna:
    """One router's radio. `idle_since` is when it began to wait for its turn."""

    __slots__ = ("busy_from", "busy_until", "idle_since", "queue", "receiving", "sending_until")

    def __init__(self) -> None:
        self.queue: deque[_Frame] = deque()
        self.busy_from = self.busy_until = self.sending_until = self.idle_since = -1.0
        self.receiving: _Frame | None = None


class Radio(Medium):
    """The air as radios share it.

    `airtime` counts each router's seconds of sending, `collisions` frames spoilt at a receiver, `overflows`
    frames that a full queue refused.
    """

    def __init__(
        self, rng: random.Random, conditions: AirConditions, time: Timeline, model: RadioModel, count: int
    ) -> None:
        super().__init__(rng, conditions, time)
        self.model = model
        self.airtime: defaultdict[int, float] = defaultdict(float)
        self.collisions: Counter[int] = Counter()
        self.overflows: Counter[int] = Counter()
        self._antennas = [_Antenna() for _ in range(count)]

    def transmit(self, sender: int, to: int | None, data: bytes) -> None:
        antenna = self._antennas[sender]
        if len(antenna.queue) >= self.model.queue:
            self.overflows[sender] += 1
            return
        frame = _Frame(sender, to, data)
        antenna.queue.append(frame)
        if len(antenna.queue) == 1:
            idle = self.time.now - antenna.busy_until >= self.model.difs
            frame.slots = 0 if idle else self._backoff(frame)
            self._wait(antenna)

    def _backoff(self, frame: _Frame) -> int:
        window = min(self.model.widest, ((self.model.window + 1) << frame.tries) - 1)
        return self.rng.randint(0, window)

    def _wait(self, antenna: _Antenna) -> None:
        """Comes back when the first frame's turn is, if the air stays idle."""
        antenna.idle_since = max(self.time.now, antenna.busy_until)
        wait = self.model.difs + antenna.queue[0].slots * self.model.slot
        self.time.at(antenna.idle_since + wait, self._turn, antenna)

    def _turn(self, antenna: _Antenna) -> None:
        now, model = self.time.now, self.model
        # Who began less than half a slot ago is not heard yet: both send, and collide.
        if antenna.idle_since < antenna.busy_until and antenna.busy_from < now - model.slot / 2:
            frame = antenna.queue[0]
            waited = (antenna.busy_from - antenna.idle_since - model.difs) / model.slot
            slots = frame.slots or self._backoff(frame)
            frame.slots = max(0, slots - max(0, int(waited)))
            self._wait(antenna)
            return
        self._start(antenna, now)

    def _start(self, antenna: _Antenna, now: float) -> None:
        frame = antenna.queue[0]
        takes = self.model.airtime(len(frame.data), unicast=frame.to is not None)
        end = now + takes
        self._count(frame.sender, len(frame.data) + FRAME_HEADERS)
        self.airtime[frame.sender] += takes
        antenna.sending_until = antenna.busy_until = end
        antenna.busy_from = now
        antenna.receiving = None
        frame.receivers = self.hears(frame.sender)
        frame.tries += 1
        capture, antennas = self.model.capture, self._antennas
        for number in frame.receivers:
            other = antennas[number]
            if other.busy_until <= now:
                other.busy_from, other.busy_until = now, end
                other.receiving = frame
                continue
            if end > other.busy_until:
                other.busy_until = end
            if other.sending_until <= now:
                self.collisions[number] += 1
                if other.receiving is not None and not (capture and self.rng.random() < capture):
                    other.receiving = None
        self.time.at(end, self._end, antenna, frame)

    def _end(self, antenna: _Antenna, frame: _Frame) -> None:
        loss, to, antennas = self.conditions.loss, frame.to, self._antennas
        sender, data, random = frame.sender, frame.data, self.rng.random
        acknowledged = False
        for number in frame.receivers:
            other = antennas[number]
            if other.receiving is not frame:
                continue
            other.receiving = None
            if to is None:
                if random() >= loss:
                    self._hand_over(number, sender, data)
            elif number == to and random() >= loss:
                acknowledged = random() >= loss
                if not frame.arrived:
                    frame.arrived = True
                    self._hand_over(number, sender, data)
        if to is None or acknowledged or frame.tries >= UNICAST_TRIES:
            antenna.queue.popleft()
        if antenna.queue:
            antenna.queue[0].slots = self._backoff(antenna.queue[0])
            self._wait(antenna)

    def _hand_over(self, receiver: int, sender: int, data: bytes) -> None:
        conditions, time = self.conditions, self.time
        copies = 2 if conditions.duplication and self.rng.random() < conditions.duplication else 1
        for _ in range(copies):
            if conditions.delay:
                delay = self.rng.uniform(0, conditions.delay)
                time.at(time.now + delay, time.arrived, receiver, sender, data)
            else:
                time.arrived(receiver, sender, data)
