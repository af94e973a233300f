"""Corpus preparation: any text in, a token store out.

1. sources: `config.corpus.source` is cut into parts by its readers, small files into one bundle.
2. survey: each bundle is read and cleaned; hashes, counts and a sample of the text are written.
3. build: from all surveys, duplicates are removed, the held-out documents are chosen and the
   tokenizer is trained on the sample (build.py is the whole flow, on one page).
4. encode: each bundle is read again, cut into sentences and tokens, and written as a shard.
5. audit: the store in figures, with warnings, as report.html.

Surveys and encodings run on all cores, or as an Apache Beam pipeline (beam.py). Each is finished in
one step, so that an interrupted build continues. The bytes never depend on the number of workers.
"""
