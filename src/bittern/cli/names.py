# SPDX-License-Identifier: Apache-2.0
"""Names of methods, networks and data sets, as a user types them, and the objects that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bittern.cli import lists
from bittern.cli.errors import Misused, unknown

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bittern._own_code import OwnCode
    from bittern.attention_method import AttentionMethod
    from bittern.data import FolderData, ImageData
    from bittern.quantizer import Method, Quantizer
    from bittern.recipes import PaperRecipe

FLOAT = "float"
"""In place of a method: the network's float twin."""
PAPER = "paper"
"""In place of a recipe's name: that of the method."""
DIGITS = "digits"
FOLDER = "folder"
DATA_HELP = (
    "digits, or a folder with MNIST, Fashion-MNIST, CIFAR-10, or a subfolder of images for each class; mnist:FOLDER "
    "and the like settle doubts; folder@32:FOLDER makes all images 32 x 32."
)
COMPARED_HELP = "[default: the nine that benchmarks compare]"
METHOD_HELP = "A method ('bittern methods'), float for the float twin, or MODULE:CLASS for one of your own."


def every_method() -> tuple[type[Quantizer], ...]:
    """All that come with bittern: binary ones, and those whose weights alone have few bits."""
    from bittern import binary, quant

    return *binary.ALL, *quant.ALL


def listed_methods() -> tuple[type[Quantizer], ...]:
    """The same, and those that need optimizers of their own, which "all" does not mean."""
    from bittern import binary

    return *every_method(), *binary.LATENT_FREE


def method_class(name: str) -> type[Quantizer]:
    """The method of a name, in any case, or of MODULE:CLASS. Raises: Misused."""
    if ":" in name:
        found_there = _imported(name)
        cls: Any = found_there.func if isinstance(found_there, partial) else found_there
        return cls  # type: ignore[no-any-return]
    found = {method.__name__.lower(): method for method in listed_methods()}
    if name.lower() not in found:
        known = [method.__name__ for method in found.values()]
        raise unknown("method", name, [*known, FLOAT], " ('bittern methods' lists them)")
    return found[name.lower()]


def method_classes(wanted: Sequence[str] | None) -> tuple[type[Quantizer], ...]:
    """The methods of these names, each once; of "all" every one, of None those that are compared. Raises: Misused."""
    from bittern import binary

    if wanted is None:
        return binary.COMPARED
    found: list[type[Quantizer]] = []
    for name in map(str.strip, wanted):
        found += every_method() if name == lists.ALL else (method_class(name),)
    return tuple(dict.fromkeys(found))


def those_that_fit(
    methods: Sequence[type[Quantizer]], networks: Sequence[Callable[[Method], nn.Module]]
) -> tuple[type[Quantizer], ...]:
    """Of all methods those that serve each of the networks; which do not, and why, is said on the error stream."""
    kept: list[type[Quantizer]] = []
    for cls in methods:
        try:
            for build in networks:
                build(cls)
        except ValueError as error:
            typer.echo(f"left out: {error}", err=True)
        else:
            kept.append(cls)
    return tuple(kept)


def method(name: str, options: Sequence[str]) -> Method | None:
    """The method of a name with options "key=value"; None for "float". Raises: Misused."""
    if name.lower() == FLOAT:
        if options:
            raise Misused(f"--option {options[0]} needs a method; float has no options")
        return None
    if ":" in name and isinstance(own := _imported(name), partial):
        if options:
            raise Misused(f"--option {options[0]}: {name} is a partial, which has its options; set them there")
        return own
    cls = method_class(name)
    if not options:
        return cls
    return partial(cls, **dict(_option(cls, text) for text in options))


def method_name(name: str) -> str:
    """The proper spelling of a name, as run folders remember it. Raises: Misused."""
    if ":" in name:
        _imported(name)
        return name
    return FLOAT if name.lower() == FLOAT else method_class(name).__name__


def _imported(name: str) -> Any:
    """The Quantizer class, or partial of one, of MODULE:CLASS or FILE.py:CLASS."""
    from bittern._own_code import NameMissingError
    from bittern.quantizer import Quantizer

    try:
        found = own_code("--method", name).load()
    except NameMissingError:
        found = None
    except ImportError as error:
        raise Misused(f"--method {error}; start where the module is") from error
    cls = found.func if isinstance(found, partial) else found
    if not isinstance(cls, type) or not issubclass(cls, Quantizer):
        got = "there is none of that name" if found is None else f"it is a {type(found).__name__}"
        raise Misused(f"--method {name}: must be a Quantizer class or a functools.partial of one; {got}")
    return found


def own_code(option: str, text: str) -> OwnCode:
    """What a user wrote, by FILE.py:NAME or MODULE:NAME; modules in the current folder are found. Raises: Misused;
    FileNotFoundError."""
    from bittern import _own_code

    try:
        return _own_code.own_code(text)
    except ValueError as error:
        raise Misused(f"{option}: {error}") from error


def paper_recipe(name: str, method_name: str) -> PaperRecipe:
    """The recipe of a method's paper, or of a paper on training; "paper" is that of `method_name`. Raises: Misused."""
    from bittern import recipes

    for record in recipes.OF_OPTIMIZERS:
        if record.name.lower() == name.lower():
            return record
    if name.lower() != PAPER:
        return recipes.for_method(method_class(name))
    if method_name.lower() == FLOAT:
        raise Misused("--recipe paper needs a method, and float has no paper; name a method, e.g. --recipe recu")
    return recipes.for_method(method_class(method_name))


def _option(cls: type[Quantizer], text: str) -> tuple[str, Any]:
    """(key, value) of "key=value", as the default of that option has it."""
    import inspect

    key, equals, value = text.partition("=")
    parameters = inspect.signature(cls.__init__).parameters
    known = {p.name: p for p in parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    has = f"{cls.__name__} has the options: {', '.join(known) or 'none'}"
    if not equals:
        raise Misused(f"--option {text!r} must be NAME=VALUE; {has}")
    if key not in known:
        raise Misused(f"--option {text!r}: no option of that name; {has}")
    try:
        return key, _value(value, known[key].default, optional="None" in str(known[key].annotation))
    except ValueError as error:
        raise Misused(f"--option {text!r}: {key} {error}") from error


def _value(text: str, default: Any, *, optional: bool) -> Any:
    """Raises: ValueError saying what the text must be."""
    if optional and text.lower() == "none":
        return None
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        return _one_of(text, {"true": True, "false": False})
    if isinstance(default, Enum):
        return _one_of(text, {member.name.lower(): member for member in type(default)})
    kind, what = (int, "a whole number") if isinstance(default, int) else (float, "a number")
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"must be {what}{' or none' if optional else ''}; got {text!r}") from None


def _one_of(text: str, kinds: dict[str, Any]) -> Any:
    if text.lower() not in kinds:
        raise ValueError(f"must be one of {', '.join(kinds)}; got {text!r}")
    return kinds[text.lower()]


def attention(name: str, model: str) -> type[AttentionMethod]:
    """The method of attention's products of that name, in any case, for a network that takes one. Raises: Misused."""
    import inspect

    from bittern.binary.attention import ALL

    found = {method.__name__: method for method in ALL}
    by_name = {known.lower(): method for known, method in found.items()}
    if name.lower() not in by_name:
        raise unknown("attention", name, found)
    if "attention" not in inspect.signature(network(model)).parameters:
        takes = [n.__name__ for n in networks() if "attention" in inspect.signature(n).parameters]
        raise Misused(f"--attention {name}: {model} has none; leave it out, or take --model {', '.join(takes)}")
    return by_name[name.lower()]


def networks() -> tuple[Callable[..., nn.Module], ...]:
    """All that commands know."""
    from bittern import models

    return *models.ALL, *models.OF_PATCHES, *models.WITHOUT_NORMS


def network(name: str) -> Callable[..., nn.Module]:
    """The function that builds a network, by its name. Raises: Misused."""
    found = {model.__name__: model for model in networks()}
    if name.lower() not in found:
        raise unknown("network", name, found)
    return found[name.lower()]


def data_spec(text: str) -> str:
    """A data set as run folders remember it: "digits" or "kind:absolute folder".

    Raises: FileNotFoundError for a missing folder; ValueError for one whose kind cannot be told.
    """
    if text == DIGITS:
        return text
    kind, colon, folder = text.partition(":")
    if colon and _is_kind(kind):
        return f"{kind}:{Path(folder).expanduser().absolute()}"
    place = Path(text).expanduser().absolute()
    return f"{_kind_of(place)}:{place}"


def is_spec(text: str) -> bool:
    """Whether `data_set` knows where to find it."""
    kind, colon, _ = text.partition(":")
    return text == DIGITS or (bool(colon) and _is_kind(kind))


def _is_kind(kind: str) -> bool:
    name, at, size = kind.partition("@")
    return kind in _readers() or (name == FOLDER and (not at or size.isdecimal()))


def data_set(spec: str) -> ImageData | FolderData:
    """Read the data set of a `data_spec`; of a folder of images, only what is in it. Raises: OSError, ValueError."""
    from bittern.data import digits, image_folder

    if spec == DIGITS:
        return digits()
    kind, _, folder = spec.partition(":")
    name, _, size = kind.partition("@")
    if name == FOLDER:
        return image_folder(folder, int(size) if size else None)
    return _readers()[kind](folder)


def _readers() -> dict[str, Callable[[str], ImageData]]:
    from bittern.data import cifar10, fashion_mnist, mnist

    return {reader.__name__: reader for reader in (mnist, fashion_mnist, cifar10)}


def _kind_of(folder: Path) -> str:
    from bittern.data.cifar10 import BINARY_FOLDER, LAYOUT, TRAIN_FILES
    from bittern.data.folder import has_classes
    from bittern.data.mnist import FILES

    layouts = (
        f"CIFAR-10 ({LAYOUT}) or MNIST and Fashion-MNIST ({', '.join(FILES)}, plain or .gz), or a subfolder of images "
        "for each class"
    )
    if not folder.is_dir():
        raise FileNotFoundError(f"--data: no folder {folder}; give 'digits', or a folder with {layouts}")
    cifar = [folder / TRAIN_FILES[0], folder / BINARY_FOLDER / TRAIN_FILES[0], *folder.glob("cifar10_*.npz")]
    if any(path.exists() for path in cifar):
        return "cifar10"
    if not any((folder / f"{name}{end}").exists() for name in FILES for end in ("", ".gz")):
        if has_classes(folder):
            return FOLDER
        raise FileNotFoundError(f"--data: {folder} holds no data set; put there {layouts}")
    if "mnist" not in folder.name.lower():
        raise ValueError(
            f"--data: MNIST and Fashion-MNIST have files of one name, and nothing tells which {folder} holds; "
            f"say mnist:{folder} or fashion_mnist:{folder}"
        )
    return "fashion_mnist" if "fashion" in folder.name.lower() else "mnist"


def set_threads(threads: int) -> None:
    """Raises: Misused."""
    import torch

    if threads < 1:
        raise Misused(f"--threads must be at least 1; got {threads}")
    torch.set_num_threads(threads)


def device(name: str) -> torch.device:
    """Raises: Misused; RuntimeError where there is no such device."""
    import torch

    if name not in ("cpu", "cuda"):
        raise Misused(f"--device must be cpu or cuda; got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("--device cuda: torch sees no CUDA device; use cpu, or install a torch built for CUDA")
    return torch.device(name)
