"""A network that code of the user's makes: ``module:factory``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from cnnviz_cli.core.errors import CnnvizError, ModelError, UsageError
from cnnviz_cli.core.network import describe_error
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.models.load.built_model import (
    BuiltModel,
    check_materialized,
    check_not_meta,
    fit_file,
    imagenet_preprocessing,
)
from cnnviz_cli.models.load.checkpoint import sha256_of_state
from cnnviz_cli.models.load.state_dict import build_with_seed, fit_state_dict
from cnnviz_cli.models.spec.modules import installed_only
from cnnviz_cli.models.spec.network import FactoryModel
from cnnviz_cli.models.spec.weights import OwnWeights, WeightsFile

Labels = tuple[str, ...] | None


def build(factory: FactoryModel, spec: WeightsFile | OwnWeights, *, key: str | None, reporter: Reporter) -> BuiltModel:
    """The network that the factory makes, with its own weights or a file's.

    The factory is a function or a class, called without arguments, or a network. It returns a network, or a pair of it
    and the classes' names. Where a file was trained for another number of classes it is called again with that as
    ``num_classes``, if it takes that. Its random numbers start from the seed 0.

    Raises:
        UsageError: there is no such module or attribute, or what it returns is no network.
        ModelError: the code failed, or the weights were refused.
    """
    name = f"{factory.module}:{factory.attribute}"
    with installed_only(), redirect_stdout(sys.stderr):  # standard output is for results
        # A module may make its network when it is imported.
        made = build_with_seed(partial(_import_factory, factory, name), 0)
        net, labels = _call_factory(made, name)
        if isinstance(spec, OwnWeights):
            check_materialized(net)
            return BuiltModel(net, "its own", sha256_of_state(net), labels, imagenet_preprocessing())
        resize = (lambda count: _call_factory(made, name, num_classes=count)[0]) if _takes_classes(made) else None
        source = spec.path.name
        fitted, digest = fit_file(
            spec.path, key, lambda state: fit_state_dict(net, state, source, resize=resize), reporter
        )
    return BuiltModel(fitted.net, spec.path.name, digest, None if fitted.classes else labels, imagenet_preprocessing())


def _import_factory(factory: FactoryModel, name: str) -> Any:
    top = factory.module.partition(".")[0]
    try:
        if top not in sys.modules and find_spec(top) is None:
            raise _no_module_error(factory, top)
        module = import_module(factory.module)
    except CnnvizError:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not f"{factory.module}.".startswith(f"{error.name}."):
            raise _factory_error(name, error) from error
        raise UsageError(f"there is no module '{escape_text(error.name, 100)}'", where="--model") from error
    except (Exception, SystemExit) as error:
        raise _factory_error(name, error) from error
    if not hasattr(module, factory.attribute):
        fix = did_you_mean(factory.attribute, [name for name in vars(module) if not name.startswith("_")])
        what = f"the module '{factory.module}' has no '{escape_text(factory.attribute, 60)}'"
        raise UsageError(what, where="--model", fix=fix)
    return getattr(module, factory.attribute)


def _no_module_error(factory: FactoryModel, top: str) -> UsageError:
    what = f"there is no module '{escape_text(factory.module, 100)}'"
    if Path(f"{top}.py").is_file() or Path(top).is_dir():
        fix = "The current folder has one, but code is not taken from there unless you say so: PYTHONPATH=. cnnviz ..."
    else:
        fix = "Install its package, or name the folder that it is in: PYTHONPATH=DIR cnnviz ..."
    return UsageError(what, where="--model", fix=fix)


def _call_factory(made: Any, name: str, **settings: int) -> tuple[nn.Module, Labels]:
    if isinstance(made, nn.Module):
        return _unwrap(made), None
    if not callable(made):
        raise UsageError(f"'{name}' is neither a network nor a function: {type(made).__name__}", where="--model")
    try:
        result: Any = build_with_seed(partial(made, **settings), 0)
    except (Exception, SystemExit) as error:
        raise _factory_error(name, error) from error
    labels: Any = None
    if isinstance(result, tuple) and len(result) == 2:
        result, labels = result
    if not isinstance(result, nn.Module):
        what = f"'{name}' returned {type(result).__name__}, no torch.nn.Module"
        raise UsageError(what, where="--model", fix="Return a network, or a network and the names of its classes.")
    return _unwrap(result), _check_names(labels, name)


def _check_names(labels: Any, name: str) -> Labels:
    if labels is None:
        return None
    if not isinstance(labels, Sequence) or isinstance(labels, str) or not all(isinstance(one, str) for one in labels):
        raise UsageError(f"the second thing that '{name}' returned is no list of the classes' names", where="--model")
    return tuple(labels)


def _unwrap(net: nn.Module) -> nn.Module:
    """The network out of what torch.compile and DataParallel wrap around it, in single precision on the CPU."""
    inner: Any = net
    while inner is not None:
        net = inner
        inner = net.module if isinstance(net, nn.DataParallel) else getattr(net, "_orig_mod", None)
    check_not_meta(net)
    return net.float().cpu()


def _takes_classes(made: Any) -> bool:
    try:
        return not isinstance(made, nn.Module) and "num_classes" in inspect.signature(made).parameters
    except (TypeError, ValueError):
        return False


def _factory_error(name: str, error: BaseException) -> ModelError:
    what, excerpt = describe_error(error)
    return ModelError(f"'{name}' failed: {what}", where="--model", excerpt=excerpt)
