"""The client that the web site sends events with and the functions belong to. INNGEST_DEV says where the server is."""

from __future__ import annotations

import logging

import inngest

client = inngest.Inngest(app_id="shop", logger=logging.getLogger("uvicorn.error"))
