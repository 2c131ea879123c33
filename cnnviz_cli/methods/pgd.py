"""Projected gradient descent."""

from __future__ import annotations

from cnnviz_cli.methods.api import MethodContext, Recipe, method, option, value
from cnnviz_cli.methods.common.attacks import AttackOptions, attack_recipe

REACH = 2.5
"""How far all steps go together, as a multiple of eps: far enough to cross the ball and to walk along its border, as
Madry et al.'s code has it."""


@value
class Options(AttackOptions):
    steps: int = option(10, "Steps of each walk.", at_least=1)
    restarts: int = option(
        1, "How many walks begin at a random change within eps; with 0 one begins at the image itself.", at_least=0
    )


@method(
    "pgd",
    title="PGD",
    family="attack",
    options=Options,
    paper="Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018, "
    "https://arxiv.org/abs/1706.06083",
)
def pgd(options: Options, context: MethodContext) -> Recipe:
    """Many small steps along the gradient within a ball that is made as small as flips the label.

    x <- P(x + a sign(g)): P projects to changes of no more than eps and to pixel values from 0 to 1, and a is 2.5 eps
    divided by the number of steps. Under l2 a step is a g / |g|. A walk ends where the label is flipped; eps is halved
    between the last that was too small and the smallest that sufficed. With --restarts 0 it is the basic iterative
    method (Kurakin et al., 2016).
    """
    return attack_recipe(options, context, length=options.steps, step=REACH / options.steps, starts=options.restarts)
