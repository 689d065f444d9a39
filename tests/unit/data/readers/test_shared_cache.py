from vla_kit.data.readers._shared_cache import SharedCache


def fill(cache, key, cost=1):
    return cache.get(key, lambda: (f"value of {key}", cost))


def test_what_was_used_last_stays():
    cache = SharedCache(budget=3)
    for key in "abc":
        fill(cache, (0, key))
    fill(cache, (0, "a"))
    fill(cache, (0, "d"))
    assert cache.get((0, "a"), lambda: ("made anew", 1)) == "value of (0, 'a')"
    assert cache.get((0, "b"), lambda: ("made anew", 1)) == "made anew"
    assert (len(cache), cache.spent) == (3, 3)


def test_costs_add_up_over_owners():
    cache = SharedCache(budget=100)
    for owner in range(500):
        fill(cache, (owner, "column"), cost=10)
    assert cache.spent <= 100
    cache.forget(499)
    assert (len(cache), cache.spent) == (9, 90)


def test_a_value_larger_than_the_budget_is_kept_alone():
    cache = SharedCache(budget=10)
    fill(cache, (0, "small"))
    fill(cache, (0, "large"), cost=50)
    assert (len(cache), cache.spent) == (1, 50)
    fill(cache, (0, "small"))
    assert (len(cache), cache.spent) == (1, 1)


def test_abandoned_values_are_not_given_again():
    cache = SharedCache(budget=10)
    fill(cache, (0, "file"))
    cache.abandon()
    assert (len(cache), cache.spent) == (0, 0)
    assert cache.get((0, "file"), lambda: ("opened again", 1)) == "opened again"
