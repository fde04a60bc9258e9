"""``uvicorn server.main:app``, as the server was started before ``aigve serve``."""

from aigve_cli.server.app import create_app

app = create_app()
