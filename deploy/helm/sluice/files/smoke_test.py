"""Lists a gateway's models and has one of them generate a token. Needs nothing but Python.

GATEWAY_URL, WAIT_SECONDS (for a model to be ready) and API_KEYS_FILE (if there are keys) say how.
"""

import json
import os
import pathlib
import sys
import time
import urllib.error
import urllib.request

URL = os.environ["GATEWAY_URL"]
WAIT_SECONDS = float(os.environ["WAIT_SECONDS"])
KEYS_FILE = os.environ.get("API_KEYS_FILE")

# The gateway is near, whatever http_proxy says.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def headers():
    """Those of each request, with the first key if there are any."""
    found = {"content-type": "application/json"}
    if KEYS_FILE:
        lines = pathlib.Path(KEYS_FILE).read_text(encoding="utf-8").splitlines()
        keys = [line.partition("#")[0].strip() for line in lines]
        found["authorization"] = "Bearer " + next(key for key in keys if key)
    return found


def ask(path, body=None):
    """What the gateway answers at ``path``, as JSON. Raises OSError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, headers())  # noqa: S310
    with OPENER.open(request, timeout=60) as answer:
        return json.load(answer)


def ready_model():
    """The first model that is ready, waited for; None if there is none in time."""
    deadline = time.monotonic() + WAIT_SECONDS
    said = None
    while time.monotonic() < deadline:
        try:
            models = ask("/v1/models")["data"]
            now = ", ".join(model["id"] + " is " + model["state"] for model in models)
        except OSError as error:
            models, now = [], f"no answer from {URL}: {error}"
        if now != said:
            print(now or "the gateway knows no model yet", flush=True)
            said = now
        for model in models:
            if model["state"] == "ready":
                return model["id"]
        time.sleep(1)
    return None


def main():
    """0: a token was generated; 1: not, and why."""
    model = ready_model()
    if model is None:
        print(f"no model was ready within {WAIT_SECONDS:.0f} s")
        return 1
    body = {"model": model, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
    try:
        answer = ask("/v1/completions", body)
    except urllib.error.HTTPError as error:
        print(f"{model}: {error}: {error.read().decode(errors='replace')}")
        return 1
    print(f"{model}: {answer['choices'][0]['text']!r} {json.dumps(answer['usage'])}")
    return 0 if answer["usage"]["completion_tokens"] == 1 else 1


sys.exit(main())
