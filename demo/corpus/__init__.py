"""The corpus: conversations by topic, made from templates that the project wrote."""

from demo.corpus.mixture import conversation
from demo.corpus.stories import raw_text

__all__ = ["conversation", "raw_text"]
