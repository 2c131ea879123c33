"""methods: what there is, what each method shows, its paper, and what it costs on a network."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cnnviz_cli.cli import completion
from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.process import gc_disabled
from cnnviz_cli.cli.reporters import make_reporter
from cnnviz_cli.cli.text_layout import align_columns, list_definitions, terminal_width, wrap_paragraphs
from cnnviz_cli.cli.typer_base import AsJson, Debug
from cnnviz_cli.core import method as registry
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import APART, EVERY_FAMILY, SELECTOR, Family
from cnnviz_cli.core.layers import LayerInfo
from cnnviz_cli.core.method import InputSpec, LinearHead, Method, MethodContext, find_method
from cnnviz_cli.core.text import did_you_mean, escape_text

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from cnnviz_cli.config.names import SettingPath
    from cnnviz_cli.core.records import Cost
    from cnnviz_cli.run.dry_run import Price


def short_citation(method: Method) -> str:
    """``Selvaraju et al. 2017``: who and when, of the first of its papers."""
    first = method.paper.split(";")[0]
    years = re.findall(r"\b(?:19|20)[0-9]{2}\b", first.split("http")[0])
    return " ".join([first.split(",")[0].strip(), *years[-1:]])


def formula(method: Method) -> str:
    """Its docstring without the first line, which is the summary."""
    text = (inspect.getdoc(method.build) or "").replace("``", "`")
    return text.partition("\n")[2].strip()


def class_discriminative(method: Method) -> bool | None:
    """Whether the figure tells one class from another, with the method's default options.

    What reaches it through modified ReLU rules alone does not count: it depends on the class, and hardly shows it
    (Nie et al. 2018, https://arxiv.org/abs/1805.07039). None if the method does not apply to the simplest network.
    """
    try:
        recipe = method.build(method.options(), _simplest_network())
    except UsageError:
        return None
    return any(need.follows_target and need.rule == "exact" for need in recipe.needs)


class _OneLayer:
    info = LayerInfo("conv", "Conv2d", (8, 7, 7), 0, None)
    max_pooled = False

    def __iter__(self) -> Iterator[LayerInfo]:
        return iter((self.info,))

    def __getitem__(self, _name: str) -> LayerInfo:
        return self.info

    def resolve(self, _selectors: Sequence[str]) -> tuple[str, ...]:
        return (self.info.name,)


def _simplest_network() -> MethodContext:
    """One convolution, an average of its maps, one linear layer, and attention somewhere: no method needs more."""
    head = LinearHead("conv", cast("Any", SimpleNamespace(shape=(10, 8))))  # of the weight only the shape is read
    return MethodContext(
        _OneLayer(), 0, None, InputSpec((224, 224), (-1.0,) * 3, (1.0,) * 3), lambda: head, find_attention=lambda: 1
    )


_NARROWEST = 24
_YES_NO = {True: "yes", False: "no", None: "-"}
_NAMES = 34


def methods(
    name: Annotated[
        str | None, typer.Argument(help="One method, in full.", autocompletion=completion.complete_method_names)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="Also print what each costs on this network, or why it does not apply.",
            autocompletion=completion.complete_models,
        ),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            "--family",
            metavar="FAMILY",
            help=f"Only this family: {', '.join(EVERY_FAMILY)}.",
            autocompletion=completion.choice_completion(EVERY_FAMILY),
        ),
    ] = None,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Allow models that run code.")] = False,
    as_json: AsJson = False,
    _debug: Debug = False,
) -> None:
    """The methods of each family: what they show, their papers, and what they cost on a network.

    The cost needs the network but not its weights, so none are downloaded.
    """
    import cnnviz_cli.methods  # noqa: F401  (registers them)

    if family is not None and family not in EVERY_FAMILY:
        fix = did_you_mean(family, EVERY_FAMILY) or f"There are {', '.join(EVERY_FAMILY)}."
        raise UsageError(f"there is no family '{escape_text(family, 60)}'", where="--family", fix=fix)
    found = [
        one
        for group in EVERY_FAMILY.values()
        if family in (None, group.name)
        for one in sorted(registry.methods(group.name), key=lambda one: (one.name != group.default, one.name))
    ]
    if name is not None:
        apart = next((one.family for one in found if one.name == name and one.family in APART), None)
        found = [find_method(name, family or apart)]
    prices = _prices(model, found, allow_code=allow_code, quiet=as_json)
    if as_json:
        described = [_method_record(one, prices.get(one.name)) for one in found]
        print_json({"model": model, **(described[0] if name is not None else {"methods": described})})
    elif name is not None:
        _print_one(found[0], model, prices.get(name))
    else:
        _print_all(found, prices)


def _prices(model: str | None, wanted: Sequence[Method], *, allow_code: bool, quiet: bool) -> Mapping[str, Price]:
    if model is None:
        return {}
    from cnnviz_cli.models.spec.network import check_network

    check_network(model, None, allow_code=allow_code)
    reporter = make_reporter(quiet=quiet)
    reporter.say(f"{model}: loading")
    with gc_disabled():
        from cnnviz_cli.run.dry_run import find_costs  # imports torch, which takes seconds

    return find_costs(model, wanted, reporter, allow_code=allow_code)


def _method_record(method: Method, price: Price | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": method.name,
        "family": method.family,
        "default": EVERY_FAMILY[method.family].default == method.name,
        "summary": method.summary,
        "formula": formula(method),
        "paper": method.paper,
        "class_discriminative": class_discriminative(method),
        "options": list(_options(method)),
    }
    if price is not None:
        described |= {
            "applies": price.cost is not None,
            "reason": price.refusal or None,
            "cost": price.cost.model_dump() if price.cost else None,
            "plan": list(price.lines),
        }
    return described


def _options(method: Method) -> Iterator[dict[str, Any]]:
    from cnnviz_cli.cli.flags import choices_of
    from cnnviz_cli.config.names import environment_variable, flag_name

    for path, info in _option_fields(method):
        yield {
            "name": path[1],
            "flag": flag_name(path, method.family),
            "flag_of_all": None if method.family in APART else flag_name(path, "all"),
            "variable": environment_variable(path),
            "default": info.default,
            "choices": choices_of(info) or None,
            "help": info.description,
        }


def _option_fields(method: Method) -> list[tuple[SettingPath, FieldInfo]]:
    # Not at the top: the settings bring pydantic, which a table does without.
    from cnnviz_cli.config.names import field_at
    from cnnviz_cli.config.settings import settings_type

    paths = [(method.family, item.name) for item in fields(method.options)]
    return [(path, field_at(settings_type("config"), path)) for path in paths]


def _print_all(found: Sequence[Method], prices: Mapping[str, Price]) -> None:
    width = terminal_width()
    for family in EVERY_FAMILY.values():
        chosen = [method for method in found if method.family == family.name]
        if chosen:
            print(wrap_paragraphs(f"{family.name}: {family.summary}", width))
            print(wrap_paragraphs(f"cnnviz {family.name} --{SELECTOR} NAME", width))
            print("\n".join(_table(family, chosen, prices, width)) + "\n")
    notes = [
        "* is the default.",
        "class: whether the figure tells one class from another; modified ReLU rules leave little of that.",
    ]
    if prices:
        notes.append("fwd, bwd: passes for each batch; var: passes of altered inputs or activations for each image.")
    else:
        notes.append("What each costs on a network: cnnviz methods --model NAME.")
    notes.append("One method with its formula and its options: cnnviz methods NAME.")
    print("\n".join(wrap_paragraphs(note, width) for note in notes))


def _table(family: Family, chosen: Sequence[Method], prices: Mapping[str, Price], width: int) -> list[str]:
    head = ["method", "class", *(["fwd", "bwd", "var"] if prices else [])]
    facts = [
        [
            f"{method.name} *" if method.name == family.default else method.name,
            _YES_NO[class_discriminative(method)],
            *(_counts(prices[method.name].cost) if prices else []),
        ]
        for method in chosen
    ]
    columns = align_columns([head, *facts], right=frozenset(range(2, len(head))))
    indent = max(map(len, columns)) + 4
    beside = width - indent >= _NARROWEST
    lines = [f"  {columns[0]}".ljust(indent) + "what it shows" if beside else f"  {columns[0]}"]
    for method, column in zip(chosen, columns[1:], strict=True):
        words = [f"{method.summary} ({short_citation(method)})"]
        if prices and prices[method.name].refusal:
            words.append(f"does not apply: {escape_text(prices[method.name].refusal)}")
        if not beside:
            lines.append(f"  {column}")
        margin = " " * (indent if beside else 4)
        for position, text in enumerate(words):
            first = f"  {column}".ljust(indent) if beside and position == 0 else margin
            lines.append(wrap_paragraphs(text, width, margin, first=first))
    return lines


def _counts(cost: Cost | None) -> list[str]:
    return ["-"] * 3 if cost is None else [str(cost.forwards), str(cost.backwards), str(cost.variants)]


def _print_one(method: Method, model: str | None, price: Price | None) -> None:
    from cnnviz_cli.cli.flags import help_text, metavar
    from cnnviz_cli.config.names import flag_name

    width, family = terminal_width(), EVERY_FAMILY[method.family]
    print(wrap_paragraphs(f"{method.name}: {method.summary}", width) + "\n")
    for paragraph in filter(None, formula(method).split("\n\n")):
        lines = paragraph.splitlines()
        as_written = any(line.startswith((" ", "-", "*")) for line in lines)  # a list or a formula set apart
        print("\n".join(wrap_paragraphs(part, width) for part in (lines if as_written else [paragraph])) + "\n")
    chosen = ", which runs it by default" if family.default == method.name else f" --{SELECTOR} {method.name}"
    facts = [
        ("command", f"cnnviz {family.name}{chosen}"),
        ("paper", method.paper),
        ("class-discriminative", _YES_NO[class_discriminative(method)]),
    ]
    print("\n".join(wrap_paragraphs(f"{word}: {text}", width, "  ") for word, text in facts) + "\n")
    rows = [
        (f"{flag_name(path, family.name)} {metavar(path, info)}".rstrip(), help_text(path, info, family.name))
        for path, info in _option_fields(method)
    ]
    if rows:
        indent = min(max(len(name) for name, _ in rows), _NAMES) + 4
        print(f"options:\n{list_definitions(rows, width, indent)}")
        if family.name not in APART:
            print(wrap_paragraphs(f"Under 'cnnviz all', these flags begin with --{family.name}-.", width))
    else:
        print("no options")
    if price is not None:
        print(f"\non {model}:")
        said = price.lines or (f"does not apply: {price.refusal}",)
        print("\n".join(wrap_paragraphs(escape_text(line), width, "    ", first="  ") for line in said))
