"""A stranger to the app: speaks HTTP, knows Gradio, and has no browser that holds it back."""

from __future__ import annotations

import io
import itertools
import json
import re
from typing import Any

import httpx
from PIL import Image

JOIN, DATA, UPLOAD = "/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/upload"

_NUMBERS = itertools.count(1)


def png(width: int = 6, height: int = 4, color: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), color).save(data, "PNG")
    return data.getvalue()


def file_data(path: str, **more: Any) -> dict[str, Any]:
    """What Gradio takes for a file."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


class Stranger:
    """A visitor with a cookie and a session of its own, who says to come from the page.

    Attributes:
        http: the client; it remembers the cookie.
        said: everything that came back, headers too.
        functions: the numbers of the page's functions, by the component that calls them.
    """

    def __init__(self, address: str, session: str = "", visit: bool = True) -> None:
        self.address, self.session = address, session or f"stranger{next(_NUMBERS)}"
        self.said: list[bytes] = []
        headers = {"Origin": address, "Sec-Fetch-Site": "same-origin"}
        self.http = httpx.Client(
            base_url=address, timeout=30, headers=headers, event_hooks={"response": [self._heard]}
        )
        if visit:
            page = self.http.get("/").text
            config = json.loads(re.search(r"window.gradio_config = (\{.*?\});</script>", page)[1])
            names = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
            self.functions: dict[str, int] = {}
            for function in config["dependencies"]:
                for target, event in function["targets"]:
                    if function["backend_fn"]:
                        self.functions[f"{names.get(target)}.{event}"] = function["id"]

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def _heard(self, response: httpx.Response) -> None:
        self.said.append(repr(response.headers).encode())
        if "event-stream" not in response.headers.get("content-type", ""):
            self.said.append(response.read())

    def join(self, function: str, data: list[Any], **more: Any) -> httpx.Response:
        """Ask for a call of a function."""
        body = {"data": data, "fn_index": self.functions[function], "session_hash": self.session}
        return self.http.post(JOIN, json={**body, **more})

    def answers(self) -> str:
        """What the calls of this session answer, until the last has ended."""
        text = self.http.get(DATA, params={"session_hash": self.session}).text
        self.said.append(text.encode())
        return text

    def ask(self, function: str, data: list[Any]) -> str:
        """Call a function, and hear its answer."""
        assert self.join(function, data).status_code == 200
        return self.answers()

    def upload(self, name: str = "x.png", content: bytes = b"") -> httpx.Response:
        """Send a file as Gradio's page does."""
        return self.http.post(UPLOAD, files={"files": (name, content or png())})

    def choose(self, path: str | None, model: str = "zoo:clip-scenes") -> str:
        """Say which file the page shows."""
        return self.ask("ib-file.upload", [model, None if path is None else file_data(path)])
