"""KV caches as rows, against attention computed by hand with rounded keys and values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel, T5Config, T5Model

from allocator import InvalidInputError
from quantize import parse_format
from quantize.rounding.nearest import round_inputs
from sensitivity.rows.kv_cache import CacheRef, find_caches, intercepted, rounding_cache
from tests.sensitivity.decoders import TOKENS, bert, llama, logits_of, mixtral
from tests.sensitivity.studies import state

INT4 = parse_format("int4")


def names(model: nn.Module) -> list[str]:
    return [row.name for row in find_caches(model)]


@pytest.mark.parametrize("build", [llama, mixtral])
def test_every_attention_layer_of_a_decoder_has_a_cache(build) -> None:
    assert names(build()) == ["model.layers.0.self_attn.kv_cache", "model.layers.1.self_attn.kv_cache"]


def test_fused_projections_have_caches_too() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50)).eval()
    assert names(model) == ["transformer.h.0.attn.kv_cache", "transformer.h.1.attn.kv_cache"]
    (row, _) = find_caches(model)
    with torch.no_grad():
        before = logits_of(model, TOKENS)
        with rounding_cache(row, INT4):
            assert not torch.equal(logits_of(model, TOKENS), before)


def test_encoders_and_models_of_two_parts_have_none() -> None:
    assert names(bert()) == []
    assert (
        names(T5Model(T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=50))) == []
    )
    assert names(nn.Sequential(nn.Linear(2, 2))) == []


def test_a_bert_that_decodes_has_caches() -> None:
    assert len(names(bert(is_decoder=True))) == 2


def test_windows_are_those_of_the_layers() -> None:
    assert [row.window for row in find_caches(mixtral(sliding_window=4))] == [4, 4]
    assert [row.window for row in find_caches(llama())] == [None, None]


def by_hand(row: CacheRef, hidden: Tensor, positions: tuple[Tensor, Tensor]) -> Tensor:
    """The attention layer by its definition, head by head in float64, with rounded keys and values."""
    attention = row.module
    batch, tokens, _ = hidden.shape

    def heads(projection: nn.Linear) -> Tensor:
        return projection(hidden).reshape(batch, tokens, -1, 8).transpose(1, 2)

    def rotated(values: Tensor) -> Tensor:
        cosine, sine = (part[:, None] for part in positions)
        first, second = values[..., :4], values[..., 4:]
        return values * cosine + torch.cat([-second, first], dim=-1) * sine

    def rounded(values: Tensor) -> Tensor:
        plain = values.reshape(-1, 8).numpy()
        return torch.from_numpy(round_inputs(plain, INT4)).reshape(values.shape)

    queries = rotated(heads(attention.q_proj)).double()
    keys = rounded(rotated(heads(attention.k_proj))).double()
    values = rounded(heads(attention.v_proj)).double()
    outputs = torch.empty(batch, tokens, 4, 8, dtype=torch.float64)
    for head in range(4):
        for token in range(tokens):
            seen = keys[:, head // 2, : token + 1]  # (B, t, 8)
            weights = torch.softmax((seen @ queries[:, head, token, :, None])[..., 0] / 8**0.5, dim=-1)
            outputs[:, token, head] = (weights[..., None] * values[:, head // 2, : token + 1]).sum(1)
    return attention.o_proj(outputs.flatten(2).float())


def test_attention_is_that_with_rounded_keys_and_values() -> None:
    model = llama()
    row = find_caches(model)[1]
    caught: list[tuple[Tensor, tuple[Tensor, Tensor]]] = []

    def note(_: nn.Module, __: tuple, kwargs: dict) -> None:
        caught.append((kwargs["hidden_states"], kwargs["position_embeddings"]))

    handle = row.module.register_forward_pre_hook(note, with_kwargs=True)
    outputs = []
    handle_out = row.module.register_forward_hook(lambda *parts: outputs.append(parts[-1][0]))
    with torch.no_grad(), rounding_cache(row, INT4):
        logits_of(model, TOKENS)
    handle.remove()
    handle_out.remove()
    with torch.no_grad():
        expected = by_hand(row, *caught[0])
    torch.testing.assert_close(outputs[0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("keep", [True, False])
def test_the_numbers_are_the_same_whether_the_model_keeps_its_cache(keep: bool) -> None:
    model = llama()
    row = find_caches(model)[0]
    with torch.no_grad(), rounding_cache(row, INT4):
        made = model(input_ids=TOKENS, use_cache=keep).logits
        assert torch.equal(made, logits_of(model, TOKENS))


def test_the_models_own_cache_holds_the_rounded_numbers() -> None:
    model = llama()
    row = find_caches(model)[0]
    entered: list[Tensor] = []

    def look(*new: Tensor) -> tuple[Tensor, ...]:
        entered.extend(new)
        return new

    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        with intercepted(row, look):
            logits_of(model, TOKENS)
        with rounding_cache(row, INT4):
            model(input_ids=TOKENS, past_key_values=cache, use_cache=True)
    for held, original in zip((cache.layers[0].keys, cache.layers[0].values), entered, strict=True):
        by_hand = round_inputs(original.reshape(-1, 8).numpy(), INT4)
        assert torch.equal(held, torch.from_numpy(by_hand).reshape(original.shape))
    assert cache.get_seq_length() == 7


def test_decoding_token_by_token_gives_what_one_pass_gives() -> None:
    # Symmetric formats put the largest number of a row half-way between two codes, where the last bit decides.
    model = llama()
    row = find_caches(model)[0]
    with torch.no_grad(), rounding_cache(row, parse_format("uint4")):
        whole = logits_of(model, TOKENS)
        cache = DynamicCache(config=model.config)
        steps = [
            model(input_ids=TOKENS[:, [index]], past_key_values=cache, use_cache=True).logits
            for index in range(TOKENS.shape[1])
        ]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=1e-4, atol=1e-5)


def test_what_enters_is_seen_as_it_is() -> None:
    model = mixtral()
    seen: list[tuple[int, ...]] = []

    def look(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        seen.extend([tuple(keys.shape), tuple(values.shape)])
        return keys, values

    with torch.no_grad():
        before = logits_of(model, TOKENS)
        with intercepted(find_caches(model)[0], look):
            assert torch.equal(logits_of(model, TOKENS), before)
    assert seen == [(3, 2, 7, 8), (3, 2, 7, 8)]


def fails(*_: Tensor) -> tuple[Tensor, Tensor]:
    raise RuntimeError("broke")


def test_the_model_is_as_it_was_afterwards_also_when_a_batch_raises() -> None:
    model = llama()
    row = find_caches(model)[0]
    before = state(model)
    with torch.no_grad(), rounding_cache(row, INT4):
        logits_of(model, TOKENS)
    assert state(model) == before
    with pytest.raises(RuntimeError, match="broke"), intercepted(row, fails):
        logits_of(model, TOKENS)
    assert state(model) == before


def test_numbers_that_cannot_be_stored_name_the_row() -> None:
    model = llama()
    with torch.no_grad():
        model.model.layers[1].self_attn.v_proj.weight.mul_(1e9)
    row = find_caches(model)[1]
    detail = r"/layers/model\.layers\.1\.self_attn\.kv_cache: what flows here cannot be stored in int4: weights reach"
    with torch.no_grad(), pytest.raises(InvalidInputError, match=detail), rounding_cache(row, INT4):
        logits_of(model, TOKENS)
