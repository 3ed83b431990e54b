"""SentencePiece's byte pairs from a list of merges: scores that give the same tokens."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence


def piece_scores(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, ...]], size: int, special: Collection[str] = ()
) -> tuple[float, ...] | None:
    """Score tokens so that joining the best pair first does what the merges do in their order.

    llama.cpp joins any two tokens whose text together is a token, the one with the highest score first. A list of
    merges says the same only if it has every such pair, and all pairs of one token before those of the next.

    Args:
        vocabulary: Text → number.
        merges: Pairs in the order of their ranks.
        size: Number of tokens.
        special: Texts that stand for themselves, which no pair should make.

    Returns:
        Score of each token by its number: minus the rank at which it is made, beyond all ranks for those that are not;
        None where no scores do what the merges do.

    Example:
        >>> piece_scores({"a": 0, "b": 1, "ab": 2}, [("a", "b")], 4)
        (-2.0, -2.0, -1.0, -2.0)
        >>> piece_scores({"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5}, [("a", "b"), ("b", "c"), ("ab", "c")], 6)
    """
    given = set(merges)
    rank: dict[str, int] = {}
    previous = None
    for pair in merges:
        joined = "".join(pair)
        if joined != previous and joined in rank:
            return None  # pairs of one token are torn apart by those of another
        if len(pair) != 2 or joined not in vocabulary:
            return None
        rank.setdefault(joined, len(rank) + 1)
        previous = joined
    for text in vocabulary.keys() - set(special):
        for cut in range(1, len(text)):
            pair = text[:cut], text[cut:]
            if pair not in given and pair[0] in vocabulary and pair[1] in vocabulary:
                return None
    scores = [-float(len(rank) + 1)] * size
    for text, place in rank.items():
        scores[vocabulary[text]] = -float(place)
    return tuple(scores)
