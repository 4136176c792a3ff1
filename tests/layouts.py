"""The same rows in other layouts of memory: slices with offsets and chunks, as engines and files give them."""

import pyarrow as pa


def layouts(rows: pa.Table) -> dict[str, pa.Table]:
    """Give the rows as one piece, cut out of the middle of others, and in many pieces, some of them empty."""
    count = rows.num_rows
    half = count // 2
    around = pa.concat_tables([rows, rows, rows]).combine_chunks()
    pieces = [around.slice(count + at, 1) for at in range(count)]
    empty = rows.schema.empty_table()
    return {
        "whole": rows.combine_chunks(),
        "cut out": around.slice(count, count),
        "in pieces": pa.concat_tables([empty, *pieces, empty]),
        "in two": pa.concat_tables([around.slice(count, half), around.slice(count + half, count - half)]),
    }
