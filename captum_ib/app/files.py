"""Our own routes: uploads come in, uploads and results go out, by token and never by path."""

from __future__ import annotations

from typing import Any

from captum_ib.app.results import Results
from captum_ib.app.uploads import Limits
from captum_ib.app.visitors import Visitors
from captum_ib.extras import need

_GONE = "These files are no longer kept: explain again."


def add_files(outer: Any, visitors: Visitors, results: Results, limits: Limits) -> None:
    """Add the routes to the application; the door says whose a request is.

    Args:
        outer: the application, before Gradio is mounted.
        visitors: who is here; keeps the uploads.
        results: the files of answers.
        limits: of uploads.
    """
    responses = need("fastapi.responses", "the page", "app")
    requests = need("starlette.requests", "the page", "app")
    errors = need("starlette.exceptions", "the page", "app")

    async def upload(request: Any) -> Any:
        """What the browser sends; the answer is what Gradio's is: what the file is called now."""
        too_large = f"File size exceeded maximum allowed size of {limits.size} bytes."
        try:
            async with request.form(max_files=1, max_fields=0) as form:
                (file,) = [part for _, part in form.multi_items() if not isinstance(part, str)]
                if file.size is None or file.size > limits.size:
                    return responses.PlainTextResponse(too_large, status_code=413)
                content = await file.read()
                name = file.filename or ""
        except requests.ClientDisconnect:  # as the body's limit says it
            return responses.PlainTextResponse(too_large, status_code=413)
        except (ValueError, errors.HTTPException):
            return responses.PlainTextResponse("one file is taken", status_code=400)
        kept = visitors.keep(request.state.visitor, name, content)
        return responses.JSONResponse([kept.public] if kept else [])

    def again(request: Any) -> Any:
        public = "{token}/{name}".format(**request.path_params)
        kept = visitors.find(request.state.visitor, public)
        return _attachment(responses, kept.path if kept else None, kept.name if kept else "")

    def download(request: Any) -> Any:
        token, name = request.path_params["token"], request.path_params["name"]
        return _attachment(responses, results.find(token, name), name)

    outer.add_route("/gradio_api/upload", upload, methods=["POST"])
    outer.add_route("/gradio_api/file={token}/{name}", again, methods=["GET"])
    outer.add_route("/results/{token}/{name}", download, methods=["GET"])


def _attachment(responses: Any, path: Any, name: str) -> Any:
    """A file to save, not to show."""
    if path is None or not path.is_file():
        return responses.PlainTextResponse(_GONE, status_code=404)
    return responses.FileResponse(path, filename=name)
