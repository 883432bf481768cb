import numpy as np

from sparseconv.cli.main import main
from sparseconv.io.registry import read


def test_points_and_attributes_are_kept(scan, cloud, capsys):
    assert main(["convert", "scan.ply", "scan.npz"]) == 0
    out, err = capsys.readouterr()
    assert out == "wrote scan.npz: 600 points; rgb, ring\n"
    assert err == ""
    result = read("scan.npz")
    assert np.array_equal(result.xyz, cloud.xyz)
    for name in cloud.attributes:
        assert np.array_equal(result.attributes[name], cloud.attributes[name])


def test_a_file_does_not_replace_itself(scan, capsys):
    before = scan.read_bytes()
    assert main(["convert", "scan.ply", "scan.ply"]) == 1
    assert "found the input itself" in capsys.readouterr().err
    assert scan.read_bytes() == before


def test_an_unknown_target_is_refused_before_reading(scan, capsys):
    assert main(["convert", "scan.ply", "scan.foo"]) == 1
    assert capsys.readouterr().err.startswith("sparseconv convert: scan.foo: expected one of .")
