from __future__ import annotations

from device_fakes import frame, noisy

from edgecnn_device.gates import Interval, Motion, both


def test_an_interval_lets_one_frame_in_so_many_seconds_pass() -> None:
    gate = Interval(1.0)

    assert [gate(frame(at_s=100 + 0.4 * i)) for i in range(6)] == [True, False, False, True, False, True]


def test_noise_is_no_motion() -> None:
    gate = Motion(linger_s=0.5)
    gate(frame(noisy(128, 0), at_s=100.0))

    assert not gate(frame(noisy(128, 1), at_s=101.0))


def test_something_that_moves_lets_its_frame_and_those_shortly_after_pass() -> None:
    gate, changed = Motion(linger_s=0.5), noisy(128, 1)
    changed[10:30, 10:30] = 0
    gate(frame(noisy(128, 0), at_s=100.0))

    passed = [gate(frame(changed, at_s=at_s)) for at_s in (101.0, 101.4, 101.6)]

    assert passed == [True, True, False]


def test_both_gates_must_agree() -> None:
    gate = both(lambda frame: frame.number > 1, lambda frame: frame.number < 3)

    assert [gate(frame(number=n)) for n in (1, 2, 3)] == [False, True, False]
