"""TensorBoard's event files: what torch writes, and whether TensorBoard reads what lora-eval writes.

`make` writes events/ beside this file with torch.utils.tensorboard (scalars as `simple_value` and as
tensors of both precisions, a text, a histogram; a second file that starts anew at step 6), and
events.json: the curves that TensorBoard reads from it, and the bytes of one record. `check FOLDER`
reads what `cargo test --test events` left in FOLDER and stops where a value differs.

Needs: pip install torch==2.15.0 tensorboard==2.21.0 numpy
Run:   python events.py make
       python events.py check target/tmp/events
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorboard
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter

HERE = Path(__file__).parent
ALL = {"scalars": 0, "tensors": 0, "images": 0, "histograms": 0}


def curves(folder):
    """Scalars by tag, as TensorBoard shows them."""
    events = EventAccumulator(str(folder), size_guidance=ALL).Reload()
    found = {}
    for tag in events.Tags()["scalars"]:
        found[tag] = [[e.step, e.value] for e in events.Scalars(tag)]
    for tag in events.Tags()["tensors"]:
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            found[tag] = [
                [e.step, float(np.frombuffer(e.tensor_proto.tensor_content)[0])
                 if e.tensor_proto.tensor_content
                 else (list(e.tensor_proto.float_val) + list(e.tensor_proto.double_val))[0]]
                for e in events.Tensors(tag)
            ]
    return events, found


def make():
    folder = HERE / "events"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for second, steps in ((1700000000, range(1, 9)), (1700000100, range(6, 11))):
        with tempfile.TemporaryDirectory() as scratch:
            purge = steps[0] if second > 1700000000 else None
            writer = SummaryWriter(scratch, purge_step=purge)
            for step in steps:
                time = second + step
                writer.add_scalar("train/loss", 2.5 / step, step, time)
                writer.add_scalar("eval/loss", 3 / step, step, time, new_style=True)
                writer.add_scalar("lr", 1e-4 * step, step, time, new_style=True, double_precision=True)
            writer.add_scalar("bad", float("nan"), 10, second)
            writer.add_text("note", "a *text*", 1, second)
            writer.add_histogram("weights", np.arange(4.0), 1, walltime=second)
            writer.close()
            (made,) = Path(scratch).iterdir()
            (folder / f"events.out.tfevents.{second}.host").write_bytes(made.read_bytes())
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "record"
        with path.open("wb") as file:
            RecordWriter(file).write(b"a")
        record = list(path.read_bytes())
    _, found = curves(folder)
    found.pop("bad")  # NaN is no JSON
    # TensorBoard forgets scalars from before a restart but not tensors: the later value counts.
    found = {tag: sorted(map(list, dict(points).items())) for tag, points in found.items()}
    versions = {"tensorboard": tensorboard.__version__, "torch": torch.__version__}
    expected = {"versions": versions, "record": record, "curves": found}
    (HERE / "events.json").write_text(json.dumps(expected, indent=1) + "\n")


def check(folder):
    events, found = curves(folder)
    expected = {
        "loss/train": [[s, 1 / s] for s in (1, 2, 3, 4, 5)],
        "lr/unet": [[s, 1e-4 * s] for s in (1, 2, 3, 4)] + [[5, 0]],
    }
    assert sorted(found) == sorted(expected), found.keys()
    for tag, points in expected.items():
        assert [p[0] for p in found[tag]] == [p[0] for p in points], found[tag]
        assert np.allclose([p[1] for p in found[tag]], [p[1] for p in points], rtol=1e-7, atol=0)
    (image,) = events.Images("sample/0")
    assert (image.step, image.width, image.height) == (2, 2, 1)
    assert image.encoded_image_string.startswith(b"\x89PNG")
    (text,) = events.Tensors("sample/text")
    assert text.tensor_proto.string_val == [b"a *text* of step 2"] and text.step == 2
    assert events.SummaryMetadata("sample/text").plugin_data.plugin_name == "text"
    print("TensorBoard", tensorboard.__version__, "reads", folder)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make()
    else:
        check(sys.argv[2])
