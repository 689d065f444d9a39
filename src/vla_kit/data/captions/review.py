"""The verb `vla-kit data review`."""

import webbrowser
from contextlib import suppress

from rich.console import Console

from vla_kit.data.captions.caption_log import CaptionLog
from vla_kit.data.captions.review_server import ReviewServer
from vla_kit.data.readers.open import open_source

__all__ = ["review"]


def review(captions: str, root: str | None = None, port: int = 8010, browse: bool = False) -> None:
    """Read, correct, accept or reject captions in the browser.

    The page is served to this machine alone, until Ctrl-C; from another one, forward the port:
    `ssh -L 8010:localhost:8010 HOST`. Decisions are kept in `reviews.json` beside the captions, each as soon as it is
    made.

    Args:
        captions: Folder of `vla-kit data caption`.
        root: Folder, file or hub id of the data set, where it does not lie where it lay when it was captioned.
        port: Port on 127.0.0.1; 0 takes a free one.
        browse: Open the page in the browser of this machine.

    Raises:
        DataError: If the folder holds no captions, the data set cannot be opened or is another one.
        SettingError: If the port is taken or none.
    """
    log = CaptionLog(captions)
    source = open_source(log.header["location"] if root is None else root)
    with ReviewServer(source, log, port=port) as server, suppress(KeyboardInterrupt):
        Console().print(f"Review {len(log.records)} captions at {server.url} and end with Ctrl-C.", highlight=False)
        if browse:
            webbrowser.open(server.url)
        server.serve_forever()
