"""Let `attendgen train` find the configs of mypaper without --config-dir."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class MypaperSearchPath(SearchPathPlugin):
    """Add the folder mypaper/conf, which is laid out like AttendGen's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add it after AttendGen's folder."""
        search_path.append(provider="mypaper", path="pkg://mypaper.conf")
