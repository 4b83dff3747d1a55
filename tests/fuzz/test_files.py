"""Files and lines that anybody may have edited: a router starts on them, or says in one line why not."""

import json
import random
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meshchat.adapters.storage.logline import decode_line, encode_line
from meshchat.adapters.storage.personalfile import decode_person, encode_person
from meshchat.chat.personal import Person
from meshchat.config import SAMPLE, SYSTEM, Config, parse
from meshchat.errors import ConfigError, Malformed, StoreError
from meshchat.identity.keys import verify_record
from meshchat.wire.records import Record
from tests.fuzz import search
from tests.sim.checkers import agree
from tests.sim.disk import SimFiles
from tests.sim.topology import cell
from tests.sim.world import World
from tests.unit.test_logline import MESH, records
from tests.unit.test_personalfile import PEOPLE

SETTINGS = [line[1:].split(" = ")[0] for line in SAMPLE.splitlines() if line[:1] == "#" and line[1:2] != " "]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 2**64)
    | st.floats(allow_nan=True)
    | st.text(max_size=20)
    | st.sampled_from(["", "unknown", "good", "AAAA", "00" * 16, "1", "2027-01-15T08:00:00.000Z", 2**53, -1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@search(300)
@given(records(), st.data())
def test_a_line_with_other_values_in_it_is_refused_or_the_same_record(
    record: Record, data: st.DataObject
) -> None:
    fields: dict[str, Any] = json.loads(encode_line(record, age=3, run=4))
    for key in data.draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3)):
        if data.draw(st.booleans()):
            fields[key] = data.draw(json_values)
        else:
            fields.pop(key, None)
    with suppress(Malformed):
        found = decode_line(MESH, json.dumps(fields).encode())
        assert found.record.signed == record.signed


@search(300)
@given(PEOPLE, st.data())
def test_what_is_remembered_of_a_person_is_passed_over_or_can_be_written_again(
    person: Person, data: st.DataObject
) -> None:
    fields: dict[str, Any] = json.loads(encode_person(person))
    for key in data.draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3)):
        inside = fields[key]
        if isinstance(inside, dict) and inside and data.draw(st.booleans()):
            inside[data.draw(st.sampled_from([*inside, "../x", "zz"]))] = data.draw(json_values)
        else:
            fields[key] = data.draw(json_values)
    with suppress(ValueError):
        found = decode_person(json.dumps(fields).encode())
        assert decode_person(encode_person(found)) == found


@search(300)
@given(st.dictionaries(st.sampled_from(SETTINGS), json_values, max_size=4))
def test_no_value_of_a_setting_breaks_the_reader(settings: dict[str, object]) -> None:
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    with suppress(ConfigError):
        assert isinstance(parse("\n".join(lines), {}, SYSTEM, "the file"), Config)


# --- A router's own files -----------------------------------------------------------------------------------


def vandalised(content: bytes, rng: random.Random) -> bytes:
    """A file after a bad flash, an editor, or somebody who means ill."""
    lines = content.split(b"\n")
    match rng.randrange(8):
        case 0:
            return content[: rng.randint(0, len(content))]
        case 1:
            return content + rng.randbytes(rng.randint(1, 300))
        case 2:
            return bytes(len(content))
        case 3:
            rng.shuffle(lines)
            return b"\n".join(lines)
        case 4:
            return b"\n".join([*lines, *lines])
        case 5:
            return content.replace(
                rng.choice([b"0", b"1", b'"', b"good", b"said"]), rng.choice([b"2", b"", b"}"])
            )
        case _:
            changed = bytearray(content or b"?")
            for _ in range(rng.randint(1, 10)):
                changed[rng.randrange(len(changed))] = rng.choice([0, 10, 34, 57, 125, rng.randrange(256)])
            return bytes(changed)


def all_names(files: SimFiles, folder: str = "") -> list[str]:
    prefix = f"{folder}/" if folder else ""
    below = [name for inner in files.folders(folder) for name in all_names(files, prefix + inner)]
    return [prefix + name for name in files.names(folder)] + below


@search(60)
@given(st.integers(0, 2**32 - 1))
def test_a_router_starts_on_vandalised_files_and_shows_only_what_was_signed(seed: int) -> None:
    world = World(seed, cell(2), 2)
    world.boot()
    said = {
        record.id for number in range(12) if (record := world.routers[number % 2].say("1", f"said {number}"))
    }
    world.run(5)
    victim = world.routers[0]
    victim.stop()
    for files in (victim.logs, victim.state):
        for name in all_names(files):
            if world.rng.random() < 0.4:
                files.replace(name, [vandalised(files.read(name), world.rng)])
    try:
        victim.boot()
    except (StoreError, ConfigError):  # a damaged key: said in one line, and mended by hand
        return
    shown = list(victim.mesh.messages("1"))
    assert {record.id for record in shown} <= said
    assert all(map(verify_record, shown))
    assert world.run(300, until=lambda: agree(world.routers)), "what was lost did not come back"
