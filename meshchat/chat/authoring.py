"""Making a record in a user's name and handing it to the mesh."""

from dataclasses import dataclass

from meshchat.chat.ports import Mesh
from meshchat.identity.keys import SigningKey, sign_record
from meshchat.wire.records import Grade, Kind, Record, Space


@dataclass(frozen=True)
class Submitted:
    """A record that is stored, and the mesh's line for its author, if any."""

    record: Record
    notice: str | None


def submit(
    mesh: Mesh,
    signer: SigningKey,
    author: str,
    space: Space,
    log: str,
    kind: Kind,
    body: bytes,
    *,
    once: bytes | None = None,
) -> Submitted:
    """Stamps, signs, stores and floods a record; `once` as for `Mesh.submit`. Raises `StoreError`."""
    record = sign(mesh, signer, author, space, log, kind, body)
    return Submitted(record, mesh.submit(record, once))


def sign(
    mesh: Mesh,
    signer: SigningKey,
    author: str,
    space: Space,
    log: str,
    kind: Kind,
    body: bytes,
    *,
    grade: Grade | None = None,
) -> Record:
    """A record that is stamped and signed, of the clock's grade unless another is given."""
    stamp, by_clock = mesh.stamp()
    return sign_record(
        signer,
        mesh=mesh.mesh,
        space=space,
        log=log,
        kind=kind,
        author=author,
        router=mesh.router,
        stamp=stamp,
        grade=by_clock if grade is None else grade,
        body=body,
    )
