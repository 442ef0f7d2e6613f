"""``captum-ib app``: the page to play with."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from captum_ib.extras import need


def run(
    models: Sequence[str],
    host: str,
    port: int,
    device: str,
    megabytes: float,
    megapixels: float,
    allow_pickle: bool = False,
) -> None:
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
    from captum_ib.zoo.packaged import installed

    limits = Limits(megabytes, megapixels)
    with listen(host, port) as listening, scratch() as home:
        reached, port = listening.getsockname()[:2]
        if not is_loopback(host):
            typer.echo(
                f"captum-ib: warning: whoever reaches this machine at {reached} can use the page, "
                "there is no password",
                err=True,
            )
        offers = make_offers(
            models, device_of(device), allow_pickle=allow_pickle, others=installed()
        )
        app = application(offers, limits, home, host)
        shown = f"[{reached}]" if ":" in reached else reached
        typer.echo(f"captum-ib app: http://{shown}:{port} (Ctrl+C ends it)")
        try:
            serve(app, listening)
        except KeyboardInterrupt:
            typer.echo("captum-ib app: ended", err=True)
