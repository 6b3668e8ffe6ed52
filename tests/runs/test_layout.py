"""The command line of a run is read from what Hydra writes into its directory."""

from pathlib import Path

from attendgen.runs.layout import read_arguments, read_overrides


def test_overrides_are_read_without_the_signs_of_hydra(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- seed=1\n- +trainer.limit_val_batches=2\n- 'a=b=c'\n")
    assert read_overrides(tmp_path) == {"seed": "1", "trainer.limit_val_batches": "2", "a": "b=c"}
    assert read_overrides(tmp_path / "none") == {}
    assert read_arguments(tmp_path) == ["seed=1", "+trainer.limit_val_batches=2", "a=b=c"]
