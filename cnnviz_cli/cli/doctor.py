"""doctor: what of this machine a run would meet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from cnnviz_cli.cli import complete
from cnnviz_cli.cli.answers import print_json
from cnnviz_cli.cli.console import reporter
from cnnviz_cli.cli.help import Command
from cnnviz_cli.cli.shared import AllowCode, AsJson, Debug
from cnnviz_cli.cli.tables import aligned
from cnnviz_cli.core.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", cls=Command)(doctor)


def doctor(
    network: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="Network to look into: what cnnviz believes of it.",
            show_default=False,
            autocompletion=complete.models,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", metavar="FILE", help="YAML file of settings (CNNVIZ_CONFIG).", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="Network to time.", show_default=False, autocompletion=complete.models
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="SPEC", help="Its weights; random:0 takes no download.", show_default=False),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            "--arch", metavar="NAME", help="Its name, where --model is a file of weights.", show_default=False
        ),
    ] = None,
    allow_code: AllowCode = False,
    input_size: Annotated[
        str | None, typer.Option("--input-size", metavar="N|HxW", help="Its input, in pixels.", show_default=False)
    ] = None,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="NAME|INDEX", help="What of its output is explained.", show_default=False),
    ] = None,
    returns: Annotated[
        str | None,
        typer.Option("--returns", metavar="KIND", help="logits or probabilities.", show_default=False),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder that a run would write to.", show_default=False),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", metavar="", help="Never open a connection.", show_default=False)
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,  # noqa: ARG001  (its callback has done the work)
) -> int:
    """Look at versions, memory, devices, codecs and folders, and time the network. Nothing is left behind.

    Of a MODEL it says instead what cnnviz believes of it: its input, its output, its layers, what trial forwards have
    shown; and below each line the flags that correct it.

    What is not given is what a run would take: from the environment, the file, or the defaults. The exit code is that
    of the first failure: 4 without the model, 5 without a place to write, 6 without the device.
    """
    from cnnviz_cli.cli.preflight import check
    from cnnviz_cli.config.load import load_with_origins

    given: dict[str, Any] = {"model": model, "weights": weights, "device": device, "output": output}
    given |= {"model": network or model, "input_size": input_size, "head": head, "returns": returns}
    given |= {"arch": arch, "allow_code": allow_code or None, "offline": offline or None}
    flags: dict[tuple[str, ...], Any] = {(name,): value for name, value in given.items() if value is not None}
    loaded = load_with_origins("all", flags, config, os.environ)
    check(loaded)
    from cnnviz_cli.run.doctor import examine
    from cnnviz_cli.run.network_page import examine_network

    look = examine if network is None else examine_network
    found = list(look(loaded.settings, reporter(quiet=as_json)))
    if as_json:
        print_json({one.name: {"value": one.value, "state": one.state, "fix": one.fix} for one in found})
    else:
        rows = [[one.name, "" if one.state == "ok" else one.state, one.value] for one in found]
        for one, line in zip(found, aligned(rows), strict=True):
            print(line)
            if one.fix:
                print("\n".join(f"    {text}" for text in one.fix.splitlines()))
    return next((one.code for one in found if one.state == "failure"), ExitCode.OK)
