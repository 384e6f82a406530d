"""The bar of a curve says what was found so far."""

from types import SimpleNamespace

from slt_rl.progress import shown


def test_progress_tells_the_last_estimate_and_how_many_are_not_trusted(capsys):
    verdicts = ["trusted", "doubtful", "refused"]
    chunks = [[SimpleNamespace(mean=i + 0.5, verdict=v)] for i, v in enumerate(verdicts)]
    assert list(shown(chunks, 3, False)) == list(shown(chunks, 3, True)) == chunks
    said = capsys.readouterr().err
    assert "3/3" in said
    assert "llc 2.5 refused, 2 of 3 not trusted" in said
