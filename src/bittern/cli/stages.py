# SPDX-License-Identifier: Apache-2.0
"""`--stage` and `--stages`: training in stages, of the user's or of a paper."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bittern.cli import lists
from bittern.cli.errors import Misused, unknown
from bittern.cli.losses import compares

if TYPE_CHECKING:
    from torch import nn

    from bittern.cli.run_folder import Options
    from bittern.train import AddedLoss, Recipe, Stage

STAGE_HELP = (
    "A stage of the training, NAME:OPTION=VALUE,...; given once for each, in their order. operands=tanh, real_weights "
    "or low_bit; start=, teacher= an earlier stage (teacher=given: --teacher); losses=NAME+NAME or none of --loss "
    "[default: all]; epochs, learning_rate, weight_decay, latent_weight_decay. [default: one training]"
)
OF_RECIPE = ("epochs", "learning_rate", "weight_decay", "latent_weight_decay")
OF_STAGE = ("operands", "start", "teacher")
LOSSES = "losses"
NONE = "none"
BLOCK = re.compile(r"blocks\.\d+")
"""Modules whose outputs are hidden states."""
GIVEN = "given"
DECIDED = ("learning_rate", "optimizer", "weight_decay", "latent_weight_decay", "augment", "two_stage")
"""Options that a paper's recipe, or its stages, decide."""
STAGES_HELP = (
    "Train in a paper's stages: RealToBinary, BiPer, or BiT with --model vit_small and --teacher; "
    "--epochs scales each. [default: none]"
)


def of_user(
    texts: Sequence[str], recipe: Recipe, losses: Sequence[AddedLoss], *, has_teacher: bool
) -> tuple[Stage, ...]:
    """The stages of these texts, each as `recipe` but for what it says. Raises: Misused."""
    found = tuple(_stage(text, recipe, losses) for text in texts)
    wants = [stage.name for stage in found if stage.teacher == GIVEN]
    if wants and not has_teacher:
        raise Misused(f"--stage {wants[0]}: teacher=given is --teacher, which is missing; give --teacher FOLDER")
    if has_teacher and not wants:
        raise Misused("--teacher: no --stage has teacher=given, so it would teach none; say which has")
    return found


def _stage(text: str, recipe: Recipe, losses: Sequence[AddedLoss]) -> Stage:
    from bittern.train import Distillation, Stage

    name, colon, listed = text.partition(":")
    known = (*OF_STAGE, LOSSES, *OF_RECIPE)
    given = lists.pairs(text, listed, known, "e.g. operands=tanh", (*OF_STAGE, LOSSES)) if colon else {}
    chosen = _chosen(name, given.pop(LOSSES, None), losses)
    taught = "teacher" in given
    for loss in chosen:
        if compares(loss) and not taught:
            raise Misused(
                f"--stage {name}: --loss {loss.name} compares with a teacher, and this stage has none; give it "
                f"teacher=given or an earlier stage's name, or losses={NONE}"
            )
    distillation = Distillation() if taught and not any(map(compares, chosen)) else None
    changes = {key: given.pop(key) for key in OF_RECIPE if key in given}
    try:
        own = dataclasses.replace(recipe, losses=chosen, distillation=distillation, **changes)
        return Stage(name=name, recipe=own, **given)
    except (TypeError, ValueError) as error:
        raise Misused(f"--stage {text}: {error}") from error


def _chosen(stage: str, text: str | None, losses: Sequence[AddedLoss]) -> tuple[AddedLoss, ...]:
    if text is None:
        return tuple(losses)
    known = {loss.name: loss for loss in losses}
    wanted = [] if text == NONE else text.split("+")
    for name in wanted:
        if name not in known:
            raise Misused(f"--stage {stage}: losses={name} is none of --loss, which are {', '.join(known) or NONE}")
    return tuple(known[name] for name in wanted)


def _real_to_binary(options: Options) -> tuple[Stage, ...]:
    """Its teacher is the same network, with real weights or of bits."""
    from bittern.recipes import TRANSFER_POINTS, real_to_binary_stages

    points = None if options.teacher is None else TRANSFER_POINTS
    given = {"epochs": options.epochs, "batch_size": options.batch_size, "seed": options.seed}
    return real_to_binary_stages(**given, points=TRANSFER_POINTS, teacher_points=points)


def _bit(options: Options) -> tuple[Stage, ...]:
    """Its teacher is the same network with real weights. Raises: Misused."""
    from bittern.cli import names
    from bittern.recipes import bit_stages

    if options.teacher is None:
        raise Misused("--stages BiT learns from a teacher alone; give --teacher FOLDER, a run of --method float")
    # its blocks have the names that they have for images of any size
    network = names.network(options.model)(num_classes=2, in_channels=1, input_size=32)
    blocks = [name for name, _ in network.named_modules() if BLOCK.fullmatch(name)]
    if not blocks:
        raise Misused(f"--stages BiT matches what leaves blocks, and {options.model} has none; take --model vit_small")
    return bit_stages(blocks, epochs=options.epochs, batch_size=options.batch_size, seed=options.seed)


def _biper(options: Options) -> tuple[Stage, ...]:
    """Raises: Misused for a teacher."""
    from bittern.recipes import biper_stages

    if options.teacher is not None:
        raise Misused("--teacher: BiPer's stages have none; leave one of them out")
    return biper_stages(epochs=options.epochs, batch_size=options.batch_size, seed=options.seed)


PAPERS: Mapping[str, Callable[[Options], tuple[Stage, ...]]] = {
    "RealToBinary": _real_to_binary,
    "BiT": _bit,
    "BiPer": _biper,
}
"""By the name of the method."""


def paper_name(text: str) -> str:
    """The proper spelling. Raises: Misused."""
    found = {name.lower(): name for name in PAPERS}
    if text.lower() not in found:
        raise unknown("stages", text, PAPERS)
    return found[text.lower()]


def with_paper(chosen: dict[str, Any]) -> dict[str, Any]:
    """What was chosen, filled up from a paper's stages. Raises: Misused for what they decide."""
    from bittern import recipes
    from bittern.cli import names

    name = paper_name(chosen["stages"])
    for option in (*DECIDED, "recipe", "loss", "stage"):
        if option in chosen:
            raise Misused(f"--{option.replace('_', '-')} is decided by --stages {name}; leave one of them out")
    record = recipes.for_method(names.method_class(name))
    filled = {"epochs": record.epochs, "batch_size": record.batch_size, "method": name, "augment": record.crop_and_flip}
    return {**filled, **chosen, "stages": name}


def of_paper(options: Options) -> tuple[Stage, ...]:
    """The stages of the paper that the options name."""
    assert options.stages is not None
    return PAPERS[options.stages](options)


def begin(paper: str, network: nn.Module, teacher: nn.Module | None) -> None:
    """Give the network the weights that its stages begin with, where those are the teacher's. Raises: ValueError."""
    from bittern.train import start_from

    if paper == "BiT" and teacher is not None:
        start_from(network, teacher)
