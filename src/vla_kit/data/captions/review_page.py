"""The pages on which a person reads and corrects captions."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from vla_kit.data.captions.caption_record import CaptionRecord
from vla_kit.data.captions.fine_caption import DIMENSIONS
from vla_kit.data.captions.looking import frames_to_see

__all__ = ["draw_episode", "draw_overview", "read_form"]

_STEP: Final = ("text", "contact", "space", "motion")
_STRIP: Final = 8
_STYLE: Final = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1d2430;--soft:#5d6778;--line:#dfe3ea;--blue:#2f6fb0;
--accepted:#2f8f5b;--corrected:#2f6fb0;--rejected:#d9483b;--open:#8792a3;--frame:#e9ecf1}
@media(prefers-color-scheme:dark){:root{--page:#14171c;--card:#1d2128;--ink:#e6e9ee;--soft:#9aa4b2;--line:#323844;
--blue:#6aa5e0;--accepted:#55b884;--corrected:#6aa5e0;--rejected:#ea6a5c;--open:#6c7687;--frame:#2a303a}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;max-width:84rem;margin:0 auto;padding:1.4rem 1.2rem 5rem;color:var(--ink);
background:var(--page)}
h1{font-size:1.4rem;line-height:1.25;margin:.2rem 0}h2{font-size:1rem;margin:1.2rem 0 .5rem}a{color:var(--blue)}
.soft{color:var(--soft)}.small{font-size:.85rem}nav{display:flex;gap:1rem;align-items:baseline;flex-wrap:wrap}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1rem 1.1rem;margin:1rem 0}
table{border-collapse:collapse;width:100%}td,th{padding:.45rem .6rem;border-bottom:1px solid var(--line);
text-align:left;vertical-align:top}tr:last-child td{border-bottom:0}th{font-size:.8rem;color:var(--soft)}
.pill{display:inline-block;font-size:.75rem;font-weight:600;border-radius:99px;padding:.08rem .6rem;color:var(--card);
white-space:nowrap}
.accepted{background:var(--accepted)}.corrected{background:var(--corrected)}.rejected{background:var(--rejected)}
.open{background:var(--open)}
.columns{display:grid;grid-template-columns:minmax(20rem,1fr) minmax(26rem,1.25fr);gap:1.2rem;align-items:start}
.view{position:sticky;top:1rem}.view img{display:block;width:100%;border-radius:8px;background:var(--frame)}
.play{display:flex;gap:.7rem;align-items:center;margin:.6rem 0}.play input{flex:1}
.strip{display:grid;grid-template-columns:repeat(8,1fr);gap:3px}.strip img{border-radius:3px;cursor:pointer}
label{display:block;font-size:.8rem;font-weight:600;margin:.5rem 0 .15rem}label .soft{font-weight:400}
textarea{width:100%;font:inherit;color:inherit;background:var(--page);border:1px solid var(--line);border-radius:6px;
padding:.35rem .5rem;resize:vertical;
field-sizing:content}
fieldset{border:1px solid var(--line);border-radius:8px;margin:.7rem 0;padding:.4rem .9rem .8rem}
legend{font-weight:600;padding:0 .4rem}.three{display:grid;grid-template-columns:repeat(3,1fr);gap:.6rem}
.main p:first-child,form h2:first-of-type{margin-top:.1rem}
button{font:inherit;font-weight:600;border:0;border-radius:8px;padding:.5rem 1.1rem;color:#fff;cursor:pointer}
.bar{position:fixed;left:0;right:0;bottom:0;background:var(--card);border-top:1px solid var(--line);
padding:.7rem 1.2rem;display:flex;gap:.8rem;justify-content:center;align-items:center}
.fault{border-left:3px solid var(--rejected);padding:.3rem .8rem;margin:.8rem 0}
@media(max-width:60rem){.columns,.three{grid-template-columns:1fr}.view{position:static}}
"""
_SCRIPT: Final = """
const view=document.querySelector('.view');
if(view){
const pictures=[...view.querySelectorAll('.main img')],range=view.querySelector('input');
const clock=view.querySelector('output'),rate=Number(view.dataset.rate),button=view.querySelector('button');
let timer=null;
function show(frame){range.value=frame;clock.textContent=(frame/rate).toFixed(2)+' s';
for(const picture of pictures){picture.src=picture.dataset.base+frame+'.jpg'}}
range.addEventListener('input',()=>show(Number(range.value)));
for(const picture of view.querySelectorAll('.strip img')){
picture.addEventListener('click',()=>show(Number(picture.dataset.frame)))}
button.addEventListener('click',()=>{
if(timer!==null){clearInterval(timer);timer=null;button.textContent='Play';return}
button.textContent='Pause';const stride=Math.max(1,Math.round(rate/5));
timer=setInterval(()=>{const next=Number(range.value)+stride;show(next>Number(range.max)?0:next)},1000*stride/rate)})}
"""


def draw_overview(records: Mapping[int, CaptionRecord], verdicts: Mapping[int, str], *, name: str, nonce: str) -> str:
    """The page that lists all captions.

    Args:
        records: Episode -> caption.
        verdicts: Episode -> verdict, of those that were reviewed.
        name: Name of the data set.
        nonce: Allows style and script of this page.
    """
    rows = "".join(
        f'<tr><td><a href="/episode/{index}">{index}</a></td><td>{_pill(verdicts.get(index))}</td>'
        f"<td>{escape(record.instruction)}</td><td>{escape(record.caption.instruction)}</td></tr>"
        for index, record in records.items()
    )
    head = "".join(f"<th>{title}</th>" for title in ("Episode", "Review", "Sentence", "Caption"))
    body = (
        f"<h1>Captions of {escape(name)}</h1>{_counts(records, verdicts)}"
        f'<div class="card"><table><tr>{head}</tr>{rows}</table></div>'
    )
    return _page(f"Captions of {name}", body, nonce=nonce)


def draw_episode(
    record: CaptionRecord,
    values: Mapping[str, Any],
    *,
    verdict: str | None,
    cameras: Sequence[str],
    length: int,
    rate_hz: float,
    neighbours: tuple[int | None, int | None],
    token: str,
    nonce: str,
    fault: str = "",
) -> str:
    """The page of one episode: its frames, and its caption as a form.

    Args:
        record: The caption as it was written.
        values: What stands in the form, as `FineCaption.plain` gives it.
        verdict: What was decided before; None where nothing was.
        cameras: Cameras that the caption was written from, the described one first.
        length: Frames of the episode.
        rate_hz: Frames per second.
        neighbours: Episodes before and after.
        token: What a form has to send back.
        nonce: Allows style and script of this page.
        fault: What is wrong with what was sent.
    """
    index = record.episode
    before, after = neighbours
    links = '<a href="/">All captions</a>'
    links += f'<a href="/episode/{before}">Episode {before}</a>' if before is not None else ""
    links += f'<a href="/episode/{after}">Episode {after}</a>' if after is not None else ""
    written = (
        f"{escape(record.model)}, prompts {escape(record.prompts)}, {sum(map(len, record.frames.values()))} frames"
    )
    body = (
        f"<nav>{links}</nav><h1>Episode {index} {_pill(verdict)}</h1>"
        f'<p>“{escape(record.instruction)}” <span class="soft small">{written}</span></p>'
        + (f'<p class="fault" role="alert">{escape(fault)}</p>' if fault else "")
        + f'<div class="columns">{_view(index, cameras, length, rate_hz)}{_form(index, values, token)}</div>'
    )
    return _page(f"Episode {index}", body, nonce=nonce)


def read_form(fields: Mapping[str, str]) -> dict[str, Any]:
    """What a person left in the form, as `FineCaption.parse` reads it; steps without any text are left out.

    Args:
        fields: Name of each field -> its text.

    Examples:
        >>> read_form({"dimensions.actor": "left arm", "steps.0.text": " ", "steps.2.text": "Lift it."})["steps"]
        [{'number': 1, 'text': 'Lift it.', 'contact': '', 'space': '', 'motion': ''}]
    """
    steps: dict[int, dict[str, Any]] = {}
    for name, text in fields.items():
        kind, _, rest = name.partition(".")
        place, _, part = rest.partition(".")
        if kind == "steps" and place.isascii() and place.isdigit() and part in _STEP:
            steps.setdefault(int(place), dict.fromkeys(_STEP, ""))[part] = text
    kept = [step for _, step in sorted(steps.items()) if any(text.strip() for text in step.values())]
    return {
        "dimensions": {name: fields.get(f"dimensions.{name}", "") for name in DIMENSIONS},
        "steps": [{"number": place, **step} for place, step in enumerate(kept, start=1)],
    }


def _counts(records: Mapping[int, CaptionRecord], verdicts: Mapping[int, str]) -> str:
    words = [f"{len(records)} captions"]
    for verdict in ("accepted", "corrected", "rejected"):
        if count := sum(found == verdict for found in verdicts.values()):
            words.append(f"{count} {verdict}")
    words.append(f"{len(records) - len(verdicts)} to review")
    return f'<p class="soft">{", ".join(words)}. Training uses what is accepted or corrected.</p>'


def _pill(verdict: str | None) -> str:
    return f'<span class="pill {verdict or "open"}">{verdict or "to review"}</span>'


def _view(index: int, cameras: Sequence[str], length: int, rate_hz: float) -> str:
    base = [f"/frame/{index}/{place}/" for place in range(len(cameras))]
    pictures = "".join(
        f'<p class="soft small">{escape(camera)}</p><img data-base="{url}" src="{url}0.jpg" alt="frame of the episode">'
        for camera, url in zip(cameras, base, strict=True)
    )
    strip = "".join(
        f'<img src="{base[0]}{frame}.jpg" data-frame="{frame}" alt="frame {frame}" loading="lazy">'
        for frame in frames_to_see(length, recorded_hz=rate_hz, wanted_hz=1e9, most=_STRIP)
    )
    return (
        f'<div class="card view" data-rate="{rate_hz:g}"><div class="main">{pictures}</div>'
        '<div class="play"><button type="button" class="corrected">Play</button>'
        f'<input type="range" min="0" max="{length - 1}" value="0" aria-label="frame"><output>0.00 s</output></div>'
        f'<div class="strip">{strip}</div></div>'
    )


def _form(index: int, values: Mapping[str, Any], token: str) -> str:
    parts = [
        f'<form class="card" method="post" action="/episode/{index}">'
        f'<input type="hidden" name="token" value="{escape(token)}"><h2>Steps</h2>'
    ]
    empty = dict.fromkeys(_STEP, "")
    for place, step in enumerate([*values["steps"], empty]):
        last = place == len(values["steps"])
        rest = "".join(_area(f"steps.{place}.{part}", part, step[part]) for part in _STEP[1:])
        legend = "One more step, where one is missing" if last else f"Step {place + 1}"
        parts.append(
            f"<fieldset><legend>{legend}</legend>{_area(f'steps.{place}.text', 'sentence', step['text'])}"
            f'<div class="three">{rest}</div></fieldset>'
        )
    parts.append('<p class="soft small">Empty all fields of a step to take it out.</p><h2>Dimensions</h2>')
    for name, says in DIMENSIONS.items():
        parts.append(_area(f"dimensions.{name}", name.replace("_", " "), values["dimensions"][name], says=says))
    parts.append(
        '<div class="bar"><button class="accepted" name="verdict" value="accept">Accept, with the changes</button>'
        '<button class="rejected" name="verdict" value="reject" formnovalidate>Reject</button></div></form>'
    )
    return "".join(parts)


def _area(name: str, title: str, text: str, *, says: str = "") -> str:
    more = f' <span class="soft">{escape(says)}</span>' if says else ""
    return (
        f'<div><label for="{name}">{escape(title)}{more}</label>'
        f'<textarea id="{name}" name="{name}" rows="1">\n{escape(text)}</textarea></div>'
    )


def _page(title: str, body: str, *, nonce: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style nonce="{nonce}">{_STYLE}</style></head>'
        f'<body>{body}<script nonce="{nonce}">{_SCRIPT}</script></body></html>\n'
    )
