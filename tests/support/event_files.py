"""What TensorBoard would read: the events in the record files of a folder."""

import struct
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event


def read(folder: Path) -> list[Event]:
    """The events in a folder's record files: length, its checksum, content, its checksum."""
    events = []
    for path in sorted(folder.glob("events.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            events.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return events


def values(folder: Path, tag: str) -> list[tuple[int, Any]]:
    return [(event.step, value) for event in read(folder) for value in event.summary.value if value.tag.startswith(tag)]
