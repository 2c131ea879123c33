"""doctor: what of this machine a run would meet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cnnviz_cli.cli import completion
from cnnviz_cli.cli.console import make_reporter
from cnnviz_cli.cli.flags import CONFIG, parameter, with_settings
from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.printing import align_columns
from cnnviz_cli.cli.typer_base import AsJson, Command, Debug
from cnnviz_cli.config.fields import NetworkFields, OutputFields
from cnnviz_cli.config.names import SettingPath
from cnnviz_cli.core.errors import ExitCode

_ASKED = {"device", "threads", "memory_format", "output"}
_SETTINGS = {*NetworkFields.model_fields, *OutputFields.model_fields, *_ASKED}
"""All that corrects a belief about a network, and where a run would compute and write."""

_HELP = """Look at versions, memory, devices, codecs and folders, and time the network. Nothing is left behind.

Of a MODEL it says instead what cnnviz believes of it: its input, its output, its layers, what trial forwards have
shown; and below each line the flags that correct it. Give them here to see what they change.

What is not given is what a run would take: from the environment, the file, or the defaults. The exit code is that
of the first failure: 4 without the model, 5 without a place to write, 6 without the device."""

_OTHERS = [
    parameter(
        "network",
        Annotated[
            str | None,
            typer.Argument(
                metavar="[MODEL]",
                help="Network to look into: what cnnviz believes of it.",
                show_default=False,
                autocompletion=completion.complete_models,
            ),
        ],
        None,
    ),
    CONFIG,
    parameter("as_json", AsJson, False),
    parameter("debug", Debug, False),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", cls=Command, help=_HELP)(with_settings("all", _doctor, _OTHERS, only=_SETTINGS))


def _doctor(flags: Mapping[SettingPath, Any], given: Mapping[str, Any]) -> int:
    from cnnviz_cli.cli.preflight import check_request
    from cnnviz_cli.config.load import load_with_origins

    network, as_json = given["network"], given["as_json"]
    asked = dict(flags)
    if network is not None:
        asked["model",] = network
    loaded = load_with_origins("all", asked, given["config"], os.environ)
    check_request(loaded)
    from cnnviz_cli.run.doctor import examine_machine, examine_network

    look = examine_machine if network is None else examine_network
    found = list(look(loaded.settings, make_reporter(quiet=as_json)))
    if as_json:
        print_json({one.name: {"value": one.value, "state": one.state, "fix": one.fix} for one in found})
    else:
        rows = [[one.name, "" if one.state == "ok" else one.state, one.value] for one in found]
        for one, line in zip(found, align_columns(rows), strict=True):
            print(line)
            if one.fix:
                print("\n".join(f"    {text}" for text in one.fix.splitlines()))
    return next((one.code for one in found if one.state == "failure"), ExitCode.OK)
