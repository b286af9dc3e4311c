"""Where frames come from: one file a kind of source, imported only when chosen."""

from edgecnn_device.sources.select import Source, SourceOptions, is_live, open_source

__all__ = ["Source", "SourceOptions", "is_live", "open_source"]
