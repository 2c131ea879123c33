"""The settings that every command has, by what they are about. A new one is a field of one of these classes."""

from cnnviz_cli.config.groups.computing import ComputingFields
from cnnviz_cli.config.groups.drawing import DrawingFields
from cnnviz_cli.config.groups.flag import CLOSED, Flag
from cnnviz_cli.config.groups.network import NetworkFields
from cnnviz_cli.config.groups.outputs import OutputFields
from cnnviz_cli.config.groups.places import PlaceFields
from cnnviz_cli.config.groups.question import QuestionFields

__all__ = [
    "CLOSED",
    "ComputingFields",
    "DrawingFields",
    "Flag",
    "NetworkFields",
    "OutputFields",
    "PlaceFields",
    "QuestionFields",
]
