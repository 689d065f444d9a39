"""A way of corners as places at equal distances."""

import numpy as np

from vla_kit.envs.navigation import places_along


def test_places_by_hand():
    way = np.array([[0.0, 0.0], [0.9, 0.0], [0.9, 0.3]])
    found = places_along(way, spacing_m=0.5)  # 1.2 m: three parts of 0.4 m
    np.testing.assert_allclose(found, [[0, 0], [0.4, 0], [0.8, 0], [0.9, 0.3]], atol=1e-12)


def test_a_way_without_length_is_one_place():
    np.testing.assert_array_equal(places_along(np.array([[2.0, 3.0]]), spacing_m=0.5), [[2, 3]])
    np.testing.assert_array_equal(places_along(np.array([[2.0, 3.0], [2.0, 3.0]]), spacing_m=0.5), [[2, 3]])
