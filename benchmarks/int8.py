"""What int8 costs and saves: vectors of sentences by the ONNX files of an exported encoder.

    python -m bert_jax.convert export --workdir=RUN --kind=encoder --int8 --out=hf
    python benchmarks/int8.py hf texts.txt

Prints for both files their size, the processor time for all texts, and the cosine of each
sentence's mean vector under int8 with the one in float32. Texts of fewer than 8 tokens are left
out.
"""

import sys
import time
from pathlib import Path

import numpy as np

from bert_jax.interop import onnx_export
from bert_jax.run import pretrained
from bert_jax.run.exports import encoded


def main(folder: Path, texts: list[str]) -> None:
    """Measure both files of `folder` on the texts."""
    model = pretrained.load(folder)
    rows = [row for row in encoded(model.tokenizer, texts) if len(row) >= 8]
    print(f"{len(rows)} texts")
    vectors = []
    for name in (onnx_export.FLOAT, onnx_export.INT8):
        path, begin = folder / onnx_export.FOLDER / name, time.process_time()
        pad_id = model.tokenizer.vocabulary.pad_id
        means = np.stack([o.mean(0) for o in onnx_export.outputs(path, model.model, rows, pad_id)])
        seconds, size = time.process_time() - begin, path.stat().st_size
        print(f"{name:16} {size / 1e6:6.1f} MB {seconds:6.1f} s of processor time")
        vectors.append(means / np.linalg.norm(means, axis=1, keepdims=True))
    cosines = (vectors[0] * vectors[1]).sum(1)
    nearest = (vectors[1] @ vectors[0].T).argmax(1) == np.arange(len(rows))
    print(f"cosine: mean {cosines.mean():.4f}, lowest {cosines.min():.4f}")
    print(f"nearest to itself: {nearest.mean():.1%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8").splitlines())
