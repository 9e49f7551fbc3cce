"""Headers of WAV, AU, AIFF and MP3 files that do not say how long the sound is, mended on the way to the decoder.

A file that was written through a pipe has a length of 0, 0xFFFFFFFF or about 2^31 in its header, a recorder that lost
its power leaves the length of its first seconds, and an MP3 of changing bitrates without a Xing frame has none at all.
Decoders then hear nothing, a part, or believe the header. Here the bytes that are there decide. Files whose headers are
right are opened as they are.
"""

from __future__ import annotations

import io
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from core.system.files import open_regular

_HEAD = 1 << 16
"""What is read of a file to find its sound: chunks before the sound that are larger are passed by."""
_CHUNKS = 1000
_PIPES = (range(0x7FFF0000, 0x80010000), range(0xFFFF0000, 0x1_0000_0000))
"""Lengths that sox, arecord and ffmpeg write when they cannot know them."""
_FOUR = (
    b"LISTid3 ID3 bextcue smplinstfactPEAKJUNKjunkPAD FLLRiXMLaxml_PMXacidstrcDISPplstadtlcartlevlumidchnadbmdafspMD5 "
)
_IDS = frozenset(_FOUR[place : place + 4] for place in range(0, len(_FOUR), 4))
"""First words of chunks that follow the sound."""
_TAG_WITHIN = 64
"""Bytes of the first frame of an MP3 within which the number of frames is told."""
_LEAST_S = 0.1
"""Less behind the sound than this is padding."""


Oddity = tuple[str, str]
"""(kind of the data audit, detail)."""


@dataclass(frozen=True, slots=True)
class Mended:
    """What has to be put in the place of a file's bytes, and what is odd about its header."""

    oddity: Oddity | None = None
    patches: tuple[tuple[int, bytes], ...] = ()
    """(offset, bytes) in the file."""
    inserted: tuple[int, bytes] = (0, b"")
    """(offset, bytes) that are not in the file at all."""

    @property
    def as_it_is(self) -> bool:
        """Whether the file can be opened by its name."""
        return not self.patches and not self.inserted[1]


AS_IT_IS = Mended()


def mended(path: Path) -> Mended:
    """What is odd about the header of `path`, and how a decoder hears all of it. Raises OSError."""
    with open_regular(path, follow=True) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
            return _length(file, size, _sound_chunk(file, large=head[:4] != b"RIFF"))
        if head[:4] in _AU_ORDER:
            return _length(file, size, _au_sound(file, _AU_ORDER[head[:4]]))
        if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
            return _length(file, size, _aiff_sound(file))
        if head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0):
            return _mp3(file, size)
    return AS_IT_IS


class MendedFile(io.RawIOBase):
    """A file with some of its bytes replaced, and some put in between, as libsndfile is to see it."""

    def __init__(self, path: Path, change: Mended) -> None:
        super().__init__()
        self._file = open_regular(path, follow=True)
        self._change = change
        self._size = os.fstat(self._file.fileno()).st_size + len(change.inserted[1])
        self._at = 0

    def readable(self) -> bool:
        """Always true: the file is opened to be read."""
        return True

    def seekable(self) -> bool:
        """Always true: decoders seek in it."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """As for any file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: object, /) -> int:
        """As for any file."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self._bytes(self._at, min(len(view), max(0, self._size - self._at)))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file that it reads."""
        self._file.close()
        super().close()

    def _bytes(self, start: int, count: int) -> bytes:
        place, inserted = self._change.inserted
        parts = []
        if start < place or not inserted:
            parts.append(self._own(start, min(count, place - start) if inserted else count))
        if inserted and start + count > place:
            within = max(0, start - place)
            parts.append(inserted[within : max(0, start + count - place)])
            after = place + len(inserted)
            if start + count > after:
                first = max(start, after)
                parts.append(self._own(first - len(inserted), start + count - first))
        return b"".join(parts)

    def _own(self, start: int, count: int) -> bytes:
        self._file.seek(start)
        data = bytearray(self._file.read(count))
        for offset, patch in self._change.patches:
            for index, value in enumerate(patch):
                if 0 <= offset + index - start < len(data):
                    data[offset + index - start] = value
        return bytes(data)


class _Chunk(NamedTuple):
    """The part of a file that holds its sound."""

    start: int
    declared: int
    """Bytes, by the header."""
    rate: int
    """Bytes a second."""
    place: int
    """Where its length stands."""
    wide: bool = False
    """Whether that has 64 bits."""
    order: Literal["little", "big"] = "little"
    also: int = 0
    """Bytes that the length counts besides."""
    patched: bool = False
    """Whether libsndfile must be told the length that is true, for one that is too large too."""

    def patch(self, there: int) -> tuple[int, bytes]:
        """The length that is true."""
        length = there + self.also
        if self.wide:
            return self.place, length.to_bytes(8, self.order)
        return self.place, min(length, 0xFFFFFFFE).to_bytes(4, self.order)


def _sound_chunk(file: io.BufferedReader, *, large: bool) -> _Chunk | None:
    """Files of more than 4 GiB (`large`) have their lengths in a chunk `ds64`."""
    place, rate, ds64, declared64 = 12, 0, 0, 0
    for _ in range(_CHUNKS):
        file.seek(place)
        head = file.read(8)
        name, declared = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data" and rate:
            wide = ds64 > 0 and declared == 0xFFFFFFFF
            return _Chunk(place + 8, declared64 if wide else declared, rate, ds64 + 8 if wide else place + 4, wide)
        if len(head) < 8 or name == b"data":
            return None
        if name == b"fmt ":
            rate = int.from_bytes(file.read(12)[8:], "little")
        if name == b"ds64" and large:
            ds64, declared64 = place + 8, int.from_bytes(file.read(16)[8:], "little")
        place += 8 + declared + declared % 2
    return None


_AU_ORDER: dict[bytes, Literal["little", "big"]] = {b".snd": "big", b"dns.": "little"}
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
"""Of a sample, by its encoding."""
_AIFC_PLAIN = (
    b"NONE",
    b"sowt",
    b"twos",
    b"raw ",
    b"fl32",
    b"FL32",
    b"fl64",
    b"FL64",
    b"ulaw",
    b"ULAW",
    b"alaw",
    b"ALAW",
)
"""Compressions whose samples have the size that COMM says, or one byte (`_law`)."""


def _au_sound(file: io.BufferedReader, order: Literal["little", "big"]) -> _Chunk | None:
    file.seek(4)
    numbers = file.read(20)
    if len(numbers) < 20:
        return None
    start, declared, encoding, rate, channels = (int.from_bytes(numbers[n : n + 4], order) for n in range(0, 20, 4))
    a_second = _AU_BYTES.get(encoding, 0) * rate * channels
    return _Chunk(start, declared, a_second, 8, order=order, patched=True) if a_second else None


def _aiff_sound(file: io.BufferedReader) -> _Chunk | None:
    place, rate = 12, 0
    for _ in range(_CHUNKS):
        file.seek(place)
        head = file.read(8)
        name, declared = head[:4], int.from_bytes(head[4:], "big")
        if len(head) < 8:
            return None
        if name == b"SSND" and rate:
            skipped = int.from_bytes(file.read(4), "big")
            return _Chunk(
                place + 16 + skipped, max(0, declared - 8 - skipped), rate, place + 4, order="big", also=8 + skipped
            )
        if name == b"COMM":
            rate = _aiff_bytes_a_second(file.read(min(declared, 22)))
        place += 8 + declared + declared % 2
    return None


def _aiff_bytes_a_second(common: bytes) -> int:
    """By the chunk COMM; 0 for compressed sound, and for what no recording has."""
    compression = common[18:22]
    if len(common) < 18 or (compression and compression not in _AIFC_PLAIN):
        return 0
    exponent, mantissa = int.from_bytes(common[8:10], "big") - 16383 - 63, int.from_bytes(common[10:18], "big")
    rate_hz = mantissa >> -exponent if -64 < exponent <= 0 else 0
    sample = 1 if compression.lower() in (b"ulaw", b"alaw") else (int.from_bytes(common[6:8], "big") + 7) // 8
    return int.from_bytes(common[:2], "big") * sample * rate_hz


def _length(file: io.BufferedReader, size: int, chunk: _Chunk | None) -> Mended:
    """What is odd about the length that the header tells, and how all of the sound is heard."""
    if chunk is None or size <= chunk.start:
        return AS_IT_IS
    there = size - chunk.start
    told = f"{chunk.declared / chunk.rate:.2f} s"
    heard = f"all {there / chunk.rate:.2f} s that are there are heard"
    if chunk.declared > there + 1:
        # libsndfile reads what is there by itself, unless the length is one of 64 bits.
        patches = (chunk.patch(there),) if chunk.wide or chunk.patched else ()
        if any(chunk.declared in one for one in _PIPES) or chunk.declared >= 1 << 62:
            what = "its header does not say how long it is, as of a file that came through a pipe"
            return Mended(("odd_header", f"{what}: {heard}"), patches)
        return Mended(("cut_off", f"ends at {there / chunk.rate:.2f} s, but its header says {told}"), patches)
    end = chunk.start + chunk.declared
    goes_on = there - chunk.declared >= _LEAST_S * chunk.rate
    if (
        not goes_on
        or _are_chunks(file, end + chunk.declared % 2, size, chunk.order)
        or not _holds_sound(file, end, size)
    ):
        return AS_IT_IS
    what = told if chunk.declared else "that there is no sound"
    return Mended(("odd_header", f"its header says {what}, but sound goes on: {heard}"), (chunk.patch(there),))


def _are_chunks(file: io.BufferedReader, place: int, size: int, order: Literal["little", "big"]) -> bool:
    """Whether other chunks follow the sound, or an old MP3 tag."""
    file.seek(place)
    head = file.read(8)
    if head[:4] in _IDS or head[:3] in (b"TAG", b"ID3"):
        return True
    for _ in range(_CHUNKS):
        if place >= size - 1:
            return place <= size + 1
        file.seek(place)
        head = file.read(8)
        if len(head) < 8 or not all(0x20 <= byte < 0x7F for byte in head[:4]):
            return False
        declared = int.from_bytes(head[4:], order)
        place += 8 + declared + declared % 2
    return False


def _holds_sound(file: io.BufferedReader, place: int, size: int) -> bool:
    """Whether anything but padding is there."""
    file.seek(place)
    while place < size and (block := file.read(_HEAD)):
        if block.count(block[:1]) < len(block):
            return True
        place += len(block)
    return False


class _Frame(NamedTuple):
    """What the first four bytes of an MPEG audio frame of layer III say."""

    version: int
    """3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5."""
    kbit: int
    rate_hz: int
    mono: bool
    length: int
    """Bytes."""


_KBIT: dict[bool, Sequence[int]] = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def _frame(head: bytes) -> _Frame | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, bitrate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or rate == 3 or not 0 < bitrate < 15:
        return None
    kbit, rate_hz = _KBIT[version == 3][bitrate], _RATES_HZ[version][rate]
    length = (144 if version == 3 else 72) * kbit * 1000 // rate_hz + (head[2] >> 1 & 1)
    return _Frame(version, kbit, rate_hz, head[3] >> 6 == 3, length)


def _mp3(file: io.BufferedReader, size: int) -> Mended:
    """An MP3 whose frames have several bitrates and that has no frame with their number gets one."""
    file.seek(0)
    head = file.read(10)
    place = 0
    if head[:3] == b"ID3" and len(head) == 10:
        place = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(place)
    beginning = file.read(_TAG_WITHIN)
    first = _frame(beginning[:4])
    if first is None or any(tag in beginning for tag in (b"Xing", b"Info", b"VBRI")):
        return AS_IT_IS
    count, at, kbits = 0, place, set[int]()
    with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
        while 0 <= at < size - 4:
            frame = _frame(data[at : at + 4])
            if frame is None or frame.rate_hz != first.rate_hz:
                at = data.find(b"\xff", at + 1)
                continue
            count += 1
            kbits.add(frame.kbit)
            at += frame.length
    if len(kbits) < 2:
        return AS_IT_IS
    seconds = count * (1152 if first.version == 3 else 576) / first.rate_hz
    told = f"an MP3 of changing bitrates that does not say how long it is: all {seconds:.2f} s that are there are heard"
    return Mended(("odd_header", told), inserted=(place, _xing(first, beginning[:4], count)))


def _side(frame: _Frame) -> int:
    """Where the tag of a frame begins that holds no sound."""
    return 4 + ((17 if frame.mono else 32) if frame.version == 3 else (9 if frame.mono else 17))


def _xing(first: _Frame, head: bytes, count: int) -> bytes:
    """A frame like the first one, without sound, that says how many follow."""
    kbit = 14 if first.version != 3 else 9
    written = bytes((head[0], head[1] | 1, kbit << 4 | head[2] & 0x0C, head[3]))
    length = (144 if first.version == 3 else 72) * 1000 * _KBIT[first.version == 3][kbit] // first.rate_hz
    tag = b"\0" * (_side(first) - 4) + b"Xing" + struct.pack(">II", 1, count)
    return (written + tag).ljust(length, b"\0")
