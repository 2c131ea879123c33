"""Reading ahead of the network, drawing behind it: from sources to answers, and from answers to records."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, TimeoutError  # noqa: A004  (what `result` raises)
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from typing import Any

import numpy as np
import torch

from cnnviz_cli.core.errors import ImageError, MemoryShortError
from cnnviz_cli.core.memory_format import laid_out
from cnnviz_cli.core.network_errors import NetworkError
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine.device import memory_errors_named
from cnnviz_cli.run.clock import Clock
from cnnviz_cli.run.drawing import Answer, Glance, Place
from cnnviz_cli.run.explain import explain
from cnnviz_cli.run.hand import Told
from cnnviz_cli.run.hands import Hand, Hands, done
from cnnviz_cli.run.prepare import Prepared
from cnnviz_cli.run.question import NOT_FINITE
from cnnviz_cli.run.reading import failed
from cnnviz_cli.run.scales import Scales

DRAWN_BEHIND = 2
"""Batches whose pictures may be waiting to be drawn."""


_Known = tuple[Glance, int | None]
"""What the network gets of a picture, and the class that is true of it if somebody knows."""


@dataclass(frozen=True)
class Answered:
    """A picture that is ready to be drawn, by who has read it."""

    place: Place
    hand: Hand
    answer: Answer


@dataclass(frozen=True)
class _Asked:
    """A picture that is being read.

    Attributes:
        wanted: False for one that only keeps the others of its batch company.
    """

    place: Place
    wanted: bool
    hand: Hand
    reading: Future[Told]


class Pipeline:
    """One run's pictures on their way.

    The network computes one batch after the other in the thread that iterates; meanwhile hands read the next ones and
    draw the last ones. Both queues are bounded, so that memory does not depend on the number of pictures.
    """

    def __init__(self, prepared: Prepared, hands: Hands, reporter: Reporter, clock: Clock) -> None:
        self._prepared = prepared
        self._hands = hands
        self._reporter = reporter
        self._clock = clock
        self._drawing: deque[Future[Told]] = deque()
        self._at_once = prepared.batch_size

    @property
    def smallest_batch(self) -> int:
        """How many images pass the network together now; fewer than were asked for where memory ran short."""
        return self._at_once

    def answers(self, places: Sequence[Place], due: Sequence[bool], *, keep: bool) -> Iterator[Answered | ImageRecord]:
        """For each source that is due, in order, its answer or the record of its failure.

        Args:
            keep: whether the answers are drawn soon, so that the photographs are to be kept.
        """
        batches = _batches(places, due, self._prepared.batch_size)
        reading: deque[list[_Asked]] = deque()
        while True:
            while len(reading) <= self._hands.ahead and (batch := next(batches, None)):
                reading.append([self._ask(place, wanted, keep) for place, wanted in batch])
            if not reading:
                return
            yield from self._answered(reading.popleft())

    def back(
        self, places: Iterable[Place], answers: Iterable[Answer | ImageRecord]
    ) -> Iterator[Answered | ImageRecord]:
        """What was computed before and is to be drawn now; photographs are read again."""
        for place, answer in zip(places, answers, strict=True):
            yield answer if isinstance(answer, ImageRecord) else Answered(place, self._hands.next(), answer)

    def records(self, entries: Iterable[Answered | ImageRecord], scales: Scales) -> Iterator[ImageRecord]:
        """The record of each entry, in order, its files in place."""
        most = DRAWN_BEHIND * self._prepared.batch_size if len(self._hands) else 0
        for entry in entries:
            if isinstance(entry, ImageRecord):
                self._drawing.append(done(Told(entry)))
            else:
                answer = replace(entry.answer, scales=scales.of_all(self._prepared.works, entry.answer.panels))
                self._drawing.append(entry.hand.draw(entry.place, answer))
            while self._drawing and (len(self._drawing) > most or self._drawing[0].done()):
                yield self._told(self._drawing.popleft())
        while self._drawing:
            yield self._told(self._drawing.popleft())

    def finished(self, seconds: float) -> Iterator[ImageRecord]:
        """After an interruption: what was being drawn and is there within so many seconds."""
        until = time.monotonic() + seconds
        while self._drawing:
            try:
                told = self._drawing.popleft().result(max(0.0, until - time.monotonic()))
            except (TimeoutError, CancelledError):
                return
            yield told.result

    def _ask(self, place: Place, wanted: bool, keep: bool) -> _Asked:
        hand = self._hands.next()
        return _Asked(place, wanted, hand, hand.read(place, keep=keep and wanted))

    def _told(self, future: Future[Told]) -> Any:
        told = future.result()
        for text, warn in told.said:
            (self._reporter.warn if warn else self._reporter.say)(text)
        self._clock.add(told.stage, told.seconds, told.core_seconds)
        self._hands.peaks[told.process] = told.peak or 0
        return told.result

    def _answered(self, batch: Sequence[_Asked]) -> Iterator[Answered | ImageRecord]:
        """`answers` for one batch."""
        with self._clock.timed("wait"):
            found = [self._told(asked.reading) for asked in batch]
        glances = [
            (glance, self._prepared.question.truth_of(asked.place[0]))
            for asked, glance in zip(batch, found, strict=True)
            if isinstance(glance, Glance)
        ]
        wanted = any(asked.wanted and isinstance(glance, Glance) for asked, glance in zip(batch, found, strict=True))
        if wanted:
            # Each image that is computed, though it may only keep the others company.
            named = [asked.place[0].name for asked in batch if asked.wanted]
            self._reporter.work(named, self._prepared.cost.variants * len(glances))
        computed = self._computed(glances if wanted else [])
        for asked, glance in zip(batch, found, strict=True):
            if not isinstance(glance, Glance):
                if asked.wanted:
                    yield glance
                continue
            if not wanted:
                continue
            answer = next(computed)
            if not asked.wanted:
                continue
            why = answer if isinstance(answer, str) else self._prepared.question.unanswerable(asked.place[0])
            if why:
                asked.hand.drop(asked.place)
                yield failed(asked.place[0], why, glance=glance)
            elif isinstance(answer, Answer):
                yield Answered(asked.place, asked.hand, answer)

    def _computed(self, glances: Sequence[_Known]) -> Iterator[Answer | str]:
        """What the network says of each picture, in order, or why there is nothing to say.

        Pictures of one size pass together. What does not fit into memory is halved, from then on.
        """
        start = 0
        while start < len(glances):
            part = _alike(glances[start : start + self._at_once])
            short = False
            try:
                answers: Iterator[Answer | str] = self._explained(part)
            except ImageError as error:
                answers = iter([error.what] * len(part))
            except NetworkError as error:
                # Of an image that its code does not take; the others of the batch are asked one by one.
                alone = (self._computed([one]) for one in part)
                answers = iter([error.what]) if len(part) == 1 else chain.from_iterable(alone)
            except MemoryShortError:
                if len(part) == 1:
                    raise
                short = True
            if short:
                # Outside of the handler, whose traceback would hold on to the tensors that did not fit.
                self._at_once = len(part) // 2
                self._reporter.warn(
                    f"out of memory with a batch of {len(part)}; going on with batches of {self._at_once}"
                )
                continue
            start += len(part)
            yield from answers

    def _explained(self, known: Sequence[_Known]) -> Iterator[Answer | str]:
        prepared = self._prepared
        glances, truths = [glance for glance, _ in known], [truth for _, truth in known]
        with self._clock.timed("compute"), memory_errors_named(len(glances)):
            batch = prepared.model.preprocessing.normalised([glance.pixels for glance in glances])
            batch = laid_out(batch.to(prepared.device), prepared.model.facts.memory_format)
            digests = [glance.sha256 for glance in glances]
            masks = [glance.mask for glance in glances if glance.mask is not None]
            drawn = torch.from_numpy(np.stack(masks)).to(prepared.device) if masks else None
            observation, panels = explain(prepared, batch, digests, self._reporter, truths, drawn)
            size = (batch.shape[2], batch.shape[3])
            told = prepared.question.describe(observation, size, truths, wanted=prepared.explains)
        return (
            self._refused(one)
            if isinstance(one, str)
            else Answer(glance.sha256, one, [[panel.pick(place) for panel in found] for _, found in panels])
            for place, (glance, one) in enumerate(zip(glances, told, strict=True))
        )

    def _refused(self, why: str) -> str:
        return f"{why} in {self._prepared.settings.precision}; check the weights" if why == NOT_FINITE else why


def _batches(places: Sequence[Place], due: Sequence[bool], size: int) -> Iterator[list[tuple[Place, bool]]]:
    """The batches in which something is due.

    They are cut from the list of sources, not of pictures that are to do or could be read: neither what an earlier run
    has done nor a broken file may move others into another batch, where the last bits of their sums may differ.
    """
    for start in range(0, len(places), size):
        stop = min(start + size, len(places))
        if any(due[start:stop]):
            yield [(places[at], bool(due[at])) for at in range(start, stop)]


def _alike(glances: Sequence[_Known]) -> Sequence[_Known]:
    """The first of them, as far as they have one size."""
    size = glances[0][0].pixels.shape
    return list(takewhile(lambda known: known[0].pixels.shape == size, glances))
