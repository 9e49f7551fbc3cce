"""Speech from text: a thin wrapper of the espeak-ng library, driven by ctypes.

espeak-ng keeps state between utterances (flutter phase, noise generators, the last voice): the same call gives other
samples the second time. `Synthesiser.speak` therefore runs each utterance in a fork of a process that has only
initialised the library: every utterance starts from the same state, whatever was spoken before it and in whichever
worker. It also sets the two random generators: espeak-ng's own, which is seeded with the time of day, and C's `rand`.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import UserError

# Values of espeak-ng's speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
PARAMETER_RATE, PARAMETER_PITCH, PARAMETER_RANGE = 1, 3, 4
CHARS_UTF8, PHONEMES_IPA = 1, 0x02
RANDOM_SEED = 1

PCM = npt.NDArray[np.int16]
SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

INSTALL_HINT = (
    "the speech corpus needs espeak-ng, which is not installed: install the package espeakng-loader, or lora-tui with "
    "its extra, `lora-tui[corpus]` (in a checkout: pip install -e '.[corpus]'), and run the command again"
)


@dataclass(frozen=True)
class Prosody:
    """How a voice speaks: words a minute, and pitch and pitch range on espeak's 0–100 scale."""

    rate_wpm: int
    pitch: int
    pitch_range: int


class Synthesiser:
    """The espeak-ng library, initialised once in this process and never used to speak in it."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise UserError(INSTALL_HINT) from error
        self.data_path = Path(espeakng_loader.get_data_path())
        self._library: Any = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        self._chunks: list[bytes] = []
        self._callback = SYNTH_CALLBACK(self._receive)  # kept: the library holds only a bare pointer
        self.sample_rate_hz: int = self._library.espeak_Initialize(
            AUDIO_OUTPUT_SYNCHRONOUS, 0, str(self.data_path).encode(), INITIALIZE_DONT_EXIT
        )
        if self.sample_rate_hz <= 0:
            raise UserError(f"espeak-ng did not start with its data in {self.data_path}: reinstall espeakng-loader")
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p

    def _receive(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, count * ctypes.sizeof(ctypes.c_short)))
        return 0

    def variants(self) -> frozenset[str]:
        """The voice variants that the shipped data holds: the part of a voice's name after the "+"."""
        return frozenset(path.name for path in (self.data_path / "voices" / "!v").iterdir())

    def speak(self, text: str, voice: str, prosody: Prosody) -> PCM:
        """Samples, shape `(samples,)`, of `text` at `sample_rate_hz`; the same for the same arguments."""
        read_fd, write_fd = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(read_fd)
                with os.fdopen(write_fd, "wb") as pipe:
                    pipe.write(self._speak_here(text, voice, prosody))
                code = 0
            finally:
                os._exit(code)
        os.close(write_fd)
        with os.fdopen(read_fd, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(child, 0)
        if status != 0 or not data:
            raise UserError(
                f'espeak-ng gave no speech for the voice "{voice}": does it exist? The accents are in '
                f"{self.data_path / 'lang'}, the variants in {self.data_path / 'voices'}"
            )
        return np.frombuffer(data, dtype=np.int16)

    def _speak_here(self, text: str, voice: str, prosody: Prosody) -> bytes:
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(RANDOM_SEED))
        ctypes.CDLL(None).srand(RANDOM_SEED)
        self._set_voice(voice)
        self._library.espeak_SetParameter(PARAMETER_RATE, prosody.rate_wpm, 0)
        self._library.espeak_SetParameter(PARAMETER_PITCH, prosody.pitch, 0)
        self._library.espeak_SetParameter(PARAMETER_RANGE, prosody.pitch_range, 0)
        self._chunks.clear()
        raw = text.encode()
        size = ctypes.c_size_t(len(raw) + 1)
        if self._library.espeak_Synth(raw, size, 0, 1, 0, CHARS_UTF8, None, None) != 0:
            raise RuntimeError("espeak_Synth failed")
        return b"".join(self._chunks)

    def _set_voice(self, voice: str) -> None:
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise RuntimeError(f"no voice {voice}")

    def phonemes(self, text: str, accent: str) -> str:
        """The sounds of `text` in IPA, as espeak-ng would speak it: equal for homophones."""
        self._set_voice(accent)
        pointer = ctypes.c_char_p(text.encode())
        clauses = []
        while pointer.value:
            clauses.append(self._library.espeak_TextToPhonemes(ctypes.byref(pointer), CHARS_UTF8, PHONEMES_IPA) or b"")
        return b" ".join(clauses).decode()
