"""Keeps orbax's routine warnings off the screen."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

import absl.logging


@contextlib.contextmanager
def errors_only() -> Iterator[None]:
    """Hides orbax's routine warnings in this thread."""
    here = threading.get_ident()

    def matters(record: Any) -> bool:
        return record.thread != here or record.levelno >= logging.ERROR

    logger = absl.logging.get_absl_logger()
    logger.addFilter(matters)
    try:
        yield
    finally:
        logger.removeFilter(matters)
