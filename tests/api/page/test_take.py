"""What the page sends to take a plan away."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Page, Route, expect

from tests.api.page.conftest import Heard, settled


def test_a_plan_goes_by_its_id_and_whole_where_the_service_forgot_it(page: Page, heard: Heard) -> None:
    page.click("#example")
    settled(page)
    page.select_option("#runtime", "vllm")
    sent: list[dict[str, Any]] = []

    def forget(route: Route) -> None:
        sent.append(route.request.post_data_json)
        named = "allocation_id" in sent[-1]
        route.continue_(post_data=json.dumps(sent[-1] | {"allocation_id": "0" * 32}) if named else None)

    heard.expected = True  # the browser notes the 404
    page.route("**/v1/lint", forget)
    page.click("#lint")
    expect(page.locator("#taken p").first).to_contain_text("vllm would not load it")
    first, second = sent
    assert first == {"allocation_id": second["plan"]["id"], "runtime": "vllm"}
