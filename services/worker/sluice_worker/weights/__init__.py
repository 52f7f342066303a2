"""From MODEL_ID to verified files: where a model is, its download, its place in the cache.

``source.py`` is the entry. ``download.py`` tells the story of a download in one page; it has
``resolution.py`` (what the model consists of), ``lease.py`` (one downloader per volume) and
``transfer.py`` (one file) do the work, over ``hub.py`` and ``cache.py``.
"""
