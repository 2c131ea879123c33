"""A stand-in for Ray: nodes that can be taken away, and processes that are objects of this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import isgeneratorfunction
from types import SimpleNamespace
from typing import Any

from cnnviz_cli.files.output.sink import DiskQueue


class RayError(Exception):
    pass


class ActorUnavailableError(RayError):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Reference:
    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work


class Stream:
    """What a method that yields gives: one reference after another; a dead process's last one is its end."""

    def __init__(self, actor: Actor, items: Iterator[Any]) -> None:
        self._actor = actor
        self._items = items
        self._ended = False

    def __next__(self) -> Reference:
        if self._ended:
            raise StopIteration
        try:
            self._actor.check()
            item = next(self._items)
            self._actor.check()
        except StopIteration:
            raise
        except Exception as error:
            self._ended = True
            found = error if isinstance(error, RayError) else RayTaskError(error)
            return Reference(lambda: _raise(found))
        return Reference(lambda: item)


class Actor:
    def __init__(self, ray: Ray, made: Any, node: str) -> None:
        self._ray = ray
        self._made = made
        self.node = node
        self.gone = False

    def check(self) -> None:
        if self.gone or self.node not in self._ray.alive:
            raise RayError("The actor died.\n\tThe actor is dead because its node has died.")

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._made, name)

        def call(*arguments: Any) -> Reference:
            def work() -> Any:
                self.check()
                return method(*arguments)

            return Reference(work)

        def stream(*arguments: Any) -> Stream:
            if not isgeneratorfunction(method):
                raise ValueError("num_returns='streaming' is for generator functions")  # as Ray's own processes say
            return Stream(self, iter(method(*arguments)))

        return SimpleNamespace(remote=call, options=lambda **_how: SimpleNamespace(remote=stream))


class Ray:
    """The part of Ray that a run uses."""

    def __init__(self, nodes: dict[str, dict[str, float]]) -> None:
        """Of nodes with so many of each resource."""
        self.resources = nodes
        self.alive = set(nodes)
        self.actors: list[Actor] = []
        self.options: list[dict[str, Any]] = []
        self.exceptions = SimpleNamespace(
            RayError=RayError, RayTaskError=RayTaskError, ActorUnavailableError=ActorUnavailableError
        )
        strategy = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: (node, soft))
        self.util = SimpleNamespace(scheduling_strategies=strategy)

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": node, "NodeManagerHostname": f"host-{node}", "Alive": node in self.alive, "Resources": resources}
            for node, resources in self.resources.items()
        ]

    def remote(self, kind: Any) -> Any:
        def options(**how: Any) -> Any:
            def made(*arguments: Any) -> Actor:
                node, soft = how["scheduling_strategy"]
                assert not soft
                self.options.append(how)
                self.actors.append(Actor(self, kind(*arguments), node))
                return self.actors[-1]

            return SimpleNamespace(remote=made)

        return SimpleNamespace(options=options)

    def wait(self, awaited: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        assert timeout < 1
        return awaited[:1], awaited[1:]

    def get(self, reference: Reference) -> Any:
        return reference.work()

    def kill(self, actor: Actor) -> None:
        actor.gone = True
        queue = getattr(getattr(actor._made, "_worker", None), "_queue", None)
        if isinstance(queue, DiskQueue):  # the end of a real process closes its files
            queue.__exit__(None, None, None)


def _raise(error: Exception) -> Any:
    raise error
