"""What the hub's errors say."""

from __future__ import annotations

import pytest
from sluice_worker.weights.hub import HubError


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        (
            "403 Forbidden at https://store/blob?X-Amz-Signature=SECRET&a=b. Make sure",
            "403 Forbidden at https://store/blob Make sure",
        ),
        ("'https://me:SECRET@mirror/x?a=SECRET' (500)", "'https://mirror/x' (500)"),
        ("htp://me:SECRET@mirror: what? No protocol", "htp://mirror: what? No protocol"),
        ("mirror: [Errno 111] Connection refused", "mirror: [Errno 111] Connection refused"),
    ],
)
def test_the_secrets_in_addresses_are_left_out_of_the_log(detail: str, told: str) -> None:
    assert HubError("it failed", detail).detail == told
