"""What each method costs on a network, or why it does not apply, without a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from cnnviz_cli.config.settings import settings_type
from cnnviz_cli.core.layers import Layers
from cnnviz_cli.core.method import InputSpec, Method
from cnnviz_cli.core.records import Cost
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.scores import CLASSES
from cnnviz_cli.engine import device as devices
from cnnviz_cli.engine.targets import TargetSelector
from cnnviz_cli.models.inspect.facts import STANDARD_FACTS, NetworkFacts
from cnnviz_cli.models.load.loaded_model import load_model
from cnnviz_cli.models.spec.weights import offline_weights
from cnnviz_cli.run.capability_check import CapabilityCheck, MethodRequest, select_methods
from cnnviz_cli.run.question import Question, question_for
from cnnviz_cli.run.session import describe_plans, method_context, plan_recipes, total_cost

COMMAND = "all"


@dataclass(frozen=True)
class Price:
    """One method on one network, with its default options, for one target.

    Attributes:
        cost: None where it does not apply.
        lines: its passes in words.
        refusal: why it does not apply; empty where it does.
    """

    cost: Cost | None
    lines: tuple[str, ...] = ()
    refusal: str = ""


def find_costs(
    model: str, methods: Sequence[Method], reporter: Reporter, *, allow_code: bool = False
) -> dict[str, Price]:
    """The price of each method, by name.

    Neither the cost nor whether a method applies depends on the weights, so random ones do.

    Raises:
        UsageError: there is no such model, or it is code that nobody allowed.
        ModelError: it cannot be had.
    """
    loaded = load_model(model, offline_weights(model), allow_code=allow_code, offline=True, reporter=reporter)
    # What is asked of it where nobody says anything.
    question, _ = question_for(settings_type(COMMAND).model_validate({}), loaded, devices.select_device("cpu"))
    return prices_of(loaded.net, loaded.layers, loaded.preprocessing.input_spec, methods, question, loaded.facts)


def prices_of(
    net: nn.Module,
    layers: Layers,
    frame: InputSpec,
    methods: Sequence[Method],
    question: Question | None = None,
    facts: NetworkFacts = STANDARD_FACTS,
) -> dict[str, Price]:
    """The same for a network with these layers and this input; by default one class of a classifier is explained."""
    device = devices.select_device("cpu")
    scope = method_context(net, layers, frame)
    if question is not None:
        scope = question.put_to(scope)
    targets, readout = (question.targets, question.describer.readout) if question else (TargetSelector((0,)), CLASSES)
    asked = [MethodRequest(method, method.options(), by_name=False) for method in methods]
    placed = devices.move_to_device(net, device, facts.memory_format)
    found = select_methods(asked, scope, CapabilityCheck(placed, device, frame, targets, "fp32", readout, facts))
    prices = {name: Price(None, refusal=error.what) for name, error in found.refused.items()}
    for method, (recipe, *_) in found.built:
        plans = plan_recipes([recipe])
        prices[method.name] = Price(total_cost(*plans), tuple(describe_plans(*plans)))
    return prices
