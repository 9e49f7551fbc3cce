"""Reads TensorBoard event files without the library that wrote them: framing, checksums, protobuf's wire format."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path


def _table() -> list[int]:
    table = []
    for byte in range(256):
        entry = byte
        for _ in range(8):
            entry = (entry >> 1) ^ (0x82F63B78 if entry & 1 else 0)
        table.append(entry)
    return table


_CRC32C = _table()


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and with a constant added, as TFRecord files have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def records(file: Path) -> Iterator[bytes]:
    """The records of an event file: length, checksum, data, checksum; both checksums are looked at."""
    data, position = file.read_bytes(), 0
    while position < len(data):
        length, crc = struct.unpack_from("<QI", data, position)
        assert crc == masked_crc(data[position : position + 8])
        record = data[position + 12 : position + 12 + length]
        assert struct.unpack_from("<I", data, position + 12 + length)[0] == masked_crc(record)
        yield record
        position += 16 + length


def fields(message: bytes) -> dict[int, list[int | bytes]]:
    """The fields of a protobuf message by number: varints as whole numbers, all else as bytes."""
    found: dict[int, list[int | bytes]] = defaultdict(list)
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            value, position, shift = value | (byte & 0x7F) << shift, position + 1, shift + 7
            if byte < 0x80:
                return value

    while position < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            found[key >> 3].append(varint())
            continue
        length = {1: 8, 5: 4}.get(kind) or varint()
        found[key >> 3].append(message[position : position + length])
        position += length
    return found


def scalars(file: Path) -> dict[tuple[str, int], float]:
    """(tag, step) → value, of `Event.summary.value[].simple_value` (event.proto 2, 5; summary.proto 1: 1, 2)."""
    found: dict[tuple[str, int], float] = {}
    for record in records(file):
        event = fields(record)
        [step] = event.get(2, [0])
        for summary in event.get(5, []):
            for value in fields(bytes(summary)).get(1, []):
                one = fields(bytes(value))
                if 2 in one:
                    found[bytes(one[1][0]).decode(), int(step)] = struct.unpack("<f", bytes(one[2][0]))[0]
    return found
