import numpy as np

from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.embodiment import preset
from vla_kit.export.observations import of_data, of_noise


def test_frames_of_a_real_data_set_are_spread_over_it(shared_data):
    data = DemonstrationSet(
        root=str(shared_data / "groot_gr1_pnp"),
        embodiment="fourier_gr1",
        views={"ego": "observation.images.ego_view"},
        state=["observation.state"],
    )
    reader = data.open()
    first, middle, last = of_data(data, count=3)
    assert (first.embodiment, first.instruction) == ("fourier_gr1", reader.instruction_at(0, 0))
    assert np.array_equal(first.views["ego"], reader.frames(0, [0])["ego"][0])
    assert np.array_equal(last.state, reader.states(4, int(reader.lengths[4]) - 1, 1)[0])
    assert not np.array_equal(middle.state, first.state)


def test_invented_observations_fit_the_robot():
    spec = preset("metaworld_sawyer")
    first, second = of_noise(spec, views=["cam_high"], count=2, image_size=8)
    assert first.views["cam_high"].shape == (8, 8, 3)
    assert first.state.shape == (4,)
    assert not np.array_equal(first.views["cam_high"], second.views["cam_high"])
