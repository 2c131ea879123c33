"""doctor: what of this machine a run would meet."""

from __future__ import annotations

from typing import Annotated

import typer

from cnnviz_cli.cli import completion
from cnnviz_cli.cli.flags import Config, Flags, with_settings
from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.reporters import make_reporter
from cnnviz_cli.cli.text_layout import align_columns
from cnnviz_cli.cli.typer_base import AsJson, Debug
from cnnviz_cli.config.fields import NetworkFields, OutputFields
from cnnviz_cli.core.errors import ExitCode

_ASKED = {"device", "threads", "memory_format", "output"}
_SETTINGS = {*NetworkFields.model_fields, *OutputFields.model_fields, *_ASKED}


def _examine(
    flags: Flags,
    *,
    network: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A network: show what cnnviz assumes about it.",
            autocompletion=completion.complete_models,
        ),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
    _debug: Debug = False,
) -> int:
    """Check versions, memory, devices, codecs and folders, and time the network. Leaves no files behind.

    With a MODEL it shows instead what cnnviz assumes about that network: its input, its output, its layers, what trial
    forwards have shown; and below each line the flags that correct it. Give them here to see what they change.

    Settings that are not given are those of a run: from the environment, the file, or the defaults. The exit code is
    that of the first failure: 4 for the model, 5 for the output folder, 6 for the device.
    """
    from cnnviz_cli.cli.preflight import load_request  # not before it is needed: --help does without

    loaded = load_request("all", flags, config, model=network)
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


doctor = with_settings("all", _examine, only=_SETTINGS)
