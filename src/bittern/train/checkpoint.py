# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: one safetensors file with everything that an exact resume needs. No pickle.

Tensors: "model/<name>" (the model's state_dict), "optimizer/<key>/<parameter name>" (its state tensors), "rng/cpu" and,
on a GPU, "rng/cuda" (states of torch's generators, bytes), and "watch/<layer>" (`WeightWatch.tensors`). Metadata:
"bittern_checkpoint", a JSON object with the keys of `_describe_run`, and "crc32", over that text and all tensors.

The file is written beside its place and renamed over it, so at every moment the last complete checkpoint is there.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bittern._files import write_atomically
from bittern._tensor_file import pieces
from bittern.optim._options import ADDED
from bittern.train.history import ACCURACY, Epoch
from bittern.train.optimizer_state import pack_optimizer, unpack_optimizer
from bittern.train.watch import WeightWatch

FILE_NAME = "checkpoint.safetensors"
VERSION = 1
MAX_LISTED = 5
"""Differences that an error names before it only counts the rest."""

Json = dict[str, Any]
ROW: tuple[type, ...] = (int, int, float, float, float, float, float, float)
"""What a row of the log holds in a checkpoint; the name of its metric belongs to the task."""


class CheckpointError(ValueError):
    """A file that is no checkpoint, is damaged, or belongs to another model, recipe or data set."""


@dataclass
class RunState:
    """Where a run stands between two steps."""

    step: int = 0
    """Optimizer steps done."""
    loss_sum: float = 0.0
    """Over the steps done of the current epoch."""
    score_sum: float = 0.0
    """Over the `seen` examples of the current epoch."""
    seen: int = 0
    seconds: float = 0.0
    rows: list[Epoch] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
    """Of `loss_sum`, by name, where losses were added."""
    skipped: int = 0
    """Steps of the current epoch whose gradients overflowed, so that they changed no weight."""
    loss_scale: Json = field(default_factory=dict)
    """State of the scaler of the loss; nothing where there is none."""


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: RunState,
    identity: Json,
    device: torch.device,
    watch: WeightWatch | None = None,
) -> None:
    """Write the checkpoint; the previous one stays whole until the new one is.

    identity: JSON values that a resume must find equal (recipe, data, teacher).

    Raises: OSError (disk full, no permission); TypeError for a state that cannot be saved without pickle.
    """
    tensors = {f"model/{name}": value for name, value in _model_state(model).items()}
    optimizer_tensors, optimizer_json = pack_optimizer(optimizer, model)
    tensors |= {f"optimizer/{name}": value for name, value in optimizer_tensors.items()}
    if watch is not None:
        tensors |= {f"watch/{name}": value for name, value in watch.tensors().items()}
    tensors["rng/cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["rng/cuda"] = torch.cuda.get_rng_state(device)
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(_describe_run(state, identity, optimizer_json, watch), allow_nan=False)
    metadata = {"bittern_checkpoint": text, "crc32": str(_checksum(text, tensors))}
    write_atomically(path, pieces(tensors, metadata))


def restore_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: Json,
    device: torch.device,
    metric: str = ACCURACY,
    watch: WeightWatch | None = None,
) -> RunState:
    """Put model, optimizer and torch's generators back to where the checkpoint was written.

    metric: what the scores of the task are called.

    Raises: FileNotFoundError; CheckpointError. Nothing is changed unless the whole file is in order.
    """
    tensors, run = _read(path)
    weights = _section(tensors, "model/")
    _check_model(path, weights, model)
    _check_identity(path, run.get("identity"), identity)
    try:
        state = _run_state(run, metric, identity.get("precision") == "16-mixed")
        if watch is not None and "watch" in run:
            watch.restore(run["watch"], _section(tensors, "watch/"))
        unpacked = unpack_optimizer(optimizer, model, _section(tensors, "optimizer/"), run["optimizer"])
        generators = {"cpu": torch.Generator().set_state(tensors["rng/cpu"]).get_state()}
        if device.type == "cuda":
            generators["cuda"] = tensors["rng/cuda"]
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{path}: inconsistent checkpoint ({error!r}); use another one") from error
    model.load_state_dict(weights, strict=True)
    for group, stored in zip(optimizer.param_groups, unpacked["param_groups"], strict=False):
        group |= {name: stored[name] for name in ADDED if name in group}  # how states were stored is how they go on
    optimizer.load_state_dict(unpacked)
    torch.set_rng_state(generators["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(generators["cuda"], device)
    return state


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load the model's part of a training checkpoint, strictly: names, shapes and dtypes must be equal.

    Raises: FileNotFoundError; CheckpointError, listing the first differences, when it is from another model.
    """
    path = Path(path)
    weights = _section(_read(path)[0], "model/")
    _check_model(path, weights, model)
    model.load_state_dict(weights, strict=True)


def planned_epochs(path: Path) -> int | None:
    """The epochs of the recipe that a checkpoint was trained by. Raises: FileNotFoundError; CheckpointError."""
    identity = _read(path)[1].get("identity")
    epochs = identity.get("epochs") if isinstance(identity, dict) else None
    return epochs if isinstance(epochs, int) else None


def check_finite(model: nn.Module) -> str | None:
    """Name of the first parameter or buffer that holds NaN or infinity, None when there is none."""
    for name, value in _model_state(model).items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            return name
    return None


def _model_state(model: nn.Module) -> dict[str, Tensor]:
    state = model.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"checkpoint: {name} of the model's state is a {type(value).__name__}; only tensors are saved, "
                "because anything else needs pickle: keep it in a buffer"
            )
    return state


def _describe_run(state: RunState, identity: Json, optimizer: Json, watch: WeightWatch | None) -> Json:
    watched = [dict(row.watched) for row in state.rows]
    parts: Json = {}
    if state.parts:
        parts["epoch_parts"] = state.parts
    if any(row.losses for row in state.rows):
        parts["row_parts"] = [dict(row.losses) for row in state.rows]
    if state.loss_scale:
        parts["loss_scale"] = state.loss_scale
        parts["skipped"] = [*(row.skipped for row in state.rows), state.skipped]
    return {
        "version": VERSION,
        "step": state.step,
        "epoch_so_far": [state.loss_sum, state.score_sum, state.seen, state.seconds],
        "rows": [list(row)[: len(ROW)] for row in state.rows],
        **parts,
        "identity": identity,
        "optimizer": optimizer,
        **({"watched": watched} if any(watched) else {}),
        **({} if watch is None else {"watch": watch.describe()}),
    }


def _run_state(run: Json, metric: str, scaled: bool) -> RunState:
    """scaled: whether the loss is."""
    loss_sum, score_sum, seen, seconds = run["epoch_so_far"]
    none: list[Json] = [{}] * len(run["rows"])
    rows = [
        Epoch(*(kind(v) for kind, v in zip(ROW, row, strict=True)))._replace(
            metric=metric, watched=_named(watched), losses=_named(parts)
        )
        for row, watched, parts in zip(run["rows"], run.get("watched", none), run.get("row_parts", none), strict=True)
    ]
    parts = dict(_named(run.get("epoch_parts", {})))
    scale, skipped = _scaler_state(run.get("loss_scale", {}), scaled), 0
    if scale:
        *of_rows, skipped = map(int, run["skipped"])
        rows = [row._replace(skipped=count) for row, count in zip(rows, of_rows, strict=True)]
    counts = (int(run["step"]), float(loss_sum), float(score_sum), int(seen), float(seconds))
    state = RunState(*counts, rows, parts, skipped, scale)
    if min(state.step, state.seen, skipped, *scale.values()) < 0:
        raise ValueError("a negative count")
    return state


def _scaler_state(stored: Json, wanted: bool) -> dict[str, int | float]:
    """The state of the scaler of the loss, {} where there is none. Raises: ValueError, TypeError."""
    kinds = {name: type(value) for name, value in torch.amp.GradScaler("cpu").state_dict().items()} if wanted else {}
    found = {name: type(value) for name, value in stored.items()}
    if found != kinds:
        raise ValueError(f"the scaler of the loss has {found}, not {kinds}")
    return dict(stored)


def _named(stored: Json) -> tuple[tuple[str, float], ...]:
    return tuple((str(name), float(value)) for name, value in stored.items())


def _read(path: Path) -> tuple[dict[str, Tensor], Json]:
    """Tensors and JSON of a checkpoint whose checksum holds. Memory stays within the size of the file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint {path}; training writes {FILE_NAME} into the folder of its run")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # cloned: what safe_open returns may be a view of the file itself
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        text = metadata["bittern_checkpoint"]
        run = json.loads(text)
        version = run["version"]
        intact = int(metadata["crc32"]) == _checksum(text, tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError, OverflowError) as error:
        # RuntimeError: also JSON that nests too deep
        raise CheckpointError(
            f"{path} is not a Bittern training checkpoint, or is damaged ({error}); use another one"
        ) from error
    if version != VERSION:
        raise CheckpointError(
            f"{path} has version {version!r}; this Bittern reads {VERSION}; use the one that wrote it"
        )
    if not intact:
        raise CheckpointError(f"{path} is damaged: its checksum does not fit; use another one")
    return tensors, run


def _checksum(text: str, tensors: dict[str, Tensor]) -> int:
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        crc = zlib.crc32(f"{name} {value.dtype} {list(value.shape)}".encode(), crc)
        crc = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data, crc)
    return crc


def _section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _check_model(path: Path, stored: dict[str, Tensor], model: nn.Module) -> None:
    def kind(value: Tensor) -> str:
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"

    wanted = _model_state(model)
    differences = [f"{name}: not in the checkpoint" for name in wanted if name not in stored]
    differences += [f"{name}: not in the model" for name in stored if name not in wanted]
    differences += [
        f"{name}: {kind(stored[name])} in the checkpoint, {kind(value)} in the model"
        for name, value in wanted.items()
        if name in stored and kind(stored[name]) != kind(value)
    ]
    if differences:
        more = len(differences) - MAX_LISTED
        listed = "; ".join(differences[:MAX_LISTED]) + (f"; and {more} more" if more > 0 else "")
        raise CheckpointError(f"{path} is from another model: {listed}; build the model as it was for that run")


def _check_identity(path: Path, stored: Any, wanted: Json) -> None:
    """Refuse another run; more epochs of the same one are no other run."""
    if not isinstance(stored, dict):
        raise CheckpointError(f"{path}: inconsistent checkpoint (identity is no object); use another one")
    # through JSON, as the stored one came
    here = json.loads(json.dumps(wanted))
    differ = [name for name in dict.fromkeys([*here, *stored]) if stored.get(name) != here.get(name)]
    if differ == ["epochs"] and isinstance(stored.get("epochs"), int) and stored["epochs"] < here["epochs"]:
        return
    if differ:
        changed = [f"{name} was {stored.get(name)!r}, is {here.get(name)!r}" for name in differ]
        raise CheckpointError(
            f"{path} is from another run: {'; '.join(changed[:MAX_LISTED])}; resume with what it was started with, "
            "or start anew in another folder"
        )
