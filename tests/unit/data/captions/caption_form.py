"""The form of a review page, as a browser would read it."""

from html.parser import HTMLParser


class CaptionForm(HTMLParser):
    """Name -> text of its hidden fields and text areas, in `fields`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._name = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "input" and given.get("type") == "hidden":
            self.fields[given["name"] or ""] = given["value"] or ""
        if tag == "textarea":
            self._name = given["name"] or ""
            self.fields[self._name] = ""

    def handle_data(self, data: str) -> None:
        if self._name:
            self.fields[self._name] += data.removeprefix("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._name = ""
