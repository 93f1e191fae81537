# SPDX-License-Identifier: Apache-2.0
"""`bittern quantize`: from a trained float network to one of integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bittern.cli import names
from bittern.cli.errors import Misused, unknown
from bittern.cli.packing import NOT_PACKED

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bittern.data import FolderData, ImageData
    from bittern.deploy import Packed
    from bittern.ptq import Bits, Budget, Floor, Observer, QuantizedNetwork
    from bittern.ptq.learned import Rounding
    from bittern.ptq.products import MakeSteps

NOTES = 512
"""Bytes of a file that say what integers of its input and answer stand for, at most."""
OWN = ":"
"""In a target that is FILE.py:NAME or MODULE:NAME."""


def quantize(
    target: Annotated[
        str,
        typer.Argument(
            help="A run folder of 'bittern train --method float', a checkpoint in one, or FILE.py:NAME, a function of "
            "yours that returns a trained network."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The packed file to write.")],
    calibration: Annotated[
        str | None,
        typer.Option(help="FILE.py:NAME, a function of yours that returns inputs, a tensor or batches of them."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help=f"To calibrate on: {names.DATA_HELP} [default: that of the training]")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Training images to calibrate on.")] = 256,
    weights: Annotated[int, typer.Option(min=2, max=8, help="Bits of weights.")] = 8,
    inputs: Annotated[int, typer.Option(min=2, max=8, help="Bits of what layers with weights read.")] = 8,
    layer: Annotated[
        list[str] | None, typer.Option(help="PATTERN=WEIGHTS,INPUTS: other bits for layers, as in 'head=8,8'.")
    ] = None,
    observer: Annotated[str, typer.Option(help="Which range a value has.")] = "min_max",
    per_tensor: Annotated[bool, typer.Option("--per-tensor", help="One scale for a weight.")] = False,
    weight_steps: Annotated[
        str, typer.Option(help="Scales of weights: 'max', or 'least-squares', which pays below 8 bits.")
    ] = "max",
    adaround: Annotated[
        bool, typer.Option("--adaround", help="Learn which way each weight is rounded; pays below 8 bits.")
    ] = False,
    brecq: Annotated[
        bool, typer.Option("--brecq", help="The same block by block, with the scales of values within blocks.")
    ] = False,
    qdrop: Annotated[
        bool, typer.Option("--qdrop", help="As --brecq, leaving numbers unquantized at random while it learns.")
    ] = False,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Of --adaround, --brecq or --qdrop, for each part. [default: 1000]")
    ] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Layers or modules that stay float, with * and ?.")] = None,
    equalize: Annotated[bool, typer.Option("--equalize", help="Neighbouring layers share their ranges first.")] = False,
    channel_scales: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Bring the channels of a value to one range, to this strength above 0; 0.5 is usual."
        ),
    ] = None,
    bias_correction: Annotated[
        bool, typer.Option("--bias-correction", help="Biases take back by how much channels moved.")
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Choose bits of weights by layer, so that the file keeps a size, 60kB, or a call a time, 2ms."
        ),
    ] = None,
    floor: Annotated[
        float | None, typer.Option(min=0, help="With --budget: how far --metric may fall below the float network's.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="With --floor: FILE.py:NAME, a function of yours that is given a network and says how good it is."
        ),
    ] = None,
    input_type: Annotated[
        str, typer.Option(help="float32, int8, or uint8: the bytes of images, with their normalization in the network.")
    ] = "float32",
    output_type: Annotated[str, typer.Option(help="float32 or int8.")] = "float32",
    page: Annotated[Path | None, typer.Option(help="Write the report as an HTML page, too.")] = None,
) -> None:
    """Make a network of integers of a trained float network, and say what became of each layer."""
    import bittern
    from bittern.cli.screen import say, screen

    if output.suffix in NOT_PACKED:
        raise Misused(f"--output {output}: a packed file is no {output.suffix} file; name it {output.stem}.safetensors")
    bits = _layers(layer or ())
    observed, steps = _observer(observer), _steps(weight_steps)
    rounding = _rounding({"--adaround": adaround, "--brecq": brecq, "--qdrop": qdrop}, iterations)
    wanted, least = _budget(budget), _floor(floor, metric, budget)
    if OWN in target:
        model, given, info = _own(target, calibration, data)
    else:
        model, given, info = _trained(target, calibration, data, samples)
    with screen(stderr=True).status("calibrating"):
        network = bittern.quantize(
            model,
            given,
            weights=weights,
            inputs=inputs,
            layers=bits,
            observer=observed,
            per_channel=not per_tensor,
            weight_steps=steps,
            rounding=rounding,
            keep=keep or (),
            equalize=equalize,
            channel_scales=channel_scales,
            bias_correction=bias_correction,
            budget=_with_notes(wanted, info, input_type, output_type),
            floor=least,
        )
        report = network.report
    packed = _packed(network, info, input_type, output_type)
    packed.save(output)
    if page is not None:
        page.write_text(report.html(f"{output.name}: a network of integers"), encoding="utf-8")
    say(f"{report}\n{output}: {output.stat().st_size:,} bytes")


def _layers(texts: Sequence[str]) -> dict[str, Bits]:
    """Raises: Misused."""
    from bittern.ptq import Bits

    found = {}
    for text in texts:
        pattern, equals, numbers = text.rpartition("=")
        both = numbers.split(",")
        if not equals or len(both) != 2 or not all(part.strip().isdigit() for part in both):
            raise Misused(f"--layer {text!r} must be PATTERN=WEIGHTS,INPUTS, as in 'head=8,8'")
        found[pattern] = Bits(*map(int, both))
    return found


def _observer(name: str) -> type[Observer]:
    from bittern.ptq import OBSERVERS

    if name not in OBSERVERS:
        raise unknown("observer", name, OBSERVERS)
    return OBSERVERS[name]


def _steps(name: str) -> MakeSteps:
    """Raises: Misused."""
    from bittern.ptq import channel_steps, least_squares_channel_steps

    known = {"max": channel_steps, "least-squares": least_squares_channel_steps}
    if name not in known:
        raise unknown("weight steps", name, known)
    return known[name]


def _rounding(asked: Mapping[str, bool], iterations: int | None) -> Rounding | None:
    """The one that was asked for. Raises: Misused for several, and for iterations of none."""
    from bittern.ptq import BRECQ, AdaRound, QDrop, Schedule

    options = [option for option, given in asked.items() if given]
    if len(options) > 1:
        raise Misused(f"{' and '.join(options)}: a network is rounded in one way; give one of them")
    if not options:
        if iterations is not None:
            raise Misused(f"--iterations is of a rounding that is learned; give one of {', '.join(asked)} too")
        return None
    kinds: dict[str, type[AdaRound] | type[BRECQ] | type[QDrop]] = {
        "--adaround": AdaRound,
        "--brecq": BRECQ,
        "--qdrop": QDrop,
    }
    return kinds[options[0]](schedule=Schedule() if iterations is None else Schedule(iterations=iterations))


def _budget(text: str | None) -> Budget | None:
    """Of the file or of a call. Raises: Misused."""
    from bittern.cli import quantities
    from bittern.ptq import Budget

    if text is None:
        return None
    unit = quantities.NUMBER.fullmatch(text.strip())
    if unit is not None and unit[2].lower() in quantities.SECONDS:
        return Budget(latency_s=quantities.seconds_of("--budget", text))
    return Budget(bytes=quantities.bytes_of("--budget", text))


def _with_notes(budget: Budget | None, info: Mapping[str, str], input_type: str, output_type: str) -> Budget | None:
    """One whose file has room for these notes, and for the table of bytes of each channel."""
    import json
    from dataclasses import replace

    from bittern.deploy.image_info import read_image_info

    if budget is None or budget.bytes is None:
        return budget
    notes = len(json.dumps(json.dumps(info)))  # a text of JSON within JSON
    if (input_type, output_type) != ("float32", "float32"):
        notes += NOTES
    if input_type == "uint8":
        notes += 2**8 * len(read_image_info(info).mean or ())
    return replace(budget, reserved_bytes=notes)


def _floor(points: float | None, metric: str | None, budget: str | None) -> Floor | None:
    """Raises: Misused where one of both options is missing, or there is no budget."""
    from bittern.ptq import Floor

    if points is None and metric is None:
        return None
    if points is None or metric is None or budget is None:
        raise Misused("--floor and --metric say together what --budget must leave; give all three")
    return Floor(names.own_code("--metric", metric).load(), points)


def _packed(network: QuantizedNetwork, info: Mapping[str, str], input_type: str, output_type: str) -> Packed:
    """With what is known of its images. Raises: PackError."""
    from bittern.deploy.image_info import read_image_info

    images = read_image_info(info)
    packed = network.pack(mean=images.mean, std=images.std, input_type=input_type, output_type=output_type)
    packed.info.update({key: text for key, text in info.items() if key not in packed.info})
    return packed


def _own(target: str, calibration: str | None, data: str | None) -> tuple[nn.Module, Any, dict[str, str]]:
    """A network of the user's, its calibration data, and what the file says beside it. Raises: Misused."""
    if calibration is None or data is not None:
        raise Misused(f"{target} is a network of yours: say with --calibration FILE.py:NAME what to calibrate it on")
    model = names.own_code("TARGET", target).load()
    if not hasattr(model, "named_modules"):
        model = model()
    return model, names.own_code("--calibration", calibration).load()(), {"network": target}


def _trained(
    target: str, calibration: str | None, data: str | None, samples: int
) -> tuple[nn.Module, Tensor, dict[str, str]]:
    """The network of a run, images of its training, and what the file says of them. Raises: Misused, ValueError."""
    from bittern.cli import run_folder
    from bittern.cli.targets import info_of
    from bittern.data import normalize

    if calibration is not None:
        raise Misused(f"--calibration is for networks of yours; {target} is calibrated on images of --data")
    run, network = run_folder.trained(Path(target))
    images = names.data_set(names.data_spec(data) if data is not None else run.options.data)
    if images.image_shape != run.input_shape:
        shape = " x ".join(str(n) for n in images.image_shape)
        raise ValueError(f"{images.name} has images of {shape}, and the network takes other ones; give its own data")
    info = {"network": run.options.model, "method": run.options.method}
    return network, normalize(_spread(images, samples), run.mean, run.std), info | info_of(run).to_info()


def _spread(images: ImageData | FolderData, samples: int) -> Tensor:
    """So many training images, evenly spread over all, since folders go by class."""
    from bittern.data import FolderData

    count = images.counts[0]
    places = sorted({place * count // samples for place in range(samples)})
    if isinstance(images, FolderData):
        return images.read([images.train.files[place] for place in places])
    return images.train_images[places]
