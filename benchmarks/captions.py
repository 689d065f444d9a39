"""GR-1 episodes through captions, review and back into training, against a server that answers from a script.

Run: python benchmarks/captions.py --root ../shared/data/groot_gr1_pnp [--results docs/results/captions.json]

No model is involved: what is measured is that nothing is lost on the way. The server is that of the tests, and its
script makes every fault once: busy (429), broken (500), a dropped connection, and answers without JSON, with JSON that
lacks a key, and with a step of the wrong number. A person's part is played through the web server: of five captions
three are accepted, one is corrected and one is rejected. The last line of the output is JSON.
"""

import argparse
import http.client
import json
import sys
import tempfile
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode

from record import provenance, write_results
from vla_kit.data.captions import AnnotationUsage, CaptionLog, CaptionMix, usable_captions
from vla_kit.data.captions.caption import caption
from vla_kit.data.captions.openai_annotator import OpenAIAnnotator
from vla_kit.data.captions.review_server import ReviewServer
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.readers.open import open_source
from vla_kit.data.source import EpisodeSource
from vla_kit.data.windows import ChunkDataset

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "data" / "captions"))

from caption_form import CaptionForm
from caption_script import answer_well, caption_of, stage_of, told
from scripted_endpoint import AT_ONCE, Reply, ScriptedEndpoint

STRIDE = 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=None)
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(settings.root, Path(folder))
    row = {"name": "captions", **figures, **provenance()}
    if settings.results is not None:
        write_results(settings.results, {"captions": row})
    print(json.dumps(row))


def measure(root: Path, folder: Path) -> dict[str, Any]:
    """Caption, review and read every episode of a data set."""
    faults = 0

    def script(number: int, body: dict[str, Any]) -> Reply:
        nonlocal faults
        described = stage_of(body) == "describe"
        short = caption_of(told(body))
        planned = [
            (True, Reply("busy", status=429, headers=AT_ONCE)),
            (True, Reply("broken", status=500, headers=AT_ONCE)),
            (True, Reply(drop=True)),
            (True, Reply("I see a robot.")),
            (described, Reply(json.dumps({"steps": short["steps"]}))),
            (described, Reply(json.dumps({**short, "steps": short["steps"][1:]}))),
        ]
        if faults < len(planned) and number > 2 * faults and planned[faults][0]:
            faults += 1
            return planned[faults - 1][1]
        return answer_well(number, body)

    with ScriptedEndpoint(script) as endpoint:
        annotator = OpenAIAnnotator("scripted", base_url=endpoint.url)
        log = caption(str(root), annotator, str(folder), parallel=1, attempts=4)
    usage = sum((record.usage for record in log.records.values()), AnnotationUsage())
    verdicts = _review(open_source(root), CaptionLog(folder))
    used = usable_captions(CaptionLog(folder), reviewed=True)
    chunks = DemonstrationSet(
        root=str(root), embodiment="fourier_gr1", stride=STRIDE, captions=CaptionMix(root=str(folder))
    )
    reader = chunks.open(with_views=False)
    dataset = ChunkDataset(reader, horizon=16, stride=STRIDE)
    samples = [dataset[item] for item in range(len(dataset))]
    fine = {index: text.instruction for index, text in used.items()}
    of_captioned = [sample for sample in samples if sample.episode in fine]
    told_fine = [sample for sample in of_captioned if sample.instruction == fine[sample.episode]]
    strangers = [
        sample
        for sample in samples
        if sample.instruction not in (fine.get(sample.episode), log.records[sample.episode].instruction)
    ]
    return {
        "episodes": len(log.records),
        "faults": faults,
        "requests": usage.requests,
        "retries": usage.retries,
        "repairs": usage.repairs,
        "pictures": sum(len(frames) for record in log.records.values() for frames in record.frames.values()),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "reviewed": len(verdicts),
        **{verdict: verdicts.count(verdict) for verdict in ("accepted", "corrected", "rejected")},
        "samples": len(samples),
        "told_caption": len(told_fine),
        "caption_share": round(len(told_fine) / len(of_captioned), 3),
        "told_neither": len(strangers),
    }


def _review(source: EpisodeSource, log: CaptionLog) -> list[str]:
    """Accept, correct and reject through the web server; returns what the file then holds."""
    with ReviewServer(source, log) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        for index in log.records:
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
            connection.request("GET", f"/episode/{index}")
            fields = CaptionForm(connection.getresponse().read().decode()).fields
            fields["verdict"] = "reject" if index == 4 else "accept"
            if index == 3:
                fields["dimensions.actor"] = "the right hand"
                fields["steps.0.text"] = "Reach to the salt with the right hand."
            heads = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", f"/episode/{index}", urlencode(fields), heads)
            connection.getresponse().read()
            connection.close()
        server.shutdown()
        thread.join()
    entries = json.loads((log.folder / "reviews.json").read_text(encoding="utf-8"))["entries"]
    return [entry["verdict"] for entry in entries]


if __name__ == "__main__":
    main()
