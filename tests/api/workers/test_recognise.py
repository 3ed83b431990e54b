"""A profile that came before is known again, and nothing else about a request changes."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from allocator import load_profile
from api.workers.cache import Desk, Work
from api.workers.errors import InvalidJsonError
from api.workers.json_limits import JsonLimits
from api.workers.parsing import parsed
from api.workers.recognise import parsed_about_profile
from bitalloc.wire import AllocationRequest
from tests.api.helpers import random_profile, tiny

DOCUMENT = random_profile(6)
TEXT = json.dumps(DOCUMENT)
PROFILE = load_profile(TEXT)
LIMITS = JsonLimits()


def work(body: str | bytes, desk: Desk, limits: JsonLimits = LIMITS) -> Work:
    def fetch(sha256: str, known: bool) -> bytes:
        raise AssertionError((sha256, known))

    def fetch_allocation(identifier: str) -> bytes:
        raise AssertionError(identifier)

    def tell(facts: Mapping[str, object]) -> None:
        raise AssertionError(facts)

    return Work(
        body.encode() if isinstance(body, str) else body, {}, limits, desk, tell, fetch, fetch_allocation
    )


@pytest.fixture
def desk() -> Desk:
    """A desk that has the profile, and knows how it is written."""
    desk = Desk()
    desk.keep(PROFILE.digest(), PROFILE)
    desk.note(PROFILE.digest(), TEXT.encode())
    return desk


def test_the_second_time_the_text_is_noted_and_the_third_time_known() -> None:
    desk = Desk()
    body = work('{"profile": ' + TEXT + ', "gap": 0.5}', desk)
    assert parsed_about_profile(AllocationRequest, body).profile == PROFILE
    desk.keep(PROFILE.digest(), PROFILE)
    assert desk.recognise(body.body, len('{"profile": ')) is None
    assert parsed_about_profile(AllocationRequest, body).profile == PROFILE
    assert desk.recognise(body.body, len('{"profile": ')) == (PROFILE, TEXT.encode())
    assert parsed_about_profile(AllocationRequest, body).profile is PROFILE


@pytest.mark.parametrize(
    "body",
    [
        '{"profile":%s,"budgets":{"weight_bytes":5}}',
        ' {"gap": 0.25, "profile" :\n\t%s , "budgets": {"weight_bytes": "1 MB"}} ',
        '{"pin":{"layer.0":"int4-g64"},"profile":%s}',
        '{"profile":%s,"batch":[{"weight_bytes":1},{"weight_bytes":2}],"allow":{"\\"profile\\":":["é"]}}',
    ],
)
def test_requests_are_those_of_the_whole_text(body: str, desk: Desk) -> None:
    body = body.replace("%s", TEXT)
    known = parsed_about_profile(AllocationRequest, work(body, desk))
    assert known.profile is PROFILE
    assert known == parsed(AllocationRequest, body.encode(), LIMITS)
    assert known.model_fields_set == parsed(AllocationRequest, body.encode(), LIMITS).model_fields_set


@pytest.mark.parametrize(
    "body",
    [
        '{"profile":%s,"profile":%s}',
        '{"profile":%s}}',
        '{"profile":%s',
        '{"profile":%s%s}',
        '{"profile":%s,"budgets":{"weight_bytes":NaN}}',
        '{"profile":%s,"profile_id":"' + "0" * 64 + '"}',
        '{"profile":[%s]}',
        '{"x":{"profile":%s}}',
        '{"x":{"profile":%s},"profile":%s}',
        '{"pin":{"profile":%s},"profile":%s}',
        '["profile",{"profile":%s}]',
        '{"x":"{"profile":%s"}',
        '"profile":%s',
        '{"profile":%s,"solver":3,"gap":-1}',
        '{"profile":%s,"\ud800":1}'.encode("utf-8", "surrogatepass"),
        b'{"profile":%s,"model":"\xff"}',
    ],
)
def test_faults_are_those_of_the_whole_text(body: str | bytes, desk: Desk) -> None:
    raw = (body.encode() if isinstance(body, str) else body).replace(b"%s", TEXT.encode())
    with pytest.raises(Exception) as expected:  # noqa: PT011 - of either kind
        parsed(AllocationRequest, raw, LIMITS)
    with pytest.raises(type(expected.value)) as found:
        parsed_about_profile(AllocationRequest, work(raw, desk))
    assert str(found.value) == str(expected.value)


def test_another_profile_is_another_profile(desk: Desk) -> None:
    other = tiny()
    assert (
        parsed_about_profile(AllocationRequest, work(json.dumps({"profile": other}), desk)).profile != PROFILE
    )
    longer = TEXT[:-1] + ', "model": "longer"}'
    with pytest.raises(InvalidJsonError, match="key 'model' twice"):
        parsed_about_profile(AllocationRequest, work('{"profile":' + longer + "}", desk))


@pytest.mark.parametrize(
    "text", [json.dumps(DOCUMENT | {"model": "Größe"}, ensure_ascii=False), TEXT + " " * 4_000_000]
)
def test_texts_that_would_take_long_to_cut_out_are_parsed_each_time(text: str) -> None:
    desk, profile = Desk(), load_profile(text)
    desk.keep(profile.digest(), profile)
    body = work('{"profile":' + text + "}", desk)
    for _ in range(3):
        found = parsed_about_profile(AllocationRequest, body).profile
        assert found == profile
        assert found is not profile
