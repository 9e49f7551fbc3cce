"""Decoding a whole manifest: in order, a little ahead, every bad clip named; or its clips from the cache."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from core.audio.cache import ClipStore, SampleCache, clips_key
from core.audio.samples import DURATION_TOLERANCE_S, Decoded, decode_clip
from core.audio.sound_file import Channels
from core.errors import AudioError
from core.manifests.hashing import HashCache, Progress, audio_hashes
from core.manifests.manifest import Manifest, Utterance
from core.manifests.parsing import SHOWN_PROBLEMS

WORKERS = 2
"""Threads: decoding and resampling let others run."""
AHEAD = 16
"""Clips decoded before they are asked for: bounds the memory, whatever the manifest's length."""


def cached_clips(
    manifest: Manifest, cache: SampleCache, hashes: HashCache, progress: Progress | None = None
) -> ClipStore:
    """The clips of `manifest`, decoded now unless a process did so before.

    `progress(done, total)` is called at every clip, and every 0.2 s while another process builds. It may
    raise, to stop. Raises AudioError naming manifest:line for up to 20 bad clips, and OSError, for a full disk.
    """
    total = len(manifest)
    report: Progress = progress or (lambda done, total: None)
    digests = audio_hashes(manifest, hashes, lambda done, files: report(0, total))
    return cache.clips(manifest_clips_key(manifest, digests), total, lambda: decoded_clips(manifest), report)


def manifest_clips_key(manifest: Manifest, digests: Sequence[str]) -> str:
    """The key of a manifest's clips in the cache. `digests` are of the audio files, in order."""
    pairs = zip(manifest.utterances, digests, strict=True)
    return clips_key([digest, u.offset_s, u.duration_s, u.channel] for u, digest in pairs)


def clip_notices(manifest: Manifest, clips: ClipStore) -> list[str]:
    """A sentence for each line whose file has an odd header or channels, or another duration than the line says."""
    pairs = zip(manifest.utterances, clips.file_s, strict=True)
    notices = (duration_notice(manifest, utterance, float(file_s)) for utterance, file_s in pairs)
    odd = [f"{manifest.where(manifest.utterances[i])}: {what}" for i, what in sorted(clips.oddities.items())]
    return odd + [notice for notice in notices if notice]


def decoded_clips(manifest: Manifest) -> Generator[Decoded, None, None]:
    """The clips of `manifest` in order. After the first bad one it only looks for more of them.

    Raises AudioError with up to 20 bad clips, one a line, each as `manifest:line: file: what: what to do`.
    """
    problems: list[str] = []
    pending: deque[tuple[Utterance, Future[Decoded]]] = deque()
    waiting = iter(manifest.utterances)
    pool = ThreadPoolExecutor(WORKERS)
    try:
        while len(problems) < SHOWN_PROBLEMS:
            while len(pending) < AHEAD and (following := next(waiting, None)) is not None:
                pending.append((following, pool.submit(_decode, following)))
            if not pending:
                break
            utterance, future = pending.popleft()
            try:
                clip = future.result()
            except AudioError as error:
                problems.append(f"{manifest.where(utterance)}: {error.of_a_line}")
                continue
            if not problems:
                yield clip
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if problems:
        more = [f"{manifest.path}: there may be more; the rest was not read"] if pending else []
        raise AudioError("\n".join(problems + more))


def is_other_duration(utterance: Utterance, file_s: float) -> bool:
    """Whether a line tells another duration than its file has, and is no slice: one from 0 s may be shorter."""
    if utterance.duration_s is None or utterance.offset_s:
        return False
    surplus_s = utterance.duration_s - file_s
    return surplus_s > DURATION_TOLERANCE_S or (not utterance.tells_offset and -surplus_s > DURATION_TOLERANCE_S)


def duration_notice(manifest: Manifest, utterance: Utterance, file_s: float) -> str | None:
    """A sentence when a line tells another duration than its file has."""
    given_s = utterance.duration_s
    if given_s is None or not is_other_duration(utterance, file_s):
        return None
    done = "only that much of it is used" if given_s < file_s else "all of it is used"
    return f"{manifest.where(utterance)}: duration is {given_s:g} s, but the file has {file_s:.3f} s: {done}"


def _decode(utterance: Utterance) -> Decoded:
    channels = Channels()
    clip = decode_clip(utterance.audio, utterance.offset_s, utterance.duration_s, channels.see, utterance.channel)
    found = channels.oddity()
    if found is None:
        return clip
    kind, what = found
    return replace(clip, oddity=(kind, what if clip.oddity is None else f"{clip.oddity[1]}; {what}"))
