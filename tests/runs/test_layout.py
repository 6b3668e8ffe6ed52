"""What Hydra leaves in a run directory."""

from pathlib import Path

from attendgen.runs.layout import read_arguments, read_overrides


def test_overrides_without_hydras_marks(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- seed=1\n- +trainer.limit_val_batches=2\n- 'a=b=c'\n")
    assert read_overrides(tmp_path) == {"seed": "1", "trainer.limit_val_batches": "2", "a": "b=c"}
    assert read_overrides(tmp_path / "none") == {}
    assert read_arguments(tmp_path) == ["seed=1", "+trainer.limit_val_batches=2", "a=b=c"]
