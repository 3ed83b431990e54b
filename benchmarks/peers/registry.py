"""The peers, their versions, and what each is asked."""

from __future__ import annotations

from allocator.contract.registry import Registry
from benchmarks.environments import Owner
from benchmarks.peers.measured import Peer
from benchmarks.peers.question import Question

_WIDE = ("int2-g64", "int3-g64", "int4-g64", "int8-g64")

PEERS = Registry[Peer](
    "peer",
    {
        "modelopt": Peer(
            Owner("nvidia-modelopt", "0.47.0"),
            "benchmarks.peers.modelopt",
            (Question(("int4-g64", "int8-g64"), (5.0, 6.0, 7.0)), Question(_WIDE, (3.25, 3.75, 4.25, 5.25))),
        ),
        "nncf": Peer(
            Owner("nncf", "3.4.0", ("openvino==2026.4.1",)),
            "benchmarks.peers.nncf",
            (
                Question(("int4-g64", "int8"), (0.75, 0.5, 0.25)),
                Question(("int2-g64", "int8"), (0.75, 0.5, 0.25)),
            ),
        ),
        "auto-round": Peer(
            Owner("auto-round", "0.16.1"),
            "benchmarks.peers.auto_round",
            (Question(("int4-g64", "int8-g64"), (5.0, 6.0, 7.0)), Question(_WIDE, (3.25, 3.75, 4.25, 5.25))),
        ),
        "mct": Peer(
            Owner("model-compression-toolkit", "2.6.1", ("torchvision==0.28.0",)),
            "benchmarks.peers.mct",
            (Question(("int2", "int4", "int8"), (5.0, 6.5)),),
        ),
    },
    pointer="/only",
)

#: All formats in question; our table is of all of them.
FORMATS = tuple(
    dict.fromkeys(name for peer in PEERS.values() for question in peer.questions for name in question.formats)
)
