# SPDX-License-Identifier: Apache-2.0
"""Another engine in a process of its own: whatever becomes of it is said, and nothing else ends with it."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace

import pytest
import torch

import _peers
from bittern import binary, deploy
from bittern.bench.speed.contest import Contest, PeerError
from bittern.bench.speed.peers import OPENVINO_INT8, Peer
from bittern.models import mlp

WORDS = {
    _peers.RAISES: "RuntimeError: no such operator, while it built its network",
    _peers.CRASHES: "its process was ended by SIGSEGV, while it built its network",
    _peers.CRASHES_IN_A_RUN: "its process was ended by SIGSEGV, in its first run",
    _peers.LEAVES: "its process ended with status 3, while it built its network",
}


@pytest.fixture(scope="module")
def contest() -> Contest:
    packed = deploy.pack(mlp(binary.BNN, input_size=4, widths=(8, 8)).eval(), torch.randn(1, 1, 4, 4))
    return Contest(packed.to_bytes(), _peers.ready, "bittern.bench.speed.run", _peers.WORKS, 1, 0.001)


def test_both_are_timed(contest: Contest) -> None:
    found = contest.hold()
    assert len(found.candidate_us) == len(found.baseline_us) >= 3


@pytest.mark.parametrize("peer", WORDS, ids=lambda peer: peer.name)
def test_what_ends_badly_says_how_and_at_which_step(contest: Contest, peer: Peer) -> None:
    with pytest.raises(PeerError) as caught:
        replace(contest, peer=peer).hold()
    assert str(caught.value) == WORDS[peer]


def test_what_never_answers_is_ended(contest: Contest) -> None:
    # whatever step a busy machine is at by then
    with pytest.raises(PeerError, match=r"^no answer for 1 s, while .*; its process was ended$"):
        replace(contest, peer=_peers.NEVER_ANSWERS).hold(1.0)
    assert not [child for child in multiprocessing.active_children() if child.name == "contest"]


@pytest.mark.peers("onnx", "onnxruntime", "openvino")
def test_what_openvino_crashes_on_in_8_bits_stays_in_float32(contest: Contest) -> None:
    packed = deploy.pack(*_peers.norm_behind_a_concatenation(binary.BNN)).to_bytes()
    replace(contest, packed=packed, ready=_peers.norm_behind_a_concatenation, peer=OPENVINO_INT8).hold()
