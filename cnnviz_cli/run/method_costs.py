"""What each method costs on a network, or why it does not apply, without an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnviz_cli.config.settings import settings_type
from cnnviz_cli.core.method import Method
from cnnviz_cli.core.records import Cost
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine.device import select_device
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_model
from cnnviz_cli.models.spec.weights import offline_weights
from cnnviz_cli.run.capability_check import MethodRequest, select_methods
from cnnviz_cli.run.explain import describe_plans, plan_recipes, total_cost
from cnnviz_cli.run.session import Session

COMMAND = "all"


@dataclass(frozen=True)
class Price:
    """One method on one network, with its default options, for one target: `cost` is None where it does not apply."""

    cost: Cost | None
    lines: tuple[str, ...] = ()
    refusal: str = ""


def find_costs(
    model: str, methods: Sequence[Method], reporter: Reporter, *, allow_code: bool = False
) -> dict[str, Price]:
    """The price of each method, by name.

    Neither the cost nor whether a method applies depends on the weights, so random ones do.

    Raises:
        UsageError: there is no such model, or it is code that was not allowed.
        ModelError: it cannot be had.
    """
    loaded = load_model(model, offline_weights(model), allow_code=allow_code, offline=True, reporter=reporter)
    return prices_of(loaded, methods)


def prices_of(model: LoadedModel, methods: Sequence[Method]) -> dict[str, Price]:
    """The same for a model that is loaded, with the default settings."""
    settings = settings_type(COMMAND).model_validate({})
    session = Session.of(COMMAND, settings, model, select_device("cpu"), Reporter())
    found = select_methods([MethodRequest(method, method.options(), by_name=False) for method in methods], session)
    prices = {name: Price(None, refusal=error.what) for name, error in found.refused.items()}
    for method, (recipe, *_) in found.built:
        plans = plan_recipes([recipe])
        prices[method.name] = Price(total_cost(*plans), tuple(describe_plans(*plans)))
    return prices
