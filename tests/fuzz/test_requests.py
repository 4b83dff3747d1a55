"""The control socket under requests of every sort: one answer each, and refusals that people can read."""

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from meshchat.chat.answers import Work
from meshchat.chat.requests import OPERATIONS
from meshchat.constants import MAX_CONTROL_LINE
from tests.fuzz import search
from tests.fuzz.test_files import json_values
from tests.unit.chats import Chat
from tests.unit.test_control import running

texts = st.text(max_size=40) | st.sampled_from(["ann", "1", "secret", "-1h", "2027-01-15", "bad", "x" * 9000])


@st.composite
def requests(draw: st.DrawFn) -> dict[str, object]:
    """One that has the fields it needs, of the right type or not."""
    name = draw(st.sampled_from(sorted(OPERATIONS)))
    request: dict[str, object] = {"id": draw(st.integers(0, 3)), "do": name}
    for field in OPERATIONS[name].fields:
        request[field] = draw(texts | json_values | st.lists(texts, max_size=3))
    return request


@search(150)
@given(st.lists(requests(), max_size=8))
def test_no_request_breaks_the_application(asked: list[dict[str, object]]) -> None:
    chat = Chat()
    person = chat.person().enter("ann")
    for request in asked:
        chat.let_pass(1)
        outcome = chat.service.handle(person.session, request, chat.now)
        answer = outcome.finish(outcome.compute(), chat.now) if isinstance(outcome, Work) else outcome
        assert json.dumps([dict(answer.result), *map(dict, answer.items)])
        if not answer.result["ok"]:
            assert str(answer.result["error"]).isprintable()


lines = (
    requests().map(lambda request: json.dumps(request).encode())
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60)
    | st.sampled_from([b"[" * 10_000, b'{"id":' + b"9" * 10_000 + b"}", b'{"id":1,"id":2,"do":"rooms"}'])
).map(lambda line: line.replace(b"\n", b""))


@search(40)
@given(st.lists(lines, max_size=8))
def test_each_line_has_one_answer_and_the_connection_lives(sent: list[bytes]) -> None:
    async def talk(path: Path) -> None:
        async with running(path) as served:
            line = await served.line()
            for raw in sent:
                line.write(raw[: MAX_CONTROL_LINE - 1])
            line.write({"id": 777, "do": "whoami"})
            answers = 0
            while (said := await line.read()).get("id") != 777:
                answers += "ok" in said
            assert said["ok"]
            assert answers == sum(1 for raw in sent if raw.strip())

    with TemporaryDirectory() as place:
        asyncio.run(talk(Path(place) / "run" / "meshchat.sock"))
