"""Counting machine code: bench/loops.py on a listing whose counts are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import loops
from bench.resources import disassembler
from posepost import _kernels

LISTING = """
.text.other:
        /*0000*/                   MOV R1, R2 ;
.text.wanted:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/              @!P0 IADD3 R2, R1, R3, RZ ;
.L_x_2:
        /*0020*/                   LDG.E.128.CONSTANT R8, desc[UR4][R2.64] ;
        /*0030*/              @P1  LDG.E.128.CONSTANT R12, desc[UR4][R4.64] ;
        /*0040*/                   IADD3 R2, R2, 0x10, RZ ;
        /*0050*/                   IMNMX R6, R6, R15, !PT ;
        /*0060*/                   LDG.E.U16.CONSTANT R20, desc[UR4][R6.64] ;
        /*0070*/              @P2  BRA `(.L_x_2) ;
        /*0080*/              @P3  BRA `(.L_x_1) ;
.L_x_3:
        /*0090*/                   LDG.E R30, desc[UR4][R6.64] ;
        /*00a0*/                   BRA `(.L_x_3) ;
        /*00b0*/                   EXIT ;
"""


def test_the_scan_is_the_first_innermost_loop_with_loads() -> None:
    found = loops.scan(LISTING, "wanted")
    assert found == loops.Loop(instructions=6, loaded=34, in_flight=2)
    assert found.per_16_bytes == pytest.approx(16 * 6 / 34)
    assert loops.scan(LISTING, "other") is None
    assert len(loops.instructions_of(LISTING, "wanted")[0]) == 12


def test_tables_with_and_without_a_row_before() -> None:
    row = {"registers": 40, "code": 160, "instructions": 6, "loaded": 34, "per_16_bytes": 2.8, "in_flight": 2}
    assert loops.table({"k<f32>": row}).splitlines()[1].split() == ["k<f32>", "6", "34", "2.8", "2", "40", "160"]
    beside = loops.table({"k<f32>": row}, {"k<f32>": {**row, "registers": 48}})
    assert "48 -> 40" in beside
    assert "160 ->" not in beside


@pytest.mark.skipif(disassembler() is None, reason="nvdisasm is not installed")
def test_a_kernel_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cupy", reason="CuPy compiles the kernels: pip install posepost[cuda13]")
    variant = _kernels.posenet("f32", "PLANAR")
    monkeypatch.setattr(_kernels, "VARIANTS", (variant,))
    monkeypatch.setattr("sys.argv", ["loops", "-o", str(tmp_path / "counts.json")])
    assert loops.main() == 0
    row = json.loads((tmp_path / "counts.json").read_text())[str(variant)]
    assert row["loaded"] == 64
    assert row["in_flight"] == 4
    assert str(variant) in capsys.readouterr().out
