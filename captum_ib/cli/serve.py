"""``captum-ib app``: the page to play with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import typer

from captum_ib.extras import need


@dataclass(frozen=True)
class Request:
    """What the command line asked for."""

    models: Sequence[str]
    host: str
    port: int
    device: str
    megabytes: float
    megapixels: float
    allow_pickle: bool = False


def run(request: Request) -> None:
    """Serve the page until it is interrupted; prints its address.

    Raises:
        ValueError, OSError, RuntimeError: a model can't be loaded, the port is taken, or Gradio is
            not installed.
    """
    need("gradio", "captum-ib app", "app")
    from captum_ib.app.offers import make_offers
    from captum_ib.app.server import application, is_loopback, listen, scratch, serve
    from captum_ib.app.uploads import Limits
    from captum_ib.explaining.choices import device_of

    limits = Limits(request.megabytes, request.megapixels)
    with listen(request.host, request.port) as listening, scratch() as home:
        host, port = listening.getsockname()[:2]
        if not is_loopback(request.host):
            typer.echo(
                f"captum-ib: warning: whoever reaches this machine at {host} can use the page, "
                "there is no password",
                err=True,
            )
        device = device_of(request.device)
        offers = make_offers(request.models, device, allow_pickle=request.allow_pickle)
        app = application(offers, limits, home, request.host)
        shown = f"[{host}]" if ":" in host else host
        typer.echo(f"captum-ib app: http://{shown}:{port} (Ctrl+C ends it)")
        try:
            serve(app, listening)
        except KeyboardInterrupt:
            typer.echo("captum-ib app: ended", err=True)
